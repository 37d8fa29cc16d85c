# SPDX-License-Identifier: GPL-2.0-only
"""The area tree: order, shape, maxima, and the addresses the kernel's search would give.

The expected shapes and digests were printed by the C itself: lib/rbtree.c, and from mm/vmalloc.c find_va_links to
__alloc_vmap_area, compiled in user space and driven by the same generator of numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stressvmap.kernel.rbtree import AreaTree, RbNode

PAGE = 4096
ARENA_PAGES = 60
FNV_OFFSET = 14695981039346656037
FNV_PRIME = 1099511628211
WORD = (1 << 64) - 1

some_ranges = st.lists(st.tuples(st.integers(0, ARENA_PAGES - 1), st.integers(1, 8)), max_size=40)
some_aligns = st.sampled_from([1, 2, 4, 8, 16])


class Area(RbNode):
    """A subclass with a slot of its own, as vmap_area is."""

    __slots__ = ("name",)

    def __init__(self, start: int, end: int, name: str = "") -> None:
        super().__init__(start, end)
        self.name = name


def tree_of(*ranges: tuple[int, int], augmented: bool = True) -> AreaTree:
    """The ranges that overlap none before them, inserted in this order."""
    tree = AreaTree(augmented)
    for start, end in ranges:
        tree.insert(RbNode(start, end))
    return tree


def tree_of_units(*starts: int) -> AreaTree:
    return tree_of(*((start, start + 1) for start in starts), augmented=False)


def ranges_of(tree: AreaTree) -> list[tuple[int, int]]:
    return [(node.rb_start, node.rb_end) for node in tree]


def found(tree: AreaTree, address: int) -> RbNode:
    node = tree.find(address)
    assert node is not None
    return node


def shape(node: RbNode | None) -> str:
    """(left start right), r after a red start, a leaf without brackets, a dot for the child that is missing."""
    if node is None:
        return "."
    start = f"{node.rb_start}{'r' if node.rb_is_red else ''}"
    if node.rb_left is None and node.rb_right is None:
        return start
    return f"({shape(node.rb_left)} {start} {shape(node.rb_right)})"


def would_start(node: RbNode, align: int, vstart: int) -> int:
    return -(-max(node.rb_start, vstart) // align) * align


def fits(node: RbNode, size: int, align: int, vstart: int) -> bool:
    return would_start(node, align, vstart) + size <= node.rb_end


def lowest_fit(tree: AreaTree, size: int, align: int, vstart: int) -> RbNode | None:
    return next((node for node in tree if fits(node, size, align, vstart)), None)


class Numbers:
    """The generator of numbers that drove the C."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def draw(self, bound: int) -> int:
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) & WORD
        return (self.state >> 33) % bound


class Digest:
    """64 bits over every number mixed in, and over whole trees in preorder."""

    def __init__(self) -> None:
        self.value = FNV_OFFSET

    def mix(self, number: int) -> None:
        self.value = (self.value ^ number) * FNV_PRIME & WORD

    def mix_tree(self, node: RbNode | None, augmented: bool) -> None:
        if node is None:
            self.mix(0)
            return
        self.mix(node.rb_start)
        self.mix(node.rb_end)
        self.mix(1 + node.rb_is_red)
        if augmented:
            self.mix(node.subtree_max_size)
        self.mix_tree(node.rb_left, augmented)
        self.mix_tree(node.rb_right, augmented)


class FreeSpace:
    """As much of the allocator as comparing addresses takes: __alloc_vmap_area, merge_or_add_vmap_area_augment."""

    def __init__(self, start: int, end: int) -> None:
        self.tree = AreaTree(augmented=True)
        self.tree.insert(RbNode(start, end))
        self.not_the_lowest = 0

    def alloc(self, size: int, align: int, vstart: int, vend: int) -> int:
        """The address, 0 if there is none below `vend`."""
        is_adjusted = align > PAGE and vend - vstart != size
        hole = self.tree.lowest_match(size, align, vstart, is_adjusted)
        self.not_the_lowest += hole is not lowest_fit(self.tree, size, align, vstart)
        if hole is None:
            return 0
        address = would_start(hole, align, vstart)
        if address + size > vend:
            return 0

        start, end = hole.rb_start, hole.rb_end
        if (start, end) == (address, address + size):
            self.tree.erase(hole)
        elif end == address + size:
            hole.rb_end = address
            self.tree.changed(hole)
        else:
            hole.rb_start = address + size
            self.tree.changed(hole)
            if start != address:
                self.tree.insert(RbNode(start, address))
        return address

    def free(self, start: int, end: int) -> None:
        neighbours = self.tree.neighbours_of(start, end)
        assert neighbours is not None
        below, above = neighbours
        merged: RbNode | None = None
        if above is not None and above.rb_start == end:
            above.rb_start = start
            merged = above
        if below is not None and below.rb_end == start:
            if merged is not None:
                self.tree.erase(merged)
                end = merged.rb_end
            below.rb_end = end
            merged = below
        if merged is None:
            self.tree.insert(RbNode(start, end))
        else:
            self.tree.changed(merged)


