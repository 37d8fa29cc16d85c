# SPDX-License-Identifier: GPL-2.0-only
"""livelock on model code: the drain of a poisoned counter, and runs that only look like it."""

from __future__ import annotations

from collections.abc import Sequence

from stressvmap.program import Program, TaskProgram
from stressvmap.runtime.runtime import STEPS_MAX
from stressvmap.runtime.strategy import Strategy
from stressvmap.runtime.task import Task
from stressvmap.sched.controlled import ControlledRuntime
from stressvmap.sched.random import RandomStrategy
from stressvmap.vmalloc.v6_4 import V6_4
from tests.model.mutants import PoisonsCounter
from tests.model.world import ALIASES, KWORKER, Outcome, execute, map_, on, scenario, unmap

LIVELOCK = "livelock"
PROGRAM = (on(0, map_(0, 2), unmap(0), ALIASES), on(1, *(map_(1, 1), unmap(1)) * 20))


class Favours(Strategy):
    """One task runs whenever it can, and of the others the lowest: as unlucky as a schedule may be."""

    def __init__(self, task: int) -> None:
        self.task = task

    def begin(self, execution: int) -> None:
        pass

    def decide(self, enabled: Sequence[Task], current: Task | None, why_stopped: int) -> tuple[Task, int]:
        return next((task for task in enabled if task.id == self.task), enabled[0]), 1

    def draw(self, n: int) -> int:
        return 0


def cut(version: type[V6_4], strategy: Strategy, *program: TaskProgram, steps_max: int = 6000) -> Outcome:
    strategy.begin(0)
    runtime = ControlledRuntime(strategy)
    outcome = execute(version, runtime, Program(program), scenario(window_blocks=2, steps_max=steps_max))
    runtime.close()
    return outcome


def test_a_drain_that_finds_nothing_and_never_ends() -> None:
    """Row 31: do { } while (vmap_lazy_nr > lazy_max) with nothing on the list."""
    outcome = cut(PoisonsCounter, RandomStrategy(1), *PROGRAM)
    assert outcome.reason == STEPS_MAX
    found = outcome.only(LIVELOCK)
    assert found.mechanism.text() == (
        "livelock | kworker/u | running tasks | no operation completes under a fair schedule "
        "| holding purge_vmap_area_lock, vmap_purge_lock"
    )
    assert "in __purge_vmap_area_lazy and drain_vmap_area_work" in found.message


def test_the_same_drain_is_not_reported_if_a_task_that_could_go_on_was_starved() -> None:
    outcome = cut(PoisonsCounter, Favours(KWORKER), *PROGRAM)
    assert outcome.reason == STEPS_MAX
    assert outcome.of(LIVELOCK) == []


def test_a_run_that_is_merely_cut_while_it_gets_on_is_none() -> None:
    outcome = cut(V6_4, RandomStrategy(1), *(on(cpu, *(map_(cpu, 1), unmap(cpu)) * 400) for cpu in (0, 1)))
    assert outcome.reason == STEPS_MAX
    assert outcome.of(LIVELOCK) == []
