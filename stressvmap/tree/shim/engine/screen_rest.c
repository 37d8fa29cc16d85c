// SPDX-License-Identifier: GPL-2.0-only
/*
 * The memory at rest, read as tree/audit.py reads it, and what accounting, leak and list-corruption say of it. A
 * pointer is followed only if it leads into an object; what a tree does not have is not there to be read.
 */
#include "screen_state.h"

#define AREAS 65536
#define WALK_MAX 65536
#define WAITING 4096

struct area { int64_t start, end; uint64_t at; uint32_t tree; };

static struct area areas[AREAS];
static uint32_t n_areas;
static uint64_t waiting[WAITING]; /* of a walk */
static uint32_t n_waiting;

static uint64_t word_at(uint64_t address)
{
	return *(const volatile uint64_t *)(uintptr_t)address;
}

static uint64_t field_of(const struct object *object, uint32_t offset)
{
	return offset == SV_ABSENT ? 0 : word_at(object->start + offset);
}

static void wait_for(uint64_t address)
{
	if (!address)
		return;
	if (n_waiting == WAITING)
		flag(SV_FLAG_TOO_LARGE);
	else
		waiting[n_waiting++] = address;
}

/* ---------------------------------------------------------------- lists and indexes of blocks */

static void reached(struct object *object)
{
	struct block *block = object->kind == SV_STRUCT_BLOCK ? sc_block_of(object) : NULL;

	if (block && block->is_reached)
		flag(SV_FLAG_LIST); /* on two lists */
	if (block)
		block->is_reached = true;
}

static void walk_queue(uint64_t head)
{
	uint64_t previous = head, node = word_at(head);
	struct object *owner;

	for (uint32_t n = 0; n < WALK_MAX && node != head && (owner = sc_object_at(node)); n++) {
		reached(owner);
		if (word_at(node + 8) != previous)
			flag(SV_FLAG_LIST);
		previous = node;
		node = word_at(node);
	}
	if (node != head || word_at(head + 8) != previous)
		flag(SV_FLAG_LIST);
}

static void indexed(uint64_t entry)
{
	struct object *object = sc_object_at(entry);
	struct block *block = object && object->start == entry ? sc_block_of(object) : NULL;

	if (block)
		block->is_indexed = true;
}

/* lib/xarray.c: an entry whose low bits are 2 is a node; small numbers mean something else. */
static void walk_xarray(uint64_t xarray)
{
	n_waiting = 0;
	if (sc_setup.xa_head == SV_ABSENT || sc_setup.xa_slots == SV_ABSENT)
		return;
	wait_for(word_at(xarray + sc_setup.xa_head));
	while (n_waiting) {
		uint64_t entry = waiting[--n_waiting];

		if ((entry & 3) == 2 && entry > 4096) {
			if (!sc_object_at(entry - 2)) {
				flag(SV_FLAG_STRAY);
				continue;
			}
			for (uint32_t n = 0; n < sc_setup.xa_slot_count; n++)
				wait_for(word_at(entry - 2 + sc_setup.xa_slots + 8 * n));
		} else if (!(entry & 3)) {
			indexed(entry);
		}
	}
}

/* ---------------------------------------------------------------- areas */

static void add_area(const struct object *object, uint32_t tree)
{
	int64_t start = pages_of(field_of(object, sc_setup.area_start));
	int64_t end = pages_of(field_of(object, sc_setup.area_end));
	uint32_t at = n_areas;

	if (n_areas == AREAS) {
		flag(SV_FLAG_TOO_LARGE);
		return;
	}
	for (; at && (areas[at - 1].start > start || (areas[at - 1].start == start && areas[at - 1].end > end)); at--)
		areas[at] = areas[at - 1];
	areas[at] = (struct area){ start, end, object->start, tree };
	n_areas++;
}

static void walk_tree(uint64_t root, uint32_t tree)
{
	n_waiting = 0;
	wait_for(word_at(root));
	for (uint32_t seen = 0; n_waiting && seen < WALK_MAX;) {
		uint64_t node = waiting[--n_waiting];
		const struct object *area = sc_object_at(node);

		if (!area)
			continue;
		seen++;
		add_area(area, tree);
		wait_for(word_at(node + sc_setup.rb_left));
		wait_for(word_at(node + sc_setup.rb_right));
	}
}

static void walk_pool(const struct sv_screen_root *pool)
{
	uint64_t node = word_at(pool->address), previous = pool->address, n_there = 0;
	const struct object *area;

	for (; n_there < WALK_MAX && node != pool->address && (area = sc_object_at(node)); n_there++) {
		add_area(area, SV_TREE_POOL);
		if (word_at(node + 8) != previous)
			flag(SV_FLAG_LIST);
		previous = node;
		node = word_at(node);
	}
	if (word_at(pool->address + 8) != previous)
		flag(SV_FLAG_LIST);
	if (pool->count && word_at(pool->count) != n_there)
		flag(SV_FLAG_ACCOUNTING);
}

static void gather_areas(void)
{
	n_areas = 0;
	for (uint32_t n = 0; n < sc_setup.n_roots; n++) {
		if (sc_setup.roots[n].tree == SV_TREE_POOL)
			walk_pool(sc_setup.roots + n);
		else
			walk_tree(sc_setup.roots[n].address, sc_setup.roots[n].tree);
	}
}

/* ---------------------------------------------------------------- blocks */

static int64_t block_start(const struct object *block)
{
	const struct object *area = sc_object_at(field_of(block, sc_setup.block_va));

	return area ? pages_of(field_of(area, sc_setup.area_start)) : -1;
}

static int64_t bits_used(const struct object *block)
{
	int64_t used = 0;

	for (uint32_t n = 0; n < (sc_setup.block_bits + 63) / 64; n++)
		used += __builtin_popcountll(word_at(block->start + sc_setup.block_used_map + 8 * n));
	return used;
}

