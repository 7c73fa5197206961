/* SPDX-License-Identifier: MIT */
/*
 * The core's private structures: frame, pageblock, list and zone, and what all of its files do with them. What the files
 * of a folder do for others is in the folder's internal.h (functions have the prefix berth__).
 *
 * Frames are addressed by index: idx = pfn - zone->base_pfn, where base_pfn is start_pfn rounded
 * down to the largest block, so that a block's buddy is idx ^ size.
 *
 * Who protects what (the letter stands beside each field):
 *	c	constant after init (areas, owners: after their declaration)
 *	Z	zone->lock
 *	P	the per-CPU section of the slot's owner, or the drainer once it has excluded the owner
 *	L	zone->lru.lock
 *	S	zone->search_lock
 *	a	atomic; the comment says by whom it is written
 * Lock order: a preparation's lock, then zone->search_lock or an owner's own locks, then
 * pcp->drain_lock, then zone->lock, then zone->lru.lock.
 */
#ifndef BERTH_CORE_INTERNAL_H
#define BERTH_CORE_INTERNAL_H

#include <stdatomic.h>

#include <berth/core.h>
#include <berth/lru.h>
#include <berth_compiler.h>
#include <berth_port.h>

#ifndef BERTH_HAVE_DEVICE_BARRIER
static inline void berth_device_barrier(void)
{
	atomic_thread_fence(memory_order_seq_cst);
}
#endif

typedef uint32_t berth_idx_t; /* a frame's index in its zone; never a pfn */
#define BERTH_IDX_NONE UINT32_MAX

/* ---- A frame ---------------------------------------------------------------------------------- */

/*
 * Every managed frame belongs to exactly one block of 2^order frames, aligned to its size. The
 * block's first frame is its head and carries everything; the others are all zero. So zero
 * metadata is valid for the inside of any block, and a zone initialises by touching heads only.
 */
enum berth_frame_kind {
	BERTH_FRAME_TAIL = 0, /* inside a block, or not managed */
	BERTH_FRAME_FREE,     /* head in a buddy list */
	BERTH_FRAME_PCP,      /* head in a per-CPU list */
	BERTH_FRAME_USED,     /* allocated */
	BERTH_FRAME_CLAIMED,  /* taken by a claim */
	BERTH_FRAME_RESERVED, /* there, but not managed: in use since before the zone */
};

/*
 * tag, one word so that it changes at once and a scanner reads it whole:
 *	bits 0-2 kind, 3-7 order, 8-15 flags, 16-31 owner
 */
#define BERTH_TAG(kind, order) ((uint32_t)(kind) | (uint32_t)(order) << 3)
#define BERTH_TAG_MOVABLE (1u << 8) /* USED: the owner can move it */
#define BERTH_TAG_RECLAIMABLE (1u << 9)
#define BERTH_TAG_ARRIVING (1u << 10) /* USED: destination of a move in flight */
#define BERTH_TAG_START (1u << 11)    /* CLAIMED: first frame of a claim; cookie = its pages */
#define BERTH_TAG_TAKING (1u << 12)   /* CLAIMED: by a claim that isn't complete */
#define BERTH_TAG_ORPHAN (1u << 13)   /* USED: freed by its owner, pins remain */
#define BERTH_TAG_AREA (1u << 14)     /* CLAIMED start: the claim was made through its area */
#define BERTH_TAG_LRU (1u << 15)      /* USED: may be on an LRU list; never changes until freed */
#define BERTH_TAG_OWNER_SHIFT 16

/* What a free reads and writes, and no more: eight of them are a cache line, and none straddles two. */
struct berth_frame {
	/* a: USED: 1 by the owner + BERTH_PIN_BIAS a pin; 0 frozen */
	_Alignas(8) _Atomic uint32_t refcount;
	_Atomic uint32_t tag; /* a: written under Z, or in P while the frame is in a list */
};

