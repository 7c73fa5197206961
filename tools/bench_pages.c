/* SPDX-License-Identifier: MIT */
/*
 * `berth bench pages`: the core's page allocator alone, and beside it an array used as a stack of
 * frame numbers: the least that any allocator of pages costs.
 *
 * Nothing is behind the frames; only metadata is touched. A pattern is a sequence of allocations
 * and frees over an array of frame numbers, the same for both (see run_pattern()):
 *
 *	bulk    allocates all blocks, then frees them in the same order
 *	repeat  allocates one block and frees it, again and again
 *	rand    with all blocks allocated, frees all in random order, then allocates all again into
 *	        random places of the array
 *
 * Figures are medians of several rounds, in ns of a thread's time for an operation.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <berth/core.h>

#include "port/linux/port_linux.h"
#include "tools/json.h"
#include "tools/measure.h"
#include "tools/options.h"
#include "tools/units.h"

#define COMMAND "berth bench pages"
#define ROUNDS 7
#define LEAST_OPS 400000u /* of each kind in a round, of all threads together */
#define MAX_THREADS 256u
#define MAX_ORDER 20u
#define THREAD_SLOTS 64u /* as a pool has */

static const char help[] =
	"usage: berth bench pages --order K --pattern bulk|repeat|rand [OPTIONS]\n"
	"\n"
	"How long it takes to allocate and free blocks of 2^K pages, without touching them. The same\n"
	"pattern on a plain array, used as a stack of frame numbers, is measured in the same run.\n"
	"\n"
	"  --order K         0 to 20\n"
	"  --pattern bulk    allocate all blocks, then free them in the same order\n"
	"  --pattern repeat  allocate one, free it\n"
	"  --pattern rand    free all in random order, allocate all into random places\n"
	"  --threads T       share the blocks between T threads (1); the stack gets a spinlock\n"
	"  --memory SIZE     the pages' size altogether (4G; nothing is behind them)\n"
	"  --seed N          of the random order (1)\n"
	"  --json            one JSON object: alloc_ns, free_ns, pair_ns (both together), stack_ns (of\n"
	"                    one operation of the array), factor ((alloc + free) / 2 / stack)\n"
	"\n"
	"After the measurement all blocks are allocated once more, and it's checked that they don't\n"
	"overlap and that every invariant of the allocator holds.\n"
	"\n"
	"example:\n"
	"  berth bench pages --order 0 --pattern rand --threads 2\n"
	"\n"
	"exit codes: 0 done, 1 a check failed or there is no memory, 2 a mistake in the command line.\n";

enum pattern { BULK, REPEAT, RAND };
static const char *const pattern_names[] = { "bulk", "repeat", "rand" };

struct stack {
	pthread_spinlock_t lock;
	bool locked;
	uint32_t nr;
	uint32_t *entries;
};

struct config {
	uint64_t order, threads, memory_bytes, seed;
	int pattern; /* enum pattern, -1: not chosen */
	bool json;
};

struct bench {
	struct config config;
	uint32_t nr_blocks; /* a multiple of the threads */
	struct berth_zone *zone;
	void *metadata;
	size_t metadata_bytes;
	unsigned owner;
	struct stack stack;
	uint64_t *pfns;   /* one for each block */
	uint32_t *places; /* rand: the order of the blocks of each thread */
	pthread_barrier_t barrier;
	_Atomic bool failed;
};

/* ---- What is measured ------------------------------------------------------------------------ */

static bool zone_alloc(struct bench *bench, uint32_t i, uint64_t *pfn)
{
	return berth_alloc_pages(bench->zone, (unsigned)bench->config.order, BERTH_GFP_MOVABLE,
				 bench->owner, (uint64_t)i << bench->config.order, pfn) == 0;
}

static bool zone_free(struct bench *bench, uint64_t pfn)
{
	return berth_free_pages(bench->zone, pfn) == 0;
}

static __attribute__((noinline)) uint32_t stack_pop(struct stack *stack)
{
	uint32_t value;

	if (stack->locked)
		pthread_spin_lock(&stack->lock);
	value = stack->nr ? stack->entries[--stack->nr] : UINT32_MAX;
	if (stack->locked)
		pthread_spin_unlock(&stack->lock);
	return value;
}

