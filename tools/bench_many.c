/* SPDX-License-Identifier: MIT */
/*
 * `berth bench claim --claimers N`: the same claims by N threads in turn and at the same time, out of one area and out
 * of an area for each; and beside it work of the same length by which these threads share nothing but the machine.
 *
 * An empty area's claims take a microsecond or less, so each measurement is of LOOPS claims and releases a thread.
 * Full areas are filled again before each measurement; stores' by the same threads, an equal part of each area each, so
 * that each one's CPU has as much of the areas in its caches. Of movable memory it is of one claim a thread, and the contents
 * are checked after it; of discardable memory of as many as fit into FULL_BYTES. Those claims come rarely, between other
 * work: so what is left of the stores is filled again before the next thread's turn, or only the first one would find
 * as little in the caches as all do who claim at the same time. The two ways and the machine's limit
 * take turns, so all meet the same load; what counts is the median of the rounds' ratios. What the threads write
 * to for themselves is far apart, so that the bench adds no sharing of its own.
 */
#include "tools/bench_many.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <berth/berth.h>
#include <berth/store.h>

#include "tools/crew.h"
#include "tools/fill.h"
#include "tools/json.h"
#include "tools/options.h"
#include "tools/units.h"

#define LOOPS \
	2000u /* claims and releases of the fastest thread in a measurement of empty areas: 1 ms or 2 */
#define STRETCH 20u /* of them between two looks at whether it's over */
#define HUGE_BYTES ((uint64_t)2 << 20)
#define FULL_BYTES ((uint64_t)512 << 20)
#define MOST_KEPT 64u
#define SCRATCH_BYTES ((size_t)8 << 10)
#define NAME_BYTES 16

struct pool {
	const struct berth__many *config;
	struct berth_pool *pool;
	struct berth__fill fill;
	struct berth_store *stores[BERTH__MAX_CLAIMERS];
	bool apart;          /* an area for each thread */
	uint64_t area_bytes; /* of each */
	char names[BERTH__MAX_CLAIMERS][NAME_BYTES];
	struct berth__speedup claims, limit;
};

struct claimer {
	_Alignas(256) struct pool *pool;
	struct berth_buffer kept[MOST_KEPT];
	unsigned nr_kept;
	int error;
	char *from, *to; /* the limit's; without a source it is set */
};

/* What all measurements use. */
struct bench {
	const struct berth__many *config;
	struct berth__crew *crew;
	struct claimer *claimers;
	unsigned nr_kept; /* claims of a full area that a thread makes, and keeps */
	size_t bytes;     /* of the limit's work; */
	uint64_t repeats; /* how often in a measurement */
};

static const char *area_of(const struct pool *pool, unsigned claimer)
{
	return pool->names[pool->apart ? claimer : 0];
}

static bool wrong(const struct pool *pool, const char *what, int error)
{
	berth__complain(0, pool->config->command, "%s: %s (%s)", what, berth_strerror(error),
			berth_errname(error));
	return false;
}

/* ---- Work ------------------------------------------------------------------------------------------ */

/* Claims and releases. Returns how many. */
static uint64_t come_and_go(const struct bench *bench, struct claimer *claimer, const char *area)
{
	uint64_t done = 0;

	for (; done < LOOPS && !claimer->error; done++) {
		if (done % STRETCH == 0 && berth__crew_is_over(bench->crew))
			break;
		claimer->error = berth_claim(claimer->pool->pool, area, bench->config->size, NULL,
					     &claimer->kept[0], NULL);
		if (!claimer->error)
			claimer->error = berth_release(claimer->pool->pool, &claimer->kept[0]);
	}
	return done;
}

/* A claimer's claims of one measurement. Of a full area they are kept. */
static uint64_t make_claims(void *ctx, unsigned number)
{
	const struct bench *bench = ctx;
	struct claimer *claimer = &bench->claimers[number];
	const char *area = area_of(claimer->pool, number);

	if (!bench->nr_kept)
		return come_and_go(bench, claimer, area);
	while (claimer->nr_kept < bench->nr_kept && !claimer->error) {
		claimer->error = berth_claim(claimer->pool->pool, area, bench->config->size, NULL,
					     &claimer->kept[claimer->nr_kept], NULL);
		claimer->nr_kept += !claimer->error;
	}
	return claimer->nr_kept;
}

