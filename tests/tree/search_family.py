# SPDX-License-Identifier: GPL-2.0-only
"""The engine's search against plain enumeration, on small programs of the shim's primitives (programs/primitives.c).

Plain enumeration tries every enabled task at every decision and knows nothing of what steps use. What an execution came
to is its *outcome*: why it ended, what each task did and saw, in its own order, and what is left in memory. The search
must show every outcome that enumeration shows, and executions of one class must have one.

`python -m tests.tree.search_family LIBRARY [PROGRAMS]` prints what the documentation tells; the library is what
test_shim.py builds.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from stressvmap.journal import events
from stressvmap.runtime.runtime import DEADLOCK, STEPS_MAX
from tests.tree.engine_driver import REASONS, Engine, Job

INTERLEAVINGS_MAX: Final = 600
FAMILIES: Final = (
    ("in_no_lock", "in_spinlock", "in_irq_spinlock", "in_mutex", "in_guard", "if_mutex_is_free", "giving_way"),
    ("in_spinlock", "giving_way"),
    ("one_then_other", "other_then_one", "in_mutex"),
    ("add", "take_number", "count_here", "stay_pinned"),
    ("read_thing", "read_thing_pinned", "read_thing_carelessly", "replace_thing", "stay_pinned"),
    ("read_thing", "replace_thing_by_callback", "replace_thing_and_wait"),
    ("map", "unmap", "touch", "flush"),
    ("touch", "flush", "stay_pinned", "in_irq_spinlock"),
    ("queue", "wait_for_work"),
    ("queue", "queue_on_cpu", "wait_for_work", "stay_pinned"),
    ("cpu_leaves", "cpu_comes", "add", "flush"),
    ("cpu_leaves", "other_then_one", "one_then_other", "stay_pinned"),
)
"""Cases that have to do with each other."""
STATES: Final = range(8)
OVER, PAUSED, NEW, NEWS, FAILED = range(5)
Outcome = tuple[object, ...]

_UNSEEN: Final = frozenset({events.LOCK_WAIT, events.BLOCKED, events.RUNNABLE, events.STOPPED, 0x7FFF})
"""Who waited, was about to, or came last is no outcome: it may have come to the same without."""
_NUMBERED: Final = frozenset({events.FLUSH_BEGIN, events.FLUSH_END, events.IPI_SEND})
"""Flushes are counted, whoever makes them."""


def outcome(engine: Engine, reason: str) -> Outcome:
    """Of the run that is over."""
    by_task: dict[int, list[tuple[object, ...]]] = {}
    for event in engine.journal():
        if event.kind in _UNSEEN:
            continue
        told: tuple[object, ...] = (event.kind, event.cpu, event.a, event.b, event.c)
        if event.kind in _NUMBERED:
            told = (event.kind, event.cpu, event.c if event.kind == events.IPI_SEND else event.a)
        elif event.kind == events.LOCK:
            told = told[:-1]
        by_task.setdefault(event.task, []).append(told)
    memory = () if reason == DEADLOCK else tuple(int(engine.lib.state(number)) for number in STATES)
    return (reason, tuple((task, tuple(told)) for task, told in sorted(by_task.items())), memory)


# -- plain enumeration -----------------------------------------------------------------------------------------


def enumerate_all(engine: Engine, job: Job) -> tuple[set[Outcome], int]:
    """The outcomes of all interleavings, and how many there are; (empty, 0) if they are too many."""
    path: list[tuple[list[int], int]] = []
    found: set[Outcome] = set()
    interleavings = 0
    while True:
        depth = 0

        def decide(why: int) -> int:
            nonlocal depth
            enabled = engine.enabled_ids()
            if any(id == 900 for id in enabled) or depth < 0:
                return enabled[0] << 40 | 1 << 30
            if depth == len(path):
                path.append((enabled, 0))
            chosen = path[depth][0][path[depth][1]]
            depth += 1
            return chosen << 40 | 1

        reason = engine.run_decided(job, decide, lambda n: 0)
        interleavings += 1
        if interleavings > INTERLEAVINGS_MAX or reason == STEPS_MAX:
            return set(), 0
        found.add(outcome(engine, reason))
        while path:
            enabled, at = path.pop()
            if at + 1 < len(enabled):
                path.append((enabled, at + 1))
                break
        if not path:
            return found, interleavings


# -- the search ------------------------------------------------------------------------------------------------


@dataclass
class Searched:
    """What a search came to."""

    outcomes: dict[int, set[Outcome]]
    """By class."""
    complete: int = 0
    cut: int = 0


def search(engine: Engine, job: Job, bound: int = -1, *, returns_every: bool = True) -> Searched:
    """Explore, by the engine."""
    lib = engine.lib
    lib.sv_search_class.restype = ctypes.c_uint64
    lib.sv_search_learn.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
    lib.sv_search_know.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
    lib.sv_search_begin.argtypes = [ctypes.c_int32, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int]
    lib.sv_search_go.argtypes = [ctypes.c_uint64, ctypes.c_uint64]
    told = Searched({})
    counts = (ctypes.c_uint64 * 6)()
    lib.sv_search_know(None, 0)
    lib.sv_search_learn(None, 0)
    _begin(engine, job, bound, returns_every=returns_every)
    while True:
        came = lib.sv_search_go(1 << 20, 10_000)
        assert came != FAILED, engine.error()
        if came == OVER:
            lib.sv_search_counts(counts)
            told.complete, told.cut = counts[0], counts[1]
            return told
        if came == NEWS:
            lib.sv_search_know(None, 0)
            _begin(engine, job, bound, returns_every=returns_every)
            told = Searched({})
        if came == NEW:
            reason = REASONS[lib.sv_search_reason()]
            told.outcomes.setdefault(lib.sv_search_class(), set()).add(outcome(engine, reason))


def _begin(engine: Engine, job: Job, bound: int, *, returns_every: bool) -> None:
    engine.load(job)
    assert engine.lib.sv_search_begin(bound, None, 0, int(returns_every)) == 0, engine.error()


# -- the family ------------------------------------------------------------------------------------------------


def programs(n: int) -> Iterator[Job]:
    """Two or three tasks on up to as many CPUs, of one to three operations."""
    for seed in range(n):
        numbers = Random(f"search-family/{seed}")
        cases = FAMILIES[seed % len(FAMILIES)]
        tasks = [
            (numbers.randrange(3), [(numbers.choice(cases), numbers.randint(0, 1)) for _ in range(operations)])
            for operations in (numbers.choice((1, 1, 1, 2)) for _ in range(numbers.choice((2, 2, 3))))
        ]
        yield Job(tasks)


def compare(engine: Engine, job: Job) -> tuple[int, Searched, str]:
    """Interleavings (0: too many), what the search came to, and what is wrong with it."""
    wanted, interleavings = enumerate_all(engine, job)
    if not interleavings:
        return 0, Searched({}), ""
    searched = search(engine, job)
    found = {one for outcomes in searched.outcomes.values() for one in outcomes}
    if found != wanted:
        return interleavings, searched, f"{len(wanted - found)} outcomes missed, {len(found - wanted)} made up"
    if any(len(outcomes) > 1 for outcomes in searched.outcomes.values()):
        return interleavings, searched, "executions of one class have several outcomes"
    return interleavings, searched, ""


def main(library: str, n: int) -> None:
    """Compare all of the family."""
    engines = {points_all: Engine(Path(library), cpus=3, points_all=points_all) for points_all in (False, True)}
    compared = skipped = interleavings = classes = complete = cut = wrong = 0
    for number, job in enumerate(programs(n)):
        for points_all, engine in engines.items():
            of_these, searched, complaint = compare(engine, job)
            compared += bool(of_these)
            skipped += not of_these
            interleavings += of_these
            classes += len(searched.outcomes)
            complete += searched.complete
            cut += searched.cut
            if complaint:
                wrong += 1
                print(
                    f"program {number}, points {'all' if points_all else 'marked'}: {complaint}: {job.tasks}",
                    flush=True,
                )
    print(f"{compared} compared, {skipped} had too many interleavings, {wrong} differ")
    print(f"{interleavings} interleavings; {classes} classes, {complete} executions complete, {cut} cut")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 100)
