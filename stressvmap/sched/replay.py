# SPDX-License-Identifier: GPL-2.0-only
"""Strategies that do what they are told: a recorded schedule, or a script written by hand for a test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stressvmap.errors import ScheduleMismatch
from stressvmap.runtime.strategy import COUNT_OVER, START, Schedule, Strategy
from stressvmap.runtime.task import Task


class ReplayStrategy(Strategy):
    """Follows a recorded Schedule exactly; what does not fit is a ScheduleMismatch that names the first diverging
    decision.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self._choice = 0
        self._draw = 0

    def begin(self, execution: int) -> None:
        """Start from the schedule's beginning."""
        self._choice = 0
        self._draw = 0

    def decide(self, enabled: Sequence[Task], current: Task | None, why_stopped: int) -> tuple[Task, int]:
        """The recorded choice."""
        names = ", ".join(str(task.id) for task in enabled)
        if self._choice >= len(self.schedule.choices):
            raise ScheduleMismatch(
                f"decision {self._choice}: the schedule is over, but tasks {names} are still enabled"
            )
        task_id, count = self.schedule.choices[self._choice]
        for task in enabled:
            if task.id == task_id:
                self._choice += 1
                return task, count
        raise ScheduleMismatch(
            f"decision {self._choice}: the schedule runs task {task_id}, but only tasks {names} are enabled"
        )

    def check_used_up(self) -> None:
        """After an execution: raises ScheduleMismatch if it ended before the schedule did."""
        choices = len(self.schedule.choices)
        if self._choice < choices:
            raise ScheduleMismatch(
                f"decision {self._choice}: the execution is over, but the schedule has {choices} decisions"
            )
        if self._draw < len(self.schedule.draws):
            raise ScheduleMismatch(
                f"draw {self._draw}: the execution is over, but the schedule has {len(self.schedule.draws)} draws"
            )

    def draw(self, n: int) -> int:
        """The recorded draw."""
        if self._draw >= len(self.schedule.draws) or self.schedule.draws[self._draw] >= n:
            raise ScheduleMismatch(f"draw {self._draw}: the schedule has no number below {n} for it")
        self._draw += 1
        return self.schedule.draws[self._draw - 1]


@dataclass(frozen=True, slots=True)
class Run:
    """One line of a script: run task `task` until `until` holds of it (its pending operation has not happened then),
    or it is blocked or done.
    """

    task: int
    until: Callable[[Task], bool] | None = None


class ScriptStrategy(Strategy):
    """Follows a script, one `Run` after the other; then lets the lowest enabled id run to its end, and so on.

    A line whose task is not enabled is passed over if the task is done or blocked; a line whose `until` never came
    to hold is an error, for a test that misses its interleaving proves nothing.
    """

    def __init__(self, script: Sequence[Run]) -> None:
        self.script = list(script)
        self._line = 0
        self._is_started = False

    def begin(self, execution: int) -> None:
        """Start from the first line."""
        self._line = 0
        self._is_started = False

    def decide(self, enabled: Sequence[Task], current: Task | None, why_stopped: int) -> tuple[Task, int]:
        """The script's task for one point, unless its line is over."""
        while self._line < len(self.script):
            line = self.script[self._line]
            task = next((t for t in enabled if t.id == line.task), None)
            is_at_point = (
                self._is_started and current is not None and current.id == line.task and why_stopped == COUNT_OVER
            )
            if task is not None and not (line.until is not None and is_at_point and line.until(task)):
                if (
                    self._is_started
                    and current is not None
                    and current.id == line.task
                    and why_stopped not in (COUNT_OVER, START)
                ):
                    if line.until is not None:
                        raise ScheduleMismatch(
                            f"script line {self._line}: task {line.task} stopped before it came to its point"
                        )
                else:
                    self._is_started = True
                    return task, 1
            elif task is None and line.until is not None:
                raise ScheduleMismatch(
                    f"script line {self._line}: task {line.task} is blocked or done before it came to its point"
                )
            self._line += 1
            self._is_started = False
        return enabled[0], 1

    def check_used_up(self) -> None:
        """After an execution: raises ScheduleMismatch if it ended before a line's `until` came to hold."""
        for number, line in enumerate(self.script[self._line :], self._line):
            if line.until is not None:
                raise ScheduleMismatch(
                    f"script line {number}: the execution is over, and task {line.task} never came to its point"
                )

    def draw(self, n: int) -> int:
        """Always 0."""
        return 0
