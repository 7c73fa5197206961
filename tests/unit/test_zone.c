/* SPDX-License-Identifier: MIT */
/*
 * Zones: parameters, metadata, memory that is added, owners, statistics.
 */
#include <sys/mman.h>
#include <unistd.h>

#include "tests/include/testowner.h"

static const struct berth_zone_params good = {
	.name = "zone",
	.start_pfn = 0x1000,
	.nr_pages = 4096,
	.nr_cpus = 1,
	.max_areas = 1,
	.port = &test_port_ops,
};

/* berth_zone_init() with plenty of memory refuses these parameters and writes nothing. */
static void params_refused(const struct berth_zone_params *params)
{
	struct berth_zone *zone = (void *)0x1234;
	size_t bytes = 1u << 20;
	unsigned char *memory = NULL;

	assert_int_equal(posix_memalign((void **)&memory, 64, bytes), 0);
	memset(memory, 0x5a, bytes);
	assert_int_equal(berth_zone_metadata_size(params), 0);
	assert_int_equal(berth_zone_init(&zone, params, memory, bytes), -BERTH_EINVAL);
	assert_ptr_equal(zone, (void *)0x1234);
	for (size_t i = 0; i < bytes; i++)
		if (memory[i] != 0x5a)
			fail_msg("byte %zu was written", i);
	free(memory);
}

static void bad_sizes_are_refused(void **state)
{
	struct berth_zone_params p = good;

	(void)state;
	p.nr_pages = 0;
	params_refused(&p);
	p.nr_pages = 1ull << 32;
	params_refused(&p);
	p.nr_pages = (1ull << 32) - (1u << 10) + 1;
	params_refused(&p);
	p.nr_pages = UINT64_MAX;
	params_refused(&p);
	p = good;
	p.start_pfn = UINT64_MAX - 100; /* wraps */
	params_refused(&p);
}

static void bad_orders_are_refused(void **state)
{
	struct berth_zone_params p = good;

	(void)state;
	p.max_order = BERTH_MAX_ORDER_LIMIT + 1;
	params_refused(&p);
	p.max_order = UINT32_MAX;
	params_refused(&p);
	p = good;
	p.max_order = 8; /* below the default pageblock order */
	params_refused(&p);
	p = good;
	p.pageblock_order = 11; /* above the default largest order */
	params_refused(&p);
	p.pageblock_order = UINT32_MAX;
	params_refused(&p);
}

static void bad_counts_are_refused(void **state)
{
	struct berth_zone_params p = good;

	(void)state;
	p.max_areas = BERTH_MAX_AREAS + 1;
	params_refused(&p);
	p.max_areas = UINT32_MAX;
	params_refused(&p);
	p = good;
	p.max_owners = BERTH_MAX_OWNERS + 1;
	params_refused(&p);
	p.max_owners = UINT32_MAX;
	params_refused(&p);
	p = good;
	p.nr_cpus = UINT32_MAX;
	params_refused(&p);
	p = good;
	p.pcp_high = UINT32_MAX;
	params_refused(&p);
}

static void ports_without_what_is_required_are_refused(void **state)
{
	struct berth_zone_params p = good;
	struct berth_port_ops ops = test_port_ops;

	(void)state;
	p.port = NULL;
	params_refused(&p);
	p.port = &ops;
	ops.now_ns = NULL;
	params_refused(&p);
	ops = test_port_ops;
	ops.wait = NULL;
	params_refused(&p);
	ops = test_port_ops;
	ops.panic = NULL;
	params_refused(&p);
	ops = test_port_ops;
	ops.barrier_all = NULL;
	ops.poison = NULL;
	assert_int_not_equal(berth_zone_metadata_size(&p), 0);
}

static void limits_are_accepted(void **state)
{
	struct berth_zone_params p = good;

	(void)state;
	p.start_pfn = 0;
	p.nr_pages = (1ull << 32) - (1u << 10);
	assert_int_not_equal(berth_zone_metadata_size(&p), 0);
	p = good;
	p.nr_pages = 1;
	assert_int_not_equal(berth_zone_metadata_size(&p), 0);
	p = good;
	p.start_pfn = 1ull << BERTH_MAX_ORDER_LIMIT;
	p.max_order = BERTH_MAX_ORDER_LIMIT;
	assert_int_not_equal(berth_zone_metadata_size(&p), 0);
	p = good;
	p.max_areas = BERTH_MAX_AREAS;
	p.max_owners = BERTH_MAX_OWNERS;
	assert_int_not_equal(berth_zone_metadata_size(&p), 0);
	p.max_areas = 0;
	p.nr_cpus = 0;
	assert_int_not_equal(berth_zone_metadata_size(&p), 0);
}

