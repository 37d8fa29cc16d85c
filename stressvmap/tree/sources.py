# SPDX-License-Identifier: GPL-2.0-only
"""A kernel tree as the few files that are compiled: from a folder, from an archive, or from a git revision.

A tree is only ever read. An archive is read once: the files that matter are kept in the cache, under a key of the
archive's size, time and digest, so that a second build does not decompress gigabytes again.

`Sources` holds candidates: the C files, and the headers that may be taken from a tree (shim/files.txt, whitelist.txt).
Which of them a build really uses is decided after patching (headers.py).
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import re
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from stressvmap.errors import ConfigError
from stressvmap.tree import cache

PREFIX: Final = "tree:"
"""What a kernel tree's name begins with wherever a version can stand."""

SHIM: Final = Path(__file__).resolve().parent / "shim"
"""The C that stands in for the rest of the kernel, and the engine."""


def _listed(name: str) -> tuple[tuple[str, ...], ...]:
    """The lines of one of the shim's lists, in words, without comments."""
    lines = (line.partition("#")[0].split() for line in (SHIM / name).read_text(encoding="utf-8").splitlines())
    return tuple(tuple(words) for words in lines if words)


C_FILES: Final[dict[str, tuple[str, ...]]] = {words[0]: words[1:] for words in _listed("files.txt")}
"""The code under test, compiled as it is; and the macros that are defined for it."""

TREE_HEADERS: Final = frozenset(words[0] for words in _listed("whitelist.txt"))
"""Headers that are the tree's own; each other one is the shim's, or empty. Data structures, not the machine."""

MAKEFILE: Final = "Makefile"
_NEEDED: Final = (MAKEFILE, *C_FILES)
_VERSION_LINE: Final = re.compile(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION)[ \t]*=[ \t]*(\S*)", re.MULTILINE)
_HEADER_FOLDERS: Final = ("include/", "arch/x86/include/", "include/uapi/", "arch/x86/include/uapi/")
_HEADER: Final = re.compile(r"(?:(?:include|arch/x86/include)/.+|(?:mm|lib)/[^/]+)\.h\Z")
_NAMES_FILE: Final = ".header-names"
_FILE_BYTES_MAX: Final = 8 << 20
_CHUNK: Final = 1 << 20
_READERS: Final = ((b"\xfd7zXZ\0", lzma.open), (b"\x1f\x8b", gzip.open), (b"BZh", bz2.open))
_EXTRACTION: Final = "2"
"""Raised when what an extraction holds changes, so that an older one is not read as a newer."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What a kernel tree has to offer."""

    origin: str
    """As the user named it, without the prefix."""
    release: str
    """"6.1.192", as the tree's Makefile says."""
    files: Mapping[str, bytes]
    """Path in the tree to content: the candidates."""
    header_names: Container[str]
    """Paths of headers that the tree has: "the shim lacks it" and "there is no such header" are not the same."""

    def has_header(self, name: str) -> bool:
        """Whether the tree has a file for `#include <name>`, in the folders where a kernel's build looks."""
        names = [name, name.replace("asm/", "asm-generic/", 1)] if name.startswith("asm/") else [name]
        is_generated = name.startswith("generated/")
        return is_generated or any(folder + one in self.header_names for folder in _HEADER_FOLDERS for one in names)


def is_candidate(name: str) -> bool:
    """Whether a build may use the file of this path in the tree."""
    return name in _NEEDED or name in TREE_HEADERS


def split_revision(path: str) -> tuple[Path, str | None]:
    """`PATH@REV` as (PATH, REV); what exists as a path has no revision."""
    whole = Path(path).expanduser()
    if "@" not in path or whole.exists():
        return whole, None
    for at in (match.start() for match in re.finditer("@", path)):
        folder = Path(path[:at]).expanduser()
        if folder.is_dir():
            return folder, path[at + 1 :]
    return whole, None


