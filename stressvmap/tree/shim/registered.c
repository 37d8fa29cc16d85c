// SPDX-License-Identifier: GPL-2.0-only
/* What the code under test registers with the kernel: notifiers, shrinkers, files of /proc. */
#include "shim.h"

static struct shrinker shrinker; /* vmalloc has one, since 6.9 */
static struct shrinker *registered_shrinker;
static const struct seq_operations *walked_file;
static size_t walked_private_bytes;
static int (*single_file)(struct seq_file *file, void *item);

int blocking_notifier_chain_register(struct blocking_notifier_head *head, struct notifier_block *block)
{
	block->next = head->first;
	head->first = block;
	return 0;
}

int blocking_notifier_chain_unregister(struct blocking_notifier_head *head, struct notifier_block *block)
{
	for (struct notifier_block **link = &head->first; *link; link = &(*link)->next) {
		if (*link == block) {
			*link = block->next;
			return 0;
		}
	}
	return -ENOENT;
}

int blocking_notifier_call_chain(struct blocking_notifier_head *head, unsigned long action, void *data)
{
	int answer = NOTIFY_DONE;

	SV_SITE();
	for (struct notifier_block *block = head->first; block; block = block->next)
		answer = block->notifier_call(block, action, data);
	return answer;
}

struct shrinker *shrinker_alloc(unsigned int flags, const char *name, ...)
{
	shrinker.seeks = DEFAULT_SEEKS;
	shrinker.flags = flags;
	return &shrinker;
}

void shrinker_register(struct shrinker *one)
{
	registered_shrinker = one;
}

int register_shrinker(struct shrinker *one, const char *name, ...)
{
	registered_shrinker = one;
	return 0;
}

bool sv_has_shrinker(void)
{
	return registered_shrinker != NULL;
}

/* As reclaim does: ask what there is, and have it scanned. */
void sv_shrink(void)
{
	struct shrink_control control = { .gfp_mask = GFP_KERNEL, .nid = 0 };
	unsigned long count;

	count = registered_shrinker->count_objects(registered_shrinker, &control);
	control.nr_to_scan = control.nr_scanned = count;
	if (count && count != SHRINK_EMPTY)
		registered_shrinker->scan_objects(registered_shrinker, &control);
}

struct proc_dir_entry *sv_proc_create_seq(const struct seq_operations *operations, size_t private_size)
{
	walked_file = operations;
	walked_private_bytes = private_size;
	return NULL;
}

struct proc_dir_entry *sv_proc_create_single(int (*show)(struct seq_file *file, void *item))
{
	single_file = show;
	return NULL;
}

struct list_head *seq_list_start(struct list_head *head, loff_t at)
{
	struct list_head *node;

	sv_note(SV_MEMORY, (uint64_t)&head->next, SV_LOOKS);
	for (node = READ_ONCE(head->next); node != head; node = READ_ONCE(node->next)) {
		if (at-- == 0)
			return node;
		sv_note(SV_MEMORY, (uint64_t)&node->next, SV_LOOKS);
	}
	return NULL;
}

struct list_head *seq_list_next(void *item, struct list_head *head, loff_t *at)
{
	struct list_head *next = READ_ONCE(((struct list_head *)item)->next);

	sv_note(SV_MEMORY, (uint64_t)&((struct list_head *)item)->next, SV_LOOKS);
	++*at;
	return next == head ? NULL : next;
}

void sv_seq_shown(struct seq_file *file, const char *format, ...)
{
}

/* Read the file from its beginning to its end, as cat does. */
void sv_read_proc(void)
{
	unsigned int counters[8] = { 0 }; /* show_numa_info counts here, one a node */
	struct seq_file file = { .private = walked_private_bytes ? counters : NULL };
	loff_t at = 0;

	if (single_file) {
		single_file(&file, NULL);
		return;
	}
	if (!walked_file)
		return;
	for (void *item = walked_file->start(&file, &at);; item = walked_file->next(&file, item, &at)) {
		if (!item) {
			walked_file->stop(&file, item);
			return;
		}
		walked_file->show(&file, item);
	}
}

size_t copy_to_iter(const void *from, size_t n, struct iov_iter *iterator)
{
	iterator->count -= n;
	return n;
}

size_t copy_page_to_iter_nofault(struct page *page, unsigned int offset, size_t n, struct iov_iter *iterator)
{
	return copy_to_iter(page, n, iterator);
}
