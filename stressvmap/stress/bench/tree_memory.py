# SPDX-License-Identifier: GPL-2.0-only
"""Whether memory grows with the number of schedules of a kernel tree: `python -m stressvmap.stress.bench.tree_memory`.

What a worker process of `stress` does, in this process: draw, run in C, screen, and judge what is flagged.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from stressvmap.config import RunSpec
from stressvmap.errors import StressVmapError
from stressvmap.stress.bench.memory import TINY, resident_kib
from stressvmap.stress.engine import Engine
from stressvmap.stress.tree_study import argued

RELEASE: Final = "6.12"
SCHEDULES: Final = 10_000_000
SAMPLES: Final = 20
WARM: Final = 4
"""Samples at the start that are not compared: programs are drawn, tables grow to the size of the largest run."""
GROWTH_KIB: Final = 2048
"""What the second half may hold more than the first: half a byte a schedule of ten million, and more than what an
allocator gives back late.
"""

Sample = tuple[int, int]
"""Schedules run, KiB resident."""


class Steps(Protocol):
    """What runs schedules."""

    def step_screened(self) -> None:
        """Run some more."""

    @property
    def schedules(self) -> int:
        """Run so far."""


class TreeSteps:
    """The engine of a worker process."""

    def __init__(self, release: str, seed: int) -> None:
        spec = RunSpec(version=argued(release), scenario=TINY, seed=seed, seconds=float("inf"))
        self.engine = Engine(spec, None)

    def step_screened(self) -> None:
        """Run up to the next schedule that is flagged or a sample."""
        self.engine.step_screened()

    @property
    def schedules(self) -> int:
        """Run so far."""
        return self.engine.tally.schedules


def samples(
    steps: Steps, schedules: int, told: Callable[[Sample], None], held: Callable[[], int] = resident_kib
) -> None:
    """Run so many, and tell of memory SAMPLES times, at even distances."""
    for number in range(1, SAMPLES + 1):
        while steps.schedules < schedules * number // SAMPLES:
            steps.step_screened()
        told((steps.schedules, held()))


def growth_kib(found: Sequence[Sample]) -> int:
    """By how much the most that was held in the second half is above the most of the first, after WARM samples."""
    held = [kib for _, kib in found[WARM:]]
    middle = len(held) // 2
    return max(held[middle:]) - max(held[:middle])


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table. Exit status: 0 flat, 1 memory grew, 2 bad input, 130 stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=SCHEDULES)
    parser.add_argument("--release", default=RELEASE, help="of a tree that `make trees` fetched")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    if options.schedules < SAMPLES:
        print(f"tree_memory: --schedules {options.schedules}: at least {SAMPLES}, one a sample", file=sys.stderr)
        return 2
    console, found = Console(soft_wrap=True, highlight=False), list[Sample]()
    started = time.monotonic()
    is_stopped = False
    try:
        steps = TreeSteps(options.release, options.seed)
        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            bar = progress.add_task("", total=options.schedules)

            def told(sample: Sample) -> None:
                found.append(sample)
                progress.update(bar, completed=sample[0])

            samples(steps, options.schedules, told)
    except KeyboardInterrupt:
        is_stopped = True
    except StressVmapError as error:
        print(f"tree_memory: {error}", file=sys.stderr)
        return 2
    seconds = time.monotonic() - started
    table = Table("schedules", "resident KiB", title=f"{options.release}, seed {options.seed}, {seconds:,.0f} seconds")
    for schedules, kib in found:
        table.add_row(f"{schedules:,}", f"{kib:,}")
    console.print(table)
    if is_stopped:
        console.print("stopped before the end: nothing is said of growth")
        return 130
    grown = growth_kib(found)
    console.print(f"second half against first: {grown:+,} KiB (at most {GROWTH_KIB:,})")
    return int(grown > GROWTH_KIB)


if __name__ == "__main__":
    sys.exit(main())
