# SPDX-License-Identifier: GPL-2.0-only
"""Code under test that takes the process along is a verdict with a schedule, and the share is gone on with."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stressvmap.config import RunSpec
from stressvmap.result import Finding, RunResult
from stressvmap.scenario import Scenario
from stressvmap.stress import guard, harness
from stressvmap.stress.guard import DIED, in_copy
from stressvmap.stress.harness import Progress
from stressvmap.stress.replay import replay
from stressvmap.stress.schedule_file import read_schedule
from stressvmap.stress.shrink import Shrinker
from tests.tree.kernel_sources import archive
from tests.tree.test_misbehaving import patched

EXIT = """\
static noinline void sv_leave(long status)
{
	asm volatile("syscall" : : "a"(231l), "D"(status) : "rcx", "r11", "memory");
}

"""
"""exit_group(2) as x86-64 has it: no library is asked, and no handler sees it."""
TOGETHER = (
    "{{ static int x; WRITE_ONCE(x, READ_ONCE(x) + 1); if (READ_ONCE(x) == {}) {}; WRITE_ONCE(x, READ_ONCE(x) - 1); }}"
)
"""So many tasks in vb_free at a time."""
TWO_CPUS = Scenario(cpus=2, operations=20, flushes=1, steps_max=20_000)


# -- copies ----------------------------------------------------------------------------------------------------


def test_a_copy_tells_what_it_found_and_changes_nothing_here() -> None:
    here = [1]

    def act() -> list[int]:
        here.append(2)
        return here

    told = in_copy(act)
    assert (told.how, told.value) == ("", [1, 2])
    assert here == [1]


@pytest.mark.parametrize(
    ("act", "how"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "SIGKILL"),
        (lambda: os.abort(), "SIGABRT"),
        (lambda: os._exit(0), "exit status 0"),
        (lambda: os._exit(7), "exit status 7"),
        (lambda: time.sleep(1000), "it sleeps for ever"),
    ],
)
def test_how_a_copy_ends_is_told(act: Callable[[], object], how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "ASLEEP_LOOKS", 4)
    assert in_copy(act).how == how


def test_a_copy_that_hangs_does_not_outlive_who_waits_for_it() -> None:
    told, tell = os.pipe()

    def hang() -> None:
        os.write(tell, b"x")
        time.sleep(20)

    waiting = os.fork()
    if waiting == 0:
        in_copy(hang)
        os._exit(0)
    os.close(tell)
    assert os.read(told, 1) == b"x"
    os.kill(waiting, signal.SIGKILL)
    os.waitpid(waiting, 0)
    assert os.read(told, 1) == b"", "nobody holds the other end any more"


def test_what_a_copy_raises_is_no_death_for_it_is_raised_here_as_well() -> None:
    assert in_copy(lambda: 1 // 0).how == ""


def test_a_copy_that_spins_is_ended_by_its_processor_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "CPU_SECONDS", 0.5)
    monkeypatch.setattr(guard, "CPU_SECONDS_A_POINT", 0.1)

    def spin() -> None:
        while True:
            pass

    assert in_copy(spin, points=5).how == "SIGXCPU"


def test_a_copy_that_takes_its_time_over_much_is_waited_for() -> None:
    def act() -> bytes:
        time.sleep(1)
        return bytes(10_000_000)

    told = in_copy(act)
    assert (told.how, len(told.value or b"")) == ("", 10_000_000)


# -- trees -----------------------------------------------------------------------------------------------------

of_trees = [
    pytest.mark.trees,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="the patch makes a system call of x86-64"),
]


def run(version: str, folder: Path, **options: object) -> RunResult:
    spec = RunSpec(version=version, scenario=TWO_CPUS, schedules=60, seed=1, strategy="sticky", **options)  # type: ignore[arg-type]
    return harness.run(spec, folder=folder)


def deaths(result: RunResult) -> list[Finding]:
    return [finding for finding in result.findings if "ends the process" in finding.message]


class TestOfTrees:
    pytestmark = of_trees

    def test_the_schedule_that_ends_the_process_is_found_replayed_and_shrunk(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tree = archive("6.1", monkeypatch)
        version = patched(tree, tmp_path, TOGETHER.format(2, "sv_leave(3)"), EXIT)
        result = run(version, tmp_path)
        assert result.exit_status == 1
        assert result.schedules == 60
        assert result.inconclusive == []
        (death,) = deaths(result)
        assert death.check == "kernel-bug"
        assert "in vb_free at mm/vmalloc.c:" in death.message
        assert "exit status 3" in death.message
        others = {finding.check for finding in result.findings}
        assert "range-computed-unlocked" in others, "what was found before, and after, is kept"

        saved = read_schedule(tmp_path / death.schedule)
        assert saved.reason == DIED
        again = replay(saved)
        assert again.exit_status == 1
        assert again.is_same_journal
        assert again.violation is not None
        assert again.violation.fingerprint == death.fingerprint
        assert replay(saved, version=f"tree:{tree}").exit_status == 0

        shrunk = Shrinker(saved, tries=60).run()
        assert shrunk.best is not None
        assert shrunk.before is not None
        assert shrunk.best.size.program < shrunk.before.program
        small = replay(shrunk.best.saved)
        assert (small.exit_status, small.is_same_journal) == (1, True)

    def test_what_no_schedule_reaches_ends_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        version = patched(archive("6.1", monkeypatch), tmp_path, TOGETHER.format(3, "sv_leave(3)"), EXIT)
        result = run(version, tmp_path)
        assert not deaths(result)
        assert result.inconclusive == []

    def test_a_corrupted_engine_is_the_corrupters_fault(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        version = patched(archive("6.1", monkeypatch), tmp_path, TOGETHER.format(2, "sv_tasks[1] = (void *)8"))
        result = run(version, tmp_path)
        assert result.schedules == 60
        assert deaths(result)
        assert result.inconclusive == []

    def test_one_that_always_dies_gets_its_verdict_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also where the strategy first measures how long executions are."""
        version = patched(archive("6.1", monkeypatch), tmp_path, "sv_leave(0);", EXIT)
        spec = RunSpec(version=version, scenario=TWO_CPUS, schedules=4, seed=1, strategy="pct:3")
        result = harness.run(spec, folder=tmp_path)
        assert result.exit_status == 1
        assert result.schedules == 4
        assert deaths(result)[0].first_at_schedule == 0

    def test_explore_outlives_it_and_says_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        version = patched(archive("6.1", monkeypatch), tmp_path, TOGETHER.format(2, "sv_leave(0)"), EXIT)
        command = [sys.executable, "-m", "stressvmap", "explore", "--version", version, "--points", "marked", "--json"]
        command += ["--ops", "map 0 4; unmap 0 | map 1 4; unmap 1"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 4
        told = "the code under test ended the process (exit status 0); `stressvmap stress` tells by which schedule"
        assert json.loads(done.stdout)["inconclusive"] == [told]
        assert done.stderr.splitlines()[-1] == f"stressvmap: {told}"

    def test_a_process_that_somebody_else_killed_is_told_of_and_what_it_ran_is_not_lost(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        killed: list[int] = []

        def kill_once(progress: Progress) -> None:
            if progress.schedules > 1000 and not killed:
                killed.extend(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))
                os.kill(killed[0], signal.SIGKILL)

        spec = RunSpec(version=f"tree:{archive('6.12', monkeypatch)}", scenario=TWO_CPUS, schedules=6_000, seed=1)
        result = harness.run(spec, folder=tmp_path, progress=kill_once)
        assert killed
        assert result.schedules == 6_000
        assert result.inconclusive == [
            "a worker process died (signal SIGKILL); of its executions none did so again",
        ]
