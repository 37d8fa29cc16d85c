// SPDX-License-Identifier: GPL-2.0-only
/* Spinlocks and mutexes: stressvmap/kernel/locks.py, call for call. */
#include "shim.h"

void sv_lock_init(struct sv_lock *lock)
{
	*lock = (struct sv_lock)SV_UNLOCKED;
	sv_mark_written(lock, sizeof(*lock));
	sv_note(SV_MEMORY, (uint64_t)lock, SV_CHANGES);
}

/*
 * One that was zeroed and never initialised works, as it does without CONFIG_DEBUG_SPINLOCK. A lock may lie in whatever
 * memory the code under test takes for one: what it points to is written to below.
 */
static void check_is_lock(const struct sv_lock *lock)
{
	if (unlikely((lock->magic != SV_LOCK_MAGIC && lock->magic != 0) || (lock->owner && !sv_is_task(lock->owner))))
		sv_bug("lock that nobody initialised");
	for (const struct sv_waiter *waiter = lock->waiters; unlikely(waiter != NULL); waiter = waiter->next)
		if (!sv_owner_of_stack((uint64_t)waiter) || !sv_is_task(waiter->task))
			sv_bug("lock that nobody initialised");
}

static void take(struct sv_lock *lock, uint32_t lock_class, uint64_t how)
{
	lock->owner = sv_current;
	sv_current->held++;
	sv_record(SV_LOCK, (uint64_t)lock, lock_class, how);
}

static void acquire(struct sv_lock *lock, uint32_t lock_class)
{
	struct sv_task *task = sv_current;
	uint64_t waited = 0;

	for (;;) {
		struct sv_waiter waiter = { .next = lock->waiters, .task = task };

		sv_touch(SV_LOCK, lock, lock_class); /* dead now, or since it was waited for */
		check_is_lock(lock);
		if (!lock->owner)
			break;
		waited = 1;
		sv_record(SV_LOCK_WAIT, (uint64_t)lock, lock_class, (uint64_t)lock->owner->id);
		task->blocked_object = (uint64_t)lock;
		task->blocked_class = lock_class;
		task->blocked_owner = lock->owner->id;
		lock->waiters = &waiter;
		while (waiter.task) /* until a release takes it off the list */
			sv_park();
	}
	take(lock, lock_class, waited);
}

static void release(struct sv_lock *lock, uint32_t lock_class)
{
	struct sv_task *owner;
	struct sv_waiter *waiter;

	sv_point(SV_UNLOCK, (uint64_t)lock, lock_class);
	sv_touch(SV_UNLOCK, lock, lock_class);
	check_is_lock(lock);
	owner = lock->owner;
	sv_record(SV_UNLOCK, (uint64_t)lock, lock_class, owner ? (uint64_t)owner->id : 0);
	if (owner)
		owner->held--;
	lock->owner = NULL;
	waiter = lock->waiters;
	if (waiter)
		sv_note(SV_WAITERS, (uint64_t)lock, SV_CHANGES);
	lock->waiters = NULL;
	while (waiter) {
		struct sv_waiter *next = waiter->next;
		struct sv_task *task = waiter->task;

		waiter->task = NULL;
		sv_wake(task);
		waiter = next;
	}
}

static bool try_to_take(struct sv_lock *lock, uint32_t lock_class)
{
	sv_touch(SV_LOCK, lock, lock_class);
	check_is_lock(lock);
	if (lock->owner) {
		sv_record(SV_TRYLOCK_FAILED, (uint64_t)lock, lock_class, (uint64_t)lock->owner->id);
		return false;
	}
	take(lock, lock_class, 2);
	return true;
}

static void spin_acquire(struct sv_lock *lock, uint32_t lock_class)
{
	sv_point(SV_LOCK, (uint64_t)lock, lock_class);
	sv_preempt_disable();
	acquire(lock, lock_class);
}

static void spin_release(struct sv_lock *lock, uint32_t lock_class)
{
	release(lock, lock_class);
	sv_preempt_enable();
}

