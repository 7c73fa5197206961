/* SPDX-License-Identifier: MIT */
/*
 * The buddy lists through the page allocator: splitting and merging, every order, exhaustion,
 * unaligned zones, holes, misuse. No per-CPU lists: the calling thread has no slot.
 */
#include "tests/include/testowner.h"

/* The free memory of [start, end) stands in its largest possible blocks. */
static void assert_largest_blocks(struct test_zone *tz, berth_pfn_t start, berth_pfn_t end)
{
	berth_pfn_t pfn = start;

	while (pfn < end) {
		berth_pfn_t head = BERTH_PFN_NONE;
		unsigned order = 99, want = 0;

		assert_int_equal(berth_frame_state(tz->zone, pfn, &head, &order), 'f');
		while (want < zone_max_order(tz) && pfn % (2ull << want) == 0 &&
		       pfn + (2ull << want) <= end)
			want++;
		assert_int_equal(head, pfn);
		assert_int_equal(order, want);
		pfn += 1ull << order;
	}
}

static void fresh_zone_is_one_run_of_largest_blocks(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 8192);
	struct berth_zone_stats s = zone_stats(tz);

	(void)state;
	assert_int_equal(s.spanned_pages, 8192);
	assert_int_equal(s.managed_pages, 8192);
	assert_int_equal(s.free_pages, 8192);
	assert_int_equal(s.pcp_pages + s.claimed_pages + s.used_pages, 0);
	assert_int_equal(count_free_blocks(tz, 10), 8);
	assert_largest_blocks(tz, 0, 8192);
	zone_close(tz);
}

static void unaligned_zone_has_natural_blocks(void **state)
{
	struct test_zone *tz = zone_open(.start_pfn = 0x12345, .nr_pages = 5001);

	(void)state;
	assert_int_equal(zone_stats(tz).free_pages, 5001);
	assert_largest_blocks(tz, 0x12345, 0x12345 + 5001);
	assert_int_equal(zone_exhaust(tz), 5001);
	zone_close(tz);
}

static void high_pfns(void **state)
{
	berth_pfn_t start = 0xfedcba987654321ull;
	struct test_zone *tz = zone_open(.start_pfn = start, .nr_pages = 3000);
	berth_pfn_t pfn = zone_alloc(tz, 10);

	(void)state;
	assert_true(pfn >= start && pfn + 1024 <= start + 3000);
	zone_free(tz, pfn);
	assert_largest_blocks(tz, start, start + 3000);
	zone_close(tz);
}

static void zone_of_one_frame(void **state)
{
	struct test_zone *tz = zone_open(.start_pfn = 77, .nr_pages = 1);
	berth_pfn_t pfn = zone_alloc(tz, 0);

	(void)state;
	assert_int_equal(pfn, 77);
	zone_alloc_refused(tz, 0, BERTH_GFP_UNMOVABLE, BERTH_OWNER_NONE, -BERTH_ENOMEM);
	zone_free(tz, pfn);
	zone_alloc_refused(tz, 1, BERTH_GFP_UNMOVABLE, BERTH_OWNER_NONE, -BERTH_ENOMEM);
	zone_close(tz);
}

static void one_frame_splits_a_block_once_per_order(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 1024);
	berth_pfn_t pfn = zone_alloc(tz, 0);

	(void)state;
	for (unsigned order = 0; order < 10; order++)
		assert_int_equal(count_free_blocks(tz, order), 1);
	assert_int_equal(count_free_blocks(tz, 10), 0);
	zone_free(tz, pfn);
	assert_int_equal(count_free_blocks(tz, 10), 1);
	zone_close(tz);
}

static void every_order_is_aligned_and_merges_back(void **state)
{
	struct test_zone *tz = zone_open(.start_pfn = 3, .nr_pages = 6000);

	(void)state;
	for (unsigned order = 0; order <= 10; order++) {
		berth_pfn_t a = zone_alloc(tz, order);
		berth_pfn_t b = zone_alloc(tz, order);

		assert_true(a + (1ull << order) <= b || b + (1ull << order) <= a);
		zone_free(tz, a);
		zone_free(tz, b);
		assert_largest_blocks(tz, 3, 6003);
	}
	zone_close(tz);
}

