# SPDX-License-Identifier: GPL-2.0-only
"""Data races of a tree that somebody has argued for: `configs/races-*.toml`, each entry with its reason.

An entry names two functions and the fields, so it covers those pairs and no other: another function that races on the
same field is reported as ever. A side is a function's if the access was made in it, or in what the compiler inlined
into it. What is allowed is counted and told, never dropped without a word.

```toml
[[allow]]
functions = ["purge_fragmented_blocks", "vb_alloc"]
fields = ["vmap_block.free"]
reason = "a look without the lock, repeated under it"
```
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from stressvmap.checks.base import Violation
from stressvmap.journal.events import OBJECT_ALLOC, Event
from stressvmap.journal.journal import Journal
from stressvmap.journal.place import places
from stressvmap.tree.screen import Race
from stressvmap.tree.version import read_entries

DATA_RACE: Final = "data-race"
SIDES: Final = 2
_INDEX: Final = re.compile(r"\[\d+\]")
_Text = Annotated[str, Field(min_length=1)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    functions: Annotated[list[_Text], Field(min_length=1, max_length=2)]
    fields: Annotated[list[_Text], Field(min_length=1)]
    reason: _Text


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    allow: list[_Entry]


@dataclass(frozen=True, slots=True)
class Allowed:
    """Races of two functions (of one with itself, if it is named alone) on some fields, and why they do no harm."""

    functions: frozenset[str]
    fields: frozenset[str]
    """`vmap_block.free`; of an element of an array, `vmap_node.pool[].len`."""
    reason: str

    @property
    def text(self) -> str:
        """What it is about, for a reader."""
        return f"{' and '.join(sorted(self.functions))}, of {', '.join(sorted(self.fields))}"

    def covers(self, one: str, other: str, field: str) -> bool:
        """Whether it is about the race of accesses at these two places, as events have them, to that field."""
        first, second = ({place.function for place in places(side)} for side in (one, other))
        mine, yours = min(self.functions), max(self.functions)
        is_of_both = (mine in first and yours in second) or (yours in first and mine in second)
        return is_of_both and _INDEX.sub("[]", field) in self.fields


def read_allowed(path: Path) -> tuple[Allowed, ...]:
    """The entries of a file. Raises ConfigError that names the file and what is wrong."""
    return tuple(
        Allowed(frozenset(one.functions), frozenset(one.fields), one.reason) for one in read_entries(path, _File).allow
    )


def allowance_of(violation: Violation, journal: Journal, allowed: Iterable[Allowed]) -> Allowed | None:
    """The entry that a finding falls under; None for one that is no data race. `journal` is that of its execution."""
    if violation.check != DATA_RACE:
        return None
    steps = [journal.events[number] for number in violation.steps]
    fields = {str(event[5]) for event in steps}
    class_name = next((str(event[5]) for event in journal.events if _is_allocation(event, steps[0][4])), "object")
    if len(fields) != 1 or len(steps) != SIDES:
        return None
    field = f"{class_name}.{fields.pop()}"
    return next((one for one in allowed if one.covers(steps[0][3], steps[1][3], field)), None)


def split(races: Iterable[Race], allowed: Iterable[Allowed]) -> tuple[list[tuple[Race, Allowed]], list[Race]]:
    """Every pair that screening saw in a run of the harness, judged or only counted: those allowed, and the others.

    A finding stands for a mechanism, which may hide a second pair of functions behind the first; this does not.
    """
    entries = tuple(allowed)
    inside: list[tuple[Race, Allowed]] = []
    outside: list[Race] = []
    for race in races:
        entry = next((one for one in entries if one.covers(*race.functions, race.field)), None)
        if entry is None:
            outside.append(race)
        else:
            inside.append((race, entry))
    return inside, outside


def as_dict(races: Iterable[Race], allowed: Iterable[Allowed]) -> dict[str, Any]:
    """For the result object: how many pairs of places raced, in how many runs, and which of them nobody argued for."""
    inside, outside = split(races, allowed)
    return {
        "allowed_pairs": len(inside),
        "allowed_runs": sum(race.runs for race, _ in inside),
        "pairs": [
            {"functions": list(race.functions), "field": race.field, "runs": race.runs}
            for race in sorted(outside, key=lambda one: (-one.runs, one.field, one.functions))
        ],
    }


def _is_allocation(event: Event, object_id: int) -> bool:
    return event[0] == OBJECT_ALLOC and event[4] == object_id
