/* SPDX-License-Identifier: MIT */
/*
 * CMA areas: declaring them, and claiming the range that alloc/range.c chooses.
 *
 * I1  A set bit of the bitmap: some claim of the area covers a frame of the bit's 2^order_per_bit.
 * I2  claimed_pages of an area, the sum of its tallies, = frames of its claims.
 *
 * An area has no lock. The search looks at counters that change under it; whose a range is, is decided
 * under zone->lock when it is taken or fenced off (motion/isolate.c), and the slower of two searches
 * again. So claims of different areas, and of disjoint ranges of one, only meet in zone->lock, for
 * O(blocks) at the beginning and at the end and for O(blocks of a pageblock) in between. Claims of whole
 * pageblocks that are free don't meet there either (frames/stock.c); and who claims as much again as it
 * did last time looks for it there first, without a search.
 */
#include "core/alloc/claims.h"
#include "core/alloc/internal.h"
#include "core/stats.h"

#define FIRST_PAUSE_NS 50000ull /* between rounds of tries; doubles */
#define LONGEST_PAUSE_NS 1600000ull
#define REPORT_EDGES 64u /* pageblocks that a failed claim's report looks at by frames, each run */
#define MAX_CONFLICTS 256u /* searches of one round that another claim made vain */

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

/* Z. Every pageblock of the range is managed, of no area, and free or together one claim. */
static int check_declarable_locked(const struct berth_zone *zone, berth_idx_t start,
				   berth_idx_t end)
{
	berth_idx_t size = berth__pages(zone->pageblock_order);
	bool claimed = berth__is_claim_locked(zone, start, end - start, 0);
	int error = 0;

	for (berth_idx_t idx = start; idx < end; idx += size) {
		const struct berth_pageblock *pageblock = berth__pageblock(zone, idx);

		if (pageblock->home_set >= BERTH_CMA)
			return -BERTH_EEXIST;
		if (berth__nr_managed(pageblock) != size)
			return -BERTH_EINVAL;
		if ((berth__nr_free(pageblock) != size && !claimed) ||
		    berth__pageblock_set(pageblock) == BERTH_ISOLATE)
			error = -BERTH_EBUSY;
	}
	return error;
}

/* Z. Moves the pageblocks of [start, end) to another set: they are free, or all a claim, which ends. */
static void retag_locked(struct berth_zone *zone, berth_idx_t start, berth_idx_t end, unsigned set)
{
	berth_idx_t size = berth__pages(zone->pageblock_order);
	bool claimed = berth__is_claim_locked(zone, start, end - start, 0);

	for (berth_idx_t idx = start; idx < end && !claimed;) {
		berth_idx_t head = berth__head(zone, idx);

		idx += berth__buddy_carve_locked(zone, head, idx, end);
	}
	for (berth_idx_t idx = start; idx < end; idx += size)
		berth__pageblock_home_locked(zone, berth__pageblock(zone, idx), set);
	if (claimed)
		berth__release_claimed_locked(zone, start, end);
	else
		berth__buddy_free_range_locked(zone, start, end);
}

/* Its share of what there is; whatever it gets, each area that can still be declared has one left. Z. */
static void take_tallies_locked(struct berth_zone *zone, struct berth_cma *area)
{
	unsigned nr = berth__tally_share(zone->nr_tallies_left, zone->max_areas - zone->nr_areas,
					 zone->nr_cpus);

	zone->nr_tallies_left -= nr;
	area->tallies = &zone->tallies[zone->nr_tallies_left];
	area->tally_mask = nr - 1;
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
		area->bitmap = params->bitmap;
		take_tallies_locked(zone, area);
		berth__lend_locked(zone, area, params->lend, params->lend_min_pages);
		retag_locked(zone, start, end, area->set);
		zone->nr_areas++;
		atomic_store_explicit(&zone->nr_stocks, zone->nr_areas, memory_order_release);
		*out = area;
	}
	berth_unlock(&zone->lock);
	return error;
}

