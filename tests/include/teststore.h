/* SPDX-License-Identifier: MIT */
/*
 * A store in a test: GCMA areas one after the other in one memory, and pages whose every word tells which
 * key and version it is of, so that a stale, torn or foreign byte shows.
 */
#ifndef BERTH_TESTSTORE_H
#define BERTH_TESTSTORE_H

#include <berth/store.h>

#include "testing.h"

#define STORE_WORDS (BERTH_PAGE_SIZE / 8)
#define STORE_MAX_AREAS 4u
#define STORE_START 0x4000u

struct test_store_params {
	uint64_t nr_pages; /* of each area */
	unsigned nr_areas; /* 0: one */
	unsigned granule_order, nr_shards, nr_cpus /* 0: 4 */;
	const struct berth_port_ops *ops; /* NULL: the scripted port */
};

struct test_store {
	struct test_port port;
	struct test_store_params params;
	struct berth_store *store;
	struct berth_gcma *areas[STORE_MAX_AREAS];
	char *linear;
	void *metadata, *area_metadata[STORE_MAX_AREAS];
	size_t metadata_bytes;
	uint64_t nr_pages; /* of all areas */
};

static inline struct berth_store_params test_store_params_of(struct test_store *ts)
{
	return (struct berth_store_params){ .areas = ts->areas,
					    .nr_areas = ts->params.nr_areas,
					    .linear = ts->linear,
					    .linear_pfn = STORE_START,
					    .nr_shards = ts->params.nr_shards,
					    .seed = 7,
					    .port = ts->params.ops,
					    .port_ctx = &ts->port };
}

static inline struct test_store *test_store_open(const struct test_store_params *params)
{
	struct test_store *ts = test_zalloc(1, sizeof(*ts));
	struct berth_store_params store;
	void *linear = NULL;

	ts->params = *params;
	if (!ts->params.nr_areas)
		ts->params.nr_areas = 1;
	if (!ts->params.nr_cpus)
		ts->params.nr_cpus = 4;
	if (!ts->params.ops)
		ts->params.ops = &test_port_ops;
	ts->port.tick_ns = 10;
	test_set_cpu(0);
	ts->nr_pages = params->nr_pages * ts->params.nr_areas;
	assert_int_equal(posix_memalign(&linear, BERTH_PAGE_SIZE, ts->nr_pages * BERTH_PAGE_SIZE),
			 0);
	memset(linear, 0xa5, ts->nr_pages * BERTH_PAGE_SIZE);
	ts->linear = linear;
	for (unsigned i = 0; i < ts->params.nr_areas; i++) {
		const struct berth_gcma_params area = {
			.name = "test",
			.start_pfn = STORE_START + i * params->nr_pages,
			.nr_pages = params->nr_pages,
			.granule_order = params->granule_order,
			.nr_cpus = ts->params.nr_cpus,
			.port = ts->params.ops,
			.port_ctx = &ts->port,
		};
		size_t bytes = berth_gcma_metadata_size(&area);

		assert_int_not_equal(bytes, 0);
		assert_int_equal(posix_memalign(&ts->area_metadata[i], 64, bytes), 0);
		assert_int_equal(berth_gcma_init(&ts->areas[i], &area, ts->area_metadata[i], bytes),
				 0);
	}
	store = test_store_params_of(ts);
	ts->metadata_bytes = berth_store_metadata_size(&store);
	assert_int_not_equal(ts->metadata_bytes, 0);
	assert_int_equal(posix_memalign(&ts->metadata, 64, ts->metadata_bytes), 0);
	memset(ts->metadata, 0xa5, ts->metadata_bytes);
	assert_int_equal(berth_store_init(&ts->store, &store, ts->metadata, ts->metadata_bytes), 0);
	return ts;
}

static inline void test_store_verify(struct test_store *ts, const char *file, int line)
{
	struct berth_violation v = { 0 };

	if (!berth_store_check(ts->store, &v)) {
		print_error("store check: %s at %#llx: value %#llx, expected %#llx\n",
			    v.what ? v.what : "(null)", (unsigned long long)v.where,
			    (unsigned long long)v.value, (unsigned long long)v.expected);
		_fail(file, line);
	}
	for (unsigned i = 0; i < ts->params.nr_areas; i++)
		if (!berth_gcma_check(ts->areas[i], &v)) {
			print_error("area check: %s at %#llx\n", v.what,
				    (unsigned long long)v.where);
			_fail(file, line);
		}
}
#define store_ok(ts) test_store_verify(ts, __FILE__, __LINE__)

