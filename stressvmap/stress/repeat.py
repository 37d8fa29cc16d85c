# SPDX-License-Identifier: GPL-2.0-only
"""The determinism check: run an execution's schedule again, and hold both journals against each other.

A schedule is worth nothing if it does not say all that decides a run: a version that asks a clock, a hash order or a
global random source is told on here, with the first event that differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from stressvmap.errors import ScheduleMismatch
from stressvmap.journal.events import KIND_NAMES, Event
from stressvmap.program import Program
from stressvmap.stress.execution import Execution, Executor


def is_chosen(seed: int, execution: int, share: float) -> bool:
    """Whether execution number `execution` is one of the `share` (in [0, 1]) that run twice."""
    return share > 0 and Random(f"twice/{seed}/{execution}").random() < share


def difference(executor: Executor, program: Program, first: Execution) -> str:
    """Run the schedule of `first` again: what was not the same, or the empty string."""
    try:
        second = executor.replay(program, first.schedule)
    except ScheduleMismatch as error:
        return str(error)
    return first_difference(first.journal.events, second.journal.events)


def first_difference(first: Sequence[Event], second: Sequence[Event]) -> str:
    """The first event in which two journals differ, or the empty string."""
    for number, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return f"event {number} was {_shown(one)}, and {_shown(other)} the second time"
    if len(first) != len(second):
        return f"there were {len(first)} events, and {len(second)} the second time"
    return ""


def _shown(event: Event) -> str:
    kind, task, cpu, function, a, b, c = event
    return (
        f"({KIND_NAMES.get(kind, str(kind))} by task {task} on CPU {cpu} in {function or 'no function'}: {a}, {b}, {c})"
    )
