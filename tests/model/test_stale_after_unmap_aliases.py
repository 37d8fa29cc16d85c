# SPDX-License-Identifier: GPL-2.0-only
"""stale-after-unmap-aliases on model code: the two ways in which the kernel breaks it, mutants, and near misses."""

from __future__ import annotations

import pytest

from stressvmap.journal import events as ev
from stressvmap.kernel.slab import PTE_ALLOC
from stressvmap.program import Fault
from stressvmap.sched.replay import Run
from stressvmap.vmalloc.planted import ReleasesMutexBeforeFlush
from stressvmap.vmalloc.rfc_3of3 import Rfc3of3, Rfc3of3Patch
from stressvmap.vmalloc.v6_4 import V6_4
from stressvmap.vmalloc.v6_5 import V6_5
from stressvmap.vmalloc.v6_12 import V6_12
from tests.model.mutants import AccountsBeforeClear, FlushesOnCpu0, LeavesOutCpu1
from tests.model.world import (
    ALIASES,
    PAUSE,
    VERSIONS,
    Outcome,
    Until,
    alone,
    irq,
    map_,
    nth,
    offline,
    on,
    scripted,
    unmap,
    until_in,
    until_kind,
    until_pause,
)

CHECK = "stale-after-unmap-aliases"
FULL_BLOCK = ("fully used block", "never visited")
DYING_BLOCK = ("dying block", "neither dirty nor lazy")
FILL = (map_(0, 4), map_(1, 4))


@pytest.mark.parametrize("version", [V6_4, Rfc3of3])
def test_a_fully_used_block_is_off_the_list_and_its_dirty_pages_are_missed(version: type[V6_4]) -> None:
    outcome = alone(version, *FILL, unmap(0), ALIASES)
    found = outcome.only(CHECK)
    assert outcome.stories(CHECK) == {FULL_BLOCK}
    assert "CPUs 0, 1 may still translate pages [0x100000, 0x100004)" in found.message
    assert outcome.checks == {CHECK}


def test_a_fully_used_block_is_found_in_the_xarray_by_v6_5() -> None:
    outcome = alone(V6_5, *FILL, unmap(0), ALIASES)
    assert outcome.checks == set()
    assert outcome.flushes("vm_unmap_aliases")[0] == (0, 4)
    assert outcome.metrics["obligations_checked"] >= 4


@pytest.mark.parametrize("version", VERSIONS)
def test_a_block_with_free_space_left_is_flushed(version: type[V6_4]) -> None:
    outcome = alone(version, map_(0, 4), map_(1, 2), unmap(0), ALIASES)
    assert outcome.checks == set()
    assert outcome.flushes("vm_unmap_aliases")[0] == (0, 4)


def test_a_flush_of_everything_pays_for_the_full_block_too() -> None:
    program = (*FILL, unmap(0), map_(2, 8), unmap(2), ALIASES)
    assert alone(V6_4, *program).stories(CHECK) == {FULL_BLOCK}
    assert alone(V6_4, *program, full_flush_ceiling_pages=4).checks == set()


def test_the_rfc_on_v6_5_walks_the_lists_again_and_so_misses_the_full_block_again() -> None:
    """A fix of row 42 that did so was queued upstream; a reviewer caught it by eye."""

    class RfcOnV65(Rfc3of3Patch, V6_5):
        NAME = "rfc-on-v6.5"

    regressed = alone(RfcOnV65, *FILL, unmap(0), ALIASES)
    assert regressed.fingerprints(CHECK) == alone(V6_4, *FILL, unmap(0), ALIASES).fingerprints(CHECK)
    assert regressed.fingerprints(CHECK).isdisjoint(known.fingerprint for known in RfcOnV65.known)


def dies_at(kind: int, *lock_classes: str) -> Until:
    """The task that frees a dead block is about to do this to one of these locks: each version has its own."""
    return lambda task: (
        task.function in ("free_vmap_block", "free_vmap_area_noflush")
        and task.pending_kind == kind
        and task.pending_field in lock_classes
    )


