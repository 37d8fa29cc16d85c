// SPDX-License-Identifier: GPL-2.0-only
/*
 * The table of tasks, their stacks, and who of them is ready on which CPU (runtime/task.py,
 * runtime/runtime.py).
 */
#include <string.h>

#include "internal.h"

#define STACKS_HINT ((uintptr_t)0x280000000000)
#define STRIDE (SV_STACK_BYTES + SV_GUARD_BYTES)
/*
 * A stack looks the same at each start of a task, so that an uninitialised variable reads in a fresh process
 * what it reads after a million runs. What is below the deepest instrumented function counts as used as well.
 */
#define SPARE_BYTES 4096
#define POISON 0x6b

struct sv_task sv_boot_task = { .name = 0, .operation = -1, .migrate_at = SV_NEVER };
struct sv_task *sv_current = &sv_boot_task;
struct sv_task *sv_tasks[SV_TASKS];
int32_t sv_task_count;
uintptr_t sv_own_stack, sv_own_stack_size;
bool sv_is_bare;
uintptr_t sv_stack_used[SV_TASKS + 1];
static struct sv_area stacks;
struct sv_task *sv_ready[SV_CPUS];
int32_t sv_ready_count[SV_CPUS];

static struct sv_task memory[SV_TASKS];	      /* in the order of their making: the n-th has the n-th stack */
static uint8_t has_stack[SV_TASKS + 1];
static struct sv_task boot_memory[SV_TASKS], boot_task; /* as they are when boot is over */
static struct sv_task *boot_tasks[SV_TASKS];
static int32_t boot_count;

static bool give_stack(struct sv_task *task, uint16_t number)
{
	char *low = stacks.start + number * STRIDE + SV_GUARD_BYTES;

	if (!has_stack[number] && sv_unprotect(low, SV_STACK_BYTES)) {
		memset(low, POISON, SV_STACK_BYTES);
		sv_stack_used[number] = (uintptr_t)low + SV_STACK_BYTES;
		has_stack[number] = 1;
	}
	task->number = number;
	task->stack_low = low;
	task->stack_high = low + SV_STACK_BYTES;
	return has_stack[number];
}

uint64_t sv_stacks_base(void)
{
	return (uintptr_t)stacks.start;
}

bool sv_tasks_boot(void)
{
	sv_boot_task.name = sv_string("boot");
	return sv_reserve(&stacks, STACKS_HINT, (SV_TASKS + 1) * STRIDE) &&
	       give_stack(&sv_boot_task, SV_TASKS);
}

void sv_tasks_keep_boot(void)
{
	boot_count = sv_task_count;
	boot_task = sv_boot_task;
	memcpy(boot_memory, memory, (size_t)boot_count * sizeof(memory[0]));
	memcpy(boot_tasks, sv_tasks, (size_t)boot_count * sizeof(sv_tasks[0]));
}

void sv_tasks_reset(void)
{
	sv_task_count = boot_count;
	sv_boot_task = boot_task;
	sv_current = &sv_boot_task;
	memcpy(memory, boot_memory, (size_t)boot_count * sizeof(memory[0]));
	memcpy(sv_tasks, boot_tasks, (size_t)boot_count * sizeof(sv_tasks[0]));
	/* Nobody is ready at boot: a daemon waits until it is woken. */
	memset(sv_ready, 0, (size_t)sv_nr_cpu_ids * sizeof(sv_ready[0]));
	memset(sv_ready_count, 0, (size_t)sv_nr_cpu_ids * sizeof(sv_ready_count[0]));
}

void sv_set_cpu(struct sv_task *task, int cpu)
{
	task->cpu = cpu;
	task->who = (uint64_t)task->id << 16 | (uint64_t)cpu << 32;
}

