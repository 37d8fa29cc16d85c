# SPDX-License-Identifier: GPL-2.0-only
"""A journal from a file is not trusted: a senseless header is bad input, a senseless event ends the readable part."""

from __future__ import annotations

from typing import Any

import pytest

from stressvmap.errors import JournalFormatError
from stressvmap.journal.events import (
    API_BEGIN,
    API_END,
    CPU_OFFLINE,
    FULL_END,
    TLB_INVALIDATE,
    UNMAP_BEGIN,
    UNMAP_END,
    Event,
)
from stressvmap.journal.journal import Journal
from stressvmap.journal.sanity import PAGES_MAX, checked
from stressvmap.scenario import Scenario
from stressvmap.sched.sequential import SequentialRuntime
from stressvmap.stress.workloads import draw
from stressvmap.vmalloc.backend import ModelBackend
from stressvmap.vmalloc.v6_5 import V6_5

SOUND: Event = (API_BEGIN, 1, 0, "", 0, "vm_unmap_aliases", 0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tasks", ["x"]),
        ("tasks", {"one": ["x", 0]}),
        ("tasks", {"1": ["x"]}),
        ("tasks", {"1": ["\ud800", 0]}),
        ("online", [None]),
        ("online", [-5]),
        ("online", [1 << 40]),
        ("online", 3),
        ("window", {"start": 0}),
        ("window", [0]),
        ("window", [True, 2]),
        ("direct_map", 7),
        ("block_bits", []),
        ("block_bits", float("inf")),
        ("block_bits", -8),
        ("scenario", "mixed"),
        ("version", 6),
    ],
)
def test_a_header_of_the_wrong_shape_is_bad_input_that_names_the_key(key: str, value: Any) -> None:
    with pytest.raises(JournalFormatError, match=rf"there\.svj: the header's {key} is "):
        checked(Journal({key: value}, [SOUND]), "there.svj")


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ((TLB_INVALIDATE, 1, -3, "", 0, "", 5), "CPU -3"),
        ((TLB_INVALIDATE, 1, 1 << 40, "", 0, "", 5), "CPU 1099511627776"),
        ((CPU_OFFLINE, 1, 0, "", 1 << 60, "", 0), "CPU 1152921504606846976"),
        ((API_BEGIN, -1, 0, "", 0, "vfree", 0), "task -1"),
        ((API_END, 1, 0, "", 0x100, "vm_map_ram", 1 << 40), "1099511627776 pages at page 0x100"),
        ((UNMAP_BEGIN, 1, 0, "", 0, "", PAGES_MAX + 1), r"a range of pages \[0x0, 0x100001\)"),
        ((UNMAP_END, 1, 0, "", 9, "", 3), r"a range of pages \[0x9, 0x3\)"),
        ((API_BEGIN, 1, 0, "", 0, "\udcff", 0), "text that is no Unicode"),
        ((API_BEGIN, 1, 0, "\ud800", 0, "vfree", 0), "text that is no Unicode"),
    ],
)
def test_an_event_that_no_machine_can_have_made_ends_the_readable_part(event: Event, reason: str) -> None:
    found = checked(Journal({}, [SOUND, SOUND, event, SOUND]), "there.svj")
    assert (list(found.events), found.complete) == ([SOUND, SOUND], False)
    with pytest.raises(AssertionError, match=f"the first 2 events of 4: event 2 has {reason}"):
        raise AssertionError(found.damage)


def test_what_the_model_records_and_a_full_invalidation_are_left_as_they_are() -> None:
    scenario = Scenario(cpus=3, possible=(0, 2, 5), full_flush_ceiling_pages=2)
    backend = ModelBackend(V6_5, scenario, SequentialRuntime())
    backend.reset(draw(scenario, 1, 1))
    backend.run()
    journal = backend.journal()
    assert checked(journal, "j") is journal
    full = Journal({}, [(TLB_INVALIDATE, 1, 0, "", 0, "", FULL_END)])
    assert checked(full, "j") is full


def test_text_that_is_no_unicode_anywhere_in_the_header_or_the_end_is_bad_input() -> None:
    for journal in (Journal({"note": ["\ud800"]}, [SOUND]), Journal({}, [SOUND], damage="\ud800", complete=False)):
        with pytest.raises(JournalFormatError, match="no Unicode"):
            checked(journal, "there.svj")


def test_more_pages_than_can_be_checked_in_time_end_the_readable_part() -> None:
    many: Event = (API_BEGIN, 1, 0, "", 0, "vfree", PAGES_MAX)
    found = checked(Journal({}, [many] * 100), "there.svj")
    assert (len(found.events), found.complete) == (16, False)
