/* SPDX-License-Identifier: MIT */
/*
 * The longest runs of free, and of claimable frames of an area: for statistics, and for the report of a
 * claim that failed.
 *
 * Whole pageblocks go by the summaries. A pageblock that is partly of the kind is walked block by block
 * if the run that ends in it, or one that begins there, may beat the longest so far: its counters say
 * how long they can be.
 *
 * Complexity: O(pageblocks / 64) where whole pageblocks decide; O(blocks) of each pageblock walked. The
 * zone lock is held for one of those, or one group, at a time.
 */
#include "core/alloc/internal.h"
#include "core/frames/summary.h"

struct search {
	struct berth_cma *area;
	struct berth_zone *zone;
	enum berth_run_kind kind; /* FREE, or EMPTIABLE: what can be claimed */
	uint32_t first, end;      /* the area's pageblocks */
	uint32_t edges;           /* pageblocks that may still be walked */
	uint64_t run, best;       /* frames: up to the present pageblock; the longest */
};

static bool fits(const struct search *search, uint32_t tag, uint32_t refs)
{
	enum berth_frame_kind kind = berth__tag_kind(tag);

	if (search->kind == BERTH_RUN_FREE)
		return kind == BERTH_FRAME_FREE;
	return kind != BERTH_FRAME_CLAIMED && (kind != BERTH_FRAME_USED || refs <= 1);
}

static void extend(struct search *search, uint64_t nr, bool more)
{
	search->run = more ? search->run + nr : 0;
	if (search->run > search->best)
		search->best = search->run;
}

static void walk_pageblock(struct search *search, uint32_t number)
{
	struct berth_zone *zone = search->zone;
	berth_idx_t idx = number << zone->pageblock_order;
	berth_idx_t end = idx + berth__pages(zone->pageblock_order);

	berth_lock(&zone->lock);
	while (idx < end) {
		uint32_t tag, refs = 0;
		berth_idx_t head = berth__find(zone, idx, &tag), next = idx + 1;

		if (head != BERTH_IDX_NONE) {
			refs = atomic_load_explicit(&zone->frames[head].refcount,
						    memory_order_relaxed);
			next = head + berth__pages(berth__tag_order(tag));
		}
		if (next > end)
			next = end;
		extend(search, next - idx, fits(search, tag, refs));
		idx = next;
	}
	berth_unlock(&zone->lock);
}

/* Frames of the kind that a pageblock which isn't wholly of it can have in one run. */
static uint64_t most_in(const struct search *search, uint32_t number)
{
	const struct berth_load *load = &search->zone->loads[number];
	const struct berth_summary *summary = &search->zone->groups[number / BERTH_GROUP].summary;

	if (search->kind != BERTH_RUN_FREE)
		return load->open;
	return load->free < summary->free_run ? load->free : summary->free_run;
}

/* A pageblock between two runs of whole ones. `ahead`: frames that a run beginning in it may have
 * behind it. */
static void look_at(struct search *search, uint32_t number, uint64_t ahead)
{
	uint64_t most = most_in(search, number);

	if ((search->run + most > search->best || most + ahead > search->best) && search->edges) {
		search->edges--;
		walk_pageblock(search, number);
	} else {
		search->run = 0;
	}
}

/* The pageblocks [first, end), none of which is wholly of the kind; `whole` pageblocks that are follow. */
static void look_between(struct search *search, uint32_t first, uint32_t end, uint32_t whole)
{
	const struct berth_zone *zone = search->zone;
	unsigned shift = zone->pageblock_order;

	for (uint32_t number = first; number < end; number++) {
		uint64_t ahead = number + 1 < end ? most_in(search, number + 1) :
						    (uint64_t)whole << shift;

		/* A group of which no two pageblocks together can beat it; its last one may. */
		if (search->kind == BERTH_RUN_FREE && number % BERTH_GROUP == 0 &&
		    number + BERTH_GROUP <= end &&
		    2ull * zone->groups[number / BERTH_GROUP].summary.free_run <= search->best &&
		    search->run + zone->groups[number / BERTH_GROUP].summary.free_run <=
			    search->best) {
			search->run = 0;
			number += BERTH_GROUP - 2;
			continue;
		}
		if (number + 1 == end && end + whole < search->end)
			ahead += most_in(search, end + whole);
		look_at(search, number, ahead);
	}
}

static uint64_t longest(struct search *search)
{
	unsigned shift = search->zone->pageblock_order;
	struct berth_run_walk walk = {
		search->zone, search->kind, search->first, search->end, 1, false, 0
	};
	uint32_t at = search->first, first, end;

	while (berth__next_run(&walk, &first, &end)) { /* the longest of whole pageblocks */
		search->best = (uint64_t)(end - first) << shift;
		walk.least = end - first + 1;
	}
	if (search->best < (uint64_t)(search->end - search->first) << shift) {
		walk = (struct berth_run_walk){
			search->zone, search->kind, search->first, search->end, 1, false, 0
		};
		while (berth__next_run(&walk, &first, &end)) {
			look_between(search, at, first, end - first);
			extend(search, (uint64_t)(end - first) << shift, true);
			at = end;
		}
		look_between(search, at, search->end, 0);
	}
	return search->best;
}

void berth__largest_runs(struct berth_cma *area, uint32_t edges, uint64_t *free,
			 uint64_t *claimable)
{
	struct berth_zone *zone = area->zone;
	struct search search = { .area = area,
				 .zone = zone,
				 .kind = BERTH_RUN_FREE,
				 .first = area->start >> zone->pageblock_order,
				 .end = ((area->end - 1) >> zone->pageblock_order) + 1,
				 .edges = edges };
	struct search other = search;

	other.kind = BERTH_RUN_EMPTIABLE;
	berth__kept_send_home(zone, area->start, area->end);
	berth_mutex_lock(&zone->search_lock);
	berth__refresh(zone, search.first, search.end);
	*free = longest(&search);
	*claimable = longest(&other);
	berth_mutex_unlock(&zone->search_lock);
}
