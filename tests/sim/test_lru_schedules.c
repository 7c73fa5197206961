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
		assert_true(written > 0 || !params->nr_writes);
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

/* ---- One block whose owner splits it with one hand and uses it with the other ----------------------------- */

static void splitter_main(void *arg)
{
	struct worker *k = arg;

	require_ret(k->w, "a split", berth_split_pages(k->w->zone, k->w->table[0], 0), 0);
}

/* A part that is a block of its own by now has flags of its own. */
static void user_main(void *arg)
{
	struct worker *k = arg;

	for (unsigned i = 0; i < k->nr_ops; i++) {
		berth_pfn_t pfn = k->w->table[below(&k->random, SLOT_PAGES)];

		if (below(&k->random, 4))
			berth_lru_mark_accessed(k->w->zone, pfn);
		else
			require_ret(k->w, "flags of a page",
				    below(&k->random, 2) ?
					    berth_lru_set_dirty(k->w->zone, pfn, 1) :
					    berth_lru_clear_dirty(k->w->zone, pfn, 1),
				    0);
	}
}

static void split_what_is_used(struct cache *c)
{
	struct world *w = &c->w;
	berth_pfn_t pfn;

	assert_int_equal(berth_alloc_pages(w->zone, 2, BERTH_GFP_MOVABLE | BERTH_GFP_LRU, w->owner,
					   0, &pfn),
			 0);
	take_frames(w, pfn, SLOT_PAGES);
	for (uint64_t i = 0; i < SLOT_PAGES; i++)
		w->table[i] = pfn + i;
	assert_int_equal(berth_lru_add(w->zone, pfn, SLOT_PAGES), 0);
	(void)add_task(w, &w->workers[0], 0, 1, &c->random, splitter_main);
	(void)add_task(w, &w->workers[1], 1, 6, &c->random, user_main);
}

static void test_flags_against_a_split(void **state)
{
	(void)state;
	run(&(struct lru_params){ .more = split_what_is_used }, 6000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_batches_against_drains),
		cmocka_unit_test(test_reclaim_against_owners),
		cmocka_unit_test(test_reclaim_of_large_blocks),
		cmocka_unit_test(test_claims_that_drop),
		cmocka_unit_test(test_everything_when_memory_is_short),
		cmocka_unit_test(test_flags_against_a_split),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
