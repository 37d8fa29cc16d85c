# SPDX-License-Identifier: GPL-2.0-only
"""The area layer as the C has it, one task alone: overflow, the drain work, vmalloc and the direct map."""

from __future__ import annotations

import pytest

from stressvmap.journal import events as ev
from stressvmap.kernel.areas import VmapArea
from stressvmap.kernel.function import kernel_function
from stressvmap.kernel.locks import SpinLock
from stressvmap.kernel.memory import DIRECT_MAP_PAGE
from stressvmap.kernel.slab import KMEM_CACHE_ALLOC, kmem_cache_alloc
from stressvmap.program import Fault
from stressvmap.sched.replay import Run
from stressvmap.sched.sequential import SequentialRuntime
from stressvmap.vmalloc.backend import ModelBackend
from stressvmap.vmalloc.rfc_3of3 import Rfc2of3, Rfc3of3
from stressvmap.vmalloc.v6_4 import V6_4
from stressvmap.vmalloc.v6_12 import V6_12
from tests.model.world import (
    ALIASES,
    KWORKER,
    PAUSE,
    SHRINK,
    VERSIONS,
    WINDOW,
    Outcome,
    alone,
    map_,
    nth,
    on,
    scenario,
    scripted,
    unmap,
    until_in,
    until_pause,
    vfree,
    vmalloc,
    vmalloc_reset,
)

EACH = pytest.mark.parametrize("version", VERSIONS)

# -- overflow ---------------------------------------------------------------------------------------------------------


@EACH
def test_an_allocation_without_room_pays_the_debts_and_tries_again(version: type[V6_4]) -> None:
    outcome = alone(version, map_(0, 8), map_(1, 8), unmap(0), map_(2, 8), window_blocks=2)
    assert outcome.returned("vm_map_ram") == [0, 8, 0]
    assert outcome.flushes("vm_map_ram") == [(0, 8)]
    assert outcome.checks == set()


@EACH
def test_it_purges_blocks_in_which_nothing_is_mapped_however_much_of_them_is_free(version: type[V6_4]) -> None:
    outcome = alone(version, map_(0, 1), unmap(0), map_(1, 8), map_(2, 8), window_blocks=2)
    assert outcome.returned("vm_map_ram") == [0, 8, 0]
    assert outcome.checks == set()


@EACH
def test_without_anything_to_reclaim_vm_map_ram_returns_null(version: type[V6_4]) -> None:
    outcome = alone(version, map_(0, 8), map_(1, 8), map_(2, 8), map_(3, 4), window_blocks=2)
    assert outcome.returned("vm_map_ram") == [0, 8, -1, -1], "an area of its own, and a new block"
    assert outcome.checks == set()


@EACH
def test_a_hole_that_fits_a_block_exactly_is_taken_where_it_merges_with_the_space_below_the_window(
    version: type[V6_4],
) -> None:
    """An aligned search asks for size + align - 1 on its way down. All address space was free at boot, so the hole at
    the window's start is the end of a huge one.
    """
    outcome = alone(version, map_(0, 8), map_(1, 8), map_(2, 8), unmap(0), ALIASES, map_(3, 1))
    assert outcome.returned("vm_map_ram")[3:] == [0]


@EACH
def test_a_hole_that_fits_a_block_exactly_is_passed_over_unless_the_search_meets_it_on_its_way_up(
    version: type[V6_4],
) -> None:
    """The way down leads to the space below the window, then up again, and into a right subtree only if that has
    size + align - 1 somewhere. The hole that was there first has the second, lower one in such a subtree.
    """
    blocks = tuple(map_(slot, 8) for slot in range(5))
    upper, lower = (unmap(3), ALIASES, SHRINK), (unmap(1), ALIASES, SHRINK)
    outcome = alone(version, *blocks, *upper, *lower, map_(5, 1))
    assert outcome.returned("vm_map_ram")[5:] == [24]
    outcome = alone(version, *blocks, *lower, *upper, map_(5, 1))
    assert outcome.returned("vm_map_ram")[5:] == [8]


@EACH
def test_nothing_outside_the_window_is_ever_handed_out(version: type[V6_4]) -> None:
    outcome = alone(version, map_(0, 8), map_(1, 8), map_(2, 8), unmap(0), map_(3, 16), window_blocks=2)
    assert outcome.returned("vm_map_ram") == [0, 8, -1, -1]
    out = [event for event in outcome.events(ev.SPACE_OUT)]
    assert all(WINDOW <= event[4] < event[6] <= WINDOW + 16 for event in out)


