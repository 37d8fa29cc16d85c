# SPDX-License-Identifier: GPL-2.0-only
"""ExploringRuntime: the controlled runtime with a search in the strategy's place, and a record of what each step used.

Two things differ from other strategies. A task that stands before something it must wait for (a lock that is owned) is
not run into the wait while anything else can run: the failed try changes nothing that others see, but for locks whose
contention somebody looks at, where it is a step like any other. And a daemon's start is one step with what it does
first: between the two it does nothing but occupy its CPU, so the first can be put off until just before the second.
Both only leave out executions that differ from a remaining one in nothing but the order of independent steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import field as field_of
from typing import Final, Protocol

from stressvmap.errors import HarnessError
from stressvmap.journal.events import Event
from stressvmap.runtime.access import CHANGES, EVERYTHING, FREES, LOOKS, NEEDS, TAKES, Key, Waitable
from stressvmap.runtime.strategy import Strategy
from stressvmap.runtime.task import Task
from stressvmap.sched.controlled import ControlledRuntime
from stressvmap.sched.footprint import Footprint, combine
from stressvmap.sched.search import Node, Search

TO_THE_END: Final = 1 << 40
CUT: Final = "cut"
"""Why an execution ended of which nothing new can come."""


HALTED: Final = "halted"
"""Why an execution ended that was not over: `must_halt` said so. The search has to be rewound."""
HALT_EVERY: Final = 256
"""Decisions from one look at `must_halt` to the next."""
GRANT_MAX: Final = 1 << 16
"""Points that are repeated without a decision, at most."""


class _Cut(BaseException):
    """Ends an execution that the search has no more use for."""


class _Halt(BaseException):
    """Ends an execution that there is no time left for."""


@dataclass(slots=True)
class StepRecord:
    """What one step did, before it is turned into a footprint."""

    task: int
    cpu: int
    kind: int
    """The operation that it announced: kind, object, field. 0: it was the task's first step."""
    object_id: int
    field: str
    waits: bool
    """Its task had to wait for something that it stood before."""
    events: Sequence[Event] = ()
    uses: dict[Key, int] = field_of(default_factory=dict)
    """What the runtime saw and what was noted."""


class Accesses(Protocol):
    """Turns what a step announced and journalled into what it used."""

    def of(self, step: StepRecord, depth: int) -> Footprint:
        """The footprint of the execution's step number `depth`; `step.uses` is part of it."""

    def of_wait(self, task: Task) -> Footprint:
        """What a task that is blocked before its pending operation would use."""


class ExploringRuntime(ControlledRuntime):
    """Runs one execution after the other as a Search decides. `watch` before each."""

    def __init__(self, accesses: Accesses) -> None:
        self.guide = _Guide(self)
        super().__init__(self.guide)
        self.accesses = accesses
        self.search: Search | None = None
        self.contended: set[tuple[int, str]] = set()
        """Locks, by (object, class), whose contention is looked at: trying in vain is a step of theirs."""
        self.is_news = False
        """A lock came to `contended` during the execution: what was explored before is not complete."""
        self.is_forced = False
        """All that could run is blocked: whoever stands before a lock is run into it, and that is the end."""
        self.must_halt: Callable[[], bool] = _never
        """Asked now and then in the midst of an execution: whether to give it up here."""
        self._is_epilogue = False
        self._events: Sequence[Event] = ()
        self._open: tuple[StepRecord, int, object, bool, bool, bool] | None = None
        self._uses: dict[Key, int] = {}
        self._is_noting = False

    def watch(self, search: Search, events: Sequence[Event]) -> None:
        """The next execution is one of `search`, and is journalled in `events`."""
        self.search = search
        self._events = events
        self.is_news = self.is_forced = self._is_epilogue = self._is_noting = False
        self._open = None
        self.guide.start(search)

    def run(self) -> str:
        """Like ControlledRuntime's; CUT if the search cut it, HALTED if it was given up. A second run of one execution
        is its epilogue, not explored.
        """
        try:
            reason = super().run()
        except _Cut:
            reason = CUT
        except _Halt:
            reason = HALTED
        self._is_epilogue = True
        return reason

    def note(self, key: Key, use: int) -> None:
        """Part of the current step's footprint."""
        if self._is_noting:
            combine(self._uses, key, use)

    def wake(self, task: Task) -> None:
        """An enabling: the woken step happens after."""
        if task.is_parked:
            self.note(("wake", task.id), FREES)
        super().wake(task)

    def _next(self, task: Task | None, why: int) -> Task | None:
        """Choose among those that could go on."""
        ready = self.enabled
        if not self._is_epilogue and self.points < self.steps_max:
            self._close()
            self.enabled = self._free_of(ready)
        chosen = super()._next(task, why)
        self.enabled = ready
        return chosen

    def _note_spinners(self) -> None:
        """A task that holds a spinlock stands before a mutex: who spins on the one keeps its CPU from the owner of the
        other, who may need it to let go. So trying for such a spinlock in vain is a step.
        """
        for task in self.tasks:
            wait = task.waits_for
            if wait is None or wait.is_free or wait.PINS_WAITER or not task.is_pinned:
                continue
            for lock in task.held:
                if isinstance(lock, Waitable) and lock.PINS_WAITER and lock.key not in self.contended:
                    self.contended.add(lock.key)
                    self.is_news = True

    def _free_of(self, ready: list[Task]) -> list[Task]:
        self._note_spinners()
        free = [task for task in ready if self._is_free(task)]
        if not free and not self.is_forced:
            self.is_forced = True
            assert self.search is not None
            stuck = [task for task in self.tasks if not self.is_finished(task)]
            self.search.stuck([(task.id, self._use_of_stuck(task)) for task in stuck])
        return free or ready

    def _is_free(self, task: Task) -> bool:
        wait = task.waits_for
        return wait is None or wait.is_free or (task.pending_object, task.pending_field) in self.contended

    def _use_of_stuck(self, task: Task) -> Footprint:
        """What it waits for: a lock, or its CPU."""
        uses: dict[Key, int] = {("cpu", task.cpu): NEEDS}
        if not task.is_parked or task.waits_for is not None:
            uses.update(self.accesses.of_wait(task))
        return uses

    # -- steps --------------------------------------------------------------------------------------------

    def open_step(self, task: Task) -> None:
        """`task` is about to run a step that is to be recorded."""
        is_start = task.context is None
        record = StepRecord(
            task.id,
            task.cpu,
            0 if is_start else task.pending_kind,
            0 if is_start else task.pending_object,
            "" if is_start else task.pending_field,
            task.waits_for is not None,
        )
        self._uses = record.uses
        self._is_noting = True
        cpu = task.cpu
        self._open = (
            record,
            len(self._events),
            self.pinned_by.get(cpu),
            cpu in self.irqs_off,
            cpu in self.interrupted_by,
            _is_reader(task),
        )

    def _close(self) -> None:
        """The step is over: tell the search what it used."""
        if self._open is None:
            return
        record, first, pinned, were_irqs_off, was_interrupted, was_reader = self._open
        self._open = None
        self._is_noting = False
        record.events = self._events[first:]
        uses = record.uses
        cpu = record.cpu
        task = self.current
        if not task.is_interrupt:
            combine(uses, ("cpu", cpu), NEEDS)
            now = self.pinned_by.get(cpu)
            if now is not pinned:
                combine(uses, ("cpu", cpu), TAKES if now is not None else FREES)
        if (cpu in self.irqs_off) != were_irqs_off or (cpu in self.interrupted_by) != was_interrupted:
            combine(uses, EVERYTHING, CHANGES)
        if _is_reader(task) != was_reader:
            combine(uses, ("reader", task.id), CHANGES)
        combine(uses, EVERYTHING, LOOKS)
        combine(uses, ("wake", task.id), NEEDS)
        for key in uses:
            if isinstance(key, tuple) and key[0] == "waiters" and key[1:] not in self.contended:
                self.contended.add((key[1], key[2]))
                self.is_news = True
        assert self.search is not None
        node = self.search.nodes[-1]
        self.search.executed(node, self.accesses.of(record, len(self.search.nodes) - 1))


