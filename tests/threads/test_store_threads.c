/* SPDX-License-Identifier: MIT */
/*
 * Readers, writers and claimers at one store, in real threads: no stale, torn or foreign byte. The same as
 * `berth bench store --verify`, shorter.
 */
#include <pthread.h>
#include <sched.h>

#include "port/linux/port_linux.h"
#include "tests/include/teststore.h"
#include "tests/include/testthreads.h"
#include "tools/store_world.h"

static void verify(uint64_t nr_pages, unsigned nr_claimers, uint64_t nr_gets)
{
	struct berth__store_verify run = {
		.nr_pages = nr_pages,
		.nr_gets = nr_gets / TEST_SLOWDOWN,
		.nr_readers = 2,
		.nr_writers = 2,
		.nr_claimers = nr_claimers,
		.seed = 1,
	};

	if (!berth__store_verify(&run))
		fail_msg("%s", run.problem);
	print_message("# %llu gets, %llu hits, %llu retries, %llu puts, %llu refused, %llu drops, "
		      "%llu claims, %llu evicted, %llu lost\n",
		      (unsigned long long)run.gets, (unsigned long long)run.hits,
		      (unsigned long long)run.stats.retries, (unsigned long long)run.puts,
		      (unsigned long long)run.refused, (unsigned long long)run.drops,
		      (unsigned long long)run.claims, (unsigned long long)run.stats.evicted,
		      (unsigned long long)run.stats.lost_to_claims);
	assert_true(run.hits * 20 > run.gets);
	assert_true(run.puts > 0 && run.drops > 0);
	assert_true(!nr_claimers || run.claims > 0);
	/* Counters add up. */
	assert_int_equal(run.stats.hits, run.hits);
	assert_int_equal(run.stats.hits + run.stats.misses, run.gets);
	assert_int_equal(run.stats.puts, run.puts);
	assert_int_equal(run.stats.refused, run.refused);
}

static void test_without_claims(void **state)
{
	(void)state;
	verify(256, 0, 1000000);
}

static void test_with_claims(void **state)
{
	(void)state;
	verify(512, 1, 1000000);
}

static void test_with_two_claimers(void **state)
{
	(void)state;
	verify(4096, 2, 1000000);
}

/* ---- Most of it claimed most of the time ----------------------------------------------------------- */

#define PUTTERS 3u
#define KEYS 40u

struct short_of_frames {
	struct test_store *ts;
	unsigned id;
	uint64_t nr_ops, random, hits, refused, claims;
	_Atomic bool *ended;
	pthread_t thread;
};

/* Its own keys: what is there is what was put last. */
static void *put_and_get(void *arg)
{
	struct short_of_frames *k = arg;
	uint64_t last[KEYS] = { 0 }, page[STORE_WORDS];

	test_set_cpu(k->id);
	for (uint64_t i = 1; i <= k->nr_ops; i++) {
		uint64_t item = test_random_below(&k->random, KEYS);
		struct berth_store_key key = test_key(k->id, item);
		int error;

		if (test_random_below(&k->random, 2)) {
			test_page_make(page, &key, i);
			error = berth_store_put(k->ts->store, &key, page);
			require(!error || error == -BERTH_ENOSPC, "put", (uint64_t)-error);
			k->refused += error != 0;
			last[item] = error ? 0 : i;
		} else if (test_random_below(&k->random, 8) == 0) {
			(void)berth_store_drop(k->ts->store, &key);
			last[item] = 0;
		} else if (berth_store_get(k->ts->store, &key, page) == 0) {
			for (size_t w = 0; w < STORE_WORDS; w++)
				require(last[item] &&
						page[w] == test_page_word(&key, last[item], w),
					"a stale or torn page", page[w]);
			k->hits++;
		}
	}
	return NULL;
}

/* Leaves one to four of the sixteen granules, others each time. */
static void *claim_most(void *arg)
{
	struct short_of_frames *k = arg;
	struct berth_gcma *area = k->ts->areas[0];

	test_set_cpu(k->id);
	while (!atomic_load(k->ended)) {
		struct berth_claim_params first = { .nr_pages = 16 *
								test_random_below(&k->random, 8) };
		struct berth_claim_params most = { .nr_pages = 192 - first.nr_pages };
		berth_pfn_t pfns[2];
		bool have_first = first.nr_pages &&
				  berth_gcma_alloc(area, &first, &pfns[0], NULL) == 0;
		bool have_most = berth_gcma_alloc(area, &most, &pfns[1], NULL) == 0;

		sched_yield();
		require(!have_first || !berth_gcma_release(area, pfns[0], first.nr_pages),
			"a release", pfns[0]);
		if (test_random_below(&k->random, 2))
			sched_yield();
		require(!have_most || !berth_gcma_release(area, pfns[1], most.nr_pages),
			"a release", pfns[1]);
		k->claims += have_first + have_most;
	}
	return NULL;
}

static void test_shards_without_frames(void **state)
{
	struct test_store *ts = test_store_open(
		&(struct test_store_params){ .nr_pages = 256,
					     .granule_order = 4,
					     .nr_shards = 16,
					     .nr_cpus = PUTTERS + 1,
					     .ops = berth_port_linux_ops() });
	struct short_of_frames tasks[PUTTERS + 1];
	_Atomic bool ended = false;
	uint64_t hits = 0, refused = 0;

	(void)state;
	for (unsigned i = 0; i <= PUTTERS; i++) {
		tasks[i] = (struct short_of_frames){ .ts = ts,
						     .id = i,
						     .nr_ops = 200000 / TEST_SLOWDOWN,
						     .random = i + 1,
						     .ended = &ended };
		assert_int_equal(pthread_create(&tasks[i].thread, NULL,
						i < PUTTERS ? put_and_get : claim_most, &tasks[i]),
				 0);
	}
	for (unsigned i = 0; i < PUTTERS; i++) {
		assert_int_equal(pthread_join(tasks[i].thread, NULL), 0);
		hits += tasks[i].hits;
		refused += tasks[i].refused;
	}
	atomic_store(&ended, true);
	assert_int_equal(pthread_join(tasks[PUTTERS].thread, NULL), 0);
	print_message("# %llu hits, %llu refused, %llu claims\n", (unsigned long long)hits,
		      (unsigned long long)refused, (unsigned long long)tasks[PUTTERS].claims);
	assert_true(hits > 1000 / TEST_SLOWDOWN && tasks[PUTTERS].claims > 10);
	test_set_cpu(0);
	test_store_close(ts);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_without_claims),
		cmocka_unit_test(test_with_claims),
		cmocka_unit_test(test_with_two_claimers),
		cmocka_unit_test(test_shards_without_frames),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
