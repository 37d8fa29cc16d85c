# SPDX-License-Identifier: GPL-2.0-only
"""What this machine has and lacks for building kernel trees, and the command that mends it."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stressvmap.errors import ConfigError
from stressvmap.tree import cache, compiler, fetch

_PROBE: Final = "#include <stdio.h>\n#include <sys/mman.h>\nint probe(void) { return putchar(' '); }\n"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked for."""

    name: str
    is_there: bool
    is_needed: bool
    """Without it no tree can be built; the others are for a part of what trees can do."""
    told: str
    """What was found, or what it is for."""
    mend: str = ""
    """The command that mends it; "" where nothing is to be done."""


def examine() -> list[Finding]:
    """Look for everything, in the order in which a build needs it."""
    return [
        _machine(),
        _library("lzma", "reads .tar.xz", "liblzma, then Python again: this Python was built without"),
        _library("elftools", "reads debug info", "python -m pip install pyelftools"),
        _compiler("gcc", is_needed=compiler.program_of("clang") is None),
        _compiler("clang", is_needed=False),
        _libc(),
        _program("ld", "links", "binutils"),
        _program("objcopy", "gives the kernel's data sections of their own", "binutils"),
        _program("patch", "applies --patch", "patch"),
        _program("git", "reads PATH@REV", "git", is_needed=False),
        _program("apt-get", "`tree fetch`; a kernel tree of your own does as well", "", is_needed=False),
        _program("dpkg-deb", "`tree fetch` unpacks with it", "dpkg", is_needed=False),
        _cache(),
        *(_sources(package) for package in fetch.PACKAGES),
    ]


def _machine() -> Finding:
    machine = platform.machine()
    is_fast = machine in ("x86_64", "AMD64")
    told = f"{machine}: tasks are switched " + ("by assembly" if is_fast else "by ucontext, which is slower")
    return Finding("machine", True, True, told)


def _library(name: str, purpose: str, mend: str) -> Finding:
    if importlib.util.find_spec(name) is not None and _imports(name):
        return Finding(f"Python's {name}", True, True, purpose)
    return Finding(f"Python's {name}", False, True, purpose, mend)


def _imports(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def _compiler(family: str, *, is_needed: bool) -> Finding:
    try:
        return Finding(family, True, is_needed, compiler.find(family).identity)
    except ConfigError:
        return Finding(family, False, is_needed, f"compiles, with --cc {family}", _install(family))


def _libc() -> Finding:
    name = "C library's headers"
    family = next((family for family in compiler.COMPILERS if compiler.program_of(family)), None)
    if family is None:
        return Finding(name, False, True, "cannot be tried without a compiler", _install("libc6-dev"))
    with tempfile.TemporaryDirectory(prefix="stressvmap-doctor-") as folder:
        Path(folder, "probe.c").write_text(_PROBE, encoding="utf-8")
        command = [compiler.find(family).program, "-shared", "-fPIC", "-o", "probe.so", "probe.c"]
        status, output = compiler.run(command, Path(folder))
    if status == 0:
        return Finding(name, True, True, "a shared library can be made")
    wrong = compiler.complaints(output)
    return Finding(name, False, True, str(wrong[0]) if wrong else "cannot be linked with", _install("libc6-dev"))


def _program(name: str, purpose: str, package: str, *, is_needed: bool = True) -> Finding:
    path = shutil.which(name)
    if path is not None:
        return Finding(name, True, is_needed, path)
    return Finding(name, False, is_needed, purpose, _install(package) if package else "")


def _install(package: str) -> str:
    if shutil.which("apt-get") is not None:
        return f"apt-get install {package}"
    return f"install {package} with your distribution's package tool"


def _cache() -> Finding:
    def try_it() -> None:
        cache.folder().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache.folder()):
            pass

    told = _trouble(try_it)
    if told is None:
        return Finding("cache", True, True, str(cache.folder()))
    return Finding("cache", False, True, f"{cache.folder()}: {told}", "export XDG_CACHE_HOME=/a/folder/of/yours")


def _trouble(action: Callable[[], None]) -> str | None:
    try:
        action()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _sources(package: str) -> Finding:
    archive = fetch.archive_of(package)
    if archive is not None:
        return Finding(package, True, False, str(archive))
    return Finding(package, False, False, "for the tests that need a kernel tree", "stressvmap tree fetch")
