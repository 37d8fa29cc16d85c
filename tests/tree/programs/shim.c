// SPDX-License-Identifier: GPL-2.0-only
/*
 * The little kernel of the engine's own tests: a lock, an interrupt for each CPU, a daemon. Not instrumented.
 */
#include "cases.h"

#define INTERRUPT_TASK 1000
#define DAEMON_TASK 2000

extern uint64_t counter;

static SV_STATE struct sv_task *owner;
static SV_STATE uint64_t interrupts_handled;
static SV_STATE uint64_t *on_heap;
/* As the builder names what kernel objects keep in .data and .bss. */
static __attribute__((section("kdata"))) uint64_t kernel_data = 7;
static __attribute__((section("kbss"))) uint64_t kernel_bss;

static uint32_t lock_class(void)
{
	return sv_string("test_lock");
}

static void acquire(void)
{
	uint64_t waited = 0;

	while (owner) {
		waited = 1;
		sv_record(SV_LOCK_WAIT, (uintptr_t)&owner, lock_class(), (uint64_t)owner->id);
		sv_current->blocked_object = (uintptr_t)&owner;
		sv_current->blocked_class = lock_class();
		sv_current->blocked_owner = owner->id;
		sv_park();
	}
	owner = sv_current;
	sv_record(SV_LOCK, (uintptr_t)&owner, lock_class(), waited);
}

void lock(void)
{
	SV_SITE();
	sv_point(SV_LOCK, (uintptr_t)&owner, lock_class());
	sv_preempt_disable();
	acquire();
}

void unlock(void)
{
	SV_SITE();
	sv_point(SV_UNLOCK, (uintptr_t)&owner, lock_class());
	sv_record(SV_UNLOCK, (uintptr_t)&owner, lock_class(), (uint64_t)owner->id);
	owner = NULL;
	for (int32_t i = 0; i < sv_task_count; i++)
		if (sv_tasks[i]->is_parked && sv_tasks[i]->blocked_object == (uintptr_t)&owner)
			sv_wake(sv_tasks[i]);
	sv_preempt_enable();
}

void *allocate(size_t size, const char *type, bool zeroed)
{
	SV_SITE();
	return sv_alloc(size, type, zeroed);
}

void release(void *object)
{
	SV_SITE();
	sv_free(object, SV_FREED_SLAB);
}

void case_points(uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		sv_point(0, 0, sv_string("pause"));
}

void case_pinned_points(uint32_t n)
{
	sv_preempt_disable();
	sv_record(SV_PREEMPT, (uint64_t)sv_current->preempt_count, 0, 0);
	case_points(n);
	sv_preempt_enable();
	sv_record(SV_PREEMPT, (uint64_t)sv_current->preempt_count, 0, 0);
	case_points(1);
}

void case_irqs_off_points(uint32_t n)
{
	int cpu;

	sv_preempt_disable();
	cpu = sv_current->cpu;
	sv_disable_irqs(cpu);
	case_points(n);
	sv_enable_irqs(cpu);
	sv_preempt_enable();
	case_points(1);
}

void case_raise_irq(uint32_t cpu)
{
	sv_point(SV_IPI_SEND, 0, sv_string("ipi"));
	sv_record(SV_IPI_SEND, 0, 0, cpu);
	sv_wake(sv_task_by_id(INTERRUPT_TASK + (int)cpu));
}

void case_wake_daemon(uint32_t n)
{
	(void)n;
	case_points(1);
	sv_record(SV_WORK_QUEUE, 0, sv_string("work"), 0);
	sv_wake(sv_task_by_id(DAEMON_TASK));
}

void case_draw_points(uint32_t n)
{
	case_points(sv_draw(n));
}

void case_move_to(uint32_t cpu)
{
	if (sv_move(sv_current, (int)cpu))
		sv_wait_for_cpu();
	case_points(1);
}

void case_take_lock_and_die(uint32_t n)
{
	(void)n;
	lock();
	sv_bug("a task dies with its lock");
}

void case_may_fail(uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		sv_should_fail("kmalloc");
}

void case_sleep_for_ever(uint32_t n)
{
	(void)n;
	sv_current->blocked_class = sv_string("nothing");
	sv_park();
}

void case_free_boot(uint32_t n)
{
	(void)n;
	sv_free(on_heap, SV_FREED_SLAB);
}

void case_ask_to_stop(uint32_t n)
{
	sv_request_stop();
	case_points(n);
}

void case_lock_twice(uint32_t n)
{
	lock();
	case_points(n);
	unlock();
	lock();
	unlock();
}

/* ---------------------------------------------------------------- what the engine asks of a shim */

static void interrupt(void *unused)
{
	struct sv_task *task = sv_current;

	(void)unused;
	sv_pin(task);
	task->preempt_count++;
	sv_point(SV_TLB_INVALIDATE, 0, sv_string("tlb"));
	interrupts_handled++;
	sv_record(SV_TLB_INVALIDATE, 0, 0, interrupts_handled);
	task->preempt_count--;
	sv_unpin(task);
}

static void daemon_body(void *unused)
{
	(void)unused;
	sv_record(SV_WORK_BEGIN, 0, sv_string("work"), 0);
	case_points(2);
	sv_record(SV_WORK_END, 0, sv_string("work"), 0);
}

/* What a boot may do wrong, by the number of slots that it is told. */
static void go_wrong(void)
{
	if (sv_config.slots == 1)
		*(volatile int *)NULL = 1;
	while (sv_config.slots == 2)
		;
	if (sv_config.slots == 3)
		sv_park();
	if (sv_config.slots == 4)
		sv_bug("a BUG at boot");
}

void sv_shim_boot(void)
{
	go_wrong();
	for (int cpu = 0; cpu < sv_nr_cpu_ids; cpu++)
		if (sv_cpu_possible[cpu])
			sv_spawn(INTERRUPT_TASK + cpu, "irq", cpu, interrupt, NULL, true, true);
	sv_spawn(DAEMON_TASK, "kworker", 0, daemon_body, NULL, true, false);
	sv_name_static(&counter, sizeof(counter), "counter", -1);
	sv_name_static(&owner, sizeof(owner), "lock", -1);
	on_heap = sv_alloc(4 * sizeof(*on_heap), "boot", true);
	on_heap[0] = 3;
}

void sv_shim_reset(void)
{
}

#define NAME(name) #name,
#define BODY(name) case_##name,
SV_EXPORT const char *const case_names[] = { CASES(NAME) CPU_CASES(NAME) NULL };
static void (*const cases[])(uint32_t n) = { CASES(BODY) CPU_CASES(BODY) };

bool sv_perform(const struct sv_op *op)
{
	cases[op->kind](op->pages);
	return true;
}

void sv_clean_up(void *unused)
{
	(void)unused;
	sv_record(SV_WRITE, (uintptr_t)on_heap, 8, on_heap[0]);
	on_heap[0]++;
	kernel_data++;
	kernel_bss++;
}

/* For the tests: everything that a run changes, in one number each. */
SV_EXPORT uint64_t state(uint32_t n);
uint64_t state(uint32_t n)
{
	uint64_t values[] = { kernel_data,	  kernel_bss,	 on_heap[0],
			      interrupts_handled, owner != NULL, sv_is_object(on_heap) };

	return values[n];
}
