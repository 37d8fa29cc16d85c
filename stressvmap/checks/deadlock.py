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
    the BLOCKED events before it: for a lock's owner, for what occupies its CPU, for every interrupt that has not
    answered a flush, for every reader of a grace period. A task waits for all it names, so any circle among them is one
    that nothing can open. A run that was merely cut at its bound is inconclusive, not deadlocked.

    State: one entry for each that a blocked task waits for.
    """

    NAME = "deadlock"
    NEEDS = frozenset({STOPPED, BLOCKED})

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._blocked: dict[int, list[tuple[int, Event]]] = {}

    def begin(self, journal: Journal) -> None:
        super().begin(journal)
        self._blocked = {}

    def handlers(self) -> dict[int, Handler]:
        return {BLOCKED: self.on_blocked, STOPPED: self.on_stopped}

    def on_blocked(self, number: int, event: Event) -> None:
        self._blocked.setdefault(event[1], []).append((number, event))

    def on_stopped(self, number: int, event: Event) -> None:
        if event[5] != "deadlock":
            return
        circle = self._circle()
        waits = circle or [wait for task in sorted(self._blocked) for wait in self._blocked[task]]
        steps = [self.step(number, event, "nothing can run any more")]
        for wait in waits:
            steps.extend(self._waiting(*wait))
        events = [wait[1] for wait in waits]
        held: set[str] = set()
        for waiting in events:
            held.update(self.state.task(waiting).lock_classes())
        waiting_tasks = {waiting[1] for waiting in events}
        self.report(
            number,
            Mechanism(
                self.NAME,
                tuple(sorted({self.state.entry_of(waiting) for waiting in events})),
                " and ".join(sorted({_what(waiting) for waiting in events})),
                CIRCLE if circle else NOBODY,
                tuple(sorted(held)),
                self.state.is_coarse,
            ),
            "a task waits for itself" if len(circle) == 1 else f"{len(waiting_tasks)} {CIRCLE if circle else NOBODY}",
            steps,
            "should have been: some task that can run, while any is unfinished",
        )

    def _circle(self) -> list[tuple[int, Event]]:
        """The waits of the first circle in the wait-for graph, or none: depth first, tasks by id."""
        seen: set[int] = set()
        for first in sorted(self._blocked):
            if first in seen:
                continue
            seen.add(first)
            path = [first]
            waits = [iter(self._blocked[first])]
            taken: list[tuple[int, Event]] = []
            while path:
                wait = next(waits[-1], None)
                if wait is None:
                    path.pop()
                    waits.pop()
                    if taken:
                        taken.pop()
                    continue
                owner = wait[1][6]
                if owner in path:
                    return [*taken, wait][path.index(owner) :]
                if owner in self._blocked and owner not in seen:
                    seen.add(owner)
                    path.append(owner)
                    waits.append(iter(self._blocked[owner]))
                    taken.append(wait)
        return []

    def _waiting(self, number: int, event: Event) -> list[tuple[int, str]]:
        owner = self.state.tasks.get(event[6])
        for_whom = ""
        if owner is not None and event[6]:
            how = "held by" if event[4] else "occupied by" if _is_cpu(event) else "owed by"
            for_whom = f", {how} {owner.name} (task {event[6]})"
        locks = self.state.task(event).held
        steps = [self.step(held[2], self.state.journal.events[held[2]], f"takes {held[1]}") for held in locks]
        steps.append(self.step(number, event, f"waits for {event[5]}{for_whom}"))
        return steps


def _what(event: Event) -> str:
    """What a task waits for, without the number of a CPU."""
    return "a CPU" if _is_cpu(event) else str(event[5])


def _is_cpu(event: Event) -> bool:
    return not event[4] and str(event[5]).startswith("CPU ")
