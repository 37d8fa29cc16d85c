# SPDX-License-Identifier: GPL-2.0-only
"""use-after-free, uninitialised-read and list-corruption."""

import pytest

from stressvmap.journal import events as ev
from tests.checks.recording import ALIASES, AREA, BLOCK, Recording

UAF = "use-after-free"
LIST = "list-corruption"


def dead_area(how: int) -> tuple[Recording, int]:
    j = Recording()
    area = j.area(1, AREA, 4)
    j.begin(1, ALIASES)
    j.add(ev.OBJECT_FREE, 1, area, "vmap_area", how, function="__purge_vmap_area_lazy")
    j.end(1, ALIASES)
    j.begin(2, ALIASES)
    j.lock(2, 5)
    j.add(ev.DEAD_ACCESS, 2, area, "va_start", ev.READ, function="_vm_unmap_aliases")
    return j, area


def test_a_dead_area_that_was_read_tells_both_stories() -> None:
    j, _ = dead_area(ev.FREED_SLAB)
    found = j.violation(UAF)
    assert (found.mechanism.role, found.mechanism.mechanism) == ("freed vmap_area", "reads va_start")
    assert found.mechanism.locks == ("vb->lock",)
    for told in ("allocates", "in __purge_vmap_area_lazy: frees", "in _vm_unmap_aliases: reads va_start"):
        assert told in found.message


def test_an_area_that_lives_on_in_the_free_tree_is_told_apart() -> None:
    recycled = dead_area(ev.FREED_RECYCLED)[0].violation(UAF)
    assert recycled.mechanism.role == "recycled vmap_area"
    assert "KASAN would be silent" in recycled.message
    assert recycled.fingerprint != dead_area(ev.FREED_SLAB)[0].violation(UAF).fingerprint


def test_a_call_that_touches_a_dead_object_twice_is_one_violation() -> None:
    j, area = dead_area(ev.FREED_SLAB)
    j.add(ev.DEAD_ACCESS, 2, area, "va_end", ev.READ)
    assert len(j.violations(UAF)) == 1


def test_an_object_queued_for_a_grace_period_is_alive() -> None:
    j = Recording()
    block = j.block(1, free=4)
    j.add(ev.KFREE_RCU, 1, block, "vmap_block")
    j.lock(2, block)
    j.read(2, block, free=4)
    j.unlock(2, block)
    assert not j.violations(UAF)


def freed_on_a_list(head_class: str) -> str:
    """The mechanism told when a block was freed that a list with such a head still held."""
    j = Recording()
    head = j.object(1, head_class)
    block = j.block(1, free=0)
    j.write(1, head, **{"purge.next": block})
    j.add(ev.LIST_ADD, 1, block, "purge", head)
    j.add(ev.OBJECT_FREE, 1, block, "vmap_block", ev.FREED_SLAB)
    j.add(ev.DEAD_ACCESS, 1, block, "purge.prev", ev.READ)
    return j.violation(UAF).mechanism.mechanism


def test_a_block_freed_on_a_list_that_others_walk_is_one_mechanism_whatever_the_field() -> None:
    assert freed_on_a_list("vmap_block_queue") == "still on a list when freed"


def test_a_block_freed_on_its_caller_s_own_list_is_not_taken_for_one_that_others_find() -> None:
    """A list on the stack: who frees before it deletes does another thing than who corrupted a shared list."""
    assert freed_on_a_list("on_stack") == "reads purge.prev"


def test_a_violation_a_check_and_execution_too_many_is_counted_not_kept() -> None:
    j = Recording()
    for _ in range(30):
        area = j.area(1, AREA, 4)
        j.add(ev.OBJECT_FREE, 1, area, "vmap_area")
        j.add(ev.DEAD_ACCESS, 1, area, "va_start", ev.READ)
    assert len(j.violations(UAF)) == 20


def test_a_field_read_before_anybody_wrote_it() -> None:
    j = Recording()
    block = j.object(1, "vmap_block")
    j.begin(2, ALIASES)
    j.add(ev.UNINITIALISED, 2, block, "cpu")
    j.add(ev.UNINITIALISED, 2, block, "cpu")
    found = j.violation("uninitialised-read")
    assert (found.mechanism.role, found.mechanism.mechanism) == ("vmap_block", "cpu read before it was written")


# -- lists ------------------------------------------------------------------------------------------------


def test_neighbours_that_do_not_point_back() -> None:
    j = Recording()
    head = j.object(1, "vmap_block_queue")
    block = j.block(1, free=4, head=head)
    j.begin(2, "vm_map_ram")
    j.lock(2, head, "vbq->lock")
    j.add(ev.LIST_CORRUPT, 2, block, "free_list", head)
    found = j.violation(LIST)
    assert found.mechanism.mechanism == "neighbours do not point back"
    assert found.mechanism.locks == ("vbq->lock",)


