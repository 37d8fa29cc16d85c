# SPDX-License-Identifier: GPL-2.0-only
"""Screening in C against Python's checks, on journals of the model written as the engine would have (encoding.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from typing import Final

import pytest

from stressvmap.checks.registry import CHECK_NAMES
from stressvmap.journal import events as ev
from stressvmap.journal.events import Event
from stressvmap.journal.journal import Journal
from stressvmap.scenario import Scenario
from stressvmap.sched.sticky import StickyStrategy
from stressvmap.stress.execution import Executor
from stressvmap.stress.judge import Judge
from stressvmap.stress.workloads import draw
from stressvmap.tree.compiler import default_family, program_of
from stressvmap.tree.screen import (
    BIT_OF_CHECK,
    CHECKS_BY_BIT,
    RACE,
    UNKNOWN,
    Choice,
    names_of,
)
from stressvmap.vmalloc import planted
from stressvmap.vmalloc.base import Vmalloc
from stressvmap.vmalloc.rfc_3of3 import Rfc3of3
from stressvmap.vmalloc.v6_4 import V6_4
from stressvmap.vmalloc.v6_5 import V6_5
from tests.mutants.building import mutants_of
from tests.tree.encoding import Encoded, StubLibrary, build_stub

COMPILER: Final = program_of(default_family())
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler: screening is not tested")

ALWAYS: Final = 1 << 30
"""Reports of a race: more than there are runs."""
LIMITS: Final = {"excess-flush": 10.0, "re-flush": 3.0, "lock-hold": 60.0}
SCENARIO: Final = Scenario(cpus=3, operations=6, reset_rate=0.1, hotplug_rate=0.02)
ACTS: Final = (
    planted.WalksDyingBlocks,
    planted.ReleasesMutexBeforeFlush,
    planted.MergesBeforeFlush,
    planted.FreesWithoutGracePeriod,
)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> StubLibrary:
    """Screening with the stub in the engine's place."""
    return StubLibrary(build_stub(tmp_path_factory.mktemp("screen"), str(COMPILER)))


@pytest.fixture(scope="module")
def journals() -> Iterator[Callable[..., Journal]]:
    """Runs of versions, on one executor; each is made once."""
    executor = Executor(V6_5, SCENARIO)
    made: dict[tuple[type[Vmalloc], str, int], Journal] = {}

    def journal(version: type[Vmalloc], scenario: Scenario, execution: int) -> Journal:
        key = (version, str(scenario), execution)
        if key not in made:
            executor.version = version
            executor.change_scenario(scenario)
            done = executor.run(draw(scenario, 1, execution), StickyStrategy(1), execution=execution)
            made[key] = done.journal
        return made[key]

    yield journal
    executor.close()


def screened(library: StubLibrary, scenario: Scenario, first: Journal, reports: int = ALWAYS) -> Encoded:
    """Screening that has been told of the types and locks of `first`."""
    encoded = Encoded(library, scenario, first, race_reports=reports)
    while encoded.flags(first) & UNKNOWN:
        pass
    return encoded


def flags_of(encoded: Encoded, journal: Journal) -> int:
    """Of a journal, once what is new in it was told."""
    flags = encoded.flags(journal)
    while flags & UNKNOWN:
        flags = encoded.screen.flags()
    return flags


def bits_of(judge: Judge, journal: Journal) -> int:
    """What the checks say of it, as bits."""
    bits = 0
    for violation in judge.execution(journal).violations:
        bits |= BIT_OF_CHECK[violation.check]
    return bits


def test_each_check_has_a_bit() -> None:
    assert set(CHECK_NAMES) == set(BIT_OF_CHECK) - set(CHECKS_BY_BIT[11:12]) - {"limit", *CHECKS_BY_BIT[-3:]}


@pytest.mark.parametrize("version", [V6_4, Rfc3of3, V6_5, *ACTS], ids=lambda version: version.NAME)
def test_a_run_is_flagged_for_just_what_the_checks_say_of_it(
    library: StubLibrary, journals: Callable[..., Journal], version: type[Vmalloc]
) -> None:
    judge = Judge()
    for workload in ("mixed", "fill-block"):
        scenario = replace(SCENARIO, workload=workload)
        encoded = screened(library, scenario, journals(version, scenario, 0))
        for execution in range(6):
            journal = journals(version, scenario, execution)
            assert names_of(flags_of(encoded, journal)) == names_of(bits_of(judge, journal)), (workload, execution)


