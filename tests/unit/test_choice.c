/* SPDX-License-Identifier: MIT */
/*
 * Which range a claim takes, and what a refused one says: costs, limits of address, boundaries, blockers. That the
 * choice is the cheapest there is, in states nobody thought of, is shown by `berth bench choose`.
 */
#include "tests/include/testlru.h"

#define AREA 2048u
#define PAGEBLOCK 512u
#define AREA_PAGES (4 * PAGEBLOCK)

static struct test_zone *zone_with_area(struct berth_cma **area, uint64_t nr_pages)
{
	struct test_zone *tz = zone_open(.nr_pages = 8192);

	*area = area_declare(tz, "area", AREA, nr_pages, 0, BERTH_LEND_FIRST);
	return tz;
}

static berth_pfn_t claim(struct berth_cma *area, const struct berth_claim_params *params)
{
	berth_pfn_t pfn = BERTH_PFN_NONE;

	assert_int_equal(berth_cma_alloc(area, params, &pfn, NULL), 0);
	return pfn;
}

/* One pageblock lends eight single pages, the other a block of 16. What a page costs, and what a block,
 * decides which of them is emptied. */
static void pages_and_blocks_have_their_costs(void **state)
{
	static const struct {
		struct berth_cost_model cost;
		bool single_pages; /* are cheaper */
	} cases[] = {
		{ BERTH_COST_DEFAULT, false },
		{ { .copy_ns = 10000, .remap_ns = 0 }, true },
		{ { .copy_ns = 1, .remap_ns = 1000 }, false },
	};
	struct berth_claim_params params = { .nr_pages = PAGEBLOCK, .align_order = 9 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct berth_cma *area;
		struct test_zone *tz = zone_with_area(&area, 2 * PAGEBLOCK);
		struct test_owner *o = owner_open(tz, "borrower");
		berth_pfn_t keep[9], pageblock, pfn;
		struct berth_cost_model cost;

		pageblock = o->table[owner_alloc(o, 0)] & ~(berth_pfn_t)(PAGEBLOCK - 1);
		for (unsigned page = 1; page < PAGEBLOCK; page++)
			(void)owner_alloc(o, 0);
		for (unsigned block = 0; block < PAGEBLOCK / 16; block++)
			(void)owner_alloc(o, 4);
		assert_int_equal(count_state(tz, AREA, AREA + 2 * PAGEBLOCK, 'u'), 2 * PAGEBLOCK);
		for (unsigned k = 0; k < 8; k++)
			keep[k] = pageblock + 40 * k;
		keep[8] = (pageblock ^ PAGEBLOCK) + 64;
		owner_keep_only(o, keep, ARRAY_SIZE(keep));
		berth_pcp_drain_all(tz->zone);
		berth_zone_set_cost(tz->zone, &cases[i].cost);
		berth_zone_cost(tz->zone, &cost);
		assert_memory_equal(&cost, &cases[i].cost, sizeof(cost));
		pfn = claim(area, &params);
		assert_int_equal(pfn, cases[i].single_pages ? pageblock : pageblock ^ PAGEBLOCK);
		owner_verify(o);
		area_release(tz, area, pfn, PAGEBLOCK);
		owner_close(o);
		zone_close(tz);
	}
}

/* A pageblock of the area, all of it the owner's single frames. */
static berth_pfn_t fill_pageblock(struct test_owner *o, unsigned gfp)
{
	berth_pfn_t pageblock;
	uint64_t page = 0;

	for (unsigned i = 0; i < PAGEBLOCK; i++)
		assert_int_equal(owner_try_alloc(o, 0, gfp, &page), 0);
	pageblock = o->table[page] & ~(berth_pfn_t)(PAGEBLOCK - 1);
	for (berth_pfn_t pfn = pageblock; pfn < pageblock + PAGEBLOCK; pfn++)
		(void)owner_page_at(o, pfn);
	return pageblock;
}

/* One pageblock lends 16 frames of a cache, the other two movable ones: 16 drops or two moves? By their costs,
 * and by what the cache may lose. */
