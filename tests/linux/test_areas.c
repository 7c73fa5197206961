/* SPDX-License-Identifier: MIT */
/*
 * Areas of a pool: from a configuration, later, for devices; policies and lending; who holds what.
 */
#define _GNU_SOURCE
#include "tests/include/testpool.h"

static struct berth_pool *open_with(const char *config)
{
	const struct berth_pool_params params = { .config = config };
	struct berth_pool *pool = NULL;

	must(berth_pool_open(&params, &pool));
	pool_ok(pool);
	return pool;
}

static struct berth_buffer claim_for(struct berth_pool *pool, const char *device, size_t bytes)
{
	struct berth_buffer buffer;

	must(berth_claim_for(pool, device, bytes, NULL, &buffer, NULL));
	memset(buffer.address, 0x42, buffer.bytes);
	pool_ok(pool);
	return buffer;
}

static struct berth_cma_stats stats_of(struct berth_pool *pool, const char *area)
{
	struct berth_cma_stats stats;

	must(berth_area_stats(pool, area, &stats));
	return stats;
}

static void devices_claim_from_their_areas(void **state)
{
	struct berth_pool *pool = open_with(
		"areas=camera:8M@16M,policy=first-fit,lend=last,align=1M;dma:4M,policy=reserve,unit=64K;"
		"rest:2M,lend=off,keep=1M devices=camera*:camera,nic0:dma default=rest");
	struct berth_buffer a, b, c, d;
	struct berth_claim_report report;

	(void)state;
	assert_int_equal(pool_stats(pool).pool_bytes, 28 * MIB);
	assert_int_equal(pool_stats(pool).area_bytes, 14 * MIB);
	assert_int_equal(stats_of(pool, "camera").start_pfn, 16 * MIB >> BERTH_PAGE_SHIFT);
	assert_int_equal(stats_of(pool, "camera").lend, BERTH_LEND_LAST);
	assert_int_equal(stats_of(pool, "rest").lend_min_pages, 256);
	a = claim_for(pool, "camera0", 5000);
	assert_string_equal(a.area, "camera");
	assert_int_equal(a.offset, 16 * MIB);
	b = claim_for(pool, "camera1", 5000);
	assert_int_equal(b.offset, 17 * MIB);
	c = claim_for(pool, "nic0", 5000);
	assert_string_equal(c.area, "dma");
	d = claim_for(pool, "nic1", 5000);
	assert_string_equal(d.area, "rest");
	assert_int_equal(stats_of(pool, NULL).claimed_pages, 2); /* NULL: the default one */
	assert_int_equal(stats_of(pool, "dma").claimed_pages, 2);
	assert_int_equal(pool_stats(pool).claimed_bytes, 8 * BERTH_PAGE_SIZE);
	assert_int_equal(pool_stats(pool).claims_held, 4);
	assert_int_equal(berth_claim_for(pool, "camera0", 9 * MIB, NULL, &a, &report),
			 -BERTH_E2BIG);
	assert_string_equal(report.area, "camera");
	assert_int_equal(berth_claim_for(pool, "nic0", 5 * MIB, NULL, &c, &report), -BERTH_E2BIG);
	assert_int_equal(berth_pool_close(pool), -BERTH_EBUSY);
	must(berth_release(pool, &a));
	must(berth_release(pool, &b));
	must(berth_release(pool, &c));
	assert_int_equal(berth_release(pool, &c), -BERTH_EINVAL);
	must(berth_release(pool, &d));
	pool_close(pool);
}

static void without_a_default_a_device_is_refused(void **state)
{
	struct berth_pool *pool = open_with("areas=a:2M;b:2M devices=x:b");
	struct berth_claim_report report;
	struct berth_buffer buffer;

	(void)state;
	assert_int_equal(berth_claim_for(pool, "y", 4096, NULL, &buffer, &report), -BERTH_ENODEV);
	assert_int_equal(report.error, -BERTH_ENODEV);
	assert_int_equal(berth_claim_for(pool, NULL, 4096, NULL, &buffer, NULL), -BERTH_ENODEV);
	assert_non_null(strstr(berth_strerror(-BERTH_ENODEV), "default="));
	assert_string_equal(berth_errname(BERTH_ENODEV), "ENODEV");
	/* The first one, as ever. */
	must(berth_claim(pool, NULL, 4096, NULL, &buffer, NULL));
	assert_string_equal(buffer.area, "a");
	must(berth_release(pool, &buffer));
	must(berth_pool_configure(pool, "default=b"));
	must(berth_claim(pool, NULL, 4096, NULL, &buffer, NULL));
	assert_string_equal(buffer.area, "b");
	must(berth_release(pool, &buffer));
	pool_close(pool);
	/* Opened with areas, the first is the default one. */
	pool = pool_open(2 * MIB, 0, NULL);
	buffer = claim_for(pool, "anybody", 4096);
	assert_string_equal(buffer.area, "area");
	must(berth_release(pool, &buffer));
	pool_close(pool);
}

