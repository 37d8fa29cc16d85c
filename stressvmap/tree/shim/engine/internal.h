/* SPDX-License-Identifier: GPL-2.0-only */
/* What the engine's files share, and what must be inline because it is done at every access. */
#ifndef SV_INTERNAL_H
#define SV_INTERNAL_H

#include "engine.h"

#pragma GCC visibility push(hidden)

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define SV_INLINE static inline __attribute__((always_inline))

#define SV_STACK_BYTES ((size_t)128 << 10)
#define SV_GUARD_BYTES ((size_t)64 << 10) /* below each stack: no frame of a kernel is larger */

/* ---------------------------------------------------------------- memory.c: areas that grow in place */

struct sv_area {
	char *start;
	size_t committed, reserved;
};

/* Reserve addresses, at `hint` if that is free; false if there are none. */
bool sv_reserve(struct sv_area *area, uintptr_t hint, size_t bytes);
/* Make the first `bytes` usable; false if that is more than was reserved, or there is no memory. */
bool sv_commit(struct sv_area *area, size_t bytes);
/* Give back the memory of one run that needed far more than others do: what lies behind `bytes`. */
void sv_trim(struct sv_area *area, size_t bytes);
/* Make part of an area usable that does not begin at its start. */
bool sv_unprotect(void *start, size_t bytes);

/* ---------------------------------------------------------------- journal.c */

extern struct sv_event *sv_next_event;	/* where the next is written */
extern struct sv_event *sv_event_limit; /* sv_more_events is asked here */
extern struct sv_event *sv_unfilled;	/* a write that is told of before it happens: without its value */
extern uint64_t sv_unfilled_mask;	/* of the value, 0: it is not within one aligned word */
extern const char __ehdr_start[];	/* the library's first byte: the linker knows */

bool sv_journal_boot(void);
void sv_journal_keep_boot(void); /* what was recorded so far begins the journal of each run */
void sv_journal_reset(bool keeps);
struct sv_event *sv_more_events(void);
void sv_fill_slowly(struct sv_event *event);
/* A search has no more use for its notes: they go, for the readers of journals. */
void sv_drop_notes(void);
/* The write that was told of last has not happened: it hit a bad address. */
void sv_unwrite(void);

SV_INLINE uint32_t sv_place_of(const void *pc)
{
	return (uint32_t)((uintptr_t)pc - (uintptr_t)__ehdr_start);
}

/*
 * The aligned word that holds an address, shifted so that the value there comes first. It never leaves a
 * page.
 */
SV_INLINE uint64_t sv_word_at(uint64_t address)
{
	return *(const volatile uint64_t *)(address & ~UINT64_C(7)) >> (address & 7) * 8;
}

/* First thing at every entry into the engine: what the task wrote since the last one is in memory now. */
SV_INLINE void sv_fill(void)
{
	struct sv_event *event = sv_unfilled;

	if (!event)
		return;
	if (likely(sv_unfilled_mask))
		event->c = sv_word_at(event->a) & sv_unfilled_mask;
	else
		sv_fill_slowly(event);
	sv_unfilled = NULL;
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "an event's first fields are written as one word");

/* One store for four fields: this is done at every access. */
SV_INLINE void sv_write_event(struct sv_event *event, const struct sv_task *task, int kind,
			      unsigned int flags, uint64_t a, uint32_t b, uint64_t c)
{
	uint64_t first = task->who | (uint64_t)flags << 48 | (uint16_t)kind;

	__builtin_memcpy(event, &first, sizeof(first));
	event->pc = task->pc;
	event->b = b;
	event->a = a;
	event->c = c;
	sv_next_event = event + 1;
}

SV_INLINE struct sv_event *sv_append(const struct sv_task *task, int kind, unsigned int flags, uint64_t a,
				     uint32_t b, uint64_t c)
{
	struct sv_event *event = sv_next_event;

	if (unlikely(event == sv_event_limit))
		event = sv_more_events();
	sv_write_event(event, task, kind, flags, a, b, c);
	return event;
}

