# SPDX-License-Identifier: GPL-2.0-only
"""What README.md and docs/ say is true: blocks run, commands parse, links lead somewhere, lists are complete.

`python tests/docs/test_docs.py --write` fills each block that quotes a file (```python file=PATH lines=A-B) from it.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import settings
from typer.main import get_command

import stressvmap.checks
from stressvmap.checks import blame, registry
from stressvmap.checks.base import Check
from stressvmap.checks.costs import METRIC_NAMES
from stressvmap.checks.lock_times import LOCK_METRIC_NAMES
from stressvmap.checks.registry import CHECK_NAMES, all_checks
from stressvmap.checks.state import State
from stressvmap.cli import app
from stressvmap.cli.config_file import read_stress_file
from stressvmap.cli.soak_file import read_soak_file
from stressvmap.journal.events import B_IS_SYMBOL, GROUND, KIND_NAMES, stream_of
from stressvmap.journal.journal import Journal
from stressvmap.known import Known
from stressvmap.report.columns import columns
from stressvmap.report.filters import parse_kinds, parse_range
from stressvmap.scenario import WINDOWS, WORKLOADS
from stressvmap.stress import subject
from stressvmap.stress.replay import replay
from stressvmap.stress.schedule_file import read_schedule
from stressvmap.tree.version import is_tree
from stressvmap.vmalloc import versions
from tests.tree.kernel_sources import archive

ROOT: Final = Path(__file__).resolve().parent.parent.parent
DOCS: Final = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if path.is_file()]
EXAMPLES: Final = sorted((ROOT / "docs" / "examples").glob("*.py"))
CHECKS_TEXT: Final = (ROOT / "docs" / "checks.md").read_text(encoding="utf-8")
JOURNAL_TEXT: Final = (ROOT / "docs" / "journal.md").read_text(encoding="utf-8")

_FENCE: Final = re.compile(
    r"^```(?P<language>\w*)(?P<attributes>[^`\n]*)\n(?P<text>.*?)^```[ ]*$", re.MULTILINE | re.DOTALL
)
_LINES: Final = re.compile(r"(?P<first>\d+)-(?P<last>\d*)")
_LINK: Final = re.compile(r"\]\((?P<target>[^)\s]+)\)")
_TEST_NAME: Final = re.compile(r"`(test_\w+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block. `line` is that of its text's first line."""

    path: Path
    line: int
    language: str
    attributes: dict[str, str]
    text: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def blocks_of(path: Path) -> list[Block]:
    content = path.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(content):
        attributes = dict(part.split("=", 1) for part in match["attributes"].split())
        line = content.count("\n", 0, match.start("text")) + 1
        found.append(Block(path, line, match["language"], attributes, match["text"]))
    return found


def quoted_text(attributes: dict[str, str]) -> str:
    """The lines that a block with `file=` quotes."""
    lines = (ROOT / attributes["file"]).read_text(encoding="utf-8").splitlines(keepends=True)
    match = _LINES.fullmatch(attributes.get("lines", "1-"))
    assert match is not None, f"lines={attributes['lines']}: expected A-B or A-"
    return "".join(lines[int(match["first"]) - 1 : int(match["last"] or len(lines))])


def write_quotes() -> None:
    """Fill each block that quotes a file."""
    for path in DOCS:
        before = path.read_text(encoding="utf-8")
        after = _FENCE.sub(_filled, before)
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(f"written: {path.relative_to(ROOT)}")


def _filled(match: re.Match[str]) -> str:
    attributes = dict(part.split("=", 1) for part in match["attributes"].split())
    if "file" not in attributes:
        return match[0]
    return f"```{match['language']}{match['attributes']}\n{quoted_text(attributes)}```"


BLOCKS: Final = [block for path in DOCS for block in blocks_of(path)]
PYTHON: Final = [block for block in BLOCKS if block.language == "python"]
TOML: Final = [block for block in BLOCKS if block.language == "toml"]


def commands() -> list[tuple[Block, list[str]]]:
    """Each command line of a `console` block (after `$ `) or an `sh` block (every line), without its comment."""
    found = []
    for block in BLOCKS:
        for line in block.text.splitlines():
            text = line.removeprefix("$ ")
            if block.language == "sh" or (block.language == "console" and text != line):
                words = shlex.split(text, comments=True)
                if words:
                    found.append((block, words))
    return found


COMMANDS: Final = commands()


def shown(value: Block | list[str]) -> str:
    return " ".join(value) if isinstance(value, list) else str(value)


def phrases_of(module: Any) -> set[str]:
    """The constants of a module that are phrases: what it puts into a mechanism."""
    return {
        value
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str) and (" " in value or module is blame)
    }


def as_read(text: str) -> str:
    """Text as a reader sees it: a line's end is a space."""
    return " ".join(text.split())


