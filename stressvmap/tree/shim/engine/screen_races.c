// SPDX-License-Identifier: GPL-2.0-only
/*
 * Data races, as checks/data_race.py finds them (FastTrack, Flanagan and Freund, PLDI 2009, told apart by marking).
 *
 * A place keeps its last plain write, and the marked writes, plain reads and marked reads that nothing later of their
 * kind is ordered after. What a race's report in Python depends on (places in the code, kinds, entry points, locks) is
 * its key: a pair that flagged `race_reports` runs flags no more, for Python has said of it what there is to say.
 */
#include <stdlib.h>
#include <string.h>

#include "screen_state.h"

#define RACES 16384

static struct access *accesses; /* by number of their event */
static size_t n_room;
static struct sv_race races[RACES];
static uint32_t n_races, race_slots[2 * RACES], raced_in[RACES]; /* slots: number + 1 */

bool sc_races_reset(void)
{
	memset(race_slots, 0, sizeof(race_slots));
	memset(raced_in, 0, sizeof(raced_in));
	n_races = 0;
	return true;
}

bool sc_races_begin(void)
{
	size_t wanted = n_room ? n_room : 1 << 16;

	while (wanted < sc_n_events)
		wanted *= 2;
	if (wanted == n_room)
		return true;
	free(accesses);
	accesses = malloc(wanted * sizeof(*accesses));
	n_room = accesses ? wanted : 0;
	return accesses;
}

const struct sv_race *sv_screen_races(uint32_t *n)
{
	*n = n_races;
	return races;
}

/* ---------------------------------------------------------------- telling */

static uint32_t entry_of(uint32_t call, uint32_t task)
{
	if (call == NOWHERE)
		return sc_name_of(task);
	return sc_calls[call].is_reset ? sv_string("vfree_reset") : sc_calls[call].string;
}

static void set_side(struct sv_race *race, int side, uint32_t number, uint32_t call, uint64_t held)
{
	race->pc[side] = sc_events[number].pc;
	race->kind[side] = sc_events[number].kind;
	race->entry[side] = entry_of(call, sc_events[number].task);
	race->locks[side] = held;
}

/* Which of the two came first is chance. */
static void put_in_order(struct sv_race *race)
{
	struct sv_race turned = {
		.pc = { race->pc[1], race->pc[0] }, .kind = { race->kind[1], race->kind[0] },
		.entry = { race->entry[1], race->entry[0] }, .locks = { race->locks[1], race->locks[0] },
		.where = race->where, .offset = race->offset,
	};

	if (memcmp(race, &turned, sizeof(turned)) > 0)
		*race = turned;
}

static uint32_t hash_of(const struct sv_race *race)
{
	const unsigned char *bytes = (const unsigned char *)race;
	uint32_t hash = 2166136261u;

	for (size_t n = 0; n < offsetof(struct sv_race, runs); n++)
		hash = (hash ^ bytes[n]) * 16777619u;
	return hash;
}

static void raced(uint32_t first, uint32_t number, const struct thread *thread, const struct place *place)
{
	const struct access *access = accesses + first;
	uint32_t element = place->object->element_size;
	struct sv_race race = { .where = place->object->where,
				.offset = element ? place->offset % element : place->offset };
	uint32_t at, known;

	if (race.where == NOWHERE) { /* a type that is not known yet: the run is flagged, the pair not remembered */
		flag(SV_FLAG_RACE);
		return;
	}
	set_side(&race, 0, first, access->call, access->locks);
	set_side(&race, 1, number, thread->call, thread->classes);
	put_in_order(&race);
	for (at = hash_of(&race) % (2 * RACES); race_slots[at]; at = (at + 1) % (2 * RACES))
		if (!memcmp(races + race_slots[at] - 1, &race, offsetof(struct sv_race, runs)))
			break;
	if (!race_slots[at]) {
		if (n_races == RACES) {
			flag(SV_FLAG_RACE);
			return;
		}
		races[n_races] = race;
		race_slots[at] = ++n_races;
	}
	known = race_slots[at] - 1;
	if (raced_in[known] != sc_run)
		races[known].runs++;
	raced_in[known] = sc_run;
	if (races[known].runs <= sc_setup.race_reports)
		flag(SV_FLAG_RACE);
}

