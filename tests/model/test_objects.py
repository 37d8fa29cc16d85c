# SPDX-License-Identifier: GPL-2.0-only
"""use-after-free, uninitialised-read, accounting and leak on model code."""

from __future__ import annotations

import pytest

from stressvmap.journal import events as ev
from stressvmap.kernel.function import kernel_function
from stressvmap.kernel.slab import XA_INSERT
from stressvmap.program import Fault, Program, ProgramOp
from stressvmap.runtime.task import Task
from stressvmap.sched.replay import Run
from stressvmap.sched.sequential import SequentialRuntime
from stressvmap.stress.judge import judge
from stressvmap.vmalloc.backend import ModelBackend, Slot
from stressvmap.vmalloc.planted import FreesWithoutGracePeriod, WalksDyingBlocks
from stressvmap.vmalloc.v6_4 import V6_4
from stressvmap.vmalloc.v6_5 import V6_5
from tests.model.mutants import (
    CountsPagesNotOrder,
    FindsThenUnlinks,
    LeaksBlock,
    LeaksFailedArea,
    LeaksVmStruct,
    LosesLazyCount,
    PublishesBeforeCpu,
    SetsCpuFirst,
    WalksOutsideRcu,
    WidensUpwardsOnly,
)
from tests.model.world import (
    ALIASES,
    PAUSE,
    RCU,
    VERSIONS,
    Outcome,
    Until,
    alone,
    map_,
    nth,
    on,
    scenario,
    scripted,
    unmap,
    until_in,
    until_pause,
    vfree,
    vmalloc,
)

FREED = "use-after-free"


class FreesStructFirst(V6_4):
    """vfree gives the vm_struct back before it has read the pages from it."""

    @kernel_function
    def vfree(self, addr: int) -> None:
        vm = self.remove_vm_area(addr)
        assert vm is not None
        vm.kfree()
        for frame in vm.pages:
            self.kernel.frames.free(frame)


# -- use after free ---------------------------------------------------------------------------------------------------

PURGEABLE = (map_(0, 4), unmap(0))


def purged_under_a_walker(version: type[V6_4], *before: Run) -> Outcome:
    """Task 1 walks and stops on a block before it locks it; task 2 purges the block and gives its area back."""
    return scripted(
        version,
        on(0, *PURGEABLE, PAUSE, ALIASES),
        on(1, ALIASES),
        script=[
            Run(1, until_pause),
            *before,
            Run(1, until_in("_vm_unmap_aliases", ev.LOCK, "vb->lock")),
            Run(2),
        ],
    )


def test_a_vm_struct_read_after_it_was_freed_is_seen() -> None:
    found = alone(FreesStructFirst, vmalloc(0, 1), vfree(0)).only(FREED)
    assert (found.mechanism.role, found.mechanism.mechanism) == ("freed vm_struct", "reads pages")


def test_a_walk_without_the_test_for_death_reads_a_recycled_area() -> None:
    """Row 28: RCU keeps the block, not its area, which is freed or, as here, means other addresses by now."""
    outcome = purged_under_a_walker(WalksDyingBlocks)
    found = outcome.of(FREED)[0]
    assert "vmap_area" in found.mechanism.role
    assert "va_start" in found.mechanism.mechanism
    assert found.mechanism.calls == ("vm_unmap_aliases",)


@pytest.mark.parametrize(("version", "is_freed"), [(WalksOutsideRcu, True), (V6_5, False)])
def test_a_walker_that_stands_before_a_blocks_lock_is_a_reader_only_if_it_says_so(
    version: type[V6_5], is_freed: bool
) -> None:
    """spin_lock turns preemption off, which makes a reader, but not before it is called."""
    outcome = scripted(
        version,
        on(0, map_(0, 4), map_(1, 4), unmap(0), PAUSE, unmap(1)),
        on(1, ALIASES),
        script=[
            Run(1, until_pause),
            Run(2, until_in("_vm_unmap_aliases", ev.LOCK, "vb->lock")),
            Run(1),
            Run(RCU),
            Run(2),
        ],
    )
    freed = [(found.mechanism.role, found.mechanism.mechanism) for found in outcome.of(FREED)]
    assert freed[:1] == ([("freed vmap_block", "locks vb->lock")] if is_freed else [])


