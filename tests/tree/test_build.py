# SPDX-License-Identifier: GPL-2.0-only
"""A build is a function of what it is made of, and one that fails tells all that is missing, with file and line."""

import ctypes
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stressvmap.errors import BuildError, ConfigError
from stressvmap.tree import cache, compiler, recipe
from stressvmap.tree.build import TreeSpec, build, plan
from stressvmap.tree.compiler import Complaint, complaints, default_family
from stressvmap.tree.options import BuildOptions
from tests.tree.trees import SPDX, TREE, make_archive, make_patch, make_tree, needs_compiler, needs_patch

pytestmark = [needs_compiler, pytest.mark.usefixtures("own_cache", "small_shim")]


def spec_of(tree: Path, *patches: Path, block_bits: int = 8) -> TreeSpec:
    return TreeSpec.parse(f"tree:{tree}", patches, BuildOptions(block_bits=block_bits))


def error_of(tree: Path, *patches: Path) -> BuildError:
    with pytest.raises(BuildError) as caught:
        build(spec_of(tree, *patches))
    assert list(cache.trees().iterdir()) == []
    return caught.value


def test_the_library_of_a_tree_can_be_loaded_and_called(tmp_path: Path) -> None:
    built = build(spec_of(make_tree(tmp_path / "linux")))
    assert ctypes.CDLL(str(built.library)).sv_run() == 44
    assert (built.name, built.release, built.notes) == ("tree-6.1.7", "6.1.7", ())
    assert (built.source / "mm/vmalloc.c").read_text() == TREE["mm/vmalloc.c"]
    assert sorted(built.build["files"]) == sorted(
        ["include/linux/list.h", "lib/llist.c", "lib/rbtree.c", "lib/xarray.c", "mm/vmalloc.c"]
    )
    assert built.build["empty_headers"] == ["linux/mm.h"]


def test_what_was_built_is_taken_from_the_cache(tmp_path: Path) -> None:
    spec = spec_of(make_tree(tmp_path / "linux"))
    said: list[str] = []
    first = build(spec, said.append)
    assert build(spec, said.append) == first
    assert said == ["compiling tree-6.1.7"]


def test_a_library_that_was_tampered_with_is_built_again(tmp_path: Path) -> None:
    spec = spec_of(make_tree(tmp_path / "linux"))
    library = build(spec).library
    content = library.read_bytes()
    library.write_bytes(b"something else")
    assert build(spec).library.read_bytes() == content


def test_equal_sources_give_equal_bytes_in_whatever_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build(spec_of(make_tree(tmp_path / "linux")))
    content = first.library.read_bytes()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another/cache, farther away"))
    second = build(spec_of(make_archive(tmp_path / "linux.tar.xz")))
    assert second.folder != first.folder
    assert (second.digest, second.library.read_bytes()) == (first.digest, content)
    assert str(tmp_path).encode() not in content


@needs_patch
def test_all_that_a_build_is_made_of_decides_its_digest(tmp_path: Path, small_shim: Path) -> None:
    tree = make_tree(tmp_path / "linux")
    patch = make_patch(tmp_path / "my.patch", "static int vmap_lazy_nr = 1;", "static int vmap_lazy_nr = 2;")
    digests = [plan(spec).digest for spec in (spec_of(tree), spec_of(tree, patch), spec_of(tree, block_bits=16))]
    for place, text in (
        (tree / "lib/llist.c", "int changed;\n"),
        (small_shim / "shim.c", "int changed;\n"),
        (small_shim / "engine/engine.c", "int changed;\n"),
    ):
        place.write_text(SPDX + text)
        digests.append(plan(spec_of(tree)).digest)
    assert len(set(digests)) == len(digests)
    (tree / "mm/slab.h").write_text("not used\n")
    assert plan(spec_of(tree)).digest == digests[-1]


@needs_patch
def test_a_patch_is_compiled_and_named(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "linux")
    patch = make_patch(tmp_path / "my fix.patch", "static int vmap_lazy_nr = 1;", "static int vmap_lazy_nr = 2;")
    built = build(spec_of(tree, patch))
    assert built.name == "tree-6.1.7+my-fix"
    assert ctypes.CDLL(str(built.library)).sv_run() == 45
    assert (tree / "mm/vmalloc.c").read_text() == TREE["mm/vmalloc.c"]


@needs_patch
def test_a_header_of_the_trees_own_that_a_patch_brings_is_used(tmp_path: Path) -> None:
    patch = make_patch(tmp_path / "my.patch", '#include "internal.h"', '#include "internal.h"\n#include <linux/new.h>')
    added = "--- /dev/null\n+++ b/include/linux/new.h\n@@ -0,0 +1 @@\n+#define vmap_lazy_nr vmap_lazy_nr_renamed\n"
    patch.write_text(added + patch.read_text())
    assert "include/linux/new.h" in build(spec_of(make_tree(tmp_path / "linux"), patch)).build["files"]


