# SPDX-License-Identifier: GPL-2.0-only
"""spinlock_t and struct mutex (<linux/spinlock.h>, <linux/mutex.h>).

Any waiter may get a released lock, whichever runs first: more orders than a queued spinlock allows, none fewer.
"""

from __future__ import annotations

from types import TracebackType

from stressvmap.journal.events import ASSERT_HELD, LOCK, LOCK_WAIT, TRYLOCK_FAILED, UNLOCK
from stressvmap.kernel.machine import Machine
from stressvmap.kernel.struct import Struct
from stressvmap.runtime.access import LOOKS, Waitable
from stressvmap.runtime.task import Task


class Lock(Waitable):
    """What a spinlock and a mutex share. `inside` is the object that embeds it, whose id names it; `lock_class` is
    lockdep's key.

    Invariant: `owner` is the one task between LOCK and UNLOCK in the journal, or None.
    """

    __slots__ = ("inside", "lock_class", "machine", "owner", "waiters")

    def __init__(self, machine: Machine, inside: Struct, lock_class: str) -> None:
        self.machine = machine
        self.inside = inside
        self.lock_class = lock_class
        self.owner: Task | None = None
        self.waiters: list[Task] = []

    @property
    def key(self) -> tuple[int, str]:
        """The object that embeds it, and its class."""
        return self.inside.id, self.lock_class

    @property
    def is_free(self) -> bool:
        """Whether nobody owns it."""
        return self.owner is None

    def is_contended(self) -> bool:
        """spin_is_contended: whether somebody has tried in vain to get it."""
        self.machine.runtime.note(("waiters", self.inside.id, self.lock_class), LOOKS)
        return bool(self.waiters)

    def _stand_before(self) -> None:
        """The point of an acquire: nothing of it has happened yet, not even that preemption is off."""
        self.machine.runtime.point_before(self, LOCK, self.inside.id, self.lock_class)

    def _acquire(self) -> None:
        machine = self.machine
        runtime = machine.runtime
        inside = self.inside
        task = runtime.current
        waited = 0
        while True:
            if inside.is_dead:  # now, or since it was waited for
                inside.touch(LOCK, self.lock_class)
            if self.owner is None:
                break
            waited = 1
            machine.record(LOCK_WAIT, inside.id, self.lock_class, self.owner.id)
            task.blocked_object = inside.id
            task.blocked_class = self.lock_class
            task.blocked_owner = self.owner.id
            self.waiters.append(task)
            runtime.park()
        self.owner = task
        task.held.append(self)
        machine.append((LOCK, task.id, task.cpu, task.function, inside.id, self.lock_class, waited))

    def _release(self) -> None:
        machine = self.machine
        runtime = machine.runtime
        inside = self.inside
        runtime.point(UNLOCK, inside.id, self.lock_class)
        if inside.is_dead:
            inside.touch(UNLOCK, self.lock_class)
        task = runtime.current
        owner = self.owner
        owner_id = 0 if owner is None else owner.id
        machine.append((UNLOCK, task.id, task.cpu, task.function, inside.id, self.lock_class, owner_id))
        if owner is not None:
            held = owner.held
            if held and held[-1] is self:  # nearly always: locks nest
                held.pop()
            elif self in held:
                held.remove(self)
        self.owner = None
        if self.waiters:
            waiters = self.waiters
            self.waiters = []
            for waiter in waiters:
                runtime.wake(waiter)

    def assert_held(self) -> None:
        """lockdep_assert_held: the check decides whether it is."""
        self.machine.record(ASSERT_HELD, self.inside.id, self.lock_class, 0)


class SpinLock(Lock):
    """spinlock_t: its holder, and whoever spins on it, keeps its CPU. `with lock:` is spin_lock and spin_unlock."""

    __slots__ = ()
    PINS_WAITER = True

    def lock(self) -> None:
        """spin_lock."""
        self._stand_before()
        self.machine.preempt_disable()
        self._acquire()

    def unlock(self) -> None:
        """spin_unlock."""
        self._release()
        self.machine.preempt_enable()

    def __enter__(self) -> None:
        self.lock()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.unlock()


class Mutex(Lock):
    """struct mutex: waiting for it sleeps. `with mutex:` is mutex_lock and mutex_unlock."""

    __slots__ = ()

    def lock(self) -> None:
        """mutex_lock."""
        self.machine.might_sleep("mutex_lock")
        self._stand_before()
        self._acquire()

    def unlock(self) -> None:
        """mutex_unlock."""
        self._release()

    def trylock(self) -> bool:
        """mutex_trylock: never waits."""
        machine = self.machine
        machine.runtime.point(LOCK, self.inside.id, self.lock_class)
        self.inside.touch(LOCK, self.lock_class)
        if self.owner is not None:
            machine.record(TRYLOCK_FAILED, self.inside.id, self.lock_class, self.owner.id)
            return False
        task = machine.runtime.current
        self.owner = task
        task.held.append(self)
        machine.record(LOCK, self.inside.id, self.lock_class, 2)
        return True

    def __enter__(self) -> None:
        self.lock()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.unlock()


class StaticLock(Struct):
    """The storage of a lock that is a global of its own (DEFINE_MUTEX, DEFINE_SPINLOCK): an object with nothing else
    in it.
    """

    __slots__ = ()
    STRUCT = "static_lock"


def DEFINE_SPINLOCK(machine: Machine, name: str) -> SpinLock:
    """A global spinlock; its class is its name."""
    return SpinLock(machine, StaticLock(machine), name)


def DEFINE_MUTEX(machine: Machine, name: str) -> Mutex:
    """A global mutex; its class is its name."""
    return Mutex(machine, StaticLock(machine), name)
