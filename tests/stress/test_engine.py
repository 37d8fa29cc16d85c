# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import gc
import time
import weakref
from dataclasses import replace
from pathlib import Path

import pytest

from stressvmap.checks.base import Mechanism, Violation
from stressvmap.config import THREADS, RunSpec
from stressvmap.errors import ConfigError
from stressvmap.journal import store
from stressvmap.known import Known
from stressvmap.program import Program
from stressvmap.result import Finding
from stressvmap.stress import engine as engines
from stressvmap.stress.engine import Engine, Tally, has_substance
from stressvmap.stress.judge import judge
from stressvmap.stress.replay import replay
from stressvmap.stress.schedule_file import read_schedule
from stressvmap.vmalloc.backend import ModelBackend
from stressvmap.vmalloc.v6_4 import V6_4
from tests.stress.runs import FULL_BLOCKS, TINY, run_engine, spec_of, write_patch


def executions_of(engine: Engine) -> list[int]:
    """Run the engine to its end; the numbers it ran."""
    numbers = []
    started = time.monotonic()
    while not engine.is_over(started):
        engine.step()
        numbers.append(engine.execution)
    engine.finish()
    return numbers


def violation(number: int) -> Violation:
    return Violation("leak", Mechanism("leak", ("vfree",), f"area {number}", "left"), "a story", 0)


# -- which executions, and when it ends ---------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_shares_part_the_executions_among_them(stride: int) -> None:
    spec = spec_of(schedules=7)
    shares = [executions_of(Engine(spec, None, first=first, stride=stride)) for first in range(stride)]
    assert [share[0] for share in shares] == list(range(stride))
    assert sorted(number for share in shares for number in share) == list(range(7))


def test_one_execution_asked_for_by_number_is_the_only_one() -> None:
    assert executions_of(Engine(spec_of(execution=5, schedules=2), None)) == [5]


def test_an_operations_budget_ends_the_run_after_the_execution_that_reaches_it() -> None:
    engine = run_engine(Engine(spec_of(operations=30), None))
    before_last = run_engine(Engine(spec_of(schedules=engine.tally.schedules - 1), None))
    assert before_last.tally.operations < 30 <= engine.tally.operations


def test_a_budget_of_seconds_ends_the_run() -> None:
    engine = Engine(spec_of(seconds=5.0), None)
    now = time.monotonic()
    assert not engine.is_over(now)
    assert engine.is_over(now - 5.0)


def test_the_first_budget_that_is_reached_ends_the_run() -> None:
    assert len(executions_of(Engine(spec_of(schedules=2, operations=10**6, seconds=1e6), None))) == 2


def test_stop_at_first_goes_on_past_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of("v6.4", FULL_BLOCKS, schedules=15, stop_at_first=True)
    engine = run_engine(Engine(spec, None))
    assert engine.tally.schedules == 15
    assert engine.tally.findings
    monkeypatch.setattr(V6_4, "known", ())
    stopped = run_engine(Engine(spec, None))
    assert stopped.tally.schedules == 1 + min(f.first_at_schedule for f in engine.tally.findings.values())


def test_a_stop_in_the_middle_of_an_execution_counts_only_what_was_whole() -> None:
    engine = run_engine(Engine(spec_of(), None), 2)
    engine.is_stopping = True
    before = engine.tally.schedules
    engine.spec = replace(engine.spec, scenario=TINY)
    engine.backend.scenario = replace(TINY, steps_max=20)
    engine.step()
    assert engine.tally.schedules == before
    assert engine.tally.gave_up == 0
    assert engine.is_over(0.0)


@pytest.mark.parametrize(
    ("spec", "told"),
    [(spec_of(strategy="lucky"), "strategy: 'lucky'"), (spec_of(runtime="fibres"), "runtime: 'fibres'")],
)
def test_an_unknown_strategy_or_runtime_is_told_with_what_there_is(spec: RunSpec, told: str) -> None:
    with pytest.raises(ConfigError, match=f"{told} is not one of"):
        Engine(spec, None)


def test_a_scenario_the_kernel_forbids_is_refused() -> None:
    with pytest.raises(ConfigError, match="block_bits"):
        Engine(spec_of(scenario=replace(TINY, block_bits=6)), None)


# -- what it keeps ------------------------------------------------------------------------------------------


def test_a_finding_counts_the_executions_that_showed_it() -> None:
    engine = Engine(spec_of("v6.4", FULL_BLOCKS, schedules=12), None)
    shown: dict[str, list[int]] = {}
    while not engine.is_over(0.0):
        verdict = judge(engine.step())[0]
        for fingerprint in {violation.fingerprint for violation in verdict.violations}:
            shown.setdefault(fingerprint, []).append(engine.execution)
    findings = engine.finish().findings
    assert findings
    assert {fingerprint: numbers[0] for fingerprint, numbers in shown.items()} == {
        fingerprint: finding.first_at_schedule for fingerprint, finding in findings.items()
    }
    assert {fingerprint: len(numbers) for fingerprint, numbers in shown.items()} == {
        fingerprint: finding.count for fingerprint, finding in findings.items()
    }


