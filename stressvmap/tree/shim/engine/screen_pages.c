// SPDX-License-Identifier: GPL-2.0-only
/*
 * What really happened to translations, address space and callers: stale-after-unmap-aliases, reuse-before-flush,
 * stale-access, overlapping-mapping, the limits of a flush's cost, and which pages a mapping call returned.
 */
#include <string.h>

#include "screen_state.h"

#define FRAMES ((size_t)1 << 20)
#define CACHED 1024

struct page **sc_pending, **sc_touched; /* pages that some CPU may still translate; all with a record in this run */
uint32_t sc_n_pending, sc_n_touched, sc_n_mappings;

static struct page *pages, **matched;
static uint32_t *out_in;      /* by page: the run in which it is handed out, 0 */
static uint32_t *owner_moved; /* by frame: number of its last change of owner + 1 ... */
static uint32_t *owner_run;   /* ... in this run */
static uint32_t n_owned;      /* frames that have one */
static bool *is_frame_owned;
static uint64_t first_page, n_pages, n_room;
static uint64_t online;
static uint32_t entry_strings[ENTRIES];
static struct { uint64_t page; uint32_t cpu, set_at; } cached[CACHED]; /* translations in TLBs; set_at 0: unknown */
static uint32_t n_cached;

/* ---------------------------------------------------------------- pages */

/* Records of an earlier setup carry another run's number, so the same memory serves again. */
static bool make_room(uint64_t wanted)
{
	if (wanted <= n_room)
		return true;
	n_room = wanted;
	pages = sc_map_zeroed(wanted * sizeof(*pages));
	out_in = sc_map_zeroed(wanted * sizeof(*out_in));
	sc_pending = sc_map_zeroed(wanted * sizeof(struct page *));
	sc_touched = sc_map_zeroed(wanted * sizeof(struct page *));
	matched = sc_map_zeroed(wanted * sizeof(struct page *));
	owner_moved = sc_map_zeroed(FRAMES * sizeof(*owner_moved));
	owner_run = sc_map_zeroed(FRAMES * sizeof(*owner_run));
	is_frame_owned = sc_map_zeroed(FRAMES * sizeof(*is_frame_owned));
	return pages && matched && out_in && sc_pending && sc_touched && owner_moved && owner_run && is_frame_owned;
}

bool sc_pages_reset(void)
{
	static const char *const names[ENTRIES] = {
		[ENTRY_OTHER] = "", [ENTRY_ALIASES] = "vm_unmap_aliases", [ENTRY_MAP] = "vm_map_ram",
		[ENTRY_VMALLOC] = "vmalloc", [ENTRY_VMALLOC_RESET] = "vmalloc_reset", [ENTRY_UNMAP] = "vm_unmap_ram",
		[ENTRY_VFREE] = "vfree", [ENTRY_VFREE_RESET] = "vfree_reset", [ENTRY_VFREE_ATOMIC] = "vfree_atomic",
	};

	for (int n = 0; n < ENTRIES; n++)
		entry_strings[n] = sv_string(names[n]);
	first_page = sc_setup.direct_start < sc_setup.window_start ? sc_setup.direct_start : sc_setup.window_start;
	n_pages = (sc_setup.direct_end > sc_setup.window_end ? sc_setup.direct_end : sc_setup.window_end) - first_page;
	return make_room(n_pages);
}

void sc_pages_begin(void)
{
	sc_n_pending = sc_n_touched = sc_n_mappings = n_cached = n_owned = 0;
	online = 0;
	for (int cpu = 0; cpu < SV_CPUS; cpu++) {
		if (cpu >= SCREEN_CPUS && sv_config.possible[cpu])
			flag(SV_FLAG_TOO_LARGE);
		else if (cpu < SCREEN_CPUS && sv_config.online[cpu])
			online |= UINT64_C(1) << cpu;
	}
}

static bool is_direct(uint64_t number)
{
	return number - sc_setup.direct_start < sc_setup.direct_end - sc_setup.direct_start;
}

/* The record of a page that has one in this run. */
static struct page *known_page(uint64_t number)
{
	struct page *page = pages + (number - first_page);

