# SPDX-License-Identifier: GPL-2.0-only
"""From a kernel tree and patches to a library that can be loaded: `build(TreeSpec.parse("tree:PATH"))`.

A build is a function of what it is made of: the files of the tree that are used, after patches; options; compiler;
shim and engine. A digest of these is its key in the cache, and equal keys mean equal bytes, in whatever folder: paths
are mapped away, nothing has a date. A build that fails leaves nothing behind, and an older library is never taken for
it. What is missing is told at once, with file and line of the user's own file.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from stressvmap.errors import BuildError, ConfigError
from stressvmap.tree import cache, compiler, patches, recipe
from stressvmap.tree.cache import BuiltTree
from stressvmap.tree.compiler import Compiler, Complaint
from stressvmap.tree.headers import Resolved, resolve
from stressvmap.tree.options import BuildOptions
from stressvmap.tree.patches import Patched
from stressvmap.tree.sources import C_FILES, PREFIX, Sources, read_sources

_LISTED_MAX: Final = 5
_NAME_MAX: Final = 80


@dataclass(frozen=True, slots=True)
class TreeSpec:
    """A kernel tree as a user names it."""

    path: str
    """A folder, an archive, or FOLDER@REV, as given; relative ones are meant from the current folder."""
    patches: tuple[Path, ...] = ()
    """Applied in this order."""
    options: BuildOptions = field(default_factory=BuildOptions)

    @classmethod
    def parse(cls, text: str, patches: Sequence[Path] = (), options: BuildOptions | None = None) -> TreeSpec:
        """`tree:PATH`, or PATH alone. Raises ConfigError for an empty path and for options that cannot be."""
        path = text.removeprefix(PREFIX)
        if not path.strip():
            raise ConfigError(f"{text!r}: names no kernel tree, as {PREFIX}~/linux does")
        return cls(path, tuple(patches), (options or BuildOptions()).resolved())


@dataclass(frozen=True, slots=True)
class Plan:
    """A build that has not been made: everything it depends on."""

    spec: TreeSpec
    sources: Sources
    patched: Patched
    resolved: Resolved
    compiler: Compiler
    shim: Mapping[str, bytes]
    inputs: dict[str, Any]
    """What the digest is of."""
    digest: str
    name: str


def nothing(_line: str) -> None:
    """Says nothing."""


def plan(spec: TreeSpec, say: Callable[[str], None] = nothing) -> Plan:
    """Read the tree, apply the patches, find compiler and headers; nothing is compiled. Raises ConfigError."""
    options = spec.options.resolved()
    found = compiler.find(options.cc)
    sources = read_sources(spec.path, say)
    patched = patches.apply(sources.files, spec.patches)
    shim = recipe.shim_files()
    resolved = resolve(sources, patched, recipe.headers_of(shim))
    inputs: dict[str, Any] = {
        "release": sources.release,
        "files": {name: _sha256(content) for name, content in resolved.files.items()},
        "empty_headers": list(resolved.empty),
        "missing_headers": list(resolved.missing),
        "patches": [{"name": patch.name, "sha256": patches.digest_of(patch)} for patch in spec.patches],
        "options": options.described(),
        "compiler": found.identity,
        "binutils": recipe.binutils_identity(),
        "shim_sha256": _sha256(b"".join(name.encode() + b"\0" + _raw(content) for name, content in shim.items())),
        "recipe": recipe.described(options, found),
    }
    digest = _sha256(json.dumps(inputs, sort_keys=True).encode())
    named = "".join(f"+{_plain(patch.stem)}" for patch in spec.patches)
    name = f"tree-{sources.release}{named}"[:_NAME_MAX]
    return Plan(spec, sources, patched, resolved, found, shim, inputs, digest, name)


def build(spec: TreeSpec, say: Callable[[str], None] = nothing) -> BuiltTree:
    """The tree's library: out of the cache if it was built from the same before, else built now; `say` is told then.

    Raises ConfigError: no tree, no such revision, a patch that does not apply; BuildError: it does not compile.
    """
    return find_or_make(plan(spec, say), say)


def find_or_make(made: Plan, say: Callable[[str], None] = nothing) -> BuiltTree:
    """What `build` does with a plan."""
    found = cache.find(made.digest)
    if found is not None:
        return found
    say(f"compiling {made.name}")
    with cache.making(cache.trees() / made.digest) as folder:
        _make(made, folder)
    found = cache.find(made.digest)
    if found is None:
        raise ConfigError(f"the cache {cache.trees()} does not keep what is written to it; set XDG_CACHE_HOME")
    return found


def _make(made: Plan, folder: Path) -> None:
    """Compile and link in the scratch folder `folder`, and leave there only what an entry holds."""
    options = made.spec.options.resolved()
    place = recipe.lay_out(folder, made.resolved, made.shim)
    log, failed = recipe.compile_all(place, options, made.compiler)
    if not failed:
        linked, failed = recipe.link(place, made.compiler)
        log += linked
    if failed:
        raise _build_error(made, log)
    recipe.tidy(place)
    build = {
        "schema": cache.SCHEMA,
        "digest": made.digest,
        "name": made.name,
        "origin": made.sources.origin,
        **made.inputs,
        "notes": [*made.patched.notes, *_warnings(log)],
        "library_sha256": cache.sha256_of(folder / cache.LIBRARY),
    }
    (folder / cache.LOG_FILE).write_text(log, encoding="utf-8")
    (folder / cache.BUILD_FILE).write_text(json.dumps(build, indent=1) + "\n", encoding="utf-8")


def _warnings(log: str) -> Iterable[str]:
    """One note for all that the compiler warned of; the log has them."""
    warnings = [line for line in log.splitlines() if ": warning: " in line]
    if warnings:
        yield f"the compiler warns of {_count(len(warnings), 'thing')} ({cache.LOG_FILE}): {warnings[0]}"


def _build_error(made: Plan, log: str) -> BuildError:
    """All that is wrong, what is missing first: the rest often follows from it."""
    told = sorted(_placed(complaint, made.resolved) for complaint in compiler.complaints(log))
    if not told:
        last = [line for line in log.splitlines() if line.strip()][-1:]
        return BuildError(f"{made.name} cannot be built: {last[0] if last else 'the compiler failed'}")
    missing = [complaint for complaint in told if complaint.name]
    listed = [*missing, *(complaint for complaint in told if not complaint.name)]
    if missing:
        what = f"{_count(len(missing), 'name')} that nothing declares or defines: {_first(missing)}"
    else:
        what = f"{_count(len(told), 'error')}: {listed[0]}"
    return BuildError(f"{made.name} cannot be built, {what}", tuple(str(complaint) for complaint in listed))


def _placed(complaint: Complaint, resolved: Resolved) -> Complaint:
    """With files named as the tree has them, and the shim's as the package has them.

    Of a name that nothing defines, the linker knows the line, but takes the translation unit for the file.
    """
    file = posixpath.normpath(complaint.file)
    if file.startswith("../shim/"):
        return replace(complaint, file=f"stressvmap/tree/{file.removeprefix('../')}")
    if file == recipe.UNIT:
        by_unit = sorted(resolved.files, key=lambda name: name not in C_FILES)
        file = next((name for name in by_unit if _line_has(resolved.files[name], complaint)), file)
    return replace(complaint, file=file)


def _line_has(content: bytes, complaint: Complaint) -> bool:
    lines = content.split(b"\n")
    return 0 < complaint.line <= len(lines) and complaint.name.encode() in lines[complaint.line - 1]


def _first(missing: Sequence[Complaint]) -> str:
    named = ", ".join(f"{complaint.name} ({complaint.file}:{complaint.line})" for complaint in missing[:_LISTED_MAX])
    rest = len(missing) - _LISTED_MAX
    return named + (f" and {rest} more" if rest > 0 else "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _raw(content: bytes) -> bytes:
    return len(content).to_bytes(8, "big") + content


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]", "-", name)
