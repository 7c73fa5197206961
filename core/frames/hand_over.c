/* SPDX-License-Identifier: MIT */
/*
 * What a zone gets from before it was there: free frames, reserved ones, and reserved ones that
 * become free later.
 *
 * I1  A reserved frame is in exactly one RESERVED block, whose tag says nothing else. It is in no list
 *     and not managed; nothing but berth_zone_free_reserved() changes it.
 * I2  nr_reserved of a pageblock and of the zone = their frames in RESERVED blocks.
 *
 * Complexity: adding and freeing O(largest blocks + pageblocks); a hand-over that for each free and
 * reserved range, and a look-up in memblock's lists.
 */
#include <berth/memblock.h>

#include "core/frames/internal.h"

/* ---- Reserved frames of a zone ------------------------------------------------------------------ */

bool berth__untouched_locked(const struct berth_zone *zone, berth_idx_t start, berth_idx_t end)
{
	berth_idx_t size = berth__pages(zone->pageblock_order);

	/* Only a pageblock that has some frames can overlap frame by frame. */
	for (berth_idx_t idx = start & ~(size - 1); idx < end; idx += size) {
		berth_idx_t from = idx < start ? start : idx;
		berth_idx_t to = idx + size > end ? end : idx + size;
		const struct berth_pageblock *pageblock = berth__pageblock(zone, idx);
		uint32_t present = pageblock->nr_managed + pageblock->nr_reserved;

		if (to - from > size - present)
			return false;
		for (; present && from < to; from++)
			if (berth__head(zone, from) != BERTH_IDX_NONE)
				return false;
	}
	return true;
}

/* Counts [start, end) as managed or as not managed. */
static void account_reserved_locked(struct berth_zone *zone, berth_idx_t start, berth_idx_t end,
				    int sign)
{
	berth_idx_t size = berth__pages(zone->pageblock_order);

	for (berth_idx_t idx = start & ~(size - 1); idx < end; idx += size) {
		berth_idx_t from = idx < start ? start : idx;
		berth_idx_t to = idx + size > end ? end : idx + size;

		berth__pageblock(zone, idx)->nr_reserved += sign > 0 ? to - from : from - to;
	}
	zone->nr_reserved += sign > 0 ? end - start : -(uint64_t)(end - start);
}

static void tag_reserved_locked(struct berth_zone *zone, berth_idx_t start, berth_idx_t end)
{
	while (start < end) {
		unsigned order = berth__largest_order(start, end, zone->max_order);

		berth__set_tag(&zone->frames[start], BERTH_TAG(BERTH_FRAME_RESERVED, order));
		start += berth__pages(order);
	}
}

int berth_zone_add_reserved(struct berth_zone *zone, berth_pfn_t start_pfn, uint64_t nr_pages)
{
	berth_idx_t start, end;
	int error = 0;

	if (!nr_pages || !berth__idx(zone, start_pfn, nr_pages, &start))
		return -BERTH_EINVAL;
	end = start + (berth_idx_t)nr_pages;
	berth_lock(&zone->lock);
	if (berth__untouched_locked(zone, start, end)) {
		tag_reserved_locked(zone, start, end);
		account_reserved_locked(zone, start, end, 1);
	} else {
		error = -BERTH_EINVAL;
	}
	berth_unlock(&zone->lock);
	return error;
}

/* The end of the RESERVED block that holds idx; idx: there is none. */
static berth_idx_t reserved_end(const struct berth_zone *zone, berth_idx_t idx, berth_idx_t *head)
{
	uint32_t tag;

	*head = berth__find(zone, idx, &tag);
	return berth__tag_kind(tag) == BERTH_FRAME_RESERVED ?
		       *head + berth__pages(berth__tag_order(tag)) :
		       idx;
}

static bool all_reserved_locked(const struct berth_zone *zone, berth_idx_t start, berth_idx_t end)
{
	berth_idx_t head, next;

	for (berth_idx_t idx = start; idx < end; idx = next) {
		next = reserved_end(zone, idx, &head);
		if (next == idx)
			return false;
	}
	return true;
}

int berth_zone_free_reserved(struct berth_zone *zone, berth_pfn_t start_pfn, uint64_t nr_pages)
{
	berth_idx_t start, end, head, next;
	int error = 0;

	if (!nr_pages || !berth__idx(zone, start_pfn, nr_pages, &start))
		return -BERTH_EINVAL;
	end = start + (berth_idx_t)nr_pages;
	berth_lock(&zone->lock);
	if (all_reserved_locked(zone, start, end)) {
		for (berth_idx_t idx = start; idx < end; idx = next) {
			next = reserved_end(zone, idx, &head);
			berth__set_tag(&zone->frames[head], 0);
			/* What sticks out stays reserved. */
			tag_reserved_locked(zone, head, start);
			tag_reserved_locked(zone, end, next);
		}
		account_reserved_locked(zone, start, end, -1);
		berth__account_managed_locked(zone, start, end);
		berth__buddy_free_range_locked(zone, start, end);
	} else {
		error = -BERTH_EINVAL;
	}
	berth_unlock(&zone->lock);
	return error;
}

/* ---- From memblock ------------------------------------------------------------------------------- */

