# SPDX-License-Identifier: GPL-2.0-only
"""check, show and report on what a real run left behind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from stressvmap.config import CONTROLLED, RunSpec
from stressvmap.journal.events import GROUND
from stressvmap.journal.store import read, write
from stressvmap.report.saved import Summary, to_json
from stressvmap.stress import harness
from tests.cli.conftest import Command


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    result = harness.run(RunSpec(version="v6.4", runtime=CONTROLLED, schedules=20), folder=folder)
    (folder / "result.json").write_text(to_json(Summary("stress", [result]).as_dict()))
    return folder


@pytest.fixture(scope="module")
def journal(run_folder: Path) -> Path:
    data = json.loads((run_folder / "result.json").read_text())
    names: list[str] = [
        entry["journal"] for entry in data["violations"] if entry["check"] == "stale-after-unmap-aliases"
    ]
    return run_folder / names[0]


def test_check_finds_in_the_journal_what_the_run_found(command: Command, journal: Path) -> None:
    ran = command("check", journal, "--json")
    assert ran.status == 1
    assert ran.object["command"] == "check"
    found = {entry["check"]: entry for entry in ran.object["violations"]}
    assert found["stale-after-unmap-aliases"]["known"]
    assert ran.object["not_run"] == {}
    assert f"look closer: stressvmap show {journal}" in command("check", journal).out


def test_check_of_certain_checks_only(command: Command, journal: Path, tmp_path: Path) -> None:
    assert command("check", journal, "--check", "deadlock").status == 0
    assert command("check", journal, "--check", "stale-after-unmap-aliases").status == 1
    ground = tmp_path / "ground.svj"
    write(replace(read(journal), streams=frozenset({GROUND})), ground)
    ran = command("check", ground, "--check", "data-race")
    assert ran.status == 4
    assert "check data-race was asked for and could not run" in ran.out


def test_a_limit_makes_a_metric_a_violation(command: Command, journal: Path) -> None:
    assert command("check", journal, "--check", "excess-flush").status == 0
    assert command("check", journal, "--check", "excess-flush", "--limit", "excess-flush=0").status == 1


def test_a_cut_journal_is_checked_as_far_as_it_goes(command: Command, journal: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.svj"
    cut.write_bytes(journal.read_bytes()[:-40])
    ran = command("check", cut, "--json")
    assert ran.status in (1, 4)
    assert "not whole" in ran.object["inconclusive"][0]
    shown = command("show", cut)
    assert shown.status == 4
    assert shown.err.startswith("stressvmap: the journal is not whole")


def test_show_prints_a_line_an_event_and_filters(command: Command, journal: Path) -> None:
    events = read(journal).events
    whole = command("show", journal)
    assert whole.status == 0
    assert len(whole.out.splitlines()) == len(events) + 1
    some = command("show", journal, "--event", "pte_clear", "--cpu", "0")
    assert f"of {len(events):,} events shown" in some.out
    assert len(some.out.splitlines()) < 40
    ran = command("show", journal, "--event", "flush_end", "--json")
    assert {entry["kind"] for entry in ran.object["events"]} == {"flush_end"}


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--event", "pte_cleer"], "pte_cleer"),
        (["--task", "nobody"], "nobody"),
        (["--range", "7"], "START-END"),
        (["--trace", "perfetto", "--cpu", "1"], "--trace writes the whole journal"),
        (["--trace", "perfetto", "--out", "/proc/x/y"], "cannot be written"),
    ],
)
def test_show_tells_a_filter_that_is_none(command: Command, journal: Path, arguments: list[str], part: str) -> None:
    ran = command("show", journal, *arguments)
    assert ran.status == 2
    assert part in ran.err
    assert ran.err.count("\n") == 1


def test_timelines_are_written_beside_the_journal_or_where_one_says(
    command: Command, journal: Path, tmp_path: Path
) -> None:
    ran = command("show", journal, "--trace", "perfetto")
    written = Path(ran.out.removeprefix("written: ").rstrip())
    assert json.loads(written.read_text())["traceEvents"]
    ran = command("show", journal, "--trace", "ftrace", "--out", "x.txt", "--json")
    assert ran.object["file"] == "x.txt"
    assert (tmp_path / "x.txt").read_text().startswith("# tracer: nop")


def test_report_renders_the_result_again(command: Command, run_folder: Path) -> None:
    ran = command("report", run_folder)
    assert ran.status == 0
    assert "v6.4: VIOLATED" in ran.out
    assert command("report", run_folder / "result.json").out == ran.out
    assert command("report", run_folder, "--json").object["exit_status"] == 1


@pytest.mark.parametrize(
    "text", ["{}", "[]", "{", '{"schema": 2, "command": "stress"}', '{"schema": 1, "command": "stress"}']
)
def test_report_of_what_is_no_result(command: Command, tmp_path: Path, text: str) -> None:
    (tmp_path / "result.json").write_text(text)
    ran = command("report", tmp_path)
    assert ran.status == 2
    assert "result" in ran.err
    assert ran.err.count("\n") == 1


def test_versions_lists_and_shows(command: Command) -> None:
    listed = command("versions")
    assert "v6.4             Linux v6.4" in listed.out
    assert "known: stale-after-unmap-aliases" in listed.out
    named = [entry["name"] for entry in command("versions", "--json").object["versions"]]
    assert named == ["v6.1", "rfc-3of3-on-v6.1", "v6.4", "rfc-3of3", "v6.5", "v6.12"]
    assert "# from Rfc3of3Patch (stressvmap/vmalloc/rfc_3of3.py:" in command("versions", "--show", "rfc-3of3").out