static void linux_words_make_areas(void **state)
{
	struct berth_pool *pool = open_with("cma=4M@2M-16M numa_cma=0:2M cma_pernuma=2M");
	struct berth_buffer buffer = claim_for(pool, "x", 4096);

	(void)state;
	assert_string_equal(buffer.area, "numa0"); /* the pool is node 0 */
	assert_int_equal(stats_of(pool, "default").start_pfn, 512);
	assert_int_equal(stats_of(pool, "pernuma0").nr_pages, 512);
	must(berth_release(pool, &buffer));
	pool_close(pool);
}

static void bad_configurations_are_explained(void **state)
{
	static const struct {
		const char *config, *why;
	} bad[] = {
		{ "areas=a:2M,lend=never", "at byte 16, before 'never'" },
		{ "areas=a:2M,align=8M", "area a" },
		{ "areas=x:2M;a:2M,unit=4M", "area a" },
		{ "areas=a:2M@1M", "multiples of 2M" },
		{ "areas=a:4M@2M;b:2M@4M", "no room for the area b" },
		{ "areas=a:2M,node=1", "only node is 0" },
		{ "areas=a:10T", "no room for the area a" },
	};
	struct berth_pool_params params = { 0 };
	struct berth_pool *pool = NULL;
	char why[256];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_not_equal(berth_config_explain(bad[i].config, why, sizeof(why)), 0);
		if (!strstr(why, bad[i].why))
			fail_msg("'%s': %s", bad[i].config, why);
		params.config = bad[i].config;
		assert_int_equal(berth_pool_open(&params, &pool), -BERTH_EINVAL);
	}
	must(berth_config_explain("cma=64M", why, sizeof(why)));
	assert_string_equal(why, "");
	assert_int_equal(berth_config_explain(NULL, why, sizeof(why)), -BERTH_EINVAL);
	/* No area and no size; both ways at once; an area that doesn't fit the pool. */
	params.config = "cma=0";
	assert_int_equal(berth_pool_open(&params, &pool), -BERTH_EINVAL);
	params.config = "areas=a:2M@14M";
	params.bytes = 14 * MIB;
	assert_int_equal(berth_pool_open(&params, &pool), -BERTH_EINVAL);
	params.areas = &(struct berth_area_params){ "a", 2 * MIB, BERTH_LEND_FIRST };
	params.nr_areas = 1;
	params.bytes = 0;
	assert_int_equal(berth_pool_open(&params, &pool), -BERTH_EINVAL);
	assert_null(pool);
}

/* ---- Later ----------------------------------------------------------------------------------- */

