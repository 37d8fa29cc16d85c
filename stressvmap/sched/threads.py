# SPDX-License-Identifier: GPL-2.0-only
"""ThreadRuntime: one OS thread a task, and the operating system decides who runs.

One machine-wide step lock gives the one honest total order: whoever holds it runs from one point to the next. At a
point a thread gives way with a seeded probability (`yield_rate`), for CPython's own thread switches never fall
inside a critical section. What interleaves is then up to the operating system, so a run cannot be repeated; its
programs can.
"""

from __future__ import annotations

import threading
import time
from random import Random
from typing import Final

from stressvmap.runtime.runtime import DEADLOCK, DONE, INTERRUPTED, STEPS_MAX, Runtime
from stressvmap.runtime.task import BugOn, Task, TaskKilled

SIGNAL_SECONDS: Final = 0.2
"""How long a signal may go unnoticed: one that comes just before a wait, or to another thread, does not end it."""


class _Worker:
    """A pooled OS thread. `gate` is released to let it go on: to start a task, or after a wait.

    `is_called` says that a wait is really over: at the end of an execution gates are released that nobody waits at.
    """

    __slots__ = ("gate", "is_called", "task", "thread")

    def __init__(self, runtime: ThreadRuntime, number: int) -> None:
        self.gate = threading.Semaphore(0)
        self.is_called = False
        self.task: Task | None = None
        self.thread = threading.Thread(target=runtime._serve, args=(self,), name=f"stressvmap-{number}", daemon=True)
        self.thread.start()


