/* SPDX-License-Identifier: MIT */
/*
 * Zones: laying out the metadata the caller supplies, taking memory over, the policy of which
 * migratetype serves a request, and statistics.
 *
 * I1  free + pcp + claimed + used = managed, where free is the sum of the sets' nr_free.
 * I2  Only movable blocks lie in CMA areas.
 *
 * Complexity: init O(pageblocks) with zeroed metadata; choosing a set O(areas).
 */
#include "core/alloc/claims.h"
#include "core/frames/summary.h"
#include "core/motion/internal.h"
#include "core/stats.h"

/* The places of the parts in the metadata. */
struct layout {
	size_t frames, cookies, links, pageblocks, sets, lists, bits, buckets, areas, owners, names,
		pcps, total;
	size_t counters, timings;
	size_t loads, groups, regions, stale, stocked, tallies;
	unsigned nr_counters, nr_tallies, bit_words;
	size_t pcp_stride;
	berth_pfn_t base_pfn;
	uint64_t nr_frames, nr_groups;
	unsigned max_order, pageblock_order, max_owners, max_names, nr_sets;
	struct berth_pcp_layout pcp;
	size_t pcp_route, lru_offset, lru_state, discardables;
	unsigned gather_room;
	size_t gathered;
};

static size_t place(size_t *at, size_t align, uint64_t count, size_t size)
{
	size_t where = (*at + align - 1) & ~(align - 1);

	*at = where + (size_t)count * size;
	return where;
}

static unsigned log2_floor(uint64_t value)
{
	return 63 - (unsigned)__builtin_clzll(value);
}

/* A power of two, as many as CPUs unless that would be more than a third of a byte a frame. */
static unsigned counter_slots(uint64_t nr_pages, unsigned nr_cpus)
{
	uint64_t most = nr_pages / (6 * sizeof(struct berth_counters));

	if (most < 2)
		most = 2;
	if (most > nr_cpus)
		most = nr_cpus;
	return most < 2 ? 1 : 1u << log2_floor(2 * most - 1);
}

/*
 * As many for each area as it may have; in a small zone, or with many areas, a quarter of a byte a frame and no less than
 * one for each, and enough for two of them.
 */
static unsigned nr_tallies(uint64_t nr_pages, unsigned nr_areas)
{
	const uint64_t all = (uint64_t)nr_areas * BERTH_MOST_TALLIES;
	uint64_t nr = nr_pages / (4 * sizeof(struct berth_tally));

	if (nr < nr_areas + 2 * (BERTH_MOST_TALLIES - 1))
		nr = nr_areas + 2 * (BERTH_MOST_TALLIES - 1);
	return (unsigned)(nr < all ? nr : all);
}

unsigned berth__tally_share(unsigned nr_left, unsigned nr_areas_left, unsigned nr_cpus)
{
	unsigned most = nr_left - (nr_areas_left - 1);

	if (most > BERTH_MOST_TALLIES)
		most = BERTH_MOST_TALLIES;
	if (most > nr_cpus)
		most = nr_cpus;
	return most < 2 ? 1 : 1u << log2_floor(most);
}

