# SPDX-License-Identifier: GPL-2.0-only
"""A kernel tree, patches included, as a version: what stands wherever a model version's name can stand.

`tree:PATH` alone, or with options behind a question mark: `tree:~/linux?patch=/home/me/my.patch&points=marked`. So one
text says all of it, in a schedule file as on the command line.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final, TypeVar
from urllib.parse import quote, unquote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stressvmap.errors import ConfigError
from stressvmap.known import ALWAYS, RARE, Known
from stressvmap.scenario import Scenario
from stressvmap.tree.build import Plan, TreeSpec, build, nothing, plan
from stressvmap.tree.cache import BuiltTree
from stressvmap.tree.options import PAGE_SHIFT_MAX, BuildOptions
from stressvmap.tree.sources import PREFIX

ALL: Final = "all"
MARKED: Final = "marked"
PATCH: Final = "patch"
POINTS: Final = "points"
COMPILER: Final = "cc"
KNOWN: Final = "known"
RACES: Final = "races"
_PATHS: Final = frozenset({PATCH, KNOWN, RACES})
_EXAMPLES: Final = "patch=FILE, points=all|marked, cc=gcc|clang, known=FILE, races=FILE"
_MEANT_AS_OPTION: Final = re.compile(r"[,;:& ](patch|points|cc|known|races)=")
_CHOICES: Final = {POINTS: (ALL, MARKED), COMPILER: ("gcc", "clang")}

_VMALLOC: Final = "mm/vmalloc.c"
PAGE_SHIFT: Final = 12
LARGEST_EXPONENT: Final = 13
"""lazy_max_pages() is 32 MiB (2^25 bytes) of pages for each bit of the number of CPUs online: 2^13 with 4 KiB pages."""


def is_tree(name: str) -> bool:
    """Whether a version's name means a kernel tree."""
    return name.startswith(PREFIX)


def with_options(name: str, options: Iterable[tuple[str, str]]) -> str:
    """`name` with more options behind it, as the command line gives them apart."""
    given = "&".join(f"{key}={quote(value, safe='/:@~.,+-_ ')}" for key, value in options)
    if not given:
        return name
    return f"{name}{'&' if '?' in name else '?'}{given}"


def absolute_tree(name: str, folder: Path) -> str:
    """`name` with its paths made absolute; relative ones are meant from `folder`."""
    path, options = _split(name)
    whole = [(key, str(_from(folder, value)) if key in _PATHS else value) for key, value in options]
    return with_options(f"{PREFIX}{_from(folder, path)}", whole)


def _from(folder: Path, path: str) -> Path:
    return folder.absolute() / Path(path).expanduser()


def _split(name: str) -> tuple[str, list[tuple[str, str]]]:
    """Path and options. Raises ConfigError for an option that there is not."""
    path, _, query = name.removeprefix(PREFIX).partition("?")
    if not path:
        raise ConfigError(f"version {name!r}: names no tree: tree:PATH, tree:PATH@REV or tree:linux-source-X.tar.xz")
    if _MEANT_AS_OPTION.search(path) and not Path(path).expanduser().exists():
        raise ConfigError(
            f"version {name!r}: there is no such tree; options stand behind a question mark: "
            "tree:PATH?cc=clang&points=marked"
        )
    options = []
    for part in filter(None, query.split("&")):
        key, _, value = part.partition("=")
        value = unquote(value)
        if key not in (PATCH, POINTS, COMPILER, KNOWN, RACES) or not value:
            raise ConfigError(f"version {name!r}: {part!r} is no option; there are {_EXAMPLES}")
        if key in _CHOICES and value not in _CHOICES[key]:
            raise ConfigError(f"version {name!r}: {key} is one of {', '.join(_CHOICES[key])}, not {value!r}")
        options.append((key, value))
    return path, options


