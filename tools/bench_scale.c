/* SPDX-License-Identifier: MIT */
/*
 * `berth bench scale`: what it takes to work with a zone, from 1 GiB to 1 TiB.
 *
 * Nothing is behind the frames; the metadata is fresh from mmap, in pages of 4 KiB, so that what isn't
 * touched takes no memory. Two zones of each size are measured:
 *
 *	with an area over three quarters of it: claims while it is empty; then, with blocks of a
 *	pageblock lent in all of the area but a random sixteenth, claims again, and the search for the
 *	largest runs. Borrowers answer "moved" at once; a claim's time is the core's own
 *
 *	without one: single pages and blocks of 2 MiB; then, with all memory in use but for half of a
 *	random sixteenth of the pageblocks, compaction for one block of 2 MiB
 *
 * I1  While the area is nearly full, each of its pageblocks is one block in use, or free.
 */
#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <berth/core.h>

#include "port/linux/port_linux.h"
#include "tools/json.h"
#include "tools/measure.h"
#include "tools/options.h"
#include "tools/units.h"

#define COMMAND "berth bench scale"
#define BLOCK_ORDER 9u /* of a pageblock */
#define BLOCK_PAGES ((uint64_t)1 << BLOCK_ORDER)
#define THREAD_SLOTS 64u /* as a pool has */
#define GIB ((uint64_t)1 << 30)
#define MAX_SIZES 12
#define SMALL_CLAIM ((uint64_t)64 << 20 >> BERTH_PAGE_SHIFT) /* pages */
#define LARGE_CLAIM (GIB >> BERTH_PAGE_SHIFT)
#define SPARE 16u          /* one in so many pageblocks is free, or half free */
#define NR_SINGLES 4096u   /* of an order-0 sample; fewer blocks of 2 MiB */
#define CHECKED (16 * GIB) /* up to this size each frame is checked at the end */

static const char help[] =
	"usage: berth bench scale [OPTIONS]\n"
	"\n"
	"How the costs of a zone grow with its size: initialising it, its metadata, claims, the search\n"
	"for the largest runs, compaction for one block of 2 MiB, allocations. Nothing is behind the\n"
	"pages, and nothing is copied: it is the core's own time.\n"
	"\n"
	"  empty area        three quarters of the zone, nothing lent\n"
	"  nearly full area  lent in blocks of 2 MiB, but for a random sixteenth of the pageblocks (of 2\n"
	"                    MiB)\n"
	"  largest runs      the search for the largest free and claimable run of the nearly full area\n"
	"  compaction        in a zone full of blocks of 2 MiB, of which a random sixteenth is half free\n"
	"  pair              allocate and free, in bulk\n"
	"\n"
	"Below most figures stands what they come to for each pageblock of the zone. At the end stands\n"
	"what Berth is held to, and whether this run met it: initialising 1 TiB, and by how much claims,\n"
	"searches and compaction grow for each pageblock that a zone is larger. 128 ns would be 0.25 ns a\n"
	"page, less than it takes to look at one.\n"
	"\n"
	"  --from SIZE     the smallest zone (1G)\n"
	"  --to SIZE       the largest; each is 4 times the one before (1T)\n"
	"  --rounds N      of which the figures are medians (5); initialising: the best of 2\n"
	"  --seed N        of what is free (1)\n"
	"  --json          one JSON object: rows (one a size; times in ns, null: not possible) and bars\n"
	"                  (name, figure, limit, met)\n"
	"\n"
	"1 TiB has 6.2 GiB of metadata, of which less than half is touched; a size whose metadata is more\n"
	"than the memory there is, is left out, with a word.\n"
	"\n"
	"example:\n"
	"  berth bench scale --to 64G\n"
	"\n"
	"exit codes: 0 done, 1 a check failed or there is no memory, 2 a mistake in the command line,\n"
	"130 interrupted.\n";

struct config {
	uint64_t from, to, rounds, seed;
	bool json;
};

