/* SPDX-License-Identifier: MIT */
/*
 * The core: frames, who is free, and how a contiguous range is emptied. Freestanding C11; it calls
 * no libc but memcpy, memmove, memset and memcmp, allocates nothing, and has no globals.
 *
 * An instance is a zone: a run of frames with buddy lists by order and migratetype, per-CPU lists
 * and CMA areas. The caller supplies the memory for its metadata. The core never touches the
 * frames' contents and knows no addresses.
 *
 * Thread safety: every function may be called from any CPU or thread at the same time, except
 * init, add_memory, add_reserved, owner_register, area declaration (before use) and the checks (at a quiescent
 * point). None may be called from a signal or interrupt handler.
 */
#ifndef BERTH_CORE_H
#define BERTH_CORE_H

#include <berth/port.h>
#include <berth/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct berth_zone;

/* ---- Migratetypes ---------------------------------------------------------------------------- */

enum berth_migratetype {
	BERTH_UNMOVABLE,
	BERTH_MOVABLE,
	BERTH_RECLAIMABLE,
	BERTH_HIGHATOMIC,
	BERTH_ISOLATE, /* being emptied: nothing is allocated from it */
	BERTH_CMA,     /* belongs to a CMA area: lent to movable allocations only */
	BERTH_NR_MIGRATETYPES
};

/* ---- Owners: who holds allocated frames, and can move them ----------------------------------- */

enum berth_move_result {
	BERTH_MOVE_PENDING, /* not tried; the core treats it as busy */
	BERTH_MOVE_MOVED,   /* contents and mapping are at dst now; the owner lets go of src */
	BERTH_MOVE_BUSY,    /* still at src; `holder` names who is in the way */
	BERTH_MOVE_GONE,    /* src isn't the owner's any more: look again */
};

/* One block to move: 2^order frames from src to dst. */
struct berth_move {
	berth_pfn_t src;
	berth_pfn_t dst;
	uint64_t cookie;    /* the block's cookie, see berth_alloc_pages() */
	const char *holder; /* out, for BUSY: a string that outlives the call, or NULL */
	uint8_t order;
	uint8_t result; /* out: enum berth_move_result */
	uint16_t owner;
	bool arrived; /* set by berth_move_arrived() */
};

enum berth_reclaim_result {
	BERTH_RECLAIM_PENDING, /* not tried; the core treats it as busy */
	BERTH_RECLAIM_DROPPED, /* frozen, and the owner has let go of it: the core frees it */
	BERTH_RECLAIM_BUSY,    /* in use, or not started: looked at again another time */
	BERTH_RECLAIM_DIRTY, /* must be written first: dirty from now on, whoever else asks meanwhile */
	BERTH_RECLAIM_REFERENCED, /* was used lately: goes to the active list */
	BERTH_RECLAIM_GONE,       /* it isn't the owner's any more */
};

/* One block that the core would like to have: 2^order frames from pfn, see <berth/lru.h>. */
struct berth_reclaim_item {
	berth_pfn_t pfn;
	uint64_t cookie;
	uint8_t order;
	uint8_t result;     /* out of reclaim and writeback: enum berth_reclaim_result */
	uint8_t referenced; /* out of referenced: how often it was used since it was asked last */
	uint16_t owner;
};

/*
 * An owner's answers to the core. `migrate` gets a batch of blocks that all belong to this owner,
 * in ascending order of cookie, and fills in a result for each. It is called without core locks, may
 * sleep, and must freeze each block (berth_page_freeze()) before the move so that a pin taken
 * meanwhile is seen; a moved block's src stays frozen, a busy one's must be unfrozen. Before anybody
 * can find a moved block at dst, to free or pin it, the owner calls berth_move_arrived() for it; an
 * owner that keeps everybody out until migrate returns needn't. It may call nothing else of the core.
 */
struct berth_owner_ops {
	const char *name; /* lives as long as the zone */
	void (*migrate)(void *ctx, struct berth_move *moves, unsigned nr_moves);
	/* Names the holder of a pinned block; may be NULL or return NULL. Same context as migrate. */
	const char *(*holder)(void *ctx, berth_pfn_t pfn, uint64_t cookie);
	/*
	 * The frames of blocks beside each other: pfns[i] is that of the frame with cookie + i, BERTH_PFN_NONE where
	 * there is none. So a claim moves together what belongs together and is scattered. Called without core locks;
	 * takes no lock that a caller of migrate may wait for, and may answer what is out of date. NULL: blocks move in
	 * the order in which their frames are met.
	 */
	void (*neighbours)(void *ctx, uint64_t cookie, berth_pfn_t *pfns, unsigned nr);
	/* Its blocks are locked in memory (as mlock does): a claim moves them all the same, compaction
	 * unless it has BERTH_COMPACT_EVICTABLE_ONLY. */
	bool unevictable;
	/*
	 * The following are for blocks on LRU lists (<berth/lru.h>), in batches of at most 32 that all
	 * belong to this owner. They are called without core locks, may sleep, and may be told of blocks
	 * that the owner has just freed or moved. What they allocate must say BERTH_GFP_MEMALLOC.
	 *
	 * reclaim: drops clean blocks. Under the lock that keeps its users out the owner makes sure that
	 * the block is still its own, freezes it by berth_reclaim_freeze(), removes it from its tables
	 * and answers DROPPED. Without this operation nothing of the owner's can be on an LRU list.
	 */
	void (*reclaim)(void *ctx, struct berth_reclaim_item *items, unsigned nr_items);
	/* How often was each used through mappings that the core can't see? NULL: there are none. */
	void (*referenced)(void *ctx, struct berth_reclaim_item *items, unsigned nr_items);
	/* Begins to write dirty blocks, which are pinned until berth_lru_end_writeback(); what it
	 * answers BUSY for wasn't begun. NULL: dirty blocks wait until the owner says that they're clean. */
	void (*writeback)(void *ctx, struct berth_reclaim_item *items, unsigned nr_items);
};

