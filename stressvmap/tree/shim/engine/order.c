// SPDX-License-Identifier: GPL-2.0-only
/*
 * The happens-before order of a run, as one number: executions, or beginnings of executions, that differ only in
 * the order of independent steps have the same number, and are in the same state.
 *
 * Each task has a chain, which digests what it did and, at each use of something shared, the chain of whoever
 * changed that last. Of two dependent uses the later one knows of the earlier, or, of a look and a change, the
 * look knows whether the change came first. What is used is read off the journal and the shim's notes (sv_note). No
 * address or value goes into a chain: which memory a task uses next follows from what it has seen. checks/
 * coverage.py does the same for a journal that is over.
 *
 * The order of two things also counts where the machine does not care and a check does: an unmapping that returned
 * before a vm_unmap_aliases began, an invalidation before a PTE is cleared, address space handed out.
 */
#include <string.h>

#include "internal.h"

#define TASK_IDS 4096
#define LOCATIONS ((size_t)1 << 16)
#define CONTENDED 16
#define THING_SHIFT 56

/* Things that only events name; those that notes name are in engine.h. */
enum { FRAMES = SV_THINGS, PTE, CLEARED, TLB, OWNER, INVALIDATED, RETURNED, FLUSHED, UNLISTED };

struct location {
	uint64_t key, changed;
	uint64_t run; /* it is empty in another */
};

struct invalidation {
	uint64_t first, last, chain;
};

bool sv_is_ordered;
static bool is_full;

static struct sv_area locations, invalidations;
static uint64_t run, location_count, invalidation_count;
static uint64_t chains[TASK_IDS];
static uint64_t sections[TASK_IDS]; /* the chain when the task last entered or left an RCU reader section, or may have */
static int32_t user;		    /* the task whose event is folded */
/* Sums over the invalidations, the returns of calls that unmap and that flush, and what came off a list, so far. */
static uint64_t invalidated, returned, flushed, unlisted;
/* Names of entry points. */
static uint32_t aliases, mapping[3], resetting[2];
static const struct sv_event *folded;

/* Locks that somebody looks at to see whether anybody waits; an address of the heap stands for all. */
static uint64_t contended[CONTENDED];
static uint32_t contended_count;
static bool is_every_lock_contended, is_news;

static uint64_t mix(uint64_t chain, uint64_t number)
{
	chain = (chain ^ chain >> 29) * UINT64_C(0xbf58476d1ce4e5b9) + number;
	chain = (chain ^ chain >> 32) * UINT64_C(0x94d049bb133111eb);
	return chain ^ chain >> 30;
}

bool sv_order_begin(void)
{
	if (!locations.start && !(sv_reserve(&locations, 0, LOCATIONS * sizeof(struct location)) &&
				  sv_commit(&locations, LOCATIONS * sizeof(struct location)) &&
				  sv_reserve(&invalidations, 0, (size_t)1 << 28) && sv_commit(&invalidations, 1)))
		return false;
	is_news = is_full = false;
	aliases = sv_string("vm_unmap_aliases");
	mapping[0] = sv_string("vm_map_ram");
	mapping[1] = sv_string("vmalloc");
	mapping[2] = resetting[0] = sv_string("vmalloc_reset");
	resetting[1] = sv_string("vfree_reset");
	return true;
}

void sv_order_reset(void)
{
	run++;
	location_count = invalidation_count = 0;
	invalidated = returned = flushed = unlisted = 0;
	for (uint64_t id = 0; id < TASK_IDS; id++)
		chains[id] = sections[id] = id;
	folded = sv_next_event;
}

/* ---------------------------------------------------------------- locations */

static uint64_t key_of(int thing, uint64_t which)
{
	return (uint64_t)thing << THING_SHIFT | (which & ((UINT64_C(1) << THING_SHIFT) - 1));
}

static struct location *location(uint64_t key)
{
	struct location *table = (struct location *)locations.start;
	uint64_t at = mix(0, key) & (LOCATIONS - 1);

