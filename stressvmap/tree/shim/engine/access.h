/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One access of the code under test: its point, what the shadow says of it, its entry in the journal.
 *
 * Nearly always there is nothing to do but count and write the entry; that is inlined into each callback,
 * with no call in it that would make it save registers. Where anything else is due, nothing of the access has
 * been done yet, and sv_access_slowly does all of it.
 */
#ifndef SV_ACCESS_H
#define SV_ACCESS_H

#include <string.h>

#include "internal.h"

#define HERE __builtin_return_address(0)

enum access_is {
	IS_WRITE = 1,
	IS_MARKED = 2,
	IS_UNALIGNED = 4, /* it need not lie within one aligned word */
	IS_RANGE = 8,	  /* a copy: holes in a structure are copied with it */
};

void sv_access_slowly(uint64_t address, size_t size, unsigned int is, uint32_t pc);

SV_INLINE int access_kind(unsigned int is)
{
	if (is & IS_MARKED)
		return is & IS_WRITE ? SV_WRITE_ONCE : SV_READ_ONCE;
	return is & IS_WRITE ? SV_WRITE : SV_READ;
}

/* Has the shadow a bit for any of the bytes? Exact up to 8 of them, else sv_heap_access finds out. */
SV_INLINE bool is_suspect(uint64_t address, size_t size)
{
	const uint8_t *shadow = &sv_shadow[(address - sv_arena) / 8];

	if (size > 8)
		return true;
	return (shadow[0] | shadow[1] << 8) & ((1u << size) - 1) << (address & 7);
}

SV_INLINE uint64_t value_at(uint64_t address, size_t size)
{
	uint64_t value = 0;

	memcpy(&value, (const void *)(uintptr_t)address, size < 8 ? size : 8);
	return value;
}

SV_INLINE uint64_t value_mask(size_t size, unsigned int is)
{
	return is & IS_UNALIGNED || size > 8 ? 0 : ~UINT64_C(0) >> (64 - 8 * size);
}

SV_INLINE void access(const void *pointer, size_t size, unsigned int is, const void *pc)
{
	struct sv_task *task = sv_current;
	uint64_t address = (uintptr_t)pointer;
	struct sv_event *event = sv_unfilled;
	bool is_point = is & IS_MARKED || sv_config.points_all;
	unsigned int flags = 0;

	if (event) {
		if (unlikely(!sv_unfilled_mask))
			goto slowly;
		event->c = sv_word_at(event->a) & sv_unfilled_mask;
		sv_unfilled = NULL;
	}
	if (is & IS_MARKED ? sv_is_bare : address - sv_own_stack < sv_own_stack_size)
		return;
	event = sv_next_event;
	if (unlikely(task->race_depth || event == sv_event_limit))
		goto slowly;
	if (is_point && unlikely(sv_points + 1 >= sv_attend_at))
		goto slowly;
	if (address - sv_arena < sv_arena_used) {
		flags = SV_ON_HEAP;
		if (unlikely(is_suspect(address, size)))
			goto slowly;
	}
	task->pc = sv_place_of(pc);
	if (is_point) {
		sv_points++;
		task->pending_kind = access_kind(is);
		task->pending_object = address;
		task->pending_field = (uint32_t)size;
	} else {
		task->touched = address;
	}
	sv_write_event(event, task, access_kind(is), flags, address, (uint32_t)size,
		       is & IS_WRITE ? 0 : value_at(address, size));
	if (is & IS_WRITE) {
		sv_unfilled_mask = value_mask(size, is);
		sv_unfilled = event;
	}
	return;
slowly:
	sv_access_slowly(address, size, is, sv_place_of(pc));
}

#endif
