// SPDX-License-Identifier: GPL-2.0-only
/*
 * RCU with real grace periods: stressvmap/kernel/rcu.py.
 *
 * A callback waits for the tasks that were readers when it was queued. Of a reader only the first callback that waits
 * for it is kept: all later ones do too, until it leaves. So callbacks become ready in the order of their queueing.
 */
#include "shim.h"

struct callback {
	enum { FREE_OBJECT, CALL, WAKE } what;
	void *object; /* to free; or the rcu_head; or a bool to set */
	void (*function)(struct rcu_head *head);
	struct sv_task *waiter;
	uint64_t number; /* of the wait */
};

/* A task that is inside, and the first callback that waits for it. */
struct reader {
	struct sv_task *task;
	uint64_t first;
};

#define CALLBACKS ((size_t)1 << 20)

static SV_OUTLIVES struct callback *callbacks; /* of this run, by number: none is used twice */
static SV_OUTLIVES struct reader readers[SV_TASKS];
/* Callbacks below `served` have run, those below `ready` may, those below `queued` wait. */
static uint64_t served, ready, queued;
static uint32_t reader_count;
static struct sv_task *rcu_task;

static void free_object(void *object)
{
	sv_free(object, SV_FREED_SLAB);
}

bool sv_is_rcu_idle(void)
{
	sv_note(SV_CALLBACKS, 0, SV_LOOKS);
	return served == queued;
}

bool sv_is_rcu_reader(void)
{
	return sv_current->rcu_depth > 0 || sv_current->preempt_count > 0;
}

static void settle(void)
{
	uint64_t before = ready;

	while (ready < queued) {
		for (uint32_t i = 0; i < reader_count; i++)
			if (readers[i].first <= ready)
				goto out;
		ready++;
	}
out:
	if (ready != before)
		sv_wake(rcu_task);
}

/* `task` is in no reader section any more. */
static void leave(struct sv_task *task)
{
	for (uint32_t i = 0; i < reader_count; i++) {
		if (readers[i].task == task) {
			sv_note(SV_CALLBACKS, 0, SV_CHANGES);
			readers[i] = readers[--reader_count];
			settle();
			return;
		}
	}
}

static void note_reader(struct sv_task *task)
{
	for (uint32_t i = 0; i < reader_count; i++)
		if (readers[i].task == task)
			return;
	readers[reader_count++] = (struct reader){ task, queued };
}

/* Queue behind the readers that are inside now. */
static void after_readers(const struct callback *callback)
{
	if (queued == CALLBACKS)
		sv_bug("more RCU callbacks in a run than there is room for");
	for (int32_t i = 0; i < sv_task_count; i++) {
		bool is_reader = sv_tasks[i]->rcu_depth > 0 || sv_tasks[i]->preempt_count > 0;

		sv_note(SV_READER, (uint64_t)sv_tasks[i]->id, is_reader ? SV_FINDS : SV_LOOKS);
		if (is_reader)
			note_reader(sv_tasks[i]);
	}
	sv_note(SV_CALLBACKS, 0, SV_CHANGES);
	callbacks[queued++] = *callback;
	settle();
}

void sv_rcu_read_lock(void)
{
	SV_SITE();
	sv_point(SV_RCU_READ_LOCK, 0, 0);
	sv_current->rcu_depth++;
	sv_record(SV_RCU_READ_LOCK, 0, 0, (uint64_t)sv_current->rcu_depth);
}

void sv_rcu_read_unlock(void)
{
	struct sv_task *task;

	SV_SITE();
	sv_point(SV_RCU_READ_UNLOCK, 0, 0);
	task = sv_current;
	task->rcu_depth--;
	sv_record(SV_RCU_READ_UNLOCK, 0, 0, (uint64_t)task->rcu_depth);
	if (task->rcu_depth == 0 && task->preempt_count == 0)
		leave(task);
}

void sv_kfree_rcu(void *victim)
{
	uint32_t member = sv_string("rcu_head");

	SV_SITE();
	if (!victim)
		return;
	sv_point(SV_KFREE_RCU, (uint64_t)victim, 0);
	sv_touch(SV_KFREE_RCU, victim, member);
	sv_will_free(victim);
	sv_record(SV_KFREE_RCU, (uint64_t)victim, 0, 0);
	after_readers(&(struct callback){ .what = FREE_OBJECT, .object = victim });
}

static uint64_t begin_wait(const char *what, const void *about)
{
	uint64_t number = (uint64_t)sv_current->id << 20 | ++sv_current->allocations;

	sv_record(SV_RCU_WAIT, number, sv_string(what), (uint64_t)about);
	return number;
}

void sv_call_rcu(struct rcu_head *head, void (*function)(struct rcu_head *head))
{
	struct callback callback = { .what = CALL, .object = head, .function = function };

	SV_SITE();
	callback.number = begin_wait("call_rcu", head);
	after_readers(&callback);
}

void sv_synchronize_rcu(void)
{
	struct sv_task *task = sv_current;
	bool is_over = false;
	struct callback callback = { .what = WAKE, .object = &is_over, .waiter = task };

	SV_SITE();
	sv_might_sleep("synchronize_rcu");
	sv_point(SV_RCU_READ_LOCK, 0, sv_string("synchronize_rcu"));
	callback.number = begin_wait("synchronize_rcu", NULL);
	after_readers(&callback);
	task->blocked_object = 0;
	task->blocked_class = sv_string("synchronize_rcu");
	task->blocked_owner = rcu_task->id;
	while (!is_over)
		sv_park();
	sv_note(SV_CALLBACKS, 0, SV_LOOKS);
	sv_record(SV_RCU_WAIT_OVER, callback.number, task->blocked_class, 0);
}

static bool has_ready(void)
{
	sv_note(SV_CALLBACKS, 0, SV_LOOKS);
	return served < ready;
}

/* The readers that a synchronize_rcu of `task` waits for: up to `limit` task ids; how many there are. */
int sv_awaited_readers(const struct sv_task *task, int32_t *ids, int limit)
{
	int count = 0;

	for (uint64_t n = ready; n < queued; n++)
		if (callbacks[n].what == WAKE && callbacks[n].waiter == task)
			for (uint32_t i = 0; i < reader_count && count < limit; i++)
				if (readers[i].first <= n)
					ids[count++] = readers[i].task->id;
	return count;
}

static void serve(void *unused)
{
	while (has_ready()) {
		struct callback *callback;

		sv_current->pc = 0; /* in no kernel function */
		sv_point(SV_KFREE_RCU, 0, sv_string("callback"));
		if (served == ready)
			return;
		sv_note(SV_CALLBACKS, 0, SV_CHANGES);
		callback = &callbacks[served++];
		switch (callback->what) {
		case FREE_OBJECT:
			free_object(callback->object);
			break;
		case CALL:
			sv_record(SV_RCU_WAIT_OVER, callback->number, sv_string("call_rcu"), 0);
			callback->function(callback->object);
			break;
		case WAKE:
			*(bool *)callback->object = true;
			sv_wake(callback->waiter);
			break;
		}
	}
}

void sv_rcu_boot(int cpu)
{
	callbacks = sv_host_array(CALLBACKS * sizeof(*callbacks));
	rcu_task = sv_spawn(SV_RCU_TASK, "rcuog", cpu, serve, NULL, true, false);
	sv_on_quiescent = leave;
}

/* smp_store_release, rcu_assign_pointer: the store follows. */
void sv_release(const volatile void *place)
{
	SV_SITE();
	sv_record(SV_RELEASE, (uint64_t)place, sizeof(void *), 0);
}
