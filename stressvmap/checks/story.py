# SPDX-License-Identifier: GPL-2.0-only
"""How checks report: the base class of those that share the State, and the phrases their messages are made of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from stressvmap.checks.base import Check, Mechanism, Violation
from stressvmap.checks.records import ApiCall, ObjectState, PageState
from stressvmap.checks.state import State
from stressvmap.checks.world import MAPPING_ENTRIES
from stressvmap.journal.events import KIND_NAMES, READ, READ_ONCE, WRITE, WRITE_ONCE, Event
from stressvmap.journal.journal import Journal
from stressvmap.journal.place import ALLOC, FREE, stack, where
from stressvmap.quantity import counted
from stressvmap.ranges import PageRange

VIOLATIONS_MAX: Final = 20
"""Violations that one check reports of one execution; beyond that, only those of a mechanism not seen in it before: a
second one must not hide behind the first. What is left out is counted in `suppressed`.
"""
MECHANISMS_MAX: Final = 200
RANGES_SHOWN_MAX: Final = 4


class StateCheck(Check):
    """A check that reads the shared State. `steps` of a report are (event number, what it says) in the order of the
    story.
    """

    def __init__(self, state: State) -> None:
        super().__init__()
        self.state = state
        self.suppressed = 0
        """Violations of all executions that VIOLATIONS_MAX kept back."""
        self._reported = 0
        self._seen: set[Mechanism] = set()

    def begin(self, journal: Journal) -> None:
        self._reported = 0
        self._seen = set()

    def report(
        self,
        at: int,
        mechanism: Mechanism,
        headline: str,
        steps: Iterable[tuple[int, str]],
        verdict: str,
        pages: PageRange | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        """Record one violation: a headline, the steps in the order they happened, what else there is to know, and what
        should have been.
        """
        if self._reported >= VIOLATIONS_MAX and (mechanism in self._seen or len(self._seen) >= MECHANISMS_MAX):
            self.suppressed += 1
            return
        self._reported += 1
        self._seen.add(mechanism)
        told = sorted({step for step in steps if step[0] >= 0})
        lines = [headline, *(f"  #{number:<6d} {text}" for number, text in told)]
        lines += [f"  {text}" for text in (*notes, verdict)]
        numbers = tuple(sorted({number for number, _ in told}))
        self.violations.append(Violation(self.NAME, mechanism, "\n".join(lines), at, numbers, pages))

    # -- phrases ------------------------------------------------------------------------------------------

    def who(self, event: Event) -> str:
        """The task, CPU and function of an event."""
        place = where(event[3])
        return f"{self.state.task(event).name} (task {event[1]}, CPU {event[2]}){f' in {place}' if place else ''}"

    def origins(self, object_id: int) -> list[str]:
        """Where an object was allocated and freed, a line each, if the journal has their call stacks."""
        told = []
        for which, verb in ((ALLOC, "allocated"), (FREE, "freed")):
            places = stack(self.state.journal, object_id, which)
            if places:
                told.append(f"{verb} in {', called by '.join(map(str, places))}")
        return told

    def step(self, number: int, event: Event | None, what: str) -> tuple[int, str]:
        """A step of a story; dropped if the journal does not know its event."""
        return (number, f"{self.who(event)}: {what}") if event is not None else (-1, "")

    def call_begins(self, call: ApiCall) -> tuple[int, str]:
        """The step in which an API call began."""
        where = f"({call.page:#x}, {counted(call.pages, 'page')})" if call.page else "()"
        return self.step(call.begin, call.event, f"calls {call.entry}{where}")

    def clear_steps(self, pages: Sequence[PageState]) -> list[tuple[int, str]]:
        """When and by whom pages were unmapped, and that the call had returned: one step per clearing call."""
        first: dict[int, PageState] = {}
        members: dict[int, list[int]] = {}
        for page in pages:
            key = page.call.begin if page.call is not None else -page.page
            first.setdefault(key, page)
            members.setdefault(key, []).append(page.page)
        steps = []
        for key in sorted(first)[:RANGES_SHOWN_MAX]:
            page = first[key]
            steps.append(
                self.step(page.cleared_from, page.clear_event, f"clears the PTEs of {ranges_text(members[key])}")
            )
            if page.call is not None and page.call.end <= self.state_end():
                is_failed = page.call.entry in MAPPING_ENTRIES and not self.state.journal.events[page.call.end][4]
                how = "fails, having unmapped what it had mapped, and returns" if is_failed else "returns"
                steps.append(self.step(page.call.end, page.call.event, f"{page.call.entry} {how}"))
        return steps

    def state_end(self) -> int:
        """The number of the last event of this journal."""
        return len(self.state.journal.events)

    def object_name(self, target: ObjectState | None, object_id: int) -> str:
        """A name for an object that a reader can follow through the story."""
        class_name = target.class_name if target is not None and target.class_name else "object"
        pages = ""
        if target is not None and target.start >= 0:
            pages = f" of pages [{target.start:#x}, {target.start + self.state.block_bits:#x})"
        element = f"[{object_id >> 40}]" if object_id >> 40 else ""
        return f"{class_name} {object_id >> 20 & 0xFFFFF}.{object_id & 0xFFFFF}{element}{pages}"


def ranges_of(pages: Iterable[int]) -> list[PageRange]:
    """Page numbers as ascending maximal ranges."""
    ranges: list[PageRange] = []
    for page in sorted(set(pages)):
        if ranges and ranges[-1].end == page:
            ranges[-1] = PageRange(ranges[-1].start, page + 1)
        else:
            ranges.append(PageRange(page, page + 1))
    return ranges


def ranges_text(pages: Iterable[int]) -> str:
    """Page numbers as a reader sees them: a few ranges, in pages and addresses."""
    ranges = ranges_of(pages)
    shown = " and ".join(str(pages) for pages in ranges[:RANGES_SHOWN_MAX])
    return shown + (f" and {len(ranges) - RANGES_SHOWN_MAX} more ranges" if len(ranges) > RANGES_SHOWN_MAX else "")


def hull_of(pages: Sequence[PageState]) -> PageRange:
    """The smallest range that holds all of `pages`, which is not empty."""
    numbers = [page.page for page in pages]
    return PageRange(min(numbers), max(numbers) + 1)


def cpus_text(mask: int) -> str:
    """The CPUs of a bit mask."""
    cpus = [cpu for cpu in range(mask.bit_length()) if mask >> cpu & 1]
    return ("CPU " if len(cpus) == 1 else "CPUs ") + ", ".join(map(str, cpus))


def unmap_entry(page: PageState) -> str:
    """The entry point whose contract a page's clearing falls under."""
    return page.call.contract() if page.call is not None else ""


def access_text(kind: int) -> str:
    """A kind of access as a verb."""
    if kind in (READ, READ_ONCE):
        return "reads"
    if kind in (WRITE, WRITE_ONCE):
        return "writes"
    return {"lock": "locks", "unlock": "unlocks"}.get(KIND_NAMES.get(kind, ""), "touches")


def without_index(field: str) -> str:
    """The name of an element of an array, whichever it is."""
    return _INDEX.sub("[]", field)


_INDEX: Final = re.compile(r"\[\d+\]")
