// SPDX-License-Identifier: GPL-2.0-only
/* The machine's boot, and what is put back after each run but for the snapshot: stressvmap/kernel/kernel.py. */
#include "shim.h"

void sv_log_boot(struct sv_log *log, uint64_t table_entries)
{
	log->entries = sv_host_array(table_entries * sizeof(*log->entries));
	log->is_logged = sv_host_array(table_entries);
}

void sv_log(struct sv_log *log, uint64_t entry)
{
	if (log->is_logged[entry])
		return;
	log->is_logged[entry] = 1;
	log->entries[log->count++] = (uint32_t)entry;
}

void sv_log_clear(struct sv_log *log, void *table, size_t size)
{
	for (uint32_t i = 0; i < log->count; i++) {
		log->is_logged[log->entries[i]] = 0;
		memset((char *)table + log->entries[i] * size, 0, size);
	}
	log->count = 0;
}

/* Who is waited for where they are many, ascending: a task waits for one thing at a time. */
int sv_awaited(const struct sv_task *task, int32_t *ids, int limit)
{
	int count = sv_awaited_interrupts(task, ids, limit);

	if (!count)
		count = sv_awaited_readers(task, ids, limit);
	for (int i = 1; i < count; i++)
		for (int j = i; j > 0 && ids[j - 1] > ids[j]; j--)
			swap(ids[j - 1], ids[j]);
	return count;
}

void sv_machine_boot(void)
{
	int cpu = 0;

	while (!sv_cpu_online[cpu])
		cpu++;
	sv_percpu_boot();
	sv_pagetable_boot();
	sv_tlb_boot();
	sv_frames_boot();
	sv_workqueue_boot();
	sv_rcu_boot(cpu);
}

void sv_machine_keep_boot(void)
{
	sv_percpu_keep_boot();
}

void sv_machine_reset(void)
{
	sv_percpu_reset();
	sv_pagetable_reset();
	sv_tlb_reset();
	sv_frames_reset();
}
