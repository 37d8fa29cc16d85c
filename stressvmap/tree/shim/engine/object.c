// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory for the code under test: handed out once in a run, so that an address names one object for ever, and
 * a use after free is seen at the access.
 *
 *	| object 1 ........ | gap | object 2 ... | gap |
 *	  ^ a multiple of GRANULE     index: 2 2 2   0
 *
 * Two tables go with the arena: `shadow`, a bit for each byte (nobody wrote it, or it is dead, or in a gap),
 * which is all that an access looks at as long as nothing is wrong; and `owners`, the number of the object in
 * each granule.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define GRANULE 16
#define ARENA_HINT ((uintptr_t)0x200000000000) /* above whatever the kernel's simulated addresses may be */
#define ARENA_RESERVED SV_ARENA_BYTES
#define KEPT ((size_t)8 << 20) /* bytes of the arena whose memory is not given back between runs */
#define POISON 0x6b
#define STATICS 4096

uintptr_t sv_arena, sv_arena_used;
uint8_t *sv_shadow;

static struct sv_area arena, shadows, owners, objects, stacks, table;
static uint32_t object_count; /* of the heap, number 0 being none */
static struct sv_object statics[STATICS];
static uint32_t static_count;
static uint32_t below; /* static objects at lower addresses than the arena, when sv_objects was asked last */

/* Of each object of the heap. */
struct object_stacks {
	uint32_t alloc[SV_FRAMES_TOLD + 1], free[SV_FRAMES_TOLD + 1]; /* the last is 0 */
};

static struct {
	uintptr_t used;
	uint32_t count;
	char *arena;
	uint8_t *shadow;
	struct sv_object *objects;
} boot;

static struct sv_object *object_number(uint32_t number)
{
	return (struct sv_object *)objects.start + number;
}

static struct object_stacks *stacks_of(uint32_t number)
{
	return (struct object_stacks *)stacks.start + number;
}

static struct object_stacks *stacks_of_object(const struct sv_object *object)
{
	return stacks_of((uint32_t)(object - object_number(0)));
}

static uint32_t *owner_of_granule(uintptr_t offset)
{
	return (uint32_t *)owners.start + offset / GRANULE;
}

static bool make_room(size_t bytes)
{
	return sv_commit(&arena, bytes + 1) && sv_commit(&shadows, bytes / 8 + 1) &&
	       sv_commit(&owners, (bytes / GRANULE + 1) * sizeof(uint32_t)) &&
	       sv_commit(&objects, (object_count + 1) * sizeof(struct sv_object)) &&
	       sv_commit(&stacks, (object_count + 1) * sizeof(struct object_stacks));
}

bool sv_objects_boot(void)
{
	object_count = 1;
	if (!sv_reserve(&arena, ARENA_HINT, ARENA_RESERVED) || !sv_reserve(&shadows, 0, ARENA_RESERVED / 8) ||
	    !sv_reserve(&owners, 0, ARENA_RESERVED / GRANULE * sizeof(uint32_t)) ||
	    !sv_reserve(&objects, 0, ARENA_RESERVED / 2 / GRANULE * sizeof(struct sv_object)) ||
	    !sv_reserve(&stacks, 0, ARENA_RESERVED / 2 / GRANULE * sizeof(struct object_stacks)) ||
	    !sv_reserve(&table, 0, ARENA_RESERVED / 2 / GRANULE * sizeof(struct sv_object)))
		return false;
	sv_arena = (uintptr_t)arena.start;
	sv_shadow = (uint8_t *)shadows.start;
	return make_room(0);
}

static void *copy_of(const void *from, size_t size)
{
	void *copy = malloc(size ? size : 1);

	return copy ? memcpy(copy, from, size) : NULL;
}

bool sv_objects_keep_boot(void)
{
	boot.used = sv_arena_used;
	boot.count = object_count;
	boot.arena = copy_of(arena.start, boot.used);
	boot.shadow = copy_of(sv_shadow, boot.used / 8);
	boot.objects = copy_of(objects.start, boot.count * sizeof(struct sv_object));
	return boot.arena && boot.shadow && boot.objects;
}

