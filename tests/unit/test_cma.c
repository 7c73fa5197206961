/* SPDX-License-Identifier: MIT */
/*
 * CMA areas: declaring, finding, choosing and claiming ranges, errors and their reports, releases,
 * statistics.
 */
#include "tests/include/testowner.h"

#define ZONE_PAGES 8192u
#define AREA 2048u /* first frame of the usual area */
#define AREA_PAGES 2048u

static struct test_zone *zone_with_area(struct berth_cma **area, unsigned order_per_bit)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);

	*area = area_declare(tz, "area", AREA, AREA_PAGES, order_per_bit, BERTH_LEND_FIRST);
	return tz;
}

static int claim_quietly(struct berth_cma *area, uint64_t nr_pages, unsigned align_order,
			 unsigned flags, berth_pfn_t *pfn, struct berth_claim_report *r)
{
	struct berth_claim_params params = {
		.nr_pages = nr_pages,
		.align_order = align_order,
		.flags = flags,
	};

	return berth_cma_alloc(area, &params, pfn, r);
}

/* The claim fails, reports the error and this state of the area, and writes no pfn. */
#define assert_cma_fails(tz, error_, area_, nr_, align_, flags_, r_)                              \
	do {                                                                                      \
		berth_pfn_t pfn_ = 0x5ca1ab1e;                                                    \
		assert_claim_fails(tz, error_,                                                    \
				   claim_quietly(area_, nr_, align_, flags_, &pfn_, r_));         \
		assert_int_equal(pfn_, 0x5ca1ab1e);                                               \
		assert_int_equal((r_)->error, error_);                                            \
		assert_int_equal((r_)->nr_pages, nr_);                                            \
		assert_string_equal((r_)->area, area_stats(area_).name);                          \
		assert_int_equal((r_)->largest_free_pages, area_stats(area_).largest_free_pages); \
		assert_int_equal((r_)->largest_claimable_pages,                                   \
				 area_stats(area_).largest_claimable_pages);                      \
	} while (0)

/* The largest runs, frame by frame. */
static void assert_runs_exact(struct test_zone *tz, struct berth_cma *area)
{
	struct berth_cma_stats s = area_stats(area);
	uint64_t free = 0, claimable = 0, free_best = 0, claimable_best = 0, nr_free = 0;

	for (berth_pfn_t pfn = s.start_pfn; pfn < s.start_pfn + s.nr_pages; pfn++) {
		char c = frame_state(tz, pfn);

		nr_free += c == 'f';
		free = c == 'f' ? free + 1 : 0;
		claimable = c == 'c' || berth_page_pinned(tz->zone, pfn) ? 0 : claimable + 1;
		free_best = free > free_best ? free : free_best;
		claimable_best = claimable > claimable_best ? claimable : claimable_best;
	}
	assert_int_equal(s.free_pages, nr_free);
	assert_int_equal(s.largest_free_pages, free_best);
	assert_int_equal(s.largest_claimable_pages, claimable_best);
	assert_int_equal(s.claimed_pages + s.free_pages + s.lent_pages, s.nr_pages);
}

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

/* ---- Errors ---------------------------------------------------------------------------------- */

static void bad_claims_are_refused(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	struct berth_claim_params params = { .nr_pages = 1 };
	berth_pfn_t pfn = 7;
	struct berth_claim_report r;

	(void)state;
	assert_refused(tz, -BERTH_EINVAL, claim_quietly(area, 0, 0, 0, &pfn, &r));
	assert_int_equal(r.error, -BERTH_EINVAL);
	assert_refused(tz, -BERTH_EINVAL, claim_quietly(area, 1, 11, 0, &pfn, &r));
	assert_refused(tz, -BERTH_EINVAL, claim_quietly(area, 1, UINT32_MAX, 0, &pfn, NULL));
	assert_refused(tz, -BERTH_EINVAL, claim_quietly(area, 1, 0, 1u << 30, &pfn, NULL));
	assert_refused(tz, -BERTH_EINVAL, berth_cma_alloc(area, NULL, &pfn, NULL));
	assert_refused(tz, -BERTH_EINVAL, berth_cma_alloc(area, &params, NULL, NULL));
	assert_int_equal(pfn, 7);
	zone_close(tz);
}

