# SPDX-License-Identifier: GPL-2.0-only
"""leak: what is missing when everything is drained."""

from __future__ import annotations

from typing import Final

from stressvmap.checks.audit import REST, Snapshot
from stressvmap.checks.base import Handler, Mechanism
from stressvmap.checks.story import StateCheck, ranges_text
from stressvmap.checks.world import BUSY_TREE
from stressvmap.journal.events import AUDIT_END, PTE_SET, Event
from stressvmap.ranges import PageRange

SPACE_LOST: Final = "in no tree"
SPACE_TWICE: Final = "in two areas"
SPACE_HELD: Final = "busy, and no block or caller has it"
FRAMES_LOST: Final = "page frames that nobody gave back"
HOLES_LEFT: Final = "pages still missing from the direct map"
OBJECT_LOST: Final = "allocated, and nothing leads to it"
PTE_LEFT: Final = "PTE present, and no caller has it mapped"


class Leak(StateCheck):
    """At rest all address space of the window is in exactly one area, something leads to each object, and each PTE has
    an owner.

    At rest means: no call under way, everything drained, no callback pending. An area is in a tree or
    in a pool. A busy one belongs to an indexed block or to a caller. A vmap_block is accounted for if it is indexed or
    listed; of vmap_areas there are no more than there are areas; a vm_struct is reported by the audit only if no area
    leads to it; a page of the window is mapped only if a mapping call returned it and no unmapping call took it.

    State: none of its own.
    """

    NAME = "leak"
    NEEDS = frozenset({AUDIT_END, PTE_SET})

    def handlers(self) -> dict[int, Handler]:
        return {AUDIT_END: self.on_audit_end}

    def on_audit_end(self, number: int, event: Event) -> None:
        snapshot = self.state.snapshot
        if snapshot.kind != REST:
            return
        if snapshot.areas:
            self._audit_space(number, event, snapshot)
        self._audit_objects(number, event, snapshot)
        for value, what in (("frames_owned", FRAMES_LOST), ("direct_map_holes", HOLES_LEFT)):
            count = snapshot.values.get(value, 0)
            if count:
                self._report(number, event, "page frames", what, f"{count} {what}", None, [])
        self._audit_ptes(number, event)

    def _window(self, snapshot: Snapshot) -> PageRange:
        values = snapshot.values
        window = self.state.window
        return PageRange(values.get("window_start", window.start), values.get("window_end", window.end))

    def _audit_space(self, number: int, event: Event, snapshot: Snapshot) -> None:
        window = self._window(snapshot)
        reached = window.start
        previous = ""
        for start, end, tree in sorted(snapshot.areas):
            if start > reached and start <= window.end:
                self._lost(number, event, PageRange(reached, start))
            elif start < reached and previous:
                shared = PageRange(start, min(reached, end))
                role = " and ".join(sorted((previous, tree)))
                self._report(
                    number, event, role, SPACE_TWICE, f"{shared} lies in two areas ({previous} and {tree})", shared
                )
            if end > reached:
                reached, previous = end, tree
        if reached < window.end:
            self._lost(number, event, PageRange(reached, window.end))
        owned = {*snapshot.indexed.values(), *self.state.mappings}
        for start, end, tree in snapshot.areas:
            if tree == BUSY_TREE and start not in owned:
                held = PageRange(start, end)
                steps = self._handed_out(start)
                self._report(number, event, "address space", SPACE_HELD, f"{held} is busy for nobody", held, steps)

    def _lost(self, number: int, event: Event, lost: PageRange) -> None:
        space = self.state.spaces.at(lost.start)
        role = "address space" if space is None else f"address space of a {space.what}"
        steps = self._handed_out(lost.start)
        self._report(
            number, event, role, SPACE_LOST, f"{lost} is neither busy nor lazy nor free, nor in a pool", lost, steps
        )

    def _handed_out(self, page: int) -> list[tuple[int, str]]:
        space = self.state.spaces.at(page)
        if space is None:
            return []
        return [self.step(space.at, space.event, f"is handed [{space.start:#x}, {space.end:#x}) as {space.what}")]

    def _audit_objects(self, number: int, event: Event, snapshot: Snapshot) -> None:
        areas: list[int] = []
        for object_id, class_name in snapshot.objects.items():
            if class_name == "vmap_area":
                areas.append(object_id)
                continue
            is_led_to = object_id in snapshot.indexed or object_id in snapshot.listed
            if class_name == "vm_struct" or (class_name == "vmap_block" and not is_led_to):
                self._object_lost(number, event, object_id, class_name)
        bits = snapshot.values.get("block_bits", self.state.block_bits)
        for block, books in snapshot.fields.items():
            if books.get("dirty") == bits:
                self._object_lost(number, event, block, "dead vmap_block")
        if len(areas) > len(snapshot.areas):
            known = {(start, end) for start, end, _ in snapshot.areas}
            for area in areas:
                target = self.state.object(area)
                fields = target.fields if target is not None else {}
                if (fields.get("va_start", -1), fields.get("va_end", -1)) not in known:
                    self._object_lost(number, event, area, "vmap_area")

    def _object_lost(self, number: int, event: Event, object_id: int, class_name: str) -> None:
        target = self.state.object(object_id)
        steps = []
        name = self.object_name(target, object_id)
        if target is not None:
            steps.append(self.step(target.alloc_at, target.alloc_event, f"allocates {name}"))
        self._report(
            number,
            event,
            class_name,
            OBJECT_LOST,
            f"{name} is dead, and was never freed"
            if class_name.startswith("dead")
            else f"{name} is allocated, and no list, index or tree leads to it",
            None,
            steps,
        )

    def _audit_ptes(self, number: int, event: Event) -> None:
        state = self.state
        window = state.window
        owned: set[int] = set()
        for start, pages in state.mappings.items():
            owned.update(range(start, start + pages))
        left = [
            page.page
            for page in state.pages.values()
            if page.frame >= 0 and page.page not in owned and window.start <= page.page < window.end
        ]
        if left:
            first = state.pages[min(left)]
            steps = [self.step(first.set_at, state.journal.events[first.set_at], f"maps page {first.page:#x}")]
            where = PageRange(min(left), max(left) + 1)
            self._report(
                number, event, "mapping", PTE_LEFT, f"{ranges_text(left)} is mapped, and no caller has it", where, steps
            )

    def _report(
        self,
        number: int,
        event: Event,
        role: str,
        mechanism: str,
        headline: str,
        pages: PageRange | None,
        steps: list[tuple[int, str]] | None = None,
    ) -> None:
        self.report(
            number,
            Mechanism(self.NAME, (), role, mechanism),
            headline,
            [*(steps or []), self.step(number, event, "everything is drained")],
            "should have been: every page in one area, every object reachable, no PTE without an owner",
            pages,
        )
