# SPDX-License-Identifier: GPL-2.0-only
"""How long a run is, as far as one knows beforehand, and points spread over it."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from stressvmap.runtime.task import NEVER

CALIBRATION: Final = 20
"""Executions whose mean length stands for that of all."""
LENGTH_UNCALIBRATED: Final = 1_000
"""The length, in points, where nobody was told any."""
SPIN_LENGTHS: Final = 2
"""A task that runs for so many whole runs' lengths at a stretch, while others could, is taken to spin."""


def mean_length(lengths: Sequence[int]) -> int:
    """The mean of run lengths, at least 1; LENGTH_UNCALIBRATED if there are none."""
    return max(1, round(sum(lengths) / len(lengths))) if lengths else LENGTH_UNCALIBRATED


def spread_points(random: Random, count: int, length_points: int) -> list[int]:
    """`count` distinct points drawn uniformly from 1..length_points (all of them if there are fewer), ascending, and
    NEVER behind them.
    """
    return [*sorted(random.sample(range(1, length_points + 1), min(count, length_points))), NEVER]
