// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which step of one task must come before which step of another: vector clocks over the binary journal, edge by edge as
 * checks/happens_before.py has them (there is the argument for each).
 *
 * A clock that was handed over is never changed, so it is one block of memory that anybody may point to. An edge that
 * Python has and this has not would only make it flag more; it has none that Python has not.
 */
#include <string.h>

#include "screen_state.h"

#define BY_TRYLOCK 2
#define POINTS 8192
#define PERIODS 4096

enum point { POINT_SLOT = 1, POINT_WORK, POINT_FLUSH, POINT_HOTPLUG };

struct ipi { struct ipi *next; uint64_t flush; int32_t *clock; };
struct period { uint64_t key; uint64_t readers; int32_t *clock; bool is_over; };

static struct { uint64_t key; uint32_t run; int32_t *clock; } points[POINTS]; /* hand-overs that belong to no object */
static uint32_t n_points;
static struct period periods[PERIODS]; /* grace periods, the oldest first */
static uint32_t n_periods, first_period;
static struct { uint32_t run; struct ipi *first, **last; } interrupts[SV_CPUS];
static int32_t *readers_gone; /* the ends of all reader sections so far, joined */
static uint64_t readers;      /* tasks in one, a bit each */
static uint64_t mutexes;      /* lock classes seen to be taken by mutex_lock or mutex_trylock */
static uint32_t string_on_cleanup, string_get_cpu, string_mutex_lock;
static int32_t *scratch;      /* a clock that nobody keeps, for when memory has run out */

bool sc_order_reset(void)
{
	string_on_cleanup = sv_string("cleanup");
	string_get_cpu = sv_string("get_cpu");
	string_mutex_lock = sv_string("mutex_lock");
	if (!scratch)
		scratch = sc_map_zeroed(THREADS * sizeof(*scratch));
	return scratch;
}

void sc_order_begin(void)
{
	n_points = n_periods = first_period = 0;
	readers = mutexes = 0;
	readers_gone = NULL;
}

/* ---------------------------------------------------------------- clocks */

static int32_t *new_clock(const int32_t *from)
{
	size_t bytes = sc_width * sizeof(*from);
	int32_t *clock = sc_take(bytes);

	if (!clock)
		clock = scratch;
	return from ? memcpy(clock, from, bytes) : memset(clock, 0, bytes);
}

/* What the thread did so far, to be handed over; what it does from here on is not part of it. */
static int32_t *release(struct thread *thread)
{
	int32_t *clock = new_clock(thread->clock);

	thread->clock[thread->index]++;
	return clock;
}

static void join(int32_t *into, const int32_t *clock)
{
	for (uint32_t n = 0; n < sc_width; n++)
		into[n] = clock[n] > into[n] ? clock[n] : into[n];
}

static void acquire(struct thread *thread, const int32_t *clock)
{
	if (clock)
		join(thread->clock, clock);
}

static void come_after_all(struct thread *thread)
{
	for (uint32_t n = 0; n < sc_n_threads; n++)
		if (sc_threads + n != thread)
			acquire(thread, release(sc_threads + n));
}

void sc_order_thread(struct thread *thread)
{
	thread->clock = sc_n_threads > 1 ? release(sc_threads) : new_clock(NULL);
	thread->clock[thread->index] = 1;
	if (thread->task && sc_name_of(thread->task) == string_on_cleanup)
		come_after_all(thread);
}

/* ---------------------------------------------------------------- points */

static int32_t **point_of(enum point kind, uint64_t number)
{
	uint64_t key = number << 3 | kind;
	uint32_t at = (uint32_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 51) % POINTS;

	for (; points[at].run == sc_run; at = (at + 1) % POINTS)
		if (points[at].key == key)
			return &points[at].clock;
	if (n_points == POINTS / 2) {
		flag(SV_FLAG_TOO_LARGE);
		return &points[at].clock;
	}
	n_points++;
	points[at].run = sc_run;
	points[at].key = key;
	points[at].clock = NULL;
	return &points[at].clock;
}

