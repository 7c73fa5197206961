/* SPDX-License-Identifier: MIT */
/*
 * The discardable store: what it keeps, what it forgets, and what claims do to it.
 */
#include "teststore.h"

static struct test_store *open_small(void)
{
	return test_store_open(
		&(struct test_store_params){ .nr_pages = 256, .granule_order = 4, .nr_shards = 4 });
}

static void test_round_trip(void **state)
{
	struct test_store *ts = open_small();
	struct berth_store_stats stats;

	(void)state;
	assert_int_equal(test_get(ts, 1, 1), -1);
	for (uint64_t i = 0; i < 64; i++)
		assert_int_equal(test_put(ts, 1, i, i), 0);
	for (uint64_t i = 0; i < 64; i++)
		assert_int_equal(test_get(ts, 1, i), (int64_t)i);
	assert_int_equal(test_get(ts, 2, 1), -1);
	stats = test_store_stats(ts);
	assert_int_equal(stats.puts, 64);
	assert_int_equal(stats.hits, 64);
	assert_int_equal(stats.misses, 2);
	assert_int_equal(stats.nr_pages, 256);
	assert_int_equal(stats.open_pages, 256);
	assert_int_equal(stats.stored_pages, 64);
	assert_int_equal(stats.evicted + stats.refused + stats.lost_to_claims + stats.drops, 0);
	test_store_close(ts);
}

/* Buffers may be anywhere. */
static void test_unaligned(void **state)
{
	struct test_store *ts = open_small();
	struct berth_store_key key = test_key(3, 4);
	char from[BERTH_PAGE_SIZE + 16], to[BERTH_PAGE_SIZE + 16];

	(void)state;
	for (size_t i = 0; i < sizeof(from); i++)
		from[i] = (char)(i * 7);
	memset(to, 0x55, sizeof(to));
	assert_int_equal(berth_store_put(ts->store, &key, from + 3), 0);
	assert_int_equal(berth_store_get(ts->store, &key, to + 5), 0);
	assert_memory_equal(from + 3, to + 5, BERTH_PAGE_SIZE);
	assert_int_equal(to[4], 0x55);
	assert_int_equal(to[5 + BERTH_PAGE_SIZE], 0x55);
	test_store_close(ts);
}

static void test_overwrite(void **state)
{
	struct test_store *ts = open_small();

	(void)state;
	for (uint64_t version = 0; version < 300; version++) {
		assert_int_equal(test_put(ts, 9, 9, version), 0);
		assert_int_equal(test_get(ts, 9, 9), (int64_t)version);
	}
	assert_int_equal(test_store_stats(ts).stored_pages, 1);
	assert_int_equal(test_store_stats(ts).evicted, 0);
	test_store_close(ts);
}

static void test_drop_one(void **state)
{
	struct test_store *ts = open_small();

	(void)state;
	assert_int_equal(test_put(ts, 1, 1, 5), 0);
	assert_int_equal(test_put(ts, 1, 2, 6), 0);
	assert_true(test_drop(ts, 1, 1));
	assert_false(test_drop(ts, 1, 1));
	assert_int_equal(test_get(ts, 1, 1), -1);
	assert_int_equal(test_get(ts, 1, 2), 6);
	assert_int_equal(test_store_stats(ts).stored_pages, 1);
	assert_int_equal(test_store_stats(ts).drops, 1);
	assert_int_equal(test_put(ts, 1, 1, 7), 0);
	assert_int_equal(test_get(ts, 1, 1), 7);
	test_store_close(ts);
}

static void test_drop_a_group(void **state)
{
	struct test_store *ts = open_small();

	(void)state;
	for (uint64_t i = 0; i < 20; i++) {
		assert_int_equal(test_put(ts, 1, i, i), 0);
		assert_int_equal(test_put(ts, 2, i, i), 0);
	}
	berth_store_drop_group(ts->store, 1);
	for (uint64_t i = 0; i < 20; i++) {
		assert_int_equal(test_get(ts, 1, i), -1);
		assert_int_equal(test_get(ts, 2, i), (int64_t)i);
		assert_false(test_drop(ts, 1, i));
	}
	/* What is put later is another matter, also under the same keys. */
	for (uint64_t i = 0; i < 20; i++)
		assert_int_equal(test_put(ts, 1, i, 100 + i), 0);
	for (uint64_t i = 0; i < 20; i++)
		assert_int_equal(test_get(ts, 1, i), (int64_t)(100 + i));
	test_store_close(ts);
}

