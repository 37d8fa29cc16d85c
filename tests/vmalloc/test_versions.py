# SPDX-License-Identifier: GPL-2.0-only
import ast
import sys
from pathlib import Path

import pytest

from stressvmap.errors import ConfigError, PatchError
from stressvmap.vmalloc import versions
from stressvmap.vmalloc.v6_5 import V6_5

PATCH = """
from stressvmap.vmalloc.v6_5 import V6_5

class MyPatch(V6_5):
    '''Skips nothing.'''

    def vb_free(self, addr, size):
        return super().vb_free(addr, size)

    def brand_new(self):
        pass
"""


def patch_file(folder: Path, text: str, name: str = "patch.py") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_each_built_in_version_is_found_by_its_name() -> None:
    assert [versions.load(name).NAME for name in versions.BUILT_IN] == list(versions.BUILT_IN)


def test_an_unknown_version_is_answered_with_those_that_exist() -> None:
    with pytest.raises(
        ConfigError,
        match=r"'v6\.55' is unknown, did you mean v6\.5\? There are v6\.1, .*, v6\.4, rfc-3of3, v6\.5, v6\.12",
    ):
        versions.load("v6.55")


def test_a_patch_in_a_file_is_loaded_by_its_class_name(tmp_path: Path) -> None:
    name = patch_file(tmp_path, PATCH) + ":MyPatch"
    version = versions.load(name)
    assert issubclass(version, V6_5)
    assert version.NAME == "patch.py:MyPatch"
    assert vars(sys.modules[version.__module__])["IS_USER_PATCH"] is True
    assert versions.load(name) is version


def test_a_file_with_one_version_needs_no_class_name(tmp_path: Path) -> None:
    assert versions.load(patch_file(tmp_path, PATCH)).__name__ == "MyPatch"


def test_a_file_that_has_changed_is_loaded_again(tmp_path: Path) -> None:
    name = patch_file(tmp_path, PATCH)
    before = versions.load(name)
    patch_file(tmp_path, PATCH.replace("MyPatch", "YourPatch"))
    assert versions.load(name) is not before


def test_an_override_of_a_kernel_function_carries_its_name_and_a_new_method_none(tmp_path: Path) -> None:
    version = versions.load(patch_file(tmp_path, PATCH))
    assert vars(version)["vb_free"].kernel_name == "vb_free"
    assert not hasattr(vars(version)["brand_new"], "kernel_name")


@pytest.mark.parametrize(
    ("text", "suffix", "message"),
    [
        ("class A(:\n", "", r"patch\.py:1: SyntaxError: "),
        ("\n\nraise ValueError('no\\nluck')\n", "", r"patch\.py:3: ValueError: no luck, while the file was loaded"),
        ("import sys\nsys.exit(0)\n", "", r"patch\.py:2: SystemExit: 0, while"),
        ("import no_such_module_anywhere\n", ":A", r"patch\.py:1: ModuleNotFoundError: "),
        (
            "x = 1\n",
            "",
            r"defines no class that inherits from a version \(V6_1, .*, V6_4, Rfc3of3, V6_5, V6_12\)",
        ),
        ("x = 1\n", ":x", r"x is not a class that inherits from a version"),
        (
            "from stressvmap.vmalloc.base import Vmalloc\nclass A(Vmalloc): pass\n",
            ":A",
            r"A is not a class that inherits",
        ),
        (PATCH, ":Other", r"has no class 'Other'; it has MyPatch"),
        (PATCH + "class B(V6_5): pass\n", "", r"defines 2 versions \(MyPatch, B\): say which, as .*patch\.py:B"),
        (
            PATCH.replace("addr, size)", "addr)"),
            "",
            r"py:7: MyPatch\.vb_free\(self, addr\) is called as vb_free\(self, addr, size\)",
        ),
        (PATCH.replace("def vb_free", "NAME = 'a/b'\n    def vb_free"), "", r"MyPatch\.NAME is 'a/b'"),
        ("x = '\0'\n", "", r"patch\.py:1: .*null bytes"),
    ],
)
def test_a_patch_file_at_fault_gives_one_line_with_file_and_line(
    tmp_path: Path, text: str, suffix: str, message: str
) -> None:
    with pytest.raises(PatchError, match=message) as caught:
        versions.load(patch_file(tmp_path, text) + suffix)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(PatchError, match="there is no such file"):
        versions.load(str(tmp_path / "none.py") + ":A")
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(PatchError, match="cannot be read"):
        versions.load(str(tmp_path / "folder.py"))


@pytest.mark.parametrize("name", list(versions.BUILT_IN))
def test_flattened_source_is_python_and_holds_what_runs(name: str) -> None:
    version = versions.load(name)
    text = versions.show(version)
    body = ast.parse(text).body[0]
    assert isinstance(body, ast.ClassDef)
    methods = [node.name for node in body.body if isinstance(node, ast.FunctionDef)]
    assert len(methods) == len(set(methods))
    assert {"vm_map_ram", "vb_free", "vm_unmap_aliases", "audit"} <= set(methods)


def test_flattened_source_names_the_origin_of_each_function() -> None:
    text = versions.show(versions.load("rfc-3of3"))
    before = text[: text.index("def vm_unmap_aliases")].splitlines()
    assert before[-3].startswith("    # from Rfc3of3Patch (stressvmap/vmalloc/rfc_3of3.py:")


def test_flattened_source_keeps_what_is_reached_through_super(tmp_path: Path) -> None:
    text = versions.show(versions.load(patch_file(tmp_path, PATCH)))
    assert text.count("def vb_free(") == 2
    assert text.index("def vb_free(self, addr: int") < text.index("return super().vb_free")


def test_digest_is_stable_and_tells_versions_apart() -> None:
    digests = [versions.digest(version) for version in versions.BUILT_IN.values()]
    assert len(set(digests)) == len(digests)
    assert all(len(digest) == 16 for digest in digests)


def test_a_relative_patch_path_is_made_absolute_from_a_folder(tmp_path: Path) -> None:
    assert versions.absolute("./a.py:B", tmp_path) == f"{tmp_path}/a.py:B"
    assert versions.absolute("v6.4", tmp_path) == "v6.4"
