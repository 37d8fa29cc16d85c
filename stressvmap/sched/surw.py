# SPDX-License-Identifier: GPL-2.0-only
"""SURW, selectively uniform random walk (Zhao, Wolff, Mathur, Roychoudhury, ASPLOS 2025).

A few operations are interesting; the walk samples the interleavings of these uniformly, whatever lies between them. It
draws whose interesting operation comes next, each task weighed by how many it has left, and holds the other tasks
back at theirs until that one has happened; meanwhile it walks at random. If the counts are right and no task blocks,
each interleaving of the interesting operations is as likely as any other: the random walk favours those that switch
often, and long tasks last.

The counts come from a trial run of the same program under the random walk. Interesting are all operations on one
object (a block with its lock and list node, a lock, an area, a page's translation, a tree), drawn anew for each
execution from those that two tasks met at, one of them to change it. Where a task held back is what the drawn one
waits for, or spins on, or the counts were wrong, the next is drawn again among those held back.
"""

from __future__ import annotations

from collections.abc import Sequence

from stressvmap.runtime.strategy import Strategy
from stressvmap.runtime.task import Task
from stressvmap.sched.dependence import TREE_KINDS, Operation, is_read, operation_of
from stressvmap.sched.random import RandomStrategy
from stressvmap.sched.seeded import Seeded

Area = tuple[int, str]
"""What an operation is on: (object, ""), or (0, name) of a tree; (0, "") is nothing that could be interesting."""
NOWHERE: Area = (0, "")


def area_of(operation: Operation) -> Area:
    """What `operation` is on."""
    kind, object_id, field = operation
    if kind in TREE_KINDS:
        return 0, field
    return object_id, ""


class Profile(RandomStrategy):
    """The trial run: counts the operations of each task."""

    NAME = "surw-trial"

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._counts: dict[tuple[int, Operation], int] = {}
        """By task and operation: how often it was let happen."""
        self._begun: dict[int, int] = {}
        """By task: its points when its pending operation was let happen; one that waits for a lock happens once."""

    def begin(self, execution: int) -> None:
        """Forget the last one."""
        super().begin(execution)
        self._counts = {}
        self._begun = {}

    def decide(self, enabled: Sequence[Task], current: Task | None, why_stopped: int) -> tuple[Task, int]:
        """As the random walk; the operation let happen is counted."""
        task = enabled[int(self._random.random() * len(enabled))]
        if self._begun.get(task.id) != task.points:
            self._begun[task.id] = task.points
            key = task.id, (task.pending_kind, task.pending_object, task.pending_field)
            self._counts[key] = self._counts.get(key, 0) + 1
        return task, 1

    def shared(self) -> list[tuple[Area, dict[int, int]]]:
        """Where two tasks met and one changed something, sorted, with each task's number of operations there."""
        counts: dict[Area, dict[int, int]] = {}
        changed: set[Area] = set()
        for (task_id, operation), count in sorted(self._counts.items()):
            area = area_of(operation)
            by_task = counts.setdefault(area, {})
            by_task[task_id] = by_task.get(task_id, 0) + count
            if not is_read(operation):
                changed.add(area)
        return sorted(
            (area, by_task)
            for area, by_task in counts.items()
            if area != NOWHERE and len(by_task) > 1 and area in changed
        )


class SurwStrategy(Seeded):
    """No parameters. Asked at every point; each execution costs a trial run besides."""

    NAME = "surw"

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._profile = Profile(seed)
        self._is_started = False
        self._area = NOWHERE
        """What is interesting in this execution; NOWHERE: nothing, and it is the random walk."""
        self._left: dict[int, int] = {}
        """By task that is not done: interesting operations it is expected to have yet."""
        self._next: int | None = None
        """Id of the task whose interesting operation comes next; None: to be drawn."""
        self._since = 0
        """Points when an interesting operation last happened: if none does in as many as the whole trial had, the
        next is drawn anew.
        """
        self._begun: dict[int, int] = {}
        """By task: its points when its pending operation was let happen; one that waits for a lock happens once."""

    def begin(self, execution: int) -> None:
        """Forget the last execution; what is interesting is drawn at the first decision, after the trial."""
        super().begin(execution)
        self._profile.begin(execution)
        self._is_started = False

    def trial(self) -> Strategy:
        """The profile."""
        return self._profile

    def decide(self, enabled: Sequence[Task], current: Task | None, why_stopped: int) -> tuple[Task, int]:
        """Any task that is not held back, for one operation."""
        if not self._is_started:
            self._start()
        if self._area == NOWHERE:
            return enabled[self.draw(len(enabled))], 1
        if current is not None and current.is_done:
            self._left.pop(current.id, None)
            if current.id == self._next:
                self._next = None
        if self._next is None:
            self._draw_next(self._left)
        free, held = self._divide(enabled)
        if not free or (held and self.points - self._since > self._profile.points):
            self._draw_next({task.id: max(1, self._left.get(task.id, 0)) for task in held})
            self._since = self.points
            free = [task for task in held if task.id == self._next]
        chosen = free[self.draw(len(free))]
        if self._begun.get(chosen.id) != chosen.points:
            self._begun[chosen.id] = chosen.points
            if area_of(operation_of(chosen)) == self._area:
                self._left[chosen.id] = max(0, self._left.get(chosen.id, 0) - 1)
                self._next = None
                self._since = self.points
        return chosen, 1

    def _start(self) -> None:
        shared = self._profile.shared()
        self._area, self._left = shared[self.draw(len(shared))] if shared else (NOWHERE, {})
        self._next = None
        self._since = 0
        self._begun = {}
        self._is_started = True

    def _divide(self, enabled: Sequence[Task]) -> tuple[list[Task], list[Task]]:
        """Those that may run, and those held back: about to do an interesting operation that is not next. One that
        has begun its operation, and waits with it for a lock, is not held back.
        """
        object_id, tree = self._area
        free: list[Task] = []
        held: list[Task] = []
        for task in enabled:
            if object_id:
                is_there = task.pending_object == object_id and task.pending_kind not in TREE_KINDS
            else:
                is_there = task.pending_field == tree and task.pending_kind in TREE_KINDS
            if is_there and task.id != self._next and self._begun.get(task.id) != task.points:
                held.append(task)
            else:
                free.append(task)
        return free, held

    def _draw_next(self, weights: dict[int, int]) -> None:
        """Draw a task by weight; nobody if all weights are 0."""
        self._next = None
        at = self._random.random() * sum(weights.values())
        for task_id, weight in weights.items():
            if at < weight:
                self._next = task_id
                return
            at -= weight
