# SPDX-License-Identifier: GPL-2.0-only
"""A schedule told so that it survives a change of the program: by preemptions placed in operations, not by counts.

A recorded Schedule counts points; take one operation out of a program and none of its numbers fit. Told as *legs*
("task 2 until it is about to take the 3rd step of its operation 5; task 1 until it blocks") it still means something:
whatever does not apply any more is passed over, and after the last leg no task is preempted any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stressvmap.runtime.strategy import COUNT_OVER, WOKEN, Strategy
from stressvmap.runtime.task import Task

UNTIL_BLOCKED = 1 << 40

Position = Callable[[Task], tuple[int, int]]
"""Which of its program's operations a task is in (from 0; -1: in none), and how many points it has announced in it."""


@dataclass(frozen=True, slots=True)
class Leg:
    """Run `task` until it is at point `offset` of its operation `op`; or, for a task without operations, for `points`
    points; or, if neither is given, until it blocks or ends. In the first two cases it is then preempted.
    """

    task: int
    op: int = -1
    offset: int = 0
    points: int = 0

    @property
    def is_preempted(self) -> bool:
        """Whether the task was still enabled when another was chosen."""
        return self.op >= 0 or self.points > 0


def _nowhere(task: Task) -> tuple[int, int]:
    return -1, 0


class FollowStrategy(Strategy):
    """Follows legs as far as they apply, then switches only when the running task blocks or ends, to the lowest id.

    Without legs it is the schedule without preemptions. No randomness.
    """

    def __init__(self, legs: Sequence[Leg] = (), position: Position = _nowhere, draws: Sequence[int] = ()) -> None:
        self.legs = legs
        self._position = position
        self._draws = draws
        self._leg = 0
        self._is_started = False
        """Whether the current leg's task has been given control in it."""
        self._draw = 0

    @property
    def label(self) -> str:
        """For the reader; it is no strategy that `--strategy` takes."""
        return "stay"

    def begin(self, execution: int) -> None:
        """Start from the first leg."""
        self._leg = 0
        self._is_started = False
        self._draw = 0

    def decide(self, enabled: Sequence[Task], current: Task | None, why_stopped: int) -> tuple[Task, int]:
        """The task of the first leg that is not over."""
        is_at_point = current is not None and why_stopped in (COUNT_OVER, WOKEN)
        while self._leg < len(self.legs):
            leg = self.legs[self._leg]
            count = self._grant(leg, enabled, is_at_point)
            if count:
                self._is_started = True
                return next(task for task in enabled if task.id == leg.task), count
            self._leg += 1
            self._is_started = False
        if is_at_point and current in enabled:
            assert current is not None
            return current, UNTIL_BLOCKED
        return enabled[0], UNTIL_BLOCKED

    def draw(self, n: int) -> int:
        """As recorded, as far as that goes; then 0."""
        self._draw += 1
        return self._draws[self._draw - 1] % n if self._draw <= len(self._draws) else 0

    def _grant(self, leg: Leg, enabled: Sequence[Task], is_at_point: bool) -> int:
        """Points to give to the leg's task now; 0 if the leg is over, or does not apply."""
        if self._is_started and not (is_at_point and leg.op >= 0):
            return 0
        for task in enabled:
            if task.id == leg.task:
                if leg.op < 0:
                    return leg.points or UNTIL_BLOCKED
                return 0 if self._position(task) >= (leg.op, leg.offset) else 1
        return 0


class LegRecorder(Strategy):
    """Another strategy, with what it decides recorded as legs."""

    def __init__(self, inner: Strategy, position: Position) -> None:
        self.inner = inner
        self.taken: list[Leg] = []
        """Followed on the same program, they give the same execution."""
        self._position = position
        self._since = 0

    @property
    def label(self) -> str:
        """The other's."""
        return self.inner.label

    def begin(self, execution: int) -> None:
        """Start anew."""
        self.inner.begin(execution)
        self.wants_wakeups = self.inner.wants_wakeups
        self.taken = []
        self._since = 0

    def trial(self) -> Strategy | None:
        """What the other wants."""
        return self.inner.trial()

    def decide(self, enabled: Sequence[Task], current: Task | None, why_stopped: int) -> tuple[Task, int]:
        """The other's choice."""
        self.inner.points = self.points
        chosen, count = self.inner.decide(enabled, current, why_stopped)
        is_at_point = current is not None and why_stopped in (COUNT_OVER, WOKEN)
        if not is_at_point or chosen is not current:
            if is_at_point:
                assert current is not None
                op, offset = self._position(current)
                self.taken[-1] = Leg(current.id, op, offset, 0 if op >= 0 else self.points - self._since)
            self.taken.append(Leg(chosen.id))
            self._since = self.points
        return chosen, count

    def draw(self, n: int) -> int:
        """The other's."""
        return self.inner.draw(n)
