# SPDX-License-Identifier: GPL-2.0-only
"""Footprints of executed steps, and the happens-before order that they imply: what partial order reduction stands on.

Dependence is decided after the fact, from what a step really used (runtime/access.py), not from what it announced: an
announcement cannot name all that follows it up to the next point.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from stressvmap.runtime.access import CHANGES, COMMUTING, FREES, NEEDS, SEIZES, TAKES, Key

Footprint = Mapping[Key, int]
Group = tuple[int, ...]
"""Numbers of steps, at most one a task."""


def combine(footprint: dict[Key, int], key: Key, use: int) -> None:
    """Add a use to a footprint. Two of one thing in one step are together as strong as the stronger."""
    before = footprint.get(key)
    if before is None or before == use or (before == NEEDS and use in (TAKES, FREES)):
        footprint[key] = use
    elif not (use == NEEDS and before in (TAKES, FREES)):
        footprint[key] = CHANGES


def are_dependent(one: Footprint, other: Footprint) -> bool:
    """Whether steps with these footprints conflict."""
    if len(one) > len(other):
        one, other = other, one
    for key, use in one.items():
        against = other.get(key)
        if against is not None and (use != against or use not in COMMUTING):
            return True
    return False


class Step:
    """An executed step. Invariant: `clock[s]` is how many of the steps of task slot s happen before it or are it."""

    __slots__ = ("clock", "draws", "nth", "slot", "task")

    def __init__(self, task: int, slot: int, nth: int, clock: list[int], draws: tuple[int, ...]) -> None:
        self.task = task
        self.slot = slot
        self.nth = nth
        """Which of its task's steps it is, from 1."""
        self.clock = clock
        self.draws = draws

    def happens_before(self, other: Step) -> bool:
        """Whether it does, or is the same step."""
        return other.clock[self.slot] >= self.nth


class HappensBefore:
    """The steps of an execution and their order, built step by step and undone from the end.

    For each key the accesses form groups: neighbours that commute are in one group, and each access of a group happens
    after each of the group before.
    """

    def __init__(self, tasks: Sequence[int]) -> None:
        self.slots = {task: slot for slot, task in enumerate(sorted(tasks))}
        self.steps: list[Step] = []
        self._last = [-1] * len(self.slots)
        self._keys: dict[Key, tuple[int, Group, int, Group]] = {}
        """By key: use and group of the last accesses, use and group of those before them."""
        self._taken: dict[Key, int] = {}
        """By key: the last step that took it."""
        self._undo: list[tuple[int, list[tuple[Key, tuple[int, Group, int, Group] | None, int]]]] = []

    def push(self, task: int, footprint: Footprint, draws: tuple[int, ...] = ()) -> list[int]:
        """Append a step, in which `draws` were drawn; returns the numbers of the steps it races with and could have
        come before.
        """
        steps = self.steps
        slot = self.slots[task]
        before = self._last[slot]
        number = len(steps)
        clock = list(steps[before].clock) if before >= 0 else [0] * len(self.slots)
        direct: dict[int, bool] = {}
        enablers: dict[int, set[Key]] = {}
        wanted: dict[Key, int] = {}
        undo = []
        for key, use in footprint.items():
            old = self._keys.get(key)
            taken = self._taken.get(key, -1)
            undo.append((key, old, taken))
            group_use, group = self._enter(key, use, number, slot, old)
            for other in group:
                if steps[other].slot == slot:
                    continue
                if group_use == FREES and use in (TAKES, NEEDS):
                    direct[other] = False
                    enablers.setdefault(other, set()).add(key)
                else:
                    direct.setdefault(other, True)
            if use in (TAKES, NEEDS) and taken >= 0 and steps[taken].slot != slot:
                wanted[key] = taken
            if use in (TAKES, SEIZES):
                self._taken[key] = number
        for other in direct:
            clock = [max(pair) for pair in zip(clock, steps[other].clock, strict=True)]
        nth = steps[before].nth + 1 if before >= 0 else 1
        clock[slot] = nth
        races = self._races(before, direct)
        for taken in dict.fromkeys(wanted.values()):
            if taken not in races and self._could_have_come_before(taken, before, enablers, wanted):
                races.append(taken)
        self._undo.append((before, undo))
        self._last[slot] = number
        steps.append(Step(task, slot, nth, clock, draws))
        return races

    def pop(self) -> None:
        """Undo the last `push`."""
        step = self.steps.pop()
        self._last[step.slot], undo = self._undo.pop()
        for key, old, taken in undo:
            if old is None:
                del self._keys[key]
            else:
                self._keys[key] = old
            if taken >= 0:
                self._taken[key] = taken
            else:
                self._taken.pop(key, None)

    def initials(self, first: int, last: int) -> list[int]:
        """The tasks that can begin `v`: what follows step `first` up to `last` and does not happen after `first`, and
        `last` itself. Running one of them where `first` ran leads to `last` before `first`.
        """
        steps = self.steps
        early = steps[first]
        slot, nth = early.slot, early.nth
        begins: dict[int, Step] = {}
        for number in range(first + 1, last):
            step = steps[number]
            if step.clock[slot] < nth and step.slot not in begins:
                begins[step.slot] = step
        begins.setdefault(steps[last].slot, steps[last])
        starts = begins.values()
        return [
            step.task
            for step in starts
            if not any(step.clock[other.slot] >= other.nth for other in starts if other is not step)
        ]

    def class_hash(self) -> int:
        """A number that two executions share if they differ only in the order of independent steps, and hardly
        otherwise.
        """
        return sum(hash((step.task, step.nth, step.draws, *step.clock)) for step in self.steps) & ((1 << 64) - 1)

    # -- inside -------------------------------------------------------------------------------------------

    def _enter(
        self, key: Key, use: int, number: int, slot: int, old: tuple[int, Group, int, Group] | None
    ) -> tuple[int, Group]:
        """Record an access; returns the use and the steps of the group it happens after."""
        if old is None:
            self._keys[key] = (use, (number,), use, ())
            return use, ()
        last_use, last, previous_use, previous = old
        if use == last_use and use in COMMUTING:
            steps = self.steps
            others = tuple(other for other in last if steps[other].slot != slot)
            self._keys[key] = (use, (*others, number), previous_use, previous)
            return previous_use, previous
        self._keys[key] = (use, (number,), last_use, last)
        return last_use, last

    def _races(self, before: int, direct: Mapping[int, bool]) -> list[int]:
        """Of the direct predecessors those that are reversible, and that happen before no other predecessor."""
        steps = self.steps
        predecessors = [*direct, before] if before >= 0 else list(direct)
        return [
            other
            for other, is_reversible in direct.items()
            if is_reversible and not _precedes_any(steps, other, predecessors)
        ]

    def _could_have_come_before(
        self, taken: int, before: int, enablers: Mapping[int, set[Key]], wanted: Mapping[Key, int]
    ) -> bool:
        """Whether the new step, which had to wait for what step `taken` took, could have come before that: what else it
        had to wait for was not held yet by then, or does not happen after it. `wanted`: by key, who had taken it last.
        """
        steps = self.steps
        others = [other for other, keys in enablers.items() if any(wanted.get(key, -1) < taken for key in keys)]
        if before >= 0:
            others.append(before)
        return not any(steps[taken].happens_before(steps[other]) for other in others)


def _precedes_any(steps: Sequence[Step], one: int, others: Iterable[int]) -> bool:
    return any(other != one and steps[one].happens_before(steps[other]) for other in others)
