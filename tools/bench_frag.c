/* SPDX-License-Identifier: MIT */
/*
 * `berth bench frag` and `berth bench compact`: how many blocks of 2 MiB are left when single pages come
 * and go, and how many compaction brings back.
 *
 * Nothing is behind the pages; the owner keeps a table of where each of its pages is, and a move
 * changes it. What a free pageblock is worth is compared with the ideal: the free pages, all
 * together, divided by 512.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include <berth/core.h>

#include "port/linux/port_linux.h"
#include "tools/json.h"
#include "tools/measure.h"
#include "tools/options.h"
#include "tools/units.h"

#define BLOCK_ORDER 9u
#define BLOCK_PAGES (1u << BLOCK_ORDER)
#define THREAD_SLOTS 64u /* as a pool has */
#define NONE UINT32_MAX

static const char frag_help[] =
	"usage: berth bench frag [OPTIONS]\n"
	"\n"
	"How many blocks of 2 MiB stay free, or become free again, while single pages are freed and\n"
	"allocated in random order. Without --start two cases are measured:\n"
	"\n"
	"  packed  50 % of the memory is allocated in one go, then 16 million operations free a random\n"
	"          page and allocate another one in turn\n"
	"  random  all memory is allocated and random pages are freed until 45 % are left, then each of\n"
	"          these is freed once, in random order, and another one allocated for it\n"
	"\n"
	"  --start packed|random\n"
	"  --live PERCENT    of the memory that is allocated (packed 50, random 45)\n"
	"  --ops N           operations of packed, frees and allocations together (16000000)\n"
	"  --batch N         pages freed, and then allocated, at a time (1)\n"
	"  --memory SIZE     the pages' size altogether (4G; nothing is behind them)\n"
	"  --seed N          of the random order (1)\n"
	"  --json            one JSON object for each case: start_blocks, free_blocks, ideal_blocks,\n"
	"                    percent, ns (of an operation, the random choice included)\n"
	"\n"
	"example:\n"
	"  berth bench frag --start random --batch 4096\n"
	"\n"
	"exit codes: 0 done, 1 a check failed or there is no memory, 2 a mistake in the command line.\n";

static const char compact_help[] =
	"usage: berth bench compact [OPTIONS]\n"
	"\n"
	"How many blocks of 2 MiB compaction makes of memory full of single movable pages, of which\n"
	"random ones are freed, and how many pages it moves for that.\n"
	"\n"
	"  --live PERCENT    of the pages that stay allocated (50)\n"
	"  --pinned N        pin that many random pages first (0)\n"
	"  --memory SIZE     the pages' size altogether (4G; nothing is behind them)\n"
	"  --seed N          of the random order (1)\n"
	"  --json            one JSON object: free_blocks, ideal_blocks, percent; moved_pages,\n"
	"                    least_pages (that had to move for as many blocks), moved_factor; total_ms,\n"
	"                    ns_per_page (without copying), order9_us (of a first allocation of 2 MiB\n"
	"                    that compaction must serve)\n"
	"\n"
	"example:\n"
	"  berth bench compact --memory 1G --live 30\n"
	"\n"
	"exit codes: 0 done, 1 a check failed or there is no memory, 2 a mistake in the command line.\n";

struct config {
	const char *command;
	uint64_t memory_bytes, live, ops, batch, pinned, seed;
	bool has_live, json;
	int start; /* enum start, -1: both */
};

enum start { PACKED, RANDOM };
static const char *const start_names[] = { "packed", "random" };

struct bench {
	struct config config;
	uint32_t nr_pages;
	struct berth_zone *zone;
	void *metadata;
	size_t metadata_bytes;
	unsigned owner;
	uint32_t *table; /* by the owner's page: its pfn, or NONE */
	uint32_t *live;  /* the owner's pages that there are, in random order */
	uint32_t nr_live;
	uint64_t random;
	bool failed;
};

/* ---- The owner and its zone --------------------------------------------------------------------- */

static void migrate(void *ctx, struct berth_move *moves, unsigned nr_moves)
{
	struct bench *bench = ctx;

	for (unsigned i = 0; i < nr_moves; i++) {
		struct berth_move *move = &moves[i];

		move->result = BERTH_MOVE_BUSY;
		if (!berth_page_freeze(bench->zone, move->src))
			continue;
		for (uint32_t k = 0; k < 1u << move->order; k++) {
			bench->failed |= bench->table[move->cookie + k] != move->src + k;
			bench->table[move->cookie + k] = (uint32_t)(move->dst + k);
		}
		move->result = BERTH_MOVE_MOVED;
	}
}