/* What the machine does for threads that share nothing of ours. */
static uint64_t copy_or_set(void *ctx, unsigned number)
{
	const struct bench *bench = ctx;
	const struct claimer *claimer = &bench->claimers[number];
	uint64_t done = 0;

	for (; done < bench->repeats; done++) {
		if (claimer->from)
			memcpy(claimer->to, claimer->from, bench->bytes);
		else if (done % STRETCH == 0 && berth__crew_is_over(bench->crew))
			break;
		else
			memset(claimer->to, (int)done, bench->bytes);
		__asm__ volatile("" : : "r"(claimer->to) : "memory");
	}
	return done;
}

static bool open_bench(struct bench *bench)
{
	const struct berth__many *config = bench->config;
	const bool moves = config->fill == BERTH__FILL_MOVABLE;
	uint64_t fit = FULL_BYTES / config->claimers / config->size;

	if (moves)
		bench->nr_kept = 1;
	else if (config->fill == BERTH__FILL_DISCARDABLE)
		bench->nr_kept = fit > MOST_KEPT ? MOST_KEPT : fit ? (unsigned)fit : 1;
	/* Moves are as fast as the memory, the others as the CPU's own caches. */
	bench->bytes = moves ? config->size : SCRATCH_BYTES;
	bench->repeats = moves ? 1 : 10 * LOOPS;
	bench->claimers = aligned_alloc(_Alignof(struct claimer),
					config->claimers * sizeof(*bench->claimers));
	if (!bench->claimers)
		return false;
	memset(bench->claimers, 0, config->claimers * sizeof(*bench->claimers));
	for (unsigned i = 0; i < config->claimers; i++) {
		bench->claimers[i].from = moves ? berth__map_resident(bench->bytes) : NULL;
		bench->claimers[i].to = berth__map_resident(bench->bytes);
		if (!bench->claimers[i].to || (moves && !bench->claimers[i].from))
			return false;
	}
	bench->crew = berth__crew_start((unsigned)config->claimers);
	return bench->crew;
}

static void close_bench(struct bench *bench)
{
	berth__crew_stop(bench->crew);
	for (unsigned i = 0; bench->claimers && i < bench->config->claimers; i++) {
		if (bench->claimers[i].from)
			berth__unmap_resident(bench->claimers[i].from, bench->bytes);
		if (bench->claimers[i].to)
			berth__unmap_resident(bench->claimers[i].to, bench->bytes);
	}
	free(bench->claimers);
}

/* ---- One measurement --------------------------------------------------------------------------- */

/* A claimer's part of the stores' pages. Returns how many it put. */
static uint64_t fill_stores(void *ctx, unsigned number)
{
	static const char page[BERTH_PAGE_SIZE] = { 1 };
	const struct bench *bench = ctx;
	struct claimer *claimer = &bench->claimers[number];
	const struct pool *pool = claimer->pool;
	const uint64_t claimers = bench->config->claimers;
	const uint64_t pages = pool->area_bytes >> BERTH_PAGE_SHIFT;
	uint64_t nr = 0;

	for (unsigned i = 0; i < (pool->apart ? claimers : 1); i++) {
		if (pool->apart && bench->claimers[i].nr_kept)
			continue; /* all of it is claimed */
		for (uint64_t item = number; item < pages && !claimer->error;
		     item += claimers, nr++) {
			const struct berth_store_key key = { .group = 1, .item = item };

			claimer->error = berth_store_put(pool->stores[i], &key, page);
		}
	}
	return nr;
}

/* What isn't claimed. An error is found later. */
static void fill_what_is_left(void *ctx)
{
	struct bench *bench = ctx;

	(void)berth__crew_at_once(bench->crew, fill_stores, bench);
}

