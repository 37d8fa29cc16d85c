// SPDX-License-Identifier: GPL-2.0-only
/* How a program's operations are carried out on the tree's vmalloc: stressvmap/vmalloc/backend.py. */
#include <linux/vmalloc.h>

#include "shim.h"

/* What lies in a slot. The frames of a vmalloc are its own. */
struct slot {
	uint64_t address; /* 0: nothing */
	uint32_t pages;
	uint8_t is_vmalloc, wants_reset;
	struct page **frames;
};

static SV_OUTLIVES struct slot *slots, *last; /* in them, and what was taken out last */
static SV_OUTLIVES uint32_t slots_used;	      /* in this run: one more than the highest; there may be very many */
static SV_OUTLIVES struct page **frames;      /* of all mappings of a run, one after the other */
static uint64_t frames_used;

#define FRAMES_BYTES ((size_t)1 << 33)

void sv_program_boot(void)
{
	slots = sv_host_array(sv_config.slots * sizeof(*slots));
	last = sv_host_array(sv_config.slots * sizeof(*last));
	frames = sv_host_array(FRAMES_BYTES);
}

static void begin_call(const char *entry, uint64_t address, uint32_t pages)
{
	sv_record(SV_API_BEGIN, address >> PAGE_SHIFT, sv_string(entry), pages);
}

static void end_call(const char *entry, uint64_t address, uint32_t pages)
{
	sv_current->pc = 0; /* the caller is in no kernel function */
	sv_record(SV_API_END, address >> PAGE_SHIFT, sv_string(entry), pages);
}

static bool do_shrink(void)
{
	if (!sv_has_shrinker())
		return false;
	begin_call("shrink_slab", 0, 0);
	sv_shrink();
	end_call("shrink_slab", 0, 0);
	return true;
}

static void free_frames(const struct slot *slot)
{
	for (uint32_t i = 0; i < slot->pages; i++)
		sv_frame_free((unsigned int)page_to_pfn(slot->frames[i]));
}

static void unmap(const struct slot *slot)
{
	begin_call("vm_unmap_ram", slot->address, slot->pages);
	vm_unmap_ram((void *)slot->address, slot->pages);
	end_call("vm_unmap_ram", slot->address, slot->pages);
	free_frames(slot);
}

static void free_vmalloc(const struct slot *slot)
{
	const char *entry = slot->wants_reset ? "vfree_reset" : "vfree";

	begin_call(entry, slot->address, slot->pages);
	vfree((void *)slot->address);
	end_call(entry, slot->address, slot->pages);
}

/* Two tasks may fill one slot at a time: the second mapping goes again. */
static void put(uint32_t number, const struct slot *filled)
{
	sv_note(SV_SLOT, number, SV_LOOKS);
	if (slots[number].address) {
		if (filled->is_vmalloc)
			free_vmalloc(filled);
		else
			unmap(filled);
		return;
	}
	sv_record(SV_SLOT_PUT, number, 0, 0);
	slots[number] = *filled;
	if (number >= slots_used)
		slots_used = number + 1;
}

static bool take(uint32_t number, bool is_vmalloc, struct slot *taken)
{
	sv_note(SV_SLOT, number, SV_LOOKS);
	if (!slots[number].address || slots[number].is_vmalloc != is_vmalloc)
		return false;
	*taken = last[number] = slots[number];
	slots[number].address = 0;
	sv_record(SV_SLOT_TAKE, number, 0, 0);
	return true;
}

static bool do_map(const struct sv_op *op)
{
	struct slot slot = { .pages = op->pages };

	sv_note(SV_SLOT, op->slot, SV_LOOKS);
	if (slots[op->slot].address)
		return false;
	if ((frames_used + op->pages) * sizeof(*frames) > FRAMES_BYTES)
		sv_bug("more pages mapped in a run than there is room for");
	slot.frames = frames + frames_used;
	frames_used += op->pages;
	for (uint32_t i = 0; i < op->pages; i++)
		slot.frames[i] = pfn_to_page(sv_frame_alloc());
	begin_call("vm_map_ram", 0, op->pages);
	slot.address = (uint64_t)vm_map_ram(slot.frames, op->pages, NUMA_NO_NODE);
	end_call("vm_map_ram", slot.address, op->pages);
	if (slot.address)
		put(op->slot, &slot);
	else
		free_frames(&slot);
	return true;
}

static bool do_unmap(const struct sv_op *op)
{
	struct slot slot;

	if (!take(op->slot, false, &slot))
		return false;
	unmap(&slot);
	return true;
}

