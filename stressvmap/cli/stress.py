# SPDX-License-Identifier: GPL-2.0-only
"""`stressvmap stress`: run versions under workloads and say what they violate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from loguru import logger

from stressvmap.cli import options as opt
from stressvmap.cli import run_folder
from stressvmap.cli.config_file import StressConfig, read_stress_file, with_options
from stressvmap.cli.interrupt import Interrupt
from stressvmap.cli.output import TRACEBACK_FILE, log_to, print_lines, print_object, start_log
from stressvmap.cli.trees import prepare
from stressvmap.config import RunSpec
from stressvmap.errors import ConfigError
from stressvmap.report.live import View, view_for
from stressvmap.report.saved import CONFIG_FILE, RESULT_FILE, Summary, to_json, write_atomically
from stressvmap.report.verdict import render
from stressvmap.result import RunResult
from stressvmap.stress import expect as expectations
from stressvmap.stress import harness

SECONDS_DEFAULT: Final = 10.0

COMMAND: Final = "stress"


def stress(
    config: opt.Config = None,
    version: opt.Versions = None,
    patch: opt.Patches = None,
    points: opt.Points = None,
    cc: opt.Compiler = None,
    known: opt.KnownFile = None,
    races: opt.RacesFile = None,
    workload: opt.Workloads = None,
    runtime: opt.Runtime = None,
    strategy: opt.Strategy = None,
    check: opt.Checks = None,
    cpus: opt.Cpus = None,
    block_bits: opt.BlockBits = None,
    seconds: opt.Seconds = None,
    schedules: opt.Schedules = None,
    operations: opt.Operations = None,
    steps_max: opt.StepsMax = None,
    seed: opt.Seed = None,
    execution: opt.Execution = None,
    jobs: opt.Jobs = None,
    stop_at_first: opt.StopAtFirst = False,
    twice: opt.Twice = False,
    expect: opt.Expect = None,
    limit: opt.Limits = None,
    keep_journals: opt.KeepJournals = False,
    out: opt.Out = None,
    json: opt.Json = False,
    verbose: opt.Verbose = 0,
    quiet: opt.Quiet = False,
) -> int:
    """Hammer versions with workers on simulated CPUs, and check what every CPU may still translate.

    Exit status: 0 nothing violated, 1 violated, 2 bad input, 3 harness failed, 4 inconclusive, 130 stopped.

    \b
    Example: the real bug of v6.4 in ten seconds
        stressvmap stress --version v6.4
    Example: your own patch
        stressvmap stress --version ./my_patch.py:MyPatch --seed 7
    Example: one execution again, that a finding named
        stressvmap stress --version v6.5 --workload fill-block --seed 11 --execution 10
    Example: a kernel tree's own C, with a patch applied
        stressvmap stress --version tree:~/linux --patch my.patch
    Example: let the operating system choose the switches
        stressvmap stress --version v6.4 --runtime threads
    Example: what `make stress` does
        stressvmap stress --config configs/stress.toml
    """
    # long because each option is a parameter
    start_log(verbose, is_quiet=quiet)
    given = {
        "versions": opt.of_trees(version, patch, points, cc, known, races),
        "workloads": _tuple(workload),
        "runtime": runtime,
        "strategy": strategy,
        "seed": seed,
        "seconds": seconds,
        "schedules": schedules,
        "operations": operations,
        "checks": _tuple(check),
        "expect": _expect(expect),
        "jobs": jobs,
        "execution": execution,
        "stop_at_first": stop_at_first or None,
        "keep_journals": keep_journals or None,
        "repeat_share": 1.0 if twice else None,
    }
    scenario = {
        "cpus": ("--cpus", cpus),
        "block_bits": ("--block-bits", block_bits),
        "steps_max": ("--steps-max", steps_max),
    }
    resolved = _resolve(config, given, scenario, opt.limits_of(limit))
    resolved.validate()
    prepare(((spec.version, spec.scenario) for spec in resolved.specs()), is_quiet=quiet)
    folder = run_folder.create(COMMAND, out)
    log_to(folder)
    write_atomically(folder / CONFIG_FILE, resolved.to_toml())
    summary = run_all(resolved, folder, view_for(is_quiet=quiet or json))
    if json:
        print_object(summary.as_dict())
    else:
        print_lines(render(summary, folder, wants_locks=verbose > 0))
    return summary.exit_status


def _tuple(values: Sequence[str] | None) -> tuple[str, ...] | None:
    return tuple(values) if values else None


def _expect(values: Sequence[str] | None) -> str | tuple[str, ...] | None:
    """`--expect known`, `--expect none` (nothing may fire), or the checks named."""
    if not values:
        return None
    if list(values) == ["none"]:
        return ()
    return values[0] if list(values) == [expectations.KNOWN] else tuple(values)


def _resolve(
    path: Path | None, given: dict[str, Any], scenario: dict[str, tuple[str, int | None]], limits: dict[str, float]
) -> StressConfig:
    """The configuration of this run: the file's, or the default, with what the command line says."""
    config = StressConfig() if path is None else read_stress_file(path)
    changes = {key: value for key, value in given.items() if value is not None}
    _require_positive(changes)
    keys: dict[str, tuple[str, Any]] = {
        key: (name, value) for key, (name, value) in scenario.items() if value is not None
    }
    if limits:
        keys["limits"] = ("--limit", limits)
    config = with_options(config, changes, keys)
    if "execution" in changes and "expect" not in changes:
        config = replace(config, expect=None)
    if config.seconds is None and config.schedules is None and config.operations is None:
        config = replace(config, seconds=SECONDS_DEFAULT)
    return config


