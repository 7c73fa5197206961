/* SPDX-License-Identifier: MIT */
/*
 * The parts of `berth bench pages`: the command and single cells (bench_pages.c), the measurement
 * (bench_pages_run.c), the allocators of others (bench_pages_peers.c), the whole table and what it
 * is judged by (bench_pages_table.c).
 */
#ifndef BERTH_TOOLS_BENCH_PAGES_H
#define BERTH_TOOLS_BENCH_PAGES_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tools/json.h"
#include "tools/measure.h"

#define BERTH__PAGES_COMMAND "berth bench pages"
#define BERTH__PAGES_MAX_THREADS 256u

enum berth__pattern { BERTH__BULK, BERTH__REPEAT, BERTH__RAND, BERTH__NR_PATTERNS };
extern const char *const berth__pattern_names[BERTH__NR_PATTERNS];

/* The rows of the table. */
enum berth__pages_row {
	BERTH__ROW_STACK, /* an array used as a stack of frame numbers */
	BERTH__ROW_TOUCH, /* no allocator: changes the frames' metadata */
	BERTH__ROW_BERTH,
	BERTH__ROW_JEMALLOC, /* those of others from here */
	BERTH__ROW_MIMALLOC,
	BERTH__NR_ROWS
};
extern const char *const berth__row_names[BERTH__NR_ROWS];

struct berth__pages_config {
	uint64_t order, threads, memory_bytes, seed, rounds;
	int pattern; /* enum berth__pattern; -1: not chosen */
	int row;     /* enum berth__pages_row; -1: not chosen */
	bool has_order, json;
};

/* ---- Allocators of others (bench_pages_peers.c) ---------------------------------------------- */

struct berth__peer {
	void *library; /* NULL: not there */
	char label[32];
	void *(*aligned_alloc)(size_t alignment, size_t bytes);
	void (*free)(void *block);
	/* Bytes of its metadata now; 0: it doesn't tell. */
	uint64_t (*metadata_bytes)(const struct berth__peer *peer);
	int (*mallctl)(const char *name, void *old, size_t *old_bytes, void *new, size_t new_bytes);
};

/*
 * Loads the allocator of a row; false: it isn't there, and the user knows why and which package
 * has it. May start this program again with the arguments of the command, before anything else
 * was done, if that is what it takes.
 */
bool berth__peer_open(struct berth__peer *peer, enum berth__pages_row row, char **argv);

/* ---- The measurement (bench_pages_run.c) ------------------------------------------------------ */

struct berth__stack {
	pthread_spinlock_t lock;
	bool locked;
	uint32_t nr;
	uint32_t *entries;
};

/* One cell of the table for all allocators: so many threads follow a pattern with blocks of an
 * order. */
struct berth__pages {
	unsigned order, threads;
	enum berth__pattern pattern;
	uint64_t memory_bytes, seed;
	bool touches; /* BERTH__ROW_TOUCH is measured, too */
	/* Set by berth__pages_open(): */
	uint32_t nr_blocks; /* a multiple of the threads */
	struct berth_zone *zone;
	void *metadata;
	size_t metadata_bytes;
	unsigned owner;
	struct berth__stack stack;
	void *touched;                  /* as large as the frames' metadata */
	uint64_t *blocks;               /* what was allocated: frame numbers, or addresses */
	uint32_t *places;               /* rand: the order of the blocks of each thread */
	const struct berth__peer *peer; /* the one that is measured now */
	pthread_barrier_t barrier;
	_Atomic bool failed;
};

/* Of an operation, in ns; of a pair, allocate and free together. */
struct berth__pages_figures {
	struct berth__samples alloc, free, pair;
};

/* order .. touches are set. False: no memory, and the user knows. */
bool berth__pages_open(struct berth__pages *bench);
void berth__pages_close(struct berth__pages *bench);
/* Measures one allocator once, and adds a sample of each kind to the figures, unless they are NULL.
 * False: it couldn't give or take a block. */
bool berth__pages_round(struct berth__pages *bench, enum berth__pages_row row,
			const struct berth__peer *peer, struct berth__pages_figures *figures);
/* The same threads, each on its CPU and with its part of the blocks, one after the other. */
bool berth__pages_round_alone(struct berth__pages *bench, enum berth__pages_row row,
			      struct berth__pages_figures *figures);
void berth__pages_figures_free(struct berth__pages_figures *figures);
/* Allocates all blocks of the zone once more; false: two overlap, or an invariant is broken, and
 * the user knows. */
bool berth__pages_check(struct berth__pages *bench);
/* Bytes of metadata for a page of the cell; 0: the row has none, or doesn't tell. */
double berth__pages_metadata(struct berth__pages *bench, enum berth__pages_row row,
			     const struct berth__peer *peer);

/* ---- The table (bench_pages_table.c) ----------------------------------------------------------- */

/* Measures and prints it; the exit code. argv: of the command. */
int berth__pages_table(const struct berth__pages_config *config, char **argv);

#endif
