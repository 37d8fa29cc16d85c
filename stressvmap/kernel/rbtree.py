# SPDX-License-Identifier: GPL-2.0-only
"""The red-black tree of areas: lib/rbtree.c with mm/vmalloc.c's augmentation and search (v6.4).

Why a real red-black tree, when a sorted list would find areas just as well: the address an allocation gets depends on
the *shape* of the tree. With an alignment above a page `lowest_match` enters a subtree only if its largest hole has
`size + align - 1`, but it tries every node it passes on the way. A hole that fits only because it happens to be
aligned is therefore taken when it lies on the path, and passed over when it does not:

    size 4, align 4, so the length searched for is 7; two holes, [8, 12) and [100, 200)

         [100, 200)                  [8, 12)
          /                                \\
      [8, 12)                           [100, 200)

    left subtree 4 < 7: not entered      the root is tried before its right subtree
    -> 100                               -> 8

So every insertion and removal must leave the shape and the colours the kernel's would: the same cases are told apart
in the same order, and a node with two children is replaced by its in-order successor. Rotations are all one operation
here, `_lift`; the colours are set beside it.

Units: any, as long as starts, ends, sizes and alignments share one. But only a tree in bytes answers as the kernel
does when the search size is adjusted: `size + align` bytes less one rounds up to `size + align` whole pages, and a tree
in pages would make do with one page fewer.
"""

from __future__ import annotations

from collections.abc import Iterator


class RbNode:
    """An area `[rb_start, rb_end)` and its place in at most one tree.

    A node in no tree is its own parent (the kernel's RB_EMPTY_NODE) and has no children.
    `subtree_max_size` is the largest `rb_end - rb_start` at or below the node; kept in augmented trees only.
    """

    __slots__ = ("rb_end", "rb_is_red", "rb_left", "rb_parent", "rb_right", "rb_start", "subtree_max_size")

    def __init__(self, start: int, end: int) -> None:
        self.rb_start: int = start
        self.rb_end: int = end
        self.rb_parent: RbNode | None = self
        self.rb_left: RbNode | None = None
        self.rb_right: RbNode | None = None
        self.rb_is_red: bool = False
        self.subtree_max_size: int = 0

    @property
    def is_linked(self) -> bool:
        """Whether the node is in a tree; the negation of RB_EMPTY_NODE."""
        return self.rb_parent is not self

    def __repr__(self) -> str:
        return f"{type(self).__name__}[{self.rb_start:#x}, {self.rb_end:#x})"