static void largest_blocks_run_out_exactly(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 4096);
	berth_pfn_t pfn[4];

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		pfn[i] = zone_alloc(tz, 10);
	zone_alloc_refused(tz, 10, BERTH_GFP_UNMOVABLE, BERTH_OWNER_NONE, -BERTH_ENOMEM);
	zone_alloc_refused(tz, 0, BERTH_GFP_UNMOVABLE, BERTH_OWNER_NONE, -BERTH_ENOMEM);
	for (unsigned i = 0; i < 4; i++)
		zone_free(tz, pfn[i]);
	assert_largest_blocks(tz, 0, 4096);
	zone_close(tz);
}

static void exhausting_gives_every_frame_once(void **state)
{
	struct test_zone *tz = zone_open(.start_pfn = 0x101, .nr_pages = 2000);
	berth_pfn_t *pfns = test_zalloc(2000, sizeof(*pfns));
	uint64_t seed = 1;

	(void)state;
	for (unsigned i = 0; i < 2000; i++) {
		assert_int_equal(berth_alloc_pages(tz->zone, 0, BERTH_GFP_UNMOVABLE,
						   BERTH_OWNER_NONE, 0, &pfns[i]),
				 0);
		assert_int_equal(test_frame(tz, pfns[i])->owner, 0);
		test_frame(tz, pfns[i])->owner = 1;
	}
	zone_alloc_refused(tz, 0, BERTH_GFP_UNMOVABLE, BERTH_OWNER_NONE, -BERTH_ENOMEM);
	assert_int_equal(zone_stats(tz).used_pages, 2000);
	test_shuffle(&seed, pfns, 2000);
	for (unsigned i = 0; i < 2000; i++) {
		assert_int_equal(berth_free_pages(tz->zone, pfns[i]), 0);
		if (i % 64 == 0)
			zone_ok(tz);
	}
	assert_largest_blocks(tz, 0x101, 0x101 + 2000);
	free(pfns);
	zone_close(tz);
}

static void fragmented_memory_has_no_high_order(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 1024);

	(void)state;
	assert_int_equal(zone_exhaust(tz), 1024);
	for (berth_pfn_t pfn = 0; pfn < 1024; pfn += 2)
		assert_int_equal(berth_free_pages(tz->zone, pfn), 0);
	zone_ok(tz);
	assert_int_equal(count_free_blocks(tz, 0), 512);
	zone_alloc_refused(tz, 1, BERTH_GFP_UNMOVABLE, BERTH_OWNER_NONE, -BERTH_ENOMEM);
	zone_free(tz, 511);
	assert_int_equal(zone_alloc(tz, 1), 510);
	zone_close(tz);
}

static void run_of_orders(unsigned max_order, unsigned pageblock_order, berth_pfn_t start,
			  uint64_t nr_pages)
{
	struct test_zone *tz = zone_open(.start_pfn = start, .nr_pages = nr_pages,
					 .max_order = max_order,
					 .pageblock_order = pageblock_order);

	assert_largest_blocks(tz, start, start + nr_pages);
	for (unsigned order = 0; order <= max_order; order++) {
		berth_pfn_t pfn = BERTH_PFN_NONE;
		int ret = berth_alloc_pages(tz->zone, order, BERTH_GFP_UNMOVABLE, BERTH_OWNER_NONE,
					    0, &pfn);

		if (ret) {
			assert_int_equal(ret, -BERTH_ENOMEM);
			continue;
		}
		assert_int_equal(pfn & ((1ull << order) - 1), 0);
		zone_ok(tz);
		zone_free(tz, pfn);
	}
	zone_alloc_refused(tz, max_order + 1, BERTH_GFP_UNMOVABLE, BERTH_OWNER_NONE, -BERTH_EINVAL);
	assert_largest_blocks(tz, start, start + nr_pages);
	zone_close(tz);
}

