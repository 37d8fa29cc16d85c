# SPDX-License-Identifier: GPL-2.0-only
"""PCT: priorities, change points, wake-ups, spinners, and its bound on a bug of known depth."""

from __future__ import annotations

from collections import Counter

import pytest

from stressvmap.runtime.strategy import BLOCKED, COUNT_OVER, START, WOKEN
from stressvmap.runtime.task import Task
from stressvmap.sched.pct import PctStrategy
from stressvmap.stress.depth import FarWindows, hits
from tests.sched.deciding import grants, task, tasks


def begun(depth: int, length: int, execution: int = 0, seed: int = 1) -> PctStrategy:
    strategy = PctStrategy(seed, depth)
    strategy.calibrate([length])
    strategy.begin(execution)
    return strategy


def ranked(strategy: PctStrategy, among: list[Task]) -> list[Task]:
    """The tasks by the priority the strategy gives them, highest first."""
    left = list(among)
    order = []
    while left:
        order.append(strategy.decide(left, None, START)[0])
        left.remove(order[-1])
    return order


def test_every_order_of_priorities_is_as_likely() -> None:
    orders = Counter(tuple(each.id for each in ranked(begun(1, 50, execution), tasks(3))) for execution in range(3_000))
    assert len(orders) == 6
    assert all(430 < count < 570 for count in orders.values())


def test_the_highest_priority_runs_whatever_else_is_enabled() -> None:
    strategy = begun(1, 1_000)
    first, second, third = ranked(strategy, tasks(3))
    by_id = sorted((first, second, third), key=lambda each: each.id)
    assert strategy.decide(by_id, None, START)[0] is first
    assert strategy.decide([each for each in by_id if each is not first], first, BLOCKED)[0] is second
    assert strategy.decide([third], second, BLOCKED)[0] is third


def test_a_task_that_wakes_up_is_run_at_once_if_its_priority_is_higher() -> None:
    strategy = begun(1, 1_000)
    assert strategy.wants_wakeups
    first, second, third = ranked(strategy, tasks(3))
    both = sorted((second, third), key=lambda each: each.id)
    assert strategy.decide(both, None, START)[0] is second
    strategy.points = 10
    assert strategy.decide(tasks_by_id(first, second, third), second, WOKEN)[0] is first
    assert strategy.decide(tasks_by_id(second, third), first, BLOCKED)[0] is second
    assert strategy.decide(tasks_by_id(second, third), second, WOKEN)[0] is second


def tasks_by_id(*some: Task) -> list[Task]:
    return sorted(some, key=lambda each: each.id)


def test_at_a_change_point_the_running_task_drops_below_all_others() -> None:
    strategy = begun(2, 30)
    first, second, third = ranked(strategy, tasks(3))
    enabled = tasks_by_id(first, second, third)
    chosen, points = strategy.decide(enabled, None, START)
    assert (chosen, 1 <= points <= 30) == (first, True)
    strategy.points = points
    assert strategy.decide(enabled, first, COUNT_OVER)[0] is second
    assert strategy.decide(tasks_by_id(first, third), second, BLOCKED)[0] is third
    late = task(9)
    assert strategy.decide([first, late], third, BLOCKED)[0] is late


def test_the_second_change_drops_lower_than_the_first() -> None:
    strategy = begun(3, 30)
    first, second = ranked(strategy, tasks(2))
    enabled = tasks_by_id(first, second)
    order = [first.id if id == first.id else second.id for id, _ in grants(strategy, enabled, 31)]
    assert order == [first.id, second.id, first.id]


def test_change_points_are_distinct_and_anywhere_in_the_run() -> None:
    places: Counter[int] = Counter()
    for execution in range(2_000):
        strategy = begun(3, 20, execution)
        lengths = [points for _, points in grants(strategy, tasks(4), 21)]
        assert len(lengths) == 3
        places.update([lengths[0], lengths[0] + lengths[1]])
    assert sorted(places) == list(range(1, 21))
    assert all(140 < count < 260 for count in places.values())  # 200 each


def test_depth_one_changes_nothing_within_a_run() -> None:
    assert len(grants(begun(1, 100), tasks(3), 150)) == 1


def test_a_run_shorter_than_the_depth_has_a_change_at_each_point() -> None:
    assert [points for _, points in grants(begun(4, 2), tasks(3), 3)][:2] == [1, 1]


def test_a_task_that_appears_later_has_any_priority() -> None:
    ran_at_once = 0
    for execution in range(600):
        strategy = begun(1, 1_000, execution)
        enabled = tasks(3)
        chosen = strategy.decide(enabled, None, START)[0]
        strategy.points = 5
        ran_at_once += strategy.decide([*enabled, task(4)], chosen, WOKEN)[0].id == 4
    assert 110 < ran_at_once < 190  # a quarter


def test_a_task_that_spins_is_demoted_and_counted() -> None:
    strategy = begun(1, 10)
    answers = grants(strategy, tasks(3), 120)
    assert [points for _, points in answers] == [20] * 6
    assert len({id for id, _ in answers[:3]}) == 3
    assert [id for id, _ in answers[3:]] == [id for id, _ in answers[:3]]
    assert strategy.demotions == 5


def test_a_task_that_is_alone_is_not_demoted() -> None:
    strategy = begun(1, 10)
    grants(strategy, tasks(1), 200)
    assert strategy.demotions == 0


def test_tasks_that_take_turns_are_not_demoted() -> None:
    strategy = begun(1, 10)
    first, second = ranked(strategy, tasks(2))
    for _ in range(20):
        assert strategy.decide(tasks_by_id(first, second), second, WOKEN)[0] is first
        strategy.points += 9
        assert strategy.decide([second], first, BLOCKED)[0] is second
        strategy.points += 9
    assert strategy.demotions == 0


def test_k_is_the_mean_of_the_lengths_it_is_told() -> None:
    strategy = PctStrategy(1)
    strategy.calibrate([10, 20, 60])
    assert strategy.length_points == 30


@pytest.mark.parametrize("seed", [1, 2])
def test_a_bug_of_depth_three_is_hit_more_often_than_the_bound_and_the_random_walk_never_hits_it(seed: int) -> None:
    program = FarWindows(window=5, far=30)
    executions = 2_000
    found = hits(program, "pct:3", executions, seed)
    assert found >= program.bound * executions
    assert 4 <= found <= 30  # (6 / 75) ** 2 of them, twice or half of it
    assert hits(program, "random", executions, seed) == 0
    assert hits(program, "pct:2", executions, seed) == 0