	return number - first_page < n_pages && page->run == sc_run ? page : NULL;
}

struct page *sc_page(uint64_t number)
{
	struct page *page = pages + (number - first_page);

	if (number - first_page >= n_pages) {
		flag(SV_FLAG_STRAY);
		return NULL;
	}
	if (page->run != sc_run) {
		memset(page, 0, sizeof(*page));
		page->run = sc_run;
		page->number = number;
		page->frame = UINT64_MAX;
		page->call = NOWHERE;
		sc_touched[sc_n_touched++] = page;
	}
	return page;
}

static void set_pending(struct page *page, uint64_t mask)
{
	if (!page->pending && mask) {
		page->pending_slot = sc_n_pending;
		sc_pending[sc_n_pending++] = page;
	} else if (page->pending && !mask) {
		struct page *last = sc_pending[--sc_n_pending];

		last->pending_slot = page->pending_slot;
		sc_pending[last->pending_slot] = last;
	}
	page->pending = mask;
}

static void paid(struct page *page, uint64_t mask)
{
	set_pending(page, page->pending & ~mask);
	if (!page->pending && page->frame == UINT64_MAX)
		page->is_clean = true;
}

/* ---------------------------------------------------------------- ranges */

/* The pending pages of [start, end), in `matched`: as many as it returns. Costs the smaller of the range and all. */
static uint32_t gather_pending(uint64_t start, uint64_t end)
{
	uint32_t n_matched = 0;

	if (end <= start)
		return 0;
	if (end - start > sc_n_pending) {
		for (uint32_t n = 0; n < sc_n_pending; n++)
			if (sc_pending[n]->number - start < end - start)
				matched[n_matched++] = sc_pending[n];
		return n_matched;
	}
	for (uint64_t number = start; number < end; number++) {
		struct page *page = known_page(number);

		if (page && page->pending)
			matched[n_matched++] = page;
	}
	return n_matched;
}

static uint64_t clamped_end(uint64_t start, uint64_t end)
{
	if (start < first_page || end > first_page + n_pages)
		flag(SV_FLAG_STRAY);
	return end > first_page + n_pages ? first_page + n_pages : end;
}

/* ---------------------------------------------------------------- translations */

static void pte_set(uint32_t number, const struct sv_event *event)
{
	struct page *page = sc_page(event->a);

	if (!page)
		return;
	page->frame = event->b;
	page->set_at = number + 1;
	if (is_direct(event->a) || !page->pending) {
		page->is_clean = false;
		return;
	}
	if (page->handed_out_at <= page->cleared_at)
		flag(SV_FLAG_REUSE);
	set_pending(page, 0);
}

static void pte_clear(uint32_t number, const struct sv_event *event, const struct thread *thread)
{
	struct page *page = sc_page(event->a);

	if (!page)
		return;
	page->frame = UINT64_MAX;
	page->cleared_at = number + 1;
	page->call = thread->depth ? thread->calls[0] : NOWHERE;
	page->is_blamed = page->is_clean = false;
	page->handed_out_at = 0;
	set_pending(page, online);
	if (is_direct(event->a) && page->call != NOWHERE)
		sc_calls[page->call].is_reset = true;
}

static void forget_cached(uint32_t cpu, uint64_t start, uint64_t end)
{
	for (uint32_t n = n_cached; n--;)
		if (cached[n].cpu == cpu && cached[n].page - start < end - start)
			cached[n] = cached[--n_cached];
}

static int cached_number(uint32_t cpu, uint64_t page)
{
	for (uint32_t n = 0; n < n_cached; n++)
		if (cached[n].cpu == cpu && cached[n].page == page)
			return (int)n;
	return -1;
}

static void tlb_fill(const struct sv_event *event)
{
	const struct page *page = known_page(event->a);
	int at = cached_number(event->cpu, event->a);

	if (at < 0 && n_cached == CACHED) {
		flag(SV_FLAG_TOO_LARGE);
		return;
	}
	if (at < 0)
		at = (int)n_cached++;
	cached[at].page = event->a;
	cached[at].cpu = event->cpu;
	cached[at].set_at = page ? page->set_at : 0;
}

