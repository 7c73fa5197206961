/* SPDX-License-Identifier: MIT */
/*
 * Isolation: fencing off pageblocks so that nothing is allocated from them while a range in them is
 * emptied.
 *
 * I1  A pageblock with set ISOLATE belongs to one claim; home_set remembers where it returns to.
 * I2  What a claim has taken so far is CLAIMED | TAKING, and lies inside its range.
 * I3  A block that is freed while its pageblock is isolated waits in the ISOLATE set until the
 *     claim takes it or ends.
 *
 * What is free already is taken in the same walk that isolates. So a range that is wholly free
 * costs O(blocks + pageblocks), and no frame inside a block is looked at.
 */
#include "core/alloc/claims.h"
#include "core/internal.h"

/* The range [start, end) widened to whole pageblocks. */
struct span {
	berth_idx_t first, last;
};

static struct span widen(const struct berth_zone *zone, berth_idx_t start, berth_idx_t end)
{
	berth_idx_t mask = berth__pages(zone->pageblock_order) - 1;

	return (struct span){ start & ~mask, ((end - 1) | mask) + 1 };
}

/* The first block boundary or block head at or after idx, for a walk that may begin inside one. */
static berth_idx_t walk_start(const struct berth_zone *zone, berth_idx_t idx)
{
	return berth__tag_kind(berth__tag(&zone->frames[idx])) == BERTH_FRAME_TAIL ?
		       berth__head(zone, idx) :
		       idx;
}

/* Frames to skip from a head, or from a frame that isn't in any block. */
static berth_idx_t walk_step(uint32_t tag)
{
	return berth__tag_kind(tag) == BERTH_FRAME_TAIL ? 1 : berth__pages(berth__tag_order(tag));
}

berth_idx_t berth__take_free_locked(struct berth_zone *zone, berth_idx_t head, berth_idx_t start,
				    berth_idx_t end)
{
	berth_idx_t taken = berth__buddy_carve_locked(zone, head, start, end);

	if (start < head)
		start = head;
	berth__account_claimed_locked(zone, start, taken, 1);
	for (berth_idx_t at = start; at < start + taken;) {
		unsigned order = berth__largest_order(at, start + taken, zone->max_order);

		berth__set_tag(&zone->frames[at],
			       BERTH_TAG(BERTH_FRAME_CLAIMED, order) | BERTH_TAG_TAKING);
		at += berth__pages(order);
	}
	return taken;
}

/* Takes whatever is free in [start, end). Returns the frames taken. */
static uint64_t take_all_free_locked(struct berth_zone *zone, berth_idx_t start, berth_idx_t end)
{
	uint64_t taken = 0;
	berth_idx_t idx = start;

	while (idx < end) {
		berth_idx_t head = idx == start ? walk_start(zone, idx) : idx;
		uint32_t tag;

		if (head == BERTH_IDX_NONE) {
			idx++;
			start = idx; /* look up again: still no known boundary */
			continue;
		}
		tag = berth__tag(&zone->frames[head]);
		if (berth__tag_kind(tag) == BERTH_FRAME_FREE)
			taken += berth__take_free_locked(zone, head, start, end);
		idx = head + walk_step(tag);
	}
	return taken;
}

/* Frees what is TAKING in [start, end). */
static void free_taken_locked(struct berth_zone *zone, berth_idx_t start, berth_idx_t end)
{
	while (start < end) {
		uint32_t tag = berth__tag(&zone->frames[start]);
		berth_idx_t pages = walk_step(tag);

		if (tag & BERTH_TAG_TAKING) {
			berth__account_claimed_locked(zone, start, pages, -1);
			berth__set_tag(&zone->frames[start], 0);
			berth__buddy_free_range_locked(zone, start, start + pages);
		}
		start += pages;
	}
}

