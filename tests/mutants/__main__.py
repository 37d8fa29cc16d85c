# SPDX-License-Identifier: GPL-2.0-only
"""`python -m tests.mutants`: try all mutants, or go on where the last run stopped; the table goes to standard output.

Each outcome is kept at once in the results file, so Ctrl-C loses only what was being tried.
"""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from stressvmap.vmalloc.versions import BUILT_IN, load
from tests.mutants.building import Mutant, mutants_of
from tests.mutants.results import Result, append, equivalences, rates, read, result_of, table
from tests.mutants.trial import BROKEN, DEFAULT_STRATEGY, KILLED, Outcome, Trial

HANG_SECONDS = 180
RATE_MIN = 0.95
"""Of the mutants that are no equivalents, so many are to be killed."""


class Hung(BaseException):
    """A mutant runs without a scheduling point: nothing else ends it."""


def main() -> int:
    """Run what is left to run, print the table; 0 if of each version enough was killed (RATE_MIN)."""
    options = _options()
    mutants = [mutant for version in options.version or BUILT_IN for mutant in mutants_of(load(version))]
    if options.only:
        mutants = [mutant for mutant in mutants if options.only in mutant.id]
    results = read(options.results, mutants)
    equal = equivalences()
    if not options.report:
        left = [mutant for mutant in mutants if _is_to_be_tried(results.get(mutant.id), mutant.id in equal, options)]
        try:
            _try(left, options)
        except KeyboardInterrupt:
            print("stopped; the same command goes on from here", file=sys.stderr)
            return 130
        results = read(options.results, mutants)
    print(table(mutants, results, equal), end="")
    return int(min(rates(mutants, results, equal).values(), default=0.0) < RATE_MIN)


def _is_to_be_tried(result: Result | None, is_equivalent: bool, options: argparse.Namespace) -> bool:
    if result is None:
        return True
    if result.outcome == KILLED or (is_equivalent and not options.equivalent):
        return False
    return bool(options.retry or result.executions < options.budget)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument(
        "--version", action="append", help="a version's name (repeatable); all built-in ones if not given"
    )
    parser.add_argument("--jobs", type=int, default=1, help="worker processes")
    parser.add_argument("--budget", type=int, default=1500, help="concurrent executions for each mutant, at most")
    parser.add_argument("--strategy", default=DEFAULT_STRATEGY, help="as `stressvmap stress --strategy` takes it")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="only mutants whose id contains this")
    parser.add_argument("--retry", action="store_true", help="try again what nothing killed")
    parser.add_argument("--equivalent", action="store_true", help="also what is argued to be no bug")
    parser.add_argument("--report", action="store_true", help="print the table of what was run, and run nothing")
    parser.add_argument("--results", type=Path, default=Path("logs/mutants.jsonl"), help="where the outcomes are kept")
    return parser.parse_args()


def _try(left: list[Mutant], options: argparse.Namespace) -> None:
    started = time.monotonic()
    done = 0
    for version in dict.fromkeys(mutant.version for mutant in left):
        own = [mutant for mutant in left if mutant.version == version]
        arguments = (version, options.budget, options.strategy, options.seed)
        with multiprocessing.Pool(options.jobs, _begin, arguments) as pool:
            for mutant, outcome in _outcomes(pool, own):
                append(options.results, result_of(mutant, outcome))
                done += 1
                spent = time.monotonic() - started
                print(
                    f"{done}/{len(left)} {spent:.0f} s, about {spent / done * (len(left) - done):.0f} s to go: "
                    f"{outcome.outcome} {outcome.by}: {mutant.id}",
                    file=sys.stderr,
                )


def _outcomes(pool: multiprocessing.pool.Pool, mutants: list[Mutant]) -> Iterator[tuple[Mutant, Outcome]]:
    by_id = {mutant.id: mutant for mutant in mutants}
    for name, outcome in pool.imap_unordered(_try_one, by_id):
        yield by_id[name], outcome


_trial: Trial
_mutants: dict[str, Mutant]


def _begin(version: str, budget: int, strategy: str, seed: int) -> None:
    """A worker process learns its version."""
    global _trial, _mutants
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, _hung)
    cls = load(version)
    _mutants = {mutant.id: mutant for mutant in mutants_of(cls)}
    _trial = Trial(cls, budget, strategy, seed)


def _try_one(name: str) -> tuple[str, Outcome]:
    signal.alarm(HANG_SECONDS)
    try:
        return name, _trial.run(_mutants[name].build())
    except Hung:
        return name, Outcome(BROKEN, "", "runs for ever without a scheduling point")
    finally:
        signal.alarm(0)


def _hung(number: int, frame: FrameType | None) -> None:
    raise Hung


if __name__ == "__main__":
    sys.exit(main())
