# SPDX-License-Identifier: GPL-2.0-only
"""Versions with one bug each: what the checks must see. Each class says which line of the C it gets wrong. Those that
the strategies are measured on are in stressvmap/vmalloc/planted.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stressvmap.kernel.areas import VmapArea
from stressvmap.kernel.function import kernel_function, kernel_function_named
from stressvmap.kernel.lists import (
    ListHead,
    list_add_tail,
    list_add_tail_rcu,
    list_del,
    list_del_rcu,
    list_replace_init,
)
from stressvmap.kernel.slab import kmalloc
from stressvmap.ranges import PAGE_SHIFT
from stressvmap.vmalloc.base import ENOMEM, ULONG_MAX, VMAP_BLOCK, VMAP_RAM, get_order
from stressvmap.vmalloc.structs import VmapBlock, VmapBlockQueue, VmapNode, VmStruct
from stressvmap.vmalloc.v6_4 import V6_4
from stressvmap.vmalloc.v6_5 import V6_5
from stressvmap.vmalloc.v6_12 import V6_12

# -- flushing ---------------------------------------------------------------------------------------------------------


class FlushesOnCpu0(V6_4):
    """vm_unmap_aliases flushes everything if called on CPU 0, without the mutex, and nothing elsewhere."""

    @kernel_function
    def vm_unmap_aliases(self) -> None:
        if self.machine.smp_processor_id() == 0:
            self.memory.flush_tlb_kernel_range(self.VMALLOC_START, self.VMALLOC_END)


class LeavesOutCpu1(V6_4):
    """The walk of _vm_unmap_aliases leaves out the list of CPU 1."""

    def blocks_on(self, head: ListHead) -> Iterator[VmapBlock]:
        is_walk = self.machine.runtime.current.function == "_vm_unmap_aliases"
        if is_walk and head is self.vmap_block_queue.per_cpu(1).free:
            return iter(())
        return super().blocks_on(head)


class ReusesDirtySpace(V6_4):
    """vb_free gives its pages back to the block when they are the last that were handed out: `free` grows."""

    @kernel_function
    def vb_free(self, addr: int, size: int) -> None:
        offset = (addr & (self.VMAP_BLOCK_SIZE - 1)) >> PAGE_SHIFT
        order = get_order(size)
        vb = self.machine.deref(self.addr_to_vb_xa(addr).load(self.addr_to_vb_idx(addr)))
        vb.lock.lock()
        if vb.free == 0 or offset + (1 << order) != self.VMAP_BBMAP_BITS - vb.free:
            vb.lock.unlock()
            super().vb_free(addr, size)
            return
        vb.used_map &= ~self.bitmap_mask(offset, order)
        self.memory.vunmap_range_noflush(addr, addr + size)
        vb.free += 1 << order
        vb.lock.unlock()


class FlushesWithoutRange(V6_4):
    """vm_reset_perms asks for a flush of a range that it leaves to others to find (before 31e67340cc65)."""

    @kernel_function
    def vm_reset_perms(self, area: VmStruct) -> None:
        self._vm_unmap_aliases(ULONG_MAX, 0, True)


# -- who may touch what -----------------------------------------------------------------------------------------------


class PublishesBeforeCpu(V6_5):
    """v6.5 with 8c61291fd850, whose vb->cpu is set only after the block can be found (before 3e3de7947c75)."""

    @kernel_function
    def purge_fragmented_block(
        self, vb: VmapBlock, vbq: VmapBlockQueue, purge_list: ListHead, force_purge: bool
    ) -> bool:
        owner = self.vmap_block_queue.per_cpu(self.cpu_of(vb))
        return super().purge_fragmented_block(vb, owner, purge_list, force_purge)

    def cpu_of(self, vb: VmapBlock) -> int:
        cpu = int(vb.read("cpu"))
        return cpu if cpu in self.machine.possible else 0

    @kernel_function
    def new_vmap_block(self, order: int) -> int:
        vb = kmalloc(self.machine, VmapBlock)
        if vb is None:
            return -ENOMEM
        size = self.VMAP_BLOCK_SIZE
        va = self.alloc_vmap_area(size, size, self.VMALLOC_START, self.VMALLOC_END, VMAP_RAM | VMAP_BLOCK)
        if isinstance(va, int):
            vb.kfree()
            return va
        vb.va = va
        vb.used_map = self.bitmap_mask(0, order)
        vb.free = self.VMAP_BBMAP_BITS - (1 << order)
        vb.dirty = 0
        vb.dirty_min = self.VMAP_BBMAP_BITS
        vb.dirty_max = 0
        self.before_publication(vb)
        err = self.addr_to_vb_xa(va.va_start).insert(self.addr_to_vb_idx(va.va_start), vb)
        if err:
            vb.kfree()
            self.free_vmap_area(va)
            return err
        self.after_publication(vb)
        vbq = self.vmap_block_queue.per_cpu(self.cpu_of(vb))
        with vbq.lock:
            list_add_tail_rcu(vb.free_list, vbq.free)
        return va.va_start

    def before_publication(self, vb: VmapBlock) -> None:
        pass

    def after_publication(self, vb: VmapBlock) -> None:
        vb.write("cpu", self.machine.smp_processor_id())


class SetsCpuFirst(PublishesBeforeCpu):
    """The same with 3e3de7947c75: no bug. Blocks are deleted under the lock of the list that they are on."""

    def before_publication(self, vb: VmapBlock) -> None:
        vb.write("cpu", self.machine.smp_processor_id())

    def after_publication(self, vb: VmapBlock) -> None:
        pass


class FindsThenUnlinks(V6_4):
    """Look-up and unlink of an area are two critical sections (before v6.3)."""

    @kernel_function
    def find_unlink_vmap_area(self, addr: int) -> VmapArea | None:
        with self.vmap_area_lock:
            va = self.vmap_area_root.find(addr)
        if va is not None:
            with self.vmap_area_lock:
                self.vmap_area_root.erase(va)
        return va


class AllocatesUnlocked(V6_4):
    """vb_alloc reads and lowers `free` without vb->lock."""

    @kernel_function
    def vb_alloc(self, size: int) -> int:
        order = get_order(size)
        self.rcu.read_lock()
        vbq = self.vmap_block_queue.raw_cpu_ptr()
        for vb in self.blocks_on(vbq.free):
            free = vb.free
            if free <= 1 << order:
                continue
            vb.free = free - (1 << order)
            vb.used_map |= self.bitmap_mask(self.VMAP_BBMAP_BITS - free, order)
            addr = vb.va.va_start + ((self.VMAP_BBMAP_BITS - free) << PAGE_SHIFT)
            self.rcu.read_unlock()
            return addr
        self.rcu.read_unlock()
        return self.new_vmap_block(order)


class PurgesLiveBlocks(V6_4):
    """purge_fragmented_blocks does not ask whether something is still mapped."""

    @kernel_function
    def purge_fragmented_blocks(self, cpu: int) -> None:
        purge = self.LIST_HEAD("purge")
        vbq = self.vmap_block_queue.per_cpu(cpu)
        for vb in self.blocks_on(vbq.free):
            with vb.lock:
                vb.free = 0
                vb.dirty = self.VMAP_BBMAP_BITS
                with vbq.lock:
                    list_del_rcu(vb.free_list)
            list_add_tail(vb.purge, purge)
        for vb in self.blocks_of(purge):
            list_del(vb.purge)
            self.free_vmap_block(vb)


# -- books ------------------------------------------------------------------------------------------------------------


class CountsPagesNotOrder(V6_4):
    """vb_free accounts the pages freed, not the slots that they took (I6)."""

    @kernel_function
    def vb_free(self, addr: int, size: int) -> None:
        offset = (addr & (self.VMAP_BLOCK_SIZE - 1)) >> PAGE_SHIFT
        pages = size >> PAGE_SHIFT
        vb = self.machine.deref(self.addr_to_vb_xa(addr).load(self.addr_to_vb_idx(addr)))
        self.memory.vunmap_range_noflush(addr, addr + size)
        vb.lock.lock()
        vb.used_map &= ~self.bitmap_mask(offset, get_order(size))
        vb.dirty_min = min(vb.dirty_min, offset)
        vb.dirty_max = max(vb.dirty_max, offset + pages)
        vb.dirty += pages
        is_dead = vb.dirty == self.VMAP_BBMAP_BITS
        vb.lock.unlock()
        if is_dead:
            self.free_vmap_block(vb)


class WidensUpwardsOnly(V6_4):
    """vb_free never lowers dirty_min once it is set."""

    @kernel_function
    def vb_free(self, addr: int, size: int) -> None:
        vb = self.machine.deref(self.addr_to_vb_xa(addr).load(self.addr_to_vb_idx(addr)))
        before = vb.dirty_min
        super().vb_free(addr, size)
        if before < self.VMAP_BBMAP_BITS:
            vb.dirty_min = before


class LosesLazyCount(V6_4):
    """__purge_vmap_area_lazy forgets to lower vmap_lazy_nr for the last area."""

    @kernel_function_named("__purge_vmap_area_lazy")
    def _purge_vmap_area_lazy(self, start: int, end: int) -> bool:
        before = self.vmap_lazy_nr.value
        purged = super()._purge_vmap_area_lazy(start, end)
        if purged and self.vmap_lazy_nr.value < before:
            self.vmap_lazy_nr.value += 1
        return purged


class LeaksBlock(V6_4):
    """A block that dies is never freed: no kfree_rcu."""

    @kernel_function
    def free_vmap_block(self, vb: VmapBlock) -> None:
        self.addr_to_vb_xa(vb.va.va_start).erase(self.addr_to_vb_idx(vb.va.va_start))
        with self.vmap_area_lock:
            self.vmap_area_root.erase(vb.va)
        self.free_vmap_area_noflush(vb.va)


class LeaksFailedArea(V6_4):
    """new_vmap_block forgets its area when the index has no memory for the block."""

    @kernel_function
    def free_vmap_area(self, va: VmapArea) -> None:
        return


class LeaksVmStruct(V6_4):
    """vfree forgets the vm_struct."""

    @kernel_function
    def vfree(self, addr: int) -> None:
        vm = self.remove_vm_area(addr)
        if vm is not None:
            for frame in vm.pages:
                self.kernel.frames.free(frame)


# -- locks ------------------------------------------------------------------------------------------------------------


class ForgetsUnlock(V6_4):
    """purge_vmap_area_lazy returns with the mutex held."""

    @kernel_function
    def purge_vmap_area_lazy(self) -> None:
        self.vmap_purge_lock.lock()
        self.purge_fragmented_blocks_allcpus()
        self._purge_vmap_area_lazy(ULONG_MAX, 0)


class SleepsUnderSpinlock(V6_4):
    """vm_unmap_aliases takes a mutex with a spinlock held."""

    @kernel_function
    def vm_unmap_aliases(self) -> None:
        with self.vmap_block_queue.raw_cpu_ptr().lock:
            super().vm_unmap_aliases()


class SleepsInReader(V6_4):
    """vm_unmap_aliases takes a mutex inside an RCU reader section."""

    @kernel_function
    def vm_unmap_aliases(self) -> None:
        self.rcu.read_lock()
        super().vm_unmap_aliases()
        self.rcu.read_unlock()


class PurgesWithoutMutex(V6_4):
    """The drain work does not take vmap_purge_lock."""

    @kernel_function
    def drain_vmap_area_work(self) -> None:
        self._purge_vmap_area_lazy(ULONG_MAX, 0)


class FlushesUnderSpinlock(V6_4):
    """vm_unmap_aliases flushes with a list's spinlock held, which vm_map_ram wants with interrupts off."""

    @kernel_function
    def vm_unmap_aliases(self) -> None:
        with self.vmap_block_queue.per_cpu(0).lock:
            self.memory.flush_tlb_kernel_range(self.VMALLOC_START, self.VMALLOC_END)

    @kernel_function
    def vm_map_ram(self, pages: Sequence[int], count: int) -> int:
        self.machine.local_irq_disable()
        with self.vmap_block_queue.per_cpu(0).lock:
            pass
        self.machine.local_irq_enable()
        return super().vm_map_ram(pages, count)