static bool open_bench(struct bench *bench)
{
	static const struct berth_owner_ops ops = { .name = "bench", .migrate = migrate };
	uint64_t block_bytes = (uint64_t)BERTH_PAGE_SIZE << BLOCK_ORDER;
	struct berth_zone_params params = {
		.name = "bench",
		.nr_pages = bench->config.memory_bytes / block_bytes << BLOCK_ORDER,
		.nr_cpus = THREAD_SLOTS,
		.metadata_is_zeroed = true,
		.port = berth_port_linux_ops(),
	};

	bench->nr_pages = (uint32_t)params.nr_pages;
	bench->metadata_bytes = berth_zone_metadata_size(&params);
	bench->metadata = bench->metadata_bytes ? berth__map_resident(bench->metadata_bytes) : NULL;
	bench->table = berth__map_resident(bench->nr_pages * sizeof(*bench->table));
	bench->live = berth__map_resident(bench->nr_pages * sizeof(*bench->live));
	if (bench->metadata && bench->table && bench->live &&
	    berth_zone_init(&bench->zone, &params, bench->metadata, bench->metadata_bytes) == 0 &&
	    berth_zone_add_memory(bench->zone, 0, params.nr_pages) == 0 &&
	    berth_owner_register(bench->zone, &ops, bench, &bench->owner) == 0)
		return true;
	berth__complain(0, bench->config.command,
			"there is no memory for that; use a smaller "
			"--memory");
	return false;
}

static void close_bench(struct bench *bench)
{
	berth__unmap_resident(bench->metadata, bench->metadata_bytes);
	berth__unmap_resident(bench->table, bench->nr_pages * sizeof(*bench->table));
	berth__unmap_resident(bench->live, bench->nr_pages * sizeof(*bench->live));
}

static void alloc_page(struct bench *bench, uint32_t page)
{
	berth_pfn_t pfn;

	if (berth_alloc_pages(bench->zone, 0, BERTH_GFP_MOVABLE, bench->owner, page, &pfn)) {
		bench->failed = true;
		return;
	}
	bench->table[page] = (uint32_t)pfn;
}

static void free_page(struct bench *bench, uint32_t page)
{
	if (berth_free_pages(bench->zone, bench->table[page]))
		bench->failed = true;
	bench->table[page] = NONE;
}

/* A random one of live[0 .. nr), which is put last among them. */
static uint32_t pick(struct bench *bench, uint32_t nr)
{
	uint32_t at = (uint32_t)(berth__random(&bench->random) % nr), page = bench->live[at];

	bench->live[at] = bench->live[nr - 1];
	bench->live[nr - 1] = page;
	return page;
}

/* Allocates pages until nr are live. */
static void fill(struct bench *bench, uint32_t nr)
{
	while (bench->nr_live < nr) {
		bench->live[bench->nr_live] = bench->nr_live;
		alloc_page(bench, bench->nr_live++);
	}
}

/* Frees random pages until nr are live. */
static void thin_out(struct bench *bench, uint32_t nr)
{
	while (bench->nr_live > nr)
		free_page(bench, pick(bench, bench->nr_live--));
}

static uint32_t live_wanted(const struct bench *bench, uint64_t percent)
{
	return (uint32_t)((uint64_t)bench->nr_pages * percent / 100);
}

/* Pageblocks that are wholly free and merged; frames in CPUs' lists count as used. */
static uint32_t count_free_blocks(struct bench *bench)
{
	uint32_t found = 0;

	for (berth_pfn_t pfn = 0; pfn < bench->nr_pages; pfn += BLOCK_PAGES) {
		berth_pfn_t head;
		unsigned order;

		found += berth_frame_state(bench->zone, pfn, &head, &order) == 'f' &&
			 order >= BLOCK_ORDER;
	}
	return found;
}

static uint32_t ideal_blocks(const struct bench *bench)
{
	return (bench->nr_pages - bench->nr_live) >> BLOCK_ORDER;
}

/* The table and the zone say the same, and the zone's invariants hold. */
static bool check(struct bench *bench)
{
	struct berth_violation violation = { .what = "the counters don't add up" };
	struct berth_zone_stats stats;
	bool good = !bench->failed;

	for (uint32_t i = 0; i < bench->nr_live && good; i++) {
		uint64_t cookie = NONE;
		unsigned owner = 0;

		good = berth_frame_owner(bench->zone, bench->table[bench->live[i]], &owner,
					 &cookie) &&
		       owner == bench->owner && cookie == bench->live[i];
	}
	if (!good) {
		berth__complain(0, bench->config.command, "a page isn't where it should be");
		return false;
	}
	berth_zone_stats(bench->zone, &stats);
	if (berth_zone_check(bench->zone, &violation) && stats.used_pages == bench->nr_live)
		return true;
	berth__complain(0, bench->config.command,
			"an invariant is broken: %s (at %llu: %llu, expected %llu)", violation.what,
			(unsigned long long)violation.where, (unsigned long long)violation.value,
			(unsigned long long)violation.expected);
	return false;
}

