/* SPDX-License-Identifier: MIT */
/*
 * `berth bench pages`: the core's page allocator alone, beside an array used as a stack of frame
 * numbers and allocators of others. This file is the command; without --order and --pattern it
 * leaves the whole table to bench_pages_table.c, with them it measures one cell.
 *
 * Figures are medians of several rounds, in ns for an operation of a thread: of its CPU time when it is
 * alone, of time by the clock when there are several.
 */
#define _GNU_SOURCE
#include "tools/bench_pages.h"

#include <stdlib.h>
#include <string.h>

#include <berth/types.h>

#include "tools/options.h"
#include "tools/units.h"

#define COMMAND BERTH__PAGES_COMMAND
#define MAX_ORDER 20u

static const char help[] =
	"usage: berth bench pages [OPTIONS]\n"
	"       berth bench pages --order K --pattern bulk|repeat|rand [OPTIONS]\n"
	"\n"
	"How long it takes to allocate and free blocks of pages, without touching them. All allocators\n"
	"are measured in turns, in one run, and get the same requests:\n"
	"\n"
	"  stack      a plain array used as a stack of frame numbers: the least that is possible\n"
	"  touch      no allocator: for each operation it changes all words of an entry of an array that\n"
	"             is as large as the metadata of Berth's frames, the entry of the frame that the\n"
	"             pattern names. That is what the memory takes for its part in the random pattern\n"
	"  berth      Berth's core\n"
	"  jemalloc, mimalloc\n"
	"             as Debian has them (packages libjemalloc2, libmimalloc2.0), asked for blocks aligned\n"
	"             to their size; left out, with a word, where they aren't installed\n"
	"\n"
	"The table's columns: pages in bulk; one page allocated and freed again and again (the pair);\n"
	"pages freed and allocated in random order; blocks of 2 MiB (order 9) in bulk; pages in bulk by\n"
	"two threads; bytes of metadata a page. Below it stands what Berth is held to, and whether this\n"
	"run met it. \"-\": not possible, or not told.\n"
	"\n"
	"  --order K         one cell alone: blocks of 2^K pages, 0 to 20\n"
	"  --pattern bulk    allocate all blocks, then free them in the same order\n"
	"  --pattern repeat  allocate one, free it\n"
	"  --pattern rand    free all in random order, allocate all into random places\n"
	"  --allocator NAME  only this one (a cell alone: berth), of the names above\n"
	"  --threads T       of a cell (1), sharing the blocks; of the table's last column (2). The\n"
	"                    stack gets a spinlock\n"
	"  --memory SIZE     the pages' size altogether (4G; nothing is behind them, but with mimalloc,\n"
	"                    which writes to free blocks)\n"
	"  --rounds N        of which the figures are medians (7); those of others of 3 at most\n"
	"  --seed N          of the random order (1)\n"
	"  --json            one JSON object. The table: rows (allocator; bulk, repeat, random, order9,\n"
	"                    threads with alloc_ns, free_ns, pair_ns; metadata_bytes_per_frame) and bars\n"
	"                    (name, figure, limit, met). A cell: alloc_ns, free_ns, pair_ns (both\n"
	"                    together), stack_ns (of one operation of the array), factor ((alloc + free)\n"
	"                    / 2 / stack), for rand touch_ns and touch_factor likewise\n"
	"\n"
	"Times are a thread's CPU time for an operation; with several threads, which stay on a CPU each,\n"
	"time by the clock, which wants as many idle CPUs; their bar is the median of the rounds' ratios\n"
	"to the same threads on the same CPUs, one after the other.\n"
	"After the measurement all of Berth's blocks are allocated once more, and it's checked that\n"
	"they don't overlap and that every invariant of the allocator holds.\n"
	"\n"
	"examples:\n"
	"  berth bench pages\n"
	"  berth bench pages --order 0 --pattern rand --threads 2\n"
	"\n"
	"exit codes: 0 done, 1 a check failed or there is no memory, 2 a mistake in the command line,\n"
	"130 interrupted.\n";

