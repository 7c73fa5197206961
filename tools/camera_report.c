/* SPDX-License-Identifier: MIT */
/*
 * What `berth bench camera` prints: a table of the photos, one of the load, and the bars.
 */
#include "tools/camera.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tools/json.h"
#include "tools/units.h"

static const char *const labels[BERTH__CAMERA_NR_WAYS] = { "no lending", "CMA", "GCMA", "mixed" };

/* ---- Adding up --------------------------------------------------------------------------------- */

static void add_error(struct berth__camera_result *result, int error)
{
	unsigned i = 0;

	while (i < BERTH__CAMERA_ERRORS - 1 && result->errors[i].nr &&
	       result->errors[i].error != error)
		i++;
	result->errors[i].error = error;
	result->errors[i].nr++;
	result->failed++;
}

void berth__camera_add(struct berth__camera_result *result, const struct berth__camera_photo *photo)
{
	result->photos++;
	result->lent_bytes += (double)photo->lent_bytes;
	result->cpu_us += (double)photo->cpu_ns / 1000;
	result->moved_bytes += photo->moved_bytes;
	if (photo->error) {
		add_error(result, photo->error);
		return;
	}
	berth__sample_add(&result->whole_us, (double)photo->whole_ns / 1000);
	berth__sample_add(&result->claim_us, (double)photo->claim_ns / 1000);
}

void berth__camera_add_figures(struct berth__camera_result *result,
			       const struct berth__camera_figures *figures)
{
	struct berth__camera_figures *sum = &result->figures;

	sum->ns += figures->ns;
	sum->reads += figures->reads;
	sum->looked_up += figures->looked_up;
	sum->hits += figures->hits;
	sum->updates += figures->updates;
	sum->lost += figures->lost;
	sum->blocks += figures->blocks;
	sum->heap_bytes += figures->heap_bytes;
	sum->refused += figures->refused;
	sum->waits += figures->waits;
	sum->wait_ns += figures->wait_ns;
	if (figures->longest_wait_ns > sum->longest_wait_ns)
		sum->longest_wait_ns = figures->longest_wait_ns;
}

/* Of two numbers, or 0. */
static double ratio(double part, double whole)
{
	return whole > 0 ? part / whole : 0;
}

static double per_second(const struct berth__camera_result *result, uint64_t count)
{
	return ratio((double)count, (double)result->figures.ns / 1e9);
}

static double cpu_ms(const struct berth__camera_result *result)
{
	return ratio(result->cpu_us / 1000, (double)result->photos);
}

static double lent(const struct berth__camera_config *config,
		   const struct berth__camera_result *result)
{
	return ratio(result->lent_bytes, (double)config->size * (double)result->photos);
}

static double hit_rate(const struct berth__camera_result *result)
{
	return ratio((double)result->figures.hits, (double)result->figures.looked_up);
}

/* ---- Bars -------------------------------------------------------------------------------------- */

struct bar {
	const char *name, *unit;
	double figure, limit;
	double low, high; /* where the figure is likely to be; equal: it is exact */
};
#define NR_BARS 2u
#define RESAMPLINGS 1000

/* As many samples, each of them any of `from`. */
static double p99_of_some(const struct berth__samples *from, uint64_t *random)
{
	struct berth__samples some = { .nr = 0 };
	double p99;

	for (size_t i = 0; i < from->nr; i++)
		berth__sample_add(&some, from->values[berth__random(random) % from->nr]);
	p99 = berth__percentile(&some, 99);
	berth__samples_free(&some);
	return p99;
}

/*
 * A p99 stands on few photos. Where 95 % of the ratios are when photos are drawn from the same ones again and
 * again (the bootstrap).
 */
static void find_spread(struct bar *bar, const struct berth__samples *part,
			const struct berth__samples *whole)
{
	struct berth__samples ratios = { .nr = 0 };
	uint64_t random = 1;

	for (int i = 0; i < RESAMPLINGS; i++)
		berth__sample_add(&ratios,
				  p99_of_some(part, &random) / p99_of_some(whole, &random));
	bar->low = berth__percentile(&ratios, 2.5);
	bar->high = berth__percentile(&ratios, 97.5);
	berth__samples_free(&ratios);
}

/* What Berth is held to; returns how many can be told of the ways that were taken. */
static unsigned find_bars(const struct berth__camera_config *config,
			  struct berth__camera_result *results, struct bar bars[NR_BARS])
{
	struct berth__camera_result *gcma = &results[BERTH__CAMERA_GCMA];
	struct berth__samples *reserve = &results[BERTH__CAMERA_RESERVE].whole_us;
	unsigned nr = 0;

