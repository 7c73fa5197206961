/* SPDX-License-Identifier: MIT */
/*
 * What the files of frames/ do for each other and for motion/ and alloc/ (prefix berth__). The structures, and the
 * letters that say under which lock a function is called, are in core/internal.h.
 */
#ifndef BERTH_CORE_FRAMES_INTERNAL_H
#define BERTH_CORE_FRAMES_INTERNAL_H

#include "core/frames/summary.h"

/* ---- frames/frame.c: blocks and references ----------------------------------------------------- */

/* Head of the block that holds idx, or BERTH_IDX_NONE when it is in none. O(max_order). Z, or
 * the caller knows that the block can't change. */
berth_idx_t berth__head(const struct berth_zone *zone, berth_idx_t idx);
/* The same, and the head's tag (0: none), both as they are at one moment: a cached block's head may be a single cached
 * frame, and that one the inside of a block, when it's read again. */
berth_idx_t berth__find(const struct berth_zone *zone, berth_idx_t idx, uint32_t *tag);
/* One pin more of the USED head, false: it is frozen. Z or L, so that the block isn't split. */
bool berth__pin_head(struct berth_zone *zone, berth_idx_t head);
/* Takes the count of a USED head from 1 to 0 / back. */
bool berth__freeze(struct berth_frame *head);
void berth__unfreeze(struct berth_zone *zone, struct berth_frame *head);
/*
 * Cuts the USED block at `head` so that a block boundary falls on `at` (inside the block); false
 * when it is held by somebody else. Z.
 */
bool berth__split_used_at_locked(struct berth_zone *zone, berth_idx_t head, berth_idx_t at);

/* ---- frames/pageblock.c: counters that must add up ---------------------------------------------- */

/* The only places that change nr_free / nr_claimed. [idx, idx + nr) lies in one block. Z. */
void berth__account_free_locked(struct berth_zone *zone, berth_idx_t idx, berth_idx_t nr, int sign);
/* The two halves of it: the set's and the zone's counters; the pageblock's, by `change` modulo 2^32. */
void berth__account_set_free_locked(struct berth_zone *zone, unsigned set, uint64_t nr, int sign);
static inline void berth__account_pageblock_free_locked(struct berth_zone *zone,
							struct berth_pageblock *pageblock,
							uint32_t change)
{
	uint32_t free = berth__nr_free(pageblock) + change;

	BERTH_ASSERT(zone, free <= berth__nr_managed(pageblock), free,
		     berth__nr_managed(pageblock));
	atomic_store_explicit(&pageblock->nr_free, free, memory_order_relaxed);
	berth__stale_locked(zone, pageblock);
}
/* All of a pageblock is one block, or none of it is joined. */
static inline void berth__set_joined(const struct berth_zone *zone,
				     struct berth_pageblock *pageblock, bool whole)
{
	atomic_store_explicit(&pageblock->nr_joined,
			      whole ? berth__pages(zone->pageblock_order) - 1 : 0,
			      memory_order_relaxed);
	atomic_store_explicit(&pageblock->joined, whole ? zone->whole_joined : 0,
			      memory_order_relaxed);
}
/* Neighbours, a group's number of them at most: each was all in the buddy lists, and is one cached block now; or was
 * all cached, in whatever blocks, and is in the buddy lists now. Z. */
static inline void berth__account_whole_locked(struct berth_zone *zone,
					       struct berth_pageblock *first, uint32_t nr,
					       bool cached)
{
	const uint32_t size = berth__pages(zone->pageblock_order);
	const uint32_t number = (uint32_t)(first - zone->pageblocks);

	for (struct berth_pageblock *pageblock = first; pageblock < first + nr; pageblock++) {
		BERTH_ASSERT(zone, berth__nr_free(pageblock) == (cached ? size : 0),
			     berth__nr_free(pageblock), cached);
		atomic_store_explicit(&pageblock->nr_free, cached ? 0 : size, memory_order_relaxed);
		berth__set_joined(zone, pageblock, cached);
	}
	berth__stale_locked(zone, first);
	if (((number ^ (number + nr - 1)) & ~(BERTH_GROUP - 1)) != 0) /* the next group, too */
		berth__stale_locked(zone, first + nr - 1);
}
void berth__account_claimed_locked(struct berth_zone *zone, berth_idx_t idx, berth_idx_t nr,
				   int sign);
