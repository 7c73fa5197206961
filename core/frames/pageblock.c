/* SPDX-License-Identifier: MIT */
/*
 * Pageblocks: the counters that range choice and isolation live on.
 *
 * I1  nr_free of a pageblock = its free frames; of a set = all frames in its lists and its stock, and
 *     what claims have taken of that.
 * I2  nr_claimed of a pageblock = its frames in CLAIMED blocks; the zone's is their sum less what
 *     claims have taken of stocks.
 * I3  The zone's nr_free, nr_free_cma and nr_free_highatomic are the sums over the sets that they
 *     name, and nr_highatomic that over the pageblocks which belong to HIGHATOMIC.
 * I4  A free block lies in pageblocks of one set, and in that set's list.
 * I5  nr_joined of a pageblock = its frames in USED and cached blocks, less one for each part of a
 *     block in it. So its used blocks, cached ones included, are managed - free - claimed - joined,
 *     although nothing is counted when a CPU's list gives or takes a block (but a pageblock that is cached
 *     becomes single frames, or the other way round, by the CPU that has all of it). `joined` says the same of each
 *     eighth of it (chunk), so far as it isn't larger than 1024 frames.
 *
 * I6  The discardables of a pageblock, in a zone with LRU lists = the frames, and the parts of blocks, whose
 *     LRU state berth__discardable() calls so.
 *
 * Each counter changes in exactly one function here, but for pageblocks that are cached or come back whole
 * (berth__account_whole_locked()), and those that a claim takes out of the stock: those are its own (stock.c).
 * Complexity: O(1), or O(pageblocks touched) for blocks larger than one.
 */
#include "core/frames/internal.h"
#include "core/frames/summary.h"

/* A counter that is written under Z and read by anybody: no read-modify-write needed. */
static void count(_Atomic uint64_t *counter, uint64_t nr, int sign)
{
	uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);

	atomic_store_explicit(counter, value + (sign > 0 ? nr : -nr), memory_order_relaxed);
}

enum berth_migratetype berth_pageblock_migratetype(struct berth_zone *zone, berth_pfn_t pfn)
{
	berth_idx_t idx;
	unsigned set;

	if (!berth__idx(zone, pfn, 1, &idx))
		return BERTH_UNMOVABLE;
	set = berth__pageblock_set(berth__pageblock(zone, idx));
	return set < BERTH_CMA ? (enum berth_migratetype)set : BERTH_CMA;
}

bool berth_frame_in_area(struct berth_zone *zone, berth_pfn_t pfn)
{
	berth_idx_t idx;
	bool in_area = false;

	if (berth__idx_one(zone, pfn, &idx)) {
		berth_lock(&zone->lock);
		in_area = berth__pageblock(zone, idx)->home_set >= BERTH_CMA;
		berth_unlock(&zone->lock);
	}
	return in_area;
}

void berth__pageblock_route_locked(struct berth_zone *zone, struct berth_pageblock *pageblock)
{
	_Atomic uint8_t *route = &zone->pcp_route[pageblock - zone->pageblocks];
	uint8_t type = zone->pcp_type_of_set[berth__pageblock_set(pageblock)];

	if (type != BERTH_PCP_NONE && pageblock->bucket >= berth__bucket_number(1, 0)) {
		uint32_t left = berth__pages(zone->pageblock_order) - berth__nr_free(pageblock);

		type = left <= berth__pages(zone->pageblock_order) / BERTH_NEARLY_FREE ?
			       BERTH_PCP_NONE :
			       BERTH_PCP_RETURN;
	}
	/* All CPUs read it: not written without need. Release: see route_of_block() in pcp.c. */
	if (atomic_load_explicit(route, memory_order_relaxed) != type)
		atomic_store_explicit(route, type, memory_order_release);
}

void berth__pageblock_set_locked(struct berth_zone *zone, struct berth_pageblock *pageblock,
				 unsigned set)
{
	atomic_store_explicit(&pageblock->set, (uint16_t)set, memory_order_relaxed);
	berth__pageblock_route_locked(zone, pageblock);
	berth__stale_locked(zone, pageblock);
}

void berth__pageblock_home_locked(struct berth_zone *zone, struct berth_pageblock *pageblock,
				  unsigned set)
{
	uint64_t size = berth__pages(zone->pageblock_order);

	if (pageblock->home_set == BERTH_HIGHATOMIC)
		count(&zone->nr_highatomic, size, -1);
	if (set == BERTH_HIGHATOMIC)
		count(&zone->nr_highatomic, size, 1);
	pageblock->home_set = (uint16_t)set;
	berth__pageblock_set_locked(zone, pageblock, set);
}

