# SPDX-License-Identifier: GPL-2.0-only
"""The journal as a file: columns in compressed chunks, each checked, so that a damaged file is readable up to there.

    stressvmap journal 1\n                         magic and format version
    <crc32, 8 hex digits> {"header": ..., "streams": [...]}\n
    EVTS record, EVTS record, ...                  up to CHUNK_EVENTS events each
    DONE record                                    total number of events, digest of every byte before it

A record is a head (tag, number, count, payload bytes, payload CRC), a CRC of the head, and a payload. In an EVTS record
`number` is that of its first event, so a lost record is noticed; its payload is the seven columns of its events, one
after the other. A column is stored in one of two ways, whichever fits:

    table   the distinct values as a JSON array, and an index into it per event   names, kinds, tasks, objects, pages
    delta   the first value as JSON, and the differences                          counters and other ever new numbers

Indexes and differences take 1 to 8 bytes each (the smallest that fits), little-endian, stored byte plane by byte plane:
all lowest bytes first. Table and numbers are zlib streams of their own. Integers have no size limit: what needs more
than 64 bits goes through a table.

Nothing a file says is believed: each size has a limit that is checked before anything is allocated for it.

Not this file's business: what an event means (events.py).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import sys
import threading
import zlib
from array import array
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import accumulate, islice
from operator import sub
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final

from stressvmap.errors import ConfigError, HarnessError, JournalFormatError
from stressvmap.journal.events import AUDIT, B_IS_SYMBOL, GROUND, KIND_NAMES, OPERATIONS, Event
from stressvmap.journal.journal import FORMAT_VERSION, Journal

CHUNK_EVENTS: Final = 512
"""Most events of a chunk that is written: what a cut may lose."""
CHUNK_EVENTS_READ_MAX: Final = 1 << 16
"""Most events of a chunk that is read."""
EVENTS_MAX: Final = 1 << 23
"""Most events `read` holds in memory unless told otherwise (about a gigabyte of them)."""

_MAGIC: Final = b"stressvmap journal "
_MAGIC_LINE: Final = re.compile(rb"stressvmap journal ([0-9]{1,9})\n")
_HEADER_BYTES_MAX: Final = 1 << 22
_TABLE_BYTES_MAX: Final = 1 << 22
"""Of one column of one chunk, unpacked; the writer makes smaller chunks to keep it."""
_PAYLOAD_BYTES_MAX: Final = 1 << 25
_TABLE_SHARE: Final = 4
"""More distinct integers than one in so many, and differences are the smaller way to say them."""

_HEAD: Final = struct.Struct("<4sQIII")
_HEAD_CRC: Final = struct.Struct("<I")
_EVENTS_TAG: Final = b"EVTS"
_DONE_TAG: Final = b"DONE"

_COLUMN_HEAD: Final = struct.Struct("<ccII")
_BY_TABLE: Final = b"t"
_BY_DELTA: Final = b"d"
_COLUMNS: Final = 7
_INDEX_CODES: Final = "BHI"
_DELTA_CODES: Final = "bhiq"

Column = Sequence[int | str]


class _Damage(Exception):
    """The file is unreadable from here on; says why."""


# -- columns ----------------------------------------------------------------------------------------------


def _pack_numbers(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers.byteswap()
    data = numbers.tobytes()
    width = numbers.itemsize
    return zlib.compress(b"".join(data[plane::width] for plane in range(width)))


def _unpack_numbers(code: str, packed: bytes, count: int) -> array[int]:
    numbers = array(code)
    width = numbers.itemsize
    data = _inflate(packed, count * width)
    if len(data) != count * width:
        raise _Damage("a column has not as many values as its chunk has events")
    woven = bytearray(len(data))
    for plane in range(width):
        woven[plane::width] = data[plane * count : (plane + 1) * count]
    numbers.frombytes(woven)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _inflate(packed: bytes, bytes_max: int) -> bytes:
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(packed, bytes_max + 1)
    except zlib.error as error:
        raise _Damage(f"a column cannot be unpacked ({error})") from error
    if len(data) > bytes_max or not stream.eof or stream.unused_data:
        raise _Damage("a column is not of the size that its chunk says")
    return data


def _to_json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def _from_json(data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise _Damage(f"a table is no JSON ({error})") from error


def _code_for(codes: str, least: int, most: int) -> str:
    """The smallest array code that holds both, or "" if none does."""
    for code in codes:
        bits = array(code).itemsize * 8
        low, high = (0, 1 << bits) if code.isupper() else (-1 << bits - 1, 1 << bits - 1)
        if low <= least and most < high:
            return code
    return ""


def _encode_column(values: Column) -> bytes | None:
    """The column's bytes; None if its table is too large, so that the chunk has to be made smaller."""
    index = {value: number for number, value in enumerate(dict.fromkeys(values))}
    if len(index) > len(values) // _TABLE_SHARE:
        encoded = _encode_deltas(values)
        if encoded:
            return encoded
    table = _to_json([value if isinstance(value, str) else int(value) for value in index])
    if len(table) > _TABLE_BYTES_MAX:
        return None
    code = _code_for(_INDEX_CODES, 0, len(index))
    return _column_bytes(_BY_TABLE, table, array(code, map(index.__getitem__, values)))