	while (table[at].run == run && table[at].key != key && !is_full)
		at = (at + 1) & (LOCATIONS - 1);
	if (table[at].run != run) {
		is_full |= ++location_count > LOCATIONS / 2;
		table[at] = (struct location){ key, 0, run };
	}
	return &table[at];
}

static void share(uint64_t key, bool is_change)
{
	if (key >> THING_SHIFT == SV_MEMORY)
		sv_sharing_memory(key << 3, user, is_change);
	else
		sv_sharing_thing(key, user, is_change);
}

static uint64_t look(uint64_t chain, uint64_t key)
{
	share(key, false);
	return mix(chain, location(key)->changed);
}

static uint64_t change(uint64_t chain, uint64_t key)
{
	struct location *found = location(key);

	share(key, true);
	return found->changed = mix(chain, found->changed);
}

/* A sum that grows in an order that does not matter. */
static void add(uint64_t *sum, int thing, uint64_t chain)
{
	share(key_of(thing, 0), true);
	*sum += chain;
}

static uint64_t look_at_sum(uint64_t chain, int thing, uint64_t sum)
{
	share(key_of(thing, 0), false);
	return mix(chain, sum);
}

/* Memory is told apart by aligned words. */
static uint64_t use_memory(uint64_t chain, uint64_t address, uint64_t size, bool is_change)
{
	for (uint64_t word = address >> 3; word <= (address + size - 1) >> 3; word++)
		chain = is_change ? change(chain, key_of(SV_MEMORY, word)) : look(chain, key_of(SV_MEMORY, word));
	return chain;
}

/* ---------------------------------------------------------------- events */

static bool is_contended(uint64_t lock)
{
	for (uint32_t i = 0; i < contended_count; i++)
		if (sv_base() + contended[i] == lock)
			return true;
	return is_every_lock_contended;
}

static void contend(uint64_t lock)
{
	if (is_contended(lock))
		return;
	is_news = true;
	sv_order_contend(!lock || sv_is_on_heap(lock) ? 0 : lock - sv_base());
}

static uint64_t covering(uint64_t chain, uint64_t page)
{
	const struct invalidation *all = (const struct invalidation *)invalidations.start;
	uint64_t sum = 0;

	for (uint64_t i = 0; i < invalidation_count; i++)
		if (all[i].first <= page && page < all[i].last)
			sum += all[i].chain;
	return look_at_sum(chain, INVALIDATED, sum);
}

static uint64_t invalidate(uint64_t chain, uint64_t first, uint64_t last)
{
	struct invalidation *all = (struct invalidation *)invalidations.start;

	is_full |= !sv_commit(&invalidations, (invalidation_count + 1) * sizeof(*all));
	if (!is_full)
		all[invalidation_count++] = (struct invalidation){ first, last, chain };
	add(&invalidated, INVALIDATED, chain);
	return chain;
}

/* Whether the page has lost a translation in this run: only then does it matter whether it was invalidated. */
static bool was_cleared(uint64_t page)
{
	return location(key_of(CLEARED, page))->changed;
}

static uint64_t use_spaces(uint64_t chain, const struct sv_event *event)
{
	for (uint64_t page = event->a; page < event->c; page++) {
		chain = change(chain, key_of(SV_SPACE, page));
		if (event->kind == SV_SPACE_OUT && was_cleared(page))
			chain = covering(chain, page);
	}
	return chain;
}

static uint64_t use_pte(uint64_t chain, const struct sv_event *event)
{
	uint64_t page = event->a;

	chain = change(chain, key_of(PTE, page));
	if (event->kind == SV_PTE_CLEAR) {
		location(key_of(CLEARED, page))->changed = 1;
		chain = look(chain, key_of(SV_SPACE, page));
	}
	return was_cleared(page) ? covering(chain, page) : chain;
}

