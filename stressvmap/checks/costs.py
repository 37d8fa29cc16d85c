# SPDX-License-Identifier: GPL-2.0-only
"""What flushing cost: the metrics of contract and result file, counted at the instants the definitions name.

- *flushed*: pages in the range of a flush as computed. A flush of everything whose computed range the journal does
  not carry counts as flushing what was owed or re-flushed, and no more.
- *owed*: pages in the range that were unmapped and not flushed since on some CPU, taken at the flush's start.
- *excess*: flushed - owed.
- *re-flushed*: pages in the range that were unmapped once, flushed on every CPU since, and not mapped again at the
  flush's start; pages of an area handed out again whose block has not mapped them yet count.
- *double counted*: a block whose dirty range a vm_unmap_aliases call read and widened its range by, and whose area
  was on the lazy tree when the same call detached it. A block keeps its identity through the lazy tree, though areas
  coalesce there. *Dying* are those among them that died by their last vb_free, not by a purge.
- *purge lock hold*: points of the holder itself between LOCK and UNLOCK of vmap_purge_lock: what it did while others
  had to wait (lock_times.py has this for every lock).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stressvmap.checks.records import ApiCall, Flush, ObjectState

METRIC_NAMES: Final = (
    "flush_calls",
    "flushed_pages",
    "owed_pages",
    "excess_pages",
    "reflushed_pages",
    "double_counted_blocks",
    "double_counted_dying_blocks",
    "purge_lock_hold_points_max",
    "purge_lock_hold_points_total",
    "purge_lock_holds",
    "unmap_aliases_calls",
    "undecided_obligations",
    "obligations_checked",
)

ALIASES_ENTRIES: Final = frozenset({"vm_unmap_aliases", "vfree_reset"})
"""Entry points that go through vm_unmap_aliases."""


def merge_metrics(left: Mapping[str, int], right: Mapping[str, int]) -> dict[str, int]:
    """The metrics of two runs together: sums, but for maxima."""
    merged = dict(left)
    for name, value in right.items():
        merged[name] = max(merged.get(name, 0), value) if is_maximum(name) else merged.get(name, 0) + value
    return merged


def is_maximum(name: str) -> bool:
    """Whether two runs combine this metric by its maximum; all others add up. A lock class may follow the name."""
    return name.partition(".")[0].endswith("_max")


class FlushCost:
    """What one flush cost, at its start."""

    __slots__ = ("flush", "flushed", "is_full", "owed", "reflushed")

    def __init__(self, flush: Flush, flushed: int, owed: int, reflushed: int, is_full: bool) -> None:
        self.flush = flush
        self.flushed = flushed
        self.owed = owed
        self.reflushed = reflushed
        self.is_full = is_full

    @property
    def excess(self) -> int:
        """Pages flushed though no CPU owed them."""
        return self.flushed - self.owed


class Costs:
    """The running totals since `reset`. Bounded: a number per metric and the last flush."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = dict.fromkeys(METRIC_NAMES, 0)
        self.last_flush: FlushCost | None = None
        self.last_hold_points = 0

    def reset(self) -> None:
        """Start again from 0."""
        self.counts = dict.fromkeys(METRIC_NAMES, 0)

    def flush_begins(self, cost: FlushCost) -> None:
        """Count one flush."""
        self.last_flush = cost
        counts = self.counts
        counts["flush_calls"] += 1
        counts["flushed_pages"] += cost.flushed
        counts["owed_pages"] += cost.owed
        counts["excess_pages"] += cost.excess
        counts["reflushed_pages"] += cost.reflushed

    def purge_lock_released(self, hold_points: int) -> None:
        """Count one hold of vmap_purge_lock."""
        self.last_hold_points = hold_points
        counts = self.counts
        counts["purge_lock_holds"] += 1
        counts["purge_lock_hold_points_total"] += hold_points
        if hold_points > counts["purge_lock_hold_points_max"]:
            counts["purge_lock_hold_points_max"] = hold_points

    def count_double(self, call: ApiCall, blocks: Mapping[int, ObjectState]) -> None:
        """At a flush of `call`: which of the blocks it widened by their dirty range had it detached from the lazy tree
        as well.

        `blocks`: those whose space was not given back, by first page. Under vmap_purge_lock nobody else is between
        detaching an area and giving its space back, so what became lazy before this call's detach is what it
        detached.
        """
        if call.entry not in ALIASES_ENTRIES or not call.lazy_seen:
            return
        for block in blocks.values():
            if not 0 <= block.lazy_at < call.saw_lazy(block.lazy_in) or block.id in call.double_counted:
                continue
            visit = call.visits.get(block.id)
            if visit is None or not visit.has_hull():
                continue
            call.double_counted.add(block.id)
            self.counts["double_counted_blocks"] += 1
            if not block.is_killed_by_purge:
                self.counts["double_counted_dying_blocks"] += 1
