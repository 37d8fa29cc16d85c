# SPDX-License-Identifier: GPL-2.0-only
"""From a TOML file and the command line to what is to be run.

Each mistake is one line: the file or option, the key, the value, and what is allowed.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic_core import ErrorDetails

from stressvmap.checks.registry import CHECK_NAMES
from stressvmap.config import THREADS, RunSpec
from stressvmap.errors import ConfigError
from stressvmap.scenario import WORKLOADS, Scenario
from stressvmap.stress.engine import make_strategy
from stressvmap.vmalloc import versions

MAX_ALLOC_ADAPTED: Final = 64
"""Largest VMAP_MAX_ALLOC that --block-bits alone leads to: the kernel's own."""


def _scenario_model() -> type[BaseModel]:
    """A scenario as it may stand in a file: Scenario's own fields and types, none required."""
    hints = get_type_hints(Scenario)
    as_in_toml = {tuple[int, ...]: list[int], tuple[str, ...]: list[str]}
    definitions: dict[str, Any] = {
        key.name: (as_in_toml.get(hints[key.name], hints[key.name]), None)
        for key in fields(Scenario)
        if key.name != "workload"
    }
    return create_model("ScenarioTable", __config__=ConfigDict(extra="forbid", strict=True), **definitions)


ScenarioTable: Final = _scenario_model()
Budget = Field(default=None, gt=0)


class StressFile(BaseModel):
    """The keys of a stress configuration file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    seed: int = Field(default=1, ge=0)
    runtime: Literal["threads", "controlled"] = "threads"
    strategy: str = "random"
    versions: list[str] = Field(default=[versions.NEWEST], min_length=1)
    workloads: list[str] = Field(default=[WORKLOADS[0]], min_length=1)
    seconds: float | None = Budget
    schedules: int | None = Budget
    operations: int | None = Budget
    checks: list[str] = []
    expect: str | list[str] | None = None
    jobs: int = Field(default=1, ge=1, le=256)
    keep_journals: bool = False
    stop_at_first: bool = False
    stall_seconds: float = Field(default=30.0, gt=0)
    scenario: ScenarioTable = ScenarioTable()  # type: ignore[valid-type]
    workload: dict[str, ScenarioTable] = {}  # type: ignore[valid-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class StressConfig:
    """One `stress` invocation, resolved: every version under every workload."""

    source: str = ""
    """The file it came from; empty: none."""
    versions: tuple[str, ...] = (versions.NEWEST,)
    workloads: tuple[str, ...] = (WORKLOADS[0],)
    runtime: str = THREADS
    strategy: str = "random"
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
    keep_journals: bool = False
    stop_at_first: bool = False
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
                stop_at_first=self.stop_at_first,
                checks=self.checks,
                expect=self.expect,
                keep_journals=self.keep_journals,
                stall_seconds=self.stall_seconds,
            )
            for version in self.versions
            for workload in self.workloads
        ]

    def validate(self) -> None:
        """Raise ConfigError for whatever would end a run before it began."""
        for name in self.versions:
            versions.load(name)
        _require_names("checks", self.checks, CHECK_NAMES, self.source, "--check")
        if isinstance(self.expect, tuple):
            _require_names(
                "expect", [entry.split(":")[0] for entry in self.expect], CHECK_NAMES, self.source, "--expect"
            )
        elif self.expect not in (None, "known"):
            raise ConfigError(
                f'{self._where("expect", "--expect")}: {self.expect!r} is neither "known" nor a list of checks'
            )
        _require_names("workloads", self.workloads, WORKLOADS, self.source, "--workload")
        try:
            make_strategy(self.strategy, self.seed)
        except ConfigError as error:
            raise ConfigError(f"{self._where('strategy', '--strategy')}: {error}") from None
        self.specs()

    def _where(self, key: str, option: str) -> str:
        return f"{self.source}: {key}" if self.source else option

    def _scenario(self, workload: str) -> Scenario:
        keys = {**self.scenario, **self.workload.get(workload, {})}
        scenario = Scenario(workload=workload, **{key: _plain(value) for key, value in keys.items()})
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
            "versions": [versions.absolute(name, Path.cwd()) for name in self.versions],
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
            "keep_journals": self.keep_journals,
            "stop_at_first": self.stop_at_first,
            "stall_seconds": self.stall_seconds,
        }
        tables = {"": top, "scenario": self.scenario}
        tables |= {f"workload.{name}": keys for name, keys in self.workload.items() if name in self.workloads}
        return to_toml(tables)


def to_toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Tables of plain values by dotted name ("" is the top); what is None is left out."""
    lines: list[str] = []
    for name, keys in tables.items():
        if name and keys:
            lines += ["", f"[{name}]"]
        lines += [f"{key} = {_toml(value)}" for key, value in keys.items() if value is not None]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(entry)}" for key, entry in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


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
    given: dict[str, Any] = {
        key: _plain(getattr(file, key)) for key in file.model_fields_set - {"scenario", "workload"}
    }
    given["versions"] = tuple(versions.absolute(name, path.parent) for name in file.versions)
    return StressConfig(
        source=shown,
        scenario=_set_keys(file.scenario),
        workload={name: _set_keys(keys) for name, keys in file.workload.items()},
        **given,
    )


