# SPDX-License-Identifier: GPL-2.0-only
"""A finding names the command that runs its execution again, and that command shows it again."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from tests.cli.conftest import Command


def test_the_command_that_a_controlled_finding_names_repeats_it_exactly(command: Command, tmp_path: Path) -> None:
    first = tmp_path / "first"
    args = ["--version", "v6.4", "--runtime", "controlled", "--schedules", "2", "--seed", "4", "--cpus", "2", "-q"]
    shown = command("stress", *args, "--workload", "fill-block", "--out", str(first))
    assert shown.status == 1
    again = re.search(r"again: +(stressvmap stress .*)", shown.out)
    assert again is not None
    second = tmp_path / "second"
    repeated = command(*shlex.split(again[1])[1:], "-q", "--out", str(second))
    assert repeated.status == 1
    before = json.loads((first / "result.json").read_text())["violations"]
    after = json.loads((second / "result.json").read_text())["violations"]
    number = int(again[1].rsplit(" ", 1)[1])
    expected = [(v["fingerprint"], v["message"]) for v in before if v["first_at_schedule"] == number]
    assert expected
    assert set(expected) <= {(v["fingerprint"], v["message"]) for v in after}
    journals = [v["journal"] for v in before if v["first_at_schedule"] == number]
    assert all((first / journal).read_bytes() == (second / journal).read_bytes() for journal in journals)


def test_a_negative_execution_is_bad_input(command: Command) -> None:
    answer = command("stress", "--execution", "-1")
    assert answer.status == 2
    assert "--execution" in answer.err