class LocksListFirst(V6_4):
    """purge_fragmented_blocks takes vbq->lock before vb->lock: everybody else takes them the other way round."""

    @kernel_function
    def purge_fragmented_blocks(self, cpu: int) -> None:
        vbq = self.vmap_block_queue.per_cpu(cpu)
        with vbq.lock:
            for vb in self.blocks_on(vbq.free):
                with vb.lock:
                    pass


# -- data races, livelock ---------------------------------------------------------------------------------------------


class ForgetsWriteOnce(V6_5):
    """vb_free raises `dirty` by a plain write, which the lockless look of purge_fragmented_blocks may tear."""

    @kernel_function
    def vb_free(self, addr: int, size: int) -> None:
        V6_4.vb_free(self, addr, size)


class PoisonsWalkedNode(V6_4):
    """vb_alloc takes a full block off its list by list_del, which a walker on that node does not survive."""

    @kernel_function
    def vb_alloc(self, size: int) -> int:
        vbq = self.vmap_block_queue.raw_cpu_ptr()
        for vb in self.blocks_of_queue(vbq):
            with vb.lock:
                if vb.free == 1 << get_order(size):
                    with vbq.lock:
                        list_del(vb.free_list)
                    vb.free = 0
                    return vb.va.va_start + ((self.VMAP_BBMAP_BITS >> 1) << PAGE_SHIFT)
        return super().vb_alloc(size)

    def blocks_of_queue(self, vbq: VmapBlockQueue) -> list[VmapBlock]:
        """The blocks of a list, looked up under RCU."""
        self.rcu.read_lock()
        blocks = list(self.blocks_on(vbq.free))
        self.rcu.read_unlock()
        return blocks