/* ---- Claiming --------------------------------------------------------------------------------------- */

int berth__attempt_init(struct berth_attempt *attempt, struct berth_cma *area,
			const struct berth_claim_params *params, struct berth_claim_report *report)
{
	int error;

	*attempt = (struct berth_attempt){ .area = area,
					   .params = *params,
					   .report = report,
					   .explain = true,
					   .pause_ns = FIRST_PAUSE_NS };
	attempt->how = berth__emptying_of_claim(&attempt->params, BERTH_TAG_AREA);
	error = berth__search_init(&attempt->search, area, params);
	if (error == -BERTH_E2BIG)
		report->reason = BERTH_CLAIM_TOO_LARGE;
	return error;
}

/* Where the CPU's next claim of this size looks first. */
static void note_last(struct berth_tally *tally, const struct berth_cma *area, berth_idx_t start,
		      berth_idx_t end)
{
	unsigned shift = area->zone->pageblock_order;
	uint64_t last = start >> shift | (uint64_t)((end - start) >> shift) << 32;

	if (!((start | end) & (berth__pages(shift) - 1)) &&
	    atomic_load_explicit(&tally->last, memory_order_relaxed) != last)
		atomic_store_explicit(&tally->last, last, memory_order_relaxed);
}

static void count_claims(struct berth_tally *tally, uint64_t claims, uint64_t nr_pages)
{
	atomic_fetch_add_explicit(&tally->claimed_pages, claims * nr_pages, memory_order_relaxed);
	atomic_fetch_add_explicit(&tally->claims_ok, claims, memory_order_relaxed);
}

/* All is taken: what the area remembers of it. */
static void note_claims(struct berth_cma *area, berth_idx_t start, berth_idx_t end,
			const struct berth_pieces *pieces)
{
	berth_idx_t nr = pieces->nr_pages ? pieces->nr_pages : end - start;
	berth_idx_t stride = pieces->nr_pages ? pieces->stride : end - start;
	berth_idx_t claims = (end - start - 1) / stride + 1;
	struct berth_tally *tally = berth__tally(area);

	if (nr == stride) /* no gaps: a word at a time */
		berth__bitmap_set(area, start, end, true);
	for (berth_idx_t i = 0; nr < stride && i < claims; i++)
		berth__bitmap_set(area, start + i * stride, start + i * stride + nr, true);
	count_claims(tally, claims, nr);
	note_last(tally, area, start, end);
}

/* How often claims of the area have come and gone without the zone lock. */
static uint64_t comings_and_goings(const struct berth_cma *area)
{
	uint64_t sum = 0;

	atomic_thread_fence(memory_order_acquire); /* after what was looked at */
	for (unsigned i = 0; i <= area->tally_mask; i++)
		sum += atomic_load_explicit(&area->tallies[i].turns, memory_order_acquire);
	return sum;
}

/* Another claim was faster, or has just given back what the search missed. */
static int look_again(struct berth_attempt *attempt)
{
	struct berth_claim_report *report = attempt->report;
	struct berth_search *search = &attempt->search;

	/* Elsewhere, so that two that come and go in step don't meet for ever. */
	search->from = attempt->start >= search->lo && attempt->start + search->nr < search->hi ?
			       attempt->start + search->nr :
			       0;
	if (++attempt->conflicts >= MAX_CONFLICTS)
		return -BERTH_EBUSY;
	if (!attempt->search.nr_avoid) /* otherwise an earlier range's blocker is remembered */
		report->blocker_pfn = BERTH_PFN_NONE;
	return 1;
}

