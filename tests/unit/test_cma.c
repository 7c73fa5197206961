/* SPDX-License-Identifier: MIT */
/*
 * CMA areas: declaring, finding, choosing and claiming ranges, releases, statistics. Claims that fail
 * are in test_cma_errors.c.
 */
#include "tests/include/testarea.h"

/* ---- Declaring ------------------------------------------------------------------------------- */

static void declared_areas_are_found(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	struct berth_cma *a = area_declare(tz, "camera", 512, 1024, 0, BERTH_LEND_FIRST);
	struct berth_cma *b = area_declare(tz, "cam", 4096, 512, 3, BERTH_LEND_LAST);
	struct berth_cma_stats s = area_stats(b);

	(void)state;
	assert_ptr_equal(berth_cma_find(tz->zone, "camera"), a);
	assert_ptr_equal(berth_cma_find(tz->zone, "cam"), b);
	assert_null(berth_cma_find(tz->zone, "came"));
	assert_null(berth_cma_find(tz->zone, ""));
	assert_null(berth_cma_find(tz->zone, "cameras"));
	assert_ptr_equal(berth_cma_bitmap(a), tz->areas[0].bitmap);
	assert_string_equal(s.name, "cam");
	assert_int_equal(s.start_pfn, 4096);
	assert_int_equal(s.nr_pages, 512);
	assert_int_equal(s.free_pages, 512);
	assert_int_equal(s.largest_free_pages, 512);
	assert_int_equal(s.largest_claimable_pages, 512);
	assert_int_equal(s.claimed_pages + s.lent_pages + s.claims_ok + s.claims_failed, 0);
	zone_close(tz);
}

static void bitmap_bytes(void **state)
{
	(void)state;
	assert_true(berth_cma_bitmap_bytes(1, 0) >= 8);
	assert_int_equal(berth_cma_bitmap_bytes(512, 0), 64);
	assert_int_equal(berth_cma_bitmap_bytes(513, 0), 72);
	assert_int_equal(berth_cma_bitmap_bytes(65536, 10), 8);
	assert_int_equal(berth_cma_bitmap_bytes(65537, 10), 16);
}

static int declare(struct test_zone *tz, const char *name, berth_pfn_t start, uint64_t nr_pages,
		   unsigned order_per_bit, int lend, uint64_t *bitmap)
{
	struct berth_cma_params params = {
		.name = name,
		.start_pfn = start,
		.nr_pages = nr_pages,
		.order_per_bit = order_per_bit,
		.lend = (enum berth_lend_policy)lend,
		.bitmap = bitmap,
	};
	struct berth_cma *area = (void *)0x1234;
	int ret = berth_cma_declare(tz->zone, &params, &area);

	assert_ptr_equal(area, (void *)0x1234);
	return ret;
}

static void bad_areas_are_refused(void **state)
{
	struct test_zone *tz = zone_open(.start_pfn = 0x10000, .nr_pages = ZONE_PAGES);
	uint64_t bits[ZONE_PAGES / 64 + 64] = { 0 };
	struct berth_cma_params params = { .name = "a",
					   .start_pfn = 0x10000,
					   .nr_pages = 512,
					   .bitmap = bits };

	(void)state;
	assert_refused(tz, -BERTH_EINVAL, declare(tz, "a", 0x10000, 0, 0, 0, bits));
	assert_refused(tz, -BERTH_EINVAL, declare(tz, "a", 0x10000, 511, 0, 0, bits));
	assert_refused(tz, -BERTH_EINVAL, declare(tz, "a", 0x10001, 512, 0, 0, bits));
	assert_refused(tz, -BERTH_EINVAL, declare(tz, "a", 0x10100, 512, 0, 0, bits));
	assert_refused(tz, -BERTH_EINVAL, declare(tz, "a", 0xfe00, 512, 0, 0, bits));
	assert_refused(tz, -BERTH_EINVAL, declare(tz, "a", 0x12000, 512, 0, 0, bits));
	assert_refused(tz, -BERTH_EINVAL, declare(tz, "a", 0x10000, 8192 + 512, 0, 0, bits));
	assert_refused(tz, -BERTH_EINVAL, declare(tz, "a", 0x10000, 1ull << 63, 0, 0, bits));
	assert_refused(tz, -BERTH_EINVAL, declare(tz, NULL, 0x10000, 512, 0, 0, bits));
	assert_refused(tz, -BERTH_EINVAL, declare(tz, "a", 0x10000, 512, 0, 0, NULL));
	assert_refused(tz, -BERTH_EINVAL, declare(tz, "a", 0x10000, 512, 64, 0, bits));
	assert_refused(tz, -BERTH_EINVAL,
		       declare(tz, "a", 0x10000, 512, 0, BERTH_LEND_OFF + 1, bits));
	assert_refused(tz, -BERTH_EINVAL, berth_cma_declare(tz->zone, &params, NULL));
	assert_refused(tz, -BERTH_EINVAL, berth_cma_declare(tz->zone, NULL, NULL));
	assert_null(berth_cma_find(tz->zone, "a"));
	zone_close(tz);
}

