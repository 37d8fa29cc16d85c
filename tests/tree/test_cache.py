# SPDX-License-Identifier: GPL-2.0-only
"""A cache entry appears whole or not at all, and only what was built is ever taken for it."""

import json
import os
from pathlib import Path

import pytest

from stressvmap.errors import ConfigError
from stressvmap.tree import cache

DIGEST = "a" * 64


def make_entry(digest: str = DIGEST, name: str = "tree-6.1.7") -> Path:
    content = b"a library"
    build = {
        "schema": cache.SCHEMA,
        "digest": digest,
        "name": name,
        "release": "6.1.7",
        "notes": [],
    }
    entry = cache.trees() / digest
    with cache.making(entry) as folder:
        (folder / cache.LIBRARY).write_bytes(content)
        build["library_sha256"] = cache.sha256_of(folder / cache.LIBRARY)
        (folder / cache.BUILD_FILE).write_text(json.dumps(build))
    return entry


def test_an_entry_is_found_by_its_digest(own_cache: Path) -> None:
    assert cache.find(DIGEST) is None
    entry = make_entry()
    built = cache.find(DIGEST)
    assert built is not None
    assert (built.library, built.name, built.release) == (entry / "library.so", "tree-6.1.7", "6.1.7")
    assert entry.parent == own_cache / "trees"


def test_an_entry_that_fails_while_it_is_made_leaves_nothing(own_cache: Path) -> None:
    def fail() -> None:
        with cache.making(cache.trees() / DIGEST) as folder:
            (folder / cache.LIBRARY).write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(cache.trees().iterdir()) == []


def test_of_two_that_make_one_entry_at_once_the_first_stays(own_cache: Path) -> None:
    with cache.making(cache.trees() / DIGEST) as second:
        make_entry()
        (second / cache.LIBRARY).write_bytes(b"the second's")
    built = cache.find(DIGEST)
    assert built is not None
    assert built.library.read_bytes() == b"a library"
    assert [path.name for path in cache.trees().iterdir()] == [DIGEST]


@pytest.mark.parametrize("name", [cache.LIBRARY, cache.BUILD_FILE])
@pytest.mark.parametrize("content", [None, b"", b"{}"])
def test_a_damaged_entry_is_none_and_is_removed(own_cache: Path, name: str, content: bytes | None) -> None:
    path = make_entry() / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    assert cache.built_trees() == []
    assert cache.find(DIGEST) is None
    assert not path.parent.exists()


def test_clean_removes_what_is_named_by_digest_or_name(own_cache: Path) -> None:
    make_entry()
    make_entry("b" * 64, "tree-6.1.7+my")
    make_entry("c" * 64, "tree-6.12.1")
    with pytest.raises(ConfigError, match="c: no built tree"):
        cache.clean(("c",))
    with pytest.raises(ConfigError, match="nothing: no built tree has this name or digest"):
        cache.clean(("tree-6.12.1", "nothing"))
    assert [path.name for path, _size in cache.clean(("tree-6.1.7", "cccccc"))] == [DIGEST, "c" * 64]
    assert [built.name for built in cache.built_trees()] == ["tree-6.1.7+my"]
    assert [path.name for path, _size in cache.clean()] == ["b" * 64]
    assert cache.clean() == []


def test_clean_leaves_the_scratch_folder_of_a_build_under_way(own_cache: Path) -> None:
    with cache.making(cache.trees() / DIGEST) as scratch:
        assert cache.clean() == []
        os.utime(scratch, (1, 1))
        assert [path for path, _size in cache.clean()] == [scratch]
        scratch.mkdir()


def test_clean_leaves_sources_unless_told(own_cache: Path) -> None:
    cache.extractions().mkdir(parents=True)
    archive = cache.sources() / "linux-source-6.1.tar.xz"
    archive.write_bytes(b"12345")
    assert cache.clean() == []
    assert (archive, 5) in cache.clean(with_sources=True)
    assert not cache.extractions().exists()


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="cannot be written: Not a directory; set XDG_CACHE_HOME"):
        make_entry()


def test_a_relative_cache_home_is_ignored_as_the_standard_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.folder() == tmp_path / ".cache" / "stressvmap"


def test_a_kept_object_is_the_one_that_was_kept_or_none(own_cache: Path) -> None:
    assert cache.kept_object("key") is None
    cache.keep_object("key", b"object")
    assert cache.kept_object("key") == b"object"
    (path,) = (cache.objects() / "key").iterdir()
    path.write_bytes(b"damaged")
    assert cache.kept_object("key") is None
    cache.keep_object("key", b"object")
    assert cache.kept_object("key") == b"object"
    assert cache.clean() == [(cache.objects(), len(b"object"))]
    assert cache.kept_object("key") is None
