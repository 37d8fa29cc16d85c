# SPDX-License-Identifier: GPL-2.0-only
"""data-race on journals written by hand: what is a race, and what orders two accesses."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from stressvmap.checks.base import run_checks
from stressvmap.checks.data_race import DataRace
from stressvmap.checks.state import State
from stressvmap.journal import events as ev
from tests.checks.recording import ALIASES, IRQ, Recording

RACE = "data-race"
THING = 7
FIELD = "count"


def access(j: Recording, task: int, kind: int, target: int = THING, field: str = FIELD, value: int = 0) -> None:
    j.add(kind, task, target, field, value)


def races(j: Recording) -> list[str]:
    return [found.mechanism.mechanism for found in j.violations(RACE)]


# -- what a race is ---------------------------------------------------------------------------------------------------

PLAIN, MARKED = (ev.READ, ev.WRITE), (ev.READ_ONCE, ev.WRITE_ONCE, ev.ATOMIC)
WRITES = (ev.WRITE, ev.WRITE_ONCE, ev.ATOMIC)


@pytest.mark.parametrize("first", [*PLAIN, *MARKED])
@pytest.mark.parametrize("second", [*PLAIN, *MARKED])
def test_a_race_takes_a_write_and_a_plain_access(first: int, second: int) -> None:
    j = Recording()
    access(j, 1, first)
    access(j, 2, second)
    is_race = (first in WRITES or second in WRITES) and (first in PLAIN or second in PLAIN)
    assert len(races(j)) == is_race


def test_other_fields_and_other_objects_are_other_places() -> None:
    j = Recording()
    access(j, 1, ev.WRITE)
    access(j, 2, ev.WRITE, field="size")
    access(j, 3, ev.WRITE, THING + 1)
    assert races(j) == []


def test_one_tasks_own_accesses_are_in_order_on_whatever_cpu_it_is() -> None:
    j = Recording()
    access(j, 1, ev.WRITE)
    j.add(ev.MIGRATED, 1, 0, "", 1)
    access(j, 1, ev.READ)
    assert races(j) == []


def test_two_tasks_of_one_cpu_race_for_either_may_be_preempted() -> None:
    j = Recording(1)
    access(j, 1, ev.WRITE)
    access(j, 2, ev.READ)
    assert len(races(j)) == 1


def test_a_plain_write_is_not_forgotten_behind_a_later_marked_one() -> None:
    j = Recording()
    access(j, 1, ev.WRITE)
    access(j, 1, ev.WRITE_ONCE)
    access(j, 2, ev.READ_ONCE)
    assert races(j) == ["marked read under no lock against plain write under no lock"]


def test_of_two_marked_writes_that_nothing_orders_each_races_with_a_plain_read() -> None:
    j = Recording(3)
    access(j, 1, ev.WRITE_ONCE)
    access(j, 2, ev.WRITE_ONCE)
    j.lock(2, 9)
    j.unlock(2, 9)
    j.lock(3, 9)
    access(j, 3, ev.READ)
    (found,) = j.violations(RACE)
    assert found.steps == (0, 5), "task 2's write comes before the read"


def test_a_read_that_several_made_races_with_a_write_that_comes_after_some_of_them() -> None:
    j = Recording(3)
    for task in (1, 2, 3):
        access(j, task, ev.READ)
    j.lock(1, 9)
    j.unlock(1, 9)
    j.lock(3, 9)
    access(j, 3, ev.WRITE)
    (found,) = j.violations(RACE)
    assert found.steps == (1, 6)


def test_an_access_of_a_dead_object_is_another_checks_business() -> None:
    j = Recording()
    thing = j.object(1, "thing")
    access(j, 1, ev.WRITE, thing)
    j.add(ev.OBJECT_FREE, 1, thing, "thing")
    j.add(ev.DEAD_ACCESS, 2, thing, FIELD, ev.READ)
    access(j, 2, ev.READ, thing)
    assert races(j) == []


# -- what orders two accesses -----------------------------------------------------------------------------------------


def by_lock(j: Recording) -> None:
    j.unlock(1, 9)
    j.lock(2, 9)


def by_slot(j: Recording) -> None:
    j.add(ev.SLOT_PUT, 1, 3)
    j.add(ev.SLOT_TAKE, 2, 3)


def by_work(j: Recording) -> None:
    j.add(ev.WORK_QUEUE, 1, 0, "drain_vmap_work")
    j.add(ev.WORK_BEGIN, 2, 0, "drain_vmap_work")


def by_work_after_work(j: Recording) -> None:
    j.add(ev.WORK_END, 1, 0, "drain_vmap_work")
    j.add(ev.WORK_BEGIN, 2, 0, "drain_vmap_work")


def by_flush_of_a_work(j: Recording) -> None:
    j.add(ev.WORK_END, 1, 0, "vmap_nodes[0].purge_work")
    j.add(ev.WORK_FLUSHED, 2, 0, "vmap_nodes[0].purge_work")


def by_waiting_for_work(j: Recording) -> None:
    j.add(ev.WORK_END, 1, 0, "vn->purge_work")
    j.add(ev.WORK_BEGIN, 3, 0, "vn->purge_work")  # by the time the waiter runs, another run may be under way
    j.add(ev.WORK_FLUSHED, 2, 0, "vn->purge_work")


def by_atomic(j: Recording) -> None:
    access(j, 1, ev.ATOMIC, 8)
    access(j, 2, ev.ATOMIC, 8)


def by_xarray(j: Recording) -> None:
    j.add(ev.XA_STORE, 1, 8, 0, THING)
    j.add(ev.XA_LOAD, 2, 8, 0, THING)


def by_xarray_lock(j: Recording) -> None:
    j.add(ev.XA_ERASE, 1, 8, 0, 0)
    j.add(ev.XA_STORE, 2, 8, 1, 6)


def by_list(j: Recording) -> None:
    access(j, 1, ev.WRITE_ONCE, 8, "free.next", THING)
    j.add(ev.LIST_ADD, 1, THING, "free_list", 8)
    access(j, 2, ev.READ_ONCE, 8, "free.next", THING)


def by_relinked_list(j: Recording) -> None:
    """The pointer that task 2 follows was stored by a delete of what lay between: the object was published before."""
    access(j, 1, ev.WRITE_ONCE, 6, "free_list.next", THING)
    j.add(ev.LIST_ADD, 1, THING, "free_list", 8)
    access(j, 3, ev.WRITE_ONCE, 8, "free.next", THING)
    j.add(ev.LIST_DEL, 3, 6, "free_list")
    access(j, 2, ev.READ_ONCE, 8, "free.next", THING)


def by_interrupt(j: Recording) -> None:
    j.add(ev.FLUSH_BEGIN, 1, 0, 1, 8)
    j.add(ev.IPI_SEND, 1, 1, "", 1)
    j.add(ev.TLB_INVALIDATE, IRQ + 1, 0, "", 8)
    j.add(ev.UNLOCK, IRQ + 1, 9, "vb->lock")
    j.lock(2, 9)


def by_offline(j: Recording) -> None:
    j.add(ev.CPU_OFFLINE, 3, 2)


def by_grace_period(j: Recording) -> None:
    j.add(ev.RCU_WAIT, 1, 1, "call_rcu")
    j.add(ev.RCU_WAIT_OVER, 2, 1, "call_rcu")


ORDERS = (
    by_lock,
    by_slot,
    by_work,
    by_work_after_work,
    by_flush_of_a_work,
    by_waiting_for_work,
    by_atomic,
    by_xarray,
    by_xarray_lock,
    by_list,
    by_relinked_list,
    by_interrupt,
    by_offline,
    by_grace_period,
)


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.__name__)
def test_an_edge_orders_what_came_before_it_and_nothing_else(order: Callable[[Recording], None]) -> None:
    before, after = Recording(3), Recording(3)
    access(before, 1, ev.WRITE)
    order(before)
    access(before, 2, ev.WRITE)
    assert races(before) == []
    order(after)
    access(after, 1, ev.WRITE)
    access(after, 2, ev.WRITE)
    assert len(races(after)) == 1, "the first write came after what was handed over"


def no_other_lock(j: Recording) -> None:
    j.unlock(1, 9)
    j.lock(2, 10)


def no_other_class(j: Recording) -> None:
    j.unlock(1, 9)
    j.lock(2, 9, "vbq->lock")


def no_other_slot(j: Recording) -> None:
    j.add(ev.SLOT_PUT, 1, 3)
    j.add(ev.SLOT_TAKE, 2, 4)


def no_flush_of_another_work(j: Recording) -> None:
    j.add(ev.WORK_END, 1, 0, "vmap_nodes[0].purge_work")
    j.add(ev.WORK_FLUSHED, 2, 0, "vmap_nodes[1].purge_work")


def no_marked_pair(j: Recording) -> None:
    access(j, 1, ev.WRITE_ONCE, 8, "free", 1)
    access(j, 2, ev.READ_ONCE, 8, "free", 1)


def no_empty_look_up(j: Recording) -> None:
    j.add(ev.XA_ERASE, 1, 8, 0, THING)
    j.add(ev.XA_LOAD, 2, 8, 0, 0)


def no_delete(j: Recording) -> None:
    """A delete's WRITE_ONCE publishes nothing, whatever the deleter did before."""
    j.add(ev.LIST_ADD, 3, 5, "free_list", 8)
    access(j, 1, ev.WRITE_ONCE, 8, "free.next", 5)
    access(j, 2, ev.READ_ONCE, 8, "free.next", 5)


