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
#include "testsim.h"

#define LATE_PAGES 4u /* of a reserved range that is freed in one call */
#define MAX_LATE 16u
#define MAX_PREPARED 4u
#define MAX_ROUNDS 4u

struct change_params {
	struct world_params world;
	unsigned nr_lends;              /* a lender's changes */
	unsigned nr_compactions;        /* a compacter's runs */
	unsigned nr_frees;              /* late frees by each of two */
	unsigned nr_hands;              /* tasks that drive the preparations, */
	unsigned nr_prepared, nr_turns; /* so many, in so many turns each */
	unsigned nr_rounds;             /* claims that two release */
	bool splits;                    /* workers split blocks, ask for exact sizes, and compact */
};

/* The world's lock guards it. */
struct change {
	struct world w;
	struct change_params params;
	bool closed[2];    /* the area lends nothing, */
	uint64_t epoch[2]; /* since its last change */
	bool begun[MAX_LATE];
	unsigned freed[MAX_LATE];
	struct worker tasks[7], hands[4];
	char *memory; /* of preparations */
	struct berth_cma_prepared *prepared[MAX_PREPARED];
	uint64_t prepared_pages[MAX_PREPARED];
	unsigned taken[MAX_PREPARED];
	/* A claim that is to be released. */
	berth_pfn_t pfn;
	uint64_t nr_pages;
	unsigned attempts[MAX_ROUNDS], released[MAX_ROUNDS], round;
	uint64_t nr_lent, nr_compacted, nr_split, nr_taken;
};

static struct change *change_of(struct worker *k)
{
	return (struct change *)(void *)k->w;
}

/* ---- Lending -------------------------------------------------------------------------------------- */

static void lender_main(void *arg)
{
	struct worker *k = arg;
	struct change *c = change_of(k);
	struct world *w = k->w;

	for (unsigned i = 0; i < k->nr_ops; i++) {
		unsigned area = (unsigned)below(&k->random, 2);
		bool close = below(&k->random, 2);
		enum berth_lend_policy lend = close ? BERTH_LEND_OFF :
						      (enum berth_lend_policy)below(&k->random, 3);

		berth_mutex_lock(&w->lock);
		c->closed[area] = false;
		c->epoch[area]++;
		berth_mutex_unlock(&w->lock);
		require_ret(w, "a change of lending",
			    berth_cma_set_lend(w->areas[area], lend,
					       below(&k->random, 2) ? 0 : below(&k->random, 40)),
			    0);
		berth_mutex_lock(&w->lock);
		c->closed[area] = close;
		berth_mutex_unlock(&w->lock);
		berth_sim_yield(w->sim);
	}
}

/* The area that a frame lies in, or 2. */
static unsigned area_at(berth_pfn_t pfn)
{
	pfn -= ZONE_START;
	return pfn < AREA_PAGES ? 0 : pfn >= 128 && pfn < 128 + AREA_PAGES ? 1 : 2;
}

static unsigned late_at(const struct change *c, berth_pfn_t pfn)
{
	berth_pfn_t first = ZONE_START + ZONE_PAGES - c->params.world.reserved;

	return pfn < first ? MAX_LATE : (unsigned)((pfn - first) / LATE_PAGES);
}

/* What was just allocated might have been: `closed` since before the call, at these epochs. */
static void check_source(struct worker *k, unsigned slot, const bool *closed, const uint64_t *epoch)
{
	struct change *c = change_of(k);
	struct run *run = &k->runs[slot];

	berth_mutex_lock(&k->w->lock);
	for (uint32_t i = 0; i < run->nr_pages; i++) {
		berth_pfn_t pfn = where(k, slot, i);
		unsigned area = area_at(pfn), late = late_at(c, pfn);

		if (area < 2) {
			c->nr_lent++;
			require(k->w, !closed[area] || c->epoch[area] != epoch[area],
				"a frame of a closed area is lent", pfn, area);
		}
		require(k->w, late == MAX_LATE || c->begun[late], "a reserved frame is given out",
			pfn, late);
	}
	berth_mutex_unlock(&k->w->lock);
}

/* ---- Workers: allocations of other kinds, and splits ------------------------------------------------ */

