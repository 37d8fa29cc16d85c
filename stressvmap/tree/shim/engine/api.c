// SPDX-License-Identifier: GPL-2.0-only
/*
 * What Python calls: boot once, then load and run as often as it likes. Every run begins from the same state.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "screen.h"

#define CLEANUP_TASK 900

struct sv_config sv_config;

static char error[256];
static bool is_booted, is_loaded, is_bare_next;

/*
 * What a run changes lies in these sections, whose ends the linker names. Weak, for a library need not have
 * each.
 */
#define SECTION(name)                                                                                   \
	extern char __start_##name[] __attribute__((weak, visibility("hidden")));                       \
	extern char __stop_##name[] __attribute__((weak, visibility("hidden")));
SECTION(sv_state)
SECTION(kdata)
SECTION(kbss)

static struct {
	char *start, *stop, *copy;
} snapshot[] = {
	{ __start_sv_state, __stop_sv_state, NULL },
	{ __start_kdata, __stop_kdata, NULL },
	{ __start_kbss, __stop_kbss, NULL },
};
#define SECTIONS (sizeof(snapshot) / sizeof(snapshot[0]))

void sv_set_error(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(error, sizeof(error), format, arguments);
	va_end(arguments);
}

const char *sv_error(void)
{
	return error;
}

