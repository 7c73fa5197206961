/* SPDX-License-Identifier: MIT */
/*
 * Allocating from nodes: the walk along the zonelist, and what is done when memory runs low.
 *
 * I1  Order 0 comes from the preferred zone's per-CPU list while that lasts, without any look at a
 *     mark: such a frame left the buddy lists, and passed the check, when the list was filled.
 * I2  From any other zone, and whenever frames leave the buddy lists, a mark is checked first; only
 *     MEMALLOC skips it.
 * I3  Every loop is bounded: MAX_ROUNDS without OOM, MAX_OOMS of those, MAX_WAITS for NOFAIL.
 *
 * Complexity: O(1) while the list lasts, else O(zones of the list) and what the callbacks cost.
 */
#include <berth/views.h>

#include "core/alloc/internal.h"
#include "core/frames/node.h"
#include "core/frames/pcp_fast.h"
#include "core/stats.h"

#define COSTLY_ORDER 3u /* above, a failure is likely, and not worth a victim */
#define MAX_ROUNDS 16u
#define MAX_OOMS 8u
#define MAX_WAITS 64u
#define MAX_PATIENCE 16u         /* tries without progress while others are at freeing */
#define FIRST_WAIT_NS 1000000ull /* doubles to the longest: 6 s in all */
#define LONGEST_WAIT_NS 100000000ull

#define GFP_ZONE (BERTH_GFP_MOVABLE | BERTH_GFP_RECLAIMABLE | BERTH_GFP_NO_CMA | BERTH_GFP_CMA_LAST)
#define GFP_ALL (((BERTH_GFP_COMPACT << 1) - 1u) | BERTH_GFP_LRU)
/* The fast path goes to the preferred zone, wherever it is, and doesn't clear. */
#define GFP_SLOW (BERTH_GFP_ZERO | BERTH_GFP_THISNODE | BERTH_GFP_LRU | ~GFP_ALL)

/* One allocation on its way. */
struct walk {
	struct berth_nodes *nodes;
	const struct berth_node *from;
	unsigned node, order, gfp;
	enum berth_zone_kind highest;
	uint32_t tag;
	uint64_t cookie;
	struct berth_zone *zone; /* where the block was found */
	berth_idx_t idx;
	/* For the report. */
	unsigned reclaims, ooms, waits, last_flags;
	uint64_t reclaimed_pages;
};

static void add(_Atomic uint64_t *counter, uint64_t nr)
{
	atomic_fetch_add_explicit(counter, nr, memory_order_relaxed);
}

/* The i-th zone of the walk, or NULL; *at goes on from there. */
static struct berth_zone *next_zone(const struct walk *walk, unsigned *at)
{
	while (*at < walk->from->nr_list) {
		const struct berth_zone_ref *ref = &walk->from->list[(*at)++];

		if (ref->kind <= walk->highest &&
		    (ref->node == walk->node || !(walk->gfp & BERTH_GFP_THISNODE)))
			return ref->zone;
	}
	return NULL;
}

/* Where the walk begins; NULL: no zone may serve it. What isn't any zone's is counted there. */
static struct berth_zone *first_zone(const struct walk *walk)
{
	unsigned at = 0;

	return next_zone(walk, &at);
}

/* An urgent single frame isn't kept waiting by a boost, which is for the sake of large blocks. */
static uint64_t mark_of(const struct berth_zone *zone, enum berth_mark mark, unsigned order,
			unsigned flags)
{
	uint64_t pages = atomic_load_explicit(&zone->marks.mark[mark], memory_order_relaxed);

	if (mark == BERTH_MARK_MIN && order == 0 && (flags & BERTH_ALLOC_MIN_RESERVE))
		return pages;
	return pages + atomic_load_explicit(&zone->marks.boost, memory_order_relaxed);
}