/* For an owner's migrate: the block is at move->dst now, and dst is an ordinary block of its owner. */
void berth_move_arrived(struct berth_zone *zone, struct berth_move *move);

#define BERTH_OWNER_NONE 0u

/* ---- A zone ---------------------------------------------------------------------------------- */

/* Bounds of the parameters below. */
#define BERTH_MAX_ORDER_LIMIT 30u
#define BERTH_MAX_AREAS 64u
#define BERTH_MAX_OWNERS 1024u
#define BERTH_MAX_CLAIM_NAMES 65535u

struct berth_zone_params {
	const char *name;         /* lives as long as the zone */
	berth_pfn_t start_pfn;    /* first frame spanned */
	uint64_t nr_pages;        /* frames spanned, 1 .. 2^32 - 2^max_order */
	unsigned max_order;       /* largest buddy order; 0 means 10; >= pageblock_order */
	unsigned pageblock_order; /* log2 of a pageblock in frames; 0 means 9 */
	unsigned nr_cpus; /* CPU slots with their own lists; slots beyond take the zone lock */
	/* Single frames that a CPU's list may hold per type, at most 32768. 0: up to 640, by zone
	 * size and pressure. */
	unsigned pcp_high;
	unsigned max_areas;       /* CMA areas that can be declared, <= BERTH_MAX_AREAS */
	unsigned max_owners;      /* owners that can be registered; 0 means 8 */
	unsigned max_claim_names; /* different names that claims can have at a time; 0 means 32 */
	bool lru;        /* blocks can be on LRU lists (lru.h): one more byte a frame, 256 a CPU */
	bool histograms; /* keep the histograms of <berth/stats.h>: 41 KiB of metadata */
	bool metadata_is_zeroed; /* the metadata memory is all zero already (fresh from mmap) */
	const struct berth_port_ops *port;
	void *port_ctx;
};

/*
 * Bytes of metadata a zone with these parameters needs: at most 32 a frame, everything included,
 * for zones of 4096 frames and more that start at a multiple of 2^max_order, with default lists and without
 * histograms. 0 for parameters that berth_zone_init() would refuse.
 */
size_t berth_zone_metadata_size(const struct berth_zone_params *params);

/*
 * Builds a zone in `metadata` (aligned to 64 bytes, at least berth_zone_metadata_size() bytes).
 * It spans its frames but manages none until berth_zone_add_memory(). Cost: O(pageblocks) when the
 * metadata is zeroed already. Returns 0 or -EINVAL (nothing written through *zone).
 */
int berth_zone_init(struct berth_zone **zone, const struct berth_zone_params *params,
		    void *metadata, size_t metadata_bytes) BERTH_MUST_CHECK;

/*
 * Hands [start, start + nr_pages) to the buddy lists as free MOVABLE memory. The frames must be
 * spanned and neither managed nor reserved yet. Cost: O(largest blocks). -EINVAL: outside, empty or overlapping.
 */
int berth_zone_add_memory(struct berth_zone *zone, berth_pfn_t start_pfn,
			  uint64_t nr_pages) BERTH_MUST_CHECK;

/*
 * The frames [start, start + nr_pages) are there but in use since before the zone: present, not
 * managed, and in no list. Otherwise as berth_zone_add_memory().
 */
int berth_zone_add_reserved(struct berth_zone *zone, berth_pfn_t start_pfn,
			    uint64_t nr_pages) BERTH_MUST_CHECK;

/*
 * Reserved frames are free from now on: managed and free pages grow by exactly nr_pages. Any part of
 * what was added as reserved will do. May be called while the zone is in use. Cost: O(blocks).
 * -EINVAL: some frame isn't reserved (any more), or isn't spanned; unchanged.
 */
int berth_zone_free_reserved(struct berth_zone *zone, berth_pfn_t start_pfn,
			     uint64_t nr_pages) BERTH_MUST_CHECK;

/* The first pfn that the zone spans, and the first behind. */
berth_pfn_t berth_zone_start_pfn(const struct berth_zone *zone);
berth_pfn_t berth_zone_end_pfn(const struct berth_zone *zone);

/*
 * Registers an owner; *id (1 ..) goes into berth_alloc_pages(). -EINVAL: no ops, name or migrate.
 * -ENOSPC: max_owners are registered.
 */
int berth_owner_register(struct berth_zone *zone, const struct berth_owner_ops *ops, void *ctx,
			 unsigned *id) BERTH_MUST_CHECK;

/* ---- Allocating frames ------------------------------------------------------------------------ */

enum berth_gfp {
	BERTH_GFP_UNMOVABLE = 0,
	BERTH_GFP_MOVABLE = 1u << 0,     /* the owner can move it; needs a registered owner */
	BERTH_GFP_RECLAIMABLE = 1u << 1, /* the owner can drop it */
	BERTH_GFP_NO_CMA = 1u << 2,      /* not from CMA areas (a long-term pin will follow); a move
					  * of the unpinned block may still bring it there */
	BERTH_GFP_CMA_LAST = 1u << 3,    /* from CMA areas only when no other movable memory is */
	BERTH_GFP_ZERO = 1u << 4,        /* cleared by the port's zero(), which must be there */
	/* The others are for allocations from nodes (nodes.h); a zone alone refuses them. */
	BERTH_GFP_HIGH = 1u << 5,       /* urgent: may use half of what min reserves */
	BERTH_GFP_NO_RECLAIM = 1u << 6, /* the caller can't wait: nothing is reclaimed for it */
	BERTH_GFP_ATOMIC = BERTH_GFP_HIGH | BERTH_GFP_NO_RECLAIM,
	BERTH_GFP_MEMALLOC = 1u << 7,   /* frees more than it takes: no watermarks, no reclaim */
	BERTH_GFP_OOM_VICTIM = 1u << 8, /* about to end: may use half of min */
	BERTH_GFP_NORETRY = 1u << 9,    /* fails after one try to reclaim, and no OOM */
	BERTH_GFP_MAYFAIL = 1u << 10,   /* tries hard, whatever the order, but no OOM */
	BERTH_GFP_NOFAIL = 1u << 11,    /* waits for memory, some seconds at most */
	BERTH_GFP_THISNODE = 1u << 12,  /* no other node's memory */
	BERTH_GFP_DMA = 1u << 13,       /* from DMA zones only */
	BERTH_GFP_DMA32 = 1u << 14,     /* from DMA32 zones and below */
	BERTH_GFP_COMPACT = 1u << 15,   /* order > 0: when there is no such block, owners are asked
					  * to move others for one: may sleep, and the caller holds
					  * no lock that an owner's migrate takes */
	BERTH_GFP_LRU = 1u << 16, /* the block may be put on an LRU list (lru.h): in a zone that has
				   * them, for an owner that has `reclaim` */
};

