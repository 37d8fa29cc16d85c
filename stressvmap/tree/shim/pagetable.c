// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel page table: stressvmap/kernel/memory.py:Memory, below the kernel's own walkers.
 *
 * A walk of vunmap_range_noflush and one of vmap_pages_range_noflush both begin at the top with pgd_addr_end; only the
 * former then asks pgd_none_or_clear_bad. So that is where an unmapping of the whole range begins; it ends with the
 * range's last page.
 */
#include "shim.h"

pgd_t sv_upper;
struct mm_struct init_mm;
struct task_struct sv_task_struct;

static SV_OUTLIVES pte_t *table;
static SV_OUTLIVES struct sv_log used; /* pages that were mapped at some time in this run */
static SV_OUTLIVES uint8_t *holes;     /* by frame: its direct-map PTE is not present */
static SV_OUTLIVES struct sv_log holed;

/* The walk of each task that is under way: of tasks that walk at the same time, there are as many as tasks. */
struct walk {
	const struct sv_task *task;
	unsigned long start, end;
	uint64_t maps; /* the page whose PTE is about to be set, 0: none */
	bool unmaps;
};
static SV_OUTLIVES struct walk walks[SV_TASKS];
static uint32_t walk_count;

/* Nobody calls it: ARCH_PAGE_TABLE_SYNC_MASK is 0. */
void arch_sync_kernel_mappings(unsigned long start, unsigned long end)
{
	(void)start;
	(void)end;
}

void sv_pagetable_boot(void)
{
	table = sv_host_array(sv_window_pages() * sizeof(*table));
	sv_log_boot(&used, sv_window_pages());
	holes = sv_host_array(SV_FRAMES);
	sv_log_boot(&holed, SV_FRAMES);
	sv_host_window(VMALLOC_START, VMALLOC_END - VMALLOC_START);
}

void sv_pagetable_reset(void)
{
	sv_log_clear(&used, table, sizeof(*table));
	sv_log_clear(&holed, holes, sizeof(*holes));
}

uint64_t sv_window_pages(void)
{
	return sv_config.window_end - sv_config.window_start;
}

bool sv_is_in_window(uint64_t page)
{
	return page >= sv_config.window_start && page < sv_config.window_end;
}

static pte_t *entry_of(uint64_t page)
{
	if (unlikely(!sv_is_in_window(page)))
		sv_bug("a page table walk outside the vmalloc window");
	return &table[page - sv_config.window_start];
}

unsigned long sv_pte_at(uint64_t page)
{
	if (!sv_is_in_window(page))
		return 0;
	sv_note(SV_MEMORY, (uint64_t)entry_of(page), SV_LOOKS);
	return entry_of(page)->sv;
}

static struct walk *walk_of_this_task(void)
{
	for (uint32_t i = 0; i < walk_count; i++)
		if (walks[i].task == sv_current)
			return &walks[i];
	walks[walk_count] = (struct walk){ .task = sv_current };
	return &walks[walk_count++];
}

unsigned long sv_walk_begin(unsigned long address, unsigned long end)
{
	struct walk *walk = walk_of_this_task();

	SV_SITE();
	walk->start = address;
	walk->end = end;
	walk->unmaps = false;
	walk->maps = 0;
	return end;
}

/* A table of PTEs holds one page. */
unsigned long sv_walk_page(unsigned long address, unsigned long end)
{
	unsigned long next = address + PAGE_SIZE;

	return next < end ? next : end;
}

int sv_walk_unmaps(void)
{
	struct walk *walk = walk_of_this_task();

	SV_SITE();
	walk->unmaps = true;
	sv_record(SV_UNMAP_BEGIN, walk->start >> PAGE_SHIFT, 0, walk->end >> PAGE_SHIFT);
	return 0;
}

static uint32_t pte_field(void)
{
	static SV_OUTLIVES uint32_t number;

	if (!number)
		number = sv_string("pte");
	return number;
}

pte_t *sv_pte_of(unsigned long address)
{
	SV_SITE();
	return entry_of(address >> PAGE_SHIFT);
}

