# SPDX-License-Identifier: GPL-2.0-only
"""`stressvmap tree`: what it prints, and that bad input is one message and exit status 2, never a traceback."""

import json
from pathlib import Path
from typing import Any

import pytest

from stressvmap.cli import main
from stressvmap.tree.compiler import default_family
from tests.tree.trees import (
    TREE,
    make_archive,
    make_patch,
    make_repository,
    make_tree,
    needs_compiler,
    needs_git,
    needs_patch,
)

pytestmark = [needs_compiler, pytest.mark.usefixtures("own_cache", "small_shim")]

PROGRESS = ("stressvmap: compiling ", "stressvmap: reading ")
Capture = pytest.CaptureFixture[str]


def refused(capsys: Capture, *arguments: str) -> tuple[str, list[str]]:
    """The message of a command that exits with 2, and the details above it; the same with --json."""
    assert main(["tree", "build", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if not line.startswith(PROGRESS)]
    *details, message = lines
    assert message.startswith("stressvmap: ")
    assert "Traceback" not in err
    told = json_of(capsys, 2, "build", *arguments)
    assert (told["verdict"], told["command"]) == ("error", "tree build")
    assert told["error"] == message.removeprefix("stressvmap: ")
    assert told.get("details", []) == details
    return told["error"], details


def json_of(capsys: Capture, status: int, *arguments: str) -> Any:
    assert main(["tree", *arguments, "--json"]) == status
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["exit_status"]) == (1, status)
    return told


def test_a_folder_that_is_no_kernel_tree_is_refused(tmp_path: Path, capsys: Capture) -> None:
    assert refused(capsys, str(tmp_path)) == (f"tree:{tmp_path}: is not a kernel tree: there is no Makefile in it", [])


def test_an_archive_that_is_cut_short_is_refused(tmp_path: Path, capsys: Capture) -> None:
    archive = make_archive(tmp_path / "linux.tar.xz")
    archive.write_bytes(archive.read_bytes()[:-200])
    message, details = refused(capsys, str(archive))
    assert "is cut short or damaged" in message
    assert details == []


@needs_git
def test_an_unknown_revision_is_refused(tmp_path: Path, capsys: Capture) -> None:
    repository = make_repository(tmp_path / "linux")
    assert refused(capsys, f"{repository}@v9")[0].endswith(f"git knows no revision 'v9' in {repository}")


@needs_patch
def test_a_hunk_that_fails_is_shown(tmp_path: Path, capsys: Capture) -> None:
    base = {"mm/vmalloc.c": TREE["mm/vmalloc.c"].replace("lazy_nr = 1;", "lazy_nr = 7;")}
    patch = make_patch(tmp_path / "my.patch", "static int vmap_lazy_nr = 7;", "static int x;", base=base)
    message, details = refused(capsys, str(make_tree(tmp_path / "linux")), "--patch", str(patch))
    assert message == (
        f"--patch {patch}: hunk 1 of 1 does not apply to mm/vmalloc.c:6: expected 'static int vmap_lazy_nr = 7;', "
        "there is 'static int vmap_lazy_nr = 1;'"
    )
    assert details[0] == "@@ -3,7 +3,7 @@"
    assert "-static int vmap_lazy_nr = 7;" in details


@needs_patch
def test_a_patch_that_calls_an_unknown_function_is_shown_where(tmp_path: Path, capsys: Capture) -> None:
    patch = make_patch(tmp_path / "my.patch", "\tlist.next = &list;", "\tlist.next = &list;\n\tvunmap_all();")
    message, details = refused(capsys, str(make_tree(tmp_path / "linux")), "--patch", str(patch))
    assert "vunmap_all (mm/vmalloc.c:13)" in message
    assert details == ["mm/vmalloc.c:13: nothing declares vunmap_all (implicit declaration of function 'vunmap_all')"]


@needs_patch
def test_a_syntax_error_is_shown_where(tmp_path: Path, capsys: Capture) -> None:
    patch = make_patch(tmp_path / "my.patch", "\tlist.next = &list;", "\tlist.next = ;")
    message, details = refused(capsys, str(make_tree(tmp_path / "linux")), "--patch", str(patch))
    assert "mm/vmalloc.c:12: expected expression" in message
    assert len(details) == 1


