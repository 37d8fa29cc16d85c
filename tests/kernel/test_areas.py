# SPDX-License-Identifier: GPL-2.0-only
"""Trees of areas: taking from the free tree, giving back, and what the journal hears of it."""

from __future__ import annotations

import pytest

from stressvmap.journal import events as ev
from stressvmap.kernel.areas import BUSY, FREE, LAZY, VmapArea, VmapTree
from stressvmap.ranges import PAGE_SIZE
from stressvmap.sched.replay import Run
from tests.kernel.world import World, until

FIRST, LAST = 0x100, 0x110


def free_tree(world: World) -> VmapTree:
    """The free tree with the window [0x100, 0x110) pages."""
    tree = VmapTree(world.machine, FREE)
    tree.add_boot_space(FIRST * PAGE_SIZE, LAST * PAGE_SIZE)
    return tree


def area(world: World, start: int, end: int) -> VmapArea:
    made = VmapArea(world.machine)
    made.values["va_start"], made.values["va_end"] = start * PAGE_SIZE, end * PAGE_SIZE
    return made


def carve(world: World, tree: VmapTree, pages: int, align: int = 1) -> int:
    """Page of the lowest fit, with a spare struct at hand; the end of the window if there is none."""
    size, window = pages * PAGE_SIZE, (FIRST * PAGE_SIZE, LAST * PAGE_SIZE)
    return tree.carve(size, align * PAGE_SIZE, *window, lambda: VmapArea(world.machine)) // PAGE_SIZE


def nothing() -> None:
    """No struct to be had."""


def never() -> None:
    raise AssertionError("asked for a struct without splitting a hole")