/* What only a block has that is in an LRU list, or a claim. */
union berth_links {
	struct {
		uint32_t next, prev; /* L: in the LRU list */
	};
	uint64_t note; /* of a CLAIMED start: alloc/claims.c */
};

static inline uint32_t berth__tag(const struct berth_frame *frame)
{
	return atomic_load_explicit(&frame->tag, memory_order_relaxed);
}

static inline void berth__set_tag(struct berth_frame *frame, uint32_t tag)
{
	atomic_store_explicit(&frame->tag, tag, memory_order_relaxed);
}

/* For who writes it in P, without Z: I6 of frames/pcp.c. */
static inline void berth__set_tag_release(struct berth_frame *frame, uint32_t tag)
{
	atomic_store_explicit(&frame->tag, tag, memory_order_release);
}

static inline enum berth_frame_kind berth__tag_kind(uint32_t tag)
{
	return (enum berth_frame_kind)(tag & 7u);
}

static inline unsigned berth__tag_order(uint32_t tag)
{
	return tag >> 3 & 31u;
}

static inline unsigned berth__tag_owner(uint32_t tag)
{
	return tag >> BERTH_TAG_OWNER_SHIFT;
}

/* ---- Lists, pageblocks, per-CPU lists ---------------------------------------------------------- */

/*
 * A set is the free memory of one migratetype, or of one CMA area: set = BERTH_CMA + area number. So
 * lending from an area is choosing its set.
 *
 * Blocks of a pageblock and more are in the set's lists by order. Smaller ones are bits of their
 * pageblock, and the pageblock is in a bucket of its set, by how much of it is free and by its
 * largest free block. So an allocation finds the fullest pageblock that can serve it by two bit scans,
 * and what is nearly free is left alone until it is free.
 */
#define BERTH_DENSITIES 8u    /* eighths of a pageblock that are free; 0: nearly full */
#define BERTH_NEARLY_FREE 32u /* a pageblock with at most this part in use: it's a pity to wait */

struct berth_free_list {
	uint32_t first; /* Z: orders of a pageblock and more: the pageblock of its first block */
	uint32_t nr_blocks; /* Z: of the order, in all of the set */
};

struct berth_list_set {
	/* a, written under Z: frames in the set's lists and stock; of those in its stock. Less what
	 * claims have taken of the stock since: berth__set_free(). */
	_Atomic uint64_t nr_free, nr_stocked;
	uint32_t nonempty; /* Z: bit k: there is a block of order k */
	/* a, written under Z: bit k: the bucket (density, k) has a pageblock */
	_Atomic uint32_t orders[BERTH_DENSITIES];
	_Atomic uint32_t nr_pageblocks[BERTH_DENSITIES]; /* a, written under Z: in these buckets */
};

/*
 * An area's stock: its wholly free pageblocks, which are in no list, so that claims take and give them
 * without a lock (frames/stock.c). Of each pageblock a word:
 *	bits 0-1 below; 2-31 how often it was taken
 */
enum berth_stock {
	BERTH_LISTED, /* Z: all that isn't one of these */
	BERTH_STOCK,  /* free; whoever changes it by a compare-and-swap has it */
	BERTH_TAKEN,  /* the claim's that took it */
};
#define BERTH_STOCK_STATE 3u
#define BERTH_STOCK_ONCE 4u

/* Parts of a pageblock that the search knows apart. */
#define BERTH_CHUNKS 8u
#define BERTH_CHUNK_MAX_ORDER 7u /* of a chunk: its joined frames are a byte */

