# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import io

import pytest
from rich.console import Console

from stressvmap.report import live
from stressvmap.stress.harness import Progress

PROGRESS = Progress(
    seconds=4.0,
    schedules=20,
    operations=4000,
    flushes=30,
    flushed_pages=1234,
    owed_pages=56,
    distinct_journals=17,
    unseen=0.84,
    violations=3,
    unknown=1,
)


def test_a_plain_view_prints_a_line_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 101.0, 109.9, 110.0, 111.0, 119.9, 120.1])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    out = io.StringIO()
    view = live.PlainView(out)
    view.begin("v6.4, mixed", 1, 2)
    for _ in range(6):
        view.update(PROGRESS)
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0] == (
        "[1/2] v6.4, mixed: 4 s, 20 executions, 1,000 operations/s, 17 distinct journals (the next is new: 84%),"
        " 30 flushes, 1,234 pages flushed (56 owed),"
        " 3 distinct violations (1 new), running"
    )


def test_a_terminal_shows_rates_flushes_pages_and_violations() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, no_color=True)
    with live.TerminalView(console) as view:
        view.begin("v6.4, mixed", 1, 2)
        view.update(PROGRESS)
        view.live.refresh()
    text = out.getvalue()
    for part in ("run 1 of 2: v6.4, mixed", "1,000", "1,234", "56", "2 known, ", "1 new"):
        assert part in text


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    view = live.view_for(is_quiet=True)
    with view:
        view.begin("x", 1, 1)
        view.update(PROGRESS)
    assert capsys.readouterr() == ("", "")


def test_not_on_a_terminal_lines_are_plain() -> None:
    assert isinstance(live.view_for(is_quiet=False), live.PlainView)