static unsigned alloc_flags(unsigned gfp, unsigned order)
{
	unsigned flags = 0;

	if ((gfp & (BERTH_GFP_MOVABLE | BERTH_GFP_NO_CMA)) == BERTH_GFP_MOVABLE)
		flags |= BERTH_ALLOC_CMA;
	if (gfp & BERTH_GFP_HIGH)
		flags |= BERTH_ALLOC_MIN_RESERVE;
	if (gfp & BERTH_GFP_NO_RECLAIM)
		flags |= BERTH_ALLOC_NON_BLOCK;
	if ((gfp & BERTH_GFP_ATOMIC) == BERTH_GFP_ATOMIC && order > 0)
		flags |= BERTH_ALLOC_HIGHATOMIC;
	if (gfp & BERTH_GFP_OOM_VICTIM)
		flags |= BERTH_ALLOC_OOM;
	return flags;
}

/* One walk: the first zone that stays above the mark. */
static bool try_zones(struct walk *walk, enum berth_mark mark, unsigned flags)
{
	unsigned gfp = walk->gfp & GFP_ZONE, at = 0;
	struct berth_zone *zone;

	walk->last_flags = flags;
	if (flags & BERTH_ALLOC_HIGHATOMIC)
		gfp |= BERTH_GFP_RESERVE_FIRST;
	if (flags & (BERTH_ALLOC_OOM | BERTH_ALLOC_NON_BLOCK | BERTH_ALLOC_NO_WATERMARKS))
		gfp |= BERTH_GFP_RESERVE_LAST;
	while ((zone = next_zone(walk, &at))) {
		if (!berth_watermark_ok(zone, walk->order, mark_of(zone, mark, walk->order, flags),
					walk->highest, flags))
			continue;
		walk->idx = berth__alloc_once(zone, walk->order, gfp, walk->tag, walk->cookie);
		if (walk->idx == BERTH_IDX_NONE)
			continue;
		walk->zone = zone;
		if (flags & BERTH_ALLOC_HIGHATOMIC)
			berth__reserve_highatomic(zone, walk->idx, walk->order);
		return true;
	}
	return false;
}

/* ---- Running low ----------------------------------------------------------------------------------- */

static void wake_kswapds(const struct walk *walk)
{
	const struct berth_nodes *nodes = walk->nodes;
	struct berth_zone *zone;

	for (unsigned at = 0; (zone = next_zone(walk, &at));) {
		if (!berth__want_kswapd(walk->nodes, zone->node, walk->order, walk->highest) ||
		    !nodes->ops->wake_kswapd)
			continue;
		add(&walk->nodes->kswapd_wakes, 1);
		nodes->ops->wake_kswapd(nodes->ctx, zone, walk->order, walk->highest);
	}
}

/* Moving needs some free memory to move to, but takes none from anybody: so it is tried first. */
static bool compact(struct walk *walk, unsigned flags)
{
	struct berth_zone *zone;

	for (unsigned at = 0; walk->order && (zone = next_zone(walk, &at));) {
		uint64_t mark = mark_of(zone, BERTH_MARK_MIN, walk->order, flags);

		if (walk->order > zone->max_order ||
		    !berth_watermark_ok(zone, 0, mark + berth__pages(walk->order), walk->highest,
					flags))
			continue;
		add(&walk->nodes->compactions, 1);
		walk->idx = berth__compact_capture(zone, walk->order, walk->gfp & GFP_ZONE,
						   walk->tag, walk->cookie);
		walk->zone = zone;
		if (walk->idx != BERTH_IDX_NONE)
			return true;
	}
	return false;
}

static unsigned list_zones(const struct walk *walk, struct berth_zone **zones)
{
	struct berth_zone *zone;
	unsigned nr = 0;

	for (unsigned at = 0; (zone = next_zone(walk, &at));)
		zones[nr++] = zone;
	return nr;
}

static bool can_reclaim(const struct berth_nodes *nodes, struct berth_zone *const *zones,
			unsigned nr_zones)
{
	bool any = atomic_load_explicit(&nodes->shrinkers.nr, memory_order_relaxed) && nr_zones;

	for (unsigned i = 0; i < nr_zones; i++)
		any |= zones[i]->lru_state != NULL;
	return any;
}

