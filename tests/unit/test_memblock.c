/* SPDX-License-Identifier: MIT */
/*
 * Memblock: the rules of its lists by example. Allocation is in test_memblock_alloc.c, growth in
 * test_memblock_grow.c, random operations in test_memblock_model.c, handing over in test_hand_over.c.
 */
#include "tests/include/testmemblock.h"

/* ---- Adding ----------------------------------------------------------------------------------- */

static void an_empty_instance_has_nothing(void **state)
{
	struct fixture *f = fixture_open(4, NULL);
	struct berth_memblock_request request = { .size_bytes = 1, .node = ANY };
	struct berth_memblock_region range;
	struct berth_memblock_stats s;
	berth_phys_t at = 0, base = 77;

	(void)state;
	berth_memblock_stats(&f->mb, &s);
	assert_int_equal(s.memory_bytes + s.reserved_bytes + s.free_bytes + s.start + s.end, 0);
	assert_int_equal(s.max_memory, 4);
	assert_false(berth_memblock_next_memory(&f->mb, &at, &range));
	assert_false(berth_memblock_next_free(&f->mb, &at, &range));
	at = BERTH_PHYS_MAX;
	assert_false(berth_memblock_previous_free(&f->mb, &at, &range));
	assert_false(berth_memblock_is_memory(&f->mb, 0, 1));
	assert_null(berth_memblock_region_at(&f->mb, 0));
	assert_mb_refused(f, -BERTH_ENOMEM, berth_memblock_alloc(&f->mb, &request, &base));
	assert_int_equal(base, 77);
	fixture_close(f);
}

static void bad_parameters_are_refused(void **state)
{
	struct berth_memblock_region regions[2];
	struct berth_memblock_ops half = { .alloc = fixture_alloc };
	const struct berth_memblock_params good = { .memory = regions,
						    .reserved = regions + 1,
						    .max_memory = 1,
						    .max_reserved = 1 };
	struct berth_memblock_params p = good;
	struct berth_memblock mb;

	(void)state;
	assert_int_equal(berth_memblock_init(NULL, &good), -BERTH_EINVAL);
	assert_int_equal(berth_memblock_init(&mb, NULL), -BERTH_EINVAL);
	p.memory = NULL;
	assert_int_equal(berth_memblock_init(&mb, &p), -BERTH_EINVAL);
	p = good;
	p.max_memory = UINT32_MAX;
	assert_int_equal(berth_memblock_init(&mb, &p), -BERTH_EINVAL);
	p = good;
	p.reserved = NULL;
	assert_int_equal(berth_memblock_init(&mb, &p), -BERTH_EINVAL);
	p = good;
	p.max_memory = 0;
	assert_int_equal(berth_memblock_init(&mb, &p), -BERTH_EINVAL);
	p = good;
	p.max_reserved = 0;
	assert_int_equal(berth_memblock_init(&mb, &p), -BERTH_EINVAL);
	p.max_reserved = UINT32_MAX;
	assert_int_equal(berth_memblock_init(&mb, &p), -BERTH_EINVAL);
	p = good;
	p.ops = &half;
	assert_int_equal(berth_memblock_init(&mb, &p), -BERTH_EINVAL);
	assert_int_equal(berth_memblock_init(&mb, &good), 0);
}

/*
 *	       +--------+        +--------+
 *	       |   1    |        |   2    |
 *	       +--------+        +--------+
 */
static void disjoint_regions_stay_apart(void **state)
{
	struct fixture *f = fixture_open(4, NULL);

	(void)state;
	add(f, 1 * GIB, 8 * KIB);
	add(f, 1 * GIB + 16 * KIB, 4 * KIB);
	assert_list(f->mb.memory, R(1 * GIB, 8 * KIB), R(1 * GIB + 16 * KIB, 4 * KIB));
	assert_int_equal(f->mb.memory.total_bytes, 12 * KIB);
	fixture_close(f);
}

/*
 *	           +---------------+             the new one begins below
 *	       +---+-----+  1      |
 *	       |   2     |---------+
 *	       +---------+
 */
