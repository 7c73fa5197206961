/* SPDX-License-Identifier: MIT */
/*
 * What `berth bench sqlite` prints.
 */
#include "tools/bench_sqlite.h"

#include <stdio.h>
#include <string.h>

#include "tools/blocks.h"
#include "tools/json.h"
#include "tools/measure.h"
#include "tools/units.h"

static const char *const phase_names[BERTH__SQLITE_NR_PHASES] = { "query", "scan" };

static double median(const struct berth__sqlite_result *result, enum berth__sqlite_way way)
{
	struct berth__samples samples = { .nr = 0 };
	double ns;

	for (uint64_t round = 0; round < result->rounds; round++)
		berth__sample_add(&samples, result->ns[way][round]);
	ns = berth__percentile(&samples, 50);
	berth__samples_free(&samples);
	return ns;
}

/* How many times as long it takes when pages are lent. */
struct ratio {
	double figure;
	struct berth__interval likely;
};

static struct ratio ratio_to(const struct berth__sqlite_result *result, enum berth__sqlite_way way)
{
	struct berth__blocks ratios = { .nr = 0 };
	struct ratio ratio;

	for (uint32_t round = 0; round < result->rounds; round++)
		berth__block_add(&ratios,
				 result->ns[BERTH__SQLITE_LENT][round] / result->ns[way][round], 1,
				 round);
	ratio.figure = berth__block_percentile(&ratios, 50);
	ratio.likely = berth__ratio_interval(&ratios, NULL, 50);
	berth__blocks_free(&ratios);
	return ratio;
}

/* ---- Bars -------------------------------------------------------------------------------------- */

struct bar {
	const char *name;
	struct ratio ratio;
	double limit;
};
#define MOST_BARS 3u

/* What Berth is held to: much better than the default is 0.95 of its time. */
static unsigned find_bars(const struct berth__sqlite_result results[BERTH__SQLITE_NR_PHASES],
			  struct bar bars[MOST_BARS])
{
	const struct berth__sqlite_result *query = &results[BERTH__SQLITE_QUERY];
	const struct berth__sqlite_result *scan = &results[BERTH__SQLITE_SCAN];
	unsigned nr = 0;

	if (query->rounds) {
		bars[nr++] = (struct bar){ "query, lent / same memory",
					   ratio_to(query, BERTH__SQLITE_SAME), 1.1 };
		bars[nr++] = (struct bar){ "query, lent / default cache",
					   ratio_to(query, BERTH__SQLITE_DEFAULT), 0.95 };
	}
	if (scan->rounds)
		bars[nr++] = (struct bar){ "scan, lent / default cache",
					   ratio_to(scan, BERTH__SQLITE_DEFAULT), 1 };
	return nr;
}

static bool is_met(const struct bar *bar)
{
	return bar->ratio.figure <= bar->limit;
}

static bool is_sure(const struct bar *bar)
{
	return is_met(bar) ? bar->ratio.likely.high <= bar->limit :
			     bar->ratio.likely.low > bar->limit;
}

static const char *verdict(const struct bar *bar)
{
	if (!is_sure(bar))
		return is_met(bar) ? "not surely met" : "not surely missed";
	return is_met(bar) ? "met" : "missed";
}

/* ---- Text -------------------------------------------------------------------------------------- */

static double count_of(const json_t *pages, const char *name)
{
	return (double)json_integer_value(json_object_get(pages, name));
}

static void print_pages(const struct berth__sqlite_result *result, const char *name)
{
	double front = count_of(result->pages, "front_hits");
	double store = count_of(result->pages, "store_hits");
	double all = front + store + count_of(result->pages, "misses");

	if (all <= 0)
		return;
	printf("%-8s of the pages %.1f %% in the front tier, %.1f %% in lent memory; %.0f copied there\n",
	       name, 100 * front / all, 100 * store / all, count_of(result->pages, "puts"));
}