/* Frames of a dropped group are used again before anything that is there is evicted for good. */
static void test_dropped_groups_make_room(void **state)
{
	struct test_store *ts = open_small();

	(void)state;
	for (uint64_t round = 0; round < 20; round++) {
		for (uint64_t i = 0; i < 200; i++)
			assert_int_equal(test_put(ts, round, i, i), 0);
		berth_store_drop_group(ts->store, round);
		store_ok(ts);
	}
	assert_int_equal(test_store_stats(ts).refused, 0);
	test_store_close(ts);
}

static void test_eviction(void **state)
{
	struct test_store *ts = open_small();
	uint64_t there = 0;

	(void)state;
	for (uint64_t i = 0; i < 1000; i++)
		assert_int_equal(test_put(ts, 1, i, i), 0);
	for (uint64_t i = 0; i < 1000; i++) {
		int64_t version = test_get(ts, 1, i);

		assert_true(version == -1 || version == (int64_t)i);
		there += version != -1;
	}
	/* All frames hold something, but for a few where buckets were full or shards uneven. */
	assert_in_range(there, 250, 256);
	assert_int_equal(test_store_stats(ts).stored_pages, there);
	assert_int_equal(test_store_stats(ts).evicted, 1000 - there);
	test_store_close(ts);
}

/* A page that is used stays, whatever passes through. */
static void test_scan_resistance(void **state)
{
	struct test_store *ts = open_small();
	uint64_t there = 0;

	(void)state;
	for (uint64_t i = 0; i < 100; i++)
		assert_int_equal(test_put(ts, 1, i, i), 0);
	for (unsigned use = 0; use < 3; use++)
		for (uint64_t i = 0; i < 100; i++)
			assert_int_equal(test_get(ts, 1, i), (int64_t)i);
	for (uint64_t i = 0; i < 3000; i++)
		assert_int_equal(test_put(ts, 2, i, i), 0);
	for (uint64_t i = 0; i < 100; i++)
		there += test_get(ts, 1, i) != -1;
	assert_in_range(there, 95, 100);
	test_store_close(ts);
}

static void test_a_claim_takes(void **state)
{
	struct test_store *ts = open_small();
	uint64_t there = 0;
	berth_pfn_t pfn;

	(void)state;
	for (uint64_t i = 0; i < 256; i++)
		assert_int_equal(test_put(ts, 1, i, i), 0);
	assert_int_equal(test_store_claim(ts, 0, 128, &pfn), 0);
	assert_int_equal(test_store_stats(ts).open_pages, 128);
	/* What is left is right; test_get() looks at every byte. */
	for (uint64_t i = 0; i < 256; i++)
		there += test_get(ts, 1, i) != -1;
	assert_in_range(there, 100, 128);
	assert_int_equal(test_store_stats(ts).stored_pages, there);
	store_ok(ts);
	/* The other half goes on, with as many pages. */
	for (uint64_t i = 1000; i < 2000; i++)
		assert_int_equal(test_put(ts, 1, i, i), 0);
	for (unsigned i = 0; i < 128 * BERTH_PAGE_SIZE; i++)
		assert_int_equal(((unsigned char *)test_store_frame(ts, pfn))[i], 0xdd);
	assert_in_range(test_store_stats(ts).stored_pages, 120, 128);
	test_store_release(ts, 0, pfn, 128);
	store_ok(ts);
	for (uint64_t i = 2000; i < 3000; i++)
		assert_int_equal(test_put(ts, 1, i, i), 0);
	assert_in_range(test_store_stats(ts).stored_pages, 245, 256);
	for (uint64_t i = 0; i < 3000; i++)
		test_get(ts, 1, i);
	assert_in_range(test_store_stats(ts).lost_to_claims, 100, 128);
	test_store_close(ts);
}

