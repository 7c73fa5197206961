/* SPDX-License-Identifier: MIT */
/*
 * GCMA areas under thousands of schedules: claimers against fillers, readers, releasers and each other.
 *
 * Each granule has a frame for each filler, which is one atomic word, and beside it what was stored there: the
 * generation and the value. So a store in small: who fills takes the note away, writes, and notes anew.
 *
 * What is watched: a reader never believes a word that isn't what was stored; nobody fills what is claimed;
 * whoever gets frames, by a claim or by their opening, sees what was written to them last; a claim's words stay
 * as they are; runs are never given out twice; of two releases one is refused; where there is room for all, no claim is
 * refused; in the end berth_gcma_check().
 */
#include <berth/gcma.h>

#include "sweep.h"

#define GRANULES 6u
#define GRANULE_ORDER 1u
#define AREA_START 0x40u
#define FILLERS 3u

struct gcma_scenario {
	unsigned nr_fills, nr_reads, nr_claims, nr_releases; /* steps of each task */
	unsigned nr_claimers;
	uint64_t deadline_ns; /* of a claim, from its start; 0: none */
	unsigned dawdles;     /* so long fillers stay inside */
	bool wandering;       /* tasks change CPUs */
	uint64_t only_pages; /* so many frames each claim has, and there is always room for it; 0: any */
};

struct gcma_world {
	struct world w; /* no zone in it */
	struct gcma_scenario scenario;
	struct berth_gcma *area;
	void *metadata;
	_Atomic uint64_t words[GRANULES][FILLERS];
	_Atomic uint64_t notes[GRANULES][FILLERS]; /* generation << 32 | value; 0: nothing */
	uint64_t newest[GRANULES][FILLERS];        /* what a word was set to last */
	bool claimed[GRANULES];
	uint64_t nr_opened[GRANULES];
	uint64_t nr_stored, nr_read, nr_late, value;
	berth_mutex_t offer; /* guards: */
	berth_pfn_t offered; /* a claim that two try to release; 0: none */
	bool taken;          /* the second one tries */
	unsigned nr_released;
};
#define OFFERED_PAGES 3u /* nobody else claims so many */

static struct gcma_world *world_of(const struct worker *k)
{
	return (struct gcma_world *)(void *)k->w;
}

/* ---- Borrowers ----------------------------------------------------------------------------------- */

static void note(struct gcma_world *g, unsigned granule, unsigned frame, uint64_t generation,
		 uint64_t value)
{
	atomic_store_explicit(&g->notes[granule][frame], generation << 32 | value,
			      memory_order_release);
}

static void fill_one(struct worker *k)
{
	struct gcma_world *g = world_of(k);
	unsigned granule = (unsigned)below(&k->random, GRANULES), frame = k->id;
	bool note_inside = below(&k->random, 2);
	uint64_t generation, value, was;

	/* Known by hearsay now and then, without any order. */
	generation = below(&k->random, 3) ? berth_gcma_generation(g->area, granule) :
					    2 * g->nr_opened[granule];
	if (!berth_gcma_fill_begin(g->area, granule, generation))
		return;
	require(k->w, !g->claimed[granule], "a claimed granule is being filled", granule, 0);
	atomic_store_explicit(&g->notes[granule][frame], 0, memory_order_relaxed);
	atomic_thread_fence(memory_order_release); /* who reads the new word sees that */
	was = atomic_load_explicit(&g->words[granule][frame], memory_order_relaxed);
	require(k->w, was == g->newest[granule][frame], "a filler got frames with older contents",
		was, g->newest[granule][frame]);
	value = ++g->value;
	g->newest[granule][frame] = value;
	atomic_store_explicit(&g->words[granule][frame], value, memory_order_relaxed);
	g->nr_stored++;
	for (unsigned i = 0; i < g->scenario.dawdles && below(&k->random, 64); i++)
		berth_sim_yield(k->w->sim);
	if (note_inside)
		note(g, granule, frame, generation, value);
	require(k->w, !g->claimed[granule], "a granule was claimed while it was filled", granule,
		0);
	berth_gcma_fill_end(g->area);
	if (!note_inside)
		note(g, granule, frame, generation, value);
}

