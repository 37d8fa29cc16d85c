# SPDX-License-Identifier: GPL-2.0-only
"""The short verdict a command ends with: what was violated, its story, where the evidence lies, what was checked.

It needs no documentation: each line says what it is about. One paragraph a version; distinct findings are told once.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.text import Text

from stressvmap.checks import lock_times
from stressvmap.checks.registry import CHECK_NAMES
from stressvmap.config import CONTROLLED, THREADS
from stressvmap.errors import ConfigError
from stressvmap.quantity import counted
from stressvmap.report.columns import columns_in
from stressvmap.report.saved import CONFIG_FILE, Summary
from stressvmap.report.table import by_version, table
from stressvmap.result import CLEAN, INCONCLUSIVE, VIOLATED, Finding, RunResult

STORY_LINES_MAX: Final = 24
"""Of a story; the whole of it is in result.json."""
REPEATS_MIN: Final = 0.95
"""Above it the estimate of what is unseen says that executions do not repeat, and no more."""
_STYLES: Final = {VIOLATED: "bold red", INCONCLUSIVE: "bold yellow", CLEAN: "bold green"}


def render(summary: Summary, folder: Path | None, *, wants_locks: bool = False) -> Iterator[Text]:
    """The lines of the verdict. `folder`: where the evidence lies. `wants_locks`: how long each lock was held, too."""
    groups = by_version(summary.runs)
    told: dict[str, str] = {}
    for runs in groups.values():
        yield from _version(runs, folder, told)
        if wants_locks and len(runs) == 1:
            yield from (Text(f"  {line}") for line in lock_times.lines(runs[0].metrics))
        yield Text()
    not_run = list(_not_run(summary.runs))
    if not_run:
        yield from not_run
        yield Text()
    if len(summary.runs) > 1:
        yield from table(summary.runs)
        yield Text()
    yield from _conclusion(summary)


@dataclass(slots=True)
class _Merged:
    """A finding over the runs of one version."""

    first: Finding
    count: int = 0
    workloads: list[str] = field(default_factory=list)


def _merge(runs: Sequence[RunResult]) -> list[_Merged]:
    merged: dict[tuple[str, str], _Merged] = {}
    for run in runs:
        for finding in run.findings:
            entry = merged.setdefault((finding.check, finding.fingerprint), _Merged(finding))
            entry.count += finding.count
            workload = str(run.scenario.get("workload", ""))
            if workload and workload not in entry.workloads:
                entry.workloads.append(workload)
    return sorted(merged.values(), key=lambda entry: (entry.first.known, _rank(entry.first), entry.first.fingerprint))


def _rank(finding: Finding) -> int:
    """What harms comes first: the order of the contract."""
    return CHECK_NAMES.index(finding.check) if finding.check in CHECK_NAMES else len(CHECK_NAMES)


def _version(runs: Sequence[RunResult], folder: Path | None, told: dict[str, str]) -> Iterator[Text]:
    """One version's paragraph. `told`: by fingerprint, the version whose paragraph told the story already."""
    findings = _merge(runs)
    yield _headline(runs, findings)
    for entry in findings:
        yield Text()
        yield from _finding(entry, runs, folder, told.get(entry.first.fingerprint, ""))
        told.setdefault(entry.first.fingerprint, runs[0].version)
    if findings:
        yield Text()
    yield from _what_was_checked(runs)
    yield from _not_seen(runs)
    for run in runs:
        yield from _reservations(run, with_workload=len(runs) > 1)


def _headline(runs: Sequence[RunResult], findings: Sequence[_Merged]) -> Text:
    run = runs[0]
    verdict = next(verdict for verdict in (VIOLATED, INCONCLUSIVE, CLEAN) if verdict in {run.verdict for run in runs})
    workloads = [str(run.scenario.get("workload", "")) for run in runs]
    what = workloads[0] if len(runs) == 1 else f"{len(runs)} workloads"
    strategy = f"{run.runtime}, {run.strategy}" if run.strategy else run.runtime
    about = [part for part in (what, strategy, f"seed {run.seed}" if run.runtime else "") if part]
    line = Text()
    line.append(f"{run.version or 'unknown version'}: ", style="bold")
    if any(run.harness_error for run in runs):
        line.append("HARNESS FAILED, ", style="bold red")
    line.append(verdict.upper(), style=_STYLES[verdict])
    if findings:
        new = sum(not entry.first.known for entry in findings)
        line.append(f", {len(findings)} distinct ({len(findings) - new} known, {new} new)")
    line.append(f"  ({'; '.join(about)})" if about else "")
    return line