def no_index_before_the_list(j: Recording) -> None:
    """What was done after the xarray's store is not part of it, though a list's came after."""
    j.events.insert(0, (ev.XA_STORE, 1, 0, "", 8, 0, THING))
    access(j, 1, ev.WRITE_ONCE, 6, "free.next", THING)
    j.add(ev.XA_LOAD, 2, 8, 0, THING)


def no_reader_that_came_later(j: Recording) -> None:
    j.add(ev.RCU_WAIT, 3, 1, "synchronize_rcu")
    j.add(ev.RCU_READ_LOCK, 1)
    j.add(ev.RCU_READ_UNLOCK, 1)
    j.add(ev.RCU_WAIT_OVER, 2, 1, "synchronize_rcu")


@pytest.mark.parametrize(
    "order",
    [
        no_other_lock,
        no_other_class,
        no_other_slot,
        no_flush_of_another_work,
        no_marked_pair,
        no_empty_look_up,
        no_delete,
        no_index_before_the_list,
        no_reader_that_came_later,
    ],
    ids=lambda order: order.__name__,
)
def test_what_looks_like_an_edge_and_is_none(order: Callable[[Recording], None]) -> None:
    j = Recording(3)
    access(j, 1, ev.WRITE)
    order(j)
    access(j, 2, ev.WRITE)
    assert len(races(j)) == 1


