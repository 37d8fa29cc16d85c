# SPDX-License-Identifier: GPL-2.0-only
"""Round robin: everybody in turn."""

from __future__ import annotations

from stressvmap.runtime.strategy import BLOCKED
from stressvmap.sched.round_robin import RoundRobinStrategy
from tests.sched.deciding import grants, tasks


def test_the_tasks_run_in_turn_for_the_points_given() -> None:
    strategy = RoundRobinStrategy(1, 3)
    strategy.begin(0)
    answers = grants(strategy, tasks(3), 27)
    assert {points for _, points in answers} == {3}
    start = answers[0][0]
    assert [id for id, _ in answers] == [1 + (start - 1 + turn) % 3 for turn in range(9)]


def test_who_is_not_enabled_is_passed_over() -> None:
    strategy = RoundRobinStrategy(1, 3)
    strategy.begin(0)
    one, two, _, four = tasks(4)
    assert strategy.decide([one, four], two, BLOCKED)[0] is four
    assert strategy.decide([one, two], four, BLOCKED)[0] is one


def test_the_points_of_a_turn_are_drawn_for_each_execution_if_they_are_not_given() -> None:
    strategy = RoundRobinStrategy(1)
    drawn: set[int] = set()
    for execution in range(200):
        strategy.begin(execution)
        drawn.update(points for _, points in grants(strategy, tasks(2), 50))
    assert drawn == set(range(1, 17))