/* ---------------------------------------------------------------- object.c */

extern uintptr_t sv_arena;	/* start of the memory of sv_alloc */
extern uintptr_t sv_arena_used; /* bytes of it handed out in this run */
extern uint8_t *sv_shadow;	/* a bit for each byte of the arena: unwritten, dead or in no object */

bool sv_objects_boot(void);
bool sv_objects_keep_boot(void);
void sv_objects_reset(void);
/* The access touches bytes that the shadow has a bit for: tell what is wrong with it, or note the write. */
#define SV_FRAMES_TOLD 8
/* The innermost places of a task: where it is, and where the functions it is in were called. */
void sv_backtrace(const struct sv_task *task, uint32_t places[SV_FRAMES_TOLD]);
void sv_heap_access(const struct sv_task *task, int kind, uint64_t address, size_t size, bool is_range);

/* ---------------------------------------------------------------- task.c, cpu.c */

extern struct sv_task sv_boot_task;
extern uintptr_t sv_own_stack;	    /* lowest address of the stack of the task that runs */
extern uintptr_t sv_own_stack_size; /* every address counts as being on it if the engine is bare */
extern bool sv_is_bare;
extern uintptr_t sv_stack_used[SV_TASKS + 1]; /* by a stack's number: how far down it has been used */

bool sv_tasks_boot(void);
void sv_tasks_keep_boot(void);
void sv_tasks_reset(void);
void sv_prepare_stack(struct sv_task *task);
void sv_set_cpu(struct sv_task *task, int cpu);
void sv_load_stack_bounds(const struct sv_task *task);
bool sv_is_finished(const struct sv_task *task);
void sv_admit(struct sv_task *task);  /* it is ready from here on */
void sv_retire(struct sv_task *task); /* it is not: it parks or is done */
void sv_cpus_reset(void);

extern int32_t sv_ready_count[SV_CPUS];
extern struct sv_task *sv_ready[SV_CPUS];
void sv_refresh(int cpu); /* who occupies it has changed */

/* ---------------------------------------------------------------- switch.c, switch_x86_64.S */

/* Go on where `to` was left, or in the hub (NULL); returns when somebody goes on with `from`. */
void sv_switch_stacks(struct sv_task *from, struct sv_task *to);
void sv_prepare_context(struct sv_task *task);
_Noreturn void sv_task_main(void);

/* ---------------------------------------------------------------- schedule.c */

extern uint64_t sv_attend_at; /* the value of sv_points at which a point has more to do than count */
extern volatile int sv_stop_requested;
extern uint64_t sv_switches; /* of stacks, in all runs: with sv_points it tells whether anything goes on */

void sv_schedule_reset(void);
void sv_attend(void);
void sv_ask_soon(void);
void sv_reschedule(struct sv_task *task, int why);
_Noreturn void sv_leave_for_good(struct sv_task *task); /* its body is over, one way or the other */
_Noreturn void sv_give_up(int reason);			/* the run ends here, in the middle of a task */
uint64_t sv_own_points(void);
/* Run until nobody is enabled, or it must stop: enum sv_reason. */
int sv_run_tasks(void);
bool sv_schedule_init(void);
/* Run `body` as task 0; false if a signal ended it. */
bool sv_run_boot(void (*body)(void *));
void sv_enabled_insert(struct sv_task *task);
void sv_enabled_remove(struct sv_task *task);
extern struct sv_task *sv_enabled[SV_TASKS]; /* ascending by id */
extern int32_t sv_enabled_count;
void sv_seed_draws(uint64_t seed); /* of sv_draw, where no callback is asked */
/* A plan of switches at points spread over `length`. */
void sv_plan_random(uint64_t *seed, uint64_t length, uint32_t switches);

