/* SPDX-License-Identifier: MIT */
/*
 * Isolation: fencing off pageblocks so that nothing is allocated from them while a range in them is
 * emptied.
 *
 * I1  A pageblock has set ISOLATE exactly while nr_isolating, the number of ranges in zone->isolations
 *     that touch it, isn't 0; home_set remembers where it returns to.
 * I2  What a claim has taken so far is CLAIMED | TAKING, and lies inside its range.
 * I3  A block that is freed while its pageblock is isolated waits in the ISOLATE set until a claim
 *     takes it, or the last range that touches the pageblock has ended.
 * I4  No two ranges of zone->isolations overlap, and none begins with a frame of somebody's claim.
 *
 * So claims of disjoint ranges run at the same time, also when they share the pageblocks at their
 * edges. Each touches only what is in its own range, until a pageblock is nobody's any more: whoever
 * ends last puts it back.
 *
 * What is free already is taken in the same walk that isolates, and a range that is wholly free is
 * taken without isolating anything: whole pageblocks of an area out of its stock, without a lock. Either costs O(blocks + pageblocks), and no frame inside a block
 * is looked at.
 */
#include "core/alloc/claims.h"
#include "core/motion/internal.h"

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

/* [start, end), whose tags are zero, becomes one claim of the largest blocks. */
static void lay_out_claim_locked(struct berth_zone *zone, berth_idx_t start, berth_idx_t end,
				 uint32_t flags)
{
	for (berth_idx_t idx = start; idx < end;) {
		unsigned order = berth__largest_order(idx, end, zone->max_order);

		berth__set_cookie(zone, idx, idx == start ? end - start : 0);
		berth__set_tag(&zone->frames[idx],
			       BERTH_TAG(BERTH_FRAME_CLAIMED, order) |
				       (idx == start ? BERTH_TAG_START | flags : 0));
		idx += berth__pages(order);
	}
}

/* [start, end), counted as claimed and without tags, becomes claims; what lies between those is free. */
static void lay_out_claims_locked(struct berth_zone *zone, berth_idx_t start, berth_idx_t end,
				  const struct berth_pieces *pieces, uint64_t now_ns)
{
	berth_idx_t nr = pieces->nr_pages ? pieces->nr_pages : end - start;
	berth_idx_t stride = pieces->nr_pages ? pieces->stride : end - start;

	while (start < end) {
		berth_idx_t next = end - start < stride ? end : start + stride;

		lay_out_claim_locked(zone, start, start + nr, pieces->start_flags);
		berth__claim_note_locked(zone, start, pieces->name, now_ns);
		if (start + nr < next) {
			berth__account_claimed_locked(zone, start + nr, next - start - nr, -1);
			berth__buddy_free_range_locked(zone, start + nr, next);
		}
		start = next;
	}
}

/* Turns the TAKING blocks of [start, end) into claims. */
static void keep_taken_locked(struct berth_zone *zone, berth_idx_t start, berth_idx_t end,
			      const struct berth_pieces *pieces)
{
	for (berth_idx_t idx = start; idx < end;) {
		uint32_t tag = berth__tag(&zone->frames[idx]);

		BERTH_ASSERT(zone, tag & BERTH_TAG_TAKING, tag, idx);
		berth__set_tag(&zone->frames[idx], 0);
		idx += walk_step(tag);
	}
	lay_out_claims_locked(zone, start, end, pieces, berth__now(zone));
}

/* ---- A range that is free -------------------------------------------------------------------------- */

const struct berth_isolation *berth__isolation_in_locked(const struct berth_zone *zone,
							 berth_idx_t start, berth_idx_t end)
{
	const struct berth_isolation *range = zone->isolations;

	while (range && (range->start >= end || range->end <= start))
		range = range->next;
	return range;
}

/* By the counters alone: a look that needs no lock, and a necessary condition. */
static bool may_be_free(const struct berth_zone *zone, berth_idx_t start, berth_idx_t end)
{
	berth_idx_t size = berth__pages(zone->pageblock_order);

	for (berth_idx_t idx = start; idx < end;) {
		berth_idx_t next = (idx & ~(size - 1)) + size;

		if (next > end)
			next = end;
		if (berth__nr_free(berth__pageblock(zone, idx)) < next - idx)
			return false;
		idx = next;
	}
	return true;
}

/* [start, end) lies in one pageblock, of which only a part may be free. */
static bool part_is_free_locked(const struct berth_zone *zone, berth_idx_t start, berth_idx_t end)
{
	while (start < end) {
		uint32_t tag;
		berth_idx_t head = berth__find(zone, start, &tag);

		if (berth__tag_kind(tag) != BERTH_FRAME_FREE)
			return false;
		start = head + berth__pages(berth__tag_order(tag));
	}
	return true;
}

/* Free, and nobody else is about to take it. */
static bool is_free_locked(const struct berth_zone *zone, berth_idx_t start, berth_idx_t end)
{
	berth_idx_t size = berth__pages(zone->pageblock_order);

	if (!may_be_free(zone, start, end) || berth__isolation_in_locked(zone, start, end))
		return false;
	if (start & (size - 1)) {
		berth_idx_t stop = (start & ~(size - 1)) + size;

		if (!part_is_free_locked(zone, start, stop < end ? stop : end))
			return false;
	}
	/* Whole pageblocks by their counters; what is left is the last one's part. */
	return !(end & (size - 1)) || (end & ~(size - 1)) < start ||
	       part_is_free_locked(zone, end & ~(size - 1), end);
}

