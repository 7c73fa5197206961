/* SPDX-License-Identifier: MIT */
/*
 * Range choice: where in an area a claim is cheapest, by struct berth_cost_model.
 *
 *	partly free   a small claim: the fullest pageblock that has room, there the shortest run of free frames; by
 *	              the allocator's own lists, so that no summary need be up to date, which each claim makes stale
 *	free runs     a run of wholly free pageblocks that fits, the shortest: nothing to compare
 *	aligned       starts on pageblock boundaries, by a sliding sum of the pageblocks' counters
 *	edges         all other starts: a pageblock's are swept block by block (sweep.c), if its counters, and
 *	              then its chunks (bounds.c), say that one of them may be cheaper than the best so far
 *
 * I1  Nothing is passed over by a bound that may be cheaper than the best, until the sweeps have taken EXACT_NS; from
 *     then on nothing that may be cheaper by more than the best's 51st part. So what is chosen costs at most 1.02
 *     times the least, while nothing changes; no time ends the sweeps.
 * I2  "None" is only said when every possible start has been ruled out.
 *
 * Complexity: O(orders) for each of up to 16 partly free pageblocks; O(regions) where no run is long enough,
 * where all is free and where all costs the same; O(pageblocks) at most for aligned starts; a sweep O(blocks of three pageblocks). The zone lock is held
 * for one group or one sweep at a time; the search lock throughout.
 */
#include "core/alloc/range.h"

#define CANDIDATES 16u /* partly free pageblocks that a small request looks at */

/* ---- The bitmap ---------------------------------------------------------------------------------- */

static uint64_t bits_in_word(uint64_t first, uint64_t last)
{
	uint64_t from = first & 63, to = last & 63;

	return (~0ull << from) & (~0ull >> (63 - to));
}

static void change_word(_Atomic uint64_t *word, uint64_t bits, bool value)
{
	if (value)
		atomic_fetch_or_explicit(word, bits, memory_order_relaxed);
	else
		atomic_fetch_and_explicit(word, ~bits, memory_order_relaxed);
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
	uint64_t word = first / 64, last_word = last / 64;
	uint32_t inside;

	change_word(&bitmap[word], bits_in_word(first, word == last_word ? last : 63), value);
	if (word == last_word)
		return;
	inside = (uint32_t)(last_word - word - 1); /* nobody else's bits are in those */
	for (uint32_t k = 0; k < inside; k++)
		atomic_store_explicit(&bitmap[word + 1 + berth__inward(inside, k)],
				      value ? ~0ull : 0, memory_order_relaxed);
	change_word(&bitmap[last_word], bits_in_word(0, last), value);
}

/* ---- Legal starts --------------------------------------------------------------------------------- */

bool berth__legal_start(const struct berth_search *search, uint64_t idx)
{
	return idx >= search->lo && idx + search->nr <= search->hi &&
	       berth__legal_up(search, idx) == idx;
}

int berth__search_init(struct berth_search *search, struct berth_cma *area,
		       const struct berth_claim_params *params)
{
	const struct berth_zone *zone = area->zone;
	berth_pfn_t min = berth__pfn(zone, area->start), max = berth__pfn(zone, area->end - 1);
	berth_idx_t bit = berth__pages(area->order_per_bit);
	uint64_t boundary = params->boundary_pages;

	if (min < params->min_pfn)
		min = params->min_pfn;
	if (params->max_pfn && max > params->max_pfn)
		max = params->max_pfn;
	if (min > max || params->nr_pages > max - min + 1 ||
	    (boundary && params->nr_pages > boundary))
		return -BERTH_E2BIG;
	*search = (struct berth_search){
		.area = area,
		.nr = (berth_idx_t)params->nr_pages,
		.step = berth__pages(params->align_order),
		.lo = (berth_idx_t)(min - zone->base_pfn),
		.hi = (berth_idx_t)(max - zone->base_pfn) + 1,
		.boundary = boundary,
		.first_fit = params->flags & BERTH_CLAIM_FIRST_FIT,
		.free_only = params->flags & BERTH_CLAIM_FREE_ONLY,
		.drop_used = params->flags & BERTH_CLAIM_DROP,
	};
	if (search->step < bit)
		search->step = bit;
	return berth__legal_up(search, search->lo) + search->nr <= search->hi ? 0 : -BERTH_E2BIG;
}

/* ---- The best so far -------------------------------------------------------------------------------- */

/* The last of nr pageblocks that has frames in use and in which a claim was refused lately, or this one
 * before; BERTH_IDX_NONE: there is none. */