/* After a step on a range: is there more to do, is it claimed, or which comes next? */
static int settle_step(struct berth_attempt *attempt, int going)
{
	struct berth_claiming *claiming = &attempt->claiming;
	struct berth_search *search = &attempt->search;
	struct berth_claim_report *report = attempt->report;

	attempt->emptying = going > 0;
	if (attempt->emptying)
		return 1;
	berth__claiming_end(claiming, going);
	if (!going) {
		note_claims(attempt->area, attempt->start, attempt->start + search->nr,
			    &attempt->how.pieces);
		return 0;
	}
	if (claiming->conflict)
		return look_again(attempt);
	if (going != -BERTH_EBUSY || search->nr_avoid == BERTH_CLAIM_TRIES ||
	    report->blocker_pfn == BERTH_PFN_NONE)
		return going;
	BERTH_TRACE(attempt->area->zone, busy_retry, attempt->area->name, &attempt->params,
		    berth__pfn(attempt->area->zone, attempt->start));
	search->avoid[search->nr_avoid++] = (berth_idx_t)(report->blocker_pfn -
							  attempt->area->zone->base_pfn);
	return 1;
}

static int choose_and_begin(struct berth_attempt *attempt)
{
	struct berth_search *search = &attempt->search;
	struct berth_claim_report *report = attempt->report;
	struct berth_zone *zone = attempt->area->zone;
	uint64_t began = berth__now(zone);
	uint64_t turns = comings_and_goings(attempt->area), chosen;
	bool found;

	berth__kept_send_home(zone, attempt->area->start, attempt->area->end);
	search->busy_clock = berth__busy_clock(began);
	found = berth__choose_range(search, &attempt->start);
	chosen = berth__now(zone);
	report->phase_ns[BERTH_PHASE_SEARCH] += chosen - began;
	if (!found) {
		int why = attempt->explain ? berth__explain_range(search, report) : -BERTH_ENOSPC;

		/* What went from here to there while the search looked it saw in neither place. */
		return why > 0 || comings_and_goings(attempt->area) != turns ? look_again(attempt) :
									       why;
	}
	return settle_step(attempt, berth__claiming_begin(&attempt->claiming, zone, attempt->start,
							  attempt->start + search->nr,
							  &attempt->how, report, chosen));
}

int berth__attempt_step(struct berth_attempt *attempt)
{
	if (!attempt->emptying)
		return choose_and_begin(attempt);
	return settle_step(attempt, berth__claiming_step(&attempt->claiming));
}

void berth__attempt_abandon(struct berth_attempt *attempt)
{
	if (attempt->emptying)
		berth__claiming_end(&attempt->claiming, -BERTH_EAGAIN);
	attempt->emptying = false;
}

int berth__attempt_round_failed(struct berth_attempt *attempt, int error, uint64_t *pause_ns)
{
	const struct berth_claim_params *params = &attempt->params;

	if (error != -BERTH_EBUSY || !params->deadline_ns || params->flags & BERTH_CLAIM_NORETRY)
		return error;
	if (berth__now(attempt->area->zone) >= params->deadline_ns) /* the reason is the holder's */
		return -BERTH_EAGAIN; /* waited as long as was allowed */
	*pause_ns = attempt->pause_ns;
	if (attempt->pause_ns < LONGEST_PAUSE_NS)
		attempt->pause_ns *= 2;
	attempt->search.nr_avoid = attempt->conflicts = 0;
	return 1;
}

int berth__attempt_run(struct berth_attempt *attempt)
{
	struct berth_zone *zone = attempt->area->zone;
	uint64_t pause_ns;
	int going;

	for (;;) {
		do
			going = berth__attempt_step(attempt);
		while (going > 0);
		if (going < 0)
			going = berth__attempt_round_failed(attempt, going, &pause_ns);
		if (going <= 0)
			return going;
		zone->port->wait(zone->port_ctx, pause_ns);
	}
}

bool berth__claim_params_valid(const struct berth_cma *area,
			       const struct berth_claim_params *params)
{
	return params && params->nr_pages && params->align_order <= area->zone->max_order &&
	       !(params->flags & ~(unsigned)BERTH_CLAIM_ALL_FLAGS) &&
	       !(params->boundary_pages & (params->boundary_pages - 1)) &&
	       (!params->max_pfn || params->min_pfn <= params->max_pfn);
}