static void dropping_has_its_cost(void **state)
{
	enum { INACTIVE, ACTIVE, REFERENCED, DIRTY };
	static const struct {
		uint32_t drop_ns;
		unsigned list, flags;
		bool cache,
			drops; /* the cache's pageblock is claimed, and its frames are dropped */
	} cases[] = {
		{ 250, INACTIVE, 0, true, true },
		{ 296, INACTIVE, 0, true, true }, /* 16 times that is just below two moves */
		{ 297, INACTIVE, 0, false, false },
		{ 0, INACTIVE, 0, true, true },
		{ 250, ACTIVE, 0, false, false },
		{ 250, REFERENCED, 0, false, false },
		{ 250, DIRTY, 0, false, false },
		{ 250, ACTIVE, BERTH_CLAIM_DROP, true, true },
		{ 250, REFERENCED, BERTH_CLAIM_DROP, true, true },
		{ 297, ACTIVE, BERTH_CLAIM_DROP, false, false },
		{ 250, DIRTY, BERTH_CLAIM_DROP, false, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct test_zone *tz = zone_open(.nr_pages = 8192, .lru = true);
		struct berth_cma *area = area_declare(tz, "area", AREA, 2 * PAGEBLOCK, 0,
						      BERTH_LEND_FIRST);
		struct cache *c = cache_open(tz, "cache");
		struct test_owner *o = owner_open(tz, "borrower");
		struct berth_cost_model cost = BERTH_COST_DEFAULT;
		struct berth_claim_params params = { .nr_pages = PAGEBLOCK,
						     .align_order = 9,
						     .flags = cases[i].flags };
		struct berth_claim_report report;
		berth_pfn_t cached = fill_pageblock(c->o, BERTH_GFP_MOVABLE | BERTH_GFP_LRU);
		berth_pfn_t lent = fill_pageblock(o, BERTH_GFP_MOVABLE), pfn;

		owner_free_all(c->o, cached + 16, cached + PAGEBLOCK);
		owner_free_all(o, lent + 2, lent + PAGEBLOCK);
		cost.drop_ns = cases[i].drop_ns;
		berth_zone_set_cost(tz->zone, &cost);
		for (pfn = cached; pfn < cached + 16; pfn++) {
			assert_int_equal(berth_lru_add(tz->zone, pfn, 1), 0);
			if (cases[i].list == ACTIVE)
				berth_lru_activate(tz->zone, pfn);
			if (cases[i].list == REFERENCED)
				berth_lru_mark_accessed(tz->zone, pfn);
			if (cases[i].list == DIRTY)
				assert_int_equal(berth_lru_set_dirty(tz->zone, pfn, 1), 0);
		}
		assert_int_equal(berth_cma_alloc(area, &params, &pfn, &report), 0);
		assert_int_equal(pfn, cases[i].cache ? cached : lent);
		assert_int_equal(report.dropped_pages, cases[i].drops ? 16 : 0);
		assert_int_equal(report.moved_pages, cases[i].cache ? 0 : 2);
		owner_verify(o);
		area_release(tz, area, pfn, PAGEBLOCK);
		owner_close(o);
		cache_close(c);
		zone_close(tz);
	}
}

/* What is dearer to drop than to move isn't dropped, unless the claim says so. */
static void what_is_dear_to_drop_is_moved(void **state)
{
	struct berth_cost_model cost = BERTH_COST_DEFAULT;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct test_zone *tz = zone_open(.nr_pages = 8192, .lru = true);
		struct berth_cma *area = area_declare(tz, "area", AREA, PAGEBLOCK, 0,
						      BERTH_LEND_FIRST);
		struct cache *c = cache_open(tz, "cache");
		struct berth_claim_params params = { .nr_pages = PAGEBLOCK,
						     .flags = i == 2 ? BERTH_CLAIM_DROP : 0 };
		struct berth_claim_report report;
		berth_pfn_t pfn;

		cost.drop_ns = cost.copy_ns + cost.remap_ns + (i > 0);
		berth_zone_set_cost(tz->zone, &cost);
		(void)cache_fill(c, 64);
		assert_int_equal(berth_cma_alloc(area, &params, &pfn, &report), 0);
		assert_int_equal(report.dropped_pages, i == 1 ? 0 : 64);
		assert_int_equal(report.moved_pages, i == 1 ? 64 : 0);
		owner_verify(c->o);
		area_release(tz, area, pfn, PAGEBLOCK);
		cache_close(c);
		zone_close(tz);
	}
}

