# SPDX-License-Identifier: GPL-2.0-only
"""`stressvmap soak`: rounds with fresh seeds for hours, each kept as it ends."""

from __future__ import annotations

import fcntl
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Final

import typer
from loguru import logger
from rich.text import Text

from stressvmap.cli import run_folder
from stressvmap.cli.interrupt import Interrupt
from stressvmap.cli.options import Json, Quiet, Verbose
from stressvmap.cli.output import log_to, print_lines, print_object, start_log
from stressvmap.cli.soak_file import read_soak_file, soak_to_toml
from stressvmap.config import RunSpec, SoakConfig
from stressvmap.errors import ConfigError
from stressvmap.report.live import View, view_for
from stressvmap.report.saved import CONFIG_FILE, RESULT_FILE, to_json, write_atomically
from stressvmap.report.soak import render
from stressvmap.stress import soak as soaking
from stressvmap.stress.harness import Progress
from stressvmap.stress.soak import SoakResult

COMMAND: Final = "soak"
LOCK_FILE: Final = ".lock"


def soak(
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A TOML file: what rounds are drawn from.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(metavar="X", help="Time of all sittings together.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Decides what each round is.")] = None,
    jobs: Annotated[
        int | None, typer.Option(metavar="N", help="Processes that share the executions of a round.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to write; the folder of an earlier soak is gone on with.")
    ] = None,
    json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> int:
    """Soak: rounds with fresh seeds over versions, workloads, CPU counts and block sizes, until the time is used up.

    Each round is kept as it ends; started again on the same folder, the soak goes on. Now and then a version with a
    line removed is run: a soak that does not catch it is blind, and says so.

    Exit status: 0 only what is known fired, 1 more or less than that, 4 blind or inconclusive, 130 stopped.

    \b
    Example: an hour, then another
        stressvmap soak --config configs/soak.toml --seconds 3600 --out logs/mine
        stressvmap soak --config configs/soak.toml --seconds 7200 --out logs/mine
    """
    start_log(verbose, is_quiet=quiet)
    resolved = _resolve(config, seconds, seed, jobs)
    folder = run_folder.create(COMMAND, out, may_resume=True)
    with _only_one(folder):
        _require_same(folder, resolved)
        log_to(folder)
        write_atomically(folder / CONFIG_FILE, soak_to_toml(resolved))
        result = _run(resolved, folder, view_for(is_quiet=quiet or json))
    data = result.as_dict()
    if json:
        print_object(data)
    else:
        print_lines(render(data, folder))
        print_lines([Text(f"goes on with: {_again(folder, resolved)}")])
    return result.exit_status


def _resolve(path: Path | None, seconds: float | None, seed: int | None, jobs: int | None) -> SoakConfig:
    config = SoakConfig() if path is None else read_soak_file(path)
    for option, value, least in (("--seconds", seconds, 1), ("--seed", seed, 0), ("--jobs", jobs, 1)):
        if value is not None and not least <= value < 1e12:
            raise ConfigError(f"{option} {value}: must be at least {least}")
    return replace(
        config,
        seconds=config.seconds if seconds is None else seconds,
        seed=config.seed if seed is None else seed,
        jobs=config.jobs if jobs is None else jobs,
    )


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: two soaks in one folder would number their rounds alike."""
    with (folder / LOCK_FILE).open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f"--out {folder}: another soak is running in this folder") from None
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _require_same(folder: Path, config: SoakConfig) -> None:
    """A soak goes on only with what it began with: round n depends on the configuration."""
    path = folder / CONFIG_FILE
    if not path.exists():
        if any(entry.name != LOCK_FILE for entry in folder.iterdir()):
            raise ConfigError(f"--out {folder}: is not empty and holds no soak")
        return
    before, now = asdict(read_soak_file(path)), asdict(config)
    for key in before.keys() - {"seconds", "jobs"}:
        if before[key] != now[key]:
            told = f"its soak began with another {key} ({before[key]!r}, now {now[key]!r})"
            raise ConfigError(f"--out {folder}: {told}; use another folder")


def _run(config: SoakConfig, folder: Path, view: View) -> SoakResult:
    shown = -1

    def progress(number: int, spec: RunSpec, now: Progress, total: SoakResult) -> None:
        nonlocal shown
        if number != shown:
            shown = number
            logger.info("round {}: {}, {}, {} CPUs", number, spec.version, spec.scenario.workload, spec.scenario.cpus)
            write_atomically(folder / RESULT_FILE, to_json(total.as_dict()) + "\n")
            found = f"{len(total.unknown)} new, {len(total.findings) - len(total.unknown)} known so far"
            left = max(0.0, config.seconds - total.seconds)
            name = spec.version.rpartition("/")[2]
            view.begin(f"round {number} ({name}, {spec.scenario.workload}): {found}, {left / 60:.0f} min left", 1, 1)
        view.update(now)

    with Interrupt() as interrupt, view:
        result = soaking.soak(config, folder, progress=progress, stop=interrupt)
    write_atomically(folder / RESULT_FILE, to_json(result.as_dict()) + "\n")
    return result


def _again(folder: Path, config: SoakConfig) -> str:
    path = shlex.quote(str(folder / CONFIG_FILE))
    return f"stressvmap soak --config {path} --seconds {2 * config.seconds:.0f} --out {shlex.quote(str(folder))}"
