# SPDX-License-Identifier: GPL-2.0-only
"""How small does shrinking get? `python -m stressvmap.stress.shrink_study`; its table stands in docs/shrinking.md.

Random failures of several bugs are shrunk, and the median of what is left is set beside a minimum written by hand,
which is run, too: a minimum that does not show its bug proves nothing.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from rich.console import Console

from stressvmap.program import ALIASES, MAP, UNMAP, Program, ProgramOp, TaskProgram
from stressvmap.scenario import Scenario
from stressvmap.sched.follow import FollowStrategy, Leg
from stressvmap.stress.execution import Executor
from stressvmap.stress.failures import NO_DIRTY_MAX, Source, failures, small
from stressvmap.stress.judge import Judge
from stressvmap.stress.replay import saved_from
from stressvmap.stress.schedule_file import SavedSchedule
from stressvmap.stress.shrink import Shrinker, Size
from stressvmap.vmalloc import versions

EXECUTIONS_MAX: Final = 20_000
OFFSETS_MAX: Final = 120


def _map(slot: int, pages: int) -> ProgramOp:
    return ProgramOp(MAP, slot, pages)


def _unmap(slot: int) -> ProgramOp:
    return ProgramOp(UNMAP, slot)


_ALIASES: Final = ProgramOp(ALIASES)


@dataclass(frozen=True, slots=True)
class Bug:
    """A bug, where its failures come from, and the smallest program and schedule that somebody thought of."""

    name: str
    fingerprint: str
    sources: tuple[Source, ...]
    tasks: tuple[TaskProgram, ...]
    legs: tuple[Leg, ...] = ()
    """A leg with offset 0 is preempted at the first place of its operation that shows the bug."""

    def minimum(self) -> SavedSchedule:
        """The minimum, run. Raises LookupError if it does not show the bug."""
        source = self.sources[0]
        cpus = 1 + max(task.cpu for task in self.tasks)
        scenario = Scenario(workload=source.scenario.workload, cpus=cpus, block_bits=8, max_alloc=4)
        executor = Executor(versions.load(source.version), scenario)
        judge = Judge()
        program = Program(self.tasks)
        try:
            for offset in range(1, OFFSETS_MAX):
                legs = [replace(leg, offset=leg.offset or offset) if leg.op >= 0 else leg for leg in self.legs]
                done = executor.run(program, FollowStrategy(legs, executor.position))
                for violation in judge.execution(done.journal).violations:
                    if violation.fingerprint == self.fingerprint:
                        return saved_from(executor, program, done, violation, version=source.version)
        finally:
            executor.close()
        raise LookupError(f"{self.name}: the minimum does not show {self.fingerprint}")


BUGS: Final = (
    Bug(
        "full block (v6.4)",
        "978ca5627c09",
        tuple(Source("v6.4", small(workload)) for workload in ("fill-block", "pinned", "mixed")),
        (TaskProgram(0, (_map(0, 4), _map(1, 4), _unmap(0), _ALIASES)),),
    ),
    Bug(
        "dying block (v6.5)",
        "bc0b99b2d629",
        (Source("v6.5", small("fill-block")), Source("v6.5", small("churn", 3, 12))),
        (TaskProgram(0, (_map(0, 4), _map(1, 4), _unmap(0), _unmap(1))), TaskProgram(0, (_ALIASES,))),
        (Leg(1, 3), Leg(2), Leg(1)),
    ),
    Bug(
        "range computed unlocked (v6.4)",
        "98c2b92cb425",
        tuple(Source("v6.4", small(workload)) for workload in ("mixed", "churn", "cross-cpu")),
        (TaskProgram(0, (_map(0, 1), _unmap(0), _ALIASES)),),
    ),
    Bug(
        "free list under the wrong lock (v6.5)",
        "770babf19ceb",
        (Source("v6.5", replace(small("churn", 3, 20), migration_rate=0.1)),),
        (
            TaskProgram(1, (_map(0, 4), _unmap(0), _map(0, 2), _unmap(0), _map(0, 1), _unmap(0), _map(0, 2))),
            TaskProgram(0, (_ALIASES,)),
        ),
        (Leg(1, 6, 1), Leg(2, 0), Leg(1), Leg(2)),
    ),
    Bug(
        "planted: dirty_max is not widened",
        "9e730d4fc8da",
        (Source(NO_DIRTY_MAX, small("cross-cpu", 3)), Source(NO_DIRTY_MAX, small("pinned"))),
        (TaskProgram(0, (_map(0, 1), _unmap(0), _ALIASES)),),
    ),
)


def failures_of(bug: Bug, count: int, seed: int) -> Iterator[SavedSchedule]:
    """The first `count` failures of a bug, its sources in turn."""
    sources = [failures(source, seed=seed) for source in bug.sources]
    left = count
    for number in range(EXECUTIONS_MAX):
        for saved in next(sources[number % len(sources)]):
            if saved.fingerprint == bug.fingerprint:
                yield saved
                left -= 1
                if not left:
                    return


def size_of(saved: SavedSchedule) -> Size:
    """The size of a saved schedule as it is."""
    before = Shrinker(saved, tries=1).run().before
    assert before is not None
    return before


def median(sizes: Sequence[Size]) -> str:
    """Tasks, operations and preemptions, of each the median."""
    columns = (
        [size.tasks for size in sizes],
        [size.operations for size in sizes],
        [size.preemptions for size in sizes],
    )
    return " / ".join(f"{statistics.median(column):g}" for column in columns)


def row(bug: Bug, count: int, seed: int) -> str:
    """One bug's line of the table."""
    least = size_of(bug.minimum())
    before, after, tries = [], [], []
    started = time.process_time()
    collecting = 0.0
    source = failures_of(bug, count, seed)
    while True:
        mark = time.process_time()
        saved = next(source, None)
        collecting += time.process_time() - mark
        if saved is None:
            break
        result = Shrinker(saved).run()
        assert result.before is not None
        assert result.best is not None
        before.append(result.before)
        after.append(result.best.size)
        tries.append(result.tries)
    if not after:
        return f"| {bug.name} | 0 | | | {median([least])} | | | |"
    seconds = (time.process_time() - started - collecting) / len(after)
    within = sum(
        (size.tasks, size.operations, size.preemptions) <= (least.tasks, least.operations, least.preemptions)
        for size in after
    )
    return (
        f"| {bug.name} | {len(after)} | {median(before)} | **{median(after)}** | {median([least])} | "
        f"{within} of {len(after)} | {statistics.median(tries):g} | {seconds:.1f} |"
    )


HEAD: Final = (
    "| bug | failures | before | shrunk to | by hand | no larger than by hand | candidates | CPU seconds each |",
    "|---|---|---|---|---|---|---|---|",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, in Markdown: tasks / operations / preemptions, medians."""
    parser = argparse.ArgumentParser(prog="python -m stressvmap.stress.shrink_study", description=__doc__)
    parser.add_argument("--failures", type=int, default=12, help="of each bug")
    parser.add_argument("--bug", type=int, choices=range(len(BUGS)), help="only this one, by number")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    for line in HEAD:
        console.print(line)
    for number, bug in enumerate(BUGS):
        if given.bug in (None, number):
            console.print(row(bug, given.failures, given.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
