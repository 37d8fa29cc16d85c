# SPDX-License-Identifier: GPL-2.0-only
"""From a violation to the finding that a result keeps of it."""

from __future__ import annotations

from collections.abc import Mapping

from stressvmap.checks.base import Violation
from stressvmap.known import Known
from stressvmap.result import Finding


def finding_of(violation: Violation, declared: Mapping[str, Known], execution: int) -> Finding:
    """The first of its kind, seen in `execution`. `declared`: by fingerprint, what the version is known to break; it
    is known only if the check is the declared one, too. Where its evidence lies is the caller's to add.
    """
    known = declared.get(violation.fingerprint)
    return Finding(
        check=violation.check,
        fingerprint=violation.fingerprint,
        mechanism=violation.mechanism.text(),
        message=violation.message,
        known=known is not None and known.check == violation.check,
        reference="" if known is None else known.reference,
        title="" if known is None else known.title,
        first_at_schedule=execution,
        at=violation.at,
        pages=[] if violation.pages is None else [violation.pages.start, violation.pages.end],
    )
