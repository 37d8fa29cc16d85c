# SPDX-License-Identifier: GPL-2.0-only
"""A patch under review: v6.5 whose vm_unmap_aliases walks the free lists again.

It cures the list corruption of v6.5 (a block is now deleted from the list that was walked, under that list's lock).
A fix that did this was queued in 2024; a reviewer saw by eye what it brings back.
"""

from stressvmap.kernel.function import kernel_function
from stressvmap.ranges import PAGE_SHIFT
from stressvmap.vmalloc.v6_5 import V6_5


class ListWalk(V6_5):
    """v6.5 + "walk vbq->free in _vm_unmap_aliases"."""

    NAME = "list-walk"

    @kernel_function
    def _vm_unmap_aliases(self, start: int, end: int, flush: bool) -> None:
        """mm/vmalloc.c:_vm_unmap_aliases, the walk changed."""
        if not self.vmap_initialized:
            return
        purge_list = self.LIST_HEAD("purge")
        with self.vmap_purge_lock:
            for cpu in self.machine.possible:
                vbq = self.vmap_block_queue.per_cpu(cpu)
                self.rcu.read_lock()
                for vb in self.blocks_on(vbq.free):  # was: vbq.vmap_blocks.for_each()
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
