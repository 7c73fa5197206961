/* SPDX-License-Identifier: MIT */
/*
 * Nodes, as node.c builds them and node_alloc.c walks them.
 */
#ifndef BERTH_CORE_NODE_H
#define BERTH_CORE_NODE_H

#include <berth/nodes.h>

#include "core/internal.h"

#define BERTH_MAX_ZONES (BERTH_MAX_NODES * BERTH_NR_ZONE_KINDS)

struct berth_zone_ref {
	struct berth_zone *zone;
	uint8_t kind, node;
};

#define BERTH_KSWAPD_FAILURES 16u /* runs without a frame freed, after which kswapd gives up */

/* A node's kswapd: alloc/kswapd.c. K: whoever has `running`. */
struct berth_kswapd {
	_Atomic uint32_t wanted;  /* a: 1 + the highest kind of zone, order << 8; 0: nobody waits */
	_Atomic uint32_t running; /* a */
	_Atomic uint32_t failures; /* a: runs without a frame freed */
	uint32_t run;              /* K: what was wanted of the run that is going on; 0: none is */
	unsigned priority;         /* K */
	uint64_t scanned;          /* K: frames, at this priority */
	uint64_t reclaimed;        /* K: frames, since the first priority */
	uint64_t boost[BERTH_NR_ZONE_KINDS]; /* K: of the zones, when the run began */
};

struct berth_node {
	struct berth_zone *zones[BERTH_NR_ZONE_KINDS];     /* c */
	struct berth_zone *preferred[BERTH_NR_ZONE_KINDS]; /* c: first of the list up to a kind */
	uint8_t by_distance[BERTH_MAX_NODES];              /* c: nodes, nearest (itself) first */
	unsigned nr_list;                                  /* c */
	struct berth_zone_ref list[BERTH_MAX_ZONES];       /* c: the zonelist */
	struct berth_kswapd kswapd;
};

struct berth_nodes {
	const struct berth_nodes_ops *ops;          /* c */
	void *ctx;                                  /* c */
	unsigned nr_nodes, nr_zones;                /* c */
	struct berth_zone *by_pfn[BERTH_MAX_ZONES]; /* c: ascending */

	_Alignas(64) berth_mutex_t lock; /* of tuning; before a zone's lock */
	struct berth_tunables tunables;  /* lock; min_free_kbytes as it was set */
	uint64_t min_free_kbytes;        /* lock; in effect */
	_Atomic uint64_t slow_allocs, kswapd_wakes, compactions, direct_reclaims; /* a: counters */
	_Atomic uint64_t reclaimed_pages, kswapd_pages, ooms, failures;           /* a */
	_Atomic uint32_t oom_running;                                             /* a */
	struct berth_shrinkers shrinkers;
	struct berth_node nodes[];
};

/* ---- alloc/kswapd.c ------------------------------------------------------------------------------ */

/* Reclaims `want` frames in these zones, if it can, and by the nodes' shrinkers. Returns frames freed. */
uint64_t berth__reclaim_zones(struct berth_nodes *nodes, struct berth_zone *const *zones,
			      unsigned nr_zones, uint64_t want);
/* Somebody is at freeing more: write-back isn't finished, or another reclaimer has blocks in hand. */
bool berth__reclaim_in_flight(struct berth_zone *const *zones, unsigned nr_zones);
/* The node's kswapd has something to do. False: it has given up. */
bool berth__want_kswapd(struct berth_nodes *nodes, unsigned node, unsigned order,
			enum berth_zone_kind highest);

/* The highest kind of zone that may serve a request. */
static inline enum berth_zone_kind berth__highest_kind(unsigned gfp)
{
	if (BERTH_UNLIKELY(gfp & (BERTH_GFP_DMA | BERTH_GFP_DMA32)))
		return gfp & BERTH_GFP_DMA ? BERTH_ZONE_DMA : BERTH_ZONE_DMA32;
	if (!(gfp & BERTH_GFP_MOVABLE))
		return BERTH_ZONE_NORMAL;
	/* What will be pinned for long isn't movable any more then. */
	return gfp & BERTH_GFP_NO_CMA ? BERTH_ZONE_HIGHMEM : BERTH_ZONE_MOVABLE;
}

#endif