def with_notifier(version: type[V6_4], *frees: int) -> tuple[Outcome, list[int]]:
    """A full window; the purge notifier gives up these slots, one a call, then nothing."""
    calls: list[int] = []
    left = list(frees)

    def register(backend: ModelBackend) -> None:
        def notify() -> int:
            calls.append(len(left))
            if not left:
                return 0
            slot = left.pop(0)
            backend.perform(unmap(slot))
            return 8

        backend.vmalloc.register_vmap_purge_notifier(notify)

    outcome = alone(version, map_(0, 8), map_(1, 8), map_(2, 16), window_blocks=2, prepare=register)
    return outcome, calls


@EACH
def test_the_notifier_is_asked_after_a_purge_in_vain_and_once_more_for_each_success(version: type[V6_4]) -> None:
    outcome, calls = with_notifier(version, 0, 1)
    assert calls == [2, 1], "16 pages need both"
    assert outcome.returned("vm_map_ram")[2:] == [0]
    assert outcome.flushes("vm_map_ram") == [(0, 8), (8, 16)]
    assert outcome.checks == set()


@EACH
def test_a_notifier_that_frees_nothing_ends_it(version: type[V6_4]) -> None:
    outcome, calls = with_notifier(version, 0)
    assert calls == [1, 0]
    assert outcome.returned("vm_map_ram")[2:] == [-1]
    assert outcome.checks == set()


# -- the drain --------------------------------------------------------------------------------------------------------


@EACH
def test_more_lazy_pages_than_lazy_max_queue_the_drain_which_flushes_and_gives_them_back(version: type[V6_4]) -> None:
    outcome = scripted(
        version,
        on(0, map_(0, 8), map_(1, 8), unmap(0), unmap(1), PAUSE, map_(2, 8)),
        script=[Run(1, until_pause), Run(KWORKER), Run(1)],
        lazy_max=8,
    )
    assert [event[5] for event in outcome.events(ev.WORK_QUEUE)] == ["drain_vmap_work"], "8 pages are not more than 8"
    assert [event for event in outcome.events(ev.FLUSH_ARGS) if event[1] == KWORKER]
    again = 8 if version is V6_12 else 0  # from a pool comes what went there last
    assert outcome.flushes("") == [(0, 16), (again, again + 8)]
    assert outcome.returned("vm_map_ram") == [0, 8, again]
    assert outcome.checks == set()


@EACH
def test_the_drain_does_not_touch_blocks_in_which_nothing_is_mapped(version: type[V6_4]) -> None:
    outcome = alone(version, map_(0, 1), unmap(0), map_(1, 8), unmap(1), map_(2, 1), lazy_max=1)
    assert outcome.flushes("")[:1] == [(8, 16)]
    assert outcome.returned("vm_map_ram") == [0, 8, 1], "the block lives on"


@pytest.mark.parametrize(
    ("cpus", "offline", "pages"),
    [
        (1, (), 8192),
        (2, (), 16384),
        (3, (), 16384),
        (4, (), 24576),
        (8, (), 32768),
        (4, (3,), 16384),
        (4, (2, 3), 16384),
    ],
)
def test_lazy_max_pages_is_32_mib_for_each_doubling_of_the_cpus_online(
    cpus: int, offline: tuple[int, ...], pages: int
) -> None:
    backend = ModelBackend(V6_4, scenario(cpus=cpus, offline=offline, lazy_max=0), SequentialRuntime())
    assert backend.vmalloc.lazy_max_pages() == pages


def test_lazy_max_pages_follows_the_cpus_that_are_online_now() -> None:
    backend = ModelBackend(V6_4, scenario(cpus=2, lazy_max=0), SequentialRuntime())
    backend.machine.set_online(1, False)
    assert backend.vmalloc.lazy_max_pages() == 8192


@pytest.mark.parametrize(("lazy_max", "pages"), [(1, 1), (2, 1), (24, 12)])
def test_a_scenarios_own_lazy_max_follows_them_too_and_is_never_0(lazy_max: int, pages: int) -> None:
    backend = ModelBackend(V6_4, scenario(cpus=2, lazy_max=lazy_max), SequentialRuntime())
    backend.machine.set_online(1, False)
    assert backend.vmalloc.lazy_max_pages() == pages


# -- vmalloc ----------------------------------------------------------------------------------------------------------


@EACH
def test_vmalloc_maps_its_pages_and_keeps_one_more_as_a_guard(version: type[V6_4]) -> None:
    outcome = alone(version, vmalloc(0, 2), vmalloc(1, 1), vfree(0), ALIASES)
    assert outcome.returned("vmalloc") == [0, 3]
    assert len(outcome.events(ev.PTE_SET)) == 3
    assert outcome.flushes("vm_unmap_aliases")[0] == (0, 3), "the guard page is part of the area"
    assert outcome.checks == set()