class _Guide(Strategy):
    """Repeats the search's decisions up to the last, which is new, and asks it from there."""

    def __init__(self, runtime: ExploringRuntime) -> None:
        self.runtime = runtime
        self._choose: Callable[[tuple[int, ...], int], Node | None] = _nobody
        self._plan: list[tuple[int, int]] = []
        self._at = 0
        self._values: list[int] = []
        self._drawn = 0
        self._node: Node | None = None
        self._is_first_new = False
        self._decisions = 0

    def begin(self, execution: int) -> None:
        """Nothing: `start` has the search."""

    def start(self, search: Search) -> None:
        """An execution of `search` begins."""
        nodes = search.nodes
        self._choose = search.choose
        self._plan = []
        for node in nodes[:-1]:
            if self._plan and self._plan[-1][0] == node.chosen:
                self._plan[-1] = (node.chosen, self._plan[-1][1] + node.width)
            else:
                self._plan.append((node.chosen, node.width))
        self._at = self._drawn = 0
        self._values = [value for node in nodes for _, value in node.draws]
        self._node = nodes[-1] if nodes else None
        self._is_first_new = bool(nodes)

    def decide(self, enabled: Sequence[Task], current: Task | None, why_stopped: int) -> tuple[Task, int]:
        """As planned, then as the search says."""
        runtime = self.runtime
        self._decisions += 1
        if not self._decisions % HALT_EVERY and runtime.must_halt():
            raise _Halt
        if runtime._is_epilogue:
            return enabled[0], TO_THE_END
        if runtime.is_forced:
            return enabled[0], 1
        if self._at < len(self._plan):
            task_id, width = self._plan[self._at]
            if width > GRANT_MAX:
                self._plan[self._at] = (task_id, width - GRANT_MAX)
                return _named(enabled, task_id), GRANT_MAX
            self._at += 1
            return _named(enabled, task_id), width
        if self._is_first_new:
            self._is_first_new = False
            node = self._node
        else:
            ids = tuple([task.id for task in enabled])
            node = self._node = self._choose(ids, 0 if current is None else current.id)
            self._values = []
            self._drawn = 0
        if node is None:
            raise _Cut
        task = _named(enabled, node.chosen)
        node.width = 2 if task.is_daemon and task.context is None else 1
        node.draws, planned = [], node.draws
        if planned:
            self._values = [value for _, value in planned]
            self._drawn = 0
        runtime.open_step(task)
        return task, node.width

    def draw(self, n: int) -> int:
        """The planned number, else the first."""
        value = self._values[self._drawn] if self._drawn < len(self._values) else 0
        self._drawn += 1
        if self._node is not None and self.runtime._open is not None:
            self._node.draws.append([n, value])
        return value


def _is_reader(task: Task) -> bool:
    return task.rcu_depth > 0 or task.preempt_count > 0


def _named(enabled: Sequence[Task], task_id: int) -> Task:
    for task in enabled:
        if task.id == task_id:
            return task
    raise HarnessError(f"an execution does not repeat itself: task {task_id} cannot run where it could before")


def _never() -> bool:
    return False


def _nobody(enabled: tuple[int, ...], current: int) -> Node | None:
    return None
