# SPDX-License-Identifier: GPL-2.0-only
"""What `--version` can name: the built-in versions, and a user's own patch as `./path/to/file.py:ClassName`.

Also what a version is made of: a digest of its sources, and its flattened source with the origin of each function.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
import sys
import textwrap
import traceback
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from difflib import get_close_matches
from inspect import Parameter
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Final

import stressvmap.kernel
from stressvmap.errors import ConfigError, PatchError
from stressvmap.kernel.function import kernel_function_named
from stressvmap.vmalloc.base import Vmalloc
from stressvmap.vmalloc.rfc_3of3 import Rfc3of3, Rfc3of3OnV6_1
from stressvmap.vmalloc.v6_1 import V6_1
from stressvmap.vmalloc.v6_4 import V6_4
from stressvmap.vmalloc.v6_5 import V6_5
from stressvmap.vmalloc.v6_12 import V6_12

BUILT_IN: Final[dict[str, type[Vmalloc]]] = {
    version.NAME: version for version in (V6_1, Rfc3of3OnV6_1, V6_4, Rfc3of3, V6_5, V6_12)
}
"""The versions by name, oldest first, each before the patches on it."""
DEFAULT: Final = V6_5.NAME
"""What is run where none is named."""

_PATH_AND_CLASS: Final = re.compile(r"(?P<path>.+?\.py)(?::(?P<name>[^/:]*))?\Z", re.DOTALL)
_SAFE_NAME: Final = re.compile(r"[\w.+:-]{1,80}")
"""A version's name becomes part of file names."""
_PACKAGE_FOLDER: Final = Path(stressvmap.kernel.__file__ or "").resolve().parent.parent


def load(name: str) -> type[Vmalloc]:
    """The version class that `name` means; ConfigError if there is none, PatchError if a patch file is at fault."""
    built_in = BUILT_IN.get(name)
    if built_in is not None:
        return built_in
    match = _PATH_AND_CLASS.match(name)
    if match is None:
        raise ConfigError(_unknown(name))
    return _load_patch(match["path"], match["name"])


def spec_of(version: type[Vmalloc]) -> str:
    """What `load` takes to mean `version`: a name, or the absolute path of its file, and the class.

    A class inside a function has no such name: `load` refuses what is returned for it, and says which class it was.
    """
    if BUILT_IN.get(version.NAME) is version:
        return version.NAME
    return f"{_file_of(version)}:{version.__qualname__}"


def is_patch_file(name: str) -> bool:
    """Whether `name` means a class in a file of the user's own."""
    return name not in BUILT_IN and _PATH_AND_CLASS.match(name) is not None


def absolute(name: str, folder: Path) -> str:
    """`name` with its path, if it is one, made absolute; a relative one is meant from `folder`."""
    match = _PATH_AND_CLASS.match(name)
    if match is None or name in BUILT_IN:
        return name
    path = str((folder / match["path"]).resolve())
    return path if match["name"] is None else f"{path}:{match['name']}"


def _unknown(name: str) -> str:
    close = get_close_matches(name, BUILT_IN, 1, 0.5)
    hint = f", did you mean {close[0]}?" if close else "."
    return f"version {name!r} is unknown{hint} There are {', '.join(BUILT_IN)}, and ./path/to/file.py:ClassName"


# -- a user's own patch file ------------------------------------------------------------------------------


def _load_patch(path_text: str, class_name: str | None) -> type[Vmalloc]:
    module = _load_module(Path(path_text), path_text)
    if class_name is None:
        version = _only_version(module, path_text)
    else:
        version = _named_version(module, path_text, class_name)
    if "NAME" not in vars(version):
        version.NAME = f"{Path(path_text).name}:{version.__name__}"
    if not _SAFE_NAME.fullmatch(str(version.NAME)):
        raise PatchError(
            f"{path_text}: {version.__name__}.NAME is {version.NAME!r}; letters, digits and . _ + : - it may hold"
        )
    for cls in reversed(version.__mro__):
        if cls.__module__ == module.__name__:
            _mark_overrides(cls, path_text)
    return version


