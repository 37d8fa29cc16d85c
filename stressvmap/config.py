# SPDX-License-Identifier: GPL-2.0-only
"""What is to be run, as resolved from a TOML file and the command line: plain frozen data."""

from __future__ import annotations

from dataclasses import dataclass, field

from stressvmap.scenario import Scenario

THREADS = "threads"
CONTROLLED = "controlled"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """One run: one version under one scenario. It ends at the first of its budgets that is reached."""

    version: str
    """A version's name, or ./path/to/file.py:ClassName."""
    scenario: Scenario = field(default_factory=Scenario)
    runtime: str = THREADS
    strategy: str = "random"
    seed: int = 1
    seconds: float | None = None
    schedules: int | None = None
    operations: int | None = None
    stop_at_first: bool = False
    """End at the first violation that is not known."""
    checks: tuple[str, ...] = ()
    """Only these; one that cannot run makes the verdict inconclusive. Empty: all."""
    expect: str | tuple[str, ...] | None = None
    """"known", or the checks (`check` or `check:fingerprint`) that must fire, exactly."""
    keep_journals: bool = False
    stall_seconds: float = 30.0
    """Thread runtime: no scheduling point in so long ends the run, inconclusive."""