static bool do_vmalloc(const struct sv_op *op, bool wants_reset)
{
	const char *entry = wants_reset ? "vmalloc_reset" : "vmalloc";
	struct slot slot = { .pages = op->pages, .is_vmalloc = true, .wants_reset = wants_reset };

	sv_note(SV_SLOT, op->slot, SV_LOOKS);
	if (slots[op->slot].address)
		return false;
	begin_call(entry, 0, op->pages);
	slot.address = (uint64_t)__vmalloc_node_range((size_t)op->pages << PAGE_SHIFT, 1, VMALLOC_START, VMALLOC_END,
						      GFP_KERNEL, PAGE_KERNEL, wants_reset ? VM_FLUSH_RESET_PERMS : 0,
						      NUMA_NO_NODE, __builtin_return_address(0));
	end_call(entry, slot.address, op->pages);
	if (slot.address)
		put(op->slot, &slot);
	return true;
}

static bool do_vfree(const struct sv_op *op)
{
	struct slot slot;

	if (!take(op->slot, true, &slot))
		return false;
	free_vmalloc(&slot);
	return true;
}

/* From a context that must not sleep: a work does it later. What resets permissions may not be freed so. */
static bool do_atomic_vfree(const struct sv_op *op)
{
	struct slot slot;

	sv_note(SV_SLOT, op->slot, SV_LOOKS);
	if (slots[op->slot].wants_reset || !take(op->slot, true, &slot))
		return false;
	begin_call("vfree_atomic", slot.address, slot.pages);
	preempt_disable();
	vfree_atomic((void *)slot.address);
	preempt_enable();
	end_call("vfree_atomic", slot.address, slot.pages);
	return true;
}

static bool do_aliases(void)
{
	begin_call("vm_unmap_aliases", 0, 0);
	vm_unmap_aliases();
	end_call("vm_unmap_aliases", 0, 0);
	return true;
}

static bool do_walk(void)
{
	begin_call("vmallocinfo", 0, 0);
	sv_read_proc();
	end_call("vmallocinfo", 0, 0);
	return true;
}

static bool read_pages(uint32_t number, const struct slot *slot)
{
	uint64_t first = slot->address >> PAGE_SHIFT;

	sv_note(SV_SLOT, number, SV_LOOKS);
	if (!slot->address)
		return false;
	for (uint64_t page = first; page < first + slot->pages; page++)
		sv_read_page(page);
	return true;
}

static bool do_migrate(int cpu)
{
	if (cpu >= SV_CPUS || !sv_move(sv_current, cpu))
		return false;
	sv_wait_for_cpu();
	return true;
}

static bool do_pause(uint32_t points)
{
	while (points--)
		sv_point(0, 0, sv_string("pause"));
	return true;
}

bool sv_perform(const struct sv_op *op)
{
	switch ((enum sv_op_kind)op->kind) {
	case SV_OP_MAP:
		return do_map(op);
	case SV_OP_UNMAP:
		return do_unmap(op);
	case SV_OP_VMALLOC:
		return do_vmalloc(op, false);
	case SV_OP_VMALLOC_RESET:
		return do_vmalloc(op, true);
	case SV_OP_VFREE:
		return do_vfree(op);
	case SV_OP_ATOMIC_VFREE:
		return do_atomic_vfree(op);
	case SV_OP_ALIASES:
		return do_aliases();
	case SV_OP_TOUCH:
		return read_pages(op->slot, &slots[op->slot]);
	case SV_OP_PROBE:
		return read_pages(op->slot, &last[op->slot]);
	case SV_OP_MIGRATE:
		return do_migrate((int)op->pages);
	case SV_OP_OFFLINE:
		return sv_cpu_down((int)op->pages);
	case SV_OP_ONLINE:
		return sv_cpu_up((int)op->pages);
	case SV_OP_PAUSE:
		return do_pause(op->pages);
	case SV_OP_SHRINK:
		return do_shrink();
	case SV_OP_WALK:
		return do_walk();
	case SV_OP_KINDS:
		break;
	}
	sv_bug("an operation that is none");
}

/* Unmap everything, pay every debt, so that what is then left over is a leak. */
void sv_clean_up(void *unused)
{
	for (uint32_t number = 0; number < slots_used; number++)
		if (slots[number].address)
			sv_carry_out(&(struct sv_op){ slots[number].is_vmalloc ? SV_OP_VFREE : SV_OP_UNMAP, number, 0 });
	sv_carry_out(&(struct sv_op){ SV_OP_ALIASES, 0, 0 });
}

void sv_shim_boot(void)
{
	sv_machine_boot();
	sv_spaces_boot();
	sv_index_boot();
	sv_program_boot();
	sv_vmalloc_boot();
	sv_machine_keep_boot();
}

void sv_shim_reset(void)
{
	sv_machine_reset();
	sv_spaces_reset();
	memset(slots, 0, slots_used * sizeof(*slots));
	memset(last, 0, slots_used * sizeof(*last));
	slots_used = 0;
}
