# SPDX-License-Identifier: GPL-2.0-only
"""Works: queued once until they start, run by kworkers, one at a time each."""

from __future__ import annotations

import pytest

from stressvmap.journal import events as ev
from stressvmap.kernel.workqueue import Work
from stressvmap.runtime.runtime import DEADLOCK, DONE
from stressvmap.sched.replay import Run
from tests.kernel.world import KWORKER, World, until

STARTING = until(ev.WORK_BEGIN)


def works(world: World) -> list[tuple[int, int]]:
    return [(event[0], event[1]) for event in world.of(ev.WORK_QUEUE, ev.WORK_BEGIN, ev.WORK_END)]


def test_a_work_is_queued_once_until_it_starts_and_again_after_that() -> None:
    world = World(Run(1, until(ev.READ, "first")), Run(KWORKER), Run(1))
    ran: list[int] = []
    work = Work("drain", lambda: ran.append(world.runtime.current.id))
    queued: list[bool] = []

    def body() -> None:
        queued.append(world.kernel.workqueue.schedule_work(work))
        queued.append(world.kernel.workqueue.schedule_work(work))
        world.runtime.point(ev.READ, 0, "first")
        queued.append(world.kernel.workqueue.schedule_work(work))

    world.run(body)
    assert queued == [True, False, True]
    assert [event[6] for event in world.of(ev.WORK_QUEUE)] == [0, 1, 0]
    assert ran == [KWORKER, KWORKER]
    assert [event[5] for event in world.of(ev.WORK_BEGIN)] == ["drain", "drain"]


def test_a_work_that_has_been_taken_but_has_not_started_is_still_queued() -> None:
    world = World(Run(1, until(ev.READ, "first")), Run(KWORKER, STARTING), Run(1), Run(KWORKER))
    work = Work("drain", lambda: None)
    queued: list[bool] = []

    def body() -> None:
        world.kernel.workqueue.schedule_work(work)
        world.runtime.point(ev.READ, 0, "first")
        queued.append(world.kernel.workqueue.schedule_work(work))

    world.run(body)
    assert queued == [False]
    assert len(world.of(ev.WORK_BEGIN)) == 1


def test_a_work_may_queue_itself_again() -> None:
    world = World()
    ran: list[int] = []

    def function() -> None:
        ran.append(1)
        if len(ran) < 3:
            assert world.kernel.workqueue.schedule_work(work)

    work = Work("again", function)
    world.run(lambda: world.kernel.workqueue.schedule_work(work))
    assert ran == [1, 1, 1]
    kinds = [kind for kind, _ in works(world)]
    assert kinds == [
        ev.WORK_QUEUE,
        *[ev.WORK_BEGIN, ev.WORK_QUEUE, ev.WORK_END] * 2,
        ev.WORK_BEGIN,
        ev.WORK_END,
    ]


def test_two_kworkers_do_not_run_one_work_at_a_time_but_do_run_two() -> None:
    world = World(
        Run(1, until(ev.READ, "first")),
        Run(KWORKER, until(ev.READ, "working")),
        Run(1),
        Run(KWORKER + 1),
        Run(KWORKER),
        kworkers=2,
    )
    inside: list[str] = []
    most: list[int] = []

    def working(name: str) -> None:
        inside.append(name)
        assert len(set(inside)) == len(inside)
        most.append(len(inside))
        world.runtime.point(ev.READ, 0, "working")
        inside.remove(name)

    one, two = Work("one", lambda: working("one")), Work("two", lambda: working("two"))

    def body() -> None:
        world.kernel.workqueue.schedule_work(one)
        world.runtime.point(ev.READ, 0, "first")
        world.kernel.workqueue.schedule_work(one)
        world.kernel.workqueue.schedule_work(two)

    world.run(body)
    assert max(most) == 2
    assert [(event[1], event[5]) for event in world.of(ev.WORK_BEGIN)] == [
        (KWORKER, "one"),
        (KWORKER + 1, "two"),
        (KWORKER, "one"),
    ]


