/* SPDX-License-Identifier: MIT */
/*
 * LRU lists and reclaim under thousands of schedules: batches against drains, frees, moves and claims;
 * reclaimers against owners that free, split, pin, write and use their pages meanwhile.
 *
 * What is watched: a frame is never given out twice or lost, a page that is dropped was clean and nobody's
 * pin, batches stay empty while they're disabled, and in the end every list, state and counter is right
 * (berth_zone_check()).
 */
#include "lruworld.h"

static void run(const struct lru_params *params, uint64_t asked)
{
	const struct seeds seeds = choose_seeds(asked);
	uint64_t dropped = 0, written = 0, moved = 0, claims = 0;
	struct cache *c = cache_open(params);

	for (uint64_t seed = seeds.first; seed < seeds.first + seeds.nr; seed++) {
		cache_begin(c, seed);
		if (!cache_run(c, seed))
			fail_msg("seed %llu", (unsigned long long)seed);
		dropped += c->nr_dropped;
		written += c->nr_written;
		moved += c->w.nr_moved;
		claims += c->w.nr_claimed;
	}
	print_message("# %llu schedules, %llu pages dropped, %llu blocks written, %llu moved, "
		      "%llu claims\n",
		      (unsigned long long)seeds.nr, (unsigned long long)dropped,
		      (unsigned long long)written, (unsigned long long)moved,
		      (unsigned long long)claims);
	if (seeds.nr >= 100) {
		assert_true(dropped > 0 || !(params->nr_reclaims + params->nr_claims));
		assert_true(written > 0);
		assert_true(claims > 0 || !params->nr_claims);
	}
	cache_close(c);
}

/* Additions and moves between the lists, by CPUs whose batches are drained and disabled meanwhile. */
static void test_batches_against_drains(void **state)
{
	(void)state;
	run(&(struct lru_params){ .nr_workers = 3, .nr_ops = 60, .nr_drains = 6, .nr_writes = 10 },
	    1500);
}

static void test_reclaim_against_owners(void **state)
{
	(void)state;
	run(&(struct lru_params){ .nr_workers = 3, .nr_ops = 60, .nr_reclaims = 5, .nr_writes = 20 },
	    1500);
}

/* Blocks that are split by frees of their parts, and by claims, in a reclaimer's hands and elsewhere. */
static void test_reclaim_of_large_blocks(void **state)
{
	(void)state;
	run(&(struct lru_params){ .nr_workers = 3,
				  .nr_ops = 50,
				  .max_order = 2,
				  .nr_reclaims = 5,
				  .nr_drains = 2,
				  .nr_writes = 20 },
	    1500);
}

static void test_claims_that_drop(void **state)
{
	(void)state;
	run(&(struct lru_params){ .nr_workers = 3,
				  .nr_ops = 50,
				  .max_order = 2,
				  .nr_claims = 6,
				  .nr_writes = 20 },
	    1500);
}

static void test_everything_when_memory_is_short(void **state)
{
	(void)state;
	run(&(struct lru_params){ .nr_workers = 3,
				  .nr_ops = 50,
				  .max_order = 2,
				  .nr_reclaims = 4,
				  .nr_drains = 3,
				  .nr_claims = 4,
				  .nr_writes = 20,
				  .ballast = ZONE_PAGES - AREA_PAGES - 16 },
	    1500);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_batches_against_drains),
		cmocka_unit_test(test_reclaim_against_owners),
		cmocka_unit_test(test_reclaim_of_large_blocks),
		cmocka_unit_test(test_claims_that_drop),
		cmocka_unit_test(test_everything_when_memory_is_short),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