static bool lay_out(const struct berth_zone_params *params, struct layout *l)
{
	uint64_t largest;
	size_t at = sizeof(struct berth_zone);

	if (!params || !params->port || !params->port->now_ns || !params->port->wait ||
	    !params->port->panic)
		return false;
	l->max_order = params->max_order ? params->max_order : 10;
	l->pageblock_order = params->pageblock_order ? params->pageblock_order : 9;
	l->max_owners = params->max_owners ? params->max_owners : 8;
	l->max_names = params->max_claim_names ? params->max_claim_names : 32;
	if (l->max_order > BERTH_MAX_ORDER_LIMIT || l->pageblock_order > l->max_order ||
	    params->max_areas > BERTH_MAX_AREAS || l->max_owners > BERTH_MAX_OWNERS ||
	    l->max_names > BERTH_MAX_CLAIM_NAMES || params->nr_cpus > 4096 ||
	    params->pcp_high > 1u << 15 || !params->nr_pages ||
	    params->start_pfn + params->nr_pages < params->start_pfn)
		return false;
	largest = 1ull << l->max_order;
	l->base_pfn = params->start_pfn & ~(largest - 1);
	if (params->nr_pages > UINT32_MAX - largest + 1)
		return false;
	/* Whole pageblocks, so that a pageblock's frames always exist. */
	l->nr_frames = params->start_pfn - l->base_pfn + params->nr_pages;
	l->nr_frames = ((l->nr_frames - 1) >> l->pageblock_order) + 1;
	l->nr_frames <<= l->pageblock_order;
	if (l->nr_frames > UINT32_MAX - largest + 1)
		return false;
	l->nr_sets = BERTH_CMA + params->max_areas;
	berth__pcp_lay_out(&l->pcp, params->nr_pages, params->nr_cpus ? params->nr_cpus : 1,
			   l->pageblock_order, params->pcp_high);
	l->pcp_stride = l->pcp.bytes;
	l->lru_offset = l->pcp_stride;
	if (params->lru)
		l->pcp_stride += sizeof(struct berth_lru_batch);

	l->frames = place(&at, 64, l->nr_frames, sizeof(struct berth_frame));
	l->cookies = place(&at, 64, l->nr_frames, sizeof(uint64_t));
	l->links = place(&at, 64, l->nr_frames, sizeof(union berth_links));
	l->pageblocks = place(&at, 64, l->nr_frames >> l->pageblock_order,
			      sizeof(struct berth_pageblock));
	l->sets = place(&at, 64, l->nr_sets, sizeof(struct berth_list_set));
	l->lists = place(&at, 64, (uint64_t)l->nr_sets * (l->max_order + 1),
			 sizeof(struct berth_free_list));
	/* Two bits a frame. */
	l->bit_words = l->pageblock_order < 5 ? 1 : 1u << (l->pageblock_order - 5);
	l->bits = place(&at, 64, (l->nr_frames >> l->pageblock_order) * l->bit_words,
			sizeof(uint64_t));
	l->buckets = place(&at, 64, (uint64_t)l->nr_sets * BERTH_DENSITIES * l->pageblock_order,
			   sizeof(uint32_t));
	l->loads = place(&at, 64, l->nr_frames >> l->pageblock_order, sizeof(struct berth_load));
	l->nr_groups = ((l->nr_frames >> l->pageblock_order) - 1) / BERTH_GROUP + 1;
	l->groups = place(&at, 64, l->nr_groups, sizeof(struct berth_group));
	l->regions = place(&at, 64, (l->nr_groups - 1) / BERTH_GROUP + 1,
			   sizeof(struct berth_summary));
	l->stale = place(&at, 64, (l->nr_groups - 1) / BERTH_GROUP + 1, sizeof(uint64_t));
	l->gather_room = berth__gather_room(params->nr_pages);
	l->gathered = place(&at, 64, (size_t)BERTH_GATHER_BUFFERS * l->gather_room,
			    sizeof(struct berth_move));
	l->stocked = place(&at, 64, l->nr_groups, sizeof(uint64_t));
	l->nr_tallies = nr_tallies(params->nr_pages, params->max_areas);
	l->tallies = place(&at, 64, l->nr_tallies, sizeof(struct berth_tally));
	l->areas = place(&at, 64, params->max_areas, sizeof(struct berth_cma));
	l->owners = place(&at, 64, l->max_owners + 1, sizeof(struct berth_owner));
	l->names = place(&at, 64, l->max_names, sizeof(struct berth_name));
	l->pcps = place(&at, 64, params->nr_cpus, l->pcp_stride);
	l->pcp_route = place(&at, 64, l->nr_frames >> l->pageblock_order, sizeof(uint8_t));
	l->lru_state = place(&at, 64, params->lru ? l->nr_frames : 0, sizeof(uint8_t));
	l->discardables = place(&at, 64, params->lru ? l->nr_frames >> l->pageblock_order : 0,
				sizeof(struct berth_discardables));
	l->nr_counters = counter_slots(params->nr_pages, params->nr_cpus);
	l->counters = place(&at, 64, l->nr_counters + 1, sizeof(struct berth_counters));
	l->timings = place(&at, 64, params->histograms, sizeof(struct berth_timings));
	l->total = place(&at, 64, 0, 0);
	return true;
}