void berth__claim_ended(struct berth_cma *area, struct berth_claim_report *report, int error,
			uint64_t claims, uint64_t began_ns)
{
	struct berth_zone *zone = area->zone;

	report->error = error;
	if (claims)
		berth__count(zone, BERTH_EVENT_CMA_SUCCESS, claims);
	if (!error && began_ns)
		berth__timing_end(zone, BERTH_TIMING_CLAIM, began_ns);
	for (unsigned phase = 0; phase < BERTH_NR_PHASES; phase++)
		if (report->phase_ns[phase])
			berth__timing_add(zone,
					  (enum berth_timing)(BERTH_TIMING_CLAIM_SEARCH + phase),
					  report->phase_ns[phase]);
	if (!error)
		return;
	if (error != -BERTH_E2BIG)
		berth__count(zone, BERTH_EVENT_CMA_FAIL, 1);
	atomic_fetch_add_explicit(&berth__tally(area)->claims_failed, 1, memory_order_relaxed);
	berth__largest_runs(area, REPORT_EDGES, &report->largest_free_pages,
			    &report->largest_claimable_pages);
}

/* Where this CPU's last claim was, if that had the same size and is whole free pageblocks again: it costs
 * nothing, and takes no more of any free run than it did then. */
static bool take_last(struct berth_attempt *attempt)
{
	struct berth_cma *area = attempt->area;
	const struct berth_search *search = &attempt->search;
	unsigned shift = area->zone->pageblock_order;
	uint64_t last = atomic_load_explicit(&berth__tally(area)->last, memory_order_relaxed);
	uint64_t start = (last & UINT32_MAX) << shift, nr = last >> 32 << shift;

	if (nr != search->nr || search->first_fit || !berth__legal_start(search, start) ||
	    !berth__stock_take(area, (berth_idx_t)start, (berth_idx_t)(start + nr),
			       attempt->params.name))
		return false;
	attempt->start = (berth_idx_t)start;
	note_claims(area, attempt->start, attempt->start + search->nr, &attempt->how.pieces);
	return true;
}

/* What this CPU released last, if it is kept: its bits are still set. */
static bool take_kept(struct berth_attempt *attempt)
{
	const struct berth_search *search = &attempt->search;

	if (!berth__kept_take(search, attempt->params.name, &attempt->start))
		return false;
	count_claims(berth__tally(attempt->area), 1, search->nr);
	return true;
}

/* Without a search. */
static bool claim_again(struct berth_attempt *attempt)
{
	if (!take_kept(attempt) && !take_last(attempt))
		return false;
	attempt->report->tries++;
	attempt->report->free_pages_taken += attempt->search.nr;
	return true;
}

int berth_cma_alloc(struct berth_cma *area, const struct berth_claim_params *params,
		    berth_pfn_t *pfn, struct berth_claim_report *report)
{
	uint64_t began_ns = berth__timing_begin(area->zone);
	struct berth_claim_report own;
	struct berth_attempt attempt;
	int error;

	if (!report)
		report = &own;
	*report = (struct berth_claim_report){ .area = area->name, .blocker_pfn = BERTH_PFN_NONE };
	if (!pfn || !berth__claim_params_valid(area, params))
		return report->error = -BERTH_EINVAL;
	report->nr_pages = params->nr_pages;
	BERTH_TRACE(area->zone, start, area->name, params);
	error = berth__attempt_init(&attempt, area, params, report);
	if (!error && !claim_again(&attempt))
		error = berth__attempt_run(&attempt);
	berth__claim_ended(area, report, error, !error, began_ns);
	if (!error)
		*pfn = berth__pfn(area->zone, attempt.start);
	BERTH_TRACE(area->zone, finish, area->name, params, error ? BERTH_PFN_NONE : *pfn, error);
	return error;
}

