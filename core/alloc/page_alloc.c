/* SPDX-License-Identifier: MIT */
/*
 * Allocating and freeing blocks of frames.
 *
 * I1  An allocated block is tagged USED before anybody else can see it untagged: inside the per-CPU
 *     section, or under the zone lock.
 *
 * Complexity: order 0 O(1) from the per-CPU list; other orders O(max_order) under the zone lock;
 * free_range O(blocks).
 */
#include "core/alloc/internal.h"
#include "core/frames/pcp_fast.h"
#include "core/stats.h"

/* What the hot path serves without a further look. */
#define GFP_PLAIN                                                                            \
	(BERTH_GFP_MOVABLE | BERTH_GFP_RECLAIMABLE | BERTH_GFP_NO_CMA | BERTH_GFP_CMA_LAST | \
	 BERTH_GFP_COMPACT)

/* USED, but not to be freed by its owner: freed already, or not there yet. */
#define NOT_FREEABLE (BERTH_TAG_ORPHAN | BERTH_TAG_ARRIVING)

static berth_idx_t alloc_from_zone(struct berth_zone *zone, unsigned order, unsigned gfp,
				   uint32_t tag, uint64_t cookie)
{
	unsigned from;
	berth_idx_t idx;

	berth_lock(&zone->lock);
	idx = berth__rmqueue_locked(zone, order, gfp, &from);
	if (idx != BERTH_IDX_NONE) {
		berth__account_used_locked(zone, idx, order, 1);
		berth__mark_used(zone, idx, tag, cookie);
		berth__count_locked(zone, BERTH_EVENT_PGALLOC, berth__pages(order));
	}
	berth_unlock(&zone->lock);
	return idx;
}

berth_idx_t berth__alloc_once(struct berth_zone *zone, unsigned order, unsigned gfp, uint32_t tag,
			      uint64_t cookie)
{
	berth_idx_t idx = BERTH_IDX_NONE;

	if (!(gfp & BERTH_GFP_RESERVE_FIRST))
		idx = berth__pcp_alloc(zone, order, gfp & GFP_PLAIN, tag, cookie);
	if (idx == BERTH_IDX_NONE)
		idx = alloc_from_zone(zone, order, gfp, tag, cookie);
	return idx;
}

/* Everything but the hot path: other orders, and a CPU list that can't serve. */
static BERTH_COLD int alloc_slow(struct berth_zone *zone, unsigned order, unsigned gfp,
				 unsigned owner, uint64_t cookie, berth_pfn_t *pfn)
{
	uint32_t tag = berth__used_tag_lru(order, gfp, owner);
	berth_idx_t idx = berth__alloc_once(zone, order, gfp, tag, cookie);

	/* The last frames may be cached by other CPUs, and cached frames don't merge. */
	if (idx == BERTH_IDX_NONE && berth__pcp_any(zone)) {
		berth_pcp_drain_all(zone);
		idx = alloc_from_zone(zone, order, gfp, tag, cookie);
	}
	if (idx == BERTH_IDX_NONE && order && (gfp & BERTH_GFP_COMPACT))
		idx = berth__compact_capture(zone, order, gfp, tag, cookie);
	if (idx == BERTH_IDX_NONE)
		return -BERTH_ENOMEM;
	*pfn = berth__pfn(zone, idx);
	return 0;
}

/* Flags that the hot path doesn't know: cleared frames, LRU blocks, or a mistake. */
static BERTH_COLD int alloc_special(struct berth_zone *zone, unsigned order, unsigned gfp,
				    unsigned owner, uint64_t cookie, berth_pfn_t *pfn)
{
	int error = 0;

	if ((gfp & ~(unsigned)(GFP_PLAIN | BERTH_GFP_ZERO | BERTH_GFP_LRU)) ||
	    ((gfp & BERTH_GFP_ZERO) && !zone->port->zero) || order > zone->max_order || !pfn ||
	    !berth__owner_fits_lru(zone, gfp, owner))
		return -BERTH_EINVAL;
	if (!berth__alloc_cached_block(zone, order, gfp, berth__used_tag_lru(order, gfp, owner),
				       cookie, pfn))
		error = alloc_slow(zone, order, gfp & ~(unsigned)BERTH_GFP_ZERO, owner, cookie,
				   pfn);
	if (!error && (gfp & BERTH_GFP_ZERO))
		zone->port->zero(zone->port_ctx, *pfn, berth__pages(order));
	return error;
}

