/* SPDX-License-Identifier: MIT */
/*
 * Memblock: the rules of its lists by example, allocation, growth. Random operations are in
 * test_memblock_model.c, handing over to zones in test_hand_over.c.
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

/* ---- Allocating -------------------------------------------------------------------------------- */

#define alloc(f, ...) fixture_alloc_at(f, &(struct berth_memblock_request){ __VA_ARGS__ })
#define NOWHERE BERTH_PHYS_MAX

/* Where memblock allocates this; NOWHERE with nothing changed when it says -ENOMEM. */
static berth_phys_t fixture_alloc_at(struct fixture *f,
				     const struct berth_memblock_request *request)
{
	uint64_t reserved_before = f->mb.reserved.total_bytes;
	berth_phys_t base = NOWHERE, found = NOWHERE;
	int error = berth_memblock_find(&f->mb, request, &found);

	if (error) {
		assert_int_equal(error, -BERTH_ENOMEM);
		assert_mb_refused(f, error, berth_memblock_alloc(&f->mb, request, &base));
		assert_int_equal(base, NOWHERE);
		return base;
	}
	assert_false(berth_memblock_overlaps_reserved(&f->mb, found, request->size_bytes));
	must(f, berth_memblock_alloc(&f->mb, request, &base));
	assert_int_equal(base, found);
	assert_true(berth_memblock_is_memory(&f->mb, base, request->size_bytes));
	assert_true(berth_memblock_is_reserved(&f->mb, base, request->size_bytes));
	assert_int_equal(f->mb.reserved.total_bytes, reserved_before + request->size_bytes);
	return base;
}

/* Neighbouring blocks become one reserved region, in both directions. */
static void allocates_from_the_top_down_or_the_bottom_up(void **state)
{
	struct fixture *f = fixture_open(2, NULL);

	(void)state;
	add(f, 16 * MIB, 16 * MIB);
	assert_int_equal(alloc(f, .size_bytes = 256, .node = ANY), 32 * MIB - 256);
	assert_int_equal(alloc(f, .size_bytes = 64, .node = ANY), 32 * MIB - 320);
	berth_memblock_set_bottom_up(&f->mb, true);
	assert_int_equal(alloc(f, .size_bytes = 256, .node = ANY), 16 * MIB);
	assert_int_equal(alloc(f, .size_bytes = 64, .node = ANY), 16 * MIB + 256);
	assert_list(f->mb.reserved, R(16 * MIB, 320), R(32 * MIB - 320, 320));
	fixture_close(f);
}

/* By default to 64 bytes; the gap that an alignment leaves stays free. */
static void alignment_is_kept(void **state)
{
	struct fixture *f = fixture_open(8, NULL);

	(void)state;
	add(f, 16 * MIB + 100, 16 * MIB);
	assert_int_equal(alloc(f, .size_bytes = 10, .node = ANY), 32 * MIB + 64);
	assert_int_equal(alloc(f, .size_bytes = 10, .align_bytes = 1, .node = ANY), 32 * MIB + 90);
	assert_int_equal(alloc(f, .size_bytes = 10, .align_bytes = 1 * MIB, .node = ANY), 32 * MIB);
	assert_int_equal(alloc(f, .size_bytes = 1, .align_bytes = 16 * MIB, .node = ANY), NOWHERE);
	berth_memblock_set_bottom_up(&f->mb, true);
	assert_int_equal(alloc(f, .size_bytes = 1 * MIB, .align_bytes = 1 * MIB, .node = ANY),
			 17 * MIB);
	assert_int_equal(alloc(f, .size_bytes = 1, .align_bytes = 1ull << 63, .node = ANY),
			 NOWHERE);
	fixture_close(f);
}

/* Rounding up may leave the addresses altogether. */
static void an_alignment_beyond_all_addresses_finds_nothing(void **state)
{
	struct fixture *f = fixture_open(8, NULL);

	(void)state;
	add(f, 3ull << 62, 1 * MIB);
	berth_memblock_set_bottom_up(&f->mb, true);
	assert_int_equal(alloc(f, .size_bytes = 1, .align_bytes = 1ull << 63, .node = ANY),
			 NOWHERE);
	berth_memblock_set_bottom_up(&f->mb, false);
	assert_int_equal(alloc(f, .size_bytes = 1, .align_bytes = 1ull << 63, .node = ANY),
			 NOWHERE);
	fixture_close(f);
}

