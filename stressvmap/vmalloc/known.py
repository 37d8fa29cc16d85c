# SPDX-License-Identifier: GPL-2.0-only
"""What a version is known to break, by fingerprint: so that a second mechanism never hides behind the first one's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ALWAYS: Final = "always"
RARE: Final = "rare"


@dataclass(frozen=True, slots=True)
class Known:
    """One known breakage. `frequency` ALWAYS: a run that misses it fails where known breakage is expected; RARE: it may appear."""

    check: str
    fingerprint: str
    frequency: str
    reference: str
    """The upstream commit, or the project's own finding."""
    title: str