# -- blocks -----------------------------------------------------------------------------------------------------------


def test_there_is_something_to_check() -> None:
    assert len(DOCS) > 4
    assert PYTHON
    assert COMMANDS


def test_every_fence_is_closed() -> None:
    odd = [path.name for path in DOCS if len(re.findall(r"^```", path.read_text(encoding="utf-8"), re.MULTILINE)) % 2]
    assert odd == []


@pytest.mark.parametrize("block", [block for block in PYTHON if "file" not in block.attributes], ids=str)
def test_a_python_block_runs(block: Block) -> None:
    code = compile("\n" * (block.line - 1) + block.text, str(block.path), "exec", dont_inherit=True)
    exec(code, {"__name__": "documentation"})


@pytest.mark.parametrize("block", [block for block in PYTHON if "outcome" in block.attributes], ids=str)
def test_a_documented_test_ends_as_it_says(block: Block, pytester: pytest.Pytester) -> None:
    path = pytester.makepyfile(test_documented=block.text)
    before = settings.get_current_profile_name()
    settings.register_profile("a few", max_examples=10, stateful_step_count=20, derandomize=True, deadline=None)
    settings.load_profile("a few")
    try:
        result = pytester.runpytest_inprocess("-p", "no:cacheprovider", path)
    finally:
        settings.load_profile(before)
    result.assert_outcomes(**{block.attributes["outcome"]: 1})


@pytest.mark.parametrize("block", [block for block in PYTHON if "file" in block.attributes], ids=str)
def test_a_block_that_quotes_a_file_has_its_lines(block: Block) -> None:
    assert block.text == quoted_text(block.attributes), "fill it: python tests/docs/test_docs.py --write"