static void allocates_between_reservations_what_fits(void **state)
{
	struct fixture *f = fixture_open(8, NULL);

	(void)state;
	add(f, 16 * MIB, 16 * MIB);
	reserve(f, 20 * MIB, 4 * MIB);
	reserve(f, 30 * MIB, 4 * MIB); /* beyond the memory's end, too */
	assert_int_equal(alloc(f, .size_bytes = 6 * MIB + 1, .node = ANY), NOWHERE);
	assert_int_equal(alloc(f, .size_bytes = 6 * MIB, .node = ANY), 24 * MIB);
	assert_int_equal(alloc(f, .size_bytes = 3 * MIB, .node = ANY), 17 * MIB);
	assert_int_equal(alloc(f, .size_bytes = 1 * MIB, .node = ANY), 16 * MIB);
	assert_int_equal(alloc(f, .size_bytes = 1, .node = ANY), NOWHERE);
	assert_list(f->mb.reserved, R(16 * MIB, 18 * MIB));
	fixture_close(f);
}

static void limits_are_kept(void **state)
{
	struct fixture *f = fixture_open(8, NULL);

	(void)state;
	add(f, 16 * MIB, 16 * MIB);
	assert_int_equal(alloc(f, .size_bytes = 1 * MIB, .max = 20 * MIB, .node = ANY), 19 * MIB);
	assert_int_equal(alloc(f, .size_bytes = 1 * MIB, .min = 18 * MIB, .max = 20 * MIB,
			       .node = ANY),
			 18 * MIB);
	assert_int_equal(alloc(f, .size_bytes = 1 * MIB, .min = 18 * MIB, .max = 20 * MIB,
			       .node = ANY),
			 NOWHERE);
	assert_int_equal(alloc(f, .size_bytes = 1, .min = 20 * MIB, .max = 18 * MIB, .node = ANY),
			 NOWHERE);
	assert_int_equal(alloc(f, .size_bytes = 1, .min = 32 * MIB, .node = ANY), NOWHERE);
	/* min as a wish */
	assert_int_equal(alloc(f, .size_bytes = 1 * MIB, .min = 18 * MIB, .max = 20 * MIB,
			       .node = ANY, .flags = BERTH_MEMBLOCK_PREFER_MIN),
			 17 * MIB);
	/* the instance's own limit, and past it */
	berth_memblock_set_limit(&f->mb, 24 * MIB);
	assert_int_equal(alloc(f, .size_bytes = 1 * MIB, .node = ANY), 23 * MIB);
	assert_int_equal(alloc(f, .size_bytes = 1 * MIB, .max = BERTH_PHYS_MAX, .node = ANY),
			 31 * MIB);
	berth_memblock_set_bottom_up(&f->mb, true);
	assert_int_equal(alloc(f, .size_bytes = 2 * MIB, .min = 23 * MIB, .node = ANY), NOWHERE);
	assert_int_equal(alloc(f, .size_bytes = 2 * MIB, .min = 22 * MIB + 1,
			       .align_bytes = 1 * MIB, .max = 27 * MIB, .node = ANY),
			 24 * MIB);
	fixture_close(f);
}

/* So that 0 can mean "nowhere" to callers. */
static void the_first_page_is_never_allocated(void **state)
{
	struct fixture *f = fixture_open(8, NULL);

	(void)state;
	add(f, 0, 8 * KIB);
	berth_memblock_set_bottom_up(&f->mb, true);
	assert_int_equal(alloc(f, .size_bytes = 64, .node = ANY), 4 * KIB);
	berth_memblock_set_bottom_up(&f->mb, false);
	assert_int_equal(alloc(f, .size_bytes = 4 * KIB - 64, .node = ANY), 4 * KIB + 64);
	assert_int_equal(alloc(f, .size_bytes = 1, .node = ANY), NOWHERE);
	fixture_close(f);
}

static void a_block_never_spans_two_nodes(void **state)
{
	struct fixture *f = fixture_open(8, NULL);

	(void)state;
	must(f, berth_memblock_add(&f->mb, 16 * MIB, 4 * MIB, 0, 0));
	must(f, berth_memblock_add(&f->mb, 20 * MIB, 4 * MIB, 1, 0));
	assert_int_equal(alloc(f, .size_bytes = 5 * MIB, .node = ANY), NOWHERE);
	assert_true(berth_memblock_is_memory(&f->mb, 18 * MIB, 5 * MIB));
	fixture_close(f);
}

