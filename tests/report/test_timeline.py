# SPDX-License-Identifier: GPL-2.0-only
import json
import re
import string
from typing import Any

import pytest

from stressvmap.errors import ConfigError
from stressvmap.journal import events as ev
from stressvmap.journal.events import B_IS_SYMBOL, KIND_NAMES, Event
from stressvmap.journal.journal import Journal
from stressvmap.ranges import PageRange
from stressvmap.report import timeline
from stressvmap.report.filters import parse_kinds, parse_range, parse_tasks, select
from stressvmap.report.timeline import describe, object_classes, to_ftrace, to_perfetto
from tests.journal.synthetic import synthetic_journal

BLOCK = 1 << 20 | 5
PAGE = 0x100010

UNMAP_STORY: list[Event] = [
    (ev.API_BEGIN, 1, 0, "", PAGE, "vm_unmap_ram", 4),
    (ev.LOCK, 1, 0, "vb_free", BLOCK, "vb->lock", 0),
    (ev.READ, 1, 0, "vb_free", BLOCK, "dirty", 3),
    (ev.UNLOCK, 1, 0, "vb_free", BLOCK, "vb->lock", 1),
    (ev.UNMAP_BEGIN, 1, 0, "vunmap_range_noflush", PAGE, "", PAGE + 4),
    (ev.API_BEGIN, 2, 1, "", 0, "vm_unmap_aliases", 0),
    (ev.PTE_CLEAR, 1, 0, "vunmap_range_noflush", PAGE, 0x123, 0),
    (ev.UNMAP_END, 1, 0, "vunmap_range_noflush", PAGE, "", PAGE + 4),
    (ev.API_END, 1, 0, "", 0, "vm_unmap_ram", 4),
    (ev.FLUSH_BEGIN, 2, 1, "flush_tlb_kernel_range", PAGE, 1, PAGE + 4),
    (ev.TLB_INVALIDATE, 3, 0, "", PAGE, "", PAGE + 4),
    (ev.TLB_INVALIDATE, 2, 1, "flush_tlb_kernel_range", PAGE, "", PAGE + 4),
    (ev.FLUSH_END, 2, 1, "flush_tlb_kernel_range", PAGE, 1, PAGE + 4),
    (ev.API_END, 2, 1, "", 0, "vm_unmap_aliases", 0),
]


def journal_of(*events: Event) -> Journal:
    return Journal({"tasks": {"1": ["worker1", 0], "2": ["flusher1", 1], "3": ["irq0", 0]}}, list(events))


def line_of(event: Event) -> str:
    return describe(event, 0, journal_of(event))


# -- describe ---------------------------------------------------------------------------------------------


def test_a_line_says_number_task_cpu_function_and_what_happened() -> None:
    journal = journal_of(*UNMAP_STORY)
    line = " ".join(describe(UNMAP_STORY[6], 6, journal).split())
    assert line == "6 worker1 CPU 0 vunmap_range_noflush clears the PTE of page 0x100010, was frame 0x123"


@pytest.mark.parametrize("kind", sorted(KIND_NAMES))
def test_each_kind_has_words_of_its_own(kind: int) -> None:
    event: Event = (kind, 1, 0, "vb_free", 5, "what" if kind in B_IS_SYMBOL else 6, 7)
    assert "a=5" not in line_of(event)


def test_a_template_asks_only_for_what_an_event_has() -> None:
    known = set(dir(timeline._Words)) | {"kind", "task", "cpu", "function", "a", "b", "c"}
    asked = {name for words in timeline._WORDS.values() for _, name, _, _ in string.Formatter().parse(words) if name}
    assert {name.removeprefix("e.") for name in asked} <= known


def test_a_kind_of_a_later_version_is_shown_as_it_is() -> None:
    assert line_of((250, 1, 0, "", 5, "x", 6)).endswith("kind 250: a=5 b='x' c=6")


def test_a_range_is_shown_in_hex_with_its_size() -> None:
    assert line_of(UNMAP_STORY[4]).endswith("begins to clear pages [0x100010, 0x100014) (4 pages)")


