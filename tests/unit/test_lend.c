/* SPDX-License-Identifier: MIT */
/*
 * How areas lend: balanced, down to a watermark, changed while they are in use; who borrows; an area
 * declared where memory was in use; long-term pins, which stay out under every policy.
 */
#include <berth/views.h>

#include "tests/include/testowner.h"

#define ZONE_PAGES 8192u
#define AREA_START 2048u
#define AREA_PAGES 2048u

static bool in_area(berth_pfn_t pfn)
{
	return pfn >= AREA_START && pfn < AREA_START + AREA_PAGES;
}

static struct test_zone *zone_with_area(enum berth_lend_policy lend, unsigned cpu,
					struct berth_cma **area)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);

	*area = area_declare(tz, "area", AREA_START, AREA_PAGES, 0, lend);
	test_set_cpu(cpu);
	return tz;
}

static void set_lend(struct test_zone *tz, struct berth_cma *area, enum berth_lend_policy lend,
		     uint64_t keep)
{
	assert_int_equal(berth_cma_set_lend(area, lend, keep), 0);
	assert_int_equal(area_stats(area).lend, lend);
	assert_int_equal(area_stats(area).lend_min_pages, keep);
	zone_ok(tz);
}

/* Allocates nr single movable frames; how many lie in the area. */
static uint64_t borrow(struct test_owner *o, uint64_t nr)
{
	uint64_t inside = 0, page = 0;

	for (uint64_t i = 0; i < nr; i++) {
		assert_int_equal(owner_try_alloc(o, 0, BERTH_GFP_MOVABLE, &page), 0);
		inside += in_area(o->table[page]);
	}
	return inside;
}

/* ---- Balanced -------------------------------------------------------------------------------- */

/* As __rmqueue() of Linux: from the area while it has more than half of what is free. */
static void balanced_keeps_the_area_at_half_of_what_is_free(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(BERTH_LEND_BALANCED, TEST_NO_CPU, &area);
	struct test_owner *o = owner_open(tz, "owner");
	uint64_t outside = ZONE_PAGES - AREA_PAGES, inside = AREA_PAGES, page = 0;

	(void)state;
	for (uint64_t i = 0; i < ZONE_PAGES; i++) {
		bool from_area = inside > (inside + outside) / 2 || !outside;

		assert_int_equal(owner_try_alloc(o, 0, BERTH_GFP_MOVABLE, &page), 0);
		if (in_area(o->table[page]) != from_area)
			fail_msg("frame %llu at pfn %llu, free %llu inside and %llu outside",
				 (unsigned long long)i, (unsigned long long)o->table[page],
				 (unsigned long long)inside, (unsigned long long)outside);
		inside -= from_area;
		outside -= !from_area;
	}
	zone_ok(tz);
	owner_close(o);
	zone_close(tz);
}

/* With CPUs' lists it is so but for a batch. */
static void balanced_is_kept_with_cached_frames(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(BERTH_LEND_BALANCED, 0, &area);
	struct test_owner *o = owner_open(tz, "owner");
	uint64_t inside;

	(void)state;
	assert_int_equal(borrow(o, ZONE_PAGES - 2 * AREA_PAGES), 0);
	inside = borrow(o, AREA_PAGES);
	assert_in_range(inside, AREA_PAGES / 2 - 256, AREA_PAGES / 2 + 256);
	owner_close(o);
	zone_close(tz);
}

static void balanced_passes_over_for_cma_last(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(BERTH_LEND_BALANCED, TEST_NO_CPU, &area);
	struct test_owner *o = owner_open(tz, "owner");
	uint64_t page = 0;

	(void)state;
	for (uint64_t i = 0; i < ZONE_PAGES; i++) {
		assert_int_equal(
			owner_try_alloc(o, 0, BERTH_GFP_MOVABLE | BERTH_GFP_CMA_LAST, &page), 0);
		assert_int_equal(in_area(o->table[page]), i >= ZONE_PAGES - AREA_PAGES);
	}
	owner_close(o);
	zone_close(tz);
}

/* ---- The watermark --------------------------------------------------------------------------- */

