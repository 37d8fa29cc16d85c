# SPDX-License-Identifier: GPL-2.0-only
"""Holds and waits in scheduling points, what they add up to, and how they are told."""

from __future__ import annotations

import pytest

from stressvmap.checks.base import feed
from stressvmap.checks.costs import merge_metrics
from stressvmap.checks.lock_times import LockTimes, bucket_of, figures, lines, percentile_99
from stressvmap.journal import events as ev
from tests.checks.recording import ALIASES, Recording

MUTEX = "vmap_purge_lock"


def times(*journals: Recording) -> dict[str, int]:
    """What an observer counts over these executions."""
    observer = LockTimes()
    for j in journals:
        feed(j.journal(), [observer])
    return observer.metrics()


def held_for(points: int) -> Recording:
    j = Recording()
    j.lock(1, 9, MUTEX)
    j.read(1, 5, **{f"f{n}": n for n in range(points)})
    j.unlock(1, 9, MUTEX)
    return j


def contended() -> Recording:
    """Task 2 flushes under the mutex; tasks 1 and 3, in other calls, want it meanwhile."""
    j = Recording(3)
    j.begin(2, ALIASES)
    j.begin(1, "vm_map_ram")
    j.begin(3, ALIASES)
    j.lock(2, 9, MUTEX)
    j.add(ev.LOCK_WAIT, 1, 9, MUTEX, 2)
    j.add(ev.LOCK_WAIT, 3, 9, MUTEX, 2)
    j.read(2, 5, a=1, b=2, c=3)
    j.unlock(2, 9, MUTEX)
    j.add(ev.LOCK, 1, 9, MUTEX, 1)
    j.add(ev.LOCK_WAIT, 3, 9, MUTEX, 1)
    j.unlock(1, 9, MUTEX)
    j.add(ev.LOCK, 3, 9, MUTEX, 1)
    j.unlock(3, 9, MUTEX)
    return j


def test_a_hold_is_what_its_holder_did_and_others_did_not() -> None:
    j = Recording()
    j.lock(1, 9, MUTEX)
    j.lock(2, 5)
    j.read(1, 6, x=1)
    j.read(2, 6, x=1, y=1)
    j.unlock(2, 5)
    j.add(ev.LIST_ADD, 1, 6, "purge", 7)
    j.unlock(1, 9, MUTEX)
    counted = times(j)
    assert counted[f"lock_hold_points_total.{MUTEX}"] == 1, "an event that no point announced is none"
    assert counted["lock_hold_points_total.vb->lock"] == 2


def test_holds_of_two_locks_of_a_class_are_told_apart() -> None:
    j = Recording()
    j.lock(1, 5)
    j.lock(2, 6)
    j.read(2, 7, x=1)
    j.unlock(2, 6)
    j.read(1, 7, x=1, y=1)
    j.unlock(1, 5)
    counted = times(j)
    assert (counted["lock_holds.vb->lock"], counted["lock_hold_points_max.vb->lock"]) == (2, 2)


def test_a_wait_lasts_from_the_first_try_to_the_lock_and_names_everybody_it_was_behind() -> None:
    counted = times(contended())
    assert counted[f"lock_waits.{MUTEX}"] == 2
    assert counted[f"lock_wait_points_max.{MUTEX}"] == 7, "3 reads, 2 releases, the other's lock and its own"
    assert counted[f"lock_wait_points_total.{MUTEX}"] == 5 + 7
    assert {name: n for name, n in counted.items() if name.startswith("lock_waited_behind")} == {
        f"lock_waited_behind.{MUTEX}.vm_map_ram.vm_unmap_aliases": 1,
        f"lock_waited_behind.{MUTEX}.vm_unmap_aliases.vm_unmap_aliases": 1,
        f"lock_waited_behind.{MUTEX}.vm_unmap_aliases.vm_map_ram": 1,
    }


def test_a_hold_that_was_never_over_is_not_counted() -> None:
    j = Recording()
    j.lock(1, 9, MUTEX)
    j.add(ev.LOCK_WAIT, 2, 9, MUTEX, 1)
    counted = times(j)
    assert [name for name in counted if not name.startswith("lock_waited_behind")] == []
    assert times(j, held_for(2))[f"lock_holds.{MUTEX}"] == 1, "and not carried into the next execution"


def test_two_runs_add_up_to_what_one_would_have_counted() -> None:
    journals = [held_for(1), contended(), held_for(40), held_for(7)]
    merged = merge_metrics(times(*journals[:1]), times(*journals[1:]))
    assert merged == times(*journals)
    assert figures(merged) == figures(times(*journals))


def test_figures_tell_mean_and_percentile_in_place_of_the_buckets() -> None:
    told = figures(times(*[held_for(3)] * 98, held_for(1000), held_for(2000)))
    assert told == {
        f"lock_holds.{MUTEX}": 100,
        f"lock_hold_points_total.{MUTEX}": 98 * 3 + 3000,
        f"lock_hold_points_max.{MUTEX}": 2000,
        f"lock_hold_points_mean.{MUTEX}": 32.94,
        f"lock_hold_points_p99.{MUTEX}": 1023,
    }


@pytest.mark.parametrize("points", [0, 1, 15, 16, 17, 100, 1023, 1024, 10**6])
def test_a_bucket_is_at_most_an_eighth_above_what_is_in_it(points: int) -> None:
    assert points <= bucket_of(points) <= points * 9 / 8


def test_a_percentile_is_the_smallest_bucket_that_leaves_one_in_a_hundred_above() -> None:
    assert percentile_99([(1, 99), (2, 1)]) == 1
    assert percentile_99([(2, 2), (1, 98)]) == 2
    assert percentile_99([(7, 1)]) == 7


def test_a_lock_is_a_line_longest_hold_first() -> None:
    told = lines(figures(times(contended(), held_for(20))))
    assert told == [
        f"{MUTEX}: held 4 times, 5.8 points on average, 99% within 20, at most 20; waited for 2 times, "
        "6.0 points on average, 99% within 7, at most 7, mostly vm_unmap_aliases behind vm_unmap_aliases"
    ]
