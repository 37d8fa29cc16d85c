# SPDX-License-Identifier: GPL-2.0-only
"""[RFC PATCH 3/3] mm/vmalloc.c: change _vm_unmap_aliases() to do purge firstly (Baoquan He, 19 May 2023), on v6.4 and
v6.1.

It needs what 2/3 does to vm_reset_perms: with `_vm_unmap_aliases` gone, nobody takes a caller's direct-map range
along any more.
"""

from __future__ import annotations

from stressvmap.kernel.function import kernel_function
from stressvmap.ranges import PAGE_SHIFT, PAGE_SIZE
from stressvmap.vmalloc.base import ULONG_MAX
from stressvmap.vmalloc.known import DYING_BLOCK, FULL_BLOCK, SPARSE_MASK, SPLIT_WITHOUT_MEMORY, UNMARKED_READS
from stressvmap.vmalloc.structs import VmStruct
from stressvmap.vmalloc.v6_1 import V6_1
from stressvmap.vmalloc.v6_4 import V6_4


class Rfc2of3(V6_4):
    """RFC 2/3 as far as 3/3 needs it: vm_reset_perms flushes its own area and its own direct-map range, each by
    itself.
    """

    @kernel_function
    def vm_reset_perms(self, area: VmStruct) -> None:
        """mm/vmalloc.c:vm_reset_perms (RFC 2/3)."""
        start, end = ULONG_MAX, 0
        for frame in area.pages:
            addr = self.memory.page_address(frame)
            start = min(addr, start)
            end = max(addr + PAGE_SIZE, end)
        for frame in area.pages:
            self.memory.set_direct_map_invalid_noflush(frame)
        if area.pages:
            self.memory.flush_tlb_kernel_range(start, end)
        self.memory.flush_tlb_kernel_range(area.addr, area.addr + area.size)
        for frame in area.pages:
            self.memory.set_direct_map_default_noflush(frame)


class Rfc3of3Patch(V6_4):
    """RFC 3/3: purge first, and count dirty ranges, both under vmap_purge_lock. To try it on another version,
    inherit from this first.
    """

    @kernel_function
    def vm_unmap_aliases(self) -> None:
        """mm/vmalloc.c:vm_unmap_aliases (RFC 3/3)."""
        start, end, flush = ULONG_MAX, 0, False
        if not self.vmap_initialized:
            return
        self.machine.might_sleep()
        with self.vmap_purge_lock:
            self.purge_fragmented_blocks_allcpus()
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
            if not self._purge_vmap_area_lazy(start, end) and flush:
                self.memory.flush_tlb_kernel_range(start, end)


class Rfc3of3(Rfc3of3Patch, Rfc2of3):
    """v6.4 with RFC 2/3 (as far as needed) and RFC 3/3."""

    NAME = "rfc-3of3"
    TITLE = "v6.4 + RFC 3/3 (May 2023)"
    known = (*FULL_BLOCK, *UNMARKED_READS, *DYING_BLOCK, *SPLIT_WITHOUT_MEMORY, *SPARSE_MASK)


class Rfc3of3OnV6_1(Rfc3of3Patch, Rfc2of3, V6_1):
    """The same on v6.1, which 2/3 and 3/3 fit as they are: what they touch did not change until v6.4."""

    NAME = "rfc-3of3-on-v6.1"
    TITLE = "v6.1 + RFC 3/3 (May 2023)"
    known = (*FULL_BLOCK, *UNMARKED_READS, *DYING_BLOCK, *SPLIT_WITHOUT_MEMORY)
