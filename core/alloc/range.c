/* SPDX-License-Identifier: MIT */
/*
 * Range choice: where in an area a claim is cheapest.
 *
 * Cost of a range = frames that would have to move: managed - free, by the pageblocks' counters for
 * whole pageblocks, frame block by frame block at the edges and for requests below a pageblock. A
 * range with a claim or a pin in it can't be chosen. Requests of a pageblock and more are placed on
 * pageblock boundaries if possible: one sliding sum, O(pageblocks), which ends at the first range
 * that costs nothing. Otherwise the first range that works at the request's own alignment,
 * O(blocks). Requests below a pageblock prefer pageblocks that are shredded already.
 */
#include "core/internal.h"

/* ---- The bitmap ---------------------------------------------------------------------------------- */

static uint64_t bits_in_word(uint64_t first, uint64_t last)
{
	uint64_t from = first & 63, to = last & 63;

	return (~0ull << from) & (~0ull >> (63 - to));
}

/*
 * Bits of the frames [start, end), both inside the area. Without a lock: claims begin at multiples of a
 * bit, so none shares a bit with another, and only the words at its ends.
 */
void berth__bitmap_set(struct berth_cma *area, berth_idx_t start, berth_idx_t end, bool value)
{
	_Atomic uint64_t *bitmap = (_Atomic uint64_t *)area->bitmap;
	uint64_t first = (uint64_t)(start - area->start) >> area->order_per_bit;
	uint64_t last = (uint64_t)(end - 1 - area->start) >> area->order_per_bit;

	for (uint64_t word = first / 64; word <= last / 64; word++) {
		uint64_t from = word == first / 64 ? first : word * 64;
		uint64_t to = word == last / 64 ? last : word * 64 + 63;
		uint64_t bits = bits_in_word(from, to);

		if (bits == ~0ull) /* nobody else's bits are in it */
			atomic_store_explicit(&bitmap[word], value ? bits : 0,
					      memory_order_relaxed);
		else if (value)
			atomic_fetch_or_explicit(&bitmap[word], bits, memory_order_relaxed);
		else
			atomic_fetch_and_explicit(&bitmap[word], ~bits, memory_order_relaxed);
	}
}

/* ---- The search ------------------------------------------------------------------------------------ */

#define COST_BLOCKED UINT64_MAX

static berth_idx_t align_up(const struct berth_search *search, berth_idx_t idx)
{
	/* base_pfn is a multiple of the largest block, so of any alignment. */
	return (idx + search->align - 1) & ~(search->align - 1);
}

int berth__search_init(struct berth_search *search, struct berth_cma *area,
		       const struct berth_claim_params *params)
{
	berth_idx_t first;

	if (params->nr_pages > area->end - area->start)
		return -BERTH_E2BIG;
	*search = (struct berth_search){
		.area = area,
		.nr = (berth_idx_t)params->nr_pages,
		.align = berth__pages(params->align_order),
		.first_fit = params->flags & BERTH_CLAIM_FIRST_FIT,
		.free_only = params->flags & BERTH_CLAIM_FREE_ONLY,
	};
	first = align_up(search, area->start);
	if (first >= area->end || area->end - first < params->nr_pages)
		return -BERTH_E2BIG;
	return 0;
}

static bool avoided(const struct berth_search *search, berth_idx_t start, berth_idx_t end)
{
	for (unsigned i = 0; i < search->nr_avoid; i++)
		if (search->avoid[i] >= start && search->avoid[i] < end)
			return true;
	return false;
}

/* Frames to move out of one whole pageblock. */
static uint64_t pageblock_cost(const struct berth_search *search, berth_idx_t idx)
{
	const struct berth_zone *zone = search->area->zone;
	const struct berth_pageblock *pageblock = berth__pageblock(zone, idx);

	if (berth__nr_claimed(pageblock) ||
	    (search->free_only && berth__nr_free(pageblock) != pageblock->nr_managed) ||
	    (!search->ignore_pins &&
	     (berth__pageblock_set(pageblock) == BERTH_ISOLATE ||
	      (search->busy_clock && berth__is_busy(pageblock, search->busy_clock)) ||
	      atomic_load_explicit(&pageblock->nr_pinned, memory_order_relaxed) ||
	      avoided(search, idx, idx + berth__pages(zone->pageblock_order)))))
		return COST_BLOCKED;
	return pageblock->nr_managed - berth__nr_free(pageblock);
}

