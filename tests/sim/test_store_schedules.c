/* SPDX-License-Identifier: MIT */
/*
 * The discardable store under thousands of schedules with weak memory: putters, readers, drops of pages and of groups,
 * claims of its areas by a device that writes.
 *
 * What is watched: a page that is read is whole, is of its key, and isn't older than the last put or
 * drop that had returned when the read began; what a device writes into a claim stays there; and in the end
 * all invariants of store and area hold.
 */
#include "storeworld.h"

static void run_store(const struct store_params *params, uint64_t asked)
{
	struct store_world *w = store_open(params);
	const struct seeds seeds = choose_seeds(asked);

	for (uint64_t seed = seeds.first; seed < seeds.first + seeds.nr; seed++) {
		struct berth_violation v = { 0 };
		const char *what;

		store_begin(w, seed);
		what = store_finish(w, &v);
		if (!what)
			continue;
		print_error("seed %llu: %s: value %#llx, expected %#llx (BERTH_SIM_SEED=%llu "
			    "repeats it)\n",
			    (unsigned long long)seed, what, (unsigned long long)v.value,
			    (unsigned long long)v.expected, (unsigned long long)seed);
		if (getenv("BERTH_SIM_SEED"))
			berth_sim_print_trace(w->sim, 200);
		fail_msg("seed %llu", (unsigned long long)seed);
	}
	print_message("# %llu schedules: %llu hits, %llu misses, %llu puts, %llu claims\n",
		      (unsigned long long)seeds.nr, (unsigned long long)w->hits,
		      (unsigned long long)w->misses, (unsigned long long)w->puts,
		      (unsigned long long)w->claims);
	/* The runs say something. */
	if (seeds.nr >= 100) {
		assert_true(w->hits > seeds.nr / 2 && w->puts > seeds.nr);
		assert_true(!params->nr_claimers || w->claims > seeds.nr / 2);
	}
	store_close(w);
}

/* ---- Scenarios --------------------------------------------------------------------------------- */

static void test_overwriting(void **state)
{
	(void)state;
	run_store(&(struct store_params){ .nr_putters = 1,
					  .nr_readers = 2,
					  .nr_ops = 12,
					  .nr_shards = 1,
					  .granule_order = 1,
					  .nr_keys = 2 },
		  6000);
}

static void test_putters(void **state)
{
	(void)state;
	run_store(&(struct store_params){ .nr_putters = 2,
					  .nr_readers = 1,
					  .nr_ops = 10,
					  .nr_shards = 1,
					  .granule_order = 1,
					  .nr_keys = 4 },
		  4000);
}

/* Frames go from key to key. */
static void test_evictions(void **state)
{
	(void)state;
	run_store(&(struct store_params){ .nr_putters = 2,
					  .nr_readers = 2,
					  .nr_ops = 12,
					  .nr_shards = 1,
					  .granule_order = 0,
					  .nr_keys = 8,
					  .nr_pages = 3 },
		  6000);
}

static void test_claims(void **state)
{
	(void)state;
	run_store(&(struct store_params){ .nr_putters = 1,
					  .nr_readers = 1,
					  .nr_claimers = 1,
					  .nr_ops = 10,
					  .nr_shards = 1,
					  .granule_order = 1,
					  .nr_keys = 4 },
		  6000);
}

/* Claims of everything: what is there is taken and comes back empty. */
static void test_claims_of_all(void **state)
{
	(void)state;
	run_store(&(struct store_params){ .nr_putters = 2,
					  .nr_readers = 2,
					  .nr_claimers = 1,
					  .nr_ops = 10,
					  .nr_shards = 2,
					  .granule_order = 2,
					  .nr_keys = 8 },
		  6000);
}

static void test_small_claims(void **state)
{
	(void)state;
	run_store(&(struct store_params){ .nr_putters = 2,
					  .nr_readers = 1,
					  .nr_claimers = 2,
					  .nr_ops = 10,
					  .nr_shards = 4,
					  .granule_order = 0,
					  .nr_keys = 8,
					  .claim_pages = 6 },
		  6000);
}

/* Most is claimed most of the time: few shards have frames, and serve the keys of the others. */
static void test_shards_without_frames(void **state)
{
	(void)state;
	run_store(&(struct store_params){ .nr_putters = 2,
					  .nr_readers = 1,
					  .nr_claimers = 2,
					  .nr_ops = 10,
					  .nr_shards = 4,
					  .granule_order = 1,
					  .nr_keys = 8,
					  .nr_pages = 8,
					  .claim_pages = 6 },
		  6000);
}

static void test_group_drops(void **state)
{
	(void)state;
	run_store(&(struct store_params){ .nr_putters = 2,
					  .nr_readers = 1,
					  .nr_claimers = 1,
					  .nr_droppers = 1,
					  .nr_ops = 10,
					  .nr_shards = 2,
					  .granule_order = 1,
					  .nr_keys = 4,
					  .claim_pages = 8 },
		  6000);
}

/* What is put is read while the put goes on, and changes; whoever changes it drops the group. */
static void test_live_source(void **state)
{
	(void)state;
	run_store(&(struct store_params){ .nr_putters = 2,
					  .nr_readers = 1,
					  .nr_droppers = 1,
					  .nr_ops = 10,
					  .nr_shards = 1,
					  .granule_order = 1,
					  .nr_keys = 1,
					  .live = true },
		  6000);
}

/* Fillers are preempted inside their copies, and claims don't wait for them. */
static void test_copies_that_restart(void **state)
{
	(void)state;
	run_store(&(struct store_params){ .nr_putters = 2,
					  .nr_readers = 1,
					  .nr_claimers = 2,
					  .nr_ops = 10,
					  .nr_shards = 2,
					  .granule_order = 1,
					  .nr_keys = 4,
					  .nr_pages = 8,
					  .restarts = true },
		  5000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_overwriting),
		cmocka_unit_test(test_putters),
		cmocka_unit_test(test_evictions),
		cmocka_unit_test(test_claims),
		cmocka_unit_test(test_claims_of_all),
		cmocka_unit_test(test_small_claims),
		cmocka_unit_test(test_shards_without_frames),
		cmocka_unit_test(test_group_drops),
		cmocka_unit_test(test_live_source),
		cmocka_unit_test(test_copies_that_restart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