static void an_overlap_with_the_bottom_is_absorbed(void **state)
{
	struct fixture *f = fixture_open(4, NULL);

	(void)state;
	add(f, 512 * MIB, 1 * GIB);
	add(f, 256 * MIB, 512 * MIB);
	assert_list(f->mb.memory, R(256 * MIB, 1 * GIB + 256 * MIB));
	fixture_close(f);
}

static void an_overlap_with_the_top_is_absorbed(void **state)
{
	struct fixture *f = fixture_open(4, NULL);

	(void)state;
	add(f, 256 * MIB, 512 * MIB);
	add(f, 512 * MIB, 1 * GIB);
	assert_list(f->mb.memory, R(256 * MIB, 1 * GIB + 256 * MIB));
	fixture_close(f);
}

static void what_is_there_already_changes_nothing(void **state)
{
	struct fixture *f = fixture_open(1, NULL);

	(void)state;
	add(f, 8 * MIB, 32 * MIB);
	add(f, 16 * MIB, 1 * MIB); /* inside */
	add(f, 8 * MIB, 32 * MIB); /* twice */
	add(f, 24 * MIB, 0);
	add(f, 100 * MIB, 0);
	assert_list(f->mb.memory, R(8 * MIB, 32 * MIB));
	fixture_close(f);
}

/*
 *	       +-------+------+-------+
 *	       |   1   |  3   |   2   |          three become one
 *	       +-------+------+-------+
 */
static void filling_a_gap_merges_all(void **state)
{
	struct fixture *f = fixture_open(2, NULL);

	(void)state;
	add(f, 1 * GIB, 8 * KIB);
	add(f, 1 * GIB + 16 * KIB, 8 * KIB);
	add(f, 1 * GIB + 8 * KIB, 8 * KIB);
	assert_list(f->mb.memory, R(1 * GIB, 24 * KIB));
	fixture_close(f);
}

/*
 *	   |---------------- added with node 1 -------------|
 *	       +--------+              +--------+
 *	   ### | node 0 | ############ |hotplug | ########
 *	       +--------+              +--------+
 */
static void an_overlap_keeps_flags_and_nodes_of_what_was_there(void **state)
{
	struct fixture *f = fixture_open(5, NULL);

	(void)state;
	must(f, berth_memblock_add(&f->mb, 4 * MIB, 4 * MIB, 0, 0));
	must(f, berth_memblock_add(&f->mb, 16 * MIB, 4 * MIB, 1, HOTPLUG));
	must(f, berth_memblock_add(&f->mb, 1 * MIB, 31 * MIB, 1, 0));
	assert_list(f->mb.memory, { 1 * MIB, 3 * MIB, 0, 1 }, { 4 * MIB, 4 * MIB, 0, 0 },
		    { 8 * MIB, 8 * MIB, 0, 1 }, { 16 * MIB, 4 * MIB, HOTPLUG, 1 },
		    { 20 * MIB, 12 * MIB, 0, 1 });
	fixture_close(f);
}

/* The last byte of all addresses can't be described. */
static void a_range_is_cut_where_addresses_end(void **state)
{
	struct fixture *f = fixture_open(4, NULL);

	(void)state;
	add(f, BERTH_PHYS_MAX - 1 * MIB, 2 * MIB);
	assert_list(f->mb.memory, R(BERTH_PHYS_MAX - 1 * MIB, 1 * MIB));
	add(f, 1 * MIB, UINT64_MAX);
	assert_list(f->mb.memory, R(1 * MIB, BERTH_PHYS_MAX - 1 * MIB));
	add(f, 0, UINT64_MAX);
	assert_list(f->mb.memory, R(0, BERTH_PHYS_MAX));
	add(f, BERTH_PHYS_MAX, 1);
	reserve(f, BERTH_PHYS_MAX - 1, 1);
	reserve(f, BERTH_PHYS_MAX - 1, UINT64_MAX);
	assert_list(f->mb.reserved, R(BERTH_PHYS_MAX - 1, 1));
	must(f, berth_memblock_remove(&f->mb, 4 * KIB, UINT64_MAX));
	assert_list(f->mb.memory, R(0, 4 * KIB));
	must(f, berth_memblock_free(&f->mb, BERTH_PHYS_MAX - 1, 9));
	assert_int_equal(f->mb.reserved.nr, 0);
	fixture_close(f);
}