struct berth_pageblock {
	_Alignas(64) _Atomic uint32_t stock; /* a: see above; claimers touch a line each */
	_Atomic uint16_t set;                /* a: written under Z */
	_Atomic uint8_t skip;  /* a: likewise: compaction's hint, see struct berth_compact_state */
	uint16_t home_set;     /* Z: the set it returns to when it isn't isolated */
	uint16_t bucket;       /* Z: berth__bucket_number(), 0: in none */
	uint16_t nr_isolating; /* Z: ranges in zone->isolations that touch it */
	_Atomic uint32_t busy_until; /* a: by claims: see berth__mark_busy() */
	_Atomic uint32_t nr_managed; /* a: under Z; grows when reserved frames are freed */
	uint32_t nr_reserved;        /* Z */
	/* a: frames in buddy lists, or in the stock; written under Z, or while TAKEN by whose it is */
	_Atomic uint32_t nr_free;
	_Atomic uint32_t nr_claimed; /* a: likewise */
	_Atomic uint32_t nr_pinned;  /* a: pinned blocks touching it */
	/* a: written under Z, or in P while all of it is cached: frames of used and cached blocks, but the
	 * first of each: pageblock.c */
	_Atomic uint32_t nr_joined;
	uint32_t nonempty; /* Z: bit k: it has a free block of order k, smaller than itself */
	/* Z: pageblocks of its bucket; the first one of a free block of a pageblock and more: of its list */
	uint32_t next, prev;
	_Atomic uint64_t joined; /* a: likewise of each chunk, a byte each, if berth__has_chunks() */
};
_Static_assert(sizeof(struct berth_pageblock) == 64, "a pageblock is a cache line");

/*
 * What a claim may drop instead of moving it: blocks on evictable LRU lists, or in a reclaimer's hands, that
 * are clean. Of each pageblock, in zones that have LRU lists.
 */
enum berth_discardable {
	BERTH_DISCARD_IDLE, /* by any claim: inactive, and not used since */
	BERTH_DISCARD_USED, /* with BERTH_CLAIM_DROP only */
	BERTH_NR_DISCARDABLE,
	BERTH_DISCARD_NOT = BERTH_NR_DISCARDABLE
};

struct berth_discardables {
	/* a: frames; blocks, or parts of them: by whoever changes a block's state */
	_Atomic uint32_t pages[BERTH_NR_DISCARDABLE], blocks[BERTH_NR_DISCARDABLE];
};

/* Above the pageblocks: frames/summary.h. */
struct berth_load;
struct berth_group;
struct berth_summary;

/*
 * Per-CPU lists: for each order that is cached, one for each type. A row is the lists of an order: rows
 * 0 to 3 are the orders below 4 that are smaller than a pageblock, row 4 is the pageblock's order.
 */
enum berth_pcp_type {
	BERTH_PCP_UNMOVABLE,
	BERTH_PCP_MOVABLE,
	BERTH_PCP_RECLAIMABLE,
	BERTH_PCP_CMA,
	BERTH_NR_PCP_TYPES,
	/* Behind the lists of row 0: blocks freed in pageblocks that are far from full: for the buddy
	 * lists, not for the next allocation. Of any row but the last. */
	BERTH_PCP_RETURN = BERTH_NR_PCP_TYPES,
	/* A list that holds nothing, ever: so the hot path needn't ask. */
	BERTH_PCP_NONE,
};
#define BERTH_PCP_ROW_PAGEBLOCK 4u
#define BERTH_NR_PCP_ROWS 5u
#define BERTH_PCP_NO_ROW 255u
#define BERTH_NR_PCP_LISTS (BERTH_NR_PCP_ROWS * BERTH_NR_PCP_TYPES + 2u)

/* The first list of a row; one for each type follows. */
static inline unsigned berth__pcp_first(unsigned row)
{
	return row ? row * BERTH_NR_PCP_TYPES + 2 : 0;
}