/* Release to a point that several may release to before it is acquired. */
static void hand_over(enum point kind, uint64_t number, struct thread *thread)
{
	int32_t **point = point_of(kind, number), *clock = release(thread);

	if (*point)
		join(clock, *point);
	*point = clock;
}

static void take(enum point kind, uint64_t number, struct thread *thread)
{
	int32_t **point = point_of(kind, number);

	acquire(thread, *point);
	*point = NULL;
}

/* ---------------------------------------------------------------- RCU */

/* The end of a section comes before that of each grace period that began meanwhile, and of those that begin later. */
static void leave_section(struct thread *thread)
{
	uint64_t bit = UINT64_C(1) << thread->index;
	const int32_t *clock = release(thread);

	if (!readers_gone)
		readers_gone = new_clock(NULL);
	join(readers_gone, clock);
	for (uint32_t n = first_period; n < n_periods; n++) {
		if (periods[n].readers & bit && !periods[n].is_over) {
			periods[n].readers &= ~bit;
			join(periods[n].clock, clock);
		}
	}
}

static void enter_or_leave(struct thread *thread)
{
	bool is_reader = thread->reader_depth > 0 || thread->preempt_depth > 0 || thread->classes & ~mutexes;

	if (is_reader == thread->is_reader)
		return;
	thread->is_reader = is_reader;
	readers ^= UINT64_C(1) << thread->index;
	if (!is_reader)
		leave_section(thread);
}

static void wait_for_readers(uint64_t key, struct thread *thread)
{
	int32_t *clock = release(thread);

	if (n_periods == PERIODS) {
		flag(SV_FLAG_TOO_LARGE);
		return;
	}
	if (readers_gone)
		join(clock, readers_gone);
	periods[n_periods++] = (struct period){ key, readers, clock, false };
}

/* The thread does what waited for the oldest grace period of `key`. */
static void readers_are_out(uint64_t key, struct thread *thread)
{
	for (uint32_t n = first_period; n < n_periods; n++) {
		if (periods[n].key != key || periods[n].is_over)
			continue;
		periods[n].is_over = true;
		acquire(thread, periods[n].clock);
		break;
	}
	while (first_period < n_periods && periods[first_period].is_over)
		first_period++;
}

/* ---------------------------------------------------------------- locks and atomics */

/* Does the thread come after what `last` handed over? Then after all that this came after, too. */
static bool is_after(const struct thread *thread, uint32_t last, const int32_t *clock)
{
	return !clock || thread->clock[last] >= clock[last];
}

void sc_order_locked(const struct sv_event *event, struct thread *thread, struct lock *lock)
{
	if (thread->has_slept || event->c == BY_TRYLOCK) {
		mutexes |= UINT64_C(1) << lock->class;
		thread->has_slept = false;
	}
	enter_or_leave(thread);
	if (lock->places == lock->object->places && !is_after(thread, lock->last, lock->clock))
		acquire(thread, lock->clock);
}

void sc_order_unlocked(struct thread *thread, struct lock *lock)
{
	lock->clock = release(thread);
	lock->last = thread->index;
	lock->places = lock->object->places;
	enter_or_leave(thread);
}

void sc_order_before_atomic(struct thread *thread, const struct place *place)
{
	if (!is_after(thread, place->last, place->clock))
		acquire(thread, place->clock);
}

void sc_order_after_atomic(struct thread *thread, struct place *place)
{
	place->clock = release(thread);
	place->last = thread->index;
}

/* ---------------------------------------------------------------- publication */

/* The thread's next store there publishes what it did so far. */
void sc_order_released(struct thread *thread, struct place *place)
{
	place->released = release(thread);
	place->releaser = thread->index;
}

