# SPDX-License-Identifier: GPL-2.0-only
"""What a reader gets of a kernel tree's journal: here a model's journals, with functions as a tree's debug info tells
them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from stressvmap.checks.base import Violation
from stressvmap.journal import events as ev
from stressvmap.journal.events import Event
from stressvmap.journal.journal import Journal
from stressvmap.journal.place import ALLOC, CALLERS, FREE, STACKS
from stressvmap.report.columns import LINE, WIDTH, columns
from stressvmap.report.frames import Frames
from stressvmap.report.timeline import describe, to_ftrace, to_perfetto
from stressvmap.stress.judge import judge
from tests.report.test_columns import CASES, full_block, walk_of_5_12

Told = tuple[Journal, Violation]
STORIES = ("row-36-full-block", "row-36-on-three-cpus", "dying-block", "row-28-walk-of-5.12", "data-race")


def as_of_a_tree(told: Told) -> Told:
    """Each event on a line of its own; what a list is made of in a header."""
    journal, violation = told
    events: list[Event] = []
    for number, event in enumerate(journal.events):
        function = event[3]
        if function:
            function = f"{function} mm/vmalloc.c:{1000 + number}"
        if function and str(event[5]).endswith((".next", ".prev")):
            function = f"list_helper include/linux/list.h:{number} < {function}"
        events.append((*event[:3], function, *event[4:]))
    header = journal.header | {"version": "tree-6.1.192"}
    return replace(journal, header=header, events=events), violation


def letters(lines: list[str], *, margin: bool) -> list[str]:
    """All that stands in the columns, however its lines are broken; the lines' numbers are the margin's."""
    start = next(n for n, line in enumerate(lines) if "CPU " in line)
    body = lines[start + 1 :]
    return sorted("".join("".join(line[6:] if margin and line[:4].isdigit() else line for line in body).split()))


@pytest.mark.parametrize("case", [case for case in STORIES if case != "dying-block"])  # which leaves out a detail
def test_a_trees_story_is_the_models_with_the_lines_in_a_margin(case: str) -> None:
    of_model = columns(*CASES[case]())
    of_tree = columns(*as_of_a_tree(CASES[case]()))
    assert f"{LINE}: of mm/vmalloc.c, tree-6.1.192" in of_tree
    assert any(line.startswith(f"{LINE}  CPU") for line in of_tree)
    assert letters(of_tree, margin=True) == letters(of_model, margin=False)


@pytest.mark.parametrize("case", STORIES)
def test_a_trees_story_fits_into_a_commit_message(case: str) -> None:
    lines = columns(*as_of_a_tree(CASES[case]()))
    assert max(map(len, lines)) <= WIDTH
    assert all(line == line.rstrip() and line.isascii() for line in lines)


def test_the_number_in_the_margin_is_the_line_of_the_step() -> None:
    journal, violation = as_of_a_tree(full_block())
    cleared = next(
        number
        for number, event in enumerate(journal.events)
        if event[0] == ev.WRITE and event[5] == "dirty" and event[6] == 4
    )
    (line,) = (line for line in columns(journal, violation) if "vb->dirty = 4" in line)
    assert line.split()[0] == str(1000 + cleared)


def test_a_step_of_no_function_has_no_number() -> None:
    lines = columns(*as_of_a_tree(full_block()))
    assert all(line.startswith(" ") for line in lines if line.endswith("returns"))


def test_the_stacks_of_a_dead_object_stand_below_and_in_the_message() -> None:
    journal, violation = as_of_a_tree(walk_of_5_12())
    dead = journal.events[violation.at][4]
    stacks = {
        ALLOC: ["alloc_vmap_area mm/vmalloc.c:1676", "new_vmap_block mm/vmalloc.c:2031"],
        FREE: ["__merge_or_add_vmap_area mm/vmalloc.c:1261"],
    }
    told = replace(journal, header=journal.header | {STACKS: {str(dead): stacks}})
    lines = columns(told, violation)
    at = lines.index("vb->va was allocated by worker/1:")
    assert lines[at + 1 : at + 3] == ["  alloc_vmap_area  mm/vmalloc.c:1676", "  new_vmap_block   mm/vmalloc.c:2031"]
    assert lines[-1] == "  __merge_or_add_vmap_area  mm/vmalloc.c:1261"
    found = next(one for one in judge(told)[0].violations if one.check == "use-after-free")
    assert "  freed in __merge_or_add_vmap_area mm/vmalloc.c:1261\n" in found.message
    assert found.fingerprint == violation.fingerprint


# -- frames ---------------------------------------------------------------------------------------------------


def frames_of(*functions: str, callers: dict[str, list[str]] | None = None) -> list[str]:
    """The path of each event of one vm_map_ram, made in these functions one after the other."""
    events: list[Event] = [(ev.API_BEGIN, 1, 0, "", 0, "vm_map_ram", 4)]
    events += [(ev.READ, 1, 0, function, 5, "free", 1) for function in functions]
    frames = Frames(events, callers)
    return ["/".join(one.name for one in frame.path()) if frame else "" for frame in frames.of[1:]]


def test_lines_of_one_function_are_one_frame() -> None:
    assert frames_of("vb_alloc mm/vmalloc.c:1", "vb_alloc mm/vmalloc.c:2") == ["vm_map_ram/vb_alloc"] * 2


def test_inlined_functions_stand_in_their_callers() -> None:
    inlined = "new_vmap_block mm/vmalloc.c:9 < vb_alloc mm/vmalloc.c:2 < vm_map_ram mm/vmalloc.c:3"
    assert frames_of(inlined) == ["vm_map_ram/vb_alloc/new_vmap_block"]


def test_headers_and_lib_are_no_frames() -> None:
    assert (
        frames_of(
            "vb_alloc mm/vmalloc.c:1",
            "list_del_rcu include/linux/rculist.h:3 < vb_alloc mm/vmalloc.c:2",
            "xas_load lib/xarray.c:240",
            "",
            "vb_alloc mm/vmalloc.c:4",
        )
        == ["vm_map_ram/vb_alloc"] * 5
    )


def test_a_function_and_its_inlined_twin_with_underscores_are_one_frame() -> None:
    assert frames_of("__link_va mm/vmalloc.c:9 < link_va mm/vmalloc.c:2") == ["vm_map_ram/link_va"]


def test_who_calls_a_function_is_what_the_trees_own_debug_info_says() -> None:
    functions = ("my_split mm/vmalloc.c:1", "deep mm/vmalloc.c:2", "other_half mm/vmalloc.c:3")
    told = {"my_split": ["vm_map_ram"], "deep": ["my_split"], "other_half": ["vm_map_ram"]}
    known = frames_of(*functions, callers=told)
    assert known == ["vm_map_ram/my_split", "vm_map_ram/my_split/deep", "vm_map_ram/other_half"]


def test_a_function_whose_caller_showed_nothing_is_in_the_call() -> None:
    told = {"deep": ["unseen"]}
    assert frames_of("vb_alloc mm/vmalloc.c:1", "deep mm/vmalloc.c:2", callers=told)[1] == "vm_map_ram/deep"


# -- show and the timelines -------------------------------------------------------------------------------------

IN_A_HEADER = (
    "__list_add_rcu include/linux/rculist.h:85 < new_vmap_block mm/vmalloc.c:2059 < vb_alloc mm/vmalloc.c:2167"
)


def test_show_names_the_place_and_what_it_had_inlined() -> None:
    journal, _ = full_block()
    line = describe((ev.READ, 1, 0, IN_A_HEADER, 5, "free_list.prev", 0), 7, journal)
    assert " new_vmap_block mm/vmalloc.c:2059 " in line
    assert line.endswith("[__list_add_rcu include/linux/rculist.h:85]")


def test_timelines_follow_bare_functions() -> None:
    events: list[Event] = [
        (ev.LOCK, 1, 0, "vb_free mm/vmalloc.c:2192", 5, "vb->lock", 0),
        (ev.READ, 1, 0, "vb_free mm/vmalloc.c:2198", 5, "dirty", 1),
        (ev.UNLOCK, 1, 0, "vb_free mm/vmalloc.c:2204", 5, "vb->lock", 0),
    ]
    journal = Journal({}, events)
    begun = [one for one in to_perfetto(journal)["traceEvents"] if one["ph"] == "B" and one["name"] == "vb_free()"]
    assert len(begun) == 1
    told = "\n".join(to_ftrace(journal))
    assert "in=vb_free at=mm/vmalloc.c:2198" in told


def test_every_case_of_a_model_is_told_without_a_margin() -> None:
    cases: list[Callable[[], Told]] = [full_block, walk_of_5_12]
    for case in cases:
        assert not any(line.startswith(LINE) for line in columns(*case()))


def test_a_header_without_callers_leaves_what_is_known_of_the_kernel() -> None:
    assert CALLERS not in full_block()[0].header
    assert (
        frames_of("vb_alloc mm/vmalloc.c:1", "new_vmap_block mm/vmalloc.c:2")[1] == "vm_map_ram/vb_alloc/new_vmap_block"
    )