static void unmanaged_areas_are_refused(void **state)
{
	struct test_zone *tz = zone_open_empty(.nr_pages = ZONE_PAGES);
	uint64_t bits[ZONE_PAGES / 64] = { 0 };

	(void)state;
	assert_int_equal(berth_zone_add_memory(tz->zone, 0, 1000), 0);
	assert_refused(tz, -BERTH_EINVAL, declare(tz, "a", 512, 512, 0, 0, bits));
	assert_refused(tz, -BERTH_EINVAL, declare(tz, "a", 2048, 512, 0, 0, bits));
	assert_int_equal(berth_zone_add_memory(tz->zone, 1000, 24), 0);
	area_declare(tz, "a", 512, 512, 0, BERTH_LEND_FIRST);
	zone_close(tz);
}

static void taken_names_and_ranges_are_refused(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	uint64_t bits[ZONE_PAGES / 64] = { 0 };
	char name[] = "area";

	(void)state;
	area_declare(tz, "area", 1024, 1024, 0, BERTH_LEND_FIRST);
	assert_refused(tz, -BERTH_EEXIST, declare(tz, name, 4096, 512, 0, 0, bits));
	assert_refused(tz, -BERTH_EEXIST, declare(tz, "b", 1024, 1024, 0, 0, bits));
	assert_refused(tz, -BERTH_EEXIST, declare(tz, "b", 512, 1024, 0, 0, bits));
	assert_refused(tz, -BERTH_EEXIST, declare(tz, "b", 1536, 1024, 0, 0, bits));
	assert_refused(tz, -BERTH_EEXIST, declare(tz, "b", 0, 8192, 0, 0, bits));
	area_declare(tz, "b", 512, 512, 0, BERTH_LEND_FIRST);
	zone_close(tz);
}

static void allocated_memory_cannot_become_an_area(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES, .nr_cpus = 1);
	uint64_t bits[ZONE_PAGES / 64] = { 0 };
	berth_pfn_t pfn;

	(void)state;
	pfn = zone_alloc(tz, 0);
	assert_refused(tz, -BERTH_EBUSY, declare(tz, "a", pfn & ~511ull, 512, 0, 0, bits));
	assert_refused(tz, -BERTH_EBUSY, declare(tz, "a", 0, ZONE_PAGES, 0, 0, bits));
	/* A frame that a CPU caches is free. */
	test_set_cpu(0);
	zone_free(tz, pfn);
	area_declare(tz, "a", pfn & ~511ull, 512, 0, BERTH_LEND_FIRST);
	zone_close(tz);
}

static void no_more_than_max_areas(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES, .max_areas = 2);
	uint64_t bits[ZONE_PAGES / 64] = { 0 };

	(void)state;
	area_declare(tz, "a", 0, 512, 0, BERTH_LEND_FIRST);
	area_declare(tz, "b", 512, 512, 0, BERTH_LEND_FIRST);
	assert_refused(tz, -BERTH_ENOSPC, declare(tz, "c", 1024, 512, 0, 0, bits));
	zone_close(tz);
}

static void largest_blocks_over_an_areas_edge_are_cut(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES, .max_order = 13);
	struct berth_cma *area = area_declare(tz, "a", 512, 512, 0, BERTH_LEND_OFF);

	(void)state;
	assert_int_equal(area_stats(area).free_pages, 512);
	assert_int_equal(zone_exhaust(tz), ZONE_PAGES - 512);
	zone_close(tz);
}

/* ---- Claiming -------------------------------------------------------------------------------- */

