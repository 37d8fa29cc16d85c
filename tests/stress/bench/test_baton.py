# SPDX-License-Identifier: GPL-2.0-only
"""The scheduler that the controlled runtime is measured against does the same work."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from stressvmap.sched.controlled import ControlledRuntime
from stressvmap.sched.portfolio import make_strategy
from stressvmap.stress.bench.baton import BatonRuntime, ping_pong
from stressvmap.stress.workloads import draw
from stressvmap.vmalloc import versions
from stressvmap.vmalloc.backend import ModelBackend
from tests.stress.runs import FULL_BLOCKS


@pytest.mark.parametrize("strategy", ["random", "sticky"])
def test_the_baton_scheduler_runs_the_same_schedules_to_the_same_journals(strategy: str) -> None:
    outcomes = []
    for make in (ControlledRuntime, BatonRuntime):
        runtime = make(make_strategy(strategy, 1))
        scenario = replace(FULL_BLOCKS, steps_max=500)
        backend = ModelBackend(versions.load("v6.5"), scenario, runtime)
        outcome = []
        for execution in range(6):
            backend.scenario = replace(FULL_BLOCKS, steps_max=300) if execution % 3 == 2 else FULL_BLOCKS
            runtime.strategy.begin(execution)
            backend.reset(draw(scenario, 1, execution))
            reason = backend.run()
            outcome.append((reason, backend.journal().digest(), runtime.schedule))
        runtime.close()
        outcomes.append(outcome)
    assert outcomes[0] == outcomes[1]
    assert {reason for reason, _, _ in outcomes[0]} == {"done", "steps-max"}


def test_its_threads_are_pooled_and_end_with_it() -> None:
    before = threading.active_count()
    runtime = BatonRuntime(make_strategy("random", 1))
    backend = ModelBackend(versions.load("v6.5"), FULL_BLOCKS, runtime)
    for execution in range(4):
        runtime.strategy.begin(execution)
        backend.reset(draw(FULL_BLOCKS, 1, execution))
        backend.run()
    assert 2 <= threading.active_count() - before <= len(runtime.tasks)
    runtime.close()
    assert threading.active_count() == before


def test_a_ping_pong_has_a_rate() -> None:
    assert ping_pong(200) > 0