void sv_objects_reset(void)
{
	if (sv_arena_used > KEPT) {
		sv_trim(&arena, KEPT);
		sv_trim(&shadows, KEPT / 8);
		sv_trim(&owners, KEPT / GRANULE * sizeof(uint32_t));
		sv_trim(&objects, boot.count * sizeof(struct sv_object));
		sv_trim(&stacks, boot.count * sizeof(struct object_stacks));
	}
	sv_arena_used = boot.used;
	object_count = boot.count;
	memcpy(arena.start, boot.arena, boot.used);
	memcpy(sv_shadow, boot.shadow, boot.used / 8);
	memcpy(objects.start, boot.objects, boot.count * sizeof(struct sv_object));
}

/* ---------------------------------------------------------------- who owns an address */

static struct sv_object *object_at(uint64_t address)
{
	uintptr_t offset = address - sv_arena;
	uint32_t number;

	if (offset >= sv_arena_used)
		return NULL;
	number = *owner_of_granule(offset);
	return number && address < object_number(number)->address + object_number(number)->size ?
		       object_number(number) :
		       NULL;
}

bool sv_is_object(const void *address)
{
	struct sv_object *object = object_at((uintptr_t)address);

	return object && !object->is_dead;
}

uint32_t sv_size_at(uint64_t address)
{
	const struct sv_object *object = object_at(address);

	return object ? object->size : 1;
}

uint64_t sv_name_at(uint64_t address)
{
	const struct sv_object *object = object_at(address);

	return object ? (uint64_t)object->id << 28 | (address - object->address) : 0;
}

/* ---------------------------------------------------------------- the shadow */

/* Set or clear the bits of [from, to), offsets into the arena. */
static void shade(uintptr_t from, uintptr_t to, bool is_set)
{
	for (; from < to && from % 8; from++)
		sv_shadow[from / 8] = is_set ? sv_shadow[from / 8] | 1u << from % 8 :
					       sv_shadow[from / 8] & ~(1u << from % 8);
	if (from + 8 <= to) {
		memset(sv_shadow + from / 8, is_set ? 0xff : 0, (to - from) / 8);
		from += (to - from) / 8 * 8;
	}
	for (; from < to; from++)
		sv_shadow[from / 8] = is_set ? sv_shadow[from / 8] | 1u << from % 8 :
					       sv_shadow[from / 8] & ~(1u << from % 8);
}

static bool is_shaded(uintptr_t from, uintptr_t to)
{
	for (; from < to; from++)
		if (sv_shadow[from / 8] & 1u << from % 8)
			return true;
	return false;
}

static bool is_write(int kind)
{
	return kind == SV_WRITE || kind == SV_WRITE_ONCE;
}

void sv_heap_access(const struct sv_task *task, int kind, uint64_t address, size_t size, bool is_range)
{
	uintptr_t from = address - sv_arena, to = from + size;
	struct sv_object *object = object_at(address);

	if (to > sv_arena_used)
		to = sv_arena_used;
	if (!is_shaded(from, to))
		return;
	if (object && object->is_dead) {
		sv_seen |= SV_SAW_DEAD_ACCESS;
		sv_append(task, SV_DEAD_ACCESS, SV_ON_HEAP, address, (uint32_t)size, (uint64_t)kind);
		return;
	}
	if (!object || address + size > object->address + object->size) {
		sv_warn("access beyond the end of an object");
		return;
	}
	if (is_write(kind)) {
		shade(from, to, false);
	} else if (!is_range) { /* a structure may be copied with its holes */
		sv_seen |= SV_SAW_UNINITIALISED;
		sv_append(task, SV_UNINITIALISED, SV_ON_HEAP, address, (uint32_t)size, 0);
	}
}

void sv_mark_written(const void *address, size_t size)
{
	struct sv_object *object = object_at((uintptr_t)address);
	uintptr_t from = (uintptr_t)address - sv_arena;

	if (object && !object->is_dead && (uintptr_t)address + size <= object->address + object->size)
		shade(from, from + size, false);
}

void sv_touch(int kind, const void *address, uint32_t field)
{
	struct sv_object *object = object_at((uintptr_t)address);

	sv_fill();
	if (object && object->is_dead) {
		sv_seen |= SV_SAW_DEAD_ACCESS;
		sv_append(sv_current, SV_DEAD_ACCESS, SV_ON_HEAP, (uintptr_t)address, field, (uint64_t)kind);
	}
}

/* ---------------------------------------------------------------- handing out and taking back */

