# SPDX-License-Identifier: GPL-2.0-only
"""uninitialised-read: a field was read before anybody wrote it."""

from __future__ import annotations

from stressvmap.checks.base import Handler, Mechanism
from stressvmap.checks.state import State
from stressvmap.checks.story import StateCheck
from stressvmap.journal.events import UNINITIALISED, Event
from stressvmap.journal.journal import Journal


class UninitialisedRead(StateCheck):
    """Nobody reads a field of an object before it was written.

    Typically an object that was published (indexed, listed) before it was complete. State: (object, field) pairs
    already told.
    """

    NAME = "uninitialised-read"
    NEEDS = frozenset({UNINITIALISED})

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._told: set[tuple[int, int | str]] = set()

    def begin(self, journal: Journal) -> None:
        super().begin(journal)
        self._told = set()

    def handlers(self) -> dict[int, Handler]:
        return {UNINITIALISED: self.on_uninitialised}

    def on_uninitialised(self, number: int, event: Event) -> None:
        key = (event[4], event[5])
        if key in self._told:
            return
        self._told.add(key)
        state = self.state
        task = state.task(event)
        target = state.object(event[4])
        name = self.object_name(target, event[4])
        class_name = target.class_name if target is not None and target.class_name else "object"
        steps = [self.step(number, event, f"reads {event[5]} of it")]
        if task.calls:
            steps.append(self.call_begins(task.calls[0]))
        if target is not None:
            steps.append(self.step(target.alloc_at, target.alloc_event, f"allocates {name}"))
        self.report(
            number,
            Mechanism(
                self.NAME, (task.entry(),), class_name, f"{event[5]} read before it was written", task.lock_classes()
            ),
            f"{event[5]} of {name} was read before anybody wrote it",
            steps,
            "should have been: written before others could find the object",
            notes=self.origins(event[4]),
        )
