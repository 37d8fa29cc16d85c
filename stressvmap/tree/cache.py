# SPDX-License-Identifier: GPL-2.0-only
"""Where built trees, fetched archives and what was read out of them are kept: $XDG_CACHE_HOME/stressvmap.

    trees/<digest>/       one built tree: library.so, build.json, build.log, source/
    objects/<key>/<sha>   object files of shim and engine, which many builds share
    sources/              fetched archives, and extracted/<key>/ of each archive that was read

An entry is a folder that appears by one rename when it is whole, so two builds at once of the same thing do not
collide, and one that was killed leaves only a scratch folder that nobody reads.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from stressvmap.errors import ConfigError

LIBRARY: Final = "library.so"
BUILD_FILE: Final = "build.json"
LOG_FILE: Final = "build.log"
SOURCE: Final = "source"
SCHEMA: Final = 1
_SCRATCH: Final = ".scratch-"
_SCRATCH_SECONDS: Final = 3600
_DIGEST_GIVEN_MIN: Final = 6
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class BuiltTree:
    """A kernel tree's library, ready to be loaded."""

    folder: Path
    digest: str
    """Of everything it was made of: files used, patches, options, compiler, shim and engine."""
    name: str
    """"tree-6.1.192", with "+patch" for each patch."""
    release: str
    build: dict[str, Any]
    """build.json: origin, patches, options, compiler, files with their digests, notes."""

    @property
    def library(self) -> Path:
        """The shared library."""
        return self.folder / LIBRARY

    @property
    def source(self) -> Path:
        """The files under test as they were compiled, patches applied; debug info names them relative to this."""
        return self.folder / SOURCE

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know: a patch that touches nothing under test, headers taken as empty."""
        return tuple(self.build["notes"])


def folder() -> Path:
    """The cache's folder: $XDG_CACHE_HOME/stressvmap, or ~/.cache/stressvmap. It need not exist."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(home) if os.path.isabs(home) else Path.home() / ".cache"
    return base / "stressvmap"


def trees() -> Path:
    """Where built trees are kept."""
    return folder() / "trees"


def sources() -> Path:
    """Where fetched archives are kept."""
    return folder() / "sources"


def objects() -> Path:
    """Where object files that many builds share are kept."""
    return folder() / "objects"


def extractions() -> Path:
    """Where the files that were read out of archives are kept."""
    return sources() / "extracted"


@contextmanager
def making(entry: Path) -> Iterator[Path]:
    """A scratch folder that becomes `entry` if the block ends well, and is gone if not.

    If somebody else made the entry meanwhile, theirs stays. Raises ConfigError where the cache cannot be written.
    """
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f"{_SCRATCH}{entry.name[:16]}-", dir=entry.parent))
    except OSError as error:
        raise ConfigError(
            f"the cache {entry.parent} cannot be written: {error.strerror}; set XDG_CACHE_HOME to a folder that can"
        ) from None
    try:
        yield scratch
        scratch.chmod(0o755)
        try:
            scratch.rename(entry)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def find(digest: str) -> BuiltTree | None:
    """The built tree of this digest, if there is one and its library is the one that was built."""
    entry = trees() / digest
    try:
        built = _read(entry)
    except (OSError, ValueError, KeyError, TypeError):
        built = None
    if built is None and entry.exists():
        shutil.rmtree(entry, ignore_errors=True)
    return built


def _read(entry: Path) -> BuiltTree:
    """Raises OSError, ValueError or KeyError for an entry that is not whole."""
    build = json.loads((entry / BUILD_FILE).read_text(encoding="utf-8"))
    if build["schema"] != SCHEMA or build["digest"] != entry.name:
        raise ValueError(f"{entry}: not of this schema")
    if sha256_of(entry / LIBRARY) != build["library_sha256"]:
        raise ValueError(f"{entry}: {LIBRARY} is not the one that was built")
    return BuiltTree(entry, build["digest"], build["name"], build["release"], build)


def kept_object(key: str) -> bytes | None:
    """The object file of this key, if there is one and it is whole."""
    try:
        for path in (objects() / key).iterdir():
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() == path.name:
                return content
    except OSError:
        pass
    return None


def keep_object(key: str, content: bytes) -> None:
    """Keep an object file for other builds, if that can be done; one that is there already, but damaged, gives way."""
    entry = objects() / key
    if entry.exists() and kept_object(key) is None:
        shutil.rmtree(entry, ignore_errors=True)
    with suppress(OSError), making(entry) as made:
        (made / hashlib.sha256(content).hexdigest()).write_bytes(content)


def built_trees() -> list[BuiltTree]:
    """All built trees that are whole, the one built last first."""
    found = []
    for entry in _entries(trees()):
        if _DIGEST.fullmatch(entry.name):
            try:
                found.append((entry.stat().st_mtime_ns, _read(entry)))
            except (OSError, ValueError, KeyError, TypeError):
                continue
    return [built for _made, built in sorted(found, key=lambda pair: (-pair[0], pair[1].digest))]


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_bytes(path: Path) -> int:
    """Bytes of the file, or of all files in the folder."""
    if path.is_dir():
        return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())
    return path.lstat().st_size


def clean(names: tuple[str, ...] = (), *, with_sources: bool = False) -> list[tuple[Path, int]]:
    """Remove built trees: all, or those of which a digest's beginning or a name is given. What was removed, with bytes.

    Scratch folders of builds that were killed go with them, once they are an hour old. `with_sources`: fetched archives
    as well, and what was read out of archives. Raises ConfigError for a name that fits no built tree, before anything
    is removed.
    """
    doomed: list[Path] = []
    if names:
        built = built_trees()
        for name in names:
            is_digest = len(name) >= _DIGEST_GIVEN_MIN
            fitting = [
                tree.folder for tree in built if name == tree.name or (is_digest and tree.digest.startswith(name))
            ]
            if not fitting:
                raise ConfigError(f"{name}: no built tree has this name or digest; `tree list` shows them")
            doomed += fitting
    else:
        doomed += _entries(trees())
    if with_sources:
        doomed += _entries(sources())
    removed = [(entry, _remove(entry)) for entry in dict.fromkeys(doomed)]
    shared = 0 if names else sum(_remove(entry) for entry in _entries(objects()))
    return removed + ([(objects(), shared)] if shared else [])


def _remove(entry: Path) -> int:
    """Remove a file or a folder; the bytes it had."""
    size = size_bytes(entry)
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()
    return size


def _entries(place: Path) -> list[Path]:
    """All that is in `place`, but for scratch folders in which somebody may still be building."""
    if not place.is_dir():
        return []
    return [entry for entry in sorted(place.iterdir()) if not _may_be_in_use(entry)]


def _may_be_in_use(entry: Path) -> bool:
    return entry.name.startswith(_SCRATCH) and time.time() - entry.lstat().st_mtime < _SCRATCH_SECONDS
