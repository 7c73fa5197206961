/* SPDX-License-Identifier: MIT */
/*
 * How often the store has what is wanted, beside LRU and a model of S3-FIFO: on uses with a Zipf distribution,
 * with scans in between, and in loops. The store is split into shards, its index has buckets and its ghosts are
 * fingerprints; none of that may cost more than 3 %.
 */
#include "teststore.h"

#include "tools/policies.h"

#define CAPACITY 4096u
#define USES (60u * CAPACITY)

static double store_hit_rate(const struct berth__trace *trace, unsigned nr_shards)
{
	struct test_store *ts = test_store_open(
		&(struct test_store_params){ .nr_pages = CAPACITY,
					     .granule_order = 4,
					     .nr_shards = nr_shards });
	uint64_t page[STORE_WORDS] = { 0 };
	struct berth_store_stats stats;

	for (size_t i = 0; i < trace->nr; i++) {
		struct berth_store_key key = test_key(trace->keys[i] >> 16, trace->keys[i]);

		if (berth_store_get(ts->store, &key, page) != 0)
			assert_int_equal(berth_store_put(ts->store, &key, page), 0);
	}
	stats = test_store_stats(ts);
	assert_int_equal(stats.hits + stats.misses, trace->nr);
	test_store_close(ts);
	return (double)stats.hits / (double)trace->nr;
}

static void test_hit_rates(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < BERTH__NR_TRACES; kind++) {
		struct berth__trace trace;
		double store, lru, model;

		assert_true(berth__trace_make(&trace, (enum berth__trace_kind)kind, CAPACITY, USES,
					      42));
		lru = berth__lru_hit_rate(&trace, CAPACITY);
		model = berth__s3fifo_hit_rate(&trace, CAPACITY);
		store = store_hit_rate(&trace, 4);
		print_message("# %-18s store %.4f, S3-FIFO %.4f, LRU %.4f\n",
			      berth__trace_names[kind], store, model, lru);
		assert_true(store >= 0.97 * model);
		assert_true(store >= lru);
		berth__trace_free(&trace);
	}
}

/* The models themselves, by hand. */
static void test_models(void **state)
{
	static const uint32_t keys[] = { 0, 1, 0, 2, 0, 1, 3, 3, 0, 1 };
	struct berth__trace trace = { (uint32_t *)(uintptr_t)keys, ARRAY_SIZE(keys), 4 };
	uint32_t loop[40];

	(void)state;
	/* LRU of two: 0 1 (0) 2 (0) 1 3 (3) 0 1 */
	assert_true(berth__lru_hit_rate(&trace, 2) == 0.3);
	assert_true(berth__lru_hit_rate(&trace, 4) == 0.6);
	assert_true(berth__s3fifo_hit_rate(&trace, 4) == 0.6);
	/* Ten in a cache of ten; eleven, and LRU has always dropped what comes next. */
	for (unsigned i = 0; i < ARRAY_SIZE(loop); i++)
		loop[i] = i % 10;
	trace = (struct berth__trace){ loop, ARRAY_SIZE(loop), 11 };
	assert_true(berth__lru_hit_rate(&trace, 10) == 0.75);
	assert_true(berth__s3fifo_hit_rate(&trace, 10) == 0.75);
	for (unsigned i = 0; i < ARRAY_SIZE(loop); i++)
		loop[i] = i % 11;
	assert_true(berth__lru_hit_rate(&trace, 10) == 0);
	assert_true(berth__s3fifo_hit_rate(&trace, 10) > 0.3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_models),
		cmocka_unit_test(test_hit_rates),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
