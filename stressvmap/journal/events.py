# SPDX-License-Identifier: GPL-2.0-only
"""What a journal entry says: the kinds, their streams and the meaning of their fields.

An event is a plain tuple `(kind, task, cpu, function, a, b, c)`; its number is its position. `function` is the kernel
function the task was in ("" outside any). Ranges and addresses are *pages*. Objects are integers `task << 20 | n`: the
n-th allocation by that task (task 0: made at boot); 0 is NULL. `a` and `c` are integers; `b` is a string for the kinds
in B_IS_SYMBOL (a field, a class, a name) and an integer otherwise.

Three streams. *ground*: what really happened to page tables, TLBs, frames and callers; never what the code under
test believes. *operations*: what the code did: accesses, locks, RCU, allocation. *audit*: structure snapshots.
"""

from __future__ import annotations

from typing import Final

Event = tuple[int, int, int, str, int, int | str, int]

FULL_END: Final = 1 << 52
"""The end page recorded for a flush or invalidation of everything, [0, FULL_END)."""

GROUND: Final = "ground"
OPERATIONS: Final = "operations"
AUDIT: Final = "audit"

# -- operations: accesses.  a=object  b=field  c=value (an integer, or the id of the object pointed to)
READ: Final = 1
WRITE: Final = 2
READ_ONCE: Final = 3
WRITE_ONCE: Final = 4
ATOMIC: Final = 5  # c=value after
# -- operations: locks.  a=object holding the lock  b=lock class ("vb->lock", "vmap_purge_lock")
LOCK: Final = 6  # acquired; c=1 if it had to wait, 2 if by a trylock, which never waits
UNLOCK: Final = 7
LOCK_WAIT: Final = 8  # about to block on it; c=task that owns it
TRYLOCK_FAILED: Final = 9
ASSERT_HELD: Final = 10  # lockdep_assert_held was reached (whether it is held, the check decides)
MIGHT_SLEEP: Final = 11  # c=preempt count; a=0 b=what ("mutex_lock", "might_sleep", ...)
# -- operations: RCU.  a=object or 0
RCU_READ_LOCK: Final = 12
RCU_READ_UNLOCK: Final = 13
KFREE_RCU: Final = 14  # a=object, b=class: queued; its OBJECT_FREE follows after a grace period
# -- operations: objects
OBJECT_ALLOC: Final = 15  # a=object b=class
OBJECT_FREE: Final = 16  # a=object b=class c=FREED_* : dead from here on
ALLOC_FAILED: Final = 17  # b=kind of allocation that failed by injection or for want of space
DEAD_ACCESS: Final = 18  # a=dead object b=field or lock class c=kind of access (READ, WRITE, LOCK ...)
UNINITIALISED: Final = 19  # a=object b=field: read before anybody wrote it
# -- operations: lists.  a=object whose node it is  b=node field ("free_list")  c=object holding the head
LIST_ADD: Final = 20
LIST_DEL: Final = 21  # c=0
LIST_CORRUPT: Final = 22  # an add or delete whose neighbours do not point back; c=the neighbour object that does not
# -- operations: index structures
XA_LOAD: Final = 23  # a=xarray object b=index c=object found or 0
XA_STORE: Final = 24  # a=xarray object b=index c=object
XA_ERASE: Final = 25  # a=xarray object b=index c=object that was there or 0
TREE_INSERT: Final = 26  # a=area object b=tree name ("busy", "lazy", "free") c=0
TREE_ERASE: Final = 27  # same
TREE_FIND: Final = 28  # a=area object found or 0, b=tree name, c=page looked up
# -- operations: control
WORK_QUEUE: Final = 29  # b=work name c=1: it was queued already, and stays so
WORK_BEGIN: Final = 30
WORK_END: Final = 31
MIGRATED: Final = 32  # a=CPU left c=CPU entered
FLUSH_ARGS: Final = 33  # a=start c=end, as computed (pages; may be senseless) ; b=caller's reason ("" if none)
BUG: Final = 34  # b=message: BUG_ON hit; the task dies here
WARN: Final = 35  # b=message: WARN_ON hit
SLOT_PUT: Final = 36  # a=slot: a program hands a mapping over ...
SLOT_TAKE: Final = 37  # ... and another task takes it (an ordering edge)
IPI_SEND: Final = 38  # a=flush number c=CPU
PREEMPT: Final = 39  # a=new preempt count
# synchronize_rcu and call_rcu (kfree_rcu has its own kind). a=number of the wait  b=which
RCU_WAIT: Final = 40  # for the readers that are inside now; c=object that a call_rcu is about, or 0
RCU_WAIT_OVER: Final = 41  # they have left, and what waited goes on in this task
WORK_FLUSHED: Final = 42  # b=work name: flush_work returns, the work is neither queued nor running
RELEASE: Final = 43  # a=object b=field: the task's next store there publishes what it did (smp_store_release)
# -- ground: callers
API_BEGIN: Final = 64  # b=entry point ("vm_map_ram"...) a=page or 0  c=pages
API_END: Final = 65  # b=entry point a=page or 0 (failed)  c=pages
# -- ground: translations
PTE_SET: Final = 66  # a=page b=frame (int)
PTE_CLEAR: Final = 67  # a=page b=frame that was mapped (int): the instant of the clear
PTE_BUSY: Final = 68  # a=page b=frame present: somebody tried to map a page that is mapped
UNMAP_BEGIN: Final = 69  # a=start c=end: clearing of this range begins ...
UNMAP_END: Final = 70  # ... and has ended
TLB_FILL: Final = 71  # a=page b=frame: this event's CPU cached the translation
TLB_INVALIDATE: Final = 72  # a=start c=end: this event's CPU (field cpu) handled the invalidation, at this instant
FLUSH_BEGIN: Final = 73  # a=start c=end (FULL_END: everything); b=flush number (int)
FLUSH_END: Final = 74  # same: every online CPU has answered
TLB_READ: Final = 75  # a=page b=frame read (int): through this CPU's TLB (c=1: a cached entry, 0: the page table)
# -- ground: address space and frames
SPACE_OUT: Final = 76  # a=start c=end  b=what ("block", "area"): address space handed out
SPACE_BACK: Final = 77  # a=start c=end: is free to be handed out again from here on
FRAME_OWNER: Final = 78  # a=frame c=new owner (0: the page allocator; else slot generation)
CPU_OFFLINE: Final = 79  # a=cpu: left, its TLB is empty
CPU_ONLINE: Final = 80  # a=cpu: came, its TLB is empty
# STOPPED is always the last ground event.  b=why: "done", "deadlock", "steps-max", "bug", "interrupted"
STOPPED: Final = 81
# Before a STOPPED that is not "done": the event's task waits.  a=object b=lock class, or for what c=owning task or 0
# A task that waits for several (a flush for its interrupts, a grace period for its readers) has one for each.
BLOCKED: Final = 82
RUNNABLE: Final = 83  # Before a STOPPED that is not "done": the event's task is not done, and could go on
# -- audit (c and a are integers, b a symbol)
AUDIT_BEGIN: Final = 128  # b="rest" (everything drained), "between" (no call under way)
# a=block c=value b=field: free, dirty, dirty_min, dirty_max, used (bits set), mapped (PTEs), va_start (page);
# b="cpu": a is the queue of CPU c
AUDIT_FIELD: Final = 129
AUDIT_LISTED: Final = 130  # a=block object (reached by walking head -> next) b="free" c=CPU owning the list
AUDIT_INDEXED: Final = 131  # a=block object b="vmap_blocks" c=index in pages (block start)
AUDIT_AREA: Final = 132  # a=start b=tree ("busy", "lazy", "free") c=end
AUDIT_VALUE: Final = 133  # b=name ("vmap_lazy_nr", "window_start", "window_end", "block_bits", "live_objects") c=value
AUDIT_OBJECT: Final = 134  # a=object still allocated b=class
AUDIT_LIST_BROKEN: Final = 135  # a=object where the walk found next->prev != itself b=list c=CPU
AUDIT_END: Final = 136

FREED_SLAB: Final = 0  # memory went back to the allocator: touching it is a use-after-free
FREED_RECYCLED: Final = (
    1  # lives on as a node of the free tree: touching it reads another range, and KASAN would be silent
)

KIND_NAMES: Final[dict[int, str]] = {
    value: name.lower()
    for name, value in dict(globals()).items()
    if name.isupper() and type(value) is int and name != "FULL_END" and not name.startswith("FREED_")
}

B_IS_SYMBOL: Final = frozenset(
    kind
    for kind in KIND_NAMES
    if kind
    not in (XA_LOAD, XA_STORE, XA_ERASE, PTE_SET, PTE_CLEAR, PTE_BUSY, TLB_FILL, FLUSH_BEGIN, FLUSH_END, TLB_READ)
)
"""Kinds whose `b` is a string (possibly empty); for all others `b` is an integer."""


def stream_of(kind: int) -> str:
    """The stream a kind belongs to."""
    return OPERATIONS if kind < 64 else GROUND if kind < 128 else AUDIT
