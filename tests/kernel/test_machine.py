# SPDX-License-Identifier: GPL-2.0-only
"""CPUs, migration, BUG, and the end of an execution in the journal."""

from __future__ import annotations

import pytest

from stressvmap.journal import events as ev
from stressvmap.kernel.function import kernel_function, kernel_function_named
from stressvmap.program import Migration
from stressvmap.runtime.runtime import DEADLOCK, STEPS_MAX
from stressvmap.runtime.task import BugOn
from stressvmap.sched.replay import Run
from tests.kernel.world import World, until


def steps(world: World, count: int) -> None:
    for _ in range(count):
        world.runtime.point(ev.READ, 0, "step")


def test_a_task_migrates_at_the_planned_point() -> None:
    world = World()
    cpus: list[int] = []

    def body() -> None:
        for _ in range(4):
            world.runtime.point(ev.READ, 0, "step")
            cpus.append(world.machine.smp_processor_id())

    world.run(body, migrations=[Migration(1, 2, 1), Migration(1, 4, 0)])
    assert cpus == [0, 1, 1, 0]
    assert [event[1:] for event in world.of(ev.MIGRATED)] == [(1, 1, "", 0, "", 1), (1, 0, "", 1, "", 0)]


def test_a_task_that_is_not_preemptible_migrates_at_the_first_point_where_it_is() -> None:
    world = World()
    thing = world.thing()
    cpus: list[int] = []

    def body() -> None:
        with thing.lock:  # points 1 to 4
            thing.count += 1
        cpus.append(world.machine.smp_processor_id())
        steps(world, 1)
        cpus.append(world.machine.smp_processor_id())

    world.run(body, migrations=[Migration(1, 2, 1)])
    assert cpus == [0, 1]
    assert world.position(ev.MIGRATED) > world.position(ev.UNLOCK)


def test_two_migrations_planned_for_one_point_happen_one_point_after_the_other() -> None:
    world = World(cpus=3)
    cpus: list[int] = []

    def body() -> None:
        for _ in range(3):
            steps(world, 1)
            cpus.append(world.machine.smp_processor_id())

    world.run(body, migrations=[Migration(1, 1, 1), Migration(1, 1, 2)])
    assert cpus == [1, 2, 2]


def test_nobody_migrates_to_a_cpu_that_is_not_online() -> None:
    world = World(possible=[0, 1], online=[0])
    world.run(lambda: steps(world, 3), migrations=[Migration(1, 1, 1), Migration(1, 2, 0)])
    assert world.of(ev.MIGRATED) == []


@pytest.mark.parametrize("is_voluntary", [False, True])
def test_a_task_that_comes_to_a_cpu_whose_task_is_not_preemptible_waits_for_it(is_voluntary: bool) -> None:
    world = World(Run(2, until(ev.READ, "count")), Run(1), Run(3), Run(2), cpus=3)
    thing, other = world.thing(), world.thing()
    order: list[int] = []

    def comer() -> None:
        if is_voluntary:
            world.machine.move(world.runtime.current, 1)
        else:
            steps(world, 1)
        with other.lock:  # pins CPU 1: were task 2 still inside, it could never leave
            order.append(1)

    def holder() -> None:
        with thing.lock:
            thing.count += 1
            order.append(2)

    def bystander() -> None:
        order.append(3)

    world.run(comer, holder, bystander, migrations=() if is_voluntary else [Migration(1, 1, 1)])
    assert order == [3, 2, 1]
    assert world.is_clean()


def test_get_cpu_and_put_cpu_keep_the_cpu_between_them() -> None:
    world = World(Run(1, until(ev.READ, "step")), Run(2))
    order: list[int] = []

    def body() -> None:
        assert world.machine.get_cpu() == 0
        steps(world, 2)
        order.append(1)
        world.machine.put_cpu()
        steps(world, 1)

    world.run(body, lambda: order.append(2), cpus=[0, 0])
    assert order == [1, 2]
    assert [(event[4], event[5]) for event in world.of(ev.PREEMPT)] == [(1, "get_cpu"), (0, "put_cpu")]


