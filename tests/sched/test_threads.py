# SPDX-License-Identifier: GPL-2.0-only
"""The thread runtime: one total order, real interleaving, and an end to every execution. Nothing here waits on time."""

from __future__ import annotations

import gc
import signal
import threading
import time
import tracemalloc
import weakref
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stressvmap.journal import events as ev
from stressvmap.program import Migration
from stressvmap.runtime.runtime import DEADLOCK, DONE, STEPS_MAX
from stressvmap.sched.threads import ThreadRuntime
from tests.kernel.world import IRQ, World
from tests.sched.programs import OPERATIONS, Execution, SmallProgram, breaches, small_programs

pytestmark = pytest.mark.timeout(60)

EXECUTIONS_MAX = 500
"""After so many that something likely has not happened, it is broken."""


@pytest.fixture
def runtime() -> Iterator[ThreadRuntime]:
    """One that gives way at every point."""
    runtime = ThreadRuntime(1, 1.0)
    yield runtime
    runtime.close()


def endless(runtime: ThreadRuntime, cpus: int = 2) -> World:
    """A machine without a bound of steps, for tasks that step until another has done something."""
    return World(runtime=runtime, cpus=cpus, steps_max=1 << 40)


def step(world: World) -> None:
    world.runtime.point(ev.READ, 0, "step")


def foreign_steps_in_critical_sections(world: World) -> int:
    holder = 0
    count = 0
    for kind, task, *_ in world.events:
        if kind == ev.LOCK:
            holder = task
        elif kind == ev.UNLOCK:
            holder = 0
        elif holder not in (0, task):
            count += 1
    return count


def locked_counting(runtime: ThreadRuntime) -> int:
    """How many foreign steps fell into the critical sections of an execution that only has such."""
    world = World(runtime=runtime, cpus=3)
    thing = world.thing()

    def body() -> None:
        for _ in range(20):
            with thing.lock:
                thing.count += 1
                step(world)

    world.run(body, body, body)
    assert thing.values["count"] == 60
    return foreign_steps_in_critical_sections(world)


def test_foreign_steps_fall_into_critical_sections() -> None:
    runtime = ThreadRuntime(3, 0.05)
    assert any(locked_counting(runtime) for _ in range(EXECUTIONS_MAX))
    assert runtime.switches > 0
    runtime.close()


def test_without_giving_way_nothing_falls_into_a_critical_section() -> None:
    runtime = ThreadRuntime(3, 0.0)
    assert sum(locked_counting(runtime) for _ in range(20)) == 0
    assert runtime.switches == 0
    runtime.close()


def test_between_two_points_nothing_foreign_happens(runtime: ThreadRuntime) -> None:
    world = World(runtime=runtime, cpus=4)
    counter = [0]

    def body() -> None:
        for _ in range(50):
            step(world)
            before = counter[0]
            time.sleep(0)  # an invitation to every other thread
            counter[0] = before + 1

    world.run(body, body, body, body)
    assert counter == [200]


def test_an_increment_that_is_two_steps_does_get_lost(runtime: ThreadRuntime) -> None:
    def is_lost() -> bool:
        world = World(runtime=runtime)
        thing = world.thing()

        def body() -> None:
            for _ in range(20):
                thing.count += 1

        world.run(body, body)
        return bool(thing.values["count"] < 40)

    assert any(is_lost() for _ in range(EXECUTIONS_MAX))


@given(program=small_programs(), seed=st.integers(0, 1 << 20), rate=st.sampled_from([0.0, 0.1, 1.0]))
@settings(max_examples=100, deadline=None)
def test_every_execution_obeys_the_laws_of_the_machine(program: SmallProgram, seed: int, rate: float) -> None:
    runtime = ThreadRuntime(seed, rate)
    execution = Execution(runtime, program)
    runtime.close()
    assert breaches(execution.events) == []
    assert execution.is_clean_unless_cut
    assert execution.events[-1][0] == ev.STOPPED


def test_two_tasks_a_cpu_are_never_both_inside_a_spinlock_there(runtime: ThreadRuntime) -> None:
    program = SmallProgram(tuple((cpu, ("lock", "list", "flush", "lock")) for cpu in (0, 0, 1, 1)))
    for _ in range(20):
        execution = Execution(runtime, program)
        assert execution.reason == DONE
        assert breaches(execution.events) == []


def test_a_task_alone_that_waits_for_itself_is_a_deadlock(runtime: ThreadRuntime) -> None:
    world = World(runtime=runtime)
    thing = world.thing()

    def body() -> None:
        thing.lock.lock()
        thing.lock.lock()

    world.run(body, expect=DEADLOCK)
    assert [(event[1], event[6]) for event in world.of(ev.BLOCKED)] == [(1, 1)]
    assert world.events[-1][5] == "deadlock"


