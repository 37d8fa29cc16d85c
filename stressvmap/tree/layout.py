# SPDX-License-Identifier: GPL-2.0-only
"""What a built library's own debug info says: the fields of its structs, its globals, and which line a place is on.

Read once a build (pyelftools is slow) into a plain `Layout`, which is kept beside the library.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from elftools.dwarf.compileunit import CompileUnit
from elftools.dwarf.die import DIE
from elftools.dwarf.dwarf_expr import DWARFExprParser
from elftools.dwarf.dwarfinfo import DWARFInfo
from elftools.dwarf.ranges import RangeEntry
from elftools.elf.elffile import ELFFile

from stressvmap.errors import HarnessError

SCHEMA: Final = 1
KERNEL_UNITS: Final = ("mm/", "lib/")
"""How the names of the compile units begin that are the code under test."""
INTEGER: Final = ""
_TRANSPARENT: Final = frozenset(
    {"DW_TAG_typedef", "DW_TAG_const_type", "DW_TAG_volatile_type", "DW_TAG_atomic_type", "DW_TAG_restrict_type"}
)
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
class Place:
    """Where in the source a place in the code is: the innermost function, inlined or not."""

    function: str
    file: str
    line: int


@dataclass(slots=True)
class Layout:
    """Everything of one library. `place` and `field_at` are asked for each event, so they remember."""

    structs: dict[str, Struct]
    globals: dict[str, Global]
    functions: list[tuple[int, int, str]] = field(default_factory=list)
    """(start, end, name), not overlapping, ascending: of each byte the innermost function."""
    lines: list[tuple[int, str, int]] = field(default_factory=list)
    """(start, file, line), ascending."""
    _places: dict[int, Place] = field(default_factory=dict)
    _starts: list[int] = field(default_factory=list)
    _line_starts: list[int] = field(default_factory=list)

    def place(self, pc: int) -> Place:
        """Of a return address `pc`, an offset into the library: where it was called from."""
        known = self._places.get(pc)
        if known is None:
            known = self._places[pc] = self._find(pc - 1)
        return known

    def _find(self, at: int) -> Place:
        if not self._starts:
            self._starts = [start for start, _, _ in self.functions]
            self._line_starts = [start for start, _, _ in self.lines]
        number = bisect_right(self._starts, at) - 1
        function = ""
        if number >= 0 and at < self.functions[number][1]:
            function = self.functions[number][2]
        number = bisect_right(self._line_starts, at) - 1
        file, line = self.lines[number][1:] if number >= 0 else ("", 0)
        return Place(function, file, line)

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
            [(start, end, name) for start, end, name in told["functions"]],
            [(start, file, line) for start, file, line in told["lines"]],
        )


def layout_of(library: Path) -> Layout:
    """The layout of a library, from beside it if it was read before."""
    kept = library.with_name("layout.json")
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
        self.scopes: list[tuple[int, int, int, str]] = []
        """(start, end, depth, function)."""
        self.lines: list[tuple[int, str, int]] = []

    def layout(self) -> Layout:
        """What was gathered."""
        return Layout(self.structs, self.globals, _innermost(self.scopes), sorted(self.lines))

    def read(self, unit: CompileUnit) -> None:
        """Add one compile unit."""
        for die in unit.iter_DIEs():
            if die.tag == "DW_TAG_structure_type":
                self._struct(die)
            elif die.tag == "DW_TAG_variable":
                self._variable(unit, die)
            elif die.tag == "DW_TAG_subprogram":
                self._function(unit, die, 0)
        self._lines(unit)

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
        if not name or len(operations) != 1 or operations[0].op_name != "DW_OP_addr" or name in self.globals:
            return
        kind = _type_of(origin)
        if kind is None:
            return
        self.globals[name] = Global(name, operations[0].args[0], _size(kind), _label(kind))

    # -- code ---------------------------------------------------------------------------------------------

    def _function(self, unit: CompileUnit, die: DIE, depth: int) -> None:
        if depth == 0 and not ({"DW_AT_low_pc", "DW_AT_ranges"} & die.attributes.keys()):
            return
        if die.tag in ("DW_TAG_subprogram", "DW_TAG_inlined_subroutine"):
            name = _function_name(die)
            self.scopes += [(start, end, depth, name) for start, end in self._ranges(unit, die)]
        for child in die.iter_children():
            if child.tag in ("DW_TAG_inlined_subroutine", "DW_TAG_lexical_block"):
                self._function(unit, child, depth + 1)

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

    def _lines(self, unit: CompileUnit) -> None:
        program = self.dwarf.line_program_for_CU(unit)
        if program is None:
            return
        version = program.header["version"]
        files = program.header["file_entry"]
        folders = program.header["include_directory"]
        names = []
        for entry in files:
            folder_number = entry.dir_index if version >= 5 else entry.dir_index - 1
            folder = folders[folder_number] if 0 <= folder_number < len(folders) else b""
            names.append(_joined(folder, entry.name))
        for entry in program.get_entries():
            state = entry.state
            if state is not None and not state.end_sequence:
                number = state.file if version >= 5 else state.file - 1
                self.lines.append((state.address, names[number] if number < len(names) else "", state.line))


def _joined(folder: bytes, name: bytes) -> str:
    where, text = folder.decode(errors="replace"), name.decode(errors="replace")
    return text if not where or where == "." or text.startswith("/") else f"{where.rstrip('/')}/{text}"


def _innermost(scopes: list[tuple[int, int, int, str]]) -> list[tuple[int, int, str]]:
    """Nested ranges as ranges side by side, each with the deepest of those that cover it."""
    cuts = sorted({edge for start, end, _, _ in scopes for edge in (start, end)})
    owner: dict[int, tuple[int, str]] = {}
    positions = {cut: number for number, cut in enumerate(cuts)}
    for start, end, depth, name in scopes:
        for number in range(positions[start], positions[end]):
            if owner.get(number, (-1, ""))[0] <= depth:
                owner[number] = (depth, name)
    return [(cuts[number], cuts[number + 1], owner[number][1]) for number in sorted(owner)]


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
