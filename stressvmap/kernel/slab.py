# SPDX-License-Identifier: GPL-2.0-only
"""kmalloc and kmem_cache_alloc (<linux/slab.h>) with fault injection. Memory is never re-used within an execution,
so every use after free is seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from stressvmap.kernel.machine import Machine

KMALLOC: Final = "kmalloc"
KMEM_CACHE_ALLOC: Final = "kmem_cache_alloc"
XA_INSERT: Final = "xa_insert"
PTE_ALLOC: Final = "pte_alloc"
FAULT_KINDS: Final = (KMALLOC, KMEM_CACHE_ALLOC, XA_INSERT, PTE_ALLOC)
"""What a Fault may name: memory for a struct, for a struct of a slab cache, for an xarray node, for a page table."""

T = TypeVar("T")


def kmalloc(machine: Machine, make: Callable[[Machine], T], *, can_sleep: bool = True) -> T | None:
    """Memory for one object, its fields uninitialised, or None."""
    return _allocate(machine, KMALLOC, make, can_sleep)


def kmem_cache_alloc(machine: Machine, make: Callable[[Machine], T], *, can_sleep: bool = True) -> T | None:
    """An object of a slab cache, its fields uninitialised, or None."""
    return _allocate(machine, KMEM_CACHE_ALLOC, make, can_sleep)


def _allocate(machine: Machine, kind: str, make: Callable[[Machine], T], can_sleep: bool) -> T | None:
    if can_sleep:
        machine.might_sleep(kind)
    if machine.should_fail(kind):
        return None
    return make(machine)