/*
 * Allocates 2^order frames, aligned to their size. The block belongs to `owner` with `cookie`; the
 * owner chooses the cookie's meaning with one rule: the frame i pages into the block has cookie + i,
 * so that the core may split a block. Without an owner the block never moves. A claim may split a
 * movable block at any time, to move a part of it: free movable blocks of order > 0 with
 * berth_free_range().
 *
 * Movable blocks come from CMA areas as far as each area's lending policy says. Orders 0 to 3, and that of
 * a pageblock in zones large enough, cost no lock and no atomic read-modify-write while the CPU's list lasts.
 *
 * Returns 0, -EINVAL (bad order, flags or owner), -ENOMEM (no block of that order; nothing changed).
 */
int berth_alloc_pages(struct berth_zone *zone, unsigned order, unsigned gfp, unsigned owner,
		      uint64_t cookie, berth_pfn_t *pfn) BERTH_MUST_CHECK;

/*
 * Frees the whole block that starts at pfn: drops the owner's reference. The owner must have
 * removed every path by which a new reference could be taken. If pins remain, the frames return
 * when the last one is put.
 * Returns 0 or -EINVAL (not the start of an allocated block, so also a double free; unchanged).
 */
int berth_free_pages(struct berth_zone *zone, berth_pfn_t pfn) BERTH_MUST_CHECK;

/*
 * Frees [pfn, pfn + nr_pages), which may begin and end inside blocks; what stays allocated becomes
 * smaller blocks. A block that is pinned and only partly inside can't be split: -EBUSY, and nothing
 * is changed. -EINVAL: some frame isn't allocated to `owner`; unchanged. Cost: O(blocks).
 */
int berth_free_range(struct berth_zone *zone, berth_pfn_t pfn, uint64_t nr_pages,
		     unsigned owner) BERTH_MUST_CHECK;

/*
 * Allocates exactly nr_pages contiguous frames: a block of the next order, aligned to its size, of
 * which the rest is free again. They are several blocks, with the owner's cookies: free them with
 * berth_free_range(), in whole or in parts. Flags: as berth_alloc_pages(), but for COMPACT.
 */
int berth_alloc_pages_exact(struct berth_zone *zone, uint64_t nr_pages, unsigned gfp,
			    unsigned owner, uint64_t cookie, berth_pfn_t *pfn) BERTH_MUST_CHECK;
static inline int berth_free_pages_exact(struct berth_zone *zone, berth_pfn_t pfn,
					 uint64_t nr_pages, unsigned owner)
{
	return berth_free_range(zone, pfn, nr_pages, owner);
}

/*
 * Splits the allocated block that starts at pfn into blocks of 2^order, each to be freed by itself.
 * 0; -EBUSY: somebody holds it, or it lies in a range that is being emptied; -EINVAL: no such block, or it
 * is smaller. Cost: O(pieces).
 */
int berth_split_pages(struct berth_zone *zone, berth_pfn_t pfn, unsigned order) BERTH_MUST_CHECK;

/* The first frame of the allocated block that pfn is in, and the block's order (may be NULL);
 * BERTH_PFN_NONE: not allocated. A claim may split movable blocks at any time. O(max_order). */
berth_pfn_t berth_compound_head(struct berth_zone *zone, berth_pfn_t pfn, unsigned *order);

/* ---- References, pins, freezing --------------------------------------------------------------- */

/* What a pin adds to a block's reference count. */
#define BERTH_PIN_BIAS 1024u

/*
 * Pins the block that holds pfn: it can't be moved or split until unpinned. The caller makes sure
 * (by its own lock) that the block stays its owner's during the call.
 * 0; -EAGAIN: frozen by a mover, wait and look the frame up again; -EINVAL: not allocated.
 */
int berth_page_pin(struct berth_zone *zone, berth_pfn_t pfn) BERTH_MUST_CHECK;

/* Undoes one berth_page_pin(). Frees the block when its owner has freed it meanwhile. -EINVAL: not
 * pinned; unchanged. */
int berth_page_unpin(struct berth_zone *zone, berth_pfn_t pfn) BERTH_MUST_CHECK;

/*
 * For movers. Freezes the block that starts at pfn: takes its reference count from exactly 1 to 0.
 * False when somebody else holds it. A frozen block can't be pinned.
 */
bool berth_page_freeze(struct berth_zone *zone, berth_pfn_t pfn) BERTH_MUST_CHECK;
void berth_page_unfreeze(struct berth_zone *zone, berth_pfn_t pfn);
/* True when the block holding pfn has a pin. Inexact while pins come and go. */
bool berth_page_pinned(struct berth_zone *zone, berth_pfn_t pfn);

/* ---- Claims ----------------------------------------------------------------------------------- */