class AreaTree:
    """Areas in address order, none overlapping another. Every operation is O(log n) unless it says otherwise.

    The kernel keeps an address-sorted list beside each tree; here `previous`, `next` and iteration read the same
    order off the tree.
    """

    __slots__ = ("_length", "augmented", "rb_root")

    def __init__(self, augmented: bool) -> None:
        self.augmented: bool = augmented
        self.rb_root: RbNode | None = None
        self._length: int = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[RbNode]:
        """Yield in address order, O(n) in all. The step onward is taken after the caller is done with the node."""
        node = self.first()
        while node is not None:
            yield node
            node = self.next(node)

    # Reading.

    def find(self, address: int) -> RbNode | None:
        """mm/vmalloc.c:__find_vmap_area. The node that contains `address`."""
        node = self.rb_root
        while node is not None:
            if address < node.rb_start:
                node = node.rb_left
            elif address >= node.rb_end:
                node = node.rb_right
            else:
                return node
        return None

    def first(self) -> RbNode | None:
        """The node with the lowest address."""
        node = self.rb_root
        if node is None:
            return None
        return _leftmost(node)

    def next(self, node: RbNode) -> RbNode | None:
        """The neighbour above `node` in address order."""
        assert node.is_linked, f"{node} is in no tree"
        below = node
        if below.rb_right is not None:
            return _leftmost(below.rb_right)
        above = below.rb_parent
        while above is not None and above.rb_right is below:
            below, above = above, above.rb_parent
        return above

    def previous(self, node: RbNode) -> RbNode | None:
        """The neighbour below `node` in address order."""
        assert node.is_linked, f"{node} is in no tree"
        below = node
        if below.rb_left is not None:
            return _rightmost(below.rb_left)
        above = below.rb_parent
        while above is not None and above.rb_left is below:
            below, above = above, above.rb_parent
        return above

    def neighbours_of(self, start: int, end: int) -> tuple[RbNode | None, RbNode | None] | None:
        """mm/vmalloc.c:find_va_links and get_va_next_sibling. The nodes `[start, end)` would go between.

        None where the kernel WARNs and returns NULL: `[start, end)` overlaps a node, which is `overlap_with`'s.
        """
        assert start < end
        below: RbNode | None = None
        above: RbNode | None = None
        node = self.rb_root
        while node is not None:
            if end <= node.rb_start:
                above = node
                node = node.rb_left
            elif start >= node.rb_end:
                below = node
                node = node.rb_right
            else:
                return None
        return below, above

    def overlap_with(self, start: int, end: int) -> RbNode | None:
        """The first node on the way down that `[start, end)` overlaps: the one find_va_links' WARN names."""
        assert start < end
        node = self.rb_root
        while node is not None:
            if end <= node.rb_start:
                node = node.rb_left
            elif start >= node.rb_end:
                node = node.rb_right
            else:
                return node
        return None

    def lowest_match(self, size: int, align: int, vstart: int, adjust_search_size: bool) -> RbNode | None:
        """mm/vmalloc.c:find_vmap_lowest_match (v6.4). A hole for `size` aligned units at or above `vstart`.

        The lowest there is if the search size is not adjusted; otherwise as the module's docstring tells. Whether to
        adjust is __alloc_vmap_area's decision. `align` is a power of two.
        """
        assert self.augmented, "only an augmented tree knows its largest holes"
        assert size > 0
        assert align.bit_count() == 1, f"{align} is no power of two"
        length = size + align - 1 if adjust_search_size else size

        node = self.rb_root
        while node is not None:
            if _subtree_max_size(node.rb_left) >= length and vstart < node.rb_start:
                node = node.rb_left
                continue
            if _is_within(node, size, align, vstart):
                return node
            if _subtree_max_size(node.rb_right) >= length:
                node = node.rb_right
                continue

            # A subtree was entered for a hole that `vstart` or the alignment rules out. Roll back to the first
            # ancestor that fits, or whose right subtree is still to be searched.
            node = node.rb_parent
            while node is not None:
                if _is_within(node, size, align, vstart):
                    return node
                if _subtree_max_size(node.rb_right) >= length and vstart <= node.rb_start:
                    # Past this start, so that the same right subtree is not entered from here again.
                    vstart = node.rb_start + 1
                    node = node.rb_right
                    break
                node = node.rb_parent
        return None

    # Changing.

    def insert(self, node: RbNode) -> bool:
        """mm/vmalloc.c:insert_vmap_area and insert_vmap_area_augment. False, and nothing changed, on an overlap."""
        assert not node.is_linked, f"{node} is in a tree already"
        assert node.rb_start < node.rb_end, f"{node} is empty"
        parent: RbNode | None = None
        goes_left = False
        here = self.rb_root
        while here is not None:
            parent = here
            if node.rb_end <= here.rb_start:
                goes_left = True
                here = here.rb_left
            elif node.rb_start >= here.rb_end:
                goes_left = False
                here = here.rb_right
            else:
                return False

        node.rb_parent = parent
        node.rb_is_red = True
        if parent is None:
            self.rb_root = node
        elif goes_left:
            parent.rb_left = node
        else:
            parent.rb_right = node
        self._length += 1
        self._mend_after_insert(node)
        if self.augmented:
            # Rotations hand a node the maximum of the place it takes, without its own size. Zero is no node's
            # maximum, so the propagation cannot stop at once.
            node.subtree_max_size = 0
            _propagate(node)
        return True

    def erase(self, node: RbNode) -> None:
        """lib/rbtree.c:rb_erase and rb_erase_augmented, then RB_CLEAR_NODE. The node may be put in a tree again.

        The node's own range is not read, so it may have been changed without telling (`changed`).
        """
        assert node.is_linked, f"{node} is in no tree"
        assert self._is_root(_topmost(node)), f"{node} is in another tree"
        left = node.rb_left
        right = node.rb_right

        # What vacates a place at the bottom is the node, or its successor when that takes the node's place.
        heir: RbNode | None = None
        vacated_parent: RbNode | None
        if left is None or right is None:
            vacated_parent = node.rb_parent
            vacated_is_red = node.rb_is_red
            filler = right if left is None else left
            self._replace(node, filler)
        else:
            heir = _leftmost(right)
            vacated_is_red = heir.rb_is_red
            filler = heir.rb_right
            if heir is right:
                vacated_parent = heir
            else:
                vacated_parent = heir.rb_parent
                self._replace(heir, filler)
                heir.rb_right = right
                right.rb_parent = heir
            heir.rb_left = left
            left.rb_parent = heir
            heir.rb_is_red = node.rb_is_red
            heir.subtree_max_size = node.subtree_max_size
            self._replace(node, heir)

        _unlink(node)
        self._length -= 1
        if self.augmented:
            # Twice, for the first may stop below the heir, whose inherited maximum still counts the node.
            _propagate(vacated_parent)
            _propagate(heir)
        if filler is not None:
            # An only child is red, and its parent black.
            filler.rb_is_red = False
        elif not vacated_is_red and vacated_parent is not None:
            self._mend_after_erase(vacated_parent)

    def changed(self, node: RbNode) -> None:
        """mm/vmalloc.c:augment_tree_propagate_from. To be called after the range of `node` was changed in place.

        The order must not have changed. As in the kernel the walk up stops at the first node whose maximum is right,
        so the call must come before any other change to the tree, save the removal of `node` itself: a rotation in
        between could put the node right and leave those above it wrong.
        """
        assert node.is_linked, f"{node} is in no tree"
        assert node.rb_start < node.rb_end, f"{node} is empty"
        if self.augmented:
            _propagate(node)

    def clear_and_detach(self) -> list[RbNode]:
        """`root = RB_ROOT` and list_replace_init. The nodes in order, each in no tree. O(n)."""
        nodes = list(self)
        self.rb_root = None
        self._length = 0
        for node in nodes:
            _unlink(node)
        return nodes

    # The shape.

    def _replace(self, old: RbNode, new: RbNode | None) -> None:
        """Hang `new` where `old` hangs. `old` keeps its own links."""
        parent = old.rb_parent
        if parent is None:
            self.rb_root = new
        elif parent.rb_left is old:
            parent.rb_left = new
        else:
            parent.rb_right = new
        if new is not None:
            new.rb_parent = parent

    def _lift(self, child: RbNode) -> None:
        """Rotate `child` over its parent, colours untouched.

                 parent              child
                 /    \\             /     \\
              child    c    ->      a     parent       and its mirror image
              /   \\                       /    \\
             a     b                     b      c
        """
        parent = child.rb_parent
        assert parent is not None
        self._replace(parent, child)
        if parent.rb_left is child:
            inner = child.rb_right
            parent.rb_left = inner
            child.rb_right = parent
        else:
            inner = child.rb_left
            parent.rb_right = inner
            child.rb_left = parent
        if inner is not None:
            inner.rb_parent = parent
        parent.rb_parent = child
        if self.augmented:
            child.subtree_max_size = parent.subtree_max_size
            parent.subtree_max_size = _computed_max_size(parent)

    def _mend_after_insert(self, node: RbNode) -> None:
        """lib/rbtree.c:__rb_insert. `node` is red; all is well but that it may be the root or its parent may be red."""
        while True:
            parent = node.rb_parent
            if parent is None:
                node.rb_is_red = False
                return
            if not parent.rb_is_red:
                return
            grandparent = parent.rb_parent
            assert grandparent is not None, "the root is black"

            parent_is_left = grandparent.rb_left is parent
            uncle = grandparent.rb_right if parent_is_left else grandparent.rb_left
            if uncle is not None and uncle.rb_is_red:
                parent.rb_is_red = False
                uncle.rb_is_red = False
                grandparent.rb_is_red = True
                node = grandparent
                continue

            node_is_inner = node is (parent.rb_right if parent_is_left else parent.rb_left)
            top = parent
            if node_is_inner:
                self._lift(node)
                top = node
            self._lift(top)
            top.rb_is_red = False
            grandparent.rb_is_red = True
            return

    def _mend_after_erase(self, parent: RbNode) -> None:
        """lib/rbtree.c:____rb_erase_color. Paths through one child of `parent` lack a black node."""
        short: RbNode | None = None  # the root of the short subtree: empty at first, later black
        while True:
            short_is_left = parent.rb_left is short
            sibling = parent.rb_right if short_is_left else parent.rb_left
            assert sibling is not None, "the other side has a black node more"
            if sibling.rb_is_red:
                self._lift(sibling)
                sibling.rb_is_red = False
                parent.rb_is_red = True
                sibling = parent.rb_right if short_is_left else parent.rb_left
                assert sibling is not None, "a red sibling has black children"

            far = sibling.rb_right if short_is_left else sibling.rb_left
            near = sibling.rb_left if short_is_left else sibling.rb_right
            if far is None or not far.rb_is_red:
                if near is None or not near.rb_is_red:
                    sibling.rb_is_red = True
                    above = parent.rb_parent
                    if parent.rb_is_red or above is None:
                        parent.rb_is_red = False
                        return
                    short = parent
                    parent = above
                    continue
                self._lift(near)
                far = sibling
                sibling = near

            self._lift(sibling)
            sibling.rb_is_red = parent.rb_is_red
            parent.rb_is_red = False
            far.rb_is_red = False
            return

    # Auditing.

    def _is_root(self, node: RbNode) -> bool:
        return self.rb_root is node

    def _check(self) -> None:
        """Audit every invariant. O(n)."""
        root = self.rb_root
        if root is not None:
            assert root.rb_parent is None, "the root has a parent"
            assert not root.rb_is_red, "the root is red"
            self._check_subtree(root)
        nodes = list(self)
        assert len(nodes) == self._length, f"{len(nodes)} nodes, {self._length} counted"
        for node in nodes:
            assert node.rb_start < node.rb_end, f"{node} is empty"
        for i in range(1, len(nodes)):
            assert nodes[i - 1].rb_end <= nodes[i].rb_start, f"{nodes[i - 1]} is before {nodes[i]}"
            assert self.previous(nodes[i]) is nodes[i - 1]

    def _check_subtree(self, node: RbNode) -> int:
        """Audit what binds a node to its children; how many black nodes each path down from here has."""
        black_heights: list[int] = []
        for child in (node.rb_left, node.rb_right):
            if child is None:
                black_heights.append(0)
                continue
            assert child.rb_parent is node, f"{child} hangs from {node} but names {child.rb_parent}"
            assert not (node.rb_is_red and child.rb_is_red), f"{node} and its child {child} are red"
            black_heights.append(self._check_subtree(child))
        assert black_heights[0] == black_heights[1], f"black heights below {node} are {black_heights}"
        if self.augmented:
            expected = _computed_max_size(node)
            assert node.subtree_max_size == expected, f"{node} says {node.subtree_max_size}, is {expected}"
        return black_heights[0] + (0 if node.rb_is_red else 1)