static void an_area_lends_down_to_its_watermark(void **state)
{
	static const enum berth_lend_policy policies[] = { BERTH_LEND_FIRST, BERTH_LEND_BALANCED,
							   BERTH_LEND_LAST };
	static const uint64_t keeps[] = { 1, 100, 512, AREA_PAGES - 1, AREA_PAGES, AREA_PAGES + 1 };

	(void)state;
	for (unsigned i = 0; i < 3 * 6 * 4; i++) {
		struct berth_cma *area;
		unsigned order = i % 4 / 2 ? 4 : 0;
		uint64_t keep = keeps[i / 4 % 6], n;
		uint64_t lendable = keep < AREA_PAGES ? (AREA_PAGES - keep) >> order : 0;
		struct test_zone *tz = zone_with_area(policies[i / 24], i % 2 ? 0 : TEST_NO_CPU,
						      &area);
		struct test_owner *o = owner_open(tz, "owner");

		set_lend(tz, area, policies[i / 24], keep);
		n = owner_exhaust(o, order, BERTH_GFP_MOVABLE);
		berth_pcp_drain_all(tz->zone);
		assert_int_equal(n, ((ZONE_PAGES - AREA_PAGES) >> order) + lendable);
		assert_int_equal(area_stats(area).free_pages, AREA_PAGES - (lendable << order));
		zone_ok(tz);
		owner_close(o);
		zone_close(tz);
	}
}

/* A watermark in the zone's sense counts only what can be had. */
static void frames_that_are_kept_do_not_count_for_watermarks(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(BERTH_LEND_LAST, TEST_NO_CPU, &area);
	const uint64_t outside = ZONE_PAGES - AREA_PAGES;

	(void)state;
	set_lend(tz, area, BERTH_LEND_LAST, 1000);
	assert_true(berth_watermark_ok(tz->zone, 0, outside + AREA_PAGES - 1001, BERTH_ZONE_NORMAL,
				       BERTH_ALLOC_CMA));
	assert_false(berth_watermark_ok(tz->zone, 0, outside + AREA_PAGES - 1000, BERTH_ZONE_NORMAL,
					BERTH_ALLOC_CMA));
	set_lend(tz, area, BERTH_LEND_OFF, 1000);
	assert_false(berth_watermark_ok(tz->zone, 0, outside, BERTH_ZONE_NORMAL, BERTH_ALLOC_CMA));
	assert_true(
		berth_watermark_ok(tz->zone, 0, outside - 1, BERTH_ZONE_NORMAL, BERTH_ALLOC_CMA));
	set_lend(tz, area, BERTH_LEND_FIRST, 0);
	assert_true(berth_watermark_ok(tz->zone, 0, ZONE_PAGES - 1, BERTH_ZONE_NORMAL,
				       BERTH_ALLOC_CMA));
	zone_close(tz);
}

/* Claims move borrowers into other areas as well, but not below their watermark. */
static void moves_respect_the_watermark(void **state)
{
	struct berth_cma *area, *other;
	struct test_zone *tz = zone_with_area(BERTH_LEND_FIRST, TEST_NO_CPU, &area);
	struct test_owner *o = owner_open(tz, "owner");
	struct berth_claim_report report;
	berth_pfn_t pfn, more;

	(void)state;
	other = area_declare(tz, "other", 4096, 1024, 0, BERTH_LEND_LAST);
	set_lend(tz, other, BERTH_LEND_LAST, 1024 - 100);
	assert_int_equal(owner_exhaust(o, 0, BERTH_GFP_MOVABLE), ZONE_PAGES - 1024 + 100);
	owner_free_all(o, 4096, 4096 + 1024);
	assert_int_equal(area_stats(other).free_pages, 1024);
	pfn = area_claim(tz, area, 100, 0);
	assert_int_equal(area_stats(other).free_pages, 1024 - 100);
	assert_claim_fails(tz, -BERTH_ENOMEM, area_claim_flags(tz, area, 1, 0, 0, &more, &report));
	assert_int_equal(area_stats(other).free_pages, 1024 - 100);
	area_release(tz, area, pfn, 100);
	owner_close(o);
	zone_close(tz);
}

/* ---- Changing it ----------------------------------------------------------------------------- */