enum berth_claim_phase {
	BERTH_PHASE_SEARCH,  /* choosing the range */
	BERTH_PHASE_ISOLATE, /* taking free blocks, fencing off the rest */
	BERTH_PHASE_DRAIN,   /* emptying per-CPU lists */
	BERTH_PHASE_MIGRATE, /* moving borrowers */
	BERTH_PHASE_FINISH,  /* verifying, or undoing */
	BERTH_NR_PHASES
};

/* Somebody in the way of a claim. */
struct berth_blocker {
	berth_pfn_t pfn;    /* of the block that can't move, */
	uint64_t nr_pages;  /* and its size */
	const char *owner;  /* the owner's name */
	const char *holder; /* who pins or holds it, as far as the owner can say */
};
#define BERTH_MAX_BLOCKERS 8u
/* Why the last range that was tried couldn't be had, or that there was none to try. */
enum berth_claim_reason {
	BERTH_CLAIM_DONE,
	BERTH_CLAIM_TOO_LARGE,   /* -E2BIG */
	BERTH_CLAIM_NO_RUN,      /* -ENOSPC: claims in place leave no room */
	BERTH_CLAIM_PINNED,      /* -EBUSY: the blocker is pinned */
	BERTH_CLAIM_UNMOVABLE,   /* -EBUSY: its owner can't move it */
	BERTH_CLAIM_OWNER_BUSY,  /* -EBUSY: its owner wouldn't move it now */
	BERTH_CLAIM_IN_FLIGHT,   /* -EBUSY: it kept moving or being freed, as long as was waited */
	BERTH_CLAIM_OTHER_CLAIM, /* -EBUSY: another claim is taking the range */
	BERTH_CLAIM_NO_DESTINATION, /* -ENOMEM: nowhere to move borrowers to */
	BERTH_CLAIM_NOT_FREE, /* -EAGAIN: BERTH_CLAIM_FREE_ONLY, and it would have to be emptied */
	BERTH_CLAIM_DEADLINE, /* -EAGAIN */
};

/* What a claim did, and for a failed one why. Filled for success and failure alike. */
struct berth_claim_report {
	int error; /* 0 or the negative code that was returned */
	enum berth_claim_reason reason;
	const char *area;          /* name */
	uint64_t nr_pages;         /* asked for */
	unsigned tries;            /* ranges tried */
	uint64_t moved_pages;      /* moved, also by tries that failed */
	uint64_t free_pages_taken; /* taken while free */
	uint64_t dropped_pages;    /* clean ones that their owners dropped instead of moving them */
	uint64_t busy_blocks;      /* answered busy */
	uint64_t phase_ns[BERTH_NR_PHASES];
	/* Failure: the first blocker of the last range tried; BERTH_PFN_NONE when there is none. */
	berth_pfn_t blocker_pfn;
	uint64_t blocker_pages;
	const char *blocker_owner;  /* the owner's name */
	const char *blocker_holder; /* who pins or holds it, as far as the owner can say */
	/* Failure: the area's state at that time. Claimable ignores what can't be known without
	 * trying (a pin taken this instant). Whole pageblocks are exact; of the frames at a run's
	 * ends, and of runs below a pageblock, no more than 64 pageblocks are looked at. */
	uint64_t largest_free_pages;
	uint64_t largest_claimable_pages;
	/* Failure by pins: who is in the way in the range that would be the cheapest without them,
	 * ascending; the first of them is the blocker above. */
	unsigned nr_blockers;
	struct berth_blocker blockers[BERTH_MAX_BLOCKERS];
};

/*
 * What emptying a range costs; the range with the least sum is chosen:
 *
 *	copy_ns for each frame that moves + remap_ns for each block that moves, or part of one
 *	+ drop_ns for each frame that is dropped
 *
 * in the range. A block counts once for each pageblock that it lies in, and a frame in a CPU's list as a
 * block of its own. Free frames cost nothing; a range with a claim or a pin in it can't be had at all.
 * Among ranges of one cost those in the shortest run of free frames, or in the pageblock with the fewest,
 * are preferred. CMA areas hold nothing unmovable.
 *
 * Dropped is what is on LRU lists (lru.h), evictable, clean, and inactive without having been used since; with
 * BERTH_CLAIM_DROP the others that are clean, too. All else moves, and so does what its owner doesn't drop when
 * it is asked, which no search can know. Without BERTH_CLAIM_DROP nothing is dropped while drop_ns is
 * above copy_ns + remap_ns: dearer than to move a single frame.
 */
struct berth_cost_model {
	uint32_t copy_ns;  /* per frame: copied */
	uint32_t remap_ns; /* per block: a destination, and its owner's change of a mapping */
	uint32_t drop_ns;  /* per frame: dropped by its owner, and what that one loses by it */
};
/* Of the Linux port, by `berth bench claim`, drop_ns by `berth bench choose`: see ARCHITECTURE.md, Costs. */
#define BERTH_COST_DEFAULT                                       \
	{                                                        \
		.copy_ns = 370, .remap_ns = 2000, .drop_ns = 250 \
	}
/* For all claims that begin after it. The next search costs O(pageblocks). */
void berth_zone_set_cost(struct berth_zone *zone, const struct berth_cost_model *cost);
void berth_zone_cost(struct berth_zone *zone, struct berth_cost_model *cost);

struct berth_claim_params {
	uint64_t nr_pages;    /* > 0 */
	unsigned align_order; /* start pfn is a multiple of 2^align_order; <= max_order */
	unsigned flags;       /* enum berth_claim_flags */
	uint64_t deadline_ns; /* port time after which no wait or new try begins; 0: holders are not
				 * waited for (a block in flight by another move is, up to 1.3 s) */
	const char *name; /* of who claims, for claims.h; copied once it is claimed; NULL: none */
	/* For berth_cma_alloc(), where to look; 0: anywhere in the area. */
	berth_pfn_t min_pfn, max_pfn; /* first and last frame the range may contain: a DMA mask */
	uint64_t boundary_pages; /* a power of two: the range doesn't cross a multiple of it, as with
				  * Linux's dma_set_seg_boundary() */
};

