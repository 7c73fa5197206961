/* SPDX-License-Identifier: MIT */
/*
 * The buddy lists: free blocks of 2^order frames, aligned to their size. Blocks of a pageblock and more
 * are in lists of their set (migratetype or CMA area), linked through their first pageblocks. Smaller
 * ones are bits of their pageblock.
 *
 * The bits are numbered like the nodes of a heap: the block of 2^order frames at `offset` of its
 * pageblock has number (2^pageblock_order + offset) >> order. So its buddy is number ^ 1, both
 * together are number / 2, and the numbers of an order are a range. Freeing and merging touch these
 * bits, two cache lines for 512 frames, and the heads that change; no neighbour in any list.
 *
 * I1  A FREE head is in exactly one list: that of its order in its set, or its pageblock's bits; or it is
 *     a pageblock of an area's stock (stock.c).
 * I2  Merging is maximal: no two free buddies of one set stand side by side below max_order.
 * I3  A block larger than a pageblock covers pageblocks of one set only. Areas have none: there,
 *     pageblocks that are free don't merge.
 * I4  Bit k of `nonempty`, of a set and of a pageblock, says whether it has a block of order k.
 * I5  A pageblock that has blocks of its own is in the bucket of its set that its free frames
 *     and its largest block say; others are in none.
 *
 * What is allocated comes from the fullest pageblock that has it, so memory that is used and given
 * back again and again gathers, and the emptier pageblocks become wholly free.
 *
 * Complexity: alloc finds the pageblock and the order by bit scans, the block by one over
 * 2^pageblock_order / 64 words at most (8 by default), then O(max_order) to split; free
 * O(max_order) to merge, and stops at the first buddy that isn't free. A pageblock's runs of free frames are read off
 * its bits, whatever lies between them. All under the zone lock.
 */
#include "core/frames/internal.h"

static struct berth_free_list *list_of(const struct berth_zone *zone, unsigned set, unsigned order)
{
	return &zone->lists[set * (zone->max_order + 1) + order];
}

/* ---- A pageblock's own blocks ------------------------------------------------------------------- */

static uint32_t number_of(const struct berth_zone *zone, berth_idx_t idx, unsigned order)
{
	berth_idx_t size = berth__pages(zone->pageblock_order);

	return (size | (idx & (size - 1))) >> order;
}

static bool test_bit(const uint64_t *bits, uint32_t number)
{
	return bits[number / 64] >> number % 64 & 1;
}

static void change_bit(uint64_t *bits, uint32_t number)
{
	bits[number / 64] ^= 1ull << number % 64;
}

/* The lowest number of the order that has its bit; 0: none. `first`: the order's first number. */
static uint32_t lowest_bit(const uint64_t *bits, uint32_t first)
{
	if (first < 64) { /* all of the order are in one word */
		uint64_t word = bits[0] & (((1ull << first) - 1) << first);

		return word ? (uint32_t)__builtin_ctzll(word) : 0;
	}
	for (uint32_t word = first / 64; word < first / 32; word++)
		if (bits[word])
			return word * 64 + (uint32_t)__builtin_ctzll(bits[word]);
	return 0;
}

/* The first number of [from, end) that has its bit; `end`: none. All of them are of one order. */
static uint32_t next_bit(const uint64_t *bits, uint32_t from, uint32_t end)
{
	uint32_t at = from / 64;
	uint64_t word;

	if (from >= end)
		return end;
	word = bits[at] & ~0ull << from % 64;
	while (!word && (at + 1) * 64 < end)
		word = bits[++at];
	from = word ? at * 64 + (uint32_t)__builtin_ctzll(word) : end;
	return from < end ? from : end;
}

/* No block of the order is left. Most have few, in words anywhere: no branch for each. */
static bool no_bit(const uint64_t *bits, uint32_t first)
{
	uint64_t any = 0;

	if (first < 64)
		return !(bits[0] & (((1ull << first) - 1) << first));
	for (uint32_t word = first / 64; word < first / 32; word++)
		any |= bits[word];
	return !any;
}