def test_screening_is_not_silent_about_mutants(library: StubLibrary, journals: Callable[..., Journal]) -> None:
    judge, fired = Judge(), 0
    encoded = screened(library, SCENARIO, journals(V6_5, SCENARIO, 0))
    for number, mutant in enumerate(mutants_of(V6_5)[::7]):
        try:
            journal = journals(mutant.build(), SCENARIO, number)
        except Exception:  # a mutant that Python itself stumbles over shows nothing here
            continue
        needed = bits_of(judge, journal)
        fired |= needed
        assert names_of(needed & ~flags_of(encoded, journal)) == [], mutant.id
    assert len(names_of(fired)) >= 5


def test_a_check_with_a_limit_is_screened_for(library: StubLibrary, journals: Callable[..., Journal]) -> None:
    scenario = replace(SCENARIO, limits=dict(LIMITS))
    judge = Judge(limits=LIMITS)
    encoded = screened(library, scenario, journals(V6_5, scenario, 0))
    limit = BIT_OF_CHECK["re-flush"]
    told = [(flags_of(encoded, one), bits_of(judge, one)) for one in (journals(V6_5, scenario, n) for n in range(8))]
    assert [flags & limit for flags, _ in told] == [bits & limit for _, bits in told]


# -- journals with an event too many, or one too few ---------------------------------------------------------


def spoilt(journal: Journal, random: Random) -> Journal:
    """One to three events lost, doubled, moved or made by another task."""
    events = list(journal.events)
    first = next(number for number, event in enumerate(events) if event[1])
    for _ in range(random.randint(1, 3)):
        kind = random.choice(sorted({event[0] for event in events[first:] if event[0] < ev.STOPPED}))
        at = random.choice([n for n in range(first, len(events)) if events[n][0] == kind])
        event = events[at]
        how = random.randrange(4)
        if how != 1:
            del events[at]
        if how == 1 or how == 2:
            events.insert(max(first, min(len(events) - 1, at + random.choice((-30, -3, 1, 3, 30)))), event)
        elif how == 3:
            events.insert(at, (event[0], random.choice([1, 2, 3]), *event[2:]))
    return Journal(header=journal.header, events=events)


def test_screening_is_not_silent_about_what_no_kernel_would_do(
    library: StubLibrary, journals: Callable[..., Journal]
) -> None:
    judge, fired = Judge(), 0
    sound = [journals(V6_5, SCENARIO, execution) for execution in range(5)]
    encoded = screened(library, SCENARIO, sound[0])
    for number in range(150):
        journal = spoilt(sound[number % len(sound)], Random(f"spoilt/{number}"))
        try:
            encoded.store(journal)
        except KeyError:  # an object that was never allocated has no address
            continue
        needed = bits_of(judge, journal)
        fired |= needed
        assert names_of(needed & ~flags_of(encoded, journal)) == [], number
    assert len(names_of(fired)) >= 5


ENDED: Final[dict[str, tuple[Event, ...]]] = {
    "kernel-bug": ((ev.WARN, 1, 0, "vb_free", 0, "too much", 0),),
    "use-after-free": ((ev.DEAD_ACCESS, 1, 0, "vb_free", 0, "free", ev.READ),),
    "uninitialised-read": ((ev.UNINITIALISED, 1, 0, "vb_free", 0, "free", 0),),
    "flush-range-sanity": ((ev.FLUSH_ARGS, 1, 0, "vb_free", 0x100010, "", 0x100008),),
    "lock-discipline": ((ev.MIGHT_SLEEP, 1, 0, "vb_free", 0, "mutex_lock", 1),),
    "overlapping-mapping": ((ev.PTE_BUSY, 1, 0, "vb_free", 0x100000, 7, 0),),
    "leak": ((ev.FRAME_OWNER, 1, 0, "vb_free", 0x900, "", 12345),),
}


@pytest.mark.parametrize("check", sorted(ENDED))
def test_one_event_is_enough(library: StubLibrary, journals: Callable[..., Journal], check: str) -> None:
    sound = journals(V6_5, SCENARIO, 0)
    encoded = screened(library, SCENARIO, sound)
    *rest, stopped = (event for event in sound.events if event[0] < ev.AUDIT_BEGIN)
    assert not flags_of(encoded, sound) & BIT_OF_CHECK[check]
    journal = Journal(header=sound.header, events=[*rest, *ENDED[check], stopped])
    assert flags_of(encoded, journal) & BIT_OF_CHECK[check]


