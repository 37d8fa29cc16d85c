# SPDX-License-Identifier: GPL-2.0-only
"""What is under test, as the harness knows it: a version class of the model, or a kernel tree. The one place that tells
the two apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from stressvmap.runtime.strategy import Strategy
from stressvmap.scenario import Scenario
from stressvmap.sched.controlled import ControlledRuntime
from stressvmap.sched.random import RandomStrategy
from stressvmap.tree.backend import TreeBackend, TreeRuntime, backend_for
from stressvmap.tree.version import TreeVersion, absolute_tree, is_tree
from stressvmap.vmalloc import versions
from stressvmap.vmalloc.backend import ModelBackend
from stressvmap.vmalloc.base import Vmalloc

Version = type[Vmalloc] | TreeVersion
DecidedRuntime = ControlledRuntime | TreeRuntime
"""A runtime whose every switch a strategy decides."""
Backend = ModelBackend | TreeBackend

_trees: Final[dict[str, TreeVersion]] = {}


def load(name: str) -> Version:
    """What `--version` means. Raises ConfigError, PatchError; a tree is not built yet."""
    if not is_tree(name):
        return versions.load(name)
    if name not in _trees:
        _trees[name] = TreeVersion(name)
    return _trees[name]


def absolute(name: str, folder: Path) -> str:
    """`name` with the paths in it made absolute; relative ones are meant from `folder`."""
    return absolute_tree(name, folder) if is_tree(name) else versions.absolute(name, folder)


def digest(version: Version) -> str:
    """Of all that decides what it does."""
    return version.digest if isinstance(version, TreeVersion) else versions.digest(version)


def spec_of(version: Version) -> str:
    """What `load` takes to mean it."""
    return version.text if isinstance(version, TreeVersion) else versions.spec_of(version)


def make_runtime(version: Version, strategy: Strategy | None = None) -> DecidedRuntime:
    """A runtime that a strategy decides."""
    first = RandomStrategy(0) if strategy is None else strategy
    return TreeRuntime(first) if isinstance(version, TreeVersion) else ControlledRuntime(first)


def make_backend(version: Version, scenario: Scenario, runtime: DecidedRuntime) -> Backend:
    """The backend that runs programs of a scenario on it. Raises ConfigError where a tree does not build."""
    if isinstance(version, TreeVersion):
        assert isinstance(runtime, TreeRuntime)
        return backend_for(version, scenario, runtime)
    return ModelBackend(version, scenario, runtime, spools=True)