/* Claimed and released between two looks: nothing of before is there. */
static void test_claimed_and_released(void **state)
{
	struct test_store *ts = open_small();
	berth_pfn_t pfn;

	(void)state;
	for (unsigned round = 0; round < 10; round++) {
		for (uint64_t i = 0; i < 200; i++)
			assert_int_equal(test_put(ts, 1, i, i), 0);
		assert_int_equal(test_store_claim(ts, 0, 256, &pfn), 0);
		test_store_release(ts, 0, pfn, 256);
		for (uint64_t i = 0; i < 200; i++)
			assert_int_equal(test_get(ts, 1, i), -1);
		assert_int_equal(test_store_stats(ts).stored_pages, 0);
		store_ok(ts);
	}
	test_store_close(ts);
}

/* A put that finds everything claimed is refused, and the older page isn't there either. */
static void test_all_is_claimed(void **state)
{
	struct test_store *ts = open_small();
	berth_pfn_t pfn;

	(void)state;
	for (uint64_t i = 0; i < 256; i++)
		assert_int_equal(test_put(ts, 1, i, i), 0);
	assert_int_equal(test_store_claim(ts, 0, 256, &pfn), 0);
	for (uint64_t i = 0; i < 300; i++) {
		assert_int_equal(test_put(ts, 1, i, 1000 + i), -BERTH_ENOSPC);
		assert_int_equal(test_get(ts, 1, i), -1);
	}
	assert_int_equal(test_store_stats(ts).refused, 300);
	assert_int_equal(test_store_stats(ts).stored_pages, 0);
	assert_int_equal(test_store_stats(ts).open_pages, 0);
	store_ok(ts);
	test_store_release(ts, 0, pfn, 256);
	for (uint64_t i = 0; i < 100; i++)
		assert_int_equal(test_put(ts, 1, i, 2000 + i), 0);
	for (uint64_t i = 0; i < 100; i++)
		assert_int_equal(test_get(ts, 1, i), (int64_t)(2000 + i));
	test_store_close(ts);
}

/* A thread without a slot can't fill; it can read and drop, and nothing stale stays. */
static void test_without_a_slot(void **state)
{
	struct test_store *ts = open_small();

	(void)state;
	assert_int_equal(test_put(ts, 1, 1, 1), 0);
	assert_int_equal(test_put(ts, 1, 2, 2), 0);
	test_set_cpu(TEST_NO_CPU);
	assert_int_equal(test_get(ts, 1, 1), 1);
	assert_int_equal(test_put(ts, 1, 1, 3), -BERTH_ENOSPC);
	assert_int_equal(test_get(ts, 1, 1), -1);
	assert_int_equal(test_put(ts, 1, 3, 3), -BERTH_ENOSPC);
	assert_true(test_drop(ts, 1, 2));
	store_ok(ts);
	test_set_cpu(4); /* the areas have 4 */
	assert_int_equal(test_put(ts, 1, 1, 3), -BERTH_ENOSPC);
	test_set_cpu(3);
	assert_int_equal(test_put(ts, 1, 1, 3), 0);
	assert_int_equal(test_get(ts, 1, 1), 3);
	test_store_close(ts);
}

static void test_several_areas(void **state)
{
	struct test_store *ts = test_store_open(&(struct test_store_params){ .nr_pages = 128,
									     .nr_areas = 3,
									     .granule_order = 2,
									     .nr_shards = 8 });
	berth_pfn_t pfn;

	(void)state;
	for (uint64_t i = 0; i < 2000; i++)
		assert_int_equal(test_put(ts, 1, i, i), 0);
	assert_in_range(test_store_stats(ts).stored_pages, 370, 384);
	assert_int_equal(test_store_claim(ts, 1, 128, &pfn), 0);
	assert_in_range(test_store_stats(ts).stored_pages, 240, 256);
	for (uint64_t i = 0; i < 2000; i++)
		test_get(ts, 1, i);
	for (uint64_t i = 0; i < 2000; i++)
		assert_int_equal(test_put(ts, 1, i, 7), 0);
	test_store_release(ts, 1, pfn, 128);
	for (uint64_t i = 0; i < 2000; i++)
		assert_int_equal(test_put(ts, 1, i, 8), 0);
	assert_in_range(test_store_stats(ts).stored_pages, 370, 384);
	test_store_close(ts);
}

