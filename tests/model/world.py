# SPDX-License-Identifier: GPL-2.0-only
"""Builders for tests of model code: a small world of scripted tasks, and what the checks say of what happened in it.

Tasks are 1, 2, ... in the order given. A script line runs a task until something holds of the operation it is about to
make. Interrupts are served as soon as they are raised, but on the CPUs that the script calls `deaf`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from stressvmap import program as ops
from stressvmap.checks.base import Violation
from stressvmap.journal import events as ev
from stressvmap.journal.events import Event
from stressvmap.journal.journal import Journal
from stressvmap.program import Fault, Migration, Program, ProgramOp, TaskProgram
from stressvmap.runtime.runtime import DEADLOCK, Runtime
from stressvmap.runtime.strategy import BLOCKED, START
from stressvmap.runtime.task import Task
from stressvmap.scenario import Scenario
from stressvmap.sched.controlled import ControlledRuntime
from stressvmap.sched.random import RandomStrategy
from stressvmap.sched.replay import Run, ScriptStrategy
from stressvmap.sched.sequential import SequentialRuntime
from stressvmap.stress.judge import Judge
from stressvmap.stress.workloads import draw
from stressvmap.vmalloc.backend import WINDOW_PAGE, ModelBackend
from stressvmap.vmalloc.base import Vmalloc
from stressvmap.vmalloc.known import UNLOCKED_RANGE, UNMARKED_READS
from stressvmap.vmalloc.rfc_3of3 import Rfc3of3, Rfc3of3OnV6_1
from stressvmap.vmalloc.v6_1 import V6_1
from stressvmap.vmalloc.v6_4 import V6_4
from stressvmap.vmalloc.v6_5 import V6_5
from stressvmap.vmalloc.v6_12 import V6_12

Until = Callable[[Task], bool]

BITS = 8
"""Pages of a block in these worlds; at most 4 of them are handed out at once."""
WINDOW = WINDOW_PAGE
ALWAYS_IN_V6_4 = {known.fingerprint for known in (*UNLOCKED_RANGE, *UNMARKED_READS)}
VERSIONS: tuple[type[V6_4], ...] = (V6_1, Rfc3of3OnV6_1, V6_4, Rfc3of3, V6_5, V6_12)
KWORKER = 2000
RCU = 3000


def irq(cpu: int) -> int:
    """The id of a CPU's interrupt pseudo-task."""
    return 1000 + cpu


# -- programs ---------------------------------------------------------------------------------------------------------


def map_(slot: int, pages: int) -> ProgramOp:
    return ProgramOp(ops.MAP, slot, pages)


def unmap(slot: int) -> ProgramOp:
    return ProgramOp(ops.UNMAP, slot)


def vmalloc(slot: int, pages: int) -> ProgramOp:
    return ProgramOp(ops.VMALLOC, slot, pages)


def vmalloc_reset(slot: int, pages: int) -> ProgramOp:
    return ProgramOp(ops.VMALLOC_RESET, slot, pages)


def vfree(slot: int) -> ProgramOp:
    return ProgramOp(ops.VFREE, slot)


def vfree_atomic(slot: int) -> ProgramOp:
    return ProgramOp(ops.VFREE_ATOMIC, slot)


def touch(slot: int) -> ProgramOp:
    return ProgramOp(ops.TOUCH, slot)


def probe(slot: int) -> ProgramOp:
    return ProgramOp(ops.PROBE, slot)


def migrate(cpu: int) -> ProgramOp:
    return ProgramOp(ops.MIGRATE, 0, cpu)


def offline(cpu: int) -> ProgramOp:
    return ProgramOp(ops.OFFLINE, 0, cpu)


ALIASES = ProgramOp(ops.ALIASES)
SHRINK = ProgramOp(ops.SHRINK)
WALK = ProgramOp(ops.WALK)
PAUSE = ProgramOp(ops.PAUSE, 0, 1)
"""One step between two calls: where a script can stop a task that is in neither."""


