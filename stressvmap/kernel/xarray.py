# SPDX-License-Identifier: GPL-2.0-only
"""struct xarray (<linux/xarray.h>): an index to objects. Look-ups are lockless; a store or an erase is one step, as
under xa_lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from stressvmap.journal.events import XA_ERASE, XA_LOAD, XA_STORE
from stressvmap.kernel.machine import Machine
from stressvmap.kernel.struct import Struct
from stressvmap.runtime.access import LOOKS

ENOMEM = 12
EBUSY = 16

T = TypeVar("T", bound=Struct)


class XArray(Struct, Generic[T]):
    """An xarray of T. The nodes inside are not modelled: only what they hold."""

    __slots__ = ("entries",)
    STRUCT = "xarray"

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.entries: dict[int, T] = {}

    def load(self, index: int) -> T | None:
        """xa_load."""
        self.machine.runtime.point(XA_LOAD, self.id, "")
        entry = self.entries.get(index)
        self.machine.record(XA_LOAD, self.id, index, 0 if entry is None else entry.id)
        return entry

    def insert(self, index: int, entry: T) -> int:
        """xa_insert: 0, -EBUSY if the index is taken, -ENOMEM by injection."""
        self.machine.might_sleep("xa_insert")
        if self.machine.should_fail("xa_insert"):
            return -ENOMEM
        self.machine.runtime.point(XA_STORE, self.id, "")
        if index in self.entries:
            self.machine.runtime.note(("entries", self.id), LOOKS)
            return -EBUSY
        self.entries[index] = entry
        self.machine.record(XA_STORE, self.id, index, entry.id)
        return 0

    def erase(self, index: int) -> T | None:
        """xa_erase: what was there."""
        self.machine.runtime.point(XA_ERASE, self.id, "")
        entry = self.entries.pop(index, None)
        self.machine.record(XA_ERASE, self.id, index, 0 if entry is None else entry.id)
        return entry

    def for_each(self) -> Iterator[T]:
        """xa_for_each: each step looks up the next index that is there by then."""
        index = 0
        while True:
            self.machine.runtime.point(XA_LOAD, self.id, "")
            self.machine.runtime.note(("entries", self.id), LOOKS)
            found = min((i for i in self.entries if i >= index), default=-1)
            if found < 0:
                self.machine.record(XA_LOAD, self.id, index, 0)
                return
            index = found
            entry = self.entries[index]
            self.machine.record(XA_LOAD, self.id, index, entry.id)
            yield entry
            index += 1
