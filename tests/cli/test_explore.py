# SPDX-License-Identifier: GPL-2.0-only
"""`stressvmap explore`: what it prints, writes and exits with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stressvmap.stress.schedule_file import read_schedule
from tests.cli.conftest import Command

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--ops", "map 0 4; unmap 0 | aliases")


def test_a_complete_exploration_says_so(command: Command) -> None:
    ran = command("explore", "--version", "v6.5", *SMALL, "--quiet")
    assert ran.status == 0
    assert "v6.5, explored: CLEAN" in ran.out
    assert "5 executions run to their end, each another Mazurkiewicz trace; 0 cut" in ran.out
    assert "complete within these bounds: every order of its dependent steps" in ran.out


def test_one_that_a_budget_ended_does_not(command: Command) -> None:
    ran = command("explore", "--version", "v6.5", *SMALL, "--schedules", "3", "--quiet")
    assert ran.status == 4
    assert "complete within these bounds" not in ran.out
    assert "not complete: a budget ended it before everything was explored" in ran.out


def test_a_violation_comes_with_a_schedule_file(command: Command, tmp_path: Path) -> None:
    ran = command("explore", "--version", "v6.4", *SMALL, "--out", "o", "--json")
    assert ran.status == 1
    assert ran.object == json.loads((tmp_path / "o/result.json").read_text())
    entry = ran.object["violations"][0]
    saved = read_schedule(tmp_path / "o" / entry["schedule"])
    assert (saved.fingerprint, saved.check) == (entry["fingerprint"], "range-computed-unlocked")
    assert ran.object["coverage"]["is_complete"] == 1
    again = command("explore", "--program", tmp_path / "o" / entry["schedule"], "--out", "p", "--json")
    assert again.object["coverage"] == ran.object["coverage"]


def test_preemptions_are_counted_bound_by_bound(command: Command) -> None:
    ran = command("explore", "--version", "v6.5", *SMALL, "--preemptions", "0", "--json")
    assert ran.object["coverage"]["preemptions_0"] == 2
    assert ran.object["strategy"] == "preemption-bounded=0"


def test_a_program_can_be_drawn(command: Command) -> None:
    drawn = ("--workload", "fill-block", "--cpus", "1", "--operations", "1", "--flushers", "0")
    ran = command("explore", "--version", "v6.5", *drawn, "--schedules", "5", "--json")
    assert ran.object["program"]["tasks"]
    assert ran.status in (0, 1, 4)


def test_a_state_goes_on(command: Command) -> None:
    for schedules in ("2", "100"):
        ran = command("explore", "--version", "v6.5", *SMALL, "--state", "s", "--schedules", schedules, "--json")
    assert ran.object["coverage"]["complete_executions"] == 5
    other = command("explore", "--version", "v6.5", "--ops", "map 0 4 | aliases", "--state", "s")
    assert other.status == 2
    assert "s: was written for another program; give the same command again, or another file" in other.err


def test_a_state_of_other_sources_is_refused_in_words_for_people(command: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from stressvmap.vmalloc.v6_5 import V6_5\n\n\nclass Mine(V6_5):\n    pass\n")
    arguments = ("explore", "--version", "mine.py:Mine", *SMALL, "--state", "s", "--schedules", "2")
    command(*arguments)
    with (tmp_path / "mine.py").open("a") as file:
        file.write("    # another line\n")
    for module in [name for name, module in sys.modules.items() if getattr(module, "IS_USER_PATCH", False)]:
        del sys.modules[module]
    ran = command(*arguments)
    assert ran.status == 2
    assert "Mine as its sources were then: they have changed, so all must be run again" in ran.err
    assert "version_digest" not in ran.err


def test_a_state_of_another_version_names_both(command: Command) -> None:
    command("explore", "--version", "v6.5", *SMALL, "--state", "s", "--schedules", "2")
    ran = command("explore", "--version", "v6.4", *SMALL, "--state", "s")
    assert ran.status == 2
    assert "s: was written for version v6.5, not v6.4; give" in ran.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "say what to explore with one of --ops, --program, --workload; given: none"),
        ((*SMALL, "--workload", "mixed"), "given: --ops and --workload"),
        (("--ops", "mop 0 4"), "'mop' is none of"),
        (("--ops", "map 0"), "map takes a slot and its pages"),
        (("--ops", "map 0 4 | aliases 3"), "aliases takes nothing"),
        (("--ops", "map zero 4"), "after the name come numbers"),
        (("--ops", "map 0 0"), "0 pages cannot be mapped"),
        (("--ops", " | "), "the program does nothing"),
        ((*SMALL, "--cpus", "1"), "--cpus 1: the program has a task on CPU 1"),
        ((*SMALL, "--preemptions", "-1"), "--preemptions -1: is below 0"),
        ((*SMALL, "--jobs", "0"), "--jobs 0: must be above 0"),
        ((*SMALL, "--version", "v9"), "v9"),
        (("--program", "nothing.json"), "nothing.json: cannot be read"),
        ((*SMALL, "--state", "no/such/folder/s"), "--state no/such/folder/s: cannot be written"),
        (("--workload", "chess"), "--workload chess: is not one of"),
    ],
)
def test_bad_input_is_one_line_and_status_2(command: Command, arguments: tuple[str, ...], told: str) -> None:
    ran = command("explore", *arguments)
    assert ran.status == 2
    assert told in ran.err
    assert ran.err.count("\n") == 1


def test_ctrl_c_keeps_the_state_and_the_next_sitting_goes_on(tmp_path: Path) -> None:
    state = tmp_path / "s"
    ops = ("--ops", "map 0 4; unmap 0 | map 1 4; unmap 1 | aliases", "--version", "v6.4")
    arguments = [sys.executable, "-m", "stressvmap", "explore", *ops, "--state", str(state), "--json", "-v"]
    process = subprocess.Popen(
        arguments,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    told = json.loads(out)
    assert told["stopped"]
    kept = json.loads(state.read_text())["coverage"]["complete"]
    assert kept == told["coverage"]["complete_executions"]
    again = subprocess.run(
        [*arguments, "--schedules", str(told["schedules"] + 3)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert json.loads(again.stdout)["schedules"] == told["schedules"] + 3


def test_a_program_that_leads_to_no_flush_checks_nothing_and_is_not_clean(command: Command) -> None:
    ran = command("explore", "--version", "v6.5", "--ops", "unmap 5", "--quiet")
    assert ran.status == 4
    assert "CLEAN" not in ran.out
    assert "inconclusive: no flush was made" in ran.out


SPINS = """
from stressvmap.vmalloc.v6_5 import V6_5


class Spins(V6_5):
    def vm_unmap_aliases(self):
        while True:
            pass
"""


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_version_that_loops_without_a_step_is_given_up_and_its_line_named(tmp_path: Path, jobs: str) -> None:
    (tmp_path / "spins.py").write_text(SPINS)
    arguments = ("--version", "spins.py:Spins", *SMALL, "--stall-seconds", "0.5", "--jobs", jobs, "--out", "o", "-q")
    ended = subprocess.run(
        [sys.executable, "-m", "stressvmap", "explore", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 4
    assert "no step in 0.5 seconds" in ended.stderr
    assert "spins.py:8" in ended.stderr or "spins.py:7" in ended.stderr


def test_a_second_ctrl_c_ends_it_at_once_even_in_a_version_that_loops(tmp_path: Path) -> None:
    looping = SPINS.replace("            pass", "            open('loops', 'w').close()")
    (tmp_path / "spins.py").write_text(looping)
    process = subprocess.Popen(
        [sys.executable, "-m", "stressvmap", "explore", "--version", "spins.py:Spins", *SMALL, "--out", "o"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "loops").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert process.stderr.readline() == "\n"
    assert process.stderr.readline().startswith("stopping")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == ""