size_t berth_zone_metadata_size(const struct berth_zone_params *params)
{
	struct layout l;

	return lay_out(params, &l) ? l.total : 0;
}

static void clear(void *at, size_t bytes)
{
	__builtin_memset(at, 0, bytes);
}

static void copy_pcp_layout(struct berth_zone *zone, const struct berth_pcp_layout *pcp)
{
	__builtin_memcpy(zone->pcp_row, pcp->row, sizeof(zone->pcp_row));
	__builtin_memcpy(zone->pcp_order, pcp->order, sizeof(zone->pcp_order));
	__builtin_memcpy(zone->pcp_base, pcp->base, sizeof(zone->pcp_base));
	__builtin_memcpy(zone->pcp_min, pcp->min, sizeof(zone->pcp_min));
	__builtin_memcpy(zone->pcp_max, pcp->max, sizeof(zone->pcp_max));
	zone->pcp_budget = pcp->budget;
}

int berth_zone_init(struct berth_zone **out, const struct berth_zone_params *params, void *metadata,
		    size_t metadata_bytes)
{
	struct layout l;
	struct berth_zone *zone = metadata;
	char *base = metadata;

	if (!out || !metadata || ((uintptr_t)metadata & 63) || !lay_out(params, &l) ||
	    metadata_bytes < l.total)
		return -BERTH_EINVAL;
	if (!params->metadata_is_zeroed)
		clear(metadata, l.total);
	zone->name = params->name ? params->name : "zone";
	zone->port = params->port;
	zone->port_ctx = params->port_ctx;
	zone->base_pfn = l.base_pfn;
	zone->first = (berth_idx_t)(params->start_pfn - l.base_pfn);
	zone->end = (berth_idx_t)(zone->first + params->nr_pages);
	zone->max_order = l.max_order;
	zone->pageblock_order = l.pageblock_order;
	zone->nr_cpus = params->nr_cpus;
	zone->spanned = params->nr_pages;
	zone->fence_sections = !params->port->barrier_all;
	zone->start_pfn = params->start_pfn;
	for (unsigned set = 0; set < BERTH_CMA + BERTH_MAX_AREAS; set++)
		zone->pcp_type_of_set[set] = set < BERTH_HIGHATOMIC ? (uint8_t)set : BERTH_PCP_NONE;
	copy_pcp_layout(zone, &l.pcp);
	zone->pcp_stride = l.pcp_stride;
	zone->max_areas = params->max_areas;
	zone->max_owners = l.max_owners;
	zone->metadata_bytes = l.total;
	zone->frames = (void *)(base + l.frames);
	zone->cookies = (void *)(base + l.cookies);
	zone->links = (void *)(base + l.links);
	zone->pageblocks = (void *)(base + l.pageblocks);
	zone->sets = (void *)(base + l.sets);
	zone->lists = (void *)(base + l.lists);
	zone->bits = (void *)(base + l.bits);
	zone->bit_words = l.bit_words;
	zone->whole_joined = berth__whole_joined(zone);
	zone->buckets = (void *)(base + l.buckets);
	zone->loads = (void *)(base + l.loads);
	zone->groups = (void *)(base + l.groups);
	zone->regions = (void *)(base + l.regions);
	zone->stale = (void *)(base + l.stale);
	zone->stocked = (void *)(base + l.stocked);
	zone->tallies = (void *)(base + l.tallies);
	zone->nr_tallies_left = l.nr_tallies;
	zone->areas = (void *)(base + l.areas);
	zone->owners = (void *)(base + l.owners);
	zone->gathered = (void *)(base + l.gathered);
	zone->gather_room = l.gather_room;
	zone->names = (struct berth_names){ (void *)(base + l.names), l.max_names };
	zone->pcps = base + l.pcps;
	zone->pcp_route = (void *)(base + l.pcp_route);
	for (unsigned cpu = 0; cpu < zone->nr_cpus; cpu++)
		berth__pcp_init(zone, berth__pcp(zone, cpu));
	zone->lru_offset = l.lru_offset;
	zone->lru_state = params->lru ? (void *)(base + l.lru_state) : NULL;
	zone->discardables = params->lru ? (void *)(base + l.discardables) : NULL;
	for (unsigned list = 0; list < BERTH_NR_LRU_LISTS; list++)
		zone->lru.lists[list] = (struct berth_lru_list_ends){ BERTH_IDX_NONE,
								      BERTH_IDX_NONE };
	zone->counters = (void *)(base + l.counters);
	zone->counter_mask = l.nr_counters - 1;
	zone->timings = params->histograms ? (void *)(base + l.timings) : NULL;
	zone->nr_owners = 1; /* BERTH_OWNER_NONE */
	zone->compact.epoch = 1;
	zone->cost = (struct berth_cost_model)BERTH_COST_DEFAULT;
	zone->drops_idle = true;
	for (unsigned i = 0; i < l.nr_sets * (l.max_order + 1); i++)
		zone->lists[i].first = BERTH_IDX_NONE;
	for (uint64_t i = 0; i < l.nr_frames >> l.pageblock_order; i++) {
		zone->pageblocks[i].home_set = BERTH_MOVABLE;
		berth__pageblock_set_locked(zone, &zone->pageblocks[i], BERTH_MOVABLE);
	}
	*out = zone;
	return 0;
}

