/* SPDX-License-Identifier: MIT */
/*
 * What the files of alloc/ do for each other (prefix berth__): the search for a range, emptying it, attempts to claim.
 * The letters say under which lock, see core/internal.h.
 */
#ifndef BERTH_CORE_ALLOC_INTERNAL_H
#define BERTH_CORE_ALLOC_INTERNAL_H

#include "core/motion/internal.h"

/* ---- alloc/page_alloc.c -------------------------------------------------------------------------- */

/* What no caller can ask for: berth__rmqueue_locked() tries the HIGHATOMIC reserve first, or at last. */
#define BERTH_GFP_RESERVE_FIRST (1u << 30)
#define BERTH_GFP_RESERVE_LAST (1u << 31)

/* A block from the zone as it is: no watermark, nobody's list is drained. Tagged; or BERTH_IDX_NONE. */
berth_idx_t berth__alloc_once(struct berth_zone *zone, unsigned order, unsigned gfp, uint32_t tag,
			      uint64_t cookie);

/* ---- alloc/range.c ------------------------------------------------------------------------------- */

#define BERTH_CLAIM_TRIES 16u /* ranges tried before a claim gives up, or waits for its deadline */

/* What a search looks for, and what it learnt. */
struct berth_search {
	struct berth_cma *area;
	berth_idx_t nr;
	berth_idx_t step;   /* starts are multiples of it: the alignment, or a bit of the bitmap */
	berth_idx_t lo, hi; /* the range lies in [lo, hi) */
	uint64_t boundary;  /* pages: no multiple of it is crossed; 0: none */
	bool ignore_pins;   /* only asking whether claims leave room */
	bool free_only;     /* what isn't free is in the way */
	bool first_fit;
	bool drop_used;   /* BERTH_CLAIM_DROP */
	berth_idx_t from; /* free runs are looked for from here on first: once somebody was faster */
	uint32_t busy_clock; /* not where a claim was refused lately, if possible; 0: anywhere */
	unsigned nr_avoid;
	berth_idx_t avoid[BERTH_CLAIM_TRIES]; /* heads that were busy in this claim */
};

/* 0; -E2BIG: no such range can ever be had in the area. params: valid. */
int berth__search_init(struct berth_search *search, struct berth_cma *area,
		       const struct berth_claim_params *params);
/* A range may begin there. */
bool berth__legal_start(const struct berth_search *search, uint64_t idx);
/* The range to claim; false: none. Somebody else may be faster. Takes S, and Z for a group or a sweep. */
bool berth__choose_range(const struct berth_search *search, berth_idx_t *best);
/* Nothing can be chosen: because of claims, or because of pins, and whose? Returns the error, or
 * 1: what was in the way isn't any more, search again. */
int berth__explain_range(const struct berth_search *search, struct berth_claim_report *report);
/* The least order of a free block in a free run of so many frames. */
unsigned berth__partial_order(const struct berth_search *search);
/* Marks [start, end), inside the area, in its bitmap. Without locks, by whose the range is. */
void berth__bitmap_set(struct berth_cma *area, berth_idx_t start, berth_idx_t end, bool value);

/* ---- frames/kept.c ------------------------------------------------------------------------------- */

/* What is kept for the next claim becomes this one, if it fits and the search would go there, too. Without locks,
 * unless the name changes. */
bool berth__kept_take(const struct berth_search *search, const char *name, berth_idx_t *start);

/* ---- alloc/runs.c -------------------------------------------------------------------------------- */

#define BERTH_ALL_EDGES UINT32_MAX
/*
 * The longest runs of free, and of claimable frames of an area. At most `edges` pageblocks are looked
 * at by frames: with fewer than it takes, runs are reported shorter than they are, by less than two
 * pageblocks, or by as much as they have outside whole pageblocks.
 */
void berth__largest_runs(struct berth_cma *area, uint32_t edges, uint64_t *free,
			 uint64_t *claimable);

/* ---- alloc/contig.c ------------------------------------------------------------------------------- */

/* How a range is emptied. */
struct berth_emptying {
	const struct berth_claim_params *params;
	struct berth_pieces pieces; /* what it becomes, if it is kept */
	unsigned dst_set; /* where to, see berth__migrate_batch(); BERTH_SET_NONE: by policy */
	unsigned passes;  /* scans that may find blocks in flight; waits between double */
	bool may_split;   /* blocks at the edges, and those without a destination of their order */
	bool may_drop;    /* clean blocks on LRU lists are dropped instead of moved */
	bool evictable_only; /* unevictable blocks are in the way */
	bool keep;           /* as a claim; otherwise it is all free after it */
};
/* As a claim does it. `start_flags`: tag flags of its first frame, for berth__release_begin(). */
struct berth_emptying berth__emptying_of_claim(const struct berth_claim_params *params,
					       uint32_t start_flags);