SV_INLINE void sv_announce(struct sv_task *task, int kind, uint64_t object, uint32_t field)
{
	task->pending_kind = kind;
	task->pending_object = object;
	task->pending_field = field;
	if (unlikely(++sv_points >= sv_attend_at))
		sv_attend();
}

/* ---------------------------------------------------------------- strategy.c */

bool sv_strategy_is_set(void);
void sv_strategy_unset(void);
void sv_strategy_reset(void); /* a run begins */
struct sv_task *sv_strategy_choose(struct sv_task *task, int why, uint64_t *points);

/* ---------------------------------------------------------------- machine.c */

void sv_migrate(struct sv_task *task);
void sv_die(struct sv_task *task, const char *what); /* it hit a BUG: all of it but leaving its stack */
void sv_record_stop(int reason);
bool sv_faults_keep(const struct sv_fault *faults, uint32_t n_faults, const struct sv_migration *migrations,
		    uint32_t n_migrations);
void sv_migrations_arm(void);

/* ---------------------------------------------------------------- order.c, search.c */

bool sv_order_begin(void);
void sv_order_reset(void);
void sv_order_fold(void); /* take in what was recorded since */
uint64_t sv_order_state(bool with_occupancy);
bool sv_order_has_news(void); /* a lock came to those that are looked at for contention */
uint32_t sv_order_contended(const uint64_t **locks); /* those, relative to sv_base(); one of 0: all */
void sv_order_contend(uint64_t lock);
void sv_order_forget(void); /* of these */
bool sv_order_is_full(void);  /* more was used than is kept apart: the numbers mean nothing */
uint32_t sv_size_at(uint64_t address); /* of the object there */
uint64_t sv_name_at(uint64_t address); /* its id and the place in it */

/* sharing.c */
#define SV_LIBRARY_MOST (UINT64_C(1) << 32) /* no library is larger */
bool sv_sharing_begin(void);
bool sv_sharing_has_news(void);
/* Whether the step that `task` is about to take concerns nobody else, as far as is known. */
bool sv_is_step_private(const struct sv_task *task);
void sv_sharing_step(const struct sv_task *task, bool is_private); /* it is taken: what it uses is watched */
void sv_sharing_pause(void);
void sv_sharing_memory(uint64_t address, int task, bool is_change);
void sv_sharing_thing(uint64_t key, int task, bool is_change);
void sv_sharing_all(void);
/* `task` runs where a step that changes that thing keeps it from running. */
void sv_sharing_presence(uint64_t key, int task);

extern bool sv_is_searching;
/* The task to run next, or NULL; `task` ran last. */
struct sv_task *sv_search_choose(struct sv_task *task, uint64_t *points);

SV_INLINE bool sv_is_on_heap(uint64_t address)
{
	return address - sv_arena < sv_arena_used;
}

/* ---------------------------------------------------------------- crash.c */

extern volatile int sv_in_task; /* a task's code runs, not the hub or Python */
extern uintptr_t sv_constants_end; /* nothing can be written from the library's start to here */

enum sv_landing { SV_LANDED_CRASH = 1, SV_LANDED_LOOP };

void sv_crash_boot(void);
bool sv_crash_arm(void);	       /* for the thread that is to run tasks; false: see sv_error */
extern char sv_crash_text[128];	       /* what happened */
_Noreturn void sv_land(enum sv_landing how); /* in the hub, from a signal handler */

/* ---------------------------------------------------------------- program.c, api.c */

bool sv_program_keep(const struct sv_program_task *tasks, uint32_t n_tasks, const struct sv_op *ops);
void sv_program_spawn(void);
void sv_program_reset(void);
/* A run of the program that is loaded: from the machine as it was after boot; the clean-up, and its end. */
void sv_begin_run(void);
void sv_end_run(int *reason);
void sv_set_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
uint64_t sv_mix(uint64_t *state); /* the next of a sequence of pseudo-random numbers (splitmix64) */

#pragma GCC visibility pop

#endif
