# SPDX-License-Identifier: GPL-2.0-only
"""Counting over any number of executions and processes: how many classes and pairs were seen, and how likely the next
execution is to show a class that was not.

The estimate is Good and Turing's: of N executions, f1 showed a class that no other showed; f1/N estimates the
probability that execution N+1 shows an unseen one (Good 1953; for testing: Böhme, "STADS", TOSEM 2018). It holds for
executions drawn alike and independently, so it is given for each strategy. It is no proof: a class of tiny
probability adds nothing to it, and may hold the bug.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import log, sqrt
from typing import Any, Final

CAPACITY: Final = 1 << 15
"""Classes remembered a strategy: about 3 MB. The error of a sampled count is about 1/sqrt(CAPACITY/2), under 1 %."""
CONFIDENCE: Final = 0.95
NORMAL_QUANTILE: Final = 1.96
"""Of CONFIDENCE, two-sided."""
NORMAL_MIN: Final = 30
"""The normal interval is used if f1 + 2 f2 and N - f1 are at least this."""
NORMAL: Final = "normal"
DISTRIBUTION_FREE: Final = "distribution-free"


class ClassSample:
    """Class hashes, each with how often it was seen: all of them, or those whose low `level` bits are 0.

    Adaptive sampling (Wegman; Flajolet, "On adaptive sampling", Computing 43, 1990): when more than `capacity` are
    held, `level` is raised and half of them go. Which are kept depends on the set of all hashes seen alone, not on
    the order or on who saw them: so merging is exact, and the number of processes changes nothing.

    Invariants: each key's low `level` bits are 0; its count is 1, 2, or 3 for more; there are at most `capacity`.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self.level = 0
        self.counts: dict[int, int] = {}
        self.executions = 0

    def add(self, class_hash: int) -> None:
        """An execution of this class was seen."""
        self.executions += 1
        self._count(class_hash, 1)

    def merge(self, other: ClassSample) -> None:
        """What another process saw was seen as well."""
        self.executions += other.executions
        self._raise_to(max(self.level, other.level))
        for class_hash, count in other.counts.items():
            self._count(class_hash, count)

    def seen_once(self) -> int:
        """Classes held that one execution showed."""
        return sum(count == 1 for count in self.counts.values())

    def seen_twice(self) -> int:
        """Classes held that two executions showed."""
        return sum(count == 2 for count in self.counts.values())

    def distinct(self) -> int:
        """Estimated number of classes; exact while `level` is 0."""
        return len(self.counts) << self.level

    def _count(self, class_hash: int, times: int) -> None:
        if class_hash & ((1 << self.level) - 1):
            return
        counts = self.counts
        counts[class_hash] = min(3, counts.get(class_hash, 0) + times)
        while len(counts) > self.capacity:
            self._raise_to(self.level + 1)
            counts = self.counts

    def _raise_to(self, level: int) -> None:
        if level > self.level:
            self.level = level
            mask = (1 << level) - 1
            self.counts = {class_hash: count for class_hash, count in self.counts.items() if not class_hash & mask}


class Unseen:
    """The probability that the next execution shows a class never seen: estimate, interval at CONFIDENCE, method.

    The interval is Esty's (A normal limit law for a nonparametric estimator of the coverage of a random sample, Ann.
    Statist. 11, 1983): f1/N +- z sqrt((f1/N + 2 f2/N - (f1/N)^2) / N), a limit for f1/N tending to something between
    0 and 1. Where f1 is too near 0 or N for that it is distribution-free and wide: f1/N moves by at most 2/N with one
    execution (McDiarmid 1989), its mean is within 1/N of that of the missing mass, which in turn stays within t of its
    mean but for a probability of exp(-N t^2) on either side (McAllester and Ortiz, JMLR 4, 2003). Both are widened by
    what sampling the classes adds.
    """

    __slots__ = ("estimate", "high", "low", "method")

    def __init__(self, sample: ClassSample) -> None:
        executions = sample.executions
        if executions == 0:
            self.estimate, self.low, self.high, self.method = 1.0, 0.0, 1.0, DISTRIBUTION_FREE
            return
        scale = 1 << sample.level
        held_once = sample.seen_once()
        once = min(held_once * scale, executions)
        twice = sample.seen_twice() * scale
        share = once / executions
        if once + 2 * twice >= NORMAL_MIN and executions - once >= NORMAL_MIN:
            variance = (share + 2 * twice / executions - share * share) / executions
            self.method = NORMAL
            half = NORMAL_QUANTILE * sqrt(variance)
        else:
            tail = log(4 / (1 - CONFIDENCE)) / executions
            self.method = DISTRIBUTION_FREE
            half = sqrt(2 * tail) + sqrt(tail) + 1 / executions
        sampling = NORMAL_QUANTILE * scale * sqrt(held_once * (1 - 1 / scale)) / executions
        half = sqrt(half * half + sampling * sampling)
        self.estimate = share
        self.low = max(0.0, share - half)
        self.high = min(1.0, share + half)