/* Any store: the one that was announced, or one that publishes nothing. */
void sc_order_overwritten(const struct thread *thread, struct place *place)
{
	if (!place->released)
		return;
	if (place->releaser == thread->index)
		place->releaser = NOWHERE;
	else
		place->released = NULL;
}

/* A marked load of a list's pointer may find an object that was put on a list. */
void sc_order_next_loaded(const struct sv_event *event, struct thread *thread)
{
	const struct word *word = sc_word_at(event->c);
	const struct object *found;

	if (word && (word->run != sc_run || !(word->bits & WORD_IS_LISTED)))
		return;
	found = sc_object_at(event->c);
	if (found)
		acquire(thread, found->listed);
}

/* One of any place may find what a release published. */
void sc_order_loaded(const struct sv_event *event, struct thread *thread, const struct place *place)
{
	if (place->releaser == NOWHERE)
		acquire(thread, place->released);
	if (place->role & SV_ROLE_NEXT)
		sc_order_next_loaded(event, thread);
}

/* A marked store of a pointer to an object that is on no list yet publishes it; an empty list points to itself. */
void sc_order_next_stored(const struct sv_event *event, struct thread *thread)
{
	struct object *found = event->c == event->a ? NULL : sc_object_at(event->c);

	if (!found || found == sc_object_at(event->a) || found->times_listed)
		return;
	if (!found->listed)
		sc_words_listed(found, event->c);
	found->listed = release(thread);
}

void sc_order_stored(const struct sv_event *event, struct thread *thread, struct place *place)
{
	sc_order_overwritten(thread, place);
	if (place->role & SV_ROLE_NEXT)
		sc_order_next_stored(event, thread);
}

static void list_changed(const struct sv_event *event)
{
	struct object *node = sc_object_at(event->a);

	if (!node)
		return;
	if (event->kind == SV_LIST_ADD)
		node->times_listed++;
	else if (node->times_listed)
		node->times_listed--;
}

static void index_changed(const struct sv_event *event, struct thread *thread)
{
	struct object *xarray = sc_object_at(event->a), *found = sc_object_at(event->c);

	if (xarray) {
		acquire(thread, xarray->under_xa_lock);
		xarray->under_xa_lock = release(thread);
	}
	if (event->kind == SV_XA_STORE && found)
		found->indexed = release(thread);
}

/* ---------------------------------------------------------------- flushes and CPUs */

static void ipi_sent(const struct sv_event *event, struct thread *thread)
{
	uint32_t cpu = event->c % SV_CPUS;
	struct ipi *ipi = sc_take(sizeof(*ipi));

	if (!ipi)
		return;
	*ipi = (struct ipi){ NULL, event->a, release(thread) };
	if (interrupts[cpu].run != sc_run || !interrupts[cpu].first) {
		interrupts[cpu].run = sc_run;
		interrupts[cpu].last = &interrupts[cpu].first;
	}
	*interrupts[cpu].last = ipi;
	interrupts[cpu].last = &ipi->next;
}

/* By the initiator itself, on its own CPU, or by an interrupt, which handles its requests in order. */
static void invalidated(const struct sv_event *event, struct thread *thread)
{
	uint32_t cpu = event->cpu % SV_CPUS;
	struct ipi *ipi = interrupts[cpu].run == sc_run ? interrupts[cpu].first : NULL;

	if (!ipi || thread->n_flushes)
		return;
	interrupts[cpu].first = ipi->next;
	acquire(thread, ipi->clock);
	hand_over(POINT_FLUSH, ipi->flush, thread);
}

static void cpu_left(const struct sv_event *event)
{
	int32_t *everything = new_clock(NULL);

	interrupts[event->a % SV_CPUS].run = 0;
	for (uint32_t n = 0; n < sc_n_threads; n++)
		join(everything, release(sc_threads + n));
	for (uint32_t n = 0; n < sc_n_threads; n++)
		acquire(sc_threads + n, everything);
}

/* ---------------------------------------------------------------- objects */

