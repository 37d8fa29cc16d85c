// SPDX-License-Identifier: GPL-2.0-only
/*
 * The books of vmap_blocks as their writes tell them (checks/accounting.py), and what a call read of a dirty range
 * without vmap_purge_lock before it flushed it (checks/range_computed_unlocked.py).
 */
#include <string.h>

#include "screen_state.h"

static struct block *blocks[BLOCKS];
static uint32_t n_blocks;

void sc_blocks_begin(void)
{
	n_blocks = 0;
}

struct block *sc_block_of(struct object *object)
{
	struct block *block = object->block;
	size_t visits = sc_width * sizeof(struct visit);

	if (block || object->kind != SV_STRUCT_BLOCK)
		return block;
	if (n_blocks == BLOCKS) {
		flag(SV_FLAG_TOO_LARGE);
		return NULL;
	}
	block = sc_take(sizeof(*block) + visits);
	if (!block)
		return NULL;
	*block = (struct block){ .object = object, .free = NO_VALUE, .dirty = NO_VALUE, .start = NO_VALUE,
				 .used = -1 };
	memset(block->visits, 0, visits);
	blocks[n_blocks++] = block;
	return object->block = block;
}

/* ---------------------------------------------------------------- visits */

/* What the call that the thread is in did to a block; made if it is to be. */
static struct visit *visit_of(struct block *block, const struct thread *thread, bool is_to_be)
{
	struct visit *visit = block->visits + thread->index;

	if (visit->stamp == thread->stamp)
		return visit;
	if (!is_to_be)
		return NULL;
	*visit = (struct visit){ .stamp = thread->stamp };
	return visit;
}

static void read_end(uint32_t number, int64_t value, struct thread *thread, struct block *block, bool is_min)
{
	struct visit *visit;

	if (!thread->depth)
		return;
	visit = visit_of(block, thread, true);
	if (is_min) {
		visit->min_at = number + 1;
		visit->min_value = value;
		visit->min_is_unlocked = !thread->n_purge_held;
	} else {
		visit->max_at = number + 1;
		visit->max_value = value;
		visit->max_is_unlocked = !thread->n_purge_held;
	}
}

/* A read that a widening write follows in the same hold of vb->lock updated the range, and did not collect it. */
static void wrote_end(int64_t value, struct thread *thread, struct block *block, bool is_min)
{
	struct visit *visit = thread->depth ? visit_of(block, thread, false) : NULL;

	if (!visit)
		return;
	if (is_min && visit->min_at > visit->last_lock && value <= visit->min_value)
		visit->min_at = 0;
	if (!is_min && visit->max_at > visit->last_lock && value >= visit->max_value)
		visit->max_at = 0;
}

void sc_block_locked(uint32_t number, struct thread *thread, struct lock *lock)
{
	struct block *block = thread->depth ? sc_block_of(lock->object) : NULL;

	if (block)
		visit_of(block, thread, true)->last_lock = number + 1;
}

void sc_range_flushed(const struct sv_event *event, struct thread *thread)
{
	for (uint32_t n = 0; thread->depth && n < n_blocks; n++) {
		const struct block *block = blocks[n];
		const struct visit *visit = block->visits + thread->index;
		int64_t start = block->start, first = (int64_t)event->a, end = (int64_t)event->c;

		if (visit->stamp != thread->stamp || start < 0 || !visit->min_at || !visit->max_at)
			continue;
		if (visit->min_value < visit->max_value && first <= start + visit->min_value &&
		    start + visit->max_value <= end && (visit->min_is_unlocked || visit->max_is_unlocked))
			flag(SV_FLAG_UNLOCKED_RANGE);
	}
}

/* ---------------------------------------------------------------- books */

/* The word is all of the map that an access tells; Python's journal has it whole. */
static void note_word(struct block *block, const struct sv_event *event, bool is_write)
{
	uint64_t word = (event->a - block->object->start - sc_setup.block_used_map) / 8;

	if (sc_setup.block_used_map == SV_ABSENT || word >= USED_WORDS) {
		flag(SV_FLAG_TOO_LARGE);
		return;
	}
	block->words[word] = event->c;
	if (!is_write)
		return;
	block->used = 0;
	for (int n = 0; n < USED_WORDS; n++)
		block->used += __builtin_popcountll(block->words[n]);
}

