# SPDX-License-Identifier: GPL-2.0-only
"""The metrics of a flush, and the checks that hold them to a limit."""

import pytest

from stressvmap.checks.costs import merge_metrics
from stressvmap.journal import events as ev
from tests.checks.recording import ALIASES, AREA, BITS, BLOCK, Recording


def counts(j: Recording, *names: str) -> tuple[int, ...]:
    j.verdict()
    metrics = j.state.metrics()
    return tuple(metrics[name] for name in names)


RANGES = ("flush_calls", "flushed_pages", "owed_pages", "excess_pages", "reflushed_pages")


def test_owed_is_taken_at_the_start_of_the_flush() -> None:
    j = Recording()
    j.map(1, AREA, 4)
    j.unmap(1, AREA, 2)
    flush = j.flush_begin(2, AREA, AREA + 6)
    j.clear(1, AREA + 2, 2)
    for cpu in (0, 1):
        j.invalidate(2, cpu, AREA, AREA + 6)
    j.flush_end(2, flush, AREA, AREA + 6)
    assert counts(j, *RANGES) == (1, 6, 2, 4, 0)


def test_a_page_owed_by_one_cpu_is_owed() -> None:
    j = Recording()
    j.map(1, AREA, 2)
    j.unmap(1, AREA, 2)
    j.flush(2, AREA, AREA + 2, cpus=[1])
    j.flush(2, AREA, AREA + 2)
    assert counts(j, *RANGES) == (2, 4, 4, 0, 0)


def test_a_page_flushed_since_its_unmapping_is_flushed_again_until_it_is_mapped() -> None:
    j = Recording()
    j.map(1, AREA, 2)
    j.unmap(1, AREA, 2)
    j.flush(2, AREA, AREA + 2)
    j.flush(2, AREA, AREA + 2)
    j.map(1, AREA, 1)
    j.flush(2, AREA, AREA + 2)
    assert counts(j, *RANGES) == (3, 6, 2, 4, 3)


def test_a_full_flush_counts_the_range_as_computed() -> None:
    j = Recording()
    j.map(1, AREA, 2)
    j.unmap(1, AREA, 2)
    j.add(ev.FLUSH_ARGS, 2, AREA, "", AREA + 40)
    j.add(ev.FLUSH_BEGIN, 2, 0, 1, ev.FULL_END)
    assert counts(j, *RANGES) == (1, 40, 2, 38, 0)


def test_a_senseless_range_flushes_no_pages() -> None:
    j = Recording()
    j.flush(1, (1 << 52) - 1, 0)
    assert counts(j, *RANGES) == (1, 0, 0, 0, 0)


# -- double counting --------------------------------------------------------------------------------------

DOUBLE = ("double_counted_blocks", "double_counted_dying_blocks")


def walked_then(j: Recording, *, killer: int, by_purge: bool) -> None:
    """Task 2's call reads a block's hull; the block dies by `killer`, is detached by task 2, and flushed."""
    block = j.block(1, free=4 if by_purge else 0, dirty=4)
    j.begin(2, ALIASES)
    j.collect(2, block, 0, 4)
    j.lock(killer, block)
    if by_purge:
        j.write(killer, block, free=0)
    j.write(killer, block, dirty=BITS)
    j.unlock(killer, block)
    j.lazy(killer, block + 1)
    j.detach(2)
    j.flush(2, BLOCK, BLOCK + BITS)
    j.end(2, ALIASES)


def test_a_block_purged_after_the_walk_is_counted_twice() -> None:
    j = Recording()
    walked_then(j, killer=2, by_purge=True)
    assert counts(j, *DOUBLE) == (1, 0)


def test_a_block_that_dies_by_its_last_vb_free_counts_too_and_apart() -> None:
    j = Recording()
    walked_then(j, killer=1, by_purge=False)
    assert counts(j, *DOUBLE) == (1, 1)


def test_a_block_purged_before_the_walk_is_counted_once() -> None:
    j = Recording()
    block = j.block(1, free=4, dirty=4)
    j.begin(2, ALIASES)
    j.lock(2, block)
    j.write(2, block, free=0, dirty=BITS)
    j.unlock(2, block)
    j.lazy(2, block + 1)
    j.detach(2)
    j.flush(2, BLOCK, BLOCK + BITS)
    j.end(2, ALIASES)
    assert counts(j, *DOUBLE) == (0, 0)


def test_a_block_that_became_lazy_after_the_detach_is_counted_once() -> None:
    j = Recording()
    block = j.block(1, free=0, dirty=4)
    j.begin(2, ALIASES)
    j.collect(2, block, 0, 4)
    j.detach(2)
    j.account(1, block, dirty=BITS)
    j.lazy(1, block + 1)
    j.flush(2, BLOCK, BLOCK + 4)
    j.end(2, ALIASES)
    assert counts(j, *DOUBLE) == (0, 0)


def test_a_block_keeps_its_identity_though_areas_coalesce_on_the_lazy_tree() -> None:
    j = Recording()
    survivor = j.area(1, BLOCK + BITS, BITS)
    block = j.block(1, free=0, dirty=4)
    j.begin(2, ALIASES)
    j.collect(2, block, 0, 4)
    j.account(1, block, dirty=BITS)
    j.add(ev.TREE_ERASE, 1, block + 1, "busy")
    j.add(ev.OBJECT_FREE, 1, block + 1, "vmap_area")
    j.add(ev.TREE_INSERT, 1, survivor, "lazy")
    j.detach(2)
    j.flush(2, BLOCK, BLOCK + 2 * BITS)
    j.end(2, ALIASES)
    assert counts(j, *DOUBLE) == (1, 1)


# -- holds, limits ----------------------------------------------------------------------------------------


def test_a_hold_counts_the_points_of_its_holder_only() -> None:
    j = Recording()
    j.lock(1, 9, "vmap_purge_lock")
    j.read(1, 5, x=1, y=2)
    j.read(2, 5, x=1)
    j.add(ev.LIST_ADD, 1, 5, "purge", 6)
    j.unlock(1, 9, "vmap_purge_lock")
    names = ("purge_lock_holds", "purge_lock_hold_points_max", "purge_lock_hold_points_total")
    assert counts(j, *names) == (1, 2, 2)


def costly(limits: dict[str, float]) -> Recording:
    j = Recording(limits=limits)
    j.map(1, AREA, 2)
    j.unmap(1, AREA, 2)
    j.flush(2, AREA, AREA + 2)
    j.lock(2, 9, "vmap_purge_lock")
    j.flush(2, AREA, AREA + 6)
    j.unlock(2, 9, "vmap_purge_lock")
    walked_then(j, killer=2, by_purge=True)
    return j


@pytest.mark.parametrize(
    ("name", "just_allowed"), [("excess-flush", 8), ("re-flush", 2), ("double-count", 1), ("lock-hold", 1)]
)
def test_a_cost_is_a_violation_only_above_a_limit(name: str, just_allowed: int) -> None:
    assert not costly({}).violations(name)
    assert not costly({name: just_allowed}).violations(name)
    assert len(costly({name: just_allowed - 1}).violations(name)) == 1


def test_metrics_of_two_runs_add_up_but_for_maxima() -> None:
    merged = merge_metrics(
        {"flush_calls": 2, "purge_lock_hold_points_max": 9}, {"flush_calls": 3, "purge_lock_hold_points_max": 4}
    )
    assert merged == {"flush_calls": 5, "purge_lock_hold_points_max": 9}