class PoisonsCounter(V6_4):
    """vm_unmap_aliases ends as set_iounmap_nonlazy() did (row 31): vmap_lazy_nr says that there is something to
    drain, and there is nothing.
    """

    @kernel_function
    def vm_unmap_aliases(self) -> None:
        super().vm_unmap_aliases()
        self.vmap_lazy_nr.add_return(self.lazy_max_pages() + 1)
        self.kernel.workqueue.schedule_work(self.drain_vmap_work)


class WalksOutsideRcu(V6_5):
    """_vm_unmap_aliases without rcu_read_lock and rcu_read_unlock."""

    @kernel_function
    def _vm_unmap_aliases(self, start: int, end: int, flush: bool) -> None:
        purge_list = self.LIST_HEAD("purge")
        with self.vmap_purge_lock:
            for cpu in self.machine.possible:
                vbq = self.vmap_block_queue.per_cpu(cpu)
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
            self.free_purged_blocks(purge_list)
            if not self._purge_vmap_area_lazy(start, end) and flush:
                self.memory.flush_tlb_kernel_range(start, end)


class AccountsBeforeClear(V6_5):
    """vb_free accounts for the pages first and clears their PTEs afterwards."""

    @kernel_function
    def vb_free(self, addr: int, size: int) -> None:
        order = get_order(size)
        offset = (addr & (self.VMAP_BLOCK_SIZE - 1)) >> PAGE_SHIFT
        vb = self.machine.deref(self.addr_to_vb_xa(addr).load(self.addr_to_vb_idx(addr)))
        with vb.lock:
            vb.used_map &= ~self.bitmap_mask(offset, order)
            vb.dirty_min = min(vb.dirty_min, offset)
            vb.dirty_max = max(vb.dirty_max, offset + (1 << order))
            vb.WRITE_ONCE("dirty", vb.dirty + (1 << order))
        self.memory.vunmap_range_noflush(addr, addr + size)


