# SPDX-License-Identifier: GPL-2.0-only
"""Strategies made of others: each execution is one member's. In turn by execution number, or one member alone."""

from __future__ import annotations

from collections.abc import Sequence

from stressvmap.runtime.strategy import Plan, Strategy
from stressvmap.runtime.task import Task


class InTurn(Strategy):
    """Execution i is member i modulo their number: as if that member alone had run all along, for a member is begun
    with the execution's own number.
    """

    def __init__(self, members: Sequence[Strategy]) -> None:
        assert members
        self.members = tuple(members)
        self.member = self.members[0]
        """Whose execution it is, after `begin`."""
        self.calibration = max(member.calibration for member in self.members)

    @property
    def label(self) -> str:
        """The member's, of this execution."""
        return self.member.label

    def calibrate(self, lengths: Sequence[int]) -> None:
        """Each member is told as many lengths as it wants."""
        for member in self.members:
            if member.calibration:
                member.calibrate(lengths[: member.calibration])

    def choose(self, execution: int) -> Strategy:
        """The member that runs an execution: a function of its number alone."""
        return self.members[execution % len(self.members)]

    def begin(self, execution: int) -> None:
        """Choose, and begin the member."""
        self.member = self.choose(execution)
        self.member.begin(execution)
        self.wants_wakeups = self.member.wants_wakeups
        self.looks_at_tasks = self.member.looks_at_tasks
        self.repeat_share = self.member.repeat_share

    def trial(self) -> Strategy | None:
        """The member's."""
        return self.member.trial()

    def plan(self, execution: int) -> tuple[Plan, int] | None:
        """The member's."""
        return self.choose(execution).plan(execution)

    def decide(self, enabled: Sequence[Task], current: Task | None, why_stopped: int) -> tuple[Task, int]:
        """What the member says."""
        self.member.points = self.points
        return self.member.decide(enabled, current, why_stopped)

    def draw(self, n: int) -> int:
        """What the member says."""
        return self.member.draw(n)
