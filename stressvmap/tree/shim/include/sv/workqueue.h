/* SPDX-License-Identifier: GPL-2.0-only */
/* <linux/workqueue.h>: kernel/workqueue.py, with a queue for any CPU and works that are waited for. */
#ifndef SV_WORKQUEUE_H
#define SV_WORKQUEUE_H

struct work_struct;
typedef void (*work_func_t)(struct work_struct *work);

/* Invariant: pending from the queueing to the start, not longer: a work may queue itself again. */
struct work_struct {
	work_func_t func;
	struct work_struct *next; /* in the queue */
	struct sv_waiter *flushers;
	const char *text; /* what it is called */
	bool is_pending;
};
struct delayed_work {
	struct work_struct work;
};
struct workqueue_struct {
	int unused;
};
extern struct workqueue_struct sv_workqueue;
#define system_wq (&sv_workqueue)
#define system_unbound_wq (&sv_workqueue)
#define system_dfl_wq (&sv_workqueue)
#define system_percpu_wq (&sv_workqueue)
#define WQ_UNBOUND 1u
#define WQ_MEM_RECLAIM 2u
#define alloc_workqueue(name, flags, active...) (&sv_workqueue)

#define __WORK_INITIALIZER(name, function) { .func = (function), .text = #name }
#define DECLARE_WORK(name, function) struct work_struct name = __WORK_INITIALIZER(name, function)
void sv_init_work(struct work_struct *work, const char *text);
#define INIT_WORK(work, function) \
	do { \
		struct work_struct *sv_work = (work); \
		sv_init_work(sv_work, #work); \
		sv_work->func = (function); \
	} while (0)
bool sv_queue_work(int cpu, struct work_struct *work);
bool sv_flush_work(struct work_struct *work);
#define schedule_work(work) sv_queue_work(-1, work)
#define schedule_work_on(cpu, work) sv_queue_work(cpu, work)
#define queue_work(queue, work) ((void)(queue), sv_queue_work(-1, work))
#define queue_work_on(cpu, queue, work) ((void)(queue), sv_queue_work(cpu, work))
#define queue_work_node(node, queue, work) ((void)(queue), sv_queue_work(-1, work))
#define flush_work(work) sv_flush_work(work)
#define work_pending(work) READ_ONCE((work)->is_pending)

#endif
