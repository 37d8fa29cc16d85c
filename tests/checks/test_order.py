# SPDX-License-Identifier: GPL-2.0-only
import pytest

from stressvmap.checks.order import LOCAL, Order
from stressvmap.journal import events as ev
from tests.checks.executions import walked
from tests.checks.recording import ALIASES, BLOCK, IRQ, Recording


def happened_before(j: Recording, earlier: int, later: int) -> bool:
    return earlier in Order(j.events).past_of(later)


def test_a_read_depends_on_the_write_of_what_it_reads_and_on_no_other_field() -> None:
    j = Recording()
    written = j.add(ev.WRITE, 1, 5, "dirty", 1)
    other = j.add(ev.WRITE, 1, 5, "free", 1)
    read = j.add(ev.READ, 2, 5, "dirty", 1)
    assert Order(j.events).before[read] == (written,)
    assert not happened_before(j, other, read)


def test_two_reads_are_in_no_order_and_a_write_is_after_both() -> None:
    j = Recording()
    reads = [j.add(ev.READ, task, 5, "dirty", 0) for task in (1, 2)]
    written = j.add(ev.WRITE, 3, 5, "dirty", 1)
    assert Order(j.events).before[reads[1]] == ()
    assert Order(j.events).before[written] == tuple(reads)


def test_what_a_task_did_before_it_released_a_lock_happened_before_what_the_next_holder_does() -> None:
    j = Recording()
    j.lock(1, 5)
    inside = j.add(ev.WRITE, 1, 6, "x", 1)
    j.unlock(1, 5)
    outside = j.add(ev.WRITE, 1, 6, "y", 1)
    j.add(ev.LOCK_WAIT, 2, 5, "vb->lock", 1)
    j.lock(2, 5)
    after = j.add(ev.READ, 2, 7, "z", 0)
    assert happened_before(j, inside, after)
    assert not happened_before(j, outside, after)


def test_a_flush_ends_after_each_cpu_has_answered_and_an_answer_comes_after_its_request() -> None:
    j = Recording()
    j.add(ev.FLUSH_BEGIN, 1, BLOCK, 1, BLOCK + 1)
    sent = j.add(ev.IPI_SEND, 1, 1, "", 1)
    answered = j.add(ev.TLB_INVALIDATE, IRQ + 1, BLOCK, "", BLOCK + 1)
    own = j.add(ev.TLB_INVALIDATE, 1, BLOCK, "", BLOCK + 1)
    ended = j.add(ev.FLUSH_END, 1, BLOCK, 1, BLOCK + 1)
    assert Order(j.events).before[answered] == (sent,)
    assert Order(j.events).before[ended] == (answered, own)


@pytest.mark.parametrize(("page", "is_ordered"), [(BLOCK, True), (BLOCK + 1, False)])
def test_an_invalidation_is_in_order_with_the_clears_in_its_range_only(page: int, is_ordered: bool) -> None:
    j = Recording()
    cleared = j.add(ev.PTE_CLEAR, 1, page, 7, 0)
    invalidated = j.add(ev.TLB_INVALIDATE, IRQ + 1, BLOCK, "", BLOCK + 1)
    again = j.add(ev.PTE_SET, 2, page, 8, 0)
    assert happened_before(j, cleared, invalidated) == is_ordered
    assert happened_before(j, invalidated, again) == is_ordered


def test_the_return_of_an_unmapping_is_in_order_with_the_begin_of_vm_unmap_aliases() -> None:
    j = Recording()
    j.unmap(1, BLOCK)
    returned = len(j.events) - 1
    begun = j.begin(2, ALIASES)
    mapped = j.begin(2, "vm_map_ram")
    assert Order(j.events).before[begun] == (returned,)
    assert Order(j.events).before[mapped] == (begun,)


def test_an_object_ends_after_the_readers_that_left_and_a_touch_of_the_dead_after_its_end() -> None:
    j = Recording()
    left = j.add(ev.RCU_READ_UNLOCK, 1, 0, "", 0)
    queued = j.add(ev.KFREE_RCU, 2, 5, "vmap_block", 0)
    freed = j.add(ev.OBJECT_FREE, 3, 5, "vmap_block", 0)
    touched = j.add(ev.DEAD_ACCESS, 1, 5, "va", ev.READ)
    assert happened_before(j, left, freed)
    assert happened_before(j, queued, freed)
    assert happened_before(j, freed, touched)


def test_what_a_slot_and_a_work_hand_over_is_ordered() -> None:
    j = Recording()
    put = j.add(ev.SLOT_PUT, 1, 3)
    taken = j.add(ev.SLOT_TAKE, 2, 3)
    queued = j.add(ev.WORK_QUEUE, 1, 0, "drain_vmap_work")
    begun = j.add(ev.WORK_BEGIN, 3, 0, "drain_vmap_work")
    assert happened_before(j, put, taken)
    assert happened_before(j, queued, begun)


def test_a_task_that_goes_by_the_online_cpus_is_in_order_with_their_change() -> None:
    j = Recording()
    flushed = j.add(ev.FLUSH_BEGIN, 1, BLOCK, 1, BLOCK + 1)
    left = j.add(ev.CPU_OFFLINE, 2, 1)
    moved = j.add(ev.MIGRATED, 3, 1, "", 0)
    assert happened_before(j, flushed, left)
    assert happened_before(j, left, moved)


def test_before_is_earlier_and_what_is_local_depends_on_its_own_task_alone() -> None:
    events = walked("v6.5", "busy", 3).journal.events
    before = Order(events).before
    assert len(before) == len(events)
    assert all(earlier < number for number, those in enumerate(before) for earlier in those)
    for number, event in enumerate(events):
        if event[0] in LOCAL:
            assert [events[earlier][1] for earlier in before[number]] in ([], [event[1]])
