/* SPDX-License-Identifier: MIT */
/*
 * The core's one private header: the frame, pageblock, list and zone structures, and the functions
 * shared between its files (prefix berth__).
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
#include <berth_port.h>

#define BERTH_LIKELY(x) __builtin_expect(!!(x), 1)
#define BERTH_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define BERTH_COLD __attribute__((noinline, cold)) /* kept out of hot functions */

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

struct berth_frame {
	uint32_t next, prev; /* Z: in the buddy list, CLAIMED start: a note; L: in an LRU list */
	_Atomic uint32_t refcount; /* a: USED: 1 by the owner + BERTH_PIN_BIAS a pin; 0 frozen */
	_Atomic uint32_t tag;      /* a: written under Z, or in P while the frame is in a list */
	uint64_t cookie;           /* USED: the owner's; CLAIMED start: pages. Written with tag */
};

/* Whoever scans reads it beside an allocation from a per-CPU list, and finds out later that the block is another one. */
static inline uint64_t berth__cookie(const struct berth_frame *frame)
{
	return __atomic_load_n(&frame->cookie, __ATOMIC_RELAXED);
}

static inline void berth__set_cookie(struct berth_frame *frame, uint64_t cookie)
{
	__atomic_store_n(&frame->cookie, cookie, __ATOMIC_RELAXED);
}

static inline uint32_t berth__tag(const struct berth_frame *frame)
{
	return atomic_load_explicit(&frame->tag, memory_order_relaxed);
}

static inline void berth__set_tag(struct berth_frame *frame, uint32_t tag)
{
	atomic_store_explicit(&frame->tag, tag, memory_order_relaxed);
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
	uint32_t head;      /* Z: orders of a pageblock and more */
	uint32_t nr_blocks; /* Z: of the order, in all of the set */
};

struct berth_list_set {
	/* a, written under Z: frames in the set's lists and stock; of those in its stock. Less what
	 * claims have taken of the stock since: berth__set_free(). */
	_Atomic uint64_t nr_free, nr_stocked;
	uint32_t nonempty;                /* Z: bit k: there is a block of order k */
	uint32_t orders[BERTH_DENSITIES]; /* Z: bit k: the bucket (density, k) has a pageblock */
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
	uint32_t nr_joined; /* Z: frames of used and cached blocks, but the first of each: pageblock.c */
	uint32_t nonempty;   /* Z: bit k: it has a free block of order k, smaller than itself */
	uint32_t next, prev; /* Z: pageblocks of its bucket */
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
	_Alignas(64) _Atomic uint32_t in_section;   /* a: by the slot's owner */
	_Atomic uint32_t gate;                      /* a: see below */
	_Atomic uint16_t count[BERTH_NR_PCP_LISTS]; /* P: blocks in each list */
	_Atomic uint16_t high[BERTH_NR_PCP_LISTS];  /* P: how many it may hold now */
	_Atomic uint32_t return_tails; /* P: frames in RETURN but the first of each block */
	uint32_t warm;      /* P: bit k: list k has exchanged blocks since the lists were aged */
	uint16_t exchanges; /* P: with the buddy lists */
	uint16_t aged;      /* P: when that was, see pcp.c */
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
};

