# SPDX-License-Identifier: GPL-2.0-only
"""What a step of a story says: one event as a line that reads like the C it came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from stressvmap.journal import events as ev
from stressvmap.journal.events import Event
from stressvmap.report.symbols import AREA, MAPPING, Symbols, lock_name

COUNTS: Final = frozenset({"free", "dirty"})
"""Fields of a block that count pages: their decisive value is VMAP_BBMAP_BITS."""


class Wording:
    """Says events of one journal in the names of one story."""

    def __init__(self, events: Sequence[Event], symbols: Symbols) -> None:
        self.events = events
        self.symbols = symbols
        self._mutexes: dict[tuple[int, int | str], bool] = {}
        """By (object, lock class)."""

    def call(self, event: Event) -> str:
        """An API call as its caller writes it; a mapping's range is what it returned (`result`)."""
        entry, page, pages = str(event[5]).removesuffix("_reset"), event[4], event[6]
        return f"{entry}({self.symbols.range(page, pages) if page else ''})"

    def mapping(self, begin: Event, end: Event | None) -> str:
        """A mapping call, named by what it came to map."""
        if end is None or not end[4]:
            return self.call(begin)
        return self.call((*begin[:4], end[4], begin[5], end[6] or begin[6]))

    def step(self, number: int) -> str:
        """An event as a line; empty if it is none that a story tells."""
        event = self.events[number]
        kind = event[0]
        if kind in _ACCESSES:
            return self._access(event)
        if kind in _LOCKS:
            return self._lock(number, event)
        if kind in _LISTS:
            return self._list(event)
        if kind in _TREES or kind in _XARRAYS:
            return self._index(event)
        if kind in _MEMORY:
            return self._memory(event)
        return self._rest(event)

    def value(self, event: Event) -> str:
        """The value that an access read or wrote."""
        field, value = str(event[5]), event[6]
        if field in COUNTS and value == self.symbols.bits:
            return "VMAP_BBMAP_BITS"
        if field.endswith((".next", ".prev")) or field in ("va", "vm"):
            return self.symbols.object(value)
        if field == "used_map" or field in ("va_start", "va_end"):
            return f"{value:#x}"
        return str(value)

    def field(self, event: Event) -> str:
        """`vb->dirty`."""
        if self.symbols.objects.classes.get(event[4]) == "atomic_long":
            return str(event[5])
        return f"{self.symbols.object(event[4])}->{event[5]}"

    def _access(self, event: Event) -> str:
        if event[0] == ev.DEAD_ACCESS:
            verb = "reads" if event[6] in (ev.READ, ev.READ_ONCE) else "touches"
            return f"{verb} {self.field(event)}   /* use after free */"
        if event[0] in (ev.READ, ev.READ_ONCE):
            verb = "" if str(event[5]).endswith((".next", ".prev")) else "reads "
            return f"{verb}{self.field(event)} == {self.value(event)}"
        return f"{self.field(event)} = {self.value(event)}"

    def _lock(self, number: int, event: Event) -> str:
        kind = event[0]
        if kind == ev.BLOCKED and "lock" not in str(event[5]):
            return f"waits for {event[5]}"
        name = lock_name(self.symbols, event)
        family = "mutex" if self._is_mutex(event) else "spin"
        if kind == ev.UNLOCK:
            return f"{family}_unlock(&{name})"
        if kind == ev.TRYLOCK_FAILED:
            return f"mutex_trylock(&{name}) fails"
        if kind == ev.ASSERT_HELD:
            return f"lockdep_assert_held(&{name})"
        waits = kind in (ev.BLOCKED, ev.LOCK_WAIT)
        return f"{family}_lock(&{name})" + (" waits" if waits else "")

    def _is_mutex(self, event: Event) -> bool:
        """Mutexes are told by what taking one says first: that it may sleep."""
        key = (event[4], event[5])
        if key not in self._mutexes:
            self._mutexes[key] = self._says_it_may_sleep(key)
        return self._mutexes[key]

    def _says_it_may_sleep(self, lock: tuple[int, int | str]) -> bool:
        last: dict[int, Event] = {}
        for event in self.events:
            if event[0] in (ev.LOCK, ev.LOCK_WAIT) and event[4:6] == lock:
                before = last.get(event[1])
                return before is not None and before[0] == ev.MIGHT_SLEEP and before[5] == "mutex_lock"
            last[event[1]] = event
        return False

    def _list(self, event: Event) -> str:
        kind, node = event[0], f"{self.symbols.object(event[4])}->{event[5]}"
        if kind == ev.LIST_ADD:
            return f"list_add_tail(&{node}) done"
        if kind == ev.LIST_DEL:
            return f"list_del(&{node}) done"
        return f"{node}: {self.symbols.object(event[6])} does not point back"

    def _index(self, event: Event) -> str:
        kind, symbols = event[0], self.symbols
        if kind == ev.XA_LOAD:
            return f"xa_load: {symbols.object(event[6])}"
        if kind in (ev.XA_STORE, ev.XA_ERASE):
            return f"{'xa_insert' if kind == ev.XA_STORE else 'xa_erase'}({symbols.object(event[6])})"
        area, tree = symbols.object(event[4]), str(event[5])
        if kind == ev.TREE_INSERT:
            return f"{area} goes on the {tree} list" if tree == "lazy" else f"{area} into the {tree} tree"
        if kind == ev.TREE_ERASE:
            return f"takes {area} off the lazy list" if tree == "lazy" else f"takes {area} out of the {tree} tree"
        return f"finds {area} in the {tree} tree"

    def _memory(self, event: Event) -> str:
        kind, symbols = event[0], self.symbols
        if kind == ev.RCU_WAIT:
            return f"call_rcu({symbols.object(event[6])})" if event[6] else ""
        name = symbols.object(event[4])
        if kind == ev.KFREE_RCU:
            return f"kfree_rcu({name})"
        if kind == ev.OBJECT_FREE:
            recycled = event[6] == ev.FREED_RECYCLED
            if recycled:
                return f"{name} becomes a node of the free tree"
            is_cached = symbols.objects.classes.get(event[4]) == AREA
            return f"{'kmem_cache_free' if is_cached else 'kfree'}({name})"
        if kind == ev.OBJECT_ALLOC:
            return f"allocates {name}"
        return f"{event[5]} fails"

    def _rest(self, event: Event) -> str:
        kind, symbols = event[0], self.symbols
        if kind == ev.UNMAP_BEGIN or kind == ev.PTE_CLEAR:
            end = event[6] if kind == ev.UNMAP_BEGIN else event[4] + 1
            return f"clear PTEs of {symbols.pages(event[4], end)}"
        if kind == ev.PTE_SET:
            return f"set PTE of {symbols.pages(event[4], event[4] + 1)}"
        if kind == ev.FLUSH_ARGS:
            return f"flush_tlb_kernel_range({symbols.pages(event[4], event[6])})"
        if kind == ev.FLUSH_BEGIN:
            return f"flush of {symbols.pages(event[4], event[6])} begins"
        if kind == ev.FLUSH_END:
            return f"flush of {symbols.pages(event[4], event[6])} is answered"
        if kind == ev.TLB_INVALIDATE:
            return f"invalidates {symbols.pages(event[4], event[6])}"
        if kind == ev.TLB_READ:
            how = "cached translation" if event[6] else "page table"
            return f"reads {symbols.pages(event[4], event[4] + 1)} through a {how}: frame {event[5]:#x}"
        if kind == ev.SPACE_OUT:
            return f"takes {symbols.pages(event[4], event[6])} out of the free tree"
        if kind == ev.SPACE_BACK:
            return f"{symbols.pages(event[4], event[6])} is free again"
        if kind in (ev.BUG, ev.WARN):
            return f"{'BUG_ON' if kind == ev.BUG else 'WARN_ON'}: {event[5]}"
        if kind == ev.API_END and event[5] in MAPPING:
            return "returns" if event[4] else "fails"
        if kind == ev.WORK_QUEUE:
            return f"schedule_work(&{event[5]})" + ("   /* it is queued already */" if event[6] else "")
        if kind == ev.WORK_FLUSHED:
            return f"flush_work(&{event[5]})"
        return _PLAIN.get(kind, "") or (f"{event[5]}()" if kind == ev.MIGHT_SLEEP else "")


_ACCESSES: Final = frozenset({ev.READ, ev.READ_ONCE, ev.WRITE, ev.WRITE_ONCE, ev.ATOMIC, ev.DEAD_ACCESS})
_LOCKS: Final = frozenset({ev.LOCK, ev.UNLOCK, ev.LOCK_WAIT, ev.TRYLOCK_FAILED, ev.ASSERT_HELD, ev.BLOCKED})
_LISTS: Final = frozenset({ev.LIST_ADD, ev.LIST_DEL, ev.LIST_CORRUPT})
_TREES: Final = frozenset({ev.TREE_INSERT, ev.TREE_ERASE, ev.TREE_FIND})
_XARRAYS: Final = frozenset({ev.XA_LOAD, ev.XA_STORE, ev.XA_ERASE})
_MEMORY: Final = frozenset({ev.KFREE_RCU, ev.RCU_WAIT, ev.OBJECT_FREE, ev.OBJECT_ALLOC, ev.ALLOC_FAILED})
_PLAIN: Final = {
    ev.API_END: "returns",
    ev.RCU_READ_LOCK: "rcu_read_lock()",
    ev.RCU_READ_UNLOCK: "rcu_read_unlock()",
}