@pytest.mark.parametrize("why", ["deadlock", "bug", "interrupted"])
def test_a_run_that_did_not_end_is_flagged(library: StubLibrary, journals: Callable[..., Journal], why: str) -> None:
    sound = journals(V6_5, SCENARIO, 0)
    encoded = screened(library, SCENARIO, sound)
    *rest, stopped = sound.events
    journal = Journal(header=sound.header, events=[*rest, (*stopped[:5], why, stopped[6])])
    assert names_of(flags_of(encoded, journal) & BIT_OF_CHECK["deadlock"]) == ["deadlock or livelock"]


def stuck(sound: Journal, steps: int) -> Journal:
    """It goes on, for so many steps of each of two tasks, without completing anything."""
    rest = sound.events[:-1]
    spin = [(ev.READ, task, 0, "vb_alloc", 0, "", 0) for _ in range(steps) for task in (1, 2)]
    ends = [(ev.RUNNABLE, task, 0, "", 0, "", 0) for task in (1, 2)]
    return Journal(header=sound.header, events=[*rest, *spin, *ends, (ev.STOPPED, 0, 0, "", 0, "steps-max", 0)])


def test_a_run_given_up_early_is_no_livelock_and_one_that_spun_long_may_be(
    library: StubLibrary, journals: Callable[..., Journal]
) -> None:
    scenario = replace(SCENARIO, window_blocks=6)
    sound = journals(V6_5, scenario, 0)
    encoded = screened(library, scenario, sound)
    livelock = BIT_OF_CHECK["livelock"]
    for steps in (100, 6000):
        journal = stuck(sound, steps)
        needed = bits_of(Judge(), journal) & livelock
        assert flags_of(encoded, journal) & livelock == needed
        assert bool(needed) == (steps == 6000)


# -- races seen before --------------------------------------------------------------------------------------


def racy(journals: Callable[..., Journal]) -> Journal:
    """A run of v6.4 with a data race."""
    return next(
        one for one in (journals(V6_4, SCENARIO, execution) for execution in range(20)) if bits_of(Judge(), one) & RACE
    )


def test_a_race_flags_a_few_runs_and_is_only_counted_then(
    library: StubLibrary, journals: Callable[..., Journal]
) -> None:
    journal = racy(journals)
    encoded = Encoded(library, SCENARIO, journal, race_reports=ALWAYS)
    told = [encoded.flags(journal) for _ in range(5)]
    assert not told[-1] & UNKNOWN
    encoded = screened(library, SCENARIO, journals(V6_5, SCENARIO, 0), reports=3)
    while encoded.flags(journals(V6_4, SCENARIO, 0)) & UNKNOWN:
        pass
    flagged = [bool(encoded.flags(journal) & RACE) for _ in range(10)]
    assert flagged == sorted(flagged, reverse=True)
    assert flagged[0]
    assert not flagged[-1]
    assert max(race.runs for race in encoded.screen.races()) >= 10


def test_another_race_is_flagged_beside_one_that_is_known(
    library: StubLibrary, journals: Callable[..., Journal]
) -> None:
    encoded = screened(library, SCENARIO, journals(V6_4, SCENARIO, 0), reports=1)
    known = racy(journals)
    while encoded.flags(known) & (UNKNOWN | RACE):
        pass
    place = next(event for event in known.events if event[0] == ev.WRITE and event[5] == "free" and event[1])
    other = next(task for task in (1, 2) if task != place[1])
    at = known.events.index(place)
    late: Event = (ev.WRITE, other, 0, "another_function", place[4], "free", place[6])
    both = Journal(header=known.header, events=[*known.events[: at + 1], late, *known.events[at + 1 :]])
    assert encoded.flags(both) & RACE
    assert any("free" in race.field for race in encoded.screen.races())


# -- which runs are judged ----------------------------------------------------------------------------------


def test_of_each_set_of_flags_the_first_runs_are_judged_and_then_every_nth() -> None:
    choice = Choice(first=3, every=10, sample=5)
    assert [choice.is_to_be_judged(1) for _ in range(21)] == [n < 3 or n % 10 == 0 for n in range(21)]
    assert choice.is_to_be_judged(2)
    assert choice.as_dict()["flagged_by"] == {CHECKS_BY_BIT[0]: 21, CHECKS_BY_BIT[1]: 1}


def test_a_sample_of_runs_without_flags_is_judged_and_each_that_a_race_flags() -> None:
    choice = Choice(first=1, every=1000, sample=5)
    assert [choice.is_to_be_judged(0) for _ in range(11)] == [n % 5 == 0 for n in range(11)]
    assert all(choice.is_to_be_judged(RACE) for _ in range(20))
    told = choice.as_dict()
    assert (told["runs"], told["flagged"], told["judged"], told["judged_unflagged"]) == (31, 20, 23, 3)
