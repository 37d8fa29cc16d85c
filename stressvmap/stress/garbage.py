# SPDX-License-Identifier: GPL-2.0-only
"""How often a process that does nothing but executions looks for garbage cycles."""

from __future__ import annotations

import gc
from typing import Final

YOUNG_MAX: Final = 50_000
"""New containers before CPython looks at them; 700 by default, which is less than an execution's journal has events."""


def collect_rarely() -> None:
    """Look for cycles seldom, and never among what is there now: modules and all that lives as long as the process.

    A journal is ten thousand tuples that are in no cycle, and are gone with the execution: looking at each of them
    again and again is an eighth of all processor time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, 10, 10)
