/* SPDX-License-Identifier: MIT */
/*
 * A world on the simulator: a small zone with two areas, an owner whose pages can move, workers that
 * allocate, pin, verify and free, and claimers. Every frame has a word of contents and a note whether
 * somebody has it, so a frame that is given out twice, lost or copied wrongly ends the run.
 *
 *	BERTH_SIM_SEED=n    runs only this seed, and prints the end of its trace when it fails
 *	BERTH_SIM_SEEDS=n   seeds for each scenario, in percent of what the test asks for
 */
#ifndef BERTH_TESTSIM_H
#define BERTH_TESTSIM_H

#include "simtasks.h"

/* ---- Building, verifying ------------------------------------------------------------------------- */

static inline void declare_area(struct world *w, unsigned nr, const char *name, berth_pfn_t start,
				enum berth_lend_policy lend)
{
	struct berth_cma_params params = { .name = name,
					   .start_pfn = start,
					   .nr_pages = AREA_PAGES,
					   .lend = lend,
					   .bitmap = w->bitmaps[nr] };

	memset(w->bitmaps[nr], 0, sizeof(w->bitmaps[nr]));
	assert_true(berth_cma_bitmap_bytes(AREA_PAGES, 0) <= sizeof(w->bitmaps[nr]));
	assert_int_equal(berth_cma_declare(w->zone, &params, &w->areas[nr]), 0);
}

/* The zone without memory, areas and owners. */
static inline void empty_zone(struct world *w, bool lru)
{
	struct berth_zone_params params = {
		.name = "sim",
		.start_pfn = ZONE_START,
		.nr_pages = ZONE_PAGES,
		.max_order = 5,
		.pageblock_order = 4,
		.nr_cpus = MAX_WORKERS,
		.pcp_high = 8,
		.max_areas = 2,
		.lru = lru,
		.port = w->params.port ? w->params.port : &berth_sim_port_ops,
		.port_ctx = w->sim,
	};
	size_t bytes = berth_zone_metadata_size(&params);

	if (!w->metadata)
		assert_int_equal(posix_memalign(&w->metadata, 64, bytes), 0);
	assert_int_equal(berth_zone_init(&w->zone, &params, w->metadata, bytes), 0);
}

/* With all its memory. */
static inline void init_zone(struct world *w, bool lru)
{
	empty_zone(w, lru);
	assert_int_equal(
		berth_zone_add_memory(w->zone, ZONE_START, ZONE_PAGES - w->params.reserved), 0);
	if (w->params.reserved)
		assert_int_equal(berth_zone_add_reserved(
					 w->zone, ZONE_START + ZONE_PAGES - w->params.reserved,
					 w->params.reserved),
				 0);
}

static inline void build_zone(struct world *w)
{
	init_zone(w, false);
	declare_area(w, 0, "first", ZONE_START, BERTH_LEND_FIRST);
	declare_area(w, 1, "last", ZONE_START + 128, BERTH_LEND_LAST);
	assert_int_equal(berth_owner_register(w->zone,
					      w->params.ops ? w->params.ops : &world_owner_ops, w,
					      &w->owner),
			 0);
}

/* Frames that nobody else gets, so that memory is short. */
static inline void take_ballast(struct world *w)
{
	for (unsigned i = 0; i < w->params.ballast; i++) {
		assert_int_equal(berth_alloc_pages(w->zone, 0, BERTH_GFP_UNMOVABLE,
						   BERTH_OWNER_NONE, 0, &w->ballast[i]),
				 0);
		take_frames(w, w->ballast[i], 1);
	}
}

static inline struct worker *add_task(struct world *w, struct worker *k, unsigned id,
				      unsigned nr_ops, uint64_t *random, void (*fn)(void *arg))
{
	memset(k, 0, sizeof(*k));
	k->w = w;
	k->id = id;
	k->nr_ops = nr_ops;
	k->random = next_random(random);
	if (nr_ops)
		berth_sim_spawn(w->sim, fn, k);
	return k;
}

/* Nobody has anything, and there is no zone yet. */
static inline void world_reset(struct world *w, uint64_t seed)
{
	berth_sim_reset(w->sim, seed);
	w->nr_claimed = w->nr_refused = w->nr_moved = w->nr_allocated = 0;
	w->lock = (berth_mutex_t)BERTH_MUTEX_INIT;
	memset(w->taken, 0, sizeof(w->taken));
	for (unsigned i = 0; i < NR_PAGES; i++)
		w->table[i] = BERTH_PFN_NONE;
}

/* The simulation is reset and everything is built anew. */
static inline void world_begin(struct world *w, uint64_t seed)
{
	uint64_t random = seed;

	world_reset(w, seed);
	build_zone(w);
	take_ballast(w);
	for (unsigned i = 0; i < w->params.nr_workers; i++)
		(void)add_task(w, &w->workers[i], i, w->params.nr_ops, &random,
			       w->params.worker ? w->params.worker : worker_main);
	if (w->params.prefilled)
		for (unsigned slot = 0; slot < SLOTS; slot++)
			for (unsigned i = 0; i < w->params.nr_workers; i++)
				worker_alloc(&w->workers[i], slot);
	(void)add_task(w, &w->claimers[0], 0, w->params.nr_drains, &random, drainer_main);
	(void)add_task(w, &w->claimers[1], 1, w->params.nr_ranges, &random, range_claimer_main);
	for (unsigned i = 0; i < (w->params.nr_claimers ? w->params.nr_claimers : 1); i++)
		(void)add_task(w, &w->claimers[2 + i], i, w->params.nr_claims, &random,
			       claimer_main);
}

