# SPDX-License-Identifier: GPL-2.0-only
"""The model's journals as the engine would have written them: objects get addresses, fields offsets, the audit at rest
becomes memory. So screening is tried on everything that the model can do, with no kernel tree.
"""

from __future__ import annotations

import ctypes
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from stressvmap.journal import events as ev
from stressvmap.journal.events import Event
from stressvmap.journal.journal import Journal
from stressvmap.runtime.runtime import DONE
from stressvmap.scenario import Scenario
from stressvmap.tree.audit import Auditor
from stressvmap.tree.decode import ACCESSES, INDEXES, LOCKS, NODES, OBJECTS, Decoder
from stressvmap.tree.layout import Field, Global, Layout, Struct
from stressvmap.tree.library import EVENT_FORMAT, Library, ObjectView
from stressvmap.tree.screen import Screen

SHIM: Final = Path(__file__).parents[2] / "stressvmap" / "tree" / "shim" / "engine"
STUB: Final = Path(__file__).with_name("journal_stub.c")
PAGE_SHIFT: Final = 12
GRANULE: Final = 256
"""Bytes between objects."""
ARENA_BYTES: Final = 1 << 22
SPARE_AREAS: Final = 64
"""Areas that no journal names, for blocks at rest to point to."""
MASK: Final = (1 << 64) - 1


XA_SLOTS: Final = 64


def _scalar(offset: int, path: str, points_to: str = "") -> Field:
    return Field(offset, 8, path, points_to)


def _list(offset: int, path: str) -> tuple[Field, Field]:
    return _scalar(offset, f"{path}.next", "list_head"), _scalar(offset + 8, f"{path}.prev", "list_head")


def _struct(name: str, fields: Sequence[Field], parts: Sequence[tuple[int, str, str]] = ()) -> Struct:
    return Struct(name, max((one.offset + 8 for one in fields), default=8), tuple(fields), tuple(parts))


STRUCTS: Final = {
    one.name: one
    for one in (
        _struct(
            "vmap_block",
            [
                _scalar(0, "lock.raw"),
                _scalar(8, "va", "vmap_area"),
                *(_scalar(16 + 8 * n, name) for n, name in enumerate(("free", "dirty", "used_map[0]"))),
                *(_scalar(40 + 8 * n, name) for n, name in enumerate(("dirty_min", "dirty_max"))),
                *_list(56, "free_list"),
                *_list(72, "purge"),
            ],
            [(0, "lock", "spinlock"), (32, "used_map", ""), (56, "free_list", "list_head"), (72, "purge", "list_head")],
        ),
        _struct(
            "vmap_area",
            [
                *(_scalar(8 * n, name) for n, name in enumerate(("va_start", "va_end"))),
                *(_scalar(16 + 8 * n, f"rb_node.{name}", "rb_node") for n, name in enumerate(("rb_left", "rb_right"))),
                _scalar(32, "vm", "vm_struct"),
                _scalar(40, "flags"),
            ],
        ),
        _struct(
            "vmap_block_queue",
            [_scalar(0, "lock.raw"), *_list(8, "free")],
            [(0, "lock", "spinlock"), (8, "free", "list_head")],
        ),
        _struct("vm_struct", [_scalar(8 * n, name) for n, name in enumerate(("next", "addr", "size", "flags"))]),
        _struct("on_stack", _list(0, "purge"), [(0, "purge", "list_head")]),
        _struct("rb_node", [_scalar(0, "rb_left", "rb_node"), _scalar(8, "rb_right", "rb_node")]),
        _struct("xarray", [_scalar(0, "xa_head", "void")]),
        _struct("xa_node", [_scalar(8 * n, f"slots[{n}]", "void") for n in range(XA_SLOTS)], [(0, "slots", "")]),
    )
}
ROOTS: Final = {"free_vmap_area_root": "free", "vmap_area_root": "busy", "purge_vmap_area_root": "lazy"}
LOCK_OFFSET: Final = 0
FREE_HEAD: Final = 8
XA_NODE: Final = 2
"""Low bits of an xarray's entry that is a node."""