/* Granules of a single frame, and of 512. */
static void test_granule_orders(void **state)
{
	static const unsigned orders[] = { 0, 9 };

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(orders); i++) {
		struct test_store *ts = test_store_open(
			&(struct test_store_params){ .nr_pages = 1024,
						     .granule_order = orders[i],
						     .nr_shards = 2 });
		berth_pfn_t pfn;

		for (uint64_t k = 0; k < 3000; k++)
			assert_int_equal(test_put(ts, 1, k, k), 0);
		assert_int_equal(test_store_claim(ts, 0, 512, &pfn), 0);
		for (uint64_t k = 0; k < 3000; k++)
			test_get(ts, 1, k);
		store_ok(ts);
		/* With two granules one of two shards has nothing now. */
		for (uint64_t k = 0; k < 3000; k++)
			assert_int_equal(test_put(ts, 2, k, k), 0);
		test_store_release(ts, 0, pfn, 512);
		for (uint64_t k = 0; k < 3000; k++)
			assert_int_equal(test_put(ts, 3, k, k), 0);
		assert_in_range(test_store_stats(ts).stored_pages, 1000, 1024);
		test_store_close(ts);
	}
}

/* Puts and gets of many keys; how many of them are there at last. */
static uint64_t put_and_count(struct test_store *ts, uint64_t group, uint64_t nr)
{
	uint64_t there = 0;

	for (uint64_t i = 0; i < nr; i++)
		assert_int_equal(test_put(ts, group, i, i), 0);
	for (uint64_t i = 0; i < nr; i++)
		there += test_get(ts, group, i) == (int64_t)i;
	store_ok(ts);
	return there;
}

/* What is open serves all keys, however little it is, and whosever it was. */
static void test_shards_without_frames(void **state)
{
	/* 16 granules of 16 frames, one for each shard. */
	struct test_store *ts = test_store_open(&(
		struct test_store_params){ .nr_pages = 256, .granule_order = 4, .nr_shards = 16 });
	berth_pfn_t pfn[4];

	(void)state;
	assert_in_range(put_and_count(ts, 1, 1000), 230, 256);
	assert_int_equal(test_store_claim(ts, 0, 128, &pfn[0]), 0);
	assert_in_range(put_and_count(ts, 2, 1000), 112, 128);
	assert_int_equal(test_store_claim(ts, 0, 64, &pfn[1]), 0);
	assert_in_range(put_and_count(ts, 3, 1000), 56, 64);
	assert_int_equal(test_store_claim(ts, 0, 48, &pfn[2]), 0);
	assert_in_range(put_and_count(ts, 4, 1000), 14, 16);
	assert_int_equal(test_store_claim(ts, 0, 16, &pfn[3]), 0);
	assert_int_equal(test_put(ts, 5, 1, 1), -BERTH_ENOSPC);
	assert_int_equal(test_store_stats(ts).refused, 1);
	/* Another one than before opens, and then all. */
	test_store_release(ts, 0, pfn[0], 128);
	assert_int_equal(test_store_claim(ts, 0, 112, &pfn[0]), 0);
	assert_in_range(put_and_count(ts, 6, 1000), 14, 16);
	test_store_release(ts, 0, pfn[1], 64);
	test_store_release(ts, 0, pfn[2], 48);
	test_store_release(ts, 0, pfn[3], 16);
	assert_in_range(put_and_count(ts, 7, 1000), 130, 144);
	test_store_release(ts, 0, pfn[0], 112);
	assert_in_range(put_and_count(ts, 8, 1000), 230, 256);
	assert_int_equal(test_store_stats(ts).refused, 1);
	test_store_close(ts);
}