static void claims_that_never_fit_are_e2big(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	struct berth_cma *area = area_declare(tz, "a", 2560, 1024, 0, BERTH_LEND_FIRST);
	struct berth_claim_report r;

	(void)state;
	assert_cma_fails(tz, -BERTH_E2BIG, area, 1025, 0, 0, &r);
	assert_int_equal(r.tries, 0);
	assert_int_equal(r.largest_claimable_pages, 1024);
	assert_cma_fails(tz, -BERTH_E2BIG, area, UINT64_MAX, 0, 0, &r);
	/* The only multiple of 1024 in [2560, 3584) is 3072. */
	assert_cma_fails(tz, -BERTH_E2BIG, area, 513, 10, 0, &r);
	assert_int_equal(area_claim(tz, area, 512, 10), 3072);
	/* Still "never", not "not now". */
	assert_cma_fails(tz, -BERTH_E2BIG, area, 513, 10, 0, &r);
	assert_cma_fails(tz, -BERTH_ENOSPC, area, 512, 10, 0, &r);
	assert_int_equal(area_stats(area).claims_failed, 5);
	zone_close(tz);
}

static void claims_in_place_are_enospc(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	struct berth_claim_report r;
	berth_pfn_t pfn;

	(void)state;
	pfn = area_claim(tz, area, 1000, 0);
	assert_cma_fails(tz, -BERTH_ENOSPC, area, 1500, 0, 0, &r);
	assert_int_equal(r.blocker_pfn, BERTH_PFN_NONE);
	area_release(tz, area, pfn, 1000);
	pfn = area_claim(tz, area, 1500, 0);
	area_release(tz, area, pfn, 1500);
	zone_close(tz);
}

/* Claims that leave gaps: whatever the sum of the free frames, the largest gap decides. */
static void gaps_between_claims_decide(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	berth_pfn_t pfns[64];
	struct berth_claim_report r;

	(void)state;
	for (unsigned i = 0; i < 64; i++)
		pfns[i] = area_claim(tz, area, 32, 5);
	for (unsigned i = 0; i < 64; i++)
		if (pfns[i] / 32 % 2)
			area_release(tz, area, pfns[i], 32);
	assert_runs_exact(tz, area);
	assert_int_equal(area_stats(area).largest_claimable_pages, 32);
	assert_int_equal(area_stats(area).free_pages, 1024);
	assert_cma_fails(tz, -BERTH_ENOSPC, area, 33, 0, 0, &r);
	assert_int_equal(r.largest_claimable_pages, 32);
	area_claim(tz, area, 32, 0);
	zone_close(tz);
}

static void pins_are_ebusy_and_named(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	struct test_owner *o = owner_open(tz, "tenant");
	struct berth_claim_report r;
	uint64_t page = owner_alloc(o, 1);
	berth_pfn_t pinned = o->table[page];

	(void)state;
	o->busy_holder = "O_DIRECT read";
	assert_int_equal(berth_page_pin(tz->zone, pinned + 1), 0);
	assert_cma_fails(tz, -BERTH_EBUSY, area, AREA_PAGES, 0, 0, &r);
	assert_int_equal(r.blocker_pfn, pinned);
	assert_int_equal(r.blocker_pages, 2);
	assert_string_equal(r.blocker_owner, "tenant");
	assert_string_equal(r.blocker_holder, "O_DIRECT read");
	assert_int_equal(r.moved_pages, 0);
	assert_runs_exact(tz, area);
	assert_true(r.largest_claimable_pages < AREA_PAGES);
	assert_int_equal(berth_page_unpin(tz->zone, pinned), 0);
	area_claim(tz, area, AREA_PAGES, 0);
	owner_close(o);
	zone_close(tz);
}

