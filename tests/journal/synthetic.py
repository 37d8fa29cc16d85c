# SPDX-License-Identifier: GPL-2.0-only
"""A journal that looks like the model's, of any length: 8 tasks, their steps interleaved at random."""

import random
from collections.abc import Iterator

from stressvmap.journal.events import (
    API_BEGIN,
    API_END,
    ATOMIC,
    FLUSH_ARGS,
    FLUSH_BEGIN,
    FLUSH_END,
    FRAME_OWNER,
    IPI_SEND,
    LIST_ADD,
    LIST_DEL,
    LOCK,
    LOCK_WAIT,
    OBJECT_ALLOC,
    OBJECT_FREE,
    PREEMPT,
    PTE_CLEAR,
    PTE_SET,
    RCU_READ_LOCK,
    RCU_READ_UNLOCK,
    READ,
    READ_ONCE,
    SPACE_BACK,
    SPACE_OUT,
    TLB_FILL,
    TLB_INVALIDATE,
    TLB_READ,
    TREE_FIND,
    TREE_INSERT,
    UNLOCK,
    UNMAP_BEGIN,
    UNMAP_END,
    WRITE,
    WRITE_ONCE,
    XA_LOAD,
    Event,
)
from stressvmap.journal.journal import Journal

TASKS = 8
CPUS = 4
WINDOW_START = 0x100000
BLOCK_PAGES = 256
BLOCKS = 24
FIELDS = ("free", "dirty", "dirty_min", "dirty_max", "va", "used_map", "cpu", "free_list.next", "free_list.prev")
TREES = ("busy", "lazy", "free")
CALLED = tuple(f"called_function_number_{n}" for n in range(26))

Step = tuple[int, str, int, int | str, int]
"""Kind, function, a, b, c: an event without its task and CPU."""


