/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the files of the screening share: the derived state of one run, as stressvmap/checks/state.py has it.
 *
 * Nothing is freed or cleared between runs: a record belongs to the run whose number it carries (`sc_run`), and is made
 * anew at the first use in another. Memory handed out within a run (sc_take) is taken back as a whole.
 */
#ifndef SV_SCREEN_STATE_H
#define SV_SCREEN_STATE_H

#include "screen.h"

#pragma GCC visibility push(hidden)

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define THREADS 64     /* tasks with events, boot included */
#define SCREEN_CPUS 64
#define CLASSES 64     /* of locks */
#define HELD 32	       /* locks that one task holds */
#define DEPTH 8	       /* calls, or flushes, one inside the other in one task */
#define ON_STACK 64    /* objects on the stack of one task */
#define CALLS 65536
#define BLOCKS 4096
#define USED_WORDS 16
#define NOWHERE UINT32_MAX
#define NO_VALUE INT64_MIN

enum entry {
	ENTRY_OTHER, ENTRY_ALIASES, ENTRY_MAP, ENTRY_VMALLOC, ENTRY_VMALLOC_RESET, ENTRY_UNMAP, ENTRY_VFREE,
	ENTRY_VFREE_RESET, ENTRY_VFREE_ATOMIC, ENTRIES
};

/* An object in this run: one of the engine's, or a global. */
struct object {
	uint64_t start;
	uint32_t size;
	uint32_t where;	    /* its struct */
	uint32_t run;
	uint32_t places;    /* raised when its places are forgotten */
	int32_t times_listed;
	uint8_t is_dead;
	uint8_t kind;	    /* enum sv_struct_kind */
	int64_t va_start;   /* of a vmap_area: page last written; NO_VALUE */
	int32_t *indexed, *listed, *under_xa_lock; /* clocks handed over; NULL */
	struct block *block;
	struct object *elements; /* of an array of structs, each an object of its own; NULL */
	uint32_t element_size;
};

struct visit {
	uint32_t stamp; /* of the call: struct thread's */
	uint32_t last_lock, min_at, max_at; /* event numbers + 1, 0: never */
	int64_t min_value, max_value;
	uint8_t min_is_unlocked, max_is_unlocked;
};

struct block {
	struct object *object;
	int64_t free, dirty; /* last written; NO_VALUE */
	int64_t start;	     /* page; NO_VALUE */
	int32_t used;	     /* bits set at the last write of used_map, -1: none */
	bool is_listed;	     /* by list operations on its free_list */
	bool is_indexed, is_reached; /* at rest */
	uint64_t words[USED_WORDS];
	struct visit visits[]; /* by thread */
};

struct lock {
	uint32_t places; /* the object's, when it was last released */
	struct object *object;
	uint32_t class;
	uint32_t last;	/* thread that released it, its clock then */
	int32_t *clock; /* NULL: nobody did */
	bool is_block_lock, is_purge_lock;
};

/* Accesses that still matter. Lists hold numbers of accesses + 1, which are numbers of events + 1; 0 ends them. */
struct kept { uint32_t list[SV_WRITE_ONCE + 1]; }; /* by kind: SV_READ, SV_WRITE (at most one), ... */

/* One field of one object. */
struct place {
	uint32_t places; /* the object's, when the accesses were noted */
	struct object *object;
	uint32_t offset;
	uint8_t role;
	struct kept kept;
	uint32_t last;	/* of its atomic operations: the thread that made the last one, its clock then */
	int32_t *clock; /* NULL: there was none */
	int32_t *released;   /* what the last store there published, NULL: nothing */
	uint32_t releaser;   /* thread whose store that is, while it is still to come; NOWHERE: it is done */
};

struct access {
	uint32_t next;
	int32_t clock;
	uint64_t locks;
	uint32_t call;
	uint16_t thread;
};

struct call {
	uint32_t entry, string;
	uint32_t begin, end; /* event numbers; NOWHERE: under way */
	uint64_t page, pages;
	bool is_reset;	     /* it cleared pages of the direct map */
};

struct held { struct lock *lock; uint32_t at; };

struct thread {
	uint32_t task, index;
	int32_t *clock; /* clock[index] is its epoch */
	uint32_t calls[DEPTH];
	uint32_t depth;
	uint32_t call; /* the outermost, as the race detector knows it; NOWHERE */
	uint32_t stamp;
	struct held held[HELD];
	uint32_t n_held, n_purge_held;
	uint64_t classes; /* of the locks held */
	int32_t rcu_depth, reader_depth, preempt_depth;
	bool is_reader, has_slept;
	bool cleared_direct_map;
	bool has_flush_args;
	uint64_t flush_start, flush_end;
	uint64_t flushes[DEPTH];
	uint32_t n_flushes;
	uint32_t points, points_at_lock;
	struct object *stack[ON_STACK];
	uint32_t n_stack;
};

