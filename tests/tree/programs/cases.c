// SPDX-License-Identifier: GPL-2.0-only
/* Code under test: compiled with -fsanitize=thread, so that each access comes to the engine. */
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>

#include "cases.h"

struct thing {
	uint64_t first;
	uint32_t second;
	uint32_t third;
};

struct packed {
	uint8_t one;
	uint64_t value;
} __attribute__((packed));

/*
 * Volatile only where a case is about that: `hide` keeps the compiler from knowing what a pointer points to.
 */
#define hide(pointer)                                                   \
	({                                                              \
		__auto_type hidden_ = (pointer);                        \
		__asm__ volatile("" : "+r"(hidden_) : : "memory");      \
		hidden_;                                                \
	})

uint64_t counter;
struct thing things[4] = { { 1, 2, 3 }, { 4, 5, 6 }, { 7, 8, 9 }, { 10, 11, 12 } };
uint8_t bytes[32] = { 1 };
volatile uint32_t flag;
uint64_t *shared_pointer;
static const uint64_t constant = 5;

void case_increment(uint32_t n)
{
	uint64_t *place = hide(&counter);

	for (uint32_t i = 0; i < n; i++) {
		*place += 1;
		__asm__ volatile("" : : : "memory");
	}
}

void case_increment_locked(uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		lock();
		case_increment(1);
		unlock();
	}
}

void case_write_sizes(uint32_t n)
{
	uint8_t *at = hide(bytes);

	*at = 0x81;
	*(uint16_t *)(at + 2) = 0x8283;
	*(uint32_t *)(at + 4) = 0x84858687;
	*(uint64_t *)(at + 8) = UINT64_C(0x88898a8b8c8d8e8f) + n;
	flag = 7;
}

void case_write_unaligned(uint32_t n)
{
	struct packed *at = hide((struct packed *)bytes);

	at->value = UINT64_C(0x1122334455667788) + n;
}

void case_copy(uint32_t n)
{
	struct thing *to = hide(&things[1]);

	*to = *hide(&things[n]);
}

static __attribute__((noinline)) struct thing *make(bool zeroed)
{
	return hide((struct thing *)allocate(sizeof(struct thing), "thing", zeroed));
}

void case_read_after_free(uint32_t n)
{
	struct thing *thing = make(true);

	thing->second = n;
	release(thing);
	counter = thing->second;
}

void case_write_after_free(uint32_t n)
{
	struct thing *thing = make(true);

	release(thing);
	thing->third = n;
}

void case_free_twice(uint32_t n)
{
	struct thing *thing = make(true);

	(void)n;
	release(thing);
	release(thing);
}

void case_read_unwritten(uint32_t n)
{
	struct thing *thing = make(false);

	hide(thing)->second = n;
	counter = hide(thing)->second;
	counter = hide(thing)->third;
	hide(thing)->third = n;
	counter = hide(thing)->third;
}

void case_read_racy(uint32_t n)
{
	(void)n;
	sv_data_race_begin();
	counter = hide(&things[0])->first;
	sv_data_race_end();
}

void case_read_beyond(uint32_t n)
{
	counter = hide(make(true) + 1)->first + n;
}

void case_use_stack(uint32_t n)
{
	uint64_t local[4] = { n };

	for (int i = 1; i < 4; i++)
		hide(local)[i] = hide(local)[i - 1];
}

void case_leave_on_stack(uint32_t n)
{
	uint64_t local[4096];

	for (int i = 0; i < 4096; i++)
		hide(local)[i] = n;
	case_increment(1); /* below it */
}

/* Reads what nobody wrote. */
void case_read_from_stack(uint32_t n)
{
	uint64_t local[4096];

	counter = hide(local)[n];
}

/* The first task lends a variable on its stack to the others. */
void case_share_stack(uint32_t n)
{
	uint64_t local = n;

	if (shared_pointer) {
		*shared_pointer += 1;
		return;
	}
	shared_pointer = hide(&local);
	case_points(100);
	shared_pointer = NULL;
}

void case_dirty(uint32_t n)
{
	for (int i = 0; i < 4; i++)
		hide(things)[i].first += n;
	for (int i = 0; i < 32; i++)
		hide(bytes)[i] ^= 0xff;
	counter = n;
	flag = n;
}

void case_atomics(uint32_t n)
{
	uint64_t expected = 1;

	__atomic_fetch_add(&counter, n, __ATOMIC_SEQ_CST);
	__atomic_compare_exchange_n(&counter, &expected, 9, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	__atomic_store_n(&counter, __atomic_load_n(&counter, __ATOMIC_ACQUIRE) * 2, __ATOMIC_RELEASE);
}

/* ---------------------------------------------------------------- what ends a task, or a run */

void case_read_null(uint32_t n)
{
	counter = hide((struct thing *)NULL)->second + n;
}

void case_write_null(uint32_t n)
{
	hide((struct thing *)NULL)->second = n;
}

void case_read_wild(uint32_t n)
{
	(void)n;
	counter = *hide((uint64_t *)UINT64_C(0x123456789abcdef0));
}

/* The pointer itself is memory that nobody wrote. */
void case_read_uninitialised_pointer(uint32_t n)
{
	struct thing *thing = *hide((struct thing **)make(false));

	counter = thing->second + n;
}

void case_read_error_pointer(uint32_t n)
{
	counter = hide((struct thing *)(intptr_t)-12)->first + n;
}

void case_write_constant(uint32_t n)
{
	*hide((uint64_t *)&constant) = n;
}

void case_call_null(uint32_t n)
{
	hide((void (*)(uint32_t))NULL)(n);
}

void case_divide(uint32_t n)
{
	counter = hide(1000u) / hide(n);
}

void case_abort_here(uint32_t n)
{
	(void)n;
	abort();
}

void case_trap(uint32_t n)
{
	(void)n;
	__builtin_trap();
}

static uint64_t deeper(uint64_t depth)
{
	uint64_t local[32] = { depth };

	return deeper(hide(local)[0] + 1) + hide(local)[1];
}

void case_overflow(uint32_t n)
{
	counter = deeper(n);
}

void case_loop_quiet(uint32_t n)
{
	(void)n;
	for (;;)
		__asm__ volatile("");
}

void case_loop_plain(uint32_t n)
{
	while (*hide(&counter) != UINT64_MAX)
		__asm__ volatile("" : : "r"(n) : "memory");
}

void case_loop_volatile(uint32_t n)
{
	(void)n;
	while (flag != 99)
		;
}

/* Ctrl-C while a task runs. */
void case_interrupt_here(uint32_t n)
{
	raise(SIGINT);
	case_increment(n);
}
