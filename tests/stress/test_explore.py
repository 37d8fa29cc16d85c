# SPDX-License-Identifier: GPL-2.0-only
"""Explorations of the model: what source-DPOR finds is what plain depth-first search finds, whoever explores it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from stressvmap.errors import ConfigError
from stressvmap.scenario import Scenario
from stressvmap.sched import exploring
from stressvmap.stress.campaign import Campaign
from stressvmap.stress.execution import Executor
from stressvmap.stress.explore import ExploreSpec
from stressvmap.stress.small_program import program_from_text
from stressvmap.vmalloc import versions
from tests.stress.explore_crosscheck import classes_of

MACHINE = Scenario(window_blocks=4, migration_rate=0.0, fault_rate=0.0)
MAP_AND_FLUSH = "map 0 4; unmap 0 | aliases"
TWO_MAPS_AND_FLUSH = "map 0 4 | map 1 4 | aliases"


def spec_of(version: str, ops: str, preemptions: int | None = None, **scenario: Any) -> ExploreSpec:
    program = program_from_text(ops)
    cpus = 1 + max(task.cpu for task in program.tasks)
    machine = replace(MACHINE, cpus=cpus, **scenario)
    return ExploreSpec(version=version, scenario=machine, program=program, preemptions=preemptions)


def explored(spec: ExploreSpec, jobs: int = 1) -> Campaign:
    campaign = Campaign(spec, jobs=jobs)
    campaign.run()
    assert campaign.is_complete
    return campaign


def test_every_trace_that_one_preemption_shows_is_explored() -> None:
    bounded = explored(spec_of("v6.5", MAP_AND_FLUSH, 1)).state.coverage
    assert bounded.classes == classes_of(spec_of("v6.5", MAP_AND_FLUSH))
    assert sum(bounded.by_bound.values()) == bounded.complete > 10 * len(bounded.classes)


def test_a_program_of_one_task_has_one_schedule() -> None:
    assert explored(spec_of("v6.5", "map 0 4; unmap 0; aliases")).state.coverage.complete == 1


def test_the_full_block_bug_of_v6_4_is_found_by_no_preemption_at_all() -> None:
    coverage = explored(spec_of("v6.4", "map 0 4; map 1 4; unmap 0; aliases | unmap 1", 0)).state.coverage
    assert "978ca5627c09" in coverage.findings


def test_a_finding_replays_under_the_ordinary_runtime_with_the_same_journal() -> None:
    spec = spec_of("v6.4", MAP_AND_FLUSH)
    schedules = explored(spec).state.coverage.schedules
    assert schedules
    executor = Executor(versions.load("v6.4"), spec.scenario)
    for saved in schedules.values():
        assert executor.replay(saved.program, saved.schedule).journal.digest() == saved.journal_digest
    executor.close()


INVERTED = """
from stressvmap.vmalloc.v6_5 import V6_5


class Inverted(V6_5):
    NAME = "inverted"

    def vb_free(self, addr, size):
        vb = self.machine.deref(self.addr_to_vb_xa(addr).load(self.addr_to_vb_idx(addr)))
        vb.lock.lock()
        self.vmap_purge_lock.lock()
        self.vmap_purge_lock.unlock()
        vb.lock.unlock()
        super().vb_free(addr, size)
