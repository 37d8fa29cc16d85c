# SPDX-License-Identifier: GPL-2.0-only
"""Which strategy finds which known bug, and after how many schedules: `python -m stressvmap.stress.corpus`.

The bugs are the kernel's own, where a version has them, and planted ones. Each has a scenario, small so that the
measurement is quick: what is measured is the strategies, one against the other, not how soon a stress run finds it.
"""

from __future__ import annotations

import argparse
import math
import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Final

from stressvmap.errors import ConfigError
from stressvmap.journal.journal import Journal
from stressvmap.known import Known
from stressvmap.program import ALIASES, MAP, PAUSE, UNMAP, Program, ProgramOp, TaskProgram
from stressvmap.runtime.strategy import Strategy
from stressvmap.scenario import Scenario
from stressvmap.sched.pct import PctStrategy
from stressvmap.sched.portfolio import make_strategy
from stressvmap.stress.execution import Executor
from stressvmap.stress.judge import Judge
from stressvmap.stress.workloads import draw
from stressvmap.vmalloc import planted
from stressvmap.vmalloc.base import Vmalloc
from stressvmap.vmalloc.known import DYING_BLOCK, FULL_BLOCK, UNLOCKED_RANGE, WRONG_QUEUE
from stressvmap.vmalloc.rfc_3of3 import Rfc3of3
from stressvmap.vmalloc.v6_4 import V6_4
from stressvmap.vmalloc.v6_5 import V6_5

STALE: Final = "stale-after-unmap-aliases"
UNLOCKED: Final = "range-computed-unlocked"

SMALL: Final = Scenario(
    workload="mixed",
    cpus=2,
    block_bits=8,
    max_alloc=4,
    operations=8,
    flushers=1,
    flushes=2,
    large_rate=0.0,
    vmalloc_rate=0.0,
    fault_rate=0.0,
    migration_rate=0.0,
    witness=False,
    steps_max=20_000,
)


@dataclass(frozen=True, slots=True)
class Bug:
    """A bug to be found: in which version, under which scenario, and what counts as found."""

    name: str
    title: str
    version: type[Vmalloc]
    scenario: Scenario
    check: str
    """The check that fires."""
    fingerprints: frozenset[str] = frozenset()
    """Any of these; empty: any that the version, or the one it was planted in, does not declare."""
    program: Program | None = None
    """The same in each execution; None: drawn, another in each."""

    def is_found(self, judge: Judge, journal: Journal) -> bool:
        """Whether an execution shows it."""
        declared = {known.fingerprint for known in self.version.known}
        return any(
            found.check == self.check
            and (found.fingerprint in self.fingerprints if self.fingerprints else found.fingerprint not in declared)
            for found in judge.execution(journal).violations
        )

    def program_of(self, seed: int, execution: int) -> Program:
        """The program of an execution."""
        return self.program or draw(self.scenario, seed, execution)


def _of(known: Sequence[Known]) -> frozenset[str]:
    return frozenset(entry.fingerprint for entry in known)


_FILL_BLOCK: Final = replace(SMALL, workload="fill-block")
_CHURN: Final = replace(SMALL, workload="churn", flushers=2, flushes=3)


def _task(cpu: int, *ops: ProgramOp) -> TaskProgram:
    return TaskProgram(cpu, ops)


_WRONG_QUEUE_PROGRAM: Final = Program(
    (
        # The second block hashes to CPU 1's bucket; it is dirty but for a page when CPU 1 purges it off "its" list.
        _task(
            0,
            *(ProgramOp(MAP, slot, pages) for slot, pages in enumerate((4, 4, 4, 2, 1))),
            *(ProgramOp(UNMAP, slot) for slot in (2, 3, 4)),
            ProgramOp(MAP, 5, 4),
            ProgramOp(MAP, 6, 4),
        ),
        _task(1, ProgramOp(PAUSE, 0, 100), ProgramOp(ALIASES)),
    )
)
_DEPTH_3_PROGRAM: Final = Program(
    (
        _task(0, ProgramOp(MAP, 0, 1), ProgramOp(UNMAP, 0), ProgramOp(ALIASES)),
        _task(1, ProgramOp(MAP, 1, 1), ProgramOp(UNMAP, 1), ProgramOp(ALIASES)),
    )
)

