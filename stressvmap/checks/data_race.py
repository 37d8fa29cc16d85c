# SPDX-License-Identifier: GPL-2.0-only
"""data-race: two accesses of one place that nothing orders."""

from __future__ import annotations

from typing import Final

from stressvmap.checks.base import Handler, Mechanism
from stressvmap.checks.happens_before import TASK_BITS, TASK_MASK, HappensBefore, Thread
from stressvmap.checks.list_corruption import FREE_LIST
from stressvmap.checks.records import ApiCall
from stressvmap.checks.state import State
from stressvmap.checks.story import StateCheck, without_index
from stressvmap.journal.events import API_END, ATOMIC, OBJECT_FREE, READ, READ_ONCE, WORK_END, WRITE, WRITE_ONCE, Event
from stressvmap.journal.journal import Journal

Access = tuple[int, int, ApiCall | None, tuple[str, ...]]
"""(epoch, event number, outermost call, lock classes held)."""
Accesses = dict[int, Access]
"""By task index: the last of each task that nothing later of the same kind is ordered after."""

OTHER_LOCKS: Final = "under different locks of one class"
WORDS: Final = {
    READ: "plain read",
    READ_ONCE: "marked read",
    WRITE: "plain write",
    WRITE_ONCE: "marked write",
    ATOMIC: "atomic operation",
}
_RANK: Final = {READ: 0, READ_ONCE: 1, WRITE: 2, WRITE_ONCE: 3, ATOMIC: 4}
_LIST_HEADS: Final = frozenset({"free", "free_list"})


class Side:
    """One of the two accesses of a race, as its mechanism has it."""

    __slots__ = ("entry", "locks", "rank", "words")

    def __init__(self, kind: int, entry: str, locks: tuple[str, ...], is_list: bool) -> None:
        self.entry = entry
        self.locks = locks
        self.rank = _RANK[kind]
        self.words = WORDS[kind]
        if is_list:  # an add and a delete read and write several pointers: whichever the other side met is chance
            self.rank = 0 if kind == READ_ONCE else 1
            self.words = "list walk" if kind == READ_ONCE else "list change"

    def key(self) -> tuple[int, str, tuple[str, ...]]:
        """What puts two sides in an order that does not depend on which came first."""
        return self.rank, self.entry, self.locks


class Place:
    """One field of one object. Invariant: an access left out here is ordered before one that is kept and conflicts
    with whatever it conflicts with, or was found to race.
    """

    __slots__ = ("marked_reads", "marked_writes", "plain_reads", "plain_write")

    def __init__(self) -> None:
        self.plain_write: Access | None = None
        self.marked_writes: Accesses = {}
        self.plain_reads: Accesses = {}
        self.marked_reads: Accesses = {}


