# SPDX-License-Identifier: GPL-2.0-only
"""Options that several commands take, so that they mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on standard output, nothing else.")]
Verbose = Annotated[
    int,
    typer.Option("--verbose", "-v", count=True, show_default=False, help="Log more to standard error; twice for all."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, and only errors on standard error.")]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Where to write (default: logs/<time>-<command>-<id>).")
]
Checks = Annotated[
    list[str] | None,
    typer.Option("--check", metavar="NAME", help="Only this check (repeatable); inconclusive if it cannot run."),
]
Limits = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="CHECK=N",
        help="Where a metric becomes a violation: excess-flush, re-flush, double-count, lock-hold (repeatable).",
    ),
]
