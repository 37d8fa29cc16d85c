/* SPDX-License-Identifier: GPL-2.0-only */
/* One access of the code under test: its point, what the shadow says of it, its entry in the journal. */
#ifndef SV_ACCESS_H
#define SV_ACCESS_H

#include <string.h>

#include "internal.h"

#define HERE __builtin_return_address(0)

SV_INLINE bool is_write(int kind)
{
	return kind == SV_WRITE || kind == SV_WRITE_ONCE;
}

/* Is any of the bytes one that the shadow has a bit for? Exact where it is cheap, else left to sv_heap_access. */
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

/* The point and the entry of one access; `may_cross`: it need not lie within one aligned word. */
SV_INLINE void access_at(struct sv_task *task, uint64_t address, size_t size, int kind, bool is_point, bool may_cross,
			 bool is_range, unsigned int flags)
{
	struct sv_event *event;

	if (is_point)
		sv_announce(task, kind, address, (uint32_t)size);
	if (address - sv_arena < sv_arena_used) {
		flags |= SV_ON_HEAP;
		if (unlikely(is_suspect(address, size)))
			sv_heap_access(task, kind, address, size, is_range);
	} else if (unlikely(address - (uintptr_t)sv_stacks.start < sv_stacks.reserved)) {
		flags |= SV_ON_STACK;
	}
	if (!is_write(kind)) {
		sv_append(task, kind, flags, address, (uint32_t)size, value_at(address, size));
		return;
	}
	event = sv_append(task, kind, flags, address, (uint32_t)size, 0);
	sv_unfilled_mask = may_cross || size > 8 ? 0 : ~UINT64_C(0) >> (64 - 8 * size);
	sv_unfilled = event;
}

#endif
