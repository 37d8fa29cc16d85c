# SPDX-License-Identifier: GPL-2.0-only
import pytest

from stressvmap.journal import events as ev
from tests.checks.recording import AREA, BITS, BLOCK, WINDOW, Recording

BOOKS = "accounting"
LEAK = "leak"


def test_free_may_decrease_and_dirty_increase() -> None:
    j = Recording()
    block = j.block(1, free=4)
    j.write(1, block, free=2, dirty=4)
    assert not j.violations(BOOKS)


@pytest.mark.parametrize(
    ("fields", "mechanism"),
    [
        ({"free": 5}, "free increased"),
        ({"free": -1}, "free below 0"),
        ({"dirty": BITS + 1}, "dirty above the block's size"),
        ({"dirty": 1}, "dirty decreased"),
    ],
)
def test_a_write_that_breaks_the_books(fields: dict[str, int], mechanism: str) -> None:
    j = Recording()
    block = j.block(1, free=4, dirty=2)
    j.write(1, block, **fields)
    assert j.violation(BOOKS).mechanism.mechanism == mechanism


def test_fields_of_other_structs_may_do_as_they_like() -> None:
    j = Recording()
    other = j.object(1, "some_struct")
    j.write(1, other, free=1)
    j.write(1, other, free=2)
    assert not j.violations(BOOKS)


def release(j: Recording, block: int, **fields: int) -> None:
    """Task 1 changes a block with four free pages and pages 0 to 3 in use, under its lock."""
    j.write(1, block, used_map=0b1111)
    j.lock(1, block)
    j.write(1, block, **fields)
    j.unlock(1, block)


@pytest.mark.parametrize(
    "fields",
    [
        {"free": 2, "used_map": 0b111111},
        {"free": 0, "dirty": BITS},
        {"free": 0, "used_map": 0b11111111},
        {"used_map": 0b0011, "dirty": 2},
    ],
)
def test_books_that_add_up_when_the_lock_is_released(fields: dict[str, int]) -> None:
    j = Recording()
    release(j, j.block(1, free=4), **fields)
    assert not j.violations(BOOKS)


@pytest.mark.parametrize("fields", [{"free": 2}, {"free": 0}, {"used_map": 0b11111}, {"dirty": 1}, {"used_map": 0b11}])
def test_books_that_do_not_add_up_when_the_lock_is_released(fields: dict[str, int]) -> None:
    j = Recording()
    release(j, j.block(1, free=4), **fields)
    assert j.violation(BOOKS).mechanism.mechanism.startswith("used + free + dirty")


def test_a_block_that_dies_with_free_space_would_hand_it_out() -> None:
    j = Recording()
    release(j, j.block(1, free=4), dirty=BITS, free=1)
    assert j.violation(BOOKS).mechanism.mechanism == "dead with free space when its lock is released"


def test_slots_of_an_unmapping_call_under_way_may_be_missing() -> None:
    """vb_free clears used_map, unmaps, and only then counts the slots as dirty, rounded up to their order."""
    j = Recording()
    block = j.block(1, free=4)
    j.begin(1, "vm_unmap_ram", BLOCK, 3)
    release(j, block, used_map=0)
    assert not j.violations(BOOKS)


def test_slots_of_an_unmapping_call_in_another_block_may_not_be_missing_here() -> None:
    j = Recording()
    block = j.block(1, free=4)
    j.begin(1, "vm_unmap_ram", BLOCK + BITS, 3)
    release(j, block, used_map=0)
    assert j.violation(BOOKS).mechanism.mechanism.startswith("used + free + dirty")


def books(j: Recording, block: int, **changes: int) -> None:
    """An audit of a block with four pages free, two dirty, and two mapped at its pages 6 and 7 by a call."""
    j.map(2, BLOCK + 6, 2)
    fields = {"free": 4, "dirty": 2, "used": 2, "mapped": 2, "dirty_min": 0, "dirty_max": 2, "va_start": BLOCK}
    j.audit("between", blocks={block: fields | changes}, listed=(block,))


@pytest.mark.parametrize(
    ("changes", "mechanism"),
    [
        ({}, ""),
        ({"free": 3}, "live + free + dirty is not the block's size"),
        ({"used": 1}, "used_map differs from the live slots"),
        ({"dirty": 3, "free": 3}, ""),
        ({"mapped": 3}, "more pages mapped than its live slots have"),
        ({"dirty": BITS, "free": 0}, ""),
    ],
)
def test_an_audit_compares_the_books(changes: dict[str, int], mechanism: str) -> None:
    j = Recording()
    block = j.block(1, free=4, dirty=2)
    books(j, block, **changes)
    assert [found.mechanism.mechanism for found in j.violations(BOOKS)] == ([mechanism] if mechanism else [])


