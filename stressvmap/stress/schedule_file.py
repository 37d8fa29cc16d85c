# SPDX-License-Identifier: GPL-2.0-only
"""Schedule files: one execution as data, with everything that running it again needs.

The program and its faults are written out, for one that was shrunk cannot be drawn again. Nothing of a machine or a
process is in it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from stressvmap.errors import ConfigError
from stressvmap.program import MAP, VMALLOC, VMALLOC_RESET, Fault, Migration, Program, ProgramOp, TaskProgram
from stressvmap.runtime.strategy import Schedule
from stressvmap.scenario import TASKS_MAX, Scenario
from stressvmap.version import __version__

SCHEMA: Final = 1
KIND: Final = "stressvmap-schedule"
BYTES_MAX: Final = 1 << 28
"""A larger file is none of ours."""
DRAWS_MAX: Final = 10_000_000
PAGES_MAX: Final = 1 << 16
"""Of one mapping: a frame is made for each page before the window is asked."""


@dataclass(slots=True, kw_only=True)
class SavedSchedule:
    """One execution: what ran, under which choices, and what it showed."""

    version: str
    """As `--version` takes it; a patch file by its absolute path."""
    version_digest: str
    """Of the version's sources then."""
    scenario: Scenario
    program: Program
    schedule: Schedule
    journal_digest: str = ""
    """Of the journal it gave (Journal.digest); empty: not known."""
    reason: str = ""
    """Why it ended."""
    check: str = ""
    """The violation it is kept for: check, fingerprint, mechanism, story. Empty: none."""
    fingerprint: str = ""
    mechanism: str = ""
    message: str = ""
    seed: int = 0
    """Where it was found first: seed, execution, strategy, for the reader and the journal's header."""
    execution: int = 0
    strategy: str = ""
    package: str = field(default=__version__)

    def to_json(self) -> str:
        """As text; `parse` reads it back."""
        told: dict[str, Any] = {
            "kind": KIND,
            "schema": SCHEMA,
            "package": self.package,
            "version": self.version,
            "version_digest": self.version_digest,
            "check": self.check,
            "fingerprint": self.fingerprint,
            "mechanism": self.mechanism,
            "message": self.message,
            "reason": self.reason,
            "journal_digest": self.journal_digest,
            "seed": self.seed,
            "execution": self.execution,
            "strategy": self.strategy,
            "scenario": asdict(self.scenario),
            "program": self.program.as_dict(),
            "choices": encode_runs(self.schedule.choices),
            "draws": encode_runs(_run_lengths(self.schedule.draws)),
        }
        return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


def write_schedule(saved: SavedSchedule, path: Path) -> None:
    """Write it so that the file is there whole or not at all. Raises ConfigError if that cannot be done."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(saved.to_json())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        _drop(partial)
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error
    except BaseException:
        _drop(partial)
        raise


def _drop(partial: Path) -> None:
    with suppress(OSError):
        partial.unlink(missing_ok=True)


def read_schedule(path: Path) -> SavedSchedule:
    """The schedule in a file. Raises ConfigError that names the file, and what is wrong with it."""
    try:
        if path.stat().st_size > BYTES_MAX:
            raise ConfigError(f"{path}: is no schedule file: larger than any")
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    return parse(text, str(path))


def parse(text: bytes, name: str) -> SavedSchedule:
    """The schedule in `text`; `name` is what errors call it."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{name}: is no schedule file, or not a whole one: {error}") from None
    if not isinstance(data, dict) or data.get("kind") != KIND:
        raise ConfigError(f'{name}: is no schedule file (no "kind": "{KIND}")')
    if data.get("schema") != SCHEMA:
        raise ConfigError(f"{name}: schema {data.get('schema')!r} is not {SCHEMA}, the one this release reads")
    try:
        read = _File.model_validate_json(text)
        read.scenario.validate()
    except ValidationError as error:
        raise ConfigError(_first(error, name, ": ")) from None
    except ConfigError as error:
        raise ConfigError(f"{name}: scenario.{error}") from None
    return SavedSchedule(
        version=read.version,
        version_digest=read.version_digest,
        scenario=read.scenario,
        program=_program(read.program),
        schedule=Schedule(
            decode_runs(read.choices, f"{name}: choices"),
            _expand(decode_runs(read.draws, f"{name}: draws"), f"{name}: draws"),
        ),
        journal_digest=read.journal_digest,
        reason=read.reason,
        check=read.check,
        fingerprint=read.fingerprint,
        mechanism=read.mechanism,
        message=read.message,
        seed=read.seed,
        execution=read.execution,
        strategy=read.strategy,
        package=read.package,
    )