def _finding(entry: _Merged, runs: Sequence[RunResult], folder: Path | None, told_of: str) -> Iterator[Text]:
    finding = entry.first
    line = Text("  ")
    line.append(finding.check, style="bold")
    line.append("  ")
    if finding.known:
        line.append(f"known: {_declared_as(finding)}", style="yellow")
    else:
        line.append("NEW: the version does not declare it", style="bold red")
    yield line
    total = sum(run.schedules for run in runs)
    seen = f"in {entry.count:,} of {total:,} executions" if total > 1 or entry.count > 1 else "in this execution"
    where = f", first in execution {finding.first_at_schedule}" if total > 1 else ""
    workloads = f" ({', '.join(entry.workloads)})" if len(runs) > 1 else ""
    yield Text(f"    seen {seen}{where}{workloads}")
    if told_of:
        yield Text(f"    the same mechanism as in {told_of}, above")
    else:
        yield from _story(finding, folder)
    yield Text(f"    mechanism:   {finding.mechanism} [{finding.fingerprint}]")
    if finding.journal:
        yield Text(f"    evidence:    {journal_path(finding, folder)}")
        yield Text(f"    look closer: {look_closer(finding, folder)}", no_wrap=True)
    if folder is not None and finding.schedule:
        path = shlex.quote(str(folder / finding.schedule))
        found = "  (found by a search: the same program, the same mechanism)" if runs[0].runtime == THREADS else ""
        yield Text(f"    replay:      {program()} replay {path}{found}", no_wrap=True)
    elif folder is not None and (folder / CONFIG_FILE).exists() and runs[0].command == "stress":
        yield from (Text(f"    {line}", no_wrap=True) for line in again(entry, runs[0], folder))


def _declared_as(finding: Finding) -> str:
    """What the version says of it: the title and the reference."""
    if not finding.title:
        return finding.reference or "declared by the version"
    return f"{finding.title} ({finding.reference})"


def _story(finding: Finding, folder: Path | None) -> Iterator[Text]:
    """What happened, one column a CPU; in the check's own words where there is no journal to take the columns from."""
    try:
        lines = columns_in(Path(journal_path(finding, folder)), finding.fingerprint) if finding.journal else []
    except ConfigError:
        lines = []
    if lines:
        yield from (Text(f"    {line}".rstrip(), no_wrap=True) for line in ["", *lines, ""])
    else:
        yield from story(finding.message)


def story(message: str) -> Iterator[Text]:
    """A message, line by line, set apart; the beginning of a very long one."""
    lines = message.rstrip().splitlines()
    for text in lines[:STORY_LINES_MAX]:
        yield Text(f"    | {text}")
    if len(lines) > STORY_LINES_MAX:
        yield Text(f"    | ... {len(lines) - STORY_LINES_MAX} more lines in result.json")


def journal_path(finding: Finding, folder: Path | None) -> str:
    """The finding's journal as a path that a command takes."""
    return str(folder / finding.journal) if folder is not None else finding.journal


def look_closer(finding: Finding, folder: Path | None) -> str:
    """The command that shows the events about the pages concerned."""
    pages = f" --range pages:{finding.pages[0]:#x}-{finding.pages[1]:#x}" if len(finding.pages) == 2 else ""
    return f"{program()} show {shlex.quote(journal_path(finding, folder))}{pages}"


def again(entry: _Merged, run: RunResult, folder: Path) -> Iterator[str]:
    """The command that shows it again: the same execution, or where the system chose the switches the recorded one."""
    config = shlex.quote(str(folder / CONFIG_FILE))
    version = shlex.quote(run.version_spec or run.version)
    which = f"--version {version} --workload {entry.workloads[0]} --execution {entry.first.first_at_schedule}"
    command = f"{program()} stress --config {config} {which}"
    if run.runtime == CONTROLLED:
        yield f"again:       {command}"
    else:
        if entry.first.journal:
            yield f"again:       {program()} check {shlex.quote(journal_path(entry.first, folder))}"
        yield f"its program: {command} --runtime controlled  (with other switches: it may not show)"


def program() -> str:
    """How this command can be typed again: by its name if the shell finds it, else by the path it was called by."""
    called = Path(sys.argv[0])
    is_by_path = called.name == "stressvmap" and called.is_file() and shutil.which("stressvmap") is None
    return shlex.quote(os.path.relpath(called)) if is_by_path else "stressvmap"


