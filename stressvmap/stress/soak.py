# SPDX-License-Identifier: GPL-2.0-only
"""A soak: rounds until the time is used up, each kept as it ends, so that a kill loses at most the running one.

`rounds.jsonl` in the soak's folder is the only state: one line a finished round. Started again on the same folder, a
soak goes on after the last whole line. Round n depends on (seed, n) alone.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, Final

from stressvmap.config import RunSpec, SoakConfig
from stressvmap.errors import ConfigError
from stressvmap.known import ALWAYS
from stressvmap.quantity import counted
from stressvmap.result import Finding, RunResult
from stressvmap.scenario import Scenario
from stressvmap.stress import subject
from stressvmap.stress.canary import CANARIES
from stressvmap.stress.harness import Progress, run

ROUNDS: Final = "rounds.jsonl"
MAX_ALLOC_MAX: Final = 64
"""VMAP_MAX_ALLOC of a 64-bit kernel."""


@dataclass(slots=True)
class SoakFinding:
    """One distinct finding over all rounds."""

    version: str
    check: str
    fingerprint: str
    mechanism: str
    message: str
    known: bool
    reference: str
    first_round: int
    journal: str
    rounds: int = 0
    """Rounds it was seen in."""
    count: int = 0
    """Executions it was seen in."""


@dataclass(slots=True)
class SoakResult:
    """What all rounds of a soak's folder came to."""

    rounds: int = 0
    seconds: float = 0.0
    schedules: int = 0
    operations: int = 0
    canaries: int = 0
    canaries_caught: int = 0
    findings: list[SoakFinding] = field(default_factory=list)
    inconclusive: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Known breakage that is always there and did not fire."""
    harness_errors: list[str] = field(default_factory=list)
    is_stopped: bool = False

    @property
    def is_blind(self) -> bool:
        """A canary was planted and not caught, or none was planted at all."""
        return self.canaries_caught < self.canaries or self.canaries == 0

    @property
    def unknown(self) -> list[SoakFinding]:
        """Findings no version declares."""
        return [finding for finding in self.findings if not finding.known]

    @property
    def exit_status(self) -> int:
        """3 the harness failed, 130 stopped, 1 something undeclared fired or something declared did not, 4 blind or
        inconclusive, 0.
        """
        if self.harness_errors:
            return 3
        if self.is_stopped:
            return 130
        if self.unknown or self.missing:
            return 1
        return 4 if self.is_blind or self.inconclusive else 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "schema": 1,
            "command": "soak",
            "exit_status": self.exit_status,
            "rounds": self.rounds,
            "seconds": round(self.seconds, 3),
            "schedules": self.schedules,
            "operations": self.operations,
            "canaries": self.canaries,
            "canaries_caught": self.canaries_caught,
            "blind": self.is_blind,
            "stopped": self.is_stopped,
            "inconclusive": self.inconclusive,
            "missing": self.missing,
            "harness_errors": self.harness_errors,
            "findings": [
                {name: getattr(finding, name) for name in finding.__dataclass_fields__} for finding in self.findings
            ],
        }


def round_spec(config: SoakConfig, number: int) -> tuple[RunSpec, bool]:
    """What round `number` runs, and whether it is a canary."""
    random = Random(f"soak/{config.seed}/{number}")
    is_canary = config.canary_every > 0 and number % config.canary_every == 0
    bits = random.choice(config.block_bits)
    cpus = random.choice(config.cpus)
    scenario = replace(
        config.scenario,
        workload=random.choice(config.workloads),
        cpus=cpus,
        block_bits=bits,
        max_alloc=min(MAX_ALLOC_MAX, bits // 2),
        tasks_per_cpu=random.choice((1, 1, 2)) if cpus <= 4 else 1,
        possible=(),
        offline=(),
    )
    version = random.choice(config.versions)
    runtime = random.choice(config.runtimes)
    seconds = config.round_seconds
    if is_canary:
        scenario = replace(Scenario(), yield_rate=config.scenario.yield_rate)
        version = CANARIES[number // config.canary_every % len(CANARIES)]
        seconds = min(seconds, 5.0)
    seed = random.getrandbits(32)
    return RunSpec(version=version, scenario=scenario, runtime=runtime, seed=seed, seconds=seconds), is_canary


def soak(
    config: SoakConfig,
    folder: Path,
    *,
    progress: Callable[[int, RunSpec, Progress, SoakResult], None] | None = None,
    stop: Callable[[], int] | None = None,
) -> SoakResult:
    """Run rounds in `folder` until `config.seconds` are used up, all sittings together. Raises ConfigError for bad
    input.
    """
    for version in config.versions:
        subject.load(version)
    lines = _read_rounds(folder)
    total = SoakResult()
    for line in lines:
        _add(total, line)
    number = len(lines)
    if total.seconds >= config.seconds:
        raise ConfigError(
            f"{folder}: this soak has had its {config.seconds:.0f} seconds; give more (SECONDS=...), or another folder"
        )
    with (folder / ROUNDS).open("a", encoding="utf-8") as file:
        while total.seconds < config.seconds and not (stop is not None and stop()):
            spec, is_canary = round_spec(config, number)
            spec = replace(spec, seconds=max(1.0, min(spec.seconds or 1.0, config.seconds - total.seconds)))
            round_folder = folder / f"round-{number:05d}"
            shutil.rmtree(round_folder, ignore_errors=True)  # what a killed round left
            result = run(
                spec,
                folder=round_folder,
                progress=_listener(progress, number, spec, total),
                stop=stop,
                jobs=config.jobs,
                command="soak",
            )
            if result.is_stopped and not result.findings:
                break
            line = _line(number, spec, is_canary, result)
            file.write(json.dumps(line, separators=(",", ":")) + "\n")
            file.flush()
            os.fsync(file.fileno())
            _add(total, line)
            number += 1
            if result.is_stopped:
                break
    total.is_stopped = stop is not None and stop() > 0
    total.missing = _missing(config, _read_rounds(folder))
    return total


def _listener(
    progress: Callable[[int, RunSpec, Progress, SoakResult], None] | None, number: int, spec: RunSpec, total: SoakResult
) -> Callable[[Progress], None] | None:
    if progress is None:
        return None
    return lambda now: progress(number, spec, now, total)


def _read_rounds(folder: Path) -> list[dict[str, Any]]:
    """The finished rounds; what a kill left of a line is cut off."""
    path = folder / ROUNDS
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        with path.open("rb+") as file:
            file.truncate(len(whole))
    lines: list[dict[str, Any]] = []
    for number, text in enumerate(whole.splitlines()):
        try:
            line = json.loads(text)
            if line["round"] != number:
                raise ValueError(f"round {line['round']} stands where round {number} should")
            _add(SoakResult(), line)
        except (ValueError, KeyError, TypeError) as error:
            told = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise ConfigError(
                f"{path}:{number + 1}: not a round of a soak ({told}); move the folder away to start anew"
            ) from error
        lines.append(line)
    return lines


def _line(number: int, spec: RunSpec, is_canary: bool, result: RunResult) -> dict[str, Any]:
    """One round, as kept."""
    return {
        "round": number,
        "canary": is_canary,
        "version": spec.version,
        "workload": spec.scenario.workload,
        "cpus": spec.scenario.cpus,
        "block_bits": spec.scenario.block_bits,
        "runtime": spec.runtime,
        "seed": spec.seed,
        "seconds": result.seconds,
        "schedules": result.schedules,
        "operations": result.operations,
        "inconclusive": result.inconclusive,
        "harness_error": result.harness_error,
        "findings": [_kept(finding, number) for finding in result.findings],
    }


def _kept(finding: Finding, number: int) -> dict[str, Any]:
    kept = finding.as_dict()
    kept["journal"] = f"round-{number:05d}/{finding.journal}" if finding.journal else ""
    return kept


def _add(total: SoakResult, line: dict[str, Any]) -> None:
    """Add one round to the total; a canary's findings are no findings."""
    total.rounds += 1
    total.seconds += line["seconds"]
    total.schedules += line["schedules"]
    total.operations += line["operations"]
    where = f"round {line['round']} ({line['version']}, {line['workload']}, seed {line['seed']})"
    if line["harness_error"]:
        total.harness_errors.append(f"{where}: {line['harness_error']}")
    if line["canary"]:
        total.canaries += 1
        total.canaries_caught += any(not finding["known"] for finding in line["findings"])
        return
    total.inconclusive.extend(f"{where}: {reason}" for reason in line["inconclusive"])
    for kept in line["findings"]:
        _merge(total, line["version"], line["round"], kept)