struct berth_cma {
	struct berth_zone *zone;     /* c */
	const char *name;            /* c */
	berth_idx_t start, end;      /* c */
	unsigned order_per_bit;      /* c */
	unsigned set;                /* c */
	uint64_t *bitmap;            /* a: each bit by whose claim it is */
	struct berth_tally *tallies; /* c: zone->tally_mask + 1 of them */
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
	berth_idx_t first, end;                     /* c: spanned indices */
	unsigned max_order, pageblock_order;        /* c */
	uint32_t bit_words;                         /* c: of `bits`, for each pageblock */
	unsigned nr_cpus;                           /* c */
	bool fence_sections;                        /* c: the port has no barrier for all CPUs */
	uint8_t pcp_row[BERTH_MAX_ORDER_LIMIT + 1]; /* c: of an order, or NO_ROW */
	uint8_t pcp_order[BERTH_NR_PCP_LISTS]; /* c: of a list's blocks; RETURN: by their tags */
	uint32_t pcp_base[BERTH_NR_PCP_LISTS]; /* c: where a list's stack begins */
	uint16_t pcp_min[BERTH_NR_PCP_LISTS], pcp_max[BERTH_NR_PCP_LISTS]; /* c: bounds of `high` */
	uint32_t pcp_budget;               /* c: frames that all lists of a slot may hold */
	unsigned max_areas, max_owners;    /* c */
	size_t pcp_stride, metadata_bytes; /* c */
	size_t lru_offset;                 /* c: of a CPU's LRU batch behind its berth_pcp */
	_Atomic uint8_t *lru_state;        /* c; NULL: no LRU lists. Of each frame: a, see above */
	berth_pfn_t start_pfn;             /* c: pfn of index `first` */
	bool in_node;                      /* c: part of nodes, as this: */
	uint8_t node, kind;                /* c */
	uint8_t pcp_type_of_set[BERTH_CMA + BERTH_MAX_AREAS]; /* Z: lists that cache it, or NONE */
	/* a: written under Z, read in P: of each pageblock, the type of the lists that cache what is
	 * freed in it; RETURN, or NONE. */
	_Atomic uint8_t *pcp_route;
	struct berth_frame *frames;         /* c */
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
	unsigned tally_mask;             /* c */
	_Atomic uint64_t *stocked;       /* a: a bit for each pageblock: it may be in a stock */
	struct berth_owner *owners;      /* c */
	struct berth_counters *counters; /* c: see core/stats.h; counter_mask + 2 of them */
	unsigned counter_mask;           /* c */
	struct berth_timings *timings;   /* c: NULL unless asked for */

