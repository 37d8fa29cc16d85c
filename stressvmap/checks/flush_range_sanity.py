# SPDX-License-Identifier: GPL-2.0-only
"""flush-range-sanity: a flush of a range that makes no sense."""

from __future__ import annotations

from typing import Final

from stressvmap.checks.base import Handler, Mechanism
from stressvmap.checks.state import State
from stressvmap.checks.story import StateCheck
from stressvmap.journal.events import API_END, FLUSH_ARGS, FLUSH_BEGIN, FULL_END, UNMAP_BEGIN, Event
from stressvmap.journal.journal import Journal
from stressvmap.ranges import PageRange

BACKWARDS: Final = "start after end"
OUTSIDE: Final = "outside the space"


class FlushRangeSanity(StateCheck):
    """A flushed range starts no later than it ends, and lies in the vmalloc window or in the direct map.

    A call that itself cleared direct-map pages (a vfree that resets permissions, or the undoing of such a vmalloc) may
    flush one range from those to the window, as it did before RFC 2/3: excessive, which is excess-flush's business,
    but not senseless. An empty range at a valid address is harmless. Where the journal has no FLUSH_ARGS, the flush's
    own range is looked at. State: the tasks whose call under way has cleared direct-map pages.
    """

    NAME = "flush-range-sanity"
    NEEDS = frozenset({FLUSH_BEGIN})

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._cleared_direct_map: set[int] = set()

    def begin(self, journal: Journal) -> None:
        super().begin(journal)
        self._cleared_direct_map = set()

    def handlers(self) -> dict[int, Handler]:
        return {
            FLUSH_BEGIN if self.state.is_coarse else FLUSH_ARGS: self.on_flush,
            UNMAP_BEGIN: self.on_unmap_begin,
            API_END: self.on_api_end,
        }

    def on_unmap_begin(self, number: int, event: Event) -> None:
        if self.state.direct_map.start <= event[4] < self.state.direct_map.end:
            self._cleared_direct_map.add(event[1])

    def on_api_end(self, number: int, event: Event) -> None:
        self._cleared_direct_map.discard(event[1])

    def on_flush(self, number: int, event: Event) -> None:
        start, end = event[4], event[6]
        if start > end:
            self._report(number, event, BACKWARDS)
        elif start < 0 or not (self._is_everything(event) or self._is_inside(start, end, event[1])):
            self._report(number, event, OUTSIDE)

    def _is_everything(self, event: Event) -> bool:
        """A flush that was made a full one; what was *computed* is never everything."""
        return event[0] == FLUSH_BEGIN and event[6] >= FULL_END

    def _is_inside(self, start: int, end: int, task: int) -> bool:
        window, direct = self.state.window, self.state.direct_map
        if not window.pages or (window.start <= start and end <= window.end):
            return True
        if direct.pages and direct.start <= start and end <= direct.end:
            return True
        low, high = min(window.start, direct.start), max(window.end, direct.end)
        return task in self._cleared_direct_map and low <= start and end <= high

    def _report(self, number: int, event: Event, mechanism: str) -> None:
        task = self.state.task(event)
        where = PageRange(event[4], event[6])
        reason = f" ({event[5]})" if isinstance(event[5], str) and event[5] else ""
        steps = [self.step(number, event, f"flushes {where}{reason}")]
        if task.calls:
            steps.append(self.call_begins(task.calls[0]))
        self.report(
            number,
            Mechanism(self.NAME, (task.entry(),), "flush", mechanism, task.lock_classes(), self.state.is_coarse),
            f"a flush of {where}: {mechanism}",
            steps,
            f"should have been: a range inside the window {self.state.window}, its start not after its end",
            where,
        )
