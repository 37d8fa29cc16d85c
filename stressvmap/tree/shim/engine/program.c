// SPDX-License-Identifier: GPL-2.0-only
/* A program of the user: kept from one sv_load, so that it can be run again, and carried out by tasks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static uint64_t operation_count;
static struct sv_program_task *tasks;
static struct sv_op *ops;
/* Of each operation: the points of its task, and of all tasks, by when it began. */
static uint64_t *own_starts, *all_starts;
static uint32_t *started; /* of each task: operations that have begun */
static uint32_t task_count;

static void *again(void *memory, size_t n, size_t size)
{
	return realloc(memory, (n + 1) * size);
}

bool sv_program_keep(const struct sv_program_task *new_tasks, uint32_t n_tasks, const struct sv_op *new_ops)
{
	uint32_t n_ops = 0;

	task_count = 0;
	if (n_tasks > SV_TASKS / 2) {
		sv_set_error("a program of %u tasks: there may be %d", n_tasks, SV_TASKS / 2);
		return false;
	}
	for (uint32_t i = 0; i < n_tasks; i++)
		if (new_tasks[i].first_op + new_tasks[i].ops > n_ops)
			n_ops = new_tasks[i].first_op + new_tasks[i].ops;
	tasks = again(tasks, n_tasks, sizeof(*tasks));
	started = again(started, n_tasks, sizeof(*started));
	ops = again(ops, n_ops, sizeof(*ops));
	own_starts = again(own_starts, n_ops, sizeof(*own_starts));
	all_starts = again(all_starts, n_ops, sizeof(*all_starts));
	if (!tasks || !started || !ops || !own_starts || !all_starts) {
		sv_set_error("no memory for a program of %u operations", n_ops);
		return false;
	}
	if (n_tasks)
		memcpy(tasks, new_tasks, n_tasks * sizeof(*tasks));
	if (n_ops)
		memcpy(ops, new_ops, n_ops * sizeof(*ops));
	task_count = n_tasks;
	return true;
}

void sv_program_reset(void)
{
	operation_count = 0;
	if (task_count)
		memset(started, 0, task_count * sizeof(*started));
}

bool sv_carry_out(const struct sv_op *op)
{
	bool is_done = sv_perform(op);

	operation_count += is_done;
	return is_done;
}

static void body(void *argument)
{
	struct sv_task *task = argument;
	uint32_t number = (uint32_t)task->id - 1;

	for (uint32_t i = 0; i < task->ops; i++) {
		uint32_t at = task->first_op + i;

		task->operation = (int32_t)i;
		task->operation_start = sv_own_points();
		own_starts[at] = task->operation_start;
		all_starts[at] = sv_points;
		started[number] = i + 1;
		sv_carry_out(&ops[at]);
	}
}

/* The CPU of a task whose own is offline: as ModelBackend chooses it. */
static int another_cpu(uint32_t number)
{
	int online[SV_CPUS], count = 0;

	for (int cpu = 0; cpu < sv_nr_cpu_ids; cpu++)
		if (sv_cpu_online[cpu])
			online[count++] = cpu;
	return online[number % (uint32_t)count];
}

void sv_program_spawn(void)
{
	char name[64];

	for (uint32_t i = 0; i < task_count; i++) {
		uint32_t cpu = tasks[i].cpu;
		struct sv_task *task;

		snprintf(name, sizeof(name), "%s/%u", sv_text(tasks[i].role), i + 1);
		if (cpu >= (uint32_t)sv_nr_cpu_ids || !sv_cpu_online[cpu])
			cpu = (uint32_t)another_cpu(i + 1);
		task = sv_spawn((int)i + 1, name, (int)cpu, body, NULL, false, false);
		task->argument = task;
		task->role = tasks[i].role;
		task->first_op = tasks[i].first_op;
		task->ops = tasks[i].ops;
	}
}

uint64_t sv_operations(void)
{
	return operation_count;
}

uint64_t sv_starts(uint32_t task, const uint64_t **own, const uint64_t **all)
{
	if (!task || task > task_count)
		return 0;
	*own = own_starts + tasks[task - 1].first_op;
	*all = all_starts + tasks[task - 1].first_op;
	return started[task - 1];
}
