# SPDX-License-Identifier: GPL-2.0-only
"""PCT, probabilistic concurrency testing (Burckhardt, Kothari, Musuvathi, Nagarakatte, ASPLOS 2010).

Each task gets a random priority; the enabled task of the highest one runs; at d - 1 points, drawn uniformly from the k
of a run, the running task's priority drops below all. A bug that d ordering constraints suffice for is hit by an
execution with probability at least 1/(n k^(d-1)), for n tasks.

Where it departs from the paper: k is not the longest run but the mean of the first ones (points beyond a run's end
are wasted, and runs differ in length); tasks that appear later draw their priority then; and a task that runs on
for twice the length of a whole run while others are enabled is taken to spin, and drops below all, for it may wait for
one of them. `demotions` counts these: the guarantee does not hold for an execution that has any.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from stressvmap.runtime.strategy import BY_PRIORITIES, Plan
from stressvmap.runtime.task import Task
from stressvmap.sched.run_length import CALIBRATION, LENGTH_UNCALIBRATED, SPIN_LENGTHS, mean_length, spread_points
from stressvmap.sched.seeded import Seeded

DEPTH: Final = 3
DEPTH_MAX: Final = 4


class PctStrategy(Seeded):
    """Parameter: `depth`, d, from 1 to DEPTH_MAX."""

    NAME = "pct"
    wants_wakeups = True
    looks_at_tasks = False
    calibration = CALIBRATION

    def __init__(self, seed: int, depth: int = DEPTH) -> None:
        super().__init__(seed)
        self.depth = depth
        self.length_points = LENGTH_UNCALIBRATED
        """k. Set once, before the first execution."""
        self.demotions = 0
        """Of spinners, in all executions so far."""
        self._priorities: dict[int, float] = {}
        """By task id, all distinct: initial ones in [depth, depth + 1); after the i-th change point depth - i, of
        spinners 0 and below.
        """
        self._changes: list[int] = []
        """The change points of this execution, distinct, ascending, then NEVER; length is at most `depth`."""
        self._changed = 0
        """How many of them are past."""
        self._lowest = 1
        """The lowest priority a spinner has; 1: none has spun."""
        self._running: Task | None = None
        self._since = 0
        """Points when `_running` began to run without a break."""
        self._plan = self._planned()

    @property
    def label(self) -> str:
        """As `--strategy` takes it."""
        return f"{self.NAME}:{self.depth}"

    def calibrate(self, lengths: Sequence[int]) -> None:
        """k is their mean."""
        self.length_points = mean_length(lengths)
        self._plan = self._planned()

    def begin(self, execution: int) -> None:
        """Draw the change points; priorities are drawn as tasks appear."""
        super().begin(execution)
        self._priorities = {}
        self._changes = spread_points(self._random, self.depth - 1, self.length_points)
        self._changed = 0
        self._lowest = 1
        self._running = None
        self._since = 0

    def plan(self, execution: int) -> tuple[Plan, int] | None:
        """The same."""
        return self._plan, self._words.of(execution)

    def decide(self, enabled: Sequence[Task], current: Task | None, why_stopped: int) -> tuple[Task, int]:
        """The enabled task of highest priority, until the next change point."""
        priorities = self._priorities
        for task in enabled:
            if task.id not in priorities:
                priorities[task.id] = self.depth + self._random.random()
        if current is not None:
            while self._changes[self._changed] <= self.points:
                self._changed += 1
                priorities[current.id] = self.depth - self._changed
        spin_points = SPIN_LENGTHS * self.length_points
        if current is not None and current is self._running and len(enabled) > 1:
            if self.points - self._since >= spin_points:
                self._demote(current)
        chosen = max(enabled, key=lambda task: priorities[task.id])
        if chosen is not self._running:
            self._running = chosen
            self._since = self.points
        until = min(self._changes[self._changed], self._since + spin_points)
        return chosen, max(1, until - self.points)

    def _demote(self, spinner: Task) -> None:
        self._lowest -= 1
        self._priorities[spinner.id] = self._lowest
        self.demotions += 1
        self._running = None

    def _planned(self) -> Plan:
        length = self.length_points
        return Plan(BY_PRIORITIES, count=self.depth - 1, length=length, longest=SPIN_LENGTHS * length)