def _load_module(path: Path, shown: str) -> ModuleType:
    """Run the file as a module, once as long as its text stays the same."""
    try:
        source = path.read_bytes()
    except FileNotFoundError:
        raise PatchError(f"version {shown}: there is no such file") from None
    except OSError as error:
        raise PatchError(f"version {shown}: cannot be read: {error.strerror}") from None
    resolved = str(path.resolve())
    key = hashlib.sha256(resolved.encode() + b"\0" + source).hexdigest()[:12]
    module_name = f"stressvmap_patch_{key}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    try:
        code = compile(source, resolved, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise PatchError(f"{shown}:{error.lineno or 1}: {type(error).__name__}: {error.msg}") from None
    except ValueError as error:
        raise PatchError(f"{shown}:1: is no Python source: {error}") from None
    module = ModuleType(module_name)
    module.__file__ = resolved
    vars(module)["IS_USER_PATCH"] = True
    sys.modules[module_name] = module
    try:
        with redirect_stdout(sys.stderr):  # standard output is the command's
            exec(code, vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        raise PatchError(
            f"{shown}:{_line_in(error, resolved)}: {_one_line(error)}, while the file was loaded"
        ) from error
    except BaseException:
        del sys.modules[module_name]
        raise
    return module


def _line_in(error: BaseException, path: str) -> int:
    """The innermost line of `path` on the error's way."""
    if isinstance(error, SyntaxError) and error.filename == path:
        return error.lineno or 1
    lines = [frame.lineno or 1 for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return lines[-1] if lines else 1


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _is_version(value: object) -> bool:
    """Whether it is a class that can be run: one that inherits from a version, not merely from the common base."""
    return isinstance(value, type) and issubclass(value, Vmalloc) and value.vm_map_ram is not Vmalloc.vm_map_ram


def _only_version(module: ModuleType, path: str) -> type[Vmalloc]:
    own = [name for name, value in vars(module).items() if _is_version(value) and value.__module__ == module.__name__]
    if not own:
        raise PatchError(f"{path}: defines no class that inherits from a version ({', '.join(_class_names())})")
    if len(own) > 1:
        raise PatchError(f"{path}: defines {len(own)} versions ({', '.join(own)}): say which, as {path}:{own[-1]}")
    version: type[Vmalloc] = vars(module)[own[0]]
    return version


def _named_version(module: ModuleType, path: str, class_name: str) -> type[Vmalloc]:
    value = vars(module).get(class_name)
    if _is_version(value):
        assert isinstance(value, type)
        return value
    if value is not None:
        raise PatchError(
            f"{path}: {class_name} is not a class that inherits from a version ({', '.join(_class_names())})"
        )
    own = [name for name, value in vars(module).items() if _is_version(value) and value.__module__ == module.__name__]
    there = f"it has {', '.join(own)}" if own else "it has none that inherits from a version"
    raise PatchError(f"{path}: has no class {class_name!r}; {there}")


def _class_names() -> list[str]:
    return [version.__name__ for version in BUILT_IN.values()]


def _mark_overrides(cls: type, path: str) -> None:
    """An override of a marked kernel function is marked too, so that its steps carry the function's name."""
    for name, function in list(vars(cls).items()):
        if not isinstance(function, FunctionType):
            continue
        overridden = next((vars(base)[name] for base in cls.__mro__[1:] if name in vars(base)), None)
        if isinstance(overridden, FunctionType) and overridden is not object.__init__:
            _require_same_call(cls, name, function, overridden, path)
        if hasattr(function, "kernel_name"):
            continue
        kernel_name = getattr(overridden, "kernel_name", None)
        if kernel_name is not None:
            setattr(cls, name, kernel_function_named(kernel_name)(function))


def _require_same_call(cls: type, name: str, function: FunctionType, overridden: FunctionType, path: str) -> None:
    """The model calls an override as it calls what is overridden: with positional arguments."""
    ours, theirs = inspect.signature(function), inspect.signature(overridden)
    kinds = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    positional = [parameter for parameter in theirs.parameters.values() if parameter.kind in kinds]
    required = sum(parameter.default is Parameter.empty for parameter in positional)
    try:
        for count in (required, len(positional)):
            ours.bind(*positional[:count])
    except TypeError:
        line = inspect.unwrap(function).__code__.co_firstlineno
        takes, needs = (", ".join(signature.parameters) for signature in (ours, theirs))
        told = f"{cls.__name__}.{name}({takes}) is called as {name}({needs}), which it overrides"
        raise PatchError(f"{path}:{line}: {told}") from None


# -- what a version is made of ----------------------------------------------------------------------------


def lineage(version: type[Vmalloc]) -> list[type[Vmalloc]]:
    """The classes a version is made of, itself first, the common base last."""
    return [cls for cls in version.__mro__ if issubclass(cls, Vmalloc)]


def digest(version: type[Vmalloc]) -> str:
    """First 16 digits of a SHA-256 over the sources that decide what it does: its classes' files and kernel/."""
    files = {_file_of(cls) for cls in version.__mro__ if cls.__module__ not in ("builtins", "typing")}
    files |= {_PACKAGE_FOLDER / "vmalloc/structs.py", *(_PACKAGE_FOLDER / "kernel").glob("*.py")}
    total = hashlib.sha256()
    for path in sorted((path for path in files if path.is_file()), key=lambda path: (path.name, str(path))):
        total.update(path.name.encode() + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:16]


def _file_of(cls: type) -> Path:
    return Path(getattr(sys.modules[cls.__module__], "__file__", "") or "").resolve()


@dataclass(frozen=True, slots=True)
class Definition:
    """One method or attribute as one class of the lineage defines it."""

    name: str
    cls: type
    line: int
    text: str
    """Its source, dedented."""
    calls_super: bool

    def origin(self) -> str:
        """`V6_4 (stressvmap/vmalloc/v6_4.py:123)`."""
        return f"{self.cls.__name__} ({_shown(_file_of(self.cls))}:{self.line})"


def _shown(path: Path) -> str:
    if path.is_relative_to(_PACKAGE_FOLDER):
        return path.relative_to(_PACKAGE_FOLDER.parent).as_posix()
    return str(path)


def show(version: type[Vmalloc]) -> str:
    """The flattened source: each method as it is run, in the order of the oldest version's file, with its origin."""
    classes = lineage(version)
    definitions = {cls: {definition.name: definition for definition in _definitions(cls)} for cls in classes}
    order: dict[str, None] = {}
    for cls in [*reversed(classes[:-1]), classes[-1]]:
        order.update(dict.fromkeys(definitions[cls]))
    lines = [
        f"# {version.NAME}: {version.TITLE}" if version.TITLE else f"# {version.NAME}",
        f"# {' < '.join(cls.__name__ for cls in classes)}, flattened; to be read, not to be run",
        "",
        f"class {version.__name__}:",
        textwrap.indent(f'"""{inspect.cleandoc(version.__doc__ or version.NAME)}"""', "    "),
    ]
    for name in order:
        for definition in _as_run(name, classes, definitions):
            lines += ["", f"    # from {definition.origin()}", textwrap.indent(definition.text, "    ")]
    return "\n".join(lines) + "\n"


def _as_run(
    name: str, classes: list[type[Vmalloc]], definitions: dict[type[Vmalloc], dict[str, Definition]]
) -> list[Definition]:
    """What runs under `name`: the most derived definition, after those that it reaches through super()."""
    reached: list[Definition] = []
    for cls in classes:
        definition = definitions[cls].get(name)
        if definition is not None:
            reached.append(definition)
            if not definition.calls_super:
                break
    return list(reversed(reached))


def _definitions(cls: type) -> Iterator[Definition]:
    source = _file_of(cls).read_text(encoding="utf-8")
    lines = source.splitlines()
    body = next(
        (
            node.body
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.ClassDef) and node.name == cls.__name__
        ),
        [],
    )
    for position, node in enumerate(body):
        name = _defined_name(node)
        if not name:
            continue
        first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
        last = node.end_lineno or first
        if (
            isinstance(node, ast.Assign | ast.AnnAssign)
            and position + 1 < len(body)
            and _is_docstring(body[position + 1])
        ):
            last = body[position + 1].end_lineno or last
        text = textwrap.dedent("\n".join(lines[first - 1 : last]))
        calls_super = any(isinstance(part, ast.Name) and part.id == "super" for part in ast.walk(node))
        yield Definition(name, cls, node.lineno, text, calls_super)


def _defined_name(node: ast.stmt) -> str:
    if isinstance(node, ast.FunctionDef):
        return node.name
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.target.id
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    return ""


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
