# SPDX-License-Identifier: GPL-2.0-only
"""A task as a runtime and the simulated kernel see it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from stressvmap.runtime.access import Waitable

NEVER = 1 << 62


class TaskKilled(BaseException):
    """Unwinds a task when its execution is given up. Not an Exception: nothing in a model may catch it."""


class BugOn(BaseException):
    """A BUG_ON was hit: the task dies where it stands, as in the kernel; the rest of the machine goes on."""


class Task:
    """One simulated thread of control: (id, CPU, preempt count, interrupt depth) and where it stands.

    A *daemon* (interrupt pseudo-task, kworker, RCU callback) serves requests for ever: when its body returns it is
    parked until it is woken again, and an execution is done when all tasks that are no daemons are.
    """

    __slots__ = (
        "awaited",
        "blocked_class",
        "blocked_object",
        "blocked_owner",
        "body",
        "context",
        "cpu",
        "function",
        "held",
        "id",
        "is_daemon",
        "is_dead",
        "is_done",
        "is_interrupt",
        "is_parked",
        "is_pinned",
        "migrate_at",
        "name",
        "next_object",
        "operation",
        "operation_start",
        "pending_field",
        "pending_kind",
        "pending_object",
        "points",
        "preempt_count",
        "rcu_depth",
        "waits_for",
    )

    def __init__(
        self,
        id: int,
        name: str,
        cpu: int,
        body: Callable[[], None],
        *,
        is_daemon: bool = False,
        is_interrupt: bool = False,
    ) -> None:
        self.id = id
        self.name = name
        self.cpu = cpu
        self.body = body
        self.is_daemon = is_daemon
        self.is_interrupt = is_interrupt
        self.is_done = False
        """Its body has returned (never of a daemon)."""
        self.is_dead = False
        """It hit a BUG_ON or was killed."""
        self.is_parked = is_daemon
        """It waits for a wake-up: it is not enabled."""
        self.is_pinned = False
        """It occupies its CPU: preempt count above 0, or an interrupt being handled."""
        self.preempt_count = 0
        self.rcu_depth = 0
        self.points = 0
        """Scheduling points it has announced in this execution."""
        self.operation = -1
        """Number of its program's operation that it performs, from 0; -1 before the first, and without a program."""
        self.operation_start = 0
        """`points` when that operation began."""
        self.migrate_at = NEVER
        """At this many points, or as soon after as it is preemptible, `Runtime.on_migrate` is asked to move it."""
        self.function = ""
        """The kernel function it is in."""
        self.next_object = 1
        """Number of its next allocation."""
        self.held: list[object] = []
        """Locks it holds, in the order of acquisition."""
        self.pending_kind = 0
        self.pending_object = 0
        self.pending_field = ""
        self.blocked_object = 0
        self.blocked_class = ""
        self.blocked_owner = 0
        """The task it waits for, 0: none in particular. It counts if `awaited` is empty."""
        self.awaited: Collection[Task] = ()
        """The tasks that it waits for, every one of them, where they are many."""
        self.waits_for: Waitable | None = None
        """What it must wait for before it can do its pending operation, if anything."""
        self.context: Any = None
        """What the runtime needs to resume it."""

    def __repr__(self) -> str:
        return f"<Task {self.id} {self.name} CPU{self.cpu}>"
