/* SPDX-License-Identifier: MIT */
/*
 * LRU lists and reclaim: which blocks were used lately, and getting back those that weren't.
 *
 * An owner that can drop what its blocks hold, since it can be read or computed again (a page cache),
 * or written away first, allocates them with BERTH_GFP_LRU in a zone that has `lru` set, and puts them on
 * the lists:
 *
 *	berth_alloc_pages(zone, 0, BERTH_GFP_MOVABLE | BERTH_GFP_LRU, owner, cookie, &pfn);
 *	... fills it and makes it known ...
 *	berth_lru_add(zone, pfn, 1);
 *
 *	first use                      second use
 *	  |  inactive, then referenced ----------> active      berth_lru_mark_accessed()
 *	  v                                          |
 *	inactive <-----------------------------------+         not used while it went through the list
 *	  |
 *	  v  reclaim: clean blocks are dropped at once; dirty ones are written by kswapd, wait at the far
 *	     end of the list meanwhile, come back to the near end when they're clean, and are dropped then
 *
 * One pair of lists holds everything: Linux has two, for pages with a file and for pages that go to swap,
 * to choose between two costs; here the owner's write-back is asked for what is dirty, whatever it is.
 *
 * Additions and moves between the lists are collected in batches of 15 for each CPU, as Linux'
 * pagevecs, and take the lists' lock once a batch. A batch holds no reference: a block that is freed or
 * moved before its batch is carried out is simply not there any more. So batches stand in nobody's way.
 *
 * The caller makes sure, by its own lock, that a block stays its owner's and where it is during a call.
 * A claim may split movable blocks at any time: so what is called with (pfn, nr_pages) is about every
 * block that touches those frames, however it is split by now. Frames of order 0 cost no lock but when
 * a batch is full; larger blocks take the zone's lock and are never batched.
 *
 * Thread safety: as in core.h.
 */
#ifndef BERTH_LRU_H
#define BERTH_LRU_H

#include <berth/core.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- The lists --------------------------------------------------------------------------------- */

enum berth_lru_list {
	BERTH_LRU_INACTIVE,
	BERTH_LRU_ACTIVE,
	BERTH_LRU_UNEVICTABLE,
	BERTH_NR_LRU_LISTS
};

/* Was the zone made with lists (berth_zone_params.lru)? Without, BERTH_GFP_LRU is refused. */
bool berth_zone_has_lru(const struct berth_zone *zone);
/* Puts blocks on the inactive list (the unevictable one, if that was said of them). -EINVAL: some frame
 * isn't allocated with BERTH_GFP_LRU, or is on a list; unchanged. */
int berth_lru_add(struct berth_zone *zone, berth_pfn_t pfn, uint64_t nr_pages) BERTH_MUST_CHECK;
/* Takes them off: they aren't reclaimed, but still freed as always. -EINVAL: some frame isn't allocated
 * with BERTH_GFP_LRU; unchanged. */
int berth_lru_del(struct berth_zone *zone, berth_pfn_t pfn, uint64_t nr_pages) BERTH_MUST_CHECK;

/*
 * The block that holds pfn was used: an inactive one is marked as referenced the first time and goes to
 * the active list the second time; an active one is marked. Of Linux. What isn't on a list is marked.
 */
void berth_lru_mark_accessed(struct berth_zone *zone, berth_pfn_t pfn);
/* Moves a block that is on an evictable list to the active one. */
void berth_lru_activate(struct berth_zone *zone, berth_pfn_t pfn);
/* From the active list to the inactive one: it won't be used soon. */
void berth_lru_deactivate(struct berth_zone *zone, berth_pfn_t pfn);
/* An inactive block becomes the one to be reclaimed next. */
void berth_lru_rotate(struct berth_zone *zone, berth_pfn_t pfn);

/*
 * Blocks that are locked in memory (mlock) wait on the unevictable list, where reclaim doesn't meet them;
 * claims move them, compaction with BERTH_COMPACT_EVICTABLE_ONLY doesn't. May be said before they are on
 * a list, and stays true when they move or are split. Returns to the inactive list when it ends.
 * -EINVAL: some frame isn't allocated with BERTH_GFP_LRU; unchanged.
 */
int berth_lru_set_unevictable(struct berth_zone *zone, berth_pfn_t pfn, uint64_t nr_pages,
			      bool unevictable) BERTH_MUST_CHECK;

/* Carries out what the calling CPU's batches, or all CPUs' batches, ask for. */
void berth_lru_add_drain(struct berth_zone *zone);
void berth_lru_add_drain_all(struct berth_zone *zone);
/*
 * From disable to the matching enable no batch holds anything: each operation acts at once. Nests. A
 * claim does this by itself, so that it knows what can be dropped.
 */
void berth_lru_cache_disable(struct berth_zone *zone);
void berth_lru_cache_enable(struct berth_zone *zone);

/* ---- Dirty blocks, write-back ------------------------------------------------------------------ */

/* What the blocks hold must be written before they can be dropped, or needn't any more. -EINVAL: some
 * frame isn't allocated with BERTH_GFP_LRU; unchanged. */
