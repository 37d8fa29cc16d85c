/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * <linux/slab.h>, <linux/gfp.h>: kernel/slab.py. Memory is never handed out twice in a run; a cache's constructor runs
 * on each object. What an object is called, the argument says: sizeof(struct vmap_block).
 */
#ifndef SV_SLAB_H
#define SV_SLAB_H

#define __GFP_IO 0x40u
#define __GFP_FS 0x80u
#define __GFP_ZERO 0x100u
#define __GFP_DIRECT_RECLAIM 0x400u
#define __GFP_KSWAPD_RECLAIM 0x800u
#define __GFP_NOWARN 0x2000u
#define __GFP_RETRY_MAYFAIL 0x4000u
#define __GFP_NOFAIL 0x8000u
#define __GFP_NORETRY 0x10000u
#define __GFP_HIGHMEM 0x02u
#define __GFP_DMA 0x01u
#define __GFP_DMA32 0x04u
#define __GFP_MOVABLE 0x08u
#define __GFP_COMP 0x40000u
#define __GFP_HIGH 0x20u
#define __GFP_ATOMIC 0x200u
#define __GFP_NOMEMALLOC 0x80000u
#define __GFP_MEMALLOC 0x20000u
#define __GFP_HARDWALL 0x100000u
#define __GFP_THISNODE 0x200000u
#define __GFP_ACCOUNT 0x400000u
#define __GFP_SKIP_KASAN 0x1000000u
#define __GFP_SKIP_ZERO 0x2000000u
#define __GFP_SKIP_KASAN_UNPOISON 0x4000000u
#define __GFP_SKIP_KASAN_POISON 0x8000000u
#define __GFP_NO_OBJ_EXT 0x10000000u
#define __GFP_NOLOCKDEP 0u
#define __GFP_BITS_SHIFT 29
#define __GFP_BITS_MASK ((1u << __GFP_BITS_SHIFT) - 1)
#define __GFP_RECLAIM (__GFP_DIRECT_RECLAIM | __GFP_KSWAPD_RECLAIM)
#define GFP_KERNEL (__GFP_RECLAIM | __GFP_IO | __GFP_FS)
#define GFP_KERNEL_ACCOUNT (GFP_KERNEL | __GFP_ACCOUNT)
#define GFP_ATOMIC (__GFP_HIGH | __GFP_KSWAPD_RECLAIM)
#define GFP_NOWAIT (__GFP_KSWAPD_RECLAIM | __GFP_NOWARN)
#define GFP_NOIO __GFP_RECLAIM
#define GFP_NOFS (__GFP_RECLAIM | __GFP_IO)
#define GFP_USER (__GFP_RECLAIM | __GFP_IO | __GFP_FS | __GFP_HARDWALL)
#define GFP_HIGHUSER (GFP_USER | __GFP_HIGHMEM)
#define GFP_DMA __GFP_DMA
#define GFP_DMA32 __GFP_DMA32
#define GFP_RECLAIM_MASK \
	(__GFP_RECLAIM | __GFP_HIGH | __GFP_IO | __GFP_FS | __GFP_NOWARN | __GFP_RETRY_MAYFAIL | __GFP_NOFAIL | \
	 __GFP_NORETRY | __GFP_MEMALLOC | __GFP_NOMEMALLOC | __GFP_ATOMIC)
#define GFP_LEVEL_MASK GFP_RECLAIM_MASK
#define ___GFP_ATOMIC __GFP_ATOMIC
#define gfpflags_allow_blocking(gfp) (!!((gfp) & __GFP_DIRECT_RECLAIM))
#define gfp_has_io_fs(gfp) (((gfp) & (__GFP_IO | __GFP_FS)) == (__GFP_IO | __GFP_FS))
#define gfp_nested_mask(gfp) ((gfp) & (GFP_KERNEL | GFP_ATOMIC | __GFP_NOFAIL))
#define SLAB_PANIC 1u
#define SLAB_HWCACHE_ALIGN 2u
#define SLAB_ACCOUNT 4u
#define SLAB_RECLAIM_ACCOUNT 8u
#define SLAB_TYPESAFE_BY_RCU 16u
#define ARCH_KMALLOC_MINALIGN 8

