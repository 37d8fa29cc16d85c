# SPDX-License-Identifier: GPL-2.0-only
"""mm/vmalloc.c of v6.1 (December 2022, and its stable series up to 6.1.192): what v6.2 to v6.4 changed, undone.

062eacf57ad9 has not split the one xarray of blocks yet, edd898181e2f not joined look-up and unlink; a block has no
used_map, an area no flags, and a vfree finds its area twice.
"""

from __future__ import annotations

from stressvmap.kernel.areas import VmapArea
from stressvmap.kernel.function import kernel_function, kernel_function_named
from stressvmap.kernel.lists import INIT_LIST_HEAD, list_add_tail_rcu, list_del_rcu
from stressvmap.kernel.percpu import PerCpu
from stressvmap.kernel.slab import kmalloc, kmem_cache_alloc
from stressvmap.kernel.xarray import XArray
from stressvmap.ranges import PAGE_SHIFT, PAGE_SIZE
from stressvmap.vmalloc.base import (
    EBUSY,
    ENOMEM,
    VM_FLUSH_RESET_PERMS,
    get_order,
)
from stressvmap.vmalloc.known import (
    DYING_BLOCK,
    FULL_BLOCK,
    SPLIT_WITHOUT_MEMORY,
    UNLOCKED_RANGE,
    UNMARKED_READS,
)
from stressvmap.vmalloc.structs import VmapBlock, VmapBlockQueue, VmStruct
from stressvmap.vmalloc.v6_4 import V6_4