def build_stub(folder: Path, compiler: str) -> Path:
    """Screening and the stub as one library."""
    numbers = {name: value for name, value in vars(ev).items() if name.isupper() and type(value) is int}
    lines = [f"#define SV_{name} {value}{'ULL' if value >> 31 else ''}\n" for name, value in numbers.items()]
    (folder / "sv_events.h").write_text("".join(lines), encoding="utf-8")
    library = folder / "screen.so"
    sources = [str(path) for path in sorted(SHIM.glob("screen*.c"))]
    flags = ["-std=gnu11", "-O2", "-g", "-fPIC", "-fvisibility=hidden", "-shared", "-Wall", "-Wextra", "-Werror"]
    command = [compiler, *flags, f"-I{folder}", f"-I{SHIM}", *sources, str(STUB), "-o", str(library)]
    subprocess.run(command, check=True)
    return library


class StubView(ctypes.Structure):
    """struct stub."""

    _fields_: ClassVar = [
        ("events", ctypes.c_char_p),
        ("objects", ctypes.c_void_p),
        *((name, ctypes.c_uint32) for name in ("n_events", "n_objects", "n_tasks")),
    ]


class StubLibrary(Library):
    """The stub in the place of a built library."""

    def __init__(self, path: Path) -> None:
        self.dll = ctypes.CDLL(str(path))
        self.path = path
        self._strings: dict[int, str] = {}
        self._numbers: dict[str, int] = {}
        self.dll.sv_text.restype = ctypes.c_char_p
        self.views: list[ObjectView] = []

    @property
    def base(self) -> int:
        """Globals are told by their addresses."""
        return 0

    def objects(self) -> list[ObjectView]:
        """The objects of the journal encoded last."""
        return self.views