	if (!config->ways[BERTH__CAMERA_GCMA])
		return 0;
	if (config->ways[BERTH__CAMERA_RESERVE] && reserve->nr && gcma->whole_us.nr) {
		bars[nr] = (struct bar){ .name = "whole photo, p99 of GCMA / no lending",
					 .unit = "times",
					 .figure = berth__percentile(&gcma->whole_us, 99) /
						   berth__percentile(reserve, 99),
					 .limit = 1.05 };
		find_spread(&bars[nr++], &gcma->whole_us, reserve);
	}
	bars[nr++] = (struct bar){ .name = "photos that GCMA failed",
				   .unit = "photos",
				   .figure = (double)gcma->failed };
	return nr;
}

static bool is_met(const struct bar *bar)
{
	return bar->figure <= bar->limit;
}

/* ---- Text -------------------------------------------------------------------------------------- */

static const double percents[] = { 50, 99, 99.9, 100 };
#define NR_PERCENTS (sizeof(percents) / sizeof(percents[0]))

static void print_times(struct berth__samples *us)
{
	char text[BERTH__UNIT_BYTES];

	for (size_t i = 0; i < NR_PERCENTS; i++)
		printf(" %8s",
		       us->nr ? berth__format_ns(text, berth__percentile(us, percents[i]) * 1000) :
				"-");
}

static void print_photos(const struct berth__camera_config *config,
			 struct berth__camera_result *results)
{
	printf("%-10s %-35s   %-35s   %s\n", "", "    whole photo: claim, use, release",
	       "          of it, the claim", "   CPU");
	printf("%-10s %8s %8s %8s %8s   %8s %8s %8s %8s   %6s %7s\n", "", "p50", "p99", "p99.9",
	       "worst", "p50", "p99", "p99.9", "worst", "ms", "failed");
	for (int i = 0; i < BERTH__CAMERA_NR_WAYS; i++) {
		if (!config->ways[i])
			continue;
		printf("%-10s", labels[i]);
		print_times(&results[i].whole_us);
		printf("  ");
		print_times(&results[i].claim_us);
		printf("   %6.2f %7llu\n", cpu_ms(&results[i]),
		       (unsigned long long)results[i].failed);
	}
}

static void print_load(const struct berth__camera_config *config,
		       const struct berth__camera_result *results)
{
	printf("%-10s %8s %10s %12s %12s %12s\n", "the load", "lent", "cache hits", "reads/s",
	       "heap MiB/s", "moved MiB/s");
	for (int i = 0; i < BERTH__CAMERA_NR_WAYS; i++) {
		const struct berth__camera_result *result = &results[i];

		if (!config->ways[i])
			continue;
		printf("%-10s %7.1f%% %9.1f%% %12.0f %12.0f %12.0f\n", labels[i],
		       100 * lent(config, result), 100 * hit_rate(result),
		       per_second(result, result->figures.reads),
		       per_second(result, result->figures.heap_bytes) / (1 << 20),
		       per_second(result, result->moved_bytes) / (1 << 20));
	}
}

static void print_waits(const struct berth__camera_figures *figures, const char *label)
{
	char mean[BERTH__UNIT_BYTES], longest[BERTH__UNIT_BYTES];

	printf("%s: %llu claims met the cache inside a page's copy, and waited %s on average, %s at "
	       "most\n",
	       label, (unsigned long long)figures->waits,
	       berth__format_ns(mean, (double)figures->wait_ns / (double)figures->waits),
	       berth__format_ns(longest, (double)figures->longest_wait_ns));
}

/* Why photos failed, and what is odd. */
static void print_notes(const struct berth__camera_config *config,
			const struct berth__camera_result *results)
{
	for (int i = 0; i < BERTH__CAMERA_NR_WAYS; i++) {
		const struct berth__camera_result *result = &results[i];

		if (!config->ways[i])
			continue;
		for (unsigned j = 0; j < BERTH__CAMERA_ERRORS && result->errors[j].nr; j++)
			printf("%s: %llu of %llu photos failed: %s (%s)\n", labels[i],
			       (unsigned long long)result->errors[j].nr,
			       (unsigned long long)result->photos,
			       berth_strerror(result->errors[j].error),
			       berth_errname(result->errors[j].error));
		if (result->figures.refused)
			printf("%s: the heap was refused memory %llu times\n", labels[i],
			       (unsigned long long)result->figures.refused);
		if (result->figures.waits)
			print_waits(&result->figures, labels[i]);
	}
}

static void print_text(const struct berth__camera_config *config,
		       struct berth__camera_result *results, double seconds)
{
	char size[BERTH__UNIT_BYTES], largest[BERTH__UNIT_BYTES];
	struct bar bars[NR_BARS];
	uint64_t photos = 0;
	unsigned nr_bars;

