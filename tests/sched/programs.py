# SPDX-License-Identifier: GPL-2.0-only
"""Small random programs of kernel operations, and a way to run them on any runtime: for properties of the runtimes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from stressvmap.journal import events as ev
from stressvmap.journal.events import Event
from stressvmap.journal.journal import Journal
from stressvmap.kernel.lists import list_add_tail_rcu, list_del_rcu, list_for_each_entry_rcu
from stressvmap.kernel.workqueue import Work
from stressvmap.program import Migration
from stressvmap.runtime.runtime import DONE, Runtime
from stressvmap.runtime.task import Task
from tests.kernel.world import Thing, World

OPERATIONS = (
    "count",
    "lock",
    "both",
    "htob",
    "mutex",
    "list",
    "walk",
    "free",
    "flush",
    "read",
    "work",
    "move",
    "draw",
    "bug",
)
CPUS = 3
SHARED = 2


@dataclass(frozen=True)
class SmallProgram:
    """Per task: (CPU, names of operations); and the migrations nobody asked for."""

    tasks: tuple[tuple[int, tuple[str, ...]], ...]
    migrations: tuple[Migration, ...] = ()


@st.composite
def small_programs(draw: st.DrawFn, operations: Sequence[str] = OPERATIONS) -> SmallProgram:
    names = st.lists(st.sampled_from(list(operations)), max_size=5).map(tuple)
    tasks = draw(st.lists(st.tuples(st.integers(0, CPUS - 1), names), min_size=1, max_size=4))
    migration = st.builds(Migration, st.integers(1, len(tasks)), st.integers(1, 30), st.integers(0, CPUS - 1))
    return SmallProgram(tuple(tasks), tuple(draw(st.lists(migration, max_size=3))))


class Execution:
    """One execution of a small program on `runtime`: `reason`, `events`, `digest`."""

    def __init__(self, runtime: Runtime, program: SmallProgram, steps_max: int = 2_000) -> None:
        self.world = World(cpus=CPUS, runtime=runtime, steps_max=steps_max)
        self.things = [self.world.thing() for _ in range(SHARED)]
        self.head = self.world.list_of()
        self.work = Work("work", self._count)
        self.world.memory.table[5] = 6
        tasks = [self._task(number, cpu, names) for number, (cpu, names) in enumerate(program.tasks, 1)]
        self.world.machine.plan_migrations(program.migrations, tasks)
        self.reason = runtime.run()
        runtime.seal(self.reason)

    @property
    def events(self) -> list[Event]:
        return self.world.events

    @property
    def digest(self) -> str:
        return Journal(header={}, events=self.events).digest()

    @property
    def is_clean_unless_cut(self) -> bool:
        """Whether it was stopped, or hit a BUG, or left no lock held, no CPU pinned and no callback waiting."""
        world = self.world
        return self.reason != DONE or bool(world.bugs()) or (world.is_clean() and world.rcu.is_idle)

    def _task(self, number: int, cpu: int, names: Sequence[str]) -> Task:
        def body() -> None:
            for name in names:
                getattr(self, f"_{name}")()

        return self.world.spawn(body, cpu, id=number)

    def _count(self) -> None:
        self.things[0].count += 1

    def _lock(self) -> None:
        with self.things[0].lock:
            self._count()

    def _both(self) -> None:
        with self.things[0].mutex, self.things[1].mutex:
            self._count()

    def _htob(self) -> None:
        with self.things[1].mutex, self.things[0].mutex:
            self._count()

    def _mutex(self) -> None:
        if self.things[0].mutex.trylock():
            self._count()
            self.things[0].mutex.unlock()

    def _list(self) -> None:
        mine = Thing(self.world.machine)
        with self.things[1].lock:
            list_add_tail_rcu(mine.node, self.head)
        with self.things[1].lock:
            list_del_rcu(mine.node)
        self.world.rcu.kfree_rcu(mine)

    def _walk(self) -> None:
        self.world.rcu.read_lock()
        for _ in list_for_each_entry_rcu(self.head):
            pass
        self.world.rcu.read_unlock()

    def _free(self) -> None:
        self.world.rcu.synchronize_rcu()

    def _flush(self) -> None:
        self.world.memory.flush_tlb_kernel_range(0, 1 << 20)

    def _read(self) -> None:
        self.world.memory.read_page(5)

    def _work(self) -> None:
        self.world.kernel.workqueue.schedule_work(self.work)

    def _move(self) -> None:
        machine = self.world.machine
        machine.move(self.world.runtime.current, (machine.smp_processor_id() + 1) % CPUS)

    def _draw(self) -> None:
        value = self.world.runtime.draw(4)
        self.world.machine.record(ev.READ, 0, "drawn", value)
        for _ in range(value):
            self._read()

    def _bug(self) -> None:
        with self.things[0].lock:
            self.world.machine.BUG_ON(self.things[0].count > 3, "too many")


def breaches(events: Sequence[Event]) -> list[str]:
    """Where a journal breaks a law of the machine: locks exclude, who holds a spinlock keeps its CPU, grace periods."""
    found: list[str] = []
    owners: dict[tuple[int, int | str], int] = {}
    pinned: dict[int, int] = {}
    readers: dict[int, int] = {}
    waited_for: dict[int, set[int]] = {}

    def leave(task: int) -> None:
        if not readers.get(task) and task not in pinned.values():
            for tasks in waited_for.values():
                tasks.discard(task)

    for number, (kind, task, cpu, _, a, b, c) in enumerate(events):
        is_spinlock = b == "thing->lock"
        if (
            pinned.get(cpu, task) != task
            and not 1000 <= task < 2000
            and kind not in (ev.MIGRATED, ev.BLOCKED, ev.STOPPED)
        ):
            found.append(f"{number}: task {task} runs on CPU {cpu}, which task {pinned[cpu]} has pinned")
        if kind == ev.LOCK:
            if (a, b) in owners:
                found.append(f"{number}: task {task} takes {b} of {a}, which task {owners[a, b]} holds")
            owners[a, b] = task
            if is_spinlock:
                pinned[cpu] = task
        elif kind == ev.UNLOCK:
            if owners.pop((a, b), None) != task:
                found.append(f"{number}: task {task} releases {b} of {a}, which it does not hold")
            if is_spinlock:
                del pinned[cpu]
                leave(task)
        elif kind in (ev.RCU_READ_LOCK, ev.RCU_READ_UNLOCK):
            readers[task] = c
            leave(task)
        elif kind == ev.BUG:
            readers.pop(task, None)
            pinned = {place: other for place, other in pinned.items() if other != task}
            leave(task)
        elif kind == ev.KFREE_RCU:
            waited_for[a] = {reader for reader, depth in readers.items() if depth} | set(pinned.values())
        elif kind == ev.OBJECT_FREE and waited_for.pop(a, set()):
            found.append(f"{number}: {a} is freed under a reader that was inside when it was queued")
    return found
