# SPDX-License-Identifier: GPL-2.0-only
"""Reproducible tables of what the versions do: what they flush and owe, and how soon their bugs are met."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from rich.table import Table

from stressvmap.config import CONTROLLED, THREADS, RunSpec
from stressvmap.result import Finding
from stressvmap.scenario import Scenario
from stressvmap.stress.engine import Engine
from stressvmap.vmalloc import versions

SEED: Final = 1


def figures(executions: int, names: Sequence[str] = tuple(versions.BUILT_IN)) -> Table:
    """Per vm_unmap_aliases call and version, what is flushed and owed, and how long the purge lock is held,
    single-task and concurrent; and what was violated, by executions that showed it.
    """
    table = Table(title=f"per vm_unmap_aliases call, {executions} executions of each, 8-page blocks")
    for heading in (
        "version",
        "tasks",
        "flushed",
        "owed",
        "excess",
        "re-flushed",
        "double-counted blocks",
        "purge lock held (points, mean)",
        "violations",
    ):
        table.add_column(heading, justify="left" if heading == "version" else "right")
    small = Scenario(
        cpus=4,
        block_bits=8,
        operations=9,
        flushers=1,
        flushes=3,
        large_rate=0,
        vmalloc_rate=0,
        fault_rate=0,
        migration_rate=0,
        witness=False,
    )
    alone = replace(small, cpus=1, flushers=0, aliases_rate=0.15, operations=20)
    for version in names:
        for name, scenario in (("1", alone), ("4 + 1", small)):
            engine = Engine(
                RunSpec(version=version, runtime=CONTROLLED, scenario=scenario, schedules=executions, seed=SEED), None
            )
            while not engine.is_over(0.0):
                engine.step()
            tally = engine.finish()
            metrics = tally.metrics
            calls = max(1, metrics["unmap_aliases_calls"])
            held = metrics["purge_lock_hold_points_total"] / max(1, metrics["purge_lock_holds"])
            per_call = [
                metrics[key] / calls
                for key in ("flushed_pages", "owed_pages", "excess_pages", "reflushed_pages", "double_counted_blocks")
            ]
            found = ", ".join(sorted(f"{finding.check} {finding.count}" for finding in tally.findings.values()))
            table.add_row(
                engine.version.NAME, name, *(f"{value:.2f}" for value in per_call), f"{held:.1f}", found or "none"
            )
    return table


def first_hits(seeds: int, schedules: int) -> Table:
    """Executions to the first violation of each kind, median over seeds, by version and runtime."""
    table = Table(
        title=f"executions to the first hit, median of {seeds} seeds, at most {schedules} each; workload fill-block"
    )
    for heading in ("version", "runtime", "violation", "found", "median"):
        table.add_column(heading)
    for version in versions.BUILT_IN:
        for runtime in (THREADS, CONTROLLED):
            hits: dict[str, list[int]] = {}
            for seed in range(seeds):
                for finding in _findings(version, runtime, seed, schedules):
                    hits.setdefault(f"{finding.check}: {finding.mechanism.split(' | ', 1)[1]}", []).append(
                        finding.first_at_schedule + 1
                    )
            for name, found in sorted(hits.items()):
                table.add_row(version, runtime, name, f"{len(found)}/{seeds}", f"{statistics.median(found):.0f}")
    return table


def _findings(version: str, runtime: str, seed: int, schedules: int) -> Sequence[Finding]:
    spec = RunSpec(
        version=version, runtime=runtime, scenario=Scenario(workload="fill-block"), schedules=schedules, seed=seed
    )
    engine = Engine(spec, None)
    while not engine.is_over(0.0):
        engine.step()
    return list(engine.finish().findings.values())