static void areas_are_added_while_memory_is_in_use(void **state)
{
	const struct berth_pool_params params = { .bytes = 32 * MIB, .config = "areas=a:2M" };
	struct berth_pool *pool;
	struct berth_buffer buffer;
	unsigned char *memory;

	(void)state;
	must(berth_pool_open(&params, &pool));
	memory = pool_map(pool, 20 * MIB);
	memset(memory, 0x5a, 20 * MIB);
	must(berth_pool_configure(pool, "areas=late:4M,lend=off;mine:2M,policy=reserve;"
					"cache:2M,policy=gcma,unit=128K "
					"devices=cam*:late,x:mine default=late"));
	pool_ok(pool);
	assert_int_equal(pool_stats(pool).area_bytes, 10 * MIB);
	assert_int_equal(stats_of(pool, "late").free_pages, 1024);
	buffer = claim_for(pool, "cam1", 4 * MIB);
	assert_string_equal(buffer.area, "late");
	must(berth_release(pool, &buffer));
	buffer = claim_for(pool, "x", 2 * MIB);
	assert_string_equal(buffer.area, "mine");
	must(berth_release(pool, &buffer));
	must(berth_claim(pool, "cache", 4096, NULL, &buffer, NULL));
	assert_int_equal(stats_of(pool, "cache").claimed_pages, 32); /* a granule */
	must(berth_release(pool, &buffer));
	must(berth_pool_configure(pool, "devices=x:a"));
	buffer = claim_for(pool, "x", 4096);
	assert_string_equal(buffer.area, "a");
	must(berth_release(pool, &buffer));
	for (size_t i = 0; i < 20 * MIB; i++)
		assert_int_equal(memory[i], 0x5a);
	/* Refused, and nothing is changed. */
	assert_int_equal(berth_pool_configure(pool, "areas=late:2M"), -BERTH_EINVAL);
	assert_int_equal(berth_pool_configure(pool, "devices=x:nobody"), -BERTH_EINVAL);
	assert_int_equal(berth_pool_configure(pool, NULL), -BERTH_EINVAL);
	assert_int_equal(berth_pool_configure(pool, "areas=big:24M"), -BERTH_ENOSPC);
	assert_int_equal(berth_pool_configure(pool, "areas=big:20M"), -BERTH_ENOMEM);
	assert_int_equal(pool_stats(pool).area_bytes, 10 * MIB);
	pool_ok(pool);
	must(berth_unmap(pool, memory, 20 * MIB));
	must(berth_pool_configure(pool, "areas=big:20M"));
	pool_close(pool);
}

static void lending_is_changed_while_it_goes_on(void **state)
{
	struct berth_pool *pool = open_with("areas=a:8M,lend=off;r:2M,policy=reserve");
	void *memory = pool_map(pool, 8 * MIB);

	(void)state;
	assert_int_equal(pool_stats(pool).lent_bytes, 0);
	must(berth_unmap(pool, memory, 8 * MIB));
	must(berth_area_set_lend(pool, "a", BERTH_LEND_FIRST, 2 * MIB));
	memory = pool_map(pool, 8 * MIB);
	assert_int_equal(pool_stats(pool).lent_bytes, 6 * MIB);
	assert_int_equal(berth_area_set_lend(pool, "r", BERTH_LEND_FIRST, 0), -BERTH_EOPNOTSUPP);
	assert_int_equal(berth_area_set_lend(pool, "z", BERTH_LEND_FIRST, 0), -BERTH_ENOENT);
	assert_int_equal(berth_area_set_lend(pool, "a", (enum berth_lend_policy)9, 0),
			 -BERTH_EINVAL);
	must(berth_unmap(pool, memory, 8 * MIB));
	pool_close(pool);
	assert_int_equal(berth_area_set_lend(pool, "a", BERTH_LEND_FIRST, 0), -BERTH_ESTALE);
	assert_int_equal(berth_pool_configure(pool, ""), -BERTH_ESTALE);
}

/* ---- Who holds what -------------------------------------------------------------------------- */

