// SPDX-License-Identifier: GPL-2.0-only
/*
 * What an address is: by the engine's table of objects, the globals, and what Python told of types (tree/decode.py).
 *
 * An access looks up its address in one table; only the first of a run to each address has to find the object, by
 * bisection, and the field.
 */
#include <stdlib.h>
#include <string.h>

#include "screen_state.h"

#define STRUCTS 8192
#define STRUCT_BYTES (UINT32_C(1) << 24)
#define GLOBALS 4096
#define OBJECTS ((size_t)1 << 20)
#define PLACES (SLOTS / 2)
#define LOCK_SLOTS 4096
#define LOCKS (LOCK_SLOTS / 2)
#define TYPE_SLOTS 8192
#define CLASS_SLOTS 8192
#define UNKNOWN 256

struct known_struct {
	uint32_t kind, size, element;
	uint32_t *field_of;
	uint8_t *role_of;
	uint8_t *words; /* enum word_bit of each */
	uint32_t n_special; /* words that have any */
};
struct known_type { uint32_t string, size, number; bool is_used; };
struct known_class { uint32_t number, offset; struct sv_screen_lock_class class; bool is_used; };

static struct known_struct structs[STRUCTS];
static uint32_t n_structs;
static struct object globals[GLOBALS];
static uint32_t n_globals;
static struct known_type types[TYPE_SLOTS];
static struct known_class classes[CLASS_SLOTS];
static uint32_t n_types, n_classes;
static struct sv_screen_unknown unknown[UNKNOWN];
static uint32_t n_unknown;

static struct object *objects; /* of the run, in the order of sv_objects */
static const struct sv_object *views;
static uint32_t n_views;

struct slot *sc_slots;
struct place *sc_places;
static uint32_t n_places, n_slots;
static struct { uint64_t address; uint32_t run; uint32_t lock; } lock_slots[LOCK_SLOTS];
static struct lock locks[LOCKS];
static uint32_t n_locks;
struct object sc_nothing;
static struct object *last_found; /* if no other may lie in it */

/* ---------------------------------------------------------------- told by Python */

bool sc_layout_reset(void)
{
	for (uint32_t n = 0; n < n_structs; n++) {
		free(structs[n].field_of);
		free(structs[n].role_of);
		free(structs[n].words);
	}
	n_structs = n_globals = n_types = n_classes = n_unknown = 0;
	memset(types, 0, sizeof(types));
	memset(classes, 0, sizeof(classes));
	if (!objects)
		objects = sc_map_zeroed(OBJECTS * sizeof(*objects));
	if (!sc_slots)
		sc_slots = sc_map_zeroed(SLOTS * sizeof(*sc_slots));
	if (!sc_places)
		sc_places = sc_map_zeroed(PLACES * sizeof(*sc_places));
	return objects && sc_slots && sc_places;
}

int sv_screen_struct(const struct sv_screen_struct *one)
{
	struct known_struct *known = structs + n_structs;

	if (n_structs == STRUCTS || one->size > STRUCT_BYTES)
		return -1;
	*known = (struct known_struct){ .kind = one->kind, .size = one->size, .element = one->element };
	known->words = calloc(one->size / 8 + 1, 1);
	if (!known->words)
		return -1;
	if (one->field_of) {
		known->field_of = malloc(one->size * sizeof(*known->field_of));
		known->role_of = malloc(one->size);
		if (!known->field_of || !known->role_of)
			return -1;
		memcpy(known->field_of, one->field_of, one->size * sizeof(*known->field_of));
		memcpy(known->role_of, one->role_of, one->size);
		known->n_special = sc_words_of_struct(one, known->words);
	}
	return (int)n_structs++;
}

const uint8_t *sc_struct_words(uint32_t where)
{
	return where != NOWHERE && structs[where].n_special ? structs[where].words : NULL;
}

static struct known_type *type_slot(uint32_t string, uint32_t size)
{
	uint32_t at = (string * 31 + size) % TYPE_SLOTS;

	while (types[at].is_used && (types[at].string != string || types[at].size != size))
		at = (at + 1) % TYPE_SLOTS;
	return types + at;
}

int sv_screen_type(uint32_t string, uint32_t size, uint32_t number)
{
	struct known_type *slot = type_slot(string, size);

	if (number >= n_structs || n_types == TYPE_SLOTS / 2)
		return -1;
	n_types += !slot->is_used;
	*slot = (struct known_type){ string, size, number, true };
	return 0;
}