@pytest.mark.parametrize("block", TOML, ids=str)
def test_a_configuration_is_accepted(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "documented.toml"
    path.write_text(block.text, encoding="utf-8")
    if block.text.startswith("# soak"):
        read_soak_file(path)
    else:
        read_stress_file(path)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_loads_as_a_version(path: Path) -> None:
    assert versions.load(str(path)).NAME


# -- commands ---------------------------------------------------------------------------------------------------------


def parsed(words: list[str]) -> tuple[str, dict[str, Any]]:
    """The subcommand and its parameters as the command line's own parser reads them; nothing is run."""
    group: Any = get_command(app)
    name, *arguments = words
    command = group.get_command(group.make_context("stressvmap", [name, *arguments]), name)
    assert command is not None, f"stressvmap has no command {name}"
    return name, command.make_context(name, list(arguments)).params


@pytest.mark.parametrize(("block", "words"), [(b, w) for b, w in COMMANDS if w[0] == "stressvmap"], ids=shown)
def test_a_documented_command_is_one(block: Block, words: list[str]) -> None:
    name, values = parsed(words[1:])
    for check in values.get("check") or ():
        assert check in CHECK_NAMES
    for workload in values.get("workload") or ():
        assert workload in WORKLOADS
    assert values.get("runtime") in (None, "threads", "controlled")
    parse_kinds(values.get("event") or ())
    if values.get("range"):
        parse_range(values["range"])
    asked = values.get("version") or ([values["show"]] if name == "versions" and values.get("show") else [])
    for version in [asked] if isinstance(asked, str) else asked:
        if not version.startswith("./"):  # a file of the reader's own
            subject.load(subject.absolute(version, ROOT))
    if values.get("config") is not None:
        assert (ROOT / values["config"]).is_file()


@pytest.mark.parametrize(("block", "words"), [(b, w) for b, w in COMMANDS if w[0] != "stressvmap"], ids=shown)
def test_a_command_that_is_not_ours_is_a_target_of_make(block: Block, words: list[str]) -> None:
    assert words[0] == "make"
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {word for word in words[1:] if "=" not in word} <= targets


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_relative_links_lead_to_a_file(path: Path) -> None:
    prose = _FENCE.sub("", path.read_text(encoding="utf-8"))
    targets = [match["target"] for match in _LINK.finditer(prose)]
    local = [target.split("#")[0] for target in targets if not re.match(r"\w+:|#", target)]
    assert [target for target in local if not (path.parent / target).exists()] == []


def test_each_check_has_its_heading_in_the_contracts_spelling() -> None:
    headings = re.findall(r"^### (.+)$", CHECKS_TEXT, re.MULTILINE)
    assert sorted(headings) == sorted(CHECK_NAMES)


def test_each_metric_and_window_is_defined() -> None:
    assert [name for name in (*METRIC_NAMES, *LOCK_METRIC_NAMES, *WINDOWS) if f"`{name}`" not in CHECKS_TEXT] == []


def test_each_phrase_of_a_mechanism_is_explained() -> None:
    text = as_read(CHECKS_TEXT)
    said: set[str] = set()
    for found in pkgutil.iter_modules(stressvmap.checks.__path__):
        said |= phrases_of(importlib.import_module(f"stressvmap.checks.{found.name}"))
    assert len(said) > 40
    assert sorted(phrase for phrase in said if phrase not in text) == []


def test_each_need_of_a_check_is_named_in_its_section() -> None:
    sections = dict(re.findall(r"^### (.+?)$(.*?)(?=^##|\Z)", CHECKS_TEXT, re.MULTILINE | re.DOTALL))
    missing = [
        f"{check.NAME}: {KIND_NAMES[kind]}"
        for check in all_checks(State())
        for kind in sorted(check.NEEDS)
        if KIND_NAMES[kind] not in sections[check.NAME]
    ]
    assert missing == []


def test_each_reference_of_a_known_breakage_is_named() -> None:
    declared: set[Known] = set()
    for version in versions.BUILT_IN.values():
        declared |= set(version.known)
    named = CHECKS_TEXT + "".join(f"docs/{target}" for target in _LINK.findall(CHECKS_TEXT))
    hashes = {reference.split()[-1] for reference in (known.reference for known in declared)}
    assert sorted(reference for reference in hashes if reference not in named) == []


def test_each_test_that_the_docs_name_is_there() -> None:
    defined: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        defined |= set(re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    named = {name for path in DOCS for name in _TEST_NAME.findall(path.read_text(encoding="utf-8"))}
    assert sorted(named - defined) == []


# -- the journal ------------------------------------------------------------------------------------------------------


def test_the_tables_of_events_are_those_of_the_schema() -> None:
    written: dict[int, tuple[str, str]] = {}
    for stream, section in re.findall(
        r"^### (Ground|Operations|Audit)$(.*?)(?=^##|\Z)", JOURNAL_TEXT, re.MULTILINE | re.DOTALL
    ):
        for number, name in re.findall(r"^\| (\d+) \| `(\w+)` \|", section, re.MULTILINE):
            written[int(number)] = (name, stream.lower())
    assert written == {kind: (name, stream_of(kind)) for kind, name in KIND_NAMES.items()}


def test_a_row_of_an_event_has_a_cell_for_each_field() -> None:
    rows = re.findall(r"^\| \d+ \| `\w+` \|.*$", JOURNAL_TEXT, re.MULTILINE)
    assert [row for row in rows if row.count("|") != 7] == []


def test_the_kinds_whose_b_is_a_number_are_those_of_the_schema() -> None:
    (sentence,) = re.findall(r"^`b` is a number in (.*), and text", JOURNAL_TEXT, re.MULTILINE)
    assert set(re.findall(r"\w+", sentence)) == {KIND_NAMES[kind] for kind in KIND_NAMES if kind not in B_IS_SYMBOL}


def test_the_checks_that_run_on_an_interval_journal_are_those_that_do() -> None:
    recording = Journal(header={}, events=[], streams=frozenset({GROUND}))
    checks: list[Check] = all_checks(State())
    able = {check.NAME for check in checks if not check.cannot_run_on(recording)}
    told = {
        row: set(re.findall(r"`([\w-]+)`", names))
        for row, names in re.findall(r"^\| (run|not run) \| (.*) \|$", JOURNAL_TEXT, re.MULTILINE)
    }
    assert told == {"run": able, "not run": set(registry.CHECK_NAMES) - able}


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python tests/docs/test_docs.py --write")
    write_quotes()


FINDINGS = sorted((ROOT / "docs/findings").glob("*.json"))


def is_of_a_tree(path: Path) -> bool:
    return is_tree(read_schedule(path).version)


@pytest.mark.parametrize("path", [path for path in FINDINGS if not is_of_a_tree(path)], ids=lambda path: path.stem)
def test_the_schedule_of_a_finding_shows_it(path: Path) -> None:
    _require_shown(path, "")


@pytest.mark.trees
@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", [path for path in FINDINGS if is_of_a_tree(path)], ids=lambda path: path.stem)
def test_the_schedule_of_a_finding_on_a_tree_shows_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = re.fullmatch(r"tree:linux-source-([\d.]+)\.tar\.xz", read_schedule(path).version)
    assert found is not None
    version = f"tree:{archive(found[1], monkeypatch)}"
    if f", {subject.load(version).NAME}\n" not in path.with_suffix(".md").read_text(encoding="utf-8"):
        pytest.skip("the story tells lines of another point release")
    _require_shown(path, version)


def _require_shown(path: Path, version: str) -> None:
    told = replay(read_schedule(path), version=version)
    assert told.journal is not None
    assert told.violation is not None
    assert "\n".join(columns(told.journal, told.violation)) in path.with_suffix(".md").read_text(encoding="utf-8")
