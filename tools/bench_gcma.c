/* SPDX-License-Identifier: MIT */
/*
 * `berth bench claim --area-kind gcma|reserve`: claims that move nothing.
 *
 * With --fill discardable claims of a full area and of an empty one take turns. Before both the store is
 * filled with the same pages; for the empty one it then forgets them all. So the processor's caches have seen
 * the same, and only what is lent differs. With --writers threads put and get pages all the time instead, and
 * all claims are of an area that is full.
 *
 * I1  A page of the store holds its key's stamp in the first and the last word (with --verify in every
 *     word), and a page that a get returns is looked at: so nothing that was claimed, or is another
 *     page's, goes by as a hit.
 */
#define _GNU_SOURCE
#include "tools/bench_gcma.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <berth/berth.h>
#include <berth/store.h>

#include "runtime/internal.h"
#include "tools/fill.h"
#include "tools/json.h"
#include "tools/measure.h"
#include "tools/options.h"
#include "tools/units.h"

#define AREA "bench"
#define GROUP 1u
#define LEAST_PAUSE_NS 200000u /* between claims beside writers, and so much more by chance: */
#define PAUSES_NS 800000u
#define FULL_SHARE 0.95 /* what counts as full */

enum state { EMPTY, FULL, NR_STATES };
static const char *const state_names[NR_STATES] = { "empty", "full" };

/* What the claim's report calls its parts, as far as there are such ones here. */
#define NR_PHASES 4u
static const struct {
	enum berth_claim_phase phase;
	const char *name;
} phases[NR_PHASES] = {
	{ BERTH_PHASE_SEARCH, "search" },
	{ BERTH_PHASE_ISOLATE, "close" },
	{ BERTH_PHASE_DRAIN, "wait" },
	{ BERTH_PHASE_FINISH, "finish" },
};

struct times {
	struct berth__samples claim_us, cpu_us, touch_us, release_us;
	struct berth__samples phase_us[NR_PHASES]; /* of the claim */
};

struct bench {
	struct berth__gcma_bench config;
	struct berth_pool *pool;
	struct berth_store *store; /* NULL: a reservation */
	uint64_t nr_keys;          /* as many as the area has pages */
	double stored_share;       /* least, before claims that count as full */
	struct times times[NR_STATES];
	struct berth__samples idle_us; /* see idle_once() */
	double read_us, typical_us;    /* what a look at the clock costs; what a claim does */
	uint64_t waits, wait_ns, longest_wait_ns; /* for fillers */
	uint64_t puts, gets, hits;                /* of the writers */
	uint64_t page[BERTH__PAGE_WORDS];
	bool bad; /* something was wrong; it was said */
};

struct writer {
	struct bench *bench;
	uint64_t random, puts, gets, hits, wrong;
	uint64_t page[BERTH__PAGE_WORDS];
	_Atomic bool *stop;
	pthread_t thread;
};

static bool wrong(struct bench *bench, const char *what, int error)
{
	bench->bad = true;
	berth__complain(0, bench->config.command, "%s: %s (%s)", what, berth_strerror(error),
			berth_errname(error));
	return false;
}

static bool complain(struct bench *bench, const char *what)
{
	bench->bad = true;
	berth__complain(0, bench->config.command, "%s", what);
	return false;
}

/* ---- Pages of the store ------------------------------------------------------------------------ */

static uint64_t stamp(const struct bench *bench, uint64_t key, unsigned word)
{
	return berth__mix(bench->config.seed + key) + word;
}

/* The distance between words that are written and looked at. */
static unsigned stride(const struct bench *bench)
{
	return bench->config.verify ? 1 : BERTH__PAGE_WORDS - 1;
}

static int put(const struct bench *bench, uint64_t *page, uint64_t key)
{
	const struct berth_store_key at = { .group = GROUP, .item = key };

	for (unsigned word = 0; word < BERTH__PAGE_WORDS; word += stride(bench))
		page[word] = stamp(bench, key, word);
	return berth_store_put(bench->store, &at, page);
}

/* 0: it is there; *is_right: and is what was put. */
static int get(const struct bench *bench, uint64_t *page, uint64_t key, bool *is_right)
{
	const struct berth_store_key at = { .group = GROUP, .item = key };
	int error = berth_store_get(bench->store, &at, page);

	*is_right = true;
	for (unsigned word = 0; word < BERTH__PAGE_WORDS && !error; word += stride(bench))
		*is_right &= page[word] == stamp(bench, key, word);
	return error;
}

