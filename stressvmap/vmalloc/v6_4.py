# SPDX-License-Identifier: GPL-2.0-only
"""mm/vmalloc.c of v6.4: the vmap-block layer, the area layer under it, vm_unmap_aliases, and vmalloc/vfree as far as
they meet it.

Left out, for no translation depends on them: KASAN, kmemleak, cache flushes (no-ops on architectures with physically
tagged caches), huge mappings, NUMA placement, statistics. Python mangles names that begin with two underscores: such
functions have one here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from stressvmap.kernel.areas import VmapArea
from stressvmap.kernel.function import kernel_function, kernel_function_named
from stressvmap.kernel.lists import (
    INIT_LIST_HEAD,
    ListHead,
    list_add_tail,
    list_add_tail_rcu,
    list_del,
    list_del_rcu,
    list_for_each_entry_rcu,
    list_for_each_entry_safe,
)
from stressvmap.kernel.locks import SpinLock
from stressvmap.kernel.slab import KMALLOC, kmalloc, kmem_cache_alloc
from stressvmap.kernel.xarray import XArray
from stressvmap.ranges import PAGE_SHIFT, PAGE_SIZE
from stressvmap.vmalloc.base import (
    EBUSY,
    EINVAL,
    ENOMEM,
    IS_ERR,
    ULONG_MAX,
    VM_FLUSH_RESET_PERMS,
    VMAP_BLOCK,
    VMAP_RAM,
    Vmalloc,
    get_order,
)
from stressvmap.vmalloc.known import (
    DYING_BLOCK,
    FULL_BLOCK,
    SPARSE_MASK,
    SPLIT_WITHOUT_MEMORY,
    UNLOCKED_RANGE,
    UNMARKED_READS,
)
from stressvmap.vmalloc.structs import VmapBlock, VmStruct


class V6_4(Vmalloc):
    """Linux v6.4 (June 2023): per-CPU hash buckets of blocks (062eacf57ad9), the walk of vm_unmap_aliases still over
    the free lists.
    """

    NAME = "v6.4"
    TITLE = "Linux v6.4"
    known = (*FULL_BLOCK, *UNLOCKED_RANGE, *UNMARKED_READS, *DYING_BLOCK, *SPLIT_WITHOUT_MEMORY, *SPARSE_MASK)

    # -- areas --------------------------------------------------------------------------------------------

    @kernel_function
    def find_unlink_vmap_area(self, addr: int) -> VmapArea | None:
        """mm/vmalloc.c:find_unlink_vmap_area (v6.3): look up and take out of the busy tree under one lock."""
        with self.vmap_area_lock:
            va = self.vmap_area_root.find(addr)
            if va is not None:
                self.vmap_area_root.erase(va)
        return va

    @kernel_function
    def find_vm_area(self, addr: int) -> VmStruct | None:
        """mm/vmalloc.c:find_vm_area (v6.4)."""
        with self.vmap_area_lock:
            va = self.vmap_area_root.find(addr)
        if va is None:
            return None
        vm: VmStruct | None = va.vm
        return vm

    @kernel_function
    def preload_this_cpu_lock(self, lock: SpinLock) -> None:
        """mm/vmalloc.c:preload_this_cpu_lock (v6.4): have a spare area for a split at hand, then take `lock`."""
        va = None
        if self.ne_fit_preload_node.this_cpu_read() is None:
            va = kmem_cache_alloc(self.machine, VmapArea)
        lock.lock()
        if va is not None and self.ne_fit_preload_node.this_cpu_cmpxchg(None, va) is not None:
            va.kfree()

    @kernel_function_named("__alloc_vmap_area")
    def _alloc_vmap_area(self, size: int, align: int, vstart: int, vend: int) -> int:
        """mm/vmalloc.c:__alloc_vmap_area (v6.4): the lowest fit in the free tree, or vend."""

        def spare() -> VmapArea | None:
            """The preloaded one, or one with GFP_NOWAIT."""
            preloaded = self.ne_fit_preload_node.this_cpu_xchg(None)
            return preloaded or kmem_cache_alloc(self.machine, VmapArea, can_sleep=False)

        return self.free_vmap_area_root.carve(size, align, vstart, vend, spare)

    @kernel_function
    def alloc_vmap_area(self, size: int, align: int, vstart: int, vend: int, va_flags: int) -> VmapArea | int:
        """mm/vmalloc.c:alloc_vmap_area (v6.4): an area in the busy tree, or -ENOMEM, -EBUSY."""
        if not size or size & (PAGE_SIZE - 1) or align & (align - 1):
            return -EINVAL
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
        va.flags = va_flags
        with self.vmap_area_lock:
            self.vmap_area_root.insert(va)
        return va

    @kernel_function
    def free_vmap_area(self, va: VmapArea) -> None:
        """mm/vmalloc.c:free_vmap_area (v6.4): back to the free tree at once; only for an area that was never mapped."""
        with self.vmap_area_lock:
            self.vmap_area_root.erase(va)
        with self.free_vmap_area_lock:
            self.free_vmap_area_root.merge_or_add(va)

    @kernel_function
    def free_vmap_area_noflush(self, va: VmapArea) -> None:
        """mm/vmalloc.c:free_vmap_area_noflush (v6.4): an area unlinked and unmapped becomes a lazy one. It may be
        coalesced, and `va` freed, here.
        """
        nr_lazy_max = self.lazy_max_pages()
        if self.machine.WARN_ON(va.node is not None, "the area is still on a list"):
            return
        nr_lazy = self.vmap_lazy_nr.add_return((va.va_end - va.va_start) >> PAGE_SHIFT)
        with self.purge_vmap_area_lock:
            self.purge_vmap_area_root.merge_or_add(va)
        if nr_lazy > nr_lazy_max:
            self.kernel.workqueue.schedule_work(self.drain_vmap_work)

    @kernel_function
    def free_unmap_vmap_area(self, va: VmapArea) -> None:
        """mm/vmalloc.c:free_unmap_vmap_area (v6.4)."""
        self.memory.vunmap_range_noflush(va.va_start, va.va_end)
        if self.debug_pagealloc:
            self.memory.flush_tlb_kernel_range(va.va_start, va.va_end)
        self.free_vmap_area_noflush(va)

    @kernel_function_named("__purge_vmap_area_lazy")
    def _purge_vmap_area_lazy(self, start: int, end: int) -> bool:
        """mm/vmalloc.c:__purge_vmap_area_lazy (v6.4): flush the hull of [start, end) and all lazy areas, then free
        those; whether there were any.
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
        num_purged_areas = 0
        self.free_vmap_area_lock.lock()
        for va in local_purge_list:
            nr = (va.va_end - va.va_start) >> PAGE_SHIFT
            if self.free_vmap_area_root.merge_or_add(va) is None:
                continue
            self.vmap_lazy_nr.sub(nr)
            num_purged_areas += 1
            if self.vmap_lazy_nr.read_value() < resched_threshold:
                self.cond_resched_lock(self.free_vmap_area_lock)
        self.free_vmap_area_lock.unlock()
        return num_purged_areas > 0

    def cond_resched_lock(self, lock: SpinLock) -> None:
        """include/linux/sched.h:cond_resched_lock: let those in that wait for it."""
        if lock.is_contended():
            lock.unlock()
            lock.lock()

    @kernel_function
    def purge_vmap_area_lazy(self) -> None:
        """mm/vmalloc.c:purge_vmap_area_lazy (v6.4): for an allocation that found no space."""
        with self.vmap_purge_lock:
            self.purge_fragmented_blocks_allcpus()
            self._purge_vmap_area_lazy(ULONG_MAX, 0)

    @kernel_function
    def drain_vmap_area_work(self) -> None:
        """mm/vmalloc.c:drain_vmap_area_work (v6.4). Never purges fragmented blocks."""
        while True:
            with self.vmap_purge_lock:
                self._purge_vmap_area_lazy(ULONG_MAX, 0)
            if self.vmap_lazy_nr.read_value() <= self.lazy_max_pages():
                break

    # -- blocks -------------------------------------------------------------------------------------------

    def addr_to_vb_xa(self, addr: int) -> XArray[VmapBlock]:
        """mm/vmalloc.c:addr_to_vb_xa (v6.4): a hash bucket, kept in a per-CPU struct that has nothing else to do with
        the block.

        The index is used as a CPU id, which it is not on a sparse possible mask (fixed by a34acf30b19b in v6.10).
        """
        index = (addr // self.VMAP_BLOCK_SIZE) % len(self.machine.possible)
        return self.vmap_block_queue.per_cpu(index).vmap_blocks

    def addr_to_vb_idx(self, addr: int) -> int:
        """mm/vmalloc.c:addr_to_vb_idx (v6.4)."""
        return (addr - (self.VMALLOC_START & ~(self.VMAP_BLOCK_SIZE - 1))) // self.VMAP_BLOCK_SIZE

    def vmap_block_vaddr(self, va_start: int, pages_off: int) -> int:
        """mm/vmalloc.c:vmap_block_vaddr (v6.4)."""
        addr = va_start + (pages_off << PAGE_SHIFT)
        self.machine.BUG_ON(
            self.addr_to_vb_idx(addr) != self.addr_to_vb_idx(va_start), "the page lies outside the block"
        )
        return addr

    def bitmap_mask(self, offset: int, order: int) -> int:
        """The bits of 2**order pages from `offset` (bitmap_set, bitmap_clear)."""
        return ((1 << (1 << order)) - 1) << offset

    @kernel_function
    def new_vmap_block(self, order: int) -> int:
        """mm/vmalloc.c:new_vmap_block (v6.4): a new block with its first 2**order pages handed out: their address,
        or an error.
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

        xa = self.addr_to_vb_xa(va.va_start)
        vb_idx = self.addr_to_vb_idx(va.va_start)
        err = xa.insert(vb_idx, vb)
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
        """mm/vmalloc.c:free_vmap_block (v6.4): a dead block leaves the index, its area goes lazy, and RCU frees it.
        Called without vb->lock.
        """
        xa = self.addr_to_vb_xa(vb.va.va_start)
        tmp = xa.erase(self.addr_to_vb_idx(vb.va.va_start))
        self.machine.BUG_ON(tmp is not vb, "another block, or none, was in its place in the xarray")
        with self.vmap_area_lock:
            self.vmap_area_root.erase(vb.va)
        self.free_vmap_area_noflush(vb.va)
        self.rcu.kfree_rcu(vb)

    @kernel_function
    def purge_fragmented_blocks(self, cpu: int) -> None:
        """mm/vmalloc.c:purge_fragmented_blocks (v6.4): kill the blocks of one list in which nothing is mapped any
        more.
        """
        purge = self.LIST_HEAD("purge")
        vbq = self.vmap_block_queue.per_cpu(cpu)
        self.rcu.read_lock()
        for vb in self.blocks_on(vbq.free):
            if not (vb.free + vb.dirty == self.VMAP_BBMAP_BITS and vb.dirty != self.VMAP_BBMAP_BITS):
                continue
            vb.lock.lock()
            if vb.free + vb.dirty == self.VMAP_BBMAP_BITS and vb.dirty != self.VMAP_BBMAP_BITS:
                vb.free = 0
                vb.dirty = self.VMAP_BBMAP_BITS
                vb.dirty_min = 0
                vb.dirty_max = self.VMAP_BBMAP_BITS
                with vbq.lock:
                    list_del_rcu(vb.free_list)
                vb.lock.unlock()
                list_add_tail(vb.purge, purge)
            else:
                vb.lock.unlock()
        self.rcu.read_unlock()
        for vb in self.blocks_of(purge):
            list_del(vb.purge)
            self.free_vmap_block(vb)

    @kernel_function
    def purge_fragmented_blocks_allcpus(self) -> None:
        """mm/vmalloc.c:purge_fragmented_blocks_allcpus (v6.4)."""
        for cpu in self.machine.possible:
            self.purge_fragmented_blocks(cpu)

    @kernel_function
    def vb_alloc(self, size: int) -> int:
        """mm/vmalloc.c:vb_alloc (v6.4): `size` bytes from a block of this CPU's list, or from a new one: the
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
        """mm/vmalloc.c:vb_free (v6.4). Unmap `size` bytes at `addr`; the TLB debt is recorded, not paid."""
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
        vb.dirty += 1 << order
        if vb.dirty == self.VMAP_BBMAP_BITS:
            self.machine.BUG_ON(vb.free != 0, "a wholly dirty block has free space")
            vb.lock.unlock()
            self.free_vmap_block(vb)
        else:
            vb.lock.unlock()

    # -- what callers see ---------------------------------------------------------------------------------

    @kernel_function
    def _vm_unmap_aliases(self, start: int, end: int, flush: bool) -> None:
        """mm/vmalloc.c:_vm_unmap_aliases (v6.4): the dirty hulls of the listed blocks, [start, end) and all lazy
        areas, in one flush.
        """
        if not self.vmap_initialized:
            return
        self.machine.might_sleep()
        for cpu in self.machine.possible:
            vbq = self.vmap_block_queue.per_cpu(cpu)
            self.rcu.read_lock()
            for vb in self.blocks_on(vbq.free):
                with vb.lock:
                    if vb.dirty and vb.dirty != self.VMAP_BBMAP_BITS:
                        va_start = vb.va.va_start
                        start = min(start, va_start + (vb.dirty_min << PAGE_SHIFT))
                        end = max(end, va_start + (vb.dirty_max << PAGE_SHIFT))
                        flush = True
            self.rcu.read_unlock()

        with self.vmap_purge_lock:
            self.purge_fragmented_blocks_allcpus()
            if not self._purge_vmap_area_lazy(start, end) and flush:
                self.memory.flush_tlb_kernel_range(start, end)

    @kernel_function
    def vm_unmap_aliases(self) -> None:
        """mm/vmalloc.c:vm_unmap_aliases (v6.4)."""
        self._vm_unmap_aliases(ULONG_MAX, 0, False)

    @kernel_function
    def vm_map_ram(self, pages: Sequence[int], count: int) -> int:
        """mm/vmalloc.c:vm_map_ram (v6.4)."""
        size = count << PAGE_SHIFT
        if count <= self.VMAP_MAX_ALLOC:
            addr = self.vb_alloc(size)
            if IS_ERR(addr):
                return 0
        else:
            va = self.alloc_vmap_area(size, PAGE_SIZE, self.VMALLOC_START, self.VMALLOC_END, VMAP_RAM)
            if isinstance(va, int):
                return 0
            addr = va.va_start
        if self.memory.vmap_pages_range_noflush(addr, pages) < 0:
            self.vm_unmap_ram(addr, count)
            return 0
        return addr

    @kernel_function
    def vm_unmap_ram(self, mem: int, count: int) -> None:
        """mm/vmalloc.c:vm_unmap_ram (v6.4)."""
        size = count << PAGE_SHIFT
        self.machine.might_sleep()
        self.machine.BUG_ON(not self.VMALLOC_START <= mem <= self.VMALLOC_END, "the address is outside the window")
        self.machine.BUG_ON(mem & (PAGE_SIZE - 1) != 0, "the address is not page aligned")
        if count <= self.VMAP_MAX_ALLOC:
            self.vb_free(mem, size)
            return
        va = self.find_unlink_vmap_area(mem)
        if va is None:
            self.machine.WARN_ON(True, "no area at that address")
            return
        self.free_unmap_vmap_area(va)

    @kernel_function
    def vmalloc(self, size: int, vm_flags: int = 0) -> int:
        """mm/vmalloc.c:__vmalloc_node_range (v6.4), small pages: a guard page is part of the area."""
        area = kmalloc(self.machine, VmStruct)
        if area is None:
            return 0
        va = self.alloc_vmap_area(size + PAGE_SIZE, PAGE_SIZE, self.VMALLOC_START, self.VMALLOC_END, 0)
        if isinstance(va, int):
            area.kfree()
            return 0
        area.addr, area.size, area.flags = va.va_start, va.va_end - va.va_start, vm_flags
        with self.vmap_area_lock:
            va.vm = area
        if not self.get_page_array(area):
            return 0
        area.pages = [self.kernel.frames.alloc() for _ in range(size >> PAGE_SHIFT)]
        if self.memory.vmap_pages_range_noflush(area.addr, area.pages) < 0:
            self.vfree(area.addr)
            return 0
        return area.addr

    def get_page_array(self, area: VmStruct) -> bool:
        """mm/vmalloc.c:__vmalloc_area_node (v6.4): memory for area->pages, which nobody else sees; without it the area
        goes again (free_vm_area).
        """
        self.machine.might_sleep(KMALLOC)
        if not self.machine.should_fail(KMALLOC):
            return True
        self.remove_vm_area(area.addr)
        area.kfree()
        return False

    @kernel_function
    def remove_vm_area(self, addr: int) -> VmStruct | None:
        """mm/vmalloc.c:remove_vm_area (v6.4)."""
        self.machine.might_sleep()
        va = self.find_unlink_vmap_area(addr)
        if va is None or va.vm is None:
            return None
        vm: VmStruct = va.vm
        self.free_unmap_vmap_area(va)
        return vm

    @kernel_function
    def vm_reset_perms(self, area: VmStruct) -> None:
        """mm/vmalloc.c:vm_reset_perms (v6.4): the direct-map range joins whatever else is to be flushed, in one
        hull.
        """
        start, end, flush_dmap = ULONG_MAX, 0, False
        for frame in area.pages:
            addr = self.memory.page_address(frame)
            start = min(addr, start)
            end = max(addr + PAGE_SIZE, end)
            flush_dmap = True
        for frame in area.pages:
            self.memory.set_direct_map_invalid_noflush(frame)
        self._vm_unmap_aliases(start, end, flush_dmap)
        for frame in area.pages:
            self.memory.set_direct_map_default_noflush(frame)

    @kernel_function
    def vfree(self, addr: int) -> None:
        """mm/vmalloc.c:vfree (v6.4), from a context that may sleep."""
        self.machine.might_sleep()
        if not addr:
            return
        vm = self.remove_vm_area(addr)
        if vm is None:
            self.machine.WARN_ON(True, "no area at the address to free")
            return
        if vm.flags & VM_FLUSH_RESET_PERMS:
            self.vm_reset_perms(vm)
        for frame in vm.pages:
            self.kernel.frames.free(frame)
        vm.kfree()

    @kernel_function
    def show_vmallocinfo(self) -> None:
        """mm/vmalloc.c:s_start, s_show, show_purge_info and s_stop (v6.4): every busy area, and with the last one every
        lazy one, under the mutex and the busy tree's lock throughout.
        """
        with self.vmap_purge_lock, self.vmap_area_lock:
            areas = self.vmap_area_root.areas()
            for va in areas:
                self.show_area(va)
            if not areas:
                return
            with self.purge_vmap_area_lock:
                for va in self.purge_vmap_area_root.areas():
                    self.show_purged(va)

    # -- typed walks --------------------------------------------------------------------------------------

    def blocks_on(self, head: ListHead) -> Iterator[VmapBlock]:
        """list_for_each_entry_rcu(vb, head, free_list)."""
        return cast("Iterator[VmapBlock]", list_for_each_entry_rcu(head))

    def blocks_of(self, head: ListHead) -> Iterator[VmapBlock]:
        """list_for_each_entry_safe(vb, n_vb, head, purge)."""
        return cast("Iterator[VmapBlock]", list_for_each_entry_safe(head))