uint64_t sv_mix(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/* ---------------------------------------------------------------- boot */

static bool take_snapshot(void)
{
	for (size_t i = 0; i < SECTIONS; i++) {
		size_t size = (size_t)(snapshot[i].stop - snapshot[i].start);

		snapshot[i].copy = malloc(size + 1);
		if (!snapshot[i].copy)
			return false;
		if (size)
			memcpy(snapshot[i].copy, snapshot[i].start, size);
	}
	return sv_objects_keep_boot();
}

static void put_back_snapshot(void)
{
	for (size_t i = 0; i < SECTIONS; i++) {
		size_t size = (size_t)(snapshot[i].stop - snapshot[i].start);

		if (size)
			memcpy(snapshot[i].start, snapshot[i].copy, size);
	}
	sv_objects_reset();
}

static bool take_config(const struct sv_config *config)
{
	bool has_online = false;

	sv_config = *config;
	sv_nr_cpu_ids = 0;
	for (int cpu = 0; cpu < SV_CPUS; cpu++) {
		sv_cpu_possible[cpu] = sv_config.possible[cpu];
		sv_cpu_online[cpu] = sv_config.online[cpu];
		if (sv_config.possible[cpu])
			sv_nr_cpu_ids = cpu + 1;
		if (sv_config.online[cpu] && !sv_config.possible[cpu])
			return false;
		has_online |= sv_config.online[cpu];
	}
	return has_online;
}

static void boot(void *unused)
{
	(void)unused;
	sv_shim_boot();
}

int sv_boot(const struct sv_config *config)
{
	error[0] = 0;
	if (is_booted)
		sv_set_error("the machine is booted already");
	else if (config->abi != SV_ABI)
		sv_set_error("the library has ABI %d, Python %u", SV_ABI, config->abi);
	else if (!take_config(config))
		sv_set_error("no CPU is online, or one is that is not possible");
	else if (!sv_journal_boot() || !sv_objects_boot() || !sv_tasks_boot() || !sv_schedule_init())
		sv_set_error("no memory for the engine");
	if (error[0])
		return -1;
	sv_crash_boot();
	if (!sv_crash_arm())
		return -1;
	if (!sv_run_boot(boot))
		sv_set_error("boot: %s", sv_crash_text);
	sv_in_task = 0;
	sv_fill();
	if (!error[0] && !take_snapshot())
		sv_set_error("no memory for a copy of the machine");
	if (error[0])
		return -1;
	sv_tasks_keep_boot();
	sv_journal_keep_boot();
	is_booted = true;
	return 0;
}

/* ---------------------------------------------------------------- load and run */

void sv_begin_run(void)
{
	put_back_snapshot();
	sv_is_bare = is_bare_next;
	sv_cpus_reset();
	sv_schedule_reset();
	sv_tasks_reset();
	sv_journal_reset(sv_config.keeps_events && !sv_is_bare);
	sv_program_reset();
	sv_seen = 0;
	sv_load_stack_bounds(&sv_boot_task);
	sv_shim_reset();
	sv_fill();
	sv_program_spawn();
	sv_migrations_arm();
	if (sv_is_ordered)
		sv_order_reset();
}

int sv_load(const struct sv_program_task *tasks, uint32_t n_tasks, const struct sv_op *ops,
	    const struct sv_fault *faults, uint32_t n_faults, const struct sv_migration *migrations,
	    uint32_t n_migrations)
{
	error[0] = 0;
	if (!is_booted)
		sv_set_error("the machine is not booted");
	if (error[0] || !sv_program_keep(tasks, n_tasks, ops) ||
	    !sv_faults_keep(faults, n_faults, migrations, n_migrations))
		return -1;
	sv_search_end();
	sv_begin_run();
	is_loaded = true;
	return 0;
}

static int first_online(void)
{
	int cpu = 0;

	while (!sv_cpu_online[cpu])
		cpu++;
	return cpu;
}

void sv_end_run(int *reason)
{
	if (*reason == SV_DONE) {
		sv_spawn(CLEANUP_TASK, "cleanup", first_online(), sv_clean_up, NULL, false, false);
		*reason = sv_run_tasks();
	}
	sv_in_task = 0;
	sv_fill();
	sv_record_stop(*reason);
}

/* What is loaded, to its end. */
static int run_to_end(void)
{
	int reason;

	is_loaded = false;
	reason = sv_run_tasks();
	sv_end_run(&reason);
	return reason;
}

int sv_run(void)
{
	error[0] = 0;
	sv_stop_requested = 0;
	if (!is_loaded)
		sv_set_error("no program is loaded: each run needs an sv_load");
	if (!is_loaded || !sv_crash_arm())
		return SV_INTERRUPTED;
	return run_to_end();
}

int sv_run_many(const struct sv_job *jobs, uint32_t n, struct sv_tally *tally)
{
	const struct sv_job *job = jobs;

	memset(tally, 0, sizeof(*tally));
	sv_stop_requested = 0;
	while (n) {
		sv_set_strategy(job->strategy, job->seed);
		if (sv_load(job->tasks, job->n_tasks, job->ops, job->faults, job->n_faults, job->migrations,
			    job->n_migrations) || !sv_crash_arm())
			return -1;
		tally->reason = (uint32_t)run_to_end();
		tally->flags = sv_screen();
		job++;
		if (!--n || tally->flags || sv_stop_requested)
			break;
		tally->points += sv_points;
		tally->operations += sv_operations();
	}
	return (int)(job - jobs);
}

const struct sv_task *const *sv_all_tasks(uint32_t *n)
{
	*n = (uint32_t)sv_task_count;
	return (const struct sv_task *const *)sv_tasks;
}

int32_t sv_current_id(void)
{
	return sv_current->id;
}

uint64_t sv_flags(void)
{
	return sv_seen;
}

void sv_set_steps_max(uint64_t steps_max)
{
	sv_config.steps_max = steps_max;
}

uint64_t sv_base(void)
{
	return (uintptr_t)__ehdr_start;
}

uint64_t sv_arena_base(void)
{
	return sv_arena;
}

void sv_set_bare(int is_bare)
{
	is_bare_next = is_bare;
}

uint64_t sv_engine_bench(uint64_t n, uint64_t seed, uint32_t switches)
{
	uint64_t points = 0, length = 1000;

	for (uint64_t i = 0; i < n; i++) {
		sv_begin_run();
		is_loaded = true;
		sv_plan_random(&seed, length, switches);
		sv_run();
		points += sv_points;
		if (sv_points)
			length = sv_points;
	}
	return points;
}
