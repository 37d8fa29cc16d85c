# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from collections.abc import Callable

import pytest

from stressvmap.runtime.runtime import Runtime
from stressvmap.sched.controlled import ControlledRuntime
from stressvmap.sched.random import RandomStrategy
from stressvmap.sched.sequential import SequentialRuntime
from stressvmap.sched.threads import ThreadRuntime
from stressvmap.stress import bench
from tests.stress.runs import TINY


@pytest.mark.parametrize(
    "make", [lambda: ControlledRuntime(RandomStrategy(1)), lambda: ThreadRuntime(1, 0.05), SequentialRuntime]
)
@pytest.mark.parametrize("judged", [False, True])
def test_every_runtime_has_a_rate(make: Callable[[], Runtime], judged: bool) -> None:
    executions, operations, points = bench.rate(make(), judged=judged, seconds=0.05, scenario=TINY)
    assert 0 < executions < operations < points


def test_ratios_have_a_median_and_a_spread() -> None:
    values = iter((2.0, 1.0, 6.0, 1.0, 4.0, 1.0))
    measure = bench.compare("fast / slow", lambda: next(values), lambda: next(values), 3)
    assert measure.row() == ("fast / slow", "4.00", "2.00 .. 6.00")


def test_the_figures_have_a_row_for_each_version_alone_and_concurrent() -> None:
    table = bench.figures(5)
    cells = [list(column.cells) for column in table.columns]
    assert cells[0] == ["v6.4", "v6.4", "rfc-3of3", "rfc-3of3", "v6.5", "v6.5"]
    flushed, owed, excess = ([float(str(cell)) for cell in column] for column in cells[2:5])
    for row in range(6):
        assert flushed[row] == pytest.approx(owed[row] + excess[row], abs=0.02)
