# SPDX-License-Identifier: GPL-2.0-only
"""use-after-free: a dead object was touched."""

from __future__ import annotations

from collections.abc import Sequence

from stressvmap.checks.base import Handler, Mechanism
from stressvmap.checks.state import State
from stressvmap.checks.story import StateCheck, access_text, without_index
from stressvmap.checks.world import ON_STACK
from stressvmap.journal.events import (
    DEAD_ACCESS,
    FREED_RECYCLED,
    LIST_ADD,
    LIST_DEL,
    OBJECT_ALLOC,
    OBJECT_FREE,
    RCU_WAIT,
    WRITE,
    WRITE_ONCE,
    Event,
)
from stressvmap.journal.journal import Journal

"""Class of a list head on a task's stack."""


class UseAfterFree(StateCheck):
    """Nobody touches a vmap_block or vmap_area (or any other object) after it was freed.

    An object that a grace period protects dies when that is over, not when it is queued. An area that lives on as a
    node of the free tree is dead too: touching it reads some other range, and KASAN would be silent, so it is told
    apart from memory that went back to the slab. Who frees first is chance (any purger may), so the fingerprint names
    only the call that touches. A block that a list still pointed at when it was freed is found by whoever walks there
    next, or stood there already, at whatever field: one mechanism, whatever the field.

    State: (API call, object) pairs already told, of this execution.
    """

    NAME = "use-after-free"
    NEEDS = frozenset({DEAD_ACCESS, OBJECT_FREE})

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._told: set[tuple[int, int, int]] = set()

    def begin(self, journal: Journal) -> None:
        super().begin(journal)
        self._told = set()

    def handlers(self) -> dict[int, Handler]:
        return {DEAD_ACCESS: self.on_dead_access}

    def on_dead_access(self, number: int, event: Event) -> None:
        state = self.state
        task = state.task(event)
        key = (event[1], task.calls[0].begin if task.calls else -1, event[4])
        if key in self._told:
            return
        self._told.add(key)
        target = state.object(event[4])
        class_name = target.class_name if target is not None and target.class_name else "object"
        freed = target.free_event if target is not None else None
        is_recycled = freed is not None and freed[6] == FREED_RECYCLED
        field = str(event[5])
        verb = access_text(event[6])
        role = f"recycled {class_name}" if is_recycled else f"freed {class_name}"
        where_to = "lives on as a node of the free tree" if is_recycled else "is dead from here on"
        name = self.object_name(target, event[4])
        steps = [self.step(number, event, f"{verb} {field} of it")]
        if task.calls:
            steps.append(self.call_begins(task.calls[0]))
        if target is not None:
            steps.append(self.step(target.alloc_at, target.alloc_event, f"allocates {name}"))
            steps.append(
                self.step(target.queued_at, target.queued_event, f"hands {name} to {_hand_over(target.queued_event)}")
            )
            steps.append(self.step(target.free_at, freed, f"frees {name} ({target.free_call}): it {where_to}"))
        is_linked = target is not None and (
            _was_linked(state.journal.events, event[4], target.free_at)
            or (target.queued_at >= 0 and _was_linked(state.journal.events, event[4], target.queued_at))
        )
        how = "still on a list when freed" if is_linked else f"{verb} {without_index(field)}"
        locks = () if is_linked else task.lock_classes()
        silent = "; a wrong range is read, and KASAN would be silent" if is_recycled else ""
        self.report(
            number,
            Mechanism(self.NAME, (task.entry(),), role, how, locks),
            f"{field} of {name} was touched after it was freed{silent}",
            steps,
            "should have been: no access once it is freed (RCU keeps a vmap_block for readers, never its vmap_area)",
            notes=self.origins(event[4]),
        )


def _hand_over(event: Event | None) -> str:
    return "call_rcu" if event is not None and event[0] == RCU_WAIT else "kfree_rcu"


def _was_linked(events: Sequence[Event], victim: int, freed_at: int) -> bool:
    """Whether a list head, or a node on its list, pointed at `victim` when it was freed. Read back only for a report.

    Nodes taken off a list keep their pointers for the walkers that stand on them: those do not count. Nor does a list
    whose head is on a task's stack: nobody else can walk there.
    """
    pointers: dict[tuple[int, str], int] = {}
    private: set[int] = set()
    heads: set[int] = set()
    listed: set[tuple[int, str]] = set()
    for event in events[:freed_at]:
        kind = event[0]
        if kind in (WRITE, WRITE_ONCE):
            field = str(event[5])
            if field.endswith((".next", ".prev")):
                pointers[(event[4], field)] = event[6]
        elif kind == OBJECT_ALLOC:
            if event[5] == ON_STACK:
                private.add(event[4])
        elif kind == LIST_ADD:
            if event[6] not in private:
                listed.add((event[4], str(event[5])))
                heads.add(event[6])
        elif kind == LIST_DEL:
            listed.discard((event[4], str(event[5])))
    return any(
        to == victim and at != victim and (at in heads or (at, field.rpartition(".")[0]) in listed)
        for (at, field), to in pointers.items()
    )
