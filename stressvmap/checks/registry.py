# SPDX-License-Identifier: GPL-2.0-only
"""Which checks there are, in the contract's order, and how a run makes its set of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from stressvmap.checks.accounting import Accounting
from stressvmap.checks.base import Check
from stressvmap.checks.data_race import DataRace
from stressvmap.checks.deadlock import Deadlock
from stressvmap.checks.efficiency import DoubleCount, ExcessFlush, LockHold, ReFlush
from stressvmap.checks.flush_range_sanity import FlushRangeSanity
from stressvmap.checks.kernel_bug import KernelBug
from stressvmap.checks.leak import Leak
from stressvmap.checks.list_corruption import ListCorruption
from stressvmap.checks.livelock import Livelock
from stressvmap.checks.lock_discipline import LockDiscipline
from stressvmap.checks.overlapping_mapping import OverlappingMapping
from stressvmap.checks.range_computed_unlocked import RangeComputedUnlocked
from stressvmap.checks.reuse_before_flush import ReuseBeforeFlush
from stressvmap.checks.stale_access import StaleAccess
from stressvmap.checks.stale_after_unmap_aliases import StaleAfterUnmapAliases
from stressvmap.checks.state import State
from stressvmap.checks.uninitialised_read import UninitialisedRead
from stressvmap.checks.use_after_free import UseAfterFree
from stressvmap.errors import ConfigError

CHECK_NAMES: Final = (
    "stale-after-unmap-aliases",
    "reuse-before-flush",
    "stale-access",
    "overlapping-mapping",
    "use-after-free",
    "list-corruption",
    "accounting",
    "leak",
    "flush-range-sanity",
    "range-computed-unlocked",
    "lock-discipline",
    "deadlock",
    "livelock",
    "uninitialised-read",
    "data-race",
    "kernel-bug",
    "excess-flush",
    "re-flush",
    "double-count",
    "lock-hold",
)
"""The contract's names, in its order."""

EFFICIENCY_NAMES: Final = ("excess-flush", "re-flush", "double-count", "lock-hold")


def all_checks(state: State, limits: Mapping[str, float] | None = None, only: Collection[str] = ()) -> list[Check]:
    """The checks of this release that share `state`, in the contract's order; `only` keeps those named (empty: all).

    `limits` are a scenario's efficiency limits. An unknown name in `only` raises ConfigError.
    """
    for name in only:
        if name not in CHECK_NAMES:
            raise ConfigError(f"--check: {name!r} is not one of {', '.join(CHECK_NAMES)}")
    limit_of = limits or {}
    checks: list[Check] = [
        StaleAfterUnmapAliases(state),
        ReuseBeforeFlush(state),
        StaleAccess(state),
        OverlappingMapping(state),
        UseAfterFree(state),
        ListCorruption(state),
        Accounting(state),
        Leak(state),
        FlushRangeSanity(state),
        RangeComputedUnlocked(state),
        LockDiscipline(state),
        Deadlock(state),
        Livelock(state),
        UninitialisedRead(state),
        DataRace(state),
        KernelBug(state),
        ExcessFlush(state, limit_of.get("excess-flush")),
        ReFlush(state, limit_of.get("re-flush")),
        DoubleCount(state, limit_of.get("double-count")),
        LockHold(state, limit_of.get("lock-hold")),
    ]
    return [check for check in checks if not only or check.NAME in only]