static uint32_t first_number(const struct berth_zone *zone, unsigned order)
{
	return berth__pages(zone->pageblock_order - order);
}

/* ---- Lists and buckets -------------------------------------------------------------------------- */

static void count_block(struct berth_zone *zone, unsigned set, unsigned order)
{
	list_of(zone, set, order)->nr_blocks++;
	zone->sets[set].nonempty |= 1u << order;
}

static void uncount_block(struct berth_zone *zone, unsigned set, unsigned order)
{
	if (--list_of(zone, set, order)->nr_blocks == 0)
		zone->sets[set].nonempty &= ~(1u << order);
}

/* A block of a pageblock and more. */
static void link_block(struct berth_zone *zone, unsigned set, unsigned order, berth_idx_t idx)
{
	struct berth_free_list *list = list_of(zone, set, order);
	struct berth_pageblock *pageblock = berth__pageblock(zone, idx);
	uint32_t number = (uint32_t)(pageblock - zone->pageblocks);

	BERTH_ASSERT(zone, !pageblock->bucket, idx, pageblock->bucket);
	pageblock->prev = BERTH_IDX_NONE;
	pageblock->next = list->first;
	if (list->first != BERTH_IDX_NONE)
		zone->pageblocks[list->first].prev = number;
	list->first = number;
}

static void unlink_block(struct berth_zone *zone, unsigned set, unsigned order, berth_idx_t idx)
{
	struct berth_free_list *list = list_of(zone, set, order);
	struct berth_pageblock *pageblocks = zone->pageblocks;
	struct berth_pageblock *pageblock = berth__pageblock(zone, idx);
	uint32_t number = (uint32_t)(pageblock - pageblocks);

	if (pageblock->prev != BERTH_IDX_NONE) {
		BERTH_ASSERT(zone, pageblocks[pageblock->prev].next == number,
			     pageblocks[pageblock->prev].next, number);
		pageblocks[pageblock->prev].next = pageblock->next;
	} else {
		BERTH_ASSERT(zone, list->first == number, list->first, number);
		list->first = pageblock->next;
	}
	if (pageblock->next != BERTH_IDX_NONE)
		pageblocks[pageblock->next].prev = pageblock->prev;
}

/* Of a pageblock and more. */
static inline void list_add_large(struct berth_zone *zone, unsigned set, unsigned order,
				  berth_idx_t idx)
{
	link_block(zone, set, order, idx);
	count_block(zone, set, order);
	berth__set_tag(&zone->frames[idx], BERTH_TAG(BERTH_FRAME_FREE, order));
}

static void list_add(struct berth_zone *zone, unsigned set, unsigned order, berth_idx_t idx)
{
	if (order >= zone->pageblock_order) {
		list_add_large(zone, set, order, idx);
		return;
	}
	change_bit(berth__bits(zone, idx), number_of(zone, idx, order));
	berth__pageblock(zone, idx)->nonempty |= 1u << order;
	count_block(zone, set, order);
	berth__set_tag(&zone->frames[idx], BERTH_TAG(BERTH_FRAME_FREE, order));
}

/* Of a pageblock and more. Leaves the head's tag zero. */
static inline void list_del_large(struct berth_zone *zone, unsigned set, unsigned order,
				  berth_idx_t idx)
{
	unlink_block(zone, set, order, idx);
	uncount_block(zone, set, order);
	berth__set_tag(&zone->frames[idx], 0);
}

/* Leaves the head's tag zero. */
static void list_del(struct berth_zone *zone, unsigned set, unsigned order, berth_idx_t idx)
{
	uint64_t *bits = berth__bits(zone, idx);
	uint32_t number = number_of(zone, idx, order);

	if (order >= zone->pageblock_order) {
		list_del_large(zone, set, order, idx);
		return;
	}
	BERTH_ASSERT(zone, test_bit(bits, number), idx, order);
	change_bit(bits, number);
	if (no_bit(bits, first_number(zone, order)))
		berth__pageblock(zone, idx)->nonempty &= ~(1u << order);
	uncount_block(zone, set, order);
	berth__set_tag(&zone->frames[idx], 0);
}

