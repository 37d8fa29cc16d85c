# SPDX-License-Identifier: GPL-2.0-only
"""What one execution came to: what ran, what it did, what of that was wrong; and how a test says so."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from stressvmap import program as ops
from stressvmap.checks.base import Violation
from stressvmap.program import Program, ProgramOp
from stressvmap.runtime.runtime import STEPS_MAX
from stressvmap.runtime.strategy import Strategy
from stressvmap.scenario import Scenario
from stressvmap.sched.planned import PlannedStrategy, Preemption
from stressvmap.stress import subject
from stressvmap.stress.execution import Execution, Executor
from stressvmap.stress.judge import Judge
from stressvmap.stress.schedule_file import SavedSchedule
from stressvmap.testing.violation import failure_of

PROGRAM_TOLD_MAX: Final = 24
"""Operations: a program that has more is not written out in a message."""


@dataclass(slots=True, kw_only=True, repr=False)
class Outcome(Execution):
    """An execution, judged."""

    version: subject.Version
    scenario: Scenario
    program: Program
    strategy: str
    """Label of the strategy that decided."""
    preemptions: tuple[Preemption, ...]
    """What it had planned, if it is a PlannedStrategy."""
    seed: int
    number: int
    """The execution's number: what ran is a function of seed, number and strategy."""
    violations: tuple[Violation, ...]
    """In the order in which they were certain."""
    not_run: dict[str, str]
    """Checks that could not run, with the reason."""

    def __repr__(self) -> str:
        found = len(self.violations)
        return f"<execution {self.number} of seed {self.seed}, {self.strategy}: {self.reason}, {found} violations>"

    def saved(self, violation: Violation | None = None) -> SavedSchedule:
        """What `stressvmap replay` takes (stress.schedule_file.write_schedule writes it), kept for `violation`."""
        saved = SavedSchedule(
            version=subject.spec_of(self.version),
            version_digest=subject.digest(self.version),
            scenario=self.scenario,
            program=self.program,
            schedule=self.schedule,
            journal_digest=self.journal.digest(),
            reason=self.reason,
            seed=self.seed,
            execution=self.number,
            strategy=self.strategy,
        )
        if violation is not None:
            saved.check = violation.check
            saved.fingerprint = violation.fingerprint
            saved.mechanism = violation.mechanism.text()
            saved.message = violation.message
        return saved

    def failure(self, allow: Collection[str] = ()) -> AssertionError | None:
        """What a test raises for it: the VmapViolation of the first violation whose fingerprint is not in `allow`, or
        an AssertionError if the execution did not end. None if nothing is wrong.
        """
        wrong = next((violation for violation in self.violations if violation.fingerprint not in allow), None)
        if wrong is not None:
            failure: AssertionError = failure_of(wrong, *self._about())
        elif self.reason == STEPS_MAX:
            told = f"inconclusive: the execution did not end within steps_max, {self.points} scheduling points"
            failure = AssertionError("\n".join([told, *self._about()]))
        else:
            return None
        attach(failure, self.saved(wrong))
        return failure

    def _about(self) -> Iterator[str]:
        if self.program.operations <= PROGRAM_TOLD_MAX:
            yield from _told(self.program, self.preemptions)


def run_and_judge(
    executor: Executor, judge: Judge, program: Program, strategy: Strategy, *, seed: int = 0, number: int = 0
) -> Outcome:
    """Run `program` as execution number `number` of `strategy`, and ask the checks. Raises what Executor.run does."""
    execution = executor.run(program, strategy, seed=seed, execution=number)
    verdict = judge.execution(execution.journal)
    return Outcome(
        reason=execution.reason,
        journal=execution.journal,
        schedule=execution.schedule,
        points=execution.points,
        operations=execution.operations,
        version=executor.version,
        scenario=executor.scenario,
        program=program,
        strategy=strategy.label,
        preemptions=strategy.preemptions if isinstance(strategy, PlannedStrategy) else (),
        seed=seed,
        number=number,
        violations=tuple(verdict.violations),
        not_run=verdict.not_run,
    )


def inconclusive(reasons: Sequence[str], checks: Collection[str], not_run: Mapping[str, str]) -> AssertionError | None:
    """What a test raises that found nothing and has not earned to pass: for `reasons`, or because some of `checks`,
    those that were asked for, could not run. None if it may pass.
    """
    could_not = [f"check {name} could not run: {not_run[name]}" for name in checks if name in not_run]
    told = "; ".join([*reasons, *could_not])
    return AssertionError(f"inconclusive: {told}") if told else None


def attach(failure: BaseException, saved: SavedSchedule) -> None:
    """Have an exception carry the schedule that shows it again, where whoever reports it looks (pytest_plugin)."""
    failure.stressvmap_schedule = saved  # type: ignore[attr-defined]


# -- a program in words -----------------------------------------------------------------------------------


def _told(program: Program, planned: Sequence[Preemption]) -> Iterator[str]:
    for number, task in enumerate(program.tasks, 1):
        told = [
            _operation(operation)
            + "".join(_preempted(one) for one in planned if (one.task, one.operation) == (number, n))
            for n, operation in enumerate(task.ops)
        ]
        yield f"  task {number} on CPU {task.cpu}: {'; '.join(told)}"
    for fault in program.faults:
        yield f"  request {fault.nth} of task {fault.task} for {fault.kind} fails"
    for move in program.migrations:
        yield f"  task {move.task} moves to CPU {move.cpu} at its point {move.point}"


def _operation(operation: ProgramOp) -> str:
    """One operation in the words of the program's own constants."""
    kind = operation.kind
    if kind == ops.ALIASES:
        return "vm_unmap_aliases"
    if kind in (ops.MIGRATE, ops.OFFLINE, ops.ONLINE):
        return f"{kind} CPU {operation.pages}"
    if kind == ops.PAUSE:
        return f"pause {operation.pages} points"
    return f"{kind} slot {operation.slot}" + (f", {operation.pages} pages" if operation.pages else "")


def _preempted(preemption: Preemption) -> str:
    return f" (preempted at its point {preemption.point})"