def test_a_header_that_does_not_exist_is_shown_where(tmp_path: Path, capsys: Capture) -> None:
    tree = make_tree(tmp_path / "linux", {"mm/vmalloc.c": TREE["mm/vmalloc.c"] + "#include <linux/none.h>\n"})
    message, _ = refused(capsys, str(tree))
    assert "linux/none.h (mm/vmalloc.c:15)" in message


@pytest.mark.parametrize("arguments", [[], ["x", "--block-bits", "7"], ["x", "--max-alloc", "0"], ["x", "--cc", "tcc"]])
def test_bad_usage_is_one_message(arguments: list[str], capsys: Capture) -> None:
    assert main(["tree", "build", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)


def test_a_tree_is_built_listed_and_removed(tmp_path: Path, capsys: Capture) -> None:
    tree = make_tree(tmp_path / "linux")
    assert main(["tree", "build", str(tree), "-q"]) == 0
    assert capsys.readouterr().out.startswith("tree-6.1.7: built in ")
    built = json_of(capsys, 0, "build", str(tree))
    assert (built["cached"], built["name"], built["options"]["block_bits"]) == (True, "tree-6.1.7", 8)
    assert Path(built["library"]).is_file()
    listed = json_of(capsys, 0, "list")
    assert [(one["digest"], one["origin"]) for one in listed["trees"]] == [(built["digest"], str(tree))]
    assert main(["tree", "list"]) == 0
    assert built["digest"][:12] in capsys.readouterr().out
    assert len(json_of(capsys, 0, "clean", "tree-6.1.7")["removed"]) == 1
    assert not Path(built["library"]).exists()
    assert main(["tree", "list"]) == 0
    assert capsys.readouterr().out.startswith("nothing in ")


@needs_patch
def test_a_patch_that_changes_nothing_under_test_is_noted(tmp_path: Path, capsys: Capture) -> None:
    header = "#error the shim stands in for this one"
    patch = make_patch(tmp_path / "my.patch", header, "/* */", "include/linux/mm.h")
    assert main(["tree", "build", str(make_tree(tmp_path / "linux")), "--patch", str(patch)]) == 0
    err = capsys.readouterr().err
    assert f"note: {patch}: changes include/linux/mm.h, which is not under test" in err
    assert f"note: {patch}: nothing under test changes" in err


def test_the_doctor_says_what_is_there(capsys: Capture) -> None:
    told = json_of(capsys, 0, "doctor")
    there = {finding["name"] for finding in told["findings"] if finding["there"]}
    assert {default_family(), "ld", "objcopy", "patch", "cache"} <= there


def test_the_doctor_names_what_is_missing_and_what_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/apt-get").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    told = json_of(capsys, 2, "doctor")
    mends = {one["name"]: one["mend"] for one in told["findings"] if one["needed"] and not one["there"]}
    assert mends["gcc"] == "apt-get install gcc"
    assert mends["objcopy"] == "apt-get install binutils"
    assert mends["cache"].startswith("export XDG_CACHE_HOME=")
    assert main(["tree", "doctor"]) == 2
    assert "MISSING  ld" in capsys.readouterr().out


@pytest.mark.parametrize("command", [[], ["build"], ["list"], ["clean"], ["doctor"], ["fetch"]])
def test_help_teaches_by_an_example(command: list[str], capsys: Capture) -> None:
    assert main(["tree", *command, "--help"]) == 0
    assert " ".join(["stressvmap", "tree", *command]) in capsys.readouterr().out


@needs_patch
def test_a_tree_is_shown_as_it_is_compiled(tmp_path: Path, capsys: Capture) -> None:
    patch = make_patch(tmp_path / "my.patch", "static int vmap_lazy_nr = 1;", "static int vmap_lazy_nr = 2;")
    version = f"tree:{make_tree(tmp_path / 'linux')}?patch={patch}"
    assert main(["versions", "--show", version]) == 0
    assert capsys.readouterr().out == TREE["mm/vmalloc.c"].replace(
        "static int vmap_lazy_nr = 1;", "static int vmap_lazy_nr = 2;"
    )
    assert main(["versions", "--show", version, "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["versions"]
    assert told["name"] == "tree-6.1.7+my"
    assert told["title"] == f"mm/vmalloc.c of Linux 6.1.7: {tmp_path}/linux, {patch}"