BUGS: Final[dict[str, Bug]] = {
    bug.name: bug
    for bug in (
        Bug("full-block", "v6.4: a fully used block is missed", V6_4, SMALL, STALE, _of(FULL_BLOCK)),
        Bug("full-block-rfc", "RFC 3/3: the same", Rfc3of3, SMALL, STALE, _of(FULL_BLOCK)),
        Bug("unlocked-range", "v6.4: ranges read without the mutex", V6_4, SMALL, UNLOCKED, _of(UNLOCKED_RANGE)),
        Bug("dying-block", "v6.5: debts of a dying block", V6_5, _FILL_BLOCK, STALE, _of(DYING_BLOCK)),
        Bug(
            "wrong-queue",
            "v6.5: a list changed under another's lock",
            V6_5,
            SMALL,
            "list-corruption",
            _of(WRONG_QUEUE),
            _WRONG_QUEUE_PROGRAM,
        ),
        Bug("walks-dying-blocks", "before v5.13", planted.WalksDyingBlocks, _CHURN, "use-after-free"),
        Bug("no-grace-period", "kfree for kfree_rcu", planted.FreesWithoutGracePeriod, _CHURN, "use-after-free"),
        Bug(
            "releases-mutex",
            "the mutex is let go before the flush",
            planted.ReleasesMutexBeforeFlush,
            replace(SMALL, flushers=2, flushes=3),
            STALE,
        ),
        Bug(
            "merges-before-flush",
            "areas are given back first",
            planted.MergesBeforeFlush,
            replace(SMALL, vmalloc_rate=0.5, lazy_max=4),
            "reuse-before-flush",
        ),
        Bug(
            "depth-3",
            "three steps of two tasks in one order",
            planted.SkipsIfNothingIsNew,
            SMALL,
            STALE,
            program=_DEPTH_3_PROGRAM,
        ),
    )
}
COMPARED: Final = (
    "mixed",
    "switch-points:5",
    "switch-points:10",
    "sticky:0.9",
    "sticky:0.97",
    "pct:3",
    "pos",
    "surw",
    "random",
    "round-robin",
)
"""What is compared by default, and in docs/strategies.md."""


class Hunt:
    """One strategy after one bug."""

    def __init__(self, bug: Bug, strategy: str) -> None:
        self.bug = bug
        self.text = strategy
        self.executor = Executor(bug.version, bug.scenario)
        self.points = 0
        """Of all executions since it was made."""
        self._judge = Judge(only=(bug.check,))

    def strategy(self, seed: int) -> Strategy:
        """The strategy, calibrated for that seed."""
        made = make_strategy(self.text, seed)
        self.executor.calibrate(made, [self.bug.program_of(seed, number) for number in range(made.calibration)])
        return made

    def run(self, strategy: Strategy, seed: int, execution: int) -> bool:
        """Whether that execution shows the bug."""
        done = self.executor.run(self.bug.program_of(seed, execution), strategy, seed=seed, execution=execution)
        self.points += done.points
        return self.bug.is_found(self._judge, done.journal)

    def first_hit(self, seed: int, cap: int) -> int | None:
        """How many executions it took, counted from 1, or None if `cap` were not enough."""
        strategy = self.strategy(seed)
        return next((number + 1 for number in range(cap) if self.run(strategy, seed, number)), None)


