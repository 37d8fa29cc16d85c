/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the shim asks of the engine, and what the engine shows to Python.
 *
 * The engine is the Python package's ControlledRuntime, Machine and Struct said again in C: tasks on stacks of their
 * own, one of which runs at a time; scheduling points at which another may; one journal of what happened, in order.
 * Between two points of one task nothing of another task happens, so a change and its event are one step.
 *
 * State: what a run changes lives in the sections that are put back before each run (`SV_STATE` here, all data of
 * kernel and shim objects); what outlives a run (settings, the journal's buffer, the snapshot) does not.
 */
#ifndef SV_ENGINE_H
#define SV_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sv_events.h" /* SV_READ, SV_LOCK, ...: generated from journal/events.py, so there is one table */

#define SV_STATE __attribute__((section("sv_state")))

#define SV_ABI 1
#define SV_CPUS 256	 /* CPU ids are below this */
#define SV_TASKS 640	 /* tasks of one run, daemons included */
#define SV_ARENA_BYTES ((size_t)256 << 20) /* of addresses: no run allocates more */
#define SV_EXPORT __attribute__((visibility("default")))

/* Nothing but SV_EXPORT leaves the library: a callback is then a direct call, not one by way of the PLT. */
#pragma GCC visibility push(hidden)

/* ---------------------------------------------------------------- the journal */

/*
 * 32 bytes. `a` and `c` hold raw addresses where events.py says object or pointer: the reader turns them into object
 * ids by the table of objects, for no memory is used twice within a run. `b` is a string number (sv_string), or where
 * events.py says that b is a number, that number; in accesses (read, write, read_once, write_once, dead_access,
 * uninitialised) it is the size of the access in bytes, and `a` the address accessed; `c` is the value, or its first 8
 * bytes, as it is in memory: not extended by its sign. What has no pointer size needs no object: the address of a stack
 * is in none.
 *
 * A dead_access says in `c` what kind of access it was: of LOCK and the like, `b` is the string handed to sv_touch; 0
 * bytes written mean that the object was freed again.
 */
struct sv_event {
	uint16_t kind;
	uint16_t task;
	uint16_t cpu;
	uint16_t flags; /* enum sv_event_flag */
	uint32_t pc;	/* place in the code under test, as an offset into the library: a return address; 0: in none */
	uint32_t b;
	uint64_t a;
	uint64_t c;
};
_Static_assert(sizeof(struct sv_event) == 32, "the reader knows its layout");

enum sv_event_flag {
	SV_ON_HEAP = 1,	 /* an access to memory of sv_alloc */
	SV_RACY = 2,	 /* a plain access inside data_race(), recorded as a marked one */
};

/* Append an event made by the current task, at its `pc`. Never a point. */
void sv_record(int kind, uint64_t a, uint32_t b, uint64_t c);
/* Append one for any task. */
void sv_record_for(const void *task, int kind, uint64_t a, uint32_t b, uint64_t c);
/* The number of a string: equal text, equal number, in every run of a process. */
SV_EXPORT uint32_t sv_string(const char *text);

/* ---------------------------------------------------------------- tasks */

struct sv_task {
	int32_t id; /* 1..: the program's; 900 clean-up; 1000 + CPU interrupts; 2000 + n kworkers; 3000 RCU callbacks; 0 boot */
	int32_t cpu;
	int32_t preempt_count;
	int32_t rcu_depth;
	uint8_t is_daemon;    /* serves requests for ever: when its body returns it is parked until woken */
	uint8_t is_interrupt; /* runs even while a task of its CPU is pinned, unless interrupts are off there */
	uint8_t is_done;
	uint8_t is_dead; /* hit a BUG, or was given up */
	uint8_t is_parked;
	uint8_t is_pinned;  /* preempt count above 0, or an interrupt being handled */
	uint8_t is_started; /* has a frame on its stack */
	uint8_t race_depth; /* data_race() brackets it is inside of */
	uint32_t role;	    /* string number */
	int32_t operation; /* number of the program's operation it performs; -1: none */
	int32_t pending_kind;
	uint64_t pending_object; /* address */
	uint32_t pending_field;	 /* string number; of an access (its kind says so) its size in bytes */
	uint32_t pending_pc;
	uint64_t points; /* announced in this run; behind while it runs */
	uint64_t operation_start;
	uint64_t migrate_at; /* at so many points, or as soon after as it is preemptible, sv_on_migrate is asked */
	uint64_t blocked_object;
	uint32_t blocked_class; /* string number */
	int32_t blocked_owner;	/* task id, 0: none in particular */
	uint32_t name;		/* string number */
	uint32_t allocations;	/* so far: objects are named (task, n-th) */
	uint32_t pc;
	uint32_t held; /* locks it holds */
	void (*body)(void *argument);
	void *argument;
	void *stack_low, *stack_high, *sp;

	/* The engine's own. */
	uint64_t who;	  /* id and CPU as an event has them */
	uint64_t touched; /* address of its last access that was no point */
	struct sv_task *ready_next, *ready_prev; /* of those ready on its CPU */
	uint8_t is_ready;			 /* neither parked nor done */
	uint8_t is_enabled;			 /* ready, and its CPU is free for it */
	uint16_t number;			 /* of its stack */
	int32_t depth;				 /* of calls between instrumented functions */
	uint32_t first_op, ops;
	uint32_t next_migration, migrations_end;
	uint32_t asked[8]; /* sv_should_fail, by kind */
};

#define SV_NEVER (UINT64_C(1) << 62)

extern struct sv_task *sv_current;
extern struct sv_task *sv_tasks[SV_TASKS]; /* ascending by id */
extern int32_t sv_task_count;
extern uint64_t sv_points; /* of this run */

/* Note where in the code under test the current task is: first thing in every shim function that the kernel calls. */
#define SV_SITE() sv_site(__builtin_return_address(0))
void sv_site(const void *pc);

/* Announce the current task's next operation on (object, field); other tasks may run before this returns. */
void sv_point(int kind, uint64_t object, uint32_t field);
/* The same for a plain access by the shim itself on the kernel's behalf: a point in `all` mode only. */
void sv_point_plain(int kind, uint64_t object, uint32_t field);
/* Block the current task until sv_wake. A wake-up may be spurious: test again. */
void sv_park(void);
void sv_wake(struct sv_task *task);
/* Memory of the code under test may say anything: whether that is a task, and on whose stack an address is; NULL: none. */
bool sv_is_task(const struct sv_task *task);
const struct sv_task *sv_owner_of_stack(uint64_t address);
uint32_t sv_draw(uint32_t n);
/* A task from the engine's own memory, zeroed; parked if it is a daemon. Its id must be new. */
struct sv_task *sv_spawn(int id, const char *name, int cpu, void (*body)(void *), void *argument, bool is_daemon,
			 bool is_interrupt);
struct sv_task *sv_task_by_id(int id);

/* CPUs: as runtime/runtime.py has them. */
void sv_pin(struct sv_task *task);
void sv_unpin(struct sv_task *task);
void sv_disable_irqs(int cpu);
void sv_enable_irqs(int cpu);
void sv_place(struct sv_task *task, int cpu);
void sv_wait_for_cpu(void); /* the current task was moved: returns when its CPU is free for it */
bool sv_can_run(const struct sv_task *task);
struct sv_task *sv_pinned_on(int cpu);	    /* NULL: nobody */
struct sv_task *sv_interrupt_on(int cpu);   /* NULL: none is being handled */

/* Preemption and the BUG family: kernel/machine.py. */
void sv_preempt_disable(void);
void sv_preempt_enable(void);
void sv_might_sleep(const char *what);
/* data_race(): plain accesses between these are marked ones. They nest. */
void sv_data_race_begin(void);
void sv_data_race_end(void);
bool sv_move(struct sv_task *task, int cpu); /* with its MIGRATED event */
_Noreturn void sv_bug(const char *what);     /* BUG event; the task dies where it stands, with its locks */
void sv_warn(const char *what);

extern uint8_t sv_cpu_possible[SV_CPUS], sv_cpu_online[SV_CPUS]; /* possible is a setting, online is state */
extern int32_t sv_nr_cpu_ids;

/* Hooks that the shim sets in its boot; each may be NULL. */
extern void (*sv_on_quiescent)(struct sv_task *task); /* left its last RCU reader section */

/* Injected failures: whether this request of `kind` ("kmalloc", "pte-alloc", ...) by the current task is to fail;
 * recorded if so. */
bool sv_should_fail(const char *kind);

/* ---------------------------------------------------------------- objects */

/*
 * Memory is handed out once in a run and never again, so an address names one object for ever. Poisoned (0x6b) unless
 * `zeroed`. An access to a dead object is recorded as dead_access, to bytes that nobody wrote as uninitialised; the
 * memory stays readable, as freed slab memory is.
 */
void *sv_alloc(size_t size, const char *type, bool zeroed); /* recorded as object_alloc; NULL if there is no more */
void sv_free(void *object, uint32_t how);		    /* recorded as object_free, c = how */
/* What the current task does now is why it will be freed: its stack is the free's, whoever calls sv_free then. */
void sv_will_free(const void *object);
bool sv_is_object(const void *address);			    /* whether it lies in an object that is alive */
/* Tell of an access by the shim itself to a kernel object (a lock in a block): dead_access if it is dead. */
void sv_touch(int kind, const void *address, uint32_t field);
/* What the shim wrote into a kernel object by uninstrumented code is initialised. */
void sv_mark_written(const void *address, size_t size);
/* memcpy and the like as the code under test means them: one access each to source and target. */
void *__tsan_memcpy(void *to, const void *from, size_t size);
void *__tsan_memmove(void *to, const void *from, size_t size);
void *__tsan_memset(void *to, int byte, size_t size);

/* Static storage of the code under test, per-CPU copies included, is named once at boot: an object of task 0. */
void sv_name_static(void *address, size_t size, const char *type, int cpu);

struct sv_object {
	uint64_t address;
	uint32_t size;
	uint32_t id;   /* task << 20 | n */
	uint32_t type; /* string number */
	int32_t cpu;   /* of a per-CPU copy; -1 */
	uint8_t is_dead;
	uint8_t how; /* c of its object_free */
	uint16_t pad;
	uint32_t alloc_pc, free_pc;
	uint16_t alloc_task, free_task;
};

/* ---------------------------------------------------------------- what an exploration must know */

/*
 * What tasks share besides what the journal names: order.c. A kind of its own in the journal, which only a search
 * keeps; no reader of journals sees one.
 */
#define SV_NOTE 0x7fff
enum sv_thing {
	SV_MEMORY,    /* by address */
	SV_WAITERS,   /* whether anybody waits for a lock, by its address */
	SV_WORKS,     /* queued and running works, and who is idle */
	SV_CALLBACKS, /* of RCU */
	SV_READER,    /* whether the task of that id is an RCU reader */
	SV_SLOT,      /* of the program */
	SV_REQUESTS,  /* to a CPU's interrupt */
	SV_ANSWERS,   /* to a flush, by the id of the task that waits for them */
	SV_SPACE,     /* whether address space is out, by page */
	SV_CPU,	      /* taken, by its number: who is there cannot run; SV_IRQS_OFF of it: its interrupt cannot */
	SV_EVERYTHING, /* all that any task does, and who keeps which CPU */
	SV_THINGS
};
#define SV_IRQS_OFF 0x10000
enum sv_use {
	SV_LOOKS,
	SV_ADDS, /* in an order that does not matter */
	SV_CHANGES,
	SV_FINDS /* of SV_READER: looks, and it is one */
};
extern bool sv_is_ordered; /* somebody wants to know */
void sv_note_use(enum sv_thing thing, uint64_t which, enum sv_use use);

static inline void sv_note(enum sv_thing thing, uint64_t which, enum sv_use use)
{
	if (sv_is_ordered)
		sv_note_use(thing, which, use);
}

/* ---------------------------------------------------------------- boot and run: what the shim supplies */

void sv_shim_boot(void); /* runs as task 0 before the snapshot: per-CPU data, vmalloc_init, pseudo-tasks */
void sv_shim_reset(void); /* after the snapshot was put back and before a program is loaded */
/*
 * Asked when a run stops: the ids, ascending and at most `limit`, of the tasks that a parked one waits for where these
 * may be many (a flush, a grace period). Returns how many; 0: its blocked_owner says it. A shim need not have it.
 */
int sv_awaited(const struct sv_task *task, int32_t *ids, int limit) __attribute__((weak));
/* Carry out one operation of a program as the current task; false if its slot did not fit. */
struct sv_op;
bool sv_perform(const struct sv_op *op);
/* sv_perform, and counted in sv_operations if it was carried out: what sv_clean_up is to call. */
bool sv_carry_out(const struct sv_op *op);
void sv_clean_up(void *unused); /* body of task 900: empty all slots, vm_unmap_aliases */

/* ---------------------------------------------------------------- what Python sees */

struct sv_op {
	uint32_t kind; /* enum sv_op_kind */
	uint32_t slot;
	uint32_t pages;
};
enum sv_op_kind { SV_OP_MAP, SV_OP_UNMAP, SV_OP_VMALLOC, SV_OP_VMALLOC_RESET, SV_OP_VFREE, SV_OP_ALIASES, SV_OP_TOUCH,
		  SV_OP_PROBE, SV_OP_MIGRATE, SV_OP_OFFLINE, SV_OP_ONLINE, SV_OP_PAUSE, SV_OP_SHRINK, SV_OP_WALK,
		  SV_OP_ATOMIC_VFREE, SV_OP_KINDS };

struct sv_fault { uint32_t kind; uint32_t task; uint32_t nth; }; /* kind: string number */
struct sv_migration { uint32_t task; uint32_t cpu; uint64_t point; }; /* sorted by (task, point) */
struct sv_program_task { uint32_t cpu; uint32_t role; uint32_t first_op; uint32_t ops; }; /* role: string number */

struct sv_config {
	uint32_t abi;
	uint32_t nr_possible;
	uint8_t possible[SV_CPUS], online[SV_CPUS];
	uint64_t window_start, window_end; /* pages: VMALLOC_START and VMALLOC_END; pages of direct map start at 0x40000 */
	uint64_t lazy_bias;		   /* pages that vmap_lazy_nr is raised by at boot, 0: none */
	uint64_t steps_max;
	uint64_t full_flush_ceiling_pages; /* 0: never */
	uint32_t debug_pagealloc;
	uint32_t points_all;  /* 1: a plain access is a scheduling point; 0: recorded only */
	uint32_t keeps_events; /* 1 */
	uint32_t slots;
};
extern struct sv_config sv_config;

enum sv_why { SV_WHY_START, SV_WHY_COUNT_OVER, SV_WHY_BLOCKED, SV_WHY_ENDED, SV_WHY_WOKEN };
enum sv_reason { SV_DONE, SV_DEADLOCK, SV_STEPS_MAX, SV_INTERRUPTED };

/* What sv_flags says of a run. */
enum sv_flag {
	SV_SAW_BUG = 1,
	SV_SAW_WARN = 2,
	SV_SAW_DEAD_ACCESS = 4,
	SV_SAW_UNINITIALISED = 8,
	SV_SAW_STOP = 16, /* it did not end as done */
};
extern uint64_t sv_seen; /* the shim's oracle adds bits of its own, from 1 << 16 */

#pragma GCC visibility pop

/* Asked per decision: task id << 40 | points to grant (at least 1), or negative: give the run up (interrupted). */
typedef int64_t (*sv_decide_fn)(int why);
/* A number in [0, n), or negative: give the run up. */
typedef int64_t (*sv_draw_fn)(uint32_t n);

/* A plan made in advance: at each decision the next step; the task is enabled[(rank * n_enabled) >> 32]. After its
 * end the current task goes on while it can, then the first enabled one. */
struct sv_step { uint32_t rank; uint32_t points; };
struct sv_choice { uint32_t task; uint32_t points; };

/* A search (search.c): what came of a call of sv_search_go. */
enum sv_search_outcome {
	SV_SEARCH_OVER,	  /* all was explored */
	SV_SEARCH_PAUSED, /* as many executions as were asked for, or the time is over */
	SV_SEARCH_NEW,	  /* the last execution is the first of its class: its journal and choices are there */
	SV_SEARCH_NEWS,	  /* what was explored rests on an assumption that is wrong: begin again, knowing no class */
	SV_SEARCH_FAILED, /* see sv_error */
	SV_SEARCH_ON	  /* of one execution: on to the next */
};
struct sv_search_counts { uint64_t complete, cut, deadlocks, gave_up, points, states; };

/*
 * Once; 0, or -1 with sv_error(). Installs handlers of SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT and SIGVTALRM, which hand
 * on what is not theirs: the library must stay loaded, and what else handles these be installed before.
 */
SV_EXPORT int sv_boot(const struct sv_config *config);
SV_EXPORT const char *sv_error(void);
SV_EXPORT int sv_load(const struct sv_program_task *tasks, uint32_t n_tasks, const struct sv_op *ops,
		      const struct sv_fault *faults, uint32_t n_faults, const struct sv_migration *migrations,
		      uint32_t n_migrations);		     /* reset, then load */
SV_EXPORT void sv_set_decide(sv_decide_fn decide, sv_draw_fn draw, int wants_wakeups); /* NULL: by plan */
/* A strategy that is carried out here (strategy.c), instead of a callback. `lengths` stays the caller's. */
enum sv_strategy_kind {
	SV_BY_WALK,	  /* any enabled task, for as many points as an entry of `lengths`, drawn, says */
	SV_BY_SWITCHES,	  /* `count` switches at points drawn from 1..length */
	SV_BY_PRIORITIES, /* PCT: `count` change points drawn from 1..length; `longest` points on end are a spinner's */
	SV_BY_OPERATIONS, /* POS */
	SV_BY_TURNS	  /* in turn, `count` points each; 0: as many as are drawn from 1..length */
};
struct sv_strategy {
	uint32_t kind;
	uint32_t prefers_others; /* where a grant is used up, choose among the others, if there are any */
	uint32_t count;
	uint32_t n_lengths;
	uint64_t length;
	uint64_t longest; /* no grant is longer */
	const uint32_t *lengths;
};
SV_EXPORT void sv_set_strategy(const struct sv_strategy *strategy, uint64_t seed);
SV_EXPORT void sv_set_plan(const struct sv_step *steps, uint32_t n_steps, uint64_t draw_seed);
SV_EXPORT void sv_set_steps_max(uint64_t steps_max); /* of the runs to come, instead of what sv_boot was told */
SV_EXPORT int sv_run(void); /* the program, then clean-up if it was done; enum sv_reason */
/*
 * Run one program after the other, each under a strategy, and screen each (screen.h): up to and with the first that is
 * flagged, or that a request to stop cut short. Returns how many were run; -1 with sv_error().
 */
struct sv_job {
	const struct sv_program_task *tasks;
	const struct sv_op *ops;
	const struct sv_fault *faults;
	const struct sv_migration *migrations;
	uint32_t n_tasks, n_faults, n_migrations, pad;
	const struct sv_strategy *strategy;
	uint64_t seed;
};
struct sv_tally {
	uint64_t points, operations; /* of all of them but the last, which the other calls tell of */
	uint64_t flags;		     /* of the last */
	uint32_t reason;	     /* of the last: enum sv_reason */
	uint32_t pad;
};
SV_EXPORT int sv_run_many(const struct sv_job *jobs, uint32_t n, struct sv_tally *tally);
SV_EXPORT uint32_t sv_enabled_ids(const int32_t **ids);	     /* for decide: ascending */
SV_EXPORT int32_t sv_current_id(void);			     /* for decide: the task that stopped; at the start, 0 */
SV_EXPORT const struct sv_task *const *sv_all_tasks(uint32_t *n);
SV_EXPORT const struct sv_event *sv_events(uint64_t *n);
SV_EXPORT const struct sv_object *sv_objects(uint32_t *n);    /* ascending by address */
/* For an address in the arena: where its object is in the last answer of sv_objects, from 1; 0: in no object. */
uint32_t sv_object_number(uint64_t address);
/* Where an object was allocated, or freed: the place, where the function it is in was called, and so on; ends with 0. */
SV_EXPORT const uint32_t *sv_object_stack(uint64_t address, int is_free);
SV_EXPORT const char *sv_text(uint32_t string);
SV_EXPORT const struct sv_choice *sv_choices(uint64_t *n);
SV_EXPORT const uint32_t *sv_draws(uint64_t *n);
SV_EXPORT uint64_t sv_operations(void); /* carried out in this run, skipped ones not counted */
SV_EXPORT uint64_t sv_starts(uint32_t task, const uint64_t **own, const uint64_t **all); /* where operations began */
SV_EXPORT uint64_t sv_flags(void);	/* what the oracle saw that Python's checks must look at; 0: nothing */
SV_EXPORT uint64_t sv_point_count(void);
/* Where the library lies in this process: what an address of static storage is relative to. */
SV_EXPORT uint64_t sv_base(void);
/* Where the heap and the tasks' stacks lie: at fixed addresses in the first library of a process alone. */
SV_EXPORT uint64_t sv_arena_base(void);
SV_EXPORT uint64_t sv_stacks_base(void);
/*
 * Explore the program of the last sv_load, with at most so many preemptions, or any number (negative); from the decisions
 * on that sv_search_stack told, if there are any. `returns_every`: SV_SEARCH_NEW after each execution that is complete. An
 * sv_load ends it. 0, or -1 with sv_error().
 */
SV_EXPORT int sv_search_begin(int32_t preemption_bound, const uint64_t *stack, uint64_t n_words, int returns_every);
SV_EXPORT int sv_search_go(uint64_t executions, uint64_t milliseconds);
SV_EXPORT void sv_search_end(void);
/* The classes that are not new, instead of those known so far. */
SV_EXPORT void sv_search_know(const uint64_t *known, uint64_t n);
SV_EXPORT uint64_t sv_search_class(void); /* of the last execution; 0: it was cut */
SV_EXPORT int sv_search_reason(void);	  /* why it ended: enum sv_reason */
/* Of this search; less than before if it has begun again by itself. */
SV_EXPORT void sv_search_counts(struct sv_search_counts *told);
/* The states that were seen, and that these were, too, after sv_search_begin. */
SV_EXPORT const uint64_t *sv_search_seen(uint64_t *n);
SV_EXPORT void sv_search_see(const uint64_t *states, uint64_t n);
/* The decisions that the next execution begins with; its words mean something to the engine. NULL: no memory. */
SV_EXPORT const uint64_t *sv_search_stack(uint64_t *n_words);
/*
 * What searches have learned of who shares what; and that this is known, and nothing else, before the next begins.
 * It is of one program.
 */
SV_EXPORT const uint64_t *sv_search_learned(uint64_t *n);
SV_EXPORT void sv_search_learn(const uint64_t *facts, uint64_t n);
/* End the running run at its next point as SV_INTERRUPTED; from any thread, or a signal handler. */
SV_EXPORT void sv_request_stop(void);
/* From the next sv_load on callbacks return at once, nothing is recorded, and tasks run to their end or until they
 * block: what the same code costs without the engine. */
SV_EXPORT void sv_set_bare(int is_bare);
/* Run the program of the last sv_load n times, each under a plan of so many switches spread over the length of the run
 * before. Returns the points of all. */
SV_EXPORT uint64_t sv_engine_bench(uint64_t n, uint64_t seed, uint32_t switches);

#endif
