# SPDX-License-Identifier: GPL-2.0-only
"""mm/vmalloc.c of v6.12 (November 2024, and its stable series up to 6.12.117): the areas of v6.9 (vmap_nodes.py), and
v6.5's blocks with three cures.

8c61291fd850 (v6.10) takes a block off the list that it is on; a34acf30b19b (v6.10) makes a hash index a possible CPU;
3e3de7947c75 (v6.11) sets vb->cpu before the block can be found.
"""

from __future__ import annotations

from stressvmap.kernel.function import kernel_function
from stressvmap.kernel.lists import (
    INIT_LIST_HEAD,
    ListHead,
    list_add_tail,
    list_add_tail_rcu,
    list_del_rcu,
)
from stressvmap.kernel.slab import kmalloc
from stressvmap.kernel.xarray import XArray
from stressvmap.ranges import PAGE_SHIFT, PAGE_SIZE
from stressvmap.vmalloc.base import EINVAL, ENOMEM, VMAP_BLOCK, VMAP_RAM, get_order
from stressvmap.vmalloc.known import DYING_BLOCK, POOL_PUT_BACK, SPLIT_WITHOUT_MEMORY
from stressvmap.vmalloc.structs import VmapBlock
from stressvmap.vmalloc.vmap_nodes import VmapNodes


class V6_12(VmapNodes):
    """Linux v6.12 (November 2024)."""

    NAME = "v6.12"
    TITLE = "Linux v6.12"
    known = (*DYING_BLOCK, *SPLIT_WITHOUT_MEMORY, *POOL_PUT_BACK)

    def addr_to_vb_xa(self, addr: int) -> XArray[VmapBlock]:
        """mm/vmalloc.c:addr_to_vb_xa (v6.12): a hash bucket, of a CPU that is possible."""
        index = (addr // self.VMAP_BLOCK_SIZE) % self.machine.nr_cpu_ids()
        if index not in self.machine.possible:
            index = next(cpu for cpu in self.machine.possible if cpu > index)
        return self.vmap_block_queue.per_cpu(index).vmap_blocks

    @kernel_function
    def new_vmap_block(self, order: int) -> int:
        """mm/vmalloc.c:new_vmap_block (v6.12): a new block with its first 2**order pages handed out: their address,
        or an error. It knows whose list it goes to before anybody can find it.
        """
        vb = kmalloc(self.machine, VmapBlock)
        if vb is None:
            return -ENOMEM
        va = self.alloc_vmap_area(
            self.VMAP_BLOCK_SIZE, self.VMAP_BLOCK_SIZE, self.VMALLOC_START, self.VMALLOC_END, VMAP_RAM | VMAP_BLOCK
        )
        if isinstance(va, int):
            vb.kfree()
            return va

        vaddr = self.vmap_block_vaddr(va.va_start, 0)
        vb.va = va
        self.machine.BUG_ON(1 << order >= self.VMAP_BBMAP_BITS, "nothing would be left free")
        vb.used_map = 0
        vb.free = self.VMAP_BBMAP_BITS - (1 << order)
        vb.dirty = 0
        vb.dirty_min = self.VMAP_BBMAP_BITS
        vb.dirty_max = 0
        vb.used_map |= self.bitmap_mask(0, order)
        INIT_LIST_HEAD(vb.free_list)
        vb.cpu = self.machine.smp_processor_id()

        xa = self.addr_to_vb_xa(va.va_start)
        vb_idx = self.addr_to_vb_idx(va.va_start)
        err = xa.insert(vb_idx, vb)
        if err:
            vb.kfree()
            self.free_vmap_area(va)
            return err

        vbq = self.vmap_block_queue.per_cpu(vb.cpu)
        with vbq.lock:
            list_add_tail_rcu(vb.free_list, vbq.free)
        return vaddr

    @kernel_function
    def free_vmap_block(self, vb: VmapBlock) -> None:
        """mm/vmalloc.c:free_vmap_block (v6.12): a dead block leaves the index, its area goes lazy, and RCU frees it.
        Called without vb->lock.
        """
        xa = self.addr_to_vb_xa(vb.va.va_start)
        tmp = xa.erase(self.addr_to_vb_idx(vb.va.va_start))
        self.machine.BUG_ON(tmp is not vb, "another block, or none, was in its place in the xarray")
        vn = self.addr_to_node(vb.va.va_start)
        with vn.busy_lock:
            vn.busy.erase(vb.va)
        self.free_vmap_area_noflush(vb.va)
        self.rcu.kfree_rcu(vb)

    @kernel_function
    def purge_fragmented_block(self, vb: VmapBlock, purge_list: ListHead, force_purge: bool) -> bool:  # type: ignore[override]
        """mm/vmalloc.c:purge_fragmented_block (v6.12). vb->lock is held. 8c61291fd850 took the queue from its
        arguments: the block knows it.
        """
        vbq = self.vmap_block_queue.per_cpu(vb.cpu)
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
    def purge_fragmented_blocks(self, cpu: int) -> None:
        """mm/vmalloc.c:purge_fragmented_blocks (v6.12): under memory pressure only, so all of them."""
        purge = self.LIST_HEAD("purge")
        vbq = self.vmap_block_queue.per_cpu(cpu)
        self.rcu.read_lock()
        for vb in self.blocks_on(vbq.free):
            free = vb.READ_ONCE("free")
            dirty = vb.READ_ONCE("dirty")
            if free + dirty != self.VMAP_BBMAP_BITS or dirty == self.VMAP_BBMAP_BITS:
                continue
            with vb.lock:
                self.purge_fragmented_block(vb, purge, True)
        self.rcu.read_unlock()
        self.free_purged_blocks(purge)

    @kernel_function
    def vb_alloc(self, size: int) -> int:
        """mm/vmalloc.c:vb_alloc (v6.12): as v6.5, but that asking for nothing is an error (ac0476e8ca2e, v6.10)."""
        self.machine.BUG_ON(size & (PAGE_SIZE - 1) != 0, "size is not page aligned")
        self.machine.BUG_ON(size > self.VMAP_MAX_ALLOC << PAGE_SHIFT, "size above VMAP_MAX_ALLOC")
        if self.machine.WARN_ON(size == 0, "allocation of nothing"):
            return -EINVAL
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
    def _vm_unmap_aliases(self, start: int, end: int, flush: bool) -> None:
        """mm/vmalloc.c:_vm_unmap_aliases (v6.12). A hull may be reset before it is flushed, for whoever collects next
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
                        is_purged = self.purge_fragmented_block(vb, purge_list, False)
                        if not is_purged and vb.dirty_max and vb.dirty != self.VMAP_BBMAP_BITS:
                            va_start = vb.va.va_start
                            start = min(start, va_start + (vb.dirty_min << PAGE_SHIFT))
                            end = max(end, va_start + (vb.dirty_max << PAGE_SHIFT))
                            vb.dirty_min = self.VMAP_BBMAP_BITS
                            vb.dirty_max = 0
                            flush = True
                self.rcu.read_unlock()
            self.free_purged_blocks(purge_list)
            if not self._purge_vmap_area_lazy(start, end, False) and flush:
                self.memory.flush_tlb_kernel_range(start, end)
