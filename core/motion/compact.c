/* SPDX-License-Identifier: MIT */
/*
 * Compaction: moving movable blocks together, so that free frames become free blocks.
 *
 * The source is chosen by the pageblocks' counters: the one (or, for larger orders, the aligned group)
 * with the fewest frames in use. It is isolated as a claim does it, its blocks move into the fullest
 * pageblocks of the same set that still have room, and what is left is one free block. No free
 * pageblock is broken for that, and nothing is chosen by looking at frames.
 *
 * I1  A move ends in a pageblock of the source's own set (out of unmovable and reclaimable pageblocks:
 *     in MOVABLE): so nothing gets into or out of a CMA area. Isolated pageblocks aren't touched.
 * I2  A source is emptied only if the other partly used pageblocks of the set have room for all of it:
 *     each success makes one more block free.
 * I3  What can't move is learnt once: the pageblock's skip hint keeps it from being chosen until the
 *     hints are forgotten. Pinned pageblocks are passed over by their counter.
 * I4  Every loop is bounded: MAX_TRIES sources for one order, MAX_PASSES walks over a zone.
 *
 * Complexity: by the summaries O(regions), and the groups that may have a better one, to choose a source
 * of at most a pageblock; O(pageblocks) for a larger one, or to plan a whole zone; then O(blocks) of each source
 * and its moves. Nothing is locked while an owner moves.
 *
 * Deferral, the fragmentation index and their constants are those of Linux (mm/compaction.c,
 * mm/vmstat.c; Documentation/admin-guide/sysctl/vm.rst, extfrag_threshold).
 */
#include "core/alloc/internal.h"
#include "core/frames/summary.h"
#include "core/stats.h"

#define MAX_TRIES 16u /* sources for one order */
#define MAX_PASSES 8u /* walks over a set's pageblocks; one does it where everything moves */
#define MAX_DEFER_SHIFT 6u
#define COSTLY_ORDER 3u /* up to this the index isn't asked: such blocks come back by themselves */
#define EXTFRAG_THRESHOLD 500
#define LEVELS 64u /* of fullness, in a plan */

struct compaction {
	struct berth_zone *zone;
	const struct berth_compact_params *params;
	struct berth_compact_result *result;
	struct berth_claim_params claim; /* the deadline */
	bool capture;
};

/* ---- Measures ------------------------------------------------------------------------------------ */

struct free_blocks {
	uint64_t pages, blocks, suitable; /* suitable: blocks of the order that could be had */
};

static struct free_blocks count_free_locked(const struct berth_zone *zone, unsigned order)
{
	struct free_blocks found = { 0 };

	for (unsigned set = 0; set < BERTH_CMA + zone->max_areas; set++) {
		for (unsigned k = 0; k <= zone->max_order; k++) {
			uint64_t nr = berth__nr_blocks(zone, set, k);

			found.blocks += nr;
			found.pages += nr << k;
			found.suitable += k < order ? 0 : nr << (k - order);
		}
	}
	return found;
}

static struct free_blocks count_free(struct berth_zone *zone, unsigned order)
{
	struct free_blocks found;

	berth_lock(&zone->lock);
	found = count_free_locked(zone, order);
	berth_unlock(&zone->lock);
	return found;
}

int berth_fragmentation_index(struct berth_zone *zone, unsigned order)
{
	struct free_blocks found;
	uint64_t requested;

	if (order > zone->max_order)
		return -BERTH_EINVAL;
	found = count_free(zone, order);
	requested = 1ull << order;
	if (!found.blocks)
		return 0;
	if (found.suitable)
		return BERTH_FRAGMENTATION_NONE;
	return 1000 - (int)((1000 + found.pages * 1000 / requested) / found.blocks);
}

int berth_unusable_index(struct berth_zone *zone, unsigned order)
{
	struct free_blocks found;

	if (order > zone->max_order)
		return -BERTH_EINVAL;
	found = count_free(zone, order);
	return found.pages ? (int)((found.pages - (found.suitable << order)) * 1000 / found.pages) :
			     1000;
}

/* ---- Deferral and hints --------------------------------------------------------------------------- */

/* After a failure at some order, more and more requests of that order and above aren't tried. */
static bool deferred_locked(struct berth_zone *zone, unsigned order)
{
	struct berth_compact_state *state = &zone->compact;
	uint32_t limit = 1u << state->defer_shift;

	if (!state->defer_shift || order < state->order_failed)
		return false;
	if (++state->considered < limit)
		return true;
	state->considered = limit;
	return false;
}

