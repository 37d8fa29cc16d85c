# SPDX-License-Identifier: GPL-2.0-only
"""Real executions for the tests of what is derived from whole journals: small programs under schedules, run again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from stressvmap.errors import ScheduleMismatch
from stressvmap.program import Program
from stressvmap.runtime.strategy import Schedule
from stressvmap.scenario import Scenario
from stressvmap.sched.random import RandomStrategy
from stressvmap.stress.execution import Execution, Executor
from stressvmap.stress.workloads import draw
from stressvmap.vmalloc import versions

SCENARIOS = {
    "busy": Scenario(
        cpus=2, operations=6, flushes=2, hotplug_rate=0.2, reset_rate=0.3, vmalloc_rate=0.2, aliases_rate=0.2
    ),
    "tiny": Scenario(cpus=2, operations=2, flushes=1, slots=2),
}
SEED = 1


@cache
def executor(version: str, scenario: str) -> Executor:
    return Executor(versions.load(version), SCENARIOS[scenario])


def program(scenario: str, number: int) -> Program:
    return draw(SCENARIOS[scenario], SEED, number)


@cache
def walked(version: str, scenario: str, number: int, walk: int = 0) -> Execution:
    """Program `number` of the scenario under the random walk."""
    return executor(version, scenario).run(program(scenario, number), RandomStrategy(SEED), execution=walk)


def points_of(schedule: Schedule) -> list[int]:
    """The task of each scheduling point."""
    return [task for task, count in schedule.choices for _ in range(count)]


def replayed(version: str, scenario: str, number: int, points: Sequence[int], draws: list[int]) -> Execution | None:
    """Program `number` with these tasks at its points, or None if they do not fit."""
    schedule = Schedule([(task, 1) for task in points], draws)
    try:
        return executor(version, scenario).replay(program(scenario, number), schedule)
    except ScheduleMismatch:
        return None