/* A page of the window or of the direct map. `pending`: CPUs that may still translate what was taken away. */
struct page {
	uint32_t run;
	uint32_t set_at, cleared_at, handed_out_at; /* event numbers + 1, 0: never */
	uint64_t pending;
	uint64_t number;
	uint64_t frame; /* UINT64_MAX: not mapped */
	uint32_t call;	/* the outermost one that cleared it; NOWHERE */
	uint32_t pending_slot;
	uint64_t mapping_pages; /* of the mapping that begins here, as its owner knows it; 0: none */
	uint64_t owned_pages;	/* of the range last returned that begins here; 0: none */
	bool is_blamed, is_clean, is_owned;
};

/* ---------------------------------------------------------------- screen.c: the run */

extern struct sv_screen_setup sc_setup;
extern uint64_t sc_flags;
extern uint32_t sc_run; /* number of this run, from 1 */
extern const struct sv_event *sc_events;
extern uint32_t sc_n_events;
extern uint32_t sc_width; /* of a clock: threads that there can be */
extern struct thread sc_threads[THREADS];
extern uint32_t sc_n_threads;
extern struct call sc_calls[CALLS];
extern uint32_t sc_n_calls;

static inline void flag(uint64_t bits)
{
	sc_flags |= bits & (sc_setup.wanted | SV_FLAG_UNKNOWN | SV_FLAG_TOO_LARGE | SV_FLAG_STRAY);
}

static inline bool wants(uint64_t bits)
{
	return sc_setup.wanted & bits;
}

/* Memory until the run is screened, aligned to 8, not cleared; NULL and flagged if there is no more. */
void *sc_take(size_t bytes);
struct thread *sc_thread(uint32_t task);
uint32_t sc_name_of(uint32_t task); /* string number */
/* Zeroed memory for the life of the process; the system gives it page by page as it is touched. NULL: none. */
void *sc_map_zeroed(size_t bytes);

/* ---------------------------------------------------------------- screen_layout.c: objects and places */

bool sc_layout_reset(void);
void sc_layout_begin(void); /* of a run */
/* The object that holds an address; NULL: none. */
struct object *sc_object_at(uint64_t address);
struct object *sc_objects_of_run(uint32_t *n); /* the engine's, without globals */
extern struct object sc_nothing; /* what addresses in no object are in */
const uint8_t *sc_struct_words(uint32_t where); /* enum word_bit of each word; NULL: none has any */
struct lock *sc_lock_find(uint64_t address);

#define SLOTS 65536
/* Where the place of an address is; by the address, so that a struct's fields are neighbours here too. */
struct slot { uint64_t address; uint32_t run; uint32_t place; };
extern struct slot *sc_slots;
extern struct place *sc_places;
struct place *sc_place_new(uint64_t address);

static inline uint32_t slot_of(uint64_t address)
{
	return (uint32_t)(address >> 3 ^ address >> 17) % SLOTS;
}

/* Addresses in no object are all one place, which is nobody's business. */
static inline struct place *sc_place_at(uint64_t address)
{
	uint32_t at = slot_of(address);

	while (sc_slots[at].run == sc_run) {
		if (likely(sc_slots[at].address == address))
			return sc_places + sc_slots[at].place;
		at = (at + 1) % SLOTS;
	}
	return sc_place_new(address);
}

static inline int64_t pages_of(uint64_t address)
{
	return (int64_t)(address >> sc_setup.page_shift);
}

/* ---------------------------------------------------------------- screen_words.c: words of memory */

enum word_bit {
	WORD_HAS_PLACE = 1,   /* its accesses are known by place: nothing below is told of it */
	WORD_IS_NEXT = 2,     /* a pointer to the next node of a list */
	WORD_HAS_BOOKS = 4,   /* its writes are entered in some book */
	WORD_HAS_READERS = 8, /* so are its reads */
	WORD_IS_LISTED = 16,  /* of an object that is or was on a list: of this run, as what follows */
	WORD_HAS_NO_ORDER = 32, /* not each of its accesses came after the one before */
};

/* Of this run if `run` says so. */
struct word {
	uint32_t run;
	int32_t clock; /* of the last access, and its thread */
	uint8_t thread;
	uint8_t bits;
	uint8_t fixed; /* bits that it has in each run */
	uint8_t low;   /* of the address that is accessed there; NO_LOW: none yet */
	struct kept kept;
};
#define NO_LOW 8
extern struct word *sc_heap_words, *sc_static_words;
extern uint64_t sc_heap_start, sc_heap_bytes, sc_static_start, sc_static_bytes;