static void a_new_policy_holds_at_once(void **state)
{
	(void)state;
	for (unsigned cpu = 0; cpu < 2; cpu++) {
		struct berth_cma *area;
		struct test_zone *tz = zone_with_area(BERTH_LEND_FIRST, cpu ? 0 : TEST_NO_CPU,
						      &area);
		struct test_owner *o = owner_open(tz, "owner");
		uint64_t lent;

		assert_int_equal(borrow(o, 300), 300);
		set_lend(tz, area, BERTH_LEND_OFF, 0);
		assert_int_equal(borrow(o, 300), 0);
		assert_int_equal(area_stats(area).lent_pages, 300);
		owner_free_all(o, AREA_START, AREA_START + AREA_PAGES);
		assert_int_equal(borrow(o, 300), 0);
		assert_int_equal(area_stats(area).lent_pages, 0);
		set_lend(tz, area, BERTH_LEND_LAST, 0);
		assert_int_equal(borrow(o, 300), 0);
		set_lend(tz, area, BERTH_LEND_FIRST, 0);
		berth_pcp_drain_all(tz->zone); /* of cached frames that are no area's */
		assert_int_equal(borrow(o, 300), 300);
		/* What was freed under the old policy isn't handed out under the new one. */
		owner_free_all(o, AREA_START, AREA_START + AREA_PAGES);
		set_lend(tz, area, BERTH_LEND_LAST, 0);
		assert_int_equal(borrow(o, 1000), 0);
		lent = owner_exhaust(o, 0, BERTH_GFP_MOVABLE);
		assert_true(lent >= AREA_PAGES);
		zone_ok(tz);
		owner_close(o);
		zone_close(tz);
	}
}

static void bad_policies_are_refused(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(BERTH_LEND_LAST, TEST_NO_CPU, &area);

	(void)state;
	assert_refused(tz, -BERTH_EINVAL,
		       berth_cma_set_lend(area, (enum berth_lend_policy)(BERTH_LEND_OFF + 1), 3));
	assert_int_equal(area_stats(area).lend, BERTH_LEND_LAST);
	assert_int_equal(area_stats(area).lend_min_pages, 0);
	zone_close(tz);
}

/* A claim that was made under one policy is released under another. */
static void claims_outlast_a_change(void **state)
{
	struct berth_cma *area;
	struct test_zone *tz = zone_with_area(BERTH_LEND_FIRST, 0, &area);
	struct test_owner *o = owner_open(tz, "owner");
	berth_pfn_t pfn;

	(void)state;
	borrow(o, AREA_PAGES);
	pfn = area_claim(tz, area, 700, 0);
	set_lend(tz, area, BERTH_LEND_OFF, 5);
	area_release(tz, area, pfn, 700);
	set_lend(tz, area, BERTH_LEND_BALANCED, 100);
	pfn = area_claim(tz, area, AREA_PAGES, 0);
	set_lend(tz, area, BERTH_LEND_LAST, AREA_PAGES * 2);
	area_release(tz, area, pfn, AREA_PAGES);
	owner_close(o);
	zone_close(tz);
}

/* Nothing is compacted for a block that the area wouldn't lend. */
static void compaction_makes_no_block_in_an_area_that_lends_none(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct berth_cma *area;
		struct test_zone *tz = zone_with_area(BERTH_LEND_FIRST, TEST_NO_CPU, &area);
		struct test_owner *o = owner_open(tz, "owner");
		struct berth_compact_params params = { .order = 9, .gfp = BERTH_GFP_MOVABLE };
		struct berth_compact_result result;

		owner_exhaust(o, 0, BERTH_GFP_MOVABLE);
		/* Every second frame of the area is free, and nothing outside. */
		for (berth_pfn_t pfn = AREA_START; pfn < AREA_START + AREA_PAGES; pfn += 2)
			owner_free(o, owner_page_at(o, pfn));
		set_lend(tz, area, i ? BERTH_LEND_LAST : BERTH_LEND_OFF, i ? 600 : 0);
		assert_int_not_equal(berth_compact(tz->zone, &params, &result), 0);
		assert_int_equal(result.moved_pages, 0);
		params.flags = BERTH_COMPACT_FORCE;
		set_lend(tz, area, BERTH_LEND_LAST, 0);
		assert_int_equal(berth_compact(tz->zone, &params, &result), 0);
		owner_close(o);
		zone_close(tz);
	}
}

/* ---- Who borrows ----------------------------------------------------------------------------- */

