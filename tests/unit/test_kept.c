/* SPDX-License-Identifier: MIT */
/*
 * What an area keeps of a claim for the next one of its size, and that nobody lacks it.
 */
#include <berth/claims.h>

#include "tests/include/testarea.h"

#define PAGEBLOCK 512u

/* A claim that is released, and is kept. */
static berth_pfn_t keep(struct test_zone *tz, struct berth_cma *area, uint64_t nr_pages)
{
	berth_pfn_t pfn = area_claim(tz, area, nr_pages, 0);

	area_release(tz, area, pfn, nr_pages);
	assert_int_equal(count_state(tz, pfn, pfn + nr_pages, 'p'), nr_pages);
	return pfn;
}

static uint64_t kept(struct test_zone *tz)
{
	return count_state(tz, AREA, AREA + AREA_PAGES, 'p');
}

static void a_claim_of_its_size_has_it_again(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	uint64_t sizes[] = { 1, 16, 24, PAGEBLOCK - 1 }; /* of one block and of several */

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		berth_pfn_t beside = area_claim(tz, area, 1, 0);
		berth_pfn_t pfn = keep(tz, area, sizes[i]);
		struct berth_cma_stats stats;

		/* Free, as far as anybody asks. */
		berth_cma_stats_brief(area, &stats);
		assert_int_equal(stats.free_pages, AREA_PAGES - 1);
		assert_int_equal(stats.claimed_pages, 1);
		assert_int_equal(stats.lent_pages, 0);
		assert_int_equal(zone_stats(tz).claimed_pages, 1);
		assert_int_equal(zone_stats(tz).free_pages, ZONE_PAGES - 1);
		assert_int_equal(berth_cma_release(area, pfn, sizes[i]), -BERTH_EINVAL);
		assert_int_equal(area_claim(tz, area, sizes[i], 0), pfn);
		area_release(tz, area, pfn, sizes[i]);
		area_release(tz, area, beside, 1);
		berth_pcp_drain_all(tz->zone);
		zone_ok(tz);
	}
	zone_close(tz);
}

static void other_claims_have_it_too(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	berth_pfn_t pfn;

	(void)state;
	/* Another size, all that there is. */
	keep(tz, area, 16);
	pfn = area_claim(tz, area, AREA_PAGES, 0);
	area_release(tz, area, pfn, AREA_PAGES);
	/* Another CPU: to which the same pageblock is the best. */
	test_set_cpu(0);
	pfn = keep(tz, area, 16);
	test_set_cpu(1);
	assert_int_equal(area_claim(tz, area, 16, 0), pfn);
	area_release(tz, area, pfn, 16);
	test_set_cpu(0);
	/* A place that it isn't at. */
	pfn = area_claim(tz, area, 3, 0);
	assert_int_not_equal(keep(tz, area, 16) % PAGEBLOCK, 0);
	area_release(tz, area, area_claim(tz, area, 16, 9), 16);
	area_release(tz, area, pfn, 3);
	/* A range, by its address. */
	pfn = keep(tz, area, 16);
	assert_int_equal(contig_claim(tz, pfn + 8, 16, 0, NULL), 0);
	assert_int_equal(berth_free_contig_range(tz->zone, pfn + 8, 16), 0);
	zone_close(tz);
}

/* A pageblock that is fuller and has room comes first, so that the other may become free. */
static void the_fullest_pageblock_comes_first(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	berth_pfn_t fuller, hole, emptier, other;

	(void)state;
	fuller = area_claim(tz, area, 300, 0);
	hole = area_claim(tz, area, 200, 0);
	emptier = area_claim(tz, area, 200, 0);
	other = area_claim(tz, area, 100, 0);
	assert_int_equal(hole / PAGEBLOCK, fuller / PAGEBLOCK);
	assert_int_equal(other / PAGEBLOCK, emptier / PAGEBLOCK);
	assert_int_not_equal(fuller / PAGEBLOCK, emptier / PAGEBLOCK);
	area_release(tz, area, emptier, 200);
	assert_int_equal(area_claim(tz, area, 200, 0), emptier); /* there is no room in the other */
	area_release(tz, area, emptier, 200);
	area_release(tz, area, hole, 200);
	assert_int_equal(kept(tz), 200);
	assert_int_equal(area_claim(tz, area, 200, 0), hole);
	assert_int_equal(kept(tz), 0);
	area_release(tz, area, hole, 200);
	area_release(tz, area, fuller, 300);
	area_release(tz, area, other, 100);
	zone_close(tz);
}

