# SPDX-License-Identifier: GPL-2.0-only
"""`stressvmap replay`: run exactly that schedule again."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from loguru import logger
from rich.text import Text

from stressvmap.cli import run_folder
from stressvmap.cli.options import Json, Out, Quiet, Verbose
from stressvmap.cli.output import complain, log_to, print_lines, print_object, start_log
from stressvmap.cli.trees import prepare
from stressvmap.errors import ConfigError
from stressvmap.journal.store import write
from stressvmap.quantity import counted
from stressvmap.report.columns import columns
from stressvmap.report.saved import RESULT_FILE, to_json, write_atomically
from stressvmap.result import CLEAN, INCONCLUSIVE, SCHEMA, VIOLATED
from stressvmap.runtime.strategy import Strategy
from stressvmap.sched.follow import FollowStrategy
from stressvmap.sched.portfolio import make_strategy
from stressvmap.stress import subject
from stressvmap.stress.execution import Executor
from stressvmap.stress.replay import DIVERGED, DOES_NOT_RECUR, RECURS, Replayed
from stressvmap.stress.replay import replay as replay_saved
from stressvmap.stress.schedule_file import SavedSchedule, read_schedule, write_schedule
from stressvmap.stress.watchdog import Watchdog
from stressvmap.version import __version__

COMMAND: Final = "replay"
JOURNAL_FILE: Final = "replay.svj"
SCHEDULE_FILE: Final = "replay.json"
StallSeconds = Annotated[
    float, typer.Option(metavar="X", help="Give up (4) if the version makes no step for so long: it loops.")
]
_THEN: Final = "so that only blocked tasks are switched away from"
_VERDICTS: Final = {RECURS: VIOLATED, DOES_NOT_RECUR: CLEAN, DIVERGED: INCONCLUSIVE}


def replay(
    schedule: Annotated[Path, typer.Argument(metavar="SCHEDULE", help="A schedule file (.json) from a run's folder.")],
    version: Annotated[
        str | None,
        typer.Option("--version", metavar="V", help="Run this version instead: does the schedule still break it?"),
    ] = None,
    prefix: Annotated[
        bool, typer.Option("--prefix", help="Where the schedule ceases to fit, go on instead of giving up.")
    ] = False,
    strategy: Annotated[
        str | None,
        typer.Option("--strategy", metavar="S", help="What --prefix goes on with (default: switch only when blocked)."),
    ] = None,
    story: Annotated[bool, typer.Option("--story", help="Tell the violation's story, too: one column a CPU.")] = False,
    stall_seconds: StallSeconds = 30.0,
    out: Out = None,
    json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> int:
    """Run exactly that schedule again; say whether its violation recurs and whether the journal is the same.

    Exit status: 1 it recurs, 0 it does not, 4 the schedule does not fit (the first step that differs is named), 2 bad
    input. Writes nothing unless --out says where.

    \b
    Example
        stressvmap replay logs/<run>/schedules/<id>.json --story
    Example: does my patch cure it? A first look; where the schedule ceases to fit, it says what tells more
        stressvmap replay logs/<run>/schedules/<id>.json --version ./my_patch.py:MyPatch --prefix
    """
    start_log(verbose, is_quiet=quiet)
    if strategy is not None and not prefix:
        raise ConfigError(f"--strategy {strategy}: is what --prefix goes on with; without it nothing is chosen")
    if not 0 < stall_seconds < 1e9:
        raise ConfigError(f"--stall-seconds {stall_seconds:g}: must be above 0")
    saved = read_schedule(schedule)
    then: Strategy | None = None
    if prefix:
        then = FollowStrategy() if strategy is None else make_strategy(strategy, saved.seed)
    other = subject.absolute(version, Path.cwd()) if version else ""
    prepare([(other or saved.version, saved.scenario)], is_quiet=quiet)
    told = _run(saved, other, then, stall_seconds, json)
    data = _object(told, schedule)
    if out is not None:
        _keep(told, run_folder.create(COMMAND, out), data)
    if json:
        print_object(data)
    else:
        print_lines(Text(line) for line in _lines(told, schedule, story))
    return told.exit_status


def _run(saved: SavedSchedule, version: str, then: Strategy | None, stall_seconds: float, is_json: bool) -> Replayed:
    executor = Executor(subject.load(version or saved.version), saved.scenario)

    def give_up(where: str) -> None:
        complain(where)
        if is_json:
            told = {"schema": SCHEMA, "command": COMMAND, "verdict": INCONCLUSIVE, "exit_status": DIVERGED}
            print_object({**told, "inconclusive": [where]})
        os._exit(DIVERGED)

    with Watchdog(executor, stall_seconds, give_up):
        told = replay_saved(saved, executor, version=version, then=then)
    executor.close()
    logger.info("{} points, {} operations, ended: {}", told.points, told.operations, told.reason)
    return told


def _keep(told: Replayed, folder: Path, data: dict[str, Any]) -> None:
    """The journal, the schedule as it was this time, and the result."""
    log_to(folder)
    if told.journal is not None:
        write(told.journal, folder / JOURNAL_FILE)
        write_schedule(_as_it_was(told), folder / SCHEDULE_FILE)
    write_atomically(folder / RESULT_FILE, to_json(data) + "\n")


def _as_it_was(told: Replayed) -> SavedSchedule:
    saved, violation = told.saved, told.violation
    return SavedSchedule(
        version=told.version,
        version_digest=told.version_digest,
        scenario=saved.scenario,
        program=saved.program,
        schedule=told.schedule,
        journal_digest=told.journal_digest,
        reason=told.reason,
        check="" if violation is None else violation.check,
        fingerprint="" if violation is None else violation.fingerprint,
        mechanism="" if violation is None else violation.mechanism.text(),
        message="" if violation is None else violation.message,
        seed=saved.seed,
        execution=saved.execution,
        strategy=saved.strategy,
    )


def _object(told: Replayed, path: Path) -> dict[str, Any]:
    saved, status = told.saved, told.exit_status
    return {
        "schema": SCHEMA,
        "command": COMMAND,
        "verdict": _VERDICTS[status],
        "exit_status": status,
        "inconclusive": [str(told.mismatch)] if told.mismatch is not None and status == DIVERGED else [],
        "schedule": str(path),
        "recurs": told.violation is not None,
        "same_journal": told.is_same_journal,
        "same_source": told.is_same_source,
        "diverged": None if told.mismatch is None else {"step": told.mismatch.step, "message": str(told.mismatch)},
        "followed": None if told.followed is None else asdict(told.followed),
        "version": told.version,
        "version_digest": told.version_digest,
        "check": saved.check,
        "fingerprint": saved.fingerprint,
        "reason": told.reason,
        "points": told.points,
        "operations": told.operations,
        "journal_digest": told.journal_digest,
        "violations": [
            {
                "check": violation.check,
                "fingerprint": violation.fingerprint,
                "mechanism": violation.mechanism.text(),
                "message": violation.message,
                "at": violation.at,
                "pages": [] if violation.pages is None else [violation.pages.start, violation.pages.end],
            }
            for violation in told.violations
        ],
        "package": __version__,
    }


def _explore_command(told: Replayed, path: Path) -> str:
    """What runs every schedule of the same program."""
    words = ["stressvmap", "explore", "--program", str(path), "--version", told.version, "--preemptions", "2"]
    return f"{shlex.join(words)}   (every such schedule of its program; shrink the file first if that is many)"


def _lines(told: Replayed, path: Path, wants_story: bool) -> Iterator[str]:
    saved, violation = told.saved, told.violation
    kept_for = f"{saved.check} {saved.fingerprint}" if saved.fingerprint else "kept for no violation"
    yield f"{path}: {told.version}, {saved.scenario.workload}, {kept_for}"
    if told.version != saved.version:
        yield f"  version    another than it was found on ({saved.version})"
    elif not told.is_same_source:
        digests = f"{saved.version_digest or 'not known'}; now {told.version_digest}"
        yield f"  source     not what it was when this was saved ({digests}): tried all the same"
    if told.mismatch is not None:
        yield f"  schedule   {told.mismatch}"
    if told.journal is None:
        yield "  verdict    diverged: nothing is said about the violation (--prefix goes on from there)"
        return
    followed = told.followed
    if followed is not None:
        yield (
            f"  followed   for {followed.steps} of the {counted(told.points, 'step')} of this run, in which "
            f"{followed.operations} of {followed.operations_in_all} operations had begun; "
            f"the rest was decided {_THEN if followed.then == FollowStrategy().label else f'by {followed.then}'}"
        )
    if violation is not None:
        yield f"  violation  {'recurs' if saved.fingerprint else 'there is one'}: {violation.mechanism.text()}"
    elif followed is not None and saved.fingerprint:
        yield "  violation  did not come up in this one run: no sign that it cannot"
        yield f"  look on    {_explore_command(told, path)}"
    else:
        yield f"  violation  {'does not recur' if saved.fingerprint else 'there is none'}"
    for other in told.violations:
        if other is not violation:
            yield f"  besides    {other.mechanism.text()} ({other.fingerprint})"
    journal = {True: "the same", False: "another", None: "not known what it was"}[told.is_same_journal]
    steps = counted(told.points, "step")
    yield f"  journal    {journal} (sha256 {told.journal_digest[:12]}), {steps}, ended: {told.reason}"
    if wants_story and violation is not None:
        yield ""
        yield from columns(told.journal, violation)