static __attribute__((noinline)) void stack_push(struct stack *stack, uint32_t value)
{
	if (stack->locked)
		pthread_spin_lock(&stack->lock);
	stack->entries[stack->nr++] = value;
	if (stack->locked)
		pthread_spin_unlock(&stack->lock);
}

static bool stack_alloc(struct bench *bench, uint32_t i, uint64_t *pfn)
{
	(void)i;
	*pfn = stack_pop(&bench->stack);
	return *pfn != UINT32_MAX;
}

static bool stack_free(struct bench *bench, uint64_t pfn)
{
	stack_push(&bench->stack, (uint32_t)pfn);
	return true;
}

/* ---- Patterns -------------------------------------------------------------------------------- */

/* One thread's part of a round. */
struct part {
	struct bench *bench;
	uint32_t first, nr; /* its blocks */
	unsigned repeats;
	uint64_t alloc_ns, free_ns, pair_ns; /* of repeats * nr operations of each kind */
	pthread_t thread;
};

/* Waits for the other threads, then tells the time. */
static uint64_t together(const struct part *part)
{
	pthread_barrier_wait(&part->bench->barrier);
	return berth__clock_ns(CLOCK_MONOTONIC);
}

/*
 * The patterns' loops are written once and inlined for each kind of allocator, so that nothing
 * stands between a loop and the function that it measures.
 */
#define ALWAYS_INLINE static inline __attribute__((always_inline))
typedef bool alloc_fn(struct bench *bench, uint32_t i, uint64_t *pfn);
typedef bool free_fn(struct bench *bench, uint64_t pfn);

ALWAYS_INLINE void alloc_all(struct part *part, alloc_fn *alloc, bool random, uint64_t *ns)
{
	struct bench *bench = part->bench;
	uint64_t began = together(part);
	bool good = true;

	for (uint32_t i = part->first; i < part->first + part->nr; i++) {
		uint32_t place = random ? bench->places[i] : i;

		good &= alloc(bench, place, &bench->pfns[place]);
	}
	*ns += berth__clock_ns(CLOCK_MONOTONIC) - began;
	if (!good)
		bench->failed = true;
}

ALWAYS_INLINE void free_all(struct part *part, free_fn *free_one, bool random, uint64_t *ns)
{
	struct bench *bench = part->bench;
	uint64_t began = together(part);
	bool good = true;

	for (uint32_t i = part->first; i < part->first + part->nr; i++)
		good &= free_one(bench, bench->pfns[random ? bench->places[i] : i]);
	*ns += berth__clock_ns(CLOCK_MONOTONIC) - began;
	if (!good)
		bench->failed = true;
}

ALWAYS_INLINE void repeat(struct part *part, alloc_fn *alloc, free_fn *free_one)
{
	struct bench *bench = part->bench;
	uint64_t began = together(part);
	bool good = true;

	for (uint32_t i = part->first; i < part->first + part->nr; i++) {
		good &= alloc(bench, i, &bench->pfns[i]);
		good &= free_one(bench, bench->pfns[i]);
	}
	part->pair_ns += berth__clock_ns(CLOCK_MONOTONIC) - began;
	if (!good)
		bench->failed = true;
}

ALWAYS_INLINE void run_pattern(struct part *part, alloc_fn *alloc, free_fn *free_one)
{
	const int pattern = part->bench->config.pattern;
	uint64_t unused = 0;

	if (pattern == RAND)
		alloc_all(part, alloc, false, &unused);
	for (unsigned i = 0; i < part->repeats; i++) {
		if (pattern == BULK) {
			alloc_all(part, alloc, false, &part->alloc_ns);
			free_all(part, free_one, false, &part->free_ns);
		} else if (pattern == RAND) {
			free_all(part, free_one, true, &part->free_ns);
			alloc_all(part, alloc, true, &part->alloc_ns);
		} else {
			repeat(part, alloc, free_one);
		}
	}
	if (pattern == RAND)
		free_all(part, free_one, false, &unused);
}

