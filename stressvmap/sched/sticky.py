# SPDX-License-Identifier: GPL-2.0-only
"""The sticky walk: at each point stay with the running task with probability p, else go to another one, uniformly.

The random walk switches at nearly every point, so a task never gets far while another stands in a window; with p = .9
it stands there for ten points on average. No guarantee beyond the random walk's, that every schedule has a chance.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from stressvmap.runtime.strategy import BY_WALK, COUNT_OVER, Plan
from stressvmap.runtime.task import Task
from stressvmap.sched.seeded import Seeded

STAY: Final = 0.9
STAY_MAX: Final = 0.999
QUANTILES: Final = 1 << 12
"""Of the lengths of runs, in a plan."""


class StickyStrategy(Seeded):
    """Parameter: `stay`, the probability p, in [0, STAY_MAX]. It is asked once a run, not once a point."""

    NAME = "sticky"

    def __init__(self, seed: int, stay: float = STAY) -> None:
        super().__init__(seed)
        self.stay = stay
        self._lengths = _geometric(stay)
        """Entry n: the probability that a run is at most n + 1 points long. Ascending, so a number drawn is looked up
        in it; products alone, for the logarithm's last digit differs between C libraries.
        """
        self._plan: Plan | None = None

    @property
    def label(self) -> str:
        """As `--strategy` takes it."""
        return f"{self.NAME}:{self.stay:g}"

    def plan(self, execution: int) -> tuple[Plan, int] | None:
        """The same, each run's length a quantile of the geometric distribution's."""
        if self._plan is None:
            quantiles = ((number + 0.5) / QUANTILES for number in range(QUANTILES))
            lengths = array("I", [bisect_right(self._lengths, quantile) + 1 for quantile in quantiles])
            self._plan = Plan(BY_WALK, prefers_others=True, lengths=lengths.tobytes())
        return self._plan, self._words.of(execution)

    def decide(self, enabled: Sequence[Task], current: Task | None, why_stopped: int) -> tuple[Task, int]:
        """Another task if the last run is over, any if it was cut short; for a geometric number of points."""
        random = self._random.random
        chosen = another(enabled, current, random()) if why_stopped == COUNT_OVER else None
        if chosen is None:
            chosen = enabled[int(random() * len(enabled))]
        return chosen, bisect_right(self._lengths, random()) + 1


def another(enabled: Sequence[Task], current: Task | None, at: float) -> Task | None:
    """One of the enabled tasks that is not `current`, uniformly for `at` uniform in [0, 1); None if there is none."""
    if current not in enabled:
        return enabled[int(at * len(enabled))]
    if len(enabled) == 1:
        return None
    chosen = enabled[int(at * (len(enabled) - 1))]
    return enabled[-1] if chosen is current else chosen


def _geometric(stay: float) -> list[float]:
    lengths: list[float] = []
    left = stay
    while 1.0 - left < 1.0:
        lengths.append(1.0 - left)
        left *= stay
    return lengths
