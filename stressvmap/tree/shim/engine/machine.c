// SPDX-License-Identifier: GPL-2.0-only
/*
 * Preemption, migration, injected failures, BUG and WARN, and what is told of a run that stops
 * (kernel/machine.py).
 */
#include <stdio.h>
#include <string.h>

#include "internal.h"

#define FAULTS 1024
#define MIGRATIONS 1024
#define FAULT_KINDS 8 /* as many as sv_task.asked counts */

void (*sv_on_quiescent)(struct sv_task *task);
uint64_t sv_seen;

static struct sv_fault faults[FAULTS];
static struct sv_migration migrations[MIGRATIONS];
static uint32_t fault_count, migration_count;
static uint32_t fault_kinds[FAULT_KINDS], fault_kind_count;

/* ---------------------------------------------------------------- preemption */

static void quiescent(struct sv_task *task)
{
	if (sv_on_quiescent)
		sv_on_quiescent(task);
}

void sv_preempt_disable(void)
{
	struct sv_task *task = sv_current;

	if (++task->preempt_count == 1 && !task->is_pinned)
		sv_pin(task);
}

void sv_preempt_enable(void)
{
	struct sv_task *task = sv_current;

	if (--task->preempt_count)
		return;
	if (!task->is_interrupt)
		sv_unpin(task);
	if (!task->rcu_depth)
		quiescent(task);
}

void sv_might_sleep(const char *what)
{
	sv_record(SV_MIGHT_SLEEP, 0, sv_string(what), (uint64_t)(int64_t)sv_current->preempt_count);
}

void sv_data_race_begin(void)
{
	sv_current->race_depth++;
}

void sv_data_race_end(void)
{
	sv_current->race_depth--;
}

void sv_site(const void *pc)
{
	sv_fill();
	sv_current->pc = sv_place_of(pc);
}

/* ---------------------------------------------------------------- migration */

bool sv_move(struct sv_task *task, int cpu)
{
	int old = task->cpu;

	if (cpu == old || cpu < 0 || cpu >= sv_nr_cpu_ids || !sv_cpu_online[cpu])
		return false;
	sv_place(task, cpu);
	sv_record_for(task, SV_MIGRATED, (uint64_t)old, 0, (uint64_t)cpu);
	return true;
}

static void set_next_migration(struct sv_task *task, uint64_t earliest)
{
	task->migrate_at = SV_NEVER;
	if (task->next_migration < task->migrations_end) {
		task->migrate_at = migrations[task->next_migration].point;
		if (task->migrate_at < earliest)
			task->migrate_at = earliest;
	}
}

/* Move `task` as planned if it is preemptible; else its next point asks again. */
void sv_migrate(struct sv_task *task)
{
	int cpu = (int)migrations[task->next_migration].cpu;

	if (task->preempt_count || task->is_interrupt)
		return;
	task->next_migration++;
	set_next_migration(task, task->points + 1);
	sv_move(task, cpu);
}

/* ---------------------------------------------------------------- injected failures */

bool sv_faults_keep(const struct sv_fault *new_faults, uint32_t n_faults,
		    const struct sv_migration *new_migrations, uint32_t n_migrations)
{
	if (n_faults > FAULTS || n_migrations > MIGRATIONS) {
		sv_set_error("%u faults and %u migrations: there may be %d and %d", n_faults, n_migrations,
			     FAULTS, MIGRATIONS);
		return false;
	}
	fault_count = n_faults;
	migration_count = n_migrations;
	if (n_faults)
		memcpy(faults, new_faults, n_faults * sizeof(faults[0]));
	if (n_migrations)
		memcpy(migrations, new_migrations, n_migrations * sizeof(migrations[0]));
	return true;
}

void sv_migrations_arm(void)
{
	for (uint32_t i = 0, end; i < migration_count; i = end) {
		struct sv_task *task = sv_task_by_id((int)migrations[i].task);

		for (end = i; end < migration_count && migrations[end].task == migrations[i].task; end++)
			;
		if (task) {
			task->next_migration = i;
			task->migrations_end = end;
			set_next_migration(task, 0);
		}
	}
}

