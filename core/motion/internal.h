/* SPDX-License-Identifier: MIT */
/*
 * What the files of motion/ do for each other and for alloc/ (prefix berth__): isolation, migration, LRU, reclaim,
 * compaction. The letters say under which lock, see core/internal.h.
 */
#ifndef BERTH_CORE_MOTION_INTERNAL_H
#define BERTH_CORE_MOTION_INTERNAL_H

#include "core/frames/internal.h"

/* ---- motion/isolate.c ---------------------------------------------------------------------------- */

/* A range that is being emptied. In zone->isolations from berth__isolate_range() on. */
struct berth_isolation {
	berth_idx_t start, end;
	struct berth_isolation *next; /* Z */
};

/* What becomes of a range that is all taken: claims of nr_pages each, one every `stride` frames; the
 * gaps are freed. nr_pages 0: one claim of all of it. */
struct berth_pieces {
	berth_idx_t nr_pages, stride;
	uint32_t start_flags; /* of a claim's first frame */
	const char *name;     /* of who claims, or NULL */
};

/*
 * Fences off the pageblocks of the range and takes what is free in it (tag CLAIMED | TAKING); nothing
 * is allocated from them after. *taken: frames taken. Other ranges may touch the same pageblocks.
 * 0; -EBUSY: the range overlaps another in progress, or somebody's claim; -EINVAL: a frame isn't
 * managed; then nothing has changed. *blocker: where.
 */
int berth__isolate_range(struct berth_zone *zone, struct berth_isolation *range, uint64_t *taken,
			 berth_idx_t *blocker);
/* Takes [start, end) at once if all of it is free; false: it isn't, or a claim that is in progress
 * overlaps it, and nothing has changed. */
bool berth__take_if_free(struct berth_zone *zone, berth_idx_t start, berth_idx_t end,
			 const struct berth_pieces *pieces, uint64_t now_ns);
/* A range in progress that overlaps [start, end), or NULL. O(ranges in progress). Z. */
const struct berth_isolation *berth__isolation_in_locked(const struct berth_zone *zone,
							 berth_idx_t start, berth_idx_t end);
/* Takes blocks of the range that became free meanwhile. Z. Returns frames taken. */
berth_idx_t berth__take_free_locked(struct berth_zone *zone, berth_idx_t head, berth_idx_t start,
				    berth_idx_t end);
/* Ends the isolation. keep: the range is all taken and becomes claims; NULL: what was taken is freed.
 * All else in pageblocks that no other range touches returns to its set. */
void berth__unisolate_range(struct berth_zone *zone, struct berth_isolation *range,
			    const struct berth_pieces *keep);

/* ---- motion/migrate.c ---------------------------------------------------------------------------- */

#define BERTH_MOVE_BATCH 64u /* 2.5 KiB of the claimer's stack */

/*
 * Moves blocks of one batch (src, order, cookie, owner filled in) to frames outside any isolated
 * pageblock: where the policy says, or into pageblocks of dst_set that are partly used, the fullest
 * first. Sources that moved are taken (CLAIMED | TAKING). A block for which there is no
 * destination of its order is split and moved in pieces, if it may. Returns 0, or -ENOMEM when some
 * had no destination, or -EBUSY when some were busy; *busy points at the first such.
 */
int berth__migrate_batch(struct berth_zone *zone, struct berth_move *moves, unsigned nr_moves,
			 unsigned dst_set, bool may_split, struct berth_claim_report *report,
			 const struct berth_move **busy);

/* ---- motion/gather.c ----------------------------------------------------------------------------- */

/*
 * Buffers of a zone: who claims while another's batch moves gathers the next one meanwhile. Without a buffer it would
 * wait to move strangers, which takes longer than to wait for its turn.
 */
#define BERTH_GATHER_BUFFERS 2u
#define BERTH_GATHER_MOST 512u /* 20 KiB of a zone's metadata for each buffer; */
#define BERTH_GATHER_LEAST 8u  /* of a small zone's 320 bytes */

/* How many moves each buffer of a zone of so many frames has room for. */
unsigned berth__gather_room(uint64_t nr_pages);
/* A buffer of the zone's for a larger batch, until berth__gather_end(); NULL: others have them, or it's of no use for
 * such a block as the first that was found. */
struct berth_move *berth__gather_begin(struct berth_zone *zone, const struct berth_move *found);
void berth__gather_end(struct berth_zone *zone, const struct berth_move *moves);
/* Fills the buffer with what was found and with its neighbours in the range, as far as there is room: the first
 * ones first. Returns how many; 0 if all have changed meanwhile. */
unsigned berth__gather(struct berth_zone *zone, const struct berth_isolation *range,
		       const struct berth_move *found, unsigned nr_found, struct berth_move *moves);

/* ---- motion/lru.c -------------------------------------------------------------------------------- */