static void defer_locked(struct berth_zone *zone, unsigned order)
{
	struct berth_compact_state *state = &zone->compact;

	if (!state->defer_shift || order < state->order_failed)
		state->order_failed = order;
	state->considered = 0;
	if (state->defer_shift < MAX_DEFER_SHIFT)
		state->defer_shift++;
}

static void reset_deferral_locked(struct berth_zone *zone, unsigned order)
{
	struct berth_compact_state *state = &zone->compact;

	state->defer_shift = state->considered = 0;
	if (order >= state->order_failed)
		state->order_failed = order + 1;
}

static uint32_t epoch(const struct berth_zone *zone)
{
	return atomic_load_explicit(&zone->compact.epoch, memory_order_relaxed);
}

/* A hint is valid while it equals the zone's epoch; O(regions), but once in 255 times. */
static void forget_hints_locked(struct berth_zone *zone)
{
	berth_idx_t size = berth__pages(zone->pageblock_order);

	zone->compact.nothing_left = false;
	berth__stale_all_locked(zone);
	atomic_store_explicit(&zone->compact.epoch, epoch(zone) + 1, memory_order_relaxed);
	if (epoch(zone) < 256)
		return;
	atomic_store_explicit(&zone->compact.epoch, 1, memory_order_relaxed);
	for (berth_idx_t idx = zone->first & ~(size - 1); idx < zone->end; idx += size)
		atomic_store_explicit(&berth__pageblock(zone, idx)->skip, 0, memory_order_relaxed);
}

static void hint(struct compaction *run, berth_idx_t start, berth_idx_t end)
{
	struct berth_zone *zone = run->zone;

	berth_lock(&zone->lock);
	for (; start < end; start += berth__pages(zone->pageblock_order)) {
		struct berth_pageblock *pageblock = berth__pageblock(zone, start);

		atomic_store_explicit(&pageblock->skip, (uint8_t)epoch(zone), memory_order_relaxed);
		berth__stale_locked(zone, pageblock);
	}
	berth_unlock(&zone->lock);
}

/* ---- Candidates ------------------------------------------------------------------------------------ */

static uint32_t nr_used(const struct berth_pageblock *pageblock)
{
	uint32_t idle = berth__nr_free(pageblock) + berth__nr_claimed(pageblock);

	uint32_t managed = berth__nr_managed(pageblock);

	return idle < managed ? managed - idle : 0;
}

/* By counters alone, which others may change meanwhile: the isolation looks again. */
static bool eligible(const struct compaction *run, const struct berth_pageblock *pageblock,
		     bool pinned_too)
{
	return berth__nr_managed(pageblock) == berth__pages(run->zone->pageblock_order) &&
	       !berth__nr_claimed(pageblock) &&
	       (pinned_too || !atomic_load_explicit(&pageblock->nr_pinned, memory_order_relaxed)) &&
	       atomic_load_explicit(&pageblock->skip, memory_order_relaxed) != epoch(run->zone);
}

static unsigned wanted_type(unsigned gfp)
{
	return gfp & BERTH_GFP_MOVABLE     ? BERTH_MOVABLE :
	       gfp & BERTH_GFP_RECLAIMABLE ? BERTH_RECLAIMABLE :
					     BERTH_UNMOVABLE;
}

/*
 * What isn't movable gets a pageblock to itself, or a part of one of its type: a movable pageblock
 * that it lies in could never be emptied again.
 */
static bool takes_part(const struct compaction *run, unsigned set)
{
	unsigned want = wanted_type(run->params->gfp);

	return !(run->params->flags & BERTH_COMPACT_WHOLE_ZONE) &&
	       run->params->order < run->zone->pageblock_order &&
	       (want == BERTH_MOVABLE || want == set);
}

/* Where the blocks of a set's pageblocks move; BERTH_SET_NONE: they stay. */
static unsigned dst_of(const struct compaction *run, unsigned set)
{
	if (set == BERTH_MOVABLE || set >= BERTH_CMA)
		return set;
	if ((set == BERTH_UNMOVABLE || set == BERTH_RECLAIMABLE) &&
	    run->params->mode != BERTH_COMPACT_ASYNC)
		return BERTH_MOVABLE;
	return BERTH_SET_NONE;
}