# Order.


@settings(max_examples=100, deadline=None)
@given(data=st.data(), augmented=st.booleans())
def test_it_keeps_what_a_sorted_list_would(data: st.DataObject, augmented: bool) -> None:
    tree = AreaTree(augmented)
    model: list[tuple[int, int]] = []
    for start, length in data.draw(some_ranges):
        end = start + length
        overlaps = [other for other in model if start < other[1] and other[0] < end]
        erases = data.draw(st.booleans())
        if overlaps and erases:
            node = found(tree, overlaps[0][0])
            tree.erase(node)
            assert not node.is_linked
            model.remove(overlaps[0])
        else:
            assert tree.insert(RbNode(start, end)) == (not overlaps)
            if not overlaps:
                model = sorted([*model, (start, end)])
        tree._check()
        assert ranges_of(tree) == model
        assert len(tree) == len(model)
    for address in range(-1, ARENA_PAGES + 9):
        node_there = tree.find(address)
        expected = [area for area in model if area[0] <= address < area[1]]
        assert ([] if node_there is None else [(node_there.rb_start, node_there.rb_end)]) == expected


@given(ranges=some_ranges, start=st.integers(-2, ARENA_PAGES + 8), length=st.integers(1, 8))
def test_neighbours_are_the_nearest_areas_on_each_side(ranges: list[tuple[int, int]], start: int, length: int) -> None:
    tree = tree_of(*((at, at + pages) for at, pages in ranges))
    end = start + length
    nodes = list(tree)
    overlapping = [node for node in nodes if node.rb_start < end and start < node.rb_end]
    if overlapping:
        assert tree.neighbours_of(start, end) is None
        assert tree.overlap_with(start, end) in overlapping
    else:
        assert tree.overlap_with(start, end) is None
        below = [node for node in nodes if node.rb_end <= start]
        above = [node for node in nodes if node.rb_start >= end]
        assert tree.neighbours_of(start, end) == (below[-1] if below else None, above[0] if above else None)


def test_an_empty_tree_has_no_first_no_neighbours_and_no_match() -> None:
    tree = tree_of()
    assert tree.first() is None
    assert tree.find(0) is None
    assert tree.neighbours_of(0, 1) == (None, None)
    assert tree.lowest_match(1, 1, 0, adjust_search_size=True) is None
    assert tree.clear_and_detach() == []
    assert list(tree) == []
    tree._check()


def test_previous_and_next_end_at_the_ends() -> None:
    tree = tree_of_units(*range(20))
    nodes = list(tree)
    assert tree.first() is nodes[0]
    assert [tree.previous(node) for node in nodes] == [None, *nodes[:-1]]
    assert [tree.next(node) for node in nodes] == [*nodes[1:], None]


def test_an_overlap_is_refused_and_named() -> None:
    tree = tree_of((10, 20), (30, 40))
    before = shape(tree.rb_root)
    for start, end in [(5, 11), (19, 21), (12, 13), (0, 50), (10, 20)]:
        newcomer = RbNode(start, end)
        assert not tree.insert(newcomer)
        assert not newcomer.is_linked
    assert shape(tree.rb_root) == before
    assert tree.overlap_with(35, 36) is found(tree, 30)
    assert tree.overlap_with(0, 50) is tree.rb_root
    tree._check()


def test_areas_that_touch_do_not_overlap() -> None:
    tree = tree_of((10, 20))
    assert tree.insert(RbNode(20, 30))
    assert tree.insert(RbNode(0, 10))
    tree._check()


def test_clear_and_detach_leaves_nodes_that_may_be_inserted_again() -> None:
    tree = tree_of_units(5, 3, 9, 1)
    nodes = tree.clear_and_detach()
    assert [node.rb_start for node in nodes] == [1, 3, 5, 9]
    assert (len(tree), tree.rb_root) == (0, None)
    assert not any(node.is_linked for node in nodes)
    other = AreaTree(augmented=True)
    assert all(other.insert(node) for node in nodes)
    other._check()


def test_a_node_is_in_one_tree_at_a_time() -> None:
    tree, other = tree_of_units(1), tree_of_units(2)
    node = found(tree, 1)
    with pytest.raises(AssertionError, match="in a tree already"):
        other.insert(node)
    with pytest.raises(AssertionError, match="in another tree"):
        other.erase(node)
    tree.erase(node)
    with pytest.raises(AssertionError, match="in no tree"):
        tree.erase(node)
    with pytest.raises(AssertionError, match="in no tree"):
        tree.next(node)