/* ---- Printing a cell -------------------------------------------------------------------------- */

struct result {
	const char *label;
	double alloc_ns, free_ns, pair_ns, stack_ns, factor, touch_ns, touch_factor, metadata_bytes;
};

static void print_json(const struct berth__pages_config *config, const struct berth__pages *bench,
		       const struct result *result)
{
	json_t *line = json_pack("{ss, ss, sI, ss, sI, sI, sI}", "bench", "pages", "allocator",
				 berth__row_names[config->row], "order", (json_int_t)config->order,
				 "pattern", berth__pattern_names[config->pattern], "threads",
				 (json_int_t)config->threads, "count", (json_int_t)bench->nr_blocks,
				 "rounds", (json_int_t)config->rounds);

	if (config->pattern != BERTH__REPEAT) {
		berth__json_add(line, "alloc_ns", result->alloc_ns);
		berth__json_add(line, "free_ns", result->free_ns);
	} else {
		json_object_set_new(line, "alloc_ns", json_null());
		json_object_set_new(line, "free_ns", json_null());
	}
	berth__json_add(line, "pair_ns", result->pair_ns);
	berth__json_add(line, "stack_ns", result->stack_ns);
	berth__json_add(line, "factor", result->factor);
	if (config->pattern == BERTH__RAND) {
		berth__json_add(line, "touch_ns", result->touch_ns);
		berth__json_add(line, "touch_factor", result->touch_factor);
	}
	if (result->metadata_bytes > 0)
		berth__json_add(line, "metadata_bytes_per_frame", result->metadata_bytes);
	else
		json_object_set_new(line, "metadata_bytes_per_frame", json_null());
	json_object_set_new(line, "memory_bytes", json_integer((json_int_t)config->memory_bytes));
	json_object_set_new(line, "seed", json_integer((json_int_t)config->seed));
	berth__json_print(line);
}

static void print_text(const struct berth__pages_config *config, const struct berth__pages *bench,
		       const struct result *result)
{
	char size[BERTH__UNIT_BYTES];

	printf("%s: %u blocks of %s, pattern %s, %llu thread%s, median of %llu rounds\n",
	       result->label, bench->nr_blocks,
	       berth__format_bytes(size, (double)((uint64_t)BERTH_PAGE_SIZE << config->order)),
	       berth__pattern_names[config->pattern], (unsigned long long)config->threads,
	       config->threads > 1 ? "s" : "", (unsigned long long)config->rounds);
	if (config->pattern != BERTH__REPEAT)
		printf("  allocate  %8.1f ns\n  free      %8.1f ns\n", result->alloc_ns,
		       result->free_ns);
	printf("  both      %8.1f ns\n", result->pair_ns);
	printf("  stack     %8.1f ns an operation of a plain array used as a stack%s\n",
	       result->stack_ns, config->threads > 1 ? ", under a spinlock" : "");
	printf("  factor    %8.2f times the stack\n", result->factor);
	if (config->pattern == BERTH__RAND)
		printf("  touch     %8.1f ns to change a frame's metadata\n"
		       "  factor    %8.2f times touching\n",
		       result->touch_ns, result->touch_factor);
	if (result->metadata_bytes > 0)
		printf("  metadata  %8.1f bytes a page\n", result->metadata_bytes);
	if (config->row == BERTH__ROW_BERTH)
		printf("checked: no two blocks overlap, all invariants hold\n");
}

/* ---- Measuring a cell -------------------------------------------------------------------------- */

static bool run_rounds(const struct berth__pages_config *config, struct berth__pages *bench,
		       const struct berth__peer *peer,
		       struct berth__pages_figures figures[BERTH__NR_ROWS])
{
	bool good = true;

