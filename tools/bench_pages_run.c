/* SPDX-License-Identifier: MIT */
/*
 * The measurement of `berth bench pages`. Nothing is behind the frames; only metadata is touched. A
 * pattern is a sequence of allocations and frees over an array of blocks, the same for every
 * allocator (see run_pattern()):
 *
 *	bulk    allocates all blocks, then frees them in the same order
 *	repeat  allocates one block and frees it, again and again
 *	rand    with all blocks allocated, frees all in random order, then allocates all again into
 *	        random places of the array
 *
 * Two rows are no competitors but bounds: the array used as a stack is the least that anything
 * costs which remembers what is free, and touching is the least that anything costs which keeps
 * something about each frame: it reads, changes and writes as many bytes as the core's metadata of a frame,
 * side by side, of the frames that the pattern names, and remembers nothing. (Of the core's operations a free changes
 * the 8 bytes of a `struct berth_frame`, an allocation the cookie as well; each is in an array of its own.)
 */
#define _GNU_SOURCE
#include "tools/bench_pages.h"

#include <stdlib.h>
#include <string.h>

#include <berth/core.h>

#include "core/internal.h"
#include "port/linux/port_linux.h"
#include "tools/options.h"

#define LEAST_OPS 400000u /* of each kind in a round, of all threads together */
#define THREAD_SLOTS 64u  /* as a pool has */

const char *const berth__pattern_names[BERTH__NR_PATTERNS] = { "bulk", "repeat", "rand" };
const char *const berth__row_names[BERTH__NR_ROWS] = { "stack", "touch", "berth", "jemalloc",
						       "mimalloc" };

/* ---- What is measured ------------------------------------------------------------------------ */

static bool zone_alloc(struct berth__pages *bench, uint32_t i, uint64_t *block)
{
	return berth_alloc_pages(bench->zone, bench->order, BERTH_GFP_MOVABLE, bench->owner,
				 (uint64_t)i << bench->order, block) == 0;
}

static bool zone_free(struct berth__pages *bench, uint64_t block)
{
	return berth_free_pages(bench->zone, block) == 0;
}

static __attribute__((noinline)) uint32_t stack_pop(struct berth__stack *stack)
{
	uint32_t value;

	if (stack->locked)
		pthread_spin_lock(&stack->lock);
	value = stack->nr ? stack->entries[--stack->nr] : UINT32_MAX;
	if (stack->locked)
		pthread_spin_unlock(&stack->lock);
	return value;
}

static __attribute__((noinline)) void stack_push(struct berth__stack *stack, uint32_t value)
{
	if (stack->locked)
		pthread_spin_lock(&stack->lock);
	stack->entries[stack->nr++] = value;
	if (stack->locked)
		pthread_spin_unlock(&stack->lock);
}

static bool stack_alloc(struct berth__pages *bench, uint32_t i, uint64_t *block)
{
	(void)i;
	*block = stack_pop(&bench->stack);
	return *block != UINT32_MAX;
}

static bool stack_free(struct berth__pages *bench, uint64_t block)
{
	stack_push(&bench->stack, (uint32_t)block);
	return true;
}

#define FRAME_BYTES (sizeof(struct berth_frame) + sizeof(uint64_t) + sizeof(union berth_links))
#define FRAME_WORDS (FRAME_BYTES / sizeof(uint64_t))

static __attribute__((noinline)) void touch(void *touched, uint64_t frame)
{
	uint64_t *words = (uint64_t *)touched + frame * FRAME_WORDS;

	for (unsigned i = 0; i < FRAME_WORDS; i++)
		words[i] += frame;
}

static bool touch_alloc(struct berth__pages *bench, uint32_t i, uint64_t *block)
{
	*block = (uint64_t)i << bench->order;
	touch(bench->touched, *block);
	return true;
}

static bool touch_free(struct berth__pages *bench, uint64_t block)
{
	touch(bench->touched, block);
	return true;
}

