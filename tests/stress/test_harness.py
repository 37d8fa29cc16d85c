# SPDX-License-Identifier: GPL-2.0-only
"""Whole runs, in worker processes of their own: short ones, for starting a process takes the most of them."""

from __future__ import annotations

import os
import re
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from stressvmap.checks.costs import METRIC_NAMES
from stressvmap.config import CONTROLLED, THREADS
from stressvmap.errors import ConfigError, PatchError
from stressvmap.journal import store
from stressvmap.result import CLEAN, INCONCLUSIVE, VIOLATED, RunResult
from stressvmap.stress import harness
from stressvmap.stress.engine import Tally
from stressvmap.stress.harness import Progress, run
from tests.stress.runs import FULL_BLOCKS, TINY, python, spec_of, wait_until, write_patch

FOREVER = 3600.0


class Watcher:
    """Takes a run's progress, and asks it to stop once so many executions are over."""

    def __init__(self, stop_after: int, how: int) -> None:
        self.seen: list[Progress] = []
        self.stop_after = stop_after
        self.how = how

    def progress(self, now: Progress) -> None:
        self.seen.append(now)

    def stop(self) -> int:
        return self.how if self.seen and self.seen[-1].schedules >= self.stop_after else 0


def what_was_found(result: RunResult) -> dict[str, tuple[int, int, str]]:
    return {one.fingerprint: (one.first_at_schedule, one.count, one.message) for one in result.findings}


# -- what a run comes to ------------------------------------------------------------------------------------


def test_the_number_of_worker_processes_changes_nothing_that_is_found(tmp_path: Path) -> None:
    spec = spec_of("v6.4", FULL_BLOCKS, schedules=31)
    one = run(spec, folder=tmp_path / "1", jobs=1)
    two = run(spec, folder=tmp_path / "2", jobs=2)
    assert what_was_found(one)
    assert what_was_found(two) == what_was_found(one)
    assert (two.schedules, two.operations, two.points) == (one.schedules, one.operations, one.points)
    assert (two.metrics, two.windows, two.flushes) == (one.metrics, one.windows, one.flushes)
    assert set(METRIC_NAMES) < set(one.metrics)
    for number, result in (("1", one), ("2", two)):
        kept = {f"journals/{path.name}" for path in (tmp_path / number / "journals").iterdir()}
        assert kept == {finding.journal for finding in result.findings}
        for finding in result.findings:
            header = store.read(tmp_path / number / finding.journal).header
            assert header["execution"] == finding.first_at_schedule


def test_a_clean_run_says_so_and_carries_what_it_ran() -> None:
    result = run(spec_of(schedules=5, seed=8))
    assert (result.verdict, result.exit_status, result.inconclusive) == (CLEAN, 0, [])
    assert (result.schedules, result.seed, result.strategy, result.version) == (5, 8, "random", "v6.5")
    assert result.flushes > 0
    assert result.scenario["operations"] == TINY.operations


def test_more_processes_than_executions_do_no_harm() -> None:
    assert run(spec_of(schedules=1), jobs=3).schedules == 1


@pytest.mark.parametrize("runtime", [THREADS, CONTROLLED])
@pytest.mark.parametrize(("version", "is_unlocked"), [("v6.4", True), ("rfc-3of3", False)])
def test_each_runtime_finds_the_real_bug_and_what_the_rfc_mends(runtime: str, version: str, is_unlocked: bool) -> None:
    result = run(spec_of(version, replace(FULL_BLOCKS, cpus=4), runtime=runtime, schedules=30))
    fired = {finding.check for finding in result.findings}
    assert "stale-after-unmap-aliases" in fired
    assert ("range-computed-unlocked" in fired) == is_unlocked
    assert any("| fully used block | never visited |" in finding.mechanism for finding in result.findings)
    assert (result.verdict, result.exit_status) == (VIOLATED, 1)


def test_a_run_that_would_never_end_is_refused() -> None:
    with pytest.raises(ConfigError, match="would never end"):
        run(spec_of())