def _leftmost(node: RbNode) -> RbNode:
    while node.rb_left is not None:
        node = node.rb_left
    return node


def _rightmost(node: RbNode) -> RbNode:
    while node.rb_right is not None:
        node = node.rb_right
    return node


def _topmost(node: RbNode) -> RbNode:
    while node.rb_parent is not None:
        node = node.rb_parent
    return node


def _unlink(node: RbNode) -> None:
    """RB_CLEAR_NODE, and the children too, so that no stale link is ever followed."""
    node.rb_parent = node
    node.rb_left = None
    node.rb_right = None
    node.rb_is_red = False


def _subtree_max_size(node: RbNode | None) -> int:
    """mm/vmalloc.c:get_subtree_max_size."""
    return 0 if node is None else node.subtree_max_size


def _computed_max_size(node: RbNode) -> int:
    return max(node.rb_end - node.rb_start, _subtree_max_size(node.rb_left), _subtree_max_size(node.rb_right))


def _propagate(node: RbNode | None) -> None:
    """RB_DECLARE_CALLBACKS_MAX's propagate: mend maxima upward until one is right already."""
    while node is not None:
        computed = _computed_max_size(node)
        if node.subtree_max_size == computed:
            return
        node.subtree_max_size = computed
        node = node.rb_parent


def _is_within(node: RbNode, size: int, align: int, vstart: int) -> bool:
    """mm/vmalloc.c:is_within_this_va. The kernel's overflow tests are not needed: what would wrap is above any end."""
    nva_start = (max(node.rb_start, vstart) + align - 1) & -align
    return nva_start + size <= node.rb_end
