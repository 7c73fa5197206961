/* SPDX-License-Identifier: MIT */
/*
 * Zones as structures: their state at one moment, and who holds their memory.
 *
 * Complexity: a view O((areas + types) * orders) under the zone lock; the rest walks pageblocks or
 * blocks, and lets the lock go after each pageblock.
 */
#include <berth/views.h>

#include "core/frames/internal.h"
#include "core/frames/node.h"

#define OWNERS_AT_ONCE 64u /* counters on the stack */

static uint64_t load(const _Atomic uint64_t *value)
{
	return atomic_load_explicit(value, memory_order_relaxed);
}

static unsigned type_of_set(unsigned set)
{
	return set < BERTH_CMA ? set : BERTH_CMA;
}

/* What the lists say. Z. */
static void view_lists_locked(const struct berth_zone *zone, struct berth_zone_view *view)
{
	for (unsigned set = 0; set < BERTH_CMA + zone->nr_areas; set++)
		for (unsigned order = 0; order <= zone->max_order; order++)
			view->free_blocks[type_of_set(set)][order] += berth__nr_blocks(zone, set,
										       order);
	for (unsigned i = 0; i < zone->nr_areas; i++)
		view->cma_pages += zone->areas[i].end - zone->areas[i].start;
}

void berth_zone_view(struct berth_zone *zone, struct berth_zone_view *view)
{
	static const char *const names[] = { "DMA", "DMA32", "Normal", "HighMem", "Movable" };
	struct berth_zone_stats stats;

	berth__kept_send_home(zone, zone->first, zone->end);
	berth_zone_stats(zone, &stats);
	__builtin_memset(view, 0, sizeof(*view));
	view->name = zone->in_node ? names[zone->kind] : zone->name;
	view->node = zone->node;
	view->kind = zone->in_node ? (enum berth_zone_kind)zone->kind : BERTH_ZONE_NORMAL;
	view->start_pfn = zone->start_pfn;
	view->max_order = zone->max_order;
	view->pageblock_order = zone->pageblock_order;
	view->spanned_pages = stats.spanned_pages;
	view->pcp_pages = stats.pcp_pages;
	berth_lru_stats(zone, &view->lru);
	berth_zone_watermarks(zone, &view->marks);
	for (unsigned kind = 0; kind < BERTH_NR_ZONE_KINDS; kind++)
		view->lowmem_reserve[kind] = load(&zone->marks.lowmem_reserve[kind]);
	berth_lock(&zone->lock);
	view->managed_pages = zone->nr_managed;
	view->present_pages = zone->nr_managed + zone->nr_reserved;
	view->claimed_pages = zone->nr_claimed + berth__taken_of_all(zone) -
			      berth__kept_of_all(zone);
	view->free_pages = berth__zone_free(zone);
	view->free_cma_pages = berth__zone_free_cma(zone);
	view->free_highatomic_pages = load(&zone->nr_free_highatomic);
	view->highatomic_pages = load(&zone->nr_highatomic);
	view_lists_locked(zone, view);
	berth_unlock(&zone->lock);
}

void berth_zone_count_pageblocks(struct berth_zone *zone, uint64_t counts[BERTH_NR_MIGRATETYPES])
{
	berth_idx_t size = berth__pages(zone->pageblock_order);

	for (unsigned type = 0; type < BERTH_NR_MIGRATETYPES; type++)
		counts[type] = 0;
	/* The type is one atomic word: no lock needed. */
	for (uint64_t idx = zone->first & ~(size - 1); idx < zone->end; idx += size)
		counts[type_of_set(
			berth__pageblock_set(berth__pageblock(zone, (berth_idx_t)idx)))]++;
}

/* ---- Who holds memory ------------------------------------------------------------------------------- */

/* Frames of one zone. */
struct range {
	struct berth_zone *zone;
	berth_idx_t start, end;
};

