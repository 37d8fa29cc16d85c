# SPDX-License-Identifier: GPL-2.0-only
"""The project's own benchmark: `make bench`. Ratios within one run, each measured several times in turn, with their
spread.

Absolute figures wander with the machine; a ratio of two things run in turn does not.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from rich.console import Console
from rich.table import Table

from stressvmap.config import CONTROLLED, THREADS, RunSpec
from stressvmap.result import Finding
from stressvmap.runtime.runtime import Runtime
from stressvmap.scenario import Scenario
from stressvmap.sched.controlled import ControlledRuntime
from stressvmap.sched.random import RandomStrategy
from stressvmap.sched.sequential import SequentialRuntime
from stressvmap.sched.threads import ThreadRuntime
from stressvmap.stress.engine import Engine
from stressvmap.stress.judge import Judge
from stressvmap.stress.workloads import draw
from stressvmap.vmalloc import versions
from stressvmap.vmalloc.backend import ModelBackend

SEED: Final = 1


@dataclass(frozen=True, slots=True)
class Measure:
    """A ratio: how many times as fast `fast` is as `slow`, by repeat."""

    name: str
    ratios: tuple[float, ...]

    def row(self) -> tuple[str, str, str]:
        """Name, median, spread."""
        return self.name, f"{statistics.median(self.ratios):.2f}", f"{min(self.ratios):.2f} .. {max(self.ratios):.2f}"


def rate(
    runtime: Runtime, *, judged: bool, seconds: float, scenario: Scenario, version: str = "v6.5"
) -> tuple[float, float, float]:
    """Executions, operations and scheduling points a second of one way to run the model."""
    backend = ModelBackend(versions.load(version), scenario, runtime)
    judge = Judge()
    strategy = runtime.strategy if isinstance(runtime, ControlledRuntime) else None
    executions = operations = points = 0
    started = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        if strategy is not None:
            strategy.begin(executions)
        backend.reset(draw(scenario, SEED, executions))
        backend.run()
        if judged:
            judge.execution(backend.journal())
        executions += 1
        operations += backend.operations
        points += runtime.points
    runtime.close()
    return executions / elapsed, operations / elapsed, points / elapsed


def _controlled() -> Runtime:
    return ControlledRuntime(RandomStrategy(SEED))


def _threads() -> Runtime:
    return ThreadRuntime(SEED, Scenario().yield_rate)


def _threads_unyielding() -> Runtime:
    return ThreadRuntime(SEED, 0.0)


def compare(name: str, fast: Callable[[], float], slow: Callable[[], float], repeats: int) -> Measure:
    """Run both in turn, `repeats` times."""
    ratios = []
    for _ in range(repeats):
        first, second = fast(), slow()
        ratios.append(first / second)
    return Measure(name, tuple(ratios))


def ratios(repeats: int, seconds: float) -> list[Measure]:
    """The ratios that decisions about speed rest on."""
    scenario = Scenario()

    def points(make: Callable[[], Runtime], *, judged: bool = False) -> Callable[[], float]:
        return lambda: rate(make(), judged=judged, seconds=seconds, scenario=scenario)[2]

    return [
        compare("controlled / threads, points a second", points(_controlled), points(_threads), repeats),
        compare("controlled, checks off / on", points(_controlled), points(_controlled, judged=True), repeats),
        compare("threads, checks off / on", points(_threads), points(_threads, judged=True), repeats),
        compare("sequential / controlled (random)", points(SequentialRuntime), points(_controlled), repeats),
        compare("threads that never yield / that do", points(_threads_unyielding), points(_threads), repeats),
    ]


def figures(executions: int) -> Table:
    """Per vm_unmap_aliases call and version, what is flushed and owed, and how long the purge lock is held,
    single-task and concurrent.
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
    for version in versions.BUILT_IN:
        for name, scenario in (("1", alone), ("4 + 1", small)):
            engine = Engine(
                RunSpec(version=version, runtime=CONTROLLED, scenario=scenario, schedules=executions, seed=SEED), None
            )
            while not engine.is_over(0.0):
                engine.step()
            metrics = engine.finish().metrics
            calls = max(1, metrics["unmap_aliases_calls"])
            held = metrics["purge_lock_hold_points_total"] / max(1, metrics["purge_lock_holds"])
            per_call = [
                metrics[key] / calls
                for key in ("flushed_pages", "owed_pages", "excess_pages", "reflushed_pages", "double_counted_blocks")
            ]
            table.add_row(version, name, *(f"{value:.2f}" for value in per_call), f"{held:.1f}")
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
                    hits.setdefault(f"{finding.check}: {finding.mechanism.split(' | ', 2)[2]}", []).append(
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


def main() -> None:
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(prog="python -m stressvmap.stress.bench", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="how often each ratio is measured (default 5)")
    parser.add_argument("--seconds", type=float, default=1.5, help="how long each side of a ratio runs (default 1.5)")
    parser.add_argument(
        "--figures", type=int, metavar="N", help="instead: what each version flushes and owes, over N executions"
    )
    parser.add_argument(
        "--first-hits", type=int, metavar="SEEDS", help="instead: executions to the first violation, over SEEDS seeds"
    )
    options = parser.parse_args()
    console = Console()
    if options.figures:
        console.print(figures(options.figures))
        return
    if options.first_hits:
        console.print(first_hits(options.first_hits, 200))
        return
    rates = Table("runtime", "executions/s", "operations/s", "points/s", title="this machine, now")
    for name, make in (("threads", _threads), ("controlled", _controlled), ("sequential", SequentialRuntime)):
        rates.add_row(
            name,
            *(f"{value:,.0f}" for value in rate(make(), judged=False, seconds=options.seconds, scenario=Scenario())),
        )
    console.print(rates)
    table = Table("ratio", "median", "spread", title=f"{options.repeats} repeats of {options.seconds} s in turn")
    for measure in ratios(options.repeats, options.seconds):
        table.add_row(*measure.row())
    console.print(table)


if __name__ == "__main__":
    main()
