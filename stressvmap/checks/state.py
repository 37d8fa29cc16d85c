# SPDX-License-Identifier: GPL-2.0-only
"""The derived state that all checks share: what the journal so far implies about tasks, pages, objects and address
space.

It is fed before any check, so a check sees the world as it is just after the event. Nothing here is what the code
under test believes, but for the field values that its writes announce.

*Interval journals.* A recording of a real kernel brackets each unmapping by UNMAP_BEGIN and UNMAP_END and each flush
by FLUSH_BEGIN and FLUSH_END, and has no instants. The clear lies somewhere between the former two. A flush that began
after UNMAP_END paid on every CPU when it ended; one that ended before UNMAP_BEGIN paid nothing; any other decides
nothing (`PageState.is_undecided`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from stressvmap.checks.audit import SNAPSHOT_KINDS, Snapshot
from stressvmap.checks.base import Handler
from stressvmap.checks.blame import blame_for
from stressvmap.checks.costs import FlushCost
from stressvmap.checks.lock_times import POINT_KINDS
from stressvmap.checks.records import (
    NEVER,
    NOWHERE,
    ApiCall,
    Flush,
    ObjectState,
    PageState,
    Space,
    TaskState,
    Visit,
)
from stressvmap.checks.world import (
    ALIASES,
    ALL_CPUS,
    BLOCK_LOCK,
    BUSY_TREE,
    DEAD_OBJECTS_MAX,
    LAZY_LOCKS,
    LAZY_ROOT,
    LAZY_TREE,
    MAPPING_ENTRIES,
    ON_STACK,
    PURGE_LOCK,
    RESET_FREE,
    UNMAPPING_ENTRIES,
    World,
)
from stressvmap.journal import events as ev
from stressvmap.journal.events import Event


class State(World):
    """Moves the derived state. No invariant of its own, and so no NAME."""

    def handlers(self) -> dict[int, Handler]:
        table: dict[int, Handler] = {
            ev.API_BEGIN: self.on_api_begin,
            ev.API_END: self.on_api_end,
            ev.FLUSH_BEGIN: self.on_flush_begin,
            ev.FLUSH_END: self.on_flush_end,
            ev.FRAME_OWNER: self.on_frame_owner,
            ev.SPACE_OUT: self.on_space_out,
            ev.SPACE_BACK: self.on_space_back,
        }
        if self.is_interval:
            table[ev.UNMAP_BEGIN] = self.on_unmap_begin
            table[ev.UNMAP_END] = self.on_unmap_end
            return table
        table[ev.PTE_SET] = self.on_pte_set
        table[ev.PTE_CLEAR] = self.on_pte_clear
        table[ev.CPU_OFFLINE] = self.on_cpu_offline
        table[ev.CPU_ONLINE] = self.on_cpu_online
        table[ev.TLB_FILL] = self.on_tlb_fill
        table[ev.TLB_INVALIDATE] = self.on_tlb_invalidate
        if not self.is_coarse:
            table[ev.READ] = table[ev.READ_ONCE] = self.on_read
            table[ev.WRITE] = table[ev.WRITE_ONCE] = self.on_write
            table[ev.LOCK] = self.on_lock
            table[ev.UNLOCK] = self.on_unlock
            table[ev.RCU_READ_LOCK] = self.on_rcu_read_lock
            table[ev.RCU_READ_UNLOCK] = self.on_rcu_read_unlock
            table[ev.OBJECT_ALLOC] = self.on_object_alloc
            table[ev.OBJECT_FREE] = self.on_object_free
            table[ev.KFREE_RCU] = self.on_kfree_rcu
            table[ev.RCU_WAIT] = self.on_rcu_wait
            table[ev.XA_LOAD] = self.on_xa_load
            table[ev.XA_STORE] = self.on_xa_store
            table[ev.LIST_ADD] = self.on_list_add
            table[ev.LIST_DEL] = self.on_list_del
            table[ev.TREE_INSERT] = self.on_tree_insert
            table[ev.TREE_ERASE] = self.on_tree_erase
            table[ev.FLUSH_ARGS] = self.on_flush_args
        for kind in SNAPSHOT_KINDS:
            table[kind] = self.on_audit
        return table

    # -- callers ------------------------------------------------------------------------------------------

    def on_api_begin(self, number: int, event: Event) -> None:
        task = self.task(event)
        entry = str(event[5])
        call = ApiCall(entry, event[1], number, event)
        if task.last_call is not None:
            task.last_call.visits = {}
        task.last_call = call
        task.calls.append(call)
        if entry == ALIASES:
            call.owed_pages = sum(1 for page in self.pending.values() if self.is_owed(page, number))
        elif entry in UNMAPPING_ENTRIES:
            self.mappings.pop(event[4], None)

    def on_api_end(self, number: int, event: Event) -> None:
        task = self.task(event)
        self.ended_call = None
        self.unpaid = []
        self.mapped_while_pending = []
        if not task.calls:
            return
        call = self.ended_call = task.calls.pop()
        call.end = number
        if not task.calls:
            self._leave_stack(task)
        if call.entry == ALIASES:
            self.costs.counts["unmap_aliases_calls"] += 1
            self._settle(
                call, [page for page in self.pending.values() if self.is_owed(page, call.begin)], call.owed_pages
            )
        elif call.entry == RESET_FREE or call.is_reset:
            self._settle(call, [page for page in self.pending.values() if page.call is call], 0)
        elif call.entry in MAPPING_ENTRIES and event[4]:
            self._mapping_returned(event[4], event[6] or call.pages)

    def _leave_stack(self, task: TaskState) -> None:
        """What was on its stack is gone: nobody frees it."""
        for object_id in task.on_stack:
            self.objects.pop(object_id, None)
            self.list_writers.pop(object_id, None)
        task.on_stack.clear()

    def _settle(self, call: ApiCall, due: list[PageState], owed_pages: int) -> None:
        counts = self.costs.counts
        counts["obligations_checked"] += owed_pages
        for page in due:
            if self.is_interval and (
                page.is_undecided or any(flush.covers(page.page) for flush in self.open_flushes.values())
            ):
                counts["undecided_obligations"] += 1
                if owed_pages:
                    counts["obligations_checked"] -= 1
                continue
            page.blame = blame_for(self, call, page)
            page.blamed_at = call.end
            page.blamed_entry = call.contract()
            self.unpaid.append(page)

    def _mapping_returned(self, start: int, pages: int) -> None:
        self.mappings[start] = pages
        if not self.is_interval:
            return
        for page in self.pending_in(start, start + pages):
            if page.is_undecided:
                self.costs.counts["undecided_obligations"] += 1
            else:
                self.mapped_while_pending.append(page)
            page.pending = 0
            del self.pending[page.page]
        self.clean.difference_update(range(start, start + pages))

    # -- translations -------------------------------------------------------------------------------------

    def on_pte_set(self, number: int, event: Event) -> None:
        page = event[4]
        frame = event[5]
        assert isinstance(frame, int)
        state = self.page(page)
        state.frame = frame
        state.set_at = number
        state.set_owner = self.owners.get(frame, 0)
        self.pending_at_set = 0
        if self.direct_map.start <= page < self.direct_map.end:
            self.clean.discard(page)
            return  # the same frame again: a debt of its vfree stays
        self.pending_at_set = state.pending
        if state.pending:
            state.pending = 0
            del self.pending[page]
        else:
            self.clean.discard(page)

    def on_pte_clear(self, number: int, event: Event) -> None:
        page = event[4]
        self._cleared(self.page(page), number, number, event, self.online)
        if self.direct_map.start <= page < self.direct_map.end:
            call = self.pages[page].call
            if call is not None:
                call.is_reset = True

    def _cleared(self, state: PageState, first: int, last: int, event: Event, mask: int) -> None:
        task = self.task(event)
        state.frame = NOWHERE
        state.cleared_from = first
        state.cleared_at = last
        state.clear_event = event
        state.call = task.calls[0] if task.calls else None
        state.pending = state.pending_at_clear = mask
        state.is_undecided = False
        state.blame = None
        state.handed_out_at = NOWHERE
        self.pending[state.page] = state
        self.clean.discard(state.page)

    def on_unmap_begin(self, number: int, event: Event) -> None:
        task = self.task(event)
        pages = [self.page(page) for page in range(event[4], event[6])]
        is_certain = not (
            task.calls and task.calls[0].entry in MAPPING_ENTRIES
        )  # a failed mapping: only a prefix was there
        for state in pages:
            self._cleared(state, number, NEVER, event, ALL_CPUS)
            state.is_undecided = not is_certain
        task.unmaps.append((event[4], event[6], pages))

    def on_unmap_end(self, number: int, event: Event) -> None:
        task = self.task(event)
        if task.unmaps:
            for state in task.unmaps.pop()[2]:
                if state.cleared_at == NEVER:
                    state.cleared_at = number

    def on_tlb_fill(self, number: int, event: Event) -> None:
        state = self.pages.get(event[4])
        self.cached[(event[2], event[4])] = state.set_at if state is not None else NOWHERE

    def on_tlb_invalidate(self, number: int, event: Event) -> None:
        cpu = event[2]
        bit = 1 << cpu
        for state in self.pending_in(event[4], event[6]):
            if state.pending & bit:
                self._paid(state, bit)
        if self.cached:
            for key in [key for key in self.cached if key[0] == cpu and event[4] <= key[1] < event[6]]:
                del self.cached[key]

    def _paid(self, state: PageState, mask: int) -> None:
        state.pending &= ~mask
        if not state.pending:
            del self.pending[state.page]
            if state.frame < 0:
                self.clean.add(state.page)

    def on_frame_owner(self, number: int, event: Event) -> None:
        self.owners[event[4]] = event[6]

    def on_cpu_offline(self, number: int, event: Event) -> None:
        bit = 1 << event[4]
        self.online &= ~bit
        for state in list(self.pending.values()):
            self._paid(state, bit)
        for key in [key for key in self.cached if key[0] == event[4]]:
            del self.cached[key]

    def on_cpu_online(self, number: int, event: Event) -> None:
        self.online |= 1 << event[4]

    # -- flushes ------------------------------------------------------------------------------------------

    def on_flush_args(self, number: int, event: Event) -> None:
        self.task(event).flush_args = (event[4], event[6])

    def on_flush_begin(self, number: int, event: Event) -> None:
        task = self.task(event)
        flush_number = event[5]
        assert isinstance(flush_number, int)
        flush = Flush(event[1], number, event[4], event[6], flush_number)
        args = task.flush_args
        if args is not None:
            flush.args_start, flush.args_end = args
            task.flush_args = None
        task.flushes.append(flush)
        self.open_flushes[flush_number] = flush
        start, end = flush.args_start, flush.args_end
        is_full = end >= ev.FULL_END
        owed = len(self.pending_in(start, end))
        if end - start <= len(self.clean):
            reflushed = sum(1 for page in range(start, end) if page in self.clean)
        else:
            reflushed = sum(1 for page in self.clean if start <= page < end)
        flushed = owed + reflushed if is_full else max(0, end - start)
        self.costs.flush_begins(FlushCost(flush, flushed, owed, reflushed, is_full))
        for call in task.calls:
            call.flushes.append(flush)
            if call.visits:
                self.costs.count_double(call, self.blocks)

    def on_flush_end(self, number: int, event: Event) -> None:
        task = self.task(event)
        flush_number = event[5]
        assert isinstance(flush_number, int)
        flush = self.open_flushes.pop(flush_number, None)
        if flush is None:
            return
        flush.end = number
        if flush in task.flushes:
            task.flushes.remove(flush)
        if not self.is_interval:
            return
        for state in self.pending_in(flush.start_page, flush.end_page):
            if state.cleared_at < flush.begin:
                self._paid(state, ALL_CPUS)
            else:
                state.is_undecided = True

    # -- address space ------------------------------------------------------------------------------------

    def on_space_out(self, number: int, event: Event) -> None:
        for state in self.pending_in(event[4], event[6]):
            state.handed_out_at = number
        self.space_clash = self.spaces.take(Space(event[4], event[6], str(event[5]), number, event))

    def on_space_back(self, number: int, event: Event) -> None:
        start, end = event[4], event[6]
        self.spaces.give_back(start, end)
        for first in [first for first in self.blocks if start <= first < end]:
            del self.blocks[first]

    # -- accesses -----------------------------------------------------------------------------------------

    def on_read(self, number: int, event: Event) -> None:
        field = event[5]
        if field != "dirty_min" and field != "dirty_max" and field != "free":
            if field == LAZY_ROOT:
                self._looked_at_lazy(number, event)
            return
        task = self.tasks.get(event[1])
        if task is None or not task.calls:
            return
        visits = task.calls[-1].visits
        visit = visits.get(event[4])
        if field == "free":
            if visit is not None and visit.free_at < visit.last_lock:
                visit.free_at = number
                visit.looks -= 1
            return
        if visit is None:
            visit = visits[event[4]] = Visit(number)
        has_mutex = task.holds(PURGE_LOCK)
        if field == "dirty_min":
            visit.min_at, visit.min_value, visit.min_is_unlocked = number, event[6], not has_mutex
        else:
            visit.max_at, visit.max_value, visit.max_is_unlocked = number, event[6], not has_mutex
        visit.locks = task.lock_classes()

    def _looked_at_lazy(self, number: int, event: Event) -> None:
        """RB_EMPTY_ROOT of a lazy tree, without its lock (since v6.9)."""
        calls = self.task(event).calls
        if calls:
            calls[-1].sees_lazy(event[4], number)

    def on_write(self, number: int, event: Event) -> None:
        target = self.objects.get(event[4])
        if target is None:
            if event[4] in self.dead:
                return
            target = self.objects[event[4]] = ObjectState(event[4], "", NOWHERE, None)
        field = event[5]
        special = SPECIAL_FIELDS.get(field)
        if special is not None:
            self.value_before = target.fields.get(field)
            special(self, number, event, target)
        target.fields[field] = event[6]

    def _wrote_free(self, number: int, event: Event, target: ObjectState) -> None:
        if event[6] == 0 and target.free_zero_at < 0:
            target.free_zero_at = number

    def _wrote_dirty(self, number: int, event: Event, target: ObjectState) -> None:
        if not self.block_bits or event[6] != self.block_bits or target.latched_at >= 0:
            return
        target.latched_at = number
        locked_at = NEVER
        for held in self.task(event).held:
            if held[0] == target.id:
                locked_at = held[2]
        is_free_left = target.fields.get("free", 0) > 0
        target.is_killed_by_purge = is_free_left or target.free_zero_at > locked_at

    def _wrote_dirty_min(self, number: int, event: Event, target: ObjectState) -> None:
        """A read that a widening write follows in the same lock hold updated the range (vb_free) only."""
        visit = self._visit(event, target)
        if visit is not None and visit.min_at > visit.last_lock and event[6] <= visit.min_value:
            visit.min_at = NOWHERE

    def _wrote_dirty_max(self, number: int, event: Event, target: ObjectState) -> None:
        target.hull_writer = event[1]
        if event[6] == 0:
            target.hull_reset_at, target.hull_reset_event = number, event
        visit = self._visit(event, target)
        if visit is not None and visit.max_at > visit.last_lock and event[6] >= visit.max_value:
            visit.max_at = NOWHERE

    def _visit(self, event: Event, target: ObjectState) -> Visit | None:
        calls = self.task(event).calls
        return calls[-1].visits.get(target.id) if calls else None

    def _wrote_va(self, number: int, event: Event, target: ObjectState) -> None:
        area = self.objects.get(event[6])
        if area is not None:
            target.start = area.fields.get("va_start", NOWHERE)
            if target.start >= 0:
                self.blocks[target.start] = target

    def _wrote_list_pointer(self, number: int, event: Event, target: ObjectState) -> None:
        self.list_writers[target.id] = (number, event[1])

    # -- locks and RCU ------------------------------------------------------------------------------------

    def on_lock(self, number: int, event: Event) -> None:
        task = self.task(event)
        lock_class = event[5]
        task.held.append((event[4], lock_class, number))
        if not task.calls:
            return
        call = task.calls[-1]
        if lock_class == BLOCK_LOCK:
            visit = call.visits.get(event[4])
            if visit is None:
                visit = call.visits[event[4]] = Visit(number)
                visit.locks = task.lock_classes()
            visit.last_lock = number
            visit.looks += 1
        elif lock_class in LAZY_LOCKS:
            call.sees_lazy(event[4], number)

    def on_unlock(self, number: int, event: Event) -> None:
        held = self.task(event).held
        self.is_unlock_owned = True
        for index in range(len(held) - 1, -1, -1):
            entry = held[index]
            if entry[0] == event[4] and entry[1] == event[5]:
                del held[index]
                if event[5] == PURGE_LOCK:
                    self._purge_lock_released(entry[2], number, event[1])
                return
        self.is_unlock_owned = False
        owner = self.tasks.get(event[6])
        if owner is not None:
            owner.held = [entry for entry in owner.held if (entry[0], entry[1]) != (event[4], event[5])]

    def _purge_lock_released(self, locked_at: int, number: int, task: int) -> None:
        journal_events = self.journal.events
        points = sum(
            1
            for index in range(locked_at + 1, number)
            if journal_events[index][1] == task and journal_events[index][0] in POINT_KINDS
        )
        self.costs.purge_lock_released(points)

    def on_rcu_read_lock(self, number: int, event: Event) -> None:
        self.task(event).rcu_depth += 1

    def on_rcu_read_unlock(self, number: int, event: Event) -> None:
        self.task(event).rcu_depth -= 1

    # -- objects ------------------------------------------------------------------------------------------

    def on_object_alloc(self, number: int, event: Event) -> None:
        self.objects[event[4]] = ObjectState(event[4], str(event[5]), number, event)
        if event[5] == ON_STACK:
            self.task(event).on_stack.append(event[4])

    def on_object_free(self, number: int, event: Event) -> None:
        target = self.objects.pop(event[4], None)
        if target is None:
            target = ObjectState(event[4], str(event[5]), NOWHERE, None)
        target.free_at = number
        target.free_event = event
        target.free_call = self.entry_of(event)
        self.dead[event[4]] = target
        if len(self.dead) > DEAD_OBJECTS_MAX:
            del self.dead[next(iter(self.dead))]

    def on_kfree_rcu(self, number: int, event: Event) -> None:
        self._queued(event[4], number, event)

    def on_rcu_wait(self, number: int, event: Event) -> None:
        self._queued(event[6], number, event)

    def _queued(self, object_id: int, number: int, event: Event) -> None:
        target = self.objects.get(object_id)
        if target is not None:
            target.queued_at = number
            target.queued_event = event

    def on_xa_load(self, number: int, event: Event) -> None:
        calls = self.task(event).calls
        if calls:
            calls[-1].indexes.add(event[4])

    def on_xa_store(self, number: int, event: Event) -> None:
        target = self.objects.get(event[6])
        if target is not None:
            target.index = event[4]

    def on_list_add(self, number: int, event: Event) -> None:
        self.listed_on[(event[4], str(event[5]))] = event[6]

    def on_list_del(self, number: int, event: Event) -> None:
        self.deleted_from = self.listed_on.pop((event[4], str(event[5])), NOWHERE)

    def on_tree_insert(self, number: int, event: Event) -> None:
        """An area is lazy; where it coalesced, the event names the survivor, but the task knows what it took out of the
        busy tree.
        """
        if event[5] != LAZY_TREE:
            return
        task = self.task(event)
        start = task.unlinked
        if start < 0:
            area = self.objects.get(event[4])
            start = area.fields.get("va_start", NOWHERE) if area is not None else NOWHERE
        task.unlinked = NOWHERE
        holder = next((held[0] for held in task.held if held[1] in LAZY_LOCKS), NOWHERE)
        space = self.spaces.at(start)
        if space is not None and space.lazy_at < 0:
            space.lazy_at, space.lazy_in = number, holder
        block = self.blocks.get(start)
        if block is not None and block.lazy_at < 0:
            block.lazy_at, block.lazy_in = number, holder

    def on_tree_erase(self, number: int, event: Event) -> None:
        if event[5] == BUSY_TREE:
            area = self.objects.get(event[4])
            self.task(event).unlinked = area.fields.get("va_start", NOWHERE) if area is not None else NOWHERE

    # -- audits -------------------------------------------------------------------------------------------

    def on_audit(self, number: int, event: Event) -> None:
        if event[0] == ev.AUDIT_BEGIN:
            self.snapshot = Snapshot(str(event[5]), number)
        else:
            self.snapshot.add(number, event)


_Special = Callable[[State, int, Event, ObjectState], None]
SPECIAL_FIELDS: Final[dict[int | str, _Special]] = {
    "free": State._wrote_free,
    "dirty": State._wrote_dirty,
    "dirty_min": State._wrote_dirty_min,
    "dirty_max": State._wrote_dirty_max,
    "va": State._wrote_va,
    "free_list.next": State._wrote_list_pointer,
    "free_list.prev": State._wrote_list_pointer,
    "free.next": State._wrote_list_pointer,
    "free.prev": State._wrote_list_pointer,
}
