# SPDX-License-Identifier: GPL-2.0-only
"""What a run found, as plain data: the result object of `--json` and result.json. Extended freely, never changed in
meaning.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Final

SCHEMA: Final = 1

CLEAN: Final = "clean"
VIOLATED: Final = "violated"
INCONCLUSIVE: Final = "inconclusive"


def fingerprint_of(mechanism: str) -> str:
    """The fingerprint of a mechanism's canonical text: the first 12 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(mechanism.encode()).hexdigest()[:12]


@dataclass(slots=True)
class Finding:
    """One distinct violation (check and fingerprint) of a run, with how often it was seen and its first story."""

    check: str
    fingerprint: str
    mechanism: str
    """The canonical text the fingerprint digests."""
    message: str
    """The story of the first one."""
    count: int = 1
    """Executions in which it was seen."""
    known: bool = False
    reference: str = ""
    """If known: the upstream commit or the project's own finding."""
    first_at_schedule: int = 0
    """Number of the execution that showed it first."""
    journal: str = ""
    """Its journal, relative to the run's folder."""
    schedule: str = ""
    """Its schedule file, likewise; empty where the operating system chose the switches."""
    program: dict[str, Any] = field(default_factory=dict)
    """The program of that execution."""
    at: int = 0
    """Number of the event in that journal at which the violation was certain."""
    pages: list[int] = field(default_factory=list)
    """[start, end) of the pages concerned, or empty."""
    title: str = ""
    """If known: what the version says of it."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "check": self.check,
            "fingerprint": self.fingerprint,
            "mechanism": self.mechanism,
            "message": self.message,
            "count": self.count,
            "known": self.known,
            "reference": self.reference,
            "title": self.title,
            "first_at_schedule": self.first_at_schedule,
            "journal": self.journal,
            "schedule": self.schedule,
            "program": self.program,
            "at": self.at,
            "pages": self.pages,
        }


@dataclass(slots=True)
class RunResult:
    """The result of one run: one version, one workload, one runtime."""

    command: str
    version: str
    version_digest: str
    """Digest of its sources."""
    runtime: str
    strategy: str
    seed: int
    scenario: dict[str, Any]
    seconds: float = 0.0
    schedules: int = 0
    """Executions run to their end."""
    allowed_races: dict[str, int] = field(default_factory=dict)
    """Data races that the user's own file argues for, by entry: in how many judged executions each was seen."""
    judged: int = 0
    """Those whose journals the checks looked at: all of them, but where a tree's own oracle screens."""
    flagged: int = 0
    """Those that such an oracle flagged."""
    operations: int = 0
    points: int = 0
    flushes: int = 0
    """Flushes of any kind seen: a run without operation or flush is never clean."""
    findings: list[Finding] = field(default_factory=list)
    not_run: dict[str, str] = field(default_factory=dict)
    inconclusive: list[str] = field(default_factory=list)
    """Why the verdict says less than it seems; empty for a run that earned its verdict."""
    metrics: dict[str, float] = field(default_factory=dict)
    windows: dict[str, list[int]] = field(default_factory=dict)
    """By window: [times it was open, times a foreign step fell into it]."""
    coverage: dict[str, Any] = field(default_factory=dict)
    repeated: int = 0
    """Executions whose schedule was run a second time, as a determinism check."""
    is_stopped: bool = False
    """Ended by Ctrl-C or SIGTERM."""
    expect: str | list[str] | None = None
    expect_unmet: list[str] = field(default_factory=list)
    """With `expect`: what fired and should not have, or should have and did not."""
    version_spec: str = ""
    """What `--version` was given: a name, or the path and class of a patch file."""
    declared: list[dict[str, str]] = field(default_factory=list)
    """What the version is known to break: check, fingerprint, frequency, title of each."""
    harness_error: str = ""
    """The harness itself failed: what, and where the evidence lies."""

    @property
    def verdict(self) -> str:
        """violated, inconclusive or clean."""
        if self.findings:
            return VIOLATED
        return INCONCLUSIVE if self.inconclusive or self.harness_error else CLEAN

    @property
    def exit_status(self) -> int:
        """The process's status for this run alone (docs/usage.md)."""
        if self.harness_error:
            return 3
        if self.is_stopped:
            return 130
        if self.expect is not None:
            return 1 if self.expect_unmet else 4 if self.inconclusive else 0
        if self.findings:
            return 1
        return 4 if self.inconclusive else 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON: one object, as documented in docs/usage.md."""
        from stressvmap.version import __version__

        return {
            "schema": SCHEMA,
            "command": self.command,
            "verdict": self.verdict,
            "exit_status": self.exit_status,
            "inconclusive": self.inconclusive,
            "version": self.version,
            "version_digest": self.version_digest,
            "version_spec": self.version_spec,
            "declared": self.declared,
            "runtime": self.runtime,
            "strategy": self.strategy,
            "seed": self.seed,
            "scenario": self.scenario,
            "seconds": round(self.seconds, 3),
            "schedules": self.schedules,
            "judged": self.judged,
            "allowed_races": self.allowed_races,
            "flagged": self.flagged,
            "operations": self.operations,
            "points": self.points,
            "compiled": False,
            "package": __version__,
            "not_run": self.not_run,
            "violations": [finding.as_dict() for finding in self.findings],
            "metrics": self.metrics,
            "windows": self.windows,
            "coverage": self.coverage,
            "repeated": self.repeated,
            "expect": self.expect,
            "expect_unmet": self.expect_unmet,
            "stopped": self.is_stopped,
            "harness_error": self.harness_error,
        }
