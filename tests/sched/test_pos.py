# SPDX-License-Identifier: GPL-2.0-only
"""POS: whose priorities are drawn anew, and that every order of dependent operations comes up."""

from __future__ import annotations

from collections import Counter

from stressvmap.journal.events import READ, WRITE
from stressvmap.runtime.runtime import Runtime
from stressvmap.runtime.strategy import COUNT_OVER, START
from stressvmap.sched.pos import PosStrategy
from tests.sched.deciding import run, task


def test_the_operation_executed_and_those_that_depend_on_it_draw_anew() -> None:
    for execution in range(20):
        strategy = PosStrategy(1)
        strategy.begin(execution)
        enabled = [task(1, (WRITE, 7, "x")), task(2, (READ, 7, "x")), task(3, (READ, 8, "y")), task(4, (WRITE, 8, "z"))]
        chosen, points = strategy.decide(enabled, None, START)
        assert points == 1
        before = dict(strategy._priorities)
        assert sorted(before) == [other.id for other in enabled if other is not chosen]
        chosen.pending_kind, chosen.pending_object, chosen.pending_field = WRITE, 99, "w"
        again, _ = strategy.decide(enabled, chosen, COUNT_OVER)
        after = strategy._priorities
        redrawn = {id for id in before if id in after and after[id] != before[id]}
        expected = {1: {2}, 2: {1}}.get(chosen.id, set())
        assert redrawn == expected - {again.id}


def test_the_enabled_operation_of_highest_priority_runs() -> None:
    strategy = PosStrategy(1)
    strategy.begin(0)
    enabled = [task(id, (WRITE, id, "own")) for id in (1, 2, 3)]
    first, _ = strategy.decide(enabled, None, START)
    rest = [other for other in enabled if other is not first]
    best = max(rest, key=lambda other: strategy._priorities[other.id])
    assert strategy.decide(rest, first, COUNT_OVER)[0] is best


def test_every_order_of_dependent_operations_comes_up() -> None:
    """Two tasks write x three times each; all 20 orders occur."""
    orders: Counter[tuple[int, ...]] = Counter()
    for execution in range(1_500):
        order: list[int] = []

        def body(runtime: Runtime, me: int, order: list[int] = order) -> None:
            for _ in range(3):
                runtime.point(WRITE, 7, "x")
                order.append(me)

        run(PosStrategy(1), execution, lambda runtime: body(runtime, 1), lambda runtime: body(runtime, 2))
        orders[tuple(order)] += 1
    assert len(orders) == 20
