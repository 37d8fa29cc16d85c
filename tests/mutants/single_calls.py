# SPDX-License-Identifier: GPL-2.0-only
"""One call after the other, each to its end: what a caller of the layer sees, to compare two versions by.

A caller relies on the results and addresses of its calls, the page tables, where address space goes and comes back,
the ranges that are flushed, the books between calls and at rest, misuse being reported, and calls that return.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final

from stressvmap import program as ops
from stressvmap.journal import events as ev
from stressvmap.journal.journal import Journal
from stressvmap.kernel.slab import FAULT_KINDS
from stressvmap.program import Fault, Program, ProgramOp, TaskProgram
from stressvmap.ranges import PAGE_SHIFT, PAGE_SIZE
from stressvmap.runtime.task import BugOn
from stressvmap.scenario import Scenario
from stressvmap.sched.sequential import SequentialRuntime
from stressvmap.stress.workloads import draw
from stressvmap.vmalloc.backend import ModelBackend
from stressvmap.vmalloc.base import VM_FLUSH_RESET_PERMS, Vmalloc

AUDIT: Final = ProgramOp("audit")
"""Journal a snapshot of the structures."""
DIRECT: Final = "direct"
"""Make the direct call whose number stands in the slot."""
LARGE_SLOT: Final = 77
"""The mapping that a purge notifier gives back."""

BASE: Final = Scenario(
    cpus=2,
    operations=8,
    slots=4,
    flushes=3,
    window_blocks=6,
    lazy_max=8,
    fault_rate=0.0,
    migration_rate=0.0,
    steps_max=40_000,
)
VARIANTS: Final[tuple[tuple[int, Scenario], ...]] = (
    (6, replace(BASE, vmalloc_rate=0.3, reset_rate=0.5, large_rate=0.1)),
    (4, replace(BASE, workload="fill-block")),
    (3, replace(BASE, workload="pinned", block_bits=16, max_alloc=8)),
    (4, replace(BASE, block_bits=32, max_alloc=8, window_blocks=4, operations=16)),
    (3, replace(BASE, cpus=3, possible=(0, 2, 5), aliases_rate=0.1)),
    (3, replace(BASE, cpus=3, offline=(1,), lazy_max=0, vmalloc_rate=0.2, reset_rate=0.5)),
    (3, replace(BASE, window_blocks=2, large_rate=0.4, operations=14)),
    (3, replace(BASE, workload="churn", large_rate=0.6, lazy_max=3)),
    (2, replace(BASE, debug_pagealloc=True, large_rate=0.2, vmalloc_rate=0.2)),
    (3, replace(BASE, cpus=1, operations=30, slots=20, flushes=1, window_blocks=8, vmalloc_rate=0.0, large_rate=0.0)),
    (4, replace(BASE, cpus=1, operations=30, slots=9, large_rate=0.4, window_blocks=4, lazy_max=64, vmalloc_rate=0.0)),
    (2, replace(BASE, cpus=1, operations=30, slots=9, flushes=2, block_bits=16, max_alloc=8, window_blocks=8)),
)
"""How many programs are drawn from which scenario; each a second time with faults."""


@dataclass(frozen=True, slots=True)
class Calls:
    """A program of which each task makes one call."""

    scenario: Scenario
    program: Program
    is_misuse: bool = False
    """It calls the layer as nobody may: the checks' verdict means nothing, what is reported does."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a run of such a program came to."""

    journal: Journal
    facts: dict[str, list[tuple[Any, ...]]]
    """By what a caller relies on."""


class _Caller(ModelBackend):
    """A backend with audits between the calls, and direct calls of functions that programs have no operation for."""

    def __init__(self, version: type[Vmalloc], scenario: Scenario) -> None:
        self.answers: list[tuple[Any, ...]] = []
        super().__init__(version, scenario, SequentialRuntime())

    def _op_audit(self, op: ProgramOp) -> bool:
        self.vmalloc.audit("between")
        return True

    def _op_direct(self, op: ProgramOp) -> bool:
        name, call = DIRECT_CALLS[op.slot]
        try:
            answer = call(self)
        except BugOn:
            answer = "BUG"
        self.answers.append((name, answer if answer is None or isinstance(answer, int | str) else type(answer).STRUCT))
        return True