static void claims_of_all_sizes_and_alignments(void **state)
{
	static const uint64_t sizes[] = { 1, 2, 3, 16, 31, 100, 511, 512, 513, 1000, 1024, 2048 };
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		for (unsigned align = 0; align <= 10; align++) {
			berth_pfn_t pfn = area_claim(tz, area, sizes[i], align);

			assert_true(pfn >= AREA && pfn + sizes[i] <= AREA + AREA_PAGES);
			assert_int_equal(area_stats(area).claimed_pages, sizes[i]);
			assert_runs_exact(tz, area);
			area_release(tz, area, pfn, sizes[i]);
		}
	}
	assert_int_equal(area_stats(area).claims_ok, ARRAY_SIZE(sizes) * 11);
	assert_int_equal(area_stats(area).releases, ARRAY_SIZE(sizes) * 11);
	assert_all_merged(tz);
	zone_close(tz);
}

static void small_claims_with_large_alignments(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 16384, .max_order = 12);
	struct berth_cma *area = area_declare(tz, "a", 512, 15872, 0, BERTH_LEND_FIRST);
	struct berth_claim_report r;

	(void)state;
	/* 4096, 8192 and 12288 are the multiples of 4096 in the area. */
	for (unsigned i = 0; i < 3; i++)
		area_claim(tz, area, 1 + i * 600, 12);
	assert_cma_fails(tz, -BERTH_ENOSPC, area, 1, 12, 0, &r);
	assert_true(area_claim(tz, area, 1, 11) % 2048 == 0);
	zone_close(tz);
}

static void large_alignments_skip_claims_between(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 16384, .max_order = 12);
	struct berth_cma *area = area_declare(tz, "a", 0, 16384, 0, BERTH_LEND_FIRST);
	struct test_owner *o = owner_open(tz, "owner");
	static const berth_pfn_t keep[] = { 100, 8192 };

	(void)state;
	/* Something to move at 0 and 8192, a claim between: 4096 and 12288 cost nothing. */
	assert_int_equal(owner_exhaust(o, 0, BERTH_GFP_MOVABLE), 16384);
	owner_keep_only(o, keep, ARRAY_SIZE(keep));
	assert_int_equal(contig_claim(tz, 512, 1536, 0, NULL), 0);
	assert_int_equal(area_claim(tz, area, 512, 12), 4096);
	assert_int_equal(area_claim(tz, area, 512, 12), 12288);
	assert_int_equal(o->nr_moved_pages, 0);
	owner_close(o);
	zone_close(tz);
}

static void claims_do_not_overlap(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	uint64_t total = 0;
	struct berth_claim_report r;

	(void)state;
	for (uint64_t nr = 1; total + nr <= AREA_PAGES / 2; total += nr, nr++) {
		berth_pfn_t pfn = area_claim(tz, area, nr, 0);

		for (uint64_t i = 0; i < nr; i++)
			assert_int_equal(test_frame(tz, pfn + i)->owner++, 0);
		assert_runs_exact(tz, area);
	}
	assert_int_equal(area_stats(area).claimed_pages, total);
	assert_cma_fails(tz, -BERTH_ENOSPC, area, AREA_PAGES, 0, 0, &r);
	zone_close(tz);
}

static void single_frames_fill_the_area(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	struct berth_claim_report r;

	(void)state;
	for (unsigned i = 0; i < AREA_PAGES; i++) {
		struct berth_claim_params params = { .nr_pages = 1 };
		berth_pfn_t pfn;

		assert_int_equal(berth_cma_alloc(area, &params, &pfn, NULL), 0);
	}
	zone_ok(tz);
	assert_int_equal(area_stats(area).free_pages, 0);
	assert_cma_fails(tz, -BERTH_ENOSPC, area, 1, 0, 0, &r);
	area_release(tz, area, AREA + 1000, 1);
	assert_int_equal(area_claim(tz, area, 1, 0), AREA + 1000);
	zone_close(tz);
}

