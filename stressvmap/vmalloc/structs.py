# SPDX-License-Identifier: GPL-2.0-only
"""struct vmap_block, vmap_block_queue, vmap_pool, vmap_node, vm_struct (mm/vmalloc.c, <linux/vmalloc.h>), with
announcing fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from stressvmap.journal.events import ATOMIC, READ, SPACE_BACK, SPACE_OUT, WRITE
from stressvmap.kernel.areas import BUSY, LAZY, VmapArea, VmapTree
from stressvmap.kernel.lists import ListHead, list_add, list_del_init
from stressvmap.kernel.locks import SpinLock
from stressvmap.kernel.machine import Machine
from stressvmap.kernel.struct import Struct
from stressvmap.kernel.workqueue import Work
from stressvmap.kernel.xarray import XArray
from stressvmap.ranges import PAGE_SHIFT
from stressvmap.runtime.access import CHANGES, LOOKS


class VmapBlock(Struct):
    """struct vmap_block. At every unlock of `lock`: live + free + dirty == VMAP_BBMAP_BITS while dirty !=
    VMAP_BBMAP_BITS.
    """

    __slots__ = ("free_list", "lock", "purge")
    STRUCT = "vmap_block"

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.lock = SpinLock(machine, self, "vb->lock")
        self.free_list = ListHead(machine, self, "free_list")
        self.purge = ListHead(machine, self, "purge")

    @property
    def va(self) -> VmapArea:
        """The block's area: alive only while dirty != VMAP_BBMAP_BITS, RCU does not protect it."""
        area: VmapArea = self.read("va")
        return area

    @va.setter
    def va(self, value: VmapArea) -> None:
        self.write("va", value)

    @property
    def free(self) -> int:
        """Pages never handed out; only ever decreases."""
        return int(self.read("free"))

    @free.setter
    def free(self, value: int) -> None:
        self.write("free", value)

    @property
    def dirty(self) -> int:
        """Pages freed, rounded up to their order; VMAP_BBMAP_BITS is the latch of death."""
        return int(self.read("dirty"))

    @dirty.setter
    def dirty(self, value: int) -> None:
        self.write("dirty", value)

    @property
    def dirty_min(self) -> int:
        """First page of the dirty hull."""
        return int(self.read("dirty_min"))

    @dirty_min.setter
    def dirty_min(self, value: int) -> None:
        self.write("dirty_min", value)

    @property
    def dirty_max(self) -> int:
        """One more than the last page of the dirty hull."""
        return int(self.read("dirty_max"))

    @dirty_max.setter
    def dirty_max(self, value: int) -> None:
        self.write("dirty_max", value)

    @property
    def used_map(self) -> int:
        """Bitmap of the pages handed out and not freed (since v6.3)."""
        return int(self.read("used_map"))

    @used_map.setter
    def used_map(self, value: int) -> None:
        self.write("used_map", value)

    @property
    def cpu(self) -> int:
        """The CPU whose list it is put on (since v6.10)."""
        return int(self.read("cpu"))

    @cpu.setter
    def cpu(self, value: int) -> None:
        self.write("cpu", value)


class VmapBlockQueue(Struct):
    """struct vmap_block_queue, one a CPU: the list of blocks with free space that CPU owns and, since v6.4, a hash
    bucket of all blocks (`is_bucket`).
    """

    __slots__ = ("cpu", "free", "lock", "vmap_blocks")
    STRUCT = "vmap_block_queue"

    def __init__(self, machine: Machine, cpu: int, *, is_bucket: bool = True) -> None:
        super().__init__(machine)
        self.cpu = cpu
        """For the audit only: whose it is."""
        self.lock = SpinLock(machine, self, "vbq->lock")
        self.free = ListHead(machine, self, "free")
        if is_bucket:
            self.vmap_blocks: XArray[VmapBlock] = XArray(machine)


class VmapPool:
    """struct vmap_pool: areas of one size, flushed and ready to be handed out again.

    Adding an area and taking it is what gives address space back and hands it out, as for the free tree. Caller holds
    vn->pool_lock for both.
    """

    __slots__ = ("head", "len_field", "node")

    def __init__(self, node: VmapNode, index: int) -> None:
        self.node = node
        self.head = ListHead(node.machine, node, f"pool[{index}].head")
        self.head.next = self.head.prev = self.head
        self.len_field = f"pool[{index}].len"
        node.values[self.len_field] = 0

    @property
    def len(self) -> int:
        """How many areas it holds."""
        return int(self.node.read(self.len_field))

    def write_len(self, value: int) -> None:
        """WRITE_ONCE(vp->len, value)."""
        self.node.WRITE_ONCE(self.len_field, value)

    def read_len(self) -> int:
        """READ_ONCE(vp->len)."""
        return int(self.node.READ_ONCE(self.len_field))

    def add(self, va: VmapArea) -> None:
        """list_add(&va->list, &vp->head)."""
        start, end = va.start_raw(), va.end_raw()
        self.node.machine.record(SPACE_BACK, start >> PAGE_SHIFT, "", end >> PAGE_SHIFT)
        list_add(va.list, self.head)

    def take(self, va: VmapArea, what: str) -> None:
        """list_del_init(&va->list), for a new owner: `block` or `area`."""
        list_del_init(va.list)
        start, end = va.start_raw(), va.end_raw()
        self.node.machine.record(SPACE_OUT, start >> PAGE_SHIFT, what, end >> PAGE_SHIFT)


