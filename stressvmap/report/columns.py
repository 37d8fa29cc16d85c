# SPDX-License-Identifier: GPL-2.0-only
"""A violation's story as kernel commit messages tell it: one column a CPU, time running down, only the steps that
matter. Plain text, at most 78 columns wide for up to three CPUs, ready to be pasted.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from stressvmap.checks.base import Violation
from stressvmap.journal.journal import Journal
from stressvmap.journal.sanity import checked
from stressvmap.journal.store import read
from stressvmap.report.frames import Frame
from stressvmap.report.selection import CHANGE, DETAIL, Selection, Step
from stressvmap.stress.judge import judge

WIDTH: Final = 78
LINES_MAX: Final = 32
"""Rows, headings included, beyond which details are left out."""
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
    return [*legend, *([""] if legend else []), *lines, "", *closing]


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
    """The story of the first violation in `journal` that has this fingerprint; empty if it has none."""
    verdict, _ = judge(journal)
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


class _Layout:
    """Puts steps into columns."""

    def __init__(self, journal: Journal, selection: Selection) -> None:
        self.journal = journal
        self.selection = selection
        self._open: dict[int, list[Frame]] = {}
        """By task: the calls whose names stand above its next line."""

    def lines(self, steps: Sequence[Step]) -> list[str]:
        """The header and the rows."""
        tasks = list(dict.fromkeys(step.task for step in steps))
        rows: list[tuple[int, int, str]] = []
        for step in steps:
            rows.extend((tasks.index(step.task), depth, text) for depth, text in self._texts(step))
        width, starts = _geometry(len(tasks))
        indent = 2 if len(tasks) < 3 else 1
        lines = [_placed([(start, name) for start, name in zip(starts, self._headers(steps, tasks), strict=True)]), ""]
        for column, depth, text in rows:
            room = width - 1 - depth * indent
            for wrapped in _wrapped(text, max(room, 12)):
                lines.append(_placed([(starts[column] + depth * indent, wrapped)]))
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

    def _texts(self, step: Step) -> list[tuple[int, str]]:
        """The lines of a step: calls entered since the task's last line, then itself."""
        path = step.frame.path() if step.frame is not None else []
        before = self._open.get(step.task, [])
        common = 0
        while common < min(len(path), len(before)) and path[common] is before[common]:
            common += 1
        self._open[step.task] = path
        lines = [(depth, self.selection.title(path[depth])) for depth in range(common, len(path))]
        first, *rest = step.text.split("\n")
        lines.append((len(path) + step.indent, first))
        lines.extend((len(path) + step.indent + 1, text) for text in rest)
        return lines


def _wrapped(text: str, room: int) -> list[str]:
    """A step in lines of at most `room` characters; a comment that does not fit goes below."""
    if len(text) <= room:
        return [text]
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


def _geometry(count: int) -> tuple[int, list[int]]:
    """The width of each column, and where each starts."""
    if count <= 1:
        return WIDTH, [0]
    width = WIDTH // count + (2 if count == 2 else 0) if count <= 3 else COLUMN_WIDTH_MIN
    return (WIDTH - width if count == 2 else width), [width * number for number in range(count)]


def _placed(parts: Sequence[tuple[int, str]]) -> str:
    line = ""
    for start, text in parts:
        line = line.ljust(start) + text
    return line.rstrip()
