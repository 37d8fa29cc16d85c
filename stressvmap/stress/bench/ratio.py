# SPDX-License-Identifier: GPL-2.0-only
"""Ratios: how two things compare that are run in turn, and what a ratio is meant to reach."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import log
from typing import Any, Final

AT_LEAST: Final = ">="
AT_MOST: Final = "<="


@dataclass(frozen=True, slots=True)
class Mark:
    """What the median of a ratio is to reach."""

    relation: str
    """AT_LEAST or AT_MOST."""
    value: float

    def verdict(self, median: float) -> str:
        """ok, below or above."""
        if self.relation == AT_LEAST:
            return "ok" if median >= self.value else "below"
        return "ok" if median <= self.value else "above"

    def __str__(self) -> str:
        return f"{self.relation} {self.value:g}"


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio by repeat, and its mark if it has one."""

    name: str
    values: tuple[float, ...]
    mark: Mark | None = None

    @property
    def median(self) -> float:
        """Of the repeats."""
        return statistics.median(self.values)

    @property
    def verdict(self) -> str:
        """ok, below or above its mark; empty if it has none."""
        return "" if self.mark is None else self.mark.verdict(self.median)

    def row(self) -> tuple[str, str, str, str, str]:
        """Name, median, spread, mark, verdict."""
        mark = "" if self.mark is None else str(self.mark)
        spread = f"{min(self.values):.3g} .. {max(self.values):.3g}"
        return self.name, f"{self.median:.3g}", spread, mark, self.verdict

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "median": self.median,
            "ratios": list(self.values),
            "mark": None if self.mark is None else str(self.mark),
            "verdict": self.verdict,
        }


def compare(
    name: str, above: Callable[[], float], below: Callable[[], float], repeats: int, mark: Mark | None = None
) -> Ratio:
    """`above` divided by `below`, both run in turn, `repeats` times."""
    values = []
    for _ in range(repeats):
        first, second = above(), below()
        values.append(first / second)
    return Ratio(name, tuple(values), mark)


def growth(
    name: str, sizes: Sequence[int], cost: Callable[[int], float], repeats: int, base: int, limit: float
) -> Ratio:
    """How much `cost` grows when a size grows `base`-fold: the factor of the straight line, by least squares through
    the logarithms, over all `sizes`, which are measured in turn. 1 is flat; the mark is `limit`.
    """
    values = []
    for _ in range(repeats):
        points = [(log(size, base), log(cost(size))) for size in sizes]
        slope = statistics.linear_regression([x for x, _ in points], [y for _, y in points]).slope
        values.append(2.718281828459045**slope)
    return Ratio(name, tuple(values), Mark(AT_MOST, limit))


@contextmanager
def on_one_cpu() -> Iterator[None]:
    """Keep this thread, and those it starts, on one CPU meanwhile: handing a baton across CPUs costs five times as
    much as on one, so that is where threads that take turns are at their best.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