/* Others are at freeing: give them some milliseconds before somebody is sacrificed. */
static bool be_patient(struct walk *walk, unsigned *patience)
{
	struct berth_zone *zones[BERTH_MAX_ZONES];
	unsigned nr_zones = list_zones(walk, zones);

	if (*patience == MAX_PATIENCE || !berth__reclaim_in_flight(zones, nr_zones))
		return false;
	(*patience)++;
	zones[0]->port->wait(zones[0]->port_ctx, FIRST_WAIT_NS);
	return true;
}

static bool reclaim(struct walk *walk, unsigned flags, uint64_t *freed)
{
	const struct berth_nodes *nodes = walk->nodes;
	struct berth_zone *zones[BERTH_MAX_ZONES];
	unsigned nr_zones = list_zones(walk, zones);
	struct berth_zone *first = first_zone(walk);
	uint64_t want = berth__pages(walk->order), began_ns;

	*freed = 0;
	began_ns = first ? berth__timing_begin(first) : 0;
	if (can_reclaim(nodes, zones, nr_zones)) {
		if (want < BERTH_RECLAIM_BATCH)
			want = BERTH_RECLAIM_BATCH;
		*freed = berth__reclaim_zones(walk->nodes, zones, nr_zones, want);
	} else if (!nodes->ops->reclaim) {
		return false;
	}
	if (!*freed && nodes->ops->reclaim)
		*freed = nodes->ops->reclaim(nodes->ctx, walk->node, walk->highest, walk->order,
					     walk->gfp);
	if (first) {
		berth__timing_end(first, BERTH_TIMING_RECLAIM, began_ns);
		berth__count(first, BERTH_EVENT_ALLOCSTALL, 1);
	}
	add(&walk->nodes->direct_reclaims, 1);
	walk->reclaims++;
	add(&walk->nodes->reclaimed_pages, *freed);
	walk->reclaimed_pages += *freed;
	return *freed && try_zones(walk, BERTH_MARK_MIN, flags);
}

/* What is free, but kept: cached by CPUs, and reserved for HIGHATOMIC. */
static bool collect(struct walk *walk, unsigned flags, bool last_resort)
{
	struct berth_zone *zone;
	bool any = false;

	for (unsigned at = 0; (zone = next_zone(walk, &at));) {
		if (berth__pcp_any(zone)) {
			berth_pcp_drain_all(zone);
			any = true;
		}
		any |= berth__unreserve_highatomic(zone, walk->gfp, last_resort);
	}
	return any && try_zones(walk, BERTH_MARK_MIN, flags);
}

/* Of two: what has no owner can't be sacrificed. */
static void name_largest(struct berth_nodes *nodes, struct berth_oom *oom)
{
	struct berth_owner_pages top[2];
	unsigned nr = berth_nodes_owners(nodes, top, 2);
	unsigned i = nr == 2 && top[0].owner == BERTH_OWNER_NONE;

	oom->owner = nr ? top[i].owner : BERTH_OWNER_NONE;
	oom->owner_name = nr ? top[i].name : "nobody";
	oom->owner_pages = nr ? top[i].pages : 0;
}

/* True: try again, or walk->idx is set already. */
static bool sacrifice(struct walk *walk, unsigned flags)
{
	bool helped = true;
	const struct berth_nodes *nodes = walk->nodes;
	struct berth_zone *zone = first_zone(walk);

	if (!nodes->ops->oom || !zone)
		return false;
	/* One at a time; and the last one's victim may have freed enough. */
	if (atomic_exchange_explicit(&walk->nodes->oom_running, 1, memory_order_acquire)) {
		zone->port->wait(zone->port_ctx, FIRST_WAIT_NS);
		return true;
	}
	if (!try_zones(walk, BERTH_MARK_HIGH, flags)) {
		struct berth_oom oom = { .zone = zone,
					 .node = walk->node,
					 .order = walk->order,
					 .gfp = walk->gfp };

		add(&walk->nodes->ooms, 1);
		berth__count(zone, BERTH_EVENT_OOM, 1);
		walk->ooms++;
		name_largest(walk->nodes, &oom);
		helped = nodes->ops->oom(nodes->ctx, &oom);
	}
	atomic_store_explicit(&walk->nodes->oom_running, 0, memory_order_release);
	return helped;
}