/* A shard that has lost more pages than an eviction looks at forgets them all before another one serves its keys. */
static void test_much_is_lost_at_once(void **state)
{
	struct test_store *ts = test_store_open(&(
		struct test_store_params){ .nr_pages = 8192, .granule_order = 4, .nr_shards = 2 });
	struct berth_claim_params claim = { .nr_pages = 8192 - 16 };
	berth_pfn_t pfn;

	(void)state;
	for (uint64_t i = 0; i < 10000; i++)
		assert_int_equal(test_put(ts, 1, i, i), 0);
	assert_int_equal(berth_gcma_alloc(ts->areas[0], &claim, &pfn, NULL), 0);
	for (uint64_t i = 0; i < 64; i++) {
		assert_int_equal(test_put(ts, 2, i, i), 0);
		store_ok(ts);
	}
	assert_in_range(put_and_count(ts, 3, 100), 14, 16);
	test_store_close(ts);
}

/* Free entries of more granules than are given up at once: one in the middle of their list is adopted anew. */
static void test_free_entries_are_lost(void **state)
{
	struct test_store *ts = test_store_open(&(
		struct test_store_params){ .nr_pages = 8192, .granule_order = 4, .nr_shards = 1 });
	struct berth_claim_params claim = { .nr_pages = 8192 };
	berth_pfn_t pfn;

	(void)state;
	for (uint64_t i = 0; i < 8192; i++)
		assert_int_equal(test_put(ts, 1, i, i), 0);
	for (uint64_t i = 0; i < 8192; i++)
		(void)test_drop(ts, 1, i);
	assert_int_equal(test_store_stats(ts).stored_pages, 0);
	assert_int_equal(berth_gcma_alloc(ts->areas[0], &claim, &pfn, NULL), 0);
	assert_int_equal(berth_gcma_release(ts->areas[0], pfn, 8192), 0);
	for (uint64_t i = 0; i < 64; i++) {
		assert_int_equal(test_put(ts, 2, i, i), 0);
		store_ok(ts);
	}
	for (uint64_t i = 0; i < 64; i++)
		assert_int_equal(test_get(ts, 2, i), (int64_t)i);
	test_store_close(ts);
}

/* Without a slot nobody fills; that isn't taken for a lack of frames. */
static void test_no_slot_moves_nothing(void **state)
{
	struct test_store *ts = open_small();

	(void)state;
	assert_int_equal(put_and_count(ts, 1, 50), 50);
	test_set_cpu(TEST_NO_CPU);
	for (uint64_t i = 0; i < 100; i++)
		assert_int_equal(test_put(ts, 2, i, i), -BERTH_ENOSPC);
	test_set_cpu(0);
	for (uint64_t i = 0; i < 50; i++)
		assert_int_equal(test_get(ts, 1, i), (int64_t)i);
	test_store_close(ts);
}

static void test_shards_by_size(void **state)
{
	struct test_store *ts = test_store_open(
		&(struct test_store_params){ .nr_pages = 8192, .granule_order = 4 });

	(void)state;
	/* Metadata: some 1.5 % of the area. */
	assert_in_range(ts->metadata_bytes * 1000 / (8192 * BERTH_PAGE_SIZE), 10, 16);
	for (uint64_t i = 0; i < 20000; i++)
		assert_int_equal(test_put(ts, 1, i, i), 0);
	assert_in_range(test_store_stats(ts).stored_pages, 8192 * 99 / 100, 8192);
	test_store_close(ts);
}

/* Zero bytes, as a forked child finds them, are a store that has nothing and keeps nothing. */
static void test_a_wiped_store(void **state)
{
	struct test_store *ts = open_small();
	uint64_t page[STORE_WORDS] = { 0 };
	struct berth_store_key key = test_key(1, 1);
	struct berth_store_stats stats;

	(void)state;
	assert_int_equal(test_put(ts, 1, 1, 5), 0);
	memset(ts->metadata, 0, ts->metadata_bytes);
	assert_int_equal(berth_store_put(ts->store, &key, page), -BERTH_ESTALE);
	page[0] = 7;
	assert_int_equal(berth_store_get(ts->store, &key, page), -BERTH_ENOENT);
	assert_int_equal(page[0], 7);
	assert_false(berth_store_drop(ts->store, &key));
	berth_store_drop_group(ts->store, 1);
	stats = test_store_stats(ts);
	assert_int_equal(stats.nr_pages + stats.stored_pages + stats.puts, 0);
	for (size_t i = 0; i < ts->metadata_bytes; i++)
		assert_int_equal(((const char *)ts->metadata)[i], 0);
	test_store_close(ts);
}

