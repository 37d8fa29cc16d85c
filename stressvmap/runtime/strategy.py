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

    def plan(self) -> Plan | None:
        """After `begin`: what it would decide, if that does not depend on what happens. The two need not be the same
        schedule, but each is a function of (seed, execution) alone.
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


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole execution's decisions in advance, for a backend that would rather not ask: at each decision the next
    rank says which of the enabled tasks, in the order of their ids, and the next length for how many points.

    Both start again when they are used up.
    """

    ranks: bytes
    """32-bit numbers, in native byte order: enabled task number rank * n >> 32 of n."""
    lengths: bytes
    """32-bit numbers, at least 1. If `is_absolute`: numbers of points, ascending; a grant ends at the next of them."""
    is_absolute: bool = False
    prefers_others: bool = False
    """Where a grant is used up, choose among the tasks other than the one that ran, if there are any."""
    longest: int = 1 << 30
    """No grant is longer, in points: behind the last of the absolute lengths too."""
    draw_seed: int = 0


@dataclass(slots=True)
class Schedule:
    """What was decided in one execution: (task id, points it really ran) in order, and the numbers drawn."""

    choices: Sequence[tuple[int, int]] = field(default_factory=Pairs)
    draws: list[int] = field(default_factory=list)