/* Some seconds, in which others may free: then even NOFAIL fails rather than hang. */
static bool wait_for_others(struct walk *walk)
{
	const struct berth_zone *zone = first_zone(walk);
	uint64_t ns = walk->waits < 7 ? FIRST_WAIT_NS << walk->waits : LONGEST_WAIT_NS;

	if (walk->waits == MAX_WAITS || !zone)
		return false;
	walk->waits++;
	zone->port->wait(zone->port_ctx, ns);
	return true;
}

/* The caller may wait: everything that frees memory, from the cheapest on. */
static bool try_hard(struct walk *walk, unsigned flags)
{
	bool nofail = walk->gfp & BERTH_GFP_NOFAIL;
	bool oom_allowed = (walk->order <= COSTLY_ORDER &&
			    !(walk->gfp & (BERTH_GFP_MAYFAIL | BERTH_GFP_THISNODE))) ||
			   nofail;
	bool rounds_allowed = walk->order <= COSTLY_ORDER ||
			      (walk->gfp & (BERTH_GFP_MAYFAIL | BERTH_GFP_NOFAIL));
	unsigned rounds = 0, patience = 0, helped = 0; /* helped: by OOM, as it says */

	for (;;) {
		uint64_t freed;

		if (compact(walk, flags) || reclaim(walk, flags, &freed) ||
		    collect(walk, flags, false))
			return true;
		if ((walk->gfp & BERTH_GFP_NORETRY) && !nofail)
			return false;
		if (freed && rounds_allowed && ++rounds < MAX_ROUNDS)
			continue;
		if (collect(walk, flags, true))
			return true;
		if (be_patient(walk, &patience))
			continue;
		if (!oom_allowed)
			return false;
		rounds = 0;
		if (helped < MAX_OOMS && sacrifice(walk, flags)) {
			helped++;
			if (walk->idx != BERTH_IDX_NONE || try_zones(walk, BERTH_MARK_MIN, flags))
				return true;
			continue;
		}
		if (!nofail || !wait_for_others(walk))
			return false;
		flags |= BERTH_ALLOC_MIN_RESERVE; /* it will wait as long as it takes: help it */
		if (try_zones(walk, BERTH_MARK_MIN, flags))
			return true;
	}
}

static bool walk_slow(struct walk *walk)
{
	unsigned flags = alloc_flags(walk->gfp, walk->order);

	if (try_zones(walk, BERTH_MARK_LOW, flags & BERTH_ALLOC_CMA))
		return true;
	add(&walk->nodes->slow_allocs, 1);
	wake_kswapds(walk);
	if (try_zones(walk, BERTH_MARK_MIN, flags))
		return true;
	if (walk->gfp & BERTH_GFP_MEMALLOC)
		return try_zones(walk, BERTH_MARK_MIN, flags | BERTH_ALLOC_NO_WATERMARKS);
	return !(walk->gfp & BERTH_GFP_NO_RECLAIM) && try_hard(walk, flags);
}

/* ---- The ways in ----------------------------------------------------------------------------------- */

static bool arguments_ok(const struct berth_nodes *nodes, unsigned node, unsigned order,
			 unsigned gfp, unsigned owner, const berth_pfn_t *pfn)
{
	const unsigned needs_waiting = BERTH_GFP_NOFAIL | BERTH_GFP_MAYFAIL | BERTH_GFP_COMPACT;
	const struct berth_zone *zone;

	if (node >= nodes->nr_nodes || !pfn || (gfp & ~GFP_ALL) || order > BERTH_MAX_ORDER_LIMIT ||
	    ((gfp & BERTH_GFP_NO_RECLAIM) && (gfp & needs_waiting)) ||
	    (gfp & (BERTH_GFP_DMA | BERTH_GFP_DMA32)) == (BERTH_GFP_DMA | BERTH_GFP_DMA32))
		return false;
	zone = nodes->nodes[node].preferred[berth__highest_kind(gfp)];
	for (unsigned i = 0; (gfp & BERTH_GFP_ZERO) && i < nodes->nr_zones; i++)
		if (!nodes->by_pfn[i]->port->zero)
			return false;
	/* All zones have the same owners. Without a zone there is nothing to ask. */
	return !zone || berth__owner_fits_lru(zone, gfp, owner);
}