/* ---- frag ---------------------------------------------------------------------------------------- */

/* Frees n pages, random ones of live[0 .. nr), and allocates them again. */
static void turn_over(struct bench *bench, uint32_t nr, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		free_page(bench, pick(bench, nr - i));
	for (uint32_t i = 0; i < n; i++)
		alloc_page(bench, bench->live[nr - 1 - i]);
}

static void run_packed(struct bench *bench, uint64_t *ops)
{
	uint64_t batch = bench->config.batch;

	*ops = 0;
	if (batch > bench->nr_live)
		batch = bench->nr_live;
	while (*ops < bench->config.ops && !berth__interrupted()) {
		turn_over(bench, bench->nr_live, (uint32_t)batch);
		*ops += 2 * batch;
	}
}

/* Each page once: what was replaced stands behind the others. */
static void run_random(struct bench *bench, uint64_t *ops)
{
	uint32_t left = bench->nr_live;

	*ops = 2ull * left;
	while (left && !berth__interrupted()) {
		uint32_t n = bench->config.batch < left ? (uint32_t)bench->config.batch : left;

		turn_over(bench, left, n);
		left -= n;
	}
}

static int bench_case(const struct config *config, enum start start)
{
	struct bench bench = { .config = *config, .random = config->seed };
	uint32_t before, after, ideal;
	uint64_t live = config->has_live ? config->live : start == PACKED ? 50 : 45, ops, began;
	double percent, ns;
	bool good = open_bench(&bench);

	if (good && start == PACKED) {
		fill(&bench, live_wanted(&bench, live));
	} else if (good) {
		fill(&bench, bench.nr_pages);
		thin_out(&bench, live_wanted(&bench, live));
	}
	if (good && !bench.nr_live) {
		berth__complain(0, config->command, "nothing is live; use more --memory");
		good = false;
	}
	if (!good) {
		close_bench(&bench);
		return BERTH__EXIT_FAILED;
	}
	before = count_free_blocks(&bench);
	began = berth__clock_ns(CLOCK_MONOTONIC);
	(start == PACKED ? run_packed : run_random)(&bench, &ops);
	ns = (double)(berth__clock_ns(CLOCK_MONOTONIC) - began) / (double)(ops ? ops : 1);
	after = count_free_blocks(&bench);
	ideal = ideal_blocks(&bench);
	percent = ideal ? 100.0 * after / ideal : 100;
	good = check(&bench);
	close_bench(&bench);
	if (!good || berth__interrupted())
		return good ? berth__interrupted_code() : BERTH__EXIT_FAILED;
	if (config->json) {
		json_t *line = json_pack("{ss, ss}", "bench", "frag", "start", start_names[start]);

		berth__json_count(line, "live_percent", live);
		berth__json_count(line, "ops", ops);
		berth__json_count(line, "batch", config->batch);
		berth__json_count(line, "start_blocks", before);
		berth__json_count(line, "free_blocks", after);
		berth__json_count(line, "ideal_blocks", ideal);
		berth__json_add(line, "percent", percent);
		berth__json_add(line, "ns", ns);
		berth__json_count(line, "memory_bytes", config->memory_bytes);
		berth__json_count(line, "seed", config->seed);
		berth__json_print(line);
	} else {
		printf("%s start, %llu %% live, %llu operations\n"
		       "  free blocks of 2 MiB  %u at the start, %u at the end\n"
		       "  of the ideal %-6u   %6.1f %%\n"
		       "  an operation          %6.1f ns\n",
		       start_names[start], (unsigned long long)live, (unsigned long long)ops,
		       before, after, ideal, percent, ns);
	}
	return 0;
}

/* ---- compact --------------------------------------------------------------------------------------- */

