# SPDX-License-Identifier: GPL-2.0-only
"""Conformance: a model version and a kernel tree carry out the same programs of one task, and must do the same.

One task and a schedule that never preempts it leave nothing to chance, so everything that a caller or a CPU can see
must be equal, event by event: addresses, failures, page-table entries, flush ranges, address space given back. What
each does inside (how often it locks, what it reads) is its own business. Programs are drawn by hypothesis, which also
shrinks a difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st

from stressvmap.config import RunSpec
from stressvmap.journal import events as ev
from stressvmap.journal.events import Event
from stressvmap.journal.journal import Journal
from stressvmap.kernel.slab import FAULT_KINDS
from stressvmap.program import (
    ALIASES,
    MAP,
    OFFLINE,
    ONLINE,
    PROBE,
    SHRINK,
    TOUCH,
    UNMAP,
    VFREE,
    VFREE_ATOMIC,
    VMALLOC,
    VMALLOC_RESET,
    WALK,
    Fault,
    Program,
    ProgramOp,
    TaskProgram,
)
from stressvmap.result import Finding
from stressvmap.runtime.strategy import COUNT_OVER, Strategy
from stressvmap.runtime.task import Task
from stressvmap.scenario import Scenario
from stressvmap.stress import harness, subject
from stressvmap.stress.execution import Execution, Executor
from stressvmap.tree.version import is_tree

SLOTS: Final = 12
FAULTS_MAX: Final = 3
OPERATIONS_MIN: Final = (1, 30, 40, 60, 80)
"""Lists are at least so long; the first is what a difference shrinks to."""
OPERATIONS_MAX: Final = 100
TO_THE_END: Final = 1 << 30

COMPARED: Final = frozenset(
    {
        ev.API_BEGIN,
        ev.API_END,
        ev.ALLOC_FAILED,
        ev.PTE_SET,
        ev.PTE_CLEAR,
        ev.PTE_BUSY,
        ev.UNMAP_BEGIN,
        ev.UNMAP_END,
        ev.FLUSH_ARGS,
        ev.FLUSH_BEGIN,
        ev.FLUSH_END,
        ev.TLB_FILL,
        ev.TLB_INVALIDATE,
        ev.TLB_READ,
        ev.FRAME_OWNER,
        ev.CPU_OFFLINE,
        ev.CPU_ONLINE,
        ev.SLOT_PUT,
        ev.SLOT_TAKE,
        ev.BUG,
        ev.STOPPED,
    }
)
"""Kinds of which each event must be equal, in one order: what callers and CPUs see."""


class Unpreempted(Strategy):
    """The running task goes on until it blocks or ends; then the enabled one of the lowest id: program, interrupts,
    kworkers, RCU. Draws nothing but 0.
    """

    def begin(self, execution: int) -> None:
        """Nothing to draw."""

    def decide(self, enabled: Sequence[Task], current: Task | None, why_stopped: int) -> tuple[Task, int]:
        """As the class says."""
        if why_stopped == COUNT_OVER and current in enabled:
            assert current is not None
            return current, TO_THE_END
        return enabled[0], TO_THE_END

    def draw(self, n: int) -> int:
        """The first of all."""
        return 0


def seen_from_outside(journal: Journal) -> list[tuple[str, ...]]:
    """What is compared of a journal, event by event; a message of BUG_ON is the code's own, and is left out."""
    told: list[tuple[str, ...]] = []
    for event in journal.events:
        kind = event[0]
        if kind in COMPARED:
            b = "" if kind == ev.BUG else str(event[5])
            told.append((ev.KIND_NAMES[kind], _who(event[1]), f"{event[4]:#x}", b, f"{event[6]:#x}"))
    told += at_rest(journal)
    return told


def at_rest(journal: Journal) -> list[tuple[str, ...]]:
    """Of the last audit: the window's address space by tree, adjacent areas of one tree taken as one."""
    first, last = journal.header["window"]
    areas = sorted(
        (max(event[4], first), min(event[6], last), str(event[5]))
        for event in journal.events
        if event[0] == ev.AUDIT_AREA
    )
    merged: list[tuple[int, int, str]] = []
    for start, end, tree in areas:
        if merged and merged[-1][1] == start and merged[-1][2] == tree and tree in ("free", "lazy"):
            merged[-1] = (merged[-1][0], end, tree)
        else:
            merged.append((start, end, tree))
    return [("at rest", tree, f"{start:#x}", "", f"{end:#x}") for start, end, tree in merged]


