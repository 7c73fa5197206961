/* SPDX-License-Identifier: MIT */
/*
 * Migratetypes: what may lie in which pageblock, and who borrows from CMA areas when.
 */
#include "tests/include/testowner.h"

#define ZONE_PAGES 8192u
#define AREA_START 2048u
#define AREA_PAGES 2048u

static bool in_area(berth_pfn_t pfn)
{
	return pfn >= AREA_START && pfn < AREA_START + AREA_PAGES;
}

static struct test_zone *zone_with_area(enum berth_lend_policy lend, unsigned cpu)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);

	area_declare(tz, "area", AREA_START, AREA_PAGES, 0, lend);
	test_set_cpu(cpu);
	return tz;
}

static void fresh_memory_is_movable(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);

	(void)state;
	for (berth_pfn_t pfn = 0; pfn < ZONE_PAGES; pfn += 512)
		assert_int_equal(berth_pageblock_migratetype(tz->zone, pfn), BERTH_MOVABLE);
	zone_close(tz);
}

/* Beyond 8192 frames a pageblock's parts are counted for all of it alone. */
static void very_large_pageblocks_add_up(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 1u << 16, .pageblock_order = 14,
					 .max_order = 14);
	berth_pfn_t part, whole;

	(void)state;
	test_set_cpu(TEST_NO_CPU);
	assert_int_equal(berth_alloc_pages(tz->zone, 3, 0, BERTH_OWNER_NONE, 0, &part), 0);
	assert_int_equal(berth_alloc_pages(tz->zone, 14, 0, BERTH_OWNER_NONE, 0, &whole), 0);
	zone_ok(tz);
	assert_int_equal(berth_free_pages(tz->zone, part), 0);
	zone_ok(tz);
	assert_int_equal(berth_free_pages(tz->zone, whole), 0);
	assert_int_equal(zone_stats(tz).free_pages, 1u << 16);
	zone_close(tz);
}

static void area_is_cma_to_its_last_frame(void **state)
{
	struct test_zone *tz = zone_with_area(BERTH_LEND_FIRST, TEST_NO_CPU);

	(void)state;
	for (berth_pfn_t pfn = 0; pfn < ZONE_PAGES; pfn++)
		assert_int_equal(berth_pageblock_migratetype(tz->zone, pfn),
				 in_area(pfn) ? BERTH_CMA : BERTH_MOVABLE);
	assert_int_equal(zone_stats(tz).free_pages, ZONE_PAGES);
	zone_close(tz);
}

/* ---- What can't move stays out of areas ------------------------------------------------------ */

/* Exhausts the zone with this kind of allocation; nothing of it may lie in the area. */
static void exhaust_outside_area(unsigned gfp, enum berth_lend_policy lend, unsigned cpu,
				 unsigned order)
{
	struct test_zone *tz = zone_with_area(lend, cpu);
	struct test_owner *o = owner_open(tz, "owner");
	uint64_t n = owner_exhaust(o, order, gfp);

	assert_int_equal(n << order, ZONE_PAGES - AREA_PAGES);
	assert_int_equal(count_state(tz, AREA_START, AREA_START + AREA_PAGES, 'f'), AREA_PAGES);
	owner_close(o);
	zone_close(tz);
}

static void unmovable_never_uses_an_area(void **state)
{
	(void)state;
	for (unsigned cpu = 0; cpu < 2; cpu++) {
		unsigned slot = cpu ? TEST_NO_CPU : 0;

		exhaust_outside_area(BERTH_GFP_UNMOVABLE, BERTH_LEND_FIRST, slot, 0);
		exhaust_outside_area(BERTH_GFP_UNMOVABLE, BERTH_LEND_LAST, slot, 0);
		exhaust_outside_area(BERTH_GFP_UNMOVABLE, BERTH_LEND_FIRST, slot, 5);
		exhaust_outside_area(BERTH_GFP_UNMOVABLE, BERTH_LEND_FIRST, slot, 10);
	}
}