static void pins_are_avoided_where_possible(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	struct test_owner *o = owner_open(tz, "owner");
	static const berth_pfn_t keep[] = { AREA + 100, AREA + 1030, AREA + 1800 };
	berth_pfn_t pfn;

	(void)state;
	assert_int_equal(owner_exhaust(o, 0, BERTH_GFP_MOVABLE), ZONE_PAGES);
	owner_keep_only(o, keep, ARRAY_SIZE(keep));
	for (unsigned i = 0; i < ARRAY_SIZE(keep); i++)
		assert_int_equal(berth_page_pin(tz->zone, keep[i]), 0);
	assert_runs_exact(tz, area);
	assert_int_equal(area_stats(area).largest_claimable_pages, 929);
	/* The largest claimable run can be claimed, to the frame. */
	pfn = area_claim(tz, area, 929, 0);
	assert_int_equal(pfn, AREA + 101);
	assert_runs_exact(tz, area);
	area_claim(tz, area, 769, 0);
	area_claim(tz, area, 247, 0);
	area_claim(tz, area, 100, 0);
	assert_int_equal(area_stats(area).largest_claimable_pages, 0);
	assert_int_equal(area_stats(area).free_pages, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(keep); i++)
		assert_int_equal(berth_page_unpin(tz->zone, keep[i]), 0);
	owner_close(o);
	zone_close(tz);
}

static void busy_answers_lead_to_the_next_range(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	struct test_owner *o = owner_open(tz, "owner");
	static const berth_pfn_t keep[] = { AREA, AREA + 512, AREA + 1024, AREA + 1536 };
	struct berth_claim_report r;
	berth_pfn_t pfn = 0;

	(void)state;
	assert_int_equal(owner_exhaust(o, 0, BERTH_GFP_MOVABLE), ZONE_PAGES);
	owner_keep_only(o, keep, ARRAY_SIZE(keep));
	for (unsigned i = 0; i < 3; i++)
		owner_script(o, owner_page_at(o, keep[i]), 1, TEST_BUSY);
	assert_int_equal(area_claim_flags(tz, area, 512, 9, 0, &pfn, &r), 0);
	assert_int_equal(pfn, AREA + 1536);
	assert_int_equal(r.tries, 4);
	assert_int_equal(r.busy_blocks, 3);
	owner_verify(o);
	owner_close(o);
	zone_close(tz);
}

static void everybody_busy_is_ebusy(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	struct test_owner *o = owner_open(tz, "tenant");
	struct berth_claim_report r;

	(void)state;
	assert_int_equal(owner_exhaust(o, 0, BERTH_GFP_MOVABLE), ZONE_PAGES);
	owner_free_all(o, 5000, 5600);
	owner_script(o, 0, o->next_page, TEST_BUSY);
	o->busy_holder = "page lock";
	assert_cma_fails(tz, -BERTH_EBUSY, area, 512, 0, 0, &r);
	assert_true(r.tries >= 2);
	assert_true(r.blocker_pfn >= AREA && r.blocker_pfn < AREA + AREA_PAGES);
	assert_int_equal(r.blocker_pages, 1);
	assert_string_equal(r.blocker_owner, "tenant");
	assert_string_equal(r.blocker_holder, "page lock");
	assert_true(r.busy_blocks >= r.tries);
	assert_int_equal(r.moved_pages, 0);
	owner_close(o);
	zone_close(tz);
}

static void nowhere_to_move_to_is_enomem(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	struct test_owner *o = owner_open(tz, "owner");
	struct berth_claim_report r;

	(void)state;
	assert_int_equal(owner_exhaust(o, 0, BERTH_GFP_MOVABLE), ZONE_PAGES);
	assert_cma_fails(tz, -BERTH_ENOMEM, area, 1, 0, 0, &r);
	assert_cma_fails(tz, -BERTH_ENOMEM, area, 512, 0, 0, &r);
	assert_int_equal(area_stats(area).claims_failed, 2);
	owner_close(o);
	zone_close(tz);
}

