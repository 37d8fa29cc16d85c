# SPDX-License-Identifier: GPL-2.0-only
"""Source-DPOR against plain enumeration on a sample of the family, which must catch a search that is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest

from stressvmap.runtime.access import CHANGES, FREES, NEEDS, Key
from stressvmap.runtime.task import Task
from stressvmap.sched.dpor import SourceDpor
from stressvmap.sched.exploring import ExploringRuntime, StepRecord
from stressvmap.sched.footprint import Footprint, HappensBefore
from stressvmap.sched.search import Node
from stressvmap.stress.accesses import JournalAccesses
from tests.sched.explore_family import BLOCK_BITS, disagreement, everything, explore, new_runtime
from tests.sched.small_programs import Enumerated, SmallProgram, enumerate_all, family

INTERLEAVINGS_MAX = 2_000
SAMPLE = 40


def one_cpu_each(*tasks: str) -> SmallProgram:
    return SmallProgram(tuple((cpu, tuple(ops.split())) for cpu, ops in enumerate(tasks)))


@pytest.fixture(scope="module")
def sample() -> list[tuple[SmallProgram, Enumerated]]:
    """Programs of the family that are small enough, and some of its corners, each enumerated."""
    found = []
    corners = [
        one_cpu_each("[0 w0 c0 ]0", "[0 w0 ]0"),
        one_cpu_each("k0", "k1"),
        one_cpu_each("d w0", "r0 k0"),
        one_cpu_each("< r0 >", "k0"),
        one_cpu_each("s", "s w1"),
        one_cpu_each("(1 (0 )0 )1", "f1 t0 w0"),
        SmallProgram(((0, ("k0",)), (0, ("(1", "[0", "]0", "w1", ")1")))),
        # Waits for its CPU and for a lock at once:
        SmallProgram(((0, ("[1", "]1")), (0, ("(1", ")1", "[1", "]1")))),
        SmallProgram(((0, ("(1", "[0", "]0", "w1", ")1")), (0, ("(1", "i1", ")1")))),
        # Who spins keeps its CPU from the owner of a mutex that the spinlock's owner waits for:
        SmallProgram(((0, ("[0", "(1", ")1", "]0")), (1, ("(1", ")1")), (1, ("[0", "]0")))),
    ]
    for program in [*corners, *family(400, seed=2)]:
        enumerated = enumerate_all(program, INTERLEAVINGS_MAX // 4)
        if enumerated.is_whole:
            found.append((program, enumerated))
        if len(found) == SAMPLE:
            break
    return found


def test_final_states_violations_and_journals_are_those_of_plain_enumeration(
    sample: list[tuple[SmallProgram, Enumerated]],
) -> None:
    for program, enumerated in sample:
        assert not disagreement(enumerated, explore(program, SourceDpor), None), program
    assert sum(enumerated.executions for _, enumerated in sample) > 2_000
    assert any(outcome.reason == "deadlock" for _, enumerated in sample for outcome in enumerated.outcomes)
    assert any(outcome.violations for _, enumerated in sample for outcome in enumerated.outcomes)


def test_complete_executions_are_as_many_as_mazurkiewicz_traces(
    sample: list[tuple[SmallProgram, Enumerated]],
) -> None:
    for program, enumerated in sample[: SAMPLE // 2]:
        full = explore(program, everything, 10 * INTERLEAVINGS_MAX)
        reduced = explore(program, SourceDpor)
        assert full.is_whole
        assert reduced.complete == len(full.classes), program
        assert not disagreement(enumerated, reduced, full), program


# -- searches that are wrong in one thing -----------------------------------------------------------------


class NeverWakes(SourceDpor):
    def sleep_after(self, node: Node) -> dict[int, Footprint]:
        return {**node.sleep, **node.done}


class NeverSleeps(SourceDpor):
    def sleep_after(self, node: Node) -> dict[int, Footprint]:
        return {}


class IgnoresTheStuck(SourceDpor):
    def stuck(self, waiting: Sequence[tuple[int, Footprint]]) -> None:
        return None


class AddsOnlyTheRacer(SourceDpor):
    def _reverse(self, early: int, last: int) -> None:
        node, task = self.nodes[early], self.order.steps[last].task
        if task in node.enabled and task not in node.backtrack:
            node.backtrack.append(task)


class ForgetsDraws(SourceDpor):
    def advance(self) -> bool:
        for node in self.nodes:
            node.draws = []
        return super().advance()


class _NoLockReversal(HappensBefore):
    def _could_have_come_before(
        self, taken: int, before: int, enablers: Mapping[int, set[Key]], wanted: Mapping[Key, int]
    ) -> bool:
        return False


class _NoReversal(HappensBefore):
    def _races(self, before: int, direct: Mapping[int, bool]) -> list[int]:
        return super()._races(before, direct)[1:]


def ordered_by(order: Callable[[Sequence[int]], HappensBefore]) -> type[SourceDpor]:
    class Ordered(SourceDpor):
        def __init__(self, tasks: Sequence[int]) -> None:
            super().__init__(tasks)
            self.order = order(tasks)

    return Ordered


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(NeverWakes, id="never-wakes"),
        pytest.param(NeverSleeps, id="never-sleeps"),
        pytest.param(IgnoresTheStuck, id="ignores-the-stuck"),
        pytest.param(AddsOnlyTheRacer, id="adds-only-the-racer"),
        pytest.param(ForgetsDraws, id="forgets-draws"),
        pytest.param(ordered_by(_NoLockReversal), id="no-lock-reversal"),
        pytest.param(ordered_by(_NoReversal), id="no-reversal-of-the-first"),
    ],
)
def test_the_family_catches_a_search_that_is_wrong(
    wrong: type[SourceDpor], sample: list[tuple[SmallProgram, Enumerated]]
) -> None:
    assert any(disagreement(enumerated, explore(program, wrong, 5_000), None) for program, enumerated in sample)


class _Missing(JournalAccesses):
    """Footprints that leave out what `is_missing` says."""

    def __init__(self, is_missing: Callable[[Key, int], bool]) -> None:
        super().__init__(BLOCK_BITS, set())
        self.is_missing = is_missing

    def of(self, step: StepRecord, depth: int) -> Footprint:
        return {key: use for key, use in super().of(step, depth).items() if not self.is_missing(key, use)}


NAMED_KEYS = ("alive", "reader", "callbacks", "cell", "works", "cpu", "lock", "waiters")


def named(name: str) -> Callable[[Key, int], bool]:
    return lambda key, use: isinstance(key, tuple) and key[0] == name


@pytest.mark.parametrize(
    "is_missing",
    [
        *(pytest.param(named(name), id=name) for name in NAMED_KEYS),
        pytest.param(lambda key, use: isinstance(key[0], int) and use == CHANGES, id="writes"),
        pytest.param(lambda key, use: use in (NEEDS, FREES), id="enabling"),
    ],
)
def test_the_family_catches_a_footprint_that_leaves_something_out(
    is_missing: Callable[[Key, int], bool], sample: list[tuple[SmallProgram, Enumerated]]
) -> None:
    def make() -> ExploringRuntime:
        accesses = _Missing(is_missing)
        runtime = ExploringRuntime(accesses)
        accesses.contended = runtime.contended
        return runtime

    assert any(
        disagreement(enumerated, explore(program, SourceDpor, 5_000, make), None) for program, enumerated in sample
    )


class _BlindToContention(ExploringRuntime):
    def _is_free(self, task: Task) -> bool:
        return task.waits_for is None or task.waits_for.is_free


def test_the_family_catches_a_runtime_that_prunes_tries_somebody_looks_at(
    sample: list[tuple[SmallProgram, Enumerated]],
) -> None:
    def make() -> ExploringRuntime:
        return _BlindToContention(JournalAccesses(BLOCK_BITS, set()))

    assert any(
        disagreement(enumerated, explore(program, SourceDpor, 5_000, make), None) for program, enumerated in sample
    )


# -- single behaviours ------------------------------------------------------------------------------------


def test_independent_steps_are_run_in_one_order() -> None:
    result = explore(one_cpu_each("w0 r0", "w1 r1"), SourceDpor)
    assert (result.complete, result.cut) == (1, 0)


def test_two_writes_of_one_thing_are_run_in_both_orders() -> None:
    assert explore(one_cpu_each("w0", "w0"), SourceDpor).complete == 2


def test_readers_are_not_ordered_among_each_other() -> None:
    assert explore(one_cpu_each("r0", "r0", "w0"), SourceDpor).complete == 4


def test_critical_sections_are_run_in_both_orders_and_no_other() -> None:
    assert explore(one_cpu_each("[0 w0 ]0", "[0 w0 ]0"), SourceDpor).complete == 2
    assert explore(one_cpu_each("(0 w0 )0", "(0 w0 )0", "(0 w0 )0"), SourceDpor).complete == 6


def test_a_deadlock_of_opposed_lock_orders_is_found_among_three_traces() -> None:
    result = explore(one_cpu_each("(0 (1 )1 )0", "(1 (0 )0 )1"), SourceDpor)
    assert result.complete == 3
    assert sum(outcome.reason == "deadlock" for outcome in result.outcomes) == 1


def test_a_draw_is_a_branch() -> None:
    result = explore(one_cpu_each("d d w0"), SourceDpor)
    assert result.complete == 4
    assert len({outcome.final for outcome in result.outcomes}) == 4


def test_an_exploration_repeats_itself() -> None:
    program = one_cpu_each("[0 w0 ]0 k1", "< r1 >", "[0 r0 ]0")
    one, other = (explore(program, SourceDpor) for _ in range(2))
    assert (one.complete, one.cut, one.classes) == (other.complete, other.cut, other.classes)
    assert new_runtime().contended == set()
