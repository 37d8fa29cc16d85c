# SPDX-License-Identifier: GPL-2.0-only
"""What a run and its worker processes say to each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stressvmap.config import RunSpec
from stressvmap.errors import StressVmapError
from stressvmap.stress.engine import Checkpoint, Tally


@dataclass(slots=True)
class Order:
    """What the parent asks for: a share of a run."""

    spec: RunSpec
    folder: Path | None
    first: int
    stride: int
    stacks: Path
    """Where to write all stacks when the parent finds this process stuck (SIGUSR1)."""
    checkpoint: Checkpoint | None = None
    """Where another process stood that died or hung; None: begin."""
    is_guarded: bool = False
    """Such a one did: make each execution in a copy of the process first."""
    spent: float = 0.0
    """Seconds of the share's time that are gone."""


@dataclass(slots=True)
class Beat:
    """Sent a few times a second: how far it is. Nothing changes from beat to beat in a process that is stuck."""

    execution: int
    points: int
    schedules: int
    operations: int
    flushes: int
    flushed_pages: int
    owed_pages: int
    seen: tuple[int, float]
    """Distinct journals, and how likely the next execution shows another."""
    fingerprints: dict[str, bool]
    """Findings so far: whether known."""
    where: str
    """Task and function of the last step."""


@dataclass(slots=True)
class Failure:
    """The share could not be run: bad input (a ConfigError) or a failure of the harness."""

    error: StressVmapError
    trace: str


Message = Beat | Failure | Checkpoint | Tally