def test_all_missing_names_are_told_at_once_with_file_and_line(tmp_path: Path) -> None:
    changes = {
        "mm/vmalloc.c": TREE["mm/vmalloc.c"] + "int a(void) { return first_one(1) + SECOND_ONE; }\nthird_one_t b;\n"
        "int c(void) { return first_one(2); }\n",
        "lib/llist.c": TREE["lib/llist.c"] + "#include <linux/gone.h>\nint d(void) { return fourth_one(); }\n",
    }
    error = error_of(make_tree(tmp_path / "linux", changes))
    places = [detail.split(" ", 1)[0] for detail in error.details[:5]]
    assert places == ["lib/llist.c:3:", "lib/llist.c:4:", "mm/vmalloc.c:15:", "mm/vmalloc.c:15:", "mm/vmalloc.c:16:"]
    for name in ("first_one", "SECOND_ONE", "third_one_t", "fourth_one", "linux/gone.h"):
        assert sum(name in detail for detail in error.details) == 1
        assert name in str(error)
    assert "\n" not in str(error)


@needs_patch
def test_an_unknown_function_of_a_patch_is_named_at_its_line_of_the_patched_file(tmp_path: Path) -> None:
    patch = make_patch(
        tmp_path / "my.patch",
        "static int vmap_lazy_nr = 1;",
        "\n\nstatic int vmap_lazy_nr = 1;\nint e(void) { return unheard(); }",
    )
    error = error_of(make_tree(tmp_path / "linux"), patch)
    assert str(error).startswith(
        "tree-6.1.7+my cannot be built, 1 name that nothing declares or defines: unheard (mm/vmalloc.c:9)"
    )


@needs_patch
def test_a_syntax_error_of_a_patch_is_the_compilers_with_its_line(tmp_path: Path) -> None:
    patch = make_patch(tmp_path / "my.patch", "\tlist.next = &list;", "\tlist.next = &list")
    error = error_of(make_tree(tmp_path / "linux"), patch)
    said = "expected ';' before 'return'" if default_family() == "gcc" else "expected ';' after expression"
    assert str(error) == f"tree-6.1.7+my cannot be built, 1 error: mm/vmalloc.c:12: {said}"


def test_a_function_that_is_declared_and_nowhere_defined_is_named_by_who_calls_it(tmp_path: Path) -> None:
    changes = {"mm/vmalloc.c": TREE["mm/vmalloc.c"] + "int nowhere(int);\nint f(void)\n{\n\treturn nowhere(1);\n}\n"}
    error = error_of(make_tree(tmp_path / "linux", changes))
    assert error.details == ("mm/vmalloc.c:18: nothing defines nowhere",)


def test_what_the_compiler_warns_of_is_noted(tmp_path: Path) -> None:
    changes = {"mm/vmalloc.c": TREE["mm/vmalloc.c"] + "int g(int a)\n{\n\tif (a = 1)\n\t\treturn 2;\n\treturn 3;\n}\n"}
    built = build(spec_of(make_tree(tmp_path / "linux", changes)))
    (note,) = built.notes
    assert note.startswith("the compiler warns of 1 thing (build.log): mm/vmalloc.c:17:")
    assert "mm/vmalloc.c:17:" in (built.folder / cache.LOG_FILE).read_text()


@needs_patch
def test_objects_of_shim_and_engine_are_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = make_tree(tmp_path / "linux")
    build(spec_of(tree))
    compiled: list[str] = []

    def note(command: Sequence[str], folder: Path) -> tuple[int, str]:
        if "-c" in command:
            compiled.append(command[command.index("-c") + 1])
        return compiler.run(command, folder)

    monkeypatch.setattr(recipe, "run", note)
    patch = make_patch(tmp_path / "my.patch", "static int vmap_lazy_nr = 1;", "static int vmap_lazy_nr = 2;")
    with_objects = build(spec_of(tree, patch)).library.read_bytes()
    assert sorted(compiled) == ["lib/llist.c", "lib/rbtree.c", "lib/xarray.c", "mm/sv_unit.c"]
    cache.clean()
    assert build(spec_of(tree, patch)).library.read_bytes() == with_objects