int sv_screen_global(uint64_t address, uint32_t size, uint32_t number)
{
	if (number >= n_structs || n_globals == GLOBALS)
		return -1;
	if (n_globals && globals[n_globals - 1].start > address)
		return -1;
	globals[n_globals++] = (struct object){ .start = address, .size = size, .where = number };
	sc_words_global(address, size, number);
	return 0;
}

static struct known_class *class_slot(uint32_t number, uint32_t offset)
{
	uint32_t at = (number * 509 + offset) % CLASS_SLOTS;

	while (classes[at].is_used && (classes[at].number != number || classes[at].offset != offset))
		at = (at + 1) % CLASS_SLOTS;
	return classes + at;
}

int sv_screen_lock(uint32_t number, uint32_t offset, const struct sv_screen_lock_class *class)
{
	struct known_class *slot = class_slot(number, offset);

	if (number >= n_structs || class->number >= CLASSES || n_classes == CLASS_SLOTS / 2)
		return -1;
	n_classes += !slot->is_used;
	*slot = (struct known_class){ number, offset, *class, true };
	return 0;
}

const struct sv_screen_unknown *sv_screen_unknown(uint32_t *n)
{
	*n = n_unknown;
	return unknown;
}

static void ask(uint32_t is_lock, uint32_t a, uint32_t b, uint64_t address)
{
	flag(SV_FLAG_UNKNOWN);
	if (n_unknown < UNKNOWN)
		unknown[n_unknown++] = (struct sv_screen_unknown){ is_lock, a, b, 0, address };
}

/* ---------------------------------------------------------------- objects */

void sc_layout_begin(void)
{
	views = sv_objects(&n_views);
	if (n_views > OBJECTS) {
		flag(SV_FLAG_TOO_LARGE);
		n_views = OBJECTS;
	}
	n_unknown = n_places = n_slots = n_locks = 0;
	sc_nothing.run = sc_run;
	sc_nothing.where = NOWHERE;
	last_found = NULL;
}

static struct object *begun(struct object *object)
{
	object->run = sc_run;
	object->places = 0;
	object->times_listed = 0;
	object->is_dead = 0;
	object->va_start = NO_VALUE;
	object->indexed = object->listed = object->under_xa_lock = NULL;
	object->block = NULL;
	object->elements = NULL;
	return object;
}

/* The element of an array of structs that holds an address; another object only in that it is known by `places`. */
static struct object *element_at(struct object *array, uint64_t address)
{
	uint32_t n_elements = array->size / array->element_size;

	if (!array->elements) {
		array->elements = sc_take(n_elements * sizeof(*array));
		if (!array->elements)
			return array;
		for (uint32_t n = 0; n < n_elements; n++) {
			array->elements[n] = *array;
			begun(array->elements + n);
		}
	}
	return array->elements + (address - array->start) / array->element_size;
}

static struct object *object_number(uint32_t number)
{
	struct object *object = objects + number;
	const struct sv_object *view = views + number;
	const struct known_type *type;

	if (likely(object->run == sc_run))
		return object;
	type = type_slot(view->type, view->size);
	object->start = view->address;
	object->size = view->size;
	object->where = type->is_used ? type->number : NOWHERE;
	object->kind = type->is_used ? (uint8_t)structs[type->number].kind : SV_STRUCT_OTHER;
	object->element_size = type->is_used ? structs[type->number].element : 0;
	if (!type->is_used)
		ask(0, view->type, view->size, view->address);
	return begun(object);
}

struct object *sc_objects_of_run(uint32_t *n)
{
	*n = n_views;
	for (uint32_t number = 0; number < n_views; number++)
		object_number(number);
	return objects;
}

static struct object *global_at(uint64_t address)
{
	uint32_t low = 0, high = n_globals;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (globals[middle].start <= address)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low)
		return NULL;
	if (globals[low - 1].run != sc_run)
		begun(globals + low - 1);
	return globals + low - 1;
}

/* As Decoder.object_at: of what begins last before the address, and of two that begin there the engine's. */
struct object *sc_object_at(uint64_t address)
{
	uint32_t low = 0, high = n_views;
	struct object *global, *object;

