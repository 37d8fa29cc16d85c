# SPDX-License-Identifier: GPL-2.0-only
"""Half-open page ranges. The only range type; units are pages unless a name says bytes."""

from __future__ import annotations

from dataclasses import dataclass

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT


@dataclass(frozen=True, slots=True, order=True)
class PageRange:
    """`[start, end)` in pages. A range with `start >= end` is empty; `start > end` is kept, for it is evidence."""

    start: int
    end: int

    @property
    def pages(self) -> int:
        """Number of pages, 0 if empty."""
        return max(0, self.end - self.start)

    def contains(self, other: PageRange) -> bool:
        """Whether `other` is non-empty and lies wholly inside."""
        return other.start < other.end and self.start <= other.start and other.end <= self.end

    def overlaps(self, other: PageRange) -> bool:
        """Whether the two share a page."""
        return max(self.start, other.start) < min(self.end, other.end)

    def __str__(self) -> str:
        addresses = f"[{self.start << PAGE_SHIFT:#x}, {self.end << PAGE_SHIFT:#x})"
        return f"pages [{self.start:#x}, {self.end:#x}) = addresses {addresses}"
