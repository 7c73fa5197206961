/* SPDX-License-Identifier: MIT */
/*
 * Claims that fail: each cause has its code and its report, whoever is in the way is named, and a
 * deadline or its absence says how long that takes.
 */
#include "tests/include/testarea.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
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
	};

	return cmocka_run_group_tests_name("cma, errors", tests, NULL, NULL);
}
