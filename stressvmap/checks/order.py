# SPDX-License-Identifier: GPL-2.0-only
"""The happens-before order of one execution: which earlier events of other tasks an event depends on.

This is the order of Mazurkiewicz traces: two executions are the same but for the order of independent steps iff they
have the same events by task and the same order of each dependent pair. Dependent are two events of different tasks

- on one field of an object, one of them a write; on one lock; on one xarray, tree, slot or work, one of them a change;
- on one PTE or page frame, one of them a change, and a read through a translation of that page; a cached translation,
  and its being filled in or invalidated;
- KFREE_RCU or the end of an object, and the begin or end of an explicit RCU reader section; and a touch of the dead;
- a TLB invalidation, and the clear or set of a PTE, or the handing out of address space, in its range: which came
  first decides what is owed;
- an interrupt, and the flush that asked for it; two requests to one CPU; the end of a flush, and each answer;
- the return of a call that cleared PTEs, and the begin of a vm_unmap_aliases: that decides what the latter owes; the
  return of a call that owes, and an invalidation; and a read through a stale translation, and all of these;
- a change of the set of online CPUs, and whoever goes by it.

Waiting for a lock is no step, as in the literature: only who gets it when. Not in the order: that a spinlock's holder
is an RCU reader too, and reads that left no event (a fault, a pending work queued again).

It has nothing to do with data races: those go by synchronisation alone. `coverage.py` digests this very order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from stressvmap.checks.world import ALIASES, RESET_FREE
from stressvmap.journal import events as ev
from stressvmap.journal.events import Event

READS: Final = frozenset({ev.READ, ev.READ_ONCE, ev.TRYLOCK_FAILED})
WRITES: Final = frozenset({ev.WRITE, ev.WRITE_ONCE, ev.ATOMIC, ev.LOCK, ev.UNLOCK})
XA_CHANGES: Final = frozenset({ev.XA_STORE, ev.XA_ERASE})
TREE_CHANGES: Final = frozenset({ev.TREE_INSERT, ev.TREE_ERASE})
SPACES: Final = frozenset({ev.SPACE_OUT, ev.SPACE_BACK})
WORKS: Final = frozenset({ev.WORK_QUEUE, ev.WORK_BEGIN, ev.WORK_END, ev.WORK_FLUSHED})
SLOTS: Final = frozenset({ev.SLOT_PUT, ev.SLOT_TAKE})
MASK_CHANGES: Final = frozenset({ev.CPU_OFFLINE, ev.CPU_ONLINE})
OWING: Final = frozenset({ALIASES, RESET_FREE})
"""Calls whose return settles what they owe."""

LOCAL: Final = frozenset(
    {
        *(kind for kind in ev.KIND_NAMES if ev.stream_of(kind) == ev.AUDIT),
        *(ev.LOCK_WAIT, ev.ASSERT_HELD, ev.MIGHT_SLEEP, ev.PREEMPT, ev.FLUSH_ARGS, ev.OBJECT_ALLOC, ev.UNINITIALISED),
        *(ev.LIST_ADD, ev.LIST_DEL, ev.UNMAP_BEGIN, ev.UNMAP_END, ev.STOPPED, ev.BLOCKED),
    }
)
"""Kinds that depend on nothing of another task: comments on what the task did, or snapshots."""

Location = tuple[int | str, int | str]


class _Cell:
    """A location: the last change of it, and the reads since."""

    __slots__ = ("reads", "write")

    def __init__(self) -> None:
        self.write = -1
        self.reads: list[int] = []


class Order:
    """`before[n]`: the numbers, ascending, of the events that event n depends on directly: those of other tasks by
    the rules above, and its task's previous one. Time and space are linear but for invalidations, which look at the
    pages and ranges seen.
    """

    def __init__(self, events: Sequence[Event]) -> None:
        self.before: list[tuple[int, ...]] = []
        self._cells: dict[Location, _Cell] = {}
        self._last: dict[int, int] = {}
        self._readers: list[int] = []
        self._frees: list[int] = []
        self._sends: dict[int, int] = {}
        self._queues: dict[int, list[tuple[int, int]]] = {}
        self._answers: dict[int, list[int]] = {}
        self._flushing: set[int] = set()
        self._invalidations: list[tuple[int, int, int, int]] = []
        """(first page, last page, number, CPU)."""
        self._used: list[tuple[int, int, int]] = []
        """Cached translations filled in or read: (CPU, page, number)."""
        self._spaces: list[tuple[int, int, int]] = []
        self._pages: set[int] = set()
        self._mapped: dict[int, int | str] = {}
        self._cleared: set[int] = set()
        self._ends: list[int] = []
        """Returns of calls that cleared PTEs."""
        self._begins: list[int] = []
        """Begins of vm_unmap_aliases."""
        self._settled: list[int] = []
        """Returns of calls that owed."""
        self._stale: list[tuple[int, int]] = []
        """Reads through stale translations: (number, page)."""
        for number, event in enumerate(events):
            before = self._before(number, event)
            previous = self._last.get(event[1])
            if previous is not None:
                before.append(previous)
            self._last[event[1]] = number
            self.before.append(tuple(sorted({earlier for earlier in before if earlier >= 0})))

    def past_of(self, number: int) -> set[int]:
        """All events that happened before event `number`."""
        past: set[int] = set()
        waiting = [number]
        while waiting:
            for earlier in self.before[waiting.pop()]:
                if earlier not in past:
                    past.add(earlier)
                    waiting.append(earlier)
        return past

    # -- the rules ----------------------------------------------------------------------------------------

    def _before(self, number: int, event: Event) -> list[int]:
        kind, a, b = event[0], event[4], event[5]
        if kind in READS:
            return self._read(number, (a, b))
        if kind in WRITES:
            return self._change(number, (a, b))
        if kind in LOCAL:
            return []
        if kind == ev.XA_LOAD:
            return self._read(number, (a, ""))
        if kind in XA_CHANGES:
            return self._change(number, (a, ""))
        if kind == ev.TREE_FIND:
            return self._read(number, ("tree", b))
        if kind in TREE_CHANGES:
            return self._change(number, ("tree", b))
        if kind in SPACES:
            return self._space(number, event)
        if kind in WORKS:
            return self._change(number, ("work", b))
        if kind in SLOTS:
            return self._change(number, ("slot", a))
        if kind == ev.FRAME_OWNER:
            return self._change(number, ("frame", a))
        if kind == ev.MIGRATED:
            return self._read(number, ("online", ""))
        if kind in MASK_CHANGES:
            return self._change(number, ("online", ""))
        return self._rcu(number, event) or self._translation(number, event) or self._call(number, event)

    def _cell(self, location: Location) -> _Cell:
        cell = self._cells.get(location)
        if cell is None:
            cell = self._cells[location] = _Cell()
        return cell

    def _read(self, number: int, location: Location) -> list[int]:
        cell = self._cell(location)
        cell.reads.append(number)
        return [cell.write]

    def _change(self, number: int, location: Location) -> list[int]:
        cell = self._cell(location)
        before = [cell.write, *cell.reads]
        cell.write = number
        cell.reads = []
        return before

    def _space(self, number: int, event: Event) -> list[int]:
        before = self._change(number, ("tree", "free"))
        if event[0] == ev.SPACE_OUT:
            start, end = event[4], event[6]
            before += [at for first, last, at, _ in self._invalidations if first < end and start < last]
            before += [at for at, page in self._stale if start <= page < end]
            self._spaces.append((start, end, number))
        return before

    def _rcu(self, number: int, event: Event) -> list[int]:
        kind = event[0]
        if kind in (ev.RCU_READ_LOCK, ev.RCU_READ_UNLOCK):
            self._readers.append(number)
            return list(self._frees)
        if kind in (ev.KFREE_RCU, ev.OBJECT_FREE):
            self._frees.append(number)
            return [*self._change(number, (event[4], "")), *self._readers]
        if kind == ev.DEAD_ACCESS:
            return self._read(number, (event[4], ""))
        return []

    def _translation(self, number: int, event: Event) -> list[int]:
        kind, task, page = event[0], event[1], event[4]
        if kind in (ev.PTE_SET, ev.PTE_CLEAR):
            self._pages.add(page)
            if kind == ev.PTE_CLEAR:
                self._cleared.add(task)
                self._mapped.pop(page, None)
            else:
                self._mapped[page] = event[5]
            covering = [at for first, last, at, _ in self._invalidations if first <= page < last]
            return [*self._change(number, ("pte", page)), *covering]
        if kind == ev.PTE_BUSY:
            return self._read(number, ("pte", page))
        if kind == ev.TLB_FILL:
            return [*self._read(number, ("pte", page)), *self._tlb(number, event)]
        if kind == ev.TLB_READ:
            return self._tlb_read(number, event)
        if kind == ev.TLB_INVALIDATE:
            return self._invalidate(number, event)
        if kind == ev.FLUSH_BEGIN:
            self._flushing.add(task)
            return self._read(number, ("online", ""))
        if kind == ev.FLUSH_END:
            self._flushing.discard(task)
            return self._answers.pop(task, [])
        if kind == ev.IPI_SEND:
            to = event[6]
            before = [self._sends.get(to, -1), *self._read(number, ("online", ""))]
            self._sends[to] = number
            self._queues.setdefault(to, []).append((number, task))
            return before
        return []

    def _tlb(self, number: int, event: Event) -> list[int]:
        """A cached translation is filled in, or used."""
        cpu, page = event[2], event[4]
        self._used.append((cpu, page, number))
        access = self._change if event[0] == ev.TLB_FILL else self._read
        covering = [at for first, last, at, on in self._invalidations if on == cpu and first <= page < last]
        return [*access(number, (f"tlb {cpu}", page)), *covering]

    def _tlb_read(self, number: int, event: Event) -> list[int]:
        page, frame = event[4], event[5]
        before = [*self._tlb(number, event), *self._read(number, ("pte", page))]
        if self._mapped.get(page) != frame:
            self._stale.append((number, page))
            before += self._read(number, ("frame", frame))
            before += [at for first, last, at in self._spaces if first <= page < last]
            before += self._settled
        return before

    def _invalidate(self, number: int, event: Event) -> list[int]:
        task, cpu, first, last = event[1], event[2], event[4], event[6]
        before: list[int] = []
        queue = self._queues.get(cpu)
        if queue and task not in self._flushing:
            send, initiator = queue.pop(0)
            before.append(send)
            self._answers.setdefault(initiator, []).append(number)
        before += [self._cell(("pte", page)).write for page in self._pages if first <= page < last]
        before += [at for on, page, at in self._used if on == cpu and first <= page < last]
        before += [at for start, end, at in self._spaces if first < end and start < last]
        before += self._settled
        self._invalidations.append((first, last, number, cpu))
        return before

    def _call(self, number: int, event: Event) -> list[int]:
        kind, task, entry = event[0], event[1], event[5]
        if kind == ev.API_BEGIN and entry == ALIASES:
            self._begins.append(number)
            return list(self._ends)
        if kind != ev.API_END:
            return []
        before: list[int] = []
        if task in self._cleared:
            self._cleared.discard(task)
            self._ends.append(number)
            before += self._begins
        if entry in OWING:
            self._settled.append(number)
            before += [at for _, _, at, _ in self._invalidations]
            before += [at for at, _ in self._stale]
        return before
