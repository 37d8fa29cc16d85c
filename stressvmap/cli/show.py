# SPDX-License-Identifier: GPL-2.0-only
"""`stressvmap show`: the events of a journal, filtered, or a timeline file for other viewers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from stressvmap.cli.options import Json, Quiet, Verbose
from stressvmap.cli.output import complain, print_object, print_raw, start_log
from stressvmap.errors import ConfigError
from stressvmap.journal.events import KIND_NAMES, Event
from stressvmap.journal.journal import Journal
from stressvmap.journal.place import name_of, places
from stressvmap.journal.sanity import checked
from stressvmap.journal.store import read
from stressvmap.quantity import counted
from stressvmap.report.filters import parse_kinds, parse_range, parse_tasks, select
from stressvmap.report.saved import to_json, write_atomically
from stressvmap.report.timeline import describe, object_classes, to_ftrace, to_perfetto
from stressvmap.result import SCHEMA

COMMAND = "show"
CUT_STATUS = 4
_SUFFIXES = {"perfetto": ".perfetto.json", "ftrace": ".ftrace.txt"}


def show(
    journal: Annotated[Path, typer.Argument(metavar="JOURNAL", help="A journal (.svj) from a run's folder.")],
    cpu: Annotated[list[int] | None, typer.Option(metavar="N", help="Only events of this CPU (repeatable).")] = None,
    task: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only events of this task, by name or id (repeatable).")
    ] = None,
    range: Annotated[
        str | None,
        typer.Option(metavar="START-END", help="Only events about these pages: pages:0x100000-0x100004, or addresses."),
    ] = None,
    event: Annotated[
        list[str] | None, typer.Option(metavar="KIND", help="Only events of this kind, such as pte_clear (repeatable).")
    ] = None,
    trace: Annotated[
        str | None, typer.Option(metavar="perfetto|ftrace", help="Write a timeline file of the whole journal instead.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the timeline goes (default: beside the journal).")
    ] = None,
    json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> int:
    """Show what a journal tells, one line an event, in the one order in which it happened.

    \b
    Example: who touched these pages, and which flushes covered them
        stressvmap show run.svj --range pages:0x100000-0x100004
    Example: a timeline for ui.perfetto.dev
        stressvmap show run.svj --trace perfetto
    """
    start_log(verbose, is_quiet=quiet)
    if trace is not None and trace not in _SUFFIXES:
        raise ConfigError(f"--trace {trace}: is not one of {', '.join(_SUFFIXES)}")
    if trace is not None and (cpu or task or range or event):
        raise ConfigError("--trace writes the whole journal: leave --cpu, --task, --range and --event out")
    if out is not None and trace is None:
        raise ConfigError("--out is where --trace writes to: say which, --trace perfetto or --trace ftrace")
    recorded = checked(read(journal), str(journal))
    if trace is not None:
        target = _write_timeline(recorded, trace, out or journal.with_name(journal.name + _SUFFIXES[trace]))
        if json:
            print_object(_object(recorded) | {"trace": trace, "file": str(target)})
        else:
            print_raw([f"written: {target}"])
        return _status(recorded)
    page_range = parse_range(range) if range is not None else None
    chosen = select(recorded, cpu or (), parse_tasks(task or (), recorded), page_range, parse_kinds(event or ()))
    if json:
        print_object(_object(recorded) | {"events": [_as_object(number, entry) for number, entry in chosen]})
    else:
        print_raw(_lines(recorded, chosen))
    return _status(recorded)


def _lines(journal: Journal, chosen: Iterator[tuple[int, Event]]) -> Iterator[str]:
    classes = object_classes(journal)
    header = journal.header
    yield (
        f"# {header.get('version', 'unknown version')}, execution {header.get('execution', '?')}, seed"
        f" {header.get('seed', '?')}: {counted(len(journal.events), 'event')}"
    )
    shown = 0
    for number, entry in chosen:
        shown += 1
        yield describe(entry, number, journal, classes)
    if shown < len(journal.events):
        yield f"# {shown} of {counted(len(journal.events), 'event')} shown"


def _write_timeline(journal: Journal, trace: str, target: Path) -> Path:
    text = to_json(to_perfetto(journal)) if trace == "perfetto" else "\n".join(to_ftrace(journal)) + "\n"
    if not target.parent.is_dir() or target.is_dir():
        raise ConfigError(
            f"--out {target}: cannot be written there: {'a folder' if target.is_dir() else 'no such folder'}"
        )
    write_atomically(target, text)
    return target


def _as_object(number: int, event: Event) -> dict[str, Any]:
    kind, task, cpu, function, a, b, c = event
    name = KIND_NAMES.get(kind, str(kind))
    told = {"number": number, "kind": name, "task": task, "cpu": cpu, "function": name_of(function)}
    inlined = [{"function": one.function, "file": one.file, "line": one.line} for one in places(function) if one.file]
    return told | ({"places": inlined} if inlined else {}) | {"a": a, "b": b, "c": c}


def _object(journal: Journal) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "command": COMMAND,
        "exit_status": 0 if journal.complete else CUT_STATUS,
        "complete": journal.complete,
        "damage": journal.damage,
        "header": journal.header,
    }


def _status(journal: Journal) -> int:
    """0, or 4 and a warning if the journal was cut: what is shown is not all."""
    if journal.complete:
        return 0
    complain(f"the journal is not whole: {journal.damage or 'events were lost'}")
    return CUT_STATUS
