# SPDX-License-Identifier: GPL-2.0-only
"""What all strategies share that draw: one random source an execution, a function of (name, seed, execution)."""

from __future__ import annotations

from random import Random
from typing import ClassVar, Final

from stressvmap.runtime.strategy import Strategy

RANKS: Final = 8192
"""Numbers drawn for a plan that takes one at each point: more than an execution has, as a rule."""


class Seeded(Strategy):
    """A strategy whose every choice comes from `_random`, and so from (seed, execution) alone."""

    NAME: ClassVar[str] = ""
    """What `--strategy` calls it, without parameters."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._random = Random(0)

    @property
    def label(self) -> str:
        """As `--strategy` takes it."""
        return self.NAME

    def begin(self, execution: int) -> None:
        """Seed this execution."""
        self._random = Random(f"{self.NAME}/{self.seed}/{execution}")

    def draw(self, n: int) -> int:
        """Uniform."""
        return int(self._random.random() * n)

    def draw_ranks(self, count: int) -> bytes:
        """So many 32-bit numbers, uniform."""
        return self._random.randbytes(4 * count)