static void lent_memory_is_moved_out(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	struct test_owner *o = owner_open(tz, "owner");
	struct berth_claim_report r;
	berth_pfn_t pfn = 0;

	(void)state;
	for (unsigned i = 0; i < AREA_PAGES / 4; i++)
		owner_alloc(o, 2);
	assert_int_equal(area_stats(area).lent_pages, AREA_PAGES);
	assert_int_equal(area_claim_flags(tz, area, AREA_PAGES, 0, 0, &pfn, &r), 0);
	assert_int_equal(pfn, AREA);
	assert_int_equal(r.moved_pages, AREA_PAGES);
	assert_int_equal(r.tries, 1);
	assert_int_equal(area_stats(area).lent_pages, 0);
	owner_verify(o);
	area_release(tz, area, pfn, AREA_PAGES);
	owner_close(o);
	zone_close(tz);
}

static void claims_take_turns_with_borrowers(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 2);
	struct test_owner *o = owner_open(tz, "owner");
	uint64_t seed = 17;

	(void)state;
	for (unsigned round = 0; round < 30; round++) {
		uint64_t nr = 1 + test_random_below(&seed, AREA_PAGES), page;
		berth_pfn_t pfn;

		for (unsigned i = 0; i < 40; i++)
			assert_int_equal(owner_try_alloc(o, 3, BERTH_GFP_MOVABLE, &page), 0);
		pfn = area_claim(tz, area, nr, 0);
		owner_verify(o);
		assert_runs_exact(tz, area);
		area_release(tz, area, pfn, nr);
		if (round % 8 == 7)
			owner_keep_only(o, NULL, 0);
	}
	owner_close(o);
	zone_close(tz);
}

/* ---- order_per_bit --------------------------------------------------------------------------- */

static void claims_start_at_a_bit(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 4);
	berth_pfn_t a = area_claim(tz, area, 5, 0), b = area_claim(tz, area, 17, 0);
	berth_pfn_t c = area_claim(tz, area, 3, 1);

	(void)state;
	assert_int_equal((a - AREA) % 16, 0);
	assert_int_equal((b - AREA) % 16, 0);
	assert_int_equal((c - AREA) % 16, 0);
	assert_true(a / 16 != c / 16 && b / 16 != c / 16 && (b + 16) / 16 != c / 16);
	assert_int_equal(area_stats(area).claimed_pages, 25);
	area_release(tz, area, b, 17);
	area_release(tz, area, a, 5);
	area_release(tz, area, c, 3);
	assert_int_equal(area_stats(area).claimed_pages, 0);
	zone_close(tz);
}

static void a_bit_holds_one_claim(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 6);
	struct berth_claim_report r;

	(void)state;
	for (unsigned i = 0; i < AREA_PAGES / 64; i++)
		area_claim(tz, area, 1, 0);
	assert_cma_fails(tz, -BERTH_ENOSPC, area, 1, 0, 0, &r);
	assert_int_equal(area_stats(area).claimed_pages, AREA_PAGES / 64);
	zone_close(tz);
}

/* ---- Which range ----------------------------------------------------------------------------- */

static void the_cheapest_range_is_taken(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	struct test_owner *o = owner_open(tz, "owner");
	static const berth_pfn_t keep[] = {
		AREA + 10,   AREA + 20,   AREA + 30,   AREA + 512,  AREA + 700,
		AREA + 1024, AREA + 1536, AREA + 1600, AREA + 1601,
	};
	struct berth_claim_report r;
	berth_pfn_t pfn = 0;

	(void)state;
	assert_int_equal(owner_exhaust(o, 0, BERTH_GFP_MOVABLE), ZONE_PAGES);
	owner_keep_only(o, keep, ARRAY_SIZE(keep));
	assert_int_equal(area_claim_flags(tz, area, 512, 9, 0, &pfn, &r), 0);
	assert_int_equal(pfn, AREA + 1024);
	assert_int_equal(r.moved_pages, 1);
	assert_int_equal(area_claim_flags(tz, area, 512, 9, 0, &pfn, &r), 0);
	assert_int_equal(pfn, AREA + 512);
	assert_int_equal(r.moved_pages, 2);
	owner_close(o);
	zone_close(tz);
}

