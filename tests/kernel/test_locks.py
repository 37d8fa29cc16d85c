# SPDX-License-Identifier: GPL-2.0-only
"""spinlock_t and struct mutex: who waits, who keeps the CPU, what the journal says."""

from __future__ import annotations

from stressvmap.journal import events as ev
from stressvmap.kernel.locks import DEFINE_SPINLOCK
from stressvmap.runtime.runtime import DEADLOCK
from stressvmap.sched.replay import Run
from tests.kernel.world import World, until, until_lock, until_unlock

IN_LOCK = until(ev.READ, "count")


def test_a_spinlock_excludes_and_the_waiter_gets_it_after_the_unlock() -> None:
    world = World(Run(1, IN_LOCK), Run(2), Run(1))
    thing = world.thing()

    def add() -> None:
        with thing.lock:
            thing.count += 1

    world.run(add, add)
    assert world.who(ev.LOCK, ev.UNLOCK) == [1, 1, 2, 2]
    assert world.of(ev.LOCK_WAIT) == [(ev.LOCK_WAIT, 2, 1, "", thing.id, "thing->lock", 1)]
    assert [event[6] for event in world.of(ev.LOCK)] == [0, 1]
    assert world.position(ev.LOCK_WAIT) < world.position(ev.UNLOCK, 1) < world.position(ev.LOCK, 2)
    assert thing.values["count"] == 2
    assert world.is_clean()


def test_without_the_lock_the_same_increments_are_lost() -> None:
    world = World(Run(1, until(ev.WRITE, "count")), Run(2), Run(1))
    thing = world.thing()

    def add() -> None:
        thing.count += 1

    world.run(add, add)
    assert thing.values["count"] == 1


def test_a_holder_keeps_its_cpu_while_tasks_of_other_cpus_go_on() -> None:
    world = World(Run(1, IN_LOCK), Run(2), Run(3), Run(1))
    thing = world.thing()
    order: list[int] = []

    def hold() -> None:
        with thing.lock:
            thing.count += 1
        order.append(1)

    def step(number: int) -> None:
        world.runtime.point(ev.READ, 0, "")
        order.append(number)

    world.run(hold, lambda: step(2), lambda: step(3), cpus=[0, 0, 1])
    assert order == [3, 1, 2]


def test_who_spins_keeps_its_cpu_too() -> None:
    world = World(Run(1, IN_LOCK), Run(2), Run(3), Run(1, until_unlock("thing->lock")), Run(3), Run(1), cpus=2)
    thing = world.thing()
    order: list[int] = []

    def hold(number: int) -> None:
        with thing.lock:
            thing.count += 1
        order.append(number)

    world.run(lambda: hold(1), lambda: hold(2), lambda: order.append(3), cpus=[0, 1, 1])
    assert order == [1, 2, 3]


def test_spinlocks_nest_and_the_preempt_count_returns_to_zero() -> None:
    world = World()
    outer, inner = world.thing(), world.thing()
    counts: list[int] = []

    def body() -> None:
        task = world.runtime.current
        counts.append(task.preempt_count)
        with outer.lock:
            counts.append(task.preempt_count)
            with inner.lock:
                counts.append(task.preempt_count)
                assert task.held == [outer.lock, inner.lock]
            counts.append(task.preempt_count)
            assert world.runtime.pinned_by == {0: task}
        counts.append(task.preempt_count)
        assert world.runtime.pinned_by == {}

    world.run(body)
    assert counts == [0, 1, 2, 1, 0]
    assert world.is_clean()


def test_locks_released_out_of_order_leave_the_other_one_held() -> None:
    world = World()
    first, second = world.thing(), world.thing()

    def body() -> None:
        first.lock.lock()
        second.lock.lock()
        first.lock.unlock()
        assert world.runtime.current.held == [second.lock]
        assert world.runtime.current.preempt_count == 1
        second.lock.unlock()

    world.run(body)
    assert world.is_clean()


def test_locking_the_lock_of_a_dead_object_is_a_dead_access() -> None:
    world = World()
    thing = world.thing()

    def body() -> None:
        thing.kfree()
        with thing.lock:
            pass
        assert thing.mutex.trylock()
        thing.mutex.unlock()

    world.run(body)
    seen = [(event[4], event[5], event[6]) for event in world.of(ev.DEAD_ACCESS)]
    assert seen == [
        (thing.id, "thing->lock", ev.LOCK),
        (thing.id, "thing->lock", ev.UNLOCK),
        (thing.id, "thing->mutex", ev.LOCK),
        (thing.id, "thing->mutex", ev.UNLOCK),
    ]


