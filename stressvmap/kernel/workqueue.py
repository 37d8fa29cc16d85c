# SPDX-License-Identifier: GPL-2.0-only
"""A workqueue (<linux/workqueue.h>): work is queued once until it starts, and kworkers run it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stressvmap.journal.events import WORK_BEGIN, WORK_END, WORK_FLUSHED, WORK_QUEUE
from stressvmap.kernel.machine import Machine
from stressvmap.runtime.access import CHANGES, FREES, NEEDS, Waitable
from stressvmap.runtime.task import Task


class Work(Waitable):
    """struct work_struct. Invariant: `is_pending` from the queueing to the start, not longer: a work may queue
    itself again.
    """

    __slots__ = ("flushers", "function", "is_pending", "name", "runner")

    def __init__(self, name: str, function: Callable[[], None]) -> None:
        self.name = name
        self.function = function
        self.is_pending = False
        self.runner: Task | None = None
        """The kworker that runs it."""
        self.flushers: list[Task] = []
        """Who waits for its end."""

    @property
    def key(self) -> tuple[int, str]:
        """As the point before a flush_work announces it."""
        return 0, self.name

    @property
    def is_free(self) -> bool:
        """Whether it is neither queued nor running."""
        return not self.is_pending and self.runner is None


class Workqueue:
    """The system workqueue, served by `kworkers`; a work does not run twice at a time.

    A kworker that sleeps in a work keeps what is queued behind it waiting only if every other does, too: where a work
    waits for another there must be one more of them.
    """

    def __init__(self, machine: Machine, kworkers: Sequence[Task]) -> None:
        self.machine = machine
        self.kworkers = list(kworkers)
        self._queue: list[Work] = []
        self._running: list[Work] = []
        for kworker in self.kworkers:
            kworker.body = self._serve

    def schedule_work(self, work: Work) -> bool:
        """Queue `work`; False if it is queued already. Either way what the caller did comes before its next start."""
        return self._queue_work(work, self.kworkers)

    def schedule_work_on(self, cpu: int, work: Work) -> bool:
        """The same, for a kworker that is on `cpu`, if one is and has nothing to do; else any, for a kworker here is
        not bound to a CPU.
        """
        return self._queue_work(work, sorted(self.kworkers, key=lambda kworker: kworker.cpu != cpu))

    def flush_work(self, work: Work) -> None:
        """Return when `work` is neither queued nor running."""
        machine = self.machine
        runtime = machine.runtime
        machine.might_sleep("flush_work")
        runtime.point_before(work, WORK_FLUSHED, 0, work.name)
        runtime.note(("work", work.name), NEEDS)
        task = runtime.current
        while not work.is_free:
            runner = work.runner
            task.blocked_object, task.blocked_class = 0, f"work {work.name}"
            task.blocked_owner = 0 if runner is None else runner.id
            work.flushers.append(task)
            runtime.park()
        machine.record(WORK_FLUSHED, 0, work.name, 0)

    def _queue_work(self, work: Work, kworkers: Sequence[Task]) -> bool:
        machine = self.machine
        machine.runtime.point(WORK_QUEUE, 0, work.name)
        machine.runtime.note(("works",), CHANGES)
        machine.record(WORK_QUEUE, 0, work.name, int(work.is_pending))
        if work.is_pending:
            return False
        work.is_pending = True
        self._queue.append(work)
        for kworker in kworkers:
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
            work.runner = machine.runtime.current
            work.is_pending = False
            machine.record(WORK_BEGIN, 0, work.name, 0)
            work.function()
            machine.record(WORK_END, 0, work.name, 0)
            work.runner = None
            self._running.remove(work)
            machine.runtime.note(("work", work.name), FREES)
            flushers, work.flushers = work.flushers, []
            for flusher in flushers:
                machine.runtime.wake(flusher)