/* Free frames of the set outside its wholly free pageblocks. */
static uint64_t room(struct berth_zone *zone, unsigned set)
{
	uint64_t pages;

	berth_lock(&zone->lock);
	pages = atomic_load_explicit(&zone->sets[set].nr_free, memory_order_relaxed) -
		atomic_load_explicit(&zone->sets[set].nr_stocked, memory_order_relaxed);
	for (unsigned k = zone->pageblock_order; k <= zone->max_order; k++)
		pages -= (uint64_t)zone->lists[set * (zone->max_order + 1) + k].nr_blocks << k;
	berth_unlock(&zone->lock);
	return pages;
}

/* A source: whole pageblocks of one set. */
struct unit {
	berth_idx_t start, end;
	unsigned set;
	uint64_t used;
	uint64_t own_room; /* free frames in its partly used pageblocks, which are no room for it */
};

static bool look_at_unit(const struct compaction *run, berth_idx_t start, berth_idx_t end,
			 struct unit *unit)
{
	struct berth_zone *zone = run->zone;
	berth_idx_t size = berth__pages(zone->pageblock_order);

	*unit = (struct unit){ start, end, berth__pageblock_set(berth__pageblock(zone, start)), 0,
			       0 };
	if (dst_of(run, unit->set) == BERTH_SET_NONE)
		return false;
	for (berth_idx_t idx = start; idx < end; idx += size) {
		const struct berth_pageblock *pageblock = berth__pageblock(zone, idx);

		if (berth__pageblock_set(pageblock) != unit->set ||
		    !eligible(run, pageblock, takes_part(run, unit->set)))
			return false;
		unit->used += nr_used(pageblock);
		if (berth__nr_free(pageblock) < size)
			unit->own_room += berth__nr_free(pageblock);
	}
	return true;
}

static bool has_room_for(const struct compaction *run, const struct unit *unit, uint64_t pages)
{
	unsigned dst = dst_of(run, unit->set);
	uint64_t left = room(run->zone, dst);

	return left >= pages + (dst == unit->set ? unit->own_room : 0);
}

/* ---- Emptying -------------------------------------------------------------------------------------- */

static int empty(struct compaction *run, berth_idx_t start, berth_idx_t end, unsigned set)
{
	static const uint8_t passes[] = { [BERTH_COMPACT_ASYNC] = 0,
					  [BERTH_COMPACT_SYNC_LIGHT] = 2,
					  [BERTH_COMPACT_SYNC] = 8 };
	const struct berth_emptying how = {
		.params = &run->claim,
		.dst_set = dst_of(run, set),
		.passes = passes[run->params->mode],
		.may_split = run->params->mode == BERTH_COMPACT_SYNC,
		.evictable_only = run->params->flags & BERTH_COMPACT_EVICTABLE_ONLY,
		.keep = run->capture,
	};
	struct berth_claim_report report = { .blocker_pfn = BERTH_PFN_NONE };
	int error = berth__empty_range(run->zone, start, end, &how, &report);

	run->result->tried++;
	run->result->moved_pages += report.moved_pages;
	run->result->busy_blocks += report.busy_blocks;
	if (!error)
		run->result->emptied++;
	return error;
}

static bool out_of_time(const struct compaction *run)
{
	return (run->params->deadline_ns && berth__now(run->zone) >= run->params->deadline_ns) ||
	       (run->params->max_pages && run->result->moved_pages >= run->params->max_pages);
}

/* ---- For one order --------------------------------------------------------------------------------- */

/* A block of this set, an area's, may be lent whatever else is free in it. */
static bool lends_freely(const struct berth_zone *zone, unsigned set)
{
	const struct berth_cma *area = &zone->areas[set - BERTH_CMA];

	return berth__lend(area) != BERTH_LEND_OFF &&
	       !atomic_load_explicit(&area->lend_min_pages, memory_order_relaxed);
}

/* A unit of `order` aligned frames from idx on, if it beats the best so far. */
static bool try_unit(const struct compaction *run, berth_idx_t idx, berth_idx_t size, bool areas,
		     struct unit *best)
{
	struct unit unit;

