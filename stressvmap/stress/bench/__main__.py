# SPDX-License-Identifier: GPL-2.0-only
"""`python -m stressvmap.stress.bench`: prints the tables asked for. Its exit status says only whether it ran."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from stressvmap.scenario import Scenario
from stressvmap.stress.bench import figures, memory, speed
from stressvmap.stress.bench.ratio import Ratio
from stressvmap.stress.garbage import collect_rarely
from stressvmap.vmalloc import versions

LENGTHS = (10_000, 100_000, 1_000_000)
LONGEST = 10_000_000
CPUS = (2, 4, 8, 16, 32, 64)


def ratios(repeats: int, seconds: float, lengths: tuple[int, ...] = LENGTHS) -> Iterator[Ratio]:
    """All that is measured of speed, as it comes."""
    yield speed.baton_honesty(repeats)
    for strategy, mark in (("random", 7.0), ("sticky", 2.5)):
        for where, scenario in (("fill-block", speed.EVERYBODY_BUSY), ("mixed", Scenario())):
            yield speed.against_baton(strategy, scenario, where, mark, repeats, seconds)
    yield speed.cost_of_checks("random", repeats, seconds)
    yield speed.cost_of_checks("sticky", repeats, seconds)
    yield speed.floor("random", repeats)
    yield speed.floor("sticky", repeats)
    yield speed.by_length(lengths, min(repeats, 3))
    yield speed.by_cpus(CPUS, min(repeats, 3))
    yield speed.jobs(repeats, 2 * seconds)
    yield speed.against_threads(repeats, seconds)
    yield speed.against_sequential(repeats, seconds)


def main() -> None:
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(prog="python -m stressvmap.stress.bench", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="how often each ratio is measured (default 5)")
    parser.add_argument("--seconds", type=float, default=0.5, help="how long each side of a ratio runs (default 0.5)")
    parser.add_argument("--longest", action="store_true", help="runs of 10,000,000 points too (minutes)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument(
        "--memory", type=int, metavar="N", help="instead: what N executions in one process leave behind"
    )
    parser.add_argument(
        "--long-run", type=int, metavar="POINTS", help="instead: the memory that one execution of so many points takes"
    )
    parser.add_argument("--strategy", default="random", metavar="S", help="of --long-run (default: random)")
    parser.add_argument(
        "--figures", type=int, metavar="N", help="instead: what each version flushes and owes, over N executions"
    )
    parser.add_argument(
        "--version", action="append", metavar="V", help="of --figures: these instead of all built-in ones (repeatable)"
    )
    parser.add_argument(
        "--first-hits", type=int, metavar="SEEDS", help="instead: executions to the first violation, over SEEDS seeds"
    )
    options = parser.parse_args()
    console = Console()
    if options.figures:
        console.print(figures.figures(options.figures, options.version or tuple(versions.BUILT_IN)))
    elif options.first_hits:
        console.print(figures.first_hits(options.first_hits, 200))
    elif options.memory:
        _show_memory(console, options.memory, as_json=options.json)
    elif options.long_run:
        _show_long_execution(console, memory.one_long_execution(options.long_run, options.strategy))
    else:
        lengths = (*LENGTHS, LONGEST) if options.longest else LENGTHS
        _show_speed(console, options.repeats, options.seconds, lengths, as_json=options.json)


def _show_long_execution(console: Console, found: memory.LongExecution) -> None:
    console.print(f"{found.points:,} points, {found.events:,} events, {found.switches:,} switches; KiB grown by then:")
    for part, kib in (
        ("program drawn", found.drawn_kib),
        ("run", found.run_kib),
        ("judged", found.judged_kib),
        ("counted for the coverage", found.counted_kib),
    ):
        console.print(f"  {part:25} {kib:10,}")


def _show_memory(console: Console, executions: int, *, as_json: bool) -> None:
    found = memory.footprints(executions)
    if as_json:
        print(json.dumps({"memory": [footprint.as_dict() for footprint in found]}))
        return
    table = Table("executions", "resident KiB", "objects", "greenlets", title="held by one process")
    for footprint in found:
        table.add_row(*(f"{value:,}" for value in footprint.as_dict().values()))
    console.print(table)


def _show_speed(console: Console, repeats: int, seconds: float, lengths: tuple[int, ...], *, as_json: bool) -> None:
    collect_rarely()  # as the processes of a run do
    if as_json:
        print(json.dumps(_speed_as_dict(repeats, seconds, lengths)))
        return
    rates = Table("runtime", "executions/s", "operations/s", "points/s", title="this machine, now")
    for name, make in speed.RUNTIMES.items():
        rate = speed.rate(make, Scenario(), seconds=seconds, clock=speed.WALL)
        rates.add_row(name, *(f"{value:,.0f}" for value in (rate.executions, rate.operations, rate.points)))
    console.print(rates)
    table = Table("ratio", "median", "spread", "mark", "", title=f"{repeats} repeats in turn")
    with console.status("measuring, some minutes") as status:
        for ratio in ratios(repeats, seconds, lengths):
            table.add_row(*ratio.row())
            status.update(f"measured: {ratio.name}")
    console.print(table)


def _speed_as_dict(repeats: int, seconds: float, lengths: tuple[int, ...]) -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "cpus": len(os.sched_getaffinity(0)),
        "rates": {
            name: asdict(speed.rate(make, Scenario(), seconds=seconds, clock=speed.WALL))
            for name, make in speed.RUNTIMES.items()
        },
        "ratios": [ratio.as_dict() for ratio in ratios(repeats, seconds, lengths)],
    }


if __name__ == "__main__":
    main()