def test_progress_is_reported_and_never_goes_back() -> None:
    watcher = Watcher(20, 1)
    run(spec_of("v6.4", FULL_BLOCKS, seconds=FOREVER), progress=watcher.progress, stop=watcher.stop, jobs=2)
    schedules = [now.schedules for now in watcher.seen]
    assert schedules == sorted(schedules)
    last = watcher.seen[-1]
    assert last.operations > last.schedules > 0
    assert last.points > last.operations
    assert last.flushes > 0
    assert last.flushed_pages >= last.owed_pages > 0
    assert last.violations > 0
    assert last.unknown == 0
    assert {now.phase for now in watcher.seen} == {"running", "stopping"}


# -- stopping -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", [THREADS, CONTROLLED])
def test_a_graceful_stop_keeps_what_ran(runtime: str) -> None:
    watcher = Watcher(5, 1)
    spec = spec_of("v6.4", FULL_BLOCKS, runtime=runtime, seconds=FOREVER)
    result = run(spec, progress=watcher.progress, stop=watcher.stop, jobs=2)
    assert result.is_stopped
    assert result.schedules >= 5
    assert result.findings
    assert result.inconclusive == []
    assert result.exit_status == 130


def test_a_graceful_stop_ends_an_execution_in_its_middle(tmp_path: Path) -> None:
    patch = write_patch(
        tmp_path, "def vb_free(self, address, size):\n    while self.vmap_lazy_nr.read_value() >= 0: pass"
    )
    watcher = Watcher(0, 1)
    spec = spec_of(patch, replace(TINY, steps_max=1 << 40), seconds=FOREVER, stall_seconds=FOREVER)
    result = run(spec, progress=watcher.progress, stop=watcher.stop)
    assert (result.is_stopped, result.schedules) == (True, 0)
    assert result.seconds < harness.GRACE_SECONDS
    assert not any("steps_max" in reason or "ended at once" in reason for reason in result.inconclusive)


def test_a_stop_at_once_waits_for_nobody(tmp_path: Path) -> None:
    patch = write_patch(tmp_path, "def vb_free(self, address, size):\n    while True: pass")
    watcher = Watcher(0, 2)
    spec = spec_of(patch, seconds=FOREVER, stall_seconds=FOREVER)
    result = run(spec, progress=watcher.progress, stop=watcher.stop, jobs=2)
    assert (result.is_stopped, result.exit_status) == (True, 130)
    assert result.inconclusive[:2] == ["a worker process was ended at once: what it ran is lost"] * 2
    assert result.seconds < harness.GRACE_SECONDS


def test_a_worker_that_does_not_stop_in_time_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "GRACE_SECONDS", 0.3)
    patch = write_patch(tmp_path, "def vb_free(self, address, size):\n    while True: pass")
    watcher = Watcher(0, 1)
    spec = spec_of(patch, seconds=FOREVER, stall_seconds=FOREVER)
    result = run(spec, progress=watcher.progress, stop=watcher.stop)
    assert result.is_stopped
    assert any("ended at once" in reason for reason in result.inconclusive)


def test_stop_at_first_ends_all_workers() -> None:
    spec = spec_of("v6.4", replace(FULL_BLOCKS, limits={"lock-hold": 1}), seconds=FOREVER, stop_at_first=True)
    result = run(spec, jobs=2)
    assert any(finding.check == "lock-hold" and not finding.known for finding in result.findings)
    assert not result.is_stopped
    assert (result.exit_status, result.inconclusive) == (1, [])


def test_an_answer_that_was_sent_before_the_stop_is_not_lost(tmp_path: Path) -> None:
    worker = harness._Worker(spec_of(schedules=3), None, 0, 1, tmp_path)
    try:
        wait_until(lambda: worker.process.poll() is not None, "the worker ends")
        worker.stop()
        while not worker.is_over:
            worker.receive()
    finally:
        worker.kill()
    assert worker.tally is not None
    assert worker.tally.schedules == 3


