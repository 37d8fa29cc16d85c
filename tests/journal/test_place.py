# SPDX-License-Identifier: GPL-2.0-only
from typing import Any

import pytest

from stressvmap.journal.journal import Journal
from stressvmap.journal.place import (
    ALLOC,
    CALLERS,
    FREE,
    STACKS,
    Place,
    callers,
    name_of,
    place_of,
    places,
    stack,
    under_test,
    where,
    written,
)

HELPER = Place("__list_add_rcu", "include/linux/rculist.h", 85)
INNER = Place("new_vmap_block", "mm/vmalloc.c", 2059)
OUTER = Place("vb_alloc", "mm/vmalloc.c", 2167)


def test_places_are_read_as_they_were_written() -> None:
    assert places(written((HELPER, INNER, OUTER))) == (HELPER, INNER, OUTER)
    assert written((INNER,)) == "new_vmap_block mm/vmalloc.c:2059"
    assert places("") == ()


def test_a_model_names_a_function_alone() -> None:
    assert places("vb_free") == (Place("vb_free"),)
    assert where("vb_free") == name_of("vb_free") == "vb_free"


def test_a_report_names_the_function_that_used_a_header_not_the_headers_own() -> None:
    function = written((HELPER, INNER, OUTER))
    assert under_test(function) == (INNER, OUTER)
    assert where(function) == "new_vmap_block at mm/vmalloc.c:2059"
    assert name_of(function) == "new_vmap_block"


def test_what_is_in_no_function_under_test_has_its_own_name() -> None:
    function = "xas_load lib/xarray.c:240"
    assert under_test(function) == ()
    assert place_of(function) == Place("xas_load", "lib/xarray.c", 240)
    assert place_of("") is None
    assert where("") == name_of("") == ""


@pytest.mark.parametrize("text", ["operator new", "f mm/vmalloc.c:", "f mm/vmalloc.c:x", "f :12", " < ", "f < "])
def test_a_strangers_text_is_a_name_without_a_line(text: str) -> None:
    assert all(not place.file for place in places(text))


def test_a_journal_tells_stacks_and_callers() -> None:
    told = {"5": {ALLOC: [str(INNER), str(OUTER)], FREE: ["vb_free mm/vmalloc.c:2202"]}}
    journal = Journal({STACKS: told, CALLERS: {"vb_free": ["vm_unmap_ram"]}}, [])
    assert stack(journal, 5, ALLOC) == (INNER, OUTER)
    assert stack(journal, 5, FREE) == (Place("vb_free", "mm/vmalloc.c", 2202),)
    assert stack(journal, 6, FREE) == ()
    assert callers(journal) == {"vb_free": ("vm_unmap_ram",)}


@pytest.mark.parametrize("told", [None, 7, [], {"5": 7}, {"5": {ALLOC: 7}}, {"5": {ALLOC: [7]}}])
def test_a_header_that_says_something_else_says_nothing(told: Any) -> None:
    assert stack(Journal({STACKS: told}, []), 5, ALLOC) == ()
    assert callers(Journal({CALLERS: 7}, [])) is None