/* The first frame that begins at or behind an address. */
static berth_pfn_t frame_up(berth_phys_t address)
{
	return (address >> BERTH_PAGE_SHIFT) + !!(address & (BERTH_PAGE_SIZE - 1));
}

/* The whole frames in [base, end) that the zone spans; false: none. */
static bool whole_frames(const struct berth_zone *zone, berth_phys_t base, berth_phys_t end,
			 berth_pfn_t *start_pfn, berth_pfn_t *end_pfn)
{
	berth_pfn_t zone_start = berth_zone_start_pfn(zone), zone_end = berth_zone_end_pfn(zone);

	*start_pfn = frame_up(base);
	*end_pfn = end >> BERTH_PAGE_SHIFT;
	if (*start_pfn < zone_start)
		*start_pfn = zone_start;
	if (*end_pfn > zone_end)
		*end_pfn = zone_end;
	return *start_pfn < *end_pfn;
}

/* The next frames of the node's memory that the zone spans; false: no more. */
static bool next_present(const struct berth_memblock *memblock, const struct berth_zone *zone,
			 uint32_t node, berth_phys_t *at, berth_pfn_t *start_pfn,
			 berth_pfn_t *end_pfn)
{
	struct berth_memblock_region memory;

	while (berth_memblock_next_memory(memblock, at, &memory))
		if ((node == BERTH_MEMBLOCK_ANY_NODE || node == memory.node) &&
		    whole_frames(zone, memory.base, *at, start_pfn, end_pfn))
			return true;
	return false;
}

/* Hands one run of present frames over; nothing of it is in the zone yet. */
static int hand_over_run(const struct berth_memblock *memblock, struct berth_zone *zone,
			 berth_pfn_t start_pfn, berth_pfn_t end_pfn)
{
	berth_phys_t at = start_pfn << BERTH_PAGE_SHIFT;
	berth_phys_t end = end_pfn << BERTH_PAGE_SHIFT;
	int error = 0;

	while (!error && start_pfn < end_pfn) {
		struct berth_memblock_region range;
		berth_pfn_t from = end_pfn, to = end_pfn;

		if (berth_memblock_next_free(memblock, &at, &range) && range.base < end) {
			if (!whole_frames(zone, range.base, at < end ? at : end, &from, &to))
				continue;
		}
		if (start_pfn < from)
			error = berth_zone_add_reserved(zone, start_pfn, from - start_pfn);
		if (!error && from < to)
			error = berth_zone_add_memory(zone, from, to - from);
		start_pfn = to;
	}
	return error;
}

int berth_memblock_hand_over(struct berth_memblock *memblock, struct berth_zone *zone,
			     uint32_t node)
{
	berth_pfn_t start_pfn, end_pfn;
	berth_phys_t at = 0;
	int error = 0;

	while (next_present(memblock, zone, node, &at, &start_pfn, &end_pfn)) {
		berth_idx_t start = (berth_idx_t)(start_pfn - zone->base_pfn);

		berth_lock(&zone->lock);
		if (!berth__untouched_locked(zone, start,
					     start + (berth_idx_t)(end_pfn - start_pfn)))
			error = -BERTH_EINVAL;
		berth_unlock(&zone->lock);
		if (error)
			return error;
	}
	memblock->handed_over = true;
	at = 0;
	while (!error && next_present(memblock, zone, node, &at, &start_pfn, &end_pfn))
		error = hand_over_run(memblock, zone, start_pfn, end_pfn);
	return error;
}

/* True when nobody may have some of this memory. */
static bool withheld(const struct berth_memblock *memblock, berth_phys_t base, berth_phys_t end)
{
	struct berth_memblock_region memory;

	for (berth_phys_t at = base; berth_memblock_next_memory(memblock, &at, &memory);) {
		if (memory.base >= end)
			break;
		if (memory.flags & (BERTH_MEMBLOCK_NOMAP | BERTH_MEMBLOCK_DRIVER))
			return true;
	}
	return false;
}

int berth_memblock_free_late(struct berth_memblock *memblock, struct berth_zone *zone,
			     berth_phys_t base, uint64_t size_bytes)
{
	berth_pfn_t from_pfn, to_pfn;
	berth_phys_t end;
	int error;

	if (!berth_memblock_is_reserved(memblock, base, size_bytes))
		return -BERTH_EINVAL;
	end = base + size_bytes;
	if (!whole_frames(zone, base, end, &from_pfn, &to_pfn) || from_pfn != frame_up(base) ||
	    to_pfn != end >> BERTH_PAGE_SHIFT)
		return -BERTH_EINVAL;
	/* From here on without the frames that are only partly in it. */
	base = from_pfn << BERTH_PAGE_SHIFT;
	end = to_pfn << BERTH_PAGE_SHIFT;
	if (withheld(memblock, base, end))
		return -BERTH_EINVAL;
	if (berth__memblock_in_use(memblock, base, end))
		return -BERTH_EBUSY;
	error = berth__memblock_prepare_free(memblock, base, end);
	if (!error)
		error = berth_zone_free_reserved(zone, from_pfn, to_pfn - from_pfn);
	if (!error)
		berth__memblock_free_prepared(memblock, base, end);
	return error;
}
