# SPDX-License-Identifier: GPL-2.0-only
"""One structure snapshot, gathered from the AUDIT_* events that the harness journals when nothing is under way."""

from __future__ import annotations

from typing import Final

from stressvmap.journal.events import (
    AUDIT_AREA,
    AUDIT_BEGIN,
    AUDIT_FIELD,
    AUDIT_INDEXED,
    AUDIT_LIST_BROKEN,
    AUDIT_LISTED,
    AUDIT_OBJECT,
    AUDIT_VALUE,
    Event,
)

REST: Final = "rest"
"""Everything drained: nothing lazy, no callback pending."""
BETWEEN: Final = "between"
"""No call under way; debts may be open."""

FREE_LIST: Final = "free"
"""The list of blocks of a CPU; any other is a pool of a node."""

SNAPSHOT_KINDS: Final = (
    AUDIT_BEGIN,
    AUDIT_FIELD,
    AUDIT_LISTED,
    AUDIT_INDEXED,
    AUDIT_AREA,
    AUDIT_VALUE,
    AUDIT_OBJECT,
    AUDIT_LIST_BROKEN,
)


class Snapshot:
    """What one audit said. Objects and pages are as in the journal."""

    __slots__ = ("areas", "begin", "broken", "fields", "indexed", "kind", "listed", "objects", "pooled", "values")

    def __init__(self, kind: str, begin: int) -> None:
        self.kind = kind
        self.begin = begin
        self.fields: dict[int, dict[str, int]] = {}
        self.listed: dict[int, list[int]] = {}
        """By block object: the CPUs on whose list a walk reaches it."""
        self.pooled: dict[tuple[int, str], int] = {}
        """By (node object, list): how many areas a walk of that pool reaches."""
        self.indexed: dict[int, int] = {}
        """By block object: first page, from the index."""
        self.areas: list[tuple[int, int, str]] = []
        """(start, end, tree)."""
        self.values: dict[str, int] = {}
        self.objects: dict[int, str] = {}
        """Still allocated: class by object."""
        self.broken: list[tuple[int, str, int, int]] = []
        """(object, list, CPU, event number) where next->prev is not the node."""

    def add(self, number: int, event: Event) -> None:
        """Take in one AUDIT_* event."""
        kind = event[0]
        name = str(event[5])
        if kind == AUDIT_FIELD:
            self.fields.setdefault(event[4], {})[name] = event[6]
        elif kind == AUDIT_LISTED and name != FREE_LIST:
            self.pooled[(event[6], name)] = self.pooled.get((event[6], name), 0) + 1
        elif kind == AUDIT_LISTED:
            self.listed.setdefault(event[4], []).append(event[6])
        elif kind == AUDIT_INDEXED:
            self.indexed[event[4]] = event[6]
        elif kind == AUDIT_AREA:
            self.areas.append((event[4], event[6], name))
        elif kind == AUDIT_VALUE:
            self.values[name] = event[6]
        elif kind == AUDIT_OBJECT:
            self.objects[event[4]] = name
        elif kind == AUDIT_LIST_BROKEN:
            self.broken.append((event[4], name, event[6], number))
