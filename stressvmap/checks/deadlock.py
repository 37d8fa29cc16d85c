# SPDX-License-Identifier: GPL-2.0-only
"""deadlock: every unfinished task is blocked."""

from __future__ import annotations

from typing import Final

from stressvmap.checks.base import Handler, Mechanism
from stressvmap.checks.state import State
from stressvmap.checks.story import StateCheck
from stressvmap.journal.events import BLOCKED, STOPPED, Event
from stressvmap.journal.journal import Journal

CIRCLE: Final = "tasks wait for each other in a circle"
NOBODY: Final = "wait for what nobody will do"


class Deadlock(StateCheck):
    """As long as a task is unfinished, some task can run.

    Reported only when the execution stopped because every unfinished task was blocked; who waits for whom comes from
    the BLOCKED events before it. A run that was merely cut at its bound is inconclusive, not deadlocked.

    State: one entry a blocked task.
    """

    NAME = "deadlock"
    NEEDS = frozenset({STOPPED, BLOCKED})

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._blocked: dict[int, tuple[int, Event]] = {}

    def begin(self, journal: Journal) -> None:
        super().begin(journal)
        self._blocked = {}

    def handlers(self) -> dict[int, Handler]:
        return {BLOCKED: self.on_blocked, STOPPED: self.on_stopped}

    def on_blocked(self, number: int, event: Event) -> None:
        self._blocked[event[1]] = (number, event)

    def on_stopped(self, number: int, event: Event) -> None:
        if event[5] != "deadlock":
            return
        circle = self._circle()
        tasks = circle or sorted(self._blocked)
        steps = [self.step(number, event, "nothing can run any more")]
        for task in tasks:
            steps.extend(self._waiting(task))
        waited_for = sorted({str(self._blocked[task][1][5]) for task in tasks})
        entries = tuple(sorted({self.state.entry_of(self._blocked[task][1]) for task in tasks}))
        held: set[str] = set()
        for task in tasks:
            held.update(self.state.task(self._blocked[task][1]).lock_classes())
        self.report(
            number,
            Mechanism(
                self.NAME,
                entries,
                " and ".join(waited_for),
                CIRCLE if circle else NOBODY,
                tuple(sorted(held)),
                self.state.is_coarse,
            ),
            "a task waits for itself" if len(circle) == 1 else f"{len(tasks)} {CIRCLE if circle else NOBODY}",
            steps,
            "should have been: some task that can run, while any is unfinished",
        )

    def _circle(self) -> list[int]:
        """The tasks of the first circle in the wait-for graph (each task waits for at most one other), or none."""
        for first in sorted(self._blocked):
            path: list[int] = []
            task = first
            while task in self._blocked and task not in path:
                path.append(task)
                task = self._blocked[task][1][6]
            if task in path:
                return path[path.index(task) :]
        return []

    def _waiting(self, task: int) -> list[tuple[int, str]]:
        number, event = self._blocked[task]
        owner = self.state.tasks.get(event[6])
        for_whom = f", held by {owner.name} (task {event[6]})" if owner is not None and event[6] else ""
        locks = self.state.task(event).held
        steps = [self.step(held[2], self.state.journal.events[held[2]], f"takes {held[1]}") for held in locks]
        steps.append(self.step(number, event, f"waits for {event[5]}{for_whom}"))
        return steps