@EACH
def test_vfree_alone_flushes_nothing(version: type[V6_4]) -> None:
    assert alone(version, vmalloc(0, 2), vfree(0)).flushes("vfree") == []


def direct_map_story(version: type[V6_4]) -> tuple[list[int], Outcome]:
    outcome = alone(version, vmalloc_reset(0, 2), vfree(0))
    kinds = [
        event[0]
        for event in outcome.events(ev.PTE_CLEAR, ev.PTE_SET, ev.FLUSH_ARGS)
        if event[0] == ev.FLUSH_ARGS or event[4] < WINDOW
    ]
    return kinds, outcome


@EACH
def test_a_vfree_with_reset_takes_its_pages_out_of_the_direct_map_flushes_and_puts_them_back(
    version: type[V6_4],
) -> None:
    kinds, outcome = direct_map_story(version)
    is_rfc = issubclass(version, Rfc2of3)
    flushes = [ev.FLUSH_ARGS] * (2 if is_rfc else 1)
    assert kinds == [
        ev.PTE_CLEAR,
        ev.PTE_CLEAR,
        *flushes,
        ev.PTE_SET,
        ev.PTE_SET,
        *([ev.FLUSH_ARGS] * is_rfc),
    ]
    assert outcome.backend.kernel.memory.direct_map_holes == set()
    assert outcome.checks == set()


def test_before_the_rfc_that_is_one_range_from_the_direct_map_to_the_window() -> None:
    _, outcome = direct_map_story(V6_4)
    ((entry, start, end),) = outcome.flush_calls()
    assert entry == "vfree_reset"
    assert DIRECT_MAP_PAGE <= start < DIRECT_MAP_PAGE + 0x1000
    assert end == WINDOW + 3


def test_under_the_rfc_the_direct_map_and_the_area_are_flushed_apart_and_the_area_once_more_when_it_is_drained() -> (
    None
):
    _, outcome = direct_map_story(Rfc3of3)
    ranges = [(entry, end - start) for entry, start, end in outcome.flush_calls()]
    assert ranges == [("vfree_reset", 2), ("vfree_reset", 3), ("vm_unmap_aliases", 3)]


@EACH
def test_vfree_of_nothing_is_nothing_and_of_a_stranger_a_warning(version: type[V6_4]) -> None:
    def strange(backend: ModelBackend) -> None:
        backend.vmalloc.vfree(0)
        backend.vmalloc.vfree((WINDOW + 1) << 12)

    outcome = alone(version, prepare=strange)
    assert [event[5] for event in outcome.events(ev.WARN)] == ["no area at the address to free"]


# -- the spare area of a CPU ------------------------------------------------------------------------------------------

THREE_HOLES = (map_(0, 5), map_(1, 16), map_(2, 8), map_(3, 16), map_(4, 8), unmap(1), unmap(3), ALIASES, SHRINK)
"""No block fits into one of them but by splitting it; under v6.12 the purged ones are holes once no pool keeps them."""


class PreloadsFirst(V6_4):
    """Puts the spare area in its place before it has the lock."""

    @kernel_function
    def preload_this_cpu_lock(self, lock: SpinLock) -> None:
        va = None
        if self.ne_fit_preload_node.this_cpu_read() is None:
            va = kmem_cache_alloc(self.machine, VmapArea)
        if va is not None and self.ne_fit_preload_node.this_cpu_cmpxchg(None, va) is not None:
            va.kfree()
        lock.lock()


@pytest.mark.parametrize(("version", "warns"), [*((version, False) for version in VERSIONS), (PreloadsFirst, True)])
def test_who_has_allocated_a_spare_area_finds_one_under_the_lock(version: type[V6_4], warns: bool) -> None:
    """Whoever else splits a hole on this CPU in between, here while task 1 stands before the lock. What is made to fail
    is the allocation without sleeping, which is only for those who found a spare and were moved to another CPU.
    """
    block = map_(5, 4), map_(6, 4), PAUSE, map_(7, 4)
    outcome = scripted(
        version,
        on(0, *THREE_HOLES, *block),
        on(0, map_(8, 4)),
        script=[
            Run(1, until_pause),
            Run(1, nth(1, until_in("preload_this_cpu_lock", ev.LOCK))),
            Run(2),
            Run(1),
        ],
        faults=[Fault(KMEM_CACHE_ALLOC, 1, 10)],
        window_blocks=12,
    )
    warnings = [found.mechanism.mechanism for found in outcome.of("kernel-bug")]
    assert warnings == (["WARN_ON(ret)"] if warns else [])
    assert outcome.returned("vm_map_ram") == [0, 5, 21, 29, 45, 8, 12, 32, 56]