	if (!look_at_unit(run, idx, idx + size, &unit) ||
	    (unit.set >= BERTH_CMA && (!areas || !lends_freely(run->zone, unit.set))) ||
	    unit.used >= best->used ||
	    !has_room_for(run, &unit, takes_part(run, unit.set) ? 1 : unit.used))
		return false;
	*best = unit;
	return true;
}

/* Whether a group, or a region, can't have a pageblock that beats the best so far. S. */
static bool nothing_better(const struct compaction *run, const struct berth_summary *summary,
			   bool areas, const struct unit *best)
{
	bool pinned_too = run->params->order < run->zone->pageblock_order;
	const uint32_t *least = summary->least_source[pinned_too];

	return least[BERTH_SOURCE_MOVABLE] >= best->used &&
	       (run->params->mode == BERTH_COMPACT_ASYNC ||
		least[BERTH_SOURCE_OTHER] >= best->used) &&
	       (!areas || least[BERTH_SOURCE_AREA] >= best->used);
}

/* Pageblocks, by the summaries: only what may beat the best so far is looked at. */
static bool choose_pageblock(const struct compaction *run, bool areas, struct unit *best)
{
	const uint32_t group = BERTH_GROUP, region = BERTH_GROUP * BERTH_GROUP;
	struct berth_zone *zone = run->zone;
	berth_idx_t size = berth__pages(zone->pageblock_order);
	uint32_t first = (zone->first + size - 1) >> zone->pageblock_order;
	uint32_t end = zone->end >> zone->pageblock_order;
	bool found = false;

	if (first >= end)
		return false;
	berth_mutex_lock(&zone->search_lock);
	berth__refresh(zone, 0, ((zone->end - 1) >> zone->pageblock_order) + 1);
	for (uint32_t number = first; number < end;) {
		if (number % region == 0 &&
		    nothing_better(run, &zone->regions[number / region], areas, best))
			number += region;
		else if (number % group == 0 &&
			 nothing_better(run, &zone->groups[number / group].summary, areas, best))
			number += group;
		else
			found |= try_unit(run, number++ << zone->pageblock_order, size, areas,
					  best);
	}
	berth_mutex_unlock(&zone->search_lock);
	return found;
}

/*
 * The unit with the fewest frames in use that the others of its set have room for. `areas`: also in
 * CMA areas. Below a pageblock's order only a part of it is emptied: then a pageblock is good if the
 * part finds room.
 */
static bool choose(const struct compaction *run, bool areas, struct unit *best)
{
	struct berth_zone *zone = run->zone;
	unsigned order = run->params->order;
	berth_idx_t size = berth__pages(order), least;
	bool found = false;

	best->used = order > zone->pageblock_order ? size : berth__pages(zone->pageblock_order);
	if (order <= zone->pageblock_order)
		return choose_pageblock(run, areas, best);
	least = (zone->first + size - 1) & ~(size - 1);
	for (berth_idx_t idx = least; idx < zone->end && zone->end - idx >= size; idx += size)
		found |= try_unit(run, idx, size, areas, best);
	return found;
}

/* Frames that would have to move out of [start, end), or UINT32_MAX when something can't. Z. */
static uint32_t window_cost_locked(const struct compaction *run, berth_idx_t start, berth_idx_t end)
{
	const struct berth_zone *zone = run->zone;
	uint32_t cost = 0;

	for (berth_idx_t idx = start; idx < end;) {
		uint32_t tag;
		berth_idx_t head = berth__find(zone, idx, &tag), next;
		const struct berth_frame *frame;

		if (head == BERTH_IDX_NONE)
			return UINT32_MAX;
		frame = &zone->frames[head];
		next = head + berth__pages(berth__tag_order(tag));
		if (berth__tag_kind(tag) == BERTH_FRAME_USED) {
			if (!(tag & BERTH_TAG_MOVABLE) || head < start || next > end ||
			    atomic_load_explicit(&frame->refcount, memory_order_relaxed) != 1)
				return UINT32_MAX;
			cost += next - head;
		} else if (berth__tag_kind(tag) != BERTH_FRAME_FREE) {
			return UINT32_MAX;
		}
		idx = next;
	}
	return cost;
}