struct berth_pcp {
	_Alignas(64) _Atomic uint32_t in_section; /* a: by the slot's owner */
	_Atomic uint32_t gate;                    /* a: see below */
	/* P: blocks in each list. A pop waits for the push before it: some processors forward a store of 32
	 * bits to the next load at once, and one of 16 bits after seven cycles. */
	_Atomic uint32_t count[BERTH_NR_PCP_LISTS];
	_Atomic uint16_t high[BERTH_NR_PCP_LISTS]; /* P: how many it may hold now */
	_Atomic uint32_t return_tails; /* P: frames in RETURN but the first of each block */
	uint32_t warm;      /* P: bit k: list k has exchanged blocks since the lists were aged */
	uint32_t whole;     /* P: bit k: list k, of single frames, got a whole pageblock last */
	uint16_t exchanges; /* P: with the buddy lists */
	uint16_t aged;      /* P: when that was, see pcp_limits.c */
	uint32_t front[BERTH_NR_PCP_TYPES]; /* P: 1 + the pageblock that filled the list last */
	berth_mutex_t drain_lock;           /* one drainer at a time */
	/* followed by the lists' stacks (P), of zone->pcp_max[list] indices each */
};
/* gate: OPEN for the hot path alone. USED is set by the owner, once; DRAIN by a drainer: keep out;
 * FENCE with USED where each section needs a fence. */
#define BERTH_PCP_USED 1u
#define BERTH_PCP_DRAIN 2u
#define BERTH_PCP_FENCE 4u
#define BERTH_PCP_OPEN BERTH_PCP_USED

/* ---- Areas, owners, the zone ------------------------------------------------------------------- */

/*
 * What a claimer changes of its area beside pageblocks: in a line of its CPU, so that two don't share
 * one. Sums count; each may be "negative".
 */
struct berth_tally {
	_Alignas(64) _Atomic uint64_t taken; /* a: frames of TAKEN pageblocks */
	_Atomic uint64_t turns;              /* a: how often some were taken, or given back */
	_Atomic uint64_t claimed_pages, claims_ok, claims_failed, releases; /* a */
	_Atomic uint64_t last; /* a: the range taken last: its first pageblock, and how many << 32 */
	_Atomic uint64_t kept; /* a: what is kept for the next claim: frames/kept.c */
};

#define BERTH_MOST_TALLIES 4u /* of an area */

struct berth_cma {
	struct berth_zone *zone;     /* c */
	const char *name;            /* c */
	berth_idx_t start, end;      /* c */
	unsigned order_per_bit;      /* c */
	unsigned set;                /* c */
	uint64_t *bitmap;            /* a: each bit by whose claim it is */
	struct berth_tally *tallies; /* c: tally_mask + 1 of them */
	unsigned tally_mask;         /* c */
	/* a: written under Z; enum berth_lend_policy */
	_Atomic uint32_t lend;
	_Atomic uint64_t lend_min_pages;
};

struct berth_owner {
	const struct berth_owner_ops *ops; /* c */
	void *ctx;                         /* c */
};

/* What an allocation must leave in the zone: frames/watermark.c. Written by whoever tunes, but for the
 * boost, which grows under Z; read without a lock. */
struct berth_zone_marks {
	_Atomic uint64_t mark[BERTH_NR_MARKS];                /* a */
	_Atomic uint64_t boost;                               /* a: on top of each mark */
	_Atomic uint64_t lowmem_reserve[BERTH_NR_ZONE_KINDS]; /* a: against requests for that kind */
	_Atomic uint32_t boost_factor;                        /* a */
};

/* What compaction remembers of its last runs (motion/compact.c). */
struct berth_compact_state {
	uint32_t defer_shift, considered; /* Z: see deferred_locked() */
	unsigned order_failed;            /* Z */
	bool nothing_left;                /* Z: the hints exclude all that was worth trying */
	_Atomic uint32_t epoch;           /* a: under Z: of the skip hints, 1 .. 255 */
	_Atomic uint32_t position;        /* a: pageblock at which a run over the zone goes on */
	uint64_t successes, failures;     /* Z */
};

/* Names that claims have: alloc/claims.c. */
struct berth_names {
	struct berth_name *table;
	unsigned max;
};

struct berth_claim_events;

/*
 * LRU (motion/lru.c). Where a block is, and what is known of it, is one byte a frame beside the tags:
 * bits 0-2 where (changed under L, but for NOWHERE -> IN_BATCH), 3-7 flags (changed at any time, by
 * read-modify-write). It is 0 for all frames but heads of blocks that are tagged LRU.
 */