static void filler_main(void *arg)
{
	struct worker *k = arg;

	for (unsigned i = 0; i < k->nr_ops; i++)
		fill_one(k);
}

static void reader_main(void *arg)
{
	struct worker *k = arg;
	struct gcma_world *g = world_of(k);

	for (unsigned i = 0; i < k->nr_ops; i++) {
		unsigned granule = (unsigned)below(&k->random, GRANULES);
		unsigned frame = (unsigned)below(&k->random, FILLERS);
		_Atomic uint64_t *at = &g->notes[granule][frame];
		uint64_t noted = atomic_load_explicit(at, memory_order_acquire), word;

		if (!noted)
			continue;
		word = atomic_load_explicit(&g->words[granule][frame], memory_order_relaxed);
		if (!berth_gcma_still(g->area, granule, noted >> 32) ||
		    atomic_load_explicit(at, memory_order_relaxed) != noted)
			continue;
		require(k->w, word == (uint32_t)noted, "a reader believes what wasn't stored", word,
			(uint32_t)noted);
		g->nr_read++;
	}
}

/* ---- Claimers ------------------------------------------------------------------------------------ */

static unsigned first_of(berth_pfn_t pfn)
{
	return (unsigned)(pfn - AREA_START) >> GRANULE_ORDER;
}

static unsigned granules_of(uint64_t nr_pages)
{
	return (unsigned)((nr_pages + (1u << GRANULE_ORDER) - 1) >> GRANULE_ORDER);
}

/* The frames are ours: nobody's writes are still on their way, and nobody writes now. */
static void use_claim(struct worker *k, berth_pfn_t pfn, uint64_t nr_pages)
{
	struct gcma_world *g = world_of(k);
	unsigned first = first_of(pfn), end = first + granules_of(nr_pages);

	require(k->w, end <= GRANULES, "a claim outside the area", pfn, nr_pages);
	for (unsigned i = first; i < end; i++) {
		require(k->w, !g->claimed[i], "a granule was claimed twice", i, 0);
		g->claimed[i] = true;
		for (unsigned f = 0; f < FILLERS; f++) {
			uint64_t was = atomic_load_explicit(&g->words[i][f], memory_order_relaxed);

			require(k->w, was == g->newest[i][f],
				"a claimer got frames with older contents", was, g->newest[i][f]);
			g->newest[i][f] = 0xc1a10000 + i;
			atomic_store_explicit(&g->words[i][f], 0xc1a10000 + i,
					      memory_order_relaxed);
		}
	}
	berth_sim_yield(k->w->sim);
	for (unsigned i = first; i < end; i++) {
		for (unsigned f = 0; f < FILLERS; f++)
			require(k->w,
				atomic_load_explicit(&g->words[i][f], memory_order_relaxed) ==
					0xc1a10000 + i,
				"a claim was written to", i, f);
		g->claimed[i] = false;
		g->nr_opened[i]++; /* in a moment */
	}
	k->w->nr_claimed++;
}

static bool may_be_refused(struct worker *k, int ret)
{
	const struct gcma_scenario *s = &world_of(k)->scenario;

	world_of(k)->nr_late += ret == -BERTH_EAGAIN;
	return (ret == -BERTH_ENOSPC && !s->only_pages) || (ret == -BERTH_EAGAIN && s->deadline_ns);
}

static void claim_many(struct worker *k, const struct berth_claim_params *params)
{
	struct gcma_world *g = world_of(k);
	unsigned wanted = 2 + (unsigned)below(&k->random, 2);
	berth_pfn_t pfns[3];
	int got = berth_gcma_alloc_bulk(g->area, params, wanted, pfns,
					BERTH_BULK_AS_MANY_AS_POSSIBLE, NULL);

	if (got < 0) {
		require(k->w, may_be_refused(k, got), "a bulk claim", (uint64_t)(int64_t)got, 0);
		return;
	}
	for (int i = 0; i < got; i++)
		use_claim(k, pfns[i], params->nr_pages);
	require_ret(k->w, "a bulk release",
		    berth_gcma_release_bulk(g->area, pfns, (unsigned)got, params->nr_pages), 0);
}

