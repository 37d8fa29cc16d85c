# SPDX-License-Identifier: GPL-2.0-only
"""However an execution ends, the next one of the controlled runtime is what it is in a fresh process."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from random import Random
from types import FrameType

import pytest
from greenlet import greenlet  # type: ignore[import-untyped]

from stressvmap.runtime.runtime import DEADLOCK, DONE, STEPS_MAX
from stressvmap.sched.controlled import ControlledRuntime
from stressvmap.stress.bench.memory import (
    BUGGED,
    DEADLOCKED,
    ENDINGS,
    INTERRUPTED,
    RAISED,
    SEED,
    STEPS,
    STRATEGY_INTERRUPTED,
    STRATEGY_RAISED,
    TINY,
    WHOLE,
    EndingBackend,
    EndingStrategy,
)
from stressvmap.vmalloc import versions
from tests.stress.runs import python

PROBES = range(5)
"""Executions whose digests tell whether anything of those before them is left."""

FRESH_PROCESS = """
    from tests.sched.test_endings import PROBES, backend, digest
    one = backend()
    print(*(digest(one, probe) for probe in PROBES))
"""


def backend() -> EndingBackend:
    return EndingBackend(versions.load("v6.5"), TINY, ControlledRuntime(EndingStrategy(SEED)))


def digest(one: EndingBackend, execution: int) -> str:
    assert one.execute(execution, WHOLE, 0) == DONE
    return one.journal().digest()


def alive() -> int:
    gc.collect()
    return sum(isinstance(thing, greenlet) and not thing.dead for thing in gc.get_objects())


@pytest.fixture(scope="module")
def fresh() -> list[str]:
    """The digests of PROBES in a process of their own, with another hash seed."""
    return python(FRESH_PROCESS, hash_seed=7).communicate()[0].split()


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        (WHOLE, DONE),
        (STEPS, STEPS_MAX),
        (DEADLOCKED, DEADLOCK),
        (BUGGED, DEADLOCK),
        (RAISED, "Broken"),
        (INTERRUPTED, "KeyboardInterrupt"),
        (STRATEGY_RAISED, "Broken"),
        (STRATEGY_INTERRUPTED, "KeyboardInterrupt"),
    ],
)
def test_an_execution_ends_as_it_was_meant_to(ending: str, reason: str) -> None:
    one = backend()
    reasons = {one.execute(execution, ending, execution % 4) for execution in range(20)}
    assert reason in reasons
    assert reasons <= {reason, DONE}  # a short program may be over before
    one.runtime.close()


def test_after_any_mix_of_endings_an_execution_is_what_it_is_in_a_fresh_process(fresh: list[str]) -> None:
    random = Random(1)
    one = backend()
    for _ in range(40):
        for ending in random.sample(ENDINGS, random.randint(0, len(ENDINGS))):
            one.execute(random.randrange(1_000), ending, random.randrange(6))
            assert all(task.context is None for task in one.runtime.tasks)
        probe = random.choice(PROBES)
        assert digest(one, probe) == fresh[probe]
    one.runtime.close()


def test_the_pool_holds_no_more_greenlets_than_the_largest_execution_had_tasks() -> None:
    before = alive()
    one = backend()
    random = Random(2)
    for execution in range(150):
        one.execute(execution, random.choice(ENDINGS), random.randrange(6))
    largest = len(one.runtime.tasks) + 1  # and the cleanup
    assert 0 < alive() - before <= largest
    one.runtime.close()
    assert alive() == before


@pytest.fixture
def alarm() -> Iterator[list[int]]:
    """Makes SIGALRM what Ctrl-C is; counts how often it came."""
    count = [0]

    def interrupt(number: int, frame: FrameType | None) -> None:
        count[0] += 1
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    yield count
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # one that comes in a finalizer is lost
def test_an_interrupt_at_any_instruction_leaves_nothing_behind(fresh: list[str], alarm: list[int]) -> None:
    """A real signal, so it also falls into the runtime's own code, and into its unwinding."""
    random = Random(3)
    before = alive()
    one = backend()
    rounds = 0
    while alarm[0] < 100:
        rounds += 1
        assert rounds < 20_000
        try:
            signal.setitimer(signal.ITIMER_REAL, 1e-6 + random.random() * 0.002)
            one.execute(random.randrange(1_000), random.choice(ENDINGS), random.randrange(6))
            signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            pass
        one.scenario = TINY
        probe = random.choice(PROBES)
        assert digest(one, probe) == fresh[probe]
    assert alive() - before <= len(one.runtime.tasks) + 1
    one.runtime.close()
