# SPDX-License-Identifier: GPL-2.0-only
"""Whether a journal that came from a file can be what it says: whoever reads one must not trust it.

A header of the wrong shape is bad input. An event that no machine can have made ends the readable part: what comes
before it is kept, and the journal is incomplete. Journals made in this process are not looked at.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from stressvmap.errors import JournalFormatError
from stressvmap.journal.events import (
    API_BEGIN,
    API_END,
    AUDIT_AREA,
    CPU_OFFLINE,
    CPU_ONLINE,
    FULL_END,
    SPACE_BACK,
    SPACE_OUT,
    UNMAP_BEGIN,
    UNMAP_END,
    Event,
)
from stressvmap.journal.journal import Journal

CPUS_MAX: Final = 4096
TASKS_MAX: Final = 1 << 31
PAGES_MAX: Final = 1 << 20
"""Most pages of one mapping or unmapping (4 GiB)."""
PAGES_TOTAL_MAX: Final = 1 << 24
"""Most pages of all of them together: checks go through them page by page."""
NUMBER_MAX: Final = 1 << 80
WALKED: Final = frozenset({UNMAP_BEGIN, UNMAP_END})
"""Kinds whose range a check goes through page by page."""
RANGES: Final = WALKED | {SPACE_OUT, SPACE_BACK, AUDIT_AREA}
"""Kinds whose a and c are the start and end of a range that lies in the address space."""
CPU_KINDS: Final = frozenset({CPU_ONLINE, CPU_OFFLINE})
"""Kinds whose a is a CPU."""
SIZES: Final = frozenset({API_BEGIN, API_END})
"""Kinds whose c is a number of pages."""
PAGED: Final = WALKED | SIZES


def checked(journal: Journal, name: str) -> Journal:
    """`journal`, cut at the first event that makes no sense. Raises JournalFormatError if its header does not."""
    for key, is_right in _HEADER.items():
        if key in journal.header and not is_right(journal.header[key]):
            raise JournalFormatError(f"{name}: the header's {key} is {_short(journal.header[key])}, which it cannot be")
    if not _is_text(_text_of(journal.header)) or not _is_text(journal.damage):
        raise JournalFormatError(f"{name}: its header or end has text that is no Unicode")
    pages = 0
    for number, event in enumerate(journal.events):
        reason = _nonsense(event)
        if not reason and event[0] in PAGED:
            pages += event[6] if event[0] in SIZES else event[6] - event[4]
            reason = "more pages than a journal can be checked for" if pages > PAGES_TOTAL_MAX else ""
        if reason:
            damage = f"the first {number} events of {len(journal.events)}: event {number} has {reason}"
            return Journal(journal.header, list(journal.events[:number]), journal.streams, False, damage)
    return journal


def _text_of(header: dict[str, Any]) -> str:
    """All the text of a header."""
    return json.dumps(header, ensure_ascii=False, default=str)


def _nonsense(event: Event) -> str:
    """What is wrong with an event; empty if nothing is."""
    kind, task, cpu, function, a, b, c = event
    if not 0 <= cpu < CPUS_MAX:
        return f"CPU {cpu}"
    if not 0 <= task < TASKS_MAX:
        return f"task {task}"
    if abs(a) >= NUMBER_MAX:
        return "a number of more than 80 bits"
    if not _is_text(function) or (isinstance(b, str) and not _is_text(b)):
        return "text that is no Unicode"
    if kind in CPU_KINDS and not 0 <= a < CPUS_MAX:
        return f"CPU {a}"
    if kind in RANGES and not (0 <= a <= c <= FULL_END and (c - a <= PAGES_MAX or kind not in WALKED)):
        return f"a range of pages [{a:#x}, {c:#x})"
    if kind in SIZES and not (0 <= a <= FULL_END and 0 <= c <= PAGES_MAX):
        return f"{c} pages at page {a:#x}"
    return ""


def _is_text(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _is_integer(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_pages(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(_is_integer(page, 0, FULL_END) for page in value)


def _are_cpus(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(_is_integer(cpu, 0, CPUS_MAX - 1) for cpu in value)


def _are_tasks(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(key, str)
        and key.isascii()
        and key.isdigit()
        and len(key) < 11
        and isinstance(named, list | tuple)
        and len(named) == 2
        and isinstance(named[0], str)
        and _is_text(named[0])
        and _is_integer(named[1], 0, CPUS_MAX - 1)
        for key, named in value.items()
    )


_HEADER: Final[dict[str, Callable[[Any], bool]]] = {
    "version": lambda value: isinstance(value, str) and _is_text(value),
    "scenario": lambda value: isinstance(value, dict),
    "block_bits": lambda value: _is_integer(value, 0, 1 << 20),
    "window": _is_pages,
    "direct_map": _is_pages,
    "possible": _are_cpus,
    "online": _are_cpus,
    "tasks": _are_tasks,
    "is_sequential": lambda value: isinstance(value, bool),
    "seed": lambda value: _is_integer(value, -NUMBER_MAX, NUMBER_MAX),
    "execution": lambda value: _is_integer(value, 0, NUMBER_MAX),
}
"""By header key: whether its value has the right shape. A key may be missing."""


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."
