# SPDX-License-Identifier: GPL-2.0-only
"""gcc or clang: found, asked who it is, run so that nothing of the host leaks in, and its complaints made short.

Every complaint of every file is collected before any is told, so a user sees all that a new kernel needs at once.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from stressvmap.errors import ConfigError

COMPILERS: Final = ("gcc", "clang")
SECONDS_MAX: Final = 300
"""What no compilation of a few thousand lines takes."""

_LEAKS: Final = frozenset(
    ("CPATH", "C_INCLUDE_PATH", "LIBRARY_PATH", "GCC_EXEC_PREFIX", "COMPILER_PATH", "CFLAGS", "LDFLAGS", "LD_RUN_PATH")
)
"""Variables by which a host's headers or options would come in."""

MISSING_HEADER: Final = "stressvmap: no such header"
"""What the stand-in of a header that does not exist says, so that the compiler goes on and tells where it is wanted."""

_ERROR: Final = re.compile(r"^(?P<file>[^:\n]+):(?P<line>\d+):(?:\d+:)? (?:fatal )?error: (?P<text>.*)$")
_TOOL_ERROR: Final = re.compile(
    r"^(?P<file>cc1|gcc|clang|ld|objcopy|as)[\w.-]*: (?:fatal )?error: (?P<text>(?!linker command failed).*)$"
)
_INCLUDED: Final = re.compile(r"^(?:In file included| +) from (?P<file>[^:\n]+):(?P<line>\d+)[:,]")
_UNDEFINED: Final = re.compile(
    r"(?:^|\s)(?:(?P<file>[^:\s]+\.[ch]):)?(?P<line>\(?[^:]*): undefined reference to [`'](?P<name>[^']+)'"
)
_OPTION: Final = re.compile(r"(?: is invalid in C99)? \[-W[^\]]*\]$")
"""What a compiler says of its option that made a warning an error."""
_NO_NAME: Final = (
    re.compile(r"implicit declaration of function '(?P<name>\w+)'"),
    re.compile(r"call to undeclared (?:library )?function '(?P<name>\w+)'"),
    re.compile(r"'(?P<name>\w+)' undeclared"),
    re.compile(r"use of undeclared identifier '(?P<name>\w+)'"),
    re.compile(r"unknown type name '(?P<name>\w+)'"),
    re.compile(
        r"(?:invalid use of undefined type|dereferencing pointer to incomplete type|of incomplete type) "
        r"'(?P<name>[\w ]+)'"
    ),
    re.compile(r"incomplete definition of type '(?P<name>[\w ]+)'"),
    re.compile(r"has incomplete type"),
)


@dataclass(frozen=True, slots=True)
class Compiler:
    """One compiler of this machine."""

    family: str
    """"gcc" or "clang"."""
    program: str
    identity: str
    """First line of --version, and what it compiles for: part of every digest."""
    own_headers: str
    """Folder of the compiler's own stddef.h, stdarg.h, stdint.h: the only ones beside shim and tree."""


@dataclass(frozen=True, slots=True, order=True)
class Complaint:
    """One thing that a compiler or the linker does not take."""

    file: str
    line: int
    name: str
    """What is declared or defined nowhere; "" if it is something else."""
    text: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.text}"


def find(family: str) -> Compiler:
    """The compiler of this family. Raises ConfigError where there is none."""
    if family not in COMPILERS:
        raise ConfigError(f"--cc {family}: is not one of {', '.join(COMPILERS)}")
    program = program_of(family)
    if program is None:
        raise ConfigError(f"--cc {family}: there is no {family} here; `stressvmap tree doctor` says what mends it")
    return _identify(family, program)


@cache
def _identify(family: str, program: str) -> Compiler:
    version = run([program, "--version"], Path.cwd())[1].splitlines()
    machine = run([program, "-dumpmachine"], Path.cwd())[1].strip()
    if family == "gcc":
        own_headers = run([program, "-print-file-name=include"], Path.cwd())[1].strip()
    else:
        own_headers = run([program, "-print-resource-dir"], Path.cwd())[1].strip() + "/include"
    return Compiler(family, program, f"{version[0] if version else family} ({machine})", own_headers)


def default_family() -> str:
    """The first of COMPILERS that is there; of none, the first."""
    return next((family for family in COMPILERS if program_of(family) is not None), COMPILERS[0])


def program_of(family: str) -> str | None:
    """`gcc`, or the newest `gcc-N` where only such are installed."""
    plain = shutil.which(family)
    if plain is not None:
        return plain
    numbered: list[tuple[int, str]] = []
    for folder in os.get_exec_path():
        for path in Path(folder).glob(f"{family}-*"):
            number = path.name.removeprefix(f"{family}-")
            if number.isdigit() and os.access(path, os.X_OK):
                numbered.append((int(number), str(path)))
    return max(numbered)[1] if numbered else None


def run(command: Sequence[str], folder: Path) -> tuple[int, str]:
    """Run a tool of the build in `folder`: its exit status, and all that it printed. Raises ConfigError."""
    environment = {key: value for key, value in os.environ.items() if key not in _LEAKS}
    environment |= {"LC_ALL": "C", "SOURCE_DATE_EPOCH": "0"}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=SECONDS_MAX,
            check=False,
        )
    except FileNotFoundError:
        raise ConfigError(f"there is no program {command[0]}; `stressvmap tree doctor` says what mends it") from None
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{Path(command[0]).name} did not end within {SECONDS_MAX} seconds: {command[-1]}") from None
    return done.returncode, done.stdout


# -- complaints --------------------------------------------------------------------------------------------


def complaints(output: str) -> list[Complaint]:
    """The errors in what a compiler or linker printed: each name once, where it is first wanted; by file and line."""
    found: dict[tuple[str, str, int], Complaint] = {}
    asked: tuple[str, int] = ("", 0)
    for line in output.splitlines():
        included = _INCLUDED.match(line)
        if included is not None:
            if line.startswith("In file"):
                asked = (included["file"], int(included["line"]))
            continue
        for complaint in (*_of_compiler(line, asked), *_of_linker(line)):
            key = (complaint.name, "", 0) if complaint.name else ("", complaint.text, complaint.line)
            found[key] = min(found.get(key, complaint), complaint)
    return sorted(found.values())


def _of_compiler(line: str, asked: tuple[str, int]) -> Iterable[Complaint]:
    match = _ERROR.match(line)
    if match is None:
        if (tool := _TOOL_ERROR.match(line)) is not None:
            yield Complaint(tool["file"], 0, "", tool["text"])
        return
    text = _OPTION.sub("", match["text"])
    if MISSING_HEADER in text:
        name = re.sub(r"^(?:\.\./)?missing/", "", match["file"])
        yield Complaint(*asked, name, f"there is no header <{name}>, neither in the tree nor in the shim")
        return
    name = next((found[1] for found in (pattern.search(text) for pattern in _NO_NAME) if found and found.groups()), "")
    told = f"nothing declares {name} ({text})" if name else text
    yield Complaint(match["file"], int(match["line"]), name, told)


def _of_linker(line: str) -> Iterable[Complaint]:
    match = _UNDEFINED.search(line)
    if match is None:
        return
    number = int(match["line"]) if match["line"].isdigit() else 0
    where = match["file"] or line.split(":")[0]
    yield Complaint(where, number, match["name"], f"nothing defines {match['name']}")