static uint32_t last_busy(const struct berth_choice *choice, uint32_t first, uint32_t nr)
{
	const struct berth_zone *zone = choice->zone;
	unsigned shift = zone->pageblock_order;

	if (choice->search->ignore_pins || (!choice->busy_clock && !choice->search->nr_avoid))
		return BERTH_IDX_NONE;
	for (uint32_t number = first + nr; number-- > first;)
		if (zone->loads[number].used &&
		    ((choice->busy_clock &&
		      berth__is_busy(&zone->pageblocks[number], choice->busy_clock)) ||
		     berth__avoided(choice->search, number << shift, (number + 1) << shift)))
			return number;
	return BERTH_IDX_NONE;
}

#define FAR_REACH (2 * BERTH_GROUP) /* windows beyond are summed up, not passed over by group */
#define REGION (BERTH_GROUP * BERTH_GROUP)

/*
 * How many pageblocks from `number` on, of those before `end`, have no start that can be better: whole
 * groups or regions. As berth__hopeless().
 */
static uint32_t pass_over(const struct berth_choice *choice, uint32_t number, uint32_t end,
			  const struct berth_inner *windows, uint64_t pages, uint32_t reach)
{
	uint32_t first = number;

	if (choice->best_cost == BERTH_COST_NONE || windows->nr > FAR_REACH)
		return 0;
	for (; number % BERTH_GROUP == 0 && number < end;) {
		if (number % REGION == 0 && end - number >= REGION &&
		    berth__hopeless(choice, number, REGION, windows, pages, reach))
			number += REGION;
		else if (end - number >= BERTH_GROUP &&
			 berth__hopeless(choice, number, BERTH_GROUP, windows, pages, reach))
			number += BERTH_GROUP;
		else
			break;
	}
	return number - first;
}

/* ---- Free runs --------------------------------------------------------------------------------------- */

/* The shortest run of wholly free pageblocks that has room, from the frame `lo` on. */
static void free_runs(struct berth_choice *choice, berth_idx_t lo)
{
	const struct berth_search *search = choice->search;
	unsigned shift = choice->zone->pageblock_order;
	uint32_t first, end, shortest = UINT32_MAX;
	struct berth_run_walk walk = { .zone = choice->zone,
				       .kind = BERTH_RUN_FREE,
				       .at = lo >> shift,
				       .end = ((search->hi - 1) >> shift) + 1,
				       .least = ((search->nr - 1) >> shift) + 1 };

	while (shortest > walk.least && berth__next_run(&walk, &first, &end)) {
		uint64_t from = (uint64_t)first << shift, to = (uint64_t)end << shift;

		from = berth__legal_up(search, from < lo ? lo : from);
		if (end - first >= shortest || from + search->nr > to ||
		    from + search->nr > search->hi)
			continue;
		shortest = end - first;
		choice->best = (berth_idx_t)from;
		choice->best_cost = 0;
	}
}

/* Pageblocks of one row of the area's buckets, with a free block of 2^order frames and more. */
static unsigned collect(const struct berth_choice *choice, unsigned density, unsigned order,
			uint32_t *numbers)
{
	const struct berth_search *search = choice->search;
	struct berth_zone *zone = choice->zone;
	unsigned set = search->area->set, nr = 0, seen = 0;
	uint32_t orders;

	berth_lock(&zone->lock);
	orders = berth__bucket_orders(&zone->sets[set], density) >> order << order;
	for (; orders; orders &= orders - 1) {
		uint32_t number = *berth__bucket(zone, set, density,
						 (unsigned)__builtin_ctz(orders));

		for (; number != BERTH_IDX_NONE && nr < CANDIDATES && seen < 4 * CANDIDATES;
		     number = zone->pageblocks[number].next, seen++) {
			if (number >= search->lo >> zone->pageblock_order &&
			    number <= (search->hi - 1) >> zone->pageblock_order)
				numbers[nr++] = number;
		}
	}
	berth_unlock(&zone->lock);
	return nr;
}

/* A run of n free frames has a block of at least a quarter of n in it. */
unsigned berth__partial_order(const struct berth_search *search)
{
	unsigned log = 31 - (unsigned)__builtin_clz(search->nr);

	return log > 1 ? log - 1 : 0;
}

/*
 * A request below a pageblock takes free frames of the fullest pageblock that has them: by the lists of
 * the allocator itself.
 */
static void partly_free(struct berth_choice *choice)
{
	struct berth_zone *zone = choice->zone;
	unsigned order = berth__partial_order(choice->search);
	uint32_t numbers[CANDIDATES], most_claimed = 0;
	berth_idx_t shortest = 0;

	for (unsigned density = 0; density < BERTH_DENSITIES && !shortest; density++) {
		const struct berth_list_set *set = &zone->sets[choice->search->area->set];
		unsigned nr = 0;

		if (order < zone->pageblock_order && berth__bucket_orders(set, density) >> order)
			nr = collect(choice, density, order, numbers);
		for (unsigned i = 0; i < nr; i++) {
			uint32_t claimed = berth__nr_claimed(&zone->pageblocks[numbers[i]]);
			berth_idx_t start = 0, length;

			berth_lock(&zone->lock);
			length = berth__free_run_locked(choice, numbers[i], &start);
			berth_unlock(&zone->lock);
			if (!length ||
			    (shortest && (claimed < most_claimed ||
					  (claimed == most_claimed && length >= shortest))))
				continue;
			shortest = length;
			most_claimed = claimed;
			choice->best = start;
			choice->best_cost = 0;
		}
	}
}

