# SPDX-License-Identifier: GPL-2.0-only
"""A saved schedule gives the same execution again; one that does not fit any more says where."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from stressvmap.errors import PatchError, ScheduleMismatch
from stressvmap.program import PAUSE, Program, ProgramOp, TaskProgram
from stressvmap.runtime.runtime import STEPS_MAX
from stressvmap.runtime.strategy import Schedule
from stressvmap.sched.follow import FollowStrategy
from stressvmap.sched.random import RandomStrategy
from stressvmap.stress.execution import Executor
from stressvmap.stress.replay import DIVERGED, DOES_NOT_RECUR, RECURS, replay, saved_from
from stressvmap.stress.schedule_file import parse
from stressvmap.stress.watchdog import Watchdog
from stressvmap.stress.workloads import draw
from stressvmap.vmalloc.v6_4 import V6_4
from tests.stress.runs import TINY, python, write_patch
from tests.stress.saved import DYING_BLOCK, FULL_BLOCK, SMALL, failure

OTHER_PROCESS = """
    import sys
    from pathlib import Path
    from stressvmap.stress.replay import replay
    from stressvmap.stress.schedule_file import read_schedule
    told = replay(read_schedule(Path(sys.argv[1])))
    print(told.exit_status, told.journal_digest)
"""


@pytest.mark.parametrize("fingerprint", [FULL_BLOCK, DYING_BLOCK])
def test_a_saved_failure_recurs_with_the_same_journal(fingerprint: str) -> None:
    saved = failure(fingerprint=fingerprint)
    told = replay(parse(saved.to_json().encode(), "it"))
    assert told.exit_status == RECURS
    assert told.violation is not None
    assert told.violation.message == saved.message
    assert told.is_same_journal
    assert told.is_same_source
    assert (told.schedule, told.reason, told.mismatch) == (saved.schedule, saved.reason, None)


def test_another_process_with_another_hash_seed_replays_it_the_same(tmp_path: Path) -> None:
    saved = failure()
    path = tmp_path / "s.json"
    path.write_text(saved.to_json())
    processes = [python(OTHER_PROCESS, path, hash_seed=hash_seed) for hash_seed in (0, 99)]
    told = [process.communicate()[0].split() for process in processes]
    assert told == [[str(RECURS), saved.journal_digest]] * 2


def test_a_schedule_kept_for_another_violation_does_not_recur() -> None:
    told = replay(replace(failure(), fingerprint="000000000000"))
    assert told.exit_status == DOES_NOT_RECUR
    assert [violation.fingerprint for violation in told.violations] == [FULL_BLOCK]
    assert told.is_same_journal


def test_a_schedule_kept_for_no_violation_recurs_if_there_is_any() -> None:
    assert replay(replace(failure(), fingerprint="")).exit_status == RECURS


def test_a_journal_that_was_not_known_is_not_called_the_same() -> None:
    assert replay(replace(failure(), journal_digest="")).is_same_journal is None
    assert replay(replace(failure(), journal_digest="0")).is_same_journal is False


def test_sources_that_changed_are_noticed_and_tried_all_the_same() -> None:
    told = replay(replace(failure(), version_digest="0000"))
    assert not told.is_same_source
    assert told.exit_status == RECURS


def test_on_another_version_the_schedule_diverges_where_that_one_does_something_else() -> None:
    told = replay(failure(), version="v6.5")
    assert told.exit_status == DIVERGED
    assert isinstance(told.mismatch, ScheduleMismatch)
    assert 0 < told.mismatch.step < sum(count for _, count in failure().schedule.choices)
    assert str(told.mismatch).startswith(f"diverged at step {told.mismatch.step}: ")


def test_a_prefix_is_gone_on_with_to_the_end() -> None:
    told = replay(failure(), version="v6.5", then=FollowStrategy())
    assert told.exit_status == DOES_NOT_RECUR
    assert told.mismatch is not None
    again = replay(replace(failure(), schedule=told.schedule), version="v6.5")
    assert again.journal_digest == told.journal_digest
    assert again.mismatch is None


def test_a_prefix_is_followed_to_the_step() -> None:
    saved = failure()
    kept = saved.schedule.choices[: len(saved.schedule.choices) // 2]
    told = replay(replace(saved, schedule=Schedule(kept)), then=RandomStrategy(5))
    assert told.schedule.choices[: len(kept) - 1] == kept[:-1]
    assert told.mismatch is not None
    assert "the schedule is over here" in str(told.mismatch)


def test_a_schedule_that_fits_to_its_end_is_not_gone_on_with() -> None:
    told = replay(failure(), then=RandomStrategy(5))
    assert told.mismatch is None
    assert told.is_same_journal


def test_a_schedule_with_more_than_there_was_diverges_at_the_end() -> None:
    saved = failure()
    longer = Schedule([*saved.schedule.choices, (1, 3)])
    told = replay(replace(saved, schedule=longer))
    assert told.exit_status == DIVERGED
    assert "the execution is over here" in str(told.mismatch)
    assert replay(replace(saved, schedule=longer), then=FollowStrategy()).exit_status == RECURS


@pytest.mark.parametrize("steps_max", [100, 257, 400])
def test_an_execution_that_was_given_up_replays_to_the_same_step(steps_max: int) -> None:
    scenario = replace(SMALL, steps_max=steps_max)
    executor = Executor(V6_4, scenario)
    program = draw(scenario, 1, 0)
    done = executor.run(program, RandomStrategy(1))
    assert (done.reason, done.points) == (STEPS_MAX, steps_max)
    saved = saved_from(executor, program, done, None, version="v6.4")
    told = replay(saved)
    assert (told.reason, told.points, told.mismatch, told.is_same_journal) == (STEPS_MAX, steps_max, None, True)
    executor.close()


def test_every_execution_replays_from_its_file() -> None:
    """Migrations, hotplug and faults included."""
    scenario = replace(TINY, migration_rate=0.2, hotplug_rate=0.1, fault_rate=0.2, reset_rate=0.5, vmalloc_rate=0.2)
    executor = Executor(V6_4, scenario)
    for execution in range(25):
        program = draw(scenario, 3, execution)
        done = executor.run(program, RandomStrategy(3), execution=execution)
        saved = parse(saved_from(executor, program, done, None, version="v6.4").to_json().encode(), "it")
        again = executor.replay(saved.program, saved.schedule)
        assert again.journal.digest() == saved.journal_digest
        assert again.schedule == saved.schedule
    executor.close()


def test_an_executor_serves_on_after_a_mismatch_and_after_a_task_that_raised(tmp_path: Path) -> None:
    saved = failure()
    executor = Executor(V6_4, saved.scenario)
    with pytest.raises(ScheduleMismatch):
        executor.replay(saved.program, Schedule([(1, 3), (77, 1)]))
    assert replay(saved, executor).is_same_journal
    executor.close()
    version = write_patch(
        tmp_path, "def vb_free(self, addr: int, size: int) -> None:\n    raise KeyError(addr)\n", "V6_4"
    )
    with pytest.raises(PatchError, match=r"patch\.py:\d+: Patch\.vb_free raised KeyError"):
        replay(saved, version=version, then=FollowStrategy())
    assert replay(saved).is_same_journal


def test_the_mismatch_tells_what_the_task_expected_waits_for() -> None:
    saved = failure()
    choices = saved.schedule.choices
    executor = Executor(V6_4, saved.scenario)
    texts = set()
    for number in range(1, 60):
        for task in (3, 1000):
            with pytest.raises(ScheduleMismatch) as error:
                executor.replay(saved.program, Schedule([*choices[:number], (task, 1), (4000, 1)]))
            texts.add(str(error.value))
    executor.close()
    assert any("which is not enabled: irq/0 has nothing to do; enabled: task 1 (worker/1) is" in text for text in texts)
    assert any("which is not enabled: flusher/3 waits for CPU 1 and is at " in text for text in texts)
    assert any("is about to lock vbq->lock in new_vmap_block, on CPU " in text for text in texts)


def test_the_watchdog_tells_where_a_version_hangs(tmp_path: Path) -> None:
    """It is freed by the very report."""
    released = threading.Event()
    reports: list[str] = []

    class Hangs(V6_4):
        NAME = "hangs"

        def vb_free(self, addr: int, size: int) -> None:
            released.wait()
            super().vb_free(addr, size)

    def report(where: str) -> None:
        reports.append(where)
        released.set()

    executor = Executor(Hangs, SMALL)
    with Watchdog(executor, 0.2, report):
        executor.run(failure().program, FollowStrategy())
    executor.close()
    assert len(reports) == 1
    assert reports[0].startswith("no step in 0.2 seconds: step ")
    assert "worker/1 in vb_free" in reports[0] or "worker/1 in vm_unmap_ram" in reports[0]


def test_the_watchdog_does_not_bark_between_executions() -> None:
    reports: list[str] = []
    executor = Executor(V6_4, SMALL)
    with Watchdog(executor, 0.05, reports.append):
        executor.run(Program((TaskProgram(0, (ProgramOp(PAUSE, 0, 5),)),)), FollowStrategy())
        threading.Event().wait(0.2)
    executor.close()
    assert reports == []
