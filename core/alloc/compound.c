/* SPDX-License-Identifier: MIT */
/*
 * Blocks and their parts: from a tail to its head, one block into many, and sizes that are no power
 * of two.
 *
 * I1  The pieces of a split block carry on its owner, flags and cookies: the piece i pages into the
 *     block has the block's cookie + i.
 *
 * Complexity: a head O(max_order); a split O(pieces); an exact allocation O(max_order) and one head a
 * piece. All under the zone lock.
 */
#include "core/frames/pcp_fast.h"
#include "core/motion/internal.h"
#include "core/stats.h"

berth_pfn_t berth_compound_head(struct berth_zone *zone, berth_pfn_t pfn, unsigned *order)
{
	berth_idx_t idx, head;
	uint32_t tag;

	if (!berth__idx_one(zone, pfn, &idx))
		return BERTH_PFN_NONE;
	berth_lock(&zone->lock);
	head = berth__find(zone, idx, &tag);
	berth_unlock(&zone->lock);
	if (berth__tag_kind(tag) != BERTH_FRAME_USED)
		return BERTH_PFN_NONE;
	if (order)
		*order = berth__tag_order(tag);
	return berth__pfn(zone, head);
}

/* The block at idx becomes pieces of 2^order. It's frozen, so nobody looks at it. Z. */
static void split_locked(struct berth_zone *zone, berth_idx_t idx, unsigned order)
{
	struct berth_frame *frame = &zone->frames[idx];
	uint32_t tag = berth__tag(frame), base = (tag & ~BERTH_TAG(0, 31)) | BERTH_TAG(0, order);
	berth_idx_t pages = berth__pages(berth__tag_order(tag));

	berth__lru_begin_split(zone, tag);
	if (tag & BERTH_TAG_LRU) {
		/* Each before the next, so that the order is that of cookies. */
		for (berth_idx_t i = pages - berth__pages(order); i > 0; i -= berth__pages(order))
			berth__lru_inherit_locked(zone, idx, idx + i, order);
		berth__lru_shrinks_locked(zone, idx, berth__tag_order(tag), order);
	}
	berth__account_used_locked(zone, idx, berth__tag_order(tag), -1);
	berth__account_used_locked(zone, idx, order, 1);
	for (berth_idx_t i = berth__pages(order); i < pages; i += berth__pages(order)) {
		berth__account_used_locked(zone, idx + i, order, 1);
		berth__mark_used(zone, idx + i, base, berth__cookie(zone, idx) + i);
	}
	berth__set_tag(frame, base);
	berth__lru_end_split(zone, tag);
}

int berth_split_pages(struct berth_zone *zone, berth_pfn_t pfn, unsigned order)
{
	struct berth_frame *frame;
	berth_idx_t idx;
	uint32_t tag;
	int error = 0;

	if (!berth__idx_one(zone, pfn, &idx))
		return -BERTH_EINVAL;
	frame = &zone->frames[idx];
	berth_lock(&zone->lock);
	tag = berth__tag(frame);
	if (berth__tag_kind(tag) != BERTH_FRAME_USED || berth__tag_order(tag) < order ||
	    (tag & (BERTH_TAG_ORPHAN | BERTH_TAG_ARRIVING))) {
		error = -BERTH_EINVAL;
	} else if (berth__isolation_in_locked(zone, idx,
					      idx + berth__pages(berth__tag_order(tag))) ||
		   !berth__freeze(frame)) {
		error = -BERTH_EBUSY; /* whoever empties that range may be about to move it whole */
	} else {
		split_locked(zone, idx, order);
		berth__unfreeze(zone, frame);
	}
	berth_unlock(&zone->lock);
	return error;
}

/* ---- Exact sizes ---------------------------------------------------------------------------------- */

/* Takes the smallest block that holds nr frames, keeps those as the largest blocks and frees the rest. */
static berth_idx_t take_exact(struct berth_zone *zone, berth_idx_t nr, unsigned order, unsigned gfp,
			      unsigned owner, uint64_t cookie)
{
	berth_idx_t idx;
	unsigned from;

	berth_lock(&zone->lock);
	idx = berth__rmqueue_locked(zone, order, gfp, &from);
	for (berth_idx_t at = 0; idx != BERTH_IDX_NONE && at < nr;) {
		unsigned part = berth__largest_order(idx + at, idx + nr, order);

		berth__account_used_locked(zone, idx + at, part, 1);
		berth__mark_used(zone, idx + at, berth__used_tag_lru(part, gfp, owner),
				 cookie + at);
		at += berth__pages(part);
	}
	if (idx != BERTH_IDX_NONE) {
		berth__buddy_free_range_locked(zone, idx + nr, idx + berth__pages(order));
		berth__count_locked(zone, BERTH_EVENT_PGALLOC, nr);
	}
	berth_unlock(&zone->lock);
	return idx;
}

int berth_alloc_pages_exact(struct berth_zone *zone, uint64_t nr_pages, unsigned gfp,
			    unsigned owner, uint64_t cookie, berth_pfn_t *pfn)
{
	const unsigned plain = BERTH_GFP_MOVABLE | BERTH_GFP_RECLAIMABLE | BERTH_GFP_NO_CMA |
			       BERTH_GFP_CMA_LAST | BERTH_GFP_LRU;
	unsigned order = 0;
	berth_idx_t idx;

	if (!nr_pages || nr_pages > berth__pages(zone->max_order) || !pfn ||
	    (gfp & ~(plain | BERTH_GFP_ZERO)) || ((gfp & BERTH_GFP_ZERO) && !zone->port->zero) ||
	    !berth__owner_fits_lru(zone, gfp, owner))
		return -BERTH_EINVAL;
	while (berth__pages(order) < nr_pages)
		order++;
	idx = take_exact(zone, (berth_idx_t)nr_pages, order, gfp & plain, owner, cookie);
	if (idx == BERTH_IDX_NONE && berth__pcp_any(zone)) {
		berth_pcp_drain_all(zone);
		idx = take_exact(zone, (berth_idx_t)nr_pages, order, gfp & plain, owner, cookie);
	}
	if (idx == BERTH_IDX_NONE)
		return -BERTH_ENOMEM;
	*pfn = berth__pfn(zone, idx);
	if (gfp & BERTH_GFP_ZERO)
		zone->port->zero(zone->port_ctx, *pfn, nr_pages);
	return 0;
}