DYING_WINDOWS = {
    "latched": until_kind(ev.XA_ERASE),
    "erased from the index": dies_at(ev.LOCK, "vmap_area_lock", "vn->busy.lock"),
    "unlinked": until_in("free_vmap_area_noflush", ev.ATOMIC),
    "counted as lazy": dies_at(ev.LOCK, "purge_vmap_area_lock", "vn->lazy.lock"),
}


def dying(version: type[V6_4], window: Until) -> Outcome:
    """Task 1 frees both halves of a block, and stops in the second vb_free; task 2 calls vm_unmap_aliases meanwhile."""
    return scripted(
        version, on(0, *FILL, unmap(0), unmap(1)), on(1, ALIASES), script=[Run(1, window), Run(2)], window_blocks=4
    )


@pytest.mark.parametrize("window", DYING_WINDOWS)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_dying_block_takes_the_debts_of_its_earlier_unmaps_out_of_sight(version: type[V6_4], window: str) -> None:
    outcome = dying(version, DYING_WINDOWS[window])
    assert outcome.stories(CHECK) == {DYING_BLOCK}
    assert "pages [0x100000, 0x100004)" in outcome.only(CHECK).message


def test_the_dying_block_is_one_bug_wherever_it_was_met_and_another_than_the_full_block() -> None:
    met = {
        fingerprint
        for version in VERSIONS
        for window in DYING_WINDOWS
        for fingerprint in dying(version, DYING_WINDOWS[window]).fingerprints(CHECK)
    }
    assert len(met) == 1
    assert met.isdisjoint(alone(V6_4, *FILL, unmap(0), ALIASES).fingerprints(CHECK))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_block_that_died_before_the_call_is_flushed_as_a_lazy_area(version: type[V6_4]) -> None:
    outcome = dying(version, dies_at(ev.UNLOCK, "purge_vmap_area_lock", "vn->lazy.lock"))
    assert outcome.checks == set()
    assert outcome.flushes("vm_unmap_aliases") == [(0, 8)]


def test_a_block_that_goes_lazy_on_a_node_that_was_passed_is_the_same_dying_block() -> None:
    """v6.12 looks at the nodes in turn: the block goes on a list that was seen empty, then the next one is locked."""
    outcome = scripted(
        V6_12,
        on(0, *FILL, unmap(0), unmap(1)),
        on(1, map_(2, 8), unmap(2), ALIASES),
        script=[
            Run(1, DYING_WINDOWS["counted as lazy"]),
            Run(2, nth(2, until_kind(ev.READ_ONCE, "lazy.root"))),
            Run(1),
            Run(2),
        ],
    )
    assert outcome.flushes("vm_unmap_aliases")[0] == (8, 16), "the area of the other node"
    assert outcome.stories(CHECK) == {DYING_BLOCK}


def test_v6_5_sees_a_block_that_dies_right_after_the_walk_has_visited_it() -> None:
    outcome = scripted(
        V6_5,
        on(0, *FILL, unmap(0), unmap(1)),
        on(1, ALIASES),
        script=[
            Run(1, nth(2, until_in("vb_free", ev.XA_LOAD))),
            Run(2, until_in("_vm_unmap_aliases", ev.UNLOCK, "vb->lock")),
            Run(1, until_in("vb_free", ev.LOCK, "vb->lock")),
            Run(2),
        ],
    )
    assert outcome.of(CHECK) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_page_whose_own_unmap_had_not_returned_when_the_call_began_may_stay(version: type[V6_4]) -> None:
    outcome = scripted(
        version,
        on(0, map_(0, 2), unmap(0)),
        on(1, ALIASES),
        script=[Run(1, until_kind(ev.PTE_CLEAR)), Run(1, until_in("vb_free", ev.LOCK, "vb->lock")), Run(2)],
    )
    assert outcome.checks == set()