static void bad_metadata_is_refused(void **state)
{
	size_t bytes = berth_zone_metadata_size(&good);
	struct berth_zone *zone = NULL;
	char *memory = NULL;

	(void)state;
	assert_int_equal(posix_memalign((void **)&memory, 64, bytes + 64), 0);
	assert_int_equal(berth_zone_init(&zone, &good, memory, bytes - 1), -BERTH_EINVAL);
	assert_int_equal(berth_zone_init(&zone, &good, memory, 0), -BERTH_EINVAL);
	assert_int_equal(berth_zone_init(&zone, &good, NULL, bytes), -BERTH_EINVAL);
	assert_int_equal(berth_zone_init(&zone, &good, memory + 8, bytes), -BERTH_EINVAL);
	assert_int_equal(berth_zone_init(&zone, NULL, memory, bytes), -BERTH_EINVAL);
	assert_null(zone);
	assert_int_equal(berth_zone_init(NULL, &good, memory, bytes), -BERTH_EINVAL);
	assert_int_equal(berth_zone_metadata_size(NULL), 0);
	free(memory);
}

/* ---- Metadata -------------------------------------------------------------------------------- */

static void metadata_is_at_most_32_bytes_a_frame(void **state)
{
	static const unsigned cpus[] = { 0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64 };

	(void)state;
	for (unsigned shift = 12; shift <= 28; shift++) {
		for (unsigned i = 0; i < ARRAY_SIZE(cpus); i++) {
			struct berth_zone_params p = good;
			size_t bytes;

			p.start_pfn = 0x400;
			p.nr_pages = 1ull << shift;
			p.nr_cpus = cpus[i];
			p.max_areas = i % 2 ? 8 : 0;
			bytes = berth_zone_metadata_size(&p);
			assert_int_not_equal(bytes, 0);
			if (bytes > 32 * p.nr_pages)
				fail_msg("%llu frames, %u CPUs: %zu bytes",
					 (unsigned long long)p.nr_pages, cpus[i], bytes);
		}
	}
}

static void metadata_of_odd_sizes_is_at_most_32_bytes_a_frame(void **state)
{
	uint64_t seed = 3;

	(void)state;
	for (unsigned i = 0; i < 2000; i++) {
		struct berth_zone_params p = good;

		p.start_pfn = test_random(&seed) >> 12 << 10; /* a multiple of 2^max_order */
		p.nr_pages = 4096 + test_random_below(&seed, 1ull << (12 + i % 16));
		p.nr_cpus = test_random_below(&seed, 65);
		if (berth_zone_metadata_size(&p) > 32 * p.nr_pages)
			fail_msg("start %#llx, %llu frames, %u CPUs: %zu bytes",
				 (unsigned long long)p.start_pfn, (unsigned long long)p.nr_pages,
				 p.nr_cpus, berth_zone_metadata_size(&p));
	}
}

static void init_writes_no_byte_beyond_its_metadata(void **state)
{
	size_t bytes = berth_zone_metadata_size(&good);
	struct berth_zone *zone = NULL;
	unsigned char *memory = NULL;

	(void)state;
	assert_int_equal(posix_memalign((void **)&memory, 64, bytes + 256), 0);
	memset(memory, 0x5a, bytes + 256);
	assert_int_equal(berth_zone_init(&zone, &good, memory, bytes + 256), 0);
	assert_int_equal(berth_zone_add_memory(zone, 0x1000, 4096), 0);
	for (size_t i = bytes; i < bytes + 256; i++)
		assert_int_equal(memory[i], 0x5a);
	free(memory);
}

static void zeroed_and_dirty_metadata_give_the_same_zone(void **state)
{
	struct test_zone *dirty = zone_open(.nr_pages = 3000, .start_pfn = 100);
	struct test_zone *zeroed = zone_open(.nr_pages = 3000, .start_pfn = 100,
					     .metadata_is_zeroed = true);
	struct test_picture *a = picture_take(dirty), *b = picture_take(zeroed);

	(void)state;
	assert_memory_equal(&a->stats, &b->stats, sizeof(a->stats));
	picture_compare_frames(a, b, __FILE__, __LINE__);
	free(a);
	free(b);
	zone_close(dirty);
	zone_close(zeroed);
}

