/* SPDX-License-Identifier: MIT */
/*
 * When a type has no block: taking from another one, without spreading over its memory; and the
 * reserve for urgent blocks (HIGHATOMIC).
 *
 * A block is taken from the largest order that a fallback type has, so that one request which mixes
 * types serves many after it. Then, by what is left in its pageblock:
 *
 *	a whole free pageblock         becomes the wanted type
 *	at least half of it is free    becomes the wanted type, with all that is free in it
 *	or of a compatible kind
 *	otherwise                      keeps its type; only the block is taken
 *
 * What can move does no lasting harm in a foreign pageblock: it takes over none that has less than a
 * block of half a pageblock's order, and is content with the smallest block.
 *
 * I1  A pageblock changes its type only here, when it becomes wholly free (buddy.c), or when an area
 *     is declared.
 * I2  HIGHATOMIC pageblocks are at most 1 % of the zone, rounded up to a pageblock; a zone of less
 *     than 100 pageblocks has none.
 *
 * Complexity: O(max_order), and O(blocks of the pageblock) when one changes its type.
 */
#include "core/alloc/internal.h"
#include "core/stats.h"

static unsigned order_above(uint32_t orders)
{
	return 31 - (unsigned)__builtin_clz(orders);
}

/* ---- Changing a pageblock's type ----------------------------------------------------------------- */

struct contents {
	berth_idx_t free, movable;
};

/* What a pageblock of allocated and free blocks, each smaller than itself, has in it. Z. */
static struct contents look_locked(const struct berth_zone *zone, berth_idx_t first)
{
	struct contents contents = { .free = berth__nr_free(berth__pageblock(zone, first)) };
	berth_idx_t end = first + berth__pages(zone->pageblock_order);

	for (berth_idx_t idx = first; idx < end;) {
		uint32_t tag = berth__tag(&zone->frames[idx]);
		berth_idx_t pages = berth__pages(berth__tag_order(tag));

		if (berth__tag_kind(tag) == BERTH_FRAME_USED && (tag & BERTH_TAG_MOVABLE))
			contents.movable += pages;
		idx += pages;
	}
	return contents;
}

/*
 * Gives the pageblock another type, and moves what is free in it there. Its free blocks may be larger
 * than it. What was just taken from it isn't free, and stays untagged. Z.
 */
static void retype_locked(struct berth_zone *zone, berth_idx_t idx, unsigned set)
{
	berth_idx_t size = berth__pages(zone->pageblock_order);
	berth_idx_t first = idx & ~(size - 1), end = first + size;
	berth_idx_t head = berth__head(zone, first);
	const uint32_t mark = BERTH_TAG(BERTH_FRAME_CLAIMED, 0) | BERTH_TAG_TAKING;

	/* Off the lists, which belong to the old type; marked, since the second walk must find them. */
	for (berth_idx_t at = first; at < end;) {
		berth_idx_t from = at == first && head != BERTH_IDX_NONE ? head : at, pages;
		uint32_t tag = berth__tag(&zone->frames[from]);

		pages = from + berth__pages(berth__tag_order(tag)) - at;
		if (berth__tag_kind(tag) == BERTH_FRAME_FREE) {
			pages = berth__buddy_carve_locked(zone, from, first, end);
			berth__set_tag(&zone->frames[at],
				       mark | BERTH_TAG(0, (unsigned)__builtin_ctz(pages)));
		}
		at += pages;
	}
	berth__pageblock_home_locked(zone, berth__pageblock(zone, first), set);
	for (berth_idx_t at = first; at < end;) {
		uint32_t tag = berth__tag(&zone->frames[at]);
		unsigned order = berth__tag_order(tag);

		if ((tag & ~BERTH_TAG(0, 31)) == mark) {
			berth__set_tag(&zone->frames[at], 0);
			berth__buddy_free_locked(zone, at, order);
		}
		at += berth__pages(order);
	}
}

/* ---- Fallback --------------------------------------------------------------------------------------- */

/* Is it worth taking the pageblock over? It has lost the block of 2^order already. Z. */
static bool claimable_locked(const struct berth_zone *zone, unsigned want, unsigned victim,
			     berth_idx_t idx, unsigned order)
{
	berth_idx_t size = berth__pages(zone->pageblock_order), alike = 0;
	struct contents contents;

	if (want == BERTH_MOVABLE && order < zone->pageblock_order / 2)
		return false;
	contents = look_locked(zone, idx & ~(size - 1));
	contents.free += berth__pages(order);
	if (want == BERTH_MOVABLE)
		alike = contents.movable;
	else if (victim == BERTH_MOVABLE) /* what doesn't move is all the same */
		alike = size - contents.free - contents.movable;
	return contents.free + alike >= size / 2;
}