def test_a_subclass_comes_back_as_itself() -> None:
    tree = AreaTree(augmented=True)
    tree.insert(Area(0, 4, "low"))
    tree.insert(Area(4, 9, "high"))
    match = tree.lowest_match(5, 1, 0, adjust_search_size=False)
    assert isinstance(match, Area)
    assert match.name == "high"


def test_the_audit_sees_a_wrong_maximum_and_a_wrong_order() -> None:
    tree = tree_of((0, 4), (4, 9))
    found(tree, 4).rb_end = 20
    with pytest.raises(AssertionError, match="says 5, is 16"):
        tree._check()
    tree = tree_of((0, 4), (4, 9), augmented=False)
    found(tree, 0).rb_end = 5
    with pytest.raises(AssertionError, match="is before"):
        tree._check()


# Shape.


def test_ascending_insertions_have_the_kernels_shape() -> None:
    assert shape(tree_of_units(*range(1, 16)).rb_root) == "((1 2 3) 4 ((5 6 7) 8r (9 10 (11 12r (13r 14 15r)))))"


def test_descending_insertions_have_the_kernels_shape() -> None:
    assert shape(tree_of_units(*range(15, 0, -1)).rb_root) == "(((((1r 2 3r) 4r 5) 6 7) 8r (9 10 11)) 12 (13 14 15))"


def test_inner_grandchildren_have_the_kernels_shape() -> None:
    assert shape(tree_of_units(8, 4, 12, 2, 6, 10, 14, 5, 7).rb_root) == "((2 4r (5r 6 7r)) 8 (10r 12 14r))"


def test_removals_have_the_kernels_shape() -> None:
    tree = tree_of_units(*range(1, 16))
    shapes = {}
    for start in (4, 8, 1, 2, 15, 14, 6, 9):
        tree.erase(found(tree, start))
        tree._check()
        shapes[start] = shape(tree.rb_root)
    assert shapes == {
        4: "((1 2 3) 5 (((. 6 7r) 8 9) 10r (11 12 (13r 14 15r))))",
        8: "((1 2 3) 5 ((6 7 9) 10r (11 12 (13r 14 15r))))",
        1: "(((. 2 3r) 5 (6 7r 9)) 10 (11 12 (13r 14 15r)))",
        2: "((3 5 (6 7r 9)) 10 (11 12 (13r 14 15r)))",
        15: "((3 5 (6 7r 9)) 10 (11 12 (13r 14 .)))",
        14: "((3 5 (6 7r 9)) 10 (11 12 13))",
        6: "((3 5 (. 7 9r)) 10 (11 12 13))",
        9: "((3 5 7) 10 (11 12 13))",
    }


def digest_of_shapes(seed: int, slots: int, steps: int) -> int:
    """Put in or take out a unit area drawn at random; mix the whole tree after each step."""
    numbers, digest = Numbers(seed), Digest()
    tree = AreaTree(augmented=False)
    for _ in range(steps):
        slot = numbers.draw(slots)
        node = tree.find(slot)
        if node is None:
            tree.insert(RbNode(slot, slot + 1))
        else:
            tree.erase(node)
        digest.mix_tree(tree.rb_root, augmented=False)
    tree._check()
    return digest.value


@pytest.mark.parametrize(("seed", "slots", "expected"), [(1, 64, 0xDF883B28BE27D547), (2, 200, 0x49AED2E41A47A9FF)])
def test_every_shape_of_a_long_run_is_the_kernels(seed: int, slots: int, expected: int) -> None:
    assert digest_of_shapes(seed, slots, steps=1500) == expected


@given(ranges=some_ranges, erased=st.lists(st.integers(0, ARENA_PAGES), max_size=20))
def test_the_augmentation_does_not_change_the_shape(ranges: list[tuple[int, int]], erased: list[int]) -> None:
    shapes = []
    for augmented in (False, True):
        tree = tree_of(*((at, at + pages) for at, pages in ranges), augmented=augmented)
        for address in erased:
            node = tree.find(address)
            if node is not None:
                tree.erase(node)
        shapes.append(shape(tree.rb_root))
    assert shapes[0] == shapes[1]


# Maxima.


@given(ranges=some_ranges, cuts=st.lists(st.tuples(st.integers(0, ARENA_PAGES), st.booleans()), max_size=20))
def test_a_changed_range_changes_the_maxima_above_it(
    ranges: list[tuple[int, int]], cuts: list[tuple[int, bool]]
) -> None:
    tree = tree_of(*((at, at + pages) for at, pages in ranges))
    for address, grows in cuts:
        node = tree.find(address)
        if node is None:
            continue
        if grows:
            above = tree.next(node)
            node.rb_end = node.rb_end + 30 if above is None else above.rb_start
        else:
            node.rb_start = address
        tree.changed(node)
        tree._check()


