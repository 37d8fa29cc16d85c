# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import textwrap

import pytest

from stressvmap.stress.bench.memory import ENDINGS, footprints
from tests.stress.runs import python


def test_executions_leave_nothing_behind_however_they_end() -> None:
    found = footprints(400)
    assert [footprint.executions for footprint in found] == [40, 100, 200, 300, 400]
    assert 400 % len(ENDINGS) == 0
    late = found[1:]
    assert max(footprint.objects for footprint in late) - min(footprint.objects for footprint in late) < 300
    assert max(footprint.greenlets for footprint in found) - min(footprint.greenlets for footprint in found) <= 1
    assert late[-1].resident_kib - late[0].resident_kib < 1_000


LONG_EXECUTION = """
    from stressvmap.stress.bench.memory import one_long_execution
    for points in (20_000, 60_000):
        done = one_long_execution(points)
        print(done.points, done.events, done.counted_kib)
"""


def test_a_longer_execution_takes_no_more_memory_than_its_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """In chunks that both fill several times. What may grow is the program and the schedule, some 15 bytes a point."""
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    script = f"from stressvmap.journal import log\nlog.CHUNK_EVENTS = 4096\n{textwrap.dedent(LONG_EXECUTION)}"
    short, long = (tuple(map(int, line.split())) for line in python(script).communicate()[0].splitlines())
    assert short[1] > 4 * 4096
    assert long[1] > 2.5 * short[1]
    assert long[2] * 1024 < 80 * long[0], "its journal alone would take 180 bytes a point"
