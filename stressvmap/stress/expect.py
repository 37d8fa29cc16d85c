# SPDX-License-Identifier: GPL-2.0-only
"""What runs were expected to find, against what they found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from stressvmap.config import RunSpec
from stressvmap.known import ALWAYS
from stressvmap.result import Finding, RunResult
from stressvmap.stress import subject

KNOWN = "known"

Run = tuple[RunSpec, RunResult]


def settle(runs: Sequence[Run]) -> list[str]:
    """Set `expect_unmet` of each run that has an `expect`; return what the versions still owe over all their runs.

    A list is one run's business. "known" is a version's: each `always` entry must have fired in one of its
    runs. Where a version has only one run, what it owes is said there.
    """
    owed: list[str] = []
    by_version: dict[str, list[Run]] = {}
    for spec, result in runs:
        if spec.expect == KNOWN:
            result.expect_unmet = [
                f"{result.version}: {_name(finding)} fired, and is not declared as known" for finding in _new(result)
            ]
            by_version.setdefault(spec.version, []).append((spec, result))
        elif spec.expect is not None:
            result.expect_unmet = [f"{result.version}: {reason}" for reason in unmet(spec.expect, result.findings)]
    for version, of_version in by_version.items():
        results = [result for _, result in of_version]
        missing = [] if any(result.is_stopped for result in results) else missing_always(version, results)
        if len(results) == 1:
            results[0].expect_unmet += missing
        else:
            owed += missing
    return owed


def unmet(expect: str | Iterable[str], findings: Sequence[Finding]) -> list[str]:
    """What fired and should not have, and what should have and did not. Entries are `check` or `check:fingerprint`."""
    expected = [expect] if isinstance(expect, str) else list(expect)
    fired = {finding.check for finding in findings} | {_name(finding) for finding in findings}
    reasons = [f"{entry} was expected and did not fire" for entry in expected if entry not in fired]
    reasons += [
        f"{_name(finding)} fired and was not expected"
        for finding in findings
        if finding.check not in expected and _name(finding) not in expected
    ]
    return reasons


def missing_always(version: str, results: Sequence[RunResult]) -> list[str]:
    """The version's `always` entries that fired in none of `results`."""
    fired = {(finding.check, finding.fingerprint) for result in results for finding in result.findings}
    where = "in the run" if len(results) == 1 else f"in any of {len(results)} runs"
    name = results[0].version
    return [
        f"{name}: {known.check}:{known.fingerprint} ({known.title}) is always there, but did not fire {where}"
        for known in subject.load(version).known
        if known.frequency == ALWAYS and (known.check, known.fingerprint) not in fired
    ]


def _new(result: RunResult) -> list[Finding]:
    return [finding for finding in result.findings if not finding.known]


def _name(finding: Finding) -> str:
    return f"{finding.check}:{finding.fingerprint}"
