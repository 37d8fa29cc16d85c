/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * <linux/pgtable.h>, <asm/tlbflush.h>, <linux/set_memory.h>: kernel/memory.py:Memory. A flat array of PTEs over the
 * window; every upper level has one entry that is always there, and a table of PTEs holds one, so that the file's own
 * walkers ask for a table (which may fail) page by page.
 */
#ifndef SV_PAGETABLE_H
#define SV_PAGETABLE_H

/* 0: not present; else the frame and one. */
typedef struct {
	unsigned long sv;
} pte_t;
typedef struct {
	unsigned long sv;
} pmd_t, pud_t, p4d_t, pgd_t;
typedef struct {
	unsigned long pgprot;
} pgprot_t;
typedef unsigned int pgtbl_mod_mask;
typedef int (*pte_fn_t)(pte_t *pte, unsigned long address, void *data);

#define VMALLOC_START ((unsigned long)sv_config.window_start << PAGE_SHIFT)
#define VMALLOC_END ((unsigned long)sv_config.window_end << PAGE_SHIFT)
#define SHMLBA PAGE_SIZE

#define PTE_SHIFT PAGE_SHIFT
#define PMD_SHIFT PAGE_SHIFT
#define PUD_SHIFT PAGE_SHIFT
#define P4D_SHIFT PAGE_SHIFT
#define PGDIR_SHIFT PAGE_SHIFT
#define PMD_SIZE PAGE_SIZE
#define PUD_SIZE PAGE_SIZE
#define P4D_SIZE PAGE_SIZE
#define PGDIR_SIZE PAGE_SIZE
#define PMD_MASK PAGE_MASK
#define PUD_MASK PAGE_MASK
#define P4D_MASK PAGE_MASK
#define PGDIR_MASK PAGE_MASK
#define PGTBL_PGD_MODIFIED 1u
#define PGTBL_P4D_MODIFIED 2u
#define PGTBL_PUD_MODIFIED 4u
#define PGTBL_PMD_MODIFIED 8u
#define PGTBL_PTE_MODIFIED 16u
#define ARCH_PAGE_TABLE_SYNC_MASK 0u
void arch_sync_kernel_mappings(unsigned long start, unsigned long end);

/* The levels above: a walk goes straight through. Where one is begun, sv_walk_begin learns the range. */
extern pgd_t sv_upper;
unsigned long sv_walk_begin(unsigned long address, unsigned long end);
unsigned long sv_walk_page(unsigned long address, unsigned long end);
int sv_walk_unmaps(void);
#define pgd_offset_k(address) (&sv_upper)
#define pgd_offset(mm, address) (&sv_upper)
#define pgd_addr_end(address, end) sv_walk_begin(address, end)
#define p4d_addr_end(address, end) (end)
#define pud_addr_end(address, end) (end)
#define pmd_addr_end(address, end) sv_walk_page(address, end)
#define p4d_offset(pgd, address) ((p4d_t *)&sv_upper)
#define pud_offset(p4d, address) ((pud_t *)&sv_upper)
#define pmd_offset(pud, address) ((pmd_t *)&sv_upper)
#define pgd_none_or_clear_bad(pgd) sv_walk_unmaps()
#define p4d_none_or_clear_bad(p4d) 0
#define pud_none_or_clear_bad(pud) 0
#define pmd_none_or_clear_bad(pmd) 0
#define pgd_none(pgd) 0
#define pgd_bad(pgd) 0
#define pgd_leaf(pgd) 0
#define p4d_none(p4d) 0
#define p4d_bad(p4d) 0
#define p4d_leaf(p4d) 0
#define p4d_present(p4d) 0
#define p4d_page(p4d) ((struct page *)NULL)
#define pud_none(pud) 0
#define pud_bad(pud) 0
#define pud_leaf(pud) 0
#define pud_present(pud) 0
#define pud_page(pud) ((struct page *)NULL)
#define pmd_none(pmd) 0
#define pmd_bad(pmd) 0
#define pmd_leaf(pmd) 0
#define pmd_present(pmd) 0
#define pmd_page(pmd) ((struct page *)NULL)
#define p4d_set_huge(p4d, address, prot) 0
#define pud_set_huge(pud, address, prot) 0
#define pmd_set_huge(pmd, address, prot) 0
#define p4d_clear_huge(p4d) 0
#define pud_clear_huge(pud) 0
#define pmd_clear_huge(pmd) 0
#define p4d_free_pud_page(p4d, address) 1
#define pud_free_pmd_page(pud, address) 1
#define pmd_free_pte_page(pmd, address) 1