	/* A round of each warms all up; then they take turns. */
	for (uint64_t round = 0; round <= config->rounds && good && !berth__interrupted();
	     round++) {
		berth__progress(COMMAND, round, config->rounds);
		for (int row = 0; row < BERTH__NR_ROWS && good; row++) {
			bool wanted = row == config->row || row == BERTH__ROW_STACK ||
				      (row == BERTH__ROW_TOUCH && bench->touches);

			if (wanted)
				good = berth__pages_round(bench, (enum berth__pages_row)row, peer,
							  round ? &figures[row] : NULL);
		}
	}
	berth__progress_end();
	if (!good)
		berth__complain(0, COMMAND, "a block couldn't be allocated or freed");
	return good;
}

static struct result evaluate(const struct berth__pages_config *config, struct berth__pages *bench,
			      const struct berth__peer *peer,
			      struct berth__pages_figures figures[BERTH__NR_ROWS])
{
	static const char *const labels[] = { "array stack", "touching metadata", "Berth" };
	enum berth__pages_row row = (enum berth__pages_row)config->row;
	struct result result = {
		.label = row >= BERTH__ROW_JEMALLOC ? peer->label : labels[row],
		.alloc_ns = berth__percentile(&figures[row].alloc, 50),
		.free_ns = berth__percentile(&figures[row].free, 50),
		.pair_ns = berth__percentile(&figures[row].pair, 50),
		.stack_ns = berth__percentile(&figures[BERTH__ROW_STACK].pair, 50) / 2,
		.touch_ns = berth__percentile(&figures[BERTH__ROW_TOUCH].pair, 50) / 2,
		.metadata_bytes = berth__pages_metadata(bench, row, peer),
	};

	result.factor = result.pair_ns / 2 / result.stack_ns;
	if (bench->touches)
		result.touch_factor = result.pair_ns / 2 / result.touch_ns;
	return result;
}

static int measure_cell(const struct berth__pages_config *config, const struct berth__peer *peer)
{
	struct berth__pages_figures figures[BERTH__NR_ROWS] = { 0 };
	struct berth__pages bench = {
		.order = (unsigned)config->order,
		.threads = (unsigned)config->threads,
		.pattern = (enum berth__pattern)config->pattern,
		.memory_bytes = config->memory_bytes,
		.seed = config->seed,
		.touches = config->pattern == BERTH__RAND || config->row == BERTH__ROW_TOUCH,
	};
	struct result result;
	bool good = berth__pages_open(&bench) && run_rounds(config, &bench, peer, figures);
	int code = good ? 0 : BERTH__EXIT_FAILED;

	if (good && berth__interrupted()) {
		code = berth__interrupted_code();
	} else if (good) {
		result = evaluate(config, &bench, peer, figures);
		if (config->row != BERTH__ROW_BERTH || berth__pages_check(&bench))
			(config->json ? print_json : print_text)(config, &bench, &result);
		else
			code = BERTH__EXIT_FAILED;
	}
	for (int row = 0; row < BERTH__NR_ROWS; row++)
		berth__pages_figures_free(&figures[row]);
	berth__pages_close(&bench);
	return code;
}

static int bench_cell(struct berth__pages_config *config, char **argv)
{
	struct berth__peer peer = { .library = NULL };

	if (config->row < 0)
		config->row = BERTH__ROW_BERTH;
	if (config->row >= BERTH__ROW_JEMALLOC &&
	    !berth__peer_open(&peer, (enum berth__pages_row)config->row, argv))
		return 0;
	berth__catch_interrupts();
	return measure_cell(config, &peer);
}

/* ---- The command ----------------------------------------------------------------------------- */

