# SPDX-License-Identifier: GPL-2.0-only
"""A violation's story as kernel commit messages tell it: one column a CPU, time running down, only the steps that
matter. Plain text, at most 78 columns wide for up to three CPUs, ready to be pasted. Of a kernel tree a margin says
the line of each step, and below stands where an object came from that was touched when it should not have been.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from stressvmap.checks.base import Violation
from stressvmap.journal import events as ev
from stressvmap.journal.journal import Journal
from stressvmap.journal.place import ALLOC, FREE, stack, under_test
from stressvmap.journal.sanity import checked
from stressvmap.journal.store import read
from stressvmap.report.frames import Frame
from stressvmap.report.selection import CHANGE, DETAIL, Selection, Step
from stressvmap.report.symbols import Symbols
from stressvmap.report.timeline import task_name
from stressvmap.stress.judge import judge

WIDTH: Final = 78
LINES_MAX: Final = 32
"""Rows, headings included, beyond which details are left out."""
LINE: Final = "line"
MARGIN: Final = 6
"""Columns that the lines of the source take."""
COLUMN_WIDTH_MIN: Final = 36
"""Of four columns and more, which do not fit into WIDTH: the table is as wide as they need."""


def columns(journal: Journal, violation: Violation) -> list[str]:
    """The story of `violation`, which the checks found in `journal`: a legend, the columns, and what was wrong."""
    selection = Selection(journal, violation)
    named = selection.symbols.blocks_named
    if len(named) < len(selection.blocks):  # so that a single one is vb, not vb2
        selection = Selection(journal, violation, named)
    steps = selection.ordered()
    if not steps:
        told = [textwrap.wrap(line, WIDTH, subsequent_indent="    ") for line in violation.message.splitlines()]
        return [line for lines in told for line in lines]
    lines = _fitted(journal, selection, steps)
    headline = selection.symbols.in_text(violation.message.splitlines()[0])
    if headline.partition(" ")[0].isalpha():
        headline = headline[:1].upper() + headline[1:]
    closing = textwrap.wrap(f"{headline}.", WIDTH, break_long_words=False)
    legend = selection.symbols.legend("\n".join([*lines, *closing]))
    file = _file_of(journal, steps)
    if file:
        legend.append(f"{LINE}: of {file}, {journal.header.get('version', '')}")
    return [*legend, *([""] if legend else []), *lines, "", *closing, *_origins(journal, violation, selection.symbols)]


def _fitted(journal: Journal, selection: Selection, steps: list[Step]) -> list[str]:
    """The rows; where they are too many, without what matters least, the earliest first."""
    lines = _Layout(journal, selection).lines(steps)
    for rank in (DETAIL, CHANGE):
        for step in [step for step in steps if step.rank == rank]:
            if len(lines) <= LINES_MAX:
                return lines
            if step in steps:
                steps = [other for other in steps if other.number not in (step.number, step.pair)]
            lines = _Layout(journal, selection).lines(steps)
    return lines


def columns_of(journal: Journal, fingerprint: str) -> list[str]:
    """The story of the first violation in `journal` that has this fingerprint; empty if it has none. The journal is
    judged by the limits that its scenario set.
    """
    scenario = journal.header.get("scenario")
    limits = scenario.get("limits") if isinstance(scenario, dict) else None
    verdict, _ = judge(journal, limits=limits if isinstance(limits, dict) else None)
    for violation in verdict.violations:
        if violation.fingerprint == fingerprint:
            return columns(journal, violation)
    return []


def columns_in(path: Path, fingerprint: str) -> list[str]:
    """The same of a journal file, as far as it can be read. Raises ConfigError if it is none."""
    return columns_of(checked(read(path), str(path)), fingerprint)


def markdown(lines: Sequence[str]) -> list[str]:
    """The same for Markdown: a fenced block."""
    return ["```", *lines, "```"]


def _origins(journal: Journal, violation: Violation, symbols: Symbols) -> list[str]:
    """The call stacks of a touched object's allocation and free, as a kernel's report has them."""
    at = journal.events[violation.at] if violation.at < len(journal.events) else None
    if at is None or at[0] not in (ev.DEAD_ACCESS, ev.UNINITIALISED):
        return []
    told: list[str] = []
    for which, kinds in ((ALLOC, {ev.OBJECT_ALLOC: "allocated"}), (FREE, _FREES)):
        places = stack(journal, at[4], which)
        event = next((event for event in journal.events if event[0] in kinds and event[4] == at[4]), None)
        if places and event is not None:
            width = max(len(place.function) for place in places) + 2
            told += ["", f"{symbols.object(at[4])} was {kinds[event[0]]} by {task_name(journal, event[1])}:"]
            told += [f"  {place.function:<{width}}{place.position}" for place in places]
    return told


_FREES: Final = {ev.KFREE_RCU: "handed to kfree_rcu", ev.OBJECT_FREE: "freed"}


def _file_of(journal: Journal, steps: Sequence[Step]) -> str:
    """The source file that the lines of a story are in; empty for a model."""
    return next((place.file for step in steps for place in under_test(journal.events[step.number][3])), "")


class _Layout:
    """Puts steps into columns."""

    def __init__(self, journal: Journal, selection: Selection) -> None:
        self.journal = journal
        self.selection = selection
        self._file = ""
        self._open: dict[int, list[Frame]] = {}
        """By task: the calls whose names stand above its next line."""

    def lines(self, steps: Sequence[Step]) -> list[str]:
        """The header and the rows."""
        tasks = list(dict.fromkeys(step.task for step in steps))
        self._file = _file_of(self.journal, steps)
        margin = MARGIN if self._file else 0
        width, starts = _geometry(len(tasks), margin)
        indent = 2 if len(tasks) < 3 else 1
        heads = [(start, name) for start, name in zip(starts, self._headers(steps, tasks), strict=True)]
        lines = [_placed([(0, LINE), *heads] if margin else heads), ""]
        for step in steps:
            start = starts[tasks.index(step.task)]
            for depth, text, number in self._texts(step):
                room = width - 1 - depth * indent
                for wrapped in _wrapped(text, max(room, 12)):
                    lines.append(_placed([(0, number), (start + depth * indent, wrapped)]))
                    number = ""
        return lines

    def _headers(self, steps: Sequence[Step], tasks: Sequence[int]) -> list[str]:
        """CPU numbers; with the task where two share a CPU or one is no thread of a program."""
        cpu_of: dict[int, int] = {}
        for step in steps:
            cpu_of.setdefault(step.task, self.selection.events[step.number][2])
        named = {int(task): str(told[0]) for task, told in (self.journal.header.get("tasks") or {}).items()}
        cpus = list(cpu_of.values())
        headers = []
        for task in tasks:
            name = named.get(task, f"task {task}")
            is_plain = cpus.count(cpu_of[task]) == 1 and task < 1000
            headers.append(f"CPU {cpu_of[task]}" if is_plain else f"CPU {cpu_of[task]} ({name})")
        return headers

    def _texts(self, step: Step) -> list[tuple[int, str, str]]:
        """The lines of a step, each with its depth and its line of the source: calls entered since the task's last
        line, then itself.
        """
        path = step.frame.path() if step.frame is not None else []
        before = self._open.get(step.task, [])
        common = 0
        while common < min(len(path), len(before)) and path[common] is before[common]:
            common += 1
        self._open[step.task] = path
        lines = [(depth, self.selection.title(path[depth]), "") for depth in range(common, len(path))]
        first, *rest = step.text.split("\n")
        place = next(iter(under_test(self.selection.events[step.number][3])), None)
        number = str(place.line) if place is not None and place.file == self._file != "" else ""
        lines.append((len(path) + step.indent, first, number))
        lines.extend((len(path) + step.indent + 1, text, "") for text in rest)
        return lines


def _wrapped(text: str, room: int) -> list[str]:
    """A step in lines of at most `room` characters; a comment that does not fit goes below."""
    if len(text) <= room:
        return [text]
    if " " not in text and "(" not in text:
        return _split_name(text, room)
    code, mark, comment = text.partition("   /* ")
    name, parenthesis, arguments = code.partition("(")
    if parenthesis and max(map(len, code.split())) > room:
        indented = textwrap.wrap(arguments, room, initial_indent="  ", subsequent_indent="  ")
        lines = [name + parenthesis, *indented]
    else:
        lines = textwrap.wrap(code, room, subsequent_indent="  ")
    if mark:
        lines += textwrap.wrap(f"/* {comment}", room, initial_indent="  ", subsequent_indent="     ")
    return lines


def _split_name(name: str, room: int) -> list[str]:
    """A function's name that is too long for its column, split behind an underscore if there is one."""
    lines: list[str] = []
    while len(name) > room:
        at = name.rfind("_", 1, room) + 1 or room
        lines.append(f"{'  ' if lines else ''}{name[:at]}")
        name, room = name[at:], room if lines[1:] else room - 2
    return [*lines, f"{'  ' if lines else ''}{name}"]


def _geometry(count: int, margin: int) -> tuple[int, list[int]]:
    """The width of each column, and where each starts."""
    whole = WIDTH - margin
    if count <= 1:
        return whole, [margin]
    width = whole // count + (2 if count == 2 else 0) if count <= 3 else COLUMN_WIDTH_MIN
    return (whole - width if count == 2 else width), [margin + width * number for number in range(count)]


def _placed(parts: Sequence[tuple[int, str]]) -> str:
    line = ""
    for start, text in parts:
        line = line.ljust(start) + text
    return line.rstrip()