def test_a_reader_that_was_inside_comes_before_what_waited_for_it() -> None:
    j = Recording(3)
    j.add(ev.RCU_READ_LOCK, 1)
    j.add(ev.RCU_WAIT, 2, 1, "synchronize_rcu")
    access(j, 1, ev.READ)
    j.add(ev.RCU_READ_UNLOCK, 1)
    j.add(ev.RCU_WAIT_OVER, 2, 1, "synchronize_rcu")
    access(j, 2, ev.WRITE)
    assert races(j) == []


def take_mutex(j: Recording, task: int) -> None:
    j.add(ev.MIGHT_SLEEP, task, 0, "mutex_lock")
    j.add(ev.LOCK, task, 50, "m")


Section = tuple[tuple[int, int, str], tuple[int, int, str]]
READERS: dict[str, Section] = {
    "rcu_read_lock": ((ev.RCU_READ_LOCK, 0, ""), (ev.RCU_READ_UNLOCK, 0, "")),
    "get_cpu": ((ev.PREEMPT, 1, "get_cpu"), (ev.PREEMPT, 0, "put_cpu")),
    "spinlock": ((ev.LOCK, 51, "s"), (ev.UNLOCK, 51, "s")),
}


@pytest.mark.parametrize("is_over", [True, False], ids=["over before", "under way"])
@pytest.mark.parametrize("in_mutex", [True, False], ids=["inside a mutex", "alone"])
@pytest.mark.parametrize("section", READERS.values(), ids=READERS)
def test_a_reader_section_comes_before_the_end_of_a_grace_period(
    section: Section, in_mutex: bool, is_over: bool
) -> None:
    (begin, a, b), (end, c, d) = section
    j = Recording()
    if in_mutex:
        take_mutex(j, 1)
    j.add(begin, 1, a, b)
    access(j, 1, ev.READ)
    if is_over:
        j.add(end, 1, c, d)
    j.add(ev.RCU_WAIT, 2, 99, "synchronize_rcu")
    if not is_over:
        j.add(end, 1, c, d)
    j.add(ev.RCU_WAIT_OVER, 2, 99, "synchronize_rcu")
    access(j, 2, ev.WRITE)
    assert races(j) == []


