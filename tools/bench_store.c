/* SPDX-License-Identifier: MIT */
/*
 * `berth bench store`: options, the tables, the bars.
 */
#define _GNU_SOURCE
#include "tools/bench_store.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tools/json.h"
#include "tools/measure.h"
#include "tools/options.h"
#include "tools/store_world.h"
#include "tools/units.h"

#define MIB ((uint64_t)1 << 20)

static const char help[] =
	"usage: berth bench store [OPTIONS]\n"
	"       berth bench store --verify [--gets N] [OPTIONS]\n"
	"\n"
	"The discardable store: what a get and a put of 4 KiB cost beside memcpy between the same\n"
	"memories, with one thread and with several, and how often it has what is wanted, beside LRU and\n"
	"a model of S3-FIFO.\n"
	"\n"
	"With --verify nothing is measured: readers check every byte of each page that they get, while\n"
	"others put, overwrite, drop pages and groups, and claim from the area.\n"
	"\n"
	"  --size SIZE     of the area (512M; with --verify 64M)\n"
	"  --threads N     of the measurement with several (2), or readers with --verify\n"
	"  --rounds N      (9)\n"
	"  --gets N        with --verify: 10000000\n"
	"  --writers N     with --verify: 2\n"
	"  --claimers N    with --verify: 1\n"
	"  --seed N        of keys, places and traces (1)\n"
	"  --json          one JSON object\n"
	"\n"
	"exit codes: 0 done, 1 a check failed or there is no memory, 2 a mistake in the command line,\n"
	"130 interrupted.\n";

/* ---- Bars -------------------------------------------------------------------------------------- */

struct bar {
	const char *name, *of;
	double figure, limit;
	bool at_least;
};
#define NR_BARS 6

static double worst_ratio(const double *of, const double *to)
{
	double worst = INFINITY;

	for (int i = 0; i < BERTH__NR_TRACES; i++)
		if (to[i] > 0)
			worst = fmin(worst, of[i] / to[i]);
	return worst;
}

static void find_bars(const struct berth__store_config *config,
		      const struct berth__store_speed *speed,
		      const struct berth__store_rates *rates, struct bar bars[NR_BARS])
{
	const double *one = speed->one, *many = speed->many;
	double threads = (double)config->threads;

	bars[0] = (struct bar){ "get", "ns; memcpy times 1.6, and 100 ns", one[BERTH__GET],
				1.6 * one[BERTH__COPY_OUT] + 100, false };
	bars[1] = (struct bar){ "put", "ns; memcpy times 1.8, and 150 ns", one[BERTH__PUT],
				1.8 * one[BERTH__COPY_IN] + 150, false };
	bars[2] = (struct bar){ "get, threads", "times the rate of one thread",
				threads * one[BERTH__GET] / many[BERTH__GET], 0.9 * threads, true };
	bars[3] = (struct bar){ "put, threads", "times the rate of one thread",
				threads * one[BERTH__PUT] / many[BERTH__PUT], 0.9 * threads, true };
	bars[4] = (struct bar){ "hit rate", "of S3-FIFO's, the worst trace",
				worst_ratio(rates->store, rates->s3fifo), 0.97, true };
	bars[5] = (struct bar){ "hit rate", "of LRU's, the worst trace",
				worst_ratio(rates->store, rates->lru), 1, true };
}

static bool met(const struct bar *bar)
{
	return bar->at_least ? bar->figure >= bar->limit : bar->figure <= bar->limit;
}

/* ---- Printing ---------------------------------------------------------------------------------- */

static const char *const labels[BERTH__NR_WORKS] = { "memcpy out of the area", "get",
						     "memcpy into the area", "put" };
static const char *const names[BERTH__NR_WORKS] = { "copy_out", "get", "copy_in", "put" };

