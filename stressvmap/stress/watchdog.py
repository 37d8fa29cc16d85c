# SPDX-License-Identifier: GPL-2.0-only
"""A watchdog for a command that runs the model in its own process: a version that loops without a scheduling point
(a user's patch may) must not hang it.

A Python thread cannot be killed, so all that can be done is to say where it is and end the process.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Final, Protocol, Self

from stressvmap.runtime.runtime import Runtime

POLL_SECONDS: Final = 0.2
STALL_SECONDS: Final = 30.0
"""How long an execution may make no step."""


class Watched(Protocol):
    """Who runs executions."""

    is_running: bool
    """One is under way."""

    @property
    def runtime(self) -> Runtime:
        """What runs it."""


class Watchdog:
    """While it is entered: calls `on_stall`, from a thread of its own and once, if an execution of `watched` makes
    no step for `seconds`; the text says where it stands.
    """

    def __init__(self, watched: Watched, seconds: float, on_stall: Callable[[str], None]) -> None:
        self._executor = watched
        self._seconds = seconds
        self._on_stall = on_stall
        self._is_over = threading.Event()
        self._watched = threading.get_ident()
        self._thread = threading.Thread(target=self._watch, name="stressvmap-watchdog", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        last: tuple[int, int] | None = None
        since = time.monotonic()
        while not self._is_over.wait(min(POLL_SECONDS, self._seconds / 4)):
            runtime = self._executor.runtime
            now = (id(runtime.current), runtime.points)
            if now != last or not self._executor.is_running:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > self._seconds:
                self._on_stall(self._where())
                return

    def _where(self) -> str:
        runtime = self._executor.runtime
        task = runtime.current
        frame = sys._current_frames().get(self._watched)
        innermost = traceback.extract_stack(frame)[-1] if frame is not None else None
        place = "" if innermost is None else f", {innermost.filename}:{innermost.lineno}"
        return (
            f"no step in {self._seconds:g} seconds: step {runtime.points}, "
            f"{task.name} in {task.function or 'no function'}{place}"
        )
