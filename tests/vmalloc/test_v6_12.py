# SPDX-License-Identifier: GPL-2.0-only
"""What v6.12 has of its own: nodes, pools, their decay, helpers, the shrinker, a drain of one pass."""

from __future__ import annotations

import pytest

from stressvmap.journal import events as ev
from stressvmap.kernel.slab import XA_INSERT
from stressvmap.program import Fault, ProgramOp
from stressvmap.ranges import PAGE_SHIFT
from stressvmap.sched.replay import Run
from stressvmap.sched.sequential import SequentialRuntime
from stressvmap.vmalloc.backend import ModelBackend
from stressvmap.vmalloc.v6_4 import V6_4
from stressvmap.vmalloc.v6_12 import V6_12
from tests.model.world import (
    ALIASES,
    KWORKER,
    SHRINK,
    WINDOW,
    Outcome,
    alone,
    map_,
    migrate,
    on,
    scenario,
    scripted,
    unmap,
    vfree,
    vmalloc,
)


def nodes(**changes: object) -> V6_12:
    """A version booted on a machine."""
    vmalloc = ModelBackend(V6_12, scenario(**changes), SequentialRuntime()).vmalloc
    assert isinstance(vmalloc, V6_12)
    return vmalloc


def pooled(outcome: Outcome) -> list[dict[int, int]]:
    """By node: how many areas of how many pages are in its pools at the end."""
    found: list[dict[int, int]] = []
    vmalloc = outcome.backend.vmalloc
    assert isinstance(vmalloc, V6_12)
    for vn in vmalloc.vmap_nodes:
        sizes = [pool.len_field for pool in vn.audited_pools() if vn.values[pool.len_field]]
        found.append({int(name[len("pool[") : name.index("]")]) + 1: vn.values[name] for name in sizes})
    return found


def test_a_piece_of_a_full_block_is_flushed_at_once_and_the_dead_block_whole() -> None:
    outcome = alone(V6_12, map_(0, 4), map_(1, 4), ALIASES, unmap(0), ALIASES, unmap(1), ALIASES)
    assert outcome.flushes("vm_unmap_aliases") == [(0, 4), (0, 8)]
    assert outcome.checks == set()


# -- nodes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cpus", "possible", "count"), [(1, (), 1), (2, (), 2), (4, (), 4), (3, (0, 2, 200), 3), (64, (), 64)]
)
def test_there_is_a_node_for_each_possible_cpu(cpus: int, possible: tuple[int, ...], count: int) -> None:
    assert nodes(cpus=cpus, possible=possible).nr_vmap_nodes == count


def test_an_address_belongs_to_the_node_of_its_sixteen_pages() -> None:
    version = nodes(cpus=3)
    first = version.addr_to_node_id(WINDOW << PAGE_SHIFT)
    assert [(version.addr_to_node_id((WINDOW + page) << PAGE_SHIFT) - first) % 3 for page in (15, 16, 31, 32, 48)] == [
        0,
        1,
        1,
        2,
        0,
    ]


def test_a_node_id_survives_in_the_flags_and_none_is_none() -> None:
    version = nodes(cpus=4)
    for node in range(4):
        assert version.decode_vn_id(version.encode_vn_id(node) | 3) == node
    assert not version.is_vn_id_valid(version.decode_vn_id(3))
    assert version.encode_vn_id(4) == 0


def test_an_address_inside_an_area_is_found_though_another_node_is_asked_first() -> None:
    def look(backend: ModelBackend) -> None:
        version = backend.vmalloc
        assert isinstance(version, V6_12)
        va = version.alloc_vmap_area(40 << PAGE_SHIFT, 4096, version.VMALLOC_START, version.VMALLOC_END, 0)
        assert not isinstance(va, int)
        for page in (0, 15, 16, 39):
            assert version.find_vmap_area((WINDOW + page) << PAGE_SHIFT) is va
        assert version.find_vmap_area((WINDOW + 40) << PAGE_SHIFT) is None
        version.free_vmap_area(va)

    assert alone(V6_12, prepare=look, cpus=3).checks == set()


def test_lazy_areas_that_touch_are_not_merged() -> None:
    outcome = alone(V6_12, map_(0, 5), map_(1, 5), unmap(0), unmap(1))
    lazy = [event[4] for event in outcome.events(ev.TREE_ERASE) if event[5] == "lazy"]
    assert len(set(lazy)) == 2


# -- pools ------------------------------------------------------------------------------------------------------------

THREE = (*(map_(slot, 5) for slot in range(3)), *(unmap(slot) for slot in range(3)))


def test_an_area_comes_from_the_pool_that_the_last_one_of_its_size_went_to() -> None:
    outcome = alone(V6_12, *THREE, ALIASES, *(map_(slot, 5) for slot in range(4)))
    assert outcome.returned("vm_map_ram")[3:] == [10, 5, 0, 15]
    assert outcome.checks == set()


def test_without_a_second_node_there_are_no_pools() -> None:
    outcome = alone(V6_12, *THREE, ALIASES, *(map_(slot, 5) for slot in range(4)), cpus=1)
    assert outcome.returned("vm_map_ram")[3:] == [0, 5, 10, 15]
    assert pooled(outcome) == [{}]


