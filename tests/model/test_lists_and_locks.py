# SPDX-License-Identifier: GPL-2.0-only
"""list-corruption, lock-discipline, deadlock and kernel-bug on model code."""

from __future__ import annotations

import pytest

from stressvmap.journal import events as ev
from stressvmap.kernel.slab import KMEM_CACHE_ALLOC
from stressvmap.program import Fault
from stressvmap.runtime.runtime import DEADLOCK
from stressvmap.sched.replay import Run
from stressvmap.vmalloc.rfc_3of3 import Rfc3of3
from stressvmap.vmalloc.v6_1 import V6_1
from stressvmap.vmalloc.v6_4 import V6_4
from stressvmap.vmalloc.v6_5 import V6_5
from stressvmap.vmalloc.v6_12 import V6_12
from tests.model.mutants import (
    FlushesUnderSpinlock,
    ForgetsUnlock,
    LocksListFirst,
    PurgesWithoutMutex,
    SetsCpuFirst,
    SleepsInReader,
    SleepsUnderSpinlock,
)
from tests.model.world import (
    ALIASES,
    PAUSE,
    VERSIONS,
    Outcome,
    alone,
    map_,
    on,
    scripted,
    unmap,
    until_in,
    until_kind,
    until_pause,
)

# -- list corruption --------------------------------------------------------------------------------------------------

LIST = "list-corruption"


def purged_while_listed(version: type[V6_4], cpu: int) -> Outcome:
    """The first block is in CPU 0's bucket. `cpu` maps and frees it, but for one page never used, so that a purge
    takes it off that CPU's list; meanwhile the task there puts a new block on the same list.
    """
    purger = "purge_fragmented_block" if issubclass(version, V6_5) else "purge_fragmented_blocks"
    pieces = (map_(0, 4), map_(1, 2), map_(2, 1), unmap(0), unmap(1), unmap(2))
    return scripted(
        version,
        on(cpu, *pieces, PAUSE, map_(3, 4)),
        on(1 - cpu, ALIASES),
        script=[
            Run(1, until_pause),
            Run(1, until_in("new_vmap_block", ev.WRITE, "free_list.next")),
            Run(2, until_in(purger, ev.LOCK, "vbq->lock")),
            Run(2),
        ],
    )


def test_a_block_deleted_under_the_lock_of_the_wrong_list_corrupts_the_list_it_is_on() -> None:
    """Row 42: v6.5 takes the lock of the bucket that it walks; the block is on the list of another CPU."""
    outcome = purged_while_listed(V6_5, 1)
    found = outcome.of(LIST)
    assert {violation.mechanism.role for violation in found} == {"free list of blocks"}
    assert {violation.mechanism.mechanism for violation in found} == {"changed under another list's lock"}
    assert len(outcome.fingerprints(LIST)) == 1


def test_a_block_deleted_under_the_lock_of_its_own_list_does_not() -> None:
    outcome = purged_while_listed(V6_5, 0)
    assert outcome.of(LIST) == [], "owner and bucket are the same CPU here"
    assert purged_while_listed(SetsCpuFirst, 1).of(LIST) == [], "vb->cpu says whose list it is on"
    assert purged_while_listed(V6_4, 1).of(LIST) == [], "it walks the list whose lock it takes"


# -- lock discipline --------------------------------------------------------------------------------------------------

LOCKS = "lock-discipline"
FULL_WINDOW = (map_(0, 8), map_(1, 8), map_(2, 8))


def test_an_overflow_that_forgets_to_unlock_returns_with_the_mutex_held() -> None:
    outcome = alone(ForgetsUnlock, *FULL_WINDOW, window_blocks=2)
    assert ("vmap_purge_lock", "still held when the call returns") in outcome.stories(LOCKS)


def test_an_overflow_that_unlocks_is_clean() -> None:
    outcome = alone(V6_4, *FULL_WINDOW, window_blocks=2)
    assert outcome.returned("vm_map_ram") == [0, 8, -1]
    assert outcome.checks == set()


def test_a_mutex_taken_with_a_spinlock_held_may_sleep_while_atomic() -> None:
    outcome = alone(SleepsUnderSpinlock, ALIASES)
    assert ("mutex_lock", "may sleep while atomic") in outcome.stories(LOCKS)
    assert "vbq->lock" in outcome.of(LOCKS)[0].message


def test_a_mutex_taken_inside_an_rcu_reader_section_sleeps_there() -> None:
    """might_sleep looks at the RCU nesting too; only being preempted is allowed in a reader."""
    outcome = alone(SleepsInReader, ALIASES)
    assert ("mutex_lock", "may sleep in an RCU reader section") in outcome.stories(LOCKS)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_vm_unmap_aliases_of_the_kernel_sleeps_only_where_it_may(version: type[V6_4]) -> None:
    outcome = alone(version, map_(0, 4), map_(1, 2), unmap(0), map_(2, 8), unmap(2), ALIASES)
    assert outcome.of(LOCKS) == []
    assert outcome.events(ev.MIGHT_SLEEP)


def test_a_purge_without_the_mutex_is_caught_by_the_assertion() -> None:
    program = (map_(0, 8), unmap(0))
    assert alone(PurgesWithoutMutex, *program, lazy_max=4).stories(LOCKS) == {
        ("vmap_purge_lock", "asserted but not held")
    }
    assert alone(V6_4, *program, lazy_max=4).checks == set()


# -- deadlock ---------------------------------------------------------------------------------------------------------


def locked_both_ways(version: type[V6_4], *script: Run) -> Outcome:
    """Task 1 takes the last pages of a block; task 2 purges."""
    return scripted(
        version, on(0, map_(0, 4), PAUSE, map_(1, 4)), on(1, ALIASES), script=[Run(1, until_pause), *script]
    )


