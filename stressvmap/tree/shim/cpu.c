// SPDX-License-Identifier: GPL-2.0-only
/* Per-CPU data (stressvmap/kernel/percpu.py), CPU masks and preemption. */
#include "shim.h"

extern char __start_sv_percpu[] __attribute__((weak)), __stop_sv_percpu[] __attribute__((weak));
extern const struct sv_percpu_variable *__start_sv_percpu_variables[] __attribute__((weak)),
	*__stop_sv_percpu_variables[] __attribute__((weak));

const struct cpumask sv_possible_mask, sv_online_mask;

static SV_OUTLIVES char *instances; /* of CPU 0: those of CPU n are n times `stride` further on */
static SV_OUTLIVES char *boot_instances;
static SV_OUTLIVES size_t stride;
static int irqs_off_depth[SV_CPUS];

/* One copy of all variables for each CPU below nr_cpu_ids; those of impossible ones lie there unused. */
void sv_percpu_boot(void)
{
	size_t size = (size_t)(__stop_sv_percpu - __start_sv_percpu);

	if (!size)
		return;
	stride = (size + 63) / 64 * 64;
	instances = sv_host_array((size_t)sv_nr_cpu_ids * stride);
	boot_instances = sv_host_array((size_t)sv_nr_cpu_ids * stride);
	for (int cpu = 0; cpu < sv_nr_cpu_ids; cpu++) {
		memcpy(instances + (size_t)cpu * stride, __start_sv_percpu, size);
		for (const struct sv_percpu_variable **v = __start_sv_percpu_variables;
		     v < __stop_sv_percpu_variables; v++)
			sv_name_static(sv_per_cpu_copy((*v)->template, cpu), (*v)->size, (*v)->name, cpu);
	}
}

void sv_percpu_keep_boot(void)
{
	memcpy(boot_instances, instances, (size_t)sv_nr_cpu_ids * stride);
}

void sv_percpu_reset(void)
{
	memcpy(instances, boot_instances, (size_t)sv_nr_cpu_ids * stride);
}

void *sv_per_cpu_copy(const void *template, int cpu)
{
	return instances + (size_t)cpu * stride + ((const char *)template - __start_sv_percpu);
}

void *sv_per_cpu_ptr(const void *template, int cpu)
{
	SV_SITE();
	if (unlikely(cpu < 0 || cpu >= sv_nr_cpu_ids))
		sv_bug("per-CPU data of a CPU beyond nr_cpu_ids");
	if (unlikely(!sv_cpu_possible[cpu]))
		sv_warn("per-CPU data of a CPU that is not possible");
	return sv_per_cpu_copy(template, cpu);
}

static void check_is_pinned(const char *what)
{
	if (unlikely(what && !sv_is_atomic() && sv_current->id != 0))
		sv_warn(what);
}

void *sv_this_cpu_ptr(const void *template, const char *what)
{
	SV_SITE();
	check_is_pinned(what);
	return sv_per_cpu_copy(template, sv_current->cpu);
}

int sv_smp_processor_id(const char *what)
{
	SV_SITE();
	check_is_pinned(what);
	return sv_current->cpu;
}

void sv_preempt_change(const char *what, int by)
{
	SV_SITE();
	if (by > 0)
		sv_preempt_disable();
	else
		sv_preempt_enable();
	sv_record(SV_PREEMPT, (uint64_t)sv_current->preempt_count, sv_string(what), 0);
}

bool sv_is_atomic(void)
{
	return sv_current->preempt_count > 0;
}

bool sv_is_in_interrupt(void)
{
	return sv_current->is_interrupt;
}

void sv_local_irq_disable(void)
{
	sv_preempt_disable();
	if (irqs_off_depth[sv_current->cpu]++ == 0)
		sv_disable_irqs(sv_current->cpu);
}

void sv_local_irq_enable(void)
{
	if (--irqs_off_depth[sv_current->cpu] == 0)
		sv_enable_irqs(sv_current->cpu);
	sv_preempt_enable();
}

int sv_are_irqs_off(void)
{
	return irqs_off_depth[sv_current->cpu] > 0;
}

static const uint8_t *machine_mask(const struct cpumask *mask)
{
	if (mask == &sv_possible_mask)
		return sv_cpu_possible;
	return mask == &sv_online_mask ? sv_cpu_online : NULL;
}

bool sv_cpumask_test(int cpu, const struct cpumask *mask)
{
	const uint8_t *bytes = machine_mask(mask);

	if (cpu < 0 || cpu >= SV_CPUS)
		return false;
	return bytes ? bytes[cpu] : test_bit((unsigned long)cpu, mask->bits);
}

unsigned int sv_cpumask_next(int cpu, const struct cpumask *mask)
{
	int limit = machine_mask(mask) ? sv_nr_cpu_ids : SV_CPUS;

	while (++cpu < limit)
		if (sv_cpumask_test(cpu, mask))
			return (unsigned int)cpu;
	return SV_CPUS;
}

unsigned int sv_cpumask_weight(const struct cpumask *mask)
{
	unsigned int weight = 0;

	for (unsigned int cpu = sv_cpumask_next(-1, mask); cpu < SV_CPUS; cpu = sv_cpumask_next((int)cpu, mask))
		weight++;
	return weight;
}

/* ---------------------------------------------------------------- CPUs that come and go */

static int another_online(int cpu)
{
	for (int other = 0; other < sv_nr_cpu_ids; other++)
		if (other != cpu && sv_cpu_online[other])
			return other;
	return -1;
}

/* Nothing may be pinned there and no interrupt pending; its tasks move away, and it loses its TLB, all in one step. */
bool sv_cpu_down(int cpu)
{
	int to = another_online(cpu);

	sv_note(SV_EVERYTHING, 0, SV_CHANGES);
	if (cpu >= sv_nr_cpu_ids || !sv_cpu_online[cpu] || to < 0)
		return false;
	if (sv_pinned_on(cpu) || sv_interrupt_on(cpu) || sv_has_interrupts_pending(cpu))
		return false;
	sv_empty_tlb(cpu);
	for (int32_t i = 0; i < sv_task_count; i++)
		if (sv_tasks[i]->cpu == cpu && !sv_tasks[i]->is_interrupt)
			sv_move(sv_tasks[i], to);
	sv_cpu_online[cpu] = 0;
	sv_record(SV_CPU_OFFLINE, (uint64_t)cpu, 0, 0);
	sv_wait_for_cpu();
	return true;
}

bool sv_cpu_up(int cpu)
{
	sv_note(SV_EVERYTHING, 0, SV_CHANGES);
	if (cpu >= sv_nr_cpu_ids || sv_cpu_online[cpu] || !sv_cpu_possible[cpu])
		return false;
	sv_cpu_online[cpu] = 1;
	sv_record(SV_CPU_ONLINE, (uint64_t)cpu, 0, 0);
	return true;
}
