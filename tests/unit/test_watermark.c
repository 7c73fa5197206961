/* SPDX-License-Identifier: MIT */
/*
 * Watermarks: the published examples of how they are computed, and who may go below what.
 */
#include "tests/include/testzone.h"

/* ---- Computed ---------------------------------------------------------------------------------- */

static void min_free_kbytes_by_memory(void **state)
{
	/* From 16 MB to 16384 MB. A well-known comment says 11584 for 8192 MB; the root is 11585. */
	static const uint64_t expected[] = { 512,  724,  1024, 1448,  2048, 2896,
					     4096, 5792, 8192, 11585, 16384 };

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(expected); i++)
		assert_int_equal(berth_min_free_kbytes((16ull << i) * 1024), expected[i]);
	assert_int_equal(berth_min_free_kbytes(326626 * 4), 4572);
}

static void min_free_kbytes_has_limits(void **state)
{
	(void)state;
	assert_int_equal(berth_min_free_kbytes(0), 128);
	assert_int_equal(berth_min_free_kbytes(1), 128);
	assert_int_equal(berth_min_free_kbytes(1024), 128); /* the root itself */
	assert_int_equal(berth_min_free_kbytes(1041), 129);
	assert_int_equal(berth_min_free_kbytes(256ull << 20), 65536);
	assert_int_equal(berth_min_free_kbytes((256ull << 20) - 1), 65535);
	assert_int_equal(berth_min_free_kbytes(1ull << 40), 65536);
}

static void assert_marks(const struct berth_watermarks *w, uint64_t min, uint64_t low,
			 uint64_t high)
{
	assert_int_equal(w->mark[BERTH_MARK_MIN], min);
	assert_int_equal(w->mark[BERTH_MARK_LOW], low);
	assert_int_equal(w->mark[BERTH_MARK_HIGH], high);
	assert_int_equal(w->mark[BERTH_MARK_PROMO], high + (high - low));
	assert_int_equal(w->boost, 0);
}

/* min 4556 KiB = 1139 pages; extra (24300 / 4) * 326626 / 340294 = 5830; step 326626 * 10 / 10000. */
static void extra_free_kbytes_lies_between_min_and_low(void **state)
{
	struct berth_tunables t = BERTH_TUNABLES_DEFAULT;
	struct berth_watermarks w;

	(void)state;
	t.min_free_kbytes = 4556;
	t.extra_free_kbytes = 24300;
	berth_watermarks_compute(&t, BERTH_ZONE_NORMAL, 326626, 326626, 340294, &w);
	assert_marks(&w, 1139, 7295, 7621);
	t.extra_free_kbytes = 0;
	berth_watermarks_compute(&t, BERTH_ZONE_NORMAL, 326626, 326626, 340294, &w);
	assert_marks(&w, 1139, 1139 + 326, 1139 + 2 * 326);
}

/* A machine with a DMA zone of 3977 pages and a NORMAL one of 808543. */
static void zones_share_min_free_by_their_size(void **state)
{
	const uint64_t dma = 3977, normal = 808543;
	struct berth_tunables t = BERTH_TUNABLES_DEFAULT;
	struct berth_watermarks w;

	(void)state;
	t.min_free_kbytes = 13452;
	berth_watermarks_compute(&t, BERTH_ZONE_DMA, dma, dma + normal, dma + normal, &w);
	assert_marks(&w, 16, 20, 24);
	berth_watermarks_compute(&t, BERTH_ZONE_NORMAL, normal, dma + normal, dma + normal, &w);
	assert_marks(&w, 3346, 4182, 5018);
}

/* The larger of min / 4 and the zone's part by the factor. */
static void the_scale_factor_spreads_the_marks(void **state)
{
	struct berth_tunables t = BERTH_TUNABLES_DEFAULT;
	struct berth_watermarks w;

	(void)state;
	t.min_free_kbytes = 4000;
	t.watermark_scale_factor = 1;
	berth_watermarks_compute(&t, BERTH_ZONE_NORMAL, 100000, 100000, 100000, &w);
	assert_marks(&w, 1000, 1250, 1500);
	t.watermark_scale_factor = 100;
	berth_watermarks_compute(&t, BERTH_ZONE_NORMAL, 100000, 100000, 100000, &w);
	assert_marks(&w, 1000, 2000, 3000);
	t.watermark_scale_factor = BERTH_MAX_SCALE_FACTOR;
	berth_watermarks_compute(&t, BERTH_ZONE_NORMAL, 100000, 100000, 100000, &w);
	assert_marks(&w, 1000, 31000, 61000);
}

