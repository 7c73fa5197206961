/* SPDX-License-Identifier: MIT */
/*
 * berth_alloc_contig_range() and berth_free_contig_range(): any range of a zone, emptied and given
 * back.
 */
#include "tests/include/testowner.h"

#define ZONE_PAGES 4096u

static void release(struct test_zone *tz, berth_pfn_t start, uint64_t nr_pages)
{
	assert_int_equal(berth_free_contig_range(tz->zone, start, nr_pages), 0);
	zone_ok(tz);
}

/* ---- Free ranges ----------------------------------------------------------------------------- */

static void claim_and_release_free(berth_pfn_t start, uint64_t nr_pages)
{
	struct test_zone *tz = zone_open(.start_pfn = 0x1000, .nr_pages = ZONE_PAGES);
	struct test_picture *before = picture_take(tz);
	struct berth_claim_report r;

	assert_int_equal(contig_claim(tz, 0x1000 + start, nr_pages, 0, &r), 0);
	assert_int_equal(r.error, 0);
	assert_int_equal(r.nr_pages, nr_pages);
	assert_int_equal(r.tries, 1);
	assert_int_equal(r.moved_pages, 0);
	assert_int_equal(r.free_pages_taken, nr_pages);
	assert_int_equal(zone_stats(tz).claimed_pages, nr_pages);
	assert_int_equal(zone_stats(tz).free_pages, ZONE_PAGES - nr_pages);
	assert_int_equal(count_state(tz, 0x1000, 0x1000 + start, 'c'), 0);
	assert_int_equal(count_state(tz, 0x1000 + start + nr_pages, 0x1000 + ZONE_PAGES, 'c'), 0);
	assert_all_merged(tz);
	release(tz, 0x1000 + start, nr_pages);
	picture_unchanged(tz, before, __FILE__, __LINE__);
	zone_close(tz);
}

static void free_ranges_of_any_shape(void **state)
{
	(void)state;
	claim_and_release_free(0, 1);
	claim_and_release_free(0, ZONE_PAGES);
	claim_and_release_free(512, 512);
	claim_and_release_free(1024, 1024);
	claim_and_release_free(511, 2);
	claim_and_release_free(1, 4094);
	claim_and_release_free(100, 37);
	claim_and_release_free(1023, 1025);
	claim_and_release_free(4095, 1);
}

static void random_free_ranges(void **state)
{
	uint64_t seed = 11;

	(void)state;
	for (unsigned i = 0; i < 60; i++) {
		uint64_t start = test_random_below(&seed, ZONE_PAGES);

		claim_and_release_free(start, 1 + test_random_below(&seed, ZONE_PAGES - start));
	}
}

static void claimed_frames_go_to_nobody(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);

	(void)state;
	assert_int_equal(contig_claim(tz, 700, 1000, 0, NULL), 0);
	assert_int_equal(zone_exhaust(tz), ZONE_PAGES - 1000);
	assert_int_equal(count_state(tz, 700, 1700, 'c'), 1000);
	release(tz, 700, 1000);
	assert_int_equal(zone_exhaust(tz), 1000);
	zone_close(tz);
}

static void neighbouring_claims_stay_apart(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);

	(void)state;
	assert_int_equal(contig_claim(tz, 100, 10, 0, NULL), 0);
	assert_int_equal(contig_claim(tz, 110, 10, 0, NULL), 0);
	assert_int_equal(contig_claim(tz, 90, 10, 0, NULL), 0);
	assert_refused(tz, -BERTH_EINVAL, berth_free_contig_range(tz->zone, 100, 20));
	assert_refused(tz, -BERTH_EINVAL, berth_free_contig_range(tz->zone, 90, 30));
	release(tz, 100, 10);
	assert_int_equal(count_state(tz, 90, 100, 'c'), 10);
	assert_int_equal(count_state(tz, 110, 120, 'c'), 10);
	release(tz, 90, 10);
	release(tz, 110, 10);
	zone_close(tz);
}

/* ---- Used ranges ----------------------------------------------------------------------------- */