/* Pages of a mapping that have been touched. */
static size_t resident_pages(void *memory, size_t bytes)
{
	size_t nr = (bytes + 4095) / 4096, n = 0;
	unsigned char *vec = test_zalloc(nr, 1);

	assert_int_equal(mincore(memory, bytes, vec), 0);
	for (size_t i = 0; i < nr; i++)
		n += vec[i] & 1;
	free(vec);
	return n;
}

/* 16 GiB: the metadata of a frame inside a larger free block is never touched. */
static void a_big_zone_starts_without_touching_its_frames(void **state)
{
	struct test_port port = { .tick_ns = 1 };
	struct berth_zone_params p = {
		.name = "big",
		.nr_pages = 4u << 20,
		.nr_cpus = 4,
		.pageblock_order = 13,
		.max_order = 18,
		.metadata_is_zeroed = true,
		.port = &test_port_ops,
		.port_ctx = &port,
	};
	size_t bytes = berth_zone_metadata_size(&p);
	struct berth_zone *zone = NULL;
	berth_pfn_t pfn = 0;
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	(void)state;
	assert_ptr_not_equal(memory, MAP_FAILED);
	assert_int_equal(madvise(memory, bytes, MADV_NOHUGEPAGE), 0);
	test_set_cpu(TEST_NO_CPU);
	assert_int_equal(berth_zone_init(&zone, &p, memory, bytes), 0);
	assert_int_equal(berth_zone_add_memory(zone, 0, p.nr_pages), 0);
	assert_int_equal(
		berth_alloc_pages(zone, 18, BERTH_GFP_UNMOVABLE, BERTH_OWNER_NONE, 0, &pfn), 0);
	assert_true(resident_pages(memory, bytes) < bytes / 4096 / 8);
	munmap(memory, bytes);
}

/* ---- Adding memory --------------------------------------------------------------------------- */

static void an_empty_zone_manages_nothing(void **state)
{
	struct test_zone *tz = zone_open_empty(.start_pfn = 0x1000);
	struct berth_zone_stats s = zone_stats(tz);

	(void)state;
	zone_ok(tz);
	assert_int_equal(s.spanned_pages, 4096);
	assert_int_equal(s.managed_pages, 0);
	assert_int_equal(s.free_pages + s.pcp_pages + s.claimed_pages + s.used_pages, 0);
	assert_int_equal(frame_state(tz, 0x1000), '-');
	zone_alloc_refused(tz, 0, BERTH_GFP_UNMOVABLE, BERTH_OWNER_NONE, -BERTH_ENOMEM);
	assert_refused(tz, -BERTH_EINVAL, berth_free_pages(tz->zone, 0x1000));
	zone_close(tz);
}

static void adding_memory_outside_is_refused(void **state)
{
	struct test_zone *tz = zone_open_empty(.start_pfn = 0x1100);

	(void)state;
	assert_refused(tz, -BERTH_EINVAL, berth_zone_add_memory(tz->zone, 0x1100, 0));
	assert_refused(tz, -BERTH_EINVAL, berth_zone_add_memory(tz->zone, 0x10ff, 1));
	assert_refused(tz, -BERTH_EINVAL, berth_zone_add_memory(tz->zone, 0x1000, 0x100));
	assert_refused(tz, -BERTH_EINVAL, berth_zone_add_memory(tz->zone, 0x1100, 4097));
	assert_refused(tz, -BERTH_EINVAL, berth_zone_add_memory(tz->zone, 0x2100, 1));
	assert_refused(tz, -BERTH_EINVAL, berth_zone_add_memory(tz->zone, 0x1100, UINT64_MAX));
	assert_refused(tz, -BERTH_EINVAL, berth_zone_add_memory(tz->zone, UINT64_MAX, 1));
	assert_refused(tz, -BERTH_EINVAL,
		       berth_zone_add_memory(tz->zone, 0x1200, UINT64_MAX - 0x1000));
	assert_int_equal(berth_zone_add_memory(tz->zone, 0x1100, 4096), 0);
	zone_close(tz);
}

