// SPDX-License-Identifier: GPL-2.0-only
/* Locks against their rules (checks/lock_discipline.py), and their classes taken in a circle (checks/lock_order.py). */
#include <string.h>

#include "screen_state.h"

#define BY_TRYLOCK 2 /* what LOCK says of an acquisition that would not have waited */

static uint64_t inside[CLASSES]; /* by class: those asked for while it was held, a bit each */

void sc_locks_begin(void)
{
	memset(inside, 0, sizeof(inside));
}

static bool is_way(uint32_t from, uint32_t to)
{
	uint64_t reached = UINT64_C(1) << from, fresh = reached, next;

	while (fresh && !(reached >> to & 1)) {
		for (next = 0; fresh; fresh &= fresh - 1)
			next |= inside[__builtin_ctzll(fresh)];
		fresh = next & ~reached;
		reached |= next;
	}
	return reached >> to & 1;
}

/* A lock is asked for while others are held: each pair of classes that is new may close a circle. */
static void ordered(uint32_t number, const struct thread *thread, const struct lock *lock)
{
	for (uint32_t n = 0; n < thread->n_held; n++) {
		const struct lock *held = thread->held[n].lock;

		if (thread->held[n].at == number || held == lock || inside[held->class] >> lock->class & 1)
			continue;
		inside[held->class] |= UINT64_C(1) << lock->class;
		if (is_way(lock->class, held->class))
			flag(SV_FLAG_LOCKS);
	}
}

static void count_classes(struct thread *thread)
{
	thread->classes = 0;
	thread->n_purge_held = 0;
	for (uint32_t n = 0; n < thread->n_held; n++) {
		thread->classes |= UINT64_C(1) << thread->held[n].lock->class;
		thread->n_purge_held += thread->held[n].lock->is_purge_lock;
	}
}

static int held_number(const struct thread *thread, const struct lock *lock)
{
	for (uint32_t n = thread->n_held; n--;)
		if (thread->held[n].lock == lock)
			return (int)n;
	return -1;
}

void sc_locked(uint32_t number, const struct sv_event *event, struct thread *thread)
{
	struct lock *lock = sc_lock_find(event->a);

	if (thread->n_held == HELD) {
		flag(SV_FLAG_TOO_LARGE);
		return;
	}
	thread->held[thread->n_held++] = (struct held){ lock, number };
	count_classes(thread);
	if (lock->is_purge_lock)
		thread->points_at_lock = thread->points;
	if (lock->is_block_lock)
		sc_block_locked(number, thread, lock);
	if (thread->n_held > 1 && event->c != BY_TRYLOCK)
		ordered(number, thread, lock);
	if (wants(SV_FLAG_RACE))
		sc_order_locked(event, thread, lock);
}

void sc_unlocked(const struct sv_event *event, struct thread *thread)
{
	struct lock *lock = sc_lock_find(event->a);
	int at = held_number(thread, lock);

	if (at < 0) {
		flag(SV_FLAG_LOCKS);
	} else {
		memmove(thread->held + at, thread->held + at + 1,
			(thread->n_held - (uint32_t)at - 1) * sizeof(thread->held[0]));
		thread->n_held--;
		count_classes(thread);
		if (lock->is_purge_lock && sc_setup.limit_hold_points >= 0 &&
		    thread->points - thread->points_at_lock > (uint64_t)sc_setup.limit_hold_points)
			flag(SV_FLAG_LIMIT);
	}
	if (lock->is_block_lock)
		sc_block_unlocked(lock);
	if (wants(SV_FLAG_RACE))
		sc_order_unlocked(thread, lock);
}

void sc_waited(const struct sv_event *event, struct thread *thread)
{
	const struct lock *lock = sc_lock_find(event->a);

	if (thread->n_held)
		ordered(NOWHERE, thread, lock);
	if (held_number(thread, lock) >= 0)
		flag(SV_FLAG_LOCKS);
}

void sc_asserted(const struct sv_event *event, struct thread *thread)
{
	if (held_number(thread, sc_lock_find(event->a)) < 0)
		flag(SV_FLAG_LOCKS);
}

/* The outermost call is over: it holds nothing that it took, and is no reader. */
void sc_call_over(struct thread *thread, const struct call *call)
{
	if (thread->rcu_depth)
		flag(SV_FLAG_LOCKS);
	for (uint32_t n = 0; n < thread->n_held; n++)
		if (thread->held[n].at > call->begin)
			flag(SV_FLAG_LOCKS);
}
