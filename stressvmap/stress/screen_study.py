# SPDX-License-Identifier: GPL-2.0-only
"""Is screening ever silent where a check fires, and how much does it flag without need? (`make screen-check`)

Each version is run under random programs; every run is screened and judged, whatever screening says, and the two are
compared check by check. Races are told in full here: the table of those seen before, which saves judging them again
and again, is left out of the proof and counted apart (`share`).
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from stressvmap.checks.registry import CHECK_NAMES
from stressvmap.scenario import WORKLOADS, Scenario
from stressvmap.sched.portfolio import make_strategy
from stressvmap.stress import subject
from stressvmap.stress.execution import Executor
from stressvmap.stress.judge import Judge
from stressvmap.stress.workloads import draw
from stressvmap.tree.backend import TreeBackend
from stressvmap.tree.fetch import archive_of
from stressvmap.tree.library import EVENT_BYTES
from stressvmap.tree.screen import BIT_OF_CHECK, RACE_REPORTS, UNKNOWN, Choice, names_of
from stressvmap.tree.sources import PREFIX
from stressvmap.tree.version import PATCH, with_options

STRATEGIES: Final = ("sticky", "switch-points", "random")
ALL_RACES: Final = (1 << 32) - 1
LEARNING_RUNS: Final = 200
"""Before shares are counted: the first runs show the types and locks, and the first of each race."""
PATCHES: Final = Path("configs/patches")
SUBJECTS: Final = (
    ("6.1", ""),
    ("6.12", ""),
    *(
        ("6.1", f"mutants/6.1/{name}.patch")
        for name in (
            "aliases-keeps-purge-lock",
            "aliases-purge-unlocked",
            "block-dirty-max-unset",
            "block-space-not-lazy",
            "first-pages-not-taken",
            "full-block-reinitialised",
            "full-block-stays-listed",
            "lazy-not-counted",
            "lazy-root-not-reset",
            "purge-does-not-flush",
            "purge-list-unlocked",
            "purge-start-not-widened",
            "vb-alloc-space-not-checked",
            "vb-free-clears-last",
        )
    ),
    ("6.12", "mutants/6.12/block-initialised-late.patch"),
    ("6.12", "reverts/row-42-on-6.12.patch"),
    ("6.12", "reverts/row-44-on-6.12.patch"),
)
"""What is tried if nothing is named: between them they make each check fire."""
CALIBRATION: Final = 20
"""Programs whose lengths a strategy may ask for."""
SHOWN_MAX: Final = 3
STEPS_MAX: Final = 60_000
"""Enough for a livelock to be told, and no more."""


def scenario_of(workload: str, limits: dict[str, float] | None = None) -> Scenario:
    """Short programs: a bug needs few operations, and a judged run costs Python most."""
    return Scenario(
        workload=workload,
        cpus=2,
        operations=5,
        flushes=2,
        window_blocks=12,
        reset_rate=0.1,
        hotplug_rate=0.02,
        fault_rate=0.05,
        steps_max=STEPS_MAX,
        limits=limits or {},
    )


@dataclass(slots=True)
class Counts:
    """What one version's runs came to."""

    version: str
    runs: int = 0
    events: int = 0
    flagged: int = 0
    fired: Counter[str] = field(default_factory=Counter)
    """Runs in which each check fired."""
    silent: Counter[str] = field(default_factory=Counter)
    """Those of them without its bit."""
    without_need: Counter[str] = field(default_factory=Counter)
    """Runs with a bit none of whose checks fired."""
    shown: list[str] = field(default_factory=list)
    """The first silent ones: execution, check, mechanism."""
    share_runs: int = 0
    share: dict[str, float] = field(default_factory=dict)
    """Of those further runs, with the table of races: flagged, judged."""
    flagged_by: dict[str, int] = field(default_factory=dict)
    screen_nanoseconds_per_event: float = 0.0

    def compare(self, execution: str, flags: int, fired: dict[str, str]) -> None:
        """Count one run: its flags, and by check that fired a mechanism of it."""
        self.runs += 1
        self.flagged += bool(flags)
        needed = 0
        for check, mechanism in fired.items():
            self.fired[check] += 1
            needed |= BIT_OF_CHECK[check]
            if not flags & (BIT_OF_CHECK[check] | UNKNOWN):
                self.silent[check] += 1
                if len(self.shown) < SHOWN_MAX:
                    self.shown.append(f"{execution}: {mechanism}")
        if not flags & UNKNOWN:  # what was not told is taken for something else
            self.without_need.update(names_of(flags & ~needed))


class Trial:
    """Runs one version under one scenario, screened."""

    def __init__(self, version: str, scenario: Scenario, strategy: str, race_reports: int, seed: int) -> None:
        self.scenario = scenario
        self.seed = seed
        self.strategy = make_strategy(strategy, seed)
        self.executor = Executor(subject.load(version), scenario)
        self.executor.calibrate(self.strategy, [draw(scenario, seed, number) for number in range(CALIBRATION)])
        backend = self.executor.backend
        assert isinstance(backend, TreeBackend)
        self.backend = backend
        backend.screen.begin(race_reports=race_reports)

    def proof(self, executions: range, judge: Judge, counts: Counts) -> None:
        """Screen and judge."""
        for execution in executions:
            program = draw(self.scenario, self.seed, execution)
            seen = self.executor.run_unseen(program, self.strategy, execution=execution)
            flags = self.executor.backend.flags
            done = self.executor.look(seen.reason, self.seed, execution)
            fired = {one.check: one.mechanism.text() for one in judge.execution(done.journal).violations}
            counts.events += len(done.journal.events)
            counts.compare(f"{self.scenario.workload} {execution}", flags, fired)

    def shares(self, executions: range, choice: Choice) -> tuple[float, int]:
        """Screen only; seconds that it took, and events."""
        seconds, size = 0.0, 0
        for execution in executions:
            program = draw(self.scenario, self.seed, execution)
            self.executor.run_unseen(program, self.strategy, execution=execution)
            began = time.thread_time()
            flags = self.backend.flags
            if execution >= LEARNING_RUNS:
                seconds += time.thread_time() - began
                size += len(self.backend.library.events()) // EVENT_BYTES
                choice.is_to_be_judged(flags)
        return seconds, size

    def close(self) -> None:
        """Give the runtime's greenlets back."""
        self.executor.close()