/* Each page that some CPU may still translate lies in the dirty range. */
static void audit_hull(const struct object *block, int64_t start)
{
	int64_t low = start + (int64_t)field_of(block, sc_setup.block_dirty_min);
	int64_t high = start + (int64_t)field_of(block, sc_setup.block_dirty_max);

	for (uint32_t n = 0; n < sc_n_pending; n++) {
		int64_t page = (int64_t)sc_pending[n]->number;

		if (page >= start && page < start + (int64_t)sc_setup.block_bits && (page < low || page >= high))
			flag(SV_FLAG_ACCOUNTING);
	}
}

static void audit_block(const struct block *block)
{
	const struct object *object = block->object;
	int64_t bits = sc_setup.block_bits, start = block_start(object);
	int64_t free = (int64_t)field_of(object, sc_setup.block_free);
	int64_t dirty = (int64_t)field_of(object, sc_setup.block_dirty);
	int64_t live = start < 0 ? 0 : sc_live_pages((uint64_t)start, (uint64_t)(start + bits));

	if (start < 0)
		flag(SV_FLAG_STRAY);
	if (block->is_reached != (free != 0))
		flag(SV_FLAG_LIST);
	if (dirty == bits) {
		flag(SV_FLAG_LEAK);
		return;
	}
	if (live + free + dirty != bits || block->is_listed != (free > 0))
		flag(SV_FLAG_ACCOUNTING);
	if (sc_setup.block_used_map != SV_ABSENT && bits_used(object) != live)
		flag(SV_FLAG_ACCOUNTING);
	if (sc_mapped_pages((uint64_t)start, (uint64_t)(start + bits)) > live)
		flag(SV_FLAG_ACCOUNTING);
	audit_hull(object, start);
}

/* ---------------------------------------------------------------- what is missing */

static bool is_block_start(const struct object *objects, uint32_t n_objects, int64_t start)
{
	for (uint32_t n = 0; n < n_objects; n++)
		if (objects[n].block && objects[n].block->is_indexed && block_start(objects + n) == start)
			return true;
	return false;
}

/* All address space of the window is in exactly one area, and a busy one has an owner. */
static void audit_space(const struct object *objects, uint32_t n_objects)
{
	int64_t end = (int64_t)sc_setup.window_end, reached_to = (int64_t)sc_setup.window_start;
	bool has_previous = false;

	for (uint32_t n = 0; n < n_areas; n++) {
		const struct area *area = areas + n;

		if ((area->start > reached_to && area->start <= end) || (area->start < reached_to && has_previous))
			flag(SV_FLAG_LEAK);
		if (area->end > reached_to) {
			reached_to = area->end;
			has_previous = true;
		}
		if (area->tree == SV_TREE_BUSY && !sc_is_mapping_start((uint64_t)area->start) &&
		    !is_block_start(objects, n_objects, area->start))
			flag(SV_FLAG_LEAK);
	}
	if (n_areas && reached_to < end)
		flag(SV_FLAG_LEAK);
}

static bool is_kept_for_later(uint64_t address)
{
	for (uint32_t n = 0; n < sc_setup.n_pointers; n++)
		if (word_at(sc_setup.pointers[n]) == address)
			return true;
	return false;
}

static bool is_of_an_area(uint64_t vm)
{
	for (uint32_t n = 0; n < n_areas; n++)
		if (areas[n].tree == SV_TREE_BUSY && sc_setup.area_vm != SV_ABSENT &&
		    word_at(areas[n].at + sc_setup.area_vm) == vm)
			return true;
	return false;
}

/* Something leads to each object; of areas there are no more than the trees and pools hold. */
static void audit_objects(const struct object *objects, uint32_t n_objects, const struct sv_object *views)
{
	uint32_t n_left = 0;

	for (uint32_t n = 0; n < n_objects; n++) {
		const struct object *object = objects + n;
		const struct block *block = object->block;

		if (views[n].is_dead || object->kind == SV_STRUCT_OTHER || object->kind == SV_STRUCT_ON_STACK ||
		    (block && (block->is_indexed || block->is_reached)) || is_kept_for_later(object->start))
			continue;
		if (object->kind == SV_STRUCT_AREA)
			n_left++;
		else if (object->kind == SV_STRUCT_BLOCK || !is_of_an_area(object->start))
			flag(SV_FLAG_LEAK);
	}
	if (n_left > n_areas)
		flag(SV_FLAG_LEAK);
}

static void audit_lazy(void)
{
	int64_t lazy = 0;

	for (uint32_t n = 0; n < n_areas; n++)
		if (areas[n].tree == SV_TREE_LAZY)
			lazy += areas[n].end - areas[n].start;
	if (sc_setup.lazy_nr && (int64_t)word_at(sc_setup.lazy_nr) - sc_setup.lazy_bias != lazy)
		flag(SV_FLAG_ACCOUNTING);
}

void sc_audit(void)
{
	uint32_t n_objects, n_views;
	const struct object *objects = sc_objects_of_run(&n_objects);
	const struct sv_object *views = sv_objects(&n_views);

	for (uint32_t n = 0; n < sc_setup.n_queue_heads; n++)
		walk_queue(sc_setup.queue_heads[n]);
	for (uint32_t n = 0; n < sc_setup.n_xarrays; n++)
		walk_xarray(sc_setup.xarrays[n]);
	gather_areas();
	for (uint32_t n = 0; n < n_objects; n++)
		if (objects[n].block && objects[n].block->is_indexed)
			audit_block(objects[n].block);
	audit_space(objects, n_objects);
	audit_objects(objects, n_objects, views);
	audit_lazy();
	sc_pages_at_rest();
}
