// SPDX-License-Identifier: GPL-2.0-only
/* One TLB a CPU, and the flush that interrupts every CPU and waits for each: stressvmap/kernel/memory.py. */
#include "shim.h"

/* One flush under way. It lies on the initiator's stack, who waits until the last CPU has answered. */
struct flush {
	uint64_t number, first, last;
	struct sv_task *initiator;
	int unanswered;
};

struct request {
	struct request *next;
	struct flush *flush;
};

/* By CPU, page by page of the window: the frame and one, 0: nothing cached. */
static SV_OUTLIVES uint32_t *tlbs[SV_CPUS];
static SV_OUTLIVES struct sv_log filled[SV_CPUS];
static uint32_t cached[SV_CPUS]; /* entries of each */
static struct request *requests[SV_CPUS], *last_request[SV_CPUS];
static struct sv_task *interrupts[SV_CPUS];
static uint64_t flushes;

void sv_tlb_reset(void)
{
	for (int cpu = 0; cpu < sv_nr_cpu_ids; cpu++)
		sv_log_clear(&filled[cpu], tlbs[cpu], sizeof(*tlbs[cpu]));
}

bool sv_has_interrupts_pending(int cpu)
{
	return requests[cpu] != NULL;
}

static void drop(int cpu, uint64_t first, uint64_t last)
{
	uint64_t low = sv_config.window_start, high = sv_config.window_end;

	first = first > low ? first - low : 0;
	last = last < high ? (last > low ? last - low : 0) : high - low;
	for (uint64_t page = first; page < last && cached[cpu]; page++) {
		if (tlbs[cpu][page]) {
			tlbs[cpu][page] = 0;
			cached[cpu]--;
		}
	}
}

void sv_empty_tlb(int cpu)
{
	drop(cpu, 0, SV_FULL_END);
}

static void invalidate(int cpu, uint64_t first, uint64_t last)
{
	drop(cpu, first, last);
	sv_record(SV_TLB_INVALIDATE, first, 0, last);
}

bool sv_read_page(unsigned long page)
{
	int cpu;
	uint32_t entry;

	sv_point(SV_TLB_READ, -(uint64_t)page, sv_string("pte"));
	cpu = sv_current->cpu;
	entry = tlbs[cpu][page - sv_config.window_start];
	if (entry) {
		sv_record(SV_TLB_READ, page, entry - 1, 1);
		return true;
	}
	entry = (uint32_t)sv_pte_at(page);
	if (!entry)
		return false;
	tlbs[cpu][page - sv_config.window_start] = entry;
	cached[cpu]++;
	sv_log(&filled[cpu], page - sv_config.window_start);
	sv_record(SV_TLB_FILL, page, entry - 1, 0);
	sv_record(SV_TLB_READ, page, entry - 1, 0);
	return true;
}

static void ask(int cpu, struct request *request, struct flush *flush)
{
	*request = (struct request){ NULL, flush };
	flush->unanswered++;
	sv_record(SV_IPI_SEND, flush->number, 0, (uint64_t)cpu);
	if (requests[cpu])
		last_request[cpu]->next = request;
	else
		requests[cpu] = request;
	last_request[cpu] = request;
	sv_wake(interrupts[cpu]);
}

void sv_flush_tlb_kernel_range(unsigned long start, unsigned long end)
{
	uint64_t first = start >> PAGE_SHIFT, last = (end >> PAGE_SHIFT) + !!(end & ~PAGE_MASK);
	uint64_t ceiling = sv_config.full_flush_ceiling_pages;
	struct request waiting[SV_CPUS];
	uint8_t asked[SV_CPUS];
	struct flush flush;
	int own;

	SV_SITE();
	sv_record(SV_FLUSH_ARGS, first, 0, last);
	if (ceiling && (last < first || last - first > ceiling)) {
		first = 0;
		last = SV_FULL_END;
	}
	sv_preempt_disable();
	flush = (struct flush){ ++flushes, first, last, sv_current, 0 };
	sv_record(SV_FLUSH_BEGIN, first, (uint32_t)flush.number, last);
	own = sv_current->cpu;
	memcpy(asked, sv_cpu_online, sizeof(asked));
	for (int cpu = 0; cpu < sv_nr_cpu_ids; cpu++) {
		if (cpu == own || !asked[cpu])
			continue;
		sv_point(SV_IPI_SEND, 0, sv_string("ipi"));
		if (sv_cpu_online[cpu]) /* else it has left meanwhile, and its TLB is empty */
			ask(cpu, &waiting[cpu], &flush);
	}
	sv_point(SV_TLB_INVALIDATE, 0, sv_string("tlb"));
	invalidate(own, first, last);
	sv_current->blocked_object = 0;
	sv_current->blocked_class = sv_string("answers to a TLB flush");
	sv_current->blocked_owner = 0;
	sv_point(0, 0, sv_string("answers"));
	while (flush.unanswered)
		sv_park();
	sv_record(SV_FLUSH_END, first, (uint32_t)flush.number, last);
	sv_preempt_enable();
}

static bool has_requests(int cpu)
{
	sv_note(SV_REQUESTS, (uint64_t)cpu, SV_LOOKS);
	return requests[cpu] != NULL;
}

/* Body of a CPU's interrupt pseudo-task: handle what other CPUs asked for. */
static void serve_interrupts(void *argument)
{
	int cpu = (int)(long)argument;
	struct sv_task *task = sv_current;

	while (has_requests(cpu)) {
		struct flush *flush;

		sv_pin(task);
		task->preempt_count++;
		sv_point(SV_TLB_INVALIDATE, 0, sv_string("tlb"));
		flush = requests[cpu]->flush;
		requests[cpu] = requests[cpu]->next;
		sv_note(SV_REQUESTS, (uint64_t)cpu, SV_CHANGES);
		invalidate(cpu, flush->first, flush->last);
		sv_note(SV_ANSWERS, (uint64_t)flush->initiator->id, SV_ADDS);
		flush->unanswered--;
		task->preempt_count--;
		sv_unpin(task);
		if (sv_on_quiescent)
			sv_on_quiescent(task);
		if (!flush->unanswered)
			sv_wake(flush->initiator);
	}
}

/* Whose answers the current flush of `task` waits for: up to `limit` task ids; how many there are. */
int sv_awaited_interrupts(const struct sv_task *task, int32_t *ids, int limit)
{
	int count = 0;

	for (int cpu = 0; cpu < sv_nr_cpu_ids; cpu++)
		for (const struct request *request = requests[cpu]; request; request = request->next)
			if (request->flush->initiator == task && count < limit)
				ids[count++] = interrupts[cpu]->id;
	return count;
}

void sv_tlb_boot(void)
{
	for (int cpu = 0; cpu < sv_nr_cpu_ids; cpu++) {
		char name[] = "irq/000";
		char *end = name + (cpu > 99 ? 7 : cpu > 9 ? 6 : 5);

		if (!sv_cpu_possible[cpu])
			continue;
		tlbs[cpu] = sv_host_array(sv_window_pages() * sizeof(*tlbs[cpu]));
		sv_log_boot(&filled[cpu], sv_window_pages());
		*end = 0;
		for (int rest = cpu; end > name + 4; rest /= 10)
			*--end = (char)('0' + rest % 10);
		interrupts[cpu] = sv_spawn(SV_INTERRUPT_TASKS + cpu, name, cpu, serve_interrupts, (void *)(long)cpu, true,
					   true);
	}
}
