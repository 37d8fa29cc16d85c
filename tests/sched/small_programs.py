# SPDX-License-Identifier: GPL-2.0-only
"""A family of small programs for the searches: reads, writes, locks, RCU over two or three tasks; what an execution of
one comes to; and its plain enumeration, which knows nothing of footprints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from stressvmap.journal import events as ev
from stressvmap.journal.events import Event
from stressvmap.kernel.workqueue import Work
from stressvmap.runtime.access import CHANGES, LOOKS
from stressvmap.runtime.runtime import DEADLOCK, DONE
from stressvmap.runtime.strategy import Strategy
from stressvmap.runtime.task import Task
from stressvmap.sched.controlled import ControlledRuntime
from tests.kernel.world import Thing, World

THINGS = 2
STEPS_MAX = 400


@dataclass(frozen=True)
class SmallProgram:
    """Per task its CPU and its operations, each a letter and a thing's number: see `Interpreter`."""

    tasks: tuple[tuple[int, tuple[str, ...]], ...]

    def __str__(self) -> str:
        return " | ".join(f"CPU{cpu}: {' '.join(ops)}" for cpu, ops in self.tasks)


BLOCKS = (
    ("r0",),
    ("r1",),
    ("w0",),
    ("w1",),
    ("i0",),  # read, then write one more
    ("[0", "r0", "w0", "]0"),  # spinlock
    ("[0", "w1", "]0"),
    ("(1", "w1", ")1"),  # mutex
    ("(0", "w0", ")0"),
    ("(1", "[0", "]0", "w1", ")1"),  # a spinlock inside a mutex
    ("(0", "(1", ")1", ")0"),
    ("(1", "(0", ")0", ")1"),
    ("[0", "[1", "]1", "]0"),
    ("[1", "[0", "]0", "]1"),
    ("<", "r0", ">"),  # RCU reader
    ("<", ">"),
    ("<", "r1", "r0", ">"),
    ("k0",),  # kfree_rcu
    ("k1",),
    ("f1",),  # kfree, in one step with whatever came before
    ("s",),  # a shared cell that no point announces: its last value becomes the task's
    ("t0", "w0"),  # mutex_trylock, then unlock at once if it was got
    ("[0", "w0", "c0", "]0"),  # looks whether its spinlock is contended
    ("d", "w1"),  # a random number
    ("q",),  # queues a work that writes thing 0
)
SHORT = tuple(block for block in BLOCKS if len(block) == 1)
INVERSIONS = tuple(block for block in BLOCKS if len(block) > 1 and block[0][0] in "[(" and block[1][0] in "[(")
OPPOSED = tuple((one, other) for one in INVERSIONS for other in INVERSIONS if one[:2] == other[1::-1])
"""Two lock orders that together deadlock."""


def family(count: int, seed: int = 1, blocks: Sequence[Sequence[str]] = BLOCKS) -> Iterable[SmallProgram]:
    """`count` programs, the same for the same seed."""
    random = Random(f"family/{seed}")
    for _ in range(count):
        if random.random() < 0.1:
            first, second = random.choice(OPPOSED)
            yield SmallProgram(((0, (*first, *random.choice(SHORT))), (1, second)))
            continue
        tasks = []
        shared_cpus = random.choice((1, 2, 3, 3, 3, 3))
        for number in range(random.choice((2, 2, 3))):
            ops: list[str] = []
            for _ in range(random.choice((1, 1, 2))):
                kind = random.random()
                ops += random.choice(INVERSIONS if kind < 0.15 else SHORT if kind < 0.5 else blocks)
            tasks.append((number % shared_cpus, tuple(ops)))
        yield SmallProgram(tuple(tasks))


@dataclass(frozen=True)
class Outcome:
    """What an execution came to, with nothing in it that depends on the order of independent steps."""

    reason: str
    final: tuple[object, ...]
    """Values, who is dead, what each task saw."""
    violations: frozenset[tuple[object, ...]]
    """Accesses to the dead; and of a deadlock, who waits for what."""
    order: frozenset[object]
    """Per shared thing the accesses in their order, those of readers in between as a set: the trace as the journal
    alone shows it.
    """


