# SPDX-License-Identifier: GPL-2.0-only
"""The sticky walk: geometric runs, and always another task behind each."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from stressvmap.runtime.strategy import BLOCKED, COUNT_OVER
from stressvmap.sched.sticky import StickyStrategy
from tests.sched.deciding import grants, tasks


@pytest.mark.parametrize("stay", [0.5, 0.9, 0.97])
def test_it_stays_at_each_point_with_its_probability(stay: float) -> None:
    strategy = StickyStrategy(1, stay)
    strategy.begin(0)
    lengths = [points for _, points in grants(strategy, tasks(3), 100_000)]
    stayed = sum(lengths) - len(lengths)
    assert stayed / sum(lengths) == pytest.approx(stay, abs=0.005)
    # No memory: of the runs that are longer than one point the same share is longer than two.
    longer = [length for length in lengths if length > 1]
    assert sum(length > 2 for length in longer) / len(longer) == pytest.approx(stay, abs=0.02)


def test_a_run_is_followed_by_any_other_task_alike() -> None:
    strategy = StickyStrategy(1, 0.5)
    strategy.begin(0)
    chosen = [id for id, _ in grants(strategy, tasks(4), 40_000)]
    followers = Counter(pairwise(chosen))
    assert all(before != after for before, after in followers)
    assert len(followers) == 12
    assert min(followers.values()) > 0.9 * max(followers.values())


def test_a_task_that_is_alone_stays() -> None:
    strategy = StickyStrategy(1, 0.0)
    strategy.begin(0)
    assert set(grants(strategy, tasks(1), 10)) == {(1, 1)}


def test_where_the_running_task_cannot_go_on_each_enabled_one_is_chosen() -> None:
    strategy = StickyStrategy(1)
    strategy.begin(0)
    one, two, three = tasks(3)
    assert {strategy.decide([two, three], one, BLOCKED)[0].id for _ in range(50)} == {2, 3}
    assert {strategy.decide([two, three], one, COUNT_OVER)[0].id for _ in range(50)} == {2, 3}
