# SPDX-License-Identifier: GPL-2.0-only
"""The loop over executions, in one process: draw a program, run it, judge its journal, keep what is new.

Everything of execution i depends on (seed, i) alone under the controlled runtime, so any share of the executions can
run in any process.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

from stressvmap.checks.base import Violation
from stressvmap.checks.costs import merge_metrics
from stressvmap.checks.coverage import Tracer
from stressvmap.checks.unseen import CoverageCount
from stressvmap.config import CONTROLLED, THREADS, RunSpec
from stressvmap.errors import ConfigError
from stressvmap.journal.journal import Journal
from stressvmap.journal.store import write
from stressvmap.program import Program
from stressvmap.result import Finding
from stressvmap.runtime.runtime import STEPS_MAX, Runtime
from stressvmap.runtime.strategy import Schedule
from stressvmap.sched.portfolio import make_strategy
from stressvmap.sched.threads import ThreadRuntime
from stressvmap.stress import subject
from stressvmap.stress.allowed_races import Allowed, allowance_of, read_allowed
from stressvmap.stress.execution import Execution, Executor, Unseen
from stressvmap.stress.finding import finding_of
from stressvmap.stress.guard import DIED, Guard
from stressvmap.stress.judge import Judge
from stressvmap.stress.repeat import difference, is_chosen
from stressvmap.stress.replay import saved_from
from stressvmap.stress.schedule_file import SavedSchedule, write_schedule
from stressvmap.stress.search import find_schedule
from stressvmap.stress.workloads import draw
from stressvmap.tree.screen import Choice
from stressvmap.tree.version import TreeVersion
from stressvmap.vmalloc.backend import ModelBackend

SEEN_EVERY: Final = 200
"""Executions from one reckoning of the coverage to the next, for whoever watches."""
SEARCH_SHARE: Final = 0.4
"""Of a run's seconds: how much longer it may take to look for schedules of what its threads found, the new first."""
PROGRAMS: Final = 8192
"""Different programs that a tree runs for one seed; each of them again under other schedules."""
AHEAD: Final = 64
"""Executions made ready beforehand, for the engine of a tree to run one after the other."""
FINDINGS_MAX: Final = 200
"""Distinct findings kept; a version that breaks more ways than that is not understood by listing them."""


@dataclass(slots=True)
class Tally:
    """What a share of a run came to: plain data, sent from a worker process and merged."""

    schedules: int = 0
    operations: int = 0
    points: int = 0
    findings: dict[str, Finding] = field(default_factory=dict)
    """By fingerprint."""
    metrics: dict[str, int] = field(default_factory=dict)
    windows: dict[str, list[int]] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)
    gave_up: int = 0
    """Executions that reached steps_max."""
    first_gave_up: tuple[int, str] | None = None
    """The first of them: its number, and what its tasks were waiting for."""
    repeated: int = 0
    """Executions whose schedule was run a second time."""
    diverged: int = 0
    """Those of them whose journals were not the same."""
    first_diverged: tuple[int, str] | None = None
    """The first of these: its number, and what differed first."""
    coverage: CoverageCount = field(default_factory=CoverageCount)
    dropped: int = 0
    """Violations that were not kept, for there were FINDINGS_MAX distinct findings already."""
    allowed: dict[str, int] = field(default_factory=dict)
    """Data races that a file of the user's argues for, by entry: in how many judged executions."""
    judged: int = 0
    """Executions whose journals the checks have looked at: all of them, but where an oracle in the backend screens."""
    flagged: int = 0
    """Executions that such an oracle flagged."""
    died: int = 0
    """Executions that ended a copy of the process."""
    not_alone: int = 0
    """Executions that a copy did not survive, and another did: which were left out."""

    def merge(self, other: Tally) -> None:
        """Add another share."""
        self.schedules += other.schedules
        self.judged += other.judged
        self.flagged += other.flagged
        self.died += other.died
        self.not_alone += other.not_alone
        self.operations += other.operations
        self.points += other.points
        for fingerprint, finding in other.findings.items():
            mine = self.findings.get(fingerprint)
            if mine is None:
                self.findings[fingerprint] = finding
                continue
            first, later = (finding, mine) if finding.first_at_schedule < mine.first_at_schedule else (mine, finding)
            first.count += later.count
            first.schedule = first.schedule or later.schedule
            self.findings[fingerprint] = first
        self.add_measures(other.metrics, other.windows)
        self.not_run.update(other.not_run)
        self.gave_up += other.gave_up
        self.first_gave_up = min(filter(None, (self.first_gave_up, other.first_gave_up)), default=None)
        self.coverage.merge(other.coverage)
        self.repeated += other.repeated
        self.diverged += other.diverged
        self.first_diverged = min(filter(None, (self.first_diverged, other.first_diverged)), default=None)
        self.dropped += other.dropped
        for text, count in other.allowed.items():
            self.allowed[text] = self.allowed.get(text, 0) + count

    def add_measures(self, metrics: Mapping[str, int], windows: Mapping[str, Sequence[int]]) -> None:
        """Add what other executions measured."""
        self.metrics = merge_metrics(self.metrics, dict(metrics))
        for name, counts in windows.items():
            before = self.windows.get(name, [0, 0])
            self.windows[name] = [before[0] + counts[0], before[1] + counts[1]]


