# SPDX-License-Identifier: GPL-2.0-only
"""Options that several commands take, so that they mean the same everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from stressvmap.checks.registry import EFFICIENCY_NAMES
from stressvmap.errors import ConfigError

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


def limits_of(values: Sequence[str] | None) -> dict[str, float]:
    """What --limit says, by check. Raises ConfigError."""
    limits: dict[str, float] = {}
    for text in values or ():
        name, _, value = text.partition("=")
        if name not in EFFICIENCY_NAMES:
            raise ConfigError(f"--limit {text}: {name!r} is not one of {', '.join(EFFICIENCY_NAMES)}")
        try:
            limits[name] = float(value)
        except ValueError:
            raise ConfigError(f"--limit {text}: expected {name}=NUMBER") from None
        if not 0 <= limits[name] < float("inf"):
            raise ConfigError(f"--limit {text}: must be a number from 0")
    return limits
