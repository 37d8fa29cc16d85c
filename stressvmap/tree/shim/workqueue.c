// SPDX-License-Identifier: GPL-2.0-only
/* Workqueues: stressvmap/kernel/workqueue.py, all queues being one; works may be bound to a CPU and waited for. */
#include "shim.h"

#define WORKS 1024 /* one in each vmap_node, one for each CPU */

struct workqueue_struct sv_workqueue;

static struct sv_task *kworkers[SV_KWORKERS];
static struct work_struct *running[SV_KWORKERS];
static struct work_struct *first, *last; /* queued */

/*
 * The journal knows a work by its name, so works of one name (one in each vmap_node) need a number too. In the order in
 * which they were first used in the run.
 */
static SV_OUTLIVES struct named {
	const struct work_struct *work;
	const char *text;
	uint32_t name;
} known[WORKS];
static uint32_t known_count;

static uint32_t numbered(const char *text, uint32_t number)
{
	char name[128];
	size_t n = 0;

	for (; text[n] && n < sizeof(name) - 6; n++)
		name[n] = text[n];
	name[n++] = '#';
	if (number >= 100)
		name[n++] = (char)('0' + number / 100 % 10);
	if (number >= 10)
		name[n++] = (char)('0' + number / 10 % 10);
	name[n++] = (char)('0' + number % 10);
	name[n] = 0;
	return sv_string(name);
}

static uint32_t name_of(const struct work_struct *work)
{
	uint32_t alike = 1;

	for (uint32_t i = 0; i < known_count; i++) {
		if (known[i].work == work)
			return known[i].name;
		alike += known[i].text == work->text;
	}
	if (known_count == WORKS)
		sv_bug("more works than the shim has names for");
	known[known_count] = (struct named){
		work, work->text, alike > 1 ? numbered(work->text, alike) : sv_string(work->text)
	};
	return known[known_count++].name;
}

void sv_init_work(struct work_struct *work, const char *text)
{
	*work = (struct work_struct){ .text = text[0] == '&' ? text + 1 : text, .cpu = -1 };
	sv_mark_written(work, sizeof(*work));
}

bool sv_queue_work(int cpu, struct work_struct *work)
{
	uint32_t name = name_of(work);

	SV_SITE();
	sv_point(SV_WORK_QUEUE, 0, name);
	sv_touch(SV_WORK_QUEUE, work, name);
	if (work->is_pending)
		return false;
	work->is_pending = true;
	work->cpu = cpu;
	work->next = NULL;
	sv_record(SV_WORK_QUEUE, 0, name, 0);
	if (last)
		last->next = work;
	else
		first = work;
	last = work;
	for (int n = 0; n < SV_KWORKERS; n++) {
		if (kworkers[n]->is_parked && !running[n]) {
			sv_wake(kworkers[n]);
			break;
		}
	}
	return true;
}

static bool is_running(const struct work_struct *work)
{
	for (int n = 0; n < SV_KWORKERS; n++)
		if (running[n] == work)
			return true;
	return false;
}

/* Take the first queued work that does not run off the queue. */
static struct work_struct *next_work(void)
{
	struct work_struct *before = NULL, *work = first;

	while (work && is_running(work)) {
		before = work;
		work = work->next;
	}
	if (!work)
		return NULL;
	if (before)
		before->next = work->next;
	else
		first = work->next;
	if (last == work)
		last = before;
	return work;
}

static void wake_flushers(struct work_struct *work)
{
	struct sv_waiter *waiter = work->flushers;

	work->flushers = NULL;
	while (waiter) {
		struct sv_waiter *next = waiter->next;
		struct sv_task *task = waiter->task;

		waiter->task = NULL;
		sv_wake(task);
		waiter = next;
	}
}

static void serve(void *argument)
{
	int n = (int)(long)argument;
	struct work_struct *work;

	while ((work = next_work())) {
		uint32_t name = name_of(work);

		running[n] = work;
		sv_current->pc = 0; /* in no kernel function */
		if (work->cpu >= 0 && sv_cpu_online[work->cpu] && sv_move(sv_current, work->cpu))
			sv_wait_for_cpu();
		sv_point(SV_WORK_BEGIN, 0, name);
		sv_touch(SV_WORK_BEGIN, work, name);
		work->is_pending = false;
		work->started++;
		sv_record(SV_WORK_BEGIN, 0, name, 0);
		work->func(work);
		sv_current->pc = 0;
		sv_record(SV_WORK_END, 0, name, 0);
		running[n] = NULL;
		work->ended++;
		wake_flushers(work);
	}
}

/* Wait until the run that is queued now, or else the one under way, is over; whether there was one. */
bool sv_flush_work(struct work_struct *work)
{
	uint32_t name = name_of(work);
	uint32_t wanted;
	bool is_idle;

	SV_SITE();
	sv_might_sleep("flush_work");
	sv_point(SV_WORK_END, 0, name);
	sv_touch(SV_WORK_END, work, name);
	wanted = work->started + work->is_pending;
	is_idle = wanted == work->ended;
	while ((int32_t)(work->ended - wanted) < 0) {
		struct sv_waiter waiter = { .next = work->flushers, .task = sv_current };

		sv_current->blocked_object = 0;
		sv_current->blocked_class = name;
		sv_current->blocked_owner = 0;
		for (int n = 0; n < SV_KWORKERS; n++)
			if (running[n] == work)
				sv_current->blocked_owner = kworkers[n]->id;
		work->flushers = &waiter;
		while (waiter.task)
			sv_park();
	}
	sv_record(SV_WORK_FLUSHED, 0, name, 0);
	return !is_idle;
}

void sv_workqueue_boot(void)
{
	char name[] = "kworker/u:0";
	int cpu = -1;

	for (int n = 0; n < SV_KWORKERS; n++) {
		do
			cpu = (cpu + 1) % SV_CPUS;
		while (!sv_cpu_online[cpu]);
		name[sizeof(name) - 2] = (char)('0' + n);
		kworkers[n] = sv_spawn(SV_KWORKER_TASKS + n, name, cpu, serve, (void *)(long)n, true, false);
	}
}
