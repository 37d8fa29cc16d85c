// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a compiler calls for -fsanitize=thread: a callback before each access of the code under test.
 *
 * The callback is the scheduling point and writes the journal's entry: a read's value is there already, for nothing
 * comes between the callback and the access; a write's is filled in at the task's next entry into the engine. Plain
 * accesses to the own stack are nobody else's business.
 */
#include <string.h>

#include "access.h"

/* A plain access inside data_race(): a marked one, but for its flag. */
static __attribute__((noinline)) void racy_access(struct sv_task *task, uint64_t address, size_t size, int kind,
						bool is_range)
{
	kind = kind == SV_WRITE ? SV_WRITE_ONCE : SV_READ_ONCE;
	access_at(task, address, size, kind, true, true, is_range, SV_RACY);
}

SV_INLINE void plain_access(const void *pointer, size_t size, int kind, bool may_cross, bool is_range, const void *pc)
{
	struct sv_task *task = sv_current;
	uint64_t address = (uintptr_t)pointer;

	sv_fill();
	if (address - sv_own_stack < sv_own_stack_size)
		return;
	task->pc = sv_place_of(pc);
	if (unlikely(task->race_depth)) {
		racy_access(task, address, size, kind, is_range);
		return;
	}
	access_at(task, address, size, kind, sv_config.points_all, may_cross, is_range, 0);
}

SV_INLINE void marked_access(const void *pointer, size_t size, int kind, bool may_cross, const void *pc)
{
	struct sv_task *task = sv_current;

	sv_fill();
	if (unlikely(sv_is_bare))
		return;
	task->pc = sv_place_of(pc);
	access_at(task, (uintptr_t)pointer, size, kind, true, may_cross, false, 0);
}

#define DEFINE_ACCESSES(size, may_cross_read, prefix)                                                                \
	void __tsan_##prefix##read##size(void *address);                                                             \
	void __tsan_##prefix##write##size(void *address);                                                            \
	void __tsan_##prefix##volatile_read##size(void *address);                                                    \
	void __tsan_##prefix##volatile_write##size(void *address);                                                   \
	void __tsan_##prefix##read##size(void *address)                                                              \
	{                                                                                                            \
		plain_access(address, size, SV_READ, may_cross_read, false, HERE);                                   \
	}                                                                                                            \
	void __tsan_##prefix##write##size(void *address)                                                             \
	{                                                                                                            \
		plain_access(address, size, SV_WRITE, may_cross_read, false, HERE);                                  \
	}                                                                                                            \
	void __tsan_##prefix##volatile_read##size(void *address)                                                     \
	{                                                                                                            \
		marked_access(address, size, SV_READ_ONCE, may_cross_read, HERE);                                    \
	}                                                                                                            \
	void __tsan_##prefix##volatile_write##size(void *address)                                                    \
	{                                                                                                            \
		marked_access(address, size, SV_WRITE_ONCE, may_cross_read, HERE);                                   \
	}

DEFINE_ACCESSES(1, false, )
DEFINE_ACCESSES(2, false, )
DEFINE_ACCESSES(4, false, )
DEFINE_ACCESSES(8, false, )
DEFINE_ACCESSES(16, true, )
DEFINE_ACCESSES(2, true, unaligned_)
DEFINE_ACCESSES(4, true, unaligned_)
DEFINE_ACCESSES(8, true, unaligned_)
DEFINE_ACCESSES(16, true, unaligned_)

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
		plain_access(address, size, SV_READ, true, true, HERE);
}

void __tsan_write_range(void *address, size_t size)
{
	if (size)
		plain_access(address, size, SV_WRITE, true, true, HERE);
}

void __tsan_vptr_update(void **address, void *value)
{
	(void)value;
	plain_access(address, sizeof(*address), SV_WRITE, false, false, HERE);
}

void __tsan_vptr_read(void **address)
{
	plain_access(address, sizeof(*address), SV_READ, false, false, HERE);
}

/* An access has its place by itself: what function it is in, the debug information says. */
void __tsan_func_entry(void *caller)
{
	(void)caller;
}

void __tsan_func_exit(void)
{
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
	plain_access(from, size, SV_READ, true, true, HERE);
	plain_access(to, size, SV_WRITE, true, true, HERE);
	return memmove(to, from, size);
}

void *__tsan_memset(void *to, int byte, size_t size)
{
	if (!size)
		return to;
	plain_access(to, size, SV_WRITE, true, true, HERE);
	return memset(to, byte, size);
}
