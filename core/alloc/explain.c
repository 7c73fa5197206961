/* SPDX-License-Identifier: MIT */
/*
 * Why there is no range for a claim: claims in place, pins, or another claim in progress; and who.
 *
 * I1  "Claims leave no room" is only said when no range could be had without pins either.
 *
 * Complexity: one or two searches (range.c), O(pageblocks) of the range that would be cheapest without its
 * pins, O(blocks) in those that have pins, and a question to an owner for each of BERTH_MAX_BLOCKERS.
 */
#include "core/alloc/internal.h"

static void add_blocker(struct berth_zone *zone, berth_idx_t head,
			struct berth_claim_report *report)
{
	berth__blocked_by(zone, head, report);
	report->busy_blocks++;
	report->blockers[report->nr_blockers++] = (struct berth_blocker){
		report->blocker_pfn,
		report->blocker_pages,
		report->blocker_owner,
		NULL,
	};
}

/* The pinned blocks of [idx, end), in one pageblock. */
static void list_pinned(struct berth_zone *zone, berth_idx_t idx, berth_idx_t end,
			struct berth_claim_report *report)
{
	berth_lock(&zone->lock);
	while (idx < end && report->nr_blockers < BERTH_MAX_BLOCKERS) {
		uint32_t tag;
		berth_idx_t head = berth__find(zone, idx, &tag);
		const struct berth_frame *frame;

		if (head == BERTH_IDX_NONE) {
			idx++;
			continue;
		}
		frame = &zone->frames[head];
		if (berth__tag_kind(tag) == BERTH_FRAME_USED &&
		    atomic_load_explicit(&frame->refcount, memory_order_relaxed) > 1)
			add_blocker(zone, head, report);
		idx = head + berth__pages(berth__tag_order(tag));
	}
	berth_unlock(&zone->lock);
}

static void list_blockers(struct berth_zone *zone, berth_idx_t start, berth_idx_t end,
			  struct berth_claim_report *report)
{
	berth_idx_t size = berth__pages(zone->pageblock_order);

	for (berth_idx_t idx = start; idx < end && report->nr_blockers < BERTH_MAX_BLOCKERS;) {
		berth_idx_t stop = (idx & ~(size - 1)) + size;

		if (stop > end)
			stop = end;
		if (atomic_load_explicit(&berth__pageblock(zone, idx)->nr_pinned,
					 memory_order_relaxed))
			list_pinned(zone, idx, stop, report);
		idx = stop;
	}
}

/* Each one's holder; the first is the blocker at last. */
static void ask_holders(struct berth_zone *zone, struct berth_claim_report *report)
{
	for (unsigned i = report->nr_blockers; i-- > 0;) {
		struct berth_blocker *blocker = &report->blockers[i];

		report->blocker_pfn = blocker->pfn;
		report->blocker_pages = blocker->nr_pages;
		report->blocker_owner = blocker->owner;
		report->blocker_holder = NULL;
		berth__ask_holder(zone, report);
		blocker->holder = report->blocker_holder;
	}
}

int berth__explain_range(const struct berth_search *search, struct berth_claim_report *report)
{
	struct berth_zone *zone = search->area->zone;
	struct berth_search probe = *search;
	berth_idx_t start;
	bool changed = false;

	probe.free_only = false;
	probe.busy_clock = 0;
	if (search->free_only && berth__choose_range(&probe, &start)) {
		report->reason = BERTH_CLAIM_NOT_FREE;
		return -BERTH_EAGAIN; /* moving borrowers would make room */
	}
	probe.ignore_pins = true;
	if (!berth__choose_range(&probe, &start)) {
		report->reason = BERTH_CLAIM_NO_RUN;
		return -BERTH_ENOSPC;
	}
	report->nr_blockers = 0;
	if (report->blocker_pfn != BERTH_PFN_NONE) { /* known from a try */
		report->blockers[report->nr_blockers++] =
			(struct berth_blocker){ report->blocker_pfn, report->blocker_pages,
						report->blocker_owner, report->blocker_holder };
		return -BERTH_EBUSY;
	}
	list_blockers(zone, start, start + search->nr, report);
	if (!report->nr_blockers) {
		berth_lock(&zone->lock);
		changed = !berth__isolation_in_locked(zone, start, start + search->nr);
		berth_unlock(&zone->lock);
		report->blocker_pfn = berth__pfn(zone, start);
		report->blocker_pages = search->nr;
		report->blocker_owner = "another claim in progress";
		report->reason = BERTH_CLAIM_OTHER_CLAIM;
	}
	ask_holders(zone, report);
	return changed ? 1 : -BERTH_EBUSY;
}
