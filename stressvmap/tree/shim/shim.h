/* SPDX-License-Identifier: GPL-2.0-only */
/* What the shim's own files share. All of their data is put back before each run, but for what is SV_OUTLIVES. */
#ifndef SV_SHIM_H
#define SV_SHIM_H

/* Task ids, as in stressvmap/kernel/kernel.py. */
#define SV_INTERRUPT_TASKS 1000
#define SV_KWORKER_TASKS 2000
#define SV_RCU_TASK 3000
#define SV_KWORKERS 3 /* a work may wait for another (flush_work), which then needs one of its own */

/* host_memory.c: an array of zeros that outlives the runs; memory that nobody touches is none. Never NULL. */
void *sv_host_array(size_t bytes);
/* Memory at an address of the code under test's choice, for it keeps a list in pages that are to be freed. */
void sv_host_window(uint64_t start, uint64_t bytes);

/* Boot, in this order; each may spawn its tasks. `cpu` is one that is online. */
void sv_percpu_boot(void);
void sv_rcu_boot(int cpu);
void sv_workqueue_boot(void);
void sv_frames_boot(void);
void sv_pagetable_boot(void);
void sv_tlb_boot(void);
void sv_spaces_boot(void);
void sv_index_boot(void);
void sv_program_boot(void);
void sv_percpu_keep_boot(void);
/* All of the machine but the code under test. */
void sv_machine_boot(void);
void sv_machine_keep_boot(void);

/* After a run: what the arrays that outlive it still hold of it. */
void sv_percpu_reset(void);
void sv_frames_reset(void);
void sv_pagetable_reset(void);
void sv_tlb_reset(void);
void sv_spaces_reset(void);
void sv_machine_reset(void);

/* cpu.c: stressvmap/kernel/machine.py:cpu_down and set_online. False: it cannot go, or come. */
bool sv_cpu_down(int cpu);
bool sv_cpu_up(int cpu);
void *sv_per_cpu_copy(const void *template, int cpu);

/*
 * Which entries of a table a run has changed: they are to be cleared after it, and no others. It outlives the run, as
 * the table does. Each entry is logged once.
 */
struct sv_log {
	uint32_t *entries;
	uint8_t *is_logged;
	uint32_t count;
};
void sv_log_boot(struct sv_log *log, uint64_t table_entries);
void sv_log(struct sv_log *log, uint64_t entry);
/* Clear the entries, of `size` bytes each, of the table that is logged. */
void sv_log_clear(struct sv_log *log, void *table, size_t size);

/* pagetable.c, in pages: the frame of a present PTE and one, or 0. */
unsigned long sv_pte_at(uint64_t page);
uint64_t sv_window_pages(void);
bool sv_is_in_window(uint64_t page);

/* tlb.c */
bool sv_has_interrupts_pending(int cpu);
int sv_awaited_interrupts(const struct sv_task *task, int32_t *ids, int limit);
void sv_empty_tlb(int cpu);

/* rcu.c */
int sv_awaited_readers(const struct sv_task *task, int32_t *ids, int limit);

/* spaces.c: address space as callers have it, in pages. */
void sv_space_taken(uint64_t start, uint64_t end, bool is_block);
void sv_space_unlinked(uint64_t start, uint64_t end);
void sv_space_returned(uint64_t start, uint64_t end);
bool sv_is_any_space_out(uint64_t start, uint64_t end);

/* registered.c: what the code under test registered at boot. */
bool sv_has_shrinker(void);
void sv_shrink(void);

/* after_vmalloc.h: compiled with mm/vmalloc.c, for it knows that file's types. */
void sv_vmalloc_boot(void);
void sv_area_freed(const void *area);
const char *sv_type_by_size(size_t size);
int sv_vmap_node_of(const struct work_struct *work); /* whose purge_work it is; -1: none's */

#endif
