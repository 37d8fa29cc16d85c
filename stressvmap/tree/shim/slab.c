// SPDX-License-Identifier: GPL-2.0-only
/* kmalloc and slab caches: stressvmap/kernel/slab.py. */
#include "shim.h"

#define CACHES 16
#define NAME_BYTES 64

static struct kmem_cache caches[CACHES];
static unsigned int cache_count;

static bool comes(const char *kind, gfp_t gfp)
{
	if (gfpflags_allow_blocking(gfp))
		sv_might_sleep(kind);
	return !sv_should_fail(kind);
}

/* "sizeof(struct vmap_block)" is vmap_block; where the argument names no type, its size may tell. */
static const char *type_of(const char *what, size_t size, char *name)
{
	static const char prefix[] = "sizeof(struct ";
	const char *known;

	if (strncmp(what, prefix, sizeof(prefix) - 1) == 0) {
		size_t n = 0;

		for (const char *c = what + sizeof(prefix) - 1; *c && *c != ')' && n < NAME_BYTES - 1; c++)
			name[n++] = *c;
		name[n] = 0;
		return name;
	}
	known = strncmp(what, "sizeof(", 7) == 0 ? sv_type_by_size(size) : NULL;
	return known ? known : what;
}

void *sv_kmalloc(size_t size, gfp_t gfp, const char *what)
{
	char name[NAME_BYTES];

	SV_SITE();
	if (!comes("kmalloc", gfp))
		return NULL;
	return sv_alloc(size, type_of(what, size, name), gfp & __GFP_ZERO);
}

void sv_kfree(const void *object)
{
	SV_SITE();
	if (object)
		sv_free((void *)object, SV_FREED_SLAB);
}

struct kmem_cache *kmem_cache_create(const char *name, unsigned int size, unsigned int align, unsigned int flags,
				     void (*constructor)(void *object))
{
	if (cache_count == CACHES)
		sv_bug("more slab caches than the shim has room for");
	caches[cache_count] = (struct kmem_cache){ .name = name, .size = size, .constructor = constructor };
	return &caches[cache_count++];
}

void *kmem_cache_alloc(struct kmem_cache *cache, gfp_t gfp)
{
	void *object;

	SV_SITE();
	/* A node of an index fails with the request that needs it: xa_insert. */
	if (!cache->is_index && !comes("kmem_cache_alloc", gfp))
		return NULL;
	object = sv_alloc(cache->size, cache->name, gfp & __GFP_ZERO);
	if (object && cache->constructor) {
		cache->constructor(object);
		sv_mark_written(object, cache->size);
	}
	return object;
}

void kmem_cache_free(struct kmem_cache *cache, void *object)
{
	SV_SITE();
	if (strcmp(cache->name, "vmap_area") == 0)
		sv_area_freed(object);
	sv_free(object, SV_FREED_SLAB);
}