static void a_node_is_preferred_or_demanded(void **state)
{
	struct fixture *f = fixture_open(8, NULL);

	(void)state;
	must(f, berth_memblock_add(&f->mb, 16 * MIB, 4 * MIB, 0, 0));
	must(f, berth_memblock_add(&f->mb, 32 * MIB, 4 * MIB, 1, 0));
	assert_int_equal(alloc(f, .size_bytes = 3 * MIB, .node = 0), 17 * MIB);
	assert_int_equal(alloc(f, .size_bytes = 2 * MIB, .node = 0,
			       .flags = BERTH_MEMBLOCK_EXACT_NODE),
			 NOWHERE);
	assert_int_equal(alloc(f, .size_bytes = 2 * MIB, .node = 0), 34 * MIB);
	assert_int_equal(alloc(f, .size_bytes = 1, .node = 7, .flags = BERTH_MEMBLOCK_EXACT_NODE),
			 NOWHERE);
	fixture_close(f);
}

static void what_is_not_ours_is_never_allocated(void **state)
{
	struct fixture *f = fixture_open(8, NULL);

	(void)state;
	add(f, 16 * MIB, 16 * MIB);
	must(f, berth_memblock_mark(&f->mb, 28 * MIB, 4 * MIB, NOMAP, 0));
	must(f, berth_memblock_add(&f->mb, 32 * MIB, 4 * MIB, ANY, BERTH_MEMBLOCK_DRIVER));
	assert_int_equal(alloc(f, .size_bytes = 12 * MIB, .node = ANY), 16 * MIB);
	assert_int_equal(alloc(f, .size_bytes = 1, .node = ANY), NOWHERE);
	fixture_close(f);
}

static void mirrored_memory_comes_first(void **state)
{
	struct fixture *f = fixture_open(8, NULL);

	(void)state;
	must(f, berth_memblock_add(&f->mb, 16 * MIB, 4 * MIB, 0, 0));
	must(f, berth_memblock_add(&f->mb, 20 * MIB, 4 * MIB, 1, 0));
	must(f, berth_memblock_mark(&f->mb, 16 * MIB, 1 * MIB, MIRROR, 0));
	assert_int_equal(alloc(f, .size_bytes = 512 * KIB, .node = ANY), 17 * MIB - 512 * KIB);
	/* mirrored on another node, before unmirrored on the right one */
	assert_int_equal(alloc(f, .size_bytes = 256 * KIB, .node = 1), 17 * MIB - 768 * KIB);
	assert_int_equal(alloc(f, .size_bytes = 1 * MIB, .node = 1), 23 * MIB);
	fixture_close(f);
}

static void memory_that_can_be_unplugged_is_left_alone_if_asked(void **state)
{
	struct fixture *f = fixture_open(8, NULL);

	(void)state;
	add(f, 16 * MIB, 4 * MIB);
	must(f, berth_memblock_add(&f->mb, 32 * MIB, 4 * MIB, ANY, HOTPLUG));
	assert_int_equal(alloc(f, .size_bytes = 1 * MIB, .node = ANY), 35 * MIB);
	f->mb.movable_node = true;
	assert_int_equal(alloc(f, .size_bytes = 1 * MIB, .node = ANY), 19 * MIB);
	assert_int_equal(alloc(f, .size_bytes = 4 * MIB, .node = ANY), NOWHERE);
	fixture_close(f);
}

