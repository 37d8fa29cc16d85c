# SPDX-License-Identifier: GPL-2.0-only
"""list-corruption: a list whose links do not agree, or that holds something else than it should."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from stressvmap.checks.audit import FREE_LIST as WALKED
from stressvmap.checks.audit import REST
from stressvmap.checks.base import Handler, Mechanism
from stressvmap.checks.records import NOWHERE
from stressvmap.checks.state import State
from stressvmap.checks.story import StateCheck
from stressvmap.journal.events import AUDIT_END, LIST_CORRUPT, LIST_DEL, LOCK, Event
from stressvmap.journal.journal import Journal
from stressvmap.quantity import counted

QUEUE_LOCK: Final = "vbq->lock"
FREE_LIST_NODE: Final = "free_list"
FREE_LIST: Final = "free list of blocks"
POOL_LIST: Final = "pool of areas"
WRONG_LOCK: Final = "changed under another list's lock"
NEIGHBOURS: Final = "neighbours do not point back"
BROKEN: Final = "next->prev does not point back at rest"
UNREACHABLE: Final = "a block with free space is not reached"
FULL_LISTED: Final = "a block without free space is listed"


class ListCorruption(StateCheck):
    """Whoever adds or deletes a node finds neighbours that point back; and at rest a list holds just the blocks with
    free space.

    The first is what CONFIG_DEBUG_LIST sees. The symptom is seen by whoever comes next, so where the journal shows
    that the list was changed by a task that held another list's lock instead of this one's, the fingerprint names
    that task's call and that mechanism, whatever the symptom.

    State: per list head the first change under a wrong lock; bounded by the CPUs.
    """

    NAME = "list-corruption"
    NEEDS = frozenset({LIST_CORRUPT, LIST_DEL, LOCK, AUDIT_END})

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._wrong: dict[int, tuple[int, Event, str, tuple[str, ...]]] = {}

    def begin(self, journal: Journal) -> None:
        super().begin(journal)
        self._wrong = {}

    def handlers(self) -> dict[int, Handler]:
        return {LIST_DEL: self.on_list_del, LIST_CORRUPT: self.on_list_corrupt, AUDIT_END: self.on_audit_end}

    def on_list_del(self, number: int, event: Event) -> None:
        head = self.state.deleted_from
        if event[5] != FREE_LIST_NODE or head == NOWHERE:
            return
        actor = self.state.task(event)
        guards = {held[0] for held in actor.held if held[1] == QUEUE_LOCK}
        if guards and head not in guards:
            self._wrong.setdefault(head, (number, event, actor.entry(), actor.lock_classes()))

    def on_list_corrupt(self, number: int, event: Event) -> None:
        state = self.state
        if event[5] == FREE_LIST_NODE:
            self._blame_writers(event)
        task = state.task(event)
        guards = {int(held[0]) for held in task.held if held[1] == QUEUE_LOCK}
        listed_on = (state.listed_on.get((touched, FREE_LIST_NODE), NOWHERE) for touched in (event[4], event[6]))
        wrong = self._first_wrong({event[6], *listed_on, *guards})
        neighbour = self.object_name(state.object(event[6]), event[6]) if event[6] else "a poisoned pointer"
        steps = [self.step(number, event, f"its neighbour {neighbour} does not point back")]
        writer = state.list_writers.get(event[6])
        if writer is not None:
            steps.append(self.step(writer[0], state.journal.events[writer[0]], f"last wrote the links of {neighbour}"))
        if wrong is None:
            locks = task.lock_classes()
            mechanism = Mechanism(self.NAME, (task.entry(),), f"node {event[5]}", NEIGHBOURS, locks)
        else:
            mechanism = self._wrong_mechanism(wrong)
            steps.append(
                self.step(wrong[0], wrong[1], f"changes the list while holding {', '.join(wrong[3])}, of another list")
            )
        name = self.object_name(state.object(event[4]), event[4])
        self.report(
            number,
            mechanism,
            f"the list that {event[5]} of {name} is or was on is corrupt",
            steps,
            "should have been: neighbours that point at each other, for one lock guards one list",
        )

    def _blame_writers(self, event: Event) -> None:
        """If a neighbour's links were last written by a task that holds another queue's lock right now, it is in the
        middle of it.
        """
        state = self.state
        mine = {held[0] for held in state.task(event).held if held[1] == QUEUE_LOCK}
        for touched in (event[4], event[6]):
            writer = state.list_writers.get(touched)
            if writer is None or writer[1] == event[1]:
                continue
            other = state.tasks[writer[1]]
            theirs = {held[0] for held in other.held if held[1] == QUEUE_LOCK}
            if not mine or not theirs or mine & theirs:
                continue
            head = state.listed_on.get((event[4], FREE_LIST_NODE), NOWHERE)
            culprit = state.task(event) if head in theirs else other
            write = state.journal.events[writer[0]]
            self._wrong.setdefault(head, (writer[0], write, culprit.entry(), culprit.lock_classes()))

    def _first_wrong(self, heads: Iterable[int]) -> tuple[int, Event, str, tuple[str, ...]] | None:
        """The first change under a wrong lock of one of these lists."""
        wrong = [self._wrong[head] for head in heads if head in self._wrong]
        return min(wrong, key=lambda change: change[0]) if wrong else None

    def _wrong_mechanism(self, wrong: tuple[int, Event, str, tuple[str, ...]]) -> Mechanism:
        locks = tuple(name for name in wrong[3] if name != "vmap_purge_lock")
        return Mechanism(self.NAME, (wrong[2],), FREE_LIST, WRONG_LOCK, locks)

    def on_audit_end(self, number: int, event: Event) -> None:
        snapshot = self.state.snapshot
        heads = {fields["cpu"]: queue for queue, fields in snapshot.fields.items() if "cpu" in fields}
        for object_id, which, cpu, at in snapshot.broken:
            if which != WALKED:
                what = f"the list {which} of {self._name(cpu)} is broken at {self._name(object_id)}"
                self._at_rest(at, event, BROKEN, cpu, what, POOL_LIST)
                continue
            head = heads.get(cpu, self.state.listed_on.get((object_id, FREE_LIST_NODE), object_id))
            self._at_rest(
                at, event, BROKEN, head, f"the {which} list of CPU {cpu} is broken at {self._name(object_id)}"
            )
        if snapshot.kind != REST:
            return
        for block, fields in snapshot.fields.items():
            has_space = fields.get("free", 0) > 0
            cpus = snapshot.listed.get(block, [])
            listed_on = self.state.listed_on.get((block, FREE_LIST_NODE), NOWHERE)
            head = heads.get(cpus[0], listed_on) if cpus else listed_on
            if has_space and not cpus:
                self._at_rest(
                    number,
                    event,
                    UNREACHABLE,
                    head,
                    f"{self._name(block)} has free space, but no walk of a list reaches it",
                )
            elif len(cpus) > 1 or (cpus and not has_space):
                names = ", ".join(f"CPU {cpu}" for cpu in cpus)
                where = f"on the list of {names} with {counted(fields.get('free', 0), 'page')} free"
                self._at_rest(number, event, FULL_LISTED, head, f"{self._name(block)} is {where}")

    def _name(self, object_id: int) -> str:
        return self.object_name(self.state.object(object_id), object_id)

    def _at_rest(self, number: int, event: Event, mechanism: str, head: int, what: str, role: str = FREE_LIST) -> None:
        wrong = self._first_wrong({head})
        steps = [self.step(number, event, what)]
        if wrong is not None:
            steps.append(
                self.step(wrong[0], wrong[1], f"changes a list while holding {', '.join(wrong[3])}, of another list")
            )
        self.report(
            number,
            self._wrong_mechanism(wrong) if wrong is not None else Mechanism(self.NAME, (), role, mechanism),
            what,
            steps,
            "should have been: on exactly one list if it has free space, on none otherwise"
            if role == FREE_LIST
            else "should have been: neighbours that point at each other",
        )
