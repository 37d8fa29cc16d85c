# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import os

import pytest

from stressvmap.stress.bench.ratio import AT_LEAST, AT_MOST, Mark, compare, growth, on_one_cpu


def test_a_ratio_is_measured_in_turn_and_has_a_median_and_a_spread() -> None:
    values = iter((2.0, 1.0, 6.0, 1.0, 4.0, 1.0))
    ratio = compare("a / b", lambda: next(values), lambda: next(values), 3)
    assert ratio.row() == ("a / b", "4", "2 .. 6", "", "")


@pytest.mark.parametrize(
    ("relation", "value", "verdict"),
    [(AT_LEAST, 4.0, "ok"), (AT_LEAST, 4.1, "below"), (AT_MOST, 4.0, "ok"), (AT_MOST, 3.9, "above")],
)
def test_a_mark_is_held_against_the_median(relation: str, value: float, verdict: str) -> None:
    values = iter((2.0, 4.0, 9.0))
    ratio = compare("a / b", lambda: next(values), lambda: 1.0, 3, Mark(relation, value))
    assert ratio.row()[3:] == (f"{relation} {value:g}", verdict)
    assert ratio.as_dict()["verdict"] == verdict


@pytest.mark.parametrize(("power", "factor", "verdict"), [(0.0, 1.0, "ok"), (1.0, 10.0, "above"), (-0.5, 0.3162, "ok")])
def test_growth_is_the_factor_per_step_of_the_base(power: float, factor: float, verdict: str) -> None:
    ratio = growth("cost", (10, 100, 1000, 10_000), lambda size: 3.0 * size**power, 2, base=10, limit=1.05)
    assert ratio.values == pytest.approx([factor, factor], rel=1e-3)
    assert ratio.verdict == verdict


def test_a_thread_is_kept_on_one_cpu_and_let_go_again() -> None:
    before = os.sched_getaffinity(0)
    with on_one_cpu():
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before