def test_an_area_is_not_in_a_pool_before_it_was_flushed() -> None:
    outcome = alone(V6_12, *THREE, map_(3, 5))
    assert outcome.returned("vm_map_ram")[3:] == [15]


def test_a_pool_serves_its_own_size_only() -> None:
    outcome = alone(V6_12, *THREE, ALIASES, map_(3, 6))
    assert outcome.returned("vm_map_ram")[3:] == [15]


def test_vmalloc_and_vm_map_ram_share_the_pools_and_a_block_too_if_it_is_aligned() -> None:
    outcome = alone(V6_12, map_(0, 8), unmap(0), ALIASES, vmalloc(1, 7))
    assert outcome.returned("vmalloc") == [0]
    outcome = alone(V6_12, map_(0, 8), unmap(0), ALIASES, map_(1, 2))
    assert outcome.returned("vm_map_ram")[1:] == [0]
    assert [event[5] for event in outcome.events(ev.SPACE_OUT)] == ["area", "block"]


def test_an_unaligned_area_is_passed_over_once_and_asked_for_last_from_then_on() -> None:
    """A block needs alignment: the head of the pool is looked at, no more, and goes to the tail."""
    begun = (vmalloc(9, 1), map_(0, 8), map_(1, 8), unmap(1), unmap(0), ALIASES)  # pages [2, 10) and [10, 18)
    outcome = alone(V6_12, *begun, map_(2, 1), map_(3, 8))
    assert outcome.returned("vm_map_ram") == [2, 10, 24, 2]
    straight = alone(V6_12, *begun, map_(3, 8))
    assert straight.returned("vm_map_ram") == [2, 10, 10]


def test_a_pool_belongs_to_the_node_of_the_cpu_that_asked_first_wherever_it_is_freed() -> None:
    outcome = alone(
        V6_12, *(map_(slot, 5) for slot in range(8)), migrate(1), *(unmap(slot) for slot in range(8)), ALIASES
    )
    assert pooled(outcome) == [{5: 6}, {}], "eight, less the quarter that the flush at the end gave back"
    mine = alone(V6_12, map_(0, 5), migrate(1), unmap(0), ALIASES, map_(1, 5), migrate(0), map_(2, 5))
    assert mine.returned("vm_map_ram") == [0, 5, 0]


def test_a_failed_index_gives_the_area_straight_back_to_the_free_tree() -> None:
    outcome = alone(V6_12, map_(0, 1), map_(1, 8), faults=[Fault(XA_INSERT, 1, 0)])
    assert outcome.returned("vm_map_ram") == [-1, 0]
    assert [event[5] for event in outcome.events(ev.TREE_INSERT) if event[3] == "free_vmap_area"] == ["free"]
    assert outcome.checks == set()


# -- decay ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("areas", "left"), [(1, 0), (2, 0), (3, 0), (4, 3), (5, 4), (7, 6), (8, 6), (9, 7), (12, 9), (13, 10)]
)
def test_a_purge_takes_a_quarter_of_each_pool_and_all_of_one_with_less_than_four(areas: int, left: int) -> None:
    """The purge that fills the pool comes first, then the flush at the end. Less than four is v6.9 to v6.15's quirk."""
    slots = range(areas)
    outcome = alone(V6_12, *(map_(n, 5) for n in slots), *(unmap(n) for n in slots), ALIASES, window_blocks=16)
    assert pooled(outcome)[0].get(5, 0) == left
    assert outcome.checks == set()


def test_what_decays_comes_off_the_head_and_is_free_for_any_size() -> None:
    slots = range(4)
    filled = (*(map_(n, 5) for n in slots), *(unmap(n) for n in slots), ALIASES)
    assert alone(V6_12, *filled, ALIASES, map_(5, 5)).returned("vm_map_ram")[4:] == [10], "15 was the head"
    assert alone(V6_12, *filled, ALIASES, map_(5, 6)).returned("vm_map_ram")[4:] == [15]


def test_an_overflow_empties_the_pools_and_fills_none() -> None:
    slots = range(6)
    outcome = alone(
        V6_12, *(map_(n, 5) for n in slots), *(unmap(n) for n in slots), ALIASES, map_(6, 30), window_blocks=4
    )
    assert outcome.returned("vm_map_ram")[6:] == [0]
    assert outcome.flushes("vm_map_ram") == []
    assert outcome.checks == set()


def test_the_shrinker_empties_all_pools() -> None:
    slots = range(8)
    filled = (*(map_(n, 5) for n in slots), *(unmap(n) for n in slots), ALIASES)
    outcome = alone(V6_12, *filled, SHRINK, map_(9, 6), window_blocks=16)
    assert outcome.returned("vm_map_ram")[8:] == [0]
    assert pooled(outcome) == [{6: 1}, {}], "but for what the flush at the end put there"
    assert outcome.flushes("shrink_slab") == []
    assert outcome.checks == set()