static bool fill_again(struct bench *bench, struct pool *pool)
{
	int error = 0;

	if (pool->config->fill == BERTH__FILL_MOVABLE)
		error = berth__fill_refill(&pool->fill);
	/* Without free frames a put takes another page's: so the areas are full in the end. */
	if (pool->config->fill == BERTH__FILL_DISCARDABLE)
		fill_what_is_left(bench);
	for (unsigned i = 0; i < bench->config->claimers && !error; i++)
		error = bench->claimers[i].error;
	return error ? wrong(pool, "the areas can't be filled again", error) : true;
}

static bool give_back(struct bench *bench, struct pool *pool)
{
	const void *first;

	for (unsigned i = 0; i < bench->config->claimers; i++) {
		struct claimer *claimer = &bench->claimers[i];

		for (; !claimer->error && claimer->nr_kept; claimer->nr_kept--)
			claimer->error = berth_release(pool->pool,
						       &claimer->kept[claimer->nr_kept - 1]);
		if (claimer->error)
			return wrong(pool, "a claim", claimer->error);
	}
	if (bench->config->fill == BERTH__FILL_MOVABLE && berth__fill_check(&pool->fill, &first)) {
		berth__complain(0, bench->config->command, "moved memory is wrong, first at %p",
				first);
		return false;
	}
	return true;
}

/* Claims a us, or -1. */
static double measure(struct bench *bench, struct pool *pool, bool at_once)
{
	const bool stores = pool->config->fill == BERTH__FILL_DISCARDABLE;
	double rate;

	if (!fill_again(bench, pool))
		return -1;
	rate = at_once ? berth__crew_at_once(bench->crew, make_claims, bench) :
			 berth__crew_in_turn_between(bench->crew, make_claims,
						     stores ? fill_what_is_left : NULL, bench,
						     !bench->nr_kept);
	return give_back(bench, pool) ? rate : -1;
}

static double measure_limit(struct bench *bench, bool at_once)
{
	return at_once ? berth__crew_at_once(bench->crew, copy_or_set, bench) :
			 berth__crew_in_turn(bench->crew, copy_or_set, bench,
					     !bench->claimers[0].from);
}

/*
 * One round: each way twice, the second time in the other order, since where memory is now depends on what was before:
 * moves of one way, always first or second, differ from the other's by a fifth. The next round begins with the other
 * way; the first one only warms up.
 */
static bool measure_round(struct bench *bench, struct pool *pool, uint64_t number)
{
	static const bool ways[] = { false, true, true, false };
	double rates[2], limit[2], us[2] = { 0 }, limit_us[2] = { 0 }; /* a claim, twice */

	for (unsigned i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		bool at_once = ways[i] != (number & 1);
		double rate = measure(bench, pool, at_once);

		if (rate < 0)
			return false;
		us[at_once] += 1 / rate;
		limit_us[at_once] += 1 / measure_limit(bench, at_once);
	}
	for (unsigned way = 0; way < 2; way++) {
		rates[way] = 2 / us[way];
		limit[way] = 2 / limit_us[way];
	}
	if (number) {
		berth__speedup_add(&pool->claims, rates[0], rates[1]);
		berth__speedup_add(&pool->limit, limit[0], limit[1]);
	} else if (!bench->claimers[0].from) {
		/* From now on it takes as long as the claims. */
		bench->repeats = (uint64_t)((bench->nr_kept ? bench->nr_kept : LOOPS) / rates[0] *
					    limit[0]) +
				 STRETCH;
	}
	return true;
}

/* ---- One kind of areas ------------------------------------------------------------------------- */

/* The areas' declaration; NULL: they don't fit. */
static char *areas_text(const struct pool *pool, unsigned nr, char *text, size_t bytes)
{
	static const char *const policies[] = { "cma", "gcma", "reserve" };
	size_t at = (size_t)snprintf(text, bytes, "areas=");

	for (unsigned i = 0; i < nr && at < bytes; i++)
		at += (size_t)snprintf(text + at, bytes - at, "%s%s:%llu,policy=%s", i ? ";" : "",
				       pool->names[i], (unsigned long long)pool->area_bytes,
				       policies[pool->config->kind]);
	return at < bytes ? text : NULL;
}

