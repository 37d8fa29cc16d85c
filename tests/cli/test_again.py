# SPDX-License-Identifier: GPL-2.0-only
"""A finding names the command that runs its execution again, and that command shows it again."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

from tests.cli.conftest import Command

ARGUMENTS = ("--version", "v6.4", "--seed", "4", "--cpus", "2", "--workload", "fill-block", "-q")


def test_the_command_that_a_finding_names_replays_it_exactly(command: Command) -> None:
    shown = command("stress", *ARGUMENTS, "--schedules", "2", "--out", "o")
    assert shown.status == 1
    lines = re.findall(r"replay: +stressvmap (replay .*)", shown.out)
    assert len(lines) == len(json.loads(Path("o/result.json").read_text())["violations"])
    for line in lines:
        replayed = command(*shlex.split(line), "--json")
        assert replayed.status == 1
        assert (replayed.object["recurs"], replayed.object["same_journal"]) == (True, True)


def test_the_number_of_an_execution_repeats_it_exactly(command: Command, tmp_path: Path) -> None:
    command("stress", *ARGUMENTS, "--schedules", "2", "--out", "first")
    (number, *_) = {v["first_at_schedule"] for v in violations_in(tmp_path / "first")}
    repeated = command("stress", *ARGUMENTS, "--execution", str(number), "--out", "second")
    assert repeated.status == 1
    before = {v["fingerprint"]: v for v in violations_in(tmp_path / "first") if v["first_at_schedule"] == number}
    after = {v["fingerprint"]: v for v in violations_in(tmp_path / "second")}
    assert before.keys() <= after.keys()
    for fingerprint, violation in before.items():
        assert violation["message"] == after[fingerprint]["message"]
        for key in ("journal", "schedule"):
            first, second = (tmp_path / "first" / violation[key], tmp_path / "second" / after[fingerprint][key])
            assert first.read_bytes() == second.read_bytes()


def violations_in(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "result.json").read_text())["violations"]
    return found


def test_a_negative_execution_is_bad_input(command: Command) -> None:
    answer = command("stress", "--execution", "-1")
    assert answer.status == 2
    assert "--execution" in answer.err