static void unknown_flags_are_refused(void **state)
{
	struct fixture *f = fixture_open(4, NULL);

	(void)state;
	add(f, 1 * MIB, 1 * MIB);
	assert_mb_refused(f, -BERTH_EINVAL, berth_memblock_add(&f->mb, 4 * MIB, 1, 0, 16));
	assert_mb_refused(f, -BERTH_EINVAL, berth_memblock_mark(&f->mb, 1 * MIB, 1, 1u << 31, 0));
	assert_mb_refused(f, -BERTH_EINVAL, berth_memblock_mark(&f->mb, 1 * MIB, 1, 0, 32));
	assert_mb_refused(f, -BERTH_EINVAL, berth_memblock_mark(&f->mb, 1 * MIB, 1, NOMAP, NOMAP));
	fixture_close(f);
}

/* ---- Reserving, removing, freeing -------------------------------------------------------------- */

static void reserving_does_not_ask_for_memory(void **state)
{
	struct fixture *f = fixture_open(4, NULL);

	(void)state;
	reserve(f, 2 * GIB, 128 * MIB);
	reserve(f, 1 * GIB, 1 * GIB + 1);
	assert_list(f->mb.reserved, R(1 * GIB, 1 * GIB + 128 * MIB));
	assert_int_equal(f->mb.memory.nr, 0);
	fixture_close(f);
}

/*
 *	       +------+-------------+--------+
 *	       | left |   removed   | right  |
 *	       +------+-------------+--------+
 */
static void removing_from_the_inside_splits(void **state)
{
	struct fixture *f = fixture_open(2, NULL);

	(void)state;
	must(f, berth_memblock_add(&f->mb, 16 * MIB, 16 * MIB, 3, MIRROR));
	must(f, berth_memblock_remove(&f->mb, 20 * MIB, 4 * MIB));
	assert_list(f->mb.memory, { 16 * MIB, 4 * MIB, MIRROR, 3 },
		    { 24 * MIB, 8 * MIB, MIRROR, 3 });
	assert_int_equal(f->mb.memory.total_bytes, 12 * MIB);
	fixture_close(f);
}

static void removing_cuts_drops_and_leaves_alone(void **state)
{
	struct fixture *f = fixture_open(4, NULL);

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		add(f, (1 + 4 * i) * MIB, 2 * MIB);
	must(f, berth_memblock_remove(&f->mb, 3 * MIB, 2 * MIB)); /* a gap: nothing */
	assert_int_equal(f->mb.memory.nr, 4);
	must(f,
	     berth_memblock_remove(&f->mb, 2 * MIB, 8 * MIB)); /* top of 1, all of 2, bottom of 3 */
	assert_list(f->mb.memory, R(1 * MIB, 1 * MIB), R(10 * MIB, 1 * MIB), R(13 * MIB, 2 * MIB));
	must(f, berth_memblock_remove(&f->mb, 0, UINT64_MAX));
	assert_int_equal(f->mb.memory.nr, 0);
	must(f, berth_memblock_remove(&f->mb, 0, UINT64_MAX));
	fixture_close(f);
}

static void freeing_a_part_leaves_the_rest_reserved(void **state)
{
	struct fixture *f = fixture_open(4, NULL);

	(void)state;
	add(f, 0, 64 * MIB);
	reserve(f, 8 * MIB, 8 * MIB);
	must(f, berth_memblock_free(&f->mb, 10 * MIB, 2 * MIB));
	assert_list(f->mb.reserved, R(8 * MIB, 2 * MIB), R(12 * MIB, 4 * MIB));
	must(f, berth_memblock_free(&f->mb, 10 * MIB, 2 * MIB)); /* isn't reserved: nothing */
	must(f, berth_memblock_free(&f->mb, 0, 9 * MIB));
	must(f, berth_memblock_free(&f->mb, 15 * MIB, 9 * MIB));
	assert_list(f->mb.reserved, R(9 * MIB, 1 * MIB), R(12 * MIB, 3 * MIB));
	assert_list(f->mb.memory, R(0, 64 * MIB));
	fixture_close(f);
}

