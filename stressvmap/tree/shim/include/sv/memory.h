/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * <linux/mm.h>, <linux/mm_types.h>, <linux/highmem.h>: page frames and their owners (kernel/memory.py:Frames). Frame f
 * is at page SV_DIRECT_MAP_PAGE + f of the direct map; its struct page says nothing, only where it lies.
 */
#ifndef SV_MEMORY_H
#define SV_MEMORY_H

#define SV_DIRECT_MAP_PAGE 0x40000UL
#define SV_FIRST_FRAME 0x100u
#define SV_FRAMES (1u << 20)

struct page {
	unsigned long private;
};
struct folio {
	struct page page;
};
extern struct page sv_frames[SV_FRAMES];
#define page_to_pfn(page) ((unsigned long)((page)-sv_frames))
#define pfn_to_page(pfn) (&sv_frames[pfn])
#define pfn_valid(pfn) ((unsigned long)(pfn) < SV_FRAMES)
#define page_address(page) ((void *)((SV_DIRECT_MAP_PAGE + page_to_pfn(page)) << PAGE_SHIFT))
#define lowmem_page_address(page) page_address(page)
#define page_to_phys(page) ((phys_addr_t)page_to_pfn(page) << PAGE_SHIFT)
#define page_to_nid(page) 0
#define PageHighMem(page) 0
#define PageReserved(page) 0
#define PageHWPoison(page) 0
#define compound_order(page) 0
#define compound_head(page) (page)
#define page_folio(page) ((struct folio *)(page))
#define PHYS_PFN(address) ((unsigned long)((address) >> PAGE_SHIFT))
#define PFN_PHYS(pfn) ((phys_addr_t)(pfn) << PAGE_SHIFT)
#define PFN_DOWN(address) ((address) >> PAGE_SHIFT)
#define PFN_UP(address) (((address) + PAGE_SIZE - 1) >> PAGE_SHIFT)
#define virt_to_page(address) pfn_to_page(((unsigned long)(address) >> PAGE_SHIFT) - SV_DIRECT_MAP_PAGE)
#define virt_addr_valid(address) true

/* The newest freed frame is the next to be handed out: reuse as early as can be. */
unsigned int sv_frame_alloc(void);
void sv_frame_free(unsigned int frame);
bool sv_frame_is_owned(unsigned int frame);
struct page *sv_alloc_pages(gfp_t gfp, unsigned int order);
void sv_free_pages(struct page *page, unsigned int order);
unsigned long sv_alloc_pages_bulk(gfp_t gfp, unsigned long n, struct page **pages);
#define alloc_page(gfp) sv_alloc_pages(gfp, 0)
#define alloc_pages(gfp, order) sv_alloc_pages(gfp, order)
#define alloc_pages_node(node, gfp, order) sv_alloc_pages(gfp, order)
#define alloc_pages_noprof(gfp, order) sv_alloc_pages(gfp, order)
#define alloc_pages_node_noprof(node, gfp, order) sv_alloc_pages(gfp, order)
#define alloc_frozen_pages_noprof(gfp, order) sv_alloc_pages(gfp, order)
#define alloc_pages_bulk_array_node(gfp, node, n, pages) sv_alloc_pages_bulk(gfp, n, pages)
#define alloc_pages_bulk_array_mempolicy(gfp, n, pages) sv_alloc_pages_bulk(gfp, n, pages)
#define alloc_pages_bulk_array_node_noprof(gfp, node, n, pages) sv_alloc_pages_bulk(gfp, n, pages)
#define alloc_pages_bulk_array_mempolicy_noprof(gfp, n, pages) sv_alloc_pages_bulk(gfp, n, pages)
#define alloc_pages_bulk_node_noprof(gfp, node, n, pages) sv_alloc_pages_bulk(gfp, n, pages)
#define alloc_pages_bulk_mempolicy_noprof(gfp, n, pages) sv_alloc_pages_bulk(gfp, n, pages)
#define __free_page(page) sv_free_pages(page, 0)
#define __free_pages(page, order) sv_free_pages(page, order)
void sv_free_pages_bulk(struct page **pages, unsigned long n);
#define free_pages_bulk(pages, n) sv_free_pages_bulk(pages, n)
#define put_page(page) sv_free_pages(page, 0)
#define get_page(page) do { } while (0)
#define split_page(page, order) do { } while (0)
#define set_page_refcounted(page) do { } while (0)
#define ZERO_PAGE(address) (&sv_frames[0])
#define clear_highpage(page) do { } while (0)
#define kmap_atomic(page) page_address(page)
#define kunmap_atomic(address) do { } while (0)
#define kmap_local_page(page) page_address(page)
#define kunmap_local(address) do { } while (0)
#define want_init_on_free() false
#define want_init_on_alloc(gfp) (!!((gfp) & __GFP_ZERO))
#define clear_page(address) do { } while (0)

#define NUMA_NO_NODE (-1)
#define numa_mem_id() 0
#define numa_node_id() 0
#define num_online_nodes() 1
#define first_memory_node 0
#define nr_node_ids 1u
#define N_HIGH_MEMORY 0
#define for_each_node_state(node, state) for ((node) = 0; (node) < 1; (node)++)
#define MAX_ORDER 11
#define MAX_PAGE_ORDER 10
#define PAGE_ALLOC_COSTLY_ORDER 3
/* More than any simulated machine has: sizes are bounded by the window. */
#define totalram_pages() (1UL << 30)
#define high_memory ((void *)(0x80000000UL << PAGE_SHIFT))

struct mm_struct {
	int unused;
};
extern struct mm_struct init_mm;
#define mmap_read_trylock(mm) true
#define mmap_read_lock_try(mm) true
#define mmap_read_unlock(mm) do { } while (0)
#define mmap_read_lock(mm) do { } while (0)
struct vm_area_struct {
	unsigned long vm_start, vm_end, vm_pgoff, vm_flags;
	struct mm_struct *vm_mm;
};
#define VM_DONTEXPAND 0x40000ul
#define VM_DONTDUMP 0x4000000ul
#define vm_flags_set(vma, flags) do { (vma)->vm_flags |= (flags); } while (0)
#define vm_insert_page(vma, address, page) (-EINVAL) /* no user space */

struct task_struct {
	const char *comm;
	unsigned int flags;
};
extern struct task_struct sv_task_struct;
#define current (&sv_task_struct)
#define PF_KTHREAD 0x200000
#define fatal_signal_pending(task) 0
#define signal_pending(task) 0
#define memalloc_nofs_save() 0u
#define memalloc_nofs_restore(flags) ((void)(flags))
#define memalloc_noio_save() 0u
#define memalloc_noio_restore(flags) ((void)(flags))
#define memalloc_noblock_save() 0u
#define memalloc_noreclaim_save() 0u
#define memalloc_noreclaim_restore(flags) ((void)(flags))
#define memalloc_flags_restore(flags) ((void)(flags))
#define memalloc_noblock_restore(flags) ((void)(flags))
#define memalloc_apply_gfp_scope(gfp) 0u
#define memalloc_restore_scope(flags) ((void)(flags))
#define current_gfp_context(gfp) (gfp)
#define schedule_timeout_uninterruptible(ticks) do { } while (0)
#define usleep_range(low, high) do { } while (0)

#endif