def _encode_deltas(values: Column) -> bytes:
    """Empty if a value is no integer or a difference needs more than 64 bits."""
    numbers = [value for value in values if isinstance(value, int)]
    if len(numbers) != len(values) or len(numbers) < 2:
        return b""
    deltas = list(map(sub, numbers[1:], numbers))
    code = _code_for(_DELTA_CODES, min(deltas), max(deltas))
    if not code:
        return b""
    return _column_bytes(_BY_DELTA, _to_json([int(numbers[0])]), array(code, [0, *deltas]))


def _column_bytes(coding: bytes, table: bytes, numbers: array[int]) -> bytes:
    packed_table = zlib.compress(table)
    packed = _pack_numbers(numbers)
    head = _COLUMN_HEAD.pack(coding, numbers.typecode.encode(), len(packed_table), len(packed))
    return head + packed_table + packed


def _decode_column(payload: memoryview, at: int, count: int) -> tuple[Column, int]:
    """The column that begins at byte `at` of the payload, and where it ends."""
    if at + _COLUMN_HEAD.size > len(payload):
        raise _Damage("a chunk ends within a column")
    coding, code, table_bytes, packed_bytes = _COLUMN_HEAD.unpack_from(payload, at)
    middle = at + _COLUMN_HEAD.size + table_bytes
    end = middle + packed_bytes
    if end > len(payload):
        raise _Damage("a chunk ends within a column")
    table = _from_json(_inflate(bytes(payload[at + _COLUMN_HEAD.size : middle]), _TABLE_BYTES_MAX))
    if not isinstance(table, list) or not {type(value) for value in table} <= {int, str}:
        raise _Damage("a table holds something else than integers and strings")
    letter = chr(code[0])
    if coding == _BY_TABLE and letter in _INDEX_CODES:
        indexes = _unpack_numbers(letter, bytes(payload[middle:end]), count)
        if max(indexes) >= len(table):
            raise _Damage("a column names a value that its table has not")
        return list(map(table.__getitem__, indexes)), end
    if coding == _BY_DELTA and letter in _DELTA_CODES and len(table) == 1 and type(table[0]) is int:
        deltas = _unpack_numbers(letter, bytes(payload[middle:end]), count)
        deltas[0] = 0
        return list(accumulate(deltas, initial=table[0]))[1:], end
    raise _Damage("a column is coded in an unknown way")


def _schema_error(columns: Sequence[Column]) -> str:
    """What the schema of events.py forbids in these columns; empty if nothing."""
    kinds, tasks, cpus, functions, a, b, c = columns
    scalars: tuple[tuple[str, Column, type], ...] = (
        ("kind", kinds, int),
        ("task", tasks, int),
        ("cpu", cpus, int),
        ("function", functions, str),
        ("a", a, int),
        ("c", c, int),
    )
    for name, column, expected in scalars:
        for found in set(map(type, column)):
            if not issubclass(found, expected):
                return f"{name} is of type {found.__name__}"
    for kind, found in set(zip(kinds, map(type, b), strict=True)):
        name = KIND_NAMES.get(int(kind), "")
        expected = (str if kind in B_IS_SYMBOL else int) if name else found  # an unknown kind may carry either
        if not issubclass(found, expected) or not issubclass(found, int | str):
            return f"b of {name or kind} is of type {found.__name__}"
    return ""


# -- writing ----------------------------------------------------------------------------------------------


