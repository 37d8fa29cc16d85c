// SPDX-License-Identifier: GPL-2.0-only
/* Workqueues: stressvmap/kernel/workqueue.py, with all queues being one. */
#include "shim.h"

#define WORKS 1024 /* one in each vmap_node, one for each CPU */

struct workqueue_struct sv_workqueue;

static struct sv_task *kworkers[SV_KWORKERS];
static struct work_struct *running[SV_KWORKERS];
static struct work_struct *first, *last; /* queued */

/*
 * The journal knows a work by its name, so works of one name need a number too: that of their vmap_node, or else the
 * order in which they were first used in the run.
 */
static SV_OUTLIVES struct named {
	const struct work_struct *work;
	const char *text;
	uint32_t name;
} known[WORKS];
static uint32_t known_count;

static uint32_t numbered(const char *before, uint32_t number, const char *after)
{
	char name[128], digits[10];
	size_t n = 0, places = 0;

	for (; *before && n < 64; before++)
		name[n++] = *before;
	if (!*after)
		name[n++] = '#';
	do
		digits[places++] = (char)('0' + number % 10);
	while (number /= 10);
	while (places)
		name[n++] = digits[--places];
	for (; *after && n < sizeof(name) - 1; after++)
		name[n++] = *after;
	name[n] = 0;
	return sv_string(name);
}

static uint32_t new_name(const struct work_struct *work)
{
	int node = sv_vmap_node_of(work);
	uint32_t alike = 1;

	if (node >= 0)
		return numbered("vmap_nodes[", (uint32_t)node, "].purge_work");
	for (uint32_t i = 0; i < known_count; i++)
		alike += strcmp(known[i].text, work->text) == 0;
	return alike > 1 ? numbered(work->text, alike, "") : sv_string(work->text);
}

static uint32_t name_of(const struct work_struct *work)
{
	for (uint32_t i = 0; i < known_count; i++)
		if (known[i].work == work)
			return known[i].name;
	if (known_count == WORKS)
		sv_bug("more works than the shim has names for");
	known[known_count] = (struct named){ work, work->text, new_name(work) };
	return known[known_count++].name;
}

void sv_init_work(struct work_struct *work, const char *text)
{
	*work = (struct work_struct){ .text = text[0] == '&' ? text + 1 : text };
	sv_mark_written(work, sizeof(*work));
}

/* The idle kworker that is on `cpu`, if one is, else any: a kworker here is not bound to a CPU. */
static void wake_one(int cpu)
{
	int chosen = -1;

	for (int n = 0; n < SV_KWORKERS; n++)
		if (kworkers[n]->is_parked && !running[n] && (chosen < 0 || kworkers[n]->cpu == cpu))
			if (chosen < 0 || kworkers[chosen]->cpu != cpu)
				chosen = n;
	if (chosen >= 0)
		sv_wake(kworkers[chosen]);
}

bool sv_queue_work(int cpu, struct work_struct *work)
{
	uint32_t name = name_of(work);

	SV_SITE();
	sv_point(SV_WORK_QUEUE, 0, name);
	sv_touch(SV_WORK_QUEUE, work, name);
	sv_note(SV_WORKS, 0, SV_CHANGES);
	if (work->is_pending)
		return false;
	work->is_pending = true;
	work->next = NULL;
	sv_record(SV_WORK_QUEUE, 0, name, 0);
	if (last)
		last->next = work;
	else
		first = work;
	last = work;
	wake_one(cpu);
	return true;
}

static const struct sv_task *runner_of(const struct work_struct *work)
{
	for (int n = 0; n < SV_KWORKERS; n++)
		if (running[n] == work)
			return kworkers[n];
	return NULL;
}

static bool is_busy(const struct work_struct *work)
{
	sv_note(SV_WORKS, 0, SV_LOOKS);
	return work->is_pending || runner_of(work);
}

/* Take the first queued work that does not run off the queue. */
static struct work_struct *next_work(void)
{
	struct work_struct *before = NULL, *work = first;

	sv_note(SV_WORKS, 0, SV_CHANGES);
	while (work && runner_of(work)) {
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
		sv_point(SV_WORK_BEGIN, 0, name);
		sv_touch(SV_WORK_BEGIN, work, name);
		sv_note(SV_WORKS, 0, SV_CHANGES);
		work->is_pending = false;
		sv_record(SV_WORK_BEGIN, 0, name, 0);
		work->func(work);
		sv_current->pc = 0;
		sv_record(SV_WORK_END, 0, name, 0);
		sv_note(SV_WORKS, 0, SV_CHANGES);
		running[n] = NULL;
		wake_flushers(work);
	}
}

/* Return when the work is neither queued nor running; whether that had to be waited for. */
bool sv_flush_work(struct work_struct *work)
{
	uint32_t name = name_of(work);
	bool has_waited = false;

	SV_SITE();
	sv_might_sleep("flush_work");
	sv_point(SV_WORK_FLUSHED, 0, name);
	sv_touch(SV_WORK_FLUSHED, work, name);
	while (is_busy(work)) {
		struct sv_waiter waiter = { .next = work->flushers, .task = sv_current };
		const struct sv_task *runner = runner_of(work);

		has_waited = true;
		sv_current->blocked_object = 0;
		sv_current->blocked_class = name;
		sv_current->blocked_owner = runner ? runner->id : 0;
		work->flushers = &waiter;
		while (waiter.task)
			sv_park();
	}
	sv_record(SV_WORK_FLUSHED, 0, name, 0);
	return has_waited;
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
