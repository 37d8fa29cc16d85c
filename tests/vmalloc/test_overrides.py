# SPDX-License-Identifier: GPL-2.0-only
"""A patch is a subclass: whatever function it overrides is the one that runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stressvmap.journal import events as ev
from stressvmap.kernel.slab import PTE_ALLOC, XA_INSERT
from stressvmap.program import Fault
from stressvmap.vmalloc.v6_4 import V6_4
from stressvmap.vmalloc.v6_5 import V6_5
from tests.model.world import (
    ALIASES,
    SHRINK,
    VERSIONS,
    WALK,
    Outcome,
    alone,
    map_,
    unmap,
    vfree,
    vfree_atomic,
    vmalloc,
    vmalloc_reset,
)

NOT_CALLED = {
    *((version, "find_vm_area") for version in ("v6.4", "v6.5", "rfc-3of3", "v6.12")),
    ("v6.12", "find_vmap_area"),
}
"""Part of the kernel's interface; nothing that a program can do calls it."""
NOT_THERE = {
    *((version, "_vm_unmap_aliases") for version in ("rfc-3of3", "rfc-3of3-on-v6.1")),
    *((version, "find_unlink_vmap_area") for version in ("v6.1", "rfc-3of3-on-v6.1")),
}
"""The patch takes it out; it came later."""

EVERYTHING = (
    map_(0, 4),  # fails in the index
    map_(0, 4),  # fails in the page table
    map_(0, 4),
    unmap(0),
    map_(0, 4),
    unmap(0),
    map_(0, 1),
    vmalloc(1, 1),
    vmalloc_reset(2, 1),
    vfree(1),
    vfree(2),
    map_(3, 2),
    unmap(3),
    map_(4, 1),
    unmap(4),
    ALIASES,
    map_(5, 1),
    unmap(5),
    map_(6, 8),
    map_(7, 8),
    map_(8, 8),
    unmap(6),
    map_(9, 16),
    unmap(7),
    map_(10, 5),
    unmap(10),
    ALIASES,
    vmalloc(11, 1),
    vfree_atomic(11),
    WALK,
    SHRINK,
)
"""Comes through every function, failure paths, overflow and drain included."""


def run(version: type[V6_4]) -> Outcome:
    faults = [Fault(XA_INSERT, 1, 0), Fault(PTE_ALLOC, 1, 1)]
    return alone(version, *EVERYTHING, faults=faults, window_blocks=4, lazy_max=6)


def functions_of(version: type[V6_4]) -> tuple[str, ...]:
    """The Python names of a version's kernel functions."""
    names = [name for name in dir(version) if hasattr(getattr(version, name), "kernel_name")]
    return tuple(name for name in names if (version.NAME, name) not in NOT_CALLED | NOT_THERE)


def patched(version: type[V6_4], name: str, calls: list[str]) -> type[V6_4]:
    """`version` with one function overridden by one that notes the call and goes on as before."""
    original: Callable[..., Any] = getattr(version, name)

    def override(self: V6_4, *args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        return original(self, *args, **kwargs)

    return type("Patched", (version,), {name: override, "NAME": f"patched-{name}"})


CASES = [(version, name) for version in VERSIONS for name in functions_of(version)]


@pytest.mark.parametrize(("version", "name"), CASES, ids=[f"{version.NAME}-{name}" for version, name in CASES])
def test_an_overridden_function_is_the_one_that_runs(version: type[V6_4], name: str) -> None:
    calls: list[str] = []
    outcome = run(patched(version, name, calls))
    assert calls
    assert outcome.journal.header["version"] == f"patched-{name}"
    assert outcome.journal.digest() == run(version).journal.digest(), "and nothing else changes"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_journal_names_every_function_that_makes_a_step(version: type[V6_4]) -> None:
    named = {event[3] for event in run(version).journal.events}
    kernel_names = {getattr(version, name).kernel_name for name in functions_of(version)}
    assert kernel_names - named <= {
        "purge_fragmented_blocks_allcpus",
        "vm_unmap_aliases",
        "drain_vmap_area_work",
        "vm_remove_mappings",
        "node_alloc",
    }
    assert named - kernel_names == {""}


def test_a_patch_that_changes_what_a_function_does_changes_what_is_flushed() -> None:
    class FlushesWholeBlocks(V6_5):
        def _purge_vmap_area_lazy(self, start: int, end: int) -> bool:
            return super()._purge_vmap_area_lazy(self.VMALLOC_START, self.VMALLOC_END)

    program = (map_(0, 8), unmap(0), ALIASES)
    assert alone(V6_5, *program).flushes("vm_unmap_aliases") == [(0, 8)]
    assert alone(FlushesWholeBlocks, *program).flushes("vm_unmap_aliases")[0] == (0, 64)


def test_a_patch_of_v6_5_decides_which_blocks_are_purged() -> None:
    class PurgesNone(V6_5):
        def purge_fragmented_block(self, *args: Any) -> bool:
            return False

    purgeable = (map_(0, 4), map_(1, 2), map_(2, 1), unmap(0), unmap(1), unmap(2), ALIASES, map_(3, 1))
    assert alone(V6_5, *purgeable).returned("vm_map_ram")[3:] == [0]
    assert alone(PurgesNone, *purgeable).returned("vm_map_ram")[3:] == [7]


def test_the_functions_of_a_version_are_more_than_its_entry_points() -> None:
    assert len(functions_of(V6_4)) >= 24
    assert "purge_fragmented_block" in functions_of(V6_5)
    assert {"vm_map_ram", "vm_unmap_ram", "vm_unmap_aliases", "vmalloc", "vfree"} < set(functions_of(V6_4))
    assert any(event[0] == ev.WORK_BEGIN for event in run(V6_4).journal.events)