static void tlb_read(const struct sv_event *event)
{
	const struct page *page = known_page(event->a);
	int at = cached_number(event->cpu, event->a);
	uint32_t filled_from = at < 0 ? 0 : cached[at].set_at;
	uint32_t changed = event->b < FRAMES && owner_run[event->b] == sc_run ? owner_moved[event->b] : 0;

	if (!event->c || !page || !page->cleared_at)
		return;
	if (page->frame == event->b && (!filled_from || filled_from == page->set_at))
		return;
	if (!changed || changed <= filled_from || (!filled_from && changed <= page->set_at))
		return;
	if (page->is_blamed || page->handed_out_at > page->cleared_at || page->frame != UINT64_MAX)
		flag(SV_FLAG_STALE_ACCESS);
}

static void invalidated(const struct sv_event *event)
{
	uint64_t mask = event->cpu < SCREEN_CPUS ? UINT64_C(1) << event->cpu : 0;

	for (uint32_t n = gather_pending(event->a, event->c); n--;)
		if (matched[n]->pending & mask)
			paid(matched[n], mask);
	if (event->c > event->a)
		forget_cached(event->cpu, event->a, event->c);
}

static void cpu_left(uint64_t cpu)
{
	uint64_t mask = cpu < SCREEN_CPUS ? UINT64_C(1) << cpu : 0;

	online &= ~mask;
	for (uint32_t n = sc_n_pending; n--;)
		paid(sc_pending[n], mask);
	forget_cached((uint32_t)cpu, 0, UINT64_MAX);
}

/* ---------------------------------------------------------------- flushes */

static void flush_begins(const struct sv_event *event, struct thread *thread)
{
	uint64_t start = thread->has_flush_args ? thread->flush_start : event->a;
	uint64_t end = thread->has_flush_args ? thread->flush_end : event->c;
	int64_t owed, reflushed = 0, flushed;

	thread->has_flush_args = false;
	if (thread->n_flushes == DEPTH)
		flag(SV_FLAG_TOO_LARGE);
	else
		thread->flushes[thread->n_flushes++] = event->b;
	if (sc_setup.limit_excess_pages < 0 && sc_setup.limit_reflushed_pages < 0)
		return;
	owed = gather_pending(start, end);
	for (uint32_t n = 0; n < sc_n_touched; n++)
		if (sc_touched[n]->is_clean && sc_touched[n]->number >= start && sc_touched[n]->number < end)
			reflushed++;
	flushed = end >= SV_FULL_END ? owed + reflushed : end > start ? (int64_t)(end - start) : 0;
	if ((sc_setup.limit_excess_pages >= 0 && flushed - owed > sc_setup.limit_excess_pages) ||
	    (sc_setup.limit_reflushed_pages >= 0 && reflushed > sc_setup.limit_reflushed_pages))
		flag(SV_FLAG_LIMIT);
}

static void flush_ends(const struct sv_event *event, struct thread *thread)
{
	for (uint32_t n = thread->n_flushes; n--;) {
		if (thread->flushes[n] == event->b) {
			thread->flushes[n] = thread->flushes[--thread->n_flushes];
			return;
		}
	}
}

/* A flushed range, as computed, makes sense: checks/flush_range_sanity.py. */
static void flush_args(const struct sv_event *event, struct thread *thread)
{
	uint64_t start = event->a, end = event->c;

	thread->has_flush_args = true;
	thread->flush_start = start;
	thread->flush_end = end;
	if (start <= end && end <= INT64_MAX) {
		if (sc_setup.window_start <= start && end <= sc_setup.window_end)
			return;
		if (sc_setup.direct_start <= start && end <= sc_setup.direct_end)
			return;
		if (thread->cleared_direct_map && first_page <= start && end <= first_page + n_pages)
			return;
	}
	flag(SV_FLAG_FLUSH_RANGE);
}

/* ---------------------------------------------------------------- address space */