/* ---- Starts on pageblock boundaries -------------------------------------------------------------- */

static uint64_t cost_at(const struct berth_choice *choice, uint32_t number)
{
	return choice->zone->loads[number].cost[choice->cost_kind];
}

static struct berth_inner sum_of(const struct berth_choice *choice, uint32_t first, uint32_t nr)
{
	struct berth_inner inner = { .first = first, .nr = nr };

	for (uint32_t i = 0; i < nr; i++)
		inner.cost += cost_at(choice, first + i);
	return inner;
}

/* To the next window, one pageblock on; `end`: there is nothing to add from there on. */
static void step_sum(const struct berth_choice *choice, struct berth_inner *inner, uint32_t end)
{
	inner->cost -= inner->nr ? cost_at(choice, inner->first) : 0;
	if (inner->nr && inner->first + inner->nr < end)
		inner->cost += cost_at(choice, inner->first + inner->nr);
	inner->first++;
}

/* Windows of nr whole pageblocks in the run [first, end). */
static void slide_over_run(struct berth_choice *choice, uint32_t first, uint32_t end, uint32_t nr)
{
	const struct berth_search *search = choice->search;
	unsigned shift = choice->zone->pageblock_order;
	struct berth_inner sum = sum_of(choice, first, nr);

	while (sum.first + nr <= end && !berth__enough(choice)) {
		uint32_t pass = pass_over(choice, sum.first, end - nr, &sum, 0, nr), busy;
		berth_idx_t start = sum.first << shift;

		if (pass) {
			if (end - pass - nr >= sum.first)
				sum = sum_of(choice, sum.first + pass, nr);
			else
				break;
			continue;
		}
		if (sum.cost < choice->best_cost && berth__legal_up(search, start) == start) {
			busy = last_busy(choice, sum.first, nr);
			if (busy != BERTH_IDX_NONE) { /* and so are all windows over it */
				if (busy + 1 + nr > end)
					break;
				sum = sum_of(choice, busy + 1, nr);
				continue;
			}
			berth__consider(choice, start, sum.cost);
		}
		step_sum(choice, &sum, end);
	}
}

static void aligned_starts(struct berth_choice *choice)
{
	const struct berth_search *search = choice->search;
	unsigned shift = choice->zone->pageblock_order;
	uint32_t first, end;
	struct berth_run_walk walk = { .zone = choice->zone,
				       .kind = choice->kind,
				       .at = (search->lo + choice->size - 1) >> shift,
				       .end = search->hi >> shift,
				       .least = ((search->nr - 1) >> shift) + 1 };

	while (!berth__enough(choice) && berth__next_run(&walk, &first, &end))
		slide_over_run(choice, first, end, walk.least);
}

/* ---- All other starts -------------------------------------------------------------------------------- */

/* Sweeps the starts in a pageblock that may be better than the best so far. */
static void sweep_worth(struct berth_choice *choice, uint32_t number,
			const struct berth_inner *inner)
{
	const struct berth_zone *zone = choice->zone;
	uint64_t start = (uint64_t)number << zone->pageblock_order;
	unsigned worth, first, last, shift = berth__chunk_order(zone);

	if (!berth__has_chunks(zone) || choice->best_cost == BERTH_COST_NONE) {
		berth__sweep(choice, start, start + choice->size, inner);
		return;
	}
	worth = berth__chunks_worth_a_look(choice, number, inner);
	if (!worth)
		return;
	first = (unsigned)__builtin_ctz(worth);
	last = 31 - (unsigned)__builtin_clz(worth);
	berth__sweep(choice, start + ((uint64_t)first << shift),
		     start + ((uint64_t)(last + 1) << shift), inner);
}

/* Starts in the pageblock before the inner ones, or, without any, in pageblock inner->first. */
static void try_starts(struct berth_choice *choice, uint32_t number,
		       const struct berth_inner *inner)
{
	if (berth__worth_a_look(choice, berth__bound(choice, number, inner)) &&
	    last_busy(choice, inner->first, inner->nr) == BERTH_IDX_NONE)
		sweep_worth(choice, number, inner);
}