/* The fewest pages that had to move to free that many more blocks: those of the emptiest. */
static uint64_t least_pages(struct bench *bench, uint32_t nr_blocks)
{
	uint32_t *used = calloc(bench->nr_pages >> BLOCK_ORDER, sizeof(*used));
	uint32_t histogram[BLOCK_PAGES + 1] = { 0 };
	uint64_t pages = 0;

	if (!used)
		return 0;
	for (uint32_t i = 0; i < bench->nr_live; i++)
		used[bench->table[bench->live[i]] >> BLOCK_ORDER]++;
	for (uint32_t i = 0; i < bench->nr_pages >> BLOCK_ORDER; i++)
		histogram[used[i]]++;
	for (uint32_t level = 0; level <= BLOCK_PAGES; level++) {
		uint32_t nr = histogram[level] < nr_blocks ? histogram[level] : nr_blocks;

		pages += (uint64_t)nr * level;
		nr_blocks -= nr;
	}
	free(used);
	return pages;
}

static bool pin_some(struct bench *bench)
{
	for (uint64_t i = 0; i < bench->config.pinned && i < bench->nr_live; i++)
		if (berth_page_pin(bench->zone,
				   bench->table[pick(bench, bench->nr_live - (uint32_t)i)]))
			return false;
	return true;
}

/* What the first allocation of a block costs that needs compaction; it is freed again. */
static double first_block_us(struct bench *bench)
{
	uint64_t began = berth__clock_ns(CLOCK_MONOTONIC), took;
	berth_pfn_t pfn;
	int error = berth_alloc_pages(bench->zone, BLOCK_ORDER, BERTH_GFP_COMPACT, BERTH_OWNER_NONE,
				      0, &pfn);

	took = berth__clock_ns(CLOCK_MONOTONIC) - began;
	if (error)
		return -1;
	if (berth_free_pages(bench->zone, pfn))
		bench->failed = true;
	return (double)took / 1000;
}

struct outcome {
	uint32_t before, after, ideal;
	uint64_t least;
	double order9_us, total_ms;
	struct berth_compact_result result;
};

static bool compact(struct bench *bench, struct outcome *out)
{
	const struct berth_compact_params params = { .mode = BERTH_COMPACT_SYNC,
						     .flags = BERTH_COMPACT_WHOLE_ZONE };
	struct berth_zone_stats stats;
	uint64_t began, moved;

	berth_pcp_drain_all(bench->zone);
	out->before = count_free_blocks(bench);
	out->ideal = ideal_blocks(bench);
	out->least = least_pages(bench, out->ideal);
	out->order9_us = out->before ? 0 : first_block_us(bench);
	berth_zone_stats(bench->zone, &stats);
	moved = stats.moved_pages;
	began = berth__clock_ns(CLOCK_MONOTONIC);
	if (berth_compact(bench->zone, &params, &out->result)) {
		berth__complain(0, bench->config.command, "compaction stopped early");
		return false;
	}
	out->total_ms = (double)(berth__clock_ns(CLOCK_MONOTONIC) - began) / 1e6;
	out->result.moved_pages += moved;
	out->after = count_free_blocks(bench);
	return true;
}

static void print_compact(const struct config *config, const struct outcome *out)
{
	double percent = out->ideal ? 100.0 * out->after / out->ideal : 100;
	double factor = out->least ? (double)out->result.moved_pages / (double)out->least : 1;
	double ns = out->result.moved_pages ?
			    out->total_ms * 1e6 / (double)out->result.moved_pages :
			    0;

	if (config->json) {
		json_t *line = json_pack("{ss}", "bench", "compact");

		berth__json_count(line, "live_percent", config->live);
		berth__json_count(line, "pinned", config->pinned);
		berth__json_count(line, "start_blocks", out->before);
		berth__json_count(line, "free_blocks", out->after);
		berth__json_count(line, "ideal_blocks", out->ideal);
		berth__json_add(line, "percent", percent);
		berth__json_count(line, "moved_pages", out->result.moved_pages);
		berth__json_count(line, "least_pages", out->least);
		berth__json_add(line, "moved_factor", factor);
		berth__json_add(line, "total_ms", out->total_ms);
		berth__json_add(line, "ns_per_page", ns);
		berth__json_add(line, "order9_us", out->order9_us);
		berth__json_count(line, "memory_bytes", config->memory_bytes);
		berth__json_count(line, "seed", config->seed);
		berth__json_print(line);
		return;
	}
	printf("%llu %% live, %llu pinned\n"
	       "  free blocks of 2 MiB  %u before, %u after: %.1f %% of the ideal %u\n"
	       "  pages moved           %llu, %.3f times the least\n"
	       "  compaction            %.1f ms, %.0f ns a page without copying\n",
	       (unsigned long long)config->live, (unsigned long long)config->pinned, out->before,
	       out->after, percent, out->ideal, (unsigned long long)out->result.moved_pages, factor,
	       out->total_ms, ns);
	if (!out->before)
		printf("  the first 2 MiB       %.1f us\n", out->order9_us);
}

