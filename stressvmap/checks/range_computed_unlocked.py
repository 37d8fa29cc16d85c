# SPDX-License-Identifier: GPL-2.0-only
"""range-computed-unlocked: the claim of the patch, turned into an invariant."""

from __future__ import annotations

from stressvmap.checks.base import Handler, Mechanism
from stressvmap.checks.records import ApiCall, Visit
from stressvmap.checks.story import StateCheck
from stressvmap.journal.events import FLUSH_ARGS, LOCK, READ, Event
from stressvmap.ranges import PageRange


class RangeComputedUnlocked(StateCheck):
    """No flushed range contains a block's dirty range that the flushing task read, within the same call, without
    vmap_purge_lock.

    The range is taken as computed: a full flush does not hide it. Both ends must have been read before the flush, and
    the range between them must hold a page; a caller's own direct-map range is nobody's dirty range and so never
    counts. A read that the same task follows with a write that widens the range, in the same hold of vb->lock, updated
    it and did not collect it (vb_free); nor does what was read after the flush.

    State: the visits of the call under way (State). One violation per flush.
    """

    NAME = "range-computed-unlocked"
    NEEDS = frozenset({FLUSH_ARGS, READ, LOCK})

    def handlers(self) -> dict[int, Handler]:
        return {FLUSH_ARGS: self.on_flush_args}

    def on_flush_args(self, number: int, event: Event) -> None:
        task = self.state.task(event)
        if not task.calls:
            return
        call = task.calls[-1]
        flushed = PageRange(event[4], event[6])
        for block, visit in call.visits.items():
            if not visit.has_hull() or not visit.is_unlocked:
                continue
            target = self.state.object(block)
            if target is None or target.start < 0:
                continue
            hull = PageRange(target.start + visit.min_value, target.start + visit.max_value)
            if flushed.contains(hull):
                self._report(number, event, call, block, visit, hull)
                return

    def _report(self, number: int, event: Event, call: ApiCall, block: int, visit: Visit, hull: PageRange) -> None:
        journal_events = self.state.journal.events
        name = self.object_name(self.state.object(block), block)
        self.report(
            number,
            Mechanism(
                self.NAME, (call.contract(),), "vmap_block", "dirty range read without vmap_purge_lock", visit.locks
            ),
            f"the flush of {PageRange(event[4], event[6])} came from a dirty range read without vmap_purge_lock",
            [
                self.call_begins(call),
                self.step(visit.min_at, journal_events[visit.min_at], f"reads dirty_min = {visit.min_value} of {name}"),
                self.step(
                    visit.max_at, journal_events[visit.max_at], f"reads dirty_max = {visit.max_value} of {name}: {hull}"
                ),
                self.step(number, event, f"flushes {PageRange(event[4], event[6])}, which contains it"),
            ],
            "should have been: read under vmap_purge_lock, so that no other task purges or flushes the block meanwhile",
            hull,
        )
