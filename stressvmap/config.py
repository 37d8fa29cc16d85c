# SPDX-License-Identifier: GPL-2.0-only
"""What is to be run, as resolved from a TOML file and the command line: plain frozen data."""

from __future__ import annotations

from dataclasses import dataclass, field

from stressvmap.scenario import WORKLOADS, Scenario

THREADS = "threads"
CONTROLLED = "controlled"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """One run: one version under one scenario. It ends at the first of its budgets that is reached."""

    version: str
    """A version's name, or ./path/to/file.py:ClassName."""
    scenario: Scenario = field(default_factory=Scenario)
    runtime: str = CONTROLLED
    strategy: str = "mixed"
    """As sched/portfolio.py names them. Controlled runtime only."""
    seed: int = 1
    seconds: float | None = None
    schedules: int | None = None
    operations: int | None = None
    execution: int | None = None
    """Run only this execution, in one process: what a finding's number is good for. Budgets then mean nothing."""
    stop_at_first: bool = False
    """End at the first violation that is not known."""
    checks: tuple[str, ...] = ()
    """Only these; one that cannot run makes the verdict inconclusive. Empty: all."""
    expect: str | tuple[str, ...] | None = None
    """"known", or the checks (`check` or `check:fingerprint`) that must fire, exactly."""
    keep_journals: bool = False
    search_schedules: int = 1000
    """Thread runtime: schedules of a finding's program that are tried, to show the finding again under control."""
    repeat_share: float = 0.05
    """Controlled runtime: share of the executions whose schedule is run a second time, to see that both journals are
    the same.
    """
    stall_seconds: float = 30.0
    """No scheduling point in so long ends the run, inconclusive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakConfig:
    """A soak: rounds with fresh seeds, each of one version under one scenario drawn from these lists, until
    `seconds` are used up.
    """

    versions: tuple[str, ...] = ("v6.4", "rfc-3of3", "v6.5")
    workloads: tuple[str, ...] = WORKLOADS
    runtimes: tuple[str, ...] = (THREADS, CONTROLLED)
    cpus: tuple[int, ...] = (2, 4, 8)
    block_bits: tuple[int, ...] = (8, 16, 64)
    scenario: Scenario = field(default_factory=Scenario)
    """What all rounds share; workload, CPUs and block size are drawn."""
    seed: int = 1
    seconds: float = 28_800.0
    """Of all sittings of this soak together."""
    round_seconds: float = 30.0
    canary_every: int = 10
    """Each so many rounds one is a canary, the first included."""
    jobs: int = 1
