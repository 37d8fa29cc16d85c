# SPDX-License-Identifier: GPL-2.0-only
"""Grace periods: what is queued dies when every reader that began before is out, not sooner and not later."""

from __future__ import annotations

import pytest

from stressvmap.journal import events as ev
from stressvmap.runtime.runtime import DEADLOCK
from stressvmap.sched.replay import Run
from tests.kernel.world import RCU, World, until

FREEING = until(ev.KFREE_RCU)
LEAVING = until(ev.RCU_READ_UNLOCK)


def test_an_object_lives_on_under_an_older_reader_while_a_newer_one_has_left() -> None:
    world = World(Run(1, LEAVING), Run(2, FREEING), Run(2), Run(3), Run(RCU), Run(1), cpus=3)
    thing = world.thing()
    lives: list[bool] = []

    def older() -> None:
        world.rcu.read_lock()
        world.rcu.read_unlock()

    def newer() -> None:
        world.rcu.read_lock()
        world.rcu.read_unlock()
        lives.append(not thing.is_dead)

    world.run(older, lambda: world.rcu.kfree_rcu(thing), newer)
    assert lives == [True]
    assert world.position(ev.RCU_READ_UNLOCK, 1) < world.position(ev.OBJECT_FREE)
    assert world.of(ev.OBJECT_FREE) == [(ev.OBJECT_FREE, RCU, 0, "", thing.id, "thing", ev.FREED_SLAB)]
    assert world.rcu.is_idle


def test_a_reader_that_began_after_the_kfree_rcu_does_not_delay_it() -> None:
    world = World(Run(1), Run(2, LEAVING), Run(RCU), Run(2))
    thing = world.thing()

    def late() -> None:
        world.rcu.read_lock()
        world.rcu.read_unlock()

    world.run(lambda: world.rcu.kfree_rcu(thing), late)
    assert world.position(ev.OBJECT_FREE) < world.position(ev.RCU_READ_UNLOCK)


def test_with_no_reader_about_nothing_is_waited_for() -> None:
    world = World()
    thing = world.thing()
    world.run(lambda: world.rcu.kfree_rcu(thing))
    assert thing.is_dead


def test_a_task_with_preemption_disabled_is_a_reader() -> None:
    world = World(Run(1, until(ev.UNLOCK)), Run(2), Run(RCU), Run(1))
    thing, other = world.thing(), world.thing()

    def holder() -> None:
        with other.lock:
            pass

    world.run(holder, lambda: world.rcu.kfree_rcu(thing))
    assert world.position(ev.UNLOCK, 1) < world.position(ev.OBJECT_FREE)


@pytest.mark.parametrize("is_spinlock", [True, False])
def test_a_task_that_waits_for_a_spinlock_is_a_reader_and_one_that_waits_for_a_mutex_is_not(is_spinlock: bool) -> None:
    world = World(Run(1, until(ev.READ)), Run(2), Run(3), Run(RCU), Run(1), cpus=3)
    thing, other = world.thing(), world.thing()

    def hold() -> None:
        with other.lock if is_spinlock else other.mutex:
            assert other.count == 0

    world.run(hold, hold, lambda: world.rcu.kfree_rcu(thing), cpus=[1, 2, 0])
    # Task 2 waits when the object is queued, and is the last to leave.
    assert (world.position(ev.UNLOCK, 2) < world.position(ev.OBJECT_FREE)) == is_spinlock


def test_nested_sections_end_with_the_outermost() -> None:
    world = World(Run(1, LEAVING), Run(2), Run(1, LEAVING), Run(RCU), Run(1))
    thing = world.thing()

    def reader() -> None:
        world.rcu.read_lock()
        world.rcu.read_lock()
        world.rcu.read_unlock()
        world.rcu.read_unlock()

    world.run(reader, lambda: world.rcu.kfree_rcu(thing))
    assert [event[6] for event in world.of(ev.RCU_READ_LOCK, ev.RCU_READ_UNLOCK)] == [1, 2, 1, 0]
    assert world.position(ev.RCU_READ_UNLOCK, nth=1) < world.position(ev.OBJECT_FREE)


def test_a_spinlock_in_a_reader_section_ends_the_section_with_the_later_of_both() -> None:
    world = World(Run(1, until(ev.UNLOCK)), Run(2), Run(1, LEAVING), Run(RCU), Run(1))
    thing, other = world.thing(), world.thing()

    def reader() -> None:
        world.rcu.read_lock()
        with other.lock:
            pass
        world.rcu.read_unlock()

    world.run(reader, lambda: world.rcu.kfree_rcu(thing))
    assert world.position(ev.RCU_READ_UNLOCK) < world.position(ev.OBJECT_FREE)
    assert world.is_clean()


