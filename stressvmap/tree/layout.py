# SPDX-License-Identifier: GPL-2.0-only
"""What a built library's own debug info says: the fields of its structs, its globals, and which line a place is on.

Read once a build (pyelftools is slow) into a plain `Layout`, which is kept beside the library.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from elftools.dwarf.compileunit import CompileUnit
from elftools.dwarf.die import DIE
from elftools.dwarf.dwarf_expr import DWARFExprParser
from elftools.dwarf.dwarfinfo import DWARFInfo
from elftools.dwarf.ranges import RangeEntry
from elftools.elf.elffile import ELFFile

from stressvmap.errors import HarnessError
from stressvmap.journal.place import UNDER_TEST, Place

SCHEMA: Final = 2
KERNEL_UNITS: Final = ("mm/", "lib/")
"""How the names of the compile units begin that are the code under test."""
LAYOUTS: Final = 8
"""So many are kept in memory."""
INTEGER: Final = ""
_TRANSPARENT: Final = frozenset(
    {"DW_TAG_typedef", "DW_TAG_const_type", "DW_TAG_volatile_type", "DW_TAG_atomic_type", "DW_TAG_restrict_type"}
)
_CALLS: Final = frozenset({"DW_TAG_call_site", "DW_TAG_GNU_call_site"})
_ORIGINS: Final = ("DW_AT_call_origin", "DW_AT_abstract_origin")
_ADDRESSES: Final = frozenset({"DW_OP_addr", "DW_OP_addrx"})
_RECORDS: Final = frozenset({"DW_TAG_structure_type", "DW_TAG_union_type"})


@dataclass(frozen=True, slots=True)
class Field:
    """One scalar of a struct, however deep it lies in it."""

    offset: int
    size: int
    path: str
    """`dirty_min`, `free_list.next`, `pool[3].len`."""
    points_to: str = INTEGER
    """Of a pointer: the struct it points to, `void` where that is none; of an integer: empty."""


@dataclass(frozen=True, slots=True)
class Struct:
    """A struct's size in bytes, its scalars by offset (of a union, those of its first member first), and the structs
    that lie in it, by offset.
    """

    name: str
    size: int
    fields: tuple[Field, ...]
    parts: tuple[tuple[int, str, str], ...]
    """(offset, path, type) of each struct or array in it."""

    def field(self, path: str) -> Field | None:
        """The field of that name."""
        return next((one for one in self.fields if one.path == path), None)

    def part(self, path: str) -> tuple[int, str, str] | None:
        """Where a struct in it lies."""
        return next((one for one in self.parts if one[1] == path), None)

    def at(self, offset: int) -> Field | None:
        """The field that holds the byte at `offset`."""
        return next((one for one in self.fields if one.offset <= offset < one.offset + one.size), None)


@dataclass(frozen=True, slots=True)
class Global:
    """A variable with an address of its own, as an offset into the library."""

    name: str
    offset: int
    size: int
    type: str
    """A struct's name, `*name` for a pointer to one, else empty."""


@dataclass(frozen=True, slots=True)
class Scope:
    """A function, or one inlining of it, which is in the scope numbered `caller` (-1: of none) and called there at
    file:line.
    """

    function: str
    caller: int
    file: str
    line: int


