# SPDX-License-Identifier: GPL-2.0-only
"""Canaries: v6.5 with a line removed. A soak that does not catch them is blind, and says so."""

from __future__ import annotations

from stressvmap.kernel.function import kernel_function, kernel_function_named
from stressvmap.ranges import PAGE_SHIFT
from stressvmap.vmalloc.v6_5 import V6_5


class CanaryNoFlush(V6_5):
    """__purge_vmap_area_lazy without its flush_tlb_kernel_range: lazy areas are handed out again while still
    translated.
    """

    NAME = "canary-no-flush"

    @kernel_function_named("__purge_vmap_area_lazy")
    def _purge_vmap_area_lazy(self, start: int, end: int) -> bool:
        """As v6.4, a line removed."""
        self.vmap_purge_lock.assert_held()
        with self.purge_vmap_area_lock:
            local_purge_list = self.purge_vmap_area_root.detach_all()
        if not local_purge_list:
            return False
        with self.free_vmap_area_lock:
            for va in local_purge_list:
                nr = (va.va_end - va.va_start) >> PAGE_SHIFT
                if self.free_vmap_area_root.merge_or_add(va) is not None:
                    self.vmap_lazy_nr.sub(nr)
        return True


class CanaryNoDirtyMax(V6_5):
    """_vm_unmap_aliases that forgets to widen the end of the range: partly dirty blocks are flushed short."""

    NAME = "canary-no-dirty-max"

    @kernel_function
    def _vm_unmap_aliases(self, start: int, end: int, flush: bool) -> None:
        """As v6.5, a line removed."""
        purge_list = self.LIST_HEAD("purge")
        with self.vmap_purge_lock:
            for cpu in self.machine.possible:
                vbq = self.vmap_block_queue.per_cpu(cpu)
                self.rcu.read_lock()
                for vb in vbq.vmap_blocks.for_each():
                    with vb.lock:
                        is_purged = self.purge_fragmented_block(vb, vbq, purge_list, False)
                        if not is_purged and vb.dirty_max and vb.dirty != self.VMAP_BBMAP_BITS:
                            start = min(start, vb.va.va_start + (vb.dirty_min << PAGE_SHIFT))
                            vb.dirty_min = self.VMAP_BBMAP_BITS
                            vb.dirty_max = 0
                            flush = True
                self.rcu.read_unlock()
            self.free_purged_blocks(purge_list)
            if not self._purge_vmap_area_lazy(start, end) and flush:
                self.memory.flush_tlb_kernel_range(start, end)


CANARIES: tuple[str, ...] = tuple(f"{__file__}:{canary.__name__}" for canary in (CanaryNoFlush, CanaryNoDirtyMax))
"""As `--version` names them."""
