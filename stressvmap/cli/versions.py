# SPDX-License-Identifier: GPL-2.0-only
"""`stressvmap versions`: what `--version` can name, and what a version is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from stressvmap.cli.options import Json, Quiet, Verbose
from stressvmap.cli.output import print_object, print_raw, start_log
from stressvmap.known import Known
from stressvmap.result import SCHEMA
from stressvmap.stress import subject
from stressvmap.tree.version import TreeVersion
from stressvmap.vmalloc.versions import BUILT_IN
from stressvmap.vmalloc.versions import show as show_source

COMMAND = "versions"


def versions(
    show: Annotated[
        str | None,
        typer.Option("--show", metavar="V", help="Print this version's whole source, with each function's origin."),
    ] = None,
    json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> int:
    """List the versions, with what each is known to break; or print one, flattened.

    A version of your own is a class in a file: inherit from a version, override the functions your patch touches.

    \b
    Example: what runs under rfc-3of3, function by function
        stressvmap versions --show rfc-3of3
    Example: what your patch comes to
        stressvmap versions --show ./my_patch.py:MyPatch
    Example: a kernel tree's mm/vmalloc.c with a patch applied, as it is compiled
        stressvmap versions --show 'tree:~/linux?patch=my.patch'
    """
    start_log(verbose, is_quiet=quiet)
    if show is not None:
        version = subject.load(show)
        source = version.source if isinstance(version, TreeVersion) else show_source(version)
        if json:
            print_object(_object([version]) | {"source": source})
        else:
            print_raw([source.rstrip("\n")])
        return 0
    if json:
        print_object(_object(list(BUILT_IN.values())))
    else:
        print_raw(_lines())
    return 0


def _lines() -> list[str]:
    lines = []
    for version in BUILT_IN.values():
        lines.append(f"{version.NAME:<16} {version.TITLE}")
        for known in version.known:
            lines.append(
                f"    known: {known.check} {known.fingerprint} ({known.frequency}): {known.title}; {known.reference}"
            )
    return [
        *lines,
        "",
        "and ./path/to/file.py:ClassName for a patch of your own, or tree:PATH for a kernel tree's own C",
    ]


def _object(chosen: Sequence[subject.Version]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "command": COMMAND,
        "exit_status": 0,
        "versions": [
            {
                "name": version.NAME,
                "title": version.title if isinstance(version, TreeVersion) else version.TITLE,
                "digest": subject.digest(version),
                "known": [_known(known) for known in version.known],
            }
            for version in chosen
        ],
    }


def _known(known: Known) -> dict[str, str]:
    return {
        "check": known.check,
        "fingerprint": known.fingerprint,
        "mechanism": known.mechanism,
        "frequency": known.frequency,
        "reference": known.reference,
        "title": known.title,
    }
