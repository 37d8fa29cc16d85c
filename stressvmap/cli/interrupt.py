# SPDX-License-Identifier: GPL-2.0-only
"""Ctrl-C and SIGTERM: once to stop and report what ran, twice to stop at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any, Final, Self

from stressvmap.errors import STOPPED_STATUS

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """Counts the requests to stop while it is entered. With `ends_at_once` the second one ends the process: for a
    command that runs the model itself, since a model that loops cannot be stopped in another way.
    """

    def __init__(self, *, ends_at_once: bool = False) -> None:
        self.count = 0
        self._last = 2 if ends_at_once else 3
        self._before: dict[int, Any] = {}

    def __call__(self) -> int:
        """0: go on, 1: stop and report, 2: at once."""
        return min(self.count, 2)

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._request) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count == 1:
            os.write(
                sys.__stderr__.fileno() if sys.__stderr__ else 2, b"\nstopping: what ran is reported; again: at once\n"
            )
        elif self.count >= self._last:
            os._exit(STOPPED_STATUS)