/* An order above 0 that may be cached. */
static __attribute__((noinline)) int alloc_block(struct berth_zone *zone, unsigned order,
						 unsigned gfp, unsigned owner, uint64_t cookie,
						 berth_pfn_t *pfn)
{
	if (BERTH_UNLIKELY(order > zone->max_order || !pfn || !berth__owner_fits(zone, gfp, owner)))
		return -BERTH_EINVAL;
	if (BERTH_UNLIKELY(!berth__alloc_cached_block(
		    zone, order, gfp, berth__used_tag(order, gfp, owner), cookie, pfn)))
		return alloc_slow(zone, order, gfp, owner, cookie, pfn);
	return 0;
}

int berth_alloc_pages(struct berth_zone *zone, unsigned order, unsigned gfp, unsigned owner,
		      uint64_t cookie, berth_pfn_t *pfn)
{
	if (BERTH_UNLIKELY(gfp & ~(unsigned)GFP_PLAIN))
		return alloc_special(zone, order, gfp, owner, cookie, pfn);
	if (BERTH_UNLIKELY(order != 0))
		return alloc_block(zone, order, gfp, owner, cookie, pfn);
	if (BERTH_UNLIKELY(!pfn || !berth__owner_fits(zone, gfp, owner)))
		return -BERTH_EINVAL;
	if (BERTH_UNLIKELY(!berth__alloc_cached(zone, 0, gfp, berth__used_tag(0, gfp, owner),
						cookie, pfn)))
		return alloc_slow(zone, order, gfp, owner, cookie, pfn);
	return 0;
}

/*
 * Drops the owner's reference of a head that is tagged USED. With pins left it becomes an orphan,
 * and false says that the block isn't free yet.
 */
static inline bool put_owner(struct berth_frame *frame, uint32_t tag)
{
	/* No new pin can come: the owner has closed every path. So 1 stays 1. */
	if (BERTH_LIKELY(atomic_load_explicit(&frame->refcount, memory_order_acquire) == 1)) {
		atomic_store_explicit(&frame->refcount, 0, memory_order_relaxed);
		return true;
	}
	berth__set_tag(frame, tag | BERTH_TAG_ORPHAN);
	return atomic_fetch_sub_explicit(&frame->refcount, 1, memory_order_acq_rel) == 1;
}

/* An order above 0 under the lock, since a claim may be splitting the block. */
static BERTH_COLD int free_block_slow(struct berth_zone *zone, berth_idx_t idx)
{
	struct berth_frame *frame = &zone->frames[idx];
	int error = -BERTH_EINVAL;
	uint32_t tag;

	berth_lock(&zone->lock);
	tag = berth__tag(frame);
	if (berth__tag_kind(tag) == BERTH_FRAME_USED && !(tag & NOT_FREEABLE) &&
	    atomic_load_explicit(&frame->refcount, memory_order_relaxed) != 0) {
		error = 0;
		if (tag & BERTH_TAG_LRU)
			berth__lru_forget(zone, idx);
		if (put_owner(frame, tag)) {
			berth__count_locked(zone, BERTH_EVENT_PGFREE,
					    berth__pages(berth__tag_order(tag)));
			berth__account_used_locked(zone, idx, berth__tag_order(tag), -1);
			berth__buddy_free_locked(zone, idx, berth__tag_order(tag));
		}
	}
	berth_unlock(&zone->lock);
	return error;
}

/* Into a list, if there is one for its order and it may be freed. */
static __attribute__((noinline)) int free_block(struct berth_zone *zone, berth_idx_t idx,
						unsigned order)
{
	return BERTH_LIKELY(berth__pcp_free_block(zone, idx, order, BERTH_ANY_OWNER)) ?
		       0 :
		       free_block_slow(zone, idx);
}

/* A frame that the hot path couldn't free. */
static BERTH_COLD int free_slow(struct berth_zone *zone, berth_idx_t idx)
{
	struct berth_frame *frame = &zone->frames[idx];
	uint32_t tag = berth__tag(frame);

	if ((tag & (BERTH_TAG(7, 31) | NOT_FREEABLE)) != BERTH_TAG(BERTH_FRAME_USED, 0) ||
	    atomic_load_explicit(&frame->refcount, memory_order_relaxed) == 0)
		return -BERTH_EINVAL;
	if (tag & BERTH_TAG_LRU)
		berth__lru_forget(zone, idx);
	if (!put_owner(frame, tag) || berth__pcp_free(zone, idx))
		return 0;
	berth_lock(&zone->lock);
	berth__buddy_free_locked(zone, idx, 0);
	berth__count_locked(zone, BERTH_EVENT_PGFREE, 1);
	berth_unlock(&zone->lock);
	return 0;
}