# -- when an invalidation counts --------------------------------------------------------------------------------------

# Task 1 flushes everything on CPU 0; CPU 1 answers when its line comes. Task 2 unmaps on CPU 2, and its call, which
# does nothing itself, must find the debt paid.


def flushed_around_a_clear(*script: Run) -> Outcome:
    return scripted(
        FlushesOnCpu0,
        on(0, map_(0, 2), ALIASES),
        on(2, unmap(0), PAUSE, ALIASES),
        script=[Run(1, until_in("vm_unmap_aliases", ev.IPI_SEND)), *script],
        deaf=[1],
        cpus=3,
    )


ALL_SENT = Run(1, until_in("vm_unmap_aliases", ev.TLB_INVALIDATE))
UNMAPPED = Run(2, until_pause)
CPU1_ANSWERS = Run(irq(1))
FLUSH_ENDS = Run(1)
CALLED = Run(2)


def test_a_flush_begun_before_the_clear_pays_where_it_is_handled_after_it() -> None:
    outcome = flushed_around_a_clear(UNMAPPED, ALL_SENT, CPU1_ANSWERS, FLUSH_ENDS, CALLED)
    assert outcome.of(CHECK) == []
    assert outcome.metrics["owed_pages"] == 0, "nothing was owed when the flush began"


def test_an_invalidation_that_a_cpu_handled_before_the_clear_does_not_count_there() -> None:
    outcome = flushed_around_a_clear(ALL_SENT, CPU1_ANSWERS, UNMAPPED, FLUSH_ENDS, CALLED)
    found = outcome.only(CHECK)
    assert found.message.startswith("CPUs 1, 2 may still translate"), "CPU 0 handled it after the clear"


def test_a_flush_that_one_cpu_has_not_answered_has_not_happened_there_while_other_tasks_go_on() -> None:
    outcome = flushed_around_a_clear(UNMAPPED, ALL_SENT, Run(1), CALLED, CPU1_ANSWERS)
    assert outcome.only(CHECK).message.startswith("CPU 1 can still translate")


def test_the_answer_of_that_cpu_just_before_the_call_returns_pays() -> None:
    outcome = flushed_around_a_clear(UNMAPPED, ALL_SENT, Run(1), CPU1_ANSWERS, CALLED)
    assert outcome.of(CHECK) == []


def test_a_page_unmapped_flushed_and_mapped_again_owes_nothing() -> None:
    outcome = alone(V6_4, map_(0, 2), unmap(0), ALIASES, map_(0, 2), ALIASES, unmap(0), ALIASES)
    assert outcome.returned("vm_map_ram") == [0, 0], "the same address"
    assert outcome.checks == set()
    assert outcome.metrics["obligations_checked"] == 4, (
        "two pages at the first call, none at the second, two at the third"
    )


@pytest.mark.parametrize("version", [V6_4, Rfc3of3])
def test_a_prefix_that_a_failed_vm_map_ram_had_mapped_is_owed_once_the_call_returned(version: type[V6_4]) -> None:
    outcome = alone(version, map_(0, 4), map_(1, 4), ALIASES, faults=[Fault(PTE_ALLOC, 1, 6)])
    assert outcome.returned("vm_map_ram") == [0, -1]
    assert outcome.stories(CHECK) == {FULL_BLOCK}
    assert "pages [0x100004, 0x100006)" in outcome.only(CHECK).message


def test_v6_5_flushes_the_prefix_of_a_failed_vm_map_ram() -> None:
    outcome = alone(V6_5, map_(0, 4), map_(1, 4), ALIASES, faults=[Fault(PTE_ALLOC, 1, 6)])
    assert outcome.checks == set()
    assert outcome.flushes("vm_unmap_aliases")[0] == (4, 8)


