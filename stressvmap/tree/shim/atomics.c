// SPDX-License-Identifier: GPL-2.0-only
/* Atomic operations: a point, the change, the event (stressvmap/kernel/struct.py:AtomicLong). */
#include "shim.h"

static s64 load(const void *address, int bytes)
{
	switch (bytes) {
	case 1:
		return *(const s8 *)address;
	case 4:
		return *(const s32 *)address;
	default:
		return *(const s64 *)address;
	}
}

static void store(void *address, s64 value, int bytes)
{
	switch (bytes) {
	case 1:
		*(s8 *)address = (s8)value;
		break;
	case 4:
		*(s32 *)address = (s32)value;
		break;
	default:
		*(s64 *)address = value;
	}
	sv_mark_written(address, (size_t)bytes);
}

s64 sv_atomic_read(const void *address, int bytes, struct sv_name *name)
{
	s64 value;

	SV_SITE();
	sv_point(SV_READ_ONCE, (uint64_t)address, (uint32_t)bytes);
	sv_touch(SV_READ_ONCE, address, sv_name_number(name));
	value = load(address, bytes);
	sv_record(SV_READ_ONCE, (uint64_t)address, (uint32_t)bytes, (uint64_t)value);
	return value;
}

/* The point of a change, before which nothing of it has happened. */
static uint32_t stand_before(void *address, struct sv_name *name)
{
	uint32_t number = sv_name_number(name);

	sv_point(SV_ATOMIC, (uint64_t)address, number);
	sv_touch(SV_ATOMIC, address, number);
	return number;
}

void sv_atomic_set(void *address, s64 value, int bytes, struct sv_name *name)
{
	uint32_t number;

	SV_SITE();
	number = stand_before(address, name);
	store(address, value, bytes);
	sv_record(SV_ATOMIC, (uint64_t)address, number, (uint64_t)value);
}

s64 sv_atomic_fetch(void *address, enum sv_atomic_op op, s64 value, int bytes, struct sv_name *name)
{
	uint32_t number;
	s64 before, after;

	SV_SITE();
	number = stand_before(address, name);
	before = load(address, bytes);
	switch (op) {
	case SV_ADD:
		after = (s64)((uint64_t)before + (uint64_t)value);
		break;
	case SV_AND:
		after = before & value;
		break;
	case SV_OR:
		after = before | value;
		break;
	case SV_XOR:
		after = before ^ value;
		break;
	default:
		after = value;
	}
	store(address, after, bytes);
	sv_record(SV_ATOMIC, (uint64_t)address, number, (uint64_t)load(address, bytes));
	return before;
}

s64 sv_atomic_cmpxchg(void *address, s64 old, s64 value, int bytes, struct sv_name *name)
{
	uint32_t number;
	s64 before;

	SV_SITE();
	number = stand_before(address, name);
	before = load(address, bytes);
	if (before == (bytes == 4 ? (s32)old : bytes == 1 ? (s8)old : old))
		store(address, value, bytes);
	sv_record(SV_ATOMIC, (uint64_t)address, number, (uint64_t)load(address, bytes));
	return before;
}
