/* SPDX-License-Identifier: MIT */
/*
 * A zone with one area, and claims of it that fail as they should.
 */
#ifndef BERTH_TEST_AREA_H
#define BERTH_TEST_AREA_H

#include "tests/include/testowner.h"

#define ZONE_PAGES 8192u
#define AREA 2048u /* first frame of the usual area */
#define AREA_PAGES 2048u

static inline struct test_zone *zone_with_area(struct berth_cma **area, unsigned order_per_bit)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);

	*area = area_declare(tz, "area", AREA, AREA_PAGES, order_per_bit, BERTH_LEND_FIRST);
	return tz;
}

static inline int claim_quietly(struct berth_cma *area, uint64_t nr_pages, unsigned align_order,
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
static inline void assert_runs_exact(struct test_zone *tz, struct berth_cma *area)
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

#endif
