# SPDX-License-Identifier: GPL-2.0-only
"""The portfolio: each execution is one of several strategies', drawn by fixed shares.

No strategy finds everything soonest: the shares are what the table in docs/strategies.md supports. It costs at most
1/share of what the best of them alone would have cost, whichever that is.
"""

from __future__ import annotations

from random import Random
from typing import Final

from stressvmap.runtime.strategy import Strategy
from stressvmap.sched.delegate import InTurn
from stressvmap.sched.pct import PctStrategy
from stressvmap.sched.pos import PosStrategy
from stressvmap.sched.random import RandomStrategy
from stressvmap.sched.sticky import StickyStrategy
from stressvmap.sched.surw import SurwStrategy
from stressvmap.sched.switch_points import SwitchPointsStrategy

SHARES: Final = (30, 25, 15, 15, 10, 5)
"""Per cent, of the members below in their order."""


class MixedStrategy(InTurn):
    """Members: switch-points, sticky, pct, random, pos, surw. Which one an execution is depends on (seed, number)."""

    def __init__(self, seed: int) -> None:
        super().__init__(
            (
                SwitchPointsStrategy(seed),
                StickyStrategy(seed),
                PctStrategy(seed),
                RandomStrategy(seed),
                PosStrategy(seed),
                SurwStrategy(seed),
            )
        )
        self.seed = seed

    def choose(self, execution: int) -> Strategy:
        """Drawn by SHARES."""
        return Random(f"mixed/{self.seed}/{execution}").choices(self.members, SHARES)[0]