static void max_order_is_a_parameter(void **state)
{
	(void)state;
	run_of_orders(3, 2, 0, 64);
	run_of_orders(3, 3, 5, 61);
	run_of_orders(9, 9, 0x200, 1024);
	run_of_orders(13, 9, 0, 3 * 8192 + 100);
	run_of_orders(13, 10, 4097, 20000);
	run_of_orders(16, 9, 65536, 65536);
	run_of_orders(18, 4, 12345, 5000);
	run_of_orders(BERTH_MAX_ORDER_LIMIT, 9, 1ull << 30, 4096);
}

static void order_13_block_comes_whole(void **state)
{
	struct test_zone *tz = zone_open(.start_pfn = 8192, .nr_pages = 16384, .max_order = 13);
	berth_pfn_t pfn = zone_alloc(tz, 13);

	(void)state;
	assert_int_equal(count_state(tz, pfn, pfn + 8192, 'u'), 8192);
	zone_free(tz, pfn);
	zone_close(tz);
}

/* ---- Misuse ---------------------------------------------------------------------------------- */

static void double_free_is_refused(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 4096);
	berth_pfn_t a = zone_alloc(tz, 0), b = zone_alloc(tz, 4);

	(void)state;
	zone_free(tz, a);
	assert_refused(tz, -BERTH_EINVAL, berth_free_pages(tz->zone, a));
	zone_free(tz, b);
	assert_refused(tz, -BERTH_EINVAL, berth_free_pages(tz->zone, b));
	zone_close(tz);
}

static void double_free_with_a_used_buddy_is_refused(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 4096);
	berth_pfn_t a = zone_alloc(tz, 0), b = zone_alloc(tz, 0);

	(void)state;
	assert_int_equal(a ^ b, 1);
	zone_free(tz, a);
	assert_refused(tz, -BERTH_EINVAL, berth_free_pages(tz->zone, a));
	zone_free(tz, b);
	zone_close(tz);
}

static void free_of_a_stranger_is_refused(void **state)
{
	struct test_zone *tz = zone_open_empty(.start_pfn = 0x1000, .nr_pages = 4096);
	berth_pfn_t pfn;

	(void)state;
	assert_int_equal(berth_zone_add_memory(tz->zone, 0x1000, 2048), 0);
	pfn = zone_alloc(tz, 5);
	assert_refused(tz, -BERTH_EINVAL, berth_free_pages(tz->zone, pfn + 1));
	assert_refused(tz, -BERTH_EINVAL, berth_free_pages(tz->zone, pfn + 31));
	assert_refused(tz, -BERTH_EINVAL, berth_free_pages(tz->zone, 0x0fff));
	assert_refused(tz, -BERTH_EINVAL, berth_free_pages(tz->zone, 0x2000));
	assert_refused(tz, -BERTH_EINVAL, berth_free_pages(tz->zone, 0));
	assert_refused(tz, -BERTH_EINVAL, berth_free_pages(tz->zone, BERTH_PFN_NONE));
	assert_refused(tz, -BERTH_EINVAL, berth_free_pages(tz->zone, 0x1c00)); /* not managed */
	zone_free(tz, pfn);
	zone_close(tz);
}