int berth_free_pages(struct berth_zone *zone, berth_pfn_t pfn)
{
	const uint32_t plain = BERTH_TAG(7, 31) | NOT_FREEABLE | BERTH_TAG_LRU;
	struct berth_frame *frame;
	struct berth_pcp *pcp;
	berth_idx_t idx;
	unsigned list;
	uint32_t count, tag;

	if (BERTH_UNLIKELY(!berth__idx_one(zone, pfn, &idx)))
		return -BERTH_EINVAL;
	frame = &zone->frames[idx];
	tag = berth__tag(frame);
	if (BERTH_UNLIKELY((tag & plain) != BERTH_TAG(BERTH_FRAME_USED, 0) ||
			   atomic_load_explicit(&frame->refcount, memory_order_acquire) != 1))
		return berth__tag_order(tag) ? free_block(zone, idx, berth__tag_order(tag)) :
					       free_slow(zone, idx);
	if (BERTH_UNLIKELY(!berth__pcp_enter(zone, &pcp)))
		return free_slow(zone, idx);
	list = berth__pcp_route(zone, idx);
	count = berth__pcp_count(pcp, list);
	if (BERTH_UNLIKELY(count >= berth__pcp_high(pcp, list))) {
		berth__pcp_leave(pcp);
		return free_slow(zone, idx);
	}
	/* No new pin can come: the owner has closed every path. So 1 is still 1. */
	atomic_store_explicit(&frame->refcount, 0, memory_order_relaxed);
	berth__pcp_push(zone, pcp, list, count, idx, frame, 0);
	berth__pcp_leave(pcp);
	return 0;
}

/* Every block of [start, end) is the owner's, and those that stick out can be split. Z. */
static int check_range_locked(struct berth_zone *zone, berth_idx_t start, berth_idx_t end,
			      unsigned owner)
{
	for (berth_idx_t idx = start; idx < end;) {
		berth_idx_t head = berth__head(zone, idx), block_end;
		const struct berth_frame *frame;
		uint32_t tag, refs;

		if (head == BERTH_IDX_NONE)
			return -BERTH_EINVAL;
		frame = &zone->frames[head];
		tag = berth__tag(frame);
		refs = atomic_load_explicit(&frame->refcount, memory_order_relaxed);
		block_end = head + berth__pages(berth__tag_order(tag));
		if (berth__tag_kind(tag) != BERTH_FRAME_USED || berth__tag_owner(tag) != owner ||
		    (tag & NOT_FREEABLE) || !refs)
			return -BERTH_EINVAL;
		if ((head < start || block_end > end) && refs != 1)
			return -BERTH_EBUSY;
		idx = block_end;
	}
	return 0;
}

int berth_free_range(struct berth_zone *zone, berth_pfn_t pfn, uint64_t nr_pages, unsigned owner)
{
	berth_idx_t start, end, head;
	uint64_t freed = 0;
	int error;

	if (!nr_pages || !berth__idx(zone, pfn, nr_pages, &start))
		return -BERTH_EINVAL;
	end = start + (berth_idx_t)nr_pages;
	/* Just one block, mostly. */
	if ((nr_pages & (nr_pages - 1)) == 0 &&
	    berth__pcp_free_block(zone, start, (unsigned)__builtin_ctzll(nr_pages), owner))
		return 0;
	berth_lock(&zone->lock);
	error = check_range_locked(zone, start, end, owner);
	head = error ? start : berth__head(zone, start);
	if (head < start && !berth__split_used_at_locked(zone, head, start))
		error = -BERTH_EBUSY;
	if (!error) {
		head = berth__head(zone, end - 1);
		if (head + berth__pages(berth__tag_order(berth__tag(&zone->frames[head]))) > end &&
		    !berth__split_used_at_locked(zone, head, end))
			error = -BERTH_EBUSY;
	}
	for (berth_idx_t idx = start; !error && idx < end;) {
		struct berth_frame *frame = &zone->frames[idx];
		uint32_t tag = berth__tag(frame);

		if (tag & BERTH_TAG_LRU)
			berth__lru_forget(zone, idx);
		if (put_owner(frame, tag)) {
			freed += berth__pages(berth__tag_order(tag));
			berth__account_used_locked(zone, idx, berth__tag_order(tag), -1);
			berth__buddy_free_locked(zone, idx, berth__tag_order(tag));
		}
		idx += berth__pages(berth__tag_order(tag));
	}
	berth__count_locked(zone, BERTH_EVENT_PGFREE, freed);
	berth_unlock(&zone->lock);
	return error;
}
