/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * <linux/spinlock.h>, <linux/mutex.h>, <linux/lockdep.h>: stressvmap/kernel/locks.py. Any waiter may get a released
 * lock, whichever runs first. A lock's class is what the macro's argument says.
 */
#ifndef SV_LOCK_H
#define SV_LOCK_H

struct sv_waiter {
	struct sv_waiter *next;
	struct sv_task *task;
};

/* Invariant: `owner` is the one task between lock and unlock in the journal, or NULL. */
struct sv_lock {
	struct sv_task *owner;
	struct sv_waiter *waiters; /* on their own stacks, the last that came first */
	uint32_t magic;
};
#define SV_LOCK_MAGIC 0x10c4ed
#define SV_UNLOCKED { NULL, NULL, SV_LOCK_MAGIC }

typedef struct {
	struct sv_lock sv;
} spinlock_t, raw_spinlock_t;
typedef struct {
	struct sv_lock sv;
} rwlock_t;
struct mutex {
	struct sv_lock sv;
};
struct lock_class_key {
	int unused;
};

#define __SPIN_LOCK_UNLOCKED(name) { SV_UNLOCKED }
#define __MUTEX_INITIALIZER(name) { SV_UNLOCKED }
#define DEFINE_SPINLOCK(name) spinlock_t name = { SV_UNLOCKED }
#define DEFINE_RAW_SPINLOCK(name) raw_spinlock_t name = { SV_UNLOCKED }
#define DEFINE_MUTEX(name) struct mutex name = { SV_UNLOCKED }
void sv_lock_init(struct sv_lock *lock);
#define spin_lock_init(lock) sv_lock_init(&(lock)->sv)
#define raw_spin_lock_init(lock) sv_lock_init(&(lock)->sv)
#define mutex_init(lock) sv_lock_init(&(lock)->sv)
#define mutex_destroy(lock) do { } while (0)

void sv_spin_lock(struct sv_lock *lock, struct sv_name *name);
void sv_spin_unlock(struct sv_lock *lock, struct sv_name *name);
int sv_spin_trylock(struct sv_lock *lock, struct sv_name *name);
void sv_spin_lock_irq(struct sv_lock *lock, struct sv_name *name);
void sv_spin_unlock_irq(struct sv_lock *lock, struct sv_name *name);
void sv_mutex_lock(struct sv_lock *lock, struct sv_name *name);
void sv_mutex_unlock(struct sv_lock *lock, struct sv_name *name);
int sv_mutex_trylock(struct sv_lock *lock, struct sv_name *name);
int sv_lock_is_held(const struct sv_lock *lock);
int sv_lock_is_contended(const struct sv_lock *lock);
int sv_lock_is_held_by_me(const struct sv_lock *lock);
void sv_assert_held(struct sv_lock *lock, struct sv_name *name);
int sv_cond_resched_lock(struct sv_lock *lock, struct sv_name *name);

