# SPDX-License-Identifier: GPL-2.0-only
"""The portfolio: each execution is one of several strategies', drawn by fixed shares.

No strategy finds everything soonest: the shares are what the table in docs/strategies.md supports. Whichever member
finds a bug soonest, the portfolio takes on average at most 1/share times as many executions as that one alone.
"""

from __future__ import annotations

from itertools import chain, repeat
from typing import Final

from stressvmap.runtime.strategy import Strategy
from stressvmap.sched.delegate import InTurn
from stressvmap.sched.pct import PctStrategy
from stressvmap.sched.pos import PosStrategy
from stressvmap.sched.random import RandomStrategy
from stressvmap.sched.round_robin import RoundRobinStrategy
from stressvmap.sched.seeded import Words
from stressvmap.sched.sticky import StickyStrategy
from stressvmap.sched.switch_points import SwitchPointsStrategy

SHARES: Final = (45, 25, 10, 10, 5, 5)
"""Per cent, of the members below in their order."""


class MixedStrategy(InTurn):
    """Members: switch-points, sticky, pct, pos, random, round-robin. Whose an execution is depends on (seed, number)
    alone.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(
            (
                SwitchPointsStrategy(seed),
                StickyStrategy(seed),
                PctStrategy(seed),
                PosStrategy(seed),
                RandomStrategy(seed),
                RoundRobinStrategy(seed),
            )
        )
        self.seed = seed
        self._words = Words(f"mixed/{seed}")
        self._by_percent = tuple(chain.from_iterable(map(repeat, self.members, SHARES)))

    def choose(self, execution: int) -> Strategy:
        """Drawn by SHARES."""
        return self._by_percent[self._words.of(execution) % 100]
