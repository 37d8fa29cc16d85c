# SPDX-License-Identifier: GPL-2.0-only
"""The areas of mm/vmalloc.c since v6.9 (Uladzislau Rezki, January 2024), as v6.12 has them.

Nodes share the busy and the lazy areas among them, so that no lock is everybody's; a node keeps what it has flushed in
pools by size, which skip the free tree; and where much is lazy, kworkers help to give it back. A lazy area is coalesced
no more, and the drain makes one pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, cast

from stressvmap.journal.events import AUDIT_FIELD, AUDIT_LIST_BROKEN, AUDIT_LISTED
from stressvmap.kernel.areas import BUSY, FREE, LAZY, POOL, VmapArea, VmapTree
from stressvmap.kernel.function import kernel_function, kernel_function_named
from stressvmap.kernel.lists import (
    ListHead,
    list_del_init,
    list_empty,
    list_first_entry,
    list_for_each_entry_safe,
    list_move_tail,
    list_replace_init,
)
from stressvmap.kernel.locks import DEFINE_SPINLOCK
from stressvmap.kernel.slab import kmalloc, kmem_cache_alloc
from stressvmap.ranges import PAGE_SHIFT, PAGE_SIZE
from stressvmap.vmalloc.base import (
    EBUSY,
    EINVAL,
    ENOMEM,
    ULONG_MAX,
    Shrinker,
)
from stressvmap.vmalloc.structs import VmapNode, VmapPool, VmStruct
from stressvmap.vmalloc.v6_5 import V6_5

MAX_VA_SIZE_PAGES: Final = 256
"""Largest area that a pool takes."""
VMAP_NODES_MAX: Final = 128
VMAP_ZONE_PAGES: Final = 16
"""The node of an address is that of its zone."""
BITS_PER_BYTE: Final = 8


class VmapNodes(V6_5):
    """v6.5's blocks over the areas of v6.9: what later versions are made of, none itself. Of what it inherits,
    vmap_area_lock and the one lazy tree are not there any more.
    """

    KWORKERS = 3

    def vmap_init_trees(self) -> None:
        """mm/vmalloc.c:vmap_init_nodes (v6.12): one node for each possible CPU. And the free tree."""
        self.free_vmap_area_lock = DEFINE_SPINLOCK(self.machine, "free_vmap_area_lock")
        self.free_vmap_area_root = VmapTree(self.machine, FREE, self.free_vmap_area_lock)
        self.nr_vmap_nodes = min(len(self.machine.possible), VMAP_NODES_MAX)
        self.vmap_zone_size = VMAP_ZONE_PAGES * PAGE_SIZE if self.nr_vmap_nodes > 1 else 1
        self.vmap_nodes = [VmapNode(self.machine, id, self.purge_vmap_node) for id in range(self.nr_vmap_nodes)]

    def registered_shrinkers(self) -> tuple[Shrinker, ...]:
        """The one that gives back what lies in the pools."""
        return (Shrinker("vmap-node", self.vmap_node_shrink_count, self.vmap_node_shrink_scan),)

    # -- nodes and pools ----------------------------------------------------------------------------------

    def addr_to_node_id(self, addr: int) -> int:
        """mm/vmalloc.c:addr_to_node_id (v6.12)."""
        return (addr // self.vmap_zone_size) % self.nr_vmap_nodes

    def addr_to_node(self, addr: int) -> VmapNode:
        """mm/vmalloc.c:addr_to_node (v6.12)."""
        return self.vmap_nodes[self.addr_to_node_id(addr)]

    def id_to_node(self, id: int) -> VmapNode:
        """mm/vmalloc.c:id_to_node (v6.12)."""
        return self.vmap_nodes[id % self.nr_vmap_nodes]

    def encode_vn_id(self, node_id: int) -> int:
        """mm/vmalloc.c:encode_vn_id (v6.12): for va->flags, where 0 means no node."""
        if node_id < self.nr_vmap_nodes:
            return (node_id + 1) << BITS_PER_BYTE
        self.machine.WARN_ON(True, "encode wrong node id")
        return 0

    def decode_vn_id(self, val: int) -> int:
        """mm/vmalloc.c:decode_vn_id (v6.12): nr_vmap_nodes if there is none."""
        node_id = (val >> BITS_PER_BYTE) - 1
        if 0 <= node_id < self.nr_vmap_nodes:
            return node_id
        self.machine.WARN_ON(node_id >= 0, "decode wrong node id")
        return self.nr_vmap_nodes

    def is_vn_id_valid(self, node_id: int) -> bool:
        """mm/vmalloc.c:is_vn_id_valid (v6.12)."""
        return node_id < self.nr_vmap_nodes

    def size_to_va_pool(self, vn: VmapNode, size: int) -> VmapPool | None:
        """mm/vmalloc.c:size_to_va_pool (v6.12)."""
        idx = (size - 1) // PAGE_SIZE
        return vn.pool(idx) if idx < MAX_VA_SIZE_PAGES else None

    @kernel_function
    def node_pool_add_va(self, n: VmapNode, va: VmapArea) -> bool:
        """mm/vmalloc.c:node_pool_add_va (v6.12)."""
        vp = self.size_to_va_pool(n, va.va_end - va.va_start)
        if vp is None:
            return False
        with n.pool_lock:
            vp.add(va)
            vp.write_len(vp.len + 1)
        return True

    @kernel_function
    def node_pool_del_va(self, vn: VmapNode, size: int, align: int, vstart: int, vend: int) -> VmapArea | None:
        """mm/vmalloc.c:node_pool_del_va (v6.12): the area that came last, unless it is not aligned: that one goes to
        the tail, for the next try.
        """
        vp = self.size_to_va_pool(vn, size)
        if vp is None or list_empty(vp.head):
            return None
        found = None
        with vn.pool_lock:
            if not list_empty(vp.head):
                va = cast("VmapArea", list_first_entry(vp.head))
                if va.va_start & (align - 1) == 0:
                    err = va.va_end - va.va_start != size or va.va_start < vstart or va.va_end > vend
                    if not self.machine.WARN_ON(err, "an area in the wrong pool"):
                        vp.take(va, "block" if align > PAGE_SIZE else "area")
                        vp.write_len(vp.len - 1)
                        found = va
                else:
                    list_move_tail(va.list, vp.head)
        return found

    @kernel_function
    def node_alloc(self, size: int, align: int, vstart: int, vend: int) -> tuple[VmapArea | None, int, int]:
        """mm/vmalloc.c:node_alloc (v6.12): from the pool of this CPU's node: the area, its address or vend, and what
        flags have to say of the node, even if it had none.
        """
        if vstart != self.VMALLOC_START or vend != self.VMALLOC_END or self.nr_vmap_nodes == 1:
            return None, vend, 0
        node_id = self.machine.smp_processor_id() % self.nr_vmap_nodes
        va = self.node_pool_del_va(self.id_to_node(node_id), size, align, vstart, vend)
        return va, vend if va is None else va.va_start, self.encode_vn_id(node_id)

    @kernel_function
    def reclaim_list_global(self, head: Sequence[VmapArea]) -> None:
        """mm/vmalloc.c:reclaim_list_global (v6.12): back to the free tree."""
        if not head:
            return
        with self.free_vmap_area_lock:
            for va in head:
                self.free_vmap_area_root.merge_or_add(va)

    @kernel_function
    def decay_va_pool_node(self, vn: VmapNode, full_decay: bool) -> None:
        """mm/vmalloc.c:decay_va_pool_node (v6.12): a quarter of each pool, or all of it, back to the free tree.

        A quarter of less than four is none, and counting down from it never comes to none: until v6.15 such a pool is
        emptied. What is left is put back as if nobody could have added to the pool meanwhile, which is so as long as
        whoever does holds vmap_purge_lock.
        """
        decay_root = VmapTree(self.machine, "decay")
        for pool in vn.filled_pools():
            if list_empty(pool.head):
                continue
            tmp_list = self.LIST_HEAD("tmp_list")
            with vn.pool_lock:
                list_replace_init(pool.head, tmp_list)
            if full_decay:
                pool.write_len(0)
            n_decay = pool.len >> 2
            for va in _areas_of(tmp_list):
                list_del_init(va.list)
                decay_root.merge_or_add(va)
                if not full_decay:
                    pool.write_len(pool.len - 1)
                    n_decay -= 1
                    if n_decay == 0:
                        break
            if not full_decay and not list_empty(tmp_list):
                with vn.pool_lock:
                    list_replace_init(tmp_list, pool.head)
        self.reclaim_list_global(decay_root.areas())

    @kernel_function
    def vmap_node_shrink_count(self) -> int:
        """mm/vmalloc.c:vmap_node_shrink_count (v6.12)."""
        return sum(pool.read_len() for vn in self.vmap_nodes for pool in vn.filled_pools())

    @kernel_function
    def vmap_node_shrink_scan(self) -> None:
        """mm/vmalloc.c:vmap_node_shrink_scan (v6.12, with ec05f51f1e65): under vmap_purge_lock."""
        with self.vmap_purge_lock:
            for vn in self.vmap_nodes:
                self.decay_va_pool_node(vn, True)

    # -- areas --------------------------------------------------------------------------------------------

    @kernel_function
    def find_vmap_area(self, addr: int) -> VmapArea | None:
        """mm/vmalloc.c:find_vmap_area (v6.12). An address inside an area may belong to another node than its start:
        so all are asked, in turn.
        """
        first = self.addr_to_node_id(addr)
        for step in range(self.nr_vmap_nodes):
            vn = self.vmap_nodes[(first + step) % self.nr_vmap_nodes]
            with vn.busy_lock:
                va = vn.busy.find(addr)
            if va is not None:
                return va
        return None

    @kernel_function
    def find_unlink_vmap_area(self, addr: int) -> VmapArea | None:
        """mm/vmalloc.c:find_unlink_vmap_area (v6.12)."""
        first = self.addr_to_node_id(addr)
        for step in range(self.nr_vmap_nodes):
            vn = self.vmap_nodes[(first + step) % self.nr_vmap_nodes]
            with vn.busy_lock:
                va = vn.busy.find(addr)
                if va is not None:
                    vn.busy.erase(va)
            if va is not None:
                return va
        return None

    @kernel_function
    def find_vm_area(self, addr: int) -> VmStruct | None:
        """mm/vmalloc.c:find_vm_area (v6.12)."""
        va = self.find_vmap_area(addr)
        if va is None:
            return None
        vm: VmStruct | None = va.vm
        return vm

    @kernel_function
    def alloc_vmap_area(
        self, size: int, align: int, vstart: int, vend: int, va_flags: int, vm: VmStruct | None = None
    ) -> VmapArea | int:
        """mm/vmalloc.c:alloc_vmap_area (v6.12): an area in the busy tree of its node, bound to `vm` if there is one,
        or -ENOMEM, -EBUSY.
        """
        if not size or size & (PAGE_SIZE - 1) or align & (align - 1):
            return -EINVAL
        if not self.vmap_initialized:
            return -EBUSY
        self.machine.might_sleep()
        va, addr, vn_id = self.node_alloc(size, align, vstart, vend)
        if va is None:
            va = kmem_cache_alloc(self.machine, VmapArea)
            if va is None:
                return -ENOMEM
        purged = False
        while addr == vend:
            self.preload_this_cpu_lock(self.free_vmap_area_lock)
            addr = self._alloc_vmap_area(size, align, vstart, vend)
            self.free_vmap_area_lock.unlock()
            if addr != vend:
                break
            if not purged:
                self.reclaim_and_purge_vmap_areas()
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
        va.flags = va_flags | vn_id
        if vm is not None:
            vm.addr = va.va_start
            vm.size = va.va_end - va.va_start
            va.vm = vm
        vn = self.addr_to_node(va.va_start)
        with vn.busy_lock:
            vn.busy.insert(va)
        return va

    @kernel_function
    def free_vmap_area(self, va: VmapArea) -> None:
        """mm/vmalloc.c:free_vmap_area (v6.12): to the free tree at once; only for an area that was never mapped."""
        vn = self.addr_to_node(va.va_start)
        with vn.busy_lock:
            vn.busy.erase(va)
        with self.free_vmap_area_lock:
            self.free_vmap_area_root.merge_or_add(va)

    @kernel_function
    def free_vmap_area_noflush(self, va: VmapArea) -> None:
        """mm/vmalloc.c:free_vmap_area_noflush (v6.12): an area unlinked and unmapped becomes a lazy one, of the node
        that asked for it.
        """
        nr_lazy_max = self.lazy_max_pages()
        vn_id = self.decode_vn_id(va.flags)
        if self.machine.WARN_ON(va.node is not None, "the area is still on a list"):
            return
        nr_lazy = self.vmap_lazy_nr.add_return((va.va_end - va.va_start) >> PAGE_SHIFT)
        vn = self.id_to_node(vn_id) if self.is_vn_id_valid(vn_id) else self.addr_to_node(va.va_start)
        with vn.lazy_lock:
            vn.lazy.insert(va)
        if nr_lazy > nr_lazy_max:
            self.kernel.workqueue.schedule_work(self.drain_vmap_work)

    @kernel_function
    def purge_vmap_node(self, vn: VmapNode) -> None:
        """mm/vmalloc.c:purge_vmap_node (v6.12): what is flushed goes into the pools of its node, or back to the free
        tree. The purge itself runs it, or a kworker for it.
        """
        nr_purged_pages = 0
        local_list: list[VmapArea] = []
        vn.nr_purged = 0
        purge_list = vn.purge_list
        while purge_list:
            va = purge_list.pop(0)
            nr = (va.va_end - va.va_start) >> PAGE_SHIFT
            vn_id = self.decode_vn_id(va.flags)
            nr_purged_pages += nr
            vn.nr_purged += 1
            if self.is_vn_id_valid(vn_id) and not vn.skip_populate and self.node_pool_add_va(vn, va):
                continue
            local_list.insert(0, va)
        self.vmap_lazy_nr.sub(nr_purged_pages)
        self.reclaim_list_global(local_list)

    @kernel_function_named("__purge_vmap_area_lazy")
    def _purge_vmap_area_lazy(self, start: int, end: int, full_pool_decay: bool = False) -> bool:
        """mm/vmalloc.c:__purge_vmap_area_lazy (v6.12): flush the hull of [start, end) and the lazy areas of all nodes
        once, then free those; whether there were any.
        """
        self.vmap_purge_lock.assert_held()
        purge_nodes: list[int] = []
        for i, vn in enumerate(self.vmap_nodes):
            vn.purge_list = []
            vn.skip_populate = full_pool_decay
            self.decay_va_pool_node(vn, full_pool_decay)
            if vn.lazy.is_empty_unlocked():
                continue
            with vn.lazy_lock:
                areas = vn.lazy.detach_all()
            start = min(start, areas[0].va_start)
            end = max(end, areas[-1].va_end)
            vn.purge_list = areas
            purge_nodes.append(i)
        if not purge_nodes:
            return False
        self.memory.flush_tlb_kernel_range(start, end)
        return self._purge_nodes(purge_nodes) > 0

    def _purge_nodes(self, purge_nodes: Sequence[int]) -> int:
        """The rest of it: how many areas were freed. One helper for each lazy_max_pages() but the first."""
        workqueue = self.kernel.workqueue
        nr_purged_areas = 0
        nr_purge_helpers = self.vmap_lazy_nr.read_value() // self.lazy_max_pages()
        nr_purge_helpers = min(max(nr_purge_helpers, 1), len(purge_nodes)) - 1
        helped: list[VmapNode] = []
        for i in purge_nodes:
            vn = self.vmap_nodes[i]
            if nr_purge_helpers > 0:
                if self.machine.cpu_online(i):
                    workqueue.schedule_work_on(i, vn.purge_work)
                else:
                    workqueue.schedule_work(vn.purge_work)
                helped.append(vn)
                nr_purge_helpers -= 1
            else:
                self.purge_vmap_node(vn)
                nr_purged_areas += vn.nr_purged
        for vn in helped:
            workqueue.flush_work(vn.purge_work)
            nr_purged_areas += vn.nr_purged
        return nr_purged_areas

    @kernel_function
    def reclaim_and_purge_vmap_areas(self) -> None:
        """mm/vmalloc.c:reclaim_and_purge_vmap_areas (v6.12): for an allocation that found no space."""
        with self.vmap_purge_lock:
            self.purge_fragmented_blocks_allcpus()
            self._purge_vmap_area_lazy(ULONG_MAX, 0, True)

    @kernel_function
    def drain_vmap_area_work(self) -> None:
        """mm/vmalloc.c:drain_vmap_area_work (v6.12): once. Never purges fragmented blocks."""
        with self.vmap_purge_lock:
            self._purge_vmap_area_lazy(ULONG_MAX, 0, False)

    # -- what callers see ---------------------------------------------------------------------------------

    @kernel_function
    def vmalloc(self, size: int, vm_flags: int = 0) -> int:
        """mm/vmalloc.c:__vmalloc_node_range (v6.12), small pages: a guard page is part of the area."""
        area = kmalloc(self.machine, VmStruct)
        if area is None:
            return 0
        area.flags = vm_flags
        va = self.alloc_vmap_area(size + PAGE_SIZE, PAGE_SIZE, self.VMALLOC_START, self.VMALLOC_END, 0, area)
        if isinstance(va, int):
            area.kfree()
            return 0
        if not self.get_page_array(area):
            return 0
        area.pages = [self.kernel.frames.alloc() for _ in range(size >> PAGE_SHIFT)]
        if self.memory.vmap_pages_range_noflush(area.addr, area.pages) < 0:
            self.vfree(area.addr)
            return 0
        return area.addr

    @kernel_function
    def show_vmallocinfo(self) -> None:
        """mm/vmalloc.c:vmalloc_info_show and show_purge_info (v6.12): the busy areas, node by node, then the lazy ones,
        each under the lock of its tree alone.
        """
        for vn in self.vmap_nodes:
            with vn.busy_lock:
                for va in vn.busy.areas():
                    self.show_area(va)
        for vn in self.vmap_nodes:
            with vn.lazy_lock:
                for va in vn.lazy.areas():
                    self.show_purged(va)

    # -- audit --------------------------------------------------------------------------------------------

    def audited_areas(self) -> Iterator[tuple[str, VmapArea]]:
        """Those of all nodes, and the free ones. Of the pools also how many they say they hold, and whether a list is
        broken.
        """
        record = self.machine.record
        for vn in self.vmap_nodes:
            for area in vn.busy.areas():
                yield BUSY, area
            for area in vn.lazy.areas():
                yield LAZY, area
            for pool in vn.audited_pools():
                record(AUDIT_FIELD, vn.id, pool.len_field, vn.values[pool.len_field])
                limit = len(self.machine.live) + 1
                node, previous = pool.head.next, pool.head
                while isinstance(node, ListHead) and node is not pool.head and limit:
                    assert isinstance(node.owner, VmapArea)
                    yield POOL, node.owner
                    record(AUDIT_LISTED, node.owner.id, pool.head.field, vn.id)
                    if node.prev is not previous:
                        record(AUDIT_LIST_BROKEN, node.owner.id, pool.head.field, vn.id)
                    previous, node = node, node.next
                    limit -= 1
                if node is not pool.head or pool.head.prev is not previous:
                    record(AUDIT_LIST_BROKEN, vn.id, pool.head.field, vn.id)
        for area in self.free_vmap_area_root.areas():
            yield FREE, area


def _areas_of(head: ListHead) -> Iterator[VmapArea]:
    """list_for_each_entry_safe(va, n_va, head, list)."""
    return cast("Iterator[VmapArea]", list_for_each_entry_safe(head))