class Interpreter:
    """Runs one program on one fresh world."""

    def __init__(self, program: SmallProgram, runtime: ControlledRuntime) -> None:
        cpus = max(cpu for cpu, _ in program.tasks) + 1
        self.world = World(cpus=cpus, runtime=runtime, steps_max=STEPS_MAX)
        self.things = [self.world.thing(0) for _ in range(THINGS)]
        self.cell = 0
        self.work = Work("work", lambda: self._do(0, "w0"))
        self.seen: dict[int, list[int]] = {}
        for number, (cpu, ops) in enumerate(program.tasks, 1):
            self.seen[number] = []
            self.world.spawn(self._body(number, ops), cpu)

    def _body(self, number: int, ops: Sequence[str]) -> Callable[[], None]:
        def body() -> None:
            for op in ops:
                self._do(number, op)

        return body

    def _do(self, number: int, op: str) -> None:
        world = self.world
        letter = op[0]
        thing = self.things[int(op[1])] if len(op) > 1 else self.things[0]
        seen = self.seen.setdefault(number, [])
        if letter in "rwi":
            self._access(letter, thing, number, seen)
        elif letter in "[](t)":
            self._lock(letter, thing, seen)
        elif letter == "<":
            world.rcu.read_lock()
        elif letter == ">":
            world.rcu.read_unlock()
        elif letter == "k":
            world.rcu.kfree_rcu(thing)
        elif letter == "f":
            thing.kfree()
        elif letter == "s":
            world.runtime.note(("cell",), LOOKS)
            seen.append(self.cell)
            world.runtime.note(("cell",), CHANGES)
            self.cell = number
        elif letter == "c":
            seen.append(int(thing.lock.is_contended()))
        elif letter == "d":
            seen.append(world.runtime.draw(2))
        elif letter == "q":
            seen.append(int(world.kernel.workqueue.schedule_work(self.work)))

    def _access(self, letter: str, thing: Thing, number: int, seen: list[int]) -> None:
        if letter == "r":
            seen.append(thing.count)
        elif letter == "w":
            thing.count = number + 10 * len(seen)
        else:
            thing.count += 100

    def _lock(self, letter: str, thing: Thing, seen: list[int]) -> None:
        if letter == "[":
            thing.lock.lock()
        elif letter == "]":
            thing.lock.unlock()
        elif letter == "(":
            thing.mutex.lock()
        elif letter == ")":
            thing.mutex.unlock()
        else:
            got = thing.mutex.trylock()
            seen.append(int(got))
            if got:
                thing.mutex.unlock()

    def outcome(self, reason: str) -> Outcome:
        """Of an execution that has ended."""
        events = self.world.events
        final = (
            tuple((thing.values["count"], thing.is_dead) for thing in self.things),
            self.cell,
            tuple((task, tuple(seen)) for task, seen in sorted(self.seen.items())),
        )
        violations: set[tuple[object, ...]] = set()
        for event in events:
            if event[0] == ev.DEAD_ACCESS:
                violations.add(("dead", event[1], event[4], event[5]))
            elif event[0] == ev.BLOCKED:
                violations.add(("blocked", event[1], event[4], event[5], event[6]))
        return Outcome(reason, final, frozenset(violations), journal_order(events))


def journal_order(events: Sequence[Event]) -> frozenset[object]:
    """The journal up to the order of accesses that do not conflict, said without footprints."""
    chains: dict[object, list[tuple[bool, set[tuple[int, int]]]]] = {}
    numbers: dict[int, int] = {}

    def use(key: object, name: tuple[int, int], is_change: bool) -> None:
        chain = chains.setdefault(key, [])
        if not chain or is_change or chain[-1][0]:
            chain.append((is_change, set()))
        chain[-1][1].add(name)

    for kind, task, _, _, a, b, _ in events:
        if kind in (ev.LOCK_WAIT, ev.BLOCKED, ev.STOPPED, ev.OBJECT_ALLOC, ev.MIGHT_SLEEP, ev.DEAD_ACCESS):
            continue
        numbers[task] = numbers.get(task, 0) + 1
        name = (task, numbers[task])
        if kind in (ev.READ, ev.WRITE):
            use((a, b), name, kind == ev.WRITE)
            use(("life", a), name, False)
        elif kind in (ev.LOCK, ev.UNLOCK, ev.TRYLOCK_FAILED):
            use(("lock", a, b), name, kind != ev.TRYLOCK_FAILED)
            use(("life", a), name, False)
        elif kind == ev.OBJECT_FREE:
            use(("life", a), name, True)
        elif kind == ev.KFREE_RCU:
            use(("life", a), name, False)
        elif kind in (ev.WORK_QUEUE, ev.WORK_BEGIN):
            use("work", name, True)
    return frozenset(
        (key, tuple((is_change, tuple(sorted(names))) for is_change, names in chain)) for key, chain in chains.items()
    )


class Enumeration(Strategy):
    """Every choice at every point, one after the other: the simplest search there is."""

    def __init__(self) -> None:
        self.path: list[tuple[int, int]] = []
        """(number of alternatives, the one taken)."""
        self._at = 0

    def begin(self, execution: int) -> None:
        self._at = 0

    def _pick(self, alternatives: int) -> int:
        if self._at == len(self.path):
            self.path.append((alternatives, 0))
        assert self.path[self._at][0] == alternatives
        self._at += 1
        return self.path[self._at - 1][1]

    def decide(self, enabled: Sequence[Task], current: Task | None, why_stopped: int) -> tuple[Task, int]:
        return enabled[self._pick(len(enabled))], 1

    def draw(self, n: int) -> int:
        return self._pick(n)

    def advance(self) -> bool:
        while self.path:
            alternatives, taken = self.path.pop()
            if taken + 1 < alternatives:
                self.path.append((alternatives, taken + 1))
                return True
        return False


@dataclass
class Enumerated:
    """What plain enumeration came to."""

    executions: int = 0
    outcomes: set[Outcome] = field(default_factory=set)
    is_whole: bool = False


def enumerate_all(program: SmallProgram, executions_max: int) -> Enumerated:
    """Every interleaving, or the first `executions_max`."""
    strategy = Enumeration()
    runtime = ControlledRuntime(strategy)
    result = Enumerated()
    while result.executions < executions_max:
        strategy.begin(result.executions)
        interpreter = Interpreter(program, runtime)
        reason = runtime.run()
        assert reason in (DONE, DEADLOCK), reason
        result.outcomes.add(interpreter.outcome(reason))
        result.executions += 1
        if not strategy.advance():
            result.is_whole = True
            break
    runtime.close()
    return result
