# SPDX-License-Identifier: GPL-2.0-only
"""What the derived state holds, as data, and the questions that checks ask of it. What moves it is state.py's business.

Bounded by the address space touched, the objects alive and the calls under way: a page is one record, however often it
is mapped; a dead object is remembered among the last DEAD_OBJECTS_MAX; a call lives as long as a page it cleared points
to it.
"""

from __future__ import annotations

from typing import Final

from stressvmap.checks.audit import Snapshot
from stressvmap.checks.base import Check
from stressvmap.checks.costs import Costs
from stressvmap.checks.records import (
    NOWHERE,
    AddressSpace,
    ApiCall,
    Flush,
    ObjectState,
    PageState,
    Space,
    TaskState,
)
from stressvmap.journal import events as ev
from stressvmap.journal.events import Event
from stressvmap.journal.journal import Journal
from stressvmap.ranges import PageRange

ON_STACK: Final = "on_stack"
"""Class of an object on a task's stack."""
DEAD_OBJECTS_MAX: Final = 4096
PURGE_LOCK: Final = "vmap_purge_lock"
BLOCK_LOCK: Final = "vb->lock"
LAZY_LOCKS: Final = frozenset({"purge_vmap_area_lock", "vn->lazy.lock"})
LAZY_ROOT: Final = "lazy.root"
LAZY_TREE: Final = "lazy"
POOL: Final = "pool"
POOL_HEAD: Final = ".head"
POOL_LEN: Final = ".len"
BUSY_TREE: Final = "busy"
ALIASES: Final = "vm_unmap_aliases"
RESET_FREE: Final = "vfree_reset"
MAPPING_ENTRIES: Final = frozenset({"vm_map_ram", "vmalloc", "vmalloc_reset"})
UNMAPPING_ENTRIES: Final = frozenset({"vm_unmap_ram", "vfree", "vfree_atomic", RESET_FREE})
ALL_CPUS: Final = 1
"""The mask of an interval journal, where CPUs cannot be told apart."""


class World(Check):
    """What the journal implies so far. Public attributes are for checks to read only."""

    def __init__(self) -> None:
        super().__init__()
        self.costs = Costs()
        self._forget(Journal(header={}, events=()))

    def begin(self, journal: Journal) -> None:
        self._forget(journal)
        header = journal.header
        self.block_bits = int(header.get("block_bits", 0))
        window = header.get("window") or (0, 0)
        self.window = PageRange(int(window[0]), int(window[1]))
        direct = header.get("direct_map") or (0, 0)
        self.direct_map = PageRange(int(direct[0]), int(direct[1]))
        for cpu in header.get("online") or (0,):
            self.online |= 1 << int(cpu)
        for task, named in (header.get("tasks") or {}).items():
            self.tasks[int(task)] = TaskState(int(task), str(named[0]), int(named[1]))
        if ev.OPERATIONS not in journal.streams:
            self.is_coarse = True
            instants = (ev.PTE_SET, ev.PTE_CLEAR, ev.TLB_INVALIDATE)
            self.is_interval = not any(event[0] in instants for event in journal.events)

    def _forget(self, journal: Journal) -> None:
        self.journal = journal
        self.block_bits = 0
        self.window = PageRange(0, 0)
        self.direct_map = PageRange(0, 0)
        self.online = 0
        self.is_coarse = False
        """The journal carries no operations: roles and most mechanisms cannot be told."""
        self.is_interval = False
        """It carries no instants either (see the module's docstring)."""
        self.tasks: dict[int, TaskState] = {}
        self.pages: dict[int, PageState] = {}
        self.pending: dict[int, PageState] = {}
        """Those of `pages` that some CPU may still translate though they were unmapped."""
        self.clean: set[int] = set()
        """Pages unmapped, flushed on every CPU since, and not mapped again."""
        self.owners: dict[int, int] = {}
        """By frame."""
        self.cached: dict[tuple[int, int], int] = {}
        """By (CPU, page): number of the PTE_SET of the translation that CPU has cached."""
        self.objects: dict[int, ObjectState] = {}
        self.dead: dict[int, ObjectState] = {}
        self.spaces = AddressSpace()
        self.blocks: dict[int, ObjectState] = {}
        """By first page: blocks whose space was not given back, even if the object is dead."""
        self.listed_on: dict[tuple[int, str], int] = {}
        """By (object, node field): the head of the list that the code put it on and did not take it off."""
        self.deleted_from = NOWHERE
        """At a LIST_DEL: the head of the list that the node was on."""
        self.list_writers: dict[int, tuple[int, int]] = {}
        """By object: (number, task) of the last store to a list pointer in it."""
        self.open_flushes: dict[int, Flush] = {}
        self.mappings: dict[int, int] = {}
        """Live mappings as their owners know them: pages by first page."""
        self.ended_call: ApiCall | None = None
        """The call that the current API_END ended."""
        self.unpaid: list[PageState] = []
        """At the API_END of a call that owed: the pages it did not pay for."""
        self.space_clash: list[Space] = []
        """At a SPACE_OUT: what it overlapped."""
        self.pending_at_set = 0
        """At a PTE_SET: the CPUs that could still translate the page's old mapping."""
        self.mapped_while_pending: list[PageState] = []
        """Interval journals, at an API_END that returns a mapping: its pages that were not flushed since their
        unmapping.
        """
        self.value_before: int | None = None
        """At a write of a vmap_block's `free` or `dirty`: the value last written before."""
        self.is_unlock_owned = True
        """At an UNLOCK: the task held it."""
        self.snapshot = Snapshot("", NOWHERE)

    def metrics(self) -> dict[str, int]:
        """The metrics of all executions fed since the last `reset_metrics`."""
        return dict(self.costs.counts)

    def reset_metrics(self) -> None:
        """Count from 0 again."""
        self.costs.reset()

    # -- questions checks ask -----------------------------------------------------------------------------

    def task(self, event: Event) -> TaskState:
        """The task of an event."""
        task = self.tasks.get(event[1])
        if task is None:
            task = self.tasks[event[1]] = TaskState(event[1], f"task {event[1]}" if event[1] else "boot", event[2])
        return task

    def entry_of(self, event: Event) -> str:
        """The outermost entry point that the event's task is in, or the kind of task it is."""
        return self.task(event).entry()

    def block_at(self, page: int) -> ObjectState | None:
        """The block whose space `page` lies in, dead or alive."""
        return self.blocks.get(page & -self.block_bits) if self.block_bits else None

    def object(self, object_id: int) -> ObjectState | None:
        """An object, dead or alive."""
        return self.objects.get(object_id) or self.dead.get(object_id)

    def pending_in(self, start: int, end: int) -> list[PageState]:
        """The pages of [start, end) that some CPU may still translate; cost: the smaller of the range and all such
        pages.
        """
        pending = self.pending
        if end - start <= len(pending):
            return [pending[page] for page in range(start, end) if page in pending]
        return [state for page, state in pending.items() if start <= page < end]

    def is_owed(self, page: PageState, number: int) -> bool:
        """Whether a vm_unmap_aliases that begins at `number` owes the flush of this pending page."""
        call = page.call
        return call is not None and call.end < number and not self.direct_map.start <= page.page < self.direct_map.end

    def page(self, page: int) -> PageState:
        """The record of a page."""
        state = self.pages.get(page)
        if state is None:
            state = self.pages[page] = PageState(page)
        return state