/* Frames of [idx, idx + nr) in the pageblock that holds idx. */
static berth_idx_t in_pageblock(const struct berth_zone *zone, berth_idx_t idx, berth_idx_t nr)
{
	berth_idx_t size = berth__pages(zone->pageblock_order);
	berth_idx_t left = size - (idx & (size - 1));

	return nr < left ? nr : left;
}

void berth__account_managed_locked(struct berth_zone *zone, berth_idx_t start, berth_idx_t end)
{
	zone->nr_managed += end - start;
	for (berth_idx_t idx = start, part; idx < end; idx += part) {
		struct berth_pageblock *pageblock = berth__pageblock(zone, idx);

		part = in_pageblock(zone, idx, end - idx);
		atomic_store_explicit(&pageblock->nr_managed, berth__nr_managed(pageblock) + part,
				      memory_order_relaxed);
	}
}

static bool keeps(const struct berth_cma *area)
{
	return berth__lend(area) == BERTH_LEND_OFF ||
	       atomic_load_explicit(&area->lend_min_pages, memory_order_relaxed);
}

void berth__lend_locked(struct berth_zone *zone, struct berth_cma *area,
			enum berth_lend_policy lend, uint64_t lend_min_pages)
{
	uint32_t keeping = atomic_load_explicit(&zone->nr_keeping, memory_order_relaxed);

	keeping -= keeps(area);
	atomic_store_explicit(&area->lend, lend, memory_order_relaxed);
	atomic_store_explicit(&area->lend_min_pages, lend_min_pages, memory_order_relaxed);
	atomic_store_explicit(&zone->nr_keeping, keeping + keeps(area), memory_order_relaxed);
	/* Only what is lent first is cached: a cached frame is used before other memory. */
	zone->pcp_type_of_set[area->set] = lend == BERTH_LEND_FIRST ? BERTH_PCP_CMA :
								      BERTH_PCP_NONE;
	for (berth_idx_t idx = area->start; idx < area->end;
	     idx += berth__pages(zone->pageblock_order))
		berth__pageblock_route_locked(zone, berth__pageblock(zone, idx));
}

void berth__account_set_free_locked(struct berth_zone *zone, unsigned number, uint64_t nr, int sign)
{
	struct berth_list_set *set = &zone->sets[number];

	BERTH_ASSERT(zone,
		     sign > 0 || atomic_load_explicit(&set->nr_free, memory_order_relaxed) >= nr,
		     nr, number);
	count(&set->nr_free, nr, sign);
	if (number != BERTH_ISOLATE)
		count(&zone->nr_free, nr, sign);
	if (number == BERTH_HIGHATOMIC)
		count(&zone->nr_free_highatomic, nr, sign);
	if (number >= BERTH_CMA)
		count(&zone->nr_free_cma, nr, sign);
}

void berth__account_free_locked(struct berth_zone *zone, berth_idx_t idx, berth_idx_t nr, int sign)
{
	berth__account_set_free_locked(zone, berth__pageblock_set(berth__pageblock(zone, idx)), nr,
				       sign);
	while (nr) {
		berth_idx_t part = in_pageblock(zone, idx, nr);

		berth__account_pageblock_free_locked(zone, berth__pageblock(zone, idx),
						     sign > 0 ? part : -part);
		idx += part;
		nr -= part;
	}
}

void berth__account_claimed_locked(struct berth_zone *zone, berth_idx_t idx, berth_idx_t nr,
				   int sign)
{
	zone->nr_claimed += sign > 0 ? nr : -(uint64_t)nr;
	while (nr) {
		struct berth_pageblock *pageblock = berth__pageblock(zone, idx);
		berth_idx_t part = in_pageblock(zone, idx, nr);

		uint32_t claimed = berth__nr_claimed(pageblock) + (sign > 0 ? part : -part);

		BERTH_ASSERT(zone, claimed <= berth__nr_managed(pageblock), claimed,
			     berth__nr_managed(pageblock));
		atomic_store_explicit(&pageblock->nr_claimed, claimed, memory_order_relaxed);
		berth__stale_locked(zone, pageblock);
		idx += part;
		nr -= part;
	}
}

