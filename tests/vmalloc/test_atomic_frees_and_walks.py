# SPDX-License-Identifier: GPL-2.0-only
"""vfree_atomic, whose vfree a work does, and readers of /proc/vmallocinfo."""

from __future__ import annotations

import pytest

from stressvmap.journal import events as ev
from stressvmap.vmalloc.v6_1 import V6_1
from stressvmap.vmalloc.v6_4 import V6_4
from stressvmap.vmalloc.v6_12 import V6_12
from tests.model.world import (
    VERSIONS,
    WALK,
    Outcome,
    alone,
    map_,
    news_of,
    scenario,
    vfree_atomic,
    vmalloc,
    vmalloc_reset,
)

KWORKERS = 2000
"""Tasks of at least this number serve the workqueue."""


class FreesAtOnce(V6_12):
    """A vfree_atomic that forgets what it is for."""

    NAME = "frees-at-once"

    def vfree_atomic(self, addr: int) -> None:
        self.vfree(addr)


class LosesTheSecond(V6_12):
    """A list that was not empty is thrown away."""

    NAME = "loses-the-second"

    def vfree_atomic(self, addr: int) -> None:
        deferred = self.vfree_deferred.raw_cpu_ptr()
        if not deferred.llist_add(addr):
            deferred.llist_del_all()
        self.kernel.workqueue.schedule_work(deferred.wq)


class WalksUnlocked(V6_1):
    """A reader of /proc/vmallocinfo that takes no lock."""

    NAME = "walks-unlocked"

    def show_vmallocinfo(self) -> None:
        for va in self.vmap_area_root.areas():
            self.show_area(va)


class WalksNodesUnlocked(V6_12):
    """The same where there are nodes."""

    NAME = "walks-nodes-unlocked"

    def show_vmallocinfo(self) -> None:
        for vn in self.vmap_nodes:
            for va in vn.busy.areas():
                self.show_area(va)


def freed_by(outcome: Outcome) -> list[int]:
    """Who gave frames back, in order."""
    return [event[1] for event in outcome.events(ev.FRAME_OWNER) if not event[6]]


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.NAME)
def test_a_work_frees_what_was_freed_where_one_must_not_sleep(version: type[V6_4]) -> None:
    outcome = alone(version, vmalloc(0, 2), vmalloc(1, 1), vfree_atomic(0), vfree_atomic(1))
    assert outcome.checks == set()
    assert len(freed_by(outcome)) == 3
    assert all(task >= KWORKERS for task in freed_by(outcome))
    assert len(outcome.events(ev.WORK_BEGIN)) == 1, "it was queued by the first, and took both"


def test_what_resets_permissions_is_not_freed_so() -> None:
    outcome = alone(V6_12, vmalloc_reset(0, 1), vfree_atomic(0))
    assert outcome.checks == set()
    assert not outcome.events(ev.WORK_BEGIN), "the slot was left as it was, and cleaned up by a vfree"


def test_a_free_that_sleeps_there_is_told() -> None:
    assert alone(FreesAtOnce, vmalloc(0, 1), vfree_atomic(0)).checks == {"lock-discipline"}


def test_an_area_that_nobody_frees_is_a_leak() -> None:
    assert alone(LosesTheSecond, vmalloc(0, 1), vfree_atomic(0)).checks == set()
    assert alone(LosesTheSecond, vmalloc(0, 1), vmalloc(1, 1), vfree_atomic(0), vfree_atomic(1)).checks == {"leak"}


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.NAME)
def test_a_walk_reads_each_area_and_changes_nothing(version: type[V6_4]) -> None:
    plain = alone(version, vmalloc(0, 1), map_(1, 5))
    walked = alone(version, vmalloc(0, 1), map_(1, 5), WALK)
    assert walked.checks == set()
    read = {event[4] for event in walked.events(ev.READ) if event[5] == "vm"}
    assert read - {event[4] for event in plain.events(ev.READ) if event[5] == "vm"}


def found(version: type[V6_4]) -> set[str]:
    """What the checks find in random programs with walkers and atomic frees that the version is not known to break."""
    where = scenario(
        cpus=2, operations=16, slots=3, block_bits=4, max_alloc=1, window_blocks=64, lazy_max=6, vmalloc_rate=0.8,
        walk_rate=0.3, atomic_free_rate=0.5, cross_rate=0.5, fault_rate=0.0,
    )  # fmt: skip
    return news_of(version, where, 12)


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.NAME)
def test_walkers_and_atomic_frees_break_no_version(version: type[V6_4]) -> None:
    assert found(version) == set()


@pytest.mark.parametrize("version", [WalksUnlocked, WalksNodesUnlocked], ids=lambda version: version.NAME)
def test_a_walk_without_the_lock_races_with_who_frees(version: type[V6_4]) -> None:
    assert found(version) == {"data-race"}