def read_sources(path: str, say: Callable[[str], None]) -> Sources:
    """The kernel tree at `path`: a folder, a tar archive, or `FOLDER@REV`. `say` is told of what takes long.

    Raises ConfigError where there is none, or no such revision, or the archive is damaged.
    """
    location, revision = split_revision(path)
    try:
        if revision is not None:
            files, names = _read_git(location, revision, path)
        elif location.is_dir():
            files, names = _read_folder(location)
        elif location.is_file():
            files, names = _read_archive(location, say)
        else:
            raise ConfigError(f"{PREFIX}{path}: there is no such folder or file")
    except OSError as error:
        raise ConfigError(f"{PREFIX}{path}: {error.filename or location}: {error.strerror or error}") from None
    for name in _NEEDED:
        if name not in files:
            raise ConfigError(f"{PREFIX}{path}: is not a kernel tree: there is no {name} in it")
    return Sources(path, _release(files[MAKEFILE], path), files, names)


def _release(makefile: bytes, path: str) -> str:
    said = dict(_VERSION_LINE.findall(makefile.decode("utf-8", "replace")))
    numbers = [said.get(key, "") for key in ("VERSION", "PATCHLEVEL", "SUBLEVEL")]
    if not (numbers[0].isdigit() and numbers[1].isdigit()):
        raise ConfigError(f"{PREFIX}{path}: is not a kernel tree: its {MAKEFILE} names no VERSION and PATCHLEVEL")
    extra = re.sub(r"[^\w.+-]", "", said.get("EXTRAVERSION", ""))
    return ".".join(number for number in numbers if number) + extra


# -- a folder ----------------------------------------------------------------------------------------------


def _read_folder(folder: Path) -> tuple[dict[str, bytes], Container[str]]:
    files = {}
    for name in (*_NEEDED, *sorted(TREE_HEADERS)):
        path = folder / name
        if path.is_file():
            _check_size(path.stat().st_size, name)
            files[name] = path.read_bytes()
    return files, _FilesOf(folder)


@dataclass(frozen=True, slots=True)
class _FilesOf:
    """The paths of all files in a folder."""

    folder: Path

    def __contains__(self, name: object) -> bool:
        return (self.folder / str(name)).is_file()


def _check_size(size: int, name: str) -> None:
    if size > _FILE_BYTES_MAX:
        raise ConfigError(f"{name}: has {size} bytes, more than any file of mm/ or lib/ (at most {_FILE_BYTES_MAX})")


# -- a git revision ----------------------------------------------------------------------------------------


def _read_git(folder: Path, revision: str, path: str) -> tuple[dict[str, bytes], Container[str]]:
    said = _git(folder, path, "rev-parse", "--show-toplevel", is_allowed_to_fail=True)
    if said is None:
        raise ConfigError(f"{PREFIX}{path}: {folder} is not a git work tree, so it has no revision {revision!r}")
    commit = None
    if revision and not revision.startswith("-"):
        commit = _git(folder, path, "rev-parse", "--verify", "--quiet", f"{revision}^{{tree}}", is_allowed_to_fail=True)
    if commit is None:
        raise ConfigError(f"{PREFIX}{path}: git knows no revision {revision!r} in {folder}")
    tree = commit.decode().strip()
    listed = _git(folder, path, "ls-tree", "-r", "--name-only", "-z", "--full-tree", tree) or b""
    names = [name for name in listed.decode("utf-8", "surrogateescape").split("\0") if name]
    wanted = [name for name in names if is_candidate(name)]
    asked = "".join(f"{tree}:{name}\n" for name in wanted).encode()
    answer = _git(folder, path, "cat-file", "--batch", said=asked) or b""
    try:
        files = dict(zip(wanted, _blobs(answer), strict=True))
    except ValueError:
        raise ConfigError(f"{PREFIX}{path}: git cannot read all files of {revision!r}: a partial clone?") from None
    return files, frozenset(name for name in names if _HEADER.match(name))


def _blobs(answer: bytes) -> Iterable[bytes]:
    """Contents out of what `git cat-file --batch` prints: "<id> blob <size>\\n<content>\\n", one after another."""
    at = 0
    while at < len(answer):
        end = answer.index(b"\n", at)
        size = int(answer[at:end].split()[-1])
        yield answer[end + 1 : end + 1 + size]
        at = end + 1 + size + 1