/* The joined frames of each chunk of a block that is smaller than its pageblock. */
static void count_chunks(const struct berth_zone *zone, struct berth_pageblock *pageblock,
			 berth_idx_t idx, berth_idx_t nr, int sign)
{
	uint64_t joined = atomic_load_explicit(&pageblock->joined, memory_order_relaxed);
	unsigned shift = berth__chunk_order(zone);
	unsigned chunk = (idx & (berth__pages(zone->pageblock_order) - 1)) >> shift;
	berth_idx_t size = berth__pages(shift), first = 1;

	for (berth_idx_t left = nr; left && chunk < BERTH_CHUNKS; chunk++, first = 0) {
		berth_idx_t part = left < size ? left : size;
		uint64_t change = (uint64_t)(part - first) << 8 * chunk;

		joined += sign > 0 ? change :
				     -change; /* no byte overflows, so none touches another */
		left -= part;
	}
	atomic_store_explicit(&pageblock->joined, joined, memory_order_relaxed);
}

uint64_t berth__whole_joined(const struct berth_zone *zone)
{
	uint64_t chunks = berth__pages(zone->pageblock_order) >> berth__chunk_order(zone);
	uint64_t ones = ~0ull >> (64 - 8 * chunks) & 0x0101010101010101u;

	return berth__has_chunks(zone) ? (ones << berth__chunk_order(zone)) - 1 : 0;
}

void berth__account_used_locked(struct berth_zone *zone, berth_idx_t idx, unsigned order, int sign)
{
	berth_idx_t size = berth__pages(zone->pageblock_order);
	berth_idx_t end = idx + berth__pages(order);

	if (!order)
		return;
	for (; idx < end; idx += size) {
		struct berth_pageblock *pageblock = berth__pageblock(zone, idx);
		uint32_t joined = berth__nr_joined(pageblock);

		if (order >= zone->pageblock_order) {
			BERTH_ASSERT(zone, joined == (sign > 0 ? 0 : size - 1), joined, size);
			berth__set_joined(zone, pageblock, sign > 0);
		} else {
			joined += sign > 0 ? berth__pages(order) - 1 : 1 - berth__pages(order);
			BERTH_ASSERT(zone, joined < size, joined, size);
			atomic_store_explicit(&pageblock->nr_joined, joined, memory_order_relaxed);
			if (berth__has_chunks(zone))
				count_chunks(zone, pageblock, idx, berth__pages(order), sign);
		}
		berth__stale_locked(zone, pageblock);
	}
}

void berth__account_cached_pageblock(struct berth_zone *zone, berth_idx_t idx, bool whole)
{
	struct berth_pageblock *pageblock = berth__pageblock(zone, idx);

	berth__set_joined(zone, pageblock, whole);
	berth__stale(zone, pageblock);
}

void berth__account_pinned(struct berth_zone *zone, berth_idx_t head, unsigned order, int sign)
{
	berth_idx_t size = berth__pages(zone->pageblock_order);
	berth_idx_t end = head + berth__pages(order);

	atomic_fetch_add_explicit(&zone->pinned_blocks, sign > 0 ? 1 : UINT64_MAX,
				  memory_order_relaxed);
	for (berth_idx_t idx = head; idx < end; idx += size) {
		struct berth_pageblock *pageblock = berth__pageblock(zone, idx);

		atomic_fetch_add_explicit(&pageblock->nr_pinned, sign > 0 ? 1 : UINT32_MAX,
					  memory_order_release);
		berth__stale(zone, pageblock);
	}
}

static void count_discardable(struct berth_discardables *discardables, enum berth_discardable kind,
			      uint32_t pages, int sign)
{
	if (kind == BERTH_DISCARD_NOT)
		return;
	atomic_fetch_add_explicit(&discardables->pages[kind], sign > 0 ? pages : -pages,
				  memory_order_relaxed);
	atomic_fetch_add_explicit(&discardables->blocks[kind], sign > 0 ? 1 : UINT32_MAX,
				  memory_order_relaxed);
}

void berth__account_discardable(struct berth_zone *zone, berth_idx_t idx, unsigned order,
				enum berth_discardable was, enum berth_discardable is)
{
	unsigned shift = zone->pageblock_order;
	berth_idx_t end = idx + berth__pages(order);

	if (was == is)
		return;
	for (berth_idx_t at = idx; at < end; at += berth__pages(shift)) {
		struct berth_discardables *discardables = &zone->discardables[at >> shift];
		uint32_t pages = berth__pages(order < shift ? order : shift);

		count_discardable(discardables, was, pages, -1);
		count_discardable(discardables, is, pages, 1);
		/* A refreshment either sees this, or its mark taken away is seen. */
		atomic_thread_fence(memory_order_seq_cst);
		berth__stale_locked(zone, berth__pageblock(zone, at));
	}
}
