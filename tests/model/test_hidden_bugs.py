# SPDX-License-Identifier: GPL-2.0-only
"""Bugs that once hid: behind a declared finding, behind books that agreed, or where nobody looked. Each is news now."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from stressvmap.config import RunSpec
from stressvmap.kernel.areas import VmapArea
from stressvmap.kernel.function import kernel_function, kernel_function_named
from stressvmap.kernel.lists import ListHead, list_add_tail, list_del_rcu
from stressvmap.kernel.xarray import XArray
from stressvmap.ranges import PAGE_SHIFT
from stressvmap.scenario import Scenario
from stressvmap.stress.engine import Engine
from stressvmap.vmalloc.base import Vmalloc
from stressvmap.vmalloc.structs import VmapBlock, VmapBlockQueue, VmStruct
from stressvmap.vmalloc.v6_4 import V6_4
from stressvmap.vmalloc.v6_5 import V6_5
from tests.model.world import ALIASES, Outcome, alone, map_, unmap, vfree, vmalloc_reset


def news(outcome: Outcome, version: type[Vmalloc]) -> set[str]:
    """Mechanisms that the version does not declare."""
    known = {known.fingerprint for known in version.known}
    return {found.mechanism.mechanism for found in outcome.violations if found.fingerprint not in known}


class LeavesOutABucket(V6_5):
    """The walk of _vm_unmap_aliases leaves out the bucket of the highest possible CPU."""

    @kernel_function
    def _vm_unmap_aliases(self, start: int, end: int, flush: bool) -> None:
        possible = self.machine.possible
        self.machine.possible = possible[:-1]
        super()._vm_unmap_aliases(start, end, flush)
        self.machine.possible = possible


def test_a_bucket_left_out_of_the_walk_is_not_the_sparse_mask_again() -> None:
    blocks = [map_(slot, 4) for slot in range(8)]
    outcome = alone(LeavesOutABucket, *blocks, *(unmap(slot) for slot in range(0, 8, 2)), ALIASES, cpus=2)
    assert "never visited" in news(outcome, LeavesOutABucket)


class NeverFreesTheDead(V6_5):
    """The last vb_free latches the block, and forgets to free it."""

    @kernel_function
    def free_vmap_block(self, vb: VmapBlock) -> None:
        return None


class NeverFreesThePurged(NeverFreesTheDead):
    """The same with a purge that sets dirty before free."""

    @kernel_function
    def purge_fragmented_block(
        self, vb: VmapBlock, vbq: VmapBlockQueue, purge_list: ListHead, force_purge: bool
    ) -> bool:
        if vb.free + vb.dirty != self.VMAP_BBMAP_BITS or vb.dirty == self.VMAP_BBMAP_BITS:
            return False
        vb.WRITE_ONCE("dirty", self.VMAP_BBMAP_BITS)
        vb.WRITE_ONCE("free", 0)
        vb.dirty_min = 0
        vb.dirty_max = self.VMAP_BBMAP_BITS
        with vbq.lock:
            list_del_rcu(vb.free_list)
        list_add_tail(vb.purge, purge_list)
        return True


def test_a_dead_block_that_is_never_freed_is_a_leak() -> None:
    outcome = alone(NeverFreesTheDead, map_(0, 4), map_(1, 4), unmap(0), unmap(1))
    assert "leak" in {found.check for found in outcome.violations}


def test_a_purged_block_that_is_never_freed_is_no_dying_block() -> None:
    outcome = alone(NeverFreesThePurged, map_(0, 4), unmap(0), ALIASES)
    roles = {found.mechanism.role for found in outcome.violations if found.check == "stale-after-unmap-aliases"}
    assert roles == {"purged block"}


class InsertsBusyUnlocked(V6_4):
    """find_unlink_vmap_area without vmap_area_lock."""

    @kernel_function
    def find_unlink_vmap_area(self, addr: int) -> VmapArea | None:
        va = self.vmap_area_root.find(addr)
        if va is not None:
            self.vmap_area_root.erase(va)
        return va


class DetachesUnlocked(V6_5):
    """__purge_vmap_area_lazy under the wrong lock."""

    @kernel_function_named("__purge_vmap_area_lazy")
    def _purge_vmap_area_lazy(self, start: int, end: int) -> bool:
        lock, self.purge_vmap_area_lock = self.purge_vmap_area_lock, self.vmap_area_lock
        answer = super()._purge_vmap_area_lazy(start, end)
        self.purge_vmap_area_lock = lock
        return answer


@pytest.mark.parametrize("version", [InsertsBusyUnlocked, DetachesUnlocked])
def test_a_tree_changed_without_its_lock_is_seen_in_a_single_task(version: type[Vmalloc]) -> None:
    assert "asserted but not held" in news(alone(version, map_(0, 6), unmap(0), ALIASES), version)


class MapsOnePageLess(V6_5):
    """vm_map_ram forgets the last page, and nobody tells the caller."""

    @kernel_function
    def vm_map_ram(self, pages: Sequence[int], count: int) -> int:
        return super().vm_map_ram(pages[:-1], count) if count > 1 else super().vm_map_ram(pages, count)


def test_a_mapping_returned_with_a_page_not_mapped() -> None:
    assert "returned a range that is not wholly mapped" in news(alone(MapsOnePageLess, map_(0, 3)), MapsOnePageLess)
    assert alone(V6_5, map_(0, 3)).checks == set()


class NeverRestoresTheDirectMap(V6_5):
    """vm_reset_perms leaves its pages out of the direct map."""

    @kernel_function
    def vm_reset_perms(self, area: VmStruct) -> None:
        for frame in area.pages:
            self.memory.set_direct_map_invalid_noflush(frame)
        self._vm_unmap_aliases(area.addr, area.addr + area.size, True)
        for frame in area.pages:
            addr = self.memory.page_address(frame)
            self.memory.flush_tlb_kernel_range(addr, addr + (1 << PAGE_SHIFT))


class FreesPagesFirst(V6_5):
    """vfree gives the pages back before it resets their permissions."""

    @kernel_function
    def vm_reset_perms(self, area: VmStruct) -> None:
        for frame in area.pages:
            self.kernel.frames.free(frame)
        super().vm_reset_perms(area)
        area.pages = []


class KeepsPages(V6_5):
    """vfree forgets to give the pages back."""

    @kernel_function
    def vm_reset_perms(self, area: VmStruct) -> None:
        super().vm_reset_perms(area)
        area.pages = []


@pytest.mark.parametrize(
    ("version", "mechanism"),
    [
        (NeverRestoresTheDirectMap, "pages still missing from the direct map"),
        (FreesPagesFirst, "WARN_ON"),
        (KeepsPages, "page frames that nobody gave back"),
    ],
)
def test_what_a_reset_owes_to_the_pages_themselves(version: type[Vmalloc], mechanism: str) -> None:
    outcome = alone(version, vmalloc_reset(0, 2), vfree(0))
    told = {text for found in outcome.violations for text in (found.mechanism.mechanism, found.mechanism.role)}
    assert mechanism in told
    assert alone(V6_5, vmalloc_reset(0, 2), vfree(0)).checks == set()


class WalksWithoutRcu(V6_5):
    """vb_alloc walks its list outside an RCU reader section."""

    @kernel_function
    def vb_alloc(self, size: int) -> int:
        rcu = self.rcu
        rcu.read_lock, rcu.read_unlock = _nothing, _nothing  # type: ignore[method-assign]
        try:
            return super().vb_alloc(size)
        finally:
            del rcu.read_lock, rcu.read_unlock


def _nothing() -> None:
    return None


def test_an_rcu_walk_outside_a_reader_section_is_seen_at_once() -> None:
    outcome = alone(WalksWithoutRcu, map_(0, 1), map_(1, 1))
    assert "RCU-list traversed in non-reader section" in news(outcome, WalksWithoutRcu)


class SwapsTheHull(V6_5):
    """Computes 0 and ULONG_MAX for an empty range, and flushes that."""

    @kernel_function
    def vm_unmap_aliases(self) -> None:
        super().vm_unmap_aliases()
        self.memory.flush_tlb_kernel_range(0, (1 << 64) - 1)


def test_a_flush_computed_as_everything_is_senseless() -> None:
    outcome = alone(SwapsTheHull, map_(0, 1), unmap(0), ALIASES)
    assert "flush-range-sanity" in {found.check for found in outcome.violations}


class HashesByOnlineCpus(V6_4):
    """addr_to_vb_xa takes the number of online CPUs, which changes, for that of possible ones."""

    def addr_to_vb_xa(self, addr: int) -> XArray[VmapBlock]:
        index = (addr // self.VMAP_BLOCK_SIZE) % len(self.machine.online)
        return self.vmap_block_queue.per_cpu(self.machine.possible[index]).vmap_blocks


def hotplugged(version: str, executions: int) -> Engine:
    scenario = Scenario(cpus=3, tasks_per_cpu=2, operations=6, hotplug_rate=0.2)
    engine = Engine(RunSpec(version=version, runtime="controlled", scenario=scenario, schedules=executions), None)
    while not engine.is_over(0.0):
        engine.step()
    engine.finish()
    return engine


def test_a_hash_that_changes_with_the_online_cpus_is_found_by_hotplug() -> None:
    engine = hotplugged(f"{__file__}:HashesByOnlineCpus", 20)
    assert "kernel-bug" in {finding.check for finding in engine.tally.findings.values() if not finding.known}


def test_cpus_that_come_and_go_break_nothing_in_a_good_version() -> None:
    engine = hotplugged("v6.5", 40)
    assert [finding.message for finding in engine.tally.findings.values() if not finding.known] == []
    assert engine.tally.gave_up == 0
