# SPDX-License-Identifier: GPL-2.0-only
"""`stressvmap shrink`: what it says and writes, its exit statuses, and that the best so far survives its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from stressvmap.program import MAP, Program, ProgramOp, TaskProgram
from stressvmap.stress.replay import RECURS, replay
from stressvmap.stress.schedule_file import read_schedule, write_schedule
from tests.cli.conftest import Command
from tests.stress.runs import FOLDER, write_patch
from tests.stress.saved import DYING_BLOCK, FULL_BLOCK, failure


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "s.json"
    write_schedule(failure(), path)
    return path


def test_it_writes_the_smallest_beside_the_file_and_says_how_to_replay_it(command: Command, file: Path) -> None:
    ran = command("shrink", file)
    target = file.with_name("s.min.json")
    assert ran.status == 0
    assert f"now     1 task, 4 operations, 0 preemptions: {target}" in ran.out
    assert f"stressvmap replay {target} --story" in ran.out
    assert command("replay", target).status == RECURS
    again = command("shrink", target, "-o", "again.json", "-q")
    assert again.status == 0
    assert "nothing smaller was found" in again.out
    assert again.err == ""


def test_the_object_has_both_sizes(command: Command, file: Path) -> None:
    told = command("shrink", file, "--json").object
    assert told["after"] == {"tasks": 1, "operations": 4, "preemptions": 0}
    assert told["before"]["tasks"] == 3
    assert (told["is_smaller"], told["fingerprint"], told["exit_status"]) == (True, FULL_BLOCK, 0)


def test_a_violation_that_does_not_recur_exits_1_and_writes_nothing(command: Command, file: Path) -> None:
    write_schedule(replace(failure(), program=Program((TaskProgram(0, (ProgramOp(MAP, 0, 1),)),))), file)
    ran = command("shrink", file)
    assert ran.status == 1
    assert "the violation does not recur" in ran.out
    assert not file.with_name("s.min.json").exists()


def test_a_budget_keeps_the_best_so_far(command: Command, file: Path) -> None:
    ran = command("shrink", file, "--tries", "9")
    assert ran.status == 0
    assert "budget used up: it may not be the smallest" in ran.out
    assert replay(read_schedule(file.with_name("s.min.json"))).exit_status == RECURS


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["none.json"], "none.json: cannot be read"),
        (["s.json", "--tries", "0"], "--tries 0: must be above 0"),
        (["s.json", "--seconds", "nan"], "--seconds nan: must be above 0"),
        (["s.json", "-o", "s.json"], "--output s.json: is the file to shrink"),
        (["s.json", "-o", "no/s.json"], "cannot write no/s.json: No such file or directory"),
    ],
)
def test_bad_input_is_one_clear_line(command: Command, file: Path, arguments: list[str], part: str) -> None:
    ran = command("shrink", *arguments, "-q")
    assert ran.status == 2
    assert part in ran.err
    assert (ran.out, ran.err.count("\n")) == ("", 1)
    assert read_schedule(file) == failure()


def start(path: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "stressvmap", "shrink", str(path), *arguments],
        cwd=path.parent,
        env=os.environ | {"PYTHONPATH": str(FOLDER)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(target: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not target.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_the_best_so_far(file: Path, number: signal.Signals) -> None:
    write_schedule(failure("v6.5", DYING_BLOCK), file)
    target = file.with_name("s.min.json")
    process = start(file)
    wait_for(target, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped: it may not be the smallest" in out
    assert "Traceback" not in err
    assert replay(read_schedule(target)).exit_status == RECURS
    assert sorted(os.listdir(file.parent)) == ["s.json", "s.min.json"]


def test_kill_9_leaves_a_whole_file_and_the_next_run_starts_clean(command: Command, file: Path) -> None:
    write_schedule(failure("v6.5", DYING_BLOCK), file)
    target = file.with_name("s.min.json")
    process = start(file, "-q")
    wait_for(target, process)
    process.kill()
    process.communicate()
    assert replay(read_schedule(target)).exit_status == RECURS
    assert command("shrink", file, "-q", "--tries", "5").status == 0
    assert replay(read_schedule(target)).exit_status == RECURS


def test_a_version_that_hangs_ends_it_with_the_best_so_far(file: Path) -> None:
    """It hangs on one page only, which the schedule itself does not map, but a smaller one would."""
    body = "def vb_free(self, addr, size):\n    while size == 1 << 12:\n        pass\n    super().vb_free(addr, size)\n"
    saved = replace(failure(), version=write_patch(file.parent, body, "V6_4"))
    ops = (*(ProgramOp(MAP, slot, 4) for slot in (0, 1)), ProgramOp("unmap", 0), ProgramOp("aliases"))
    write_schedule(replace(saved, program=Program((TaskProgram(0, ops),))), file)
    process = start(file, "--stall-seconds", "0.5")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert out == ""
    assert "no step in 0.5 seconds: step " in err
    assert "the best so far is in " in err
    assert replay(read_schedule(file.with_name("s.min.json"))).exit_status == RECURS
