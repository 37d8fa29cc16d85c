# SPDX-License-Identifier: GPL-2.0-only
"""stale-after-unmap-aliases: the obligation."""

from __future__ import annotations

from stressvmap.checks.base import Handler, Mechanism
from stressvmap.checks.blame import TOO_NARROW
from stressvmap.checks.records import ApiCall, PageState
from stressvmap.checks.story import RANGES_SHOWN_MAX, StateCheck, cpus_text, hull_of, ranges_text, unmap_entry
from stressvmap.checks.world import ALIASES
from stressvmap.journal.events import API_BEGIN, API_END, UNMAP_BEGIN, Event


class StaleAfterUnmapAliases(StateCheck):
    """When vm_unmap_aliases returns, no CPU may still translate a page whose unmapping call had returned before it was
    called.

    An obligation is met on a CPU when that CPU handled an invalidation of the page after its PTE was cleared and
    before the call returned, whoever began that flush and whenever. Every CPU is taken to have cached every present
    PTE. A page whose own unmapping call (the outermost) had not returned when vm_unmap_aliases was called may stay; a
    page mapped again owes nothing; what other tasks do to its block meanwhile changes nothing. A vfree of
    VM_FLUSH_RESET_PERMS memory owes as well, when it returns, what it cleared itself: its area and its pages in the
    direct map.

    In an interval journal a debt that a flush may or may not have paid is counted as undecided, and so is one that a
    flush still under way at the return may have paid.

    No state of its own: the State settles each call at its end. One violation per call and mechanism.
    """

    NAME = "stale-after-unmap-aliases"
    NEEDS = frozenset({API_BEGIN, API_END, UNMAP_BEGIN})

    def handlers(self) -> dict[int, Handler]:
        return {API_END: self.on_api_end}

    def on_api_end(self, number: int, event: Event) -> None:
        unpaid = self.state.unpaid
        call = self.state.ended_call
        if not unpaid or call is None:
            return
        groups: dict[tuple[str, str, str, tuple[str, ...]], list[PageState]] = {}
        for page in unpaid:
            if page.blame is not None:
                groups.setdefault((unmap_entry(page), *page.blame.key()), []).append(page)
        for (cleared_by, role, mechanism, locks), pages in groups.items():
            calls = (cleared_by, call.entry) if call.entry == ALIASES else (call.contract(),)
            self._report(
                number, event, call, pages, Mechanism(self.NAME, calls, role, mechanism, locks, self.state.is_coarse)
            )

    def _block_steps(self, pages: list[PageState]) -> list[tuple[int, str]]:
        """When the blocks concerned left the books that a walk goes by: used up (off the free list), or latched
        dead.
        """
        steps = []
        blocks = {block.id: block for page in pages if (block := self.state.block_at(page.page)) is not None}
        events = self.state.journal.events
        for block in list(blocks.values())[:RANGES_SHOWN_MAX]:
            name = self.object_name(block, block.id)
            if block.free_zero_at >= 0:
                what = f"writes free = 0 of {name}: used up, so it leaves the free list"
                steps.append(self.step(block.free_zero_at, events[block.free_zero_at], what))
            if block.latched_at >= 0:
                what = f"writes dirty = {self.state.block_bits} of {name}: dead from here on, its area not lazy yet"
                steps.append(self.step(block.latched_at, events[block.latched_at], what))
            if block.lazy_at >= 0:
                what = f"puts the area of {name} on the lazy list"
                steps.append(self.step(block.lazy_at, events[block.lazy_at], what))
        return steps

    def _collected_early(self, pages: list[PageState]) -> list[tuple[int, str]]:
        """That somebody collected the dirty range of a block of `pages` while these were being unmapped, before their
        PTEs were cleared.
        """
        steps = []
        for page in pages:
            block = self.state.block_at(page.page)
            if block is None or page.call is None:
                continue
            if page.call.begin < block.hull_reset_at < page.cleared_from:
                what = f"has collected the dirty range of {self.object_name(block, block.id)}, and resets it"
                steps.append(self.step(block.hull_reset_at, block.hull_reset_event, what))
        return list(dict.fromkeys(steps))[:RANGES_SHOWN_MAX]

    def _report(self, number: int, event: Event, call: ApiCall, pages: list[PageState], mechanism: Mechanism) -> None:
        where = ranges_text(page.page for page in pages)
        mask = 0
        for page in pages:
            mask |= page.pending
        if self.state.is_interval:
            who_may = "CPUs may still translate"
        else:
            verb = "may" if mask.bit_count() > 1 else "can"
            who_may = f"{cpus_text(mask)} {verb} still translate"
        steps = [*self.clear_steps(pages), *self._block_steps(pages), self.call_begins(call)]
        if mechanism.mechanism == TOO_NARROW:
            steps += self._collected_early(pages)
        for flush in call.flushes:
            covered = [page.page for page in pages if flush.covers(page.page)]
            verb = "covers" if covered else "leaves out"
            what = f"flushes [{flush.start_page:#x}, {flush.end_page:#x}), which {verb} them"
            steps.append(self.step(flush.begin, self.state.journal.events[flush.begin], what))
        if not call.flushes:
            steps.append(self.step(number, event, "has flushed nothing"))
        steps.append(self.step(number, event, f"{call.entry} returns; {mechanism.role}: {mechanism.mechanism}"))
        if call.entry == ALIASES:
            verdict = (
                "should have been: invalidated on every CPU before vm_unmap_aliases returned, "
                "for their unmapping had returned before it was called"
            )
        else:
            verdict = (
                f"should have been: invalidated on every CPU before {call.entry} returned, for it resets permissions"
            )
        self.report(number, mechanism, f"{who_may} {where} after {call.entry} returned", steps, verdict, hull_of(pages))
