# SPDX-License-Identifier: GPL-2.0-only
"""What a strategy is: who runs next, and for how many points; and a schedule, the list of its answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from stressvmap.runtime.pairs import Pairs
from stressvmap.runtime.task import Task

# Why control came back to the strategy.
START = 0
COUNT_OVER = 1  # the points it granted are used up
BLOCKED = 2  # the task parked, or its CPU was taken
ENDED = 3
WOKEN = 4  # another task became enabled (only for a strategy that asks for it)


class Strategy:
    """Decides a schedule. One instance serves many executions; `begin` starts each."""

    wants_wakeups: bool = False
    """Whether it must be asked again as soon as another task becomes enabled (PCT needs that)."""
    looks_at_tasks: bool = True
    """Whether it asks more of a task than which one it is: a backend that would have to look that up need not, else."""
    calibration: int = 0
    """Executions whose lengths it wants to know before its first (`calibrate`)."""
    points: int = 0
    """Scheduling points of this execution so far; the runtime sets it before each `decide`."""
    repeat_share: float | None = None
    """Share of executions whose schedule is to be run again, the two journals compared; None: as the run says. After
    `begin` it is this execution's.
    """

    @property
    def walk(self) -> Callable[[], float] | None:
        """Of a strategy that at each point takes `enabled[int(number * len(enabled))]`, for one point, whatever has
        happened: where its numbers in [0, 1) come from, so that a runtime can do that without asking. Else None.
        """
        return None

    @property
    def label(self) -> str:
        """Its name with its parameters, as `--strategy` takes it; of a portfolio, the strategy of this execution."""
        return type(self).__name__

    def calibrate(self, lengths: Sequence[int]) -> None:
        """Told once, before the first `begin`: the lengths, in points, of the run's first `calibration` programs under
        the random walk. A function of scenario, version and seed alone, so execution i still depends on nothing else.
        """

    def begin(self, execution: int) -> None:
        """Execution number `execution` starts. Everything decided depends on the seed and this number alone."""
        raise NotImplementedError

    def trial(self) -> Strategy | None:
        """After `begin`: a strategy under which this execution's program is to be run once beforehand, unjudged, so
        that what it sees is known (SURW needs that); None if no such run is wanted.
        """
        return None

    def plan(self, execution: int) -> tuple[Plan, int] | None:
        """For a backend that would rather not ask: what it does in execution number `execution`, and the 64-bit seed of
        its draws there. `begin` need not come before it. None: it must be asked.

        The schedule need not be the one that `decide` would make, but each is a function of (seed, execution) alone.
        """
        return None

    def decide(self, enabled: Sequence[Task], current: Task | None, why_stopped: int) -> tuple[Task, int]:
        """The task to run and for how many points (at least 1). `enabled` is not empty, ascending by id; each task's
        pending operation is on it.
        """
        raise NotImplementedError

    def draw(self, n: int) -> int:
        """A number in [0, n)."""
        raise NotImplementedError


BY_WALK, BY_SWITCHES, BY_PRIORITIES, BY_OPERATIONS, BY_TURNS = range(5)
"""What decides: numbers alone; places to switch at; PCT's priorities of tasks; POS's of operations; turns."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A strategy whose decisions need nothing but numbers drawn, so that a backend can carry it out by itself. Made
    once for many executions.
    """

    kind: int
    prefers_others: bool = False
    """Where a grant is used up, choose among the tasks other than the one that ran, if there are any."""
    count: int = 0
    """BY_SWITCHES: switches; BY_PRIORITIES: change points; BY_TURNS: points of a turn, 0: drawn from 1..length."""
    length: int = 0
    """Points that switches and change points are drawn from: 1..length."""
    longest: int = 1 << 30
    """No grant is longer, in points; of BY_PRIORITIES: who runs for so many on end is taken to spin."""
    lengths: bytes = b""
    """BY_WALK: 32-bit numbers in native byte order, at least 1; a grant is as many points as one of them says, drawn
    uniformly.
    """


@dataclass(slots=True)
class Schedule:
    """What was decided in one execution: (task id, points it really ran) in order, and the numbers drawn."""

    choices: Sequence[tuple[int, int]] = field(default_factory=Pairs)
    draws: list[int] = field(default_factory=list)