class Encoded:
    """Journals of one scenario, screened: what boot makes lies at the same addresses in each."""

    def __init__(self, library: StubLibrary, scenario: Scenario, first: Journal, **options: Any) -> None:
        self.library = library
        self.scenario = scenario
        self.window: tuple[int, int] = tuple(first.header["window"])
        self._arena = ctypes.create_string_buffer(ARENA_BYTES)
        self._start = (ctypes.addressof(self._arena) + GRANULE - 1) // GRANULE * GRANULE
        self._kept: tuple[Any, ...] = ()
        boot = [event for event in first.events if event[0] == ev.OBJECT_ALLOC and event[1] == 0]
        self._addresses: dict[int, int] = {0: 0}
        self._classes: dict[int, str] = {}
        self.globals: dict[str, Global] = {}
        for number in range(SPARE_AREAS):
            self._take(GRANULE, f"spare_area_{number}")
        for name in ROOTS:
            self._take(GRANULE, name)
        self._node = self._take(XA_SLOTS * 8, "spare_xa_node", "xa_node")
        self._place_boot(boot, first)
        self._boot_end = self._start
        self._boot_addresses = dict(self._addresses)
        library.dll.stub_heap(ctypes.c_uint64(self._boot_end))
        self._set_config(first)
        self.decoder = Decoder(library, Layout(dict(STRUCTS), self.globals), PAGE_SHIFT)
        self.auditor = Auditor(self.decoder, scenario.block_bits, self.window, 0)
        library.views = self._views(first)
        direct = tuple(first.header["direct_map"])
        self.screen = Screen(self.auditor, scenario, self.window, (direct[0], direct[1]), **options)

    def flags(self, journal: Journal) -> int:
        """What screening says of a journal."""
        self.store(journal)
        return self.screen.flags()

    def store(self, journal: Journal) -> None:
        """Make it the run that is over."""
        self._start = self._boot_end
        self._addresses = dict(self._boot_addresses)
        for event in journal.events:
            if event[0] == ev.OBJECT_ALLOC and event[4] not in self._addresses:
                self._classes[event[4]] = str(event[5])
                self._addresses[event[4]] = self._next(GRANULE)
        self._store(journal)

    def _store(self, journal: Journal) -> None:
        ctypes.memset(self._boot_memory, 0, self._start - self._boot_memory)
        views = self._views(journal)
        self._memory_at_rest(journal)
        table = (ObjectView * len(views))(*views)
        self.library.views = views
        raw = b"".join(self._event(event) for event in journal.events if event[0] < ev.AUDIT_BEGIN)
        names = {int(task): str(named[0]) for task, named in journal.header["tasks"].items()}
        ids = (ctypes.c_int32 * len(names))(*names)
        numbers = (ctypes.c_uint32 * len(names))(*(self.library.number(name) for name in names.values()))
        given = StubView(raw, ctypes.addressof(table))
        given.n_events, given.n_objects = len(raw) // struct.calcsize(EVENT_FORMAT), len(views)
        given.n_tasks = len(names)
        self._kept = (table, raw, given, ids, numbers)
        self.library.dll.stub_set(ctypes.byref(given), ids, numbers)

    # -- addresses ----------------------------------------------------------------------------------------

    def _next(self, size: int) -> int:
        at = self._start
        self._start += (size + GRANULE - 1) // GRANULE * GRANULE
        assert self._start < ctypes.addressof(self._arena) + ARENA_BYTES
        return at

    def _take(self, size: int, name: str, type_name: str = "") -> int:
        at = self._next(size)
        self.globals[name] = Global(name, at, size, type_name)
        return at

    def _place_boot(self, boot: Sequence[Event], journal: Journal) -> None:
        """Queues and boot's areas are objects; what else boot makes are globals, locks by their classes' names."""
        self._boot_memory = self._start - (SPARE_AREAS + len(ROOTS)) * GRANULE - XA_SLOTS * 8
        locks = {event[4]: str(event[5]) for event in journal.events if event[0] in (ev.LOCK, ev.LOCK_WAIT)}
        for number, (_, _, _, _, object_id, name, _) in enumerate(boot):
            self._classes[object_id] = str(name)
            if name == "xarray":
                self._addresses[object_id] = self._take(GRANULE, f"vmap_blocks_{number}", "xarray")
            elif name == "atomic_long":
                at = self._addresses[object_id] = self._next(GRANULE)
                self.globals["vmap_lazy_nr"] = Global("vmap_lazy_nr", at, 8, "")
            elif name == "static_lock":
                self._addresses[object_id] = self._take(8, locks.get(object_id, f"lock_{number}"))
            else:
                self._addresses[object_id] = self._next(GRANULE)

    def _views(self, journal: Journal) -> list[ObjectView]:
        left = {event[4] for event in journal.events if event[0] == ev.AUDIT_OBJECT}
        cpus = {event[4]: event[6] for event in journal.events if event[0] == ev.AUDIT_FIELD and event[5] == "cpu"}
        at_globals = {one.offset for one in self.globals.values()}
        views = []
        for object_id, address in self._addresses.items():
            if not address or address in at_globals:
                continue
            name = self._classes[object_id]
            size = STRUCTS[name].size if name in STRUCTS else 8
            view = ObjectView(address, size, object_id, self.library.number(name), -1)
            view.cpu = cpus.get(object_id, len(cpus)) if name == "vmap_block_queue" else -1
            view.is_dead = name in ("vmap_block", "vmap_area", "vm_struct") and object_id not in left
            views.append(view)
        return sorted(views, key=lambda view: int(view.address))

    def _set_config(self, journal: Journal) -> None:
        possible, online = journal.header["possible"], journal.header["online"]
        size = 256
        maps = [bytes(cpu in cpus for cpu in range(size)) for cpus in (possible, online)]
        self.library.dll.stub_config(*maps, size)

    # -- events -------------------------------------------------------------------------------------------

    def _event(self, event: Event) -> bytes:
        kind, task, cpu, function, a, b, c = event
        number = b if isinstance(b, int) else 0
        if kind in ACCESSES:
            number, c = 8, self._value(str(b), c)
            a = self._addresses.get(a, 0) + _offset(self._classes.get(a, ""), str(b))
        elif kind == ev.ATOMIC or kind in LOCKS:
            a = self._addresses[a]
            number = self.library.number(str(b))
        elif kind in NODES:
            a = self._addresses[a] + _offset(self._classes[a], f"{b}.next")
            c = self._addresses.get(c, 0)
        elif kind in INDEXES:
            a, c = self._addresses[a], self._addresses.get(c, 0)
        elif kind in OBJECTS:
            a = self._addresses.get(a, 0)
            number = self.library.number(str(b))
        elif isinstance(b, str):
            number = self.library.number(b)
        place = self.library.number(function)
        return struct.pack(EVENT_FORMAT, kind, task, cpu, 0, place, number & 0xFFFFFFFF, a & MASK, c & MASK)

    def _value(self, field: str, value: int) -> int:
        if field in ("va", "vm") or field.endswith((".next", ".prev")):
            return self._addresses.get(value, 0)
        return value << PAGE_SHIFT if field in ("va_start", "va_end") else value

    # -- memory at rest -----------------------------------------------------------------------------------

    def _memory_at_rest(self, journal: Journal) -> None:
        """Write what the audit at the journal's end says."""
        events = [event for event in journal.events if event[0] >= ev.AUDIT_BEGIN]
        values = {str(event[5]): event[6] for event in events if event[0] == ev.AUDIT_VALUE}
        fields: dict[int, dict[str, int]] = {}
        for event in events:
            if event[0] == ev.AUDIT_FIELD:
                fields.setdefault(event[4], {})[str(event[5])] = event[6]
        if "vmap_lazy_nr" in values:
            self._write(self.globals["vmap_lazy_nr"].offset, values["vmap_lazy_nr"])
        self._write_lists(events, fields)
        areas = [(event[4], event[6], str(event[5])) for event in events if event[0] == ev.AUDIT_AREA]
        left = [event[4] for event in events if event[0] == ev.AUDIT_OBJECT and event[5] == "vmap_area"]
        self._write_areas(areas, left)
        self._write_blocks(events, fields)

    def _write(self, address: int, value: int) -> None:
        ctypes.c_uint64.from_address(address).value = value & MASK

    def _write_lists(self, events: Sequence[Event], fields: dict[int, dict[str, int]]) -> None:
        node = _offset("vmap_block", "free_list.next")
        broken = [(event[4], event[6]) for event in events if event[0] == ev.AUDIT_LIST_BROKEN]
        for queue, name in self._classes.items():
            if name != "vmap_block_queue" or queue not in self._addresses:
                continue
            head = self._addresses[queue] + FREE_HEAD
            cpu = fields.get(queue, {}).get("cpu", -1)
            nodes = [
                self._addresses[event[4]] + node for event in events if event[0] == ev.AUDIT_LISTED and event[6] == cpu
            ]
            ring = [head, *nodes]
            for at, following in zip(ring, [*nodes, head], strict=True):
                self._write(at, following)
                self._write(following + 8, at)
            for object_id, at_cpu in broken:
                if at_cpu == cpu:
                    self._write((head if object_id == queue else self._addresses[object_id] + node) + 8, 0)

    def _write_areas(self, areas: Sequence[tuple[int, int, str]], left: Sequence[int]) -> None:
        """Each tree as a chain to the right, made of the areas that are left, and of spare ones."""
        spare = self.globals[f"spare_area_{SPARE_AREAS // 2}"].offset
        places = [self._addresses[object_id] for object_id in left]
        places += [spare + number * GRANULE for number in range(len(areas) - len(left))]
        ends = {tree: self.globals[root].offset for root, tree in ROOTS.items()}
        for (start, end, tree), place in zip(areas, places, strict=False):
            self._write(place, start << PAGE_SHIFT)
            self._write(place + 8, end << PAGE_SHIFT)
            self._write(ends[tree], place + 16)
            ends[tree] = place + 24

    def _write_blocks(self, events: Sequence[Event], fields: dict[int, dict[str, int]]) -> None:
        indexed = [event[4] for event in events if event[0] == ev.AUDIT_INDEXED]
        for number, block in enumerate(indexed):
            books, at = fields.get(block, {}), self._addresses[block]
            area = self.globals[f"spare_area_{number}"].offset
            self._write(area, books["va_start"] << PAGE_SHIFT)
            self._write(at + 8, area)
            for name in ("free", "dirty", "dirty_min", "dirty_max"):
                self._write(at + _offset("vmap_block", name), books.get(name, 0))
            self._write(at + _offset("vmap_block", "used_map"), (1 << books.get("used", 0)) - 1)
        xarrays = [one.offset for one in self.globals.values() if one.type == "xarray"]
        for slot, block in enumerate(indexed):
            self._write(self._node + 8 * slot, self._addresses[block])
        self._write(xarrays[0], self._node + XA_NODE if indexed else 0)


def _offset(class_name: str, field: str) -> int:
    layout = STRUCTS.get(class_name)
    if layout is None:
        return 0
    found = layout.field(field) or layout.field(f"{field}[0]")
    return LOCK_OFFSET if found is None else found.offset


def came_to_rest(journal: Journal) -> bool:
    """Whether it ends as a run that Python audits."""
    return str(journal.events[-1][5]) == DONE
