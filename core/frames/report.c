/* SPDX-License-Identifier: MIT */
/*
 * Looking at frames from outside, for reports, tools and tests.
 */
#include "core/frames/internal.h"

char berth_frame_state(struct berth_zone *zone, berth_pfn_t pfn, berth_pfn_t *head, unsigned *order)
{
	static const char names[] = { '-', 'f', 'p', 'u', 'c', 'r' };
	berth_idx_t idx, at;
	uint32_t tag = 0;
	bool kept = false;

	if (head)
		*head = pfn;
	if (order)
		*order = 0;
	if (!berth__idx(zone, pfn, 1, &idx))
		return '-';
	berth_lock(&zone->lock);
	at = berth__find(zone, idx, &tag);
	kept = berth__tag_kind(tag) == BERTH_FRAME_CLAIMED && berth__is_kept(zone, idx);
	berth_unlock(&zone->lock);
	if (at == BERTH_IDX_NONE)
		return '-';
	if (head)
		*head = berth__pfn(zone, at);
	if (order)
		*order = berth__tag_order(tag);
	return kept ? 'p' : names[berth__tag_kind(tag)];
}

bool berth_frame_owner(struct berth_zone *zone, berth_pfn_t pfn, unsigned *owner, uint64_t *cookie)
{
	berth_idx_t idx, head;
	uint32_t tag = 0;

	if (!berth__idx(zone, pfn, 1, &idx))
		return false;
	berth_lock(&zone->lock);
	head = berth__find(zone, idx, &tag);
	if (head != BERTH_IDX_NONE) {
		*owner = berth__tag_owner(tag);
		*cookie = berth__cookie(zone, head) + (idx - head);
	}
	berth_unlock(&zone->lock);
	return berth__tag_kind(tag) == BERTH_FRAME_USED;
}
