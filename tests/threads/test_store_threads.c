/* SPDX-License-Identifier: MIT */
/*
 * Readers, writers and claimers at one store, in real threads: no stale, torn or foreign byte. The same as
 * `berth bench store --verify`, shorter.
 */
#include "tests/include/testing.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_without_claims),
		cmocka_unit_test(test_with_claims),
		cmocka_unit_test(test_with_two_claimers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
