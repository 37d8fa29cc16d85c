/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * <linux/seq_file.h>, <linux/proc_fs.h>, <linux/uio.h>: what is printed is nobody's business, what is read for it is.
 */
#ifndef SV_SEQ_FILE_H
#define SV_SEQ_FILE_H

struct seq_file {
	void *private;
};
struct seq_operations {
	void *(*start)(struct seq_file *file, loff_t *at);
	void (*stop)(struct seq_file *file, void *item);
	void *(*next)(struct seq_file *file, void *item, loff_t *at);
	int (*show)(struct seq_file *file, void *item);
};
struct proc_dir_entry;
/* What is printed is read, and what is looked at to know whether to print: the walker's look at an area is an access. */
void sv_seq_shown(struct seq_file *file, const char *format, ...);
#define seq_puts(file, text) sv_seq_shown(file, text)
#define seq_putc(file, character) sv_seq_shown(file, "")
#define seq_printf(file, ...) sv_seq_shown(file, __VA_ARGS__)
#ifndef SV_WITHOUT_TREE
struct list_head *seq_list_start(struct list_head *head, loff_t at);
struct list_head *seq_list_next(void *item, struct list_head *head, loff_t *at);
#endif
/* Files of /proc: what to call to read one. */
struct proc_dir_entry *sv_proc_create_seq(const struct seq_operations *operations, size_t private_size);
struct proc_dir_entry *sv_proc_create_single(int (*show)(struct seq_file *file, void *item));
#define proc_create_seq(name, mode, parent, operations) sv_proc_create_seq(operations, 0)
#define proc_create_seq_private(name, mode, parent, operations, size, data) sv_proc_create_seq(operations, size)
#define proc_create_single(name, mode, parent, show) sv_proc_create_single(show)
void sv_read_proc(void);

struct iov_iter {
	size_t count;
};
size_t copy_to_iter(const void *from, size_t n, struct iov_iter *iterator);
size_t copy_page_to_iter_nofault(struct page *page, unsigned int offset, size_t n, struct iov_iter *iterator);
#define iov_iter_zero(n, iterator) copy_to_iter(NULL, n, iterator)
#define iov_iter_count(iterator) ((iterator)->count)

#endif
