# SPDX-License-Identifier: GPL-2.0-only
"""Exploring one program of one version, in one process: executions one after the other, each judged, and counted.

What is to be explored comes in *shares*: a stack of decisions below which everything is this process's. All of an
exploration is the share with an empty stack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

from stressvmap.checks.base import Violation
from stressvmap.errors import ConfigError, HarnessError
from stressvmap.program import Program
from stressvmap.result import Finding
from stressvmap.runtime.runtime import DEADLOCK, STEPS_MAX
from stressvmap.scenario import Scenario
from stressvmap.sched.bounded import BoundedSearch
from stressvmap.sched.dpor import SourceDpor
from stressvmap.sched.exploring import CUT, HALTED, ExploringRuntime
from stressvmap.sched.search import Decision, Search
from stressvmap.stress.accesses import JournalAccesses
from stressvmap.stress.allowed_races import Allowed, allowance_of, read_allowed
from stressvmap.stress.execution import Execution
from stressvmap.stress.finding import finding_of
from stressvmap.stress.judge import Judge
from stressvmap.stress.replay import Runner, saved_from
from stressvmap.stress.schedule_file import SavedSchedule
from stressvmap.tree.version import TreeVersion, is_tree
from stressvmap.vmalloc import versions
from stressvmap.vmalloc.backend import CLEANUP_TASK, ModelBackend

DPOR: Final = "source-dpor"
BOUNDED: Final = "preemption-bounded"
CACHING: Final = "happens-before-caching"
BOUNDED_CACHING: Final = "preemption-bounded-caching"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExploreSpec:
    """What is explored: one program of one version, and how."""

    version: str
    scenario: Scenario
    program: Program
    preemptions: int | None = None
    """All schedules with at most so many preemptions; None: all Mazurkiewicz traces."""
    checks: tuple[str, ...] = ()

    @property
    def mode(self) -> str:
        """By its name."""
        if is_tree(self.version):
            return CACHING if self.preemptions is None else BOUNDED_CACHING
        return DPOR if self.preemptions is None else BOUNDED

    def validate(self) -> None:
        """Raises ConfigError for what cannot be explored."""
        self.scenario.validate()
        if self.scenario.limits:
            raise ConfigError(
                "limits: explore judges one execution of each class, and a metric differs within a class; "
                "measure it with stress"
            )
        if not self.program.operations:
            raise ConfigError("the program does nothing: there is nothing to explore")
        if self.preemptions is not None and self.preemptions < 0:
            raise ConfigError(f"--preemptions {self.preemptions}: is below 0")


@dataclass(slots=True)
class Share:
    """Part of an exploration: the decisions that lead there, and how many of them are not to be changed."""

    stack: list[Decision] = field(default_factory=list)
    base: int = 0
    bound: int = 0
    """Of a bounded one: the bound at hand."""
    decisions: list[int] = field(default_factory=list)
    """Of a tree's, instead of `stack`: as the engine tells them."""
    learned: list[int] = field(default_factory=list)
    """Of a tree's: what its search found out of who shares what."""


@dataclass(slots=True)
class Coverage:
    """What was explored: plain data, added up over shares."""

    complete: int = 0
    """Executions run to their end (bounded: within the bounds whose turn it was, each counted once)."""
    cut: int = 0
    """Executions ended when all that could run slept: each leads only to what another one showed."""
    deadlocks: int = 0
    gave_up: int = 0
    """Executions that reached steps_max: then nothing is complete."""
    states: int = 0
    """Of a tree: beginnings of executions that were told apart, and gone on with once."""
    operations: int = 0
    points: int = 0
    flush_calls: int = 0
    aliases_calls: int = 0
    by_bound: dict[int, int] = field(default_factory=dict)
    """Bounded: executions with just so many preemptions."""
    classes: set[int] = field(default_factory=set)
    """Hashes of the Mazurkiewicz traces seen. By source-DPOR each complete execution is one, and there are none."""
    findings: dict[str, Finding] = field(default_factory=dict)
    """By fingerprint. `first_at_schedule` is its number among the executions of its share."""
    schedules: dict[str, SavedSchedule] = field(default_factory=dict)
    """By fingerprint: the first execution that showed it."""
    judged: int = 0
    """Of a tree: executions that the checks have looked at. Of the others screening says that they need not."""
    allowed: dict[str, int] = field(default_factory=dict)
    """Data races that a file of the user's argues for, by entry: in how many judged executions."""
    not_run: dict[str, str] = field(default_factory=dict)

    def add(self, other: Coverage) -> None:
        """Add what another share came to; a finding of both keeps this one's schedule."""
        for finding in other.findings.values():
            finding.first_at_schedule += self.executions
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for bound, executions in other.by_bound.items():
            self.by_bound[bound] = self.by_bound.get(bound, 0) + executions
        self.classes |= other.classes
        for fingerprint, finding in other.findings.items():
            mine = self.findings.get(fingerprint)
            if mine is None:
                self.findings[fingerprint] = finding
                self.schedules[fingerprint] = other.schedules[fingerprint]
            else:
                mine.count += finding.count
        for text, count in other.allowed.items():
            self.allowed[text] = self.allowed.get(text, 0) + count
        self.not_run.update(other.not_run)

    @property
    def executions(self) -> int:
        """All that were run and count."""
        return self.complete + self.cut + self.gave_up


