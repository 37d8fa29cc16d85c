# SPDX-License-Identifier: GPL-2.0-only
"""What a systematic search is to the runtime that carries it out: a stack of decisions, of which the last one changes.

Searches are stateless (Godefroid 1997): nothing of a machine is kept, each execution runs again from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from stressvmap.errors import HarnessError
from stressvmap.runtime.access import Key
from stressvmap.sched.footprint import Footprint, HappensBefore, combine


class Node:
    """One decision of the current execution: what could run, what runs, what ran before it from here."""

    __slots__ = (
        "backtrack",
        "chosen",
        "current",
        "done",
        "draws",
        "enabled",
        "footprint",
        "preemptions",
        "sleep",
        "width",
    )

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

    USES_FOOTPRINTS: ClassVar[bool] = True
    """What was run from a decision matters by its footprint, not only by its name."""

    def __init__(self, tasks: Sequence[int]) -> None:
        self.nodes: list[Node] = []
        self.tasks = tuple(tasks)
        self.order = HappensBefore(tasks)
        self.base = 0
        """Decisions below this depth are somebody else's: they are not changed."""

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
        while len(nodes) > self.base:
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
        return False

    def mark(self) -> Mark:
        """Where the search stands between two executions, for `rewind`."""
        return Mark(len(self.nodes), [list(drawn) for drawn in self.nodes[-1].draws] if self.nodes else [])

    def rewind(self, mark: Mark) -> None:
        """Forget that the execution begun at `mark` was begun: it is the next one again. What it asked for already, it
        will ask for again.
        """
        del self.nodes[mark.depth :]
        while len(self.order.steps) > max(0, mark.depth - 1):
            self.order.pop()
        if self.nodes:
            self.nodes[-1].draws = mark.draws

    def sleep_after(self, node: Node) -> dict[int, Footprint]:
        """Who still sleeps after the chosen step of `node`; a search without sleep sets has nobody."""
        return {}

    def save(self) -> list[Decision]:
        """The stack as plain data, between two executions."""
        return [
            Decision(node.chosen, [list(drawn) for drawn in node.draws], list(node.done), list(node.backtrack))
            for node in self.nodes
        ]

    def restore(self, stack: Sequence[Decision], run: Callable[[Search], object]) -> None:
        """Come back to a saved stack. Footprints are not saved, they are taken again: `run` runs one execution of the
        search it is given.
        """
        path = [(decision.chosen, decision.draws) for decision in stack]
        done = [
            {
                task: _footprint_of(self.tasks, [*path[:depth], (task, [])], run) if self.USES_FOOTPRINTS else {}
                for task in decision.done
            }
            for depth, decision in enumerate(stack)
        ]
        again = _Path(self.tasks, path)
        run(again)
        if len(again.nodes) != len(stack):
            raise HarnessError("an execution does not repeat itself: it is over before its decisions are")
        self.order = again.order
        self.nodes = again.nodes
        for depth, (node, decision) in enumerate(zip(self.nodes, stack, strict=True)):
            node.done, node.backtrack = done[depth], list(decision.backtrack)
            if depth:
                node.sleep = self.sleep_after(self.nodes[depth - 1])
            self.restored(node, self.nodes[depth - 1] if depth else None)
        if self.nodes:  # the last decision is still to be carried out
            self.order.pop()
            self.nodes[-1].draws = [list(drawn) for drawn in stack[-1].draws]
            self.nodes[-1].footprint = {}

    def restored(self, node: Node, before: Node | None) -> None:
        """Bring up to date what a search keeps on a node of its own."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place between two executions."""

    depth: int
    draws: list[list[int]]
    """Of the last decision, which is still to be carried out."""


@dataclass
class Decision:
    """A decision as plain data: what runs, what it draws, what ran from there before, what is asked for."""

    chosen: int
    draws: list[list[int]] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    backtrack: list[int] = field(default_factory=list)


class _Path(Search):
    """Repeats given decisions one by one, and ends after them."""

    def __init__(self, tasks: Sequence[int], path: Sequence[tuple[int, list[list[int]]]]) -> None:
        super().__init__(tasks)
        self.path = path

    def choose(self, enabled: tuple[int, ...], current: int) -> Node | None:
        if len(self.nodes) == len(self.path):
            return None
        task, draws = self.path[len(self.nodes)]
        node = Node(enabled, current, task)
        node.draws = [list(drawn) for drawn in draws]
        self.nodes.append(node)
        return node


def _footprint_of(
    tasks: Sequence[int], path: Sequence[tuple[int, list[list[int]]]], run: Callable[[Search], object]
) -> Footprint:
    """What the last step of a path uses, whatever it draws."""
    footprint: dict[Key, int] = {}
    task, draws = path[-1]
    while True:
        again = _Path(tasks, [*path[:-1], (task, draws)])
        run(again)
        node = again.nodes[-1]
        for key, use in node.footprint.items():
            combine(footprint, key, use)
        draws = node.draws
        if not _next_draws(draws):
            return footprint


def _next_draws(draws: list[list[int]]) -> bool:
    """Count up the drawn numbers like an odometer; False when it has been all the way round."""
    while draws:
        n, value = draws[-1]
        if value + 1 < n:
            draws[-1][1] = value + 1
            return True
        draws.pop()
    return False
