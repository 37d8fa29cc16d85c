# SPDX-License-Identifier: GPL-2.0-only
"""Random failures for the studies: versions that are known to break, run until they do, each failure saved. Versions of
the model, or kernel trees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stressvmap.checks.base import Violation
from stressvmap.runtime.runtime import STEPS_MAX
from stressvmap.scenario import Scenario
from stressvmap.sched.portfolio import make_strategy
from stressvmap.stress import subject
from stressvmap.stress.canary import CANARIES
from stressvmap.stress.execution import Executor
from stressvmap.stress.judge import Judge
from stressvmap.stress.replay import saved_from
from stressvmap.stress.schedule_file import SavedSchedule
from stressvmap.stress.workloads import draw
from stressvmap.tree.sources import PREFIX
from stressvmap.tree.version import PATCH, with_options

NO_FLUSH, NO_DIRTY_MAX = CANARIES


@dataclass(frozen=True, slots=True)
class Source:
    """Where failures come from."""

    version: str
    """As `--version` takes it."""
    scenario: Scenario

    def __str__(self) -> str:
        return f"{Path(self.version).name}, {self.scenario.workload}, {self.scenario.cpus} CPUs"


def tree_sources(trees: Mapping[str, str], patches: Path) -> tuple[Source, ...]:
    """Of trees 6.1 and 6.12 (by release, each as `tree:` takes it) what breaks as they are, and with a fix reverted."""
    told = []
    for release, revert, scenario in _TREES:
        text = f"{PREFIX}{trees[release]}"
        version = with_options(text, [(PATCH, str(patches / f"{revert}-on-{release}.patch"))] if revert else [])
        told.append(Source(version, scenario))
    return tuple(told)


def small(workload: str, cpus: int = 2, operations: int = 6) -> Scenario:
    """A scenario whose executions are short."""
    return Scenario(workload=workload, cpus=cpus, operations=operations, flushes=2)


SOURCES: Final = (
    Source("v6.4", small("fill-block")),
    Source("rfc-3of3", small("fill-block")),
    Source("v6.5", small("fill-block")),
    Source("v6.4", small("churn")),
    Source("v6.5", small("churn", 3, 12)),
    Source("rfc-3of3", small("pinned")),
    Source(NO_FLUSH, small("mixed")),
    Source(NO_DIRTY_MAX, small("cross-cpu", 3)),
)
"""Several versions, planted bugs, workloads and numbers of CPUs."""


_TREES: Final = (
    ("6.1", "", small("fill-block")),
    ("6.1", "", small("churn", 3, 12)),
    ("6.1", "", small("mixed", 3, 8)),
    ("6.1", "row-28", small("fill-block")),
    ("6.12", "row-36", small("fill-block")),
    ("6.12", "row-42", small("churn", 3, 12)),
    ("6.12", "row-44", small("fill-block")),
)
"""(release, fix that is reverted, scenario)."""


def failures(source: Source, *, strategy: str = "mixed", seed: int = 1) -> Iterator[list[SavedSchedule]]:
    """Execution by execution, without end: what each violated, a schedule for each fingerprint."""
    version = subject.load(source.version)
    executor = Executor(version, source.scenario)
    judge = Judge(source.scenario.limits)
    decides = make_strategy(strategy, seed)
    executor.calibrate(decides, [draw(source.scenario, seed, number) for number in range(decides.calibration)])
    execution = 0
    while True:
        program = draw(source.scenario, seed, execution)
        done = executor.run(program, decides, seed=seed, execution=execution)
        first: dict[str, Violation] = {}
        if done.reason != STEPS_MAX:
            for violation in judge.execution(done.journal).violations:
                first.setdefault(violation.fingerprint, violation)
        yield [
            saved_from(executor, program, done, one, version=source.version, seed=seed, strategy=decides.label)
            for one in first.values()
        ]
        execution += 1
