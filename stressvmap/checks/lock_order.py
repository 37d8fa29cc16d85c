# SPDX-License-Identifier: GPL-2.0-only
"""The order in which lock classes were taken one inside the other, and where two orders make a circle (lockdep).

Classes, not locks: two tasks that take different locks of two classes both ways round have done nothing wrong this
time, but the code that they ran can.
"""

from __future__ import annotations

from dataclasses import dataclass

from stressvmap.checks.records import TaskState
from stressvmap.journal.events import Event


@dataclass(frozen=True, slots=True)
class Nesting:
    """The first time that a class was asked for while another was held."""

    outer: str
    outer_at: int
    """Number of the LOCK of the outer one."""
    inner: str
    inner_at: int
    """Number of the LOCK or LOCK_WAIT of the inner one."""
    event: Event
    """That event."""
    entry: str


class LockOrder:
    """The nestings of one execution. State: one a pair of classes; a look-up where a pair is not new is all that most
    acquisitions cost.
    """

    def __init__(self) -> None:
        self._inside: dict[str, dict[str, Nesting]] = {}

    def begin(self) -> None:
        """A new execution starts."""
        self._inside = {}

    def acquired(self, number: int, event: Event, task: TaskState) -> list[list[Nesting]]:
        """The task asks for a lock, or has it: the circles that this closes, each beginning with the class whose name
        comes first. The lock itself may be the last that it holds already.
        """
        inner = str(event[5])
        circles = []
        for held_object, held_class, held_at in task.held:
            if held_at == number or (held_object == event[4] and held_class == inner):
                continue
            outer = str(held_class)
            known = self._inside.setdefault(outer, {})
            if inner in known:
                continue
            nesting = known[inner] = Nesting(outer, held_at, inner, number, event, task.entry())
            way_back = self._way(inner, outer)
            if way_back is not None:
                circle = [nesting, *way_back]
                first = min(range(len(circle)), key=lambda index: circle[index].outer)
                circles.append(circle[first:] + circle[:first])
        return circles

    def _way(self, start: str, goal: str) -> list[Nesting] | None:
        """The shortest chain of nestings from `start` to `goal`; None if there is none, [] if they are one."""
        chains: list[list[Nesting]] = [[]]
        seen = {start}
        for chain in chains:
            at = chain[-1].inner if chain else start
            if at == goal:
                return chain
            for inner, nesting in self._inside.get(at, {}).items():
                if inner not in seen:
                    seen.add(inner)
                    chains.append([*chain, nesting])
        return None
