# SPDX-License-Identifier: GPL-2.0-only
"""Run a saved schedule again, and say what came of it: the violation, the journal, the sources."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from stressvmap.checks.base import Violation
from stressvmap.errors import ScheduleMismatch
from stressvmap.journal.journal import Journal
from stressvmap.program import Program
from stressvmap.runtime.strategy import Schedule, Strategy
from stressvmap.scenario import Scenario
from stressvmap.sched.follow import FollowStrategy
from stressvmap.sched.replay import PrefixStrategy, ReplayStrategy
from stressvmap.stress import subject
from stressvmap.stress.execution import Execution, Executor
from stressvmap.stress.guard import DIED, Guard
from stressvmap.stress.judge import Judge
from stressvmap.stress.schedule_file import SavedSchedule
from stressvmap.tree.version import TreeVersion

RECURS: Final = 1
DOES_NOT_RECUR: Final = 0
DIVERGED: Final = 4


@dataclass(frozen=True, slots=True)
class Followed:
    """How far a schedule led that ceased to fit and was gone on with: what came after says nothing about it."""

    steps: int
    """Scheduling points up to where it ceased to fit."""
    operations: int
    """Operations of the program that had begun by then ..."""
    operations_in_all: int
    """... of so many."""
    then: str
    """The strategy that decided the rest."""


@dataclass(slots=True)
class Replayed:
    """What the replay of a saved schedule came to."""

    saved: SavedSchedule
    version: str
    """What was run: the file's version, or the one asked for instead."""
    version_digest: str
    """Of that version's sources now."""
    mismatch: ScheduleMismatch | None = None
    """Where the schedule ceased to fit; None if all of it did."""
    followed: Followed | None = None
    """Where it was gone on from; None if all of it fitted, or it was given up."""
    journal: Journal | None = None
    """None if the execution was given up where the schedule ceased to fit."""
    journal_digest: str = ""
    schedule: Schedule = field(default_factory=Schedule)
    """What was decided this time: the saved one, unless a prefix of it was gone on with."""
    reason: str = ""
    points: int = 0
    operations: int = 0
    violations: list[Violation] = field(default_factory=list)
    """The first of each fingerprint, in the order of the journal."""

    @property
    def violation(self) -> Violation | None:
        """What the schedule is kept for, if it is there again; of one that is kept for nothing, the first there is."""
        wanted = self.saved.fingerprint
        return next((v for v in self.violations if not wanted or v.fingerprint == wanted), None)

    @property
    def is_same_source(self) -> bool:
        """Whether the version is, to the byte, what it was when the schedule was saved."""
        return self.version_digest == self.saved.version_digest

    @property
    def is_same_journal(self) -> bool | None:
        """Whether the journal is the same; None if either is not known."""
        if not self.saved.journal_digest or not self.journal_digest:
            return None
        return self.journal_digest == self.saved.journal_digest

    @property
    def exit_status(self) -> int:
        """RECURS, DOES_NOT_RECUR, or DIVERGED: it did not fit and was not gone on with."""
        if self.journal is None:
            return DIVERGED
        return DOES_NOT_RECUR if self.violation is None else RECURS


def replay(
    saved: SavedSchedule,
    executor: Executor | None = None,
    *,
    version: str = "",
    then: Strategy | None = None,
    judge: Judge | None = None,
) -> Replayed:
    """Run `saved` again, on `version` instead of its own if that is given.

    With `then`, a schedule that ceases to fit is gone on with by that strategy; without, that ends the replay.
    `executor` must be of the version and the scenario concerned. Raises ConfigError, PatchError.
    """
    name = version or saved.version
    if executor is None:
        executor = Executor(subject.load(name), saved.scenario)
        try:
            return replay(saved, executor, version=version, then=then, judge=judge)
        finally:
            executor.close()
    told = Replayed(saved, name, subject.digest(executor.version))
    if saved.reason == DIED and then is None:
        then = FollowStrategy()  # the schedule ends where the process did: one that lives has more to run
    strategy: ReplayStrategy | PrefixStrategy
    if then is None:
        strategy = ReplayStrategy(saved.schedule, executor.tasks)
    else:
        strategy = PrefixStrategy(saved.schedule, then, executor.tasks)
        executor.calibrate(strategy, [saved.program])
    try:
        died = _death(executor, saved, strategy)
        done = died or executor.run(saved.program, strategy, seed=saved.seed, execution=saved.execution)
        if died is None:
            strategy.check_used_up(done.points)
    except ScheduleMismatch as mismatch:
        told.mismatch = mismatch
        return told
    if isinstance(strategy, PrefixStrategy) and strategy.mismatch is not None:
        told.mismatch = strategy.mismatch
        told.followed = _followed(executor, saved.program, strategy.mismatch.step, strategy.then.label)
    told.journal = done.journal
    told.journal_digest = done.journal.digest()
    told.schedule = done.schedule
    told.reason, told.points, told.operations = done.reason, done.points, done.operations
    verdict = (judge or Judge(saved.scenario.limits)).execution(done.journal)
    first: dict[str, Violation] = {}
    for violation in verdict.violations:
        first.setdefault(violation.fingerprint, violation)
    told.violations = list(first.values())
    return told


def _death(executor: Executor, saved: SavedSchedule, strategy: Strategy) -> Execution | None:
    """What it comes to if this process would die of it, which only a kernel tree can bring about."""
    if not isinstance(executor.version, TreeVersion):
        return None
    return Guard(executor).run(saved.program, strategy, seed=saved.seed, execution=saved.execution, is_here=True)


def _followed(executor: Executor, program: Program, steps: int, then: str) -> Followed:
    begun = sum(1 for starts in executor.backend.starts.values() for _, at in starts if at < steps)
    return Followed(steps, begun, sum(len(task.ops) for task in program.tasks), then)


class Runner(Protocol):
    """Who has run something: what of, and on which machine."""

    @property
    def version(self) -> subject.Version:
        """What is under test."""

    @property
    def scenario(self) -> Scenario:
        """On which machine."""


def saved_from(
    runner: Runner,
    program: Program,
    done: Execution,
    violation: Violation | None,
    *,
    version: str,
    seed: int = 0,
    strategy: str = "",
) -> SavedSchedule:
    """An execution of `runner`'s, as a schedule to keep for `violation`. `version` is what `--version` takes."""
    return SavedSchedule(
        version=subject.absolute(version, Path.cwd()),
        version_digest=subject.digest(runner.version),
        scenario=runner.scenario,
        program=program,
        schedule=done.schedule,
        journal_digest=done.journal.digest(),
        reason=done.reason,
        check="" if violation is None else violation.check,
        fingerprint="" if violation is None else violation.fingerprint,
        mechanism="" if violation is None else violation.mechanism.text(),
        message="" if violation is None else violation.message,
        seed=seed,
        execution=int(done.journal.header["execution"]),
        strategy=strategy,
    )
