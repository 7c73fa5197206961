/* SPDX-License-Identifier: MIT */
/*
 * Blocks and their parts: heads of tails, splitting, exact sizes.
 */
#include "tests/include/testzone.h"

static uint64_t nr_zeroed;

static void zero(void *ctx, berth_pfn_t pfn, uint64_t nr_pages)
{
	(void)ctx;
	(void)pfn;
	nr_zeroed += nr_pages;
}

static void migrate_nothing(void *ctx, struct berth_move *moves, unsigned nr_moves)
{
	(void)ctx;
	for (unsigned i = 0; i < nr_moves; i++)
		moves[i].result = BERTH_MOVE_BUSY;
}

static unsigned add_owner(struct test_zone *tz)
{
	static const struct berth_owner_ops ops = { .name = "owner", .migrate = migrate_nothing };
	unsigned id = 0;

	assert_int_equal(berth_owner_register(tz->zone, &ops, NULL, &id), 0);
	return id;
}

static void every_tail_leads_to_its_head(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 2048);

	(void)state;
	for (unsigned order = 0; order <= 10; order++) {
		berth_pfn_t pfn = zone_alloc(tz, order);

		for (berth_pfn_t at = pfn; at < pfn + (1ull << order); at++) {
			unsigned found = 99;

			assert_int_equal(berth_compound_head(tz->zone, at, &found), pfn);
			assert_int_equal(found, order);
		}
		assert_int_equal(berth_compound_head(tz->zone, pfn, NULL), pfn);
		zone_free(tz, pfn);
	}
	zone_close(tz);
}

static void what_is_not_allocated_has_no_head(void **state)
{
	struct test_zone *tz = zone_open(.start_pfn = 1024, .nr_pages = 2048);
	berth_pfn_t pfn = zone_alloc(tz, 3), claimed = pfn < 2048 ? 2048 : 1024;
	unsigned order = 99;

	(void)state;
	assert_int_equal(berth_compound_head(tz->zone, pfn + 8, &order), BERTH_PFN_NONE);
	assert_int_equal(berth_compound_head(tz->zone, 1023, &order), BERTH_PFN_NONE);
	assert_int_equal(berth_compound_head(tz->zone, 3072, &order), BERTH_PFN_NONE);
	assert_int_equal(contig_claim(tz, claimed, 512, 0, NULL), 0);
	assert_int_equal(berth_compound_head(tz->zone, claimed, &order), BERTH_PFN_NONE);
	assert_int_equal(order, 99);
	assert_int_equal(berth_free_contig_range(tz->zone, claimed, 512), 0);
	zone_close(tz);
}

static void a_block_is_split_into_smaller_ones(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 2048);
	unsigned owner = add_owner(tz);

	(void)state;
	for (unsigned to = 0; to <= 6; to++) {
		berth_pfn_t pfn = 0;

		assert_int_equal(
			berth_alloc_pages(tz->zone, 6, BERTH_GFP_MOVABLE, owner, 1000, &pfn), 0);
		assert_int_equal(berth_split_pages(tz->zone, pfn, to), 0);
		zone_ok(tz);
		for (unsigned i = 0; i < 64; i++) {
			unsigned order = 99, holder = 0;
			uint64_t cookie = 0;

			assert_int_equal(berth_compound_head(tz->zone, pfn + i, &order),
					 pfn + (i >> to << to));
			assert_int_equal(order, to);
			assert_true(berth_frame_owner(tz->zone, pfn + i, &holder, &cookie));
			assert_int_equal(holder, owner);
			assert_int_equal(cookie, 1000 + i);
		}
		for (unsigned i = 0; i < 64; i += 1u << to) /* each by itself */
			zone_free(tz, pfn + i);
	}
	assert_int_equal(zone_stats(tz).free_pages, 2048);
	zone_close(tz);
}

static void what_can_not_be_split_stays_whole(void **state)
{
	struct test_zone *tz = zone_open(.start_pfn = 1024, .nr_pages = 2048);
	berth_pfn_t pfn = zone_alloc(tz, 4);

	(void)state;
	assert_refused(tz, -BERTH_EINVAL, berth_split_pages(tz->zone, pfn + 1, 0)); /* a tail */
	assert_refused(tz, -BERTH_EINVAL, berth_split_pages(tz->zone, pfn, 5));
	assert_refused(tz, -BERTH_EINVAL, berth_split_pages(tz->zone, pfn + 16, 0)); /* free */
	assert_refused(tz, -BERTH_EINVAL, berth_split_pages(tz->zone, 0, 0));
	assert_int_equal(berth_page_pin(tz->zone, pfn + 3), 0);
	assert_refused(tz, -BERTH_EBUSY, berth_split_pages(tz->zone, pfn, 0));
	assert_int_equal(berth_free_pages(tz->zone, pfn), 0); /* now a pin's orphan */
	assert_refused(tz, -BERTH_EINVAL, berth_split_pages(tz->zone, pfn, 0));
	assert_int_equal(berth_page_unpin(tz->zone, pfn + 3), 0);
	assert_int_equal(zone_free_pages(tz), 2048);
	zone_close(tz);
}

