# SPDX-License-Identifier: GPL-2.0-only
"""Speed on kernel trees, as ratios within one run: `python -m stressvmap.stress.bench.trees`.

Against the engine alone, a C loop over one program under a fixed built-in plan with nobody looking, stand: strategies
in Python with screening; the same without; and the engine itself against the same code with empty callbacks. Processor
time, so a busy machine disturbs less.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final

from rich.console import Console
from rich.table import Table

from stressvmap.errors import StressVmapError
from stressvmap.program import Program
from stressvmap.runtime.strategy import Strategy
from stressvmap.scenario import Scenario
from stressvmap.sched.delegate import InTurn
from stressvmap.sched.portfolio import make_strategy
from stressvmap.stress import subject
from stressvmap.stress.bench.ratio import AT_LEAST, AT_MOST, Mark, Ratio, compare
from stressvmap.stress.bench.speed import jobs
from stressvmap.stress.engine import AHEAD
from stressvmap.stress.execution import Executor
from stressvmap.stress.tree_study import DENSE, tree_named
from stressvmap.stress.workloads import draw
from stressvmap.tree.backend import TreeBackend

RELEASES: Final = ("6.1", "6.12")
PROGRAMS: Final = 200
STRATEGIES: Final = ("switch-points", "sticky", "pct", "random", "pos", "round-robin", "mixed")
ASKED: Final = ("pct", "pos")
MARKS: Final = {
    "switch-points": Mark(AT_LEAST, 0.6),
    "sticky": Mark(AT_LEAST, 0.6),
    "pct": Mark(AT_LEAST, 0.1),
}
BARE_MARK: Final = Mark(AT_MOST, 3.0)
JOBS_SECONDS: Final = 4.0
"""Of each run that two processes share."""
SWITCHES: Final = 5
"""Of the engine's own plan."""


class Asked(InTurn):
    """A strategy that tells nothing in advance."""

    def __init__(self, strategy: Strategy) -> None:
        super().__init__([strategy])

    def plan(self, execution: int) -> None:
        """None, always."""


class Bench:
    """One tree, ready to run."""

    def __init__(self, version: str, scenario: Scenario) -> None:
        self.version = version
        self.executor = Executor(subject.load(version), scenario)
        assert isinstance(self.executor.backend, TreeBackend)
        self.backend = self.executor.backend
        self.programs = [draw(scenario, 1, number) for number in range(PROGRAMS)]
        self.strategies = {name: self._strategy(name) for name in STRATEGIES}
        self._next = 0

    def _strategy(self, name: str) -> Strategy:
        made = make_strategy(name, 1)
        self.executor.calibrate(made, self.programs)
        return made

    def through_python(self, name: str, runs: int) -> float:
        """Runs a second of processor time, each another program, screened: as `stress` makes them."""
        strategy, executor = self.strategies[name], self.executor
        ahead: deque[bytes] = deque()
        started = time.process_time()
        left, reach = runs, 1
        while left:
            while len(ahead) < min(left, AHEAD):
                job = executor.job(self._program(), strategy, execution=self._next)
                assert job is not None
                ahead.append(job)
            count = executor.run_jobs(tuple(islice(ahead, reach))).runs
            reach = min(AHEAD, 2 * count)
            for _ in range(count):
                ahead.popleft()
            left -= count
        return runs / (time.process_time() - started)

    def asked(self, name: str, runs: int) -> float:
        """The same under a strategy that is asked at each decision."""
        strategy = Asked(self.strategies[name])
        started = time.process_time()
        for _ in range(runs):
            self.executor.run_unseen(self._program(), strategy, execution=self._next)
            _ = self.backend.flags
        return runs / (time.process_time() - started)

    def unscreened(self, name: str, runs: int) -> float:
        """The same as `through_python`, one by one, and nobody looks at what happened."""
        strategy = self.strategies[name]
        started = time.process_time()
        for _ in range(runs):
            self.executor.run_unseen(self._program(), strategy, execution=self._next)
        return runs / (time.process_time() - started)

    def _program(self) -> Program:
        self._next += 1
        return self.programs[self._next % PROGRAMS]

    def engine_alone(self, runs: int, *, is_bare: bool = False) -> float:
        """Runs a second of one program after the other, a share of the runs each."""
        share = max(1, runs // PROGRAMS)
        spent = 0.0
        for program in self.programs:
            self.backend.library.set_bare(is_bare)
            self.backend.reset(program)
            started = time.process_time()
            self.backend.library.bench(share, SWITCHES)
            spent += time.process_time() - started
        self.backend.library.set_bare(False)
        return share * PROGRAMS / spent


def ratios(bench: Bench, runs: int, repeats: int) -> Iterator[Ratio]:
    """All of them, one after the other."""

    def alone() -> float:
        return bench.engine_alone(runs)

    def side(run: Callable[[str, int], float], name: str, runs: int) -> Callable[[], float]:
        return lambda: run(name, runs)

    for name in STRATEGIES:
        told = f"{name}, screened / engine alone"
        yield compare(told, side(bench.through_python, name, runs), alone, repeats, MARKS.get(name))
    for name in ASKED:
        told = f"{name}, asked at each decision, screened / engine alone"
        yield compare(told, side(bench.asked, name, max(1, runs // 20)), alone, repeats)
    for name in STRATEGIES[:2]:
        told = f"{name}, one by one, not screened / engine alone"
        yield compare(told, side(bench.unscreened, name, runs), alone, repeats)
    yield jobs(repeats, JOBS_SECONDS, bench.version, "mixed", DENSE)
    yield compare(
        "empty callbacks / engine alone", lambda: bench.engine_alone(runs, is_bare=True), alone, repeats, BARE_MARK
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables. Exit status: 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000, help="of each side of each ratio")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--points", choices=("all", "marked"), default="all")
    options = parser.parse_args(arguments)
    console = Console(soft_wrap=True, highlight=False)
    try:
        for release in RELEASES:
            bench = Bench(f"{tree_named(release)}?points={options.points}", DENSE)
            rate = bench.engine_alone(options.runs)
            bench.through_python("sticky", PROGRAMS)  # so that screening knows types and locks
            points = bench.executor.runtime.points
            table = Table("ratio", "median", "spread", "mark", "", title=f"{release}, points: {options.points}")
            for ratio in ratios(bench, options.runs, options.repeats):
                table.add_row(*ratio.row())
            console.print(f"{release}: the engine alone runs {rate:,.0f} a second; the last had {points:,} points")
            console.print(table)
    except StressVmapError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
