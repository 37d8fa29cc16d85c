# SPDX-License-Identifier: GPL-2.0-only
"""Which executions the checks look at, where a backend's own oracle has seen all of them first.

The model has no oracle: every execution is looked at. A tree runs tens of thousands a second, more than any check in
Python can follow; what its oracle does not flag, no check would report (docs/screening.md says how that was proven), so
of those only a sample is looked at, for the metrics and for the oracle's sake. Of executions that are flagged for the
same reasons the first ones are looked at and then a share: a bug that every second execution shows must not end the
search for others.
"""

from __future__ import annotations

from typing import Final

SAMPLE_EVERY: Final = 1000
"""Of the executions that no oracle flagged, one in so many is looked at, by its number."""
SAME_FIRST: Final = 64
SAME_EVERY: Final = 64
"""Of those flagged for the same reasons, the first SAME_FIRST are looked at, and then one in so many."""


class Gate:
    """Lets executions through to the checks, by what was seen so far in this share of the run."""

    def __init__(self) -> None:
        self.seen: dict[int, int] = {}
        """By flags: how many executions had just these."""

    def lets_through(self, flags: int, execution: int) -> bool:
        """Whether execution number `execution`, flagged so, is to be looked at."""
        if not flags:
            return execution % SAMPLE_EVERY == 0
        count = self.seen.get(flags, 0)
        self.seen[flags] = count + 1
        return count < SAME_FIRST or count % SAME_EVERY == 0
