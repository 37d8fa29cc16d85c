# SPDX-License-Identifier: GPL-2.0-only
"""Which events of a journal `stressvmap show` prints: what --cpu, --task, --range and --event mean."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from stressvmap.errors import ConfigError
from stressvmap.journal.events import KIND_NAMES, Event
from stressvmap.journal.journal import Journal
from stressvmap.ranges import PAGE_SHIFT, PageRange
from stressvmap.report.timeline import pages_of, task_name

_RANGE_TEXT: Final = re.compile(
    r"(?P<unit>pages:)?(?P<start>0[xX][0-9a-fA-F]+|[0-9]+)-(?P<end>0[xX][0-9a-fA-F]+|[0-9]+)"
)


def parse_range(text: str) -> PageRange:
    """The range that `--range START-END` means, END excluded.

    `1048576-1048580` are page numbers, `0x100000000-0x100004000` addresses (widened to whole pages), and
    `pages:0x100000-0x100004` page numbers in hex, as `show` prints them.
    """
    match = _RANGE_TEXT.fullmatch(text.strip())
    if match is None:
        raise ConfigError(
            f"--range {text}: expected START-END, either page numbers (1048576-1048580), 0x addresses"
            " (0x100000000-0x100004000), or pages:START-END for page numbers in hex (pages:0x100000-0x100004)"
        )
    texts = match["start"], match["end"]
    hexadecimal = [part[:2] in ("0x", "0X") for part in texts]
    start, end = (int(part, 16 if is_hex else 10) for part, is_hex in zip(texts, hexadecimal, strict=True))
    if not match["unit"] and hexadecimal[0] != hexadecimal[1]:
        raise ConfigError(f"--range {text}: one end is an address (0x) and the other a page number; write both alike")
    if not match["unit"] and hexadecimal[0]:
        start, end = start >> PAGE_SHIFT, -(-end >> PAGE_SHIFT)
    if start >= end:
        raise ConfigError(f"--range {text}: the range is empty; END is excluded and must be larger than START")
    return PageRange(start, end)


def parse_kinds(names: Iterable[str]) -> frozenset[int]:
    """The kinds that `--event NAME` names, in either case. A name that is none: ConfigError with those that are."""
    numbers = {name: kind for kind, name in KIND_NAMES.items()}
    wanted = [name.strip().lower().replace("-", "_") for name in names]
    unknown = [name for name in wanted if name not in numbers]
    if unknown:
        raise ConfigError(f"--event {unknown[0]}: there is no such event; there are {', '.join(sorted(numbers))}")
    return frozenset(numbers[name] for name in wanted)


def parse_tasks(names: Iterable[str], journal: Journal) -> frozenset[int]:
    """The tasks that `--task` names, by id or by name. One that the journal has not: ConfigError with those it has."""
    ids = {event[1] for event in journal.events}
    tasks = journal.header.get("tasks")
    if isinstance(tasks, dict):
        ids |= {int(text) for text in tasks if str(text).isdecimal()}
    found: set[int] = set()
    for name in names:
        named = {task for task in ids if name in (str(task), task_name(journal, task))}
        if not named:
            known = ", ".join(f"{task} ({task_name(journal, task)})" for task in sorted(ids))
            raise ConfigError(f"--task {name}: there is no such task; there are {known or 'none'}")
        found |= named
    return frozenset(found)


def select(
    journal: Journal,
    cpus: Collection[int] = (),
    tasks: Collection[int] = (),
    page_range: PageRange | None = None,
    kinds: Collection[int | str] = (),
) -> Iterator[tuple[int, Event]]:
    """The events that pass every filter given (an empty one passes all), with their numbers, in order.

    `kinds` are numbers or names; a name that is none raises ConfigError at the call, before the first event. With a
    `page_range`, an event passes if it is about a page in it; one that is about no page does not.
    """
    wanted = frozenset(kind for kind in kinds if isinstance(kind, int))
    wanted |= parse_kinds(kind for kind in kinds if isinstance(kind, str))
    return _selected(journal, frozenset(cpus), frozenset(tasks), page_range, wanted)


def _selected(
    journal: Journal, cpus: frozenset[int], tasks: frozenset[int], page_range: PageRange | None, kinds: frozenset[int]
) -> Iterator[tuple[int, Event]]:
    for number, event in enumerate(journal.events):
        kind, task, cpu = event[:3]
        if (kinds and kind not in kinds) or (tasks and task not in tasks) or (cpus and cpu not in cpus):
            continue
        pages = pages_of(event) if page_range else None
        if page_range is None or (pages is not None and pages.overlaps(page_range)):
            yield number, event
