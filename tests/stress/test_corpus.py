# SPDX-License-Identifier: GPL-2.0-only
"""The corpus: each bug in it is there to be found, and what is measured is told as it is."""

from __future__ import annotations

import pytest

from stressvmap.stress import depth
from stressvmap.stress.corpus import BUGS, COMPARED, Cell, Hunt, hits_table, main, measure, rates_table, speeds_table
from stressvmap.vmalloc import versions

SOONEST = {
    "wrong-queue": "sticky:0.9",
    "walks-dying-blocks": "switch-points:5",
    "no-grace-period": "switch-points:5",
    "merges-before-flush": "switch-points:5",
    "depth-3": "pos",
}
"""What finds each of the rarer ones well."""


@pytest.mark.parametrize("name", BUGS)
def test_each_bug_is_found(name: str) -> None:
    hunt = Hunt(BUGS[name], SOONEST.get(name, "random"))
    assert any(hunt.first_hit(seed, 200) is not None for seed in (1, 2, 3))
    hunt.executor.close()


def test_a_planted_version_cannot_be_asked_for_as_if_it_were_a_kernel() -> None:
    planted = {bug.version.NAME for bug in BUGS.values() if bug.version.__module__.endswith("planted")}
    assert len(planted) == 5
    assert not planted & set(versions.BUILT_IN)


def test_what_the_base_version_declares_does_not_count_as_the_planted_bug() -> None:
    """v6.5's dying block fires the same check as the mutex that is let go."""
    hunt = Hunt(BUGS["dying-block"], "random")
    first = hunt.first_hit(1, 200)
    assert first is not None
    journal = hunt.executor.run(hunt.bug.program_of(1, first - 1), hunt.strategy(1), execution=first - 1).journal
    assert BUGS["dying-block"].is_found(hunt._judge, journal)
    assert not BUGS["releases-mutex"].is_found(hunt._judge, journal)
    hunt.executor.close()


def test_a_measurement_is_the_same_each_time() -> None:
    assert measure("full-block", "pct:3", 3, 20) == measure("full-block", "pct:3", 3, 20)


def test_a_median_above_the_cap_is_told_as_that() -> None:
    assert Cell("b", "s", 100, (3, 1, 2, 9)).text() == "2 (1..3)"
    assert Cell("b", "s", 100, (5, None, None, 7)).text() == "7 (5..> 100), 2/4"
    assert Cell("b", "s", 100, (5, None, None, None)).text() == "> 100 (5..> 100), 1/4"
    assert Cell("b", "s", 100, (None, None)).text() == "> 100, 0/2"
    assert Cell("b", "s", 100, (5, None, None, None)).quantile(0.5) is None


def test_the_table_has_a_row_a_strategy_and_a_column_a_bug() -> None:
    cells = [Cell("a", "pct", 10, (4,)), Cell("b", "pct", 10, (9,)), Cell("a", "pos", 10, (None,))]
    assert hits_table(cells).splitlines() == [
        "| strategy | a | b | mean |",
        "|---|---|---|---|",
        "| pct | 4 (4..4) | 9 (9..9) | 6 |",
        "| pos | > 10, 0/1 |  | 10 |",
    ]


def test_rates_stand_beside_the_bound_of_pct() -> None:
    told: list[str] = []
    rows = rates_table(BUGS["full-block"], ["random", "pct:2"], 10, told.append).splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| random", "| pct:2"]
    assert told == ["full-block, random", "full-block, pct:2"]
    assert rows[0].split(" | ")[4] == ""
    assert 0 < float(rows[1].split(" | ")[4]) < 1e-3


def test_speeds_are_ratios_to_the_random_walk() -> None:
    row = speeds_table(["switch-points"], 0.05, 1, lambda text: None).splitlines()[2]
    assert row.startswith("| switch-points | ")


def test_the_command_prints_the_table_and_tells_progress_apart_from_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--bugs", "full-block", "--strategies", "random,pct", "--seeds", "2", "--cap", "30"]) == 0
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 4
    assert "2/2 pct, full-block: " in printed.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--bugs", "nonsense"], "bugs: 'nonsense' is not one of full-block"),
        (["--strategies", "pct:9"], "strategy: 'pct:9'"),
        (["--seeds", "0"], "at least 1"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert says in printed.err
    assert len(printed.err.splitlines()) == 1


def test_the_depth_table_has_the_bound_and_a_row_a_strategy(capsys: pytest.CaptureFixture[str]) -> None:
    depth.main(["--executions", "10", "--strategies", "random,pct:3"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "k = 175, n = 2; PCT's bound for depth 3: 1.6e-05"
    assert [line.split(" | ")[0] for line in lines[4:]] == ["| random", "| pct:3"]


def test_the_strategies_compared_include_each_kind() -> None:
    kinds = {text.partition(":")[0] for text in COMPARED}
    assert kinds == {"random", "sticky", "switch-points", "pct", "pos", "surw", "round-robin", "mixed"}
