# SPDX-License-Identifier: GPL-2.0-only
"""Explorations of kernel trees: complete ones, bounded ones, ones that are left and gone on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stressvmap.errors import ConfigError
from stressvmap.journal import events as ev
from stressvmap.journal.journal import Journal
from stressvmap.scenario import Scenario
from stressvmap.stress import subject
from stressvmap.stress.campaign import Campaign
from stressvmap.stress.execution import Executor
from stressvmap.stress.explore import Coverage, ExploreSpec, Share
from stressvmap.stress.explore_tree import TreeExplorer
from stressvmap.stress.judge import Judge
from stressvmap.stress.small_program import program_from_text
from stressvmap.tree.library import SEARCH_NEW, SEARCH_NEWS, SEARCH_OVER
from tests.tree.kernel_sources import archive
from tests.tree.trees import needs_compiler

pytestmark = [pytest.mark.trees, pytest.mark.timeout(600), needs_compiler]

MACHINE = Scenario(cpus=2, window_blocks=8, migration_rate=0.0, fault_rate=0.0, witness=False)
MAP_AND_FLUSH = "map 0 4; unmap 0 | aliases"


@pytest.fixture
def tree(monkeypatch: pytest.MonkeyPatch) -> str:
    return f"tree:{archive('6.1', monkeypatch)}?points=marked"


def spec_of(version: str, ops: str, preemptions: int | None = None) -> ExploreSpec:
    return ExploreSpec(version=version, scenario=MACHINE, program=program_from_text(ops), preemptions=preemptions)


def explored(spec: ExploreSpec, **options: Any) -> Coverage:
    campaign = Campaign(spec, **options)
    campaign.run()
    assert campaign.is_complete
    return campaign.state.coverage


def test_the_unbounded_search_shows_each_class_that_two_preemptions_show(tree: str) -> None:
    unbounded, bounded = explored(spec_of(tree, MAP_AND_FLUSH)), explored(spec_of(tree, MAP_AND_FLUSH, 2))
    assert bounded.classes <= unbounded.classes
    assert len(bounded.classes) > 5
    assert set(bounded.findings) <= set(unbounded.findings)
    assert bounded.by_bound[0] < bounded.by_bound[1] < bounded.by_bound[2]


def test_a_finding_in_a_tree_is_found_again_when_its_schedule_is_replayed(tree: str) -> None:
    spec = spec_of(tree, MAP_AND_FLUSH)
    schedules = explored(spec).schedules
    assert schedules
    executor = Executor(subject.load(tree), spec.scenario)
    judge = Judge()
    for saved in schedules.values():
        done = executor.replay(saved.program, saved.schedule)
        assert saved.fingerprint in {found.fingerprint for found in judge.execution(done.journal).violations}
    executor.close()


@pytest.mark.parametrize("preemptions", [None, 1])
def test_an_exploration_of_a_tree_goes_on_where_it_was_left(tree: str, tmp_path: Path, preemptions: int | None) -> None:
    """Each sitting is a process of its own as far as the engine is concerned: nothing but the file is left."""
    spec = spec_of(tree, MAP_AND_FLUSH, preemptions)
    whole = explored(spec)
    sittings = 0
    is_complete = False
    while not is_complete:
        campaign = Campaign(spec, state_path=tmp_path / "state")
        campaign.run(schedules=campaign.state.coverage.executions + 60)
        is_complete = campaign.is_complete
        sittings += 1
        assert sittings < 100
    coverage = campaign.state.coverage
    assert sittings >= 2
    assert (coverage.complete, coverage.cut, coverage.states) == (whole.complete, whole.cut, whole.states)
    assert coverage.classes == whole.classes
    assert {key: found.count for key, found in coverage.findings.items()} == {
        key: found.count for key, found in whole.findings.items()
    }


def test_executions_of_one_class_say_the_same_of_each_task_and_are_judged_alike(tree: str) -> None:
    """What the search leaves out differs from what it keeps in the order of independent steps alone."""
    explorer = TreeExplorer(spec_of(tree, MAP_AND_FLUSH))
    explorer.begin(Share())
    library, backend, judge = explorer.backend.library, explorer.backend, Judge()
    library.search(None, returns_every=True)
    told: dict[int, set[object]] = {}
    executions = 0
    while (came := library.search_on(1 << 20, 1000)) != SEARCH_OVER:
        if came == SEARCH_NEWS:
            explorer.begin(Share())
            library.search(None, returns_every=True)
        if came == SEARCH_NEW:
            backend.reason = library.search_reason()
            explorer.runtime.begin()
            journal = backend.journal()
            fingerprints = frozenset(found.fingerprint for found in judge.execution(journal).violations)
            told.setdefault(library.search_class(), set()).add((fingerprints, _by_task(journal)))
            executions += 1
    assert executions > 10 * len(told)
    assert {len(ways) for ways in told.values()} == {1}


def _by_task(journal: Journal) -> object:
    """What each task did and saw. Who waited for a lock is not told, nor numbers that count flushes and frames."""
    tasks: dict[int, list[object]] = {}
    for kind, task, cpu, where, a, b, c in journal.events:
        if kind in _COUNTED:
            a, b, c = 0, "", 0
        elif kind in (ev.FLUSH_BEGIN, ev.FLUSH_END):
            b = 0
        elif kind == ev.LOCK:
            c = 0
        if kind not in (ev.LOCK_WAIT, ev.STOPPED):
            tasks.setdefault(task, []).append((kind, cpu, where, a, b, c))
    return tuple((task, tuple(events)) for task, events in sorted(tasks.items()))


_COUNTED = frozenset({ev.IPI_SEND, ev.FRAME_OWNER})


def test_a_tree_is_explored_by_one_process(tree: str) -> None:
    with pytest.raises(ConfigError, match="--jobs 2: a tree is explored by one process"):
        Campaign(spec_of(tree, MAP_AND_FLUSH), jobs=2)