enum berth_claim_flags {
	BERTH_CLAIM_FIRST_FIT = 1u << 0, /* the first range that fits instead of the cheapest */
	BERTH_CLAIM_FREE_ONLY = 1u << 1, /* only what is free now: move nothing (non-blocking) */
	BERTH_CLAIM_NORETRY = 1u << 2,   /* the deadline is for moving: holders aren't waited for,
					  * the answer is -EBUSY (a block in flight is, up to 5 ms) */
	/* How long blocks in flight are waited for (freed, moved or cached by somebody this moment), as
	 * with compaction. Without either: SYNC, up to 1.3 s. */
	BERTH_CLAIM_ASYNC = 1u << 3,      /* not at all */
	BERTH_CLAIM_SYNC_LIGHT = 1u << 4, /* 40 us */
	BERTH_CLAIM_DROP = 1u << 5, /* clean blocks on LRU lists are dropped even if they're in use;
				     * without it only inactive ones that weren't used since */
	BERTH_CLAIM_ALL_FLAGS = 63
};

/*
 * Empties [start, start + nr_pages) and takes it: the kernel's alloc_contig_range. Free parts cost
 * O(pageblocks); allocated blocks are moved by their owners. The range needn't be in a CMA area.
 * Success: the range is claimed until berth_free_contig_range(). Failure: everything is as it was,
 * but that some blocks may have moved.
 * -EINVAL: bad range. -EBUSY: somebody holds a part (see report), or another claim isolates it.
 * -EAGAIN: deadline passed, or parts are lent and BERTH_CLAIM_FREE_ONLY is set. -ENOMEM: nowhere to
 * move to. `report` may be NULL. May sleep.
 */
int berth_alloc_contig_range(struct berth_zone *zone, berth_pfn_t start_pfn, uint64_t nr_pages,
			     const struct berth_claim_params *params,
			     struct berth_claim_report *report) BERTH_MUST_CHECK;

/* Gives a claimed range back; it must be exactly what was claimed. -EINVAL: it isn't; unchanged. */
int berth_free_contig_range(struct berth_zone *zone, berth_pfn_t start_pfn,
			    uint64_t nr_pages) BERTH_MUST_CHECK;

/* ---- Compaction ------------------------------------------------------------------------------- */

enum berth_compact_mode {
	BERTH_COMPACT_ASYNC, /* movable pageblocks only; gives one up at the first block in flight. Frames in CPUs' lists
	* count as used, but for those of a pageblock that is being emptied */
	BERTH_COMPACT_SYNC_LIGHT, /* also movable blocks in unmovable pageblocks; waits 40 us for a
				   * block in flight */
	BERTH_COMPACT_SYNC, /* likewise 5 ms; large blocks may be split for want of large holes */
};

enum berth_compact_flags {
	BERTH_COMPACT_WHOLE_ZONE = 1u << 0,     /* compact_memory: all that can be had, whatever the
						 * order; skip hints are forgotten first */
	BERTH_COMPACT_FORCE = 1u << 1,          /* try even if deferred or not suitable; likewise */
	BERTH_COMPACT_EVICTABLE_ONLY = 1u << 2, /* blocks of unevictable owners stay */
	BERTH_COMPACT_ALL_FLAGS = 7
};

struct berth_compact_params {
	unsigned order; /* of the block that is wanted */
	enum berth_compact_mode mode;
	unsigned flags;
	unsigned gfp; /* for whom: only what is movable, and not NO_CMA, finds a block in
				       * CMA areas */
	uint64_t watermark_pages; /* frames that must stay free besides twice the block */
	uint64_t max_pages;       /* no new pageblock after that many have moved; 0: no limit */
	uint64_t deadline_ns; /* port time after which no new pageblock or wait begins; 0: none */
};

enum berth_compact_outcome {
	BERTH_COMPACT_CONTINUE, /* never returned */
	BERTH_COMPACT_SKIPPED,  /* too little is free, or it isn't fragmented */
	BERTH_COMPACT_DEFERRED, /* failed lately: not tried */
	BERTH_COMPACT_SUCCESS,  /* a block of the order is free (or was already) */
	BERTH_COMPACT_COMPLETE, /* all was tried */
	BERTH_COMPACT_PARTIAL, /* deadline or max_pages; the next whole-zone run goes on from there */
};

struct berth_compact_result {
	enum berth_compact_outcome outcome;
	uint64_t moved_pages;
	uint64_t busy_blocks;    /* answered busy, or pinned */
	uint64_t tried, emptied; /* pageblocks, or aligned blocks of the order */
};

/*
 * Moves movable blocks together until a block of 2^order frames is free, or over the whole zone. The
 * pageblocks with the fewest frames in use are emptied into the fullest ones of the same migratetype
 * or CMA area, so no area gains or loses frames; pageblocks that are isolated, claimed from or hold
 * pins aren't touched. Movable blocks stay whole but with SYNC.
 *
 * After a failure with a SYNC mode the next 2, 4, .. 64 attempts at this order or above are deferred,
 * until one succeeds.
 *
 * 0: SUCCESS, or COMPLETE for the whole zone; -ENOMEM: SKIPPED; -EAGAIN: DEFERRED or PARTIAL; -EBUSY:
 * COMPLETE, and no block could be had; -EINVAL. `result` may be NULL. May sleep, ASYNC only
 * in an owner; owners are called without core locks. Cost: O(pageblocks), and the moves.
 */
int berth_compact(struct berth_zone *zone, const struct berth_compact_params *params,
		  struct berth_compact_result *result) BERTH_MUST_CHECK;