# -- what makes it inconclusive -----------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", [THREADS, CONTROLLED])
def test_a_patch_that_loops_without_a_point_is_ended_and_its_stacks_are_told(tmp_path: Path, runtime: str) -> None:
    patch = write_patch(tmp_path, "def vb_free(self, address, size):\n    while True:\n        pass")
    result = run(spec_of(patch, runtime=runtime, schedules=3, stall_seconds=1.0))
    (stuck, *_) = result.inconclusive
    assert stuck.startswith("no step in 1 seconds: execution 0, step ")
    assert re.search(r'patch\.py", line \d+ in vb_free', stuck)
    assert (result.verdict, result.exit_status) == (INCONCLUSIVE, 4)


def test_a_patch_that_never_gets_built_is_ended_and_its_stacks_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "START_SECONDS", 4.0)
    patch = write_patch(tmp_path, "def __init__(self, *arguments):\n    while True:\n        pass")
    result = run(spec_of(patch, schedules=3, stall_seconds=2.0))
    assert result.inconclusive[0].startswith("no step in 4 seconds: before its first step")
    assert re.search(r'patch\.py", line \d+ in __init__', result.inconclusive[0])


def test_a_patch_that_loops_over_points_reaches_steps_max(tmp_path: Path) -> None:
    patch = write_patch(
        tmp_path, "def vb_free(self, address, size):\n    while self.vmap_lazy_nr.read_value() >= 0: pass"
    )
    result = run(spec_of(patch, replace(TINY, steps_max=2000), schedules=3), jobs=2)
    reached = result.inconclusive[0]
    assert reached.startswith(
        "3 executions reached steps_max (2000); the first: execution 0 (seed 1): after 2000 steps"
    )
    assert " in vb_free" in reached
    assert result.exit_status == 4


def test_a_worker_that_dies_is_told_with_how_it_died(tmp_path: Path) -> None:
    patch = write_patch(tmp_path, "def vb_free(self, address, size):\n    os._exit(7)")
    result = run(spec_of(patch, schedules=3))
    assert result.inconclusive[0] == "a worker process died (exit status 7)"
    assert result.exit_status == 4


def test_a_worker_that_is_killed_leaves_the_others_work(tmp_path: Path) -> None:
    patch = write_patch(
        tmp_path,
        f"""
        def vb_free(self, address, size):
            try:
                os.mkdir({str(tmp_path / "first")!r})
            except FileExistsError:
                super().vb_free(address, size)
            else:
                os.kill(os.getpid(), 9)
        """,
    )
    result = run(spec_of(patch, schedules=20), jobs=2)
    assert result.inconclusive == ["a worker process died (signal SIGKILL)"]
    assert result.schedules == 10
    assert result.exit_status == 4


def test_a_window_that_was_asked_for_and_never_hit_is_told() -> None:
    scenario = replace(TINY, yield_rate=0.0, windows=("publication", "purge-lock"))
    result = run(spec_of(scenario=scenario, runtime=THREADS, schedules=4))
    assert "no foreign step ever fell into the window publication: it was not tested" in result.inconclusive
    assert result.exit_status == 4


def test_windows_that_were_hit_are_not_complained_of() -> None:
    scenario = replace(TINY, cpus=4, yield_rate=0.3, windows=("vb-lock", "purge-lock"))
    assert run(spec_of(scenario=scenario, runtime=THREADS, schedules=20)).inconclusive == []


def test_a_run_that_did_nothing_is_not_clean() -> None:
    result = run(spec_of(seconds=0.0))
    assert result.inconclusive == ["no operation was carried out"]
    assert (result.verdict, result.exit_status) == (INCONCLUSIVE, 4)


def test_a_patch_under_which_nothing_is_ever_mapped_is_not_clean(tmp_path: Path) -> None:
    patch = write_patch(tmp_path, "def vm_map_ram(self, pages, count):\n    return 0")
    scenario = replace(TINY, vmalloc_rate=0, workload="churn")
    result = run(spec_of(patch, scenario, schedules=4))
    assert [reason.split(",")[0] for reason in result.inconclusive] == ["no flush was made"]
    assert result.exit_status == 4


