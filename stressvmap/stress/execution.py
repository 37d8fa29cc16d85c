# SPDX-License-Identifier: GPL-2.0-only
"""One version under one scenario, run under schedules that somebody decides: replay, shrink, explore stand on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from stressvmap.journal.journal import Journal
from stressvmap.program import Program
from stressvmap.runtime.strategy import Schedule, Strategy
from stressvmap.runtime.task import Task
from stressvmap.scenario import Scenario
from stressvmap.sched.random import RandomStrategy
from stressvmap.sched.replay import ReplayStrategy
from stressvmap.stress.subject import DecidedRuntime, Version, make_backend, make_runtime
from stressvmap.tree.backend import Many, TreeBackend, TreeRuntime

LENGTH: Final = 1000
"""Points that an execution is taken to have where none can be measured."""


@dataclass(slots=True)
class Execution:
    """What running one program under one schedule came to."""

    reason: str
    """Why it ended (runtime's reasons)."""
    journal: Journal
    schedule: Schedule
    """What was decided: replayed on the same program it gives the same journal."""
    points: int
    operations: int
    """Of its program, those that were carried out."""


@dataclass(slots=True)
class Unseen:
    """What is known of an execution whose journal nobody has looked at yet."""

    reason: str
    points: int
    operations: int


class Executor:
    """Runs programs of one scenario on one version, each on a fresh machine; `runtime` is used again for all of them.

    Raises what the strategy raises (ScheduleMismatch), PatchError for a user's version, KeyboardInterrupt; it can be
    used again after each of them.
    """

    def __init__(self, version: Version, scenario: Scenario, runtime: DecidedRuntime | None = None) -> None:
        self.version = version
        self.runtime = make_runtime(version) if runtime is None else runtime
        self.change_scenario(scenario)
        self.is_running = False
        """An execution is under way: if no step comes for long, the version hangs."""

    def change_scenario(self, scenario: Scenario) -> None:
        """Run under another scenario from now on."""
        scenario.validate()
        self.scenario = scenario
        self.backend = make_backend(self.version, scenario, self.runtime)

    def run(self, program: Program, strategy: Strategy, *, seed: int = 0, execution: int = 0) -> Execution:
        """Run `program` as execution number `execution` of `strategy`. `seed` goes into the journal's header only."""
        return self.look(self.run_unseen(program, strategy, execution=execution).reason, seed, execution)

    def run_unseen(self, program: Program, strategy: Strategy, *, execution: int = 0) -> Unseen:
        """The same, but its journal is not taken; `look` does that, until the next run."""
        if isinstance(self.runtime, TreeRuntime):
            self.runtime.planned = strategy.plan(execution)
            if self.runtime.planned is not None:
                return self.unseen(self._run(program, strategy))
        strategy.begin(execution)
        trial = strategy.trial()
        if trial is not None:
            trial.begin(execution)
            self._run(program, trial)
        return self.unseen(self._run(program, strategy))

    def unseen(self, reason: str) -> Unseen:
        """Of the execution that was run last, which ended for `reason`."""
        return Unseen(reason, self.runtime.points, self.backend.operations)

    def job(self, program: Program, strategy: Strategy, *, execution: int = 0) -> bytes | None:
        """The same, to be run with others by `run_jobs`; None where the strategy, or the backend, must be asked."""
        if not isinstance(self.backend, TreeBackend):
            return None
        planned = strategy.plan(execution)
        return None if planned is None else self.backend.job(program, *planned)

    def run_jobs(self, jobs: Sequence[bytes]) -> Many:
        """Run one after the other and screen each, up to the first that is flagged, which `look` then takes."""
        assert isinstance(self.backend, TreeBackend)
        self.is_running = True
        try:
            return self.backend.run_many(jobs)
        finally:
            self.is_running = False

    def look(self, reason: str, seed: int = 0, execution: int = 0) -> Execution:
        """All of the execution that was run last, which ended for `reason`."""
        runtime = self.runtime
        return Execution(
            reason,
            self.backend.journal(seed=seed, execution=execution),
            runtime.schedule,
            runtime.points,
            self.backend.operations,
        )

    def replay(self, program: Program, schedule: Schedule, *, seed: int = 0, execution: int = 0) -> Execution:
        """Run exactly that schedule; raises ScheduleMismatch where it does not fit."""
        strategy = ReplayStrategy(schedule, self.tasks)
        done = self.run(program, strategy, seed=seed, execution=execution)
        strategy.check_used_up(done.points)
        return done

    def calibrate(
        self,
        strategy: Strategy,
        programs: Sequence[Program],
        is_fatal: Callable[[Callable[[], object]], object] | None = None,
    ) -> None:
        """Tell `strategy` how long the first of `programs` are, if it wants to know. Those of which `is_fatal` says so
        are left out.
        """
        if not strategy.calibration:
            return
        walk = RandomStrategy(0)
        lengths = []
        for number, program in enumerate(programs[: strategy.calibration]):
            attempt = partial(self.run_unseen, program, walk, execution=number)
            if is_fatal is None or not is_fatal(attempt):
                lengths.append(attempt().points)
        strategy.calibrate(lengths or [LENGTH])

    def tasks(self) -> Sequence[Task]:
        """The tasks of the running execution."""
        return self.runtime.tasks

    def position(self, task: Task) -> tuple[int, int]:
        """Which of its operations `task` is in (-1: none), and how many points it has announced in it."""
        starts = self.backend.starts.get(task.id)
        return (len(starts) - 1, task.points - starts[-1][0]) if starts else (-1, 0)

    def close(self) -> None:
        """Give the runtime's greenlets back."""
        self.runtime.close()

    def _run(self, program: Program, strategy: Strategy) -> str:
        self.runtime.strategy = strategy
        self.is_running = True
        try:
            self.backend.reset(program)
            return self.backend.run()
        finally:
            self.is_running = False