/* Narrows the unit, a pageblock, to the aligned 2^order frames that are cheapest to empty. */
static bool narrow(const struct compaction *run, struct unit *unit)
{
	struct berth_zone *zone = run->zone;
	berth_idx_t size = berth__pages(run->params->order), at = BERTH_IDX_NONE;
	uint32_t least = UINT32_MAX;

	berth_lock(&zone->lock);
	for (berth_idx_t idx = unit->start; idx < unit->end; idx += size) {
		uint32_t cost = window_cost_locked(run, idx, idx + size);

		if (cost < least) {
			least = cost;
			at = idx;
		}
	}
	berth_unlock(&zone->lock);
	unit->start = at;
	unit->end = at + size;
	unit->used = least;
	return at != BERTH_IDX_NONE && has_room_for(run, unit, least);
}

/*
 * The unit, which is claimed, becomes the caller's block; what it has more is free. Whole pageblocks
 * get the type of what was asked for.
 */
static void capture(struct compaction *run, const struct unit *unit, uint32_t tag, uint64_t cookie)
{
	struct berth_zone *zone = run->zone;
	berth_idx_t size = berth__pages(zone->pageblock_order);
	berth_idx_t taken = berth__pages(run->params->order);

	berth_lock(&zone->lock);
	berth__account_claimed_locked(zone, unit->start, unit->end - unit->start, -1);
	for (berth_idx_t idx = unit->start; idx < unit->end && unit->end - unit->start >= size;
	     idx += size) {
		struct berth_pageblock *pageblock = berth__pageblock(zone, idx);

		if (pageblock->home_set >= BERTH_CMA) /* it stays the area's */
			break;
		pageblock->home_set = (uint16_t)wanted_type(run->params->gfp);
		berth__pageblock_set_locked(zone, pageblock, pageblock->home_set);
	}
	berth__account_used_locked(zone, unit->start, run->params->order, 1);
	berth__mark_used(zone, unit->start, tag, cookie);
	berth__buddy_free_range_locked(zone, unit->start + taken, unit->end);
	berth_unlock(&zone->lock);
}

static enum berth_compact_outcome compact_for_order(struct compaction *run, struct unit *unit)
{
	const unsigned gfp = run->params->gfp;
	bool areas = false, lent = (gfp & BERTH_GFP_MOVABLE) && !(gfp & BERTH_GFP_NO_CMA);

	for (unsigned tries = 0; tries < MAX_TRIES;) {
		struct unit whole;
		int error;

		if (out_of_time(run))
			return BERTH_COMPACT_PARTIAL;
		if (!choose(run, areas, &whole)) {
			if (areas || !lent)
				break;
			areas = true;
			continue;
		}
		tries++;
		*unit = whole;
		error = takes_part(run, unit->set) && !narrow(run, unit) ?
				-BERTH_EBUSY :
				empty(run, unit->start, unit->end, unit->set);
		if (!error)
			return BERTH_COMPACT_SUCCESS;
		if (error == -BERTH_EAGAIN)
			return BERTH_COMPACT_PARTIAL;
		hint(run, whole.start, whole.end);
	}
	return BERTH_COMPACT_COMPLETE;
}

/* ---- The whole zone --------------------------------------------------------------------------------- */

/* A pageblock's level of fullness. */
static unsigned level_of(const struct berth_zone *zone, uint64_t used)
{
	return (unsigned)(used * LEVELS >> zone->pageblock_order);
}

static bool look_at_source(const struct compaction *run, berth_idx_t idx, unsigned set,
			   struct unit *unit)
{
	berth_idx_t size = berth__pages(run->zone->pageblock_order);

	return look_at_unit(run, idx, idx + size, unit) && unit->set == set && unit->used &&
	       unit->used < size;
}

/*
 * Up to which level of fullness pageblocks are to be emptied: the others, and no more, have room for
 * all of them. One walk over the counters.
 */
static unsigned plan(struct compaction *run, unsigned set)
{
	struct berth_zone *zone = run->zone;
	berth_idx_t size = berth__pages(zone->pageblock_order);
	uint64_t used[LEVELS] = { 0 }, own_room[LEVELS] = { 0 };
	uint64_t left = room(zone, dst_of(run, set)), to_move = 0;
	struct unit unit;
	unsigned level;

	for (berth_idx_t idx = zone->first & ~(size - 1); idx < zone->end; idx += size) {
		if (!look_at_source(run, idx, set, &unit))
			continue;
		used[level_of(zone, unit.used)] += unit.used;
		own_room[level_of(zone, unit.used)] += unit.own_room;
	}
	for (level = 0; level + 1 < LEVELS; level++) {
		to_move += used[level];
		if (dst_of(run, set) == set)
			left -= own_room[level] < left ? own_room[level] : left;
		if (to_move >= left)
			break;
	}
	return level;
}

