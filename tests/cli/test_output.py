# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest
from rich.text import Text

from stressvmap.cli import output

LONG = "    | " + "word " * 40 + "end"


def test_elsewhere_than_on_a_terminal_a_line_stays_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_lines([Text(LONG, style="bold red"), Text("[brackets] :smile:")])
    assert capsys.readouterr().out == f"{LONG}\n[brackets] :smile:\n"


def test_on_a_terminal_lines_are_made_to_fit_under_their_own_margin(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    output.print_lines([Text(LONG), Text("x" * 70), Text(LONG, no_wrap=True)])
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 60 for line in lines[:-2])
    assert all(line.startswith("    |   word") for line in lines[1:-3])
    assert lines[-2:] == ["x" * 70, LONG]
    assert " ".join(" ".join(lines[:-2]).replace("|", "").split()) == " ".join(LONG.replace("|", "").split())
