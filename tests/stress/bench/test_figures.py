# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest

from stressvmap.stress.bench.figures import figures


def test_the_figures_have_a_row_for_each_version_alone_and_concurrent() -> None:
    table = figures(5)
    cells = [list(column.cells) for column in table.columns]
    assert cells[0] == ["v6.4", "v6.4", "rfc-3of3", "rfc-3of3", "v6.5", "v6.5"]
    flushed, owed, excess = ([float(str(cell)) for cell in column] for column in cells[2:5])
    for row in range(6):
        assert flushed[row] == pytest.approx(owed[row] + excess[row], abs=0.02)