enum berth_lru_where {
	BERTH_LRU_NOWHERE,
	BERTH_LRU_IN_BATCH, /* on its way to a list: some CPU's batch says so */
	BERTH_LRU_IN_LIST,  /* + enum berth_lru_list */
	BERTH_LRU_ISOLATED = BERTH_LRU_IN_LIST +
			     BERTH_NR_LRU_LISTS, /* next: the reclaimer's ticket */
	BERTH_LRU_FREED,                         /* an orphan that is still being written */
};
#define BERTH_LRU_WHERE 7u
#define BERTH_LRU_REFERENCED (1u << 3)
#define BERTH_LRU_LOCKED (1u << 4) /* unevictable */
#define BERTH_LRU_DIRTY (1u << 5)
#define BERTH_LRU_WRITEBACK (1u << 6) /* the core has pinned it */
#define BERTH_LRU_RECLAIM (1u << 7)   /* with WRITEBACK: is to be dropped after that */

/* What a block in this state is to a claim. (What is on its way to a list is moved.) */
static inline enum berth_discardable berth__discardable(unsigned state)
{
	unsigned where = state & BERTH_LRU_WHERE;

	if (where < BERTH_LRU_IN_LIST || where > BERTH_LRU_ISOLATED ||
	    (state & (BERTH_LRU_DIRTY | BERTH_LRU_WRITEBACK | BERTH_LRU_LOCKED)))
		return BERTH_DISCARD_NOT;
	return where == BERTH_LRU_IN_LIST + BERTH_LRU_ACTIVE || (state & BERTH_LRU_REFERENCED) ?
		       BERTH_DISCARD_USED :
		       BERTH_DISCARD_IDLE;
}

/* What a CPU's batch asks for; they are carried out in this order. */
enum berth_lru_op {
	BERTH_LRU_ADD,
	BERTH_LRU_ROTATE, /* to the end that is reclaimed next */
	BERTH_LRU_DEACTIVATE,
	BERTH_LRU_ACTIVATE,
	BERTH_NR_LRU_OPS
};
#define BERTH_PAGEVEC_SIZE 15u

struct berth_lru_batch {
	_Alignas(64) _Atomic uint32_t count[BERTH_NR_LRU_OPS];    /* P */
	berth_idx_t blocks[BERTH_NR_LRU_OPS][BERTH_PAGEVEC_SIZE]; /* P */
};

struct berth_lru_list_ends {
	berth_idx_t first, last; /* L: added last; reclaimed next */
};

/* Shrinkers of a zone or of nodes (motion/shrink.c). */
struct berth_shrinkers {
	berth_lock_t lock; /* after it no other; not held while a shrinker runs */
	struct berth_shrinker *first;
	_Atomic uint32_t nr; /* a: under the lock */
};

struct berth_lru {
	_Alignas(64) berth_lock_t lock;
	struct berth_lru_list_ends lists[BERTH_NR_LRU_LISTS]; /* L */
	uint32_t ticket;                                      /* L: of the last isolation */
	_Atomic uint32_t disabled; /* a: how many want the batches to stay empty */
	_Atomic uint64_t nr_pages[BERTH_NR_LRU_LISTS], nr_isolated; /* a: under L */
	_Atomic uint64_t nr_dirty, nr_writeback;                    /* a */
	_Atomic uint64_t activated, deactivated, rotated;           /* a: under L */
	_Atomic uint64_t scanned, dropped, written;                 /* a */
	struct berth_shrinkers shrinkers;
};

