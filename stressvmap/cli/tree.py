# SPDX-License-Identifier: GPL-2.0-only
"""`stressvmap tree`: kernel trees as the code under test: built, listed, removed; what this machine lacks; sources."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from stressvmap.cli.conform import conform_command
from stressvmap.cli.options import Json, Quiet, Verbose
from stressvmap.cli.output import complain, print_object, print_raw, start_log
from stressvmap.errors import ConfigError
from stressvmap.result import SCHEMA
from stressvmap.tree import cache, doctor, fetch
from stressvmap.tree.build import TreeSpec, find_or_make, nothing, plan
from stressvmap.tree.cache import BuiltTree
from stressvmap.tree.options import BuildOptions

NAME = "tree"
_DIGEST_SHOWN: Final = 12
_DEFAULT: Final = BuildOptions()

tree_app = typer.Typer(name=NAME, rich_markup_mode=None)
tree_app.command("conform")(conform_command)

_Place = Annotated[
    str, typer.Argument(metavar="PATH", help="A kernel tree, a linux-source-*.tar.xz, or a git work tree as PATH@REV.")
]
_Patches = Annotated[
    list[Path] | None,
    typer.Option("--patch", metavar="FILE", help="Applied to a private copy, as patch -p1 --fuzz=0 (repeatable)."),
]
_BlockBits = Annotated[int, typer.Option(metavar="N", help="Pages of a vmap block: VMAP_BBMAP_BITS.")]
_MaxAlloc = Annotated[
    int | None,
    typer.Option(metavar="N", help="Largest mapping that a block serves: VMAP_MAX_ALLOC (default: at most 4)."),
]
_PageShift = Annotated[
    int | None,
    typer.Option(metavar="N", help="PAGE_SHIFT; it decides the drain's threshold (default: 22, if it fits)."),
]
_Cpus = Annotated[int, typer.Option(metavar="N", help="CPUs that NR_CPUS has to cover; bounds PAGE_SHIFT.")]
_DebugPagealloc = Annotated[
    bool, typer.Option("--debug-pagealloc", help="As debug_pagealloc=on, whatever a scenario says.")
]
_Cc = Annotated[
    str,
    typer.Option(
        metavar="gcc|clang", help="The compiler; gcc, or clang where that is all there is.", show_default=False
    ),
]


@tree_app.callback(invoke_without_command=True)
def _tree(context: typer.Context) -> None:
    """Kernel trees as the code under test: a tree's own mm/vmalloc.c, built to run in userspace.

    \b
    Example: is anything missing on this machine?
        stressvmap tree doctor
    Example: does a tree build with a patch, and if not, why?
        stressvmap tree build ~/linux --patch my.patch
    Example: stress it (it is built first, if it is not)
        stressvmap stress --version tree:~/linux --patch my.patch
    """
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(ConfigError.exit_status)


@tree_app.command()
def build(
    path: _Place,
    patch: _Patches = None,
    block_bits: _BlockBits = _DEFAULT.block_bits,
    max_alloc: _MaxAlloc = None,
    page_shift: _PageShift = None,
    cpus: _Cpus = _DEFAULT.cpus,
    debug_pagealloc: _DebugPagealloc = False,
    cc: _Cc = _DEFAULT.cc,
    json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> int:
    """Compile a kernel tree's mm/vmalloc.c, with the shim and the engine, into a library in the cache.

    The tree is only read. What was built before from the same files, patches, options and compiler is taken as it is.
    Whatever names a tree as --version builds it like this, so this command is for seeing whether it can be built.

    \b
    Example: the tree that you work on, and your patch
        stressvmap tree build ~/linux --patch my.patch
    Example: a release out of git, in blocks of 64 pages
        stressvmap tree build ~/linux@v6.12 --block-bits 64
    """
    start_log(verbose, is_quiet=quiet)
    say = nothing if quiet else complain
    options = BuildOptions(
        block_bits=block_bits,
        max_alloc=_given(max_alloc, "--max-alloc"),
        page_shift=_given(page_shift, "--page-shift"),
        cpus=cpus,
        debug_pagealloc=debug_pagealloc,
        cc=cc,
    )
    begun = time.monotonic()
    made = plan(TreeSpec.parse(path, patch or (), options), say)
    is_cached = cache.find(made.digest) is not None
    built = find_or_make(made, say)
    seconds = time.monotonic() - begun
    for note in built.notes:
        complain(f"note: {note}")
    if json:
        print_object(_object("build") | _described(built) | {"cached": is_cached, "seconds": round(seconds, 3)})
    else:
        how = "in the cache already" if is_cached else f"built in {seconds:.1f} s"
        print_raw([f"{built.name}: {how}", *_lines(built)])
    return 0


@tree_app.command("list")
def list_trees(json: Json = False, verbose: Verbose = 0, quiet: Quiet = False) -> int:
    """List the trees in the cache, the one built last first, and the sources that were fetched.

    \b
    Example
        stressvmap tree list
    """
    start_log(verbose, is_quiet=quiet)
    trees = cache.built_trees()
    fetched = [(package, archive) for package in fetch.PACKAGES if (archive := fetch.archive_of(package)) is not None]
    if json:
        sources = [
            {"package": package, "archive": str(archive), "bytes": cache.size_bytes(archive)}
            for package, archive in fetched
        ]
        print_object(_object("list") | {"trees": [_described(built) for built in trees], "sources": sources})
        return 0
    lines = []
    for built in trees:
        lines += [f"{built.name}  {built.digest[:_DIGEST_SHOWN]}  from {built.build['origin']}", *_lines(built)]
    for package, archive in fetched:
        lines.append(f"{package}: {fetch.megabytes(cache.size_bytes(archive))}, {archive}")
    print_raw(lines or [f"nothing in {cache.folder()}; `stressvmap tree build PATH` builds a tree"])
    return 0


@tree_app.command()
def clean(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Names or digests (as `list` shows them); else all.")
    ] = None,
    sources: Annotated[
        bool, typer.Option("--sources", help="Fetched sources too, and what was read out of archives.")
    ] = False,
    json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> int:
    """Remove built trees from the cache. They are built again when they are named again.

    \b
    Example: everything, the downloads included
        stressvmap tree clean --sources
    """
    start_log(verbose, is_quiet=quiet)
    removed = cache.clean(tuple(names or ()), with_sources=sources)
    total = sum(size for _path, size in removed)
    if json:
        told = [{"path": str(path), "bytes": size} for path, size in removed]
        print_object(_object("clean") | {"removed": told, "bytes": total})
    else:
        print_raw([*(f"removed {path}" for path, _size in removed), f"{fetch.megabytes(total)} freed"])
    return 0


@tree_app.command("doctor")
def doctor_command(json: Json = False, verbose: Verbose = 0, quiet: Quiet = False) -> int:
    """Say what this machine lacks for building kernel trees, and the command that mends it. 2 if no tree can be built.

    \b
    Example
        stressvmap tree doctor
    """
    start_log(verbose, is_quiet=quiet)
    findings = doctor.examine()
    lacking = [finding for finding in findings if finding.is_needed and not finding.is_there]
    status = ConfigError.exit_status if lacking else 0
    if json:
        print_object(_object("doctor", status) | {"findings": [_finding(found) for found in findings]})
        return status
    for found in findings:
        mark = "ok" if found.is_there else "MISSING" if found.is_needed else "absent"
        print_raw([f"{mark:<8} {found.name}: {found.told}", *([f"         mend: {found.mend}"] if found.mend else [])])
    count = len(lacking)
    print_raw([f"{count} missing: no tree can be built" if count else "kernel trees can be built here"])
    return status


@tree_app.command("fetch")
def fetch_command(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[RELEASE]...", help="As 6.1 (default: 6.1 and 6.12).")
    ] = None,
    json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> int:
    """Fetch kernel sources for the tests into the cache, by apt: downloaded and checked, nothing is installed.

    Sizes are said first. What is there is left alone, and a download that was cut goes on. 2 where there is no apt,
    4 where there is no network.

    \b
    Example
        stressvmap tree fetch 6.12
    """
    start_log(verbose, is_quiet=quiet)
    packages = [fetch.package_name(name) for name in names] if names else list(fetch.PACKAGES)
    fetched = fetch.fetch(list(dict.fromkeys(packages)), nothing if quiet else complain)
    if json:
        told = [
            {"package": one.package, "version": one.version, "archive": str(one.archive), "new": one.is_new}
            for one in fetched
        ]
        print_object(_object("fetch") | {"sources": told})
    else:
        for one in fetched:
            how = "fetched" if one.is_new else "there already"
            print_raw([f"{one.package} {one.version}: {how}, {one.archive}"])
    return 0


def _given(value: int | None, option: str) -> int:
    """0 means unsaid in BuildOptions, so a 0 that was said is refused here."""
    if value is not None and value <= 0:
        raise ConfigError(f"{option} {value}: must be above 0")
    return value or 0


def _object(command: str, exit_status: int = 0) -> dict[str, Any]:
    return {"schema": SCHEMA, "command": f"{NAME} {command}", "exit_status": exit_status}


def _finding(found: doctor.Finding) -> dict[str, Any]:
    return {key.removeprefix("is_"): value for key, value in asdict(found).items()}


def _described(built: BuiltTree) -> dict[str, Any]:
    shown = ("origin", "patches", "options", "compiler", "files", "empty_headers", "notes")
    head = {"name": built.name, "release": built.release, "digest": built.digest, "library": str(built.library)}
    return head | {key: built.build[key] for key in shown} | {"bytes": cache.size_bytes(built.folder)}


def _lines(built: BuiltTree) -> list[str]:
    options = built.build["options"]
    lines = [f"    library    {built.library}"]
    lines += [f"    patch      {patch['name']}" for patch in built.build["patches"]]
    lines.append(
        f"    sizes      blocks of {options['block_bits']} pages, max_alloc {options['max_alloc']}, "
        f"PAGE_SHIFT {options['page_shift']}, NR_CPUS {options['nr_cpus']}"
        + (", debug_pagealloc" if options["debug_pagealloc"] else "")
    )
    lines.append(f"    compiler   {built.build['compiler']}")
    lines.append(
        f"    from tree  {len(built.build['files'])} files; {len(built.build['empty_headers'])} headers stand empty"
    )
    return lines
