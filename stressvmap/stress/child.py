# SPDX-License-Identifier: GPL-2.0-only
"""A worker process: runs one share of a run, reports as it goes, and can be killed. `python -m stressvmap.stress.child
FD`.

Runs live in child processes because a stuck Python thread cannot be killed, and because a user's patch may loop for
ever.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Final

from stressvmap.errors import HarnessError, StressVmapError
from stressvmap.stress.engine import Engine
from stressvmap.stress.garbage import collect_rarely
from stressvmap.stress.guard import Guard
from stressvmap.stress.messages import Beat, Failure, Message, Order

BEAT_SECONDS: Final = 0.25
CHECKPOINT_SECONDS: Final = 10.0
"""How much of a tree's executions is made again if one of them ends the process."""


def main() -> None:
    """Read an Order from the inherited connection, run it, answer with Beats and then a Tally or a Failure."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection: Connection[Message, Order | str] = Connection(int(sys.argv[1]))
    order = connection.recv()
    assert isinstance(order, Order)
    with order.stacks.open("w") as stacks:
        faulthandler.register(signal.SIGUSR1, file=stacks, all_threads=True)
        answer = _serve(connection, order)
        connection.send(answer)


def _serve(connection: Connection[Message, Order | str], order: Order) -> Message:
    try:
        engine = Engine(order.spec, order.folder, first=order.first, stride=order.stride)
        if order.checkpoint is not None:
            engine.resume(order.checkpoint)
        if order.is_guarded and engine.executor is not None:
            engine.guard = Guard(engine.executor)
        collect_rarely()
        may_send = threading.Lock()
        beats = threading.Thread(target=_beat, args=(connection, engine, may_send), daemon=True)
        beats.start()
        try:
            _run(engine, order.spent, lambda message: _send(connection, message, may_send))
        finally:  # two threads must not send at a time
            engine.is_finished = True
            beats.join()
        return engine.finish()
    except StressVmapError as error:
        return Failure(error, traceback.format_exc())
    except Exception as error:
        return Failure(HarnessError(f"{type(error).__name__}: {error}"), traceback.format_exc())


def _run(engine: Engine, spent: float, send: Callable[[Message], None]) -> None:
    """All executions of the share. Of a kernel tree's, which may take the process along, it tells from time to time
    where it stands.
    """
    told = time.monotonic()
    started = told - spent
    while not engine.is_over(started):
        engine.step_screened()
        if engine.backend.is_screened and time.monotonic() - told >= CHECKPOINT_SECONDS:
            send(engine.checkpoint())
            told = time.monotonic()


def _send(connection: Connection[Message, Order | str], message: Message, may_send: threading.Lock) -> None:
    with may_send:
        connection.send(message)


def _beat(connection: Connection[Message, Order | str], engine: Engine, may_send: threading.Lock) -> None:
    """Tell the parent how far the engine is, and take its orders. A parent that is gone ends this process."""
    while not engine.is_finished:
        try:
            _send(connection, _beat_of(engine), may_send)
            if connection.poll(BEAT_SECONDS):
                connection.recv()
                engine.is_stopping = True
                engine.runtime.steps_max = 0
        except (EOFError, OSError):
            os._exit(1)


def _beat_of(engine: Engine) -> Beat:
    tally = engine.tally
    metrics = engine.judge.metrics()
    task = engine.runtime.current
    return Beat(
        execution=engine.execution,
        points=tally.points + engine.runtime.points + engine.searched + (engine.guard.copies if engine.guard else 0),
        schedules=tally.schedules,
        operations=tally.operations,
        flushes=metrics.get("flush_calls", 0),
        flushed_pages=metrics.get("flushed_pages", 0),
        owed_pages=metrics.get("owed_pages", 0),
        seen=engine.seen,
        fingerprints={fingerprint: finding.known for fingerprint, finding in list(tally.findings.items())},
        where=f"{task.name} in {task.function or 'no function'}",
    )


if __name__ == "__main__":
    main()
