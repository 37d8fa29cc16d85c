# SPDX-License-Identifier: GPL-2.0-only
"""reuse-before-flush, stale-access and overlapping-mapping."""

from stressvmap.journal import events as ev
from tests.checks.recording import AREA, BLOCK, DIRECT_MAP, Recording

REUSE = "reuse-before-flush"
WITNESS = "stale-access"
OVERLAP = "overlapping-mapping"


def given_back() -> Recording:
    j = Recording()
    j.area(1, AREA, 4)
    j.map(1, AREA, 4)
    j.unmap(1, AREA, 4)
    j.add(ev.SPACE_BACK, 1, AREA, "", AREA + 4)
    return j


def test_space_handed_out_again_before_its_flush() -> None:
    j = given_back()
    j.area(2, AREA, 4)
    j.map(2, AREA, 4)
    found = j.violation(REUSE)
    assert (found.mechanism.role, found.mechanism.mechanism) == ("area", "handed out before its flush")


def test_space_handed_out_after_its_flush_is_clean() -> None:
    j = given_back()
    j.flush(1, AREA, AREA + 4)
    j.area(2, AREA, 4)
    j.map(2, AREA, 4)
    assert not j.violations(REUSE)


def test_space_handed_out_while_one_cpu_has_not_answered() -> None:
    j = given_back()
    j.flush(1, AREA, AREA + 4, cpus=[0])
    j.area(2, AREA, 4)
    assert "while CPU 1 may still translate" in j.violation(REUSE).message


def test_a_block_that_maps_its_own_dirty_space_again() -> None:
    j = Recording()
    j.block(1, free=4)
    j.map(1, BLOCK)
    j.unmap(1, BLOCK)
    j.map(1, BLOCK)
    found = j.violation(REUSE)
    assert (found.mechanism.role, found.mechanism.mechanism) == (
        "block",
        "mapped again inside its block before its flush",
    )


def test_the_direct_map_is_never_handed_out() -> None:
    j = Recording()
    j.clear(1, DIRECT_MAP[0])
    j.set_ptes(1, DIRECT_MAP[0])
    assert not j.violations(REUSE)


# -- the witness ------------------------------------------------------------------------------------------


def cached_and_unmapped() -> tuple[Recording, int]:
    """CPU 1 has cached the page's translation; the page is unmapped and its frame belongs to somebody else."""
    j = Recording()
    j.add(ev.FRAME_OWNER, 1, 0x77, "", 1)
    j.begin(1, "vm_map_ram", 0, 1)
    j.set_ptes(1, AREA, frame=0x77)
    j.end(1, "vm_map_ram", AREA, 1)
    j.touch(2, AREA)
    j.unmap(1, AREA)
    return j, j.add(ev.FRAME_OWNER, 2, 0x77, "", 2)


def test_a_stale_read_before_anybody_asked_for_a_flush_is_legal() -> None:
    j, _ = cached_and_unmapped()
    j.add(ev.TLB_READ, 2, AREA, 0x77, 1)
    assert not j.violations(WITNESS)


def test_a_stale_read_after_vm_unmap_aliases_is_the_witness() -> None:
    j, owner = cached_and_unmapped()
    j.aliases(1)
    read = j.add(ev.TLB_READ, 2, AREA, 0x77, 1)
    found = j.violation(WITNESS)
    assert owner in found.steps
    assert found.at == read
    assert found.mechanism.role == j.violation("stale-after-unmap-aliases").mechanism.role


def test_a_stale_read_of_a_page_whose_owner_did_not_change_is_no_witness() -> None:
    j, owner = cached_and_unmapped()
    del j.events[owner]
    j.aliases(1)
    j.add(ev.TLB_READ, 2, AREA, 0x77, 1)
    assert not j.violations(WITNESS)


def test_a_stale_read_after_the_address_was_handed_out_again() -> None:
    j, _ = cached_and_unmapped()
    j.map(1, AREA)
    j.add(ev.TLB_READ, 2, AREA, 0x77, 1)
    assert j.violation(WITNESS).mechanism.mechanism == "handed out before its flush"


def test_a_read_through_a_translation_filled_after_the_flush_is_clean() -> None:
    j, _ = cached_and_unmapped()
    j.aliases(1, (AREA, AREA + 1))
    j.map(1, AREA)
    j.touch(2, AREA)
    j.add(ev.TLB_READ, 2, AREA, j.frames[AREA], 1)
    assert not j.violations(WITNESS)


# -- overlaps ---------------------------------------------------------------------------------------------


def test_space_handed_out_twice() -> None:
    j = Recording()
    j.area(1, AREA, 4)
    j.area(2, AREA + 2, 4)
    assert j.violation(OVERLAP).mechanism.mechanism == "handed out while not given back"


def test_space_given_back_in_one_piece_with_its_neighbour_may_be_handed_out() -> None:
    j = Recording()
    j.area(1, AREA, 4)
    j.area(1, AREA + 4, 4)
    j.add(ev.SPACE_BACK, 1, AREA, "", AREA + 8)
    j.area(2, AREA + 2, 4)
    assert not j.violations(OVERLAP)


def test_space_of_which_only_a_part_was_given_back() -> None:
    j = Recording()
    j.area(1, AREA, 8)
    j.add(ev.SPACE_BACK, 1, AREA, "", AREA + 4)
    j.area(2, AREA, 4)
    assert not j.violations(OVERLAP)
    j.area(2, AREA + 6, 4)
    assert j.violations(OVERLAP)


def test_a_pte_that_is_present_where_one_is_to_be_set() -> None:
    j = Recording()
    j.map(1, AREA)
    j.begin(2, "vm_map_ram", 0, 1)
    j.add(ev.PTE_BUSY, 2, AREA, 0x9000)
    found = j.violation(OVERLAP)
    assert found.mechanism.calls == ("vm_map_ram",)
    assert "maps frame" in found.message


def test_one_range_returned_to_two_callers() -> None:
    j = Recording()
    j.map(1, AREA, 4)
    j.begin(2, "vm_map_ram", 0, 2)
    j.end(2, "vm_map_ram", AREA + 3, 2)
    assert j.violation(OVERLAP).mechanism.mechanism == "returned to two callers"


def test_a_range_returned_again_while_its_unmapping_is_still_under_way() -> None:
    j = Recording()
    j.map(1, AREA, 4)
    j.begin(1, "vm_unmap_ram", AREA, 4)
    j.begin(2, "vm_map_ram", 0, 4)
    j.end(2, "vm_map_ram", AREA, 4)
    assert not j.violations(OVERLAP)
