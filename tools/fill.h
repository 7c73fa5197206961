/* SPDX-License-Identifier: MIT */
/*
 * Areas full of movable memory whose contents are known (fill.c), and threads that write to it
 * while it is moved (writers.c). For `berth bench claim`.
 */
#ifndef BERTH_TOOLS_FILL_H
#define BERTH_TOOLS_FILL_H

#include <berth/berth.h>

#define BERTH__PAGE_WORDS (BERTH_PAGE_SIZE / sizeof(uint64_t))
#define BERTH__MAX_WRITERS 32u

/*
 * The memory is mapped in chunks, so that after a claim those that were moved out can be mapped
 * anew in the area. Runs smaller than 2 MiB are scattered: where one ends, the next page lies
 * elsewhere in the pool.
 */
struct berth__fill {
	struct berth_pool *pool;
	size_t run_bytes; /* mapped in runs of this size: a power of two, a page .. 2 MiB */
	uint64_t seed;
	bool every_word; /* all words have contents and are checked, not two a page */
	unsigned flags;  /* of the memory: 0, or BERTH_MEMORY_NO_AREA for berth__fill_outside() */
	/* Set by berth__fill_open(): */
	size_t chunk_bytes;   /* a power of two */
	unsigned chunk_shift; /* which one */
	size_t nr_chunks;     /* even when runs are scattered */
	char **chunks;        /* addresses; NULL: not mapped */
	void **left;          /* berth__fill_outside(): what was too little for chunks */
	size_t nr_left;
	uint64_t area_offset, area_bytes;
};

/* For all areas of the pool, multiples of 2 MiB. 0 or an error of the library. */
int berth__fill_open(struct berth__fill *fill);
/*
 * Maps what isn't mapped or isn't in the area, until the area is full. Pinned memory stays where it
 * is. 0, or an error of the library; -EAGAIN: the library doesn't put it all into the area.
 */
int berth__fill_refill(struct berth__fill *fill);
/* Unmaps all. An error of the library: some is still mapped. */
int berth__fill_close(struct berth__fill *fill);
/*
 * Instead of open and refill: takes what is free outside the areas, and gives every second page of it back. So no
 * two of the pages that are free then follow each other. `fill` has the flag, and runs of a page.
 */
int berth__fill_outside(struct berth__fill *fill);
/* How many runs the memory consists of: contiguous in addresses and in the pool. */
size_t berth__fill_runs(const struct berth__fill *fill);

/* Page `page` of the memory, 0 .. its pages - 1. */
static inline uint64_t *berth__fill_page(const struct berth__fill *fill, uint64_t page)
{
	uint64_t at = page << BERTH_PAGE_SHIFT;

	return (uint64_t *)(void *)(fill->chunks[at >> fill->chunk_shift] +
				    (at & (fill->chunk_bytes - 1)));
}
uint64_t berth__fill_pages(const struct berth__fill *fill);
/* What is in a word before anybody writes to it. */
uint64_t berth__fill_word(const struct berth__fill *fill, uint64_t page, unsigned word);
/*
 * Looks at the contents: two words a page, or every word. Returns how many are wrong; *first: the
 * address of one.
 */
uint64_t berth__fill_check(const struct berth__fill *fill, const void **first);
/* Writes the contents of before again. */
void berth__fill_restore(const struct berth__fill *fill);

/* ---- Writers --------------------------------------------------------------------------------- */

/* A write that took more than 5 us, in ticks. */
struct berth__stall {
	uint64_t began, ended;
	uint64_t queued_ns; /* part of it: ready to run, but without a CPU; 0 where the system does not tell */
	bool preempted; /* the thread only lost its CPU: it didn't wait for anything */
};

struct berth__writers;

/*
 * Starts threads that write to random words all over the memory, each to words of its own, and
 * returns when all are writing. NULL: no thread, or no memory. nr is 1 .. BERTH__MAX_WRITERS. The
 * ticks of measure.h must have been started.
 */
struct berth__writers *berth__writers_start(const struct berth__fill *fill, unsigned nr);
/* Stops them. Only then use the functions below. */
void berth__writers_stop(struct berth__writers *writers);
uint64_t berth__writers_writes(const struct berth__writers *writers);
/* Calls `each` for the stalls that overlap the ticks from .. to. Returns how many stalls could not
 * be kept. */
uint64_t berth__writers_stalls(const struct berth__writers *writers, uint64_t from, uint64_t to,
			       void (*each)(void *ctx, const struct berth__stall *stall),
			       void *ctx);
/* As berth__fill_check(), but looks at every word and knows what the writers wrote. */
uint64_t berth__writers_check(const struct berth__writers *writers, const void **first);
void berth__writers_free(struct berth__writers *writers);

#endif
