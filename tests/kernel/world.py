# SPDX-License-Identifier: GPL-2.0-only
"""A booted machine whose tasks are small functions and whose interleaving is a script.

Task n of `run` has id n (from 1) and body n. A script is a list of `Run` lines; a line that misses its point fails the
test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stressvmap.journal import events as ev
from stressvmap.journal.events import Event
from stressvmap.kernel.kernel import Kernel
from stressvmap.kernel.lists import ListHead
from stressvmap.kernel.locks import Mutex, SpinLock
from stressvmap.kernel.machine import Machine
from stressvmap.kernel.struct import Struct
from stressvmap.program import Fault, Migration
from stressvmap.runtime.runtime import DONE, Runtime
from stressvmap.runtime.strategy import Strategy
from stressvmap.runtime.task import Task
from stressvmap.sched.controlled import ControlledRuntime
from stressvmap.sched.replay import ReplayStrategy, Run, ScriptStrategy

Body = Callable[[], object]
Predicate = Callable[[Task], bool]

IRQ = 1000
KWORKER = 2000
RCU = 3000


def until(kind: int, field: str | None = None) -> Predicate:
    """The task is about to do an operation of `kind`, on `field` if that is given."""
    return lambda task: task.pending_kind == kind and (field is None or task.pending_field == field)


def until_lock(lock_class: str) -> Predicate:
    return until(ev.LOCK, lock_class)


def until_unlock(lock_class: str) -> Predicate:
    return until(ev.UNLOCK, lock_class)


class Thing(Struct):
    """A shared object with a lock, two integers and a list node."""

    __slots__ = ("lock", "mutex", "node")
    STRUCT = "thing"

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.lock = SpinLock(machine, self, "thing->lock")
        self.mutex = Mutex(machine, self, "thing->mutex")
        self.node = ListHead(machine, self, "node")

    @property
    def count(self) -> int:
        return int(self.read("count"))

    @count.setter
    def count(self, value: int) -> None:
        self.write("count", value)


class World:
    """One machine and what happened on it. CPUs 0..cpus-1 are online unless `possible` and `online` say otherwise."""

    def __init__(
        self,
        *script: Run,
        cpus: int = 2,
        possible: Sequence[int] | None = None,
        online: Sequence[int] | None = None,
        runtime: Runtime | None = None,
        strategy: Strategy | None = None,
        ceiling: int = 0,
        kworkers: int = 1,
        steps_max: int = 5_000,
    ) -> None:
        self.strategy = strategy or ScriptStrategy(script)
        self.strategy.begin(0)
        self.owns_runtime = runtime is None
        self.runtime = runtime or ControlledRuntime(self.strategy)
        self.runtime.reset()
        self.runtime.steps_max = steps_max
        possible = range(cpus) if possible is None else possible
        self.kernel = Kernel(
            self.runtime,
            list(possible),
            list(possible if online is None else online),
            full_flush_ceiling_pages=ceiling,
            kworkers=kworkers,
        )
        self.machine = self.kernel.machine
        self.memory = self.kernel.memory
        self.rcu = self.kernel.rcu
        self.tasks: dict[int, Task] = {}

    # -- building -----------------------------------------------------------------------------------------

    def thing(self, count: int = 0) -> Thing:
        """An initialised Thing, made at boot (or by the current task)."""
        thing = Thing(self.machine)
        thing.values["count"] = count
        return thing

    def list_of(self, *things: Thing) -> ListHead:
        """A list with these things on it, made without a step."""
        head = ListHead(self.machine, self.thing(), "head")
        nodes = [head, *(thing.node for thing in things)]
        for before, after in zip(nodes, [*nodes[1:], head], strict=True):
            before.next, after.prev = after, before
        return head

    def spawn(self, body: Body, cpu: int, *, id: int | None = None) -> Task:
        number = len(self.tasks) + 1 if id is None else id

        def call() -> None:
            body()

        task = Task(number, f"task/{number}", cpu, call)
        self.tasks[number] = task
        self.runtime.spawn(task)
        return task

    def run(
        self,
        *bodies: Body,
        cpus: Sequence[int] | None = None,
        faults: Sequence[Fault] = (),
        migrations: Sequence[Migration] = (),
        expect: str = DONE,
    ) -> None:
        """Run the bodies as tasks 1.., task n on CPU n - 1 unless `cpus` says otherwise, to the end `expect`."""
        places = range(len(bodies)) if cpus is None else cpus
        tasks = [self.spawn(body, cpu) for body, cpu in zip(bodies, places, strict=True)]
        self.machine.inject(faults)
        self.machine.plan_migrations(migrations, tasks)
        try:
            reason = self.runtime.run()
        finally:
            if self.owns_runtime:
                self.runtime.close()
        assert reason == expect, (reason, self.shown())
        if isinstance(self.strategy, ScriptStrategy | ReplayStrategy):
            self.strategy.check_used_up()
        if reason == DONE:
            self.runtime.seal(DONE)

    # -- reading ------------------------------------------------------------------------------------------

    @property
    def events(self) -> list[Event]:
        return self.machine.events

    def of(self, *kinds: int) -> list[Event]:
        """The events of these kinds, in order."""
        return [event for event in self.events if event[0] in kinds]

    def who(self, *kinds: int) -> list[int]:
        """The tasks of these events, in order."""
        return [event[1] for event in self.of(*kinds)]

    def position(self, kind: int, task: int | None = None, nth: int = 0) -> int:
        """Where in the journal the nth event of `kind` (by `task`) stands."""
        found = [number for number, event in enumerate(self.events) if event[0] == kind and task in (None, event[1])]
        return found[nth]

    def warnings(self) -> list[str]:
        return [str(event[5]) for event in self.of(ev.WARN)]

    def bugs(self) -> list[str]:
        return [str(event[5]) for event in self.of(ev.BUG)]

    def shown(self) -> str:
        """The end of the journal, for a failing test."""
        return "\n".join(f"{ev.KIND_NAMES[event[0]]:16} {event[1:]}" for event in self.events[-60:])

    def is_clean(self) -> bool:
        """Whether no task holds a CPU, a lock or a reader section, as at the end of every whole execution."""
        return not (self.runtime.pinned_by or self.runtime.interrupted_by or self.runtime.irqs_off) and all(
            task.preempt_count == 0 and task.rcu_depth == 0 and not task.held for task in self.runtime.tasks
        )