static void blocks_move_out_of_the_range(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	struct test_owner *o = owner_open(tz, "owner");
	static const berth_pfn_t keep[] = { 600, 700, 701, 1023 };
	struct berth_claim_report r;

	(void)state;
	assert_int_equal(owner_exhaust(o, 0, BERTH_GFP_MOVABLE), ZONE_PAGES);
	owner_keep_only(o, keep, ARRAY_SIZE(keep));
	assert_int_equal(contig_claim(tz, 512, 512, 0, &r), 0);
	assert_int_equal(r.moved_pages, 4);
	assert_int_equal(r.free_pages_taken, 508);
	assert_int_equal(r.busy_blocks, 0);
	assert_int_equal(r.blocker_pfn, BERTH_PFN_NONE);
	assert_int_equal(zone_stats(tz).moved_pages, 4);
	assert_int_equal(zone_stats(tz).used_pages, 4);
	owner_verify(o);
	release(tz, 512, 512);
	owner_close(o);
	zone_close(tz);
}

static void a_full_range_moves_wholly(unsigned order)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	struct test_owner *o = owner_open(tz, "owner");
	struct berth_claim_report r;

	assert_int_equal(owner_exhaust(o, order, BERTH_GFP_MOVABLE), ZONE_PAGES >> order);
	owner_free_all(o, 2048, 4096);
	assert_int_equal(contig_claim(tz, 0, 1024, 0, &r), 0);
	assert_int_equal(r.moved_pages, 1024);
	assert_int_equal(r.free_pages_taken, 0);
	assert_int_equal(o->largest_order, order);
	assert_int_equal(tz->port.poisoned_pages, 1024);
	owner_verify(o);
	release(tz, 0, 1024);
	assert_int_equal(count_state(tz, 0, 1024, 'f'), 1024);
	owner_close(o);
	zone_close(tz);
}

static void full_ranges_move_in_blocks(void **state)
{
	(void)state;
	a_full_range_moves_wholly(0);
	a_full_range_moves_wholly(1);
	a_full_range_moves_wholly(4);
	a_full_range_moves_wholly(9);
	a_full_range_moves_wholly(10);
}

/* Claims [start, start + nr) out of memory full of blocks of this order. */
static void edges_inside_blocks(unsigned order, berth_pfn_t start, uint64_t nr_pages)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	struct test_owner *o = owner_open(tz, "owner");

	assert_int_equal(owner_exhaust(o, order, BERTH_GFP_MOVABLE), ZONE_PAGES >> order);
	owner_free_all(o, 2048, 4096);
	assert_int_equal(contig_claim(tz, start, nr_pages, 0, NULL), 0);
	assert_int_equal(zone_stats(tz).used_pages, 2048);
	assert_int_equal(zone_stats(tz).claimed_pages, nr_pages);
	owner_verify(o);
	release(tz, start, nr_pages);
	assert_int_equal(count_state(tz, start, start + nr_pages, 'f'), nr_pages);
	assert_all_merged(tz);
	owner_close(o);
	zone_close(tz);
}

static void ranges_with_edges_inside_blocks(void **state)
{
	(void)state;
	edges_inside_blocks(3, 3, 10);
	edges_inside_blocks(3, 9, 2);
	edges_inside_blocks(4, 33, 14);
	edges_inside_blocks(10, 300, 1);
	edges_inside_blocks(10, 1000, 100);
	edges_inside_blocks(10, 1, 2046);
	edges_inside_blocks(9, 511, 514);
}

static void claim_and_lent_pages_in_one_pageblock(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	struct test_owner *o = owner_open(tz, "owner");
	uint64_t page;

	(void)state;
	assert_int_equal(contig_claim(tz, 0, 200, 0, NULL), 0);
	assert_int_equal(owner_exhaust(o, 0, BERTH_GFP_MOVABLE), ZONE_PAGES - 200);
	owner_free_all(o, 3000, 3400);
	assert_int_equal(contig_claim(tz, 200, 300, 0, NULL), 0);
	owner_verify(o);
	release(tz, 0, 200);
	assert_int_equal(count_state(tz, 200, 500, 'c'), 300);
	page = owner_alloc(o, 7);
	assert_true(o->table[page] < 200 || o->table[page] >= 500);
	release(tz, 200, 300);
	owner_close(o);
	zone_close(tz);
}