/* What is measured, in ns if it isn't bytes; NAN: not possible at this size. */
enum metric {
	INIT,
	RESERVED,
	RESIDENT,
	EMPTY_SMALL,
	EMPTY_LARGE,
	FULL_SMALL,
	FULL_LARGE,
	RUNS,
	COMPACT,
	SINGLE,
	BLOCK,
	NR_METRICS
};

static const struct {
	const char *name, *label;
	bool bytes;
	bool by_pageblock; /* printed for a pageblock, too */
	bool held;         /* to a growth by pageblocks */
} metrics[NR_METRICS] = {
	[INIT] = { "init_ns", "initialise", false, true, false },
	[RESERVED] = { "metadata_bytes", "metadata, reserved", true, true, false },
	[RESIDENT] = { "resident_bytes", "metadata, resident", true, true, false },
	[EMPTY_SMALL] = { "claim_64m_empty_ns", "64 MiB, empty area", false, true, true },
	[EMPTY_LARGE] = { "claim_1g_empty_ns", "1 GiB, empty area", false, true, true },
	[FULL_SMALL] = { "claim_64m_full_ns", "64 MiB, nearly full", false, true, true },
	[FULL_LARGE] = { "claim_1g_full_ns", "1 GiB, nearly full", false, true, true },
	[RUNS] = { "largest_runs_ns", "largest runs", false, true, true },
	[COMPACT] = { "compact_ns", "compaction", false, true, true },
	[SINGLE] = { "order0_pair_ns", "4 KiB pair", false, false, false },
	[BLOCK] = { "order9_pair_ns", "2 MiB pair", false, false, false },
};

struct result {
	uint64_t bytes;
	double of[NR_METRICS];
};

/* One zone. */
struct world {
	const struct config *config;
	uint64_t nr_pages;
	struct berth_zone *zone;
	void *metadata;
	size_t metadata_bytes;
	unsigned owner;
	struct berth_cma *area;
	berth_pfn_t area_start;
	uint64_t area_pages, *bitmap;
	size_t bitmap_bytes;
	uint64_t random;
	berth_pfn_t *moved; /* where blocks were moved to */
	size_t nr_moved, moved_room;
	bool failed;
};

static bool fail(struct world *world, const char *what)
{
	berth__complain(0, COMMAND, "%s (a zone of %llu pages)", what,
			(unsigned long long)world->nr_pages);
	world->failed = true;
	return false;
}

/* ---- A zone -------------------------------------------------------------------------------------- */

static void migrate(void *ctx, struct berth_move *moves, unsigned nr_moves)
{
	struct world *world = ctx;

	for (unsigned i = 0; i < nr_moves; i++) {
		if (world->nr_moved == world->moved_room ||
		    !berth_page_freeze(world->zone, moves[i].src)) {
			moves[i].result = BERTH_MOVE_BUSY;
			continue;
		}
		world->moved[world->nr_moved++] = moves[i].dst;
		moves[i].result = BERTH_MOVE_MOVED;
	}
}

