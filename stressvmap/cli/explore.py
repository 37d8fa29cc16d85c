# SPDX-License-Identifier: GPL-2.0-only
"""`stressvmap explore`: every schedule of one small program, up to a bound or without one."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import typer
from loguru import logger

from stressvmap.cli import options as opt
from stressvmap.cli import run_folder
from stressvmap.cli.interrupt import Interrupt
from stressvmap.cli.output import complain, log_to, print_lines, print_object, start_log
from stressvmap.cli.replay import StallSeconds
from stressvmap.cli.trees import outlive, prepare
from stressvmap.errors import ConfigError
from stressvmap.program import Program
from stressvmap.quantity import counted
from stressvmap.report.explored import render_explored
from stressvmap.report.saved import RESULT_FILE, to_json, write_atomically
from stressvmap.result import INCONCLUSIVE, SCHEMA
from stressvmap.scenario import WORKLOADS, Scenario
from stressvmap.stress.campaign import Campaign
from stressvmap.stress.campaign_state import CampaignState
from stressvmap.stress.explore import ExploreSpec
from stressvmap.stress.schedule_file import SavedSchedule, write_schedule
from stressvmap.stress.small_program import program_from_file, program_from_text, without_pauses
from stressvmap.stress.watchdog import Watchdog
from stressvmap.stress.workloads import draw
from stressvmap.tree.version import is_tree

COMMAND: Final = "explore"
MACHINE: Final = Scenario(cpus=1, window_blocks=8, migration_rate=0.0, fault_rate=0.0, witness=False)
"""The machine of a program that brings none; it gets as many CPUs as the program names."""

Version = Annotated[
    str | None, typer.Option(metavar="V", help="A version, ./file.py:ClassName or tree:PATH (default: v6.5).")
]
Ops = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="The program: tasks separated by |, operations by ; (see the examples)."),
]
ProgramFile = Annotated[
    Path | None, typer.Option("--program", metavar="FILE", help="The program of a schedule file, or a JSON program.")
]
Workload = Annotated[str | None, typer.Option(metavar="NAME", help=f"Draw the program: of {', '.join(WORKLOADS)}.")]
Operations = Annotated[int, typer.Option(metavar="N", help="Of a drawn program: operations of each worker.")]
Flushers = Annotated[int, typer.Option(metavar="N", help="Of a drawn program: tasks that call vm_unmap_aliases once.")]
Execution = Annotated[int, typer.Option(metavar="N", help="Of a drawn program: which of the seed's.")]
Seed = Annotated[int, typer.Option(metavar="N", help="Of a drawn program.")]
Cpus = Annotated[int | None, typer.Option(metavar="N", help="Simulated CPUs (default: as many as the program names).")]
Preemptions = Annotated[
    int | None,
    typer.Option(metavar="N", help="All schedules with at most N preemptions; left out: every trace, unbounded."),
]
State = Annotated[Path | None, typer.Option(metavar="FILE", help="Keep how far it came there, and go on from there.")]
Seconds = Annotated[float | None, typer.Option(metavar="X", help="Stop after so long (this sitting).")]
Schedules = Annotated[int | None, typer.Option(metavar="N", help="Stop after N executions (of all sittings).")]
Jobs = Annotated[int, typer.Option(metavar="N", help="Processes.")]
STALLED_STATUS: Final = 4


def explore(
    version: Version = None,
    patch: opt.Patches = None,
    points: opt.Points = None,
    cc: opt.Compiler = None,
    known: opt.KnownFile = None,
    races: opt.RacesFile = None,
    ops: Ops = None,
    program: ProgramFile = None,
    workload: Workload = None,
    operations: Operations = 2,
    flushers: Flushers = 1,
    seed: Seed = 1,
    execution: Execution = 0,
    cpus: Cpus = None,
    block_bits: opt.BlockBits = None,
    steps_max: opt.StepsMax = None,
    preemptions: Preemptions = None,
    check: opt.Checks = None,
    seconds: Seconds = None,
    schedules: Schedules = None,
    jobs: Jobs = 1,
    state: State = None,
    stall_seconds: StallSeconds = 30.0,
    out: opt.Out = None,
    json: opt.Json = False,
    verbose: opt.Verbose = 0,
    quiet: opt.Quiet = False,
) -> int:
    """Run every schedule of one small program that differs from the others in more than the order of independent
    steps, and say whether that was everything.

    Operations: map SLOT PAGES, unmap SLOT, vmalloc SLOT PAGES, vmalloc-reset SLOT PAGES, vfree SLOT, aliases, touch
    SLOT, probe SLOT. Task n runs on CPU n, from 0, or on the one it names: `cpu0: map 0 4 | cpu0: aliases`.

    \b
    Example: two tasks that fill and empty a block, and a flusher
        stressvmap explore --version v6.5 --ops "map 0 4; unmap 0 | map 1 4; unmap 1 | aliases"
    Example: at most two preemptions; stop and go on as you like
        stressvmap explore --ops "map 0 8; unmap 0 | aliases" --preemptions 2 --state run.json
    Example: a kernel tree's own C, with a patch applied
        stressvmap explore --version tree:~/linux --patch my.patch --points marked --ops "map 0 4; unmap 0 | aliases"
    Example: a program that the workload fill-block draws
        stressvmap explore --version v6.4 --workload fill-block --cpus 2 --operations 2 --seed 3
    """
    # long because each option is a parameter
    start_log(verbose, is_quiet=quiet)
    given = (("seconds", seconds), ("schedules", schedules), ("jobs", jobs), ("stall-seconds", stall_seconds))
    for name, value in given:
        if value is not None and not 0 < value < 1e12:
            raise ConfigError(f"--{name} {value}: must be above 0 (and below 10^12)")
    what, saved = _program(ops, program, workload)
    scenario = saved.scenario if saved is not None else MACHINE
    if block_bits is not None:
        scenario = replace(scenario, block_bits=block_bits, max_alloc=max(1, block_bits // 2))
    if steps_max is not None:
        scenario = replace(scenario, steps_max=steps_max)
    if what is None:
        assert workload is not None
        scenario = replace(scenario, workload=workload, cpus=cpus or 2, operations=operations, flushers=flushers)
        drawn = replace(scenario, flushes=1)
        drawn.validate()
        what = without_pauses(draw(drawn, seed, execution))
    elif saved is None or cpus is not None:
        scenario = replace(scenario, cpus=cpus or 1 + max((task.cpu for task in what.tasks), default=0))
    _require_cpus(what, scenario)
    given_version = version or (saved.version if saved is not None else "v6.5")
    named = (opt.of_trees([given_version], patch, points, cc, known, races) or (given_version,))[0]
    spec = ExploreSpec(
        version=named,
        scenario=scenario,
        program=what,
        preemptions=preemptions,
        checks=tuple(check or ()),
    )
    spec.validate()
    prepare([(spec.version, spec.scenario)], is_quiet=quiet)

    def run() -> int:
        return _explore(spec, seconds, schedules, jobs, state, out, stall_seconds, is_json=json, is_quiet=quiet)

    if not is_tree(spec.version):
        return run()
    ended = outlive(run, STALLED_STATUS)
    if isinstance(ended, int):
        return ended
    where = f"the code under test ended the process ({ended}); `stressvmap stress` tells by which schedule"
    _give_up(where, is_json=json)
    return STALLED_STATUS


def _give_up(where: str, *, is_json: bool) -> None:
    complain(where)
    if is_json:
        told = {"schema": SCHEMA, "command": COMMAND, "verdict": INCONCLUSIVE, "exit_status": STALLED_STATUS}
        print_object({**told, "inconclusive": [where]})


def _program(ops: str | None, path: Path | None, workload: str | None) -> tuple[Program | None, SavedSchedule | None]:
    given = [name for name, value in (("--ops", ops), ("--program", path), ("--workload", workload)) if value]
    if len(given) != 1:
        told = " and ".join(given) or "none"
        raise ConfigError(f"say what to explore with one of --ops, --program, --workload; given: {told}")
    if workload is not None and workload not in WORKLOADS:
        raise ConfigError(f"--workload {workload}: is not one of {', '.join(WORKLOADS)}")
    if ops is not None:
        return program_from_text(ops), None
    if path is not None:
        return program_from_file(path)
    return None, None


def _require_cpus(program: Program, scenario: Scenario) -> None:
    for task in program.tasks:
        if task.cpu not in scenario.online_cpus():
            raise ConfigError(f"--cpus {scenario.cpus}: the program has a task on CPU {task.cpu}")


def _explore(
    spec: ExploreSpec,
    seconds: float | None,
    schedules: int | None,
    jobs: int,
    state: Path | None,
    out: Path | None,
    stall_seconds: float,
    *,
    is_json: bool,
    is_quiet: bool,
) -> int:
    folder = run_folder.create(COMMAND, out)
    log_to(folder)

    def give_up(where: str) -> None:
        _give_up(where, is_json=is_json)
        sys.stdout.flush()
        os._exit(STALLED_STATUS)

    shown = _Shown(is_quiet=is_quiet or is_json)
    with Interrupt(ends_at_once=True) as interrupt:
        campaign = Campaign(
            spec,
            jobs=jobs,
            state_path=state,
            stall_seconds=stall_seconds,
            should_stop=interrupt,
            on_progress=shown.update,
        )
        if campaign.is_resumed:
            logger.info("goes on from {}: {} executions so far", state, campaign.state.coverage.executions)
        with Watchdog(campaign.explorer, stall_seconds, give_up):
            campaign.run(seconds=seconds, schedules=schedules)
    shown.end()
    result = campaign.result()
    files: dict[str, Path] = {}
    for fingerprint, saved in campaign.state.coverage.schedules.items():
        (folder / "schedules").mkdir(exist_ok=True)
        files[fingerprint] = folder / "schedules" / f"{fingerprint}.json"
        write_schedule(saved, files[fingerprint])
    told = result.as_dict()
    told["program"] = spec.program.as_dict()
    told["preemptions"] = spec.preemptions
    for entry in told["violations"]:
        entry["schedule"] = str(files[entry["fingerprint"]].relative_to(folder))
    write_atomically(folder / RESULT_FILE, to_json(told) + "\n")
    if is_json:
        print_object(told)
    else:
        print_lines(render_explored(result, spec.program, files, spec.preemptions))
    return result.exit_status


class _Shown:
    """How far it is, on one line of a terminal, or now and then in the log."""

    def __init__(self, *, is_quiet: bool) -> None:
        self.is_live = not is_quiet and sys.stderr.isatty()
        self._logged_seconds = 0.0

    def update(self, state: CampaignState) -> None:
        """About once a second."""
        coverage = state.coverage
        line = (
            f"{state.seconds:6.0f} s  {coverage.complete:,} complete, {coverage.cut:,} cut, "
            f"{counted(len(coverage.findings), 'finding')}"
        )
        if self.is_live:
            print(f"\r{line:78}", end="", file=sys.stderr, flush=True)
        if state.seconds - self._logged_seconds >= 10:
            self._logged_seconds = state.seconds
            logger.info(line)

    def end(self) -> None:
        """Leave the line."""
        if self.is_live:
            print(f"\r{'':78}\r", end="", file=sys.stderr, flush=True)
