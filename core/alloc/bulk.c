/* SPDX-License-Identifier: MIT */
/*
 * Many claims of one size in one call.
 *
 * A range for as many of them as possible is claimed like a single one, and cut up at the moment when it
 * becomes a claim: one search, one isolation, one drain and one look for blockers a range. What is free
 * is taken first, range by range down to a pageblock, since it costs nothing; then borrowers are moved
 * out of the cheapest ranges.
 *
 * I1  Each claim begins at a multiple of the stride from its range's start: so at its alignment, and
 *     at a bit of the area's bitmap. What the strides leave over is free.
 * I2  The windows tried are at most 2 log2(nr) more than those claimed, plus the tries of the last one.
 *
 * Complexity: as a claim for each range, plus O(1) for each claim in it.
 */
#include "core/alloc/claims.h"
#include "core/alloc/internal.h"
#include "core/stats.h"

struct bulk {
	struct berth_cma *area;
	struct berth_claim_params params; /* of one window */
	berth_idx_t nr_pages, stride;
	unsigned nr, have;
	berth_pfn_t *pfns;
	struct berth_claim_report *report;
};

/* One range for so many of them. */
static int claim_window(struct bulk *bulk, unsigned many, bool free_only)
{
	struct berth_zone *zone = bulk->area->zone;
	struct berth_attempt attempt;
	int error;

	bulk->params.nr_pages = (uint64_t)(many - 1) * bulk->stride + bulk->nr_pages;
	error = berth__attempt_init(&attempt, bulk->area, &bulk->params, bulk->report);
	if (error)
		return error;
	attempt.how.pieces.nr_pages = bulk->nr_pages;
	attempt.how.pieces.stride = bulk->stride;
	attempt.search.free_only |= free_only;
	attempt.explain = many == 1 && !free_only;
	if (attempt.explain) {
		error = berth__attempt_run(&attempt);
	} else { /* smaller ones come after it: nobody is waited for */
		do
			error = berth__attempt_step(&attempt);
		while (error > 0);
	}
	for (unsigned i = 0; !error && i < many; i++)
		bulk->pfns[bulk->have++] = berth__pfn(zone, attempt.start + i * bulk->stride);
	return error;
}

/* Windows for all that is left, then for half as many, and so on, down to `least`. */
static int claim_windows(struct bulk *bulk, unsigned least, bool free_only)
{
	uint64_t area_pages = bulk->area->end - bulk->area->start;
	unsigned many = bulk->nr - bulk->have;
	int error = 0;

	if (many > area_pages / bulk->stride + 1)
		many = (unsigned)(area_pages / bulk->stride) + 1;
	while (bulk->have < bulk->nr) {
		if (many > bulk->nr - bulk->have)
			many = bulk->nr - bulk->have;
		error = claim_window(bulk, many, free_only);
		if (!error)
			continue;
		if (bulk->report->reason == BERTH_CLAIM_DEADLINE || many <= least)
			break;
		many = many / 2 < least ? least : many / 2;
	}
	return error;
}

static void undo(struct bulk *bulk)
{
	int error = berth_cma_release_bulk(bulk->area, bulk->pfns, bulk->have, bulk->nr_pages);

	BERTH_ASSERT(bulk->area->zone, !error, bulk->have, 0);
	bulk->have = 0;
}

int berth_cma_alloc_bulk(struct berth_cma *area, const struct berth_claim_params *params,
			 unsigned nr, berth_pfn_t *pfns, unsigned flags,
			 struct berth_claim_report *report)
{
	uint64_t began_ns = berth__timing_begin(area->zone);
	struct bulk bulk = { .area = area, .nr = nr, .pfns = pfns };
	struct berth_claim_report own;
	berth_idx_t grain, per_pageblock;
	int error;

	bulk.report = report ? report : &own;
	*bulk.report = (struct berth_claim_report){ .area = area->name,
						    .blocker_pfn = BERTH_PFN_NONE };
	if (!pfns || !nr || nr > INT32_MAX || !berth__claim_params_valid(area, params) ||
	    (flags & ~(unsigned)BERTH_BULK_AS_MANY_AS_POSSIBLE))
		return bulk.report->error = -BERTH_EINVAL;
	BERTH_TRACE(area->zone, bulk_start, area->name, params, nr);
	bulk.params = *params;
	bulk.report->nr_pages = nr * params->nr_pages;
	grain = berth__pages(params->align_order > area->order_per_bit ? params->align_order :
									 area->order_per_bit);
	error = params->nr_pages > area->end - area->start ? -BERTH_E2BIG : 0;
	if (!error) {
		bulk.nr_pages = (berth_idx_t)params->nr_pages;
		bulk.stride = (bulk.nr_pages + grain - 1) & ~(grain - 1);
		per_pageblock = berth__pages(area->zone->pageblock_order) / bulk.stride;
		error = claim_windows(&bulk, per_pageblock ? per_pageblock : 1, true);
		if (bulk.have < nr)
			error = claim_windows(&bulk, 1, false);
	}
	if (bulk.have < nr && !(flags & BERTH_BULK_AS_MANY_AS_POSSIBLE))
		undo(&bulk);
	berth__claim_ended(area, bulk.report, bulk.have < nr ? error : 0, bulk.have, began_ns);
	BERTH_TRACE(area->zone, bulk_finish, area->name, params,
		    bulk.have ? pfns[0] : BERTH_PFN_NONE, bulk.have, bulk.have ? 0 : error);
	return bulk.have ? (int)bulk.have : error;
}