def test_a_reader_that_left_and_came_back_is_a_new_reader() -> None:
    world = World(Run(1, LEAVING), Run(2), Run(1, until(ev.RCU_READ_LOCK)), Run(1, LEAVING), Run(RCU), Run(1))
    thing = world.thing()

    def twice() -> None:
        for _ in range(2):
            world.rcu.read_lock()
            world.rcu.read_unlock()

    world.run(twice, lambda: world.rcu.kfree_rcu(thing))
    freed = world.position(ev.OBJECT_FREE)
    assert world.position(ev.RCU_READ_UNLOCK, nth=0) < freed < world.position(ev.RCU_READ_UNLOCK, nth=1)


def test_synchronize_rcu_returns_when_the_readers_are_out() -> None:
    world = World(Run(1, LEAVING), Run(2), Run(RCU), Run(1))
    order: list[str] = []

    def reader() -> None:
        world.rcu.read_lock()
        world.rcu.read_unlock()
        order.append("reader is out")

    def waiter() -> None:
        world.rcu.synchronize_rcu()
        order.append("grace period is over")

    world.run(reader, waiter)
    assert order == ["reader is out", "grace period is over"]
    kinds = (ev.RCU_WAIT, ev.RCU_READ_UNLOCK, ev.RCU_WAIT_OVER)
    assert [(event[0], event[1]) for event in world.of(*kinds)] == list(zip(kinds, (2, 1, 2), strict=True))
    assert [event[5] for event in world.of(ev.MIGHT_SLEEP)] == ["synchronize_rcu"]


def test_synchronize_rcu_inside_a_reader_section_waits_for_ever() -> None:
    world = World()

    def body() -> None:
        world.rcu.read_lock()
        world.rcu.synchronize_rcu()

    world.run(body, expect=DEADLOCK)
    assert [(event[1], event[5], event[6]) for event in world.of(ev.BLOCKED)] == [(1, "synchronize_rcu", 1)]


def test_synchronize_rcu_that_waits_for_ever_names_each_reader_that_keeps_it() -> None:
    world = World(Run(1, LEAVING), Run(2), Run(3), Run(4))
    thing = world.thing()
    thing.mutex.owner = world.runtime.current  # nobody who will release it

    def reader() -> None:
        world.rcu.read_lock()
        world.rcu.read_unlock()

    def stays() -> None:
        world.rcu.read_lock()
        thing.mutex.lock()

    world.run(reader, stays, stays, world.rcu.synchronize_rcu, cpus=[0, 1, 1, 0], expect=DEADLOCK)
    owners = [event[6] for event in world.of(ev.BLOCKED) if event[5] == "synchronize_rcu"]
    assert owners == [2, 3]


def test_a_callback_of_ones_own_is_journalled_when_it_is_queued_and_when_it_runs() -> None:
    world = World()
    ran: list[bool] = []
    world.run(lambda: world.rcu.call_rcu(lambda: ran.append(True)))
    assert ran == [True]
    assert [(event[0], event[1], event[5]) for event in world.of(ev.RCU_WAIT, ev.RCU_WAIT_OVER)] == [
        (ev.RCU_WAIT, 1, "call_rcu"),
        (ev.RCU_WAIT_OVER, RCU, "call_rcu"),
    ]


def test_touching_a_freed_object_is_a_dead_access_and_touching_one_under_a_reader_is_not() -> None:
    world = World(Run(1, until(ev.READ)), Run(2), Run(1))
    thing = world.thing(5)

    def reader() -> None:
        world.rcu.read_lock()
        assert thing.count == 5
        world.rcu.read_unlock()
        world.runtime.point(ev.RCU_READ_LOCK, 0, "later")

    world.run(reader, lambda: world.rcu.kfree_rcu(thing))
    assert world.of(ev.DEAD_ACCESS) == []

    world = World(Run(1, until(ev.READ)), Run(2), Run(RCU), Run(1))
    thing = world.thing(5)
    world.run(lambda: setattr(thing, "count", thing.count), lambda: world.rcu.kfree_rcu(thing))
    assert [event[1:] for event in world.of(ev.DEAD_ACCESS)] == [
        (1, 0, "", thing.id, "count", ev.READ),
        (1, 0, "", thing.id, "count", ev.WRITE),
    ]


def test_freeing_twice_is_told() -> None:
    world = World()
    thing = world.thing()

    def body() -> None:
        world.rcu.kfree_rcu(thing)
        world.rcu.kfree_rcu(thing)

    world.run(body)
    assert [(event[1], event[5]) for event in world.of(ev.DEAD_ACCESS)] == [(RCU, "(freed again)")]
    assert len(world.of(ev.OBJECT_FREE)) == 1


def test_a_reader_that_hit_a_bug_delays_nobody() -> None:
    world = World(Run(1), Run(2))
    thing = world.thing()

    def dies() -> None:
        world.rcu.read_lock()
        world.machine.BUG_ON(True, "here")

    def frees() -> None:
        world.rcu.kfree_rcu(thing)

    world.run(dies, frees)
    assert thing.is_dead
