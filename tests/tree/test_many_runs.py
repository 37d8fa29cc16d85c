# SPDX-License-Identifier: GPL-2.0-only
"""Many runs of a kernel tree on end, with nobody asked between them, are what they are one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stressvmap.config import CONTROLLED, RunSpec
from stressvmap.scenario import Scenario
from stressvmap.sched.portfolio import make_strategy
from stressvmap.stress import engine as engine_module
from stressvmap.stress import subject
from stressvmap.stress.engine import Engine
from stressvmap.stress.execution import Executor
from stressvmap.stress.workloads import draw
from stressvmap.tree.backend import TreeBackend
from stressvmap.tree.screen import EVERYTHING, RACE
from tests.tree.kernel_sources import archive
from tests.tree.trees import needs_compiler, needs_patch

pytestmark = [pytest.mark.trees, pytest.mark.timeout(600), needs_compiler, needs_patch]

RUNS = 500


def test_each_run_has_the_flags_and_the_journal_that_it_has_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = Scenario(workload="fill-block")
    executor = Executor(subject.load(f"tree:{archive('6.12', monkeypatch)}"), scenario)
    strategy = make_strategy("mixed", 5)
    programs = [draw(scenario, 5, number) for number in range(RUNS)]
    executor.calibrate(strategy, programs)
    assert isinstance(executor.backend, TreeBackend)
    executor.backend.screen.begin(wanted=EVERYTHING & ~RACE)  # a race flags the first runs that have it
    for number in range(RUNS):  # so that screening knows types and locks
        executor.run_unseen(programs[number], strategy, execution=number)
        assert executor.backend.flags >= 0
    alone = []
    for number in range(RUNS):
        seen = executor.run_unseen(programs[number], strategy, execution=number)
        flags = executor.backend.flags
        alone.append((seen, flags, executor.look(seen.reason).journal.digest() if flags else ""))
    assert any(flags for _, flags, _ in alone)
    assert not all(flags for _, flags, _ in alone)
    jobs = [executor.job(programs[number], strategy, execution=number) for number in range(RUNS)]
    at = 0
    while at < RUNS:
        many = executor.run_jobs([job for job in jobs[at : at + 50] if job is not None])
        assert [flags for _, flags, _ in alone[at : at + many.runs - 1]] == [0] * (many.runs - 1)
        assert many.points == sum(seen.points for seen, _, _ in alone[at : at + many.runs - 1])
        assert many.operations == sum(seen.operations for seen, _, _ in alone[at : at + many.runs - 1])
        at += many.runs
        seen, flags, digest = alone[at - 1]
        assert (executor.unseen(many.reason), many.flags) == (seen, flags)
        if flags:
            done = executor.look(many.reason)
            assert done.journal.digest() == digest
            assert sum(points for _, points in done.schedule.choices) >= done.points


@pytest.mark.parametrize("release", ["6.1", "6.12"])
def test_a_run_comes_to_the_same_however_many_go_on_end(release: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = RunSpec(
        version=f"tree:{archive(release, monkeypatch)}",
        scenario=Scenario(workload="fill-block"),
        runtime=CONTROLLED,
        schedules=500,
        seconds=None,
        seed=2,
    )
    told = []
    for ahead, asked in ((1, ""), (64, ""), (64, "surw,")):
        monkeypatch.setattr(engine_module, "AHEAD", ahead)
        engine = Engine(replace(spec, strategy=f"{asked}mixed", schedules=500 if not asked else 40), None)
        while not engine.is_over(0.0):
            engine.step_screened()
        tally = engine.finish()
        told.append(
            (tally.schedules, tally.points, tally.operations, tally.flagged, tally.judged, sorted(tally.findings))
        )
    assert told[0] == told[1]
    assert told[0][0] == 500
    assert told[2][0] == 40
