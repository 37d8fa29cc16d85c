# SPDX-License-Identifier: GPL-2.0-only
"""What the controlled runtime is measured against: the same runtime with its tasks on OS threads that pass a baton.

All the rest is inherited, so what differs is what a switch costs. Threads are pooled, and each waits at a lock of its
own: two lock operations a switch, as few as a bare ping-pong between two threads needs.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from stressvmap.runtime.strategy import Strategy
from stressvmap.runtime.task import Task, TaskKilled
from stressvmap.sched.controlled import ControlledRuntime, Slot


class _Closed(BaseException):
    """Ends a pooled thread."""


class _ThreadSlot(Slot):
    """A thread, by the lock it waits at, and the task it runs."""

    __slots__ = ("gate",)

    def __init__(self) -> None:
        self.task: Task | None = None
        self.gate = threading.Lock()
        self.gate.acquire()


class BatonRuntime(ControlledRuntime):
    """Runs tasks in the order a strategy decides, as threads of which one runs at a time: that of `_running`.

    For executions that end by themselves or at steps_max; what ends a run in the midst of a switch ends the process.
    """

    def __init__(self, strategy: Strategy) -> None:
        super().__init__(strategy)
        self._main = _ThreadSlot()
        self._running: Any = self._main
        self._threads: list[threading.Thread] = []
        self._is_closing = False

    def close(self) -> None:
        """End the pooled threads."""
        self._is_closing = True
        for slot in self._free:
            assert isinstance(slot, _ThreadSlot)
            slot.gate.release()
        for thread in self._threads:
            thread.join()
        self._free.clear()

    def _fill_pool(self) -> None:
        """Threads begin where they begin."""

    def _new_slot(self) -> Slot:
        slot = _ThreadSlot()
        thread = threading.Thread(target=self._body, args=(slot,), daemon=True)
        self._threads.append(thread)
        thread.start()
        return slot

    def _body(self, slot: _ThreadSlot) -> None:
        slot.gate.acquire()
        try:
            self._serve(slot)
        except _Closed:
            return

    def _switch_to(self, chosen: Task | None) -> None:
        wait = self._running.gate.acquire
        theirs: Any = self._main if chosen is None else chosen.context or self._slot_of(chosen)
        self._running = theirs
        # The fewer steps from here to the wait, the less often the thread that is let go finds the interpreter taken.
        theirs.gate.release()
        wait()
        if self._is_closing:
            raise _Closed
        if self.is_sealed and self._running is not self._main:
            raise TaskKilled

    def _give_up(self) -> None:
        self.seal(self._reason)
        for task in self.tasks:
            if task.context is not None:
                self.current = task
                task.is_dead = True
                self._switch_to(task)


def ping_pong(switches: int) -> float:
    """Switches a second (of processor time) of two threads that do nothing but pass a baton, by two locks: no scheduler
    of threads is faster.
    """
    here, there = threading.Lock(), threading.Lock()
    here.acquire()
    there.acquire()
    rounds = switches // 2

    def partner() -> None:
        for _ in range(rounds):
            there.acquire()
            here.release()

    thread = threading.Thread(target=partner)
    thread.start()
    started = time.process_time()
    for _ in range(rounds):
        there.release()
        here.acquire()
    seconds = time.process_time() - started
    thread.join()
    return 2 * rounds / seconds
