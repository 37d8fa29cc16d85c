# SPDX-License-Identifier: GPL-2.0-only
"""Concurrent programs and the switches between their tasks, both drawn by Hypothesis, so that it shrinks both.

A test draws an `Interleaving` and runs it::

    from hypothesis import given
    from stressvmap.testing import SMALL, interleavings, known_fingerprints, run_concurrently
    from stressvmap.vmalloc.v6_5 import V6_5


    @given(interleavings(SMALL))
    def test_v6_5_breaks_only_what_is_known(drawn):
        run_concurrently(V6_5, SMALL, drawn.program, drawn.strategy, allow=known_fingerprints(V6_5))

Everything is data: tasks, their operations on numbered slots, and in each operation at most one preemption, drawn
with it and hence left out with it. The simplest interleaving is one operation that nobody preempts; Hypothesis
shrinks towards it, to fewer tasks, operations and preemptions.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, TypeVar

from hypothesis import strategies as st

from stressvmap import program as ops
from stressvmap.kernel.slab import FAULT_KINDS
from stressvmap.program import Fault, Migration, Program, ProgramOp, TaskProgram
from stressvmap.runtime.strategy import Strategy
from stressvmap.scenario import Scenario
from stressvmap.sched.planned import PlannedStrategy, Preemption
from stressvmap.stress.execution import Executor
from stressvmap.stress.judge import Judge
from stressvmap.testing.outcome import Outcome, inconclusive, run_and_judge
from stressvmap.testing.subject import under_test
from stressvmap.vmalloc.base import Vmalloc

POINTS_MAX: Final = 48
"""A preemption strikes within so many points of an operation; few take more, and those idle in their walks."""
RANKS: Final = 4
"""Whom it lets run: more tasks than that are seldom enabled."""
PLACES: Final = POINTS_MAX * RANKS
INJECTED_MAX: Final = 2
"""Faults, and migrations, of one program."""
FAULT_NTH_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class Interleaving:
    """A program, and where its tasks are preempted."""

    program: Program
    preemptions: tuple[Preemption, ...] = ()

    @property
    def strategy(self) -> PlannedStrategy:
        """The strategy that carries the preemptions out."""
        return PlannedStrategy(self.preemptions)


def interleavings(scenario: Scenario) -> st.SearchStrategy[Interleaving]:
    """Interleavings of the size that `scenario` sets: tasks per CPU, flushers, operations, slots.

    Only its rates' being 0 or not matters here: what has rate 0 (large mappings, vmalloc, faults, migrations, hotplug)
    is not drawn. Raises ConfigError for a scenario that makes no sense.
    """
    scenario.validate()
    online = scenario.online_cpus()
    workers = len(online) * scenario.tasks_per_cpu
    number = st.integers(1, workers)
    fault = st.builds(Fault, st.sampled_from(FAULT_KINDS), number, st.integers(0, FAULT_NTH_MAX))
    point = st.integers(1, scenario.operations * POINTS_MAX // 2)
    migration = st.builds(Migration, number, point, st.sampled_from(online))
    return _interleavings(
        _tasks(scenario, _operations(scenario), workers, scenario.operations),
        _tasks(scenario, [ProgramOp(ops.ALIASES)], scenario.flushers, scenario.flushes),
        _a_few(fault, scenario.fault_rate),
        _a_few(migration, scenario.migration_rate if len(online) > 1 else 0.0),
    )


def run_concurrently(
    version: str | type[Vmalloc],
    scenario: Scenario,
    program: Program,
    strategy: Strategy,
    *,
    checks: Collection[str] = (),
    allow: Collection[str] = (),
) -> Outcome:
    """Run `program` on a fresh machine, as `strategy` decides, and judge it. Returns what it came to.

    Raises the VmapViolation of the first violation whose fingerprint is not in `allow`, AssertionError if the
    execution reached the scenario's `steps_max` or a check that was asked for could not run, and ConfigError for a
    version, scenario or check that makes no sense.
    """
    __tracebackhide__ = True
    executor = Executor(under_test(version, scenario, checks), scenario)
    try:
        outcome = run_and_judge(executor, Judge(scenario.limits, checks), program, strategy)
    finally:
        executor.close()
    failure = outcome.failure(allow) or inconclusive((), checks, outcome.not_run)
    if failure is not None:
        raise failure
    return outcome


# -- drawing ----------------------------------------------------------------------------------------------

_Task = tuple[int, list[tuple[ProgramOp, int]]]
"""Its CPU, and of each operation how it is preempted: below PLACES not at all, else at place number so many above."""

T = TypeVar("T")


def _tasks(
    scenario: Scenario, table: list[ProgramOp], tasks: int, operations_max: int
) -> st.SearchStrategy[list[_Task]]:
    step = st.tuples(st.sampled_from(table), st.integers(0, 2 * PLACES - 1))
    task = st.tuples(st.sampled_from(scenario.online_cpus()), st.lists(step, max_size=operations_max))
    return st.lists(task, min_size=tasks, max_size=tasks)


def _operations(scenario: Scenario) -> list[ProgramOp]:
    """What an operation is chosen from, simplest first, each as often as it weighs.

    One choice an operation is all that Hypothesis has to make and to shrink. What fills and empties blocks, and
    vm_unmap_aliases, must prevail, or the rest drowns it. The simplest size is the largest that a block serves: it
    fills one in the fewest calls.
    """
    largest = scenario.max_alloc
    powers = [1 << order for order in reversed(range(largest.bit_length()))]
    slots = range(scenario.slots)
    table = [ProgramOp(ops.MAP, slot, largest) for slot in slots] * 3
    table += [ProgramOp(ops.UNMAP, slot) for slot in slots] * 6
    table += [ProgramOp(ops.ALIASES)] * scenario.slots
    table += [ProgramOp(ops.MAP, slot, pages) for slot in slots for pages in powers]
    if scenario.large_rate:
        table += [ProgramOp(ops.MAP, slot, largest + 1) for slot in slots]
    if scenario.vmalloc_rate:
        table += [ProgramOp(kind, slot, 1) for kind in (ops.VMALLOC, ops.VFREE) for slot in slots]
        table += [ProgramOp(ops.VMALLOC_RESET, slot, 1) for slot in slots] if scenario.reset_rate else []
    if scenario.witness:
        table += [ProgramOp(kind, slot) for kind in (ops.TOUCH, ops.PROBE) for slot in slots]
    cpus = scenario.possible_cpus()
    if len(cpus) > 1:
        table += [ProgramOp(ops.MIGRATE, 0, cpu) for cpu in cpus] if scenario.migration_rate else []
        table += [
            ProgramOp(kind, 0, cpu) for kind in (ops.OFFLINE, ops.ONLINE) for cpu in cpus if scenario.hotplug_rate
        ]
    return table


def _a_few(one: st.SearchStrategy[T], rate: float) -> st.SearchStrategy[list[T]]:
    none: list[T] = []
    return st.just(none) | st.lists(one, max_size=INJECTED_MAX) if rate else st.just(none)


@st.composite  # and not builds, which would have Hypothesis print what it was built from
def _interleavings(
    draw: st.DrawFn,
    workers: st.SearchStrategy[list[_Task]],
    flushers: st.SearchStrategy[list[_Task]],
    faults: st.SearchStrategy[list[Fault]],
    migrations: st.SearchStrategy[list[Migration]],
) -> Interleaving:
    drawn = [(cpu, steps, "worker") for cpu, steps in draw(workers) if steps]
    drawn += [(cpu, steps, "flusher") for cpu, steps in draw(flushers) if steps]
    programs = tuple(TaskProgram(cpu, tuple(operation for operation, _ in steps), role) for cpu, steps, role in drawn)
    preemptions = tuple(
        Preemption(task, operation, 1 + (place - PLACES) // RANKS, place % RANKS)
        for task, (_, steps, _) in enumerate(drawn, 1)
        for operation, (_, place) in enumerate(steps)
        if place >= PLACES
    )
    return Interleaving(Program(programs, tuple(draw(faults)), tuple(draw(migrations))), preemptions)
