# SPDX-License-Identifier: GPL-2.0-only
"""The records that the derived state is made of: tasks, API calls, flushes, pages, objects and address space handed
out.

Plain data. What moves them is state.py's business, what they mean for an invariant is the checks'.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from typing import Final

from stressvmap.journal.events import Event

NEVER: Final = 1 << 62
"""An event number that no journal reaches."""
NOWHERE: Final = -1

Held = tuple[int, int | str, int]
"""A lock that a task holds: (object, class, number of the LOCK)."""


class Visit:
    """What one API call did to one vmap_block. Invariant: a hull is known only if both of its ends were read."""

    __slots__ = (
        "first",
        "free_at",
        "last_lock",
        "locks",
        "looks",
        "max_at",
        "max_is_unlocked",
        "max_value",
        "min_at",
        "min_is_unlocked",
        "min_value",
    )

    def __init__(self, first: int) -> None:
        self.first = first
        """Number of the first lock or read of its dirty range."""
        self.last_lock = NOWHERE
        """Number of the last LOCK of its vb->lock by this call."""
        self.looks = 0
        """Lock holds in which `free` was not read: looks at its dirty space, not decisions whether to purge it."""
        self.free_at = NOWHERE
        """Number of the last read of its `free` by this call."""
        self.min_at = NOWHERE
        self.min_value = 0
        self.max_at = NOWHERE
        self.max_value = 0
        self.min_is_unlocked = False
        """Its last read was made while vmap_purge_lock was not held."""
        self.max_is_unlocked = False
        self.locks: tuple[str, ...] = ()
        """Lock classes held when an end of the hull was last read, sorted."""

    @property
    def is_unlocked(self) -> bool:
        """An end of the hull was read while vmap_purge_lock was not held."""
        return self.min_is_unlocked or self.max_is_unlocked

    def has_hull(self) -> bool:
        """Whether a dirty range with a page in it was read."""
        return self.min_at >= 0 and self.max_at >= 0 and self.min_value < self.max_value


class Flush:
    """One flush_tlb_kernel_range as seen from outside."""

    __slots__ = ("args_end", "args_start", "begin", "end", "end_page", "number", "start_page", "task")

    def __init__(self, task: int, begin: int, start_page: int, end_page: int, number: int) -> None:
        self.task = task
        self.begin = begin
        self.end = NEVER
        """Number of its FLUSH_END."""
        self.start_page = start_page
        self.end_page = end_page
        self.args_start = start_page
        """The range as computed, where the journal says it (a full flush hides it)."""
        self.args_end = end_page
        self.number = number

    def covers(self, page: int) -> bool:
        """Whether `page` lies in what was really flushed."""
        return self.start_page <= page < self.end_page


class ApiCall:
    """One call of an entry point by a task."""

    __slots__ = (
        "begin",
        "double_counted",
        "end",
        "entry",
        "event",
        "flushes",
        "indexes",
        "is_reset",
        "lazy_locked_at",
        "lazy_seen",
        "owed_pages",
        "page",
        "pages",
        "task",
        "visits",
    )

    def __init__(self, entry: str, task: int, begin: int, event: Event) -> None:
        self.entry = entry
        self.task = task
        self.begin = begin
        self.event = event
        self.end = NEVER
        """Number of its API_END."""
        self.page = event[4]
        self.pages = event[6]
        self.visits: dict[int, Visit] = {}
        """By block object; forgotten when the task's next call begins."""
        self.flushes: list[Flush] = []
        self.indexes: set[int] = set()
        """Xarrays it looked into."""
        self.lazy_locked_at = NOWHERE
        """Number of its last LOCK of a lazy tree's lock, or look whether one is empty: in a purge, the detach."""
        self.lazy_seen: dict[int, int] = {}
        """The same by tree, which goes by the object that its lock is in."""
        self.is_reset = False
        """It cleared direct-map pages: it resets permissions (VM_FLUSH_RESET_PERMS), and owes what it clears."""
        self.owed_pages = 0
        """Page debts it is held to (vm_unmap_aliases only)."""
        self.double_counted: set[int] = set()
        """Block objects already counted as counted twice."""

    def sees_lazy(self, holder: int, number: int) -> None:
        """It locks a lazy tree, or looks whether it is empty."""
        self.lazy_locked_at = self.lazy_seen[holder] = number

    def saw_lazy(self, holder: int) -> int:
        """When it last did that to the tree of `holder`; to any, if it is not known which."""
        return self.lazy_locked_at if holder < 0 else self.lazy_seen.get(holder, NOWHERE)

    def contract(self) -> str:
        """The entry point whose contract it falls under: its own, but for a mapping call that fails and unmaps again.

        A vm_map_ram undoes itself by vm_unmap_ram, a vmalloc by vfree.
        """
        if self.is_reset:
            return "vfree_reset"
        return "vm_unmap_ram" if self.entry == "vm_map_ram" else self.entry