/* One walk: empties what is no fuller than `level`. False: out of time. */
static bool pass(struct compaction *run, unsigned set, unsigned level, bool *progress)
{
	struct berth_zone *zone = run->zone;
	berth_idx_t size = berth__pages(zone->pageblock_order);
	berth_idx_t first = zone->first & ~(size - 1);
	uint32_t nr = ((zone->end - 1) >> zone->pageblock_order) -
		      (first >> zone->pageblock_order) + 1;
	uint32_t from = atomic_load_explicit(&zone->compact.position, memory_order_relaxed) % nr;

	for (uint32_t i = 0; i < nr; i++) {
		uint32_t number = (from + i) % nr;
		berth_idx_t idx = first + (number << zone->pageblock_order);
		struct unit unit;
		int error;

		if (!look_at_source(run, idx, set, &unit) || level_of(zone, unit.used) > level ||
		    !has_room_for(run, &unit, unit.used))
			continue;
		if (out_of_time(run)) { /* the next one goes on here */
			atomic_store_explicit(&zone->compact.position, number,
					      memory_order_relaxed);
			return false;
		}
		error = empty(run, unit.start, unit.end, set);
		if (error && error != -BERTH_EAGAIN)
			hint(run, unit.start, unit.end);
		*progress |= !error;
	}
	return true;
}

static enum berth_compact_outcome compact_whole_zone(struct compaction *run)
{
	struct berth_zone *zone = run->zone;
	unsigned nr_sets;

	berth_lock(&zone->lock);
	nr_sets = BERTH_CMA + zone->nr_areas;
	berth_unlock(&zone->lock);
	for (unsigned set = 0; set < nr_sets; set++) {
		bool progress = dst_of(run, set) != BERTH_SET_NONE;

		for (unsigned passes = 0; progress && passes < MAX_PASSES; passes++) {
			progress = false;
			if (!pass(run, set, plan(run, set), &progress))
				return BERTH_COMPACT_PARTIAL;
		}
	}
	return BERTH_COMPACT_COMPLETE;
}

/* ---- The call ---------------------------------------------------------------------------------------- */

/* A block of the order is there for the caller. Z. */
static bool available_locked(const struct berth_zone *zone, unsigned order, unsigned gfp)
{
	static const uint8_t types[] = { BERTH_UNMOVABLE, BERTH_MOVABLE, BERTH_RECLAIMABLE };

	if (berth__choose_set_locked(zone, order, gfp) != BERTH_SET_NONE)
		return true;
	for (unsigned i = 0; i < 3; i++)
		if (zone->sets[types[i]].nonempty >> order)
			return true;
	return false;
}

/* Whether it is worth trying, for one order. */
static enum berth_compact_outcome suitable(struct compaction *run)
{
	const struct berth_compact_params *params = run->params;
	struct berth_zone *zone = run->zone;
	enum berth_compact_outcome outcome = BERTH_COMPACT_CONTINUE;
	uint64_t gap = 2ull << params->order; /* the block, and as much to move through */

	berth_lock(&zone->lock);
	if (!run->capture && available_locked(zone, params->order, params->gfp))
		outcome = BERTH_COMPACT_SUCCESS;
	else if (params->flags & BERTH_COMPACT_FORCE)
		;
	else if (count_free_locked(zone, params->order).pages < params->watermark_pages + gap)
		outcome = BERTH_COMPACT_SKIPPED;
	else if (deferred_locked(zone, params->order))
		outcome = BERTH_COMPACT_DEFERRED;
	if (outcome == BERTH_COMPACT_CONTINUE &&
	    (zone->compact.nothing_left || (params->flags & BERTH_COMPACT_FORCE)))
		forget_hints_locked(zone);
	berth_unlock(&zone->lock);
	/* A caller that waits for the block isn't sent away by an estimate: the room is known. */
	if (outcome == BERTH_COMPACT_CONTINUE && params->order > COSTLY_ORDER && !run->capture &&
	    !(params->flags & BERTH_COMPACT_FORCE)) {
		int index = berth_fragmentation_index(zone, params->order);

		if (index >= 0 && index <= EXTFRAG_THRESHOLD)
			outcome = BERTH_COMPACT_SKIPPED; /* short of memory, not fragmented */
	}
	return outcome;
}