/* Turns the TAKING blocks of [start, end) into one claim of the largest blocks. */
static void keep_taken_locked(struct berth_zone *zone, berth_idx_t start, berth_idx_t end,
			      uint32_t flags)
{
	for (berth_idx_t idx = start; idx < end;) {
		uint32_t tag = berth__tag(&zone->frames[idx]);

		BERTH_ASSERT(zone, tag & BERTH_TAG_TAKING, tag, idx);
		berth__set_tag(&zone->frames[idx], 0);
		idx += walk_step(tag);
	}
	for (berth_idx_t idx = start; idx < end;) {
		unsigned order = berth__largest_order(idx, end, zone->max_order);

		zone->frames[idx].cookie = idx == start ? end - start : 0;
		berth__set_tag(&zone->frames[idx],
			       BERTH_TAG(BERTH_FRAME_CLAIMED, order) |
				       (idx == start ? BERTH_TAG_START | flags : 0));
		idx += berth__pages(order);
	}
}

/* 0; -EBUSY: another claim has or isolates a part; -EINVAL: a frame isn't managed. */
static int check_isolatable_locked(struct berth_zone *zone, berth_idx_t start, berth_idx_t end,
				   berth_idx_t *blocker)
{
	struct span span = widen(zone, start, end);
	berth_idx_t size = berth__pages(zone->pageblock_order);

	for (berth_idx_t idx = span.first; idx < span.last; idx += size) {
		const struct berth_pageblock *pageblock = berth__pageblock(zone, idx);
		berth_idx_t at = idx < start ? start : idx;
		berth_idx_t stop = idx + size < end ? idx + size : end;

		*blocker = idx;
		if (berth__pageblock_set(pageblock) == BERTH_ISOLATE)
			return -BERTH_EBUSY;
		if (!berth__nr_claimed(pageblock) && pageblock->nr_managed == size)
			continue;
		while (at < stop) {
			berth_idx_t head = walk_start(zone, at);
			uint32_t tag = head == BERTH_IDX_NONE ? 0 : berth__tag(&zone->frames[head]);

			*blocker = at;
			if (!tag || berth__tag_kind(tag) == BERTH_FRAME_RESERVED)
				return -BERTH_EINVAL;
			if (berth__tag_kind(tag) == BERTH_FRAME_CLAIMED)
				return -BERTH_EBUSY;
			at = head + walk_step(tag);
		}
	}
	*blocker = BERTH_IDX_NONE;
	return 0;
}

static void set_pageblocks_locked(struct berth_zone *zone, struct span span, bool isolate)
{
	for (berth_idx_t idx = span.first; idx < span.last;
	     idx += berth__pages(zone->pageblock_order)) {
		struct berth_pageblock *pageblock = berth__pageblock(zone, idx);

		berth__pageblock_set_locked(zone, pageblock,
					    isolate ? BERTH_ISOLATE : pageblock->home_set);
	}
}

int berth__isolate_range(struct berth_zone *zone, berth_idx_t start, berth_idx_t end,
			 uint64_t *taken, berth_idx_t *blocker)
{
	struct span span = widen(zone, start, end);
	int error;

	berth_lock(&zone->lock);
	error = check_isolatable_locked(zone, start, end, blocker);
	if (!error) {
		/* Off the lists first, since a list belongs to the old set. */
		*taken = take_all_free_locked(zone, start, end);
		if (span.first < start)
			take_all_free_locked(zone, span.first, start);
		if (end < span.last)
			take_all_free_locked(zone, end, span.last);
		set_pageblocks_locked(zone, span, true);
		free_taken_locked(zone, span.first, start);
		free_taken_locked(zone, end, span.last);
	}
	berth_unlock(&zone->lock);
	return error;
}

void berth__unisolate_range(struct berth_zone *zone, berth_idx_t start, berth_idx_t end, bool keep,
			    uint32_t flags)
{
	struct span span = widen(zone, start, end);

	berth_lock(&zone->lock);
	if (keep) {
		keep_taken_locked(zone, start, end, flags);
		berth__claim_note_locked(zone, start, NULL);
	}
	take_all_free_locked(zone, span.first, span.last);
	set_pageblocks_locked(zone, span, false);
	free_taken_locked(zone, span.first, span.last);
	berth_unlock(&zone->lock);
}
