/* SPDX-License-Identifier: MIT */
/*
 * GCMA areas: which gap a claim takes; alignment, limits and boundary against a search that tries every place.
 */
#include "tests/include/testgcma.h"

static void the_smallest_gap_that_fits_is_taken(void **state)
{
	struct test_gcma *t = gcma_open(.nr_pages = 64);
	struct berth_claim_params first = { .nr_pages = 3, .flags = BERTH_CLAIM_FIRST_FIT };
	berth_pfn_t a, b;

	(void)state;
	/* ....##....#...##............... and so on: gaps of 4, 4, 3 and 49 */
	gcma_fill(t);
	gcma_open_gap(t, 0, 4);
	gcma_open_gap(t, 6, 4);
	gcma_open_gap(t, 11, 3);
	gcma_open_gap(t, 15, 49);
	assert_int_equal(gcma_stats(t).largest_free_pages, 49);
	a = gcma_claim(t, 3);
	assert_int_equal(a, 11);
	b = gcma_claim(t, 2);
	assert_true(b == 0 || b == 6); /* of the fours */
	gcma_release(t, b, 2);
	b = gcma_claim(t, 5);
	assert_int_equal(b, 15);
	gcma_release(t, b, 5);
	gcma_release(t, a, 3);
	/* The lowest, on demand. */
	assert_int_equal(berth_gcma_alloc(t->area, &first, &a, NULL), 0);
	assert_int_equal(a, 0);
	gcma_release(t, a, 3);
	gcma_close(t);
}

static void a_claim_leaves_one_remainder_if_it_can(void **state)
{
	struct test_gcma *t = gcma_open(.nr_pages = 64);
	struct berth_claim_params params = { .nr_pages = 8, .align_order = 3 };
	berth_pfn_t pfn;

	(void)state;
	gcma_fill(t);
	gcma_open_gap(t, 3, 29); /* 8 and 16 are in its middle, 24 ends with it */
	assert_int_equal(berth_gcma_alloc(t->area, &params, &pfn, NULL), 0);
	assert_int_equal(pfn, 24);
	assert_int_equal(gcma_stats(t).largest_free_pages, 21);
	gcma_release(t, pfn, 8);
	gcma_close(t);
}

/* The last granule of a gap says where it begins, and still does when it is claimed: whoever comes behind it isn't misled. */
static void a_gap_that_ended_here_once_is_not_joined(void **state)
{
	struct test_gcma *t = gcma_open(.nr_pages = 64);
	struct berth_claim_params last = { .nr_pages = 1, .min_pfn = 7 };
	berth_pfn_t pfn;

	(void)state;
	gcma_fill(t);
	gcma_open_gap(t, 15, 49);
	gcma_open_gap(t, 4, 4);
	assert_int_equal(berth_gcma_alloc(t->area, &last, &pfn, NULL), 0);
	assert_int_equal(pfn, 7);
	gcma_open_gap(t, 8, 1);
	gcma_verify(t);
	assert_int_equal(gcma_claim(t, 1), 8);
	assert_int_equal(gcma_claim(t, 3), 4);
	gcma_release(t, 8, 1);
	gcma_release(t, 4, 3);
	gcma_release(t, pfn, 1);
	assert_int_equal(gcma_claim(t, 5), 4);
	gcma_release(t, 4, 5);
	gcma_close(t);
}

static void what_never_fits_differs_from_what_does_not_now(void **state)
{
	struct test_gcma *t = gcma_open(.start_pfn = 64, .nr_pages = 64, .granule_order = 2);
	struct berth_claim_params params = { .nr_pages = 65 };
	struct berth_claim_report report;
	berth_pfn_t pfn, held;

	(void)state;
	assert_int_equal(berth_gcma_alloc(t->area, &params, &pfn, &report), -BERTH_E2BIG);
	assert_int_equal(report.reason, BERTH_CLAIM_TOO_LARGE);
	params.nr_pages = 64;
	params.align_order = 7;
	assert_int_equal(berth_gcma_alloc(t->area, &params, &pfn, &report), -BERTH_E2BIG);
	params.align_order = 6;
	params.boundary_pages = 32;
	assert_int_equal(berth_gcma_alloc(t->area, &params, &pfn, &report), -BERTH_E2BIG);
	params.boundary_pages = 0;
	params.max_pfn = 126;
	assert_int_equal(berth_gcma_alloc(t->area, &params, &pfn, &report), -BERTH_E2BIG);
	params.max_pfn = 127;
	params.min_pfn = 65;
	assert_int_equal(berth_gcma_alloc(t->area, &params, &pfn, &report), -BERTH_E2BIG);
	params.min_pfn = 0;
	held = gcma_claim(t, 1);
	assert_int_equal(berth_gcma_alloc(t->area, &params, &pfn, &report), -BERTH_ENOSPC);
	assert_int_equal(report.reason, BERTH_CLAIM_NO_RUN);
	assert_int_equal(report.largest_free_pages, 60);
	assert_int_equal(report.largest_claimable_pages, 60);
	assert_string_equal(report.area, "test");
	assert_int_equal(report.blocker_pfn, BERTH_PFN_NONE);
	gcma_release(t, held, 1);
	assert_int_equal(berth_gcma_alloc(t->area, &params, &pfn, &report), 0);
	assert_int_equal(report.reason, BERTH_CLAIM_DONE);
	assert_int_equal(report.free_pages_taken, 64);
	gcma_release(t, pfn, 64);
	gcma_close(t);
}