static bool fill(struct bench *bench)
{
	int error = 0;

	/* Without free frames a put takes another page's; nothing claims. */
	for (uint64_t key = 0; key < bench->nr_keys && !error; key++)
		error = put(bench, bench->page, key);
	return error ? wrong(bench, "a page can't be put", error) : true;
}

static bool look_at_all(struct bench *bench)
{
	bool is_right = true;

	for (uint64_t key = 0; key < bench->nr_keys && is_right; key++)
		if (get(bench, bench->page, key, &is_right) != 0)
			is_right = true;
	return is_right ? true : complain(bench, "the store returned a wrong page");
}

static bool note_fullness(struct bench *bench)
{
	struct berth_store_stats stats;
	double share;

	berth_store_stats(bench->store, &stats);
	share = (double)stats.stored_pages / (double)stats.nr_pages;
	if (share < bench->stored_share)
		bench->stored_share = share;
	return share >= FULL_SHARE ? true : complain(bench, "the area can't be filled");
}

static bool prepare(struct bench *bench, enum state state)
{
	if (!bench->config.full)
		return true;
	if (!fill(bench))
		return false;
	if (state == FULL)
		return note_fullness(bench);
	berth_store_drop_group(bench->store, GROUP);
	return true;
}

/* ---- Writers ----------------------------------------------------------------------------------- */

static void *put_and_get(void *arg)
{
	struct writer *writer = arg;
	const struct bench *bench = writer->bench;

	while (!atomic_load_explicit(writer->stop, memory_order_relaxed)) {
		uint64_t number = berth__random(&writer->random);
		uint64_t key = (number >> 1) % bench->nr_keys;
		bool is_right, hit = false;

		if (number & 1) {
			hit = get(bench, writer->page, key, &is_right) == 0;
			writer->gets++;
			writer->hits += hit;
			writer->wrong += !is_right;
		}
		if (!hit && put(bench, writer->page, key) == 0)
			writer->puts++;
	}
	return NULL;
}

/* Starts them. NULL: it can't be. */
static struct writer *start_writers(struct bench *bench, _Atomic bool *stop)
{
	struct writer *writers = calloc(bench->config.writers, sizeof(*writers));
	unsigned nr = 0;

	for (; writers && nr < bench->config.writers; nr++) {
		writers[nr].bench = bench;
		writers[nr].random = bench->config.seed + nr;
		writers[nr].stop = stop;
		if (pthread_create(&writers[nr].thread, NULL, put_and_get, &writers[nr]) != 0)
			break;
	}
	if (writers && nr == bench->config.writers)
		return writers;
	atomic_store(stop, true);
	while (nr--)
		pthread_join(writers[nr].thread, NULL);
	free(writers);
	wrong(bench, "writers can't be started", -BERTH_ENOMEM);
	return NULL;
}

static bool stop_writers(struct bench *bench, struct writer *writers, _Atomic bool *stop)
{
	uint64_t nr_wrong = 0;

	atomic_store(stop, true);
	for (unsigned i = 0; i < bench->config.writers; i++) {
		pthread_join(writers[i].thread, NULL);
		bench->puts += writers[i].puts;
		bench->gets += writers[i].gets;
		bench->hits += writers[i].hits;
		nr_wrong += writers[i].wrong;
	}
	free(writers);
	return nr_wrong ? complain(bench, "the store returned a wrong page to a writer") : true;
}

/* ---- The machine -------------------------------------------------------------------------------- */

#define READS 1000u
#define CALIBRATIONS 50u
#define NUDGE 0.05

static double read_clock(uint64_t times)
{
	const uint64_t began = berth__clock_ns(CLOCK_MONOTONIC);
	uint64_t now = began;

	while (times--)
		now = berth__clock_ns(CLOCK_MONOTONIC);
	return (double)(now - began) / 1000;
}

static void calibrate(struct bench *bench)
{
	for (unsigned i = 0; i < CALIBRATIONS; i++) {
		double us = read_clock(READS) / READS;

		if (!i || us < bench->read_us)
			bench->read_us = us;
	}
}

