# SPDX-License-Identifier: GPL-2.0-only
"""Explorations of kernel trees: complete ones, bounded ones, ones that are left and gone on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stressvmap.errors import ConfigError
from stressvmap.scenario import Scenario
from stressvmap.stress import subject
from stressvmap.stress.campaign import Campaign
from stressvmap.stress.execution import Executor
from stressvmap.stress.explore import Coverage, ExploreSpec
from stressvmap.stress.judge import Judge
from stressvmap.stress.small_program import program_from_text
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


def test_a_tree_is_explored_by_one_process(tree: str) -> None:
    with pytest.raises(ConfigError, match="--jobs 2: a tree is explored by one process"):
        Campaign(spec_of(tree, MAP_AND_FLUSH), jobs=2)
