# SPDX-License-Identifier: GPL-2.0-only
"""The studies behind the figures in docs/, scaled down: they measure what they say, and notice what they look for."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from stressvmap.stress import replay_study, search_study, shrink_study
from stressvmap.stress.schedule_file import read_schedule, write_schedule
from stressvmap.stress.shrink_study import BUGS, Bug, size_of
from tests.stress.saved import failure


def test_failures_of_many_kinds_are_collected_and_replay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--failures", "8", "--hash-seeds", "1", "--commands", "1", "--out", str(tmp_path)]
    assert replay_study.main(arguments) == 0
    told = capsys.readouterr().out
    assert "8 of 8" in told
    assert "1 of 1" in told
    assert "all recur, with identical digests" in told
    saved = [read_schedule(path) for path in sorted(tmp_path.glob("*.json"))]
    kinds = [one.fingerprint for one in saved]
    assert len(set(kinds)) >= 5
    assert max(map(kinds.count, kinds)) <= 2


def test_a_failure_that_does_not_recur_is_noticed(tmp_path: Path) -> None:
    saved = [failure(), failure()]
    write_schedule(saved[0], tmp_path / "0000.json")
    write_schedule(replace(saved[1], journal_digest="0"), tmp_path / "0001.json")
    assert replay_study.in_a_fresh_process(tmp_path, 5, saved) == 1
    assert not replay_study.by_command(tmp_path / "0001.json", saved[1], 5)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_each_minimum_written_by_hand_shows_its_bug(bug: Bug) -> None:
    minimum = bug.minimum()
    assert minimum.fingerprint == bug.fingerprint
    size = size_of(minimum)
    assert (size.tasks, size.operations) == (len(bug.tasks), sum(len(task.ops) for task in bug.tasks))
    assert size.preemptions == sum(leg.is_preempted for leg in bug.legs)


def test_a_minimum_that_shows_nothing_is_refused() -> None:
    with pytest.raises(LookupError, match="does not show"):
        replace(BUGS[0], tasks=BUGS[2].tasks).minimum()


def test_a_row_of_the_shrinking_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert shrink_study.main(["--failures", "2", "--bug", "0"]) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert "| full block (v6.4) | 2 |" in row
    assert "| **1 / 4 / 0** | 1 / 4 / 0 | 2 of 2 |" in row


def test_findings_of_threads_come_with_their_programs_and_become_schedules(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = search_study.collect(3, 30.0, 1)
    assert len(found) == 3
    assert all(one.program.operations for one in found)
    assert search_study.main(["--findings", "2", "--schedules", "500", "--version", "v6.4"]) == 0
    assert re.search(r"^[12] of 2 within 500 schedules each$", capsys.readouterr().out, re.MULTILINE)