/*
 * How long does the machine take for as much work as a claim is, of a kind that needs no memory? What is longer than usual was
 * interrupted: a timer, the hypervisor, another thread. So much of a claim's tail isn't the claim's.
 */
static void idle_once(struct bench *bench)
{
	if (bench->typical_us > 0 && bench->read_us > 0)
		berth__sample_add(&bench->idle_us,
				  read_clock((uint64_t)(bench->typical_us / bench->read_us) + 1));
}

/* Follows the median: as many claims are longer as are shorter. */
static void note_typical(struct bench *bench, double claim_us)
{
	if (bench->typical_us <= 0)
		bench->typical_us = claim_us;
	else
		bench->typical_us *= claim_us > bench->typical_us ? 1 + NUDGE : 1 - NUDGE;
}

/* ---- Claims ------------------------------------------------------------------------------------ */

/* With --verify: nobody has written to the buffer since it was claimed. */
static bool is_intact(const struct bench *bench, const struct berth_buffer *buffer)
{
	const char *at = buffer->address;

	return !bench->config.verify || (*at == 0x5a && memcmp(at, at + 1, buffer->bytes - 1) == 0);
}

static bool claim_once(struct bench *bench, struct times *times)
{
	struct berth_claim_report report;
	struct berth_buffer buffer;
	double claim_us, cpu_us, touch_us;
	uint64_t cpu, began;
	bool intact;
	int error;

	if (times)
		idle_once(bench);
	cpu = berth__clock_ns(CLOCK_THREAD_CPUTIME_ID);
	began = berth__clock_ns(CLOCK_MONOTONIC);
	error = berth_claim(bench->pool, AREA, bench->config.size, NULL, &buffer, &report);
	claim_us = berth__us_since(CLOCK_MONOTONIC, began);
	cpu_us = berth__us_since(CLOCK_THREAD_CPUTIME_ID, cpu);
	if (error)
		return wrong(bench, "a claim failed that shouldn't", error);
	touch_us = berth__touch_us(buffer.address, buffer.bytes, bench->config.verify);
	intact = is_intact(bench, &buffer);
	began = berth__clock_ns(CLOCK_MONOTONIC);
	error = berth_release(bench->pool, &buffer);
	if (error)
		return wrong(bench, "a claim can't be released", error);
	if (times) {
		berth__sample_add(&times->release_us, berth__us_since(CLOCK_MONOTONIC, began));
		berth__sample_add(&times->claim_us, claim_us);
		berth__sample_add(&times->cpu_us, cpu_us);
		berth__sample_add(&times->touch_us, touch_us);
		for (unsigned i = 0; i < NR_PHASES; i++)
			berth__sample_add(&times->phase_us[i],
					  (double)report.phase_ns[phases[i].phase] / 1000);
	}
	note_typical(bench, claim_us);
	return intact ? true : complain(bench, "somebody has written to a claimed buffer");
}

/* What each state's claims are; the first ones warm up. */
static bool claim_all(struct bench *bench)
{
	const uint64_t count = bench->config.count;

	for (uint64_t i = 0; i <= count && !berth__interrupted(); i++) {
		for (int state = EMPTY; state <= (bench->config.full ? FULL : EMPTY); state++)
			if (!prepare(bench, (enum state)state) ||
			    !claim_once(bench, i ? &bench->times[state] : NULL) ||
			    (bench->config.verify && bench->store && !look_at_all(bench)))
				return false;
		berth__progress(bench->config.command, i, count);
	}
	return true;
}

/* Beside writers, at moments that they don't know. */
static bool claim_beside_writers(struct bench *bench)
{
	_Atomic bool stop = false;
	uint64_t random = bench->config.seed;
	struct writer *writers;
	bool good;

	if (!fill(bench) || !note_fullness(bench))
		return false;
	writers = start_writers(bench, &stop);
	good = writers;
	for (uint64_t i = 0; i <= bench->config.count && good && !berth__interrupted(); i++) {
		const struct timespec pause = {
			.tv_nsec = LEAST_PAUSE_NS + (long)(berth__random(&random) % PAUSES_NS)
		};

		nanosleep(&pause, NULL);
		good = claim_once(bench, i ? &bench->times[FULL] : NULL);
		berth__progress(bench->config.command, i, bench->config.count);
	}
	if (writers)
		good &= stop_writers(bench, writers, &stop);
	return good;
}