/*
 * Frames to move out of [start, end), block by block. COST_BLOCKED: *next is the first index from
 * which a range can avoid the blocker. Z.
 */
static uint64_t exact_cost_locked(const struct berth_search *search, berth_idx_t start,
				  berth_idx_t end, berth_idx_t *next)
{
	const struct berth_zone *zone = search->area->zone;
	const struct berth_isolation *other = berth__isolation_in_locked(zone, start, end);
	berth_idx_t size = berth__pages(zone->pageblock_order);
	uint64_t cost = 0;

	if (other && !search->ignore_pins) {
		*next = other->end;
		return COST_BLOCKED;
	}
	for (berth_idx_t idx = start; idx < end;) {
		berth_idx_t head, block_end, from = idx;
		uint32_t tag;

		if (search->busy_clock && !(idx & (size - 1) && idx != start) &&
		    berth__is_busy(berth__pageblock(zone, idx), search->busy_clock)) {
			*next = (idx & ~(size - 1)) + size;
			return COST_BLOCKED;
		}

		if (!(idx & (size - 1)) && end - idx >= size) {
			uint64_t whole = pageblock_cost(search, idx); /* once: it may change */

			if (whole != COST_BLOCKED) {
				cost += whole;
				idx += size;
				continue;
			}
		}
		head = berth__head(zone, idx);
		if (head == BERTH_IDX_NONE) { /* on its way through a per-CPU list */
			cost++;
			idx++;
			continue;
		}
		tag = berth__tag(&zone->frames[head]);
		block_end = head + berth__pages(berth__tag_order(tag));
		idx = block_end < end ? block_end : end;
		if (berth__tag_kind(tag) == BERTH_FRAME_CLAIMED ||
		    (search->free_only && berth__tag_kind(tag) != BERTH_FRAME_FREE) ||
		    (berth__tag_kind(tag) == BERTH_FRAME_USED && !search->ignore_pins &&
		     (atomic_load_explicit(&zone->frames[head].refcount, memory_order_relaxed) > 1 ||
		      avoided(search, head, block_end)))) {
			*next = block_end;
			return COST_BLOCKED;
		}
		if (berth__tag_kind(tag) != BERTH_FRAME_FREE)
			cost += idx - from;
	}
	return cost;
}

/* Distance of possible starts. */
static berth_idx_t grain(const struct berth_search *search)
{
	berth_idx_t bit = berth__pages(search->area->order_per_bit);

	return bit > search->align ? bit : search->align;
}

/* The first range that isn't blocked, with a start in [*start, limit) at multiples of step. Z. */
static uint64_t next_range_locked(const struct berth_search *search, berth_idx_t *start,
				  berth_idx_t limit, berth_idx_t step)
{
	const struct berth_cma *area = search->area;
	berth_idx_t next = 0;

	*start = (*start + step - 1) & ~(step - 1);
	while (*start < limit && area->end - *start >= search->nr) {
		uint64_t cost = exact_cost_locked(search, *start, *start + search->nr, &next);

		if (cost != COST_BLOCKED)
			return cost;
		*start = (next + step - 1) & ~(step - 1);
	}
	return COST_BLOCKED;
}

/* Pageblock-aligned ranges by a sliding sum. */
static uint64_t search_pageblocks(const struct berth_search *search, berth_idx_t *best)
{
	const struct berth_cma *area = search->area;
	const struct berth_zone *zone = area->zone;
	berth_idx_t size = berth__pages(zone->pageblock_order);
	berth_idx_t window = (search->nr + size - 1) & ~(size - 1);
	berth_idx_t entered = area->start, start = align_up(search, area->start);
	uint64_t cost = 0, best_cost = COST_BLOCKED;
	unsigned blocked = 0;

	while (start >= area->start && start < area->end && area->end - start >= window) {
		if (entered < start) /* at first, or past what the alignment skips */
			entered = start;
		for (; entered < start + window; entered += size) {
			uint64_t one = pageblock_cost(search, entered);

			blocked += one == COST_BLOCKED;
			cost += one == COST_BLOCKED ? 0 : one;
		}
		if (!blocked && cost < best_cost) {
			best_cost = cost;
			*best = start;
			if (cost == 0 || search->first_fit)
				break;
		}
		for (berth_idx_t left = 0; left < search->align || left == 0;
		     left += size, start += size) {
			uint64_t one = start < entered ? pageblock_cost(search, start) : 0;

			/* The counters move under us: never let the sum run below zero. */
			if (one == COST_BLOCKED)
				blocked -= blocked > 0;
			else
				cost -= one < cost ? one : cost;
		}
	}
	return best_cost;
}