/* Entries. */
pte_t *sv_pte_of(unsigned long address);
pte_t *sv_pte_to_set(unsigned long address);
pte_t sv_pte_get_and_clear(unsigned long address, pte_t *pte);
void sv_pte_set(unsigned long address, pte_t *pte, pte_t value);
bool sv_pte_none(pte_t pte);
#define pte_alloc_kernel(pmd, address) sv_pte_to_set(address)
#define pte_offset_kernel(pmd, address) sv_pte_of(address)
#define pte_offset_map(pmd, address) sv_pte_of(address)
#define pte_unmap(pte) do { } while (0)
#define ptep_get(pte) READ_ONCE(*(pte))
#define ptep_get_and_clear(mm, address, pte) sv_pte_get_and_clear(address, pte)
#define set_pte_at(mm, address, pte, value) sv_pte_set(address, pte, value)
#define set_huge_pte_at(mm, address, pte, value, ...) sv_pte_set(address, pte, value)
#define pte_none(pte) sv_pte_none(pte)
#define pte_present(pte) ((pte).sv != 0)
#define pte_page(pte) pfn_to_page((pte).sv - 1)
#define pte_pfn(pte) ((pte).sv - 1)
#define pfn_pte(pfn, prot) ((void)(prot), (pte_t){ (unsigned long)(pfn) + 1 })
#define mk_pte(page, prot) pfn_pte(page_to_pfn(page), prot)
#define pte_mkspecial(pte) (pte)
#define arch_make_huge_pte(pte, ...) (pte)
#define arch_enter_lazy_mmu_mode() do { } while (0)
#define arch_leave_lazy_mmu_mode() do { } while (0)
#define lazy_mmu_mode_enable() do { } while (0)
#define lazy_mmu_mode_disable() do { } while (0)
#define pte_clear(mm, address, pte) ((void)sv_pte_get_and_clear(address, pte))
#define apply_to_page_range(mm, address, size, function, data) (-EINVAL) /* vmap_pfn: nobody calls it */

#define PAGE_KERNEL ((pgprot_t){ 1 })
#define PAGE_KERNEL_EXEC ((pgprot_t){ 2 })
#define PAGE_KERNEL_RO ((pgprot_t){ 3 })
#define pgprot_val(prot) ((prot).pgprot)
#define __pgprot(value) ((pgprot_t){ (value) })
#define pgprot_nx(prot) (prot)
#define pgprot_decrypted(prot) (prot)

void sv_flush_tlb_kernel_range(unsigned long start, unsigned long end);
#define flush_tlb_kernel_range(start, end) sv_flush_tlb_kernel_range(start, end)
#define flush_tlb_all() sv_flush_tlb_kernel_range(0, ~0UL)
/* Caches are coherent. */
#define flush_cache_vmap(start, end) do { } while (0)
#define flush_cache_vmap_early(start, end) do { } while (0)
#define flush_cache_vunmap(start, end) do { } while (0)
#define flush_dcache_page(page) do { } while (0)
int set_direct_map_invalid_noflush(struct page *page);
int set_direct_map_default_noflush(struct page *page);
int set_direct_map_valid_noflush(struct page *page, unsigned int n, bool valid);
#define CONFIG_ARCH_HAS_SET_DIRECT_MAP 1
bool sv_debug_pagealloc(void);
#define debug_pagealloc_enabled() sv_debug_pagealloc()
#define debug_pagealloc_enabled_static() sv_debug_pagealloc()

/* Read a page through this CPU's TLB, as copy_from_kernel_nofault does: whether it is mapped. */
bool sv_read_page(unsigned long page);

#endif