def on(cpu: int, *operations: ProgramOp) -> TaskProgram:
    """A task on `cpu`."""
    return TaskProgram(cpu, operations)


# -- scripts ----------------------------------------------------------------------------------------------------------


def until_in(function: str, kind: int, field: str | None = None) -> Until:
    """It is about to make an operation of `kind` (on `field`) in kernel function `function`."""
    return lambda task: task.function == function and task.pending_kind == kind and field in (None, task.pending_field)


def until_kind(kind: int, field: str | None = None) -> Until:
    """It is about to make an operation of `kind` (on `field`), in whatever function."""
    return lambda task: task.pending_kind == kind and field in (None, task.pending_field)


def until_calls(function: str) -> Until:
    """It is in kernel function `function`."""
    return lambda task: task.function == function


def nth(number: int, until: Until) -> Until:
    """`until` holds for the `number`-th time (from 1) of this script line."""
    times = 0

    def counted(task: Task) -> bool:
        nonlocal times
        times += until(task)
        return times >= number

    return counted


def until_pause(task: Task) -> bool:
    """It is at a PAUSE, between two calls."""
    return task.pending_field == "pause"


def until_locked(lock_class: str) -> Until:
    """It holds a lock of this class."""
    return lambda task: any(getattr(lock, "lock_class", "") == lock_class for lock in task.held)


class Script(ScriptStrategy):
    """A ScriptStrategy on a machine whose CPUs answer interrupts at once, the `deaf` ones only when a line says so."""

    def __init__(self, lines: Sequence[Run], deaf: Iterable[int] = ()) -> None:
        super().__init__(lines)
        self.deaf = {irq(cpu) for cpu in deaf}
        self._interrupted: tuple[Task | None, int] | None = None

    def begin(self, execution: int) -> None:
        super().begin(execution)
        self._interrupted = None

    @property
    def is_over(self) -> bool:
        """Every line was followed."""
        return self._line >= len(self.script)

    def decide(self, enabled: Sequence[Task], current: Task | None, why_stopped: int) -> tuple[Task, int]:
        line = None if self.is_over else self.script[self._line].task
        raised = [task for task in enabled if task.is_interrupt and task.id != line]
        served = [task for task in raised if self.is_over or task.id not in self.deaf]
        if served:
            if self._interrupted is None:
                self._interrupted = (current, why_stopped)
            return served[0], 1
        if self._interrupted is not None:
            current, why_stopped = self._interrupted
            self._interrupted = None
            if why_stopped == BLOCKED:
                why_stopped = START
        return super().decide(enabled, current, why_stopped)


# -- worlds -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """An execution, its journal and what the checks say of it."""

    backend: ModelBackend
    reason: str
    journal: Journal
    violations: list[Violation]
    metrics: dict[str, int]

    def of(self, check: str) -> list[Violation]:
        """The violations of one check."""
        return [violation for violation in self.violations if violation.check == check]

    def only(self, check: str) -> Violation:
        """The one violation of this check."""
        found = self.of(check)
        assert len(found) == 1, [violation.message for violation in self.violations]
        return found[0]

    @property
    def checks(self) -> set[str]:
        """The checks that fired, but for those that are always right about v6.4 (test_flush_ranges.py and
        test_data_race.py have them).
        """
        return {found.check for found in self.violations if found.fingerprint not in ALWAYS_IN_V6_4}

    def stories(self, check: str) -> set[tuple[str, str]]:
        """(role, mechanism) of what one check found."""
        return {(found.mechanism.role, found.mechanism.mechanism) for found in self.of(check)}

    def fingerprints(self, check: str) -> set[str]:
        return {violation.fingerprint for violation in self.of(check)}

    def events(self, *kinds: int) -> list[Event]:
        """The events of these kinds."""
        return [event for event in self.journal.events if event[0] in kinds]

    def flushes(self, call: str = "") -> list[tuple[int, int]]:
        """Ranges as computed, in pages from the window on; only of flushes made by `call`, if one is named."""
        return [(start - WINDOW, end - WINDOW) for entry, start, end in self.flush_calls() if call in ("", entry)]

    def flush_calls(self) -> list[tuple[str, int, int]]:
        """(outermost entry point or "", start, end) of each flush, as computed."""
        found = []
        within: dict[int, list[str]] = {}
        for event in self.journal.events:
            calls = within.setdefault(event[1], [])
            if event[0] == ev.API_BEGIN:
                calls.append(str(event[5]))
            elif event[0] == ev.API_END:
                calls.pop()
            elif event[0] == ev.FLUSH_ARGS:
                found.append((calls[0] if calls else "", event[4], event[6]))
        return found

    def returned(self, entry: str) -> list[int]:
        """Pages (from the window's start) that calls of `entry` returned, None being -1."""
        return [event[4] - WINDOW if event[4] else -1 for event in self.events(ev.API_END) if event[5] == entry]


