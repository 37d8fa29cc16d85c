/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * mm/pgalloc-track.h: tables are there already, but for the last level's, whose memory may fail to come.
 *
 * The last header that mm/vmalloc.c includes, and so the place from where on BITS_PER_LONG may say something else: it
 * is VMAP_MAX_ALLOC, and half of the least VMAP_BBMAP_BITS. #if knows no enumeration constant and takes it for 0.
 */
#define p4d_alloc_track(mm, pgd, address, mask) ((p4d_t *)&sv_upper)
#define pud_alloc_track(mm, p4d, address, mask) ((pud_t *)&sv_upper)
#define pmd_alloc_track(mm, pud, address, mask) ((pmd_t *)&sv_upper)
#define pte_alloc_kernel_track(pmd, address, mask) sv_pte_to_set(address)

#ifdef SV_MAX_ALLOC
enum { sv_bits_off = SV_MAX_ALLOC - 64 };
#undef BITS_PER_LONG
#define BITS_PER_LONG (64 + sv_bits_off)
#endif