/* [start, end) is managed from now on. The only place that changes nr_managed. Z. */
void berth__account_managed_locked(struct berth_zone *zone, berth_idx_t start, berth_idx_t end);
/* Around a USED or PCP block that appears among the others, or goes: the only place that changes
 * nr_joined. Order 0: nothing. Z. */
void berth__account_used_locked(struct berth_zone *zone, berth_idx_t idx, unsigned order, int sign);
/* A pageblock that is cached as single frames is cached whole from now on, or the other way round. By the CPU that
 * has it, in P. */
void berth__account_cached_pageblock(struct berth_zone *zone, berth_idx_t idx, bool whole);
/* What `joined` of a pageblock is where all of it is one block. */
uint64_t berth__whole_joined(const struct berth_zone *zone);
void berth__account_pinned(struct berth_zone *zone, berth_idx_t head, unsigned order, int sign);
/* The LRU block of 2^order frames at idx was, and now is, so discardable: the only place that changes a
 * pageblock's discardables. L if the order isn't 0, so that it isn't split. */
void berth__account_discardable(struct berth_zone *zone, berth_idx_t idx, unsigned order,
				enum berth_discardable was, enum berth_discardable is);
/* Declares how an area lends: what it lends of its free frames, and where those are cached. Z.
 * O(pageblocks of the area). */
void berth__lend_locked(struct berth_zone *zone, struct berth_cma *area,
			enum berth_lend_policy lend, uint64_t lend_min_pages);
/* Moves a whole free or empty pageblock between sets; its free blocks must be off the lists (and it in
 * no bucket). Z. */
void berth__pageblock_set_locked(struct berth_zone *zone, struct berth_pageblock *pageblock,
				 unsigned set);
/* The same for good: where the pageblock belongs from now on. Z. */
void berth__pageblock_home_locked(struct berth_zone *zone, struct berth_pageblock *pageblock,
				  unsigned set);
/*
 * Where freed frames of the pageblock are cached, by its set and its bucket: what is far from full gives
 * them back, so that it becomes wholly free instead of being filled again; what is nearly free at
 * once. Z.
 */
void berth__pageblock_route_locked(struct berth_zone *zone, struct berth_pageblock *pageblock);

/* ---- frames/buddy.c ------------------------------------------------------------------------------ */

/* Frees one block to the set of its pageblock and merges. The frames' tags need not be clear at the
 * head. Z. O(max_order). */
void berth__buddy_free_locked(struct berth_zone *zone, berth_idx_t idx, unsigned order);
/* Frees blocks of 2^order frames, less than a pageblock's, which may be scattered. Their tags need not be
 * clear. Z. */
void berth__buddy_free_blocks_locked(struct berth_zone *zone, const berth_idx_t *blocks,
				     uint32_t nr, unsigned order);
/* Cached pageblocks come back: no part of them is counted as joined any more. Z. */
void berth__buddy_give_pageblocks_locked(struct berth_zone *zone, const berth_idx_t *blocks,
					 uint32_t nr);
/* Frees any range of untagged frames as the largest blocks. Z. O(pageblocks). */
void berth__buddy_free_range_locked(struct berth_zone *zone, berth_idx_t start, berth_idx_t end);
/*
 * A block of a set: of the fullest pageblock that has a sufficient one, there the smallest, split to
 * order; BERTH_IDX_NONE: none. Its tag is zero. Z.
 */
berth_idx_t berth__buddy_alloc_locked(struct berth_zone *zone, unsigned set, unsigned order);
/* The same, but a free pageblock isn't broken. Below a pageblock's order. Z. */
berth_idx_t berth__buddy_alloc_partial_locked(struct berth_zone *zone, unsigned set,
					      unsigned order);
/* The smallest block of the fullest pageblock, or a part of it with at most 2^limit frames; *order:
 * what it is. A free pageblock is taken whole, or else only if it may be broken. limit: below a
 * pageblock's order, or equal. Z. */
berth_idx_t berth__buddy_take_locked(struct berth_zone *zone, unsigned set, unsigned limit,
				     bool may_break, unsigned *order);
/* Up to nr wholly free pageblocks of a set that isn't an area's, untagged, but counted as
 * joined: to be cached. Returns how many. Z. O(nr). */
uint32_t berth__buddy_take_pageblocks_locked(struct berth_zone *zone, unsigned set, uint32_t nr,
					     berth_idx_t *pageblocks);
/* Frees all but the first 2^order frames of the untagged block at idx, which has 2^from. Z. */
void berth__buddy_expand_locked(struct berth_zone *zone, berth_idx_t idx, unsigned from,
				unsigned order);
