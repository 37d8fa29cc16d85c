# SPDX-License-Identifier: GPL-2.0-only
"""Screening: the C pass that says of each run whether Python's checks have anything to say about it, told here what it
needs of the debug information; and which of the runs that it flags are judged.

Python judges a few hundred journals a second, the engine runs tens of thousands. `shim/engine/screen*.c` is never
silent where a check fires (docs/screening.md says how that was seen); what it flags without need costs time, and no
more.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from stressvmap.errors import HarnessError
from stressvmap.scenario import Scenario
from stressvmap.tree.audit import Auditor
from stressvmap.tree.decode import SHORT, Decoder, Object
from stressvmap.tree.layout import Struct
from stressvmap.tree.library import Library

ABI: Final = 1
ABSENT: Final = (1 << 32) - 1

CHECKS_BY_BIT: Final = (
    "stale-after-unmap-aliases",
    "reuse-before-flush",
    "stale-access",
    "overlapping-mapping",
    "use-after-free",
    "list-corruption",
    "accounting",
    "leak",
    "flush-range-sanity",
    "range-computed-unlocked",
    "lock-discipline",
    "deadlock or livelock",
    "uninitialised-read",
    "data-race",
    "kernel-bug",
    "limit",
    "unknown",
    "too-large",
    "stray",
)
"""What each bit of a run's flags says, from bit 0 (enum sv_screen_bit). The last three: a type or lock that screening
was not told of, a run beyond its tables, an address outside the window: nothing can be said, so the run is flagged.
"""
RACE: Final = 1 << CHECKS_BY_BIT.index("data-race")
UNKNOWN: Final = 1 << CHECKS_BY_BIT.index("unknown")
EVERYTHING: Final = (1 << len(CHECKS_BY_BIT)) - 1
BIT_OF_CHECK: Final = {
    **{name: 1 << number for number, name in enumerate(CHECKS_BY_BIT)},
    "deadlock": 1 << CHECKS_BY_BIT.index("deadlock or livelock"),
    "livelock": 1 << CHECKS_BY_BIT.index("deadlock or livelock"),
    **dict.fromkeys(("excess-flush", "re-flush", "double-count", "lock-hold"), 1 << CHECKS_BY_BIT.index("limit")),
}
"""By check: the bit that a run has in which it fires."""

RACE_REPORTS: Final = 3
"""A pair of places that raced in so many runs flags no more runs, but is counted."""

_KINDS: Final = {"vmap_block": 1, "vmap_area": 2, "vm_struct": 3, "on_stack": 4}
"""enum sv_struct_kind."""
_ROLES: Final = {
    ("vmap_block", "free"): 1,
    ("vmap_block", "dirty"): 2,
    ("vmap_block", "dirty_min"): 3,
    ("vmap_block", "dirty_max"): 4,
    ("vmap_block", "used_map"): 5,
    ("vmap_block", "va"): 6,
    ("vmap_area", "va_start"): 7,
}
"""enum sv_role."""
_NEXT: Final = 16
_FREE_LIST: Final = 32
_TREES: Final = {"busy": 0, "lazy": 1, "free": 2}
_POOL: Final = 3
_WORD_BYTES: Final = 8

_u32, _u64, _i64 = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int64


class _Root(ctypes.Structure):
    _fields_: ClassVar = [("address", _u64), ("count", _u64), ("tree", _u32), ("pad", _u32)]


class _Struct(ctypes.Structure):
    _fields_: ClassVar = [
        ("kind", _u32),
        ("size", _u32),
        ("element", _u32),
        ("pad", _u32),
        ("field_of", ctypes.POINTER(_u32)),
        ("role_of", ctypes.POINTER(ctypes.c_uint8)),
    ]


class _LockClass(ctypes.Structure):
    _fields_: ClassVar = [("number", _u32), ("is_block_lock", _u32), ("is_purge_lock", _u32)]


class _Unknown(ctypes.Structure):
    _fields_: ClassVar = [("is_lock", _u32), ("a", _u32), ("b", _u32), ("pad", _u32), ("address", _u64)]


class _Race(ctypes.Structure):
    _fields_: ClassVar = [
        ("pc", _u32 * 2),
        ("kind", _u32 * 2),
        ("entry", _u32 * 2),
        ("locks", _u64 * 2),
        ("where", _u32),
        ("offset", _u32),
        ("runs", _u64),
    ]


class _Setup(ctypes.Structure):
    _fields_: ClassVar = [
        *((name, _u32) for name in ("abi", "wanted", "block_bits", "page_shift")),
        *((name, _u64) for name in ("window_start", "window_end", "direct_start", "direct_end")),
        *((name, _u32) for name in ("race_reports", "boot_events")),
        *((name, _i64) for name in ("lazy_bias", "limit_excess_pages", "limit_reflushed_pages", "limit_hold_points")),
        ("limits_double_count", _u32),
        *((f"block_{name}", _u32) for name in ("va", "free", "dirty", "dirty_min", "dirty_max", "used_map")),
        *((name, _u32) for name in ("area_start", "area_end", "area_vm", "rb_left", "rb_right")),
        *((name, _u32) for name in ("xa_head", "xa_slots", "xa_slot_count")),
        ("lazy_nr", _u64),
        *((name, ctypes.POINTER(_u64)) for name in ("xarrays", "queue_heads", "pointers")),
        ("roots", ctypes.POINTER(_Root)),
        *((name, _u32) for name in ("n_xarrays", "n_queue_heads", "n_pointers", "n_roots")),
    ]


@dataclass(frozen=True, slots=True)
class Race:
    """A pair of accesses that nothing ordered, as screening counted it."""

    functions: tuple[str, str]
    """As the decoder names places: function, file and line."""
    field: str
    """`vmap_block.dirty`."""
    runs: int
    """In how many runs it was seen."""


class Screen:
    """Screens the runs of one booted library. `flags` is asked after each run; the library's memory is as it left it.

    Raises HarnessError if the library was built without screening, or where C says no.
    """

    def __init__(
        self,
        auditor: Auditor,
        scenario: Scenario,
        window: tuple[int, int],
        direct_map: tuple[int, int],
        *,
        wanted: int = EVERYTHING,
        race_reports: int = RACE_REPORTS,
    ) -> None:
        self.auditor = auditor
        self.decoder: Decoder = auditor.decoder
        self.library: Library = auditor.library
        self.scenario, self.window, self.direct_map = scenario, window, direct_map
        self._declare()
        self.begin(wanted=wanted, race_reports=race_reports)

    def begin(self, *, wanted: int = EVERYTHING, race_reports: int = RACE_REPORTS) -> None:
        """Forget every race, type and lock, and go on with these settings. The library's memory is as boot or a run
        left it.
        """
        self.wanted = wanted
        self._fields: list[tuple[str, Struct | None, int]] = []
        """(type, layout, size) of each struct that C knows."""
        self._classes: dict[str, int] = {}
        self._by_layout: dict[tuple[str, int], int] = {}
        self.decoder.begin(self.library.objects())
        setup = self._setup(race_reports)
        if self._call("sv_screen_setup", ctypes.byref(setup)):
            raise HarnessError(
                f"{self.library.path}: screening has another ABI; build it again (stressvmap tree clean)"
            )
        self._tell_globals()

    def flags(self) -> int:
        """Why Python's checks must look at the run that is over, a bit each (CHECKS_BY_BIT); 0: they need not."""
        found = int(self._screen())
        self.note(found)
        return found

    def note(self, found: int) -> None:
        """The run that is over was screened by the engine, with these flags: learn what C did not know in it."""
        if found & UNKNOWN:
            self._learn()

    def races(self) -> list[Race]:
        """The races seen so far, flagged or only counted, in the order of their first sight."""
        count = _u32()
        at = self._call("sv_screen_races", ctypes.byref(count))
        told = []
        for one in ctypes.cast(at, ctypes.POINTER(_Race))[: count.value]:
            name, layout, size = self._fields[one.where] if one.where < len(self._fields) else ("?", None, 0)
            named = self.decoder.field(Object(0, size, 0, name, layout), one.offset)[0]
            functions = self.decoder.function(one.pc[0]), self.decoder.function(one.pc[1])
            told.append(Race(functions, f"{name}.{named}", int(one.runs)))
        return told

    # -- C ------------------------------------------------------------------------------------------------

    def _declare(self) -> None:
        pointer = ctypes.c_void_p
        try:
            self._screen = self.library.dll.sv_screen
            self._screen.restype = _u64
            for name, result, arguments in (
                ("sv_screen_setup", ctypes.c_int, [pointer]),
                ("sv_screen_struct", ctypes.c_int, [pointer]),
                ("sv_screen_type", ctypes.c_int, [_u32, _u32, _u32]),
                ("sv_screen_global", ctypes.c_int, [_u64, _u32, _u32]),
                ("sv_screen_lock", ctypes.c_int, [_u32, _u32, pointer]),
                ("sv_screen_unknown", pointer, [pointer]),
                ("sv_screen_races", pointer, [pointer]),
            ):
                function = getattr(self.library.dll, name)
                function.restype, function.argtypes = result, arguments
        except AttributeError:
            raise HarnessError(
                f"{self.library.path}: has no screening; build it again (stressvmap tree clean)"
            ) from None

    def _call(self, name: str, *arguments: Any) -> Any:
        return getattr(self.library.dll, name)(*arguments)

    # -- told once ----------------------------------------------------------------------------------------

    def _setup(self, race_reports: int) -> _Setup:
        setup, scenario = _Setup(), self.scenario
        setup.abi, setup.wanted, setup.race_reports = ABI, self.wanted, race_reports
        setup.block_bits, setup.page_shift = scenario.block_bits, self.decoder.page_shift
        setup.window_start, setup.window_end = self.window
        setup.direct_start, setup.direct_end = self.direct_map
        setup.boot_events = len(self.decoder.boot_events())
        setup.lazy_bias = self.auditor.lazy_bias
        limits = scenario.limits
        setup.limit_excess_pages = _limit(limits.get("excess-flush"))
        setup.limit_reflushed_pages = _limit(limits.get("re-flush"))
        setup.limit_hold_points = _limit(limits.get("lock-hold"))
        setup.limits_double_count = int("double-count" in limits)
        self._set_offsets(setup)
        lazy = self.decoder.layout.globals.get("vmap_lazy_nr")
        setup.lazy_nr = 0 if lazy is None else self.library.base + lazy.offset
        queues = [queue for queue, _ in self.auditor.queues()]
        setup.queue_heads, setup.n_queue_heads = _words(_parts(queues, "free"))
        setup.xarrays, setup.n_xarrays = _words([*self._global_xarrays(), *_parts(queues, "vmap_blocks")])
        pointers = [view.address for view in self.library.objects() if view.cpu >= 0 and view.size == _WORD_BYTES]
        setup.pointers, setup.n_pointers = _words(pointers)
        roots = list(self._roots())
        setup.roots, setup.n_roots = (_Root * len(roots))(*roots), len(roots)
        return setup

    def _set_offsets(self, setup: _Setup) -> None:
        """Offsets of what C reads as whole words. Raises HarnessError where it is none."""
        for name, struct, path in (
            *((f"block_{path}", "vmap_block", path) for path in ("va", "free", "dirty", "dirty_min", "dirty_max")),
            ("area_start", "vmap_area", "va_start"),
            ("area_end", "vmap_area", "va_end"),
            ("area_vm", "vmap_area", "vm"),
            ("rb_left", "rb_node", "rb_left"),
            ("rb_right", "rb_node", "rb_right"),
            ("xa_head", "xarray", "xa_head"),
        ):
            layout = self.decoder.layout.structs.get(struct)
            one = None if layout is None else layout.field(path)
            if one is not None and one.size != _WORD_BYTES:
                raise HarnessError(f"{self.library.path}: {struct}.{path} has {one.size} bytes, screening reads 8")
            setattr(setup, name, ABSENT if one is None else one.offset)
        block = self.decoder.layout.structs.get("vmap_block")
        used = None if block is None else block.part("used_map")
        setup.block_used_map = ABSENT if used is None else used[0]
        node = self.decoder.layout.structs.get("xa_node")
        slots = None if node is None else node.part("slots")
        setup.xa_slots, setup.xa_slot_count = ABSENT, 0
        if node is not None and slots is not None:
            setup.xa_slots = slots[0]
            setup.xa_slot_count = sum(one.path.startswith("slots[") for one in node.fields)

    def _global_xarrays(self) -> Iterator[int]:
        for one in self.decoder.layout.globals.values():
            if one.type == "xarray":
                yield self.library.base + one.offset

    def _roots(self) -> Iterator[_Root]:
        for address, tree in self.auditor.roots():
            yield _Root(address, 0, _TREES[tree], 0)
        node = self.decoder.layout.structs.get("vmap_node")
        for start in self.auditor.vmap_nodes() if node is not None else ():
            assert node is not None
            for offset, path, kind in node.parts:
                if path.startswith("pool[") and kind == "list_head":
                    count = node.field(f"{path.removesuffix('.head')}.len")
                    yield _Root(start + offset, 0 if count is None else start + count.offset, _POOL, 0)

    def _tell_globals(self) -> None:
        self.decoder.begin(())
        for one in self.decoder.objects():
            number = self._struct(one.type, one.layout, one.end - one.start)
            if self._call("sv_screen_global", one.start, one.end - one.start, number):
                raise HarnessError(f"{self.library.path}: more globals than screening has room for")

    # -- told as runs show it -----------------------------------------------------------------------------

    def _struct(self, name: str, layout: Struct | None, size: int) -> int:
        """C's number of a struct, told it if it is new."""
        known = self._by_layout.get((name, size))
        if known is not None:
            return known
        told = _Struct(_KINDS.get(name, 0), size, 0, 0, None, None)
        if layout is not None:
            told.element = layout.size if 0 < layout.size < size and size % layout.size == 0 else 0
            told.field_of, told.role_of = self._bytes_of(Object(0, size, 0, name, layout))
        number = int(self._call("sv_screen_struct", ctypes.byref(told)))
        if number < 0:
            raise HarnessError(f"{self.library.path}: more structs than screening has room for")
        self._by_layout[(name, size)] = number
        self._fields.append((name, layout, size))
        return number

    def _bytes_of(self, one: Object) -> tuple[Any, Any]:
        """Of each byte of a struct, or of an array of them: its field's first byte, and what checks see in that."""
        first: dict[tuple[int, str], int] = {}
        fields, roles = (_u32 * one.end)(), (ctypes.c_uint8 * one.end)()
        assert one.layout is not None
        free_list = one.layout.part("free_list") if one.layout.name == "vmap_block" else None
        for at in range(one.end):
            element, offset = divmod(at, one.layout.size or one.end)
            name, scalar, _ = self.decoder.field(one, offset)
            fields[at] = first.setdefault((element, name), at)
            roles[at] = _ROLES.get((one.layout.name, name), 0)
            if scalar is not None and scalar.points_to and name.endswith(".next"):
                roles[at] |= _NEXT
            if free_list is not None and offset == free_list[0]:
                roles[at] |= _FREE_LIST
        return fields, roles

    def _learn(self) -> None:
        """Tell C of what it met and did not know."""
        views = self.library.objects()
        self.decoder.begin(views)
        count = _u32()
        at = self._call("sv_screen_unknown", ctypes.byref(count))
        for one in ctypes.cast(at, ctypes.POINTER(_Unknown))[: count.value]:
            if one.is_lock:
                self._tell_lock(one)
            else:
                name, layout = self.decoder.type_of(one.a, one.b)
                self._call("sv_screen_type", one.a, one.b, self._struct(name, layout, one.b))

    def _tell_lock(self, one: _Unknown) -> None:
        """A class beyond those that C has room for stays unknown, and its runs flagged."""
        name = self.decoder.lock_class(one.address, "")
        number = self._classes.setdefault(name, len(self._classes))
        told = _LockClass(number, int(name == _BLOCK_LOCK), int(name == _PURGE_LOCK))
        self._call("sv_screen_lock", one.a, one.b, ctypes.byref(told))