/* ---- Deadlines ------------------------------------------------------------------------------- */

static int claim_until(struct berth_cma *area, uint64_t nr_pages, uint64_t deadline_ns,
		       berth_pfn_t *pfn, struct berth_claim_report *r)
{
	struct berth_claim_params params = { .nr_pages = nr_pages, .deadline_ns = deadline_ns };

	return berth_cma_alloc(area, &params, pfn, r);
}

static void without_a_deadline_nobody_waits(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	struct test_owner *o = owner_open(tz, "owner");
	berth_pfn_t pfn;
	uint64_t page = owner_alloc(o, 0);

	(void)state;
	owner_script(o, page, 1, TEST_BUSY);
	assert_int_equal(claim_until(area, AREA_PAGES, 0, &pfn, NULL), -BERTH_EBUSY);
	assert_int_equal(berth_page_pin(tz->zone, o->table[page]), 0);
	assert_int_equal(claim_until(area, AREA_PAGES, 0, &pfn, NULL), -BERTH_EBUSY);
	assert_int_equal(tz->port.nr_waits, 0);
	owner_close(o);
	zone_close(tz);
}

static void a_passed_deadline_is_eagain(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	struct test_owner *o = owner_open(tz, "owner");
	struct berth_claim_report r;
	uint64_t page = owner_alloc(o, 0), deadline = tz->port.clock_ns + 10000000;
	berth_pfn_t pfn = 3;

	(void)state;
	owner_script(o, page, 1, TEST_BUSY);
	assert_claim_fails(tz, -BERTH_EAGAIN, claim_until(area, AREA_PAGES, deadline, &pfn, &r));
	assert_int_equal(pfn, 3);
	assert_int_equal(r.error, -BERTH_EAGAIN);
	assert_true(tz->port.nr_waits > 0);
	assert_true(tz->port.clock_ns >= deadline);
	assert_true(tz->port.clock_ns < deadline + 5000000);
	assert_int_equal(r.blocker_pfn, o->table[page]);
	assert_string_equal(r.blocker_owner, "owner");
	owner_close(o);
	zone_close(tz);
}

static int claim_without_retry(struct berth_cma *area, uint64_t deadline_ns,
			       struct berth_claim_report *r)
{
	const struct berth_claim_params params = { .nr_pages = AREA_PAGES,
						   .flags = BERTH_CLAIM_NORETRY,
						   .deadline_ns = deadline_ns };
	berth_pfn_t pfn;

	return berth_cma_alloc(area, &params, &pfn, r);
}

static void noretry_waits_for_no_holder(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	struct test_owner *o = owner_open(tz, "owner");
	struct berth_claim_report r;
	uint64_t page = owner_alloc(o, 0), deadline = tz->port.clock_ns + 1000000000;

	(void)state;
	owner_script(o, page, 1, TEST_BUSY);
	assert_claim_fails(tz, -BERTH_EBUSY, claim_without_retry(area, deadline, &r));
	assert_int_equal(r.blocker_pfn, o->table[page]);
	owner_script(o, page, 1, TEST_MOVES);
	assert_int_equal(berth_page_pin(tz->zone, o->table[page]), 0);
	assert_claim_fails(tz, -BERTH_EBUSY, claim_without_retry(area, deadline, &r));
	assert_int_equal(tz->port.nr_waits, 0);
	/* Past its deadline it doesn't begin to move. */
	assert_int_equal(berth_page_unpin(tz->zone, o->table[page]), 0);
	assert_claim_fails(tz, -BERTH_EAGAIN, claim_without_retry(area, 1, &r));
	assert_int_equal(r.moved_pages, 0);
	assert_int_equal(claim_without_retry(area, deadline, &r), 0);
	assert_int_equal(tz->port.nr_waits, 0);
	owner_close(o);
	zone_close(tz);
}

