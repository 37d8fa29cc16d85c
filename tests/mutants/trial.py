# SPDX-License-Identifier: GPL-2.0-only
"""Whether anything notices a mutant: the checks, over many small executions; then a caller, over single calls.

A check notices if it fires with a fingerprint that the unchanged version neither declares nor shows in the very same
executions. A caller notices if single calls do something else than on the unchanged version. A Python exception is
neither.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from stressvmap.journal.journal import Journal
from stressvmap.program import Program
from stressvmap.runtime.runtime import STEPS_MAX
from stressvmap.scenario import Scenario
from stressvmap.sched.portfolio import make_strategy
from stressvmap.stress.execution import Execution, Executor
from stressvmap.stress.judge import Judge
from stressvmap.stress.workloads import draw
from stressvmap.vmalloc.base import Vmalloc
from tests.mutants import single_calls
from tests.mutants.single_calls import RELIED_ON, Calls, Seen

KILLED: Final = "killed"
SURVIVED: Final = "survived"
BROKEN: Final = "broken"
BEHAVIOUR: Final = "behaviour"

DEFAULT_STRATEGY: Final = "random,sticky,switch-points,pct:3"
"""Execution by execution the next; their number has no divisor in common with that of SCENARIOS."""

_SMALL: Final = Scenario(
    cpus=2,
    operations=6,
    slots=3,
    flushes=2,
    window_blocks=6,
    lazy_max=8,
    vmalloc_rate=0.1,
    large_rate=0.1,
    fault_rate=0.0,
    steps_max=12_000,
)
SCENARIOS: Final = (
    _SMALL,
    replace(_SMALL, workload="fill-block", operations=5),
    replace(_SMALL, vmalloc_rate=0.5, reset_rate=0.7, fault_rate=0.1, operations=5),
    replace(_SMALL, workload="cross-cpu", operations=8, migration_rate=0.1),
    replace(_SMALL, window_blocks=2, lazy_max=64, large_rate=0.3, aliases_rate=0.1, fault_rate=0.03),
    replace(_SMALL, cpus=1, tasks_per_cpu=3, operations=5, large_rate=0.3),
    replace(_SMALL, cpus=3, possible=(0, 2, 5), operations=4, aliases_rate=0.2, vmalloc_rate=0.2, reset_rate=0.5),
    replace(_SMALL, workload="pinned", operations=8, flushers=2, large_rate=0.0),
    replace(_SMALL, workload="churn", operations=10, large_rate=0.5, lazy_max=2, window_blocks=4, fault_rate=0.05),
    replace(_SMALL, cpus=3, offline=(1,), hotplug_rate=0.1, operations=5, aliases_rate=0.2),
    replace(_SMALL, window_blocks=3, flushers=0, operations=10, cross_rate=0.6, slots=2, fault_rate=0.05),
    replace(_SMALL, block_bits=4, max_alloc=2, window_blocks=12, operations=8, flushers=2, vmalloc_rate=0.0),
    replace(_SMALL, block_bits=4, max_alloc=2, window_blocks=12, operations=10, slots=2, workload="churn", flushes=4),
)
"""What a mutant is run under, one after the other and round again."""


FIRST_EXECUTIONS: Final = 66
"""So many come before the single calls, for they are cheaper and kill most."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a mutant."""

    outcome: str
    """KILLED, SURVIVED, or BROKEN: it raised a Python exception, and nothing else noticed it."""
    by: str = ""
    """The name of a check, or BEHAVIOUR."""
    why: str = ""
    """The mechanism that the check told; what a caller relies on; or the exception."""
    executions: int = 0
    """Concurrent executions that were judged, to the kill or in vain."""


@dataclass(slots=True)
class _Seen:
    """What became apparent while no check fired."""

    noticed: str = ""
    """What a caller relies on that is not so."""
    error: str = ""
    """The first Python exception."""

    def notice(self, relied_on: str) -> None:
        """Keep what weighs most."""
        if relied_on and (not self.noticed or RELIED_ON.index(relied_on) < RELIED_ON.index(self.noticed)):
            self.noticed = relied_on