/* Takes the free block `head` out of its list; the part outside [start, end) returns to the lists
 * of the same set. Tags inside are zero after. Returns the frames taken. Z. */
berth_idx_t berth__buddy_carve_locked(struct berth_zone *zone, berth_idx_t head, berth_idx_t start,
				      berth_idx_t end);

/*
 * The first run of free frames in a pageblock that isn't wholly free, from `from` on, that has a block of 2^order frames
 * and more, or ends where the pageblock does. `from`: a pageblock's first frame, or the end of such a run. False:
 * there is none. Z. O(orders), and the pageblock's bits once for all runs.
 */
bool berth__buddy_next_run_locked(const struct berth_zone *zone, berth_idx_t from, unsigned order,
				  berth_idx_t *start, berth_idx_t *end);

/*
 * Makes the pageblocks of [start, end) that are in a stock blocks of their set's list, so that they
 * stay as they are until berth__restock_locked(), or until something of them is allocated. False: one is
 * TAKEN; the others are in lists nevertheless. Z. O(pageblocks).
 */
bool berth__unstock_locked(struct berth_zone *zone, berth_idx_t start, berth_idx_t end);
/* Puts those that are wholly free, and a block of an area's list, back into the stock. Z. */
void berth__restock_locked(struct berth_zone *zone, berth_idx_t start, berth_idx_t end);

/* ---- frames/stock.c ------------------------------------------------------------------------------ */

static inline enum berth_stock berth__stock(const struct berth_pageblock *pageblock)
{
	return (enum berth_stock)(atomic_load_explicit(&pageblock->stock, memory_order_acquire) &
				  BERTH_STOCK_STATE);
}

/* How many tallies an area gets when it is declared, a power of two: of nr_left, and it is one of nr_areas_left that still
 * can be. */
unsigned berth__tally_share(unsigned nr_left, unsigned nr_areas_left, unsigned nr_cpus);
/* The tally of who calls. */
struct berth_tally *berth__tally(const struct berth_cma *area);
/* The area of the set; NULL: the set isn't an area's, or not yet. */
const struct berth_cma *berth__area_of_set(const struct berth_zone *zone, unsigned set);
/* What `of` says of the tallies of a set, of all sets, added up. Without locks; O(tallies). */
uint64_t berth__sum_tallies(const struct berth_zone *zone, unsigned set,
			    uint64_t (*of)(const struct berth_tally *tally));
uint64_t berth__sum_all_tallies(const struct berth_zone *zone,
				uint64_t (*of)(const struct berth_tally *tally));
/* Frames that claims have taken of the stock of an area; of all. Without locks; O(tallies). */
uint64_t berth__taken(const struct berth_zone *zone, unsigned set);
uint64_t berth__taken_of_all(const struct berth_zone *zone);
/* Free frames of a set; of those in its stock. Likewise, inexact while claims come and go. */
uint64_t berth__set_free(const struct berth_zone *zone, unsigned set);
uint64_t berth__set_stock(const struct berth_zone *zone, unsigned set);
/* Free blocks of the order in a set, its stock's included. Z. */
uint64_t berth__nr_blocks(const struct berth_zone *zone, unsigned set, unsigned order);
/* The set has a block of the order or more; from 2^(pageblock_order + 1) on, it may have one. Z. */
bool berth__has_block(const struct berth_zone *zone, unsigned set, unsigned order);
/* As the fields of the zone say, at this moment. Without locks. */
uint64_t berth__zone_free(const struct berth_zone *zone);
uint64_t berth__zone_free_cma(const struct berth_zone *zone);
/* Free frames that areas don't lend: all, or as many as their watermark. O(areas) if one keeps any. */
uint64_t berth__zone_free_unlent(const struct berth_zone *zone);
/* The pageblocks [first, first + nr), free and in no list, become a part of their area's stock. Z. */
void berth__stock_add_locked(struct berth_zone *zone, uint32_t first, uint32_t nr);
/* Takes a pageblock out of the stock: LISTED, and in no list. False: it isn't in it. Z. */
bool berth__stock_remove_locked(struct berth_zone *zone, uint32_t number);
/* The first frame of 2^order, aligned, of the set's stock, removed from it; or BERTH_IDX_NONE. Z.
 * O(pageblocks / 64), O(pageblocks) above a pageblock's order. */
berth_idx_t berth__stock_remove_any_locked(struct berth_zone *zone, unsigned set, unsigned order);
/*
 * A claim takes [start, end), whole pageblocks, or nothing: false, one of them isn't in the stock. Without
 * locks, but for a name. O(pageblocks).
 */