struct berth_zone {
	const char *name;                  /* c */
	const struct berth_port_ops *port; /* c */
	void *port_ctx;                    /* c */
	unsigned nr_owners;   /* Z; read without: nobody registers meanwhile. owners[0] is nobody */
	berth_pfn_t base_pfn; /* c: pfn of index 0 */
	uint64_t spanned;     /* c: end - first */
	berth_idx_t first, end;              /* c: spanned indices */
	unsigned max_order, pageblock_order; /* c */
	uint32_t bit_words;                  /* c: of `bits`, for each pageblock */
	uint64_t whole_joined; /* c: `joined` of a pageblock that is one block; 0 without chunks */
	unsigned nr_cpus;      /* c */
	bool fence_sections;   /* c: the port has no barrier for all CPUs */
	uint8_t pcp_row[BERTH_MAX_ORDER_LIMIT + 1]; /* c: of an order, or NO_ROW */
	uint8_t pcp_order[BERTH_NR_PCP_LISTS]; /* c: of a list's blocks; RETURN: by their tags */
	uint32_t pcp_base[BERTH_NR_PCP_LISTS]; /* c: where a list's stack begins */
	uint16_t pcp_min[BERTH_NR_PCP_LISTS], pcp_max[BERTH_NR_PCP_LISTS]; /* c: bounds of `high` */
	uint32_t pcp_budget;            /* c: frames that the lists of all slots may hold beyond */
	unsigned max_areas, max_owners; /* c */
	size_t pcp_stride, metadata_bytes; /* c */
	size_t lru_offset;                 /* c: of a CPU's LRU batch behind its berth_pcp */
	_Atomic uint8_t *lru_state;        /* c; NULL: no LRU lists. Of each frame: a, see above */
	struct berth_discardables *discardables; /* c; NULL: likewise. One for each pageblock */
	berth_pfn_t start_pfn;                   /* c: pfn of index `first` */
	bool in_node;                            /* c: part of nodes, as this: */
	uint8_t node, kind;                      /* c */
	uint8_t pcp_type_of_set[BERTH_CMA + BERTH_MAX_AREAS]; /* Z: lists that cache it, or NONE */
	/* a: written under Z, read in P: of each pageblock, the type of the lists that cache what is
	 * freed in it; RETURN, or NONE. */
	_Atomic uint8_t *pcp_route;
	struct berth_frame *frames; /* c */
	uint64_t *cookies; /* c: of as many frames. USED: the owner's; CLAIMED start: pages. Written with tag */
	union berth_links *links;           /* c: of as many frames */
	struct berth_pageblock *pageblocks; /* c */
	struct berth_list_set *sets;        /* c */
	struct berth_free_list *lists;      /* c: [set * (max_order + 1) + order] */
	uint64_t *bits;                     /* c: see berth__bits() */
	uint32_t *buckets;                  /* c: first pageblock, see berth__bucket() */
	struct berth_load *loads;           /* S: one for each pageblock */
	struct berth_group *groups;         /* S */
	struct berth_summary *regions;      /* S */
	_Atomic uint64_t *stale;         /* a: a word for each region: groups that have changed */
	char *pcps;                      /* c: see berth__pcp() */
	struct berth_cma *areas;         /* c */
	struct berth_tally *tallies;     /* c: of all areas */
	unsigned nr_tallies_left;        /* Z: for areas to be declared: the first ones */
	_Atomic uint64_t *stocked;       /* a: a bit for each pageblock: it may be in a stock */
	struct berth_owner *owners;      /* c */
	struct berth_counters *counters; /* c: see core/stats.h; counter_mask + 2 of them */
	unsigned counter_mask;           /* c */
	struct berth_timings *timings;   /* c: NULL unless asked for */

