/* SPDX-License-Identifier: MIT */
/*
 * What is known above the pageblocks (summary.c). Private to the core.
 */
#ifndef BERTH_CORE_SUMMARY_H
#define BERTH_CORE_SUMMARY_H

#include "core/internal.h"

#define BERTH_GROUP 64u /* pageblocks in a group, and groups in a region */

/* What runs of pageblocks are looked for. */
enum berth_run_kind {
	BERTH_RUN_FREE,      /* wholly free */
	BERTH_RUN_EMPTIABLE, /* no pin, claim or isolation: all of it can be had, as far as is known */
	BERTH_RUN_UNCLAIMED, /* no claim */
	BERTH_NR_RUNS
};

/* Compaction's sources. */
enum { BERTH_SOURCE_MOVABLE, BERTH_SOURCE_OTHER, BERTH_SOURCE_AREA, BERTH_NR_SOURCES };

/* By the zone's cost model: for a claim that drops what is idle, and for one that drops all it can. */
#define BERTH_NR_COSTS 2u

/* Pageblocks: at the start, in the longest run, at the end. */
struct berth_runs {
	uint32_t first, longest, last;
};

/* Of a group, or of a region. */
struct berth_summary {
	struct berth_runs runs[BERTH_NR_RUNS];
	uint64_t least_cost[BERTH_NR_COSTS];   /* of an unclaimed pageblock; UINT64_MAX: none */
	uint32_t least_taken;                  /* frames that aren't free, of any pageblock */
	uint32_t most_joined;                  /* used frames less used blocks, of any pageblock */
	uint32_t most_dropped[BERTH_NR_COSTS]; /* frames that a claim drops, of any pageblock */
	uint32_t free_run; /* no pageblock but the wholly free has a longer run of free frames */
	uint32_t least_source[2][BERTH_NR_SOURCES]; /* frames in use, of a source for compaction;
						     * [1]: pinned ones too */
};

struct berth_group {
	struct berth_summary summary;
	uint64_t is[BERTH_NR_RUNS]; /* a bit for each pageblock */
};

/* A pageblock's counters when its group was summarised. */
struct berth_load {
	uint32_t used, blocks; /* frames neither free nor claimed, and the blocks they are */
	uint32_t free;
	uint32_t open; /* frames that a claim may take, at most: not claimed, not pinned */
	uint64_t cost[BERTH_NR_COSTS];
};

/* What a claim of the kind drops in a pageblock with so many frames in use, in so many blocks. */
struct berth_dropped {
	uint32_t pages, blocks;
};
struct berth_dropped berth__dropped(const struct berth_zone *zone, uint32_t number,
				    unsigned cost_kind, uint32_t used, uint32_t used_blocks);
/* Such a claim drops blocks that are so discardable. S. */
static inline bool berth__drops(const struct berth_zone *zone, unsigned cost_kind,
				enum berth_discardable kind)
{
	if (cost_kind)
		return kind != BERTH_DISCARD_NOT;
	return kind == BERTH_DISCARD_IDLE &&
	       atomic_load_explicit(&zone->drops_idle, memory_order_relaxed);
}

/* The pageblock's counters have changed. Z, or a fence of all orders after the change. */
static inline void berth__stale_locked(struct berth_zone *zone,
				       const struct berth_pageblock *pageblock)
{
	uint32_t group = (uint32_t)(pageblock - zone->pageblocks) / BERTH_GROUP;
	_Atomic uint64_t *word = &zone->stale[group / BERTH_GROUP];
	uint64_t bit = 1ull << group % BERTH_GROUP;

	if (!(atomic_load_explicit(word, memory_order_relaxed) & bit))
		atomic_fetch_or_explicit(word, bit, memory_order_relaxed);
}
/* The same without a lock: after the change. */
void berth__stale(struct berth_zone *zone, const struct berth_pageblock *pageblock);
/* Likewise of all pageblocks. O(regions). Z. */
void berth__stale_all_locked(struct berth_zone *zone);
/* Brings up to date what says something about the pageblocks [first, end). S; takes Z for each group
 * that was stale. */
void berth__refresh(struct berth_zone *zone, uint32_t first, uint32_t end);
/* What a group's summary (and its pageblocks' loads), a region's should be. Z; S. */
void berth__summarise_group(const struct berth_zone *zone, uint32_t number,
			    struct berth_group *group, struct berth_load *loads);
void berth__summarise_region(const struct berth_zone *zone, uint32_t region,
			     struct berth_summary *all);

/* A walk over the runs of `kind`, of at least `least` (> 0) pageblocks each, in [at, end). */
struct berth_run_walk {
	const struct berth_zone *zone;
	enum berth_run_kind kind;
	uint32_t at, end, least;
	bool in_run;    /* a run has begun, */
	uint32_t first; /* here */
};
/* The next run, as long as it is; false: none. By the summaries as they are: S. */
bool berth__next_run(struct berth_run_walk *walk, uint32_t *first, uint32_t *end);

#endif
