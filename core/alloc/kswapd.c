/* SPDX-License-Identifier: MIT */
/*
 * Reclaim for nodes: kswapd, a step at a time, and direct reclaim for an allocation that would go below
 * min.
 *
 *	an allocation finds no zone above low   -> kswapd is wanted, for its order and kinds of zones
 *	berth_kswapd_step(), again and again    -> until each of these zones is above high and its boost
 *	an allocation finds no zone above min   -> reclaims 32 frames itself, in the zones of its list
 *
 * I1  One caller at a time does a node's kswapd; its state is that caller's.
 * I2  A step looks at about as many frames as its budget says. It goes to the next priority when it has
 *     looked at all that the last one asked for, and fails after the last without a frame freed.
 * I3  After BERTH_KSWAPD_FAILURES such runs kswapd is left alone until somebody else frees frames by reclaim.
 *
 * Complexity: as reclaim.c; O(zones) for a look whether there is something to do.
 *
 * The conditions and constants are those of Linux (mm/vmscan.c, balance_pgdat), but that every zone is
 * balanced, not one of them: lists belong to zones here.
 */
#include "core/frames/node.h"
#include "core/motion/internal.h"

#define WRITE_WAIT_NS 1000000ull

static uint64_t load(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

/* ---- Direct reclaim --------------------------------------------------------------------------------- */

static uint64_t in_flight(struct berth_zone *zone)
{
	return zone->lru_state ? load(&zone->lru.nr_writeback) + load(&zone->lru.nr_isolated) : 0;
}

bool berth__reclaim_in_flight(struct berth_zone *const *zones, unsigned nr_zones)
{
	for (unsigned i = 0; i < nr_zones; i++)
		if (in_flight(zones[i]))
			return true;
	return false;
}

uint64_t berth__reclaim_zones(struct berth_nodes *nodes, struct berth_zone *const *zones,
			      unsigned nr_zones, uint64_t want)
{
	struct berth_scan scan = { .want = want };
	uint64_t shrunk = 0;

	for (unsigned left = BERTH_MAX_PRIORITY + 1; left-- > 0;) {
		uint64_t before = scan.reclaimed + shrunk, written = scan.written + scan.writeback;

		scan.priority = left;
		for (unsigned i = 0; i < nr_zones; i++) {
			berth__may_write(zones[i], &scan);
			berth__shrink_zone(zones[i], &scan);
		}
		shrunk += berth__shrink_others(&nodes->shrinkers, left);
		if (scan.reclaimed + shrunk >= want)
			break;
		if (scan.reclaimed + shrunk == before && scan.written + scan.writeback != written)
			zones[0]->port->wait(zones[0]->port_ctx, WRITE_WAIT_NS);
	}
	for (unsigned i = 0; i < nr_zones && scan.reclaimed + shrunk; i++)
		atomic_store_explicit(&nodes->nodes[zones[i]->node].kswapd.failures, 0,
				      memory_order_relaxed);
	return scan.reclaimed + shrunk;
}

/* ---- kswapd ------------------------------------------------------------------------------------------ */

#define WANTED(order, highest) ((uint32_t)(order) << 8 | ((uint32_t)(highest) + 1))
#define WANTED_ORDER(wanted) ((wanted) >> 8)
#define WANTED_KINDS(wanted) ((wanted)&255u) /* 0: nothing is wanted */

static uint32_t larger(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

/* Both, for the larger order and more kinds. */
static uint32_t merge(uint32_t a, uint32_t b)
{
	return larger(WANTED_ORDER(a), WANTED_ORDER(b)) << 8 |
	       larger(WANTED_KINDS(a), WANTED_KINDS(b));
}

bool berth__want_kswapd(struct berth_nodes *nodes, unsigned node, unsigned order,
			enum berth_zone_kind highest)
{
	struct berth_kswapd *kswapd = &nodes->nodes[node].kswapd;
	uint32_t old = atomic_load_explicit(&kswapd->wanted, memory_order_relaxed);

	if (atomic_load_explicit(&kswapd->failures, memory_order_relaxed) >= BERTH_KSWAPD_FAILURES)
		return false;
	while (merge(old, WANTED(order, highest)) != old &&
	       !atomic_compare_exchange_weak_explicit(&kswapd->wanted, &old,
						      merge(old, WANTED(order, highest)),
						      memory_order_relaxed, memory_order_relaxed))
		;
	return true;
}

/* How much a zone lacks until it has what kswapd works for. */
static uint64_t lacks(const struct berth_zone *zone, unsigned order)
{
	uint64_t mark = load(&zone->marks.mark[BERTH_MARK_HIGH]) + load(&zone->marks.boost);
	uint64_t free = berth__zone_free(zone),
		 others = berth__zone_free_cma(zone) + load(&zone->nr_free_highatomic);

	/* A larger block will be made by compaction, which needs room for that. */
	mark += order ? 2ull << order : 0;
	free = free > others ? free - others : 0;
	return free > mark ? 0 : mark - free + 1;
}

static bool below_low(const struct berth_zone *zone)
{
	return !berth__watermark_pages_ok(zone, 0, load(&zone->marks.mark[BERTH_MARK_LOW]),
					  (enum berth_zone_kind)zone->kind, 0);
}

/* The i-th zone that the run is for, or NULL; *at goes on from there. */
static struct berth_zone *next_zone(const struct berth_node *node, unsigned *at)
{
	while (*at < WANTED_KINDS(node->kswapd.run)) {
		struct berth_zone *zone = node->zones[(*at)++];

		if (zone)
			return zone;
	}
	return NULL;
}

/* Takes over what is wanted by now; a zone below low wants it as well. False: nothing to do. */
static bool begin(struct berth_node *node)
{
	struct berth_kswapd *kswapd = &node->kswapd;
	uint32_t wanted = atomic_exchange_explicit(&kswapd->wanted, 0, memory_order_relaxed);
	bool fresh = !kswapd->run;

	for (unsigned kind = 0; fresh && kind < BERTH_NR_ZONE_KINDS; kind++)
		if (node->zones[kind] && below_low(node->zones[kind]) &&
		    atomic_load_explicit(&kswapd->failures, memory_order_relaxed) <
			    BERTH_KSWAPD_FAILURES)
			wanted = merge(wanted, WANTED(0, kind));
	kswapd->run = merge(kswapd->run, wanted);
	if (!fresh || !kswapd->run)
		return kswapd->run != 0;
	kswapd->priority = BERTH_MAX_PRIORITY;
	kswapd->scanned = kswapd->reclaimed = 0;
	for (unsigned kind = 0; kind < BERTH_NR_ZONE_KINDS; kind++)
		kswapd->boost[kind] = node->zones[kind] ? load(&node->zones[kind]->marks.boost) : 0;
	return true;
}

/* Makes a block of what has been freed: of the order that is wanted, or after a boost a pageblock. A whole
 * pageblock serves everybody; if there isn't room for that, a part of a movable one. */
static void compact(struct berth_zone *zone, unsigned order, uint64_t boost)
{
	struct berth_compact_params params = {
		.order = boost ? larger(order, zone->pageblock_order) : order,
		.mode = BERTH_COMPACT_SYNC_LIGHT,
		.watermark_pages = load(&zone->marks.mark[BERTH_MARK_LOW]),
	};

	if (params.order && params.order <= zone->max_order &&
	    !berth_watermark_ok(zone, params.order, 0, (enum berth_zone_kind)zone->kind, 0) &&
	    berth_compact(zone, &params, NULL) == -BERTH_EBUSY &&
	    params.order < zone->pageblock_order) {
		params.flags = BERTH_COMPACT_FORCE; /* that failure hasn't been this one's */
		params.gfp = BERTH_GFP_MOVABLE | BERTH_GFP_NO_CMA;
		(void)!berth_compact(zone, &params, NULL); /* whoever waits for it sees */
	}
}

static void end_run(struct berth_node *node)
{
	struct berth_kswapd *kswapd = &node->kswapd;
	struct berth_zone *zone;

	for (unsigned at = 0; (zone = next_zone(node, &at));) {
		uint64_t boost = kswapd->boost[zone->kind];

		if (boost)
			berth_zone_unboost(zone, boost);
		compact(zone, WANTED_ORDER(kswapd->run), boost);
	}
	kswapd->run = 0;
}

/* One scan of the zones that lack something, within the budget. Returns what they still lack. */
static uint64_t scan_zones(struct berth_nodes *nodes, struct berth_node *node, uint64_t budget,
			   struct berth_kswapd_result *result)
{
	struct berth_kswapd *kswapd = &node->kswapd;
	unsigned order = WANTED_ORDER(kswapd->run);
	uint64_t left = 0, asked = 0;
	struct berth_zone *zone;

	for (unsigned at = 0; (zone = next_zone(node, &at));) {
		struct berth_scan scan = { .want = lacks(zone, order),
					   .priority = kswapd->priority,
					   .budget = budget,
					   .may_write = true };

		if (!scan.want)
			continue;
		asked += berth__evictable_pages(zone) >> kswapd->priority;
		if (scan.want < BERTH_RECLAIM_BATCH)
			scan.want = BERTH_RECLAIM_BATCH;
		berth__shrink_zone(zone, &scan);
		result->scanned_pages += scan.scanned;
		result->reclaimed_pages += scan.reclaimed;
		result->written_pages += scan.written;
		budget = budget > scan.scanned ? budget - scan.scanned : 0;
	}
	result->reclaimed_pages += berth__shrink_others(&nodes->shrinkers, kswapd->priority);
	kswapd->scanned += result->scanned_pages;
	kswapd->reclaimed += result->reclaimed_pages;
	for (unsigned at = 0; (zone = next_zone(node, &at));)
		left += lacks(zone, order);
	if (left && kswapd->scanned >= asked) { /* all that this priority asks for */
		kswapd->scanned = 0;
		kswapd->priority--;
	}
	return left;
}

static bool writing(const struct berth_node *node)
{
	struct berth_zone *zone;

	for (unsigned at = 0; (zone = next_zone(node, &at));)
		if (in_flight(zone))
			return true;
	return false;
}

/* What CPUs cache and don't use is the cheapest to have. */
static void age_lists(struct berth_node *node)
{
	const unsigned order = WANTED_ORDER(node->kswapd.run);
	struct berth_zone *zone;

	for (unsigned at = 0; (zone = next_zone(node, &at));)
		if (lacks(zone, order) && berth__pcp_any(zone))
			berth_pcp_age(zone);
}

/* The one caller's part. */
static enum berth_kswapd_next step(struct berth_nodes *nodes, struct berth_node *node,
				   uint64_t budget, struct berth_kswapd_result *result)
{
	struct berth_kswapd *kswapd = &node->kswapd;
	bool wait;

	if (!begin(node))
		return BERTH_KSWAPD_SLEEP;
	if (kswapd->priority == BERTH_MAX_PRIORITY && !kswapd->scanned)
		age_lists(node);
	if (!scan_zones(nodes, node, budget, result)) {
		atomic_store_explicit(&kswapd->failures, 0, memory_order_relaxed);
		result->balanced = true;
		end_run(node);
		return BERTH_KSWAPD_SLEEP;
	}
	wait = !result->reclaimed_pages && writing(node);
	if (kswapd->priority <= BERTH_MAX_PRIORITY)
		return wait ? BERTH_KSWAPD_WAIT : BERTH_KSWAPD_AGAIN;
	/* Beyond priority 0: begin again, unless there is no hope. */
	kswapd->priority = BERTH_MAX_PRIORITY;
	if (kswapd->reclaimed)
		atomic_store_explicit(&kswapd->failures, 0, memory_order_relaxed);
	else if (!wait &&
		 atomic_fetch_add_explicit(&kswapd->failures, 1, memory_order_relaxed) + 1 >=
			 BERTH_KSWAPD_FAILURES) {
		end_run(node);
		return BERTH_KSWAPD_SLEEP;
	}
	kswapd->reclaimed = 0;
	return wait ? BERTH_KSWAPD_WAIT : BERTH_KSWAPD_AGAIN;
}

enum berth_kswapd_next berth_kswapd_step(struct berth_nodes *nodes, unsigned node,
					 uint64_t budget_pages, struct berth_kswapd_result *result)
{
	enum berth_kswapd_next next;
	struct berth_kswapd_result ignored;
	struct berth_node *of;

	if (!result)
		result = &ignored;
	*result = (struct berth_kswapd_result){ 0 };
	if (node >= nodes->nr_nodes)
		return BERTH_KSWAPD_SLEEP;
	of = &nodes->nodes[node];
	if (atomic_exchange_explicit(&of->kswapd.running, 1, memory_order_acquire))
		return BERTH_KSWAPD_SLEEP; /* somebody else is at it */
	next = step(nodes, of, budget_pages ? budget_pages : UINT64_MAX, result);
	atomic_store_explicit(&of->kswapd.running, 0, memory_order_release);
	atomic_fetch_add_explicit(&nodes->kswapd_pages, result->reclaimed_pages,
				  memory_order_relaxed);
	return next;
}

/* ---- Shrinkers ---------------------------------------------------------------------------------------- */

int berth_nodes_shrinker_register(struct berth_nodes *nodes, struct berth_shrinker *shrinker)
{
	return nodes->nr_zones ? berth__shrinker_add(&nodes->shrinkers, shrinker) : -BERTH_EINVAL;
}

void berth_nodes_shrinker_unregister(struct berth_nodes *nodes, struct berth_shrinker *shrinker)
{
	berth__shrinker_remove(&nodes->shrinkers, nodes->by_pfn[0], shrinker);
}