/* Starts in pageblocks [first, end), each with nr inner ones behind it. */
static void sweep_run(struct berth_choice *choice, uint32_t first, uint32_t end, uint32_t nr)
{
	unsigned shift = choice->zone->pageblock_order;
	uint64_t pages = choice->search->nr - ((uint64_t)nr << shift);
	uint32_t before = nr ? 1 : 0;
	struct berth_inner sum = sum_of(choice, first + before, nr);

	while (sum.first < end + before && !berth__enough(choice)) {
		uint32_t number = sum.first - before;
		uint32_t pass = pass_over(choice, number, end, &sum, pages, nr + 3);

		if (pass) {
			sum.first += pass;
			if (sum.first < end + before)
				sum = sum_of(choice, sum.first, nr);
			continue;
		}
		try_starts(choice, number, &sum);
		step_sum(choice, &sum, end + nr);
	}
}

static void other_starts(struct berth_choice *choice)
{
	const struct berth_search *search = choice->search;
	unsigned shift = choice->zone->pageblock_order;
	uint32_t whole = search->nr >> shift, nr = whole > 1 ? whole - 1 : 0, first, end;
	uint32_t lowest = search->lo >> shift, behind = (choice->last >> shift) + 1;
	struct berth_run_walk walk = { .zone = choice->zone,
				       .kind = choice->kind,
				       .at = lowest + 1,
				       .end = ((search->hi - 1) >> shift) + 1,
				       .least = nr };

	if (!nr) {
		sweep_run(choice, lowest, behind, 0);
		return;
	}
	while (!berth__enough(choice) && berth__next_run(&walk, &first, &end)) {
		uint32_t stop = end - nr; /* the last pageblock before nr inner ones, and one */

		sweep_run(choice, first - 1, stop < behind ? stop : behind, nr);
	}
}

/* By what is known above the pageblocks, and block by block. */
static void choose_by_summaries(struct berth_choice *choice)
{
	const struct berth_search *search = choice->search;
	unsigned shift = choice->zone->pageblock_order;
	bool at_boundaries = search->step >= choice->size && !(search->nr & (choice->size - 1));

	berth__refresh(choice->zone, search->lo >> shift, ((search->hi - 1) >> shift) + 1);
	if (!search->first_fit && search->from)
		free_runs(choice, search->from);
	if (!search->first_fit && !berth__enough(choice))
		free_runs(choice, search->lo);
	if (!search->first_fit && !berth__enough(choice) && search->nr >= choice->size)
		aligned_starts(choice);
	if (!berth__enough(choice) && (search->first_fit || !at_boundaries))
		other_starts(choice);
}

/* S. */
static bool choose_locked(const struct berth_search *search, uint32_t busy_clock, berth_idx_t *best)
{
	struct berth_zone *zone = search->area->zone;
	struct berth_choice choice = {
		.search = search,
		.zone = zone,
		.cost = zone->cost,
		.cost_kind = search->drop_used,
		.kind = search->free_only   ? BERTH_RUN_FREE :
			search->ignore_pins ? BERTH_RUN_UNCLAIMED :
					      BERTH_RUN_EMPTIABLE,
		.size = berth__pages(zone->pageblock_order),
		.last = search->hi - search->nr,
		.best_cost = BERTH_COST_NONE,
		.busy_clock = busy_clock,
	};

	if (!search->first_fit && search->nr < choice.size)
		partly_free(&choice);
	if (!berth__enough(&choice))
		choose_by_summaries(&choice);
	*best = choice.best;
	return choice.best_cost != BERTH_COST_NONE;
}

bool berth__choose_range(const struct berth_search *search, berth_idx_t *best)
{
	struct berth_zone *zone = search->area->zone;
	uint32_t clock = search->busy_clock;
	bool found;

	if (clock &&
	    (int32_t)(atomic_load_explicit(&zone->busy_latest, memory_order_relaxed) - clock) <= 0)
		clock = 0;
	berth_mutex_lock(&zone->search_lock);
	found = choose_locked(search, clock, best);
	if (!found && clock) /* then also where a claim was refused lately */
		found = choose_locked(search, 0, best);
	berth_mutex_unlock(&zone->search_lock);
	return found;
}

void berth_zone_set_cost(struct berth_zone *zone, const struct berth_cost_model *cost)
{
	bool drops = cost->drop_ns <= (uint64_t)cost->copy_ns + cost->remap_ns;

	berth_mutex_lock(&zone->search_lock);
	zone->cost = *cost;
	atomic_store_explicit(&zone->drops_idle, drops, memory_order_relaxed);
	berth_lock(&zone->lock);
	berth__stale_all_locked(zone);
	berth_unlock(&zone->lock);
	berth_mutex_unlock(&zone->search_lock);
}

void berth_zone_cost(struct berth_zone *zone, struct berth_cost_model *cost)
{
	berth_mutex_lock(&zone->search_lock);
	*cost = zone->cost;
	berth_mutex_unlock(&zone->search_lock);
}