def _what_was_checked(runs: Sequence[RunResult]) -> Iterator[Text]:
    debts = sum(int(run.metrics.get("obligations_checked", 0)) for run in runs)
    parts = [
        counted(sum(run.schedules for run in runs), "execution"),
        counted(sum(run.operations for run in runs), "operation"),
        counted(sum(run.flushes for run in runs), "flush", "flushes"),
        f"{counted(debts, 'page debt')} at the return of vm_unmap_aliases" if debts else "",
        f"{sum(run.seconds for run in runs):.1f} s",
    ]
    yield Text(f"  checked: {', '.join(part for part in parts if part)}")
    if len(runs) == 1 and runs[0].coverage:
        yield Text(f"  covered: {_covered(runs[0].coverage)}")
    repeated = sum(run.repeated for run in runs)
    if repeated and not any(run.inconclusive for run in runs):
        yield Text(f"  {counted(repeated, 'schedule')} run twice: the same journal each time")
    flagged, judged = sum(run.flagged for run in runs), sum(run.judged for run in runs)
    if any(run.flagged or run.judged < run.schedules for run in runs):
        yield Text(f"  screened: {flagged:,} flagged; the checks looked at {counted(judged, 'execution')}")
    for text, count in sorted(pair for run in runs for pair in run.allowed_races.items()):
        yield Text(f"  allowed: the race of {text}, in {counted(count, 'execution')}")
    windows: dict[str, list[int]] = {}
    for run in runs:
        for name, (opened, entered) in run.windows.items():
            total = windows.setdefault(name, [0, 0])
            total[0] += opened
            total[1] += entered
    if windows:
        told = [f"{name} {entered:,} of {opened:,}" for name, (opened, entered) in windows.items()]
        yield Text(f"  another task stepped into: {'; '.join(told)}")


def _covered(coverage: Mapping[str, Any]) -> str:
    """What of the space of executions was seen, and how much of it probably was not."""
    about = "" if coverage["sampled_one_in"] == 1 else "about "
    low, high = coverage["unseen_low"], coverage["unseen_high"]
    pairs = f"{counted(coverage['distinct_pairs'], 'pair')} of points met on one object"
    if coverage.get("last_new_pair_at", -1) >= 0:
        pairs += (
            f", the last new one in execution {coverage['last_new_pair_at']} "
            f"({coverage['new_pairs_expected']:.2g} new to be expected of the next)"
        )
    if coverage["unseen_estimate"] > REPEATS_MIN:
        return f"{pairs}; hardly two executions were alike by happens-before, so nothing can be said of those not seen"
    return (
        f"{about}{counted(coverage['distinct_journals'], 'journal')} distinct by happens-before; the next execution "
        f"shows another with probability {coverage['unseen_estimate']:.3f} ({low:.3f} to {high:.3f}; Good-Turing, no "
        f"proof); {pairs}"
    )


def _not_run(runs: Sequence[RunResult]) -> Iterator[Text]:
    reasons: dict[str, str] = {}
    for run in runs:
        reasons.update(run.not_run)
    for name, reason in reasons.items():
        yield Text(f"not run: {name}: {reason}", style="dim")


def _not_seen(runs: Sequence[RunResult]) -> Iterator[Text]:
    """What the version is known to break and did not here: a run that misses that is no proof of anything else."""
    seen = {finding.fingerprint for run in runs for finding in run.findings}
    declared = runs[0].declared
    titles = dict.fromkeys(entry["title"] for entry in declared if entry["fingerprint"] not in seen)
    if titles:
        count = sum(entry["fingerprint"] not in seen for entry in declared)
        yield Text(f"  known of this version but not seen here: {count} of {len(declared)} declared, among them")
        yield Text(f"    {next(iter(titles))}  (`stressvmap versions` lists them)")


def _reservations(run: RunResult, *, with_workload: bool) -> Iterator[Text]:
    where = f"{run.scenario.get('workload', '')}: " if with_workload else ""
    for reason in run.inconclusive:
        yield Text(f"  inconclusive: {where}{_first_line(reason)}", style="yellow")
    if run.harness_error:
        yield Text(f"  THE HARNESS FAILED: {where}{_first_line(run.harness_error)}", style="bold red")


def _first_line(text: str) -> str:
    lines = text.splitlines() or [""]
    return lines[0] + (" ... (the rest is in result.json)" if len(lines) > 1 else "")


def _conclusion(summary: Summary) -> Iterator[Text]:
    unmet = [reason for run in summary.runs for reason in run.expect_unmet] + summary.expect_unmet
    for reason in dict.fromkeys(unmet):
        yield Text(f"not as expected: {reason}", style="bold red")
    expects = [run.expect for run in summary.runs if run.expect is not None]
    if expects and not unmet and summary.exit_status == 0:
        what = "the declared breakage, and nothing else" if expects[0] == "known" else ", ".join(expects[0])
        yield Text(f"as expected: {what or 'nothing'} fired", style="green")
    status = summary.exit_status
    reasons = {
        0: "as it should be" if expects else "nothing violated",
        1: "not as expected" if expects else "violated",
        3: "the harness failed: a bug of ours",
        4: "inconclusive",
        130: "stopped early; what ran is checked",
    }
    yield Text(f"exit status {status}: {reasons.get(status, '')}")
