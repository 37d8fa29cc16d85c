# SPDX-License-Identifier: GPL-2.0-only
"""The random walk: at each point choose uniformly among the enabled tasks. No parameters, no guarantee worth
stating.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Final

from stressvmap.runtime.strategy import BY_WALK, Plan
from stressvmap.runtime.task import Task
from stressvmap.sched.seeded import Seeded

_PLAN: Final = Plan(BY_WALK, lengths=array("I", [1]).tobytes())


class RandomStrategy(Seeded):
    """Uniform random choice. Execution i depends on (seed, i) alone."""

    NAME = "random"

    @property
    def walk(self) -> Callable[[], float] | None:
        """The random source of this execution; None for a subclass that decides otherwise, for it must be asked."""
        return self._random.random if type(self).decide is RandomStrategy.decide else None

    def plan(self, execution: int) -> tuple[Plan, int] | None:
        """The same walk. None for a subclass that decides otherwise."""
        if type(self).decide is not RandomStrategy.decide:
            return None
        return _PLAN, self._words.of(execution)

    def decide(self, enabled: Sequence[Task], current: Task | None, why_stopped: int) -> tuple[Task, int]:
        """Any enabled task, for one point."""
        return enabled[int(self._random.random() * len(enabled))], 1
