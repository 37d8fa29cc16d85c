# SPDX-License-Identifier: GPL-2.0-only
"""configs/patches: each file is a patch that applies, says what it is for, and is in an index that says the same.

The kernel sources are looked for in the folder that STRESSVMAP_TREES names (with linux-6.1 and linux-6.12 in it), then
in the cache, as `make trees` leaves them. The tests marked `trees` are skipped where there are none.
"""

import os
import re
import subprocess
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from stressvmap.checks.registry import CHECK_NAMES, EFFICIENCY_NAMES
from stressvmap.tree.sources import read_sources

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / "configs" / "patches"
PATCHES: Final = sorted(FOLDER.rglob("*.patch"))
TREES: Final = ("6.1", "6.12")
FILES_UNDER_TEST: Final = {"mm/vmalloc": "mm/vmalloc.c", "xarray": "lib/xarray.c"}
"""By the subsystem that a subject names."""
HEADER_COLUMNS_MAX: Final = 75
CONTEXT_LINES: Final = 3
HUNK: Final = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
TRAILER: Final = re.compile(r"(Tree|Row|Must-show|Expected|Equivalent): (.+)")


@dataclass(frozen=True)
class Patch:
    """A patch file, taken apart."""

    subject: str
    body: str
    trailers: dict[str, str]
    old: str
    new: str
    hunks: tuple[tuple[str, ...], ...]
    """With the @@ line first."""


def name_of(path: Path) -> str:
    return path.relative_to(FOLDER).as_posix()


@cache
def parsed(path: Path) -> Patch:
    header, rest = path.read_text(encoding="utf-8").split("\n---\n", 1)
    diff = rest.split("\n\n", 1)[1].removesuffix("\n").split("\n")
    subject, _, said = header.partition("\n\n")
    body, _, ending = said.rpartition("\n\n")
    trailers = {}
    for line in ending.split("\n"):
        match = TRAILER.fullmatch(line)
        assert match, f"{path.name}: {line!r} is no trailer"
        trailers[match[1]] = match[2]
    starts = [at for at, line in enumerate(diff) if HUNK.match(line)]
    assert starts[0] == 2, f"{path.name}: the diff begins with more than two lines"
    hunks = tuple(tuple(diff[at:end]) for at, end in zip(starts, [*starts[1:], len(diff)], strict=True))
    return Patch(subject, body, trailers, diff[0], diff[1], hunks)


def indexed() -> dict[str, dict[str, Any]]:
    """Every entry of both indexes, by the file's name from configs/patches."""
    plain = tomllib.loads((FOLDER / "index.toml").read_text(encoding="utf-8"))["patch"]
    mutants = tomllib.loads((FOLDER / "mutants" / "index.toml").read_text(encoding="utf-8"))["mutant"]
    named = [(entry["file"], entry) for entry in plain] + [(f"mutants/{entry['file']}", entry) for entry in mutants]
    assert len(named) == len({name for name, _ in named}), "a file is listed twice"
    return dict(named)


def checks_of(entry: dict[str, Any]) -> list[str]:
    """What must fire on the patched tree, at least one of them; none: nothing may."""
    checks: list[str] = entry["must_show"] if "must_show" in entry else entry["expected"]
    return checks


ENTRIES: Final = indexed()
MUTANTS: Final = {name: entry for name, entry in ENTRIES.items() if name.startswith("mutants/")}

each_patch = pytest.mark.parametrize("path", PATCHES, ids=name_of)


# -- the files ---------------------------------------------------------------------------------------------


@each_patch
def test_a_patch_is_a_unified_diff_whose_hunks_add_up(path: Path) -> None:
    shift = 0
    for hunk in parsed(path).hunks:
        match = HUNK.match(hunk[0])
        assert match
        old_start, old_count, new_start, new_count = (int(group or 1) for group in match.groups())
        kinds = [line[:1] for line in hunk[1:]]
        assert set(kinds) <= {" ", "+", "-"}, hunk[0]
        assert kinds.count(" ") + kinds.count("-") == old_count, hunk[0]
        assert kinds.count(" ") + kinds.count("+") == new_count, hunk[0]
        assert new_start == old_start + shift, hunk[0]
        assert kinds[:CONTEXT_LINES] == kinds[-CONTEXT_LINES:] == [" "] * CONTEXT_LINES, hunk[0]
        shift += new_count - old_count


@each_patch
def test_a_patch_touches_the_file_that_its_subject_is_about_alone(path: Path) -> None:
    patch = parsed(path)
    file = FILES_UNDER_TEST[patch.subject.removeprefix("Subject: [PATCH] ").partition(":")[0]]
    assert (patch.old, patch.new) == (f"--- a/{file}", f"+++ b/{file}")
    assert not any(line.startswith(("--- ", "+++ ", "diff ")) for hunk in patch.hunks for line in hunk)


@each_patch
def test_a_header_is_a_commit_message_that_says_what_happens(path: Path) -> None:
    patch = parsed(path)
    assert re.fullmatch(rf"Subject: \[PATCH\] ({'|'.join(FILES_UNDER_TEST)}): [^\n]*[^\n.]", patch.subject)
    assert len(patch.body) > 80
    assert [line for line in patch.body.split("\n") if len(line) > HEADER_COLUMNS_MAX] == []


