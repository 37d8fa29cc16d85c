// SPDX-License-Identifier: GPL-2.0-only
/*
 * Atomic operations of the code under test: each is one indivisible step, whatever its order, for the engine
 * knows sequential consistency only. A load and a store are marked accesses; the rest tells of the value
 * after it.
 */
#include "access.h"

SV_INLINE void enter(const volatile void *pointer, size_t size, int kind, const void *pc)
{
	struct sv_task *task = sv_current;
	uint64_t address = (uintptr_t)pointer;

	sv_fill();
	if (unlikely(sv_is_bare))
		return;
	task->pc = sv_place_of(pc);
	sv_announce(task, kind, address, (uint32_t)size);
	if (address - sv_arena < sv_arena_used && unlikely(is_suspect(address, size)))
		sv_heap_access(task, kind, address, size, false);
}

SV_INLINE void tell(const volatile void *pointer, size_t size, int kind)
{
	uint64_t address = (uintptr_t)pointer;
	unsigned int flags = address - sv_arena < sv_arena_used ? SV_ON_HEAP : 0;

	if (!sv_is_bare)
		sv_append(sv_current, kind, flags, address, (uint32_t)size, value_at(address, size));
}

#define DEFINE_CHANGE(type, bits, name, expression)                                                     \
	type __tsan_atomic##bits##_##name(volatile type *at, type value, int order);                    \
	type __tsan_atomic##bits##_##name(volatile type *at, type value, int order)                     \
	{                                                                                               \
		type old;                                                                               \
                                                                                                        \
		(void)order;                                                                            \
		enter(at, bits / 8, SV_ATOMIC, HERE);                                                   \
		old = *at;                                                                              \
		*at = (type)(expression);                                                               \
		tell(at, bits / 8, SV_ATOMIC);                                                          \
		return old;                                                                             \
	}

/* Returns the value found; it is replaced if it is `expected`. */
#define DEFINE_COMPARE_VALUE(type, bits)                                                                \
	type __tsan_atomic##bits##_compare_exchange_val(volatile type *at, type expected, type value,   \
							int order, int order_of_failure);               \
	type __tsan_atomic##bits##_compare_exchange_val(volatile type *at, type expected, type value,   \
							int order, int order_of_failure)                \
	{                                                                                               \
		type old;                                                                               \
                                                                                                        \
		(void)order, (void)order_of_failure;                                                    \
		enter(at, bits / 8, SV_ATOMIC, HERE);                                                   \
		old = *at;                                                                              \
		if (old == expected)                                                                    \
			*at = value;                                                                    \
		tell(at, bits / 8, SV_ATOMIC);                                                          \
		return old;                                                                             \
	}

/* The same, but returns whether it was, and leaves the value found where the caller expected it. */
#define DEFINE_COMPARE(type, bits, name)                                                                \
	int __tsan_atomic##bits##_##name(volatile type *at, type *expected, type value, int order,      \
					 int order_of_failure);                                         \
	int __tsan_atomic##bits##_##name(volatile type *at, type *expected, type value, int order,      \
					 int order_of_failure)                                          \
	{                                                                                               \
		type old;                                                                               \
                                                                                                        \
		(void)order, (void)order_of_failure;                                                    \
		enter(at, bits / 8, SV_ATOMIC, HERE);                                                   \
		old = *at;                                                                              \
		if (old == *expected)                                                                   \
			*at = value;                                                                    \
		tell(at, bits / 8, SV_ATOMIC);                                                          \
		if (old == *expected)                                                                   \
			return 1;                                                                       \
		*expected = old;                                                                        \
		return 0;                                                                               \
	}

#define DEFINE_ATOMICS(type, bits)                                                                      \
	type __tsan_atomic##bits##_load(const volatile type *at, int order);                            \
	void __tsan_atomic##bits##_store(volatile type *at, type value, int order);                     \
	type __tsan_atomic##bits##_load(const volatile type *at, int order)                             \
	{                                                                                               \
		(void)order;                                                                            \
		enter(at, bits / 8, SV_READ_ONCE, HERE);                                                \
		tell(at, bits / 8, SV_READ_ONCE);                                                       \
		return *at;                                                                             \
	}                                                                                               \
	void __tsan_atomic##bits##_store(volatile type *at, type value, int order)                      \
	{                                                                                               \
		(void)order;                                                                            \
		enter(at, bits / 8, SV_WRITE_ONCE, HERE);                                               \
		*at = value;                                                                            \
		tell(at, bits / 8, SV_WRITE_ONCE);                                                      \
	}                                                                                               \
	DEFINE_CHANGE(type, bits, exchange, value)                                                      \
	DEFINE_CHANGE(type, bits, fetch_add, old + value)                                               \
	DEFINE_CHANGE(type, bits, fetch_sub, old - value)                                               \
	DEFINE_CHANGE(type, bits, fetch_and, old & value)                                               \
	DEFINE_CHANGE(type, bits, fetch_or, old | value)                                                \
	DEFINE_CHANGE(type, bits, fetch_xor, old ^ value)                                               \
	DEFINE_CHANGE(type, bits, fetch_nand, ~(old & value))                                           \
	DEFINE_COMPARE_VALUE(type, bits)                                                                \
	DEFINE_COMPARE(type, bits, compare_exchange_strong)                                             \
	DEFINE_COMPARE(type, bits, compare_exchange_weak)

DEFINE_ATOMICS(uint8_t, 8)
DEFINE_ATOMICS(uint16_t, 16)
DEFINE_ATOMICS(uint32_t, 32)
DEFINE_ATOMICS(uint64_t, 64)

void __tsan_atomic_thread_fence(int order);
void __tsan_atomic_signal_fence(int order);

void __tsan_atomic_thread_fence(int order)
{
	(void)order;
}

void __tsan_atomic_signal_fence(int order)
{
	(void)order;
}