/* ---------------------------------------------------------------- accesses */

static bool is_after(const struct thread *thread, const struct access *access)
{
	return thread->clock[access->thread] >= access->clock;
}

/* Did the thread make one of them since its last release? */
static bool has_own(const struct thread *thread, uint32_t list)
{
	for (; list; list = accesses[list - 1].next)
		if (accesses[list - 1].thread == thread->index)
			return accesses[list - 1].clock == thread->clock[thread->index];
	return false;
}

static void check(uint32_t list, uint32_t number, const struct thread *thread, const struct place *place)
{
	for (; list; list = accesses[list - 1].next)
		if (!is_after(thread, accesses + list - 1))
			raced(list - 1, number, thread, place);
}

static void drop_ordered(uint32_t *list, const struct thread *thread)
{
	while (*list) {
		struct access *access = accesses + *list - 1;

		if (is_after(thread, access))
			*list = access->next;
		else
			list = &access->next;
	}
}

static void note(uint32_t *list, uint32_t number, const struct thread *thread)
{
	accesses[number] = (struct access){
		.next = *list, .clock = thread->clock[thread->index], .locks = thread->classes,
		.call = thread->call, .thread = (uint16_t)thread->index,
	};
	*list = number + 1;
}

static void check_plain_write(uint32_t number, const struct thread *thread, const struct place *place)
{
	if (place->plain_write && !is_after(thread, accesses + place->plain_write - 1))
		raced(place->plain_write - 1, number, thread, place);
}

static void plain_read(uint32_t number, struct thread *thread, struct place *place)
{
	if (has_own(thread, place->plain_reads))
		return;
	check_plain_write(number, thread, place);
	check(place->marked_writes, number, thread, place);
	drop_ordered(&place->plain_reads, thread);
	note(&place->plain_reads, number, thread);
}

static void marked_read(uint32_t number, struct thread *thread, struct place *place)
{
	if (has_own(thread, place->marked_reads))
		return;
	check_plain_write(number, thread, place);
	drop_ordered(&place->marked_reads, thread);
	note(&place->marked_reads, number, thread);
}

static void plain_write(uint32_t number, struct thread *thread, struct place *place)
{
	uint32_t *lists[] = { &place->marked_writes, &place->plain_reads, &place->marked_reads };

	if (has_own(thread, place->plain_write))
		return;
	check_plain_write(number, thread, place);
	for (int n = 0; n < 3; n++) {
		check(*lists[n], number, thread, place);
		drop_ordered(lists[n], thread);
	}
	place->plain_write = 0;
	note(&place->plain_write, number, thread);
}

static void marked_write(uint32_t number, struct thread *thread, struct place *place)
{
	if (has_own(thread, place->marked_writes))
		return;
	check_plain_write(number, thread, place);
	check(place->plain_reads, number, thread, place);
	drop_ordered(&place->marked_reads, thread);
	drop_ordered(&place->marked_writes, thread);
	note(&place->marked_writes, number, thread);
}

void sc_race_access(uint32_t number, const struct sv_event *event, struct thread *thread, struct place *place)
{
	if (unlikely(place->places != place->object->places)) {
		place->places = place->object->places;
		place->plain_write = place->marked_writes = place->plain_reads = place->marked_reads = 0;
		place->clock = NULL;
	}
	switch (event->kind) {
	case SV_READ:
		if (!place->object->is_dead)
			plain_read(number, thread, place);
		break;
	case SV_WRITE:
		sc_order_overwritten(thread, place);
		if (!place->object->is_dead)
			plain_write(number, thread, place);
		break;
	case SV_READ_ONCE:
		sc_order_loaded(event, thread, place);
		if (!place->object->is_dead)
			marked_read(number, thread, place);
		break;
	case SV_WRITE_ONCE:
		if (!place->object->is_dead)
			marked_write(number, thread, place);
		sc_order_stored(event, thread, place);
		break;
	default:
		sc_order_before_atomic(thread, place);
		if (!place->object->is_dead)
			marked_write(number, thread, place);
		sc_order_after_atomic(thread, place);
		break;
	}
}
