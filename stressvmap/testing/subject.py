# SPDX-License-Identifier: GPL-2.0-only
"""What a test is about: the version under test, and the scenario it is tested under by default."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from stressvmap.checks.registry import all_checks
from stressvmap.checks.state import State
from stressvmap.errors import ConfigError
from stressvmap.scenario import Scenario
from stressvmap.stress.subject import Version, load
from stressvmap.vmalloc.v6_4 import V6_4

SMALL: Final = Scenario(cpus=2, window_blocks=6, lazy_max=16, slots=3)
"""The default scenario: so small that thirty calls fill blocks, use up the address space and start the drain work."""


def under_test(version: str | Version, scenario: Scenario, checks: Collection[str]) -> Version:
    """What `version` means, a name or itself a class or a tree. Raises ConfigError if it is none, or if the
    scenario or a check's name makes no sense.
    """
    version_class = load(version) if isinstance(version, str) else version
    if isinstance(version_class, type) and not issubclass(version_class, V6_4):
        raise ConfigError(f"{version_class.__name__} does not inherit from a version")
    scenario.validate()
    all_checks(State(), scenario.limits, checks)
    return version_class


def known_fingerprints(version: Version) -> tuple[str, ...]:
    """What a version declares itself to break, for `allow`."""
    return tuple(known.fingerprint for known in version.known)