class Trial:
    """Tries mutants of one version. What is drawn, and what the unchanged version does, is made once.

    Not deterministic in its cost, but in its outcome: execution i is the same for each mutant and each time.
    """

    def __init__(
        self, version: type[Vmalloc], executions: int, strategy: str = DEFAULT_STRATEGY, seed: int = 1
    ) -> None:
        self.seed = seed
        self.strategy = make_strategy(strategy, seed)
        self.judge = Judge()
        self.judge_alone = Judge(limits={"double-count": 0})
        """One call after the other, the patches' own promise can be held against them: no block counted twice."""
        known = {known.fingerprint for known in version.known}
        self.allowed_alone, self.allowed = set(known), set(known)
        self.programs: list[Program] = [
            draw(SCENARIOS[number % len(SCENARIOS)], seed, number) for number in range(executions)
        ]
        self._executors = [Executor(version, scenario) for scenario in SCENARIOS]
        self._executors[0].calibrate(self.strategy, self.programs[:: len(SCENARIOS)])
        self.singles: list[tuple[Calls, Seen]] = []
        for calls in single_calls.programs():
            try:
                seen = single_calls.run(version, calls)
            except AttributeError:  # a version without one of the functions that are called directly
                continue
            self.singles.append((calls, seen))
            if not calls.is_misuse:
                self.allowed_alone |= _fingerprints(self.judge_alone, seen.journal)
        for number in range(executions):
            self.allowed |= _fingerprints(self.judge, self._execute(version, number).journal)

    def run(self, mutant: type[Vmalloc]) -> Outcome:
        """What notices `mutant`: a check, else a caller, else nothing."""
        total = len(self.programs)
        first = min(FIRST_EXECUTIONS, total)
        seen = _Seen()
        killed = self._concurrently(mutant, range(first), seen) or self._alone(mutant, seen)
        if killed is None:
            # Where a caller has noticed, the checks get less time to be the ones who say it.
            last = min(2 * first, total) if seen.noticed else total
            killed = self._concurrently(mutant, range(first, last), seen)
            first = last
        if killed is not None:
            return killed
        if seen.noticed:
            return Outcome(KILLED, BEHAVIOUR, seen.noticed, first)
        return Outcome(BROKEN if seen.error else SURVIVED, "", seen.error, first)

    def _alone(self, mutant: type[Vmalloc], seen: _Seen) -> Outcome | None:
        """One call after the other, until a caller has noticed what weighs most."""
        for calls, expected in self.singles:
            try:
                done = single_calls.run(mutant, calls)
            except Exception as raised:
                seen.error = seen.error or f"{type(raised).__name__}: {raised}"
                continue
            told = None if calls.is_misuse else _fires(self.judge_alone, done.journal, self.allowed_alone)
            if told is not None:
                return Outcome(KILLED, *told)
            seen.notice(single_calls.difference(expected, done))
            if seen.noticed in RELIED_ON[:2]:
                break
        return None

    def _concurrently(self, mutant: type[Vmalloc], numbers: range, seen: _Seen) -> Outcome | None:
        """Executions of those numbers."""
        for number in numbers:
            try:
                done = self._execute(mutant, number)
            except Exception as raised:
                seen.error = seen.error or f"{type(raised).__name__}: {raised}"
                continue
            told = _fires(self.judge, done.journal, self.allowed)
            if told is not None:
                return Outcome(KILLED, *told, number + 1)
            if done.reason == STEPS_MAX:
                seen.notice("calls return")
        return None

    def close(self) -> None:
        """Give the runtimes' greenlets back."""
        for executor in self._executors:
            executor.close()

    def _execute(self, version: type[Vmalloc], number: int) -> Execution:
        scenario = number % len(SCENARIOS)
        executor = self._executors[scenario]
        executor.backend.version = version
        return executor.run(self.programs[number], self.strategy, seed=self.seed, execution=number)


def _fingerprints(judge: Judge, journal: Journal) -> set[str]:
    return {violation.fingerprint for violation in judge.execution(journal).violations}


def _fires(judge: Judge, journal: Journal, allowed: set[str]) -> tuple[str, str] | None:
    for violation in judge.execution(journal).violations:
        if violation.fingerprint not in allowed:
            return violation.check, violation.mechanism.text()
    return None