/* ---- Marks and nodes --------------------------------------------------------------------------- */

static void a_mark_splits_and_its_removal_merges(void **state)
{
	struct fixture *f = fixture_open(4, NULL);

	(void)state;
	add(f, 16 * MIB, 16 * MIB);
	must(f, berth_memblock_mark(&f->mb, 20 * MIB, 4 * MIB, NOMAP, 0));
	assert_list(f->mb.memory, R(16 * MIB, 4 * MIB), { 20 * MIB, 4 * MIB, NOMAP, ANY },
		    R(24 * MIB, 8 * MIB));
	must(f, berth_memblock_mark(&f->mb, 20 * MIB, 1 * MIB, HOTPLUG, NOMAP));
	must(f, berth_memblock_mark(&f->mb, 0, 21 * MIB, 0, HOTPLUG));
	assert_list(f->mb.memory, R(16 * MIB, 5 * MIB), { 21 * MIB, 3 * MIB, NOMAP, ANY },
		    R(24 * MIB, 8 * MIB));
	must(f, berth_memblock_mark(&f->mb, 0, UINT64_MAX, 0, NOMAP));
	assert_list(f->mb.memory, R(16 * MIB, 16 * MIB));
	must(f, berth_memblock_mark(&f->mb, 0, 16 * MIB, NOMAP, 0)); /* no memory there */
	assert_list(f->mb.memory, R(16 * MIB, 16 * MIB));
	fixture_close(f);
}

static void nodes_are_set_over_several_regions(void **state)
{
	struct fixture *f = fixture_open(4, NULL);

	(void)state;
	add(f, 0, 4 * MIB);
	add(f, 6 * MIB, 4 * MIB);
	must(f, berth_memblock_set_node(&f->mb, 2 * MIB, 6 * MIB, 1));
	assert_list(f->mb.memory, R(0, 2 * MIB), { 2 * MIB, 2 * MIB, 0, 1 },
		    { 6 * MIB, 2 * MIB, 0, 1 }, R(8 * MIB, 2 * MIB));
	must(f, berth_memblock_set_node(&f->mb, 0, UINT64_MAX, 0));
	assert_list(f->mb.memory, { 0, 4 * MIB, 0, 0 }, { 6 * MIB, 4 * MIB, 0, 0 });
	fixture_close(f);
}

/* ---- Looking ----------------------------------------------------------------------------------- */

static void free_ranges_are_memory_less_reserved(void **state)
{
	static const struct berth_memblock_region expected[] = {
		{ 16 * MIB, 2 * MIB, 0, 0 },
		{ 20 * MIB, 4 * MIB, 0, 0 },
		{ 24 * MIB, 2 * MIB, 0, 1 },
		{ 40 * MIB, 1 * MIB, HOTPLUG, 1 },
	};
	struct fixture *f = fixture_open(8, NULL);
	struct berth_memblock_region range;
	struct berth_memblock_stats s;
	berth_phys_t at = 0;

	(void)state;
	must(f, berth_memblock_add(&f->mb, 16 * MIB, 8 * MIB, 0, 0));
	must(f, berth_memblock_add(&f->mb, 24 * MIB, 8 * MIB, 1, 0));
	must(f, berth_memblock_add(&f->mb, 36 * MIB, 1 * MIB, 1, NOMAP));
	must(f, berth_memblock_add(&f->mb, 38 * MIB, 1 * MIB, 1, 0));
	must(f, berth_memblock_add(&f->mb, 40 * MIB, 1 * MIB, 1, HOTPLUG));
	reserve(f, 18 * MIB, 2 * MIB);
	reserve(f, 26 * MIB, 14 * MIB);
	for (unsigned i = 0; i < ARRAY_SIZE(expected); i++) {
		assert_true(berth_memblock_next_free(&f->mb, &at, &range));
		assert_memory_equal(&range, &expected[i], sizeof(range));
	}
	assert_false(berth_memblock_next_free(&f->mb, &at, &range));
	at = BERTH_PHYS_MAX;
	for (unsigned i = ARRAY_SIZE(expected); i > 0; i--) {
		assert_true(berth_memblock_previous_free(&f->mb, &at, &range));
		assert_memory_equal(&range, &expected[i - 1], sizeof(range));
	}
	assert_false(berth_memblock_previous_free(&f->mb, &at, &range));
	berth_memblock_stats(&f->mb, &s);
	assert_int_equal(s.memory_bytes, 19 * MIB);
	assert_int_equal(s.reserved_bytes, 16 * MIB);
	assert_int_equal(s.free_bytes, 9 * MIB);
	assert_int_equal(s.start, 16 * MIB);
	assert_int_equal(s.end, 41 * MIB);
	assert_int_equal(s.nr_memory, 5);
	assert_int_equal(s.nr_reserved, 2);
	fixture_close(f);
}

