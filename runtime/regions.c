/* SPDX-License-Identifier: MIT */
/*
 * Regions: which addresses of a space berth_map() has given out.
 *
 * I1  Sorted by page; no two overlap; all lie in the space.
 *
 * Complexity: O(regions) an operation. Programs map few, large regions; their heap does the rest.
 */
#include "runtime/internal.h"

#include <string.h>

static uint64_t end_of(const struct berth_region *region)
{
	return region->page + region->nr_pages;
}

int berth__region_add_locked(struct berth_regions *regions, uint64_t align_pages,
			     struct berth_region *region)
{
	uint64_t from = 0, nr_pages = region->nr_pages;
	uint32_t i;

	if (regions->nr == BERTH_MAX_REGIONS || nr_pages > regions->nr_pages)
		return -BERTH_ENOMEM;
	for (i = 0; i <= regions->nr; i++) {
		uint64_t limit = i < regions->nr ? regions->sorted[i].page : regions->nr_pages;

		from = (from + align_pages - 1) & ~(align_pages - 1);
		if (from <= limit && limit - from >= nr_pages)
			break;
		if (i == regions->nr)
			return -BERTH_ENOMEM;
		from = end_of(&regions->sorted[i]);
	}
	memmove(&regions->sorted[i + 1], &regions->sorted[i],
		(regions->nr - i) * sizeof(regions->sorted[0]));
	region->page = from;
	regions->sorted[i] = *region;
	regions->nr++;
	return 0;
}

/* Index of exactly this region, or nr. */
static uint32_t find(const struct berth_regions *regions, uint64_t page, uint64_t nr_pages)
{
	uint32_t low = 0, high = regions->nr;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (regions->sorted[middle].page < page)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < regions->nr && regions->sorted[low].page == page &&
	    regions->sorted[low].nr_pages == nr_pages)
		return low;
	return regions->nr;
}

int berth__region_grow_locked(struct berth_regions *regions, uint64_t page, uint64_t old_pages,
			      uint64_t new_pages)
{
	uint32_t i = find(regions, page, old_pages);
	uint64_t limit = i + 1 < regions->nr ? regions->sorted[i + 1].page : regions->nr_pages;

	if (i == regions->nr)
		return -BERTH_EINVAL;
	if (new_pages > limit - page)
		return -BERTH_ENOMEM;
	regions->sorted[i].nr_pages = new_pages;
	return 0;
}

int berth__region_remove_locked(struct berth_regions *regions, uint64_t page, uint64_t nr_pages)
{
	uint32_t i = find(regions, page, nr_pages);

	if (i == regions->nr)
		return -BERTH_EINVAL;
	regions->nr--;
	memmove(&regions->sorted[i], &regions->sorted[i + 1],
		(regions->nr - i) * sizeof(regions->sorted[0]));
	return 0;
}

const struct berth_region *berth__region_find_locked(const struct berth_regions *regions,
						     uint64_t page, uint64_t nr_pages)
{
	uint32_t i = find(regions, page, nr_pages);

	return i == regions->nr ? NULL : &regions->sorted[i];
}
