# SPDX-License-Identifier: GPL-2.0-only
"""An execution's events as they come, however many: the last ones in memory, the rest in a temporary file.

Most executions never need the file. One of ten million points does: its events would take 1.8 GB. Reading them in
their order, or from the end, costs no more than reading a list; single ones from long ago, which a story asks for, a
chunk each.
"""

from __future__ import annotations

import marshal
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Final, overload

from stressvmap.errors import ConfigError
from stressvmap.journal.events import Event

CHUNK_EVENTS: Final = 1 << 16
CHUNKS_HELD: Final = 2
"""Chunks that were read back and are held, beside the tail."""
FASTEST: Final = 1
"""Level of zlib."""


class EventLog(Sequence[Event]):
    """A sequence that grows at its end: append to `tail`, and call `spool` now and then.

    Invariants: event n is the n-th appended; `tail` is always the same list, and holds the last events; each chunk in
    the file has CHUNK_EVENTS. What was in the file is gone with the process, and nobody else can see it.
    """

    def __init__(self) -> None:
        self.tail: list[Event] = []
        self._places: list[tuple[int, int]] = []
        """Of each chunk in the file: offset and length in bytes."""
        self._file: BinaryIO | None = None
        self._held: dict[int, list[Event]] = {}
        """The chunks read last, the latest one last."""

    @property
    def is_spooled(self) -> bool:
        """Some events are in the file; else `tail` is all there is."""
        return bool(self._places)

    def spool(self) -> None:
        """Move the older events to the file, if `tail` holds two chunks or more. Raises ConfigError if it is full."""
        tail = self.tail
        if len(tail) < 2 * CHUNK_EVENTS:
            return
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="stressvmap-")  # noqa: SIM115 (closed with the log)
            while len(tail) >= 2 * CHUNK_EVENTS:
                data = zlib.compress(marshal.dumps(tail[:CHUNK_EVENTS]), FASTEST)
                offset = sum(self._places[-1]) if self._places else 0
                self._file.seek(offset)
                self._file.write(data)
                self._places.append((offset, len(data)))
                del tail[:CHUNK_EVENTS]
        except OSError as error:
            raise ConfigError(
                f"a long execution's events cannot be kept in {tempfile.gettempdir()}: {error.strerror or error}; "
                "TMPDIR names another folder"
            ) from error

    def __len__(self) -> int:
        return len(self._places) * CHUNK_EVENTS + len(self.tail)

    def __iter__(self) -> Iterator[Event]:
        for number in range(len(self._places)):
            yield from self._chunk(number)
        yield from self.tail

    @overload
    def __getitem__(self, index: int) -> Event: ...

    @overload
    def __getitem__(self, index: slice) -> list[Event]: ...

    def __getitem__(self, index: int | slice) -> Event | list[Event]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        at = index - len(self._places) * CHUNK_EVENTS
        if at >= 0:
            return self.tail[at]
        if index < 0:
            raise IndexError("event number out of range")
        return self._chunk(index // CHUNK_EVENTS)[index % CHUNK_EVENTS]

    def _chunk(self, number: int) -> list[Event]:
        held = self._held
        chunk = held.pop(number, None)
        if chunk is None:
            assert self._file is not None
            offset, length = self._places[number]
            self._file.seek(offset)
            chunk = marshal.loads(zlib.decompress(self._file.read(length)))
            if len(held) >= CHUNKS_HELD:
                del held[next(iter(held))]
        held[number] = chunk
        return chunk