class TaskState:
    """What a task holds and is in."""

    __slots__ = (
        "calls",
        "cpu",
        "flush_args",
        "flushes",
        "held",
        "id",
        "last_call",
        "name",
        "on_stack",
        "rcu_depth",
        "unlinked",
        "unmaps",
    )

    def __init__(self, task: int, name: str, cpu: int) -> None:
        self.id = task
        self.name = name
        self.cpu = cpu
        self.calls: list[ApiCall] = []
        """Under way, outermost first."""
        self.last_call: ApiCall | None = None
        """The one that began last (it may have returned)."""
        self.held: list[Held] = []
        """In the order acquired."""
        self.on_stack: list[int] = []
        """Objects on its stack: gone when its outermost call returns."""
        self.rcu_depth = 0
        self.unlinked = NOWHERE
        """First page of the area that it last took out of a busy tree."""
        self.flush_args: tuple[int, int] | None = None
        """Of a FLUSH_ARGS whose FLUSH_BEGIN is still to come."""
        self.flushes: list[Flush] = []
        """Under way, innermost last."""
        self.unmaps: list[tuple[int, int, list[PageState]]] = []
        """Interval journals: UNMAP_BEGIN without its end yet: (start, end, the pages' records)."""

    def holds(self, lock_class: str) -> bool:
        """Whether it holds a lock of this class."""
        return any(held[1] == lock_class for held in self.held)

    def lock_classes(self) -> tuple[str, ...]:
        """Classes of the locks it holds, sorted."""
        held = self.held
        if not held:
            return ()
        if len(held) == 1:
            return (str(held[0][1]),)
        return tuple(sorted({str(lock[1]) for lock in held}))

    def entry(self) -> str:
        """Its outermost entry point, or what kind of task it is if it is in none (a daemon). What undoes a mapping
        that resets permissions is a vfree, whoever called it.
        """
        if not self.calls:
            return self.kind
        return "vfree_reset" if self.calls[0].is_reset else self.calls[0].entry

    @property
    def kind(self) -> str:
        """Its name without its number: "irq", "kworker/u", "rcuog", "worker"."""
        return kind_of_task(self.name)


def kind_of_task(name: str) -> str:
    """A task's name without its number."""
    return name.rstrip("0123456789").rstrip("/: ")


class PageState:
    """One page of the address space.

    Invariants: `frame >= 0` iff a PTE is present; `pending` is not 0 only if a translation of the page was taken away
    and some online CPU has not handled an invalidation of it since.
    """

    __slots__ = (
        "blame",
        "blamed_at",
        "blamed_entry",
        "call",
        "clear_event",
        "cleared_at",
        "cleared_from",
        "frame",
        "handed_out_at",
        "is_undecided",
        "page",
        "pending",
        "pending_at_clear",
        "set_at",
        "set_owner",
    )

    def __init__(self, page: int) -> None:
        self.page = page
        self.frame = NOWHERE
        self.set_at = NOWHERE
        """Number of the last PTE_SET."""
        self.set_owner = 0
        """The frame's owner then."""
        self.cleared_from = NOWHERE
        """The clear lies in [cleared_from, cleared_at], two event numbers; the same where the journal knows the
        instant.
        """
        self.cleared_at = NOWHERE
        self.clear_event: Event | None = None
        self.call: ApiCall | None = None
        """The outermost API call that cleared it, or None."""
        self.pending = 0
        """Bit mask of the CPUs that have not handled an invalidation since the clear."""
        self.pending_at_clear = 0
        self.is_undecided = False
        """Interval journals: a flush that overlaps the clear may or may not have paid."""
        self.handed_out_at = NOWHERE
        """Number of a SPACE_OUT that gave the page away while it was pending."""
        self.blame: Blame | None = None
        """Why a vm_unmap_aliases that owed it returned without paying, if one did since the clear."""
        self.blamed_at = NOWHERE
        self.blamed_entry = ""
        """The entry point of the call that owed it."""


