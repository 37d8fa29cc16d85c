/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * <linux/bitmap.h>, <linux/find.h> and the non-atomic bit operations. Inline, so that their accesses are the accesses
 * of the function that makes them.
 */
#ifndef SV_BITMAP_H
#define SV_BITMAP_H

#define BITS_TO_LONGS(n) (((n) + SV_LONG_BITS - 1) / SV_LONG_BITS)
#define DECLARE_BITMAP(name, bits) unsigned long name[BITS_TO_LONGS(bits)]
#define BIT_MASK(n) (1UL << ((n) % SV_LONG_BITS))
#define BIT_WORD(n) ((n) / SV_LONG_BITS)

static inline __maybe_unused bool test_bit(unsigned long n, const volatile unsigned long *map)
{
	return map[BIT_WORD(n)] & BIT_MASK(n);
}

static inline __maybe_unused void __set_bit(unsigned long n, unsigned long *map)
{
	map[BIT_WORD(n)] |= BIT_MASK(n);
}

static inline __maybe_unused void __clear_bit(unsigned long n, unsigned long *map)
{
	map[BIT_WORD(n)] &= ~BIT_MASK(n);
}

static inline __maybe_unused bool __test_and_set_bit(unsigned long n, unsigned long *map)
{
	bool was_set = map[BIT_WORD(n)] & BIT_MASK(n);

	map[BIT_WORD(n)] |= BIT_MASK(n);
	return was_set;
}

static inline __maybe_unused bool __test_and_clear_bit(unsigned long n, unsigned long *map)
{
	bool was_set = map[BIT_WORD(n)] & BIT_MASK(n);

	map[BIT_WORD(n)] &= ~BIT_MASK(n);
	return was_set;
}

/* The part of the word `word` that lies in [start, end). */
static inline __maybe_unused unsigned long sv_bits_of_word(unsigned long word, unsigned long start, unsigned long end)
{
	unsigned long first = word * SV_LONG_BITS, bits = ~0UL;

	if (start > first)
		bits &= ~0UL << (start - first);
	if (end < first + SV_LONG_BITS)
		bits &= ~(~0UL << (end - first));
	return bits;
}

static inline __maybe_unused void bitmap_set(unsigned long *map, unsigned int start, unsigned int n)
{
	for (unsigned long word = BIT_WORD(start); n && word <= BIT_WORD(start + n - 1); word++)
		map[word] |= sv_bits_of_word(word, start, start + n);
}

static inline __maybe_unused void bitmap_clear(unsigned long *map, unsigned int start, unsigned int n)
{
	for (unsigned long word = BIT_WORD(start); n && word <= BIT_WORD(start + n - 1); word++)
		map[word] &= ~sv_bits_of_word(word, start, start + n);
}

static inline __maybe_unused void bitmap_zero(unsigned long *map, unsigned int bits)
{
	for (unsigned long word = 0; word < BITS_TO_LONGS(bits); word++)
		map[word] = 0;
}

static inline __maybe_unused void bitmap_fill(unsigned long *map, unsigned int bits)
{
	for (unsigned long word = 0; word < BITS_TO_LONGS(bits); word++)
		map[word] = ~0UL;
}

static inline __maybe_unused unsigned long sv_find_bit(const unsigned long *map, unsigned long size,
						       unsigned long start, bool wanted)
{
	for (unsigned long n = start; n < size; n = (BIT_WORD(n) + 1) * SV_LONG_BITS) {
		unsigned long word = (wanted ? map[BIT_WORD(n)] : ~map[BIT_WORD(n)]) & (~0UL << (n % SV_LONG_BITS));

		if (word) {
			n = BIT_WORD(n) * SV_LONG_BITS + __ffs(word);
			return n < size ? n : size;
		}
	}
	return size;
}
#define find_next_bit(map, size, start) sv_find_bit(map, size, start, true)
#define find_next_zero_bit(map, size, start) sv_find_bit(map, size, start, false)
#define find_first_bit(map, size) sv_find_bit(map, size, 0, true)
#define find_first_zero_bit(map, size) sv_find_bit(map, size, 0, false)
#define for_each_set_bit(n, map, size) \
	for ((n) = find_first_bit(map, size); (n) < (size); (n) = find_next_bit(map, size, (n) + 1))
#define for_each_clear_bit(n, map, size) \
	for ((n) = find_first_zero_bit(map, size); (n) < (size); (n) = find_next_zero_bit(map, size, (n) + 1))
#define for_each_set_bitrange(first, end, map, size) \
	for ((first) = find_first_bit(map, size), (end) = find_next_zero_bit(map, size, first); (first) < (size); \
	     (first) = find_next_bit(map, size, end), (end) = find_next_zero_bit(map, size, first))
#define for_each_clear_bitrange(first, end, map, size) \
	for ((first) = find_first_zero_bit(map, size), (end) = find_next_bit(map, size, first); (first) < (size); \
	     (first) = find_next_zero_bit(map, size, end), (end) = find_next_bit(map, size, first))

static inline __maybe_unused bool bitmap_empty(const unsigned long *map, unsigned int bits)
{
	return find_first_bit(map, bits) == bits;
}

static inline __maybe_unused bool bitmap_full(const unsigned long *map, unsigned int bits)
{
	return find_first_zero_bit(map, bits) == bits;
}

static inline __maybe_unused unsigned int bitmap_weight(const unsigned long *map, unsigned int bits)
{
	unsigned int weight = 0;

	for (unsigned long word = 0; word < BITS_TO_LONGS(bits); word++)
		weight += hweight_long(map[word] & sv_bits_of_word(word, 0, bits));
	return weight;
}

static inline __maybe_unused unsigned long bitmap_find_next_zero_area(unsigned long *map, unsigned long size,
								      unsigned long start, unsigned int n,
								      unsigned long align_mask)
{
	for (;;) {
		unsigned long first = (find_next_zero_bit(map, size, start) + align_mask) & ~align_mask, set;

		if (first + n > size)
			return first + n;
		set = find_next_bit(map, first + n, first);
		if (set >= first + n)
			return first;
		start = set + 1;
	}
}

#endif