static void bad_allocations_are_refused(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 4096);
	struct test_owner *o = owner_open(tz, "owner");

	(void)state;
	zone_alloc_refused(tz, 11, BERTH_GFP_UNMOVABLE, BERTH_OWNER_NONE, -BERTH_EINVAL);
	zone_alloc_refused(tz, 31, BERTH_GFP_UNMOVABLE, BERTH_OWNER_NONE, -BERTH_EINVAL);
	zone_alloc_refused(tz, 32, BERTH_GFP_UNMOVABLE, BERTH_OWNER_NONE, -BERTH_EINVAL);
	zone_alloc_refused(tz, UINT32_MAX, BERTH_GFP_UNMOVABLE, BERTH_OWNER_NONE, -BERTH_EINVAL);
	zone_alloc_refused(tz, 0, 1u << 31, BERTH_OWNER_NONE, -BERTH_EINVAL);
	zone_alloc_refused(tz, 0, 1u << 5, o->id, -BERTH_EINVAL);
	zone_alloc_refused(tz, 0, BERTH_GFP_MOVABLE, BERTH_OWNER_NONE, -BERTH_EINVAL);
	zone_alloc_refused(tz, 0, BERTH_GFP_MOVABLE, o->id + 1, -BERTH_EINVAL);
	zone_alloc_refused(tz, 0, BERTH_GFP_UNMOVABLE, o->id + 1, -BERTH_EINVAL);
	zone_alloc_refused(tz, 0, BERTH_GFP_MOVABLE, UINT32_MAX, -BERTH_EINVAL);
	owner_close(o);
	zone_close(tz);
}

/* ---- Holes ----------------------------------------------------------------------------------- */

static void memory_is_added_in_pieces_around_holes(void **state)
{
	struct test_zone *tz = zone_open_empty(.start_pfn = 0x800, .nr_pages = 8192);

	(void)state;
	assert_int_equal(berth_zone_add_memory(tz->zone, 0x800, 100), 0);
	zone_ok(tz);
	assert_int_equal(berth_zone_add_memory(tz->zone, 0x1000, 2048), 0);
	zone_ok(tz);
	assert_int_equal(berth_zone_add_memory(tz->zone, 0x2003, 1), 0);
	zone_ok(tz);
	assert_int_equal(zone_stats(tz).managed_pages, 100 + 2048 + 1);
	assert_int_equal(zone_stats(tz).spanned_pages, 8192);
	assert_largest_blocks(tz, 0x800, 0x800 + 100);
	assert_largest_blocks(tz, 0x1000, 0x1800);
	assert_largest_blocks(tz, 0x2003, 0x2004);
	assert_int_equal(frame_state(tz, 0x800 + 100), '-');
	assert_int_equal(frame_state(tz, 0x0fff), '-');
	assert_int_equal(frame_state(tz, 0x2002), '-');
	assert_int_equal(berth_frame_state(tz->zone, 0x1003, NULL, NULL), 'f');
	assert_int_equal(berth_frame_state(tz->zone, 0x0fff, NULL, NULL), '-');
	assert_int_equal(zone_exhaust(tz), 100 + 2048 + 1);
	assert_int_equal(count_state(tz, 0x800, 0x2800, '-'), 8192 - 2149);
	zone_close(tz);
}

static void neighbours_added_apart_merge(void **state)
{
	struct test_zone *tz = zone_open_empty(.nr_pages = 4096);

	(void)state;
	assert_int_equal(berth_zone_add_memory(tz->zone, 0, 1500), 0);
	assert_int_equal(berth_zone_add_memory(tz->zone, 3000, 1096), 0);
	assert_int_equal(berth_zone_add_memory(tz->zone, 1500, 1500), 0);
	zone_ok(tz);
	assert_largest_blocks(tz, 0, 4096);
	zone_close(tz);
}

static void blocks_do_not_merge_over_a_hole(void **state)
{
	struct test_zone *tz = zone_open_empty(.nr_pages = 1024);
	berth_pfn_t pfn;

	(void)state;
	assert_int_equal(berth_zone_add_memory(tz->zone, 0, 511), 0);
	assert_int_equal(berth_zone_add_memory(tz->zone, 512, 512), 0);
	assert_int_equal(zone_exhaust(tz), 1023);
	for (pfn = 0; pfn < 1024; pfn++)
		assert_int_equal(berth_free_pages(tz->zone, pfn), pfn == 511 ? -BERTH_EINVAL : 0);
	zone_ok(tz);
	assert_largest_blocks(tz, 0, 511);
	assert_largest_blocks(tz, 512, 1024);
	zone_close(tz);
}

