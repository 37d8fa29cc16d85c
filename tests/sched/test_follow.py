# SPDX-License-Identifier: GPL-2.0-only
"""Legs: a schedule that is told by preemptions in operations, and survives a change of the program."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stressvmap.program import ALIASES, MAP, UNMAP, Program, ProgramOp, TaskProgram
from stressvmap.scenario import WORKLOADS, Scenario
from stressvmap.sched.follow import FollowStrategy, Leg, LegRecorder
from stressvmap.sched.portfolio import make_strategy
from stressvmap.sched.random import RandomStrategy
from stressvmap.stress.execution import Execution, Executor
from stressvmap.stress.workloads import draw
from stressvmap.vmalloc.v6_5 import V6_5

SCENARIO = Scenario(cpus=3, operations=6, flushes=2, migration_rate=0.1, hotplug_rate=0.05, fault_rate=0.1)
TWO = Program(
    (
        TaskProgram(0, (ProgramOp(MAP, 0, 2), ProgramOp(UNMAP, 0))),
        TaskProgram(1, (ProgramOp(MAP, 1, 1), ProgramOp(ALIASES))),
    )
)


def follow(*legs: Leg, program: Program = TWO) -> tuple[Execution, list[Leg]]:
    """What following `legs` came to, and the legs that were taken."""
    executor = Executor(V6_5, SCENARIO)
    recorder = LegRecorder(FollowStrategy(legs, executor.position), executor.position)
    done = executor.run(program, recorder)
    executor.close()
    return done, recorder.taken


@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("strategy", ["random", "pct"])
def test_legs_that_were_recorded_give_the_same_execution(workload: str, strategy: str) -> None:
    """Daemons, migrations and CPUs that come and go included."""
    scenario = replace(SCENARIO, workload=workload)
    executor = Executor(V6_5, scenario)
    recorder = LegRecorder(make_strategy(strategy, 3), executor.position)
    for execution in range(2):
        program = draw(scenario, 3, execution)
        done = executor.run(program, recorder, execution=execution)
        legs = tuple(recorder.taken)
        again = executor.run(program, FollowStrategy(legs, executor.position), execution=execution)
        assert again.schedule == done.schedule
        assert again.journal.digest() == done.journal.digest()
    executor.close()


def test_what_runs_without_legs_is_never_preempted() -> None:
    done, taken = follow()
    assert done.reason == "done"
    assert not any(leg.is_preempted for leg in taken)
    assert [leg.task for leg in taken][:2] == [1, 2]


def test_a_task_is_preempted_where_its_leg_says() -> None:
    _, taken = follow(Leg(2, 1, 3), Leg(1))
    assert taken[:3] == [Leg(2, 1, 3), Leg(1), Leg(2)]


def test_the_first_point_of_an_operation_is_its_boundary() -> None:
    """Nothing of the operation has happened there: the other task finds all of the one before, and no more."""
    executor = Executor(V6_5, SCENARIO)
    done = executor.run(TWO, FollowStrategy((Leg(1, 1, 1), Leg(2), Leg(1)), executor.position))
    (local, _), _ = executor.backend.starts[1][1], executor.backend.starts[2]
    assert done.schedule.choices[0] == (1, local + 1)
    executor.close()


@pytest.mark.parametrize(
    "senseless",
    [Leg(7), Leg(1, 9, 1), Leg(1, 0, 100_000), Leg(1000), Leg(1, -1, 0, 5000), Leg(3000, -1, 0, 2)],
)
def test_a_leg_that_does_not_apply_is_passed_over(senseless: Leg) -> None:
    done, taken = follow(senseless, Leg(2))
    assert done.reason == "done"
    assert sum(leg.is_preempted for leg in taken) <= 1


def test_a_leg_that_is_past_already_is_passed_over() -> None:
    _, taken = follow(Leg(2, 1, 3), Leg(1, 0, 2), Leg(2, 0, 5), Leg(1))
    assert taken[:3] == [Leg(2, 1, 3), Leg(1, 0, 2), Leg(2)] or taken[:2] == [Leg(2, 1, 3), Leg(1)]


def test_a_recorder_changes_nothing_of_what_it_records() -> None:
    executor = Executor(V6_5, SCENARIO)
    program = draw(SCENARIO, 1, 1)
    alone = executor.run(program, RandomStrategy(9), execution=1)
    recorded = executor.run(program, LegRecorder(RandomStrategy(9), executor.position), execution=1)
    assert recorded.journal.digest() == alone.journal.digest()
    executor.close()


def test_draws_are_followed_as_far_as_they_go() -> None:
    strategy = FollowStrategy(draws=(5, 1))
    strategy.begin(0)
    assert [strategy.draw(4), strategy.draw(4), strategy.draw(4)] == [1, 1, 0]
    strategy.begin(1)
    assert strategy.draw(9) == 5