@dataclass(slots=True)
class Layout:
    """Everything of one library. `places` is asked for each event, so it remembers."""

    structs: dict[str, Struct]
    globals: dict[str, Global]
    functions: list[tuple[int, int, int]] = field(default_factory=list)
    """(start, end, number of the scope), not overlapping, ascending: of each byte the innermost function."""
    lines: list[tuple[int, str, int]] = field(default_factory=list)
    """(start, file, line), ascending; of those of one address the last counts."""
    scopes: list[Scope] = field(default_factory=list)
    callers: dict[str, list[str]] = field(default_factory=dict)
    """By function of mm/: those that call it, and those that these were inlined into."""
    _places: dict[int, tuple[Place, ...]] = field(default_factory=dict)
    _starts: list[int] = field(default_factory=list)
    _line_starts: list[int] = field(default_factory=list)

    def places(self, pc: int) -> tuple[Place, ...]:
        """Of a return address `pc`, an offset into the library: where it was called from, in the innermost function,
        inlined or not; then where that was called, as far as it was inlined. Empty: in none of the code under test.
        """
        known = self._places.get(pc)
        if known is None:
            known = self._places[pc] = tuple(self._find(pc - 1))
        return known

    def _find(self, at: int) -> Iterator[Place]:
        if not self._starts:
            self._starts = [start for start, _, _ in self.functions]
            self._line_starts = [start for start, _, _ in self.lines]
        number = bisect_right(self._starts, at) - 1
        if number < 0 or at >= self.functions[number][1]:
            return
        scope = self.scopes[self.functions[number][2]]
        number = bisect_right(self._line_starts, at) - 1
        file, line = self.lines[number][1:] if number >= 0 else ("", 0)
        yield Place(scope.function, file, line)
        while scope.caller >= 0:
            file, line = scope.file, scope.line
            scope = self.scopes[scope.caller]
            yield Place(scope.function, file, line)

    # -- kept beside the library --------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        told = {
            "schema": SCHEMA,
            "structs": [
                [s.name, s.size, [[f.offset, f.size, f.path, f.points_to] for f in s.fields], s.parts]
                for s in self.structs.values()
            ],
            "globals": [[g.name, g.offset, g.size, g.type] for g in self.globals.values()],
            "functions": self.functions,
            "lines": self.lines,
            "callers": self.callers,
            "scopes": [[s.function, s.caller, s.file, s.line] for s in self.scopes],
        }
        path.write_text(json.dumps(told, separators=(",", ":")), encoding="utf-8")

    @staticmethod
    def load(path: Path) -> Layout:
        """The inverse of `save`. Raises HarnessError if the file is none of this release's."""
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if told.get("schema") != SCHEMA:
            raise HarnessError(f"{path}: schema {told.get('schema')!r} is not {SCHEMA}")
        structs = [
            Struct(name, size, tuple(Field(*one) for one in fields), tuple((o, p, t) for o, p, t in parts))
            for name, size, fields, parts in told["structs"]
        ]
        variables = [Global(*one) for one in told["globals"]]
        return Layout(
            {one.name: one for one in structs},
            {one.name: one for one in variables},
            [(start, end, number) for start, end, number in told["functions"]],
            [(start, file, line) for start, file, line in told["lines"]],
            [Scope(*one) for one in told["scopes"]],
            told["callers"],
        )


@lru_cache(maxsize=LAYOUTS)
def layout_of(library: Path) -> Layout:
    """The layout of a library, from beside it if it was read before."""
    kept = library.with_name(f"layout-{SCHEMA}.json")
    if kept.is_file():
        return Layout.load(kept)
    layout = read_layout(library, KERNEL_UNITS)
    partial = kept.with_name(f".{kept.name}.{os.getpid()}.part")
    layout.save(partial)
    partial.replace(kept)
    return layout


def read_layout(library: Path, units: tuple[str, ...] = ()) -> Layout:
    """The layout of a library with debug info: of the compile units whose source's name begins with one of `units`, or
    of all. Raises HarnessError if it has no debug info.
    """
    with library.open("rb") as file:
        elf = ELFFile(file)
        if not elf.has_dwarf_info():
            raise HarnessError(f"{library}: has no debug info")
        reader = _Reader(elf.get_dwarf_info())
        for unit in reader.dwarf.iter_CUs():
            if not units or _name(unit.get_top_DIE()).startswith(units):
                reader.read(unit)
        return reader.layout()


