# SPDX-License-Identifier: GPL-2.0-only
"""A built library in this process: what engine.h exports, typed, and the memory of the code under test to be read.

One copy serves one configuration. The loader keeps what it once loaded, so each configuration gets a copy of the file.
"""

from __future__ import annotations

import ctypes
import shutil
import struct
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from elftools.elf.elffile import ELFFile

from stressvmap.errors import HarnessError
from stressvmap.runtime.runtime import DEADLOCK, DONE, INTERRUPTED, STEPS_MAX
from stressvmap.runtime.strategy import Plan

ABI: Final = 1
CPUS: Final = 256
EVENT_BYTES: Final = 32
EVENT_FORMAT: Final = "<HHHHIIQQ"
"""struct sv_event: kind, task, cpu, flags, pc, b, a, c."""
PROGRAM_FORMAT: Final = "=QQQQIIII"
"""struct sv_job, up to its strategy: tasks, operations, faults, migrations; how many of the first, third, fourth."""
JOB_FORMAT: Final = f"{PROGRAM_FORMAT}QQ"
"""struct sv_job: the program, the strategy, the seed."""
JOB_BYTES: Final = struct.calcsize(JOB_FORMAT)
LOWEST_ADDRESS: Final = 1 << 32
LIBRARY: Final = 0x300000000000
ARENA: Final = 0x200000000000
STACKS: Final = 0x280000000000
REGION_BYTES: Final = 1 << 30
"""Heap and stacks reserve no more."""
REASONS: Final = (DONE, DEADLOCK, STEPS_MAX, INTERRUPTED)

_U64P = ctypes.POINTER(ctypes.c_uint64)


class TaskView(ctypes.Structure):
    """struct sv_task, as far as strategies and reports look at it."""

    _fields_: ClassVar = [
        ("id", ctypes.c_int32),
        ("cpu", ctypes.c_int32),
        ("preempt_count", ctypes.c_int32),
        ("rcu_depth", ctypes.c_int32),
        ("is_daemon", ctypes.c_uint8),
        ("is_interrupt", ctypes.c_uint8),
        ("is_done", ctypes.c_uint8),
        ("is_dead", ctypes.c_uint8),
        ("is_parked", ctypes.c_uint8),
        ("is_pinned", ctypes.c_uint8),
        ("is_started", ctypes.c_uint8),
        ("race_depth", ctypes.c_uint8),
        ("role", ctypes.c_uint32),
        ("operation", ctypes.c_int32),
        ("pending_kind", ctypes.c_int32),
        ("pending_object", ctypes.c_uint64),
        ("pending_field", ctypes.c_uint32),
        ("pending_pc", ctypes.c_uint32),
        ("points", ctypes.c_uint64),
        ("operation_start", ctypes.c_uint64),
        ("migrate_at", ctypes.c_uint64),
        ("blocked_object", ctypes.c_uint64),
        ("blocked_class", ctypes.c_uint32),
        ("blocked_owner", ctypes.c_int32),
        ("name", ctypes.c_uint32),
        ("allocations", ctypes.c_uint32),
        ("pc", ctypes.c_uint32),
        ("held", ctypes.c_uint32),
    ]


