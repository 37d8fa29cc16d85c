# SPDX-License-Identifier: GPL-2.0-only
"""The determinism check: another strategy's schedules, each of them run again and the two journals compared.

As shuttle's scheduler for uncontrolled nondeterminism: what differs between two runs of one schedule is something that
is not ours to decide, and no replay could be trusted. The strategy only asks for it; running again and comparing is
the business of whoever runs executions.
"""

from __future__ import annotations

from stressvmap.runtime.strategy import Strategy
from stressvmap.sched.delegate import InTurn


class Twice(InTurn):
    """Decides as the strategy it wraps, and asks for every execution to be run again."""

    def __init__(self, strategy: Strategy) -> None:
        super().__init__([strategy])
        self.repeat_share = 1.0

    @property
    def label(self) -> str:
        """As `--strategy` takes it."""
        return f"twice:{self.member.label}"

    def begin(self, execution: int) -> None:
        """Begin the wrapped strategy."""
        super().begin(execution)
        self.repeat_share = 1.0
