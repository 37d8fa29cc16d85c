# SPDX-License-Identifier: GPL-2.0-only
"""Writes journals by hand for the tests of the checks: each method appends what the simulated machine would record.

Tasks 1 and 2 run on CPUs 0 and 1; tasks 100 and 101 are the interrupt pseudo-tasks of these CPUs. Blocks have 8 pages.
"""

from __future__ import annotations

from stressvmap.checks.base import Verdict, Violation, run_checks
from stressvmap.checks.registry import all_checks
from stressvmap.checks.state import State
from stressvmap.journal import events as ev
from stressvmap.journal.events import Event
from stressvmap.journal.journal import Journal

BITS = 8
WINDOW = (0x1000, 0x1000 + 16 * BITS)
DIRECT_MAP = (0x100, 0x200)
BLOCK = 0x1000
AREA = 0x1040
IRQ = 100
ALIASES = "vm_unmap_aliases"


class Recording:
    """A journal in the making. Methods return what later calls need to name."""

    def __init__(self, cpus: int = 2, *, interval: bool = False, limits: dict[str, float] | None = None) -> None:
        self.cpus = cpus
        self.interval = interval
        self.limits = limits or {}
        self.events: list[Event] = []
        self.state = State()
        self.online = list(range(cpus))
        self._objects = 0
        self._flushes = 0
        self.frames: dict[int, int] = {}

    # -- anything -----------------------------------------------------------------------------------------

    def add(self, kind: int, task: int, a: int = 0, b: int | str = "", c: int = 0, *, function: str = "") -> int:
        """One event; returns its number."""
        cpu = task - IRQ if task >= IRQ else (task - 1) % self.cpus
        self.events.append((kind, task, cpu, function, a, b, c))
        return len(self.events) - 1

    def journal(self) -> Journal:
        """The journal so far."""
        tasks = {str(task): [f"worker/{task}", (task - 1) % self.cpus] for task in (1, 2, 3)}
        tasks |= {str(IRQ + cpu): [f"interrupts/{cpu}", cpu] for cpu in range(self.cpus)}
        header = {
            "block_bits": BITS,
            "window": list(WINDOW),
            "direct_map": list(DIRECT_MAP),
            "online": list(range(self.cpus)),
            "possible": list(range(self.cpus)),
            "tasks": tasks,
        }
        streams = {ev.GROUND} if self.interval else {ev.GROUND, ev.OPERATIONS, ev.AUDIT}
        return Journal(header=header, events=self.events, streams=frozenset(streams))

    def verdict(self) -> Verdict:
        """What all checks say of it; `state` holds the metrics afterwards."""
        self.state = State()
        return run_checks(self.journal(), self.state, all_checks(self.state, self.limits))

    def violations(self, name: str) -> list[Violation]:
        """What the check `name` says of it. It must have been able to run."""
        verdict = self.verdict()
        assert name not in verdict.not_run, verdict.not_run
        return [violation for violation in verdict.violations if violation.check == name]

    def violation(self, name: str) -> Violation:
        """The only violation of the check `name`."""
        found = self.violations(name)
        assert len(found) == 1, [violation.message for violation in found]
        return found[0]

    def metric(self, name: str) -> int:
        """A metric of the journal so far."""
        self.verdict()
        return self.state.metrics()[name]

    # -- callers ------------------------------------------------------------------------------------------

    def begin(self, task: int, entry: str, page: int = 0, pages: int = 0) -> int:
        return self.add(ev.API_BEGIN, task, page, entry, pages)

    def end(self, task: int, entry: str, page: int = 0, pages: int = 0) -> int:
        return self.add(ev.API_END, task, page, entry, pages)

    def aliases(self, task: int = 1, *flushes: tuple[int, int]) -> None:
        """A whole vm_unmap_aliases call that flushes these ranges on every CPU."""
        self.begin(task, ALIASES)
        for start, end in flushes:
            self.flush(task, start, end)
        self.end(task, ALIASES)

    def map(self, task: int, page: int, pages: int = 1, entry: str = "vm_map_ram") -> None:
        """A whole mapping call that succeeds."""
        self.begin(task, entry, 0, pages)
        self.set_ptes(task, page, pages)
        self.end(task, entry, page, pages)

    def unmap(self, task: int, page: int, pages: int = 1, entry: str = "vm_unmap_ram") -> None:
        """A whole unmapping call."""
        self.begin(task, entry, page, pages)
        self.clear(task, page, pages)
        self.end(task, entry, page, pages)

    # -- translations -------------------------------------------------------------------------------------

    def set_ptes(self, task: int, page: int, pages: int = 1, *, frame: int = 0) -> None:
        for number in range(page, page + pages):
            self.frames[number] = frame or 0x9000 + len(self.events)
            if not self.interval:
                self.add(ev.PTE_SET, task, number, self.frames[number])

    def clear(self, task: int, page: int, pages: int = 1) -> None:
        """vunmap_range_noflush."""
        self.add(ev.UNMAP_BEGIN, task, page, "", page + pages)
        self.clear_ptes(task, page, pages)
        self.add(ev.UNMAP_END, task, page, "", page + pages)

    def clear_ptes(self, task: int, page: int, pages: int = 1) -> None:
        for number in range(page, page + pages):
            if not self.interval:
                self.add(ev.PTE_CLEAR, task, number, self.frames.pop(number, 0x9000))

    def flush(self, task: int, start: int, end: int, cpus: list[int] | None = None) -> None:
        """flush_tlb_kernel_range, answered by `cpus` (default: all that are online)."""
        number = self.flush_begin(task, start, end)
        for cpu in self.online if cpus is None else cpus:
            self.invalidate(task, cpu, start, end)
        self.flush_end(task, number, start, end)

    def flush_begin(self, task: int, start: int, end: int) -> int:
        self._flushes += 1
        if not self.interval:
            self.add(ev.FLUSH_ARGS, task, start, "", end)
        self.add(ev.FLUSH_BEGIN, task, start, self._flushes, end)
        return self._flushes

    def invalidate(self, task: int, cpu: int, start: int, end: int) -> None:
        if not self.interval:
            self.add(ev.TLB_INVALIDATE, task if (task - 1) % self.cpus == cpu else IRQ + cpu, start, "", end)

    def flush_end(self, task: int, number: int, start: int, end: int) -> None:
        self.add(ev.FLUSH_END, task, start, number, end)

    def touch(self, task: int, page: int) -> None:
        """The task's CPU reads the page, and caches what the page table says."""
        self.add(ev.TLB_FILL, task, page, self.frames[page])
        self.add(ev.TLB_READ, task, page, self.frames[page], 0)

    # -- objects ------------------------------------------------------------------------------------------

    def object(self, task: int, class_name: str) -> int:
        self._objects += 1
        name = task << 20 | self._objects
        self.add(ev.OBJECT_ALLOC, task, name, class_name)
        return name

    def write(self, task: int, target: int, **fields: int) -> None:
        for field, value in fields.items():
            self.add(ev.WRITE, task, target, field, value)

    def read(self, task: int, target: int, **fields: int) -> None:
        for field, value in fields.items():
            self.add(ev.READ, task, target, field, value)

    def area(self, task: int, start: int, pages: int) -> int:
        """Address space handed out, and its vmap_area on the busy tree."""
        self.add(ev.SPACE_OUT, task, start, "area", start + pages)
        area = self.object(task, "vmap_area")
        self.write(task, area, va_start=start, va_end=start + pages)
        self.add(ev.TREE_INSERT, task, area, "busy")
        return area

    def block(self, task: int = 1, start: int = BLOCK, *, free: int = 0, dirty: int = 0, head: int = 0) -> int:
        """A vmap_block with that much of it free and dirty; listed on `head` (or a head of its own) if it has free
        space.
        """
        block = self.object(task, "vmap_block")
        area = self.area(task, start, BITS)
        low, high = (0, dirty) if dirty else (BITS, 0)
        self.write(task, block, va=area, free=BITS, dirty=dirty, dirty_min=low, dirty_max=high)
        self.write(task, block, free=free)
        if free:
            self.add(ev.LIST_ADD, task, block, "free_list", head or self.object(task, "vmap_block_queue"))
        return block

    def lock(self, task: int, target: int, lock_class: str = "vb->lock") -> None:
        self.add(ev.LOCK, task, target, lock_class)

    def unlock(self, task: int, target: int, lock_class: str = "vb->lock") -> None:
        self.add(ev.UNLOCK, task, target, lock_class, task)

    def account(self, task: int, block: int, *, dirty: int) -> None:
        """What vb_free does to its block, under its lock, once the pages are gone."""
        self.lock(task, block)
        self.write(task, block, dirty=dirty)
        self.unlock(task, block)

    def lazy(self, task: int, area: int) -> None:
        """free_vmap_area_noflush: from the busy to the lazy tree."""
        self.add(ev.TREE_ERASE, task, area, "busy")
        self.lock(task, 7, "purge_vmap_area_lock")
        self.add(ev.TREE_INSERT, task, area, "lazy")
        self.unlock(task, 7, "purge_vmap_area_lock")

    def detach(self, task: int) -> None:
        """__purge_vmap_area_lazy takes the lazy list."""
        self.lock(task, 7, "purge_vmap_area_lock")
        self.unlock(task, 7, "purge_vmap_area_lock")

    def collect(self, task: int, block: int, low: int, high: int) -> None:
        """A walk reads a block's dirty range, under its lock."""
        self.lock(task, block)
        self.read(task, block, dirty=high - low, dirty_min=low, dirty_max=high)
        self.unlock(task, block)

    # -- audits -------------------------------------------------------------------------------------------

    def audit(
        self,
        moment: str = "rest",
        *,
        blocks: dict[int, dict[str, int]] | None = None,
        listed: tuple[int, ...] = (),
        indexed: tuple[int, ...] = (),
        areas: tuple[tuple[int, int, str], ...] = (),
        objects: dict[int, str] | None = None,
        lazy_nr: int | None = None,
    ) -> None:
        self.add(ev.AUDIT_BEGIN, 0, 0, moment)
        for block, fields in (blocks or {}).items():
            for field, value in fields.items():
                self.add(ev.AUDIT_FIELD, 0, block, field, value)
        for block in listed:
            self.add(ev.AUDIT_LISTED, 0, block, "free", 0)
        for block in indexed:
            self.add(ev.AUDIT_INDEXED, 0, block, "vmap_blocks", BLOCK)
        for start, end, tree in areas:
            self.add(ev.AUDIT_AREA, 0, start, tree, end)
        for name, class_name in (objects or {}).items():
            self.add(ev.AUDIT_OBJECT, 0, name, class_name)
        if lazy_nr is not None:
            self.add(ev.AUDIT_VALUE, 0, 0, "vmap_lazy_nr", lazy_nr)
        self.add(ev.AUDIT_END, 0)