/* A device that sees only some addresses gets a buffer there, or is told that it never will. */
static void a_claim_keeps_to_its_addresses(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, AREA_PAGES);
	struct berth_claim_params params = { .nr_pages = 100,
					     .min_pfn = AREA + 700,
					     .max_pfn = AREA + 900 };
	berth_pfn_t a, b, pfn;

	(void)state;
	a = claim(area, &params);
	b = claim(area, &params);
	assert_in_range(a, AREA + 700, AREA + 801);
	assert_in_range(b, AREA + 700, AREA + 801);
	assert_int_equal(berth_cma_alloc(area, &params, &pfn, NULL), -BERTH_ENOSPC);
	area_release(tz, area, a, 100);
	assert_int_equal(claim(area, &params), a);
	params.nr_pages = 202;
	assert_int_equal(berth_cma_alloc(area, &params, &pfn, NULL), -BERTH_E2BIG);
	params.min_pfn = AREA + AREA_PAGES;
	params.max_pfn = AREA + AREA_PAGES + 900;
	assert_int_equal(berth_cma_alloc(area, &params, &pfn, NULL), -BERTH_E2BIG);
	params.max_pfn = params.min_pfn - 1;
	assert_int_equal(berth_cma_alloc(area, &params, &pfn, NULL), -BERTH_EINVAL);
	area_release(tz, area, a, 100);
	area_release(tz, area, b, 100);
	zone_close(tz);
}

static void a_claim_does_not_cross_a_boundary(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, AREA_PAGES);
	struct berth_claim_params params = { .nr_pages = 48, .boundary_pages = 64 };
	berth_pfn_t pfns[AREA_PAGES / 64], pfn;

	(void)state;
	/* One in each 64 pages, though twice as many would fit otherwise. */
	for (unsigned i = 0; i < ARRAY_SIZE(pfns); i++) {
		pfns[i] = claim(area, &params);
		assert_int_equal(pfns[i] / 64, (pfns[i] + 47) / 64);
	}
	assert_int_equal(berth_cma_alloc(area, &params, &pfn, NULL), -BERTH_ENOSPC);
	for (unsigned i = 0; i < ARRAY_SIZE(pfns); i++)
		area_release(tz, area, pfns[i], 48);
	params.nr_pages = 65;
	assert_int_equal(berth_cma_alloc(area, &params, &pfn, NULL), -BERTH_E2BIG);
	params.boundary_pages = 96;
	assert_int_equal(berth_cma_alloc(area, &params, &pfn, NULL), -BERTH_EINVAL);
	zone_close(tz);
}

/* In a block that is in use a range costs the same wherever it lies, and the search looks at the first and at the last
 * place only. The last one would cross a boundary here. */
static void a_claim_does_not_cross_a_boundary_inside_of_a_block(void **state)
{
	const struct berth_claim_params cases[] = {
		{ .nr_pages = 32, .boundary_pages = 32 },
		{ .nr_pages = 20, .boundary_pages = 32, .max_pfn = AREA + 68 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct berth_cma *area;
		struct test_zone *tz = zone_with_area(&area, PAGEBLOCK);
		struct test_owner *o = owner_open(tz, "borrower");
		uint64_t last_page = cases[i].nr_pages - 1;
		berth_pfn_t pfn;

		for (unsigned block = 0; block < PAGEBLOCK / 128; block++)
			(void)owner_alloc(o, 7);
		assert_int_equal(count_state(tz, AREA, AREA + PAGEBLOCK, 'u'), PAGEBLOCK);
		pfn = claim(area, &cases[i]);
		assert_int_equal(pfn / 32, (pfn + last_page) / 32);
		owner_verify(o);
		area_release(tz, area, pfn, cases[i].nr_pages);
		owner_close(o);
		zone_close(tz);
	}
}

/* A small claim goes where it leaves large ones whole. */
static void the_smallest_hole_is_taken(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, AREA_PAGES);
	berth_pfn_t all = area_claim(tz, area, AREA_PAGES, 0), parts[3];
	struct berth_claim_params params = { .nr_pages = 8 };

	(void)state;
	area_release(tz, area, all, AREA_PAGES);
	/* Holes of 512, 20 and 1000 pages between claims. */
	assert_int_equal(contig_claim(tz, AREA + 512, 4, 0, NULL), 0);
	assert_int_equal(contig_claim(tz, AREA + 536, 4, 0, NULL), 0);
	assert_int_equal(contig_claim(tz, AREA + 1540, AREA_PAGES - 1540, 0, NULL), 0);
	for (unsigned i = 0; i < 2; i++) {
		parts[i] = claim(area, &params);
		assert_in_range(parts[i], AREA + 516, AREA + 528);
	}
	params.nr_pages = 300;
	parts[2] = claim(area, &params);
	/* In the pageblock that is cut up already: pageblocks 0 and 2 stay whole. */
	assert_in_range(parts[2], AREA + 540, AREA + 1024 - 300);
	area_release(tz, area, parts[0], 8);
	area_release(tz, area, parts[1], 8);
	area_release(tz, area, parts[2], 300);
	assert_int_equal(berth_free_contig_range(tz->zone, AREA + 512, 4), 0);
	assert_int_equal(berth_free_contig_range(tz->zone, AREA + 536, 4), 0);
	assert_int_equal(berth_free_contig_range(tz->zone, AREA + 1540, AREA_PAGES - 1540), 0);
	zone_close(tz);
}