class ThreadRuntime(Runtime):
    """Runs tasks as OS threads. Invariant: who holds `_step` and only they touch the machine, `current` and all that
    is here.
    """

    def __init__(self, seed: int, yield_rate: float) -> None:
        super().__init__()
        self.failure: BaseException | None = None
        self.switches = 0
        """Times a thread that gave way found that another had taken steps meanwhile."""
        self._step = threading.Lock()
        self._random = Random(f"threads/{seed}")
        self._yield_rate = yield_rate
        self._left = self._gap()
        self._running = 0
        """Tasks that are started, not parked and not waiting for their CPU."""
        self._live = 0
        """Tasks whose body is on a thread."""
        self._cpu_waiters: dict[int, list[Task]] = {}
        self._free: list[_Worker] = []
        self._workers: list[_Worker] = []
        self._reason = ""
        self._stopped = threading.Semaphore(0)
        self._is_running = False
        self._is_closing = False

    def point(self, kind: int, object_id: int, field: str) -> None:
        """Announce an operation; now and then gives way to whichever thread the operating system picks."""
        task = self.current
        if self.is_sealed:
            self.unwind(task)
            return
        task.pending_kind = kind
        task.pending_object = object_id
        task.pending_field = field
        self.points += 1
        task.points += 1
        self._left -= 1
        if task.points >= task.migrate_at:
            cpu = task.cpu
            self.on_migrate(task)
            if task.cpu != cpu:
                self._left = 0
        if self.points >= self.steps_max:
            self._stop(STEPS_MAX)
            task.is_dead = True
            raise TaskKilled
        if self._left <= 0:
            self._give_way(task)

    def park(self) -> None:
        """Block the calling thread until it is woken."""
        task = self.current
        if self.is_sealed:
            task.is_dead = True
            raise TaskKilled
        task.is_parked = True
        self._wait(task)
        self._regain(task)

    def wake(self, task: Task) -> None:
        """Make `task` enabled; a daemon gets a thread."""
        if not task.is_parked:
            return
        task.is_parked = False
        self._running += 1
        if task.context is None:
            self._start(task)
        else:
            self._call(task)

    def unpin(self, task: Task) -> None:
        """The CPU is free: let those go on that wait for it."""
        super().unpin(task)
        self._call_waiters(task.cpu)

    def enable_irqs(self, cpu: int) -> None:
        """Let the CPU's interrupt go on if it waits."""
        super().enable_irqs(cpu)
        self._call_waiters(cpu)

    def wait_for_cpu(self) -> None:
        """Wait until the current task's new CPU is free."""
        self._regain(self.current)

    def draw(self, n: int) -> int:
        """From the seed, in whatever order the threads come."""
        return int(self._random.random() * n)

    def reset(self) -> None:
        """Forget the last execution."""
        super().reset()
        self.failure = None
        self._cpu_waiters = {}

    def run(self) -> str:
        """Run until all tasks are done or none can go on; returns when every thread is back in the pool."""
        self._reason = ""
        self._is_running = True
        try:
            with self._step:
                for task in self.tasks:
                    if not task.is_parked and not task.is_done and task.context is None:
                        self._running += 1
                        self._start(task)
                if self._running == 0:
                    self._nobody_runs()
            while not self._stopped.acquire(timeout=SIGNAL_SECONDS):
                pass
            self._collect()
        except BaseException:  # an interrupt from the keyboard, wherever in here it comes
            with self._step:
                self._stop(INTERRUPTED)
            self._collect()
            raise
        if self.failure is not None:
            raise self.failure
        return self._reason

    def close(self) -> None:
        """End the pooled threads."""
        self._is_closing = True
        for worker in self._workers:
            worker.gate.release()
        for worker in self._workers:
            worker.thread.join()

    # -- inside: all of it with the step lock held, but where it says otherwise ----------------------------

    def _gap(self) -> int:
        """Points until the next giving way: geometric with mean 1 / yield_rate."""
        rate = self._yield_rate
        if rate <= 0.0:
            return 1 << 30
        gap = 1
        while gap < 10_000 and self._random.random() >= rate:
            gap += 1
        return gap

    def _give_way(self, task: Task) -> None:
        self._left = self._gap()
        before = self.points
        self._step.release()
        time.sleep(0)
        self._step.acquire()
        if self.points != before:
            self.switches += 1
        self._regain(task)

    def _regain(self, task: Task) -> None:
        """Become the current task again, once its CPU is free for it."""
        while not self.is_sealed and not self.can_run(task):
            self._cpu_waiters.setdefault(task.cpu, []).append(task)
            self._wait(task)
        self.current = task
        if self.is_sealed:
            task.is_dead = True
            raise TaskKilled

    def _wait(self, task: Task) -> None:
        """Leave the step lock until somebody opens the gate. The last one to leave ends the execution."""
        self._running -= 1
        if self._running == 0:
            self._nobody_runs()
        worker = task.context
        assert isinstance(worker, _Worker)
        worker.is_called = False
        while not self._is_over_for(worker):
            self._step.release()
            worker.gate.acquire()
            self._step.acquire()

    def _is_over_for(self, worker: _Worker) -> bool:
        return worker.is_called or self.is_sealed

    def _call(self, task: Task) -> None:
        """End the wait of `task`; it is counted as running already."""
        worker = task.context
        assert isinstance(worker, _Worker)
        worker.is_called = True
        worker.gate.release()

    def _call_waiters(self, cpu: int) -> None:
        """Let those who wait for `cpu` see whether they can have it."""
        for waiter in self._cpu_waiters.pop(cpu, ()):
            self._running += 1
            self._call(waiter)

    def _nobody_runs(self) -> None:
        if self.is_sealed or self._reason:
            return
        is_done = all(self.is_finished(task) for task in self.tasks)
        self._stop(DONE if is_done else DEADLOCK)

    def _stop(self, reason: str) -> None:
        """End the execution; threads that wait are let go, to unwind."""
        if self._reason:
            return
        self._reason = reason
        if reason != DONE:
            self.seal(reason)
            for task in self.tasks:
                if isinstance(task.context, _Worker):
                    task.context.gate.release()
        if self._live == 0 or reason == DONE:
            self._stopped.release()

    def _collect(self) -> None:
        """Not holding the step lock: wait until every thread is back in the pool."""
        while True:
            with self._step:
                if self._live == 0:
                    break
            time.sleep(0.0002)
        while self._stopped.acquire(blocking=False):
            pass
        self._running = 0
        for worker in self._workers:
            while worker.gate.acquire(blocking=False):
                pass

    def _start(self, task: Task) -> None:
        if self._free:
            worker = self._free.pop()
        else:
            worker = _Worker(self, len(self._workers))
            self._workers.append(worker)
        worker.task = task
        task.context = worker
        self._live += 1
        worker.gate.release()

    def _serve(self, worker: _Worker) -> None:
        """Body of a pooled thread; enters and leaves without the step lock."""
        while True:
            worker.gate.acquire()
            if self._is_closing:
                return
            task = worker.task
            if task is None:
                continue
            self._step.acquire()
            self._run_task(task)
            worker.task = None
            task.context = None
            self._free.append(worker)
            self._live -= 1
            self._running -= 1
            if task.is_daemon and not task.is_dead:
                task.is_parked = True
            else:
                task.is_done = True
            if self._reason and self._reason != DONE:
                if self._live == 0:
                    self._stopped.release()
            elif self._running == 0:
                self._nobody_runs()
            self._step.release()

    def _run_task(self, task: Task) -> None:
        try:
            self._regain(task)
            task.body()
        except TaskKilled:
            task.is_dead = True
        except BugOn:
            self.bury(task)
        except BaseException as error:
            task.is_dead = True
            if self.failure is None:
                self.failure = error
            self._stop(INTERRUPTED)
