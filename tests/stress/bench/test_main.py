# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import json
import sys

import pytest

from stressvmap.stress.bench import __main__ as command
from stressvmap.stress.bench.ratio import AT_LEAST, Mark, Ratio


def test_a_missed_mark_is_printed_and_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missed = Ratio("a / b", (2.0, 3.0, 4.0), Mark(AT_LEAST, 7.0))
    monkeypatch.setattr(command, "ratios", lambda *_: iter([missed]))
    monkeypatch.setattr(sys, "argv", ["bench", "--seconds", "0.01", "--json"])
    command.main()
    printed = json.loads(capsys.readouterr().out)
    assert printed["ratios"] == [
        {"name": "a / b", "median": 3.0, "ratios": [2.0, 3.0, 4.0], "mark": ">= 7", "verdict": "below"}
    ]
    monkeypatch.setattr(sys, "argv", ["bench", "--seconds", "0.01"])
    command.main()
    assert "below" in capsys.readouterr().out


def test_memory_is_told_by_executions(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "--memory", "10", "--json"])
    command.main()
    printed = json.loads(capsys.readouterr().out)["memory"]
    assert [row["executions"] for row in printed] == [1, 2, 5, 8, 10]
