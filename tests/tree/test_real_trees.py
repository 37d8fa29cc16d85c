# SPDX-License-Identifier: GPL-2.0-only
"""Whole kernel sources are read, patched and built; what is wrong with a patch is told in the kernel's own lines."""

from pathlib import Path

import pytest

from stressvmap.errors import BuildError
from stressvmap.tree.build import TreeSpec, build, plan
from stressvmap.tree.options import BuildOptions
from tests.tree.kernel_sources import archive
from tests.tree.trees import make_patch, needs_compiler, needs_patch

pytestmark = [pytest.mark.trees, pytest.mark.timeout(600), needs_compiler, needs_patch]

ANCHOR = "static void free_vmap_block(struct vmap_block *vb)\n{"


@pytest.mark.parametrize("release", ["6.1", "6.12"])
def test_a_release_is_built_once_and_told_apart_from_its_patched_self(
    release: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = archive(release, monkeypatch)
    built = build(TreeSpec.parse(f"tree:{path}"))
    assert built.release.startswith(f"{release}.")
    assert {"mm/vmalloc.c", "lib/xarray.c", "include/linux/vmalloc.h"} <= set(built.build["files"])
    said: list[str] = []
    assert build(TreeSpec.parse(f"tree:{path}"), said.append) == built
    assert said == []
    source = {"mm/vmalloc.c": (built.source / "mm/vmalloc.c").read_text(encoding="utf-8")}
    neutral = make_patch(tmp_path / "neutral.patch", ANCHOR, "/* neutral */\n" + ANCHOR, base=source)
    patched = build(TreeSpec.parse(f"tree:{path}", [neutral]))
    assert patched.digest != built.digest
    assert "/* neutral */" in (patched.source / "mm/vmalloc.c").read_text(encoding="utf-8")

    line = source["mm/vmalloc.c"].split(ANCHOR)[0].count("\n") + 3
    broken = make_patch(tmp_path / "broken.patch", ANCHOR, ANCHOR + "\n\tvb_unheard_of(vb);", base=source)
    with pytest.raises(BuildError) as caught:
        build(TreeSpec.parse(f"tree:{path}", [broken]))
    assert caught.value.details == (
        f"mm/vmalloc.c:{line}: nothing declares vb_unheard_of (implicit declaration of function 'vb_unheard_of')",
    )


@pytest.mark.parametrize("release", ["6.1", "6.12"])
@pytest.mark.parametrize("sizes", [(16, 4), (128, 64), (1024, 64)])
def test_a_release_is_built_with_larger_blocks(
    release: str, sizes: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    block_bits, max_alloc = sizes
    options = BuildOptions(block_bits=block_bits, max_alloc=max_alloc)
    made = plan(TreeSpec.parse(f"tree:{archive(release, monkeypatch)}", (), options))
    assert made.inputs["options"]["block_bits"] == block_bits
    assert build(made.spec).build["missing_headers"] == []
