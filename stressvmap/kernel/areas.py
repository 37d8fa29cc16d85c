# SPDX-License-Identifier: GPL-2.0-only
"""struct vmap_area (<linux/vmalloc.h>) and the trees it lives in.

A tree's inside is not announced step by step: it is only ever changed under its lock, so an operation on it is one
step. What the journal calls *handed out* and *back* is the free tree losing and gaining space, whoever makes it do
so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from stressvmap.journal.events import (
    READ_ONCE,
    SPACE_BACK,
    SPACE_OUT,
    TREE_ERASE,
    TREE_FIND,
    TREE_INSERT,
    UNINITIALISED,
)
from stressvmap.kernel.lists import ListHead
from stressvmap.kernel.locks import SpinLock
from stressvmap.kernel.machine import Machine
from stressvmap.kernel.rbtree import AreaTree, RbNode
from stressvmap.kernel.struct import POISON, Struct
from stressvmap.ranges import PAGE_SHIFT, PAGE_SIZE
from stressvmap.runtime.access import CHANGES, LOOKS

BUSY: Final = "busy"
LAZY: Final = "lazy"
FREE: Final = "free"
POOL: Final = "pool"


class AreaNode(RbNode):
    """The rb_node of an area, the area, and the tree whose nodes it is linked with."""

    __slots__ = ("area", "tree")

    def __init__(self, start: int, end: int, area: VmapArea, tree: AreaTree) -> None:
        super().__init__(start, end)
        self.area = area
        self.tree = tree


class VmapArea(Struct):
    """struct vmap_area: addresses [va_start, va_end). The journal shows them as pages."""

    __slots__ = ("_list", "_node")
    STRUCT = "vmap_area"
    SHOWS_INTEGERS = False

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self._node: AreaNode | None = None
        self._list: ListHead | None = None

    @property
    def list(self) -> ListHead:
        """The link of a list that is not a tree's own: a pool's."""
        if self._list is None:
            self._list = ListHead(self.machine, self, "list")
        return self._list

    @property
    def node(self) -> AreaNode | None:
        """Its rb_node, as a tree operation reads it: unannounced."""
        self.machine.runtime.note((self.id, "rb_node"), LOOKS)
        return self._node

    @node.setter
    def node(self, value: AreaNode | None) -> None:
        self.machine.runtime.note((self.id, "rb_node"), CHANGES)
        self._node = value

    def shown(self, field: str, value: Any) -> int:
        """Addresses as pages."""
        if field == "va_start" or field == "va_end":
            return int(value) >> PAGE_SHIFT
        return super().shown(field, value)

    @property
    def va_start(self) -> int:
        """First address."""
        return int(self.read("va_start"))

    @va_start.setter
    def va_start(self, address: int) -> None:
        self.write("va_start", address)

    @property
    def va_end(self) -> int:
        """One more than the last address."""
        return int(self.read("va_end"))

    @va_end.setter
    def va_end(self, address: int) -> None:
        self.write("va_end", address)

    @property
    def flags(self) -> int:
        """VMAP_RAM | VMAP_BLOCK (since v6.3), and from bit 8 on the node it is to return to, plus 1 (since v6.9)."""
        return int(self.read("flags"))

    @flags.setter
    def flags(self, value: int) -> None:
        self.write("flags", value)

    @property
    def vm(self) -> Any:
        """The vm_struct of a vmalloc area, or None."""
        return self.read("vm")

    @vm.setter
    def vm(self, value: Any) -> None:
        self.write("vm", value)

    def start_raw(self) -> int:
        """va_start as a tree operation reads it, unannounced."""
        return self._raw("va_start")

    def end_raw(self) -> int:
        """va_end likewise."""
        return self._raw("va_end")

    def _raw(self, field: str) -> int:
        self.machine.runtime.note((self.id, field), LOOKS)
        if field not in self.values:
            self.machine.record(UNINITIALISED, self.id, field, 0)
            return POISON
        return int(self.values[field])


class VmapTree:
    """One rb-tree of areas with its sorted list (`vmap_area_root` and `vmap_area_list`, and their like).

    Invariant: areas in one tree do not overlap. The caller holds `lock`: an operation is one step only because of that,
    so one without it is told to the journal as an assertion that does not hold.
    """

    def __init__(self, machine: Machine, name: str, lock: SpinLock | None = None) -> None:
        self.machine = machine
        self.name = name
        self.lock = lock
        self.tree = AreaTree(name == FREE)

    def areas(self) -> list[VmapArea]:
        """All areas, ascending."""
        return [_area(node) for node in self.tree]

    @property
    def is_empty(self) -> bool:
        """RB_EMPTY_ROOT."""
        return len(self.tree) == 0

    def is_empty_unlocked(self) -> bool:
        """RB_EMPTY_ROOT without the tree's lock: a marked read of the root, which is a field beside the lock."""
        machine = self.machine
        assert self.lock is not None
        holder, field = self.lock.inside.id, f"{self.name}.root"
        machine.runtime.point(READ_ONCE, holder, field)
        machine.runtime.note(("tree", self.name), LOOKS)
        root = self.tree.rb_root
        machine.record(READ_ONCE, holder, field, 0 if root is None else _area(root).id)
        return root is None

    def insert(self, area: VmapArea) -> bool:
        """insert_vmap_area: False, with a warning, if it overlaps what is there."""
        self._announce(TREE_INSERT, area.id)
        start, end = area.start_raw(), area.end_raw()
        self.machine.BUG_ON(start >= end, "an area to insert ends before it begins")
        node = AreaNode(start, end, area, self.tree)
        if not self.tree.insert(node):
            self.machine.WARN_ON(True, f"an area to insert overlaps one in the {self.name} tree")
            return False
        area.node = node
        self.machine.record(TREE_INSERT, area.id, self.name, 0)
        self._came(start, end)
        return True

    def erase(self, area: VmapArea) -> None:
        """unlink_va."""
        self._announce(TREE_ERASE, area.id)
        area.touch(TREE_ERASE, "rb_node")
        if self.machine.WARN_ON(area.node is None, "the area is in no tree"):
            return
        self._unlink(area)
        self._went(area.start_raw(), area.end_raw())

    def find(self, address: int) -> VmapArea | None:
        """__find_vmap_area: the area that contains `address`."""
        self._announce(TREE_FIND, 0)
        node = self.tree.find(address)
        area = None if node is None else _area(node)
        self.machine.record(TREE_FIND, 0 if area is None else area.id, self.name, address >> PAGE_SHIFT)
        return area

    def detach_all(self) -> list[VmapArea]:
        """Take everything out at once (root = RB_ROOT, list_replace_init), ascending."""
        self._announce(TREE_ERASE, 0)
        areas = [_area(node) for node in self.tree.clear_and_detach()]
        for area in areas:
            area.node = None
            self.machine.record(TREE_ERASE, area.id, self.name, 0)
        return areas

    def merge_or_add(self, area: VmapArea) -> VmapArea | None:
        """merge_or_add_vmap_area(_augment): coalesce with adjacent areas, freeing the structs that are absorbed;
        None, with a warning, on overlap.
        """
        machine = self.machine
        self._announce(TREE_INSERT, area.id)
        area.touch(TREE_INSERT, "rb_node")
        start, end = area.start_raw(), area.end_raw()
        neighbours = self.tree.neighbours_of(start, end)
        if neighbours is None:
            machine.WARN_ON(True, f"an area to merge overlaps one in the {self.name} tree")
            return None
        before, after = neighbours
        merged = area
        is_merged = False
        if after is not None and after.rb_start == end:
            sibling = _area(after)
            self._resize(sibling, start, sibling.end_raw())
            area.kfree()
            merged, is_merged = sibling, True
        if before is not None and before.rb_end == start:
            sibling = _area(before)
            if is_merged:
                self._unlink(merged)
            self._resize(sibling, sibling.start_raw(), merged.end_raw())
            merged.kfree()
            merged, is_merged = sibling, True
        if not is_merged:
            merged = self._settle(area)
        machine.record(TREE_INSERT, merged.id, self.name, 0)
        self._came(start, end)
        return merged

    def carve(
        self, size: int, align: int, window_start: int, window_end: int, get_spare: Callable[[], VmapArea | None]
    ) -> int:
        """__alloc_vmap_area: take `size` bytes, lowest fit: the address, or window_end. `get_spare` is asked for a
        struct only if a hole is split in two; it may let others run, who find the lock taken.
        """
        adjust = align > PAGE_SIZE and window_end - window_start != size
        spare: VmapArea | None = None
        while True:
            self._announce(TREE_ERASE, 0)
            node = self.tree.lowest_match(size, align, window_start, adjust)
            if node is None:
                return window_end
            start = -(-max(node.rb_start, window_start) // align) * align
            end = start + size
            if end > window_end:
                return window_end
            is_split = node.rb_start != start and node.rb_end != end
            if spare is not None or not is_split:
                break
            spare = get_spare()
            if spare is None:
                self.machine.WARN_ON(True, "WARN_ON(ret)")  # adjust_va_to_fit_type has no memory for the split
                return window_end
            if self._is_locked():
                break  # the hole is what it was; who lets others into the tree has to look again
        hole = _area(node)
        if is_split:
            assert spare is not None
            left_start = node.rb_start
            self._resize(hole, end, node.rb_end)
            spare.values["va_start"], spare.values["va_end"] = left_start, start
            spare.node = node = AreaNode(left_start, start, spare, self.tree)
            self.tree.insert(node)
        elif node.rb_start != start:
            self._resize(hole, node.rb_start, start)
        elif node.rb_end != end:
            self._resize(hole, end, node.rb_end)
        else:
            self._unlink(hole)
            hole.kfree()
        self._went(start, end, "block" if align > PAGE_SIZE else "area")
        return start

    def add_boot_space(self, start: int, end: int) -> None:
        """vmap_init_free_space: the whole window, before anything runs."""
        area = VmapArea(self.machine)
        area.values["va_start"], area.values["va_end"] = start, end
        area.node = node = AreaNode(start, end, area, self.tree)
        self.tree.insert(node)

    # -- inside -------------------------------------------------------------------------------------------

    def _announce(self, kind: int, object_id: int) -> None:
        if self.lock is not None and not self._is_locked():
            self.lock.assert_held()
        self.machine.runtime.point(kind, object_id, self.name)

    def _is_locked(self) -> bool:
        """By the current task."""
        return self.lock is not None and self.lock.owner is self.machine.runtime.current

    def _settle(self, area: VmapArea) -> VmapArea:
        """Put `area` into the tree by itself. In the free tree the struct lives on as a node that means other
        addresses later.
        """
        settled = area
        if self.name == FREE:
            settled = VmapArea(self.machine)
            settled.values["va_start"], settled.values["va_end"] = area.start_raw(), area.end_raw()
            area.recycle(settled)
        settled.node = node = AreaNode(settled.start_raw(), settled.end_raw(), settled, self.tree)
        self.tree.insert(node)
        return settled

    def _resize(self, area: VmapArea, start: int, end: int) -> None:
        node, note = area.node, self.machine.runtime.note
        assert node is not None
        note((area.id, "va_start"), CHANGES)
        note((area.id, "va_end"), CHANGES)
        area.values["va_start"] = node.rb_start = start
        area.values["va_end"] = node.rb_end = end
        self.tree.changed(node)

    def _unlink(self, area: VmapArea) -> None:
        """rb_erase follows the node's own links: who is wrong about the tree takes it out of the one that it is in."""
        node = area.node
        assert node is not None
        node.tree.erase(node)
        area.node = None
        self.machine.record(TREE_ERASE, area.id, self.name, 0)

    def _came(self, start: int, end: int) -> None:
        if self.name == FREE:
            self.machine.record(SPACE_BACK, start >> PAGE_SHIFT, "", end >> PAGE_SHIFT)

    def _went(self, start: int, end: int, what: str = "area") -> None:
        if self.name == FREE:
            self.machine.record(SPACE_OUT, start >> PAGE_SHIFT, what, end >> PAGE_SHIFT)


def _area(node: RbNode) -> VmapArea:
    assert isinstance(node, AreaNode)
    return node.area
