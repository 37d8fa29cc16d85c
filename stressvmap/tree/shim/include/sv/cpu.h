/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * <linux/percpu.h>, <linux/cpumask.h>, <linux/smp.h>, <linux/preempt.h>: one instance of per-CPU data for each possible
 * CPU, online or not (kernel/percpu.py). The variable that is defined is a template that the boot copies.
 */
#ifndef SV_CPU_H
#define SV_CPU_H

struct sv_percpu_variable {
	void *template;
	size_t size;
	const char *name;
};
#define SV_PERCPU __attribute__((section("sv_percpu")))
#define SV_PERCPU_RECORD(name) \
	static const struct sv_percpu_variable sv_percpu_##name = { (void *)&name, sizeof(name), #name }; \
	static const struct sv_percpu_variable *sv_percpu_entry_##name \
		__attribute__((section("sv_percpu_variables"), used)) = &sv_percpu_##name
#define DEFINE_PER_CPU(type, name) SV_PERCPU __typeof__(type) name; SV_PERCPU_RECORD(name)
#define DEFINE_PER_CPU_ALIGNED DEFINE_PER_CPU
#define DEFINE_PER_CPU_SHARED_ALIGNED DEFINE_PER_CPU
#define DECLARE_PER_CPU(type, name) extern __typeof__(type) name

/* The instance of a CPU; for one that is not possible, a warning, and memory that no walk over the CPUs visits. */
void *sv_per_cpu_ptr(const void *template, int cpu);
void *sv_this_cpu_ptr(const void *template, const char *what);
int sv_smp_processor_id(const char *what);
void sv_preempt_change(const char *what, int by);
bool sv_is_atomic(void);
bool sv_is_in_interrupt(void);

#define per_cpu_ptr(pointer, cpu) ((__typeof__(*(pointer)) *)sv_per_cpu_ptr(pointer, cpu))
#define per_cpu(name, cpu) (*per_cpu_ptr(&(name), cpu))
#define raw_cpu_ptr(pointer) ((__typeof__(*(pointer)) *)sv_this_cpu_ptr(pointer, NULL))
/* As with CONFIG_DEBUG_PREEMPT: who could be elsewhere a step later is warned. */
#define this_cpu_ptr(pointer) ((__typeof__(*(pointer)) *)sv_this_cpu_ptr(pointer, "this_cpu_ptr() in preemptible code"))
#define get_cpu_var(name) (*({ preempt_disable(); this_cpu_ptr(&(name)); }))
#define put_cpu_var(name) preempt_enable()
#define get_cpu_ptr(pointer) ({ preempt_disable(); this_cpu_ptr(pointer); })
#define put_cpu_ptr(pointer) preempt_enable()
/* All marked, as KCSAN has them: they are one instruction on the machines that matter, and say what they are. */
#define __this_cpu_read(name) READ_ONCE(*this_cpu_ptr(&(name)))
#define __this_cpu_write(name, value) WRITE_ONCE(*this_cpu_ptr(&(name)), value)
#define raw_cpu_read(name) READ_ONCE(*raw_cpu_ptr(&(name)))
/* Of these the kernel's are safe against preemption. */
#define this_cpu_read(name) READ_ONCE(*raw_cpu_ptr(&(name)))
#define this_cpu_write(name, value) WRITE_ONCE(*raw_cpu_ptr(&(name)), value)
#define __this_cpu_try_cmpxchg(name, old, value) \
	({ \
		__typeof__(name) *sv_expected = (old); \
		__typeof__(name) sv_seen_now = __this_cpu_cmpxchg(name, *sv_expected, value); \
		bool sv_is_done = sv_seen_now == *sv_expected; \
		if (!sv_is_done) \
			*sv_expected = sv_seen_now; \
		sv_is_done; \
	})
#define this_cpu_xchg(name, value) xchg(raw_cpu_ptr(&(name)), value)
#define this_cpu_cmpxchg(name, old, value) cmpxchg(raw_cpu_ptr(&(name)), old, value)
#define this_cpu_inc(name) ((void)sv_atomic_fetch(raw_cpu_ptr(&(name)), SV_ADD, 1, sizeof(name), SV_NAME(#name)))
#define this_cpu_dec(name) ((void)sv_atomic_fetch(raw_cpu_ptr(&(name)), SV_ADD, -1, sizeof(name), SV_NAME(#name)))
#define __this_cpu_xchg(name, value) \
	({ \
		__typeof__(name) *sv_pointer = this_cpu_ptr(&(name)); \
		__typeof__(name) sv_old = READ_ONCE(*sv_pointer); \
		WRITE_ONCE(*sv_pointer, value); \
		sv_old; \
	})
