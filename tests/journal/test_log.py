# SPDX-License-Identifier: GPL-2.0-only
"""A log is the list of what was appended, wherever its events lie."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stressvmap.errors import ConfigError
from stressvmap.journal import log as log_module
from stressvmap.journal.events import PTE_SET, READ, Event
from stressvmap.journal.log import EventLog

CHUNK = 8


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "CHUNK_EVENTS", CHUNK)


def event(number: int) -> Event:
    b: int | str = number if number % 3 else f"field {number % 5}"
    return (READ if number % 3 == 0 else PTE_SET, number % 4, number % 2, "vb_free", number << 40, b, -number)


def logged(count: int, spool_every: int = 1) -> tuple[EventLog, list[Event]]:
    log = EventLog()
    events = [event(number) for number in range(count)]
    for number, one in enumerate(events):
        log.tail.append(one)
        if number % spool_every == 0:
            log.spool()
    return log, events


@given(st.integers(0, 100), st.integers(1, 40), st.lists(st.integers(-110, 110), max_size=20))
def test_it_reads_like_the_list_of_its_events(count: int, spool_every: int, indexes: list[int]) -> None:
    log, events = logged(count, spool_every)
    assert len(log) == count
    assert list(log) == events
    assert list(reversed(log)) == events[::-1]
    for index in indexes:
        if -count <= index < count:
            assert log[index] == events[index]
        else:
            with pytest.raises(IndexError):
                log[index]
        assert log[index:] == events[index:]
        assert log[:index:2] == events[:index:2]
    assert list(log) == events, "looking things up has changed nothing"


@given(st.integers(0, 200), st.integers(1, 5))
def test_what_is_in_memory_does_not_grow(count: int, spool_every: int) -> None:
    log, _ = logged(count, spool_every)
    assert len(log.tail) < 2 * CHUNK + spool_every
    assert log.is_spooled == (len(log.tail) < count)
    list(log)
    log[0:count:CHUNK]
    assert len(log._held) <= log_module.CHUNKS_HELD


def test_the_tail_is_always_the_same_list() -> None:
    log = EventLog()
    append = log.tail.append
    for number in range(100):
        append(event(number))
        log.spool()
    assert len(log) == 100


def test_a_folder_that_takes_nothing_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(ConfigError, match=r"cannot be kept in .*gone: No such file or directory; TMPDIR names another"):
        logged(100)