static void questions_about_ranges(void **state)
{
	struct fixture *f = fixture_open(8, NULL);
	const struct berth_memblock *mb = &f->mb;

	(void)state;
	must(f, berth_memblock_add(&f->mb, 16 * MIB, 8 * MIB, 0, 0));
	must(f, berth_memblock_add(&f->mb, 24 * MIB, 8 * MIB, 1, NOMAP));
	reserve(f, 31 * MIB, 2 * MIB);
	assert_true(berth_memblock_is_memory(mb, 16 * MIB, 16 * MIB)); /* of two regions */
	assert_false(berth_memblock_is_memory(mb, 16 * MIB, 16 * MIB + 1));
	assert_false(berth_memblock_is_memory(mb, 16 * MIB - 1, 1));
	assert_false(berth_memblock_is_memory(mb, 16 * MIB, 0));
	assert_false(berth_memblock_is_memory(mb, 16 * MIB, UINT64_MAX));
	assert_true(berth_memblock_is_reserved(mb, 33 * MIB - 1, 1));
	assert_false(berth_memblock_is_reserved(mb, 33 * MIB, 1));
	assert_true(berth_memblock_overlaps_reserved(mb, 0, UINT64_MAX));
	assert_false(berth_memblock_overlaps_reserved(mb, 0, 31 * MIB));
	assert_true(berth_memblock_overlaps_reserved(mb, 0, 31 * MIB + 1));
	assert_true(berth_memblock_overlaps_memory(mb, 32 * MIB - 1, UINT64_MAX));
	assert_false(berth_memblock_overlaps_memory(mb, 32 * MIB, UINT64_MAX));
	assert_false(berth_memblock_overlaps_memory(mb, 17 * MIB, 0));
	assert_int_equal(berth_memblock_region_at(mb, 24 * MIB)->flags, NOMAP);
	assert_int_equal(berth_memblock_region_at(mb, 24 * MIB - 1)->node, 0);
	assert_null(berth_memblock_region_at(mb, 32 * MIB));
	assert_null(berth_memblock_region_at(mb, 16 * MIB - 1));
	fixture_close(f);
}

static void a_limit_of_memory_is_enforced(void **state)
{
	struct fixture *f = fixture_open(8, NULL);

	(void)state;
	add(f, 16 * MIB, 8 * MIB);
	add(f, 32 * MIB, 8 * MIB);
	reserve(f, 20 * MIB, 1 * MIB);
	reserve(f, 33 * MIB, 4 * MIB);
	reserve(f, 64 * MIB, 4 * MIB);
	must(f, berth_memblock_enforce_limit(&f->mb, 0));
	must(f, berth_memblock_enforce_limit(&f->mb, 17 * MIB));
	assert_int_equal(f->mb.memory.total_bytes, 16 * MIB);
	assert_int_equal(f->mb.reserved.nr, 3);
	must(f, berth_memblock_enforce_limit(&f->mb, 16 * MIB)); /* all of memory, nothing above */
	assert_int_equal(f->mb.memory.total_bytes, 16 * MIB);
	assert_int_equal(f->mb.reserved.nr, 2);
	must(f, berth_memblock_enforce_limit(&f->mb, 10 * MIB));
	assert_list(f->mb.memory, R(16 * MIB, 8 * MIB), R(32 * MIB, 2 * MIB));
	assert_list(f->mb.reserved, R(20 * MIB, 1 * MIB), R(33 * MIB, 1 * MIB));
	must(f, berth_memblock_enforce_limit(&f->mb, 8 * MIB));
	assert_list(f->mb.memory, R(16 * MIB, 8 * MIB));
	assert_list(f->mb.reserved, R(20 * MIB, 1 * MIB));
	fixture_close(f);
}