static void first_fit_takes_the_first(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	struct test_owner *o = owner_open(tz, "owner");
	static const berth_pfn_t keep[] = { AREA + 10, AREA + 20, AREA + 600 };
	struct berth_claim_report r;
	berth_pfn_t pfn = 0;

	(void)state;
	assert_int_equal(owner_exhaust(o, 0, BERTH_GFP_MOVABLE), ZONE_PAGES);
	owner_keep_only(o, keep, ARRAY_SIZE(keep));
	assert_int_equal(area_claim_flags(tz, area, 512, 9, BERTH_CLAIM_FIRST_FIT, &pfn, &r), 0);
	assert_int_equal(pfn, AREA);
	assert_int_equal(r.moved_pages, 2);
	assert_int_equal(area_claim_flags(tz, area, 16, 0, BERTH_CLAIM_FIRST_FIT, &pfn, &r), 0);
	assert_int_equal(pfn, AREA + 512);
	owner_close(o);
	zone_close(tz);
}

static void small_claims_move_nothing_when_free_frames_will_do(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	struct test_owner *o = owner_open(tz, "owner");
	struct berth_claim_report r;
	berth_pfn_t pfn = 0;

	(void)state;
	/* The area is full but for [AREA + 300, AREA + 340). */
	assert_int_equal(owner_exhaust(o, 0, BERTH_GFP_MOVABLE), ZONE_PAGES);
	owner_free_all(o, AREA + 300, AREA + 340);
	assert_int_equal(area_claim_flags(tz, area, 30, 0, 0, &pfn, &r), 0);
	assert_true(pfn >= AREA + 300 && pfn + 30 <= AREA + 340);
	assert_int_equal(r.moved_pages, 0);
	owner_close(o);
	zone_close(tz);
}

static void free_only_finds_a_free_run(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	struct test_owner *o = owner_open(tz, "owner");
	struct berth_claim_report r;
	berth_pfn_t pfn = 0;

	(void)state;
	assert_int_equal(owner_exhaust(o, 0, BERTH_GFP_MOVABLE), ZONE_PAGES);
	assert_cma_fails(tz, -BERTH_EAGAIN, area, 1, 0, BERTH_CLAIM_FREE_ONLY, &r);
	/* A run of 600 frames that begins and ends inside pageblocks. */
	owner_free_all(o, AREA + 300, AREA + 900);
	assert_cma_fails(tz, -BERTH_EAGAIN, area, 601, 0, BERTH_CLAIM_FREE_ONLY, &r);
	assert_int_equal(r.largest_free_pages, 600);
	assert_int_equal(area_claim_flags(tz, area, 5, 0, BERTH_CLAIM_FREE_ONLY, &pfn, &r), 0);
	area_release(tz, area, pfn, 5);
	assert_int_equal(area_claim_flags(tz, area, 600, 0, BERTH_CLAIM_FREE_ONLY, &pfn, &r), 0);
	assert_int_equal(pfn, AREA + 300);
	assert_int_equal(o->nr_batches, 0);
	owner_close(o);
	zone_close(tz);
}

/* ---- Releasing ------------------------------------------------------------------------------- */

static void bad_releases_are_refused(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	struct berth_cma *area = area_declare(tz, "a", 2048, 2048, 0, BERTH_LEND_FIRST);
	struct berth_cma *other = area_declare(tz, "b", 4096, 2048, 0, BERTH_LEND_FIRST);
	berth_pfn_t a = area_claim(tz, area, 100, 0), b = area_claim(tz, area, 100, 0);
	berth_pfn_t first = a < b ? a : b;

	(void)state;
	assert_refused(tz, -BERTH_EINVAL, berth_cma_release(area, a, 99));
	assert_refused(tz, -BERTH_EINVAL, berth_cma_release(area, a, 101));
	assert_refused(tz, -BERTH_EINVAL, berth_cma_release(area, a + 1, 99));
	assert_refused(tz, -BERTH_EINVAL, berth_cma_release(area, a, 0));
	assert_refused(tz, -BERTH_EINVAL, berth_cma_release(area, first, 200));
	assert_refused(tz, -BERTH_EINVAL, berth_cma_release(area, a, UINT64_MAX));
	assert_refused(tz, -BERTH_EINVAL, berth_cma_release(other, a, 100));
	assert_refused(tz, -BERTH_EINVAL, berth_cma_release(area, 2048 + 1500, 100));
	assert_refused(tz, -BERTH_EINVAL, berth_cma_release(area, 100, 100));
	assert_refused(tz, -BERTH_EINVAL, berth_cma_release(area, BERTH_PFN_NONE, 100));
	assert_refused(tz, -BERTH_EINVAL, berth_free_pages(tz->zone, a));
	area_release(tz, area, a, 100);
	assert_refused(tz, -BERTH_EINVAL, berth_cma_release(area, a, 100));
	area_release(tz, area, b, 100);
	assert_int_equal(area_stats(area).releases, 2);
	zone_close(tz);
}

