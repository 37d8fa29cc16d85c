# SPDX-License-Identifier: GPL-2.0-only
"""What a step does to what it shares with other steps: the vocabulary of footprints.

A *footprint* says for each shared thing (a key, any hashable plain value) in which way the step used it. Two steps of
different tasks are independent if no thing is used by both in ways that conflict: then they can be swapped, and the
machine, the journal up to order, and who can run next are the same.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import ClassVar, Final

Key = Hashable

LOOKS: Final = 0
"""The step depends on it, and leaves it as it is. Two that look are independent."""
ADDS: Final = 1
"""The step changes it in a way that commutes with its like (it counts, it marks). Two that add are independent."""
CHANGES: Final = 2
"""Anything else."""
TAKES: Final = 3
"""The step could not run while another task held it, and holds it from now on: an acquire."""
FREES: Final = 4
"""From now on steps that need it can run. Two that free are independent."""
NEEDS: Final = 5
"""The step could not run while another task held it, or before it was freed."""
SEIZES: Final = 6
"""The step found it free and holds it from now on, but would have gone on as well had it not been: a trylock."""

COMMUTING: Final = frozenset({LOOKS, ADDS, FREES, NEEDS})
"""Uses that do not conflict with their like. Any two that differ do."""

EVERYTHING: Final = ("everything",)
"""A key that each step looks at: a step that changes it (a CPU goes offline, a task moves) depends on all others."""


class Waitable:
    """Something a task waits for at a scheduling point: a lock, the answers to a flush.

    A runtime that explores does not run a task into a wait that cannot end yet; the others ignore it.
    """

    __slots__ = ()
    PINS_WAITER: ClassVar[bool] = False
    """Who waits for it keeps its CPU: a spinlock."""

    @property
    def key(self) -> tuple[int, str]:
        """The object and field that a point before it announces."""
        raise NotImplementedError

    @property
    def is_free(self) -> bool:
        """Whether a task that waits for it would go on at once."""
        raise NotImplementedError