class Blame:
    """Why a debt was not paid: the part of a fingerprint that a page's state decides."""

    __slots__ = ("locks", "mechanism", "role")

    def __init__(self, role: str, mechanism: str, locks: tuple[str, ...] = ()) -> None:
        self.role = role
        self.mechanism = mechanism
        self.locks = locks

    def key(self) -> tuple[str, str, tuple[str, ...]]:
        """What makes two the same."""
        return self.role, self.mechanism, self.locks


class ObjectState:
    """One allocated object. The block_* part has a meaning for a vmap_block only."""

    __slots__ = (
        "alloc_at",
        "alloc_event",
        "class_name",
        "fields",
        "free_at",
        "free_call",
        "free_event",
        "free_zero_at",
        "hull_reset_at",
        "hull_reset_event",
        "hull_writer",
        "id",
        "index",
        "is_killed_by_purge",
        "latched_at",
        "lazy_at",
        "lazy_in",
        "queued_at",
        "queued_event",
        "start",
    )

    def __init__(self, object_id: int, class_name: str, alloc_at: int, alloc_event: Event | None) -> None:
        self.id = object_id
        self.class_name = class_name
        self.alloc_at = alloc_at
        self.alloc_event = alloc_event
        self.free_at = NOWHERE
        self.free_event: Event | None = None
        self.free_call = ""
        """Entry point in which it was freed."""
        self.queued_at = NOWHERE
        """Number of its KFREE_RCU, or of the RCU_WAIT of the call_rcu that frees it."""
        self.queued_event: Event | None = None
        self.fields: dict[int | str, int] = {}
        """Last written values."""
        self.start = NOWHERE
        """First page, once its vmap_area is known."""
        self.free_zero_at = NOWHERE
        """Number of the write that made `free` 0."""
        self.latched_at = NOWHERE
        """Number of the write that made `dirty` the block's size: its death."""
        self.is_killed_by_purge = False
        """The killer also forced `free` to 0 (else it was the last vb_free)."""
        self.lazy_at = NOWHERE
        """Number of the event by which its area was on a lazy tree."""
        self.lazy_in = NOWHERE
        """Which: the object that the tree's lock is in."""
        self.index = NOWHERE
        """The xarray it was last stored in."""
        self.hull_writer = 0
        """The task that last wrote dirty_max."""
        self.hull_reset_at = NOWHERE
        """Number of the last write that made dirty_max 0: somebody has collected the dirty range."""
        self.hull_reset_event: Event | None = None


class Space:
    """Address space handed out and not given back."""

    __slots__ = ("at", "end", "event", "lazy_at", "lazy_in", "start", "what")

    def __init__(self, start: int, end: int, what: str, at: int, event: Event) -> None:
        self.start = start
        self.end = end
        self.what = what
        self.at = at
        self.event = event
        self.lazy_at = NOWHERE
        """Number of the event by which it was on a lazy tree."""
        self.lazy_in = NOWHERE
        """Which: the object that the tree's lock is in."""


class AddressSpace:
    """Which ranges are handed out. Invariant: ranges are disjoint (a later one wins); both look-ups cost O(log n)."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._by_start: dict[int, Space] = {}

    def at(self, page: int) -> Space | None:
        """The range that holds `page`."""
        index = bisect_right(self._starts, page) - 1
        if index < 0:
            return None
        space = self._by_start[self._starts[index]]
        return space if page < space.end else None

    def overlapping(self, start: int, end: int) -> list[Space]:
        """The ranges that share a page with [start, end), ascending."""
        index = bisect_right(self._starts, start) - 1
        if index < 0 or self._by_start[self._starts[index]].end <= start:
            index += 1
        last = bisect_left(self._starts, end)
        return [self._by_start[first] for first in self._starts[index:last]]

    def take(self, space: Space) -> list[Space]:
        """Hand `space` out; returns what it overlaps."""
        clash = self.overlapping(space.start, space.end)
        if clash:
            self.give_back(space.start, space.end)
        if space.start < space.end:
            insort(self._starts, space.start)
            self._by_start[space.start] = space
        return clash

    def give_back(self, start: int, end: int) -> None:
        """[start, end) is free again; a range that reaches beyond keeps the rest."""
        for space in self.overlapping(start, end):
            del self._by_start[space.start]
            self._starts.remove(space.start)
            for first, last in ((space.start, min(start, space.end)), (max(end, space.start), space.end)):
                if first < last:
                    insort(self._starts, first)
                    rest = self._by_start[first] = Space(first, last, space.what, space.at, space.event)
                    rest.lazy_at, rest.lazy_in = space.lazy_at, space.lazy_in