def _require_positive(changes: dict[str, Any]) -> None:
    for key in ("seconds", "schedules", "operations", "jobs"):
        value = changes.get(key)
        if value is not None and not 0 < value < 1e12:
            raise ConfigError(f"--{key} {value}: must be above 0 (and below 10^12)")
    if changes.get("execution", 0) < 0:
        raise ConfigError(f"--execution {changes['execution']}: must be at least 0")
    if changes.get("seed", 0) < 0:
        raise ConfigError(f"--seed {changes['seed']}: must be at least 0")
    if changes.get("runtime", "threads") not in ("threads", "controlled"):
        raise ConfigError(f"--runtime {changes['runtime']}: is not one of threads, controlled")


def run_all(config: StressConfig, folder: Path, view: View) -> Summary:
    """Run every version under every workload; result.json holds what ran, however it ends."""
    specs = config.specs()
    summary = Summary(COMMAND, is_single=len(specs) == 1)
    ran: list[tuple[RunSpec, RunResult]] = []
    try:
        with Interrupt() as interrupt, view:
            for number, spec in enumerate(specs, 1):
                if interrupt():
                    break
                result = _run_one(spec, config.jobs, folder, view, interrupt, (number, len(specs)))
                ran.append((spec, result))
                summary.runs.append(result)
        summary.is_stopped = interrupt() > 0
        summary.expect_unmet = [] if summary.is_stopped else expectations.settle(ran)
    finally:
        if summary.runs:
            write_atomically(folder / RESULT_FILE, to_json(summary.as_dict()) + "\n")
    return summary


def _run_one(
    spec: RunSpec, jobs: int, folder: Path, view: View, interrupt: Interrupt, position: tuple[int, int]
) -> RunResult:
    title = f"{spec.version}, {spec.scenario.workload}, {spec.runtime}"
    logger.info("{} (seed {}) starts", title, spec.seed)
    view.begin(title, *position)
    result = harness.run(spec, folder=folder, progress=view.update, stop=interrupt, jobs=jobs)
    for reason in result.inconclusive:
        logger.info("inconclusive: {}", reason)
    if result.harness_error:
        result.harness_error = _keep_trace(result.harness_error, folder)
        logger.error("the harness failed: {}", result.harness_error)
    logger.info(
        "{}: {}, {} executions, {} operations, {} findings", title, result.verdict, result.schedules, result.operations,
        len(result.findings),
    )  # fmt: skip
    return result


def _keep_trace(error: str, folder: Path) -> str:
    """What went wrong in one line, and where its traceback was written."""
    what, _, trace = error.partition("\n")
    path = folder / TRACEBACK_FILE
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{what}\n{trace}\n")
    return f"{what}; the traceback is in {path}"