static void space_out(uint32_t number, const struct sv_event *event)
{
	uint64_t end = clamped_end(event->a, event->c);

	for (uint32_t n = gather_pending(event->a, event->c); n--;) {
		matched[n]->handed_out_at = number + 1;
		flag(SV_FLAG_REUSE);
	}
	for (uint64_t n = event->a; n >= first_page && n < end; n++) {
		if (out_in[n - first_page] == sc_run)
			flag(SV_FLAG_OVERLAP);
		out_in[n - first_page] = sc_run;
	}
}

static void space_back(const struct sv_event *event)
{
	uint64_t start = event->a < first_page ? first_page : event->a;
	uint64_t end = event->c > first_page + n_pages ? first_page + n_pages : event->c;

	for (uint64_t n = start; n < end; n++)
		out_in[n - first_page] = 0;
}

/* ---------------------------------------------------------------- callers */

static bool is_mapping_entry(uint32_t entry)
{
	return entry == ENTRY_MAP || entry == ENTRY_VMALLOC || entry == ENTRY_VMALLOC_RESET;
}

static void set_mapping(struct page *page, uint64_t n)
{
	sc_n_mappings += (n != 0) - (page->mapping_pages != 0);
	page->mapping_pages = n;
}

static void call_begins(uint32_t number, const struct sv_event *event, struct thread *thread)
{
	struct call *call = sc_calls + sc_n_calls;
	struct page *page;
	uint64_t size;

	if (sc_n_calls == CALLS || thread->depth == DEPTH) {
		flag(SV_FLAG_TOO_LARGE);
		return;
	}
	*call = (struct call){ .string = event->b, .begin = number, .end = NOWHERE, .page = event->a,
			       .pages = event->c };
	for (uint32_t n = 1; n < ENTRIES; n++)
		if (entry_strings[n] == event->b)
			call->entry = n;
	thread->calls[thread->depth++] = sc_n_calls++;
	if (call->entry != ENTRY_UNMAP && call->entry != ENTRY_VFREE && call->entry != ENTRY_VFREE_RESET &&
	    call->entry != ENTRY_VFREE_ATOMIC)
		return;
	page = known_page(event->a);
	size = page && page->owned_pages ? page->owned_pages : event->c;
	if (page) {
		set_mapping(page, 0);
		page->owned_pages = 0;
	}
	for (uint64_t n = event->a; n - event->a < size && n - event->a < n_pages; n++)
		if ((page = known_page(n)))
			page->is_owned = false;
}

/* Its pages are mapped, every one, and nobody else has them. */
static void mapping_returned(const struct sv_event *event, const struct call *call, bool is_settled)
{
	uint64_t size = event->c ? event->c : call->pages;
	struct page *page = sc_page(event->a);

	if (!page || size > n_pages) {
		flag(SV_FLAG_STRAY);
		return;
	}
	if (!is_settled)
		set_mapping(page, size);
	page->owned_pages = size;
	for (uint64_t n = event->a; n < event->a + size; n++) {
		page = sc_page(n);
		if (!page)
			return;
		flag(page->frame == UINT64_MAX ? SV_FLAG_ACCOUNTING : 0);
		flag(page->is_owned ? SV_FLAG_OVERLAP : 0);
		page->is_owned = true;
	}
}

static void call_ends(uint32_t number, const struct sv_event *event, struct thread *thread)
{
	struct call *call;
	uint32_t id;
	bool is_settled;

	thread->cleared_direct_map = false;
	if (!thread->depth)
		return;
	id = thread->calls[--thread->depth];
	call = sc_calls + id;
	call->end = number;
	is_settled = call->entry == ENTRY_ALIASES || call->entry == ENTRY_VFREE_RESET || call->is_reset;
	for (uint32_t n = 0; is_settled && n < sc_n_pending; n++) {
		struct page *page = sc_pending[n];
		bool is_due = page->call == id;

		if (call->entry == ENTRY_ALIASES)
			is_due = page->call != NOWHERE && sc_calls[page->call].end < call->begin &&
				 !is_direct(page->number);
		if (is_due) {
			page->is_blamed = true;
			flag(SV_FLAG_STALE);
		}
	}
	if (is_mapping_entry(call->entry) && event->a)
		mapping_returned(event, call, is_settled);
}

