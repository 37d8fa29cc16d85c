# SPDX-License-Identifier: GPL-2.0-only
"""Reading, validating and writing TOML: what the configuration files of all commands have in common.

Each mistake is one line: the file or option, the key, the value, and what is allowed.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic_core import ErrorDetails

from stressvmap.errors import ConfigError
from stressvmap.scenario import Scenario


def _scenario_model() -> type[BaseModel]:
    """A scenario as it may stand in a file: Scenario's own fields and types, none required."""
    hints = get_type_hints(Scenario)
    as_in_toml = {tuple[int, ...]: list[int], tuple[str, ...]: list[str]}
    definitions: dict[str, Any] = {
        key.name: (as_in_toml.get(hints[key.name], hints[key.name]), None)
        for key in fields(Scenario)
        if key.name != "workload"
    }
    return create_model("ScenarioTable", __config__=ConfigDict(extra="forbid", strict=True), **definitions)


ScenarioTable: Final = _scenario_model()


def read_toml(path: Path) -> dict[str, Any]:
    """The file's table. Raises ConfigError with the line of a syntax error."""
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: is not valid TOML: nested too deeply") from None


def parse(model: type[BaseModel], table: Mapping[str, Any], shown: str) -> BaseModel:
    """Validate a file's table by `model`. The first mistake is told, with the number of the others."""
    try:
        return model.model_validate(table)
    except ValidationError as error:
        mistakes = error.errors()
        first = min(mistakes, key=lambda mistake: mistake["type"] != "extra_forbidden")
        others = len({mistake["loc"][:2] for mistake in mistakes}) - 1
        more = f" (and {others} more)" if others else ""
        raise ConfigError(f"{shown}: {_dotted(first['loc'])}: {_mistake(model, first)}{more}") from None


def _dotted(location: Sequence[int | str]) -> str:
    """`workload.mixed.possible[2]`. What pydantic adds for the members of a union is no key."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part not in ("str", "list[str]"):
            text += f".{part}" if text else part
    return text


_EXPECTED: Final = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a string",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}


def _mistake(model: type[BaseModel], mistake: ErrorDetails) -> str:
    kind, location, value = mistake["type"], mistake["loc"], mistake["input"]
    if kind == "extra_forbidden":
        allowed = list(model.model_fields if len(location) == 1 else ScenarioTable.model_fields)
        return "unknown key" + _did_you_mean(str(location[-1]), allowed)
    context = mistake.get("ctx", {})
    if kind == "literal_error":
        return f"{value!r} is not one of {context['expected']}".replace("'", '"').replace(" or ", ", ")
    if location[0] == "expect":
        return f'{value!r} is neither "known" nor a list of checks'
    if kind in _EXPECTED:
        return f"{_toml_or_repr(value)} is not {_EXPECTED[kind]}"
    bounds = {"greater_than": "gt", "greater_than_equal": "ge", "less_than_equal": "le"}
    if kind in bounds:
        words = {"gt": "must be above", "ge": "must be at least", "le": "must be at most"}[bounds[kind]]
        return f"{value!r} {words} {context[bounds[kind]]}"
    return f"{_toml_or_repr(value)}: {mistake['msg']}"


def _toml_or_repr(value: Any) -> str:
    try:
        return _toml(value)
    except TypeError:
        return str(value)


def _did_you_mean(name: str, allowed: Sequence[str]) -> str:
    close = get_close_matches(name, allowed, 1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(allowed)}"


def require_names(key: str, names: Sequence[str], allowed: Sequence[str], source: str, option: str) -> None:
    """Raise ConfigError for the first of `names` that is not allowed: of a key in a file, or of an option."""
    for name in names:
        if name not in allowed:
            where = f"{source}: {key}" if source else option
            raise ConfigError(f"{where}: {name!r} is not one of {', '.join(allowed)}{_close(name, allowed)}")


def _close(name: str, allowed: Sequence[str]) -> str:
    close = get_close_matches(name, allowed, 1)
    return f"; did you mean {close[0]}?" if close else ""


def set_keys(model: BaseModel) -> dict[str, Any]:
    """The keys that the file set, with plain values."""
    return {key: plain(value) for key, value in model.model_dump(exclude_unset=True).items()}


def plain(value: Any) -> Any:
    """A list as the tuple that frozen data holds; anything else as it is."""
    return tuple(value) if isinstance(value, list) else value


# -- writing ----------------------------------------------------------------------------------------------


def to_toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Tables of plain values by dotted name ("" is the top); what is None is left out."""
    lines: list[str] = []
    for name, keys in tables.items():
        if name and keys:
            lines += ["", f"[{name}]"]
        lines += [f"{key} = {_toml(value)}" for key, value in keys.items() if value is not None]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(entry)}" for key, entry in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)
