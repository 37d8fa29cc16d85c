# SPDX-License-Identifier: GPL-2.0-only
"""The model as a backend: builds a machine and a version for each execution, interprets programs, audits at rest."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from typing import Final, TypeVar

from stressvmap import program as ops
from stressvmap.errors import PatchError
from stressvmap.journal.events import API_BEGIN, API_END, BUG, SLOT_PUT, SLOT_TAKE
from stressvmap.journal.journal import Journal
from stressvmap.kernel.kernel import Kernel
from stressvmap.kernel.memory import DIRECT_MAP_PAGE
from stressvmap.kernel.struct import POISON
from stressvmap.program import Program, ProgramOp, TaskProgram
from stressvmap.ranges import PAGE_SHIFT
from stressvmap.runtime.access import CHANGES, EVERYTHING, LOOKS
from stressvmap.runtime.pairs import Pairs
from stressvmap.runtime.runtime import DONE, Runtime
from stressvmap.runtime.task import NEVER, BugOn, Task
from stressvmap.scenario import Scenario
from stressvmap.vmalloc.base import VM_FLUSH_RESET_PERMS, Geometry, Vmalloc

WINDOW_PAGE: Final = 0x100000
"""Page of VMALLOC_START: a multiple of every block size, far above the direct map."""
CLEANUP_TASK: Final = 900
MAX_ERRNO: Final = 4095
"""<linux/err.h>: an ERR_PTR is minus one of the numbers up to this."""

T = TypeVar("T")


class Slot:
    """What lies in a slot: the address and size of a mapping, the frames it maps, and how it was made."""

    __slots__ = ("address", "frames", "is_vmalloc", "pages", "wants_reset")

    def __init__(self, address: int, pages: int, frames: list[int], is_vmalloc: bool, wants_reset: bool) -> None:
        self.address = address
        self.pages = pages
        self.frames = frames
        self.is_vmalloc = is_vmalloc
        self.wants_reset = wants_reset


def geometry_of(scenario: Scenario) -> Geometry:
    """The layer's constants in a scenario."""
    pages = scenario.window_blocks * scenario.block_bits
    return Geometry(scenario.block_bits, scenario.max_alloc, WINDOW_PAGE, WINDOW_PAGE + pages, scenario.lazy_max)


