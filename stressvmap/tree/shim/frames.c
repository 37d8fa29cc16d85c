// SPDX-License-Identifier: GPL-2.0-only
/* The page allocator: stressvmap/kernel/memory.py:Frames. */
#include "shim.h"

/*
 * The free ones, the newest last, and which are owned. Both outlive a run and are cleared after it as far as it went.
 */
static SV_OUTLIVES uint32_t *free_frames;
static SV_OUTLIVES uint8_t *is_owned;
static SV_OUTLIVES uint32_t highest;
static uint32_t free_count, next_frame = SV_FIRST_FRAME, owners;

void sv_frames_boot(void)
{
	free_frames = sv_host_array(SV_FRAMES * sizeof(*free_frames));
	is_owned = sv_host_array(SV_FRAMES);
	highest = SV_FIRST_FRAME;
}

void sv_frames_reset(void)
{
	memset(is_owned + SV_FIRST_FRAME, 0, highest - SV_FIRST_FRAME);
	highest = SV_FIRST_FRAME;
}

unsigned int sv_frame_alloc(void)
{
	uint32_t frame;

	if (free_count) {
		frame = free_frames[--free_count];
	} else {
		frame = next_frame++;
		if (frame == SV_FRAMES)
			sv_bug("out of page frames");
		highest = next_frame;
	}
	is_owned[frame] = 1;
	sv_record(SV_FRAME_OWNER, frame, 0, ++owners);
	return frame;
}

/* One that belongs to the allocator already is not freed twice (bad_page). */
void sv_frame_free(unsigned int frame)
{
	if (frame >= SV_FRAMES || !is_owned[frame]) {
		sv_warn("a page is freed that nobody owns");
		return;
	}
	is_owned[frame] = 0;
	free_frames[free_count++] = frame;
	sv_record(SV_FRAME_OWNER, frame, 0, 0);
}

bool sv_frame_is_owned(unsigned int frame)
{
	return frame < SV_FRAMES && is_owned[frame];
}

/* Larger orders come to nothing: the kernel then goes on with single pages. */
struct page *sv_alloc_pages(gfp_t gfp, unsigned int order)
{
	SV_SITE();
	return order ? NULL : pfn_to_page(sv_frame_alloc());
}

void sv_free_pages(struct page *page, unsigned int order)
{
	SV_SITE();
	sv_frame_free((unsigned int)page_to_pfn(page));
}

/* Fill the entries of `pages` that are NULL; how many are filled now. */
unsigned long sv_alloc_pages_bulk(gfp_t gfp, unsigned long n, struct page **pages)
{
	SV_SITE();
	for (unsigned long i = 0; i < n; i++) {
		if (pages[i])
			continue;
		pages[i] = pfn_to_page(sv_frame_alloc());
		sv_mark_written(&pages[i], sizeof(pages[i]));
	}
	return n;
}

void sv_free_pages_bulk(struct page **pages, unsigned long n)
{
	SV_SITE();
	for (unsigned long i = 0; i < n; i++)
		sv_frame_free((unsigned int)page_to_pfn(pages[i]));
}