bool sc_words_reset(void);
uint32_t sc_words_of_struct(const struct sv_screen_struct *one, uint8_t *bits);
void sc_words_global(uint64_t address, uint32_t size, uint32_t where);
void sc_words_fixed(uint64_t address, uint32_t size, uint32_t where);
void sc_words_new(const struct object *object);
void sc_words_forget(const struct object *object, bool is_dead);
void sc_words_listed(const struct object *found, uint64_t address);

/* NULL: on a stack, in no memory of the code under test, or races are not screened for. */
static inline struct word *sc_word_at(uint64_t address)
{
	if (likely(address - sc_heap_start < sc_heap_bytes))
		return sc_heap_words + (address - sc_heap_start) / 8;
	if (address - sc_static_start < sc_static_bytes)
		return sc_static_words + (address - sc_static_start) / 8;
	return NULL;
}

static inline struct word *sc_word_begun(struct word *word)
{
	if (word->run != sc_run)
		*word = (struct word){ .run = sc_run, .fixed = word->fixed, .bits = word->fixed, .low = NO_LOW };
	return word;
}

/* ---------------------------------------------------------------- screen_pages.c: ground */

bool sc_pages_reset(void);
void sc_pages_begin(void);
void sc_ground(uint32_t number, const struct sv_event *event, struct thread *thread);
struct page *sc_page(uint64_t number); /* NULL and flagged: outside both */
void sc_pages_at_rest(void);
int64_t sc_mapped_pages(uint64_t start, uint64_t end);
/* Pages of the mappings that begin in [start, end), each rounded up to its order. */
int64_t sc_live_pages(uint64_t start, uint64_t end);
bool sc_is_mapping_start(uint64_t number);
extern struct page **sc_pending, **sc_touched;
extern uint32_t sc_n_pending, sc_n_touched, sc_n_mappings;

/* ---------------------------------------------------------------- screen_blocks.c: books, visits, locks */

void sc_blocks_begin(void);
struct block *sc_block_of(struct object *object);
void sc_block_read(uint32_t number, const struct sv_event *event, struct thread *thread, struct place *place);
void sc_block_write(const struct sv_event *event, struct thread *thread, struct place *place);
void sc_block_locked(uint32_t number, struct thread *thread, struct lock *lock);
void sc_block_unlocked(struct lock *lock);
void sc_range_flushed(const struct sv_event *event, struct thread *thread);
void sc_list_changed(const struct sv_event *event);

void sc_locks_begin(void);
void sc_locked(uint32_t number, const struct sv_event *event, struct thread *thread);
void sc_unlocked(const struct sv_event *event, struct thread *thread);
void sc_waited(const struct sv_event *event, struct thread *thread);
void sc_asserted(const struct sv_event *event, struct thread *thread);
void sc_call_over(struct thread *thread, const struct call *call);

/* ---------------------------------------------------------------- screen_rest.c */

void sc_audit(void);

/* ---------------------------------------------------------------- screen_order.c: happens-before */

bool sc_order_reset(void);
void sc_order_begin(void);
void sc_order_thread(struct thread *thread); /* it is new */
void sc_order(const struct sv_event *event, struct thread *thread);
void sc_order_locked(const struct sv_event *event, struct thread *thread, struct lock *lock);
void sc_order_unlocked(struct thread *thread, struct lock *lock);
void sc_order_released(struct thread *thread, struct place *place);
void sc_order_overwritten(const struct thread *thread, struct place *place);
void sc_order_loaded(const struct sv_event *event, struct thread *thread, const struct place *place);
void sc_order_stored(const struct sv_event *event, struct thread *thread, struct place *place);
/* That part of them which concerns a list's pointer, whether it has a place or not. */
void sc_order_next_loaded(const struct sv_event *event, struct thread *thread);
void sc_order_next_stored(const struct sv_event *event, struct thread *thread);
void sc_order_before_atomic(struct thread *thread, const struct place *place);
void sc_order_after_atomic(struct thread *thread, struct place *place);
void sc_leave_stack(struct thread *thread);

/* ---------------------------------------------------------------- screen_races.c */

bool sc_races_reset(void);
bool sc_races_begin(void);
void sc_access(uint32_t number, const struct sv_event *event, struct thread *thread);
/* What is known of the word becomes what is known of its place. */
void sc_use_place(struct word *word, uint64_t address);

#pragma GCC visibility pop

#endif
