# SPDX-License-Identifier: GPL-2.0-only
"""flush-range-sanity and range-computed-unlocked."""

import pytest

from stressvmap.journal import events as ev
from tests.checks.recording import ALIASES, BITS, BLOCK, DIRECT_MAP, WINDOW, Recording

SANITY = "flush-range-sanity"
UNLOCKED = "range-computed-unlocked"
MUTEX = "vmap_purge_lock"


def test_a_range_that_starts_after_its_end() -> None:
    j = Recording()
    j.begin(1, "vfree_reset", BLOCK, 1)
    j.flush(1, (1 << 52) - 1, 0)
    found = j.violation(SANITY)
    assert (found.mechanism.calls, found.mechanism.mechanism) == (("vfree_reset",), "start after end")


def test_a_range_outside_the_window() -> None:
    j = Recording()
    j.begin(1, ALIASES)
    j.flush(1, WINDOW[0], WINDOW[1] + 1)
    assert j.violation(SANITY).mechanism.mechanism == "outside the space"


def test_ranges_in_the_window_or_the_direct_map_and_empty_ones_are_sane() -> None:
    j = Recording()
    j.flush(1, *WINDOW)
    j.flush(1, DIRECT_MAP[0], DIRECT_MAP[0] + 1)
    j.flush(1, WINDOW[0], WINDOW[0])
    assert not j.violations(SANITY)


def test_only_a_call_that_cleared_direct_map_pages_may_flush_from_there_to_the_window() -> None:
    for is_cleared, count in ((True, 0), (False, 1)):
        j = Recording()
        j.begin(1, "vfree_reset")
        if is_cleared:
            j.clear(1, DIRECT_MAP[0])
        j.flush(1, DIRECT_MAP[0], WINDOW[0] + 4)
        assert len(j.violations(SANITY)) == count


# -- the claim of the patch -------------------------------------------------------------------------------


def test_a_hull_read_without_the_mutex_and_flushed_in_the_same_call() -> None:
    j = Recording()
    block = j.block(1, free=4, dirty=2)
    j.begin(2, ALIASES)
    j.collect(2, block, 0, 2)
    j.lock(2, 9, MUTEX)
    j.flush(2, BLOCK, BLOCK + 2)
    j.unlock(2, 9, MUTEX)
    found = j.violation(UNLOCKED)
    assert found.mechanism.calls == (ALIASES,)
    assert found.mechanism.locks == ("vb->lock",)
    assert "reads dirty_min = 0" in found.message


def test_a_hull_read_under_the_mutex_is_what_the_patch_promises() -> None:
    j = Recording()
    block = j.block(1, free=4, dirty=2)
    j.begin(2, ALIASES)
    j.lock(2, 9, MUTEX)
    j.collect(2, block, 0, 2)
    j.flush(2, BLOCK, BLOCK + 2)
    j.unlock(2, 9, MUTEX)
    assert not j.violations(UNLOCKED)


def test_a_full_flush_does_not_hide_the_range_as_computed() -> None:
    j = Recording()
    block = j.block(1, free=4, dirty=2)
    j.begin(2, ALIASES)
    j.collect(2, block, 0, 2)
    j.add(ev.FLUSH_ARGS, 2, BLOCK, "", BLOCK + 2)
    j.add(ev.FLUSH_BEGIN, 2, 0, 1, ev.FULL_END)
    assert j.violations(UNLOCKED)


def test_what_vb_free_reads_after_its_debug_pagealloc_flush_counts_for_no_flush() -> None:
    j = Recording()
    block = j.block(1, free=4)
    j.map(1, BLOCK, 2)
    j.begin(1, "vm_unmap_ram", BLOCK, 2)
    j.clear(1, BLOCK, 2)
    j.flush(1, BLOCK, BLOCK + 2)
    j.collect(1, block, 0, 2)
    j.end(1, "vm_unmap_ram", BLOCK, 2)
    assert not j.violations(UNLOCKED)


@pytest.mark.parametrize(("low", "high", "is_collected"), [(0, 6, False), (1, 5, False), (BITS, 0, True), (2, 4, True)])
def test_reading_the_range_to_widen_it_is_no_collecting(low: int, high: int, *, is_collected: bool) -> None:
    """vb_free: dirty_min = min(dirty_min, offset), and so on; a reset narrows it, and whoever resets has collected."""
    j = Recording()
    block = j.block(1, free=2, dirty=4)
    j.begin(2, "vm_unmap_ram", BLOCK, 2)
    j.lock(2, block)
    j.add(ev.READ, 2, block, "dirty_min", 1)
    j.add(ev.WRITE, 2, block, "dirty_min", low)
    j.add(ev.READ, 2, block, "dirty_max", 5)
    j.add(ev.WRITE, 2, block, "dirty_max", high)
    j.unlock(2, block)
    j.flush(2, BLOCK, BLOCK + BITS)
    assert bool(j.violations(UNLOCKED)) is is_collected


def test_a_range_read_in_an_earlier_hold_of_the_lock_stays_collected() -> None:
    """v6.4: the walk reads it without the mutex; the purge of the same call then writes it whole."""
    j = Recording()
    block = j.block(1, free=4, dirty=4)
    j.begin(2, ALIASES)
    j.collect(2, block, 1, 5)
    j.lock(2, block)
    j.write(2, block, dirty_min=0, dirty_max=BITS)
    j.unlock(2, block)
    j.flush(2, BLOCK, BLOCK + BITS)
    assert j.violations(UNLOCKED)


def test_an_empty_hull_and_one_outside_the_range_do_not_count() -> None:
    j = Recording()
    one, two = j.block(1, free=4), j.block(1, BLOCK + BITS, free=4)
    j.begin(2, ALIASES)
    j.collect(2, one, BITS, 0)
    j.collect(2, two, 0, 4)
    j.flush(2, BLOCK, BLOCK + BITS)
    assert not j.violations(UNLOCKED)


def test_what_an_earlier_call_read_does_not_count() -> None:
    j = Recording()
    block = j.block(1, free=4, dirty=2)
    j.begin(2, ALIASES)
    j.collect(2, block, 0, 2)
    j.end(2, ALIASES)
    j.aliases(2, (BLOCK, BLOCK + 2))
    assert not j.violations(UNLOCKED)
