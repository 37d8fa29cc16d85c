# SPDX-License-Identifier: GPL-2.0-only
"""What the operators make of a function: every line's change, and nothing that only Python would notice."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from textwrap import dedent

import pytest

from stressvmap.vmalloc.base import Vmalloc
from stressvmap.vmalloc.versions import BUILT_IN
from tests.mutants.building import apply, difference, mutants_of
from tests.mutants.operators import changes_of


def changes(text: str) -> Iterator[tuple[str, str]]:
    """(operator, difference) of each mutant of a function."""
    function = ast.parse(dedent(text)).body[0]
    assert isinstance(function, ast.FunctionDef)
    before = ast.unparse(function)
    for position, change in changes_of(function):
        yield change.operator, difference(before, ast.unparse(apply(function, position, change)))


def by(operator: str, text: str) -> list[str]:
    return [changed for name, changed in changes(text) if name == operator]


def test_a_statement_is_deleted() -> None:
    assert by("delete", "def f(self): self.a.lock(); self.b = 1") == ["- self.a.lock()", "- self.b = 1"]


def test_the_only_binding_of_a_local_name_is_not_deleted() -> None:
    text = """
        def f(self):
            start = 0
            start = self.read()
            return start
    """
    assert by("delete", text) == ["- start = self.read()"]


def test_a_lock_is_dropped_and_its_body_kept() -> None:
    assert by("without the lock", "def f(self):\n with self.a:\n  self.b()") == [
        "- with self.a:\n- self.b()\n+ self.b()"
    ]


def test_a_lock_taken_and_released_by_calls_is_dropped_as_a_whole() -> None:
    text = """
        def f(self, vb):
            vb.lock.lock()
            if vb.free:
                vb.lock.unlock()
                return
            vb.lock.unlock()
    """
    (dropped,) = by("without the lock", text)
    assert dropped.count("- vb.lock.lock()") == 1
    assert dropped.count("- vb.lock.unlock()") == 2


def test_a_statement_does_not_move_over_one_that_needs_its_result() -> None:
    text = """
        def f(self):
            va = self.find()
            self.erase(va)
            self.flush()
    """
    assert by("swap with the next", text) == ["+ self.flush()\n- self.flush()"]


def test_two_plain_stores_beside_each_other_stay_in_order_and_two_marked_ones_do_not() -> None:
    assert by("swap with the next", "def f(vb): vb.free = 0; vb.dirty = 8") == []
    assert by("swap with the next", "def f(vb): vb.WRITE_ONCE('free', 0); vb.WRITE_ONCE('dirty', 8)") != []


def test_the_inside_of_an_assertion_is_left_alone() -> None:
    assert {name for name, _ in changes("def f(self, a): self.machine.BUG_ON(a + 1 == 2, 'x')")} == {"delete"}


@pytest.mark.parametrize(
    ("operator", "line", "changed"),
    [
        ("min -> max", "x.a = min(x.a, b)", "x.a = max(x.a, b)"),
        ("min -> its first", "x.a = min(x.a, b)", "x.a = x.a"),
        ("+= -> -=", "x.a += b", "x.a -= b"),
        ("0 -> 1", "x.a = 0", "x.a = 1"),
        ("< -> <=", "x.a = x.b < b", "x.a = x.b <= b"),
        ("and without operand 1", "x.a = x.b and b", "x.a = b"),
        ("False -> True", "x.a = False", "x.a = True"),
        ("dirty_min -> dirty_max", "x.dirty_min = b", "x.dirty_max = b"),
        ("arguments swapped", "add(x, b)", "add(b, x)"),
        ("kfree_rcu -> kfree", "self.rcu.kfree_rcu(x)", "x.kfree()"),
        ("READ_ONCE -> plain", "x.a = x.READ_ONCE('free')", "x.a = x.read('free')"),
    ],
)
def test_an_expression_is_changed(operator: str, line: str, changed: str) -> None:
    assert by(operator, f"def f(self, x, b):\n {line}") == [f"- {ast.unparse(ast.parse(line))}\n+ {changed}"]


@pytest.mark.parametrize("version", BUILT_IN.values(), ids=BUILT_IN)
def test_each_mutant_has_a_name_of_its_own_and_differs_from_its_version(version: type[Vmalloc]) -> None:
    mutants = mutants_of(version)
    assert len({mutant.id for mutant in mutants}) == len(mutants) > 50
    assert len({mutant.code for mutant in mutants}) == len(mutants)
    assert all(mutant.change for mutant in mutants)


def test_a_mutant_is_a_class_of_its_own_with_its_version_s_name() -> None:
    version = BUILT_IN["v6.5"]
    mutant = next(mutant for mutant in mutants_of(version) if mutant.function == "vb_free").build()
    assert mutant.NAME == version.NAME
    assert mutant.__bases__ == version.__bases__
    assert vars(mutant)["vb_free"] is not vars(version)["vb_free"]