def test_declared_breakage_is_known_and_says_by_what() -> None:
    findings = run_engine(Engine(spec_of("v6.4", FULL_BLOCKS, schedules=10), None)).finish().findings
    known = {entry.fingerprint: entry for entry in V6_4.known}
    assert findings
    for fingerprint, finding in findings.items():
        assert (finding.known, finding.check) == (True, known[fingerprint].check)
        assert finding.reference == known[fingerprint].reference


def test_known_is_a_matter_of_the_fingerprint_and_of_the_check() -> None:
    engine = Engine(spec_of(), None)
    done = engine._execute(Program(()))
    own, others = violation(1), violation(2)
    declared = Known("leak | vfree | area 1 | left | holding nothing", "rare", "a reference", "a title")
    other_check = Known("accounting | vfree | area 2 | left | holding nothing", "rare", "another", "a title")
    assert own.fingerprint == declared.fingerprint
    engine.known = {own.fingerprint: declared, others.fingerprint: other_check}
    for one in (own, others, violation(3)):
        engine._keep(one, Program(()), done, "stem")
    assert [finding.known for finding in engine.finish().findings.values()] == [True, False, False]


def test_a_finding_carries_the_program_and_the_journal_of_its_first_execution(tmp_path: Path) -> None:
    spec = spec_of("v6.4", FULL_BLOCKS, schedules=20)
    findings = run_engine(Engine(spec, tmp_path)).finish().findings
    assert findings
    for finding in findings.values():
        journal = store.read(tmp_path / finding.journal)
        assert journal.header["execution"] == finding.first_at_schedule
        assert any(
            (violation.fingerprint, violation.at) == (finding.fingerprint, finding.at)
            for violation in judge(journal)[0].violations
        )
        again = Engine(spec, None)
        again.execution = finding.first_at_schedule
        assert again.run_program(Program.from_dict(finding.program)).digest() == journal.digest()


def test_each_fingerprint_leaves_one_journal(tmp_path: Path) -> None:
    engine = run_engine(Engine(spec_of("v6.4", FULL_BLOCKS, schedules=25), tmp_path))
    findings = engine.finish().findings
    assert any(finding.count > 1 for finding in findings.values())
    assert {f"journals/{path.name}" for path in (tmp_path / "journals").iterdir()} == {
        finding.journal for finding in findings.values()
    }


def test_journals_are_kept_of_all_executions_where_that_is_asked_for(tmp_path: Path) -> None:
    run_engine(Engine(spec_of(schedules=4, keep_journals=True), tmp_path)).finish()
    kept = [store.read(path) for path in sorted((tmp_path / "journals").iterdir())]
    assert [journal.header["execution"] for journal in kept] == [0, 1, 2, 3]


def test_no_folder_means_no_journals() -> None:
    engine = run_engine(Engine(spec_of("v6.4", FULL_BLOCKS, schedules=10, keep_journals=True), None))
    assert {finding.journal for finding in engine.finish().findings.values()} == {""}


def test_what_an_older_run_left_in_the_folder_is_not_taken_for_this_runs_journal(tmp_path: Path) -> None:
    spec = spec_of("v6.4", FULL_BLOCKS, schedules=10)
    for finding in run_engine(Engine(spec, tmp_path)).finish().findings.values():
        (tmp_path / finding.journal).write_bytes(b"of another run")
    for finding in run_engine(Engine(spec, tmp_path)).finish().findings.values():
        assert store.read(tmp_path / finding.journal).header["execution"] == finding.first_at_schedule


def test_the_findings_kept_are_bounded_and_the_rest_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "FINDINGS_MAX", 3)
    engine = Engine(spec_of(), None)
    done = engine._execute(Program(()))
    for number in (0, 1, 2, 3, 4, 0):
        engine._keep(violation(number), Program(()), done, "stem")
    tally = engine.finish()
    assert [finding.count for finding in tally.findings.values()] == [2, 1, 1]
    assert tally.dropped == 2


def test_an_executions_journal_and_machine_are_not_held_on_to() -> None:
    engine = Engine(spec_of("v6.4", FULL_BLOCKS), None)
    engine.step()
    assert isinstance(engine.backend, ModelBackend)
    machine = weakref.ref(engine.backend.machine)
    engine.step()
    gc.collect()
    assert machine() is None


# -- executions that are given up ---------------------------------------------------------------------------