SMALL = {"block_bits": BITS, "max_alloc": 4, "cpus": 2, "lazy_max": 1000, "window_blocks": 8}


def scenario(**changes: object) -> Scenario:
    """Two CPUs, blocks of 8 pages, a drain that never comes; `changes` are fields of Scenario."""
    made = Scenario(**{**SMALL, **changes})  # type: ignore[arg-type]
    made.validate()
    return made


def execute(
    version: type[Vmalloc],
    runtime: Runtime,
    program: Program,
    where: Scenario,
    prepare: Callable[[ModelBackend], None] | None = None,
    only: Sequence[str] = (),
) -> Outcome:
    """Run `program` and judge it. `prepare` may change the machine before it starts."""
    backend = ModelBackend(version, where, runtime)
    backend.reset(program)
    if prepare is not None:
        prepare(backend)
    reason = backend.run()
    journal = backend.journal()
    judge = Judge(only=only)
    verdict = judge.execution(journal)
    return Outcome(backend, reason, journal, verdict.violations, judge.metrics())


def news_of(version: type[Vmalloc], where: Scenario, executions: int) -> set[str]:
    """The checks that find in so many random programs, seed 1, what the version does not declare."""
    known = {known.fingerprint for known in version.known}
    runtime = ControlledRuntime(RandomStrategy(1))
    checks: set[str] = set()
    for number in range(executions):
        runtime.strategy.begin(number)
        outcome = execute(version, runtime, draw(where, 1, number), where)
        checks |= {found.check for found in outcome.violations if found.fingerprint not in known}
    runtime.close()
    return checks


def scripted(
    version: type[Vmalloc],
    *tasks: TaskProgram,
    script: Sequence[Run] = (),
    deaf: Iterable[int] = (),
    faults: Sequence[Fault] = (),
    migrations: Sequence[Migration] = (),
    prepare: Callable[[ModelBackend], None] | None = None,
    **changes: object,
) -> Outcome:
    """Run `tasks` by `script`, the rest of them one after the other. The script must have been followed to its end."""
    strategy = Script(script, deaf)
    strategy.begin(0)
    program = Program(tasks, tuple(faults), tuple(migrations))
    outcome = execute(version, ControlledRuntime(strategy), program, scenario(**changes), prepare)
    assert strategy.is_over or outcome.reason == DEADLOCK, f"script line {strategy._line} was never reached"
    return outcome


def alone(
    version: type[Vmalloc],
    *operations: ProgramOp,
    faults: Sequence[Fault] = (),
    prepare: Callable[[ModelBackend], None] | None = None,
    **changes: object,
) -> Outcome:
    """One task on CPU 0, and nobody else."""
    program = Program((on(0, *operations),), tuple(faults))
    return execute(version, SequentialRuntime(), program, scenario(**changes), prepare)
