# SPDX-License-Identifier: GPL-2.0-only
"""A few switches, anywhere: one task runs at a time, and at a fixed number of points, drawn uniformly from a run's
length, another one takes over.

PCT without its priorities: who goes on, at a switch or when a task blocks or ends, is any enabled task. So a task that
was left in a window may stay there for long, as under PCT, while a bug that needs more switches than one foresaw is
not out of reach, as it is under PCT of too small a depth. No guarantee is proven for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from stressvmap.runtime.strategy import BY_SWITCHES, COUNT_OVER, Plan
from stressvmap.runtime.task import Task
from stressvmap.sched.run_length import CALIBRATION, LENGTH_UNCALIBRATED, SPIN_LENGTHS, mean_length, spread_points
from stressvmap.sched.seeded import Seeded
from stressvmap.sched.sticky import another

SWITCHES: Final = 5
SWITCHES_MAX: Final = 1_000


class SwitchPointsStrategy(Seeded):
    """Parameter: `switches`, how many switches that nothing forces, from 0 to SWITCHES_MAX."""

    NAME = "switch-points"
    calibration = CALIBRATION

    def __init__(self, seed: int, switches: int = SWITCHES) -> None:
        super().__init__(seed)
        self.switches = switches
        self.length_points = LENGTH_UNCALIBRATED
        """Set once, before the first execution."""
        self._places: list[int] = []
        """Where this execution switches: distinct points, ascending, then NEVER."""
        self._passed = 0
        """How many of them are past."""
        self._plan = self._planned()

    @property
    def label(self) -> str:
        """As `--strategy` takes it."""
        return f"{self.NAME}:{self.switches}"

    def calibrate(self, lengths: Sequence[int]) -> None:
        """The switches are spread over their mean."""
        self.length_points = mean_length(lengths)
        self._plan = self._planned()

    def begin(self, execution: int) -> None:
        """Draw where to switch."""
        super().begin(execution)
        self._places = spread_points(self._random, self.switches, self.length_points)
        self._passed = 0

    def plan(self, execution: int) -> tuple[Plan, int] | None:
        """The same: switches anywhere in the run, and any task at each."""
        return self._plan, self._words.of(execution)

    def decide(self, enabled: Sequence[Task], current: Task | None, why_stopped: int) -> tuple[Task, int]:
        """Another task at a switch, any where the running one cannot go on; until the next switch. The grant has an
        end, or a task that spins behind the last switch would keep the others out for ever.
        """
        random = self._random.random
        while self._places[self._passed] <= self.points:
            self._passed += 1
        chosen = another(enabled, current, random()) if why_stopped == COUNT_OVER else None
        if chosen is None:
            chosen = enabled[int(random() * len(enabled))]
        return chosen, min(self._places[self._passed] - self.points, SPIN_LENGTHS * self.length_points)

    def _planned(self) -> Plan:
        length = self.length_points
        return Plan(BY_SWITCHES, True, self.switches, length, SPIN_LENGTHS * length)