COUNTS: Final = tuple(item.name for item in fields(Coverage) if item.type == "int")
"""What is added up over executions and shares."""


@dataclass(slots=True)
class Progress:
    """What came of a share since it was last asked."""

    coverage: Coverage
    rest: Share | None
    """What is left of it."""
    path: list[tuple[int, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    """Its decisions below `base`: (chosen, enabled, asleep)."""
    requests: list[tuple[int, tuple[int, ...], int]] = field(default_factory=list)
    """What its races ask of those (SourceDpor.requests)."""
    contended: set[tuple[int, str]] = field(default_factory=set)
    """Not empty: locks whose contention is looked at turned up; all that was explored without knowing is void."""


class Explorer:
    """Explores shares of `spec`, one at a time: `begin`, then `go_on` until nothing is left."""

    def __init__(self, spec: ExploreSpec, contended: Sequence[tuple[int, str]] = ()) -> None:
        spec.validate()
        self.spec = spec
        self.scenario = spec.scenario
        self.version = versions.load(spec.version)
        accesses = JournalAccesses(spec.scenario.block_bits, set())
        self.runtime = ExploringRuntime(accesses)
        accesses.contended = self.runtime.contended
        self.runtime.contended.update(contended)
        self.backend = ModelBackend(self.version, spec.scenario, self.runtime)
        self.backend.reset(spec.program)
        self.tasks = [task.id for task in self.runtime.tasks if task.id != CLEANUP_TASK]
        self.reckoner = Reckoner(spec, self)
        self.digest = versions.digest(self.version)
        self._share = Share()
        self._search: Search = SourceDpor(self.tasks)
        self._coverage = Coverage()
        self.is_running = False

    def know(self, coverage: Coverage, seen: bytes) -> None:
        """What another sitting has seen: these searches see nothing twice, and need not know."""

    def seen(self) -> bytes:
        """What another sitting should know: nothing."""
        return b""

    def begin(self, share: Share) -> None:
        """Take on a share. Raises ConfigError if its decisions cannot be carried out."""
        self._share = share
        preemptions = self.spec.preemptions
        self._search = SourceDpor(self.tasks) if preemptions is None else BoundedSearch(self.tasks, share.bound)
        self._search.base = share.base
        if share.stack:
            try:
                self._search.restore(share.stack, self._run)
            except HarnessError as error:
                raise ConfigError(f"--state: its decisions do not fit this program: {error}") from None

    def go_on(self, is_over: Callable[[int], bool], must_halt: Callable[[], bool]) -> Progress:
        """Explore until the share is, or `is_over` (asked with the executions run) says so between two executions, or
        `must_halt` in the midst of one, which then is the next one again.
        """
        self._coverage = Coverage()
        search = self._search
        has_more = True
        while has_more and not is_over(self._coverage.executions):
            mark = search.mark()
            self.runtime.must_halt = must_halt
            reason = self._run(search)
            self.runtime.must_halt = _never
            if self.runtime.is_news:
                return Progress(Coverage(), None, contended=set(self.runtime.contended))
            if reason == HALTED:
                search.rewind(mark)
                break
            self._count(search, reason)
            has_more = search.advance()
            self._refuse_draws(search)
        share = self._share
        progress = Progress(self._coverage, Share(search.save(), share.base, share.bound) if has_more else None)
        if isinstance(search, SourceDpor):
            progress.requests = list(search.requests)
            search.requests = {}
        below = search.nodes[: share.base]
        progress.path = [(node.chosen, node.enabled, tuple(sorted(node.sleep))) for node in below]
        return progress

    def split(self, bound: int) -> tuple[Coverage, list[Share]]:
        """The first execution of a bounded search, and the shares that everything else falls into."""
        reason = self._first(Share(bound=bound))
        self._coverage = Coverage()
        self._count(self._search, reason)
        nodes = self._search.nodes
        shares = []
        for depth, node in enumerate(nodes):
            before = [Decision(other.chosen, other.draws) for other in nodes[:depth]]
            shares += [Share([*before, Decision(task)], depth + 1, bound) for task in node.backtrack[1:]]
        return self._coverage, shares[::-1]

    def first_length(self) -> int:
        """Steps of the exploration's first execution."""
        self._first(Share())
        return len(self._search.nodes)

    def close(self) -> None:
        """Give the runtime's greenlets back."""
        self.runtime.close()

    # -- inside -------------------------------------------------------------------------------------------

    def _first(self, share: Share) -> str:
        """Run the first execution of a share; again, if it is only then known whose contention is looked at."""
        while True:
            self.begin(share)
            reason = self._run(self._search)
            if not self.runtime.is_news:
                return reason

    def _run(self, search: Search) -> str:
        self.backend.reset(self.spec.program)
        self.runtime.watch(search, self.backend.machine.events)
        self.is_running = True
        try:
            return self.backend.run()
        finally:
            self.is_running = False

    def _refuse_draws(self, search: Search) -> None:
        if any(node.draws for node in search.nodes[: search.base]):
            raise ConfigError("--jobs: a version that draws random numbers is explored by one process")

    def _count(self, search: Search, reason: str) -> None:
        coverage = self._coverage
        if reason == CUT:
            coverage.cut += 1
            return
        if isinstance(search, BoundedSearch):
            if search.preemptions < search.bound:
                return  # counted under the bound before
            coverage.by_bound[search.bound] = coverage.by_bound.get(search.bound, 0) + 1
            coverage.classes.add(search.order.class_hash())
        coverage.points += self.runtime.points
        coverage.operations += self.backend.operations
        if reason == STEPS_MAX:
            coverage.gave_up += 1
        else:
            coverage.complete += 1
            coverage.deadlocks += reason == DEADLOCK
        journal = self.backend.journal(execution=coverage.executions)
        runtime = self.runtime
        self.reckoner.take(
            coverage, Execution(reason, journal, runtime.schedule, runtime.points, self.backend.operations)
        )


class Reckoner:
    """Judges executions, and adds what they come to to a coverage."""

    def __init__(self, spec: ExploreSpec, runner: Runner) -> None:
        self.spec = spec
        self.runner = runner
        self.judge = Judge(None, spec.checks)
        self.known = {known.fingerprint: known for known in runner.version.known}
        self.allowed: tuple[Allowed, ...] = ()
        if isinstance(runner.version, TreeVersion) and runner.version.races is not None:
            self.allowed = read_allowed(runner.version.races)

    def take(self, coverage: Coverage, done: Execution) -> None:
        """Judge an execution. Findings are counted by executions taken in."""
        self.judge.state.reset_metrics()
        verdict = self.judge.execution(done.journal)
        metrics = self.judge.metrics()
        coverage.flush_calls += metrics.get("flush_calls", 0)
        coverage.aliases_calls += metrics.get("unmap_aliases_calls", 0)
        coverage.not_run.update(verdict.not_run)
        for violation in {violation.fingerprint: violation for violation in reversed(verdict.violations)}.values():
            entry = allowance_of(violation, done.journal, self.allowed) if self.allowed else None
            if entry is None:
                self._keep(coverage, violation, done)
            else:
                coverage.allowed[entry.text] = coverage.allowed.get(entry.text, 0) + 1

    def _keep(self, coverage: Coverage, violation: Violation, done: Execution) -> None:
        mine = coverage.findings.get(violation.fingerprint)
        if mine is not None:
            mine.count += 1
            return
        finding = finding_of(violation, self.known, coverage.executions)
        finding.program = self.spec.program.as_dict()
        coverage.findings[violation.fingerprint] = finding
        coverage.schedules[violation.fingerprint] = saved_from(
            self.runner, self.spec.program, done, violation, version=self.spec.version, strategy=self.spec.mode
        )


def _never() -> bool:
    return False


def spec_dict(spec: ExploreSpec) -> dict[str, Any]:
    """For JSON."""
    return {
        "version": spec.version,
        "scenario": asdict(spec.scenario),
        "program": spec.program.as_dict(),
        "preemptions": spec.preemptions,
        "checks": list(spec.checks),
    }
