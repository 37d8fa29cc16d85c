# SPDX-License-Identifier: GPL-2.0-only
import json
import os
import random
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stressvmap.errors import ConfigError, HarnessError, JournalFormatError
from stressvmap.journal import store
from stressvmap.journal.events import B_IS_SYMBOL, GROUND, KIND_NAMES, PTE_CLEAR, READ, Event
from stressvmap.journal.journal import FORMAT_VERSION, Journal
from stressvmap.journal.store import CHUNK_EVENTS, JournalWriter, read, write
from tests.journal.synthetic import synthetic_events, synthetic_journal

BYTES_PER_EVENT_MAX = 15
HEAD_BYTES = 28

integers = st.one_of(
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.integers(-300, 300),
    st.sampled_from([0, -1, (1 << 63) - 1, -(1 << 63), 1 << 63, (1 << 64) - 1, 1 << 256, -(1 << 70)]),
)
texts = st.one_of(st.sampled_from(["", "vb_free", "free_list", "vmap_purge_lock"]), st.text(max_size=20))


@st.composite
def schema_events(draw: st.DrawFn) -> Event:
    kind = draw(st.sampled_from(sorted(KIND_NAMES)))
    b: int | str = draw(texts) if kind in B_IS_SYMBOL else draw(integers)
    return (kind, draw(st.integers(0, 300)), draw(st.integers(0, 255)), draw(texts), draw(integers), b, draw(integers))


