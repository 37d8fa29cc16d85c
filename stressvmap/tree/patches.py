# SPDX-License-Identifier: GPL-2.0-only
"""A user's patches on a private copy of the files under test: `patch -p1 --fuzz=0`, and what failed, by hunk.

Only unified diffs (git, diff -u) are taken. A file of the patch that is not under test is left alone, and a note says
so; a header that a patch adds comes with it.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from stressvmap.errors import BuildError, ConfigError

_HUNK: Final = re.compile(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_FAILED: Final = re.compile(r"^Hunk #(\d+) (?:FAILED|ignored) at (\d+)", re.MULTILINE)
_NOTHING: Final = "/dev/null"
_WITHOUT_TOP: Final = ("mm/", "lib/", "include/")


@dataclass(frozen=True, slots=True)
class Hunk:
    """One change of one file."""

    old_start: int
    lines: tuple[str, ...]
    """With the @@ line first."""

    def old_lines(self) -> list[str]:
        """What the file has to have there."""
        return [line[1:] or "" for line in self.lines[1:] if line[:1] in (" ", "-", "")]


@dataclass(slots=True)
class FileChange:
    """What a patch does to one file."""

    old: str
    """Its path, with no leading component; "" if it is new."""
    new: str
    """Its path afterwards; "" if it is removed."""
    line: int
    """Where in the patch it begins."""
    hunks: list[Hunk] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The path to call it by."""
        return self.new or self.old


@dataclass(frozen=True, slots=True)
class Patched:
    """Files after patches."""

    files: dict[str, bytes]
    changed: frozenset[str]
    """Paths of files that a patch changed or added."""
    notes: tuple[str, ...]


def digest_of(patch: Path) -> str:
    """SHA-256 of a patch's text. Raises ConfigError."""
    return hashlib.sha256(_read(patch).encode("utf-8", "surrogateescape")).hexdigest()


def apply(files: Mapping[str, bytes], patches: tuple[Path, ...]) -> Patched:
    """The files with the patches applied, in their order. Raises ConfigError: names patch, hunk and what was there."""
    patched = dict(files)
    changed: set[str] = set()
    notes: list[str] = []
    for patch in patches:
        touched = 0
        for change in parse(_read(patch), patch):
            if not _is_ours(change, patched):
                notes.append(f"{patch}: changes {change.name}, which is not under test")
                continue
            _apply_one(patched, change, patch)
            changed.add(change.name)
            touched += 1
        if not touched:
            notes.append(f"{patch}: nothing under test changes")
    return Patched(patched, frozenset(changed), tuple(notes))


def _read(patch: Path) -> str:
    try:
        return patch.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise ConfigError(f"--patch {patch}: cannot be read: {error.strerror}") from None


def _is_ours(change: FileChange, files: Mapping[str, bytes]) -> bool:
    if change.old:
        return change.old in files
    return change.new in files or (change.new.startswith(("include/", "mm/")) and change.new.endswith(".h"))


# -- reading -----------------------------------------------------------------------------------------------


def parse(text: str, patch: Path) -> list[FileChange]:
    """The changes of a unified diff, file by file. Raises ConfigError for what is none."""
    lines = text.split("\n")
    changes: list[FileChange] = []
    at = 0
    while at < len(lines):
        if lines[at].startswith("--- ") and lines[at + 1 : at + 2] and lines[at + 1].startswith("+++ "):
            changes.append(_change(lines, at, patch))
            at += 2
        elif changes and _HUNK.match(lines[at]):
            hunk, at = _hunk(lines, at, patch)
            changes[-1].hunks.append(hunk)
        else:
            at += 1
    changes = [change for change in changes if change.hunks]
    if not changes:
        raise ConfigError(f"--patch {patch}: holds no unified diff (make one with git diff or diff -up)")
    return changes


def _change(lines: list[str], at: int, patch: Path) -> FileChange:
    for line in lines[at : at + 2]:
        if line[4:].startswith(_WITHOUT_TOP):
            raise ConfigError(f"--patch {patch}:{at + 1}: its paths have no leading a/ and b/, as git diff has")
    return FileChange(_path(lines[at]), _path(lines[at + 1]), at + 1)


