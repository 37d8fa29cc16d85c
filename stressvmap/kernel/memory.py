# SPDX-License-Identifier: GPL-2.0-only
"""Page frames and their owners, the kernel page table, one TLB a CPU, and the flush that interrupts every CPU and
waits for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from stressvmap.journal.events import (
    FLUSH_ARGS,
    FLUSH_BEGIN,
    FLUSH_END,
    FRAME_OWNER,
    FULL_END,
    IPI_SEND,
    PTE_BUSY,
    PTE_CLEAR,
    PTE_SET,
    TLB_FILL,
    TLB_INVALIDATE,
    TLB_READ,
    UNMAP_BEGIN,
    UNMAP_END,
)
from stressvmap.kernel.machine import Machine
from stressvmap.kernel.slab import PTE_ALLOC
from stressvmap.ranges import PAGE_SHIFT
from stressvmap.runtime.access import CHANGES, FREES, LOOKS, NEEDS, Waitable
from stressvmap.runtime.task import Task

EBUSY: Final = 16
ENOMEM: Final = 12

DIRECT_MAP_PAGE: Final = 0x40000
"""The page at which frame 0 appears in the direct map."""
FIRST_FRAME: Final = 0x100


class Frames:
    """The page allocator. A freed frame is the next to be handed out: reuse as early as can be."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._free: list[int] = []
        self._next = FIRST_FRAME
        self._owners = 0
        self.owned: set[int] = set()
        """Frames handed out and not given back."""

    def alloc(self) -> int:
        """A frame with a new owner."""
        self.machine.runtime.note(("frames",), CHANGES)
        if self._free:
            frame = self._free.pop()
        else:
            frame = self._next
            self._next += 1
        self._owners += 1
        self.owned.add(frame)
        self.machine.record(FRAME_OWNER, frame, "", self._owners)
        return frame

    def free(self, frame: int) -> None:
        """The frame belongs to the page allocator again. One that does already is not freed twice (bad_page)."""
        self.machine.runtime.note(("frames",), CHANGES)
        if self.machine.WARN_ON(frame not in self.owned, "a page is freed that nobody owns"):
            return
        self.owned.remove(frame)
        self._free.append(frame)
        self.machine.record(FRAME_OWNER, frame, "", 0)