enum { ORDER = 256, PATTERN, ALLOCATOR, THREADS, MEMORY, ROUNDS, SEED, JSON };
static const struct option options[] = {
	{ "order", required_argument, NULL, ORDER },
	{ "pattern", required_argument, NULL, PATTERN },
	{ "allocator", required_argument, NULL, ALLOCATOR },
	{ "threads", required_argument, NULL, THREADS },
	{ "memory", required_argument, NULL, MEMORY },
	{ "rounds", required_argument, NULL, ROUNDS },
	{ "seed", required_argument, NULL, SEED },
	{ "json", no_argument, NULL, JSON },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

/* The number of optarg among the names, or -1. */
static int choose(const char *const *names, int nr)
{
	for (int i = 0; i < nr; i++)
		if (strcmp(optarg, names[i]) == 0)
			return i;
	return -1;
}

static bool choose_pattern(struct berth__pages_config *config)
{
	config->pattern = choose(berth__pattern_names, BERTH__NR_PATTERNS);
	if (config->pattern < 0)
		berth__complain(0, COMMAND,
				"there is no --pattern '%s'; choose bulk, repeat or rand", optarg);
	return config->pattern >= 0;
}

static bool choose_row(struct berth__pages_config *config)
{
	config->row = choose(berth__row_names, BERTH__NR_ROWS);
	if (config->row < 0)
		berth__complain(
			0, COMMAND,
			"there is no --allocator '%s'; choose stack, touch, berth, jemalloc "
			"or mimalloc",
			optarg);
	return config->row >= 0;
}

static bool take_option(void *ctx, int option)
{
	struct berth__pages_config *config = ctx;

	switch (option) {
	case ORDER:
		config->has_order = true;
		return berth__count_option(COMMAND, "--order", 0, MAX_ORDER, &config->order);
	case PATTERN:
		return choose_pattern(config);
	case ALLOCATOR:
		return choose_row(config);
	case THREADS:
		return berth__count_option(COMMAND, "--threads", 1, BERTH__PAGES_MAX_THREADS,
					   &config->threads);
	case MEMORY:
		return berth__size_option(COMMAND, "--memory", &config->memory_bytes);
	case ROUNDS:
		return berth__count_option(COMMAND, "--rounds", 1, 1000000, &config->rounds);
	case SEED:
		return berth__count_option(COMMAND, "--seed", 0, INT64_MAX, &config->seed);
	case JSON:
		config->json = true;
		return true;
	default:
		return false;
	}
}

/* With an order and a pattern it is about one cell, with neither about the table. */
static bool check_config(struct berth__pages_config *config)
{
	const uint64_t most = (uint64_t)1 << 43;
	bool cell = config->has_order || config->pattern >= 0;
	uint64_t block = (uint64_t)BERTH_PAGE_SIZE << (cell ? config->order : 9);
	char size[BERTH__UNIT_BYTES];

	if (cell && !(config->has_order && config->pattern >= 0)) {
		berth__complain(0, COMMAND,
				"%s is missing; `" COMMAND " --help` has an example, and without "
				"both the whole table is measured",
				config->has_order ? "--pattern" : "--order");
		return false;
	}
	if (!config->threads)
		config->threads = cell ? 1 : 2;
	if (config->memory_bytes > most) {
		berth__complain(0, COMMAND, "--memory can be 8T at most; use less");
		return false;
	}
	if (config->memory_bytes / block < (cell ? config->threads : 1) ||
	    config->memory_bytes / BERTH_PAGE_SIZE < config->threads) {
		berth__complain(0, COMMAND,
				"--memory has no block of %s for each thread; use more memory, a "
				"smaller --order or fewer --threads",
				berth__format_bytes(size, (double)block));
		return false;
	}
	return true;
}

static const struct berth__command command = { COMMAND, help, options, take_option };

int berth__bench_pages(int argc, char **argv)
{
	struct berth__pages_config config = {
		.memory_bytes = (uint64_t)4 << 30,
		.seed = 1,
		.rounds = 7,
		.pattern = -1,
		.row = -1,
	};
	int code;

	code = berth__take_options(&command, argc, argv, &config);
	if (code >= 0)
		return code;
	if (!check_config(&config))
		return BERTH__EXIT_USAGE;
	return config.pattern < 0 ? berth__pages_table(&config, argv) : bench_cell(&config, argv);
}
