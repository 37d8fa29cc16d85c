// SPDX-License-Identifier: GPL-2.0-only
/*
 * Address space as its users have it: out from the moment an area is in the busy tree, back when the free tree covers
 * it again, or when it is handed out anew from a pool. By page of the window: where the range that begins there ends.
 */
#include "shim.h"

#define IS_BUSY (1u << 31) /* still in the busy tree: who hands it out again now does so twice */

static SV_OUTLIVES uint32_t *out; /* the range's length in pages, and IS_BUSY; 0: none begins here */
static SV_OUTLIVES struct sv_log touched;

void sv_spaces_boot(void)
{
	out = sv_host_array(sv_window_pages() * sizeof(*out));
	sv_log_boot(&touched, sv_window_pages());
}

void sv_spaces_reset(void)
{
	sv_log_clear(&touched, out, sizeof(*out));
}

static uint64_t length_of(uint32_t range)
{
	return range & ~IS_BUSY;
}

static void give_back(uint64_t page)
{
	uint32_t *range = &out[page - sv_config.window_start];

	sv_record(SV_SPACE_BACK, page, 0, page + length_of(*range));
	*range = 0;
}

void sv_space_taken(uint64_t start, uint64_t end, bool is_block)
{
	uint32_t *range;

	if (!sv_is_in_window(start))
		return;
	range = &out[start - sv_config.window_start];
	if (*range && !(*range & IS_BUSY))
		give_back(start);
	*range = (uint32_t)(end - start) | IS_BUSY;
	sv_log(&touched, start - sv_config.window_start);
	sv_record(SV_SPACE_OUT, start, sv_string(is_block ? "block" : "area"), end);
}

void sv_space_unlinked(uint64_t start, uint64_t end)
{
	if (!sv_is_in_window(start))
		return;
	sv_note(SV_SPACE, start, SV_CHANGES);
	out[start - sv_config.window_start] &= ~IS_BUSY;
}

static uint64_t clip(uint64_t page)
{
	uint64_t low = sv_config.window_start, high = sv_config.window_end;

	return page < low ? low : page > high ? high : page;
}

bool sv_is_any_space_out(uint64_t start, uint64_t end)
{
	end = clip(end);
	for (uint64_t page = clip(start); page < end; page++) {
		sv_note(SV_SPACE, page, SV_LOOKS);
		if (out[page - sv_config.window_start])
			return true;
	}
	return false;
}

void sv_space_returned(uint64_t start, uint64_t end)
{
	end = clip(end);
	for (uint64_t page = clip(start); page < end; page++)
		if (out[page - sv_config.window_start])
			give_back(page);
}