/* What each zone has at the end; who holds it is another, longer question. */
static void report(const struct walk *walk, unsigned owner, struct berth_alloc_failure *failure)
{
	const unsigned flags = walk->last_flags;
	struct berth_zone *zone;

	__builtin_memset(failure, 0, sizeof(*failure));
	failure->node = walk->node;
	failure->order = walk->order;
	failure->gfp = walk->gfp;
	failure->owner = owner;
	failure->highest = walk->highest;
	failure->reclaims = walk->reclaims;
	failure->reclaimed_pages = walk->reclaimed_pages;
	failure->ooms = walk->ooms;
	failure->waits = walk->waits;
	for (unsigned at = 0; (zone = next_zone(walk, &at));) {
		unsigned i = failure->nr_zones++;
		uint64_t mark = mark_of(zone, BERTH_MARK_MIN, walk->order, flags);

		if (i >= BERTH_FAILURE_ZONES)
			continue;
		failure->nr_shown = i + 1;
		berth_zone_view(zone, &failure->zones[i]);
		if (walk->order > zone->max_order)
			failure->verdict[i] = BERTH_ZONE_TOO_SMALL;
		else if (berth_watermark_ok(zone, walk->order, mark, walk->highest, flags))
			failure->verdict[i] = BERTH_ZONE_CHANGED;
		else if (berth__watermark_pages_ok(zone, walk->order, mark, walk->highest, flags))
			failure->verdict[i] = BERTH_ZONE_NO_BLOCK;
		else
			failure->verdict[i] = BERTH_ZONE_BELOW_MARK;
	}
}

int berth_alloc(struct berth_nodes *nodes, const struct berth_alloc_request *request,
		berth_pfn_t *pfn, struct berth_alloc_failure *failure)
{
	const unsigned node = request->node, order = request->order, gfp = request->gfp;
	struct walk walk = {
		.nodes = nodes,
		.node = node,
		.order = order,
		.gfp = gfp,
		.tag = berth__used_tag_lru(order, gfp, request->owner),
		.idx = BERTH_IDX_NONE,
		.cookie = request->cookie,
	};

	if (!arguments_ok(nodes, node, order, gfp, request->owner, pfn))
		return -BERTH_EINVAL;
	walk.from = &nodes->nodes[node];
	walk.highest = berth__highest_kind(gfp);
	if (!walk_slow(&walk)) {
		struct berth_zone *first = first_zone(&walk);

		add(&nodes->failures, 1);
		if (first)
			berth__count(first, BERTH_EVENT_ALLOC_FAIL, 1);
		if (failure)
			report(&walk, request->owner, failure);
		return -BERTH_ENOMEM;
	}
	*pfn = berth__pfn(walk.zone, walk.idx);
	if (gfp & BERTH_GFP_ZERO)
		walk.zone->port->zero(walk.zone->port_ctx, *pfn, berth__pages(order));
	return 0;
}

static BERTH_COLD int alloc_slow(struct berth_nodes *nodes, unsigned node, unsigned order,
				 unsigned gfp, unsigned owner, uint64_t cookie, berth_pfn_t *pfn)
{
	/* What differs from the fast path by its tag alone. */
	if (!(gfp & GFP_SLOW & ~(unsigned)BERTH_GFP_LRU) && node < nodes->nr_nodes && pfn) {
		struct berth_zone *zone = nodes->nodes[node].preferred[berth__highest_kind(gfp)];

		if (zone && berth__owner_fits_lru(zone, gfp, owner) &&
		    berth__alloc_cached_block(zone, order, gfp,
					      berth__used_tag_lru(order, gfp, owner), cookie, pfn))
			return 0;
	}
	return berth_alloc(nodes,
			   &(struct berth_alloc_request){
				   .node = node,
				   .order = order,
				   .gfp = gfp,
				   .owner = owner,
				   .cookie = cookie,
			   },
			   pfn, NULL);
}