static void a_cap_keeps_a_range_and_nomap_memory(void **state)
{
	struct fixture *f = fixture_open(4, NULL);

	(void)state;
	add(f, 16 * MIB, 16 * MIB);
	must(f, berth_memblock_add(&f->mb, 4 * MIB, 4 * MIB, ANY, NOMAP));
	must(f, berth_memblock_mark(&f->mb, 30 * MIB, 2 * MIB, NOMAP, 0));
	reserve(f, 0, 18 * MIB);
	reserve(f, 24 * MIB, 8 * MIB);
	must(f, berth_memblock_cap(&f->mb, 17 * MIB, 0));
	assert_int_equal(f->mb.memory.nr, 3);
	must(f, berth_memblock_cap(&f->mb, 17 * MIB, 8 * MIB));
	assert_list(f->mb.memory, { 4 * MIB, 4 * MIB, NOMAP, ANY }, R(17 * MIB, 8 * MIB),
		    { 30 * MIB, 2 * MIB, NOMAP, ANY });
	assert_list(f->mb.reserved, R(17 * MIB, 1 * MIB), R(24 * MIB, 1 * MIB));
	must(f, berth_memblock_cap(&f->mb, 24 * MIB, UINT64_MAX)); /* to the end of addresses */
	assert_list(f->mb.memory, { 4 * MIB, 4 * MIB, NOMAP, ANY }, R(24 * MIB, 1 * MIB),
		    { 30 * MIB, 2 * MIB, NOMAP, ANY });
	assert_list(f->mb.reserved, R(24 * MIB, 1 * MIB));
	fixture_close(f);
}

static void trimming_rounds_inwards(void **state)
{
	struct fixture *f = fixture_open(4, NULL);

	(void)state;
	add(f, 4 * KIB - 1, 8 * KIB);
	add(f, 16 * KIB + 1, 4 * KIB); /* no whole page */
	add(f, 32 * KIB, 4 * KIB);
	add(f, BERTH_PHYS_MAX - 100, 50); /* can't be rounded up */
	must(f, berth_memblock_trim(&f->mb, 4 * KIB));
	assert_list(f->mb.memory, R(4 * KIB, 4 * KIB), R(32 * KIB, 4 * KIB));
	assert_mb_refused(f, -BERTH_EINVAL, berth_memblock_trim(&f->mb, 0));
	assert_mb_refused(f, -BERTH_EINVAL, berth_memblock_trim(&f->mb, 12));
	fixture_close(f);
}

static void the_lists_as_text(void **state)
{
	static const char expected[] =
		"MEMBLOCK configuration:\n"
		" memory size = 0x0000000080000000 reserved size = 0x0000000001000000\n"
		" memory.cnt  = 0x2\n"
		" memory[0x0]\t[0x0000000080000000-0x00000000bfffffff], 0x0000000040000000 bytes"
		" on node 0 flags: 0x0\n"
		" memory[0x1]\t[0x00000000c0000000-0x00000000ffffffff], 0x0000000040000000 bytes"
		" on node 12 flags: 0x1\n"
		" reserved.cnt  = 0x1\n"
		" reserved[0x0]\t[0x00000000e6c00000-0x00000000e7bfffff], 0x0000000001000000 bytes"
		" flags: 0x0\n";
	struct fixture *f = fixture_open(4, NULL);
	char text[sizeof(expected) + 8];

	(void)state;
	must(f, berth_memblock_add(&f->mb, 2 * GIB, 1 * GIB, 0, 0));
	must(f, berth_memblock_add(&f->mb, 3 * GIB, 1 * GIB, 12, HOTPLUG));
	reserve(f, 0xe6c00000, 0x1000000);
	assert_int_equal(berth_memblock_dump(&f->mb, text, sizeof(text)), sizeof(expected) - 1);
	assert_string_equal(text, expected);
	for (size_t room = 0; room <= sizeof(expected); room++) { /* cut anywhere */
		memset(text, '#', sizeof(text));
		assert_int_equal(berth_memblock_dump(&f->mb, text, room), sizeof(expected) - 1);
		assert_int_equal(text[room], '#');
		if (room) {
			assert_memory_equal(text, expected, room - 1);
			assert_int_equal(text[room - 1], '\0');
		}
	}
	assert_int_equal(berth_memblock_dump(&f->mb, NULL, 0), sizeof(expected) - 1);
	fixture_close(f);
}