/* A 1024th of a zone that kernel allocations don't need, within 32 and 128 pages. */
static void upper_zones_keep_little(void **state)
{
	static const struct {
		uint64_t managed, min;
	} cases[] = { { 13668, 32 },
		      { 32768, 32 },
		      { 65536, 64 },
		      { 131072, 128 },
		      { 1u << 20, 128 } };
	struct berth_tunables t = BERTH_TUNABLES_DEFAULT;
	struct berth_watermarks w;

	(void)state;
	t.min_free_kbytes = 4096;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		berth_watermarks_compute(&t, BERTH_ZONE_HIGHMEM, cases[i].managed, 1u << 20,
					 2u << 20, &w);
		assert_int_equal(w.mark[BERTH_MARK_MIN], cases[i].min);
		berth_watermarks_compute(&t, BERTH_ZONE_MOVABLE, cases[i].managed, 1u << 20,
					 2u << 20, &w);
		assert_int_equal(w.mark[BERTH_MARK_MIN], cases[i].min);
	}
}

static void no_memory_has_no_marks(void **state)
{
	struct berth_tunables t = BERTH_TUNABLES_DEFAULT;
	struct berth_watermarks w;

	(void)state;
	t.min_free_kbytes = t.extra_free_kbytes = 4096;
	berth_watermarks_compute(&t, BERTH_ZONE_NORMAL, 0, 0, 0, &w);
	assert_marks(&w, 0, 0, 0);
}

/* ---- Checked ------------------------------------------------------------------------------------ */

#define NORMAL BERTH_ZONE_NORMAL

/* Leaves `left` frames free in a zone without areas, as single frames taken from one end. */
static void leave_free(struct test_zone *tz, uint64_t left)
{
	berth_pfn_t pfn;

	while (zone_free_pages(tz) > left)
		assert_int_equal(berth_alloc_pages(tz->zone, 0, BERTH_GFP_UNMOVABLE,
						   BERTH_OWNER_NONE, 0, &pfn),
				 0);
	assert_int_equal(zone_free_pages(tz), left);
	zone_ok(tz);
}

/* How few frames may be free for one more to be granted. */
static uint64_t least_free(uint64_t mark, unsigned flags)
{
	struct test_zone *tz = zone_open(.nr_pages = 1024);
	uint64_t free = 1024;
	berth_pfn_t pfn;

	while (berth_watermark_ok(tz->zone, 0, mark, NORMAL, flags)) {
		assert_int_equal(berth_alloc_pages(tz->zone, 0, BERTH_GFP_UNMOVABLE,
						   BERTH_OWNER_NONE, 0, &pfn),
				 0);
		free--;
	}
	zone_close(tz);
	return free + 1;
}

static void who_may_go_below_min(void **state)
{
	(void)state;
	/* More than the mark must be free. */
	assert_int_equal(least_free(800, 0), 801);
	assert_int_equal(least_free(800, BERTH_ALLOC_CMA), 801);
	assert_int_equal(least_free(800, BERTH_ALLOC_NON_BLOCK), 801); /* not by itself */
	assert_int_equal(least_free(800, BERTH_ALLOC_HIGHATOMIC), 801);
	/* High priority: a half. */
	assert_int_equal(least_free(800, BERTH_ALLOC_MIN_RESERVE), 401);
	/* Atomic: and a quarter of that. */
	assert_int_equal(least_free(800, BERTH_ALLOC_MIN_RESERVE | BERTH_ALLOC_NON_BLOCK), 301);
	/* A victim of OOM, which will free much: a half, and a half of what an atomic one leaves. */
	assert_int_equal(least_free(800, BERTH_ALLOC_OOM), 401);
	assert_int_equal(least_free(800, BERTH_ALLOC_MIN_RESERVE | BERTH_ALLOC_NON_BLOCK |
						 BERTH_ALLOC_OOM),
			 151);
}

static void without_watermarks_the_last_frame_is_granted(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 1024);
	const unsigned all = BERTH_ALLOC_NO_WATERMARKS;

	(void)state;
	leave_free(tz, 1);
	assert_false(berth_watermark_ok(tz->zone, 0, 100, NORMAL,
					BERTH_ALLOC_OOM | BERTH_ALLOC_MIN_RESERVE));
	assert_true(berth_watermark_ok(tz->zone, 0, 100, NORMAL, all));
	assert_true(berth_watermark_ok(tz->zone, 0, 0, NORMAL, 0));
	leave_free(tz, 0);
	assert_false(berth_watermark_ok(tz->zone, 0, 0, NORMAL, 0));
	zone_close(tz);
}

static void a_block_counts_as_one_frame_less_than_it_has(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 2048);

	(void)state;
	leave_free(tz, 1024);
	assert_true(berth_watermark_ok(tz->zone, 9, 1024 - 512, NORMAL, 0));
	assert_false(berth_watermark_ok(tz->zone, 9, 1024 - 511, NORMAL, 0));
	assert_true(berth_watermark_ok(tz->zone, 0, 1023, NORMAL, 0));
	assert_false(berth_watermark_ok(tz->zone, 0, 1024, NORMAL, 0));
	zone_close(tz);
}