static void mutex_acquire(struct sv_lock *lock, uint32_t lock_class)
{
	sv_might_sleep("mutex_lock");
	sv_point(SV_LOCK, (uint64_t)lock, lock_class);
	acquire(lock, lock_class);
}

void sv_spin_lock(struct sv_lock *lock, struct sv_name *name)
{
	SV_SITE();
	spin_acquire(lock, sv_name_number(name));
}

void sv_spin_unlock(struct sv_lock *lock, struct sv_name *name)
{
	SV_SITE();
	spin_release(lock, sv_name_number(name));
}

int sv_spin_trylock(struct sv_lock *lock, struct sv_name *name)
{
	uint32_t lock_class = sv_name_number(name);

	SV_SITE();
	sv_point(SV_LOCK, (uint64_t)lock, lock_class);
	sv_preempt_disable();
	if (try_to_take(lock, lock_class))
		return 1;
	sv_preempt_enable();
	return 0;
}

void sv_spin_lock_irq(struct sv_lock *lock, struct sv_name *name)
{
	uint32_t lock_class = sv_name_number(name);

	SV_SITE();
	sv_point(SV_LOCK, (uint64_t)lock, lock_class);
	sv_local_irq_disable();
	acquire(lock, lock_class);
}

void sv_spin_unlock_irq(struct sv_lock *lock, struct sv_name *name)
{
	SV_SITE();
	release(lock, sv_name_number(name));
	sv_local_irq_enable();
}

void sv_mutex_lock(struct sv_lock *lock, struct sv_name *name)
{
	SV_SITE();
	mutex_acquire(lock, sv_name_number(name));
}

void sv_mutex_unlock(struct sv_lock *lock, struct sv_name *name)
{
	SV_SITE();
	release(lock, sv_name_number(name));
}

int sv_mutex_trylock(struct sv_lock *lock, struct sv_name *name)
{
	uint32_t lock_class = sv_name_number(name);

	SV_SITE();
	sv_point(SV_LOCK, (uint64_t)lock, lock_class);
	return try_to_take(lock, lock_class);
}

int sv_lock_is_held(const struct sv_lock *lock)
{
	sv_note(SV_MEMORY, (uint64_t)lock, SV_LOOKS);
	return lock->owner != NULL;
}

int sv_lock_is_held_by_me(const struct sv_lock *lock)
{
	return lock->owner == sv_current;
}

int sv_lock_is_contended(const struct sv_lock *lock)
{
	sv_note(SV_WAITERS, (uint64_t)lock, SV_LOOKS);
	return lock->waiters != NULL;
}

/* The check decides whether it is held. */
void sv_assert_held(struct sv_lock *lock, struct sv_name *name)
{
	SV_SITE();
	sv_record(SV_ASSERT_HELD, (uint64_t)lock, sv_name_number(name), 0);
}

int sv_cond_resched_lock(struct sv_lock *lock, struct sv_name *name)
{
	SV_SITE();
	if (!sv_lock_is_contended(lock))
		return 0;
	spin_release(lock, sv_name_number(name));
	spin_acquire(lock, sv_name_number(name));
	return 1;
}

struct sv_guard sv_guard_spinlock_begin(struct sv_lock *lock, struct sv_name *name)
{
	SV_SITE();
	spin_acquire(lock, sv_name_number(name));
	return (struct sv_guard){ lock, name };
}

struct sv_guard sv_guard_mutex_begin(struct sv_lock *lock, struct sv_name *name)
{
	SV_SITE();
	mutex_acquire(lock, sv_name_number(name));
	return (struct sv_guard){ lock, name };
}

void sv_guard_spinlock_end(struct sv_guard *guard)
{
	SV_SITE();
	spin_release(guard->lock, sv_name_number(guard->name));
}

void sv_guard_mutex_end(struct sv_guard *guard)
{
	SV_SITE();
	release(guard->lock, sv_name_number(guard->name));
}
