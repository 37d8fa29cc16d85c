/* SPDX-License-Identifier: GPL-2.0-only */
/* The tree's own lists and trees, and what is told of a change of one that the file under test makes. */
#ifndef SV_FROM_TREE_H
#define SV_FROM_TREE_H

#include <linux/kconfig.h>
#include <linux/poison.h>
#include <linux/list.h>
#include <linux/rculist.h>
#include <linux/rbtree_augmented.h>
#include <linux/xarray.h>
#include <linux/llist.h>

#ifdef SV_LIBRARY

/* An index publishes an entry: told before any other task can see it. */
void sv_publish(const void *entry);
#undef rcu_assign_pointer
#define rcu_assign_pointer(pointer, value) \
	do { \
		__auto_type sv_value = (value); \
		sv_publish((const void *)sv_value); \
		smp_store_release(&(pointer), sv_value); \
	} while (0)

#else

/* LIST_ADD and LIST_DEL: when it is done, as kernel/lists.py tells them. */
void sv_list_added(const struct list_head *node, const struct list_head *head, struct sv_name *name);
void sv_list_deleted(const struct list_head *node, struct sv_name *name);
#define SV_TELL_ADDED(function, node, head) \
	({ \
		struct list_head *sv_node = (node), *sv_head = (head); \
		function(sv_node, sv_head); \
		sv_list_added(sv_node, sv_head, SV_NAME(#node)); \
	})
#define SV_TELL_DELETED(function, node) \
	({ \
		struct list_head *sv_node = (node); \
		function(sv_node); \
		sv_list_deleted(sv_node, SV_NAME(#node)); \
	})
#define list_add(node, head) SV_TELL_ADDED(list_add, node, head)
#define list_add_tail(node, head) SV_TELL_ADDED(list_add_tail, node, head)
#define list_add_rcu(node, head) SV_TELL_ADDED(list_add_rcu, node, head)
#define list_add_tail_rcu(node, head) SV_TELL_ADDED(list_add_tail_rcu, node, head)
#define list_del(node) SV_TELL_DELETED(list_del, node)
#define list_del_init(node) SV_TELL_DELETED(list_del_init, node)
#define list_del_rcu(node) SV_TELL_DELETED(list_del_rcu, node)

/* The xarray: an index to objects, whose nodes are its own business. */
void *sv_xa_load(struct xarray *xa, unsigned long index);
int sv_xa_insert(struct xarray *xa, unsigned long index, void *entry, gfp_t gfp);
void *sv_xa_erase(struct xarray *xa, unsigned long index);
void *sv_xa_find(struct xarray *xa, unsigned long *index, unsigned long max, xa_mark_t filter);
void *sv_xa_find_after(struct xarray *xa, unsigned long *index, unsigned long max, xa_mark_t filter);
#ifndef SV_SHIM
#define xa_find(xa, index, max, filter) sv_xa_find(xa, index, max, filter)
#define xa_find_after(xa, index, max, filter) sv_xa_find_after(xa, index, max, filter)
#define xa_load(xa, index) sv_xa_load(xa, index)
#define xa_insert(xa, index, entry, gfp) sv_xa_insert(xa, index, entry, gfp)
#define xa_erase(xa, index) sv_xa_erase(xa, index)
#endif

/* Trees of areas: what the inserted or erased node is, areas_of_tree.h knows. */
void sv_tree_insert(struct rb_root *root, struct rb_node *node, bool is_augmented);
void sv_tree_inserted(struct rb_root *root, struct rb_node *node, bool is_augmented);
void sv_tree_erase(struct rb_root *root, struct rb_node *node, bool is_augmented);
void sv_tree_erased(struct rb_root *root, struct rb_node *node, bool is_augmented);
#define SV_TREE_CHANGE(before, after, change, node, root, is_augmented) \
	({ \
		struct rb_node *sv_node = (node); \
		struct rb_root *sv_root = (root); \
		before(sv_root, sv_node, is_augmented); \
		change; \
		after(sv_root, sv_node, is_augmented); \
	})
#define rb_insert_color(node, root) \
	SV_TREE_CHANGE(sv_tree_insert, sv_tree_inserted, rb_insert_color(sv_node, sv_root), node, root, false)
#define rb_erase(node, root) \
	SV_TREE_CHANGE(sv_tree_erase, sv_tree_erased, rb_erase(sv_node, sv_root), node, root, false)
#define rb_insert_augmented(node, root, augment) \
	SV_TREE_CHANGE(sv_tree_insert, sv_tree_inserted, rb_insert_augmented(sv_node, sv_root, augment), node, root, true)
#define rb_erase_augmented(node, root, augment) \
	SV_TREE_CHANGE(sv_tree_erase, sv_tree_erased, rb_erase_augmented(sv_node, sv_root, augment), node, root, true)

#endif
#endif
