# SPDX-License-Identifier: GPL-2.0-only
"""The result object of one command, of one run or several: what `--json` prints and result.json holds."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from stressvmap.errors import ConfigError
from stressvmap.result import CLEAN, INCONCLUSIVE, SCHEMA, VIOLATED, Finding, RunResult
from stressvmap.version import __version__

RESULT_FILE: Final = "result.json"
CONFIG_FILE: Final = "config.toml"
"""The run as resolved, ready to be run again."""
_SEVERITY: Final = (3, 130, 1, 4)
"""Exit statuses, the one that decides first."""


@dataclass(slots=True)
class Summary:
    """What a command came to."""

    command: str
    runs: list[RunResult] = field(default_factory=list)
    expect_unmet: list[str] = field(default_factory=list)
    """What no single run, but a version over all its runs owes (`expect = "known"`)."""
    is_stopped: bool = False
    """Ended by Ctrl-C or SIGTERM, in a run or between two."""
    is_single: bool = True
    """One run was asked for: the object is that run's own."""

    @property
    def verdict(self) -> str:
        """violated, inconclusive or clean."""
        verdicts = {run.verdict for run in self.runs}
        if VIOLATED in verdicts:
            return VIOLATED
        return INCONCLUSIVE if INCONCLUSIVE in verdicts or not self.runs else CLEAN

    @property
    def exit_status(self) -> int:
        """The process's status: harness failure, stopped, violated or expectation unmet, inconclusive, else 0."""
        statuses = {run.exit_status for run in self.runs}
        if self.is_stopped:
            statuses.add(130)
        if self.expect_unmet:
            statuses.add(1)
        if not self.runs:
            statuses.add(4)
        return next((status for status in _SEVERITY if status in statuses), 0)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the run's own object, or one with `runs`."""
        if self.is_single and len(self.runs) == 1:
            return self.runs[0].as_dict() | {"exit_status": self.exit_status}
        return {
            "schema": SCHEMA,
            "command": self.command,
            "verdict": self.verdict,
            "exit_status": self.exit_status,
            "inconclusive": [reason for run in self.runs for reason in run.inconclusive],
            "package": __version__,
            "expect_unmet": self.expect_unmet,
            "stopped": self.is_stopped,
            "runs": [run.as_dict() for run in self.runs],
        }


def to_json(data: Mapping[str, Any]) -> str:
    """One JSON object, readable, without characters that JSON readers disagree on."""
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that nobody ever reads half of it."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with scratch.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error


def read_object(folder: Path) -> dict[str, Any]:
    """The result object in a run's folder (or of the file itself). Raises ConfigError if it is none."""
    path = folder / RESULT_FILE if folder.is_dir() else folder
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: is no result: {error}") from None
    if not isinstance(data, dict) or "schema" not in data or "command" not in data:
        raise ConfigError(f"{path}: is no result of stressvmap: it has no schema and command")
    if data["schema"] != SCHEMA:
        raise ConfigError(f"{path}: has schema {data['schema']!r}; this stressvmap reads {SCHEMA}")
    return data


def summary_from(data: Mapping[str, Any]) -> Summary:
    """The summary a result object tells of. Raises ConfigError if it does not fit."""
    try:
        runs = data.get("runs")
        if runs is None:
            return Summary(str(data["command"]), [_run_from(data)], is_stopped=bool(data.get("stopped")))
        return Summary(
            str(data["command"]),
            [_run_from(run) for run in runs],
            list(data.get("expect_unmet", [])),
            bool(data.get("stopped")),
            is_single=False,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"is no result of stressvmap: {type(error).__name__}: {error}") from None


def _run_from(data: Mapping[str, Any]) -> RunResult:
    known = set(Finding.__dataclass_fields__)
    findings = [
        Finding(**{key: value for key, value in entry.items() if key in known}) for entry in data.get("violations", [])
    ]
    fields = set(RunResult.__dataclass_fields__) - {"findings", "is_stopped", "flushes"}
    return RunResult(
        **{key: value for key, value in data.items() if key in fields},
        findings=findings,
        is_stopped=bool(data.get("stopped")),
        flushes=int(data.get("metrics", {}).get("flush_calls", 0)),
    )
