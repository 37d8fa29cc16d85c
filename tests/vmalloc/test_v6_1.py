# SPDX-License-Identifier: GPL-2.0-only
"""What v6.1 does otherwise than later versions, one task alone."""

from __future__ import annotations

import pytest

from stressvmap.journal import events as ev
from stressvmap.runtime.task import BugOn
from stressvmap.vmalloc.backend import ModelBackend
from stressvmap.vmalloc.rfc_3of3 import Rfc3of3OnV6_1
from stressvmap.vmalloc.v6_1 import V6_1
from stressvmap.vmalloc.v6_4 import V6_4
from tests.model.world import ALIASES, WINDOW, alone, map_, unmap, vfree, vmalloc, vmalloc_reset

TWO_HALVES = (map_(0, 4), map_(1, 4), ALIASES, unmap(0), ALIASES, unmap(1), ALIASES)


def test_a_piece_of_a_full_block_is_flushed_only_when_the_block_is_dead() -> None:
    outcome = alone(V6_1, *TWO_HALVES)
    assert outcome.flushes("vm_unmap_aliases") == [(0, 8)]
    assert outcome.checks == {"stale-after-unmap-aliases"}


def test_the_rfc_changes_nothing_about_that() -> None:
    ours, theirs = alone(Rfc3of3OnV6_1, *TWO_HALVES), alone(V6_1, *TWO_HALVES)
    assert ours.flushes("vm_unmap_aliases") == theirs.flushes("vm_unmap_aliases")
    assert ours.fingerprints("stale-after-unmap-aliases") == theirs.fingerprints("stale-after-unmap-aliases")


def test_all_blocks_are_in_one_xarray() -> None:
    outcome = alone(V6_1, map_(0, 4), map_(1, 4), map_(2, 4), map_(3, 4), map_(4, 4))
    assert len({event[4] for event in outcome.events(ev.XA_STORE)}) == 1
    assert outcome.checks == set()


def test_a_block_has_no_used_map_and_is_locked_once_when_a_piece_is_freed() -> None:
    outcome = alone(V6_1, map_(0, 4), unmap(0))
    assert not [event for event in outcome.events(ev.WRITE, ev.READ) if event[5] == "used_map"]
    locks = [event for event in outcome.events(ev.LOCK) if event[3] == "vb_free"]
    assert [event[5] for event in locks] == ["vb->lock"]
    assert locks[0] in outcome.journal.events[outcome.journal.events.index(outcome.events(ev.PTE_CLEAR)[-1]) :]


def test_an_area_leaves_the_busy_tree_after_its_ptes_were_cleared() -> None:
    outcome = alone(V6_1, map_(0, 8), unmap(0))
    order = [
        (event[0], event[5])
        for event in outcome.events(ev.TREE_FIND, ev.UNMAP_END, ev.TREE_ERASE, ev.TREE_INSERT)
        if event[1] == 1 and event[5] in ("busy", "lazy", "")
    ]
    assert order == [
        (ev.TREE_INSERT, "busy"),
        (ev.TREE_FIND, "busy"),
        (ev.UNMAP_END, ""),
        (ev.TREE_ERASE, "busy"),
        (ev.TREE_INSERT, "lazy"),
    ]


def test_an_unmap_of_nothing_dies() -> None:
    with pytest.raises(BugOn, match="no area at that address"):
        alone(V6_1, prepare=lambda backend: backend.vmalloc.vm_unmap_ram((WINDOW + 32) << 12, 8))


def test_a_vfree_finds_its_area_twice_and_resets_in_one_hull() -> None:
    outcome = alone(V6_1, vmalloc(0, 2), vmalloc_reset(1, 1), vfree(0), vfree(1))
    finds = [event for event in outcome.events(ev.TREE_FIND) if event[1] == 1]
    assert [event[3] for event in finds] == ["find_vmap_area", "remove_vm_area"] * 2
    ((_, start, end),) = outcome.flush_calls()[:1]
    assert start < WINDOW < end
    assert outcome.checks == set()


def test_under_the_rfc_a_vfree_with_reset_flushes_direct_map_and_area_apart() -> None:
    outcome = alone(Rfc3of3OnV6_1, vmalloc_reset(0, 2), vfree(0))
    ranges = [(entry, end - start) for entry, start, end in outcome.flush_calls()]
    assert ranges == [("vfree_reset", 2), ("vfree_reset", 3), ("vm_unmap_aliases", 3)]


@pytest.mark.parametrize(("version", "flushes"), [(V6_1, [(0, 16)]), (V6_4, [(0, 16), (0, 1)])])
def test_a_purge_that_freed_nothing_for_overlaps_says_there_was_something_and_is_not_made_up_for(
    version: type[V6_4], flushes: list[tuple[int, int]]
) -> None:
    """From v6.2 on it counts what it freed, and the caller flushes again."""

    def prepare(backend: ModelBackend) -> None:
        backend.vmalloc.free_vmap_area_root.merge_or_add = lambda area: None  # type: ignore[method-assign]

    outcome = alone(version, map_(0, 1), map_(1, 1), map_(2, 8), unmap(0), unmap(2), ALIASES, prepare=prepare)
    assert outcome.flushes("vm_unmap_aliases")[: len(flushes)] == flushes
    assert outcome.flushes("vm_unmap_aliases")[len(flushes)] != (0, 1)
