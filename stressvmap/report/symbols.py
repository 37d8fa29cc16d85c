# SPDX-License-Identifier: GPL-2.0-only
"""Short names for what a story is about: A and B for mapped ranges, vb for a block, vbq1 for CPU 1's queue; and the
legend that says which pages they mean.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from string import ascii_uppercase
from typing import Final

from stressvmap.journal import events as ev
from stressvmap.journal.events import Event
from stressvmap.journal.journal import Journal
from stressvmap.ranges import PageRange

BLOCK: Final = "vmap_block"
AREA: Final = "vmap_area"
QUEUE: Final = "vmap_block_queue"
MAPPING: Final = frozenset({"vm_map_ram", "vmalloc", "vmalloc_reset"})


class Objects:
    """What the journal says of its objects: classes, which area a block has, where an area lies, whose a queue is."""

    def __init__(self, journal: Journal) -> None:
        self.classes: dict[int, str] = {}
        self.area_of: dict[int, int] = {}
        """By block."""
        self.block_of: dict[int, int] = {}
        """By area."""
        self.start_of: dict[int, int] = {}
        """By area: its first page, as first written."""
        self.cpu_of: dict[int, int] = {}
        """By queue."""
        self._made_at: dict[int, int] = {}
        """By block: the number of the event that gave it its area."""
        possible = [int(cpu) for cpu in journal.header.get("possible") or ()]
        for number, event in enumerate(journal.events):
            kind, name = event[0], event[4]
            if kind == ev.OBJECT_ALLOC:
                self.classes[name] = str(event[5])
                if event[5] == QUEUE and len(self.cpu_of) < len(possible):
                    self.cpu_of[name] = possible[len(self.cpu_of)]
            elif kind == ev.WRITE and event[5] == "va":
                self.area_of[name] = event[6]
                self._made_at[name] = number
                self.block_of[event[6]] = name
            elif kind == ev.WRITE and event[5] == "va_start":
                self.start_of.setdefault(name, event[6])

    def start(self, block: int) -> int:
        """The first page of a block, or -1."""
        return self.start_of.get(self.area_of.get(block, -1), -1)

    def blocks_of(self, pages: PageRange, bits: int, before: int) -> list[int]:
        """The blocks whose space shares a page with `pages`, as of event `before`: of each space the last made."""
        last: dict[int, int] = {}
        for block, made_at in self._made_at.items():
            start = self.start(block)
            if made_at < before and 0 <= start < pages.end and pages.start < start + bits:
                last[start] = block
        return list(last.values())


class Symbols:
    """Names, given out as they are asked for; `legend` explains those that were."""

    def __init__(self, objects: Objects, bits: int, blocks: Sequence[int]) -> None:
        self.objects = objects
        self.bits = bits
        self._ranges: dict[tuple[int, int], str] = {}
        self._blocks = {block: f"vb{number}" if len(blocks) > 1 else "vb" for number, block in enumerate(blocks, 1)}
        self._others: dict[int, str] = {}
        self._used: list[int] = []

    @property
    def blocks_named(self) -> Sequence[int]:
        """The blocks that were asked for."""
        return self._used

    def range(self, start: int, pages: int) -> str:
        """The letter of a mapped range."""
        key = (start, start + pages)
        if key not in self._ranges:
            number = len(self._ranges)
            letter = ascii_uppercase[number % 26]
            self._ranges[key] = letter if number < 26 else f"{letter}{number // 26}"
        return self._ranges[key]

    def known_in(self, start: int, end: int) -> list[str]:
        """The letters of the ranges that share a page with [start, end), so far."""
        return [letter for (first, last), letter in self._ranges.items() if first < end and start < last]

    def pages(self, start: int, end: int) -> str:
        """A range of pages: its letter, those it is put together from, or its bounds."""
        if (start, end) in self._ranges:
            return self._ranges[start, end]
        for block in self._blocks:
            if (start, end) == (self.objects.start(block), self.objects.start(block) + self.bits):
                return f"{self.object(block)}'s space"
        parts = sorted(key for key in self._ranges if start <= key[0] and key[1] <= end)
        if parts and parts[0][0] == start and parts[-1][1] == end:
            if all(left[1] == right[0] for left, right in pairwise(parts)):
                return ", ".join(self._ranges[part] for part in parts)
        for (first, last), letter in self._ranges.items():
            if first <= start and end <= last:
                return f"{'a page' if end - start == 1 else 'part'} of {letter}"
        return "everything" if end >= ev.FULL_END else f"[{start:#x}, {end:#x})"

    def object(self, name: int) -> str:
        """An object as C would call it."""
        if name == 0:
            return "NULL"
        objects = self.objects
        if name in self._blocks:
            if name not in self._used:
                self._used.append(name)
            return self._blocks[name]
        if name in objects.cpu_of:
            return f"vbq{objects.cpu_of[name]}"
        block = objects.block_of.get(name)
        if block in self._blocks:
            return f"{self.object(block)}->va"
        class_name = objects.classes.get(name, "object")
        if class_name == "on_stack":
            return "purge_list"
        return self._others.setdefault(name, f"{_SHORT.get(class_name, class_name)}{len(self._others) + 1}")

    def in_text(self, text: str) -> str:
        """A sentence of a check, with the names of this story in place of numbers."""
        text = _OBJECT.sub(lambda found: self._named(found[0], int(found[1]) << 20 | int(found[2])), text)
        return _PAGES.sub(lambda found: self._told(found[0], int(found[1], 16), int(found[2], 16)), text)

    def _named(self, text: str, name: int) -> str:
        return self.object(name) if name in self.objects.classes else text

    def _told(self, text: str, start: int, end: int) -> str:
        name = self.pages(start, end)
        return text if name.startswith("[") else name

    def legend(self, text: str) -> list[str]:
        """What the names that `text` uses mean, one a line."""
        used = set(_NAME.findall(text))
        told = [f"{letter}: {_span(start, end)}" for (start, end), letter in self._ranges.items() if letter in used]
        names = {**{block: self._blocks[block] for block in self._used}, **self._others}
        for block, name in sorted(names.items(), key=lambda item: item[1]):
            start = self.objects.start(block)
            if start >= 0 and name in used:
                told.append(f"{name}: vmap_block of {_span(start, start + self.bits)}")
        return told


_PAGES: Final = re.compile(r"pages \[(0x[0-9a-f]+), (0x[0-9a-f]+)\)(?: = addresses \[0x[0-9a-f]+, 0x[0-9a-f]+\))?")
"""A range as PageRange says it."""
_OBJECT: Final = re.compile(r"\b[a-z_]+ (\d+)\.(\d+)(?: of pages \[0x[0-9a-f]+, 0x[0-9a-f]+\))?")
"""An object as the checks name it."""
_NAME: Final = re.compile(r"\w+")
_SHORT: Final = {BLOCK: "other_vb", AREA: "va", "vm_struct": "vm"}


def _span(start: int, end: int) -> str:
    return f"pages [{start:#x}, {end:#x})"


def lock_name(symbols: Symbols, event: Event) -> str:
    """A lock as C would name it: `vb->lock`, `vmap_purge_lock`."""
    lock_class = str(event[5])
    _, arrow, field = lock_class.partition("->")
    return f"{symbols.object(event[4])}->{field}" if arrow else lock_class