/* ---- Bars -------------------------------------------------------------------------------------- */

struct bar {
	const char *name, *unit;
	double figure, limit;
};
#define MOST_BARS 3u

/* What Berth is held to at this size; returns how many. */
static unsigned find_bars(struct bench *bench, struct bar bars[MOST_BARS])
{
	const struct berth__gcma_bench *config = &bench->config;
	const bool small = config->size <= (uint64_t)64 << 20;
	struct berth__samples *full = &bench->times[FULL].claim_us;
	double p50 = berth__percentile(full, 50);
	unsigned nr = 0;

	if (!config->full || config->size > (uint64_t)1 << 30)
		return 0;
	if (config->writers) {
		if (config->writers == 2 && small)
			bars[nr++] = (struct bar){ "p50 beside two writers", "us", p50, 30 };
		return nr;
	}
	bars[nr++] = (struct bar){ "p50, full", "us", p50, small ? 10 : 100 };
	if (small)
		bars[nr++] = (struct bar){ "p99.9, full", "us", berth__percentile(full, 99.9), 50 };
	bars[nr++] = (struct bar){ "p50, full / empty", "x",
				   p50 / berth__percentile(&bench->times[EMPTY].claim_us, 50),
				   1.3 };
	return nr;
}

/* ---- Printing ---------------------------------------------------------------------------------- */

static void print_cell(double us)
{
	char text[BERTH__UNIT_BYTES];

	printf(" %9s", berth__format_ns(text, us * 1000));
}

static void print_title(const struct bench *bench)
{
	const struct berth__gcma_bench *config = &bench->config;
	char size[BERTH__UNIT_BYTES], area[BERTH__UNIT_BYTES];

	printf("%llu claims of %s out of an area of %s, ", (unsigned long long)config->count,
	       berth__format_bytes(size, (double)config->size),
	       berth__format_bytes(area, (double)config->area));
	if (!config->lends)
		printf("reserved\n");
	else if (!config->full)
		printf("which lends what can be dropped, and is empty\n");
	else
		printf("which lends what can be dropped\n%.1f %% of it lent when it is full%s\n",
		       100 * bench->stored_share,
		       config->writers ? ", before the writers began" : "");
}

/* The machine's own times, in the columns of the claims'. */
static void print_idle(struct bench *bench)
{
	if (!bench->idle_us.nr)
		return;
	printf("  %-8s", "idle");
	print_cell(berth__sample_min(&bench->idle_us));
	print_cell(berth__percentile(&bench->idle_us, 50));
	print_cell(berth__percentile(&bench->idle_us, 99));
	print_cell(berth__percentile(&bench->idle_us, 99.9));
	print_cell(berth__sample_max(&bench->idle_us));
	printf("   as much work without memory\n");
}

static void print_phases(struct times *times, const char *name)
{
	if (!times->claim_us.nr)
		return;
	printf("  %-8s of which", name);
	for (unsigned i = 0; i < NR_PHASES; i++) {
		char text[BERTH__UNIT_BYTES];

		printf("%s %s %s", i ? "," : "", phases[i].name,
		       berth__format_ns(text, berth__percentile(&times->phase_us[i], 50) * 1000));
	}
	printf("\n");
}

