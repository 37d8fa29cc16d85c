# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from stressvmap.stress.bench.memory import ENDINGS, footprints, one_long_execution


def test_executions_leave_nothing_behind_however_they_end() -> None:
    found = footprints(400)
    assert [footprint.executions for footprint in found] == [40, 100, 200, 300, 400]
    assert 400 % len(ENDINGS) == 0
    late = found[1:]
    assert max(footprint.objects for footprint in late) - min(footprint.objects for footprint in late) < 300
    assert max(footprint.greenlets for footprint in found) - min(footprint.greenlets for footprint in found) <= 1
    assert late[-1].resident_kib - late[0].resident_kib < 1_000


def test_one_long_execution_holds_its_journal() -> None:
    events, kib = one_long_execution(20_000)
    assert events > 15_000
    assert kib > 500