static void print_text(const struct berth__sqlite_config *config,
		       const struct berth__sqlite_result results[BERTH__SQLITE_NR_PHASES])
{
	char database[BERTH__UNIT_BYTES], lent[BERTH__UNIT_BYTES], front[BERTH__UNIT_BYTES];
	struct bar bars[MOST_BARS];
	unsigned nr_bars = find_bars(results, bars);

	printf("SQLite over a database of %s, %s of it in lent memory behind %s of its own\n",
	       berth__format_bytes(database, (double)config->database),
	       berth__format_bytes(lent, (double)config->lent),
	       berth__format_bytes(front, (double)config->front));
	printf("%llu rounds of %llu random rows (Zipf 1.0) after %llu, and %llu scans\n\n",
	       (unsigned long long)config->rounds[BERTH__SQLITE_QUERY],
	       (unsigned long long)config->queries, (unsigned long long)config->warm_up,
	       (unsigned long long)config->rounds[BERTH__SQLITE_SCAN]);
	printf("%-8s %12s %12s %14s   medians\n", "", "lent", "same memory", "default cache");
	for (int phase = 0; phase < BERTH__SQLITE_NR_PHASES; phase++) {
		char texts[BERTH__SQLITE_NR_WAYS][BERTH__UNIT_BYTES];

		if (!results[phase].rounds)
			continue;
		for (int way = 0; way < BERTH__SQLITE_NR_WAYS; way++)
			berth__format_ns(texts[way],
					 median(&results[phase], (enum berth__sqlite_way)way));
		printf("%-8s %12s %12s %14s\n", phase_names[phase], texts[BERTH__SQLITE_LENT],
		       texts[BERTH__SQLITE_SAME], texts[BERTH__SQLITE_DEFAULT]);
	}
	for (int phase = 0; phase < BERTH__SQLITE_NR_PHASES; phase++)
		print_pages(&results[phase], phase_names[phase]);
	printf("\n");
	for (unsigned i = 0; i < nr_bars; i++)
		printf("%s: %.3f (%.3f to %.3f), at most %g  %s\n", bars[i].name,
		       bars[i].ratio.figure, bars[i].ratio.likely.low, bars[i].ratio.likely.high,
		       bars[i].limit, verdict(&bars[i]));
}

/* ---- JSON -------------------------------------------------------------------------------------- */

static json_t *rounds_of(const struct berth__sqlite_result *result, enum berth__sqlite_way way)
{
	json_t *list = json_array();

	for (uint64_t round = 0; round < result->rounds; round++)
		json_array_append_new(list, json_real(result->ns[way][round]));
	return list;
}

static json_t *row_of(const struct berth__sqlite_result *result, const char *name)
{
	static const char *const names[BERTH__SQLITE_NR_WAYS] = { "lent", "same_memory",
								  "default_cache" };
	json_t *row = json_object(), *rounds = json_object();

	berth__json_string(row, "what", name);
	berth__json_string(row, "unit", "ns");
	for (int way = 0; way < BERTH__SQLITE_NR_WAYS; way++) {
		berth__json_add(row, names[way], median(result, (enum berth__sqlite_way)way));
		json_object_set_new(rounds, names[way],
				    rounds_of(result, (enum berth__sqlite_way)way));
	}
	berth__json_add(row, "time_by_same_memory", ratio_to(result, BERTH__SQLITE_SAME).figure);
	berth__json_add(row, "time_by_default", ratio_to(result, BERTH__SQLITE_DEFAULT).figure);
	json_object_set_new(row, "rounds", rounds);
	json_object_set_new(row, "pages", result->pages ? json_incref(result->pages) : json_null());
	return row;
}

static json_t *bars_of(const struct berth__sqlite_result results[BERTH__SQLITE_NR_PHASES])
{
	struct bar bars[MOST_BARS];
	unsigned nr = find_bars(results, bars);
	json_t *list = json_array();

	for (unsigned i = 0; i < nr; i++) {
		json_t *bar = json_object();

		berth__json_string(bar, "name", bars[i].name);
		berth__json_string(bar, "unit", "times");
		berth__json_add(bar, "figure", bars[i].ratio.figure);
		berth__json_add(bar, "limit", bars[i].limit);
		berth__json_add(bar, "low", bars[i].ratio.likely.low);
		berth__json_add(bar, "high", bars[i].ratio.likely.high);
		json_object_set_new(bar, "met", json_boolean(is_met(&bars[i])));
		json_object_set_new(bar, "sure", json_boolean(is_sure(&bars[i])));
		json_array_append_new(list, bar);
	}
	return list;
}

static void print_json(const struct berth__sqlite_config *config,
		       const struct berth__sqlite_result results[BERTH__SQLITE_NR_PHASES])
{
	json_t *line = json_object(), *rows = json_array();

	berth__json_string(line, "bench", "sqlite");
	berth__json_count(line, "database_bytes", config->database);
	berth__json_count(line, "lent_bytes", config->lent);
	berth__json_count(line, "front_bytes", config->front);
	berth__json_count(line, "warm_up", config->warm_up);
	berth__json_count(line, "queries", config->queries);
	berth__json_count(line, "seed", config->seed);
	for (int phase = 0; phase < BERTH__SQLITE_NR_PHASES; phase++)
		if (results[phase].rounds)
			json_array_append_new(rows, row_of(&results[phase], phase_names[phase]));
	json_object_set_new(line, "rows", rows);
	json_object_set_new(line, "bars", bars_of(results));
	berth__json_print(line);
}

void berth__sqlite_print(const struct berth__sqlite_config *config,
			 const struct berth__sqlite_result results[BERTH__SQLITE_NR_PHASES])
{
	(config->json ? print_json : print_text)(config, results);
}
