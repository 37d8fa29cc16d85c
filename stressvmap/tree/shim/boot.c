// SPDX-License-Identifier: GPL-2.0-only
/* The machine's boot, and what is put back after each run but for the snapshot: stressvmap/kernel/kernel.py. */
#include "shim.h"

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