def run(version: type[Vmalloc], calls: Calls) -> Seen:
    """Run `calls` on `version`."""
    backend = _Caller(version, calls.scenario)
    backend.reset(calls.program)
    reason = backend.run()
    journal = backend.journal()
    facts: dict[str, list[tuple[Any, ...]]] = {relied_on: [] for relied_on in RELIED_ON}
    changed = 0
    for event in journal.events:
        kind = event[0]
        changed += kind in (ev.PTE_SET, ev.PTE_CLEAR)
        if kind == ev.FLUSH_BEGIN:
            facts["flush ranges"].append((event[4], event[6], changed))
        if kind in _FACTS:
            relied_on, fields = _FACTS[kind]
            if kind != ev.MIGHT_SLEEP or event[6]:
                facts[relied_on].append((kind, *(event[field] for field in fields)))
    facts["results"] += backend.answers
    facts["calls return"].append((reason,))
    return Seen(journal, facts)


def difference(expected: Seen, seen: Seen) -> str:
    """The first thing a caller relies on in which they differ; empty if there is none."""
    for relied_on in RELIED_ON:
        if expected.facts[relied_on] != seen.facts[relied_on]:
            return relied_on
    return ""


RELIED_ON: Final = (
    "calls return",
    "results",
    "page tables",
    "address space",
    "flush ranges",
    "misuse is reported",
    "books",
)
_FACTS: Final[dict[int, tuple[str, tuple[int, ...]]]] = {
    ev.API_END: ("results", (4, 5, 6)),
    ev.PTE_SET: ("page tables", (4,)),
    ev.PTE_CLEAR: ("page tables", (4,)),
    ev.SPACE_OUT: ("address space", (4, 5, 6)),
    ev.SPACE_BACK: ("address space", (4, 6)),
    ev.BUG: ("misuse is reported", (5,)),
    ev.WARN: ("misuse is reported", (5,)),
    ev.MIGHT_SLEEP: ("misuse is reported", (5, 6)),
    ev.ASSERT_HELD: ("misuse is reported", (5,)),
    ev.AUDIT_FIELD: ("books", (5, 6)),
    ev.AUDIT_LISTED: ("books", (5, 6)),
    ev.AUDIT_INDEXED: ("books", (5, 6)),
    ev.AUDIT_AREA: ("books", (4, 5, 6)),
    ev.AUDIT_VALUE: ("books", (5, 6)),
    ev.AUDIT_OBJECT: ("books", (5,)),
    ev.AUDIT_LIST_BROKEN: ("books", (5,)),
}


# -- programs -------------------------------------------------------------------------------------------------


def programs() -> Iterator[Calls]:
    """All programs, the short ones first: scripted ones, one for each direct call, drawn ones."""
    for window_blocks in (3, 4):
        yield Calls(replace(BASE, cpus=1, window_blocks=window_blocks, lazy_max=64), _under_pressure(window_blocks))
    yield Calls(replace(BASE, cpus=1), _pinned())
    yield Calls(BASE, _left_by_its_cpu())
    for used in range(8, 16):
        yield Calls(replace(BASE, block_bits=16, max_alloc=8), _purgeable(used))
    for kind in FAULT_KINDS:
        for nth in range(4):
            for call in _CALLS_THAT_ALLOCATE:
                failed = Fault(kind, len(_PREPARATION) + 1, nth)
                yield Calls(replace(BASE, cpus=3), Program((*_PREPARATION, call), (failed,)))
    for number in range(len(DIRECT_CALLS)):
        tasks = (*_PREPARATION, TaskProgram(0, (ProgramOp(DIRECT, number),)), TaskProgram(0, (AUDIT,)))
        yield Calls(BASE, Program(tasks), is_misuse=True)
    for number, (count, scenario) in enumerate(VARIANTS):
        for execution in range(count):
            random = Random(f"single calls/{number}/{execution}")
            drawn = draw(scenario, 1, execution)
            yield Calls(scenario, _one_by_one(drawn, random))
            yield Calls(scenario, _one_by_one(drawn, random, faults=3))