static void *run_on_zone(void *part)
{
	run_pattern(part, zone_alloc, zone_free);
	return NULL;
}

static void *run_on_stack(void *part)
{
	run_pattern(part, stack_alloc, stack_free);
	return NULL;
}

/* ---- Rounds ---------------------------------------------------------------------------------- */

/* Runs `body` in all threads; the parts keep what they measured. False: no thread. */
static bool run_threads(struct bench *bench, struct part *parts, void *(*body)(void *))
{
	unsigned nr_threads = (unsigned)bench->config.threads, started = 1;

	for (; started < nr_threads; started++)
		if (pthread_create(&parts[started].thread, NULL, body, &parts[started]) != 0)
			break;
	if (started < nr_threads) { /* those that started wait for all: they can't go on */
		berth__complain(0, COMMAND, "the system gives only %u threads", started);
		exit(BERTH__EXIT_FAILED);
	}
	body(&parts[0]);
	for (unsigned i = 1; i < nr_threads; i++)
		pthread_join(parts[i].thread, NULL);
	return !bench->failed;
}

static void prepare_parts(struct bench *bench, struct part *parts)
{
	unsigned nr_threads = (unsigned)bench->config.threads;
	uint32_t share = bench->nr_blocks / nr_threads;

	for (unsigned i = 0; i < nr_threads; i++)
		parts[i] = (struct part){ .bench = bench,
					  .first = i * share,
					  .nr = share,
					  .repeats = (LEAST_OPS - 1) / bench->nr_blocks + 1 };
}

struct figures {
	struct berth__samples alloc, free, pair; /* ns */
};

static void figures_free(struct figures *figures)
{
	berth__samples_free(&figures->alloc);
	berth__samples_free(&figures->free);
	berth__samples_free(&figures->pair);
}

static bool run_round(struct bench *bench, void *(*body)(void *part), struct figures *figures)
{
	struct part parts[MAX_THREADS];
	double ops = 0, alloc_ns = 0, free_ns = 0, pair_ns = 0;

	prepare_parts(bench, parts);
	if (!run_threads(bench, parts, body))
		return false;
	for (unsigned i = 0; i < bench->config.threads; i++) {
		ops += (double)parts[i].nr * parts[i].repeats;
		alloc_ns += (double)parts[i].alloc_ns;
		free_ns += (double)parts[i].free_ns;
		pair_ns += (double)parts[i].pair_ns;
	}
	berth__sample_add(&figures->alloc, alloc_ns / ops);
	berth__sample_add(&figures->free, free_ns / ops);
	berth__sample_add(&figures->pair, (alloc_ns + free_ns + pair_ns) / ops);
	return true;
}

/* ---- Checking -------------------------------------------------------------------------------- */

static void *allocate_part(void *part)
{
	uint64_t unused = 0;

	alloc_all(part, zone_alloc, false, &unused);
	return NULL;
}

static void *free_part(void *part)
{
	uint64_t unused = 0;

	free_all(part, zone_free, false, &unused);
	return NULL;
}

/* Every block is aligned, inside, and nobody else's. */
static bool blocks_are_disjoint(const struct bench *bench, uint8_t *seen)
{
	for (uint32_t i = 0; i < bench->nr_blocks; i++) {
		uint64_t block = bench->pfns[i] >> bench->config.order;

		if (block << bench->config.order != bench->pfns[i] || block >= bench->nr_blocks ||
		    seen[block])
			return false;
		seen[block] = 1;
	}
	return true;
}

static bool zone_holds(struct bench *bench, uint64_t used_pages)
{
	struct berth_violation violation = { .what = "the counters don't add up" };
	struct berth_zone_stats stats;

	berth_zone_stats(bench->zone, &stats);
	if (berth_zone_check(bench->zone, &violation) && stats.used_pages == used_pages &&
	    stats.free_pages + stats.pcp_pages + used_pages == stats.managed_pages)
		return true;
	berth__complain(0, COMMAND, "an invariant is broken: %s (at %llu: %llu, expected %llu)",
			violation.what, (unsigned long long)violation.where,
			(unsigned long long)violation.value,
			(unsigned long long)violation.expected);
	return false;
}