/* A block that another move has frozen is waited for, but much shorter than otherwise. */
static void noretry_waits_little_for_moves(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	struct test_owner *o = owner_open(tz, "owner");
	struct berth_claim_report r;
	uint64_t page = owner_alloc(o, 0), deadline = tz->port.clock_ns + 60000000000;

	(void)state;
	assert_true(berth_page_freeze(tz->zone, o->table[page]));
	assert_int_equal(claim_without_retry(area, deadline, &r), -BERTH_EBUSY);
	assert_true(tz->port.waited_ns > 1000000);
	assert_true(tz->port.waited_ns < 6000000);
	berth_page_unfreeze(tz->zone, o->table[page]);
	assert_int_equal(claim_without_retry(area, deadline, &r), 0);
	owner_close(o);
	zone_close(tz);
}

static void stop_being_busy(void *ctx)
{
	struct test_owner *o = ctx;

	if (o->tz->port.nr_waits == 3)
		owner_script(o, 0, o->next_page, TEST_MOVES);
}

static void waiting_helps(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	struct test_owner *o = owner_open(tz, "owner");
	struct berth_claim_report r;
	uint64_t page = owner_alloc(o, 0);
	berth_pfn_t pfn = 0;

	(void)state;
	owner_script(o, page, 1, TEST_BUSY);
	tz->port.on_wait = stop_being_busy;
	tz->port.on_wait_ctx = o;
	assert_int_equal(claim_until(area, AREA_PAGES, 1000000000, &pfn, &r), 0);
	zone_ok(tz);
	assert_int_equal(pfn, AREA);
	assert_int_equal(tz->port.nr_waits, 3);
	assert_int_equal(r.error, 0);
	assert_true(r.tries > 1);
	owner_close(o);
	zone_close(tz);
}

static void slow_batch(struct test_owner *o)
{
	o->tz->port.clock_ns += 1000000;
}

static void time_is_reported_by_phase(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(&area, 0);
	struct test_owner *o = owner_open(tz, "owner");
	struct berth_claim_report r;
	uint64_t began, took, sum = 0;
	berth_pfn_t pfn = 0;

	(void)state;
	for (unsigned i = 0; i < AREA_PAGES; i++)
		owner_alloc(o, 0);
	o->on_batch = slow_batch;
	began = tz->port.clock_ns;
	assert_int_equal(claim_quietly(area, AREA_PAGES, 0, 0, &pfn, &r), 0);
	took = tz->port.clock_ns - began;
	zone_ok(tz);
	assert_true(o->nr_batches > 1);
	assert_true(r.phase_ns[BERTH_PHASE_MIGRATE] >= o->nr_batches * 1000000);
	for (unsigned i = 0; i < BERTH_NR_PHASES; i++)
		sum += r.phase_ns[i];
	assert_true(sum <= took && sum + took / 10 >= took);
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
		cmocka_unit_test(bad_claims_are_refused),
		cmocka_unit_test(claims_that_never_fit_are_e2big),
		cmocka_unit_test(claims_in_place_are_enospc),
		cmocka_unit_test(gaps_between_claims_decide),
		cmocka_unit_test(pins_are_ebusy_and_named),
		cmocka_unit_test(pins_are_avoided_where_possible),
		cmocka_unit_test(busy_answers_lead_to_the_next_range),
		cmocka_unit_test(everybody_busy_is_ebusy),
		cmocka_unit_test(nowhere_to_move_to_is_enomem),
		cmocka_unit_test(without_a_deadline_nobody_waits),
		cmocka_unit_test(a_passed_deadline_is_eagain),
		cmocka_unit_test(noretry_waits_for_no_holder),
		cmocka_unit_test(noretry_waits_little_for_moves),
		cmocka_unit_test(waiting_helps),
		cmocka_unit_test(time_is_reported_by_phase),
		cmocka_unit_test(bad_releases_are_refused),
		cmocka_unit_test(claims_are_released_by_their_own_kind),
		cmocka_unit_test(areas_do_not_claim_from_each_other),
		cmocka_unit_test(brief_statistics_are_the_same),
	};

	return cmocka_run_group_tests_name("cma", tests, NULL, NULL);
}