static inline void test_store_close(struct test_store *ts)
{
	store_ok(ts);
	for (unsigned i = 0; i < ts->params.nr_areas; i++)
		free(ts->area_metadata[i]);
	free(ts->metadata);
	free(ts->linear);
	free(ts);
}

/* ---- Pages ------------------------------------------------------------------------------------- */

static inline struct berth_store_key test_key(uint64_t group, uint64_t item)
{
	return (struct berth_store_key){ group, item };
}

/* The word of a page of this key and version. */
static inline uint64_t test_page_word(const struct berth_store_key *key, uint64_t version, size_t i)
{
	return (key->group * 0x9e3779b97f4a7c15u ^ key->item * 0xbf58476d1ce4e5b9u) +
	       (version << 20) + i;
}

static inline void test_page_make(uint64_t *page, const struct berth_store_key *key,
				  uint64_t version)
{
	for (size_t i = 0; i < STORE_WORDS; i++)
		page[i] = test_page_word(key, version, i);
}

/* The version of a page of this key; fails the test when a word is another's. */
static inline uint64_t test_page_version(const uint64_t *page, const struct berth_store_key *key)
{
	uint64_t version = (page[0] - test_page_word(key, 0, 0)) >> 20;

	for (size_t i = 0; i < STORE_WORDS; i++)
		if (page[i] != test_page_word(key, version, i))
			fail_msg("word %zu of page %llx.%llx is %llx", i,
				 (unsigned long long)key->group, (unsigned long long)key->item,
				 (unsigned long long)page[i]);
	return version;
}

static inline int test_put(struct test_store *ts, uint64_t group, uint64_t item, uint64_t version)
{
	struct berth_store_key key = test_key(group, item);
	uint64_t page[STORE_WORDS];

	test_page_make(page, &key, version);
	return berth_store_put(ts->store, &key, page);
}

/* The version that is there; -1: a miss. */
static inline int64_t test_get(struct test_store *ts, uint64_t group, uint64_t item)
{
	struct berth_store_key key = test_key(group, item);
	uint64_t page[STORE_WORDS];
	int error = berth_store_get(ts->store, &key, page);

	if (error) {
		assert_int_equal(error, -BERTH_ENOENT);
		return -1;
	}
	return (int64_t)test_page_version(page, &key);
}

static inline bool test_drop(struct test_store *ts, uint64_t group, uint64_t item)
{
	struct berth_store_key key = test_key(group, item);

	return berth_store_drop(ts->store, &key);
}

/* ---- Claims ------------------------------------------------------------------------------------ */

static inline void *test_store_frame(struct test_store *ts, berth_pfn_t pfn)
{
	return ts->linear + (pfn - STORE_START) * BERTH_PAGE_SIZE;
}

/* Claims and overwrites, as a device would. */
static inline int test_store_claim(struct test_store *ts, unsigned area, uint64_t nr_pages,
				   berth_pfn_t *pfn)
{
	struct berth_claim_params claim = { .nr_pages = nr_pages };
	int error = berth_gcma_alloc(ts->areas[area], &claim, pfn, NULL);

	if (!error)
		memset(test_store_frame(ts, *pfn), 0xdd, nr_pages * BERTH_PAGE_SIZE);
	return error;
}

static inline void test_store_release(struct test_store *ts, unsigned area, berth_pfn_t pfn,
				      uint64_t nr_pages)
{
	memset(test_store_frame(ts, pfn), 0xee, nr_pages * BERTH_PAGE_SIZE);
	assert_int_equal(berth_gcma_release(ts->areas[area], pfn, nr_pages), 0);
}

static inline struct berth_store_stats test_store_stats(struct test_store *ts)
{
	struct berth_store_stats stats;

	berth_store_stats(ts->store, &stats);
	return stats;
}

#endif