def test_the_holder_of_a_mutex_is_no_reader() -> None:
    j = Recording()
    take_mutex(j, 1)
    access(j, 1, ev.WRITE)
    j.add(ev.RCU_WAIT, 2, 99, "synchronize_rcu")
    j.add(ev.UNLOCK, 1, 50, "m")
    j.add(ev.RCU_WAIT_OVER, 2, 99, "synchronize_rcu")
    access(j, 2, ev.WRITE)
    assert len(races(j)) == 1


def test_the_answer_of_every_interrupt_comes_before_the_flush_is_over() -> None:
    j = Recording(3)
    number = j.flush_begin(1, 0, 8)
    for cpu in (1, 2):
        j.add(ev.IPI_SEND, 1, number, "", cpu)
    j.invalidate(1, 0, 0, 8)
    for cpu in (1, 2):
        access(j, IRQ + cpu, ev.WRITE, THING + cpu)
        j.invalidate(1, cpu, 0, 8)
    j.flush_end(1, number, 0, 8)
    for cpu in (1, 2):
        access(j, 1, ev.WRITE, THING + cpu)
    assert races(j) == []


def test_boot_comes_before_everything_and_the_cleanup_after() -> None:
    j = Recording()
    access(j, 0, ev.WRITE)
    access(j, 1, ev.READ)
    access(j, 2, ev.READ)
    access(j, 3, ev.WRITE)
    journal = j.journal()
    journal.header["tasks"]["3"] = ["cleanup", 0]
    state = State()
    assert run_checks(journal, state, [DataRace(state)]).violations == []


def test_the_calls_of_a_sequential_journal_are_in_order_and_what_they_left_running_too() -> None:
    j = Recording()
    for task in (1, 2):
        j.begin(task, ALIASES)
        access(j, task, ev.WRITE)
        j.end(task, ALIASES)
        access(j, IRQ, ev.WRITE, THING + 1 + task)
    journal = j.journal()
    state = State()
    assert len(run_checks(journal, state, [DataRace(state)]).violations) == 1
    journal.header["is_sequential"] = True
    assert run_checks(journal, state, [DataRace(state)]).violations == []


# -- how it is told ---------------------------------------------------------------------------------------------------


def test_a_race_has_one_fingerprint_whichever_access_came_first() -> None:
    found = []
    for order in ((1, 2), (2, 1)):
        j = Recording()
        j.begin(1, "vm_map_ram")
        j.begin(2, ALIASES)
        j.lock(1, 9)
        j.lock(2, 8, "vmap_purge_lock")
        for task in order:
            access(j, task, ev.WRITE if task == 1 else ev.READ)
        found.append(j.violation(RACE))
    assert found[0].mechanism == found[1].mechanism
    assert found[0].mechanism.text() == (
        "data-race | vm_unmap_aliases + vm_map_ram | object.count "
        "| plain read under vmap_purge_lock against plain write under vb->lock | holding nothing"
    )


def test_the_story_says_who_held_what_and_that_nothing_was_handed_over() -> None:
    j = Recording()
    j.lock(1, 9)
    access(j, 1, ev.WRITE)
    access(j, 2, ev.READ_ONCE)
    message = j.violation(RACE).message
    assert "#1      worker/1 (task 1, CPU 0): plain write of count, holding vb->lock" in message
    assert "#2      worker/2 (task 2, CPU 1): marked read of count, holding no lock" in message
    assert "worker/2 had acquired nothing that worker/1 released after #1." in message


def test_the_pointers_of_one_list_are_one_role_and_two_locks_of_a_class_are_told() -> None:
    texts = set()
    for field in ("free_list.next", "free_list.prev"):
        j = Recording()
        j.lock(1, 8, "vbq->lock")
        access(j, 1, ev.WRITE, field=field)
        j.lock(2, 9, "vbq->lock")
        access(j, 2, ev.READ, field=field)
        texts.add(j.violation(RACE).mechanism.text())
    assert texts == {
        "data-race | worker + worker | free list of blocks "
        "| list change against list change, under different locks of one class | holding vbq->lock"
    }


