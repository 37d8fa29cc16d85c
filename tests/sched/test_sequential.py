# SPDX-License-Identifier: GPL-2.0-only
"""The sequential runtime: one call after the other, each with all it caused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from stressvmap.errors import HarnessError
from stressvmap.journal import events as ev
from stressvmap.kernel.workqueue import Work
from stressvmap.program import Migration
from stressvmap.runtime.runtime import DEADLOCK, DONE, STEPS_MAX
from stressvmap.runtime.task import TaskKilled
from stressvmap.sched.sequential import SequentialRuntime
from tests.kernel.world import IRQ, KWORKER, RCU, World
from tests.sched.programs import Execution, SmallProgram, breaches, small_programs


def sequential(cpus: int = 2, steps_max: int = 5_000, kworkers: int = 1) -> tuple[World, SequentialRuntime]:
    runtime = SequentialRuntime()
    return World(runtime=runtime, cpus=cpus, steps_max=steps_max, kworkers=kworkers), runtime


def test_tasks_run_one_after_the_other_in_the_order_of_their_ids() -> None:
    world, _ = sequential()
    order: list[int] = []

    def body() -> None:
        for _ in range(3):
            world.runtime.point(ev.READ, 0, "step")
            order.append(world.runtime.current.id)

    world.run(body, body)
    assert order == [1, 1, 1, 2, 2, 2]


def test_an_interrupt_is_served_at_once_in_the_midst_of_the_call() -> None:
    world, _ = sequential(cpus=3)
    world.run(lambda: world.memory.flush_tlb_kernel_range(0, 1 << 20))
    kinds = [(event[0], event[1]) for event in world.of(ev.IPI_SEND, ev.TLB_INVALIDATE, ev.FLUSH_END)]
    assert kinds == [
        (ev.IPI_SEND, 1),
        (ev.TLB_INVALIDATE, IRQ + 1),
        (ev.IPI_SEND, 1),
        (ev.TLB_INVALIDATE, IRQ + 2),
        (ev.TLB_INVALIDATE, 1),
        (ev.FLUSH_END, 1),
    ]
    assert world.is_clean()


def test_other_daemons_run_at_the_end_of_the_call() -> None:
    world, runtime = sequential()
    thing = world.thing()
    order: list[str] = []
    work = Work("work", lambda: order.append("work"))

    def call() -> None:
        world.kernel.workqueue.schedule_work(work)
        world.rcu.kfree_rcu(thing)
        assert not thing.is_dead
        order.append("call is over")

    task = world.spawn(lambda: None, 0)
    assert runtime.call(task, call) == DONE
    assert order == ["call is over", "work"]
    assert thing.is_dead
    assert world.who(ev.WORK_BEGIN, ev.OBJECT_FREE) == [KWORKER, RCU]


def test_calls_of_several_tasks_follow_each_other_as_the_caller_likes() -> None:
    world, runtime = sequential()
    thing = world.thing()
    one, two = world.spawn(lambda: None, 0), world.spawn(lambda: None, 1)

    def call() -> None:
        with thing.lock:
            thing.count += 1

    for task in (two, one, two):
        assert runtime.call(task, call) == DONE
    assert [(event[1], event[2]) for event in world.of(ev.LOCK)] == [(2, 1), (1, 0), (2, 1)]


def test_a_task_that_waits_for_a_grace_period_lets_daemons_run_until_it_is_over() -> None:
    world, runtime = sequential()
    task = world.spawn(lambda: None, 0)
    assert runtime.call(task, world.rcu.synchronize_rcu) == DONE


def test_a_task_that_nobody_can_wake_is_a_deadlock() -> None:
    world, runtime = sequential()
    thing = world.thing()

    def body() -> None:
        thing.lock.lock()
        thing.lock.lock()

    world.run(body, lambda: pytest.fail("nothing runs after that"), expect=DEADLOCK)
    assert [(event[1], event[6]) for event in world.of(ev.BLOCKED)] == [(1, 1)]
    assert world.events[-1][5] == "deadlock"
    with pytest.raises(HarnessError, match="over"):
        runtime.call(world.tasks[2], lambda: None)
    with pytest.raises(TaskKilled):
        runtime.park()


def test_a_lock_left_held_by_one_call_stops_the_next_that_wants_it() -> None:
    world, runtime = sequential()
    thing = world.thing()
    one, two = world.spawn(lambda: None, 0), world.spawn(lambda: None, 1)
    assert runtime.call(one, thing.mutex.lock) == DONE
    assert runtime.call(two, thing.mutex.lock) == DEADLOCK


def test_steps_max_ends_the_call_and_the_journal() -> None:
    world, _ = sequential(steps_max=20)

    def body() -> None:
        try:
            while True:
                world.runtime.point(ev.READ, 0, "step")
        finally:
            world.runtime.point(ev.READ, 0, "after")

    world.run(body, expect=STEPS_MAX)
    assert world.runtime.points == 20
    assert world.events[-1][5] == STEPS_MAX


def test_a_bug_ends_the_call_but_not_the_machine() -> None:
    world, runtime = sequential()
    thing = world.thing()
    one, two = world.spawn(lambda: None, 0), world.spawn(lambda: None, 0)

    def dies() -> None:
        with thing.lock:
            world.machine.BUG_ON(True, "here")

    assert runtime.call(one, dies) == DONE
    assert one.is_dead
    assert runtime.call(two, lambda: world.rcu.kfree_rcu(thing)) == DONE
    assert thing.is_dead


def test_an_exception_comes_out_of_the_call() -> None:
    world, runtime = sequential()
    task = world.spawn(lambda: None, 0)

    def fails() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        runtime.call(task, fails)
    assert runtime.call(task, lambda: None) == DONE


def test_a_task_migrates_where_its_program_says() -> None:
    world, _ = sequential()
    cpus: list[int] = []

    def body() -> None:
        for _ in range(3):
            world.runtime.point(ev.READ, 0, "step")
            cpus.append(world.machine.smp_processor_id())

    world.run(body, migrations=[Migration(1, 2, 1)])
    assert cpus == [0, 1, 1]


def test_a_kworker_that_sleeps_in_a_work_is_not_started_again_over_itself() -> None:
    world, runtime = sequential(kworkers=2)
    inside: list[str] = []

    def waits() -> None:
        assert not inside
        inside.append("first")
        world.rcu.synchronize_rcu()
        inside.remove("first")

    first, second = Work("first", waits), Work("second", lambda: None)

    def call() -> None:
        world.kernel.workqueue.schedule_work(first)
        world.kernel.workqueue.schedule_work(second)

    assert runtime.call(world.spawn(lambda: None, 0), call) == DONE
    assert len(world.of(ev.WORK_BEGIN)) == len(world.of(ev.WORK_END)) == 2


def test_draws_depend_on_the_seed_alone() -> None:
    def draws(seed: int) -> list[int]:
        runtime = SequentialRuntime(seed)
        return [runtime.draw(100) for _ in range(20)]

    assert draws(1) == draws(1) != draws(2)
    assert all(0 <= value < 100 for value in draws(3))


@given(program=small_programs())
@settings(max_examples=60, deadline=None)
def test_every_execution_obeys_the_laws_of_the_machine_and_none_deadlocks(program: SmallProgram) -> None:
    execution = Execution(SequentialRuntime(), program)
    assert breaches(execution.events) == []
    assert execution.reason == DONE or execution.world.bugs()
    assert execution.is_clean_unless_cut
