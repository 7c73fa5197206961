/* SPDX-License-Identifier: MIT */
/*
 * Memblock's arrays: what happens when one is full, where a larger one comes from, and what may be in
 * the way of that.
 */
#include "tests/include/testmemblock.h"

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

	return cmocka_run_group_tests_name("memblock, growing", tests, NULL, NULL);
}