@pytest.mark.parametrize("execution", range(20))
def test_an_abba_deadlock_says_who_waits_for_whom(runtime: ThreadRuntime, execution: int) -> None:
    world = endless(runtime, cpus=3)
    things = [world.thing(), world.thing()]
    others: list[int] = []

    def take(first: int) -> None:
        with things[first].mutex:
            while things[1 - first].mutex.owner is None:
                step(world)
            things[1 - first].mutex.lock()

    def bystander() -> None:
        for _ in range(5):
            step(world)
        others.append(3)

    world.run(lambda: take(0), lambda: take(1), bystander, expect=DEADLOCK)
    assert others == [3]
    assert [(event[1], event[4], event[6]) for event in world.of(ev.BLOCKED)] == [
        (1, things[1].id, 2),
        (2, things[0].id, 1),
    ]


def test_an_execution_stops_at_exactly_steps_max_and_tasks_that_wait_are_unwound(runtime: ThreadRuntime) -> None:
    world = World(runtime=runtime, steps_max=2000)
    thing = world.thing()
    begun: list[int] = []
    unwound: list[int] = []

    def body() -> None:
        begun.append(1)  # the system may not let the other thread begin in time
        try:
            with thing.lock:
                while True:
                    step(world)
        finally:
            step(world)
            unwound.append(1)

    world.run(body, body, expect=STEPS_MAX)
    assert world.runtime.points == 2000
    assert begun
    assert unwound == begun
    assert world.events[-1][0] == ev.STOPPED
    assert world.of(ev.UNLOCK) == []


def test_a_bug_kills_the_task_and_frees_its_cpu_but_not_its_locks(runtime: ThreadRuntime) -> None:
    world = endless(runtime)
    thing = world.thing()
    done: list[int] = []

    def dies() -> None:
        with thing.lock:
            step(world)
            world.machine.BUG_ON(True, "here")

    def lives() -> None:
        while not world.tasks[1].is_dead:
            step(world)
        done.append(2)

    world.run(dies, lives, cpus=[0, 0])
    assert done == [2]
    assert thing.lock.owner is world.tasks[1]


def test_whoever_needs_a_lock_of_the_dead_waits_for_ever(runtime: ThreadRuntime) -> None:
    world = endless(runtime)
    thing = world.thing()

    def dies() -> None:
        with thing.mutex:
            world.machine.BUG_ON(True, "here")

    def waits() -> None:
        while not world.tasks[1].is_dead:
            step(world)
        thing.mutex.lock()

    world.run(dies, waits, expect=DEADLOCK)
    assert world.events[-1][5] == "bug"


@pytest.mark.parametrize("execution", range(10))
def test_an_exception_in_a_task_comes_out_of_run_and_the_runtime_is_good_for_more(
    runtime: ThreadRuntime, execution: int
) -> None:
    world = endless(runtime)
    thing = world.thing()

    def fails() -> None:
        step(world)
        raise ZeroDivisionError("mine")

    def sleeps() -> None:
        with thing.mutex:
            thing.mutex.lock()

    with pytest.raises(ZeroDivisionError, match="mine"):
        world.run(fails, sleeps)
    assert world.events[-1][5] == "interrupted"
    assert all(task.context is None for task in runtime.tasks)
    world = World(runtime=runtime)
    world.run(lambda: step(world))


def test_an_interrupt_is_answered_by_a_cpu_that_is_idle_spinning_or_parked(runtime: ThreadRuntime) -> None:
    world = endless(runtime, cpus=5)
    thing = world.thing()

    def initiator() -> None:
        while not (len(thing.lock.waiters) == 1 and len(thing.mutex.waiters) == 1):
            step(world)
        world.memory.flush_tlb_kernel_range(0, 1 << 20)
        thing.values["count"] = 1

    def holder() -> None:
        with thing.mutex, thing.lock:
            while not thing.count:
                pass

    def spins() -> None:
        while thing.lock.owner is None:
            step(world)
        with thing.lock:
            pass

    def sleeps() -> None:
        while thing.mutex.owner is None:
            step(world)
        with thing.mutex:
            pass

    world.run(initiator, holder, spins, sleeps, cpus=[0, 1, 2, 3])
    handled = [(event[2], event[1]) for event in world.of(ev.TLB_INVALIDATE)]
    assert sorted(handled) == [(0, 1), *[(cpu, IRQ + cpu) for cpu in (1, 2, 3, 4)]]
    assert world.is_clean()


def test_an_interrupt_waits_while_its_cpu_has_them_off_and_comes_when_they_are_on(runtime: ThreadRuntime) -> None:
    world = endless(runtime)
    seen: list[int] = []

    def irqs_off() -> None:
        world.machine.local_irq_disable()
        while not world.memory.has_interrupts_pending(1):
            step(world)
        for _ in range(20):
            step(world)
        seen.append(len(world.of(ev.TLB_INVALIDATE)))
        world.machine.preempt_disable()  # so that the CPU is not given up with the interrupts
        world.machine.local_irq_enable()
        while world.memory.has_interrupts_pending(1):
            step(world)
        world.machine.preempt_enable()

    def flushes() -> None:
        while 1 not in world.runtime.irqs_off:
            step(world)
        world.memory.flush_tlb_kernel_range(0, 1 << 20)

    world.run(flushes, irqs_off)
    assert seen[0] <= 1
    assert world.is_clean()