static void exact_sizes_give_the_rest_back(void **state)
{
	static const unsigned sizes[] = { 1, 2, 3, 5, 7, 100, 511, 512, 513, 1000, 1023, 1024 };
	struct test_zone *tz = zone_open(.nr_pages = 4096);
	unsigned owner = add_owner(tz);

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		unsigned nr = sizes[i], gfp = i % 2 ? BERTH_GFP_MOVABLE : BERTH_GFP_UNMOVABLE;
		berth_pfn_t pfn = 1;

		assert_int_equal(berth_alloc_pages_exact(tz->zone, nr, gfp, owner, 500, &pfn), 0);
		zone_ok(tz);
		assert_int_equal(pfn & (nr - 1 ? (2u << (31 - __builtin_clz(nr - 1))) - 1 : 0), 0);
		assert_int_equal(zone_free_pages(tz), 4096 - nr);
		for (unsigned at = 0; at < nr; at++) {
			unsigned holder = 99;
			uint64_t cookie = 0;

			assert_true(berth_frame_owner(tz->zone, pfn + at, &holder, &cookie));
			assert_int_equal(holder, owner);
			assert_int_equal(cookie, 500 + at);
		}
		assert_int_equal(berth_free_pages_exact(tz->zone, pfn, nr, owner), 0);
		zone_ok(tz);
		assert_int_equal(zone_free_pages(tz), 4096);
	}
	zone_close(tz);
}

static void exact_memory_is_freed_in_parts_too(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 2048);
	berth_pfn_t pfn;

	(void)state;
	assert_int_equal(berth_alloc_pages_exact(tz->zone, 300, 0, 0, 0, &pfn), 0);
	assert_int_equal(berth_free_range(tz->zone, pfn + 10, 200, 0), 0);
	zone_ok(tz);
	assert_int_equal(zone_free_pages(tz), 2048 - 100);
	assert_refused(tz, -BERTH_EINVAL, berth_free_pages_exact(tz->zone, pfn, 300, 0));
	assert_int_equal(berth_free_range(tz->zone, pfn, 10, 0), 0);
	assert_int_equal(berth_free_range(tz->zone, pfn + 210, 90, 0), 0);
	assert_int_equal(zone_free_pages(tz), 2048);
	zone_close(tz);
}

static void bad_exact_requests_are_refused(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 1024);
	unsigned owner = add_owner(tz);
	berth_pfn_t pfn = 77;

	(void)state;
	assert_refused(tz, -BERTH_EINVAL, berth_alloc_pages_exact(tz->zone, 0, 0, 0, 0, &pfn));
	assert_refused(tz, -BERTH_EINVAL, berth_alloc_pages_exact(tz->zone, 1025, 0, 0, 0, &pfn));
	assert_refused(tz, -BERTH_EINVAL,
		       berth_alloc_pages_exact(tz->zone, UINT64_MAX, 0, 0, 0, &pfn));
	assert_refused(tz, -BERTH_EINVAL, berth_alloc_pages_exact(tz->zone, 3, 0, 0, 0, NULL));
	assert_refused(tz, -BERTH_EINVAL,
		       berth_alloc_pages_exact(tz->zone, 3, 0, owner + 1, 0, &pfn));
	assert_refused(tz, -BERTH_EINVAL,
		       berth_alloc_pages_exact(tz->zone, 3, BERTH_GFP_MOVABLE, 0, 0, &pfn));
	assert_refused(tz, -BERTH_EINVAL,
		       berth_alloc_pages_exact(tz->zone, 3, BERTH_GFP_ZERO, 0, 0, &pfn));
	assert_refused(tz, -BERTH_EINVAL,
		       berth_alloc_pages_exact(tz->zone, 3, BERTH_GFP_HIGH, 0, 0, &pfn));
	assert_int_equal(berth_alloc_pages_exact(tz->zone, 600, 0, 0, 0, &pfn), 0);
	assert_refused(tz, -BERTH_ENOMEM,
		       berth_alloc_pages_exact(tz->zone, 300, 0, 0, 0, &(berth_pfn_t){ 0 }));
	assert_int_equal(berth_free_range(tz->zone, pfn, 600, 0), 0);
	zone_close(tz);
}

/* A single cached frame keeps the only block from being whole. */
static void exact_requests_collect_cached_frames(void **state)
{
	struct berth_port_ops ops = test_port_ops;
	struct test_zone *tz;
	berth_pfn_t pfn;

	(void)state;
	ops.zero = zero;
	tz = zone_open(.nr_pages = 1024, .port = &ops);
	test_set_cpu(0);
	assert_int_equal(berth_alloc_pages(tz->zone, 0, 0, 0, 0, &pfn), 0);
	assert_int_equal(berth_free_pages(tz->zone, pfn), 0);
	assert_true(zone_stats(tz).pcp_pages > 0);
	nr_zeroed = 0;
	assert_int_equal(berth_alloc_pages_exact(tz->zone, 1000, BERTH_GFP_ZERO, 0, 0, &pfn), 0);
	assert_int_equal(nr_zeroed, 1000);
	assert_int_equal(berth_free_pages_exact(tz->zone, pfn, 1000, 0), 0);
	test_set_cpu(TEST_NO_CPU);
	zone_close(tz);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_tail_leads_to_its_head),
		cmocka_unit_test(what_is_not_allocated_has_no_head),
		cmocka_unit_test(a_block_is_split_into_smaller_ones),
		cmocka_unit_test(what_can_not_be_split_stays_whole),
		cmocka_unit_test(exact_sizes_give_the_rest_back),
		cmocka_unit_test(exact_memory_is_freed_in_parts_too),
		cmocka_unit_test(bad_exact_requests_are_refused),
		cmocka_unit_test(exact_requests_collect_cached_frames),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
