# SPDX-License-Identifier: GPL-2.0-only
"""struct list_head (<linux/list.h>, <linux/rculist.h>): intrusive, and an add or a delete is the separate stores it is
in C.

So two tasks that change one list under different locks corrupt it here exactly as they do there. Adds and deletes
whose neighbours do not point back (what CONFIG_DEBUG_LIST sees) are recorded, and go on as in a kernel built without
it.
"""

from __future__ import annotations

from collections.abc import Iterator

from stressvmap.journal.events import LIST_ADD, LIST_CORRUPT, LIST_DEL, READ, READ_ONCE, WRITE, WRITE_ONCE
from stressvmap.kernel.machine import Machine
from stressvmap.kernel.struct import Struct
from stressvmap.runtime.access import LOOKS


class ListHead:
    """A node embedded in `owner` under the name `field`, or a head. `next` and `prev` are None while uninitialised
    or poisoned.
    """

    __slots__ = ("field", "machine", "next", "next_field", "owner", "prev", "prev_field")

    def __init__(self, machine: Machine, owner: Struct, field: str) -> None:
        self.machine = machine
        self.owner = owner
        self.field = field
        self.next_field = field + ".next"
        self.prev_field = field + ".prev"
        self.next: ListHead | None = None
        self.prev: ListHead | None = None

    def load_next(self, kind: int) -> ListHead | None:
        """Read the next pointer."""
        self._announce(kind, self.next_field)
        node = self.next
        self.machine.record(kind, self.owner.id, self.next_field, 0 if node is None else node.owner.id)
        return node

    def load_prev(self, kind: int) -> ListHead | None:
        """Read the prev pointer."""
        self._announce(kind, self.prev_field)
        node = self.prev
        self.machine.record(kind, self.owner.id, self.prev_field, 0 if node is None else node.owner.id)
        return node

    def store_next(self, kind: int, node: ListHead | None) -> None:
        """Write the next pointer."""
        self._announce(kind, self.next_field)
        self.next = node
        self.machine.record(kind, self.owner.id, self.next_field, 0 if node is None else node.owner.id)

    def store_prev(self, kind: int, node: ListHead | None) -> None:
        """Write the prev pointer."""
        self._announce(kind, self.prev_field)
        self.prev = node
        self.machine.record(kind, self.owner.id, self.prev_field, 0 if node is None else node.owner.id)

    def points_to(self, next: ListHead | None, prev: ListHead | None) -> bool:
        """Whether its links are these; a look of CONFIG_DEBUG_LIST, not of the kernel, and so no point. None: any."""
        note, owner_id = self.machine.runtime.note, self.owner.id
        if next is not None:
            note((owner_id, self.next_field), LOOKS)
        if prev is not None:
            note((owner_id, self.prev_field), LOOKS)
        return (next is None or self.next is next) and (prev is None or self.prev is prev)

    def _announce(self, kind: int, field: str) -> None:
        owner = self.owner
        self.machine.runtime.point(kind, owner.id, field)
        if owner.is_dead:
            owner.touch(kind, field)


def INIT_LIST_HEAD(node: ListHead) -> None:
    """Make `node` an empty list."""
    node.store_next(WRITE_ONCE, node)
    node.store_prev(WRITE, node)


def list_add_tail(new: ListHead, head: ListHead) -> None:
    """Add `new` before `head`, for lists nobody walks locklessly."""
    _list_add(new, head, WRITE_ONCE)


def list_add_tail_rcu(new: ListHead, head: ListHead) -> None:
    """Add `new` before `head`; a lockless walker sees it whole or not at all."""
    _list_add(new, head, WRITE_ONCE)


def list_add(new: ListHead, head: ListHead) -> None:
    """Add `new` after `head`."""
    following = head.load_next(READ)
    head.machine.BUG_ON(following is None, f"list_add to an uninitialised {head.field}")
    assert following is not None
    _insert(new, head, following, WRITE_ONCE)
    head.machine.record(LIST_ADD, new.owner.id, new.field, head.owner.id)


def _list_add(new: ListHead, head: ListHead, publish: int) -> None:
    prev = head.load_prev(READ)
    head.machine.BUG_ON(prev is None, f"list_add to an uninitialised {head.field}")
    assert prev is not None
    _insert(new, prev, head, publish)
    head.machine.record(LIST_ADD, new.owner.id, new.field, head.owner.id)


