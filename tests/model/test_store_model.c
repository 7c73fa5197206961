/* SPDX-License-Identifier: MIT */
/*
 * The store against a naive map: random puts, gets, drops, group drops and claims. A miss is always right, a
 * page that isn't the last one under its key never is, and a put succeeds unless all is claimed. STORE_MODEL_OPS operations for each of the seeds
 * (BERTH_MODEL_SEED: that one only).
 */
#include "teststore.h"

#define NR_GROUPS 6u
#define NR_ITEMS 128u
#define MAX_CLAIMS 40u
#define NOTHING UINT64_MAX

struct claim {
	unsigned area;
	berth_pfn_t pfn;
	uint64_t nr_pages;
};

struct model {
	struct test_store *ts;
	uint64_t random;
	uint64_t version;
	uint64_t last[NR_GROUPS][NR_ITEMS];
	struct claim claims[MAX_CLAIMS];
	unsigned nr_claims;
	uint64_t hits, misses, claimed, refused;
};

static uint64_t below(struct model *m, uint64_t bound)
{
	return test_random_below(&m->random, bound);
}

/* Half of the uses go to an eighth of the items. */
static uint64_t some_item(struct model *m)
{
	return below(m, 2) ? below(m, NR_ITEMS / 8) : below(m, NR_ITEMS);
}

static bool all_is_claimed(struct model *m)
{
	for (unsigned i = 0; i < m->ts->params.nr_areas; i++) {
		struct berth_gcma_stats stats;

		berth_gcma_stats(m->ts->areas[i], &stats);
		if (stats.claimed_pages < stats.nr_pages)
			return false;
	}
	return true;
}

static void do_put(struct model *m)
{
	uint64_t group = below(m, NR_GROUPS), item = some_item(m);
	int error = test_put(m->ts, group, item, ++m->version);

	assert_int_equal(error, all_is_claimed(m) ? -BERTH_ENOSPC : 0);
	m->refused += error != 0;
	m->last[group][item] = error ? NOTHING : m->version;
}

static void do_get(struct model *m)
{
	uint64_t group = below(m, NR_GROUPS), item = some_item(m);
	int64_t version = test_get(m->ts, group, item);

	m->misses += version == -1;
	m->hits += version != -1;
	if (version != -1)
		assert_int_equal(version, m->last[group][item]);
}

static void do_drop(struct model *m)
{
	uint64_t group = below(m, NR_GROUPS), item = some_item(m);
	bool there = test_drop(m->ts, group, item);

	if (m->last[group][item] == NOTHING)
		assert_false(there);
	m->last[group][item] = NOTHING;
	assert_int_equal(test_get(m->ts, group, item), -1);
}

static void do_drop_group(struct model *m)
{
	uint64_t group = below(m, NR_GROUPS);

	berth_store_drop_group(m->ts->store, group);
	for (unsigned item = 0; item < NR_ITEMS; item++)
		m->last[group][item] = NOTHING;
}

static void do_claim(struct model *m)
{
	struct claim *claim = &m->claims[m->nr_claims];
	int error;

	if (m->nr_claims == MAX_CLAIMS)
		return;
	claim->area = (unsigned)below(m, m->ts->params.nr_areas);
	claim->nr_pages = 1 + below(m, m->ts->params.nr_pages >> below(m, 5));
	if (below(m, 3) == 0) { /* so that nothing is left now and then */
		struct berth_gcma_stats stats;

		berth_gcma_stats(m->ts->areas[claim->area], &stats);
		if (stats.largest_free_pages)
			claim->nr_pages = stats.largest_free_pages;
	}
	error = test_store_claim(m->ts, claim->area, claim->nr_pages, &claim->pfn);
	assert_true(error == 0 || error == -BERTH_ENOSPC);
	m->nr_claims += !error;
	m->claimed += !error;
}

static void do_release(struct model *m)
{
	struct claim *claim;

	if (!m->nr_claims)
		return;
	claim = &m->claims[below(m, m->nr_claims)];
	test_store_release(m->ts, claim->area, claim->pfn, claim->nr_pages);
	*claim = m->claims[--m->nr_claims];
}

/* By turns all is claimed bit by bit, and given back. */
static void step(struct model *m, uint64_t i)
{
	uint64_t op = below(m, 1000), claims = i / 1000 % 2 ? 993 : 960;

	if (op < 450)
		do_get(m);
	else if (op < 900)
		do_put(m);
	else if (op < 950)
		do_drop(m);
	else if (op < 953)
		do_drop_group(m);
	else if (op < claims)
		do_claim(m);
	else
		do_release(m);
}

static void run(uint64_t seed, const struct test_store_params *params, uint64_t nr_ops)
{
	struct model m = { .ts = test_store_open(params), .random = seed };
	struct berth_store_stats stats;

	memset(m.last, 0xff, sizeof(m.last));
	for (uint64_t i = 0; i < nr_ops; i++) {
		step(&m, i);
		if (i % 64 == 0)
			store_ok(m.ts);
	}
	/* When all is given back, all can be used, and what is put is there. */
	while (m.nr_claims)
		do_release(&m);
	for (unsigned round = 0; round < 6; round++)
		for (uint64_t item = 0; item < 2 * m.ts->nr_pages; item++)
			assert_int_equal(test_put(m.ts, NR_GROUPS, item, item), 0);
	stats = test_store_stats(m.ts);
	assert_true(stats.stored_pages * 10 >= stats.nr_pages * 9);
	/* It isn't right by missing always. */
	assert_true(m.hits * 20 > m.misses);
	assert_true(m.claimed > nr_ops / 200);
	assert_true(m.refused > 0 || nr_ops < 10000);
	test_store_close(m.ts);
}

static void test_model(void **state)
{
	static const struct test_store_params worlds[] = {
		{ .nr_pages = 64, .granule_order = 0, .nr_shards = 1 },
		{ .nr_pages = 128, .granule_order = 2, .nr_areas = 2, .nr_shards = 4 },
		{ .nr_pages = 256, .granule_order = 4, .nr_shards = 2 },
		{ .nr_pages = 256, .granule_order = 3, .nr_areas = 4, .nr_shards = 16 },
		{ .nr_pages = 256, .granule_order = 4, .nr_shards = 16 },
	};
	uint64_t nr_ops = test_env("STORE_MODEL_OPS", 60000 / TEST_SLOWDOWN);
	uint64_t first = test_env("BERTH_MODEL_SEED", 1);
	uint64_t nr_seeds = getenv("BERTH_MODEL_SEED") ? 1 : 10;

	(void)state;
	for (uint64_t seed = first; seed < first + nr_seeds; seed++) {
		print_message("# seed %llu\n", (unsigned long long)seed);
		for (unsigned i = 0; i < ARRAY_SIZE(worlds); i++)
			run(seed, &worlds[i], nr_ops);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_model) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
