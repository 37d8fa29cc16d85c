// SPDX-License-Identifier: GPL-2.0-only
/* Screening: setup, the tasks of a run, and the one pass over its events (screen.h says what for). */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>

#include "screen_state.h"

#define TAKEN_BYTES ((size_t)256 << 20) /* reserved; what a run does not touch costs nothing */
#define TASK_IDS 65536

struct sv_screen_setup sc_setup;
uint64_t sc_flags;
uint32_t sc_run, sc_n_events, sc_width, sc_n_threads, sc_n_calls;
const struct sv_event *sc_events;
struct thread sc_threads[THREADS];
struct call sc_calls[CALLS];

static char *taken;
static size_t n_taken;
static struct { uint32_t run; uint32_t index; } thread_of_task[TASK_IDS];
static uint32_t stamp;
static uint32_t string_done, string_steps_max;
static bool has_bug;

/* Each journal begins with what boot did; most of that has nothing to say about a run. */
#define BOOT_KEPT 4096
static uint32_t n_boot, n_boot_kept, boot_kept[BOOT_KEPT]; /* events of boot, and those that count; 0: not known yet */

/* ---------------------------------------------------------------- memory */

void *sc_map_zeroed(size_t bytes)
{
	void *start = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return start == MAP_FAILED ? NULL : start;
}

void *sc_take(size_t bytes)
{
	void *start = taken + n_taken;

	bytes = (bytes + 7) & ~(size_t)7;
	if (bytes > TAKEN_BYTES - n_taken) {
		flag(SV_FLAG_TOO_LARGE);
		return NULL;
	}
	n_taken += bytes;
	return start;
}

static uint64_t *copy_of(const uint64_t *from, uint32_t n)
{
	uint64_t *copy = sc_map_zeroed((n + 1) * sizeof(*copy));

	return copy && n ? memcpy(copy, from, n * sizeof(*copy)) : copy;
}

/* What the arrays of the last setup took stays taken: a process sets up once, tests a few times. */
static bool keep_arrays(void)
{
	struct sv_screen_root *roots = sc_map_zeroed((sc_setup.n_roots + 1) * sizeof(*roots));

	if (roots && sc_setup.n_roots)
		memcpy(roots, sc_setup.roots, sc_setup.n_roots * sizeof(*roots));
	sc_setup.roots = roots;
	sc_setup.xarrays = copy_of(sc_setup.xarrays, sc_setup.n_xarrays);
	sc_setup.queue_heads = copy_of(sc_setup.queue_heads, sc_setup.n_queue_heads);
	sc_setup.pointers = copy_of(sc_setup.pointers, sc_setup.n_pointers);
	return roots && sc_setup.xarrays && sc_setup.queue_heads && sc_setup.pointers;
}

int sv_screen_setup(const struct sv_screen_setup *setup)
{
	if (setup->abi != SV_SCREEN_ABI)
		return -1;
	sc_setup = *setup;
	if (!taken)
		taken = sc_map_zeroed(TAKEN_BYTES);
	n_boot = 0;
	string_done = sv_string("done");
	string_steps_max = sv_string("steps-max");
	if (!taken || !keep_arrays() || !sc_layout_reset() || !sc_words_reset() || !sc_pages_reset() || !sc_order_reset())
		return -1;
	return sc_races_reset() ? 0 : -1;
}

/* ---------------------------------------------------------------- tasks */

uint32_t sc_name_of(uint32_t task)
{
	uint32_t n;
	const struct sv_task *const *tasks = sv_all_tasks(&n);

	while (n--)
		if ((uint32_t)tasks[n]->id == task)
			return tasks[n]->name;
	return 0;
}

static struct thread *add_thread(uint32_t task)
{
	struct thread *thread = sc_threads + sc_n_threads;

	if (sc_n_threads == THREADS || (sc_n_threads && sc_n_threads >= sc_width)) {
		flag(SV_FLAG_TOO_LARGE);
		thread = sc_threads + sc_n_threads - 1;
	} else {
		memset(thread, 0, sizeof(*thread));
		thread->task = task;
		thread->index = sc_n_threads++;
		thread->call = NOWHERE;
		thread->stamp = ++stamp;
		if (wants(SV_FLAG_RACE))
			sc_order_thread(thread);
	}
	thread_of_task[task % TASK_IDS].run = sc_run;
	thread_of_task[task % TASK_IDS].index = thread->index;
	return thread;
}

struct thread *sc_thread(uint32_t task)
{
	if (likely(thread_of_task[task % TASK_IDS].run == sc_run))
		return sc_threads + thread_of_task[task % TASK_IDS].index;
	return add_thread(task);
}

/* What a call read of blocks is forgotten when it, or one inside it, begins or ends. */
static void forget_visits(struct thread *thread)
{
	thread->call = thread->depth ? thread->calls[0] : NOWHERE;
	thread->stamp = ++stamp;
}

/* ---------------------------------------------------------------- how it stopped */