class VmapNode(Struct):
    """struct vmap_node (since v6.9): a share of the busy and lazy areas, and areas ready for reuse by size.

    `purge_list` is the purge's alone, and its helper's: from the detach until purge_vmap_node has emptied it.
    """

    __slots__ = ("_pools", "_purge_list", "busy", "busy_lock", "lazy", "lazy_lock", "pool_lock", "purge_work")
    STRUCT = "vmap_node"

    def __init__(self, machine: Machine, index: int, purge_vmap_node: Callable[[VmapNode], None]) -> None:
        super().__init__(machine)
        self.busy_lock = SpinLock(machine, self, "vn->busy.lock")
        self.busy = VmapTree(machine, BUSY, self.busy_lock)
        self.lazy_lock = SpinLock(machine, self, "vn->lazy.lock")
        self.lazy = VmapTree(machine, LAZY, self.lazy_lock)
        self.pool_lock = SpinLock(machine, self, "vn->pool_lock")
        self.purge_work = Work(f"vmap_nodes[{index}].purge_work", lambda: purge_vmap_node(self))
        self._pools: dict[int, VmapPool] = {}
        self._purge_list: list[VmapArea] = []

    def pool(self, index: int) -> VmapPool:
        """vn->pool[index], which is there from boot on; here it is made when it is first asked for."""
        pool = self._pools.get(index)
        if pool is None:
            pool = self._pools[index] = VmapPool(self, index)
        return pool

    def filled_pools(self) -> Iterator[VmapPool]:
        """Those with something in them, ascending by size. The other hundreds are passed over without a point: what
        finds one empty would do so a step earlier or later as well.
        """
        for index in sorted(self._pools):
            pool = self._pools[index]
            self.machine.runtime.note((self.id, pool.head.next_field), LOOKS)
            if pool.head.next is not pool.head:
                yield pool

    def audited_pools(self) -> list[VmapPool]:
        """All that were ever asked for: for the audit."""
        return [pool for _, pool in sorted(self._pools.items())]

    @property
    def purge_list(self) -> list[VmapArea]:
        """The areas detached from `lazy`, ascending."""
        self.machine.runtime.note(("purge_list", self.id), CHANGES)
        return self._purge_list

    @purge_list.setter
    def purge_list(self, areas: list[VmapArea]) -> None:
        self.machine.runtime.note(("purge_list", self.id), CHANGES)
        self._purge_list = areas

    @property
    def skip_populate(self) -> bool:
        """The purge under way puts nothing into the pools."""
        return bool(self.read("skip_populate"))

    @skip_populate.setter
    def skip_populate(self, value: bool) -> None:
        self.write("skip_populate", int(value))

    @property
    def nr_purged(self) -> int:
        """Areas that its last purge_vmap_node has seen."""
        return int(self.read("nr_purged"))

    @nr_purged.setter
    def nr_purged(self, value: int) -> None:
        self.write("nr_purged", value)


class VfreeDeferred(Struct):
    """struct vfree_deferred, one a CPU: the areas whose vfree a work is to do, linked through their own first words."""

    __slots__ = ("_list", "wq")
    STRUCT = "vfree_deferred"

    def __init__(self, machine: Machine, cpu: int, work: Callable[[VfreeDeferred], None]) -> None:
        super().__init__(machine)
        self._list: list[int] = []
        self.wq = Work(f"delayed_vfree_work/{cpu}", lambda: work(self))

    def llist_add(self, addr: int) -> bool:
        """llist_add, an indivisible step: whether the list was empty."""
        self._step()
        self._list.append(addr)
        return len(self._list) == 1

    def llist_del_all(self) -> list[int]:
        """llist_del_all, likewise: what was added last comes first."""
        self._step()
        taken = self._list[::-1]
        self._list.clear()
        return taken

    def _step(self) -> None:
        self.machine.runtime.point(ATOMIC, self.id, "list")
        self.machine.record(ATOMIC, self.id, "list", 0)


class VmStruct(Struct):
    """struct vm_struct: what vmalloc knows of an area. Only its owner sees it, so its fields are not announced, but one
    of a dead one tells on whoever reads it.
    """

    __slots__ = ("_addr", "_flags", "_pages", "_size")
    STRUCT = "vm_struct"

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self._addr = 0
        self._size = 0
        self._flags = 0
        self._pages: list[int] = []

    @property
    def addr(self) -> int:
        """First address of the area."""
        self.touch(READ, "addr")
        return self._addr

    @addr.setter
    def addr(self, value: int) -> None:
        self.touch(WRITE, "addr")
        self._addr = value

    @property
    def size(self) -> int:
        """Its size in bytes, guard page included."""
        self.touch(READ, "size")
        return self._size

    @size.setter
    def size(self, value: int) -> None:
        self.touch(WRITE, "size")
        self._size = value

    @property
    def flags(self) -> int:
        """VM_FLUSH_RESET_PERMS and its like."""
        self.touch(READ, "flags")
        return self._flags

    @flags.setter
    def flags(self, value: int) -> None:
        self.touch(WRITE, "flags")
        self._flags = value

    @property
    def pages(self) -> list[int]:
        """The page frames mapped there."""
        self.touch(READ, "pages")
        return self._pages

    @pages.setter
    def pages(self, value: list[int]) -> None:
        self.touch(WRITE, "pages")
        self._pages = value