static int run_for_order(struct compaction *run, uint32_t tag, uint64_t cookie, struct unit *unit)
{
	struct berth_zone *zone = run->zone;
	enum berth_compact_outcome outcome = suitable(run);
	const unsigned order = run->params->order;

	if (outcome == BERTH_COMPACT_CONTINUE) {
		uint64_t began_ns = berth__timing_begin(zone);

		outcome = compact_for_order(run, unit);
		if (outcome == BERTH_COMPACT_SUCCESS && run->capture)
			capture(run, unit, tag, cookie);
		berth_lock(&zone->lock);
		if (outcome == BERTH_COMPACT_SUCCESS) {
			reset_deferral_locked(zone, order);
			zone->compact.successes++;
		} else {
			zone->compact.failures++;
		}
		if (outcome == BERTH_COMPACT_COMPLETE) {
			if (run->params->mode != BERTH_COMPACT_ASYNC)
				defer_locked(zone, order);
			zone->compact.nothing_left = true;
		}
		berth_unlock(&zone->lock);
		berth__timing_end(zone, BERTH_TIMING_COMPACT, began_ns);
		berth__count(zone,
			     outcome == BERTH_COMPACT_SUCCESS ? BERTH_EVENT_COMPACT_SUCCESS :
								BERTH_EVENT_COMPACT_FAIL,
			     1);
		berth__count(zone, BERTH_EVENT_COMPACT_STALL, run->capture);
		if (outcome == BERTH_COMPACT_SUCCESS && run->capture)
			berth__count(zone, BERTH_EVENT_PGALLOC, berth__pages(order));
	}
	run->result->outcome = outcome;
	switch (outcome) {
	case BERTH_COMPACT_SUCCESS:
		return 0;
	case BERTH_COMPACT_SKIPPED:
		return -BERTH_ENOMEM;
	case BERTH_COMPACT_COMPLETE:
		return -BERTH_EBUSY;
	default:
		return -BERTH_EAGAIN;
	}
}

static int run_whole_zone(struct compaction *run)
{
	struct berth_zone *zone = run->zone;
	uint64_t began_ns = berth__timing_begin(zone);
	enum berth_compact_outcome outcome;

	berth_lock(&zone->lock);
	forget_hints_locked(zone);
	berth_unlock(&zone->lock);
	outcome = compact_whole_zone(run);
	berth__timing_end(zone, BERTH_TIMING_COMPACT, began_ns);
	run->result->outcome = outcome;
	return outcome == BERTH_COMPACT_PARTIAL ? -BERTH_EAGAIN : 0;
}

int berth_compact(struct berth_zone *zone, const struct berth_compact_params *params,
		  struct berth_compact_result *result)
{
	struct berth_compact_result own;
	struct compaction run = { .zone = zone, .params = params };
	struct unit unit;

	run.result = result ? result : &own;
	*run.result = (struct berth_compact_result){ .outcome = BERTH_COMPACT_SKIPPED };
	if (!params || params->order > zone->max_order || params->mode > BERTH_COMPACT_SYNC ||
	    (params->flags & ~(unsigned)BERTH_COMPACT_ALL_FLAGS))
		return -BERTH_EINVAL;
	run.claim.deadline_ns = params->deadline_ns;
	/* Frames in CPUs' lists look used to the counters. (A source's own are given back anyway.) */
	if (params->mode != BERTH_COMPACT_ASYNC && berth__pcp_any(zone))
		berth_pcp_drain_all(zone);
	return params->flags & BERTH_COMPACT_WHOLE_ZONE ? run_whole_zone(&run) :
							  run_for_order(&run, 0, 0, &unit);
}

berth_idx_t berth__compact_capture(struct berth_zone *zone, unsigned order, unsigned gfp,
				   uint32_t tag, uint64_t cookie)
{
	const struct berth_compact_params params = {
		.order = order,
		.mode = BERTH_COMPACT_SYNC_LIGHT,
		.gfp = gfp,
	};
	struct berth_compact_result result = { 0 };
	struct compaction run = { zone, &params, &result, { 0 }, true };
	struct unit unit;

	return run_for_order(&run, tag, cookie, &unit) ? BERTH_IDX_NONE : unit.start;
}
