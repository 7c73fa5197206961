/* SPDX-License-Identifier: MIT */
/*
 * What a world on the simulator (testsim.h) is made of, and who has which frame: every one has a word of contents and a
 * note whether somebody has it.
 */
#ifndef BERTH_SIMWORLD_H
#define BERTH_SIMWORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <berth/claims.h>
#include <berth/core.h>
#include <berth/vm.h>
#include <berth_port.h>

#include "port/sim/sim.h"

/* Address sanitizer makes changing stacks slow. */
#ifdef __has_feature
#define TEST_HAS_FEATURE(x) __has_feature(x)
#else
#define TEST_HAS_FEATURE(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || TEST_HAS_FEATURE(address_sanitizer)
#define SEEDS_DIVISOR 10u
#else
#define SEEDS_DIVISOR 1u
#endif

#define ZONE_PAGES 256u
#define ZONE_START 0x1000u
#define AREA_PAGES 64u
#define PAGEBLOCK 16u
#define MAX_WORKERS 6u
#define MAX_CLAIMERS 4u
#define SLOTS 10u
#define SLOT_PAGES 4u
#define NR_PAGES (MAX_WORKERS * SLOTS * SLOT_PAGES)

struct world;

struct run {
	uint32_t nr_pages; /* 0: none */
	bool movable, pinned;
	berth_pfn_t fixed; /* of the first page, when it isn't movable */
	uint64_t value;    /* page i reads value + i */
};

struct worker {
	struct world *w;
	unsigned id, nr_ops;
	uint64_t random;
	struct run runs[SLOTS];
};

struct world_params {
	const struct berth_port_ops *port; /* NULL: with a barrier */
	const struct berth_owner_ops *ops; /* of the workers' pages; NULL: world_owner_ops */
	unsigned nr_workers, nr_ops;       /* of each */
	void (*worker)(void *arg);         /* NULL: worker_main() */
	unsigned max_order;                /* of an allocation */
	bool movable, pins;
	unsigned nr_drains;   /* a drainer that drains so often */
	unsigned nr_claims;   /* claimers of areas; */
	unsigned nr_ranges;   /* one of ranges; claims of each */
	unsigned nr_claimers; /* of areas; 0: one */
	bool one_area;        /* they all claim from the first one, */
	bool many_ways;       /* also in bulk, and prepared */
	bool whole; /* claims are of one or two whole pageblocks, or with must_succeed, one */
	bool pieces; /* claims are of one of two sizes below a pageblock, or of one, with a name or not */
	uint64_t deadline_ns; /* of a claim, from its start; 0: none */
	bool must_succeed;    /* claims are of a whole area if not `whole`, and none may fail */
	bool prefilled;       /* workers begin with pages that nobody's list has seen */
	unsigned ballast;     /* frames that nobody else gets */
	unsigned reserved;    /* the zone's last frames, in use since before it */
};

struct world {
	struct berth_sim *sim;
	struct world_params params;
	struct berth_zone *zone;
	void *metadata;
	struct berth_cma *areas[2];
	uint64_t bitmaps[2][AREA_PAGES / 64];
	unsigned owner;
	berth_mutex_t lock;          /* guards the table, and contents of movable pages */
	berth_pfn_t table[NR_PAGES]; /* by the page's cookie */
	uint64_t content[ZONE_PAGES];
	bool taken[ZONE_PAGES];
	berth_pfn_t ballast[ZONE_PAGES];
	struct worker workers[MAX_WORKERS];
	struct worker claimers[2 + MAX_CLAIMERS];
	char *prepared[MAX_CLAIMERS]; /* memory for a preparation in each step of each */
	uint64_t nr_claimed, nr_refused, nr_moved, nr_allocated;
};

static inline uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static inline uint64_t below(uint64_t *state, uint64_t bound)
{
	return next_random(state) % bound;
}

static inline void require(struct world *w, bool cond, const char *what, uint64_t value,
			   uint64_t expected)
{
	if (!cond)
		berth_sim_fail(w->sim, what, value, expected);
}

#define require_ret(w, what, ret, expected)                                       \
	do {                                                                      \
		int ret_ = (ret);                                                 \
		require((w), ret_ == (expected), (what), (uint64_t)(int64_t)ret_, \
			(uint64_t)(int64_t)(expected));                           \
	} while (0)

/* ---- Who has which frame ----------------------------------------------------------------------- */

static inline void take_frames(struct world *w, berth_pfn_t pfn, uint64_t nr)
{
	for (uint64_t i = 0; i < nr; i++) {
		uint64_t index = pfn + i - ZONE_START;

		require(w, index < ZONE_PAGES, "a frame outside the zone", pfn, 0);
		require(w, !w->taken[index], "a frame was given out twice", pfn + i, 0);
		w->taken[index] = true;
	}
}

static inline void leave_frames(struct world *w, berth_pfn_t pfn, uint64_t nr)
{
	for (uint64_t i = 0; i < nr; i++)
		w->taken[pfn + i - ZONE_START] = false;
}

static inline uint64_t *content_of(struct world *w, berth_pfn_t pfn)
{
	return &w->content[pfn - ZONE_START];
}

#endif
