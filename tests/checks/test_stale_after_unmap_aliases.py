# SPDX-License-Identifier: GPL-2.0-only
from stressvmap.journal import events as ev
from tests.checks.recording import ALIASES, AREA, BITS, BLOCK, DIRECT_MAP, Recording

NAME = "stale-after-unmap-aliases"


def mapped_and_unmapped() -> Recording:
    j = Recording()
    j.map(1, AREA, 2)
    j.unmap(1, AREA, 2)
    return j


def test_an_unflushed_page_whose_unmapping_had_returned_is_stale() -> None:
    j = mapped_and_unmapped()
    j.aliases(2)
    found = j.violation(NAME)
    assert found.pages is not None
    assert (found.pages.start, found.pages.end) == (AREA, AREA + 2)
    assert found.mechanism.calls == ("vm_unmap_ram", ALIASES)
    assert "CPUs 0, 1 may still translate" in found.message
    assert list(found.steps) == sorted(found.steps)


def test_a_flush_on_every_cpu_pays() -> None:
    j = mapped_and_unmapped()
    j.aliases(2, (AREA, AREA + 2))
    assert not j.violations(NAME)
    assert j.metric("obligations_checked") == 2


def test_a_flush_somebody_else_began_before_the_call_pays_as_well() -> None:
    j = mapped_and_unmapped()
    j.flush(1, AREA, AREA + 2)
    j.aliases(2)
    assert not j.violations(NAME)
    assert j.metric("obligations_checked") == 0


def test_an_invalidation_handled_before_the_pte_clear_does_not_count_there() -> None:
    j = Recording()
    j.map(1, AREA)
    flush = j.flush_begin(2, AREA, AREA + 1)
    j.invalidate(2, 0, AREA, AREA + 1)
    j.unmap(1, AREA)
    j.invalidate(2, 1, AREA, AREA + 1)
    j.flush_end(2, flush, AREA, AREA + 1)
    j.aliases(2)
    assert "CPU 0 can still translate" in j.violation(NAME).message


def test_an_invalidation_handled_after_the_pte_clear_counts_whenever_its_flush_began() -> None:
    j = Recording()
    j.map(1, AREA)
    flush = j.flush_begin(2, AREA, AREA + 1)
    j.unmap(1, AREA)
    for cpu in (0, 1):
        j.invalidate(2, cpu, AREA, AREA + 1)
    j.flush_end(2, flush, AREA, AREA + 1)
    j.aliases(2)
    assert not j.violations(NAME)


def test_a_page_whose_own_unmapping_had_not_returned_may_stay() -> None:
    j = Recording()
    j.map(1, AREA)
    j.begin(1, "vm_unmap_ram", AREA, 1)
    j.clear(1, AREA)
    j.begin(2, ALIASES)
    j.end(1, "vm_unmap_ram", AREA, 1)
    j.end(2, ALIASES)
    assert not j.violations(NAME)
    j.aliases(2)
    assert j.violations(NAME)


def test_one_cpu_that_did_not_answer_keeps_its_translation() -> None:
    j = mapped_and_unmapped()
    j.begin(2, ALIASES)
    j.flush(2, AREA, AREA + 2, cpus=[1])
    j.end(2, ALIASES)
    found = j.violation(NAME)
    assert found.mechanism.mechanism == "flushed on some CPUs only"
    assert "CPU 0 can" in found.message


def test_a_page_unmapped_flushed_and_mapped_again_owes_nothing() -> None:
    j = mapped_and_unmapped()
    j.flush(1, AREA, AREA + 2)
    j.map(1, AREA, 2)
    j.aliases(2)
    assert not j.violations(NAME)


def test_a_page_unmapped_again_owes_again() -> None:
    j = mapped_and_unmapped()
    j.flush(1, AREA, AREA + 2)
    j.map(1, AREA, 2)
    j.unmap(1, AREA, 2)
    j.aliases(2)
    assert j.violations(NAME)


def test_the_debts_of_a_cpu_that_went_offline_end() -> None:
    j = mapped_and_unmapped()
    j.add(ev.CPU_OFFLINE, 2, 0)
    j.begin(2, ALIASES)
    j.flush(2, AREA, AREA + 2, cpus=[1])
    j.end(2, ALIASES)
    assert not j.violations(NAME)


