# SPDX-License-Identifier: GPL-2.0-only
"""How a test fails: one exception class a fingerprint, with the story, and the schedule that shows it again."""

from __future__ import annotations

from typing import ClassVar

from stressvmap.checks.base import Violation
from stressvmap.stress.schedule_file import SavedSchedule


class VmapViolation(AssertionError):
    """An invariant did not hold; the message is the story. Each fingerprint has a subclass of its own.

    So Hypothesis takes two mechanisms for two bugs: it shrinks each by itself, and never slips from one to the other.
    """

    fingerprint: ClassVar[str] = ""
    stressvmap_schedule: SavedSchedule | None = None
    """What shows it again; None where calls came one after the other, so that there was nothing to decide."""


def failure_of(violation: Violation, *about: str) -> VmapViolation:
    """The exception that tells `violation`; `about` are more lines for its message."""
    fingerprint = violation.fingerprint
    if fingerprint not in _classes:
        name = "".join(part.capitalize() for part in violation.check.split("-"))
        _classes[fingerprint] = type(name, (VmapViolation,), {"fingerprint": fingerprint})
    told = f"{violation.check}: {violation.message}\n  fingerprint {fingerprint}: {violation.mechanism.text()}"
    return _classes[fingerprint]("\n".join([told, *about]))


_classes: dict[str, type[VmapViolation]] = {}
