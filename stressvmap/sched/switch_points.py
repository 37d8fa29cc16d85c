# SPDX-License-Identifier: GPL-2.0-only
"""A few switches, anywhere: one task runs at a time, and at a fixed number of points, drawn uniformly from a run's
length, another one takes over.

PCT without its priorities: who goes on, at a switch or when a task blocks or ends, is any enabled task. So a task that
was left in a window may stay there for long, as under PCT, while a bug that needs more switches than one foresaw is
not out of reach, as it is under PCT of too small a depth. No guarantee is proven for it.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final

from stressvmap.runtime.strategy import COUNT_OVER, Plan
from stressvmap.runtime.task import Task
from stressvmap.sched.run_length import CALIBRATION, LENGTH_UNCALIBRATED, SPIN_LENGTHS, mean_length, spread_points
from stressvmap.sched.seeded import Seeded
from stressvmap.sched.sticky import another

SWITCHES: Final = 5
SWITCHES_MAX: Final = 1_000
PLANNED_RANKS: Final = 256
"""Choices in a plan: blocked tasks make one each, too."""


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

    @property
    def label(self) -> str:
        """As `--strategy` takes it."""
        return f"{self.NAME}:{self.switches}"

    def calibrate(self, lengths: Sequence[int]) -> None:
        """The switches are spread over their mean."""
        self.length_points = mean_length(lengths)

    def begin(self, execution: int) -> None:
        """Draw where to switch."""
        super().begin(execution)
        self._places = spread_points(self._random, self.switches, self.length_points)
        self._passed = 0

    def plan(self) -> Plan | None:
        """The same places; who takes over is drawn anew."""
        places = array("I", self._places[:-1])
        return Plan(
            self.draw_ranks(PLANNED_RANKS),
            places.tobytes(),
            is_absolute=True,
            prefers_others=True,
            longest=SPIN_LENGTHS * self.length_points,
            draw_seed=self._random.getrandbits(64),
        )

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