/* The PTE that is to be set; NULL: no memory for the table it is in. */
pte_t *sv_pte_to_set(unsigned long address)
{
	SV_SITE();
	if (sv_should_fail("pte_alloc"))
		return NULL;
	sv_point(SV_PTE_SET, -(uint64_t)(address >> PAGE_SHIFT), pte_field());
	walk_of_this_task()->maps = address >> PAGE_SHIFT;
	return entry_of(address >> PAGE_SHIFT);
}

/* Asked before a PTE is set, and of what an unmapping has found. */
bool sv_pte_none(pte_t pte)
{
	struct walk *walk;

	if (!pte.sv)
		return true;
	walk = walk_of_this_task();
	if (walk->maps) {
		SV_SITE();
		sv_record(SV_PTE_BUSY, walk->maps, (uint32_t)pte.sv - 1, 0);
		walk->maps = 0;
	}
	return false;
}

void sv_pte_set(unsigned long address, pte_t *pte, pte_t value)
{
	SV_SITE();
	walk_of_this_task()->maps = 0;
	sv_log(&used, (address >> PAGE_SHIFT) - sv_config.window_start);
	sv_note(SV_MEMORY, (uint64_t)pte, SV_CHANGES);
	*pte = value;
	sv_record(SV_PTE_SET, address >> PAGE_SHIFT, (uint32_t)value.sv - 1, 0);
}

pte_t sv_pte_get_and_clear(unsigned long address, pte_t *pte)
{
	struct walk *walk = walk_of_this_task();
	uint64_t page = address >> PAGE_SHIFT;
	pte_t before = { 0 };

	SV_SITE();
	sv_note(SV_MEMORY, (uint64_t)pte, SV_LOOKS);
	if (pte->sv) {
		sv_point(SV_PTE_CLEAR, -page, pte_field());
		sv_note(SV_MEMORY, (uint64_t)pte, SV_CHANGES);
		before = *pte;
		pte->sv = 0;
		if (before.sv)
			sv_record(SV_PTE_CLEAR, page, (uint32_t)before.sv - 1, 0);
	}
	if (walk->unmaps && address + PAGE_SIZE == walk->end) {
		walk->unmaps = false;
		sv_record(SV_UNMAP_END, walk->start >> PAGE_SHIFT, 0, walk->end >> PAGE_SHIFT);
	}
	return before;
}

/* ---------------------------------------------------------------- the direct map */

static unsigned int frame_to_change(struct page *page)
{
	unsigned int frame = (unsigned int)page_to_pfn(page);

	if (!sv_frame_is_owned(frame))
		sv_warn("the direct map is changed under a page that nobody owns");
	return frame;
}

int set_direct_map_invalid_noflush(struct page *page)
{
	unsigned int frame = frame_to_change(page);
	uint64_t at = SV_DIRECT_MAP_PAGE + frame;

	SV_SITE();
	sv_record(SV_UNMAP_BEGIN, at, 0, at + 1);
	sv_point(SV_PTE_CLEAR, -at, pte_field());
	sv_log(&holed, frame);
	holes[frame] = 1;
	sv_record(SV_PTE_CLEAR, at, frame, 0);
	sv_record(SV_UNMAP_END, at, 0, at + 1);
	return 0;
}

int set_direct_map_default_noflush(struct page *page)
{
	unsigned int frame = frame_to_change(page);
	uint64_t at = SV_DIRECT_MAP_PAGE + frame;

	SV_SITE();
	sv_point(SV_PTE_SET, -at, pte_field());
	holes[frame] = 0;
	sv_record(SV_PTE_SET, at, frame, 0);
	return 0;
}

int set_direct_map_valid_noflush(struct page *page, unsigned int n, bool valid)
{
	for (unsigned int i = 0; i < n; i++)
		if (valid)
			set_direct_map_default_noflush(page + i);
		else
			set_direct_map_invalid_noflush(page + i);
	return 0;
}

bool sv_debug_pagealloc(void)
{
#ifdef CONFIG_DEBUG_PAGEALLOC_ENABLE_DEFAULT
	return true;
#else
	return sv_config.debug_pagealloc;
#endif
}