#define __this_cpu_cmpxchg(name, old, value) \
	({ \
		__typeof__(name) *sv_pointer = this_cpu_ptr(&(name)); \
		__typeof__(name) sv_found = READ_ONCE(*sv_pointer); \
		if (sv_found == (old)) \
			WRITE_ONCE(*sv_pointer, value); \
		sv_found; \
	})

#define raw_smp_processor_id() sv_smp_processor_id(NULL)
#define smp_processor_id() sv_smp_processor_id("smp_processor_id() in preemptible code")
#define get_cpu() ({ sv_preempt_change("get_cpu", 1); sv_smp_processor_id(NULL); })
#define put_cpu() sv_preempt_change("put_cpu", -1)
#define preempt_disable() sv_preempt_disable()
#define preempt_enable() sv_preempt_enable()
#define migrate_disable() sv_preempt_disable()
#define migrate_enable() sv_preempt_enable()
#define preempt_count() (sv_current->preempt_count)
#define preemptible() (!sv_is_atomic())
#define in_interrupt() sv_is_in_interrupt()
#define in_irq() sv_is_in_interrupt()
#define in_hardirq() sv_is_in_interrupt()
#define in_nmi() 0
#define in_task() (!sv_is_in_interrupt())
#define in_atomic() sv_is_atomic()
#define irqs_disabled() sv_are_irqs_off()
int sv_are_irqs_off(void);
void sv_local_irq_disable(void);
void sv_local_irq_enable(void);
#define local_irq_disable() sv_local_irq_disable()
#define local_irq_enable() sv_local_irq_enable()
#define local_irq_save(flags) do { (flags) = 0; sv_local_irq_disable(); } while (0)
#define local_irq_restore(flags) do { (void)(flags); sv_local_irq_enable(); } while (0)

struct cpumask {
	DECLARE_BITMAP(bits, SV_CPUS);
};
typedef struct cpumask cpumask_t;
/* Which these stand for: the machine's own masks, which are no bitmaps. */
extern const struct cpumask sv_possible_mask, sv_online_mask;
#define cpu_possible_mask (&sv_possible_mask)
#define cpu_present_mask (&sv_possible_mask)
#define cpu_online_mask (&sv_online_mask)
#define CPU_MASK_NONE ((cpumask_t){ { 0 } })
#define nr_cpu_ids ((unsigned int)sv_nr_cpu_ids)
#define nr_cpumask_bits ((unsigned int)SV_CPUS)
bool sv_cpumask_test(int cpu, const struct cpumask *mask);
/* The first CPU of `mask` after `cpu`, nr_cpu_ids if there is none. */
unsigned int sv_cpumask_next(int cpu, const struct cpumask *mask);
unsigned int sv_cpumask_weight(const struct cpumask *mask);
#define cpumask_test_cpu(cpu, mask) sv_cpumask_test(cpu, mask)
#define cpumask_next(cpu, mask) sv_cpumask_next(cpu, mask)
#define cpumask_first(mask) sv_cpumask_next(-1, mask)
#define cpumask_weight(mask) sv_cpumask_weight(mask)
#define cpumask_empty(mask) (sv_cpumask_weight(mask) == 0)
#define cpumask_set_cpu(cpu, mask) set_bit(cpu, (mask)->bits)
#define cpumask_clear_cpu(cpu, mask) clear_bit(cpu, (mask)->bits)
#define __cpumask_set_cpu(cpu, mask) __set_bit(cpu, (mask)->bits)
#define __cpumask_clear_cpu(cpu, mask) __clear_bit(cpu, (mask)->bits)
#define cpumask_clear(mask) bitmap_zero((mask)->bits, SV_CPUS)
#define cpu_possible(cpu) sv_cpumask_test(cpu, cpu_possible_mask)
#define cpu_online(cpu) sv_cpumask_test(cpu, cpu_online_mask)
#define num_possible_cpus() sv_cpumask_weight(cpu_possible_mask)
#define num_online_cpus() sv_cpumask_weight(cpu_online_mask)
#define for_each_cpu(cpu, mask) \
	for ((cpu) = cpumask_first(mask); (unsigned int)(cpu) < SV_CPUS; (cpu) = cpumask_next(cpu, mask))
#define for_each_possible_cpu(cpu) for_each_cpu(cpu, cpu_possible_mask)
#define for_each_online_cpu(cpu) for_each_cpu(cpu, cpu_online_mask)
#define for_each_present_cpu(cpu) for_each_cpu(cpu, cpu_possible_mask)
/* The CPU masks are stable as they are: a CPU comes and goes between two points. */
#define cpus_read_lock() do { } while (0)
#define cpus_read_unlock() do { } while (0)

#endif
