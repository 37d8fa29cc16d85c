# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest

from stressvmap.stress.bench.figures import figures
from stressvmap.vmalloc import versions


def test_the_figures_have_a_row_for_each_version_alone_and_concurrent() -> None:
    table = figures(5)
    cells = [list(column.cells) for column in table.columns]
    assert cells[0] == [name for name in versions.BUILT_IN for _tasks in ("1", "4 + 1")]
    assert cells[1] == ["1", "4 + 1"] * len(versions.BUILT_IN)
    flushed, owed, excess = ([float(str(cell)) for cell in column] for column in cells[2:5])
    for row in range(len(cells[0])):
        assert flushed[row] == pytest.approx(owed[row] + excess[row], abs=0.02)