static uint64_t call(uint64_t chain, const struct sv_event *event)
{
	bool is_begin = event->kind == SV_API_BEGIN, is_flush = event->b == aliases;
	bool is_mapping = event->b == mapping[0] || event->b == mapping[1] || event->b == mapping[2];

	if (is_begin && is_flush) /* who has returned before it? */
		chain = look_at_sum(chain, RETURNED, returned);
	for (uint64_t page = event->a; event->a && page < event->a + event->c; page++) {
		chain = change(chain, key_of(OWNER, page));
		chain = look(chain, key_of(PTE, page));
	}
	if (is_begin)
		return chain;
	if (is_flush || event->b == resetting[0] || event->b == resetting[1]) {
		chain = look_at_sum(look_at_sum(chain, INVALIDATED, invalidated), UNLISTED, unlisted);
		add(&flushed, FLUSHED, chain);
	}
	if (!is_flush && !is_mapping)
		add(&returned, RETURNED, chain);
	return chain;
}

/* Nothing is independent of it, nor who waits for a lock and so keeps a CPU. */
static void fold_barrier(uint16_t task, uint64_t chain)
{
	uint64_t all = 0;

	sv_sharing_all();
	contend(0);
	chains[task] = chain;
	for (uint64_t id = 0; id < TASK_IDS; id++)
		all += mix(chains[id], id);
	for (uint64_t id = 0; id < TASK_IDS; id++)
		chains[id] = mix(chains[id], all);
}

static uint64_t note(uint64_t chain, int thing, uint64_t which, uint64_t use)
{
	struct location *found;

	if (thing == SV_READER) {
		share(key_of(SV_READER, which), false);
		return use == SV_FINDS ? mix(chain, sections[which % TASK_IDS]) : chain;
	}
	if (thing == SV_CPU) { /* nobody's state, but others cannot run before it is given back */
		share(key_of(SV_CPU, which), true);
		return chain;
	}
	if (thing == SV_WAITERS && use == SV_LOOKS)
		contend(which);
	if (thing == SV_WAITERS && !is_contended(which))
		return chain;
	if (thing == SV_MEMORY)
		return use_memory(chain, which, 1, use == SV_CHANGES);
	if (use == SV_LOOKS)
		return look(chain, key_of(thing, which));
	if (use == SV_CHANGES)
		return change(chain, key_of(thing, which));
	found = location(key_of(thing, which));
	share(key_of(thing, which), true);
	found->changed += chain;
	return chain;
}

/* The task enters or leaves a reader section, or may do so. */
static uint64_t bound_section(uint64_t chain)
{
	share(key_of(SV_READER, (uint64_t)user), true);
	return sections[user] = chain;
}

static bool is_of_interrupt(int32_t id)
{
	return id >= 1000 && id < 2000;
}