# -- nodes and pools --------------------------------------------------------------------------------------------------


class DeletesUnderTheBucketsLock(V6_12):
    """8c61291fd850 reverted: a block that is found in a bucket is taken off its list under the lock of the bucket's
    struct.
    """

    @kernel_function
    def purge_fragmented_block(  # type: ignore[override]
        self, vb: VmapBlock, purge_list: ListHead, force_purge: bool
    ) -> bool:
        bucket = next(
            queue for _, queue in self.vmap_block_queue.instances() if vb in queue.vmap_blocks.entries.values()
        )
        if vb.free + vb.dirty != self.VMAP_BBMAP_BITS or vb.dirty == self.VMAP_BBMAP_BITS:
            return False
        if not (force_purge or vb.free < self.VMAP_PURGE_THRESHOLD):
            return False
        vb.WRITE_ONCE("free", 0)
        vb.WRITE_ONCE("dirty", self.VMAP_BBMAP_BITS)
        with bucket.lock:
            list_del_rcu(vb.free_list)
        list_add_tail(vb.purge, purge_list)
        return True


class SetsCpuAfterPublishing(V6_12):
    """3e3de7947c75 reverted: the block can be found before it says whose list it is to go to."""

    @kernel_function
    def new_vmap_block(self, order: int) -> int:
        vb = kmalloc(self.machine, VmapBlock)
        assert vb is not None
        va = self.alloc_vmap_area(
            self.VMAP_BLOCK_SIZE, self.VMAP_BLOCK_SIZE, self.VMALLOC_START, self.VMALLOC_END, VMAP_RAM | VMAP_BLOCK
        )
        assert isinstance(va, VmapArea)
        vb.va = va
        vb.used_map = self.bitmap_mask(0, order)
        vb.free = self.VMAP_BBMAP_BITS - (1 << order)
        vb.dirty = 0
        vb.dirty_min = self.VMAP_BBMAP_BITS
        vb.dirty_max = 0
        self.addr_to_vb_xa(va.va_start).insert(self.addr_to_vb_idx(va.va_start), vb)
        vb.cpu = self.machine.smp_processor_id()
        vbq = self.vmap_block_queue.per_cpu(vb.cpu)
        with vbq.lock:
            list_add_tail_rcu(vb.free_list, vbq.free)
        return va.va_start