static void set_orders(struct berth_list_set *set, unsigned density, uint32_t orders)
{
	atomic_store_explicit(&set->orders[density], orders, memory_order_relaxed);
}

static void count_pageblock(struct berth_list_set *set, unsigned density, uint32_t change)
{
	uint32_t nr = atomic_load_explicit(&set->nr_pageblocks[density], memory_order_relaxed);

	atomic_store_explicit(&set->nr_pageblocks[density], nr + change, memory_order_relaxed);
}

static void leave_bucket(struct berth_zone *zone, struct berth_pageblock *pageblock)
{
	unsigned set = berth__pageblock_set(pageblock), bucket = pageblock->bucket - 1u;

	count_pageblock(&zone->sets[set], bucket / 32, -1u);
	if (pageblock->prev != BERTH_IDX_NONE)
		zone->pageblocks[pageblock->prev].next = pageblock->next;
	else if (pageblock->next != BERTH_IDX_NONE)
		*berth__bucket(zone, set, bucket / 32, bucket % 32) = pageblock->next;
	else
		set_orders(&zone->sets[set], bucket / 32,
			   berth__bucket_orders(&zone->sets[set], bucket / 32) &
				   ~(1u << bucket % 32));
	if (pageblock->next != BERTH_IDX_NONE)
		zone->pageblocks[pageblock->next].prev = pageblock->prev;
	pageblock->bucket = 0;
}

/* First of the bucket: whoever is served from it now will be served from it next time as well. */
static void enter_bucket(struct berth_zone *zone, struct berth_pageblock *pageblock,
			 unsigned density, unsigned order)
{
	unsigned set = berth__pageblock_set(pageblock);
	uint32_t *first = berth__bucket(zone, set, density, order);
	uint32_t number = (uint32_t)(pageblock - zone->pageblocks);
	uint32_t orders = berth__bucket_orders(&zone->sets[set], density);

	count_pageblock(&zone->sets[set], density, 1);
	pageblock->prev = BERTH_IDX_NONE;
	pageblock->next = BERTH_IDX_NONE;
	if (orders >> order & 1) {
		pageblock->next = *first;
		zone->pageblocks[*first].prev = number;
	}
	*first = number;
	set_orders(&zone->sets[set], density, orders | 1u << order);
	pageblock->bucket = (uint16_t)berth__bucket_number(density, order);
}

static BERTH_COLD void change_bucket(struct berth_zone *zone, struct berth_pageblock *pageblock,
				     unsigned bucket)
{
	if (pageblock->bucket)
		leave_bucket(zone, pageblock);
	if (bucket)
		enter_bucket(zone, pageblock, (bucket - 1) / 32, (bucket - 1) % 32);
	berth__pageblock_route_locked(zone, pageblock);
}

/* Puts the pageblock into the bucket that fits it now. For whoever changes its blocks or counters. */
static inline void rebucket(struct berth_zone *zone, struct berth_pageblock *pageblock)
{
	unsigned density = 0, bucket = 0;

	if (pageblock->nonempty) {
		density = berth__density(zone, berth__nr_free(pageblock));
		bucket = berth__bucket_number(density,
					      31 - (unsigned)__builtin_clz(pageblock->nonempty));
	}
	if (bucket != pageblock->bucket)
		change_bucket(zone, pageblock, bucket);
	else if (density == BERTH_DENSITIES - 1)
		berth__pageblock_route_locked(zone, pageblock);
}

/* The fullest pageblock of the set with a block of the order or more; NULL: there is none. */
static struct berth_pageblock *fullest(const struct berth_zone *zone, unsigned set, unsigned order)
{
	const struct berth_list_set *lists = &zone->sets[set];

	for (unsigned density = 0; density < BERTH_DENSITIES; density++) {
		uint32_t fitting = berth__bucket_orders(lists, density) >> order << order;

		if (fitting)
			return &zone->pageblocks[*berth__bucket(zone, set, density,
								(unsigned)__builtin_ctz(fitting))];
	}
	return NULL;
}