class JournalWriter:
    """Writes a journal as it grows: no more than a chunk of events is held.

    It writes under the final name, chunk by chunk: if the process is killed, what is there reads as a cut journal. As a
    context manager it closes the journal, but leaves it without an end marker if the block failed.
    """

    def __init__(
        self,
        path: Path | str,
        header: dict[str, Any],
        streams: Iterable[str] = (GROUND, OPERATIONS, AUDIT),
        *,
        draft: Path | None = None,
    ) -> None:
        self.path = Path(path)
        """What errors name; the file itself, unless a `draft` is written in its place."""
        self.events = 0
        """Events written out so far; those that wait for their chunk to fill are not counted."""
        self._pending: list[Event] = []
        self._digest = hashlib.sha256()
        line = _to_json({"header": header, "streams": sorted(streams)})
        if len(line) > _HEADER_BYTES_MAX:
            raise HarnessError(f"{self.path}: a journal header of {len(line)} bytes; the limit is {_HEADER_BYTES_MAX}")
        try:
            self._file: BinaryIO = (draft or self.path).open("wb")
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        self._put(_MAGIC + b"%d\n" % FORMAT_VERSION)
        self._put(b"%08x %s\n" % (zlib.crc32(line), line))

    def append(self, events: Iterable[Event]) -> None:
        """Append events; each full chunk is written at once."""
        rest = iter(events)
        while more := list(islice(rest, CHUNK_EVENTS - len(self._pending))):
            self._pending += more
            if len(self._pending) == CHUNK_EVENTS:
                self._write_events(self._pending)
                self._pending = []

    def close(self, *, complete: bool = True, damage: str = "") -> None:
        """Write what is left and the end marker. `complete` and `damage`: as in Journal, of what was recorded."""
        if self._file.closed:
            return
        try:
            if self._pending:
                self._write_events(self._pending)
            done = {"sha256": self._digest.hexdigest(), "complete": complete, "damage": damage}
            self._put_record(_DONE_TAG, self.events, 0, _to_json(done))
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Stop without an end marker: the file reads as cut."""
        self._pending = []
        self._file.close()

    def __enter__(self) -> JournalWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def _write_events(self, events: list[Event]) -> None:
        columns = list(zip(*events, strict=True))
        wrong = _schema_error(columns)
        if wrong:
            raise HarnessError(f"{self.path}: an event from number {self.events} on is against the schema: {wrong}")
        encoded = [_encode_column(column) for column in columns]
        payload = b"".join(column for column in encoded if column is not None)
        if None not in encoded and len(payload) <= _PAYLOAD_BYTES_MAX:
            self._put_record(_EVENTS_TAG, self.events, len(events), payload)
            self.events += len(events)
        elif len(events) == 1:
            raise HarnessError(f"{self.path}: event {self.events} is larger than {_TABLE_BYTES_MAX} bytes")
        else:
            self._write_events(events[: len(events) // 2])
            self._write_events(events[len(events) // 2 :])

    def _put_record(self, tag: bytes, number: int, count: int, payload: bytes) -> None:
        head = _HEAD.pack(tag, number, count, len(payload), zlib.crc32(payload))
        self._put(head + _HEAD_CRC.pack(zlib.crc32(head)) + payload)

    def _put(self, data: bytes) -> None:
        self._digest.update(data)
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise _cannot_write(self.path, error) from error


def write(journal: Journal, path: Path | str) -> None:
    """Write `journal` to `path`, atomically: there is the old file or the whole new one, never a part."""
    path = Path(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with JournalWriter(path, journal.header, journal.streams, draft=draft) as writer:
            writer.append(journal.events)
            writer.close(complete=journal.complete, damage=journal.damage)
        draft.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        with suppress(OSError):  # it is gone already, or could not be made
            draft.unlink()
    with suppress(OSError):  # not every file system can: the journal is there all the same
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _cannot_write(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"cannot write the journal {path}: {error.strerror or error}")


# -- reading ----------------------------------------------------------------------------------------------


def read(path: Path | str, events_max: int = EVENTS_MAX) -> Journal:
    """Read a journal. Of a damaged one, the events before the damage, with `complete` False and `damage` saying so.

    Raises JournalFormatError for what is no journal, or one of a newer format; ConfigError if it cannot be opened.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            reader = _Reader(file, path, events_max)
            journal = reader.read_header()
            journal.complete, journal.damage = reader.read_events()
            journal.events = reader.events
            return journal
    except OSError as error:
        raise ConfigError(f"cannot read the journal {path}: {error.strerror or error}") from error


