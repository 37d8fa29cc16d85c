# SPDX-License-Identifier: GPL-2.0-only
"""Patches that make a kernel's own code crash, loop or do not compile: a verdict or a clear error, in bounded time.

The patches are made from the tree at hand, so no kernel text lies here.
"""

import difflib
from pathlib import Path

import pytest

from stressvmap.config import RunSpec
from stressvmap.errors import ConfigError
from stressvmap.result import RunResult
from stressvmap.scenario import Scenario
from stressvmap.stress import harness
from stressvmap.tree.sources import read_sources
from stressvmap.tree.version import with_options
from tests.tree.kernel_sources import archive

pytestmark = [pytest.mark.trees, pytest.mark.timeout(600)]

ENTRY = "static void vb_free(unsigned long addr, unsigned long size)\n{\n"
SMALL = Scenario(cpus=2, operations=6, flushes=1, steps_max=20_000)


def patched(tree: Path, folder: Path, statement: str, before: str = "") -> str:
    """The tree's version with `statement` first in vb_free, and `before` in front of the function."""
    old = read_sources(str(tree), lambda line: None).files["mm/vmalloc.c"].decode()
    assert ENTRY in old
    new = old.replace(ENTRY, f"{before}{ENTRY}\t{statement}\n")
    lines = difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), "a/mm/vmalloc.c", "b/mm/vmalloc.c"
    )
    patch = folder / "misbehaves.patch"
    patch.write_text("".join(lines))
    return with_options(f"tree:{tree}", [("patch", str(patch))])


WILD_LOCKS = {
    "owner": "{ 0x6b6b6b6b6b6b6b6bul, 0, 0 }",
    "waiters": "{ 0, 0x6b6b6b6b6b6b6b6bul, 0 }",
    "a waiter's task": "{ 0, (unsigned long)&wild[3], 0, 0, (unsigned long)&wild[6], 0, 1, 1, 1 }",
}
"""What lies where the code under test takes a lock to be: owner, waiters, and a magic that passes."""


def run(version: str) -> RunResult:
    return harness.run(RunSpec(version=version, scenario=SMALL, schedules=5, seed=1, stall_seconds=60.0))


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("*(volatile long *)8 = 1;", "NULL pointer dereference"),
        ("*(volatile long *)0x123456789000ul = 1;", "wild pointer"),
    ],
)
def test_a_bad_pointer_is_a_kernel_bug_with_its_place(
    statement: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(patched(archive("6.1", monkeypatch), tmp_path, statement))
    assert result.exit_status == 1
    found = [finding for finding in result.findings if finding.check == "kernel-bug"]
    assert found
    assert told in found[0].message
    assert "vb_free" in found[0].message
    assert "mm/vmalloc.c" in found[0].message


def test_a_stack_that_overflows_is_a_kernel_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (
        "static noinline long sv_deep(volatile long *p)\n"
        "{\n\tvolatile long room[64];\n\n\troom[0] = *p;\n\treturn sv_deep(room) + room[1];\n}\n\n"
    )
    statement = "{ volatile long start = 1; sv_deep(&start); }"
    result = run(patched(archive("6.1", monkeypatch), tmp_path, statement, before))
    assert [finding.message for finding in result.findings if "stack overflow" in finding.message]


@pytest.mark.parametrize("statement", ["for (;;) ;", "for (;;) READ_ONCE(vmap_initialized);"])
def test_an_endless_loop_is_given_up_and_its_place_is_named(
    statement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(patched(archive("6.1", monkeypatch), tmp_path, statement))
    assert result.exit_status in (1, 4)
    told = "\n".join([*result.inconclusive, *(finding.message for finding in result.findings)])
    assert "in vb_free at mm/vmalloc.c" in told or "in vm_unmap_ram at mm/vmalloc.c" in told  # it may be inlined
    assert result.schedules == 5


def test_an_unknown_function_is_named_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = patched(archive("6.1", monkeypatch), tmp_path, "sv_no_such_function();")
    with pytest.raises(ConfigError, match=r"sv_no_such_function \(mm/vmalloc\.c:\d+\)"):
        run(version)


@pytest.mark.parametrize("words", WILD_LOCKS.values(), ids=WILD_LOCKS)
def test_memory_taken_for_a_lock_is_a_kernel_bug_and_is_not_written_through(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    statement = "spin_lock((spinlock_t *)wild); spin_unlock((spinlock_t *)wild);"
    before = f"static unsigned long wild[9] = {words};\n"
    result = run(patched(archive("6.1", monkeypatch), tmp_path, statement, before))
    assert result.exit_status == 1
    assert not [reason for reason in result.inconclusive if "worker" in reason]
    found = [finding for finding in result.findings if finding.check == "kernel-bug"]
    assert any("lock that nobody initialised" in finding.message for finding in found)