/* ---- Freeing ------------------------------------------------------------------------------------ */

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

/* Blocks that are freed together: what they change in the counters of their set is written there once. */
struct freeing {
	unsigned set;
	uint32_t frames;  /* they have */
	uint32_t changed; /* bit k: blocks[k] counts */
	/* So many more of each order, below a pageblock's. */
	int32_t blocks[BERTH_MAX_ORDER_LIMIT + 1];
};

static inline void freeing_begin(struct freeing *freeing)
{
	freeing->set = 0;
	freeing->frames = 0;
	freeing->changed = 0;
}

static void count_all(struct berth_zone *zone, struct freeing *freeing)
{
	if (freeing->frames)
		berth__account_set_free_locked(zone, freeing->set, freeing->frames, 1);
	for (uint32_t left = freeing->changed; left; left &= left - 1) {
		unsigned order = (unsigned)__builtin_ctz(left);
		struct berth_free_list *list = list_of(zone, freeing->set, order);

		list->nr_blocks += (uint32_t)freeing->blocks[order];
		zone->sets[freeing->set].nonempty &= ~(1u << order);
		zone->sets[freeing->set].nonempty |= (uint32_t)(list->nr_blocks != 0) << order;
	}
	freeing->frames = 0;
	freeing->changed = 0;
}

/* What is freed from now on is of this set. */
static inline void change_set(struct berth_zone *zone, struct freeing *freeing, unsigned set)
{
	if (set == freeing->set)
		return;
	count_all(zone, freeing);
	freeing->set = set;
}

/* A block of 2^order frames less, or more. */
static void count_later(struct freeing *freeing, unsigned order, int change)
{
	freeing->blocks[order] = (freeing->changed >> order & 1 ? freeing->blocks[order] : 0) +
				 change;
	freeing->changed |= 1u << order;
}

/* The bit of a block that merges. The order's other blocks, if there are any, are most often near. */
static inline void take_bit(struct berth_pageblock *pageblock, uint64_t *bits, uint32_t number,
			    uint32_t first, unsigned order)
{
	uint64_t word = bits[number / 64] ^ 1ull << number % 64;

	bits[number / 64] = word;
	if ((number < 64 || !word) && no_bit(bits, first))
		pageblock->nonempty &= ~(1u << order);
}

/*
 * Takes the buddies of a block inside a pageblock away, as long as there are any. Returns the order that
 * it has then. Locals: what is written here might otherwise be the zone's, which would be read again.
 */
static inline unsigned merge_inside(struct berth_zone *zone, struct freeing *freeing,
				    struct berth_pageblock *pageblock, berth_idx_t *at,
				    unsigned order)
{
	const unsigned most = zone->pageblock_order;
	struct berth_frame *frames = zone->frames;
	uint64_t *bits = berth__bits(zone, *at);
	uint32_t number = number_of(zone, *at, order), first = berth__pages(most) >> order;
	berth_idx_t idx = *at;

	for (; order < most && test_bit(bits, number ^ 1); order++) {
		struct berth_frame *frame = &frames[idx ^ berth__pages(order)];

		BERTH_ASSERT(zone, berth__tag(frame) == BERTH_TAG(BERTH_FRAME_FREE, order),
			     berth__tag(frame), order);
		berth__set_tag(frame, 0);
		take_bit(pageblock, bits, number ^ 1, first, order);
		count_later(freeing, order, -1);
		idx &= ~berth__pages(order);
		number /= 2;
		first /= 2;
	}
	*at = idx;
	if (order < most) {
		change_bit(bits, number);
		pageblock->nonempty |= 1u << order;
		count_later(freeing, order, 1);
	}
	return order;
}