class V6_1(V6_4):
    """Linux v6.1 (December 2022). Of what it inherits, find_unlink_vmap_area and addr_to_vb_xa are not in its C, and
    nothing calls them.
    """

    NAME = "v6.1"
    TITLE = "Linux v6.1"
    known = (*FULL_BLOCK, *UNLOCKED_RANGE, *UNMARKED_READS, *DYING_BLOCK, *SPLIT_WITHOUT_MEMORY)

    def vmap_init_queues(self) -> None:
        """The queues of blocks, and one index of them all."""
        self.vmap_block_queue = PerCpu(self.machine, "vmap_block_queue", self.make_queue)
        self.vmap_blocks: XArray[VmapBlock] = XArray(self.machine)

    def make_queue(self, cpu: int) -> VmapBlockQueue:
        """The queue of one CPU, as vmalloc_init leaves it: a list and nothing else."""
        queue = VmapBlockQueue(self.machine, cpu, is_bucket=False)
        queue.free.next = queue.free.prev = queue.free
        return queue

    def audit_blocks(self) -> None:
        """The free lists, then the one index."""
        for cpu, queue in self.vmap_block_queue.instances():
            self.audit_free_list(cpu, queue)
        self.audit_index(self.vmap_blocks)

    # -- areas --------------------------------------------------------------------------------------------

    @kernel_function
    def alloc_vmap_area(self, size: int, align: int, vstart: int, vend: int, va_flags: int = 0) -> VmapArea | int:
        """mm/vmalloc.c:alloc_vmap_area (v6.1): an area in the busy tree, or -ENOMEM, -EBUSY. It has no flags:
        `va_flags` is for later callers.
        """
        self.machine.BUG_ON(size == 0, "an area of no size")
        self.machine.BUG_ON(size & (PAGE_SIZE - 1) != 0, "size is not page aligned")
        self.machine.BUG_ON(align & (align - 1) != 0, "the alignment is no power of two")
        if not self.vmap_initialized:
            return -EBUSY
        self.machine.might_sleep()
        va = kmem_cache_alloc(self.machine, VmapArea)
        if va is None:
            return -ENOMEM
        purged = False
        while True:
            self.preload_this_cpu_lock(self.free_vmap_area_lock)
            addr = self._alloc_vmap_area(size, align, vstart, vend)
            self.free_vmap_area_lock.unlock()
            if addr != vend:
                break
            if not purged:
                self.purge_vmap_area_lazy()
                purged = True
                continue
            freed = sum(notifier() for notifier in self.vmap_notify_list)
            if freed > 0:
                purged = False
                continue
            va.kfree()
            return -EBUSY

        va.va_start = addr
        va.va_end = addr + size
        va.vm = None
        with self.vmap_area_lock:
            self.vmap_area_root.insert(va)
        return va

    @kernel_function
    def free_vmap_area_noflush(self, va: VmapArea) -> None:
        """mm/vmalloc.c:free_vmap_area_noflush (v6.1): an area unmapped leaves the busy tree only here, and becomes a
        lazy one. It may be coalesced, and `va` freed, here.
        """
        with self.vmap_area_lock:
            self.vmap_area_root.erase(va)
        nr_lazy = self.vmap_lazy_nr.add_return((va.va_end - va.va_start) >> PAGE_SHIFT)
        with self.purge_vmap_area_lock:
            self.purge_vmap_area_root.merge_or_add(va)
        if nr_lazy > self.lazy_max_pages():
            self.kernel.workqueue.schedule_work(self.drain_vmap_work)

    @kernel_function_named("__purge_vmap_area_lazy")
    def _purge_vmap_area_lazy(self, start: int, end: int) -> bool:
        """mm/vmalloc.c:__purge_vmap_area_lazy (v6.1): flush the hull of [start, end) and all lazy areas, then free
        those; whether there were any lazy ones, though an overlap may have kept all of them from the free tree.
        """
        self.vmap_purge_lock.assert_held()
        with self.purge_vmap_area_lock:
            local_purge_list = self.purge_vmap_area_root.detach_all()
        if not local_purge_list:
            return False
        start = min(start, local_purge_list[0].va_start)
        end = max(end, local_purge_list[-1].va_end)
        self.memory.flush_tlb_kernel_range(start, end)
        resched_threshold = self.lazy_max_pages() << 1
        self.free_vmap_area_lock.lock()
        for va in local_purge_list:
            nr = (va.va_end - va.va_start) >> PAGE_SHIFT
            if self.free_vmap_area_root.merge_or_add(va) is None:
                continue
            self.vmap_lazy_nr.sub(nr)
            if self.vmap_lazy_nr.read_value() < resched_threshold:
                self.cond_resched_lock(self.free_vmap_area_lock)
        self.free_vmap_area_lock.unlock()
        return True

    @kernel_function
    def find_vmap_area(self, addr: int) -> VmapArea | None:
        """mm/vmalloc.c:find_vmap_area (v6.1)."""
        with self.vmap_area_lock:
            return self.vmap_area_root.find(addr)

    @kernel_function
    def find_vm_area(self, addr: int) -> VmStruct | None:
        """mm/vmalloc.c:find_vm_area (v6.1)."""
        va = self.find_vmap_area(addr)
        if va is None:
            return None
        vm: VmStruct | None = va.vm
        return vm

    # -- blocks -------------------------------------------------------------------------------------------

    @kernel_function
    def new_vmap_block(self, order: int) -> int:
        """mm/vmalloc.c:new_vmap_block (v6.1): a new block with its first 2**order pages handed out: their address,
        or an error.
        """
        vb = kmalloc(self.machine, VmapBlock)
        if vb is None:
            return -ENOMEM
        va = self.alloc_vmap_area(self.VMAP_BLOCK_SIZE, self.VMAP_BLOCK_SIZE, self.VMALLOC_START, self.VMALLOC_END)
        if isinstance(va, int):
            vb.kfree()
            return va

        vaddr = self.vmap_block_vaddr(va.va_start, 0)
        vb.va = va
        self.machine.BUG_ON(1 << order >= self.VMAP_BBMAP_BITS, "nothing would be left free")
        vb.free = self.VMAP_BBMAP_BITS - (1 << order)
        vb.dirty = 0
        vb.dirty_min = self.VMAP_BBMAP_BITS
        vb.dirty_max = 0
        INIT_LIST_HEAD(vb.free_list)

        vb_idx = self.addr_to_vb_idx(va.va_start)
        err = self.vmap_blocks.insert(vb_idx, vb)
        if err:
            vb.kfree()
            self.free_vmap_area(va)
            return err

        vbq = self.vmap_block_queue.raw_cpu_ptr()
        with vbq.lock:
            list_add_tail_rcu(vb.free_list, vbq.free)
        return vaddr

    @kernel_function
    def free_vmap_block(self, vb: VmapBlock) -> None:
        """mm/vmalloc.c:free_vmap_block (v6.1): a dead block leaves the index, its area goes lazy, and RCU frees it.
        Called without vb->lock.
        """
        tmp = self.vmap_blocks.erase(self.addr_to_vb_idx(vb.va.va_start))
        self.machine.BUG_ON(tmp is not vb, "another block, or none, was in its place in the xarray")
        self.free_vmap_area_noflush(vb.va)
        self.rcu.kfree_rcu(vb)

    @kernel_function
    def vb_alloc(self, size: int) -> int:
        """mm/vmalloc.c:vb_alloc (v6.1): `size` bytes from a block of this CPU's list, or from a new one: the
        address, 0, or an error.
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
            vb.lock.lock()
            if vb.free < 1 << order:
                vb.lock.unlock()
                continue
            pages_off = self.VMAP_BBMAP_BITS - vb.free
            vaddr = self.vmap_block_vaddr(vb.va.va_start, pages_off)
            vb.free -= 1 << order
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
        """mm/vmalloc.c:vb_free (v6.1). Unmap `size` bytes at `addr`; the TLB debt is recorded, not paid."""
        self.machine.BUG_ON(size & (PAGE_SIZE - 1) != 0, "size is not page aligned")
        self.machine.BUG_ON(size > self.VMAP_MAX_ALLOC << PAGE_SHIFT, "size above VMAP_MAX_ALLOC")
        order = get_order(size)
        offset = (addr & (self.VMAP_BLOCK_SIZE - 1)) >> PAGE_SHIFT
        vb = self.vmap_blocks.load(self.addr_to_vb_idx(addr))

        self.memory.vunmap_range_noflush(addr, addr + size)
        if self.debug_pagealloc:
            self.memory.flush_tlb_kernel_range(addr, addr + size)

        vb = self.machine.deref(vb)
        vb.lock.lock()
        vb.dirty_min = min(vb.dirty_min, offset)
        vb.dirty_max = max(vb.dirty_max, offset + (1 << order))
        vb.dirty += 1 << order
        if vb.dirty == self.VMAP_BBMAP_BITS:
            self.machine.BUG_ON(vb.free != 0, "a wholly dirty block has free space")
            vb.lock.unlock()
            self.free_vmap_block(vb)
        else:
            vb.lock.unlock()

    # -- what callers see ---------------------------------------------------------------------------------

    @kernel_function
    def vm_unmap_ram(self, mem: int, count: int) -> None:
        """mm/vmalloc.c:vm_unmap_ram (v6.1). Two that unmap one area at a time both find it."""
        size = count << PAGE_SHIFT
        self.machine.might_sleep()
        self.machine.BUG_ON(not self.VMALLOC_START <= mem <= self.VMALLOC_END, "the address is outside the window")
        self.machine.BUG_ON(mem & (PAGE_SIZE - 1) != 0, "the address is not page aligned")
        if count <= self.VMAP_MAX_ALLOC:
            self.vb_free(mem, size)
            return
        va = self.find_vmap_area(mem)
        self.machine.BUG_ON(va is None, "no area at that address")
        assert va is not None
        self.free_unmap_vmap_area(va)

    @kernel_function
    def remove_vm_area(self, addr: int) -> VmStruct | None:
        """mm/vmalloc.c:remove_vm_area (v6.1): what parts vm_struct and area is that `va->vm` becomes NULL."""
        self.machine.might_sleep()
        self.vmap_area_lock.lock()
        va = self.vmap_area_root.find(addr)
        if va is not None and va.vm is not None:
            vm: VmStruct = va.vm
            va.vm = None
            self.vmap_area_lock.unlock()
            self.free_unmap_vmap_area(va)
            return vm
        self.vmap_area_lock.unlock()
        return None

    @kernel_function
    def vm_remove_mappings(self, area: VmStruct) -> None:
        """mm/vmalloc.c:vm_remove_mappings (v6.1), of pages that go with the area. What it does to those with reset
        permissions became a function of its own, vm_reset_perms, in v6.3.
        """
        flush_reset = area.flags & VM_FLUSH_RESET_PERMS
        self.remove_vm_area(area.addr)
        if flush_reset:
            self.vm_reset_perms(area)

    @kernel_function_named("__vunmap")
    def _vunmap(self, addr: int) -> None:
        """mm/vmalloc.c:__vunmap (v6.1), of pages that go with the area."""
        if not addr:
            return
        area = self.find_vm_area(addr)
        if area is None:
            self.machine.WARN_ON(True, "no area at the address to free")
            return
        self.vm_remove_mappings(area)
        for frame in area.pages:
            self.kernel.frames.free(frame)
        area.kfree()

    @kernel_function
    def vfree(self, addr: int) -> None:
        """mm/vmalloc.c:vfree (v6.1), from a context that may sleep."""
        self.machine.might_sleep()
        self._vunmap(addr)
