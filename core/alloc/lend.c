/* SPDX-License-Identifier: MIT */
/*
 * How an area lends, changed while it is in use. What the policies mean is in frames/zone.c
 * (berth__choose_set_locked), what an area doesn't lend is counted in frames/pageblock.c.
 *
 * I1  After a change, no frame of the area that a CPU caches was cached by the former policy.
 *
 * Complexity: O(pageblocks of the area), and a drain.
 */
#include "core/frames/internal.h"

int berth_cma_set_lend(struct berth_cma *area, enum berth_lend_policy lend, uint64_t lend_min_pages)
{
	struct berth_zone *zone = area->zone;

	if (lend > BERTH_LEND_OFF)
		return -BERTH_EINVAL;
	berth_lock(&zone->lock);
	berth__lend_locked(zone, area, lend, lend_min_pages);
	berth_unlock(&zone->lock);
	/* I1: after the change, so that whoever looked at a pageblock before it is through. */
	berth__pcp_drain_range(zone, area->start, area->end);
	return 0;
}