static void test_bad_parameters(void **state)
{
	struct test_store *ts = open_small();
	struct berth_store_params good = test_store_params_of(ts), bad;
	struct berth_gcma *twice[] = { ts->areas[0], ts->areas[0] }, *none[] = { NULL };
	struct berth_store *store = NULL;
	struct berth_store_key key = test_key(1, 1);
	uint64_t page[STORE_WORDS] = { 0 };

	(void)state;
	assert_int_equal(berth_store_metadata_size(NULL), 0);
#define REFUSED(change)                                                                  \
	do {                                                                             \
		bad = good;                                                              \
		change;                                                                  \
		assert_int_equal(berth_store_metadata_size(&bad), 0);                    \
		assert_int_equal(berth_store_init(&store, &bad, ts->metadata, 1u << 30), \
				 -BERTH_EINVAL);                                         \
	} while (0)
	REFUSED(bad.nr_areas = 0);
	REFUSED(bad.nr_areas = 17);
	REFUSED(bad.areas = NULL);
	REFUSED(bad.linear = NULL);
	REFUSED(bad.port = NULL);
	REFUSED(bad.nr_shards = 3);
	REFUSED(bad.nr_shards = 512);
	REFUSED(bad.nr_shards = 32); /* there are 16 granules */
	REFUSED(bad.linear_pfn = STORE_START + 1);
	REFUSED(bad.areas = twice; bad.nr_areas = 2);
	REFUSED(bad.areas = none);
	assert_int_equal(berth_store_init(NULL, &good, ts->metadata, ts->metadata_bytes),
			 -BERTH_EINVAL);
	assert_int_equal(berth_store_init(&store, &good, NULL, ts->metadata_bytes), -BERTH_EINVAL);
	assert_int_equal(berth_store_init(&store, &good, (char *)ts->metadata + 8,
					  ts->metadata_bytes),
			 -BERTH_EINVAL);
	assert_int_equal(berth_store_init(&store, &good, ts->metadata, ts->metadata_bytes - 1),
			 -BERTH_EINVAL);
	assert_null(store);
	assert_int_equal(berth_store_put(ts->store, &key, NULL), -BERTH_EINVAL);
	assert_int_equal(berth_store_put(ts->store, NULL, page), -BERTH_EINVAL);
	assert_int_equal(berth_store_put(NULL, &key, page), -BERTH_EINVAL);
	assert_int_equal(berth_store_get(ts->store, &key, NULL), -BERTH_EINVAL);
	assert_int_equal(berth_store_get(ts->store, NULL, page), -BERTH_EINVAL);
	assert_int_equal(berth_store_get(NULL, &key, page), -BERTH_EINVAL);
	assert_false(berth_store_drop(ts->store, NULL));
	assert_false(berth_store_drop(NULL, &key));
	berth_store_drop_group(NULL, 1);
	test_store_close(ts);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_unaligned),
		cmocka_unit_test(test_overwrite),
		cmocka_unit_test(test_drop_one),
		cmocka_unit_test(test_drop_a_group),
		cmocka_unit_test(test_dropped_groups_make_room),
		cmocka_unit_test(test_eviction),
		cmocka_unit_test(test_scan_resistance),
		cmocka_unit_test(test_a_claim_takes),
		cmocka_unit_test(test_claimed_and_released),
		cmocka_unit_test(test_all_is_claimed),
		cmocka_unit_test(test_without_a_slot),
		cmocka_unit_test(test_several_areas),
		cmocka_unit_test(test_granule_orders),
		cmocka_unit_test(test_shards_without_frames),
		cmocka_unit_test(test_much_is_lost_at_once),
		cmocka_unit_test(test_free_entries_are_lost),
		cmocka_unit_test(test_no_slot_moves_nothing),
		cmocka_unit_test(test_shards_by_size),
		cmocka_unit_test(test_a_wiped_store),
		cmocka_unit_test(test_bad_parameters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
