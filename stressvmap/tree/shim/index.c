// SPDX-License-Identifier: GPL-2.0-only
/*
 * The xarray as vmalloc uses it: an index to objects (stressvmap/kernel/xarray.py). lib/xarray.c does the work; here
 * is what the journal says of it, and where an insertion fails.
 */
#include "shim.h"

/* An insertion that is under way, until the entry can be seen. */
struct insertion {
	const struct sv_task *task;
	const struct xarray *xa;
	unsigned long index;
	const void *entry;
};
static SV_OUTLIVES struct insertion insertions[SV_TASKS];
static uint32_t insertion_count;

struct kmem_cache *radix_tree_node_cachep;

void *sv_xa_load(struct xarray *xa, unsigned long index)
{
	void *entry = xa_load(xa, index);

	SV_SITE();
	sv_record(SV_XA_LOAD, (uint64_t)xa, (uint32_t)index, (uint64_t)entry);
	return entry;
}

void *sv_xa_find(struct xarray *xa, unsigned long *index, unsigned long max, xa_mark_t filter)
{
	void *entry = xa_find(xa, index, max, filter);

	SV_SITE();
	sv_record(SV_XA_LOAD, (uint64_t)xa, (uint32_t)*index, (uint64_t)entry);
	return entry;
}

void *sv_xa_find_after(struct xarray *xa, unsigned long *index, unsigned long max, xa_mark_t filter)
{
	void *entry = xa_find_after(xa, index, max, filter);

	SV_SITE();
	sv_record(SV_XA_LOAD, (uint64_t)xa, (uint32_t)*index, (uint64_t)entry);
	return entry;
}

void sv_publish(const void *entry)
{
	for (uint32_t i = 0; i < insertion_count; i++) {
		struct insertion *insertion = &insertions[i];

		if (insertion->task == sv_current && entry && insertion->entry == entry) {
			sv_record(SV_XA_STORE, (uint64_t)insertion->xa, (uint32_t)insertion->index, (uint64_t)entry);
			insertion->entry = NULL;
		}
	}
}

int sv_xa_insert(struct xarray *xa, unsigned long index, void *entry, gfp_t gfp)
{
	int error;
	uint32_t mine;

	SV_SITE();
	if (gfpflags_allow_blocking(gfp))
		sv_might_sleep("xa_insert");
	if (sv_should_fail("xa_insert"))
		return -ENOMEM;
	for (mine = 0; mine < insertion_count; mine++)
		if (insertions[mine].task == sv_current)
			break;
	if (mine == insertion_count)
		insertion_count++;
	insertions[mine] = (struct insertion){ sv_current, xa, index, entry };
	error = xa_insert(xa, index, entry, gfp & ~__GFP_DIRECT_RECLAIM);
	insertions[mine].entry = NULL;
	return error;
}

void *sv_xa_erase(struct xarray *xa, unsigned long index)
{
	void *entry = xa_erase(xa, index);

	SV_SITE();
	sv_record(SV_XA_ERASE, (uint64_t)xa, (uint32_t)index, (uint64_t)entry);
	return entry;
}

static void construct_node(void *object)
{
	struct xa_node *node = object;

	memset(node, 0, sizeof(*node));
	INIT_LIST_HEAD(&node->private_list);
}

/* lib/radix-tree.c does this for both. */
void radix_tree_node_rcu_free(struct rcu_head *head)
{
	kmem_cache_free(radix_tree_node_cachep, container_of(head, struct xa_node, rcu_head));
}

void sv_index_boot(void)
{
	radix_tree_node_cachep = kmem_cache_create("xa_node", sizeof(struct xa_node), 0, 0, construct_node);
	radix_tree_node_cachep->is_index = true;
}
