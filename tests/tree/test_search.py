# SPDX-License-Identifier: GPL-2.0-only
"""The engine's search over schedules: it misses no outcome, and knows executions of one class."""

from __future__ import annotations

import pytest

from tests.tree.engine_driver import COMPILER, Engine, Job
from tests.tree.search_family import NEW, compare, enumerate_all, outcome, programs, search
from tests.tree.test_shim import engine as engine
from tests.tree.test_shim import library as library

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler: the search of the tree backend is not tested")


def test_no_outcome_of_plain_enumeration_is_missed_and_each_class_has_one(engine: Engine) -> None:
    told = [compare(engine, job) for job in programs(24)]
    assert [complaint for _, _, complaint in told if complaint] == []
    interleavings = sum(of_these for of_these, _, _ in told)
    assert interleavings > 10 * sum(searched.complete for of_these, searched, _ in told if of_these) // 3
    assert sum(of_these > 0 for of_these, _, _ in told) > 15


def test_tasks_that_share_nothing_have_one_class_and_one_execution(engine: Engine) -> None:
    searched = search(engine, Job([(0, [("allocate", 1)]), (1, [("allocate", 1)])]))
    assert (len(searched.outcomes), searched.complete, searched.cut) == (1, 1, 0)


def test_a_deadlock_is_found_though_no_step_leads_into_it(engine: Engine) -> None:
    searched = search(engine, Job([(0, [("one_then_other", 0)]), (1, [("other_then_one", 0)])]), returns_every=False)
    reasons = [reason for outcomes in searched.outcomes.values() for reason, *_ in outcomes]
    assert sorted(map(str, reasons)) == ["deadlock", "done", "done"]


def test_whoever_looks_at_contention_sees_those_who_wait(engine: Engine) -> None:
    """Then running into a wait is a step like any other."""
    job = Job([(0, [("giving_way", 1)]), (1, [("in_spinlock", 1)])])
    wanted, _ = enumerate_all(engine, job)
    searched = search(engine, job)
    assert {one for outcomes in searched.outcomes.values() for one in outcomes} == wanted


def test_with_a_bound_an_outcome_that_needs_more_preemptions_is_not_shown(engine: Engine) -> None:
    job = Job([(0, [("in_no_lock", 1)]), (1, [("in_no_lock", 1)])])
    shown = []
    for bound in (0, 1, 2, -1):
        searched = search(engine, job, bound)
        shown.append({one for outcomes in searched.outcomes.values() for one in outcomes})
    assert shown[0] < shown[1] < shown[2] <= shown[3]


def test_a_search_replays_an_execution_by_its_choices(engine: Engine) -> None:
    job = Job([(0, [("replace_thing", 1)]), (1, [("read_thing", 1)])])
    engine.load(job)
    lib = engine.lib
    lib.sv_search_know(None, 0)
    assert lib.sv_search_begin(-1, None, 0, 0) == 0
    assert lib.sv_search_go(1 << 20, 10_000) == NEW
    choices, told = engine.choices(), outcome(engine, "done")
    _replay(engine, job, choices)
    assert outcome(engine, "done") == told


def _replay(engine: Engine, job: Job, choices: list[tuple[int, int]]) -> None:
    left = iter(choices)

    def decide(why: int) -> int:
        task, points = next(left)
        return task << 40 | points

    engine.run_decided(job, decide, lambda n: 0)
