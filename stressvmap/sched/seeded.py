# SPDX-License-Identifier: GPL-2.0-only
"""What all strategies share that draw: one random source an execution, a function of (name, seed, execution)."""

from __future__ import annotations

from hashlib import sha256
from random import Random
from typing import ClassVar, Final

from stressvmap.runtime.strategy import Strategy

_WORD: Final = (1 << 64) - 1


class Words:
    """A 64-bit number for each execution, a function of (text, execution) alone: splitmix64 (Steele, Lea, Flood, OOPSLA
    2014) from a start that the text decides. A random source of its own takes ten times as long to seed.
    """

    def __init__(self, text: str) -> None:
        self._start = int.from_bytes(sha256(text.encode()).digest()[:8], "little")

    def of(self, execution: int) -> int:
        """Execution number `execution`'s."""
        z = self._start + (execution + 1) * 0x9E3779B97F4A7C15 & _WORD
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _WORD
        z = (z ^ z >> 27) * 0x94D049BB133111EB & _WORD
        return z ^ z >> 31


class Seeded(Strategy):
    """A strategy whose every choice comes from `_random`, and so from (seed, execution) alone."""

    NAME: ClassVar[str] = ""
    """What `--strategy` calls it, without parameters."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._random = Random(0)
        self._words = Words(f"{self.NAME}/{seed}")

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
