/* SPDX-License-Identifier: GPL-2.0-only */
/* <linux/rcupdate.h>: stressvmap/kernel/rcu.py, real grace periods. */
#ifndef SV_RCU_H
#define SV_RCU_H

void sv_rcu_read_lock(void);
void sv_rcu_read_unlock(void);
void sv_kfree_rcu(void *victim);
void sv_call_rcu(struct rcu_head *head, void (*function)(struct rcu_head *head));
void sv_synchronize_rcu(void);
bool sv_is_rcu_reader(void);
bool sv_is_rcu_idle(void);

#define rcu_read_lock() sv_rcu_read_lock()
#define rcu_read_unlock() sv_rcu_read_unlock()
#define rcu_read_lock_held() sv_is_rcu_reader()
#define rcu_read_lock_any_held() sv_is_rcu_reader()
#define rcu_read_lock_sched() preempt_disable()
#define rcu_read_unlock_sched() preempt_enable()
#define rcu_read_lock_sched_held() sv_is_rcu_reader()
#define kfree_rcu(pointer, member...) sv_kfree_rcu(pointer)
#define kvfree_rcu(pointer, member...) sv_kfree_rcu(pointer)
#define kfree_rcu_mightsleep(pointer) sv_kfree_rcu(pointer)
#define call_rcu(head, function) sv_call_rcu(head, function)
#define call_rcu_hurry(head, function) sv_call_rcu(head, function)
#define synchronize_rcu() sv_synchronize_rcu()
#define synchronize_rcu_expedited() sv_synchronize_rcu()

#define rcu_dereference(pointer) READ_ONCE(pointer)
#define rcu_dereference_check(pointer, condition) READ_ONCE(pointer)
#define rcu_dereference_raw(pointer) READ_ONCE(pointer)
#define rcu_dereference_raw_check(pointer) READ_ONCE(pointer)
#define rcu_dereference_protected(pointer, condition) (pointer)
#define rcu_access_pointer(pointer) READ_ONCE(pointer)
#define rcu_assign_pointer(pointer, value) smp_store_release(&(pointer), value)
#define RCU_INIT_POINTER(pointer, value) WRITE_ONCE(pointer, value)
#define RCU_INITIALIZER(value) (value)
#define rcu_replace_pointer(pointer, value, condition) \
	({ \
		__auto_type sv_old = (pointer); \
		rcu_assign_pointer(pointer, value); \
		sv_old; \
	})
#define RCU_LOCKDEP_WARN(condition, text) do { if (condition) sv_kernel_warn(text); } while (0)
#define rcu_check_sparse(pointer, space)

#endif
