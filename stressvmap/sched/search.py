# SPDX-License-Identifier: GPL-2.0-only
"""What a systematic search is to the runtime that carries it out: a stack of decisions, of which the last one changes.

Searches are stateless (Godefroid 1997): nothing of a machine is kept, each execution runs again from the start.
"""

from __future__ import annotations

from collections.abc import Sequence

from stressvmap.sched.footprint import Footprint, HappensBefore, combine


class Node:
    """One decision of the current execution: what could run, what runs, what ran before it from here."""

    __slots__ = ("backtrack", "chosen", "current", "done", "draws", "enabled", "footprint", "preemptions", "sleep", "width")

    def __init__(self, enabled: tuple[int, ...], current: int, chosen: int) -> None:
        self.enabled = enabled
        """Tasks that could run, ascending."""
        self.current = current
        """The task that ran last; 0: none did."""
        self.chosen = chosen
        self.width = 1
        """Scheduling points that the chosen step takes."""
        self.draws: list[list[int]] = []
        """Of the chosen step: [n, what was drawn], or what is to be drawn where the execution has not been there."""
        self.footprint: Footprint = {}
        """Of the chosen step; of all its draws together, once it was run with several."""
        self.backtrack: list[int] = [chosen]
        """Tasks to be run from here, in the order they were asked for."""
        self.done: dict[int, Footprint] = {}
        """Tasks that were run from here, and all that follows with them."""
        self.sleep: dict[int, Footprint] = {}
        """Tasks that need not be run from here: all that follows was seen elsewhere."""
        self.preemptions = 0
        """Up to and with the chosen step."""


class Search:
    """A depth-first walk over schedules. The runtime asks `choose` and tells `executed`; `advance` moves on to the next
    execution.

    Invariant: `order` holds the executed steps of `nodes`, one each, but perhaps for the last node.
    """

    def __init__(self, tasks: Sequence[int]) -> None:
        self.nodes: list[Node] = []
        self.order = HappensBefore(tasks)
        self.is_over = False
        """Nothing is left to run."""

    def choose(self, enabled: tuple[int, ...], current: int) -> Node | None:
        """A decision where the execution has not been: the new node, or None if nothing new can come of it."""
        raise NotImplementedError

    def alternative(self, node: Node) -> int:
        """The next task to run from `node`, 0 if there is none."""
        raise NotImplementedError

    def executed(self, node: Node, footprint: Footprint) -> None:
        """The chosen step of the last node has run."""
        merged = dict(node.footprint)
        for key, use in footprint.items():
            combine(merged, key, use)
        node.footprint = merged
        self.raced(self.order.push(node.chosen, footprint, tuple(value for _, value in node.draws)))

    def raced(self, races: Sequence[int]) -> None:
        """The last step of `order` races with these."""

    def stuck(self, waiting: Sequence[tuple[int, Footprint]]) -> None:
        """The execution ended with tasks that wait for what nobody will free; with each, what it would have used."""

    def advance(self) -> bool:
        """Move on to the next execution; False if there is none."""
        nodes, order = self.nodes, self.order
        while nodes:
            node = nodes[-1]
            if len(order.steps) == len(nodes):
                order.pop()
            if _next_draws(node.draws):
                return True
            node.done[node.chosen] = node.footprint
            node.chosen = self.alternative(node)
            if node.chosen:
                node.draws = []
                node.footprint = {}
                return True
            nodes.pop()
        self.is_over = True
        return False


def _next_draws(draws: list[list[int]]) -> bool:
    """Count up the drawn numbers like an odometer; False when it has been all the way round."""
    while draws:
        n, value = draws[-1]
        if value + 1 < n:
            draws[-1][1] = value + 1
            return True
        draws.pop()
    return False