class _Reader:
    """Gathers a layout unit by unit."""

    def __init__(self, dwarf: DWARFInfo) -> None:
        self.dwarf = dwarf
        self.structs: dict[str, Struct] = {}
        self.globals: dict[str, Global] = {}
        self.scopes: list[Scope] = []
        self.callers: dict[str, set[str]] = {}
        self.told: set[str] = set()
        """The functions of mm/ that were not inlined everywhere."""
        self.ranges: list[tuple[int, int, int, int]] = []
        """(start, end, depth, number of the scope)."""
        self.lines: list[tuple[int, str, int]] = []

    def layout(self) -> Layout:
        """What was gathered."""
        in_order = sorted(self.lines, key=lambda one: one[0])
        callers = {name: sorted(self.callers[name]) for name in sorted(self.callers.keys() & self.told)}
        return Layout(self.structs, self.globals, _innermost(self.ranges), in_order, self.scopes, callers)

    def read(self, unit: CompileUnit) -> None:
        """Add one compile unit."""
        files = self._files(unit)
        for die in unit.iter_DIEs():
            if die.tag == "DW_TAG_structure_type":
                self._struct(die)
            elif die.tag == "DW_TAG_variable":
                self._variable(unit, die)
            elif die.tag == "DW_TAG_subprogram":
                is_defined = "DW_AT_declaration" not in die.attributes
                if is_defined and _name(unit.get_top_DIE()).startswith(UNDER_TEST):
                    self.told.add(_function_name(die))
                self._function(unit, die, 0, -1, files)
        self._lines(unit, files)

    # -- types --------------------------------------------------------------------------------------------

    def _struct(self, die: DIE) -> None:
        name = _name(die)
        if not name or "DW_AT_declaration" in die.attributes or name in self.structs:
            return
        fields: list[Field] = []
        parts: list[tuple[int, str, str]] = []
        _members(die, 0, "", fields, parts)
        fields.sort(key=lambda one: one.offset)
        self.structs[name] = Struct(name, _size(die), tuple(fields), tuple(parts))

    def _variable(self, unit: CompileUnit, die: DIE) -> None:
        location = die.attributes.get("DW_AT_location")
        if location is None or not isinstance(location.value, list | bytes):
            return
        origin = die.get_DIE_from_attribute("DW_AT_specification") if "DW_AT_specification" in die.attributes else die
        name = _name(origin)
        operations = DWARFExprParser(unit.structs).parse_expr(location.value)
        if not name or len(operations) != 1 or operations[0].op_name not in _ADDRESSES or name in self.globals:
            return
        kind = _type_of(origin)
        if kind is None:
            return
        offset = operations[0].args[0]
        if operations[0].op_name == "DW_OP_addrx":
            offset = self.dwarf.get_addr(unit, offset)
        self.globals[name] = Global(name, offset, _size(kind), _label(kind))

    # -- code ---------------------------------------------------------------------------------------------

    def _function(self, unit: CompileUnit, die: DIE, depth: int, caller: int, files: Sequence[str]) -> None:
        if depth == 0 and not ({"DW_AT_low_pc", "DW_AT_ranges"} & die.attributes.keys()):
            return
        if die.tag in ("DW_TAG_subprogram", "DW_TAG_inlined_subroutine"):
            file, line = _number(die, "DW_AT_call_file"), _number(die, "DW_AT_call_line")
            self.scopes.append(Scope(_function_name(die), caller, files[file] if file < len(files) else "", line))
            caller = len(self.scopes) - 1
            self.ranges += [(start, end, depth, caller) for start, end in self._ranges(unit, die)]
        for child in die.iter_children():
            if child.tag in ("DW_TAG_inlined_subroutine", "DW_TAG_lexical_block"):
                self._function(unit, child, depth + 1, caller, files)
            elif child.tag in _CALLS and any(name in child.attributes for name in _ORIGINS):
                self._call(child, caller)

    def _call(self, die: DIE, scope: int) -> None:
        origin = next(name for name in _ORIGINS if name in die.attributes)
        callers = self.callers.setdefault(_function_name(die.get_DIE_from_attribute(origin)), set())
        while scope >= 0:
            callers.add(self.scopes[scope].function)
            scope = self.scopes[scope].caller

    def _ranges(self, unit: CompileUnit, die: DIE) -> list[tuple[int, int]]:
        low = die.attributes.get("DW_AT_low_pc")
        high = die.attributes.get("DW_AT_high_pc")
        if low is not None and high is not None:
            is_address = high.form == "DW_FORM_addr"
            return [(low.value, high.value if is_address else low.value + high.value)]
        ranges = die.attributes.get("DW_AT_ranges")
        lists = self.dwarf.range_lists()
        if ranges is None or lists is None:
            return []
        base = unit.get_top_DIE().attributes.get("DW_AT_low_pc")
        start = 0 if base is None else base.value
        found = []
        for entry in lists.get_range_list_at_offset(ranges.value, cu=unit):
            if isinstance(entry, RangeEntry):
                offset = 0 if entry.is_absolute else start
                found.append((entry.begin_offset + offset, entry.end_offset + offset))
            else:
                start = entry.base_address
        return found

    def _files(self, unit: CompileUnit) -> list[str]:
        """The unit's files by their numbers."""
        program = self.dwarf.line_program_for_CU(unit)
        if program is None:
            return []
        is_from_zero = program.header["version"] >= 5
        folders = program.header["include_directory"]
        names = [] if is_from_zero else [""]
        for entry in program.header["file_entry"]:
            folder_number = entry.dir_index if is_from_zero else entry.dir_index - 1
            folder = folders[folder_number] if 0 <= folder_number < len(folders) else b""
            names.append(_joined(folder, entry.name))
        return names

    def _lines(self, unit: CompileUnit, files: Sequence[str]) -> None:
        program = self.dwarf.line_program_for_CU(unit)
        for entry in program.get_entries() if program is not None else ():
            state = entry.state
            if state is not None and not state.end_sequence:
                self.lines.append((state.address, files[state.file] if state.file < len(files) else "", state.line))