def test_a_kworker_that_sleeps_in_a_work_is_not_woken_for_another() -> None:
    world = World(Run(1, until(ev.READ, "count")), Run(KWORKER), Run(1))
    thing = world.thing()
    order: list[str] = []

    def sleepy() -> None:
        with thing.mutex:
            order.append("sleepy")

    first, second = Work("sleepy", sleepy), Work("second", lambda: order.append("second"))

    def body() -> None:
        with thing.mutex:
            world.kernel.workqueue.schedule_work(first)
            assert thing.count == 0
            world.kernel.workqueue.schedule_work(second)
            order.append("unlocks")

    world.run(body)
    assert order == ["unlocks", "sleepy", "second"]
    assert world.who(ev.LOCK_WAIT) == [KWORKER]


def test_work_that_is_left_when_the_tasks_end_is_still_done() -> None:
    world = World(Run(1))
    done: list[bool] = []
    work = Work("late", lambda: done.append(True))
    world.run(lambda: world.kernel.workqueue.schedule_work(work))
    assert done == [True]
    assert world.events[-1][0] == ev.STOPPED


def test_a_flush_returns_when_the_work_has_run_and_at_once_if_there_is_none() -> None:
    world = World()
    ran: list[int] = []
    work = Work("helper", lambda: ran.append(1))
    seen: list[int] = []

    def body() -> None:
        world.kernel.workqueue.flush_work(work)
        seen.append(len(ran))
        world.kernel.workqueue.schedule_work(work)
        world.kernel.workqueue.flush_work(work)
        seen.append(len(ran))

    world.run(body)
    assert seen == [0, 1]
    assert [event[0] for event in world.of(ev.WORK_END, ev.WORK_FLUSHED)] == [
        ev.WORK_FLUSHED,
        ev.WORK_END,
        ev.WORK_FLUSHED,
    ]


def test_a_flush_waits_for_a_work_that_is_under_way() -> None:
    world = World(Run(1, until(ev.READ, "queued")), Run(KWORKER, until(ev.READ, "inside")), Run(1), Run(KWORKER))
    work = Work("helper", lambda: world.runtime.point(ev.READ, 0, "inside"))

    def body() -> None:
        world.kernel.workqueue.schedule_work(work)
        world.runtime.point(ev.READ, 0, "queued")
        world.kernel.workqueue.flush_work(work)

    world.run(body)
    assert world.who(ev.WORK_END, ev.WORK_FLUSHED) == [KWORKER, 1]


@pytest.mark.parametrize(("kworkers", "reason"), [(1, DEADLOCK), (2, DONE)])
def test_a_work_that_waits_for_another_needs_a_second_kworker(kworkers: int, reason: str) -> None:
    world = World(kworkers=kworkers)
    workqueue = world.kernel.workqueue
    inner = Work("inner", lambda: None)

    def function() -> None:
        workqueue.schedule_work(inner)
        workqueue.flush_work(inner)

    outer = Work("outer", function)

    def body() -> None:
        workqueue.schedule_work(outer)
        workqueue.flush_work(outer)

    world.run(body, expect=reason)
    waits = [(event[1], event[5]) for event in world.of(ev.BLOCKED)]
    assert waits == ([(1, "work outer"), (KWORKER, "work inner")] if reason == DEADLOCK else [])


@pytest.mark.parametrize(("wanted", "ran_on"), [(0, 0), (1, 1), (7, 0)])
def test_a_work_meant_for_a_cpu_goes_to_an_idle_kworker_there_or_else_to_any(wanted: int, ran_on: int) -> None:
    world = World(kworkers=2)
    work = Work("helper", lambda: None)

    def body() -> None:
        world.kernel.workqueue.schedule_work_on(wanted, work)
        world.kernel.workqueue.flush_work(work)

    world.run(body)
    assert [event[2] for event in world.of(ev.WORK_BEGIN)] == [ran_on]
