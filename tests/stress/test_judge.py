# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from dataclasses import replace

import pytest

from stressvmap.checks.costs import is_maximum
from stressvmap.checks.lock_times import POINT_KINDS
from stressvmap.checks.registry import CHECK_NAMES
from stressvmap.errors import ConfigError
from stressvmap.journal.events import GROUND
from stressvmap.journal.journal import Journal
from stressvmap.stress.engine import Engine
from stressvmap.stress.judge import Judge, judge
from tests.stress.runs import FULL_BLOCKS, TINY, spec_of


@pytest.fixture(scope="module")
def journals() -> list[Journal]:
    """Executions of v6.4 that break what it is known to break."""
    engine = Engine(spec_of("v6.4", FULL_BLOCKS), None)
    made = [engine.step() for _ in range(8)]
    engine.finish()
    return made


def test_metrics_and_windows_of_executions_add_up(journals: list[Journal]) -> None:
    together = Judge()
    alone = []
    for journal in journals:
        together.execution(journal)
        alone.append(judge(journal)[1])
    for name, total in together.metrics().items():
        parts = [one.metrics().get(name, 0) for one in alone]
        assert total == (max(parts) if is_maximum(name) else sum(parts)), name
    for name, counts in together.window_counts().items():
        parts_of = [one.window_counts()[name] for one in alone]
        assert counts == [sum(column) for column in zip(*parts_of, strict=True)], name
        assert counts[1] <= counts[0]


def test_the_points_counted_from_a_journal_are_about_those_that_the_runtime_announced() -> None:
    engine = Engine(spec_of(scenario=replace(TINY, flushers=0, aliases_rate=0.1)), None)
    counted = sum(event[0] in POINT_KINDS for _ in range(40) for event in engine.step().events)
    assert counted == pytest.approx(engine.finish().points, rel=0.05)


def test_flushed_is_owed_and_excess(journals: list[Journal]) -> None:
    together = Judge()
    for journal in journals:
        together.execution(journal)
    metrics = together.metrics()
    assert metrics["flushed_pages"] == metrics["owed_pages"] + metrics["excess_pages"]
    assert metrics["owed_pages"] > 0


def test_an_execution_is_judged_as_if_it_were_the_only_one(journals: list[Journal]) -> None:
    together = Judge()
    assert [together.execution(journal).violations for journal in journals] == [
        judge(journal)[0].violations for journal in journals
    ]


def test_violations_come_in_the_order_of_their_events(journals: list[Journal]) -> None:
    for journal in journals:
        numbers = [violation.at for violation in judge(journal)[0].violations]
        assert numbers == sorted(numbers)


def test_only_the_checks_asked_for_fire_and_the_metrics_stay(journals: list[Journal]) -> None:
    for journal in journals:
        everything, of_everything = judge(journal)
        verdict, of_only = judge(journal, only=("range-computed-unlocked",))
        assert verdict.violations == [v for v in everything.violations if v.check == "range-computed-unlocked"]
        assert verdict.not_run == {}
        assert of_only.metrics() == of_everything.metrics()


def test_a_check_that_there_is_not_is_told_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"stale-accesses.*stale-access"):
        Judge(only=("stale-accesses",))


def test_every_check_can_run_on_what_the_model_records(journals: list[Journal]) -> None:
    assert judge(journals[0])[0].not_run == {}


def test_checks_whose_stream_is_not_carried_are_named_as_not_run(journals: list[Journal]) -> None:
    ground = replace(journals[0], streams=frozenset({GROUND}))
    not_run = judge(ground)[0].not_run
    assert set() < set(not_run) < set(CHECK_NAMES)
    assert "operations" in not_run["range-computed-unlocked"]
    assert "stale-after-unmap-aliases" not in not_run


def test_a_limit_turns_a_metric_into_a_violation(journals: list[Journal]) -> None:
    assert not [v for v in judge(journals[0])[0].violations if v.check == "lock-hold"]
    assert [v for v in judge(journals[0], limits={"lock-hold": 1})[0].violations if v.check == "lock-hold"]
