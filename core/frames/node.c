/* SPDX-License-Identifier: MIT */
/*
 * Nodes and their zones: zonelists, and the marks and reserves that follow from all zones' sizes.
 *
 * I1  A node's list has each zone once: nodes by distance, ties in the order after the node itself,
 *     and within a node kinds from the highest down.
 * I2  preferred[kind] is the first zone of the list whose kind is at most that.
 * I3  Owners have the same number in all zones.
 *
 * Complexity: adding a zone O(nodes * zones), tuning O(zones), a zone by pfn O(log zones).
 */
#include "core/frames/node.h"

#define MAX_KBYTES (1ull << 40)

size_t berth_nodes_metadata_size(const struct berth_nodes_params *params)
{
	if (!params || !params->nr_nodes || params->nr_nodes > BERTH_MAX_NODES)
		return 0;
	return sizeof(struct berth_nodes) + params->nr_nodes * sizeof(struct berth_node);
}

/* Nearest first; of equals the one that comes next after the node itself, so that neighbours don't
 * all fall back to node 0. */
static void sort_by_distance(struct berth_nodes *nodes, unsigned from, const uint8_t *distances)
{
	uint8_t *sorted = nodes->nodes[from].by_distance;
	unsigned far[BERTH_MAX_NODES] = { 0 };

	for (unsigned i = 0; i < nodes->nr_nodes; i++) {
		unsigned node = (from + i) % nodes->nr_nodes, at = i;
		unsigned distance = distances ? distances[from * nodes->nr_nodes + node] :
						BERTH_DISTANCE_REMOTE;

		if (node == from)
			distance = 0; /* itself is nearest, whatever the table says */
		for (; at > 0 && far[at - 1] > distance; at--) {
			far[at] = far[at - 1];
			sorted[at] = sorted[at - 1];
		}
		far[at] = distance;
		sorted[at] = (uint8_t)node;
	}
}

static bool tunables_ok(const struct berth_tunables *tunables)
{
	return tunables->watermark_scale_factor &&
	       tunables->watermark_scale_factor <= BERTH_MAX_SCALE_FACTOR &&
	       tunables->min_free_kbytes <= MAX_KBYTES && tunables->extra_free_kbytes <= MAX_KBYTES;
}

int berth_nodes_init(struct berth_nodes **out, const struct berth_nodes_params *params,
		     void *metadata, size_t metadata_bytes)
{
	static const struct berth_tunables defaults = BERTH_TUNABLES_DEFAULT;
	static const struct berth_nodes_ops nobody;
	size_t bytes = berth_nodes_metadata_size(params);
	struct berth_nodes *nodes = metadata;

	if (!out || !bytes || !metadata || ((uintptr_t)metadata & 63) || metadata_bytes < bytes ||
	    (params->tunables && !tunables_ok(params->tunables)))
		return -BERTH_EINVAL;
	__builtin_memset(metadata, 0, bytes);
	nodes->ops = params->ops ? params->ops : &nobody;
	nodes->ctx = params->ctx;
	nodes->nr_nodes = params->nr_nodes;
	nodes->tunables = params->tunables ? *params->tunables : defaults;
	for (unsigned node = 0; node < nodes->nr_nodes; node++)
		sort_by_distance(nodes, node, params->distances);
	*out = nodes;
	return 0;
}

/* ---- Zonelists ------------------------------------------------------------------------------------ */

static void build_list(struct berth_nodes *nodes, struct berth_node *node)
{
	node->nr_list = 0;
	for (unsigned i = 0; i < nodes->nr_nodes; i++) {
		uint8_t near = node->by_distance[i];

		for (unsigned kind = BERTH_NR_ZONE_KINDS; kind-- > 0;)
			if (nodes->nodes[near].zones[kind])
				node->list[node->nr_list++] = (struct berth_zone_ref){
					.zone = nodes->nodes[near].zones[kind],
					.kind = (uint8_t)kind,
					.node = near,
				};
	}
	for (unsigned kind = 0; kind < BERTH_NR_ZONE_KINDS; kind++) {
		node->preferred[kind] = NULL;
		for (unsigned i = 0; i < node->nr_list && !node->preferred[kind]; i++)
			if (node->list[i].kind <= kind)
				node->preferred[kind] = node->list[i].zone;
	}
}