/* checks/livelock.py: nobody completed a call in the last so many events, of which there must be as many. */
static bool may_be_livelock(void)
{
	uint64_t window = sc_setup.window_end - sc_setup.window_start, cpus = 0, unfinished = 0, length, start;
	uint64_t seen[TASK_IDS / 64 / 16] = { 0 }; /* ids are below 4096 */
	bool is_runnable = false;
	uint32_t end = NOWHERE;

	for (uint32_t n = 0; n < sc_n_events; n++) {
		const struct sv_event *event = sc_events + n;

		if (event->kind != SV_RUNNABLE && event->kind != SV_BLOCKED)
			continue;
		if (end == NOWHERE)
			end = n;
		is_runnable |= event->kind == SV_RUNNABLE;
		unfinished += !(seen[event->task / 64 % 64] >> event->task % 64 & 1);
		seen[event->task / 64 % 64] |= UINT64_C(1) << event->task % 64;
	}
	for (int cpu = 0; cpu < SV_CPUS; cpu++)
		cpus += sv_config.possible[cpu];
	length = 100 * (window + cpus) * unfinished;
	if (!is_runnable || end + (uint64_t)sc_setup.boot_events < length)
		return false;
	start = end < length ? 0 : end - length;
	for (uint64_t n = start; n < end; n++)
		if (sc_events[n].kind == SV_API_END)
			return false;
	return true;
}

static void stopped(void)
{
	const struct sv_event *last = sc_events + sc_n_events - 1;

	if (!sc_n_events || last->kind != SV_STOPPED)
		flag(SV_FLAG_STOPPED);
	else if (last->b == string_steps_max)
		flag(may_be_livelock() ? SV_FLAG_STOPPED : 0);
	else if (last->b != string_done)
		flag(SV_FLAG_STOPPED);
	else if (!has_bug)
		sc_audit();
}

/* ---------------------------------------------------------------- the pass */

static void will_publish(const struct sv_event *event, struct thread *thread)
{
	struct word *word = sc_word_at(event->a);
	struct place *place = sc_place_at(event->a);

	if (place->object == &sc_nothing)
		return;
	if (word && !(sc_word_begun(word)->bits & WORD_HAS_PLACE))
		sc_use_place(word, event->a);
	sc_order_released(thread, place);
}

static void about_object(const struct sv_event *event, struct thread *thread)
{
	struct object *object = sc_object_at(event->a);

	if (event->kind == SV_OBJECT_FREE) {
		if (wants(SV_FLAG_RACE))
			sc_order(event, thread);
		if (object)
			object->is_dead = 1;
		return;
	}
	if (!object)
		return;
	sc_words_new(object);
	if (object->kind != SV_STRUCT_ON_STACK)
		return;
	if (thread->n_stack == ON_STACK)
		flag(SV_FLAG_TOO_LARGE);
	else
		thread->stack[thread->n_stack++] = object;
}

static void operation(uint32_t number, const struct sv_event *event, struct thread *thread)
{
	switch (event->kind) {
	case SV_LOCK:
		sc_locked(number, event, thread);
		break;
	case SV_UNLOCK:
		sc_unlocked(event, thread);
		break;
	case SV_LOCK_WAIT:
		sc_waited(event, thread);
		break;
	case SV_ASSERT_HELD:
		sc_asserted(event, thread);
		break;
	case SV_RCU_READ_LOCK:
		thread->rcu_depth++;
		break;
	case SV_RCU_READ_UNLOCK:
		thread->rcu_depth--;
		break;
	case SV_MIGHT_SLEEP:
		flag(event->c || thread->rcu_depth ? SV_FLAG_LOCKS : 0);
		break;
	case SV_OBJECT_ALLOC:
	case SV_OBJECT_FREE:
		about_object(event, thread);
		return;
	case SV_DEAD_ACCESS:
		flag(SV_FLAG_DEAD_ACCESS);
		return;
	case SV_UNINITIALISED:
		flag(SV_FLAG_UNINITIALISED);
		return;
	case SV_LIST_CORRUPT:
		flag(SV_FLAG_LIST);
		return;
	case SV_BUG:
		has_bug = true;
		/* fall through */
	case SV_WARN:
		flag(SV_FLAG_BUG);
		return;
	case SV_LIST_ADD:
	case SV_LIST_DEL:
		sc_list_changed(event);
		break;
	case SV_RELEASE:
		if (wants(SV_FLAG_RACE))
			will_publish(event, thread);
		return;
	case SV_FLUSH_ARGS:
		sc_range_flushed(event, thread);
		sc_ground(number, event, thread);
		return;
	default:
		break;
	}
	if (wants(SV_FLAG_RACE))
		sc_order(event, thread);
}

static void is_over(uint32_t number, const struct sv_event *event, struct thread *thread)
{
	uint32_t depth = thread->depth;

	sc_ground(number, event, thread);
	if (depth && !thread->depth)
		sc_call_over(thread, sc_calls + thread->calls[0]);
	forget_visits(thread);
	if (!thread->depth)
		sc_leave_stack(thread);
}