def _under_pressure(window_blocks: int) -> Program:
    """A block in use, then one that could be purged, then no space: what needs some gets it."""
    operations = [
        *(ProgramOp(ops.MAP, slot, pages) for slot, pages in ((0, 2), (1, 4), (2, 4))),
        ProgramOp(ops.UNMAP, 2),
        *(ProgramOp(ops.MAP, 10 + number, 8) for number in range(window_blocks)),
        AUDIT,
        ProgramOp(ops.MAP, 3, 2),
        AUDIT,
    ]
    return Program(tuple(TaskProgram(0, (op,)) for op in operations))


def _pinned() -> Program:
    """A block that one page keeps alive, of which two other pieces come and go, each flushed when it has gone."""
    operations = [ProgramOp(ops.MAP, 0, 1)]
    for pages in (4, 2):
        operations += [ProgramOp(ops.MAP, 1, pages), ProgramOp(ops.UNMAP, 1), ProgramOp(ops.ALIASES)]
    return Program(tuple(TaskProgram(0, (op,)) for op in operations))


def _left_by_its_cpu() -> Program:
    """Two blocks on the list of a CPU that has gone offline: one in use, with dirty pages, and one that could be
    purged.
    """
    operations = (
        *((1, ProgramOp(ops.MAP, slot, pages)) for slot, pages in ((2, 1), (3, 4), (4, 4))),
        (1, ProgramOp(ops.UNMAP, 3)),
        (1, ProgramOp(ops.UNMAP, 4)),
        (0, ProgramOp(ops.OFFLINE, 0, 1)),
        (0, ProgramOp(ops.ALIASES)),
        (0, AUDIT),
        (0, ProgramOp(ops.VMALLOC_RESET, 1, 1)),
        (0, ProgramOp(ops.VFREE, 1)),
        (0, AUDIT),
    )
    return Program(tuple(TaskProgram(cpu, (op,)) for cpu, op in operations))


def _purgeable(used: int) -> Program:
    """A block of 16 pages of which so many were handed out, and all were given back, and then vm_unmap_aliases."""
    sizes = [8, *(1 << bit for bit in range(3) if used & 1 << bit)]
    slots = range(len(sizes))
    made = [TaskProgram(0, (ProgramOp(ops.MAP, slot, sizes[slot]),)) for slot in slots]
    gone = [TaskProgram(0, (ProgramOp(ops.UNMAP, slot),)) for slot in slots]
    end = (ProgramOp(ops.ALIASES), AUDIT, ProgramOp(ops.MAP, 0, 1), AUDIT)
    return Program((*made, *gone, *(TaskProgram(0, (op,)) for op in end)))


def _one_by_one(drawn: Program, random: Random, faults: int = 0) -> Program:
    """The operations of `drawn`, each in a task of its own, in an order that keeps each task's."""
    left = [(task.cpu, [op for op in task.ops if op.kind != ops.PAUSE]) for task in drawn.tasks]
    tasks: list[TaskProgram] = []
    while any(operations for _, operations in left):
        cpu, operations = random.choice([entry for entry in left if entry[1]])
        tasks.append(TaskProgram(cpu, (operations.pop(0),)))
        if random.random() < 0.2:
            tasks.append(TaskProgram(cpu, (AUDIT,)))
    chosen = tuple(
        Fault(random.choice(FAULT_KINDS), 1 + random.randrange(len(tasks)), random.randrange(2)) for _ in range(faults)
    )
    return Program(tuple(tasks), chosen)


_PREPARATION: Final = tuple(
    TaskProgram(cpu, (ProgramOp(kind, slot, pages),))
    for cpu, kind, slot, pages in (
        (0, ops.MAP, 0, 2),
        (1, ops.MAP, 1, 1),
        (0, ops.MAP, 2, 4),
        (0, ops.VMALLOC, 3, 2),
        (0, ops.MAP, LARGE_SLOT, 6),
        (0, ops.UNMAP, 2, 0),
    )
)