/*
 * Why a block of this order can't be had, 0 .. 1000: towards 0 for want of memory, towards 1000 by
 * fragmentation: 1000 - (1000 + 1000 free pages / 2^order) / free blocks. BERTH_FRAGMENTATION_NONE:
 * there is one. -EINVAL: no such order. Compaction for orders above 3 isn't tried from 0 to 500.
 * Of Linux, as is the next.
 */
#define BERTH_FRAGMENTATION_NONE (-1000)
int berth_fragmentation_index(struct berth_zone *zone, unsigned order);
/* How much of the free memory is in blocks too small for this order, 0 .. 1000; 1000 if none is free. */
int berth_unusable_index(struct berth_zone *zone, unsigned order);

/* ---- CMA areas -------------------------------------------------------------------------------- */

struct berth_cma;

/* When movable allocations borrow from an area. */
enum berth_lend_policy {
	BERTH_LEND_FIRST, /* before other memory: the rest stays free for what can't move */
	/* While areas that lend have more than half of the zone's free memory, as Linux does; so both
	 * are used up alike. After other movable memory as well. */
	BERTH_LEND_BALANCED,
	BERTH_LEND_LAST, /* only when other movable memory is used up */
	BERTH_LEND_OFF,  /* never: a plain reservation */
};

struct berth_cma_params {
	const char *name;       /* unique in the zone; lives as long as the zone */
	berth_pfn_t start_pfn;  /* multiple of a pageblock */
	uint64_t nr_pages;      /* > 0, multiple of a pageblock */
	unsigned order_per_bit; /* the bitmap holds one bit for 2^order_per_bit frames */
	enum berth_lend_policy lend;
	uint64_t lend_min_pages; /* lent only as long as so many frames of the area stay free */
	uint64_t *bitmap;        /* berth_cma_bitmap_bytes() of zeroes, owned by the caller */
};

/* Bytes of the bitmap for an area of this size. */
size_t berth_cma_bitmap_bytes(uint64_t nr_pages, unsigned order_per_bit);

/*
 * Declares an area. Its frames must be managed and free; or they are exactly what the caller has
 * claimed by berth_alloc_contig_range(), to declare an area in memory that is in use: that claim
 * ends, and nobody else gets a frame in between. -EINVAL: bad range, alignment or name.
 * -EEXIST: the name or part of the range belongs to an area. -EBUSY: part of it is allocated.
 * -ENOSPC: max_areas are declared. Unchanged on error.
 */
int berth_cma_declare(struct berth_zone *zone, const struct berth_cma_params *params,
		      struct berth_cma **area) BERTH_MUST_CHECK;

/* The bitmap that was declared, for the caller to free in the end. */
uint64_t *berth_cma_bitmap(const struct berth_cma *area);

/* The area with this name, or NULL. */
struct berth_cma *berth_cma_find(struct berth_zone *zone, const char *name);

/*
 * Changes how an area lends, at any time; the arguments are as in struct berth_cma_params. What is
 * lent already stays where it is, until it is freed or a claim moves it. -EINVAL: no such policy;
 * unchanged. Cost: O(pageblocks of the area); each CPU's list is drained of the area's frames.
 */
int berth_cma_set_lend(struct berth_cma *area, enum berth_lend_policy lend,
		       uint64_t lend_min_pages) BERTH_MUST_CHECK;

/*
 * Claims params->nr_pages contiguous frames of the area. Chooses the range that is cheapest to
 * empty (struct berth_cost_model), tries the next when somebody is in the way, and says who.
 * 0; -EINVAL; -E2BIG: larger than the area, or no run of that size with this alignment, boundary and
 * limits exists in it; -ENOSPC: claims in place leave no run; -EBUSY: pins are in the way; -ENOMEM: nowhere to move borrowers to;
 * -EAGAIN: deadline passed or FREE_ONLY. Failure leaves nothing isolated or claimed. May sleep.
 */
int berth_cma_alloc(struct berth_cma *area, const struct berth_claim_params *params,
		    berth_pfn_t *pfn, struct berth_claim_report *report) BERTH_MUST_CHECK;

/*
 * Releases a claim: [pfn, pfn + nr_pages) as it was claimed. What is smaller than a pageblock may be kept for the
 * next claim of its size by this CPU, one for a CPU: it counts as free, and whoever needs it gets it (claims of other
 * sizes, allocations that find nothing else), but meanwhile it isn't lent. -EINVAL: not a claim of this area, or
 * only part of one, or released already; unchanged.
 */
int berth_cma_release(struct berth_cma *area, berth_pfn_t pfn, uint64_t nr_pages) BERTH_MUST_CHECK;

/* ---- Many at once, and ahead of the need ------------------------------------------------------- */

enum berth_bulk_flags {
	BERTH_BULK_ALL_OR_NOTHING = 0,
	BERTH_BULK_AS_MANY_AS_POSSIBLE = 1u << 0, /* fewer are fine */
};

/*
 * Claims nr buffers of params->nr_pages each, one search, isolation, drain and move for as many of them
 * as fit in one range: the largest free ranges first, then the cheapest ones, each half as large as the
 * one before if there is none. pfns[0 .. nr): where they are, in no order; each is a claim to be released by itself,
 * or by berth_cma_release_bulk().
 * Returns how many were claimed, nr unless fewer are fine, or an error as berth_cma_alloc(): then none
 * is. The report is about all of them; its error says why there aren't more. May sleep.
 */
int berth_cma_alloc_bulk(struct berth_cma *area, const struct berth_claim_params *params,
			 unsigned nr, berth_pfn_t *pfns, unsigned flags,
			 struct berth_claim_report *report) BERTH_MUST_CHECK;

/* Releases nr claims of nr_pages each. -EINVAL: one isn't such a claim, or is named twice; then none is
 * released. */
int berth_cma_release_bulk(struct berth_cma *area, const berth_pfn_t *pfns, unsigned nr,
			   uint64_t nr_pages) BERTH_MUST_CHECK;