	if (!address)
		return NULL;
	if (likely(address - sc_heap_start < SV_ARENA_BYTES)) {
		low = sv_object_number(address);
		object = low ? object_number(low - 1) : NULL;
		if (!object || address - object->start >= object->size)
			return NULL;
		return object->element_size ? element_at(object, address) : object;
	}
	if (last_found && address - last_found->start < last_found->size)
		return last_found->element_size ? element_at(last_found, address) : last_found;
	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (views[middle].address <= address)
			low = middle + 1;
		else
			high = middle;
	}
	global = global_at(address);
	object = low ? object_number(low - 1) : NULL;
	if (!object || (global && global->start > object->start))
		object = global;
	else if (!n_globals || object->start + object->size <= globals[0].start ||
		 object->start > globals[n_globals - 1].start)
		last_found = object;
	if (!object || address - object->start >= object->size)
		return NULL;
	return object->element_size ? element_at(object, address) : object;
}

/* ---------------------------------------------------------------- places */

static struct place *note_slot(uint64_t address, uint32_t place)
{
	uint32_t at = slot_of(address);

	while (sc_slots[at].run == sc_run)
		at = (at + 1) % SLOTS;
	sc_slots[at] = (struct slot){ address, sc_run, place };
	n_slots++;
	return sc_places + place;
}

/* There is room for one more, and for another address of it. */
static bool has_room(void)
{
	if (n_slots + 2 < SLOTS / 2)
		return true;
	flag(SV_FLAG_TOO_LARGE);
	return false;
}

static struct place *add_place(uint64_t address, struct object *object, uint32_t offset, uint8_t role)
{
	sc_places[n_places] = (struct place){
		.places = object->places, .object = object, .offset = offset, .role = role,
	};
	return note_slot(address, n_places++);
}

/* An address that no access of this run had yet; its field may be known by another. */
struct place *sc_place_new(uint64_t address)
{
	struct object *object = sc_object_at(address);
	uint32_t offset = object ? (uint32_t)(address - object->start) : 0, at;
	const struct known_struct *known = object && object->where != NOWHERE ? structs + object->where : NULL;
	uint64_t first = object ? address : 8; /* no object lies at 8 */
	uint8_t role = SV_ROLE_NONE;
	struct place *place;

	if (known && known->field_of && offset < known->size) {
		role = known->role_of[offset];
		offset = known->field_of[offset];
		first = object->start + offset;
	}
	for (at = slot_of(first); sc_slots[at].run == sc_run; at = (at + 1) % SLOTS)
		if (sc_slots[at].address == first)
			break;
	if (sc_slots[at].run == sc_run)
		place = sc_places + sc_slots[at].place;
	else if (has_room())
		place = add_place(first, object ? object : &sc_nothing, offset, role);
	else
		return sc_places; /* some other: the run is flagged as too large */
	return first == address || !has_room() ? place : note_slot(address, (uint32_t)(place - sc_places));
}

/* ---------------------------------------------------------------- locks */

static void add_lock(uint64_t address)
{
	struct object *object = sc_object_at(address);
	struct lock *lock = locks + n_locks;
	const struct known_class *known;
	uint32_t offset = object ? (uint32_t)(address - object->start) : 0;

	*lock = (struct lock){ .object = object ? object : &sc_nothing };
	lock->places = lock->object->places;
	if (!object || object->where == NOWHERE) {
		flag(object ? SV_FLAG_UNKNOWN : SV_FLAG_STRAY);
		return;
	}
	known = class_slot(object->where, offset);
	if (!known->is_used) {
		ask(1, object->where, offset, address);
		return;
	}
	lock->class = known->class.number;
	lock->is_block_lock = known->class.is_block_lock;
	lock->is_purge_lock = known->class.is_purge_lock;
}

struct lock *sc_lock_find(uint64_t address)
{
	uint32_t at = (uint32_t)(address >> 3 ^ address >> 15) % LOCK_SLOTS;

	for (; lock_slots[at].run == sc_run; at = (at + 1) % LOCK_SLOTS)
		if (lock_slots[at].address == address)
			return locks + lock_slots[at].lock;
	if (n_locks + 1 == LOCKS) {
		flag(SV_FLAG_TOO_LARGE);
		return locks + n_locks - 1;
	}
	lock_slots[at].address = address;
	lock_slots[at].run = sc_run;
	lock_slots[at].lock = n_locks;
	add_lock(address);
	return locks + n_locks++;
}
