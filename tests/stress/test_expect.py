# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from stressvmap.config import RunSpec
from stressvmap.known import ALWAYS
from stressvmap.result import Finding, RunResult
from stressvmap.stress.expect import missing_always, settle, unmet
from stressvmap.vmalloc.v6_4 import V6_4

ALWAYS_THERE = [known for known in V6_4.known if known.frequency == ALWAYS]


def finding(check: str, fingerprint: str, *, known: bool = False) -> Finding:
    return Finding(check, fingerprint, check, "", known=known)


def run_of(
    *findings: Finding, version: str = "v6.4", expect: str | tuple[str, ...] = "known"
) -> tuple[RunSpec, RunResult]:
    spec = RunSpec(version=version, expect=expect)
    return spec, RunResult("stress", version, "d", "threads", "", 1, {}, findings=list(findings))


def known_ones() -> list[Finding]:
    return [finding(known.check, known.fingerprint, known=True) for known in ALWAYS_THERE]


def test_what_is_always_there_may_fire_in_any_one_run_of_the_version() -> None:
    one, *others = known_ones()
    assert settle([run_of(one), run_of(*others), run_of()]) == []


def test_each_version_owes_its_own() -> None:
    owed = settle([run_of(*known_ones()), run_of(), run_of(version="rfc-3of3"), run_of(version="rfc-3of3")])
    assert owed
    assert all(reason.startswith("rfc-3of3: ") and "did not fire in any of 2 runs" in reason for reason in owed)


def test_a_single_run_is_told_what_it_owes_itself() -> None:
    spec, result = run_of()
    assert settle([(spec, result)]) == []
    assert len(result.expect_unmet) == len(ALWAYS_THERE)


def test_the_same_check_with_another_fingerprint_does_not_hide_behind_a_known_one() -> None:
    spec, result = run_of(*known_ones(), finding(ALWAYS_THERE[0].check, "0" * 12))
    settle([(spec, result)])
    assert result.expect_unmet == [f"v6.4: {ALWAYS_THERE[0].check}:{'0' * 12} fired, and is not declared as known"]
    assert missing_always("v6.4", [run_of(finding(ALWAYS_THERE[0].check, "0" * 12))[1]])


def test_a_stopped_run_owes_nothing() -> None:
    spec, result = run_of()
    result.is_stopped = True
    assert settle([(spec, result), run_of()]) == []


def test_a_list_is_exact_and_each_runs_own() -> None:
    first, second = run_of(finding("leak", "a"), expect=("leak",)), run_of(expect=("leak",))
    assert settle([first, second]) == []
    assert first[1].expect_unmet == []
    assert second[1].expect_unmet == ["v6.4: leak was expected and did not fire"]


def test_an_empty_list_expects_nothing() -> None:
    assert unmet((), []) == []
    assert unmet((), [finding("leak", "a")]) == ["leak:a fired and was not expected"]


def test_a_fingerprint_binds_a_check_to_its_mechanism() -> None:
    assert unmet(("leak:a",), [finding("leak", "a")]) == []
    assert unmet(("leak:a",), [finding("leak", "b")]) == [
        "leak:a was expected and did not fire",
        "leak:b fired and was not expected",
    ]
