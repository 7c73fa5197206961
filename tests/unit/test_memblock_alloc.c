/* SPDX-License-Identifier: MIT */
/*
 * Memblock's allocator by example: directions, alignment, limits, nodes, kinds of memory.
 */
#include "tests/include/testmemblock.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
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
	};

	return cmocka_run_group_tests_name("memblock, allocating", tests, NULL, NULL);
}