class Memory:
    """The kernel address space: page table, TLBs, flushes. Units are pages here; `flush_tlb_kernel_range` takes
    addresses, as in the kernel.

    Invariant: a CPU's TLB holds only translations that were in the page table at some time since that CPU last
    invalidated them.
    """

    def __init__(self, machine: Machine, frames: Frames, full_flush_ceiling_pages: int) -> None:
        self.machine = machine
        self.frames = frames
        self.ceiling = full_flush_ceiling_pages
        self.table: dict[int, int] = {}
        """Present PTEs outside the direct map: page to frame."""
        self.direct_map_holes: set[int] = set()
        """Frames whose direct-map PTE is not present."""
        self.tlbs: dict[int, dict[int, int]] = {cpu: {} for cpu in machine.possible}
        self.interrupt_tasks: dict[int, Task] = {}
        self._requests: dict[int, list[_FlushRequest]] = {cpu: [] for cpu in machine.possible}
        self._flushes = 0

    # -- page table ---------------------------------------------------------------------------------------

    def vmap_pages_range_noflush(self, address: int, frames: Sequence[int]) -> int:
        """Map `frames` at `address`: 0, or -ENOMEM / -EBUSY with a prefix mapped.
        mm/vmalloc.c:vmap_pages_range_noflush.
        """
        machine = self.machine
        page = address >> PAGE_SHIFT
        machine.BUG_ON(not frames, "mapping of an empty range")
        for frame in frames:
            if machine.should_fail(PTE_ALLOC):
                return -ENOMEM
            machine.runtime.point(PTE_SET, -page, "pte")
            if page in self.table:
                machine.record(PTE_BUSY, page, self.table[page], 0)
                machine.WARN_ON(True, "a present PTE in a range to map")
                return -EBUSY
            self.table[page] = frame
            machine.record(PTE_SET, page, frame, 0)
            page += 1
        return 0

    def vunmap_range_noflush(self, start: int, end: int) -> None:
        """Clear the PTEs of the addresses [start, end); no TLB is told. mm/vmalloc.c:vunmap_range_noflush."""
        machine = self.machine
        first, last = start >> PAGE_SHIFT, end >> PAGE_SHIFT
        machine.record(UNMAP_BEGIN, first, "", last)
        for page in range(first, last):
            machine.runtime.note(("pte", page), LOOKS)
            if page in self.table:
                machine.runtime.point(PTE_CLEAR, -page, "pte")
                frame = self.table.pop(page, None)
                if frame is not None:
                    machine.record(PTE_CLEAR, page, frame, 0)
        machine.record(UNMAP_END, first, "", last)

    def set_direct_map_invalid_noflush(self, frame: int) -> None:
        """Take a frame out of the direct map; no TLB is told."""
        page = DIRECT_MAP_PAGE + frame
        self.machine.WARN_ON(frame not in self.frames.owned, "the direct map is changed under a page that nobody owns")
        self.machine.record(UNMAP_BEGIN, page, "", page + 1)
        self.machine.runtime.point(PTE_CLEAR, -page, "pte")
        self.direct_map_holes.add(frame)
        self.machine.record(PTE_CLEAR, page, frame, 0)
        self.machine.record(UNMAP_END, page, "", page + 1)

    def set_direct_map_default_noflush(self, frame: int) -> None:
        """Put a frame back into the direct map."""
        page = DIRECT_MAP_PAGE + frame
        self.machine.WARN_ON(frame not in self.frames.owned, "the direct map is changed under a page that nobody owns")
        self.machine.runtime.point(PTE_SET, -page, "pte")
        self.direct_map_holes.discard(frame)
        self.machine.record(PTE_SET, page, frame, 0)

    def page_address(self, frame: int) -> int:
        """A frame's address in the direct map."""
        return (DIRECT_MAP_PAGE + frame) << PAGE_SHIFT

    # -- TLBs ---------------------------------------------------------------------------------------------

    def read_page(self, page: int) -> int | None:
        """Read through this CPU's TLB as copy_from_kernel_nofault does: the frame read, or None for a fault."""
        machine = self.machine
        machine.runtime.point(TLB_READ, -page, "pte")
        tlb = self.tlbs[machine.runtime.current.cpu]
        frame = tlb.get(page)
        if frame is not None:
            machine.record(TLB_READ, page, frame, 1)
            return frame
        frame = self.table.get(page)
        if frame is None:
            return None
        tlb[page] = frame
        machine.record(TLB_FILL, page, frame, 0)
        machine.record(TLB_READ, page, frame, 0)
        return frame

    def flush_tlb_kernel_range(self, start: int, end: int, reason: str = "") -> None:
        """Invalidate the addresses [start, end) on every online CPU; returns when each has answered. Preemption is
        off meanwhile.
        """
        machine = self.machine
        runtime = machine.runtime
        first, last = start >> PAGE_SHIFT, (end + (1 << PAGE_SHIFT) - 1) >> PAGE_SHIFT
        machine.record(FLUSH_ARGS, first, reason, last)
        if self.ceiling and not 0 <= last - first <= self.ceiling:
            first, last = 0, FULL_END
        machine.preempt_disable()
        runtime.note(("flushes",), CHANGES)
        runtime.note(("online",), LOOKS)
        self._flushes += 1
        number = self._flushes
        machine.record(FLUSH_BEGIN, first, number, last)
        request = _FlushRequest(number, first, last, runtime.current)
        own = runtime.current.cpu
        for cpu in machine.online:
            if cpu != own:
                runtime.point(IPI_SEND, 0, "ipi")
                if cpu not in machine.online:  # it has left meanwhile, and its TLB is empty
                    continue
                request.unanswered.append(self.interrupt_tasks[cpu])
                machine.record(IPI_SEND, number, "", cpu)
                runtime.note(("requests", cpu), CHANGES)
                self._requests[cpu].append(request)
                runtime.wake(self.interrupt_tasks[cpu])
        runtime.point(TLB_INVALIDATE, 0, "tlb")
        self._invalidate(own, first, last)
        task = runtime.current
        task.blocked_object, task.blocked_class, task.blocked_owner = 0, "answers to a TLB flush", 0
        task.awaited = request.unanswered
        runtime.point_before(request, 0, 0, "answers")
        runtime.note(("answers", number), NEEDS)
        while request.unanswered:
            runtime.park()
        task.awaited = ()
        machine.record(FLUSH_END, first, number, last)
        machine.preempt_enable()

    def serve_interrupts(self, cpu: int) -> None:
        """Body of a CPU's interrupt pseudo-task: handle what other CPUs asked for."""
        machine = self.machine
        runtime = machine.runtime
        requests = self._requests[cpu]
        task = runtime.current
        runtime.note(("requests", cpu), CHANGES)
        while requests:
            runtime.pin(task)
            task.preempt_count += 1
            runtime.point(TLB_INVALIDATE, 0, "tlb")
            runtime.note(("requests", cpu), CHANGES)
            request = requests.pop(0)
            self._invalidate(cpu, request.first, request.last)
            runtime.note(("answers", request.number), FREES)
            request.unanswered.remove(task)
            task.preempt_count -= 1
            runtime.unpin(task)
            machine.quiescent(task)
            if not request.unanswered:
                runtime.wake(request.initiator)

    def has_interrupts_pending(self, cpu: int) -> bool:
        """Whether `cpu` still has something to answer."""
        return bool(self._requests[cpu])

    def empty_tlb(self, cpu: int) -> None:
        """A CPU that goes offline loses its TLB."""
        self.tlbs[cpu].clear()

    def _invalidate(self, cpu: int, first: int, last: int) -> None:
        tlb = self.tlbs[cpu]
        for page in [page for page in tlb if first <= page < last]:
            del tlb[page]
        self.machine.record(TLB_INVALIDATE, first, "", last)


class _FlushRequest(Waitable):
    """One flush under way: `unanswered` are the interrupts of the CPUs that have not handled it."""

    __slots__ = ("first", "initiator", "last", "number", "unanswered")

    def __init__(self, number: int, first: int, last: int, initiator: Task) -> None:
        self.number = number
        self.first = first
        self.last = last
        self.initiator = initiator
        self.unanswered: list[Task] = []

    @property
    def key(self) -> tuple[int, str]:
        """As its point announces it."""
        return 0, "answers"

    @property
    def is_free(self) -> bool:
        """Whether every CPU has answered."""
        return not self.unanswered