"""


def test_a_deadlock_of_a_users_version_is_found_and_replays(tmp_path: Path) -> None:
    (tmp_path / "patch.py").write_text(INVERTED)
    spec = spec_of(f"{tmp_path}/patch.py:Inverted", MAP_AND_FLUSH)
    coverage = explored(spec).state.coverage
    assert coverage.deadlocks == 1
    saved = next(saved for saved in coverage.schedules.values() if saved.check == "deadlock")
    executor = Executor(versions.load(saved.version), saved.scenario)
    done = executor.replay(saved.program, saved.schedule)
    executor.close()
    assert (done.reason, done.journal.digest()) == ("deadlock", saved.journal_digest)


@pytest.mark.parametrize("preemptions", [None, 1])
def test_two_processes_find_what_one_finds_and_count_the_same(preemptions: int | None) -> None:
    spec = spec_of("v6.4", MAP_AND_FLUSH, preemptions) if preemptions is None else spec_of("v6.5", MAP_AND_FLUSH, 1)
    one, two = explored(spec).state.coverage, explored(spec, jobs=2).state.coverage
    assert (one.complete, one.by_bound, one.classes) == (two.complete, two.by_bound, two.classes)
    assert {key: found.count for key, found in one.findings.items()} == {
        key: found.count for key, found in two.findings.items()
    }


@pytest.mark.parametrize("preemptions", [None, 1])
def test_an_execution_that_was_given_up_halfway_is_the_next_one_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preemptions: int | None
) -> None:
    """Each sitting is stopped in the midst of an execution, a little later than the one before."""
    monkeypatch.setattr(exploring, "HALT_EVERY", 29)
    spec = spec_of("v6.5", TWO_MAPS_AND_FLUSH if preemptions is None else MAP_AND_FLUSH, preemptions)
    whole = explored(spec).state.coverage
    given_up = 0
    for sitting in count():
        asked = count()
        stop = partial(lambda asked, most: int(next(asked) > most), asked, 20 + sitting)
        campaign = Campaign(spec, state_path=tmp_path / "s", should_stop=stop)
        before = campaign.state.coverage.executions
        campaign.run()
        given_up += isinstance(campaign.explorer.runtime.failure, exploring._Halt)
        if campaign.is_complete:
            break
        assert campaign.state.coverage.executions > before
    assert given_up > 1
    coverage = campaign.state.coverage
    assert (coverage.complete, coverage.cut, coverage.by_bound) == (whole.complete, whole.cut, whole.by_bound)
    assert coverage.classes == whole.classes
    assert {key: found.count for key, found in coverage.findings.items()} == {
        key: found.count for key, found in whole.findings.items()
    }


def test_a_long_execution_is_given_up_when_the_time_is_over() -> None:
    spec = spec_of("v6.5", "; ".join(["map 0 1; unmap 0"] * 20_000), steps_max=10**7)
    campaign = Campaign(spec)
    began = time.monotonic()
    campaign.run(seconds=0.2)
    assert time.monotonic() - began < 10, "it takes a minute"
    assert campaign.state.coverage.executions == 0
    assert campaign.result().exit_status == 4


def test_an_exploration_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    spec = spec_of("v6.5", TWO_MAPS_AND_FLUSH)
    state = tmp_path / "state.json"
    sittings = 0
    while True:
        campaign = Campaign(spec, state_path=state)
        campaign.run(schedules=campaign.state.coverage.executions + 11)
        sittings += 1
        if campaign.is_complete:
            break
        assert campaign.result().exit_status == 4
    assert sittings == 3
    assert campaign.state.coverage.complete == explored(spec).state.coverage.complete


def test_a_bounded_exploration_goes_on_too(tmp_path: Path) -> None:
    spec = spec_of("v6.5", MAP_AND_FLUSH, 1)
    for executions in (30, 1_000):
        campaign = Campaign(spec, state_path=tmp_path / "state.json")
        campaign.run(schedules=executions)
    whole = explored(spec).state.coverage
    assert campaign.is_complete
    assert (campaign.state.coverage.by_bound, campaign.state.coverage.classes) == (whole.by_bound, whole.classes)


def _other_program(data: dict[str, Any]) -> None:
    data["for"]["program"]["tasks"].pop()


def _other_sources(data: dict[str, Any]) -> None:
    data["for"]["version_digest"] = "0" * 16


def _no_coverage(data: dict[str, Any]) -> None:
    del data["coverage"]


def _no_stack(data: dict[str, Any]) -> None:
    data["pending"] = [{"stack": [[1]], "base": 0, "bound": 0}]


def _no_state(data: dict[str, Any]) -> None:
    data["kind"] = "something else"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (_other_program, "another program"),
        (_other_sources, "for version v6.5 as its sources were then"),
        (_no_coverage, "damaged"),
        (_no_stack, "damaged"),
        (_no_state, "no state"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(
    damage: Callable[[dict[str, Any]], None], told: str, tmp_path: Path
) -> None:
    spec = spec_of("v6.5", MAP_AND_FLUSH)
    state = tmp_path / "state.json"
    Campaign(spec, state_path=state).run(schedules=2)
    data = json.loads(state.read_text())
    damage(data)
    state.write_text(json.dumps(data))
    with pytest.raises(ConfigError, match=told):
        Campaign(spec, state_path=state)


def test_a_state_whose_decisions_cannot_be_carried_out_is_refused(tmp_path: Path) -> None:
    spec = spec_of("v6.5", MAP_AND_FLUSH)
    state = tmp_path / "state.json"
    Campaign(spec, state_path=state).run(schedules=2)
    data = json.loads(state.read_text())
    data["pending"][0]["stack"][1][0] = 3000
    state.write_text(json.dumps(data))
    with pytest.raises(ConfigError, match="do not fit"):
        Campaign(spec, state_path=state).run()


def test_half_a_state_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    state.write_text('{"kind": "stressvmap-explore-state", "sch')
    with pytest.raises(ConfigError, match="no state"):
        Campaign(spec_of("v6.5", MAP_AND_FLUSH), state_path=state)


def test_executions_that_reach_steps_max_make_it_incomplete() -> None:
    campaign = Campaign(spec_of("v6.5", MAP_AND_FLUSH, steps_max=100))
    campaign.run(schedules=5)
    assert not campaign.is_complete
    assert "steps_max" in campaign.result().inconclusive[0]


def test_efficiency_limits_are_refused() -> None:
    with pytest.raises(ConfigError, match="limits"):
        Campaign(spec_of("v6.5", MAP_AND_FLUSH, limits={"re-flush": 1.0}))


def test_a_stop_keeps_what_was_explored(tmp_path: Path) -> None:
    asked = iter([0, 0, 0, 0, 0])
    campaign = Campaign(
        spec_of("v6.5", MAP_AND_FLUSH), state_path=tmp_path / "state", should_stop=lambda: next(asked, 1)
    )
    campaign.run()
    assert campaign.is_stopped
    assert 0 < campaign.state.coverage.complete < 5
    assert campaign.result().exit_status == 130
    assert (tmp_path / "state").exists()
