# SPDX-License-Identifier: GPL-2.0-only
"""From a finding of free-running threads to a schedule: the same program under controlled schedules, until the same
fingerprint is seen.

Threads cannot say which interleaving they ran, but the program they ran is known, and it failed once. Threads switch
seldom, by the operating system's time slices and at locks, so few preemptions come first; the rest is the portfolio's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from stressvmap.program import Program
from stressvmap.scenario import Scenario
from stressvmap.sched.portfolio import make_strategy
from stressvmap.stress import subject
from stressvmap.stress.execution import Executor
from stressvmap.stress.judge import Judge
from stressvmap.stress.replay import saved_from
from stressvmap.stress.schedule_file import SavedSchedule

STRATEGY: Final = "switch-points:3,sticky:0.97,mixed,switch-points:8"
"""In turn, schedule by schedule."""
SCHEDULES_MAX: Final = 10_000


def find_schedule(
    version_spec: str,
    scenario: Scenario,
    program: Program,
    fingerprint: str,
    *,
    check: str = "",
    seed: int = 1,
    schedules_max: int = SCHEDULES_MAX,
    stop: Callable[[], int] | None = None,
    strategy: str = STRATEGY,
) -> SavedSchedule | None:
    """The first of `schedules_max` schedules of `program` that shows `fingerprint`, saved; None if none does, or
    `stop` asked for an end.

    With `check`, the one that reports it, the others are not run, which is quicker. Deterministic. Raises ConfigError,
    PatchError.
    """
    executor = Executor(subject.load(version_spec), scenario)
    judge = Judge(scenario.limits, (check,) if check else ())
    decides = make_strategy(strategy, seed)
    try:
        executor.calibrate(decides, [program] * decides.calibration)
        for number in range(schedules_max):
            if stop is not None and stop():
                return None
            done = executor.run(program, decides, seed=seed, execution=number)
            for violation in judge.execution(done.journal).violations:
                if violation.fingerprint == fingerprint:
                    return saved_from(
                        executor, program, done, violation, version=version_spec, seed=seed, strategy=decides.label
                    )
        return None
    finally:
        executor.close()
