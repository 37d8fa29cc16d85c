# SPDX-License-Identifier: GPL-2.0-only
"""Source-DPOR with sleep sets (Abdulla, Aronis, Jonsson, Sagonas: Optimal dynamic partial order reduction, POPL 2014;
Source sets, JACM 2017, algorithm 1).

Guarantee: at least one execution of each Mazurkiewicz trace is run to its end, and by the sleep sets at most one; some
executions are cut when all that could run sleeps (wakeup trees would spare those). No parameters.

Locks: a task that stands before a lock somebody owns is not enabled, so an acquire never fails, and the race to be
reversed is that between two acquires of one lock, though the release lies between them: the second could have come
first if nothing else that it waited for happens after the first. The same holds for a CPU that a task occupies. A task
that is still blocked when everything ends takes part as if it came last: else deadlocks would be lost.
"""

from __future__ import annotations

from collections.abc import Sequence

from stressvmap.sched.footprint import Footprint, are_dependent
from stressvmap.sched.search import Node, Search


class SourceDpor(Search):
    """Explores all Mazurkiewicz traces. What races ask of decisions below `base` is kept in `requests`."""

    def __init__(self, tasks: Sequence[int]) -> None:
        super().__init__(tasks)
        self.requests: dict[tuple[int, tuple[int, ...], int], None] = {}
        """(depth, initials that can run there, the task whose race it is), in the order they came up."""

    def choose(self, enabled: tuple[int, ...], current: int) -> Node | None:
        """Stay with the current task if it is awake: that makes few switches, and the stack shallow to change."""
        sleep = self.sleep_after(self.nodes[-1]) if self.nodes else {}
        awake = [task for task in enabled if task not in sleep]
        if not awake:
            return None
        node = Node(enabled, current, current if current in awake else awake[0])
        node.sleep = sleep
        self.nodes.append(node)
        return node

    def alternative(self, node: Node) -> int:
        """What a race asked for."""
        return next((task for task in node.backtrack if task not in node.done and task not in node.sleep), 0)

    def raced(self, races: Sequence[int]) -> None:
        """See to it that each race is tried the other way round."""
        last = len(self.order.steps) - 1
        for early in races:
            self._reverse(early, last)

    def stuck(self, waiting: Sequence[tuple[int, Footprint]]) -> None:
        """As if each had come last."""
        for task, footprint in waiting:
            self.raced(self.order.push(task, footprint))
            self.order.pop()

    def sleep_after(self, node: Node) -> dict[int, Footprint]:
        """Who still sleeps after the chosen step of `node`."""
        footprint = node.footprint
        return {
            task: other
            for sleeping in (node.sleep, node.done)
            for task, other in sleeping.items()
            if not are_dependent(other, footprint)
        }

    def _reverse(self, early: int, last: int) -> None:
        """One of the initials of what leads to `last` without `early` must be run where `early` ran: a source set."""
        node = self.nodes[early]
        initials = self.order.initials(early, last)
        if any(task in node.backtrack or task in node.sleep for task in initials):
            return
        # None of them is enabled if `last` waited for what was taken before `early` and freed after it: its race is
        # with the step that took it.
        enabled = [task for task in initials if task in node.enabled]
        if not enabled:
            return
        task = self.order.steps[last].task
        if early < self.base:
            self.requests[(early, tuple(enabled), task)] = None
        else:
            node.backtrack.append(task if task in enabled else enabled[0])
