# SPDX-License-Identifier: GPL-2.0-only
"""What debug info says of a small library of our own."""

import subprocess
from pathlib import Path

import pytest

from stressvmap.journal.place import Place
from stressvmap.tree.compiler import COMPILERS, program_of
from stressvmap.tree.layout import Layout, read_layout
from tests.tree.trees import needs_compiler

pytestmark = needs_compiler

HEADER = """\
static inline __attribute__((always_inline)) void store(volatile int *at, int value)
{
	*at = value;
	touch();
}
"""
SOURCE = """\
void touch(void);
#include "store.h"
volatile int shared;

static inline __attribute__((always_inline)) void inner(int value)
{
	store(&shared, value);
}

__attribute__((noinline)) void called(int value)
{
	inner(value);
	shared++;
}

void outer(void)
{
	called(1);
	shared++;
}
"""


def compiled(folder: Path, compiler: str, debug: str) -> Layout:
    (folder / "mm").mkdir()
    (folder / "mm" / "store.h").write_text(HEADER, encoding="utf-8")
    (folder / "mm" / "small.c").write_text(SOURCE, encoding="utf-8")
    flags = ["-O2", debug, "-fPIC", "-shared", "-Wl,--unresolved-symbols=ignore-all"]
    subprocess.run([compiler, *flags, "-o", "small.so", "mm/small.c"], cwd=folder, check=True, capture_output=True)
    return read_layout(folder / "small.so", ("mm/",))


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    compiler = program_of("gcc")
    if compiler is None:
        pytest.skip("lines to the byte are gcc's: clang gives an instruction the line of what it was merged with")
    return compiled(tmp_path_factory.mktemp("layout"), compiler, "-g")


def chains(layout: Layout) -> set[tuple[Place, ...]]:
    """Of each byte of code, where it is and what that was inlined into."""
    return {layout.places(at + 1) for start, end, _ in layout.functions for at in range(start, end)}


def test_a_place_tells_what_it_was_inlined_into(layout: Layout) -> None:
    stores = {chain for chain in chains(layout) if chain[0].function == "store"}
    assert {chain[0].position for chain in stores} <= {f"mm/store.h:{line}" for line in range(1, 6)}
    assert {chain[1:] for chain in stores} == {(Place("inner", "mm/small.c", 7), Place("called", "mm/small.c", 12))}


def test_the_line_of_an_access_is_its_own_not_that_of_the_call_it_was_inlined_at(layout: Layout) -> None:
    lines = {chain[0].line for chain in chains(layout) if chain[0].function == "store"}
    assert lines & {3, 4}
    assert all(chain[0].line in range(10, 15) for chain in chains(layout) if chain[0].function == "called")


def test_who_calls_a_function_is_known(layout: Layout) -> None:
    assert layout.callers["called"] == ["outer"]
    assert "touch" not in layout.callers, "is none of the code under test"


def test_outside_the_code_under_test_there_is_no_place(layout: Layout) -> None:
    assert layout.places(1 << 40) == ()


def test_a_layout_is_kept_beside_its_library(layout: Layout, tmp_path: Path) -> None:
    layout.save(tmp_path / "layout.json")
    again = Layout.load(tmp_path / "layout.json")
    assert (again.scopes, again.callers, again.functions) == (layout.scopes, layout.callers, layout.functions)
    assert chains(again) == chains(layout)


@pytest.mark.parametrize("debug", ["-gdwarf-4", "-gdwarf-5"])
@pytest.mark.parametrize("family", COMPILERS)
def test_globals_and_callers_are_found_whichever_compiler_wrote_the_debug_info(
    tmp_path: Path, family: str, debug: str
) -> None:
    compiler = program_of(family)
    if compiler is None:
        pytest.skip(f"there is no {family}")
    layout = compiled(tmp_path, compiler, debug)
    assert layout.globals["shared"].size == 4
    assert layout.globals["shared"].offset > 0
    assert layout.callers["called"] == ["outer"]
    functions = {place.function for chain in chains(layout) for place in chain}
    assert functions == {"store", "inner", "called", "outer"}
