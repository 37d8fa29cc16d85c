// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which steps concern one task alone, so that a search need not try anything else where a task is about to take one:
 * whatever the others do first, they neither see it nor disturb it (a persistent set of one: Godefroid, LNCS 1032).
 *
 * That is learned. A step counts as private until it is seen to use a place that another task uses too, one of them
 * changing it. When that turns out of a step that was taken for private, all that was explored is void and the search
 * begins again, knowing it; what is learned only grows, so that ends. When it ends, no step that was taken for private
 * has used what any execution shares. A place is named so that it is the same in each execution: memory by the object,
 * known by who allocated it as the how manieth.
 */
#include <string.h>

#include "internal.h"

#define PLACES ((size_t)1 << 16)
#define STEPS ((size_t)1 << 14)

enum place_flag { MULTIPLE = 1, CHANGED = 2, SHARED = MULTIPLE | CHANGED, USED_PRIVATELY = 4 };

/* What is learned leaves as numbers: KIND_SHIFT says of what, the rest is the name. */
#define KIND_SHIFT 62
enum fact { FACT_PLACE, FACT_STEP, FACT_LOCK, FACT_ALL };
#define FLAGS_SHIFT 59
#define USER_SHIFT 47
#define NAME_MASK ((UINT64_C(1) << USER_SHIFT) - 1)

struct place {
	uint64_t name; /* 0: none */
	uint16_t user; /* the first */
	uint16_t flags;
};

static struct sv_area place_area, step_area, fact_area;
static size_t place_count, step_count;
static bool is_watching, is_step_private, is_everything_shared, is_news;
static uint64_t step_at_hand;

static uint64_t name_of(uint64_t number)
{
	uint64_t name = number;

	return (sv_mix(&name) & NAME_MASK) | 1;
}

bool sv_sharing_begin(void)
{
	is_news = is_watching = is_step_private = false;
	return place_area.start ||
	       (sv_reserve(&place_area, 0, PLACES * sizeof(struct place)) &&
		sv_commit(&place_area, PLACES * sizeof(struct place)) &&
		sv_reserve(&step_area, 0, STEPS * sizeof(uint64_t)) && sv_commit(&step_area, STEPS * sizeof(uint64_t)) &&
		sv_reserve(&fact_area, 0, (PLACES + STEPS + 64) * sizeof(uint64_t)) &&
		sv_commit(&fact_area, (PLACES + STEPS + 64) * sizeof(uint64_t)));
}

bool sv_sharing_has_news(void)
{
	return is_news;
}

static void share_everything(void)
{
	is_news |= !is_everything_shared;
	is_everything_shared = true;
}

/* ---------------------------------------------------------------- tables */

static struct place *place_named(uint64_t name)
{
	struct place *table = (struct place *)place_area.start;
	size_t at = name & (PLACES - 1);

	while (table[at].name && table[at].name != name)
		at = (at + 1) & (PLACES - 1);
	return &table[at];
}

static uint64_t *step_named(uint64_t name)
{
	uint64_t *table = (uint64_t *)step_area.start;
	size_t at = name & (STEPS - 1);

	while (table[at] && table[at] != name)
		at = (at + 1) & (STEPS - 1);
	return &table[at];
}

static void learn_step(uint64_t name)
{
	uint64_t *step = step_named(name);

	if (*step)
		return;
	if (++step_count > STEPS / 2)
		share_everything();
	else
		*step = name;
}

/* ---------------------------------------------------------------- names */

/* The same in every execution and process; 0: there is no such name. */
static uint64_t name_of_memory(uint64_t address)
{
	const struct sv_task *task;
	uint64_t place = address - sv_base();

	if (place < SV_LIBRARY_MOST)
		return name_of(place);
	if (sv_is_on_heap(address))
		return name_of(UINT64_C(1) << 62 | sv_name_at(address));
	task = sv_owner_of_stack(address);
	return task ? name_of(UINT64_C(2) << 62 | (uint64_t)task->id << 32 | ((uint64_t)task->stack_high - address)) : 0;
}

static uint64_t name_of_step(const struct sv_task *task)
{
	uint64_t pending = task->is_started ? (uint64_t)task->pending_kind << 32 | task->pc : (uint64_t)task->id;
	uint64_t object = task->is_started ? task->pending_object : 0;

	if (object && object >> 63 == 0)
		object = name_of_memory(object & ~UINT64_C(7));
	return name_of(name_of(pending) + object);
}

/* ---------------------------------------------------------------- what a search asks and tells */

