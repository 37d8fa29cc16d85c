# SPDX-License-Identifier: GPL-2.0-only
"""Numbers with what they count."""

from __future__ import annotations

import pytest

from stressvmap.quantity import counted


@pytest.mark.parametrize(
    ("count", "words", "text"),
    [
        (0, ("task",), "0 tasks"),
        (1, ("task",), "1 task"),
        (2, ("flush", "flushes"), "2 flushes"),
        (1234567, ("step",), "1,234,567 steps"),
    ],
)
def test_only_one_is_singular(count: int, words: tuple[str, ...], text: str) -> None:
    assert counted(count, *words) == text
