# SPDX-License-Identifier: GPL-2.0-only
"""struct vmap_block, struct vmap_block_queue, struct vm_struct (mm/vmalloc.c, <linux/vmalloc.h>), with announcing
fields.
"""

from __future__ import annotations

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
    """struct vm_struct: what vmalloc knows of an area. Only its owner sees it, so its fields are not announced."""

    __slots__ = ("addr", "flags", "pages", "size")
    STRUCT = "vm_struct"

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.addr = 0
        self.size = 0
        self.flags = 0
        self.pages: list[int] = []
