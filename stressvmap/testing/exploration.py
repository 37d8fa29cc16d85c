# SPDX-License-Identifier: GPL-2.0-only
"""`explore`: a test that runs once for each of many executions, whose programs and schedules a seed decides."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Generator
from contextlib import closing
from typing import Any, Final

from stressvmap.errors import ConfigError, HarnessError, ScheduleMismatch
from stressvmap.program import Program
from stressvmap.scenario import Scenario
from stressvmap.sched.portfolio import DEFAULT, make_strategy
from stressvmap.sched.replay import ReplayStrategy
from stressvmap.stress.engine import Tally, has_substance
from stressvmap.stress.execution import Executor
from stressvmap.stress.judge import Judge
from stressvmap.stress.schedule_file import SavedSchedule
from stressvmap.stress.subject import Version
from stressvmap.stress.workloads import draw
from stressvmap.testing.outcome import Outcome, attach, inconclusive, run_and_judge
from stressvmap.testing.subject import SMALL, under_test

Test = Callable[..., None]

ARGUMENT: Final = "execution"
"""The argument that a test gets the outcome of each execution by, if it has it."""


def explore(
    scenario: Scenario = SMALL,
    *,
    version: str | Version,
    strategy: str = DEFAULT,
    schedules: int = 200,
    seed: int = 0,
    checks: Collection[str] = (),
    allow: Collection[str] = (),
) -> Callable[[Test], Test]:
    """Decorate a test: it is called once for each of `schedules` executions of `version` under `scenario`.

    A violation whose fingerprint is not in `allow` fails it before it is called; it gets what the execution came to as
    the argument `execution`, if it has one, and may assert more. All other arguments (fixtures, `self`) stay its own,
    and are the same for all executions. A test that ends without a violation, but in which no debt was ever held to be
    paid, or a check could not run that `checks` names, fails as inconclusive.

    `strategy` is what `stressvmap stress --strategy` takes; execution i is a function of scenario, version, strategy,
    `seed` and i. The options of pytest_plugin take precedence. Raises ConfigError for what makes no sense.
    """
    exploration = Exploration(
        scenario, under_test(version, scenario, checks), strategy, schedules, seed, tuple(checks), frozenset(allow)
    )

    def decorate(test: Test) -> Test:
        if inspect.iscoroutinefunction(test) or inspect.isgeneratorfunction(test):
            raise ConfigError(f"explore: {test.__qualname__} is no plain function: its body would never run")
        signature = inspect.signature(test)
        wants_it = ARGUMENT in signature.parameters

        @functools.wraps(test)
        def explored(*args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True  # of the frames that pytest shows, those of the test are of interest
            with closing(exploration.outcomes()) as outcomes:
                for outcome in outcomes:
                    failure = outcome.failure(exploration.allow)
                    if failure is not None:
                        raise failure
                    try:
                        test(*args, **kwargs, **({ARGUMENT: outcome} if wants_it else {}))
                    except BaseException as error:
                        attach(error, outcome.saved())
                        raise

        others = [parameter for name, parameter in signature.parameters.items() if name != ARGUMENT]
        explored.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]
        explored.stressvmap_exploration = exploration  # type: ignore[attr-defined]
        return explored

    return decorate


class Exploration:
    """What an explored test runs. pytest_plugin finds it as the test's attribute `stressvmap_exploration`."""

    def __init__(
        self,
        scenario: Scenario,
        version: Version,
        strategy: str,
        schedules: int,
        seed: int,
        checks: tuple[str, ...],
        allow: frozenset[str],
    ) -> None:
        make_strategy(strategy, seed)
        if schedules < 1:
            raise ConfigError(f"schedules: {schedules} is below 1: nothing would be run")
        self.scenario = scenario
        self.version = version
        self.strategy = strategy
        self.schedules = schedules
        self.seed = seed
        self.checks = checks
        self.allow = allow
        is_nameless = isinstance(version, type) and "NAME" not in vars(version)
        self._name = version.__qualname__ if isinstance(version, type) and is_nameless else version.NAME
        self.replay: SavedSchedule | None = None
        """Run only this, on the test's own version."""

    def ask(
        self,
        *,
        strategy: str | None = None,
        seed: int | None = None,
        schedules: int | None = None,
        replay: SavedSchedule | None = None,
    ) -> None:
        """Have what is not None take the place of what the decorator was given."""
        self.strategy = self.strategy if strategy is None else strategy
        self.seed = self.seed if seed is None else seed
        self.schedules = self.schedules if schedules is None else schedules
        self.replay = self.replay if replay is None else replay

    def outcomes(self) -> Generator[Outcome, None, None]:
        """Run and judge one execution after the other; at the end raise AssertionError if it was all for nothing."""
        if self.replay is not None:
            yield self._replayed(self.replay)
            return
        strategy = make_strategy(self.strategy, self.seed)
        print(f"stressvmap: {self._name}: {self.schedules} schedules of {self.strategy}, seed {self.seed}")
        executor = Executor(self.version, self.scenario)
        judge = Judge(self.scenario.limits, self.checks)
        tally = Tally()
        try:
            executor.calibrate(strategy, [self._program(number) for number in range(strategy.calibration)])
            for number in range(self.schedules):
                program = self._program(number)
                outcome = run_and_judge(executor, judge, program, strategy, seed=self.seed, number=number)
                if strategy.repeat_share:
                    _repeat(executor, outcome)
                tally.operations += outcome.operations
                tally.not_run.update(outcome.not_run)
                yield outcome
        finally:
            executor.close()
        tally.metrics = judge.metrics()
        failure = inconclusive(has_substance(tally), self.checks, tally.not_run)
        if failure is not None:
            raise failure

    def _program(self, number: int) -> Program:
        return draw(self.scenario, self.seed, number)

    def _replayed(self, saved: SavedSchedule) -> Outcome:
        """The execution of a schedule file. Raises ScheduleMismatch if it does not fit the version as it is now."""
        print(f"stressvmap: {self._name}: the schedule of execution {saved.execution}, seed {saved.seed}")
        executor = Executor(self.version, saved.scenario)
        strategy = ReplayStrategy(saved.schedule)
        judge = Judge(saved.scenario.limits, self.checks)
        try:
            outcome = run_and_judge(executor, judge, saved.program, strategy, seed=saved.seed, number=saved.execution)
        finally:
            executor.close()
        strategy.check_used_up()
        outcome.strategy = saved.strategy  # that it is a replay is no news to who asked for it
        return outcome


def _repeat(executor: Executor, outcome: Outcome) -> None:
    """Run an execution's schedule again, as `twice` asks. Raises HarnessError if it does something else then."""
    try:
        again = executor.replay(outcome.program, outcome.schedule)
    except ScheduleMismatch as error:
        raise HarnessError(f"execution {outcome.number}: two runs of one schedule differ: {error}") from None
    if again.journal.digest() != outcome.journal.digest():
        raise HarnessError(f"execution {outcome.number}: two runs of one schedule differ in what they did")
