# SPDX-License-Identifier: GPL-2.0-only
"""Which announced operations are dependent: the order of two that are not changes neither what each does nor what
comes after.

An operation is what a task announced at its point: (kind, object, field), kinds as in journal/events.py. What a task
does between two points without announcing it belongs to the operation before, and is unknown here: a preempt count
that changes beside a lock, which a grace period waits for; the neighbours that an area merges with. A strategy may
live with that; a proof may not.
"""

from __future__ import annotations

from typing import Final

from stressvmap.journal.events import (
    IPI_SEND,
    KFREE_RCU,
    RCU_READ_LOCK,
    RCU_READ_UNLOCK,
    READ,
    READ_ONCE,
    TLB_INVALIDATE,
    TLB_READ,
    TREE_ERASE,
    TREE_FIND,
    TREE_INSERT,
    WORK_BEGIN,
    WORK_FLUSHED,
    WORK_QUEUE,
    XA_LOAD,
)
from stressvmap.runtime.task import Task

Operation = tuple[int, int, str]
"""(kind, object, field). The object of a page table entry is its page, negated; kind 0: touches nothing shared."""

NOTHING: Final[Operation] = (0, 0, "")

_READS: Final = frozenset({READ, READ_ONCE, XA_LOAD, TREE_FIND, TLB_READ})
TREE_KINDS: Final = frozenset({TREE_INSERT, TREE_ERASE, TREE_FIND})
_RCU: Final = frozenset({RCU_READ_LOCK, RCU_READ_UNLOCK, KFREE_RCU})
_FLUSH: Final = frozenset({IPI_SEND, TLB_INVALIDATE})
_WORK: Final = frozenset({WORK_QUEUE, WORK_BEGIN, WORK_FLUSHED})
FAR_REACHING: Final = _RCU | _FLUSH | _WORK | TREE_KINDS
"""Two operations on different objects are dependent only if one of them is of these kinds."""


def operation_of(task: Task) -> Operation:
    """The operation `task` is about to do."""
    return task.pending_kind, task.pending_object, task.pending_field


def is_read(operation: Operation) -> bool:
    """Whether it changes nothing of what it is on."""
    return operation[0] in _READS


def are_dependent(a: Operation, b: Operation) -> bool:
    """Whether the order of `a` and `b`, pending in different tasks, can matter. Symmetric."""
    kind_a, object_a, field_a = a
    kind_b, object_b, field_b = b
    if not kind_a or not kind_b:
        return False
    if kind_a in _RCU or kind_b in _RCU:
        return _depends_on_rcu(a, b) or _depends_on_rcu(b, a)
    if kind_a in _FLUSH or kind_b in _FLUSH:
        return _meet_in_flush(kind_a, kind_b)
    if kind_a in _WORK and kind_b in _WORK:
        return True  # one queue
    if kind_a in TREE_KINDS and kind_b in TREE_KINDS:
        return field_a == field_b and not (kind_a in _READS and kind_b in _READS)
    if object_a != object_b or not object_a:
        return False
    if kind_a in TREE_KINDS or kind_b in TREE_KINDS:
        return True  # an area that enters a tree or leaves it may die there, or change its bounds
    return field_a == field_b and not (kind_a in _READS and kind_b in _READS)


def _depends_on_rcu(a: Operation, b: Operation) -> bool:
    """Whether `b` can depend on the RCU operation `a`: readers on whoever waits for them, and who frees on all who
    may still touch the object; a callback does not say which that is.
    """
    kind, object_id, field = a
    if kind != KFREE_RCU and field != "synchronize_rcu":
        return False
    if b[0] in _RCU:
        return True
    return b[1] > 0 if field == "callback" else object_id == b[1] and object_id != 0


def _meet_in_flush(kind: int, other: int) -> bool:
    """Requests are answered in the order they were sent; an invalidation empties what a read through the TLB may
    find. Those of two CPUs do not meet.
    """
    if kind in _FLUSH and other in _FLUSH:
        return IPI_SEND in (kind, other)
    return TLB_READ in (kind, other) and TLB_INVALIDATE in (kind, other)