def test_a_prefix_that_a_failed_mapping_had_mapped_is_owed_once_the_call_returned() -> None:
    j = Recording()
    j.begin(1, "vm_map_ram", 0, 2)
    j.set_ptes(1, AREA)
    j.clear(1, AREA, 2)
    j.end(1, "vm_map_ram", 0, 2)
    j.aliases(2)
    assert j.violation(NAME).mechanism.calls == ("vm_unmap_ram", ALIASES)


def test_pages_cleared_in_no_call_at_all_are_nobodys_obligation() -> None:
    j = Recording()
    j.set_ptes(1, AREA)
    j.clear(1, AREA)
    j.aliases(2)
    assert not j.violations(NAME)


# -- roles and mechanisms ---------------------------------------------------------------------------------


def block_with_a_hole(free: int) -> tuple[Recording, int]:
    """A block of which two pages were unmapped and accounted."""
    j = Recording()
    block = j.block(1, free=free)
    j.map(1, BLOCK, 2)
    j.begin(1, "vm_unmap_ram", BLOCK, 2)
    j.clear(1, BLOCK, 2)
    j.account(1, block, dirty=2)
    j.end(1, "vm_unmap_ram", BLOCK, 2)
    return j, block


def role_and_mechanism(j: Recording) -> tuple[str, str]:
    mechanism = j.violation(NAME).mechanism
    return mechanism.role, mechanism.mechanism


def test_a_fully_used_block_that_the_walk_never_sees() -> None:
    j, _ = block_with_a_hole(free=0)
    j.aliases(2)
    assert role_and_mechanism(j) == ("fully used block", "never visited")


def test_a_listed_block_that_the_walk_leaves_out_is_another_bug() -> None:
    j, _ = block_with_a_hole(free=4)
    j.aliases(2)
    assert role_and_mechanism(j) == ("block on the free list", "never visited")


def test_a_purge_that_only_looked_at_a_block_did_not_visit_it() -> None:
    j, block = block_with_a_hole(free=4)
    j.begin(2, ALIASES)
    j.write(1, block, free=0)
    j.lock(2, block)
    j.read(2, block, free=0, dirty=2)
    j.unlock(2, block)
    j.end(2, ALIASES)
    assert role_and_mechanism(j) == ("fully used block", "never visited")


def test_a_block_looked_at_and_skipped() -> None:
    j, block = block_with_a_hole(free=4)
    j.begin(2, ALIASES)
    j.lock(2, block)
    j.read(2, block, dirty=2)
    j.unlock(2, block)
    j.end(2, ALIASES)
    assert role_and_mechanism(j) == ("block on the free list", "visited and skipped")


def test_a_block_collected_but_not_flushed() -> None:
    j, block = block_with_a_hole(free=4)
    j.begin(2, ALIASES)
    j.collect(2, block, 0, 2)
    j.end(2, ALIASES)
    assert role_and_mechanism(j) == ("block on the free list", "widened but not flushed")


def test_a_hull_that_another_call_took_and_has_not_flushed_yet() -> None:
    j, block = block_with_a_hole(free=4)
    j.begin(1, ALIASES)
    j.collect(1, block, 0, 2)
    j.write(1, block, dirty_min=BITS, dirty_max=0)
    j.begin(2, ALIASES)
    j.lock(2, block)
    j.read(2, block, dirty=2, dirty_max=0)
    j.unlock(2, block)
    j.end(2, ALIASES)
    assert role_and_mechanism(j) == ("block on the free list", "collected by another call that has not flushed yet")


def test_a_block_whose_last_piece_is_being_freed_is_one_bug_visited_or_not() -> None:
    fingerprints = set()
    for is_visited in (False, True):
        j, block = block_with_a_hole(free=0)
        j.begin(1, "vm_unmap_ram", BLOCK + 2, 6)
        j.account(1, block, dirty=BITS)
        j.begin(2, ALIASES)
        if is_visited:
            j.lock(2, block)
            j.read(2, block, dirty=BITS)
            j.unlock(2, block)
        j.detach(2)
        j.end(2, ALIASES)
        assert role_and_mechanism(j) == ("dying block", "neither dirty nor lazy")
        fingerprints.add(j.violation(NAME).fingerprint)
    assert len(fingerprints) == 1


def test_an_area_that_became_lazy_after_the_detach_is_still_the_dying_block() -> None:
    j, block = block_with_a_hole(free=0)
    j.begin(1, "vm_unmap_ram", BLOCK + 2, 6)
    j.account(1, block, dirty=BITS)
    j.begin(2, ALIASES)
    j.detach(2)
    j.lazy(1, block + 1)
    j.end(2, ALIASES)
    assert role_and_mechanism(j) == ("dying block", "neither dirty nor lazy")


