# SPDX-License-Identifier: GPL-2.0-only
"""What every strategy keeps: execution i is a function of (seed, i) alone, nothing starves, what is done replays."""

from __future__ import annotations

import random

import pytest

from stressvmap.program import Program
from stressvmap.runtime.runtime import DONE, Runtime
from stressvmap.runtime.strategy import Strategy
from stressvmap.scenario import Scenario
from stressvmap.sched.portfolio import STRATEGIES, make_strategy
from stressvmap.stress.execution import Execution, Executor
from stressvmap.stress.workloads import draw
from stressvmap.vmalloc.v6_5 import V6_5
from tests.sched.deciding import run
from tests.stress.runs import python

ALL = [name for name in STRATEGIES if name != "twice"] + ["sticky:0.5", "pct:1", "pct:4", "twice:pct:2", "sticky,pct"]
SCENARIO = Scenario(workload="mixed", cpus=2, block_bits=8, max_alloc=4, operations=5, flushes=1)
PROGRAMS = [draw(SCENARIO, 1, number) for number in range(20)]


@pytest.fixture(scope="module")
def executor() -> Executor:
    return Executor(V6_5, SCENARIO)


def made(executor: Executor, name: str, seed: int = 1) -> Strategy:
    strategy = make_strategy(name, seed)
    executor.calibrate(strategy, PROGRAMS[:3])
    return strategy


def execute(executor: Executor, program: Program, strategy: Strategy, number: int) -> Execution:
    done = executor.run(program, strategy, execution=number)
    assert done.reason == DONE
    return done


@pytest.mark.parametrize("name", ALL)
def test_an_execution_depends_on_seed_and_number_alone(executor: Executor, name: str) -> None:
    strategy = made(executor, name)
    in_order = [execute(executor, PROGRAMS[number], strategy, number).journal.digest() for number in range(4)]
    fresh = made(executor, name)
    again = {number: execute(executor, PROGRAMS[number], fresh, number).journal.digest() for number in (3, 1, 0, 2)}
    assert [again[number] for number in range(4)] == in_order


@pytest.mark.parametrize("name", ALL)
def test_seeds_and_numbers_give_different_schedules(executor: Executor, name: str) -> None:
    schedules = [
        str(execute(executor, PROGRAMS[0], made(executor, name, seed), number).schedule)
        for seed, number in ((1, 0), (1, 1), (2, 0), (2, 1))
    ]
    assert len(set(schedules)) >= 3


@pytest.mark.parametrize("name", ALL)
def test_what_was_decided_replays(executor: Executor, name: str) -> None:
    done = execute(executor, PROGRAMS[5], made(executor, name), 5)
    assert executor.replay(PROGRAMS[5], done.schedule, execution=5).journal.digest() == done.journal.digest()


@pytest.mark.parametrize("name", ALL)
def test_a_task_that_spins_on_another_does_not_starve_it(name: str) -> None:
    """Each task waits for the other twice over, by polling; no order of priorities is right throughout."""
    for execution in range(10):
        turns: list[int] = []

        def spinner(runtime: Runtime, me: int, turns: list[int] = turns) -> None:
            for _ in range(3):
                while len(turns) % 2 != me:
                    runtime.point(3, 1, "turn")
                runtime.point(4, 1, "turn")
                turns.append(me)

        strategy = make_strategy(name, 1)
        strategy.calibrate([40] * strategy.calibration)
        run(strategy, execution, lambda runtime: spinner(runtime, 0), lambda runtime: spinner(runtime, 1))
        assert turns[-6:] == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize("name", ALL)
def test_draws_are_in_range_and_reach_it_all(name: str) -> None:
    strategy = make_strategy(name, 1)
    strategy.begin(0)
    assert {strategy.draw(3) for _ in range(100)} == {0, 1, 2}


OTHER_PROCESS = """
    from tests.sched.test_strategies import digests_of_all
    print(*digests_of_all())
"""


def digests_of_all() -> list[str]:
    executor = Executor(V6_5, SCENARIO)
    return [execute(executor, PROGRAMS[2], made(executor, name), 2).journal.digest() for name in ALL]


def test_another_process_with_another_hash_seed_gets_the_same_journals() -> None:
    there = python(OTHER_PROCESS, hash_seed=4242)
    assert there.communicate()[0].split() == digests_of_all()


def test_no_strategy_touches_the_global_random_source(executor: Executor) -> None:
    state = random.getstate()
    for name in ALL:
        execute(executor, PROGRAMS[1], made(executor, name), 1)
    assert random.getstate() == state