static inline const char *world_problem(struct world *w, uint64_t *where, uint64_t *value,
					uint64_t *expected)
{
	struct berth_violation v = { 0 };

	if (berth_zone_check(w->zone, &v))
		return NULL;
	*where = v.where;
	*value = v.value;
	*expected = v.expected;
	return v.what;
}

static inline const char *free_ballast(struct world *w)
{
	for (unsigned i = 0; i < w->params.ballast; i++) {
		leave_frames(w, w->ballast[i], 1);
		if (berth_free_pages(w->zone, w->ballast[i]) != 0)
			return "ballast can't be freed";
	}
	return NULL;
}

/* Everybody has freed what he had: with the ballast freed as well, the zone must be as at first. NULL, or what isn't. */
static inline const char *world_left(struct world *w, uint64_t *where, uint64_t *value,
				     uint64_t *expected)
{
	const char *what = free_ballast(w);
	struct berth_zone_stats stats;

	if (what)
		return what;
	berth_pcp_drain_all(w->zone);
	what = world_problem(w, where, value, expected);
	if (what)
		return what;
	berth_zone_stats(w->zone, &stats);
	*value = stats.free_pages;
	*expected = ZONE_PAGES;
	return stats.free_pages != ZONE_PAGES ? "frames are lost" : NULL;
}

static inline void print_failure(struct world *w, const char *what, uint64_t seed, uint64_t value,
				 uint64_t expected)
{
	print_error("seed %llu: %s: value %#llx, expected %#llx (BERTH_SIM_SEED=%llu repeats it)\n",
		    (unsigned long long)seed, what, (unsigned long long)value,
		    (unsigned long long)expected, (unsigned long long)seed);
	if (getenv("BERTH_SIM_SEED"))
		berth_sim_print_trace(w->sim, 200);
}

/* The run is over. Everything that is left is freed, and the zone must be as at first. False, with the
 * reason printed unless `quiet`. */
static inline bool world_finish(struct world *w, const struct berth_sim_result *result,
				uint64_t seed, bool quiet)
{
	uint64_t where_is = 0, value = 0, expected = 0;
	const char *what;

	if (result->outcome != BERTH_SIM_DONE) {
		if (!quiet)
			print_failure(w, result->what, seed, result->value, result->expected);
		return false;
	}
	what = world_problem(w, &where_is, &value, &expected);
	for (unsigned i = 0; !what && i < w->params.nr_workers; i++)
		for (unsigned slot = 0; slot < SLOTS; slot++)
			if (w->workers[i].runs[slot].nr_pages)
				worker_free(&w->workers[i], slot);
	if (!what)
		what = world_left(w, &where_is, &value, &expected);
	if (what && !quiet)
		print_failure(w, what, seed, value, expected);
	return !what;
}

/* Runs what world_begin() has set up. */
static inline bool world_run(struct world *w, uint64_t seed, bool quiet)
{
	return world_finish(w, berth_sim_run(w->sim), seed, quiet);
}

static inline void world_setup(struct world *w, const struct world_params *params,
			       const struct berth_sim_params *sim_params)
{
	struct berth_sim_params plain = { .weak_memory = true, .leap_ns = 2000000 };

	w->params = *params;
	for (unsigned i = 0; i < MAX_CLAIMERS; i++) {
		w->prepared[i] = aligned_alloc(16, (params->nr_claims + 1) *
							   berth_cma_prepared_bytes());
		assert_non_null(w->prepared[i]);
	}
	w->sim = berth_sim_create(sim_params ? sim_params : &plain);
}

static inline void world_teardown(struct world *w)
{
	berth_sim_destroy(w->sim);
	free(w->metadata);
	for (unsigned i = 0; i < MAX_CLAIMERS; i++)
		free(w->prepared[i]);
}

static inline struct world *world_open(const struct world_params *params,
				       const struct berth_sim_params *sim_params)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	world_setup(w, params, sim_params);
	return w;
}

static inline void world_close(struct world *w)
{
	world_teardown(w);
	free(w);
}

/* How many seeds to run of those that a test asks for. */
static inline uint64_t nr_seeds(uint64_t asked)
{
	const char *percent = getenv("BERTH_SIM_SEEDS");

	asked /= SEEDS_DIVISOR;
	return percent ? asked * strtoull(percent, NULL, 0) / 100 : asked;
}

/* Those of a scenario, from `first` on; or one alone, which is to be repeated. */
struct seeds {
	uint64_t first, nr;
};

static inline struct seeds choose_seeds(uint64_t asked)
{
	const char *only = getenv("BERTH_SIM_SEED");

	if (only)
		return (struct seeds){ strtoull(only, NULL, 0), 1 };
	return (struct seeds){ 1, nr_seeds(asked) };
}

/* All seeds of a scenario; each must end well. */
static inline void run_schedules(const struct world_params *params,
				 const struct berth_sim_params *sim_params, uint64_t asked)
{
	struct world *w = world_open(params, sim_params);
	const struct seeds seeds = choose_seeds(asked);
	uint64_t steps = 0, claims = 0, moved = 0;

	for (uint64_t seed = seeds.first; seed < seeds.first + seeds.nr; seed++) {
		world_begin(w, seed);
		if (!world_run(w, seed, false))
			fail_msg("seed %llu", (unsigned long long)seed);
		steps += berth_sim_steps(w->sim);
		claims += w->nr_claimed;
		moved += w->nr_moved;
	}
	print_message("# %llu schedules, %llu steps, %llu claims, %llu pages moved\n",
		      (unsigned long long)seeds.nr, (unsigned long long)steps,
		      (unsigned long long)claims, (unsigned long long)moved);
	if (seeds.nr >= 100 && params->nr_claims)
		assert_true(claims > 0);
	world_close(w);
}

#endif
