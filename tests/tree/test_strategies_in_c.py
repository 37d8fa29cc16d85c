# SPDX-License-Identifier: GPL-2.0-only
"""The strategies that the engine of a tree carries out by itself (shim/engine/strategy.c), on small programs."""

from __future__ import annotations

from array import array
from collections import Counter
from itertools import pairwise, permutations
from pathlib import Path
from random import Random

import pytest

from stressvmap.runtime.runtime import DONE, STEPS_MAX
from stressvmap.runtime.strategy import (
    BY_OPERATIONS,
    BY_PRIORITIES,
    BY_SWITCHES,
    BY_TURNS,
    BY_WALK,
    Plan,
    Schedule,
)
from stressvmap.sched.portfolio import make_strategy
from stressvmap.sched.replay import ReplayStrategy
from tests.tree.engine_driver import COMPILER, Engine, Job, build_libraries
from tests.tree.test_engine import BUSY, TWO_WRITERS, final_count

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler: the engine of the tree backend is not tested")

THREE = Job([(cpu, [("points", 20)]) for cpu in range(3)])
"""Three tasks that do nothing but announce points, each on a CPU of its own, so none ever waits."""
SPINNER = Job([(0, [("loop_volatile", 1)]), (1, [("points", 3)])])
PLANS = {
    "walk": Plan(BY_WALK, lengths=array("I", [1, 2, 5]).tobytes()),
    "switches": Plan(BY_SWITCHES, prefers_others=True, count=5, length=60, longest=120),
    "priorities": Plan(BY_PRIORITIES, count=2, length=60, longest=120),
    "operations": Plan(BY_OPERATIONS),
    "turns": Plan(BY_TURNS, length=16),
}
NAMED = (
    "random",
    "sticky",
    "sticky:0.5",
    "switch-points",
    "pct",
    "pct:4",
    "pos",
    "round-robin",
    "round-robin:3",
    "mixed",
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    libraries: dict[str, Path] = build_libraries(tmp_path_factory.getbasetemp() / "engine")
    return Engine(libraries["native"], cpus=4)


def constant(points: int) -> Plan:
    return Plan(BY_WALK, lengths=array("I", [points]).tobytes())


@pytest.mark.parametrize("name", PLANS)
def test_a_seed_says_everything_and_another_says_something_else(engine: Engine, name: str) -> None:
    ran: dict[int, object] = {}
    choices_of = set()
    for seed in range(40):
        for _ in range(2):
            choices = engine.run_planned(BUSY, PLANS[name], seed)
            told = (tuple(choices), tuple(engine.draws()), tuple(map(str, engine.journal())))
            assert ran.setdefault(seed, told) == told, seed
            choices_of.add(tuple(choices))
    assert len(choices_of) > 20


@pytest.mark.parametrize("name", PLANS)
def test_what_it_decided_replays_by_the_python_strategy(engine: Engine, name: str) -> None:
    for seed in range(20):
        engine.run_planned(BUSY, PLANS[name], seed)
        journal = engine.journal()
        schedule = Schedule(engine.choices(), engine.draws())
        engine.run_under(BUSY, ReplayStrategy(schedule))
        assert engine.journal() == journal, seed


@pytest.mark.parametrize("text", NAMED)
def test_a_named_strategy_tells_what_it_does_without_being_begun(text: str) -> None:
    strategy, again, other = make_strategy(text, 3), make_strategy(text, 3), make_strategy(text, 4)
    for one in (strategy, again, other):
        one.calibrate([100] * one.calibration)
    planned = [strategy.plan(execution) for execution in range(50)]
    again.begin(7)
    seeds = [one[1] for one in planned if one is not None]
    assert len(seeds) == len(set(seeds)) == 50
    assert all(0 <= seed < 1 << 64 for seed in seeds)
    assert seeds == [told[1] for execution in range(50) if (told := again.plan(execution))]
    assert not set(seeds) & {told[1] for execution in range(50) if (told := other.plan(execution))}


def test_one_that_must_know_more_is_asked() -> None:
    assert make_strategy("surw", 1).plan(0) is None


def test_the_portfolio_plans_by_its_shares_as_it_decides() -> None:
    strategy = make_strategy("mixed", 1)
    kinds: Counter[int] = Counter()
    for execution in range(2000):
        told = strategy.plan(execution)
        strategy.begin(execution)
        member = strategy.label.partition(":")[0]
        assert told is not None
        assert (
            told[0].kind
            == {
                "switch-points": BY_SWITCHES,
                "sticky": BY_WALK,
                "random": BY_WALK,
                "pct": BY_PRIORITIES,
                "pos": BY_OPERATIONS,
                "round-robin": BY_TURNS,
            }[member]
        )
        kinds[told[0].kind] += 1
    assert 800 < kinds[BY_SWITCHES] < 1000
    assert 140 < kinds[BY_OPERATIONS] < 260


# -- each as its definition says ------------------------------------------------------------------------------


def test_grants_of_a_walk_are_as_long_as_its_lengths_say(engine: Engine) -> None:
    for seed in range(20):
        granted: Counter[int] = Counter()
        for task, points in engine.run_planned(THREE, constant(7), seed):
            assert points % 7 == 0 or granted[task] + points >= 20, seed
            granted[task] += points


def test_a_walk_that_prefers_others_switches_at_every_end_of_a_grant(engine: Engine) -> None:
    plan = Plan(BY_WALK, prefers_others=True, lengths=array("I", [4]).tobytes())
    for seed in range(20):
        choices = engine.run_planned(THREE, plan, seed)
        assert {points for _, points in choices[:9]} == {4}, seed


def test_no_more_switches_than_were_drawn_and_none_where_there_are_none(engine: Engine) -> None:
    lengths = set()
    for seed in range(100):
        for switches in (0, 1, 3):
            plan = Plan(BY_SWITCHES, prefers_others=True, count=switches, length=60, longest=120)
            choices = engine.run_planned(THREE, plan, seed)
            assert 3 <= len(choices) <= 3 + switches, seed
            lengths.add(len(choices) - switches)
    assert 3 in lengths


def test_a_switch_comes_anywhere_in_the_run(engine: Engine) -> None:
    plan = Plan(BY_SWITCHES, prefers_others=True, count=1, length=20, longest=120)
    firsts = Counter(engine.run_planned(THREE, plan, seed)[0][1] for seed in range(2000))
    assert set(firsts) >= set(range(1, 20))
    assert max(firsts[place] for place in range(1, 20)) < 3 * min(firsts[place] for place in range(1, 20))


def test_more_switches_than_points_are_one_at_each(engine: Engine) -> None:
    plan = Plan(BY_SWITCHES, prefers_others=True, count=1000, length=60, longest=120)
    assert {points for _, points in engine.run_planned(THREE, plan, 1)[:40]} == {1}


def test_without_change_points_tasks_run_to_their_ends_in_the_order_of_their_priorities(engine: Engine) -> None:
    plan = Plan(BY_PRIORITIES, count=0, length=60, longest=120)
    orders = Counter(tuple(task for task, _ in engine.run_planned(THREE, plan, seed)) for seed in range(600))
    assert set(orders) == set(permutations((1, 2, 3)))
    assert min(orders.values()) > 60


def test_at_a_change_point_the_running_task_falls_below_all(engine: Engine) -> None:
    plan = Plan(BY_PRIORITIES, count=1, length=60, longest=120)
    interrupted = 0
    for seed in range(200):
        tasks = [task for task, _ in engine.run_planned(THREE, plan, seed)]
        assert len(tasks) in (3, 4), seed
        if len(tasks) == 4:
            interrupted += 1
            assert tasks[-1] in tasks[:3], seed  # who fell comes last
    assert interrupted > 50


def test_a_bug_of_depth_two_is_found_as_often_as_pct_promises(engine: Engine) -> None:
    """1/(n k^(d-1)) for n tasks and k points: a lost update is of depth 2."""
    engine.run_planned(TWO_WRITERS, constant(1000), 0)
    k = engine.points()
    plan = Plan(BY_PRIORITIES, count=1, length=k, longest=4 * k)
    lost = 0
    for seed in range(1000):
        engine.run_planned(TWO_WRITERS, plan, seed)
        lost += final_count(engine.journal()) == 1
    assert lost >= 1000 / (2 * k)


def test_who_spins_falls_below_all(engine: Engine) -> None:
    plan = Plan(BY_PRIORITIES, count=0, length=60, longest=10)
    for seed in range(20):
        choices = engine.run_planned(SPINNER, plan, seed)
        assert engine.reason == STEPS_MAX
        assert sum(points for task, points in choices if task == 2) >= 3, seed


def test_partial_orders_are_sampled_as_pos_does(engine: Engine) -> None:
    """Against POS on two tasks that begin, read and write one word, said again in a few lines."""

    def simulated(random: Random) -> bool:
        left, priorities = {1: ["", "r", "w"], 2: ["", "r", "w"]}, {1: random.random(), 2: random.random()}
        done: list[tuple[int, str]] = []
        while any(left.values()):
            task = max((one for one in left if left[one]), key=lambda one: priorities[one])
            done.append((task, left[task].pop(0)))
            priorities[task] = random.random()
            other = 3 - task
            if left[other] and {done[-1][1], left[other][0]} in ({"w"}, {"r", "w"}):
                priorities[other] = random.random()
        return [task for task, what in done if what] not in ([1, 1, 2, 2], [2, 2, 1, 1])

    lost = 0
    for seed in range(3000):
        engine.run_planned(TWO_WRITERS, PLANS["operations"], seed)
        lost += final_count(engine.journal()) == 1
    random = Random(1)
    expected = sum(simulated(random) for _ in range(20000)) / 20000
    assert abs(lost / 3000 - expected) < 0.04


def test_turns_are_taken_by_id_and_are_equally_long(engine: Engine) -> None:
    for seed in range(10):
        choices = engine.run_planned(THREE, Plan(BY_TURNS, count=5), seed)
        tasks = [task for task, _ in choices]
        assert {points for _, points in choices[:9]} == {5}
        assert all(later == before % 3 + 1 for before, later in pairwise(tasks)), seed
    assert {engine.run_planned(THREE, Plan(BY_TURNS, count=5), seed)[0][0] for seed in range(30)} == {1, 2, 3}
    drawn = {engine.run_planned(THREE, Plan(BY_TURNS, length=16), seed)[0][1] for seed in range(200)}
    assert drawn == set(range(1, 17))


@pytest.mark.parametrize("name", PLANS)
def test_a_run_comes_to_its_end(engine: Engine, name: str) -> None:
    for seed in range(30):
        engine.run_planned(BUSY, PLANS[name], seed)
        assert engine.reason == DONE, seed
