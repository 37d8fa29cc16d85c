# SPDX-License-Identifier: GPL-2.0-only
"""Which calls each event of a journal was made in: the API call and the kernel functions under it.

A model's journal names the innermost function only. The functions above it follow from who was under way before, and,
where that leaves it open, from who calls whom in mm/vmalloc.c. A kernel tree's own says what was inlined, and its
header who calls whom. Functions of headers and lib/ are no frames of their own, but part of the one that used them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from stressvmap.journal.events import API_BEGIN, API_END, WORK_BEGIN, WORK_END, Event
from stressvmap.journal.place import places, under_test

CALLERS: Final[dict[str, tuple[str, ...]]] = {
    "vb_alloc": ("vm_map_ram",),
    "new_vmap_block": ("vb_alloc",),
    "alloc_vmap_area": ("new_vmap_block", "vm_map_ram", "vmalloc"),
    "preload_this_cpu_lock": ("alloc_vmap_area",),
    "__alloc_vmap_area": ("alloc_vmap_area",),
    "purge_vmap_area_lazy": ("alloc_vmap_area",),
    "reclaim_and_purge_vmap_areas": ("alloc_vmap_area",),
    "purge_fragmented_blocks": ("_vm_unmap_aliases", "purge_vmap_area_lazy", "reclaim_and_purge_vmap_areas"),
    "purge_fragmented_block": ("purge_fragmented_blocks", "_vm_unmap_aliases"),
    "free_purged_blocks": ("purge_fragmented_blocks", "_vm_unmap_aliases"),
    "__purge_vmap_area_lazy": (
        "_vm_unmap_aliases",
        "purge_vmap_area_lazy",
        "reclaim_and_purge_vmap_areas",
        "drain_vmap_area_work",
    ),
    "free_vmap_block": ("vb_free", "free_purged_blocks", "purge_fragmented_blocks"),
    "free_vmap_area": ("new_vmap_block",),
    "free_vmap_area_noflush": ("free_vmap_block", "free_unmap_vmap_area"),
    "free_unmap_vmap_area": ("vm_unmap_ram", "remove_vm_area"),
    "find_unlink_vmap_area": ("vm_unmap_ram", "remove_vm_area"),
    "vb_free": ("vm_unmap_ram",),
    "vm_unmap_ram": ("vm_map_ram",),
    "remove_vm_area": ("vfree",),
    "vm_reset_perms": ("vfree",),
    "_vm_unmap_aliases": ("vm_unmap_aliases", "vm_reset_perms"),
    "vfree": ("vmalloc",),
}
"""Who calls a function, v6.4 to v6.5. One that is not here (a patch's own) was called by who ran before it."""


class Frame:
    """One call under way: of an entry point (`is_call`), of a kernel function, or of a work."""

    __slots__ = ("begin", "depth", "end", "event", "is_call", "name", "parent", "task")

    def __init__(self, name: str, task: int, begin: int, event: Event, parent: Frame | None, is_call: bool) -> None:
        self.name = name
        self.task = task
        self.begin = begin
        """Number of its first event."""
        self.event = event
        """That event; of an entry point its API_BEGIN."""
        self.end = begin
        """Number of its last event so far."""
        self.parent = parent
        self.is_call = is_call
        self.depth: int = 0 if parent is None else parent.depth + 1

    def path(self) -> list[Frame]:
        """From the outermost frame to this one."""
        path = [self]
        while path[-1].parent is not None:
            path.append(path[-1].parent)
        return path[::-1]

    def outermost(self) -> Frame:
        """The first of its path: the API call, in most cases."""
        frame = self
        while frame.parent is not None:
            frame = frame.parent
        return frame


class Frames:
    """`of[n]`: the frame that event n was made in; None outside any call."""

    def __init__(self, events: Sequence[Event], callers: Mapping[str, Collection[str]] | None = None) -> None:
        """`callers`: who calls a function, where the journal says it: a kernel tree's own."""
        self.of: list[Frame | None] = []
        self._callers = CALLERS if callers is None else callers
        self._is_of_tree = any(one.file for function in {event[3] for event in events} for one in places(function))
        self._top: dict[int, Frame | None] = {}
        for number, event in enumerate(events):
            self.of.append(self._enter(number, event))

    def _enter(self, number: int, event: Event) -> Frame | None:
        kind, task, function = event[0], event[1], event[3]
        top = self._top.get(task)
        if kind in (API_BEGIN, WORK_BEGIN):
            top = Frame(str(event[5]), task, number, event, _call_of(top), True)
        elif kind in (API_END, WORK_END):
            top = _call_of(top)
            if top is not None:
                top.end = number
                self._top[task] = top.parent
            return top
        elif not function or not under_test(function):
            top = top if self._is_of_tree else _call_of(top)
        else:
            before = [] if top is None else top.path()
            *inlined, outermost = under_test(function)
            top = _entered(top, number, event, outermost.function, self._callers)
            for place in reversed(inlined):
                top = _inlined(top, before, number, event, place.function)
        self._top[task] = top
        frame = top
        while frame is not None:
            frame.end = number
            frame = frame.parent
        return top


def _call_of(frame: Frame | None) -> Frame | None:
    while frame is not None and not frame.is_call:
        frame = frame.parent
    return frame


def _entered(
    top: Frame | None, number: int, event: Event, function: str, known_callers: Mapping[str, Collection[str]]
) -> Frame:
    """The frame of an event in a function, given the frame of the task's previous event."""
    under_way: list[Frame] = []
    frame = top
    while frame is not None:
        if frame.name == function or (frame.is_call and is_entry_itself(function, frame.name)):
            return frame
        under_way.append(frame)
        if frame.is_call:
            break
        frame = frame.parent
    callers = known_callers.get(function)
    parent = top
    if callers is not None:
        known = [
            frame
            for frame in under_way
            if frame.name in callers or any(is_entry_itself(caller, frame.name) for caller in callers)
        ]
        parent = known[0] if known else (under_way[-1] if under_way else None)
    return Frame(function, event[1], number, event, parent, False)


def _inlined(caller: Frame, before: Sequence[Frame], number: int, event: Event, function: str) -> Frame:
    """The frame of what was inlined into `caller`: the same as `before`, or a new one. `__f` in `f` is the same."""
    if is_entry_itself(function, caller.name):
        return caller
    known = next((frame for frame in before if frame.parent is caller and frame.name == function), None)
    return known or Frame(function, event[1], number, event, caller, False)


def is_entry_itself(function: str, entry: str) -> bool:
    """Whether a kernel function is the entry point's own: `_vm_unmap_aliases` in vm_unmap_aliases()."""
    return function.lstrip("_") == entry.removesuffix("_reset").lstrip("_")
