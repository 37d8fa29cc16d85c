# SPDX-License-Identifier: GPL-2.0-only
"""Which announced operations are dependent."""

from __future__ import annotations

from itertools import combinations_with_replacement

import pytest

from stressvmap.journal import events as ev
from stressvmap.sched.dependence import FAR_REACHING, NOTHING, Operation, are_dependent

DEPENDENT: list[tuple[Operation, Operation]] = [
    ((ev.READ, 7, "dirty"), (ev.WRITE, 7, "dirty")),
    ((ev.READ_ONCE, 7, "dirty"), (ev.WRITE_ONCE, 7, "dirty")),
    ((ev.WRITE, 7, "dirty"), (ev.WRITE, 7, "dirty")),
    ((ev.ATOMIC, 7, "vmap_lazy_nr"), (ev.READ_ONCE, 7, "vmap_lazy_nr")),
    ((ev.LOCK, 7, "vb->lock"), (ev.LOCK, 7, "vb->lock")),
    ((ev.LOCK, 7, "vb->lock"), (ev.UNLOCK, 7, "vb->lock")),
    ((ev.XA_LOAD, 7, ""), (ev.XA_ERASE, 7, "")),
    ((ev.TREE_INSERT, 7, "lazy"), (ev.TREE_ERASE, 0, "lazy")),
    ((ev.TREE_FIND, 0, "busy"), (ev.TREE_ERASE, 8, "busy")),
    ((ev.READ, 7, "va_start"), (ev.TREE_INSERT, 7, "free")),
    ((ev.PTE_CLEAR, -9, "pte"), (ev.TLB_READ, -9, "pte")),
    ((ev.PTE_SET, -9, "pte"), (ev.PTE_CLEAR, -9, "pte")),
    ((ev.TLB_INVALIDATE, 0, "tlb"), (ev.TLB_READ, -9, "pte")),
    ((ev.IPI_SEND, 0, "ipi"), (ev.TLB_INVALIDATE, 0, "tlb")),
    ((ev.IPI_SEND, 0, "ipi"), (ev.IPI_SEND, 0, "ipi")),
    ((ev.WORK_QUEUE, 0, "drain_vmap_work"), (ev.WORK_BEGIN, 0, "drain_vmap_work")),
    ((ev.RCU_READ_LOCK, 0, ""), (ev.KFREE_RCU, 7, "")),
    ((ev.RCU_READ_LOCK, 0, "synchronize_rcu"), (ev.RCU_READ_UNLOCK, 0, "")),
    ((ev.KFREE_RCU, 0, "callback"), (ev.READ, 7, "dirty")),
]
INDEPENDENT: list[tuple[Operation, Operation]] = [
    ((ev.READ, 7, "dirty"), (ev.READ_ONCE, 7, "dirty")),
    ((ev.WRITE, 7, "dirty"), (ev.WRITE, 7, "free")),
    ((ev.WRITE, 7, "dirty"), (ev.WRITE, 8, "dirty")),
    ((ev.LOCK, 7, "vb->lock"), (ev.LOCK, 8, "vb->lock")),
    ((ev.LOCK, 7, "vb->lock"), (ev.WRITE, 7, "dirty")),
    ((ev.XA_LOAD, 7, ""), (ev.XA_LOAD, 7, "")),
    ((ev.TREE_INSERT, 7, "lazy"), (ev.TREE_INSERT, 8, "busy")),
    ((ev.TREE_FIND, 0, "busy"), (ev.TREE_FIND, 0, "busy")),
    ((ev.PTE_CLEAR, -9, "pte"), (ev.TLB_READ, -8, "pte")),
    ((ev.TLB_READ, -9, "pte"), (ev.TLB_READ, -9, "pte")),
    ((ev.TLB_INVALIDATE, 0, "tlb"), (ev.TLB_INVALIDATE, 0, "tlb")),
    ((ev.TLB_INVALIDATE, 0, "tlb"), (ev.PTE_CLEAR, -9, "pte")),
    ((ev.RCU_READ_LOCK, 0, ""), (ev.RCU_READ_UNLOCK, 0, "")),
    ((ev.RCU_READ_LOCK, 0, ""), (ev.WRITE, 7, "dirty")),
    ((ev.KFREE_RCU, 0, "callback"), (ev.PTE_CLEAR, -9, "pte")),
    (NOTHING, (ev.WRITE, 7, "dirty")),
    (NOTHING, NOTHING),
]


@pytest.mark.parametrize(("one", "other"), DEPENDENT)
def test_the_order_of_these_matters(one: Operation, other: Operation) -> None:
    assert are_dependent(one, other)
    assert are_dependent(other, one)


@pytest.mark.parametrize(("one", "other"), INDEPENDENT)
def test_the_order_of_these_does_not_matter(one: Operation, other: Operation) -> None:
    assert not are_dependent(one, other)
    assert not are_dependent(other, one)


def test_on_different_objects_only_far_reaching_kinds_meet() -> None:
    seen = {operation for pair in DEPENDENT + INDEPENDENT for operation in pair}
    near = [operation for operation in sorted(seen) if operation[0] not in FAR_REACHING]
    for one, other in combinations_with_replacement(near, 2):
        if one[1] != other[1]:
            assert not are_dependent(one, other)
