// SPDX-License-Identifier: GPL-2.0-only
/* Memory of the process for the shim's tables. Compiled as the engine is: the shim's own files know no libc. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "engine.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

#pragma GCC visibility push(hidden)
void *sv_host_array(size_t bytes);
void sv_host_window(uint64_t start, uint64_t bytes);
/* struct page of each frame; only its place matters. */
unsigned long sv_frames[1u << 20];
#pragma GCC visibility pop

void *sv_host_array(size_t bytes)
{
	void *array = mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (array == MAP_FAILED) {
		perror("stressvmap: memory for the simulated machine");
		abort();
	}
	return array;
}

void sv_host_window(uint64_t start, uint64_t bytes)
{
	void *wanted = (void *)(uintptr_t)start;
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;

	/* Where it is taken, only code that looks into freed pages (vfree_atomic) comes to grief. */
	if (bytes)
		(void)!mmap(wanted, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
}