/* A claim that is made ahead of the need. */
struct berth_cma_prepared;

enum berth_prepare_state {
	BERTH_PREPARE_PENDING,   /* the range is being chosen or emptied, by whoever makes steps */
	BERTH_PREPARE_READY,     /* it is empty, and held: nobody else gets it */
	BERTH_PREPARE_FAILED,    /* nothing is held */
	BERTH_PREPARE_TAKEN,     /* it is a claim like any other */
	BERTH_PREPARE_CANCELLED, /* nothing is held */
};

/* Bytes of the memory for one, aligned to 16. */
size_t berth_cma_prepared_bytes(void);

/*
 * Begins to prepare a claim in `memory`, which must last until it is taken, failed or cancelled. Nothing
 * is done yet: that is for berth_cma_prepare_step(), by any thread. params->deadline_ns is for the
 * preparation. -EINVAL; -E2BIG.
 */
int berth_cma_prepare(struct berth_cma *area, const struct berth_claim_params *params, void *memory,
		      struct berth_cma_prepared **prepared) BERTH_MUST_CHECK;

/*
 * Goes on until it is ready, has failed, or about budget_pages have been moved (0: one batch). Between
 * steps its range is fenced off: what is free in it isn't lent. 1: pending, also while it waits for
 * holders (*wait_ns: so long; else 0; may be NULL); 0: ready, taken or cancelled; else the error. May
 * sleep. Other threads that step meanwhile wait.
 */
int berth_cma_prepare_step(struct berth_cma_prepared *prepared, uint64_t budget_pages,
			   uint64_t *wait_ns);

/* What it is now. Without a lock. */
enum berth_prepare_state berth_cma_prepare_poll(struct berth_cma_prepared *prepared);

/* Steps until it is no longer pending, or -EAGAIN: the deadline (port time, 0: none) has passed. */
int berth_cma_prepare_wait(struct berth_cma_prepared *prepared,
			   uint64_t deadline_ns) BERTH_MUST_CHECK;

/*
 * Takes what is ready: O(1), no search, nothing moves. -EAGAIN: pending; -EINVAL: taken or cancelled
 * before; or the error by which it has failed. The report (may be NULL) is that of the preparation.
 */
int berth_cma_prepare_take(struct berth_cma_prepared *prepared, berth_pfn_t *pfn,
			   struct berth_claim_report *report) BERTH_MUST_CHECK;

/* Gives the range back, whether it is ready or on its way; waits for a step that is being made.
 * -EINVAL: it was taken. */
int berth_cma_prepare_cancel(struct berth_cma_prepared *prepared);

/* ---- Watermarks ------------------------------------------------------------------------------- */

/* What a zone is for: lower kinds are scarcer. A request for one kind may be served by lower ones. */
enum berth_zone_kind {
	BERTH_ZONE_DMA,
	BERTH_ZONE_DMA32,
	BERTH_ZONE_NORMAL,
	BERTH_ZONE_HIGHMEM,
	BERTH_ZONE_MOVABLE, /* movable allocations only */
	BERTH_NR_ZONE_KINDS
};

enum berth_mark {
	BERTH_MARK_MIN,
	BERTH_MARK_LOW,
	BERTH_MARK_HIGH,
	BERTH_MARK_PROMO,
	BERTH_NR_MARKS
};

/* What the user can set at any time: berth_nodes_tune(). */
struct berth_tunables {
	uint64_t min_free_kbytes;        /* 0: by the size of memory */
	uint64_t extra_free_kbytes;      /* kept free between min and low */
	uint32_t watermark_scale_factor; /* 1 .. 3000: distance of the marks, in 1/10000 of a zone */
	uint32_t watermark_boost_factor; /* in 1/10000 of high: most that one boost adds; 0: none */
	/* Each kind of zone keeps 1/ratio of the memory above it from requests that could be served
	 * there; 0: nothing. */
	uint32_t lowmem_reserve_ratio[BERTH_NR_ZONE_KINDS];
};
#define BERTH_TUNABLES_DEFAULT                                                 \
	{                                                                      \
		.watermark_scale_factor = 10, .watermark_boost_factor = 15000, \
		.lowmem_reserve_ratio = { 256, 256, 32, 0, 0 },                \
	}
#define BERTH_MAX_SCALE_FACTOR 3000u

/* Frames that should stay free in a zone. */
struct berth_watermarks {
	uint64_t mark[BERTH_NR_MARKS]; /* without the boost */
	uint64_t boost;                /* on top of each mark, until berth_zone_unboost() */
};

/* The default of min_free_kbytes: the square root of 16 times the memory, in KiB, within 128 KiB and
 * 64 MiB. lowmem_kbytes: in zones that any kernel allocation can use. */
uint64_t berth_min_free_kbytes(uint64_t lowmem_kbytes);

/*
 * The marks of a zone with managed_pages, of lowmem_pages altogether in zones below HIGHMEM, of
 * all_pages in all. tunables->min_free_kbytes is taken as it is.
 */
void berth_watermarks_compute(const struct berth_tunables *tunables, enum berth_zone_kind kind,
			      uint64_t managed_pages, uint64_t lowmem_pages, uint64_t all_pages,
			      struct berth_watermarks *marks);

void berth_zone_watermarks(struct berth_zone *zone, struct berth_watermarks *marks);
/* Sets a zone's marks by hand (a zone that is part of nodes gets them by berth_nodes_tune()). The
 * boost is left alone. */
void berth_zone_set_watermarks(struct berth_zone *zone, const struct berth_watermarks *marks);
/* Takes up to nr_pages off the boost, as kswapd does when it has balanced the zone. */
void berth_zone_unboost(struct berth_zone *zone, uint64_t nr_pages);