/* ---- Refusals -------------------------------------------------------------------------------- */

static int claim_quietly(struct test_zone *tz, berth_pfn_t start, uint64_t nr_pages, unsigned flags,
			 struct berth_claim_report *report)
{
	struct berth_claim_params params = { .nr_pages = nr_pages, .flags = flags };

	return berth_alloc_contig_range(tz->zone, start, nr_pages, &params, report);
}

static void bad_ranges_are_refused(void **state)
{
	struct test_zone *tz = zone_open(.start_pfn = 0x1000, .nr_pages = ZONE_PAGES);
	struct berth_claim_report r;

	(void)state;
	assert_refused(tz, -BERTH_EINVAL, claim_quietly(tz, 0x1000, 0, 0, &r));
	assert_int_equal(r.error, -BERTH_EINVAL);
	assert_refused(tz, -BERTH_EINVAL, claim_quietly(tz, 0xfff, 1, 0, &r));
	assert_refused(tz, -BERTH_EINVAL, claim_quietly(tz, 0xfff, 2, 0, NULL));
	assert_refused(tz, -BERTH_EINVAL, claim_quietly(tz, 0x2000, 1, 0, NULL));
	assert_refused(tz, -BERTH_EINVAL, claim_quietly(tz, 0x1fff, 2, 0, NULL));
	assert_refused(tz, -BERTH_EINVAL, claim_quietly(tz, 0x1000, UINT64_MAX, 0, NULL));
	assert_refused(tz, -BERTH_EINVAL, claim_quietly(tz, 0x1001, UINT64_MAX - 0x1000, 0, NULL));
	assert_refused(tz, -BERTH_EINVAL, claim_quietly(tz, BERTH_PFN_NONE, 1, 0, NULL));
	zone_close(tz);
}

static void ranges_with_holes_are_refused(void **state)
{
	struct test_zone *tz = zone_open_empty(.nr_pages = ZONE_PAGES);

	(void)state;
	assert_int_equal(berth_zone_add_memory(tz->zone, 0, 1000), 0);
	assert_int_equal(berth_zone_add_memory(tz->zone, 1001, 1000), 0);
	assert_refused(tz, -BERTH_EINVAL, claim_quietly(tz, 999, 3, 0, NULL));
	assert_refused(tz, -BERTH_EINVAL, claim_quietly(tz, 1000, 1, 0, NULL));
	assert_refused(tz, -BERTH_EINVAL, claim_quietly(tz, 2000, 10, 0, NULL));
	assert_refused(tz, -BERTH_EINVAL, claim_quietly(tz, 3000, 10, 0, NULL));
	assert_int_equal(contig_claim(tz, 990, 10, 0, NULL), 0);
	assert_int_equal(contig_claim(tz, 1001, 10, 0, NULL), 0);
	release(tz, 990, 10);
	release(tz, 1001, 10);
	zone_close(tz);
}

static void overlapping_claims_are_refused(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	struct berth_claim_report r;

	(void)state;
	assert_int_equal(contig_claim(tz, 1000, 100, 0, NULL), 0);
	assert_refused(tz, -BERTH_EBUSY, claim_quietly(tz, 1000, 100, 0, &r));
	assert_int_equal(r.error, -BERTH_EBUSY);
	assert_true(r.blocker_pfn >= 1000 && r.blocker_pfn < 1100);
	assert_refused(tz, -BERTH_EBUSY, claim_quietly(tz, 0, 1001, 0, NULL));
	assert_refused(tz, -BERTH_EBUSY, claim_quietly(tz, 1099, 1, 0, NULL));
	assert_refused(tz, -BERTH_EBUSY, claim_quietly(tz, 0, ZONE_PAGES, 0, NULL));
	assert_int_equal(contig_claim(tz, 1100, 50, 0, NULL), 0);
	release(tz, 1000, 100);
	release(tz, 1100, 50);
	zone_close(tz);
}