static void claimer_step(struct worker *k)
{
	struct gcma_world *g = world_of(k);
	struct berth_claim_params params = { .nr_pages = 1 + below(&k->random, 5) };
	berth_pfn_t pfn;
	int ret;

	if (params.nr_pages == OFFERED_PAGES)
		params.nr_pages = 12; /* all of it */
	if (g->scenario.only_pages) {
		params.nr_pages = g->scenario.only_pages;
		/* Under the lock, beside those that do without it. */
		params.name = below(&k->random, 4) ? NULL : "locked";
	}
	if (g->scenario.deadline_ns)
		params.deadline_ns = berth_sim_clock(k->w->sim) + g->scenario.deadline_ns;
	if (params.nr_pages < 3 && !g->scenario.only_pages && below(&k->random, 4) == 0) {
		claim_many(k, &params);
		return;
	}
	ret = berth_gcma_alloc(g->area, &params, &pfn, NULL);
	if (ret) {
		require(k->w, may_be_refused(k, ret), "a claim", (uint64_t)(int64_t)ret, 0);
		return;
	}
	use_claim(k, pfn, params.nr_pages);
	require_ret(k->w, "a release", berth_gcma_release(g->area, pfn, params.nr_pages), 0);
}

static void gcma_claimer_main(void *arg)
{
	struct worker *k = arg;

	for (unsigned i = 0; i < k->nr_ops; i++)
		claimer_step(k);
}

/* Releases what is offered: one of the two who do succeeds. */
static void release_offered(struct worker *k, berth_pfn_t pfn)
{
	struct gcma_world *g = world_of(k);
	int ret = berth_gcma_release(g->area, pfn, OFFERED_PAGES);

	require(k->w, ret == 0 || ret == -BERTH_EINVAL, "a release beside another one",
		(uint64_t)(int64_t)ret, 0);
	g->nr_released += ret == 0;
}

static void second_releaser_main(void *arg)
{
	struct worker *k = arg;
	struct gcma_world *g = world_of(k);

	for (unsigned i = 0; i < k->nr_ops; i++) {
		berth_pfn_t pfn;

		berth_mutex_lock(&g->offer);
		pfn = g->offered;
		g->taken = pfn != 0;
		berth_mutex_unlock(&g->offer);
		if (!pfn)
			continue;
		release_offered(k, pfn);
		berth_mutex_lock(&g->offer);
		g->offered = 0;
		berth_mutex_unlock(&g->offer);
	}
}

/* True: nobody else releases the claim, and from now on nobody will. */
static bool withdrawn(struct gcma_world *g)
{
	bool alone;

	berth_mutex_lock(&g->offer);
	alone = !g->offered || !g->taken;
	if (alone)
		g->offered = 0;
	berth_mutex_unlock(&g->offer);
	return alone;
}

static void first_releaser_main(void *arg)
{
	struct worker *k = arg;
	struct gcma_world *g = world_of(k);

	for (unsigned i = 0; i < k->nr_ops; i++) {
		const struct berth_claim_params params = { .nr_pages = OFFERED_PAGES };
		berth_pfn_t pfn;

		if (berth_gcma_alloc(g->area, &params, &pfn, NULL) != 0)
			continue;
		use_claim(k, pfn, OFFERED_PAGES);
		berth_mutex_lock(&g->offer);
		g->nr_released = 0;
		g->offered = pfn;
		g->taken = false;
		berth_mutex_unlock(&g->offer);
		berth_sim_yield(k->w->sim);
		release_offered(k, pfn);
		while (!withdrawn(g))
			berth_sim_yield(k->w->sim);
		require(k->w, g->nr_released == 1, "releases of one claim", g->nr_released, 1);
	}
}

/* ---- Runs ---------------------------------------------------------------------------------------- */