def _who(task: int) -> str:
    return "task" if task < 900 else "clean-up" if task == 900 else f"daemon {task}"


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two of them part."""

    program: Program
    at: int
    """Number of the first line that differs."""
    first: list[tuple[str, ...]]
    second: list[tuple[str, ...]]

    def text(self, names: tuple[str, str], context: int = 6) -> str:
        """Side by side, from a few lines before."""
        start = max(0, self.at - context)
        rows = [(f"{'':>5} {names[0]:<58} {names[1]}")]
        for number in range(start, min(max(len(self.first), len(self.second)), self.at + 3)):
            left, right = (_line(one, number) for one in (self.first, self.second))
            rows.append(f"{number:>5} {left:<58}{' ' if left == right else '|'}{right}")
        program = "\n".join(f"      {op.kind} slot {op.slot} pages {op.pages}" for op in self.program.tasks[0].ops)
        faults = "".join(f"\n      fails: {fault.kind} number {fault.nth}" for fault in self.program.faults)
        return "\n".join([*rows, f"  CPU {self.program.tasks[0].cpu}:", program + faults])


def _line(lines: list[tuple[str, ...]], number: int) -> str:
    return " ".join(part for part in lines[number] if part) if number < len(lines) else "(nothing more)"


@dataclass(slots=True)
class Conformance:
    """What came of comparing."""

    programs: int = 0
    operations: list[int] = field(default_factory=list)
    """Of each program that agreed."""
    reached: Counter[str] = field(default_factory=Counter)
    """How many programs met what: overflow, drain, purge, each kind of fault."""
    difference: Difference | None = None
    """The shrunk first one."""


class _Differs(Exception):
    """Two of them parted: for hypothesis to shrink."""

    def __init__(self, difference: Difference) -> None:
        super().__init__("they differ")
        self.difference = difference


@st.composite
def programs(draw: st.DrawFn, scenario: Scenario) -> Program:
    """A program of one task: mappings of all kinds until the window overflows, now and then most of them unmapped,
    flushes, faults.
    """
    least = draw(st.sampled_from(OPERATIONS_MIN))
    operations = draw(st.lists(_operation(scenario), min_size=least, max_size=OPERATIONS_MAX))
    faults = draw(
        st.lists(st.builds(Fault, st.sampled_from(FAULT_KINDS), st.just(1), st.integers(0, 12)), max_size=FAULTS_MAX)
    )
    cpu = draw(st.sampled_from(scenario.online_cpus()))
    return Program((TaskProgram(cpu, tuple(operations)),), tuple(dict.fromkeys(faults)))


def _operation(scenario: Scenario) -> st.SearchStrategy[ProgramOp]:
    slots = st.integers(0, SLOTS - 1)
    largest = scenario.max_alloc
    sizes = st.one_of(st.just(largest), st.integers(1, largest))
    large = st.integers(largest + 1, scenario.block_bits * scenario.window_blocks // 3)
    cpus = st.sampled_from(scenario.possible_cpus())
    return st.one_of(
        st.builds(ProgramOp, st.just(MAP), slots, sizes),
        st.builds(ProgramOp, st.just(MAP), slots, sizes),
        st.builds(ProgramOp, st.just(MAP), slots, large),
        st.builds(ProgramOp, st.sampled_from((VMALLOC, VMALLOC_RESET)), slots, sizes),
        st.builds(ProgramOp, st.just(UNMAP), slots),
        st.builds(ProgramOp, st.just(UNMAP), slots),
        st.builds(ProgramOp, st.sampled_from((VFREE, VFREE_ATOMIC)), slots),
        st.sampled_from((ProgramOp(ALIASES), ProgramOp(ALIASES), ProgramOp(SHRINK), ProgramOp(WALK))),
        st.builds(ProgramOp, st.sampled_from((TOUCH, PROBE)), slots),
        st.builds(ProgramOp, st.sampled_from((OFFLINE, ONLINE)), st.just(0), cpus),
    )


class Pair:
    """Two versions under one scenario, ready to run the same programs."""

    def __init__(self, first: str, second: str, scenario: Scenario) -> None:
        self.names = (first, second)
        self.scenario = scenario
        self.executors = tuple(Executor(subject.load(name), scenario) for name in self.names)

    def run(self, program: Program) -> tuple[Execution, Execution]:
        """Both, unpreempted."""
        first, second = (executor.run(program, Unpreempted()) for executor in self.executors)
        return first, second

    def compare(self, program: Program) -> tuple[Difference | None, tuple[Execution, Execution]]:
        """Where they part, if they do, and what both did."""
        done = self.run(program)
        first, second = (seen_from_outside(one.journal) for one in done)
        if first == second:
            return None, done
        at = next(
            (n for n, (one, other) in enumerate(zip(first, second, strict=False)) if one != other),
            min(len(first), len(second)),
        )
        return Difference(program, at, first, second), done

    def close(self) -> None:
        """Give the runtimes back."""
        for executor in self.executors:
            executor.close()


def conform(pair: Pair, count: int, seed: int, *, progress: Callable[[Conformance], None] | None = None) -> Conformance:
    """Compare on `count` programs drawn from `seed`; stops at the first difference, shrunk. Deterministic."""
    told = Conformance()

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        report_multiple_bugs=False,
        verbosity=hypothesis.Verbosity.quiet,
    )
    @hypothesis.given(programs(pair.scenario))
    def one(program: Program) -> None:
        difference, done = pair.compare(program)
        if difference is not None:
            raise _Differs(difference)
        told.programs += 1
        told.operations.append(done[0].operations)
        told.reached.update(set(_reached(done[0].journal.events, pair.scenario)))
        if progress is not None:
            progress(told)

    try:
        one()
    except _Differs as error:
        told.difference = error.difference
    return told


def _reached(events: Sequence[Event], scenario: Scenario) -> Iterator[str]:
    """What a program has met."""
    for event in events:
        kind, b = event[0], str(event[5])
        if kind == ev.ALLOC_FAILED:
            yield f"fault: {b}"
        elif kind == ev.WORK_BEGIN and "drain" in b:
            yield "drain"
        elif kind == ev.SPACE_BACK:
            yield "purge"
        elif kind == ev.API_END and not event[4] and b in ("vm_map_ram", "vmalloc", "vmalloc_reset"):
            yield "failed call"
        elif kind == ev.API_END and b in ("vm_unmap_aliases", "vfree_atomic", "vmallocinfo"):
            yield b


# -- under concurrency ------------------------------------------------------------------------------------

OFTEN: Final = 20
"""A fingerprint seen so often on one side has to be there on the other."""
TREE_FACTOR: Final = 10
"""A tree runs so many times as many schedules as the model, for it is that much quicker."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A fingerprint, and how often each of the two showed it. A tree's are those of the runs the checks looked at."""

    check: str
    fingerprint: str
    mechanism: str
    counts: tuple[int, int]

    @property
    def is_missing(self) -> bool:
        """Whether one shows it often and the other never."""
        return max(self.counts) >= OFTEN and min(self.counts) == 0


def side_by_side(
    names: tuple[str, str],
    scenario: Scenario,
    schedules: int,
    seed: int,
    *,
    jobs: int = 1,
    stop: Callable[[], int] | None = None,
) -> list[Seen]:
    """What both show under concurrent schedules of the same scenario and strategy, by fingerprint."""
    found: list[dict[str, Finding]] = []
    for name in names:
        count = schedules * (TREE_FACTOR if is_tree(name) else 1)
        spec = RunSpec(version=name, scenario=scenario, seed=seed, schedules=count, repeat_share=0.0)
        result = harness.run(spec, jobs=jobs, stop=stop, command="conform")
        found.append({finding.fingerprint: finding for finding in result.findings})
    told = []
    for fingerprint in sorted(found[0].keys() | found[1].keys()):
        shown = found[0].get(fingerprint) or found[1][fingerprint]
        first, second = (side[fingerprint].count if fingerprint in side else 0 for side in found)
        told.append(Seen(shown.check, fingerprint, shown.mechanism, (first, second)))
    return sorted(told, key=lambda seen: (seen.check, seen.mechanism))