/* As one claim of its area, if it is whole pageblocks of the stock. */
static bool take_stock(const struct berth_zone *zone, berth_idx_t start, berth_idx_t end,
		       const struct berth_pieces *pieces)
{
	berth_idx_t size = berth__pages(zone->pageblock_order);

	if (!(pieces->start_flags & BERTH_TAG_AREA) || ((start | end) & (size - 1)) ||
	    (pieces->nr_pages && pieces->nr_pages < end - start))
		return false;
	return berth__stock_take(&zone->areas[berth__pageblock(zone, start)->home_set - BERTH_CMA],
				 start, end, pieces->name);
}

bool berth__take_if_free(struct berth_zone *zone, berth_idx_t start, berth_idx_t end,
			 const struct berth_pieces *pieces, uint64_t now_ns)
{
	bool taken;

	if (!may_be_free(zone, start, end))
		return false;
	if (take_stock(zone, start, end, pieces))
		return true;
	berth_lock(&zone->lock);
	taken = berth__unstock_locked(zone, start, end) && is_free_locked(zone, start, end);
	if (taken) {
		for (berth_idx_t idx = start; idx < end;)
			idx += berth__buddy_carve_locked(zone, berth__head(zone, idx), idx, end);
		berth__account_claimed_locked(zone, start, end - start, 1);
		lay_out_claims_locked(zone, start, end, pieces, now_ns);
	}
	berth__restock_locked(zone, start, end);
	berth_unlock(&zone->lock);
	return taken;
}

/* ---- Fencing off ------------------------------------------------------------------------------------- */

/* 0; -EBUSY: another claim has or isolates a part; -EINVAL: a frame isn't managed. */
static int check_isolatable_locked(struct berth_zone *zone, berth_idx_t start, berth_idx_t end,
				   berth_idx_t *blocker)
{
	const struct berth_isolation *other = berth__isolation_in_locked(zone, start, end);
	berth_idx_t size = berth__pages(zone->pageblock_order);

	if (other) {
		*blocker = other->start > start ? other->start : start;
		return -BERTH_EBUSY;
	}
	for (berth_idx_t at = start; at < end;) {
		const struct berth_pageblock *pageblock = berth__pageblock(zone, at);
		berth_idx_t stop = (at & ~(size - 1)) + size;

		if (stop > end)
			stop = end;
		*blocker = at;
		if (berth__stock(pageblock) != BERTH_LISTED) /* TAKEN, or was just now */
			return -BERTH_EBUSY;
		if (!berth__nr_claimed(pageblock) && berth__nr_managed(pageblock) == size)
			at = stop;
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

/* Gives the pageblocks of [first, last), which no other range touches, the set ISOLATE, or that which
 * they belong to. What is TAKING in them stays so inside [start, end), and is free outside. */
static void retag_locked(struct berth_zone *zone, berth_idx_t first, berth_idx_t last, bool isolate,
			 berth_idx_t start, berth_idx_t end)
{
	/* Off the lists first, since a list belongs to the old set. */
	take_all_free_locked(zone, first, last);
	for (berth_idx_t idx = first; idx < last; idx += berth__pages(zone->pageblock_order)) {
		struct berth_pageblock *pageblock = berth__pageblock(zone, idx);

		berth__pageblock_set_locked(zone, pageblock,
					    isolate ? BERTH_ISOLATE : pageblock->home_set);
	}
	free_taken_locked(zone, first, start < last ? start : last);
	free_taken_locked(zone, end > first ? end : first, last);
}

/*
 * Counts the range in, or out, of its pageblocks, and retags those that no other touches. In: what is
 * TAKING in the range stays. Out: all of that is free, also in pageblocks that others touch.
 */
static void count_range_locked(struct berth_zone *zone, const struct berth_isolation *range,
			       bool in)
{
	struct span span = widen(zone, range->start, range->end);
	berth_idx_t size = berth__pages(zone->pageblock_order), first = span.first;
	berth_idx_t start = in ? range->start : span.last, end = in ? range->end : span.last;

	for (berth_idx_t idx = span.first; idx < span.last; idx += size) {
		struct berth_pageblock *pageblock = berth__pageblock(zone, idx);
		berth_idx_t stop = idx + size;

		BERTH_ASSERT(zone, in || pageblock->nr_isolating, idx, 0);
		if ((in ? pageblock->nr_isolating++ : --pageblock->nr_isolating) == 0)
			continue;
		if (first < idx)
			retag_locked(zone, first, idx, in, start, end);
		first = stop;
		if (!in)
			free_taken_locked(zone, idx < range->start ? range->start : idx,
					  stop < range->end ? stop : range->end);
	}
	if (first < span.last)
		retag_locked(zone, first, span.last, in, start, end);
}

int berth__isolate_range(struct berth_zone *zone, struct berth_isolation *range, uint64_t *taken,
			 berth_idx_t *blocker)
{
	int error;

	berth_lock(&zone->lock);
	berth__unstock_locked(zone, range->start, range->end);
	error = check_isolatable_locked(zone, range->start, range->end, blocker);
	if (error) {
		berth__restock_locked(zone, range->start, range->end);
	} else {
		range->next = zone->isolations;
		zone->isolations = range;
		*taken = take_all_free_locked(zone, range->start, range->end);
		count_range_locked(zone, range, true);
	}
	berth_unlock(&zone->lock);
	return error;
}

void berth__unisolate_range(struct berth_zone *zone, struct berth_isolation *range,
			    const struct berth_pieces *keep)
{
	struct berth_isolation **link = &zone->isolations;

	berth_lock(&zone->lock);
	while (*link && *link != range)
		link = &(*link)->next;
	BERTH_ASSERT(zone, *link, range->start, range->end);
	*link = range->next;
	if (keep)
		keep_taken_locked(zone, range->start, range->end, keep);
	count_range_locked(zone, range, false);
	berth_unlock(&zone->lock);
}
