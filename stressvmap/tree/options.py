# SPDX-License-Identifier: GPL-2.0-only
"""What is decided when a tree is compiled: sizes of blocks and pages, CPUs, compiler.

The kernel makes the size of a block out of VMALLOC_SPACE, PAGE_SIZE and NR_CPUS; so these are chosen for it, and the
file under test stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from stressvmap.errors import ConfigError
from stressvmap.tree.compiler import COMPILERS, default_family

CPUS_MAX: Final = 256
BLOCK_BITS_MAX: Final = 1024
MAX_ALLOC_MAX: Final = 64
PAGE_SHIFT_MIN: Final = 12
PAGE_SHIFT_MAX: Final = 22
"""With pages of 4 MiB lazy_max_pages() is 8 pages for each bit of the number of CPUs online."""
_SPACE_SHIFT: Final = 33
"""VMALLOC_SPACE, 128 GiB, is 1 << 37 bytes; VMAP_BBMAP_BITS is a sixteenth of its pages, by CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """What is decided when a tree is compiled, not when it runs."""

    block_bits: int = 8
    """VMAP_BBMAP_BITS: pages of a vmap block."""
    max_alloc: int = 0
    """VMAP_MAX_ALLOC: largest vm_map_ram (pages) that a block serves; 0: half a block, at most 4."""
    page_shift: int = 0
    """PAGE_SHIFT; 0: as large as `cpus` and `block_bits` allow, for the drain's threshold is in bytes."""
    cpus: int = 4
    """Where `page_shift` is 0: CPUs that CONFIG_NR_CPUS has to cover. The code under test asks for the CPUs that there
    are, so with a `page_shift` of its own a library serves any number up to 256.
    """
    debug_pagealloc: bool = False
    """As CONFIG_DEBUG_PAGEALLOC_ENABLE_DEFAULT: on, whatever the scenario says; else the scenario decides."""
    cc: str = ""
    """gcc or clang; "": gcc, or clang where that is all there is."""

    def resolved(self) -> BuildOptions:
        """With what is 0 filled in. Raises ConfigError for a value that no kernel could be built with."""
        _check_power_of_two("--block-bits", self.block_bits, 4, BLOCK_BITS_MAX)
        if not 1 <= self.cpus <= CPUS_MAX:
            raise ConfigError(f"--cpus {self.cpus}: must be 1 to {CPUS_MAX}")
        if self.cc and self.cc not in COMPILERS:
            raise ConfigError(f"--cc {self.cc}: is not one of {', '.join(COMPILERS)}")
        max_alloc = self.max_alloc or min(4, self.block_bits // 2)
        _check_power_of_two("--max-alloc", max_alloc, 1, MAX_ALLOC_MAX)
        if self.block_bits < 2 * max_alloc:
            raise ConfigError(
                f"--block-bits {self.block_bits}: is less than 2 * max_alloc ({2 * max_alloc}), as VMAP_BBMAP_BITS "
                "never is"
            )
        largest = min(PAGE_SHIFT_MAX, _SPACE_SHIFT - _bits(self.block_bits) - _bits(self.cpus))
        page_shift = self.page_shift or largest
        if not PAGE_SHIFT_MIN <= page_shift <= PAGE_SHIFT_MAX:
            raise ConfigError(f"--page-shift {page_shift}: must be {PAGE_SHIFT_MIN} to {PAGE_SHIFT_MAX}")
        return BuildOptions(
            block_bits=self.block_bits,
            max_alloc=max_alloc,
            page_shift=page_shift,
            cpus=self.cpus,
            debug_pagealloc=self.debug_pagealloc,
            cc=self.cc or default_family(),
        )

    def described(self) -> dict[str, int | str | bool]:
        """What of it decides the library: part of the digest."""
        return {
            "block_bits": self.block_bits,
            "max_alloc": self.max_alloc,
            "page_shift": self.page_shift,
            "nr_cpus": self.nr_cpus,
            "debug_pagealloc": self.debug_pagealloc,
            "cc": self.cc,
        }

    @property
    def nr_cpus(self) -> int:
        """CONFIG_NR_CPUS that makes VMAP_BBMAP_BITS come out as `block_bits`."""
        return 1 << (_SPACE_SHIFT - self.page_shift - _bits(self.block_bits))


def _bits(number: int) -> int:
    """log2, rounded up."""
    return (number - 1).bit_length()


def _check_power_of_two(option: str, value: int, low: int, high: int) -> None:
    if not (low <= value <= high and value & (value - 1) == 0):
        raise ConfigError(f"{option} {value}: must be a power of two from {low} to {high}")