static void borrowers_are_counted_by_area(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	struct berth_cma *a = area_declare(tz, "a", 1024, 512, 0, BERTH_LEND_FIRST);
	struct berth_cma *b = area_declare(tz, "b", 2048, 1024, 0, BERTH_LEND_FIRST);
	struct test_owner *mine = owner_open(tz, "mine"), *other = owner_open(tz, "other");
	struct berth_owner_pages top[4];

	(void)state;
	assert_int_equal(berth_cma_borrowers(a, top, 4), 0);
	for (unsigned i = 0; i < 100; i++)
		owner_alloc(mine, 0);
	for (unsigned i = 0; i < 25; i++)
		owner_alloc(other, 4);
	assert_int_equal(berth_cma_borrowers(a, top, 4), 2);
	assert_string_equal(top[0].name, "other");
	assert_int_equal(top[0].pages, 400);
	assert_string_equal(top[1].name, "mine");
	assert_int_equal(top[1].pages, 100);
	assert_int_equal(berth_cma_borrowers(b, top, 4), 0);
	for (unsigned i = 0; i < 600; i++)
		owner_alloc(mine, 0);
	assert_int_equal(berth_cma_borrowers(b, top, 1), 1);
	assert_string_equal(top[0].name, "mine");
	assert_int_equal(top[0].pages + area_stats(b).free_pages, 1024);
	owner_close(mine);
	owner_close(other);
	zone_close(tz);
}

/* ---- Declaring where memory is in use -------------------------------------------------------- */

static void an_area_is_declared_out_of_a_claim(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	struct test_owner *o = owner_open(tz, "owner");
	struct berth_cma *area;
	berth_pfn_t pfn;

	(void)state;
	for (unsigned i = 0; i < 3000; i++)
		owner_alloc(o, 0);
	assert_int_equal(contig_claim(tz, 1024, 1536, 0, NULL), 0);
	area = area_declare(tz, "late", 1024, 1536, 0, BERTH_LEND_LAST);
	assert_int_equal(area_stats(area).free_pages, 1536);
	assert_int_equal(zone_stats(tz).claimed_pages, 0);
	assert_int_equal(berth_free_contig_range(tz->zone, 1024, 1536), -BERTH_EINVAL);
	pfn = area_claim(tz, area, 1536, 9);
	assert_int_equal(pfn, 1024);
	area_release(tz, area, pfn, 1536);
	owner_close(o);
	zone_close(tz);
}

static void a_part_of_a_claim_becomes_no_area(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	uint64_t bits[64] = { 0 };
	struct berth_cma_params params = { .name = "late", .nr_pages = 1024, .bitmap = bits };
	struct berth_cma *area;

	(void)state;
	assert_int_equal(contig_claim(tz, 1024, 2048, 0, NULL), 0);
	params.start_pfn = 1024;
	assert_refused(tz, -BERTH_EBUSY, berth_cma_declare(tz->zone, &params, &area));
	params.start_pfn = 2048;
	assert_refused(tz, -BERTH_EBUSY, berth_cma_declare(tz->zone, &params, &area));
	params.start_pfn = 512;
	assert_refused(tz, -BERTH_EBUSY, berth_cma_declare(tz->zone, &params, &area));
	assert_int_equal(berth_free_contig_range(tz->zone, 1024, 2048), 0);
	area = area_declare(tz, "area", 1024, 2048, 0, BERTH_LEND_FIRST);
	/* A claim of an area isn't one of the range. */
	params.start_pfn = area_claim(tz, area, 1024, 9);
	params.name = "again";
	assert_refused(tz, -BERTH_EEXIST, berth_cma_declare(tz->zone, &params, &area));
	assert_int_equal(
		berth_cma_release(berth_cma_find(tz->zone, "area"), params.start_pfn, 1024), 0);
	zone_close(tz);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(balanced_keeps_the_area_at_half_of_what_is_free),
		cmocka_unit_test(balanced_is_kept_with_cached_frames),
		cmocka_unit_test(balanced_passes_over_for_cma_last),
		cmocka_unit_test(an_area_lends_down_to_its_watermark),
		cmocka_unit_test(frames_that_are_kept_do_not_count_for_watermarks),
		cmocka_unit_test(moves_respect_the_watermark),
		cmocka_unit_test(a_new_policy_holds_at_once),
		cmocka_unit_test(bad_policies_are_refused),
		cmocka_unit_test(claims_outlast_a_change),
		cmocka_unit_test(compaction_makes_no_block_in_an_area_that_lends_none),
		cmocka_unit_test(borrowers_are_counted_by_area),
		cmocka_unit_test(an_area_is_declared_out_of_a_claim),
		cmocka_unit_test(a_part_of_a_claim_becomes_no_area),
	};

	return cmocka_run_group_tests_name("lend", tests, NULL, NULL);
}