WANTS_LIST = Run(1, until_in("vb_alloc", ev.LOCK, "vbq->lock"))


def test_two_locks_taken_both_ways_round_end_in_a_deadlock() -> None:
    wants_block = Run(2, until_in("purge_fragmented_blocks", ev.LOCK, "vb->lock"))
    outcome = locked_both_ways(LocksListFirst, wants_block, WANTS_LIST)
    assert outcome.reason == DEADLOCK
    found = outcome.only("deadlock")
    assert found.mechanism.role == "vb->lock and vbq->lock"
    assert found.mechanism.mechanism == "tasks wait for each other in a circle"
    assert "held by worker/1" in found.message


def test_a_flush_under_a_spinlock_that_a_deaf_cpu_spins_on_is_a_circle_of_three() -> None:
    """A lock, an answer and a CPU: CPU 1 would answer if its task had the lock, that would be free after the answer."""
    program = (on(0, ALIASES), on(1, map_(0, 1)))
    outcome = scripted(FlushesUnderSpinlock, *program, script=[Run(1, until_kind(ev.IPI_SEND)), Run(2), Run(1)])
    assert outcome.reason == DEADLOCK
    found = outcome.only("deadlock")
    assert found.mechanism.text() == (
        "deadlock | irq + vm_map_ram + vm_unmap_aliases | a CPU and answers to a TLB flush and vbq->lock "
        "| tasks wait for each other in a circle | holding vbq->lock"
    )
    assert "waits for answers to a TLB flush, owed by irq/1" in found.message
    assert scripted(FlushesUnderSpinlock, *program, script=[Run(1), Run(2)]).of("deadlock") == []


def test_the_same_two_locks_one_task_after_the_other_are_none() -> None:
    outcome = locked_both_ways(LocksListFirst, Run(1), Run(2))
    assert outcome.of("deadlock") == []


def test_two_locks_taken_both_ways_round_are_told_though_nobody_waited() -> None:
    """Task 1 uses one block up and begins another, which task 2 then looks at."""
    program = (on(0, map_(0, 4), map_(1, 4), map_(2, 1)), on(1, ALIASES))
    outcome = scripted(LocksListFirst, *program, script=[Run(1), Run(2)])
    assert not outcome.events(ev.LOCK_WAIT)
    found = outcome.only(LOCKS)
    assert found.mechanism.role == "vbq->lock inside vb->lock inside vbq->lock"
    assert "wants vb->lock while it holds vbq->lock" in found.message
    assert scripted(V6_4, *program, script=[Run(1), Run(2)]).of(LOCKS) == []


def test_a_lock_never_released_leaves_others_waiting_for_what_nobody_will_do() -> None:
    outcome = scripted(ForgetsUnlock, on(0, *FULL_WINDOW), on(1, ALIASES), script=[Run(1), Run(2)], window_blocks=2)
    assert outcome.reason == DEADLOCK
    assert outcome.only("deadlock").mechanism.mechanism == "wait for what nobody will do"


def test_a_task_that_waits_for_one_that_can_run_is_no_deadlock() -> None:
    outcome = scripted(
        V6_4,
        on(0, map_(0, 4), unmap(0), ALIASES),
        on(1, ALIASES),
        script=[Run(1, until_in("purge_fragmented_blocks", ev.LOCK, "vbq->lock")), Run(2)],
    )
    assert outcome.events(ev.LOCK_WAIT)
    assert outcome.checks == set()


# -- the code's own warnings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [V6_4, Rfc3of3, V6_5])
def test_a_bucket_index_used_as_a_cpu_id_warns_on_a_sparse_possible_mask(version: type[V6_4]) -> None:
    """Row 43: CPUs 0 and 2 are possible, and the second block's bucket is that of CPU 1."""
    two_blocks = (map_(0, 4), map_(1, 4), map_(2, 4))
    sparse = alone(version, *two_blocks, possible=(0, 2))
    assert {violation.check for violation in sparse.violations} >= {"kernel-bug"}
    assert all("a CPU that is not possible" in found.message for found in sparse.of("kernel-bug"))
    assert alone(version, *two_blocks).of("kernel-bug") == []


@pytest.mark.parametrize("version", [V6_1, V6_12])
def test_with_one_index_or_a_hash_of_possible_cpus_it_is_no_matter(version: type[V6_4]) -> None:
    outcome = alone(version, map_(0, 4), map_(1, 4), map_(2, 4), map_(3, 2), unmap(2), ALIASES, possible=(0, 2))
    assert outcome.checks == set()


def test_what_lies_in_such_a_bucket_is_not_walked() -> None:
    program = (map_(0, 4), map_(1, 4), map_(2, 4), map_(3, 2), unmap(2), ALIASES)
    missed = alone(V6_5, *program, possible=(0, 2)).stories("stale-after-unmap-aliases")
    assert {role for role, _ in missed} == {"block on the free list"}
    assert alone(V6_5, *program).checks == set()


def test_one_failed_preload_of_a_spare_area_is_made_good_under_the_lock() -> None:
    """A hole is split in three, at each of the two. Two failures in a row warn, as in the kernel; a single fault never
    makes those.
    """
    split = (map_(0, 5), map_(1, 1))
    for number in range(6):
        assert alone(V6_4, *split, faults=[Fault(KMEM_CACHE_ALLOC, 1, number)]).checks == set()
    for number in (1, 3):
        twice = [Fault(KMEM_CACHE_ALLOC, 1, number), Fault(KMEM_CACHE_ALLOC, 1, number + 1)]
        warned = alone(V6_4, *split, faults=twice)
        assert [found.mechanism.mechanism for found in warned.of("kernel-bug")] == ["WARN_ON(ret)"]
