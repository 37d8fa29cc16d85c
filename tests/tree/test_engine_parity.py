# SPDX-License-Identifier: GPL-2.0-only
"""The engine in C against ControlledRuntime and Machine: the same programs under the same strategies come to the same
choices, draws and events.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest

from stressvmap.journal import events
from stressvmap.kernel.locks import DEFINE_SPINLOCK
from stressvmap.kernel.machine import Machine
from stressvmap.program import Fault, Migration
from stressvmap.runtime.strategy import Strategy
from stressvmap.runtime.task import BugOn, Task
from stressvmap.sched.controlled import ControlledRuntime
from stressvmap.sched.pct import PctStrategy
from stressvmap.sched.random import RandomStrategy
from stressvmap.sched.sticky import StickyStrategy
from tests.tree.engine_driver import COMPILER, Engine, Job, build_libraries

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler: the engine of the tree backend is not tested")

CPUS = 3
STEPS_MAX = 25
INTERRUPT_TASK = 1000
DAEMON_TASK = 2000
CLEANUP_TASK = 900

OPERATIONS = (
    "points",
    "pinned_points",
    "irqs_off_points",
    "raise_irq",
    "wake_daemon",
    "draw_points",
    "move_to",
    "lock_twice",
    "may_fail",
    "sleep_for_ever",
    "take_lock_and_die",
)
WEIGHTS = (8, 8, 8, 8, 5, 4, 8, 10, 4, 1, 1)


class Twin:
    """tests/tree/programs/shim.c in Python, on the runtime that the engine is to be like."""

    def __init__(self, runtime: ControlledRuntime, job: Job) -> None:
        self.runtime = runtime
        runtime.reset()
        runtime.steps_max = STEPS_MAX
        self.machine = machine = Machine(runtime, range(CPUS), range(CPUS))
        self.lock = DEFINE_SPINLOCK(machine, "test_lock")
        self.handled = 0
        for cpu in range(CPUS):
            irq = Task(INTERRUPT_TASK + cpu, "irq", cpu, self._interrupt, is_daemon=True, is_interrupt=True)
            runtime.spawn(irq)
        runtime.spawn(Task(DAEMON_TASK, "kworker", 0, self._daemon, is_daemon=True))
        tasks = [Task(n, f"writer/{n}", cpu, partial(self._body, ops)) for n, (cpu, ops) in enumerate(job.tasks, 1)]
        for task in tasks:
            runtime.spawn(task)
        machine.inject(Fault(*fault) for fault in job.faults)
        machine.plan_migrations([Migration(task, point, cpu) for task, cpu, point in job.migrations], tasks)

    def run(self) -> str:
        reason = self.runtime.run()
        self.runtime.seal(reason)
        return reason

    def _body(self, ops: list[tuple[str, int]]) -> None:
        for case, n in ops:
            getattr(self, case)(n)

    def _interrupt(self) -> None:
        task = self.runtime.current
        self.runtime.pin(task)
        task.preempt_count += 1
        self.runtime.point(events.TLB_INVALIDATE, 0, "tlb")
        self.handled += 1
        self.machine.record(events.TLB_INVALIDATE, 0, "", self.handled)
        task.preempt_count -= 1
        self.runtime.unpin(task)

    def _daemon(self) -> None:
        self.machine.record(events.WORK_BEGIN, 0, "work", 0)
        self.points(2)
        self.machine.record(events.WORK_END, 0, "work", 0)

    def _wake(self, number: int) -> None:
        self.runtime.wake(next(task for task in self.runtime.tasks if task.id == number))

    def points(self, n: int) -> None:
        for _ in range(n):
            self.runtime.point(0, 0, "pause")

    def pinned_points(self, n: int) -> None:
        self.machine.preempt_disable()
        self.machine.record(events.PREEMPT, self.runtime.current.preempt_count, "", 0)
        self.points(n)
        self.machine.preempt_enable()
        self.machine.record(events.PREEMPT, self.runtime.current.preempt_count, "", 0)
        self.points(1)

    def irqs_off_points(self, n: int) -> None:
        self.machine.preempt_disable()
        cpu = self.runtime.current.cpu
        self.runtime.disable_irqs(cpu)
        self.points(n)
        self.runtime.enable_irqs(cpu)
        self.machine.preempt_enable()
        self.points(1)

    def raise_irq(self, cpu: int) -> None:
        self.runtime.point(events.IPI_SEND, 0, "ipi")
        self.machine.record(events.IPI_SEND, 0, "", cpu)
        self._wake(INTERRUPT_TASK + cpu)

    def wake_daemon(self, n: int) -> None:
        self.points(1)
        self.machine.record(events.WORK_QUEUE, 0, "work", 0)
        self._wake(DAEMON_TASK)

    def draw_points(self, n: int) -> None:
        self.points(self.runtime.draw(n))

    def move_to(self, cpu: int) -> None:
        self.machine.move(self.runtime.current, cpu)
        self.points(1)

    def lock_twice(self, n: int) -> None:
        with self.lock:
            self.points(n)
        with self.lock:
            pass

    def may_fail(self, n: int) -> None:
        for _ in range(n):
            self.machine.should_fail("kmalloc")

    def sleep_for_ever(self, n: int) -> None:
        task = self.runtime.current
        task.blocked_object, task.blocked_class, task.blocked_owner = 0, "nothing", 0
        self.runtime.park()

    def take_lock_and_die(self, n: int) -> None:
        self.lock.lock()
        self.machine.BUG_ON(True, "a task dies with its lock")
        raise BugOn("not reached")


@dataclass
class Outcome:
    reason: str
    choices: list[tuple[int, int]]
    draws: list[int]
    points: int
    told: list[tuple[str, int, int, str]]


def in_python(runtime: ControlledRuntime, job: Job, strategy: Strategy) -> Outcome:
    runtime.strategy = strategy
    twin = Twin(runtime, job)
    reason = twin.run()
    told = [(events.KIND_NAMES[e[0]], e[1], e[2], str(e[5])) for e in twin.machine.events if e[1] or e[0] != 15]
    schedule = runtime.schedule
    return Outcome(reason, list(schedule.choices), list(schedule.draws), runtime.points, told)


def in_c(engine: Engine, job: Job, strategy: Strategy) -> Outcome:
    reason = engine.run_under(job, strategy)
    told = [(e.name, e.task, e.cpu, "" if e.b == 0 else str(e.b)) for e in engine.journal() if e.task != CLEANUP_TASK]
    choices = [choice for choice in engine.choices() if choice[0] != CLEANUP_TASK]
    return Outcome(reason, choices, engine.draws(), engine.points(), told)


def random_job(seed: int) -> Job:
    numbers = random.Random(f"job/{seed}")
    tasks = []
    for _ in range(numbers.randrange(1, 5)):
        cases = numbers.choices(OPERATIONS, WEIGHTS, k=numbers.randrange(1, 6))
        ops = [(case, numbers.randrange(CPUS) if case != "draw_points" else 4) for case in cases]
        tasks.append((numbers.randrange(CPUS), ops))
    moves = {(numbers.randrange(1, 4), numbers.randrange(1, 20)): numbers.randrange(CPUS) for _ in range(3)}
    faults = [("kmalloc", numbers.randrange(1, 4), numbers.randrange(2))]
    return Job(tasks, [], faults, [(task, cpu, point) for (task, point), cpu in sorted(moves.items())])


STRATEGIES: dict[str, Callable[[int], Strategy]] = {
    "random": RandomStrategy,
    "sticky": StickyStrategy,
    "pct": PctStrategy,  # it wants to be asked at each wake-up
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    library = build_libraries(tmp_path_factory.getbasetemp() / "engine")["native"]
    return Engine(library, cpus=CPUS, steps_max=STEPS_MAX)


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_engine_decides_and_records_as_the_controlled_runtime_does(engine: Engine, name: str) -> None:
    runtime = ControlledRuntime(RandomStrategy(0))
    ends = set()
    kinds = set()
    for seed in range(250):
        job = random_job(seed)
        outcomes = []
        for run in (partial(in_python, runtime), partial(in_c, engine)):
            strategy = STRATEGIES[name](seed)
            strategy.begin(seed)
            outcomes.append(run(job, strategy))
        python, c = outcomes
        if python.reason == "done":  # the machine's audit is not part of this, nor C's clean-up
            python.told = [event for event in python.told if event[0] != "stopped"]
        assert c == python, f"job {seed}"
        ends.add(python.reason)
        kinds |= {event[0] for event in python.told}
    runtime.close()
    assert ends == {"done", "deadlock", "steps-max"}
    assert {
        "migrated",
        "alloc_failed",
        "lock_wait",
        "blocked",
        "runnable",
        "bug",
        "tlb_invalidate",
        "work_end",
    } <= kinds