def test_a_node_may_be_erased_after_an_untold_change() -> None:
    tree = tree_of(*((start * 10, start * 10 + 5) for start in range(20)))
    for start in (70, 0, 190, 100):
        node = found(tree, start)
        node.rb_start -= 3
        tree.erase(node)
        tree._check()


def test_a_stale_maximum_of_an_inserted_node_is_forgotten() -> None:
    for stale in (20, 0xDEAD):  # its own size, at which the propagation would stop, and any other
        tree = tree_of((0, 5), (10, 15))
        node = RbNode(20, 40)
        node.subtree_max_size = stale
        tree.insert(node)
        tree._check()


# Search.


def test_a_fitting_hole_off_the_path_is_passed_over_and_at_the_root_taken() -> None:
    small, large = (8, 12), (100, 200)
    off_the_path = tree_of(large, small).lowest_match(4, 4, 0, adjust_search_size=True)
    at_the_root = tree_of(small, large).lowest_match(4, 4, 0, adjust_search_size=True)
    assert off_the_path is not None
    assert at_the_root is not None
    assert (off_the_path.rb_start, at_the_root.rb_start) == (100, 8)


def test_without_adjustment_a_fitting_hole_is_found_wherever_it_is() -> None:
    match = tree_of((100, 200), (8, 12)).lowest_match(4, 4, 0, adjust_search_size=False)
    assert match is not None
    assert match.rb_start == 8


def test_a_hole_is_searched_for_from_vstart() -> None:
    tree = tree_of((0, 10), (20, 30))
    for vstart, expected in [(0, 0), (4, 0), (5, 20), (20, 20), (24, 20)]:
        match = tree.lowest_match(6, 1, vstart, adjust_search_size=False)
        assert match is not None
        assert match.rb_start == expected
    assert tree.lowest_match(6, 1, 25, adjust_search_size=False) is None


@settings(max_examples=300)
@given(ranges=some_ranges, size=st.integers(1, 10), align=some_aligns, vstart=st.integers(0, ARENA_PAGES))
def test_a_match_fits_and_is_not_missed(ranges: list[tuple[int, int]], size: int, align: int, vstart: int) -> None:
    tree = tree_of(*((at, at + pages) for at, pages in ranges))

    exact = tree.lowest_match(size, align, vstart, adjust_search_size=False)
    assert exact is lowest_fit(tree, size, align, vstart)

    adjusted = tree.lowest_match(size, align, vstart, adjust_search_size=True)
    length = size + align - 1
    ample = [node for node in tree if node.rb_end - max(node.rb_start, vstart) >= length]
    if adjusted is not None:
        assert fits(adjusted, size, align, vstart)
    if ample:
        assert adjusted is not None
        assert adjusted.rb_start <= ample[0].rb_start


class AllocRun(NamedTuple):
    first_addresses: list[int]
    digest: int
    not_the_lowest: int


def alloc_run(seed: int, steps: int) -> AllocRun:
    """Allocate and free at random; mix each address, and the whole tree after each step."""
    start, end = 0x100000, 0x100000 + 512 * PAGE
    numbers, digest = Numbers(seed), Digest()
    space = FreeSpace(start, end)
    live: list[tuple[int, int]] = []
    addresses: list[int] = []
    for _ in range(steps):
        if not live or numbers.draw(100) < 52:
            size = (1 + numbers.draw(8)) * PAGE
            align = PAGE << numbers.draw(5)
            vstart = start + numbers.draw(512) * PAGE if numbers.draw(4) == 0 else start
            vend = vstart + size if numbers.draw(8) == 0 else end
            address = space.alloc(size, align, vstart, vend)
            if address:
                live.append((address, address + size))
            digest.mix(address)
            addresses.append(address)
        else:
            chosen = numbers.draw(len(live))
            live[chosen], live[-1] = live[-1], live[chosen]
            space.free(*live.pop())
        digest.mix_tree(space.tree.rb_root, augmented=True)
    space.tree._check()
    return AllocRun(addresses[:7], digest.value, space.not_the_lowest)


@pytest.mark.parametrize(
    ("seed", "first_addresses", "expected"),
    [
        (1, [0x1E8000, 0x100000, 0x107000, 0x108000, 0x1A0000, 0x10E000, 0x18A000], 0x5F170DE147D642D1),
        (2, [0x158000, 0x100000, 0x200000, 0x2E6000, 0x108000, 0x110000, 0x100000], 0x1AA88D2DCA96B507),
    ],
)
def test_every_address_of_a_long_run_is_the_kernels(seed: int, first_addresses: list[int], expected: int) -> None:
    run = alloc_run(seed, steps=2000)
    assert run.first_addresses == first_addresses
    assert run.digest == expected
    assert run.not_the_lowest > 0, "the run never told the kernel's search from a plain first fit"