@each_patch
def test_a_patch_added_line_has_no_blank_at_its_end(path: Path) -> None:
    added = [line for hunk in parsed(path).hunks for line in hunk if line.startswith("+")]
    assert [line for line in added if line != line.rstrip()] == []


# -- the indexes -------------------------------------------------------------------------------------------


def test_the_indexes_list_every_patch_and_nothing_else() -> None:
    assert sorted(ENTRIES) == [name_of(path) for path in PATCHES]


@each_patch
def test_a_header_says_what_its_index_says(path: Path) -> None:
    entry, trailers = ENTRIES[name_of(path)], parsed(path).trailers
    said = {"Tree": entry["tree"]}
    if "row" in entry:
        said["Row"] = str(entry["row"])
    if "must_show" in entry:
        said["Must-show"] = ", ".join(entry["must_show"]) or "nothing new"
    elif entry["equivalent"]:
        said["Equivalent"] = "yes"
    else:
        said["Expected"] = ", ".join(entry["expected"])
    assert trailers == said


def test_a_patch_is_filed_under_its_tree() -> None:
    for name, entry in ENTRIES.items():
        assert entry["tree"] in TREES
        assert re.findall(r"(?:/|-on-)(6\.\d+)(?:/|\.patch)", name) == [entry["tree"]], name


def test_what_must_fire_are_checks_of_the_contract() -> None:
    for name, entry in ENTRIES.items():
        assert set(checks_of(entry)) <= set(CHECK_NAMES), name


def test_a_patch_that_shows_an_efficiency_check_says_that_it_needs_a_limit() -> None:
    for name, entry in ENTRIES.items():
        limited = set(checks_of(entry)) & set(EFFICIENCY_NAMES)
        assert entry.get("needs", "") == "".join(f"limits.{check}" for check in limited), name


def test_only_a_revert_has_a_row_and_each_of_the_five_is_there() -> None:
    rows = {(entry["row"], entry["tree"]) for entry in ENTRIES.values() if entry.get("kind") == "revert"}
    assert rows == {(28, "6.1"), (36, "6.12"), (38, "6.12"), (42, "6.12"), (44, "6.12")}
    assert [name for name, entry in ENTRIES.items() if "row" in entry and entry.get("kind") != "revert"] == []


def test_a_mutant_is_killed_by_some_check_or_argued_to_be_equivalent() -> None:
    for name, entry in MUTANTS.items():
        assert bool(entry["expected"]) is not entry["equivalent"], name
        assert bool(entry.get("reason")) is entry["equivalent"], name


def test_each_tree_has_three_neutral_patches_and_twenty_mutants_that_can_be_killed() -> None:
    for tree in TREES:
        neutral = [entry for entry in ENTRIES.values() if entry.get("kind") == "neutral" and entry["tree"] == tree]
        killable = [entry for entry in MUTANTS.values() if not entry["equivalent"] and entry["tree"] == tree]
        assert len(neutral) >= 3
        assert len(killable) >= 20


def test_no_two_patches_of_a_tree_make_the_same_change() -> None:
    seen: dict[tuple[str, tuple[tuple[str, ...], ...]], str] = {}
    for path in PATCHES:
        key = (ENTRIES[name_of(path)]["tree"], parsed(path).hunks)
        assert key not in seen, f"{name_of(path)} and {seen[key]}"
        seen[key] = name_of(path)


def test_the_readme_names_every_patch() -> None:
    linked = re.findall(r"\]\(([^)]+\.patch)\)", (FOLDER / "README.md").read_text(encoding="utf-8"))
    assert sorted(set(linked)) == sorted(ENTRIES)


# -- on the trees ------------------------------------------------------------------------------------------


def sources_of(tree: str) -> Path | None:
    """The folder or archive of a kernel tree, if one is at hand."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    candidates = [Path(home) / "stressvmap" / "sources" / f"linux-source-{tree}.tar.xz"]
    if own := os.environ.get("STRESSVMAP_TREES"):
        candidates.insert(0, Path(own) / f"linux-{tree}")
    return next((candidate for candidate in candidates if candidate.exists()), None)


@cache
def files_of(tree: str) -> dict[str, bytes]:
    """The files under test of a tree."""
    source = sources_of(tree)
    if source is None:
        pytest.skip(
            f"no linux-{tree} in $STRESSVMAP_TREES and no linux-source-{tree}.tar.xz in the cache: `make trees`"
        )
    files = read_sources(str(source), lambda line: None).files
    return {name: files[name] for name in FILES_UNDER_TEST.values()}


@pytest.mark.trees
@pytest.mark.parametrize("tree", TREES)
def test_each_patch_of_a_tree_applies_without_fuzz_to_whichever_point_release_is_there(
    tree: str, tmp_path: Path
) -> None:
    for name, content in files_of(tree).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    of_tree = [path for path in PATCHES if ENTRIES[name_of(path)]["tree"] == tree]
    said = {name_of(path): dry_run(path, tmp_path) for path in of_tree}
    assert len(said) > 20
    assert {name: told for name, told in said.items() if told[0] or "fuzz" in told[1]} == {}
    assert all(f"checking file {parsed(path).new[6:]}\n" in said[name_of(path)][1] for path in of_tree)


def dry_run(patch: Path, tree: Path) -> tuple[int, str]:
    command = ["patch", "-p1", "--fuzz=0", "--dry-run", "--batch", f"--input={patch}"]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr
