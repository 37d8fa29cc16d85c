# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from stressvmap.cli import main
from stressvmap.config import RunSpec
from stressvmap.result import Finding, RunResult
from stressvmap.stress import harness


@dataclass(frozen=True, slots=True)
class Ran:
    status: int
    out: str
    err: str

    @property
    def object(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(self.out)
        return data


Command = Callable[..., Ran]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Ran:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ran(status, captured.out, captured.err)

    return run


def finding(check: str, *, known: bool = False, fingerprint: str = "0123456789ab") -> Finding:
    return Finding(
        check=check,
        fingerprint=fingerprint,
        mechanism=f"{check} | vm_unmap_aliases",
        message="the story\n  #1 begins",
        known=known,
        reference="fc1e0d980037" if known else "",
        journal=f"journals/{fingerprint}.svj",
        pages=[0x100000, 0x100004],
    )


def result_of(spec: RunSpec, *findings: Finding) -> RunResult:
    return RunResult(
        command="stress",
        version=spec.version,
        version_digest="d",
        runtime=spec.runtime,
        strategy="",
        seed=spec.seed,
        scenario=asdict(spec.scenario),
        seconds=1.0,
        schedules=10,
        operations=100,
        flushes=7,
        findings=list(findings),
        metrics={"flush_calls": 7, "flushed_pages": 20, "owed_pages": 12, "excess_pages": 8, "obligations_checked": 5},
        windows={"vb-lock": [10, 2]},
        expect=list(spec.expect) if isinstance(spec.expect, tuple) else spec.expect,
    )


Outcome = Callable[[RunSpec], RunResult]
Stub = Callable[[Outcome], list[RunSpec]]


@pytest.fixture
def stub_harness(monkeypatch: pytest.MonkeyPatch) -> Stub:
    """Let runs end at once, with what the given function says; the specs that were run."""

    def install(outcome: Outcome) -> list[RunSpec]:
        specs: list[RunSpec] = []

        def run(spec: RunSpec, *, progress: Callable[[harness.Progress], None], **rest: Any) -> RunResult:
            specs.append(spec)
            progress(harness.Progress(seconds=1.0, operations=5))
            return outcome(spec)

        monkeypatch.setattr(harness, "run", run)
        return specs

    return install