/* ---- Releasing ---------------------------------------------------------------------------------------- */

/* True when [pfn, pfn + nr_pages) lies in the area. */
static bool in_area(const struct berth_cma *area, berth_pfn_t pfn, uint64_t nr_pages,
		    berth_idx_t *start)
{
	return nr_pages && berth__idx(area->zone, pfn, nr_pages, start) && *start >= area->start &&
	       *start < area->end && nr_pages <= area->end - *start;
}

/* A claim that berth__release_begin() has found. The bits go first: with the frames, the next claim may
 * have set them. */
static void finish_release(struct berth_cma *area, berth_idx_t start, uint64_t nr_pages,
			   bool may_keep)
{
	struct berth_tally *tally = berth__tally(area);

	atomic_fetch_sub_explicit(&tally->claimed_pages, nr_pages, memory_order_relaxed);
	atomic_fetch_add_explicit(&tally->releases, 1, memory_order_relaxed);
	berth__count(area->zone, BERTH_EVENT_CMA_RELEASE, 1);
	if (!may_keep || !berth__kept_put(area, start, nr_pages)) {
		berth__bitmap_set(area, start, start + (berth_idx_t)nr_pages, false);
		berth__release_end(area->zone, start, nr_pages);
	}
	BERTH_TRACE(area->zone, release, area->name, berth__pfn(area->zone, start), nr_pages);
}

int berth_cma_release(struct berth_cma *area, berth_pfn_t pfn, uint64_t nr_pages)
{
	berth_idx_t start;

	if (!in_area(area, pfn, nr_pages, &start) ||
	    !berth__release_begin(area->zone, start, nr_pages, BERTH_TAG_AREA))
		return -BERTH_EINVAL;
	finish_release(area, start, nr_pages, true);
	return 0;
}

int berth_cma_release_bulk(struct berth_cma *area, const berth_pfn_t *pfns, unsigned nr,
			   uint64_t nr_pages)
{
	berth_idx_t start;

	for (unsigned i = 0; i < nr; i++) {
		if (in_area(area, pfns[i], nr_pages, &start) &&
		    berth__release_begin(area->zone, start, nr_pages, BERTH_TAG_AREA))
			continue;
		while (i-- > 0)
			berth__release_undo(area->zone,
					    (berth_idx_t)(pfns[i] - area->zone->base_pfn),
					    BERTH_TAG_AREA);
		return -BERTH_EINVAL;
	}
	for (unsigned i = 0; i < nr; i++)
		finish_release(area, (berth_idx_t)(pfns[i] - area->zone->base_pfn), nr_pages,
			       false);
	return 0;
}

/* ---- Statistics -------------------------------------------------------------------------------------- */

void berth_cma_stats_brief(struct berth_cma *area, struct berth_cma_stats *stats)
{
	struct berth_zone *zone = area->zone;

	*stats = (struct berth_cma_stats){
		.name = area->name,
		.start_pfn = berth__pfn(zone, area->start),
		.nr_pages = area->end - area->start,
		.lend = berth__lend(area),
		.order_per_bit = area->order_per_bit,
		.lend_min_pages = atomic_load_explicit(&area->lend_min_pages, memory_order_relaxed),
	};
	for (unsigned i = 0; i <= area->tally_mask; i++) {
		const struct berth_tally *tally = &area->tallies[i];

		stats->claimed_pages += atomic_load_explicit(&tally->claimed_pages,
							     memory_order_relaxed);
		stats->claims_ok += atomic_load_explicit(&tally->claims_ok, memory_order_relaxed);
		stats->claims_failed += atomic_load_explicit(&tally->claims_failed,
							     memory_order_relaxed);
		stats->releases += atomic_load_explicit(&tally->releases, memory_order_relaxed);
	}
	stats->free_pages = berth__set_free(zone, area->set);
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
