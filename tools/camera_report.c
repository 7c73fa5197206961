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

/* ---- Figures ----------------------------------------------------------------------------------- */

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
	double us = 0, photos = 0;

	for (uint64_t i = 0; i < result->photos; i++) {
		us += result->taken[i].weight * result->taken[i].cpu_us;
		photos += result->taken[i].weight;
	}
	return ratio(us / 1000, photos);
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

/* Of the photos' time, what they waited for a CPU. */
static double waiting_share(const struct berth__camera_config *config,
			    const struct berth__camera_result *result)
{
	struct berth__blocks waiting = berth__camera_times(config, result, BERTH__CAMERA_ALL,
							   BERTH__CAMERA_WAITING);
	struct berth__blocks all = berth__camera_times(config, result, BERTH__CAMERA_ALL,
						       BERTH__CAMERA_WHOLE);
	double part = 0, whole = 0;

	for (size_t i = 0; i < all.nr; i++) {
		part += waiting.values[i].weight * waiting.values[i].value;
		whole += all.values[i].weight * all.values[i].value;
	}
	berth__blocks_free(&waiting);
	berth__blocks_free(&all);
	return ratio(part, whole);
}

/* ---- Text -------------------------------------------------------------------------------------- */

static const double percents[] = { 50, 99, 99.9, 100 };
#define NR_PERCENTS (sizeof(percents) / sizeof(percents[0]))

static void print_time(struct berth__blocks *us, double percent)
{
	char text[BERTH__UNIT_BYTES];

	printf(" %8s",
	       us->nr ? berth__format_ns(text, berth__block_percentile(us, percent) * 1000) : "-");
}

static void print_times(const struct berth__camera_config *config,
			const struct berth__camera_result *result, enum berth__camera_time time)
{
	struct berth__blocks us = berth__camera_times(config, result, BERTH__CAMERA_ALL, time);

	for (size_t i = 0; i < NR_PERCENTS; i++)
		print_time(&us, percents[i]);
	berth__blocks_free(&us);
}

static void print_photos(const struct berth__camera_config *config,
			 struct berth__camera_result *results)
{
	printf("%-10s %-35s   %-35s   %s\n", "", "    whole photo: claim, use, release",
	       "          of it, the claim", "   CPU");
	printf("%-10s %8s %8s %8s %8s   %8s %8s %8s %8s   %6s %7s %7s\n", "", "p50", "p99", "p99.9",
	       "worst", "p50", "p99", "p99.9", "worst", "ms", "photos", "failed");
	for (int i = 0; i < BERTH__CAMERA_NR_WAYS; i++) {
		if (!config->ways[i])
			continue;
		printf("%-10s", labels[i]);
		print_times(config, &results[i], BERTH__CAMERA_WHOLE);
		printf("  ");
		print_times(config, &results[i], BERTH__CAMERA_CLAIM);
		printf("   %6.2f %7llu %7llu\n", cpu_ms(&results[i]),
		       (unsigned long long)results[i].photos,
		       (unsigned long long)results[i].failed);
	}
}

static void print_ratio(const struct berth__camera_ratio *ratio)
{
	printf("%.2f (%.2f to %.2f)", ratio->figure, ratio->likely.low, ratio->likely.high);
}

/* What of GCMA can be compared with a reservation. */
static bool can_compare(const struct berth__camera_result *results)
{
	const struct berth__camera_result *gcma = &results[BERTH__CAMERA_GCMA];
	const struct berth__camera_result *reserve = &results[BERTH__CAMERA_RESERVE];

	return reserve->photos > reserve->failed && gcma->photos > gcma->failed;
}

static void print_comparison(const struct berth__camera_config *config,
			     const struct berth__camera_result *results)
{
	printf("%-10s", "ratio p99");
	for (int sizes = 0; sizes < BERTH__CAMERA_NR_SIZES; sizes++) {
		struct berth__camera_ratio ratio = berth__camera_compare(
			config, &results[BERTH__CAMERA_GCMA], &results[BERTH__CAMERA_RESERVE],
			(enum berth__camera_sizes)sizes, BERTH__CAMERA_WHOLE, 99);
		char text[64];

		snprintf(text, sizeof(text), "%.2f (%.2f to %.2f)", ratio.figure, ratio.likely.low,
			 ratio.likely.high);
		printf("  %20s", ratio.figure > 0 ? text : "-");
	}
	printf("    GCMA / no lending\n");
}

