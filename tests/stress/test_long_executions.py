# SPDX-License-Identifier: GPL-2.0-only
"""An execution whose events go to a temporary file comes to the same as one that is held in memory."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from stressvmap.checks import coverage
from stressvmap.journal import log
from stressvmap.journal.store import read
from stressvmap.kernel.machine import Machine
from stressvmap.scenario import Scenario
from stressvmap.stress.engine import Engine
from stressvmap.stress.judge import judge
from stressvmap.stress.replay import RECURS, replay
from stressvmap.stress.schedule_file import read_schedule
from stressvmap.vmalloc.backend import ModelBackend
from tests.stress.runs import spec_of

SCENARIO = Scenario(cpus=2, operations=60, flushes=10, workload="churn", reset_rate=0.2, vmalloc_rate=0.2)


def run(version: str, folder: Path) -> tuple[Engine, dict[str, Any]]:
    """Two executions, each run twice, with their journals kept; what they came to."""
    spec = replace(spec_of(version, SCENARIO, seed=3), repeat_share=1.0, keep_journals=True)
    folder.mkdir()
    engine = Engine(spec, folder)
    digests = [engine.step().digest() for _ in range(2)]
    tally = engine.finish()
    told = asdict(tally)
    told["coverage"] = tally.coverage.as_dict()
    files = sorted(path.name for path in (folder / "journals").iterdir())
    return engine, {**told, "digests": digests, "files": files}


def machine_of(engine: Engine) -> Machine:
    assert isinstance(engine.backend, ModelBackend)
    return engine.backend.machine


@pytest.mark.parametrize("version", ["v6.4", "v6.5"])
def test_nothing_but_memory_depends_on_where_the_events_lie(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, in_memory = run(version, tmp_path / "memory")
    assert not machine_of(held).log.is_spooled
    monkeypatch.setattr(log, "CHUNK_EVENTS", 128)
    spooled, in_file = run(version, tmp_path / "file")
    machine = machine_of(spooled)
    assert machine.log.is_spooled
    assert len(machine.events) < 1000 < len(machine.log)
    assert in_file == in_memory
    assert in_file["repeated"] == 2
    assert in_file["diverged"] == 0
    for name in in_file["files"]:
        assert read(tmp_path / "file/journals" / name).events == read(tmp_path / "memory/journals" / name).events


def test_a_violation_of_a_long_execution_replays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "CHUNK_EVENTS", 128)
    _, told = run("v6.4", tmp_path / "file")
    schedules = [finding["schedule"] for finding in told["findings"].values()]
    assert schedules
    for schedule in schedules:
        replayed = replay(read_schedule(tmp_path / "file" / schedule))
        assert replayed.exit_status == RECURS
        assert replayed.is_same_journal


def test_threads_keep_long_executions_likewise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "CHUNK_EVENTS", 128)
    engine = Engine(replace(spec_of("v6.5", SCENARIO, seed=3), runtime="threads"), None)
    journal = engine.step()
    engine.runtime.close()
    assert machine_of(engine).log.is_spooled
    held = replace(journal, events=list(journal.events))
    assert len(held.events) == len(journal.events) > 1000
    verdicts = [judge(one)[0].violations for one in (journal, held)]
    assert [violation.message for violation in verdicts[0]] == [violation.message for violation in verdicts[1]]


@pytest.mark.parametrize("version", ["v6.4", "v6.5"])
def test_forgetting_what_is_long_gone_changes_no_class(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, _ = run(version, tmp_path / "o")
    journals = [read(path) for path in sorted((tmp_path / "o/journals").iterdir())]
    remembered = [engine.tracer.footprint(journal.events) for journal in journals]
    monkeypatch.setattr(coverage, "REMEMBERED_MIN", 4)
    forgotten = [engine.tracer.footprint(journal.events) for journal in journals]
    assert [one.class_hash for one in forgotten] == [one.class_hash for one in remembered]
    assert [one.pairs for one in forgotten] == [one.pairs for one in remembered]