	berth_mutex_t search_lock;    /* of the summaries */
	_Atomic uint32_t busy_latest; /* a: the last busy_until of any pageblock */
	struct berth_cost_model cost; /* S */
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
	struct berth_move *gathered;        /* c; what is there belongs to who has set: */
	bool gathering;                     /* Z */
	unsigned gather_room;               /* c */
	struct berth_zone_marks marks;
	struct berth_compact_state compact;
	struct berth_names names;                          /* Z: of claims */
	_Atomic(const struct berth_claim_events *) events; /* a */
	_Atomic uint32_t nr_pcps_used;                     /* a: slots below this may hold frames */
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

/* The first pageblock of a set's bucket; valid where `orders` says so. */
static inline uint32_t *berth__bucket(const struct berth_zone *zone, unsigned set, unsigned density,
				      unsigned order)
{
	return &zone->buckets[((size_t)set * BERTH_DENSITIES + density) * zone->pageblock_order +
			      order];
}

static inline uint32_t berth__nr_free(const struct berth_pageblock *pageblock)
{
	return atomic_load_explicit(&pageblock->nr_free, memory_order_relaxed);
}

static inline uint32_t berth__nr_managed(const struct berth_pageblock *pageblock)
{
	return atomic_load_explicit(&pageblock->nr_managed, memory_order_relaxed);
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

/* ---- frames/frame.c: blocks and references ----------------------------------------------------- */

/* Head of the block that holds idx, or BERTH_IDX_NONE when it is in none. O(max_order). Z, or
 * the caller knows that the block can't change. */
berth_idx_t berth__head(const struct berth_zone *zone, berth_idx_t idx);
/* One pin more of the USED head, false: it is frozen. Z or L, so that the block isn't split. */
bool berth__pin_head(struct berth_zone *zone, berth_idx_t head);
/* Takes the count of a USED head from 1 to 0 / back. */
bool berth__freeze(struct berth_frame *head);
void berth__unfreeze(struct berth_zone *zone, struct berth_frame *head);
/*
 * Cuts the USED block at `head` so that a block boundary falls on `at` (inside the block); false
 * when it is held by somebody else. Z.
 */
bool berth__split_used_at_locked(struct berth_zone *zone, berth_idx_t head, berth_idx_t at);

/* ---- frames/pageblock.c: counters that must add up ---------------------------------------------- */

/* The only places that change nr_free / nr_claimed. [idx, idx + nr) lies in one block. Z. */
void berth__account_free_locked(struct berth_zone *zone, berth_idx_t idx, berth_idx_t nr, int sign);
void berth__account_claimed_locked(struct berth_zone *zone, berth_idx_t idx, berth_idx_t nr,
				   int sign);
/* [start, end) is managed from now on. The only place that changes nr_managed. Z. */
void berth__account_managed_locked(struct berth_zone *zone, berth_idx_t start, berth_idx_t end);
/* Around a USED or PCP block that appears among the others, or goes: the only place that changes
 * nr_joined. Order 0: nothing. Z. */
void berth__account_used_locked(struct berth_zone *zone, berth_idx_t idx, unsigned order, int sign);
void berth__account_pinned(struct berth_zone *zone, berth_idx_t head, unsigned order, int sign);
/* Declares how an area lends: what it lends of its free frames, and where those are cached. Z.
 * O(pageblocks of the area). */
void berth__lend_locked(struct berth_zone *zone, struct berth_cma *area,
			enum berth_lend_policy lend, uint64_t lend_min_pages);
/* Moves a whole free or empty pageblock between sets; its free blocks must be off the lists (and it in
 * no bucket). Z. */
void berth__pageblock_set_locked(struct berth_zone *zone, struct berth_pageblock *pageblock,
				 unsigned set);
/* The same for good: where the pageblock belongs from now on. Z. */
void berth__pageblock_home_locked(struct berth_zone *zone, struct berth_pageblock *pageblock,
				  unsigned set);
/*
 * Where freed frames of the pageblock are cached, by its set and its bucket: what is far from full gives
 * them back, so that it becomes wholly free instead of being filled again; what is nearly free at
 * once. Z.
 */
void berth__pageblock_route_locked(struct berth_zone *zone, struct berth_pageblock *pageblock);

/* ---- frames/buddy.c ------------------------------------------------------------------------------ */

/* Frees one block to the set of its pageblock and merges. The frames' tags need not be clear at the
 * head. Z. O(max_order). */
void berth__buddy_free_locked(struct berth_zone *zone, berth_idx_t idx, unsigned order);
/* Frees any range of untagged frames as the largest blocks. Z. O(pageblocks). */
void berth__buddy_free_range_locked(struct berth_zone *zone, berth_idx_t start, berth_idx_t end);
/*
 * A block of a set: of the fullest pageblock that has a sufficient one, there the smallest, split to
 * order; BERTH_IDX_NONE: none. Its tag is zero. Z.
 */
berth_idx_t berth__buddy_alloc_locked(struct berth_zone *zone, unsigned set, unsigned order);
/* The same, but a free pageblock isn't broken. Below a pageblock's order. Z. */
berth_idx_t berth__buddy_alloc_partial_locked(struct berth_zone *zone, unsigned set,
					      unsigned order);
/* The smallest block of the fullest pageblock, or a part of it with at most 2^limit frames; *order:
 * what it is. A free pageblock is taken whole, or else only if it may be broken. limit: below a
 * pageblock's order, or equal. Z. */
berth_idx_t berth__buddy_take_locked(struct berth_zone *zone, unsigned set, unsigned limit,
				     bool may_break, unsigned *order);
/* Puts the pageblock into the bucket that fits it now. For whoever changes its lists or counters. Z. */
void berth__rebucket_locked(struct berth_zone *zone, struct berth_pageblock *pageblock);
/* Frees all but the first 2^order frames of the untagged block at idx, which has 2^from. Z. */
void berth__buddy_expand_locked(struct berth_zone *zone, berth_idx_t idx, unsigned from,
				unsigned order);
/* Takes the free block `head` out of its list; the part outside [start, end) returns to the lists
 * of the same set. Tags inside are zero after. Returns the frames taken. Z. */
berth_idx_t berth__buddy_carve_locked(struct berth_zone *zone, berth_idx_t head, berth_idx_t start,
				      berth_idx_t end);

/*
 * Makes the pageblocks of [start, end) that are in a stock blocks of their set's list, so that they
 * stay as they are until berth__restock_locked(), or until something of them is allocated. False: one is
 * TAKEN; the others are in lists nevertheless. Z. O(pageblocks).
 */
bool berth__unstock_locked(struct berth_zone *zone, berth_idx_t start, berth_idx_t end);
/* Puts those that are wholly free, and a block of an area's list, back into the stock. Z. */
void berth__restock_locked(struct berth_zone *zone, berth_idx_t start, berth_idx_t end);

/* ---- frames/stock.c ------------------------------------------------------------------------------ */

static inline enum berth_stock berth__stock(const struct berth_pageblock *pageblock)
{
	return (enum berth_stock)(atomic_load_explicit(&pageblock->stock, memory_order_acquire) &
				  BERTH_STOCK_STATE);
}

/* The tally of who calls. */
struct berth_tally *berth__tally(const struct berth_cma *area);
/* Frames that claims have taken of the stock of an area; of all. Without locks; O(tallies). */
uint64_t berth__taken(const struct berth_zone *zone, unsigned set);
uint64_t berth__taken_of_all(const struct berth_zone *zone);
/* Free frames of a set; of those in its stock. Likewise, inexact while claims come and go. */
uint64_t berth__set_free(const struct berth_zone *zone, unsigned set);
uint64_t berth__set_stock(const struct berth_zone *zone, unsigned set);
/* Free blocks of the order in a set, its stock's included. Z. */
uint64_t berth__nr_blocks(const struct berth_zone *zone, unsigned set, unsigned order);
/* The set has a block of the order or more; from 2^(pageblock_order + 1) on, it may have one. Z. */
bool berth__has_block(const struct berth_zone *zone, unsigned set, unsigned order);
/* As the fields of the zone say, at this moment. Without locks. */
uint64_t berth__zone_free(const struct berth_zone *zone);
uint64_t berth__zone_free_cma(const struct berth_zone *zone);
/* Free frames that areas don't lend: all, or as many as their watermark. O(areas) if one keeps any. */
uint64_t berth__zone_free_unlent(const struct berth_zone *zone);
/* The pageblocks [first, first + nr), free and in no list, become a part of their area's stock. Z. */
void berth__stock_add_locked(struct berth_zone *zone, uint32_t first, uint32_t nr);
/* Takes a pageblock out of the stock: LISTED, and in no list. False: it isn't in it. Z. */
bool berth__stock_remove_locked(struct berth_zone *zone, uint32_t number);
/* The first frame of 2^order, aligned, of the set's stock, removed from it; or BERTH_IDX_NONE. Z.
 * O(pageblocks / 64), O(pageblocks) above a pageblock's order. */
berth_idx_t berth__stock_remove_any_locked(struct berth_zone *zone, unsigned set, unsigned order);
/*
 * A claim takes [start, end), whole pageblocks, or nothing: false, one of them isn't in the stock. Without
 * locks, but for a name. O(pageblocks).
 */
bool berth__stock_take(struct berth_cma *area, berth_idx_t start, berth_idx_t end,
		       const char *name);
/* The claim ends. Without locks, likewise. */
void berth__stock_give(struct berth_cma *area, berth_idx_t start, berth_idx_t end);

/* ---- frames/zone.c ------------------------------------------------------------------------------- */

#define BERTH_SET_NONE UINT32_MAX

/* The set that the migratetype policy picks first for a block of 2^order, without stealing from a
 * foreign type; BERTH_SET_NONE: none has one. Z. */
unsigned berth__choose_set_locked(const struct berth_zone *zone, unsigned order, unsigned gfp);
/* The same, but not these areas: a bit for each. Z. */
unsigned berth__choose_set_but_locked(const struct berth_zone *zone, unsigned order, unsigned gfp,
				      uint64_t areas);

/* The largest order, at most `limit`, of which the set may give a block now, after it was chosen for a
 * smaller one: an area lends no more than its watermark allows. Z. */
unsigned berth__lendable_order_locked(const struct berth_zone *zone, unsigned set, unsigned limit);
static inline enum berth_lend_policy berth__lend(const struct berth_cma *area)
{
	return (enum berth_lend_policy)atomic_load_explicit(&area->lend, memory_order_relaxed);
}

/* ---- frames/fallback.c --------------------------------------------------------------------------- */

static inline unsigned berth__wanted_type(unsigned gfp)
{
	return gfp & BERTH_GFP_MOVABLE     ? BERTH_MOVABLE :
	       gfp & BERTH_GFP_RECLAIMABLE ? BERTH_RECLAIMABLE :
					     BERTH_UNMOVABLE;
}

/* A block by that policy, and from a foreign type when nothing else is left. BERTH_IDX_NONE: nothing
 * at all. *from is the set it came from. The block is untagged. Z. */
berth_idx_t berth__rmqueue_locked(struct berth_zone *zone, unsigned order, unsigned gfp,
				  unsigned *from);

/* After an urgent block of this order was allocated: its pageblock is reserved for such from now on,
 * if the reserve isn't full. Without locks. */
void berth__reserve_highatomic(struct berth_zone *zone, berth_idx_t idx, unsigned order);
/* Gives a pageblock of the reserve back, to the type that gfp wants; the last one only as the last
 * resort. False: there is none with free memory. */
bool berth__unreserve_highatomic(struct berth_zone *zone, unsigned gfp, bool last_resort);

/* ---- frames/watermark.c -------------------------------------------------------------------------- */

/* Raises the marks by a pageblock, since a request had to take another type's; false: not here. Z. */
bool berth__boost_locked(struct berth_zone *zone);
/* berth_watermark_ok() without the question whether there is a block. Without locks. */
bool berth__watermark_pages_ok(const struct berth_zone *zone, unsigned order, uint64_t mark,
			       enum berth_zone_kind highest, unsigned flags);

/* ---- frames/hand_over.c, frames/memblock.c --------------------------------------------------------- */

/* True when no frame of [start, end) is managed or reserved. O(pageblocks), O(frames) in those that
 * have some already. Z. */
bool berth__untouched_locked(const struct berth_zone *zone, berth_idx_t start, berth_idx_t end);

struct berth_memblock;
/* True when one of memblock's own arrays lies in the bytes [base, end). */
bool berth__memblock_in_use(const struct berth_memblock *memblock, uint64_t base, uint64_t end);
/* Freeing [base, end) in two steps: the first may fail with -ENOMEM, the second can't. */
int berth__memblock_prepare_free(struct berth_memblock *memblock, uint64_t base, uint64_t end);
void berth__memblock_free_prepared(struct berth_memblock *memblock, uint64_t base, uint64_t end);

/* ---- frames/pcp.c -------------------------------------------------------------------------------- */

/* A cached order, whatever the slot's state. alloc: the block is tagged USED; BERTH_IDX_NONE: take the
 * zone lock. */
berth_idx_t berth__pcp_alloc(struct berth_zone *zone, unsigned order, unsigned gfp, uint32_t tag,
			     uint64_t cookie);
/* A frame whose references are gone; false: take the zone lock. */
bool berth__pcp_free(struct berth_zone *zone, berth_idx_t idx);
/* Frees the USED block of 2^order frames, a cached order above 0, if it is there, nobody has a reference
 * but the owner, and it goes to a list; `owner`: must be his, or BERTH_ANY_OWNER. False: nothing has
 * changed, take the zone lock. */
#define BERTH_ANY_OWNER UINT32_MAX
bool berth__pcp_free_block(struct berth_zone *zone, berth_idx_t idx, unsigned order,
			   unsigned owner);
/*
 * Returns to the buddy lists the blocks that are cached and touch [start, end); afterwards no per-CPU
 * section that began before the call is running. Without locks.
 */
void berth__pcp_drain_range(struct berth_zone *zone, berth_idx_t start, berth_idx_t end);
/* True when some slot caches frames. Inexact while CPUs allocate. */
bool berth__pcp_any(struct berth_zone *zone);
/* Frames that a slot's lists hold; those that they may hold now. Inexact likewise. */
uint32_t berth__pcp_pages(const struct berth_zone *zone, const struct berth_pcp *pcp);
uint32_t berth__pcp_high_pages(const struct berth_zone *zone, const struct berth_pcp *pcp);

/* The bounds of the lists in a zone: how many blocks each may hold, and where its stack is. */
struct berth_pcp_layout {
	uint8_t row[BERTH_MAX_ORDER_LIMIT + 1], order[BERTH_NR_PCP_LISTS];
	uint16_t min[BERTH_NR_PCP_LISTS], max[BERTH_NR_PCP_LISTS];
	uint32_t base[BERTH_NR_PCP_LISTS], budget;
	size_t bytes; /* of a slot */
};
/* pcp_high: of berth_zone_params; nr_cpus: at least 1. */
void berth__pcp_lay_out(struct berth_pcp_layout *layout, uint64_t nr_pages, unsigned nr_cpus,
			unsigned pageblock_order, unsigned pcp_high);
/* How many blocks a list exchanges at a time. */
uint32_t berth__pcp_batch(const struct berth_zone *zone, const struct berth_pcp *pcp,
			  unsigned list);
/* In P or before the slot is used. A list has exchanged blocks: its limit may grow. Takes Z. */
void berth__pcp_grow(struct berth_zone *zone, struct berth_pcp *pcp, unsigned list);
/* The limits of these lists (a bit each) are halved; what is beyond goes to the buddy lists. In P. Takes Z. */
void berth__pcp_shrink(struct berth_zone *zone, struct berth_pcp *pcp, uint32_t lists);
/* Returns the oldest nr blocks of a list, and up to a pageblock more, to the buddy lists. In P. Takes Z. */
void berth__pcp_spill(struct berth_zone *zone, struct berth_pcp *pcp, unsigned list, uint32_t nr);
/* Before a slot is used. */
void berth__pcp_init(const struct berth_zone *zone, struct berth_pcp *pcp);

/* Writes everything that makes an untagged block an allocated one. In P or under Z. */
static inline void berth__mark_used(struct berth_frame *frame, uint32_t tag, uint64_t cookie)
{
	berth__set_cookie(frame, cookie);
	atomic_store_explicit(&frame->refcount, 1, memory_order_relaxed);
	berth__set_tag(frame, tag);
}

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
			 const struct berth_pieces *pieces);
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

#define BERTH_GATHER_MOST 512u /* 20 KiB of a zone's metadata; */
#define BERTH_GATHER_LEAST 8u  /* of a small zone's 320 bytes */

/* How many moves the buffer of a zone of so many frames has room for. */
unsigned berth__gather_room(uint64_t nr_pages);
/* The zone's buffer for a larger batch, until berth__gather_end(); NULL: somebody has it, or it's of no use for
 * such a block as the first that was found. */
struct berth_move *berth__gather_begin(struct berth_zone *zone, const struct berth_move *found);
void berth__gather_end(struct berth_zone *zone);
/* Fills the buffer with what was found and with its neighbours in the range, as far as there is room: the first
 * ones first. Returns how many; 0 if all have changed meanwhile. */
unsigned berth__gather(struct berth_zone *zone, const struct berth_isolation *range,
		       const struct berth_move *found, unsigned nr_found, struct berth_move *moves);

/* ---- motion/lru.c -------------------------------------------------------------------------------- */

static inline unsigned berth__lru_state(const struct berth_zone *zone, berth_idx_t idx)
{
	return atomic_load_explicit(&zone->lru_state[idx], memory_order_relaxed);
}

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
/* The piece at `piece`, tagged already, was a part of the block at `head`: beside it in its list. L. */
void berth__lru_inherit_locked(struct berth_zone *zone, berth_idx_t head, berth_idx_t piece);
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
	berth_idx_t
		from; /* free runs are looked for from here on first: somebody was faster before */
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
/* Marks [start, end), inside the area, in its bitmap. Without locks, by whose the range is. */
void berth__bitmap_set(struct berth_cma *area, berth_idx_t start, berth_idx_t end, bool value);

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
 * ends it in any case, also between two steps, with an error then. `how` and `report` must last. */
int berth__claiming_begin(struct berth_claiming *claim, struct berth_zone *zone, berth_idx_t start,
			  berth_idx_t end, const struct berth_emptying *how,
			  struct berth_claim_report *report);
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
