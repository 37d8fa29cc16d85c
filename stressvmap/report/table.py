# SPDX-License-Identifier: GPL-2.0-only
"""Versions side by side: which checks fired, what the flushes cost. A column a version, at most 80 characters wide."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from rich.text import Text

from stressvmap.result import RunResult

LABEL_WIDTH: Final = 41
COLUMN_WIDTH: Final = 13
VERSIONS_A_ROW: Final = (80 - LABEL_WIDTH) // COLUMN_WIDTH

COSTS: Final = {
    "flush_calls": "flush calls",
    "flushed_pages": "pages flushed",
    "owed_pages": "pages owed",
    "excess_pages": "excess pages (flushed, not owed)",
    "reflushed_pages": "pages flushed again",
    "double_counted_blocks": "double-counted blocks",
}
"""Metrics of the table, with their labels."""


TEARDOWN: Final = "seccomp-teardown"
"""Its excess would drown that of all the others: shown by itself."""


def by_version(runs: Sequence[RunResult]) -> dict[str, list[RunResult]]:
    """The runs of each version, in their order."""
    groups: dict[str, list[RunResult]] = {}
    for run in runs:
        groups.setdefault(run.version, []).append(run)
    return groups


def table(runs: Sequence[RunResult]) -> Iterator[Text]:
    """The lines of the table; more versions than fit go below each other."""
    groups = by_version(runs)
    names = list(groups)
    for first in range(0, len(names), VERSIONS_A_ROW):
        if first:
            yield Text()
        yield from _block({name: groups[name] for name in names[first : first + VERSIONS_A_ROW]})


def _block(groups: dict[str, list[RunResult]]) -> Iterator[Text]:
    columns = list(groups.values())
    yield _line("executions with a violation of", [Text(_short(name)) for name in groups], "bold")
    kinds = sorted(
        {(finding.check, finding.fingerprint) for runs in columns for run in runs for finding in run.findings}
    )
    for check, fingerprint in kinds:
        yield _line(f"  {check} {fingerprint}", [_count(runs, fingerprint) for runs in columns])
    if not kinds:
        yield _line("  any check", [Text("none") for _ in columns])
    teardown = [[run for run in runs if run.scenario.get("workload") == TEARDOWN] for runs in columns]
    others = [[run for run in runs if run.scenario.get("workload") != TEARDOWN] for runs in columns]
    is_split = all(teardown) and all(others)
    which = f"all workloads but {TEARDOWN}" if is_split else "all workloads together"
    yield _line(f"costs, {which}", [Text() for _ in columns], "bold")
    for metric, label in COSTS.items():
        yield _line(f"  {label}", [_sum(runs, metric) for runs in (others if is_split else columns)])
    if is_split:
        yield _line(f"costs, {TEARDOWN}: a vfree may flush from the direct map to the window", [], "bold")
        yield _line("  excess pages", [_sum(runs, "excess_pages") for runs in teardown])
    yield _line("how much", [Text() for _ in columns], "bold")
    counts: dict[str, Callable[[RunResult], int]] = {
        "executions": lambda run: run.schedules,
        "operations": lambda run: run.operations,
    }
    for label, of in counts.items():
        yield _line(f"  {label}", [Text(_fit(sum(map(of, runs)), COLUMN_WIDTH - 1)) for runs in columns])


def _line(label: str, cells: Sequence[Text], style: str = "") -> Text:
    line = Text(f"{label:<{LABEL_WIDTH}}"[: max(LABEL_WIDTH, len(label))], style=style)
    for cell in cells:
        line.append(" " * max(1, COLUMN_WIDTH - len(cell)))
        line.append_text(cell)
    return line


def _short(name: str) -> str:
    return name if len(name) < COLUMN_WIDTH else "…" + name[-(COLUMN_WIDTH - 2) :]


def _count(runs: Sequence[RunResult], fingerprint: str) -> Text:
    findings = [finding for run in runs for finding in run.findings if finding.fingerprint == fingerprint]
    if not findings:
        return Text("-", style="dim")
    count = sum(finding.count for finding in findings)
    if all(finding.known for finding in findings):
        return Text(f"{_fit(count, 6)} known", style="yellow")
    return Text(f"{_fit(count, 6)} NEW", style="bold red")


def _fit(count: int, width: int) -> str:
    """The number in at most `width` characters, in thousands or millions if it must be."""
    texts = [f"{count:,}", f"{count / 1e3:,.0f}k", f"{count / 1e6:,.0f}M"]
    return next((text for text in texts if len(text) <= width), texts[-1])


def _sum(runs: Sequence[RunResult], metric: str) -> Text:
    values = [run.metrics[metric] for run in runs if metric in run.metrics]
    return Text(_fit(round(sum(values)), COLUMN_WIDTH - 1)) if values else Text("not measured", style="dim")