def test_a_bug_kills_the_task_with_its_locks_held_and_the_rest_goes_on() -> None:
    world = World(Run(1), Run(2), cpus=1)
    thing = world.thing()
    after: list[int] = []

    def dies() -> None:
        with thing.lock:
            world.machine.BUG_ON(False, "not this")
            world.machine.BUG_ON(True, "this")
        after.append(1)

    world.run(dies, lambda: after.append(2), cpus=[0, 0])
    assert after == [2]
    assert world.bugs() == ["this"]
    assert thing.lock.owner is world.tasks[1]
    assert world.of(ev.UNLOCK) == []
    assert world.tasks[1].is_dead
    assert world.tasks[1].is_done
    # As in make_task_dead(): the lock stays, the CPU does not.
    assert world.runtime.pinned_by == {}


def test_whoever_needs_a_lock_of_the_dead_waits_for_ever_and_that_is_the_bugs_doing() -> None:
    world = World(Run(1), Run(2))
    thing = world.thing()

    def dies() -> None:
        thing.mutex.lock()
        world.machine.deref(None)

    def waits() -> None:
        thing.mutex.lock()

    world.run(dies, waits, expect=DEADLOCK)
    assert world.bugs() == ["NULL pointer dereference"]
    assert [(event[1], event[6]) for event in world.of(ev.BLOCKED)] == [(2, 1)]
    assert world.events[-1][5] == "bug"


def test_who_could_have_gone_on_when_it_was_given_up_is_told_apart_from_who_waits() -> None:
    world = World(Run(1, until(ev.READ, "count")), Run(2), Run(1), steps_max=60)
    thing = world.thing()

    def spins() -> None:
        with thing.mutex:
            while True:
                thing.count += 1

    def waits() -> None:
        with thing.mutex:
            pass

    world.run(spins, waits, expect=STEPS_MAX)
    assert [(event[0], event[1]) for event in world.of(ev.RUNNABLE, ev.BLOCKED)] == [(ev.RUNNABLE, 1), (ev.BLOCKED, 2)]


def test_nothing_is_journalled_after_the_stop_though_tasks_are_still_unwound() -> None:
    world = World(steps_max=10)
    thing = world.thing()
    unwound: list[str] = []

    def body() -> None:
        try:
            with thing.lock:
                steps(world, 100)
        finally:
            thing.count += 1
            world.runtime.point(ev.READ, 0, "")
            with thing.mutex:
                pass
            unwound.append("finally")

    world.run(body, body, expect=STEPS_MAX)
    assert world.events[-1][0] == ev.STOPPED
    assert world.events[-1][5] == STEPS_MAX
    assert len(world.of(ev.STOPPED)) == 1
    assert world.of(ev.UNLOCK) == []
    assert world.of(ev.WRITE) == []
    assert unwound
    assert world.runtime.points == 10


def test_the_journal_of_a_whole_execution_ends_with_why_it_stopped() -> None:
    world = World()
    world.run(lambda: steps(world, 1))
    assert world.events[-1] == (ev.STOPPED, 1, 0, "", 0, "done", 0)
    world.machine.record(ev.READ, 0, "late", 0)
    assert world.events[-1][0] == ev.STOPPED


def test_a_warning_is_recorded_and_given_back() -> None:
    world = World()
    assert world.machine.WARN_ON(True, "odd")
    assert not world.machine.WARN_ON(False, "even")
    assert world.warnings() == ["odd"]


def test_dereferencing_what_is_there_gives_it_back() -> None:
    world = World()
    assert world.machine.deref("it") == "it"
    with pytest.raises(BugOn):
        world.machine.deref(None)


class Layer:
    def __init__(self, world: World) -> None:
        self.machine = world.machine

    @kernel_function
    def outer(self, depth: int = 1) -> int:
        self.machine.WARN_ON(True, "in outer")
        if depth:
            self.inner()
        self.machine.WARN_ON(True, "in outer again")
        return depth

    @kernel_function_named("__inner")
    def inner(self) -> None:
        self.machine.WARN_ON(True, "in inner")
        raise KeyError

    def try_outer(self) -> None:
        with pytest.raises(KeyError):
            self.outer()
        self.machine.WARN_ON(True, "outside")


def test_an_entry_names_the_kernel_function_it_was_made_in_and_leaving_by_an_exception_leaves_it() -> None:
    world = World()
    world.run(Layer(world).try_outer)
    assert [(event[3], event[5]) for event in world.of(ev.WARN)] == [
        ("outer", "in outer"),
        ("__inner", "in inner"),
        ("", "outside"),
    ]
