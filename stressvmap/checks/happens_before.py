# SPDX-License-Identifier: GPL-2.0-only
"""Which step of one task must come before which step of another, whatever the schedule: vector clocks over a journal.

After FastTrack (Flanagan, Freund, PLDI 2009). A task's clock counts its releases; a release hands a copy of the clock
over, an acquire takes the maximum. An *epoch* is one entry of a clock as a number, `count << TASK_BITS | task index`.

Edges, release to acquire:

- a lock's unlock, to the next lock of it;
- SLOT_PUT, to the SLOT_TAKE of that slot;
- WORK_QUEUE to WORK_BEGIN, and WORK_END to the next WORK_BEGIN of that work, which never runs twice at a time, and to
  each WORK_FLUSHED (flush_work) after it;
- IPI_SEND to the invalidation by that CPU's interrupt, and from there to the initiator's FLUSH_END;
- the store that puts an object into an xarray (rcu_assign_pointer inside), to each look-up that finds it; stores and
  erases of one xarray among each other (xa_lock);
- the store that puts an object on a list (list_add_tail_rcu: rcu_assign_pointer), to each marked load of a list pointer
  that finds it. A delete publishes nothing: its WRITE_ONCE orders nothing, so it gives no edge;
- a store that is a release (RELEASE: rcu_assign_pointer of a kernel tree), to each marked load that finds what it
  stored: nobody has stored there since;
- atomics: each is taken as fully ordered, as atomic_long_add_return is; atomic_long_sub is weaker;
- KFREE_RCU (RCU_WAIT), and the end of each reader section under way then, to what is done after that grace period;
- boot, to the start of every task; everything, to the task that cleans up at the end, and to each call of a journal
  whose header says that it is sequential; CPU_OFFLINE (stop_machine), from
  everything to everything, and CPU_ONLINE among those.

READ_ONCE and WRITE_ONCE of anything else order nothing. A load that the address of a later access depends on is taken
as an acquire, of what comes after it in the task too: this may hide a race, it invents none.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from stressvmap.checks.base import Handler
from stressvmap.checks.records import ApiCall
from stressvmap.checks.world import ON_STACK, World
from stressvmap.journal import events as ev
from stressvmap.journal.events import Event

Clock = list[int]
"""By task index. Never changed once it was handed over."""

TASK_BITS: Final = 20
TASK_MASK: Final = (1 << TASK_BITS) - 1
THREADS_MAX: Final = 8192
"""Twice what a scenario can have. In a journal from a file, tasks beyond share a thread: they seem ordered."""
CLEANUP: Final = "cleanup"
"""The name of the task that starts when every other is done."""
_HOTPLUG: Final = "hotplug"


DONE: Final = -1
"""Instead of a task: the store that was announced is done."""
BY_TRYLOCK: Final = 2
"""What a LOCK event says of a mutex_trylock."""


class Thread:
    """A task and its clock. Invariant: `epoch` is its own entry of `clock`."""

    __slots__ = (
        "call",
        "clock",
        "epoch",
        "has_slept",
        "id",
        "index",
        "is_reader",
        "locks",
        "preempt_depth",
        "reader_depth",
        "stack",
    )

    def __init__(self, task: int, index: int, clock: Clock) -> None:
        self.id = task
        self.index = index
        self.clock = clock
        self.epoch = clock[index] << TASK_BITS | index
        self.call: ApiCall | None = None
        """The outermost call it is in."""
        self.locks: tuple[str, ...] = ()
        """Classes of the locks it holds, sorted."""
        self.reader_depth = 0
        """Of rcu_read_lock."""
        self.preempt_depth = 0
        """Of get_cpu."""
        self.is_reader = False
        """It is in an RCU reader section: after rcu_read_lock, with preemption off, or with a spinlock held."""
        self.has_slept = False
        """The last thing it did was mutex_lock's might_sleep: the lock it takes next is a mutex."""
        self.stack: list[int] = []
        """Objects on its stack: gone when the outermost call returns."""


