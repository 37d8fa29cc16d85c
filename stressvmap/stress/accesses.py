# SPDX-License-Identifier: GPL-2.0-only
"""What a step used, from what it announced, journalled and noted: the footprints that exploring this model stands on.

Two kinds of things are shared. *The machine*: if two steps use nothing of it in conflicting ways, swapping them gives
the same machine. *What the checks compare*: their verdict is about an order of events that the machine itself may not
care for (an unmapping returned before a vm_unmap_aliases began; a CPU answered a flush after the PTE was cleared), so
such events use a thing, too. Then all executions of one class have the same verdict, and judging one is judging all.
Not covered: metrics and the numbers in messages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from stressvmap.journal import events as ev
from stressvmap.journal.events import Event
from stressvmap.runtime.access import ADDS, CHANGES, EVERYTHING, FREES, LOOKS, SEIZES, TAKES, Key
from stressvmap.runtime.task import Task
from stressvmap.sched.exploring import StepRecord
from stressvmap.sched.footprint import Footprint, combine

Uses = dict[Key, int]

ALIASES: Final = "vm_unmap_aliases"
MAPPING: Final = frozenset({"vm_map_ram", "vmalloc", "vmalloc_reset"})
RESETTING: Final = frozenset({"vfree_reset", "vmalloc_reset"})
LAZY_LOCKS: Final = frozenset({"purge_vmap_area_lock", "vn->lazy.lock"})
LAZY_ROOT: Final = "lazy.root"
"""Read without the lock: whether the tree is empty."""
RANGE_MAX: Final = 256
"""Pages of an invalidation that are named one by one; a longer one concerns all pages."""
FIELD_LOOKS: Final = frozenset({ev.READ, ev.READ_ONCE})
FIELD_CHANGES: Final = frozenset({ev.WRITE, ev.WRITE_ONCE, ev.ATOMIC})
TREE_CHANGES: Final = frozenset({ev.TREE_INSERT, ev.TREE_ERASE})
TOUCHING: Final = frozenset({ev.LOCK, ev.UNLOCK, ev.KFREE_RCU, *FIELD_LOOKS, *FIELD_CHANGES, *TREE_CHANGES})
"""Operations that tell on their task if the object is dead."""


class JournalAccesses:
    """Footprints of the steps of one execution after the other. `contended` names the locks whose contention somebody
    looks at (sched/exploring.py).
    """

    def __init__(self, block_bits: int, contended: set[tuple[int, str]]) -> None:
        self.block_bits = block_bits
        self.contended = contended
        self._cleared: list[tuple[int, int]] = []
        """(step, page): pages whose PTE was cleared in this execution, ascending by step."""
        self._waits = False
        """The step at hand was a wait for a lock, no trylock."""
        self._handlers: dict[int, Callable[[Uses, Event], None]] = {
            ev.LOCK: self._on_lock,
            ev.TRYLOCK_FAILED: self._on_lock_seen,
            ev.LOCK_WAIT: self._on_lock_wait,
            ev.UNLOCK: self._on_unlock,
            ev.WRITE: self._on_write,
            ev.WRITE_ONCE: self._on_write,
            ev.OBJECT_FREE: self._on_object_free,
            ev.DEAD_ACCESS: self._on_dead_access,
            ev.LIST_ADD: self._on_list,
            ev.LIST_DEL: self._on_list,
            ev.XA_LOAD: self._on_xa_load,
            ev.XA_STORE: self._on_xa_change,
            ev.XA_ERASE: self._on_xa_change,
            ev.PTE_SET: self._on_pte_set,
            ev.PTE_CLEAR: self._on_pte_clear,
            ev.TLB_INVALIDATE: self._on_invalidate,
            ev.TLB_READ: self._on_tlb_read,
            ev.SPACE_OUT: self._on_space_out,
            ev.FRAME_OWNER: self._on_frame_owner,
            ev.API_BEGIN: self._on_api_begin,
            ev.API_END: self._on_api_end,
            ev.CPU_OFFLINE: self._on_everything,
            ev.CPU_ONLINE: self._on_everything,
            ev.MIGRATED: self._on_everything,
        }

    def of(self, step: StepRecord, depth: int) -> Footprint:
        """The footprint of the execution's step number `depth`."""
        cleared = self._cleared
        while cleared and cleared[-1][0] >= depth:
            cleared.pop()
        uses = step.uses
        self._announced(uses, step)
        handlers = self._handlers
        self._waits = step.waits
        for event in step.events:
            handler = handlers.get(event[0])
            if handler is not None:
                handler(uses, event)
            if event[0] == ev.PTE_CLEAR:
                cleared.append((depth, event[4]))
        return uses

    def of_wait(self, task: Task) -> Footprint:
        """A lock that it stands before; what else it may wait for nobody takes."""
        if task.pending_kind != ev.LOCK or (task.pending_object, task.pending_field) in self.contended:
            return {}
        return {("lock", task.pending_object, task.pending_field): TAKES}

    # -- what was announced -------------------------------------------------------------------------------

    def _announced(self, uses: Uses, step: StepRecord) -> None:
        kind, object_id, field = step.kind, step.object_id, step.field
        if kind in TOUCHING and object_id:
            combine(uses, ("alive", object_id), LOOKS)
        if kind in FIELD_LOOKS:
            combine(uses, (object_id, field), LOOKS)
            if field == LAZY_ROOT:
                combine(uses, ("deaths",), LOOKS)
        elif kind in FIELD_CHANGES:
            combine(uses, (object_id, field), CHANGES)
        elif kind in TREE_CHANGES:
            combine(uses, ("tree", field), CHANGES)
        elif kind == ev.TREE_FIND:
            combine(uses, ("tree", field), LOOKS)
        elif kind in (ev.PTE_SET, ev.PTE_CLEAR):
            combine(uses, ("pte", -object_id), CHANGES)
        elif kind == ev.TLB_READ:
            page = -object_id
            combine(uses, ("pte", page), LOOKS)
            combine(uses, ("tlb", step.cpu, page), CHANGES)
            self._in_ledger(uses, page)

    # -- the machine --------------------------------------------------------------------------------------

    def _on_lock(self, uses: Uses, event: Event) -> None:
        is_contended = (event[4], event[5]) in self.contended
        use = CHANGES if is_contended else TAKES if self._waits else SEIZES
        combine(uses, ("lock", event[4], event[5]), use)
        if event[5] in LAZY_LOCKS:
            combine(uses, ("deaths",), LOOKS)

    def _on_lock_seen(self, uses: Uses, event: Event) -> None:
        combine(uses, ("lock", event[4], event[5]), LOOKS)

    def _on_lock_wait(self, uses: Uses, event: Event) -> None:
        combine(uses, ("lock", event[4], event[5]), LOOKS)
        combine(uses, ("waiters", event[4], event[5]), CHANGES)

    def _on_unlock(self, uses: Uses, event: Event) -> None:
        is_contended = (event[4], event[5]) in self.contended
        is_release = event[6] == event[1] and not is_contended
        combine(uses, ("lock", event[4], event[5]), FREES if is_release else CHANGES)
        if is_contended:
            combine(uses, ("waiters", event[4], event[5]), CHANGES)

    def _on_object_free(self, uses: Uses, event: Event) -> None:
        combine(uses, ("alive", event[4]), CHANGES)

    def _on_dead_access(self, uses: Uses, event: Event) -> None:
        combine(uses, ("alive", event[4]), LOOKS)

    def _on_xa_load(self, uses: Uses, event: Event) -> None:
        combine(uses, ("entry", event[4], event[5]), LOOKS)

    def _on_xa_change(self, uses: Uses, event: Event) -> None:
        combine(uses, ("entry", event[4], event[5]), CHANGES)
        combine(uses, ("entries", event[4]), ADDS)

    def _on_everything(self, uses: Uses, event: Event) -> None:
        combine(uses, EVERYTHING, CHANGES)

    # -- what the checks compare --------------------------------------------------------------------------

    def _in_ledger(self, uses: Uses, page: int) -> None:
        """Before or after a CPU handles an invalidation of the page is not the same."""
        combine(uses, ("invalidated", page), LOOKS)
        combine(uses, ("invalidated",), LOOKS)

    def _was_cleared(self, page: int) -> bool:
        return any(page == other for _, other in self._cleared)

    def _on_pte_set(self, uses: Uses, event: Event) -> None:
        if self._was_cleared(event[4]):
            combine(uses, ("debts",), ADDS)
            self._in_ledger(uses, event[4])

    def _on_pte_clear(self, uses: Uses, event: Event) -> None:
        self._in_ledger(uses, event[4])
        combine(uses, ("handed out", event[4]), LOOKS)

    def _on_invalidate(self, uses: Uses, event: Event) -> None:
        combine(uses, ("debts",), ADDS)
        if 0 <= event[6] - event[4] <= RANGE_MAX:
            for page in range(event[4], event[6]):
                combine(uses, ("invalidated", page), ADDS)
        else:
            combine(uses, ("invalidated",), ADDS)

    def _on_tlb_read(self, uses: Uses, event: Event) -> None:
        combine(uses, ("frame", event[5]), LOOKS)
        combine(uses, ("handed out", event[4]), LOOKS)
        combine(uses, ("blame",), LOOKS)

    def _on_space_out(self, uses: Uses, event: Event) -> None:
        for page in range(event[4], event[6]):
            combine(uses, ("handed out", page), ADDS)
            if self._was_cleared(page):
                self._in_ledger(uses, page)

    def _on_frame_owner(self, uses: Uses, event: Event) -> None:
        combine(uses, ("frame", event[4]), CHANGES)

    def _on_write(self, uses: Uses, event: Event) -> None:
        if event[5] == "dirty" and event[6] == self.block_bits:
            combine(uses, ("deaths",), ADDS)
        elif event[5] == "free" and event[6] == 0:
            combine(uses, ("lists",), ADDS)

    def _on_list(self, uses: Uses, event: Event) -> None:
        combine(uses, ("listed", event[4], event[5]), CHANGES)
        if event[0] == ev.LIST_DEL and event[5] == "free_list":
            combine(uses, ("lists",), ADDS)

    def _on_api_begin(self, uses: Uses, event: Event) -> None:
        if event[5] == ALIASES:
            combine(uses, ("returns",), LOOKS)
        elif event[4]:
            for page in range(event[4], event[4] + event[6]):
                combine(uses, ("owner", page), CHANGES)

    def _on_api_end(self, uses: Uses, event: Event) -> None:
        entry = event[5]
        if entry == ALIASES or entry in RESETTING:
            combine(uses, ("debts",), LOOKS)
            combine(uses, ("lists",), LOOKS)
            combine(uses, ("blame",), ADDS)
        if entry in MAPPING and event[4]:
            for page in range(event[4], event[4] + event[6]):
                combine(uses, ("owner", page), CHANGES)
                combine(uses, ("pte", page), LOOKS)
        elif entry != ALIASES:
            combine(uses, ("returns",), ADDS)
