# SPDX-License-Identifier: GPL-2.0-only
"""Bad input gives one clear line and status 2, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Command, Ran

PATCH = "from stressvmap.vmalloc.v6_5 import V6_5\nclass P(V6_5):\n"


def assert_one_clear_line(ran: Ran, *parts: str) -> None:
    err = ran.err
    assert ran.status == 2, ran
    assert ran.out == ""
    assert err.startswith("stressvmap: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    for part in parts:
        assert part in err, err


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["frobnicate"], ["frobnicate"]),
        (["stess"], ["Did you mean 'stress'?"]),
        (["stress", "--cpuss", "3"], ["--cpuss"]),
        (["stress", "--cpus", "four"], ["--cpus", "four", "integer"]),
        (["stress", "--cpus", "0"], ["--cpus 0", "not between 1 and 64"]),
        (["stress", "--block-bits", "12"], ["--block-bits 12", "power of two"]),
        (["stress", "--block-bits", "2"], ["--block-bits 2", "below 4"]),
        (["stress", "--steps-max", "1"], ["--steps-max 1", "between"]),
        (["stress", "--seconds", "0"], ["--seconds 0", "above 0"]),
        (["stress", "--seconds", "nan"], ["--seconds nan"]),
        (["stress", "--seconds", "inf"], ["--seconds inf"]),
        (["stress", "--schedules", "-3"], ["--schedules -3"]),
        (["stress", "--seed", "-1"], ["--seed -1"]),
        (["stress", "--jobs", "0"], ["--jobs 0"]),
        (["stress", "--runtime", "thread"], ["thread", "threads, controlled"]),
        (["stress", "--strategy", "pctt"], ["pctt", "random"]),
        (["stress", "--version", "v6.6"], ["v6.6", "did you mean v6.5?", "v6.4, rfc-3of3, v6.5"]),
        (["stress", "--version", "./none.py:P"], ["none.py", "no such file"]),
        (["stress", "--workload", "mixd"], ["mixd", "did you mean mixed?"]),
        (["stress", "--check", "leek"], ["leek", "did you mean leak?"]),
        (["stress", "--expect", "leek"], ["leek", "did you mean leak?"]),
        (
            ["stress", "--expect", "leak:zz"],
            ["--expect: leak:zz: 'zz' is no fingerprint: 12 digits 0-9, a-f, as a report has it"],
        ),
        (["stress", "--expect", "leak:"], ["'' is no fingerprint"]),
        (["stress", "--expect", "leak:0123456789AB"], ["'0123456789AB' is no fingerprint"]),
        (["stress", "--limit", "excess-flush=much"], ["excess-flush=much", "NUMBER"]),
        (["stress", "--limit", "flush=1"], ["flush", "excess-flush"]),
        (["stress", "--config", "none.toml"], ["none.toml", "No such file"]),
        (["stress", "--config", "."], ["cannot be read"]),
        (["stress", "--out", "/proc/nowhere/x"], ["/proc/nowhere/x", "cannot be written"]),
        (["stress", "--out", "/etc/hostname/x"], ["cannot be written"]),
        (["soak", "--config", "none.toml"], ["none.toml", "No such file"]),
        (["soak", "--seconds", "0"], ["--seconds 0"]),
        (["check"], ["JOURNAL"]),
        (["check", "none.svj"], ["none.svj", "No such file"]),
        (["check", "."], ["cannot read"]),
        (["check", __file__], ["test_bad_input.py"]),
        (["show", __file__], ["test_bad_input.py"]),
        (["show", "none.svj", "--trace", "svg"], ["svg", "perfetto, ftrace"]),
        (["show", "none.svj", "--out", "x"], ["--trace"]),
        (["versions", "--show", "v5"], ["v5", "v6.4"]),
        (["versions", "--show", "tree:linux,cc=clang"], ["tree:linux,cc=clang", "tree:PATH?cc=clang"]),
        (["versions", "--show", "tree:linux?cc=tcc"], ["cc is one of gcc, clang, not 'tcc'"]),
        (["versions", "--show", "tree:linux?compiler=gcc"], ["'compiler=gcc' is no option", "cc=gcc|clang"]),
        (["report", "none"], ["none", "No such file"]),
        (["report", __file__], ["is no result"]),
    ],
)
def test_bad_usage(command: Command, arguments: list[str], parts: list[str]) -> None:
    assert_one_clear_line(command(*arguments), *parts)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("seed = \n", ["not valid TOML", "line 1"]),
        ("a = [[[\n", ["not valid TOML"]),
        ("sed = 3\n", ["sed: unknown key", "did you mean seed?"]),
        ("xyzzy = 3\n", ["xyzzy: unknown key", "there are seed, runtime"]),
        ('seed = "x"\n', ['seed: "x" is not an integer']),
        ("seed = 1.5\n", ["seed: 1.5 is not an integer"]),
        ("seed = -1\n", ["seed: -1 must be at least 0"]),
        ("seconds = 0\n", ["seconds: 0 must be above 0"]),
        ("seconds = true\n", ["seconds: true is not a number"]),
        ("schedules = 1.5\n", ["schedules: 1.5 is not an integer"]),
        ("keep_journals = 1\n", ["keep_journals: 1 is not true or false"]),
        ('runtime = "fibers"\n', ["runtime", "fibers", '"threads", "controlled"']),
        ('strategy = "fibers"\n', ["strategy", "fibers", "random"]),
        ('versions = "v6.4"\n', ['versions: "v6.4" is not a list']),
        ("versions = []\n", ["versions: []"]),
        ("versions = [4]\n", ["versions[0]: 4 is not a string"]),
        ('versions = ["v6.44"]\n', ["v6.44", "did you mean v6.4?"]),
        ('workloads = ["pined"]\n', ["workloads", "pined", "did you mean pinned?"]),
        ('checks = ["leek"]\n', ["checks", "leek", "did you mean leak?"]),
        ('expect = "knwon"\n', ["expect", "knwon", "known"]),
        ("expect = 3\n", ["expect: 3 is neither"]),
        ('expect = ["leek"]\n', ["expect", "leek"]),
        ('expect = ["leak:0123456789abc"]\n', ["expect: leak:0123456789abc: '0123456789abc' is no fingerprint"]),
        ("scenario = 3\n", ["scenario: 3 is not a table"]),
        ("[scenario]\ncpuss = 3\n", ["scenario.cpuss: unknown key", "did you mean cpus?"]),
        ("[scenario]\ncpus = '4'\n", ['scenario.cpus: "4" is not an integer']),
        ("[scenario]\ncpus = 65\n", ["scenario.cpus: 65 is not between 1 and 64"]),
        ("[scenario]\npossible = [0, 'x']\n", ['scenario.possible[1]: "x" is not an integer']),
        ("[scenario]\nblock_bits = 12\n", ["scenario.block_bits: 12 is not a power of two"]),
        ("[scenario]\nmax_alloc = 8\n", ["scenario.block_bits (default): 8 is less than 2 * max_alloc"]),
        ("[scenario]\nlarge_rate = 2\n", ["scenario.large_rate: 2", "between 0 and 1"]),
        ("[scenario]\nworkload = 'mixed'\n", ["scenario.workload: unknown key"]),
        ("[scenario.limits]\nflush = 2\n", ["scenario.limits: 'flush' is not one of excess-flush"]),
        ("workload = 'mixed'\n", ["workload", "no table", "workloads = [...]"]),
        ("[workload.mixd]\ncpus = 2\n", ["workload", "mixd", "did you mean mixed?"]),
        ("[workload.mixed]\ncpus = 0\n", ["workload.mixed.cpus: 0 is not between"]),
        ("sed = 3\nversons = []\n", ["(and 1 more)"]),
    ],
)
def test_bad_stress_file(command: Command, tmp_path: Path, text: str, parts: list[str]) -> None:
    path = tmp_path / "my.toml"
    path.write_text(text, encoding="utf-8")
    assert_one_clear_line(command("stress", "--config", path), "my.toml" if "v6.44" not in text else "", *parts)


def test_a_stress_file_that_is_no_text(command: Command, tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_bytes(b"seed = 1 # \xff\n")
    assert_one_clear_line(command("stress", "--config", "my.toml"), "my.toml", "not UTF-8")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("cpus = 4\n", ["cpus: 4 is not a list"]),
        ("cpus = [0]\n", ["cpus[0]: 0 must be at least 1"]),
        ("block_bits = [8, 12]\n", ["block_bits[1]: 12 is not a power of two"]),
        ("round_second = 4\n", ["round_second: unknown key", "did you mean round_seconds?"]),
        ("round_seconds = 0\n", ["round_seconds: 0 must be at least 1"]),
        ('runtimes = ["fibers"]\n', ["runtimes[0]", "fibers"]),
        ('workloads = ["pined"]\n', ["pined", "pinned"]),
        ("[scenario]\ncpus = 4\n", ["scenario.cpus", "drawn anew"]),
        ("[scenario]\nreset_rate = 4\n", ["scenario.reset_rate: 4"]),
    ],
)
def test_bad_soak_file(command: Command, tmp_path: Path, text: str, parts: list[str]) -> None:
    path = tmp_path / "my.toml"
    path.write_text(text, encoding="utf-8")
    assert_one_clear_line(command("soak", "--config", path), "my.toml", *parts)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("class P(:\n", ["p.py:1", "SyntaxError"]),
        ("x = 1\n", ["defines no class that inherits from a version"]),
        ("import os\n\nx = os.no_such_thing\n", ["p.py:3", "AttributeError"]),
        (PATCH + "    def __init__(self):\n        pass\n", ["p.py", "P."]),
        (PATCH + "    def vm_map_ram(self, pages, count):\n        return 1 // 0\n", ["p.py:4", "ZeroDivisionError"]),
    ],
)
def test_bad_patch_file(command: Command, tmp_path: Path, text: str, parts: list[str]) -> None:
    (tmp_path / "p.py").write_text(text, encoding="utf-8")
    ran = command("stress", "--version", "./p.py", "--schedules", "3", "--runtime", "controlled", "-q")
    assert_one_clear_line(ran, *parts)


def test_an_output_folder_that_holds_something_is_refused(command: Command, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old/file").touch()
    assert_one_clear_line(command("stress", "--out", "old"), "--out old", "not empty")


def test_with_json_the_error_is_the_one_object(command: Command) -> None:
    ran = command("stress", "--version", "v7", "--json")
    assert ran.status == 2
    assert ran.object["exit_status"] == 2
    assert ran.object["verdict"] == "error"
    assert ran.object["command"] == "stress"
    assert "v7" in ran.object["error"]


def test_without_a_command_the_help_is_shown(command: Command) -> None:
    ran = command()
    assert ran.status == 2
    assert "stressvmap stress --version v6.4" in ran.out