static void reclaimable_never_uses_an_area(void **state)
{
	(void)state;
	exhaust_outside_area(BERTH_GFP_RECLAIMABLE, BERTH_LEND_FIRST, TEST_NO_CPU, 0);
	exhaust_outside_area(BERTH_GFP_RECLAIMABLE, BERTH_LEND_FIRST, 0, 0);
	exhaust_outside_area(BERTH_GFP_RECLAIMABLE, BERTH_LEND_LAST, TEST_NO_CPU, 9);
}

static void no_cma_never_uses_an_area(void **state)
{
	unsigned gfp = BERTH_GFP_MOVABLE | BERTH_GFP_NO_CMA;

	(void)state;
	exhaust_outside_area(gfp, BERTH_LEND_FIRST, TEST_NO_CPU, 0);
	exhaust_outside_area(gfp, BERTH_LEND_FIRST, 0, 0);
	exhaust_outside_area(gfp, BERTH_LEND_LAST, 0, 0);
	exhaust_outside_area(gfp, BERTH_LEND_FIRST, TEST_NO_CPU, 9);
}

static void lend_off_lends_to_nobody(void **state)
{
	(void)state;
	exhaust_outside_area(BERTH_GFP_MOVABLE, BERTH_LEND_OFF, TEST_NO_CPU, 0);
	exhaust_outside_area(BERTH_GFP_MOVABLE, BERTH_LEND_OFF, 0, 0);
	exhaust_outside_area(BERTH_GFP_MOVABLE | BERTH_GFP_CMA_LAST, BERTH_LEND_OFF, 0, 0);
	exhaust_outside_area(BERTH_GFP_MOVABLE, BERTH_LEND_OFF, TEST_NO_CPU, 10);
}

/* ---- Lending policies ------------------------------------------------------------------------ */

/* Allocates movable blocks; the first are all inside, or all outside, the area until it's full. */
static void borrow_in_order(enum berth_lend_policy lend, unsigned gfp, unsigned order, unsigned cpu,
			    bool area_first)
{
	struct test_zone *tz = zone_with_area(lend, cpu);
	struct test_owner *o = owner_open(tz, "owner");
	uint64_t first = (area_first ? AREA_PAGES : ZONE_PAGES - AREA_PAGES) >> order, page = 0;

	for (uint64_t i = 0; i < ZONE_PAGES >> order; i++) {
		assert_int_equal(owner_try_alloc(o, order, BERTH_GFP_MOVABLE | gfp, &page), 0);
		if (in_area(o->table[page]) != ((i < first) == area_first))
			fail_msg("block %llu of %llu at pfn %llu", (unsigned long long)i,
				 (unsigned long long)first, (unsigned long long)o->table[page]);
	}
	assert_int_equal(owner_try_alloc(o, order, BERTH_GFP_MOVABLE | gfp, &page), -BERTH_ENOMEM);
	zone_ok(tz);
	owner_close(o);
	zone_close(tz);
}

static void lend_first_fills_the_area_first(void **state)
{
	(void)state;
	borrow_in_order(BERTH_LEND_FIRST, 0, 0, TEST_NO_CPU, true);
	borrow_in_order(BERTH_LEND_FIRST, 0, 0, 0, true);
	borrow_in_order(BERTH_LEND_FIRST, 0, 4, 0, true);
	borrow_in_order(BERTH_LEND_FIRST, 0, 9, 0, true);
}

static void lend_last_fills_the_area_last(void **state)
{
	(void)state;
	borrow_in_order(BERTH_LEND_LAST, 0, 0, TEST_NO_CPU, false);
	borrow_in_order(BERTH_LEND_LAST, 0, 0, 0, false);
	borrow_in_order(BERTH_LEND_LAST, 0, 4, 0, false);
	borrow_in_order(BERTH_LEND_LAST, 0, 9, 0, false);
}

