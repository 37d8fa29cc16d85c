# SPDX-License-Identifier: GPL-2.0-only
"""What all versions share: the layer's constants and globals, its boot, and the audit of its structures.

A version overrides what it changes. Units: addresses and sizes in bytes, as in the C, unless a name says pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from stressvmap.errors import HarnessError
from stressvmap.journal.events import (
    AUDIT_AREA,
    AUDIT_BEGIN,
    AUDIT_END,
    AUDIT_FIELD,
    AUDIT_INDEXED,
    AUDIT_LIST_BROKEN,
    AUDIT_LISTED,
    AUDIT_OBJECT,
    AUDIT_VALUE,
)
from stressvmap.kernel.areas import BUSY, FREE, LAZY, VmapArea, VmapTree
from stressvmap.kernel.function import kernel_function
from stressvmap.kernel.kernel import Kernel
from stressvmap.kernel.lists import ListHead
from stressvmap.kernel.locks import DEFINE_MUTEX, DEFINE_SPINLOCK
from stressvmap.kernel.percpu import PerCpu, PerCpuPointer
from stressvmap.kernel.struct import AtomicLong, OnStack
from stressvmap.kernel.workqueue import Work
from stressvmap.kernel.xarray import XArray
from stressvmap.known import Known
from stressvmap.ranges import PAGE_SHIFT, PAGE_SIZE
from stressvmap.runtime.access import LOOKS
from stressvmap.vmalloc.structs import VfreeDeferred, VmapBlock, VmapBlockQueue, VmStruct

ULONG_MAX: Final = (1 << 64) - 1
EINVAL: Final = 22
ENOMEM: Final = 12
EBUSY: Final = 16
VMAP_RAM: Final = 1
VMAP_BLOCK: Final = 2
VM_FLUSH_RESET_PERMS: Final = 0x100


def IS_ERR(value: int) -> bool:
    """Whether an address returned by the layer is an error (a negative errno)."""
    return value < 0


def get_order(size: int) -> int:
    """Smallest order whose 2**order pages hold `size` bytes."""
    return max(0, ((size - 1) >> PAGE_SHIFT).bit_length())


@dataclass(frozen=True, slots=True)
class Geometry:
    """The layer's build-time and boot-time constants, for one scenario."""

    block_bits: int
    """VMAP_BBMAP_BITS (pages)."""
    max_alloc: int
    """VMAP_MAX_ALLOC (pages)."""
    window_start_page: int
    """VMALLOC_START."""
    window_end_page: int
    """VMALLOC_END."""
    lazy_max: int
    """lazy_max_pages(), 0: the kernel's formula."""


@dataclass(frozen=True, slots=True)
class Shrinker:
    """struct shrinker: what memory pressure calls."""

    name: str
    count_objects: Callable[[], int]
    scan_objects: Callable[[], None]


