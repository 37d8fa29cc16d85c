# SPDX-License-Identifier: GPL-2.0-only
"""`soak`: from a TOML file to what the rounds are drawn from."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from stressvmap.cli.toml_file import ScenarioTable, parse, plain, read_toml, require_names, set_keys, to_toml
from stressvmap.config import SoakConfig
from stressvmap.errors import ConfigError
from stressvmap.scenario import WORKLOADS, Scenario
from stressvmap.stress import subject

DRAWN: Final = ("workload", "cpus", "block_bits", "max_alloc", "tasks_per_cpu", "possible", "offline")
"""Keys of a scenario that a round draws."""

Cpus = Annotated[int, Field(ge=1, le=64)]
DEFAULTS: Final = SoakConfig()


class SoakFile(BaseModel):
    """The keys of a soak configuration file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    versions: list[str] = Field(default=list(DEFAULTS.versions), min_length=1)
    workloads: list[str] = Field(default=list(DEFAULTS.workloads), min_length=1)
    runtimes: list[Literal["threads", "controlled"]] = Field(default=["threads", "controlled"], min_length=1)
    cpus: list[Cpus] = Field(default=list(DEFAULTS.cpus), min_length=1)
    block_bits: list[int] = Field(default=list(DEFAULTS.block_bits), min_length=1)
    seed: int = Field(default=DEFAULTS.seed, ge=0)
    seconds: float = Field(default=DEFAULTS.seconds, gt=0)
    round_seconds: float = Field(default=DEFAULTS.round_seconds, ge=1)
    canary_every: int = Field(default=DEFAULTS.canary_every, ge=0)
    jobs: int = Field(default=DEFAULTS.jobs, ge=1, le=256)
    scenario: ScenarioTable = ScenarioTable()  # type: ignore[valid-type]


def read_soak_file(path: Path) -> SoakConfig:
    """Read and validate a soak configuration. Raises ConfigError."""
    shown = str(path)
    file = parse(SoakFile, read_toml(path), shown)
    assert isinstance(file, SoakFile)
    keys = set_keys(file.scenario)
    for key in keys:
        if key in DRAWN:
            raise ConfigError(
                f"{shown}: scenario.{key}: is drawn anew for each round; it has no place in a soak's scenario"
            )
    given: dict[str, Any] = {key: plain(getattr(file, key)) for key in file.model_fields_set - {"scenario"}}
    config = replace(SoakConfig(scenario=Scenario(**keys)), **given)
    config = replace(config, versions=tuple(subject.absolute(name, path.parent) for name in config.versions))
    validate(config, shown)
    return config


def validate(config: SoakConfig, shown: str) -> None:
    """Raise ConfigError for whatever would end a round before it began."""
    for name in config.versions:
        subject.load(name)
    require_names("workloads", config.workloads, WORKLOADS, shown, "")
    for number, bits in enumerate(config.block_bits):
        try:
            replace(config.scenario, block_bits=bits, max_alloc=max(1, bits // 2)).validate()
        except ConfigError as error:
            key, _, rest = str(error).partition(":")
            where = f"block_bits[{number}]" if key in ("block_bits", "max_alloc") else f"scenario.{key}"
            raise ConfigError(f"{shown}: {where}:{rest}") from None


def soak_to_toml(config: SoakConfig) -> str:
    """As a file that `--config` reads and that means the same."""
    defaults = asdict(Scenario())
    scenario = {
        key: value for key, value in asdict(config.scenario).items() if key not in DRAWN and value != defaults[key]
    }
    top = {key: value for key, value in asdict(config).items() if key != "scenario"}
    top["versions"] = [subject.absolute(name, Path.cwd()) for name in config.versions]
    return to_toml({"": top, "scenario": scenario})