/* ---- Small claims: where they leave the most whole --------------------------------------------------- */

/* Where a small claim may begin: all the places that are equally good. */
struct places {
	berth_pfn_t pfns[64];
	unsigned nr;
	uint64_t row, claimed,
		length; /* of each: how full its pageblock is; its run of free frames */
};

static bool better(const struct places *places, uint64_t row, uint64_t claimed, uint64_t length)
{
	if (!places->nr || row != places->row)
		return !places->nr || row < places->row;
	return claimed != places->claimed ? claimed > places->claimed : length < places->length;
}

static void add_place(struct places *places, berth_pfn_t pfn, uint64_t row, uint64_t claimed,
		      uint64_t length)
{
	if (better(places, row, claimed, length))
		*places = (struct places){ .row = row, .claimed = claimed, .length = length };
	if (row != places->row || claimed != places->claimed || length != places->length)
		return;
	assert_in_range(places->nr, 0, ARRAY_SIZE(places->pfns) - 1);
	places->pfns[places->nr++] = pfn;
}

/* A pageblock is looked at if it has a free block of more than a quarter of the claim's frames. */
static bool has_block_for(const char *states, uint64_t first, uint64_t nr_pages)
{
	uint64_t size = 1, in_row = 0;

	while (size * 4 <= nr_pages)
		size *= 2;
	for (uint64_t i = first; i < first + PAGEBLOCK && in_row < size; i++)
		in_row = states[i] != 'f' ? 0 : i % size && !in_row ? 0 : in_row + 1;
	return in_row == size;
}

/* The runs that begin in one pageblock and have room, frame by frame. `states`: of the area's frames. */
static void add_pageblock(struct places *places, const char *states, uint64_t first,
			  const struct berth_claim_params *params)
{
	uint64_t free = 0, claimed = 0, align = 1ull << params->align_order;
	uint64_t lo = params->min_pfn > AREA ? params->min_pfn - AREA : 0;

	for (uint64_t i = first; i < first + PAGEBLOCK; i++) {
		free += states[i] == 'f';
		claimed += states[i] == 'c';
	}
	if (free == PAGEBLOCK || first + PAGEBLOCK <= lo ||
	    !has_block_for(states, first, params->nr_pages))
		return;
	for (uint64_t i = first, end; i < first + PAGEBLOCK; i = end + 1) {
		uint64_t start = i < lo ? lo : i, at = (start + align - 1) / align * align;

		for (end = i; end < AREA_PAGES && end < first + 2 * PAGEBLOCK;)
			if (states[end] == 'f')
				end++;
			else
				break;
		if (at + params->nr_pages <= end)
			add_place(places, AREA + at, free / 64, claimed, end - start);
	}
}

static struct places best_places(struct test_zone *tz, const struct berth_claim_params *params)
{
	char states[AREA_PAGES];
	struct places places = { .nr = 0 };

	for (uint64_t i = 0; i < AREA_PAGES; i++)
		states[i] = frame_state(tz, AREA + i);
	for (uint64_t first = 0; first < AREA_PAGES; first += PAGEBLOCK)
		add_pageblock(&places, states, first, params);
	return places;
}