/* Who may take what. */
enum berth_alloc_flags {
	BERTH_ALLOC_CMA = 1u << 0,         /* free frames of areas that lend count */
	BERTH_ALLOC_MIN_RESERVE = 1u << 1, /* down to a half of the mark: high priority */
	BERTH_ALLOC_NON_BLOCK = 1u << 2,   /* with MIN_RESERVE to 3/8: can't wait for reclaim */
	BERTH_ALLOC_OOM = 1u << 3,         /* half of what is left then: about to free its memory */
	BERTH_ALLOC_HIGHATOMIC = 1u << 4,  /* free blocks of the HIGHATOMIC reserve count */
	BERTH_ALLOC_NO_WATERMARKS = 1u << 5, /* reclaim itself: all of it */
};

/*
 * True when the zone can give 2^order frames and still has more than `mark` free, not counting what
 * the request may not use, and the lowmem reserve against requests for `highest`; for order > 0 also
 * a free block must be large enough. Order 0: no lock; inexact while others allocate.
 */
bool berth_watermark_ok(struct berth_zone *zone, unsigned order, uint64_t mark,
			enum berth_zone_kind highest, unsigned alloc_flags) BERTH_MUST_CHECK;

/* ---- Statistics and checks -------------------------------------------------------------------- */

struct berth_zone_stats {
	uint64_t spanned_pages; /* in the zone's range, holes included */
	uint64_t present_pages; /* there: managed + reserved */
	uint64_t managed_pages;
	uint64_t free_pages; /* in buddy lists, areas included */
	uint64_t pcp_pages;  /* in per-CPU lists; inexact while CPUs allocate */
	uint64_t claimed_pages;
	uint64_t used_pages; /* managed - free - pcp - claimed */
	uint64_t pinned_blocks;
	uint64_t moved_pages, failed_moves; /* since init */
	uint64_t drains;                    /* times a CPU's list was drained for a claim */
	uint64_t metadata_bytes;
	uint64_t compact_successes, compact_failures; /* of runs for one order, since init */
};
void berth_zone_stats(struct berth_zone *zone, struct berth_zone_stats *stats);

struct berth_cma_stats {
	const char *name;
	berth_pfn_t start_pfn;
	uint64_t nr_pages;
	uint64_t claimed_pages;
	uint64_t free_pages; /* in the area's buddy lists */
	uint64_t lent_pages; /* nr - claimed - free: borrowed, cached for borrowing, or taken by
				   * berth_alloc_contig_range() past the area */
	uint64_t largest_free_pages;
	uint64_t largest_claimable_pages;
	uint64_t claims_ok, claims_failed, releases; /* since declaration */
	enum berth_lend_policy lend;
	unsigned order_per_bit;
	uint64_t lend_min_pages;
};
/* Costs O(pageblocks), and O(blocks) in pageblocks that are partly free. */
void berth_cma_stats(struct berth_cma *area, struct berth_cma_stats *stats);
/* The same without the two largest runs: O(1), takes the zone lock briefly. */
void berth_cma_stats_brief(struct berth_cma *area, struct berth_cma_stats *stats);

/* The first violated invariant. */
struct berth_violation {
	const char *what;
	uint64_t where; /* pfn, pageblock or order, as `what` says */
	uint64_t value, expected;
};
/*
 * Verifies every invariant of the zone, its lists, counters, pageblocks, per-CPU lists and areas;
 * read-only; only at a quiescent point. True when all hold. Cost: O(frames).
 */
bool berth_zone_check(struct berth_zone *zone, struct berth_violation *violation) BERTH_MUST_CHECK;

/* The state of one frame, for tests and tools: 'f' free, 'p' in a per-CPU list or
 * kept for an area's next claim, 'u' used, 'c' claimed, 'r' reserved, '-' none of these; *head and *order describe its
 * block. O(max_order). Takes the zone lock. */
char berth_frame_state(struct berth_zone *zone, berth_pfn_t pfn, berth_pfn_t *head,
		       unsigned *order);
/* The owner of an allocated frame and the frame's cookie; false when it isn't allocated. Likewise. */
bool berth_frame_owner(struct berth_zone *zone, berth_pfn_t pfn, unsigned *owner, uint64_t *cookie);
/* True when the frame belongs to a CMA area, also while a claim isolates its pageblock. */
bool berth_frame_in_area(struct berth_zone *zone, berth_pfn_t pfn);
/* The type of the frame's pageblock now: BERTH_ISOLATE while a claim empties it. */
enum berth_migratetype berth_pageblock_migratetype(struct berth_zone *zone, berth_pfn_t pfn);

/*
 * Return what per-CPU lists hold to the buddy lists, and what areas keep for their next claims: all; what one CPU (a slot, < nr_cpus) holds; the
 * blocks that touch [start_pfn, start_pfn + nr_pages). Afterwards no operation on a list that is
 * drained is running which began before; CPUs that go on allocating fill their lists again. May wait for
 * a thread inside its list. Cost: a barrier on all CPUs, O(slots), O(blocks in lists).
 * -EINVAL: there is no such slot; the range is empty or outside. Nothing has changed.
 */
void berth_pcp_drain_all(struct berth_zone *zone);
int berth_pcp_drain(struct berth_zone *zone, unsigned cpu) BERTH_MUST_CHECK;
int berth_pcp_drain_range(struct berth_zone *zone, berth_pfn_t start_pfn,
			  uint64_t nr_pages) BERTH_MUST_CHECK;

/*
 * Halves the limit of each per-CPU list that has exchanged nothing with the buddy lists since the last
 * call, down to its minimum, and returns what is beyond. CPUs that allocate do this themselves, once a
 * second; this is for those that don't. To be called now and then (Linux: every second), or when memory
 * is low; kswapd does so. Cost: as a drain.
 */
void berth_pcp_age(struct berth_zone *zone);

#ifdef __cplusplus
}
#endif
#endif
