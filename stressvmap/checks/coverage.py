# SPDX-License-Identifier: GPL-2.0-only
"""How much was seen: the class of an execution, the function points that met on an object, and what is left unseen.

The class is a 64-bit hash of the happens-before order (order.py), not of the total order: executions that differ only
in the order of independent steps count as one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Final

from stressvmap.checks.order import (
    LOCAL,
    MASK_CHANGES,
    OWING,
    READS,
    SLOTS,
    SPACES,
    TREE_CHANGES,
    WORKS,
    WRITES,
    XA_CHANGES,
)
from stressvmap.checks.world import ALIASES, ON_STACK
from stressvmap.journal import events as ev
from stressvmap.journal.events import Event

REMEMBERED_MIN: Final = 1 << 12
"""Objects that are gone, and invalidations of a CPU, that are remembered one by one at least."""
POINTS_MAX: Final = 1 << 16
"""Function points remembered; beyond that they are worked out anew. A kernel version has some hundreds."""

_LOCAL: Final = 0
_READ: Final = 1
_CHANGE: Final = 2
_LOCK: Final = 4
_UNLOCK: Final = 6
_XARRAY_READ: Final = 7
_XARRAY_CHANGE: Final = 8
_TREE_READ: Final = 9
_TREE_CHANGE: Final = 10
_OTHER: Final = 11
_ALLOC: Final = 12
"""What an event is to the loop below: an even one changes its location. In the order that the loop tests them in."""

_READER_BOUNDS: Final = frozenset({ev.RCU_READ_LOCK, ev.RCU_READ_UNLOCK})
_FREES: Final = frozenset({ev.KFREE_RCU, ev.OBJECT_FREE})
_CALLS: Final = frozenset({ev.API_BEGIN, ev.API_END})
_TRANSLATIONS: Final = frozenset(
    {
        *(ev.PTE_SET, ev.PTE_CLEAR, ev.PTE_BUSY, ev.TLB_FILL, ev.TLB_READ),
        *(ev.TLB_INVALIDATE, ev.FLUSH_BEGIN, ev.FLUSH_END, ev.IPI_SEND),
    }
)
_WORD: Final = (1 << 64) - 1

_ACTIONS: Final = [_OTHER] * 256
"""By kind."""
for _kinds, _action in (
    (LOCAL, _LOCAL),
    (READS, _READ),
    (WRITES, _CHANGE),
    ((ev.LOCK,), _LOCK),
    ((ev.UNLOCK,), _UNLOCK),
    ((ev.XA_LOAD,), _XARRAY_READ),
    (XA_CHANGES, _XARRAY_CHANGE),
    ((ev.TREE_FIND,), _TREE_READ),
    ((ev.OBJECT_ALLOC,), _ALLOC),
    (TREE_CHANGES, _TREE_CHANGE),
):
    for _kind in _kinds:
        _ACTIONS[_kind] = _action

Key = int | str | tuple[int | str, int | str]
"""A location: (object, field or lock class), an xarray, a tree."""
Point = tuple[int, int]
"""A task, and the number of its function point: (kernel function, kind, field or lock class)."""


class Footprint:
    """What one execution was, for counting."""

    __slots__ = ("class_hash", "pairs")

    def __init__(self, class_hash: int, pairs: set[int]) -> None:
        self.class_hash = class_hash
        """In [0, 2**64): the same for executions that differ only in the order of independent steps."""
        self.pairs = pairs
        """A number for each pair (function point, function point) of different tasks that met: the second was the
        next to touch an object after the first.
        """


class Tracer:
    """Takes the footprint of one journal after the other. It keeps nothing of them but names of function points.

    How the hash comes about: an event's hash digests its content, the hash of its task's previous event, and of those
    events that it depends on and knows of. Of each two dependent events, one at least knows whether the other came
    first, so the tasks' last hashes tell the events and the order of every dependent pair, and nothing else. Content
    is what happened to which object, without what a global count numbers: flushes, frames and their owners.

    Python's hash() is used on tuples of integers alone, where it is one fixed function; never on a string.
    """

    def __init__(self) -> None:
        self._points: dict[tuple[int, int, str, int | str], Point] = {}

    def footprint(self, events: Sequence[Event]) -> Footprint:
        """The class of an execution and the pairs that met in it. Linear, but for the pages and spaces that an
        invalidation goes through: those there are, however long the execution. Its memory does not grow with that
        either: of objects long gone it forgets what happened to them.
        """
        execution = _Execution(self._points, self._point)
        chains, changed, last = execution.chains, execution.changed, execution.last
        points, actions, meet = self._points, _ACTIONS, execution.meet
        for event in events:
            kind, task, _, function, a, b, c = event
            action = actions[kind]
            if action == _LOCAL:
                continue
            if action >= _OTHER:
                if action == _OTHER:
                    execution.other(event)
                elif b == ON_STACK:
                    execution.stacks.setdefault(task, []).append(a)
                continue
            if action <= _UNLOCK:
                key: Key = (a, b)
                named = b
                touched: int | str = a
                if action >= _LOCK:
                    c = 0  # whether it waited is no matter
            elif action <= _XARRAY_CHANGE:
                key = touched = a
                named = ""
                c = hash((int(b), c))
            else:
                key = touched = named = b
            point = points.get((kind, task, function, named))
            if point is None:
                point = self._point(kind, task, function, named)
            chain = hash((chains.get(task, task), point[1], a, c, changed.get(key, 0)))
            chains[task] = chain
            if action & 1 == 0:
                changed[key] = chain
            if action != _UNLOCK:
                other = last.get(touched)
                if other is not point:
                    if other is not None and other[0] != task:
                        meet(other, point)
                    last[touched] = point
        return Footprint(_mixed(hash(tuple(sorted(chains.items())))), execution.pairs)

    def _point(self, kind: int, task: int, function: str, named: int | str) -> Point:
        """The function point of an event, known by the same number in every process."""
        if len(self._points) >= POINTS_MAX:
            self._points.clear()
        digest = blake2b(f"{kind} {function} {named}".encode(), digest_size=7).digest()
        point = self._points[kind, task, function, named] = (task, int.from_bytes(digest, "big"))
        return point


class _Execution:
    """Where the fold of one execution stands. Hashes by task, location, page; what is rare is kept as lists."""

    def __init__(
        self,
        points: Mapping[tuple[int, int, str, int | str], Point],
        new_point: Callable[[int, int, str, int | str], Point],
    ) -> None:
        self.points = points
        self.new_point = new_point
        self.chains: dict[int, int] = {}
        """By task: the hash of its last event."""
        self.changed: dict[Key, int] = {}
        """By location: the hash of the last change of it."""
        self.last: dict[int | str, Point] = {}
        """By object: who touched it last, and where."""
        self.pairs: set[int] = set()
        self.readers = 0
        """Sum over the begins and ends of RCU reader sections."""
        self.ends = 0
        """Sum over the returns of calls that cleared PTEs."""
        self.settled = 0
        """Sum over the returns of calls that owe."""
        self.invalidated = 0
        self.invalidations: dict[int, list[tuple[int, int, int]]] = {}
        """By CPU: (first page, last page, hash)."""
        self.merge_at: dict[int, int] = {}
        """By CPU: how many of them are to be merged next."""
        self.invalidated_at: dict[tuple[int, int], tuple[int, int]] = {}
        """By (CPU, page): how many of them were looked through, and the sum of those that cover the page."""
        self.spaces: dict[int, tuple[int, int]] = {}
        """By first page: (last page, hash) of the address space last handed out there. All of them are in one order,
        so the last one tells of those before.
        """
        self.sent: dict[int, int] = {}
        """By CPU: the hash of the last request to it."""
        self.queues: dict[int, list[tuple[int, int]]] = {}
        """By CPU: requests not handled yet: (hash, task that waits)."""
        self.answers: dict[int, int] = {}
        """By task that waits: sum over the answers."""
        self.flushing: set[int] = set()
        self.cleared: set[int] = set()
        """Tasks that cleared a PTE in the call they are in."""
        self.tables: dict[int, int] = {}
        """By page: the hash of the last change of its PTE."""
        self.mapped: dict[int, int | str] = {}
        """By page: the frame."""
        self.stacks: dict[int, list[int]] = {}
        """By task: objects on its stack, which are gone when its outermost call returns."""
        self.depths: dict[int, int] = {}
        """By task: calls under way."""
        self.gone: list[int] = []
        """Objects freed or gone, in that order, that are still remembered."""

    def meet(self, other: Point, point: Point) -> None:
        """Two tasks touched one object, one after the other."""
        self.pairs.add(hash((other[1], point[1])))

    def other(self, event: Event) -> None:
        """Fold an event of the rarer kinds."""
        kind, task, a = event[0], event[1], event[4]
        chain = self.chains.get(task, task)
        if kind in _READER_BOUNDS:
            chain = hash((chain, kind))
            self.readers += chain
        elif kind == ev.FRAME_OWNER:
            chain = self._changes(chain, ("frame", a), kind, event[6] > 0)
        elif kind in _CALLS:
            chain = self._call(chain, event)
        elif kind in _TRANSLATIONS:
            chain = self._translation(chain, event)
        elif kind in SLOTS:
            chain = self._changes(chain, ("slot", a), kind, a)
        elif kind in _FREES:
            chain = self._changes(chain, (a, ""), kind, hash((a, self.readers)))
            if kind == ev.OBJECT_FREE:
                self._forget_later([a])
        elif kind == ev.DEAD_ACCESS:
            point = self._point(event)
            chain = hash((chain, point[1], a, event[6], self.changed.get((a, ""), 0)))
        elif kind in SPACES:
            chain = self._changes(chain, "free", kind, hash((a, event[6])))
            if kind == ev.SPACE_OUT:
                self.spaces[a] = (event[6], chain)
        elif kind in WORKS:
            chain = self._changes(chain, ("work", event[5]), kind, self._point(event)[1])
        elif kind in MASK_CHANGES:
            chain = self._changes(chain, "online", kind, a)
        elif kind == ev.MIGRATED:
            chain = hash((chain, kind, event[6], self.changed.get("online", 0)))
        else:
            chain = hash((chain, self._point(event)[1], a))
        self.chains[task] = chain

    def _point(self, event: Event) -> Point:
        kind, task, _, function, _, b, _ = event
        named = b if isinstance(b, str) else ""
        return self.points.get((kind, task, function, named)) or self.new_point(kind, task, function, named)

    def _changes(self, chain: int, key: Key, kind: int, content: int) -> int:
        """The hash of a change of location `key`."""
        changed = self.changed[key] = hash((chain, kind, content, self.changed.get(key, 0)))
        return changed

    def _call(self, chain: int, event: Event) -> int:
        """A call begins or returns."""
        kind, task, entry = event[0], event[1], event[5]
        is_begin = kind == ev.API_BEGIN
        chain = hash((chain, self._point(event)[1], event[4], event[6]))
        depth = self.depths[task] = self.depths.get(task, 0) + (1 if is_begin else -1)
        if depth <= 0 and task in self.stacks:
            self._forget_later(self.stacks.pop(task))
        if is_begin:
            return hash((chain, self.ends)) if entry == ALIASES else chain
        if entry in OWING:
            chain = hash((chain, self.invalidated))
            self.settled += chain
        if task in self.cleared:
            self.cleared.discard(task)
            self.ends += chain
        return chain

    def _translation(self, chain: int, event: Event) -> int:
        """A PTE, a cached translation, a flush."""
        kind, task, cpu, page = event[0], event[1], event[2], event[4]
        if kind == ev.PTE_SET or kind == ev.PTE_CLEAR:
            chain = self.tables[page] = hash((chain, kind, page, self.tables.get(page, 0)))
            if kind == ev.PTE_SET:
                self.mapped[page] = event[5]
            else:
                self.mapped.pop(page, None)
                self.cleared.add(task)
            self._touch(-page, self._point(event))
        elif kind == ev.PTE_BUSY:
            chain = hash((chain, kind, page, self.tables.get(page, 0)))
        elif kind == ev.TLB_FILL:
            seen = self._invalidations_of(cpu, page)
            chain = self._changes(chain, (cpu, page), kind, hash((seen, self.tables.get(page, 0))))
        elif kind == ev.TLB_READ:
            seen = hash((self.tables.get(page, 0), self.changed.get((cpu, page), 0), self._invalidations_of(cpu, page)))
            chain = hash((chain, kind, cpu, page, event[6], seen))
            if self.mapped.get(page) != event[5]:
                frame = self.changed.get(("frame", event[5]), 0)
                chain = hash((chain, frame, self._handed_out(page, page + 1), self.settled))
        elif kind == ev.TLB_INVALIDATE:
            chain = self._invalidate(chain, event)
        elif kind == ev.FLUSH_BEGIN:
            self.flushing.add(task)
            chain = hash((chain, kind, page, event[6], self.changed.get("online", 0)))
        elif kind == ev.FLUSH_END:
            self.flushing.discard(task)
            chain = hash((chain, kind, self.answers.pop(task, 0)))
        else:
            to = event[6]
            chain = self.sent[to] = hash((chain, kind, to, self.sent.get(to, 0), self.changed.get("online", 0)))
            self.queues.setdefault(to, []).append((chain, task))
        return chain

    def _touch(self, touched: int, point: Point) -> None:
        other = self.last.get(touched)
        if other is not None and other[0] != point[0]:
            self.meet(other, point)
        self.last[touched] = point

    def _invalidations_of(self, cpu: int, page: int) -> int:
        """Sum over the invalidations of `page` on `cpu`. Each is looked through once a page."""
        found = self.invalidations.get(cpu)
        if found is None:
            return 0
        seen, total = self.invalidated_at.get((cpu, page), (0, 0))
        for first, last, one in found[seen:] if seen < len(found) else ():
            if first <= page < last:
                total += one
        self.invalidated_at[cpu, page] = (len(found), total)
        return total

    def _handed_out(self, first: int, last: int) -> int:
        """Sum over the address space handed out in [first, last)."""
        return sum(space for start, (end, space) in self.spaces.items() if start < last and first < end)

    def _invalidate(self, chain: int, event: Event) -> int:
        """A CPU invalidates a range, for its own flush or for one that asked."""
        task, cpu, first, last = event[1], event[2], event[4], event[6]
        tables = self.tables
        if last - first < len(tables):
            cleared = sum(tables.get(page, 0) for page in range(first, last))
        else:
            cleared = sum(table for page, table in tables.items() if first <= page < last)
        out = self._handed_out(first, last)
        asked, initiator = 0, -1
        queue = self.queues.get(cpu)
        if queue and task not in self.flushing:
            asked, initiator = queue.pop(0)
        chain = hash((chain, ev.TLB_INVALIDATE, cpu, first, last, cleared, out, asked))
        if initiator >= 0:
            self.answers[initiator] = self.answers.get(initiator, 0) + chain
        found = self.invalidations.setdefault(cpu, [])
        found.append((first, last, chain))
        if len(found) >= self.merge_at.get(cpu, REMEMBERED_MIN):
            self._merge_invalidations(cpu, found)
        self.invalidated += chain
        return chain

    def _merge_invalidations(self, cpu: int, found: list[tuple[int, int, int]]) -> None:
        """Those of one range are asked for as a sum only."""
        sums: dict[tuple[int, int], int] = {}
        for first, last, one in found:
            sums[first, last] = sums.get((first, last), 0) + one
        found[:] = [(first, last, one) for (first, last), one in sums.items()]
        self.merge_at[cpu] = max(REMEMBERED_MIN, 2 * len(found))
        for key in [key for key in self.invalidated_at if key[0] == cpu]:
            del self.invalidated_at[key]

    def _forget_later(self, objects: Sequence[int]) -> None:
        """Remember what happened to these objects for some time to come: a stale pointer may lead there."""
        gone = self.gone
        gone += objects
        if len(gone) < 2 * REMEMBERED_MIN:
            return
        doomed = set(gone[:REMEMBERED_MIN])
        del gone[:REMEMBERED_MIN]
        for key in [key for key in self.changed if type(key) is tuple and key[0] in doomed]:
            del self.changed[key]
        for touched in [touched for touched in self.last if touched in doomed]:
            del self.last[touched]


def _mixed(number: int) -> int:
    """Every bit of `number` spread over 64 (the finaliser of splitmix64), so that its low bits sample evenly."""
    number &= _WORD
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    number = (number ^ number >> 27) * 0x94D049BB133111EB & _WORD
    return number ^ number >> 31