def test_a_delete_under_another_lists_lock_is_what_the_fingerprint_names() -> None:
    j = Recording()
    right, wrong = j.object(1, "vmap_block_queue"), j.object(1, "vmap_block_queue")
    block = j.block(1, free=4, head=right)
    other = j.block(1, BLOCK + 8, free=4, head=right)
    j.begin(2, ALIASES)
    j.lock(2, wrong, "vbq->lock")
    j.add(ev.LIST_DEL, 2, block, "free_list")
    j.unlock(2, wrong, "vbq->lock")
    j.end(2, ALIASES)
    j.begin(1, "vm_map_ram")
    j.lock(1, right, "vbq->lock")
    j.add(ev.LIST_CORRUPT, 1, other, "free_list", right)
    found = j.violation(LIST)
    assert found.mechanism.mechanism == "changed under another list's lock"
    assert found.mechanism.calls == (ALIASES,)


def test_a_delete_in_its_midst_under_another_lists_lock() -> None:
    j = Recording()
    right, wrong = j.object(1, "vmap_block_queue"), j.object(1, "vmap_block_queue")
    block = j.block(1, free=4, head=right)
    new = j.object(1, "vmap_block")
    j.begin(2, ALIASES)
    j.lock(2, wrong, "vbq->lock")
    j.add(ev.WRITE, 2, right, "free.prev", block)
    j.begin(1, "vm_map_ram")
    j.lock(1, right, "vbq->lock")
    j.add(ev.LIST_CORRUPT, 1, new, "free_list", right)
    found = j.violation(LIST)
    assert found.mechanism.mechanism == "changed under another list's lock"
    assert found.mechanism.calls == (ALIASES,)


def test_a_delete_under_its_own_lists_lock_is_clean() -> None:
    j = Recording()
    head = j.object(1, "vmap_block_queue")
    block = j.block(1, free=4, head=head)
    j.lock(2, head, "vbq->lock")
    j.add(ev.LIST_DEL, 2, block, "free_list")
    j.unlock(2, head, "vbq->lock")
    assert not j.violations(LIST)


def test_at_rest_the_lists_hold_just_the_blocks_with_free_space() -> None:
    j = Recording()
    one, two = j.block(1, free=4), j.block(1, BLOCK + 8, free=0)
    books = {one: {"free": 4, "dirty": 4}, two: {"free": 0, "dirty": 0}}
    j.audit(blocks=books, listed=(one,))
    assert not j.violations(LIST)
    j.audit(blocks=books, listed=())
    j.audit(blocks=books, listed=(one, two))
    assert [found.mechanism.mechanism for found in j.violations(LIST)] == [
        "a block with free space is not reached",
        "a block without free space is listed",
    ]


def test_between_operations_a_new_block_may_not_be_listed_yet() -> None:
    j = Recording()
    block = j.block(1, free=4)
    j.audit("between", blocks={block: {"free": 4, "dirty": 8}}, listed=())
    assert not j.violations(LIST)


def test_a_list_that_is_broken_at_rest() -> None:
    j = Recording()
    block = j.block(1, free=4)
    j.add(ev.AUDIT_BEGIN, 0, 0, "rest")
    j.add(ev.AUDIT_LIST_BROKEN, 0, block, "free", 1)
    j.add(ev.AUDIT_END, 0)
    assert j.violation(LIST).mechanism.mechanism == "next->prev does not point back at rest"


@pytest.mark.parametrize(("broken_cpu", "is_put_down"), [(0, True), (1, False)])
def test_a_list_broken_at_rest_is_put_down_to_a_wrong_lock_of_that_list_alone(
    broken_cpu: int, *, is_put_down: bool
) -> None:
    """The block at which it shows is off every list by then: the audit says which CPU's list it was reached on."""
    j = Recording()
    right, wrong = j.object(1, "vmap_block_queue"), j.object(1, "vmap_block_queue")
    block = j.block(1, free=4, head=right)
    j.begin(2, ALIASES)
    j.lock(2, wrong, "vbq->lock")
    j.add(ev.LIST_DEL, 2, block, "free_list")
    j.unlock(2, wrong, "vbq->lock")
    j.end(2, ALIASES)
    j.add(ev.AUDIT_BEGIN, 0, 0, "rest")
    j.add(ev.AUDIT_FIELD, 0, right, "cpu", 0)
    j.add(ev.AUDIT_FIELD, 0, wrong, "cpu", 1)
    j.add(ev.AUDIT_LIST_BROKEN, 0, block, "free", broken_cpu)
    j.add(ev.AUDIT_END, 0)
    assert (j.violation(LIST).mechanism.mechanism == "changed under another list's lock") is is_put_down
