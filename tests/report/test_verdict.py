# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from pathlib import Path

from stressvmap.checks import lock_times
from stressvmap.report.saved import Summary, summary_from
from stressvmap.report.verdict import STORY_LINES_MAX, render
from stressvmap.result import Finding, RunResult
from stressvmap.stress.judge import judge
from stressvmap.vmalloc.v6_4 import V6_4
from tests.model.world import ALIASES, alone, map_, unmap


def run_of(version: str = "v6.4", workload: str = "mixed", *findings: Finding, **more: object) -> RunResult:
    result = RunResult(
        command="stress",
        version=version,
        version_digest="d",
        runtime="threads",
        strategy="",
        seed=7,
        scenario={"workload": workload},
        seconds=2.0,
        schedules=10,
        operations=1000,
        flushes=1,
        findings=list(findings),
        metrics={"obligations_checked": 1234, "flush_calls": 1, "flushed_pages": 4},
        windows={"vb-lock": [10, 3]},
        not_run={"data-race": "the recording carries no memory accesses"},
    )
    for name, value in more.items():
        setattr(result, name, value)
    return result


def leak(count: int = 3, *, known: bool = False, message: str = "it leaks\n  #1 here") -> Finding:
    return Finding("leak", "abcdefabcdef", "leak | vfree", message, count, known, "commit 1", 4, "journals/a b.svj")


def text_of(summary: Summary, folder: Path | None = Path("logs/x")) -> str:
    return "\n".join(line.plain for line in render(summary, folder))


def test_a_clean_run_says_how_much_it_checked_and_what_it_could_not() -> None:
    text = text_of(Summary("stress", [run_of()]))
    assert text.startswith("v6.4: CLEAN  (mixed; threads; seed 7)")
    assert "10 executions, 1,000 operations, 1 flush, 1,234 page debts" in text
    assert "vb-lock 3 of 10" in text
    assert "not run: data-race: the recording carries no memory accesses" in text
    assert text.endswith("exit status 0: nothing violated")


COVERAGE = {
    "executions": 10,
    "distinct_journals": 10,
    "distinct_pairs": 87,
    "last_new_pair_at": 4,
    "new_pairs_expected": 0.2,
    "unseen_estimate": 1.0,
    "unseen_low": 0.2,
    "unseen_high": 1.0,
    "sampled_one_in": 1,
}


def test_where_no_two_executions_are_alike_the_coverage_says_what_can_be_told() -> None:
    text = text_of(Summary("stress", [run_of(coverage=COVERAGE)]))
    assert (
        "  covered: 87 pairs of points met on one object, the last new one in execution 4 (0.2 new to be expected of "
        "the next); hardly two executions were alike by happens-before, so nothing can be said of those not seen"
    ) in text


def test_where_executions_repeat_the_coverage_says_how_likely_the_next_is_new() -> None:
    repeating = {**COVERAGE, "distinct_journals": 1, "unseen_estimate": 0.0, "unseen_low": 0.0, "unseen_high": 0.11}
    text = text_of(Summary("stress", [run_of(coverage=repeating)]))
    assert "covered: 1 journal distinct by happens-before; the next execution shows another with probability" in text
    assert "0.000 (0.000 to 0.110; Good-Turing, no proof); 87 pairs of points met on one object, the last new" in text


def test_a_result_of_an_earlier_release_is_told_as_far_as_it_goes() -> None:
    earlier = {key: value for key, value in COVERAGE.items() if key not in ("last_new_pair_at", "new_pairs_expected")}
    assert "covered: 87 pairs of points met on one object; hardly" in text_of(Summary("s", [run_of(coverage=earlier)]))


def test_a_finding_says_what_where_and_what_looks_closer() -> None:
    text = text_of(Summary("stress", [run_of("v6.4", "mixed", leak())]))
    assert "leak  NEW: the version does not declare it" in text
    assert "seen in 3 of 10 executions, first in execution 4" in text
    assert "    | it leaks\n    |   #1 here\n" in text
    assert "mechanism:   leak | vfree [abcdefabcdef]" in text
    assert "look closer: stressvmap show 'logs/x/journals/a b.svj'" in text