/*
 * Every set of claimed units of a small area, every request there can be: a claim succeeds exactly if
 * some place is right, takes the smallest gap that has one, and lies right itself.
 */
static void every_request_in_every_state(void **state)
{
	enum { UNITS = 10, START = 6, PAGES = 20 }; /* granules of two frames, from pfn 6 on */
	struct test_gcma *t = gcma_open(.start_pfn = START, .nr_pages = PAGES, .granule_order = 1);
	uint64_t tried = 0, fitted = 0;

	(void)state;
	for (unsigned taken = 0; taken < 1u << UNITS; taken++) {
		gcma_set_units(t, taken);
		for (unsigned kind = 0; kind < 7 * 4 * 4 * 3; kind++) {
			static const berth_pfn_t limits[3][2] = { { 0, 0 }, { 9, 22 }, { 12, 17 } };
			struct berth_claim_params params = {
				.nr_pages = 1 + kind % 7,
				.align_order = kind / 7 % 4,
				.boundary_pages = kind / 28 % 4 ? 2u << kind / 28 % 4 : 0,
				.min_pfn = limits[kind / 112][0],
				.max_pfn = limits[kind / 112][1],
			};

			params.flags = kind % 5 ? 0 : BERTH_CLAIM_FIRST_FIT;
			fitted += gcma_try(t, &params, t->units);
			tried++;
		}
	}
	print_message("# %llu requests, %llu of them fit\n", (unsigned long long)tried,
		      (unsigned long long)fitted);
	gcma_set_units(t, 0);
	gcma_close(t);
}

/* Gaps beyond the bins of their own size, in random states of a large area. */
static void large_gaps_by_the_oracle(void **state)
{
	struct test_gcma *t = gcma_open(.start_pfn = 1000, .nr_pages = 4096);
	uint64_t random = 7, fitted = 0;

	(void)state;
	for (unsigned round = 0; round < 40 / TEST_SLOWDOWN + 1; round++) {
		gcma_fill(t);
		for (unsigned at = 0; at < 4096;) {
			unsigned gap = (unsigned)test_random_below(&random, round % 2 ? 90 : 700);

			gap = gap < 4096 - at ? gap : 4096 - at;
			gcma_open_gap(t, at, gap);
			at += gap + 1 + (unsigned)test_random_below(&random, 3);
		}
		gcma_verify(t);
		for (unsigned i = 0; i < 100; i++) {
			struct berth_claim_params params = {
				.nr_pages = 1 + test_random_below(&random, i % 2 ? 64 : 600),
				.align_order = i % 3 ? 0 : (unsigned)test_random_below(&random, 9),
				.boundary_pages = i % 4 ? 0 : 1024,
				.flags = i % 5 ? 0 : BERTH_CLAIM_FIRST_FIT,
			};

			fitted += gcma_try(t, &params, t->units);
		}
	}
	assert_true(fitted > 100);
	gcma_close(t);
}

/*
 * With c claims in place, f free units in at most c + 1 gaps: a claim of n units that begins anywhere fits if
 * f > (c + 1)(n - 1). Here at the limit: one unit fewer, and it needn't.
 */
static void how_much_must_be_free_for_a_claim_to_fit(void **state)
{
	enum { N = 5, CLAIMS = 9 };
	struct test_gcma *t = gcma_open(.nr_pages = (CLAIMS + 1) * (N - 1) + CLAIMS);
	struct berth_claim_params params = { .nr_pages = N };
	berth_pfn_t pfn;

	(void)state;
	/* The worst: all gaps are N - 1 long. */
	gcma_fill(t);
	for (unsigned i = 0; i <= CLAIMS; i++)
		gcma_open_gap(t, i * N, N - 1);
	assert_int_equal(gcma_stats(t).claimed_pages, CLAIMS);
	assert_int_equal(berth_gcma_alloc(t->area, &params, &pfn, NULL), -BERTH_ENOSPC);
	gcma_open_gap(t, N - 1, 1); /* c is one fewer, f one more */
	assert_int_equal(berth_gcma_alloc(t->area, &params, &pfn, NULL), 0);
	gcma_release(t, pfn, N);
	gcma_close(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_smallest_gap_that_fits_is_taken),
		cmocka_unit_test(a_claim_leaves_one_remainder_if_it_can),
		cmocka_unit_test(a_gap_that_ended_here_once_is_not_joined),
		cmocka_unit_test(what_never_fits_differs_from_what_does_not_now),
		cmocka_unit_test(every_request_in_every_state),
		cmocka_unit_test(large_gaps_by_the_oracle),
		cmocka_unit_test(how_much_must_be_free_for_a_claim_to_fit),
	};

	return cmocka_run_group_tests_name("gcma_gaps", tests, NULL, NULL);
}
