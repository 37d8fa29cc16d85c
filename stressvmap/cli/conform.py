# SPDX-License-Identifier: GPL-2.0-only
"""`stressvmap tree conform`: does a model version do what a kernel tree's C does?"""

from __future__ import annotations

import statistics
import sys
from typing import Annotated, Any, Final

import typer

from stressvmap.cli.interrupt import Interrupt
from stressvmap.cli.options import Json, Quiet, Verbose
from stressvmap.cli.output import complain, print_object, print_raw, start_log
from stressvmap.errors import STOPPED_STATUS
from stressvmap.result import SCHEMA
from stressvmap.scenario import Scenario
from stressvmap.stress.conform import Conformance, Pair, Seen, conform, side_by_side
from stressvmap.tree.version import is_tree

_DEFAULT: Final = Scenario(cpus=2, window_blocks=6, lazy_max=16)
PROGRAMS: Final = 1000
PROGRESS_EVERY: Final = 100


def conform_command(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="A version of the model, as v6.1.")],
    tree: Annotated[str, typer.Argument(metavar="TREE", help="tree:PATH, or another version.")],
    programs: Annotated[
        int, typer.Option(metavar="N", help="Programs of one task to compare, event by event.")
    ] = PROGRAMS,
    schedules: Annotated[
        int,
        typer.Option(
            metavar="N", help="Then schedules of the model, ten times as many of the tree; 0: no such comparison."
        ),
    ] = 0,
    cpus: Annotated[int, typer.Option(metavar="N", help="Simulated CPUs.")] = _DEFAULT.cpus,
    block_bits: Annotated[int, typer.Option(metavar="N", help="Pages of a vmap block.")] = _DEFAULT.block_bits,
    seed: Annotated[int, typer.Option(metavar="N", help="Decides all programs and schedules.")] = 1,
    jobs: Annotated[int, typer.Option(metavar="N", help="Processes for the schedules.")] = 1,
    json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> int:
    """Drive a model version and a kernel tree with the same programs, and compare what callers and CPUs see.

    Addresses, failures, page-table entries, flush ranges, what is lazy and free in the end: event by event. A
    difference is shrunk and shown side by side. Exit status: 0 they agree, 1 they differ, 2 bad input, 130 stopped.

    \b
    Example
        stressvmap tree conform v6.1 tree:~/linux-6.1
    Example: under concurrency as well: a fingerprint seen often on one side must appear on the other
        stressvmap tree conform v6.12 tree:~/linux-6.12 --schedules 100000 --jobs 2
    """
    start_log(verbose, is_quiet=quiet)
    scenario = Scenario(
        cpus=cpus,
        block_bits=block_bits,
        max_alloc=min(_DEFAULT.max_alloc, block_bits // 2),
        window_blocks=_DEFAULT.window_blocks,
        lazy_max=2 * block_bits,
    )
    scenario.validate()
    names = (version, tree)
    pair = Pair(version, tree if is_tree(tree) or not _is_path(tree) else f"tree:{tree}", scenario)

    def progress(told: Conformance) -> None:
        if not quiet and told.programs % PROGRESS_EVERY == 0:
            print(f"\r{told.programs} programs agree", end="", file=sys.stderr, flush=True)

    told = conform(pair, programs, seed, progress=progress)
    pair.close()
    if not quiet and told.programs >= PROGRESS_EVERY:
        print(file=sys.stderr)
    seen: list[Seen] = []
    interrupt = Interrupt()
    if schedules and told.difference is None:
        with interrupt:
            seen = side_by_side(pair.names, scenario, schedules, seed, jobs=jobs, stop=interrupt)
    status = 1 if told.difference is not None or any(one.is_missing for one in seen) else 0
    if interrupt.count:
        status = STOPPED_STATUS
    if json:
        print_object(_object(names, told, seen, status))
    else:
        print_raw(_lines(pair.names, told, seen))
    return status


def _is_path(text: str) -> bool:
    return "/" in text


def _object(names: tuple[str, str], told: Conformance, seen: list[Seen], status: int) -> dict[str, Any]:
    difference = None
    if told.difference is not None:
        difference = {
            "program": told.difference.program.as_dict(),
            "at": told.difference.at,
            "first": told.difference.first,
            "second": told.difference.second,
        }
    return {
        "schema": SCHEMA,
        "command": "tree conform",
        "exit_status": status,
        "versions": list(names),
        "programs": told.programs,
        "operations_median": statistics.median(told.operations) if told.operations else 0,
        "reached": dict(sorted(told.reached.items())),
        "difference": difference,
        "fingerprints": [
            {
                "check": one.check,
                "fingerprint": one.fingerprint,
                "mechanism": one.mechanism,
                "counts": list(one.counts),
                "is_missing": one.is_missing,
            }
            for one in seen
        ],
    }


def _lines(names: tuple[str, str], told: Conformance, seen: list[Seen]) -> list[str]:
    if told.difference is not None:
        return [f"{names[0]} and {names[1]} differ, on the smallest program found:", told.difference.text(names)]
    median = statistics.median(told.operations) if told.operations else 0
    reached = ", ".join(f"{what} {count}" for what, count in sorted(told.reached.items()))
    lines = [
        f"{told.programs} programs agree event by event ({median:g} operations in the median)",
        f"    of them met: {reached}",
    ]
    for one in seen:
        mark = "missing" if one.is_missing else ""
        lines.append(f"    {one.counts[0]:>8} {one.counts[1]:>8} {mark:8}{one.mechanism} [{one.fingerprint}]")
    if any(one.is_missing for one in seen):
        complain("a fingerprint that one side shows often never appears on the other")
    return lines
