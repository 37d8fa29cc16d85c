# SPDX-License-Identifier: GPL-2.0-only
"""Kernel objects other CPUs can see: every access is announced, a dead object tells on whoever touches it."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from stressvmap.journal.events import (
    ATOMIC,
    DEAD_ACCESS,
    FREED_RECYCLED,
    FREED_SLAB,
    OBJECT_ALLOC,
    OBJECT_FREE,
    READ,
    READ_ONCE,
    UNINITIALISED,
    WRITE,
    WRITE_ONCE,
)
from stressvmap.kernel.machine import Machine
from stressvmap.runtime.access import CHANGES, LOOKS

POISON: Final = 0x6B6B6B6B
"""What an integer field reads as before anybody wrote it."""
_UNWRITTEN: Final = object()


class Struct:
    """A shared object. `values` holds its fields; a field nobody wrote is not in it.

    Its classes give each field a property that calls `read` and `write` (plain accesses, so `x.dirty += 1` is a read
    point and a write point) beside READ_ONCE and WRITE_ONCE for marked ones.
    """

    __slots__ = ("id", "is_dead", "machine", "successor", "values")
    STRUCT: ClassVar[str] = "struct"
    SHOWS_INTEGERS: ClassVar[bool] = True
    """Whether the journal says of an integer field what it is, so that `shown` need not be asked."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.id = machine.name_object()
        self.is_dead = False
        self.successor: Struct | None = None
        """For memory that lives on as another object: what a stale pointer to this one reads now."""
        self.values: dict[str, Any] = {}
        machine.live[self.id] = self
        machine.record(OBJECT_ALLOC, self.id, self.STRUCT, 0)

    def shown(self, field: str, value: Any) -> int:
        """What the journal says of a value: an integer as it is, an object by its id, NULL as 0."""
        if value is None:
            return 0
        if isinstance(value, Struct):
            return value.id
        return int(value)

    def _load(self, kind: int, field: str) -> Any:
        machine = self.machine
        runtime = machine.runtime
        runtime.point(kind, self.id, field)
        values = self._dead_values(kind, field, LOOKS) if self.is_dead else self.values
        value = values.get(field, _UNWRITTEN)
        if value is _UNWRITTEN:
            machine.record(UNINITIALISED, self.id, field, 0)
            value = POISON
        shown = value if type(value) is int and self.SHOWS_INTEGERS else self.shown(field, value)
        task = runtime.current  # `record` written out, here and in `_store`: half of all points are one of these two
        machine.append((kind, task.id, task.cpu, task.function, self.id, field, shown))
        return value

    def _store(self, kind: int, field: str, value: Any) -> None:
        machine = self.machine
        runtime = machine.runtime
        runtime.point(kind, self.id, field)
        values = self._dead_values(kind, field, CHANGES) if self.is_dead else self.values
        values[field] = value
        shown = value if type(value) is int and self.SHOWS_INTEGERS else self.shown(field, value)
        task = runtime.current
        machine.append((kind, task.id, task.cpu, task.function, self.id, field, shown))

    def _dead_values(self, kind: int, field: str, use: int) -> dict[str, Any]:
        """Tell of an access to this dead object; what it finds there."""
        self.machine.record(DEAD_ACCESS, self.id, field, kind)
        if self.successor is None:
            return self.values
        self.machine.runtime.note((self.successor.id, field), use)
        return self.successor.values

    def read(self, field: str) -> Any:
        """A plain read."""
        return self._load(READ, field)

    def write(self, field: str, value: Any) -> None:
        """A plain write."""
        self._store(WRITE, field, value)

    def READ_ONCE(self, field: str) -> Any:
        """A marked read."""
        return self._load(READ_ONCE, field)

    def WRITE_ONCE(self, field: str, value: Any) -> None:
        """A marked write."""
        self._store(WRITE_ONCE, field, value)

    def touch(self, kind: int, what: str) -> None:
        """Tell on a task that uses a part of a dead object that is no plain field (a lock)."""
        if self.is_dead:
            self.machine.record(DEAD_ACCESS, self.id, what, kind)

    def kfree(self) -> None:
        """kfree or kmem_cache_free: dead from here on. Freeing the dead is an access to it."""
        machine = self.machine
        if self.is_dead:
            machine.record(DEAD_ACCESS, self.id, "(freed again)", WRITE)
            return
        self.is_dead = True
        machine.live.pop(self.id, None)
        machine.record(OBJECT_FREE, self.id, self.STRUCT, FREED_SLAB)

    def recycle(self, successor: Struct) -> None:
        """The memory lives on as `successor`; pointers that still mean this object are stale, though KASAN would be
        silent.
        """
        self.is_dead = True
        self.successor = successor
        self.machine.live.pop(self.id, None)
        self.machine.record(OBJECT_FREE, self.id, self.STRUCT, FREED_RECYCLED)


class OnStack(Struct):
    """A structure on a task's stack (a LIST_HEAD): it has a name, but nobody frees it."""

    __slots__ = ()
    STRUCT = "on_stack"

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        del machine.live[self.id]


class AtomicLong(Struct):
    """atomic_long_t: each operation is one marked, indivisible step."""

    __slots__ = ("name", "value")
    STRUCT = "atomic_long"

    def __init__(self, machine: Machine, name: str) -> None:
        super().__init__(machine)
        self.name = name
        self.value = 0

    def read_value(self) -> int:
        """atomic_long_read."""
        self.machine.runtime.point(READ_ONCE, self.id, self.name)
        self.machine.record(READ_ONCE, self.id, self.name, self.value)
        return self.value

    def add_return(self, n: int) -> int:
        """atomic_long_add_return."""
        self.machine.runtime.point(ATOMIC, self.id, self.name)
        self.value += n
        self.machine.record(ATOMIC, self.id, self.name, self.value)
        return self.value

    def sub(self, n: int) -> None:
        """atomic_long_sub."""
        self.add_return(-n)
