# SPDX-License-Identifier: GPL-2.0-only
"""`stressvmap replay`: what it says, and its exit statuses."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from stressvmap.program import ALIASES, MAP, UNMAP, Program, ProgramOp, TaskProgram
from stressvmap.stress.schedule_file import read_schedule, write_schedule
from tests.cli.conftest import Command
from tests.stress.runs import FOLDER, write_patch
from tests.stress.saved import FULL_BLOCK, failure, run_once

HANGS = """
def vb_free(self, addr, size):
    open("hangs", "w").close()
    while True:
        pass
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "s.json"
    write_schedule(failure(), path)
    return path


def test_a_violation_that_recurs_exits_1_and_names_it(command: Command, file: Path) -> None:
    ran = command("replay", file)
    assert ran.status == 1
    lines = ran.out.splitlines()
    assert lines[0] == f"{file}: v6.4, fill-block, stale-after-unmap-aliases {FULL_BLOCK}"
    assert lines[1] == f"  violation  recurs: {failure().mechanism}"
    assert lines[2].startswith(f"  journal    the same (sha256 {failure().journal_digest[:12]}), ")
    assert lines[2].endswith(" steps, ended: done")
    assert len(lines) == 3
    assert not (file.parent / "logs").exists()


def test_the_object_says_all_of_it(command: Command, file: Path) -> None:
    ran = command("replay", file, "--json")
    assert ran.status == 1
    assert ran.object["verdict"] == "violated"
    assert ran.object["recurs"] is True
    assert ran.object["same_journal"] is True
    assert ran.object["same_source"] is True
    assert ran.object["diverged"] is None
    assert ran.object["violations"][0]["fingerprint"] == FULL_BLOCK


def test_the_story_is_told_when_asked_for(command: Command, file: Path) -> None:
    story = command("replay", file, "--story").out
    assert story.startswith(command("replay", file).out)
    assert "CPU 0" in story
    assert "vm_unmap_aliases" in story.split("ended: done")[1]


def test_a_schedule_that_does_not_fit_exits_4_and_names_the_step(command: Command, file: Path) -> None:
    ran = command("replay", file, "--version", "v6.5")
    assert ran.status == 4
    assert "diverged at step " in ran.out
    told = command("replay", file, "--version", "v6.5", "--json").object
    assert told["verdict"] == "inconclusive"
    assert told["exit_status"] == 4
    assert told["diverged"]["message"] == told["inconclusive"][0]
    assert f"step {told['diverged']['step']}: " in told["diverged"]["message"]


@pytest.mark.parametrize("strategy", [[], ["--strategy", "random"]])
def test_a_prefix_is_gone_on_with(command: Command, file: Path, strategy: list[str]) -> None:
    ran = command("replay", file, "--version", "v6.5", "--prefix", *strategy)
    assert ran.status == 0
    assert "version    another than it was found on (v6.4)" in ran.out
    followed = re.search(
        r"  followed   for (\d+) of the (\d+) steps of this run, .*; the rest was decided (.*)\n", ran.out
    )
    assert followed is not None
    assert f"diverged at step {followed[1]}: " in ran.out
    assert int(followed[1]) < int(followed[2])
    assert followed[3] == ("by random" if strategy else "so that only blocked tasks are switched away from")
    assert "violation  did not come up in this one run: no sign that it cannot" in ran.out
    assert "does not recur" not in ran.out


def test_a_prefix_that_says_little_names_the_command_that_says_more(command: Command, tmp_path: Path) -> None:
    program = Program((TaskProgram(0, (ProgramOp(MAP, 0, 4), ProgramOp(MAP, 1, 4), ProgramOp(UNMAP, 0))),))
    program = replace(program, tasks=(*program.tasks, TaskProgram(0, (ProgramOp(ALIASES),))))
    saved = run_once(program, fingerprint=FULL_BLOCK)
    assert saved is not None
    write_schedule(saved, tmp_path / "s.json")
    told = command("replay", tmp_path / "s.json", "--version", "v6.5", "--prefix", "--json").object
    assert 0 < told["followed"]["operations"] <= told["followed"]["operations_in_all"] == 4
    assert told["followed"]["steps"] == told["diverged"]["step"]
    look_on = command("replay", tmp_path / "s.json", "--version", "v6.5", "--prefix").out.split(
        "look on    stressvmap "
    )
    ran = command(*shlex.split(look_on[1].split("   (")[0]), "--quiet")
    assert "complete within these bounds" in ran.out
    assert FULL_BLOCK not in ran.out


def test_a_whole_schedule_says_nothing_of_how_far_it_was_followed(command: Command, file: Path) -> None:
    assert "followed" not in command("replay", file, "--prefix").out
    assert command("replay", file, "--prefix", "--json").object["followed"] is None


def test_out_keeps_the_journal_and_the_schedule_as_it_was(command: Command, file: Path, tmp_path: Path) -> None:
    command("replay", file, "--version", "v6.5", "--prefix", "--out", "o", "--json")
    kept = tmp_path / "o"
    assert {"replay.svj", "replay.json", "result.json"} <= set(os.listdir(kept))
    assert command("check", kept / "replay.svj").status == 0
    again = command("replay", kept / "replay.json")
    assert (again.status, "the same" in again.out) == (0, True)
    assert json.loads((kept / "result.json").read_text())["command"] == "replay"
    assert read_schedule(kept / "replay.json").version == "v6.5"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["none.json"], "none.json: cannot be read: No such file"),
        (["s.json", "--strategy", "random"], "--strategy random: is what --prefix goes on with"),
        (["s.json", "--prefix", "--strategy", "rndom"], "rndom"),
        (["s.json", "--version", "v6.6"], "version 'v6.6' is unknown"),
        (["s.json", "--stall-seconds", "0"], "--stall-seconds 0: must be above 0"),
        (["cut.json"], "cut.json: is no schedule file, or not a whole one"),
        (["gone.json"], "/gone.py: there is no such file"),
    ],
)
def test_bad_input_is_one_clear_line(command: Command, file: Path, arguments: list[str], part: str) -> None:
    (file.parent / "cut.json").write_text(file.read_text()[:-40])
    write_schedule(replace(failure(), version=str(file.parent / "gone.py")), file.parent / "gone.json")
    ran = command("replay", *arguments)
    assert ran.status == 2
    assert ran.out == ""
    assert part in ran.err
    assert ran.err.count("\n") == 1


def start(file: Path, *arguments: str) -> subprocess.Popen[str]:
    """The command in its own process, on a version that hangs."""
    version = write_patch(file.parent, HANGS, "V6_4")
    return subprocess.Popen(
        [sys.executable, "-m", "stressvmap", "replay", str(file), "--version", version, "--prefix", *arguments],
        cwd=file.parent,
        env=os.environ | {"PYTHONPATH": str(FOLDER)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_version_that_hangs_does_not_hang_the_command(file: Path) -> None:
    process = start(file, "--stall-seconds", "0.5", "--json")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert "no step in 0.5 seconds: step " in err
    assert "patch.py" in err
    told = json.loads(out)
    assert (told["verdict"], told["exit_status"]) == ("inconclusive", 4)


def test_it_can_be_stopped_while_a_version_hangs(file: Path) -> None:
    process = start(file)
    deadline = time.monotonic() + 60
    while not (file.parent / "hangs").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