static bool peer_alloc(struct berth__pages *bench, uint32_t i, uint64_t *block)
{
	size_t bytes = (size_t)BERTH_PAGE_SIZE << bench->order;

	(void)i;
	*block = (uintptr_t)bench->peer->aligned_alloc(bytes, bytes);
	return *block != 0;
}

static bool peer_free(struct berth__pages *bench, uint64_t block)
{
	bench->peer->free((void *)(uintptr_t)block);
	return true;
}

/* ---- Patterns -------------------------------------------------------------------------------- */

/* One thread's part of a round. */
struct part {
	struct berth__pages *bench;
	uint32_t first, nr; /* its blocks */
	bool alone;         /* the others don't run now */
	unsigned repeats;
	uint64_t alloc_ns, free_ns, pair_ns; /* of repeats * nr operations of each kind */
	pthread_t thread;
	void *(*body)(void *part);
	int cpu; /* where the thread stays */
};

/* A single thread waits for nobody: its CPU time is what it took, whoever else runs. With several,
 * waiting for each other counts. */
static uint64_t clock_of(const struct part *part)
{
	return berth__clock_ns(part->alone ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC);
}

/* Waits for the other threads, then tells the time. */
static uint64_t together(const struct part *part)
{
	if (!part->alone)
		pthread_barrier_wait(&part->bench->barrier);
	return clock_of(part);
}

/*
 * The patterns' loops are written once and inlined for each kind of allocator, so that nothing
 * stands between a loop and the function that it measures.
 */
#define ALWAYS_INLINE static inline __attribute__((always_inline))
typedef bool alloc_fn(struct berth__pages *bench, uint32_t i, uint64_t *block);
typedef bool free_fn(struct berth__pages *bench, uint64_t block);

ALWAYS_INLINE void alloc_all(struct part *part, alloc_fn *alloc, bool random, uint64_t *ns)
{
	struct berth__pages *bench = part->bench;
	uint64_t began = together(part);
	bool good = true;

	for (uint32_t i = part->first; i < part->first + part->nr; i++) {
		uint32_t place = random ? bench->places[i] : i;

		good &= alloc(bench, place, &bench->blocks[place]);
	}
	*ns += clock_of(part) - began;
	if (!good)
		bench->failed = true;
}

ALWAYS_INLINE void free_all(struct part *part, free_fn *free_one, bool random, uint64_t *ns)
{
	struct berth__pages *bench = part->bench;
	uint64_t began = together(part);
	bool good = true;

	for (uint32_t i = part->first; i < part->first + part->nr; i++)
		good &= free_one(bench, bench->blocks[random ? bench->places[i] : i]);
	*ns += clock_of(part) - began;
	if (!good)
		bench->failed = true;
}

ALWAYS_INLINE void repeat(struct part *part, alloc_fn *alloc, free_fn *free_one)
{
	struct berth__pages *bench = part->bench;
	uint64_t began = together(part);
	bool good = true;

	for (uint32_t i = part->first; i < part->first + part->nr; i++) {
		good &= alloc(bench, i, &bench->blocks[i]);
		good &= free_one(bench, bench->blocks[i]);
	}
	part->pair_ns += clock_of(part) - began;
	if (!good)
		bench->failed = true;
}

