# SPDX-License-Identifier: GPL-2.0-only
"""accounting: the blocks' own books, against themselves and against the page table."""

from __future__ import annotations

from typing import Final

from stressvmap.checks.audit import REST, Snapshot
from stressvmap.checks.base import Handler, Mechanism
from stressvmap.checks.story import StateCheck, ranges_text
from stressvmap.checks.world import BLOCK_LOCK, LAZY_TREE, MAPPING_ENTRIES, POOL, POOL_HEAD, POOL_LEN
from stressvmap.journal.events import API_END, AUDIT_END, UNLOCK, WRITE, WRITE_ONCE, Event
from stressvmap.quantity import counted
from stressvmap.ranges import PageRange

NOT_MAPPED: Final = "returned a range that is not wholly mapped"
FREE_GROWS: Final = "free increased"
FREE_NEGATIVE: Final = "free below 0"
DIRTY_SHRINKS: Final = "dirty decreased"
DIRTY_TOO_LARGE: Final = "dirty above the block's size"
SUM_WRONG: Final = "live + free + dirty is not the block's size"
SUM_UNLOCKED: Final = "used + free + dirty is not the block's size when its lock is released"
FREE_DEAD: Final = "dead with free space when its lock is released"
USED_WRONG: Final = "used_map differs from the live slots"
MAPPED_DEAD: Final = "more pages mapped than its live slots have"
LISTED_FULL: Final = "on the free list without free space"
UNLISTED_FREE: Final = "off the free list with free space"
HULL_MISSES: Final = "unflushed page outside the dirty range"
POOL_WRONG: Final = "len differs from the areas in the pool"
LAZY_WRONG: Final = "vmap_lazy_nr differs from the lazy pages"


