// SPDX-License-Identifier: GPL-2.0-only
/*
 * What CONFIG_DEBUG_LIST looks at before a list is changed (stressvmap/kernel/lists.py): a corrupt one is told of, and
 * changed as in a kernel built without it. The tree's header decides under which of the names it asks; it may define
 * the others itself.
 */
#include "shim.h"

bool sv_before_add(struct list_head *new, struct list_head *prev, struct list_head *next) __asm__("__list_add_valid");
bool sv_before_add_or_report(struct list_head *new, struct list_head *prev, struct list_head *next)
	__asm__("__list_add_valid_or_report");
bool sv_before_delete(struct list_head *entry) __asm__("__list_del_entry_valid");
bool sv_before_delete_or_report(struct list_head *entry) __asm__("__list_del_entry_valid_or_report");

/* LIST_POISON1, LIST_POISON2, NULL, or memory nobody wrote: following it is an oops, of the list's function. */
static bool is_no_list(const struct list_head *node)
{
	return (unsigned long)node < PAGE_SIZE || (unsigned long)node >> 48;
}

bool sv_before_add(struct list_head *new, struct list_head *prev, struct list_head *next)
{
	SV_SITE();
	if (!is_no_list(prev))
		sv_note(SV_MEMORY, (uint64_t)&prev->next, SV_LOOKS);
	if (!is_no_list(next))
		sv_note(SV_MEMORY, (uint64_t)&next->prev, SV_LOOKS);
	if (is_no_list(prev) || prev->next != next)
		sv_record(SV_LIST_CORRUPT, (uint64_t)new, 0, (uint64_t)prev);
	else if (next->prev != prev || new == prev || new == next)
		sv_record(SV_LIST_CORRUPT, (uint64_t)new, 0, (uint64_t)next);
	return true;
}

bool sv_before_add_or_report(struct list_head *new, struct list_head *prev, struct list_head *next)
{
	return sv_before_add(new, prev, next);
}

bool sv_before_delete(struct list_head *entry)
{
	struct list_head *prev = entry->prev, *next = entry->next;

	SV_SITE();
	if (!is_no_list(prev))
		sv_note(SV_MEMORY, (uint64_t)&prev->next, SV_LOOKS);
	if (!is_no_list(next))
		sv_note(SV_MEMORY, (uint64_t)&next->prev, SV_LOOKS);
	if (is_no_list(prev) || prev->next != entry)
		sv_record(SV_LIST_CORRUPT, (uint64_t)entry, 0, is_no_list(prev) ? 0 : (uint64_t)prev);
	else if (is_no_list(next) || next->prev != entry)
		sv_record(SV_LIST_CORRUPT, (uint64_t)entry, 0, is_no_list(next) ? 0 : (uint64_t)next);
	return true;
}

bool sv_before_delete_or_report(struct list_head *entry)
{
	return sv_before_delete(entry);
}

void sv_list_added(const struct list_head *node, const struct list_head *head, struct sv_name *name)
{
	SV_SITE();
	sv_record(SV_LIST_ADD, (uint64_t)node, sv_name_number(name), (uint64_t)head);
}

void sv_list_deleted(const struct list_head *node, struct sv_name *name)
{
	SV_SITE();
	sv_record(SV_LIST_DEL, (uint64_t)node, sv_name_number(name), 0);
}
