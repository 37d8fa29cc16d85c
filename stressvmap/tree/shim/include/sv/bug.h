/* SPDX-License-Identifier: GPL-2.0-only */
/* <linux/bug.h>, <linux/mmdebug.h>, and what prints. A warning is told each time, "once" or not: runs start anew. */
#ifndef SV_BUG_H
#define SV_BUG_H

_Noreturn void sv_kernel_bug(const char *what);
void sv_kernel_warn(const char *what);

#define BUG() sv_kernel_bug("BUG()")
#define BUG_ON(condition) do { if (unlikely(condition)) sv_kernel_bug("BUG_ON(" #condition ")"); } while (0)
#define SV_WARN_IF(condition, text) \
	({ \
		bool sv_warned = !!(condition); \
		if (unlikely(sv_warned)) \
			sv_kernel_warn(text); \
		unlikely(sv_warned); \
	})
#define WARN_ON(condition) SV_WARN_IF(condition, "WARN_ON(" #condition ")")
#define WARN_ON_ONCE(condition) SV_WARN_IF(condition, "WARN_ON(" #condition ")")
#define WARN(condition, text, ...) SV_WARN_IF(condition, text)
#define WARN_ONCE(condition, text, ...) SV_WARN_IF(condition, text)
#define VM_BUG_ON(condition) BUG_ON(condition)
#define VM_BUG_ON_PAGE(condition, page) BUG_ON(condition)
#define VM_WARN_ON(condition) WARN_ON(condition)
#define VM_WARN_ON_ONCE(condition) WARN_ON(condition)
#define VIRTUAL_BUG_ON(condition) BUG_ON(condition)
#define DEBUG_LOCKS_WARN_ON(condition) WARN_ON(condition)
#define might_sleep() sv_kernel_might_sleep("might_sleep")
#define might_sleep_if(condition) do { if (condition) might_sleep(); } while (0)
#define might_alloc(gfp) might_sleep_if((gfp) & __GFP_DIRECT_RECLAIM)
void sv_kernel_might_sleep(const char *what);

/* What is printed tells a reader of the console, who is not here. The arguments are looked at by the compiler only. */
#define no_printk(...) ({ if (0) sv_printed(__VA_ARGS__); 0; })
void sv_printed(const char *format, ...);
#define printk no_printk
#define pr_emerg no_printk
#define pr_alert no_printk
#define pr_err no_printk
#define pr_warn no_printk
#define pr_warn_once no_printk
#define pr_info no_printk
#define pr_debug no_printk
#define pr_cont no_printk
#define printk_ratelimit() 0
#define dump_stack() do { } while (0)
#define KERN_WARNING ""
#define KERN_INFO ""
#define KERN_ERR ""

#endif
