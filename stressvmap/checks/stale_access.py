# SPDX-License-Identifier: GPL-2.0-only
"""stale-access: the witness."""

from __future__ import annotations

from stressvmap.checks.base import Handler, Mechanism
from stressvmap.checks.records import NOWHERE, PageState
from stressvmap.checks.state import State
from stressvmap.checks.story import StateCheck, unmap_entry
from stressvmap.checks.world import ALIASES
from stressvmap.journal.events import FRAME_OWNER, PTE_CLEAR, PTE_SET, TLB_FILL, TLB_READ, Event
from stressvmap.journal.journal import Journal
from stressvmap.ranges import PageRange


class StaleAccess(StateCheck):
    """No CPU reads, through a translation that was taken away, a page that has another owner by now, once that must be
    over.

    It must be over when a vm_unmap_aliases that owed the translation's flush has returned, or its address was handed
    out again. Before that a stale entry is legal: that is what lazy flushing means, and why vm_unmap_aliases exists.

    The fingerprint carries the role and mechanism of the unpaid debt, so that each missed flush has its own witness.
    State: per frame the number of its last change of owner; bounded by the frames.
    """

    NAME = "stale-access"
    NEEDS = frozenset({TLB_READ, TLB_FILL, PTE_SET, PTE_CLEAR, FRAME_OWNER})

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._owner_events: dict[int, tuple[int, Event]] = {}
        self._told: set[tuple[int, int]] = set()

    def begin(self, journal: Journal) -> None:
        super().begin(journal)
        self._owner_events = {}
        self._told = set()

    def cannot_run_on(self, journal: Journal) -> str:
        reason = super().cannot_run_on(journal)
        if reason or len(journal.streams) > 1:
            return reason
        if not any(event[0] == TLB_READ for event in journal.events):
            return "the recording carries no reads through a TLB"
        return ""

    def handlers(self) -> dict[int, Handler]:
        return {TLB_READ: self.on_tlb_read, FRAME_OWNER: self.on_frame_owner}

    def on_frame_owner(self, number: int, event: Event) -> None:
        self._owner_events[event[4]] = (number, event)

    def on_tlb_read(self, number: int, event: Event) -> None:
        if not event[6]:
            return
        page = self.state.pages.get(event[4])
        if page is None:
            return
        filled_from = self.state.cached.get((event[2], event[4]), NOWHERE)
        is_stale = page.frame != event[5] or (filled_from >= 0 and filled_from != page.set_at)
        if not is_stale or page.cleared_at < 0:
            return
        frame = event[5]
        assert isinstance(frame, int)
        changed = self._owner_events.get(frame)
        if changed is None or changed[0] <= filled_from or (filled_from < 0 and changed[0] <= page.set_at):
            return
        is_settled = page.blame is not None
        if not is_settled and page.handed_out_at <= page.cleared_at and page.frame < 0:
            return
        if (event[2], page.page) not in self._told:
            self._told.add((event[2], page.page))
            self._report(number, event, page, changed)

    def _report(self, number: int, event: Event, page: PageState, changed: tuple[int, Event]) -> None:
        blame = page.blame
        if blame is not None:
            mechanism = Mechanism(
                self.NAME,
                (unmap_entry(page), page.blamed_entry) if page.blamed_entry == ALIASES else (page.blamed_entry,),
                blame.role,
                blame.mechanism,
                blame.locks,
                self.state.is_coarse,
            )
            settled_at, settled = page.blamed_at, f"{page.blamed_entry} returns, having owed this page's flush"
        else:
            role = "block" if self.state.block_at(page.page) is not None else "area"
            mechanism = Mechanism(
                self.NAME, (unmap_entry(page),), role, "handed out before its flush", (), self.state.is_coarse
            )
            settled_at, settled = max(page.handed_out_at, page.set_at), "its address is in use again"
        is_reused = changed[1][6] != 0
        owner = f"frame {changed[1][4]:#x} {'gets a new owner' if is_reused else 'goes back to the page allocator'}"
        whose = "that has another owner now" if is_reused else "that its owner has given back"
        where = PageRange(page.page, page.page + 1)
        self.report(
            number,
            mechanism,
            f"CPU {event[2]} read {where} through a stale translation, into a page {whose}",
            [
                *self.clear_steps([page]),
                self.step(changed[0], changed[1], owner),
                self.step(settled_at, self.state.journal.events[settled_at] if settled_at >= 0 else None, settled),
                self.step(number, event, f"probes the address, as speculation may: its TLB gives frame {event[5]:#x}"),
            ],
            "should have been: a fault, or the new mapping's page",
            where,
        )