/* Adds to pages[owner - first] what owners of [first, first + OWNERS_AT_ONCE) hold in the range. */
static void count_owned(const struct range *range, unsigned first, uint64_t *pages)
{
	struct berth_zone *zone = range->zone;
	berth_idx_t size = berth__pages(zone->pageblock_order), idx = range->start;

	while (idx < range->end) {
		berth_idx_t stop = (idx & ~(size - 1)) + size;
		const struct berth_pageblock *pageblock = berth__pageblock(zone, idx);

		berth_lock(&zone->lock);
		if (berth__nr_free(pageblock) + berth__nr_claimed(pageblock) ==
		    pageblock->nr_managed)
			idx = stop;
		while (idx < stop && idx < range->end) {
			uint32_t tag;
			berth_idx_t head = berth__find(zone, idx, &tag), end;
			unsigned owner;

			if (head == BERTH_IDX_NONE) {
				idx++;
				continue;
			}
			end = head + berth__pages(berth__tag_order(tag));
			owner = berth__tag_owner(tag);
			if (end > stop)
				end = stop; /* the lock goes meanwhile: the rest may change */
			if (berth__tag_kind(tag) == BERTH_FRAME_USED && owner >= first &&
			    owner - first < OWNERS_AT_ONCE)
				pages[owner - first] += end - idx;
			idx = end;
		}
		berth_unlock(&zone->lock);
	}
}

/* Puts an owner where it belongs among the largest. Returns how many there are now. */
static unsigned insert(struct berth_owner_pages *top, unsigned filled, unsigned nr,
		       const struct berth_owner_pages *owner)
{
	unsigned at = filled < nr ? filled : nr;

	if (!owner->pages)
		return filled;
	for (; at > 0 && top[at - 1].pages < owner->pages; at--)
		if (at < nr)
			top[at] = top[at - 1];
	if (at < nr)
		top[at] = *owner;
	return filled < nr ? filled + 1 : nr;
}

/* Those with most in the zones, or if there is an area, in that. */
static unsigned owners_of(struct berth_zone *const *zones, unsigned nr_zones,
			  const struct berth_cma *area, struct berth_owner_pages *top, unsigned nr)
{
	unsigned filled = 0, nr_owners = nr_zones ? zones[0]->nr_owners : 0;

	for (unsigned first = 0; first < nr_owners; first += OWNERS_AT_ONCE) {
		uint64_t pages[OWNERS_AT_ONCE] = { 0 };

		for (unsigned i = 0; i < nr_zones; i++)
			count_owned(&(struct range){ zones[i], area ? area->start : zones[i]->first,
						     area ? area->end : zones[i]->end },
				    first, pages);
		for (unsigned i = 0; i < OWNERS_AT_ONCE && first + i < nr_owners; i++) {
			const struct berth_owner *owner = &zones[0]->owners[first + i];

			filled = insert(top, filled, nr,
					&(struct berth_owner_pages){
						.owner = first + i,
						.name = owner->ops ? owner->ops->name : "nobody",
						.pages = pages[i],
					});
		}
	}
	return filled;
}

unsigned berth_zone_owners(struct berth_zone *zone, struct berth_owner_pages *top, unsigned nr)
{
	return owners_of(&zone, 1, NULL, top, nr);
}

unsigned berth_cma_borrowers(struct berth_cma *area, struct berth_owner_pages *top, unsigned nr)
{
	return owners_of(&area->zone, 1, area, top, nr);
}

unsigned berth_nodes_owners(struct berth_nodes *nodes, struct berth_owner_pages *top, unsigned nr)
{
	return owners_of(nodes->by_pfn, nodes->nr_zones, NULL, top, nr);
}

void berth_alloc_failure_owners(struct berth_nodes *nodes, struct berth_alloc_failure *failure)
{
	failure->nr_owners = berth_nodes_owners(nodes, failure->owners, BERTH_FAILURE_OWNERS);
}
