/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the kernel calls for something that nobody checks here: each does nothing, for the reason at its head.
 */
#ifndef SV_UNCHECKED_H
#define SV_UNCHECKED_H

/* KASAN: use after free is seen at the access, by the engine. */
typedef unsigned int kasan_vmalloc_flags_t;
#define KASAN_VMALLOC_NONE 0u
#define KASAN_VMALLOC_INIT 1u
#define KASAN_VMALLOC_VM_ALLOC 2u
#define KASAN_VMALLOC_PROT_NORMAL 4u
#define KASAN_VMALLOC_KEEP_TAG 8u
#define KASAN_VMALLOC_PAGE_RANGE 1u
#define KASAN_VMALLOC_TLB_FLUSH 2u
#define KASAN_TAG_KERNEL 0xff
#define kasan_hw_tags_enabled() false
#define kasan_reset_tag(address) ((void *)(address))
#define kasan_populate_vmalloc(...) 0
#define kasan_release_vmalloc(...) do { } while (0)
#define kasan_unpoison_vmalloc(start, ...) ((void *)(start))
#define kasan_poison_vmalloc(...) do { } while (0)
#define kasan_unpoison_vmap_areas(...) do { } while (0)
#define kasan_vrealloc(...) do { } while (0)
#define kasan_alloc_module_shadow(...) 0
#define kasan_free_module_shadow(...) do { } while (0)
#define kasan_free_shadow(...) do { } while (0)
#define kasan_populate_early_vm_area_shadow(...) do { } while (0)
#define kmsan_vmap_pages_range_noflush(...) 0
#define kmsan_vunmap_range_noflush(...) do { } while (0)
#define kmsan_ioremap_page_range(...) 0
#define kmsan_iounmap_page_range(...) do { } while (0)
/* kmemleak, debugobjects: what is left over at rest, the audit sees. */
#define kmemleak_vmalloc(...) do { } while (0)
#define kmemleak_free(...) do { } while (0)
#define kmemleak_free_part(...) do { } while (0)
#define kmemleak_not_leak(...) do { } while (0)
#define kmemleak_scan_area(...) do { } while (0)
#define kmemleak_no_scan(...) do { } while (0)
#define kmemleak_transient_leak(...) do { } while (0)
#define debug_check_no_locks_freed(...) do { } while (0)
#define debug_check_no_obj_freed(...) do { } while (0)
/* Accounting of pages to groups and nodes. */
#define MEMCG_VMALLOC 0
#define NR_VMALLOC 0
#define mod_memcg_page_state(...) do { } while (0)
#define mod_lruvec_page_state(...) do { } while (0)
#define memcg_kmem_enabled() false
#define obj_cgroup_get_from_current() NULL
#define warn_alloc(...) do { } while (0)
/* Tracing, profiling of allocations, page owner. */
#define trace_alloc_vmap_area(...) do { } while (0)
#define trace_purge_vmap_area_lazy(...) do { } while (0)
#define trace_free_vmap_area_noflush(...) do { } while (0)
#define alloc_hooks(call) (call)
#define alloc_tag_save(tag) NULL
#define dump_page(...) do { } while (0)
/* Randomised and randomisable addresses. */
#define kallsyms_lookup_name(name) 0UL
#define is_module_address(address) false
/* Memory that can have errors, and swap. */
#define copy_mc_to_kernel(to, from, n) 0
#define mem_dump_obj(object) do { } while (0)
/* Settings of a kernel command line that nobody gives. */
#define kstrtobool(text, value) (-EINVAL)
#define kstrtoint(text, base, value) (-EINVAL)
/* Where a caller is. */
#define _RET_IP_ ((unsigned long)__builtin_return_address(0))
#define _THIS_IP_ ((unsigned long)0)
/* The user's side. */
#define put_user(value, pointer) (-EFAULT)
#define copy_to_user(to, from, n) (n)
#define access_ok(address, n) false
/* Bug traps for debuggers. */
#define lockdep_off() do { } while (0)
#define lockdep_on() do { } while (0)

#endif