static bool check(struct bench *bench)
{
	struct part parts[MAX_THREADS];
	uint8_t *seen = calloc(bench->nr_blocks, 1);
	bool good = seen != NULL;

	prepare_parts(bench, parts);
	good = good && zone_holds(bench, 0) && run_threads(bench, parts, allocate_part) &&
	       zone_holds(bench, (uint64_t)bench->nr_blocks << bench->config.order);
	if (good && !blocks_are_disjoint(bench, seen)) {
		berth__complain(0, COMMAND, "two allocated blocks overlap");
		good = false;
	}
	good = good && run_threads(bench, parts, free_part) && zone_holds(bench, 0);
	free(seen);
	return good;
}

/* ---- Setting up ------------------------------------------------------------------------------ */

static void stays(void *ctx, struct berth_move *moves, unsigned nr_moves)
{
	(void)ctx;
	for (unsigned i = 0; i < nr_moves; i++)
		moves[i].result = BERTH_MOVE_BUSY;
}

static bool open_zone(struct bench *bench)
{
	static const struct berth_owner_ops ops = { .name = "bench", .migrate = stays };
	struct berth_zone_params params = {
		.name = "bench",
		.nr_pages = (uint64_t)bench->nr_blocks << bench->config.order,
		.max_order = bench->config.order > 10 ? (unsigned)bench->config.order : 10,
		.nr_cpus = THREAD_SLOTS,
		.metadata_is_zeroed = true,
		.port = berth_port_linux_ops(),
	};

	bench->metadata_bytes = berth_zone_metadata_size(&params);
	bench->metadata = bench->metadata_bytes ? berth__map_resident(bench->metadata_bytes) : NULL;
	return bench->metadata &&
	       berth_zone_init(&bench->zone, &params, bench->metadata, bench->metadata_bytes) ==
		       0 &&
	       berth_zone_add_memory(bench->zone, 0, params.nr_pages) == 0 &&
	       berth_owner_register(bench->zone, &ops, NULL, &bench->owner) == 0;
}

/* Each thread's blocks in an order of its own (Fisher and Yates). */
static void shuffle_places(struct bench *bench)
{
	uint32_t share = bench->nr_blocks / (uint32_t)bench->config.threads;
	uint64_t state = bench->config.seed;

	for (uint32_t i = 0; i < bench->nr_blocks; i++) {
		uint32_t first = i / share * share;
		uint32_t other = first + (uint32_t)(berth__random(&state) % (i - first + 1));

		bench->places[i] = bench->places[other];
		bench->places[other] = i;
	}
}

static bool open_stack(struct bench *bench)
{
	struct stack *stack = &bench->stack;

	stack->locked = bench->config.threads > 1;
	pthread_spin_init(&stack->lock, PTHREAD_PROCESS_PRIVATE);
	stack->entries = berth__map_resident(bench->nr_blocks * sizeof(stack->entries[0]));
	if (!stack->entries)
		return false;
	while (stack->nr < bench->nr_blocks) /* the lowest on top */
		stack_push(stack, bench->nr_blocks - 1 - stack->nr);
	return true;
}

static bool open_bench(struct bench *bench)
{
	uint64_t blocks = bench->config.memory_bytes >> (BERTH_PAGE_SHIFT + bench->config.order);

	bench->nr_blocks = (uint32_t)(blocks - blocks % bench->config.threads);
	bench->pfns = berth__map_resident(bench->nr_blocks * sizeof(bench->pfns[0]));
	bench->places = berth__map_resident(bench->nr_blocks * sizeof(bench->places[0]));
	if (!bench->pfns || !bench->places || !open_stack(bench) || !open_zone(bench)) {
		berth__complain(0, COMMAND,
				"there is no memory for the metadata of this many pages; use a "
				"smaller --memory");
		return false;
	}
	shuffle_places(bench);
	return pthread_barrier_init(&bench->barrier, NULL, (unsigned)bench->config.threads) == 0;
}