@pytest.mark.parametrize("execution", range(20))
def test_a_task_migrates_and_waits_for_the_cpu_it_comes_to(runtime: ThreadRuntime, execution: int) -> None:
    world = World(runtime=runtime)
    thing = world.thing()

    def holder() -> None:
        with thing.lock:
            for _ in range(5):
                step(world)

    def comer() -> None:
        step(world)
        world.machine.move(world.runtime.current, 0)
        with thing.lock:
            pass

    world.run(holder, comer, migrations=[Migration(2, 1, 0), Migration(2, 2, 1)])
    assert breaches(world.events) == []
    assert world.is_clean()


@pytest.mark.parametrize("execution", range(5))
def test_an_interrupt_from_the_keyboard_unwinds_every_task_and_comes_out_of_run(
    runtime: ThreadRuntime, execution: int
) -> None:
    world = endless(runtime, cpus=3)
    thing = world.thing()
    unwound: list[int] = []
    begun: list[int] = []
    main_thread = threading.get_ident()

    def for_ever(is_culprit: bool) -> None:
        begun.append(1)
        try:
            if is_culprit:
                while len(begun) < 3:
                    step(world)
                signal.pthread_kill(main_thread, signal.SIGINT)
            while True:
                step(world)
        finally:
            unwound.append(1)

    def parked() -> None:
        begun.append(1)
        try:
            thing.mutex.lock()
            thing.mutex.lock()
        finally:
            unwound.append(1)

    with pytest.raises(KeyboardInterrupt):
        world.run(lambda: for_ever(False), parked, lambda: for_ever(True))
    assert unwound == [1, 1, 1]
    assert world.events[-1][5] == "interrupted"
    world = World(runtime=runtime)
    world.run(lambda: step(world))


def test_a_runtime_without_tasks_is_done_at_once(runtime: ThreadRuntime) -> None:
    for _ in range(3):
        World(runtime=runtime)
        assert runtime.run() == DONE


def test_two_runs_of_one_execution_follow_each_other(runtime: ThreadRuntime) -> None:
    world = World(runtime=runtime)
    world.spawn(lambda: step(world), 0)
    assert runtime.run() == DONE
    world.spawn(lambda: step(world), 0, id=900)
    assert runtime.run() == DONE
    assert runtime.points == 2


def test_close_ends_every_thread() -> None:
    def alive() -> int:
        return sum(thread.name.startswith("stressvmap-") for thread in threading.enumerate())

    before = alive()
    runtime = ThreadRuntime(1, 0.5)
    for _ in range(5):
        Execution(runtime, SmallProgram(tuple((cpu, ("flush", "lock")) for cpu in range(3))))
    assert before < alive() <= before + 3 + 3 + 2  # tasks, interrupts, kworker and RCU: threads are pooled
    runtime.close()
    assert alive() == before


def test_thousands_of_executions_leave_a_runtime_clean_and_memory_flat() -> None:
    random = Random(7)
    programs = [
        SmallProgram(tuple((random.randrange(3), tuple(random.choices(OPERATIONS, k=4))) for _ in range(3)))
        for _ in range(40)
    ]
    runtime = ThreadRuntime(1, 0.05)
    reasons: dict[str, int] = {}

    def execute(first: int, count: int) -> None:
        for number in range(first, first + count):
            execution = Execution(runtime, programs[number % len(programs)], steps_max=60 if number % 7 == 0 else 2_000)
            reason = "bug" if execution.world.bugs() else execution.reason
            reasons[reason] = reasons.get(reason, 0) + 1
            assert all(task.context is None for task in runtime.tasks)

    def size() -> tuple[int, int]:
        runtime.reset()
        gc.collect()
        return tracemalloc.get_traced_memory()[0], len(gc.get_objects())

    execute(0, 1_000)
    tracemalloc.start()
    execute(1_000, 200)
    before = size()
    execute(1_200, 800)
    after = size()
    tracemalloc.stop()
    assert {DONE, STEPS_MAX, "bug"} <= set(reasons)
    assert after[1] - before[1] < 400
    assert after[0] - before[0] < 60_000
    runtime.close()


def test_an_old_execution_is_not_kept_alive_by_the_pool(runtime: ThreadRuntime) -> None:
    program = SmallProgram(tuple((cpu, ("flush", "lock")) for cpu in range(3)))
    old = weakref.ref(Execution(runtime, program).world.machine)
    Execution(runtime, SmallProgram(((0, ("count",)),)))
    gc.collect()
    assert old() is None