class ObjectView(ctypes.Structure):
    """struct sv_object."""

    _fields_: ClassVar = [
        ("address", ctypes.c_uint64),
        ("size", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("cpu", ctypes.c_int32),
        ("is_dead", ctypes.c_uint8),
        ("how", ctypes.c_uint8),
        ("pad", ctypes.c_uint16),
        ("alloc_pc", ctypes.c_uint32),
        ("free_pc", ctypes.c_uint32),
        ("alloc_task", ctypes.c_uint16),
        ("free_task", ctypes.c_uint16),
    ]


class ConfigView(ctypes.Structure):
    """struct sv_config."""

    _fields_: ClassVar = [
        ("abi", ctypes.c_uint32),
        ("nr_possible", ctypes.c_uint32),
        ("possible", ctypes.c_uint8 * CPUS),
        ("online", ctypes.c_uint8 * CPUS),
        ("window_start", ctypes.c_uint64),
        ("window_end", ctypes.c_uint64),
        ("lazy_bias", ctypes.c_uint64),
        ("steps_max", ctypes.c_uint64),
        ("full_flush_ceiling_pages", ctypes.c_uint64),
        ("debug_pagealloc", ctypes.c_uint32),
        ("points_all", ctypes.c_uint32),
        ("keeps_events", ctypes.c_uint32),
        ("slots", ctypes.c_uint32),
    ]


class StrategyView(ctypes.Structure):
    """struct sv_strategy."""

    _fields_: ClassVar = [
        *((name, ctypes.c_uint32) for name in ("kind", "prefers_others", "count", "n_lengths")),
        ("length", ctypes.c_uint64),
        ("longest", ctypes.c_uint64),
        ("lengths", ctypes.c_char_p),
    ]


def strategy_view(plan: Plan) -> StrategyView:
    """A plan as the engine takes it; it keeps the lengths."""
    lengths = plan.lengths
    return StrategyView(
        plan.kind, plan.prefers_others, plan.count, len(lengths) >> 2, plan.length, plan.longest, lengths
    )


class TallyView(ctypes.Structure):
    """struct sv_tally."""

    _fields_: ClassVar = [
        *((name, ctypes.c_uint64) for name in ("points", "operations", "flags")),
        ("reason", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
    ]


class SearchCounts(ctypes.Structure):
    """struct sv_search_counts."""

    NAMES: ClassVar = ("complete", "cut", "deadlocks", "gave_up", "points", "states")
    _fields_: ClassVar = [(name, ctypes.c_uint64) for name in NAMES]


SEARCH_OVER, SEARCH_PAUSED, SEARCH_NEW, SEARCH_NEWS, _SEARCH_FAILED = range(5)
"""enum sv_search_outcome."""

DecideFn = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int)
DrawFn = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_uint32)