static void unmovable_memory_is_busy(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	struct test_owner *o = owner_open(tz, "owner");
	berth_pfn_t pfn = zone_alloc(tz, 3);
	struct berth_claim_report r;

	(void)state;
	assert_int_equal(owner_exhaust(o, 0, BERTH_GFP_MOVABLE), ZONE_PAGES - 8);
	assert_claim_fails(tz, -BERTH_EBUSY, claim_quietly(tz, pfn & ~511ull, 512, 0, &r));
	assert_int_equal(r.error, -BERTH_EBUSY);
	assert_int_equal(r.blocker_pfn, pfn);
	assert_int_equal(r.blocker_pages, 8);
	/* Nothing was moved in vain. */
	assert_int_equal(r.moved_pages, 0);
	assert_int_equal(o->nr_batches, 0);
	owner_close(o);
	zone_close(tz);
}

static void an_unmovable_block_of_an_owner_is_named(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	struct test_owner *o = owner_open(tz, "driver");
	uint64_t page = owner_alloc_gfp(o, 2, BERTH_GFP_UNMOVABLE);
	struct berth_claim_report r;

	(void)state;
	o->busy_holder = "ring buffer";
	assert_claim_fails(tz, -BERTH_EBUSY, claim_quietly(tz, 0, ZONE_PAGES, 0, &r));
	assert_int_equal(r.blocker_pfn, o->table[page]);
	assert_int_equal(r.blocker_pages, 4);
	assert_string_equal(r.blocker_owner, "driver");
	owner_close(o);
	zone_close(tz);
}

static void free_only_does_not_move(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	struct test_owner *o = owner_open(tz, "owner");
	uint64_t page = owner_alloc(o, 0);
	berth_pfn_t block = o->table[page] & ~511ull;

	(void)state;
	assert_claim_fails(tz, -BERTH_EAGAIN,
			   claim_quietly(tz, block, 512, BERTH_CLAIM_FREE_ONLY, NULL));
	assert_int_equal(o->nr_batches, 0);
	owner_free(o, page);
	assert_int_equal(contig_claim(tz, block, 512, BERTH_CLAIM_FREE_ONLY, NULL), 0);
	release(tz, block, 512);
	owner_close(o);
	zone_close(tz);
}

static void nowhere_to_move_to_is_enomem(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	struct test_owner *o = owner_open(tz, "owner");
	struct berth_claim_report r;

	(void)state;
	assert_int_equal(owner_exhaust(o, 0, BERTH_GFP_MOVABLE), ZONE_PAGES);
	assert_claim_fails(tz, -BERTH_ENOMEM, claim_quietly(tz, 0, 512, 0, &r));
	assert_int_equal(r.error, -BERTH_ENOMEM);
	/* Too little room outside: some move, all stays consistent. */
	owner_free_all(o, 2000, 2100);
	assert_claim_fails(tz, -BERTH_ENOMEM, claim_quietly(tz, 0, 512, 0, NULL));
	owner_verify(o);
	assert_int_equal(owner_exhaust(o, 0, BERTH_GFP_MOVABLE), 100);
	owner_close(o);
	zone_close(tz);
}

static void bad_releases_are_refused(void **state)
{
	struct test_zone *tz = zone_open(.start_pfn = 0x1000, .nr_pages = ZONE_PAGES);
	struct test_owner *o = owner_open(tz, "owner");
	uint64_t page;
	berth_pfn_t c = 0x1000 + 777;

	(void)state;
	assert_int_equal(contig_claim(tz, c, 300, 0, NULL), 0);
	page = owner_alloc(o, 4);
	assert_refused(tz, -BERTH_EINVAL, berth_free_contig_range(tz->zone, c, 299));
	assert_refused(tz, -BERTH_EINVAL, berth_free_contig_range(tz->zone, c, 301));
	assert_refused(tz, -BERTH_EINVAL, berth_free_contig_range(tz->zone, c, 0));
	assert_refused(tz, -BERTH_EINVAL, berth_free_contig_range(tz->zone, c + 1, 299));
	assert_refused(tz, -BERTH_EINVAL, berth_free_contig_range(tz->zone, c - 1, 301));
	assert_refused(tz, -BERTH_EINVAL, berth_free_contig_range(tz->zone, c, UINT64_MAX));
	assert_refused(tz, -BERTH_EINVAL, berth_free_contig_range(tz->zone, 0x1000, 300));
	assert_refused(tz, -BERTH_EINVAL, berth_free_contig_range(tz->zone, 0xf00, 300));
	assert_refused(tz, -BERTH_EINVAL, berth_free_contig_range(tz->zone, o->table[page], 16));
	release(tz, c, 300);
	assert_refused(tz, -BERTH_EINVAL, berth_free_contig_range(tz->zone, c, 300));
	owner_close(o);
	zone_close(tz);
}