def test_an_area_that_lives_on_in_the_free_tree_is_told_from_one_that_went_back_to_the_slab() -> None:
    """Next to free space it is absorbed and its struct freed; between two busy areas it is recycled."""
    absorbed = purged_under_a_walker(WalksDyingBlocks)
    recycled = scripted(
        WalksDyingBlocks,
        on(0, map_(2, 8), map_(0, 4), PAUSE, unmap(0), PAUSE, ALIASES),
        on(1, map_(1, 4), PAUSE, ALIASES),
        script=[
            Run(1, until_pause),
            Run(2, until_pause),
            Run(1, until_pause),
            Run(1, until_in("_vm_unmap_aliases", ev.LOCK, "vb->lock")),
            Run(2),
        ],
    )
    assert {role for role, _ in absorbed.stories(FREED)} == {"freed vmap_area"}
    assert {role for role, _ in recycled.stories(FREED)} == {"recycled vmap_area"}
    assert "KASAN would be silent" in recycled.of(FREED)[0].message


def test_v6_4_tests_for_death_and_reads_no_dead_area() -> None:
    assert purged_under_a_walker(V6_4).checks == set()


def readers(version: type[V6_4]) -> Outcome:
    """Task 1 stands on a block in its walk; task 2 purges it, as a reader of its own that leaves; task 1 goes on."""
    return scripted(
        version,
        on(0, *PURGEABLE, PAUSE, ALIASES),
        on(1, ALIASES),
        script=[
            Run(1, until_pause),
            Run(1, until_in("_vm_unmap_aliases", ev.LOCK, "vb->lock")),
            Run(2),
            Run(RCU),
            Run(1),
        ],
    )


def test_a_block_given_to_kfree_rcu_lives_on_under_an_older_reader_while_a_newer_one_has_left() -> None:
    outcome = readers(V6_4)
    assert outcome.checks == set()
    events = outcome.journal.events
    freed = next(n for n, e in enumerate(events) if e[0] == ev.OBJECT_FREE and e[5] == "vmap_block")
    left = [n for n, e in enumerate(events) if e[0] == ev.RCU_READ_UNLOCK and e[6] == 0]
    queued = next(n for n, e in enumerate(events) if e[0] == ev.KFREE_RCU)
    assert any(events[n][1] == 2 and queued > n for n in left), "the newer reader left before"
    assert any(events[n][1] == 1 and queued < n < freed for n in left), "the older one in between"


def test_a_block_freed_without_a_grace_period_is_touched_by_the_older_reader() -> None:
    outcome = readers(FreesWithoutGracePeriod)
    assert ("freed vmap_block", "locks vb->lock") in outcome.stories(FREED)


# -- double unmap -----------------------------------------------------------------------------------------------------


def unmapped_twice(version: type[V6_4], moment: Until, *after: ProgramOp) -> Outcome:
    """Two callers unmap one large mapping: a bug of theirs. The second one comes at `moment` of the first's call."""
    return scripted(
        version,
        on(0, map_(0, 8), PAUSE, unmap(0)),
        on(1, unmap(0), *after),
        script=[Run(1, until_pause), Run(1, moment), Run(2)],
        prepare=keep_taken_slots,
    )


def keep_taken_slots(backend: ModelBackend) -> None:
    """A slot that was taken can be taken once more."""
    take = backend._take
    taken: set[int] = set()

    def take_and_leave(number: int, *, is_vmalloc: bool) -> Slot | None:
        slot = take(number, is_vmalloc=is_vmalloc)
        if slot is not None and number not in taken:
            taken.add(number)
            backend._slots[number] = slot
        return slot

    backend._take = take_and_leave  # type: ignore[method-assign]


def test_an_area_found_by_two_callers_before_either_unlinks_it_is_freed_twice() -> None:
    """Row 33."""
    outcome = unmapped_twice(FindsThenUnlinks, found_but_not_unlinked())
    assert ("vmap_lazy_nr", "vmap_lazy_nr differs from the lazy pages") in outcome.stories("accounting")


def test_an_area_unlinked_after_it_was_freed_and_purged_is_touched_when_dead() -> None:
    outcome = unmapped_twice(FindsThenUnlinks, found_but_not_unlinked(), ALIASES)
    assert ("vm_unmap_ram",) in {violation.mechanism.calls for violation in outcome.of(FREED)}


def found_but_not_unlinked() -> Until:
    return nth(2, until_in("find_unlink_vmap_area", ev.LOCK, "vmap_area_lock"))


def test_an_atomic_look_up_and_unlink_warns_the_second_caller_and_breaks_nothing() -> None:
    outcome = unmapped_twice(V6_4, until_in("free_unmap_vmap_area", ev.READ, "va_start"), ALIASES)
    assert outcome.checks == {"kernel-bug"}
    first, *others = [found.mechanism.mechanism for found in outcome.of("kernel-bug")]
    assert first == "no area at that address"
    assert set(others) <= {"a page is freed that nobody owns"}  # the caller's own double free of its pages


# -- uninitialised reads ----------------------------------------------------------------------------------------------