static void print_text(const struct berth__store_config *config,
		       const struct berth__store_speed *speed,
		       const struct berth__store_rates *rates)
{
	struct bar bars[NR_BARS];
	char size[BERTH__UNIT_BYTES];

	printf("a store of %s; ns for 4 KiB between random pages, median of %llu rounds\n\n",
	       berth__format_bytes(size, (double)config->area_bytes),
	       (unsigned long long)config->rounds);
	printf("%-24s%10s%8s%8s%9llu threads%8s\n", "", "1 thread", "p50", "p99",
	       (unsigned long long)config->threads, "rate");
	for (int i = 0; i < BERTH__NR_WORKS; i++)
		printf("%-24s%10.0f%8.0f%8.0f%17.0f%7.2fx\n", labels[i], speed->one[i],
		       speed->p50[i], speed->p99[i], speed->many[i],
		       (double)config->threads * speed->one[i] / speed->many[i]);
	printf("\n%.1f %% of the gets hit; metadata %.2f %% of the area\n", 100 * speed->hits,
	       100 * (double)speed->metadata_bytes / (double)config->area_bytes);
	printf("\n%-24s%10s%10s%10s\n", "hit rate", "store", "S3-FIFO", "LRU");
	for (int i = 0; i < BERTH__NR_TRACES; i++)
		printf("%-24s%10.4f%10.4f%10.4f\n", berth__trace_names[i], rates->store[i],
		       rates->s3fifo[i], rates->lru[i]);
	printf("\nBerth's bars, of the figures above\n");
	find_bars(config, speed, rates, bars);
	for (int i = 0; i < NR_BARS; i++)
		printf("  %-14s%8.2f %-34s at %s %-8.5g %s\n", bars[i].name, bars[i].figure,
		       bars[i].of, bars[i].at_least ? "least" : "most", bars[i].limit,
		       met(&bars[i]) ? "met" : "missed");
}

static void print_json(const struct berth__store_config *config,
		       const struct berth__store_speed *speed,
		       const struct berth__store_rates *rates)
{
	json_t *line = json_pack("{ss}", "bench", "store"), *list;
	struct bar bars[NR_BARS];

	for (int i = 0; i < BERTH__NR_WORKS; i++) {
		json_t *work = json_object();

		berth__json_add(work, "one_ns", speed->one[i]);
		berth__json_add(work, "p50_ns", speed->p50[i]);
		berth__json_add(work, "p99_ns", speed->p99[i]);
		berth__json_add(work, "threads_ns", speed->many[i]);
		json_object_set_new(line, names[i], work);
	}
	list = json_array();
	for (int i = 0; i < BERTH__NR_TRACES; i++) {
		json_t *trace = json_pack("{ss}", "trace", berth__trace_names[i]);

		json_object_set_new(trace, "store", json_real(rates->store[i]));
		json_object_set_new(trace, "s3fifo", json_real(rates->s3fifo[i]));
		json_object_set_new(trace, "lru", json_real(rates->lru[i]));
		json_array_append_new(list, trace);
	}
	json_object_set_new(line, "hit_rates", list);
	list = json_array();
	find_bars(config, speed, rates, bars);
	for (int i = 0; i < NR_BARS; i++) {
		json_t *bar = json_pack("{ss, ss, sb}", "name", bars[i].name, "of", bars[i].of,
					"met", met(&bars[i]));

		berth__json_add(bar, "figure", bars[i].figure);
		berth__json_add(bar, "limit", bars[i].limit);
		json_array_append_new(list, bar);
	}
	json_object_set_new(line, "bars", list);
	berth__json_add(line, "get_hits", speed->hits);
	berth__json_count(line, "metadata_bytes", speed->metadata_bytes);
	berth__json_count(line, "area_bytes", config->area_bytes);
	berth__json_count(line, "threads", config->threads);
	berth__json_count(line, "rounds", config->rounds);
	berth__json_count(line, "seed", config->seed);
	berth__json_print(line);
}

static int measure(const struct berth__store_config *config)
{
	struct berth__store_speed speed;
	struct berth__store_rates rates;
	int code = berth__store_measure(config, &speed);

	if (!code)
		code = berth__store_trace(config, &rates);
	if (!code)
		(config->json ? print_json : print_text)(config, &speed, &rates);
	return code;
}

/* ---- --verify ---------------------------------------------------------------------------------- */

static void show_progress(uint64_t done, uint64_t total)
{
	berth__progress(BERTH__STORE_COMMAND " --verify", done, total);
}

static void print_verified(const struct berth__store_verify *run)
{
	const struct {
		const char *name;
		uint64_t count;
	} counts[] = {
		{ "gets", run->gets },
		{ "hits", run->hits },
		{ "retries", run->stats.retries },
		{ "puts", run->puts },
		{ "of these overwrites", run->overwrites },
		{ "puts refused", run->refused },
		{ "drops", run->drops },
		{ "drops of groups", run->group_drops },
		{ "evictions", run->stats.evicted },
		{ "claims", run->claims },
		{ "pages lost to claims", run->stats.lost_to_claims },
	};

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		printf("%-24s%14llu\n", counts[i].name, (unsigned long long)counts[i].count);
	printf("no stale, torn or foreign byte; all invariants hold\n");
}