static void fold(const struct sv_event *event)
{
	uint64_t chain = mix(chains[event->task], event->kind), a = event->a;

	user = event->task;
	sv_sharing_presence(key_of(SV_CPU, is_of_interrupt(user) ? event->cpu | SV_IRQS_OFF : event->cpu), user);
	switch (event->kind) {
	case SV_NOTE:
		if (event->b >> 8 == SV_EVERYTHING) {
			fold_barrier(event->task, chain);
			return;
		}
		chain = note(chains[event->task], (int)event->b >> 8, a, event->b & 0xff);
		break;
	case SV_READ:
	case SV_READ_ONCE:
		chain = use_memory(chain, a, event->b ? event->b : 1, false);
		break;
	case SV_WRITE:
	case SV_WRITE_ONCE:
		chain = use_memory(chain, a, event->b ? event->b : 1, true);
		break;
	case SV_TRYLOCK_FAILED:
	case SV_KFREE_RCU:
	case SV_DEAD_ACCESS:
	case SV_UNINITIALISED:
		chain = use_memory(chain, a, 1, false);
		break;
	case SV_ATOMIC:
		chain = use_memory(chain, a, 1, true);
		break;
	case SV_LOCK:
	case SV_UNLOCK:
		chain = bound_section(use_memory(chain, a, 1, true));
		break;
	case SV_RCU_READ_LOCK:
	case SV_RCU_READ_UNLOCK:
	case SV_PREEMPT:
	case SV_FLUSH_BEGIN:
		chain = bound_section(chain);
		break;
	case SV_LOCK_WAIT:
		if (!is_contended(a))
			return;
		chain = change(chain, key_of(SV_WAITERS, a));
		break;
	case SV_OBJECT_FREE:
		chain = use_memory(chain, a, sv_size_at(a), true);
		break;
	case SV_FRAME_OWNER:
		chain = change(chain, key_of(FRAMES, 0));
		break;
	case SV_SLOT_PUT:
	case SV_SLOT_TAKE:
		chain = change(chain, key_of(SV_SLOT, a));
		break;
	case SV_IPI_SEND:
		chain = change(chain, key_of(SV_REQUESTS, event->c));
		break;
	case SV_FLUSH_END:
		chain = bound_section(look(chain, key_of(SV_ANSWERS, event->task)));
		break;
	case SV_PTE_SET:
	case SV_PTE_CLEAR:
	case SV_PTE_BUSY:
		chain = use_pte(chain, event);
		break;
	case SV_TLB_READ:
		chain = look(look(chain, key_of(FRAMES, 0)), key_of(SV_SPACE, a));
		chain = look_at_sum(chain, FLUSHED, flushed);
		/* fallthrough */
	case SV_TLB_FILL:
		chain = covering(look(change(chain, key_of(TLB, a << 8 | event->cpu)), key_of(PTE, a)), a);
		break;
	case SV_TLB_INVALIDATE:
		chain = bound_section(invalidate(chain, a, event->c));
		break;
	case SV_SPACE_OUT:
	case SV_SPACE_BACK:
		chain = use_spaces(chain, event);
		break;
	case SV_LIST_DEL:
		add(&unlisted, UNLISTED, chain);
		break;
	case SV_API_BEGIN:
	case SV_API_END:
		chain = call(chain, event);
		break;
	case SV_MIGRATED:
	case SV_CPU_OFFLINE:
	case SV_CPU_ONLINE:
		fold_barrier(event->task, chain);
		return;
	default: /* nobody else's business */
		break;
	}
	chains[event->task] = chain;
}

void sv_order_fold(void)
{
	while (folded < sv_next_event)
		fold(folded++);
}

bool sv_order_has_news(void)
{
	return is_news;
}

bool sv_order_is_full(void)
{
	return is_full;
}

uint32_t sv_order_contended(const uint64_t **locks)
{
	static const uint64_t every[1];

	*locks = is_every_lock_contended ? every : contended;
	return is_every_lock_contended ? 1 : contended_count;
}

void sv_order_forget(void)
{
	contended_count = 0;
	is_every_lock_contended = false;
}

void sv_order_contend(uint64_t lock)
{
	if (!lock || contended_count == CONTENDED)
		is_every_lock_contended = true;
	else if (!is_contended(sv_base() + lock))
		contended[contended_count++] = lock;
}

/*
 * How far each task came and in which order: its points tell of steps that used nothing. With `occupancy` also who waits
 * and who keeps a CPU: a task that stands before a lock which is owned and one that waits for it differ in no more.
 */
uint64_t sv_order_state(bool with_occupancy)
{
	uint64_t state = 0;

	sv_order_fold();
	for (int32_t i = 0; i < sv_task_count; i++) {
		const struct sv_task *task = sv_tasks[i];
		uint64_t one = mix(mix(chains[task->id], task->points), (uint64_t)task->id);

		if (with_occupancy)
			one = mix(one, (uint64_t)(task->preempt_count << 2 | task->is_parked << 1 | task->is_pinned));
		state += one;
	}
	return mix(state, 0);
}

void sv_note_use(enum sv_thing thing, uint64_t which, enum sv_use use)
{
	sv_append(sv_current, SV_NOTE, 0, which, (uint32_t)thing << 8 | use, 0);
}
