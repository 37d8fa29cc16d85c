# SPDX-License-Identifier: GPL-2.0-only
"""The machine: CPUs and their masks, preemption, the journal's pen, object names, fault injection, BUG and WARN."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from stressvmap.journal.events import (
    ALLOC_FAILED,
    BLOCKED,
    BUG,
    CPU_OFFLINE,
    CPU_ONLINE,
    MIGHT_SLEEP,
    MIGRATED,
    PREEMPT,
    RUNNABLE,
    STOPPED,
    WARN,
    Event,
)
from stressvmap.journal.log import EventLog
from stressvmap.program import Fault, Migration
from stressvmap.runtime.access import CHANGES, EVERYTHING, LOOKS
from stressvmap.runtime.runtime import DEADLOCK, DONE, Runtime
from stressvmap.runtime.task import NEVER, BugOn, Task

if TYPE_CHECKING:
    from stressvmap.kernel.struct import Struct

T = TypeVar("T")

BOOT: Final = 0
"""The task id under which whatever exists from boot on was allocated."""


class Machine:
    """One simulated machine for one execution.

    Invariants: `online` is a subset of `possible`; a task's CPU is online; an object's id is `task << 20 | n`, the n-th
    allocation by that task, so independent allocations never renumber one another.
    """

    def __init__(self, runtime: Runtime, possible: Sequence[int], online: Iterable[int]) -> None:
        self.runtime = runtime
        self.possible = tuple(possible)
        self.online = sorted(online)
        self.log = EventLog()
        self.events = self.log.tail
        """The journal so far; of a log that was spooled, its end."""
        self.append = self.events.append
        self.faults: set[tuple[str, int, int]] = set()
        self.fault_counts: dict[tuple[str, int], int] = {}
        self.migrations: dict[int, list[Migration]] = {}
        self.live: dict[int, Struct] = {}
        """Objects allocated and not freed, by id."""
        self.unfinished: list[str] = []
        """Of an execution that was given up: each task that was not done, and where it stood."""
        self.quiescent: Callable[[Task], None] = _ignore
        """Told whenever a task leaves its last RCU reader section (kernel/rcu.py sets it)."""
        runtime.on_migrate = self._migrate
        runtime.on_stop = self._record_stop
        runtime.on_seal = self._seal
        runtime.on_death = self._make_task_dead

    # -- the journal's pen --------------------------------------------------------------------------------

    def record(self, kind: int, a: int, b: int | str, c: int) -> None:
        """Append an event made by the current task. Never a point: the mutation it tells of is the same step."""
        task = self.runtime.current
        self.append((kind, task.id, task.cpu, task.function, a, b, c))

    def _record_stop(self, reason: str) -> None:
        if reason != DONE:
            for task in self.runtime.tasks:
                if not self.runtime.is_finished(task):
                    waits = f", waiting for {task.blocked_class}" if task.is_parked else ""
                    self.unfinished.append(f"{task.name} on CPU {task.cpu} in {task.function or 'no function'}{waits}")
                    self._record_unfinished(task)
        if reason == DEADLOCK and any(task.is_dead for task in self.runtime.tasks):
            reason = "bug"
        self.record(STOPPED, 0, reason, 0)

    def _record_unfinished(self, task: Task) -> None:
        """Why `task` went no further: what it waits for, or nothing but the end."""
        runtime = self.runtime
        where = (task.id, task.cpu, task.function)
        if task.is_parked:
            owners = sorted(other.id for other in task.awaited) or [task.blocked_owner]
            for owner in owners:
                self.append((BLOCKED, *where, task.blocked_object, task.blocked_class, owner))
        elif runtime.can_run(task):
            self.append((RUNNABLE, *where, 0, "", 0))
        else:
            occupant = runtime.interrupted_by.get(task.cpu) or runtime.pinned_by.get(task.cpu)
            self.append((BLOCKED, *where, 0, f"CPU {task.cpu}", 0 if occupant is None else occupant.id))

    def _seal(self) -> None:
        self.append = _drop

    def _make_task_dead(self, task: Task) -> None:
        """What do_exit() gives back for a task that hit a BUG_ON, which its locks are not part of."""
        task.preempt_count = 0
        task.rcu_depth = 0
        self.runtime.enable_irqs(task.cpu)
        self.quiescent(task)

    # -- CPUs and preemption ------------------------------------------------------------------------------

    def smp_processor_id(self) -> int:
        """The CPU of the current task; it may be stale at once if the task is preemptible (raw_smp_processor_id)."""
        return self.runtime.current.cpu

    def nr_cpu_ids(self) -> int:
        """One more than the highest possible CPU id."""
        return self.possible[-1] + 1

    def cpu_online(self, cpu: int) -> bool:
        """Whether `cpu` is online; it may not be so a step later."""
        self.runtime.note(("online",), LOOKS)
        return cpu in self.online

    def preempt_disable(self) -> None:
        """Raise the current task's preempt count: it keeps its CPU."""
        task = self.runtime.current
        task.preempt_count += 1
        if task.preempt_count == 1 and not task.is_pinned:
            self.runtime.pin(task)

    def preempt_enable(self) -> None:
        """Lower the preempt count again; at 0 the task can be preempted, and is out of any implied RCU reader
        section.
        """
        task = self.runtime.current
        task.preempt_count -= 1
        if task.preempt_count == 0:
            if not task.is_interrupt:
                self.runtime.unpin(task)
            if task.rcu_depth == 0:
                self.quiescent(task)

    def get_cpu(self) -> int:
        """Disable preemption and return the CPU, with the journal told of it."""
        self.preempt_disable()
        self.record(PREEMPT, self.runtime.current.preempt_count, "get_cpu", 0)
        return self.runtime.current.cpu

    def put_cpu(self) -> None:
        """Undo `get_cpu`."""
        self.preempt_enable()
        self.record(PREEMPT, self.runtime.current.preempt_count, "put_cpu", 0)

    def local_irq_disable(self) -> None:
        """Interrupts of this CPU wait from here on."""
        self.preempt_disable()
        self.runtime.disable_irqs(self.runtime.current.cpu)

    def local_irq_enable(self) -> None:
        """Let them in again."""
        self.runtime.enable_irqs(self.runtime.current.cpu)
        self.preempt_enable()

    def might_sleep(self, what: str = "might_sleep") -> None:
        """Here the task may sleep; lock-discipline holds it to that."""
        self.record(MIGHT_SLEEP, 0, what, self.runtime.current.preempt_count)

    def plan_migrations(self, migrations: Iterable[Migration], tasks: Iterable[Task]) -> None:
        """Arm the involuntary migrations of a program."""
        self.migrations = {}
        for migration in sorted(migrations, key=lambda m: (m.task, m.point)):
            self.migrations.setdefault(migration.task, []).append(migration)
        for task in tasks:
            plan = self.migrations.get(task.id)
            task.migrate_at = plan[0].point if plan else NEVER

    def _migrate(self, task: Task) -> None:
        """Move `task` if it is preemptible; else its next point asks again."""
        self.runtime.note(EVERYTHING, CHANGES)
        if task.preempt_count or task.is_interrupt:
            return
        plan = self.migrations[task.id]
        migration = plan.pop(0)
        task.migrate_at = max(plan[0].point, task.points + 1) if plan else NEVER
        self._move(task, migration.cpu)

    def move(self, task: Task, cpu: int) -> bool:
        """Move a preemptible task to an online CPU; the current one goes on when that CPU is free. Returns whether
        it moved.
        """
        self.runtime.note(EVERYTHING, CHANGES)
        is_moved = self._move(task, cpu)
        if is_moved and task is self.runtime.current:
            self.runtime.wait_for_cpu()
        return is_moved

    def _move(self, task: Task, cpu: int) -> bool:
        if cpu == task.cpu or cpu not in self.online:
            return False
        old = task.cpu
        self.runtime.place(task, cpu)
        self.append((MIGRATED, task.id, cpu, task.function, old, "", cpu))
        return True

    def cpu_down(self, cpu: int) -> None:
        """Take a CPU offline on which nothing is pinned and no interrupt pending, in one step: its tasks move away.
        The current task, if it was there, goes on when its new CPU is free.
        """
        to = next(other for other in self.online if other != cpu)
        for task in self.runtime.tasks:
            if task.cpu == cpu and not task.is_interrupt:
                self._move(task, to)
        self.set_online(cpu, False)
        self.runtime.wait_for_cpu()

    def set_online(self, cpu: int, is_online: bool) -> None:
        """Change the online mask; the caller has emptied the CPU. A new list: somebody may be walking over the old
        one.
        """
        others = [other for other in self.online if other != cpu]
        self.online = sorted([*others, cpu]) if is_online else others
        self.record(CPU_ONLINE if is_online else CPU_OFFLINE, cpu, "", 0)

    # -- objects and faults -------------------------------------------------------------------------------

    def name_object(self) -> int:
        """The id of the current task's next allocation."""
        task = self.runtime.current
        number = task.next_object
        task.next_object = number + 1
        return task.id << 20 | number

    def inject(self, faults: Iterable[Fault]) -> None:
        """Arm the faults of a program."""
        self.faults = {(fault.kind, fault.task, fault.nth) for fault in faults}
        self.fault_counts = {}

    def should_fail(self, kind: str) -> bool:
        """Whether this request of `kind` by the current task is to fail; recorded if so."""
        task_id = self.runtime.current.id
        key = (kind, task_id)
        nth = self.fault_counts.get(key, 0)
        self.fault_counts[key] = nth + 1
        if (kind, task_id, nth) in self.faults:
            self.record(ALLOC_FAILED, 0, kind, nth)
            return True
        return False

    # -- BUG and WARN -------------------------------------------------------------------------------------

    def BUG_ON(self, condition: bool, what: str) -> None:
        """The task dies here if `condition` holds, with its locks held, as in the kernel."""
        if condition:
            self.record(BUG, 0, what, 0)
            raise BugOn(what)

    def deref(self, pointer: T | None) -> T:
        """Follow a pointer that the C follows without a test: NULL is an oops."""
        if pointer is None:
            self.record(BUG, 0, "NULL pointer dereference", 0)
            raise BugOn("NULL pointer dereference")
        return pointer

    def WARN_ON(self, condition: bool, what: str) -> bool:
        """Record a warning if `condition` holds; returns it."""
        if condition:
            self.record(WARN, 0, what, 0)
        return condition


def _drop(event: Event) -> None:
    return None


def _ignore(task: Task) -> None:
    return None
