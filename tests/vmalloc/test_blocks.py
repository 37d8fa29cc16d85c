# SPDX-License-Identifier: GPL-2.0-only
"""The block layer as the C has it, one task alone: bump pointer, orders, death, purge, dirty ranges."""

from __future__ import annotations

import pytest

from stressvmap.journal import events as ev
from stressvmap.vmalloc.rfc_3of3 import Rfc3of3
from stressvmap.vmalloc.v6_4 import V6_4
from stressvmap.vmalloc.v6_5 import V6_5
from stressvmap.vmalloc.v6_12 import V6_12
from tests.model.world import ALIASES, VERSIONS, alone, map_, on, scripted, unmap

EACH = pytest.mark.parametrize("version", VERSIONS)
LAZY, FREE = "lazy", "free"


@EACH
def test_a_block_hands_out_its_pages_upwards_and_never_one_twice(version: type[V6_4]) -> None:
    outcome = alone(version, map_(0, 1), map_(1, 2), unmap(0), map_(0, 1), unmap(1), map_(1, 4), map_(2, 1))
    assert outcome.returned("vm_map_ram") == [0, 1, 3, 4, 8], "at 4 without regard to its order; then a new block"


@EACH
def test_five_pages_take_eight_slots_and_clear_five_ptes(version: type[V6_4]) -> None:
    outcome = alone(version, map_(0, 5), map_(1, 1), unmap(0), block_bits=16, max_alloc=8)
    assert outcome.returned("vm_map_ram") == [0, 8]
    cleared = [event for event in outcome.events(ev.PTE_CLEAR) if event[1] == 1]
    assert len(cleared) == 5
    dirty = [event[6] for event in outcome.events(ev.WRITE, ev.WRITE_ONCE) if event[5] == "dirty" and event[1] == 1]
    assert dirty == [0, 8]


@EACH
def test_a_block_used_up_leaves_the_list_and_a_new_one_comes(version: type[V6_4]) -> None:
    outcome = alone(version, map_(0, 4), map_(1, 4), map_(2, 4))
    assert outcome.returned("vm_map_ram") == [0, 4, 8]
    free_lists = [event[0] for event in outcome.events(ev.LIST_ADD, ev.LIST_DEL) if event[5] == "free_list"]
    assert free_lists[:3] == [ev.LIST_ADD, ev.LIST_DEL, ev.LIST_ADD]


@EACH
def test_a_partly_free_block_is_used_before_one_that_came_later(version: type[V6_4]) -> None:
    """New blocks go to the tail of the list (since 4.1), or old ones would starve (row 13)."""
    outcome = alone(version, map_(0, 2), map_(1, 4), map_(2, 4), map_(3, 2))
    assert outcome.returned("vm_map_ram") == [0, 2, 8, 6]


@EACH
def test_a_block_whose_last_piece_is_freed_goes_lazy_and_its_space_comes_back_by_a_flush(version: type[V6_4]) -> None:
    dead = (map_(0, 4), map_(1, 4), unmap(0), unmap(1))
    assert alone(version, *dead, map_(2, 4)).returned("vm_map_ram")[2:] == [8], "still owed a flush"
    outcome = alone(version, *dead, ALIASES, map_(2, 4))
    assert outcome.returned("vm_map_ram")[2:] == [0]
    assert outcome.flushes("vm_unmap_aliases")[0] == (0, 8)


@EACH
def test_a_dead_block_is_freed_after_its_area_and_by_rcu(version: type[V6_4]) -> None:
    outcome = alone(version, map_(0, 4), map_(1, 4), unmap(0), unmap(1))
    order = [event[0] for event in outcome.events(ev.XA_ERASE, ev.TREE_INSERT, ev.KFREE_RCU) if event[1] == 1]
    assert order == [ev.TREE_INSERT, ev.XA_ERASE, ev.TREE_INSERT, ev.KFREE_RCU], "busy; erased, lazy, kfree_rcu"


@EACH
def test_more_pages_than_vmap_max_alloc_get_an_area_of_their_own(version: type[V6_4]) -> None:
    outcome = alone(version, map_(0, 4), map_(1, 5), unmap(1), ALIASES)
    assert outcome.returned("vm_map_ram") == [0, 8]
    blocks = [event for event in outcome.events(ev.OBJECT_ALLOC) if event[5] == "vmap_block"]
    assert len(blocks) == 1
    assert (8, 13) in outcome.flushes("vm_unmap_aliases")[:1]


@pytest.mark.parametrize("version", [version for version in VERSIONS if version is not V6_12])
def test_mapping_no_page_warns_and_then_dies_of_the_null_address(version: type[V6_4]) -> None:
    """Row 45: NULL is not IS_ERR, so vm_map_ram goes on with it."""
    outcome = alone(version, map_(0, 0))
    assert [event[0] for event in outcome.events(ev.WARN, ev.BUG)] == [ev.WARN, ev.BUG]
    assert outcome.checks == {"kernel-bug"}