def study(version: str, runs: int, share_runs: int, limits: dict[str, float] | None = None, seed: int = 1) -> Counts:
    """All workloads and strategies in turn, in this process."""
    counts = Counts(version)
    judge = Judge(limits)
    pairs = [(workload, STRATEGIES[number % len(STRATEGIES)]) for number, workload in enumerate(WORKLOADS)]
    each = -(-runs // len(pairs))
    for workload, strategy in pairs:
        trial = Trial(version, scenario_of(workload, limits), strategy, ALL_RACES, seed)
        trial.proof(range(each), judge, counts)
        trial.close()
    choice = Choice()
    seconds, size = 0.0, 0
    each = -(-share_runs // len(pairs)) if share_runs else -LEARNING_RUNS
    for workload, strategy in pairs:
        trial = Trial(version, scenario_of(workload), strategy, RACE_REPORTS, seed)
        took, had = trial.shares(range(LEARNING_RUNS + each), choice)
        seconds, size = seconds + took, size + had
        trial.close()
    if choice.runs:
        told = choice.as_dict()
        counts.share_runs = choice.runs
        counts.share = {"flagged": told["flagged"] / choice.runs, "judged": told["judged_share"]}
        counts.flagged_by = told["flagged_by"]
        counts.screen_nanoseconds_per_event = seconds / size * 1e9
    return counts


def table(results: Sequence[Counts]) -> str:
    """By check: in how many of all runs it fired, and in how many of those screening was silent."""
    fired = sum((one.fired for one in results), Counter[str]())
    silent = sum((one.silent for one in results), Counter[str]())
    without = sum((one.without_need for one in results), Counter[str]())
    lines = ["| check | runs in which it fired | screening silent |", "|---|---|---|"]
    lines += [f"| {name} | {fired[name]:,} | {silent[name]} |" for name in CHECK_NAMES]
    runs = sum(one.runs for one in results)
    told = ", ".join(f"{name} {count:,}" for name, count in sorted(without.items())) or "none"
    lines += ["", f"{runs:,} runs, {sum(one.events for one in results):,} events. Flagged without need: {told}.", ""]
    lines += ["| version | runs | flagged | judged | ns an event | flagged by |", "|---|---|---|---|---|---|"]
    for one in results:
        if one.share_runs:
            share = f"{one.share['flagged']:.2%} | {one.share['judged']:.2%} | {one.screen_nanoseconds_per_event:.0f}"
            by = ", ".join(f"{name} {count:,}" for name, count in one.flagged_by.items())
            lines.append(f"| {one.version} | {one.share_runs:,} | {share} | {by} |")
    return "\n".join(lines)


def default_versions() -> Iterator[str]:
    """SUBJECTS, as far as their sources are there; the patches are those of the project's own folder."""
    for release, patch in SUBJECTS:
        archive = archive_of(f"linux-source-{release}")
        if archive is not None:
            name = f"{PREFIX}{archive}"
            yield with_options(name, [(PATCH, str((PATCHES / patch).absolute()))]) if patch else name


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if screening was silent anywhere."""
    parser = argparse.ArgumentParser(prog="python -m stressvmap.stress.screen_study", description=__doc__)
    parser.add_argument("versions", nargs="*", metavar="tree:PATH[?patch=FILE]")
    parser.add_argument("--runs", type=int, default=5000, help="screened and judged, of each version")
    parser.add_argument("--share-runs", type=int, default=0, help="screened only, of each version")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", action="append", default=[], metavar="CHECK=N", help="efficiency limit")
    options = parser.parse_args(arguments)
    versions = options.versions or list(default_versions())
    if not versions:
        parser.error("name a tree, or fetch those of the tests (make trees)")
    limits = {name: float(value) for name, _, value in (one.partition("=") for one in options.limit)}
    context = multiprocessing.get_context("spawn")
    results: list[Counts] = []
    with ProcessPoolExecutor(options.jobs, mp_context=context, max_tasks_per_child=1) as pool:
        waiting = [pool.submit(study, one, options.runs, options.share_runs, limits, options.seed) for one in versions]
        for version, future in zip(versions, waiting, strict=True):
            try:
                results.append(future.result())
            except Exception as error:
                print(f"{version}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                continue
            one = results[-1]
            print(f"{version}: {one.runs} runs, fired {dict(one.fired)}, silent {dict(one.silent)}", file=sys.stderr)
            for line in one.shown:
                print(f"  silent: {line}", file=sys.stderr, flush=True)
    print(table(results))
    return int(any(one.silent for one in results) or len(results) < len(versions))


if __name__ == "__main__":
    sys.exit(main())