static void begin(struct gcma_world *g, uint64_t seed)
{
	struct berth_gcma_params params = { .name = "sim",
					    .start_pfn = AREA_START,
					    .nr_pages = GRANULES << GRANULE_ORDER,
					    .granule_order = GRANULE_ORDER,
					    .nr_cpus = BERTH_SIM_MAX_CPUS,
					    .port = &berth_sim_port_ops,
					    .port_ctx = g->w.sim };
	const struct gcma_scenario *s = &g->scenario;
	size_t bytes = berth_gcma_metadata_size(&params);
	struct world *w = &g->w;
	uint64_t random = seed;

	berth_sim_reset(w->sim, seed);
	memset(g->words, 0, sizeof(g->words));
	memset(g->notes, 0, sizeof(g->notes));
	memset(g->newest, 0, sizeof(g->newest));
	memset(g->claimed, 0, sizeof(g->claimed));
	memset(g->nr_opened, 0, sizeof(g->nr_opened));
	g->offer = (berth_mutex_t)BERTH_MUTEX_INIT;
	g->offered = 0;
	if (!g->metadata)
		assert_int_equal(posix_memalign(&g->metadata, 64, bytes), 0);
	assert_int_equal(berth_gcma_init(&g->area, &params, g->metadata, bytes), 0);
	for (unsigned i = 0; i < FILLERS; i++)
		(void)add_task(w, &w->workers[i], i, s->nr_fills, &random, filler_main);
	(void)add_task(w, &w->workers[3], 3, s->nr_reads, &random, reader_main);
	(void)add_task(w, &w->workers[4], 4, s->nr_releases, &random, first_releaser_main);
	(void)add_task(w, &w->workers[5], 5, s->nr_releases * 20, &random, second_releaser_main);
	for (unsigned i = 0; i < s->nr_claimers; i++)
		(void)add_task(w, &w->claimers[i], i, s->nr_claims, &random, gcma_claimer_main);
}

/* False, with the reason printed. */
static bool run_one(struct gcma_world *g, uint64_t seed)
{
	const struct berth_sim_result *result = berth_sim_run(g->w.sim);
	struct berth_violation v = { 0 };
	struct berth_gcma_stats stats;

	if (result->outcome != BERTH_SIM_DONE) {
		print_failure(&g->w, result->what ? result->what : "no end", seed, result->value,
			      result->expected);
		return false;
	}
	if (!berth_gcma_check(g->area, &v)) {
		print_failure(&g->w, v.what, seed, v.value, v.expected);
		return false;
	}
	berth_gcma_stats(g->area, &stats);
	if (stats.claimed_pages)
		print_failure(&g->w, "claims are left", seed, stats.claimed_pages, 0);
	return !stats.claimed_pages;
}

static struct gcma_world *open_world(const struct gcma_scenario *scenario)
{
	struct berth_sim_params params = { .weak_memory = true, .leap_ns = 2000000 };
	struct gcma_world *g = calloc(1, sizeof(*g));

	assert_non_null(g);
	g->scenario = *scenario;
	params.nr_cpus = scenario->wandering ? 10 : 0;
	g->w.sim = berth_sim_create(&params);
	return g;
}

static void close_world(struct gcma_world *g)
{
	berth_sim_destroy(g->w.sim);
	free(g->metadata);
	free(g);
}

static void run(const struct gcma_scenario *scenario, uint64_t asked)
{
	struct gcma_world *g = open_world(scenario);
	const struct seeds seeds = choose_seeds(asked);

	for (uint64_t seed = seeds.first; seed < seeds.first + seeds.nr; seed++) {
		begin(g, seed);
		if (!run_one(g, seed))
			fail_msg("seed %llu", (unsigned long long)seed);
	}
	print_message("# %llu schedules, %llu claims, %llu late, %llu stored, %llu read\n",
		      (unsigned long long)seeds.nr, (unsigned long long)g->w.nr_claimed,
		      (unsigned long long)g->nr_late, (unsigned long long)g->nr_stored,
		      (unsigned long long)g->nr_read);
	if (seeds.nr >= 100) {
		assert_true(!scenario->nr_claims || g->w.nr_claimed > seeds.nr);
		assert_true(!scenario->nr_fills || g->nr_stored > seeds.nr);
		assert_true(!scenario->nr_reads || g->nr_read > seeds.nr);
		assert_true(!scenario->deadline_ns || g->nr_late > seeds.nr / 100);
	}
	close_world(g);
}