/* Whether a lock's holder announces a point by this kind of event: checks/lock_times.py, POINT_KINDS. */
static bool is_point(uint32_t kind)
{
	static const uint64_t below_64 =
		1ull << SV_READ | 1ull << SV_WRITE | 1ull << SV_READ_ONCE | 1ull << SV_WRITE_ONCE | 1ull << SV_ATOMIC |
		1ull << SV_LOCK | 1ull << SV_TRYLOCK_FAILED | 1ull << SV_UNLOCK | 1ull << SV_RCU_READ_LOCK |
		1ull << SV_RCU_READ_UNLOCK | 1ull << SV_KFREE_RCU | 1ull << SV_XA_LOAD | 1ull << SV_XA_STORE |
		1ull << SV_XA_ERASE | 1ull << SV_TREE_INSERT | 1ull << SV_TREE_ERASE | 1ull << SV_TREE_FIND |
		1ull << SV_WORK_QUEUE | 1ull << SV_WORK_BEGIN | 1ull << SV_WORK_FLUSHED |
		1ull << SV_IPI_SEND;

	return kind < 64 ? below_64 >> kind & 1 :
	       kind == SV_PTE_SET || kind == SV_PTE_CLEAR || kind == SV_TLB_INVALIDATE || kind == SV_TLB_READ;
}

static void one_event(uint32_t number, const struct sv_event *event, struct thread *thread)
{
	bool counts_points = sc_setup.limit_hold_points >= 0;

	if (unlikely(counts_points) && event->kind != SV_UNLOCK)
		thread->points += is_point(event->kind);
	if (event->kind <= SV_ATOMIC) {
		sc_access(number, event, thread);
	} else if (event->kind < SV_API_BEGIN) {
		operation(number, event, thread);
	} else if (event->kind == SV_API_END) {
		is_over(number, event, thread);
	} else {
		sc_ground(number, event, thread);
		if (event->kind == SV_API_BEGIN)
			forget_visits(thread);
		else if (wants(SV_FLAG_RACE))
			sc_order(event, thread);
	}
	if (unlikely(counts_points) && event->kind == SV_UNLOCK)
		thread->points++;
}

/* Boot's accesses come before everything, so no race has one; what the books need of them is kept. */
static void learn_boot(void)
{
	uint32_t n = 0;

	for (n_boot_kept = 0; n < sc_n_events && !sc_events[n].task; n++) {
		const struct sv_event *event = sc_events + n;
		const struct object *object = event->kind == SV_OBJECT_ALLOC ? sc_object_at(event->a) : NULL;

		if (object)
			sc_words_fixed(object->start, object->size, object->where);
		if (object && object->kind != SV_STRUCT_ON_STACK)
			continue;
		if (event->kind <= SV_ATOMIC && !(sc_place_at(event->a)->role & SV_ROLES))
			continue;
		if (n_boot_kept == BOOT_KEPT)
			return;
		boot_kept[n_boot_kept++] = n;
	}
	n_boot = n;
}

static void pass(void)
{
	struct thread *thread = sc_thread(0);
	bool is_as_known = n_boot && n_boot < sc_n_events && !sc_events[n_boot - 1].task && sc_events[n_boot].task;
	bool counts_points = sc_setup.limit_hold_points >= 0;
	uint32_t first = is_as_known ? n_boot : 0;

	for (uint32_t n = 0; first && n < n_boot_kept; n++)
		one_event(boot_kept[n], sc_events + boot_kept[n], thread);
	for (uint32_t number = first, n = sc_n_events; number < n; number++) {
		const struct sv_event *event = sc_events + number;

		if (thread->task != event->task)
			thread = sc_thread(event->task);
		if (event->kind <= SV_ATOMIC && !counts_points)
			sc_access(number, event, thread);
		else
			one_event(number, event, thread);
	}
}

uint64_t sv_screen(void)
{
	uint64_t n;
	uint32_t n_tasks;

	if (!taken) /* nobody set it up */
		return SV_FLAG_TOO_LARGE;
	sc_events = sv_events(&n);
	sv_all_tasks(&n_tasks);
	sc_flags = 0;
	has_bug = false;
	n_taken = 0;
	sc_n_threads = sc_n_calls = 0;
	sc_n_events = (uint32_t)n;
	sc_width = (n_tasks + 1 + 3) & ~3u;
	if (sc_width > THREADS)
		sc_width = THREADS;
	sc_run++;
	if (n >= NOWHERE || !sc_races_begin())
		return SV_FLAG_TOO_LARGE;
	sc_layout_begin();
	sc_order_begin();
	sc_pages_begin();
	sc_blocks_begin();
	sc_locks_begin();
	pass();
	stopped();
	if (!n_boot && !(sc_flags & SV_FLAG_UNKNOWN))
		learn_boot();
	if (sc_setup.limits_double_count)
		flag(SV_FLAG_LIMIT);
	return sc_flags;
}