class Vmalloc:
    """The vmap layer on one machine. Subclass a version, never this."""

    NAME: ClassVar[str] = ""
    """What `--version` calls it."""
    TITLE: ClassVar[str] = ""
    known: ClassVar[tuple[Known, ...]] = ()
    """What this version is known to break."""
    KWORKERS: ClassVar[int] = 1
    """Kworkers that it needs: one more than can wait for another's work."""

    def __init__(self, kernel: Kernel, geometry: Geometry) -> None:
        machine = kernel.machine
        self.kernel = kernel
        self.machine = machine
        self.memory = kernel.memory
        self.rcu = kernel.rcu
        self.debug_pagealloc = kernel.debug_pagealloc
        self.VMAP_BBMAP_BITS = geometry.block_bits
        self.VMAP_MAX_ALLOC = geometry.max_alloc
        self.VMAP_BLOCK_SIZE = geometry.block_bits << PAGE_SHIFT
        self.VMALLOC_START = geometry.window_start_page << PAGE_SHIFT
        self.VMALLOC_END = geometry.window_end_page << PAGE_SHIFT
        self.lazy_max = geometry.lazy_max
        self._online_bits = len(machine.online).bit_length()
        self.vmap_purge_lock = DEFINE_MUTEX(machine, "vmap_purge_lock")
        self.vmap_init_trees()
        self.vmap_lazy_nr = AtomicLong(machine, "vmap_lazy_nr")
        self.vmap_init_queues()
        self.ne_fit_preload_node: PerCpuPointer[VmapArea] = PerCpuPointer(machine, "ne_fit_preload_node")
        self.drain_vmap_work = Work("drain_vmap_work", self.drain_vmap_area_work)
        self.vmap_notify_list: list[Callable[[], int]] = []
        self.vmap_init_free_space()
        self.shrinkers = self.registered_shrinkers()
        self.vfree_deferred = PerCpu(machine, "vfree_deferred", self.make_vfree_deferred)
        self.vmap_initialized = True

    def vmap_init_trees(self) -> None:
        """The trees of areas and their locks: one busy, one free, one lazy tree (until v6.8)."""
        machine = self.machine
        self.vmap_area_lock = DEFINE_SPINLOCK(machine, "vmap_area_lock")
        self.free_vmap_area_lock = DEFINE_SPINLOCK(machine, "free_vmap_area_lock")
        self.purge_vmap_area_lock = DEFINE_SPINLOCK(machine, "purge_vmap_area_lock")
        self.vmap_area_root = VmapTree(machine, BUSY, self.vmap_area_lock)
        self.free_vmap_area_root = VmapTree(machine, FREE, self.free_vmap_area_lock)
        self.purge_vmap_area_root = VmapTree(machine, LAZY, self.purge_vmap_area_lock)

    def vmap_init_free_space(self) -> None:
        """mm/vmalloc.c:vmap_init_free_space: all of it, the window and what lies around, for an aligned allocation
        passes through there.
        """
        self.free_vmap_area_root.add_boot_space(1, ULONG_MAX)

    def registered_shrinkers(self) -> tuple[Shrinker, ...]:
        """What vmalloc_init registers with the memory management at last: nothing as long as there are no pools."""
        return ()

    def vmap_init_queues(self) -> None:
        """The queues of blocks, and the indexes of them."""
        self.vmap_block_queue: PerCpu[VmapBlockQueue] = PerCpu(self.machine, "vmap_block_queue", self.make_queue)

    def make_queue(self, cpu: int) -> VmapBlockQueue:
        """The queue of one CPU, as vmalloc_init leaves it."""
        queue = VmapBlockQueue(self.machine, cpu)
        queue.free.next = queue.free.prev = queue.free
        return queue

    def make_vfree_deferred(self, cpu: int) -> VfreeDeferred:
        """What vfree_atomic leaves to a work, of one CPU."""
        return VfreeDeferred(self.machine, cpu, self.delayed_vfree_work)

    # -- what a version provides --------------------------------------------------------------------------

    def vm_map_ram(self, pages: Sequence[int], count: int) -> int:
        """Map `count` page frames; their address, or 0."""
        raise NotImplementedError

    def vm_unmap_ram(self, mem: int, count: int) -> None:
        """Unmap what vm_map_ram returned; `count` must be the same."""
        raise NotImplementedError

    def vm_unmap_aliases(self) -> None:
        """When it returns, no CPU's TLB translates any address whose unmapping had completed before the call."""
        raise NotImplementedError

    def vmalloc(self, size: int, vm_flags: int = 0) -> int:
        """Allocate and map `size` bytes; the address, or 0."""
        raise NotImplementedError

    def vfree(self, addr: int) -> None:
        """Free what vmalloc returned."""
        raise NotImplementedError

    @kernel_function
    def vfree_atomic(self, addr: int) -> None:
        """mm/vmalloc.c:vfree_atomic: free what vmalloc returned from a context that must not sleep. A work does it."""
        deferred = self.vfree_deferred.raw_cpu_ptr()
        if deferred.llist_add(addr):
            self.kernel.workqueue.schedule_work(deferred.wq)

    @kernel_function
    def delayed_vfree_work(self, deferred: VfreeDeferred) -> None:
        """mm/vmalloc.c:delayed_vfree_work (v6.4; before, free_work): what one CPU's callers left."""
        for addr in deferred.llist_del_all():
            self.vfree(addr)

    def show_vmallocinfo(self) -> None:
        """Read /proc/vmallocinfo, from its beginning to its end."""
        raise NotImplementedError

    def show_area(self, va: VmapArea) -> None:
        """What a line of it tells of an area; the array of its pages and their number are no fields here."""
        vm = va.vm
        if vm is None:
            self.show_purged(va)
        else:
            self.machine.deref(vm)
            _ = vm.addr, vm.size, vm.flags

    def show_purged(self, va: VmapArea) -> None:
        """The same of one that has no owner to tell of."""
        _ = va.va_start, va.va_end

    def drain_vmap_area_work(self) -> None:
        """The drain work: purge lazily freed areas until they are few."""
        raise NotImplementedError

    # -- shared small print -------------------------------------------------------------------------------

    def lazy_max_pages(self) -> int:
        """mm/vmalloc.c:lazy_max_pages: pages that may be lazily freed before the drain; re-evaluated at each call,
        by the CPUs online. A scenario's own is meant for those online at the start, and follows them likewise.
        """
        self.machine.runtime.note(("online",), LOOKS)
        bits = len(self.machine.online).bit_length()
        if self.lazy_max:
            return max(1, self.lazy_max * bits // self._online_bits)  # the kernel's is never 0
        return bits * ((32 << 20) // PAGE_SIZE)

    def register_vmap_purge_notifier(self, notifier: Callable[[], int]) -> None:
        """Add to vmap_notify_list: called when address space is exhausted, returns the pages it freed."""
        self.vmap_notify_list.append(notifier)

    def shrink_slab(self) -> None:
        """mm/shrinker.c:shrink_slab, at the highest priority: each registered shrinker that counts something scans."""
        for shrinker in self.shrinkers:
            if shrinker.count_objects():
                shrinker.scan_objects()

    def LIST_HEAD(self, name: str) -> ListHead:
        """A list head on the stack."""
        head = ListHead(self.machine, OnStack(self.machine), name)
        head.next = head.prev = head
        return head

    # -- audit --------------------------------------------------------------------------------------------

    def audit(self, moment: str) -> None:
        """Journal a snapshot of the structures; `moment` is "rest" (everything drained) or "between" (no call under
        way).
        """
        record = self.machine.record
        record(AUDIT_BEGIN, 0, moment, 0)
        for name, value in (
            ("block_bits", self.VMAP_BBMAP_BITS),
            ("window_start", self.VMALLOC_START >> PAGE_SHIFT),
            ("window_end", self.VMALLOC_END >> PAGE_SHIFT),
            ("vmap_lazy_nr", self.vmap_lazy_nr.value),
            ("frames_owned", len(self.kernel.frames.owned)),
            ("direct_map_holes", len(self.memory.direct_map_holes)),
        ):
            record(AUDIT_VALUE, 0, name, value)
        self.audit_blocks()
        reached: set[object] = set(self.ne_fit_preload_node.values())
        for where, area in self.audited_areas():
            record(AUDIT_AREA, area.start_raw() >> PAGE_SHIFT, where, area.end_raw() >> PAGE_SHIFT)
            if where == BUSY:
                reached.add(area.values.get("vm"))
        for struct in list(self.machine.live.values()):
            if isinstance(struct, (VmapBlock, VmapArea, VmStruct)) and struct not in reached:
                record(AUDIT_OBJECT, struct.id, struct.STRUCT, 0)
        record(AUDIT_END, 0, "", 0)

    def audit_blocks(self) -> None:
        """The free lists, and the blocks that the index leads to."""
        for cpu, queue in self.vmap_block_queue.instances():
            self.audit_free_list(cpu, queue)
            self.audit_index(queue.vmap_blocks)

    def audited_areas(self) -> Iterator[tuple[str, VmapArea]]:
        """Where each area is (`busy`, `lazy`, `free`, `pool`), and the area."""
        for tree in (self.vmap_area_root, self.purge_vmap_area_root, self.free_vmap_area_root):
            for area in tree.areas():
                yield tree.name, area

    def audit_free_list(self, cpu: int, queue: VmapBlockQueue) -> None:
        """Walk the free list of `cpu`."""
        record = self.machine.record
        record(AUDIT_FIELD, queue.id, "cpu", cpu)
        node, previous = queue.free.next, queue.free
        limit = len(self.machine.live) + 1
        while node is not None and node is not queue.free and limit:
            record(AUDIT_LISTED, node.owner.id, "free", cpu)
            if node.prev is not previous:
                record(AUDIT_LIST_BROKEN, node.owner.id, "free", cpu)
            previous, node = node, node.next
            limit -= 1
        if node is not queue.free or queue.free.prev is not previous:
            record(AUDIT_LIST_BROKEN, queue.id, "free", cpu)

    def audit_index(self, vmap_blocks: XArray[VmapBlock]) -> None:
        """The blocks in one xarray."""
        for index, vb in sorted(vmap_blocks.entries.items()):
            if index < 0:
                raise HarnessError("a negative xarray index")
            self._audit_block(vb)

    def _audit_block(self, vb: VmapBlock) -> None:
        record = self.machine.record
        values = vb.values
        area: VmapArea = values["va"]
        start = area.start_raw() >> PAGE_SHIFT
        record(AUDIT_INDEXED, vb.id, "vmap_blocks", start)
        record(AUDIT_FIELD, vb.id, "va_start", start)
        for name in ("free", "dirty", "dirty_min", "dirty_max"):
            record(AUDIT_FIELD, vb.id, name, int(values[name]))
        if "used_map" in values:
            record(AUDIT_FIELD, vb.id, "used", int(values["used_map"]).bit_count())
        live = sum(1 for page in range(start, start + self.VMAP_BBMAP_BITS) if page in self.memory.table)
        record(AUDIT_FIELD, vb.id, "mapped", live)