static void bad_requests_are_refused(void **state)
{
	struct fixture *f = fixture_open(8, NULL);
	struct berth_memblock_request r = { .node = ANY };
	berth_phys_t base = 5;

	(void)state;
	add(f, 16 * MIB, 16 * MIB);
	assert_mb_refused(f, -BERTH_EINVAL, berth_memblock_alloc(&f->mb, &r, &base));
	assert_mb_refused(f, -BERTH_EINVAL, berth_memblock_alloc(&f->mb, NULL, &base));
	r.size_bytes = 1;
	assert_mb_refused(f, -BERTH_EINVAL, berth_memblock_alloc(&f->mb, &r, NULL));
	r.align_bytes = 3;
	assert_mb_refused(f, -BERTH_EINVAL, berth_memblock_alloc(&f->mb, &r, &base));
	r.align_bytes = 0;
	r.flags = 4;
	assert_mb_refused(f, -BERTH_EINVAL, berth_memblock_find(&f->mb, &r, &base));
	r.flags = 0;
	r.size_bytes = UINT64_MAX;
	assert_mb_refused(f, -BERTH_ENOMEM, berth_memblock_alloc(&f->mb, &r, &base));
	assert_int_equal(base, 5);
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

/* ---- Growing ----------------------------------------------------------------------------------- */

static void a_full_array_that_cannot_grow_refuses(void **state)
{
	struct fixture *f = fixture_open(2, NULL);
	struct berth_memblock_request r = { .node = ANY };
	berth_phys_t base = 5;

	(void)state;
	add(f, 16 * MIB, 4 * MIB);
	add(f, 32 * MIB, 4 * MIB);
	reserve(f, 16 * MIB, 4 * KIB);
	reserve(f, 18 * MIB, 4 * KIB);
	assert_mb_refused(f, -BERTH_ENOMEM, berth_memblock_add(&f->mb, 64 * MIB, 1, ANY, 0));
	assert_mb_refused(f, -BERTH_ENOMEM, berth_memblock_remove(&f->mb, 17 * MIB, 1));
	assert_mb_refused(f, -BERTH_ENOMEM, berth_memblock_mark(&f->mb, 17 * MIB, 1, NOMAP, 0));
	assert_mb_refused(f, -BERTH_ENOMEM, berth_memblock_set_node(&f->mb, 17 * MIB, 1, 0));
	assert_mb_refused(f, -BERTH_ENOMEM, berth_memblock_reserve(&f->mb, 17 * MIB, 1));
	assert_mb_refused(f, -BERTH_ENOMEM, berth_memblock_free(&f->mb, 18 * MIB + 1, 1));
	r.size_bytes = 4 * KIB;
	assert_mb_refused(f, -BERTH_ENOMEM, berth_memblock_alloc(&f->mb, &r, &base));
	assert_int_equal(base, 5);
	fixture_close(f);
}

/* Regions that grow, merge or are cut at an edge. */
static void merging_needs_no_room(void **state)
{
	struct fixture *f = fixture_open(2, NULL);

	(void)state;
	add(f, 16 * MIB, 4 * MIB);
	add(f, 32 * MIB, 4 * MIB);
	add(f, 12 * MIB, 4 * MIB);
	add(f, 36 * MIB, 4 * MIB);
	must(f, berth_memblock_remove(&f->mb, 12 * MIB, 1 * MIB));
	must(f, berth_memblock_mark(&f->mb, 0, UINT64_MAX, HOTPLUG, 0));
	assert_list(f->mb.memory, { 13 * MIB, 7 * MIB, HOTPLUG, ANY },
		    { 32 * MIB, 8 * MIB, HOTPLUG, ANY });
	must(f, berth_memblock_add(&f->mb, 20 * MIB, 12 * MIB, ANY, HOTPLUG));
	must(f, berth_memblock_mark(&f->mb, 0, 20 * MIB, 0, HOTPLUG));
	must(f, berth_memblock_mark(&f->mb, 20 * MIB, 1 * MIB, 0, HOTPLUG));
	assert_list(f->mb.memory, R(13 * MIB, 8 * MIB), { 21 * MIB, 19 * MIB, HOTPLUG, ANY });
	fixture_close(f);
}

/* 4, 8, 16 ... regions; the array before is free again, and was never where something is put. */
static void a_full_array_grows_into_memblocks_own_memory(void **state)
{
	struct fixture *f = fixture_open(4, &map_ops);
	struct berth_memblock_stats s;

	(void)state;
	fixture_ram(f, 16 * MIB, 1 * MIB);
	add(f, 16 * MIB, 1 * MIB);
	berth_memblock_set_limit(&f->mb, 17 * MIB); /* what map() reaches */
	for (unsigned i = 0; i < 100; i++) {
		reserve(f, 16 * MIB + i * 8 * KIB, 1 * KIB);
		assert_true(berth_memblock_is_reserved(&f->mb, 16 * MIB + i * 8 * KIB, 1 * KIB));
		if (f->mb.reserved.array_bytes)
			assert_true(f->mb.reserved.array_base > 16 * MIB + i * 8 * KIB);
	}
	berth_memblock_stats(&f->mb, &s);
	assert_int_equal(s.max_reserved, 128);
	assert_int_equal(s.max_memory, 4);
	assert_int_equal(s.reserved_bytes, 100 * KIB + f->mb.reserved.array_bytes);
	assert_ptr_not_equal(f->mb.reserved.regions, f->reserved);
	for (unsigned i = 0; i < 100; i++)
		add(f, (64 + 2 * i) * MIB, 1 * MIB);
	berth_memblock_stats(&f->mb, &s);
	assert_int_equal(s.max_memory, 128);
	assert_int_equal(s.nr_memory, 101);
	assert_int_equal(s.reserved_bytes,
			 100 * KIB + f->mb.reserved.array_bytes + f->mb.memory.array_bytes);
	fixture_close(f);
}

/* Both arrays are full: they grow together. */
static void both_arrays_grow_at_once(void **state)
{
	struct fixture *f = fixture_open(2, &map_ops);

	(void)state;
	fixture_ram(f, 16 * MIB, 1 * MIB);
	add(f, 16 * MIB, 1 * MIB);
	add(f, 32 * MIB, 1 * MIB);
	reserve(f, 32 * MIB, 1 * MIB); /* what can't be reached is taken */
	reserve(f, 16 * MIB, 4 * KIB);
	add(f, 64 * MIB, 1 * MIB);
	assert_int_equal(f->mb.memory.max, 4);
	assert_int_equal(f->mb.reserved.max, 8);
	assert_int_equal(f->nr_maps, 1);
	assert_list(f->mb.reserved, R(16 * MIB, 4 * KIB), R(17 * MIB - 8 * KIB, 8 * KIB),
		    R(32 * MIB, 1 * MIB));
	fixture_close(f);
}

/* The array can't be where the call itself takes memory away. */
static void the_new_array_avoids_the_range_in_work(void **state)
{
	struct fixture *f = fixture_open(1, &map_ops);

	(void)state;
	fixture_ram(f, 16 * MIB, 1 * MIB);
	add(f, 16 * MIB, 1 * MIB);
	reserve(f, 16 * MIB, 4 * KIB);
	reserve(f, 17 * MIB - 64 * KIB, 64 * KIB);
	assert_list(f->mb.reserved, R(16 * MIB, 4 * KIB), R(17 * MIB - 68 * KIB, 68 * KIB));
	must(f, berth_memblock_remove(&f->mb, 16 * MIB + 8 * KIB, 512 * KIB));
	assert_true(f->mb.memory.array_base >= 16 * MIB + 520 * KIB);
	fixture_close(f);

	/* Nothing is left beside it: refused, nothing changed. */
	f = fixture_open(1, &map_ops);
	fixture_ram(f, 16 * MIB, 1 * MIB);
	add(f, 16 * MIB, 1 * MIB);
	reserve(f, 0, 1);
	assert_mb_refused(f, -BERTH_ENOMEM, berth_memblock_reserve(&f->mb, 16 * MIB, 1 * MIB));
	reserve(f, 16 * MIB + 4 * KIB, 1 * MIB);
	fixture_close(f);
}

static void memory_that_is_not_mapped_is_no_place_for_an_array(void **state)
{
	struct fixture *f = fixture_open(1, &map_ops);

	(void)state;
	fixture_ram(f, 16 * MIB, 1 * MIB);
	must(f, berth_memblock_add(&f->mb, 16 * MIB, 8 * MIB, ANY, 0));
	reserve(f, 16 * MIB, 1);
	assert_mb_refused(f, -BERTH_ENOMEM, berth_memblock_reserve(&f->mb, 18 * MIB, 1));
	assert_int_equal(f->nr_maps, 1);
	berth_memblock_set_limit(&f->mb, 17 * MIB);
	reserve(f, 18 * MIB, 1);
	assert_int_equal(f->mb.reserved.array_base, 17 * MIB - 4 * KIB);
	fixture_close(f);
}

/* A map() that is wrong, or a table that offers nothing. */
static void useless_operations_are_as_none(void **state)
{
	static const struct berth_memblock_ops nothing = { 0 };
	struct fixture *f = fixture_open(1, &nothing);

	(void)state;
	add(f, 16 * MIB, 1 * MIB);
	assert_mb_refused(f, -BERTH_ENOMEM, berth_memblock_add(&f->mb, 32 * MIB, 1, ANY, 0));
	fixture_close(f);

	f = fixture_open(1, &map_ops);
	fixture_ram(f, 16 * MIB, 1 * MIB);
	f->ram++; /* a region can't be there */
	add(f, 16 * MIB, 1 * MIB);
	assert_mb_refused(f, -BERTH_ENOMEM, berth_memblock_add(&f->mb, 32 * MIB, 1, ANY, 0));
	f->ram--;
	fixture_close(f);
}

static void an_array_in_use_cannot_be_given_away(void **state)
{
	struct fixture *f = fixture_open(1, &map_ops);
	berth_phys_t array;

	(void)state;
	fixture_ram(f, 16 * MIB, 1 * MIB);
	add(f, 16 * MIB, 1 * MIB);
	reserve(f, 16 * MIB, 1);
	reserve(f, 16 * MIB + 2, 1);
	array = f->mb.reserved.array_base;
	assert_int_not_equal(array, 0);
	assert_mb_refused(f, -BERTH_EBUSY, berth_memblock_free(&f->mb, array + 5, 1));
	assert_mb_refused(f, -BERTH_EBUSY, berth_memblock_free(&f->mb, 0, UINT64_MAX));
	assert_mb_refused(f, -BERTH_EBUSY, berth_memblock_remove(&f->mb, 0, UINT64_MAX));
	assert_mb_refused(f, -BERTH_EBUSY, berth_memblock_cap(&f->mb, array + 1, 1 * GIB));
	assert_mb_refused(f, -BERTH_EBUSY, berth_memblock_enforce_limit(&f->mb, 512 * KIB));
	must(f, berth_memblock_free(&f->mb, 0, array));
	must(f, berth_memblock_cap(&f->mb, array, 1 * GIB));
	fixture_close(f);
}

static void arrays_grow_by_the_callers_allocator(void **state)
{
	struct fixture *f = fixture_open(1, &alloc_ops);

	(void)state;
	for (unsigned i = 0; i < 40; i++) {
		add(f, 2 * i * MIB, 1 * MIB);
		reserve(f, 2 * i * MIB, 1 * KIB);
	}
	assert_int_equal(f->nr_allocated, 2);
	assert_int_equal(f->mb.reserved.total_bytes, 40 * KIB);
	for (unsigned i = 40; i < 64; i++)
		reserve(f, 2 * i * MIB, 1 * KIB);
	f->refuses = true;
	assert_mb_refused(f, -BERTH_ENOMEM, berth_memblock_reserve(&f->mb, 3 * GIB, 1));
	f->refuses = false;
	reserve(f, 3 * GIB, 1);
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
		cmocka_unit_test(allocates_from_the_top_down_or_the_bottom_up),
		cmocka_unit_test(alignment_is_kept),
		cmocka_unit_test(an_alignment_beyond_all_addresses_finds_nothing),
		cmocka_unit_test(allocates_between_reservations_what_fits),
		cmocka_unit_test(limits_are_kept),
		cmocka_unit_test(the_first_page_is_never_allocated),
		cmocka_unit_test(a_block_never_spans_two_nodes),
		cmocka_unit_test(a_node_is_preferred_or_demanded),
		cmocka_unit_test(what_is_not_ours_is_never_allocated),
		cmocka_unit_test(mirrored_memory_comes_first),
		cmocka_unit_test(memory_that_can_be_unplugged_is_left_alone_if_asked),
		cmocka_unit_test(bad_requests_are_refused),
		cmocka_unit_test(free_ranges_are_memory_less_reserved),
		cmocka_unit_test(questions_about_ranges),
		cmocka_unit_test(a_limit_of_memory_is_enforced),
		cmocka_unit_test(a_cap_keeps_a_range_and_nomap_memory),
		cmocka_unit_test(trimming_rounds_inwards),
		cmocka_unit_test(the_lists_as_text),
		cmocka_unit_test(the_check_sees_broken_lists),
		cmocka_unit_test(a_full_array_that_cannot_grow_refuses),
		cmocka_unit_test(merging_needs_no_room),
		cmocka_unit_test(a_full_array_grows_into_memblocks_own_memory),
		cmocka_unit_test(both_arrays_grow_at_once),
		cmocka_unit_test(the_new_array_avoids_the_range_in_work),
		cmocka_unit_test(memory_that_is_not_mapped_is_no_place_for_an_array),
		cmocka_unit_test(useless_operations_are_as_none),
		cmocka_unit_test(an_array_in_use_cannot_be_given_away),
		cmocka_unit_test(arrays_grow_by_the_callers_allocator),
	};

	return cmocka_run_group_tests_name("memblock", tests, NULL, NULL);
}
