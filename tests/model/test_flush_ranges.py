# SPDX-License-Identifier: GPL-2.0-only
"""flush-range-sanity, range-computed-unlocked, double counting, and what the RFC changes about ranges."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stressvmap.journal import events as ev
from stressvmap.program import ProgramOp
from stressvmap.scenario import WORKLOADS
from stressvmap.sched.controlled import ControlledRuntime
from stressvmap.sched.random import RandomStrategy
from stressvmap.sched.replay import Run
from stressvmap.stress.judge import Judge
from stressvmap.stress.workloads import draw
from stressvmap.vmalloc.backend import ModelBackend
from stressvmap.vmalloc.rfc_3of3 import Rfc3of3
from stressvmap.vmalloc.v6_1 import V6_1
from stressvmap.vmalloc.v6_4 import V6_4
from stressvmap.vmalloc.v6_5 import V6_5
from tests.model.mutants import FlushesWithoutRange
from tests.model.world import (
    ALIASES,
    PAUSE,
    VERSIONS,
    Outcome,
    alone,
    map_,
    on,
    scenario,
    scripted,
    unmap,
    until_calls,
    until_in,
    until_pause,
    vfree,
    vmalloc,
    vmalloc_reset,
)

SANITY = "flush-range-sanity"
UNLOCKED = "range-computed-unlocked"

# -- sane ranges ------------------------------------------------------------------------------------------------------


def freed_while_purged(version: type[V6_4], *moment: Run) -> Outcome:
    """Task 1 frees memory with reset permissions; task 2 purges the area before task 1 asks for the flush."""
    return scripted(version, on(0, vmalloc_reset(0, 1), PAUSE, vfree(0)), on(1, ALIASES), script=moment)


BEFORE_ITS_FLUSH = (Run(1, until_pause), Run(1, until_calls("vm_reset_perms")), Run(2))


def test_a_flush_asked_for_without_a_range_starts_after_its_end_when_others_purged_first() -> None:
    """Row 21."""
    outcome = freed_while_purged(
        FlushesWithoutRange, Run(1, until_pause), Run(1, until_in("_vm_unmap_aliases", ev.RCU_READ_LOCK)), Run(2)
    )
    assert outcome.stories(SANITY) == {("flush", "start after end")}


def test_the_same_flush_finds_a_range_when_nobody_purged() -> None:
    assert alone(FlushesWithoutRange, vmalloc_reset(0, 1), vfree(0)).of(SANITY) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_flush_of_the_direct_map_has_a_range_of_its_own(version: type[V6_4]) -> None:
    outcome = freed_while_purged(version, Run(1, until_pause), Run(1, until_in("vm_reset_perms", ev.PTE_CLEAR)), Run(2))
    assert outcome.checks == set()


# -- the claim of the patch -------------------------------------------------------------------------------------------

DIRTY = (map_(0, 4), map_(1, 2), unmap(0), ALIASES)


def test_v6_4_reads_dirty_ranges_without_the_mutex_and_flushes_them() -> None:
    outcome = alone(V6_4, *DIRTY)
    found = outcome.of(UNLOCKED)[0]
    assert found.mechanism.calls == ("vm_unmap_aliases",)
    assert found.mechanism.locks == ("vb->lock",)
    assert "reads dirty_min = 0" in found.message


@pytest.mark.parametrize("version", [Rfc3of3, V6_5])
def test_the_rfc_and_v6_5_read_them_under_the_mutex(version: type[V6_4]) -> None:
    assert alone(version, *DIRTY).of(UNLOCKED) == []


def test_a_call_without_dirty_blocks_computes_no_range() -> None:
    assert alone(V6_4, map_(0, 8), unmap(0), ALIASES).of(UNLOCKED) == []


def randomly(version: type[V6_4], executions: int, **changes: object) -> tuple[set[tuple[str, str]], Judge]:
    """(check, fingerprint) of what fires in so many random executions of a scenario."""
    seed = 1
    where = scenario(cpus=3, operations=8, lazy_max=24, window_blocks=12, **changes)
    strategy = RandomStrategy(seed)
    backend = ModelBackend(version, where, ControlledRuntime(strategy))
    judge = Judge()
    fired = set()
    for execution in range(executions):
        strategy.begin(execution)
        backend.reset(draw(where, seed, execution))
        backend.run()
        verdict = judge.execution(backend.journal())
        fired |= {(violation.check, violation.fingerprint) for violation in verdict.violations}
    return fired, judge


@pytest.mark.parametrize("debug_pagealloc", [False, True])
@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("version", VERSIONS)
def test_only_before_the_rfc_and_v6_5_are_they_read_unlocked(
    version: type[V6_4], workload: str, debug_pagealloc: bool
) -> None:
    executions = 6
    fired, judge = randomly(
        version, executions, workload=workload, debug_pagealloc=debug_pagealloc, aliases_rate=0.1, vmalloc_rate=0.1
    )
    checks = {check for check, _ in fired}
    assert (UNLOCKED in checks) == (version in (V6_1, V6_4))
    assert judge.metrics()["unmap_aliases_calls"] > executions


# -- double counting --------------------------------------------------------------------------------------------------


def test_v6_4_counts_every_purgeable_block_twice_and_the_rfc_none() -> None:
    purgeable = (map_(0, 4), unmap(0), ALIASES, map_(1, 2), unmap(1), ALIASES)
    assert alone(V6_4, *purgeable).metrics["double_counted_blocks"] == 2
    assert alone(Rfc3of3, *purgeable).metrics["double_counted_blocks"] == 0


def test_under_the_rfc_a_block_that_dies_between_walk_and_detach_is_counted_twice() -> None:
    outcome = scripted(
        Rfc3of3,
        on(0, map_(0, 4), map_(1, 2), unmap(0), PAUSE, map_(2, 2), unmap(1), unmap(2)),
        on(1, ALIASES),
        script=[Run(1, until_pause), Run(2, until_in("vm_unmap_aliases", ev.RCU_READ_UNLOCK)), Run(1), Run(2)],
    )
    assert outcome.metrics["double_counted_blocks"] == 1
    assert outcome.metrics["double_counted_dying_blocks"] == 1


def program_operations() -> st.SearchStrategy[list[ProgramOp]]:
    """Maps of all sizes, unmaps, vmallocs, vfrees and vm_unmap_aliases, on six slots; no resets."""
    slots = st.integers(0, 5)
    return st.lists(
        st.one_of(
            st.builds(map_, slots, st.integers(1, 7)),
            st.builds(unmap, slots),
            st.builds(vmalloc, slots, st.integers(1, 3)),
            st.builds(vfree, slots),
            st.just(ALIASES),
        ),
        max_size=40,
    )


@settings(max_examples=120, deadline=None)
@given(program_operations())
def test_a_single_task_flushes_exactly_the_same_ranges_with_and_without_the_rfc(operations: list[ProgramOp]) -> None:
    before = alone(V6_4, *operations, cpus=1, window_blocks=64)
    after = alone(Rfc3of3, *operations, cpus=1, window_blocks=64)
    assert before.flush_calls() == after.flush_calls()
    assert after.metrics["double_counted_blocks"] == 0


def test_that_also_holds_where_allocations_overflow() -> None:
    for seed in range(20):
        operations = random_operations(seed)
        before = alone(V6_4, *operations, cpus=1, window_blocks=3)
        after = alone(Rfc3of3, *operations, cpus=1, window_blocks=3)
        assert before.flush_calls() == after.flush_calls()


def random_operations(seed: int) -> list[ProgramOp]:
    random = Random(seed)
    made = []
    for _ in range(60):
        slot = random.randrange(5)
        kind = random.random()
        made.append(map_(slot, random.randint(1, 5)) if kind < 0.5 else ALIASES if kind > 0.95 else unmap(slot))
    return made


def test_two_calls_over_one_purgeable_block_flush_it_twice_before_the_rfc_and_once_under_it() -> None:
    """What the RFC does change: v6.4 has collected the range before another call purges and flushes the block."""

    def flushed(version: type[V6_4]) -> list[tuple[int, int]]:
        walk = "_vm_unmap_aliases" if version is V6_4 else "vm_unmap_aliases"
        outcome = scripted(
            version,
            on(0, map_(0, 4), unmap(0), ALIASES),
            on(1, ALIASES),
            script=[Run(1, until_in(walk, ev.LOCK, "vmap_purge_lock")), Run(2)],
        )
        return outcome.flushes("vm_unmap_aliases")

    assert flushed(V6_4) == [(0, 8), (0, 4)]
    assert flushed(Rfc3of3) == [(0, 8)]


# -- what it was all about --------------------------------------------------------------------------------------------


def test_the_seccomp_teardown_is_one_hull_of_everything_before_the_rfc_and_its_own_pages_under_it() -> None:
    """Gleixner's case: one page with reset permissions, and eight small areas far apart."""
    areas = [vmalloc(slot, 1) for slot in range(8)]
    fillers = [map_(20 + slot, 8) for slot in range(8)]
    spread = [op for pair in zip(areas, fillers, strict=True) for op in pair]
    program = (vmalloc_reset(9, 1), *spread, *(vfree(slot) for slot in range(8)), vfree(9))
    before = alone(V6_4, *program, window_blocks=64)
    after = alone(Rfc3of3, *program, window_blocks=64)

    (hull,) = [(start, end) for call, start, end in before.flush_calls() if call == "vfree_reset"]
    needed = 8 + 1 + 1
    assert hull[1] - hull[0] > 0x100000 - 0x41000, "from the direct map to the last area"
    assert before.metrics["excess_pages"] > 1000 * needed
    own = [end - start for call, start, end in after.flush_calls() if call == "vfree_reset"]
    assert own == [1, 2], "the direct-map page; its own page and guard page"
    assert before.checks == after.checks == set()