/* nr_pages by an exact size, or by a block that is compacted for. */
static void alloc_otherwise(struct worker *k, unsigned slot)
{
	struct world *w = k->w;
	struct run *run = &k->runs[slot];
	uint64_t page = first_page(k, slot), nr = 1 + below(&k->random, SLOT_PAGES);
	berth_pfn_t pfn = BERTH_PFN_NONE;
	bool movable = below(&k->random, 4) != 0;
	unsigned gfp = movable ? BERTH_GFP_MOVABLE : BERTH_GFP_UNMOVABLE;
	unsigned owner = movable ? w->owner : BERTH_OWNER_NONE;
	int ret;

	if (movable && below(&k->random, 2)) {
		ret = berth_alloc_pages_exact(w->zone, nr, gfp, owner, page, &pfn);
	} else {
		nr = SLOT_PAGES;
		ret = berth_alloc_pages(w->zone, 2, gfp | BERTH_GFP_COMPACT, owner, page, &pfn);
	}
	if (ret == -BERTH_ENOMEM) {
		w->nr_refused++;
		return;
	}
	require_ret(w, "another allocation", ret, 0);
	take_frames(w, pfn, nr);
	w->nr_allocated++;
	*run = (struct run){ .nr_pages = (uint32_t)nr,
			     .movable = movable,
			     .fixed = pfn,
			     .value = next_random(&k->random) };
	berth_mutex_lock(&w->lock);
	for (uint32_t i = 0; i < nr; i++) {
		if (movable)
			w->table[page + i] = pfn + i;
		*content_of(w, pfn + i) = run->value + i;
	}
	berth_mutex_unlock(&w->lock);
}

static void alloc_checked(struct worker *k, unsigned slot)
{
	struct change *c = change_of(k);
	uint64_t epoch[2];
	bool closed[2];

	berth_mutex_lock(&k->w->lock);
	memcpy(closed, c->closed, sizeof(closed));
	memcpy(epoch, c->epoch, sizeof(epoch));
	berth_mutex_unlock(&k->w->lock);
	if (c->params.splits && below(&k->random, 2))
		alloc_otherwise(k, slot);
	else
		worker_alloc(k, slot);
	check_source(k, slot, closed, epoch);
}

/* Nobody moves it meanwhile, since the lock is held; but claims cut it. */
static void split(struct worker *k, unsigned slot)
{
	struct world *w = k->w;
	struct run *run = &k->runs[slot];
	unsigned order = 99;
	berth_pfn_t head;
	int ret;

	berth_mutex_lock(&w->lock);
	head = berth_compound_head(w->zone, where(k, slot, run->nr_pages - 1), &order);
	require(w, head != BERTH_PFN_NONE && order <= 2, "the block of a page", head, order);
	ret = berth_split_pages(w->zone, head, 0);
	require(w, ret == 0 || ret == -BERTH_EBUSY, "a split", (uint64_t)(int64_t)ret, 0);
	change_of(k)->nr_split += ret == 0 && order;
	berth_mutex_unlock(&w->lock);
}

static void change_worker_main(void *arg)
{
	struct worker *k = arg;

	for (unsigned i = 0; i < k->nr_ops; i++) {
		unsigned slot = (unsigned)below(&k->random, SLOTS);
		struct run *run = &k->runs[slot];

		if (!run->nr_pages)
			alloc_checked(k, slot);
		else if (change_of(k)->params.splits && run->movable && below(&k->random, 3) == 0)
			split(k, slot);
		else if (run->pinned && below(&k->random, 2))
			worker_unpin(k, slot);
		else if (!run->pinned && k->w->params.pins && run->movable &&
			 below(&k->random, 3) == 0)
			worker_pin(k, slot);
		else
			worker_free(k, slot);
	}
}

/* ---- Compaction, late frees ------------------------------------------------------------------------- */

static void compacter_main(void *arg)
{
	struct worker *k = arg;

	for (unsigned i = 0; i < k->nr_ops; i++) {
		struct berth_compact_params params = {
			.order = 2 + (unsigned)below(&k->random, 4),
			.mode = (enum berth_compact_mode)below(&k->random, 3),
			.flags = (unsigned)below(&k->random, 4),
			.gfp = below(&k->random, 2) ? BERTH_GFP_MOVABLE : 0,
		};
		struct berth_compact_result r;
		int ret = berth_compact(k->w->zone, &params, &r);

		require(k->w, ret == 0 || may_fail_with(ret), "a compaction",
			(uint64_t)(int64_t)ret, 0);
		change_of(k)->nr_compacted += r.emptied;
	}
}

/* Two do so, each range in an order of its own; one of them succeeds. */
static void late_free_main(void *arg)
{
	struct worker *k = arg;
	struct change *c = change_of(k);
	struct world *w = k->w;
	unsigned nr = w->params.reserved / LATE_PAGES;
	unsigned at = (unsigned)below(&k->random, nr);

	for (unsigned i = 0; i < nr; i++, at = (at + 5) % nr) {
		int ret;

		berth_mutex_lock(&w->lock);
		c->begun[at] = true;
		berth_mutex_unlock(&w->lock);
		ret = berth_zone_free_reserved(
			w->zone, ZONE_START + ZONE_PAGES - w->params.reserved + at * LATE_PAGES,
			LATE_PAGES);
		require(w, ret == 0 || ret == -BERTH_EINVAL, "a late free", (uint64_t)(int64_t)ret,
			0);
		berth_mutex_lock(&w->lock);
		c->freed[at] += ret == 0;
		require(w, c->freed[at] <= 1, "a range is freed late twice", at, c->freed[at]);
		berth_mutex_unlock(&w->lock);
	}
}

