// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a compiler calls for -fsanitize=thread: a callback before each access of the code under test.
 *
 * The callback is the scheduling point and writes the journal's entry: a read's value is there already, for
 * nothing comes between the callback and the access; a write's is filled in at the task's next entry into the
 * engine. Plain accesses to the own stack are nobody else's business.
 */
#include <string.h>

#include "access.h"

#define FRAMES 32

void sv_access_slowly(uint64_t address, size_t size, unsigned int is, uint32_t pc)
{
	struct sv_task *task = sv_current;
	unsigned int flags = 0;
	struct sv_event *event;
	int kind;

	sv_fill();
	if (is & IS_MARKED ? sv_is_bare : address - sv_own_stack < sv_own_stack_size)
		return;
	task->pc = pc;
	if (task->race_depth && !(is & IS_MARKED)) {
		is |= IS_MARKED;
		flags = SV_RACY;
	}
	kind = access_kind(is);
	task->touched = address;
	if (is & IS_MARKED || sv_config.points_all)
		sv_announce(task, kind, address, (uint32_t)size);
	if (address - sv_arena < sv_arena_used) {
		flags |= SV_ON_HEAP;
		sv_heap_access(task, kind, address, size, is & IS_RANGE);
	}
	if (!(is & IS_WRITE)) {
		sv_append(task, kind, flags, address, (uint32_t)size, value_at(address, size));
		return;
	}
	event = sv_append(task, kind, flags, address, (uint32_t)size, 0);
	sv_unfilled_mask = value_mask(size, is);
	sv_unfilled = event;
}

#define DEFINE_ACCESS(name, size, is)                                                                   \
	void __tsan_##name(void *address);                                                              \
	void __tsan_##name(void *address)                                                               \
	{                                                                                               \
		access(address, size, is, HERE);                                                        \
	}

#define DEFINE_ACCESSES(size, prefix, is)                                                               \
	DEFINE_ACCESS(prefix##read##size, size, is)                                                     \
	DEFINE_ACCESS(prefix##write##size, size, (is) | IS_WRITE)                                       \
	DEFINE_ACCESS(prefix##volatile_read##size, size, (is) | IS_MARKED)                              \
	DEFINE_ACCESS(prefix##volatile_write##size, size, (is) | IS_MARKED | IS_WRITE)

DEFINE_ACCESSES(1, , 0)
DEFINE_ACCESSES(2, , 0)
DEFINE_ACCESSES(4, , 0)
DEFINE_ACCESSES(8, , 0)
DEFINE_ACCESSES(16, , IS_UNALIGNED)
DEFINE_ACCESSES(2, unaligned_, IS_UNALIGNED)
DEFINE_ACCESSES(4, unaligned_, IS_UNALIGNED)
DEFINE_ACCESSES(8, unaligned_, IS_UNALIGNED)
DEFINE_ACCESSES(16, unaligned_, IS_UNALIGNED)

/* What a compiler calls for an access of no such size, or whose alignment it does not know. */
#define RANGE (IS_UNALIGNED | IS_RANGE)

void __tsan_read_range(void *address, size_t size);
void __tsan_write_range(void *address, size_t size);
void __tsan_vptr_update(void **address, void *value);
void __tsan_vptr_read(void **address);
void __tsan_func_entry(void *caller);
void __tsan_func_exit(void);
void __tsan_init(void);

void __tsan_read_range(void *address, size_t size)
{
	if (size)
		access(address, size, RANGE, HERE);
}

void __tsan_write_range(void *address, size_t size)
{
	if (size)
		access(address, size, RANGE | IS_WRITE, HERE);
}

void __tsan_vptr_update(void **address, void *value)
{
	(void)value;
	access(address, sizeof(*address), IS_WRITE, HERE);
}

void __tsan_vptr_read(void **address)
{
	access(address, sizeof(*address), 0, HERE);
}

/*
 * An access has its place by itself. Where the function was called is kept for the stories of objects: who
 * allocated it, who freed it.
 */
static uint32_t frames[SV_TASKS + 1][FRAMES];

void __tsan_func_entry(void *caller)
{
	struct sv_task *task = sv_current;
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);

	if (unlikely(here < sv_stack_used[task->number]))
		sv_stack_used[task->number] = here;
	if (likely((uint32_t)task->depth < FRAMES))
		frames[task->number][task->depth] = sv_place_of(caller);
	task->depth++;
}

void __tsan_func_exit(void)
{
	sv_current->depth--;
}

void sv_backtrace(const struct sv_task *task, uint32_t places[SV_FRAMES_TOLD])
{
	int32_t depth = task->depth < FRAMES ? task->depth : FRAMES;

	places[0] = task->pc;
	for (int i = 1; i < SV_FRAMES_TOLD; i++)
		places[i] = depth > 0 ? frames[task->number][--depth] : 0;
}

/* Called before main by each object file. */
void __tsan_init(void)
{
}

void *__tsan_memcpy(void *to, const void *from, size_t size)
{
	return __tsan_memmove(to, from, size);
}

void *__tsan_memmove(void *to, const void *from, size_t size)
{
	if (!size)
		return to;
	access(from, size, RANGE, HERE);
	access(to, size, RANGE | IS_WRITE, HERE);
	return memmove(to, from, size);
}

void *__tsan_memset(void *to, int byte, size_t size)
{
	if (!size)
		return to;
	access(to, size, RANGE | IS_WRITE, HERE);
	return memset(to, byte, size);
}