def _path(line: str) -> str:
    """The path of a --- or +++ line without its first component, as -p1 takes it."""
    name = line[4:].split("\t")[0].strip()
    return "" if name == _NOTHING else name.partition("/")[2]


def _hunk(lines: list[str], start: int, patch: Path) -> tuple[Hunk, int]:
    match = _HUNK.match(lines[start])
    assert match is not None
    old = int(match[2] or 1) if match[2] != "0" else 0
    new = int(match[3] or 1) if match[3] != "0" else 0
    at = start + 1
    while old or new:
        mark = lines[at][:1] if at < len(lines) else "?"
        if mark not in ("+", "-", " ", "", "\\") or (at == len(lines) - 1 and not mark):
            raise ConfigError(f"--patch {patch}:{at + 1}: the hunk that begins at line {start + 1} is cut short")
        old -= mark in ("-", " ", "")
        new -= mark in ("+", " ", "")
        at += 1
    if at < len(lines) and lines[at].startswith("\\"):
        at += 1
    return Hunk(int(match[1]), tuple(lines[start:at])), at


# -- applying ----------------------------------------------------------------------------------------------


def _apply_one(files: dict[str, bytes], change: FileChange, patch: Path) -> None:
    """Change `files` as one section of a patch says."""
    if not change.new:
        raise ConfigError(f"--patch {patch}:{change.line}: removes {change.old}, without which nothing can be built")
    if change.old and change.old != change.new:
        raise ConfigError(f"--patch {patch}:{change.line}: renames {change.old}, which is looked for by its name")
    before = files.get(change.name)
    if not change.old and before is not None:
        raise ConfigError(f"--patch {patch}:{change.line}: adds {change.name}, which is there already")
    section = "\n".join(line for hunk in change.hunks for line in hunk.lines) + "\n"
    head = f"--- a/{change.name}\n+++ b/{change.name}\n"
    with tempfile.TemporaryDirectory(prefix="stressvmap-patch-") as folder:
        target = Path(folder, "file")
        target.write_bytes(before or b"")
        done = _run_patch(target, (head + section).encode("utf-8", "surrogateescape"), patch)
        if done.returncode == 0:
            files[change.name] = target.read_bytes()
            return
    raise _failure(change, before or b"", done.stdout.decode("utf-8", "replace"), patch)


def _run_patch(target: Path, section: bytes, patch: Path) -> subprocess.CompletedProcess[bytes]:
    strict = ["--fuzz=0", "--forward", "--batch", "--unified", "--no-backup-if-mismatch", "--reject-file=-"]
    try:
        return subprocess.run(
            ["patch", *strict, str(target)],
            input=section,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"LC_ALL": "C"},
            check=False,
        )
    except FileNotFoundError:
        raise ConfigError(f"--patch {patch}: there is no `patch` program; see `stressvmap tree doctor`") from None


def _failure(change: FileChange, before: bytes, said: str, patch: Path) -> BuildError:
    """Which hunk, and where the file differs from what it expects; in detail, the hunk itself."""
    has = before.decode("utf-8", "replace").split("\n")
    failed = _FAILED.search(said)
    number = int(failed[1]) if failed else 1
    at = int(failed[2]) if failed else change.hunks[0].old_start
    hunk = change.hunks[min(number, len(change.hunks)) - 1]
    told = f"--patch {patch}: hunk {number} of {len(change.hunks)} does not apply to {change.name}"
    if "previously applied" in said:
        return BuildError(f"{told}: it is applied already ({hunk.lines[0]})", hunk.lines)
    for offset, wanted in enumerate(hunk.old_lines()):
        line = at + offset
        there = has[line - 1] if 0 < line <= len(has) else None
        if there != wanted:
            shown = "the end of the file" if there is None else repr(there.strip())
            return BuildError(f"{told}:{line}: expected {wanted.strip()!r}, there is {shown}", hunk.lines)
    return BuildError(f"{told}: {' '.join(said.split())}", hunk.lines)
