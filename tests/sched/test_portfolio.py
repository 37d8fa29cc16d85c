# SPDX-License-Identifier: GPL-2.0-only
"""Strategies by name: what `--strategy` takes, portfolios, and running schedules twice."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from stressvmap.errors import ConfigError
from stressvmap.runtime.strategy import Strategy
from stressvmap.scenario import Scenario
from stressvmap.sched.mixed import SHARES, MixedStrategy
from stressvmap.sched.portfolio import DEFAULT, STRATEGIES, make_strategy
from stressvmap.stress.execution import Executor
from stressvmap.stress.workloads import draw
from stressvmap.vmalloc.v6_5 import V6_5

SCENARIO = Scenario(workload="churn", cpus=2, block_bits=8, max_alloc=4, operations=4, flushes=1)


@pytest.fixture(scope="module")
def executor() -> Executor:
    return Executor(V6_5, SCENARIO)


def schedule(executor: Executor, strategy: Strategy, execution: int) -> str:
    return str(executor.run(draw(SCENARIO, 1, execution), strategy, execution=execution).schedule)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("random", "random"),
        ("sticky", "sticky:0.9"),
        ("sticky:0.95", "sticky:0.95"),
        ("pct", "pct:3"),
        ("pct:1", "pct:1"),
        ("switch-points", "switch-points:5"),
        ("switch-points:12", "switch-points:12"),
        ("pos", "pos"),
        ("surw", "surw"),
        ("round-robin", "round-robin"),
        ("round-robin:4", "round-robin:4"),
        ("twice:sticky", "twice:sticky:0.9"),
        ("twice:pct:2", "twice:pct:2"),
        (" pos ", "pos"),
    ],
)
def test_a_strategy_says_how_it_is_called(text: str, label: str) -> None:
    assert make_strategy(text, 1).label == label
    assert make_strategy(label, 1).label == label


def test_every_name_that_help_lists_can_be_made_and_the_default_is_one() -> None:
    for name in STRATEGIES:
        make_strategy("twice:random" if name == "twice" else name, 1).begin(0)
    assert DEFAULT in STRATEGIES


def test_the_document_describes_each_strategy_with_its_default() -> None:
    text = (Path(__file__).parent.parent.parent / "docs" / "strategies.md").read_text(encoding="utf-8")
    described = dict(re.findall(r"^\*\*`([\w-]+)(?::\w+)?`\*\*(.*)", text, re.MULTILINE))
    assert set(described) == set(STRATEGIES)
    for name, line in described.items():
        default = "" if name == "twice" else make_strategy(name, 1).label.partition(":")[2]
        assert name in ("mixed", "twice") or f"default {default}" in line or not default
    assert "the default" in described[DEFAULT]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dfs", "'dfs' is not one of mixed, random"),
        ("", "'' is not one of"),
        ("sticky,,pct", "'' is not one of"),
        ("sticky,dpor", "'dpor' is not one of"),
        ("sticky:2", "'sticky:2': '2' is no probability between 0 and 0.999"),
        ("sticky:nan", "is no probability"),
        ("sticky:", "'' is no probability"),
        ("pct:0", "'pct:0': '0' is no whole number between 1 and 4"),
        ("pct:5", "between 1 and 4"),
        ("pct:two", "'two' is no whole number"),
        ("pct:\u0663", "is no whole number"),
        ("switch-points:-1", "is no whole number between 0 and"),
        ("pct:" + "9" * 5_000, "between 1 and 4"),
        ("random:3", "'random:3': random has no parameter"),
        ("twice", "needs a strategy to run twice"),
        ("twice:", "needs a strategy to run twice"),
        ("twice:nonsense", "'nonsense' is not one of"),
        ("twice:" * 5_000 + "pct", "twice is enough"),
    ],
)
def test_what_cannot_be_understood_is_named_with_what_there_is(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=r"^strategy: ") as caught:
        make_strategy(text, 1)
    assert says in str(caught.value)


def test_several_strategies_take_turns_and_each_decides_as_if_alone(executor: Executor) -> None:
    both = make_strategy("sticky, pct", 1)
    alone = [make_strategy("sticky", 1), make_strategy("pct", 1)]
    assert both.calibration == alone[1].calibration
    for strategy in (both, *alone):
        executor.calibrate(strategy, [draw(SCENARIO, 1, number) for number in range(3)])
    for execution in (0, 1, 2, 5):
        assert schedule(executor, both, execution) == schedule(executor, alone[execution % 2], execution)
        assert both.label == alone[execution % 2].label
        assert both.wants_wakeups is alone[execution % 2].wants_wakeups


def test_a_member_of_the_mixture_decides_as_if_alone(executor: Executor) -> None:
    mixed = make_strategy("mixed", 1)
    programs = [draw(SCENARIO, 1, number) for number in range(3)]
    executor.calibrate(mixed, programs)
    seen = set()
    for execution in range(40):
        mixed.begin(execution)
        if mixed.label not in seen:
            seen.add(mixed.label)
            alone = make_strategy(mixed.label, 1)
            executor.calibrate(alone, programs)
            assert schedule(executor, mixed, execution) == schedule(executor, alone, execution)
    assert len(seen) == len(SHARES)


def test_the_mixture_has_its_shares() -> None:
    mixed = MixedStrategy(1)
    drawn = Counter(mixed.members.index(mixed.choose(execution)) for execution in range(10_000))
    assert sum(SHARES) == 100
    for number, share in enumerate(SHARES):
        assert drawn[number] / 100 == pytest.approx(share, abs=2)


def test_twice_decides_as_what_it_wraps_and_asks_for_every_schedule_to_be_run_again(executor: Executor) -> None:
    twice, alone = make_strategy("twice:sticky", 1), make_strategy("sticky", 1)
    for execution in range(3):
        assert schedule(executor, twice, execution) == schedule(executor, alone, execution)
        assert twice.repeat_share == 1.0
        assert alone.repeat_share is None


def test_among_others_twice_asks_for_its_own_executions_only() -> None:
    strategy = make_strategy("pct,twice:sticky", 1)
    shares = []
    for execution in range(4):
        strategy.begin(execution)
        shares.append(strategy.repeat_share)
    assert shares == [None, 1.0, None, 1.0]