def test_a_full_flush_is_shown_as_everything() -> None:
    assert line_of((ev.FLUSH_BEGIN, 1, 0, "", 0, 3, ev.FULL_END)).endswith("flush 3 begins: everything")


def test_a_senseless_flush_range_is_shown_as_it_is() -> None:
    assert "pages [0xfff, 0x0) (start after end)" in line_of((ev.FLUSH_ARGS, 1, 0, "", 0xFFF, "", 0))


def test_an_object_is_named_by_its_class_if_its_allocation_is_in_the_journal() -> None:
    journal = journal_of((ev.OBJECT_ALLOC, 1, 0, "new_vmap_block", BLOCK, "vmap_block", 0), *UNMAP_STORY)
    line = describe(UNMAP_STORY[2], 3, journal, object_classes(journal))
    assert line.endswith("reads vmap_block 1.5->dirty: 3")


def test_a_global_lock_goes_by_its_name_alone() -> None:
    events: list[Event] = [
        (ev.OBJECT_ALLOC, 0, 0, "", 1, "static_lock", 0),
        (ev.LOCK, 1, 0, "_vm_unmap_aliases", 1, "vmap_purge_lock", 0),
    ]
    journal = journal_of(*events)
    assert describe(events[1], 1, journal, object_classes(journal)).endswith("takes vmap_purge_lock")


def test_a_list_pointer_is_shown_as_the_object_it_points_to() -> None:
    assert line_of((ev.READ, 1, 0, "", BLOCK, "free_list.next", 2 << 20 | 7)).endswith("free_list.next: object 2.7")


def test_a_failed_map_says_so() -> None:
    assert line_of((ev.API_END, 1, 0, "", 0, "vm_map_ram", 4)).endswith("vm_map_ram returns: failed")


def test_an_unmap_that_returns_has_not_failed() -> None:
    assert line_of((ev.API_END, 1, 0, "", 0, "vm_unmap_ram", 4)).endswith("vm_unmap_ram returns")


def test_a_task_that_the_header_does_not_name_goes_by_its_number() -> None:
    assert "task 9" in line_of((ev.AUDIT_END, 9, 0, "", 0, "", 0))


def test_a_line_stays_one_printable_line_whatever_a_name_holds() -> None:
    assert line_of((ev.BUG, 1, 0, "", 0, "one\ntwo \x1b[31m", 0)).isprintable()


# -- select -----------------------------------------------------------------------------------------------


def numbers(journal: Journal, **filters: Any) -> list[int]:
    return [number for number, _ in select(journal, **filters)]


def test_no_filter_selects_everything() -> None:
    assert numbers(journal_of(*UNMAP_STORY)) == list(range(len(UNMAP_STORY)))


def test_cpus_and_tasks_select_by_where_and_who() -> None:
    journal = journal_of(*UNMAP_STORY)
    assert numbers(journal, cpus={1}) == [5, 9, 11, 12, 13]
    assert numbers(journal, cpus={0}, tasks={3}) == [10]


def test_kinds_select_by_name_or_number() -> None:
    journal = journal_of(*UNMAP_STORY)
    assert numbers(journal, kinds=["pte_clear", ev.LOCK]) == [1, 6]


def test_a_range_selects_what_touches_one_of_its_pages() -> None:
    journal = journal_of(*UNMAP_STORY)
    assert numbers(journal, page_range=PageRange(PAGE + 3, PAGE + 9)) == [0, 4, 7, 9, 10, 11, 12]
    assert numbers(journal, page_range=PageRange(PAGE + 4, PAGE + 9)) == []


def test_a_full_flush_touches_every_range() -> None:
    journal = journal_of((ev.FLUSH_BEGIN, 1, 0, "", 0, 1, ev.FULL_END))
    assert numbers(journal, page_range=PageRange(PAGE, PAGE + 1)) == [0]


