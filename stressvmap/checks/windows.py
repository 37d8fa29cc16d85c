# SPDX-License-Identifier: GPL-2.0-only
"""How often a foreign step fell into a window that matters: what tells a run that interleaved from one that merely ran.

A window that no foreign step ever fell into was not tested, however long the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from stressvmap.checks.base import Check, Handler
from stressvmap.journal.events import (
    API_BEGIN,
    API_END,
    LIST_ADD,
    LOCK,
    OBJECT_ALLOC,
    OBJECT_FREE,
    UNLOCK,
    UNMAP_END,
    WRITE,
    WRITE_ONCE,
    XA_STORE,
    Event,
)
from stressvmap.journal.journal import Journal
from stressvmap.scenario import WINDOWS

VB_LOCK: Final = "vb-lock"
PURGE_LOCK: Final = "purge-lock"
PUBLICATION: Final = "publication"
CLEAR_TO_ACCOUNTING: Final = "clear-to-accounting"
assert set(WINDOWS) == {VB_LOCK, PURGE_LOCK, PUBLICATION, CLEAR_TO_ACCOUNTING}

_LOCK_WINDOWS: Final = {"vb->lock": VB_LOCK, "vmap_purge_lock": PURGE_LOCK}


_SLOT_CALLS: Final = frozenset({"vm_unmap_ram", "vm_map_ram"})
"""Calls that give a block's slots back (vm_map_ram where it fails)."""


class WindowCount:
    """Instances of one window, and how many of them a step of another task fell into."""

    __slots__ = ("instances", "interrupted")

    def __init__(self) -> None:
        self.instances = 0
        self.interrupted = 0


class Windows(Check):
    """An observer, not an invariant. Cost: O(1) an event, and a look back over each window to its last foreign step.

    - *vb-lock*, *purge-lock*: between LOCK and UNLOCK of that class.
    - *publication*: from the XA_STORE of a block to its LIST_ADD to a free list.
    - *clear-to-accounting*: from the UNMAP_END of a range in a block to the same task's next write of a block's
      `dirty`.

    `counts` runs over all executions fed; the rest is forgotten at each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, WindowCount] = {name: WindowCount() for name in WINDOWS}
        self._events: Sequence[Event] = ()
        self._locked: dict[tuple[int, int, int | str], int] = {}
        self._published: dict[int, int] = {}
        self._blocks: set[int] = set()
        self._frees_slots: set[int] = set()
        self._cleared: dict[int, int] = {}

    def begin(self, journal: Journal) -> None:
        self._events = journal.events
        self._locked = {}
        self._published = {}
        self._blocks = set()
        self._frees_slots = set()
        self._cleared = {}

    def handlers(self) -> dict[int, Handler]:
        return {
            LOCK: self.on_lock,
            UNLOCK: self.on_unlock,
            OBJECT_ALLOC: self.on_object_alloc,
            OBJECT_FREE: self.on_object_free,
            API_BEGIN: self.on_api_begin,
            API_END: self.on_api_end,
            XA_STORE: self.on_xa_store,
            LIST_ADD: self.on_list_add,
            UNMAP_END: self.on_unmap_end,
            WRITE: self.on_write,
            WRITE_ONCE: self.on_write,
        }

    def result(self) -> dict[str, tuple[int, int]]:
        """By window: (instances, those with a foreign step inside)."""
        return {name: (count.instances, count.interrupted) for name, count in self.counts.items()}

    def _close(self, window: str, first: int, last: int) -> None:
        """It was open between these two events of one task, and interrupted iff an event between is another's."""
        count = self.counts[window]
        count.instances += 1
        events = self._events
        task = events[last][1]
        while last > first:
            last -= 1
            if events[last][1] != task:
                count.interrupted += 1
                return

    def on_lock(self, number: int, event: Event) -> None:
        if event[5] in _LOCK_WINDOWS:
            self._locked[(event[1], event[4], event[5])] = number

    def on_unlock(self, number: int, event: Event) -> None:
        window = _LOCK_WINDOWS.get(str(event[5]))
        if window is not None:
            locked_at = self._locked.pop((event[1], event[4], event[5]), -1)
            if locked_at >= 0:
                self._close(window, locked_at, number)

    def on_object_alloc(self, number: int, event: Event) -> None:
        if event[5] == "vmap_block":
            self._blocks.add(event[4])

    def on_object_free(self, number: int, event: Event) -> None:
        self._blocks.discard(event[4])

    def on_api_begin(self, number: int, event: Event) -> None:
        if event[5] in _SLOT_CALLS:
            self._frees_slots.add(event[1])

    def on_api_end(self, number: int, event: Event) -> None:
        self._frees_slots.discard(event[1])
        self._cleared.pop(event[1], None)

    def on_xa_store(self, number: int, event: Event) -> None:
        if event[6] in self._blocks:
            self._published[event[6]] = number

    def on_list_add(self, number: int, event: Event) -> None:
        if event[5] == "free_list":
            stored_at = self._published.pop(event[4], -1)
            if stored_at >= 0:
                self._close(PUBLICATION, stored_at, number)

    def on_unmap_end(self, number: int, event: Event) -> None:
        if event[1] in self._frees_slots:
            self._cleared[event[1]] = number

    def on_write(self, number: int, event: Event) -> None:
        if event[5] == "dirty" and event[1] in self._cleared and event[4] in self._blocks:
            self._close(CLEAR_TO_ACCOUNTING, self._cleared.pop(event[1]), number)