def test_a_known_finding_says_its_reference() -> None:
    assert "known: commit 1" in text_of(Summary("stress", [run_of("v6.4", "mixed", leak(known=True))]))


def test_a_finding_that_the_version_declares_is_told_by_its_title() -> None:
    known = V6_4.known[0]
    entry = Finding(
        known.check,
        known.fingerprint,
        known.mechanism,
        "story",
        known=True,
        reference=known.reference,
        title=known.title,
    )
    assert f"known: {known.title} ({known.reference})" in text_of(Summary("stress", [run_of("v6.4", "mixed", entry)]))


def test_what_a_version_is_known_to_break_and_did_not_is_said_of_a_clean_run() -> None:
    declared = [{"check": "leak", "fingerprint": f"{n}", "frequency": "rare", "title": f"title {n}"} for n in range(3)]
    text = text_of(Summary("stress", [run_of("v6.4", "mixed", declared=declared)]))
    assert "known of this version but not seen here: 3 of 3 declared" in text
    assert "title 0" in text


def test_findings_of_several_workloads_are_told_once_with_all_counts() -> None:
    runs = [run_of("v6.4", "mixed", leak(3)), run_of("v6.4", "churn", leak(5)), run_of("v6.4", "pinned")]
    text = text_of(Summary("stress", runs, is_single=False))
    assert text.count("| it leaks") == 1
    assert "seen in 8 of 30 executions, first in execution 4 (mixed, churn)" in text
    assert "3 workloads" in text


def test_a_mechanism_of_several_versions_is_told_once() -> None:
    runs = [run_of("v6.4", "mixed", leak()), run_of("v6.5", "mixed", leak())]
    text = text_of(Summary("stress", runs, is_single=False))
    assert text.count("| it leaks") == 1
    assert "the same mechanism as in v6.4, above" in text


def test_a_long_story_is_cut_and_says_so() -> None:
    message = "\n".join(f"line {number}" for number in range(STORY_LINES_MAX + 5))
    text = text_of(Summary("stress", [run_of("v6.4", "mixed", leak(message=message))]))
    assert f"line {STORY_LINES_MAX}" not in text
    assert "... 5 more lines in result.json" in text


def test_reservations_are_told_in_a_line_each() -> None:
    text = text_of(
        Summary("stress", [run_of(inconclusive=["stuck\nstacks\nmore"], harness_error="KeyError; in t.txt")])
    )
    assert "inconclusive: stuck ... (the rest is in result.json)" in text
    assert "stacks" not in text
    assert "v6.4: HARNESS FAILED, INCONCLUSIVE" in text
    assert "THE HARNESS FAILED: KeyError; in t.txt" in text


def test_a_run_without_a_result_is_inconclusive() -> None:
    summary = Summary("stress", [], is_stopped=True)
    assert (summary.verdict, summary.exit_status) == ("inconclusive", 130)
    assert "stopped early" in text_of(summary)


def test_what_is_rendered_from_the_saved_object_is_the_same() -> None:
    runs = [run_of("v6.4", "mixed", leak(), expect="known", expect_unmet=["v6.4: x fired"]), run_of("v6.5")]
    several = Summary("stress", runs, ["v6.4: y did not fire"], is_single=False)
    single = Summary("stress", runs[:1])
    for summary in (several, single):
        assert text_of(summary_from(summary.as_dict())) == text_of(summary)
        assert summary_from(summary.as_dict()).as_dict() == summary.as_dict()


def test_how_long_locks_were_held_is_told_if_asked_for() -> None:
    journal = alone(V6_4, map_(0, 2), unmap(0), ALIASES).journal
    run = run_of(metrics=lock_times.figures(judge(journal)[1].metrics()))
    told = [line.plain for line in render(Summary("stress", [run]), None, wants_locks=True)]
    assert sum(line.startswith("  vmap_purge_lock: held ") for line in told) == 1
    assert "held" not in text_of(Summary("stress", [run]))
