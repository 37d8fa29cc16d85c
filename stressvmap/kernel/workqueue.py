# SPDX-License-Identifier: GPL-2.0-only
"""A workqueue (<linux/workqueue.h>): work is queued once until it starts, and kworkers run it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stressvmap.journal.events import WORK_BEGIN, WORK_END, WORK_QUEUE
from stressvmap.kernel.machine import Machine
from stressvmap.runtime.access import CHANGES
from stressvmap.runtime.task import Task


class Work:
    """struct work_struct. Invariant: `is_pending` from the queueing to the start, not longer: a work may queue
    itself again.
    """

    __slots__ = ("function", "is_pending", "name")

    def __init__(self, name: str, function: Callable[[], None]) -> None:
        self.name = name
        self.function = function
        self.is_pending = False


class Workqueue:
    """The system workqueue, served by `kworkers`; a work does not run twice at a time."""

    def __init__(self, machine: Machine, kworkers: Sequence[Task]) -> None:
        self.machine = machine
        self.kworkers = list(kworkers)
        self._queue: list[Work] = []
        self._running: list[Work] = []
        for kworker in self.kworkers:
            kworker.body = self._serve

    def schedule_work(self, work: Work) -> bool:
        """Queue `work`; False if it is queued already. Either way what the caller did comes before its next start."""
        machine = self.machine
        machine.runtime.point(WORK_QUEUE, 0, work.name)
        machine.runtime.note(("works",), CHANGES)
        machine.record(WORK_QUEUE, 0, work.name, int(work.is_pending))
        if work.is_pending:
            return False
        work.is_pending = True
        self._queue.append(work)
        for kworker in self.kworkers:
            if kworker.is_parked and kworker.context is None:
                machine.runtime.wake(kworker)
                break
        return True

    def _serve(self) -> None:
        """Body of a kworker."""
        machine = self.machine
        while True:
            machine.runtime.note(("works",), CHANGES)
            work = next((work for work in self._queue if work not in self._running), None)
            if work is None:
                return
            self._queue.remove(work)
            self._running.append(work)
            machine.runtime.point(WORK_BEGIN, 0, work.name)
            machine.runtime.note(("works",), CHANGES)
            work.is_pending = False
            machine.record(WORK_BEGIN, 0, work.name, 0)
            work.function()
            machine.record(WORK_END, 0, work.name, 0)
            self._running.remove(work)