def collected_while_published(version: type[V6_5]) -> Outcome:
    """Task 1 has put a new block into the index, no more; task 2's walk finds it."""
    return scripted(
        version,
        on(0, map_(0, 2)),
        on(1, ALIASES),
        script=[Run(1, until_in("new_vmap_block", ev.XA_STORE)), Run(1, until_stored), Run(2)],
    )


def until_stored(task: Task) -> bool:
    """The store into the index is done: the next operation is another one."""
    return task.pending_kind != ev.XA_STORE


def test_a_block_indexed_before_its_cpu_is_set_is_read_too_early() -> None:
    """Row 44."""
    outcome = collected_while_published(PublishesBeforeCpu)
    assert outcome.stories("uninitialised-read") == {("vmap_block", "cpu read before it was written")}


def test_a_block_whose_cpu_is_set_before_it_is_indexed_is_not() -> None:
    outcome = collected_while_published(SetsCpuFirst)
    assert outcome.checks == set()
    found = [event for event in outcome.events(ev.READ) if event[5] == "cpu"]
    assert found, "the walk did read it"


# -- books ------------------------------------------------------------------------------------------------------------


def test_pages_accounted_where_slots_were_taken_do_not_add_up() -> None:
    outcome = alone(CountsPagesNotOrder, map_(0, 3), unmap(0))
    assert ("vmap_block", "live + free + dirty is not the block's size") in outcome.stories("accounting")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_size_is_rounded_to_its_order_when_allocated_and_when_freed(version: type[V6_4]) -> None:
    outcome = alone(version, map_(0, 3), unmap(0), map_(1, 1), unmap(1))
    assert outcome.returned("vm_map_ram") == [0, 4], "3 pages took 4 slots"
    assert outcome.of("accounting") == []


def audited_between(version: type[V6_4], *operations: ProgramOp) -> set[tuple[str, str]]:
    """What accounting says of an audit right after the operations, before anything is cleaned up."""
    runtime = SequentialRuntime()
    backend = ModelBackend(version, scenario(), runtime)
    backend.reset(Program((on(0, *operations),)))
    runtime.run()
    backend.vmalloc.audit("between")
    verdict, _ = judge(backend.journal(), ["accounting"])
    return {(found.mechanism.role, found.mechanism.mechanism) for found in verdict.violations}


def test_an_unflushed_page_outside_the_dirty_range_is_seen_between_operations() -> None:
    downwards = (map_(0, 1), map_(1, 1), map_(2, 1), unmap(1), unmap(0))
    assert audited_between(WidensUpwardsOnly, *downwards) == {("vmap_block", "unflushed page outside the dirty range")}
    stale = alone(WidensUpwardsOnly, *downwards, ALIASES)
    assert stale.stories("stale-after-unmap-aliases") == {
        ("block on the free list", "visited, but its dirty range left the page out")
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_the_books_of_a_block_agree_after_every_operation(version: type[V6_4]) -> None:
    operations = (
        *(map_(0, 1), map_(1, 3), unmap(0), unmap(1), ALIASES, map_(2, 4), map_(3, 2), map_(4, 2)),
        *(unmap(3), ALIASES, unmap(2), unmap(4), ALIASES, map_(5, 1)),
    )
    for count in range(len(operations) + 1):
        assert audited_between(version, *operations[:count]) == set()


def test_a_lazy_count_that_is_not_lowered_is_wrong_at_rest() -> None:
    outcome = alone(LosesLazyCount, map_(0, 8), unmap(0))
    assert outcome.stories("accounting") == {("vmap_lazy_nr", "vmap_lazy_nr differs from the lazy pages")}
    assert alone(V6_4, map_(0, 8), unmap(0)).checks == set()


# -- leaks ------------------------------------------------------------------------------------------------------------


def test_a_block_that_is_never_freed_is_a_leak() -> None:
    outcome = alone(LeaksBlock, map_(0, 4), unmap(0))
    assert outcome.stories("leak") == {("vmap_block", "allocated, and nothing leads to it")}
    assert alone(V6_4, map_(0, 4), unmap(0)).checks == set()


def test_an_area_forgotten_when_the_index_has_no_memory_is_a_leak() -> None:
    fault = Fault(XA_INSERT, 1, 0)
    outcome = alone(LeaksFailedArea, map_(0, 4), faults=[fault])
    assert "leak" in outcome.checks
    assert alone(V6_4, map_(0, 4), faults=[fault]).checks == set()


def test_a_vm_struct_that_vfree_forgets_is_a_leak() -> None:
    outcome = alone(LeaksVmStruct, vmalloc(0, 2), vfree(0))
    assert "leak" in outcome.checks
    assert alone(V6_4, vmalloc(0, 2), vfree(0)).checks == set()