static void adding_memory_twice_is_refused(void **state)
{
	struct test_zone *tz = zone_open_empty(.start_pfn = 0x1000);

	(void)state;
	assert_int_equal(berth_zone_add_memory(tz->zone, 0x1100, 1000), 0);
	assert_refused(tz, -BERTH_EINVAL, berth_zone_add_memory(tz->zone, 0x1100, 1000));
	assert_refused(tz, -BERTH_EINVAL, berth_zone_add_memory(tz->zone, 0x1000, 0x101));
	assert_refused(tz, -BERTH_EINVAL, berth_zone_add_memory(tz->zone, 0x1100 + 999, 10));
	assert_refused(tz, -BERTH_EINVAL, berth_zone_add_memory(tz->zone, 0x1000, 4096));
	assert_refused(tz, -BERTH_EINVAL, berth_zone_add_memory(tz->zone, 0x1200, 1));
	zone_alloc(tz, 9);
	zone_alloc(tz, 0);
	assert_refused(tz, -BERTH_EINVAL, berth_zone_add_memory(tz->zone, 0x1200, 1));
	assert_int_equal(berth_zone_add_memory(tz->zone, 0x1000, 0x100), 0);
	assert_int_equal(berth_zone_add_memory(tz->zone, 0x1100 + 1000, 5), 0);
	assert_int_equal(zone_stats(tz).managed_pages, 0x100 + 1005);
	zone_close(tz);
}

/* ---- Owners ---------------------------------------------------------------------------------- */

static void no_migrate(void *ctx, struct berth_move *moves, unsigned nr_moves)
{
	(void)ctx;
	(void)moves;
	(void)nr_moves;
}

static void owners_are_numbered_from_one(void **state)
{
	struct test_zone *tz = zone_open(.max_owners = 3);
	const struct berth_owner_ops ops = { .name = "o", .migrate = no_migrate };
	unsigned id = 99;

	(void)state;
	for (unsigned i = 1; i <= 3; i++) {
		assert_int_equal(berth_owner_register(tz->zone, &ops, NULL, &id), 0);
		assert_int_equal(id, i);
	}
	assert_refused(tz, -BERTH_ENOSPC, berth_owner_register(tz->zone, &ops, NULL, &id));
	assert_int_equal(id, 3);
	zone_close(tz);
}

static void eight_owners_by_default(void **state)
{
	struct test_zone *tz = zone_open(.max_owners = 0);
	const struct berth_owner_ops ops = { .name = "o", .migrate = no_migrate };
	unsigned id = 0;

	(void)state;
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(berth_owner_register(tz->zone, &ops, NULL, &id), 0);
	assert_refused(tz, -BERTH_ENOSPC, berth_owner_register(tz->zone, &ops, NULL, &id));
	zone_close(tz);
}

static void bad_owners_are_refused(void **state)
{
	struct test_zone *tz = zone_open(.max_owners = 1);
	const struct berth_owner_ops nameless = { .migrate = no_migrate };
	const struct berth_owner_ops immovable = { .name = "o" };
	const struct berth_owner_ops ops = { .name = "o", .migrate = no_migrate };
	unsigned id = 99;

	(void)state;
	assert_refused(tz, -BERTH_EINVAL, berth_owner_register(tz->zone, NULL, NULL, &id));
	assert_refused(tz, -BERTH_EINVAL, berth_owner_register(tz->zone, &nameless, NULL, &id));
	assert_refused(tz, -BERTH_EINVAL, berth_owner_register(tz->zone, &immovable, NULL, &id));
	assert_refused(tz, -BERTH_EINVAL, berth_owner_register(tz->zone, &ops, NULL, NULL));
	assert_int_equal(id, 99);
	assert_int_equal(berth_owner_register(tz->zone, &ops, NULL, &id), 0);
	zone_close(tz);
}

/* ---- Statistics ------------------------------------------------------------------------------ */

