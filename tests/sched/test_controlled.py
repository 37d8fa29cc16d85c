# SPDX-License-Identifier: GPL-2.0-only
"""The controlled runtime: an execution is a function of its schedule, ends as it should, and leaves nothing behind."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Iterator, Sequence
from functools import partial
from random import Random

import pytest
from greenlet import greenlet  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from stressvmap.errors import ScheduleMismatch
from stressvmap.journal import events as ev
from stressvmap.runtime.runtime import DEADLOCK, DONE, STEPS_MAX
from stressvmap.runtime.strategy import ENDED, WOKEN, Schedule, Strategy
from stressvmap.runtime.task import Task
from stressvmap.sched.controlled import ControlledRuntime
from stressvmap.sched.random import RandomStrategy
from stressvmap.sched.replay import ReplayStrategy, Run
from tests.kernel.world import Thing, World, until, until_lock
from tests.sched.programs import OPERATIONS, Execution, SmallProgram, breaches, small_programs


class LongGrants(Strategy):
    """Any enabled task for up to `most` points; notes why it was asked."""

    def __init__(self, seed: int, most: int, *, wants_wakeups: bool = False) -> None:
        self.wants_wakeups = wants_wakeups
        self.most = most
        self.random = Random(seed)
        self.reasons: list[int] = []

    def begin(self, execution: int) -> None:
        pass

    def decide(self, enabled: Sequence[Task], current: Task | None, why_stopped: int) -> tuple[Task, int]:
        self.reasons.append(why_stopped)
        assert [task.id for task in enabled] == sorted(task.id for task in enabled)
        return self.random.choice(enabled), self.random.randint(1, self.most)

    def draw(self, n: int) -> int:
        return self.random.randrange(n)


def random_program(random: Random) -> SmallProgram:
    tasks = random.randint(1, 4)
    return SmallProgram(
        tuple((random.randrange(3), tuple(random.choices(OPERATIONS, k=random.randint(0, 5)))) for _ in range(tasks))
    )


def replayed(program: SmallProgram, schedule: Schedule, steps_max: int = 2_000) -> Execution:
    strategy = ReplayStrategy(schedule)
    strategy.begin(0)
    runtime = ControlledRuntime(strategy)
    execution = Execution(runtime, program, steps_max)
    strategy.check_used_up()
    assert runtime.schedule == schedule
    runtime.close()
    return execution


@given(program=small_programs(), seed=st.integers(0, 1 << 20))
@settings(max_examples=60, deadline=None)
def test_the_same_strategy_and_seed_give_the_same_digest(program: SmallProgram, seed: int) -> None:
    digests = set()
    for _ in range(2):
        strategy = RandomStrategy(seed)
        strategy.begin(3)
        runtime = ControlledRuntime(strategy)
        digests.add(Execution(runtime, program).digest)
        runtime.close()
    assert len(digests) == 1


@given(
    program=small_programs(),
    seed=st.integers(0, 1 << 20),
    most=st.sampled_from([1, 2, 5, 50]),
    wants_wakeups=st.booleans(),
    steps_max=st.sampled_from([15, 60, 2_000]),
)
@settings(max_examples=150, deadline=None)
def test_a_recorded_schedule_replays_to_the_identical_journal(
    program: SmallProgram, seed: int, most: int, wants_wakeups: bool, steps_max: int
) -> None:
    runtime = ControlledRuntime(LongGrants(seed, most, wants_wakeups=wants_wakeups))
    execution = Execution(runtime, program, steps_max)
    again = replayed(program, runtime.schedule, steps_max)
    assert (again.reason, again.events) == (execution.reason, execution.events)
    runtime.close()


@given(program=small_programs(), seed=st.integers(0, 1 << 20))
@settings(max_examples=60, deadline=None)
def test_every_execution_obeys_the_laws_of_the_machine(program: SmallProgram, seed: int) -> None:
    runtime = ControlledRuntime(LongGrants(seed, 5))
    execution = Execution(runtime, program)
    assert breaches(execution.events) == []
    assert execution.is_clean_unless_cut
    runtime.close()


class AskedRandomWalk(RandomStrategy):
    """The random walk by way of `decide`."""

    def decide(self, enabled: Sequence[Task], current: Task | None, why_stopped: int) -> tuple[Task, int]:
        return super().decide(enabled, current, why_stopped)


@given(program=small_programs(), seed=st.integers(0, 1 << 20), steps_max=st.sampled_from([15, 60, 2_000]))
@settings(max_examples=100, deadline=None)
def test_a_random_walk_is_the_same_whether_it_is_asked_or_not(program: SmallProgram, seed: int, steps_max: int) -> None:
    outcomes = []
    for strategy in (RandomStrategy(seed), AskedRandomWalk(seed)):
        strategy.begin(0)
        runtime = ControlledRuntime(strategy)
        execution = Execution(runtime, program, steps_max)
        points = [task.points for task in runtime.tasks]
        outcomes.append((execution.reason, execution.events, runtime.schedule, runtime.points, points))
        runtime.close()
    assert AskedRandomWalk(seed).walk is None
    assert outcomes[0] == outcomes[1]


def test_a_schedule_says_who_ran_for_how_many_points() -> None:
    world = World(Run(2, until(ev.WRITE)), Run(1))
    thing = world.thing()

    def body() -> None:
        thing.count += 1

    world.run(body, body)
    assert isinstance(world.runtime, ControlledRuntime)
    # Task 2 stops at its 2nd point; task 1 has 2 and ends, which is a grant of 3; task 2 has none left.
    assert world.runtime.schedule == Schedule([(2, 2), (1, 3), (2, 1)], [])


def counting(world: World, count: int) -> None:
    for _ in range(count):
        world.runtime.point(ev.READ, 0, "step")


def mismatch(schedule: Schedule, points: int = 3) -> str:
    """What the replay of `schedule` says of two tasks with `points` points each."""
    world = World(strategy=ReplayStrategy(schedule))

    def body() -> None:
        counting(world, points)
        if schedule.draws:
            world.runtime.draw(4)

    with pytest.raises(ScheduleMismatch) as error:
        world.run(body, body)
    return str(error.value)


def test_a_schedule_that_does_not_fit_names_the_first_step_that_differs_and_what_is_there() -> None:
    at_1 = "task 1 (task/1) is about to read step, on CPU 0"
    at_2 = "task 2 (task/2) is at its start, on CPU 1"
    assert mismatch(Schedule([(1, 2), (7, 1)])) == (
        "diverged at step 2: decision 1 of the schedule runs task 7 here, which is not enabled; "
        f"enabled: {at_1}; {at_2}"
    )
    over = "the schedule is over here, but there are still tasks enabled"
    assert mismatch(Schedule([(1, 2)])) == f"diverged at step 2: {over}: {at_1}; {at_2}"
    start_1 = "task 1 (task/1) is at its start, on CPU 0"
    assert mismatch(Schedule([])) == f"diverged at step 0: {over}: {start_1}; {at_2}"
    assert mismatch(Schedule([(1, 4), (1, 4)])) == (
        f"diverged at step 3: decision 1 of the schedule runs task 1 here, which is not enabled; enabled: {at_2}"
    )
    assert mismatch(Schedule([(1, 4), (2, 4), (1, 1)])).endswith(
        "the execution is over here, but decision 2 of the schedule runs task 1 for 1 points"
    )
    assert mismatch(Schedule([(1, 4), (2, 4)], [1])).endswith("draw 1: the schedule has no number below 4 for it")
    assert mismatch(Schedule([(1, 4), (2, 4)], [4, 0])).endswith("draw 0: the schedule has no number below 4 for it")
    assert mismatch(Schedule([(1, 4), (2, 4)], [0, 1, 2])).endswith(
        "the execution is over, having drawn 2 of the schedule's 3 numbers"
    )


def test_a_task_that_stops_too_early_is_noticed_where_it_stops() -> None:
    assert mismatch(Schedule([(1, 9), (2, 4)])) == (
        "diverged at step 3: task 1 (task/1) ended, where decision 0 of the schedule has it run for 5 more points"
    )


def test_a_script_that_misses_its_point_fails() -> None:
    def failure(*script: Run) -> str:
        world = World(*script)
        thing = world.thing()

        def hold() -> None:
            with thing.mutex:
                counting(world, 2)

        with pytest.raises(ScheduleMismatch) as error:
            world.run(hold, hold)
        return str(error.value)

    never = until(ev.PTE_SET)
    assert failure(Run(1, never)) == "script line 0: task 1 is blocked or done before it came to its point"
    held = Run(1, until(ev.READ))
    assert failure(held, Run(2, never)) == "script line 1: task 2 is blocked or done before it came to its point"
    last = "script line 2: the execution is over, and task 2 never came to its point"
    assert failure(Run(1), Run(1), Run(2, never)) == last


def test_a_strategy_that_raises_does_so_out_of_run_and_not_through_the_tasks() -> None:
    class Fails(LongGrants):
        def decide(self, enabled: Sequence[Task], current: Task | None, why_stopped: int) -> tuple[Task, int]:
            if why_stopped == ENDED or len(self.reasons) > 3:
                raise KeyError("no more")
            return super().decide(enabled, current, why_stopped)

    strategy = Fails(0, 1)
    runtime = ControlledRuntime(strategy)
    for points in (0, 9):  # it fails at the end of a task, then at a point
        strategy.reasons.clear()
        world = World(runtime=runtime)
        caught: list[BaseException] = []
        body = partial(catching, world, points, caught)
        with pytest.raises(KeyError, match="no more"):
            world.run(body, body)
        assert caught == []
        assert world.events[-1][5] == "interrupted"
    runtime.strategy = RandomStrategy(0)
    world = World(runtime=runtime)
    world.run(partial(counting, world, 3), partial(counting, world, 3))
    runtime.close()


def catching(world: World, points: int, caught: list[BaseException]) -> None:
    try:
        counting(world, points)
    except Exception as error:
        caught.append(error)


def test_an_abba_deadlock_is_found_exactly_and_says_who_waits_for_whom() -> None:
    world = World(Run(1, until_lock("B")), Run(2, until_lock("A")), Run(1), Run(2), cpus=3)
    a, b = world.thing(), world.thing()
    a.lock.lock_class, b.lock.lock_class = "A", "B"
    ended: list[int] = []

    def one() -> None:
        with a.lock, b.lock:
            pass

    def two() -> None:
        with b.lock, a.lock:
            pass

    world.run(one, two, lambda: ended.append(3), expect=DEADLOCK)
    assert ended == [3]  # only when nobody can go on is it one
    assert world.of(ev.BLOCKED) == [
        (ev.BLOCKED, 1, 0, "", b.id, "B", 2),
        (ev.BLOCKED, 2, 1, "", a.id, "A", 1),
    ]
    assert world.events[-1][5] == "deadlock"


def test_in_another_order_the_same_program_does_not_deadlock() -> None:
    world = World(Run(1), Run(2))
    a, b = world.thing(), world.thing()

    def one() -> None:
        with a.lock, b.lock:
            pass

    def two() -> None:
        with b.lock, a.lock:
            pass

    world.run(one, two)
    assert world.is_clean()


def test_who_is_kept_off_its_cpu_by_a_deadlocked_task_is_named_as_blocked_by_it() -> None:
    world = World(Run(1))
    thing = world.thing()

    def spin() -> None:
        thing.lock.lock()
        thing.lock.lock()

    world.run(spin, lambda: None, cpus=[0, 0], expect=DEADLOCK)
    assert [(event[1], event[5], event[6]) for event in world.of(ev.BLOCKED) if event[1] < 1000] == [
        (1, "thing->lock", 1),
        (2, "CPU 0", 1),
    ]


@pytest.mark.parametrize("most", [1, 7, 1_000])
def test_an_execution_stops_at_exactly_steps_max(most: int) -> None:
    world = World(strategy=LongGrants(0, most), steps_max=50)
    world.run(lambda: counting(world, 60), lambda: counting(world, 60), expect=STEPS_MAX)
    assert world.runtime.points == 50


def test_an_exception_in_a_task_comes_out_of_run_and_its_schedule_replays_to_it() -> None:
    first = fail_in_a_task(LongGrants(1, 3))
    assert fail_in_a_task(ReplayStrategy(first)) == first


def fail_in_a_task(strategy: Strategy) -> Schedule:
    runtime = ControlledRuntime(strategy)
    world = World(strategy=strategy, runtime=runtime)

    def fails() -> None:
        counting(world, 3)
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        world.run(lambda: counting(world, 9), fails)
    assert world.events[-1][5] == "interrupted"
    runtime.close()
    return runtime.schedule


def test_keyboard_interrupt_in_a_task_unwinds_all_and_comes_out_of_run() -> None:
    runtime = ControlledRuntime(LongGrants(1, 3))
    world = World(runtime=runtime)
    unwound: list[int] = []

    def body(number: int) -> None:
        try:
            counting(world, 9)
            if number == 2:
                raise KeyboardInterrupt
            counting(world, 99)
        finally:
            unwound.append(number)

    with pytest.raises(KeyboardInterrupt):
        world.run(lambda: body(1), lambda: body(2), lambda: body(3), cpus=[0, 1, 1])
    assert sorted(unwound) == [1, 2, 3]
    runtime.close()


def test_a_task_parked_inside_a_lock_is_unwound_and_the_next_execution_is_whole() -> None:
    runtime = ControlledRuntime(RandomStrategy(0))
    for expect in (DEADLOCK, DONE) * 3:
        left: list[int] = []
        world = World(runtime=runtime)
        body = partial(lock_and_leave, world, world.thing(), left, expect == DEADLOCK)
        world.run(body, body, expect=expect)
        assert left == [1, 1]
        assert all(task.context is None for task in runtime.tasks)
    runtime.close()


def lock_and_leave(world: World, thing: Thing, left: list[int], is_again: bool) -> None:
    try:
        with thing.mutex:
            counting(world, 1)
            if is_again:
                thing.mutex.lock()
    finally:
        left.append(1)


def test_a_draw_while_a_task_is_unwound_is_no_part_of_the_schedule() -> None:
    world = World(steps_max=5)

    def body() -> None:
        try:
            counting(world, 9)
        finally:
            assert world.runtime.draw(3) == 0

    world.run(body, expect=STEPS_MAX)
    assert isinstance(world.runtime, ControlledRuntime)
    assert world.runtime.schedule.draws == []


class FirstThenHighest(LongGrants):
    """The lowest id for two points, and from then on the highest for fifty."""

    def __init__(self, wants_wakeups: bool) -> None:
        super().__init__(0, 50, wants_wakeups=wants_wakeups)

    def decide(self, enabled: Sequence[Task], current: Task | None, why_stopped: int) -> tuple[Task, int]:
        self.reasons.append(why_stopped)
        return (enabled[0], 2) if len(self.reasons) == 1 else (enabled[-1], 50)


@pytest.mark.parametrize("wants_wakeups", [False, True])
def test_a_strategy_that_wants_it_is_asked_when_a_task_is_woken(wants_wakeups: bool) -> None:
    strategy = FirstThenHighest(wants_wakeups)
    world = World(strategy=strategy)
    thing = world.thing()
    order: list[int] = []

    def body(number: int) -> None:
        with thing.mutex:
            counting(world, 1)
        counting(world, 3)
        order.append(number)

    # Task 1 has the mutex, task 2 sleeps for it, and the unlock wakes it in the midst of a long grant.
    world.run(lambda: body(1), lambda: body(2))
    assert order == ([2, 1] if wants_wakeups else [1, 2])
    assert (WOKEN in strategy.reasons) == wants_wakeups


@pytest.mark.parametrize("wants_wakeups", [False, True])
def test_a_strategy_that_wants_it_is_asked_when_a_cpu_is_freed(wants_wakeups: bool) -> None:
    strategy = FirstThenHighest(wants_wakeups)
    world = World(strategy=strategy)
    thing = world.thing()
    order: list[int] = []

    def holder() -> None:
        with thing.lock:
            counting(world, 3)
        counting(world, 3)
        order.append(1)

    world.run(holder, lambda: order.append(2), cpus=[0, 0])
    assert order == ([2, 1] if wants_wakeups else [1, 2])
    assert (WOKEN in strategy.reasons) == wants_wakeups


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def test_thousands_of_executions_leave_a_runtime_clean_and_memory_flat(traced: None) -> None:
    random = Random(5)
    programs = [random_program(random) for _ in range(40)]
    strategy = RandomStrategy(1)
    runtime = ControlledRuntime(strategy)
    reasons: dict[str, int] = {}

    def execute(first: int, count: int) -> None:
        for number in range(first, first + count):
            strategy.begin(number)
            execution = Execution(runtime, programs[number % len(programs)], steps_max=60 if number % 7 == 0 else 2_000)
            reason = "bug" if execution.world.bugs() else execution.reason
            reasons[reason] = reasons.get(reason, 0) + 1
            assert all(task.context is None for task in runtime.tasks)

    def size() -> tuple[int, int, int]:
        runtime.reset()
        gc.collect()
        objects = gc.get_objects()
        return tracemalloc.get_traced_memory()[0], len(objects), sum(isinstance(one, greenlet) for one in objects)

    execute(0, 200)
    before = size()
    execute(200, 800)
    after = size()
    assert set(reasons) == {DONE, DEADLOCK, STEPS_MAX, "bug"}
    assert after[2] <= before[2] + 2
    assert after[1] - before[1] < 400
    assert after[0] - before[0] < 40_000
    runtime.close()


def test_greenlets_are_pooled_and_closed() -> None:
    def alive() -> int:
        gc.collect()
        return sum(isinstance(one, greenlet) and not one.dead for one in gc.get_objects())

    before = alive()
    strategy = RandomStrategy(1)
    runtime = ControlledRuntime(strategy)
    program = SmallProgram(tuple((cpu, ("flush", "list", "lock")) for cpu in range(3)))
    for number in range(50):
        strategy.begin(number)
        Execution(runtime, program)
    assert 3 <= alive() - before <= 3 + 3 + 2  # tasks, interrupts, kworker and RCU
    runtime.close()
    assert alive() == before


def test_an_old_execution_is_not_kept_alive_by_the_pool() -> None:
    runtime = ControlledRuntime(RandomStrategy(1))
    old = weakref.ref(
        Execution(runtime, SmallProgram(tuple((cpu, ("flush", "lock")) for cpu in range(3)))).world.machine
    )
    Execution(runtime, SmallProgram(((0, ("count",)),)))
    gc.collect()
    assert old() is None
    runtime.close()


def test_two_runs_of_one_execution_share_its_schedule() -> None:
    runtime = ControlledRuntime(RandomStrategy(1))
    world = World(runtime=runtime)
    world.spawn(lambda: counting(world, 2), 0)
    assert runtime.run() == DONE
    world.spawn(lambda: counting(world, 2), 0, id=900)
    assert runtime.run() == DONE
    assert runtime.schedule.choices == [(1, 3), (900, 3)]
    runtime.close()


def test_a_runtime_without_tasks_is_done_at_once() -> None:
    runtime = ControlledRuntime(RandomStrategy(1))
    World(runtime=runtime)
    assert runtime.run() == DONE
    runtime.close()
