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

struct berth_node {
	struct berth_zone *zones[BERTH_NR_ZONE_KINDS];     /* c */
	struct berth_zone *preferred[BERTH_NR_ZONE_KINDS]; /* c: first of the list up to a kind */
	uint8_t by_distance[BERTH_MAX_NODES];              /* c: nodes, nearest (itself) first */
	unsigned nr_list;                                  /* c */
	struct berth_zone_ref list[BERTH_MAX_ZONES];       /* c: the zonelist */
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
	_Atomic uint64_t reclaimed_pages, ooms, failures;                         /* a */
	struct berth_node nodes[];
};

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
