/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Screening: a pass over a finished run's journal and the memory at rest that says whether Python's checks
 * (stressvmap/checks/) have anything to say about it.
 *
 * It may flag what they would not; it must flag whatever they would. So each part does what its check does, on raw
 * addresses, and where exactness is dear it flags more. What it cannot tell (a type it was not told of, a run larger
 * than its tables) it flags as well. What the debug information knows, Python tells it: sv_screen_setup once, the rest
 * as runs show it.
 */
#ifndef SV_SCREEN_H
#define SV_SCREEN_H

#include "engine.h"

#define SV_SCREEN_ABI 1
#define SV_ABSENT UINT32_MAX /* an offset: the tree has no such field */

/* Why a run was flagged: bits of sv_screen's answer, and of a mask of what to screen. tree/screen.py names them. */
enum sv_screen_bit {
	SV_FLAG_STALE = 1 << 0,	       /* vm_unmap_aliases or a vfree that resets returned, and owes */
	SV_FLAG_REUSE = 1 << 1,	       /* address space handed out or mapped again before its flush */
	SV_FLAG_STALE_ACCESS = 1 << 2, /* a read through a translation that was taken away */
	SV_FLAG_OVERLAP = 1 << 3,      /* one address, two owners */
	SV_FLAG_DEAD_ACCESS = 1 << 4,
	SV_FLAG_LIST = 1 << 5,	       /* neighbours do not point back, or the wrong blocks are listed */
	SV_FLAG_ACCOUNTING = 1 << 6,
	SV_FLAG_LEAK = 1 << 7,
	SV_FLAG_FLUSH_RANGE = 1 << 8,  /* a flush that makes no sense */
	SV_FLAG_UNLOCKED_RANGE = 1 << 9,
	SV_FLAG_LOCKS = 1 << 10,
	SV_FLAG_STOPPED = 1 << 11,     /* it did not come to its end */
	SV_FLAG_UNINITIALISED = 1 << 12,
	SV_FLAG_RACE = 1 << 13,	       /* of a pair of places not seen often yet */
	SV_FLAG_BUG = 1 << 14,
	SV_FLAG_LIMIT = 1 << 15,       /* a cost above the scenario's limit */
	SV_FLAG_UNKNOWN = 1 << 16,     /* a type or a lock it was not told of: sv_screen_unknown has them */
	SV_FLAG_TOO_LARGE = 1 << 17,   /* more tasks, CPUs, locks, ... than its tables hold */
	SV_FLAG_STRAY = 1 << 18,       /* a page outside the window and the direct map, an object that is none */
};

enum sv_struct_kind {
	SV_STRUCT_OTHER,
	SV_STRUCT_BLOCK,
	SV_STRUCT_AREA,
	SV_STRUCT_VM,
	SV_STRUCT_ON_STACK, /* gone when its task's call returns */
};

/* What a field means to a check; of each byte of a struct. */
enum sv_role {
	SV_ROLE_NONE,
	SV_ROLE_FREE,
	SV_ROLE_DIRTY,
	SV_ROLE_DIRTY_MIN,
	SV_ROLE_DIRTY_MAX,
	SV_ROLE_USED_MAP,
	SV_ROLE_VA,
	SV_ROLE_VA_START,
	SV_ROLES = 15,
	SV_ROLE_NEXT = 16,	/* bit: a pointer to the next node of a list */
	SV_ROLE_FREE_LIST = 32, /* bit: the node by which a block is on a free list */
};

/*
 * A struct of the code under test, or the layout of one global. `field_of[n]` is the first byte of the field that byte
 * n belongs to: what Python's checks call one field is one place. NULL: each address is a field of its own.
 */
struct sv_screen_struct {
	uint32_t kind;
	uint32_t size;
	uint32_t element; /* of an array of structs: each is an object of its own; else 0 */
	uint32_t pad;
	const uint32_t *field_of;
	const uint8_t *role_of;
};

struct sv_screen_lock_class {
	uint32_t number; /* below 64; equal for equal classes */
	uint32_t is_block_lock;
	uint32_t is_purge_lock;
};

struct sv_screen_root {
	uint64_t address;
	uint64_t count; /* address of what says how many areas a pool has, 0: nothing does */
	uint32_t tree;
	uint32_t pad;
};
enum sv_tree { SV_TREE_BUSY, SV_TREE_LAZY, SV_TREE_FREE, SV_TREE_POOL };

/* Of limits: negative is none. Of offsets: SV_ABSENT is none. Arrays are copied. */
struct sv_screen_setup {
	uint32_t abi;
	uint32_t wanted;	/* SV_FLAG_* to screen for; what cannot be screened for cheaper is not asked */
	uint32_t block_bits;
	uint32_t page_shift;
	uint64_t window_start, window_end, direct_start, direct_end; /* pages */
	uint32_t race_reports;	/* a pair of places that raced in so many runs flags no more, but is counted */
	uint32_t boot_events;	/* that Python's journal has before the engine's first */
	int64_t lazy_bias;
	int64_t limit_excess_pages, limit_reflushed_pages, limit_hold_points;
	uint32_t limits_double_count; /* 1: there is a limit that nothing here screens for, so each run is flagged */

	uint32_t block_va, block_free, block_dirty, block_dirty_min, block_dirty_max, block_used_map;
	uint32_t area_start, area_end, area_vm, rb_left, rb_right;
	uint32_t xa_head, xa_slots, xa_slot_count;
	uint64_t lazy_nr;	/* address of vmap_lazy_nr, 0: none */
	const uint64_t *xarrays, *queue_heads, *pointers; /* pointers: one for each CPU, to an object kept for later */
	const struct sv_screen_root *roots;		  /* of trees; of a pool: the head of a list of areas */
	uint32_t n_xarrays, n_queue_heads, n_pointers, n_roots;
};

struct sv_screen_unknown {
	uint32_t is_lock;
	uint32_t a; /* string of the type; of a lock: the struct */
	uint32_t b; /* size; of a lock: its offset */
	uint32_t pad;
	uint64_t address;
};

/* A pair of accesses that raced: places in the code, kinds of access, entry points, lock classes held. */
struct sv_race {
	uint32_t pc[2];
	uint32_t kind[2];
	uint32_t entry[2]; /* string of the entry point, or of the task's name outside any */
	uint64_t locks[2]; /* a bit for each class */
	uint32_t where, offset; /* struct, and field in it */
	uint64_t runs;
};

/* Forgets whatever it knew, races included. 0, or -1 if there is no memory or the ABI differs. */
SV_EXPORT int sv_screen_setup(const struct sv_screen_setup *setup);
/* Returns the struct's number, or -1. */
SV_EXPORT int sv_screen_struct(const struct sv_screen_struct *one);
/* Allocations of that size whose site names that type are such structs. */
SV_EXPORT int sv_screen_type(uint32_t string, uint32_t size, uint32_t number);
/* A global variable: an object that no allocation tells of. To be told in the order of their addresses. */
SV_EXPORT int sv_screen_global(uint64_t address, uint32_t size, uint32_t number);
SV_EXPORT int sv_screen_lock(uint32_t number, uint32_t offset, const struct sv_screen_lock_class *class);

/* Screen the run that is over: SV_FLAG_*, 0 if Python's checks have nothing to say about it. */
SV_EXPORT uint64_t sv_screen(void);
SV_EXPORT const struct sv_screen_unknown *sv_screen_unknown(uint32_t *n);
SV_EXPORT const struct sv_race *sv_screen_races(uint32_t *n);

#endif