class _Boot:
    """What the tasks share: frames and flushes are numbered for all."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.frame_owner = 0
        self.flushes = 0
        self.allocated = [1] * (TASKS + 1)

    def object_id(self) -> int:
        owner = self.draw.randint(1, TASKS)
        return owner << 20 | self.draw.randint(max(1, self.allocated[owner] - 30), self.allocated[owner])

    def new_object(self, task: int) -> int:
        self.allocated[task] += 1
        return task << 20 | self.allocated[task]

    def page(self) -> int:
        return WINDOW_START + self.draw.randrange(BLOCKS * BLOCK_PAGES)


def _accesses(boot: _Boot, function: str) -> Iterator[Step]:
    draw = boot.draw
    block = boot.object_id()
    function = draw.choice(CALLED) if draw.random() < 0.3 else function
    yield (LOCK, function, block, "vb->lock", int(draw.random() < 0.05))
    for _ in range(draw.randint(2, 9)):
        field = draw.choice(FIELDS)
        kind = draw.choice((READ, READ, READ, WRITE, READ_ONCE, WRITE_ONCE))
        value = boot.object_id() if "list" in field or field == "va" else draw.randrange(BLOCK_PAGES)
        if field == "used_map":
            value = draw.getrandbits(BLOCK_PAGES)
        yield (kind, function, block, field, value)
    yield (UNLOCK, function, block, "vb->lock", 0)


def _map(boot: _Boot, task: int) -> Iterator[Step]:
    pages = boot.draw.choice((1, 1, 2, 4))
    page = boot.page()
    yield (API_BEGIN, "", 0, "vm_map_ram", pages)
    for _ in range(pages):
        boot.frame_owner += 1
        yield (FRAME_OWNER, "alloc_page", boot.draw.randrange(0x100, 0x400), "", boot.frame_owner)
    yield (RCU_READ_LOCK, "vb_alloc", 0, "", 1)
    yield from _accesses(boot, "vb_alloc")
    yield (RCU_READ_UNLOCK, "vb_alloc", 0, "", 0)
    if boot.draw.random() < 0.1:
        block = boot.new_object(task)
        yield (OBJECT_ALLOC, "new_vmap_block", block, "vmap_block", 0)
        yield (SPACE_OUT, "alloc_vmap_area", page, "area", page + BLOCK_PAGES)
        yield (TREE_INSERT, "alloc_vmap_area", block, boot.draw.choice(TREES), 0)
        yield from _accesses(boot, "new_vmap_block")
        yield (LIST_ADD, "new_vmap_block", block, "free_list", boot.draw.randrange(CPUS) + 1)
    for n in range(pages):
        yield (PTE_SET, "vmap_pages_range_noflush", page + n, boot.draw.randrange(0x100, 0x400), 0)
        yield (TLB_FILL, "read_page", page + n, boot.draw.randrange(0x100, 0x400), 0)
        yield (TLB_READ, "read_page", page + n, boot.draw.randrange(0x100, 0x400), 1)
    yield (API_END, "", page, "vm_map_ram", pages)


def _unmap(boot: _Boot, task: int) -> Iterator[Step]:
    pages = boot.draw.choice((1, 1, 2, 4))
    page = boot.page()
    yield (API_BEGIN, "", page, "vm_unmap_ram", pages)
    yield (XA_LOAD, "vb_free", CPUS + 1, page // BLOCK_PAGES, boot.object_id())
    yield from _accesses(boot, "vb_free")
    yield (UNMAP_BEGIN, "vunmap_range_noflush", page, "", page + pages)
    for n in range(pages):
        yield (PTE_CLEAR, "vunmap_range_noflush", page + n, boot.draw.randrange(0x100, 0x400), 0)
    yield (UNMAP_END, "vunmap_range_noflush", page, "", page + pages)
    yield from _accesses(boot, "vb_free")
    if boot.draw.random() < 0.1:
        yield (LIST_DEL, "free_vmap_block", boot.object_id(), "free_list", 0)
        yield (OBJECT_FREE, "free_vmap_block", boot.object_id(), "vmap_block", 0)
        yield (ATOMIC, "free_vmap_area_noflush", 7, "vmap_lazy_nr", boot.draw.randrange(2000))
    yield (API_END, "", page, "vm_unmap_ram", pages)


def _aliases(boot: _Boot, task: int) -> Iterator[Step]:
    yield (API_BEGIN, "", 0, "vm_unmap_aliases", 0)
    if boot.draw.random() < 0.3:
        yield (LOCK_WAIT, "_vm_unmap_aliases", 6, "vmap_purge_lock", boot.draw.randint(1, TASKS))
    yield (LOCK, "_vm_unmap_aliases", 6, "vmap_purge_lock", 0)
    for _ in range(boot.draw.randint(3, 8)):
        yield from _accesses(boot, "_vm_unmap_aliases")
    yield (TREE_FIND, "__purge_vmap_area_lazy", boot.object_id(), "lazy", boot.page())
    start = boot.page()
    end = start + boot.draw.randint(1, 500)
    boot.flushes += 1
    yield (FLUSH_ARGS, "flush_tlb_kernel_range", start, "purge", end)
    yield (FLUSH_BEGIN, "flush_tlb_kernel_range", start, boot.flushes, end)
    yield (PREEMPT, "flush_tlb_kernel_range", 1, "get_cpu", 0)
    for cpu in range(CPUS):
        yield (IPI_SEND, "flush_tlb_kernel_range", boot.flushes, "", cpu)
        yield (TLB_INVALIDATE, "flush_tlb_kernel_range", start, "", end)
    yield (FLUSH_END, "flush_tlb_kernel_range", start, boot.flushes, end)
    yield (SPACE_BACK, "__purge_vmap_area_lazy", start, "", end)
    yield (UNLOCK, "_vm_unmap_aliases", 6, "vmap_purge_lock", 0)
    yield (API_END, "", 0, "vm_unmap_aliases", 0)


def _program(boot: _Boot, task: int) -> Iterator[Step]:
    while True:
        yield from boot.draw.choices((_map, _unmap, _aliases), (5, 5, 1))[0](boot, task)


def synthetic_events(count: int, seed: int = 1, stay: float = 0.5) -> list[Event]:
    """`count` events; at each, the running task goes on with probability `stay`."""
    draw = random.Random(seed)
    boot = _Boot(draw)
    programs = [_program(boot, task) for task in range(1, TASKS + 1)]
    events: list[Event] = []
    running = 0
    for _ in range(count):
        if draw.random() > stay:
            running = draw.randrange(TASKS)
        kind, function, a, b, c = next(programs[running])
        events.append((kind, running + 1, running % CPUS, function, a, b, c))
    return events


def synthetic_journal(count: int, seed: int = 1) -> Journal:
    """A journal of `synthetic_events`."""
    tasks = {str(task): [f"worker{task}", (task - 1) % CPUS] for task in range(1, TASKS + 1)}
    header = {"version": "v6.4", "tasks": tasks, "window": [WINDOW_START, WINDOW_START + BLOCKS * BLOCK_PAGES]}
    return Journal(header, synthetic_events(count, seed))
