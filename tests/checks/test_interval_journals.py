# SPDX-License-Identifier: GPL-2.0-only
"""A recording of a real kernel: brackets instead of instants, and no operations."""

from stressvmap.journal import events as ev
from tests.checks.recording import ALIASES, AREA, BLOCK, Recording

NAME = "stale-after-unmap-aliases"


def unmapped() -> Recording:
    j = Recording(interval=True)
    j.map(1, AREA, 4)
    j.unmap(1, AREA, 4)
    return j


def test_no_flush_at_all_is_a_violation_with_a_coarse_fingerprint() -> None:
    j = unmapped()
    j.aliases(2)
    found = j.violation(NAME)
    assert found.mechanism.coarse
    assert (found.mechanism.role, found.mechanism.mechanism) == ("unmapped page", "never flushed")


def test_a_flush_that_began_after_the_unmapping_ended_pays() -> None:
    j = unmapped()
    j.aliases(2, (AREA, AREA + 4))
    assert not j.violations(NAME)
    assert (j.metric("obligations_checked"), j.metric("undecided_obligations")) == (4, 0)


def test_a_flush_that_ended_before_the_unmapping_began_pays_nothing() -> None:
    j = Recording(interval=True)
    j.map(1, AREA, 4)
    j.flush(2, AREA, AREA + 4)
    j.unmap(1, AREA, 4)
    j.aliases(2)
    assert j.violations(NAME)


def test_a_flush_that_overlaps_the_unmapping_decides_nothing() -> None:
    j = Recording(interval=True)
    j.map(1, AREA, 4)
    flush = j.flush_begin(2, AREA, AREA + 4)
    j.unmap(1, AREA, 4)
    j.flush_end(2, flush, AREA, AREA + 4)
    j.aliases(2)
    assert not j.violations(NAME)
    assert (j.metric("obligations_checked"), j.metric("undecided_obligations")) == (0, 4)


def test_a_flush_still_under_way_at_the_return_proves_nothing() -> None:
    j = unmapped()
    flush = j.flush_begin(1, AREA, AREA + 4)
    j.aliases(2)
    j.flush_end(1, flush, AREA, AREA + 4)
    assert not j.violations(NAME)
    assert j.metric("undecided_obligations") == 4


def test_a_flush_of_everything_pays() -> None:
    j = unmapped()
    j.begin(2, ALIASES)
    j.flush(2, 0, ev.FULL_END)
    j.end(2, ALIASES)
    assert not j.violations(NAME)
    assert (j.metric("flushed_pages"), j.metric("owed_pages"), j.metric("excess_pages")) == (4, 4, 0)


def test_a_page_mapped_again_owes_nothing() -> None:
    j = unmapped()
    j.flush(1, AREA, AREA + 4)
    j.map(1, AREA, 4)
    j.aliases(2)
    verdict = j.verdict()
    assert not verdict.violations


def test_a_mapping_returned_before_its_last_unmapping_was_flushed() -> None:
    j = unmapped()
    j.map(2, AREA, 4)
    assert j.violation("reuse-before-flush").mechanism.coarse


def test_a_failed_mapping_may_or_may_not_have_had_a_prefix() -> None:
    j = Recording(interval=True)
    j.begin(1, "vm_map_ram", 0, 4)
    j.clear(1, BLOCK, 4)
    j.end(1, "vm_map_ram", 0, 4)
    j.aliases(2)
    assert not j.violations(NAME)
    assert j.metric("undecided_obligations") == 4


def test_checks_whose_stream_is_missing_are_not_run_and_named() -> None:
    j = unmapped()
    j.aliases(2, (AREA, AREA + 4))
    not_run = j.verdict().not_run
    for name in ("use-after-free", "range-computed-unlocked", "lock-discipline", "accounting", "leak", "stale-access"):
        assert name in not_run
    assert NAME not in not_run
    assert "overlapping-mapping" not in not_run


def test_a_ground_only_journal_of_the_model_keeps_its_instants() -> None:
    j = Recording()
    j.map(1, AREA)
    flush = j.flush_begin(2, AREA, AREA + 1)
    j.unmap(1, AREA)
    for cpu in (0, 1):
        j.invalidate(2, cpu, AREA, AREA + 1)
    j.flush_end(2, flush, AREA, AREA + 1)
    j.aliases(2)
    j.events = [event for event in j.events if ev.stream_of(event[0]) == ev.GROUND]
    j.interval = True
    assert not j.violations(NAME)
    assert (j.metric("obligations_checked"), j.metric("undecided_obligations")) == (0, 0)
