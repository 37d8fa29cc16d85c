# SPDX-License-Identifier: GPL-2.0-only
"""Patches are applied as patch -p1 --fuzz=0 does, and what does not apply is shown by file, hunk and line."""

from pathlib import Path

import pytest

from stressvmap.errors import ConfigError
from stressvmap.tree.patches import apply
from tests.tree.trees import TREE, make_patch, needs_patch

FILES = {name: content.encode() for name, content in TREE.items() if name != "include/linux/mm.h"}

pytestmark = needs_patch


def test_patches_are_applied_in_their_order(tmp_path: Path) -> None:
    first = make_patch(tmp_path / "1.patch", "static int vmap_lazy_nr = 1;", "static int vmap_lazy_nr = 2;")
    base = {**TREE, "mm/vmalloc.c": TREE["mm/vmalloc.c"].replace("nr = 1;", "nr = 2;")}
    second = make_patch(
        tmp_path / "2.patch", "static int vmap_lazy_nr = 2;", "/* Two lines */\nstatic int vmap_lazy_nr = 3;", base=base
    )
    patched = apply(FILES, (first, second))
    assert b"/* Two lines */\nstatic int vmap_lazy_nr = 3;\n" in patched.files["mm/vmalloc.c"]
    assert patched.changed == {"mm/vmalloc.c"}
    assert patched.notes == ()
    assert b"nr = 1;" in FILES["mm/vmalloc.c"]
    with pytest.raises(ConfigError, match=r"2\.patch: hunk 1 of 1 does not apply"):
        apply(FILES, (second, first))


def test_a_hunk_may_have_moved_but_its_context_must_be_the_same(tmp_path: Path) -> None:
    patch = make_patch(tmp_path / "my.patch", "static int vmap_lazy_nr = 1;", "static int vmap_lazy_nr = 2;")
    moved = {**FILES, "mm/vmalloc.c": b"/* one */\n/* two */\n" + FILES["mm/vmalloc.c"]}
    assert b"nr = 2;" in apply(moved, (patch,)).files["mm/vmalloc.c"]
    other = {**FILES, "mm/vmalloc.c": FILES["mm/vmalloc.c"].replace(b'#include "internal.h"', b'#include "other.h"')}
    with pytest.raises(
        ConfigError,
        match=r"does not apply to mm/vmalloc\.c:4: expected '#include \"internal\.h\"', "
        r"there is '#include \"other\.h\"'",
    ):
        apply(other, (patch,))


def test_the_hunk_that_failed_is_named_among_several(tmp_path: Path) -> None:
    patch = tmp_path / "my.patch"
    patch.write_text(
        "--- a/mm/vmalloc.c\n+++ b/mm/vmalloc.c\n"
        "@@ -6 +6 @@\n-static int vmap_lazy_nr = 1;\n+static int vmap_lazy_nr = 2;\n"
        "@@ -12 +12 @@\n-\tlist.next = NULL;\n+\tlist.next = &list;\n"
    )
    with pytest.raises(
        ConfigError,
        match=r"hunk 2 of 2 does not apply to mm/vmalloc\.c:12: expected 'list\.next = NULL;', "
        r"there is 'list\.next = &list;'",
    ):
        apply(FILES, (patch,))


def test_a_patch_that_is_applied_already_is_said_to_be(tmp_path: Path) -> None:
    patch = make_patch(tmp_path / "my.patch", "static int vmap_lazy_nr = 1;", "static int vmap_lazy_nr = 2;")
    with pytest.raises(ConfigError, match=r"hunk 1 of 1 does not apply to mm/vmalloc\.c: it is applied already"):
        apply(FILES, (patch, patch))


def test_a_file_that_is_not_under_test_is_left_alone_and_noted(tmp_path: Path) -> None:
    patch = make_patch(tmp_path / "my.patch", "static int vmap_lazy_nr = 1;", "static int vmap_lazy_nr = 2;")
    header = make_patch(
        tmp_path / "header.patch", "#error the shim stands in for this one", "/**/", "include/linux/mm.h"
    )
    both = tmp_path / "both.patch"
    both.write_text(patch.read_text() + header.read_text())
    patched = apply(FILES, (both,))
    assert b"nr = 2;" in patched.files["mm/vmalloc.c"]
    assert patched.notes == (f"{both}: changes include/linux/mm.h, which is not under test",)
    assert apply(FILES, (header,)).notes[-1] == f"{header}: nothing under test changes"


def test_a_header_that_a_patch_adds_comes_with_it(tmp_path: Path) -> None:
    patch = tmp_path / "my.patch"
    patch.write_text("--- /dev/null\n+++ b/include/linux/new.h\n@@ -0,0 +1,2 @@\n+int one;\n+int two;\n")
    patched = apply(FILES, (patch,))
    assert patched.files["include/linux/new.h"] == b"int one;\nint two;\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("just words\n", "holds no unified diff"),
        (
            "--- a/mm/vmalloc.c\n+++ b/mm/vmalloc.c\n@@ -1,3 +1,3 @@\n one\n",
            ":5: the hunk that begins at line 3 is cut",
        ),
        (
            "--- a/mm/vmalloc.c\n+++ b/mm/vmalloc.c\n@@ -1,3 +1,3 @@\n one\n*two\n",
            ":5: the hunk that begins at",
        ),
        ("--- a/mm/vmalloc.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n", "removes mm/vmalloc.c, without which"),
        ("--- a/mm/vmalloc.c\n+++ b/mm/v.c\n@@ -1 +1 @@\n-x\n+y\n", "renames mm/vmalloc.c"),
        ("--- /dev/null\n+++ b/mm/vmalloc.c\n@@ -0,0 +1 @@\n+y\n", "adds mm/vmalloc.c, which is there already"),
        ("--- mm/vmalloc.c\n+++ mm/vmalloc.c\n@@ -1 +1 @@\n-x\n+y\n", "its paths have no leading a/ and b/"),
    ],
)
def test_what_is_no_patch_of_ours_is_refused(tmp_path: Path, text: str, told: str) -> None:
    patch = tmp_path / "my.patch"
    patch.write_text(text)
    with pytest.raises(ConfigError, match=f"^--patch {patch}.*{told}"):
        apply(FILES, (patch,))


def test_a_patch_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.patch: cannot be read: No such file"):
        apply(FILES, (tmp_path / "nothing.patch",))


def test_a_file_without_a_newline_at_its_end_can_be_patched(tmp_path: Path) -> None:
    patch = tmp_path / "my.patch"
    patch.write_text(
        "--- a/lib/llist.c\n+++ b/lib/llist.c\n@@ -1 +1 @@\n-old\n\\ No newline at end of file\n+new\n"
        "\\ No newline at end of file\n--- a/lib/rbtree.c\n+++ b/lib/rbtree.c\n@@ -1 +1,2 @@\n old\n+new\n"
    )
    patched = apply({"lib/llist.c": b"old", "lib/rbtree.c": b"old\n"}, (patch,))
    assert patched.files == {"lib/llist.c": b"new", "lib/rbtree.c": b"old\nnew\n"}