static uint64_t resident_bytes(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	unsigned long long all, resident = 0;

	if (file) {
		if (fscanf(file, "%llu %llu", &all, &resident) != 2)
			resident = 0;
		fclose(file);
	}
	return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static struct berth_zone_params zone_params(uint64_t bytes)
{
	return (struct berth_zone_params){
		.name = "bench",
		.nr_pages = bytes >> BERTH_PAGE_SHIFT,
		.nr_cpus = THREAD_SLOTS,
		.max_areas = 1,
		.metadata_is_zeroed = true,
		.port = berth_port_linux_ops(),
	};
}

/* Zeroed memory that is there when it is touched, a page at a time. */
static void *map_untouched(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		return NULL;
	(void)madvise(at, bytes, MADV_NOHUGEPAGE); /* not known: there are none */
	return at;
}

static bool world_open(struct world *world, uint64_t bytes, const struct config *config,
		       struct result *result)
{
	static const struct berth_owner_ops ops = { .name = "bench", .migrate = migrate };
	struct berth_zone_params params = zone_params(bytes);
	uint64_t resident, began, took;
	bool good;

	*world = (struct world){ .config = config,
				 .nr_pages = params.nr_pages,
				 .metadata_bytes = berth_zone_metadata_size(&params),
				 .random = config->seed,
				 .moved_room = 2 * LARGE_CLAIM };
	world->moved = map_untouched(world->moved_room * sizeof(*world->moved));
	world->metadata = world->metadata_bytes ? map_untouched(world->metadata_bytes) : NULL;
	if (!world->metadata || !world->moved)
		return fail(world, "there is no memory for the metadata");
	resident = resident_bytes();
	began = berth__clock_ns(CLOCK_MONOTONIC);
	good = berth_zone_init(&world->zone, &params, world->metadata, world->metadata_bytes) ==
		       0 &&
	       berth_zone_add_memory(world->zone, 0, params.nr_pages) == 0;
	took = berth__clock_ns(CLOCK_MONOTONIC) - began;
	if (!good || berth_owner_register(world->zone, &ops, world, &world->owner))
		return fail(world, "the zone can't be initialised");
	result->of[INIT] = fmin((double)took, result->of[INIT]); /* NAN at first: fmin knows */
	result->of[RESERVED] = (double)world->metadata_bytes;
	result->of[RESIDENT] = (double)(resident_bytes() - resident);
	return true;
}

/* What the zone says must add up, frame by frame if that is bearable. */
static void world_check(struct world *world)
{
	struct berth_violation violation = { .what = "the counters don't add up" };
	struct berth_zone_stats stats;

	berth_zone_stats(world->zone, &stats);
	if (stats.managed_pages == world->nr_pages && stats.claimed_pages == 0 &&
	    stats.free_pages + stats.pcp_pages + stats.used_pages == world->nr_pages &&
	    (world->nr_pages << BERTH_PAGE_SHIFT > CHECKED ||
	     berth_zone_check(world->zone, &violation)))
		return;
	fail(world, violation.what);
}

static void world_close(struct world *world)
{
	if (world->metadata)
		munmap(world->metadata, world->metadata_bytes);
	if (world->moved)
		munmap(world->moved, world->moved_room * sizeof(*world->moved));
	if (world->bitmap)
		munmap(world->bitmap, world->bitmap_bytes);
}

static bool alloc(struct world *world, unsigned order, berth_pfn_t *pfn)
{
	return berth_alloc_pages(world->zone, order, BERTH_GFP_MOVABLE, world->owner, 0, pfn) == 0;
}

/* ---- Claims ---------------------------------------------------------------------------------------- */

static bool declare_area(struct world *world)
{
	struct berth_cma_params params = { .name = "area", .lend = BERTH_LEND_FIRST };

	world->area_pages = world->nr_pages / 4 * 3 / BLOCK_PAGES * BLOCK_PAGES;
	world->area_start = world->nr_pages / 8 / BLOCK_PAGES * BLOCK_PAGES;
	world->bitmap_bytes = berth_cma_bitmap_bytes(world->area_pages, 0);
	world->bitmap = map_untouched(world->bitmap_bytes);
	params.start_pfn = world->area_start;
	params.nr_pages = world->area_pages;
	params.bitmap = world->bitmap;
	return (world->bitmap && berth_cma_declare(world->zone, &params, &world->area) == 0) ||
	       fail(world, "the area can't be declared");
}

/* Lends all of the area, and then gives back a random part of its pageblocks. */
static bool nearly_fill(struct world *world)
{
	struct berth_cma_stats stats;
	berth_pfn_t pfn;

	for (berth_cma_stats_brief(world->area, &stats); stats.free_pages;) {
		for (uint64_t nr = stats.free_pages / BLOCK_PAGES; nr; nr--)
			if (!alloc(world, BLOCK_ORDER, &pfn))
				return fail(world, "the area can't be filled");
		berth_cma_stats_brief(world->area, &stats);
	}
	for (uint64_t at = 0; at < world->area_pages; at += BLOCK_PAGES)
		if (berth__random(&world->random) % SPARE == 0 &&
		    berth_free_pages(world->zone, world->area_start + at))
			return fail(world, "a lent block isn't where it must be");
	return true;
}

/* One claim, which is released again; what moved out of its way is freed. False: it failed. */
static bool claim(struct world *world, uint64_t nr_pages, double *ns)
{
	struct berth_claim_params params = { .nr_pages = nr_pages };
	uint64_t began = berth__clock_ns(CLOCK_MONOTONIC);
	berth_pfn_t pfn;

	if (berth_cma_alloc(world->area, &params, &pfn, NULL))
		return fail(world, "a claim failed");
	*ns = (double)(berth__clock_ns(CLOCK_MONOTONIC) - began);
	while (world->nr_moved)
		if (berth_free_pages(world->zone, world->moved[--world->nr_moved]))
			return fail(world, "a moved block isn't where it must be");
	return berth_cma_release(world->area, pfn, nr_pages) == 0 ||
	       fail(world, "a claim can't be released");
}

static double claims(struct world *world, uint64_t nr_pages, bool full)
{
	struct berth__samples samples = { .nr = 0 };
	double ns = 0, median;

	/* As much must fit beside the area. */
	if (nr_pages * 4 > world->nr_pages)
		return NAN;
	for (uint64_t i = 0; i < world->config->rounds && !berth__interrupted(); i++) {
		if ((full && !nearly_fill(world)) || !claim(world, nr_pages, &ns))
			break;
		berth__sample_add(&samples, ns);
	}
	median = berth__percentile(&samples, 50);
	berth__samples_free(&samples);
	return median;
}

static double largest_runs(struct world *world)
{
	struct berth__samples samples = { .nr = 0 };
	struct berth_cma_stats stats;
	double median;

	if (!nearly_fill(world))
		return NAN;
	for (uint64_t i = 0; i < world->config->rounds; i++) {
		uint64_t began = berth__clock_ns(CLOCK_MONOTONIC);

		berth_cma_stats(world->area, &stats);
		berth__sample_add(&samples, (double)(berth__clock_ns(CLOCK_MONOTONIC) - began));
	}
	if (stats.largest_claimable_pages != world->area_pages)
		fail(world, "not all of the area is claimable");
	median = berth__percentile(&samples, 50);
	berth__samples_free(&samples);
	return median;
}

static void measure_area(struct world *world, struct result *result)
{
	const struct {
		enum metric metric;
		uint64_t nr_pages;
		bool full;
	} kinds[] = {
		{ EMPTY_SMALL, SMALL_CLAIM, false },
		{ EMPTY_LARGE, LARGE_CLAIM, false },
		{ FULL_SMALL, SMALL_CLAIM, true },
		{ FULL_LARGE, LARGE_CLAIM, true },
	};

	for (unsigned i = 0; i < 4 && !world->failed && !berth__interrupted(); i++)
		result->of[kinds[i].metric] = claims(world, kinds[i].nr_pages, kinds[i].full);
	if (!world->failed && !berth__interrupted())
		result->of[RUNS] = largest_runs(world);
}

/* ---- Allocations and compaction -------------------------------------------------------------------- */

/* Blocks allocated, then freed: ns for one of them. */
static double pairs(struct world *world, unsigned order)
{
	berth_pfn_t *pfns = calloc(NR_SINGLES, sizeof(*pfns));
	struct berth__samples samples = { .nr = 0 };
	uint64_t most = world->nr_pages >> order >> 1, nr = most < NR_SINGLES ? most : NR_SINGLES;
	double median;
	bool good = pfns != NULL;

	for (uint64_t round = 0; round <= world->config->rounds && good; round++) {
		uint64_t began = berth__clock_ns(CLOCK_MONOTONIC);

		for (uint64_t i = 0; i < nr; i++)
			good &= alloc(world, order, &pfns[i]);
		for (uint64_t i = 0; i < nr && good; i++)
			good &= berth_free_pages(world->zone, pfns[i]) == 0;
		if (round) /* the first one warms up */
			berth__sample_add(&samples,
					  (double)(berth__clock_ns(CLOCK_MONOTONIC) - began) /
						  (double)nr);
	}
	if (!good)
		fail(world, "a block couldn't be allocated or freed");
	free(pfns);
	median = berth__percentile(&samples, 50);
	berth__samples_free(&samples);
	return median;
}

/* Frees two quarters of a block: in larger pieces, it wouldn't be fragmentation that is in the way. */
static bool halve(struct world *world, berth_pfn_t pfn)
{
	for (unsigned quarter = 0; quarter < 4; quarter += 2)
		if (berth_free_range(world->zone, pfn + quarter * (BLOCK_PAGES / 4),
				     BLOCK_PAGES / 4, world->owner))
			return fail(world, "half a block can't be freed");
	return true;
}

/* No pageblock is free, and a random part of them is half free. */
static bool fragment(struct world *world)
{
	uint64_t nr = 0;
	berth_pfn_t pfn;

	berth_pcp_drain_all(world->zone);
	while (alloc(world, BLOCK_ORDER, &pfn))
		nr++;
	if (nr != world->nr_pages / BLOCK_PAGES)
		return fail(world, "not all of the zone can be allocated");
	for (pfn = 0; pfn < world->nr_pages; pfn += BLOCK_PAGES)
		if (berth__random(&world->random) % SPARE == 0 && !halve(world, pfn))
			return false;
	return true;
}

static double compaction(struct world *world)
{
	const struct berth_compact_params params = { .order = BLOCK_ORDER,
						     .gfp = BERTH_GFP_MOVABLE,
						     .mode = BERTH_COMPACT_SYNC };
	struct berth__samples samples = { .nr = 0 };
	double median;
	bool good = fragment(world);

	for (uint64_t i = 0; i < world->config->rounds && good && !berth__interrupted(); i++) {
		uint64_t began = berth__clock_ns(CLOCK_MONOTONIC);
		berth_pfn_t pfn;

		if (berth_compact(world->zone, &params, NULL) != 0) {
			fail(world, "compaction made no block of 2 MiB");
			break;
		}
		berth__sample_add(&samples, (double)(berth__clock_ns(CLOCK_MONOTONIC) - began));
		world->nr_moved = 0;
		if (!alloc(world, BLOCK_ORDER, &pfn)) {
			fail(world, "the block of 2 MiB that compaction made isn't there");
			break;
		}
		good = halve(world, pfn);
	}
	median = berth__percentile(&samples, 50);
	berth__samples_free(&samples);
	return median;
}

static void measure_plain(struct world *world, struct result *result)
{
	result->of[SINGLE] = pairs(world, 0);
	if (!world->failed)
		result->of[BLOCK] = pairs(world, BLOCK_ORDER);
	if (!world->failed && !berth__interrupted())
		result->of[COMPACT] = compaction(world);
}

/* ---- A size ---------------------------------------------------------------------------------------- */

static bool measure_size(const struct config *config, struct result *result)
{
	struct world world;
	bool good = true;

	for (int i = 0; i < NR_METRICS; i++)
		result->of[i] = NAN;
	for (int with_area = 1; with_area >= 0 && good && !berth__interrupted(); with_area--) {
		good = world_open(&world, result->bytes, config, result);
		if (good && with_area)
			good = declare_area(&world);
		if (good)
			(with_area ? measure_area : measure_plain)(&world, result);
		if (good && !world.failed && !berth__interrupted())
			world_check(&world);
		good &= !world.failed;
		world_close(&world);
	}
	return good;
}

static bool fits(uint64_t bytes)
{
	struct berth_zone_params params = zone_params(bytes);
	uint64_t needed = berth_zone_metadata_size(&params), available = berth__available_bytes();
	char size[BERTH__UNIT_BYTES], metadata[BERTH__UNIT_BYTES], left[BERTH__UNIT_BYTES];

	if (needed < available)
		return true;
	berth__complain(0, COMMAND, "%s is left out: its metadata can be %s, and there are %s",
			berth__format_bytes(size, (double)bytes),
			berth__format_bytes(metadata, (double)needed),
			berth__format_bytes(left, (double)available));
	return false;
}

/* ---- The bars ---------------------------------------------------------------------------------------- */

struct bar {
	char name[64];
	const char *unit;
	double figure, limit;
};
#define MAX_BARS (2 + NR_METRICS)

static uint64_t nr_pageblocks(const struct result *result)
{
	return (result->bytes >> BERTH_PAGE_SHIFT) / BLOCK_PAGES;
}

/* By how many ns a figure grows for a pageblock more, from the smallest to the largest zone. */
static double growth(const struct result *results, unsigned nr, enum metric metric)
{
	unsigned first = 0, last = nr - 1;

	while (first < last && isnan(results[first].of[metric]))
		first++;
	if (first >= last)
		return NAN;
	return (results[last].of[metric] - results[first].of[metric]) /
	       (double)(nr_pageblocks(&results[last]) - nr_pageblocks(&results[first]));
}

static unsigned find_bars(const struct result *results, unsigned nr_results,
			  struct bar bars[MAX_BARS])
{
	const struct result *largest = &results[nr_results - 1];
	unsigned nr = 0;

	if (largest->bytes == 1024 * GIB) {
		bars[nr++] = (struct bar){ "initialise 1 TiB", "s", largest->of[INIT] / 1e9, 5 };
		bars[nr++] = (struct bar){ "metadata of 1 TiB, resident", "GiB",
					   largest->of[RESIDENT] / (double)GIB, 24 };
	}
	for (int i = 0; i < NR_METRICS; i++) {
		double figure = metrics[i].held ? growth(results, nr_results, i) : NAN;

		if (isnan(figure))
			continue;
		bars[nr] = (struct bar){ .unit = "ns a pageblock", .figure = figure, .limit = 128 };
		snprintf(bars[nr].name, sizeof(bars[nr].name), "%s, growth", metrics[i].label);
		nr++;
	}
	return nr;
}

/* ---- Printing ---------------------------------------------------------------------------------------- */

static void print_json(const struct config *config, const struct result *results, unsigned nr)
{
	json_t *line = json_pack("{ss}", "bench", "scale"), *rows = json_array();
	json_t *list = json_array();
	struct bar bars[MAX_BARS];
	unsigned nr_bars = find_bars(results, nr, bars);

	for (unsigned i = 0; i < nr; i++) {
		json_t *row = json_object();

		berth__json_count(row, "memory_bytes", results[i].bytes);
		berth__json_count(row, "pageblocks", nr_pageblocks(&results[i]));
		for (int metric = 0; metric < NR_METRICS; metric++) {
			double value = results[i].of[metric];

			if (isnan(value))
				json_object_set_new(row, metrics[metric].name, json_null());
			else if (metrics[metric].bytes)
				berth__json_count(row, metrics[metric].name, (uint64_t)value);
			else
				berth__json_add(row, metrics[metric].name, value);
		}
		json_array_append_new(rows, row);
	}
	for (unsigned i = 0; i < nr_bars; i++) {
		json_t *bar = json_pack("{ss, ss, sb}", "name", bars[i].name, "unit", bars[i].unit,
					"met", bars[i].figure <= bars[i].limit);

		berth__json_add(bar, "figure", bars[i].figure);
		berth__json_add(bar, "limit", bars[i].limit);
		json_array_append_new(list, bar);
	}
	json_object_set_new(line, "rows", rows);
	json_object_set_new(line, "bars", list);
	berth__json_count(line, "rounds", config->rounds);
	berth__json_count(line, "seed", config->seed);
	berth__json_print(line);
}

static void print_metric(int metric, const struct result *results, unsigned nr)
{
	char text[BERTH__UNIT_BYTES];

	printf("%-20s", metrics[metric].label);
	for (unsigned i = 0; i < nr; i++) {
		double value = results[i].of[metric];

		printf(" %11s", isnan(value)          ? "-" :
				metrics[metric].bytes ? berth__format_bytes(text, value) :
							berth__format_ns(text, value));
	}
	printf("\n");
	if (!metrics[metric].by_pageblock)
		return;
	printf("%20s", metrics[metric].bytes ? "bytes a pageblock" : "ns a pageblock");
	for (unsigned i = 0; i < nr; i++) {
		double value = results[i].of[metric] / (double)nr_pageblocks(&results[i]);

		if (isnan(value))
			printf(" %11s", "-");
		else
			printf(" %11.*f", metrics[metric].bytes ? 0 : 2, value);
	}
	printf("\n");
}

static void print_text(const struct config *config, const struct result *results, unsigned nr)
{
	struct bar bars[MAX_BARS];
	unsigned nr_bars = find_bars(results, nr, bars);
	char size[BERTH__UNIT_BYTES];

	printf("zones of pages of 4 KiB, pageblocks of 2 MiB; medians of %llu\n\n%-20s",
	       (unsigned long long)config->rounds, "");
	for (unsigned i = 0; i < nr; i++)
		printf(" %11s", berth__format_bytes(size, (double)results[i].bytes));
	printf("\n");
	for (int metric = 0; metric < NR_METRICS; metric++) {
		if (metric == EMPTY_SMALL)
			printf("claim of\n");
		print_metric(metric, results, nr);
	}
	printf("\nchecked: the counters add up; up to 16 GiB all invariants hold\n");
	if (nr_bars)
		printf("\nBerth's bars; growth: from the smallest zone to the largest\n");
	for (unsigned i = 0; i < nr_bars; i++)
		printf("  %-30s %8.2f %-15s at most %-4g %s\n", bars[i].name, bars[i].figure,
		       bars[i].unit, bars[i].limit,
		       bars[i].figure <= bars[i].limit ? "met" : "missed");
}

/* ---- The command ------------------------------------------------------------------------------------- */

static int run(const struct config *config)
{
	struct result results[MAX_SIZES];
	unsigned nr = 0, steps = 0, step = 0;
	bool good = true;

	for (uint64_t bytes = config->from; bytes <= config->to; bytes *= 4)
		steps++;
	for (uint64_t bytes = config->from; bytes <= config->to && good; bytes *= 4) {
		berth__progress(COMMAND, step++, steps);
		if (berth__interrupted() || !fits(bytes))
			break;
		results[nr].bytes = bytes;
		good = measure_size(config, &results[nr++]);
	}
	berth__progress_end();
	if (berth__interrupted())
		return berth__interrupted_code();
	if (!good || !nr)
		return BERTH__EXIT_FAILED;
	(config->json ? print_json : print_text)(config, results, nr);
	return 0;
}

enum { FROM = 256, TO, ROUNDS, SEED, JSON };
static const struct option options[] = {
	{ "from", required_argument, NULL, FROM },
	{ "to", required_argument, NULL, TO },
	{ "rounds", required_argument, NULL, ROUNDS },
	{ "seed", required_argument, NULL, SEED },
	{ "json", no_argument, NULL, JSON },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

static bool take_option(void *ctx, int option)
{
	struct config *config = ctx;

	switch (option) {
	case FROM:
		return berth__size_option(COMMAND, "--from", &config->from);
	case TO:
		return berth__size_option(COMMAND, "--to", &config->to);
	case ROUNDS:
		return berth__count_option(COMMAND, "--rounds", 1, 1000, &config->rounds);
	case SEED:
		return berth__count_option(COMMAND, "--seed", 0, INT64_MAX, &config->seed);
	case JSON:
		config->json = true;
		return true;
	default:
		return false;
	}
}

static bool check_config(const struct config *config)
{
	if (config->from < (uint64_t)256 << 20 || config->from % GIB % (4 << 20)) {
		berth__complain(0, COMMAND,
				"--from can be 256M at least, in steps of 4M; use more");
		return false;
	}
	if (config->to > 8192 * GIB) {
		berth__complain(0, COMMAND, "--to can be 8T at most; use less");
		return false;
	}
	if (config->from > config->to) {
		berth__complain(0, COMMAND, "--from is more than --to; exchange them");
		return false;
	}
	return true;
}

static const struct berth__command command = { COMMAND, help, options, take_option };

int berth__bench_scale(int argc, char **argv)
{
	struct config config = { .from = GIB, .to = 1024 * GIB, .rounds = 5, .seed = 1 };
	int code;

	code = berth__take_options(&command, argc, argv, &config);
	if (code >= 0)
		return code;
	if (!check_config(&config))
		return BERTH__EXIT_USAGE;
	berth__catch_interrupts();
	return run(&config);
}
