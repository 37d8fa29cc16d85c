# SPDX-License-Identifier: GPL-2.0-only
"""mm/vmalloc.c of v6.5: the six patches merged in place of the RFC (Thomas Gleixner, May 2023).

fc1e0d980037 walks the xarrays, so completely used blocks are seen; ca5e46c3400b purges in that walk; a09fad96ffb1
resets a dirty hull once it is collected; 43d7650234c6 tests `free` locklessly; 7f48121e9fa8 marks the lockless
reads; 77e50af07f14 spares blocks that are still usable.
"""

from __future__ import annotations

from stressvmap.kernel.function import kernel_function
from stressvmap.kernel.lists import ListHead, list_add_tail, list_del, list_del_rcu
from stressvmap.ranges import PAGE_SHIFT, PAGE_SIZE
from stressvmap.vmalloc.base import ULONG_MAX, get_order
from stressvmap.vmalloc.known import DYING_BLOCK, SPARSE_MASK, SPARSE_WALK, SPLIT_WITHOUT_MEMORY, WRONG_QUEUE
from stressvmap.vmalloc.structs import VmapBlock, VmapBlockQueue
from stressvmap.vmalloc.v6_4 import V6_4


class V6_5(V6_4):
    """Linux v6.5 (August 2023): dirty ranges are collected over all blocks, and reset, under vmap_purge_lock."""

    NAME = "v6.5"
    TITLE = "Linux v6.5"
    known = (*WRONG_QUEUE, *DYING_BLOCK, *SPLIT_WITHOUT_MEMORY, *SPARSE_MASK, *SPARSE_WALK)

    @property
    def VMAP_PURGE_THRESHOLD(self) -> int:
        """Free pages below which a block in which nothing is mapped is not worth keeping."""
        return self.VMAP_BBMAP_BITS // 4

    @kernel_function
    def purge_fragmented_block(
        self, vb: VmapBlock, vbq: VmapBlockQueue, purge_list: ListHead, force_purge: bool
    ) -> bool:
        """mm/vmalloc.c:purge_fragmented_block (v6.5). vb->lock is held.

        `vbq` is the per-CPU struct that was walked: coming from an xarray, not the one whose list the block is on
        (fixed by 8c61291fd850).
        """
        if vb.free + vb.dirty != self.VMAP_BBMAP_BITS or vb.dirty == self.VMAP_BBMAP_BITS:
            return False
        if not (force_purge or vb.free < self.VMAP_PURGE_THRESHOLD):
            return False
        vb.WRITE_ONCE("free", 0)
        vb.WRITE_ONCE("dirty", self.VMAP_BBMAP_BITS)
        vb.dirty_min = 0
        vb.dirty_max = self.VMAP_BBMAP_BITS
        with vbq.lock:
            list_del_rcu(vb.free_list)
        list_add_tail(vb.purge, purge_list)
        return True

    @kernel_function
    def free_purged_blocks(self, purge_list: ListHead) -> None:
        """mm/vmalloc.c:free_purged_blocks (v6.5)."""
        for vb in self.blocks_of(purge_list):
            list_del(vb.purge)
            self.free_vmap_block(vb)

    @kernel_function
    def purge_fragmented_blocks(self, cpu: int) -> None:
        """mm/vmalloc.c:purge_fragmented_blocks (v6.5): under memory pressure only, so all of them."""
        purge = self.LIST_HEAD("purge")
        vbq = self.vmap_block_queue.per_cpu(cpu)
        self.rcu.read_lock()
        for vb in self.blocks_on(vbq.free):
            free = vb.READ_ONCE("free")
            dirty = vb.READ_ONCE("dirty")
            if free + dirty != self.VMAP_BBMAP_BITS or dirty == self.VMAP_BBMAP_BITS:
                continue
            with vb.lock:
                self.purge_fragmented_block(vb, vbq, purge, True)
        self.rcu.read_unlock()
        self.free_purged_blocks(purge)

    @kernel_function
    def reclaim_and_purge_vmap_areas(self) -> None:
        """mm/vmalloc.c:reclaim_and_purge_vmap_areas (v6.5): for an allocation that found no space."""
        with self.vmap_purge_lock:
            self.purge_fragmented_blocks_allcpus()
            self._purge_vmap_area_lazy(ULONG_MAX, 0)

    def purge_vmap_area_lazy(self) -> None:
        """The name that alloc_vmap_area, which did not change otherwise, knows it by."""
        self.reclaim_and_purge_vmap_areas()

    @kernel_function
    def vb_alloc(self, size: int) -> int:
        """mm/vmalloc.c:vb_alloc (v6.5): blocks with too little space are passed over without their lock, for `free`
        only decreases.
        """
        self.machine.BUG_ON(size & (PAGE_SIZE - 1) != 0, "size is not page aligned")
        self.machine.BUG_ON(size > self.VMAP_MAX_ALLOC << PAGE_SHIFT, "size above VMAP_MAX_ALLOC")
        if self.machine.WARN_ON(size == 0, "allocation of nothing"):
            return 0
        order = get_order(size)
        vaddr = 0
        self.rcu.read_lock()
        vbq = self.vmap_block_queue.raw_cpu_ptr()
        for vb in self.blocks_on(vbq.free):
            if vb.READ_ONCE("free") < 1 << order:
                continue
            vb.lock.lock()
            if vb.free < 1 << order:
                vb.lock.unlock()
                continue
            pages_off = self.VMAP_BBMAP_BITS - vb.free
            vaddr = self.vmap_block_vaddr(vb.va.va_start, pages_off)
            vb.WRITE_ONCE("free", vb.free - (1 << order))
            vb.used_map |= self.bitmap_mask(pages_off, order)
            if vb.free == 0:
                with vbq.lock:
                    list_del_rcu(vb.free_list)
            vb.lock.unlock()
            break
        self.rcu.read_unlock()
        if not vaddr:
            vaddr = self.new_vmap_block(order)
        return vaddr

    @kernel_function
    def vb_free(self, addr: int, size: int) -> None:
        """mm/vmalloc.c:vb_free (v6.5): as v6.4, `dirty` written with WRITE_ONCE for its lockless readers."""
        self.machine.BUG_ON(size & (PAGE_SIZE - 1) != 0, "size is not page aligned")
        self.machine.BUG_ON(size > self.VMAP_MAX_ALLOC << PAGE_SHIFT, "size above VMAP_MAX_ALLOC")
        order = get_order(size)
        offset = (addr & (self.VMAP_BLOCK_SIZE - 1)) >> PAGE_SHIFT
        vb = self.machine.deref(self.addr_to_vb_xa(addr).load(self.addr_to_vb_idx(addr)))

        with vb.lock:
            vb.used_map &= ~self.bitmap_mask(offset, order)

        self.memory.vunmap_range_noflush(addr, addr + size)
        if self.debug_pagealloc:
            self.memory.flush_tlb_kernel_range(addr, addr + size)

        vb.lock.lock()
        vb.dirty_min = min(vb.dirty_min, offset)
        vb.dirty_max = max(vb.dirty_max, offset + (1 << order))
        vb.WRITE_ONCE("dirty", vb.dirty + (1 << order))
        if vb.dirty == self.VMAP_BBMAP_BITS:
            self.machine.BUG_ON(vb.free != 0, "a wholly dirty block has free space")
            vb.lock.unlock()
            self.free_vmap_block(vb)
        else:
            vb.lock.unlock()

    @kernel_function
    def _vm_unmap_aliases(self, start: int, end: int, flush: bool) -> None:
        """mm/vmalloc.c:_vm_unmap_aliases (v6.5). A hull may be reset before it is flushed, for whoever collects next
        waits for the mutex.
        """
        if not self.vmap_initialized:
            return
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
            self.free_purged_blocks(purge_list)
            if not self._purge_vmap_area_lazy(start, end) and flush:
                self.memory.flush_tlb_kernel_range(start, end)

    @kernel_function
    def vm_unmap_aliases(self) -> None:
        """mm/vmalloc.c:vm_unmap_aliases (v6.5)."""
        self._vm_unmap_aliases(ULONG_MAX, 0, False)
