# SPDX-License-Identifier: GPL-2.0-only
"""Why a call that owed a page's flush returned without it: the role of what the page lies in, and what the call did
about it.

The answer goes into a fingerprint, so it uses only features that another seed or schedule of the same bug repeats:

- A block is *dying* once its last vb_free has latched dirty to its size, until its area was on a lazy tree before the
  call detached that. Whether the walk then skips it (latched before the visit), or never sees it (erased before), or
  went by while it was still alive, is chance; that neither its dirty range nor the lazy list speaks for its older
  debts is the bug. One fingerprint. A block that was latched only after the call had detached the lazy list was alive
  for all that the call could do: it is judged as the live block it was.
- A block is *visited* by a call that read its dirty range, or locked it without reading `free`: a purge that looks
  whether the block is purgeable (its lockless test may err, then it locks and finds out) is chance. A *fully used*
  block is visited only by a look made when it was already fully used, or one that read its dirty range.
- Everything else is told apart.
"""

from __future__ import annotations

from typing import Final

from stressvmap.checks.records import ApiCall, Blame, ObjectState, PageState, Visit
from stressvmap.checks.world import World

DIRECT_MAP_PAGE: Final = "direct map page"
UNMAPPED_PAGE: Final = "unmapped page"
FREE_LIST_BLOCK: Final = "block on the free list"
UNLISTED_BLOCK: Final = "block with free space on no list"
FULL_BLOCK: Final = "fully used block"
DYING_BLOCK: Final = "dying block"
PURGED_BLOCK: Final = "purged block"
LAZY_AREA: Final = "lazy area"
AREA: Final = "area"
GIVEN_BACK: Final = "address space given back"

SOME_CPUS_ONLY: Final = "flushed on some CPUs only"
BEFORE_THE_CLEAR: Final = "flushed before the clear"
NEVER_FLUSHED: Final = "never flushed"
NEITHER: Final = "neither dirty nor lazy"
LEFT_LAZY: Final = "left on the lazy list"
DETACHED: Final = "detached but not flushed"
NEVER_LAZY: Final = "neither lazy nor flushed"
NEVER_VISITED: Final = "never visited"
UNWALKED: Final = "in an index that the walk left out"
"""Only of an index that was made after boot, which is per-CPU data of a CPU that is not possible: no walk over the
possible CPUs covers it. A walk that leaves out one of the others has not visited the block, as simple as that.
"""
TASK_SHIFT: Final = 20
"""An object's id is its allocating task << 20 | n; task 0 is boot."""
SKIPPED: Final = "visited and skipped"
WIDENED: Final = "widened but not flushed"
COLLECTED: Final = "collected by another call that has not flushed yet"
TOO_NARROW: Final = "visited, but its dirty range left the page out"


def blame_for(state: World, call: ApiCall, page: PageState) -> Blame:
    """Why `call` returned while some CPU may still translate `page`, which it owed."""
    flushed = _flushed(call, page)
    if state.direct_map.start <= page.page < state.direct_map.end:
        return Blame(DIRECT_MAP_PAGE, flushed or NEVER_FLUSHED)
    if state.is_coarse:
        return Blame(UNMAPPED_PAGE, flushed or NEVER_FLUSHED)
    block = state.block_at(page.page)
    if block is None:
        return _area_blame(state, call, page, flushed)
    role = role_of_block(state, block, call)
    if flushed:
        return Blame(role, flushed)
    if role in (DYING_BLOCK, PURGED_BLOCK):
        return Blame(role, NEITHER)
    if role == LAZY_AREA:
        return Blame(role, DETACHED if block.lazy_at < call.saw_lazy(block.lazy_in) else LEFT_LAZY)
    return _live_block_blame(state, call, page, block, role)


def role_of_block(state: World, block: ObjectState, call: ApiCall) -> str:
    """What kind of block it is at the end of `call`."""
    if block.latched_at >= 0:
        if 0 <= call.lazy_locked_at < block.latched_at:
            return FREE_LIST_BLOCK if block.is_killed_by_purge else FULL_BLOCK
        if block.lazy_at >= 0 and (block.lazy_at < call.begin or block.lazy_at < call.saw_lazy(block.lazy_in)):
            return LAZY_AREA
        return PURGED_BLOCK if block.is_killed_by_purge else DYING_BLOCK
    if block.fields.get("free", 0) == 0:
        return FULL_BLOCK
    return FREE_LIST_BLOCK if (block.id, "free_list") in state.listed_on else UNLISTED_BLOCK


def _flushed(call: ApiCall, page: PageState) -> str:
    """What the call's own flushes of the page came to; empty if it made none."""
    covering = [flush for flush in call.flushes if flush.covers(page.page)]
    if any(flush.begin > page.cleared_at for flush in covering):
        return SOME_CPUS_ONLY
    return BEFORE_THE_CLEAR if covering else ""


def _area_blame(state: World, call: ApiCall, page: PageState, flushed: str) -> Blame:
    space = state.spaces.at(page.page)
    if space is None:
        return Blame(GIVEN_BACK, flushed or NEVER_FLUSHED)
    if space.lazy_at >= 0:
        return Blame(LAZY_AREA, flushed or (DETACHED if space.lazy_at < call.saw_lazy(space.lazy_in) else LEFT_LAZY))
    return Blame(AREA, flushed or NEVER_LAZY)


def _live_block_blame(state: World, call: ApiCall, page: PageState, block: ObjectState, role: str) -> Blame:
    visit = call.visits.get(block.id)
    if visit is None:
        is_walk_elsewhere = bool(call.indexes) and block.index not in call.indexes
        is_index_made_after_boot = block.index >> TASK_SHIFT != 0
        return Blame(role, UNWALKED if is_walk_elsewhere and is_index_made_after_boot else NEVER_VISITED)
    if visit.min_at >= 0 or visit.max_at >= 0:
        return Blame(role, _with_hull(state, call, page, block, visit), visit.locks)
    if not visit.looks or (role == FULL_BLOCK and visit.last_lock < block.free_zero_at):
        return Blame(role, NEVER_VISITED)
    return Blame(role, SKIPPED, visit.locks)


def _with_hull(state: World, call: ApiCall, page: PageState, block: ObjectState, visit: Visit) -> str:
    offset = page.page - block.start
    if visit.has_hull() and visit.min_value <= offset < visit.max_value:
        return WIDENED
    collector = state.tasks.get(block.hull_writer)
    if not visit.has_hull() and collector is not None and collector.calls and block.hull_writer != call.task:
        return COLLECTED
    return TOO_NARROW
