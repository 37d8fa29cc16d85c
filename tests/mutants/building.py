# SPDX-License-Identifier: GPL-2.0-only
"""The mutants of a version: every change to every function that the version's own module defines, as a class that can
be run.
"""

from __future__ import annotations

import ast
import copy
import difflib
import hashlib
import inspect
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from types import ModuleType
from typing import TypeVar

from stressvmap.vmalloc.base import Vmalloc
from tests.mutants.operators import Change, changes_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One changed version."""

    id: str
    """`version:function:line text:operator`, and `#n` for the n-th that would have the same."""
    version: str
    function: str
    line: int
    text: str
    """The line that was changed, as it stands in the source."""
    operator: str
    code: str
    """Digest of all functions of the mutant's module: the same as long as the version's text and the change are."""
    original: ast.FunctionDef
    changed: ast.FunctionDef
    owner: str
    """The class whose function it is."""
    source: str
    class_name: str

    @property
    def change(self) -> str:
        """What went and what came, as lines marked - and +."""
        return difference(ast.unparse(self.original), ast.unparse(self.changed))

    def build(self) -> type[Vmalloc]:
        """The mutant's class, in a module of its own. It has its version's name, so journals differ in what was done
        only.
        """
        module = ModuleType(f"stressvmap_mutant_{self.code}")
        module.__file__ = f"<{self.id}>"
        vars(module).update(all_but_the_first=all_but_the_first, all_but_the_last=all_but_the_last, IS_USER_PATCH=True)
        sys.modules[module.__name__] = module
        tree = _with_function(self.source, self.owner, self.changed)
        try:
            exec(compile(tree, module.__file__, "exec", dont_inherit=True), vars(module))
        finally:
            del sys.modules[module.__name__]
        version: type[Vmalloc] = vars(module)[self.class_name]
        return version


def mutants_of(version: type[Vmalloc]) -> tuple[Mutant, ...]:
    """All mutants of what the version's module adds to its ancestors, in the order of the source."""
    if version not in _made:
        _made[version] = _make(version)
    return _made[version]


_made: dict[type[Vmalloc], tuple[Mutant, ...]] = {}


def _make(version: type[Vmalloc]) -> tuple[Mutant, ...]:
    module = sys.modules[version.__module__]
    source = inspect.getsource(module)
    lines = source.splitlines()
    seen: set[str] = set()
    count: dict[str, int] = {}
    found: list[Mutant] = []
    functions = list(_functions(ast.parse(source), version, module.__name__))
    text_of_all = "\0".join(ast.dump(function) for _, function in functions)
    for cls, function in functions:
        seen.add(ast.dump(function))
        for position, change in changes_of(function):
            changed = apply(function, position, change)
            dump = ast.dump(changed)
            if dump in seen:
                continue
            seen.add(dump)
            text = lines[change.line - 1].strip()
            name = f"{version.NAME}:{function.name}:{text}:{change.operator}"
            count[name] = count.get(name, 0) + 1
            found.append(
                Mutant(
                    id=name if count[name] == 1 else f"{name}#{count[name]}",
                    version=version.NAME,
                    function=function.name,
                    line=change.line,
                    text=text,
                    operator=change.operator,
                    code=hashlib.sha256(f"{text_of_all}\0{cls}\0{dump}".encode()).hexdigest()[:12],
                    original=function,
                    changed=changed,
                    owner=cls,
                    source=source,
                    class_name=version.__name__,
                )
            )
    return tuple(sorted(found, key=lambda mutant: mutant.line))


def _functions(tree: ast.Module, version: type[Vmalloc], module: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    own = {cls.__name__ for cls in version.__mro__ if cls.__module__ == module}
    for cls in tree.body:
        if isinstance(cls, ast.ClassDef) and cls.name in own:
            for function in cls.body:
                if isinstance(function, ast.FunctionDef):
                    yield cls.name, function


def apply(function: ast.FunctionDef, position: int, change: Change) -> ast.FunctionDef:
    """A copy of `function` with `change` made at its node, the `position`-th of `ast.walk`."""
    copied = copy.deepcopy(function)
    target = next(islice(ast.walk(copied), position, None))
    replacement = change.edit(target)
    if replacement is not target:
        _Replace(target, replacement).visit(copied)
    for node in ast.walk(copied):
        if isinstance(node, ast.stmt) and getattr(node, "body", None) == []:
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
    return ast.fix_missing_locations(copied)


class _Replace(ast.NodeTransformer):
    def __init__(self, target: ast.AST, replacement: ast.AST | list[ast.stmt]) -> None:
        self.target = target
        self.replacement = replacement

    def visit(self, node: ast.AST) -> ast.AST | list[ast.stmt]:
        if node is self.target:
            return self.replacement
        result: ast.AST = self.generic_visit(node)
        return result


def _with_function(source: str, cls_name: str, function: ast.FunctionDef) -> ast.Module:
    tree = ast.parse(source)
    for cls in tree.body:
        if isinstance(cls, ast.ClassDef) and cls.name == cls_name:
            cls.body = [
                function if isinstance(old, ast.FunctionDef) and old.name == function.name else old for old in cls.body
            ]
    return tree


def difference(before: str, after: str) -> str:
    """The lines that went, marked -, and those that came, marked +."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
    return "\n".join(
        f"{line[0]} {line[1:].strip()}" for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")
    )


def all_but_the_first(items: Iterable[T]) -> Iterator[T]:
    """A walk that begins one too late."""
    return islice(iter(items), 1, None)


def all_but_the_last(items: Iterable[T]) -> Iterator[T]:
    """A walk that ends one too early."""
    before: list[T] = []
    for item in items:
        if before:
            yield before.pop()
        before.append(item)
