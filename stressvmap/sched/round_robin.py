# SPDX-License-Identifier: GPL-2.0-only
"""Round robin: the enabled tasks in turn, by id, each for the same number of points.

The fair strategy: with n tasks an enabled one waits for at most (n - 1) grants. It finds what needs tasks in step with
each other, and shows what starves without fairness.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from stressvmap.runtime.strategy import BY_TURNS, Plan
from stressvmap.runtime.task import Task
from stressvmap.sched.seeded import Seeded

GRANT_DRAWN_MAX: Final = 16
GRANT_MAX: Final = 1_000_000


class RoundRobinStrategy(Seeded):
    """Parameter: `grant_points`, the points of a turn; 0: drawn for each execution from 1..GRANT_DRAWN_MAX. Who
    begins is drawn too: nothing else is.
    """

    NAME = "round-robin"
    looks_at_tasks = False

    def __init__(self, seed: int, grant_points: int = 0) -> None:
        super().__init__(seed)
        self.grant_points = grant_points
        self._grant = 1
        self._plan = Plan(BY_TURNS, count=grant_points, length=GRANT_DRAWN_MAX)

    @property
    def label(self) -> str:
        """As `--strategy` takes it."""
        return f"{self.NAME}:{self.grant_points}" if self.grant_points else self.NAME

    def begin(self, execution: int) -> None:
        """Draw the points of a turn, if they are not given."""
        super().begin(execution)
        self._grant = self.grant_points or 1 + self.draw(GRANT_DRAWN_MAX)

    def plan(self, execution: int) -> tuple[Plan, int] | None:
        """The same."""
        return self._plan, self._words.of(execution)

    def decide(self, enabled: Sequence[Task], current: Task | None, why_stopped: int) -> tuple[Task, int]:
        """The enabled task of the next id above the last one's, or the first."""
        if current is None:
            return enabled[self.draw(len(enabled))], self._grant
        return next((task for task in enabled if task.id > current.id), enabled[0]), self._grant