def test_books_that_agree_with_each_other_but_not_with_the_callers_are_wrong() -> None:
    """A vb_free that clears used_map and adds to dirty by pages, where it should by orders."""
    j = Recording()
    block = j.block(1, free=4, dirty=1)
    books(j, block, dirty=1, used=3)
    assert {found.mechanism.mechanism for found in j.violations(BOOKS)} == {
        "live + free + dirty is not the block's size",
        "used_map differs from the live slots",
    }


def test_a_mapping_counts_as_its_order() -> None:
    j = Recording()
    block = j.block(1, free=1, dirty=1)
    j.map(2, BLOCK + 1, 2)
    j.map(2, BLOCK + 3, 3)
    fields = {"free": 1, "dirty": 1, "used": 6, "mapped": 5, "dirty_min": 0, "dirty_max": 1, "va_start": BLOCK}
    j.audit("between", blocks={block: fields}, listed=(block,))
    assert not j.violations(BOOKS)


def test_a_block_is_listed_iff_it_has_free_space() -> None:
    j = Recording()
    block = j.block(1, free=4, dirty=2)
    j.add(ev.LIST_DEL, 1, block, "free_list")
    books(j, block)
    assert j.violation(BOOKS).mechanism.mechanism == "off the free list with free space"


def test_an_unflushed_page_must_lie_in_the_dirty_range() -> None:
    j = Recording()
    block = j.block(1, free=4, dirty=2)
    j.map(1, BLOCK + 1, 2)
    j.unmap(1, BLOCK + 1, 2)
    books(j, block)
    found = j.violation(BOOKS)
    assert found.mechanism.mechanism == "unflushed page outside the dirty range"
    assert "clears the PTEs" in found.message


def test_a_flushed_page_need_not_lie_in_the_dirty_range() -> None:
    j = Recording()
    block = j.block(1, free=4, dirty=2)
    j.map(1, BLOCK + 1, 2)
    j.unmap(1, BLOCK + 1, 2)
    j.flush(2, BLOCK, BLOCK + 3)
    books(j, block)
    assert not j.violations(BOOKS)


def test_vmap_lazy_nr_counts_the_lazy_pages_at_rest() -> None:
    j = Recording()
    j.audit(areas=((AREA, AREA + 4, "lazy"),), lazy_nr=4)
    assert not j.violations(BOOKS)
    j.audit(areas=((AREA, AREA + 4, "lazy"),), lazy_nr=5)
    assert j.violation(BOOKS).mechanism.mechanism == "vmap_lazy_nr differs from the lazy pages"


def test_vmap_lazy_nr_may_be_ahead_while_calls_are_under_way() -> None:
    j = Recording()
    j.audit("between", lazy_nr=5)
    assert not j.violations(BOOKS)


# -- leaks ------------------------------------------------------------------------------------------------

START, END = WINDOW


def test_a_window_wholly_covered_is_clean() -> None:
    j = Recording()
    j.map(1, START)
    j.audit(areas=((START, AREA, "busy"), (AREA, END, "free")))
    assert not j.violations(LEAK)


def test_a_busy_area_that_neither_a_block_nor_a_caller_has_is_lost() -> None:
    j = Recording()
    j.area(1, START, AREA - START)
    j.audit(areas=((START, AREA, "busy"), (AREA, END, "free")))
    found = j.violation(LEAK)
    assert found.mechanism.mechanism == "busy, and no block or caller has it"
    assert "is handed" in found.message


def test_a_vm_struct_that_no_area_leads_to() -> None:
    j = Recording()
    j.audit(objects={j.object(1, "vm_struct"): "vm_struct"})
    assert j.violation(LEAK).mechanism.role == "vm_struct"


def test_space_in_no_tree_is_lost() -> None:
    j = Recording()
    j.area(1, AREA, 4)
    j.audit(areas=((START, AREA, "free"), (AREA + 4, END, "free")))
    found = j.violation(LEAK)
    assert found.pages is not None
    assert (found.pages.start, found.pages.end) == (AREA, AREA + 4)
    assert found.mechanism.role == "address space of a area"
    assert "is handed" in found.message


def test_space_in_two_areas() -> None:
    j = Recording()
    j.audit(areas=((START, AREA + 4, "free"), (AREA, END, "lazy")))
    found = j.violation(LEAK)
    assert (found.mechanism.role, found.mechanism.mechanism) == ("free and lazy", "in two areas")


