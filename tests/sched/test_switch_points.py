# SPDX-License-Identifier: GPL-2.0-only
"""Switch points: as many switches as asked for, anywhere in the run, each to another task."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from stressvmap.runtime.strategy import BLOCKED, START
from stressvmap.sched.switch_points import SwitchPointsStrategy
from tests.sched.deciding import grants, tasks


def begun(switches: int, length: int, execution: int = 0) -> SwitchPointsStrategy:
    strategy = SwitchPointsStrategy(1, switches)
    strategy.calibrate([length])
    strategy.begin(execution)
    return strategy


@pytest.mark.parametrize("switches", [0, 1, 5, 10])
def test_there_are_as_many_switches_as_asked_for(switches: int) -> None:
    for execution in range(50):
        chosen = [id for id, _ in grants(begun(switches, 100, execution), tasks(3), 101)]
        assert len(chosen) == switches + 1
        assert all(before != after for before, after in pairwise(chosen))


def test_a_switch_may_be_anywhere_in_the_run() -> None:
    places: Counter[int] = Counter()
    for execution in range(2_000):
        lengths = [points for _, points in grants(begun(2, 20, execution), tasks(3), 21)]
        places.update([lengths[0], lengths[0] + lengths[1]])
    assert sorted(places) == list(range(1, 21))
    assert all(140 < count < 260 for count in places.values())  # 200 each


def test_where_a_task_blocks_any_other_goes_on_and_no_switch_is_used_up() -> None:
    strategy = begun(1, 1_000)
    one, two, three = tasks(3)
    _, points = strategy.decide([one, two, three], None, START)
    strategy.points = 1
    answers = {strategy.decide([two, three], one, BLOCKED) for _ in range(50)}
    assert {task.id for task, _ in answers} == {2, 3}
    assert {count for _, count in answers} == {points - 1}


def test_behind_the_last_switch_a_task_that_spins_is_left_in_the_end() -> None:
    assert [points for _, points in grants(begun(0, 10), tasks(2), 60)] == [20, 20, 20]
