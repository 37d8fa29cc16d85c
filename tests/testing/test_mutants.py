# SPDX-License-Identifier: GPL-2.0-only
"""Each soundness invariant that calls one after the other can break has a mutant here that the machine catches."""

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from stressvmap.kernel.areas import VmapArea
from stressvmap.kernel.lists import list_del_rcu
from stressvmap.ranges import PAGE_SHIFT
from stressvmap.testing import VmapViolation, machine
from stressvmap.vmalloc.base import ULONG_MAX, Vmalloc, get_order
from stressvmap.vmalloc.structs import VmapBlock
from stressvmap.vmalloc.v6_4 import V6_4
from stressvmap.vmalloc.v6_5 import V6_5


class CountsPagesNotOrders(V6_5):
    """I6: a block's slots go by 2**order, its dirty count by the pages that were asked for."""

    def vb_free(self, addr: int, size: int) -> None:
        order, pages = get_order(size), size >> PAGE_SHIFT
        offset = (addr & (self.VMAP_BLOCK_SIZE - 1)) >> PAGE_SHIFT
        vb = self.machine.deref(self.addr_to_vb_xa(addr).load(self.addr_to_vb_idx(addr)))
        self.memory.vunmap_range_noflush(addr, addr + size)
        with vb.lock:
            vb.used_map &= ~self.bitmap_mask(offset, order)
            vb.dirty_min, vb.dirty_max = min(vb.dirty_min, offset), max(vb.dirty_max, offset + pages)
            vb.dirty += pages
            is_dead = vb.dirty == self.VMAP_BBMAP_BITS
        if is_dead:
            self.free_vmap_block(vb)


class ReusesDirtySlots(V6_5):
    """I1: what is freed can be allocated again before the block has died."""

    def vb_free(self, addr: int, size: int) -> None:
        super().vb_free(addr, size)
        vb = self.addr_to_vb_xa(addr).load(self.addr_to_vb_idx(addr))
        if vb is not None:
            with vb.lock:
                vb.free += size >> PAGE_SHIFT


class NarrowHull(V6_5):
    """I5: the dirty range leaves out the last page freed."""

    def vb_free(self, addr: int, size: int) -> None:
        super().vb_free(addr, size)
        vb = self.addr_to_vb_xa(addr).load(self.addr_to_vb_idx(addr))
        if vb is not None:
            with vb.lock:
                vb.dirty_max -= 1


class ResetsWithoutFlushing(V6_5):
    """A dirty range is collected and thrown away."""

    def _vm_unmap_aliases(self, start: int, end: int, flush: bool) -> None:
        for cpu in self.machine.possible:
            for vb in self.vmap_block_queue.per_cpu(cpu).vmap_blocks.for_each():
                with vb.lock:
                    if vb.dirty != self.VMAP_BBMAP_BITS:
                        vb.dirty_min, vb.dirty_max = self.VMAP_BBMAP_BITS, 0
        super()._vm_unmap_aliases(start, end, flush)


class LosesLargeAreas(V6_5):
    """What bypasses the blocks is unmapped, and its area then forgotten."""

    def free_unmap_vmap_area(self, va: VmapArea) -> None:
        self.memory.vunmap_range_noflush(va.va_start, va.va_end)


class LosesTheObject(V6_5):
    """A dead block is never freed."""

    def free_vmap_block(self, vb: VmapBlock) -> None:
        kfree_rcu, self.rcu.kfree_rcu = self.rcu.kfree_rcu, lambda victim: None  # type: ignore[method-assign]
        super().free_vmap_block(vb)
        self.rcu.kfree_rcu = kfree_rcu  # type: ignore[method-assign]


class FreesBeforeTheFlush(V6_5):
    """Unmapped address space skips the lazy list."""

    def free_vmap_area_noflush(self, va: VmapArea) -> None:
        with self.free_vmap_area_lock:
            self.free_vmap_area_root.merge_or_add(va)


class ForgetsTheBusyTree(V6_5):
    """Large mappings are left in the busy tree, and their address space is given back all the same."""

    def find_unlink_vmap_area(self, addr: int) -> VmapArea | None:
        va = super().find_unlink_vmap_area(addr)
        if va is not None:
            self.memory.vunmap_range_noflush(va.va_start, va.va_end - (1 << PAGE_SHIFT))
            self.memory.flush_tlb_kernel_range(va.va_start, va.va_end)
        return va

    def free_unmap_vmap_area(self, va: VmapArea) -> None:
        self.free_vmap_area_noflush(va)


class FreesTheBlockTooEarly(V6_5):
    """kfree instead of kfree_rcu, before the block is out of the index."""

    def free_vmap_block(self, vb: VmapBlock) -> None:
        vb.kfree()
        super().free_vmap_block(vb)


class DeletesTwice(V6_5):
    """A dead block is taken off its list, on which it is no more."""

    def free_vmap_block(self, vb: VmapBlock) -> None:
        list_del_rcu(vb.free_list)
        super().free_vmap_block(vb)


class FlushesNothingAtAll(V6_5):
    """Flushes the empty hull [ULONG_MAX, 0)."""

    def vm_unmap_aliases(self) -> None:
        self._vm_unmap_aliases(ULONG_MAX, 0, True)


class KeepsTheLock(V6_5):
    """An early return that forgets the mutex."""

    def vm_unmap_aliases(self) -> None:
        self.vmap_purge_lock.lock()


class LeavesDirtyMaxUnset(V6_5):
    """A field that is only written by the first free."""

    def new_vmap_block(self, order: int) -> int:
        address = super().new_vmap_block(order)
        if address > 0:
            vb = self.addr_to_vb_xa(address).load(self.addr_to_vb_idx(address))
            assert vb is not None
            del vb.values["used_map"]
        return address


class InsistsOnEmptyBlocks(V6_5):
    """A BUG_ON that is none."""

    def vb_free(self, addr: int, size: int) -> None:
        super().vb_free(addr, size)
        vb = self.addr_to_vb_xa(addr).load(self.addr_to_vb_idx(addr))
        self.machine.BUG_ON(vb is not None and vb.free == 0, "vb_free: the block has no free space")


@pytest.mark.parametrize(
    ("mutant", "check"),
    [
        (CountsPagesNotOrders, "accounting"),
        (ReusesDirtySlots, "accounting"),
        (NarrowHull, "accounting"),
        (ResetsWithoutFlushing, "stale-after-unmap-aliases"),
        (ResetsWithoutFlushing, "stale-access"),
        (V6_4, "range-computed-unlocked"),
        (LosesLargeAreas, "leak"),
        (LosesTheObject, "leak"),
        (FreesBeforeTheFlush, "reuse-before-flush"),
        (ForgetsTheBusyTree, "overlapping-mapping"),
        (FreesTheBlockTooEarly, "use-after-free"),
        (DeletesTwice, "list-corruption"),
        (FlushesNothingAtAll, "flush-range-sanity"),
        (KeepsTheLock, "deadlock"),
        (KeepsTheLock, "lock-discipline"),
        (LeavesDirtyMaxUnset, "uninitialised-read"),
        (InsistsOnEmptyBlocks, "kernel-bug"),
    ],
)
def test_the_state_machine_catches(mutant: type[Vmalloc], check: str) -> None:
    at_first_sight = settings(
        database=None, report_multiple_bugs=False, phases=(Phase.generate,), max_examples=2000, derandomize=True
    )
    with pytest.raises(VmapViolation) as caught:
        run_state_machine_as_test(machine(mutant, checks=[check]), settings=at_first_sight)
    assert str(caught.value).startswith(check + ": ")
