# SPDX-License-Identifier: GPL-2.0-only
"""What is done to one function: every operator here yields edits, and each edit makes one mutant.

An operator looks at one node of the function's syntax tree. Left out are edits that only Python would notice (a local
name that nobody bound, an int where an object is needed) and edits inside the text of an assertion, which could but
make it fire without cause; the deletion of an assertion is there.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

Edit = Callable[[ast.AST], "ast.AST | list[ast.stmt]"]
"""Given the node in a fresh copy of the function: what stands in its place. It may change the node and return it."""


@dataclass(frozen=True, slots=True)
class Change:
    """One edit of one node."""

    operator: str
    line: int
    """The source line that is blamed for it."""
    edit: Edit


ASSERTIONS: Final = frozenset({"BUG_ON", "WARN_ON", "might_sleep", "assert_held"})
PURE: Final = frozenset(
    {"min", "max", "get_order", "len", "int", "isinstance", "IS_ERR", "bitmap_mask", "vmap_block_vaddr", "per_cpu"}
    | {"addr_to_vb_idx", "addr_to_vb_xa", "LIST_HEAD", "lazy_max_pages", "page_address"}
)
"""Calls that no other task could tell from their not being made at that moment."""
SIBLINGS: Final = {
    "va_start": "va_end",
    "va_end": "va_start",
    "dirty_min": "dirty_max",
    "dirty_max": "dirty_min",
    "free_list": "purge",
    "purge": "free_list",
}
"""Fields that are taken for one another."""
LOCKS: Final = {
    "vmap_area_lock": "free_vmap_area_lock",
    "free_vmap_area_lock": "purge_vmap_area_lock",
    "purge_vmap_area_lock": "vmap_area_lock",
    "busy_lock": "lazy_lock",
    "lazy_lock": "pool_lock",
    "pool_lock": "busy_lock",
}
"""Each with one that is taken for it."""
COMPARES: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}
UNLIKE_ARGUMENTS: Final = frozenset(
    {"cast", "isinstance", "WRITE_ONCE", "kmalloc", "kmem_cache_alloc", "insert", "vmap_pages_range_noflush"}
)
"""Calls whose two arguments no C compiler would let anybody swap."""
PAIRS: Final = {"lock": "unlock", "read_lock": "read_unlock"}


def changes_of(function: ast.FunctionDef) -> Iterator[tuple[int, Change]]:
    """All changes to `function`, each with the position of its node in `ast.walk`."""
    bound = _bound_before(function)
    protected = _protected(function)
    for position, node in enumerate(ast.walk(function)):
        if id(node) in protected:
            continue
        if isinstance(node, ast.stmt):
            for change in _of_statement(node, bound.get(id(node), frozenset()), function):
                yield position, change
        if isinstance(node, ast.expr):
            for change in _of_expression(node):
                yield position, change
        for change in _of_blocks(node):
            yield position, change
    for change in _without_pairs(function):
        yield 0, change


# -- statements -----------------------------------------------------------------------------------------------


def _of_statement(node: ast.stmt, bound: frozenset[str], function: ast.FunctionDef) -> Iterator[Change]:
    line = node.lineno
    if _can_be_deleted(node, bound, function):
        yield Change("delete", line, lambda _: [])
    if isinstance(node, ast.Break | ast.Continue):
        other = ast.Continue if isinstance(node, ast.Break) else ast.Break
        yield Change(f"{_keyword(node)} -> {_keyword(other())}", line, lambda _: other())
    if isinstance(node, ast.With):
        yield Change("without the lock", line, lambda with_: _with(with_).body)
        lock = node.items[0].context_expr
        if isinstance(lock, ast.Attribute) and lock.attr in LOCKS:
            yield Change("wrong lock", line, _take_another_lock)
        if len(node.body) > 1:
            yield Change("unlock before the last", line, _last_outside)
            yield Change("lock after the first", line, _first_outside)
    if isinstance(node, ast.If | ast.While):
        yield from _of_condition(node)
    if isinstance(node, ast.For):
        yield Change("all but the first", line, lambda for_: _iterate_over(for_, "all_but_the_first"))
        yield Change("all but the last", line, lambda for_: _iterate_over(for_, "all_but_the_last"))
    if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add | ast.Sub):
        name = "+= -> -=" if isinstance(node.op, ast.Add) else "-= -> +="
        yield Change(name, line, _turn_around)


def _can_be_deleted(node: ast.stmt, bound: frozenset[str], function: ast.FunctionDef) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Call)
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return _names(node, ast.Store) <= bound
    if isinstance(node, ast.Return):
        return node is not function.body[-1]
    return isinstance(node, ast.Break | ast.Continue)


def _of_condition(node: ast.If | ast.While) -> Iterator[Change]:
    test = node.test
    if isinstance(test, ast.Constant) or _is_call_of(test, {"isinstance"}):
        return
    is_none = isinstance(test, ast.Compare) and _is_none(test.comparators[0])
    if not (is_none and isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.Is)):
        yield Change("condition -> True", node.lineno, lambda n: _set_test(n, True))
    if not (is_none and isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.IsNot)):
        yield Change("condition -> False", node.lineno, lambda n: _set_test(n, False))


def _set_test(node: ast.AST, value: bool) -> ast.AST:
    assert isinstance(node, ast.If | ast.While)
    node.test = ast.Constant(value)
    return node


def _with(node: ast.AST) -> ast.With:
    assert isinstance(node, ast.With)
    return node


def _take_another_lock(node: ast.AST) -> ast.AST:
    lock = _with(node).items[0].context_expr
    assert isinstance(lock, ast.Attribute)
    lock.attr = LOCKS[lock.attr]
    return node


def _last_outside(node: ast.AST) -> list[ast.stmt]:
    with_ = _with(node)
    last = with_.body.pop()
    return [with_, last]


def _first_outside(node: ast.AST) -> list[ast.stmt]:
    with_ = _with(node)
    first = with_.body.pop(0)
    return [first, with_]


def _iterate_over(node: ast.AST, name: str) -> ast.AST:
    assert isinstance(node, ast.For)
    node.iter = ast.Call(ast.Name(name, ast.Load()), [node.iter], [])
    return node


def _turn_around(node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.AugAssign | ast.BinOp)
    node.op = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
    return node


def _keyword(node: ast.stmt) -> str:
    return type(node).__name__.lower()


# -- expressions ----------------------------------------------------------------------------------------------


def _of_expression(node: ast.expr) -> Iterator[Change]:
    line = node.lineno
    if isinstance(node, ast.BoolOp):
        for number in range(len(node.values)):
            word = "and" if isinstance(node.op, ast.And) else "or"
            yield Change(f"{word} without operand {number + 1}", line, _without_operand(number))
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARES:
        other = COMPARES[type(node.ops[0])]
        yield Change(f"{_sign(node.ops[0])} -> {_sign(other())}", line, _compare_by(other))
    if isinstance(node, ast.Constant):
        yield from _of_constant(node)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Name):
        yield Change("without the minus", line, _operand)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        yield Change("+ -> -" if isinstance(node.op, ast.Add) else "- -> +", line, _turn_around)
    if isinstance(node, ast.Subscript) and ast.unparse(node.slice) in ("0", "-1"):
        yield Change("the other end", line, _other_end)
    if isinstance(node, ast.Attribute):
        if node.attr in SIBLINGS:
            yield Change(f"{node.attr} -> {SIBLINGS[node.attr]}", line, _sibling)
        if node.attr == "possible":
            yield Change("possible -> online", line, lambda n: _rename(n, "online"))
    if isinstance(node, ast.Call):
        yield from _of_call(node)


def _of_constant(node: ast.Constant) -> Iterator[Change]:
    value = node.value
    if isinstance(value, bool):
        yield Change(f"{value} -> {not value}", node.lineno, lambda _: ast.Constant(not value))
    elif isinstance(value, int):
        yield Change(f"{value} -> {value + 1}", node.lineno, lambda _: ast.Constant(value + 1))
        if value >= 1:
            yield Change(f"{value} -> {value - 1}", node.lineno, lambda _: ast.Constant(value - 1))


def _of_call(node: ast.Call) -> Iterator[Change]:
    line = node.lineno
    name = _called(node)
    if name in ("min", "max"):
        other = "max" if name == "min" else "min"
        yield Change(f"{name} -> {other}", line, lambda n: _call_name(n, other))
        yield Change(f"{name} -> its first", line, _argument(0))
        yield Change(f"{name} -> its second", line, _argument(1))
    elif len(node.args) == 2 and name not in UNLIKE_ARGUMENTS:
        yield Change("arguments swapped", line, _swap_arguments)
    if name == "list_del_rcu":
        yield Change("list_del_rcu -> list_del", line, lambda n: _call_name(n, "list_del"))
    if name == "READ_ONCE":
        yield Change("READ_ONCE -> plain", line, lambda n: _call_attribute(n, "read"))
    if name == "WRITE_ONCE":
        yield Change("WRITE_ONCE -> plain", line, lambda n: _call_attribute(n, "write"))
    if name == "kfree_rcu":
        yield Change("kfree_rcu -> kfree", line, _free_at_once)
    if name == "raw_cpu_ptr":
        yield Change("this CPU -> first CPU", line, _first_cpu)


def _without_operand(number: int) -> Edit:
    def edit(node: ast.AST) -> ast.AST:
        assert isinstance(node, ast.BoolOp)
        del node.values[number]
        return node if len(node.values) > 1 else node.values[0]

    return edit


def _compare_by(operator: type[ast.cmpop]) -> Edit:
    def edit(node: ast.AST) -> ast.AST:
        assert isinstance(node, ast.Compare)
        node.ops = [operator()]
        return node

    return edit


def _sign(operator: ast.cmpop) -> str:
    return ast.unparse(ast.Compare(ast.Name("a"), [operator], [ast.Name("b")]))[2:-2]


def _operand(node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.UnaryOp)
    return node.operand


def _other_end(node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.Subscript)
    node.slice = ast.Constant(-1 if ast.unparse(node.slice) == "0" else 0)
    return node


def _sibling(node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.Attribute)
    return _rename(node, SIBLINGS[node.attr])


def _rename(node: ast.AST, attribute: str) -> ast.AST:
    assert isinstance(node, ast.Attribute)
    node.attr = attribute
    return node


def _call(node: ast.AST) -> ast.Call:
    assert isinstance(node, ast.Call)
    return node


def _call_name(node: ast.AST, name: str) -> ast.AST:
    _call(node).func = ast.Name(name, ast.Load())
    return node


def _call_attribute(node: ast.AST, name: str) -> ast.AST:
    _rename(_call(node).func, name)
    return node


def _argument(number: int) -> Edit:
    return lambda node: _call(node).args[number]


def _swap_arguments(node: ast.AST) -> ast.AST:
    _call(node).args.reverse()
    return node


def _free_at_once(node: ast.AST) -> ast.AST:
    return ast.Call(ast.Attribute(_call(node).args[0], "kfree", ast.Load()), [], [])


def _first_cpu(node: ast.AST) -> ast.AST:
    pointer = _call(node).func
    assert isinstance(pointer, ast.Attribute)
    return ast.Call(
        ast.Attribute(pointer.value, "per_cpu", ast.Load()),
        [ast.parse("self.machine.possible[0]", mode="eval").body],
        [],
    )


# -- order ----------------------------------------------------------------------------------------------------


def _of_blocks(node: ast.AST) -> Iterator[Change]:
    """Statements of one block in another order, as far as the local names allow."""
    for field in ("body", "orelse"):
        block = getattr(node, field, None)
        if not isinstance(block, list):
            continue
        for index, statement in enumerate(block):
            if not _is_effect(statement) or _is_assertion(statement):
                continue
            down, up = _reach(block, index)
            lock = _lock_call(statement)
            if lock in PAIRS.values():
                down = index
                up = max(up, index - 1)
            elif lock in PAIRS:
                up = index
                down = min(down, index + 1)
            for target, name in ((down, "sink"), (up, "hoist"), (min(down, index + 1), "swap with the next")):
                crossed = block[index + 1 : target + 1] or block[target:index]
                if any(_is_worth_crossing(statement, other) for other in crossed):
                    yield Change(name, statement.lineno, _move(field, index, target))


def _reach(block: list[ast.stmt], index: int) -> tuple[int, int]:
    """How far down and up the statement can go."""
    statement = block[index]
    if _leaves(statement):
        return index, index
    down = index
    while down + 1 < len(block) and not isinstance(block[down + 1], ast.Return | ast.Break | ast.Continue):
        if not _are_independent(statement, block[down + 1]):
            break
        down += 1
    up = index
    while up > 0 and _are_independent(block[up - 1], statement) and not _is_docstring(block[up - 1]):
        up -= 1
    return down, up


def _move(field: str, index: int, target: int) -> Edit:
    def edit(node: ast.AST) -> ast.AST:
        block: list[ast.stmt] = getattr(node, field)
        block.insert(target, block.pop(index))
        return node

    return edit


def _are_independent(first: ast.stmt, second: ast.stmt) -> bool:
    ours, theirs = _names(first, ast.Store), _names(second, ast.Store)
    return not (ours & (theirs | _names(second, ast.Load)) or theirs & _names(first, ast.Load))


def _is_effect(node: ast.stmt) -> bool:
    """Whether another task could tell when it is done."""
    return _is_store(node) or _is_marked_store(node) or _acts(node)


def _is_store(node: ast.stmt) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AugAssign) else []
    return any(isinstance(target, ast.Attribute) for target in targets)


def _acts(node: ast.stmt) -> bool:
    """Whether it calls something that is more than arithmetic."""
    if isinstance(node, ast.FunctionDef) or _is_assertion(node):
        return False
    idle = PURE | ASSERTIONS | {"READ_ONCE", "WRITE_ONCE"}
    return any(isinstance(part, ast.Call) and _called(part) not in idle for part in ast.walk(node)) or any(
        isinstance(part, ast.With) for part in ast.walk(node)
    )


def _is_marked_store(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and _called(node.value) == "WRITE_ONCE"


def _is_worth_crossing(statement: ast.stmt, other: ast.stmt) -> bool:
    """Two stores to one object next to each other are not, unless both are marked: only then does somebody look without
    the lock.
    """
    both_marked = _is_marked_store(statement) and _is_marked_store(other)
    return _is_effect(other) and (_acts(statement) or _acts(other) or both_marked)


def _leaves(node: ast.stmt) -> bool:
    return any(isinstance(part, ast.Return | ast.Break | ast.Continue) for part in ast.walk(node))


def _lock_call(node: ast.stmt) -> str:
    name = _called(node.value) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else ""
    return name if name in PAIRS or name in PAIRS.values() else ""


def _without_pairs(function: ast.FunctionDef) -> Iterator[Change]:
    """A lock that is taken and released by calls, all of them deleted at once."""
    first: dict[tuple[str, str], int] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Expr) and _lock_call(node) in PAIRS:
            key = _receiver(node), _lock_call(node)
            first[key] = min(node.lineno, first.get(key, node.lineno))
    for (receiver, name), line in sorted(first.items()):
        yield Change("without the lock", line, lambda n, r=receiver, m=name: _drop_pair(n, r, m))  # type: ignore[misc]


def _drop_pair(node: ast.AST, receiver: str, name: str) -> ast.AST:
    class Dropper(ast.NodeTransformer):
        def visit_Expr(self, statement: ast.Expr) -> ast.stmt:
            if _lock_call(statement) in (name, PAIRS[name]) and _receiver(statement) == receiver:
                return ast.copy_location(ast.Pass(), statement)
            return statement

    changed: ast.AST = Dropper().visit(node)
    return changed


def _receiver(node: ast.Expr) -> str:
    assert isinstance(node.value, ast.Call)
    assert isinstance(node.value.func, ast.Attribute)
    return ast.unparse(node.value.func.value)


# -- what a node is -------------------------------------------------------------------------------------------


def _called(node: ast.expr) -> str:
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    return (
        function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""
    )


def _is_call_of(node: ast.expr, names: set[str]) -> bool:
    return _called(node) in names


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_assertion(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and _called(node.value) in ASSERTIONS


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _names(node: ast.AST, context: type[ast.expr_context]) -> frozenset[str]:
    """The names it binds (ast.Store) or reads (ast.Load); `x += 1` does both."""
    found = {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, context)}
    if context is ast.Load:
        augmented = (part.target for part in ast.walk(node) if isinstance(part, ast.AugAssign))
        found |= {target.id for target in augmented if isinstance(target, ast.Name)}
    return frozenset(found)


def _protected(function: ast.FunctionDef) -> set[int]:
    """Nodes that are left alone: docstrings, signatures, decorators, the inside of assertions, of subscripts that are
    dealt with as a whole, and names as strings.
    """
    alone: set[int] = set()
    for node in ast.walk(function):
        inside: list[ast.AST] = []
        if isinstance(node, ast.FunctionDef):
            inside = [node.args, *node.decorator_list, *([node.returns] if node.returns else [])]
        elif isinstance(node, ast.Call) and _called(node) in ASSERTIONS:
            inside = [*node.args, node]
        elif isinstance(node, ast.Subscript):
            inside = [node.slice]
        elif isinstance(node, ast.AnnAssign):
            inside = [node.annotation]
        elif isinstance(node, ast.While) and isinstance(node.test, ast.Constant):
            inside = [node.test]
        for root in inside:
            alone |= {id(part) for part in ast.walk(root)}
    return alone


def _bound_before(function: ast.FunctionDef) -> dict[int, frozenset[str]]:
    """By statement: the local names that are bound for certain when it is reached."""
    found: dict[int, frozenset[str]] = {}

    def block(statements: list[ast.stmt], bound: frozenset[str]) -> frozenset[str]:
        for statement in statements:
            found[id(statement)] = bound
            if isinstance(statement, ast.With):
                bound = block(statement.body, bound)
            elif isinstance(statement, ast.FunctionDef):
                inner = frozenset(argument.arg for argument in statement.args.args)
                block(statement.body, bound | inner)
                bound |= {statement.name}
            elif isinstance(statement, ast.If | ast.For | ast.While):
                target = _names(statement.target, ast.Store) if isinstance(statement, ast.For) else frozenset()
                block(statement.body, bound | target)
                block(statement.orelse, bound)
            else:
                bound |= _names(statement, ast.Store)
        return bound

    block(function.body, frozenset(argument.arg for argument in function.args.args))
    return found