static int run_compact(const struct config *config)
{
	struct bench bench = { .config = *config, .random = config->seed };
	struct outcome out = { .before = 0 };
	bool good = open_bench(&bench);

	if (good) {
		fill(&bench, bench.nr_pages);
		thin_out(&bench, live_wanted(&bench, config->live));
		good = pin_some(&bench) && compact(&bench, &out) && check(&bench);
	}
	close_bench(&bench);
	if (!good)
		return BERTH__EXIT_FAILED;
	print_compact(config, &out);
	return 0;
}

/* ---- The commands ---------------------------------------------------------------------------------- */

enum { START = 256, LIVE, OPS, BATCH, PINNED, MEMORY, SEED, JSON };
static const struct option frag_options[] = {
	{ "start", required_argument, NULL, START },
	{ "live", required_argument, NULL, LIVE },
	{ "ops", required_argument, NULL, OPS },
	{ "batch", required_argument, NULL, BATCH },
	{ "memory", required_argument, NULL, MEMORY },
	{ "seed", required_argument, NULL, SEED },
	{ "json", no_argument, NULL, JSON },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};
static const struct option compact_options[] = {
	{ "live", required_argument, NULL, LIVE },
	{ "pinned", required_argument, NULL, PINNED },
	{ "memory", required_argument, NULL, MEMORY },
	{ "seed", required_argument, NULL, SEED },
	{ "json", no_argument, NULL, JSON },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

static bool choose_start(struct config *config)
{
	for (int i = 0; i < 2; i++) {
		if (strcmp(optarg, start_names[i]) == 0) {
			config->start = i;
			return true;
		}
	}
	berth__complain(0, config->command, "there is no --start '%s'; choose packed or random",
			optarg);
	return false;
}

static bool take_option(void *ctx, int option)
{
	struct config *config = ctx;

	const char *command = config->command;

	switch (option) {
	case START:
		return choose_start(config);
	case LIVE:
		config->has_live = true;
		return berth__count_option(command, "--live", 1, 99, &config->live);
	case OPS:
		return berth__count_option(command, "--ops", 1, INT64_MAX, &config->ops);
	case BATCH:
		return berth__count_option(command, "--batch", 1, UINT32_MAX, &config->batch);
	case PINNED:
		return berth__count_option(command, "--pinned", 0, UINT32_MAX, &config->pinned);
	case MEMORY:
		return berth__size_option(command, "--memory", &config->memory_bytes);
	case SEED:
		return berth__count_option(command, "--seed", 0, INT64_MAX, &config->seed);
	case JSON:
		config->json = true;
		return true;
	default:
		return false;
	}
}

static bool check_memory(const struct config *config)
{
	const uint64_t most = (uint64_t)1 << 43, least = (uint64_t)BERTH_PAGE_SIZE << BLOCK_ORDER;

	if (config->memory_bytes <= most && config->memory_bytes >= 2 * least)
		return true;
	berth__complain(0, config->command, "--memory can be 4M to 8T");
	return false;
}

/* -1: go on; otherwise the command's exit code. */
static int parse(struct config *config, const struct option *options, const char *help, int argc,
		 char **argv)
{
	const struct berth__command command = { config->command, help, options, take_option };
	int code = berth__take_options(&command, argc, argv, config);

	return code < 0 && !check_memory(config) ? BERTH__EXIT_USAGE : code;
}

int berth__bench_frag(int argc, char **argv)
{
	struct config config = { .command = "berth bench frag",
				 .memory_bytes = (uint64_t)4 << 30,
				 .ops = 16000000,
				 .batch = 1,
				 .seed = 1,
				 .start = -1 };
	int code = parse(&config, frag_options, frag_help, argc, argv);

	if (code >= 0)
		return code;
	berth__catch_interrupts();
	code = 0;
	for (int start = PACKED; start <= RANDOM && !code; start++)
		if (config.start < 0 || config.start == start)
			code = bench_case(&config, (enum start)start);
	return code;
}

int berth__bench_compact(int argc, char **argv)
{
	struct config config = { .command = "berth bench compact",
				 .memory_bytes = (uint64_t)4 << 30,
				 .live = 50,
				 .seed = 1 };
	int code = parse(&config, compact_options, compact_help, argc, argv);

	if (code >= 0)
		return code;
	berth__catch_interrupts();
	return run_compact(&config);
}