def _merge(total: SoakResult, version: str, number: int, kept: dict[str, Any]) -> None:
    for finding in total.findings:
        if finding.version == version and finding.fingerprint == kept["fingerprint"]:
            finding.rounds += 1
            finding.count += kept["count"]
            return
    total.findings.append(
        SoakFinding(
            version=version,
            check=kept["check"],
            fingerprint=kept["fingerprint"],
            mechanism=kept["mechanism"],
            message=kept["message"],
            known=kept["known"],
            reference=kept["reference"],
            first_round=number,
            journal=kept["journal"],
            rounds=1,
            count=kept["count"],
        )
    )


def _missing(config: SoakConfig, lines: list[dict[str, Any]]) -> list[str]:
    """Known breakage declared `always` that never fired, of versions that had a round of every workload."""
    missing = []
    for name in config.versions:
        rounds = [line for line in lines if line["version"] == name and not line["canary"]]
        if not set(config.workloads) <= {line["workload"] for line in rounds}:
            continue
        fired = {finding["fingerprint"] for line in rounds for finding in line["findings"]}
        for known in subject.load(name).known:
            if known.frequency == ALWAYS and known.fingerprint not in fired:
                missing.append(
                    f"{name}: {known.check} ({known.title}) is always there, but fired in none of "
                    f"{counted(len(rounds), 'round')}"
                )
    return missing