class TreeVersion:
    """A kernel tree with its patches. Nothing is built before a scenario asks for it: `built_for`.

    Raises ConfigError for what is no tree, an option that there is not, a file of known breakage that cannot be read.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        """As `--version` takes it."""
        path, options = _split(text)
        named = dict(options)
        self.points_all = named.get(POINTS, ALL) == ALL
        """Whether every plain access is a scheduling point, or only marked ones, locks and atomics."""
        self.spec = TreeSpec.parse(
            path,
            [Path(value) for key, value in options if key == PATCH],
            BuildOptions(cc=named.get(COMPILER, "")),
        )
        self.races = Path(named[RACES]) if RACES in named else None
        """The file of data races that somebody has argued for, if one is named."""
        self.known = read_known(Path(named[KNOWN])) if KNOWN in named else ()
        self._plan: Plan | None = None
        self._built: dict[BuildOptions, BuiltTree] = {}

    @property
    def NAME(self) -> str:
        """`tree-6.1.192`, with its patches' names: becomes part of file names."""
        return self._planned.name

    @property
    def digest(self) -> str:
        """First 16 digits of a digest of the tree's files under test, the patches, shim, compiler and how points are
        set; not of the sizes, which are the scenario's.
        """
        inputs = {key: value for key, value in self._planned.inputs.items() if key not in ("options", "recipe")}
        inputs["points_all"] = self.points_all
        return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def title(self) -> str:
        """What it is, in a line."""
        patches = "".join(f", {path}" for path in self.spec.patches)
        return f"mm/vmalloc.c of Linux {self._planned.sources.release}: {self._planned.sources.origin}{patches}"

    @property
    def source(self) -> str:
        """mm/vmalloc.c as it is compiled, patches applied."""
        return self._planned.patched.files[_VMALLOC].decode("utf-8", "replace")

    @property
    def _planned(self) -> Plan:
        """Of a build with the sizes that are usual: what is the same for all."""
        if self._plan is None:
            self._plan = plan(self.spec)
        return self._plan

    def built_for(self, scenario: Scenario, say: Callable[[str], None] = nothing) -> tuple[BuiltTree, int, int]:
        """The library for a scenario's geometry, its PAGE_SHIFT, and by how much vmap_lazy_nr is to be raised at boot
        so that the drain begins where the scenario says; `say` is told of what takes long. Raises ConfigError if it
        does not build.
        """
        shift, bias = page_shift_of(scenario)
        options = replace(
            self.spec.options,
            block_bits=scenario.block_bits,
            max_alloc=scenario.max_alloc,
            page_shift=shift,
            cpus=scenario.possible_cpus()[-1] + 1,
        )
        if options not in self._built:
            self._built[options] = build(replace(self.spec, options=options), say)
        return self._built[options], shift, bias


def page_shift_of(scenario: Scenario) -> tuple[int, int]:
    """The C constant behind lazy_max_pages() is fixed. Pages of the right size give the scenario's `lazy_max`; where it
    does not come out even, the next larger, and vmap_lazy_nr starts above 0. Returns PAGE_SHIFT and by how many pages.
    Raises ConfigError for more than the kernel's own.
    """
    if not scenario.lazy_max:
        return PAGE_SHIFT, 0
    bits = len(scenario.online_cpus()).bit_length()
    exponent = max((-(-scenario.lazy_max // bits) - 1).bit_length(), PAGE_SHIFT + LARGEST_EXPONENT - PAGE_SHIFT_MAX)
    if exponent > LARGEST_EXPONENT:
        raise ConfigError(f"lazy_max: {scenario.lazy_max} is above the kernel's own {bits << LARGEST_EXPONENT} pages")
    return PAGE_SHIFT + LARGEST_EXPONENT - exponent, (bits << exponent) - scenario.lazy_max


# -- what a tree is known to break -------------------------------------------------------------------------


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    mechanism: Annotated[str, Field(pattern=r"^[\w-]+ \| ")]
    frequency: Annotated[str, Field(pattern=f"^({ALWAYS}|{RARE})$")] = RARE
    reference: Annotated[str, Field(min_length=1)]
    title: Annotated[str, Field(min_length=1)]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    known: list[_Entry]


def read_known(path: Path) -> tuple[Known, ...]:
    """The entries of a TOML file: `[[known]]` with mechanism (the finding's own text), reference, title, and whether it
    is there `always` or `rare`. Raises ConfigError that names the file and what is wrong.
    """
    entries = read_entries(path, _File).known
    return tuple(Known(one.mechanism, one.frequency, one.reference, one.title) for one in entries)


Entries = TypeVar("Entries", bound=BaseModel)


def read_entries(path: Path, model: type[Entries]) -> Entries:
    """A TOML file as `model` has it. Raises ConfigError that names the file and what is wrong."""
    try:
        return model.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is no TOML file: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: {where}: {first['msg']}") from None