	for (int i = 0; i < BERTH__CAMERA_NR_WAYS; i++)
		photos = config->ways[i] ? results[i].photos : photos;
	printf("photos of 1 MiB to %s out of %s, beside a heap that churns and %s\n",
	       berth__format_bytes(largest, (double)config->largest),
	       berth__format_bytes(size, (double)config->size),
	       config->sqlite ? "SQLite" : "a file that is read through a cache");
	printf("%llu of each way in turns, %.1f s; %llu are above each p99, %llu above each p99.9\n\n",
	       (unsigned long long)photos, seconds, (unsigned long long)(photos / 100),
	       (unsigned long long)(photos / 1000));
	print_photos(config, results);
	printf("\n");
	print_load(config, results);
	print_notes(config, results);
	nr_bars = find_bars(config, results, bars);
	for (unsigned i = 0; i < nr_bars; i++) {
		printf("%s%s: %.2f", i ? "" : "\n", bars[i].name, bars[i].figure);
		if (bars[i].low < bars[i].high)
			printf(" (%.2f to %.2f)", bars[i].low, bars[i].high);
		printf(", at most %g  %s\n", bars[i].limit, is_met(&bars[i]) ? "met" : "missed");
	}
}

/* ---- JSON -------------------------------------------------------------------------------------- */

static void add_times(json_t *row, const char *name, struct berth__samples *us)
{
	static const char *const names[NR_PERCENTS] = { "p50", "p99", "p999", "max" };
	json_t *times = json_object();

	for (size_t i = 0; i < NR_PERCENTS; i++)
		berth__json_add(times, names[i], berth__percentile(us, percents[i]));
	json_object_set_new(row, name, us->nr ? json_incref(times) : json_null());
	json_decref(times);
}

static json_t *failures_of(const struct berth__camera_result *result)
{
	json_t *failures = json_object();

	for (unsigned j = 0; j < BERTH__CAMERA_ERRORS && result->errors[j].nr; j++)
		berth__json_count(failures, berth_errname(result->errors[j].error),
				  result->errors[j].nr);
	return failures;
}

static json_t *row_of(const struct berth__camera_config *config,
		      struct berth__camera_result *result, int way)
{
	json_t *row = json_object();

	berth__json_string(row, "way", berth__camera_way_names[way]);
	berth__json_count(row, "photos", result->photos);
	berth__json_count(row, "failed", result->failed);
	json_object_set_new(row, "failures", failures_of(result));
	add_times(row, "whole_us", &result->whole_us);
	add_times(row, "claim_us", &result->claim_us);
	berth__json_add(row, "cpu_ms", cpu_ms(result));
	berth__json_add(row, "lent_share", lent(config, result));
	berth__json_add(row, "hit_rate", hit_rate(result));
	berth__json_add(row, "reads_per_s", per_second(result, result->figures.reads));
	berth__json_add(row, "updates_per_s", per_second(result, result->figures.updates));
	berth__json_add(row, "heap_bytes_per_s", per_second(result, result->figures.heap_bytes));
	berth__json_count(row, "heap_refused", result->figures.refused);
	berth__json_count(row, "moved_bytes", result->moved_bytes);
	berth__json_count(row, "lost_pages", result->figures.lost);
	berth__json_count(row, "waits", result->figures.waits);
	berth__json_count(row, "wait_ns", result->figures.wait_ns);
	berth__json_count(row, "longest_wait_ns", result->figures.longest_wait_ns);
	return row;
}

static json_t *bars_of(const struct berth__camera_config *config,
		       struct berth__camera_result *results)
{
	struct bar bars[NR_BARS];
	unsigned nr = find_bars(config, results, bars);
	json_t *list = json_array();

	for (unsigned i = 0; i < nr; i++) {
		json_t *bar = json_object();

		berth__json_string(bar, "name", bars[i].name);
		berth__json_string(bar, "unit", bars[i].unit);
		berth__json_add(bar, "figure", bars[i].figure);
		berth__json_add(bar, "limit", bars[i].limit);
		berth__json_add(bar, "low", bars[i].low);
		berth__json_add(bar, "high", bars[i].high);
		json_object_set_new(bar, "met", json_boolean(is_met(&bars[i])));
		json_array_append_new(list, bar);
	}
	return list;
}

static void print_json(const struct berth__camera_config *config,
		       struct berth__camera_result *results, double seconds)
{
	json_t *line = json_object(), *rows = json_array();

	berth__json_string(line, "bench", "camera");
	berth__json_count(line, "size_bytes", config->size);
	berth__json_count(line, "largest_photo_bytes", config->largest);
	berth__json_string(line, "background", config->sqlite ? "sqlite" : "store");
	berth__json_count(line, "seed", config->seed);
	berth__json_count(line, "nice", config->nice);
	berth__json_add(line, "seconds", seconds);
	for (int i = 0; i < BERTH__CAMERA_NR_WAYS; i++)
		if (config->ways[i])
			json_array_append_new(rows, row_of(config, &results[i], i));
	json_object_set_new(line, "ways", rows);
	json_object_set_new(line, "bars", bars_of(config, results));
	berth__json_print(line);
}

void berth__camera_print(const struct berth__camera_config *config,
			 struct berth__camera_result results[BERTH__CAMERA_NR_WAYS], double seconds)
{
	(config->json ? print_json : print_text)(config, results, seconds);
}