def program_of(data: object, name: str) -> Program:
    """A program from JSON. Raises ConfigError that begins with `name`."""
    try:
        read = _Program.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_first(error, name, ".")) from None
    return _program(read)


def _program(read: _Program) -> Program:
    return Program(
        tuple(TaskProgram(task.cpu, tuple(ProgramOp(*op) for op in task.ops), task.role) for task in read.tasks),
        tuple(Fault(*fault) for fault in read.faults),
        tuple(Migration(*migration) for migration in read.migrations),
    )


def _first(error: ValidationError, name: str, separator: str) -> str:
    """The first thing that does not fit: where, and what it should be."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{name}{separator}{where}: {first['msg']}" if where else f"{name}: {first['msg']}"


def encode_runs(runs: Iterable[tuple[int, int]]) -> str:
    """(value, count) pairs as text: `1x40 3 1000x2`."""
    return " ".join(str(value) if count == 1 else f"{value}x{count}" for value, count in runs)


def decode_runs(text: str, name: str) -> list[tuple[int, int]]:
    """The inverse of `encode_runs`. Raises ConfigError that begins with `name`."""
    runs = []
    for number, part in enumerate(text.split()):
        match = _RUN.fullmatch(part)
        if match is None or match[2] == "0":
            raise ConfigError(f"{name}: entry {number} is {part[:40]!r}, which is neither N nor NxCOUNT")
        runs.append((int(match[1]), int(match[2] or 1)))
    return runs


_RUN: Final = re.compile(r"(\d{1,9})(?:x(\d{1,9}))?", re.ASCII)


def _expand(runs: Sequence[tuple[int, int]], name: str) -> list[int]:
    total = sum(count for _, count in runs)
    if total > DRAWS_MAX:
        raise ConfigError(f"{name}: {total:,} numbers are more than an execution can draw ({DRAWS_MAX:,})")
    return [value for value, count in runs for _ in range(count)]


def _run_lengths(values: Iterable[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for value in values:
        if runs and runs[-1][0] == value:
            runs[-1] = (value, runs[-1][1] + 1)
        else:
            runs.append((value, 1))
    return runs


_Number = Annotated[int, Field(strict=True, ge=0, le=1 << 40)]
_Kind = Literal[
    "pause", "map", "unmap", "vmalloc", "vmalloc-reset", "vfree", "vfree-atomic", "aliases", "touch", "probe", "shrink",
    "walk", "migrate", "offline", "online",
]  # fmt: skip
_FaultKind = Literal["kmalloc", "kmem_cache_alloc", "xa_insert", "pte_alloc"]


def _require_a_size(op: tuple[_Kind, int, int]) -> tuple[_Kind, int, int]:
    kind, _, pages = op
    if kind in (MAP, VMALLOC, VMALLOC_RESET) and pages > PAGES_MAX:
        raise ValueError(f"{pages:,} pages are more than any window has ({PAGES_MAX:,})")
    return op


_Op = Annotated[tuple[_Kind, _Number, _Number], AfterValidator(_require_a_size)]


class _Task(BaseModel):
    model_config = ConfigDict(extra="forbid")

    cpu: _Number
    role: str
    ops: list[_Op]


class _Program(BaseModel):
    """A program's keys and their types; whether a slot or a CPU is there is for the execution to find out."""

    model_config = ConfigDict(extra="forbid")

    tasks: Annotated[list[_Task], Field(max_length=TASKS_MAX)]
    faults: list[tuple[_FaultKind, _Number, _Number]]
    migrations: list[tuple[_Number, _Number, _Number]]


class _File(BaseModel):
    """The file's keys and their types."""

    model_config = ConfigDict(extra="forbid", strict=True)

    kind: Literal["stressvmap-schedule"]
    schema_: int = Field(alias="schema")
    package: str
    version: Annotated[str, Field(pattern=r"^[^\x00-\x1f]+$")]
    version_digest: str
    scenario: Scenario
    program: _Program
    choices: str
    draws: str
    journal_digest: str = ""
    reason: str = ""
    check: str = ""
    fingerprint: str = ""
    mechanism: str = ""
    message: str = ""
    seed: Annotated[int, Field(ge=0)] = 0
    execution: Annotated[int, Field(ge=0)] = 0
    strategy: str = ""