static bool is_one_of(const struct places *places, berth_pfn_t pfn)
{
	for (unsigned i = 0; i < places->nr; i++)
		if (places->pfns[i] == pfn)
			return true;
	return false;
}

/* Small claims and borrowers come and go. Each claim goes to the fullest pageblock that has room, there to the
 * shortest run of free frames, as an oracle finds it that looks at each frame. */
static void a_small_claim_goes_where_it_fits_best(void **state)
{
	enum { CLAIMS = 48 };
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, AREA_PAGES);
	struct test_owner *o = owner_open(tz, "borrower");
	struct berth_claim_params claims[CLAIMS] = { 0 };
	uint64_t random = 11, page, judged = 0;
	berth_pfn_t pfns[CLAIMS];

	(void)state;
	for (unsigned round = 0; round < 1200 / TEST_SLOWDOWN; round++) {
		unsigned i = (unsigned)test_random_below(&random, CLAIMS);
		struct berth_claim_params *params = &claims[i];
		struct places places;

		if (round % 4 == 0 &&
		    !owner_try_alloc(o, round / 4 % 4, BERTH_GFP_MOVABLE, &page) &&
		    test_random_below(&random, 4))
			owner_free_all(o, o->table[page], o->table[page] + 1);
		if (params->nr_pages) {
			area_release(tz, area, pfns[i], params->nr_pages);
			params->nr_pages = 0;
			continue;
		}
		*params = (struct berth_claim_params){
			.nr_pages = 1 + test_random_below(&random,
							  2ull << test_random_below(&random, 7)),
			.align_order = (unsigned)test_random_below(&random, 5),
			.min_pfn = round % 3 ? 0 : AREA + test_random_below(&random, 2 * PAGEBLOCK),
		};
		berth_pcp_drain_all(tz->zone); /* and nothing is kept of a claim before */
		places = best_places(tz, params);
		pfns[i] = claim(area, params);
		judged += places.nr > 0;
		assert_true(!places.nr || is_one_of(&places, pfns[i]));
	}
	assert_true(judged > 400 / TEST_SLOWDOWN);
	for (unsigned i = 0; i < CLAIMS; i++)
		if (claims[i].nr_pages)
			area_release(tz, area, pfns[i], claims[i].nr_pages);
	owner_verify(o);
	owner_close(o);
	zone_close(tz);
}

/* Pins everywhere: nothing moves, and those in the cheapest range are named, up to eight. */
static void a_refusal_names_who_is_in_the_way(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, AREA_PAGES);
	struct test_owner *o = owner_open(tz, "borrower");
	struct berth_claim_params params = { .nr_pages = AREA_PAGES };
	struct berth_claim_report report;
	berth_pfn_t pfn;

	(void)state;
	for (unsigned page = 0; page < AREA_PAGES; page++)
		(void)owner_alloc(o, 0);
	for (unsigned nr = 1; nr <= BERTH_MAX_BLOCKERS + 2; nr++) {
		unsigned told = nr < BERTH_MAX_BLOCKERS ? nr : BERTH_MAX_BLOCKERS;

		assert_int_equal(berth_page_pin(tz->zone, AREA + 100 * nr), 0);
		assert_int_equal(berth_cma_alloc(area, &params, &pfn, &report), -BERTH_EBUSY);
		assert_int_equal(report.reason, BERTH_CLAIM_PINNED);
		assert_int_equal(report.moved_pages, 0);
		assert_int_equal(report.nr_blockers, told);
		for (unsigned i = 0; i < told; i++) {
			assert_int_equal(report.blockers[i].pfn, AREA + 100 * (i + 1));
			assert_int_equal(report.blockers[i].nr_pages, 1);
			assert_string_equal(report.blockers[i].owner, "borrower");
		}
		assert_int_equal(report.blocker_pfn, report.blockers[0].pfn);
	}
	for (unsigned nr = 1; nr <= BERTH_MAX_BLOCKERS + 2; nr++)
		assert_int_equal(berth_page_unpin(tz->zone, AREA + 100 * nr), 0);
	owner_verify(o);
	owner_close(o);
	zone_close(tz);
}

