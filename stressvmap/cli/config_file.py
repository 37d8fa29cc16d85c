# SPDX-License-Identifier: GPL-2.0-only
"""`stress`: from a TOML file and the command line to the runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from stressvmap.checks.registry import CHECK_NAMES
from stressvmap.cli.toml_file import ScenarioTable, parse, plain, read_toml, require_names, set_keys, to_toml
from stressvmap.config import CONTROLLED, RunSpec
from stressvmap.errors import ConfigError
from stressvmap.scenario import WORKLOADS, Scenario
from stressvmap.sched.portfolio import DEFAULT, make_strategy
from stressvmap.stress import subject
from stressvmap.vmalloc import versions

MAX_ALLOC_ADAPTED: Final = 64
"""Largest VMAP_MAX_ALLOC that --block-bits alone leads to: the kernel's own."""
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{12}")
Budget: Any = Field(default=None, gt=0)


class StressFile(BaseModel):
    """The keys of a stress configuration file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    seed: int = Field(default=1, ge=0)
    runtime: Literal["threads", "controlled"] = "controlled"
    strategy: str = DEFAULT
    versions: list[str] = Field(default=[versions.DEFAULT], min_length=1)
    workloads: list[str] = Field(default=[WORKLOADS[0]], min_length=1)
    seconds: float | None = Budget
    schedules: int | None = Budget
    operations: int | None = Budget
    checks: list[str] = []
    expect: str | list[str] | None = None
    jobs: int = Field(default=1, ge=1, le=256)
    execution: int | None = Field(default=None, ge=0)
    keep_journals: bool = False
    stop_at_first: bool = False
    repeat_share: float = Field(default=0.05, ge=0, le=1)
    stall_seconds: float = Field(default=30.0, gt=0)
    scenario: ScenarioTable = ScenarioTable()  # type: ignore[valid-type]
    workload: dict[str, ScenarioTable] = {}  # type: ignore[valid-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class StressConfig:
    """One `stress` invocation, resolved: every version under every workload."""

    source: str = ""
    """The file it came from; empty: none."""
    versions: tuple[str, ...] = (versions.DEFAULT,)
    workloads: tuple[str, ...] = (WORKLOADS[0],)
    runtime: str = CONTROLLED
    strategy: str = DEFAULT
    seed: int = 1
    seconds: float | None = None
    """For all runs together."""
    schedules: int | None = None
    """Of each run."""
    operations: int | None = None
    """Of each run."""
    checks: tuple[str, ...] = ()
    expect: str | tuple[str, ...] | None = None
    jobs: int = 1
    execution: int | None = None
    """Only this execution of each run."""
    keep_journals: bool = False
    stop_at_first: bool = False
    repeat_share: float = 0.05
    """Controlled runtime: of the executions, those whose schedule is run twice."""
    stall_seconds: float = 30.0
    scenario: dict[str, Any] = field(default_factory=dict)
    """Keys of Scenario, for all workloads."""
    workload: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By workload: keys that take precedence over `scenario`."""
    options: dict[str, str] = field(default_factory=dict)
    """Scenario keys given on the command line, with the option that gave them."""

    def specs(self) -> list[RunSpec]:
        """The runs, validated: version by version, workload by workload."""
        seconds = None if self.seconds is None else self.seconds / (len(self.versions) * len(self.workloads))
        return [
            RunSpec(
                version=version,
                scenario=self._scenario(workload),
                runtime=self.runtime,
                strategy=self.strategy,
                seed=self.seed,
                seconds=seconds,
                schedules=self.schedules,
                operations=self.operations,
                execution=self.execution,
                stop_at_first=self.stop_at_first,
                checks=self.checks,
                expect=self.expect,
                keep_journals=self.keep_journals,
                repeat_share=self.repeat_share,
                stall_seconds=self.stall_seconds,
            )
            for version in self.versions
            for workload in self.workloads
        ]

    def validate(self) -> None:
        """Raise ConfigError for whatever would end a run before it began."""
        for name in self.versions:
            subject.load(name)
        require_names("checks", self.checks, CHECK_NAMES, self.source, "--check")
        if isinstance(self.expect, tuple):
            require_names(
                "expect", [entry.split(":")[0] for entry in self.expect], CHECK_NAMES, self.source, "--expect"
            )
            for entry in self.expect:
                self._require_fingerprint(entry)
        elif self.expect not in (None, "known"):
            raise ConfigError(
                f'{self._where("expect", "--expect")}: {self.expect!r} is neither "known" nor a list of checks'
            )
        require_names("workloads", self.workloads, WORKLOADS, self.source, "--workload")
        try:
            make_strategy(self.strategy, self.seed)
        except ConfigError as error:
            raise ConfigError(f"{self._where('strategy', '--strategy')}: {error}") from None
        self.specs()

    def _require_fingerprint(self, entry: str) -> None:
        """Of an entry of `expect`, if it names one."""
        check, colon, fingerprint = entry.partition(":")
        if colon and not _FINGERPRINT.fullmatch(fingerprint):
            raise ConfigError(
                f"{self._where('expect', '--expect')}: {entry}: {fingerprint!r} is no fingerprint: 12 digits 0-9, a-f, "
                f"as a report has it in brackets and `stressvmap versions` lists it; {check} alone means any"
            )

    def _where(self, key: str, option: str) -> str:
        return f"{self.source}: {key}" if self.source else option

    def _scenario(self, workload: str) -> Scenario:
        keys = {**self.scenario, **self.workload.get(workload, {})}
        scenario = Scenario(workload=workload, **{key: plain(value) for key, value in keys.items()})
        try:
            scenario.validate()
        except ConfigError as error:
            key, _, rest = str(error).partition(":")
            raise ConfigError(f"{self._origin(key, workload)}:{rest}") from None
        return scenario

    def _origin(self, key: str, workload: str) -> str:
        """Where the value of a scenario key comes from, for a reader."""
        top = key.split(".")[0]
        if top in self.options:
            return self.options[top]
        if top in self.workload.get(workload, {}):
            return f"{self.source}: workload.{workload}.{key}"
        if top in self.scenario:
            return f"{self.source}: scenario.{key}"
        return f"{self.source}: scenario.{key} (default)" if self.source else key

    def to_toml(self) -> str:
        """As a file that `--config` reads and that means the same."""
        top = {
            "versions": [subject.absolute(name, Path.cwd()) for name in self.versions],
            "workloads": self.workloads,
            "runtime": self.runtime,
            "strategy": self.strategy,
            "seed": self.seed,
            "seconds": self.seconds,
            "schedules": self.schedules,
            "operations": self.operations,
            "checks": self.checks,
            "expect": self.expect,
            "jobs": self.jobs,
            "execution": self.execution,
            "keep_journals": self.keep_journals,
            "stop_at_first": self.stop_at_first,
            "repeat_share": self.repeat_share,
            "stall_seconds": self.stall_seconds,
        }
        tables = {"": top, "scenario": dict(sorted(self.scenario.items()))}
        tables |= {
            f"workload.{name}": dict(sorted(keys.items()))
            for name, keys in sorted(self.workload.items())
            if name in self.workloads
        }
        return to_toml(tables)