/*
 * The cheapest range that starts in a pageblock, at four starts for each length of the request
 * (search_any() looks at all). Z.
 */
static uint64_t search_pageblock_locked(const struct berth_search *search, berth_idx_t first,
					berth_idx_t *best)
{
	berth_idx_t limit = first + berth__pages(search->area->zone->pageblock_order);
	berth_idx_t step = grain(search), start = first;
	berth_idx_t quarter = berth__pages(31 - (unsigned)__builtin_clz(search->nr)) / 4;
	uint64_t best_cost = COST_BLOCKED;

	if (step < quarter)
		step = quarter;
	while (best_cost) {
		uint64_t cost = next_range_locked(search, &start, limit, step);

		if (cost == COST_BLOCKED)
			break;
		if (cost < best_cost) {
			best_cost = cost;
			*best = start;
		}
		start++;
	}
	return best_cost;
}

/*
 * Requests below a pageblock: the cheapest range, and among equals one in the pageblock with the
 * most claims, then with the fewest free frames.
 */
static uint64_t search_small(const struct berth_search *search, berth_idx_t *best)
{
	const struct berth_cma *area = search->area;
	struct berth_zone *zone = area->zone;
	berth_idx_t size = berth__pages(zone->pageblock_order);
	uint64_t best_cost = COST_BLOCKED;
	uint64_t best_rank = 0;

	for (berth_idx_t idx = area->start; idx < area->end; idx += size) {
		const struct berth_pageblock *pageblock = berth__pageblock(zone, idx);
		uint64_t rank = (uint64_t)berth__nr_claimed(pageblock) * size +
				(size - berth__nr_free(pageblock));
		uint64_t least = search->nr > berth__nr_free(pageblock) ?
					 search->nr - berth__nr_free(pageblock) :
					 0;
		berth_idx_t start = idx;
		uint64_t cost = COST_BLOCKED;

		/* Can't be better: don't walk its frames. */
		if (pageblock->nr_managed - berth__nr_claimed(pageblock) < search->nr ||
		    least > best_cost || (least == best_cost && rank <= best_rank))
			continue;
		berth_lock(&zone->lock);
		cost = search_pageblock_locked(search, idx, &start);
		berth_unlock(&zone->lock);
		if (cost == COST_BLOCKED ||
		    !(cost < best_cost || (cost == best_cost && rank > best_rank)))
			continue;
		best_cost = cost;
		best_rank = rank;
		*best = start;
		if (search->first_fit)
			break;
	}
	return best_cost;
}

/* Any range at all, for requests that find none on pageblock boundaries. */
static uint64_t search_any(const struct berth_search *search, berth_idx_t *best)
{
	struct berth_zone *zone = search->area->zone;
	uint64_t cost;

	*best = search->area->start;
	berth_lock(&zone->lock);
	cost = next_range_locked(search, best, search->area->end, grain(search));
	berth_unlock(&zone->lock);
	return cost;
}

static bool choose(const struct berth_search *search, berth_idx_t *best)
{
	const struct berth_zone *zone = search->area->zone;
	uint64_t cost = COST_BLOCKED;

	if (search->nr < berth__pages(zone->pageblock_order))
		cost = search_small(search, best);
	else
		cost = search_pageblocks(search, best);
	if (cost == COST_BLOCKED)
		cost = search_any(search, best);
	return cost != COST_BLOCKED;
}

bool berth__choose_range(const struct berth_search *search, berth_idx_t *best)
{
	struct berth_search all = *search;

	if (choose(search, best))
		return true;
	all.busy_clock = 0; /* then also where a claim was refused lately */
	return search->busy_clock && choose(&all, best);
}

/* ---- Why there is none ------------------------------------------------------------------------------ */

