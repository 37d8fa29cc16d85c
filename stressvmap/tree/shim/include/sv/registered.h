/* SPDX-License-Identifier: GPL-2.0-only */
/* <linux/notifier.h>, <linux/shrinker.h>, <linux/random.h>. */
#ifndef SV_REGISTERED_H
#define SV_REGISTERED_H

struct notifier_block;
typedef int (*notifier_fn_t)(struct notifier_block *block, unsigned long action, void *data);
struct notifier_block {
	notifier_fn_t notifier_call;
	struct notifier_block *next;
	int priority;
};
struct blocking_notifier_head {
	struct notifier_block *first;
};
#define BLOCKING_NOTIFIER_HEAD(name) struct blocking_notifier_head name = { NULL }
#define NOTIFY_DONE 0
#define NOTIFY_OK 1
int blocking_notifier_chain_register(struct blocking_notifier_head *head, struct notifier_block *block);
int blocking_notifier_chain_unregister(struct blocking_notifier_head *head, struct notifier_block *block);
int blocking_notifier_call_chain(struct blocking_notifier_head *head, unsigned long action, void *data);

struct shrink_control {
	gfp_t gfp_mask;
	int nid;
	unsigned long nr_to_scan, nr_scanned;
};
#define SHRINK_STOP (~0UL)
#define SHRINK_EMPTY (~0UL - 1)
#define DEFAULT_SEEKS 2
struct shrinker {
	unsigned long (*count_objects)(struct shrinker *shrinker, struct shrink_control *control);
	unsigned long (*scan_objects)(struct shrinker *shrinker, struct shrink_control *control);
	int seeks;
	long batch;
	unsigned int flags;
	void *private_data;
};
struct shrinker *shrinker_alloc(unsigned int flags, const char *name, ...);
void shrinker_register(struct shrinker *shrinker);
int register_shrinker(struct shrinker *shrinker, const char *name, ...);

/* A number of the schedule: it is drawn by the strategy. */
#define get_random_u32() ((u32)sv_draw(UINT_MAX))
#define get_random_long() ((unsigned long)sv_draw(UINT_MAX))
#define get_random_u32_below(n) sv_draw(n)
#define prandom_u32_max(n) sv_draw(n)

#endif