bool berth__stock_take(struct berth_cma *area, berth_idx_t start, berth_idx_t end,
		       const char *name);
/* The claim ends. Without locks, likewise. */
void berth__stock_give(struct berth_cma *area, berth_idx_t start, berth_idx_t end);

/* ---- frames/kept.c ------------------------------------------------------------------------------- */

/* Frames of a set, of all, that are kept for the next claims. Without locks; O(tallies). */
uint64_t berth__kept(const struct berth_zone *zone, unsigned set);
uint64_t berth__kept_of_all(const struct berth_zone *zone);
/* The frame is in what is kept. Without locks; O(tallies). */
bool berth__is_kept(const struct berth_zone *zone, berth_idx_t idx);
/* What is kept and touches [start, end) is free. Takes Z, if there is any. O(tallies). */
void berth__kept_send_home(struct berth_zone *zone, berth_idx_t start, berth_idx_t end);
/* What was a claim is kept, if it may be; false: it isn't, release it. Without locks. */
bool berth__kept_put(struct berth_cma *area, berth_idx_t start, uint64_t nr);

/* ---- frames/zone.c ------------------------------------------------------------------------------- */

#define BERTH_SET_NONE UINT32_MAX

/* The set that the migratetype policy picks first for a block of 2^order, without stealing from a
 * foreign type; BERTH_SET_NONE: none has one. Z. */
unsigned berth__choose_set_locked(const struct berth_zone *zone, unsigned order, unsigned gfp);
/* The same, but not these areas: a bit for each. Z. */
unsigned berth__choose_set_but_locked(const struct berth_zone *zone, unsigned order, unsigned gfp,
				      uint64_t areas);

/* The largest order, at most `limit`, of which the set may give a block now, after it was chosen for a
 * smaller one: an area lends no more than its watermark allows. Z. */
unsigned berth__lendable_order_locked(const struct berth_zone *zone, unsigned set, unsigned limit);
static inline enum berth_lend_policy berth__lend(const struct berth_cma *area)
{
	return (enum berth_lend_policy)atomic_load_explicit(&area->lend, memory_order_relaxed);
}

/* ---- frames/fallback.c --------------------------------------------------------------------------- */

static inline unsigned berth__wanted_type(unsigned gfp)
{
	return gfp & BERTH_GFP_MOVABLE     ? BERTH_MOVABLE :
	       gfp & BERTH_GFP_RECLAIMABLE ? BERTH_RECLAIMABLE :
					     BERTH_UNMOVABLE;
}

/* A block by that policy, and from a foreign type when nothing else is left. BERTH_IDX_NONE: nothing
 * at all. *from is the set it came from. The block is untagged. Z. */
berth_idx_t berth__rmqueue_locked(struct berth_zone *zone, unsigned order, unsigned gfp,
				  unsigned *from);

/* After an urgent block of this order was allocated: its pageblock is reserved for such from now on,
 * if the reserve isn't full. Without locks. */
void berth__reserve_highatomic(struct berth_zone *zone, berth_idx_t idx, unsigned order);
/* Gives a pageblock of the reserve back, to the type that gfp wants; the last one only as the last
 * resort. False: there is none with free memory. */
bool berth__unreserve_highatomic(struct berth_zone *zone, unsigned gfp, bool last_resort);

/* ---- frames/watermark.c -------------------------------------------------------------------------- */

/* Raises the marks by a pageblock, since a request had to take another type's; false: not here. Z. */
bool berth__boost_locked(struct berth_zone *zone);
/* berth_watermark_ok() without the question whether there is a block. Without locks. */
bool berth__watermark_pages_ok(const struct berth_zone *zone, unsigned order, uint64_t mark,
			       enum berth_zone_kind highest, unsigned flags);

/* ---- frames/hand_over.c, frames/memblock.c --------------------------------------------------------- */

/* True when no frame of [start, end) is managed or reserved. O(pageblocks), O(frames) in those that
 * have some already. Z. */
bool berth__untouched_locked(const struct berth_zone *zone, berth_idx_t start, berth_idx_t end);

struct berth_memblock;
/* True when one of memblock's own arrays lies in the bytes [base, end). */
bool berth__memblock_in_use(const struct berth_memblock *memblock, uint64_t base, uint64_t end);
/* Freeing [base, end) in two steps: the first may fail with -ENOMEM, the second can't. */
int berth__memblock_prepare_free(struct berth_memblock *memblock, uint64_t base, uint64_t end);
void berth__memblock_free_prepared(struct berth_memblock *memblock, uint64_t base, uint64_t end);

