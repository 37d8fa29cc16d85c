# SPDX-License-Identifier: GPL-2.0-only
"""What a version is known to break, by fingerprint: so that a second mechanism never hides behind the first one's
name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from stressvmap.result import fingerprint_of

ALWAYS: Final = "always"
RARE: Final = "rare"


@dataclass(frozen=True, slots=True)
class Known:
    """One known breakage. `frequency` ALWAYS: a run that misses it fails where known breakage is expected; RARE: it
    may appear.
    """

    mechanism: str
    """The canonical text of the mechanism, as a finding shows it."""
    frequency: str
    reference: str
    """The upstream commit, or the project's own finding."""
    title: str

    @property
    def check(self) -> str:
        """The check that fires."""
        return self.mechanism.split(" | ", 1)[0]

    @property
    def fingerprint(self) -> str:
        """What it is matched by."""
        return fingerprint_of(self.mechanism)