class _Reader:
    """Reads one file, front to back. `events` is always the readable prefix so far."""

    def __init__(self, file: BinaryIO, path: Path, events_max: int) -> None:
        self.file = file
        self.path = path
        self.events_max = events_max
        self.events: list[Event] = []
        self.digest = hashlib.sha256()

    def read_header(self) -> Journal:
        first = self.file.readline(len(_MAGIC) + 10)
        match = _MAGIC_LINE.fullmatch(first)
        if match is None:
            raise JournalFormatError(
                f'{self.path} is no journal: expected "stressvmap journal {FORMAT_VERSION}" as its first line,'
                f" found {_excerpt(first)}"
            )
        version = int(match[1])
        if version > FORMAT_VERSION:
            raise JournalFormatError(
                f"{self.path} is a journal of format {version}, newer than the format {FORMAT_VERSION} that this"
                " stressvmap reads: use the stressvmap that wrote it, or a later one"
            )
        if version < 1:
            raise JournalFormatError(
                f"{self.path} is a journal of format 0, which never was: expected {FORMAT_VERSION}"
            )
        line = self.file.readline(_HEADER_BYTES_MAX + 16)
        text = line[9:-1]
        if line[:9] != b"%08x " % zlib.crc32(text) or line[-1:] != b"\n":
            raise self._bad_header("it is cut or damaged")
        try:
            stored = _from_json(text)
        except _Damage as error:
            raise self._bad_header(str(error)) from error
        self.digest.update(first + line)
        return self._journal_of(stored)

    def _journal_of(self, stored: Any) -> Journal:
        header = stored.get("header") if isinstance(stored, dict) else None
        streams = stored.get("streams") if isinstance(stored, dict) else None
        if not isinstance(header, dict):
            raise self._bad_header('it has no "header" object')
        if not isinstance(streams, list) or not all(isinstance(stream, str) for stream in streams):
            raise self._bad_header('it has no "streams" list of names')
        return Journal(header, [], frozenset(streams))

    def _bad_header(self, why: str) -> JournalFormatError:
        return JournalFormatError(
            f"{self.path}: the journal's header cannot be read ({why}):"
            " expected a second line of a CRC-32 and a JSON object"
        )

    def read_events(self) -> tuple[bool, str]:
        """Fill `events`. Returns `complete` and `damage`."""
        while True:
            at = self.file.tell()
            try:
                digest = self.digest.hexdigest()
                tag, number, count, payload = self._read_record()
                if tag == _DONE_TAG:
                    return self._finish(number, payload, digest)
                if number != len(self.events):
                    return False, self._gap(number, at)
                if len(self.events) + count > self.events_max:
                    return False, f"{self._prefix()}; more than {self.events_max} are not read at once"
                self.events.extend(_decode_events(payload, count))
            except EOFError:
                return False, f"{self._prefix()}; cut at byte {self.file.tell()}"
            except _Damage as error:
                return False, f"{self._prefix()}; damaged at byte {at}: {error}"

    def _read_record(self) -> tuple[bytes, int, int, bytes]:
        """Tag, number, count and payload of the next record. EOFError if the file ends before it does."""
        head = self.file.read(_HEAD.size)
        crc = self.file.read(_HEAD_CRC.size)
        if len(head) < _HEAD.size or len(crc) < _HEAD_CRC.size:
            raise EOFError
        if _HEAD_CRC.pack(zlib.crc32(head)) != crc:
            raise _Damage("the head of a record fails its checksum")
        tag, number, count, payload_bytes, payload_crc = _HEAD.unpack(head)
        if tag not in (_EVENTS_TAG, _DONE_TAG) or payload_bytes > _PAYLOAD_BYTES_MAX:
            raise _Damage(f"a record of an unknown kind or of an impossible size ({payload_bytes} bytes)")
        if tag == _EVENTS_TAG and not 0 < count <= CHUNK_EVENTS_READ_MAX:
            raise _Damage(f"a chunk of an impossible number of events ({count})")
        payload = self.file.read(payload_bytes)
        if len(payload) < payload_bytes:
            raise EOFError
        if zlib.crc32(payload) != payload_crc:
            raise _Damage("a record fails its checksum")
        self.digest.update(head + crc + payload)
        return tag, number, count, payload

    def _finish(self, total: int, payload: bytes, digest: str) -> tuple[bool, str]:
        """Compare the end marker with what was read."""
        count = len(self.events)
        if count != total:
            return False, f"the first {count} of {total} events; the rest is missing before the end marker"
        done = _from_json(payload)
        if not isinstance(done, dict) or done.get("sha256") != digest:
            return False, f"all {total} events, but the file is not what was written: its digest differs"
        if self.file.read(1):
            return False, f"all {total} events, but something follows the end marker at byte {self.file.tell() - 1}"
        if done.get("complete") is True:
            return True, ""
        return False, str(done.get("damage") or "recorded as incomplete")

    def _gap(self, number: int, at: int) -> str:
        known = len(self.events)
        if number < known:
            return f"{self._prefix()}; at byte {at} the numbering goes back to {number}"
        return f"{self._prefix()}; events {known} to {number - 1} are missing before byte {at}"

    def _prefix(self) -> str:
        if not self.events:
            return "none of an unknown number of events"
        return f"the first {len(self.events)} events of an unknown number"


def _decode_events(payload: bytes, count: int) -> list[Event]:
    view = memoryview(payload)
    columns: list[Column] = []
    at = 0
    for _ in range(_COLUMNS):
        column, at = _decode_column(view, at, count)
        columns.append(column)
    if at != len(payload):
        raise _Damage("a chunk goes on after its last column")
    wrong = _schema_error(columns)
    if wrong:
        raise _Damage(f"an event against the schema: {wrong}")
    return list(zip(*columns, strict=True))


def _excerpt(data: bytes) -> str:
    return ascii(data.decode("utf-8", "replace")) if data else "an empty file"