int berth_zone_add_memory(struct berth_zone *zone, berth_pfn_t start_pfn, uint64_t nr_pages)
{
	berth_idx_t start, end;
	int error;

	if (!nr_pages || !berth__idx(zone, start_pfn, nr_pages, &start))
		return -BERTH_EINVAL;
	end = start + (berth_idx_t)nr_pages;
	berth_lock(&zone->lock);
	error = berth__untouched_locked(zone, start, end) ? 0 : -BERTH_EINVAL;
	if (!error) {
		berth__account_managed_locked(zone, start, end);
		berth__buddy_free_range_locked(zone, start, end);
	}
	berth_unlock(&zone->lock);
	return error;
}

berth_pfn_t berth_zone_start_pfn(const struct berth_zone *zone)
{
	return berth__pfn(zone, zone->first);
}

berth_pfn_t berth_zone_end_pfn(const struct berth_zone *zone)
{
	return berth__pfn(zone, zone->end);
}

int berth_owner_register(struct berth_zone *zone, const struct berth_owner_ops *ops, void *ctx,
			 unsigned *id)
{
	int error = 0;

	if (!ops || !ops->name || !ops->migrate || !id)
		return -BERTH_EINVAL;
	berth_lock(&zone->lock);
	if (zone->nr_owners > zone->max_owners) {
		error = -BERTH_ENOSPC;
	} else {
		zone->owners[zone->nr_owners] = (struct berth_owner){ .ops = ops, .ctx = ctx };
		*id = zone->nr_owners++;
	}
	berth_unlock(&zone->lock);
	return error;
}

/* ---- Which set serves a request ------------------------------------------------------------------ */

/* Frames that an area could lend without getting below its watermark. Z. */
static uint64_t spare(const struct berth_zone *zone, const struct berth_cma *area)
{
	uint64_t keep = atomic_load_explicit(&area->lend_min_pages, memory_order_relaxed);
	uint64_t nr_free = berth__set_free(zone, area->set);

	return nr_free > keep ? nr_free - keep : 0;
}

unsigned berth__lendable_order_locked(const struct berth_zone *zone, unsigned set, unsigned limit)
{
	uint64_t most;

	if (set < BERTH_CMA)
		return limit;
	most = spare(zone, &zone->areas[set - BERTH_CMA]);
	while (limit && berth__pages(limit) > most)
		limit--;
	return limit;
}

/* A CMA area that lends by a policy from `first` to `last` and has a block, none of `but`; its set, or
 * BERTH_SET_NONE. */