int berth_node_alloc(struct berth_nodes *nodes, unsigned node, unsigned order, unsigned gfp,
		     unsigned owner, uint64_t cookie, berth_pfn_t *pfn)
{
	struct berth_zone *zone;

	if (BERTH_UNLIKELY(order != 0 || (gfp & GFP_SLOW) || node >= nodes->nr_nodes || !pfn))
		return alloc_slow(nodes, node, order, gfp, owner, cookie, pfn);
	zone = nodes->nodes[node].preferred[berth__highest_kind(gfp)];
	if (BERTH_UNLIKELY(!zone || !berth__owner_fits(zone, gfp, owner)))
		return alloc_slow(nodes, node, order, gfp, owner, cookie, pfn);
	if (BERTH_UNLIKELY(!berth__alloc_cached(zone, 0, gfp, berth__used_tag(0, gfp, owner),
						cookie, pfn)))
		return alloc_slow(nodes, node, order, gfp, owner, cookie, pfn);
	return 0;
}

/* ---- Exact sizes ----------------------------------------------------------------------------------- */

int berth_node_alloc_exact(struct berth_nodes *nodes, unsigned node, uint64_t nr_pages,
			   unsigned gfp, unsigned owner, uint64_t cookie, berth_pfn_t *pfn)
{
	const unsigned zero = BERTH_GFP_ZERO;
	struct berth_zone *zone;
	unsigned order = 0;
	uint64_t rest;
	int error;

	if (!nr_pages || nr_pages > berth__pages(BERTH_MAX_ORDER_LIMIT))
		return -BERTH_EINVAL;
	while (berth__pages(order) < nr_pages)
		order++;
	if (!arguments_ok(nodes, node, order, gfp, owner, pfn))
		return -BERTH_EINVAL;
	error = berth_node_alloc(nodes, node, order, gfp & ~zero, owner, cookie, pfn);
	if (error)
		return error;
	zone = berth_nodes_zone_of(nodes, *pfn);
	rest = berth__pages(order) - nr_pages;
	if (rest) {
		/* Nobody but a claim that cuts it knows the block yet, and that under the lock. */
		error = berth_free_range(zone, *pfn + nr_pages, rest, owner);
		BERTH_ASSERT(zone, error == 0, (uint64_t)(int64_t)error, *pfn);
	}
	if (gfp & zero)
		zone->port->zero(zone->port_ctx, *pfn, nr_pages);
	return 0;
}

int berth_node_free_exact(struct berth_nodes *nodes, berth_pfn_t pfn, uint64_t nr_pages,
			  unsigned owner)
{
	struct berth_zone *zone = berth_nodes_zone_of(nodes, pfn);

	return zone ? berth_free_range(zone, pfn, nr_pages, owner) : -BERTH_EINVAL;
}

void berth_nodes_stats(struct berth_nodes *nodes, struct berth_nodes_stats *stats)
{
	*stats = (struct berth_nodes_stats){
		.slow_allocs = atomic_load_explicit(&nodes->slow_allocs, memory_order_relaxed),
		.kswapd_wakes = atomic_load_explicit(&nodes->kswapd_wakes, memory_order_relaxed),
		.compactions = atomic_load_explicit(&nodes->compactions, memory_order_relaxed),
		.direct_reclaims = atomic_load_explicit(&nodes->direct_reclaims,
							memory_order_relaxed),
		.reclaimed_pages = atomic_load_explicit(&nodes->reclaimed_pages,
							memory_order_relaxed),
		.kswapd_pages = atomic_load_explicit(&nodes->kswapd_pages, memory_order_relaxed),
		.ooms = atomic_load_explicit(&nodes->ooms, memory_order_relaxed),
		.failures = atomic_load_explicit(&nodes->failures, memory_order_relaxed),
	};
}