static void claimed_frames_are_no_allocation(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = ZONE_PAGES);
	struct test_owner *o = owner_open(tz, "owner");

	(void)state;
	assert_int_equal(contig_claim(tz, 512, 512, 0, NULL), 0);
	assert_refused(tz, -BERTH_EINVAL, berth_free_pages(tz->zone, 512));
	assert_refused(tz, -BERTH_EINVAL, berth_free_range(tz->zone, 512, 512, BERTH_OWNER_NONE));
	assert_refused(tz, -BERTH_EINVAL, berth_free_range(tz->zone, 512, 1, o->id));
	assert_refused(tz, -BERTH_EINVAL, berth_page_pin(tz->zone, 600));
	assert_refused(tz, -BERTH_EINVAL, berth_page_unpin(tz->zone, 600));
	assert_false(berth_page_freeze(tz->zone, 512));
	assert_false(berth_page_pinned(tz->zone, 512));
	release(tz, 512, 512);
	owner_close(o);
	zone_close(tz);
}

static void claims_larger_than_the_largest_block(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 16384, .max_order = 9);

	(void)state;
	assert_int_equal(contig_claim(tz, 100, 16000, 0, NULL), 0);
	release(tz, 100, 16000);
	assert_int_equal(zone_stats(tz).free_pages, 16384);
	zone_close(tz);
}

/* A range in pageblocks whose frames end at an odd place, and at the zone's unaligned edges. */
static void edges_of_an_unaligned_zone(void **state)
{
	struct test_zone *tz = zone_open(.start_pfn = 0x1003, .nr_pages = 3000);

	(void)state;
	assert_int_equal(contig_claim(tz, 0x1003, 5, 0, NULL), 0);
	assert_int_equal(contig_claim(tz, 0x1003 + 2990, 10, 0, NULL), 0);
	release(tz, 0x1003, 5);
	release(tz, 0x1003 + 2990, 10);
	assert_int_equal(contig_claim(tz, 0x1003, 3000, 0, NULL), 0);
	release(tz, 0x1003, 3000);
	assert_all_merged(tz);
	zone_close(tz);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(free_ranges_of_any_shape),
		cmocka_unit_test(random_free_ranges),
		cmocka_unit_test(claimed_frames_go_to_nobody),
		cmocka_unit_test(neighbouring_claims_stay_apart),
		cmocka_unit_test(blocks_move_out_of_the_range),
		cmocka_unit_test(full_ranges_move_in_blocks),
		cmocka_unit_test(ranges_with_edges_inside_blocks),
		cmocka_unit_test(claim_and_lent_pages_in_one_pageblock),
		cmocka_unit_test(bad_ranges_are_refused),
		cmocka_unit_test(ranges_with_holes_are_refused),
		cmocka_unit_test(overlapping_claims_are_refused),
		cmocka_unit_test(unmovable_memory_is_busy),
		cmocka_unit_test(an_unmovable_block_of_an_owner_is_named),
		cmocka_unit_test(free_only_does_not_move),
		cmocka_unit_test(nowhere_to_move_to_is_enomem),
		cmocka_unit_test(bad_releases_are_refused),
		cmocka_unit_test(claimed_frames_are_no_allocation),
		cmocka_unit_test(claims_larger_than_the_largest_block),
		cmocka_unit_test(edges_of_an_unaligned_zone),
	};

	return cmocka_run_group_tests_name("contig", tests, NULL, NULL);
}