struct kmem_cache {
	const char *name;
	size_t size;
	void (*constructor)(void *object);
	bool is_index; /* nodes of an xarray: their failure is xa_insert's, counted there */
};
struct kmem_cache *kmem_cache_create(const char *name, unsigned int size, unsigned int align, unsigned int flags,
				     void (*constructor)(void *object));
#define KMEM_CACHE(type, flags) kmem_cache_create(#type, sizeof(struct type), __alignof__(struct type), flags, NULL)
void *kmem_cache_alloc(struct kmem_cache *cache, gfp_t gfp);
void kmem_cache_free(struct kmem_cache *cache, void *object);
#define kmem_cache_alloc_node(cache, gfp, node) kmem_cache_alloc(cache, gfp)
#define kmem_cache_alloc_lru(cache, lru, gfp) kmem_cache_alloc(cache, gfp)
#define kmem_cache_zalloc(cache, gfp) kmem_cache_alloc(cache, (gfp) | __GFP_ZERO)
#define slab_is_available() true

void *sv_kmalloc(size_t size, gfp_t gfp, const char *what);
void sv_kfree(const void *object);
#define kmalloc(size, gfp) sv_kmalloc(size, gfp, #size)
#define kzalloc(size, gfp) sv_kmalloc(size, (gfp) | __GFP_ZERO, #size)
#define kmalloc_node(size, gfp, node) sv_kmalloc(size, gfp, #size)
#define kzalloc_node(size, gfp, node) sv_kmalloc(size, (gfp) | __GFP_ZERO, #size)
#define kmalloc_array(n, size, gfp) sv_kmalloc((size_t)(n) * (size), gfp, #size)
#define kcalloc(n, size, gfp) sv_kmalloc((size_t)(n) * (size), (gfp) | __GFP_ZERO, #size)
#define kmalloc_array_node(n, size, gfp, node) kmalloc_array(n, size, gfp)
/* Since 7.0: of a type, or of what a variable is; GFP_KERNEL if no flags are given. */
#define SV_SECOND(first, second, rest...) second
#define SV_GFP(gfp...) SV_SECOND(0, ##gfp, GFP_KERNEL)
#define SV_OBJECTS(what, n, gfp) \
	((__typeof__(what) *)sv_kmalloc(sizeof(__typeof__(what)) * (n), gfp, "sizeof(" #what ")"))
#define kmalloc_objs(what, n, gfp...) SV_OBJECTS(what, n, SV_GFP(gfp))
#define kzalloc_objs(what, n, gfp...) SV_OBJECTS(what, n, SV_GFP(gfp) | __GFP_ZERO)
#define kmalloc_obj(what, gfp...) SV_OBJECTS(what, 1, SV_GFP(gfp))
#define kzalloc_obj(what, gfp...) SV_OBJECTS(what, 1, SV_GFP(gfp) | __GFP_ZERO)
/* Since 6.10 the functions behind the names that count allocations. */
#define kmalloc_noprof kmalloc
#define kmalloc_node_noprof kmalloc_node
#define kzalloc_node_noprof kzalloc_node
#define kfree(object) sv_kfree(object)
#define kfree_sensitive(object) sv_kfree(object)
#define kvfree(object) sv_kfree(object)
/* The kernel's kvmalloc is kmalloc for what is small, and what is asked for here is. */
#define kvmalloc(size, gfp) kmalloc(size, gfp)
#define kvmalloc_node(size, gfp, node) kmalloc(size, gfp)


/* Of lib/radix-tree.c, which the xarray's nodes come from. */
extern struct kmem_cache *radix_tree_node_cachep;
void radix_tree_node_rcu_free(struct rcu_head *head);

#endif
