/* SPDX-License-Identifier: MIT */
/*
 * What changes a zone while it is in use, under thousands of schedules: how areas lend, compaction,
 * memory that is freed late, splits and exact sizes; and claims that are in several hands: one
 * preparation that several drive, one claim that two release.
 *
 * Beside what testsim.h watches: no frame of an area is lent by a call that began after the area was
 * closed, none of a reserved range before somebody began to free it, a reserved range is freed once, a
 * preparation is taken once, and a claim is released once.
 */
#include "changeworld.h"

static void run(const struct change_params *params, uint64_t asked)
{
	const struct seeds seeds = choose_seeds(asked);
	struct change *c = change_open(params);
	uint64_t claims = 0;

	for (uint64_t seed = seeds.first; seed < seeds.first + seeds.nr; seed++) {
		change_begin(c, seed);
		if (!change_run(c, seed))
			fail_msg("seed %llu", (unsigned long long)seed);
		claims += c->w.nr_claimed;
	}
	print_message("# %llu schedules, %llu claims, %llu pages lent, %llu pageblocks emptied, "
		      "%llu blocks split, %llu preparations taken\n",
		      (unsigned long long)seeds.nr, (unsigned long long)claims,
		      (unsigned long long)c->nr_lent, (unsigned long long)c->nr_compacted,
		      (unsigned long long)c->nr_split, (unsigned long long)c->nr_taken);
	if (seeds.nr >= 100) {
		assert_true(c->nr_lent > 0);
		assert_true(!params->nr_compactions || c->nr_compacted > 0);
		assert_true(!params->splits || c->nr_split > 0);
		assert_true(!params->nr_hands || c->nr_taken > 0);
	}
	change_close(c);
}

static void test_lending_against_borrowers(void **state)
{
	(void)state;
	run(&(struct change_params){ .world = { .nr_workers = 3, .nr_ops = 40, .movable = true },
				     .nr_lends = 8 },
	    1500);
}

/* Claims and drains beside it, and memory so short that borrowing is the rule. */
static void test_lending_against_claims(void **state)
{
	(void)state;
	run(&(struct change_params){ .world = { .nr_workers = 2,
						.nr_ops = 30,
						.max_order = 1,
						.movable = true,
						.pins = true,
						.nr_drains = 2,
						.nr_claims = 3,
						.nr_claimers = 2,
						.many_ways = true,
						.ballast = ZONE_PAGES - 2 * AREA_PAGES - 12 },
				     .nr_lends = 6 },
	    1500);
}

static void test_compaction_against_everybody(void **state)
{
	(void)state;
	run(&(struct change_params){ .world = { .nr_workers = 3,
						.nr_ops = 40,
						.max_order = 2,
						.movable = true,
						.pins = true,
						.nr_claims = 3,
						.nr_ranges = 2,
						.ballast = 70 },
				     .nr_compactions = 5,
				     .splits = true },
	    1200);
}

static void test_splits_and_exact_sizes(void **state)
{
	(void)state;
	run(&(struct change_params){ .world = { .nr_workers = 3,
						.nr_ops = 40,
						.max_order = 2,
						.movable = true,
						.pins = true,
						.nr_ranges = 6 },
				     .splits = true },
	    1200);
}

/* A boot logo and its neighbours, freed while the zone is short of memory. */
static void test_late_frees(void **state)
{
	(void)state;
	run(&(struct change_params){ .world = { .nr_workers = 3,
						.nr_ops = 40,
						.max_order = 2,
						.movable = true,
						.nr_ranges = 2,
						.ballast = 60,
						.reserved = MAX_LATE * LATE_PAGES },
				     .nr_frees = 1 },
	    1200);
}

static void test_preparations_in_several_hands(void **state)
{
	(void)state;
	run(&(struct change_params){ .world = { .nr_workers = 2, .nr_ops = 25, .movable = true },
				     .nr_hands = 3,
				     .nr_prepared = 3,
				     .nr_turns = 14 },
	    1500);
}

static void test_claims_released_by_two(void **state)
{
	(void)state;
	run(&(struct change_params){ .world = { .nr_workers = 2, .nr_ops = 20, .movable = true },
				     .nr_rounds = MAX_ROUNDS },
	    1500);
}

/* All of it at once. */
static void test_all_changes_at_once(void **state)
{
	(void)state;
	run(&(struct change_params){ .world = { .nr_workers = 2,
						.nr_ops = 25,
						.max_order = 2,
						.movable = true,
						.pins = true,
						.nr_claims = 2,
						.many_ways = true,
						.reserved = MAX_LATE * LATE_PAGES,
						.deadline_ns = 300000 },
				     .nr_lends = 4,
				     .nr_compactions = 2,
				     .nr_frees = 1,
				     .nr_hands = 2,
				     .nr_prepared = 2,
				     .nr_turns = 8,
				     .splits = true },
	    1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lending_against_borrowers),
		cmocka_unit_test(test_lending_against_claims),
		cmocka_unit_test(test_compaction_against_everybody),
		cmocka_unit_test(test_splits_and_exact_sizes),
		cmocka_unit_test(test_late_frees),
		cmocka_unit_test(test_preparations_in_several_hands),
		cmocka_unit_test(test_claims_released_by_two),
		cmocka_unit_test(test_all_changes_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