@dataclass(frozen=True, slots=True)
class Cell:
    """Executions to the first hit of one bug by one strategy, by seed; None: not within `cap`."""

    bug: str
    strategy: str
    cap: int
    hits: tuple[int | None, ...]

    def quantile(self, share: float) -> int | None:
        """The smallest number of executions within which that share of the seeds had hit; None: above the cap."""
        ordered = sorted(self.cap + 1 if hit is None else hit for hit in self.hits)
        value = ordered[max(0, math.ceil(share * len(ordered)) - 1)]
        return None if value > self.cap else value

    def text(self) -> str:
        """Median (quartiles), and how many seeds hit if not all."""
        median, low, high = (self.quantile(share) for share in (0.5, 0.25, 0.75))
        found = sum(hit is not None for hit in self.hits)
        if not found:
            return f"> {self.cap}, 0/{len(self.hits)}"
        shown = [f"> {self.cap}" if value is None else str(value) for value in (median, low, high)]
        return f"{shown[0]} ({shown[1]}..{shown[2]})" + (f", {found}/{len(self.hits)}" if None in self.hits else "")


def measure(bug: str, strategy: str, seeds: int, cap: int) -> Cell:
    """First hits for seeds 1..seeds."""
    hunt = Hunt(BUGS[bug], strategy)
    hits = tuple(hunt.first_hit(seed, cap) for seed in range(1, seeds + 1))
    hunt.executor.close()
    return Cell(bug, strategy, cap, hits)


def hits_table(cells: Sequence[Cell]) -> str:
    """A Markdown table, a row a strategy, a column a bug, and the geometric mean of the medians: a cap where there is
    none.
    """
    bugs = list(dict.fromkeys(cell.bug for cell in cells))
    by_strategy: dict[str, dict[str, Cell]] = {}
    for cell in cells:
        by_strategy.setdefault(cell.strategy, {})[cell.bug] = cell
    rows = []
    for strategy, row in by_strategy.items():
        medians = [cell.quantile(0.5) or cell.cap for cell in row.values()]
        texts = [row[bug].text() if bug in row else "" for bug in bugs]
        rows.append([strategy, *texts, f"{statistics.geometric_mean(medians):.0f}"])
    return _markdown(["strategy", *bugs, "mean"], rows)


def rates_table(bug: Bug, strategies: Sequence[str], executions: int, progress: Callable[[str], None]) -> str:
    """A Markdown table: which share of `executions` with seed 1 shows the bug, with a 95 % interval, and PCT's bound
    for a bug of depth 3 beside it.
    """
    rows = []
    for text in strategies:
        progress(f"{bug.name}, {text}")
        hunt = Hunt(bug, text)
        strategy = hunt.strategy(1)
        hunt.points = 0
        found = sum(hunt.run(strategy, 1, number) for number in range(executions))
        tasks = len(hunt.executor.runtime.tasks)
        hunt.executor.close()
        low, high = _wilson(found, executions)
        mean = hunt.points / executions
        bound = f"{1 / (tasks * mean ** (strategy.depth - 1)):.1e}" if isinstance(strategy, PctStrategy) else ""
        rate = [f"{found / executions:.1e}", f"{low:.1e} .. {high:.1e}"]
        rows.append([text, str(found), *rate, bound, f"{mean:.0f}", str(tasks)])
    heads = ["strategy", f"hits of {executions}", "rate", "95 % interval", "1/(n k^(d-1))", "k", "n"]
    return _markdown(heads, rows)


def speeds_table(strategies: Sequence[str], seconds: float, repeats: int, progress: Callable[[str], None]) -> str:
    """A Markdown table: executions and points a second of each strategy as ratios to the random walk run just before
    it, nothing judged; median and spread over `repeats`.
    """
    rows = []
    for text in strategies:
        ratios: list[tuple[float, float]] = []
        for _ in range(repeats):
            progress(f"speed of {text}")
            base, mine = _speed("random", seconds), _speed(text, seconds)
            ratios.append((mine[0] / base[0], mine[1] / base[1]))
        columns = []
        for values in zip(*ratios, strict=True):
            columns.append(f"{statistics.median(values):.2f} ({min(values):.2f}..{max(values):.2f})")
        rows.append([text, *columns])
    return _markdown(["strategy", "executions/s", "points/s"], rows)