static void wrote_free(struct block *block, int64_t free)
{
	if (free < 0 || (block->free != NO_VALUE && free > block->free))
		flag(SV_FLAG_ACCOUNTING);
	block->free = free;
}

static void wrote_dirty(struct block *block, int64_t dirty)
{
	if (dirty > (int64_t)sc_setup.block_bits || (block->dirty != NO_VALUE && dirty < block->dirty))
		flag(SV_FLAG_ACCOUNTING);
	block->dirty = dirty;
}

static void wrote_va(struct block *block, uint64_t pointer)
{
	const struct object *area = sc_object_at(pointer);

	if (area && !area->is_dead)
		block->start = area->va_start;
}

void sc_block_read(uint32_t number, const struct sv_event *event, struct thread *thread, struct place *place)
{
	struct block *block = sc_block_of(place->object);
	uint8_t role = place->role & SV_ROLES;

	if (!block)
		return;
	if (role == SV_ROLE_DIRTY_MIN || role == SV_ROLE_DIRTY_MAX)
		read_end(number, (int64_t)event->c, thread, block, role == SV_ROLE_DIRTY_MIN);
	else if (role == SV_ROLE_USED_MAP)
		note_word(block, event, false);
}

void sc_block_write(const struct sv_event *event, struct thread *thread, struct place *place)
{
	struct block *block = sc_block_of(place->object);
	uint8_t role = place->role & SV_ROLES;
	int64_t value = (int64_t)event->c;

	if (role == SV_ROLE_VA_START && !place->object->is_dead)
		place->object->va_start = pages_of(event->c);
	if (!block || place->object->is_dead)
		return;
	if (role == SV_ROLE_FREE)
		wrote_free(block, value);
	else if (role == SV_ROLE_DIRTY)
		wrote_dirty(block, value);
	else if (role == SV_ROLE_DIRTY_MIN || role == SV_ROLE_DIRTY_MAX)
		wrote_end(value, thread, block, role == SV_ROLE_DIRTY_MIN);
	else if (role == SV_ROLE_USED_MAP)
		note_word(block, event, true);
	else if (role == SV_ROLE_VA)
		wrote_va(block, event->c);
}

/* Slots of the block that calls under way may have entered in one of the books only. */
static int64_t slots_under_way(int64_t start)
{
	int64_t all = 0;

	for (uint32_t n = 0; n < sc_n_threads; n++) {
		for (uint32_t depth = 0; depth < sc_threads[n].depth; depth++) {
			const struct call *call = sc_calls + sc_threads[n].calls[depth];
			int64_t page = (int64_t)call->page, slots = 1;

			if (call->entry == ENTRY_UNMAP && start >= 0 &&
			    (page < start || page >= start + (int64_t)sc_setup.block_bits))
				continue;
			if (call->entry != ENTRY_MAP && call->entry != ENTRY_UNMAP)
				continue;
			while (slots < (int64_t)call->pages && slots < INT32_MAX)
				slots *= 2;
			all += slots;
		}
	}
	return all;
}

void sc_block_unlocked(struct lock *lock)
{
	struct block *block = lock->object->block;
	int64_t missing;

	if (!block || lock->object->is_dead || block->used < 0 || block->free == NO_VALUE || block->dirty == NO_VALUE)
		return;
	if (block->dirty == (int64_t)sc_setup.block_bits) {
		flag(block->free ? SV_FLAG_ACCOUNTING : 0);
		return;
	}
	missing = (int64_t)sc_setup.block_bits - block->used - block->free - block->dirty;
	if (missing < 0)
		missing = -missing;
	if (missing && missing > slots_under_way(block->start))
		flag(SV_FLAG_ACCOUNTING);
}

/* A node that is on, or off, a free list by a list operation. */
void sc_list_changed(const struct sv_event *event)
{
	struct place *place = sc_place_at(event->a);
	struct block *block = place->role & SV_ROLE_FREE_LIST ? sc_block_of(place->object) : NULL;

	if (block)
		block->is_listed = event->kind == SV_LIST_ADD;
}