_CALLS_THAT_ALLOCATE: Final = tuple(
    TaskProgram(2, operations)
    for operations in (
        (ProgramOp(ops.MAP, 10, 4), ProgramOp(ops.MAP, 11, 4), AUDIT),
        (ProgramOp(ops.MAP, 10, 5), AUDIT),
        (ProgramOp(ops.VMALLOC_RESET, 10, 2), AUDIT),
    )
)

# -- direct calls ---------------------------------------------------------------------------------------------


def _address(backend: _Caller, slot: int) -> int:
    return backend._slots[slot].address


def _atomically(call: Callable[[_Caller], Any]) -> Callable[[_Caller], Any]:
    def atomic(backend: _Caller) -> Any:
        backend.machine.get_cpu()
        answer = call(backend)
        backend.machine.put_cpu()
        return answer

    return atomic


def _before_boot(call: Callable[[_Caller], Any]) -> Callable[[_Caller], Any]:
    def early(backend: _Caller) -> Any:
        backend.vmalloc.vmap_initialized = False
        answer = call(backend)
        backend.vmalloc.vmap_initialized = True
        return answer

    return early


def _map(backend: _Caller, pages: int) -> int:
    return backend.vmalloc.vm_map_ram([backend.kernel.frames.alloc() for _ in range(pages)], pages)


def _exhaust(backend: _Caller) -> int:
    """Map until there is no space: how often that went well, and how often the notifier was asked."""
    asked = 0

    def notifier() -> int:
        nonlocal asked
        asked += 1
        slot = backend._slots.pop(LARGE_SLOT, None)
        if slot is None:
            return 0
        backend.vmalloc.vm_unmap_ram(slot.address, slot.pages)
        return 1

    backend.vmalloc.register_vmap_purge_notifier(notifier)
    mapped = 0
    while mapped < 40 and _map(backend, 5):
        mapped += 1
    return 100 * asked + mapped


def _last_page_of_a_block_with_space(backend: _Caller) -> None:
    layer: Any = backend.vmalloc
    address = _address(backend, 1)
    vb = layer.addr_to_vb_xa(address).load(layer.addr_to_vb_idx(address))
    vb.values["dirty"] = layer.VMAP_BBMAP_BITS - 1
    layer.vm_unmap_ram(address, 1)


def _free_block_twice(backend: _Caller) -> None:
    layer: Any = backend.vmalloc
    address = _address(backend, 1)
    vb = layer.addr_to_vb_xa(address).load(layer.addr_to_vb_idx(address))
    layer.free_vmap_block(vb)
    layer.free_vmap_block(vb)


def _free_listed_area(backend: _Caller) -> None:
    layer: Any = backend.vmalloc
    va = layer.alloc_vmap_area(PAGE_SIZE, PAGE_SIZE, layer.VMALLOC_START, layer.VMALLOC_END, 0)
    layer.free_vmap_area_noflush(va)


def _layer(call: Callable[[Any], Any]) -> Callable[[_Caller], Any]:
    return lambda backend: call(backend.vmalloc)


def _allocate(size: int, align: int) -> Callable[[_Caller], Any]:
    return _layer(lambda layer: layer.alloc_vmap_area(size, align, layer.VMALLOC_START, layer.VMALLOC_END, 0))


def _find_area(backend: _Caller) -> str:
    layer: Any = backend.vmalloc
    area = layer.find_vm_area(_address(backend, 3))
    return f"{area.addr:#x} {area.size:#x} {area.flags} {len(area.pages)}"


def _unmap_mapped(backend: _Caller) -> None:
    backend.vmalloc.vm_unmap_ram(_address(backend, 0), 2)


