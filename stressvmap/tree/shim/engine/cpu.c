// SPDX-License-Identifier: GPL-2.0-only
/* CPUs: who occupies one, and who may run there (runtime/runtime.py, sched/controlled.py). */
#include <string.h>

#include "internal.h"

uint8_t sv_cpu_possible[SV_CPUS], sv_cpu_online[SV_CPUS];
int32_t sv_nr_cpu_ids;

static struct sv_task *pinned_by[SV_CPUS], *interrupted_by[SV_CPUS];
static uint8_t irqs_off[SV_CPUS];

void sv_cpus_reset(void)
{
	size_t cpus = (size_t)sv_nr_cpu_ids;

	memset(pinned_by, 0, cpus * sizeof(pinned_by[0]));
	memset(interrupted_by, 0, cpus * sizeof(interrupted_by[0]));
	memset(irqs_off, 0, cpus);
	memcpy(sv_cpu_online, sv_config.online, cpus);
}

bool sv_can_run(const struct sv_task *task)
{
	int cpu = task->cpu;

	if (interrupted_by[cpu])
		return interrupted_by[cpu] == task;
	if (task->is_interrupt)
		return !irqs_off[cpu];
	return !pinned_by[cpu] || pinned_by[cpu] == task;
}

struct sv_task *sv_pinned_on(int cpu)
{
	return pinned_by[cpu];
}

struct sv_task *sv_interrupt_on(int cpu)
{
	return interrupted_by[cpu];
}

void sv_pin(struct sv_task *task)
{
	if (task->is_interrupt)
		interrupted_by[task->cpu] = task;
	else
		pinned_by[task->cpu] = task;
	if (!task->is_interrupt)
		sv_note(SV_CPU, (uint64_t)task->cpu, SV_CHANGES);
	task->is_pinned = 1;
	if (sv_ready_count[task->cpu] > 1)
		sv_refresh(task->cpu);
}

void sv_unpin(struct sv_task *task)
{
	struct sv_task **occupant = task->is_interrupt ? &interrupted_by[task->cpu] : &pinned_by[task->cpu];

	if (*occupant == task)
		*occupant = NULL;
	task->is_pinned = 0;
	if (sv_ready_count[task->cpu] > task->is_ready) { /* somebody waited for it */
		sv_refresh(task->cpu);
		sv_ask_soon();
	}
}

void sv_disable_irqs(int cpu)
{
	irqs_off[cpu] = 1;
	sv_note(SV_CPU, (uint64_t)cpu | SV_IRQS_OFF, SV_CHANGES);
	sv_refresh(cpu);
}

void sv_enable_irqs(int cpu)
{
	irqs_off[cpu] = 0;
	sv_refresh(cpu);
	for (const struct sv_task *task = sv_ready[cpu]; task; task = task->ready_next) {
		if (task->is_interrupt) {
			sv_ask_soon();
			break;
		}
	}
}

void sv_place(struct sv_task *task, int cpu)
{
	bool is_ready = task->is_ready;

	if (is_ready)
		sv_retire(task);
	sv_set_cpu(task, cpu);
	if (is_ready)
		sv_admit(task);
}

void sv_wait_for_cpu(void)
{
	sv_fill();
	if (!sv_can_run(sv_current))
		sv_reschedule(sv_current, SV_WHY_BLOCKED);
}

void sv_park(void)
{
	struct sv_task *task = sv_current;

	sv_fill();
	if (task == &sv_boot_task)
		sv_bug("a wait for another task, where there is none");
	task->pending_pc = task->pc;
	task->is_parked = 1;
	sv_retire(task);
	sv_reschedule(task, SV_WHY_BLOCKED);
}

void sv_wake(struct sv_task *task)
{
	if (unlikely(!sv_is_task(task)))
		sv_bug("a wake-up of what is no task");
	if (!task->is_parked)
		return;
	task->is_parked = 0;
	sv_admit(task);
	sv_ask_soon();
}