bool sv_is_step_private(const struct sv_task *task)
{
	uint64_t object = task->pending_object, name;

	if (is_everything_shared || *step_named(name_of_step(task)))
		return false;
	if (!task->is_started || !object || object >> 63)
		return true;
	name = name_of_memory(object & ~UINT64_C(7));
	return name && (place_named(name)->flags & SHARED) != SHARED;
}

void sv_sharing_step(const struct sv_task *task, bool is_private)
{
	is_watching = true;
	is_step_private = is_private;
	if (is_private)
		step_at_hand = name_of_step(task);
}

void sv_sharing_pause(void)
{
	is_watching = is_step_private = false;
}

static void use(uint64_t name, int task, bool is_change)
{
	struct place *place;
	bool was_shared, is_shared;

	if (!name) { /* of memory that has none nothing is known */
		if (is_step_private) {
			learn_step(step_at_hand);
			is_news = true;
		}
		return;
	}
	place = place_named(name);
	if (!place->name) {
		if (++place_count > PLACES / 2) {
			share_everything();
			return;
		}
		*place = (struct place){ name, (uint16_t)task, 0 };
	}
	was_shared = (place->flags & SHARED) == SHARED;
	if (place->user != task)
		place->flags |= MULTIPLE;
	if (is_change)
		place->flags |= CHANGED;
	is_shared = (place->flags & SHARED) == SHARED;
	if (is_step_private && is_shared) {
		learn_step(step_at_hand);
		is_news = true;
	} else if (is_step_private) {
		place->flags |= USED_PRIVATELY;
	} else if (is_shared && !was_shared && place->flags & USED_PRIVATELY) {
		is_news = true;
	}
}

void sv_sharing_memory(uint64_t address, int task, bool is_change)
{
	if (is_watching)
		use(name_of_memory(address), task, is_change);
}

void sv_sharing_thing(uint64_t key, int task, bool is_change)
{
	if (is_watching)
		use(name_of(UINT64_C(3) << 62 | key), task, is_change);
}

void sv_sharing_presence(uint64_t key, int task)
{
	bool was_private = is_step_private;

	is_step_private = false; /* that it is there is no use of the step's */
	sv_sharing_thing(key, task, false);
	is_step_private = was_private;
}

void sv_sharing_all(void)
{
	if (is_watching)
		share_everything();
}

/* ---------------------------------------------------------------- what is learned, to be kept */

const uint64_t *sv_search_learned(uint64_t *n)
{
	const struct place *places = (const struct place *)place_area.start;
	const uint64_t *steps = (const uint64_t *)step_area.start;
	uint64_t *facts = (uint64_t *)fact_area.start, count = 0;
	const uint64_t *locks;
	uint32_t n_locks = sv_order_contended(&locks);

	for (uint32_t i = 0; i < n_locks; i++)
		facts[count++] = (uint64_t)FACT_LOCK << KIND_SHIFT | locks[i];
	if (is_everything_shared)
		facts[count++] = (uint64_t)FACT_ALL << KIND_SHIFT;
	for (size_t i = 0; i < PLACES; i++)
		if (places[i].name)
			facts[count++] = (uint64_t)FACT_PLACE << KIND_SHIFT | (uint64_t)places[i].flags << FLAGS_SHIFT |
					 (uint64_t)places[i].user << USER_SHIFT | places[i].name;
	for (size_t i = 0; i < STEPS; i++)
		if (steps[i])
			facts[count++] = (uint64_t)FACT_STEP << KIND_SHIFT | steps[i];
	*n = count;
	return facts;
}

void sv_search_learn(const uint64_t *facts, uint64_t n)
{
	if (place_area.start || sv_sharing_begin()) {
		memset(place_area.start, 0, PLACES * sizeof(struct place));
		memset(step_area.start, 0, STEPS * sizeof(uint64_t));
	}
	place_count = step_count = 0;
	is_everything_shared = false;
	sv_order_forget();
	for (uint64_t i = 0; i < n; i++) {
		uint64_t name = facts[i] & NAME_MASK;
		struct place *place;

		switch (facts[i] >> KIND_SHIFT) {
		case FACT_LOCK:
			sv_order_contend(facts[i] & (UINT64_MAX >> 2));
			break;
		case FACT_ALL:
			share_everything();
			break;
		case FACT_STEP:
			learn_step(name);
			break;
		default:
			place = place_named(name);
			place_count += !place->name;
			*place = (struct place){ name, facts[i] >> USER_SHIFT & 0xfff, facts[i] >> FLAGS_SHIFT & 7 };
		}
	}
	is_news = false;
}