/* ---- frames/pcp.c -------------------------------------------------------------------------------- */

/* A cached order, whatever the slot's state. alloc: the block is tagged USED; BERTH_IDX_NONE: take the
 * zone lock. */
berth_idx_t berth__pcp_alloc(struct berth_zone *zone, unsigned order, unsigned gfp, uint32_t tag,
			     uint64_t cookie);
/* A frame whose references are gone; false: take the zone lock. */
bool berth__pcp_free(struct berth_zone *zone, berth_idx_t idx);
/* Frees the USED block of 2^order frames, a cached order above 0, if it is there, nobody has a reference
 * but the owner, and it goes to a list; `owner`: must be his, or BERTH_ANY_OWNER. False: nothing has
 * changed, take the zone lock. */
#define BERTH_ANY_OWNER UINT32_MAX
bool berth__pcp_free_block(struct berth_zone *zone, berth_idx_t idx, unsigned order,
			   unsigned owner);
/* Returns the oldest nr blocks of a list, and up to a pageblock more, to the buddy lists. In P. Takes Z. */
void berth__pcp_spill(struct berth_zone *zone, struct berth_pcp *pcp, unsigned list, uint32_t nr);
/* A block goes home from a list, which forgets it under the same lock. Returns its frames. In P and Z. */
uint32_t berth__pcp_free_cached_locked(struct berth_zone *zone, berth_idx_t idx);

/* Writes everything that makes an untagged block an allocated one. In P or under Z. */
static inline void berth__mark_used(const struct berth_zone *zone, berth_idx_t idx, uint32_t tag,
				    uint64_t cookie)
{
	struct berth_frame *frame = &zone->frames[idx];

	berth__set_cookie(zone, idx, cookie);
	atomic_store_explicit(&frame->refcount, 1, memory_order_relaxed);
	berth__set_tag_release(frame, tag);
}

/* ---- frames/pcp_drain.c -------------------------------------------------------------------------- */

/*
 * Returns to the buddy lists the blocks that are cached and touch [start, end); afterwards no per-CPU
 * section that began before the call is running. Without locks.
 */
void berth__pcp_drain_range(struct berth_zone *zone, berth_idx_t start, berth_idx_t end);
/* True when some slot caches frames. Inexact while CPUs allocate. */
bool berth__pcp_any(struct berth_zone *zone);

/* ---- frames/pcp_limits.c ------------------------------------------------------------------------- */

/* Frames that a slot's lists hold; those that they may hold now. Inexact while CPUs allocate. */
uint32_t berth__pcp_pages(const struct berth_zone *zone, const struct berth_pcp *pcp);
uint32_t berth__pcp_high_pages(const struct berth_zone *zone, const struct berth_pcp *pcp);

/* The bounds of the lists in a zone: how many blocks each may hold, and where its stack is. */
struct berth_pcp_layout {
	uint8_t row[BERTH_MAX_ORDER_LIMIT + 1], order[BERTH_NR_PCP_LISTS];
	uint16_t min[BERTH_NR_PCP_LISTS], max[BERTH_NR_PCP_LISTS];
	uint32_t base[BERTH_NR_PCP_LISTS], budget;
	size_t bytes; /* of a slot */
};
/* pcp_high: of berth_zone_params; nr_cpus: at least 1. */
void berth__pcp_lay_out(struct berth_pcp_layout *layout, uint64_t nr_pages, unsigned nr_cpus,
			unsigned pageblock_order, unsigned pcp_high);
/* How many blocks a list exchanges at a time. */
uint32_t berth__pcp_batch(const struct berth_zone *zone, const struct berth_pcp *pcp,
			  unsigned list);
/* A list has been refilled, or is full: its limit grows if that is the rule. Each so many times all lists of the slot
 * are aged, if it's time. In P. Takes Z. */
void berth__pcp_under_pressure(struct berth_zone *zone, struct berth_pcp *pcp, unsigned list);
/* What hasn't exchanged blocks since last time shrinks; what is beyond goes to the buddy lists. In P. Takes Z. */
void berth__pcp_age_slot(struct berth_zone *zone, struct berth_pcp *pcp);
/* Before a slot is used. */
void berth__pcp_init(const struct berth_zone *zone, struct berth_pcp *pcp);

#endif