def test_an_area_that_was_lazy_before_and_was_detached_but_not_flushed() -> None:
    j, block = block_with_a_hole(free=0)
    j.account(1, block, dirty=BITS)
    j.lazy(1, block + 1)
    j.begin(2, ALIASES)
    j.detach(2)
    j.end(2, ALIASES)
    assert role_and_mechanism(j) == ("lazy area", "detached but not flushed")


def test_a_lazy_area_that_the_call_never_detached() -> None:
    j = Recording()
    area = j.area(1, AREA, 9)
    j.map(1, AREA, 9)
    j.begin(1, "vm_unmap_ram", AREA, 9)
    j.clear(1, AREA, 9)
    j.lazy(1, area)
    j.end(1, "vm_unmap_ram", AREA, 9)
    j.aliases(2)
    assert role_and_mechanism(j) == ("lazy area", "left on the lazy list")


def test_two_mechanisms_in_one_call_are_two_violations() -> None:
    j, _ = block_with_a_hole(free=0)
    j.block(1, BLOCK + BITS, free=4)
    j.map(1, BLOCK + BITS)
    j.unmap(1, BLOCK + BITS)
    j.aliases(2)
    assert {found.mechanism.role for found in j.violations(NAME)} == {"fully used block", "block on the free list"}


def test_the_same_bug_elsewhere_has_the_same_fingerprint() -> None:
    one, _ = block_with_a_hole(free=0)
    one.aliases(2)
    other = Recording()
    other.aliases(1)
    other.block(2, BLOCK + 4 * BITS)
    other.map(2, BLOCK + 4 * BITS, 3)
    other.unmap(2, BLOCK + 4 * BITS, 3)
    other.aliases(1)
    assert one.violation(NAME).fingerprint == other.violation(NAME).fingerprint


# -- vfree of VM_FLUSH_RESET_PERMS ------------------------------------------------------------------------


def reset_vfree(*flushes: tuple[int, int]) -> Recording:
    j = Recording()
    direct = DIRECT_MAP[0] + 5
    j.map(1, AREA, 2, entry="vmalloc")
    j.begin(1, "vfree_reset", AREA, 2)
    j.clear(1, AREA, 2)
    j.clear(1, direct)
    for start, end in flushes:
        j.flush(1, start, end)
    j.set_ptes(1, direct)
    j.end(1, "vfree_reset", AREA, 2)
    return j


def test_a_reset_vfree_owes_its_area_and_its_direct_map_pages() -> None:
    found = reset_vfree().violations(NAME)
    assert {violation.mechanism.role for violation in found} == {"direct map page", "address space given back"}
    assert {violation.mechanism.calls for violation in found} == {("vfree_reset",)}


def test_a_reset_vfree_that_flushes_both_is_clean() -> None:
    direct = DIRECT_MAP[0] + 5
    assert not reset_vfree((AREA, AREA + 2), (direct, direct + 1)).violations(NAME)


def test_a_reset_vfree_that_misses_its_direct_map_page() -> None:
    found = reset_vfree((AREA, AREA + 2)).violation(NAME)
    assert (found.mechanism.role, found.mechanism.mechanism) == ("direct map page", "never flushed")


def test_vm_unmap_aliases_does_not_owe_the_direct_map() -> None:
    j = reset_vfree((AREA, AREA + 2))
    j.aliases(2)
    assert [found.mechanism.calls for found in j.violations(NAME)] == [("vfree_reset",)]


def test_a_reset_vfree_that_flushes_before_it_clears() -> None:
    j = Recording()
    direct = DIRECT_MAP[0] + 5
    j.begin(1, "vfree_reset", AREA, 2)
    j.flush(1, direct, direct + 1)
    j.clear(1, direct)
    j.end(1, "vfree_reset", AREA, 2)
    assert j.violation(NAME).mechanism.mechanism == "flushed before the clear"


def test_a_vmalloc_that_fails_and_resets_permissions_owes_what_a_reset_vfree_owes() -> None:
    j = Recording()
    j.begin(1, "vmalloc", 0, 2)
    j.clear(1, DIRECT_MAP[0])
    j.set_ptes(1, DIRECT_MAP[0])
    j.end(1, "vmalloc", 0, 2)
    assert j.violation(NAME).mechanism.calls == ("vfree_reset",)
