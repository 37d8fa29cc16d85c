# SPDX-License-Identifier: GPL-2.0-only
"""The house rules that a program can hold: import order, licence lines, docstrings, names and sizes."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE_FILES = sorted((ROOT / "stressvmap").rglob("*.py"))
ALL_FILES = PACKAGE_FILES + sorted((ROOT / "tests").rglob("*.py"))

SPDX_LINE = "# SPDX-License-Identifier: GPL-2.0-only"
NAMES_THAT_SAY_NOTHING = {"utils", "helpers", "manager", "common", "misc"}
FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def docstring_of(path: Path) -> str:
    return ast.get_docstring(tree_of(path)) or ""


def functions_of(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_there_are_files_to_check() -> None:
    assert PACKAGE_FILES
    assert Path(__file__).resolve() in ALL_FILES


def test_a_room_imports_only_from_rooms_below_it() -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint_imports, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_file_begins_with_its_licence() -> None:
    assert [relative(path) for path in ALL_FILES if lines_of(path)[:1] != [SPDX_LINE]] == []


def test_each_module_says_what_it_is_for() -> None:
    assert [relative(path) for path in PACKAGE_FILES if not docstring_of(path)] == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    named = [path for path in ALL_FILES if NAMES_THAT_SAY_NOTHING & {path.stem, path.parent.name}]
    assert [relative(path) for path in named] == []


def test_a_file_over_600_lines_explains_itself() -> None:
    long = [path for path in ALL_FILES if len(lines_of(path)) > FILE_LINES_MAX]
    assert [relative(path) for path in long if "over 600 lines because" not in docstring_of(path)] == []


def test_a_function_over_70_lines_explains_itself() -> None:
    unexplained = []
    for path in ALL_FILES:
        lines = lines_of(path)
        for function in functions_of(path):
            body = lines[function.lineno - 1 : function.end_lineno]
            if len(body) > FUNCTION_LINES_MAX and not any("long because" in line for line in body):
                unexplained.append(f"{relative(path)}:{function.lineno} {function.name}: {len(body)} lines")
    assert unexplained == []