	berth_mutex_t search_lock;    /* of the summaries */
	_Atomic uint32_t busy_latest; /* a: the last busy_until of any pageblock */
	struct berth_cost_model cost; /* S */
	_Atomic bool drops_idle;      /* a: under S: of `cost`, dropping isn't dearer than moving */
	_Alignas(64) berth_lock_t lock;
	unsigned nr_areas;    /* Z */
	uint64_t nr_managed;  /* Z */
	uint64_t nr_reserved; /* Z: present - managed */
	uint64_t nr_claimed;  /* Z */
	/* a, written under Z: free frames, but for what is isolated; of those the frames of areas and
	 * those of HIGHATOMIC pageblocks. The first two less what claims have taken of stocks:
	 * berth__zone_free(), berth__zone_free_cma(). */
	_Atomic uint64_t nr_free, nr_free_cma, nr_free_highatomic;
	_Atomic uint32_t nr_stocks;     /* a, written under Z: as nr_areas */
	_Atomic uint32_t nr_keeping;    /* a, written under Z: areas that don't lend all */
	_Atomic uint64_t nr_highatomic; /* a, written under Z: frames of HIGHATOMIC pageblocks */
	struct berth_isolation *isolations; /* Z: ranges that are being emptied */
	struct berth_move *gathered; /* c; BERTH_GATHER_BUFFERS, each of who has set its bit: */
	unsigned gathering;          /* Z */
	unsigned gather_room;        /* c: moves in each */
	struct berth_zone_marks marks;
	struct berth_compact_state compact;
	struct berth_names names;                          /* Z: of claims */
	_Atomic(const struct berth_claim_events *) events; /* a */
	_Atomic uint32_t nr_pcps_used;                     /* a: slots below this may hold frames */
	_Atomic uint32_t pcp_grown;                        /* a: of pcp_budget: see pcp_limits.c */
	_Atomic uint64_t moved_pages, failed_moves, drains, pinned_blocks; /* a */
	struct berth_lru lru;
};

/* A broken invariant: stops. Always on; `value` and `expected` say what was found. */
#define BERTH_ASSERT(zone, cond, value, expected)                                    \
	do {                                                                         \
		if (BERTH_UNLIKELY(!(cond)))                                         \
			berth__panic((zone), __FILE__ ": " #cond, (uint64_t)(value), \
				     (uint64_t)(expected));                          \
	} while (0)
_Noreturn void berth__panic(const struct berth_zone *zone, const char *what, uint64_t value,
			    uint64_t expected);

static inline berth_idx_t berth__pages(unsigned order)
{
	return (berth_idx_t)1 << order;
}

static inline berth_pfn_t berth__pfn(const struct berth_zone *zone, berth_idx_t idx)
{
	return zone->base_pfn + idx;
}

/* True when [pfn, pfn + nr) is spanned by the zone; *idx is its first index. */
static inline bool berth__idx(const struct berth_zone *zone, berth_pfn_t pfn, uint64_t nr,
			      berth_idx_t *idx)
{
	uint64_t offset = pfn - zone->start_pfn;

	*idx = (berth_idx_t)(pfn - zone->base_pfn);
	return offset < zone->spanned && nr <= zone->spanned - offset;
}

/* The same for one frame. */
static inline bool berth__idx_one(const struct berth_zone *zone, berth_pfn_t pfn, berth_idx_t *idx)
{
	*idx = (berth_idx_t)(pfn - zone->base_pfn);
	return pfn - zone->start_pfn < zone->spanned;
}

/* Whoever scans reads it beside an allocation from a per-CPU list, and finds out later that the block is another one. */
static inline uint64_t berth__cookie(const struct berth_zone *zone, berth_idx_t idx)
{
	return __atomic_load_n(&zone->cookies[idx], __ATOMIC_RELAXED);
}

static inline void berth__set_cookie(const struct berth_zone *zone, berth_idx_t idx,
				     uint64_t cookie)
{
	__atomic_store_n(&zone->cookies[idx], cookie, __ATOMIC_RELAXED);
}

static inline struct berth_pageblock *berth__pageblock(const struct berth_zone *zone,
						       berth_idx_t idx)
{
	return &zone->pageblocks[idx >> zone->pageblock_order];
}

static inline unsigned berth__pageblock_set(const struct berth_pageblock *pageblock)
{
	return atomic_load_explicit(&pageblock->set, memory_order_relaxed);
}

