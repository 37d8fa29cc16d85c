/* SPDX-License-Identifier: GPL-2.0-only */
/* Sets of 64-bit numbers that are not 0, in tables with open addressing: the states that a search has seen. */
#ifndef SV_SET_H
#define SV_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define SEEN_FIRST ((size_t)1 << 16)
#define SEEN_MOST ((size_t)1 << 27) /* 1 GiB; what does not fit is explored more than once */

struct set {
	uint64_t *numbers;
	size_t size, count;
};

static inline size_t place_in(const struct set *set, uint64_t number)
{
	size_t at = number * UINT64_C(0x9e3779b97f4a7c15) >> 20 & (set->size - 1);

	while (set->numbers[at] && set->numbers[at] != number)
		at = (at + 1) & (set->size - 1);
	return at;
}

static inline bool grow(struct set *set)
{
	struct set larger = { NULL, set->size ? set->size * 2 : SEEN_FIRST, set->count };

	if (larger.size > SEEN_MOST)
		return false;
	larger.numbers = calloc(larger.size, sizeof(uint64_t));
	if (!larger.numbers)
		return false;
	for (size_t i = 0; i < set->size; i++)
		if (set->numbers[i])
			larger.numbers[place_in(&larger, set->numbers[i])] = set->numbers[i];
	free(set->numbers);
	*set = larger;
	return true;
}

static inline bool contains(const struct set *set, uint64_t number)
{
	number = number ? number : 1;
	return set->size && set->numbers[place_in(set, number)] == number;
}

/*
 * Between executions, for it takes its time, and a task whose step takes that long would be taken to loop for ever. An
 * execution seldom comes to as many states as there is room for then; what does not fit is explored more than once.
 */
static inline void make_room(struct set *set)
{
	while (set->count >= set->size / 4 && grow(set))
		;
}

/* False: it was there. */
static inline bool insert(struct set *set, uint64_t number)
{
	size_t at;

	number = number ? number : 1;
	if (set->count >= set->size / 8 * 7)
		return true;
	at = place_in(set, number);
	if (set->numbers[at])
		return false;
	set->numbers[at] = number;
	set->count++;
	return true;
}

static inline void clear(struct set *set)
{
	free(set->numbers);
	*set = (struct set){ NULL, 0, 0 };
}

#endif