def shape(tree: VmapTree) -> list[tuple[int, int]]:
    """What lies in the tree, in pages."""
    return [(area.start_raw() // PAGE_SIZE, area.end_raw() // PAGE_SIZE) for area in tree.areas()]


def space(world: World, kind: int) -> list[tuple[int, int]]:
    return [(event[4], event[6]) for event in world.of(kind)]


def test_space_is_taken_from_the_lowest_hole_and_is_handed_out_in_the_journal() -> None:
    world = World()
    tree = free_tree(world)

    def body() -> None:
        assert carve(world, tree, 4) == 0x100
        assert carve(world, tree, 2) == 0x104

    world.run(body)
    assert shape(tree) == [(0x106, 0x110)]
    assert space(world, ev.SPACE_OUT) == [(0x100, 0x104), (0x104, 0x106)]
    assert space(world, ev.SPACE_BACK) == []


def test_an_aligned_request_in_the_middle_splits_a_hole_and_uses_the_spare_up() -> None:
    world = World()
    tree = free_tree(world)

    def body() -> None:
        carve(world, tree, 1)
        spare = VmapArea(world.machine)
        size, align = 4 * PAGE_SIZE, 8 * PAGE_SIZE
        address = tree.carve(size, align, FIRST * PAGE_SIZE, LAST * PAGE_SIZE, lambda: spare)
        assert address == 0x108 * PAGE_SIZE
        assert spare in tree.areas()

    world.run(body)
    assert shape(tree) == [(0x101, 0x108), (0x10C, 0x110)]


def test_a_split_without_a_spare_fails_with_a_warning_and_changes_nothing() -> None:
    world = World()
    tree = free_tree(world)

    def body() -> None:
        carve(world, tree, 1)
        size, align = 4 * PAGE_SIZE, 8 * PAGE_SIZE
        assert tree.carve(size, align, FIRST * PAGE_SIZE, LAST * PAGE_SIZE, nothing) == LAST * PAGE_SIZE

    world.run(body)
    assert world.warnings() == ["WARN_ON(ret)"]
    assert shape(tree) == [(0x101, 0x110)]
    assert space(world, ev.SPACE_OUT) == [(0x100, 0x101)]


@pytest.mark.parametrize("is_locked", [True, False])
def test_who_fetches_a_spare_without_the_lock_looks_for_a_hole_again(is_locked: bool) -> None:
    """Task 2 wants the same pages while task 1 fetches its spare. Use without the lock is told."""
    script = [Run(1, until(ev.READ_ONCE, "fetching")), Run(2), Run(1)]
    world = World(*script, cpus=2)
    lock = world.thing().lock
    tree = VmapTree(world.machine, FREE, lock)
    tree.add_boot_space((FIRST + 1) * PAGE_SIZE, LAST * PAGE_SIZE)
    found: list[int] = []

    def fetch() -> VmapArea:
        world.runtime.point(ev.READ_ONCE, 0, "fetching")
        return VmapArea(world.machine)

    def body() -> None:
        if is_locked:
            lock.lock()
        window = ((FIRST + 1) * PAGE_SIZE, LAST * PAGE_SIZE)
        found.append(tree.carve(4 * PAGE_SIZE, 4 * PAGE_SIZE, *window, fetch) // PAGE_SIZE - FIRST)
        if is_locked:
            lock.unlock()

    world.run(body, body)
    assert sorted(found) == [4, 8]
    assert bool(world.of(ev.ASSERT_HELD)) != is_locked


def test_a_fit_at_either_edge_needs_no_spare_and_an_exact_one_frees_the_hole() -> None:
    world = World()
    tree = free_tree(world)
    hole = tree.areas()[0]

    def body() -> None:
        window = (FIRST * PAGE_SIZE, LAST * PAGE_SIZE)
        assert tree.carve(8 * PAGE_SIZE, PAGE_SIZE, *window, never) == FIRST * PAGE_SIZE
        assert not hole.is_dead
        assert tree.carve(8 * PAGE_SIZE, PAGE_SIZE, *window, never) == (FIRST + 8) * PAGE_SIZE

    world.run(body)
    assert tree.is_empty
    assert hole.is_dead
    assert world.warnings() == []


def test_a_full_tree_answers_with_the_end_of_the_window_and_asks_for_no_spare() -> None:
    world = World()
    tree = free_tree(world)

    def body() -> None:
        assert carve(world, tree, 16) == FIRST
        assert tree.carve(PAGE_SIZE, PAGE_SIZE, FIRST * PAGE_SIZE, LAST * PAGE_SIZE, never) == LAST * PAGE_SIZE

    world.run(body)
    assert space(world, ev.SPACE_OUT) == [(FIRST, LAST)]


def test_an_area_given_back_by_itself_lives_on_as_a_node_that_means_other_addresses_later() -> None:
    world = World()
    tree = free_tree(world)
    seen: list[int] = []

    def body() -> None:
        carve(world, tree, 8)
        back = area(world, 0x102, 0x104)
        settled = tree.merge_or_add(back)
        assert settled is not None
        assert settled is not back
        assert carve(world, tree, 1) == 0x102
        seen.append(back.va_start // PAGE_SIZE)

    world.run(body)
    assert seen == [0x103]
    assert [event[6] for event in world.of(ev.OBJECT_FREE) if event[6] == ev.FREED_RECYCLED] == [ev.FREED_RECYCLED]
    assert [event[5] for event in world.of(ev.DEAD_ACCESS)] == ["va_start"]
    assert space(world, ev.SPACE_BACK) == [(0x102, 0x104)]


@pytest.mark.parametrize(("start", "end"), [(0x104, 0x106), (0x10A, 0x10C)])
def test_an_area_beside_one_hole_is_absorbed_and_its_struct_freed(start: int, end: int) -> None:
    world = World()
    tree = VmapTree(world.machine, FREE)
    tree.add_boot_space(0x106 * PAGE_SIZE, 0x10A * PAGE_SIZE)
    back = area(world, start, end)
    hole = tree.areas()[0]
    world.run(lambda: tree.merge_or_add(back))
    assert shape(tree) == [(min(start, 0x106), max(end, 0x10A))]
    assert tree.areas() == [hole]
    assert back.is_dead
    assert back.successor is None
    assert space(world, ev.SPACE_BACK) == [(start, end)]


def test_an_area_between_two_holes_makes_one_of_three_and_frees_both_that_are_absorbed() -> None:
    world = World()
    tree = free_tree(world)

    def body() -> None:
        carve(world, tree, 4)
        tree.merge_or_add(area(world, 0x100, 0x102))
        left, right = tree.areas()
        middle = area(world, 0x102, 0x104)
        assert tree.merge_or_add(middle) is left
        assert middle.is_dead
        assert right.is_dead
        assert not left.is_dead

    world.run(body)
    assert shape(tree) == [(0x100, 0x110)]
    assert space(world, ev.SPACE_BACK) == [(0x100, 0x102), (0x102, 0x104)]
    assert world.warnings() == []


def test_giving_back_what_is_free_already_warns_and_changes_nothing() -> None:
    world = World()
    tree = free_tree(world)
    results: list[object] = []
    world.run(lambda: results.append(tree.merge_or_add(area(world, 0x104, 0x106))))
    assert results == [None]
    assert world.warnings() == ["an area to merge overlaps one in the free tree"]
    assert shape(tree) == [(0x100, 0x110)]
    assert space(world, ev.SPACE_BACK) == []


def test_the_busy_tree_finds_by_any_address_inside_and_touches_no_space() -> None:
    world = World()
    tree = VmapTree(world.machine, BUSY)
    made = area(world, 0x100, 0x104)

    def body() -> None:
        assert tree.insert(made)
        assert tree.find(0x103 * PAGE_SIZE + 5) is made
        assert tree.find(0x104 * PAGE_SIZE) is None
        assert not tree.insert(area(world, 0x103, 0x105))
        tree.erase(made)
        assert tree.find(0x100 * PAGE_SIZE) is None
        tree.erase(made)

    world.run(body)
    assert world.warnings() == ["an area to insert overlaps one in the busy tree", "the area is in no tree"]
    assert [(event[0], event[4]) for event in world.of(ev.TREE_INSERT, ev.TREE_ERASE)] == [
        (ev.TREE_INSERT, made.id),
        (ev.TREE_ERASE, made.id),
    ]
    assert [(event[4], event[6]) for event in world.of(ev.TREE_FIND)] == [(made.id, 0x103), (0, 0x104), (0, 0x100)]
    assert world.of(ev.SPACE_OUT, ev.SPACE_BACK) == []


def test_the_lazy_tree_is_detached_at_once_in_order_and_merges_like_the_free_one() -> None:
    world = World()
    tree = VmapTree(world.machine, LAZY)
    result: list[VmapArea] = []

    def body() -> None:
        for start, end in ((0x106, 0x108), (0x100, 0x102), (0x102, 0x104)):
            tree.merge_or_add(area(world, start, end))
        result.extend(tree.detach_all())

    world.run(body)
    assert [(found.start_raw() // PAGE_SIZE, found.end_raw() // PAGE_SIZE) for found in result] == [
        (0x100, 0x104),
        (0x106, 0x108),
    ]
    assert all(found.node is None and not found.is_dead for found in result)
    assert tree.is_empty
    assert world.of(ev.SPACE_BACK) == []


def test_fields_of_an_area_are_journalled_as_pages() -> None:
    world = World()

    def body() -> None:
        made = VmapArea(world.machine)
        made.va_start = 0x100 * PAGE_SIZE
        made.flags = 3
        assert made.va_start == 0x100 * PAGE_SIZE

    world.run(body)
    assert [event[6] for event in world.of(ev.WRITE, ev.READ)] == [0x100, 3, 0x100]


def test_giving_back_a_dead_area_is_a_dead_access() -> None:
    world = World()
    tree = VmapTree(world.machine, LAZY)
    dead = area(world, 1, 2)
    dead.kfree()
    world.run(lambda: tree.merge_or_add(dead))
    assert [event[5] for event in world.of(ev.DEAD_ACCESS)] == ["rb_node"]


def test_an_area_inserted_before_its_range_was_written_is_an_uninitialised_read_and_a_bug() -> None:
    world = World()
    tree = VmapTree(world.machine, BUSY)
    made = VmapArea(world.machine)
    made.values["va_end"] = LAST * PAGE_SIZE
    world.run(lambda: tree.insert(made))
    assert [(event[4], event[5]) for event in world.of(ev.UNINITIALISED)] == [(made.id, "va_start")]
    assert world.bugs() == ["an area to insert ends before it begins"]
    assert tree.areas() == []
