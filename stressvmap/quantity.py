# SPDX-License-Identifier: GPL-2.0-only
"""A number and what it counts, as people write it."""

from __future__ import annotations


def counted(count: int, singular: str, plural: str = "") -> str:
    """`1 task`, `2 tasks`, `1,000 flushes`: `plural` is for those that do not just take an s."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"
