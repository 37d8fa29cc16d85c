# SPDX-License-Identifier: GPL-2.0-only
"""lock-discipline: locks used against their rules, whether or not it hurt this time."""

from __future__ import annotations

from typing import Final

from stressvmap.checks.base import Handler, Mechanism
from stressvmap.checks.lock_order import LockOrder, Nesting
from stressvmap.checks.records import TaskState
from stressvmap.checks.state import State
from stressvmap.checks.story import StateCheck
from stressvmap.journal.events import API_END, ASSERT_HELD, LOCK, LOCK_WAIT, MIGHT_SLEEP, UNLOCK, Event
from stressvmap.journal.journal import Journal

NOT_OWNER: Final = "unlocked by a task that does not hold it"
RECURSIVE: Final = "acquired again by its holder"
ATOMIC_SLEEP: Final = "may sleep while atomic"
READER_SLEEP: Final = "may sleep in an RCU reader section"
NOT_HELD: Final = "asserted but not held"
STILL_HELD: Final = "still held when the call returns"
RCU_UNBALANCED: Final = "RCU read lock unbalanced when the call returns"
CIRCLE: Final = "lock classes taken in a circle"
NESTED: Final = "taken inside another lock of its class"
BY_TRYLOCK: Final = 2
"""What LOCK says of an acquisition that would not have waited."""


class LockDiscipline(StateCheck):
    """Only its holder unlocks a lock, nobody acquires what it holds, nobody sleeps while atomic or in an RCU reader
    section, asserted locks are held, calls balance, and lock classes are taken in one order.

    Atomic is: preempt count above 0, which a spinlock raises and a mutex does not. A reader of preemptible RCU may be
    preempted, but not sleep: might_sleep looks at the RCU nesting too. An order counts from one execution only: so a
    finding is there again when that execution is repeated. A trylock adds none, for it does not wait; what is taken
    under it does.

    State: the nestings of lock classes in this execution, at most one a pair (locks held, RCU depth: State).
    """

    NAME = "lock-discipline"
    NEEDS = frozenset({UNLOCK, MIGHT_SLEEP, ASSERT_HELD})

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._order = LockOrder()

    def begin(self, journal: Journal) -> None:
        super().begin(journal)
        self._order.begin()

    def handlers(self) -> dict[int, Handler]:
        return {
            LOCK: self.on_lock,
            UNLOCK: self.on_unlock,
            LOCK_WAIT: self.on_lock_wait,
            MIGHT_SLEEP: self.on_might_sleep,
            ASSERT_HELD: self.on_assert_held,
            API_END: self.on_api_end,
        }

    def on_unlock(self, number: int, event: Event) -> None:
        if not self.state.is_unlock_owned:
            self._report(number, event, str(event[5]), NOT_OWNER, f"unlocks {event[5]}, which it does not hold")

    def on_lock(self, number: int, event: Event) -> None:
        task = self.state.task(event)
        if len(task.held) > 1 and event[6] != BY_TRYLOCK:
            self._ordered(number, event, task)

    def on_lock_wait(self, number: int, event: Event) -> None:
        task = self.state.task(event)
        if task.held:
            self._ordered(number, event, task)
        for held in task.held:
            if held[0] == event[4] and held[1] == event[5]:
                self._report(
                    number, event, str(event[5]), RECURSIVE, f"waits for {event[5]}, which it holds since #{held[2]}"
                )
                return

    def on_might_sleep(self, number: int, event: Event) -> None:
        task = self.state.task(event)
        if event[6]:
            holding = ", ".join(str(held[1]) for held in task.held)
            why = f"preempt count {event[6]}" + (f", holding {holding}" if holding else "")
            self._report(number, event, str(event[5]), ATOMIC_SLEEP, f"reaches {event[5]} with {why}")
        elif task.rcu_depth:
            what = f"reaches {event[5]} with an RCU nesting of {task.rcu_depth}"
            self._report(number, event, str(event[5]), READER_SLEEP, what)

    def on_assert_held(self, number: int, event: Event) -> None:
        if not any(held[0] == event[4] and held[1] == event[5] for held in self.state.task(event).held):
            self._report(number, event, str(event[5]), NOT_HELD, f"asserts that it holds {event[5]}, and does not")

    def on_api_end(self, number: int, event: Event) -> None:
        task = self.state.task(event)
        if not task.held and not task.rcu_depth:
            return
        call = self.state.ended_call
        if call is None or task.calls:
            return
        entry = call.entry
        for held in task.held:
            if held[2] > call.begin:
                what = f"returns from {entry} holding {held[1]}, taken at #{held[2]}"
                self._report(number, event, str(held[1]), STILL_HELD, what, entry)
        if task.rcu_depth:
            what = f"returns from {entry} with an RCU nesting of {task.rcu_depth}"
            self._report(number, event, "rcu_read_lock", RCU_UNBALANCED, what, entry)

    def _ordered(self, number: int, event: Event, task: TaskState) -> None:
        for circle in self._order.acquired(number, event, task):
            self._report_circle(number, circle)

    def _report_circle(self, number: int, circle: list[Nesting]) -> None:
        events = self.state.journal.events
        classes = [nesting.outer for nesting in circle]
        mechanism = CIRCLE if len(circle) > 1 else NESTED
        steps = []
        for nesting in circle:
            steps.append(self.step(nesting.outer_at, events[nesting.outer_at], f"takes {nesting.outer}"))
            steps.append(
                self.step(nesting.inner_at, nesting.event, f"wants {nesting.inner} while it holds {nesting.outer}")
            )
        self.report(
            number,
            Mechanism(
                self.NAME,
                tuple(sorted({nesting.entry for nesting in circle})),
                " inside ".join([*reversed(classes), classes[-1]] if len(circle) > 1 else [classes[0]]),
                mechanism,
                tuple(sorted(classes)),
            ),
            f"{' and '.join(classes)}: {mechanism}",
            steps,
            f"should have been: {_RULES[mechanism]}",
        )

    def _report(self, number: int, event: Event, role: str, mechanism: str, what: str, entry: str = "") -> None:
        task = self.state.task(event)
        self.report(
            number,
            Mechanism(self.NAME, (entry or task.entry(),), role, mechanism, task.lock_classes()),
            f"{role}: {mechanism}",
            [*self._held_steps(task), self.step(number, event, what)],
            f"should have been: {_RULES[mechanism]}",
        )

    def _held_steps(self, task: TaskState) -> list[tuple[int, str]]:
        events = self.state.journal.events
        return [self.step(held[2], events[held[2]], f"takes {held[1]}") for held in task.held]


_RULES: Final = {
    NOT_OWNER: "unlocked by the task that locked it",
    RECURSIVE: "not acquired while held: these locks do not nest with themselves",
    ATOMIC_SLEEP: "no sleeping call with preemption off or a spinlock held",
    READER_SLEEP: "no sleeping call between rcu_read_lock and rcu_read_unlock",
    NOT_HELD: "the lock held, as lockdep_assert_held says",
    STILL_HELD: "released before the call returns",
    CIRCLE: "one order for all: tasks that meet at these steps wait for each other for ever",
    NESTED: "at most one lock of the class held, or an order among them that the code states (lockdep's nesting)",
    RCU_UNBALANCED: "one rcu_read_unlock for each rcu_read_lock",
}