static void claims_are_released_by_their_own_kind(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	berth_pfn_t a = area_claim(tz, area, 100, 0), range = AREA + 1800;

	(void)state;
	assert_int_equal(contig_claim(tz, range, 100, 0, NULL), 0);
	assert_refused(tz, -BERTH_EINVAL, berth_free_contig_range(tz->zone, a, 100));
	assert_refused(tz, -BERTH_EINVAL, berth_cma_release(area, range, 100));
	area_release(tz, area, a, 100);
	assert_int_equal(berth_free_contig_range(tz->zone, range, 100), 0);
	zone_ok(tz);
	assert_int_equal(area_stats(area).claimed_pages, 0);
	zone_close(tz);
}

static void areas_do_not_claim_from_each_other(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	struct berth_cma *a = area_declare(tz, "a", 1024, 1024, 0, BERTH_LEND_FIRST);
	struct berth_cma *b = area_declare(tz, "b", 2048, 1024, 0, BERTH_LEND_OFF);
	struct berth_claim_report r;

	(void)state;
	assert_int_equal(area_claim(tz, a, 1024, 0), 1024);
	assert_cma_fails(tz, -BERTH_ENOSPC, a, 1, 0, 0, &r);
	assert_int_equal(area_stats(b).free_pages, 1024);
	assert_int_equal(area_claim(tz, b, 1024, 0), 2048);
	area_release(tz, a, 1024, 1024);
	assert_int_equal(area_stats(a).largest_free_pages, 1024);
	assert_int_equal(area_stats(b).claimed_pages, 1024);
	zone_close(tz);
}

static void brief_statistics_are_the_same(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	struct test_owner *o = owner_open(tz, "owner");
	struct berth_cma_stats brief, s;

	(void)state;
	area_claim(tz, area, 77, 0);
	owner_alloc(o, 5);
	berth_cma_stats_brief(area, &brief);
	s = area_stats(area);
	assert_int_equal(s.claimed_pages, 77);
	assert_int_equal(s.lent_pages, 32);
	assert_int_equal(s.free_pages, AREA_PAGES - 77 - 32);
	s.largest_free_pages = brief.largest_free_pages;
	s.largest_claimable_pages = brief.largest_claimable_pages;
	assert_memory_equal(&s, &brief, sizeof(s));
	owner_close(o);
	zone_close(tz);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(declared_areas_are_found),
		cmocka_unit_test(bitmap_bytes),
		cmocka_unit_test(bad_areas_are_refused),
		cmocka_unit_test(unmanaged_areas_are_refused),
		cmocka_unit_test(taken_names_and_ranges_are_refused),
		cmocka_unit_test(allocated_memory_cannot_become_an_area),
		cmocka_unit_test(no_more_than_max_areas),
		cmocka_unit_test(largest_blocks_over_an_areas_edge_are_cut),
		cmocka_unit_test(claims_of_all_sizes_and_alignments),
		cmocka_unit_test(small_claims_with_large_alignments),
		cmocka_unit_test(large_alignments_skip_claims_between),
		cmocka_unit_test(claims_do_not_overlap),
		cmocka_unit_test(single_frames_fill_the_area),
		cmocka_unit_test(lent_memory_is_moved_out),
		cmocka_unit_test(claims_take_turns_with_borrowers),
		cmocka_unit_test(claims_start_at_a_bit),
		cmocka_unit_test(a_bit_holds_one_claim),
		cmocka_unit_test(the_cheapest_range_is_taken),
		cmocka_unit_test(first_fit_takes_the_first),
		cmocka_unit_test(small_claims_move_nothing_when_free_frames_will_do),
		cmocka_unit_test(free_only_finds_a_free_run),
		cmocka_unit_test(bad_releases_are_refused),
		cmocka_unit_test(claims_are_released_by_their_own_kind),
		cmocka_unit_test(areas_do_not_claim_from_each_other),
		cmocka_unit_test(brief_statistics_are_the_same),
	};

	return cmocka_run_group_tests_name("cma", tests, NULL, NULL);
}
