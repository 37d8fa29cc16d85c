# SPDX-License-Identifier: GPL-2.0-only
"""What the benchmark measures can be measured. How fast things are is no test."""

from __future__ import annotations

import pytest

from stressvmap.config import RunSpec
from stressvmap.sched.controlled import ControlledRuntime
from stressvmap.sched.portfolio import make_strategy
from stressvmap.stress.bench import speed
from tests.stress.runs import TINY


@pytest.mark.parametrize("name", speed.RUNTIMES)
@pytest.mark.parametrize("judged", [False, True])
def test_every_runtime_has_a_rate(name: str, judged: bool) -> None:
    rate = speed.rate(speed.RUNTIMES[name], TINY, judged=judged, seconds=0.02)
    assert 0 < rate.executions < rate.operations < rate.points


def test_each_point_of_the_honesty_test_is_a_switch() -> None:
    switches, seconds = speed.empty_points(ControlledRuntime(make_strategy("round-robin:1", 1)), 2, 50)
    assert switches == 2 * (50 + 1)
    assert seconds > 0


def test_every_ratio_has_a_value() -> None:
    ratios = [
        speed.baton_honesty(1, switches=200),
        speed.against_baton("sticky", TINY, "tiny", 2.5, 1, 0.01),
        speed.cost_of_checks("random", 1, 0.01),
        speed.floor("random", 1, executions=1),
        speed.by_length((400, 800), 1),
        speed.by_cpus((2, 3), 1),
        speed.against_threads(1, 0.01),
        speed.against_sequential(1, 0.01),
    ]
    assert all(ratio.median > 0 for ratio in ratios)
    assert [ratio.name for ratio in ratios if not ratio.verdict] == [ratio.name for ratio in ratios[-2:]]


def test_a_ring_of_greenlets_switches_and_ends() -> None:
    assert speed.ring(3, 30) > 0


def test_what_a_second_process_adds_is_measured() -> None:
    assert speed.loops_a_second(2, 0.01) > 0
    spec = RunSpec(version=speed.VERSION, strategy="random", seconds=0.1)
    assert speed.schedules_a_second(1, spec) > 0
