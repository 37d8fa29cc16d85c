// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is known of each word of memory by its address alone: of most words nothing else is needed (screen_races.c).
 */
#include <sys/mman.h>

#include "screen_state.h"

#define STATIC_BYTES ((uint64_t)256 << 20) /* of static storage; what lies beyond has places only */

struct word *sc_heap_words, *sc_static_words;
uint64_t sc_heap_start, sc_heap_bytes, sc_static_start, sc_static_bytes;

static bool forget(struct word **words, uint64_t bytes)
{
	size_t size = bytes / 8 * sizeof(**words);

	if (*words)
		return !madvise(*words, size, MADV_DONTNEED);
	*words = sc_map_zeroed(size);
	return *words;
}

bool sc_words_reset(void)
{
	sc_heap_start = sv_arena_base();
	sc_heap_bytes = wants(SV_FLAG_RACE) ? SV_ARENA_BYTES : 0;
	sc_static_start = sc_static_bytes = 0;
	return forget(&sc_heap_words, SV_ARENA_BYTES) && forget(&sc_static_words, STATIC_BYTES);
}

/* Of each word of a struct: what an access there has to do besides. Returns how many words have anything. */
uint32_t sc_words_of_struct(const struct sv_screen_struct *one, uint8_t *bits)
{
	uint32_t count = 0;

	for (uint32_t at = 0; at < one->size; at++) {
		uint32_t first = one->field_of[at];
		uint8_t role = one->role_of[at] & SV_ROLES;

		if (first / 8 != at / 8) /* one place for the checks, several words */
			bits[first / 8] = bits[at / 8] |= WORD_HAS_PLACE;
		if (one->role_of[at] & SV_ROLE_NEXT)
			bits[at / 8] |= WORD_IS_NEXT;
		if (role)
			bits[at / 8] |= WORD_HAS_BOOKS;
		if (role == SV_ROLE_DIRTY_MIN || role == SV_ROLE_DIRTY_MAX || role == SV_ROLE_USED_MAP)
			bits[at / 8] |= WORD_HAS_READERS;
	}
	for (uint32_t n = 0; n <= one->size / 8; n++)
		count += bits[n] != 0;
	return count;
}

/* What is there in each run. */
void sc_words_fixed(uint64_t address, uint32_t size, uint32_t where)
{
	const uint8_t *bits = sc_struct_words(where);

	for (uint32_t at = 0; bits && at < size; at += 8) {
		struct word *word = sc_word_at(address + at);

		if (word)
			word->fixed |= bits[at / 8];
	}
}

void sc_words_global(uint64_t address, uint32_t size, uint32_t where)
{
	if (!sc_static_start)
		sc_static_start = address & ~UINT64_C(7);
	if (wants(SV_FLAG_RACE) && address + size - sc_static_start <= STATIC_BYTES)
		sc_static_bytes = address + size - sc_static_start;
	sc_words_fixed(address, size, where);
}

static void begin_all(const struct object *object, const uint8_t *bits, uint8_t in_each)
{
	for (uint32_t at = 0; at < object->size; at += 8) {
		struct word *word = sc_word_at(object->start + at);

		if (word)
			*word = (struct word){ .run = sc_run, .fixed = word->fixed, .low = NO_LOW,
					       .bits = in_each | word->fixed | (bits ? bits[at / 8] : 0) };
	}
}

void sc_words_new(const struct object *object)
{
	const uint8_t *bits = sc_struct_words(object->where);

	if (bits)
		begin_all(object, bits, 0);
}

/* Its places are forgotten; of one that is dead they know that there is nothing to say. */
void sc_words_forget(const struct object *object, bool is_dead)
{
	begin_all(object, sc_struct_words(object->where), is_dead ? WORD_HAS_PLACE : 0);
}

/* `found` has been put where readers of lists see it; `address` is in it. */
void sc_words_listed(const struct object *found, uint64_t address)
{
	uint64_t start = found->start;
	uint32_t size = found->size;

	if (found->element_size) {
		start += (address - start) / found->element_size * found->element_size;
		size = found->element_size;
	}
	for (uint32_t at = 0; at < size; at += 8) {
		struct word *word = sc_word_at(start + at);

		if (word)
			sc_word_begun(word)->bits |= WORD_IS_LISTED;
	}
}
