# SPDX-License-Identifier: GPL-2.0-only
"""Saved schedules for the tests of what stands on them: failures found by a short search, each once a process."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from stressvmap.program import ALIASES, MAP, UNMAP, Program, ProgramOp, TaskProgram
from stressvmap.runtime.strategy import Strategy
from stressvmap.scenario import Scenario
from stressvmap.sched.follow import FollowStrategy
from stressvmap.sched.random import RandomStrategy
from stressvmap.stress.execution import Executor
from stressvmap.stress.judge import Judge
from stressvmap.stress.replay import saved_from
from stressvmap.stress.schedule_file import SavedSchedule
from stressvmap.stress.workloads import draw
from stressvmap.vmalloc import versions

SMALL = Scenario(workload="fill-block", cpus=2, operations=6, flushes=2, fault_rate=0.0)
FULL_BLOCK = "978ca5627c09"
DYING_BLOCK = "bc0b99b2d629"
LOST_DEBT = Program(
    (
        TaskProgram(
            0,
            (
                ProgramOp(MAP, 0, 4),
                ProgramOp(MAP, 1, 4),
                ProgramOp(UNMAP, 0),
                ProgramOp(ALIASES),
            ),
        ),
    )
)
"""Shows v6.4's full-block bug under any schedule."""


def run_once(
    program: Program,
    *,
    version: str = "v6.4",
    scenario: Scenario = SMALL,
    strategy: Strategy | None = None,
    execution: int = 0,
    fingerprint: str = "",
) -> SavedSchedule | None:
    """One execution saved for its first violation (of that fingerprint); None if it has none."""
    executor = Executor(versions.load(version), scenario)
    strategy = FollowStrategy() if strategy is None else strategy
    done = executor.run(program, strategy, execution=execution)
    executor.close()
    for violation in Judge().execution(done.journal).violations:
        if not fingerprint or violation.fingerprint == fingerprint:
            return saved_from(executor, program, done, violation, version=version, strategy=strategy.label)
    return None


@cache
def failure(version: str = "v6.4", fingerprint: str = FULL_BLOCK, workload: str = "fill-block") -> SavedSchedule:
    """The first random failure of that kind."""
    scenario = replace(SMALL, workload=workload)
    for execution in range(400):
        program = draw(scenario, 1, execution)
        found = run_once(
            program,
            version=version,
            scenario=scenario,
            strategy=RandomStrategy(1),
            execution=execution,
            fingerprint=fingerprint,
        )
        if found is not None:
            return found
    raise AssertionError(f"{version} did not show {fingerprint}")
