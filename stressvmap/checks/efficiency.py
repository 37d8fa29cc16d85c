# SPDX-License-Identifier: GPL-2.0-only
"""excess-flush, re-flush, double-count, lock-hold: costs, turned into violations where a scenario sets a limit.

The metrics themselves are always counted (costs.py, which defines each). A limit is the largest value allowed.
"""

from __future__ import annotations

from typing import ClassVar

from stressvmap.checks.base import Handler, Mechanism
from stressvmap.checks.costs import FlushCost
from stressvmap.checks.state import State
from stressvmap.checks.story import StateCheck
from stressvmap.checks.world import PURGE_LOCK
from stressvmap.journal.events import API_END, FLUSH_BEGIN, FULL_END, READ, UNLOCK, Event
from stressvmap.quantity import counted
from stressvmap.ranges import PageRange


class LimitCheck(StateCheck):
    """A check that a number of the scenario's `limits` switches on. Without one it stays silent."""

    def __init__(self, state: State, limit: float | None) -> None:
        super().__init__(state)
        self.limit = limit

    def over(self, value: int) -> bool:
        """Whether `value` is above a limit that was set."""
        return self.limit is not None and value > self.limit


class FlushLimit(LimitCheck):
    """A cost of one flush, taken at its start. Subclasses say which cost, and how it is told."""

    NEEDS = frozenset({FLUSH_BEGIN})
    MECHANISM: ClassVar[str] = ""
    TOLD: ClassVar[str] = ""

    def cost_of(self, cost: FlushCost) -> int:
        """The pages that the limit is about."""
        raise NotImplementedError

    def handlers(self) -> dict[int, Handler]:
        return {FLUSH_BEGIN: self.on_flush_begin} if self.limit is not None else {}

    def on_flush_begin(self, number: int, event: Event) -> None:
        cost = self.state.costs.last_flush
        if cost is None or not self.over(self.cost_of(cost)):
            return
        where = PageRange(cost.flush.args_start, min(cost.flush.args_end, FULL_END))
        entry = self.state.entry_of(event)
        self.report(
            number,
            Mechanism(self.NAME, (entry,), "flush", self.MECHANISM, coarse=self.state.is_coarse),
            f"a flush of {where} covers {counted(self.cost_of(cost), 'page')} that {self.TOLD}",
            [self.step(number, event, f"flushes {counted(cost.flushed, 'page')}, of which {cost.owed} are owed")],
            f"should have been: at most {self.limit:g}",
            where,
        )


class ExcessFlush(FlushLimit):
    """One flush covers at most `limit` pages that no CPU owed: *flushed* minus *owed*, at its start."""

    NAME = "excess-flush"
    MECHANISM = "more pages than the limit beyond those owed"
    TOLD = "no CPU owed"

    def cost_of(self, cost: FlushCost) -> int:
        return cost.excess


class ReFlush(FlushLimit):
    """One flush covers at most `limit` pages that were unmapped, flushed since, and not mapped again."""

    NAME = "re-flush"
    MECHANISM = "more pages than the limit flushed again"
    TOLD = "were flushed since their unmapping"

    def cost_of(self, cost: FlushCost) -> int:
        return cost.reflushed


class DoubleCount(LimitCheck):
    """One vm_unmap_aliases call widens its range at most `limit` times by a block's dirty range and by the block's area
    as well.
    """

    NAME = "double-count"
    NEEDS = frozenset({FLUSH_BEGIN, READ})

    def handlers(self) -> dict[int, Handler]:
        return {API_END: self.on_api_end} if self.limit is not None else {}

    def on_api_end(self, number: int, event: Event) -> None:
        call = self.state.ended_call
        if call is None or not self.over(len(call.double_counted)):
            return
        steps = [self.call_begins(call)]
        dying = 0
        for block in sorted(call.double_counted):
            target = self.state.object(block)
            visit = call.visits[block]
            name = self.object_name(target, block)
            read = self.state.journal.events[visit.max_at]
            steps.append(self.step(visit.max_at, read, f"has read the dirty range of {name}"))
            if target is not None and target.latched_at >= 0:
                killer = self.state.journal.events[target.latched_at]
                dying += not target.is_killed_by_purge
                how = "purges it" if target.is_killed_by_purge else "frees its last piece"
                steps.append(self.step(target.latched_at, killer, f"{how}: its area goes to the lazy tree"))
        how_died = (
            "died by their last vb_free" if dying == len(call.double_counted) else "purged by the call or by others"
        )
        self.report(
            number,
            Mechanism(self.NAME, (call.entry,), "block", how_died),
            f"{len(call.double_counted)} blocks were counted twice by one {call.entry}",
            [*steps, self.step(number, event, f"{call.entry} returns")],
            f"should have been: at most {self.limit:g}",
        )


class LockHold(LimitCheck):
    """vmap_purge_lock is held for at most `limit` points of its holder."""

    NAME = "lock-hold"
    NEEDS = frozenset({UNLOCK})

    def handlers(self) -> dict[int, Handler]:
        return {UNLOCK: self.on_unlock} if self.limit is not None else {}

    def on_unlock(self, number: int, event: Event) -> None:
        points = self.state.costs.last_hold_points
        if event[5] != PURGE_LOCK or not self.state.is_unlock_owned or not self.over(points):
            return
        self.report(
            number,
            Mechanism(self.NAME, (self.state.entry_of(event),), PURGE_LOCK, "held longer than the limit"),
            f"{PURGE_LOCK} was held for {counted(points, 'point')} of its holder",
            [self.step(number, event, f"releases {PURGE_LOCK}")],
            f"should have been: at most {self.limit:g}",
        )