class ModelBackend:
    """Runs programs on a version class. `reset` builds the machine anew; `run` runs the program to its end and
    drains; the journal is then whole.
    """

    is_screened = False
    """No oracle: the checks look at each execution."""

    def __init__(self, version: type[Vmalloc], scenario: Scenario, runtime: Runtime, *, spools: bool = False) -> None:
        """With `spools` a long execution's events go to a temporary file, and `machine.events` is their end only."""
        self.version = version
        self.spools = spools
        self.scenario = scenario
        self.runtime = runtime
        self.operations = 0
        """Program operations carried out in this execution (skipped ones not counted)."""
        self.starts: dict[int, Pairs] = {}
        """Of each task, where its operations began so far: points it had announced by then, and points of all."""
        self._slots: dict[int, Slot] = {}
        self._last: dict[int, Slot] = {}
        self._build(Program(()))

    def reset(self, program: Program) -> None:
        """A fresh machine with `program` loaded. Task ids are 1.. in the order of its tasks."""
        self._build(program)

    def _build(self, program: Program) -> None:
        scenario = self.scenario
        runtime = self.runtime
        runtime.reset()
        runtime.steps_max = scenario.steps_max
        online = scenario.online_cpus()
        self.kernel = Kernel(
            runtime,
            scenario.possible_cpus(),
            online,
            debug_pagealloc=scenario.debug_pagealloc,
            full_flush_ceiling_pages=scenario.full_flush_ceiling_pages,
            kworkers=self.version.KWORKERS,
        )
        self.machine = self.kernel.machine
        self.vmalloc = self._guard(lambda: self.version(self.kernel, geometry_of(scenario)))
        self.operations = 0
        self.starts = {}
        self._slots = {}
        self._last = {}
        tasks: list[Task] = []
        for number, task_program in enumerate(program.tasks, 1):
            cpu = task_program.cpu if task_program.cpu in online else online[number % len(online)]
            task = Task(number, f"{task_program.role}/{number}", cpu, self._body(task_program, number))
            tasks.append(task)
            runtime.spawn(task)
        self.machine.inject(program.faults)
        self.machine.plan_migrations(program.migrations, tasks)
        self._tasks = {task.id: (task.name, task.cpu) for task in runtime.tasks}

    def run(self) -> str:
        """Run the program, then unmap what is left, pay all debts and audit. Returns why it stopped (runtime's
        reasons).
        """
        reason = self.runtime.run()
        if reason == DONE:
            cleanup = Task(CLEANUP_TASK, "cleanup", self.machine.online[0], self._cleanup)
            cleanup.migrate_at = NEVER
            self._tasks[cleanup.id] = (cleanup.name, cleanup.cpu)
            self.runtime.spawn(cleanup)
            reason = self.runtime.run()
        if reason == DONE:
            if not any(task.is_dead for task in self.runtime.tasks):
                self.vmalloc.audit("rest")
            self.runtime.seal(DONE)
        return reason

    @property
    def flags(self) -> int:
        """What an oracle saw of the last execution: there is none."""
        return 0

    @property
    def unfinished(self) -> list[str]:
        """Of an execution that was given up: each task that was not done, and where it stood."""
        return self.machine.unfinished

    def journal(self, *, seed: int = 0, execution: int = 0) -> Journal:
        """The execution's journal."""
        scenario = self.scenario
        geometry = geometry_of(scenario)
        return Journal(
            header={
                "version": self.version.NAME,
                "scenario": asdict(scenario),
                "block_bits": scenario.block_bits,
                "window": [geometry.window_start_page, geometry.window_end_page],
                "possible": list(scenario.possible_cpus()),
                "online": list(scenario.online_cpus()),
                "direct_map": [DIRECT_MAP_PAGE, WINDOW_PAGE],
                "tasks": {str(id): [name, cpu] for id, (name, cpu) in sorted(self._tasks.items())},
                "seed": seed,
                "execution": execution,
            },
            events=self.machine.log if self.machine.log.is_spooled else self.machine.events,
        )

    # -- interpreting a program ---------------------------------------------------------------------------

    def _body(self, task_program: TaskProgram, number: int) -> Callable[[], None]:
        runtime = self.runtime
        starts = self.starts[number] = Pairs()

        def body() -> None:
            task = runtime.current
            for index, op in enumerate(task_program.ops):
                task.operation = index
                task.operation_start = runtime.own_points()
                starts.append(task.operation_start, runtime.points)
                self.perform(op)

        return body

    def perform(self, op: ProgramOp) -> bool:
        """Carry out one operation as the current task; False if its slot did not fit and it was skipped."""
        handler = getattr(self, "_op_" + op.kind.replace("-", "_"))
        is_done: bool = self._guard(lambda: handler(op))
        if is_done:
            self.operations += 1
        if self.spools:
            self.machine.log.spool()
        return is_done

    def _call(self, entry: str, address: int, pages: int, call: Callable[[], int]) -> int:
        """An API call between its journal entries; `call` returns the address to journal."""
        record = self.machine.record
        record(API_BEGIN, address >> PAGE_SHIFT, entry, pages)
        result = call()
        record(API_END, result >> PAGE_SHIFT, entry, pages)
        return result

    def _op_map(self, op: ProgramOp) -> bool:
        if self._slot(op.slot) is not None:
            return False
        frames = [self.kernel.frames.alloc() for _ in range(op.pages)]
        address = self._call("vm_map_ram", 0, op.pages, lambda: self.vmalloc.vm_map_ram(frames, op.pages))
        if not address:
            for frame in frames:
                self.kernel.frames.free(frame)
            return True
        self._put(op.slot, Slot(address, op.pages, frames, False, False))
        return True

    def _op_unmap(self, op: ProgramOp) -> bool:
        slot = self._take(op.slot, is_vmalloc=False)
        if slot is None:
            return False
        self._call("vm_unmap_ram", slot.address, slot.pages, lambda: self._unmap(slot))
        for frame in slot.frames:
            self.kernel.frames.free(frame)
        return True

    def _unmap(self, slot: Slot) -> int:
        self.vmalloc.vm_unmap_ram(slot.address, slot.pages)
        return slot.address

    def _op_vmalloc(self, op: ProgramOp) -> bool:
        return self._vmalloc(op, False)

    def _op_vmalloc_reset(self, op: ProgramOp) -> bool:
        return self._vmalloc(op, True)

    def _vmalloc(self, op: ProgramOp, wants_reset: bool) -> bool:
        if self._slot(op.slot) is not None:
            return False
        flags = VM_FLUSH_RESET_PERMS if wants_reset else 0
        address = self._call(
            "vmalloc_reset" if wants_reset else "vmalloc",
            0,
            op.pages,
            lambda: self.vmalloc.vmalloc(op.pages << PAGE_SHIFT, flags),
        )
        if address:
            self._put(op.slot, Slot(address, op.pages, [], True, wants_reset))
        return True

    def _op_vfree(self, op: ProgramOp) -> bool:
        slot = self._take(op.slot, is_vmalloc=True)
        if slot is None:
            return False
        entry = "vfree_reset" if slot.wants_reset else "vfree"
        self._call(entry, slot.address, slot.pages, lambda: self._vfree(slot))
        return True

    def _vfree(self, slot: Slot) -> int:
        self.vmalloc.vfree(slot.address)
        return slot.address

    def _op_aliases(self, op: ProgramOp) -> bool:
        self._call("vm_unmap_aliases", 0, 0, self._aliases)
        return True

    def _aliases(self) -> int:
        self.vmalloc.vm_unmap_aliases()
        return 0

    def _op_shrink(self, op: ProgramOp) -> bool:
        if not self.vmalloc.shrinkers:
            return False
        self._call("shrink_slab", 0, 0, self._shrink)
        return True

    def _shrink(self) -> int:
        self.vmalloc.shrink_slab()
        return 0

    def _op_vfree_atomic(self, op: ProgramOp) -> bool:
        """What resets permissions may not be freed so (include/linux/vmalloc.h), and is left where it is."""
        waiting = self._slot(op.slot)
        slot = None if waiting is None or waiting.wants_reset else self._take(op.slot, is_vmalloc=True)
        if slot is None:
            return False
        self._call("vfree_atomic", slot.address, slot.pages, lambda: self._vfree_atomic(slot))
        return True

    def _vfree_atomic(self, slot: Slot) -> int:
        self.machine.preempt_disable()
        self.vmalloc.vfree_atomic(slot.address)
        self.machine.preempt_enable()
        return slot.address

    def _op_walk(self, op: ProgramOp) -> bool:
        self._call("vmallocinfo", 0, 0, self._walk)
        return True

    def _walk(self) -> int:
        self.vmalloc.show_vmallocinfo()
        return 0

    def _op_pause(self, op: ProgramOp) -> bool:
        for _ in range(op.pages):
            self.runtime.point(0, 0, "pause")
        return True

    def _op_touch(self, op: ProgramOp) -> bool:
        slot = self._slot(op.slot)
        return slot is not None and self._read_pages(slot)

    def _op_probe(self, op: ProgramOp) -> bool:
        self.runtime.note(("slot", op.slot), LOOKS)
        slot = self._last.get(op.slot)
        return slot is not None and self._read_pages(slot)

    def _read_pages(self, slot: Slot) -> bool:
        first = slot.address >> PAGE_SHIFT
        for page in range(first, first + slot.pages):
            self.kernel.memory.read_page(page)
        return True

    def _op_migrate(self, op: ProgramOp) -> bool:
        return self.machine.move(self.runtime.current, op.pages)

    def _op_offline(self, op: ProgramOp) -> bool:
        cpu, machine, runtime = op.pages, self.machine, self.runtime
        runtime.note(EVERYTHING, CHANGES)
        if cpu not in machine.online or len(machine.online) == 1:
            return False
        if cpu in runtime.pinned_by or cpu in runtime.interrupted_by or self.kernel.memory.has_interrupts_pending(cpu):
            return False
        self.kernel.memory.empty_tlb(cpu)
        machine.cpu_down(cpu)
        return True

    def _op_online(self, op: ProgramOp) -> bool:
        self.runtime.note(EVERYTHING, CHANGES)
        if op.pages in self.machine.online or op.pages not in self.machine.possible:
            return False
        self.machine.set_online(op.pages, True)
        return True

    def _slot(self, number: int) -> Slot | None:
        """What lies in a slot."""
        self.runtime.note(("slot", number), LOOKS)
        return self._slots.get(number)

    def _put(self, number: int, slot: Slot) -> None:
        if self._slot(number) is not None:
            self._discard(slot)
            return
        self.runtime.note(("slot", number), CHANGES)
        self.machine.record(SLOT_PUT, number, "", 0)
        self._slots[number] = slot

    def _discard(self, slot: Slot) -> None:
        """Two tasks filled one slot at a time: the second mapping goes again."""
        if slot.is_vmalloc:
            self._call(
                "vfree_reset" if slot.wants_reset else "vfree", slot.address, slot.pages, lambda: self._vfree(slot)
            )
            return
        self._call("vm_unmap_ram", slot.address, slot.pages, lambda: self._unmap(slot))
        for frame in slot.frames:
            self.kernel.frames.free(frame)

    def _take(self, number: int, *, is_vmalloc: bool) -> Slot | None:
        slot = self._slot(number)
        if slot is None or slot.is_vmalloc != is_vmalloc:
            return None
        self.runtime.note(("slot", number), CHANGES)
        del self._slots[number]
        self._last[number] = slot
        self.machine.record(SLOT_TAKE, number, "", 0)
        return slot

    def _cleanup(self) -> None:
        """Unmap everything, pay every debt, so that what is then left over is a leak."""
        for number in sorted(self._slots):
            slot = self._slots[number]
            self.perform(ProgramOp(ops.VFREE if slot.is_vmalloc else ops.UNMAP, number))
        self.perform(ProgramOp(ops.ALIASES))

    # -- a user's own code --------------------------------------------------------------------------------

    def _guard(self, call: Callable[[], T]) -> T:
        """Turn what a version raises into what it is: following a pointer that is none is an oops, anything else the
        patch author's mistake.
        """
        try:
            return call()
        except AttributeError as error:
            pointer = _bad_pointer(error.obj)
            if pointer and not self.runtime.is_sealed:
                self.machine.record(BUG, 0, f"{pointer} pointer dereference (->{error.name})", 0)
                raise BugOn(f"{pointer} pointer dereference") from error
            raise self._patch_error(error) from error
        except (Exception, SystemExit) as error:
            raise self._patch_error(error) from error

    def _patch_error(self, error: BaseException) -> BaseException:
        """A PatchError naming file and line, if the version is a user's own file; else the error itself."""
        module = sys.modules.get(self.version.__module__)
        path = getattr(module, "__file__", None)
        if getattr(module, "IS_USER_PATCH", False):
            for frame in reversed(traceback.extract_tb(error.__traceback__)):
                if frame.filename == path:
                    where = f"{path}:{frame.lineno}: {self.version.__name__}.{frame.name}"
                    return PatchError(f"{where} raised {type(error).__name__}: {error}")
            if isinstance(error, AttributeError) and isinstance(error.obj, Vmalloc):
                hint = "does its __init__ call super().__init__?"
                return PatchError(f"{path}: {self.version.__name__} has no attribute {error.name!r}: {hint}")
        return error


def _bad_pointer(value: object) -> str:
    """What kind of pointer `value` is if the C would follow it into an oops: NULL, one that nobody wrote, an ERR_PTR.
    Empty if it is none of these.
    """
    if value is None:
        return "NULL"
    if type(value) is not int:
        return ""
    if value == POISON:
        return "uninitialised"
    return "error" if -MAX_ERRNO <= value < 0 else ""