class Library:
    """The exported calls. Raises HarnessError where the engine says no."""

    def __init__(self, path: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="stressvmap-") as folder:
            copy = Path(folder) / path.name
            shutil.copyfile(path, copy)
            self.dll = ctypes.CDLL(str(copy))
        self.path = path
        self._regions: tuple[tuple[int, int, int], ...] = ()
        """(start, bytes, where it is told to be) of what lies elsewhere in another process."""
        self._strings: dict[int, str] = {}
        self._numbers: dict[str, int] = {}
        self._plans: dict[int, tuple[Plan, StrategyView, int]] = {}
        """By id() of the plan, which is kept so that it stays its own."""
        self._kept: tuple[Any, ...] = ()
        """Callbacks and buffers that the engine points to."""
        u32, u64, pointer = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_void_p
        declare = self._declare
        declare("sv_boot", ctypes.c_int, ctypes.POINTER(ConfigView))
        declare("sv_error", ctypes.c_char_p)
        declare("sv_load", ctypes.c_int, pointer, u32, pointer, pointer, u32, pointer, u32)
        declare("sv_set_decide", None, DecideFn, DrawFn, ctypes.c_int)
        declare("sv_set_strategy", None, pointer, u64)
        declare("sv_run_many", ctypes.c_int, pointer, u32, ctypes.POINTER(TallyView))
        declare("sv_set_steps_max", None, u64)
        declare("sv_run", ctypes.c_int)
        declare("sv_enabled_ids", u32, ctypes.POINTER(ctypes.POINTER(ctypes.c_int32)))
        declare("sv_all_tasks", pointer, ctypes.POINTER(u32))
        declare("sv_events", pointer, _U64P)
        declare("sv_objects", pointer, ctypes.POINTER(u32))
        declare("sv_object_stack", ctypes.POINTER(u32), u64, ctypes.c_int)
        declare("sv_text", ctypes.c_char_p, u32)
        declare("sv_string", u32, ctypes.c_char_p)
        declare("sv_choices", pointer, _U64P)
        declare("sv_draws", pointer, _U64P)
        declare("sv_operations", u64)
        declare("sv_starts", u64, u32, ctypes.POINTER(_U64P), ctypes.POINTER(_U64P))
        declare("sv_point_count", u64)
        declare("sv_request_stop", None)
        declare("sv_set_bare", None, ctypes.c_int)
        declare("sv_engine_bench", u64, u64, u64, u32)
        declare("sv_current_id", ctypes.c_int32)
        declare("sv_base", u64)
        declare("sv_arena_base", u64)
        declare("sv_stacks_base", u64)
        declare("sv_search_begin", ctypes.c_int, ctypes.c_int32, pointer, u64, ctypes.c_int)
        declare("sv_search_go", ctypes.c_int, u64, u64)
        declare("sv_search_know", None, pointer, u64)
        declare("sv_search_class", u64)
        declare("sv_search_reason", ctypes.c_int)
        declare("sv_search_counts", None, ctypes.POINTER(SearchCounts))
        declare("sv_search_stack", _U64P, _U64P)
        declare("sv_search_seen", pointer, _U64P)
        declare("sv_search_see", None, ctypes.c_char_p, u64)
        declare("sv_search_learned", _U64P, _U64P)
        declare("sv_search_learn", None, pointer, u64)

    def _declare(self, name: str, result: Any, *arguments: Any) -> None:
        try:
            function = getattr(self.dll, name)
        except AttributeError:
            raise HarnessError(f"{self.path}: exports no {name}; build it again (stressvmap tree clean)") from None
        function.restype = result
        function.argtypes = arguments

    @property
    def base(self) -> int:
        """Where the library lies in memory: a place's offset counts from here."""
        return int(self.dll.sv_base())

    def as_everywhere(self, value: int) -> int:
        """A value that is an address of this process, as it is in any: the loader puts a library anywhere, and the heap
        and the stacks of a second one lie elsewhere. Any other value as it is.
        """
        if value < LOWEST_ADDRESS:
            return value
        for start, size, everywhere in self._regions:
            if start <= value < start + size:
                return value - start + everywhere
        return value

    def boot(self, config: ConfigView) -> None:
        """Boot the code under test, once."""
        config.abi = ABI
        if self.dll.sv_boot(ctypes.byref(config)):
            raise HarnessError(f"{self.path.parent.name}: {(self.dll.sv_error() or b'no boot').decode()}")
        arena, stacks = int(self.dll.sv_arena_base()), int(self.dll.sv_stacks_base())
        self._regions = (
            (self.base, _size_of(self.path), LIBRARY),
            (arena, REGION_BYTES, ARENA),
            (stacks, REGION_BYTES, STACKS),
        )

    # -- strings ------------------------------------------------------------------------------------------

    def text(self, number: int) -> str:
        """A string by its number."""
        known = self._strings.get(number)
        if known is None:
            known = self._strings[number] = (self.dll.sv_text(number) or b"").decode(errors="replace")
        return known

    def number(self, text: str) -> int:
        """The number of a string."""
        known = self._numbers.get(text)
        if known is None:
            known = self._numbers[text] = int(self.dll.sv_string(text.encode()))
        return known

    # -- a run --------------------------------------------------------------------------------------------

    def load(self, program: Loadable) -> None:
        """Reset, and load a program."""
        if self.dll.sv_load(*program.arguments):
            raise HarnessError(f"the engine takes no such program: {(self.dll.sv_error() or b'').decode()}")

    def decide_by(self, decide: Callable[[int], int], draw: Callable[[int], int], *, wants_wakeups: bool) -> None:
        """Ask Python at each decision."""
        self._kept = (DecideFn(decide), DrawFn(draw))
        self.dll.sv_set_decide(*self._kept, int(wants_wakeups))

    def decide_by_plan(self, plan: Plan, seed: int) -> None:
        """Carry out a strategy from this seed on."""
        self.dll.sv_set_strategy(self.planned(plan), seed)

    def planned(self, plan: Plan) -> int:
        """Where the engine finds a plan; kept as long as this is."""
        kept = self._plans.get(id(plan))
        if kept is None:
            view = strategy_view(plan)
            kept = self._plans[id(plan)] = (plan, view, ctypes.addressof(view))
        return kept[2]

    def run_many(self, jobs: bytes, tally: TallyView) -> int:
        """Run jobs (JOB_FORMAT) one after the other, up to the first that screening flags; how many. Raises
        HarnessError where the engine does not take one.
        """
        count = int(self.dll.sv_run_many(jobs, len(jobs) // JOB_BYTES, ctypes.byref(tally)))
        if count < 0:
            raise HarnessError(f"the engine takes no such program: {(self.dll.sv_error() or b'').decode()}")
        return count

    def set_steps_max(self, steps_max: int) -> None:
        """Give up the runs to come after so many points."""
        self.dll.sv_set_steps_max(steps_max)

    def run(self) -> str:
        """Run the loaded program to its end; why it ended."""
        return REASONS[self.dll.sv_run()]

    def points(self) -> int:
        """Scheduling points of the run so far."""
        return int(self.dll.sv_point_count())

    def operations(self) -> int:
        """Program operations carried out in the run."""
        return int(self.dll.sv_operations())

    def current(self) -> int:
        """Id of the task that ran last; 0: none has."""
        return int(self.dll.sv_current_id())

    def set_bare(self, is_bare: bool) -> None:
        """From the next load on: nothing is recorded, nothing is a point; tasks run until they block."""
        self.dll.sv_set_bare(int(is_bare))

    def bench(self, runs: int, switches: int) -> int:
        """Run the loaded program so often, under plans of the engine's own; the points of all."""
        return int(self.dll.sv_engine_bench(runs, 1, switches))

    def enabled(self) -> list[int]:
        """Ids of the tasks that can run, ascending."""
        ids = ctypes.POINTER(ctypes.c_int32)()
        count = self.dll.sv_enabled_ids(ctypes.byref(ids))
        return ids[:count]

    def tasks(self) -> list[TaskView]:
        """All tasks, ascending by id. A view is of use until the next load."""
        count = ctypes.c_uint32()
        at = self.dll.sv_all_tasks(ctypes.byref(count))
        if not at:
            return []
        pointers = ctypes.cast(at, ctypes.POINTER(ctypes.POINTER(TaskView)))
        return [pointers[number].contents for number in range(count.value)]

    def events(self) -> bytes:
        """The journal, as it lies there: EVENT_FORMAT records."""
        count = ctypes.c_uint64()
        at = self.dll.sv_events(ctypes.byref(count))
        return ctypes.string_at(at, count.value * EVENT_BYTES) if count.value else b""

    def objects(self) -> list[ObjectView]:
        """The table of objects, ascending by address; a copy."""
        count = ctypes.c_uint32()
        at = self.dll.sv_objects(ctypes.byref(count))
        if not count.value:
            return []
        return list((ObjectView * count.value).from_buffer_copy(ctypes.string_at(at, count.value * _OBJECT_BYTES)))

    def object_stack(self, address: int, *, is_free: bool) -> list[int]:
        """Where an object was allocated, or freed: the place, where the function it is in was called, and so on."""
        at = self.dll.sv_object_stack(address, int(is_free))
        found: list[int] = []
        while at[len(found)]:
            found.append(at[len(found)])
        return found

    def choices(self) -> list[tuple[int, int]]:
        """What was decided: (task, points)."""
        count = ctypes.c_uint64()
        at = self.dll.sv_choices(ctypes.byref(count))
        words = ctypes.cast(at, ctypes.POINTER(ctypes.c_uint32))[: 2 * count.value] if count.value else []
        return list(zip(words[::2], words[1::2], strict=True))

    def draws(self) -> list[int]:
        """What was drawn."""
        count = ctypes.c_uint64()
        at = self.dll.sv_draws(ctypes.byref(count))
        return list(ctypes.cast(at, ctypes.POINTER(ctypes.c_uint32))[: count.value]) if count.value else []

    def starts(self, task: int) -> list[tuple[int, int]]:
        """Where the operations of a task began: points it had announced, and points of all."""
        own, total = _U64P(), _U64P()
        count = self.dll.sv_starts(task, ctypes.byref(own), ctypes.byref(total))
        return list(zip(own[:count], total[:count], strict=True))

    # -- a search -----------------------------------------------------------------------------------------

    def search(self, bound: int | None, stack: Sequence[int] = (), *, returns_every: bool = False) -> None:
        """Begin to explore the program of the last `load`, from decisions on that `search_stack` told."""
        words = (ctypes.c_uint64 * len(stack))(*stack)
        if self.dll.sv_search_begin(-1 if bound is None else bound, words, len(stack), int(returns_every)):
            raise HarnessError((self.dll.sv_error() or b"").decode())

    def search_on(self, executions: int, milliseconds: int) -> int:
        """Go on: one of SEARCH_OVER, SEARCH_PAUSED, SEARCH_NEW, SEARCH_NEWS."""
        outcome = int(self.dll.sv_search_go(executions, milliseconds))
        if outcome == _SEARCH_FAILED:
            raise HarnessError((self.dll.sv_error() or b"").decode())
        return outcome

    def search_know(self, classes: Sequence[int]) -> None:
        """These classes are not new, and no others are known."""
        self.dll.sv_search_know((ctypes.c_uint64 * len(classes))(*classes), len(classes))

    def search_class(self) -> int:
        """Class of the last execution; 0: it was cut."""
        return int(self.dll.sv_search_class())

    def search_reason(self) -> str:
        """Why the last execution ended."""
        return REASONS[self.dll.sv_search_reason()]

    def search_counts(self) -> SearchCounts:
        """Of the search since it began."""
        counts = SearchCounts()
        self.dll.sv_search_counts(ctypes.byref(counts))
        return counts

    def search_stack(self) -> list[int]:
        """The decisions that the next execution begins with: numbers that mean something to the engine."""
        count = ctypes.c_uint64()
        words = self.dll.sv_search_stack(ctypes.byref(count))
        if not words:
            raise HarnessError("no memory for the stack of a search")
        return list(words[: count.value])

    def search_seen(self) -> bytes:
        """The states that were seen, 8 bytes each."""
        count = ctypes.c_uint64()
        states = self.dll.sv_search_seen(ctypes.byref(count))
        if not states:
            raise HarnessError("no memory for the states of a search")
        return ctypes.string_at(states, 8 * count.value)

    def search_see(self, states: bytes) -> None:
        """After `search`: that these were seen, too."""
        self.dll.sv_search_see(states, len(states) // 8)

    def search_learned(self) -> list[int]:
        """What searches of this program have learned: numbers that mean something to the engine."""
        count = ctypes.c_uint64()
        facts = self.dll.sv_search_learned(ctypes.byref(count))
        return list(facts[: count.value])

    def search_learn(self, facts: Sequence[int]) -> None:
        """Know this from the start, and nothing else."""
        self.dll.sv_search_learn((ctypes.c_uint64 * len(facts))(*facts), len(facts))

    # -- memory of the code under test --------------------------------------------------------------------

    def read(self, address: int, size: int) -> int:
        """An unsigned integer at an address that is known to be mapped."""
        return int.from_bytes(ctypes.string_at(address, size), "little")


@dataclass(frozen=True, slots=True)
class Loadable:
    """A program as the engine takes it."""

    arguments: tuple[Any, ...]
    """Of sv_load; its arrays live here."""
    job: bytes
    """The same, in PROGRAM_FORMAT."""


def loadable(
    tasks: Sequence[tuple[int, int, int, int]],
    ops: Sequence[tuple[int, int, int]],
    faults: Sequence[tuple[int, int, int]],
    migrations: Sequence[tuple[int, int, int]],
) -> Loadable:
    """A program of tasks (cpu, role, first op, ops), ops (kind, slot, pages), faults (kind, task, nth) and migrations
    (task, cpu, point), sorted by (task, point).
    """
    moves = [word for task, cpu, point in migrations for word in (task | cpu << 32, point)]
    m = (ctypes.c_uint64 * len(moves))(*moves)
    t, o, f = _words(tasks), _words(ops), _words(faults)
    where = (ctypes.addressof(array) for array in (t, o, f, m))
    job = struct.pack(PROGRAM_FORMAT, *where, len(tasks), len(faults), len(migrations), 0)
    return Loadable((t, len(tasks), o, f, len(faults), m, len(migrations)), job)


def _size_of(library: Path) -> int:
    """Bytes from its first to its last in memory."""
    with library.open("rb") as file:
        return max(s["p_vaddr"] + s["p_memsz"] for s in ELFFile(file).iter_segments() if s["p_type"] == "PT_LOAD")


_OBJECT_BYTES: Final = ctypes.sizeof(ObjectView)


def _words(rows: Sequence[tuple[int, ...]]) -> Any:
    words = [word for row in rows for word in row]
    return (ctypes.c_uint32 * len(words))(*words)