/* The free blocks below a pageblock's order, a bit for each: see frames/buddy.c. */
static inline uint64_t *berth__bits(const struct berth_zone *zone, berth_idx_t idx)
{
	return &zone->bits[(size_t)(idx >> zone->pageblock_order) * zone->bit_words];
}

/* The bucket row of a pageblock with this many free frames, which aren't one block. */
static inline unsigned berth__density(const struct berth_zone *zone, uint32_t nr_free)
{
	unsigned shift = zone->pageblock_order > 3 ? zone->pageblock_order - 3 : 0;

	return nr_free >> shift < BERTH_DENSITIES ? nr_free >> shift : BERTH_DENSITIES - 1;
}

/* What pageblock->bucket says: never 0. */
static inline unsigned berth__bucket_number(unsigned density, unsigned order)
{
	return 1 + density * 32 + order;
}

/* The set's buckets (density, k) that have a pageblock: bit k. */
static inline uint32_t berth__bucket_orders(const struct berth_list_set *set, unsigned density)
{
	return atomic_load_explicit(&set->orders[density], memory_order_relaxed);
}

/* The first pageblock of a set's bucket; valid where `orders` says so. */
static inline uint32_t *berth__bucket(const struct berth_zone *zone, unsigned set, unsigned density,
				      unsigned order)
{
	return &zone->buckets[((size_t)set * BERTH_DENSITIES + density) * zone->pageblock_order +
			      order];
}

/* The order of a chunk. A pageblock below 8 frames has fewer of them, of a frame each. */
static inline unsigned berth__chunk_order(const struct berth_zone *zone)
{
	return zone->pageblock_order > 3 ? zone->pageblock_order - 3 : 0;
}

static inline bool berth__has_chunks(const struct berth_zone *zone)
{
	return berth__chunk_order(zone) <= BERTH_CHUNK_MAX_ORDER;
}

static inline uint32_t berth__nr_free(const struct berth_pageblock *pageblock)
{
	return atomic_load_explicit(&pageblock->nr_free, memory_order_relaxed);
}

static inline uint32_t berth__nr_managed(const struct berth_pageblock *pageblock)
{
	return atomic_load_explicit(&pageblock->nr_managed, memory_order_relaxed);
}

static inline uint32_t berth__nr_joined(const struct berth_pageblock *pageblock)
{
	return atomic_load_explicit(&pageblock->nr_joined, memory_order_relaxed);
}

/* Of a chunk. */
static inline uint32_t berth__joined(const struct berth_pageblock *pageblock, unsigned chunk)
{
	return (uint32_t)(atomic_load_explicit(&pageblock->joined, memory_order_relaxed) >>
			  8 * chunk) &
	       255u;
}

static inline uint32_t berth__nr_claimed(const struct berth_pageblock *pageblock)
{
	return atomic_load_explicit(&pageblock->nr_claimed, memory_order_relaxed);
}

static inline struct berth_pcp *berth__pcp(const struct berth_zone *zone, unsigned cpu)
{
	return (struct berth_pcp *)(void *)(zone->pcps + cpu * zone->pcp_stride);
}

static inline uint64_t berth__now(const struct berth_zone *zone)
{
	return zone->port->now_ns(zone->port_ctx);
}

/* The largest block that starts at idx, ends by `end` and has at most 2^limit frames. */
static inline unsigned berth__largest_order(berth_idx_t idx, berth_idx_t end, unsigned limit)
{
	unsigned order = idx ? (unsigned)__builtin_ctz(idx) : 31;

	if (order > limit)
		order = limit;
	while (berth__pages(order) > end - idx)
		order--;
	return order;
}

/*
 * The k-th of nr things, in a walk that goes inward from both ends: what the processor fetches ahead of it
 * is then never a neighbour's, who would have to get it back.
 */
static inline uint32_t berth__inward(uint32_t nr, uint32_t k)
{
	return k < nr / 2 ? k : nr - 1 - (k - nr / 2);
}

#endif
