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

	if (place->object == &sc_nothing)
		return;
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
			raced(list - 1, number, thread, place ? place : sc_place_at(sc_events[number].a));
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

static void note(uint32_t *list, uint32_t next, uint32_t number, const struct thread *thread)
{
	accesses[number] = (struct access){
		.next = next, .clock = thread->clock[thread->index], .locks = thread->classes,
		.call = thread->call, .thread = (uint16_t)thread->index,
	};
	*list = number + 1;
}

/* `place`: if it is known. */
static void judge(uint32_t number, struct thread *thread, struct kept *kept, const struct place *place)
{
	uint32_t kind = sc_events[number].kind == SV_ATOMIC ? SV_WRITE_ONCE : sc_events[number].kind;
	bool is_plain = kind == SV_READ || kind == SV_WRITE, is_write = kind == SV_WRITE || kind == SV_WRITE_ONCE;
	uint32_t *mine = kept->list + kind;

	if (has_own(thread, *mine))
		return;
	check(kept->list[SV_WRITE], number, thread, place);
	if (is_plain)
		check(kept->list[SV_WRITE_ONCE], number, thread, place);
	if (is_write)
		check(kept->list[SV_READ], number, thread, place);
	if (kind == SV_WRITE)
		check(kept->list[SV_READ_ONCE], number, thread, place);
	if (is_write)
		drop_ordered(kept->list + SV_READ_ONCE, thread);
	if (kind == SV_WRITE) {
		drop_ordered(kept->list + SV_WRITE_ONCE, thread);
		drop_ordered(kept->list + SV_READ, thread);
		kept->list[SV_WRITE] = 0;
	} else {
		drop_ordered(mine, thread);
	}
	note(mine, *mine, number, thread);
}

/* ---------------------------------------------------------------- by place */

static void access_place(uint32_t number, const struct sv_event *event, struct thread *thread, struct place *place)
{
	if (unlikely(place->places != place->object->places)) {
		place->places = place->object->places;
		place->kept = (struct kept){ 0 };
		place->clock = NULL;
	}
	switch (event->kind) {
	case SV_WRITE:
		sc_order_overwritten(thread, place);
		break;
	case SV_READ_ONCE:
		sc_order_loaded(event, thread, place);
		break;
	case SV_ATOMIC:
		sc_order_before_atomic(thread, place);
		break;
	default:
		break;
	}
	if (!place->object->is_dead)
		judge(number, thread, &place->kept, place);
	if (event->kind == SV_WRITE_ONCE)
		sc_order_stored(event, thread, place);
	else if (event->kind == SV_ATOMIC)
		sc_order_after_atomic(thread, place);
}

/* ---------------------------------------------------------------- by word */

void sc_use_place(struct word *word, uint64_t address)
{
	struct place *place = sc_place_at((address & ~UINT64_C(7)) + word->low % NO_LOW);

	if (word->low != NO_LOW) {
		if (place->places != place->object->places)
			place->clock = NULL;
		place->places = place->object->places;
		place->kept = word->kept;
	}
	word->bits |= WORD_HAS_PLACE;
}

/* An access breaks the order, or it was broken before. A plain write that comes after all mends it. */
static void judge_out_of_order(uint32_t number, const struct sv_event *event, struct thread *thread, struct word *word)
{
	const uint32_t *list = word->kept.list;

	judge(number, thread, &word->kept, NULL);
	word->bits |= WORD_HAS_NO_ORDER;
	if (event->kind != SV_WRITE || list[SV_WRITE_ONCE] | list[SV_READ] | list[SV_READ_ONCE])
		return;
	word->thread = (uint8_t)thread->index;
	word->clock = thread->clock[thread->index];
	word->bits &= (uint8_t)~WORD_HAS_NO_ORDER;
}

/* Everything that was done there came before: what `judge` does then. */
static inline __attribute__((always_inline)) void judge_in_order(uint32_t number, uint32_t kind,
								  const struct thread *thread, struct word *word)
{
	/* Of each kind, by kind: does one that comes after outdate it? */
	static const struct kept stays[] = {
		[SV_READ] = { { [SV_READ] = ~0u, [SV_WRITE] = ~0u, [SV_READ_ONCE] = ~0u, [SV_WRITE_ONCE] = ~0u } },
		[SV_READ_ONCE] = { { [SV_READ] = ~0u, [SV_WRITE] = ~0u, [SV_READ_ONCE] = ~0u, [SV_WRITE_ONCE] = ~0u } },
		[SV_WRITE_ONCE] = { { [SV_READ] = ~0u, [SV_WRITE] = ~0u, [SV_WRITE_ONCE] = ~0u } },
	};
	uint32_t *list = word->kept.list, mine = list[kind];
	int32_t clock = thread->clock[thread->index];

	if (word->clock == clock && word->thread == thread->index && mine && accesses[mine - 1].clock == clock &&
	    accesses[mine - 1].thread == thread->index)
		return;
	word->thread = (uint8_t)thread->index;
	word->clock = clock;
	for (int n = SV_READ; n <= SV_WRITE_ONCE; n++)
		list[n] &= stays[kind].list[n];
	note(list + kind, 0, number, thread);
}

static void enter_in_books(uint32_t number, const struct sv_event *event, struct thread *thread, struct place *place)
{
	if (event->kind == SV_READ || event->kind == SV_READ_ONCE)
		sc_block_read(number, event, thread, place);
	else
		sc_block_write(event, thread, place);
}

static void by_place(uint32_t number, const struct sv_event *event, struct thread *thread)
{
	struct place *place = sc_place_at(event->a);

	if (unlikely(place->object == &sc_nothing))
		return;
	if (place->role & SV_ROLES && event->kind != SV_ATOMIC)
		enter_in_books(number, event, thread, place);
	if (wants(SV_FLAG_RACE))
		access_place(number, event, thread, place);
}

/* There is more to an access of that word, or of another part of it, than that it is one. */
static void by_word(uint32_t number, const struct sv_event *event, struct thread *thread, struct word *word)
{
	bool is_read = event->kind == SV_READ || event->kind == SV_READ_ONCE;

	if (event->kind == SV_ATOMIC || (word->low != NO_LOW && word->low != (event->a & 7)))
		sc_use_place(word, event->a);
	if (word->bits & WORD_HAS_PLACE) {
		by_place(number, event, thread);
		return;
	}
	word->low = event->a & 7;
	if (word->bits & WORD_HAS_BOOKS && (!is_read || word->bits & WORD_HAS_READERS))
		enter_in_books(number, event, thread, sc_place_at(event->a));
	if (word->bits & WORD_IS_NEXT && event->kind == SV_READ_ONCE)
		sc_order_next_loaded(event, thread);
	if (!(word->bits & WORD_HAS_NO_ORDER) && thread->clock[word->thread] >= word->clock)
		judge_in_order(number, event->kind, thread, word);
	else
		judge_out_of_order(number, event, thread, word);
	if (word->bits & WORD_IS_NEXT && event->kind == SV_WRITE_ONCE)
		sc_order_next_stored(event, thread);
}

void sc_access(uint32_t number, const struct sv_event *event, struct thread *thread)
{
	struct word *word = sc_word_at(event->a);

	if (unlikely(!word)) {
		by_place(number, event, thread);
		return;
	}
	sc_word_begun(word);
	if (likely(event->kind != SV_ATOMIC && !(word->bits & ~WORD_IS_LISTED) && word->low == (event->a & 7) &&
		   thread->clock[word->thread] >= word->clock))
		judge_in_order(number, event->kind, thread, word);
	else
		by_word(number, event, thread, word);
}