/* ---- Freeing parts of blocks ----------------------------------------------------------------- */

/* Frees [from, to) of a fresh block of 2^order frames; the rest stays, in smaller blocks. */
static void free_part(unsigned order, uint64_t from, uint64_t to)
{
	struct test_zone *tz = zone_open(.nr_pages = 2048);
	struct test_owner *o = owner_open(tz, "owner");
	uint64_t page = owner_alloc(o, order), size = 1ull << order;
	berth_pfn_t pfn = o->table[page];

	owner_unmap(o, page + from, to - from);
	assert_int_equal(berth_free_range(tz->zone, pfn + from, to - from, o->id), 0);
	zone_ok(tz);
	assert_int_equal(zone_stats(tz).used_pages, size - (to - from));
	for (uint64_t i = 0; i < size; i++) {
		berth_pfn_t head = BERTH_PFN_NONE;
		unsigned ord = 99;
		char c = berth_frame_state(tz->zone, pfn + i, &head, &ord);

		assert_int_equal(c, i >= from && i < to ? 'f' : 'u');
		if (c == 'u')
			assert_false(head - pfn < to && head - pfn + (1ull << ord) > from);
	}
	owner_verify(o);
	owner_keep_only(o, NULL, 0);
	assert_largest_blocks(tz, 0, 2048);
	owner_close(o);
	zone_close(tz);
}

static void a_range_inside_a_block_is_freed(void **state)
{
	(void)state;
	free_part(0, 0, 1);
	free_part(1, 0, 1);
	free_part(1, 1, 2);
	free_part(3, 0, 8);
	free_part(4, 0, 5);
	free_part(4, 11, 16);
	free_part(4, 7, 9);
	free_part(4, 5, 6);
	free_part(10, 1, 1023);
	free_part(10, 511, 513);
	free_part(10, 512, 1024);
}

static void a_range_over_many_blocks_is_freed(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 2048);
	struct test_owner *o = owner_open(tz, "owner");

	(void)state;
	assert_int_equal(owner_exhaust(o, 3, BERTH_GFP_MOVABLE), 256);
	for (berth_pfn_t pfn = 101; pfn < 1003; pfn++)
		owner_unmap(o, owner_page_at(o, pfn), 1);
	assert_int_equal(berth_free_range(tz->zone, 101, 1003 - 101, o->id), 0);
	zone_ok(tz);
	assert_int_equal(zone_stats(tz).free_pages, 1003 - 101);
	assert_int_equal(count_state(tz, 101, 1003, 'f'), 1003 - 101);
	assert_all_merged(tz);
	owner_verify(o);
	owner_close(o);
	zone_close(tz);
}

static void free_range_of_what_is_not_the_owners_is_refused(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 2048, .start_pfn = 2048);
	struct test_owner *a = owner_open(tz, "a"), *b = owner_open(tz, "b");
	uint64_t page = owner_alloc(a, 9), other = owner_alloc(b, 4);
	berth_pfn_t pfn = a->table[page];

	(void)state;
	assert_refused(tz, -BERTH_EINVAL, berth_free_range(tz->zone, pfn, 512, b->id));
	assert_refused(tz, -BERTH_EINVAL, berth_free_range(tz->zone, pfn, 512, BERTH_OWNER_NONE));
	assert_refused(tz, -BERTH_EINVAL, berth_free_range(tz->zone, pfn, 513, a->id));
	assert_refused(tz, -BERTH_EINVAL, berth_free_range(tz->zone, pfn, 0, a->id));
	assert_refused(tz, -BERTH_EINVAL, berth_free_range(tz->zone, pfn, UINT64_MAX, a->id));
	assert_refused(tz, -BERTH_EINVAL, berth_free_range(tz->zone, 0, 1, a->id));
	assert_refused(tz, -BERTH_EINVAL, berth_free_range(tz->zone, 4095, 2, a->id));
	assert_refused(tz, -BERTH_EINVAL, berth_free_range(tz->zone, b->table[other], 16, a->id));
	owner_free(a, page);
	assert_refused(tz, -BERTH_EINVAL, berth_free_range(tz->zone, pfn, 512, a->id));
	owner_free(b, other);
	owner_close(a);
	owner_close(b);
	zone_close(tz);
}