def test_one_mechanism_is_told_once_an_execution() -> None:
    j = Recording()
    for target in (THING, THING + 1):
        access(j, 1, ev.WRITE, target)
        access(j, 2, ev.READ, target)
    assert len(races(j)) == 1


# -- against the definition -------------------------------------------------------------------------------------------


def drawn(random: Random) -> Recording:
    """Up to four tasks that lock, read and write a few places at random."""
    j = Recording(4)
    holds: dict[int, int] = {}
    for _ in range(random.randrange(6, 28)):
        task = random.randint(1, 4)
        if random.random() < 0.4:
            if task in holds:
                j.unlock(task, holds.pop(task))
            elif free := [lock for lock in (91, 92) if lock not in holds.values()]:
                holds[task] = random.choice(free)
                j.lock(task, holds[task])
        else:
            access(j, task, random.choice([*PLAIN, *PLAIN, ev.READ_ONCE, ev.WRITE_ONCE]), field=random.choice("xyz"))
    return j


def racy_fields(j: Recording) -> set[int | str]:
    """By the definition: what comes before an event is what its task did, and for a lock, what its last holder did."""
    before: list[set[int]] = []
    last_of: dict[int, int] = {}
    unlocked: dict[int, int] = {}
    racy: set[int | str] = set()
    for number, event in enumerate(j.events):
        kind, task, target, field = event[0], event[1], event[4], event[5]
        sources = [last_of[task]] if task in last_of else []
        if kind == ev.LOCK and target in unlocked:
            sources.append(unlocked[target])
        before.append({found for source in sources for found in (source, *before[source])})
        last_of[task] = number
        if kind == ev.UNLOCK:
            unlocked[target] = number
        for other, earlier in enumerate(j.events[:number]):
            kinds = (kind, earlier[0])
            if earlier[1] != task and earlier[4:6] == (target, field) and other not in before[number]:
                if any(one in WRITES for one in kinds) and any(one in PLAIN for one in kinds):
                    racy.add(field)
    return racy


def test_a_place_is_reported_if_and_only_if_two_of_its_accesses_race() -> None:
    seen = 0
    for number in range(400):
        j = drawn(Random(number))
        state = State()
        check = DataRace(state)
        found = run_checks(j.journal(), state, [check]).violations
        fields = {violation.mechanism.role.removeprefix("object.") for violation in found}
        racy = racy_fields(j)
        assert fields == racy or (check.suppressed and fields < racy), j.events
        seen += len(fields)
    assert 200 < seen < 1000


# -- bounds -----------------------------------------------------------------------------------------------------------


def test_what_is_dead_or_was_on_a_stack_is_forgotten() -> None:
    j = Recording()
    for _ in range(50):
        j.begin(1, ALIASES)
        head = j.object(1, "on_stack")
        block = j.object(1, "vmap_block")
        for target in (head, block):
            access(j, 1, ev.WRITE, target)
            j.lock(1, target)
            j.unlock(1, target)
        access(j, 1, ev.WRITE_ONCE, head, "purge.next", block)
        j.add(ev.LIST_ADD, 1, block, "purge", head)
        j.add(ev.XA_STORE, 1, 8, 0, block)
        j.add(ev.OBJECT_FREE, 1, block, "vmap_block")
        j.end(1, ALIASES)
    state = State()
    check = DataRace(state)
    run_checks(j.journal(), state, [check])
    order = check.order
    kept = (check._places, order._locks, order._indexed, order._listed, order._times_listed, order._grace_periods)
    assert [len(part) for part in kept] == [0] * len(kept)


def test_elements_of_an_array_are_one_field_in_a_mechanism() -> None:
    roles = set()
    for index in (1, 7):
        for field in (f"pool[{index}].len", f"pool[{index}].head.next"):
            j = Recording(3)
            access(j, 1, ev.WRITE, field=field)
            access(j, 2, ev.WRITE, field=field)
            (found,) = j.violations(RACE)
            roles.add(found.mechanism.role)
    assert roles == {"object.pool[].len", "list pool[].head"}
