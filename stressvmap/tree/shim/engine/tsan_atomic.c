// SPDX-License-Identifier: GPL-2.0-only
/*
 * Atomic operations of the code under test: each is one indivisible step, whatever its order, for the engine knows
 * sequential consistency only. A load and a store are marked accesses; the rest tells of the value after it.
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

#define DEFINE_CHANGE(bits, name, expression)                                                                        \
	uint##bits##_t __tsan_atomic##bits##_##name(volatile uint##bits##_t *at, uint##bits##_t value, int order);   \
	uint##bits##_t __tsan_atomic##bits##_##name(volatile uint##bits##_t *at, uint##bits##_t value, int order)    \
	{                                                                                                            \
		uint##bits##_t old;                                                                                  \
                                                                                                                     \
		(void)order;                                                                                         \
		enter(at, bits / 8, SV_ATOMIC, HERE);                                                                \
		old = *at;                                                                                           \
		*at = (uint##bits##_t)(expression);                                                                  \
		tell(at, bits / 8, SV_ATOMIC);                                                                       \
		return old;                                                                                          \
	}

#define DEFINE_COMPARE(bits, name)                                                                                   \
	int __tsan_atomic##bits##_##name(volatile uint##bits##_t *at, uint##bits##_t *expected,                      \
					 uint##bits##_t value, int order, int failure_order);                        \
	int __tsan_atomic##bits##_##name(volatile uint##bits##_t *at, uint##bits##_t *expected,                      \
					 uint##bits##_t value, int order, int failure_order)                         \
	{                                                                                                            \
		uint##bits##_t old;                                                                                  \
                                                                                                                     \
		(void)order, (void)failure_order;                                                                    \
		enter(at, bits / 8, SV_ATOMIC, HERE);                                                                \
		old = *at;                                                                                           \
		if (old == *expected)                                                                                \
			*at = value;                                                                                 \
		tell(at, bits / 8, SV_ATOMIC);                                                                       \
		if (old == *expected)                                                                                \
			return 1;                                                                                    \
		*expected = old;                                                                                     \
		return 0;                                                                                            \
	}

#define DEFINE_ATOMICS(bits)                                                                                         \
	uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t *at, int order);                     \
	void __tsan_atomic##bits##_store(volatile uint##bits##_t *at, uint##bits##_t value, int order);              \
	uint##bits##_t __tsan_atomic##bits##_compare_exchange_val(                                                   \
		volatile uint##bits##_t *at, uint##bits##_t expected, uint##bits##_t value, int order, int failure); \
	uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t *at, int order)                      \
	{                                                                                                            \
		(void)order;                                                                                         \
		enter(at, bits / 8, SV_READ_ONCE, HERE);                                                             \
		tell(at, bits / 8, SV_READ_ONCE);                                                                    \
		return *at;                                                                                          \
	}                                                                                                            \
	void __tsan_atomic##bits##_store(volatile uint##bits##_t *at, uint##bits##_t value, int order)               \
	{                                                                                                            \
		(void)order;                                                                                         \
		enter(at, bits / 8, SV_WRITE_ONCE, HERE);                                                            \
		*at = value;                                                                                         \
		tell(at, bits / 8, SV_WRITE_ONCE);                                                                   \
	}                                                                                                            \
	uint##bits##_t __tsan_atomic##bits##_compare_exchange_val(                                                   \
		volatile uint##bits##_t *at, uint##bits##_t expected, uint##bits##_t value, int order, int failure)  \
	{                                                                                                            \
		uint##bits##_t old;                                                                                  \
                                                                                                                     \
		(void)order, (void)failure;                                                                          \
		enter(at, bits / 8, SV_ATOMIC, HERE);                                                                \
		old = *at;                                                                                           \
		if (old == expected)                                                                                 \
			*at = value;                                                                                 \
		tell(at, bits / 8, SV_ATOMIC);                                                                       \
		return old;                                                                                          \
	}                                                                                                            \
	DEFINE_CHANGE(bits, exchange, value)                                                                         \
	DEFINE_CHANGE(bits, fetch_add, old + value)                                                                  \
	DEFINE_CHANGE(bits, fetch_sub, old - value)                                                                  \
	DEFINE_CHANGE(bits, fetch_and, old & value)                                                                  \
	DEFINE_CHANGE(bits, fetch_or, old | value)                                                                   \
	DEFINE_CHANGE(bits, fetch_xor, old ^ value)                                                                  \
	DEFINE_CHANGE(bits, fetch_nand, ~(old & value))                                                              \
	DEFINE_COMPARE(bits, compare_exchange_strong)                                                                \
	DEFINE_COMPARE(bits, compare_exchange_weak)

DEFINE_ATOMICS(8)
DEFINE_ATOMICS(16)
DEFINE_ATOMICS(32)
DEFINE_ATOMICS(64)

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