int berth_lru_set_dirty(struct berth_zone *zone, berth_pfn_t pfn,
			uint64_t nr_pages) BERTH_MUST_CHECK;
int berth_lru_clear_dirty(struct berth_zone *zone, berth_pfn_t pfn,
			  uint64_t nr_pages) BERTH_MUST_CHECK;

/*
 * The owner begins to write a block by itself: it is pinned (so it stays where and what it is), not dirty
 * any more, and under write-back until berth_lru_end_writeback(). The order is the block's, may be NULL.
 * -EBUSY: it's under write-back already, or being moved; -EINVAL: not the start of a block that was
 * allocated with BERTH_GFP_LRU.
 */
int berth_lru_begin_writeback(struct berth_zone *zone, berth_pfn_t pfn,
			      unsigned *order) BERTH_MUST_CHECK;
/*
 * The block that starts at pfn is written; `ok` false: it wasn't, and is dirty again. If reclaim wanted
 * it written it is the next to be reclaimed. A block that was freed meanwhile is free now. May be
 * called by any thread, and from the owner's writeback operation. -EINVAL: not under write-back.
 */
int berth_lru_end_writeback(struct berth_zone *zone, berth_pfn_t pfn, bool ok) BERTH_MUST_CHECK;

/* For an owner's reclaim operation: freezes the block if it still is what the item says, clean and held
 * by nobody else. False: it can't be dropped now. */
bool berth_reclaim_freeze(struct berth_zone *zone,
			  const struct berth_reclaim_item *item) BERTH_MUST_CHECK;

/* ---- Shrinkers --------------------------------------------------------------------------------- */

/* What a scan function answers when it can't free anything now. */
#define BERTH_SHRINK_STOP UINT64_MAX

/*
 * A cache that isn't made of blocks on the lists. It is asked to look at a share of its objects that
 * grows with the need, as Linux' shrinkers: 4 / seeks of (objects >> priority), in portions of `batch`,
 * and what it was spared of is added the next time. Functions are called without core locks, by several
 * callers at the same time.
 */
struct berth_shrinker {
	/* Objects that could be freed. */
	uint64_t (*count)(void *ctx);
	/* Looks at nr_to_scan objects and frees what can be; returns how many, or STOP. *pages: add the
	 * frames that came free by it. */
	uint64_t (*scan)(void *ctx, uint64_t nr_to_scan, uint64_t *pages);
	void *ctx;
	unsigned seeks; /* what an object costs to get back; 2 is usual, 0: nothing */
	unsigned batch; /* 0: 128 */
	/* The core's. */
	struct berth_shrinker *next;
	uint64_t nr_deferred;
	uint32_t running;
	bool leaving;
};

/* Adds a shrinker to a zone that is alone; see nodes.h for others. -EINVAL: no count or scan. */
int berth_shrinker_register(struct berth_zone *zone,
			    struct berth_shrinker *shrinker) BERTH_MUST_CHECK;
/* Returns when nobody uses it any more; not from its own functions. */
void berth_shrinker_unregister(struct berth_zone *zone, struct berth_shrinker *shrinker);

/* ---- Reclaim ----------------------------------------------------------------------------------- */

enum berth_reclaim_flags {
	BERTH_RECLAIM_WRITE = 1u
			      << 0, /* start to write dirty blocks at once, not only if clean ones
					* don't suffice */
};

/*
 * Reclaims at least nr_pages of a zone, if it can: clean blocks from the inactive list, the longest unused
 * ones first, and what the zone's shrinkers free. For zones that are alone; allocations from nodes
 * (nodes.h) and kswapd do it by themselves. May sleep, and the caller holds no lock that an
 * owner's operations take. Returns frames freed. Cost: at most 13 scans of growing parts of the lists.
 */
uint64_t berth_zone_reclaim(struct berth_zone *zone, uint64_t nr_pages, unsigned flags);

/* Safe to read at any time. Pages. */
struct berth_lru_stats {
	uint64_t nr_pages[BERTH_NR_LRU_LISTS];
	uint64_t batched;  /* blocks that batches are about, some perhaps twice or freed already */
	uint64_t isolated; /* off the lists, in a reclaimer's hands */
	uint64_t dirty, writeback;
	/* Since init. */
	uint64_t activated, deactivated, rotated;
	uint64_t scanned, dropped, written; /* by reclaim; written: begun */
};
void berth_lru_stats(struct berth_zone *zone, struct berth_lru_stats *stats);

/* For tests and tools: where the block that holds pfn is, 'i' inactive, 'a' active, 'u' unevictable, 'b'
 * batched, 'x' isolated, '-' on no list; and which of "RDWU" (referenced, dirty, under write-back,
 * unevictable) hold, as bits 0 to 3 of *flags, which may be NULL. */
char berth_lru_where(struct berth_zone *zone, berth_pfn_t pfn, unsigned *flags);
#define BERTH_LRU_IS_REFERENCED 1u
#define BERTH_LRU_IS_DIRTY 2u
#define BERTH_LRU_IS_WRITEBACK 4u
#define BERTH_LRU_IS_UNEVICTABLE 8u

#ifdef __cplusplus
}
#endif
#endif
