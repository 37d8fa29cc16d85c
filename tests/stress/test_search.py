# SPDX-License-Identifier: GPL-2.0-only
"""A finding of threads becomes a schedule: the same program, the same fingerprint."""

from __future__ import annotations

from stressvmap.config import THREADS
from stressvmap.stress.engine import Engine
from stressvmap.stress.replay import RECURS, replay
from stressvmap.stress.schedule_file import program_of
from stressvmap.stress.search import find_schedule
from stressvmap.stress.shrink_study import BUGS
from tests.stress.runs import run_engine, spec_of
from tests.stress.saved import DYING_BLOCK, FULL_BLOCK, LOST_DEBT, SMALL


def test_what_threads_found_is_found_again_with_its_program() -> None:
    engine = run_engine(Engine(spec_of("v6.4", SMALL, runtime=THREADS), None), 40)
    engine.finish()
    finding = engine.tally.findings[FULL_BLOCK]
    program = program_of(finding.program, "the finding's program")
    saved = find_schedule("v6.4", SMALL, program, finding.fingerprint, check=finding.check)
    assert saved is not None
    assert saved.program == program
    assert saved.fingerprint == FULL_BLOCK
    assert replay(saved).exit_status == RECURS


def test_a_bug_that_needs_a_preemption_in_its_window_is_found() -> None:
    minimum = next(bug for bug in BUGS if bug.fingerprint == DYING_BLOCK).minimum()
    saved = find_schedule("v6.5", minimum.scenario, minimum.program, DYING_BLOCK, schedules_max=2000)
    assert saved is not None
    assert replay(saved).is_same_journal


def test_the_search_is_the_same_each_time() -> None:
    minimum = next(bug for bug in BUGS if bug.fingerprint == DYING_BLOCK).minimum()
    twice = [
        find_schedule("v6.5", minimum.scenario, minimum.program, DYING_BLOCK, seed=4, schedules_max=2000)
        for _ in range(2)
    ]
    assert twice[0] == twice[1]
    assert twice[0] is not None


def test_what_is_not_there_is_not_found() -> None:
    assert find_schedule("v6.5", SMALL, LOST_DEBT, FULL_BLOCK, schedules_max=20) is None


def test_the_search_ends_when_it_is_asked_to() -> None:
    asked = iter([0, 0, 1])
    assert find_schedule("v6.5", SMALL, LOST_DEBT, FULL_BLOCK, stop=lambda: next(asked)) is None
    assert next(asked, None) is None