def test_an_execution_that_reaches_steps_max_says_where_its_tasks_stood(tmp_path: Path) -> None:
    patch = write_patch(
        tmp_path,
        """
        def vb_free(self, address, size):
            while self.vmap_lazy_nr.read_value() >= 0:
                pass
        """,
    )
    engine = Engine(spec_of(patch, replace(TINY, steps_max=2000), schedules=2, seed=9), None)
    tally = run_engine(engine).finish()
    assert tally.gave_up == 2
    assert tally.first_gave_up is not None
    number, where = tally.first_gave_up
    assert number == 0
    assert where.startswith("execution 0 (seed 9): after 2000 steps, still there: worker/1 on CPU 0 in ")
    assert " in vb_free" in where


# -- shares are added up ------------------------------------------------------------------------------------


def finding(fingerprint: str, first: int, count: int) -> Finding:
    return Finding("leak", fingerprint, "m", f"first at {first}", count=count, first_at_schedule=first)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_merging_keeps_the_first_occurrence_and_all_counts(order: tuple[int, int]) -> None:
    def share(number: int) -> Tally:
        return (
            Tally(3, 30, 300, {"a": finding("a", 8, 2), "b": finding("b", 2, 1)}, {"x": 1, "x_max": 5}, {"w": [4, 1]}),
            Tally(2, 20, 200, {"a": finding("a", 5, 1)}, {"x": 2, "x_max": 4, "y": 1}, {"w": [1, 1]}, {"leak": "no"}),
        )[number]

    total = Tally()
    for number in order:
        total.merge(share(number))
    assert (total.schedules, total.operations, total.points) == (5, 50, 500)
    assert {name: (one.first_at_schedule, one.count, one.message) for name, one in total.findings.items()} == {
        "a": (5, 3, "first at 5"),
        "b": (2, 1, "first at 2"),
    }
    assert total.not_run == {"leak": "no"}
    assert total.windows == {"w": [5, 2]}


def test_merging_metrics_adds_and_takes_the_largest_of_a_maximum() -> None:
    total = Tally(metrics={"flush_calls": 1, "purge_lock_hold_points_max": 5})
    total.merge(Tally(metrics={"flush_calls": 2, "purge_lock_hold_points_max": 4}))
    assert total.metrics == {"flush_calls": 3, "purge_lock_hold_points_max": 5}


def test_merging_names_the_execution_that_was_given_up_first() -> None:
    total = Tally()
    for share in (Tally(), Tally(gave_up=2, first_gave_up=(10, "ten")), Tally(gave_up=1, first_gave_up=(3, "three"))):
        total.merge(share)
    assert total.gave_up == 3
    assert total.first_gave_up == (3, "three")


# -- what the word clean is worth ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operations", "metrics", "reason"),
    [
        (0, {}, "no operation"),
        (5, {}, "no vm_unmap_aliases call"),
        (5, {"unmap_aliases_calls": 2}, "no flush"),
        (5, {"unmap_aliases_calls": 2, "flush_calls": 1}, None),
    ],
)
def test_a_run_without_operation_call_or_flush_has_no_substance(
    operations: int, metrics: dict[str, int], reason: str | None
) -> None:
    reasons = has_substance(Tally(operations=operations, metrics=metrics))
    assert [reason is not None and reason in one for one in reasons] == ([] if reason is None else [True])


def test_a_run_of_any_workload_has_substance() -> None:
    spec: RunSpec = spec_of(schedules=1)
    assert has_substance(run_engine(Engine(spec, None)).finish()) == []


def test_coverage_is_counted_by_strategy_and_the_number_of_processes_changes_nothing() -> None:
    spec = spec_of("v6.4", FULL_BLOCKS, strategy="sticky,round-robin", schedules=12)
    whole = run_engine(Engine(spec, None)).finish().coverage.as_dict()
    halves = [run_engine(Engine(spec, None, first=first, stride=2)).finish() for first in (0, 1)]
    halves[0].merge(halves[1])
    assert halves[0].coverage.as_dict() == whole
    by_strategy = {name.partition(":")[0]: told["executions"] for name, told in whole["by_strategy"].items()}
    assert by_strategy == {"sticky": 6, "round-robin": 6}
    assert whole["executions"] == 12
    assert 0 < whole["distinct_journals"] <= 12


def test_what_threads_found_comes_with_a_schedule_that_shows_it_again(tmp_path: Path) -> None:
    spec = spec_of("v6.4", FULL_BLOCKS, runtime=THREADS, schedules=10)
    findings = run_engine(Engine(spec, tmp_path)).finish().findings
    with_schedule = [finding for finding in findings.values() if finding.schedule]
    assert "stale-after-unmap-aliases" in {finding.check for finding in with_schedule}
    for finding in with_schedule:
        saved = read_schedule(tmp_path / finding.schedule)
        assert saved.program.as_dict() == finding.program
        told = replay(saved)
        assert (told.violation is not None, told.is_same_journal) == (True, True)
        assert saved.fingerprint == finding.fingerprint