/* A range on its way to being empty. It doesn't move in memory: the zone knows it. */
struct berth_claiming {
	struct berth_isolation range;
	struct berth_zone *zone;
	const struct berth_emptying *how;
	struct berth_claim_report *report;
	uint64_t taken;        /* frames of the range */
	berth_idx_t next;      /* where the scan goes on */
	berth_idx_t in_flight; /* the last block that was just being moved or freed, or NONE */
	unsigned passes;
	bool fenced, looked, no_progress;
	bool conflict; /* another claim was faster: nothing is wrong with the range's borrowers */
	uint64_t phase_began;
};
/* Each returns 1: call berth__claiming_step(); 0: all is taken; or an error. berth__claiming_end()
 * ends it in any case, also between two steps, with an error then. `how` and `report` must last; now_ns: the clock, which
 * the caller has just read. */
int berth__claiming_begin(struct berth_claiming *claim, struct berth_zone *zone, berth_idx_t start,
			  berth_idx_t end, const struct berth_emptying *how,
			  struct berth_claim_report *report, uint64_t now_ns);
int berth__claiming_step(struct berth_claiming *claim);
void berth__claiming_end(struct berth_claiming *claim, int error);
/* All of these together. */
int berth__empty_range(struct berth_zone *zone, berth_idx_t start, berth_idx_t end,
		       const struct berth_emptying *how, struct berth_claim_report *report);

/* Gives a claim back in two steps, so that the caller can forget it in between. False: it isn't a claim
 * with these tag flags, which must include BERTH_TAG_AREA. */
bool berth__release_begin(struct berth_zone *zone, berth_idx_t start, uint64_t nr_pages,
			  uint32_t flags);
void berth__release_end(struct berth_zone *zone, berth_idx_t start, uint64_t nr_pages);
void berth__release_undo(struct berth_zone *zone, berth_idx_t start, uint32_t flags);

/*
 * A claim was refused because of what is at pfn: for a while the search looks elsewhere first. Pins
 * are counted anyway; this is for what only an owner knows. In units of 2^20 ns, as busy_until.
 */
#define BERTH_BUSY_NS 50000000ull
void berth__mark_busy(struct berth_zone *zone, berth_pfn_t pfn);
static inline uint32_t berth__busy_clock(uint64_t ns)
{
	return (uint32_t)(ns >> 20) | 1; /* 0: never was */
}
static inline bool berth__is_busy(const struct berth_pageblock *pageblock, uint32_t clock)
{
	uint32_t until = atomic_load_explicit(&pageblock->busy_until, memory_order_relaxed);

	return until && (int32_t)(until - clock) > 0;
}

/* Exactly this is a claim that was made with these flags. Z. */
bool berth__is_claim_locked(const struct berth_zone *zone, berth_idx_t start, uint64_t nr_pages,
			    uint32_t flags);
/* The claim [start, end) becomes free memory of its pageblocks' sets. Z. */
void berth__release_claimed_locked(struct berth_zone *zone, berth_idx_t start, berth_idx_t end);
/* Names who holds the block at `head`, in the report. Returns -EBUSY. Z or a stable block. */
int berth__blocked_by(struct berth_zone *zone, berth_idx_t head, struct berth_claim_report *report);
/* Completes the blocker's holder by asking its owner. Without locks. */
void berth__ask_holder(struct berth_zone *zone, struct berth_claim_report *report);

/* ---- alloc/cma.c ---------------------------------------------------------------------------------- */

/* A claim of an area on its way: search, ranges tried, and again. Doesn't move in memory. */
struct berth_attempt {
	struct berth_cma *area;
	struct berth_claim_params params;
	struct berth_emptying how; /* .pieces may be set after berth__attempt_init() */
	struct berth_search search;
	struct berth_claiming claiming;
	struct berth_claim_report *report;
	berth_idx_t start;  /* of the claim, when there is one */
	unsigned conflicts; /* with other claims, in this round */
	bool explain;       /* find out why there is no range to try; otherwise -ENOSPC */
	bool emptying;      /* a range is fenced off */
	uint64_t pause_ns;  /* until the next round */
};
/* 0; -E2BIG. */
int berth__attempt_init(struct berth_attempt *attempt, struct berth_cma *area,
			const struct berth_claim_params *params, struct berth_claim_report *report);
/* One range, or one batch of it. 1: go on; 0: claimed; else the round has failed. */
int berth__attempt_step(struct berth_attempt *attempt);
/* After a failed round. 1: another one, after *pause_ns; else the error. */
int berth__attempt_round_failed(struct berth_attempt *attempt, int error, uint64_t *pause_ns);
/* Gives up between two steps. */
void berth__attempt_abandon(struct berth_attempt *attempt);
/* All steps and rounds. Sleeps. */
int berth__attempt_run(struct berth_attempt *attempt);
bool berth__claim_params_valid(const struct berth_cma *area,
			       const struct berth_claim_params *params);
/* Completes the report, and counts: so many claims, and a failure if there weren't all. began_ns: of the
 * call, or 0. */
void berth__claim_ended(struct berth_cma *area, struct berth_claim_report *report, int error,
			uint64_t claims, uint64_t began_ns);

#endif