def test_mapping_no_page_warns_and_fails_since_v6_10() -> None:
    outcome = alone(V6_12, map_(0, 0))
    assert [event[0] for event in outcome.events(ev.WARN, ev.BUG)] == [ev.WARN]
    assert outcome.returned("vm_map_ram") == [-1]


@EACH
def test_a_task_that_has_migrated_frees_into_the_block_it_mapped_from(version: type[V6_4]) -> None:
    outcome = scripted(version, on(0, map_(0, 4), map_(1, 2)), on(1, unmap(0), map_(2, 4)))
    assert outcome.returned("vm_map_ram") == [0, 4, 8], "CPU 1 has a list of its own"
    assert outcome.checks == set()


# -- purging ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [V6_4, Rfc3of3])
def test_until_v6_4_every_call_destroys_the_blocks_in_which_nothing_is_mapped(version: type[V6_4]) -> None:
    outcome = alone(version, map_(0, 4), unmap(0), ALIASES, map_(0, 4))
    assert outcome.returned("vm_map_ram") == [0, 0], "a new block at the same place"
    assert outcome.flushes("vm_unmap_aliases")[0] == (0, 8), "its never used tail was flushed too"


def test_v6_5_spares_a_block_with_a_quarter_free_and_purges_one_with_less() -> None:
    spared = alone(V6_5, map_(0, 4), map_(1, 2), unmap(0), unmap(1), ALIASES, map_(0, 1))
    assert spared.returned("vm_map_ram") == [0, 4, 6]
    assert spared.flushes("vm_unmap_aliases")[0] == (0, 6)
    purged = alone(V6_5, map_(0, 4), map_(1, 2), map_(2, 1), unmap(0), unmap(1), unmap(2), ALIASES, map_(0, 1))
    assert purged.returned("vm_map_ram") == [0, 4, 6, 0]
    assert purged.flushes("vm_unmap_aliases")[0] == (0, 8)


@EACH
def test_a_block_with_something_mapped_is_never_purged(version: type[V6_4]) -> None:
    outcome = alone(version, map_(0, 1), map_(1, 4), unmap(1), ALIASES, ALIASES, map_(1, 1))
    assert outcome.returned("vm_map_ram") == [0, 1, 5]


# -- dirty ranges -----------------------------------------------------------------------------------------------------


@EACH
def test_the_dirty_range_is_a_hull_that_covers_what_is_still_mapped_between(version: type[V6_4]) -> None:
    outcome = alone(version, map_(0, 1), map_(1, 1), map_(2, 1), unmap(0), unmap(2), ALIASES)
    assert outcome.flushes("vm_unmap_aliases")[0] == (0, 3)
    assert outcome.metrics["excess_pages"] >= 1


PINNED = (map_(0, 1), map_(1, 2), unmap(1))


def test_v6_4_flushes_the_dirty_range_of_a_pinned_block_at_every_call() -> None:
    outcome = alone(V6_4, *PINNED, ALIASES, ALIASES, ALIASES)
    assert outcome.flushes("vm_unmap_aliases")[:3] == [(1, 3)] * 3
    assert outcome.metrics["reflushed_pages"] >= 4


def test_v6_5_flushes_it_once() -> None:
    outcome = alone(V6_5, *PINNED, ALIASES, ALIASES, ALIASES)
    assert outcome.flushes("vm_unmap_aliases")[:2] == [(1, 3), (0, 1)], "the second one is the last page's, at the end"
    assert outcome.metrics["reflushed_pages"] == 0


def test_v6_5_collects_again_what_became_dirty_since() -> None:
    outcome = alone(V6_5, *PINNED, ALIASES, map_(2, 1), unmap(2), ALIASES)
    assert outcome.flushes("vm_unmap_aliases")[:2] == [(1, 3), (3, 4)]


@EACH
def test_one_flush_covers_blocks_lazy_areas_and_the_gaps_between_them(version: type[V6_4]) -> None:
    outcome = alone(version, map_(0, 1), map_(1, 1), map_(2, 8), map_(3, 5), unmap(1), unmap(3), ALIASES)
    assert outcome.returned("vm_map_ram") == [0, 1, 8, 16]
    assert outcome.flushes("vm_unmap_aliases")[0] == (1, 21)


@EACH
def test_a_call_with_nothing_to_flush_flushes_nothing(version: type[V6_4]) -> None:
    outcome = alone(version, map_(0, 4), ALIASES, unmap(0))
    assert len(outcome.flushes("vm_unmap_aliases")) == 1, "only the one at the end"


@EACH
def test_debug_pagealloc_flushes_at_once_and_again_later(version: type[V6_4]) -> None:
    """A masking mode: the full block's debt is paid before anybody can miss it."""
    full = (map_(0, 4), map_(1, 4), unmap(0))
    outcome = alone(version, *full, ALIASES, map_(2, 8), unmap(2), debug_pagealloc=True)
    assert outcome.flushes("vm_unmap_ram")[:2] == [(0, 4), (8, 16)]
    assert outcome.checks == set()
    assert outcome.metrics["reflushed_pages"] > 0