static uint32_t fault_kind(uint32_t kind)
{
	uint32_t i = 0;

	while (i < fault_kind_count && fault_kinds[i] != kind)
		i++;
	if (i == FAULT_KINDS)
		sv_bug("more kinds of failure than the engine counts");
	if (i == fault_kind_count)
		fault_kinds[fault_kind_count++] = kind;
	return i;
}

bool sv_should_fail(const char *kind)
{
	struct sv_task *task = sv_current;
	uint32_t string, nth;

	if (!fault_count)
		return false;
	string = sv_string(kind);
	nth = task->asked[fault_kind(string)]++;
	for (uint32_t i = 0; i < fault_count; i++) {
		const struct sv_fault *fault = &faults[i];

		if (fault->kind == string && fault->task == (uint32_t)task->id && fault->nth == nth) {
			sv_record(SV_ALLOC_FAILED, 0, string, nth);
			return true;
		}
	}
	return false;
}

/* ---------------------------------------------------------------- BUG and WARN */

/* What do_exit() gives back for a task that hit a BUG_ON, which its locks are not part of. */
static void make_task_dead(struct sv_task *task)
{
	task->preempt_count = 0;
	task->rcu_depth = 0;
	sv_enable_irqs(task->cpu);
	quiescent(task);
}

void sv_die(struct sv_task *task, const char *what)
{
	sv_seen |= SV_SAW_BUG;
	sv_record_for(task, SV_BUG, 0, sv_string(what), 0);
	task->is_dead = 1;
	if (task->is_pinned)
		sv_unpin(task);
	make_task_dead(task);
}

_Noreturn void sv_bug(const char *what)
{
	struct sv_task *task = sv_current;

	if (!sv_in_task) {
		/*
		 * Outside a run it is the shim's own reset or audit that is wrong, and nobody to go on with.
		 */
		fprintf(stderr, "stressvmap engine: %s\n", what);
		__builtin_trap();
	}
	sv_fill();
	if (task == &sv_boot_task)
		sv_set_error("boot: %s", what);
	else
		sv_die(task, what);
	sv_leave_for_good(task);
}

void sv_warn(const char *what)
{
	sv_seen |= SV_SAW_WARN;
	sv_record(SV_WARN, 0, sv_string(what), 0);
}

/* ---------------------------------------------------------------- the end of a run */

/* An entry for each task that it waits for. */
static void record_waiting(const struct sv_task *task)
{
	int32_t owners[SV_TASKS];
	int count = sv_awaited ? sv_awaited(task, owners, SV_TASKS) : 0;

	if (!count)
		owners[count++] = task->blocked_owner;
	for (int i = 0; i < count; i++)
		sv_record_for(task, SV_BLOCKED, task->blocked_object, task->blocked_class,
			      (uint64_t)owners[i]);
}

/* Why `task` went no further: what it waits for, or nothing but the end. */
static void record_unfinished(const struct sv_task *task)
{
	const struct sv_task *occupant;
	char text[32];

	if (task->is_parked) {
		record_waiting(task);
	} else if (sv_can_run(task)) {
		sv_record_for(task, SV_RUNNABLE, 0, 0, 0);
	} else {
		occupant = sv_interrupt_on(task->cpu);
		if (!occupant)
			occupant = sv_pinned_on(task->cpu);
		snprintf(text, sizeof(text), "CPU %d", task->cpu);
		sv_record_for(task, SV_BLOCKED, 0, sv_string(text), occupant ? (uint64_t)occupant->id : 0);
	}
}

void sv_record_stop(int reason)
{
	static const char *const names[] = {
		[SV_DONE] = "done",
		[SV_DEADLOCK] = "deadlock",
		[SV_STEPS_MAX] = "steps-max",
		[SV_INTERRUPTED] = "interrupted",
	};
	const char *name = names[reason];

	for (int32_t i = 0; reason != SV_DONE && i < sv_task_count; i++)
		if (!sv_is_finished(sv_tasks[i]))
			record_unfinished(sv_tasks[i]);
	for (int32_t i = 0; reason == SV_DEADLOCK && i < sv_task_count; i++)
		if (sv_tasks[i]->is_dead)
			name = "bug";
	if (reason != SV_DONE)
		sv_seen |= SV_SAW_STOP;
	sv_record(SV_STOPPED, 0, sv_string(name), 0);
}
