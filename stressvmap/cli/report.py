# SPDX-License-Identifier: GPL-2.0-only
"""`stressvmap report`: a finished run's verdict once more, from its result.json."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stressvmap.cli.options import Json, Quiet, Verbose
from stressvmap.cli.output import print_lines, print_object, start_log
from stressvmap.errors import ConfigError
from stressvmap.report import soak as soak_report
from stressvmap.report.saved import read_object, summary_from
from stressvmap.report.verdict import render


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or its result.json.")],
    json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> int:
    """Print a finished run's report again. The exit status is 0: the run's own stands in its result.

    \b
    Example
        stressvmap report logs/<run>
    """
    start_log(verbose, is_quiet=quiet)
    data = read_object(run)
    folder = run if run.is_dir() else run.parent
    if json:
        print_object(data)
        return 0
    try:
        lines = soak_report.render(data, folder) if data["command"] == "soak" else render(summary_from(data), folder)
        print_lines(list(lines))
    except (ConfigError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{run}: is no whole result of stressvmap: {error}") from None
    return 0