static void counters_add_up_through_a_mixed_run(void **state)
{
	struct test_zone *tz = zone_open(.nr_cpus = 2, .nr_pages = 4096);
	struct berth_cma *area = area_declare(tz, "area", 1024, 1024, 0, BERTH_LEND_FIRST);
	struct test_owner *o = owner_open(tz, "owner");
	struct berth_zone_stats s;
	berth_pfn_t claim;

	(void)state;
	test_set_cpu(0);
	zone_alloc(tz, 3);
	for (unsigned i = 0; i < 10; i++)
		owner_alloc(o, 0);
	claim = area_claim(tz, area, 300, 0);
	assert_int_equal(berth_page_pin(tz->zone, o->table[0]), 0);
	s = zone_stats(tz);
	assert_int_equal(s.used_pages, 18);
	assert_int_equal(s.claimed_pages, 300);
	assert_int_equal(s.free_pages + s.pcp_pages, 4096 - 318);
	assert_int_equal(s.pinned_blocks, 1);
	assert_int_equal(s.metadata_bytes, tz->metadata_bytes);
	assert_int_equal(berth_page_unpin(tz->zone, o->table[0]), 0);
	area_release(tz, area, claim, 300);
	assert_int_equal(zone_stats(tz).pinned_blocks, 0);
	assert_int_equal(zone_stats(tz).claimed_pages, 0);
	owner_close(o);
	zone_close(tz);
}

static void the_owner_of_a_frame_is_known(void **state)
{
	struct test_zone *tz = zone_open(.start_pfn = 0x1234, .nr_pages = 4096);
	struct test_owner *o = owner_open(tz, "owner");
	uint64_t page = owner_alloc(o, 3), cookie = 7;
	berth_pfn_t free_pfn = 0x1234, nobodys = zone_alloc(tz, 1);
	unsigned owner = 99;

	(void)state;
	assert_int_equal(berth_zone_start_pfn(tz->zone), 0x1234);
	for (unsigned i = 0; i < 8; i++) {
		assert_true(berth_frame_owner(tz->zone, o->table[page] + i, &owner, &cookie));
		assert_int_equal(owner, o->id);
		assert_int_equal(cookie, o->base + page + i);
	}
	assert_true(berth_frame_owner(tz->zone, nobodys, &owner, &cookie));
	assert_int_equal(owner, BERTH_OWNER_NONE);
	while (frame_state(tz, free_pfn) != 'f')
		free_pfn++;
	assert_false(berth_frame_owner(tz->zone, free_pfn, &owner, &cookie));
	assert_false(berth_frame_owner(tz->zone, 0x1233, &owner, &cookie));
	assert_false(berth_frame_owner(tz->zone, BERTH_PFN_NONE, &owner, &cookie));
	owner_close(o);
	zone_close(tz);
}

static void zones_do_not_know_of_each_other(void **state)
{
	struct test_zone *zones[50];

	(void)state;
	for (unsigned i = 0; i < 50; i++)
		zones[i] = zone_open(.start_pfn = i, .nr_pages = 100 + i);
	for (unsigned i = 0; i < 50; i++)
		zone_alloc(zones[i], i % 6);
	for (unsigned i = 0; i < 50; i++) {
		assert_int_equal(zone_stats(zones[i]).used_pages, 1u << i % 6);
		zone_close(zones[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_sizes_are_refused),
		cmocka_unit_test(bad_orders_are_refused),
		cmocka_unit_test(bad_counts_are_refused),
		cmocka_unit_test(ports_without_what_is_required_are_refused),
		cmocka_unit_test(limits_are_accepted),
		cmocka_unit_test(bad_metadata_is_refused),
		cmocka_unit_test(metadata_is_at_most_32_bytes_a_frame),
		cmocka_unit_test(metadata_of_odd_sizes_is_at_most_32_bytes_a_frame),
		cmocka_unit_test(init_writes_no_byte_beyond_its_metadata),
		cmocka_unit_test(zeroed_and_dirty_metadata_give_the_same_zone),
		cmocka_unit_test(a_big_zone_starts_without_touching_its_frames),
		cmocka_unit_test(an_empty_zone_manages_nothing),
		cmocka_unit_test(adding_memory_outside_is_refused),
		cmocka_unit_test(adding_memory_twice_is_refused),
		cmocka_unit_test(owners_are_numbered_from_one),
		cmocka_unit_test(eight_owners_by_default),
		cmocka_unit_test(bad_owners_are_refused),
		cmocka_unit_test(counters_add_up_through_a_mixed_run),
		cmocka_unit_test(the_owner_of_a_frame_is_known),
		cmocka_unit_test(zones_do_not_know_of_each_other),
	};

	return cmocka_run_group_tests_name("zone", tests, NULL, NULL);
}
