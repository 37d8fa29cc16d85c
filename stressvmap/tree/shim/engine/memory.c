// SPDX-License-Identifier: GPL-2.0-only
/*
 * Areas of memory that grow in place: pointers into them stay good, and a run that needs little touches
 * little.
 *
 * They lie at fixed addresses where those are free: code that compares or prints addresses then does the same
 * in every process, whatever address space layout randomisation does.
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "internal.h"

#define CHUNK ((size_t)1 << 20)

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0
#endif

bool sv_reserve(struct sv_area *area, uintptr_t hint, size_t bytes)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	void *start = mmap((void *)hint, bytes, PROT_NONE, flags | (hint ? MAP_FIXED_NOREPLACE : 0), -1, 0);

	if (start == MAP_FAILED)
		start = mmap(NULL, bytes, PROT_NONE, flags, -1, 0);
	if (start == MAP_FAILED)
		return false;
	area->start = start;
	area->committed = 0;
	area->reserved = bytes;
	return true;
}

bool sv_commit(struct sv_area *area, size_t bytes)
{
	size_t wanted = area->committed ? area->committed : CHUNK;

	if (bytes <= area->committed)
		return true;
	while (wanted < bytes)
		wanted *= 2;
	if (wanted > area->reserved)
		wanted = area->reserved;
	if (bytes > wanted)
		return false;
	if (mprotect(area->start + area->committed, wanted - area->committed, PROT_READ | PROT_WRITE))
		return false;
	area->committed = wanted;
	return true;
}

void sv_trim(struct sv_area *area, size_t bytes)
{
	bytes = (bytes + CHUNK - 1) / CHUNK * CHUNK;
	if (bytes < area->committed)
		madvise(area->start + bytes, area->committed - bytes, MADV_DONTNEED);
}

bool sv_unprotect(void *start, size_t bytes)
{
	return !mprotect(start, bytes, PROT_READ | PROT_WRITE);
}
