# SPDX-License-Identifier: GPL-2.0-only
"""What an exploration ends with: what was explored and violated, what was covered, and whether that is everything."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.text import Text

from stressvmap.program import WHOLE, Program
from stressvmap.quantity import counted
from stressvmap.report.verdict import program as command_name
from stressvmap.report.verdict import story
from stressvmap.result import CLEAN, VIOLATED, Finding, RunResult

COMPLETE = "complete within these bounds"


def render_explored(
    result: RunResult, program: Program, schedules: Mapping[str, Path], preemptions: int | None
) -> Iterator[Text]:
    """The lines. `schedules`: by fingerprint, the file that replays a finding."""
    yield _headline(result)
    yield Text(f"  program:  {program_text(program)}")
    yield Text(f"  machine:  {_machine(result)}")
    yield Text(f"  method:   {_method(preemptions, is_caching=_is_caching(result))}")
    for finding in sorted(result.findings, key=lambda found: (found.known, found.check, found.fingerprint)):
        yield Text()
        yield from _finding(finding, result, schedules.get(finding.fingerprint))
    if result.findings:
        yield Text()
    for name, reason in result.not_run.items():
        yield Text(f"  not run: {name}: {reason}", style="dim")
    yield Text(f"  covered:  {covered(result)}")
    yield from _conclusion(result, preemptions)


def program_text(program: Program) -> str:
    """A program as `--ops` takes it, each task with its CPU."""
    return " | ".join(
        f"cpu{task.cpu}: " + "; ".join(_op_text(op.kind, op.slot, op.pages) for op in task.ops)
        for task in program.tasks
    )


def covered(result: RunResult) -> str:
    """Executions and classes, in words."""
    told = {name: int(value) for name, value in result.coverage.items()}
    complete, cut = told["complete_executions"], told["cut_executions"]
    by_bound = [f"{told[name]:,} with {name.split('_')[1]}" for name in told if name.startswith("preemptions_")]
    seconds = f"{result.seconds:.1f} s"
    deadlocks = counted(told["deadlocks"], "deadlock")
    if "states" in told:
        ends = f" ({', '.join(by_bound)} preemptions)" if by_bound else ""
        return (
            f"{counted(told['states'], 'state')}, gone on with once each; {counted(complete, 'execution')} run to "
            f"their end{ends}, {cut:,} cut where they came to a state that was known; "
            f"{counted(told['classes'], 'Mazurkiewicz trace')}, one execution of each screened, "
            f"{told['judged']:,} of these judged; {deadlocks}, {seconds}"
        )
    if by_bound:
        return (
            f"{counted(complete, 'schedule')} run to their end ({', '.join(by_bound)} preemptions), "
            f"{counted(told['classes'], 'Mazurkiewicz trace')}, {deadlocks}, {seconds}"
        )
    return (
        f"{counted(complete, 'execution')} run to their end, each another Mazurkiewicz trace; {cut:,} cut, leading to "
        f"none; {deadlocks}, {seconds}"
    )


def _op_text(kind: str, slot: int, pages: int) -> str:
    numbers = [slot, pages] if pages else [slot] if slot or kind not in WHOLE else []
    return " ".join([kind, *map(str, numbers)])


def _headline(result: RunResult) -> Text:
    styles = {VIOLATED: "bold red", CLEAN: "bold green"}
    line = Text()
    line.append(f"{result.version}, explored: ", style="bold")
    line.append(result.verdict.upper(), style=styles.get(result.verdict, "bold yellow"))
    if result.findings:
        new = sum(not finding.known for finding in result.findings)
        line.append(f", {len(result.findings)} distinct ({len(result.findings) - new} known, {new} new)")
    return line


def _machine(result: RunResult) -> str:
    scenario = result.scenario
    return (
        f"{counted(scenario['cpus'], 'CPU')}, blocks of {counted(scenario['block_bits'], 'page')} that serve up to "
        f"{scenario['max_alloc']}, window of {counted(scenario['window_blocks'], 'block')}"
    )


def _is_caching(result: RunResult) -> bool:
    return "states" in result.coverage


def _method(preemptions: int | None, *, is_caching: bool) -> str:
    if is_caching:
        bound = (
            "no bound" if preemptions is None else f"every schedule with at most {counted(preemptions, 'preemption')}"
        )
        return f"depth-first with happens-before caching, {bound}: one execution of each Mazurkiewicz trace judged"
    if preemptions is None:
        return "source-DPOR with sleep sets, no bound: one execution of each Mazurkiewicz trace"
    return f"depth-first, every schedule with at most {counted(preemptions, 'preemption')}"


def _finding(finding: Finding, result: RunResult, schedule: Path | None) -> Iterator[Text]:
    line = Text("  ")
    line.append(finding.check, style="bold")
    line.append("  ")
    if finding.known:
        line.append(f"known: {finding.title or finding.reference}", style="yellow")
    else:
        line.append("NEW: the version does not declare it", style="bold red")
    yield line
    if _is_caching(result):
        classes = int(result.coverage["classes"])
        yield Text(f"    seen in {finding.count:,} of {counted(classes, 'Mazurkiewicz trace')}")
    else:
        complete = int(result.coverage["complete_executions"])
        yield Text(f"    seen in {finding.count:,} of {counted(complete, 'complete execution')}")
    yield from story(finding.message)
    yield Text(f"    mechanism:   {finding.mechanism} [{finding.fingerprint}]")
    if schedule is not None:
        yield Text(f"    replay:      {command_name()} replay {shlex.quote(str(schedule))}", no_wrap=True)


def _conclusion(result: RunResult, preemptions: int | None) -> Iterator[Text]:
    if result.coverage["is_complete"]:
        what = "every order of its dependent steps" if preemptions is None else "every such schedule"
        yield Text(f"  {COMPLETE}: {what}; of this program on this machine, and of no other", style="bold")
    elif result.is_stopped:
        yield Text("  not complete: it was stopped; the same command with the same --state goes on", style="yellow")
    for reason in result.inconclusive:
        what = "inconclusive" if result.coverage["is_complete"] else "not complete"
        yield Text(f"  {what}: {reason}", style="yellow")
    reasons = {0: "nothing violated", 1: "violated", 4: "inconclusive", 130: "stopped early; what ran is checked"}
    yield Text(f"exit status {result.exit_status}: {reasons.get(result.exit_status, '')}")