/* ---- Preparations in several hands -------------------------------------------------------------------- */

static void take_shared(struct worker *k, unsigned at)
{
	struct change *c = change_of(k);
	struct world *w = k->w;
	berth_pfn_t pfn = BERTH_PFN_NONE;
	int ret = berth_cma_prepare_take(c->prepared[at], &pfn, NULL);

	require(w, ret == 0 || ret == -BERTH_EINVAL || may_fail_with(ret), "taking",
		(uint64_t)(int64_t)ret, 0);
	if (ret)
		return;
	berth_mutex_lock(&w->lock);
	c->taken[at]++;
	c->nr_taken++;
	require(w, c->taken[at] == 1, "a preparation is taken twice", at, c->taken[at]);
	berth_mutex_unlock(&w->lock);
	claimed(w, pfn, c->prepared_pages[at]);
	require_ret(w, "a release", berth_cma_release(w->areas[at % 2], pfn, c->prepared_pages[at]),
		    0);
}

static void hand_main(void *arg)
{
	struct worker *k = arg;
	struct change *c = change_of(k);
	struct world *w = k->w;

	for (unsigned i = 0; i < k->nr_ops; i++) {
		unsigned at = (unsigned)below(&k->random, c->params.nr_prepared);
		unsigned choice = (unsigned)below(&k->random, 10);
		int ret = 0;

		if (choice < 6)
			ret = berth_cma_prepare_step(c->prepared[at], below(&k->random, 8), NULL);
		else if (choice < 9)
			take_shared(k, at);
		else
			ret = berth_cma_prepare_cancel(c->prepared[at]);
		require(w, ret >= 0 || ret == -BERTH_EINVAL || may_fail_with(ret), "a step",
			(uint64_t)(int64_t)ret, 0);
	}
}

static void prepare_all(struct change *c, uint64_t *random)
{
	struct world *w = &c->w;

	for (unsigned i = 0; i < c->params.nr_prepared; i++) {
		struct berth_claim_params params = { .nr_pages = 1 + below(random, 32) };

		c->prepared_pages[i] = params.nr_pages;
		c->taken[i] = 0;
		assert_int_equal(berth_cma_prepare(w->areas[i % 2], &params,
						   c->memory + i * berth_cma_prepared_bytes(),
						   &c->prepared[i]),
				 0);
	}
}

/* ---- Claims that two release --------------------------------------------------------------------------- */

/* Claims, and waits until both have tried. Nobody else claims from areas. */
static void round_main(void *arg)
{
	struct worker *k = arg;
	struct change *c = change_of(k);
	struct world *w = k->w;

	for (unsigned i = 0; i < k->nr_ops; i++) {
		struct berth_claim_params params = { .nr_pages = 1 + below(&k->random, 32) };
		bool all = false;
		berth_pfn_t pfn;

		require_ret(w, "a claim", berth_cma_alloc(w->areas[0], &params, &pfn, NULL), 0);
		claimed(w, pfn, params.nr_pages);
		berth_mutex_lock(&w->lock);
		c->pfn = pfn;
		c->nr_pages = params.nr_pages;
		c->round = i + 1;
		berth_mutex_unlock(&w->lock);
		while (!all) {
			berth_sim_yield(w->sim);
			berth_mutex_lock(&w->lock);
			all = c->attempts[i] == 2;
			berth_mutex_unlock(&w->lock);
		}
		require(w, c->released[i] == 1, "a claim is released by one of two", c->released[i],
			1);
	}
}

static void releaser_main(void *arg)
{
	struct worker *k = arg;
	struct change *c = change_of(k);
	struct world *w = k->w;

	for (unsigned i = 0; i < k->nr_ops; i++) {
		uint64_t nr = 0;
		berth_pfn_t pfn;
		int ret;

		while (!nr) {
			berth_sim_yield(w->sim);
			berth_mutex_lock(&w->lock);
			nr = c->round == i + 1 ? c->nr_pages : 0;
			pfn = c->pfn;
			berth_mutex_unlock(&w->lock);
		}
		ret = below(&k->random, 2) ? berth_cma_release(w->areas[0], pfn, nr) :
					     berth_cma_release_bulk(w->areas[0], &pfn, 1, nr);
		require(w, ret == 0 || ret == -BERTH_EINVAL, "one of two releases",
			(uint64_t)(int64_t)ret, 0);
		berth_mutex_lock(&w->lock);
		c->attempts[i]++;
		c->released[i] += ret == 0;
		berth_mutex_unlock(&w->lock);
	}
}

