# SPDX-License-Identifier: GPL-2.0-only
"""The class of an execution is that of its happens-before order, and of nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stressvmap.checks.coverage import Tracer
from stressvmap.checks.order import Order
from stressvmap.journal import events as ev
from stressvmap.journal.events import Event
from tests.checks.executions import points_of, replayed, walked
from tests.checks.recording import ALIASES, BLOCK, IRQ, Recording
from tests.stress.runs import python

VERSIONS = ("v6.4", "v6.5")


def class_of(events: Sequence[Event]) -> int:
    return Tracer().footprint(events).class_hash


def swapped(events: Sequence[Event], number: int) -> list[Event]:
    """The events with `number` and the next one in the other order."""
    return [*events[:number], events[number + 1], events[number], *events[number + 2 :]]


def passes(events: Sequence[Event]) -> list[int]:
    """Where the journal passes from one task to another."""
    return [number for number in range(len(events) - 1) if events[number][1] != events[number + 1][1]]


@given(st.sampled_from(VERSIONS), st.integers(0, 5), st.data())
def test_the_class_changes_iff_a_swap_of_neighbours_changes_the_order_of_dependent_events(
    version: str, number: int, data: st.DataObject
) -> None:
    events = walked(version, "busy", number).journal.events
    where = data.draw(st.sampled_from(passes(events)))
    is_dependent = where in Order(events).before[where + 1]
    assert (class_of(swapped(events, where)) != class_of(events)) == is_dependent


SHAPES: tuple[tuple[int, int, int | str, int], ...] = (
    *((kind, 5, field, 1) for kind in (ev.READ, ev.WRITE, ev.READ_ONCE, ev.WRITE_ONCE) for field in ("dirty", "free")),
    (ev.ATOMIC, 6, "vmap_lazy_nr", 1),
    *((kind, 5, "vb->lock", 0) for kind in (ev.LOCK, ev.UNLOCK, ev.TRYLOCK_FAILED, ev.LOCK_WAIT, ev.ASSERT_HELD)),
    *((kind, 0, "", 1) for kind in (ev.RCU_READ_LOCK, ev.RCU_READ_UNLOCK)),
    *((kind, 5, "vmap_block", 0) for kind in (ev.KFREE_RCU, ev.OBJECT_FREE)),
    (ev.DEAD_ACCESS, 5, "dirty", ev.READ),
    *((kind, 7, 3, 5) for kind in (ev.XA_LOAD, ev.XA_STORE, ev.XA_ERASE)),
    *((kind, 8, tree, 0) for kind in (ev.TREE_INSERT, ev.TREE_FIND) for tree in ("busy", "free")),
    *((kind, 0, "drain_vmap_work", 0) for kind in (ev.WORK_QUEUE, ev.WORK_BEGIN)),
    *((kind, 2, "", 0) for kind in (ev.SLOT_PUT, ev.SLOT_TAKE)),
    (ev.CPU_OFFLINE, 3, "", 0),
    (ev.MIGRATED, 0, "", 1),
    (ev.FLUSH_BEGIN, BLOCK, 9, BLOCK + 2),
    (ev.IPI_SEND, 9, "", 0),
    (ev.FLUSH_END, BLOCK, 9, BLOCK + 2),
    *((ev.API_BEGIN, 0, entry, 0) for entry in (ALIASES, "vm_map_ram", "vfree_reset")),
    *((ev.API_END, 0, entry, 0) for entry in (ALIASES, "vm_unmap_ram", "vfree_reset")),
    *((kind, page, 0x100, 0) for kind in (ev.PTE_SET, ev.PTE_CLEAR, ev.PTE_BUSY) for page in (BLOCK, BLOCK + 4)),
    *((kind, page, 0x100, 1) for kind in (ev.TLB_FILL, ev.TLB_READ) for page in (BLOCK, BLOCK + 4)),
    (ev.TLB_INVALIDATE, BLOCK, "", BLOCK + 2),
    (ev.TLB_INVALIDATE, 0, "", ev.FULL_END),
    *((kind, BLOCK, "area", BLOCK + 1) for kind in (ev.SPACE_OUT, ev.SPACE_BACK)),
    (ev.FRAME_OWNER, 0x100, "", 1),
    (ev.MIGHT_SLEEP, 0, "might_sleep", 0),
    (ev.BUG, 0, "oops", 0),
)


def before_them() -> Recording:
    """A page mapped and cached, another cleared by tasks 1 and 2 in calls that have not returned, and flushes under
    way, one of which has asked both CPUs.
    """
    j = Recording()
    for task, cpu_page in ((1, BLOCK), (2, BLOCK + 4)):
        j.add(ev.PTE_SET, task, cpu_page, 0x100 + task)
        j.add(ev.PTE_CLEAR, task, BLOCK + 9 + task, 0x200)
    for task in (1, 2, 3):
        j.add(ev.FLUSH_BEGIN, task, BLOCK, task, BLOCK + 2)
    for cpu in (0, 1):
        j.add(ev.IPI_SEND, 3, 1, "", cpu)
    return j


@pytest.mark.parametrize("first", SHAPES)
def test_of_any_two_kinds_of_events_the_class_tells_the_order_iff_they_are_dependent(
    first: tuple[int, int, int | str, int],
) -> None:
    for second in SHAPES:
        for tasks in ((1, 2), (1, 3), (1, IRQ), (IRQ, IRQ + 1)):
            j = before_them()
            at = j.add(first[0], tasks[0], *first[1:])
            j.add(second[0], tasks[1], *second[1:])
            is_dependent = at in Order(j.events).before[at + 1]
            if ev.FLUSH_END not in (first[0], second[0]):  # which never comes before an answer
                assert is_dependent == (at in Order(swapped(j.events, at)).before[at + 1]), (first, second, tasks)
            assert (class_of(swapped(j.events, at)) != class_of(j.events)) == is_dependent, (first, second, tasks)


def canonical(events: Sequence[Event]) -> dict[int, list[tuple[int, tuple[tuple[int, int], ...]]]]:
    """The order itself: by task, of each event its kind and how far it is behind each other task."""
    order = Order(events)
    clocks: list[dict[int, int]] = []
    told: dict[int, list[tuple[int, tuple[tuple[int, int], ...]]]] = {}
    for event, before in zip(events, order.before, strict=True):
        clock: dict[int, int] = {}
        for earlier in before:
            for task, count in clocks[earlier].items():
                clock[task] = max(count, clock.get(task, 0))
        mine = told.setdefault(event[1], [])
        is_step = event[0] != ev.LOCK_WAIT
        clock[event[1]] = len(mine) + is_step
        clocks.append(clock)
        if is_step:
            mine.append((event[0], tuple(sorted(clock.items()))))
    return told


@pytest.mark.parametrize("number", [2, 3])
def test_executions_of_a_program_fall_into_one_class_iff_their_orders_are_the_same(number: int) -> None:
    """Neighbouring points of a real schedule are swapped and it is run again: global numbers of frames, owners and
    flushes change then, and addresses do where the allocations' order does.
    """
    journals = []
    for walk in range(6):
        base = walked("v6.5", "tiny", number, walk)
        journals.append(base.journal)
        points = points_of(base.schedule)
        for where in [at for at in range(len(points) - 1) if points[at] != points[at + 1]][:12]:
            points[where], points[where + 1] = points[where + 1], points[where]
            again = replayed("v6.5", "tiny", number, points, base.schedule.draws)
            if again is not None:
                journals.append(again.journal)
            points[where], points[where + 1] = points[where + 1], points[where]
    by_class: dict[int, list[object]] = {}
    for journal in journals:
        orders = by_class.setdefault(class_of(journal.events), [])
        order = canonical(journal.events)
        if order not in orders:
            orders.append(order)
    assert all(len(orders) == 1 for orders in by_class.values())
    distinct = [orders[0] for orders in by_class.values()]
    assert all(one != other for at, one in enumerate(distinct) for other in distinct[:at])
    assert len(by_class) > 3
    assert len({journal.digest() for journal in journals}) > len(by_class), "some swaps changed the journal only"


def test_frames_and_flushes_are_not_known_by_the_number_they_happened_to_get() -> None:
    def recorded(first: int, second: int) -> list[Event]:
        j = Recording()
        for at, task in enumerate((first, second)):
            j.add(ev.FRAME_OWNER, task, 0x100 + at, "", at + 1)
            j.add(ev.PTE_SET, task, BLOCK + task, 0x100 + at)
            j.add(ev.FLUSH_BEGIN, task, BLOCK, at + 1, BLOCK + 1)
            j.add(ev.FLUSH_END, task, BLOCK, at + 1, BLOCK + 1)
        return j.events

    assert class_of(recorded(1, 2)) == class_of(recorded(2, 1))


def test_a_frame_freed_by_one_task_and_taken_by_another_is_another_class_than_a_fresh_one() -> None:
    def recorded(frame: int) -> list[Event]:
        j = Recording()
        j.add(ev.FRAME_OWNER, 1, 0x100, "", 1)
        j.add(ev.FRAME_OWNER, 1, 0x100, "", 0)
        j.add(ev.FRAME_OWNER, 2, frame, "", 2)
        return j.events

    assert class_of(recorded(0x100)) != class_of(recorded(0x101))


def test_it_is_no_matter_whether_a_lock_was_waited_for() -> None:
    def recorded(*, waits: bool) -> list[Event]:
        j = Recording()
        j.lock(1, 5)
        if waits:
            j.add(ev.LOCK_WAIT, 2, 5, "vb->lock", 1)
        j.unlock(1, 5)
        j.add(ev.LOCK, 2, 5, "vb->lock", waits)
        return j.events

    assert class_of(recorded(waits=True)) == class_of(recorded(waits=False))


def test_a_call_that_began_before_an_unmapping_returned_is_another_class_than_one_that_began_after() -> None:
    j = Recording()
    j.unmap(1, BLOCK)
    j.begin(2, ALIASES)
    assert class_of(j.events) != class_of(swapped(j.events, len(j.events) - 2))


def test_the_pairs_are_those_of_different_tasks_that_met_on_one_object() -> None:
    j = Recording()
    j.add(ev.WRITE, 1, 5, "dirty", 1, function="vb_free")
    j.add(ev.READ, 1, 5, "dirty", 1, function="vb_free")
    assert Tracer().footprint(j.events).pairs == set()
    j.add(ev.READ, 2, 6, "dirty", 1, function="_vm_unmap_aliases")
    assert Tracer().footprint(j.events).pairs == set(), "another object"
    j.add(ev.READ, 2, 5, "free", 1, function="_vm_unmap_aliases")
    once = Tracer().footprint(j.events).pairs
    assert len(once) == 1
    j.add(ev.READ, 1, 5, "dirty", 1, function="vb_free")
    j.add(ev.READ, 2, 5, "free", 1, function="_vm_unmap_aliases")
    both = Tracer().footprint(j.events).pairs
    assert once < both, "the way back is a pair of its own"
    assert len(both) == 2, "and the same again is none"


OTHER_PROCESS = """
    from tests.checks.test_coverage import footprint
    print(*footprint())
"""


def footprint() -> list[int]:
    found = Tracer().footprint(walked("v6.4", "busy", 0).journal.events)
    return [found.class_hash, *sorted(found.pairs)]


def test_another_process_with_another_hash_seed_takes_the_same_footprint() -> None:
    processes = [python(OTHER_PROCESS, hash_seed=hash_seed) for hash_seed in (1, 4242)]
    here = " ".join(map(str, footprint()))
    assert [process.communicate()[0].strip() for process in processes] == [here, here]


def test_a_tracer_keeps_nothing_of_an_execution_that_the_next_could_see() -> None:
    tracer = Tracer()
    journals = [walked("v6.4", "busy", number).journal.events for number in range(4)]
    first = [tracer.footprint(events).class_hash for events in journals]
    assert [tracer.footprint(events).class_hash for events in reversed(journals)] == first[::-1]
    assert first == [class_of(events) for events in journals]