static void test_readers_and_fillers_against_a_claimer(void **state)
{
	(void)state;
	run(&(struct gcma_scenario){ .nr_fills = 12,
				     .nr_reads = 24,
				     .nr_claims = 6,
				     .nr_claimers = 1 },
	    4000);
}

static void test_fillers_that_change_cpus(void **state)
{
	(void)state;
	run(&(struct gcma_scenario){ .nr_fills = 12,
				     .nr_claims = 6,
				     .nr_claimers = 2,
				     .wandering = true },
	    3000);
}

static void test_claimers_against_each_other(void **state)
{
	(void)state;
	run(&(struct gcma_scenario){ .nr_fills = 4, .nr_claims = 12, .nr_claimers = 4 }, 2500);
}

/*
 * Three claimers of a third of the area each: whenever one of them claims, the others have two thirds at most, and all
 * begin at a multiple of their size. So each claim fits, however claims that are cut off without the lock, gaps that
 * become the main gap and releases on either side of it meet.
 */
static void test_whoever_fits_is_served(void **state)
{
	(void)state;
	run(&(struct gcma_scenario){ .nr_fills = 2,
				     .nr_claims = 12,
				     .nr_claimers = 3,
				     .only_pages = (GRANULES << GRANULE_ORDER) / 3 },
	    4000);
}

/* Four claimers of a granule each, of which there are six. */
static void test_single_granules_always_fit(void **state)
{
	(void)state;
	run(&(struct gcma_scenario){ .nr_claims = 12, .nr_claimers = 4, .only_pages = 2 }, 4000);
}

static void test_claims_with_deadlines(void **state)
{
	(void)state;
	run(&(struct gcma_scenario){ .nr_fills = 10,
				     .nr_reads = 30,
				     .dawdles = 60,
				     .nr_claims = 8,
				     .nr_claimers = 2,
				     .deadline_ns = 20 },
	    2500);
}

static void test_a_claim_is_released_once(void **state)
{
	(void)state;
	run(&(struct gcma_scenario){ .nr_fills = 2,
				     .nr_claims = 6,
				     .nr_claimers = 1,
				     .nr_releases = 4 },
	    2500);
}

static void begin_sweep(void *ctx, uint64_t seed)
{
	begin(ctx, seed);
}

static bool run_sweep(void *ctx, uint64_t seed)
{
	return run_one(ctx, seed);
}

/* Each operation of the port fails, or is late, at each place that calls it. */
static void test_whatever_is_late_the_area_holds(void **state)
{
	const struct gcma_scenario scenario = { .nr_fills = 6,
						.nr_reads = 6,
						.nr_claims = 4,
						.nr_claimers = 2,
						.nr_releases = 2,
						.deadline_ns = 100000 };
	struct gcma_world *g = open_world(&scenario);
	struct sweep sweep = { "gcma", begin_sweep, run_sweep, g, g->w.sim, 300, 0 };

	(void)state;
	sweep_ops(&sweep, (enum berth_sim_op)0, BERTH_SIM_FENCE, 11);
	sweep_report(&sweep);
	assert_true(g->nr_late > 0);
	close_world(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_readers_and_fillers_against_a_claimer),
		cmocka_unit_test(test_fillers_that_change_cpus),
		cmocka_unit_test(test_claimers_against_each_other),
		cmocka_unit_test(test_whoever_fits_is_served),
		cmocka_unit_test(test_single_granules_always_fit),
		cmocka_unit_test(test_claims_with_deadlines),
		cmocka_unit_test(test_a_claim_is_released_once),
		cmocka_unit_test(test_whatever_is_late_the_area_holds),
	};

	return cmocka_run_group_tests_name("gcma schedules", tests, NULL, NULL);
}