/* Every second frame of a zone is free: plenty, and no block of two. */
static void a_block_of_the_order_must_exist(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 2048);
	berth_pfn_t pfn[2048];

	(void)state;
	for (unsigned i = 0; i < 2048; i++)
		assert_int_equal(berth_alloc_pages(tz->zone, 0, BERTH_GFP_UNMOVABLE,
						   BERTH_OWNER_NONE, 0, &pfn[i]),
				 0);
	for (unsigned i = 0; i < 2048; i++)
		if (pfn[i] % 2)
			assert_int_equal(berth_free_pages(tz->zone, pfn[i]), 0);
	assert_int_equal(zone_free_pages(tz), 1024);
	assert_true(berth_watermark_ok(tz->zone, 0, 10, NORMAL, 0));
	assert_false(berth_watermark_ok(tz->zone, 1, 10, NORMAL, 0));
	assert_false(berth_watermark_ok(tz->zone, 1, 10, NORMAL, BERTH_ALLOC_NO_WATERMARKS));
	for (unsigned i = 0; i < 2048; i++) /* the even one below is the buddy of an odd one */
		if (pfn[i] == tz->params.start_pfn + 100)
			assert_int_equal(berth_free_pages(tz->zone, pfn[i]), 0);
	assert_true(berth_watermark_ok(tz->zone, 1, 10, NORMAL, 0));
	assert_false(berth_watermark_ok(tz->zone, 2, 10, NORMAL, 0));
	assert_false(berth_watermark_ok(tz->zone, 11, 0, NORMAL, BERTH_ALLOC_NO_WATERMARKS));
	zone_close(tz);
}

/* What lies in areas is no use to who can't borrow, and what doesn't lend is no use to anybody. */
static void free_frames_of_areas_count_for_borrowers(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 4096);

	(void)state;
	area_declare(tz, "lends", tz->params.start_pfn, 1024, 0, BERTH_LEND_LAST);
	area_declare(tz, "keeps", tz->params.start_pfn + 1024, 512, 0, BERTH_LEND_OFF);
	assert_false(berth_watermark_ok(tz->zone, 0, 4096 - 1536, NORMAL, 0));
	assert_true(berth_watermark_ok(tz->zone, 0, 4096 - 1537, NORMAL, 0));
	assert_false(berth_watermark_ok(tz->zone, 0, 4096 - 512, NORMAL, BERTH_ALLOC_CMA));
	assert_true(berth_watermark_ok(tz->zone, 0, 4096 - 513, NORMAL, BERTH_ALLOC_CMA));
	/* All else is used: large blocks are in the areas only. */
	zone_exhaust(tz);
	assert_false(berth_watermark_ok(tz->zone, 9, 0, NORMAL, 0));
	assert_true(berth_watermark_ok(tz->zone, 9, 0, NORMAL, BERTH_ALLOC_CMA));
	zone_close(tz);
}

static void isolated_frames_are_not_free(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 4096);
	struct berth_claim_report report;

	(void)state;
	assert_true(berth_watermark_ok(tz->zone, 0, 4095, NORMAL, 0));
	assert_int_equal(contig_claim(tz, tz->params.start_pfn, 1000, 0, &report), 0);
	assert_true(berth_watermark_ok(tz->zone, 0, 3095, NORMAL, 0));
	assert_false(berth_watermark_ok(tz->zone, 0, 3096, NORMAL, 0));
	assert_int_equal(berth_free_contig_range(tz->zone, tz->params.start_pfn, 1000), 0);
	assert_true(berth_watermark_ok(tz->zone, 0, 4095, NORMAL, 0));
	zone_close(tz);
}

/* ---- Set by hand --------------------------------------------------------------------------------- */

static void a_zone_alone_has_no_marks_until_they_are_set(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 1024);
	struct berth_watermarks w = { .mark = { 10, 20, 30, 40 }, .boost = 99 };

	(void)state;
	berth_zone_watermarks(tz->zone, &w);
	assert_marks(&w, 0, 0, 0);
	w = (struct berth_watermarks){ .mark = { 10, 20, 30, 40 }, .boost = 99 };
	berth_zone_set_watermarks(tz->zone, &w);
	w = (struct berth_watermarks){ 0 };
	berth_zone_watermarks(tz->zone, &w);
	assert_marks(&w, 10, 20, 30); /* the boost isn't the caller's */
	berth_zone_unboost(tz->zone, 5);
	berth_zone_watermarks(tz->zone, &w);
	assert_int_equal(w.boost, 0);
	zone_close(tz);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(min_free_kbytes_by_memory),
		cmocka_unit_test(min_free_kbytes_has_limits),
		cmocka_unit_test(extra_free_kbytes_lies_between_min_and_low),
		cmocka_unit_test(zones_share_min_free_by_their_size),
		cmocka_unit_test(the_scale_factor_spreads_the_marks),
		cmocka_unit_test(upper_zones_keep_little),
		cmocka_unit_test(no_memory_has_no_marks),
		cmocka_unit_test(who_may_go_below_min),
		cmocka_unit_test(without_watermarks_the_last_frame_is_granted),
		cmocka_unit_test(a_block_counts_as_one_frame_less_than_it_has),
		cmocka_unit_test(a_block_of_the_order_must_exist),
		cmocka_unit_test(free_frames_of_areas_count_for_borrowers),
		cmocka_unit_test(isolated_frames_are_not_free),
		cmocka_unit_test(a_zone_alone_has_no_marks_until_they_are_set),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