#define spin_lock(lock) sv_spin_lock(&(lock)->sv, SV_NAME(#lock))
#define spin_unlock(lock) sv_spin_unlock(&(lock)->sv, SV_NAME(#lock))
#define spin_trylock(lock) sv_spin_trylock(&(lock)->sv, SV_NAME(#lock))
#define spin_lock_nested(lock, subclass) spin_lock(lock)
#define raw_spin_lock(lock) spin_lock(lock)
#define raw_spin_unlock(lock) spin_unlock(lock)
/* Interrupts here are the pseudo-tasks that answer TLB flushes: with them off, one that is sent waits. */
#define spin_lock_irq(lock) sv_spin_lock_irq(&(lock)->sv, SV_NAME(#lock))
#define spin_unlock_irq(lock) sv_spin_unlock_irq(&(lock)->sv, SV_NAME(#lock))
#define spin_lock_irqsave(lock, flags) do { (flags) = 0; spin_lock_irq(lock); } while (0)
#define spin_unlock_irqrestore(lock, flags) do { (void)(flags); spin_unlock_irq(lock); } while (0)
#define spin_lock_irqsave_nested(lock, flags, subclass) spin_lock_irqsave(lock, flags)
#define spin_lock_nested_irq(lock, subclass) spin_lock_irq(lock)
/* No softirq runs here. */
#define spin_lock_bh(lock) spin_lock(lock)
#define spin_unlock_bh(lock) spin_unlock(lock)
#define spin_lock_bh_nested(lock, subclass) spin_lock(lock)
#define spin_is_locked(lock) sv_lock_is_held(&(lock)->sv)
#define spin_is_contended(lock) sv_lock_is_contended(&(lock)->sv)
#define spin_needbreak(lock) spin_is_contended(lock)
#define assert_spin_locked(lock) sv_assert_held(&(lock)->sv, SV_NAME(#lock))
#define mutex_lock(lock) sv_mutex_lock(&(lock)->sv, SV_NAME(#lock))
#define mutex_unlock(lock) sv_mutex_unlock(&(lock)->sv, SV_NAME(#lock))
#define mutex_trylock(lock) sv_mutex_trylock(&(lock)->sv, SV_NAME(#lock))
#define mutex_lock_nested(lock, subclass) mutex_lock(lock)
#define mutex_lock_killable(lock) ({ mutex_lock(lock); 0; })
#define mutex_lock_interruptible(lock) ({ mutex_lock(lock); 0; })
#define mutex_is_locked(lock) sv_lock_is_held(&(lock)->sv)
/* Readers of an rwlock exclude one another here: fewer orders, none that cannot be. */
#define DEFINE_RWLOCK(name) rwlock_t name = { SV_UNLOCKED }
#define read_lock(lock) spin_lock(lock)
#define read_unlock(lock) spin_unlock(lock)
#define write_lock(lock) spin_lock(lock)
#define write_unlock(lock) spin_unlock(lock)

#define lockdep_assert_held(lock) sv_assert_held(&(lock)->sv, SV_NAME(#lock))
#define lockdep_assert_held_write(lock) lockdep_assert_held(lock)
#define lockdep_assert_held_once(lock) lockdep_assert_held(lock)
#define lockdep_is_held(lock) sv_lock_is_held_by_me(&(lock)->sv)
#define lockdep_assert_preemption_disabled() SV_WARN_IF(!sv_is_atomic(), "preemption is on")
#define lockdep_assert_preemption_enabled() SV_WARN_IF(sv_is_atomic(), "preemption is off")
#define lockdep_assert(condition) WARN_ON(!(condition))
#define lockdep_set_class(lock, key) do { } while (0)
#define lockdep_set_class_and_name(lock, key, name) do { } while (0)

/* Every lock and access is a place where others may run, so a voluntary one adds no order. */
#define cond_resched() 0
#define cond_resched_lock(lock) sv_cond_resched_lock(&(lock)->sv, SV_NAME(#lock))
#define need_resched() 0
#define schedule() do { } while (0)

/* Scoped locks (<linux/cleanup.h>). */
#define __cleanup(function) __attribute__((__cleanup__(function)))
struct sv_guard {
	struct sv_lock *lock;
	struct sv_name *name;
};
void sv_guard_spinlock_end(struct sv_guard *guard);
void sv_guard_mutex_end(struct sv_guard *guard);
struct sv_guard sv_guard_spinlock_begin(struct sv_lock *lock, struct sv_name *name);
struct sv_guard sv_guard_mutex_begin(struct sv_lock *lock, struct sv_name *name);
#define sv_guard_of_spinlock(lock) \
	struct sv_guard __UNIQUE_ID(guard) __cleanup(sv_guard_spinlock_end) __maybe_unused = \
		sv_guard_spinlock_begin(&(lock)->sv, SV_NAME(#lock))
#define sv_guard_of_mutex(lock) \
	struct sv_guard __UNIQUE_ID(guard) __cleanup(sv_guard_mutex_end) __maybe_unused = \
		sv_guard_mutex_begin(&(lock)->sv, SV_NAME(#lock))
#define guard(what) sv_guard_of_##what
#define scoped_guard(what, lock) \
	for (struct sv_guard sv_scope __cleanup(sv_guard_##what##_end) = \
		     sv_guard_##what##_begin(&(lock)->sv, SV_NAME(#lock)), *sv_once = &sv_scope; \
	     sv_once; sv_once = NULL)
/* Of mmap_read_lock_try alone, which there is nothing to be given back of. */
#define scoped_cond_guard(what, fail, lock) \
	for (bool sv_once = true; sv_once; sv_once = false) \
		if (!what(lock)) { \
			fail; \
		} else

#endif