static void close_bench(struct bench *bench)
{
	berth__unmap_resident(bench->pfns, bench->nr_blocks * sizeof(bench->pfns[0]));
	berth__unmap_resident(bench->places, bench->nr_blocks * sizeof(bench->places[0]));
	berth__unmap_resident(bench->stack.entries,
			      bench->nr_blocks * sizeof(bench->stack.entries[0]));
	berth__unmap_resident(bench->metadata, bench->metadata_bytes);
}

/* ---- Printing -------------------------------------------------------------------------------- */

struct result {
	double alloc_ns, free_ns, pair_ns, stack_ns, factor, metadata_bytes;
};

static void print_json(const struct bench *bench, const struct result *result)
{
	const struct config *config = &bench->config;
	json_t *line = json_pack("{ss, sI, ss, sI, sI, si}", "bench", "pages", "order",
				 (json_int_t)config->order, "pattern",
				 pattern_names[config->pattern], "threads",
				 (json_int_t)config->threads, "count", (json_int_t)bench->nr_blocks,
				 "rounds", ROUNDS);

	if (config->pattern != REPEAT) {
		berth__json_add(line, "alloc_ns", result->alloc_ns);
		berth__json_add(line, "free_ns", result->free_ns);
	} else {
		json_object_set_new(line, "alloc_ns", json_null());
		json_object_set_new(line, "free_ns", json_null());
	}
	berth__json_add(line, "pair_ns", result->pair_ns);
	berth__json_add(line, "stack_ns", result->stack_ns);
	berth__json_add(line, "factor", result->factor);
	berth__json_add(line, "metadata_bytes_per_frame", result->metadata_bytes);
	json_object_set_new(line, "memory_bytes", json_integer((json_int_t)config->memory_bytes));
	json_object_set_new(line, "seed", json_integer((json_int_t)config->seed));
	berth__json_print(line);
}

static void print_text(const struct bench *bench, const struct result *result)
{
	const struct config *config = &bench->config;
	char size[BERTH__UNIT_BYTES];

	printf("%u blocks of %s, pattern %s, %llu thread%s, median of %d rounds\n",
	       bench->nr_blocks,
	       berth__format_bytes(size, (double)((uint64_t)BERTH_PAGE_SIZE << config->order)),
	       pattern_names[config->pattern], (unsigned long long)config->threads,
	       config->threads > 1 ? "s" : "", ROUNDS);
	if (config->pattern != REPEAT)
		printf("  allocate  %8.1f ns\n  free      %8.1f ns\n", result->alloc_ns,
		       result->free_ns);
	printf("  both      %8.1f ns\n", result->pair_ns);
	printf("  stack     %8.1f ns an operation of a plain array used as a stack%s\n",
	       result->stack_ns, config->threads > 1 ? ", under a spinlock" : "");
	printf("  factor    %8.2f times the stack\n", result->factor);
	printf("  metadata  %8.1f bytes a page\n", result->metadata_bytes);
	printf("checked: no two blocks overlap, all invariants hold\n");
}

/* ---- The command ----------------------------------------------------------------------------- */

static int measure(struct bench *bench)
{
	struct figures zone = { .alloc = { .nr = 0 } }, stack = { .alloc = { .nr = 0 } };
	struct result result;
	bool good = true;

	/* A round of each warms both up; then they take turns. */
	for (int round = 0; round <= ROUNDS && good && !berth__interrupted(); round++) {
		struct figures warm_up = { .alloc = { .nr = 0 } };

		berth__progress(COMMAND, (uint64_t)round, ROUNDS);
		good = run_round(bench, run_on_zone, round ? &zone : &warm_up) &&
		       run_round(bench, run_on_stack, round ? &stack : &warm_up);
		figures_free(&warm_up);
	}
	berth__progress_end();
	if (!good)
		return berth__complain(BERTH__EXIT_FAILED, COMMAND,
				       "a block couldn't be allocated or freed");
	if (berth__interrupted())
		return berth__interrupted_code();
	result = (struct result){
		.alloc_ns = berth__percentile(&zone.alloc, 50),
		.free_ns = berth__percentile(&zone.free, 50),
		.pair_ns = berth__percentile(&zone.pair, 50),
		.stack_ns = berth__percentile(&stack.pair, 50) / 2,
		.metadata_bytes = (double)bench->metadata_bytes /
				  (double)((uint64_t)bench->nr_blocks << bench->config.order),
	};
	result.factor = result.pair_ns / 2 / result.stack_ns;
	figures_free(&zone);
	figures_free(&stack);
	if (!check(bench))
		return BERTH__EXIT_FAILED;
	(bench->config.json ? print_json : print_text)(bench, &result);
	return 0;
}