static bool overlap(const struct berth_zone *a, const struct berth_zone *b)
{
	return a->start_pfn < b->start_pfn + (b->end - b->first) &&
	       b->start_pfn < a->start_pfn + (a->end - a->first);
}

int berth_nodes_add_zone(struct berth_nodes *nodes, unsigned node, enum berth_zone_kind kind,
			 struct berth_zone *zone)
{
	unsigned at;

	if (!zone || node >= nodes->nr_nodes || kind >= BERTH_NR_ZONE_KINDS || zone->nr_owners != 1)
		return -BERTH_EINVAL;
	if (zone->in_node)
		return -BERTH_EEXIST;
	for (unsigned i = 0; i < nodes->nr_zones; i++)
		if (nodes->by_pfn[i]->nr_owners != 1)
			return -BERTH_EINVAL;
	if (nodes->nodes[node].zones[kind])
		return -BERTH_EEXIST;
	for (unsigned i = 0; i < nodes->nr_zones; i++)
		if (overlap(nodes->by_pfn[i], zone))
			return -BERTH_EEXIST;
	for (at = nodes->nr_zones++; at > 0; at--) {
		if (nodes->by_pfn[at - 1]->start_pfn < zone->start_pfn)
			break;
		nodes->by_pfn[at] = nodes->by_pfn[at - 1];
	}
	nodes->by_pfn[at] = zone;
	zone->in_node = true;
	zone->node = (uint8_t)node;
	zone->kind = (uint8_t)kind;
	nodes->nodes[node].zones[kind] = zone;
	for (unsigned i = 0; i < nodes->nr_nodes; i++)
		build_list(nodes, &nodes->nodes[i]);
	berth_nodes_resize(nodes);
	return 0;
}

int berth_nodes_owner_register(struct berth_nodes *nodes, const struct berth_owner_ops *ops,
			       void *ctx, unsigned *id)
{
	int error = nodes->nr_zones ? 0 : -BERTH_EINVAL;

	for (unsigned i = 0; i < nodes->nr_zones; i++) {
		const struct berth_zone *zone = nodes->by_pfn[i];

		if (zone->nr_owners != nodes->by_pfn[0]->nr_owners)
			return -BERTH_EINVAL; /* somebody registered in one zone alone */
		if (zone->nr_owners > zone->max_owners)
			return -BERTH_ENOSPC;
	}
	for (unsigned i = 0; i < nodes->nr_zones && !error; i++)
		error = berth_owner_register(nodes->by_pfn[i], ops, ctx, id);
	return error;
}

/* ---- Looking zones up ------------------------------------------------------------------------------ */

struct berth_zone *berth_nodes_zone_of(const struct berth_nodes *nodes, berth_pfn_t pfn)
{
	unsigned from = 0, to = nodes->nr_zones;
	berth_idx_t idx;

	while (from < to) { /* the last zone that doesn't start after pfn */
		unsigned middle = (from + to) / 2;

		if (nodes->by_pfn[middle]->start_pfn <= pfn)
			from = middle + 1;
		else
			to = middle;
	}
	return from && berth__idx_one(nodes->by_pfn[from - 1], pfn, &idx) ?
		       nodes->by_pfn[from - 1] :
		       NULL;
}

struct berth_zone *berth_nodes_zone(const struct berth_nodes *nodes, unsigned node,
				    enum berth_zone_kind kind)
{
	return node < nodes->nr_nodes && kind < BERTH_NR_ZONE_KINDS ?
		       nodes->nodes[node].zones[kind] :
		       NULL;
}

struct berth_zone *berth_nodes_fallback(const struct berth_nodes *nodes, unsigned node,
					enum berth_zone_kind highest, unsigned i)
{
	const struct berth_node *from = &nodes->nodes[node < nodes->nr_nodes ? node : 0];

	for (unsigned at = 0; node < nodes->nr_nodes && at < from->nr_list; at++)
		if (from->list[at].kind <= highest && i-- == 0)
			return from->list[at].zone;
	return NULL;
}

int berth_node_free(struct berth_nodes *nodes, berth_pfn_t pfn)
{
	struct berth_zone *zone = berth_nodes_zone_of(nodes, pfn);

	return zone ? berth_free_pages(zone, pfn) : -BERTH_EINVAL;
}

