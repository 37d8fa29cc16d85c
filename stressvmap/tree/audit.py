# SPDX-License-Identifier: GPL-2.0-only
"""The snapshot at rest, read from the memory of the code under test through its own debug info: a tree's `audit()`.

Nothing is called and nothing changed; the run is over. What a kernel does not have (pools, nodes) is not there to be
read, and names are looked up, not assumed: a tree that renames `vmap_lazy_nr` loses that value, and the check that
needs it says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from stressvmap.journal import events as ev
from stressvmap.journal.events import Event
from stressvmap.tree.decode import Decoder, Object
from stressvmap.tree.layout import Global, Struct

WALK_MAX: Final = 1 << 20
"""No structure of one run has more members; a walk that goes on runs in a circle."""
BLOCK_FIELDS: Final = ("free", "dirty", "dirty_min", "dirty_max")
TREE_NAMES: Final = (("purge_vmap_area_root", "lazy"), ("free_vmap_area_root", "free"), ("vmap_area_root", "busy"))
"""The global roots of areas, and the journal's names for them."""
NODE_TREES: Final = (("lazy.root", "lazy"), ("busy.root", "busy"))
"""Those in a vmap_node (since v6.9)."""


class Auditor:
    """Takes snapshots of one library's memory."""

    def __init__(self, decoder: Decoder, block_bits: int, window: tuple[int, int], lazy_bias: int) -> None:
        self.decoder = decoder
        self.library = decoder.library
        self.structs = decoder.layout.structs
        self.block_bits = block_bits
        self.window = window
        self.lazy_bias = lazy_bias
        self.mapped: set[int] = set()

    def snapshot(self, mapped: set[int], frames_owned: int, direct_map_holes: int) -> list[Event]:
        """The events of an audit at rest. `mapped`: pages with a PTE."""
        self.mapped = mapped
        values = [
            ("block_bits", self.block_bits),
            ("window_start", self.window[0]),
            ("window_end", self.window[1]),
            ("frames_owned", frames_owned),
            ("direct_map_holes", direct_map_holes),
        ]
        lazy = self._atomic_value("vmap_lazy_nr")
        if lazy is not None:
            values.append(("vmap_lazy_nr", lazy - self.lazy_bias))
        told = [_event(ev.AUDIT_BEGIN, 0, "rest", 0)]
        told += [_event(ev.AUDIT_VALUE, 0, name, value) for name, value in values]
        told += self._queues()
        told += self._blocks()
        told += self._pools()
        areas = list(self._areas())
        told += [_event(ev.AUDIT_AREA, start, tree, end) for start, end, tree, _ in areas]
        told += self._left(areas)
        told.append(_event(ev.AUDIT_END, 0, "", 0))
        return told

    # -- blocks -------------------------------------------------------------------------------------------

    def _queues(self) -> Iterator[Event]:
        for queue, cpu in self.queues():
            yield _event(ev.AUDIT_FIELD, queue.id, "cpu", cpu)
            yield from self._listed(queue, cpu)

    def queues(self) -> list[tuple[Object, int]]:
        """The per-CPU queues of blocks."""
        cpus = {view.id: view.cpu for view in self.library.objects() if view.cpu >= 0}
        return [
            (one, cpus[one.id]) for one in self.decoder.objects() if one.type == "vmap_block_queue" and one.id in cpus
        ]

    def _listed(self, queue: Object, cpu: int) -> Iterator[Event]:
        head_at = self._part(queue.layout, "free")
        if head_at is None:
            return
        head = previous = queue.start + head_at
        node = self._pointer(head)
        for _ in range(WALK_MAX):
            owner = self.decoder.object_at(node)
            if node == head or owner is None:
                break
            yield _event(ev.AUDIT_LISTED, owner.id, "free", cpu)
            if self._pointer(node + 8) != previous:
                yield _event(ev.AUDIT_LIST_BROKEN, owner.id, "free", cpu)
            previous, node = node, self._pointer(node)
        if node != head or self._pointer(head + 8) != previous:
            yield _event(ev.AUDIT_LIST_BROKEN, queue.id, "free", cpu)

    def _blocks(self) -> Iterator[Event]:
        indexed = set()
        for root in self._xarrays():
            indexed |= set(self._entries(root))
        found = [one for one in self.decoder.objects() if one.type == "vmap_block" and one.start in indexed]
        for block in found:
            yield from self._block(block)

    def _block(self, block: Object) -> Iterator[Event]:
        area = self.decoder.object_at(self._field(block, "va"))
        start = -1 if area is None else self._field(area, "va_start") >> self.decoder.page_shift
        yield _event(ev.AUDIT_INDEXED, block.id, "vmap_blocks", start)
        yield _event(ev.AUDIT_FIELD, block.id, "va_start", start)
        for name in BLOCK_FIELDS:
            yield _event(ev.AUDIT_FIELD, block.id, name, self._field(block, name))
        used = block.layout.part("used_map") if block.layout is not None else None
        if used is not None:
            bits = self.library.read(block.start + used[0], self.block_bits + 63 >> 6 << 3)
            yield _event(ev.AUDIT_FIELD, block.id, "used", bits.bit_count())
        live = sum(page in self.mapped for page in range(start, start + self.block_bits))
        yield _event(ev.AUDIT_FIELD, block.id, "mapped", live)

    def _xarrays(self) -> Iterator[int]:
        """Where the xarrays of blocks lie: the global one, or one in each queue."""
        yield from self._globals_of("xarray")
        for queue, _ in self.queues():
            at = self._part(queue.layout, "vmap_blocks")
            if at is not None:
                yield queue.start + at

    def _entries(self, xarray: int) -> Iterator[int]:
        """What an xarray holds (lib/xarray.c: an entry whose low bits are 2 is a node; small numbers are special)."""
        head = self.structs["xarray"].field("xa_head")
        slots = self.structs["xa_node"].part("slots") if "xa_node" in self.structs else None
        if head is None or slots is None:
            return
        waiting = [self._pointer(xarray + head.offset)]
        while waiting:
            entry = waiting.pop()
            if entry & 3 == 2 and entry > 4096:
                node = entry - 2
                count = (self.structs["xa_node"].size - slots[0]) // 8
                first = [one.offset for one in self.structs["xa_node"].fields if one.path.startswith("slots[")]
                waiting += [self._pointer(node + offset) for offset in first[:count]]
            elif entry and entry & 3 == 0:
                yield entry

    # -- areas --------------------------------------------------------------------------------------------

    def _areas(self) -> Iterator[tuple[int, int, str, int]]:
        """(start, end, tree, object) of every area that something holds."""
        for root, name in self.roots():
            for area in self._nodes(self._pointer(root)):
                yield self._extent(area, name)
        for start, _, _ in self.pools():
            for area in self._on_list(start):
                yield self._extent(area, "pool")

    def roots(self) -> list[tuple[int, str]]:
        """The roots of the trees of areas: address, and the journal's name for the tree."""
        found = []
        for name, tree in TREE_NAMES:
            one = self.decoder.layout.globals.get(name)
            if one is not None:
                found.append((self.library.base + one.offset, tree))
        node = self.structs.get("vmap_node")
        if node is not None:
            for start in self.vmap_nodes():
                for path, tree in NODE_TREES:
                    part = node.part(path)
                    if part is not None:
                        found.append((start + part[0], tree))
        return found

    def pools(self) -> list[tuple[int, str, int]]:
        """Of each vmap_node (since v6.9) the lists of its pool, one a size: where the head lies, its name, the node."""
        layout = self.structs.get("vmap_node")
        if layout is None:
            return []
        heads = [(at, path) for at, path, kind in layout.parts if path.startswith("pool[") and kind == "list_head"]
        return [(start + at, path, start) for start in self.vmap_nodes() for at, path in heads]

    def _pools(self) -> Iterator[Event]:
        for start, path, node in self.pools():
            owner = self.decoder.object_at(node)
            if owner is None or self._pointer(start) == start:
                continue
            count = path.removesuffix(".head") + ".len"
            yield _event(ev.AUDIT_FIELD, owner.id, count, self._field(owner, count))
            for area in self._on_list(start):
                yield _event(ev.AUDIT_LISTED, area.id, path, owner.id)

    def vmap_nodes(self) -> list[int]:
        """Where the vmap_nodes lie: the array that `vmap_nodes` points to."""
        pointer = self.decoder.layout.globals.get("vmap_nodes")
        count = self.decoder.layout.globals.get("nr_vmap_nodes")
        size = self.structs["vmap_node"].size if "vmap_node" in self.structs else 0
        if pointer is None or not size:
            return []
        first = self._pointer(self.library.base + pointer.offset)
        number = 1 if count is None else self.library.read(self.library.base + count.offset, count.size)
        return [first + size * n for n in range(number)] if first else []

    def _nodes(self, top: int) -> Iterator[Object]:
        node = self.structs["rb_node"]
        left, right = node.field("rb_left"), node.field("rb_right")
        assert left is not None
        assert right is not None
        waiting, seen = [top], 0
        while waiting and seen < WALK_MAX:
            at = waiting.pop()
            area = self.decoder.object_at(at) if at else None
            if area is None:
                continue
            seen += 1
            yield area
            waiting += [self._pointer(at + left.offset), self._pointer(at + right.offset)]

    def _on_list(self, head: int) -> Iterator[Object]:
        node = self._pointer(head)
        for _ in range(WALK_MAX):
            area = self.decoder.object_at(node) if node != head else None
            if area is None:
                return
            yield area
            node = self._pointer(node)

    def _extent(self, area: Object, tree: str) -> tuple[int, int, str, int]:
        shift = self.decoder.page_shift
        return self._field(area, "va_start") >> shift, self._field(area, "va_end") >> shift, tree, area.start

    # -- what is left -------------------------------------------------------------------------------------

    def _left(self, areas: list[tuple[int, int, str, int]]) -> Iterator[Event]:
        """Objects still allocated that nothing above leads to: structs kept for the next split, and those of areas, do
        not count.
        """
        views = {view.id: view for view in self.library.objects()}
        held = {self._field(one, "vm") for _, _, tree, at in areas if tree == "busy" and (one := self._at(at))}
        held |= set(self._per_cpu_pointers())
        for one in self.decoder.objects():
            view = views.get(one.id)
            if view is None or view.is_dead or one.type not in ("vmap_block", "vmap_area", "vm_struct"):
                continue
            if one.start not in held:
                yield _event(ev.AUDIT_OBJECT, one.id, one.type, 0)

    def _per_cpu_pointers(self) -> Iterator[int]:
        for view in self.library.objects():
            if view.cpu >= 0 and view.size == 8:
                yield self._pointer(view.address)

    # -- memory -------------------------------------------------------------------------------------------

    def _at(self, address: int) -> Object | None:
        return self.decoder.object_at(address)

    def _pointer(self, address: int) -> int:
        return self.library.read(address, 8)

    def _field(self, target: Object, path: str) -> int:
        one = None if target.layout is None else target.layout.field(path)
        return 0 if one is None else self.library.read(target.start + one.offset, one.size)

    def _part(self, layout: Struct | None, path: str) -> int | None:
        part = None if layout is None else layout.part(path)
        return None if part is None else part[0]

    def _globals_of(self, type_name: str) -> Iterator[int]:
        for one in self.decoder.layout.globals.values():
            if one.type == type_name:
                yield self.library.base + one.offset

    def _atomic_value(self, name: str) -> int | None:
        one: Global | None = self.decoder.layout.globals.get(name)
        if one is None:
            return None
        value = self.library.read(self.library.base + one.offset, 8)
        return value - (1 << 64) if value >> 63 else value


def _event(kind: int, a: int, b: str, c: int) -> Event:
    return (kind, 0, 0, "", a, b, c)
