# SPDX-License-Identifier: GPL-2.0-only
"""Standard output, standard error and the log: what is written where, and that a closed pipe is no failure."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from loguru import logger
from rich.console import Console
from rich.text import Text

from stressvmap.report.saved import to_json

LOG_FILE: Final = "run.log"
TRACEBACK_FILE: Final = "traceback.txt"
_LEVELS: Final = ("WARNING", "INFO", "DEBUG")
_STDERR_FORMAT: Final = "{time:HH:mm:ss} {level: <7} {message}"
_FILE_FORMAT: Final = "{time:YYYY-MM-DDTHH:mm:ss.SSSZZ} {level: <7} {name}:{line} {message}"


@dataclass(slots=True)
class Place:
    """Where this process keeps its evidence. One a process: the log has only one, too."""

    folder: Path | None = None


PLACE: Final = Place()


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """The reader has had enough (`| head`): say no more, but go on; the exit status is still the verdict's."""
        self.quiet = True
        close_stdout()


def close_stdout() -> None:
    """Point standard output at nothing."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def print_lines(lines: Iterable[Text]) -> None:
    """Lines to standard output. Only on a terminal are they coloured and made to fit; elsewhere a line stays a line."""
    console = _Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    for line in lines:
        line.rstrip()
        for part in _fit(line, console.width) if console.is_terminal and not line.no_wrap else [line]:
            console.print(part)


def _fit(line: Text, width: int) -> Iterator[Text]:
    """The line in parts that fit a terminal; what goes on below is indented like its text, two columns more."""
    text = line.plain
    margin = len(text) - len(text.lstrip(" |"))
    indent = text[:margin] + "  "
    while len(text) > width:
        at = text.rfind(" ", margin + width // 2, width + 1)
        if at < 0:
            break
        yield line[:at]
        line = Text(indent) + line[at + 1 :]
        text, margin = line.plain, len(indent)
    yield line


def print_raw(lines: Iterable[str]) -> None:
    """Many plain lines to standard output; stops when nobody reads them."""
    try:
        for line in lines:
            sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        close_stdout()


def print_object(data: dict[str, Any]) -> None:
    """The one JSON object that --json promises."""
    print_raw([to_json(data)])


def complain(message: str) -> None:
    """One message to standard error."""
    try:
        print(f"stressvmap: {message}", file=sys.stderr, flush=True)
    except OSError:
        return


def start_log(verbosity: int, *, is_quiet: bool) -> None:
    """Log to standard error: warnings; with -v, -vv more; with -q errors only."""
    logger.remove()
    level = "ERROR" if is_quiet else _LEVELS[min(verbosity, len(_LEVELS) - 1)]
    # Looked up at each message: the live display replaces sys.stderr while it runs.
    logger.add(
        lambda message: print(message, end="", file=sys.stderr), level=level, format=_STDERR_FORMAT, colorize=False
    )


def log_to(folder: Path) -> None:
    """Log to the run's folder as well; the file is rotated, so hours of it stay small."""
    PLACE.folder = folder
    logger.add(
        folder / LOG_FILE,
        level="DEBUG",
        format=_FILE_FORMAT,
        rotation="10 MB",
        retention=5,
        backtrace=False,
        diagnose=False,
        catch=True,
    )
