# SPDX-License-Identifier: GPL-2.0-only
"""Asking a strategy by hand: tasks that announce what a test says, without a runtime; and small programs to run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stressvmap.runtime.runtime import Runtime
from stressvmap.runtime.strategy import COUNT_OVER, START, Schedule, Strategy
from stressvmap.runtime.task import Task
from stressvmap.sched.controlled import ControlledRuntime
from stressvmap.sched.dependence import NOTHING, Operation


def task(id: int, pending: Operation = NOTHING) -> Task:
    """A task that is about to do `pending`."""
    made = Task(id, f"task/{id}", 0, lambda: None)
    made.pending_kind, made.pending_object, made.pending_field = pending
    return made


def tasks(count: int) -> list[Task]:
    return [task(id) for id in range(1, count + 1)]


def grants(strategy: Strategy, enabled: Sequence[Task], points: int) -> list[tuple[int, int]]:
    """The (task id, points) that it grants to tasks which never block, until `points` are used up."""
    answers = []
    current: Task | None = None
    strategy.points = 0
    while strategy.points < points:
        chosen, count = strategy.decide(enabled, current, START if current is None else COUNT_OVER)
        assert chosen in enabled
        assert count >= 1
        answers.append((chosen.id, count))
        strategy.points += count
        chosen.points += count
        current = chosen
    return answers


def run(strategy: Strategy, execution: int, *bodies: Callable[[Runtime], None], steps_max: int = 5_000) -> Schedule:
    """Run `bodies` as tasks 1.. as one execution, its trial first if it wants one; what was decided."""
    runtime = ControlledRuntime(strategy)
    strategy.begin(execution)
    trial = strategy.trial()
    for each in (strategy,) if trial is None else (trial, strategy):
        runtime.reset()
        runtime.strategy = each
        runtime.steps_max = steps_max
        if each is trial:
            each.begin(execution)
        for number, body in enumerate(bodies, 1):
            runtime.spawn(Task(number, f"task/{number}", number, _bound(body, runtime)))
        runtime.run()
    runtime.close()
    return runtime.schedule


def _bound(body: Callable[[Runtime], None], runtime: Runtime) -> Callable[[], None]:
    return lambda: body(runtime)
