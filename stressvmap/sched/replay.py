# SPDX-License-Identifier: GPL-2.0-only
"""Strategies that do what they are told: a recorded schedule, or a script written by hand for a test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stressvmap.errors import ScheduleMismatch
from stressvmap.journal.events import KIND_NAMES
from stressvmap.runtime.strategy import BLOCKED, COUNT_OVER, ENDED, START, Schedule, Strategy
from stressvmap.runtime.task import Task


class ReplayStrategy(Strategy):
    """Follows a recorded Schedule exactly; what does not fit is a ScheduleMismatch that names the first diverging step.

    A grant that ended because its task blocked or ended counts one more than the points the task announced, so a task
    that stops earlier than it did then is noticed where it stops.
    """

    def __init__(self, schedule: Schedule, tasks: Callable[[], Sequence[Task]] | None = None) -> None:
        self.schedule = schedule
        self._tasks = tasks
        """All tasks of the execution, so that a mismatch can say what the one expected is doing."""
        self._choice = 0
        self._draw = 0
        self._since = 0
        """`points` at the last decision."""

    @property
    def label(self) -> str:
        """For the reader; it is no strategy that `--strategy` takes."""
        return "replay"

    def begin(self, execution: int) -> None:
        """Start from the schedule's beginning."""
        self._choice = 0
        self._draw = 0
        self._since = 0

    def decide(self, enabled: Sequence[Task], current: Task | None, why_stopped: int) -> tuple[Task, int]:
        """The recorded choice."""
        choices = self.schedule.choices
        if current is not None and why_stopped in (BLOCKED, ENDED) and self._choice:
            self._require_used_up(current, why_stopped, choices[self._choice - 1][1])
        if self._choice >= len(choices):
            raise self._mismatch(f"the schedule is over here, but there are still tasks enabled: {_list(enabled)}")
        task_id, count = choices[self._choice]
        for task in enabled:
            if task.id == task_id:
                self._choice += 1
                self._since = self.points
                return task, count
        raise self._mismatch(
            f"decision {self._choice} of the schedule runs task {task_id} here, "
            f"{self._why_not(task_id)}; enabled: {_list(enabled)}"
        )

    def check_used_up(self, points: int = 0) -> None:
        """After an execution (of `points` points, for the message): raises ScheduleMismatch if it ended before the
        schedule did.
        """
        self.points = max(points, self.points)
        choices = self.schedule.choices
        if self._choice < len(choices):
            task_id, count = choices[self._choice]
            raise self._mismatch(
                f"the execution is over here, but decision {self._choice} of the schedule "
                f"runs task {task_id} for {count} points"
            )
        if self._draw < len(self.schedule.draws):
            raise self._mismatch(
                f"the execution is over, having drawn {self._draw} of the schedule's {len(self.schedule.draws)} numbers"
            )

    def draw(self, n: int) -> int:
        """The recorded draw."""
        if self._draw >= len(self.schedule.draws) or self.schedule.draws[self._draw] >= n:
            raise self._mismatch(f"draw {self._draw}: the schedule has no number below {n} for it")
        self._draw += 1
        return self.schedule.draws[self._draw - 1]

    def _require_used_up(self, task: Task, why_stopped: int, granted: int) -> None:
        missing = granted - 1 - (self.points - self._since)
        if missing > 0:
            what = "ended" if why_stopped == ENDED else f"cannot go on ({_state(task)})"
            raise self._mismatch(
                f"task {task.id} ({task.name}) {what}, where decision {self._choice - 1} of the schedule "
                f"has it run for {missing} more points"
            )

    def _why_not(self, task_id: int) -> str:
        if self._tasks is None:
            return "which is not enabled"
        for task in self._tasks():
            if task.id == task_id:
                waits = "" if task.is_parked or task.is_done else f" waits for CPU {task.cpu} and"
                return f"which is not enabled: {task.name}{waits} {_state(task)}"
        return "and there is no such task"

    def _mismatch(self, message: str) -> ScheduleMismatch:
        return ScheduleMismatch(f"diverged at step {self.points}: {message}", self.points)


class PrefixStrategy(Strategy):
    """Follows a recorded Schedule as far as it fits, then goes on as `then` says."""

    def __init__(self, schedule: Schedule, then: Strategy, tasks: Callable[[], Sequence[Task]] | None = None) -> None:
        self.mismatch: ScheduleMismatch | None = None
        """Where and why the schedule did not fit; None as long as it does."""
        self._replay = ReplayStrategy(schedule, tasks)
        self.then = then
        self.calibration = then.calibration

    @property
    def label(self) -> str:
        """For the reader."""
        return f"replay, then {self.then.label}"

    def calibrate(self, lengths: Sequence[int]) -> None:
        """Passed on."""
        self.then.calibrate(lengths)

    def begin(self, execution: int) -> None:
        """Start from the schedule's beginning."""
        self.mismatch = None
        self.wants_wakeups = False
        self._replay.begin(execution)
        self.then.begin(execution)

    def trial(self) -> Strategy | None:
        """What `then` wants."""
        return self.then.trial()

    def decide(self, enabled: Sequence[Task], current: Task | None, why_stopped: int) -> tuple[Task, int]:
        """The recorded choice, or that of `then`."""
        if self.mismatch is None:
            self._replay.points = self.points
            try:
                return self._replay.decide(enabled, current, why_stopped)
            except ScheduleMismatch as mismatch:
                self._leave(mismatch)
        self.then.points = self.points
        return self.then.decide(enabled, current, why_stopped)

    def draw(self, n: int) -> int:
        """The recorded draw, or that of `then`."""
        if self.mismatch is None:
            try:
                return self._replay.draw(n)
            except ScheduleMismatch as mismatch:
                self._leave(mismatch)
        return self.then.draw(n)

    def check_used_up(self, points: int = 0) -> None:
        """After an execution: notes a mismatch if it ended before the schedule did."""
        if self.mismatch is None:
            try:
                self._replay.check_used_up(points)
            except ScheduleMismatch as mismatch:
                self.mismatch = mismatch

    def _leave(self, mismatch: ScheduleMismatch) -> None:
        self.mismatch = mismatch
        self.wants_wakeups = self.then.wants_wakeups


def _list(tasks: Sequence[Task]) -> str:
    return "; ".join(f"task {task.id} ({task.name}) {_state(task)}" for task in tasks)


def _state(task: Task) -> str:
    """What it is doing, for a reader."""
    where = f" in {task.function}" if task.function else ""
    if task.is_done:
        return "is done"
    if task.is_parked:
        if task.is_daemon and task.context is None:
            return "has nothing to do"
        return f"waits for {task.blocked_class or 'a wake-up'}{where}"
    if task.points == 0:
        return f"is at its start, on CPU {task.cpu}"
    if not task.pending_kind:
        return f"is at a pause{where}, on CPU {task.cpu}"
    operation = f"{KIND_NAMES.get(task.pending_kind, 'a step')} {task.pending_field}".rstrip()
    return f"is about to {operation}{where}, on CPU {task.cpu}"


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
