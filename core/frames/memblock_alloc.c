/* SPDX-License-Identifier: MIT */
/*
 * Memblock: choosing a free block, from the top down or from the bottom up.
 *
 * Complexity: O(free ranges * log regions) for each of the up to eight rounds: with the lower bound
 * and without, in mirrored memory and in any, on the node and on any.
 */
#include <berth/memblock.h>

#include "core/internal.h"

#define DEFAULT_ALIGN_BYTES 64u

static berth_phys_t end_of(const struct berth_memblock_region *region)
{
	return region->base + region->size_bytes;
}

static berth_phys_t lower(berth_phys_t a, berth_phys_t b)
{
	return a < b ? a : b;
}

static berth_phys_t higher(berth_phys_t a, berth_phys_t b)
{
	return a > b ? a : b;
}

/* What a search looks for, after the request's defaults are filled in. */
struct search {
	uint64_t size_bytes, align_bytes;
	berth_phys_t min, max;
	uint32_t node;
	bool only_mirror;
};

static bool is_wanted(const struct berth_memblock *memblock, const struct search *search,
		      const struct berth_memblock_region *range)
{
	return (search->node == BERTH_MEMBLOCK_ANY_NODE || search->node == range->node) &&
	       (!search->only_mirror || (range->flags & BERTH_MEMBLOCK_MIRROR)) &&
	       !(memblock->movable_node && (range->flags & BERTH_MEMBLOCK_HOTPLUG));
}

static bool search_up(const struct berth_memblock *memblock, const struct search *search,
		      berth_phys_t *base)
{
	struct berth_memblock_region range;
	uint64_t mask = search->align_bytes - 1;

	for (berth_phys_t at = search->min; berth_memblock_next_free(memblock, &at, &range);) {
		berth_phys_t end = lower(end_of(&range), search->max),
			     from = (range.base + mask) & ~mask;

		if (range.base >= search->max)
			return false;
		if (from < range.base || from >= end || end - from < search->size_bytes ||
		    !is_wanted(memblock, search, &range))
			continue;
		*base = from;
		return true;
	}
	return false;
}

static bool search_down(const struct berth_memblock *memblock, const struct search *search,
			berth_phys_t *base)
{
	struct berth_memblock_region range;

	for (berth_phys_t at = search->max; berth_memblock_previous_free(memblock, &at, &range);) {
		berth_phys_t end = end_of(&range), from = higher(range.base, search->min), place;

		if (end <= search->min)
			return false;
		if (end - from < search->size_bytes || !is_wanted(memblock, search, &range))
			continue;
		place = (end - search->size_bytes) & ~(search->align_bytes - 1);
		if (place < from)
			continue;
		*base = place;
		return true;
	}
	return false;
}

static bool find(const struct berth_memblock *memblock, const struct search *search,
		 berth_phys_t *base)
{
	return memblock->bottom_up ? search_up(memblock, search, base) :
				     search_down(memblock, search, base);
}

int berth_memblock_find(const struct berth_memblock *memblock,
			const struct berth_memblock_request *request, berth_phys_t *base)
{
	struct search search;
	bool other_node, below;

	if (!request || !base || !request->size_bytes ||
	    (request->align_bytes & (request->align_bytes - 1)) ||
	    (request->flags & ~(BERTH_MEMBLOCK_EXACT_NODE | BERTH_MEMBLOCK_PREFER_MIN)))
		return -BERTH_EINVAL;
	search = (struct search){
		.size_bytes = request->size_bytes,
		.align_bytes = request->align_bytes ? request->align_bytes : DEFAULT_ALIGN_BYTES,
		.min = higher(request->min, BERTH_PAGE_SIZE), /* 0 is no place for anything */
		.max = request->max ? request->max : memblock->limit,
	};
	other_node = request->node != BERTH_MEMBLOCK_ANY_NODE &&
		     !(request->flags & BERTH_MEMBLOCK_EXACT_NODE);
	below = (request->flags & BERTH_MEMBLOCK_PREFER_MIN) && search.min > BERTH_PAGE_SIZE;
	for (unsigned low = 0; low <= below; low++) {
		if (low)
			search.min = BERTH_PAGE_SIZE;
		for (unsigned any = !memblock->has_mirror; any < 2; any++) {
			search.only_mirror = !any;
			search.node = request->node;
			if (find(memblock, &search, base))
				return 0;
			search.node = BERTH_MEMBLOCK_ANY_NODE;
			if (other_node && find(memblock, &search, base))
				return 0;
		}
	}
	return -BERTH_ENOMEM;
}

int berth_memblock_alloc(struct berth_memblock *memblock,
			 const struct berth_memblock_request *request, berth_phys_t *base)
{
	berth_phys_t found;
	int error;

	if (memblock->handed_over)
		return -BERTH_EBUSY;
	error = berth_memblock_find(memblock, request, base ? &found : NULL);
	if (!error)
		error = berth_memblock_reserve(memblock, found, request->size_bytes);
	if (!error)
		*base = found;
	return error;
}
