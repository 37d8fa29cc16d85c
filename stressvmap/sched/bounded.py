# SPDX-License-Identifier: GPL-2.0-only
"""Depth-first search over all schedules with at most so many preemptions: iterative context bounding (Musuvathi,
Qadeer: Iterative context bounding for systematic testing of multithreaded programs, PLDI 2007).

A preemption is a switch away from a task that could go on. One at a blocked, parked or finished task is free.
Parameters: the bound. Guarantee: every schedule within it is run once. It is not combined with partial order
reduction: a bound makes that unsound unless backtracking points are added conservatively (Coons, Musuvathi, McKinley,
OOPSLA 2013).
"""

from __future__ import annotations

from collections.abc import Sequence

from stressvmap.sched.search import Node, Search


class BoundedSearch(Search):
    """Explores all schedules with at most `bound` preemptions."""

    USES_FOOTPRINTS = False

    def __init__(self, tasks: Sequence[int], bound: int) -> None:
        super().__init__(tasks)
        self.bound = bound

    @property
    def preemptions(self) -> int:
        """Of the current execution so far."""
        return self.nodes[-1].preemptions if self.nodes else 0

    def choose(self, enabled: tuple[int, ...], current: int) -> Node | None:
        """Stay if that can be: then the bound is not touched."""
        before = self.preemptions
        node = Node(enabled, current, current if current in enabled else enabled[0])
        node.preemptions = before
        if current not in enabled or before < self.bound:
            node.backtrack = [node.chosen, *(task for task in enabled if task != node.chosen)]
        self.nodes.append(node)
        return node

    def alternative(self, node: Node) -> int:
        """The next of the enabled ones."""
        task = next((task for task in node.backtrack if task not in node.done), 0)
        if task:
            node.preemptions += _is_preemption(node, task) - _is_preemption(node, node.chosen)
        return task

    def restored(self, node: Node, before: Node | None) -> None:
        """Count again."""
        node.preemptions = (before.preemptions if before is not None else 0) + _is_preemption(node, node.chosen)


def _is_preemption(node: Node, task: int) -> bool:
    return task != node.current and node.current in node.enabled
