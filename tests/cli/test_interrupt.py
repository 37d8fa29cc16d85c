# SPDX-License-Identifier: GPL-2.0-only
"""Ctrl-C and SIGTERM, on the real command in its own process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "stressvmap", "stress", "--version", "v6.4", "--seconds", "60", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not list(folder.glob("o/journals/*.svj")) and time.monotonic() < deadline:
        time.sleep(0.05)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_once_stops_and_reports_what_ran(tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path, "--out", "o", "--json", "--version", "v6.5")
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    data = json.loads(out)
    assert data["exit_status"] == 130
    assert data["stopped"]
    assert data["runs"][0]["violations"]
    assert data == json.loads((tmp_path / "o/result.json").read_text())
    assert "Traceback" not in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_the_command_line_is_being_imported_it_ends_quietly(tmp_path: Path, number: signal.Signals) -> None:
    """A library that takes its time stands in the place of one that it needs."""
    (tmp_path / "typer.py").write_text(
        "import pathlib, time\npathlib.Path('importing').touch()\nwhile True:\n    time.sleep(0.01)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "stressvmap", "versions"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "importing").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 130


def test_the_installed_command_is_the_one_that_can_be_stopped_at_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"stressvmap": "stressvmap.__main__:main"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_with_nothing_to_keep_ends_quietly(tmp_path: Path, number: signal.Signals) -> None:
    """Its input is a pipe into which nobody writes."""
    os.mkfifo(tmp_path / "never.svj")
    process = subprocess.Popen(
        [sys.executable, "-m", "stressvmap", "check", "never.svj"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    writer = os.open(tmp_path / "never.svj", os.O_WRONLY)  # returns when it has opened its end
    process.send_signal(number)
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 130
    os.close(writer)


def test_a_closed_pipe_is_no_failure(tmp_path: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m stressvmap versions --show v6.4 | head -1",
        shell=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("# v6.4")
    assert done.stderr == ""
