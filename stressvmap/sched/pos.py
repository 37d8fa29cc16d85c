# SPDX-License-Identifier: GPL-2.0-only
"""POS, partial order sampling (Yuan, Yang, Gu, CAV 2018).

Every pending operation has a priority of its own, drawn uniformly; the enabled task whose operation has the highest one
runs. When an operation has been executed, the next one of its task draws a priority, and so does every pending
operation that depends on the executed one. Orders of independent operations are not chosen between, so partial orders
are sampled far more evenly than by the random walk; each one of a program is hit with a probability that the paper
bounds from below.

Where it departs from the paper: an operation whose task is not enabled when one that it depends on is executed keeps
its priority.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from stressvmap.runtime.strategy import BY_OPERATIONS, Plan
from stressvmap.runtime.task import Task
from stressvmap.sched.dependence import FAR_REACHING, NOTHING, Operation, are_dependent, operation_of
from stressvmap.sched.seeded import Seeded

_PLAN: Final = Plan(BY_OPERATIONS)


class PosStrategy(Seeded):
    """No parameters. It is asked at every point."""

    NAME = "pos"

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._priorities: dict[int, float] = {}
        """By id of the task: its pending operation's priority. No entry for one that was just executed, or is new."""
        self._executed: Operation = NOTHING
        """The operation that the last answer let happen."""

    def begin(self, execution: int) -> None:
        """Forget the last execution."""
        super().begin(execution)
        self._priorities = {}
        self._executed = NOTHING

    def plan(self, execution: int) -> tuple[Plan, int] | None:
        """The same; two accesses are dependent if they meet in a word of memory, whatever their sizes."""
        return _PLAN, self._words.of(execution)

    def decide(self, enabled: Sequence[Task], current: Task | None, why_stopped: int) -> tuple[Task, int]:
        """The task of the enabled operation of highest priority, for that operation."""
        priorities = self._priorities
        executed = self._executed
        executed_object = executed[1]
        reaches_far = executed[0] in FAR_REACHING
        random = self._random.random
        best = -1.0
        chosen = enabled[0]
        for task in enabled:
            priority = priorities.get(task.id)
            if priority is None or (
                (reaches_far or task.pending_object == executed_object or task.pending_kind in FAR_REACHING)
                and are_dependent(executed, operation_of(task))
            ):
                priority = priorities[task.id] = random()
            if priority > best:
                best, chosen = priority, task
        del priorities[chosen.id]
        self._executed = operation_of(chosen)
        return chosen, 1