class DataRace(StateCheck):
    """Two accesses of one field of one object by different tasks, at least one of them a write and at least one plain,
    are ordered by happens-before.

    FastTrack, told apart by marking: of marked accesses alone there is no race, so a place keeps its last plain write
    (an epoch), and the marked writes, plain reads and marked reads that are not ordered among each other. An access of
    a dead object is use-after-free's business.

    State: the places touched in objects alive, each with at most an access a task and kind; and the clocks.
    """

    NAME = "data-race"
    NEEDS = frozenset({READ, WRITE})

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.order = HappensBefore(state)
        self._places: dict[int, dict[int | str, Place]] = {}
        self._told: set[Mechanism] = set()

    def begin(self, journal: Journal) -> None:
        super().begin(journal)
        self.order.begin(is_sequential=bool(journal.header.get("is_sequential")))
        self._threads = self.order.threads
        self._places = {}
        self._told = set()

    def handlers(self) -> dict[int, Handler]:
        table = self.order.handlers()
        table[READ] = self.on_read
        table[READ_ONCE] = self.on_read_once
        table[WRITE] = self.on_write
        table[WRITE_ONCE] = self.on_write_once
        table[ATOMIC] = self.on_atomic
        table[OBJECT_FREE] = self.on_object_free
        table[API_END] = self.on_api_end
        table[WORK_END] = self.on_work_end
        return table

    # -- objects ------------------------------------------------------------------------------------------

    def on_object_free(self, number: int, event: Event) -> None:
        self.order.on_object_free(number, event)
        self._places.pop(event[4], None)

    def on_api_end(self, number: int, event: Event) -> None:
        self.order.on_call(number, event)
        thread = self.order.thread(event[1])
        if thread.call is None:
            self._leave_stack(thread)

    def on_work_end(self, number: int, event: Event) -> None:
        self.order.on_work_end(number, event)
        self._leave_stack(self.order.thread(event[1]))

    def _leave_stack(self, thread: Thread) -> None:
        for object_id in thread.stack:
            self._places.pop(object_id, None)
            self.order.forget(object_id)
        thread.stack.clear()

    def _new_place(self, object_id: int, field: int | str) -> Place | None:
        """A place nobody touched yet; None if its object is dead."""
        fields = self._places.get(object_id)
        if fields is None:
            if object_id in self.state.dead:
                return None
            fields = self._places[object_id] = {}
        place = fields[field] = Place()
        return place

    # -- accesses -----------------------------------------------------------------------------------------

    def on_read(self, number: int, event: Event) -> None:
        thread = self._threads.get(event[1]) or self.order.thread(event[1])
        fields = self._places.get(event[4])
        place = fields.get(event[5]) if fields is not None else None
        if place is None:
            place = self._new_place(event[4], event[5])
            if place is None:
                return
        epoch = thread.epoch
        index = thread.index
        reads = place.plain_reads
        last = reads.get(index)
        if last is not None and last[0] == epoch:
            return
        clock = thread.clock
        write = place.plain_write
        if write is not None and clock[write[0] & TASK_MASK] < write[0] >> TASK_BITS:
            self._race(WRITE, write, READ, number, event, thread)
        if place.marked_writes:
            self._check(place.marked_writes, WRITE_ONCE, READ, number, event, thread)
        if len(reads) > (last is not None):
            _drop_ordered(reads, clock)
        reads[index] = (epoch, number, thread.call, thread.locks)

    def on_read_once(self, number: int, event: Event) -> None:
        thread = self._threads.get(event[1]) or self.order.thread(event[1])
        self.order.loaded(thread, event)
        fields = self._places.get(event[4])
        place = fields.get(event[5]) if fields is not None else None
        if place is None:
            place = self._new_place(event[4], event[5])
            if place is None:
                return
        reads = place.marked_reads
        last = reads.get(thread.index)
        if last is not None and last[0] == thread.epoch:
            return
        write = place.plain_write
        if write is not None and thread.clock[write[0] & TASK_MASK] < write[0] >> TASK_BITS:
            self._race(WRITE, write, READ_ONCE, number, event, thread)
        if reads:
            _drop_ordered(reads, thread.clock)
        reads[thread.index] = (thread.epoch, number, thread.call, thread.locks)

    def on_write(self, number: int, event: Event) -> None:
        thread = self._threads.get(event[1]) or self.order.thread(event[1])
        if self.order.has_releases:
            self.order.overwritten(thread, event)
        fields = self._places.get(event[4])
        place = fields.get(event[5]) if fields is not None else None
        if place is None:
            place = self._new_place(event[4], event[5])
            if place is None:
                return
        write = place.plain_write
        if write is not None:
            if write[0] == thread.epoch:
                return
            if thread.clock[write[0] & TASK_MASK] < write[0] >> TASK_BITS:
                self._race(WRITE, write, WRITE, number, event, thread)
        for accesses, kind in (
            (place.marked_writes, WRITE_ONCE),
            (place.plain_reads, READ),
            (place.marked_reads, READ_ONCE),
        ):
            if accesses:
                self._check(accesses, kind, WRITE, number, event, thread)
                _drop_ordered(accesses, thread.clock)
        place.plain_write = (thread.epoch, number, thread.call, thread.locks)

    def on_write_once(self, number: int, event: Event) -> None:
        thread = self._threads.get(event[1]) or self.order.thread(event[1])
        self._marked_write(WRITE_ONCE, number, event, thread)
        self.order.stored(thread, event)

    def on_atomic(self, number: int, event: Event) -> None:
        thread = self._threads.get(event[1]) or self.order.thread(event[1])
        self.order.before_atomic(thread, event)
        self._marked_write(ATOMIC, number, event, thread)
        self.order.after_atomic(thread, event)

    def _marked_write(self, kind: int, number: int, event: Event, thread: Thread) -> None:
        fields = self._places.get(event[4])
        place = fields.get(event[5]) if fields is not None else None
        if place is None:
            place = self._new_place(event[4], event[5])
            if place is None:
                return
        writes = place.marked_writes
        last = writes.get(thread.index)
        if last is not None and last[0] == thread.epoch:
            return
        write = place.plain_write
        if write is not None and thread.clock[write[0] & TASK_MASK] < write[0] >> TASK_BITS:
            self._race(WRITE, write, kind, number, event, thread)
        if place.plain_reads:
            self._check(place.plain_reads, READ, kind, number, event, thread)
        if place.marked_reads:
            _drop_ordered(place.marked_reads, thread.clock)
        if writes:
            _drop_ordered(writes, thread.clock)
        writes[thread.index] = (thread.epoch, number, thread.call, thread.locks)

    def _check(self, accesses: Accesses, first_kind: int, kind: int, number: int, event: Event, thread: Thread) -> None:
        """Which of `accesses` the thread's, at `event`, is not ordered after."""
        clock = thread.clock
        for access in accesses.values():
            if clock[access[0] & TASK_MASK] < access[0] >> TASK_BITS:
                self._race(first_kind, access, kind, number, event, thread)

    # -- telling ------------------------------------------------------------------------------------------

    def _race(self, first_kind: int, first: Access, kind: int, number: int, event: Event, thread: Thread) -> None:
        """Report it, once an execution for each mechanism."""
        first_event = self.state.journal.events[first[1]]
        field = str(event[5])
        is_list = field.endswith((".next", ".prev"))
        one, other = sorted(
            (
                Side(first_kind, self._entry(first_event, first[2]), first[3], is_list),
                Side(kind, self._entry(event, thread.call), thread.locks, is_list),
            ),
            key=Side.key,
        )
        target = self.state.object(event[4])
        common = tuple(sorted(set(one.locks) & set(other.locks)))
        if common:
            how = f"{one.words} against {other.words}, {OTHER_LOCKS}"
        else:
            how = f"{one.words} {_under(one.locks)} against {other.words} {_under(other.locks)}"
        class_name = target.class_name if target is not None and target.class_name else "object"
        role = _list_role(field) if is_list else f"{class_name}.{without_index(field)}"
        mechanism = Mechanism(self.NAME, (one.entry, other.entry), role, how, common)
        if mechanism in self._told:
            return
        self._told.add(mechanism)
        place = f"{field} of {self.object_name(target, event[4])}"
        names = self.state.task(first_event).name, self.state.task(event).name
        self.report(
            number,
            mechanism,
            f"nothing orders two accesses of {place}, and one of them is plain",
            [
                self.step(first[1], first_event, f"{WORDS[first_kind]} of {field}, {_holding(first[3])}"),
                self.step(number, event, f"{WORDS[kind]} of {field}, {_holding(thread.locks)}"),
            ],
            f"{names[1]} had acquired nothing that {names[0]} released after #{first[1]}. "
            "should have been: both marked (READ_ONCE, WRITE_ONCE), or ordered, by one lock or by publication",
        )

    def _entry(self, event: Event, call: ApiCall | None) -> str:
        """The entry point of a call, or the kind of task outside any: as TaskState.entry tells it."""
        if call is None:
            return self.state.task(event).kind
        return "vfree_reset" if call.is_reset else call.entry


def _drop_ordered(accesses: Accesses, clock: list[int]) -> None:
    """Drop those that come before the step of a task with this clock."""
    for index in [i for i, access in accesses.items() if clock[access[0] & TASK_MASK] >= access[0] >> TASK_BITS]:
        del accesses[index]


def _under(locks: tuple[str, ...]) -> str:
    return "under " + " and ".join(locks) if locks else "under no lock"


def _holding(locks: tuple[str, ...]) -> str:
    return "holding " + (", ".join(locks) or "no lock")


def _list_role(field: str) -> str:
    name = field.rsplit(".", 1)[0]
    return FREE_LIST if name in _LIST_HEADS else f"list {without_index(name)}"