static void print_text(struct bench *bench)
{
	struct bar bars[MOST_BARS];
	unsigned nr_bars = find_bars(bench, bars);
	char wait[BERTH__UNIT_BYTES], longest[BERTH__UNIT_BYTES];

	print_title(bench);
	printf("  %-8s %9s %9s %9s %9s %9s %9s %9s %9s\n", "", "min", "p50", "p99", "p99.9", "max",
	       "CPU", "touch", "release");
	for (int state = EMPTY; state < NR_STATES; state++) {
		struct times *times = &bench->times[state];

		if (!times->claim_us.nr)
			continue;
		printf("  %-8s", state_names[state]);
		print_cell(berth__sample_min(&times->claim_us));
		print_cell(berth__percentile(&times->claim_us, 50));
		print_cell(berth__percentile(&times->claim_us, 99));
		print_cell(berth__percentile(&times->claim_us, 99.9));
		print_cell(berth__sample_max(&times->claim_us));
		print_cell(berth__percentile(&times->cpu_us, 50));
		print_cell(berth__percentile(&times->touch_us, 50));
		print_cell(berth__percentile(&times->release_us, 50));
		printf("\n");
	}
	print_idle(bench);
	for (int state = EMPTY; state < NR_STATES; state++)
		print_phases(&bench->times[state], state_names[state]);
	if (bench->config.writers)
		printf("  writers  %llu puts and %llu gets, %.1f %% of them hits\n",
		       (unsigned long long)bench->puts, (unsigned long long)bench->gets,
		       bench->gets ? 100 * (double)bench->hits / (double)bench->gets : 0);
	if (bench->waits)
		printf("  waits    %llu claims met a writer inside a page's copy and waited %s on "
		       "average, %s at most\n",
		       (unsigned long long)bench->waits,
		       berth__format_ns(wait, (double)bench->wait_ns / (double)bench->waits),
		       berth__format_ns(longest, (double)bench->longest_wait_ns));
	for (unsigned i = 0; i < nr_bars; i++)
		printf("  %-24s %7.2f %s, at most %g  %s\n", bars[i].name, bars[i].figure,
		       bars[i].unit, bars[i].limit,
		       bars[i].figure <= bars[i].limit ? "met" : "missed");
}

static json_t *phases_of(struct times *times)
{
	json_t *row = json_object();

	for (unsigned i = 0; i < NR_PHASES; i++)
		berth__json_add(row, phases[i].name, berth__percentile(&times->phase_us[i], 50));
	return row;
}

static json_t *idle_of(struct bench *bench)
{
	json_t *row = json_object();

	berth__json_add(row, "min_us", berth__sample_min(&bench->idle_us));
	berth__json_add(row, "p50_us", berth__percentile(&bench->idle_us, 50));
	berth__json_add(row, "p99_us", berth__percentile(&bench->idle_us, 99));
	berth__json_add(row, "p999_us", berth__percentile(&bench->idle_us, 99.9));
	berth__json_add(row, "max_us", berth__sample_max(&bench->idle_us));
	return row;
}

static json_t *times_of(struct times *times)
{
	json_t *row;

	if (!times->claim_us.nr)
		return json_null();
	row = json_object();
	berth__json_add(row, "min_us", berth__sample_min(&times->claim_us));
	berth__json_add(row, "p50_us", berth__percentile(&times->claim_us, 50));
	berth__json_add(row, "p99_us", berth__percentile(&times->claim_us, 99));
	berth__json_add(row, "p999_us", berth__percentile(&times->claim_us, 99.9));
	berth__json_add(row, "max_us", berth__sample_max(&times->claim_us));
	berth__json_add(row, "cpu_us", berth__percentile(&times->cpu_us, 50));
	berth__json_add(row, "touch_us", berth__percentile(&times->touch_us, 50));
	berth__json_add(row, "release_us", berth__percentile(&times->release_us, 50));
	json_object_set_new(row, "phases_us", phases_of(times));
	return row;
}

static json_t *bars_of(struct bench *bench)
{
	struct bar bars[MOST_BARS];
	unsigned nr = find_bars(bench, bars);
	json_t *list = json_array();

	for (unsigned i = 0; i < nr; i++) {
		json_t *bar = json_object();

		berth__json_string(bar, "name", bars[i].name);
		berth__json_string(bar, "unit", bars[i].unit);
		berth__json_add(bar, "figure", bars[i].figure);
		berth__json_add(bar, "limit", bars[i].limit);
		json_object_set_new(bar, "met", json_boolean(bars[i].figure <= bars[i].limit));
		json_array_append_new(list, bar);
	}
	return list;
}

static void print_json(struct bench *bench)
{
	const struct berth__gcma_bench *config = &bench->config;
	json_t *line = json_object();

	berth__json_string(line, "bench", "claim");
	berth__json_string(line, "area_kind", config->lends ? "gcma" : "reserve");
	berth__json_string(line, "fill", config->full ? "discardable" : "empty");
	berth__json_count(line, "size_bytes", config->size);
	berth__json_count(line, "area_bytes", config->area);
	berth__json_count(line, "count", config->count);
	berth__json_count(line, "writers", config->writers);
	json_object_set_new(line, "verify", json_boolean(config->verify));
	berth__json_count(line, "seed", config->seed);
	if (config->full)
		berth__json_add(line, "stored_share", bench->stored_share);
	for (int state = EMPTY; state < NR_STATES; state++)
		json_object_set_new(line, state_names[state], times_of(&bench->times[state]));
	json_object_set_new(line, "idle", idle_of(bench));
	if (config->lends) {
		berth__json_count(line, "waits", bench->waits);
		berth__json_count(line, "wait_ns", bench->wait_ns);
		berth__json_count(line, "longest_wait_ns", bench->longest_wait_ns);
	}
	if (config->writers) {
		berth__json_count(line, "puts", bench->puts);
		berth__json_count(line, "gets", bench->gets);
		berth__json_count(line, "hits", bench->hits);
	}
	json_object_set_new(line, "bars", bars_of(bench));
	berth__json_print(line);
}