/* What would be wholly free without it is left to who needs that, if another has room. */
static void a_lone_piece_goes_to_the_others(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	berth_pfn_t full, lone, other;

	(void)state;
	full = area_claim(tz, area, PAGEBLOCK - 8, 0);
	lone = area_claim(tz, area, 16, 4);
	assert_int_not_equal(lone / PAGEBLOCK, full / PAGEBLOCK);
	area_release(tz, area, lone, 16);
	assert_int_equal(area_claim(tz, area, 16, 4), lone); /* 8 frames are no room */
	area_release(tz, area, full, PAGEBLOCK - 8);
	berth_pcp_drain_all(tz->zone);
	other = area_claim(tz, area, 8, 9);
	assert_int_not_equal(other / PAGEBLOCK, lone / PAGEBLOCK);
	area_release(tz, area, lone, 16);
	assert_int_equal(kept(tz), 16);
	assert_int_equal(area_claim(tz, area, 16, 4) / PAGEBLOCK, other / PAGEBLOCK);
	assert_int_equal(count_state(tz, lone, lone + 16, 'f'), 16);
	zone_close(tz);
}

static void borrowers_and_idleness_end_it(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	struct test_owner *o = owner_open(tz, "owner");
	berth_pfn_t pfn;

	(void)state;
	pfn = keep(tz, area, 16);
	berth_pcp_age(tz->zone);
	assert_int_equal(count_state(tz, pfn, pfn + 16, 'f'), 16);
	keep(tz, area, 16);
	assert_int_equal(owner_exhaust(o, 0, BERTH_GFP_MOVABLE), ZONE_PAGES);
	owner_close(o);
	zone_close(tz);
}

/* Whole pageblocks have their stock, and what is in two is in the way of both. */
static void only_what_is_small_is_kept(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	berth_pfn_t pfn = area_claim(tz, area, PAGEBLOCK, 0), left = AREA + PAGEBLOCK - 8;

	(void)state;
	area_release(tz, area, pfn, PAGEBLOCK);
	assert_int_equal(kept(tz), 0);
	assert_int_equal(contig_claim(tz, AREA, PAGEBLOCK - 8, 0, NULL), 0);
	assert_int_equal(contig_claim(tz, left + 16, AREA_PAGES - PAGEBLOCK - 8, 0, NULL), 0);
	assert_int_equal(area_claim(tz, area, 16, 0), left);
	area_release(tz, area, left, 16);
	assert_int_equal(kept(tz), 0);
	zone_close(tz);
}

static void claim_as(struct berth_cma *area, const char *name, berth_pfn_t expected)
{
	struct berth_claim_params params = { .nr_pages = 16, .name = name };
	berth_pfn_t pfn;

	assert_int_equal(berth_cma_alloc(area, &params, &pfn, NULL), 0);
	if (expected != BERTH_PFN_NONE)
		assert_int_equal(pfn, expected);
}

/* A claim that has it again has its own name, and as long as it's kept it is nobody's claim. */
static void it_has_the_next_claims_name(void **state)
{
	static const char *const names[] = { "left", "left", "right", NULL, NULL, "", "left" };
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	berth_pfn_t pfn = keep(tz, area, 16), at;
	struct berth_claim_info claim;

	(void)state;
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		claim_as(area, names[i], pfn);
		zone_ok(tz);
		at = 0;
		assert_true(berth_claim_next(tz->zone, &at, &claim));
		assert_int_equal(claim.pfn, pfn);
		assert_string_equal(claim.name, names[i] ? names[i] : "");
		area_release(tz, area, pfn, 16);
		at = 0;
		assert_false(berth_claim_next(tz->zone, &at, &claim));
	}
	zone_close(tz);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_claim_of_its_size_has_it_again),
		cmocka_unit_test(other_claims_have_it_too),
		cmocka_unit_test(the_fullest_pageblock_comes_first),
		cmocka_unit_test(a_lone_piece_goes_to_the_others),
		cmocka_unit_test(borrowers_and_idleness_end_it),
		cmocka_unit_test(only_what_is_small_is_kept),
		cmocka_unit_test(it_has_the_next_claims_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
