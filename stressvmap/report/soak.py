# SPDX-License-Identifier: GPL-2.0-only
"""The report of a soak: how much ran, whether it can see (canaries), and each distinct finding once, with its count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from stressvmap.quantity import counted
from stressvmap.report.verdict import story


def render(data: Mapping[str, Any], folder: Path) -> Iterator[Text]:
    """The lines of the report of a soak's result object."""
    line = Text("soak: ", style="bold")
    new = [finding for finding in data["findings"] if not finding["known"]]
    line.append(f"{len(new)} new", style="bold red" if new else "bold green")
    line.append(f", {len(data['findings']) - len(new)} known distinct findings in {counted(data['rounds'], 'round')}")
    yield line
    yield Text(
        f"  checked: {counted(data['schedules'], 'execution')}, {counted(data['operations'], 'operation')}, "
        f"{_duration(data['seconds'])}"
    )
    yield _sight(data)
    for finding in [*new, *(finding for finding in data["findings"] if finding["known"])]:
        yield Text()
        yield from _finding(finding, folder)
    yield Text()
    for reason in data["missing"]:
        yield Text(f"not as expected: {reason}", style="bold red")
    for reason in data["inconclusive"]:
        yield Text(f"inconclusive: {reason.splitlines()[0]}", style="yellow")
    for reason in data["harness_errors"]:
        yield Text(f"THE HARNESS FAILED: {reason.splitlines()[0]}", style="bold red")
    yield Text(f"exit status {data['exit_status']}; every round stands in {folder / 'rounds.jsonl'}")


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds:.0f} s"


def _sight(data: Mapping[str, Any]) -> Text:
    """Whether the planted bugs were seen."""
    planted, caught = data["canaries"], data["canaries_caught"]
    if data["blind"]:
        why = f"{planted - caught} of {planted} planted bugs were missed" if planted else "no bug was planted yet"
        return Text(f"  BLIND: {why}; what it did not find says nothing", style="bold red")
    return Text(f"  planted bugs: {caught} of {planted} caught")


def _finding(finding: Mapping[str, Any], folder: Path) -> Iterator[Text]:
    line = Text("  ")
    line.append(f"{finding['version']}: {finding['check']}", style="bold")
    if finding["known"]:
        line.append(f"  known: {finding['reference'] or 'declared by the version'}", style="yellow")
    else:
        line.append("  NEW: the version does not declare it", style="bold red")
    yield line
    yield Text(
        f"    seen in rounds: {finding['rounds']:,}, executions: {finding['count']:,},"
        f" first in round {finding['first_round']}"
    )
    if not finding["known"]:
        yield from story(finding["message"])
    yield Text(f"    mechanism:   {finding['mechanism']} [{finding['fingerprint']}]")
    if finding["journal"]:
        yield Text(f"    look closer: stressvmap show {folder / finding['journal']}", no_wrap=True)
