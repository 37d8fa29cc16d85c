// SPDX-License-Identifier: GPL-2.0-only
/* The journal: events of 32 bytes one after the other, and the table of the strings they name by number. */
#include <string.h>

#include "internal.h"

#define EVENTS_RESERVED ((size_t)256 << 20)
#define EVENTS_SPARE 65536 /* for what is recorded after a run was given up because the journal is full */
#define EVENTS_KEPT ((size_t)16 << 20) /* bytes whose memory is not given back between runs */
#define STRINGS 32768
#define STRINGS_HASHED (STRINGS * 4)
#define TEXT_RESERVED ((size_t)16 << 20)

struct sv_event *sv_next_event, *sv_event_limit, *sv_unfilled;
uint64_t sv_unfilled_mask;

static struct sv_area events, texts;
static struct sv_event *boot_end; /* the events of boot are before it */
static struct sv_event scratch[1]; /* written again and again, where no events are kept */
static bool is_kept;

static const char *strings[STRINGS];
static uint32_t string_count, hashed[STRINGS_HASHED];
static size_t text_used;

#define LITERAL_BITS 10
static struct literal {
	const char *text;
	uint32_t number;
} literals[1 << LITERAL_BITS];

static struct sv_event *event_at(size_t bytes)
{
	return (struct sv_event *)(events.start + bytes);
}

bool sv_journal_boot(void)
{
	/*
	 * String 0 is the empty one, as in Python's events; the last is what is said when the table is full.
	 */
	strings[0] = "";
	strings[STRINGS - 1] = "(too many different texts)";
	string_count = 1;
	if (!sv_reserve(&events, 0, EVENTS_RESERVED) || !sv_reserve(&texts, 0, TEXT_RESERVED) ||
	    !sv_commit(&events, 1))
		return false;
	boot_end = event_at(0);
	sv_journal_reset(true);
	return true;
}

void sv_journal_keep_boot(void)
{
	sv_fill();
	boot_end = sv_next_event;
}

void sv_journal_reset(bool keeps)
{
	size_t used = (size_t)((char *)sv_next_event - events.start);

	if (is_kept && used > EVENTS_KEPT)
		sv_trim(&events, EVENTS_KEPT);
	sv_unfilled = NULL;
	sv_next_event = keeps ? boot_end : scratch + 1;
	sv_event_limit = keeps ? event_at(events.committed) : scratch + 1;
	is_kept = keeps;
}

/*
 * There is no room for another event: get some, or end the run, which has recorded more than anybody will
 * read. That is what a task does that loops over plain accesses, where these are no points.
 */
struct sv_event *sv_more_events(void)
{
	size_t used = (size_t)((char *)sv_next_event - events.start);
	size_t most = events.reserved - EVENTS_SPARE * sizeof(struct sv_event);

	if (!is_kept)
		return scratch;
	if (used < most && sv_commit(&events, used + sizeof(struct sv_event))) {
		sv_event_limit = event_at(events.committed < most ? events.committed : most);
		return sv_next_event;
	}
	if (sv_in_task)
		sv_give_up(SV_STEPS_MAX);
	if (!sv_commit(&events, used + sizeof(struct sv_event)))
		return sv_next_event = sv_next_event - 1;
	sv_event_limit = event_at(events.reserved);
	return sv_next_event;
}

void sv_fill_slowly(struct sv_event *event)
{
	event->c = 0;
	memcpy(&event->c, (const void *)(uintptr_t)event->a, event->b < 8 ? event->b : 8);
}

void sv_unwrite(void)
{
	if (is_kept && sv_unfilled && sv_unfilled + 1 == sv_next_event)
		sv_next_event = sv_unfilled;
	sv_unfilled = NULL;
}

void sv_record(int kind, uint64_t a, uint32_t b, uint64_t c)
{
	sv_fill();
	sv_append(sv_current, kind, 0, a, b, c);
}

void sv_record_for(const void *task, int kind, uint64_t a, uint32_t b, uint64_t c)
{
	sv_fill();
	sv_append(task, kind, 0, a, b, c);
}

void sv_drop_notes(void)
{
	struct sv_event *to = event_at(0);

	for (const struct sv_event *from = to; from < sv_next_event; from++)
		if (from->kind != SV_NOTE)
			*to++ = *from;
	sv_next_event = to;
}

const struct sv_event *sv_events(uint64_t *n)
{
	*n = is_kept ? (uint64_t)(sv_next_event - event_at(0)) : 0;
	return event_at(0);
}

/* ---------------------------------------------------------------- strings */

static uint32_t hash_of(const char *text)
{
	uint32_t hash = 2166136261u; /* FNV-1a */

	for (; *text; text++)
		hash = (hash ^ (uint8_t)*text) * 16777619u;
	return hash;
}

static uint32_t add_string(const char *text)
{
	size_t size = strlen(text) + 1;
	char *copy;

	if (string_count == STRINGS - 1 || !sv_commit(&texts, text_used + size))
		return STRINGS - 1;
	copy = texts.start + text_used;
	text_used += size;
	memcpy(copy, text, size);
	strings[string_count] = copy;
	return string_count++;
}

static uint32_t find_string(const char *text)
{
	uint32_t slot;

	if (!*text)
		return 0;
	for (slot = hash_of(text) % STRINGS_HASHED; hashed[slot]; slot = (slot + 1) % STRINGS_HASHED)
		if (!strcmp(strings[hashed[slot]], text))
			return hashed[slot];
	if (string_count == STRINGS - 1)
		return STRINGS - 1;
	return hashed[slot] = add_string(text);
}

/*
 * Most texts are literals, asked for at every lock operation: a literal is known by its address, for what is
 * there never changes.
 */
uint32_t sv_string(const char *text)
{
	uintptr_t address = (uintptr_t)text;
	bool is_constant = address >= (uintptr_t)__ehdr_start && address < sv_constants_end;
	struct literal *literal = &literals[address * UINT64_C(0x9e3779b97f4a7c15) >> (64 - LITERAL_BITS)];

	if (is_constant && literal->text == text)
		return literal->number;
	if (!is_constant)
		return find_string(text);
	literal->text = text;
	literal->number = find_string(text);
	return literal->number;
}

const char *sv_text(uint32_t string)
{
	return string < STRINGS && strings[string] ? strings[string] : "";
}
