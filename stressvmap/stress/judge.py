# SPDX-License-Identifier: GPL-2.0-only
"""The checks of one run, kept from execution to execution: what a journal violates, and the metrics they add up to."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from stressvmap.checks.base import Check, Verdict, run_checks
from stressvmap.checks.lock_times import LockTimes
from stressvmap.checks.registry import all_checks
from stressvmap.checks.state import State
from stressvmap.checks.windows import Windows
from stressvmap.journal.journal import Journal


class Judge:
    """Feeds journals to the checks. Holds what metrics and windows add up to, and nothing of a journal once it is
    judged.
    """

    def __init__(self, limits: Mapping[str, float] | None = None, only: Collection[str] = ()) -> None:
        self.state = State()
        self.windows = Windows()
        self.lock_times = LockTimes()
        self.checks: list[Check] = all_checks(self.state, limits, only)

    def execution(self, journal: Journal) -> Verdict:
        """Judge one execution."""
        return run_checks(journal, self.state, self.checks, [self.windows, self.lock_times])

    def metrics(self) -> dict[str, int]:
        """Sums, and maxima where the name says so, over all executions judged so far; `lock_times.figures` makes of
        them what a result tells.
        """
        return {**self.state.metrics(), **self.lock_times.metrics()}

    def window_counts(self) -> dict[str, list[int]]:
        """By window: [times it was open, times a foreign step fell into it]."""
        return {name: [count.instances, count.interrupted] for name, count in self.windows.counts.items()}


def judge(
    journal: Journal, only: Collection[str] = (), limits: Mapping[str, float] | None = None
) -> tuple[Verdict, Judge]:
    """Judge one recorded journal; the Judge holds its metrics."""
    one = Judge(limits, only)
    return one.execution(journal), one
