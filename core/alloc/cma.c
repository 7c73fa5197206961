/* SPDX-License-Identifier: MIT */
/*
 * CMA areas: declaring them, and claiming the range that alloc/range.c chooses.
 *
 * I1  A set bit of the bitmap: some claim of the area covers a frame of the bit's 2^order_per_bit.
 * I2  claimed_pages of an area = frames of its claims.
 */
#include "core/internal.h"

#define FIRST_PAUSE_NS 50000ull /* between rounds of tries; doubles */
#define LONGEST_PAUSE_NS 1600000ull
#define REPORT_EDGES 64u /* pageblocks that a failed claim's report looks at by frames, each run */

/* ---- The bitmap ---------------------------------------------------------------------------------- */

size_t berth_cma_bitmap_bytes(uint64_t nr_pages, unsigned order_per_bit)
{
	uint64_t bits;

	if (order_per_bit > BERTH_MAX_ORDER_LIMIT || !nr_pages)
		return 0;
	bits = ((nr_pages - 1) >> order_per_bit) + 1;
	return (size_t)((bits + 63) / 64 * sizeof(uint64_t));
}

/* ---- Declaring ------------------------------------------------------------------------------------ */

static bool same_name(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

uint64_t *berth_cma_bitmap(const struct berth_cma *area)
{
	return area->bitmap;
}

struct berth_cma *berth_cma_find(struct berth_zone *zone, const char *name)
{
	if (!name)
		return NULL;
	for (unsigned i = 0; i < zone->nr_areas; i++)
		if (same_name(zone->areas[i].name, name))
			return &zone->areas[i];
	return NULL;
}

/* Z. Every pageblock of the range is managed, free and of no area. */
static int check_declarable_locked(const struct berth_zone *zone, berth_idx_t start,
				   berth_idx_t end)
{
	berth_idx_t size = berth__pages(zone->pageblock_order);
	int error = 0;

	for (berth_idx_t idx = start; idx < end; idx += size) {
		const struct berth_pageblock *pageblock = berth__pageblock(zone, idx);

		if (pageblock->home_set >= BERTH_CMA)
			return -BERTH_EEXIST;
		if (pageblock->nr_managed != size)
			return -BERTH_EINVAL;
		if (berth__nr_free(pageblock) != size ||
		    berth__pageblock_set(pageblock) == BERTH_ISOLATE)
			error = -BERTH_EBUSY;
	}
	return error;
}

/* Z. Moves the free pageblocks of [start, end) to another set. */
static void retag_locked(struct berth_zone *zone, berth_idx_t start, berth_idx_t end, unsigned set)
{
	berth_idx_t size = berth__pages(zone->pageblock_order);

	for (berth_idx_t idx = start; idx < end;) {
		berth_idx_t head = berth__head(zone, idx);

		idx += berth__buddy_carve_locked(zone, head, idx, end);
	}
	for (berth_idx_t idx = start; idx < end; idx += size)
		berth__pageblock_home_locked(zone, berth__pageblock(zone, idx), set);
	berth__buddy_free_range_locked(zone, start, end);
}

int berth_cma_declare(struct berth_zone *zone, const struct berth_cma_params *params,
		      struct berth_cma **out)
{
	struct berth_cma *area;
	berth_idx_t start, end, size = berth__pages(zone->pageblock_order);
	int error;

	if (!params || !params->name || !params->bitmap || !params->nr_pages || !out ||
	    params->order_per_bit > zone->pageblock_order || params->lend > BERTH_LEND_OFF ||
	    !berth__idx(zone, params->start_pfn, params->nr_pages, &start) ||
	    ((start | params->nr_pages) & (size - 1)))
		return -BERTH_EINVAL;
	end = start + (berth_idx_t)params->nr_pages;
	if (berth_cma_find(zone, params->name))
		return -BERTH_EEXIST;
	berth_pcp_drain_all(zone); /* a cached frame would make its pageblock look used */
	berth_lock(&zone->lock);
	error = check_declarable_locked(zone, start, end);
	if (!error && zone->nr_areas == zone->max_areas)
		error = -BERTH_ENOSPC;
	if (!error) {
		area = &zone->areas[zone->nr_areas];
		area->zone = zone;
		area->name = params->name;
		area->start = start;
		area->end = end;
		area->order_per_bit = params->order_per_bit;
		area->set = BERTH_CMA + zone->nr_areas;
		area->lend = params->lend;
		area->bitmap = params->bitmap;
		/* Only what is lent first is cached: a cached frame is used before other memory. */
		if (area->lend == BERTH_LEND_FIRST)
			zone->pcp_list_of_set[area->set] = BERTH_PCP_CMA;
		retag_locked(zone, start, end, area->set);
		zone->nr_areas++;
		*out = area;
	}
	berth_unlock(&zone->lock);
	return error;
}

/* ---- Claiming --------------------------------------------------------------------------------------- */

/* One round: the cheapest range, then the next, until one works or none is left. A. */
static int try_ranges(struct berth_search *search, const struct berth_claim_params *params,
		      struct berth_claim_report *report, berth_idx_t *start)
{
	struct berth_zone *zone = search->area->zone;

	search->nr_avoid = 0;
	for (;;) {
		uint64_t began = berth__now(zone);
		bool found = berth__choose_range(search, start);
		int error;

		report->phase_ns[BERTH_PHASE_SEARCH] += berth__now(zone) - began;
		if (!found)
			return berth__explain_range(search, report);
		error = berth__claim_range(zone, *start, *start + search->nr, BERTH_TAG_AREA,
					   params, report);
		if (error != -BERTH_EBUSY || search->nr_avoid == BERTH_CLAIM_TRIES ||
		    report->blocker_pfn == BERTH_PFN_NONE)
			return error;
		search->avoid[search->nr_avoid++] = (berth_idx_t)(report->blocker_pfn -
								  zone->base_pfn);
	}
}

static int claim_locked(struct berth_cma *area, const struct berth_claim_params *params,
			berth_idx_t *start, struct berth_claim_report *report)
{
	struct berth_search search;
	int error = berth__search_init(&search, area, params);

	if (error)
		return error;
	error = try_ranges(&search, params, report, start);
	if (error)
		return error;
	berth__bitmap_set(area, *start, *start + search.nr, true);
	atomic_fetch_add_explicit(&area->claimed_pages, search.nr, memory_order_relaxed);
	return 0;
}

/* Claims, and tries again until the deadline while somebody holds what is needed. */
static int claim_until_deadline(struct berth_cma *area, const struct berth_claim_params *params,
				berth_idx_t *start, struct berth_claim_report *report)
{
	struct berth_zone *zone = area->zone;
	uint64_t pause_ns = FIRST_PAUSE_NS;
	int error;

	for (;;) {
		berth_mutex_lock(&area->lock);
		error = claim_locked(area, params, start, report);
		berth_mutex_unlock(&area->lock);
		if (error != -BERTH_EBUSY || !params->deadline_ns ||
		    params->flags & BERTH_CLAIM_NORETRY)
			return error;
		if (berth__now(zone) >= params->deadline_ns)
			return -BERTH_EAGAIN; /* waited as long as was allowed */
		zone->port->wait(zone->port_ctx, pause_ns);
		if (pause_ns < LONGEST_PAUSE_NS)
			pause_ns *= 2;
	}
}

int berth_cma_alloc(struct berth_cma *area, const struct berth_claim_params *params,
		    berth_pfn_t *pfn, struct berth_claim_report *report)
{
	const unsigned all_flags = BERTH_CLAIM_FIRST_FIT | BERTH_CLAIM_FREE_ONLY |
				   BERTH_CLAIM_NORETRY;
	struct berth_zone *zone = area->zone;
	struct berth_claim_report own;
	berth_idx_t start = 0;
	int error;

	if (!report)
		report = &own;
	*report = (struct berth_claim_report){ .area = area->name, .blocker_pfn = BERTH_PFN_NONE };
	if (!params || !pfn || !params->nr_pages || params->align_order > zone->max_order ||
	    (params->flags & ~all_flags))
		return report->error = -BERTH_EINVAL;
	report->nr_pages = params->nr_pages;
	error = claim_until_deadline(area, params, &start, report);
	atomic_fetch_add_explicit(error ? &area->claims_failed : &area->claims_ok, 1,
				  memory_order_relaxed);
	report->error = error;
	if (error)
		berth__largest_runs(area, REPORT_EDGES, &report->largest_free_pages,
				    &report->largest_claimable_pages);
	else
		*pfn = berth__pfn(zone, start);
	return error;
}

int berth_cma_release(struct berth_cma *area, berth_pfn_t pfn, uint64_t nr_pages)
{
	struct berth_zone *zone = area->zone;
	berth_idx_t start;
	int error;

	if (!nr_pages || !berth__idx(zone, pfn, nr_pages, &start) || start < area->start ||
	    start >= area->end || nr_pages > area->end - start)
		return -BERTH_EINVAL;
	berth_mutex_lock(&area->lock);
	error = berth__release_range(zone, start, nr_pages, BERTH_TAG_AREA);
	if (!error) {
		berth__bitmap_set(area, start, start + (berth_idx_t)nr_pages, false);
		atomic_fetch_sub_explicit(&area->claimed_pages, nr_pages, memory_order_relaxed);
		atomic_fetch_add_explicit(&area->releases, 1, memory_order_relaxed);
	}
	berth_mutex_unlock(&area->lock);
	return error;
}

/* ---- Statistics -------------------------------------------------------------------------------------- */

void berth_cma_stats_brief(struct berth_cma *area, struct berth_cma_stats *stats)
{
	struct berth_zone *zone = area->zone;

	*stats = (struct berth_cma_stats){
		.name = area->name,
		.start_pfn = berth__pfn(zone, area->start),
		.nr_pages = area->end - area->start,
		.claimed_pages = atomic_load_explicit(&area->claimed_pages, memory_order_relaxed),
		.claims_ok = atomic_load_explicit(&area->claims_ok, memory_order_relaxed),
		.claims_failed = atomic_load_explicit(&area->claims_failed, memory_order_relaxed),
		.releases = atomic_load_explicit(&area->releases, memory_order_relaxed),
	};
	berth_lock(&zone->lock);
	stats->free_pages = zone->sets[area->set].nr_free;
	berth_unlock(&zone->lock);
	/* A claim in progress has frames in neither count. */
	if (stats->claimed_pages + stats->free_pages < stats->nr_pages)
		stats->lent_pages = stats->nr_pages - stats->claimed_pages - stats->free_pages;
}

void berth_cma_stats(struct berth_cma *area, struct berth_cma_stats *stats)
{
	berth_cma_stats_brief(area, stats);
	berth__largest_runs(area, BERTH_ALL_EDGES, &stats->largest_free_pages,
			    &stats->largest_claimable_pages);
}
