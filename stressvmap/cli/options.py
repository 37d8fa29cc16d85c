# SPDX-License-Identifier: GPL-2.0-only
"""Options that several commands take, so that they mean the same everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from stressvmap.checks.registry import EFFICIENCY_NAMES
from stressvmap.errors import ConfigError
from stressvmap.scenario import WORKLOADS
from stressvmap.sched.portfolio import STRATEGIES
from stressvmap.tree.version import is_tree, with_options

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

# -- of stress --------------------------------------------------------------------------------------------

Config = Annotated[Path | None, typer.Option(metavar="FILE", help="A TOML file; options given here take precedence.")]
Versions = Annotated[
    list[str] | None,
    typer.Option(
        "--version", metavar="V", help="A version, ./file.py:ClassName, or tree:PATH (repeatable). See `versions`."
    ),
]
Patches = Annotated[
    list[Path] | None,
    typer.Option("--patch", metavar="FILE", help="Of tree: versions: apply this patch first (repeatable, in order)."),
]
Points = Annotated[
    str | None,
    typer.Option(
        metavar="all|marked", help="Of tree: versions: switch at every access (default), or at marked ones and locks."
    ),
]
Compiler = Annotated[
    str | None,
    typer.Option(
        "--cc", metavar="gcc|clang", help="Of tree: versions: the compiler; gcc, or clang if that is all there is."
    ),
]
KnownFile = Annotated[
    Path | None,
    typer.Option("--known", metavar="FILE", help="Of tree: versions: what they are known to break, as TOML."),
]
RacesFile = Annotated[
    Path | None,
    typer.Option(
        "--races", metavar="FILE", help="Of tree: versions: data races that are argued for (configs/races-*)."
    ),
]
Workloads = Annotated[
    list[str] | None,
    typer.Option("--workload", metavar="NAME", help=f"Of {', '.join(WORKLOADS)} (repeatable; default: mixed)."),
]
Runtime = Annotated[
    str | None,
    typer.Option(
        metavar="controlled|threads", help="Switches that a strategy decides (default), or free-running threads."
    ),
]
Strategy = Annotated[
    str | None,
    typer.Option(metavar="S", help=f"Who decides the switches: {', '.join(STRATEGIES)}; several with commas, in turn."),
]
Cpus = Annotated[int | None, typer.Option(metavar="N", help="Simulated CPUs.")]
BlockBits = Annotated[
    int | None, typer.Option(metavar="N", help="Pages of a vmap block; max_alloc follows, unless a file sets it.")
]
Seconds = Annotated[float | None, typer.Option(metavar="X", help="Time for all runs together (default: 10).")]
Schedules = Annotated[int | None, typer.Option(metavar="N", help="Executions of each run.")]
Operations = Annotated[int | None, typer.Option(metavar="N", help="Operations of each run.")]
StepsMax = Annotated[int | None, typer.Option(metavar="N", help="Steps after which an execution is given up.")]
Seed = Annotated[int | None, typer.Option(metavar="N", help="Decides all programs and, if controlled, all switches.")]
Execution = Annotated[
    int | None, typer.Option(metavar="N", help="Run only execution N, as a finding names it; budgets are ignored.")
]
Jobs = Annotated[int | None, typer.Option(metavar="N", help="Processes that share the executions of a run.")]
StopAtFirst = Annotated[
    bool, typer.Option("--stop-at-first", help="End a run at its first violation that is not known.")
]
Expect = Annotated[
    list[str] | None,
    typer.Option(metavar="CHECK", help="Exit 0 if just these fire (repeatable; CHECK[:FINGERPRINT], known, or none)."),
]
Twice = Annotated[
    bool, typer.Option("--twice", help="Run each schedule twice and compare the journals (default: 5 % of them).")
]
KeepJournals = Annotated[bool, typer.Option("--keep-journals", help="Keep the journal of every execution.")]


def of_trees(
    versions: Sequence[str] | None,
    patches: Sequence[Path] | None,
    points: str | None,
    compiler: str | None,
    known: Path | None,
    races: Path | None,
) -> tuple[str, ...] | None:
    """The versions as given, those that are kernel trees with these options. Raises ConfigError if none is."""
    told = [("patch", str(path)) for path in patches or ()]
    told += [
        (key, str(value))
        for key, value in (("points", points), ("cc", compiler), ("known", known), ("races", races))
        if value
    ]
    named = tuple(versions or ())
    if told and not any(is_tree(name) for name in named):
        raise ConfigError(f"--{told[0][0]}: is for kernel trees, and no --version names one (tree:PATH)")
    return tuple(with_options(name, told) if is_tree(name) else name for name in named) or None


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
