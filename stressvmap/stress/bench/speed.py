# SPDX-License-Identifier: GPL-2.0-only
"""What is measured of speed, and the marks it is held to."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from greenlet import GreenletExit, getcurrent, greenlet  # type: ignore[import-untyped]

from stressvmap.config import CONTROLLED, RunSpec
from stressvmap.kernel.locks import DEFINE_SPINLOCK, SpinLock
from stressvmap.kernel.machine import Machine
from stressvmap.program import Program
from stressvmap.runtime.runtime import Runtime
from stressvmap.runtime.strategy import Strategy
from stressvmap.runtime.task import Task
from stressvmap.scenario import Scenario
from stressvmap.sched.controlled import ControlledRuntime
from stressvmap.sched.portfolio import make_strategy
from stressvmap.sched.sequential import SequentialRuntime
from stressvmap.sched.threads import ThreadRuntime
from stressvmap.stress import harness
from stressvmap.stress.bench.baton import BatonRuntime, ping_pong
from stressvmap.stress.bench.ratio import AT_LEAST, AT_MOST, Mark, Ratio, compare, growth, on_one_cpu
from stressvmap.stress.judge import Judge
from stressvmap.stress.workloads import draw
from stressvmap.vmalloc import versions
from stressvmap.vmalloc.backend import ModelBackend

SEED: Final = 1
VERSION: Final = "v6.5"
EVERYBODY_BUSY: Final = Scenario(workload="fill-block")
"""4 CPUs, 10 operations each: nearly always several tasks are enabled, so a strategy has something to decide."""
PROGRAMS: Final = 40
"""Distinct programs of a measurement; drawing them is not part of it."""
FLAT: Final = 1.05
"""A cost that grows by no more than this factor, per tenfold or per doubling, is flat."""

Make = Callable[[], Runtime]
Clock = Callable[[], float]
WALL: Final = time.perf_counter


@dataclass(frozen=True, slots=True)
class Rate:
    """What a way to run the model does in a second."""

    executions: float
    operations: float
    points: float


def rate(
    make: Make, scenario: Scenario, *, seconds: float, judged: bool = False, clock: Clock = time.process_time
) -> Rate:
    """Run executions for `seconds` by `clock`: processor time, which a busy machine does not falsify, but for threads
    that are meant to run on several CPUs.
    """
    runtime = make()
    backend = ModelBackend(versions.load(VERSION), scenario, runtime)
    judge = Judge()
    programs = [draw(scenario, SEED, execution) for execution in range(PROGRAMS)]
    executions = operations = points = 0
    started = clock()
    while (elapsed := clock() - started) < seconds or executions == 0:
        _execute(backend, programs[executions % PROGRAMS], executions)
        if judged:
            judge.execution(backend.journal())
        executions += 1
        operations += backend.operations
        points += runtime.points
    runtime.close()
    return Rate(executions / elapsed, operations / elapsed, points / elapsed)


def _execute(backend: ModelBackend, program: Program, execution: int) -> None:
    runtime = backend.runtime
    if isinstance(runtime, ControlledRuntime):
        runtime.strategy.begin(execution)
    backend.reset(program)
    backend.run()


def controlled(strategy: str) -> Make:
    """A controlled runtime under that strategy."""
    return lambda: ControlledRuntime(make_strategy(strategy, SEED))


def baton(strategy: str) -> Make:
    """The same by threads."""
    return lambda: BatonRuntime(make_strategy(strategy, SEED))


def threads() -> Runtime:
    """The thread runtime."""
    return ThreadRuntime(SEED, Scenario().yield_rate)


RUNTIMES: Final[dict[str, Make]] = {
    "controlled, random": controlled("random"),
    "controlled, sticky": controlled("sticky"),
    "threads": threads,
    "sequential": SequentialRuntime,
}
"""By name: the ways to run the model whose absolute rates are printed."""


# -- against threads that pass a baton ----------------------------------------------------------------------


def baton_honesty(repeats: int, switches: int = 40_000) -> Ratio:
    """Switches a second of the baton scheduler, with tasks that only switch, to those of a bare ping-pong."""

    def scheduler() -> float:
        done, seconds = empty_points(BatonRuntime(_Alternate()), 2, switches // 2)
        return done / seconds

    with on_one_cpu():
        return compare(
            "baton scheduler / bare two-lock ping-pong, switches a second",
            scheduler,
            lambda: ping_pong(switches),
            repeats,
            Mark(AT_LEAST, 0.6),
        )


class _Alternate(Strategy):
    """The first task and the last, a point each: no time is spent on choosing, and each point is a switch."""

    def begin(self, execution: int) -> None:
        """Nothing to prepare."""

    def decide(self, enabled: Sequence[Task], current: Task | None, why_stopped: int) -> tuple[Task, int]:
        """Whichever of the two is not running."""
        return (enabled[-1] if current is enabled[0] else enabled[0]), 1


def empty_points(runtime: ControlledRuntime, tasks: int, points: int) -> tuple[int, float]:
    """One execution of tasks that announce `points` points each and do nothing: switches, and seconds."""

    def body() -> None:
        for _ in range(points):
            runtime.point(0, 0, "")

    runtime.strategy.begin(0)
    runtime.reset()
    for number in range(1, tasks + 1):
        runtime.spawn(Task(number, "", number, body))
    started = time.process_time()
    runtime.run()
    seconds = time.process_time() - started
    runtime.close()
    return len(runtime.schedule.choices), seconds


def against_baton(strategy: str, scenario: Scenario, where: str, mark: float, repeats: int, seconds: float) -> Ratio:
    """Points a second, the model included, by greenlets to by threads; both on one CPU, where threads are best, and in
    processor time, which is all there is then.
    """
    with on_one_cpu():
        return compare(
            f"{strategy}: greenlets / pooled thread baton, {where}",
            lambda: rate(controlled(strategy), scenario, seconds=seconds).points,
            lambda: rate(baton(strategy), scenario, seconds=seconds).points,
            repeats,
            Mark(AT_LEAST, mark),
        )


# -- the floor ----------------------------------------------------------------------------------------------


def floor(strategy: str, repeats: int, executions: int = 30, tasks: int = 4, pairs: int = 50) -> Ratio:
    """Schedules a second of the empty program, `pairs` times lock and unlock of a lock of its own by each task,
    journal included, to a bare ring of greenlets that switch as often as this program has points.
    """
    return compare(
        f"empty lock/unlock program under {strategy} / bare greenlet switches, schedules a second",
        lambda: executions / empty_program(strategy, tasks, pairs, executions),
        lambda: executions / ring(tasks, executions * tasks * pairs * 2),
        repeats,
        Mark(AT_LEAST, 0.4),
    )


def empty_program(strategy: str, tasks: int, pairs: int, executions: int) -> float:
    """Seconds that so many executions take of tasks, each on a CPU of its own, that lock and unlock `pairs` times."""
    runtime = ControlledRuntime(make_strategy(strategy, SEED))
    started = time.process_time()
    for execution in range(executions):
        runtime.strategy.begin(execution)
        runtime.reset()
        machine = Machine(runtime, range(tasks), range(tasks))
        for cpu in range(tasks):
            body = partial(_lock_and_unlock, DEFINE_SPINLOCK(machine, ""), pairs)
            runtime.spawn(Task(cpu + 1, "", cpu, body))
        runtime.run()
    seconds = time.process_time() - started
    assert runtime.points == tasks * pairs * 2
    runtime.close()
    return seconds


def _lock_and_unlock(lock: SpinLock, pairs: int) -> None:
    for _ in range(pairs):
        with lock:
            pass


def ring(size: int, switches: int) -> float:
    """Seconds that so many switches take among `size` greenlets that do nothing but switch to the next."""
    members: list[greenlet] = []
    hub = getcurrent()
    rounds = switches // size

    def body(number: int) -> None:
        following = members[(number + 1) % size].switch
        for _ in range(rounds):
            following()
        hub.switch()

    members.extend(greenlet(partial(body, number)) for number in range(size))
    started = time.process_time()
    members[0].switch()
    seconds = time.process_time() - started
    for member in members:
        member.throw(GreenletExit)
    return seconds


# -- whether a point costs the same everywhere --------------------------------------------------------------


def by_length(lengths: Sequence[int], repeats: int) -> Ratio:
    """Cost of a point in executions of ever more points, journal included; each length is measured over the same
    number of points.
    """

    def cost(points: int) -> float:
        # About 17 points an operation: more than enough of them, and the execution is cut at `points`.
        scenario = Scenario(operations=points // 40, flushes=points // 400, steps_max=points)
        return point_cost(scenario, programs=max(1, min(20, max(lengths) // points)))

    return growth("cost of a point by length of the run, per tenfold", lengths, cost, repeats, 10, FLAT)


def by_cpus(cpus: Sequence[int], repeats: int) -> Ratio:
    """Cost of a point on machines of ever more CPUs, a task on each. Of the empty program, since of any other more CPUs
    make another one (more interrupts, more waiting); under sticky, since the random walk switches more often the more
    tasks there are.
    """

    def cost(count: int) -> float:
        pairs = 6_400 // count
        return empty_program("sticky", count, pairs, 2) / (count * pairs)

    return growth("cost of a point by number of CPUs, per doubling", cpus, cost, repeats, 2, FLAT)


def point_cost(scenario: Scenario, programs: int) -> float:
    """Seconds a point, of running alone: programs are drawn and machines built before."""
    runtime = ControlledRuntime(make_strategy("random", SEED))
    backend = ModelBackend(versions.load(VERSION), scenario, runtime)
    points = 0
    seconds = 0.0
    for execution in range(programs):
        runtime.strategy.begin(execution)
        backend.reset(draw(scenario, SEED, execution))
        started = time.process_time()
        backend.run()
        seconds += time.process_time() - started
        points += runtime.points
    runtime.close()
    return seconds / points


# -- checks, processes --------------------------------------------------------------------------------------


def cost_of_checks(strategy: str, repeats: int, seconds: float) -> Ratio:
    """Points a second without checks to with all of them."""
    return compare(
        f"{strategy}: checks off / all checks on, points a second",
        lambda: rate(controlled(strategy), Scenario(), seconds=seconds).points,
        lambda: rate(controlled(strategy), Scenario(), seconds=seconds, judged=True).points,
        repeats,
        Mark(AT_MOST, 3.0),
    )


def against_threads(repeats: int, seconds: float) -> Ratio:
    """Points a second of the controlled runtime to those of the thread runtime, which has all CPUs."""
    return compare(
        "controlled (random) / threads, points a second",
        lambda: rate(controlled("random"), Scenario(), seconds=seconds, clock=WALL).points,
        lambda: rate(threads, Scenario(), seconds=seconds, clock=WALL).points,
        repeats,
    )


def against_sequential(repeats: int, seconds: float) -> Ratio:
    """How far the controlled runtime is from no scheduler at all: other interleavings, so other work, all the same."""
    return compare(
        "sequential / controlled (random), points a second",
        lambda: rate(SequentialRuntime, Scenario(), seconds=seconds).points,
        lambda: rate(controlled("random"), Scenario(), seconds=seconds).points,
        repeats,
    )


def jobs(
    repeats: int, seconds: float, version: str = VERSION, strategy: str = "random", scenario: Scenario | None = None
) -> Ratio:
    """What a second process adds to a run, to what it adds to a busy loop: schedules a second of `--jobs 2` by those
    of one, over loops a second of two processes by those of one. The workers' start is not counted.
    """
    spec = RunSpec(
        version=version,
        scenario=scenario or Scenario(),
        runtime=CONTROLLED,
        strategy=strategy,
        seconds=seconds,
        seed=SEED,
    )
    return compare(
        "--jobs 2 / --jobs 1, over two busy loops / one",
        lambda: schedules_a_second(2, spec) / schedules_a_second(1, spec),
        lambda: loops_a_second(2, seconds) / loops_a_second(1, seconds),
        repeats,
        Mark(AT_LEAST, 0.9),
    )


def schedules_a_second(processes: int, spec: RunSpec) -> float:
    """Of a judged run by so many worker processes, each for its seconds from when it is ready."""
    assert spec.seconds is not None
    return harness.run(spec, jobs=processes).schedules / spec.seconds


def loops_a_second(processes: int, seconds: float) -> float:
    """Of so many processes that count, each for `seconds` from when it is ready."""
    command = [sys.executable, "-c", _BUSY, str(seconds)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    return sum(int(process.communicate()[0]) for process in running) / seconds


_BUSY: Final = """
import sys, time
end = time.perf_counter() + float(sys.argv[1])
loops = 0
while time.perf_counter() < end:
    for _ in range(1000):
        pass
    loops += 1
print(loops)
"""
