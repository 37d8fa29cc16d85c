# SPDX-License-Identifier: GPL-2.0-only
"""Programs said in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stressvmap.errors import ConfigError
from stressvmap.program import Program, ProgramOp, TaskProgram
from stressvmap.report.explored import program_text
from stressvmap.stress.small_program import program_from_file, program_from_text, without_pauses


def test_tasks_go_to_cpus_in_turn_unless_they_say_otherwise() -> None:
    program = program_from_text("map 0 4; unmap 0 | cpu0: vmalloc 1 2; vfree 1 | aliases")
    assert program == Program(
        (
            TaskProgram(0, (ProgramOp("map", 0, 4), ProgramOp("unmap", 0))),
            TaskProgram(0, (ProgramOp("vmalloc", 1, 2), ProgramOp("vfree", 1))),
            TaskProgram(2, (ProgramOp("aliases"),), "flusher"),
        )
    )


@pytest.mark.parametrize("text", ["map 0 4; unmap 0 | aliases", "touch 3; probe 3 | cpu0: vmalloc-reset 1 2; shrink"])
def test_what_is_shown_of_a_program_can_be_given_again(text: str) -> None:
    program = program_from_text(text)
    assert program_from_text(program_text(program)) == program


def test_a_program_comes_from_a_json_file_too(tmp_path: Path) -> None:
    program = program_from_text("map 0 4 | aliases")
    path = tmp_path / "program.json"
    path.write_text(json.dumps(program.as_dict()))
    assert program_from_file(path) == (program, None)


@pytest.mark.parametrize("text", ["[]", "{}", "{", '{"tasks": [{"cpu": 0, "role": "worker", "ops": [["mop", 0, 0]]}]}'])
def test_a_file_that_holds_no_program_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "program.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"program\.json"):
        program_from_file(path)


def test_pauses_go() -> None:
    program = program_from_text("pause 30; aliases")
    assert [op.kind for task in without_pauses(program).tasks for op in task.ops] == ["aliases"]
