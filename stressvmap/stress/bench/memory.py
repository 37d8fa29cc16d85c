# SPDX-License-Identifier: GPL-2.0-only
"""Whether memory grows with the number of executions: many of them in one process, ending in every way there is; and
with the length of one.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from greenlet import greenlet  # type: ignore[import-untyped]

from stressvmap.checks.coverage import Tracer
from stressvmap.program import ProgramOp
from stressvmap.runtime.task import Task
from stressvmap.scenario import Scenario
from stressvmap.sched.controlled import ControlledRuntime
from stressvmap.sched.portfolio import make_strategy
from stressvmap.sched.random import RandomStrategy
from stressvmap.stress.execution import Executor
from stressvmap.stress.judge import Judge
from stressvmap.stress.workloads import draw
from stressvmap.vmalloc import versions
from stressvmap.vmalloc.backend import ModelBackend

SEED: Final = 1
TINY: Final = Scenario(cpus=2, operations=2, flushes=1)
SHARES: Final = (0.1, 0.25, 0.5, 0.75, 1.0)
"""At which parts of the run memory is read."""

WHOLE: Final = "whole"
STEPS: Final = "steps-max"
DEADLOCKED: Final = "deadlock"
BUGGED: Final = "BUG_ON"
RAISED: Final = "a task raises"
INTERRUPTED: Final = "Ctrl-C in a task"
STRATEGY_RAISED: Final = "the strategy raises"
STRATEGY_INTERRUPTED: Final = "Ctrl-C in the strategy"
ENDINGS: Final = (
    WHOLE,
    STEPS,
    DEADLOCKED,
    BUGGED,
    RAISED,
    INTERRUPTED,
    STRATEGY_RAISED,
    STRATEGY_INTERRUPTED,
)
"""The ways an execution can end."""


class Broken(Exception):
    """What a broken task or strategy raises here."""


class EndingBackend(ModelBackend):
    """Runs programs of which the `at`-th operation to begin ends the execution in the manner of `ending`."""

    ending = WHOLE
    at = 0
    _begun = 0

    def execute(self, execution: int, ending: str, at: int) -> str:
        """Run execution number `execution` of SEED, ended like that: why it stopped, or the name of what it raised."""
        runtime = self.runtime
        assert isinstance(runtime, ControlledRuntime)
        self.ending, self.at, self._begun = ending, at, 0
        strategy = runtime.strategy
        strategy.begin(execution)
        if isinstance(strategy, EndingStrategy):
            strategy.ending, strategy.left = ending, 10 * at + 1
        scenario = self.scenario
        if ending == STEPS:
            self.scenario = replace(scenario, steps_max=100 + at)
        self.reset(draw(scenario, SEED, execution))
        try:
            return self.run()
        except (Broken, KeyboardInterrupt) as error:
            return type(error).__name__
        finally:
            self.scenario = scenario

    def perform(self, op: ProgramOp) -> bool:
        """Carry out `op`, or end it all."""
        self._begun += 1
        if self._begun == self.at + 1:
            if self.ending in (DEADLOCKED, BUGGED):
                self.vmalloc.vmap_purge_lock.lock()
                self.machine.BUG_ON(self.ending == BUGGED, "meant to be")
                self.vmalloc.vmap_purge_lock.lock()
            if self.ending == RAISED:
                raise Broken
            if self.ending == INTERRUPTED:
                raise KeyboardInterrupt
        return super().perform(op)


class EndingStrategy(RandomStrategy):
    """The random walk, which raises at its `left`-th decision if the ending is that."""

    ending = WHOLE
    left = 0

    def decide(self, enabled: Sequence[Task], current: Task | None, why_stopped: int) -> tuple[Task, int]:
        """Any enabled task, for one point."""
        self.left -= 1
        if self.left == 0:
            if self.ending == STRATEGY_RAISED:
                raise Broken
            if self.ending == STRATEGY_INTERRUPTED:
                raise KeyboardInterrupt
        return super().decide(enabled, current, why_stopped)


@dataclass(frozen=True, slots=True)
class Footprint:
    """What the process held after so many executions."""

    executions: int
    resident_kib: int
    objects: int
    """Objects the garbage collector knows."""
    greenlets: int

    def as_dict(self) -> dict[str, int]:
        """For JSON."""
        return {
            "executions": self.executions,
            "resident_kib": self.resident_kib,
            "objects": self.objects,
            "greenlets": self.greenlets,
        }


def footprints(executions: int, *, endings: Sequence[str] = ENDINGS, scenario: Scenario = TINY) -> list[Footprint]:
    """Run so many executions in this process, ending by turns in each of `endings`; those that came to an end of
    their own are judged, all by one Judge. What is held is read at SHARES of the run.
    """
    runtime = ControlledRuntime(EndingStrategy(SEED))
    backend = EndingBackend(versions.load("v6.5"), scenario, runtime)
    judge = Judge()
    marks = {max(1, round(share * executions)) for share in SHARES}
    found: list[Footprint] = []
    for execution in range(executions):
        ending = endings[execution % len(endings)]
        backend.execute(execution, ending, execution % 4)
        if ending in (WHOLE, STEPS, DEADLOCKED, BUGGED):
            judge.execution(backend.journal())
        if execution + 1 in marks:
            found.append(_footprint(execution + 1))
    runtime.close()
    return found


@dataclass(frozen=True, slots=True)
class LongExecution:
    """What one execution came to, and by how many KiB this process had grown after each part of the work (less than
    that takes, if it had memory to spare).
    """

    points: int
    events: int
    switches: int
    """Choices of its schedule."""
    drawn_kib: int
    run_kib: int
    judged_kib: int
    counted_kib: int
    """With its footprint taken for the coverage: all that `stress` does with an execution."""


def one_long_execution(points: int, strategy: str = "random") -> LongExecution:
    """Draw a program of about `points` points, run, judge and count it, as `stress` does."""
    scenario = Scenario(operations=points // 40, flushes=points // 400, steps_max=points)
    executor = Executor(versions.load("v6.5"), scenario)
    judge, tracer, decides = Judge(), Tracer(), make_strategy(strategy, SEED)
    executor.calibrate(decides, [draw(replace(scenario, operations=20, flushes=2), SEED, n) for n in range(20)])
    before = resident_kib()
    program = draw(scenario, SEED, 0)
    drawn = resident_kib()
    done = executor.run(program, decides)
    ran = resident_kib()
    judge.execution(done.journal)
    judged = resident_kib()
    tracer.footprint(done.journal.events)
    counted = resident_kib()
    executor.close()
    grown = (drawn - before, ran - before, judged - before, counted - before)
    return LongExecution(done.points, len(done.journal.events), len(done.schedule.choices), *grown)


def resident_kib() -> int:
    """Resident set of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def _footprint(executions: int) -> Footprint:
    gc.collect()
    objects = gc.get_objects()
    greenlets = sum(isinstance(one, greenlet) and not one.dead for one in objects)
    return Footprint(executions, resident_kib(), len(objects), greenlets)