static void print_sizes(const struct berth__camera_config *config,
			const struct berth__camera_result *results)
{
	printf("%-10s", "by size");
	for (int sizes = 0; sizes < BERTH__CAMERA_NR_SIZES; sizes++) {
		char size[BERTH__UNIT_BYTES], text[64];

		berth__format_bytes(size, (double)berth__camera_size_limit(
						  config, (enum berth__camera_sizes)sizes));
		snprintf(text, sizeof(text), "to %s: p50, p99", size);
		printf("  %20s", text);
	}
	printf("    waited for a CPU\n");
	for (int i = 0; i < BERTH__CAMERA_NR_WAYS; i++) {
		if (!config->ways[i])
			continue;
		printf("%-10s", labels[i]);
		for (int sizes = 0; sizes < BERTH__CAMERA_NR_SIZES; sizes++) {
			struct berth__blocks us = berth__camera_times(
				config, &results[i], (enum berth__camera_sizes)sizes,
				BERTH__CAMERA_WHOLE);

			printf("    ");
			print_time(&us, 50);
			print_time(&us, 99);
			berth__blocks_free(&us);
		}
		printf("    %.1f %%\n", 100 * waiting_share(config, &results[i]));
	}
	if (can_compare(results))
		print_comparison(config, results);
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

static const char *verdict(const struct berth__camera_bar *bar)
{
	if (!berth__camera_is_sure(bar))
		return berth__camera_is_met(bar) ? "not surely met" : "not surely missed";
	return berth__camera_is_met(bar) ? "met" : "missed";
}

static void print_more_ratios(const struct berth__camera_config *config,
			      const struct berth__camera_result *gcma,
			      const struct berth__camera_result *reserve)
{
	struct berth__camera_ratio ratio = berth__camera_pairs(gcma, reserve);

	printf("\nthe same photo, median of GCMA / no lending: ");
	print_ratio(&ratio);
	ratio = berth__camera_compare(config, gcma, reserve, BERTH__CAMERA_ALL, BERTH__CAMERA_CPU,
				      99);
	printf("\non the CPU, p99 of GCMA / no lending: ");
	print_ratio(&ratio);
	printf("\n");
}

static void print_bars(const struct berth__camera_config *config,
		       struct berth__camera_result *results)
{
	struct berth__camera_bar bars[BERTH__CAMERA_BARS];
	unsigned nr = berth__camera_bars(config, results, bars);

	if (can_compare(results))
		print_more_ratios(config, &results[BERTH__CAMERA_GCMA],
				  &results[BERTH__CAMERA_RESERVE]);
	for (unsigned i = 0; i < nr; i++) {
		const struct berth__interval *likely = &bars[i].likely;

		printf("%s: %.2f", bars[i].name, bars[i].figure);
		if (likely->low < likely->high)
			printf(" (%.2f to %.2f)", likely->low, likely->high);
		printf(", at most %g  %s\n", bars[i].limit, verdict(&bars[i]));
	}
}

static void print_text(const struct berth__camera_config *config,
		       struct berth__camera_result *results, double seconds)
{
	char size[BERTH__UNIT_BYTES], largest[BERTH__UNIT_BYTES];

	printf("photos of 1 MiB to %s out of %s, beside a heap that churns and %s\n",
	       berth__format_bytes(largest, (double)config->largest),
	       berth__format_bytes(size, (double)config->size),
	       config->sqlite ? "SQLite" : "a file that is read through a cache");
	printf("in turns, %.1f s\n\n", seconds);
	print_photos(config, results);
	printf("\n");
	print_sizes(config, results);
	printf("\n");
	print_load(config, results);
	print_notes(config, results);
	print_bars(config, results);
}

/* ---- JSON -------------------------------------------------------------------------------------- */

static void add_times(json_t *row, const char *name, struct berth__blocks us)
{
	static const char *const names[NR_PERCENTS] = { "p50", "p99", "p999", "max" };
	json_t *times = us.nr ? json_object() : json_null();

	for (size_t i = 0; i < NR_PERCENTS && us.nr; i++)
		berth__json_add(times, names[i], berth__block_percentile(&us, percents[i]));
	json_object_set_new(row, name, times);
	berth__blocks_free(&us);
}

static json_t *sizes_of(const struct berth__camera_config *config,
			const struct berth__camera_result *result)
{
	json_t *list = json_array();

	for (int i = 0; i < BERTH__CAMERA_NR_SIZES; i++) {
		enum berth__camera_sizes sizes = (enum berth__camera_sizes)i;
		json_t *row = json_object();

		berth__json_count(row, "most_bytes", berth__camera_size_limit(config, sizes));
		add_times(row, "whole_us",
			  berth__camera_times(config, result, sizes, BERTH__CAMERA_WHOLE));
		json_array_append_new(list, row);
	}
	return list;
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
	add_times(row, "whole_us",
		  berth__camera_times(config, result, BERTH__CAMERA_ALL, BERTH__CAMERA_WHOLE));
	add_times(row, "claim_us",
		  berth__camera_times(config, result, BERTH__CAMERA_ALL, BERTH__CAMERA_CLAIM));
	add_times(row, "waiting_us",
		  berth__camera_times(config, result, BERTH__CAMERA_ALL, BERTH__CAMERA_WAITING));
	json_object_set_new(row, "by_size", sizes_of(config, result));
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
	struct berth__camera_bar bars[BERTH__CAMERA_BARS];
	unsigned nr = berth__camera_bars(config, results, bars);
	json_t *list = json_array();

	for (unsigned i = 0; i < nr; i++) {
		json_t *bar = json_object();

		berth__json_string(bar, "name", bars[i].name);
		berth__json_string(bar, "unit", bars[i].unit);
		berth__json_add(bar, "figure", bars[i].figure);
		berth__json_add(bar, "limit", bars[i].limit);
		berth__json_add(bar, "low", bars[i].likely.low);
		berth__json_add(bar, "high", bars[i].likely.high);
		json_object_set_new(bar, "met", json_boolean(berth__camera_is_met(&bars[i])));
		json_object_set_new(bar, "sure", json_boolean(berth__camera_is_sure(&bars[i])));
		json_array_append_new(list, bar);
	}
	return list;
}

static json_t *ratio_of(const struct berth__camera_ratio *ratio, const char *what)
{
	json_t *row = json_object();

	berth__json_string(row, "what", what);
	berth__json_add(row, "figure", ratio->figure);
	berth__json_add(row, "low", ratio->likely.low);
	berth__json_add(row, "high", ratio->likely.high);
	return row;
}

/* GCMA's photos beside those of a reservation. */
static json_t *ratios_of(const struct berth__camera_config *config,
			 const struct berth__camera_result *results)
{
	static const char *const names[] = { "p99_small", "p99_medium", "p99_large", "p99" };
	const struct berth__camera_result *gcma = &results[BERTH__CAMERA_GCMA];
	const struct berth__camera_result *reserve = &results[BERTH__CAMERA_RESERVE];
	json_t *list = json_array();
	struct berth__camera_ratio ratio;

	if (!can_compare(results))
		return list;
	for (int i = 0; i <= BERTH__CAMERA_ALL; i++) {
		ratio = berth__camera_compare(config, gcma, reserve, (enum berth__camera_sizes)i,
					      BERTH__CAMERA_WHOLE, 99);
		json_array_append_new(list, ratio_of(&ratio, names[i]));
	}
	ratio = berth__camera_compare(config, gcma, reserve, BERTH__CAMERA_ALL, BERTH__CAMERA_CPU,
				      99);
	json_array_append_new(list, ratio_of(&ratio, "p99_cpu"));
	ratio = berth__camera_pairs(gcma, reserve);
	json_array_append_new(list, ratio_of(&ratio, "pairs_p50"));
	return list;
}

static void print_each(const struct berth__camera_result *result, int way)
{
	for (uint64_t i = 0; i < result->photos; i++) {
		const struct berth__camera_taken *photo = &result->taken[i];
		json_t *line = json_object();

		berth__json_string(line, "way", berth__camera_way_names[way]);
		berth__json_count(line, "photo", photo->number);
		berth__json_count(line, "bytes", photo->bytes);
		berth__json_add(line, "weight", photo->weight);
		berth__json_add(line, "whole_us", photo->whole_us);
		berth__json_add(line, "claim_us", photo->claim_us);
		berth__json_add(line, "write_us", photo->write_us);
		berth__json_add(line, "read_us", photo->read_us);
		berth__json_add(line, "cpu_us", photo->cpu_us);
		berth__json_count(line, "faults", photo->faults);
		berth__json_string(line, "error", photo->error ? berth_errname(photo->error) : "");
		berth__json_print(line);
	}
}

static void print_json(const struct berth__camera_config *config,
		       struct berth__camera_result *results, double seconds)
{
	json_t *line = json_object(), *rows = json_array();

	for (int i = 0; i < BERTH__CAMERA_NR_WAYS && config->each; i++)
		print_each(&results[i], i);
	berth__json_string(line, "bench", "camera");
	berth__json_count(line, "size_bytes", config->size);
	berth__json_count(line, "largest_photo_bytes", config->largest);
	berth__json_string(line, "background", config->sqlite ? "sqlite" : "store");
	berth__json_count(line, "seed", config->seed);
	berth__json_count(line, "nice", config->nice);
	berth__json_count(line, "cpus", config->nr_cpus);
	berth__json_add(line, "seconds", seconds);
	for (int i = 0; i < BERTH__CAMERA_NR_WAYS; i++)
		if (config->ways[i])
			json_array_append_new(rows, row_of(config, &results[i], i));
	json_object_set_new(line, "ways", rows);
	json_object_set_new(line, "gcma_by_reserve", ratios_of(config, results));
	json_object_set_new(line, "bars", bars_of(config, results));
	berth__json_print(line);
}

void berth__camera_print(const struct berth__camera_config *config,
			 struct berth__camera_result results[BERTH__CAMERA_NR_WAYS], double seconds)
{
	(config->json ? print_json : print_text)(config, results, seconds);
}