/* ---- Tuning ---------------------------------------------------------------------------------------- */

static uint64_t managed_pages(struct berth_zone *zone)
{
	uint64_t nr_pages;

	berth_lock(&zone->lock);
	nr_pages = zone->nr_managed;
	berth_unlock(&zone->lock);
	return nr_pages;
}

/* Each kind's reserve against requests that could have been served above it. */
static void set_reserves(const struct berth_nodes *nodes, const struct berth_node *node)
{
	for (unsigned kind = 0; kind < BERTH_NR_ZONE_KINDS; kind++) {
		struct berth_zone *zone = node->zones[kind];
		uint32_t ratio = nodes->tunables.lowmem_reserve_ratio[kind];
		uint64_t above = 0;

		if (!zone)
			continue;
		for (unsigned asked = 0; asked < BERTH_NR_ZONE_KINDS; asked++) {
			if (asked > kind && node->zones[asked])
				above += managed_pages(node->zones[asked]);
			atomic_store_explicit(&zone->marks.lowmem_reserve[asked],
					      ratio && managed_pages(zone) ? above / ratio : 0,
					      memory_order_relaxed);
		}
	}
}

static void set_marks(const struct berth_nodes *nodes, uint64_t lowmem_pages, uint64_t all_pages)
{
	struct berth_tunables tunables = nodes->tunables;

	tunables.min_free_kbytes = nodes->min_free_kbytes;
	for (unsigned node = 0; node < nodes->nr_nodes; node++) {
		for (unsigned kind = 0; kind < BERTH_NR_ZONE_KINDS; kind++) {
			struct berth_zone *zone = nodes->nodes[node].zones[kind];
			struct berth_watermarks marks;

			if (!zone)
				continue;
			berth_watermarks_compute(&tunables, (enum berth_zone_kind)kind,
						 managed_pages(zone), lowmem_pages, all_pages,
						 &marks);
			berth_zone_set_watermarks(zone, &marks);
			atomic_store_explicit(&zone->marks.boost_factor,
					      tunables.watermark_boost_factor,
					      memory_order_relaxed);
		}
		set_reserves(nodes, &nodes->nodes[node]);
	}
}

/* All marks anew. `exactly`: the user has just said so; otherwise the computed value may be larger. */
static void retune_locked(struct berth_nodes *nodes, bool exactly)
{
	uint64_t lowmem_pages = 0, all_pages = 0, computed, set = nodes->tunables.min_free_kbytes;

	for (unsigned node = 0; node < nodes->nr_nodes; node++) {
		for (unsigned kind = 0; kind < BERTH_NR_ZONE_KINDS; kind++) {
			struct berth_zone *zone = nodes->nodes[node].zones[kind];
			uint64_t nr_pages = zone ? managed_pages(zone) : 0;

			all_pages += nr_pages;
			lowmem_pages += kind < BERTH_ZONE_HIGHMEM ? nr_pages : 0;
		}
	}
	computed = berth_min_free_kbytes(lowmem_pages * (BERTH_PAGE_SIZE / 1024u));
	nodes->min_free_kbytes = set && (exactly || set >= computed) ? set : computed;
	set_marks(nodes, lowmem_pages, all_pages);
}

int berth_nodes_tune(struct berth_nodes *nodes, const struct berth_tunables *tunables)
{
	if (!tunables || !tunables_ok(tunables))
		return -BERTH_EINVAL;
	berth_mutex_lock(&nodes->lock);
	nodes->tunables = *tunables;
	retune_locked(nodes, true);
	berth_mutex_unlock(&nodes->lock);
	return 0;
}

void berth_nodes_resize(struct berth_nodes *nodes)
{
	berth_mutex_lock(&nodes->lock);
	retune_locked(nodes, false);
	berth_mutex_unlock(&nodes->lock);
}

void berth_nodes_tunables(struct berth_nodes *nodes, struct berth_tunables *tunables)
{
	berth_mutex_lock(&nodes->lock);
	*tunables = nodes->tunables;
	tunables->min_free_kbytes = nodes->min_free_kbytes;
	berth_mutex_unlock(&nodes->lock);
}
