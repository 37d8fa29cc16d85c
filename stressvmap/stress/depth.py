# SPDX-License-Identifier: GPL-2.0-only
"""A bug of depth 3 with nothing around it: where PCT beats the random walk, with PCT's bound beside the measured rate.

    task 1                      task 2
    flag = 1
                                ... far ...
                                saw = (flag == 1)
    flag = 2
    ... far ...
    flag = 3
                                if saw and flag == 3: the bug

Between `flag = 1` and `flag = 2` of task 1, and between the two reads of task 2, lie `window` points: in the first one
task 2 has to go all its way, in the second one task 1. A walk that tosses a coin at each point has left the window
long before. `python -m stressvmap.stress.depth` prints the table of docs/strategies.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from stressvmap.errors import ConfigError
from stressvmap.journal.events import READ, WRITE
from stressvmap.runtime.runtime import Runtime
from stressvmap.runtime.strategy import Strategy
from stressvmap.runtime.task import Task
from stressvmap.sched.controlled import ControlledRuntime
from stressvmap.sched.portfolio import make_strategy
from stressvmap.sched.random import RandomStrategy

FLAG: Final = 1
TASKS: Final = 2
DEPTH: Final = 3


@dataclass(frozen=True, slots=True)
class FarWindows:
    """The program: sizes in points."""

    window: int = 5
    far: int = 80

    def run(self, runtime: ControlledRuntime, strategy: Strategy, execution: int) -> bool:
        """Whether that execution of `strategy` shows the bug."""
        strategy.begin(execution)
        runtime.reset()
        runtime.strategy = strategy
        flag = 0
        found = False

        def first() -> None:
            nonlocal flag
            for value, pause in ((1, self.window), (2, self.far), (3, 0)):
                runtime.point(WRITE, FLAG, "flag")
                flag = value
                _pause(runtime, pause)

        def second() -> None:
            nonlocal found
            _pause(runtime, self.far)
            runtime.point(READ, FLAG, "flag")
            saw = flag == 1
            _pause(runtime, self.window)
            runtime.point(READ, FLAG, "flag")
            found = saw and flag == 3

        for number, body in enumerate((first, second), 1):
            runtime.spawn(Task(number, f"task/{number}", number, body))
        runtime.run()
        return found

    @property
    def points(self) -> int:
        """k: all executions are that long."""
        return 2 * (self.window + self.far) + 5

    @property
    def bound(self) -> float:
        """PCT's, with its depth the bug's: the least share of its executions that show the bug."""
        return float(1 / (TASKS * self.points ** (DEPTH - 1)))


def hits(program: FarWindows, text: str, executions: int, seed: int = 1) -> int:
    """How many of the first `executions` of a strategy show the bug."""
    strategy = make_strategy(text, seed)
    strategy.calibrate([program.points] * strategy.calibration)
    runtime = ControlledRuntime(RandomStrategy(0))
    found = sum(program.run(runtime, strategy, execution) for execution in range(executions))
    runtime.close()
    return found


def _pause(runtime: Runtime, points: int) -> None:
    for _ in range(points):
        runtime.point(0, 0, "pause")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m stressvmap.stress.depth", description=__doc__)
    parser.add_argument("--executions", type=int, default=20_000, help="of each strategy (default %(default)s)")
    parser.add_argument("--strategies", default="random,sticky:0.9,sticky:0.97,pct:2,pct:3,pct:4,switch-points:5,pos")
    options = parser.parse_args(arguments)
    try:
        for text in options.strategies.split(","):
            make_strategy(text, 1)
        if options.executions < 1:
            raise ConfigError("executions: there is at least 1")
    except ConfigError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    program = FarWindows()
    print(f"k = {program.points}, n = {TASKS}; PCT's bound for depth {DEPTH}: {program.bound:.1e}")
    print(f"\n| strategy | hits of {options.executions} | rate |\n|---|---|---|")
    for text in options.strategies.split(","):
        found = hits(program, text, options.executions)
        print(f"| {text} | {found} | {found / options.executions:.1e} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
