# SPDX-License-Identifier: GPL-2.0-only
"""The processes of an exploration: each has an Explorer, is sent shares and sends back what came of them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from types import TracebackType
from typing import Self

from stressvmap.errors import HarnessError, Stalled, StressVmapError
from stressvmap.stress.explore import Explorer, ExploreSpec, Progress, Share
from stressvmap.stress.garbage import collect_rarely
from stressvmap.stress.watchdog import STALL_SECONDS, Watchdog


@dataclass(slots=True)
class _Order:
    number: int
    share: Share
    contended: set[tuple[int, str]]
    deadline: float
    """By time.monotonic, which the processes of one machine share."""
    executions_max: int


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    connection: Connection
    number: int = -1
    """Of the order it works on; -1: idle."""


class Crew:
    """`jobs` processes. An order's number comes back with its answer. Raises HarnessError if one of them dies."""

    def __init__(self, spec: ExploreSpec, jobs: int, stall_seconds: float = STALL_SECONDS) -> None:
        context = multiprocessing.get_context("spawn")
        self._stop: Event = context.Event()
        self._workers: list[_Worker] = []
        self._forgotten: set[int] = set()
        for _ in range(jobs):
            mine, theirs = context.Pipe()
            process = context.Process(
                target=_serve, args=(spec, theirs, self._stop, os.getpid(), stall_seconds), daemon=True
            )
            process.start()
            theirs.close()
            self._workers.append(_Worker(process, mine))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            worker.process.join(5)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def has_idle(self) -> bool:
        """Whether `send` has somebody to send to."""
        return any(worker.number < 0 for worker in self._workers)

    def send(
        self, number: int, share: Share, contended: set[tuple[int, str]], deadline: float, executions_max: int
    ) -> None:
        """Give a share to an idle process."""
        worker = next(worker for worker in self._workers if worker.number < 0)
        worker.number = number
        worker.connection.send(_Order(number, share, contended, deadline, executions_max))

    def stop(self) -> None:
        """Tell all to answer as soon as they can, with what is left of their share."""
        self._stop.set()

    def forget(self) -> None:
        """The answers to all orders now out are of no interest any more."""
        self._forgotten |= {worker.number for worker in self._workers if worker.number >= 0}

    def answers(self, timeout_seconds: float) -> Iterator[tuple[int, Progress]]:
        """The answers that have come, after a wait for the first."""
        by_connection = {worker.connection: worker for worker in self._workers}
        busy = [worker.connection for worker in self._workers if worker.number >= 0]
        for ready in wait(busy, timeout_seconds):
            assert isinstance(ready, Connection)
            worker = by_connection[ready]
            try:
                answer = ready.recv()
            except EOFError:
                status = worker.process.exitcode
                raise HarnessError(f"a process of the exploration died (exit status {status})") from None
            number, worker.number = worker.number, -1
            if isinstance(answer, BaseException):
                raise answer
            if number in self._forgotten:
                self._forgotten.discard(number)
            else:
                yield number, answer


def _serve(spec: ExploreSpec, connection: Connection, stop: Event, parent: int, stall_seconds: float) -> None:
    """Body of a process. It leaves Ctrl-C to the parent, and ends when that is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    explorer = Explorer(spec)
    collect_rarely()

    def give_up(where: str) -> None:
        """Nothing but the end of this process ends a loop."""
        connection.send(Stalled(where))
        os._exit(Stalled.exit_status)

    with Watchdog(explorer, stall_seconds, give_up):
        _answer(explorer, connection, stop, parent)
    explorer.close()


def _answer(explorer: Explorer, connection: Connection, stop: Event, parent: int) -> None:
    """Explore what is asked for, until the parent is gone."""
    while True:
        try:
            order = connection.recv()
        except EOFError:
            break
        try:
            answer: object = _explore(explorer, order, stop, parent)
        except StressVmapError as error:
            answer = error
        except Exception:
            answer = HarnessError(f"a process of the exploration failed: {traceback.format_exc()}")
        try:
            connection.send(answer)
        except OSError:
            break


def _explore(explorer: Explorer, order: _Order, stop: Event, parent: int) -> Progress:
    explorer.runtime.contended.update(order.contended)
    explorer.begin(order.share)
    looked_at = 0.0
    is_stopped = False

    def must_halt() -> bool:
        nonlocal looked_at, is_stopped
        now = time.monotonic()
        if now - looked_at > 0.2:
            looked_at = now
            is_stopped = stop.is_set() or os.getppid() != parent
        return is_stopped or now >= order.deadline

    return explorer.go_on(lambda executions: executions >= order.executions_max or must_halt(), must_halt)