def _joined(folder: bytes, name: bytes) -> str:
    where, text = folder.decode(errors="replace"), name.decode(errors="replace")
    return text if not where or where == "." or text.startswith("/") else f"{where.rstrip('/')}/{text}"


def _innermost(scopes: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int]]:
    """Nested ranges as ranges side by side, each with the deepest of those that cover it."""
    cuts = sorted({edge for start, end, _, _ in scopes for edge in (start, end)})
    owner: dict[int, tuple[int, int]] = {}
    positions = {cut: number for number, cut in enumerate(cuts)}
    for start, end, depth, scope in scopes:
        for number in range(positions[start], positions[end]):
            if owner.get(number, (-1, 0))[0] <= depth:
                owner[number] = (depth, scope)
    return [(cuts[number], cuts[number + 1], owner[number][1]) for number in sorted(owner)]


def _number(die: DIE, name: str) -> int:
    attribute = die.attributes.get(name)
    return 0 if attribute is None else int(attribute.value)


def _function_name(die: DIE) -> str:
    while not _name(die):
        for link in ("DW_AT_abstract_origin", "DW_AT_specification"):
            if link in die.attributes:
                die = die.get_DIE_from_attribute(link)
                break
        else:
            return ""
    return _name(die)


def _name(die: DIE) -> str:
    attribute = die.attributes.get("DW_AT_name")
    return "" if attribute is None else attribute.value.decode()


def _type_of(die: DIE) -> DIE | None:
    """The type of a member or variable, without qualifiers and typedefs; None: void."""
    kind = die.get_DIE_from_attribute("DW_AT_type") if "DW_AT_type" in die.attributes else None
    while kind is not None and kind.tag in _TRANSPARENT:
        kind = kind.get_DIE_from_attribute("DW_AT_type") if "DW_AT_type" in kind.attributes else None
    return kind


def _size(kind: DIE) -> int:
    size = kind.attributes.get("DW_AT_byte_size")
    if size is not None:
        return int(size.value)
    if kind.tag == "DW_TAG_array_type":
        element = _type_of(kind)
        return _length(kind) * (0 if element is None else _size(element))
    return 8 if kind.tag == "DW_TAG_pointer_type" else 0


def _length(array: DIE) -> int:
    total = 1
    for child in array.iter_children():
        if child.tag == "DW_TAG_subrange_type":
            count = child.attributes.get("DW_AT_count")
            upper = child.attributes.get("DW_AT_upper_bound")
            if count is not None:
                total *= count.value
            elif upper is not None and isinstance(upper.value, int):
                total *= upper.value + 1
            else:
                return 0
    return total


def _label(kind: DIE) -> str:
    if kind.tag in _RECORDS:
        return _name(kind)
    if kind.tag == "DW_TAG_pointer_type":
        return f"*{_pointee(kind)}"
    return ""


def _pointee(pointer: DIE) -> str:
    target = _type_of(pointer)
    return "void" if target is None or target.tag not in _RECORDS else _name(target) or "void"


def _members(record: DIE, base: int, prefix: str, fields: list[Field], parts: list[tuple[int, str, str]]) -> None:
    """Add the scalars of a struct or union whose first byte is `base`, under `prefix`."""
    for member in record.iter_children():
        if member.tag != "DW_TAG_member":
            continue
        offset = base + _member_offset(member)
        kind = _type_of(member)
        if kind is not None:
            name = _name(member)
            _value(kind, offset, f"{prefix}.{name}" if prefix and name else prefix or name, fields, parts)


def _member_offset(member: DIE) -> int:
    bits = member.attributes.get("DW_AT_data_bit_offset")
    if bits is not None:
        return int(bits.value) // 8
    place = member.attributes.get("DW_AT_data_member_location")
    return int(place.value) if place is not None and isinstance(place.value, int) else 0


def _value(kind: DIE, offset: int, path: str, fields: list[Field], parts: list[tuple[int, str, str]]) -> None:
    if kind.tag in _RECORDS:
        if path:
            parts.append((offset, path, _name(kind)))
        _members(kind, offset, path, fields, parts)
    elif kind.tag == "DW_TAG_array_type":
        element = _type_of(kind)
        length = _length(kind)
        if element is None or not length:
            return
        parts.append((offset, path, ""))
        for number in range(length):
            _value(element, offset + number * _size(element), f"{path}[{number}]", fields, parts)
    elif kind.tag == "DW_TAG_pointer_type":
        fields.append(Field(offset, 8, path, _pointee(kind)))
    else:
        fields.append(Field(offset, _size(kind), path))
