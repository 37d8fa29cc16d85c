# SPDX-License-Identifier: GPL-2.0-only
"""reuse-before-flush, stale-access and overlapping-mapping on model code."""

from __future__ import annotations

import pytest

from stressvmap.journal import events as ev
from stressvmap.sched.replay import Run
from stressvmap.vmalloc.planted import MergesBeforeFlush
from stressvmap.vmalloc.rfc_3of3 import Rfc3of3
from stressvmap.vmalloc.v6_4 import V6_4
from stressvmap.vmalloc.v6_5 import V6_5
from tests.model.mutants import AllocatesUnlocked, PurgesLiveBlocks, ReusesDirtySpace
from tests.model.world import (
    ALIASES,
    PAUSE,
    VERSIONS,
    Outcome,
    Until,
    alone,
    map_,
    on,
    probe,
    scripted,
    touch,
    unmap,
    until_in,
    until_kind,
    until_pause,
)

REUSE = "reuse-before-flush"
STALE = "stale-access"
OVERLAP = "overlapping-mapping"


def mapped_during_a_purge(version: type[V6_4], moment: Until) -> Outcome:
    """Task 1 purges a lazy area, and stops in it; task 2, which has the area's old pages in its TLB, maps as much."""
    return scripted(
        version,
        on(0, map_(0, 8), PAUSE, unmap(0), ALIASES),
        on(1, touch(0), PAUSE, map_(1, 8), touch(1)),
        script=[Run(1, until_pause), Run(2, until_pause), Run(1, moment), Run(2)],
    )


FLUSHING = until_in("__purge_vmap_area_lazy", ev.IPI_SEND)


def test_an_area_merged_before_its_flush_is_handed_out_too_early_and_read_through_a_stale_translation() -> None:
    outcome = mapped_during_a_purge(MergesBeforeFlush, FLUSHING)
    assert outcome.stories(REUSE) == {("area", "handed out before its flush")}
    assert outcome.stories(STALE) == {("area", "handed out before its flush")}
    assert outcome.checks == {REUSE, STALE}


@pytest.mark.parametrize("version", VERSIONS)
def test_an_area_flushed_before_it_is_merged_is_not(version: type[V6_4]) -> None:
    outcome = mapped_during_a_purge(version, FLUSHING)
    assert outcome.checks == set()
    first, second = outcome.returned("vm_map_ram")
    assert first != second, "the second mapping came before the first one's space was back"


def test_a_mapping_made_right_after_the_merge_gets_the_same_space_and_reads_its_own_pages() -> None:
    outcome = mapped_during_a_purge(V6_4, until_in("__purge_vmap_area_lazy", ev.READ_ONCE))
    assert outcome.checks == set()


def test_a_block_that_takes_dirty_space_back_reuses_it_before_its_flush() -> None:
    outcome = alone(ReusesDirtySpace, map_(0, 4), map_(1, 2), unmap(1), map_(2, 2))
    assert outcome.stories(REUSE) == {("block", "mapped again inside its block before its flush")}
    assert ("vmap_block", "free increased") in outcome.stories("accounting")


@pytest.mark.parametrize("version", VERSIONS)
def test_freed_space_of_a_block_is_never_handed_out_again_before_the_block_dies(version: type[V6_4]) -> None:
    outcome = alone(version, map_(0, 4), map_(1, 2), unmap(1), map_(2, 2))
    assert outcome.returned("vm_map_ram") == [0, 4, 6]
    assert outcome.of(REUSE) == []


# -- the witness ------------------------------------------------------------------------------------------------------

FULL = (map_(0, 4), map_(1, 4), touch(0), unmap(0))
NEW_OWNER = map_(2, 4)


@pytest.mark.parametrize("version", [V6_4, Rfc3of3])
def test_a_stale_entry_of_a_full_block_is_read_into_the_pages_of_a_new_owner(version: type[V6_4]) -> None:
    outcome = alone(version, *FULL, ALIASES, NEW_OWNER, probe(0))
    assert outcome.stories(STALE) == {("fully used block", "never visited")}
    message = outcome.of(STALE)[0].message
    assert "gets a new owner" in message
    assert "vm_unmap_aliases returns, having owed" in message


def test_v6_5_leaves_no_stale_entry_to_read_through() -> None:
    outcome = alone(V6_5, *FULL, ALIASES, NEW_OWNER, probe(0))
    assert outcome.checks == set()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_stale_read_is_legal_as_long_as_nobody_asked_for_a_flush(version: type[V6_4]) -> None:
    outcome = alone(version, *FULL, NEW_OWNER, probe(0))
    assert outcome.of(STALE) == []
    assert any(event[6] for event in outcome.events(ev.TLB_READ)), "it was read through the TLB"


# -- overlaps ---------------------------------------------------------------------------------------------------------


def two_allocate(version: type[V6_4]) -> Outcome:
    """Two tasks on one CPU map from one block; the first is stopped when it is about to lower `free`."""
    return scripted(
        version,
        on(0, map_(0, 1), PAUSE, map_(1, 1)),
        on(0, map_(2, 1)),
        script=[Run(1, until_pause), Run(1, until_in("vb_alloc", ev.RCU_READ_UNLOCK)), Run(2)]
        if version is not AllocatesUnlocked
        else [Run(1, until_pause), Run(1, until_in("vb_alloc", ev.WRITE, "free")), Run(2)],
    )


def test_a_block_allocated_from_without_its_lock_gives_one_page_to_two_callers() -> None:
    outcome = two_allocate(AllocatesUnlocked)
    assert ("block", "mapped over a present PTE") in outcome.stories(OVERLAP)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_block_allocated_from_under_its_lock_gives_each_caller_its_own(version: type[V6_4]) -> None:
    outcome = two_allocate(version)
    assert outcome.checks == set()
    assert sorted(outcome.returned("vm_map_ram")) == [0, 1, 2]


def test_a_live_block_that_is_purged_is_handed_out_while_it_is_mapped() -> None:
    outcome = alone(PurgesLiveBlocks, map_(0, 4), ALIASES, map_(1, 4))
    assert OVERLAP in outcome.checks
    assert outcome.returned("vm_map_ram")[0] == 0


def test_two_tasks_that_want_the_same_hole_get_different_ones() -> None:
    outcome = scripted(
        V6_4,
        on(0, map_(0, 8)),
        on(1, map_(1, 8)),
        script=[Run(1, until_kind(ev.TREE_ERASE, "free")), Run(2)],
    )
    assert outcome.checks == set()
    assert sorted(outcome.returned("vm_map_ram")) == [0, 8]
