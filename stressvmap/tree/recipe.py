# SPDX-License-Identifier: GPL-2.0-only
"""How a tree's files, the shim and the engine become one library: folders, commands, and their flags.

Everything is compiled in the folder `source`, by relative paths, so that neither debug info nor __FILE__ tells where
that was. Three kinds of files:
- under test: the tree's C, with the shim's header before its first line and nothing of the host (-nostdinc; the
  compiler's own stddef.h and the like alone); -fsanitize=thread makes each access a call into the engine;
- shim: the same headers, not instrumented;
- engine and the shim's host_*.c: ordinary C of this machine.
The first two are linked into one object whose data get sections of their own, which the engine puts back before a run.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path, PurePosixPath
from typing import Final

from stressvmap.journal import events
from stressvmap.tree import cache
from stressvmap.tree.cache import LIBRARY, SOURCE
from stressvmap.tree.compiler import MISSING_HEADER, Compiler, run
from stressvmap.tree.headers import Resolved
from stressvmap.tree.options import BuildOptions
from stressvmap.tree.sources import C_FILES, SHIM

_INCLUDE: Final = "include/"
_PROBES: Final = "probes.txt"
"""Names of mm/vmalloc.c that the shim asks for: SV_HAS_<name> is defined where the tree has them."""
_PROBES_HEADER: Final = "sv_probes.h"
_UNDEF_HEADER: Final = "sv_undef.h"
_PROBED: Final = ("mm/vmalloc.c", "include/linux/vmalloc.h")
_VMALLOC: Final = "mm/vmalloc.c"
UNIT: Final = "mm/sv_unit.c"
"""The translation unit of mm/vmalloc.c."""
_AFTER_UNIT: Final = "sv/after_vmalloc.h"
"""What the shim needs of static functions and data stands in the same translation unit, behind the file's last line."""
_MACRO: Final = re.compile(rb"^#[ \t]*define (\w+)", re.MULTILINE)
_FUNCTION: Final = re.compile(rb"^(?:[a-z][\w \t*]*?\b)?(\w+)\([^;{}]*?\)\s*\{", re.MULTILINE)
_SHIM_SUFFIXES: Final = frozenset((".c", ".h", ".S", ".txt"))

