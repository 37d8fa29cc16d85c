# SPDX-License-Identifier: GPL-2.0-only
"""overlapping-mapping: one address, two owners."""

from __future__ import annotations

from typing import Final

from stressvmap.checks.base import Handler, Mechanism
from stressvmap.checks.records import PageState
from stressvmap.checks.state import State
from stressvmap.checks.story import StateCheck
from stressvmap.checks.world import MAPPING_ENTRIES, UNMAPPING_ENTRIES
from stressvmap.journal.events import API_BEGIN, API_END, PTE_BUSY, SPACE_OUT, Event
from stressvmap.journal.journal import Journal
from stressvmap.ranges import PageRange

NOT_GIVEN_BACK: Final = "handed out while not given back"
PTE_PRESENT: Final = "mapped over a present PTE"
TWO_OWNERS: Final = "returned to two callers"


class OverlappingMapping(StateCheck):
    """At any instant a page of address space belongs to one allocation, and to one caller that was given it and has not
    unmapped it.

    Three sightings: space handed out (SPACE_OUT) that was not given back (SPACE_BACK), a PTE set where one is present
    (PTE_BUSY), and a mapping call that returns a range of which another caller still has a part.

    State: per page of a live mapping the call that returned it; bounded by the address space.
    """

    NAME = "overlapping-mapping"
    NEEDS = frozenset({API_BEGIN, API_END})

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._owners: dict[int, tuple[int, Event]] = {}
        self._sizes: dict[int, int] = {}

    def begin(self, journal: Journal) -> None:
        super().begin(journal)
        self._owners = {}
        self._sizes = {}

    def handlers(self) -> dict[int, Handler]:
        return {
            SPACE_OUT: self.on_space_out,
            PTE_BUSY: self.on_pte_busy,
            API_END: self.on_api_end,
            API_BEGIN: self.on_api_begin,
        }

    def on_space_out(self, number: int, event: Event) -> None:
        clash = self.state.space_clash
        if not clash:
            return
        given = PageRange(event[4], event[6])
        steps = [
            self.step(space.at, space.event, f"is handed [{space.start:#x}, {space.end:#x}) as {space.what}")
            for space in clash
        ]
        self.report(
            number,
            Mechanism(self.NAME, (), f"{event[5]} over {clash[0].what}", NOT_GIVEN_BACK, coarse=self.state.is_coarse),
            f"{given} was handed out although a part of it is still taken",
            [*steps, self.step(number, event, f"is handed {given} as {event[5]}")],
            "should have been: address space that nobody has",
            given,
        )

    def on_pte_busy(self, number: int, event: Event) -> None:
        page = self.state.pages.get(event[4])
        where = PageRange(event[4], event[4] + 1)
        is_block = self.state.block_at(event[4]) is not None
        earlier = self._set_step(page)
        self.report(
            number,
            Mechanism(
                self.NAME,
                (self.state.entry_of(event),),
                "block" if is_block else "area",
                PTE_PRESENT,
                coarse=self.state.is_coarse,
            ),
            f"{where} was to be mapped, but its PTE is present",
            [*earlier, self.step(number, event, f"finds frame {event[5]:#x} there")],
            "should have been: no PTE where a range to map was handed out",
            where,
        )

    def _set_step(self, page: PageState | None) -> list[tuple[int, str]]:
        if page is None or page.set_at < 0:
            return []
        return [self.step(page.set_at, self.state.journal.events[page.set_at], f"maps frame {page.frame:#x} there")]

    def on_api_begin(self, number: int, event: Event) -> None:
        if event[5] in UNMAPPING_ENTRIES:
            start = event[4]
            for page in range(start, start + self._sizes.pop(start, event[6])):
                self._owners.pop(page, None)

    def on_api_end(self, number: int, event: Event) -> None:
        call = self.state.ended_call
        if not event[4] or call is None or call.entry not in MAPPING_ENTRIES:
            return
        start = event[4]
        pages = event[6] or call.pages
        owners = self._owners
        taken: tuple[int, Event] | None = None
        for page in range(start, start + pages):
            taken = taken or owners.get(page)
            owners[page] = (number, event)
        self._sizes[start] = pages
        if taken is None:
            return
        given = PageRange(start, start + pages)
        self.report(
            number,
            Mechanism(self.NAME, (str(taken[1][5]), call.entry), "mapping", TWO_OWNERS, coarse=self.state.is_coarse),
            f"{given} was returned to two callers",
            [
                self.step(
                    taken[0], taken[1], f"is given [{taken[1][4]:#x}, {taken[1][4] + taken[1][6]:#x}) by {taken[1][5]}"
                ),
                self.step(number, event, f"is given {given} by {call.entry}, and nobody unmapped it"),
            ],
            "should have been: a range that no other caller has",
            given,
        )
