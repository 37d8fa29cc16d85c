# SPDX-License-Identifier: GPL-2.0-only
"""The random walk: at each point choose uniformly among the enabled tasks. No parameters, no guarantee worth
stating.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from stressvmap.runtime.strategy import Strategy
from stressvmap.runtime.task import Task


class RandomStrategy(Strategy):
    """Uniform random choice. Execution i depends on (seed, i) alone."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._random = Random(0)

    @property
    def label(self) -> str:
        """As `--strategy` takes it."""
        return "random"

    def begin(self, execution: int) -> None:
        """Seed this execution."""
        self._random = Random(f"random/{self.seed}/{execution}")

    def decide(self, enabled: Sequence[Task], current: Task | None, why_stopped: int) -> tuple[Task, int]:
        """Any enabled task, for one point."""
        return enabled[int(self._random.random() * len(enabled))], 1

    def draw(self, n: int) -> int:
        """Uniform."""
        return int(self._random.random() * n)