def _speed(text: str, seconds: float) -> tuple[float, float]:
    """Executions and points a second of processor time, drawing of programs included; a trial run's points are not
    counted, its time is.
    """
    hunt = Hunt(BUGS["full-block"], text)
    strategy = hunt.strategy(1)
    executions = points = 0
    started = time.process_time()
    while (spent := time.process_time() - started) < seconds:
        points += hunt.executor.run(hunt.bug.program_of(1, executions), strategy, execution=executions).points
        executions += 1
    hunt.executor.close()
    return executions / spent, points / spent


def _wilson(found: int, of: int) -> tuple[float, float]:
    """The Wilson score interval of a share, at 95 %."""
    z = 1.959964
    share = found / of
    middle = share + z * z / (2 * of)
    half = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return max(0.0, (middle - half) / (1 + z * z / of)), (middle + half) / (1 + z * z / of)


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _names(text: str, there: Sequence[str], what: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in there:
            raise ConfigError(f"{what}: {name!r} is not one of {', '.join(there)}")
    return names


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _pool(jobs: int) -> ProcessPoolExecutor:
    """Workers that a Ctrl-C ends without a word: the parent has the last one."""
    return ProcessPoolExecutor(jobs, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_DFL))


def _hunt_all(bugs: Sequence[str], strategies: Sequence[str], seeds: int, cap: int, jobs: int) -> list[Cell]:
    """All pairs; Ctrl-C ends it with those that are done."""
    pairs = [(bug, strategy) for strategy in strategies for bug in bugs]
    cells: list[Cell] = []
    with _pool(jobs) if jobs > 1 else nullcontext() as pool:
        try:
            pending = [pool.submit(measure, *pair, seeds, cap) for pair in pairs] if pool else []
            for number, pair in enumerate(pairs):
                started = time.monotonic()
                cell = pending[number].result() if pool else measure(*pair, seeds, cap)
                cells.append(cell)
                seconds = time.monotonic() - started
                _progress(f"{number + 1}/{len(pairs)} {pair[1]}, {pair[0]}: {cell.text()} ({seconds:.1f} s)")
        except (KeyboardInterrupt, BrokenProcessPool) as why:  # a Ctrl-C reaches the workers too, perhaps first
            if pool:
                pool.shutdown(cancel_futures=True)
            _progress(f"stopped ({type(why).__name__}); what is done:")
    return cells


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table asked for."""
    parser = argparse.ArgumentParser(prog="python -m stressvmap.stress.corpus", description=__doc__)
    parser.add_argument("--bugs", default=",".join(BUGS), help=f"of {', '.join(BUGS)} (default: all)")
    parser.add_argument("--strategies", default=",".join(COMPARED), help="default: %(default)s")
    parser.add_argument("--seeds", type=int, default=20, help="runs of each pair (default %(default)s)")
    parser.add_argument("--cap", type=int, default=2000, help="schedules after which a run gives up (%(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default %(default)s)")
    parser.add_argument("--rates", type=int, metavar="N", help="instead: the share of N schedules that show a bug")
    parser.add_argument("--speeds", type=float, metavar="SECONDS", help="instead: speed, each side so long, 5 times")
    options = parser.parse_args(arguments)
    try:
        bugs = _names(options.bugs, list(BUGS), "bugs")
        strategies = [text.strip() for text in options.strategies.split(",")]
        for text in strategies:
            make_strategy(text, 1)
        if min(options.seeds, options.cap, options.jobs) < 1 or (options.rates is not None and options.rates < 1):
            raise ConfigError("seeds, cap, jobs and rates are at least 1")
    except ConfigError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    if options.speeds is not None:
        print(speeds_table(strategies, options.speeds, 5, _progress))
    elif options.rates is not None:
        for bug in bugs:
            print(rates_table(BUGS[bug], strategies, options.rates, _progress))
    else:
        cells = _hunt_all(bugs, strategies, options.seeds, options.cap, options.jobs)
        print(hits_table(cells))
        if len(cells) < len(bugs) * len(strategies):
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
