/* SPDX-License-Identifier: MIT */
/*
 * Several zones as one memory: by kind (DMA .. MOVABLE) and by node (NUMA), with watermarks, a
 * fallback order, and what an allocator does when memory runs low.
 *
 * An allocation walks its zonelist: the nodes by distance from where it was asked for, in each the
 * zones from the highest kind that may serve it downwards.
 *
 *	1  a zone that stays above low                  the common case; order 0 mostly from the
 *	                                                preferred zone's per-CPU list, unseen by the walk
 *	2  kswapd is woken for each zone of the list
 *	3  a zone that stays above min, or above the part of it that the flags entitle to
 *	4  MEMALLOC: whatever is left
 *	5  (only if it may wait) compact, reclaim, drain, unreserve, OOM: until one of them helped;
 *	   so the caller holds no lock that an owner's migrate takes
 *
 * Reclaim is the core's, from LRU lists and shrinkers (lru.h): the allocator's own below min, and
 * kswapd's, whose thread the caller brings (berth_kswapd_step()).
 *
 * Thread safety: as in core.h. Zones are added before use; tuning is possible at any time.
 */
#ifndef BERTH_NODES_H
#define BERTH_NODES_H

#include <berth/lru.h>

#ifdef __cplusplus
extern "C" {
#endif

struct berth_nodes;

#define BERTH_MAX_NODES 16u
#define BERTH_DISTANCE_LOCAL 10u  /* of a node to itself, as in ACPI's SLIT */
#define BERTH_DISTANCE_REMOTE 20u /* between any two nodes, unless the caller knows better */

/* ---- Running low ------------------------------------------------------------------------------ */

/*
 * All but ctx may be NULL. They are called without core locks, on the caller's stack, and may free
 * memory through the core; what they allocate must say BERTH_GFP_MEMALLOC, which never comes here.
 */
/* Who is to be sacrificed, and for what. */
struct berth_oom {
	struct berth_zone *zone; /* the preferred one */
	unsigned node, order, gfp;
	/* The owner that holds most, in all zones; BERTH_OWNER_NONE: only nobody holds memory. */
	unsigned owner;
	const char *owner_name;
	uint64_t owner_pages;
};

struct berth_nodes_ops {
	/* An allocation found the zone below low: wake the thread that calls berth_kswapd_step() for its
	 * node. Must not wait; called again and again until the zone has enough. */
	void (*wake_kswapd)(void *ctx, struct berth_zone *zone, unsigned order,
			    enum berth_zone_kind highest);
	/* Frees memory that no LRU list and no shrinker knows, in the zones of the node's list up to
	 * `highest`; asked when those gave nothing. Returns frames freed. */
	uint64_t (*reclaim)(void *ctx, unsigned node, enum berth_zone_kind highest, unsigned order,
			    unsigned gfp);
	/* Nothing else is left, nothing is being written and no other allocation is here: sacrifices
	 * somebody. True: memory was or will soon be freed. */
	bool (*oom)(void *ctx, const struct berth_oom *oom);
};

struct berth_nodes_params {
	unsigned nr_nodes; /* 1 .. BERTH_MAX_NODES */
	/* nr_nodes * nr_nodes distances, row by row; NULL: all others are equally far. */
	const uint8_t *distances;
	const struct berth_tunables *tunables; /* NULL: BERTH_TUNABLES_DEFAULT */
	const struct berth_nodes_ops *ops;     /* NULL: nobody helps */
	void *ctx;
};

/* ---- Setting up ------------------------------------------------------------------------------- */

/* Bytes for nodes with these parameters; 0 for parameters that berth_nodes_init() would refuse. */
size_t berth_nodes_metadata_size(const struct berth_nodes_params *params);

/* Builds the nodes, without zones, in `metadata` (aligned to 64 bytes). 0 or -EINVAL. */
int berth_nodes_init(struct berth_nodes **nodes, const struct berth_nodes_params *params,
		     void *metadata, size_t metadata_bytes) BERTH_MUST_CHECK;

/*
 * Adds a zone with its memory. Owners must be registered through the nodes, after the last zone.
 * -EEXIST: the node has a zone of this kind, or the span overlaps another zone's. -EINVAL: bad node or
 * kind, or owners are registered already.
 */
int berth_nodes_add_zone(struct berth_nodes *nodes, unsigned node, enum berth_zone_kind kind,
			 struct berth_zone *zone) BERTH_MUST_CHECK;

/* berth_owner_register() in all zones, with one id. -ENOSPC: a zone has no place; unchanged. */
int berth_nodes_owner_register(struct berth_nodes *nodes, const struct berth_owner_ops *ops,
			       void *ctx, unsigned *id) BERTH_MUST_CHECK;

/* The zone that spans pfn, or NULL. O(log zones). */
struct berth_zone *berth_nodes_zone_of(const struct berth_nodes *nodes, berth_pfn_t pfn);
/* The node's zone of this kind, or NULL. */
struct berth_zone *berth_nodes_zone(const struct berth_nodes *nodes, unsigned node,
				    enum berth_zone_kind kind);
/* The i-th zone that an allocation on this node for up to `highest` is tried in; NULL: no more. */
struct berth_zone *berth_nodes_fallback(const struct berth_nodes *nodes, unsigned node,
					enum berth_zone_kind highest, unsigned i);

/*
 * Sets the tunables, and with them all marks and reserves, at once. -EINVAL: a scale factor of 0 or
 * beyond BERTH_MAX_SCALE_FACTOR, or more than 2^40 KiB; unchanged.
 */
int berth_nodes_tune(struct berth_nodes *nodes,
		     const struct berth_tunables *tunables) BERTH_MUST_CHECK;
/* What is set; min_free_kbytes as it is in effect. */
void berth_nodes_tunables(struct berth_nodes *nodes, struct berth_tunables *tunables);
/* After memory was added to a zone: marks by the new sizes. A min_free_kbytes that was set is kept
 * unless the computed one is larger. */
void berth_nodes_resize(struct berth_nodes *nodes);

/* ---- Allocating ------------------------------------------------------------------------------- */

/*
 * As berth_alloc_pages(), from the zones of the node's list. What CPUs' lists cache costs what it costs there
 * while the preferred zone's list of this CPU lasts: marks are about what is in the buddy lists, so they
 * are looked at when the list is filled.
 * 0; -EINVAL: bad node, order, flags or owner; -ENOMEM.
 */
int berth_node_alloc(struct berth_nodes *nodes, unsigned node, unsigned order, unsigned gfp,
		     unsigned owner, uint64_t cookie, berth_pfn_t *pfn) BERTH_MUST_CHECK;

/* berth_free_pages() in the zone that spans pfn. */
int berth_node_free(struct berth_nodes *nodes, berth_pfn_t pfn) BERTH_MUST_CHECK;

/*
 * berth_alloc_pages_exact() from the zones of the node's list: exactly nr_pages contiguous frames, of a
 * block of the next order for which marks, flags and all that is done when memory is short are as in
 * berth_node_alloc(); the rest is free again. They are several blocks, with the owner's cookies.
 * 0; -EINVAL: nr_pages is 0 or above 2^BERTH_MAX_ORDER_LIMIT, or as there; -ENOMEM.
 */
int berth_node_alloc_exact(struct berth_nodes *nodes, unsigned node, uint64_t nr_pages,
			   unsigned gfp, unsigned owner, uint64_t cookie,
			   berth_pfn_t *pfn) BERTH_MUST_CHECK;

/* berth_free_range() in the zone that spans the range; -EINVAL as well when no single one does. */
int berth_node_free_exact(struct berth_nodes *nodes, berth_pfn_t pfn, uint64_t nr_pages,
			  unsigned owner) BERTH_MUST_CHECK;

/* ---- Reclaiming ------------------------------------------------------------------------------- */

enum berth_kswapd_next {
	BERTH_KSWAPD_AGAIN, /* there is more to do */
	BERTH_KSWAPD_WAIT,  /* likewise, when a write-back has ended: some milliseconds */
	BERTH_KSWAPD_SLEEP, /* until wake_kswapd(): all is well, or nothing helps */
};

struct berth_kswapd_result {
	uint64_t scanned_pages, reclaimed_pages;
	uint64_t written_pages; /* their write-back was begun */
	bool balanced;          /* the zones have what was wanted */
};

/*
 * A step of the node's kswapd, for the caller's thread or idle loop: reclaims in the zones that
 * allocations found below low until they are above high and the boost, clean blocks first, and begins to
 * write dirty ones; then makes blocks of the order that was wanted by compaction, and ends the boost. Looks at
 * about budget_pages frames (0: as many as it takes), and goes on from there the next time. Zones
 * below low are found without wake_kswapd(), too. May sleep in owners. `result` may be NULL.
 */
enum berth_kswapd_next berth_kswapd_step(struct berth_nodes *nodes, unsigned node,
					 uint64_t budget_pages, struct berth_kswapd_result *result);

/* A shrinker for all zones; after the first zone was added. As berth_shrinker_register(). */
int berth_nodes_shrinker_register(struct berth_nodes *nodes,
				  struct berth_shrinker *shrinker) BERTH_MUST_CHECK;
void berth_nodes_shrinker_unregister(struct berth_nodes *nodes, struct berth_shrinker *shrinker);

/* What happened since init. Safe to read at any time. */
struct berth_nodes_stats {
	uint64_t slow_allocs;     /* no zone above low */
	uint64_t kswapd_wakes;    /* zones */
	uint64_t compactions;     /* zones */
	uint64_t direct_reclaims; /* calls */
	uint64_t reclaimed_pages; /* by those */
	uint64_t kswapd_pages;    /* reclaimed by kswapd */
	uint64_t ooms;            /* calls */
	uint64_t failures;        /* -ENOMEM */
};
void berth_nodes_stats(struct berth_nodes *nodes, struct berth_nodes_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