static unsigned choose_lent(const struct berth_zone *zone, unsigned order,
			    enum berth_lend_policy first, enum berth_lend_policy last, uint64_t but)
{
	for (unsigned i = 0; i < zone->nr_areas; i++) {
		const struct berth_cma *area = &zone->areas[i];

		if (!(but >> i & 1) && berth__has_block(zone, area->set, order) &&
		    berth__lend(area) >= first && berth__lend(area) <= last &&
		    spare(zone, area) >= berth__pages(order))
			return area->set;
	}
	return BERTH_SET_NONE;
}

/* More than half of what is free, and not kept from borrowers, is in areas: as __rmqueue() of Linux
 * asks. */
static bool areas_have_most(const struct berth_zone *zone)
{
	uint64_t unlent = berth__zone_free_unlent(zone), cma = berth__zone_free_cma(zone);
	uint64_t free = berth__zone_free(zone);

	return cma > unlent && free > unlent && cma - unlent > (free - unlent) / 2;
}

unsigned berth__choose_set_but_locked(const struct berth_zone *zone, unsigned order, unsigned gfp,
				      uint64_t but)
{
	unsigned want = berth__wanted_type(gfp), set = BERTH_SET_NONE;
	bool lent = want == BERTH_MOVABLE && !(gfp & BERTH_GFP_NO_CMA);

	if (lent && !(gfp & BERTH_GFP_CMA_LAST))
		set = choose_lent(zone, order, BERTH_LEND_FIRST, BERTH_LEND_FIRST, but);
	if (set == BERTH_SET_NONE && lent && !(gfp & BERTH_GFP_CMA_LAST) && zone->nr_areas &&
	    areas_have_most(zone))
		set = choose_lent(zone, order, BERTH_LEND_BALANCED, BERTH_LEND_BALANCED, but);
	if (set == BERTH_SET_NONE && berth__has_block(zone, want, order))
		set = want;
	if (set == BERTH_SET_NONE && lent)
		set = choose_lent(zone, order, BERTH_LEND_FIRST, BERTH_LEND_LAST, but);
	return set;
}

unsigned berth__choose_set_locked(const struct berth_zone *zone, unsigned order, unsigned gfp)
{
	return berth__choose_set_but_locked(zone, order, gfp, 0);
}

/* ---- Statistics ----------------------------------------------------------------------------------- */

static uint64_t pcp_pages(struct berth_zone *zone)
{
	uint32_t used = atomic_load(&zone->nr_pcps_used);
	uint64_t pages = 0;

	for (uint32_t cpu = 0; cpu < used; cpu++)
		pages += berth__pcp_pages(zone, berth__pcp(zone, cpu));
	return pages;
}

void berth_zone_stats(struct berth_zone *zone, struct berth_zone_stats *stats)
{
	uint64_t taken, kept;

	clear(stats, sizeof(*stats));
	stats->spanned_pages = zone->end - zone->first;
	stats->metadata_bytes = zone->metadata_bytes;
	stats->moved_pages = atomic_load_explicit(&zone->moved_pages, memory_order_relaxed);
	stats->failed_moves = atomic_load_explicit(&zone->failed_moves, memory_order_relaxed);
	stats->drains = atomic_load_explicit(&zone->drains, memory_order_relaxed);
	stats->pinned_blocks = atomic_load_explicit(&zone->pinned_blocks, memory_order_relaxed);
	berth_lock(&zone->lock);
	stats->managed_pages = zone->nr_managed;
	stats->present_pages = zone->nr_managed + zone->nr_reserved;
	taken = berth__taken_of_all(zone);
	kept = berth__kept_of_all(zone);
	stats->claimed_pages = zone->nr_claimed + taken - kept;
	stats->compact_successes = zone->compact.successes;
	stats->compact_failures = zone->compact.failures;
	for (unsigned set = 0; set < BERTH_CMA + zone->max_areas; set++)
		stats->free_pages += atomic_load_explicit(&zone->sets[set].nr_free,
							  memory_order_relaxed);
	stats->free_pages += kept - taken;
	stats->pcp_pages = pcp_pages(zone);
	berth_unlock(&zone->lock);
	stats->used_pages = stats->managed_pages - stats->free_pages - stats->claimed_pages -
			    stats->pcp_pages;
}
