# SPDX-License-Identifier: GPL-2.0-only
"""A kernel tree is a folder, an archive or a git revision; it is only read, and an archive only once."""

import os
import tarfile
from pathlib import Path

import pytest

from stressvmap.errors import ConfigError
from stressvmap.tree.sources import read_sources, split_revision
from tests.tree.trees import TREE, make_archive, make_repository, make_tree, needs_git


def silent(_line: str) -> None:
    pass


def state_of(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.rglob("*"))}


def test_a_folder_is_read_as_it_is(own_cache: Path, tmp_path: Path) -> None:
    sources = read_sources(str(make_tree(tmp_path / "linux")), silent)
    assert sources.release == "6.1.7"
    assert sources.files["mm/vmalloc.c"].decode() == TREE["mm/vmalloc.c"]
    assert "include/linux/list.h" in sources.files
    assert "include/linux/mm.h" not in sources.files
    assert sources.has_header("linux/mm.h")
    assert not sources.has_header("linux/nn.h")


@pytest.mark.parametrize(
    ("path", "included"),
    [
        ("include/uapi/linux/limits.h", "linux/limits.h"),
        ("arch/x86/include/asm/tlbflush.h", "asm/tlbflush.h"),
        ("include/asm-generic/shmparam.h", "asm/shmparam.h"),
    ],
)
def test_headers_are_looked_for_where_a_kernels_build_does(
    own_cache: Path, tmp_path: Path, path: str, included: str
) -> None:
    changes = {path: "int there;\n"}
    for place in (
        make_tree(tmp_path / "linux", changes),
        make_archive(tmp_path / "linux.tar.xz", files={**TREE, **changes}),
    ):
        sources = read_sources(str(place), silent)
        assert sources.has_header(included)
        assert not sources.has_header("asm/none.h")
        assert sources.has_header("generated/autoconf.h")


def test_the_tree_is_never_written_to(own_cache: Path, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "linux")
    before = state_of(tree)
    read_sources(str(tree), silent)
    assert state_of(tree) == before


def test_a_release_candidate_is_named_so(own_cache: Path, tmp_path: Path) -> None:
    changes = {"Makefile": "VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 0\nEXTRAVERSION = -rc3\n"}
    assert read_sources(str(make_tree(tmp_path / "linux", changes)), silent).release == "6.12.0-rc3"


@pytest.mark.parametrize("top", ["linux-6.1.7/", "./linux-6.1.7/", "", "./"])
def test_an_archive_may_have_one_folder_on_top_or_none(own_cache: Path, tmp_path: Path, top: str) -> None:
    tools = {"tools/include/linux/list.h": "another one\n", "tools/mm/vmalloc.c": "another one\n"}
    archive = make_archive(tmp_path / "linux.tar.xz", top, {**tools, **TREE, "tools/Makefile": ""})
    sources = read_sources(str(archive), silent)
    assert sources.files["include/linux/list.h"].decode() == TREE["include/linux/list.h"]
    assert sources.files["mm/vmalloc.c"].decode() == TREE["mm/vmalloc.c"]
    assert sources.has_header("linux/mm.h")


def test_an_archive_is_decompressed_once(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_archive(tmp_path / "linux.tar.xz")
    said: list[str] = []
    first = read_sources(str(archive), said.append)
    assert len(said) == 1
    monkeypatch.setattr(tarfile, "open", None)
    second = read_sources(str(archive), said.append)
    assert len(said) == 1
    assert dict(second.files) == dict(first.files)
    assert second.has_header("linux/mm.h")
    assert not second.has_header("linux/nn.h")


def test_an_archive_that_changed_is_read_again(own_cache: Path, tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "linux.tar.xz")
    stat = archive.stat()
    read_sources(str(archive), silent)
    make_archive(archive, files={**TREE, "Makefile": TREE["Makefile"].replace("= 7", "= 8")})
    os.utime(archive, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert read_sources(str(archive), silent).release == "6.1.8"


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_an_archive_that_is_cut_short_is_refused(own_cache: Path, tmp_path: Path, share: float) -> None:
    noise = {f"drivers/{number}.c": os.urandom(4096).hex() for number in range(40)}
    archive = make_archive(tmp_path / "linux.tar.xz", files={**TREE, **noise})
    content = archive.read_bytes()
    archive.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ConfigError, match=r"linux\.tar\.xz: is cut short or damaged .*; fetch it again"):
        read_sources(str(archive), silent)
    assert not own_cache.exists()


def test_what_is_no_kernel_tree_is_named_so(own_cache: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("not an archive")
    no_lib = make_tree(tmp_path / "no-lib")
    (no_lib / "lib/xarray.c").unlink()
    other = make_archive(tmp_path / "other.tar.xz", files={"README": "something else"})
    for path, told in (
        (tmp_path / "empty", "is not a kernel tree: there is no Makefile in it"),
        (tmp_path / "text", "is not a kernel tree: neither a folder nor a tar archive"),
        (tmp_path / "nothing", "there is no such folder or file"),
        (no_lib, r"is not a kernel tree: there is no lib/xarray\.c in it"),
        (other, "is not a kernel tree: there is no Makefile in it"),
        (make_tree(tmp_path / "other", {"Makefile": "all:\n"}), "its Makefile names no VERSION and PATCHLEVEL"),
    ):
        with pytest.raises(ConfigError, match=f"^tree:{path}: .*{told}"):
            read_sources(str(path), silent)


@needs_git
def test_a_revision_is_read_out_of_git_whatever_the_work_tree_holds(own_cache: Path, tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "linux")
    sources = read_sources(f"{repository}@v1", silent)
    assert sources.files["mm/vmalloc.c"].decode() == TREE["mm/vmalloc.c"]
    assert sources.has_header("linux/mm.h")
    assert read_sources(str(repository), silent).files["mm/vmalloc.c"] == b"changed\n"


@needs_git
@pytest.mark.parametrize("revision", ["v2", "", "--help", "v1:mm/vmalloc.c"])
def test_an_unknown_revision_is_named(own_cache: Path, tmp_path: Path, revision: str) -> None:
    repository = make_repository(tmp_path / "linux")
    with pytest.raises(ConfigError, match=f"git knows no revision '{revision}'"):
        read_sources(f"{repository}@{revision}", silent)


@needs_git
def test_a_revision_of_a_folder_that_is_no_repository_is_refused(own_cache: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a git work tree, so it has no revision 'v1'"):
        read_sources(f"{make_tree(tmp_path / 'linux')}@v1", silent)


def test_a_path_with_an_at_sign_that_exists_has_no_revision(tmp_path: Path) -> None:
    (tmp_path / "a@b").mkdir()
    assert split_revision(f"{tmp_path}/a@b") == (tmp_path / "a@b", None)
    assert split_revision(f"{tmp_path}/a@b@HEAD@{{1}}") == (tmp_path / "a@b", "HEAD@{1}")
