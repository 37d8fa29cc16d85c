# SPDX-License-Identifier: GPL-2.0-only
"""A kernel tree of a few lines, and a shim to build it with: what the builder does needs no kernel."""

import io
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from stressvmap.tree.compiler import default_family, program_of

SPDX = "// SPDX-License-Identifier: GPL-2.0-only\n"

TREE: Mapping[str, str] = {
    "Makefile": "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 7\nEXTRAVERSION =\n",
    "mm/vmalloc.c": SPDX
    + """\
#include <linux/list.h>
#include <linux/mm.h>
#include "internal.h"

static int vmap_lazy_nr = 1;

int vb_alloc(int pages)
{
	struct list_head list;

	list.next = &list;
	return known(pages) + (list.next == &list) + vmap_lazy_nr;
}
""",
    "mm/internal.h": "#error the shim stands in for this one\n",
    "lib/xarray.c": SPDX + "#include <linux/list.h>\nint xa_find(void) { return 1; }\n",
    "lib/rbtree.c": SPDX + "int rb_find(void) { return 2; }\n",
    "lib/llist.c": SPDX + "int llist_find(void) { return 3; }\n",
    "include/linux/list.h": "struct list_head { struct list_head *next, *prev; };\n",
    "include/linux/mm.h": "#error the shim stands in for this one\n",
}

SHIM: Mapping[str, str] = {
    "include/sv_kernel.h": "int known(int pages);\n",
    "include/sv/after_vmalloc.h": '#include "sv_probes.h"\nint sv_probe(void) { return SV_HAS_vmap_lazy_nr; }\n',
    "include/mm/internal.h": "#define INTERNAL 1\n",
    "probes.txt": "# asked for\nvmap_lazy_nr\nvmap_nodes\n",
    "shim.c": '#include "sv_events.h"\nint known(int pages) { return pages + SV_WRITE; }\n',
    "engine/engine.c": """\
#include <stdint.h>
void __tsan_init(void) {}
void __tsan_func_entry(void *pc) { (void)pc; }
void __tsan_func_exit(void) {}
void __tsan_read4(void *address) { (void)address; }
void __tsan_read8(void *address) { (void)address; }
void __tsan_write4(void *address) { (void)address; }
void __tsan_write8(void *address) { (void)address; }
extern int vb_alloc(int);
__attribute__((visibility("default"))) int sv_run(void) { return vb_alloc(40); }
""",
}
"""As much of a shim as TREE needs. The engine's vb_alloc(40) gives 40 + 2 (WRITE) + 1 + 1."""

needs_compiler = pytest.mark.skipif(
    program_of(default_family()) is None or shutil.which("objcopy") is None,
    reason="neither gcc nor clang, or no binutils, here to build with",
)
needs_patch = pytest.mark.skipif(shutil.which("patch") is None, reason="no patch program here")
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="no git here")


def write_files(folder: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return folder


def make_tree(folder: Path, changes: Mapping[str, str] | None = None) -> Path:
    return write_files(folder, {**TREE, **(changes or {})})


def make_archive(path: Path, top: str = "linux-6.1.7/", files: Mapping[str, str] = TREE) -> Path:
    with tarfile.open(path, "w:xz") as tar:
        if top:
            folder = tarfile.TarInfo(top.rstrip("/"))
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
        for name, content in files.items():
            member = tarfile.TarInfo(top + name)
            member.size = len(content.encode())
            tar.addfile(member, io.BytesIO(content.encode()))
    return path


def make_repository(folder: Path) -> Path:
    """The tree committed as v1, and mm/vmalloc.c changed after it."""
    make_tree(folder)
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=A", "-c", "user.email=a@b", "commit", "-q", "-m", "All"],
        ["tag", "v1"],
    ):
        subprocess.run(["git", "-C", str(folder), *command], check=True, capture_output=True)
    (folder / "mm/vmalloc.c").write_text("changed\n", encoding="utf-8")
    return folder


def make_patch(path: Path, old: str, new: str, name: str = "mm/vmalloc.c", base: Mapping[str, str] = TREE) -> Path:
    """A patch that puts `new` for `old` (whole lines) in the file of this name."""
    lines = base[name].splitlines()
    at = next(number for number in range(len(lines)) if "\n".join(lines[number:]).startswith(old))
    count = len(old.splitlines())
    before, after = lines[max(0, at - 3) : at], lines[at + count : at + count + 3]
    added = new.splitlines()
    first = max(0, at - 3) + 1
    size = len(before) + len(after)
    body = [f" {line}" for line in before] + [f"-{line}" for line in old.splitlines()]
    body += [f"+{line}" for line in added] + [f" {line}" for line in after]
    head = f"--- a/{name}\n+++ b/{name}\n@@ -{first},{size + count} +{first},{size + len(added)} @@\n"
    path.write_text("A change\n\n" + head + "\n".join(body) + "\n-- \n2.39.5\n", encoding="utf-8")
    return path
