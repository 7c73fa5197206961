/* SPDX-License-Identifier: MIT */
/*
 * What the files of the range choice (range.c, sweep.c, bounds.c) know of a search on its way. Private to them.
 */
#ifndef BERTH_CORE_RANGE_H
#define BERTH_CORE_RANGE_H

#include "core/alloc/internal.h"
#include "core/frames/summary.h"
#include "core/motion/internal.h"

#define BERTH_COST_NONE UINT64_MAX
#define EXACT_NS 250000u /* of sweeps, always made if need be: 122 pageblocks of 512 frames */
#define FRAME_NS 4u      /* of a sweep */
#define SLACK 50u /* the best may cost 1 + 1 / SLACK times the least, if more sweeps are needed */

struct berth_choice {
	const struct berth_search *search;
	struct berth_zone *zone;
	struct berth_cost_model cost;
	unsigned cost_kind;       /* see BERTH_NR_COSTS */
	enum berth_run_kind kind; /* pageblocks that can be inside */
	berth_idx_t size;         /* of a pageblock */
	berth_idx_t last;         /* start that ends at hi */
	uint64_t best_cost;       /* BERTH_COST_NONE: none yet */
	berth_idx_t best;
	uint32_t busy_clock; /* as search->busy_clock; 0 also where nobody was refused lately */
	uint64_t swept_ns;   /* what the sweeps may have cost */
};

/* The pageblocks of [first, first + nr) that are wholly in every window of a sweep. */
struct berth_inner {
	uint32_t first, nr;
	uint64_t cost;
};

/* ---- Legal starts ------------------------------------------------------------------------------ */

/* How far behind the last boundary idx is. */
static inline uint64_t berth__behind_boundary(const struct berth_search *search, uint64_t idx)
{
	return (search->area->zone->base_pfn + idx) & (search->boundary - 1);
}

/* The first legal start at or after idx. (The range may leave [lo, hi).) base_pfn is a multiple of the
 * largest block, so of any step. */
static inline uint64_t berth__legal_up(const struct berth_search *search, uint64_t idx)
{
	uint64_t behind;

	idx = (idx + search->step - 1) & ~((uint64_t)search->step - 1);
	if (!search->boundary)
		return idx;
	behind = berth__behind_boundary(search, idx);
	/* A step of a boundary and more begins at boundaries only. */
	return behind + search->nr > search->boundary ? idx + search->boundary - behind : idx;
}

/* ---- The best so far ---------------------------------------------------------------------------- */

static inline bool berth__avoided(const struct berth_search *search, berth_idx_t start,
				  berth_idx_t end)
{
	for (unsigned i = 0; i < search->nr_avoid; i++)
		if (search->avoid[i] >= start && search->avoid[i] < end)
			return true;
	return false;
}

static inline void berth__consider(struct berth_choice *choice, berth_idx_t start, uint64_t cost)
{
	if (cost >= choice->best_cost)
		return;
	choice->best_cost = cost;
	choice->best = start;
}

/* Starts that cost at least so much may be better by more than the search lets pass. */
static inline bool berth__worth_a_look(const struct berth_choice *choice, uint64_t least)
{
	if (choice->swept_ns > EXACT_NS)
		least += least / SLACK;
	return least < choice->best_cost;
}

static inline bool berth__enough(const struct berth_choice *choice)
{
	return choice->best_cost == 0 ||
	       (choice->search->first_fit && choice->best_cost != BERTH_COST_NONE);
}

/* ---- sweep.c ------------------------------------------------------------------------------------ */

/* Looks at all legal starts in [first, stop), in one pageblock, block by block. Takes Z. */
void berth__sweep(struct berth_choice *choice, uint64_t first, uint64_t stop,
		  const struct berth_inner *inner);
/* The shortest run of free frames that begins in the pageblock and has room; its length, or 0. Z. */
berth_idx_t berth__free_run_locked(const struct berth_choice *choice, uint32_t number,
				   berth_idx_t *start);

/* ---- bounds.c ----------------------------------------------------------------------------------- */

/* The least that a window costs which begins in the pageblock and has `inner` in it, by counters alone. */
uint64_t berth__bound(const struct berth_choice *choice, uint32_t number,
		      const struct berth_inner *inner);
/*
 * Whether no start in a group, or a region, of `span` pageblocks is worth a look: windows with
 * `windows->nr` whole pageblocks and `pages` frames more, which end up to `reach` pageblocks behind their first.
 */
bool berth__hopeless(const struct berth_choice *choice, uint32_t number, uint32_t span,
		     const struct berth_inner *windows, uint64_t pages, uint32_t reach);
/*
 * Better bounds, from the chunks of the pageblocks at the ends: of those that a window contains wholly, wherever in
 * one of its first pageblock's chunks it begins. Which of these chunks are worth a look? A bit for each. O(chunks of
 * three pageblocks), without a look at a frame. Only where berth__has_chunks(). Takes Z.
 */
unsigned berth__chunks_worth_a_look(const struct berth_choice *choice, uint32_t number,
				    const struct berth_inner *inner);

#endif