def test_a_lock_whose_object_is_freed_while_one_waits_for_it_is_a_dead_access() -> None:
    world = World(Run(1, until_unlock("thing->lock")), Run(2), Run(1))
    thing = world.thing()

    def unlock_and_free() -> None:
        with thing.lock:
            pass
        thing.kfree()

    def wait() -> None:
        thing.lock.lock()
        thing.lock.unlock()

    world.run(unlock_and_free, wait)
    assert [(event[1], event[6]) for event in world.of(ev.DEAD_ACCESS)] == [(2, ev.LOCK), (2, ev.UNLOCK)]


def test_a_mutex_sleeps_and_another_task_of_the_same_cpu_runs_meanwhile() -> None:
    world = World(Run(1, IN_LOCK), Run(2), Run(3), Run(1))
    thing = world.thing()
    order: list[int] = []

    def hold(number: int) -> None:
        with thing.mutex:
            thing.count += 1
        order.append(number)

    world.run(lambda: hold(1), lambda: hold(2), lambda: order.append(3), cpus=[0, 1, 1])
    assert order == [3, 1, 2]
    assert world.is_clean()


def test_a_mutex_holder_can_lose_its_cpu() -> None:
    world = World(Run(1, IN_LOCK), Run(2), Run(1), cpus=1)
    thing = world.thing()
    order: list[int] = []

    def hold() -> None:
        with thing.mutex:
            thing.count += 1
        order.append(1)

    world.run(hold, lambda: order.append(2), cpus=[0, 0])
    assert order == [2, 1]


def test_trylock_fails_without_waiting_and_succeeds_when_the_mutex_is_free() -> None:
    world = World(Run(1, IN_LOCK), Run(2), Run(1))
    thing = world.thing()
    got: list[bool] = []

    def hold() -> None:
        with thing.mutex:
            thing.count += 1

    def attempt() -> None:
        got.append(thing.mutex.trylock())

    def attempt_at_last() -> None:
        with thing.mutex:
            pass
        got.append(thing.mutex.trylock())
        thing.mutex.unlock()

    world.run(hold, attempt, attempt_at_last, cpus=[0, 1, 1])
    assert got == [False, True]
    assert [event[6] for event in world.of(ev.LOCK) if event[1] == 3] == [0, 2], "the second was no wait and none"
    assert world.of(ev.TRYLOCK_FAILED) == [(ev.TRYLOCK_FAILED, 2, 1, "", thing.id, "thing->mutex", 1)]
    assert 2 not in world.who(ev.LOCK, ev.LOCK_WAIT)
    assert world.is_clean()


def test_mutex_lock_may_sleep_and_the_journal_has_the_preempt_count() -> None:
    world = World()
    thing = world.thing()

    def body() -> None:
        with thing.mutex:
            pass
        with thing.lock:
            with thing.mutex:
                pass

    world.run(body)
    assert [(event[5], event[6]) for event in world.of(ev.MIGHT_SLEEP)] == [("mutex_lock", 0), ("mutex_lock", 1)]


def test_a_task_that_locks_twice_waits_for_itself() -> None:
    world = World()
    thing = world.thing()

    def body() -> None:
        with thing.lock, thing.lock:
            pass

    world.run(body, expect=DEADLOCK)
    assert [(event[1], event[4], event[6]) for event in world.of(ev.BLOCKED)] == [(1, thing.id, 1)]


def test_a_lock_is_a_point_of_its_own_before_it_is_taken() -> None:
    world = World(Run(1, until_lock("lonely")), Run(2), Run(1))
    lock = DEFINE_SPINLOCK(world.machine, "lonely")

    def body() -> None:
        with lock:
            pass

    world.run(body, body)
    assert world.who(ev.LOCK) == [2, 1]
    assert world.of(ev.LOCK_WAIT) == []


def test_an_assertion_that_a_lock_is_held_is_left_to_the_check() -> None:
    world = World()
    thing = world.thing()
    world.run(thing.lock.assert_held)
    assert [event[1:] for event in world.of(ev.ASSERT_HELD)] == [(1, 0, "", thing.id, "thing->lock", 0)]
