# SPDX-License-Identifier: GPL-2.0-only
"""SURW: interleavings of the interesting operations, uniformly, whatever lies between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from stressvmap.journal.events import LOCK, READ, TREE_FIND, TREE_INSERT, WRITE
from stressvmap.runtime.runtime import Runtime
from stressvmap.runtime.strategy import START, Strategy
from stressvmap.sched.dependence import NOTHING
from stressvmap.sched.random import RandomStrategy
from stressvmap.sched.surw import Profile, SurwStrategy, area_of
from tests.sched.deciding import run, task

SHARED = 7
CHI_SQUARE_AT_ONE_PER_MILLE = {3: 16.27, 5: 20.52, 9: 27.88}


def orders(strategy: Strategy, pads: Sequence[Sequence[int]], executions: int) -> Counter[tuple[int, ...]]:
    """How often each order of writes to the shared object came up; task n writes after so many points of its own."""
    found: Counter[tuple[int, ...]] = Counter()
    for execution in range(executions):
        order: list[int] = []

        def body(runtime: Runtime, me: int, order: list[int] = order) -> None:
            for pad in pads[me]:
                for _ in range(pad):
                    runtime.point(WRITE, 100 + me, "own")
                runtime.point(WRITE, SHARED, "x")
                order.append(me)

        run(strategy, execution, *(lambda runtime, me=me: body(runtime, me) for me in range(len(pads))))
        found[tuple(order[-sum(len(each) for each in pads) :])] += 1  # the trial's come first
    return found


def chi_square(found: Counter[tuple[int, ...]], classes: int) -> float:
    expected = sum(found.values()) / classes
    return sum((count - expected) ** 2 / expected for count in found.values()) + (classes - len(found)) * expected


@pytest.mark.parametrize(
    ("pads", "classes"),
    [(((8, 0, 5), (0,)), 4), (((0, 9), (3, 0)), 6), (((0, 0, 0), (20, 1)), 10)],
    ids=["three-and-one", "two-and-two", "three-and-two"],
)
def test_interleavings_of_the_interesting_operations_are_uniform(pads: Sequence[Sequence[int]], classes: int) -> None:
    limit = CHI_SQUARE_AT_ONE_PER_MILLE[classes - 1]
    assert chi_square(orders(SurwStrategy(1), pads, 1_500), classes) < limit
    assert chi_square(orders(RandomStrategy(1), pads, 1_500), classes) > 5 * limit


def test_without_a_trial_it_is_the_random_walk() -> None:
    strategy = SurwStrategy(1)
    strategy.begin(0)
    enabled = [task(id, (WRITE, SHARED, "x")) for id in (1, 2, 3)]
    assert {strategy.decide(enabled, None, START)[0].id for _ in range(60)} == {1, 2, 3}


def test_interesting_is_what_two_tasks_met_at_and_one_changed() -> None:
    profile = Profile(1)

    def one(runtime: Runtime) -> None:
        runtime.point(WRITE, 1, "mine")
        runtime.point(READ, 2, "read by both")
        runtime.point(READ, 3, "x")
        runtime.point(TREE_FIND, 0, "busy")
        runtime.point(0, 0, "pause")

    def two(runtime: Runtime) -> None:
        runtime.point(READ, 2, "read by both")
        for _ in range(3):
            runtime.point(WRITE, 3, "x")
        runtime.point(TREE_INSERT, 9, "busy")

    run(profile, 0, one, two)
    assert profile.shared() == [((0, "busy"), {1: 1, 2: 1}), ((3, ""), {1: 1, 2: 3})]


def test_a_block_its_lock_and_its_list_node_are_one_area_and_each_tree_is_one() -> None:
    assert area_of((LOCK, 5, "vb->lock")) == area_of((READ, 5, "dirty")) == area_of((WRITE, 5, "free_list.next"))
    assert area_of((TREE_INSERT, 5, "lazy")) == area_of((TREE_FIND, 0, "lazy")) != area_of((TREE_FIND, 0, "busy"))
    assert area_of(NOTHING) == area_of((0, 0, "pause"))


def test_a_lock_that_is_waited_for_is_one_operation() -> None:
    """The count of a task that parks at its announced operation, and goes on with it, is not used up by that."""
    profile = Profile(1)
    profile.begin(0)
    waiting = task(1, (LOCK, 5, "vb->lock"))
    waiting.points = 3
    other = task(2, (LOCK, 5, "vb->lock"))
    for enabled in ([waiting], [other], [waiting]):
        profile.decide(enabled, None, START)
    assert profile.shared() == [((5, ""), {1: 1, 2: 1})]


def test_a_task_that_polls_does_not_keep_those_held_back_out_for_ever() -> None:
    """More interesting operations than the trial had, and a task that waits for them without being held back itself."""
    strategy = SurwStrategy(1)
    for execution in range(20):
        writes: list[int] = []
        runs: list[int] = []

        def writer(runtime: Runtime, writes: list[int] = writes, runs: list[int] = runs) -> None:
            runs.append(1)
            for _ in range(2 if len(runs) == 1 else 6):
                runtime.point(WRITE, SHARED, "x")
                writes.append(1)

        def poller(runtime: Runtime, writes: list[int] = writes, runs: list[int] = runs) -> None:
            runtime.point(WRITE, SHARED, "x")
            while not runs or len(writes) < (2 if len(runs) == 1 else 8):
                runtime.point(READ, 8, "polled")

        run(strategy, execution, writer, poller)
        assert len(writes) == 8