def _git(folder: Path, path: str, *arguments: str, said: bytes = b"", is_allowed_to_fail: bool = False) -> bytes | None:
    """What git prints; None if it fails and may. Raises ConfigError."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], input=said, capture_output=True, check=False, env=_git_environment()
        )
    except FileNotFoundError:
        raise ConfigError(f"{PREFIX}{path}: a revision needs git, and there is none; see `tree doctor`") from None
    if done.returncode == 0:
        return done.stdout
    told = done.stderr.decode("utf-8", "replace").strip().splitlines()
    if is_allowed_to_fail and not any("dubious ownership" in line for line in told):
        return None
    raise ConfigError(f"{PREFIX}{path}: git {arguments[0]}: {told[0] if told else f'status {done.returncode}'}")


def _git_environment() -> dict[str, str]:
    """Without what a hook of some other repository sets, and with messages in English."""
    return {key: value for key, value in os.environ.items() if not key.startswith("GIT_")} | {"LC_ALL": "C"}


# -- an archive --------------------------------------------------------------------------------------------


def _read_archive(archive: Path, say: Callable[[str], None]) -> tuple[dict[str, bytes], Container[str]]:
    kept = cache.extractions() / _archive_key(archive)
    if not kept.is_dir():
        files, names = _extract(archive, say)
        if all(name in files for name in _NEEDED):
            _keep(kept, files, names)
        return files, frozenset(names)
    names = (kept / _NAMES_FILE).read_text(encoding="utf-8").splitlines()
    return _read_folder(kept)[0], frozenset(names)


def _archive_key(archive: Path) -> str:
    stat = archive.stat()
    with archive.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    made_of = f"{_EXTRACTION} {stat.st_size} {stat.st_mtime_ns} {content} {_NEEDED} {sorted(TREE_HEADERS)}"
    return hashlib.sha256(made_of.encode()).hexdigest()[:32]


def _extract(archive: Path, say: Callable[[str], None]) -> tuple[dict[str, bytes], list[str]]:
    """Candidates and header names, by one pass to the end: what checks that the archive is whole stands there."""
    found: dict[str, dict[str, bytes]] = {}
    headers: dict[str, list[str]] = {}
    members = 0
    try:
        with _decompressed(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                members += 1
                if members == 1:
                    say(f"reading {archive}, once")
                for root, name in _readings(member.name):
                    if _HEADER.match(name):
                        headers.setdefault(root, []).append(name)
                    if member.isreg() and is_candidate(name):
                        _check_size(member.size, name)
                        content = tar.extractfile(member)
                        found.setdefault(root, {})[name] = content.read() if content else b""
                        break
            while stream.read(_CHUNK):
                pass
    except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error, OSError) as error:
        if members == 0 and isinstance(error, tarfile.TarError):
            raise ConfigError(f"{PREFIX}{archive}: is not a kernel tree: neither a folder nor a tar archive") from None
        raise ConfigError(f"{PREFIX}{archive}: is cut short or damaged ({error}); fetch it again") from None
    root = next((root for root, files in sorted(found.items()) if _NEEDED[-1] in files), "")
    return found.get(root, {}), sorted(headers.get(root, ()))


@contextmanager
def _decompressed(archive: Path) -> Iterator[IO[bytes]]:
    """The tar in an archive. Unlike tarfile, these raise EOFError where the compressed data end too soon."""
    with archive.open("rb") as file:
        begins = file.read(6)
    open_it: Callable[[Path], Any] = next((reader for magic, reader in _READERS if begins.startswith(magic)), _plain)
    with open_it(archive) as stream:
        yield stream


def _plain(path: Path) -> IO[bytes]:
    return path.open("rb")


def _readings(member: str) -> Iterable[tuple[str, str]]:
    """A member as (folder the tree is in, path in the tree): archives have one folder on top, or none."""
    name = member.removeprefix("./")
    top, _, rest = name.partition("/")
    yield "", name
    if rest:
        yield top, rest


def _keep(kept: Path, files: Mapping[str, bytes], names: Iterable[str]) -> None:
    with cache.making(kept) as folder:
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        (folder / _NAMES_FILE).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
