# SPDX-License-Identifier: GPL-2.0-only
"""Every failure path gives back what it took: no injected failure breaks more than the version breaks without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stressvmap.journal import events as ev
from stressvmap.kernel.function import kernel_function
from stressvmap.kernel.slab import FAULT_KINDS, KMALLOC, KMEM_CACHE_ALLOC, PTE_ALLOC, XA_INSERT
from stressvmap.program import Fault, ProgramOp
from stressvmap.sched.controlled import ControlledRuntime
from stressvmap.sched.random import RandomStrategy
from stressvmap.stress.workloads import draw
from stressvmap.vmalloc.v6_4 import V6_4
from tests.model.world import (
    ALIASES,
    VERSIONS,
    alone,
    execute,
    map_,
    scenario,
    unmap,
    vfree,
    vmalloc,
    vmalloc_reset,
)

EACH = pytest.mark.parametrize("version", VERSIONS)
FAILURES = ("kernel-bug", "leak", "accounting", "list-corruption", "use-after-free", "uninitialised-read")


def news(version: type[V6_4], fingerprints: set[str]) -> set[str]:
    """Those that the version is not known for."""
    return fingerprints - {known.fingerprint for known in version.known}


@EACH
@pytest.mark.parametrize(
    ("operation", "kind", "number"),
    [
        (map_(0, 4), KMALLOC, 0),
        (map_(0, 4), KMEM_CACHE_ALLOC, 0),
        (map_(0, 4), XA_INSERT, 0),
        (map_(0, 4), PTE_ALLOC, 0),
        (map_(0, 4), PTE_ALLOC, 3),
        (map_(0, 8), KMEM_CACHE_ALLOC, 0),
        (map_(0, 8), PTE_ALLOC, 5),
        (vmalloc(0, 3), KMALLOC, 0),
        (vmalloc(0, 3), KMEM_CACHE_ALLOC, 0),
        (vmalloc(0, 3), PTE_ALLOC, 2),
        (vmalloc_reset(0, 3), PTE_ALLOC, 2),
    ],
)
def test_a_failed_allocation_fails_the_call_and_leaves_nothing(
    version: type[V6_4], operation: ProgramOp, kind: str, number: int
) -> None:
    outcome = alone(version, operation, faults=[Fault(kind, 1, number)])
    assert len(outcome.events(ev.ALLOC_FAILED)) == 1
    assert [event[4] for event in outcome.events(ev.API_END) if event[1] == 1] == [0]
    assert outcome.checks == set()


@EACH
def test_a_block_whose_index_entry_failed_gives_its_space_straight_back(version: type[V6_4]) -> None:
    """It was never mapped, so no flush is owed."""
    outcome = alone(version, map_(0, 4), map_(0, 4), faults=[Fault(XA_INSERT, 1, 0)])
    assert outcome.returned("vm_map_ram") == [-1, 0]
    assert outcome.flushes() == outcome.flushes("vm_unmap_aliases")[-1:], "the one at the end"


@EACH
def test_a_mapping_that_failed_half_way_leaves_its_whole_range_dirty(version: type[V6_4]) -> None:
    outcome = alone(version, map_(0, 1), map_(1, 4), ALIASES, faults=[Fault(PTE_ALLOC, 1, 3)])
    assert outcome.returned("vm_map_ram") == [0, -1]
    assert outcome.flushes("vm_unmap_aliases")[0] == (1, 5)
    assert outcome.checks == set()


SLOTS = st.integers(0, 4)
OPERATIONS = st.lists(
    st.one_of(
        st.builds(map_, SLOTS, st.integers(1, 8)),
        st.builds(map_, SLOTS, st.integers(1, 4)),
        st.builds(unmap, SLOTS),
        st.builds(vmalloc, SLOTS, st.integers(1, 3)),
        st.builds(vmalloc_reset, SLOTS, st.integers(1, 3)),
        st.builds(vfree, SLOTS),
        st.just(ALIASES),
    ),
    min_size=1,
    max_size=25,
)


@EACH
@settings(max_examples=60, deadline=None)
@given(operations=OPERATIONS, kind=st.sampled_from(FAULT_KINDS), number=st.integers(0, 20), window=st.integers(3, 12))
def test_any_single_failure_in_any_program_breaks_nothing_new(
    version: type[V6_4], operations: list[ProgramOp], kind: str, number: int, window: int
) -> None:
    outcome = alone(version, *operations, faults=[Fault(kind, 1, number)], window_blocks=window, cpus=1)
    assert outcome.reason == "done"
    assert news(version, {violation.fingerprint for violation in outcome.violations}) == set()


@EACH
def test_many_failures_under_concurrency_break_nothing_new(version: type[V6_4]) -> None:
    where = scenario(cpus=3, operations=8, fault_rate=0.25, window_blocks=6, lazy_max=24, vmalloc_rate=0.2)
    strategy = RandomStrategy(5)
    runtime = ControlledRuntime(strategy)
    failed = 0
    for execution in range(25):
        strategy.begin(execution)
        outcome = execute(version, runtime, draw(where, 5, execution), where)
        failed += len(outcome.events(ev.ALLOC_FAILED))
        fired = [violation for violation in outcome.violations if news(version, {violation.fingerprint})]
        assert [violation.message for violation in fired] == []
    assert failed > 25


class FollowsAnErrorPointer(V6_4):
    """vm_map_ram does not ask IS_ERR of what alloc_vmap_area returned."""

    @kernel_function
    def vm_map_ram(self, pages: Sequence[int], count: int) -> int:
        va: Any = self.alloc_vmap_area(count << 12, 1, self.VMALLOC_START, self.VMALLOC_END, 0)
        return int(va.va_start)


class FollowsAnUnwrittenPointer(V6_4):
    """vb_free goes by a pointer to the area that nobody has written."""

    @kernel_function
    def vb_free(self, addr: int, size: int) -> None:
        vb = self.machine.deref(self.addr_to_vb_xa(addr).load(self.addr_to_vb_idx(addr)))
        del vb.values["va"]
        self.memory.vunmap_range_noflush(vb.va.va_start, addr + size)


class FollowsANumber(V6_4):
    """No kernel's mistake: there is nothing behind an int."""

    @kernel_function
    def vb_free(self, addr: int, size: int) -> None:
        wrong: Any = addr
        self.memory.vunmap_range_noflush(wrong.va_start, addr + size)


def test_following_an_error_pointer_is_an_oops() -> None:
    outcome = alone(FollowsAnErrorPointer, map_(0, 4), faults=[Fault(KMEM_CACHE_ALLOC, 1, 0)])
    assert [event[5] for event in outcome.events(ev.BUG)] == ["error pointer dereference (->va_start)"]


def test_following_a_pointer_that_nobody_wrote_is_an_oops() -> None:
    outcome = alone(FollowsAnUnwrittenPointer, map_(0, 4), unmap(0))
    assert [event[5] for event in outcome.events(ev.BUG)] == ["uninitialised pointer dereference (->va_start)"]


def test_following_an_int_is_a_mistake_in_python() -> None:
    with pytest.raises(AttributeError, match="'int' object has no attribute 'va_start'"):
        alone(FollowsANumber, map_(0, 4), unmap(0))