def test_a_prefix_is_not_owed_while_the_failing_vm_map_ram_has_not_returned() -> None:
    outcome = scripted(
        V6_4,
        on(0, map_(0, 4), map_(1, 4)),
        on(1, ALIASES),
        script=[Run(1, nth(2, until_in("vb_free", ev.LOCK, "vb->lock"))), Run(2)],
        faults=[Fault(PTE_ALLOC, 1, 6)],
    )
    assert outcome.of(CHECK) == []
    assert any(event[4] == 0x100004 for event in outcome.events(ev.PTE_CLEAR)), "the prefix was cleared before"


def test_the_debts_of_a_cpu_that_goes_offline_end() -> None:
    outcome = alone(V6_4, *FILL, unmap(0), offline(1), ALIASES)
    assert outcome.only(CHECK).message.startswith("CPU 0 can still translate")


# -- mutants ----------------------------------------------------------------------------------------------------------


def two_flushers(version: type[V6_5]) -> Outcome:
    """Task 1 has collected and reset a dirty range, and is about to flush it; task 2 calls meanwhile."""
    return scripted(
        version,
        on(0, map_(0, 4), map_(1, 2), unmap(0), ALIASES),
        on(1, ALIASES),
        script=[Run(1, until_in("_vm_unmap_aliases", ev.RCU_READ_UNLOCK)), Run(2)],
    )


def test_a_mutex_released_between_reset_and_flush_lets_a_second_call_find_nothing() -> None:
    outcome = scripted(
        ReleasesMutexBeforeFlush,
        on(0, map_(0, 4), map_(1, 2), unmap(0), ALIASES),
        on(1, ALIASES),
        script=[Run(1, until_in("free_purged_blocks", ev.LOCK, "vmap_purge_lock")), Run(2)],
    )
    assert outcome.stories(CHECK) == {("block on the free list", "collected by another call that has not flushed yet")}


def test_the_mutex_held_from_reset_to_flush_makes_the_second_call_wait() -> None:
    outcome = two_flushers(V6_5)
    assert outcome.checks == set()
    assert outcome.metrics["obligations_checked"] == 8 + 2, "both calls owed the four pages, the last one two"


def test_a_list_that_the_walk_leaves_out_is_told_apart_from_the_full_block() -> None:
    program = (map_(0, 4), map_(1, 2), unmap(0), ALIASES)
    mutant = scripted(LeavesOutCpu1, on(1, *program))
    assert mutant.stories(CHECK) == {("block on the free list", "never visited")}
    assert scripted(LeavesOutCpu1, on(0, *program)).checks == set()
    assert scripted(V6_4, on(1, *program)).checks == set()
    full_block = alone(V6_4, *FILL, unmap(0), ALIASES)
    assert mutant.fingerprints(CHECK).isdisjoint(full_block.fingerprints(CHECK))


@pytest.mark.parametrize("later", [2, 3], ids=["by the same task", "by another task"])
def test_pages_accounted_for_and_collected_before_they_were_cleared_are_in_no_range_whoever_collected(
    later: int,
) -> None:
    """That call has flushed and returned: it is not one that still has to flush."""
    program = [on(0, map_(0, 4), map_(1, 2), unmap(0)), on(1, ALIASES, PAUSE, *([ALIASES] if later == 2 else []))]
    if later == 3:
        program.append(on(2, ALIASES))
    outcome = scripted(
        AccountsBeforeClear,
        *program,
        script=[Run(1, until_in("vb_free", ev.PTE_CLEAR)), Run(2, until_pause), Run(1), Run(later)],
        cpus=3,
    )
    assert outcome.stories(CHECK) == {("block on the free list", "visited, but its dirty range left the page out")}
    told = outcome.of(CHECK)[0].message
    assert "worker/2 (task 2, CPU 1) in _vm_unmap_aliases: has collected the dirty range of vmap_block 1.1" in told
    assert told.index("has collected") < told.index("clears the PTEs") < told.index("calls vm_unmap_aliases()")