@dataclass(slots=True)
class Checkpoint:
    """All that another process needs to go on with a share."""

    next: int
    """The execution to begin with."""
    tally: Tally
    """Of those before."""
    choice: Choice


class Engine:
    """Runs executions `first`, `first + stride`, ... of a spec. Memory does not grow with their number."""

    def __init__(self, spec: RunSpec, folder: Path | None, *, first: int = 0, stride: int = 1) -> None:
        spec.scenario.validate()
        self.spec = spec
        self.folder = folder
        self.next = first if spec.execution is None else spec.execution
        self.stride = stride
        self.version = subject.load(spec.version)
        self.strategy = make_strategy(spec.strategy, spec.seed)
        self._is_calibrated = False
        self.executor: Executor | None = None
        """Under the controlled runtime only."""
        if spec.runtime == CONTROLLED:
            self.executor = Executor(self.version, spec.scenario)
            self.runtime: Runtime = self.executor.runtime
            self.backend: subject.Backend = self.executor.backend
        elif spec.runtime == THREADS:
            if isinstance(self.version, TreeVersion):
                raise ConfigError(f"runtime: {THREADS} runs the model only; a kernel tree runs under {CONTROLLED}")
            self.runtime = ThreadRuntime(spec.seed + first, spec.scenario.yield_rate)
            self.backend = ModelBackend(self.version, spec.scenario, self.runtime, spools=True)
        else:
            raise ConfigError(f"runtime: {spec.runtime!r} is not one of {THREADS}, {CONTROLLED}")
        self.judge = Judge(spec.scenario.limits, spec.checks)
        self.allowed: tuple[Allowed, ...] = ()
        if isinstance(self.version, TreeVersion) and self.version.races is not None:
            self.allowed = read_allowed(self.version.races)
        self.known = {known.fingerprint: known for known in self.version.known}
        self.tally = Tally()
        self.tracer = Tracer()
        self.guard: Guard | None = None
        """Set: each execution is made in a copy of this process first (a tree's)."""
        self.choice = Choice()
        """Of a tree's runs, those that are judged."""
        self._ahead: deque[tuple[Program, bytes]] = deque()
        """The executions from `next` on that are ready to be run."""
        self._reach = 1
        """How many of them are worth handing over."""
        self._programs: dict[int, Program] = {}
        """Of a tree: those drawn so far, by number."""
        self.seen = (0, 1.0)
        """Distinct journals so far, and the estimated probability that the next is another: of some executions ago."""
        self.searched = 0
        """Schedules run to turn what threads found into a schedule."""
        self.is_stopping = False
        """Set from outside: end after, or inside, the running execution."""
        self.is_finished = False
        """The share is run; only its answer is left to send."""
        self.execution = self.next

    def _calibrate(self, executor: Executor) -> None:
        """Once, before the first execution."""
        if self._is_calibrated:
            return
        self._is_calibrated = True
        spec = self.spec
        programs = [draw(spec.scenario, spec.seed, number) for number in range(self.strategy.calibration)]
        executor.calibrate(self.strategy, programs, None if self.guard is None else self.guard.try_in_copy)

    def is_over(self, started: float) -> bool:
        """Whether a budget of this share is used up."""
        spec = self.spec
        if self.is_stopping:
            return True
        if spec.execution is not None:
            return self.next > spec.execution
        if spec.schedules is not None and self.next >= spec.schedules:
            return True
        if spec.operations is not None and self.tally.operations * self.stride >= spec.operations:
            return True
        if spec.stop_at_first and any(not finding.known for finding in self.tally.findings.values()):
            return True
        return spec.seconds is not None and time.monotonic() - started >= spec.seconds

    def step(self) -> Journal:
        """Run and judge the next execution; its journal."""
        self._advance()
        return self.run_program(self._program(self.execution))

    def _advance(self) -> None:
        self.execution = self.next
        self.next += self.stride

    def step_screened(self) -> None:
        """Run the next execution, and judge it unless the backend's oracle says that there is nothing to see."""
        executor = self.executor
        if executor is None or not executor.backend.is_screened:
            self.step()
            return
        self._calibrate(executor)
        self._look_ahead(executor)
        if self._ahead:
            self._run_ahead(executor)
            return
        self._advance()
        program = self._program(self.execution)
        if self.guard is not None and (died := self._death(self.guard, program)) is not None:
            self._count_death(program, died)
            return
        seen = executor.run_unseen(program, self.strategy, execution=self.execution)
        self._count(executor, program, executor.backend.flags, seen)

    def _look_ahead(self, executor: Executor) -> None:
        """Make ready the executions to come that no strategy needs to be asked in, up to the first of another kind."""
        spec, ahead = self.spec, self._ahead
        last = spec.execution if spec.schedules is None else spec.schedules - 1
        while len(ahead) < AHEAD:
            number = self.next + self.stride * len(ahead)
            if last is not None and number > last:
                return
            program = self._program(number)
            job = executor.job(program, self.strategy, execution=number)
            if job is None:
                return
            ahead.append((program, job))

    def _run_ahead(self, executor: Executor) -> None:
        """Run what was made ready, up to the first run that is flagged or is a sample; where most are, a few at a
        time.
        """
        jobs = [job for _, job in islice(self._ahead, min(self._reach, self.choice.until_sample()))]
        if self.guard is not None and self.guard.try_in_copy(lambda: executor.run_jobs(jobs), executions=len(jobs)):
            self._find_death(self.guard, len(jobs))
            return
        many = executor.run_jobs(jobs)
        self._reach = min(AHEAD, 2 * many.runs)
        passed = many.runs - 1
        for _ in range(passed):
            self._ahead.popleft()
        self.next += self.stride * passed
        self.choice.pass_by(passed)
        self.tally.schedules += passed
        self.tally.points += many.points
        self.tally.operations += many.operations
        self._advance()
        program, _ = self._ahead.popleft()
        self._count(executor, program, many.flags, executor.unseen(many.reason))

    def _death(self, guard: Guard, program: Program) -> Execution | None:
        """The current execution, if the process dies of it."""
        return guard.run(program, self.strategy, seed=self.spec.seed, execution=self.execution)

    def _find_death(self, guard: Guard, runs: int) -> None:
        """A copy has not survived the next `runs` of what was made ready: one at a time from here on, and of one alone
        the step that kills.
        """
        self._reach = 1
        if runs > 1:
            return
        self._advance()
        program, _ = self._ahead.popleft()
        died = self._death(guard, program)
        if died is None:
            self.tally.schedules += 1
            self.tally.not_alone += 1
        else:
            self._count_death(program, died)

    def _count_death(self, program: Program, died: Execution) -> None:
        self.tally.died += 1
        self.tally.flagged += 1
        self.strategy.begin(self.execution)  # for its label
        self._judge(program, died)

    def _count(self, executor: Executor, program: Program, flags: int, seen: Unseen) -> None:
        """Count the current execution, and judge it if its flags, or the counts, say so."""
        tally = self.tally
        tally.flagged += flags != 0
        if self.choice.is_to_be_judged(flags):
            self.strategy.begin(self.execution)  # for its label
            self._judge(program, executor.look(seen.reason, self.spec.seed, self.execution))
        else:
            tally.schedules += 1
            tally.operations += seen.operations
            tally.points += seen.points

    def _program(self, execution: int) -> Program:
        """An execution's. Of a tree, one of PROGRAMS: drawing one takes longer than a tree takes to run it."""
        if not self.backend.is_screened:
            return draw(self.spec.scenario, self.spec.seed, execution)
        number = execution % PROGRAMS
        program = self._programs.get(number)
        if program is None:
            program = self._programs[number] = draw(self.spec.scenario, self.spec.seed, number)
        return program

    def run_program(self, program: Program) -> Journal:
        """Run and judge `program` as the current execution."""
        return self._judge(program, self._execute(program))

    def _judge(self, program: Program, done: Execution) -> Journal:
        journal = done.journal
        if self.is_stopping and done.reason == STEPS_MAX:
            return journal
        tally = self.tally
        verdict = self.judge.execution(journal)
        tally.schedules += 1
        tally.judged += 1
        tally.operations += done.operations
        tally.points += done.points
        tally.not_run.update(verdict.not_run)
        self._cover(journal)
        stem = f"{self.execution:08d}-{self.version.NAME}-{self.spec.scenario.workload}-{self.spec.runtime}"
        if done.reason == STEPS_MAX:
            tally.gave_up += 1
            if tally.first_gave_up is None:
                tally.first_gave_up = (self.execution, self._where_stuck(program, done, stem))
        seen: set[str] = set()
        for violation in verdict.violations:
            if violation.fingerprint not in seen:
                seen.add(violation.fingerprint)
                entry = allowance_of(violation, journal, self.allowed) if self.allowed else None
                if entry is None:
                    self._keep(violation, program, done, stem)
                else:
                    tally.allowed[entry.text] = tally.allowed.get(entry.text, 0) + 1
        if self.spec.keep_journals:
            self._save_journal(journal, stem)
        share = self.strategy.repeat_share
        if share is None:
            share = self.spec.repeat_share
        if self.executor is not None and done.reason != DIED and is_chosen(self.spec.seed, self.execution, share):
            self._repeat(self.executor, program, done)
        return journal

    def _cover(self, journal: Journal) -> None:
        tally = self.tally
        label = THREADS if self.executor is None else self.strategy.label
        footprint = self.tracer.footprint(journal.events)
        tally.coverage.add(label, footprint.class_hash, footprint.pairs, self.execution)
        if tally.schedules % SEEN_EVERY == 0:
            told = tally.coverage.as_dict()
            self.seen = (told["distinct_journals"], told["unseen_estimate"])

    def _execute(self, program: Program) -> Execution:
        spec = self.spec
        if self.executor is not None:
            self._calibrate(self.executor)
            return self.executor.run(program, self.strategy, seed=spec.seed, execution=self.execution)
        self.backend.reset(program)
        reason = self.backend.run()
        journal = self.backend.journal(seed=spec.seed, execution=self.execution)
        return Execution(reason, journal, Schedule(), self.runtime.points, self.backend.operations)

    def _repeat(self, executor: Executor, program: Program, done: Execution) -> None:
        what = difference(executor, program, done)
        if self.is_stopping:  # it may have been cut
            return
        self.tally.repeated += 1
        if what:
            self.tally.diverged += 1
            if self.tally.first_diverged is None:
                self.tally.first_diverged = (self.execution, what)

    def finish(self) -> Tally:
        """End the share: its tally, metrics included. What threads found has a schedule by then, where a search finds
        one.
        """
        self.runtime.close()
        if self.executor is None and self.folder is not None:
            seconds = self.spec.seconds
            until = float("inf") if seconds is None else time.monotonic() + SEARCH_SHARE * seconds
            for finding in sorted(self.tally.findings.values(), key=lambda one: (one.known, one.fingerprint)):
                self._find_schedule(finding, until)
        return self.checkpoint().tally

    def checkpoint(self) -> Checkpoint:
        """Where the share stands, between two executions."""
        tally = replace(self.tally, windows=dict(self.tally.windows))
        tally.add_measures(self.judge.metrics(), self.judge.window_counts())
        return Checkpoint(self.next, tally, self.choice)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from there, before the first execution."""
        self.next, self.tally, self.choice = checkpoint.next, checkpoint.tally, checkpoint.choice

    def _keep(self, violation: Violation, program: Program, done: Execution, stem: str) -> None:
        findings = self.tally.findings
        mine = findings.get(violation.fingerprint)
        if mine is not None:
            mine.count += 1
            return
        if len(findings) >= FINDINGS_MAX:
            self.tally.dropped += 1
            return
        stem = f"{violation.fingerprint}-{stem}"
        finding = finding_of(violation, self.known, self.execution)
        finding.journal = self._save_journal(done.journal, stem)
        finding.schedule = self._save_schedule(program, done, stem, violation)
        finding.program = program.as_dict()
        findings[violation.fingerprint] = finding

    def _find_schedule(self, finding: Finding, until: float) -> None:
        """Look for a schedule of a finding's program that shows the same fingerprint."""
        spec = self.spec

        def stop() -> int:
            self.searched += 1
            return self.is_stopping or time.monotonic() > until

        saved = find_schedule(
            spec.version,
            spec.scenario,
            Program.from_dict(finding.program),
            finding.fingerprint,
            check=finding.check,
            seed=spec.seed,
            schedules_max=spec.search_schedules,
            stop=stop,
        )
        if saved is not None:
            finding.schedule = self._write_schedule(saved, Path(finding.journal).stem)

    def _save_journal(self, journal: Journal, stem: str) -> str:
        """The journal's path in the run's folder; empty if there is none."""
        if self.folder is None:
            return ""
        (self.folder / "journals").mkdir(parents=True, exist_ok=True)
        write(journal, self.folder / "journals" / f"{stem}.svj")
        return f"journals/{stem}.svj"

    def _save_schedule(self, program: Program, done: Execution, stem: str, violation: Violation | None) -> str:
        """The same of a schedule file; empty also where the operating system chose the switches."""
        if self.folder is None or self.executor is None:
            return ""
        saved = saved_from(
            self.executor,
            program,
            done,
            violation,
            version=self.spec.version,
            seed=self.spec.seed,
            strategy=self.strategy.label,
        )
        return self._write_schedule(saved, stem)

    def _write_schedule(self, saved: SavedSchedule, stem: str) -> str:
        assert self.folder is not None
        (self.folder / "schedules").mkdir(parents=True, exist_ok=True)
        write_schedule(saved, self.folder / "schedules" / f"{stem}.json")
        return f"schedules/{stem}.json"

    def _where_stuck(self, program: Program, done: Execution, stem: str) -> str:
        stood = "; ".join(self.backend.unfinished)
        schedule = self._save_schedule(program, done, f"gave-up-{stem}", None)
        where = f"execution {self.execution} (seed {self.spec.seed}): after {done.points} steps"
        kept = f" (its schedule: {schedule})" if schedule else ""
        return f"{where}, still there: {stood}{kept}"


def has_substance(tally: Tally) -> list[str]:
    """Why a run that found nothing has not earned the word clean; empty if it has."""
    reasons = []
    if tally.operations == 0:
        reasons.append("no operation was carried out")
    elif tally.metrics.get("unmap_aliases_calls", 0) == 0:
        reasons.append("no vm_unmap_aliases call returned, so nothing was held to be owed")
    elif tally.metrics.get("flush_calls", 0) == 0:
        reasons.append("no flush was made, so nothing was ever unmapped, or its debt never paid")
    return reasons


def scenario_dict(spec: RunSpec) -> dict[str, Any]:
    """A spec's scenario for JSON."""
    return asdict(spec.scenario)
