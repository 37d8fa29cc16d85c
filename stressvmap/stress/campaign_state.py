# SPDX-License-Identifier: GPL-2.0-only
"""The state file of an exploration: how far it came, as JSON, so that it can go on another day.

Written whole or not at all. It fits one program of one version's very sources; what is left to do is decisions alone,
from which everything else is found again by running them.
"""

from __future__ import annotations

import json
import os
from base64 import b64decode, b64encode
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from stressvmap.errors import ConfigError
from stressvmap.result import Finding
from stressvmap.sched.search import Decision
from stressvmap.stress.explore import COUNTS, Coverage, ExploreSpec, Share, spec_dict
from stressvmap.stress.schedule_file import parse
from stressvmap.version import __version__

KIND: Final = "stressvmap-explore-state"
SCHEMA: Final = 2
BYTES_MAX: Final = 1 << 30


@dataclass(slots=True)
class Junction:
    """A decision that several shares lead through: what could run, what slept, what was handed out, in order."""

    enabled: tuple[int, ...]
    asleep: frozenset[int]
    asked: list[int]


@dataclass(slots=True)
class CampaignState:
    """Everything an exploration knows between two shares."""

    pending: list[Share] = field(default_factory=list)
    """Shares still to be explored, in their order."""
    bound: int = 0
    """Bounded: the bound at hand."""
    is_started: bool = False
    """The shares of this bound were made."""
    is_complete: bool = False
    contended: set[tuple[int, str]] = field(default_factory=set)
    junctions: dict[tuple[int, ...], Junction] = field(default_factory=dict)
    """By the tasks that lead there."""
    coverage: Coverage = field(default_factory=Coverage)
    seen: bytes = b""
    """Of a tree: states of the first pending share that need not be gone on with, 8 bytes each; when it was written."""
    seconds: float = 0.0
    """Of all sittings."""


def identity(spec: ExploreSpec, version_digest: str) -> dict[str, Any]:
    """What a state must have been written for, to be gone on with."""
    return {"package": __version__, "version_digest": version_digest, **spec_dict(spec)}


def write_state(state: CampaignState, spec: ExploreSpec, version_digest: str, path: Path) -> None:
    """Replace the file, so that it is there whole at any time. Raises ConfigError if it cannot be written."""
    coverage = state.coverage
    told = {
        "kind": KIND,
        "schema": SCHEMA,
        "for": identity(spec, version_digest),
        "pending": [_share_dict(share) for share in state.pending],
        "bound": state.bound,
        "is_started": state.is_started,
        "is_complete": state.is_complete,
        "contended": sorted(list(lock) for lock in state.contended),
        "junctions": [
            [list(path), list(junction.enabled), sorted(junction.asleep), junction.asked]
            for path, junction in state.junctions.items()
        ],
        "coverage": {
            **{name: getattr(coverage, name) for name in COUNTS},
            "by_bound": sorted(coverage.by_bound.items()),
            "classes": sorted(coverage.classes),
            "findings": [asdict(finding) for finding in coverage.findings.values()],
            "schedules": {key: json.loads(saved.to_json()) for key, saved in coverage.schedules.items()},
            "allowed": coverage.allowed,
            "not_run": coverage.not_run,
        },
        "seen": b64encode(state.seen).decode(),
        "seconds": round(state.seconds, 3),
    }
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("w", encoding="utf-8") as file:
            json.dump(told, file, separators=(",", ":"))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise ConfigError(f"--state {path}: cannot be written: {error.strerror or error}") from None
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def read_state(path: Path, spec: ExploreSpec, version_digest: str) -> CampaignState | None:
    """The state in a file; None if there is no file. Raises ConfigError for one that is no state, or another's."""
    try:
        if path.stat().st_size > BYTES_MAX:
            raise ConfigError(f"--state {path}: is no state of ours: larger than any")
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"--state {path}: cannot be read: {error.strerror}") from None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--state {path}: is no state of an exploration: {error}") from None
    if not isinstance(data, dict) or data.get("kind") != KIND or data.get("schema") != SCHEMA:
        raise ConfigError(f"--state {path}: is no state of an exploration that this release reads")
    _require_same(data.get("for"), identity(spec, version_digest), path)
    try:
        return _state_of(data, path)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"--state {path}: is damaged: {type(error).__name__}: {error}") from None


def _require_same(theirs: object, ours: dict[str, Any], path: Path) -> None:
    ours = json.loads(json.dumps(ours))
    if theirs == ours:
        return
    then = theirs if isinstance(theirs, dict) else {}
    what = next((text for key, text in _DIFFERS.items() if then.get(key) != ours[key]), "another command")
    told = what.format(then={key: str(value) for key, value in then.items()}, now=ours)
    raise ConfigError(f"--state {path}: was written for {told}; give the same command again, or another file")


_DIFFERS: Final = {
    "package": "release {then[package]} of stressvmap, and this is {now[package]}",
    "version": "version {then[version]}, not {now[version]}",
    "version_digest": "version {now[version]} as its sources were then: they have changed, so all must be run again",
    "program": "another program",
    "scenario": "another machine (CPUs, block size, steps_max, ...)",
    "preemptions": "other --preemptions ({then[preemptions]})",
    "checks": "other --check",
}
"""What a state may have been written for that this is not; the first that differs is told."""


def _share_dict(share: Share) -> dict[str, Any]:
    stack = [[d.chosen, d.draws, d.done, d.backtrack] for d in share.stack]
    told = {"stack": stack, "base": share.base, "bound": share.bound}
    return {**told, "decisions": share.decisions, "learned": share.learned}


def _share_of(data: dict[str, Any]) -> Share:
    stack = [
        Decision(int(chosen), [[int(n), int(value)] for n, value in draws], _ints(done), _ints(backtrack))
        for chosen, draws, done, backtrack in data["stack"]
    ]
    return Share(stack, int(data["base"]), int(data["bound"]), _ints(data["decisions"]), _ints(data["learned"]))


def _ints(values: list[Any]) -> list[int]:
    return [int(value) for value in values]


def _state_of(data: dict[str, Any], path: Path) -> CampaignState:
    told = data["coverage"]
    coverage = Coverage()
    for name in COUNTS:
        setattr(coverage, name, int(told[name]))
    coverage.by_bound = {int(bound): int(count) for bound, count in told["by_bound"]}
    coverage.classes = set(_ints(told["classes"]))
    coverage.findings = {item["fingerprint"]: Finding(**item) for item in told["findings"]}
    coverage.schedules = {
        key: parse(json.dumps(saved).encode(), f"--state {path}: schedule {key}")
        for key, saved in told["schedules"].items()
    }
    coverage.allowed = {str(text): int(count) for text, count in told["allowed"].items()}
    coverage.not_run = {str(name): str(why) for name, why in told["not_run"].items()}
    return CampaignState(
        pending=[_share_of(share) for share in data["pending"]],
        bound=int(data["bound"]),
        is_started=bool(data["is_started"]),
        is_complete=bool(data["is_complete"]),
        contended={(int(number), str(name)) for number, name in data["contended"]},
        junctions={
            tuple(_ints(way)): Junction(tuple(_ints(enabled)), frozenset(_ints(asleep)), _ints(asked))
            for way, enabled, asleep, asked in data["junctions"]
        },
        coverage=coverage,
        seen=b64decode(data["seen"]),
        seconds=float(data["seconds"]),
    )
