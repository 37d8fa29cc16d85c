# SPDX-License-Identifier: GPL-2.0-only
"""RCU with real grace periods (<linux/rcupdate.h>): what is queued is freed when every reader that began before is out,
not sooner.

Readers are tasks inside rcu_read_lock and, as in the kernel since 4.20, tasks that are not preemptible.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from stressvmap.journal.events import KFREE_RCU, RCU_READ_LOCK, RCU_READ_UNLOCK, RCU_WAIT, RCU_WAIT_OVER
from stressvmap.kernel.machine import Machine
from stressvmap.kernel.struct import Struct
from stressvmap.runtime.access import CHANGES, LOOKS
from stressvmap.runtime.task import Task


class _Callback:
    """What to do once the readers it waits for, all that ran when it was queued, have left."""

    __slots__ = ("readers", "run")

    def __init__(self, readers: set[Task], run: Callable[[], None]) -> None:
        self.readers = readers
        self.run = run


class Rcu:
    """The grace periods of one machine. Callbacks run in a task of their own, in the order their grace periods end."""

    def __init__(self, machine: Machine, task: Task) -> None:
        self.machine = machine
        self.task = task
        self._waiting: list[_Callback] = []
        self._ready: list[_Callback] = []
        task.body = self._serve
        machine.quiescent = self._leave

    def read_lock(self) -> None:
        """rcu_read_lock: preemptible."""
        runtime = self.machine.runtime
        runtime.point(RCU_READ_LOCK, 0, "")
        runtime.current.rcu_depth += 1
        self.machine.record(RCU_READ_LOCK, 0, "", runtime.current.rcu_depth)

    def read_unlock(self) -> None:
        """rcu_read_unlock."""
        runtime = self.machine.runtime
        runtime.point(RCU_READ_UNLOCK, 0, "")
        task = runtime.current
        task.rcu_depth -= 1
        self.machine.record(RCU_READ_UNLOCK, 0, "", task.rcu_depth)
        if task.rcu_depth == 0 and task.preempt_count == 0:
            self._leave(task)

    def kfree_rcu(self, victim: Struct) -> None:
        """Free `victim` after a grace period."""
        self.machine.runtime.point(KFREE_RCU, victim.id, "")
        victim.touch(KFREE_RCU, "rcu_head")
        self.machine.record(KFREE_RCU, victim.id, victim.STRUCT, 0)
        self._after_readers(victim.kfree)

    def call_rcu(self, run: Callable[[], None]) -> None:
        """Run `run` in the callback task after a grace period."""
        number = self._begin_wait("call_rcu")

        def callback() -> None:
            self.machine.record(RCU_WAIT_OVER, number, "call_rcu", 0)
            run()

        self._after_readers(callback)

    def synchronize_rcu(self) -> None:
        """Wait until every reader that is inside now is out."""
        machine = self.machine
        machine.might_sleep("synchronize_rcu")
        machine.runtime.point(RCU_READ_LOCK, 0, "synchronize_rcu")
        task = machine.runtime.current
        over: list[bool] = []

        def wake() -> None:
            over.append(True)
            machine.runtime.wake(task)

        number = self._begin_wait("synchronize_rcu")
        task.awaited = self._after_readers(wake)
        task.blocked_object, task.blocked_class, task.blocked_owner = 0, "synchronize_rcu", self.task.id
        while not over:
            machine.runtime.park()
        task.awaited = ()
        machine.record(RCU_WAIT_OVER, number, "synchronize_rcu", 0)

    def _begin_wait(self, what: str) -> int:
        number = self.machine.name_object()
        self.machine.record(RCU_WAIT, number, what, 0)
        return number

    def _after_readers(self, run: Callable[[], None]) -> Collection[Task]:
        """Queue `run` behind the readers that are inside now; returns those of them that have not left, at any time."""
        runtime = self.machine.runtime
        for task in runtime.tasks:
            runtime.note(("reader", task.id), LOOKS)
        readers = {task for task in runtime.tasks if task.rcu_depth > 0 or task.preempt_count > 0}
        self._queue(_Callback(readers, run))
        return readers

    @property
    def is_idle(self) -> bool:
        """Whether no callback waits."""
        return not self._waiting and not self._ready

    def _queue(self, callback: _Callback) -> None:
        self.machine.runtime.note(("callbacks",), CHANGES)
        if callback.readers:
            self._waiting.append(callback)
        else:
            self._ready.append(callback)
            self.machine.runtime.wake(self.task)

    def _leave(self, task: Task) -> None:
        """`task` is in no reader section any more."""
        self.machine.runtime.note(("reader", task.id), CHANGES)
        if not self._waiting:
            return
        still: list[_Callback] = []
        ended = False
        for callback in self._waiting:
            if task in callback.readers:
                self.machine.runtime.note(("callbacks",), CHANGES)
            callback.readers.discard(task)
            if callback.readers:
                still.append(callback)
            else:
                self._ready.append(callback)
                ended = True
        self._waiting = still
        if ended:
            self.machine.runtime.wake(self.task)

    def _serve(self) -> None:
        """Body of the callback task (kthread rcuog)."""
        while self._ready:
            self.machine.runtime.point(KFREE_RCU, 0, "callback")
            self.machine.runtime.note(("callbacks",), CHANGES)
            if self._ready:
                self._ready.pop(0).run()
