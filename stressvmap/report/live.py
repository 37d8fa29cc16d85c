# SPDX-License-Identifier: GPL-2.0-only
"""What a running command shows: a display that renews itself on a terminal, a plain line now and then, or nothing.

All of it goes to standard error: standard output is for what the command has found.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Final, Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from stressvmap.quantity import counted
from stressvmap.stress.harness import Progress

PLAIN_SECONDS: Final = 10.0
"""Time between two plain lines."""


class View:
    """Shows nothing. The base of the views: a title a run, and its progress."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def begin(self, title: str, number: int, total: int) -> None:
        """Run `number` (from 1) of `total` starts."""

    def update(self, progress: Progress) -> None:
        """How far it is; called several times a second."""


class PlainView(View):
    """A line every 10 seconds, for logs."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.title = ""
        self.due = 0.0

    def begin(self, title: str, number: int, total: int) -> None:
        """Remember the title; the clock runs on from run to run."""
        self.title = f"[{number}/{total}] {title}" if total > 1 else title
        if number == 1:
            self.due = time.monotonic() + PLAIN_SECONDS

    def update(self, progress: Progress) -> None:
        """A line, if it is time for one."""
        now = time.monotonic()
        if now >= self.due:
            self.due = now + PLAIN_SECONDS
            print(f"{self.title}: {in_words(progress)}", file=self.out, flush=True)


class TerminalView(View):
    """A display of a few lines that renews itself."""

    def __init__(self, console: Console) -> None:
        self.live = Live(console=console, refresh_per_second=4, transient=True)
        self.title = ""
        self.total = 1

    def __enter__(self) -> Self:
        self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()

    def begin(self, title: str, number: int, total: int) -> None:
        """Show the title."""
        self.title = f"run {number} of {total}: {title}" if total > 1 else title
        self.update(Progress(phase="starting"))

    def update(self, progress: Progress) -> None:
        """Renew the display."""
        self.live.update(_table(self.title, progress))


def _table(title: str, progress: Progress) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    table.add_column(justify="right")
    known = progress.violations - progress.unknown
    new = Text(f"{progress.unknown} new", style="bold red" if progress.unknown else "")
    rows: list[tuple[str | Text, str | Text, str | Text, str | Text]] = [
        ("operations/s", rate(progress.operations, progress.seconds), "flushes", f"{progress.flushes:,}"),
        ("executions", f"{progress.schedules:,}", "pages flushed", f"{progress.flushed_pages:,}"),
        ("distinct journals", f"{progress.distinct_journals:,}", "next is new", f"{progress.unseen:.0%}"),
        ("distinct violations", Text(f"{known} known, ") + new, "pages owed", f"{progress.owed_pages:,}"),
    ]
    for row in rows:
        table.add_row(*row)
    frame = Table.grid()
    frame.add_row(Text(f"{title} · {progress.seconds:.0f} s · {progress.phase}", style="bold"))
    frame.add_row(table)
    return frame


def rate(count: int, seconds: float) -> str:
    """So many a second."""
    return f"{count / seconds:,.0f}" if seconds > 0 else "-"


def in_words(progress: Progress) -> str:
    """Progress as one line."""
    return (
        f"{progress.seconds:.0f} s, {counted(progress.schedules, 'execution')},"
        f" {rate(progress.operations, progress.seconds)} operations/s,"
        f" {counted(progress.distinct_journals, 'distinct journal')} (the next is new: {progress.unseen:.0%}),"
        f" {counted(progress.flushes, 'flush', 'flushes')}, {counted(progress.flushed_pages, 'page')} flushed"
        f" ({progress.owed_pages:,} owed),"
        f" {counted(progress.violations, 'distinct violation')} ({progress.unknown} new), {progress.phase}"
    )


def view_for(*, is_quiet: bool) -> View:
    """The view that suits standard error."""
    if is_quiet:
        return View()
    console = Console(stderr=True)
    return TerminalView(console) if console.is_terminal and not console.is_dumb_terminal else PlainView(sys.stderr)
