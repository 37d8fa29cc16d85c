# SPDX-License-Identifier: GPL-2.0-only
"""reuse-before-flush: address space handed out again while some CPU may still translate it."""

from __future__ import annotations

from typing import Final

from stressvmap.checks.base import Handler, Mechanism
from stressvmap.checks.records import PageState
from stressvmap.checks.story import StateCheck, cpus_text, hull_of, ranges_text, unmap_entry
from stressvmap.journal.events import API_END, PTE_SET, SPACE_OUT, Event

AREA_AGAIN: Final = "handed out before its flush"
BLOCK_AGAIN: Final = "mapped again inside its block before its flush"


class ReuseBeforeFlush(StateCheck):
    """Address space is handed out again only when every CPU has handled an invalidation of it since its last unmapping.

    Looked at when space is handed out (SPACE_OUT) and, for pages that no such report told of, when a PTE is set: that
    catches a block that reuses its own dirty space, and journals without SPACE_OUT. In an interval journal the moment
    lies somewhere inside the mapping call, and debts only shrink: a page that is surely not flushed when that call
    returns was not flushed when it was handed out. The direct map is never handed out. State: none
    (PageState.handed_out_at marks what was told).
    """

    NAME = "reuse-before-flush"
    NEEDS = frozenset({PTE_SET, API_END})

    def handlers(self) -> dict[int, Handler]:
        return {SPACE_OUT: self.on_space_out, PTE_SET: self.on_pte_set, API_END: self.on_api_end}

    def on_space_out(self, number: int, event: Event) -> None:
        pages = self.state.pending_in(event[4], event[6])
        if pages:
            self._report(
                number, event, pages, str(event[5]), AREA_AGAIN, f"is handed [{event[4]:#x}, {event[6]:#x}) again"
            )

    def on_pte_set(self, number: int, event: Event) -> None:
        if not self.state.pending_at_set:
            return
        page = self.state.pages[event[4]]
        if page.handed_out_at > page.cleared_at:
            return
        is_block = self.state.block_at(page.page) is not None
        role, mechanism = ("block", BLOCK_AGAIN) if is_block else ("area", AREA_AGAIN)
        self._report(number, event, [page], role, mechanism, "maps it again", self.state.pending_at_set)

    def on_api_end(self, number: int, event: Event) -> None:
        if self.state.mapped_while_pending:
            self._report(
                number, event, self.state.mapped_while_pending, "unmapped page", AREA_AGAIN, "returns it mapped again"
            )

    def _report(
        self, number: int, event: Event, pages: list[PageState], role: str, mechanism: str, what: str, mask: int = 0
    ) -> None:
        for page in pages:
            mask |= page.pending
        calls = tuple(sorted({unmap_entry(page) for page in pages}))[:1]
        where = ranges_text(page.page for page in pages)
        who = cpus_text(mask) if mask and not self.state.is_interval else "CPUs"
        self.report(
            number,
            Mechanism(self.NAME, calls, role, mechanism, coarse=self.state.is_coarse),
            f"{where} was handed out again while {who} may still translate its old mapping",
            [*self.clear_steps(pages), self.step(number, event, what)],
            f"should have been: an invalidation handled by {who} between the two",
            hull_of(pages),
        )