/* ---- Where groups and regions of pageblocks are passed over ------------------------------------------ */

#define SMALL 4u              /* frames of a pageblock here: so that there are many */
#define MANY (70000u * SMALL) /* 17 regions of 64 groups of 64 pageblocks */

/* What a range costs by the model, frame by frame; UINT64_MAX: it can't be had. */
static uint64_t cost_of(struct test_zone *tz, berth_pfn_t start, uint64_t nr_pages)
{
	const struct berth_cost_model model = BERTH_COST_DEFAULT;
	uint64_t cost = 0;

	for (berth_pfn_t pfn = start; pfn < start + nr_pages; pfn++) {
		berth_pfn_t head = BERTH_PFN_NONE;
		unsigned order = 0;
		char c = berth_frame_state(tz->zone, pfn, &head, &order);

		if (c == 'c' || berth_page_pinned(tz->zone, pfn))
			return UINT64_MAX;
		if (c == 'f')
			continue;
		cost += model.copy_ns;
		if (pfn == head || pfn == start || pfn % SMALL == 0)
			cost += model.remap_ns;
	}
	return cost;
}

/*
 * An area so large that a search can't afford to look at each pageblock, full but for one place, which is
 * anywhere: in the first group, at a region's edge, in the last pageblock. It is found, for a run of each
 * length; and when it's claimed, or somebody pins a page there, the next best one is.
 */
static void the_only_free_place_is_found(void **state)
{
	static const uint64_t places[] = { 0, 63, 64, 4095, 4096, 4100, 40000, 65535, 69000 };
	static const uint64_t sizes[] = { SMALL, 3 * SMALL, 130 * SMALL };
	struct test_zone *tz = zone_open(.nr_pages = MANY + 4096, .pageblock_order = 2);
	struct berth_cma *area = area_declare(tz, "area", 0, MANY, 0, BERTH_LEND_FIRST);
	struct test_owner *o = owner_open(tz, "borrower");

	(void)state;
	while (area_stats(area).free_pages)
		(void)owner_try_alloc(o, 2, BERTH_GFP_MOVABLE, &(uint64_t){ 0 });
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		for (size_t j = 0; j < ARRAY_SIZE(sizes); j++) {
			struct berth_claim_params params = { .nr_pages = sizes[j] };
			berth_pfn_t hole = places[i] * SMALL, pfn, other;
			struct berth_claim_report r;

			for (berth_pfn_t at = hole; at < hole + sizes[j]; at += SMALL) {
				owner_unmap(o, owner_page_at(o, at), SMALL);
				assert_int_equal(berth_free_pages(tz->zone, at), 0);
			}
			assert_int_equal(area_stats(area).largest_free_pages, sizes[j]);
			assert_int_equal(berth_cma_alloc(area, &params, &pfn, &r), 0);
			assert_int_equal(pfn, hole);
			assert_int_equal(r.moved_pages, 0);
			/* Now there is nothing free: what costs least is anywhere else. */
			params.nr_pages = SMALL;
			assert_int_equal(berth_cma_alloc(area, &params, &other, &r), 0);
			assert_int_equal(r.moved_pages, SMALL);
			assert_true(other >= hole + sizes[j] || other + SMALL <= hole);
			assert_int_equal(berth_cma_release(area, other, SMALL), 0);
			assert_int_equal(berth_cma_release(area, pfn, sizes[j]), 0);
			while (area_stats(area).free_pages)
				assert_int_equal(owner_try_alloc(o, 2, BERTH_GFP_MOVABLE,
								 &(uint64_t){ 0 }),
						 0);
		}
	}
	zone_ok(tz);
	owner_close(o);
	zone_close(tz);
}

/* Of a few cheap places among a hundred thousand alike, the cheapest; exactly so, by an oracle that looks at
 * each frame. */
