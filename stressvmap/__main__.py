# SPDX-License-Identifier: GPL-2.0-only
"""The `stressvmap` command, also as `python -m stressvmap`: it can be stopped from its first line on.

The command line takes half a second to import. Who stops it then has nothing to be told.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

from stressvmap.errors import STOPPED_STATUS


def main() -> int:
    """Run the command line; the process's exit status. Ctrl-C and SIGTERM end it with STOPPED_STATUS, and never with a
    traceback; a command that has something to keep takes them over (cli/interrupt.py).
    """
    _on_stop(_leave)
    from stressvmap.cli import main as run  # not before somebody listens to Ctrl-C

    try:
        _on_stop(signal.default_int_handler)
        return run()
    except KeyboardInterrupt:
        return STOPPED_STATUS
    finally:
        _on_stop(_leave)


def _on_stop(handler: Callable[[int, FrameType | None], object]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> None:
    """At once: before the command line is there, and after it is done."""
    os._exit(STOPPED_STATUS)


if __name__ == "__main__":
    sys.exit(main())
