# SPDX-License-Identifier: GPL-2.0-only
"""What the built-in versions are known to break."""

from __future__ import annotations

from typing import Final

from stressvmap.known import ALWAYS, RARE, Known

_STALE: Final = "stale-after-unmap-aliases | vm_unmap_ram + vm_unmap_aliases"
_ACCESS: Final = "stale-access | vm_unmap_ram + vm_unmap_aliases"
_FULL: Final = "fully used block | never visited | holding nothing"
_DYING: Final = "dying block | neither dirty nor lazy | holding nothing"

FULL_BLOCK: Final = (
    Known(
        f"{_STALE} | {_FULL}",
        ALWAYS,
        "fc1e0d980037",
        "a completely used block is on no free list, so its dirty pages are missed",
    ),
    Known(f"{_ACCESS} | {_FULL}", RARE, "fc1e0d980037", "a CPU read through a translation that was missed so"),
)
"""Cured in v6.5."""

UNLOCKED_RANGE: Final = tuple(
    Known(
        f"range-computed-unlocked | {call} | vmap_block | dirty range read without vmap_purge_lock | holding vb->lock",
        ALWAYS if call == "vm_unmap_aliases" else RARE,
        "RFC 3/3, ca5e46c3400b",
        "dirty ranges are collected before the mutex is taken",
    )
    for call in ("vm_unmap_aliases", "vfree_reset")
)
"""Cured by the RFC, and in v6.5."""

UNMARKED_READS: Final = tuple(
    Known(
        f"data-race | {reader} + {writer} | vmap_block.{field} | plain read under vmap_purge_lock against plain write "
        "under vb->lock | holding nothing",
        ALWAYS
        if (reader, writer) in (("vm_unmap_aliases", "vm_map_ram"), ("vm_unmap_aliases", "vm_unmap_ram"))
        else RARE,
        "7f48121e9fa8",
        "the purge looks at a block's free and dirty without its lock, and nothing is marked",
    )
    for reader in ("vm_unmap_aliases", "vfree_reset", "vm_map_ram", "vmalloc", "vmalloc_reset")
    for writer, field in (("vm_map_ram", "free"), ("vm_unmap_ram", "dirty"))
) + tuple(
    Known(
        f"data-race | {reader} + vm_map_ram | vmap_block.dirty | plain read under vmap_purge_lock against plain write "
        "under vb->lock | holding nothing",
        RARE,
        "7f48121e9fa8",
        "likewise, where a vm_map_ram that failed frees what it had",
    )
    for reader in ("vm_unmap_aliases", "vfree_reset", "vm_map_ram", "vmalloc", "vmalloc_reset")
)
"""Cured in v6.5, which marks them."""

DYING_BLOCK: Final = (
    Known(
        f"{_STALE} | {_DYING}",
        RARE,
        "docs/findings/dying-block.md",
        "between its last vb_free and the lazy list, a block's older debts are nowhere",
    ),
    Known(
        f"{_ACCESS} | {_DYING}",
        RARE,
        "docs/findings/dying-block.md",
        "a CPU read through a translation that was missed so",
    ),
)
"""In every version."""

POOL_PUT_BACK: Final = tuple(
    Known(
        f"data-race | {reader} + {writer} | list pool[].head | list walk under no lock against list change under "
        "vmap_purge_lock and vn->pool_lock | holding nothing",
        RARE,
        "docs/findings/pool-put-back.md",
        "what a decay leaves of a pool is put back by a plain store, and node_pool_del_va looks without the lock",
    )
    for reader in ("vm_map_ram", "vmalloc", "vmalloc_reset")
    for writer in ("vm_unmap_aliases", "vfree_reset", "kworker/u")
)
"""v6.12."""

WRONG_QUEUE: Final = (
    *(
        Known(
            f"list-corruption | {call} | free list of blocks | changed under another list's lock "
            "| holding vb->lock, vbq->lock",
            RARE,
            "8c61291fd850",
            "a block found in one CPU's hash bucket is deleted from another CPU's list under the first one's lock",
        )
        for call in ("vm_unmap_aliases", "vfree_reset")
    ),
    *(
        Known(
            f"use-after-free | {call} | freed vmap_block | still on a list when freed | holding nothing",
            RARE,
            "8c61291fd850",
            "a dead block is reached through the list that was corrupted so",
        )
        for call in ("vm_map_ram", "vm_unmap_aliases", "vfree_reset", "vmalloc", "vmalloc_reset")
    ),
    *(
        Known(
            f"data-race | {calls} | free list of blocks | list change against list change, under different locks "
            f"of one class | holding {locks}",
            RARE,
            "8c61291fd850",
            "the same, seen from the pointers: one list changed under two locks",
        )
        for calls in ("vm_map_ram + vm_unmap_aliases", "vfree_reset + vm_map_ram")
        for locks in ("vbq->lock", "vb->lock, vbq->lock")
    ),
)
"""v6.5 to v6.9."""

SPLIT_WITHOUT_MEMORY: Final = tuple(
    Known(
        f"kernel-bug | {call} | WARN_ON | WARN_ON(ret) | holding free_vmap_area_lock",
        RARE,
        "docs/findings/split-without-memory.md",
        "an allocation that fails twice is reported by a WARN_ON",
    )
    for call in ("vm_map_ram", "vmalloc", "vmalloc_reset")
)
"""In every version, with injected failures."""

SPARSE_MASK: Final = (
    Known(
        "kernel-bug | vm_map_ram | WARN_ON | per-CPU data of a CPU that is not possible | holding nothing",
        RARE,
        "a34acf30b19b",
        "a hash index is used as a CPU id, which it is not on a sparse possible mask",
    ),
)
"""v6.4 to v6.9, on sparse masks only."""

SPARSE_WALK: Final = tuple(
    Known(
        f"{check} | {role} | in an index that the walk left out | holding nothing",
        RARE,
        "a34acf30b19b",
        "a block whose hash bucket belongs to a CPU that is not possible is in no walk over the possible CPUs",
    )
    for check in (_STALE, _ACCESS)
    for role in ("block on the free list", "fully used block")
)
"""v6.5 to v6.9, on sparse masks only: v6.4 walks lists."""
