/* SPDX-License-Identifier: MIT */
/*
 * The buddy lists: free blocks of 2^order frames, aligned to their size, one list for each set
 * (migratetype or CMA area) and order.
 *
 * I1  A FREE head is in exactly one list: that of its pageblock's set and its order.
 * I2  Merging is maximal: no two free buddies of one set stand side by side below max_order.
 * I3  A block larger than a pageblock covers pageblocks of one set only.
 * I4  Bit k of a set's `nonempty` says whether its list of order k has a block.
 *
 * Complexity: alloc finds the order by one bit scan, then O(max_order) to split; free O(max_order)
 * to merge, and stops at the first buddy that isn't free. All under the zone lock.
 */
#include "core/internal.h"

static struct berth_free_list *list_of(const struct berth_zone *zone, unsigned set, unsigned order)
{
	return &zone->lists[set * (zone->max_order + 1) + order];
}

static void list_add(struct berth_zone *zone, unsigned set, unsigned order, berth_idx_t idx)
{
	struct berth_free_list *list = list_of(zone, set, order);
	struct berth_frame *frame = &zone->frames[idx];

	frame->prev = BERTH_IDX_NONE;
	frame->next = list->head;
	if (list->head != BERTH_IDX_NONE)
		zone->frames[list->head].prev = idx;
	list->head = idx;
	list->nr_blocks++;
	zone->sets[set].nonempty |= 1u << order;
	berth__set_tag(frame, BERTH_TAG(BERTH_FRAME_FREE, order));
}

/* Leaves the head's tag zero. */
static void list_del(struct berth_zone *zone, unsigned set, unsigned order, berth_idx_t idx)
{
	struct berth_free_list *list = list_of(zone, set, order);
	struct berth_frame *frame = &zone->frames[idx];

	if (frame->prev != BERTH_IDX_NONE) {
		BERTH_ASSERT(zone, zone->frames[frame->prev].next == idx,
			     zone->frames[frame->prev].next, idx);
		zone->frames[frame->prev].next = frame->next;
	} else {
		BERTH_ASSERT(zone, list->head == idx, list->head, idx);
		list->head = frame->next;
	}
	if (frame->next != BERTH_IDX_NONE)
		zone->frames[frame->next].prev = frame->prev;
	list->nr_blocks--;
	if (list->head == BERTH_IDX_NONE)
		zone->sets[set].nonempty &= ~(1u << order);
	berth__set_tag(frame, 0);
}

/*
 * A pageblock of an immovable type that is wholly free is nobody's: it becomes MOVABLE again, so
 * that it can merge with its neighbours.
 */
static unsigned give_up_type(struct berth_zone *zone, berth_idx_t idx, unsigned set)
{
	struct berth_pageblock *pageblock = berth__pageblock(zone, idx);
	berth_idx_t size = berth__pages(zone->pageblock_order);

	if (set != BERTH_UNMOVABLE && set != BERTH_RECLAIMABLE)
		return set;
	berth__account_free_locked(zone, idx, size, -1);
	berth__pageblock_home_locked(zone, pageblock, BERTH_MOVABLE);
	berth__account_free_locked(zone, idx, size, 1);
	return BERTH_MOVABLE;
}

/* One block within pageblocks of one set. */
static void free_and_merge(struct berth_zone *zone, berth_idx_t idx, unsigned order)
{
	unsigned set = berth__pageblock_set(berth__pageblock(zone, idx));

	berth__account_free_locked(zone, idx, berth__pages(order), 1);
	berth__set_tag(&zone->frames[idx], 0);
	for (; order < zone->max_order; order++) {
		berth_idx_t buddy = idx ^ berth__pages(order);

		if (order == zone->pageblock_order)
			set = give_up_type(zone, idx, set);

		/* Indices below `first` are never FREE; a block beyond `end` would be cut off. */
		if (buddy >= zone->end ||
		    berth__tag(&zone->frames[buddy]) != BERTH_TAG(BERTH_FRAME_FREE, order))
			break;
		if (order >= zone->pageblock_order &&
		    berth__pageblock_set(berth__pageblock(zone, buddy)) != set)
			break;
		list_del(zone, set, order, buddy);
		idx &= ~berth__pages(order);
	}
	if (order == zone->pageblock_order) /* where that is the largest order */
		set = give_up_type(zone, idx, set);
	list_add(zone, set, order, idx);
}

void berth__buddy_free_locked(struct berth_zone *zone, berth_idx_t idx, unsigned order)
{
	berth_idx_t size = berth__pages(zone->pageblock_order);

	if (BERTH_LIKELY(order <= zone->pageblock_order)) {
		free_and_merge(zone, idx, order);
		return;
	}
	/* One of its pageblocks may be isolated: each part goes to its own set, and merges. */
	for (berth_idx_t at = 0; at < berth__pages(order); at += size)
		free_and_merge(zone, idx + at, zone->pageblock_order);
}

void berth__buddy_free_range_locked(struct berth_zone *zone, berth_idx_t start, berth_idx_t end)
{
	while (start < end) {
		unsigned order = berth__largest_order(start, end, zone->pageblock_order);

		berth__buddy_free_locked(zone, start, order);
		start += berth__pages(order);
	}
}

berth_idx_t berth__buddy_alloc_locked(struct berth_zone *zone, unsigned set, unsigned order)
{
	uint32_t fitting = zone->sets[set].nonempty >> order << order;
	berth_idx_t idx;
	unsigned from;

	if (!fitting)
		return BERTH_IDX_NONE;
	from = (unsigned)__builtin_ctz(fitting);
	idx = list_of(zone, set, from)->head;
	list_del(zone, set, from, idx);
	berth__account_free_locked(zone, idx, berth__pages(order), -1);
	while (from-- > order)
		list_add(zone, set, from, idx + berth__pages(from));
	return idx;
}

void berth__buddy_expand_locked(struct berth_zone *zone, berth_idx_t idx, unsigned from,
				unsigned order)
{
	unsigned set = berth__pageblock_set(berth__pageblock(zone, idx));

	while (from-- > order) {
		berth__account_free_locked(zone, idx + berth__pages(from), berth__pages(from), 1);
		list_add(zone, set, from, idx + berth__pages(from));
	}
}

/* Puts [start, end), cut out of a free block, back into the lists: nothing to merge with. */
static void add_pieces(struct berth_zone *zone, unsigned set, berth_idx_t start, berth_idx_t end)
{
	while (start < end) {
		unsigned order = berth__largest_order(start, end, zone->max_order);

		list_add(zone, set, order, start);
		start += berth__pages(order);
	}
}

berth_idx_t berth__buddy_carve_locked(struct berth_zone *zone, berth_idx_t head, berth_idx_t start,
				      berth_idx_t end)
{
	unsigned order = berth__tag_order(berth__tag(&zone->frames[head]));
	unsigned set = berth__pageblock_set(berth__pageblock(zone, head));
	berth_idx_t block_end = head + berth__pages(order);

	if (start < head)
		start = head;
	if (end > block_end)
		end = block_end;
	BERTH_ASSERT(zone, start < end, start, end);
	list_del(zone, set, order, head);
	berth__account_free_locked(zone, start, end - start, -1);
	add_pieces(zone, set, head, start);
	add_pieces(zone, set, end, block_end);
	return end - start;
}