static void cma_last_overrides_lend_first(void **state)
{
	(void)state;
	borrow_in_order(BERTH_LEND_FIRST, BERTH_GFP_CMA_LAST, 0, TEST_NO_CPU, false);
	borrow_in_order(BERTH_LEND_FIRST, BERTH_GFP_CMA_LAST, 0, 0, false);
	borrow_in_order(BERTH_LEND_FIRST, BERTH_GFP_CMA_LAST, 3, 0, false);
	borrow_in_order(BERTH_LEND_LAST, BERTH_GFP_CMA_LAST, 0, 0, false);
}

/* A few single frames are all that is left outside the area: they go before it. */
static void cma_last_uses_up_fragments_first(unsigned cpu)
{
	struct test_zone *tz = zone_with_area(BERTH_LEND_FIRST, TEST_NO_CPU);
	struct test_owner *o = owner_open(tz, "owner"), *other = owner_open(tz, "other");
	uint64_t page;

	assert_int_equal(owner_exhaust(other, 0, BERTH_GFP_MOVABLE | BERTH_GFP_NO_CMA),
			 ZONE_PAGES - AREA_PAGES);
	for (berth_pfn_t pfn = 4097; pfn < 4097 + 20; pfn += 2)
		owner_free(other, owner_page_at(other, pfn));
	test_set_cpu(cpu);
	for (unsigned i = 0; i < 20; i++) {
		page = owner_alloc_gfp(o, 0, BERTH_GFP_MOVABLE | BERTH_GFP_CMA_LAST);
		assert_int_equal(in_area(o->table[page]), i >= 10);
	}
	owner_close(o);
	owner_close(other);
	zone_close(tz);
}

static void cma_last_takes_fragments_before_the_area(void **state)
{
	(void)state;
	cma_last_uses_up_fragments_first(TEST_NO_CPU);
	cma_last_uses_up_fragments_first(0);
}

/* A frame of the area in a CPU's list isn't handed out while other memory is free. */
static void cached_area_frames_obey_the_policy(void **state)
{
	struct test_zone *tz = zone_with_area(BERTH_LEND_LAST, 0);
	struct test_owner *o = owner_open(tz, "owner");
	uint64_t page;

	(void)state;
	assert_int_equal(owner_exhaust(o, 0, BERTH_GFP_MOVABLE), ZONE_PAGES);
	owner_free_all(o, AREA_START, AREA_START + 4);
	owner_free_all(o, 0, 1024);
	page = owner_alloc(o, 0);
	assert_false(in_area(o->table[page]));
	page = owner_alloc_gfp(o, 0, BERTH_GFP_MOVABLE | BERTH_GFP_NO_CMA);
	assert_false(in_area(o->table[page]));
	owner_close(o);
	zone_close(tz);
}

static void unmovable_never_gets_a_cached_area_frame(void **state)
{
	struct test_zone *tz = zone_with_area(BERTH_LEND_FIRST, 0);
	struct test_owner *o = owner_open(tz, "owner");
	uint64_t page;

	(void)state;
	for (unsigned i = 0; i < 300; i++) {
		page = owner_alloc(o, 0);
		assert_true(in_area(o->table[page]));
	}
	for (page = 0; page < 300; page++)
		owner_free(o, page);
	for (unsigned i = 0; i < 300; i++) {
		assert_false(in_area(zone_alloc(tz, 0)));
		page = owner_alloc_gfp(o, 0, BERTH_GFP_MOVABLE | BERTH_GFP_NO_CMA);
		assert_false(in_area(o->table[page]));
	}
	owner_close(o);
	zone_close(tz);
}

/* ---- Grouping -------------------------------------------------------------------------------- */

/* Unmovable frames fill one pageblock before they spoil the next. */
static void unmovable_frames_keep_together(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	unsigned spoiled = 0;

	(void)state;
	for (unsigned i = 0; i < 512; i++) {
		berth_pfn_t pfn = zone_alloc(tz, 0);

		if (test_frame(tz, pfn & ~511ull)->owner++ == 0)
			spoiled++;
	}
	assert_int_equal(spoiled, 1);
	zone_close(tz);
}

