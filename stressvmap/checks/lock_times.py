# SPDX-License-Identifier: GPL-2.0-only
"""How long each lock class is held and waited for, and who waited behind whom, in scheduling points.

Time under a controlled runtime is the number of points: reproducible, to be quoted. A point is counted by the event
that it announces (POINT_KINDS), so a journal is enough.

- A *hold* lasts as long as the points of its holder between LOCK and UNLOCK: what it did while others could not. Other
  tasks' points in between say how unlucky it was, not how much it did.
- A *wait* lasts as long as the points of everybody between the first LOCK_WAIT and the LOCK: what went on meanwhile.
- Who waited behind whom: the entry points of both, once for each LOCK_WAIT.
- A share of 99 % comes from a histogram whose buckets keep four significant bits (as HDR histograms do), so it is at
  most an eighth too high. Histograms of two runs add up, a percentile does not: that is made at the end (`figures`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from stressvmap.checks.base import Check, Handler
from stressvmap.checks.records import kind_of_task
from stressvmap.journal import events as ev
from stressvmap.journal.journal import Journal

POINT_KINDS: Final = frozenset(
    {
        ev.READ,
        ev.WRITE,
        ev.READ_ONCE,
        ev.WRITE_ONCE,
        ev.ATOMIC,
        ev.LOCK,
        ev.TRYLOCK_FAILED,
        ev.UNLOCK,
        ev.RCU_READ_LOCK,
        ev.RCU_READ_UNLOCK,
        ev.KFREE_RCU,
        ev.XA_LOAD,
        ev.XA_STORE,
        ev.XA_ERASE,
        ev.TREE_INSERT,
        ev.TREE_ERASE,
        ev.TREE_FIND,
        ev.WORK_QUEUE,
        ev.WORK_BEGIN,
        ev.WORK_FLUSHED,
        ev.IPI_SEND,
        ev.PTE_SET,
        ev.PTE_CLEAR,
        ev.TLB_INVALIDATE,
        ev.TLB_READ,
    }
)
"""Kinds of events that a scheduling point announces, one each; but a tree operation that changes several areas counts
each of them, and a point that came to nothing (a read that faults, a work queued already) counts none. Off by 2 %.
"""

HOLDS: Final = "lock_holds"
HOLD_TOTAL: Final = "lock_hold_points_total"
HOLD_MAX: Final = "lock_hold_points_max"
HOLD_MEAN: Final = "lock_hold_points_mean"
HOLD_P99: Final = "lock_hold_points_p99"
HOLD_BUCKET: Final = "lock_hold_points_bucket"
WAITS: Final = "lock_waits"
WAIT_TOTAL: Final = "lock_wait_points_total"
WAIT_MAX: Final = "lock_wait_points_max"
WAIT_MEAN: Final = "lock_wait_points_mean"
WAIT_P99: Final = "lock_wait_points_p99"
WAIT_BUCKET: Final = "lock_wait_points_bucket"
WAITED_BEHIND: Final = "lock_waited_behind"

LOCK_METRIC_NAMES: Final = (
    HOLDS,
    HOLD_TOTAL,
    HOLD_MAX,
    HOLD_MEAN,
    HOLD_P99,
    WAITS,
    WAIT_TOTAL,
    WAIT_MAX,
    WAIT_MEAN,
    WAIT_P99,
    WAITED_BEHIND,
)
"""Each followed by a dot and the lock class; WAITED_BEHIND by the waiter and the owner, too."""

_EXACT_BITS: Final = 4


class Durations:
    """Holds of one lock class, or waits for it."""

    __slots__ = ("buckets", "longest", "times", "total")

    def __init__(self) -> None:
        self.times = 0
        self.total = 0
        self.longest = 0
        self.buckets: dict[int, int] = {}

    def add(self, points: int) -> None:
        """Count one."""
        self.times += 1
        self.total += points
        if points > self.longest:
            self.longest = points
        bucket = bucket_of(points)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1


class LockTimes(Check):
    """An observer, not an invariant. Counts over all executions fed; one pass over an execution at its end.

    State: a few numbers a lock class, and per class at most 8 buckets an octave and one count a pair of entry points.
    """

    NAME = "lock-times"
    NEEDS = frozenset({ev.LOCK, ev.UNLOCK})

    def __init__(self) -> None:
        super().__init__()
        self._holds: dict[str, Durations] = {}
        self._waits: dict[str, Durations] = {}
        self._waited_behind: dict[tuple[str, str, str], int] = {}
        """By (lock class, what the waiter was in, what the owner was in)."""
        self._journal = Journal(header={}, events=())

    def begin(self, journal: Journal) -> None:
        self._journal = journal

    def handlers(self) -> dict[int, Handler]:
        return {}

    def metrics(self) -> dict[str, int]:
        """What was counted so far, ready to be merged; `figures` makes of it what a result tells."""
        told: dict[str, int] = {}
        for durations_of, times, total, longest, bucket_name in (
            (self._holds, HOLDS, HOLD_TOTAL, HOLD_MAX, HOLD_BUCKET),
            (self._waits, WAITS, WAIT_TOTAL, WAIT_MAX, WAIT_BUCKET),
        ):
            for lock_class, durations in sorted(durations_of.items()):
                told[f"{times}.{lock_class}"] = durations.times
                told[f"{total}.{lock_class}"] = durations.total
                told[f"{longest}.{lock_class}"] = durations.longest
                for bucket, count in sorted(durations.buckets.items()):
                    told[f"{bucket_name}.{lock_class}.{bucket}"] = count
        for (lock_class, waiter, owner), count in sorted(self._waited_behind.items()):
            told[f"{WAITED_BEHIND}.{lock_class}.{waiter}.{owner}"] = count
        return told

    def finish(self) -> None:
        names = self._journal.header.get("tasks") or {}
        kinds = {int(task): kind_of_task(str(named[0])) for task, named in names.items()}
        calls: dict[int, list[str]] = {}
        own: defaultdict[int, int] = defaultdict(int)
        everybody = 0
        held: dict[tuple[int, int | str], tuple[int, int]] = {}
        waiting: dict[int, int] = {}

        def entry(task: int) -> str:
            of_task = calls.get(task)
            return of_task[0] if of_task else kinds.get(task, "task")

        for kind, task, _, _, a, b, c in self._journal.events:
            if kind in POINT_KINDS:
                everybody += 1
                own[task] += 1
                if kind == ev.LOCK:
                    held[a, b] = (task, own[task])
                    if task in waiting:
                        _durations(self._waits, b).add(everybody - waiting.pop(task))
                elif kind == ev.UNLOCK:
                    taken = held.pop((a, b), None)
                    if taken is not None:
                        points = own[taken[0]] - taken[1] - (task == taken[0])  # the release's own is none
                        _durations(self._holds, b).add(points)
            elif kind == ev.LOCK_WAIT:
                waiting.setdefault(task, everybody)
                key = (str(b), entry(task), entry(c))
                self._waited_behind[key] = self._waited_behind.get(key, 0) + 1
            elif kind == ev.API_BEGIN:
                calls.setdefault(task, []).append(str(b))
            elif kind == ev.API_END and calls.get(task):
                calls[task].pop()
        self._journal = Journal(header={}, events=())


def _durations(table: dict[str, Durations], lock_class: int | str) -> Durations:
    name = str(lock_class)
    durations = table.get(name)
    if durations is None:
        durations = table[name] = Durations()
    return durations


def bucket_of(points: int) -> int:
    """The largest number in the bucket of `points`: itself below 16, else with all but its first four bits set."""
    spare = max(0, points.bit_length() - _EXACT_BITS)
    return points | ((1 << spare) - 1)


def figures(metrics: Mapping[str, int]) -> dict[str, float]:
    """`metrics` as a result tells them: with a mean and a percentile for each lock class in place of the buckets."""
    told: dict[str, float] = {}
    buckets: dict[str, dict[int, int]] = {}
    for name, value in metrics.items():
        base, _, rest = name.partition(".")
        if base in (HOLD_BUCKET, WAIT_BUCKET):
            lock_class, _, bucket = rest.rpartition(".")
            buckets.setdefault(f"{base}.{lock_class}", {})[int(bucket)] = value
        else:
            told[name] = value
    for histogram_name, counts in sorted(buckets.items()):
        base, _, lock_class = histogram_name.partition(".")
        mean, p99, longest, total, times = (
            (HOLD_MEAN, HOLD_P99, HOLD_MAX, HOLD_TOTAL, HOLDS)
            if base == HOLD_BUCKET
            else (WAIT_MEAN, WAIT_P99, WAIT_MAX, WAIT_TOTAL, WAITS)
        )
        told[f"{mean}.{lock_class}"] = round(metrics[f"{total}.{lock_class}"] / metrics[f"{times}.{lock_class}"], 2)
        told[f"{p99}.{lock_class}"] = min(percentile_99(counts.items()), metrics[f"{longest}.{lock_class}"])
    return told


def percentile_99(histogram: Iterable[tuple[int, int]]) -> int:
    """The bucket below or in which 99 % of what was counted lie."""
    ordered = sorted(histogram)
    left = sum(count for _, count in ordered) * 99
    for bucket, count in ordered:
        left -= count * 100
        if left <= 0:
            return bucket
    raise ValueError("an empty histogram has no percentile")


def lines(metrics: Mapping[str, float]) -> list[str]:
    """What `figures` made, one line a lock class, the longest held first; and behind whom most waits were."""
    classes = [name.partition(".")[2] for name in metrics if name.startswith(HOLD_TOTAL + ".")]
    told = []
    for lock_class in sorted(classes, key=lambda name: (-metrics[f"{HOLD_MAX}.{name}"], name)):
        line = f"{lock_class}: held {metrics[f'{HOLDS}.{lock_class}']:.0f} times, " + _points(
            metrics, lock_class, HOLD_MEAN, HOLD_P99, HOLD_MAX
        )
        if f"{WAITS}.{lock_class}" in metrics:
            line += f"; waited for {metrics[f'{WAITS}.{lock_class}']:.0f} times, " + _points(
                metrics, lock_class, WAIT_MEAN, WAIT_P99, WAIT_MAX
            )
            prefix = f"{WAITED_BEHIND}.{lock_class}."
            pairs = [(value, name.removeprefix(prefix)) for name, value in metrics.items() if name.startswith(prefix)]
            waiter, _, owner = max(pairs, default=(0, ""))[1].partition(".")
            line += f", mostly {waiter} behind {owner}" if waiter else ""
        told.append(line)
    return told


def _points(metrics: Mapping[str, float], lock_class: str, mean: str, p99: str, longest: str) -> str:
    values = (metrics[f"{name}.{lock_class}"] for name in (mean, p99, longest))
    return "{:.1f} points on average, 99% within {:.0f}, at most {:.0f}".format(*values)