/* Nothing can be chosen: because of claims, or because of pins, and whose? */
int berth__explain_range(const struct berth_search *search, struct berth_claim_report *report)
{
	struct berth_zone *zone = search->area->zone;
	struct berth_search probe = *search;
	berth_idx_t start;

	probe.free_only = false;
	probe.busy_clock = 0;
	if (search->free_only && berth__choose_range(&probe, &start))
		return -BERTH_EAGAIN; /* moving borrowers would make room */
	probe.ignore_pins = true;
	if (!berth__choose_range(&probe, &start))
		return -BERTH_ENOSPC;
	if (report->blocker_pfn != BERTH_PFN_NONE)
		return -BERTH_EBUSY; /* known from a try */
	berth_lock(&zone->lock);
	for (berth_idx_t idx = start; idx < start + search->nr;) {
		berth_idx_t head = berth__head(zone, idx);
		const struct berth_frame *frame;

		if (head == BERTH_IDX_NONE) {
			idx++;
			continue;
		}
		frame = &zone->frames[head];
		idx = head + berth__pages(berth__tag_order(berth__tag(frame)));
		if (berth__tag_kind(berth__tag(frame)) == BERTH_FRAME_USED &&
		    atomic_load_explicit(&frame->refcount, memory_order_relaxed) > 1) {
			berth__blocked_by(zone, head, report);
			report->busy_blocks++;
			break;
		}
	}
	if (report->blocker_pfn == BERTH_PFN_NONE) {
		report->blocker_pfn = berth__pfn(zone, start);
		report->blocker_pages = search->nr;
		report->blocker_owner = "another claim in progress";
	}
	berth_unlock(&zone->lock);
	berth__ask_holder(zone, report);
	return -BERTH_EBUSY;
}

/* ---- The largest runs -------------------------------------------------------------------------------- */

/* Runs that grow while blocks of their kind follow each other. */
struct runs {
	uint64_t free, free_best, claimable, claimable_best;
};

static void extend(struct runs *runs, uint64_t nr, bool is_free, bool is_claimable)
{
	runs->free = is_free ? runs->free + nr : 0;
	runs->claimable = is_claimable ? runs->claimable + nr : 0;
	if (runs->free > runs->free_best)
		runs->free_best = runs->free;
	if (runs->claimable > runs->claimable_best)
		runs->claimable_best = runs->claimable;
}

/* One pageblock's blocks; whole ones are judged by their counters. Z. */
static void extend_by_pageblock_locked(const struct berth_cma *area, berth_idx_t first,
				       struct runs *runs)
{
	const struct berth_zone *zone = area->zone;
	const struct berth_pageblock *pageblock = berth__pageblock(zone, first);
	berth_idx_t size = berth__pages(zone->pageblock_order);
	bool pinned = atomic_load_explicit(&pageblock->nr_pinned, memory_order_relaxed);

	if (berth__nr_free(pageblock) == size || berth__nr_claimed(pageblock) == size ||
	    (!berth__nr_free(pageblock) && !berth__nr_claimed(pageblock) && !pinned)) {
		extend(runs, size, berth__nr_free(pageblock), !berth__nr_claimed(pageblock));
		return;
	}
	for (berth_idx_t idx = first; idx < first + size;) {
		berth_idx_t head = berth__head(zone, idx), next = idx + 1;
		uint32_t tag = head == BERTH_IDX_NONE ? 0 : berth__tag(&zone->frames[head]);
		bool held = berth__tag_kind(tag) == BERTH_FRAME_CLAIMED;

		if (head != BERTH_IDX_NONE)
			next = head + berth__pages(berth__tag_order(tag));
		if (next > first + size)
			next = first + size;
		if (berth__tag_kind(tag) == BERTH_FRAME_USED)
			held = atomic_load_explicit(&zone->frames[head].refcount,
						    memory_order_relaxed) > 1;
		extend(runs, next - idx, berth__tag_kind(tag) == BERTH_FRAME_FREE, !held);
		idx = next;
	}
}

void berth__largest_runs(struct berth_cma *area, uint64_t *free, uint64_t *claimable)
{
	struct berth_zone *zone = area->zone;
	struct runs runs = { 0 };

	for (berth_idx_t idx = area->start; idx < area->end;
	     idx += berth__pages(zone->pageblock_order)) {
		berth_lock(&zone->lock);
		extend_by_pageblock_locked(area, idx, &runs);
		berth_unlock(&zone->lock);
	}
	*free = runs.free_best;
	*claimable = runs.claimable_best;
}
