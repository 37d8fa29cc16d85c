# SPDX-License-Identifier: GPL-2.0-only
"""Kernel trees are read and built before anything runs; a user is told what takes long, and what the build noted."""

from __future__ import annotations

from stressvmap.cli.output import complain
from stressvmap.scenario import Scenario
from stressvmap.stress import subject
from stressvmap.tree.version import TreeVersion


def prepare(name: str, scenario: Scenario, *, is_quiet: bool) -> None:
    """Build the version for the scenario, if it is a tree. Raises ConfigError (BuildError) where it does not build."""
    version = subject.load(name)
    if not isinstance(version, TreeVersion):
        return
    scenario.validate()
    say = _silent if is_quiet else complain
    for note in version.built_for(scenario, say)[0].notes:
        say(f"note: {note}")


def _silent(_message: str) -> None:
    return None
