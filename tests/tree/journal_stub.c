// SPDX-License-Identifier: GPL-2.0-only
/* What screening asks of the engine, answered from buffers that a test fills: no kernel tree needed. */
#include <stdlib.h>
#include <string.h>

#include "screen.h"

#define STRINGS 4096
#define TASKS 1024

struct sv_config sv_config;

static const char *strings[STRINGS] = { "" };
static uint32_t n_strings = 1;
static struct sv_task tasks[TASKS];
static struct sv_task *task_pointers[TASKS];
static uint64_t heap;
static struct stub {
	const struct sv_event *events;
	const struct sv_object *objects;
	uint32_t n_events, n_objects, n_tasks;
} stub;

SV_EXPORT void stub_set(const struct stub *given, const int32_t *ids, const uint32_t *names);
SV_EXPORT void stub_config(const uint8_t *possible, const uint8_t *online, uint32_t n);
SV_EXPORT void stub_heap(uint64_t start);
SV_EXPORT uint32_t sv_string(const char *text);

void stub_set(const struct stub *given, const int32_t *ids, const uint32_t *names)
{
	stub = *given;
	for (uint32_t n = 0; n < stub.n_tasks; n++) {
		tasks[n].id = ids[n];
		tasks[n].name = names[n];
		task_pointers[n] = tasks + n;
	}
}

void stub_config(const uint8_t *possible, const uint8_t *online, uint32_t n)
{
	memset(&sv_config, 0, sizeof(sv_config));
	memcpy(sv_config.possible, possible, n);
	memcpy(sv_config.online, online, n);
}

void stub_heap(uint64_t start)
{
	heap = start;
}

uint64_t sv_arena_base(void)
{
	return heap;
}

/* As the engine has it: nothing lies there but what a run allocated. */
uint32_t sv_object_number(uint64_t address)
{
	uint32_t n = stub.n_objects;

	while (n && stub.objects[n - 1].address > address)
		n--;
	return n && stub.objects[n - 1].address >= heap ? n : 0;
}

uint32_t sv_string(const char *text)
{
	for (uint32_t n = 0; n < n_strings; n++)
		if (!strcmp(strings[n], text))
			return n;
	strings[n_strings] = strdup(text);
	return n_strings++;
}

const char *sv_text(uint32_t string)
{
	return strings[string];
}

const struct sv_event *sv_events(uint64_t *n)
{
	*n = stub.n_events;
	return stub.events;
}

const struct sv_object *sv_objects(uint32_t *n)
{
	*n = stub.n_objects;
	return stub.objects;
}

const struct sv_task *const *sv_all_tasks(uint32_t *n)
{
	*n = stub.n_tasks;
	return (const struct sv_task *const *)task_pointers;
}