class FillsPoolsBeforeTheFlush(V6_12):
    """The nodes are purged, and then flushed."""

    @kernel_function_named("__purge_vmap_area_lazy")
    def _purge_vmap_area_lazy(self, start: int, end: int, full_pool_decay: bool = False) -> bool:
        found = False
        for vn in self.vmap_nodes:
            vn.skip_populate = full_pool_decay
            with vn.lazy_lock:
                areas = vn.lazy.detach_all()
            if areas:
                found = True
                start, end = min(start, areas[0].va_start), max(end, areas[-1].va_end)
                vn.purge_list = areas
                self.purge_vmap_node(vn)
        if found:
            self.memory.flush_tlb_kernel_range(start, end)
        return found


class ShrinksWithoutTheMutex(V6_12):
    """ec05f51f1e65 reverted: the shrinker decays a pool that a purge is putting back, or filling."""

    @kernel_function
    def vmap_node_shrink_scan(self) -> None:
        for vn in self.vmap_nodes:
            self.decay_va_pool_node(vn, True)


class ForgetsToCountThePool(V6_12):
    """node_pool_add_va leaves vp->len as it was."""

    @kernel_function
    def node_pool_add_va(self, n: VmapNode, va: VmapArea) -> bool:
        pool = n.pool((va.va_end - va.va_start >> PAGE_SHIFT) - 1)
        with n.pool_lock:
            pool.add(va)
        return True


class LosesWhatIsLeftOfAPool(V6_12):
    """decay_va_pool_node does not put back what it has left of a pool."""

    @kernel_function
    def decay_va_pool_node(self, vn: VmapNode, full_decay: bool) -> None:
        for pool in vn.filled_pools():
            tmp_list = self.LIST_HEAD("tmp_list")
            with vn.pool_lock:
                list_replace_init(pool.head, tmp_list)
            pool.write_len(0)