_BLOCK_LOCK: Final = f"{SHORT['vmap_block']}->lock"
_PURGE_LOCK: Final = "vmap_purge_lock"


def _limit(limit: float | None) -> int:
    return -1 if limit is None else int(limit)


def _words(addresses: list[int]) -> tuple[Any, int]:
    return (_u64 * len(addresses))(*addresses), len(addresses)


def _parts(objects: list[Object], path: str) -> list[int]:
    """Where that part lies in each that has it."""
    found = [(one, one.layout.part(path)) for one in objects if one.layout is not None]
    return [one.start + part[0] for one, part in found if part is not None]


def names_of(flags: int) -> list[str]:
    """What the bits of a run's flags say."""
    return [name for number, name in enumerate(CHECKS_BY_BIT) if flags >> number & 1]


# -- which runs are judged ---------------------------------------------------------------------------------


@dataclass(slots=True)
class Choice:
    """Which runs Python judges: decided by counts alone, so the same runs give the same choice.

    Of each set of flags the first `first` runs, then every `every`-th; of runs without flags every `sample`-th, for the
    metrics; and each run that a race flags, for screening itself flags a pair of places a few times only.
    """

    first: int = 200
    every: int = 100
    sample: int = 500
    runs: int = 0
    unflagged: int = 0
    judged: int = 0
    judged_unflagged: int = 0
    by_flags: dict[int, int] = field(default_factory=dict)
    """Runs by their flags."""

    def is_to_be_judged(self, flags: int) -> bool:
        """Count a run with these flags, and say whether it is to be judged."""
        self.runs += 1
        if not flags:
            is_chosen = self.unflagged % self.sample == 0
            self.unflagged += 1
            self.judged_unflagged += is_chosen
        else:
            seen = self.by_flags.get(flags, 0)
            self.by_flags[flags] = seen + 1
            is_chosen = bool(flags & RACE) or seen < self.first or seen % self.every == 0
        self.judged += is_chosen
        return is_chosen

    def until_sample(self) -> int:
        """How many runs without flags there may be, up to and with the next that is judged all the same."""
        return -self.unflagged % self.sample + 1

    def pass_by(self, runs: int) -> None:
        """Count runs without flags, fewer than `until_sample`."""
        self.runs += runs
        self.unflagged += runs

    def as_dict(self) -> dict[str, Any]:
        """For the result object: how many runs were screened, flagged and judged, and flagged why."""
        flagged = self.runs - self.unflagged
        return {
            "runs": self.runs,
            "flagged": flagged,
            "judged": self.judged,
            "judged_share": round(self.judged / self.runs, 6) if self.runs else 0.0,
            "judged_unflagged": self.judged_unflagged,
            "flagged_by": {
                name: count
                for number, name in enumerate(CHECKS_BY_BIT)
                if (count := sum(n for flags, n in self.by_flags.items() if flags >> number & 1))
            },
        }
