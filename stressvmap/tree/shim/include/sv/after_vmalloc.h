/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Compiled behind mm/vmalloc.c, in one unit with it: what the shim must know of that file's own types and variables.
 * SV_HAS_<name> says that the tree has <name> (probes.txt). Nothing here is a point, or an access of the code under
 * test.
 */
#include "shim.h"
#include "sv_probes.h"

#define SV_UNSEEN __attribute__((__no_sanitize__("thread")))

enum sv_tree { SV_NO_TREE, SV_BUSY_TREE, SV_LAZY_TREE, SV_FREE_TREE };

static SV_UNSEEN enum sv_tree sv_tree_of(const struct rb_root *root)
{
	if (root == &free_vmap_area_root)
		return SV_FREE_TREE;
#ifdef SV_HAS_vmap_nodes
	for (unsigned int i = 0; i < nr_vmap_nodes; i++) {
		if (root == &vmap_nodes[i].busy.root)
			return SV_BUSY_TREE;
		if (root == &vmap_nodes[i].lazy.root)
			return SV_LAZY_TREE;
	}
#else
	if (root == &vmap_area_root)
		return SV_BUSY_TREE;
#ifdef SV_HAS_purge_vmap_area_root
	if (root == &purge_vmap_area_root)
		return SV_LAZY_TREE;
#endif
#endif
	return SV_NO_TREE;
}

static SV_UNSEEN uint32_t sv_tree_name(enum sv_tree tree)
{
	static const char *const names[] = { "", "busy", "lazy", "free" };
	static uint32_t numbers[4] __attribute__((section("sv_outlives")));

	if (!numbers[tree])
		numbers[tree] = sv_string(names[tree]);
	return numbers[tree];
}

static SV_UNSEEN uint64_t sv_first_page(const struct vmap_area *va)
{
	return va->va_start >> PAGE_SHIFT;
}

static SV_UNSEEN uint64_t sv_end_page(const struct vmap_area *va)
{
	return va->va_end >> PAGE_SHIFT;
}

static SV_UNSEEN bool sv_is_block(const struct vmap_area *va)
{
#ifdef SV_HAS_VMAP_BLOCK
	return va->flags & VMAP_BLOCK;
#else
	return va->va_end - va->va_start == VMAP_BLOCK_SIZE && va->va_start % VMAP_BLOCK_SIZE == 0;
#endif
}

static SV_UNSEEN struct vmap_area *sv_area_of(struct rb_node *node)
{
	return rb_entry(node, struct vmap_area, rb_node);
}

static SV_UNSEEN void sv_tree_point(int kind, struct rb_root *root, struct rb_node *node)
{
	enum sv_tree tree = sv_tree_of(root);

	if (tree != SV_NO_TREE)
		sv_point(kind, (uint64_t)sv_area_of(node), sv_tree_name(tree));
}

SV_UNSEEN void sv_tree_insert(struct rb_root *root, struct rb_node *node, bool is_augmented)
{
	SV_SITE();
	sv_tree_point(SV_TREE_INSERT, root, node);
}

SV_UNSEEN void sv_tree_erase(struct rb_root *root, struct rb_node *node, bool is_augmented)
{
	SV_SITE();
	sv_tree_point(SV_TREE_ERASE, root, node);
}

SV_UNSEEN void sv_tree_inserted(struct rb_root *root, struct rb_node *node, bool is_augmented)
{
	enum sv_tree tree = sv_tree_of(root);
	struct vmap_area *va = sv_area_of(node);

	SV_SITE();
	if (tree == SV_NO_TREE)
		return;
	sv_record(SV_TREE_INSERT, (uint64_t)va, sv_tree_name(tree), 0);
	if (tree == SV_BUSY_TREE)
		sv_space_taken(sv_first_page(va), sv_end_page(va), sv_is_block(va));
	else if (tree == SV_FREE_TREE)
		sv_space_returned(sv_first_page(va), sv_end_page(va));
}

SV_UNSEEN void sv_tree_erased(struct rb_root *root, struct rb_node *node, bool is_augmented)
{
	enum sv_tree tree = sv_tree_of(root);
	struct vmap_area *va = sv_area_of(node);

	SV_SITE();
	if (tree == SV_NO_TREE)
		return;
	sv_record(SV_TREE_ERASE, (uint64_t)va, sv_tree_name(tree), 0);
	if (tree == SV_BUSY_TREE)
		sv_space_unlinked(sv_first_page(va), sv_end_page(va));
}

/* An area that merged into its neighbour is freed: is its range the free tree's now, or only a larger lazy area's? */
SV_UNSEEN void sv_area_freed(const void *area)
{
	const struct vmap_area *va = area;
	const struct rb_node *node = free_vmap_area_root.rb_node;

	if (!sv_is_any_space_out(sv_first_page(va), sv_end_page(va)))
		return;
	while (node) {
		const struct vmap_area *free = sv_area_of((struct rb_node *)node);

		if (va->va_end <= free->va_start) {
			node = node->rb_left;
		} else if (va->va_start >= free->va_end) {
			node = node->rb_right;
		} else {
			if (free->va_start <= va->va_start && va->va_end <= free->va_end)
				sv_space_returned(sv_first_page(va), sv_end_page(va));
			return;
		}
	}
	/* Absorbed by a lazy neighbour: it is lazy as well, though no node of its own says so. */
	sv_record(SV_TREE_INSERT, (uint64_t)va, sv_string("lazy"), 0);
}

SV_UNSEEN const char *sv_type_by_size(size_t size)
{
	return size == sizeof(struct vmap_block) ? "vmap_block" :
	       size == sizeof(struct vm_struct)	 ? "vm_struct" :
#ifdef SV_HAS_vmap_nodes
	       size % sizeof(struct vmap_node) == 0 ? "vmap_node" :
#endif
						      NULL;
}

SV_UNSEEN int sv_vmap_node_of(const struct work_struct *work)
{
#if defined(SV_HAS_vmap_nodes) && defined(SV_HAS_purge_work)
	for (unsigned int i = 0; i < nr_vmap_nodes; i++)
		if (work == &vmap_nodes[i].purge_work)
			return (int)i;
#endif
	return -1;
}

extern sv_initcall __start_sv_initcalls[] __attribute__((weak)), __stop_sv_initcalls[] __attribute__((weak));

SV_UNSEEN void sv_vmalloc_boot(void)
{
	vmalloc_init();
	for (sv_initcall *call = __start_sv_initcalls; call < __stop_sv_initcalls; call++)
		(*call)();
	vmap_lazy_nr.counter += (long)sv_config.lazy_bias;
}