headers = st.dictionaries(st.text(max_size=10), st.one_of(st.none(), st.booleans(), integers, st.text(max_size=10)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.journal"


def as_journal(events: list[Event]) -> Journal:
    return Journal({"version": "v6.4"}, events)


def reads(count: int) -> list[Event]:
    return [(READ, n % 3, 0, "vb_free", 1 << 20 | 1, "dirty", n) for n in range(count)]


def record_offsets(data: bytes) -> list[int]:
    """Where each record begins, the end marker's last."""
    at = data.index(b"\n", data.index(b"\n") + 1) + 1
    offsets = []
    while at < len(data):
        offsets.append(at)
        at += HEAD_BYTES + struct.unpack_from("<I", data, at + 16)[0]
    return offsets


def with_record(tag: bytes, number: int, count: int, payload: bytes, claimed_bytes: int | None = None) -> bytes:
    """A record whose checksums are right, whatever it holds."""
    claimed = len(payload) if claimed_bytes is None else claimed_bytes
    head = struct.pack("<4sQIII", tag, number, count, claimed, zlib.crc32(payload))
    return head + struct.pack("<I", zlib.crc32(head)) + payload


def header_only(path: Path) -> bytes:
    write(as_journal([]), path)
    data = path.read_bytes()
    return data[: record_offsets(data)[0]]


# -- lossless ---------------------------------------------------------------------------------------------


@settings(deadline=None)  # each example waits for the disk
@given(header=headers, events=st.lists(schema_events(), max_size=60), repeats=st.integers(1, 4))
def test_any_journal_is_read_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, header: dict[str, object], events: list[Event], repeats: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.journal"
    journal = Journal(header, events * repeats, frozenset({GROUND}))
    write(journal, path)
    assert read(path) == journal


def test_a_journal_of_several_chunks_is_read_back_as_it_was_written(path: Path) -> None:
    journal = synthetic_journal(2 * CHUNK_EVENTS + 77)
    write(journal, path)
    assert read(path) == journal


def test_the_digest_of_what_is_read_is_that_of_what_was_written(path: Path) -> None:
    journal = synthetic_journal(500)
    write(journal, path)
    assert read(path).digest() == journal.digest()


@pytest.mark.parametrize("step", [0, 1, -1, 1 << 40, (1 << 63) - 1, 1 << 64])
def test_ever_new_numbers_are_read_back_whatever_lies_between_them(path: Path, step: int) -> None:
    events: list[Event] = [(PTE_CLEAR, 1, 0, "", n * step, n * n, -n * step) for n in range(300)]
    write(as_journal(events), path)
    assert read(path).events == events


def test_a_true_or_false_is_read_back_as_one_or_zero(path: Path) -> None:
    write(as_journal([(READ, 1, 0, "", True, "f", False)]), path)
    assert [type(value) for value in read(path).events[0]] == [int, int, int, str, int, str, int]


def test_an_unpaired_surrogate_in_a_message_survives(path: Path) -> None:
    events: list[Event] = [(READ, 1, 0, "", 0, "\ud800\udc00 \udfff", 0)]
    write(as_journal(events), path)
    assert read(path).events == events


def test_a_chunk_of_huge_names_is_written_as_smaller_chunks(path: Path) -> None:
    events: list[Event] = [(READ, 1, 0, "", 0, f"{n}" * 200_000, 0) for n in range(10, 40)]
    write(as_journal(events), path)
    assert read(path).events == events


def test_an_incomplete_recording_stays_incomplete(path: Path) -> None:
    write(Journal({}, reads(3), complete=False, damage="the ring buffer lost 7 events"), path)
    again = read(path)
    assert (again.complete, again.damage, len(again.events)) == (False, "the ring buffer lost 7 events", 3)


# -- size -------------------------------------------------------------------------------------------------


def test_an_event_takes_less_than_15_bytes(path: Path) -> None:
    count = 2 * CHUNK_EVENTS
    write(synthetic_journal(count), path)
    assert path.stat().st_size < BYTES_PER_EVENT_MAX * count


@pytest.mark.slow
def test_a_million_events_take_less_than_15_megabytes(path: Path) -> None:
    journal = synthetic_journal(1_000_000)
    write(journal, path)
    assert path.stat().st_size < 15_000_000
    assert read(path) == journal


# -- writing ----------------------------------------------------------------------------------------------


def test_a_journal_written_in_pieces_is_the_one_written_at_once(tmp_path: Path) -> None:
    journal = synthetic_journal(CHUNK_EVENTS + 1000)
    events = list(journal.events)
    write(journal, tmp_path / "at-once")
    with JournalWriter(tmp_path / "in-pieces", journal.header) as writer:
        for start in range(0, len(events), 777):
            writer.append(events[start : start + 777])
    assert (tmp_path / "in-pieces").read_bytes() == (tmp_path / "at-once").read_bytes()


def test_the_writer_holds_no_more_than_a_chunk(path: Path) -> None:
    with JournalWriter(path, {}) as writer:
        for _ in range(3):
            writer.append(reads(CHUNK_EVENTS - 1))
        assert writer.events == 2 * CHUNK_EVENTS


def test_a_writer_that_was_killed_leaves_a_readable_prefix(path: Path) -> None:
    writer = JournalWriter(path, {})
    writer.append(reads(CHUNK_EVENTS + 5))
    found = read(path)
    writer.abandon()
    assert not found.complete
    assert f"the first {CHUNK_EVENTS} events of an unknown number" in found.damage


def fail_in(writer: JournalWriter) -> None:
    with writer:
        writer.append(reads(3))
        raise KeyError


def test_a_block_that_fails_leaves_no_end_marker(path: Path) -> None:
    with pytest.raises(KeyError):
        fail_in(JournalWriter(path, {}))
    assert not read(path).complete


def test_an_event_against_the_schema_is_refused_before_it_reaches_the_file(path: Path) -> None:
    with pytest.raises(HarnessError, match="b of pte_clear is of type str"):
        write(as_journal([(PTE_CLEAR, 1, 0, "", 5, "frame", 0)]), path)


def test_a_failed_write_leaves_the_old_file_and_no_draft(path: Path) -> None:
    write(as_journal(reads(5)), path)
    with pytest.raises(HarnessError):
        write(as_journal([(PTE_CLEAR, 1, 0, "", 5, "frame", 0)]), path)
    assert len(read(path).events) == 5
    assert os.listdir(path.parent) == [path.name]


def test_a_folder_that_is_not_there_is_a_config_error_that_names_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "a.journal"
    with pytest.raises(ConfigError, match=str(path)):
        write(as_journal([]), path)


# -- damage -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [1, HEAD_BYTES, 200, 400])
def test_a_cut_journal_gives_its_whole_chunks_and_says_where_it_was_cut(path: Path, missing: int) -> None:
    journal = synthetic_journal(2 * CHUNK_EVENTS + 500)
    write(journal, path)
    data = path.read_bytes()
    end = record_offsets(data)[2] + missing
    path.write_bytes(data[:end])
    found = read(path)
    assert found.events == list(journal.events)[: 2 * CHUNK_EVENTS]
    assert found.damage == f"the first 1024 events of an unknown number; cut at byte {end}"
    assert not found.complete


def test_a_journal_without_its_end_marker_is_not_complete_though_all_events_are_there(path: Path) -> None:
    write(as_journal(reads(9)), path)
    data = path.read_bytes()
    path.write_bytes(data[: record_offsets(data)[-1]])
    found = read(path)
    assert len(found.events) == 9
    assert not found.complete


def test_a_journal_cut_before_its_first_chunk_has_no_events(path: Path) -> None:
    path.write_bytes(header_only(path))
    found = read(path)
    assert (found.events, found.complete) == ([], False)
    assert found.damage.startswith("none of an unknown number of events")


def test_a_flipped_bit_anywhere_is_noticed_and_what_is_read_is_a_prefix(path: Path) -> None:
    events = synthetic_events(300)
    write(as_journal(events), path)
    data = path.read_bytes()
    draw = random.Random(1)
    for _ in range(400):
        at = draw.randrange(len(data))
        flipped = bytearray(data)
        flipped[at] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        try:
            found = read(path)
        except JournalFormatError:
            assert at < record_offsets(data)[0]
        else:
            assert not found.complete
            assert found.damage
            assert found.events == events[: len(found.events)]


def test_a_cut_anywhere_is_noticed_and_what_is_read_is_a_prefix(path: Path) -> None:
    events = synthetic_events(50)
    write(as_journal(events), path)
    data = path.read_bytes()
    for length in range(record_offsets(data)[0], len(data)):
        path.write_bytes(data[:length])
        found = read(path)
        assert not found.complete
        assert found.events == events[: len(found.events)]


def test_a_damaged_chunk_ends_what_is_read_and_is_named(path: Path) -> None:
    write(as_journal(reads(3 * CHUNK_EVENTS)), path)
    data = bytearray(path.read_bytes())
    at = record_offsets(bytes(data))[1]
    data[at + HEAD_BYTES + 100] ^= 4
    path.write_bytes(data)
    found = read(path)
    assert len(found.events) == CHUNK_EVENTS
    assert found.damage.startswith(f"the first 512 events of an unknown number; damaged at byte {at}: ")


def test_a_gap_in_the_numbering_is_named_and_nothing_after_it_is_used(path: Path) -> None:
    write(as_journal(reads(3 * CHUNK_EVENTS)), path)
    data = path.read_bytes()
    offsets = record_offsets(data)
    path.write_bytes(data[: offsets[1]] + data[offsets[2] :])
    found = read(path)
    assert len(found.events) == CHUNK_EVENTS
    assert "events 512 to 1023 are missing" in found.damage


def test_a_chunk_that_comes_twice_is_a_fault_in_the_numbering(path: Path) -> None:
    write(as_journal(reads(9)), path)
    data = path.read_bytes()
    offsets = record_offsets(data)
    path.write_bytes(data[: offsets[1]] + data[offsets[0] :])
    assert "the numbering goes back to 0" in read(path).damage


def test_a_missing_last_chunk_is_told_by_the_end_marker(path: Path) -> None:
    write(as_journal(reads(CHUNK_EVENTS + 9)), path)
    data = path.read_bytes()
    offsets = record_offsets(data)
    path.write_bytes(data[: offsets[1]] + data[offsets[2] :])
    assert read(path).damage.startswith("the first 512 of 521 events")


def test_a_header_of_another_journal_is_told_by_the_digest(path: Path) -> None:
    write(as_journal(reads(9)), path)
    data = path.read_bytes()
    write(Journal({"version": "v6.5"}, []), path)
    other = path.read_bytes()
    path.write_bytes(other[: record_offsets(other)[0]] + data[record_offsets(data)[0] :])
    assert "its digest differs" in read(path).damage


def test_something_after_the_end_marker_makes_it_incomplete(path: Path) -> None:
    write(as_journal(reads(9)), path)
    path.write_bytes(path.read_bytes() + b"x")
    assert "something follows the end marker" in read(path).damage


def test_more_events_than_are_to_be_held_are_not_read(path: Path) -> None:
    write(as_journal(reads(2 * CHUNK_EVENTS)), path)
    found = read(path, events_max=CHUNK_EVENTS)
    assert len(found.events) == CHUNK_EVENTS
    assert not found.complete
    assert "more than 512 are not read at once" in found.damage


# -- no journal -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", [b"", b"hello\n", b"\x7fELF" + bytes(100), b"stressvmap journal x\n", b"stressvmap journal 1"]
)
def test_what_is_no_journal_is_named_with_what_was_expected(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(
        JournalFormatError, match=r'is no journal: expected "stressvmap journal 1" as its first line'
    ) as error:
        read(path)
    assert str(path) in str(error.value)


def test_a_journal_of_a_newer_format_is_refused_and_says_so(path: Path) -> None:
    write(as_journal([]), path)
    newer = FORMAT_VERSION + 1
    path.write_bytes(path.read_bytes().replace(b"journal %d" % FORMAT_VERSION, b"journal %d" % newer, 1))
    with pytest.raises(JournalFormatError, match=f"format {newer}, newer than the format {FORMAT_VERSION}"):
        read(path)


def cut_header(data: bytes) -> bytes:
    return data[:40]


def flipped_header(data: bytes) -> bytes:
    return data.replace(b"v6.4", b"v6.5")


def header_that_is_a_list(data: bytes) -> bytes:
    line = json.dumps([1]).encode()
    return b"stressvmap journal 1\n%08x %s\n" % (zlib.crc32(line), line)


def header_nested_too_deep(data: bytes) -> bytes:
    line = b"[" * 200_000
    return b"stressvmap journal 1\n%08x %s\n" % (zlib.crc32(line), line)


@pytest.mark.parametrize("spoil", [cut_header, flipped_header, header_that_is_a_list, header_nested_too_deep])
def test_a_header_that_cannot_be_read_makes_it_no_journal(path: Path, spoil: Callable[[bytes], bytes]) -> None:
    write(as_journal(reads(9)), path)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(JournalFormatError, match="header cannot be read"):
        read(path)


def test_a_file_that_is_not_there_is_a_config_error(path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the journal"):
        read(path)


# -- hostile files ----------------------------------------------------------------------------------------


def column(coding: bytes, code: bytes, table: bytes, numbers: bytes) -> bytes:
    packed_table, packed = zlib.compress(table, 9), zlib.compress(numbers, 9)
    return struct.pack("<ccII", coding, code, len(packed_table), len(packed)) + packed_table + packed


GOOD_NUMBER = column(b"t", b"B", b"[1]", b"\0")
GOOD_TEXT = column(b"t", b"B", b'[""]', b"\0")
GOOD_COLUMNS = [GOOD_NUMBER, GOOD_NUMBER, GOOD_NUMBER, GOOD_TEXT, GOOD_NUMBER, GOOD_TEXT, GOOD_NUMBER]


def chunk_with(bad: bytes, index: int = 4) -> bytes:
    payload = b"".join([*GOOD_COLUMNS[:index], bad, *GOOD_COLUMNS[index + 1 :]])
    return with_record(b"EVTS", 0, 1, payload)


def test_the_hand_made_chunk_of_these_tests_is_a_good_one(path: Path) -> None:
    path.write_bytes(header_only(path) + chunk_with(GOOD_NUMBER))
    assert read(path).events == [(1, 1, 1, "", 1, "", 1)]


HOSTILE = {
    "a record that claims 4 GB": with_record(b"EVTS", 0, 1, b"x", claimed_bytes=0xFFFFFFFF),
    "a chunk of 4 billion events": with_record(b"EVTS", 0, 0xFFFFFFFF, b"".join(GOOD_COLUMNS)),
    "a chunk of no events": with_record(b"EVTS", 0, 0, b""),
    "an empty payload": with_record(b"EVTS", 0, 1, b""),
    "a record of another kind": with_record(b"WHAT", 0, 1, b""),
    "too few numbers": chunk_with(column(b"t", b"B", b"[1]", b"")),
    "an index outside the table": chunk_with(column(b"t", b"B", b"[1]", b"\1")),
    "an empty table": chunk_with(column(b"t", b"B", b"[]", b"\0")),
    "a table that is no list": chunk_with(column(b"t", b"B", b"{}", b"\0")),
    "a table that is no JSON": chunk_with(column(b"t", b"B", b"[1", b"\0")),
    "a table that is no UTF-8": chunk_with(column(b"t", b"B", b'["\xff"]', b"\0")),
    "a table nested too deep": chunk_with(column(b"t", b"B", b"[" * 200_000, b"\0")),
    "a number of too many digits": chunk_with(column(b"t", b"B", b"[" + b"9" * 100_000 + b"]", b"\0")),
    "a table of fractions": chunk_with(column(b"t", b"B", b"[1.5]", b"\0")),
    "a table of truths": chunk_with(column(b"t", b"B", b"[true]", b"\0")),
    "a text where a number belongs": chunk_with(GOOD_TEXT),
    "a number where a text belongs": chunk_with(GOOD_NUMBER, 3),
    "a number where this kind has a text": chunk_with(GOOD_NUMBER, 5),
    "an unknown coding": chunk_with(column(b"x", b"B", b"[1]", b"\0")),
    "an array code of another kind": chunk_with(column(b"t", b"u", b"[1]", bytes(4))),
    "differences from a text": chunk_with(column(b"d", b"b", b'["x"]', b"\0")),
    "what is not compressed": chunk_with(struct.pack("<ccII", b"t", b"B", 3, 1) + b"[1]" + b"\0"),
    "a column longer than its chunk": chunk_with(struct.pack("<ccII", b"t", b"B", 0xFFFFFFFF, 0xFFFFFFFF)),
    "an eighth column": with_record(b"EVTS", 0, 1, b"".join([*GOOD_COLUMNS, GOOD_NUMBER])),
    "an end marker that is no JSON": with_record(b"DONE", 0, 0, b"{"),
    "an end marker that is a list": with_record(b"DONE", 0, 0, b"[]"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_is_damaged_and_no_more(path: Path, what: str) -> None:
    path.write_bytes(header_only(path) + HOSTILE[what])
    found = read(path)
    assert found.events == []
    assert not found.complete
    assert found.damage


def peak_bytes_of_reading(path: Path) -> int:
    tracemalloc.start()
    try:
        assert not read(path).complete
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("what", ["a record that claims 4 GB", "a chunk of 4 billion events"])
def test_a_claimed_size_does_not_cost_memory(path: Path, what: str) -> None:
    path.write_bytes(header_only(path) + HOSTILE[what])
    assert peak_bytes_of_reading(path) < 1 << 20


@pytest.mark.parametrize("in_table", [True, False])
def test_a_column_that_unpacks_to_128_megabytes_does_not_cost_memory(path: Path, in_table: bool) -> None:
    bomb = b" " * (1 << 27)
    bad = column(b"t", b"B", b"[" + bomb + b"1]", b"\0") if in_table else column(b"t", b"B", b"[1]", bomb)
    path.write_bytes(header_only(path) + chunk_with(bad))
    assert peak_bytes_of_reading(path) < 32 << 20


def test_a_header_line_without_an_end_is_not_read_for_ever(path: Path) -> None:
    path.write_bytes(b"stressvmap journal 1\n" + b"0" * (3 * store._HEADER_BYTES_MAX))
    with pytest.raises(JournalFormatError):
        read(path)