Pairs = dict[int, tuple[int, int]]
"""By pair: the lowest number of an execution that showed it, and how many did."""


class CoverageCount:
    """What the executions of a run covered, by strategy. Plain data: sent from worker processes and merged.

    The pairs are kept in full: there are at most as many as a version's function points, squared; a few thousand.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self.classes: dict[str, ClassSample] = {}
        self.pairs: dict[str, Pairs] = {}

    def add(self, strategy: str, class_hash: int, pairs: Iterable[int], execution: int) -> None:
        """Execution number `execution`, under `strategy`, had this footprint (coverage.py)."""
        sample = self.classes.get(strategy)
        if sample is None:
            sample = self.classes[strategy] = ClassSample(self.capacity)
            self.pairs[strategy] = {}
        sample.add(class_hash)
        seen = self.pairs[strategy]
        for pair in pairs:
            before = seen.get(pair)
            if before is None:
                seen[pair] = (execution, 1)
            else:
                seen[pair] = (min(before[0], execution), before[1] + 1)

    def merge(self, other: CoverageCount) -> None:
        """Add what another process counted."""
        for strategy, sample in other.classes.items():
            if strategy not in self.classes:
                self.classes[strategy] = ClassSample(self.capacity)
                self.pairs[strategy] = {}
            self.classes[strategy].merge(sample)
            _add_pairs(self.pairs[strategy], other.pairs[strategy])

    def classes_at_most(self) -> int:
        """Cheap, for a live display: no fewer classes than were seen; one that two strategies showed counts twice."""
        return sum(sample.distinct() for sample in self.classes.values())

    def as_dict(self) -> dict[str, Any]:
        """For the result object: all together, and `by_strategy`. Empty if nothing was counted."""
        if not self.classes:
            return {}
        together = ClassSample(self.capacity)
        pairs: Pairs = {}
        for name, sample in self.classes.items():
            together.merge(sample)
            _add_pairs(pairs, self.pairs[name])
        told = _told(together, pairs)
        told["by_strategy"] = {name: _told(self.classes[name], self.pairs[name]) for name in sorted(self.classes)}
        return told


def _add_pairs(mine: Pairs, theirs: Pairs) -> None:
    for pair, (first, times) in theirs.items():
        before = mine.get(pair)
        mine[pair] = (first, times) if before is None else (min(before[0], first), before[1] + times)


def _told(sample: ClassSample, pairs: Pairs) -> dict[str, Any]:
    unseen = Unseen(sample)
    seen_once = sum(times == 1 for _, times in pairs.values())
    return {
        "executions": sample.executions,
        "distinct_journals": sample.distinct(),
        "distinct_pairs": len(pairs),
        "last_new_pair_at": max((first for first, _ in pairs.values()), default=-1),
        "new_pairs_expected": round(seen_once / max(1, sample.executions), 6),
        "unseen_estimate": round(unseen.estimate, 6),
        "unseen_low": round(unseen.low, 6),
        "unseen_high": round(unseen.high, 6),
        "unseen_method": unseen.method,
        "sampled_one_in": 1 << sample.level,
    }