_LANGUAGE: Final = (
    *("-std=gnu11", "-O2", "-g", "-fPIC", "-fvisibility=hidden", "-fno-omit-frame-pointer"),
    # What distributions switch on for programs of their own, and what a kernel is never built with.
    *("-fno-stack-protector", "-fcf-protection=none", "-U_FORTIFY_SOURCE", "-fdiagnostics-color=never"),
)
_KERNEL: Final = (
    *[
        "-ffreestanding",
        "-nostdinc",
        "-fno-strict-aliasing",
        "-fno-delete-null-pointer-checks",
        "-fwrapv",
        "-fno-common",
    ],
    *["-include", "../shim/include/sv_kernel.h", "-I../shim/include", "-Iinclude", "-I../generated"],
    *["-I../shim", "-I../shim/engine", "-I../empty", "-I../missing"],
)
_UNDER_TEST: Final = (
    *("-fsanitize=thread", "-Wall", "-Werror=implicit-function-declaration", "-Werror=incompatible-pointer-types"),
    *("-Werror=int-conversion", "-Wno-unused-function", "-Wno-unused-variable", "-Wno-unused-value"),
    *("-Wno-unused-but-set-variable", "-Wno-frame-address"),
)
_BY_FAMILY: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "gcc": (("-fmax-errors=0", "-fno-diagnostics-show-caret"), ("--param=tsan-distinguish-volatile=1",)),
    "clang": (
        ("-ferror-limit=0", "-fno-caret-diagnostics", "-gdwarf-4"),  # in DWARF 5 its paths escape the prefix map
        # Without the second it tells of `x += 1` as a write alone.
        ("-mllvm", "-tsan-distinguish-volatile=1", "-mllvm", "-tsan-instrument-read-before-write=1"),
    ),
}
"""For all files; for files under test."""
_SHIM_ONLY: Final = ("-DSV_SHIM", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-sign-compare")
_HOST: Final = ("-I../generated", "-I../shim/engine", "-Wall")
_TEXTS: Final = dict.fromkeys((".text", ".text.unlikely", ".text.hot", ".text.startup", ".text.exit"), "ktext")
_DATA: Final = {".data": "kdata", ".data.rel": "kdata", ".data.rel.local": "kdata", ".bss": "kbss"}
"""Sections of the objects and what they become: `ktext` is where a crash is the kernel's, the others are put back."""
_LINK: Final = ("-shared", "-Wl,-z,defs", "-Wl,-z,noexecstack", "-Wl,--build-id=none", "-lm")


@dataclass(frozen=True, slots=True)
class Place:
    """A scratch folder, laid out for a build."""

    folder: Path
    resolved: Resolved
    shim: Mapping[str, bytes]

    @property
    def source(self) -> Path:
        """Where everything is compiled."""
        return self.folder / SOURCE

    @property
    def objects(self) -> Path:
        """Where object files go."""
        return self.folder / "objects"


def shim_files() -> dict[str, bytes]:
    """The shim's and the engine's files, by path below shim/, and the event numbers they are compiled with."""
    files = {
        path.relative_to(SHIM).as_posix(): path.read_bytes()
        for path in sorted(SHIM.rglob("*"))
        if path.suffix in _SHIM_SUFFIXES and path.is_file()
    }
    return files | {"sv_events.h": _event_numbers()}


def headers_of(shim: Mapping[str, bytes]) -> dict[str, bytes]:
    """The shim's headers by the name they are included by."""
    return {
        name.removeprefix(_INCLUDE): content
        for name, content in shim.items()
        if name.startswith(_INCLUDE) and name.endswith(".h")
    }


def _event_numbers() -> bytes:
    """sv_events.h: every integer constant of journal/events.py, so that there is one table."""
    numbers = {name: value for name, value in vars(events).items() if name.isupper() and type(value) is int}
    lines = [f"#define SV_{name} {value}{'ULL' if value >> 31 else ''}\n" for name, value in numbers.items()]
    return "".join(["/* Generated from stressvmap/journal/events.py. */\n", *lines]).encode()


@once
def binutils_identity() -> str:
    """First lines of `ld --version` and `objcopy --version`. Raises ConfigError where there is none."""
    said = [run([program, "--version"], Path.cwd())[1].splitlines()[:1] for program in ("ld", "objcopy")]
    return "; ".join(line for lines in said for line in lines)


def described(options: BuildOptions, found: Compiler) -> list[list[str]]:
    """The commands' flags, for the digest."""
    return [_under_test(options, found, macros) for macros in C_FILES.values()] + [
        _shim(options, found),
        _host(found),
        [*_renames(_TEXTS), *_renames(_DATA), *_LINK],
    ]


def lay_out(folder: Path, resolved: Resolved, shim: Mapping[str, bytes]) -> Place:
    """Write everything that is compiled or included into `folder`."""
    place = Place(folder, resolved, shim)
    for name, content in resolved.files.items():
        _write(place.source / name, content)
    for name in resolved.empty:
        _write(folder / "empty" / name, b"")
    for name in resolved.missing:
        _write(folder / "missing" / name, f"#error {MISSING_HEADER}\n".encode())
    for name, content in shim.items():
        _write(folder / ("generated" if name == "sv_events.h" else "shim") / name, content)
    _write(folder / "generated" / _PROBES_HEADER, _probes(resolved, shim))
    _write(folder / "generated" / _UNDEF_HEADER, _undefs(resolved, shim))
    _write(place.source / UNIT, f'#include "{PurePosixPath(_VMALLOC).name}"\n#include "{_AFTER_UNIT}"\n'.encode())
    for name in ("include", "../empty", "../missing", "../objects"):
        (place.source / name).mkdir(exist_ok=True)
    return place


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _probes(resolved: Resolved, shim: Mapping[str, bytes]) -> bytes:
    text = b"".join(resolved.files.get(name, b"") for name in _PROBED).decode("utf-8", "replace")
    words = set(re.findall(r"\w+", text))
    asked = [line.strip() for line in shim.get(_PROBES, b"").decode().splitlines() if not line.startswith("#")]
    return "".join(f"#define SV_HAS_{name} 1\n" for name in asked if name in words).encode()


def _undefs(resolved: Resolved, shim: Mapping[str, bytes]) -> bytes:
    """sv_undef.h: what a tree's mm/vmalloc.c defines as a function is no macro of the shim's there."""
    macros = {name for content in headers_of(shim).values() for name in _MACRO.findall(content)}
    functions = set(_FUNCTION.findall(resolved.files[_VMALLOC]))
    return b"".join(b"#undef %s\n" % name for name in sorted(macros & functions))


# -- compiling ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Job:
    """One file to compile."""

    command: tuple[str, ...]
    object: str
    """Where the object file goes, from the folder `source`."""
    made_of: str = ""
    """Digest of all that it may include, if that is the same for many builds; "" for the files under test."""


def compile_all(place: Place, options: BuildOptions, found: Compiler) -> tuple[str, bool]:
    """Compile every file, also after one has failed. What was printed, in the order of files; whether one failed.

    Shim and engine are the same for many patches of a tree, so their objects are kept.
    """
    jobs = list(_jobs(place, options, found))
    with ThreadPoolExecutor(max_workers=min(len(jobs), os.cpu_count() or 1)) as pool:
        done = list(pool.map(lambda job: _compile(job, place, found), jobs))
    return "".join(output for _status, output in done), any(status != 0 for status, _output in done)


def _compile(job: _Job, place: Place, found: Compiler) -> tuple[int, str]:
    command = [found.program, f"-ffile-prefix-map={place.source}=.", *job.command, "-o", job.object]
    if not job.made_of:
        return run(command, place.source)
    key = hashlib.sha256("\0".join([found.identity, job.made_of, *job.command]).encode()).hexdigest()
    if (kept := cache.kept_object(key)) is not None:
        (place.source / job.object).write_bytes(kept)
        return 0, ""
    status, output = run(command, place.source)
    if status == 0 and not output:
        cache.keep_object(key, (place.source / job.object).read_bytes())
    return status, output


def _jobs(place: Place, options: BuildOptions, found: Compiler) -> Iterator[_Job]:
    for name, macros in C_FILES.items():
        source = UNIT if name == _VMALLOC else name
        beside = f"../shim/include/{PurePosixPath(name).parent}"
        flags = (*_under_test(options, found, macros), "-iquote", beside)
        yield _Job((*flags, "-c", source), _object("kernel", name))
    host = _digest_of(place.shim)
    headers = {name: content for name, content in place.resolved.files.items() if name not in C_FILES}
    generated = {name: (place.folder / "generated" / name).read_bytes() for name in (_PROBES_HEADER, _UNDEF_HEADER)}
    absent = {"empty": repr(place.resolved.empty).encode(), "missing": repr(place.resolved.missing).encode()}
    shim = _digest_of({**place.shim, **headers, **generated, **absent})
    for name in _sources(place.shim, is_host=False):
        yield _Job((*_shim(options, found), "-c", f"../shim/{name}"), _object("shim", name), shim)
    for name in _sources(place.shim, is_host=True):
        yield _Job((*_host(found), "-c", f"../shim/{name}"), _object("host", name), host)


def _digest_of(files: Mapping[str, bytes]) -> str:
    made = hashlib.sha256()
    for name, content in sorted(files.items()):
        made.update(f"{name}\0{len(content)}\0".encode() + content)
    return made.hexdigest()


def _sources(shim: Mapping[str, bytes], *, is_host: bool) -> list[str]:
    """The shim's own C files, or those of this machine: the engine and host_*.c."""
    chosen = []
    for name in shim:
        path = PurePosixPath(name)
        top = str(path.parent)
        if path.suffix not in (".c", ".S") or top not in (".", "engine"):
            continue
        if is_host == (top == "engine" or path.name.startswith("host_")):
            chosen.append(name)
    return chosen


def _object(kind: str, name: str) -> str:
    return f"../objects/{kind}-{name.replace('/', '_')}.o"


def _sizes(options: BuildOptions) -> list[str]:
    macros = [f"-DSV_PAGE_SHIFT={options.page_shift}", f"-DCONFIG_NR_CPUS={options.nr_cpus}"]
    if options.debug_pagealloc:
        macros.append("-DCONFIG_DEBUG_PAGEALLOC_ENABLE_DEFAULT=1")
    return macros


def _under_test(options: BuildOptions, found: Compiler, macros: Sequence[str]) -> list[str]:
    defined = [f"-D{macro}" for macro in macros]
    if options.max_alloc != 64:
        defined.append(f"-DSV_MAX_ALLOC={options.max_alloc}")
    own = ["-isystem", found.own_headers]
    return [*_all(found), *_sizes(options), *_KERNEL, *own, *_UNDER_TEST, *_BY_FAMILY[found.family][1], *defined]


def _shim(options: BuildOptions, found: Compiler) -> list[str]:
    return [*_all(found), *_sizes(options), *_KERNEL, "-isystem", found.own_headers, *_SHIM_ONLY]


def _host(found: Compiler) -> list[str]:
    return [*_all(found), *_HOST]


def _all(found: Compiler) -> list[str]:
    return [*_LANGUAGE, *_BY_FAMILY[found.family][0]]


# -- linking -----------------------------------------------------------------------------------------------


def link(place: Place, found: Compiler) -> tuple[str, bool]:
    """Link the library; what was printed, and whether it failed."""
    kernel = [_object("kernel", name) for name in C_FILES]
    marked = [["objcopy", *_renames(_TEXTS), name] for name in kernel]
    shim = [_object("shim", name) for name in _sources(place.shim, is_host=False)]
    host = [_object("host", name) for name in _sources(place.shim, is_host=True)]
    whole, state = "../objects/whole.o", "../objects/state.o"
    log = ""
    for command in (
        *marked,
        ["ld", "-r", "-o", whole, *kernel, *shim],
        ["objcopy", *_renames(_DATA), whole, state],
        [found.program, "-o", f"../{LIBRARY}", state, *host, *_LINK],
    ):
        status, output = run(command, place.source)
        log += output
        if status != 0:
            return log, True
    return log, False


def _renames(sections: Mapping[str, str]) -> list[str]:
    return [word for old, new in sections.items() for word in ("--rename-section", f"{old}={new}")]


def tidy(place: Place) -> None:
    """Leave the library and the files under test."""
    for name in ("empty", "missing", "generated", "shim", "objects"):
        shutil.rmtree(place.folder / name)
    (place.source / UNIT).unlink()