/* ---- Running ----------------------------------------------------------------------------------- */

static bool has_memory(struct bench *bench)
{
	uint64_t need = bench->config.area + bench->config.area / 32 + ((uint64_t)64 << 20);

	if (berth__has_memory(bench->config.command, need, "--size or --area-size"))
		return true;
	bench->bad = true;
	return false;
}

static bool open_pool(struct bench *bench)
{
	char areas[96];
	const struct berth_pool_params params = { .bytes = bench->config.area, .config = areas };
	int error;

	if (!has_memory(bench))
		return false;
	snprintf(areas, sizeof(areas), "areas=" AREA ":%llu,policy=%s",
		 (unsigned long long)bench->config.area, bench->config.lends ? "gcma" : "reserve");
	error = berth_pool_open(&params, &bench->pool);
	if (error)
		return wrong(bench, "the pool can't be opened", error);
	bench->nr_keys = bench->config.area >> BERTH_PAGE_SHIFT;
	if (!bench->config.lends)
		return true;
	error = berth_pool_store(bench->pool, AREA, &bench->store);
	return error ? wrong(bench, "the area has no store", error) : true;
}

static bool check(struct bench *bench)
{
	struct berth_violation violation;

	if (!bench->config.verify || berth_pool_check(bench->pool, &violation))
		return true;
	bench->bad = true;
	berth__complain(0, bench->config.command,
			"an invariant is broken: %s (at %llu: %llu, expected %llu)", violation.what,
			(unsigned long long)violation.where, (unsigned long long)violation.value,
			(unsigned long long)violation.expected);
	return false;
}

/* What the area knows about fillers that were waited for. */
static void read_waits(struct bench *bench)
{
	struct berth_pool_impl *pool = berth__enter(bench->pool);
	struct berth_gcma_stats stats;

	if (!pool)
		return;
	berth_gcma_stats(berth_contig_area_gcma(berth__pool_area(pool, AREA)->area), &stats);
	berth__leave(bench->pool);
	bench->waits = stats.filler_waits;
	bench->wait_ns = stats.filler_wait_ns;
	bench->longest_wait_ns = stats.longest_wait_ns;
}

static void close_pool(struct bench *bench)
{
	int error = bench->pool ? berth_pool_close(bench->pool) : 0;

	if (error && !bench->bad)
		wrong(bench, "the pool can't be closed", error);
	berth__samples_free(&bench->idle_us);
	for (int state = EMPTY; state < NR_STATES; state++) {
		berth__samples_free(&bench->times[state].claim_us);
		berth__samples_free(&bench->times[state].cpu_us);
		berth__samples_free(&bench->times[state].touch_us);
		berth__samples_free(&bench->times[state].release_us);
		for (unsigned i = 0; i < NR_PHASES; i++)
			berth__samples_free(&bench->times[state].phase_us[i]);
	}
}

int berth__bench_gcma(const struct berth__gcma_bench *config)
{
	static struct bench bench;
	bool good;

	bench = (struct bench){ .config = *config, .stored_share = 1 };
	berth__catch_interrupts();
	calibrate(&bench);
	good = open_pool(&bench) &&
	       (config->writers ? claim_beside_writers(&bench) : claim_all(&bench)) &&
	       check(&bench);
	berth__progress_end();
	if (good && config->lends)
		read_waits(&bench);
	if (good && !berth__interrupted())
		(config->json ? print_json : print_text)(&bench);
	close_pool(&bench);
	if (berth__interrupted())
		return berth__interrupted_code();
	return bench.bad ? BERTH__EXIT_FAILED : 0;
}
