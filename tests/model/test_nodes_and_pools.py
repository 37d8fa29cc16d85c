# SPDX-License-Identifier: GPL-2.0-only
"""What the checks see of nodes and pools: v6.12, and v6.12 with one line wrong."""

from __future__ import annotations

import pytest

from stressvmap.journal import events as ev
from stressvmap.program import ProgramOp
from stressvmap.sched.replay import Run
from stressvmap.vmalloc.v6_12 import V6_12
from tests.model.mutants import (
    DeletesUnderTheBucketsLock,
    FillsPoolsBeforeTheFlush,
    ForgetsToCountThePool,
    LosesWhatIsLeftOfAPool,
    SetsCpuAfterPublishing,
    ShrinksWithoutTheMutex,
)
from tests.model.test_lists_and_locks import purged_while_listed
from tests.model.world import (
    ALIASES,
    SHRINK,
    Outcome,
    Until,
    alone,
    map_,
    news_of,
    on,
    scenario,
    scripted,
    unmap,
    until_in,
    until_kind,
)


def filled(count: int) -> tuple[ProgramOp, ...]:
    return (*(map_(n, 5) for n in range(count)), *(unmap(n) for n in range(count)), ALIASES)


def test_a_block_deleted_under_its_buckets_lock_corrupts_the_list_it_is_on() -> None:
    assert purged_while_listed(V6_12, 1).of("list-corruption") == []
    found = purged_while_listed(DeletesUnderTheBucketsLock, 1).of("list-corruption")
    assert {violation.mechanism.mechanism for violation in found} == {"changed under another list's lock"}


WRITE_CPU = (ev.WRITE, "cpu")
LOCK_QUEUE = (ev.LOCK, "vbq->lock")


def met_before_it_is_listed(version: type[V6_12]) -> Outcome:
    """vm_unmap_aliases meets a block that is in the xarray, and on no list yet."""
    published = until_in("new_vmap_block", *(WRITE_CPU if version is SetsCpuAfterPublishing else LOCK_QUEUE))
    return scripted(
        version,
        on(0, map_(0, 2)),
        on(1, ALIASES),
        script=[Run(1, until_kind(ev.XA_STORE)), Run(1, published), Run(2)],
    )


def test_a_block_that_is_found_before_it_knows_its_cpu_is_read_uninitialised() -> None:
    assert met_before_it_is_listed(V6_12).checks == set()
    outcome = met_before_it_is_listed(SetsCpuAfterPublishing)
    assert "uninitialised-read" in outcome.checks
    assert outcome.stories("uninitialised-read") == {("vmap_block", "cpu read before it was written")}


def test_an_area_in_a_pool_before_its_flush_is_handed_out_stale() -> None:
    tasks = (on(0, map_(0, 5), unmap(0), ALIASES), on(0, map_(1, 5)))

    def run(version: type[V6_12]) -> Outcome:
        return scripted(version, *tasks, script=[Run(1, until_in("purge_vmap_node", ev.ATOMIC)), Run(2)])

    assert run(V6_12).checks == set()
    assert "reuse-before-flush" in run(FillsPoolsBeforeTheFlush).checks


def test_a_pool_whose_len_is_wrong_is_told() -> None:
    assert alone(V6_12, *filled(4)).of("accounting") == []
    assert alone(ForgetsToCountThePool, *filled(4)).stories("accounting") == {
        ("pool", "len differs from the areas in the pool")
    }


def test_areas_lost_from_a_pool_are_a_leak() -> None:
    assert alone(V6_12, *filled(6), ALIASES).of("leak") == []
    lost = alone(LosesWhatIsLeftOfAPool, *filled(6), ALIASES)
    assert lost.checks == {"leak"}
    assert {mechanism for _, mechanism in lost.stories("leak")} == {"in no tree", "allocated, and nothing leads to it"}


def test_a_shrinker_without_the_mutex_loses_what_it_puts_into_a_pool_that_is_put_back() -> None:
    """Task 1's purge has taken a pool away and is about to put it back; the shrinker empties what was there."""

    def run(version: type[V6_12]) -> set[str]:
        where = scenario(
            cpus=2, tasks_per_cpu=2, operations=40, slots=16, block_bits=4, max_alloc=1, window_blocks=64, lazy_max=12,
            aliases_rate=0.1, vmalloc_rate=0.8, shrink_rate=0.2, fault_rate=0.0,
        )  # fmt: skip
        return news_of(version, where, 6)

    assert run(V6_12) == set()
    assert run(ShrinksWithoutTheMutex)


@pytest.mark.parametrize(
    "after", [until_in("decay_va_pool_node", ev.READ_ONCE), until_in("purge_vmap_node", ev.ATOMIC)]
)
def test_the_shrinker_waits_for_a_purge(after: Until) -> None:
    outcome = scripted(
        V6_12,
        on(0, *filled(6), ALIASES),
        on(1, SHRINK),
        script=[Run(1, after), Run(2)],
    )
    assert outcome.checks == set()
