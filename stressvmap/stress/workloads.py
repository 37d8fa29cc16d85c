# SPDX-License-Identifier: GPL-2.0-only
"""The workloads: each draws a program for one execution from a scenario and a random source, and nothing else.

A fixed program finds half of what random ones find, so nothing here repeats itself from one execution to the next.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any, Final

from stressvmap.kernel.slab import FAULT_KINDS, KMALLOC, KMEM_CACHE_ALLOC, XA_INSERT
from stressvmap.program import (
    ALIASES,
    MAP,
    OFFLINE,
    ONLINE,
    PAUSE,
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
    Migration,
    Program,
    ProgramOp,
    TaskProgram,
)
from stressvmap.scenario import SWARM, WORKLOADS, Scenario

LONG_PROGRAM: Final = 1000
"""Operations of a task from which on it is worth it to hold equal ones once."""
POINTS_PER_OPERATION: Final = 25
"""About what one operation takes; migrations are spread over so many points."""


_SWARM_RATES: Final = {
    "large_rate": (0.05, 0.2),
    "vmalloc_rate": (0.1, 0.4, 0.8),
    "reset_rate": (0.1, 0.5),
    "aliases_rate": (0.05, 0.2),
    "cross_rate": (0.25, 0.7),
    "migration_rate": (0.02, 0.1),
    "hotplug_rate": (0.02, 0.05),
    "shrink_rate": (0.03, 0.1),
    "walk_rate": (0.03, 0.1),
    "atomic_free_rate": (0.3, 1.0),
    "fault_rate": (0.02, 0.05),
}
"""What half of the programs of a swarm do, each at one of these rates."""


class _Drawer:
    """What the drawing of one program shares: the scenario, the random source, and which worker's slots are which."""

    def __init__(self, scenario: Scenario, random: Random) -> None:
        self.scenario = scenario
        self.random = random
        self._ops: dict[ProgramOp, ProgramOp] = {}
        self.workers = len(scenario.online_cpus()) * scenario.tasks_per_cpu

    def chance(self, rate: float) -> bool:
        return self.random.random() < rate

    def each_once(self, ops: list[ProgramOp]) -> tuple[ProgramOp, ...]:
        """The same operations; of a long program, equal ones as one object, for they are few."""
        if len(ops) < LONG_PROGRAM:
            return tuple(ops)
        return tuple(self._ops.setdefault(op, op) for op in ops)

    def own_slot(self, worker: int) -> int:
        return worker * self.scenario.slots + self.random.randrange(self.scenario.slots)

    def any_slot(self, worker: int) -> int:
        """Another worker's slot, at cross_rate."""
        if self.workers > 1 and self.chance(self.scenario.cross_rate):
            other = self.random.randrange(self.workers - 1)
            return self.own_slot(other if other < worker else other + 1)
        return self.own_slot(worker)

    def size(self) -> int:
        """Pages of a small mapping: each order as likely as the next, with the sizes in between."""
        largest = self.scenario.max_alloc
        limit = 1 << self.random.randrange(largest.bit_length())
        return self.random.randint(limit // 2 + 1, limit)

    def map(self, slot: int) -> ProgramOp:
        """A mapping of one kind or another."""
        scenario = self.scenario
        if self.chance(scenario.vmalloc_rate):
            kind = VMALLOC_RESET if self.chance(scenario.reset_rate) else VMALLOC
            return ProgramOp(kind, slot, self.random.randint(1, scenario.max_alloc))
        if self.chance(scenario.large_rate):
            return ProgramOp(MAP, slot, scenario.max_alloc + self.random.randint(1, scenario.max_alloc))
        return ProgramOp(MAP, slot, self.size())

    def unmap(self, slot: int, slots: dict[int, str]) -> ProgramOp:
        """The operation that empties `slot`, as it was filled by this worker; a vm_unmap_ram where that is not
        known.
        """
        return ProgramOp(VFREE if slots.get(slot, MAP) in (VMALLOC, VMALLOC_RESET) else UNMAP, slot)


def draw(scenario: Scenario, seed: int, execution: int) -> Program:
    """The program of execution number `execution`: a function of scenario, seed and that number alone."""
    random = Random(f"program/{scenario.workload}/{seed}/{execution}")
    if scenario.workload == SWARM:
        scenario = _one_of_a_swarm(scenario, random)
    drawer = _Drawer(scenario, random)
    workload = _WORKLOADS[scenario.workload]
    online = scenario.online_cpus()
    tasks = []
    for worker in range(drawer.workers):
        ops = _with_witnesses(drawer, _with_atomic_frees(drawer, workload(drawer, worker)))
        ops = _with_pressure(drawer, _with_hotplug(drawer, ops))
        tasks.append(TaskProgram(online[worker % len(online)], drawer.each_once(ops), "worker"))
    for flusher in range(scenario.flushers):
        cpu = online[(drawer.workers - 1 - flusher) % len(online)]
        tasks.append(TaskProgram(cpu, drawer.each_once(_flusher(drawer)), "flusher"))
    operations = sum(len(task.ops) for task in tasks)
    return Program(tuple(tasks), _faults(drawer, operations), _migrations(drawer, operations))


def _one_of_a_swarm(scenario: Scenario, random: Random) -> Scenario:
    """Another workload, with half of what there is left out, the rest at rates of this program's own, whatever the
    scenario says of them: what is left out makes room for the rest (swarm testing, Groce et al., ISSTA 2012).
    """
    mix: dict[str, Any] = {
        name: random.choice(rates) if random.random() < 0.5 else 0.0 for name, rates in _SWARM_RATES.items()
    }
    workload = random.choice([name for name in WORKLOADS if name != SWARM])
    return replace(scenario, workload=workload, **mix)


def _flusher(drawer: _Drawer) -> list[ProgramOp]:
    """vm_unmap_aliases now and then: its calls spread over the workers' run."""
    scenario = drawer.scenario
    gap = max(1, 2 * scenario.operations * POINTS_PER_OPERATION // max(1, scenario.flushes))
    ops: list[ProgramOp] = []
    for _ in range(scenario.flushes):
        ops.append(ProgramOp(PAUSE, 0, drawer.random.randrange(gap)))
        ops.append(ProgramOp(ALIASES))
    return ops


def _mixed(drawer: _Drawer, worker: int) -> list[ProgramOp]:
    """Anything, anywhere, in a share of maps that itself differs from program to program."""
    ops: list[ProgramOp] = []
    filled: dict[int, str] = {}
    map_share = drawer.random.uniform(0.4, 0.7)
    for _ in range(drawer.scenario.operations):
        if drawer.chance(drawer.scenario.aliases_rate):
            ops.append(ProgramOp(ALIASES))
        elif drawer.chance(map_share):
            slot = drawer.own_slot(worker)
            op = drawer.map(slot)
            filled.setdefault(slot, op.kind)
            ops.append(op)
        else:
            slot = drawer.any_slot(worker)
            ops.append(drawer.unmap(slot, filled))
            filled.pop(slot, None)
    return ops


def _fill_block(drawer: _Drawer, worker: int) -> list[ProgramOp]:
    """Use blocks up completely, free their pieces out of order."""
    ops: list[ProgramOp] = []
    budget = drawer.scenario.operations
    base = worker * drawer.scenario.block_bits  # as many pieces as pages, at most
    while budget > 0:
        left = drawer.scenario.block_bits
        slots: list[int] = []
        while left:
            size = min(drawer.scenario.max_alloc, 1 << drawer.random.randrange(left.bit_length()))
            if drawer.scenario.block_bits > 64:
                size = min(drawer.scenario.max_alloc, left)
            slot = base + len(slots)
            ops.append(ProgramOp(MAP, slot, size))
            slots.append(slot)
            left -= size
        drawer.random.shuffle(slots)
        for slot in slots:
            if drawer.chance(0.2):
                ops.append(ProgramOp(PAUSE, 0, drawer.random.randrange(4 * POINTS_PER_OPERATION)))
            ops.append(ProgramOp(UNMAP, slot))
        budget -= 2 * len(slots)
    return ops


def _pinned(drawer: _Drawer, worker: int) -> list[ProgramOp]:
    """One long-lived page a block: everything else of the block comes and goes, the block stays."""
    ops: list[ProgramOp] = []
    budget = drawer.scenario.operations
    pins = drawer.workers * drawer.scenario.slots + worker * budget  # nobody else's, and behind all own slots
    while budget > 0:
        ops.append(ProgramOp(MAP, pins, 1))
        pins += 1
        left = drawer.scenario.block_bits - 1
        while left > 0 and budget > 0:
            size = min(1 << (left.bit_length() - 1), drawer.size())
            slot = drawer.own_slot(worker)
            ops += [ProgramOp(MAP, slot, size), ProgramOp(UNMAP, slot)]
            left -= 1 << (size - 1).bit_length()
            budget -= 2
    return ops


def _churn(drawer: _Drawer, worker: int) -> list[ProgramOp]:
    """Map and unmap at once, one slot after the other."""
    ops: list[ProgramOp] = []
    for _ in range(max(1, drawer.scenario.operations // 2)):
        slot = drawer.own_slot(worker)
        op = drawer.map(slot)
        ops += [op, drawer.unmap(slot, {slot: op.kind})]
    return ops


def _fragment(drawer: _Drawer, worker: int) -> list[ProgramOp]:
    """Roman Pen's reproducer (2015): one large piece a block, the rest in halves, so that partly free old blocks
    starve.
    """
    scenario = drawer.scenario
    large, small = scenario.max_alloc, max(1, scenario.max_alloc // 2)
    ops: list[ProgramOp] = []
    slot = worker * scenario.slots
    while len(ops) < scenario.operations:
        ops += [ProgramOp(MAP, slot, large), ProgramOp(UNMAP, slot)]
        for _ in range((scenario.block_bits - large) // small - 1):
            ops += [ProgramOp(MAP, slot, small), ProgramOp(UNMAP, slot)]
    return ops


def _cross_cpu(drawer: _Drawer, worker: int) -> list[ProgramOp]:
    """Mapped here, freed by the next worker, that is on another CPU."""
    ops: list[ProgramOp] = []
    left = (worker - 1) % drawer.workers
    for _ in range(max(1, drawer.scenario.operations // 2)):
        ops.append(drawer.map(drawer.own_slot(worker)))
        slot = drawer.own_slot(left)
        ops.append(ProgramOp(VFREE if drawer.chance(drawer.scenario.vmalloc_rate) else UNMAP, slot))
    return ops


def _seccomp_teardown(drawer: _Drawer, worker: int) -> list[ProgramOp]:
    """Gleixner's case (May 2023): a page with reset permissions, and eight small areas far apart, freed together."""
    base = worker * 32
    ops: list[ProgramOp] = [ProgramOp(VMALLOC_RESET, base, 1)]
    for number in range(1, 9):
        ops += [
            ProgramOp(VMALLOC, base + number, drawer.random.randint(1, 3)),
            ProgramOp(MAP, base + 16 + number, drawer.size()),
        ]
    order = list(range(1, 9))
    drawer.random.shuffle(order)
    ops += [ProgramOp(VFREE, base + number) for number in order]
    ops.append(ProgramOp(VFREE, base))
    ops += [ProgramOp(UNMAP, base + 16 + number) for number in order[: drawer.random.randrange(9)]]
    return ops


def _flushing(drawer: _Drawer, worker: int) -> list[ProgramOp]:
    """Everybody flushes: with one flusher two calls of vm_unmap_aliases hardly ever overlap, and neither finds what the
    other has collected, or waits for it.
    """
    ops: list[ProgramOp] = []
    flush_share = drawer.random.uniform(0.3, 0.8)
    while len(ops) < drawer.scenario.operations:
        slot = drawer.own_slot(worker)
        op = drawer.map(slot)
        ops += [op, drawer.unmap(slot, {slot: op.kind})]
        if drawer.chance(flush_share):
            ops.append(ProgramOp(ALIASES))
    return ops


_WORKLOADS: Final[dict[str, Callable[[_Drawer, int], list[ProgramOp]]]] = {
    "mixed": _mixed,
    "fill-block": _fill_block,
    "pinned": _pinned,
    "churn": _churn,
    "fragment": _fragment,
    "cross-cpu": _cross_cpu,
    "seccomp-teardown": _seccomp_teardown,
    "flushing": _flushing,
}


def _with_witnesses(drawer: _Drawer, ops: list[ProgramOp]) -> list[ProgramOp]:
    """Add reads of what is mapped, and of what was: TOUCH fills a TLB, PROBE would show that an entry outlived its
    mapping.
    """
    if not drawer.scenario.witness:
        return ops
    out: list[ProgramOp] = []
    emptied: list[int] = []
    for op in ops:
        out.append(op)
        if op.kind == MAP and drawer.chance(0.3):
            out.append(ProgramOp(TOUCH, op.slot))
        elif op.kind == UNMAP:
            emptied.append(op.slot)
        elif op.kind == ALIASES:
            out += [ProgramOp(PROBE, slot) for slot in emptied[-2:]]
        if emptied and drawer.chance(0.15):
            out.append(ProgramOp(PROBE, drawer.random.choice(emptied)))
    return out


def _with_hotplug(drawer: _Drawer, ops: list[ProgramOp]) -> list[ProgramOp]:
    """Add CPUs that go offline, and come back or not."""
    rate = drawer.scenario.hotplug_rate
    if not rate:
        return ops
    out: list[ProgramOp] = []
    for op in ops:
        out.append(op)
        if drawer.chance(rate):
            cpu = drawer.random.choice(drawer.scenario.possible_cpus())
            out.append(ProgramOp(drawer.random.choice((OFFLINE, ONLINE)), 0, cpu))
    return out


def _with_pressure(drawer: _Drawer, ops: list[ProgramOp]) -> list[ProgramOp]:
    """Add runs of the shrinkers, and readers of /proc/vmallocinfo."""
    for kind, rate in ((SHRINK, drawer.scenario.shrink_rate), (WALK, drawer.scenario.walk_rate)):
        if not rate:
            continue
        out: list[ProgramOp] = []
        for op in ops:
            out.append(op)
            if drawer.chance(rate):
                out.append(ProgramOp(kind))
        ops = out
    return ops


def _with_atomic_frees(drawer: _Drawer, ops: list[ProgramOp]) -> list[ProgramOp]:
    """Make some vfrees from a context that must not sleep; not where this worker allocated with reset permissions."""
    rate = drawer.scenario.atomic_free_rate
    if not rate:
        return ops
    out: list[ProgramOp] = []
    filled: dict[int, str] = {}
    for op in ops:
        is_atomic = op.kind == VFREE and filled.get(op.slot) != VMALLOC_RESET and drawer.chance(rate)
        if op.kind in (VMALLOC, VMALLOC_RESET, VFREE):
            filled[op.slot] = op.kind
        out.append(ProgramOp(VFREE_ATOMIC, op.slot) if is_atomic else op)
    return out


def _faults(drawer: _Drawer, operations: int) -> tuple[Fault, ...]:
    """About fault_rate * operations failures, each at a request early enough to be made."""
    faults = []
    for _ in range(operations):
        if drawer.chance(drawer.scenario.fault_rate):
            kind = drawer.random.choice(FAULT_KINDS)
            reach = 3 if kind in (KMALLOC, XA_INSERT, KMEM_CACHE_ALLOC) else 2 * drawer.scenario.operations
            faults.append(Fault(kind, 1 + drawer.random.randrange(drawer.workers), drawer.random.randrange(reach)))
    return tuple(faults)


def _migrations(drawer: _Drawer, operations: int) -> tuple[Migration, ...]:
    """About migration_rate * operations involuntary migrations of workers and flushers, anywhere in their run."""
    online = drawer.scenario.online_cpus()
    tasks = drawer.workers + drawer.scenario.flushers
    migrations = []
    for _ in range(operations):
        if len(online) > 1 and drawer.chance(drawer.scenario.migration_rate):
            point = 1 + drawer.random.randrange(POINTS_PER_OPERATION * max(1, operations // max(1, tasks)))
            migrations.append(Migration(1 + drawer.random.randrange(tasks), point, drawer.random.choice(online)))
    return tuple(migrations)
