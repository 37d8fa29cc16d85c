# SPDX-License-Identifier: GPL-2.0-only
"""`stressvmap shrink`: the shortest schedule and workload that still show a violation."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from loguru import logger
from rich.text import Text

from stressvmap.cli.interrupt import Interrupt
from stressvmap.cli.options import Json, Quiet, Verbose
from stressvmap.cli.output import complain, print_lines, print_object, start_log
from stressvmap.cli.replay import StallSeconds
from stressvmap.cli.trees import prepare
from stressvmap.errors import STOPPED_STATUS, ConfigError
from stressvmap.quantity import counted
from stressvmap.result import INCONCLUSIVE, SCHEMA, VIOLATED
from stressvmap.stress.schedule_file import read_schedule, write_schedule
from stressvmap.stress.shrink import Shown, Shrinker, Shrunk, Size
from stressvmap.stress.watchdog import Watchdog
from stressvmap.version import __version__

COMMAND: Final = "shrink"
SUFFIX: Final = ".min.json"
LOST_STATUS: Final = 1
"""The violation did not recur, so there was nothing to keep."""
STALLED_STATUS: Final = 4
PROGRESS_SECONDS: Final = 1.0


def shrink(
    schedule: Annotated[Path, typer.Argument(metavar="SCHEDULE", help="A schedule file (.json) with a violation.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to (default: SCHEDULE with .min.json).")
    ] = None,
    seconds: Annotated[float | None, typer.Option(metavar="X", help="End after so long with the best so far.")] = None,
    tries: Annotated[int | None, typer.Option(metavar="N", help="End after so many candidates.")] = None,
    stall_seconds: StallSeconds = 30.0,
    json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> int:
    """Find the shortest program and schedule that still show the violation of a schedule file.

    The file written is replaced whole at each improvement: Ctrl-C keeps the best so far. Exit status: 0 smaller, or
    smallest already; 1 the violation does not recur; 2 bad input; 4 the version hangs; 130 stopped.

    \b
    Example
        stressvmap shrink logs/<run>/schedules/<id>.json
    """
    start_log(verbose, is_quiet=quiet)
    for name, value in (("--seconds", seconds), ("--tries", tries), ("--stall-seconds", stall_seconds)):
        if value is not None and not 0 < value < 1e12:
            raise ConfigError(f"{name} {value:g}: must be above 0 (and below 10^12)")
    saved = read_schedule(schedule)
    target = output or schedule.with_name(schedule.name.removesuffix(".json") + SUFFIX)
    if target.exists() and target.samefile(schedule):
        raise ConfigError(f"--output {target}: is the file to shrink, which is not to be lost")
    prepare([(saved.version, saved.scenario)], is_quiet=quiet)
    progress = _Progress(target, is_quiet=quiet)

    def give_up(where: str) -> None:
        complain(f"{where}; the best so far is in {target}" if progress.is_written else where)
        os._exit(STALLED_STATUS)

    with Interrupt(ends_at_once=True) as interrupt:
        shrinker = Shrinker(
            saved, seconds=seconds, tries=tries, stop=interrupt, on_better=progress.better, on_try=progress.tried
        )
        with Watchdog(shrinker.executor, stall_seconds, give_up):
            result = shrinker.run()
    status = _status(result)
    logger.info("{} candidates tried", result.tries)
    if json:
        print_object(_object(result, schedule, target, status))
    else:
        print_lines(Text(line) for line in _lines(result, schedule, target))
    return status


class _Progress:
    """Writes the best to its file, and tells standard error about it now and then."""

    def __init__(self, target: Path, *, is_quiet: bool) -> None:
        self.is_written = False
        self._target = target
        self._is_quiet = is_quiet
        self._told = 0.0

    def better(self, shown: Shown) -> None:
        write_schedule(shown.saved, self._target)
        self.is_written = True

    def tried(self, result: Shrunk) -> None:
        now = time.monotonic()
        if self._is_quiet or result.best is None or now - self._told < PROGRESS_SECONDS:
            return
        self._told = now
        print(
            f"shrinking: {result.best.size} ({counted(result.tries, 'candidate')} tried)", file=sys.stderr, flush=True
        )


def _status(result: Shrunk) -> int:
    if result.is_stopped:
        return STOPPED_STATUS
    return 0 if result.best is not None else LOST_STATUS


def _lines(result: Shrunk, path: Path, target: Path) -> Iterator[str]:
    best, before = result.best, result.before
    if best is None or before is None:
        is_cut = result.is_stopped or result.is_over_budget
        what = "ended before the violation recurred" if is_cut else "the violation does not recur: nothing to shrink"
        yield f"{path}: {what} ({counted(result.tries, 'candidate')} tried)"
        return
    yield f"{path}: {best.saved.version}, {best.saved.check} {best.saved.fingerprint}"
    yield f"  before  {before}"
    if result.is_smaller:
        yield f"  now     {best.size}: {target}"
    else:
        yield f"  now     nothing smaller was found: {target}"
    if result.is_stopped or result.is_over_budget:
        yield f"  {'stopped' if result.is_stopped else 'budget used up'}: it may not be the smallest"
    for number, task in enumerate(best.saved.program.tasks, 1):
        told = ", ".join(f"{op.kind} {op.slot}{f':{op.pages}' if op.pages else ''}" for op in task.ops)
        yield f"  task {number} on CPU {task.cpu}: {told}"
    for fault in best.saved.program.faults:
        yield f"  task {fault.task}: its {fault.kind} number {fault.nth} fails"
    yield "  at the end what is still mapped is unmapped, and vm_unmap_aliases is called, as after every program"
    yield f"  replay it with: stressvmap replay {target} --story"


def _object(result: Shrunk, path: Path, target: Path, status: int) -> dict[str, Any]:
    best = result.best
    return {
        "schema": SCHEMA,
        "command": COMMAND,
        "verdict": INCONCLUSIVE if best is None else VIOLATED,
        "exit_status": status,
        "schedule": str(path),
        "output": None if best is None else str(target),
        "version": "" if best is None else best.saved.version,
        "check": "" if best is None else best.saved.check,
        "fingerprint": "" if best is None else best.saved.fingerprint,
        "before": _size(result.before),
        "after": _size(None if best is None else best.size),
        "is_smaller": result.is_smaller,
        "tries": result.tries,
        "stopped": result.is_stopped,
        "budget_used_up": result.is_over_budget,
        "package": __version__,
    }


def _size(size: Size | None) -> dict[str, int] | None:
    if size is None:
        return None
    return {"tasks": size.tasks, "operations": size.operations, "preemptions": size.preemptions}