static void print_verified_json(const struct berth__store_config *config,
				const struct berth__store_verify *run, double seconds)
{
	json_t *line = json_pack("{ss, ss}", "bench", "store", "mode", "verify");

	berth__json_count(line, "gets", run->gets);
	berth__json_count(line, "hits", run->hits);
	berth__json_count(line, "retries", run->stats.retries);
	berth__json_count(line, "puts", run->puts);
	berth__json_count(line, "overwrites", run->overwrites);
	berth__json_count(line, "refused", run->refused);
	berth__json_count(line, "drops", run->drops);
	berth__json_count(line, "group_drops", run->group_drops);
	berth__json_count(line, "evicted", run->stats.evicted);
	berth__json_count(line, "claims", run->claims);
	berth__json_count(line, "lost_to_claims", run->stats.lost_to_claims);
	berth__json_count(line, "wrong", 0);
	berth__json_count(line, "area_bytes", config->area_bytes);
	berth__json_count(line, "seed", config->seed);
	berth__json_add(line, "seconds", seconds);
	berth__json_print(line);
}

static int verify(const struct berth__store_config *config)
{
	struct berth__store_verify run = {
		.nr_pages = config->area_bytes / BERTH_PAGE_SIZE,
		.nr_gets = config->gets,
		.nr_readers = (unsigned)config->threads,
		.nr_writers = (unsigned)config->nr_writers,
		.nr_claimers = (unsigned)config->nr_claimers,
		.seed = config->seed,
		.interrupted = berth__interrupted,
		.progress = show_progress,
	};
	uint64_t began = berth__clock_ns(CLOCK_MONOTONIC);
	bool good = berth__store_verify(&run);
	double seconds = (double)(berth__clock_ns(CLOCK_MONOTONIC) - began) / 1e9;

	berth__progress_end();
	if (!good)
		return berth__complain(BERTH__EXIT_FAILED, BERTH__STORE_COMMAND, "%s", run.problem);
	if (berth__interrupted())
		return berth__interrupted_code();
	if (config->json)
		print_verified_json(config, &run, seconds);
	else
		print_verified(&run);
	return 0;
}

/* ---- The command line -------------------------------------------------------------------------- */

enum { SIZE = 1, THREADS, ROUNDS, GETS, WRITERS, CLAIMERS, SEED, VERIFY, JSON };

static const struct option options[] = {
	{ "size", required_argument, NULL, SIZE },
	{ "threads", required_argument, NULL, THREADS },
	{ "rounds", required_argument, NULL, ROUNDS },
	{ "gets", required_argument, NULL, GETS },
	{ "writers", required_argument, NULL, WRITERS },
	{ "claimers", required_argument, NULL, CLAIMERS },
	{ "seed", required_argument, NULL, SEED },
	{ "verify", no_argument, NULL, VERIFY },
	{ "json", no_argument, NULL, JSON },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

static bool take_option(void *ctx, int option)
{
	struct berth__store_config *config = ctx;

	switch (option) {
	case SIZE:
		return berth__size_option(BERTH__STORE_COMMAND, "--size", &config->area_bytes);
	case THREADS:
		return berth__count_option(BERTH__STORE_COMMAND, "--threads", 1, 8,
					   &config->threads);
	case ROUNDS:
		return berth__count_option(BERTH__STORE_COMMAND, "--rounds", 1, 1000,
					   &config->rounds);
	case GETS:
		return berth__count_option(BERTH__STORE_COMMAND, "--gets", 1, INT64_MAX,
					   &config->gets);
	case WRITERS:
		return berth__count_option(BERTH__STORE_COMMAND, "--writers", 1, 8,
					   &config->nr_writers);
	case CLAIMERS:
		return berth__count_option(BERTH__STORE_COMMAND, "--claimers", 0, 8,
					   &config->nr_claimers);
	case SEED:
		return berth__count_option(BERTH__STORE_COMMAND, "--seed", 0, INT64_MAX,
					   &config->seed);
	case VERIFY:
		config->verify = true;
		return true;
	case JSON:
		config->json = true;
		return true;
	default:
		return false;
	}
}

static const struct berth__command command = { BERTH__STORE_COMMAND, help, options, take_option };

int berth__bench_store(int argc, char **argv)
{
	struct berth__store_config config = {
		.threads = 2,
		.rounds = 9,
		.gets = 10000000,
		.nr_writers = 2,
		.nr_claimers = 1,
		.seed = 1,
	};
	int code = berth__take_options(&command, argc, argv, &config);

	if (code >= 0)
		return code;
	if (!config.area_bytes)
		config.area_bytes = config.verify ? 64 * MIB : 512 * MIB;
	if (config.area_bytes < MIB || config.area_bytes % (64 << 10))
		return berth__complain(BERTH__EXIT_USAGE, BERTH__STORE_COMMAND,
				       "--size is 1M at least, in steps of 64K");
	berth__catch_interrupts();
	return config.verify ? verify(&config) : measure(&config);
}