def _set_keys(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(exclude_unset=True)


def _reject_unknown_workload_tables(table: Mapping[str, Any], shown: str) -> None:
    workload = table.get("workload", {})
    if isinstance(workload, dict):
        _require_names("workload", list(workload), WORKLOADS, shown, "")
    else:
        raise ConfigError(
            f"{shown}: workload: {workload!r} is no table [workload.<name>]; what to run is said by workloads = [...]"
        )


def read_toml(path: Path) -> dict[str, Any]:
    """The file's table. Raises ConfigError with the line of a syntax error."""
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: is not valid TOML: nested too deeply") from None


def parse(model: type[BaseModel], table: Mapping[str, Any], shown: str) -> BaseModel:
    """Validate a file's table by `model`. The first mistake is told, with the number of the others."""
    try:
        return model.model_validate(table)
    except ValidationError as error:
        mistakes = error.errors()
        first = min(mistakes, key=lambda mistake: mistake["type"] != "extra_forbidden")
        others = len({mistake["loc"][:2] for mistake in mistakes}) - 1
        more = f" (and {others} more)" if others else ""
        raise ConfigError(f"{shown}: {_dotted(first['loc'])}: {_mistake(model, first)}{more}") from None


def _dotted(location: Sequence[int | str]) -> str:
    """`workload.mixed.possible[2]`. What pydantic adds for the members of a union is no key."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part not in ("str", "list[str]"):
            text += f".{part}" if text else part
    return text


_EXPECTED: Final = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a string",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}


def _mistake(model: type[BaseModel], mistake: ErrorDetails) -> str:
    kind, location, value = mistake["type"], mistake["loc"], mistake["input"]
    if kind == "extra_forbidden":
        allowed = list(model.model_fields if len(location) == 1 else ScenarioTable.model_fields)
        return "unknown key" + _did_you_mean(str(location[-1]), allowed)
    context = mistake.get("ctx", {})
    if kind == "literal_error":
        return f"{value!r} is not one of {context['expected']}".replace("'", '"').replace(" or ", ", ")
    if location[0] == "expect":
        return f'{value!r} is neither "known" nor a list of checks'
    if kind in _EXPECTED:
        return f"{_toml_or_repr(value)} is not {_EXPECTED[kind]}"
    bounds = {"greater_than": "gt", "greater_than_equal": "ge", "less_than_equal": "le"}
    if kind in bounds:
        words = {"gt": "must be above", "ge": "must be at least", "le": "must be at most"}[bounds[kind]]
        return f"{value!r} {words} {context[bounds[kind]]}"
    return f"{_toml_or_repr(value)}: {mistake['msg']}"


def _toml_or_repr(value: Any) -> str:
    try:
        return _toml(value)
    except TypeError:
        return str(value)


def _did_you_mean(name: str, allowed: Sequence[str]) -> str:
    close = get_close_matches(name, allowed, 1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(allowed)}"


def _require_names(key: str, names: Sequence[str], allowed: Sequence[str], source: str, option: str) -> None:
    for name in names:
        if name not in allowed:
            where = f"{source}: {key}" if source else option
            raise ConfigError(f"{where}: {name!r} is not one of {', '.join(allowed)}{_close(name, allowed)}")


def _close(name: str, allowed: Sequence[str]) -> str:
    close = get_close_matches(name, allowed, 1)
    return f"; did you mean {close[0]}?" if close else ""