static void what_was_never_released_is_listed(void **state)
{
	struct berth_pool *pool = open_with(
		"areas=a:4M;r:2M,policy=reserve devices=d*:r default=a");
	const struct berth_claim_options named = { .name = "the decoder" };
	struct berth_buffer buffers[3];
	struct berth_held held[4];
	char text[512];
	size_t length;

	(void)state;
	assert_int_equal(berth_pool_held(pool, held, 4), 0);
	assert_int_equal(berth_pool_held_text(pool, text, sizeof(text)), 0);
	must(berth_claim(pool, "a", 1 * MIB, &named, &buffers[0], NULL));
	buffers[1] = claim_for(pool, "dma7", 8192);
	must(berth_claim(pool, "r", 4096, NULL, &buffers[2], NULL));
	assert_int_equal(berth_pool_close(pool), -BERTH_EBUSY);
	memset(held, 0xff, sizeof(held));
	assert_int_equal(berth_pool_held(pool, held, 4), 3);
	assert_string_equal(held[0].name, "the decoder");
	assert_string_equal(held[0].area, "a");
	assert_int_equal(held[0].offset, buffers[0].offset);
	assert_int_equal(held[0].bytes, 1 * MIB);
	assert_true(held[0].age_ns < 60000000000ull);
	assert_string_equal(held[1].name, "dma7");
	assert_int_equal(held[1].offset, buffers[1].offset);
	assert_string_equal(held[2].name, "");
	assert_string_equal(held[2].area, "r");
	/* Only so many as there is room for. */
	memset(held, 0xff, sizeof(held));
	assert_int_equal(berth_pool_held(pool, held, 1), 3);
	assert_int_equal(held[1].bytes, SIZE_MAX);
	assert_int_equal(berth_pool_held(pool, NULL, 0), 3);
	length = berth_pool_held_text(pool, text, sizeof(text));
	assert_int_equal(length, strlen(text));
	assert_non_null(strstr(text, "the decoder holds 1024 KiB of area a at offset "));
	assert_non_null(strstr(text, "dma7 holds 8 KiB of area r at offset "));
	assert_non_null(strstr(text, "somebody holds 4 KiB of area r at offset "));
	assert_int_equal(berth_pool_held_text(pool, NULL, 0), length);
	for (unsigned i = 0; i < 3; i++)
		must(berth_release(pool, &buffers[i]));
	assert_int_equal(berth_pool_held(pool, held, 4), 0);
	pool_close(pool);
	assert_int_equal(berth_pool_held(pool, held, 4), -BERTH_ESTALE);
	assert_int_equal(berth_pool_held_text(pool, text, sizeof(text)), 0);
}

/* In bulk and ahead of the need, whatever the policy. */
static void every_call_works_with_every_policy(void **state)
{
	static const char *const policies[] = { "cma", "first-fit", "reserve", "gcma" };

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		const struct berth_claim_options options = { .flags = BERTH_ZERO, .name = "me" };
		struct berth_buffer buffers[5], buffer;
		struct berth_prepared *prepared;
		struct berth_held held[1];
		struct berth_pool *pool;
		char config[64];

		snprintf(config, sizeof(config), "areas=a:4M,align=64K,policy=%s", policies[i]);
		pool = open_with(config);
		assert_int_equal(
			berth_claim_bulk(pool, NULL, 64 << 10, &options, 5, 0, buffers, NULL), 5);
		for (unsigned j = 0; j < 5; j++)
			assert_int_equal(buffers[j].offset & 0xffff, 0);
		assert_int_equal(berth_pool_held(pool, held, 1), 5);
		assert_string_equal(held[0].name, "me");
		pool_ok(pool);
		/* One twice, and one of another size: all or none. */
		buffer = buffers[4];
		buffers[4] = buffers[0];
		assert_int_equal(berth_release_bulk(pool, buffers, 5), -BERTH_EINVAL);
		buffers[4] = buffer;
		assert_int_equal(pool_stats(pool).claims_held, 5);
		pool_ok(pool);
		must(berth_release_bulk(pool, buffers, 5));
		assert_int_equal(berth_claim_bulk(pool, NULL, 1 << 20, &options, 5, 0, buffers,
						  NULL),
				 -BERTH_ENOSPC);
		assert_int_equal(berth_claim_bulk(pool, NULL, 1 << 20, &options, 5,
						  BERTH_BULK_AS_MANY_AS_POSSIBLE, buffers, NULL),
				 4);
		must(berth_release_bulk(pool, buffers, 4));
		must(berth_prepare(pool, NULL, 1 << 20, &options, &prepared));
		must(berth_prepare_take(prepared, 10000000000ull, &buffer, NULL));
		assert_int_equal(berth_pool_held(pool, held, 1), 1);
		assert_string_equal(held[0].name, "me");
		must(berth_release(pool, &buffer));
		must(berth_prepare(pool, NULL, 1 << 20, &options, &prepared));
		must(berth_prepare_cancel(prepared));
		pool_close(pool);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(devices_claim_from_their_areas),
		cmocka_unit_test(without_a_default_a_device_is_refused),
		cmocka_unit_test(linux_words_make_areas),
		cmocka_unit_test(bad_configurations_are_explained),
		cmocka_unit_test(areas_are_added_while_memory_is_in_use),
		cmocka_unit_test(lending_is_changed_while_it_goes_on),
		cmocka_unit_test(every_call_works_with_every_policy),
		cmocka_unit_test(what_was_never_released_is_listed),
	};

	return cmocka_run_group_tests_name("areas", tests, NULL, NULL);
}