DIRECT_CALLS: Final[tuple[tuple[str, Callable[[_Caller], Any]], ...]] = (
    ("map nothing", _layer(lambda layer: layer.vm_map_ram([], 0))),
    ("unmap off a page boundary", _layer(lambda layer: layer.vm_unmap_ram(layer.VMALLOC_START + 1, 1))),
    ("unmap below the window", _layer(lambda layer: layer.vm_unmap_ram(layer.VMALLOC_START - PAGE_SIZE, 1))),
    ("unmap above the window", _layer(lambda layer: layer.vm_unmap_ram(layer.VMALLOC_END + PAGE_SIZE, 1))),
    ("unmap a large one that is not there", _layer(lambda layer: layer.vm_unmap_ram(layer.VMALLOC_END - PAGE_SIZE, 5))),
    ("unmap in a block that is not there", _layer(lambda layer: layer.vm_unmap_ram(layer.VMALLOC_END - PAGE_SIZE, 1))),
    ("vfree NULL", _layer(lambda layer: layer.vfree(0))),
    ("vfree what is not there", _layer(lambda layer: layer.vfree(layer.VMALLOC_END - PAGE_SIZE))),
    ("vfree a mapping", lambda backend: backend.vmalloc.vfree(_address(backend, LARGE_SLOT))),
    ("vb_alloc off a page boundary", _layer(lambda layer: layer.vb_alloc(PAGE_SIZE + 1))),
    ("vb_alloc too large", _layer(lambda layer: layer.vb_alloc((layer.VMAP_MAX_ALLOC + 1) << PAGE_SHIFT))),
    ("vb_alloc nothing", _layer(lambda layer: layer.vb_alloc(0))),
    ("vb_free off a page boundary", lambda b: b.vmalloc.vb_free(_address(b, 1), PAGE_SIZE + 1)),  # type: ignore[attr-defined]
    ("vb_free too large", lambda b: b.vmalloc.vb_free(_address(b, 1), 5 * PAGE_SIZE)),  # type: ignore[attr-defined]
    ("an area of no size", _allocate(0, PAGE_SIZE)),
    ("an area of half a page", _allocate(PAGE_SIZE // 2, PAGE_SIZE)),
    ("an area of one page and a bit", _allocate(PAGE_SIZE + 1, PAGE_SIZE)),
    ("an area at a senseless alignment", _allocate(PAGE_SIZE, 3 * PAGE_SIZE)),
    ("an area at any address", _allocate(PAGE_SIZE, 1)),
    ("an area before boot", _before_boot(_allocate(PAGE_SIZE, PAGE_SIZE))),
    ("an area that fills the window", _allocate(48 * PAGE_SIZE, PAGE_SIZE)),
    ("a block with nothing left free", _layer(lambda layer: layer.new_vmap_block(3))),
    ("a page outside its block", _layer(lambda layer: layer.vmap_block_vaddr(layer.VMALLOC_START, 8))),
    ("free an area that has no pages", _layer(lambda layer: layer.vfree(layer.vmalloc(0, VM_FLUSH_RESET_PERMS)))),
    ("find a vmalloc area", _find_area),
    ("find the area of a mapping", lambda b: b.vmalloc.find_vm_area(_address(b, LARGE_SLOT))),  # type: ignore[attr-defined]
    ("find an area that is not there", _layer(lambda layer: layer.find_vm_area(layer.VMALLOC_END - PAGE_SIZE))),
    (
        "purge without the mutex",
        _layer(lambda layer: layer._purge_vmap_area_lazy(layer.VMALLOC_START, layer.VMALLOC_END)),
    ),
    ("vm_unmap_aliases before boot", _before_boot(_layer(lambda layer: layer.vm_unmap_aliases()))),
    ("map before boot", _before_boot(lambda backend: _map(backend, 5))),
    ("vm_unmap_aliases while atomic", _atomically(_layer(lambda layer: layer.vm_unmap_aliases()))),
    ("map while atomic", _atomically(lambda backend: _map(backend, 1))),
    ("map a large one while atomic", _atomically(lambda backend: _map(backend, 5))),
    ("unmap while atomic", _atomically(_unmap_mapped)),
    ("vfree while atomic", _atomically(lambda backend: backend.vmalloc.vfree(_address(backend, 3)))),
    ("vfree NULL while atomic", _atomically(_layer(lambda layer: layer.vfree(0)))),
    ("use up the address space", _exhaust),
    ("unmap the last page of a block with space", _last_page_of_a_block_with_space),
    ("free a block twice", _free_block_twice),
    ("free an area that is in a tree", _free_listed_area),
)
"""Calls that a program has no operation for: misuse, boot, and what other code may ask of the layer."""