void *sv_alloc(size_t size, const char *type, bool zeroed)
{
	struct sv_task *task = sv_current;
	size_t granules = size ? (size + GRANULE - 1) / GRANULE : 1;
	size_t taken = (granules + 1) * GRANULE; /* a granule between objects is nobody's */
	uintptr_t offset = sv_arena_used;
	struct sv_object *object;

	sv_fill();
	if (size > ARENA_RESERVED || !make_room(offset + taken)) {
		sv_append(task, SV_ALLOC_FAILED, 0, 0, sv_string(type), 0);
		return NULL;
	}
	sv_arena_used += taken;
	memset(arena.start + offset, zeroed ? 0 : POISON, granules * GRANULE);
	shade(offset, offset + taken, true);
	if (zeroed)
		shade(offset, offset + size, false);
	for (size_t i = 0; i < granules; i++)
		*owner_of_granule(offset + i * GRANULE) = object_count;
	*owner_of_granule(offset + granules * GRANULE) = 0;
	sv_backtrace(task, stacks_of(object_count)->alloc);
	stacks_of(object_count)->free[0] = 0;
	object = object_number(object_count++);
	*object = (struct sv_object){
		.address = sv_arena + offset,
		.size = size ? (uint32_t)size : 1,
		.id = (uint32_t)task->id << 20 | ++task->allocations,
		.type = sv_string(type),
		.cpu = -1,
		.alloc_pc = task->pc,
		.alloc_task = (uint16_t)task->id,
	};
	sv_append(task, SV_OBJECT_ALLOC, 0, object->address, object->type, 0);
	return (void *)(uintptr_t)object->address;
}

void sv_will_free(const void *address)
{
	const struct sv_object *object = object_at((uintptr_t)address);

	if (object && !object->is_dead)
		sv_backtrace(sv_current, stacks_of_object(object)->free);
}

void sv_free(void *address, uint32_t how)
{
	struct sv_object *object = object_at((uintptr_t)address);

	sv_fill();
	if (!object || object->address != (uintptr_t)address)
		sv_bug("free of memory that is no object");
	if (object->is_dead) {
		sv_seen |= SV_SAW_DEAD_ACCESS;
		sv_append(sv_current, SV_DEAD_ACCESS, SV_ON_HEAP, object->address, 0, SV_WRITE);
		return;
	}
	if (!stacks_of_object(object)->free[0])
		sv_backtrace(sv_current, stacks_of_object(object)->free);
	object->is_dead = 1;
	object->how = (uint8_t)how;
	object->free_pc = sv_current->pc;
	object->free_task = (uint16_t)sv_current->id;
	shade(object->address - sv_arena, object->address - sv_arena + object->size, true);
	sv_append(sv_current, SV_OBJECT_FREE, 0, object->address, object->type, how);
}

void sv_name_static(void *address, size_t size, const char *type, int cpu)
{
	uint32_t at = static_count;

	if (static_count == STATICS)
		sv_bug("more static objects than the engine has names for");
	for (; at && statics[at - 1].address > (uintptr_t)address; at--)
		statics[at] = statics[at - 1];
	static_count++;
	statics[at] = (struct sv_object){
		.address = (uintptr_t)address,
		.size = (uint32_t)size,
		.id = ++sv_boot_task.allocations,
		.type = sv_string(type),
		.cpu = cpu,
	};
	sv_append(sv_current, SV_OBJECT_ALLOC, 0, (uintptr_t)address, statics[at].type, 0);
}

const uint32_t *sv_object_stack(uint64_t address, int is_free)
{
	static const uint32_t none[1];
	const struct sv_object *object = object_at(address);
	const struct object_stacks *found;

	if (!object || (is_free && !object->is_dead))
		return none;
	found = stacks_of_object(object);
	return is_free ? found->free : found->alloc;
}

uint32_t sv_object_number(uint64_t address)
{
	uintptr_t offset = address - sv_arena;

	return offset < sv_arena_used && *owner_of_granule(offset) ? below + *owner_of_granule(offset) : 0;
}

const struct sv_object *sv_objects(uint32_t *n)
{
	uint32_t heap_count = object_count - 1;
	struct sv_object *into = (struct sv_object *)table.start;

	*n = below = 0;
	if (!sv_commit(&table, (heap_count + static_count + 1) * sizeof(struct sv_object)))
		return NULL;
	while (below < static_count && statics[below].address < sv_arena)
		below++;
	memcpy(into, statics, below * sizeof(*into));
	memcpy(into + below, object_number(1), heap_count * sizeof(*into));
	memcpy(into + below + heap_count, statics + below, (static_count - below) * sizeof(*into));
	*n = heap_count + static_count;
	return into;
}