class GracePeriod:
    """What waits for the readers that were inside when it was asked for."""

    __slots__ = ("clock", "readers")

    def __init__(self, clock: Clock, readers: set[int]) -> None:
        self.clock = clock
        """What must come before its end, so far."""
        self.readers = readers
        """Indexes of the tasks that it still waits for."""


class HappensBefore:
    """Moves the clocks. State: tasks times (tasks, locks held once by live objects, live published objects)."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.begin()

    def begin(self, *, is_sequential: bool = False) -> None:
        """A new execution starts; `is_sequential`: its calls are made one after the other, from rest to rest."""
        self.threads: dict[int, Thread] = {}
        self._order: list[Thread] = []
        self._locks: dict[int, dict[int | str, tuple[int, Clock]]] = {}
        self._points: dict[tuple[str, int | str], Clock] = {}
        """Hand-overs that belong to no object: slots, works, hotplug, answered flushes."""
        self._works_over: dict[int | str, Clock] = {}
        """By work: the end of its last run."""
        self._indexed: dict[int, Clock] = {}
        self._listed: dict[int, Clock] = {}
        self._times_listed: dict[int, int] = {}
        self._released: dict[tuple[int, int | str], tuple[Clock, int]] = {}
        """By place: what the last store there published, and the index of the task if that store is still to come."""
        self._grace_periods: dict[int, list[GracePeriod]] = {}
        self._readers_gone: Clock = []
        """The ends of all reader sections so far, joined."""
        self._mutexes: set[int | str] = set()
        """Lock classes seen to be taken by mutex_lock or mutex_trylock: their holders are no readers."""
        """By object queued for kfree_rcu, or by the number of a wait, negative."""
        self._interrupts: dict[int, deque[tuple[int, Clock]]] = {}
        """By CPU: (flush number, what the sender did before) of those it has not handled."""
        self.thread(0)
        self._is_sequential = is_sequential

    @property
    def has_releases(self) -> bool:
        """Whether a store may do away with one."""
        return bool(self._released)

    def handlers(self) -> dict[int, Handler]:
        """Of the kinds that order something, but for accesses: those are the caller's, who calls `loaded`, `stored`,
        `before_atomic` and `after_atomic`.
        """
        return {
            ev.LOCK: self.on_lock,
            ev.UNLOCK: self.on_unlock,
            ev.API_BEGIN: self.on_call,
            ev.API_END: self.on_call,
            ev.SLOT_PUT: self.on_slot_put,
            ev.SLOT_TAKE: self.on_slot_take,
            ev.WORK_QUEUE: self.on_work_queue,
            ev.WORK_BEGIN: self.on_work_begin,
            ev.WORK_END: self.on_work_end,
            ev.WORK_FLUSHED: self.on_work_flushed,
            ev.IPI_SEND: self.on_ipi_send,
            ev.TLB_INVALIDATE: self.on_tlb_invalidate,
            ev.FLUSH_END: self.on_flush_end,
            ev.XA_STORE: self.on_xa_store,
            ev.XA_ERASE: self.on_xa_erase,
            ev.XA_LOAD: self.on_xa_load,
            ev.RELEASE: self.on_release,
            ev.LIST_ADD: self.on_list_add,
            ev.LIST_DEL: self.on_list_del,
            ev.PREEMPT: self.on_preempt,
            ev.MIGHT_SLEEP: self.on_might_sleep,
            ev.RCU_READ_LOCK: self.on_rcu_read_lock,
            ev.RCU_READ_UNLOCK: self.on_rcu_read_unlock,
            ev.KFREE_RCU: self.on_kfree_rcu,
            ev.RCU_WAIT: self.on_rcu_wait,
            ev.RCU_WAIT_OVER: self.on_rcu_wait_over,
            ev.OBJECT_ALLOC: self.on_object_alloc,
            ev.OBJECT_FREE: self.on_object_free,
            ev.CPU_OFFLINE: self.on_cpu_offline,
            ev.CPU_ONLINE: self.on_cpu_online,
        }

    # -- clocks -------------------------------------------------------------------------------------------

    def thread(self, task: int) -> Thread:
        """The thread of a task; its first step comes after boot, the cleanup's after everything."""
        known = self.threads.get(task)
        if known is not None:
            return known
        index = len(self._order)
        if index == THREADS_MAX:
            self.threads[task] = self._order[-1]
            return self._order[-1]
        for other in self._order:
            other.clock.append(0)
        clock = self.release(self._order[0])[:] if self._order else [0]
        clock[index] = 1
        thread = self.threads[task] = Thread(task, index, clock)
        named = self.world.tasks.get(task)
        if named is not None and named.name == CLEANUP:
            self._come_after_all(thread)
        self._order.append(thread)
        return thread

    def _come_after_all(self, thread: Thread) -> None:
        """Whatever was done so far comes before what the thread does from here on."""
        for other in self._order:
            if other is not thread:
                self.acquire(thread, self.release(other))

    def release(self, thread: Thread) -> Clock:
        """What the thread did so far, to be handed over; what it does from here on is not part of it."""
        clock = thread.clock
        handed = clock[:]
        index = thread.index
        clock[index] += 1
        thread.epoch = clock[index] << TASK_BITS | index
        return handed

    def acquire(self, thread: Thread, clock: Clock) -> None:
        """What was handed over comes before what the thread does from here on."""
        mine = thread.clock
        for index, count in enumerate(clock):
            if count > mine[index]:
                mine[index] = count

    def _hand_over(self, key: tuple[str, int | str], thread: Thread) -> None:
        """Release to a point that several may release to before it is acquired."""
        before = self._points.get(key)
        self._points[key] = _joined(self.release(thread), before)

    # -- locks and calls ----------------------------------------------------------------------------------

    def on_lock(self, number: int, event: Event) -> None:
        thread = self.threads.get(event[1]) or self.thread(event[1])
        if thread.has_slept or event[6] == BY_TRYLOCK:
            self._mutexes.add(event[5])
            thread.has_slept = False
        thread.locks = self.world.tasks[event[1]].lock_classes()
        self._enter_or_leave(thread)
        classes = self._locks.get(event[4])
        if classes is not None:
            last = classes.get(event[5])
            if last is not None and thread.clock[last[0]] < last[1][last[0]]:
                self.acquire(thread, last[1])

    def on_unlock(self, number: int, event: Event) -> None:
        thread = self.threads.get(event[1]) or self.thread(event[1])
        thread.locks = self.world.tasks[event[1]].lock_classes()
        clock = self.release(thread)
        classes = self._locks.get(event[4])
        if classes is None:
            classes = self._locks[event[4]] = {}
        classes[event[5]] = (thread.index, clock)
        self._enter_or_leave(thread)

    def on_call(self, number: int, event: Event) -> None:
        thread = self.thread(event[1])
        calls = self.world.tasks[event[1]].calls
        thread.call = calls[0] if calls else None
        if self._is_sequential and event[0] == ev.API_BEGIN:
            self._come_after_all(thread)

    def on_slot_put(self, number: int, event: Event) -> None:
        self._hand_over(("slot", event[4]), self.thread(event[1]))

    def on_slot_take(self, number: int, event: Event) -> None:
        self._take(("slot", event[4]), self.thread(event[1]))

    def on_work_queue(self, number: int, event: Event) -> None:
        self._hand_over(("work", event[5]), self.thread(event[1]))

    def on_work_begin(self, number: int, event: Event) -> None:
        self._take(("work", event[5]), self.thread(event[1]))

    def on_work_end(self, number: int, event: Event) -> None:
        thread = self.thread(event[1])
        self._works_over[event[5]] = self.release(thread)
        self._hand_over(("work", event[5]), thread)

    def on_work_flushed(self, number: int, event: Event) -> None:
        clock = self._works_over.get(event[5])
        if clock is not None:
            self.acquire(self.thread(event[1]), clock)

    def _take(self, key: tuple[str, int | str], thread: Thread) -> None:
        clock = self._points.pop(key, None)
        if clock is not None:
            self.acquire(thread, clock)

    # -- flushes and CPUs ---------------------------------------------------------------------------------

    def on_ipi_send(self, number: int, event: Event) -> None:
        waiting = self._interrupts.setdefault(event[6], deque())
        waiting.append((event[4], self.release(self.thread(event[1]))))

    def on_tlb_invalidate(self, number: int, event: Event) -> None:
        """By the initiator itself, on its own CPU, or by an interrupt, which handles its requests in order."""
        waiting = self._interrupts.get(event[2])
        if not waiting or self.world.task(event).flushes:
            return
        thread = self.thread(event[1])
        flush, clock = waiting.popleft()
        self.acquire(thread, clock)
        self._hand_over(("flush", flush), thread)

    def on_flush_end(self, number: int, event: Event) -> None:
        self._take(("flush", event[5]), self.thread(event[1]))

    def on_cpu_offline(self, number: int, event: Event) -> None:
        everything: Clock = []
        self._interrupts.pop(event[4], None)
        self.thread(event[1])
        for thread in self._order:
            everything = _joined(self.release(thread), everything)
        for thread in self._order:
            self.acquire(thread, everything)

    def on_cpu_online(self, number: int, event: Event) -> None:
        thread = self.thread(event[1])
        self._take((_HOTPLUG, 0), thread)
        self._hand_over((_HOTPLUG, 0), thread)

    # -- publication --------------------------------------------------------------------------------------

    def on_xa_store(self, number: int, event: Event) -> None:
        thread = self.thread(event[1])
        self._under_xa_lock(event[4], thread)
        if event[6]:
            self._indexed[event[6]] = self.release(thread)

    def on_xa_erase(self, number: int, event: Event) -> None:
        self._under_xa_lock(event[4], self.thread(event[1]))

    def _under_xa_lock(self, xarray: int, thread: Thread) -> None:
        self._take(("xa_lock", xarray), thread)
        self._hand_over(("xa_lock", xarray), thread)

    def on_xa_load(self, number: int, event: Event) -> None:
        clock = self._indexed.get(event[6])
        if clock is not None:
            self.acquire(self.threads.get(event[1]) or self.thread(event[1]), clock)

    def on_list_add(self, number: int, event: Event) -> None:
        self._times_listed[event[4]] = self._times_listed.get(event[4], 0) + 1

    def on_list_del(self, number: int, event: Event) -> None:
        times = self._times_listed.get(event[4], 0) - 1
        if times > 0:
            self._times_listed[event[4]] = times
        else:
            self._times_listed.pop(event[4], None)

    def on_release(self, number: int, event: Event) -> None:
        thread = self.thread(event[1])
        self._released[(event[4], event[5])] = (self.release(thread), thread.index)

    def overwritten(self, thread: Thread, event: Event) -> None:
        """Any store, while there are releases: the one that was announced, or one that publishes nothing."""
        place = (event[4], event[5])
        told = self._released.get(place)
        if told is None:
            return
        if told[1] == thread.index:
            self._released[place] = (told[0], DONE)
        else:
            del self._released[place]

    def loaded(self, thread: Thread, event: Event) -> None:
        """A marked load: of a list pointer, it may find an object that was published."""
        if self._released:
            told = self._released.get((event[4], event[5]))
            if told is not None and told[1] == DONE:
                self.acquire(thread, told[0])
        clock = self._listed.get(event[6])
        if clock is not None and str(event[5]).endswith(".next"):
            self.acquire(thread, clock)

    def stored(self, thread: Thread, event: Event) -> None:
        """A marked store: of a pointer to an object that is on no list yet, it publishes that."""
        if self._released:
            self.overwritten(thread, event)
        found = event[6]
        if found != event[4] and found not in self._times_listed and str(event[5]).endswith(".next") and found:
            self._listed[found] = self.release(thread)

    def before_atomic(self, thread: Thread, event: Event) -> None:
        """A fully ordered operation comes after the last one of the same variable ..."""
        classes = self._locks.get(event[4])
        last = classes.get(event[5]) if classes is not None else None
        if last is not None and thread.clock[last[0]] < last[1][last[0]]:
            self.acquire(thread, last[1])

    def after_atomic(self, thread: Thread, event: Event) -> None:
        """... and before the next."""
        self._locks.setdefault(event[4], {})[event[5]] = (thread.index, self.release(thread))

    # -- RCU and objects ----------------------------------------------------------------------------------

    def on_rcu_read_lock(self, number: int, event: Event) -> None:
        thread = self.threads.get(event[1]) or self.thread(event[1])
        thread.reader_depth += 1
        self._enter_or_leave(thread)

    def on_rcu_read_unlock(self, number: int, event: Event) -> None:
        thread = self.threads.get(event[1]) or self.thread(event[1])
        thread.reader_depth = max(0, thread.reader_depth - 1)
        self._enter_or_leave(thread)

    def on_preempt(self, number: int, event: Event) -> None:
        thread = self.thread(event[1])
        thread.preempt_depth = max(0, thread.preempt_depth + (1 if event[5] == "get_cpu" else -1))
        self._enter_or_leave(thread)

    def on_might_sleep(self, number: int, event: Event) -> None:
        thread = self.threads.get(event[1]) or self.thread(event[1])
        thread.has_slept = event[5] == "mutex_lock"

    def _enter_or_leave(self, thread: Thread) -> None:
        """What makes a reader has changed. The end of a section comes before the end of each grace period that began
        meanwhile, and of those that begin later.
        """
        is_reader = thread.reader_depth > 0 or thread.preempt_depth > 0
        if not is_reader and thread.locks:
            is_reader = any(lock_class not in self._mutexes for lock_class in thread.locks)
        if is_reader == thread.is_reader:
            return
        thread.is_reader = is_reader
        if is_reader:
            return
        clock = self.release(thread)
        self._readers_gone = _joined(clock, self._readers_gone)
        for periods in self._grace_periods.values():
            for period in periods:
                if thread.index in period.readers:
                    period.readers.discard(thread.index)
                    period.clock = _joined(clock, period.clock)

    def on_kfree_rcu(self, number: int, event: Event) -> None:
        self._wait_for_readers(event[4], self.thread(event[1]))

    def on_rcu_wait(self, number: int, event: Event) -> None:
        self._wait_for_readers(-event[4], self.thread(event[1]))

    def on_rcu_wait_over(self, number: int, event: Event) -> None:
        self._readers_are_out(-event[4], self.thread(event[1]))

    def _wait_for_readers(self, key: int, thread: Thread) -> None:
        readers = {other.index for other in self._order if other.is_reader}
        clock = _joined(self.release(thread), self._readers_gone)
        self._grace_periods.setdefault(key, []).append(GracePeriod(clock, readers))

    def _readers_are_out(self, key: int, thread: Thread) -> None:
        """The thread does what waited for the oldest grace period of `key`."""
        periods = self._grace_periods.get(key)
        if periods:
            self.acquire(thread, periods.pop(0).clock)
            if not periods:
                del self._grace_periods[key]

    def on_object_alloc(self, number: int, event: Event) -> None:
        if event[5] == ON_STACK:
            self.thread(event[1]).stack.append(event[4])

    def on_object_free(self, number: int, event: Event) -> None:
        self._readers_are_out(event[4], self.thread(event[1]))
        self.forget(event[4])

    def forget(self, object_id: int) -> None:
        """An object is dead: nothing is ordered by it any more."""
        self._locks.pop(object_id, None)
        self._indexed.pop(object_id, None)
        self._listed.pop(object_id, None)
        self._times_listed.pop(object_id, None)


def _joined(clock: Clock, other: Clock | None) -> Clock:
    """The maximum of both, the shorter one filled up with 0."""
    if not other:
        return clock
    longer, shorter = (clock, other) if len(clock) >= len(other) else (other, clock)
    joined = longer[:]
    for index, count in enumerate(shorter):
        if count > joined[index]:
            joined[index] = count
    return joined