/* ---------------------------------------------------------------- at rest */

int64_t sc_live_pages(uint64_t start, uint64_t end)
{
	int64_t live = 0;

	for (uint64_t n = start; sc_n_mappings && n < end; n++) {
		const struct page *page = known_page(n);
		uint64_t slots = 1;

		if (!page || !page->mapping_pages)
			continue;
		while (slots < page->mapping_pages)
			slots *= 2;
		live += (int64_t)slots;
	}
	return live;
}

bool sc_is_mapping_start(uint64_t number)
{
	const struct page *page = known_page(number);

	return page && page->mapping_pages;
}

static bool is_in_mapping(const struct page *page)
{
	for (uint32_t n = 0; sc_n_mappings && n < sc_n_touched; n++)
		if (page->number - sc_touched[n]->number < sc_touched[n]->mapping_pages)
			return true;
	return false;
}

int64_t sc_mapped_pages(uint64_t start, uint64_t end)
{
	int64_t mapped = 0;

	for (uint64_t n = start; n < end; n++) {
		const struct page *page = known_page(n);

		mapped += page && page->frame != UINT64_MAX;
	}
	return mapped;
}

/* A PTE that is present belongs to a mapping that a caller has; all of the direct map is there; no frame is lost. */
void sc_pages_at_rest(void)
{
	for (uint32_t n = 0; n < sc_n_touched; n++) {
		const struct page *page = sc_touched[n];

		if (page->frame != UINT64_MAX && page->number >= sc_setup.window_start &&
		    page->number < sc_setup.window_end && !is_in_mapping(page))
			flag(SV_FLAG_LEAK);
		if (page->frame == UINT64_MAX && page->number < sc_setup.window_start)
			flag(SV_FLAG_LEAK);
	}
	if (n_owned)
		flag(SV_FLAG_LEAK);
}

/* ---------------------------------------------------------------- events */

static void owner_changed(uint32_t number, const struct sv_event *event)
{
	if (event->a >= FRAMES) {
		flag(SV_FLAG_STRAY);
		return;
	}
	if (owner_run[event->a] != sc_run)
		is_frame_owned[event->a] = false;
	n_owned += (event->c != 0) - is_frame_owned[event->a];
	is_frame_owned[event->a] = event->c != 0;
	owner_run[event->a] = sc_run;
	owner_moved[event->a] = number + 1;
}

void sc_ground(uint32_t number, const struct sv_event *event, struct thread *thread)
{
	switch (event->kind) {
	case SV_FLUSH_ARGS:
		flush_args(event, thread);
		break;
	case SV_API_BEGIN:
		call_begins(number, event, thread);
		break;
	case SV_API_END:
		call_ends(number, event, thread);
		break;
	case SV_PTE_SET:
		pte_set(number, event);
		break;
	case SV_PTE_CLEAR:
		pte_clear(number, event, thread);
		break;
	case SV_PTE_BUSY:
		flag(SV_FLAG_OVERLAP);
		break;
	case SV_UNMAP_BEGIN:
		thread->cleared_direct_map |= is_direct(event->a);
		break;
	case SV_TLB_FILL:
		tlb_fill(event);
		break;
	case SV_TLB_INVALIDATE:
		invalidated(event);
		break;
	case SV_TLB_READ:
		tlb_read(event);
		break;
	case SV_FLUSH_BEGIN:
		flush_begins(event, thread);
		break;
	case SV_FLUSH_END:
		flush_ends(event, thread);
		break;
	case SV_SPACE_OUT:
		space_out(number, event);
		break;
	case SV_SPACE_BACK:
		space_back(event);
		break;
	case SV_FRAME_OWNER:
		owner_changed(number, event);
		break;
	case SV_CPU_OFFLINE:
		cpu_left(event->a);
		break;
	case SV_CPU_ONLINE:
		online |= event->a < SCREEN_CPUS ? UINT64_C(1) << event->a : 0;
		break;
	default:
		break;
	}
}