struct sv_task *sv_spawn(int id, const char *name, int cpu, void (*body)(void *), void *argument,
			 bool is_daemon, bool is_interrupt)
{
	int32_t at = sv_task_count;
	struct sv_task *task;

	if (at == SV_TASKS)
		sv_bug("more tasks than the engine has room for");
	task = &memory[at];
	*task = (struct sv_task){
		.id = id,
		.name = sv_string(name),
		.body = body,
		.argument = argument,
		.is_daemon = is_daemon,
		.is_parked = is_daemon,
		.is_interrupt = is_interrupt,
		.operation = -1,
		.migrate_at = SV_NEVER,
	};
	sv_set_cpu(task, cpu);
	if (!give_stack(task, (uint16_t)at))
		sv_bug("no memory for a stack");
	for (; at && sv_tasks[at - 1]->id > id; at--)
		sv_tasks[at] = sv_tasks[at - 1];
	sv_tasks[at] = task;
	sv_task_count++;
	if (!is_daemon)
		sv_admit(task);
	return task;
}

struct sv_task *sv_task_by_id(int id)
{
	int32_t low = 0, high = sv_task_count;

	while (low < high) {
		int32_t middle = (low + high) / 2;

		if (sv_tasks[middle]->id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low < sv_task_count && sv_tasks[low]->id == id ? sv_tasks[low] : NULL;
}

bool sv_is_finished(const struct sv_task *task)
{
	return task->is_done || (task->is_daemon && task->is_parked && !task->is_started);
}

bool sv_is_task(const struct sv_task *task)
{
	uintptr_t offset = (uintptr_t)task - (uintptr_t)memory;

	return task == &sv_boot_task ||
	       (offset < (uintptr_t)sv_task_count * sizeof(*task) && offset % sizeof(*task) == 0);
}

/* ---------------------------------------------------------------- stacks */

void sv_load_stack_bounds(const struct sv_task *task)
{
	sv_own_stack = sv_is_bare ? 0 : (uintptr_t)task->stack_low;
	sv_own_stack_size = sv_is_bare ? UINTPTR_MAX : SV_STACK_BYTES;
}

const struct sv_task *sv_owner_of_stack(uint64_t address)
{
	for (int32_t i = 0; i < sv_task_count; i++)
		if (address >= (uint64_t)sv_tasks[i]->stack_low && address < (uint64_t)sv_tasks[i]->stack_high)
			return sv_tasks[i];
	return NULL;
}

void sv_prepare_stack(struct sv_task *task)
{
	char *low = (char *)sv_stack_used[task->number] - SPARE_BYTES;

	if (low < (char *)task->stack_low)
		low = task->stack_low;
	memset(low, POISON, (size_t)((char *)task->stack_high - low));
	sv_stack_used[task->number] = (uintptr_t)task->stack_high;
	sv_prepare_context(task);
	task->is_started = 1;
	task->depth = 0;
}

/* First thing on a fresh stack, and the last. */
_Noreturn void sv_task_main(void)
{
	struct sv_task *task = sv_current;

	task->body(task->argument);
	sv_fill();
	sv_leave_for_good(task);
}

/* ---------------------------------------------------------------- who is ready, who is enabled */

void sv_admit(struct sv_task *task)
{
	struct sv_task **first = &sv_ready[task->cpu];

	task->is_ready = 1;
	task->ready_prev = NULL;
	task->ready_next = *first;
	if (*first)
		(*first)->ready_prev = task;
	*first = task;
	sv_ready_count[task->cpu]++;
	if (sv_can_run(task))
		sv_enabled_insert(task);
}

void sv_retire(struct sv_task *task)
{
	if (task->ready_prev)
		task->ready_prev->ready_next = task->ready_next;
	else
		sv_ready[task->cpu] = task->ready_next;
	if (task->ready_next)
		task->ready_next->ready_prev = task->ready_prev;
	task->is_ready = 0;
	sv_ready_count[task->cpu]--;
	if (task->is_enabled)
		sv_enabled_remove(task);
}

void sv_refresh(int cpu)
{
	for (struct sv_task *task = sv_ready[cpu]; task; task = task->ready_next) {
		bool can_run = sv_can_run(task);

		if (can_run && !task->is_enabled)
			sv_enabled_insert(task);
		else if (!can_run && task->is_enabled)
			sv_enabled_remove(task);
	}
}