static void a_pinned_block_can_not_be_split(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 2048);
	struct test_owner *o = owner_open(tz, "owner");
	uint64_t page = owner_alloc(o, 4);
	berth_pfn_t pfn = o->table[page];

	(void)state;
	assert_int_equal(berth_page_pin(tz->zone, pfn + 3), 0);
	zone_ok(tz);
	assert_refused(tz, -BERTH_EBUSY, berth_free_range(tz->zone, pfn, 8, o->id));
	assert_refused(tz, -BERTH_EBUSY, berth_free_range(tz->zone, pfn + 8, 8, o->id));
	assert_refused(tz, -BERTH_EBUSY, berth_free_range(tz->zone, pfn + 7, 1, o->id));
	assert_int_equal(berth_page_unpin(tz->zone, pfn + 12), 0);
	zone_ok(tz);
	owner_unmap(o, page + 8, 8);
	assert_int_equal(berth_free_range(tz->zone, pfn + 8, 8, o->id), 0);
	zone_ok(tz);
	owner_free(o, page);
	owner_close(o);
	zone_close(tz);
}

static void a_refused_range_leaves_its_first_blocks_whole(void **state)
{
	struct test_zone *tz = zone_open(.nr_pages = 2048);
	struct test_owner *o = owner_open(tz, "owner");

	(void)state;
	assert_int_equal(owner_exhaust(o, 4, BERTH_GFP_MOVABLE), 128);
	assert_int_equal(berth_page_pin(tz->zone, 160), 0);
	/* The range starts inside one block and ends inside the pinned one. */
	assert_refused(tz, -BERTH_EBUSY, berth_free_range(tz->zone, 8, 160, o->id));
	assert_int_equal(berth_page_unpin(tz->zone, 160), 0);
	owner_close(o);
	zone_close(tz);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fresh_zone_is_one_run_of_largest_blocks),
		cmocka_unit_test(unaligned_zone_has_natural_blocks),
		cmocka_unit_test(high_pfns),
		cmocka_unit_test(zone_of_one_frame),
		cmocka_unit_test(one_frame_splits_a_block_once_per_order),
		cmocka_unit_test(every_order_is_aligned_and_merges_back),
		cmocka_unit_test(largest_blocks_run_out_exactly),
		cmocka_unit_test(exhausting_gives_every_frame_once),
		cmocka_unit_test(fragmented_memory_has_no_high_order),
		cmocka_unit_test(max_order_is_a_parameter),
		cmocka_unit_test(order_13_block_comes_whole),
		cmocka_unit_test(double_free_is_refused),
		cmocka_unit_test(double_free_with_a_used_buddy_is_refused),
		cmocka_unit_test(free_of_a_stranger_is_refused),
		cmocka_unit_test(bad_allocations_are_refused),
		cmocka_unit_test(memory_is_added_in_pieces_around_holes),
		cmocka_unit_test(neighbours_added_apart_merge),
		cmocka_unit_test(blocks_do_not_merge_over_a_hole),
		cmocka_unit_test(a_range_inside_a_block_is_freed),
		cmocka_unit_test(a_range_over_many_blocks_is_freed),
		cmocka_unit_test(free_range_of_what_is_not_the_owners_is_refused),
		cmocka_unit_test(a_pinned_block_can_not_be_split),
		cmocka_unit_test(a_refused_range_leaves_its_first_blocks_whole),
	};

	return cmocka_run_group_tests_name("buddy", tests, NULL, NULL);
}