def test_a_check_that_was_asked_for_and_cannot_run_is_told() -> None:
    """The model's own journals carry everything; a backend's may not."""
    tally = Tally(
        operations=1, metrics={"unmap_aliases_calls": 1, "flush_calls": 1}, not_run={"data-race": "no access"}
    )
    worker = SimpleNamespace(failure=None, tally=tally, stuck="", died="", replaced=[])
    result = RunResult("stress", "v6.5", "", CONTROLLED, "random", seed=1, scenario={})
    harness._conclude(result, cast("list[harness._Worker]", [worker]), spec_of(checks=("data-race", "leak")))
    assert result.inconclusive == ["check data-race was asked for and could not run: no access"]
    assert result.exit_status == 4


def test_a_violation_of_an_inconclusive_run_is_a_violation() -> None:
    result = run(spec_of("v6.4", replace(FULL_BLOCKS, steps_max=700), schedules=20))
    assert result.inconclusive
    assert (result.verdict, result.exit_status) == (VIOLATED, 1)


# -- bad input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", [THREADS, CONTROLLED])
def test_a_patch_that_raises_is_told_with_file_and_line(tmp_path: Path, runtime: str) -> None:
    patch = write_patch(tmp_path, "def vb_free(self, address, size):\n    return 1 // 0")
    with pytest.raises(PatchError, match=r"patch\.py:8: Patch\.vb_free raised ZeroDivisionError") as raised:
        run(spec_of(patch, runtime=runtime, schedules=3), jobs=2)
    assert raised.value.exit_status == 2


def test_a_check_that_there_is_not_is_bad_input() -> None:
    with pytest.raises(ConfigError, match="'leaks' is not one of"):
        run(spec_of(schedules=1, checks=("leaks",)))


def test_a_failure_of_the_harness_is_told_with_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "journals").write_text("a file where the folder should be")
    result = run(spec_of("v6.4", FULL_BLOCKS, schedules=20), folder=tmp_path)
    assert result.exit_status == 3
    assert result.harness_error.startswith("FileExistsError: ")
    assert "Traceback" in result.harness_error


def test_modules_in_the_current_folder_do_not_get_in_the_workers_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit('the wrong random')\n")
    monkeypatch.chdir(tmp_path)
    assert run(spec_of(schedules=2)).schedules == 2


# -- nothing stays behind -----------------------------------------------------------------------------------

PARENT = """
    import sys
    from stressvmap.stress.harness import run
    from tests.stress.runs import spec_of
    run(spec_of(seconds=3600), jobs=2, progress=lambda now: print(now.schedules, flush=True))
"""


def children_of(process: int) -> list[int]:
    try:
        text = Path(f"/proc/{process}/task/{process}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in text.split()]


def is_running(process: int) -> bool:
    """Whether it exists and is no zombie: who inherits an orphan may never reap it."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="tells processes by /proc")
def test_a_parent_that_is_killed_leaves_no_worker_behind() -> None:
    parent = python(PARENT)
    try:
        assert parent.stdout is not None
        while int(parent.stdout.readline()) == 0:
            pass
        workers = children_of(parent.pid)
        assert len(workers) == 2
    finally:
        parent.kill()
        parent.communicate()
    wait_until(lambda: not any(map(is_running, workers)), "workers end after their parent", 10.0)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="tells processes by /proc")
@pytest.mark.parametrize("how", [1, 2])
def test_a_run_that_is_stopped_leaves_no_process_behind(how: int) -> None:
    before = set(children_of(os.getpid()))
    watcher = Watcher(1, how)
    run(spec_of(seconds=FOREVER), progress=watcher.progress, stop=watcher.stop, jobs=2)
    assert set(children_of(os.getpid())) <= before


def test_an_exception_of_the_caller_ends_the_workers() -> None:
    def progress(now: Progress) -> None:
        raise KeyboardInterrupt

    before = set(children_of(os.getpid()))
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(spec_of(seconds=FOREVER), progress=progress)
    assert time.monotonic() - started < 10
    assert set(children_of(os.getpid())) <= before
