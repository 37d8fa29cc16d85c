# SPDX-License-Identifier: GPL-2.0-only
"""The determinism check: what is decided by anything but the schedule is told on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from stressvmap.journal.events import LOCK, UNLOCK, Event
from stressvmap.scenario import Scenario
from stressvmap.stress import harness
from stressvmap.stress.engine import Engine
from stressvmap.stress.execution import Executor
from stressvmap.stress.repeat import first_difference, is_chosen
from stressvmap.stress.schedule_file import read_schedule
from stressvmap.vmalloc import versions
from tests.stress.runs import FULL_BLOCKS, TINY, run_engine, spec_of, write_patch

RESTLESS = """
    calls = 0

    def vm_unmap_aliases(self):
        Patch.calls += 1
        if Patch.calls % 2:
            self.memory.flush_tlb_kernel_range(self.VMALLOC_START, self.VMALLOC_START + 4096)
        super().vm_unmap_aliases()
"""
"""What it does depends on what ran before it in the same process."""


def event(number: int, kind: int = LOCK) -> Event:
    return (kind, 1, 0, "vb_free", number, "vb->lock", 0)


def test_every_schedule_of_a_good_version_gives_the_same_journal_twice() -> None:
    tally = run_engine(Engine(spec_of("v6.4", FULL_BLOCKS, schedules=20, repeat_share=1.0), None)).finish()
    assert (tally.repeated, tally.diverged, tally.first_diverged) == (20, 0, None)


def test_a_patch_that_remembers_its_last_run_is_told_on(tmp_path: Path) -> None:
    version = write_patch(tmp_path, RESTLESS)
    result = harness.run(spec_of(version, TINY, schedules=4, repeat_share=1.0))
    (reason,) = [reason for reason in result.inconclusive if "run twice" in reason]
    assert "something but the schedule decides what happens; the first, execution 0: " in reason
    assert (result.repeated, result.exit_status) == (4, 4)


def test_the_executions_that_run_twice_are_the_same_each_time_and_about_as_many_as_asked() -> None:
    chosen = [number for number in range(2000) if is_chosen(7, number, 0.05)]
    assert chosen == [number for number in range(2000) if is_chosen(7, number, 0.05)]
    assert 60 < len(chosen) < 140
    assert not any(is_chosen(7, number, 0.0) for number in range(100))
    assert all(is_chosen(7, number, 1.0) for number in range(100))


@pytest.mark.parametrize(
    ("second", "told"),
    [
        ([event(1), event(2)], ""),
        ([event(1), event(2, UNLOCK)], "event 1 was (lock by task 1 on CPU 0 in vb_free: 2, vb->lock, 0), and (unlock"),
        ([event(1)], "there were 2 events, and 1 the second time"),
    ],
)
def test_the_first_event_that_differs_is_shown(second: list[Event], told: str) -> None:
    assert first_difference([event(1), event(2)], second).startswith(told)
    assert bool(first_difference([event(1), event(2)], second)) == bool(told)


def test_the_schedule_of_a_finding_runs_again_to_the_same_journal(tmp_path: Path) -> None:
    findings = run_engine(Engine(spec_of("v6.4", FULL_BLOCKS, schedules=10), tmp_path)).finish().findings
    assert findings
    for finding in findings.values():
        saved = read_schedule(tmp_path / finding.schedule)
        assert (saved.check, saved.fingerprint, saved.execution) == (
            finding.check,
            finding.fingerprint,
            finding.first_at_schedule,
        )
        again = Executor(versions.load(saved.version), saved.scenario).replay(saved.program, saved.schedule)
        assert again.journal.digest() == saved.journal_digest


def test_an_execution_that_was_given_up_leaves_a_schedule_that_runs_again(tmp_path: Path) -> None:
    tally = run_engine(Engine(spec_of(scenario=replace(TINY, steps_max=100), schedules=1), tmp_path)).finish()
    assert tally.first_gave_up is not None
    (path,) = (tmp_path / "schedules").iterdir()
    assert f"its schedule: schedules/{path.name}" in tally.first_gave_up[1]
    saved = read_schedule(path)
    again = Executor(versions.load(saved.version), saved.scenario).replay(saved.program, saved.schedule)
    assert (again.reason, again.journal.digest()) == ("steps-max", saved.journal_digest)


def test_as_many_tasks_as_there_may_be_can_begin_one_another() -> None:
    """A greenlet that enters another for the first time hands its recursion depth on."""
    scenario = Scenario(cpus=64, tasks_per_cpu=4, operations=1, flushes=1, slots=1)
    tally = run_engine(Engine(spec_of(scenario=scenario, strategy="round-robin:1", schedules=1), None)).finish()
    assert tally.operations > 100
