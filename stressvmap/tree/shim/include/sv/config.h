/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel's configuration, as far as the files under test ask for it. CONFIG_NR_CPUS and SV_PAGE_SHIFT come from the
 * command line: they and BITS_PER_LONG decide VMAP_BBMAP_BITS and VMAP_MAX_ALLOC.
 */
#ifndef SV_CONFIG_H
#define SV_CONFIG_H

#ifndef SV_PAGE_SHIFT
#define SV_PAGE_SHIFT 12
#endif
#ifndef CONFIG_NR_CPUS
#define CONFIG_NR_CPUS 256
#endif
#define NR_CPUS CONFIG_NR_CPUS

#define __KERNEL__ 1 /* without it <linux/rculist.h> hides what it has */
#define CONFIG_64BIT 1
#define CONFIG_SMP 1
#define CONFIG_MMU 1
#define CONFIG_PROC_FS 1
#define CONFIG_PREEMPTION 1
/* The list functions ask before they change a list: the shim answers, and tells of a corrupt one. */
#define CONFIG_LIST_HARDENED 1
#define CONFIG_DEBUG_LIST 1
/* A lockless walk outside any reader section warns. */
#define CONFIG_PROVE_RCU_LIST 1
#define CONFIG_LOCKDEP 1
#define CONFIG_XARRAY_MULTI 1
#define CONFIG_BASE_SMALL 0

/* Of the shim's own data: what outlives a run, and is not put back before the next. */
#define SV_OUTLIVES __attribute__((section("sv_outlives")))

#define BITS_PER_LONG 64
#define BITS_PER_LONG_LONG 64
#define BITS_PER_BYTE 8
#define BITS_PER_TYPE(type) (sizeof(type) * BITS_PER_BYTE)

#define PAGE_SHIFT SV_PAGE_SHIFT
#define PAGE_SIZE (1UL << PAGE_SHIFT)
#define PAGE_MASK (~(PAGE_SIZE - 1))

#endif
