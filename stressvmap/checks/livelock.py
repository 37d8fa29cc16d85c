# SPDX-License-Identifier: GPL-2.0-only
"""livelock: everybody runs, and nobody gets anywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from stressvmap.checks.base import Handler, Mechanism
from stressvmap.checks.state import State
from stressvmap.checks.story import StateCheck
from stressvmap.journal.events import (
    API_BEGIN,
    API_END,
    BLOCKED,
    FLUSH_BEGIN,
    FLUSH_END,
    LOCK,
    LOCK_WAIT,
    RUNNABLE,
    STOPPED,
    WORK_BEGIN,
    Event,
)
from stressvmap.journal.journal import Journal
from stressvmap.journal.place import name_of

STEPS_PER_PAGE: Final = 100
"""More than a call spends on a page of the window: on the smallest block of 4 pages, walked, purged and freed, about
100; on an area of one page and its guard, about 30.
"""
FAIR_SHARE: Final = 8
"""A schedule is fair if each task that could run had a step in each of so many parts of the stretch looked at."""
NO_PROGRESS: Final = "no operation completes under a fair schedule"


class Livelock(StateCheck):
    """Under a fair schedule some task completes an operation in every stretch of L steps.

    A call goes over each block and area of the window a bounded number of times, and the unfinished tasks share the
    steps: L is STEPS_PER_PAGE * (pages of the window + CPUs) * unfinished tasks, in events. Looked at is only an
    execution that was given up at its bound, and only its last L events: one that came to its end was no livelock,
    however long it took, and in one that is shorter than L nothing can be told.

    Fairness is measured: whoever is RUNNABLE at the end had a step in each eighth of the stretch, or began it by
    waiting (for a lock, for the answers to a flush). If one did not, the schedule may be to blame, and the check is
    silent. A task that pauses between calls leaves no events, and so counts as one that was not let run.

    State: the tasks that were unfinished at the end.
    """

    NAME = "livelock"
    NEEDS = frozenset({API_BEGIN, API_END, STOPPED, RUNNABLE, LOCK_WAIT})

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._runnable: list[int] = []
        self._unfinished: set[int] = set()
        self._end = 0
        """Number of the first event that tells of an unfinished task."""

    def begin(self, journal: Journal) -> None:
        super().begin(journal)
        self._runnable = []
        self._unfinished = set()

    def handlers(self) -> dict[int, Handler]:
        return {RUNNABLE: self.on_runnable, BLOCKED: self.on_blocked, STOPPED: self.on_stopped}

    def on_runnable(self, number: int, event: Event) -> None:
        self.on_blocked(number, event)
        self._runnable.append(event[1])

    def on_blocked(self, number: int, event: Event) -> None:
        if not self._unfinished:
            self._end = number
        self._unfinished.add(event[1])

    def on_stopped(self, number: int, event: Event) -> None:
        state = self.state
        if event[5] != "steps-max" or not self._runnable:
            return
        window_pages = state.window.end - state.window.start
        cpus = len(state.journal.header.get("possible") or (0,))
        length = STEPS_PER_PAGE * (window_pages + cpus) * len(self._unfinished)
        start = self._end - length
        if start < 0:
            return
        stretch = state.journal.events[start : self._end]
        if any(step[0] == API_END for step in stretch) or not self._is_fair(stretch):
            return
        self._report(number, start, stretch)

    def _is_fair(self, stretch: Sequence[Event]) -> bool:
        waiting: set[int] = set()
        part_length = len(stretch) // FAIR_SHARE
        for part in range(FAIR_SHARE):
            ran = set(waiting)
            for event in stretch[part * part_length : (part + 1) * part_length]:
                task = event[1]
                ran.add(task)
                if event[0] == LOCK_WAIT or event[0] == FLUSH_BEGIN:
                    waiting.add(task)
                elif event[0] == LOCK or event[0] == FLUSH_END:
                    waiting.discard(task)
            if any(task not in ran for task in self._runnable):
                return False
        return True

    def _report(self, number: int, start: int, stretch: Sequence[Event]) -> None:
        state = self.state
        steps_of = Counter(event[1] for event in stretch)
        last = {event[1]: (at, event) for at, event in enumerate(stretch, start)}
        runners = sorted(task for task in self._runnable if task in last)
        begun = sum(1 for event in stretch if event[0] in (API_BEGIN, WORK_BEGIN))
        taken = sorted({str(event[5]) for event in stretch if event[0] == LOCK})
        steps = [(number, "the execution is given up")]
        for task in runners:
            at, event = last[task]
            where = " and ".join(sorted({name_of(other[3]) for other in stretch if other[1] == task and other[3]}))
            steps.append(
                self.step(at, event, f"has made {steps_of[task]} of the last {len(stretch)} steps, in {where}")
            )
        self.report(
            number,
            Mechanism(
                self.NAME,
                tuple(sorted({state.entry_of(last[task][1]) for task in runners})),
                "running tasks",
                NO_PROGRESS,
                tuple(taken),
            ),
            f"no operation was completed in {len(stretch)} steps, in which every task that could run did",
            steps,
            f"should have been: an API call that returns ({begun} calls or works began in that stretch)",
        )