static void movable_and_unmovable_do_not_share_pageblocks(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	struct test_owner *o = owner_open(tz, "owner");

	(void)state;
	for (unsigned i = 0; i < 600; i++) {
		berth_pfn_t pfn = zone_alloc(tz, 0);

		assert_int_equal(berth_pageblock_migratetype(tz->zone, pfn), BERTH_UNMOVABLE);
		pfn = o->table[owner_alloc(o, 0)];
		assert_int_equal(berth_pageblock_migratetype(tz->zone, pfn), BERTH_MOVABLE);
	}
	owner_close(o);
	zone_close(tz);
}

static void spoiled_pageblocks_serve_movable_when_all_else_is_used(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	struct test_owner *o = owner_open(tz, "owner");
	berth_pfn_t pfn = zone_alloc(tz, 0);

	(void)state;
	assert_int_equal(owner_exhaust(o, 0, BERTH_GFP_MOVABLE), ZONE_PAGES - 1);
	zone_free(tz, pfn);
	owner_alloc(o, 0);
	assert_int_equal(zone_free_pages(tz), 0);
	owner_close(o);
	zone_close(tz);
}

static void claims_leave_the_types_as_they_were(void **state)
{
	struct test_zone *tz = zone_with_area(BERTH_LEND_FIRST, TEST_NO_CPU);
	struct test_picture *before = picture_take(tz);

	(void)state;
	assert_int_equal(contig_claim(tz, 512, 512, 0, NULL), 0);
	assert_int_equal(contig_claim(tz, AREA_START + 100, 1000, 0, NULL), 0);
	assert_int_equal(contig_claim(tz, 5000, 33, 0, NULL), 0);
	assert_int_equal(berth_pageblock_migratetype(tz->zone, 512), BERTH_MOVABLE);
	assert_int_equal(berth_pageblock_migratetype(tz->zone, AREA_START + 600), BERTH_CMA);
	assert_int_equal(berth_pageblock_migratetype(tz->zone, 5000), BERTH_MOVABLE);
	assert_int_equal(berth_free_contig_range(tz->zone, 5000, 33), 0);
	zone_ok(tz);
	assert_int_equal(berth_free_contig_range(tz->zone, AREA_START + 100, 1000), 0);
	zone_ok(tz);
	assert_int_equal(berth_free_contig_range(tz->zone, 512, 512), 0);
	picture_unchanged(tz, before, __FILE__, __LINE__);
	zone_close(tz);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fresh_memory_is_movable),
		cmocka_unit_test(very_large_pageblocks_add_up),
		cmocka_unit_test(area_is_cma_to_its_last_frame),
		cmocka_unit_test(unmovable_never_uses_an_area),
		cmocka_unit_test(reclaimable_never_uses_an_area),
		cmocka_unit_test(no_cma_never_uses_an_area),
		cmocka_unit_test(lend_off_lends_to_nobody),
		cmocka_unit_test(lend_first_fills_the_area_first),
		cmocka_unit_test(lend_last_fills_the_area_last),
		cmocka_unit_test(cma_last_overrides_lend_first),
		cmocka_unit_test(cma_last_takes_fragments_before_the_area),
		cmocka_unit_test(cached_area_frames_obey_the_policy),
		cmocka_unit_test(unmovable_never_gets_a_cached_area_frame),
		cmocka_unit_test(unmovable_frames_keep_together),
		cmocka_unit_test(movable_and_unmovable_do_not_share_pageblocks),
		cmocka_unit_test(spoiled_pageblocks_serve_movable_when_all_else_is_used),
		cmocka_unit_test(claims_leave_the_types_as_they_were),
	};

	return cmocka_run_group_tests_name("pageblock", tests, NULL, NULL);
}
