# SPDX-License-Identifier: GPL-2.0-only
"""The command line: parse, call, print. No logic.

`main` turns everything that can go wrong into one message and an exit status (docs/usage.md), never a traceback.
"""

from __future__ import annotations

import errno
import re
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import typer
from typer.main import get_command

from stressvmap.cli.check import check
from stressvmap.cli.explore import explore
from stressvmap.cli.output import PLACE, TRACEBACK_FILE, close_stdout, complain, print_object
from stressvmap.cli.replay import replay
from stressvmap.cli.report import report
from stressvmap.cli.show import show
from stressvmap.cli.shrink import shrink
from stressvmap.cli.soak import soak
from stressvmap.cli.stress import stress
from stressvmap.cli.tree import NAME as TREE
from stressvmap.cli.tree import tree_app
from stressvmap.cli.versions import versions
from stressvmap.errors import STOPPED_STATUS, BuildError, StressVmapError
from stressvmap.result import SCHEMA
from stressvmap.version import __version__

USAGE_STATUS: Final = 2
HARNESS_STATUS: Final = 3
FULL_ERRNOS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""The machine's trouble, not ours."""

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
for _command_function in (stress, replay, shrink, explore, check, show, versions, soak, report):
    app.command()(_command_function)
app.add_typer(tree_app)


@app.callback(invoke_without_command=True)
def _stressvmap(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version of stressvmap and exit.", is_eager=True),
) -> None:
    """Stress the vmap-block layer of mm/vmalloc.c, retold in Python, and check what every CPU may still translate.

    \b
    Start with
        stressvmap stress --version v6.4
    """
    if version:
        print(f"stressvmap {__version__}")
        raise typer.Exit(0)
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(USAGE_STATUS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the process's exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    PLACE.folder = None
    try:
        status = get_command(app).main(args=given, prog_name="stressvmap", standalone_mode=False)
        sys.stdout.flush()
        return int(status or 0)
    except KeyboardInterrupt:
        return STOPPED_STATUS
    except BrokenPipeError:
        close_stdout()
        return 0
    except BuildError as error:
        return _fail(given, str(error), error.exit_status, error.details)
    except StressVmapError as error:
        return _fail(given, str(error), error.exit_status)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL_ERRNOS:
            close_stdout()
            where = error.filename or "to standard output"
            return _fail(given, f"cannot write {where}: {error.strerror}", USAGE_STATUS)
        usage = getattr(error, "format_message", None)
        if callable(usage):
            return _fail(
                given, f"{_with_value(usage(), given)} (stressvmap {_command(given)}--help tells more)", USAGE_STATUS
            )
        where = _keep_traceback(error)
        told = f"failed, a bug of ours: {type(error).__name__}: {error}; the traceback is in {where}"
        return _fail(given, told, HARNESS_STATUS)


def _fail(given: Sequence[str], message: str, status: int, details: Sequence[str] = ()) -> int:
    """One message to standard error, below its details, a line each; with --json the one object on standard output."""
    message = _one_line(message)
    for detail in details:
        print(detail, file=sys.stderr)
    complain(message)
    if "--json" in given:
        command = _command(given).strip()
        told = {"schema": SCHEMA, "command": command, "verdict": "error", "exit_status": status, "error": message}
        print_object(told | ({"details": list(details)} if details else {}))
    return status


def _command(given: Sequence[str]) -> str:
    """The command that was given, a group's own with it, and a space; "" where it is none of ours."""
    if given[:1] == [TREE]:
        return f"{TREE} {given[1]} " if given[1:] and given[1] in _names(tree_app) else f"{TREE} "
    return f"{given[0]} " if given and given[0] in _names(app) else ""


def _names(commands: typer.Typer) -> set[str]:
    return {command.name or command.callback.__name__ for command in commands.registered_commands if command.callback}


def _with_value(message: str, given: Sequence[str]) -> str:
    """typer names the option whose value does not fit, not the value."""
    match = re.match(r"Invalid value for '(-[\w-]+)'", message)
    if match is None or match[1] not in given[:-1]:
        return message
    return f"{match[1]} {given[list(given).index(match[1]) + 1]}: {message}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _keep_traceback(error: BaseException) -> Path:
    """Write the traceback where the run's evidence lies, or to a temporary file."""
    text = "".join(traceback.format_exception(error))
    if PLACE.folder is not None:
        try:
            path = PLACE.folder / TRACEBACK_FILE
            with path.open("a", encoding="utf-8") as kept:
                kept.write(text)
            return path
        except OSError:
            pass
    with tempfile.NamedTemporaryFile(
        "w", prefix="stressvmap-", suffix="-traceback.txt", delete=False, encoding="utf-8"
    ) as file:
        file.write(text)
    return Path(file.name)
