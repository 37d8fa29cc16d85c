# SPDX-License-Identifier: GPL-2.0-only
"""Where an event was made: what its `function` says, taken apart.

Of a model that is a function's name. Of a kernel tree it is the innermost function with its line in the user's file,
then, outwards, the calls that the compiler inlined into one another:

    __list_add_rcu include/linux/rculist.h:85 < new_vmap_block mm/vmalloc.c:2059 < vb_alloc mm/vmalloc.c:2167
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Final

from stressvmap.journal.journal import Journal

OUTWARDS: Final = " < "
UNDER_TEST: Final = "mm/"
"""How files begin that a report tells of; headers and lib/ are how those do it."""
STACKS: Final = "stacks"
"""Key of a journal's header: by object (as text), {"alloc": places, "free": places}, innermost first; of the objects
that were touched when they should not have been.
"""
CALLERS: Final = "callers"
"""Key of a journal's header: by function of a tree, the functions that call it."""
ALLOC: Final = "alloc"
FREE: Final = "free"


@dataclass(frozen=True, slots=True)
class Place:
    """A function, and a line in it; of a model no line."""

    function: str
    file: str = ""
    line: int = 0

    @property
    def position(self) -> str:
        """`mm/vmalloc.c:2059`; empty: not known."""
        return f"{self.file}:{self.line}" if self.file else ""

    def __str__(self) -> str:
        return f"{self.function} {self.position}" if self.file else self.function


def written(places: Iterable[Place]) -> str:
    """Places, innermost first, as an event has them."""
    return OUTWARDS.join(map(str, places))


@cache
def places(function: str) -> tuple[Place, ...]:
    """The inverse; empty outside any function."""
    return tuple(_place(part) for part in function.split(OUTWARDS)) if function else ()


def _place(text: str) -> Place:
    name, _, position = text.partition(" ")
    file, _, line = position.rpartition(":")
    return Place(name, file, int(line)) if file and line.isdecimal() else Place(text)


@cache
def under_test(function: str) -> tuple[Place, ...]:
    """Of those, the ones that a report tells of: of a model all, of a tree the functions of mm/."""
    return tuple(place for place in places(function) if not place.file or place.file.startswith(UNDER_TEST))


def place_of(function: str) -> Place | None:
    """The one that a report names: the innermost of those under test, or if there is none, of all. None outside any."""
    return next(iter(under_test(function) or places(function)), None)


def where(function: str) -> str:
    """That for a sentence: `vb_free`, or `vb_free at mm/vmalloc.c:2198`; empty outside any function."""
    place = place_of(function)
    if place is None:
        return ""
    return f"{place.function} at {place.position}" if place.file else place.function


def name_of(function: str) -> str:
    """Its bare name."""
    place = place_of(function)
    return "" if place is None else place.function


def callers(journal: Journal) -> dict[str, tuple[str, ...]] | None:
    """Who calls a function of the tree; None if the journal does not say."""
    told = journal.header.get(CALLERS)
    if not isinstance(told, dict):
        return None
    return {name: tuple(map(str, names)) for name, names in told.items() if isinstance(names, list)}


def stack(journal: Journal, object_id: int, which: str) -> tuple[Place, ...]:
    """Where an object was allocated (ALLOC) or freed (FREE): the place, where its function was called, and so on;
    empty if the journal does not say.
    """
    stacks = journal.header.get(STACKS)
    of_object = stacks.get(str(object_id)) if isinstance(stacks, dict) else None
    told = of_object.get(which) if isinstance(of_object, dict) else None
    return tuple(_place(text) for text in told if isinstance(text, str)) if isinstance(told, list) else ()