/* A block of whole pageblocks, of one set, merges with its neighbours and goes into a list. */
static void settle(struct berth_zone *zone, unsigned set, berth_idx_t idx, unsigned order)
{
	struct berth_pageblock *pageblock = berth__pageblock(zone, idx);

	if (pageblock->bucket) /* first: the list has the same links */
		rebucket(zone, pageblock);
	set = give_up_type(zone, idx, set);
	for (; order < zone->max_order && set < BERTH_CMA; order++) {
		berth_idx_t buddy = idx ^ berth__pages(order);

		/* Indices below `first` are never FREE; a block beyond `end` would be cut off. */
		if (buddy >= zone->end ||
		    berth__tag(&zone->frames[buddy]) != BERTH_TAG(BERTH_FRAME_FREE, order) ||
		    berth__pageblock_set(berth__pageblock(zone, buddy)) != set)
			break;
		list_del_large(zone, set, order, buddy);
		idx &= ~berth__pages(order);
	}
	if (set < BERTH_CMA) {
		list_add_large(zone, set, order, idx);
	} else {
		berth__set_tag(&zone->frames[idx], BERTH_TAG(BERTH_FRAME_FREE, order));
		berth__stock_add_locked(zone, idx >> order, 1); /* last: it's anybody's then */
	}
}

/* One block within pageblocks of one set. Its tag may be anything. */
static void free_and_merge(struct berth_zone *zone, struct freeing *freeing, berth_idx_t idx,
			   unsigned order)
{
	struct berth_pageblock *pageblock = berth__pageblock(zone, idx);
	unsigned set = berth__pageblock_set(pageblock);

	change_set(zone, freeing, set);
	freeing->frames += berth__pages(order);
	berth__set_tag(&zone->frames[idx], 0);
	if (order <= zone->pageblock_order) {
		berth__account_pageblock_free_locked(zone, pageblock, berth__pages(order));
		order = merge_inside(zone, freeing, pageblock, &idx, order);
	} else {
		for (berth_idx_t at = 0; at < berth__pages(order);
		     at += berth__pages(zone->pageblock_order))
			berth__account_pageblock_free_locked(zone, berth__pageblock(zone, idx + at),
							     berth__pages(zone->pageblock_order));
	}
	if (order < zone->pageblock_order) {
		berth__set_tag(&zone->frames[idx], BERTH_TAG(BERTH_FRAME_FREE, order));
		rebucket(zone, pageblock);
	} else {
		count_all(zone, freeing);
		settle(zone, set, idx, order);
	}
}

/* The pageblocks of a large block are of one set, which they keep when they are free. */
static bool of_one_set(const struct berth_zone *zone, berth_idx_t idx, unsigned order)
{
	berth_idx_t size = berth__pages(zone->pageblock_order);
	unsigned set = berth__pageblock_set(berth__pageblock(zone, idx));

	for (berth_idx_t at = size; at < berth__pages(order); at += size)
		if (berth__pageblock_set(berth__pageblock(zone, idx + at)) != set)
			return false;
	return set != BERTH_UNMOVABLE && set != BERTH_RECLAIMABLE && set < BERTH_CMA;
}

void berth__buddy_free_locked(struct berth_zone *zone, berth_idx_t idx, unsigned order)
{
	struct freeing freeing;
	berth_idx_t size = berth__pages(zone->pageblock_order);

	freeing_begin(&freeing);
	if (BERTH_LIKELY(order <= zone->pageblock_order) || of_one_set(zone, idx, order))
		free_and_merge(zone, &freeing, idx, order);
	else /* one of its pageblocks may be isolated, or all be an area's: each to its own set */
		for (berth_idx_t at = 0; at < berth__pages(order); at += size)
			free_and_merge(zone, &freeing, idx + at, zone->pageblock_order);
	count_all(zone, &freeing);
}

/* How many of the first blocks are a row of neighbours that may be joined: pageblocks which stay MOVABLE. */
static uint32_t row_of_pageblocks(const struct berth_zone *zone, const berth_idx_t *blocks,
				  uint32_t nr)
{
	const berth_idx_t size = berth__pages(zone->pageblock_order);
	const struct berth_pageblock *pageblock = berth__pageblock(zone, blocks[0]);
	uint32_t n = 1;

	if (berth__pageblock_set(pageblock) != BERTH_MOVABLE)
		return 1;
	while (n < nr && n < BERTH_GROUP && blocks[n] == blocks[n - 1] + size &&
	       berth__pageblock_set(&pageblock[n]) == BERTH_MOVABLE)
		n++;
	return n;
}