/* ---- Building, running ------------------------------------------------------------------------------------ */

static void change_begin(struct change *c, uint64_t seed)
{
	const struct change_params *p = &c->params;
	struct world *w = &c->w;
	uint64_t random = seed ^ 0xc4a26eull;

	memset(c->closed, 0, sizeof(c->closed));
	memset(c->begun, 0, sizeof(c->begun));
	memset(c->freed, 0, sizeof(c->freed));
	memset(c->attempts, 0, sizeof(c->attempts));
	memset(c->released, 0, sizeof(c->released));
	c->round = 0;
	world_begin(w, seed);
	prepare_all(c, &random);
	(void)add_task(w, &c->tasks[0], 0, p->nr_lends, &random, lender_main);
	(void)add_task(w, &c->tasks[1], 1, p->nr_compactions, &random, compacter_main);
	(void)add_task(w, &c->tasks[2], 2, p->nr_frees, &random, late_free_main);
	(void)add_task(w, &c->tasks[3], 3, p->nr_frees, &random, late_free_main);
	(void)add_task(w, &c->tasks[4], 4, p->nr_rounds, &random, round_main);
	(void)add_task(w, &c->tasks[5], 5, p->nr_rounds, &random, releaser_main);
	(void)add_task(w, &c->tasks[6], 6, p->nr_rounds, &random, releaser_main);
	for (unsigned i = 0; i < p->nr_hands; i++)
		(void)add_task(w, &c->hands[i], i, p->nr_turns, &random, hand_main);
}

static bool change_run(struct change *c, uint64_t seed)
{
	struct world *w = &c->w;
	const struct berth_sim_result *result = berth_sim_run(w->sim);
	unsigned nr_late = c->params.nr_frees ? w->params.reserved / LATE_PAGES : 0;

	for (unsigned i = 0; i < c->params.nr_prepared && result->outcome == BERTH_SIM_DONE; i++) {
		int ret = berth_cma_prepare_cancel(c->prepared[i]);

		if (ret != (c->taken[i] ? -BERTH_EINVAL : 0)) {
			print_failure(w, "the end of a preparation", seed, (uint64_t)(int64_t)ret,
				      c->taken[i]);
			return false;
		}
	}
	for (unsigned i = 0; i < nr_late && result->outcome == BERTH_SIM_DONE; i++)
		if (c->freed[i] != 1) {
			print_failure(w, "late frees of a range", seed, c->freed[i], 1);
			return false;
		}
	return world_finish(w, result, seed, false);
}

static void run(const struct change_params *params, uint64_t asked)
{
	const struct berth_sim_params sim = { .weak_memory = true, .leap_ns = 2000000 };
	const char *only = getenv("BERTH_SIM_SEED");
	uint64_t first = only ? strtoull(only, NULL, 0) : 1, nr = only ? 1 : nr_seeds(asked);
	struct change *c = calloc(1, sizeof(*c));
	struct world *opened = world_open(&params->world, &sim);
	uint64_t claims = 0;

	assert_non_null(c);
	c->w = *opened;
	c->params = *params;
	c->w.params.worker = change_worker_main;
	c->memory = aligned_alloc(16, MAX_PREPARED * berth_cma_prepared_bytes());
	assert_non_null(c->memory);
	for (uint64_t seed = first; seed < first + nr; seed++) {
		change_begin(c, seed);
		if (!change_run(c, seed))
			fail_msg("seed %llu", (unsigned long long)seed);
		claims += c->w.nr_claimed;
	}
	print_message("# %llu schedules, %llu claims, %llu pages lent, %llu pageblocks emptied, "
		      "%llu blocks split, %llu preparations taken\n",
		      (unsigned long long)nr, (unsigned long long)claims,
		      (unsigned long long)c->nr_lent, (unsigned long long)c->nr_compacted,
		      (unsigned long long)c->nr_split, (unsigned long long)c->nr_taken);
	if (!only && nr >= 100) {
		assert_true(c->nr_lent > 0);
		assert_true(!params->nr_compactions || c->nr_compacted > 0);
		assert_true(!params->splits || c->nr_split > 0);
		assert_true(!params->nr_hands || c->nr_taken > 0);
	}
	*opened = c->w;
	world_close(opened);
	free(c->memory);
	free(c);
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
