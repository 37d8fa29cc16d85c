# SPDX-License-Identifier: GPL-2.0-only
"""The tree backend's engine with a little kernel of our own, built with the compiler at hand and driven by ctypes.

Run as a program it prints the journal of one run, for tests that compare processes:
`python -m tests.tree.engine_driver LIBRARY JOB`, JOB being what `Job.as_json` gives.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import count, takewhile
from pathlib import Path
from typing import Any, Final

from stressvmap.journal import events
from stressvmap.runtime.runtime import DEADLOCK, DONE, INTERRUPTED, STEPS_MAX
from stressvmap.runtime.strategy import START, Plan, Strategy
from stressvmap.runtime.task import Task
from stressvmap.tree.compiler import default_family, program_of
from stressvmap.tree.library import strategy_view

ROOT: Final = Path(__file__).resolve().parents[2]
ENGINE: Final = ROOT / "stressvmap/tree/shim/engine"
PROGRAMS: Final = Path(__file__).parent / "programs"
FAMILY: Final = default_family()
COMPILER: Final = program_of(FAMILY)
REASONS: Final = (DONE, DEADLOCK, STEPS_MAX, INTERRUPTED)
CPUS: Final = 256
CLEANUP: Final = 900
FIRST: Final = 0
LAST: Final = (1 << 32) - 1
"""Ranks of a plan: the first of the enabled tasks, and the last."""
ACCESSES: Final = (events.READ, events.WRITE, events.READ_ONCE, events.WRITE_ONCE, events.ATOMIC)

FLAGS: Final = ("-std=gnu11", "-O2", "-g1", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror")
INSTRUMENTED: Final = ("-fsanitize=thread", "-Wno-infinite-recursion")
OF_GCC: Final = ("--param=tsan-distinguish-volatile=1",)
OF_CLANG: Final = (
    *("-mllvm", "-tsan-distinguish-volatile=1"),
    *("-mllvm", "-tsan-instrument-read-before-write=1"),  # without it clang tells of `x += 1` as a write alone
)
KERNEL_SECTIONS: Final = (".text=ktext", ".text.unlikely=ktext", ".data=kdata", ".bss=kbss,alloc,load,data,contents")


# -- building --------------------------------------------------------------------------------------------------


def write_event_numbers(path: Path) -> None:
    numbers = {name: value for name, value in vars(events).items() if name.isupper() and type(value) is int}
    path.write_text("".join(f"#define SV_{name} {value}\n" for name, value in numbers.items()))


def build_libraries(folder: Path) -> dict[str, Path]:
    """One library that switches stacks in assembly (or as this machine does it), one that does it by ucontext. Built
    once in a folder.
    """
    libraries = {name: folder / f"{name}.so" for name in ("native", "ucontext")}
    if folder.exists():
        return libraries
    folder.mkdir()
    write_event_numbers(folder / "sv_events.h")
    engine = [path for path in sorted(ENGINE.iterdir()) if path.suffix in (".c", ".S")]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(partial(_compile, folder, ()), [*engine, PROGRAMS / "shim.c"]))
        kernel = pool.submit(_compile_kernel, folder).result()
    portable = _compile(folder, ("-DSV_UCONTEXT",), ENGINE / "switch.c", "portable.o")
    switches = [path for path in objects if path.stem.startswith("switch")]
    others = [path for path in objects if path not in switches]
    for name, switch in {"native": switches, "ucontext": [portable]}.items():
        _call(COMPILER, "-shared", "-Wl,-z,defs", "-o", libraries[name], *switch, *others, kernel)
    return libraries


def _compile(folder: Path, flags: Sequence[str], source: Path, name: str = "") -> Path:
    target = folder / (name or f"{source.stem}.o")
    _call(COMPILER, *FLAGS, *flags, f"-I{folder}", f"-I{ENGINE}", f"-I{PROGRAMS}", "-c", source, "-o", target)
    return target


def _compile_kernel(folder: Path) -> Path:
    instrumented = (*INSTRUMENTED, *(OF_GCC if FAMILY == "gcc" else OF_CLANG))
    plain = _compile(folder, instrumented, PROGRAMS / "cases.c", "plain.o")
    renames = [word for section in KERNEL_SECTIONS for word in ("--rename-section", section)]
    _call("objcopy", *renames, plain, folder / "cases.o")
    return folder / "cases.o"


def _call(*command: object) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# -- what engine.h lays out ------------------------------------------------------------------------------------


def _fields(text: str) -> list[tuple[str, Any]]:
    types = {"u8": ctypes.c_uint8, "u16": ctypes.c_uint16, "u32": ctypes.c_uint32, "i32": ctypes.c_int32}
    types["u64"] = ctypes.c_uint64
    return [(name, types[kind]) for kind, *names in map(str.split, text.split(";")) for name in names]


class _Config(ctypes.Structure):
    _fields_ = [
        *_fields("u32 abi nr_possible"),
        ("possible", ctypes.c_uint8 * CPUS),
        ("online", ctypes.c_uint8 * CPUS),
        *_fields("u64 window_start window_end lazy_bias steps_max full_flush_ceiling_pages"),
        *_fields("u32 debug_pagealloc points_all keeps_events slots"),
    ]


class _Event(ctypes.Structure):
    _fields_ = _fields("u16 kind task cpu flags;u32 pc b;u64 a c")
    kind: int
    task: int
    cpu: int
    flags: int
    pc: int
    a: int
    b: int
    c: int


class _Object(ctypes.Structure):
    _fields_ = _fields("u64 address;u32 size id type;i32 cpu;u8 is_dead how;u16 pad;u32 alloc_pc free_pc")
    _fields_ += _fields("u16 alloc_task free_task")
    address: int
    size: int
    id: int


class _Op(ctypes.Structure):
    _fields_ = _fields("u32 kind slot pages")


class _ProgramTask(ctypes.Structure):
    _fields_ = _fields("u32 cpu role first_op ops")


class _Fault(ctypes.Structure):
    _fields_ = _fields("u32 kind task nth")


class _Migration(ctypes.Structure):
    _fields_ = _fields("u32 task cpu;u64 point")


class _Step(ctypes.Structure):
    _fields_ = _fields("u32 rank points")
    task: int


_Decide = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int)
_Draw = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_uint32)


# -- running ---------------------------------------------------------------------------------------------------


@dataclass
class Job:
    """A program: for each task its CPU and its operations, each a case of cases.h and a number for it."""

    tasks: list[tuple[int, list[tuple[str, int]]]]
    plan: list[tuple[int, int]] = field(default_factory=list)
    """(rank, points) of each decision."""
    faults: list[tuple[str, int, int]] = field(default_factory=list)
    migrations: list[tuple[int, int, int]] = field(default_factory=list)
    """(task, CPU, point)"""
    draw_seed: int = 1

    def as_json(self) -> str:
        return json.dumps(asdict(self))


@dataclass
class Event:
    """An entry of the journal, addresses told as what they are in: the same in every process."""

    kind: int
    task: int
    cpu: int
    flags: int
    pc: int
    a: str
    b: str | int
    c: str

    @property
    def name(self) -> str:
        return events.KIND_NAMES[self.kind]


class Engine:
    """A booted library. Each is a copy of its own, for one library boots once."""

    _copies = count()

    def __init__(
        self,
        library: Path,
        *,
        points_all: bool = True,
        steps_max: int = 200_000,
        cpus: int = 2,
        keeps_events: bool = True,
        slots: int = 0,
    ) -> None:
        copy = library.with_name(f"{library.stem}-{os.getpid()}-{next(self._copies)}.so")
        shutil.copy(library, copy)
        self.path = copy
        self.lib = lib = ctypes.CDLL(str(copy))
        lib.sv_error.restype = lib.sv_text.restype = ctypes.c_char_p
        lib.sv_events.restype = ctypes.POINTER(_Event)
        lib.sv_objects.restype = ctypes.POINTER(_Object)
        lib.sv_choices.restype = ctypes.POINTER(_Step)
        lib.sv_draws.restype = ctypes.POINTER(ctypes.c_uint32)
        lib.sv_object_stack.restype = ctypes.POINTER(ctypes.c_uint32)
        lib.sv_object_stack.argtypes = [ctypes.c_uint64, ctypes.c_int]
        for name in ("sv_base", "sv_point_count", "sv_operations", "sv_flags", "sv_engine_bench", "sv_starts", "state"):
            getattr(lib, name).restype = ctypes.c_uint64
        config = _Config(abi=1, nr_possible=cpus, steps_max=steps_max, points_all=points_all)
        config.keeps_events = keeps_events
        config.slots = slots
        for cpu in range(cpus):
            config.possible[cpu] = config.online[cpu] = 1
        self.config = config
        if lib.sv_boot(ctypes.byref(config)):
            raise RuntimeError(self.error())
        names = (ctypes.c_char_p * 1000).in_dll(lib, "case_names")
        self.cases = {name.decode(): number for number, name in enumerate(iter(iter(names).__next__, None))}

    def error(self) -> str:
        return str(self.lib.sv_error().decode())

    def load(self, job: Job) -> None:
        tasks = (_ProgramTask * len(job.tasks))()
        ops = [_Op(self.cases[case], 0, n) for _, task_ops in job.tasks for case, n in task_ops]
        first = 0
        for number, (cpu, task_ops) in enumerate(job.tasks):
            tasks[number] = _ProgramTask(cpu, self.lib.sv_string(b"writer"), first, len(task_ops))
            first += len(task_ops)
        faults = [_Fault(self.lib.sv_string(kind.encode()), task, nth) for kind, task, nth in job.faults]
        moves = [_Migration(*migration) for migration in job.migrations]
        done = self.lib.sv_load(
            tasks,
            len(tasks),
            (_Op * len(ops))(*ops),
            (_Fault * len(faults))(*faults),
            len(faults),
            (_Migration * len(moves))(*moves),
            len(moves),
        )
        assert done == 0, self.error()

    def run(self, job: Job) -> str:
        """Under the job's plan."""
        steps = (_Step * len(job.plan))(*[_Step(*step) for step in job.plan])
        self.lib.sv_set_plan(steps, len(steps), ctypes.c_uint64(job.draw_seed))
        self.load(job)
        return REASONS[self.lib.sv_run()]

    def run_planned(self, job: Job, plan: Plan, seed: int) -> list[tuple[int, int]]:
        """Under a strategy that the engine carries out; its choices, but for the clean-up's."""
        view = strategy_view(plan)
        self.lib.sv_set_strategy(ctypes.byref(view), ctypes.c_uint64(seed))
        self.load(job)
        self.reason = REASONS[self.lib.sv_run()]
        return [choice for choice in self.choices() if choice[0] != CLEANUP]

    def run_decided(
        self, job: Job, decide: Callable[[int], int], draw: Callable[[int], int], *, wants_wakeups: bool = False
    ) -> str:
        """Each decision by `decide`, in the engine's own terms."""
        callbacks = _Decide(decide), _Draw(draw)
        self.lib.sv_set_decide(*callbacks, int(wants_wakeups))
        self.load(job)
        return REASONS[self.lib.sv_run()]

    def run_under(self, job: Job, strategy: Strategy) -> str:
        """Each decision by a strategy of sched/, which sees tasks of Python that stand for those of C."""
        tasks: dict[int, Task] = {}
        failures: list[BaseException] = []

        def task_of(number: int) -> Task:
            return tasks.setdefault(number, Task(number, f"task {number}", 0, lambda: None))

        def decide(why: int) -> int:
            try:
                enabled = [task_of(number) for number in self.enabled_ids()]
                current = None if why == START else task_of(self.lib.sv_current_id())
                strategy.points = self.points()
                chosen, points = strategy.decide(enabled, current, why)
                return chosen.id << 40 | points
            except BaseException as error:
                failures.append(error)
                return -1

        reason = self.run_decided(job, decide, strategy.draw, wants_wakeups=strategy.wants_wakeups)
        if failures:
            raise failures[0]
        return reason

    def enabled_ids(self) -> list[int]:
        ids = ctypes.POINTER(ctypes.c_int32)()
        return ids[: self.lib.sv_enabled_ids(ctypes.byref(ids))]

    def points(self) -> int:
        return int(self.lib.sv_point_count())

    def starts(self, task: int) -> tuple[list[int], list[int]]:
        own, everyone = (ctypes.POINTER(ctypes.c_uint64)() for _ in range(2))
        n = self.lib.sv_starts(task, ctypes.byref(own), ctypes.byref(everyone))
        return own[:n], everyone[:n]

    def choices(self) -> list[tuple[int, int]]:
        n = ctypes.c_uint64()
        choices = self.lib.sv_choices(ctypes.byref(n))
        return [(choices[i].rank, choices[i].points) for i in range(n.value)]

    def draws(self) -> list[int]:
        n = ctypes.c_uint64()
        draws = self.lib.sv_draws(ctypes.byref(n))
        return [draws[i] for i in range(n.value)]

    def symbols(self) -> list[tuple[int, str]]:
        """The library's functions by where they begin."""
        listed = subprocess.run(["nm", "-n", self.path], capture_output=True, text=True, check=True).stdout
        words = [line.split() for line in listed.splitlines()]
        return [(int(word[0], 16), word[2]) for word in words if len(word) == 3 and word[1] in "tT"]

    def stack(self, address: int, *, is_free: bool) -> list[int]:
        """Where the object at an address was allocated, or freed: places in the library, innermost first."""
        places = self.lib.sv_object_stack(address, is_free)
        return list(takewhile(bool, (places[i] for i in count())))

    def journal(self, *, last: int = 1 << 40) -> list[Event]:
        """Of the last run, but for what boot recorded; at most the `last` entries of it."""
        n = ctypes.c_uint64()
        entries = self.lib.sv_events(ctypes.byref(n))
        objects = self.objects()
        told = (self._tell(entries[i], objects) for i in range(max(0, n.value - last), n.value))
        return [event for event in told if event.task or event.kind != events.OBJECT_ALLOC]

    def objects(self) -> list[tuple[int, int, int]]:
        """(address, size, id), ascending."""
        n = ctypes.c_uint32()
        objects = self.lib.sv_objects(ctypes.byref(n))
        return [(objects[i].address, objects[i].size, objects[i].id) for i in range(n.value)]

    def _tell(self, event: _Event, objects: list[tuple[int, int, int]]) -> Event:
        is_text = event.kind in events.B_IS_SYMBOL and event.kind not in (*ACCESSES, events.UNINITIALISED)
        if event.kind == events.DEAD_ACCESS:
            is_text = event.c not in ACCESSES
        b = self.lib.sv_text(event.b).decode() if is_text else event.b
        place = partial(self._place, objects)
        return Event(event.kind, event.task, event.cpu, event.flags, event.pc, place(event.a), b, place(event.c))

    def _place(self, objects: list[tuple[int, int, int]], value: int) -> str:
        for address, size, number in objects:
            if address <= value < address + size:
                return f"{number >> 20}.{number & 0xFFFFF}+{value - address}"
        from_library = value - self.lib.sv_base()
        return f"static+{from_library}" if 0 <= from_library < 1 << 24 else str(value)


def main(library: str, job: str) -> None:
    engine = Engine(Path(library))
    loaded = Job(**json.loads(job))
    print(json.dumps([engine.run(loaded), engine.choices(), engine.draws(), list(map(asdict, engine.journal()))]))


if __name__ == "__main__":
    main(*sys.argv[1:])