def test_space_missing_between_operations_may_be_on_its_way() -> None:
    j = Recording()
    j.audit("between", areas=((START, AREA, "free"),))
    assert not j.violations(LEAK)


def test_a_block_that_nothing_leads_to() -> None:
    j = Recording()
    block = j.block(1, free=4)
    j.audit(objects={block: "vmap_block"}, indexed=(block,))
    assert not j.violations(LEAK)
    j.audit(objects={block: "vmap_block"})
    found = j.violation(LEAK)
    assert (found.mechanism.role, found.mechanism.mechanism) == ("vmap_block", "allocated, and nothing leads to it")


def test_an_area_struct_that_nothing_leads_to() -> None:
    j = Recording()
    j.map(1, START)
    one, two = j.area(1, START, AREA - START), j.area(1, AREA, 4)
    covered = ((START, AREA, "busy"), (AREA, END, "free"))
    j.audit(areas=covered, objects={one: "vmap_area", 3: "vmap_area"})
    assert not j.violations(LEAK)
    j.audit(areas=covered[:1], objects={one: "vmap_area", two: "vmap_area"})
    assert ("vmap_area", "allocated, and nothing leads to it") in {
        (found.mechanism.role, found.mechanism.mechanism) for found in j.violations(LEAK)
    }


def test_a_pte_that_is_left_over_has_no_owner() -> None:
    j = Recording()
    j.map(1, AREA, 2)
    j.audit()
    assert not j.violations(LEAK)
    j.begin(1, "vm_unmap_ram", AREA, 2)
    j.clear(1, AREA, 1)
    j.end(1, "vm_unmap_ram", AREA, 2)
    j.audit()
    assert j.violation(LEAK).mechanism.mechanism == "PTE present, and no caller has it mapped"


# -- pools ------------------------------------------------------------------------------------------------------------


def audit_of_a_pool(counted: int, *areas: tuple[int, int], is_broken: bool = False) -> Recording:
    """At rest: a node with one pool of areas of 5 pages, which says it holds `counted`; all else is free."""
    j = Recording()
    node = j.object(0, "vmap_node")
    j.add(ev.AUDIT_BEGIN, 0, 0, "rest")
    j.add(ev.AUDIT_FIELD, 0, node, "pool[4].len", counted)
    reached = WINDOW[0]
    for start, end in areas:
        area = j.object(0, "vmap_area")
        if reached < start:
            j.add(ev.AUDIT_AREA, 0, reached, "free", start)
        j.add(ev.AUDIT_AREA, 0, start, "pool", end)
        j.add(ev.AUDIT_LISTED, 0, area, "pool[4].head", node)
        if is_broken:
            j.add(ev.AUDIT_LIST_BROKEN, 0, area, "pool[4].head", node)
        reached = end
    j.add(ev.AUDIT_AREA, 0, reached, "free", WINDOW[1])
    j.add(ev.AUDIT_END, 0, 0, "")
    return j


IN_POOL = ((WINDOW[0] + 10, WINDOW[0] + 15), (WINDOW[0] + 20, WINDOW[0] + 25))


def test_a_pool_that_holds_what_it_says_is_clean() -> None:
    assert not audit_of_a_pool(2, *IN_POOL).violations(BOOKS)
    assert not audit_of_a_pool(0).violations(BOOKS)


@pytest.mark.parametrize(("counted", "areas"), [(1, IN_POOL), (3, IN_POOL), (1, ())])
def test_a_pool_that_says_otherwise(counted: int, areas: tuple[tuple[int, int], ...]) -> None:
    found = audit_of_a_pool(counted, *areas).violation(BOOKS)
    assert (found.mechanism.role, found.mechanism.mechanism) == ("pool", "len differs from the areas in the pool")
    assert f"is {counted}, but {len(areas)} areas are in it" in found.message


def test_space_in_a_pool_is_not_lost() -> None:
    assert not audit_of_a_pool(2, *IN_POOL).violations(LEAK)


def test_space_that_is_in_a_pool_twice_is_in_two_areas() -> None:
    found = audit_of_a_pool(2, IN_POOL[0], (IN_POOL[0][1] - 1, IN_POOL[1][1])).violation(LEAK)
    assert (found.mechanism.role, found.mechanism.mechanism) == ("pool and pool", "in two areas")


def test_a_pool_whose_list_is_broken_at_rest() -> None:
    found = audit_of_a_pool(1, IN_POOL[0], is_broken=True).violation("list-corruption")
    assert (found.mechanism.role, found.mechanism.mechanism) == (
        "pool of areas",
        "next->prev does not point back at rest",
    )