void berth__buddy_give_pageblocks_locked(struct berth_zone *zone, const berth_idx_t *blocks,
					 uint32_t nr)
{
	const unsigned order = zone->pageblock_order;

	for (uint32_t i = 0, row; i < nr; i += row) {
		berth_idx_t start = blocks[i], end;
		struct berth_pageblock *pageblock = berth__pageblock(zone, start);
		unsigned set = berth__pageblock_set(pageblock);

		row = row_of_pageblocks(zone, blocks + i, nr - i);
		end = start + (row << order);
		berth__account_whole_locked(zone, pageblock, row, false);
		for (berth_idx_t idx = start; idx < end; idx += berth__pages(order))
			berth__set_tag(&zone->frames[idx], 0);
		berth__account_set_free_locked(zone, set, end - start, 1);
		while (start < end) {
			unsigned part = berth__largest_order(start, end, zone->max_order);

			settle(zone, set, start, part);
			start += berth__pages(part);
		}
	}
}

void berth__buddy_free_blocks_locked(struct berth_zone *zone, const berth_idx_t *blocks,
				     uint32_t nr, unsigned order)
{
	struct freeing freeing;

	for (uint32_t i = 0; i < nr; i++) { /* scattered, they are cold: fetched side by side */
		const uint64_t *bits = berth__bits(zone, blocks[i]);

		__builtin_prefetch(berth__pageblock(zone, blocks[i]), 1);
		__builtin_prefetch(&bits[number_of(zone, blocks[i], order) / 64], 1);
		__builtin_prefetch(bits, 1);
		__builtin_prefetch(&zone->frames[blocks[i] ^ berth__pages(order)], 1);
	}
	freeing_begin(&freeing);
	for (uint32_t i = 0; i < nr; i++)
		free_and_merge(zone, &freeing, blocks[i], order);
	count_all(zone, &freeing);
}

void berth__buddy_free_range_locked(struct berth_zone *zone, berth_idx_t start, berth_idx_t end)
{
	while (start < end) {
		unsigned order = berth__largest_order(start, end, zone->max_order);

		berth__buddy_free_locked(zone, start, order);
		start += berth__pages(order);
	}
}

/* ---- Allocating --------------------------------------------------------------------------------- */

/* Of the block `idx` of 2^from frames, which is in no list any more, gives back all but 2^order. */
static void cut(struct berth_zone *zone, unsigned set, berth_idx_t idx, unsigned from,
		unsigned order)
{
	berth__account_free_locked(zone, idx, berth__pages(order), -1);
	while (from-- > order)
		list_add(zone, set, from, idx + berth__pages(from));
	if (order < zone->pageblock_order)
		rebucket(zone, berth__pageblock(zone, idx));
}

/* Takes a block out of its list. */
static void take(struct berth_zone *zone, unsigned set, berth_idx_t idx, unsigned from,
		 unsigned order)
{
	list_del(zone, set, from, idx);
	cut(zone, set, idx, from, order);
}

/* The smallest sufficient block of a pageblock that has one. */
static berth_idx_t alloc_from(struct berth_zone *zone, const struct berth_pageblock *pageblock,
			      unsigned order)
{
	unsigned from = (unsigned)__builtin_ctz(pageblock->nonempty >> order << order);
	berth_idx_t first = (berth_idx_t)(pageblock - zone->pageblocks) << zone->pageblock_order;
	uint32_t number = lowest_bit(berth__bits(zone, first), first_number(zone, from));
	berth_idx_t idx = first + ((number - first_number(zone, from)) << from);

	BERTH_ASSERT(zone, number, first, from);
	take(zone, berth__pageblock_set(pageblock), idx, from, order);
	return idx;
}