static int fill_first(struct pool *pool, unsigned nr)
{
	int error = 0;

	for (unsigned i = 0; pool->config->fill == BERTH__FILL_DISCARDABLE && i < nr && !error; i++)
		error = berth_pool_store(pool->pool, pool->names[i], &pool->stores[i]);
	if (error || pool->config->fill != BERTH__FILL_MOVABLE)
		return error;
	pool->fill = (struct berth__fill){ .pool = pool->pool,
					   .run_bytes = pool->config->run,
					   .seed = pool->config->seed };
	return berth__fill_open(&pool->fill);
}

static bool open_pool(struct pool *pool)
{
	const struct berth__many *config = pool->config;
	unsigned nr = pool->apart ? (unsigned)config->claimers : 1;
	char text[BERTH__MAX_CLAIMERS * 64];
	struct berth_pool_params params = { .flags = BERTH_POOL_RESIDENT, .mover = config->mover };
	int error;

	for (unsigned i = 0; i < nr; i++)
		snprintf(pool->names[i], NAME_BYTES, "bench%u", i);
	params.config = areas_text(pool, nr, text, sizeof(text));
	error = berth_pool_open(&params, &pool->pool);
	if (error)
		return wrong(pool, "the pool can't be opened", error);
	error = fill_first(pool, nr);
	return error ? wrong(pool, "the areas can't be filled", error) : true;
}