def with_options(
    config: StressConfig, given: Mapping[str, Any], scenario: Mapping[str, tuple[str, Any]]
) -> StressConfig:
    """`config` with what the command line says instead.

    `given`: keys of StressConfig. `scenario`: by scenario key, the option and its value; they hold for every workload.
    """
    changes = dict(given)
    if {"seconds", "schedules", "operations"} & changes.keys():
        changes = {"seconds": None, "schedules": None, "operations": None, **changes}
    explicit = {*config.scenario, *(key for keys in config.workload.values() for key in keys)}
    values = {key: value for key, (_, value) in scenario.items()}
    options = {key: f"{option} {value}" for key, (option, value) in scenario.items()}
    if "block_bits" in values and "max_alloc" not in explicit:
        values["max_alloc"] = max(1, min(values["block_bits"] // 2, MAX_ALLOC_ADAPTED))
        options["max_alloc"] = options["block_bits"]
    dropped = set(values) | ({"possible", "offline"} if "cpus" in values else set())
    kept = {key: value for key, value in config.scenario.items() if key not in dropped}
    workload = {
        name: {key: value for key, value in keys.items() if key not in dropped}
        for name, keys in config.workload.items()
    }
    return replace(config, scenario=kept | values, workload=workload, options=options, **changes)


def read_stress_file(path: Path) -> StressConfig:
    """Read and validate a stress configuration. Raises ConfigError."""
    table = read_toml(path)
    shown = str(path)
    _reject_unknown_workload_tables(table, shown)
    file = parse(StressFile, table, shown)
    assert isinstance(file, StressFile)
    given: dict[str, Any] = {key: plain(getattr(file, key)) for key in file.model_fields_set - {"scenario", "workload"}}
    given["versions"] = tuple(subject.absolute(name, path.parent) for name in file.versions)
    return StressConfig(
        source=shown,
        scenario=set_keys(file.scenario),
        workload={name: set_keys(keys) for name, keys in file.workload.items()},
        **given,
    )


def _reject_unknown_workload_tables(table: Mapping[str, Any], shown: str) -> None:
    workload = table.get("workload", {})
    if isinstance(workload, dict):
        require_names("workload", list(workload), WORKLOADS, shown, "")
    else:
        raise ConfigError(
            f"{shown}: workload: {workload!r} is no table [workload.<name>]; what to run is said by workloads = [...]"
        )