def test_an_unknown_event_name_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match=r"no such event; there are .*, api_begin, .*, xa_store"):
        parse_kinds(["pte_clera"])


def test_select_refuses_an_unknown_name_before_the_first_event() -> None:
    with pytest.raises(ConfigError):
        select(journal_of(), kinds=["nonsense"])


def test_an_event_name_may_be_written_as_in_the_source_or_with_dashes() -> None:
    assert parse_kinds(["PTE_CLEAR", "tlb-fill"]) == {ev.PTE_CLEAR, ev.TLB_FILL}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1048576-1048580", PageRange(0x100000, 0x100004)),
        ("0x100000000-0x100004000", PageRange(0x100000, 0x100004)),
        ("0x100000fff-0x100004001", PageRange(0x100000, 0x100005)),
        ("pages:0x100000-0x100004", PageRange(0x100000, 0x100004)),
    ],
)
def test_a_range_is_pages_in_decimal_addresses_in_hex_or_says_pages(text: str, expected: PageRange) -> None:
    assert parse_range(text) == expected


@pytest.mark.parametrize("text", ["", "5", "5-", "a-b", "9-5", "5-5", "0x1000-5", "-5-9", "pages:5"])
def test_a_range_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match=f"--range {re.escape(text)}:"):
        parse_range(text)


def test_a_task_may_be_named_by_id_or_by_name() -> None:
    assert parse_tasks(["worker1", "3"], journal_of(*UNMAP_STORY)) == {1, 3}


def test_an_unknown_task_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match=r"no such task; there are 1 \(worker1\), 2 \(flusher1\), 3 \(irq0\)"):
        parse_tasks(["worker9"], journal_of(*UNMAP_STORY))


# -- Perfetto ---------------------------------------------------------------------------------------------


def drawn(journal: Journal, phase: str) -> list[tuple[str, int]]:
    return [(entry["name"], entry["ts"]) for entry in to_perfetto(journal)["traceEvents"] if entry["ph"] == phase]


def assert_nested_and_in_order(trace: dict[str, Any]) -> None:
    stacks: dict[tuple[int, int], list[str]] = {}
    last: dict[tuple[int, int], int] = {}
    for entry in trace["traceEvents"]:
        if entry["ph"] == "M":
            continue
        row = (entry["pid"], entry["tid"])
        assert entry["ts"] >= last.get(row, 0), entry
        last[row] = entry["ts"]
        stack = stacks.setdefault(row, [])
        if entry["ph"] == "B":
            stack.append(entry["name"])
        elif entry["ph"] == "E":
            assert stack.pop() == entry["name"]
    assert not any(stacks.values())


def test_calls_flushes_unmaps_and_lock_holds_are_slices() -> None:
    begun = drawn(journal_of(*UNMAP_STORY), "B")
    for slice_begun in (("vm_unmap_ram", 0), ("vb->lock 1.5", 1), ("unmap", 4), ("flush 1", 9), ("vb_free()", 1)):
        assert slice_begun in begun


def test_clears_and_invalidations_are_instants() -> None:
    assert drawn(journal_of(*UNMAP_STORY), "i") == [("PTE_CLEAR", 6), ("TLB_INVALIDATE", 10), ("TLB_INVALIDATE", 11)]


def test_an_invalidation_is_drawn_on_the_row_of_its_cpu() -> None:
    entries = to_perfetto(journal_of(*UNMAP_STORY))["traceEvents"]
    rows = {(entry["pid"], entry["tid"]): entry["args"]["name"] for entry in entries if entry["name"] == "thread_name"}
    assert [rows[e["pid"], e["tid"]] for e in entries if e["name"] == "TLB_INVALIDATE"] == ["CPU 0", "CPU 1"]


def test_slices_nest_and_each_row_is_in_order_in_a_long_journal() -> None:
    assert_nested_and_in_order(to_perfetto(synthetic_journal(5000)))