/* Room for all claims; where they come and go, for as many more, so that there is always a whole range. */
static uint64_t area_bytes(const struct bench *bench, const struct pool *pool)
{
	const struct berth__many *config = bench->config;
	uint64_t nr = pool->apart ? config->claimers : 1;
	uint64_t least = config->size * (bench->nr_kept ? bench->nr_kept : 2) *
			 (config->claimers / nr);
	uint64_t bytes = config->area / nr > least ? config->area / nr : least;

	return (bytes + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES;
}

static bool run_kind(struct bench *bench, struct pool *pool)
{
	const struct berth__many *config = bench->config;
	bool good;
	int error;

	pool->area_bytes = area_bytes(bench, pool);
	good = open_pool(pool);
	for (unsigned i = 0; i < config->claimers; i++) {
		bench->claimers[i].pool = pool;
		bench->claimers[i].nr_kept = 0;
		bench->claimers[i].error = 0;
	}
	for (uint64_t i = 0; i <= config->count && good && !berth__interrupted(); i++) {
		good = measure_round(bench, pool, i);
		berth__progress(config->command, i, config->count);
	}
	berth__progress_end();
	if (!pool->pool)
		return good;
	error = config->fill == BERTH__FILL_MOVABLE ? berth__fill_close(&pool->fill) : 0;
	if (!error)
		error = berth_pool_close(pool->pool);
	return error ? wrong(pool, "the pool can't be closed", error) : good;
}

/* ---- Printing ---------------------------------------------------------------------------------- */

/* What two threads are held to, in times of the rate of one. */
static double least_ratio(const struct berth__many *config)
{
	return config->fill == BERTH__FILL_MOVABLE ? 1.0 : 1.8;
}

static void print_pool(const struct bench *bench, struct pool *pool)
{
	double median = berth__percentile(&pool->claims.ratios, 50), low, high;
	char in_turn[BERTH__UNIT_BYTES], at_once[BERTH__UNIT_BYTES];

	berth__speedup_bounds(&pool->claims, &low, &high);
	printf("  %-16s %s a claim one after the other, %s at the same time: %.2f times the rate "
	       "(%.2f to %.2f)",
	       pool->apart ? "different areas" : "one area",
	       berth__format_ns(in_turn, 1000 / berth__percentile(&pool->claims.in_turn, 50)),
	       berth__format_ns(at_once, 1000 / berth__percentile(&pool->claims.at_once, 50)),
	       median, low, high);
	if (bench->config->claimers == 2)
		printf(", at least %.1f  %s", least_ratio(bench->config),
		       median >= least_ratio(bench->config) ? "met" : "missed");
	berth__speedup_bounds(&pool->limit, &low, &high);
	printf("\n  %-16s %s by the same threads between these rounds: %.2f times the rate "
	       "(%.2f to %.2f)\n",
	       "", bench->claimers[0].from ? "memcpy" : "memset",
	       berth__percentile(&pool->limit.ratios, 50), low, high);
}

static void print_text(const struct bench *bench, struct pool *pools)
{
	const struct berth__many *config = bench->config;
	char size[BERTH__UNIT_BYTES], run[BERTH__UNIT_BYTES];

	printf("%llu threads, claims of %s, %s%s%s\n", (unsigned long long)config->claimers,
	       berth__format_bytes(size, (double)config->size),
	       config->kind == BERTH__AREA_CMA ? "" : berth__kind_names[config->kind],
	       config->kind == BERTH__AREA_CMA ? "" : ", ", berth__fill_names[config->fill]);
	if (config->fill == BERTH__FILL_MOVABLE)
		printf("  memory in runs of %s\n", berth__format_bytes(run, (double)config->run));
	for (unsigned i = 0; i < 2; i++)
		print_pool(bench, &pools[i]);
}

/* Claims a second. */
static json_t *json_of(struct berth__speedup *speedup)
{
	json_t *row = json_object();
	double low, high;

	berth__speedup_bounds(speedup, &low, &high);
	berth__json_add(row, "in_turn_p50", berth__percentile(&speedup->in_turn, 50) * 1e6);
	berth__json_add(row, "at_once_p50", berth__percentile(&speedup->at_once, 50) * 1e6);
	berth__json_add(row, "ratio", berth__percentile(&speedup->ratios, 50));
	berth__json_add(row, "ratio_low", low);
	berth__json_add(row, "ratio_high", high);
	return row;
}

static void print_json(const struct bench *bench, struct pool *pools)
{
	const struct berth__many *config = bench->config;
	json_t *line = json_object();

	berth__json_string(line, "bench", "claimers");
	berth__json_string(line, "area_kind", berth__kind_names[config->kind]);
	berth__json_string(line, "fill", berth__fill_names[config->fill]);
	berth__json_count(line, "claimers", config->claimers);
	berth__json_count(line, "size_bytes", config->size);
	berth__json_count(line, "run_bytes", config->run);
	berth__json_count(line, "count", config->count);
	berth__json_count(line, "claims", bench->nr_kept ? bench->nr_kept : LOOPS);
	for (unsigned i = 0; i < 2; i++) {
		json_t *kind = json_of(&pools[i].claims);

		berth__json_count(kind, "area_bytes", pools[i].area_bytes);
		json_object_set_new(kind, "machine", json_of(&pools[i].limit));
		json_object_set_new(line, pools[i].apart ? "different_areas" : "one_area", kind);
	}
	berth__json_print(line);
}

/* ---- The command --------------------------------------------------------------------------------- */

int berth__bench_claimers(const struct berth__many *config)
{
	struct pool pools[2] = { { .config = config }, { .config = config, .apart = true } };
	struct bench bench = { .config = config };
	bool good;

	berth__catch_interrupts();
	good = open_bench(&bench);
	if (!good)
		berth__complain(0, config->command, "there is no memory for that");
	good = good && run_kind(&bench, &pools[0]) && run_kind(&bench, &pools[1]);
	if (good && !berth__interrupted())
		(config->json ? print_json : print_text)(&bench, pools);
	close_bench(&bench);
	for (unsigned i = 0; i < 2; i++) {
		berth__speedup_free(&pools[i].claims);
		berth__speedup_free(&pools[i].limit);
	}
	if (berth__interrupted())
		return berth__interrupted_code();
	return good ? 0 : BERTH__EXIT_FAILED;
}
