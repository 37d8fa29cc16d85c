# SPDX-License-Identifier: GPL-2.0-only
"""From the engine's binary journal to the journal that every check reads: addresses become objects and fields.

The engine writes raw addresses, which is quick. No memory is used twice in a run, so what an address belongs to is
known afterwards as well as at the time; which field it is, the library's own debug info says.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from stressvmap.journal import events as ev
from stressvmap.journal.events import Event
from stressvmap.journal.place import ALLOC, FREE, written
from stressvmap.tree.layout import Field, Layout, Struct
from stressvmap.tree.library import EVENT_FORMAT, Library, ObjectView

ACCESSES: Final = frozenset(
    {ev.READ, ev.WRITE, ev.READ_ONCE, ev.WRITE_ONCE, ev.RELEASE, ev.DEAD_ACCESS, ev.UNINITIALISED}
)
LOCKS: Final = frozenset({ev.LOCK, ev.UNLOCK, ev.LOCK_WAIT, ev.TRYLOCK_FAILED, ev.ASSERT_HELD, ev.BLOCKED})
NODES: Final = frozenset({ev.LIST_ADD, ev.LIST_DEL, ev.LIST_CORRUPT})
INDEXES: Final = frozenset({ev.XA_LOAD, ev.XA_STORE, ev.XA_ERASE})
OBJECTS: Final = frozenset({ev.KFREE_RCU, ev.OBJECT_ALLOC, ev.OBJECT_FREE, ev.TREE_INSERT, ev.TREE_ERASE, ev.TREE_FIND})

STATIC: Final = 0x80000
"""Objects of task 0 from this number on are the globals, by name: they were never allocated."""

ELEMENT_SHIFT: Final = 40
ELEMENT_MASK: Final = (1 << ELEMENT_SHIFT) - 1
"""Of an array of structs each element is an object of its own: its number stands above the id of the allocation."""

SHORT: Final = {
    "vmap_block": "vb",
    "vmap_block_queue": "vbq",
    "vmap_node": "vn",
    "vmap_area": "va",
    "xarray": "xa",
}
"""What the kernel calls a pointer to such a struct: a lock inside is `vb->lock`."""
PAGE_FIELDS: Final = frozenset({("vmap_area", "va_start"), ("vmap_area", "va_end")})
"""Addresses that the journal shows as pages."""
POINTER: Final = "*"


@dataclass(slots=True)
class Object:
    """Something that has fields: allocated in the run, at boot, or a global."""

    start: int
    end: int
    id: int
    type: str
    layout: Struct | None


class Decoder:
    """Decodes the runs of one library. `begin` takes the table of objects of the run that is over."""

    def __init__(self, library: Library, layout: Layout, page_shift: int) -> None:
        self.library = library
        self.layout = layout
        self.page_shift = page_shift
        self._functions: dict[int, str] = {0: ""}
        self._types: dict[int, tuple[str, Struct | None]] = {}
        self._fields: dict[tuple[str, int], tuple[str, Field | None, int]] = {}
        self._lock_classes: dict[tuple[str, int], str] = {}
        self._by_size = _only_struct_of_each_size(layout)
        self._globals = self._static_objects()
        self._starts: list[int] = []
        self._objects: list[Object] = []
        self._words: dict[tuple[int, str], dict[int, int]] = {}
        """Of bitmaps, by (object, field): their words so far."""

    # -- objects ------------------------------------------------------------------------------------------

    def begin(self, views: Sequence[ObjectView]) -> None:
        """Take in the objects of a run."""
        objects = [*self._globals]
        for view in views:
            type_name, layout = self.type_of(view.type, view.size)
            size = view.size if layout is None or layout.size == 0 or view.size % layout.size else layout.size
            for number, start in enumerate(range(view.address, view.address + view.size, size)):
                objects.append(Object(start, start + size, view.id | number << ELEMENT_SHIFT, type_name, layout))
        objects.sort(key=lambda one: one.start)
        self._objects = objects
        self._starts = [one.start for one in objects]
        self._words = {}

    def object_at(self, address: int) -> Object | None:
        """The object that holds an address."""
        number = bisect_right(self._starts, address) - 1
        if number < 0:
            return None
        found = self._objects[number]
        return found if address < found.end else None

    def id_at(self, address: int) -> int:
        """Its id; 0: none, or NULL."""
        found = self.object_at(address) if address else None
        return 0 if found is None else found.id

    def objects(self) -> list[Object]:
        """All of them, by address."""
        return self._objects

    def type_of(self, number: int, size: int) -> tuple[str, Struct | None]:
        """What an allocation is: by the type that its site names, else the only struct of that size."""
        key = number << 32 | size
        known = self._types.get(key)
        if known is None:
            text = self.library.text(number)
            match = _STRUCT.search(text)
            name = match[1] if match else text
            layout = self.layout.structs.get(name) or self._by_size.get(size)
            known = self._types[key] = (name if layout is None else layout.name, layout)
        return known

    def _static_objects(self) -> list[Object]:
        found = []
        base = self.library.base
        for number, name in enumerate(sorted(self.layout.globals)):
            one = self.layout.globals[name]
            if one.size:
                layout = self.layout.structs.get(one.type)
                found.append(Object(base + one.offset, base + one.offset + one.size, STATIC + number, name, layout))
        return found

    # -- names --------------------------------------------------------------------------------------------

    def function(self, pc: int) -> str:
        """`vb_free mm/vmalloc.c:2140`: the function, inlined or not, and the line of the user's file; then those that
        it was inlined into (journal/place.py).
        """
        known = self._functions.get(pc)
        if known is None:
            known = self._functions[pc] = written(self.layout.places(pc))
        return known

    def stacks(self, raw: bytes) -> dict[str, dict[str, list[str]]]:
        """Of each object that was touched when it was dead or not written yet, where it was allocated and freed, as a
        journal's header has it.
        """
        touched = {
            one.start: one.id
            for kind, _, _, _, _, _, a, _ in struct.iter_unpack(EVENT_FORMAT, raw)
            if kind in (ev.DEAD_ACCESS, ev.UNINITIALISED) and (one := self.object_at(a)) is not None
        }
        told = {}
        for address, object_id in sorted(touched.items()):
            stacks = {ALLOC: self._stack(address, is_free=False), FREE: self._stack(address, is_free=True)}
            told[str(object_id)] = {which: stack for which, stack in stacks.items() if stack}
        return told

    def _stack(self, address: int, *, is_free: bool) -> list[str]:
        return [
            str(one) for pc in self.library.object_stack(address, is_free=is_free) for one in self.layout.places(pc)
        ]

    def field(self, target: Object, offset: int) -> tuple[str, Field | None, int]:
        """The name of what lies at `offset`, its layout, and which word of a bitmap it is (-1: of none)."""
        key = (target.type, offset)
        known = self._fields.get(key)
        if known is None:
            one = None if target.layout is None else target.layout.at(offset)
            if one is None:
                known = (target.type if not offset else f"{target.type}+{offset}", None, -1)
            else:
                match = _WORD.fullmatch(one.path)
                known = (match[1], one, int(match[2])) if match else (one.path, one, -1)
            self._fields[key] = known
        return known

    def lock_class(self, address: int, text: str) -> str:
        """lockdep's key: a global's name, or the struct's short name and the field; else what the macro was given."""
        target = self.object_at(address)
        if target is None:
            return text
        key = (target.type, address - target.start)
        known = self._lock_classes.get(key)
        if known is None:
            known = self._lock_classes[key] = self._lock_class(target, address - target.start)
        return known

    def _lock_class(self, target: Object, offset: int) -> str:
        layout = target.layout
        if target.id >> 20 == 0 and target.id >= STATIC and (layout is None or not _holds_locks(layout)):
            return target.type
        if layout is None:
            return target.type
        paths = sorted((path for at, path, _ in layout.parts if at == offset), key=len)
        path = next((path for path in paths if "lock" in path.rpartition(".")[2]), paths[0] if paths else "lock")
        return f"{SHORT.get(layout.name, layout.name)}->{path}"

    def node_field(self, address: int) -> str:
        """The list node at an address: `free_list`, `purge`; of a head, the head's name."""
        target = self.object_at(address)
        if target is None:
            return "on_stack"
        offset = address - target.start
        if target.layout is None:
            return target.type
        named = [path for at, path, kind in target.layout.parts if at == offset and kind == "list_head"]
        return named[0] if named else self.field(target, offset)[0].rpartition(".")[0]

    # -- events -------------------------------------------------------------------------------------------

    def boot_events(self) -> list[Event]:
        """What exists from boot on, as allocations by task 0."""
        return [(ev.OBJECT_ALLOC, 0, 0, "", one.id, one.type, 0) for one in self._objects if _is_of_boot(one.id)]

    def events(self, raw: bytes) -> list[Event]:
        """The journal of the run whose objects `begin` took in."""
        told = self.boot_events()
        add = told.append
        text, function = self.library.text, self.function
        for kind, task, cpu, _, pc, b, a, c in struct.iter_unpack(EVENT_FORMAT, raw):
            where = function(pc)
            if kind in ACCESSES:
                target = self.object_at(a)
                if target is not None:
                    add(self._access(kind, task, cpu, where, target, a, c))
            elif kind in LOCKS:
                add((kind, task, cpu, where, self.id_at(a), self.lock_class(a, text(b)) if a else text(b), c))
            elif kind in NODES:
                add((kind, task, cpu, where, self.id_at(a), self.node_field(a), self.id_at(c)))
            elif kind in INDEXES:
                add((kind, task, cpu, where, self.id_at(a), b, self.id_at(c)))
            elif kind in OBJECTS:
                add(self._about_object(kind, task, cpu, where, a, text(b), c))
            elif kind == ev.RCU_WAIT:
                add((kind, task, cpu, where, a, text(b), self.id_at(c)))
            elif kind == ev.ATOMIC:
                add(self._atomic(task, cpu, where, a, text(b), c))
            elif kind in ev.B_IS_SYMBOL:
                add((kind, task, cpu, where, a, text(b), _signed(c)))
            else:
                add((kind, task, cpu, where, a, b, c))
        return told

    def _access(self, kind: int, task: int, cpu: int, where: str, target: Object, address: int, value: int) -> Event:
        """An access of a known object. One of none (a stack, the program's own arrays) is nobody else's business."""
        name, one, word = self.field(target, address - target.start)
        if kind in (ev.DEAD_ACCESS, ev.UNINITIALISED, ev.RELEASE):
            return (kind, task, cpu, where, target.id, name, value)
        if one is not None and one.points_to:
            return (kind, task, cpu, where, target.id, name, self.id_at(value))
        if (target.type, name) in PAGE_FIELDS:
            value >>= self.page_shift
        elif word >= 0:
            words = self._words.setdefault((target.id, name), {})
            words[word] = value
            value = sum(bits << 64 * number for number, bits in words.items())
        else:
            value = _signed(self.library.as_everywhere(value))
        return (kind, task, cpu, where, target.id, name, value)

    def _about_object(self, kind: int, task: int, cpu: int, where: str, address: int, text: str, c: int) -> Event:
        target = self.object_at(address) if address else None
        object_id = 0 if target is None else target.id
        if kind in (ev.KFREE_RCU, ev.OBJECT_ALLOC, ev.OBJECT_FREE):
            text = target.type if target is not None else text
        return (kind, task, cpu, where, object_id, text, c)

    def _atomic(self, task: int, cpu: int, where: str, address: int, text: str, value: int) -> Event:
        target = self.object_at(address)
        if target is None:
            return (ev.ATOMIC, task, cpu, where, 0, text, _signed(self.library.as_everywhere(value)))
        is_static = target.id >> 20 == 0 and target.id >= STATIC and address == target.start
        name = target.type if is_static else self.field(target, address - target.start)[0]
        return (
            ev.ATOMIC,
            task,
            cpu,
            where,
            target.id,
            name.removesuffix(".counter"),
            _signed(self.library.as_everywhere(value)),
        )


_STRUCT: Final = re.compile(r"\bstruct (\w+)")
_WORD: Final = re.compile(r"(\w*(?:map|mask|bits)\w*)\[(\d+)\]")


def _is_of_boot(object_id: int) -> bool:
    """Whether task 0 has allocated it, or it is a global."""
    return not (object_id & ELEMENT_MASK) >> 20


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _holds_locks(layout: Struct) -> bool:
    return any("lock" in path for _, path, _ in layout.parts)


def _only_struct_of_each_size(layout: Layout) -> dict[int, Struct]:
    """For an allocation whose site names no type: the struct of that size, if vmalloc has just one."""
    found: dict[int, Struct] = {}
    names = ("vmap_area", "vmap_block", "vm_struct", "vmap_node", "vmap_pool", "xa_node")
    for name in names:
        one = layout.structs.get(name)
        if one is not None:
            if one.size in found:
                del found[one.size]
            else:
                found[one.size] = one
    return found
