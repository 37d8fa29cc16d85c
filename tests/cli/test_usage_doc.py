# SPDX-License-Identifier: GPL-2.0-only
"""docs/usage.md says what there is: each command, option, key and example in it is real, and none is left out."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from stressvmap.cli.config_file import StressFile, read_stress_file
from stressvmap.cli.soak_file import SoakFile, read_soak_file
from stressvmap.result import RunResult
from stressvmap.scenario import Scenario
from stressvmap.vmalloc import versions
from tests.cli.conftest import Command

USAGE = (Path(__file__).resolve().parents[2] / "docs/usage.md").read_text(encoding="utf-8")
COMMANDS = ("stress", "replay", "shrink", "explore", "check", "show", "versions", "soak", "report", "tree")
TREE_COMMANDS = ("build", "list", "clean", "doctor", "fetch", "conform")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", USAGE, re.DOTALL)


def options_in(text: str) -> set[str]:
    return set(re.findall(r"--[a-z][a-z-]+", text))


def test_each_example_uses_options_that_there_are(command: Command) -> None:
    examples = [line.split("#")[0] for line in "".join(blocks("sh")).splitlines()]
    assert {example.split()[1] for example in examples} == set(COMMANDS)
    for example in examples:
        assert options_in(example) <= options_in(command(example.split()[1], "--help").out), example


@pytest.mark.parametrize("name", COMMANDS)
def test_each_option_is_documented(command: Command, name: str) -> None:
    assert options_in(command(name, "--help").out) <= options_in(USAGE)


@pytest.mark.parametrize("name", TREE_COMMANDS)
def test_each_option_of_a_command_for_trees_is_documented(command: Command, name: str) -> None:
    there = set(re.findall(r"^ *(?:-\w, )?(--[a-z-]+)", command("tree", name, "--help").out, re.MULTILINE))
    assert {"--json", "--help"} < there
    section = USAGE[USAGE.index("### tree") : USAGE.index("### Stopping")]
    assert there - {"--json", "--verbose", "--quiet", "--help"} <= options_in(section)
    assert f"`tree {name}" in section


def test_each_key_is_documented() -> None:
    keys = {*StressFile.model_fields, *SoakFile.model_fields, *(key.name for key in fields(Scenario))} - {"workload"}
    assert sorted(key for key in keys if not re.search(rf"`{key}`|^\[?{key}\b", USAGE, re.MULTILINE)) == []
    result = RunResult("stress", "v", "d", "threads", "", 1, {}).as_dict()
    assert sorted(key for key in result if f"`{key}`" not in USAGE) == []


def test_scenario_defaults_are_those_documented() -> None:
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \| ([^|]+) \|", USAGE[USAGE.index("### Keys of a scenario") :], re.MULTILINE)
    told = {}
    for names, values in rows:
        keys = re.findall(r"[a-z_]+", names)
        texts = values.strip().split(", ") if len(keys) > 1 and "," in values else [values.strip()] * len(keys)
        told.update(dict(zip(keys, texts, strict=True)))
    defaults = {key.name: getattr(Scenario(), key.name) for key in fields(Scenario) if key.name != "workload"}
    shown = {
        key: {True: "true", False: "false"}[value]
        if isinstance(value, bool)
        else "[]"
        if value == ()
        else "{}"
        if value == {}
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
        for key, value in defaults.items()
    }
    assert told == shown


def test_the_configuration_examples_are_valid(tmp_path: Path) -> None:
    stress, soak = blocks("toml")
    (tmp_path / "stress.toml").write_text(stress)
    (tmp_path / "soak.toml").write_text(soak)
    read_stress_file(tmp_path / "stress.toml").validate()
    read_soak_file(tmp_path / "soak.toml")


def test_the_patch_example_runs(command: Command, tmp_path: Path) -> None:
    (code,) = blocks("python")
    (tmp_path / "my_patch.py").write_text(code)
    assert versions.load(f"{tmp_path}/my_patch.py:MyPatch").NAME == "my_patch.py:MyPatch"
    ran = command("stress", "--version", "./my_patch.py", "--runtime", "controlled", "--schedules", "3", "--json")
    assert ran.status in (0, 1)
    assert ran.object["version"] == "my_patch.py:MyPatch"