/* From an area's stock, where claims may be faster. */
static berth_idx_t alloc_stock(struct berth_zone *zone, unsigned set, unsigned order)
{
	unsigned from = order < zone->pageblock_order ? zone->pageblock_order : order;
	berth_idx_t idx = berth__stock_remove_any_locked(zone, set, from);

	if (idx == BERTH_IDX_NONE)
		return idx;
	for (berth_idx_t at = 0; at < berth__pages(from); at += berth__pages(zone->pageblock_order))
		berth__set_tag(&zone->frames[idx + at], 0);
	cut(zone, set, idx, from, order);
	return idx;
}

/* From a block of a pageblock and more. */
static berth_idx_t alloc_large(struct berth_zone *zone, unsigned set, unsigned order)
{
	unsigned least = order < zone->pageblock_order ? zone->pageblock_order : order, from;
	uint32_t fitting = zone->sets[set].nonempty >> least << least;
	berth_idx_t idx;

	if (set >= BERTH_CMA)
		return alloc_stock(zone, set, order);
	if (!fitting)
		return BERTH_IDX_NONE;
	from = (unsigned)__builtin_ctz(fitting);
	idx = list_of(zone, set, from)->first << zone->pageblock_order;
	take(zone, set, idx, from, order);
	return idx;
}

berth_idx_t berth__buddy_alloc_partial_locked(struct berth_zone *zone, unsigned set, unsigned order)
{
	const struct berth_pageblock *pageblock = fullest(zone, set, order);

	return pageblock ? alloc_from(zone, pageblock, order) : BERTH_IDX_NONE;
}

berth_idx_t berth__buddy_alloc_locked(struct berth_zone *zone, unsigned set, unsigned order)
{
	const struct berth_pageblock *pageblock = order < zone->pageblock_order ?
							  fullest(zone, set, order) :
							  NULL;

	return pageblock ? alloc_from(zone, pageblock, order) : alloc_large(zone, set, order);
}

