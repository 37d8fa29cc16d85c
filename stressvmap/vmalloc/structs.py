# SPDX-License-Identifier: GPL-2.0-only
"""struct vmap_block, struct vmap_block_queue, struct vm_struct (mm/vmalloc.c, <linux/vmalloc.h>), with announcing
fields.
"""

from __future__ import annotations

from stressvmap.journal.events import READ, WRITE
from stressvmap.kernel.areas import VmapArea
from stressvmap.kernel.lists import ListHead
from stressvmap.kernel.locks import SpinLock
from stressvmap.kernel.machine import Machine
from stressvmap.kernel.struct import Struct
from stressvmap.kernel.xarray import XArray


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


class VmapBlockQueue(Struct):
    """struct vmap_block_queue, one a CPU: the list of blocks with free space that CPU owns and, since v6.4, a hash
    bucket of all blocks.
    """

    __slots__ = ("cpu", "free", "lock", "vmap_blocks")
    STRUCT = "vmap_block_queue"

    def __init__(self, machine: Machine, cpu: int) -> None:
        super().__init__(machine)
        self.cpu = cpu
        """For the audit only: whose it is."""
        self.lock = SpinLock(machine, self, "vbq->lock")
        self.free = ListHead(machine, self, "free")
        self.vmap_blocks: XArray[VmapBlock] = XArray(machine)


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
