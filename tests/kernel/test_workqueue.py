# SPDX-License-Identifier: GPL-2.0-only
"""Works: queued once until they start, run by kworkers, one at a time each."""

from __future__ import annotations

from stressvmap.journal import events as ev
from stressvmap.kernel.workqueue import Work
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
