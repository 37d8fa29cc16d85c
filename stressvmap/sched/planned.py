# SPDX-License-Identifier: GPL-2.0-only
"""Preemptions written down beforehand, and nothing else ever preempts: bounded preemption with the switches as data
(Musuvathi, Qadeer, PLDI 2007).

A preemption is tied to an operation of its task, not to a point of the whole run: what is left out of a program, or
added to it, moves no other preemption. So a shrinker can take operations and preemptions away one by one. No
guarantee: the plan is whoever draws it's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from stressvmap.runtime.strategy import COUNT_OVER, Strategy
from stressvmap.runtime.task import Task

UNTIL_IT_STOPS: Final = 1 << 40


@dataclass(frozen=True, slots=True)
class Preemption:
    """At the `point`-th scheduling point (from 1) of its `operation`-th operation (from 0), task `task` is stopped, and
    the `rank`-th (from 0, modulo their number) of the other enabled tasks runs instead, in the order of their ids.
    """

    task: int
    operation: int
    point: int
    rank: int = 0


class PlannedStrategy(Strategy):
    """Carries out `preemptions`; those whose place is never reached, or where nobody else could run, are passed over.

    Without one the running task stays. When it is blocked or done, an interrupt that waits is served, then the task
    goes on that was running; if it cannot, the one with the lowest id.
    """

    def __init__(self, preemptions: Sequence[Preemption] = ()) -> None:
        self.preemptions = tuple(preemptions)
        self._rank = {(one.task, one.operation, one.point): one.rank for one in reversed(self.preemptions)}
        """Of two at one place, the first."""
        self._planned = {one.task for one in self.preemptions}
        """Tasks that must be looked at, at each of their points."""
        self._home = 0
        """The task that ran last and is no interrupt."""

    @property
    def label(self) -> str:
        """Its name and size; the plan is too long for a line."""
        return f"planned:{len(self.preemptions)}"

    def begin(self, execution: int) -> None:
        """Every execution follows the same plan."""
        self._home = 0

    def decide(self, enabled: Sequence[Task], current: Task | None, why_stopped: int) -> tuple[Task, int]:
        """The task that is running, unless a preemption is due or it cannot go on."""
        chosen = self._stay(enabled, current, why_stopped)
        if not chosen.is_interrupt:
            self._home = chosen.id
        return chosen, 1 if chosen.id in self._planned else UNTIL_IT_STOPS

    def draw(self, n: int) -> int:
        """The simplest number."""
        return 0

    def _stay(self, enabled: Sequence[Task], current: Task | None, why_stopped: int) -> Task:
        if current is not None and why_stopped == COUNT_OVER:
            rank = self._rank.get((current.id, current.operation, current.points - current.operation_start))
            others = [task for task in enabled if task is not current]
            return others[rank % len(others)] if rank is not None and others else current
        home = None
        for task in enabled:
            if task.is_interrupt:
                return task
            if task.id == self._home:
                home = task
        return home or enabled[0]