static void the_cheapest_of_many_is_found(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = MANY + 4096, .pageblock_order = 2);
	struct berth_cma *area = area_declare(tz, "area", 0, MANY, 0, BERTH_LEND_FIRST);
	struct test_owner *o = owner_open(tz, "borrower");
	struct berth_claim_params params = { .nr_pages = 2 * SMALL };
	const struct berth_cost_model model = BERTH_COST_DEFAULT;
	uint64_t random = 5, cost_of_a_frame = model.copy_ns + model.remap_ns;

	(void)state;
	while (area_stats(area).free_pages)
		(void)owner_try_alloc(o, 0, BERTH_GFP_MOVABLE, &(uint64_t){ 0 });
	for (unsigned round = 0; round < 40 / TEST_SLOWDOWN; round++) {
		berth_pfn_t freed[24], pfn;
		uint64_t best = UINT64_MAX, found;
		struct berth_claim_report r;

		/* A few frames come free, most of them side by side. */
		for (size_t i = 0; i < ARRAY_SIZE(freed); i++) {
			freed[i] = i % 6 ? freed[i - 1] + 1 + test_random_below(&random, 3) :
					   test_random_below(&random, MANY - 64);
			if (frame_state(tz, freed[i]) != 'u')
				continue;
			owner_unmap(o, owner_page_at(o, freed[i]), 1);
			assert_int_equal(berth_free_pages(tz->zone, freed[i]), 0);
		}
		for (berth_pfn_t at = 0; at + params.nr_pages <= MANY; at++) {
			uint64_t cost = cost_of(tz, at, params.nr_pages);

			best = cost < best ? cost : best;
		}
		assert_int_equal(berth_cma_alloc(area, &params, &pfn, &r), 0);
		/* Of single frames, each of which is a block: what moved is what it cost. */
		found = r.moved_pages * cost_of_a_frame;
		assert_int_equal(found, best);
		assert_int_equal(berth_cma_release(area, pfn, params.nr_pages), 0);
		while (area_stats(area).free_pages)
			(void)owner_try_alloc(o, 0, BERTH_GFP_MOVABLE, &(uint64_t){ 0 });
	}
	zone_ok(tz);
	owner_close(o);
	zone_close(tz);
}

/* One pin in all of a full area: what fits beside it is had by the fewest moves, which is what isn't free in
 * the window that has the free pages; what doesn't moves nothing. */
static void one_pin_costs_no_more_than_it_must(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, AREA_PAGES);
	struct test_owner *o = owner_open(tz, "borrower");
	struct berth_claim_params params = { .nr_pages = AREA_PAGES - 1001 + 1 };
	struct berth_claim_report report;
	berth_pfn_t pfn;

	(void)state;
	for (unsigned page = 0; page < AREA_PAGES; page++)
		(void)owner_alloc(o, 0);
	assert_int_equal(count_state(tz, AREA, AREA + AREA_PAGES, 'u'), AREA_PAGES);
	owner_free_all(o, AREA + 1500, AREA + 1540);
	berth_pcp_drain_all(tz->zone);
	assert_int_equal(berth_page_pin(tz->zone, AREA + 1000), 0);
	assert_int_equal(berth_cma_alloc(area, &params, &pfn, &report), -BERTH_EBUSY);
	assert_int_equal(report.moved_pages, 0);
	assert_int_equal(report.blockers[0].pfn, AREA + 1000);
	params.nr_pages = 1000;
	assert_int_equal(berth_cma_alloc(area, &params, &pfn, &report), 0);
	assert_int_equal(report.moved_pages, 1000 - 40);
	assert_true(pfn > AREA + 1000 && pfn <= AREA + 1500 && pfn + 1000 >= AREA + 1540);
	area_release(tz, area, pfn, 1000);
	assert_int_equal(berth_page_unpin(tz->zone, AREA + 1000), 0);
	owner_verify(o);
	owner_close(o);
	zone_close(tz);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_and_blocks_have_their_costs),
		cmocka_unit_test(dropping_has_its_cost),
		cmocka_unit_test(what_is_dear_to_drop_is_moved),
		cmocka_unit_test(a_claim_keeps_to_its_addresses),
		cmocka_unit_test(a_claim_does_not_cross_a_boundary),
		cmocka_unit_test(a_claim_does_not_cross_a_boundary_inside_of_a_block),
		cmocka_unit_test(the_smallest_hole_is_taken),
		cmocka_unit_test(a_small_claim_goes_where_it_fits_best),
		cmocka_unit_test(a_refusal_names_who_is_in_the_way),
		cmocka_unit_test(the_only_free_place_is_found),
		cmocka_unit_test(the_cheapest_of_many_is_found),
		cmocka_unit_test(one_pin_costs_no_more_than_it_must),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