class Accounting(StateCheck):
    """A block's books agree with what happened to it.

    At every write: `free` only decreases and never below 0 (I1: space is a bump pointer); `dirty` only increases, up
    to the block's size. Whenever its lock is released, a block that is not dead (dirty below its size) has used_map +
    free + dirty = its size (I2), but for slots of calls under way: an unmapping one takes them out of used_map before
    it counts them dirty, and a mapping one that fails unmaps too; and a dead one has free = 0 (I3), for whoever still
    stands on it would hand that space out. At an audit, for a block that is not dead: live +
    free + dirty is its size (I2 again, by what callers have); it was put on a free list, by its own list operations,
    iff free > 0 (I4; what a walk really reaches is list-corruption's business); used_map has as many bits as live
    slots, where given; and each page that some CPU may still translate lies in [dirty_min, dirty_max) (I5, in the form
    that holds whether or not the range is reset when collected). At rest: vmap_lazy_nr is the number of pages on the
    lazy trees, and the len of a pool of areas how many it holds.

    The rest of I3 (the death latch) binds who may touch a dead block: use-after-free. State: none of its own.
    """

    NAME = "accounting"
    NEEDS = frozenset({AUDIT_END, WRITE})

    def handlers(self) -> dict[int, Handler]:
        return {
            WRITE: self.on_write,
            WRITE_ONCE: self.on_write,
            UNLOCK: self.on_unlock,
            AUDIT_END: self.on_audit_end,
            API_END: self.on_api_end,
        }

    def on_write(self, number: int, event: Event) -> None:
        field = event[5]
        if field != "free" and field != "dirty":
            return
        target = self.state.objects.get(event[4])
        if target is None or target.class_name != "vmap_block":
            return
        before = self.state.value_before
        after = event[6]
        wrong = ""
        if field == "free":
            if after < 0:
                wrong = FREE_NEGATIVE
            elif before is not None and after > before:
                wrong = FREE_GROWS
        elif self.state.block_bits and after > self.state.block_bits:
            wrong = DIRTY_TOO_LARGE
        elif before is not None and after < before:
            wrong = DIRTY_SHRINKS
        if not wrong:
            return
        task = self.state.task(event)
        name = self.object_name(target, event[4])
        self.report(
            number,
            Mechanism(self.NAME, (task.entry(),), "vmap_block", wrong, task.lock_classes()),
            f"{name}: {wrong}",
            [self.step(number, event, f"writes {field} = {after}, which was {'unset' if before is None else before}")],
            f"should have been: free only decreases to 0, dirty only increases to {self.state.block_bits}",
        )

    def on_unlock(self, number: int, event: Event) -> None:
        if event[5] != BLOCK_LOCK:
            return
        target = self.state.objects.get(event[4])
        bits = self.state.block_bits
        if target is None or not bits:
            return
        fields = target.fields
        used, free, dirty = fields.get("used_map"), fields.get("free"), fields.get("dirty")
        if used is None or free is None or dirty is None:
            return
        if dirty == bits:
            wrong = FREE_DEAD if free else ""
        else:
            missing = bits - used.bit_count() - free - dirty
            wrong = SUM_UNLOCKED if abs(missing) > self._slots_under_way(target.start, bits) else ""
        if not wrong:
            return
        task = self.state.task(event)
        name = self.object_name(target, event[4])
        books = f"used_map has {used.bit_count()} bits set, free is {free}, dirty is {dirty}"
        self.report(
            number,
            Mechanism(self.NAME, (task.entry(),), "vmap_block", wrong, task.lock_classes()),
            f"{name}: {wrong}",
            [self.step(number, event, f"releases {BLOCK_LOCK}: {books}")],
            f"should have been: {bits} together, or dirty {bits} and nothing free (dead)",
        )

    def _slots_under_way(self, start: int, bits: int) -> int:
        """How many slots of the block at `start` the calls under way may have entered in one of the books only."""
        slots = 0
        for task in self.state.tasks.values():
            for call in task.calls:
                if call.entry == "vm_map_ram" or (
                    call.entry == "vm_unmap_ram" and (start < 0 or start <= call.page < start + bits)
                ):
                    slots += 1 << max(0, call.pages - 1).bit_length()
        return slots

    def on_api_end(self, number: int, event: Event) -> None:
        """What a mapping call returns is mapped, every page of it."""
        call = self.state.ended_call
        if not event[4] or call is None or call.entry not in MAPPING_ENTRIES:
            return
        pages = range(event[4], event[4] + (event[6] or call.pages))
        missing = [page for page in pages if page not in self.state.pages or self.state.pages[page].frame < 0]
        if missing:
            self.report(
                number,
                Mechanism(self.NAME, (call.entry,), "mapping", NOT_MAPPED),
                f"{call.entry} returned {ranges_text(pages)}, and {ranges_text(missing)} is not mapped",
                [self.call_begins(call), self.step(number, event, "returns it")],
                "should have been: a PTE for each page, or a failure",
            )

    # -- audits -------------------------------------------------------------------------------------------

    def on_audit_end(self, number: int, event: Event) -> None:
        snapshot = self.state.snapshot
        bits = snapshot.values.get("block_bits", self.state.block_bits)
        for block, fields in snapshot.fields.items():
            if fields.get("dirty", bits) != bits:
                self._audit_block(number, event, block, fields, bits)
        if snapshot.kind == REST:
            self._audit_lazy(number, event, snapshot)
            self._audit_pools(number, event, snapshot)

    def _audit_block(self, number: int, event: Event, block: int, fields: dict[str, int], bits: int) -> None:
        free = fields.get("free", 0)
        dirty = fields["dirty"]
        used = fields.get("used")
        live = self._live(fields.get("va_start"), bits, used)
        if live is not None and live + free + dirty != bits:
            self._wrong(number, event, block, SUM_WRONG, f"live {live} + free {free} + dirty {dirty} != {bits}")
        if used is not None and live is not None and used != live:
            self._wrong(
                number,
                event,
                block,
                USED_WRONG,
                f"used_map has {counted(used, 'bit')} set, live slots have {counted(live, 'page')}",
            )
        mapped = fields.get("mapped")
        if mapped is not None and live is not None and mapped > live:
            self._wrong(number, event, block, MAPPED_DEAD, f"{counted(mapped, 'page')} mapped, live slots have {live}")
        is_listed = (block, "free_list") in self.state.listed_on
        if is_listed != (free > 0):
            mechanism = LISTED_FULL if is_listed else UNLISTED_FREE
            self._wrong(
                number,
                event,
                block,
                mechanism,
                f"free is {free}, and it {'is' if is_listed else 'is not'} on a free list",
            )
        start = fields.get("va_start")
        if start is not None and "dirty_min" in fields:
            self._audit_hull(number, event, block, fields, PageRange(start, start + bits))

    def _live(self, start: int | None, bits: int, used: int | None) -> int | None:
        """Pages of the block's mappings as their owners know them, each rounded up to its order; `used` if the journal
        does not say where the block lies.
        """
        if start is None:
            return used
        mappings = self.state.mappings
        return sum(1 << (mappings[page] - 1).bit_length() for page in range(start, start + bits) if page in mappings)

    def _audit_hull(self, number: int, event: Event, block: int, fields: dict[str, int], space: PageRange) -> None:
        low = space.start + fields["dirty_min"]
        high = space.start + fields.get("dirty_max", 0)
        missed = [page for page in self.state.pending_in(space.start, space.end) if not low <= page.page < high]
        if not missed:
            return
        books = f"dirty range [{low:#x}, {high:#x}) leaves out {ranges_text(page.page for page in missed)}"
        self._wrong(number, event, block, HULL_MISSES, books, self.clear_steps(missed))

    def _audit_lazy(self, number: int, event: Event, snapshot: Snapshot) -> None:
        booked = snapshot.values.get("vmap_lazy_nr")
        lazy = sum(end - start for start, end, tree in snapshot.areas if tree == LAZY_TREE)
        if booked is not None and booked != lazy:
            self.report(
                number,
                Mechanism(self.NAME, (), "vmap_lazy_nr", LAZY_WRONG),
                f"vmap_lazy_nr is {booked}, but the lazy trees have {counted(lazy, 'page')}",
                [self.step(number, event, "everything is drained")],
                f"should have been: {lazy}",
            )

    def _audit_pools(self, number: int, event: Event, snapshot: Snapshot) -> None:
        for node, fields in snapshot.fields.items():
            for name, said in fields.items():
                if not name.endswith(POOL_LEN):
                    continue
                pool = name.removesuffix(POOL_LEN)
                there = snapshot.pooled.get((node, pool + POOL_HEAD), 0)
                if said != there:
                    self.report(
                        number,
                        Mechanism(self.NAME, (), POOL, POOL_WRONG),
                        f"{pool}{POOL_LEN} of {self.object_name(self.state.object(node), node)} is {said}, "
                        f"but {there} areas are in it",
                        [self.step(number, event, "everything is drained")],
                        f"should have been: {there}",
                    )

    def _wrong(
        self,
        number: int,
        event: Event,
        block: int,
        mechanism: str,
        what: str,
        steps: list[tuple[int, str]] | None = None,
    ) -> None:
        name = self.object_name(self.state.object(block), block)
        self.report(
            number,
            Mechanism(self.NAME, (), "vmap_block", mechanism),
            f"{name}: {mechanism}",
            [*(steps or []), self.step(number, event, what)],
            "should have been: books that agree with what happened to the block",
        )