def test_the_hosts_headers_are_never_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPATH", "/usr/include")
    monkeypatch.setenv("C_INCLUDE_PATH", "/usr/include")
    changes = {"mm/vmalloc.c": TREE["mm/vmalloc.c"] + "#include <stdio.h>\n#include <linux/limits.h>\n"}
    error = error_of(make_tree(tmp_path / "linux", changes))
    assert error.details == (
        "mm/vmalloc.c:15: there is no header <stdio.h>, neither in the tree nor in the shim",
        "mm/vmalloc.c:16: there is no header <linux/limits.h>, neither in the tree nor in the shim",
    )


def test_an_error_in_the_shim_is_named_as_the_shims(tmp_path: Path, small_shim: Path) -> None:
    (small_shim / "shim.c").write_text(SPDX + "int known(int pages) { return pages }\n")
    error = error_of(make_tree(tmp_path / "linux"))
    assert error.details[0].startswith("stressvmap/tree/shim/shim.c:2: expected ';'")


def test_a_build_that_fails_does_not_leave_the_one_before(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "linux")
    good = build(spec_of(tree))
    (tree / "mm/vmalloc.c").write_text("int broken(\n")
    with pytest.raises(BuildError):
        build(spec_of(tree))
    assert [built.digest for built in cache.built_trees()] == [good.digest]


def test_two_builds_at_once_of_one_tree_give_one_entry(tmp_path: Path) -> None:
    spec = spec_of(make_tree(tmp_path / "linux"))
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(build, [spec, spec])
    assert first == second
    assert [path.name for path in cache.trees().iterdir()] == [first.digest]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (BuildOptions(block_bits=12), "--block-bits 12: must be a power of two"),
        (BuildOptions(block_bits=2048), "--block-bits 2048: must be a power of two from 4 to 1024"),
        (BuildOptions(max_alloc=8), "--block-bits 8: is less than 2 \\* max_alloc"),
        (BuildOptions(page_shift=23), "--page-shift 23: must be 12 to 22"),
        (BuildOptions(cpus=0), "--cpus 0: must be 1 to 256"),
        (BuildOptions(cc="tcc"), "--cc tcc: is not one of gcc, clang"),
    ],
)
def test_options_that_no_kernel_could_have_are_refused(options: BuildOptions, told: str) -> None:
    with pytest.raises(ConfigError, match=f"^{told}"):
        TreeSpec.parse("tree:linux", (), options)


@pytest.mark.parametrize("cpus", [1, 4, 5, 64, 256])
@pytest.mark.parametrize("block_bits", [4, 8, 64, 1024])
def test_nr_cpus_makes_blocks_of_the_size_asked_for(cpus: int, block_bits: int) -> None:
    options = BuildOptions(cpus=cpus, block_bits=block_bits).resolved()
    pages = (128 << 30) >> options.page_shift
    assert pages // options.nr_cpus // 16 == block_bits
    assert options.nr_cpus >= cpus


def test_an_empty_path_names_no_tree() -> None:
    with pytest.raises(ConfigError, match="names no kernel tree"):
        TreeSpec.parse("tree:")


def test_a_compiler_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="--cc clang: there is no clang here"):
        plan(TreeSpec.parse(str(make_tree(tmp_path / "linux")), (), BuildOptions(cc="clang")))


@pytest.mark.parametrize(
    ("there", "taken"), [(("gcc", "clang"), "gcc"), (("gcc-12", "clang"), "gcc"), (("clang-14",), "clang"), ((), "gcc")]
)
def test_without_a_word_gcc_compiles_or_clang_where_that_is_all_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: Sequence[str], taken: str
) -> None:
    for name in there:
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert BuildOptions().resolved().cc == taken
    assert BuildOptions(cc="clang").resolved().cc == "clang"


def test_complaints_of_clang_are_understood_as_those_of_gcc() -> None:
    said = (
        "mm/vmalloc.c:10:2: error: call to undeclared function 'first_one'; ISO C99 and later do not support implicit\n"
        "mm/vmalloc.c:9:2: error: use of undeclared identifier 'SECOND_ONE'\n"
        "mm/vmalloc.c:11:1: error: unknown type name 'third_t'\n"
        "mm/vmalloc.c:12:1: error: use of undeclared identifier 'SECOND_ONE'\n"
        "mm/vmalloc.c:12:1: warning: unused variable 'x'\n"
    )
    assert [(one.line, one.name) for one in complaints(said)] == [(9, "SECOND_ONE"), (10, "first_one"), (11, "third_t")]
    assert complaints("mm/vmalloc.c:1:2: note: here\n") == []
    assert complaints("ld: x.o: in function `f':\nmm/v.c:8: undefined reference to `g'\n") == [
        Complaint("mm/v.c", 8, "g", "nothing defines g")
    ]