berth_idx_t berth__buddy_take_locked(struct berth_zone *zone, unsigned set, unsigned limit,
				     bool may_break, unsigned *order)
{
	const struct berth_pageblock *pageblock = fullest(zone, set, 0);

	*order = limit;
	if (!pageblock)
		return may_break || limit == zone->pageblock_order ? alloc_large(zone, set, limit) :
								     BERTH_IDX_NONE;
	if (*order > (unsigned)__builtin_ctz(pageblock->nonempty))
		*order = (unsigned)__builtin_ctz(pageblock->nonempty);
	return alloc_from(zone, pageblock, *order);
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

/*
 * The first pageblocks of the list's first block, as many as are wanted; the others go back.
 */
static inline uint32_t take_pageblocks(struct berth_zone *zone, unsigned set, unsigned from,
				       uint32_t nr, berth_idx_t *pageblocks)
{
	const unsigned order = zone->pageblock_order;
	berth_idx_t idx = list_of(zone, set, from)->first << order;
	uint32_t has = berth__pages(from - order);

	list_del_large(zone, set, from, idx);
	if (nr > has)
		nr = has;
	berth__account_whole_locked(zone, berth__pageblock(zone, idx), nr, true);
	for (uint32_t i = 0; i < nr; i++)
		pageblocks[i] = idx + (i << order);
	add_pieces(zone, set, idx + (nr << order), idx + (has << order));
	return nr;
}

uint32_t berth__buddy_take_pageblocks_locked(struct berth_zone *zone, unsigned set, uint32_t nr,
					     berth_idx_t *pageblocks)
{
	const unsigned order = zone->pageblock_order;
	uint32_t taken = 0, fitting;

	while (taken < nr && (fitting = zone->sets[set].nonempty >> order << order) != 0)
		taken += take_pageblocks(zone, set, (unsigned)__builtin_ctz(fitting), nr - taken,
					 pageblocks + taken);
	if (taken)
		berth__account_set_free_locked(zone, set, (uint64_t)taken << order, -1);
	return taken;
}

void berth__buddy_expand_locked(struct berth_zone *zone, berth_idx_t idx, unsigned from,
				unsigned order)
{
	unsigned set = berth__pageblock_set(berth__pageblock(zone, idx));

	while (from-- > order) {
		berth__account_free_locked(zone, idx + berth__pages(from), berth__pages(from), 1);
		list_add(zone, set, from, idx + berth__pages(from));
	}
	rebucket(zone, berth__pageblock(zone, idx));
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
	rebucket(zone, berth__pageblock(zone, start));
	rebucket(zone, berth__pageblock(zone, end - 1));
	return end - start;
}

/* ---- Free runs ---------------------------------------------------------------------------------- */

/* The first of a pageblock's blocks of these orders that begins at offset `from` or behind; the pageblock's
 * size: none. */
static uint32_t next_block(const struct berth_zone *zone, const uint64_t *bits, uint32_t orders,
			   uint32_t from)
{
	const uint32_t size = berth__pages(zone->pageblock_order);
	uint32_t next = size;

	for (; orders; orders &= orders - 1) {
		unsigned order = (unsigned)__builtin_ctz(orders);
		uint32_t number = next_bit(bits, (size + from + berth__pages(order) - 1) >> order,
					   2 * size >> order);

		if ((number << order) - size < next)
			next = (number << order) - size;
	}
	return next;
}

/* Where the free blocks begin that end at offset `end`. Two of an order would have merged: so each is smaller than that
 * on its right. */
static uint32_t run_start(const struct berth_zone *zone, const uint64_t *bits, uint32_t end)
{
	const uint32_t size = berth__pages(zone->pageblock_order);

	for (unsigned order = zone->pageblock_order; order-- > 0 && end;)
		if (!(end & (berth__pages(order) - 1)) &&
		    test_bit(bits, ((size + end) >> order) - 1))
			end -= berth__pages(order);
	return end;
}

bool berth__buddy_next_run_locked(const struct berth_zone *zone, berth_idx_t from, unsigned order,
				  berth_idx_t *start, berth_idx_t *end)
{
	const berth_idx_t size = berth__pages(zone->pageblock_order), first = from & ~(size - 1);
	const uint64_t *bits = berth__bits(zone, from);
	uint32_t orders = berth__pageblock(zone, from)->nonempty >> order << order;
	uint32_t block = next_block(zone, bits, orders, from - first);

	*start = first + run_start(zone, bits, block);
	*end = first + block;
	while (*end < first + size) {
		uint32_t tag = berth__tag(&zone->frames[*end]);

		if (berth__tag_kind(tag) != BERTH_FRAME_FREE)
			break;
		*end += berth__pages(berth__tag_order(tag));
	}
	return *start < *end;
}

/* ---- The stock's pageblocks in lists ------------------------------------------------------------- */

bool berth__unstock_locked(struct berth_zone *zone, berth_idx_t start, berth_idx_t end)
{
	unsigned order = zone->pageblock_order;
	bool all = true;

	for (uint32_t number = start >> order; number <= (end - 1) >> order; number++) {
		struct berth_pageblock *pageblock = &zone->pageblocks[number];

		if (berth__stock(pageblock) == BERTH_LISTED)
			continue;
		if (berth__stock_remove_locked(zone, number))
			list_add(zone, berth__pageblock_set(pageblock), order,
				 (berth_idx_t)number << order);
		else
			all = false;
	}
	return all;
}

void berth__restock_locked(struct berth_zone *zone, berth_idx_t start, berth_idx_t end)
{
	unsigned order = zone->pageblock_order;

	for (uint32_t number = start >> order; number <= (end - 1) >> order; number++) {
		struct berth_pageblock *pageblock = &zone->pageblocks[number];
		unsigned set = berth__pageblock_set(pageblock);
		berth_idx_t idx = (berth_idx_t)number << order;

		if (set < BERTH_CMA || berth__stock(pageblock) != BERTH_LISTED ||
		    berth__nr_free(pageblock) != berth__pages(order))
			continue;
		list_del(zone, set, order, idx);
		berth__set_tag(&zone->frames[idx], BERTH_TAG(BERTH_FRAME_FREE, order));
		berth__stock_add_locked(zone, number, 1);
	}
}