/* The check finds what a stray write does. */
static void the_check_sees_broken_lists(void **state)
{
	struct fixture *f = fixture_open(4, NULL);
	struct berth_memblock good;
	struct berth_memblock_region regions[4];
	struct berth_violation v;

	(void)state;
	add(f, 1 * MIB, 1 * MIB);
	must(f, berth_memblock_add(&f->mb, 2 * MIB, 1 * MIB, 0, 0));
	good = f->mb;
	memcpy(regions, f->memory, sizeof(regions));
#define breaks(change)                                            \
	do {                                                      \
		change;                                           \
		v.what = NULL;                                    \
		assert_false(berth_memblock_check(&f->mb, &v));   \
		assert_non_null(v.what);                          \
		assert_false(berth_memblock_check(&f->mb, NULL)); \
		f->mb = good;                                     \
		memcpy(f->memory, regions, sizeof(regions));      \
		mb_ok(f);                                         \
	} while (0)
	breaks(f->mb.memory.nr = 5);
	breaks(f->mb.memory.max = 0);
	breaks(f->memory[0].size_bytes = 0);
	breaks(f->memory[0].size_bytes++);
	breaks(f->memory[1].size_bytes = UINT64_MAX);
	breaks(f->memory[1].base--);
	breaks(f->memory[1].node = ANY);
	breaks(f->memory[1].flags = 16);
	breaks(f->mb.memory.total_bytes++);
	breaks(f->mb.reserved.total_bytes++);
	breaks(f->mb.memory.array_bytes = 4096);
#undef breaks
	fixture_close(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_instance_has_nothing),
		cmocka_unit_test(bad_parameters_are_refused),
		cmocka_unit_test(disjoint_regions_stay_apart),
		cmocka_unit_test(an_overlap_with_the_bottom_is_absorbed),
		cmocka_unit_test(an_overlap_with_the_top_is_absorbed),
		cmocka_unit_test(what_is_there_already_changes_nothing),
		cmocka_unit_test(filling_a_gap_merges_all),
		cmocka_unit_test(an_overlap_keeps_flags_and_nodes_of_what_was_there),
		cmocka_unit_test(a_range_is_cut_where_addresses_end),
		cmocka_unit_test(unknown_flags_are_refused),
		cmocka_unit_test(reserving_does_not_ask_for_memory),
		cmocka_unit_test(removing_from_the_inside_splits),
		cmocka_unit_test(removing_cuts_drops_and_leaves_alone),
		cmocka_unit_test(freeing_a_part_leaves_the_rest_reserved),
		cmocka_unit_test(a_mark_splits_and_its_removal_merges),
		cmocka_unit_test(nodes_are_set_over_several_regions),
		cmocka_unit_test(free_ranges_are_memory_less_reserved),
		cmocka_unit_test(questions_about_ranges),
		cmocka_unit_test(a_limit_of_memory_is_enforced),
		cmocka_unit_test(a_cap_keeps_a_range_and_nomap_memory),
		cmocka_unit_test(trimming_rounds_inwards),
		cmocka_unit_test(the_lists_as_text),
		cmocka_unit_test(the_check_sees_broken_lists),
	};

	return cmocka_run_group_tests_name("memblock", tests, NULL, NULL);
}