ALWAYS_INLINE void run_pattern(struct part *part, alloc_fn *alloc, free_fn *free_one)
{
	const enum berth__pattern pattern = part->bench->pattern;
	uint64_t unused = 0;

	if (pattern == BERTH__RAND)
		alloc_all(part, alloc, false, &unused);
	for (unsigned i = 0; i < part->repeats; i++) {
		if (pattern == BERTH__BULK) {
			alloc_all(part, alloc, false, &part->alloc_ns);
			free_all(part, free_one, false, &part->free_ns);
		} else if (pattern == BERTH__RAND) {
			free_all(part, free_one, true, &part->free_ns);
			alloc_all(part, alloc, true, &part->alloc_ns);
		} else {
			repeat(part, alloc, free_one);
		}
	}
	if (pattern == BERTH__RAND)
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

static void *run_on_touched(void *part)
{
	run_pattern(part, touch_alloc, touch_free);
	return NULL;
}

static void *run_on_peer(void *part)
{
	run_pattern(part, peer_alloc, peer_free);
	return NULL;
}

/* ---- Rounds ---------------------------------------------------------------------------------- */

static void *run_part(void *ctx)
{
	struct part *part = ctx;

	berth__stay_on(part->cpu);
	return part->body(part);
}

/* Runs `body` in all threads; the parts keep what they measured. False: it failed. Several have a CPU each, as
 * long as there are some: else the system may put all of them on one. */
static bool run_threads(struct berth__pages *bench, struct part *parts, void *(*body)(void *))
{
	int cpus[BERTH__PAGES_MAX_THREADS];
	unsigned nr_cpus = berth__find_cpus(cpus, bench->threads);

	bench->failed = false;
	if (bench->threads == 1) {
		body(&parts[0]);
		return !bench->failed;
	}
	for (unsigned i = 0; i < bench->threads; i++) {
		parts[i].body = body;
		parts[i].cpu = nr_cpus ? cpus[i % nr_cpus] : 0;
		if (pthread_create(&parts[i].thread, NULL, run_part, &parts[i]) != 0) {
			/* Those that started wait for all: they can't go on. */
			berth__complain(0, BERTH__PAGES_COMMAND, "the system gives only %u threads",
					i);
			exit(BERTH__EXIT_FAILED);
		}
		if (parts[i].alone)
			pthread_join(parts[i].thread, NULL);
	}
	for (unsigned i = 0; i < bench->threads; i++)
		if (!parts[i].alone)
			pthread_join(parts[i].thread, NULL);
	return !bench->failed;
}

static void prepare_parts(struct berth__pages *bench, struct part *parts)
{
	uint32_t share = bench->nr_blocks / bench->threads;

	for (unsigned i = 0; i < bench->threads; i++)
		parts[i] = (struct part){ .bench = bench,
					  .alone = bench->threads == 1,
					  .first = i * share,
					  .nr = share,
					  .repeats = (LEAST_OPS - 1) / bench->nr_blocks + 1 };
}

void berth__pages_figures_free(struct berth__pages_figures *figures)
{
	berth__samples_free(&figures->alloc);
	berth__samples_free(&figures->free);
	berth__samples_free(&figures->pair);
}

static bool run_round(struct berth__pages *bench, enum berth__pages_row row,
		      const struct berth__peer *peer, bool alone,
		      struct berth__pages_figures *figures)
{
	static void *(*const bodies[BERTH__NR_ROWS])(void *part) = {
		[BERTH__ROW_STACK] = run_on_stack,   [BERTH__ROW_TOUCH] = run_on_touched,
		[BERTH__ROW_BERTH] = run_on_zone,    [BERTH__ROW_JEMALLOC] = run_on_peer,
		[BERTH__ROW_MIMALLOC] = run_on_peer,
	};
	struct part parts[BERTH__PAGES_MAX_THREADS];
	double ops = 0, alloc_ns = 0, free_ns = 0, pair_ns = 0;

	bench->peer = peer;
	prepare_parts(bench, parts);
	for (unsigned i = 0; i < bench->threads; i++)
		parts[i].alone |= alone;
	if (!run_threads(bench, parts, bodies[row]))
		return false;
	for (unsigned i = 0; i < bench->threads; i++) {
		ops += (double)parts[i].nr * parts[i].repeats;
		alloc_ns += (double)parts[i].alloc_ns;
		free_ns += (double)parts[i].free_ns;
		pair_ns += (double)parts[i].pair_ns;
	}
	if (!figures)
		return true;
	berth__sample_add(&figures->alloc, alloc_ns / ops);
	berth__sample_add(&figures->free, free_ns / ops);
	berth__sample_add(&figures->pair, (alloc_ns + free_ns + pair_ns) / ops);
	return true;
}

bool berth__pages_round(struct berth__pages *bench, enum berth__pages_row row,
			const struct berth__peer *peer, struct berth__pages_figures *figures)
{
	return run_round(bench, row, peer, false, figures);
}

bool berth__pages_round_alone(struct berth__pages *bench, enum berth__pages_row row,
			      struct berth__pages_figures *figures)
{
	return run_round(bench, row, NULL, true, figures);
}

/* ---- Metadata ---------------------------------------------------------------------------------- */

/* By how much the peer's metadata grows when it gives all blocks. */
static double peer_metadata(struct berth__pages *bench, const struct berth__peer *peer)
{
	uint64_t before = peer->metadata_bytes ? peer->metadata_bytes(peer) : 0, after;
	uint32_t nr = 0;

	if (!before)
		return 0;
	bench->peer = peer;
	while (nr < bench->nr_blocks && peer_alloc(bench, nr, &bench->blocks[nr]))
		nr++;
	after = peer->metadata_bytes(peer);
	for (uint32_t i = 0; i < nr; i++)
		peer_free(bench, bench->blocks[i]);
	return nr && after > before ?
		       (double)(after - before) / ((double)nr * (1 << bench->order)) :
		       0;
}

double berth__pages_metadata(struct berth__pages *bench, enum berth__pages_row row,
			     const struct berth__peer *peer)
{
	if (row == BERTH__ROW_STACK)
		return (double)sizeof(bench->stack.entries[0]) / (double)(1u << bench->order);
	if (row == BERTH__ROW_TOUCH)
		return FRAME_BYTES;
	if (row == BERTH__ROW_BERTH)
		return (double)bench->metadata_bytes /
		       (double)((uint64_t)bench->nr_blocks << bench->order);
	return peer_metadata(bench, peer);
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
static bool blocks_are_disjoint(const struct berth__pages *bench, uint8_t *seen)
{
	for (uint32_t i = 0; i < bench->nr_blocks; i++) {
		uint64_t block = bench->blocks[i] >> bench->order;

		if (block << bench->order != bench->blocks[i] || block >= bench->nr_blocks ||
		    seen[block])
			return false;
		seen[block] = 1;
	}
	return true;
}

static bool zone_holds(struct berth__pages *bench, uint64_t used_pages)
{
	struct berth_violation violation = { .what = "the counters don't add up" };
	struct berth_zone_stats stats;

	berth_zone_stats(bench->zone, &stats);
	if (berth_zone_check(bench->zone, &violation) && stats.used_pages == used_pages &&
	    stats.free_pages + stats.pcp_pages + used_pages == stats.managed_pages)
		return true;
	berth__complain(0, BERTH__PAGES_COMMAND,
			"an invariant is broken: %s (at %llu: %llu, expected %llu)", violation.what,
			(unsigned long long)violation.where, (unsigned long long)violation.value,
			(unsigned long long)violation.expected);
	return false;
}

bool berth__pages_check(struct berth__pages *bench)
{
	struct part parts[BERTH__PAGES_MAX_THREADS];
	uint8_t *seen = calloc(bench->nr_blocks, 1);
	bool good = seen != NULL;

	prepare_parts(bench, parts);
	good = good && zone_holds(bench, 0) && run_threads(bench, parts, allocate_part) &&
	       zone_holds(bench, (uint64_t)bench->nr_blocks << bench->order);
	if (good && !blocks_are_disjoint(bench, seen)) {
		berth__complain(0, BERTH__PAGES_COMMAND, "two allocated blocks overlap");
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

static struct berth_zone_params zone_params(const struct berth__pages *bench)
{
	return (struct berth_zone_params){
		.name = "bench",
		.nr_pages = (uint64_t)bench->nr_blocks << bench->order,
		.max_order = bench->order > 10 ? bench->order : 10,
		.nr_cpus = THREAD_SLOTS,
		.metadata_is_zeroed = true,
		.port = berth_port_linux_ops(),
	};
}

static bool open_zone(struct berth__pages *bench)
{
	static const struct berth_owner_ops ops = { .name = "bench", .migrate = stays };
	struct berth_zone_params params = zone_params(bench);

	bench->metadata = berth__map_resident(bench->metadata_bytes);
	return bench->metadata &&
	       berth_zone_init(&bench->zone, &params, bench->metadata, bench->metadata_bytes) ==
		       0 &&
	       berth_zone_add_memory(bench->zone, 0, params.nr_pages) == 0 &&
	       berth_owner_register(bench->zone, &ops, NULL, &bench->owner) == 0;
}

/* Each thread's blocks in an order of its own (Fisher and Yates). */
static void shuffle_places(struct berth__pages *bench)
{
	uint32_t share = bench->nr_blocks / bench->threads;
	uint64_t state = bench->seed;

	for (uint32_t i = 0; i < bench->nr_blocks; i++) {
		uint32_t first = i / share * share;
		uint32_t other = first + (uint32_t)(berth__random(&state) % (i - first + 1));

		bench->places[i] = bench->places[other];
		bench->places[other] = i;
	}
}

static bool open_stack(struct berth__pages *bench)
{
	struct berth__stack *stack = &bench->stack;

	stack->locked = bench->threads > 1;
	pthread_spin_init(&stack->lock, PTHREAD_PROCESS_PRIVATE);
	stack->entries = berth__map_resident(bench->nr_blocks * sizeof(stack->entries[0]));
	if (!stack->entries)
		return false;
	while (stack->nr < bench->nr_blocks) /* the lowest on top */
		stack_push(stack, bench->nr_blocks - 1 - stack->nr);
	return true;
}

static size_t touched_bytes(const struct berth__pages *bench)
{
	return bench->touches ? ((size_t)bench->nr_blocks << bench->order) * FRAME_BYTES : 0;
}

static bool open_all(struct berth__pages *bench)
{
	struct berth_zone_params params = zone_params(bench);
	size_t array_bytes = bench->nr_blocks * (sizeof(bench->blocks[0]) + 2 * sizeof(uint32_t));

	bench->metadata_bytes = berth_zone_metadata_size(&params);
	/* It all gets memory at once: ask first. */
	if (!bench->metadata_bytes ||
	    bench->metadata_bytes + touched_bytes(bench) + array_bytes > berth__available_bytes())
		return false;
	bench->blocks = berth__map_resident(bench->nr_blocks * sizeof(bench->blocks[0]));
	bench->places = berth__map_resident(bench->nr_blocks * sizeof(bench->places[0]));
	if (bench->touches)
		bench->touched = berth__map_resident(touched_bytes(bench));
	return bench->blocks && bench->places && (bench->touched || !bench->touches) &&
	       open_stack(bench) && open_zone(bench);
}

bool berth__pages_open(struct berth__pages *bench)
{
	uint64_t blocks = bench->memory_bytes >> (BERTH_PAGE_SHIFT + bench->order);

	bench->nr_blocks = (uint32_t)(blocks - blocks % bench->threads);
	if (!open_all(bench)) {
		berth__complain(0, BERTH__PAGES_COMMAND,
				"there is no memory for the metadata of this many pages; use a "
				"smaller --memory");
		return false;
	}
	shuffle_places(bench);
	return pthread_barrier_init(&bench->barrier, NULL, bench->threads) == 0;
}

void berth__pages_close(struct berth__pages *bench)
{
	berth__unmap_resident(bench->blocks, bench->nr_blocks * sizeof(bench->blocks[0]));
	berth__unmap_resident(bench->places, bench->nr_blocks * sizeof(bench->places[0]));
	berth__unmap_resident(bench->touched, touched_bytes(bench));
	berth__unmap_resident(bench->stack.entries,
			      bench->nr_blocks * sizeof(bench->stack.entries[0]));
	berth__unmap_resident(bench->metadata, bench->metadata_bytes);
}
