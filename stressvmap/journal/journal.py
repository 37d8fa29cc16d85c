# SPDX-License-Identifier: GPL-2.0-only
"""One execution's journal: a header that says what it is about and carries, and its events in the one true order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from stressvmap.journal.events import AUDIT, GROUND, OPERATIONS, Event

FORMAT_VERSION = 1

DEATH: Final = "it ends the process that runs it"
"""What the BUG event of an execution that took its process along says, whatever signal it was: one corruption shows
as many.
"""
DIED_OF: Final = "died_of"
"""Key of such a journal's header: the signal's name, or how else the process ended."""


@dataclass(slots=True)
class Journal:
    """Events of one execution (or recording). An event's number is its index; a file may hold only a prefix
    (`complete` is False).
    """

    header: dict[str, Any]
    """JSON-able. Keys: `version` (code under test), `scenario` (dict), `block_bits`, `window` [start, end) pages,
    `possible` and `online` CPUs at the start, `direct_map` [start, end) pages, `tasks` {id as text: [name, cpu]},
    `seed`, `execution`; of a kernel tree `stacks` (journal/place.py).
    """
    events: Sequence[Event]
    streams: frozenset[str] = field(default_factory=lambda: frozenset({GROUND, OPERATIONS, AUDIT}))
    """The streams this journal carries."""
    complete: bool = True
    """False: events were lost or the file was cut; the verdict is inconclusive."""
    damage: str = ""
    """What was lost, for a reader, if not complete."""

    def digest(self) -> str:
        """SHA-256 of the canonical events: one compact JSON array a line, UTF-8, without the header."""
        digest = hashlib.sha256()
        for event in self.events:
            digest.update(json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode())
            digest.update(b"\n")
        return digest.hexdigest()