/* A block of 2^current frames of the victim's, cut down to 2^order. Z. */
static berth_idx_t steal_locked(struct berth_zone *zone, unsigned want, unsigned victim,
				unsigned current, unsigned order)
{
	berth_idx_t size = berth__pages(zone->pageblock_order), idx;

	if (current >= zone->pageblock_order) { /* whole pageblocks, but no more than are needed */
		current = order > zone->pageblock_order ? order : zone->pageblock_order;
		idx = berth__buddy_alloc_locked(zone, victim, current);
		for (berth_idx_t at = idx; at < idx + berth__pages(current); at += size)
			berth__pageblock_home_locked(zone, berth__pageblock(zone, at), want);
	} else {
		idx = berth__buddy_alloc_locked(zone, victim, current);
		berth__boost_locked(zone);
		if (claimable_locked(zone, want, victim, idx, current))
			retype_locked(zone, idx, want);
	}
	if (order < current)
		berth__buddy_expand_locked(zone, idx, current, order);
	return idx;
}

static berth_idx_t fall_back_locked(struct berth_zone *zone, unsigned want, unsigned order)
{
	static const uint8_t fallbacks[][2] = {
		[BERTH_UNMOVABLE] = { BERTH_RECLAIMABLE, BERTH_MOVABLE },
		[BERTH_MOVABLE] = { BERTH_RECLAIMABLE, BERTH_UNMOVABLE },
		[BERTH_RECLAIMABLE] = { BERTH_UNMOVABLE, BERTH_MOVABLE },
	};
	uint32_t first = zone->sets[fallbacks[want][0]].nonempty >> order << order;
	uint32_t second = zone->sets[fallbacks[want][1]].nonempty >> order << order;
	unsigned current;

	if (!(first | second))
		return BERTH_IDX_NONE;
	current = order_above(first | second);
	if (want == BERTH_MOVABLE && current < zone->pageblock_order / 2)
		current = (unsigned)__builtin_ctz(first | second);
	berth__count_locked(zone, BERTH_EVENT_FALLBACK, 1);
	return steal_locked(zone, want, fallbacks[want][first >> current & 1 ? 0 : 1], current,
			    order);
}

berth_idx_t berth__rmqueue_locked(struct berth_zone *zone, unsigned order, unsigned gfp,
				  unsigned *from)
{
	berth_idx_t idx = BERTH_IDX_NONE;
	uint64_t lost = 0; /* areas of which claims were faster */

	if (gfp & BERTH_GFP_RESERVE_FIRST)
		idx = berth__buddy_alloc_locked(zone, BERTH_HIGHATOMIC, order);
	if (idx == BERTH_IDX_NONE) {
		while ((*from = berth__choose_set_but_locked(zone, order, gfp, lost)) !=
		       BERTH_SET_NONE) {
			idx = berth__buddy_alloc_locked(zone, *from, order);
			if (idx != BERTH_IDX_NONE || *from < BERTH_CMA)
				return idx;
			lost |= 1ull << (*from - BERTH_CMA);
		}
		idx = fall_back_locked(zone, berth__wanted_type(gfp), order);
	}
	if (idx == BERTH_IDX_NONE && (gfp & BERTH_GFP_RESERVE_LAST))
		idx = berth__buddy_alloc_locked(zone, BERTH_HIGHATOMIC, order);
	if (idx != BERTH_IDX_NONE)
		*from = berth__pageblock_set(berth__pageblock(zone, idx));
	return idx;
}

/* ---- The reserve for urgent blocks ----------------------------------------------------------------- */

/* One more pageblock stays within 1 % of the zone. Z. */
static bool may_reserve_locked(const struct berth_zone *zone)
{
	uint64_t size = berth__pages(zone->pageblock_order), most = zone->nr_managed / 100;

	if (most < size)
		return false;
	most = (most + size - 1) & ~(size - 1);
	return atomic_load_explicit(&zone->nr_highatomic, memory_order_relaxed) < most;
}

void berth__reserve_highatomic(struct berth_zone *zone, berth_idx_t idx, unsigned order)
{
	struct berth_pageblock *pageblock = berth__pageblock(zone, idx);

	berth_lock(&zone->lock);
	/* One at a time, and never what an area or a claim has a say in. */
	if (order <= zone->pageblock_order && may_reserve_locked(zone) &&
	    berth__pageblock_set(pageblock) < BERTH_HIGHATOMIC)
		retype_locked(zone, idx, BERTH_HIGHATOMIC);
	berth_unlock(&zone->lock);
}

bool berth__unreserve_highatomic(struct berth_zone *zone, unsigned gfp, bool last_resort)
{
	uint64_t keep = last_resort ? 0 : berth__pages(zone->pageblock_order);
	berth_idx_t idx = BERTH_IDX_NONE;

	if (atomic_load_explicit(&zone->nr_highatomic, memory_order_relaxed) <= keep)
		return false;
	berth_lock(&zone->lock);
	if (atomic_load_explicit(&zone->nr_highatomic, memory_order_relaxed) > keep)
		idx = berth__buddy_alloc_locked(zone, BERTH_HIGHATOMIC, 0);
	if (idx != BERTH_IDX_NONE) { /* a pageblock of it, with what is free there */
		berth__buddy_free_locked(zone, idx, 0);
		retype_locked(zone, idx, berth__wanted_type(gfp));
	}
	berth_unlock(&zone->lock);
	return idx != BERTH_IDX_NONE;
}
