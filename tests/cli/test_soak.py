# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import Any

import pytest

from stressvmap.cli.soak_file import read_soak_file, soak_to_toml
from stressvmap.config import RunSpec
from stressvmap.result import RunResult
from stressvmap.stress import soak as soaking
from tests.cli.conftest import Command, finding, result_of

SOAK = 'versions = ["v6.5"]\nworkloads = ["mixed"]\nround_seconds = 1\ncanary_every = 3\nseconds = 4\n'


@pytest.fixture(autouse=True)
def rounds(monkeypatch: pytest.MonkeyPatch) -> list[RunSpec]:
    """Let rounds end at once, a second each; canaries are caught."""
    specs: list[RunSpec] = []

    def run(spec: RunSpec, **rest: Any) -> RunResult:
        specs.append(spec)
        return result_of(spec, *([finding("stale-access")] if "canary" in spec.version else []))

    monkeypatch.setattr(soaking, "run", run)
    return specs


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "soak.toml"
    path.write_text(SOAK)
    return path


def test_a_soak_runs_until_its_time_is_used_up_and_keeps_each_round(
    command: Command, config: Path, rounds: list[RunSpec]
) -> None:
    ran = command("soak", "--config", config, "--out", "s", "--json")
    assert ran.status == 0
    assert len(rounds) == 4
    assert ran.object["rounds"] == 4
    assert ran.object["canaries_caught"] == ran.object["canaries"] == 2
    assert ran.object == json.loads(Path("s/result.json").read_text())
    assert command("report", "s").status == 0


def test_a_soak_goes_on_in_its_folder(command: Command, config: Path, rounds: list[RunSpec]) -> None:
    command("soak", "--config", config, "--out", "s")
    first = list(rounds)
    ran = command("soak", "--config", "s/config.toml", "--out", "s", "--seconds", "6")
    assert ran.status == 0
    assert len(rounds) == 6
    assert rounds[:4] == first
    assert "in 6 rounds" in ran.out
    assert "goes on with: stressvmap soak --config s/config.toml --seconds 12 --out s" in ran.out


def test_a_soak_does_not_go_on_with_other_settings(command: Command, config: Path) -> None:
    command("soak", "--config", config, "--out", "s")
    ran = command("soak", "--config", config, "--out", "s", "--seconds", "9", "--seed", "5")
    assert ran.status == 2
    assert "its soak began with another seed (1, now 5)" in ran.err


def test_a_folder_that_holds_something_else_is_refused(command: Command, config: Path) -> None:
    ran = command("soak", "--config", config, "--out", ".")
    assert ran.status == 2
    assert "holds no soak" in ran.err


def test_two_soaks_do_not_share_a_folder(command: Command, config: Path, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    with (tmp_path / "s/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ran = command("soak", "--config", config, "--out", "s")
    assert ran.status == 2
    assert "another soak is running" in ran.err


def test_the_resolved_configuration_means_the_same(config: Path, tmp_path: Path) -> None:
    config.write_text(SOAK + "[scenario]\nreset_rate = 0.25\nwindows = ['vb-lock']\n")
    resolved = read_soak_file(config)
    again = tmp_path / "again.toml"
    again.write_text(soak_to_toml(resolved))
    assert read_soak_file(again) == resolved
    assert resolved.scenario.reset_rate == 0.25


@pytest.mark.parametrize("name", ["stress", "soak"])
def test_the_projects_own_configurations_are_valid(name: str) -> None:
    from stressvmap.cli.config_file import read_stress_file

    path = Path(__file__).resolve().parents[2] / "configs" / f"{name}.toml"
    if name == "soak":
        assert read_soak_file(path).seconds == 28800
    else:
        stress = read_stress_file(path)
        stress.validate()
        assert stress.expect == "known"