static void forget(struct object *object, bool is_dead)
{
	object->places++;
	object->indexed = object->listed = NULL;
	object->times_listed = 0;
	sc_words_forget(object, is_dead);
}

/* What lay on its stack is gone. */
void sc_leave_stack(struct thread *thread)
{
	while (thread->n_stack)
		forget(thread->stack[--thread->n_stack], false);
}

/* A grace period's key: the object that waits for it, or the number of a wait. */
static uint64_t key_of(const struct sv_event *event)
{
	const struct object *object = event->kind == SV_KFREE_RCU || event->kind == SV_OBJECT_FREE ?
					      sc_object_at(event->a) :
					      NULL;

	return object ? object->start : ~event->a;
}

static void freed(const struct sv_event *event, struct thread *thread)
{
	struct object *object = sc_object_at(event->a);

	readers_are_out(key_of(event), thread);
	if (object)
		forget(object, true);
}

/* ---------------------------------------------------------------- events */

static void in_sections(const struct sv_event *event, struct thread *thread)
{
	if (event->kind == SV_RCU_READ_LOCK)
		thread->reader_depth++;
	else if (event->kind == SV_RCU_READ_UNLOCK)
		thread->reader_depth -= thread->reader_depth > 0;
	else if (event->b == string_get_cpu)
		thread->preempt_depth++;
	else
		thread->preempt_depth -= thread->preempt_depth > 0;
	enter_or_leave(thread);
}

static void other_events(const struct sv_event *event, struct thread *thread)
{
	switch (event->kind) {
	case SV_SLOT_PUT:
		hand_over(POINT_SLOT, event->a, thread);
		break;
	case SV_SLOT_TAKE:
		take(POINT_SLOT, event->a, thread);
		break;
	case SV_WORK_QUEUE:
		hand_over(POINT_WORK, event->b, thread);
		break;
	case SV_WORK_BEGIN:
		take(POINT_WORK, event->b, thread);
		break;
	case SV_WORK_END:
		hand_over(POINT_WORK, event->b, thread);
		sc_leave_stack(thread);
		break;
	case SV_WORK_FLUSHED:
		acquire(thread, *point_of(POINT_WORK, event->b));
		break;
	case SV_CPU_OFFLINE:
		cpu_left(event);
		break;
	case SV_CPU_ONLINE:
		take(POINT_HOTPLUG, 0, thread);
		hand_over(POINT_HOTPLUG, 0, thread);
		break;
	case SV_KFREE_RCU:
	case SV_RCU_WAIT:
		wait_for_readers(key_of(event), thread);
		break;
	case SV_RCU_WAIT_OVER:
		readers_are_out(key_of(event), thread);
		break;
	case SV_OBJECT_FREE:
		freed(event, thread);
		break;
	default:
		break;
	}
}

void sc_order(const struct sv_event *event, struct thread *thread)
{
	const struct object *found;

	switch (event->kind) {
	case SV_RCU_READ_LOCK:
	case SV_RCU_READ_UNLOCK:
	case SV_PREEMPT:
		in_sections(event, thread);
		break;
	case SV_MIGHT_SLEEP:
		thread->has_slept = event->b == string_mutex_lock;
		break;
	case SV_LIST_ADD:
	case SV_LIST_DEL:
		list_changed(event);
		break;
	case SV_XA_STORE:
	case SV_XA_ERASE:
		index_changed(event, thread);
		break;
	case SV_XA_LOAD:
		found = sc_object_at(event->c);
		acquire(thread, found ? found->indexed : NULL);
		break;
	case SV_IPI_SEND:
		ipi_sent(event, thread);
		break;
	case SV_TLB_INVALIDATE:
		invalidated(event, thread);
		break;
	case SV_FLUSH_END:
		take(POINT_FLUSH, event->b, thread);
		break;
	default:
		other_events(event, thread);
		break;
	}
}
