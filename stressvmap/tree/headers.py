# SPDX-License-Identifier: GPL-2.0-only
"""Which header each #include of a file under test means: the tree's own, an empty one, or none at all.

Before the first line of every file under test stands the shim's own header, which gives what <linux/...> gives. What
a file includes itself is then the tree's header, if it is on the shim's list (data structures, not the machine) or a
patch brings it; else an empty file of that name. A name that not even the tree has is an error, told with file and
line. Never a header of the host.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from stressvmap.tree.patches import Patched
from stressvmap.tree.sources import C_FILES, Sources

_INCLUDE: Final = re.compile(rb'^[ \t]*#[ \t]*include(?:_next)?[ \t]*([<"])([^>"\n]+)[>"]', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Resolved:
    """What is compiled, beside the shim."""

    files: dict[str, bytes]
    """Path in the tree to content, in the order of paths: all that a build uses of a tree."""
    empty: tuple[str, ...]
    """Names, as they are included, of headers that the tree has and that stand empty here."""
    missing: tuple[str, ...]
    """Names of headers that neither the tree nor the shim has."""


def resolve(sources: Sources, patched: Patched, shim: Mapping[str, bytes]) -> Resolved:
    """Follow the includes of the files under test and of the shim's headers (`shim`: path below its include folder)."""
    used = {name: patched.files[name] for name in C_FILES}
    empty: set[str] = set()
    missing: set[str] = set()
    texts = [*used.items(), *(("", content) for content in shim.values())]
    while texts:
        including, content = texts.pop()
        for is_quoted, name in _includes(content):
            beside = str(PurePosixPath(including).parent / name) if including and is_quoted else ""
            if including and (beside in shim or name in shim):
                continue
            path = next((path for path in (beside, f"include/{name}") if path in patched.files), None)
            if path is None:
                if including:
                    there = beside in sources.header_names or sources.has_header(name)
                    (empty if there else missing).add(name)
            elif path not in used:
                used[path] = patched.files[path]
                texts.append((path, patched.files[path]))
    return Resolved(dict(sorted(used.items())), tuple(sorted(empty)), tuple(sorted(missing)))


def _includes(content: bytes) -> Iterator[tuple[bool, str]]:
    for mark, name in _INCLUDE.findall(content):
        yield mark == b'"', name.decode("utf-8", "replace").strip()
