# SPDX-License-Identifier: GPL-2.0-only
"""Versions with one bug each, known and understood, for measuring what finds it and how soon (docs/strategies.md).

None of them can be named as `--version`: they are no kernel's, except where one says so.
"""

from __future__ import annotations

from stressvmap.kernel.function import kernel_function, kernel_function_named
from stressvmap.kernel.kernel import Kernel
from stressvmap.kernel.lists import ListHead
from stressvmap.kernel.struct import AtomicLong
from stressvmap.ranges import PAGE_SHIFT
from stressvmap.vmalloc.base import Geometry
from stressvmap.vmalloc.structs import VmapBlock
from stressvmap.vmalloc.v6_4 import V6_4
from stressvmap.vmalloc.v6_5 import V6_5


class WalksDyingBlocks(V6_4):
    """The walk does not test `dirty != VMAP_BBMAP_BITS`, as before ad216c0316ad (v5.13): RCU keeps a block that is
    being purged, but not its area, whose address the walk then reads.
    """

    NAME = "walks-dying-blocks"

    @kernel_function
    def _vm_unmap_aliases(self, start: int, end: int, flush: bool) -> None:
        """mm/vmalloc.c:_vm_unmap_aliases (v6.4, with the condition of v5.12)."""
        for cpu in self.machine.possible:
            vbq = self.vmap_block_queue.per_cpu(cpu)
            self.rcu.read_lock()
            for vb in self.blocks_on(vbq.free):
                with vb.lock:
                    if vb.dirty:
                        va_start = vb.va.va_start
                        start = min(start, va_start + (vb.dirty_min << PAGE_SHIFT))
                        end = max(end, va_start + (vb.dirty_max << PAGE_SHIFT))
                        flush = True
            self.rcu.read_unlock()
        with self.vmap_purge_lock:
            self.purge_fragmented_blocks_allcpus()
            if not self._purge_vmap_area_lazy(start, end) and flush:
                self.memory.flush_tlb_kernel_range(start, end)


class ReleasesMutexBeforeFlush(V6_5):
    """The mutex is let go between the reset of the dirty ranges and their flush."""

    NAME = "releases-mutex-before-flush"

    @kernel_function
    def free_purged_blocks(self, purge_list: ListHead) -> None:
        """mm/vmalloc.c:free_purged_blocks (v6.5), with a gap in front."""
        self.vmap_purge_lock.unlock()
        self.vmap_purge_lock.lock()
        super().free_purged_blocks(purge_list)


class MergesBeforeFlush(V6_4):
    """__purge_vmap_area_lazy gives the areas back before it flushes them."""

    NAME = "merges-before-flush"

    @kernel_function_named("__purge_vmap_area_lazy")
    def _purge_vmap_area_lazy(self, start: int, end: int) -> bool:
        """mm/vmalloc.c:__purge_vmap_area_lazy (v6.4), its two halves swapped."""
        with self.purge_vmap_area_lock:
            areas = self.purge_vmap_area_root.detach_all()
        if not areas:
            return False
        start = min(start, areas[0].va_start)
        end = max(end, areas[-1].va_end)
        with self.free_vmap_area_lock:
            for va in areas:
                nr = (va.va_end - va.va_start) >> PAGE_SHIFT
                self.free_vmap_area_root.merge_or_add(va)
                self.vmap_lazy_nr.sub(nr)
        self.memory.flush_tlb_kernel_range(start, end)
        return True


class FreesWithoutGracePeriod(V6_4):
    """free_vmap_block uses kfree where kfree_rcu is needed."""

    NAME = "frees-without-grace-period"

    @kernel_function
    def free_vmap_block(self, vb: VmapBlock) -> None:
        """mm/vmalloc.c:free_vmap_block (v6.4), its last line changed."""
        xa = self.addr_to_vb_xa(vb.va.va_start)
        xa.erase(self.addr_to_vb_idx(vb.va.va_start))
        with self.vmap_area_lock:
            self.vmap_area_root.erase(vb.va)
        self.free_vmap_area_noflush(vb.va)
        vb.kfree()


class SkipsIfNothingIsNew(V6_5):
    """A shortcut with a bug of depth 3: vm_unmap_aliases returns at once if nothing was unmapped since what the last
    one covered; and what that is, is read after its walk, not before.

    ```
    task 1                                  task 2
    _vm_unmap_aliases: walks, finds nothing
                                            vb_free: clears PTEs, widens vb->dirty_min/max
                                            vb_free: nr_unmaps++
    seen = nr_unmaps
    flushes what it found
    covered = seen
                                            vm_unmap_aliases: covered == nr_unmaps, returns
    ```
    Three orders between two tasks: walk before free, count before it is read, store before comparison. Task 2 has to
    get its free done in one window of task 1, and task 1 its flush in one of task 2.
    """

    NAME = "skips-if-nothing-is-new"

    def __init__(self, kernel: Kernel, geometry: Geometry) -> None:
        super().__init__(kernel, geometry)
        self.nr_unmaps = AtomicLong(self.machine, "nr_unmaps")
        self.covered = AtomicLong(self.machine, "covered")

    @kernel_function
    def vb_free(self, addr: int, size: int) -> None:
        """mm/vmalloc.c:vb_free (v6.5), counted."""
        super().vb_free(addr, size)
        self.nr_unmaps.add_return(1)

    @kernel_function
    def _vm_unmap_aliases(self, start: int, end: int, flush: bool) -> None:
        """mm/vmalloc.c:_vm_unmap_aliases (v6.5), with the two lines about `seen`."""
        purge_list = self.LIST_HEAD("purge")
        with self.vmap_purge_lock:
            for cpu in self.machine.possible:
                vbq = self.vmap_block_queue.per_cpu(cpu)
                self.rcu.read_lock()
                for vb in vbq.vmap_blocks.for_each():
                    with vb.lock:
                        is_purged = self.purge_fragmented_block(vb, vbq, purge_list, False)
                        if not is_purged and vb.dirty_max and vb.dirty != self.VMAP_BBMAP_BITS:
                            va_start = vb.va.va_start
                            start = min(start, va_start + (vb.dirty_min << PAGE_SHIFT))
                            end = max(end, va_start + (vb.dirty_max << PAGE_SHIFT))
                            vb.dirty_min = self.VMAP_BBMAP_BITS
                            vb.dirty_max = 0
                            flush = True
                self.rcu.read_unlock()
            seen = self.nr_unmaps.read_value()
            self.free_purged_blocks(purge_list)
            if not self._purge_vmap_area_lazy(start, end) and flush:
                self.memory.flush_tlb_kernel_range(start, end)
            self.covered.sub(self.covered.read_value() - seen)

    @kernel_function
    def vm_unmap_aliases(self) -> None:
        """mm/vmalloc.c:vm_unmap_aliases (v6.5), behind the shortcut."""
        if self.nr_unmaps.read_value() != self.covered.read_value():
            super().vm_unmap_aliases()
