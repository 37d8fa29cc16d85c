# SPDX-License-Identifier: GPL-2.0-only
"""A second way to miss a flush, planted beside the known one, comes out under a fingerprint of its own."""

from __future__ import annotations

from stressvmap.vmalloc.v6_4 import V6_4
from tests.model.mutants import LeavesOutCpu1
from tests.model.test_flush_ranges import randomly
from tests.model.world import ALIASES, alone, map_, on, scripted, unmap

STALE = "stale-after-unmap-aliases"


def stale_fingerprints(version: type[V6_4]) -> set[str]:
    fired, _ = randomly(version, 100, vmalloc_rate=0.0, fault_rate=0.0)
    return {fingerprint for check, fingerprint in fired if check == STALE}


def test_a_planted_missed_flush_is_news_while_the_full_block_stays_known() -> None:
    (full_block,) = alone(V6_4, map_(0, 4), map_(1, 4), unmap(0), ALIASES).fingerprints(STALE)
    (left_out,) = scripted(LeavesOutCpu1, on(1, map_(0, 4), map_(1, 2), unmap(0), ALIASES)).fingerprints(STALE)
    v6_4 = stale_fingerprints(V6_4)
    planted = stale_fingerprints(LeavesOutCpu1)
    assert full_block in v6_4 & planted
    assert planted - v6_4 == {left_out}
