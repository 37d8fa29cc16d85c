# SPDX-License-Identifier: GPL-2.0-only
"""Small programs said in one line, for exploring: `map 0 4; unmap 0 | map 1 4; unmap 1 | aliases`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from stressvmap.errors import ConfigError
from stressvmap.program import (
    ALIASES,
    KINDS,
    MAP,
    MIGRATE,
    PAUSE,
    VMALLOC,
    VMALLOC_RESET,
    WHOLE,
    Program,
    ProgramOp,
    TaskProgram,
)
from stressvmap.stress.schedule_file import KIND, SavedSchedule, parse, program_of

NEEDS_PAGES: Final = frozenset({MAP, VMALLOC, VMALLOC_RESET})
ONE_NUMBER: Final = frozenset({PAUSE, MIGRATE, "offline", "online"})
"""Operations whose one number is not a slot."""
TASKS_MAX: Final = 64
_CPU: Final = re.compile(r"\s*cpu(\d{1,3})\s*:", re.ASCII)


def program_from_text(text: str) -> Program:
    """Tasks are separated by `|`, their operations by `;`: a name, its slot, its pages. Task n runs on CPU n, from 0,
    unless it begins with `cpuN:`. Raises ConfigError that says which operation is wrong.
    """
    tasks = []
    for number, part in enumerate(text.split("|")):
        match = _CPU.match(part)
        cpu = int(match[1]) if match else number
        body = part[match.end() :] if match else part
        ops = tuple(_op(op) for op in body.split(";") if op.strip())
        role = "flusher" if ops and all(op.kind == ALIASES for op in ops) else "worker"
        tasks.append(TaskProgram(cpu, ops, role))
    if len(tasks) > TASKS_MAX:
        raise ConfigError(f"--ops: {len(tasks)} tasks are more than {TASKS_MAX}")
    return Program(tuple(tasks))


def program_from_file(path: Path) -> tuple[Program, SavedSchedule | None]:
    """The program in a schedule file, with the rest of that, or in a JSON file that holds nothing else. Raises
    ConfigError.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"--program {path}: cannot be read: {error.strerror}") from None
    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--program {path}: is neither a schedule file nor a program: {error}") from None
    if isinstance(data, dict) and data.get("kind") == KIND:
        saved = parse(text, f"--program {path}")
        return saved.program, saved
    if not isinstance(data, dict):
        raise ConfigError(f"--program {path}: is neither a schedule file nor a program")
    return program_of(data, f"--program {path}"), None


def without_pauses(program: Program) -> Program:
    """The same without operations that only let time go by: exploring needs no time."""
    tasks = (TaskProgram(t.cpu, tuple(op for op in t.ops if op.kind != PAUSE), t.role) for t in program.tasks)
    return Program(tuple(tasks), program.faults, program.migrations)


def _op(text: str) -> ProgramOp:
    words = text.split()
    kind = words[0]
    if kind not in KINDS:
        raise ConfigError(f"--ops: {kind!r} is none of {', '.join(sorted(KINDS))}")
    if not all(word.isascii() and word.isdigit() and len(word) < 7 for word in words[1:]):
        raise ConfigError(f"--ops: {text.strip()!r}: after the name come numbers")
    numbers = [int(word) for word in words[1:]]
    wanted = 2 if kind in NEEDS_PAGES else 0 if kind in WHOLE else 1
    if len(numbers) != wanted:
        what = {2: "a slot and its pages", 1: "one number", 0: "nothing"}[wanted]
        raise ConfigError(f"--ops: {text.strip()!r}: {kind} takes {what}")
    if kind in ONE_NUMBER:
        return ProgramOp(kind, 0, numbers[0])
    if wanted == 2 and numbers[1] == 0:
        raise ConfigError(f"--ops: {text.strip()!r}: 0 pages cannot be mapped")
    return ProgramOp(kind, *numbers)