def test_with_empty_pools_the_shrinker_does_not_scan() -> None:
    outcome = alone(V6_12, map_(0, 5), SHRINK)
    assert not [event for event in outcome.events(ev.LOCK) if event[3] == "vmap_node_shrink_scan"]


def test_a_version_without_shrinkers_skips_them() -> None:
    outcome = alone(V6_4, map_(0, 5), SHRINK)
    assert outcome.backend.perform(ProgramOp("shrink")) is False
    assert not [event for event in outcome.events(ev.API_BEGIN) if event[5] == "shrink_slab"]


# -- purging ----------------------------------------------------------------------------------------------------------


def lazy_on_each_node(cpus: int, lazy_max: int, offline: tuple[int, ...] = ()) -> Outcome:
    """Each CPU has mapped 8 pages; the last one frees all of them, and flushes."""
    online = [cpu for cpu in range(cpus) if cpu not in offline]
    *others, last = (on(cpu, map_(cpu, 8)) for cpu in online)
    frees = tuple(unmap(cpu) for cpu in online)
    flusher = on(last.cpu, *last.ops, *frees, ALIASES)
    script = [Run(number) for number in range(1, len(others) + 1)]
    return scripted(
        V6_12, *others, flusher, script=script, cpus=cpus, lazy_max=lazy_max, offline=offline, window_blocks=16
    )


def helped(outcome: Outcome) -> list[str]:
    """The works queued beside the drain."""
    return [str(event[5]) for event in outcome.events(ev.WORK_QUEUE) if event[5] != "drain_vmap_work"]


def test_all_nodes_are_flushed_at_once() -> None:
    outcome = lazy_on_each_node(4, 1000)
    assert outcome.flushes("") == [(0, 32)]
    assert helped(outcome) == []
    assert outcome.checks == set()


@pytest.mark.parametrize(("lazy_max", "helpers"), [(32, []), (16, [0]), (8, [0, 1, 2])])
def test_there_is_a_helper_for_each_lazy_max_pages_but_the_first_and_one_node_is_left_to_the_purge(
    lazy_max: int, helpers: list[int]
) -> None:
    outcome = lazy_on_each_node(4, lazy_max)
    assert [name for name in helped(outcome)][: len(helpers)] == [f"vmap_nodes[{n}].purge_work" for n in helpers]
    assert outcome.backend.vmalloc.vmap_lazy_nr.value == 0
    assert outcome.checks == set()


def test_a_purge_waits_for_its_helpers_and_flushed_before_it_queued_them() -> None:
    outcome = lazy_on_each_node(4, 16)
    kinds = [
        event[0]
        for event in outcome.events(ev.FLUSH_END, ev.WORK_QUEUE, ev.WORK_BEGIN, ev.WORK_END, ev.WORK_FLUSHED, ev.UNLOCK)
        if event[5] == "vmap_nodes[0].purge_work"
        or (event[0] == ev.FLUSH_END)
        or (event[0] == ev.UNLOCK and event[5] == "vmap_purge_lock")
    ]
    assert kinds[:6] == [ev.FLUSH_END, ev.WORK_QUEUE, ev.WORK_BEGIN, ev.WORK_END, ev.WORK_FLUSHED, ev.UNLOCK]
    assert {event[1] for event in outcome.events(ev.WORK_END) if "purge_work" in str(event[5])} != {KWORKER}


def test_a_node_whose_cpu_is_offline_is_helped_all_the_same() -> None:
    outcome = lazy_on_each_node(4, 8, offline=(0,))
    assert "vmap_nodes[1].purge_work" in helped(outcome)
    assert outcome.checks == set()


def test_the_drain_makes_one_pass_though_more_is_lazy_by_then() -> None:
    """Up to v6.8 it went on until vmap_lazy_nr is small; what is counted but not on a list yet made it spin."""
    outcome = alone(V6_12, map_(0, 8), map_(1, 8), unmap(0), unmap(1), lazy_max=8)
    drained = [event for event in outcome.events(ev.LOCK) if event[3] == "drain_vmap_area_work"]
    begun = [event for event in outcome.events(ev.WORK_BEGIN) if event[5] == "drain_vmap_work"]
    assert len(drained) == len(begun) == 1


# -- blocks -----------------------------------------------------------------------------------------------------------


def test_a_block_goes_to_the_list_of_the_cpu_that_made_it_and_says_so_before_it_is_found() -> None:
    outcome = alone(V6_12, migrate(1), map_(0, 1))
    events = [event for event in outcome.events(ev.WRITE, ev.XA_STORE) if event[0] == ev.XA_STORE or event[5] == "cpu"]
    assert [event[0] for event in events] == [ev.WRITE, ev.XA_STORE]
    assert events[0][6] == 1


def test_a_vfree_of_a_vmalloc_returns_its_area_to_a_pool_guard_page_and_all() -> None:
    slots = range(4)
    outcome = alone(V6_12, *(vmalloc(n, 2) for n in slots), *(vfree(n) for n in slots), ALIASES)
    assert pooled(outcome)[0] == {3: 3}
    assert outcome.checks == set()
