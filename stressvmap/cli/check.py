# SPDX-License-Identifier: GPL-2.0-only
"""`stressvmap check`: the checks on a recorded journal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from stressvmap.checks.lock_times import figures
from stressvmap.cli.options import Checks, Json, Limits, Quiet, Verbose, limits_of
from stressvmap.cli.output import print_lines, print_object, start_log
from stressvmap.journal.events import API_END, FLUSH_END
from stressvmap.journal.journal import Journal
from stressvmap.journal.sanity import checked
from stressvmap.journal.store import read
from stressvmap.report.saved import Summary
from stressvmap.report.verdict import render
from stressvmap.result import Finding, RunResult
from stressvmap.stress.finding import finding_of
from stressvmap.stress.judge import judge
from stressvmap.vmalloc.versions import BUILT_IN

COMMAND = "check"


def check(
    journal: Annotated[Path, typer.Argument(metavar="JOURNAL", help="A journal (.svj) from a run's folder.")],
    check: Checks = None,
    limit: Limits = None,
    json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> int:
    """Run the checks on a recorded journal.

    Of a journal that was cut, the readable part is checked, and the verdict is inconclusive.

    \b
    Example
        stressvmap check logs/<run>/journals/<name>.svj
    """
    start_log(verbose, is_quiet=quiet)
    result = check_journal(checked(read(journal), str(journal)), str(journal), tuple(check or ()), limits_of(limit))
    summary = Summary(COMMAND, [result])
    if json:
        print_object(summary.as_dict())
    else:
        print_lines(render(summary, None, wants_locks=verbose > 0))
    return summary.exit_status


def check_journal(journal: Journal, path: str, only: tuple[str, ...], limits: dict[str, float]) -> RunResult:
    """Judge one journal; the result is that of a run of one execution."""
    verdict, one = judge(journal, only, limits)
    header = journal.header
    scenario = header.get("scenario")
    result = RunResult(
        command=COMMAND,
        version=str(header.get("version", "")),
        version_digest=str(header.get("version_digest", "")),
        runtime=str(header.get("runtime", "")),
        strategy="",
        seed=_integer(header.get("seed")),
        scenario=scenario if isinstance(scenario, dict) else {},
        schedules=1,
        operations=sum(1 for event in journal.events if event[0] == API_END),
        points=len(journal.events),
        flushes=sum(1 for event in journal.events if event[0] == FLUSH_END),
        not_run=dict(sorted(verdict.not_run.items())),
        metrics=figures(one.metrics()),
        windows=one.window_counts(),
    )
    declared = {known.fingerprint: known for known in getattr(BUILT_IN.get(result.version), "known", ())}
    findings: dict[str, Finding] = {}
    for violation in verdict.violations:
        if violation.fingerprint in findings:
            continue
        finding = finding_of(violation, declared, _integer(header.get("execution")))
        finding.journal = path
        findings[violation.fingerprint] = finding
    result.findings = list(findings.values())
    result.inconclusive = _reservations(journal, result, only)
    return result


def _reservations(journal: Journal, result: RunResult, only: tuple[str, ...]) -> list[str]:
    reasons = []
    if not journal.complete:
        reasons.append(f"the journal is not whole: {journal.damage or 'events were lost'}")
    if not result.operations and not result.flushes:
        reasons.append("the journal holds no operation and no flush: nothing was checked")
    reasons += [
        f"check {name} was asked for and could not run: {result.not_run[name]}"
        for name in only
        if name in result.not_run
    ]
    return reasons


def _integer(value: Any) -> int:
    return value if isinstance(value, int) else 0