def test_locks_released_out_of_order_still_nest() -> None:
    a, b = (1, 0, "f", 1 << 20 | 1, "a", 0), (1, 0, "f", 1 << 20 | 2, "b", 0)
    journal = journal_of((ev.LOCK, *a), (ev.LOCK, *b), (ev.UNLOCK, *a), (ev.UNLOCK, *b))
    assert_nested_and_in_order(to_perfetto(journal))


def test_a_journal_cut_at_both_ends_still_nests() -> None:
    assert_nested_and_in_order(to_perfetto(journal_of(*UNMAP_STORY[3:11])))


def test_the_trace_is_json() -> None:
    assert json.loads(json.dumps(to_perfetto(synthetic_journal(500))))["traceEvents"]


# -- ftrace -----------------------------------------------------------------------------------------------


def ftrace_of(*events: Event) -> list[str]:
    return [line for line in to_ftrace(journal_of(*events)) if not line.startswith("#")]


def test_a_line_looks_like_one_of_ftrace() -> None:
    journal = journal_of(*[(ev.AUDIT_END, 1, 0, "", 0, "", 0)] * 67, (ev.API_BEGIN, 1, 0, "", PAGE, "vm_unmap_ram", 32))
    line = list(to_ftrace(journal))[-1]
    pattern = r" +worker1-1 +\[000\] \.\.\.\.\. +67: vm_unmap_ram_enter: addr=0x100010000 count=32"
    assert re.fullmatch(pattern, line)


def test_what_the_probes_of_a_real_kernel_see_has_their_names() -> None:
    events = [line.split(": ", 1)[1] for line in ftrace_of(*UNMAP_STORY) if "stressvmap:" not in line]
    assert events == [
        "vm_unmap_ram_enter: addr=0x100010000 count=4",
        "__vunmap_range_noflush_enter: start=0x100010000 end=0x100014000",
        "vm_unmap_aliases_enter:",
        "__vunmap_range_noflush_exit:",
        "vm_unmap_ram_exit:",
        "flush_tlb_kernel_range_enter: start=0x100010000 end=0x100014000",
        "flush_tlb_kernel_range_exit:",
        "vm_unmap_aliases_exit:",
    ]


def test_a_map_shows_its_count_and_the_address_it_returns() -> None:
    begin, end = ftrace_of((ev.API_BEGIN, 1, 0, "", 0, "vm_map_ram", 4), (ev.API_END, 1, 0, "", PAGE, "vm_map_ram", 4))
    assert begin.endswith("vm_map_ram_enter: count=4")
    assert end.endswith("vm_map_ram_exit: ret=0x100010000")


def test_a_flush_of_everything_is_a_flush_tlb_all() -> None:
    (line,) = ftrace_of((ev.FLUSH_BEGIN, 1, 0, "", 0, 1, ev.FULL_END))
    assert line.endswith(": flush_tlb_all_enter:")


def test_an_address_is_one_of_64_bits_even_if_it_is_senseless() -> None:
    (line,) = ftrace_of((ev.FLUSH_BEGIN, 1, 0, "", -1, 1, 0))
    assert "start=0xfffffffffffff000 end=0x0" in line


@pytest.mark.parametrize("kind", sorted(KIND_NAMES))
def test_each_other_kind_is_a_stressvmap_line(kind: int) -> None:
    (line,) = ftrace_of((kind, 1, 0, "vb_free", 5, "what" if kind in B_IS_SYMBOL else 6, 7))
    assert re.search(rf": (stressvmap: {KIND_NAMES[kind]} |\w+_(enter|exit):)", line)


def test_the_header_counts_the_events() -> None:
    assert "# entries-in-buffer/entries-written: 14/14   #P:2" in list(to_ftrace(journal_of(*UNMAP_STORY)))


def test_the_header_of_an_incomplete_journal_says_that_events_were_lost() -> None:
    journal = Journal({}, UNMAP_STORY, complete=False, damage="cut at byte 5")
    lines = list(to_ftrace(journal))
    assert "# entries-in-buffer/entries-written: 14/15   #P:2" in lines
    assert "# incomplete: cut at byte 5" in lines