enum { ORDER = 256, PATTERN, THREADS, MEMORY, SEED, JSON };
static const struct option options[] = {
	{ "order", required_argument, NULL, ORDER },
	{ "pattern", required_argument, NULL, PATTERN },
	{ "threads", required_argument, NULL, THREADS },
	{ "memory", required_argument, NULL, MEMORY },
	{ "seed", required_argument, NULL, SEED },
	{ "json", no_argument, NULL, JSON },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

static bool choose_pattern(struct config *config)
{
	for (int i = 0; i < 3; i++)
		if (strcmp(optarg, pattern_names[i]) == 0)
			config->pattern = i;
	if (config->pattern < 0)
		berth__complain(0, COMMAND,
				"there is no --pattern '%s'; choose bulk, repeat or rand", optarg);
	return config->pattern >= 0;
}

static bool take_option(struct config *config, int option)
{
	switch (option) {
	case ORDER:
		return berth__count_option(COMMAND, "--order", 0, MAX_ORDER, &config->order);
	case PATTERN:
		config->pattern = -1;
		return choose_pattern(config);
	case THREADS:
		return berth__count_option(COMMAND, "--threads", 1, MAX_THREADS, &config->threads);
	case MEMORY:
		return berth__size_option(COMMAND, "--memory", &config->memory_bytes);
	case SEED:
		return berth__count_option(COMMAND, "--seed", 0, INT64_MAX, &config->seed);
	case JSON:
		config->json = true;
		return true;
	default:
		return false;
	}
}

static bool check_config(const struct config *config, bool has_order)
{
	const uint64_t most = (uint64_t)1 << 43;
	uint64_t block = (uint64_t)BERTH_PAGE_SIZE << config->order;
	char size[BERTH__UNIT_BYTES];

	if (!has_order || config->pattern < 0) {
		berth__complain(0, COMMAND, "%s is missing; `" COMMAND " --help` has an example",
				has_order ? "--pattern" : "--order");
		return false;
	}
	if (config->memory_bytes > most) {
		berth__complain(0, COMMAND, "--memory can be 8T at most; use less");
		return false;
	}
	if (config->memory_bytes / block < config->threads) {
		berth__complain(0, COMMAND,
				"--memory has no block of %s for each thread; use more memory, a "
				"smaller --order or fewer --threads",
				berth__format_bytes(size, (double)block));
		return false;
	}
	return true;
}

int berth__bench_pages(int argc, char **argv)
{
	struct bench bench = {
		.config = { .threads = 1,
			    .memory_bytes = (uint64_t)4 << 30,
			    .seed = 1,
			    .pattern = -1 },
	};
	bool has_order = false;
	int option, code = BERTH__EXIT_FAILED;

	optind = 0;
	while ((option = berth__next_option(COMMAND, argc, argv, options)) >= 0) {
		if (option == 'h') {
			fputs(help, stdout);
			return 0;
		}
		if (!take_option(&bench.config, option))
			return BERTH__EXIT_USAGE;
		has_order |= option == ORDER;
	}
	if (option == BERTH__OPTIONS_BAD)
		return BERTH__EXIT_USAGE;
	if (optind < argc)
		return berth__complain(BERTH__EXIT_USAGE, COMMAND,
				       "'%s' is no option; `" COMMAND " --help` lists them",
				       argv[optind]);
	if (!check_config(&bench.config, has_order))
		return BERTH__EXIT_USAGE;
	berth__catch_interrupts();
	if (open_bench(&bench))
		code = measure(&bench);
	close_bench(&bench);
	return code;
}