def _insert(new: ListHead, prev: ListHead, following: ListHead, publish: int) -> None:
    """__list_add: `new` between two neighbours."""
    if not following.points_to(None, prev) or not prev.points_to(following, None) or new is prev or new is following:
        culprit = prev if not prev.points_to(following, None) else following
        new.machine.record(LIST_CORRUPT, new.owner.id, new.field, culprit.owner.id)
    new.store_next(WRITE, following)
    new.store_prev(WRITE, prev)
    prev.store_next(publish, new)
    following.store_prev(WRITE, new)


def list_del_rcu(node: ListHead) -> None:
    """Take `node` out; it keeps its next pointer, so that walkers that stand on it go on."""
    _list_del(node)
    node.store_prev(WRITE, None)
    node.machine.record(LIST_DEL, node.owner.id, node.field, 0)


def list_del(node: ListHead) -> None:
    """Take `node` out and poison both its pointers."""
    _list_del(node)
    node.store_next(WRITE, None)
    node.store_prev(WRITE, None)
    node.machine.record(LIST_DEL, node.owner.id, node.field, 0)


def list_del_init(node: ListHead) -> None:
    """Take `node` out and make it an empty list."""
    _list_del(node)
    INIT_LIST_HEAD(node)
    node.machine.record(LIST_DEL, node.owner.id, node.field, 0)


def list_move_tail(node: ListHead, head: ListHead) -> None:
    """Take `node` out and add it before `head`."""
    _list_del(node)
    node.machine.record(LIST_DEL, node.owner.id, node.field, 0)
    list_add_tail(node, head)


def list_replace_init(old: ListHead, new: ListHead) -> None:
    """Let `new` head the entries of `old`, which is empty afterwards; what `new` headed is forgotten."""
    first = old.load_next(READ)
    last = old.load_prev(READ)
    assert first is not None
    assert last is not None
    new.store_next(WRITE, new if first is old else first)
    new.store_prev(WRITE, new if last is old else last)
    if first is not old:
        first.store_prev(WRITE, new)
        last.store_next(WRITE, new)
    INIT_LIST_HEAD(old)


def list_empty(head: ListHead) -> bool:
    """Whether it heads nothing; may be asked without a lock."""
    return head.load_next(READ_ONCE) is head


def _list_del(node: ListHead) -> None:
    machine = node.machine
    prev = node.load_prev(READ)
    following = node.load_next(READ)
    is_left_broken = prev is None or not prev.points_to(node, None)
    if is_left_broken or following is None or not following.points_to(None, node):
        culprit = prev if is_left_broken else following
        machine.record(LIST_CORRUPT, node.owner.id, node.field, 0 if culprit is None else culprit.owner.id)
    machine.BUG_ON(prev is None or following is None, f"list_del of a poisoned {node.field}")
    assert prev is not None
    assert following is not None
    following.store_prev(WRITE, prev)
    prev.store_next(WRITE_ONCE, following)


def list_first_entry(head: ListHead) -> Struct:
    """What the first node of a list that is not empty is in."""
    node = head.load_next(READ)
    assert node is not None
    return node.owner


def list_for_each_entry_rcu(head: ListHead) -> Iterator[Struct]:
    """Walk as a lockless reader does: a node deleted meanwhile still leads on. It must be an RCU reader, as
    CONFIG_PROVE_RCU_LIST asks.
    """
    task = head.machine.runtime.current
    is_reader = task.rcu_depth > 0 or task.preempt_count > 0
    head.machine.WARN_ON(not is_reader, "RCU-list traversed in non-reader section")
    node = head.load_next(READ_ONCE)
    while node is not head:
        node = _walked(node, head)
        yield node.owner
        node = node.load_next(READ_ONCE)


def list_for_each_entry_safe(head: ListHead) -> Iterator[Struct]:
    """Walk a private list; the entry just yielded may be freed."""
    node = head.load_next(READ)
    while node is not head:
        node = _walked(node, head)
        following = node.load_next(READ)
        yield node.owner
        node = following


def _walked(node: ListHead | None, head: ListHead) -> ListHead:
    """What a walk comes to: LIST_POISON1, or a pointer nobody wrote, is an oops."""
    head.machine.BUG_ON(node is None, f"walk over a poisoned {head.field}")
    assert node is not None
    return node