static inline unsigned berth__lru_state(const struct berth_zone *zone, berth_idx_t idx)
{
	return atomic_load_explicit(&zone->lru_state[idx], memory_order_relaxed);
}

/* Sets flags of a block's state, or clears them, and accounts for what that means. Returns the old state. L,
 * if the block's order isn't 0, or something else that keeps it whole. */
unsigned berth__lru_mark(struct berth_zone *zone, berth_idx_t idx, unsigned flags);
unsigned berth__lru_unmark(struct berth_zone *zone, berth_idx_t idx, unsigned flags);
/* Moves a block from wherever it is into a list, `last`: at the end that is reclaimed next. L. */
void berth__lru_put_locked(struct berth_zone *zone, berth_idx_t idx, unsigned list, bool last);
/* Takes a block out of wherever it is; to: NOWHERE or ISOLATED. L. */
void berth__lru_take_locked(struct berth_zone *zone, berth_idx_t idx, unsigned to);
/* Pins a block for its write-back, which is marked so, with more flags; false: it's under write-back
 * already, or frozen. Z or L. */
bool berth__lru_begin_writeback(struct berth_zone *zone, berth_idx_t idx, unsigned flags);
/* For whoever frees a block that is tagged LRU, before the frame goes anywhere: it is in no list
 * after. Takes L. */
void berth__lru_forget(struct berth_zone *zone, berth_idx_t idx);
/* Carries out and empties a CPU's batches. In P. Takes L. */
void berth__lru_drain_slot(struct berth_zone *zone, struct berth_pcp *pcp);
/* For whoever splits a block that is tagged LRU: takes / releases L around the change of tags. */
void berth__lru_begin_split(struct berth_zone *zone, uint32_t tag);
void berth__lru_end_split(struct berth_zone *zone, uint32_t tag);
/* The piece of 2^order at `piece`, not tagged yet, is a part of the block at `head`: beside it in its list. L. */
void berth__lru_inherit_locked(struct berth_zone *zone, berth_idx_t head, berth_idx_t piece,
			       unsigned order);
/* After its pieces have inherited, and before any tag says so: the block at `head` shrinks. L. */
void berth__lru_shrinks_locked(struct berth_zone *zone, berth_idx_t head, unsigned from,
			       unsigned to);
/* The block at src has moved to dst, which takes its place in its list. Z; takes L. */
void berth__lru_moved_locked(struct berth_zone *zone, berth_idx_t src, berth_idx_t dst);

/* ---- motion/reclaim.c ---------------------------------------------------------------------------- */

#define BERTH_RECLAIM_BATCH 32u /* Linux' SWAP_CLUSTER_MAX */
#define BERTH_MAX_PRIORITY 12u  /* a scan looks at 1 / 2^priority of a list */

/* One reclaim on its way. */
struct berth_scan {
	uint64_t want; /* stops when so much is reclaimed */
	unsigned priority;
	uint64_t budget; /* stops when it has looked at so much; 0: all */
	bool may_write;  /* start to write what is dirty */
	/* Out: pages. */
	uint64_t scanned, reclaimed, written, writeback;
};
/* One scan of the zone's lists at this priority. May sleep in owners; without locks. */
void berth__shrink_zone(struct berth_zone *zone, struct berth_scan *scan);
/* Lets a reclaim that should only drop begin to write, if what is clean doesn't suffice. */
void berth__may_write(const struct berth_zone *zone, struct berth_scan *scan);
/* Pages that a scan could look at. */
uint64_t berth__evictable_pages(const struct berth_zone *zone);
/*
 * Asks the owners to drop blocks of a claim's batch, which are clean; `any`: even if they are in use.
 * What was dropped leaves the batch and is free. Returns its pages.
 */
uint64_t berth__drop_for_claim(struct berth_zone *zone, struct berth_move *moves,
			       unsigned *nr_moves, bool any);

/* ---- motion/shrink.c ----------------------------------------------------------------------------- */

/* One call of each shrinker at this priority. Returns the frames they freed. Without locks. */
uint64_t berth__shrink_others(struct berth_shrinkers *shrinkers, unsigned priority);
int berth__shrinker_add(struct berth_shrinkers *shrinkers, struct berth_shrinker *shrinker);
/* Waits, by the zone's port, until nobody runs it. */
void berth__shrinker_remove(struct berth_shrinkers *shrinkers, const struct berth_zone *zone,
			    struct berth_shrinker *shrinker);

/* ---- motion/compact.c ---------------------------------------------------------------------------- */

/*
 * Makes a block of 2^order frames by compaction and hands it out with this tag and cookie, before
 * anybody else can have it. BERTH_IDX_NONE: couldn't, or isn't tried (deferred). May sleep; without
 * locks.
 */
berth_idx_t berth__compact_capture(struct berth_zone *zone, unsigned order, unsigned gfp,
				   uint32_t tag, uint64_t cookie);

#endif
