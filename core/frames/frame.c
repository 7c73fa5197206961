/* SPDX-License-Identifier: MIT */
/*
 * Frames: finding a block's head, references, pins, freezing and splitting.
 *
 * I1  A managed frame is in exactly one block; only the block's head has a non-zero tag.
 * I2  refcount of a USED head: 0 while frozen or arriving, else 1 for the owner (none once it is
 *     an ORPHAN) + BERTH_PIN_BIAS for each pin. Any other frame: 0.
 * I3  A pageblock's nr_pinned counts the blocks with a pin that touch it.
 *
 * Complexity: O(max_order) for a lookup, O(1) for the rest; a split writes one head per piece.
 */
#include "core/motion/internal.h"
#include "core/stats.h"

_Noreturn void berth__panic(const struct berth_zone *zone, const char *what, uint64_t value,
			    uint64_t expected)
{
	zone->port->panic(zone->port_ctx, what, value, expected);
	for (;;) /* the port promised not to return */
		;
}

#define LOOKS 4u /* until a frame is believed to be in no block */

/* As the tags are while they are read. */
static berth_idx_t look_for_head(const struct berth_zone *zone, berth_idx_t idx, uint32_t *tag)
{
	for (unsigned order = 0; order <= zone->max_order; order++) {
		berth_idx_t head = idx & ~(berth__pages(order) - 1);

		*tag = atomic_load_explicit(&zone->frames[head].tag, memory_order_acquire);
		if (berth__tag_kind(*tag) == BERTH_FRAME_TAIL)
			continue;
		/* The nearest head below idx: either its block reaches idx or nothing does. */
		if (berth__tag_order(*tag) >= order)
			return head;
		break;
	}
	*tag = 0;
	return BERTH_IDX_NONE;
}

berth_idx_t berth__find(const struct berth_zone *zone, berth_idx_t idx, uint32_t *tag)
{
	berth_idx_t head = BERTH_IDX_NONE;

	/* A look fails, too, if a CPU tells the frames of a cached block apart in the middle of it (pcp.c, I6): it
	 * must join them again before the next one can. */
	for (unsigned look = 0; look < LOOKS && head == BERTH_IDX_NONE; look++)
		head = look_for_head(zone, idx, tag);
	return head;
}

berth_idx_t berth__head(const struct berth_zone *zone, berth_idx_t idx)
{
	uint32_t tag;

	return berth__find(zone, idx, &tag);
}

/* Head of the USED block that holds pfn, or BERTH_IDX_NONE. Stale unless the block is pinned or the
 * caller holds Z. */
static berth_idx_t used_head(const struct berth_zone *zone, berth_pfn_t pfn)
{
	berth_idx_t idx, head;

	if (!berth__idx(zone, pfn, 1, &idx))
		return BERTH_IDX_NONE;
	head = berth__head(zone, idx);
	if (head == BERTH_IDX_NONE ||
	    berth__tag_kind(berth__tag(&zone->frames[head])) != BERTH_FRAME_USED)
		return BERTH_IDX_NONE;
	return head;
}

/* ---- Freezing ---------------------------------------------------------------------------------- */

bool berth__freeze(struct berth_frame *head)
{
	uint32_t one = 1;

	return atomic_compare_exchange_strong_explicit(&head->refcount, &one, 0,
						       memory_order_acquire, memory_order_relaxed);
}

void berth__unfreeze(struct berth_zone *zone, struct berth_frame *head)
{
	uint32_t old = atomic_exchange_explicit(&head->refcount, 1, memory_order_release);

	BERTH_ASSERT(zone, old == 0, old, 0);
}

bool berth_page_freeze(struct berth_zone *zone, berth_pfn_t pfn)
{
	berth_idx_t idx;
	uint32_t tag;

	if (!berth__idx(zone, pfn, 1, &idx))
		return false;
	tag = berth__tag(&zone->frames[idx]);
	if (berth__tag_kind(tag) != BERTH_FRAME_USED || (tag & BERTH_TAG_ORPHAN))
		return false;
	return berth__freeze(&zone->frames[idx]);
}

void berth_page_unfreeze(struct berth_zone *zone, berth_pfn_t pfn)
{
	berth_idx_t idx = 0;
	bool inside = berth__idx(zone, pfn, 1, &idx);

	BERTH_ASSERT(zone, inside, pfn, zone->base_pfn + zone->first);
	BERTH_ASSERT(zone, berth__tag_kind(berth__tag(&zone->frames[idx])) == BERTH_FRAME_USED, pfn,
		     0);
	berth__unfreeze(zone, &zone->frames[idx]);
}

/* ---- Pins -------------------------------------------------------------------------------------- */

/*
 * Drops one pin of a block known to have one. The pageblock's counter falls after the reference, so
 * it may overstate for a moment, never understate a pin that its taker knows of.
 */
static void put_pin(struct berth_zone *zone, berth_idx_t head)
{
	struct berth_frame *frame = &zone->frames[head];
	unsigned order = berth__tag_order(berth__tag(frame));
	uint32_t left = atomic_fetch_sub_explicit(&frame->refcount, BERTH_PIN_BIAS,
						  memory_order_acq_rel) -
			BERTH_PIN_BIAS;

	if (left < BERTH_PIN_BIAS)
		berth__account_pinned(zone, head, order, -1);
	if (left == 0) { /* the owner has freed it: nobody else can reach it */
		berth_lock(&zone->lock);
		berth__set_tag(frame, 0);
		berth__account_used_locked(zone, head, order, -1);
		berth__buddy_free_locked(zone, head, order);
		berth__count_locked(zone, BERTH_EVENT_PGFREE, berth__pages(order));
		berth_unlock(&zone->lock);
	}
}

bool berth__pin_head(struct berth_zone *zone, berth_idx_t head)
{
	struct berth_frame *frame = &zone->frames[head];
	uint32_t old = atomic_load_explicit(&frame->refcount, memory_order_relaxed);

	do { /* a mover may freeze it at the same time */
		if (old == 0)
			return false;
		BERTH_ASSERT(zone, old < UINT32_MAX - BERTH_PIN_BIAS, old, 1);
	} while (!atomic_compare_exchange_weak_explicit(&frame->refcount, &old,
							old + BERTH_PIN_BIAS, memory_order_acquire,
							memory_order_relaxed));
	if (old < BERTH_PIN_BIAS)
		berth__account_pinned(zone, head, berth__tag_order(berth__tag(frame)), 1);
	return true;
}

int berth_page_pin(struct berth_zone *zone, berth_pfn_t pfn)
{
	berth_idx_t idx;
	int error = 0;

	/* The lock keeps the block from being split between the look-up and the reference. */
	berth_lock(&zone->lock);
	idx = used_head(zone, pfn);
	if (idx == BERTH_IDX_NONE || (berth__tag(&zone->frames[idx]) & BERTH_TAG_ORPHAN))
		error = -BERTH_EINVAL;
	else if (!berth__pin_head(zone, idx))
		error = -BERTH_EAGAIN;
	berth_unlock(&zone->lock);
	return error;
}

int berth_page_unpin(struct berth_zone *zone, berth_pfn_t pfn)
{
	berth_idx_t idx = used_head(zone, pfn);

	if (idx == BERTH_IDX_NONE || atomic_load_explicit(&zone->frames[idx].refcount,
							  memory_order_relaxed) < BERTH_PIN_BIAS)
		return -BERTH_EINVAL;
	put_pin(zone, idx);
	return 0;
}

bool berth_page_pinned(struct berth_zone *zone, berth_pfn_t pfn)
{
	berth_idx_t idx = used_head(zone, pfn);

	return idx != BERTH_IDX_NONE &&
	       atomic_load_explicit(&zone->frames[idx].refcount, memory_order_relaxed) >=
		       BERTH_PIN_BIAS;
}

/* ---- Splitting --------------------------------------------------------------------------------- */

bool berth__split_used_at_locked(struct berth_zone *zone, berth_idx_t head, berth_idx_t at)
{
	struct berth_frame *frame = &zone->frames[head];
	uint32_t tag = berth__tag(frame);
	unsigned order = berth__tag_order(tag);
	uint32_t base = tag & ~BERTH_TAG(0, 31);
	berth_idx_t end = head + berth__pages(order);

	BERTH_ASSERT(zone, berth__tag_kind(tag) == BERTH_FRAME_USED && at > head && at < end, at,
		     head);
	if (!berth__freeze(frame))
		return false;
	berth__lru_begin_split(zone, tag);
	/* Halve the half that `at` falls into until it is a boundary: at most max_order pieces. */
	while (at != head && at != end) {
		berth_idx_t middle;

		berth__account_used_locked(zone, head, order, -1);
		order--;
		middle = head + berth__pages(order);
		berth__account_used_locked(zone, head, order, 1);
		berth__account_used_locked(zone, middle, order, 1);
		if (tag & BERTH_TAG_LRU) {
			berth__lru_inherit_locked(zone, head, middle, order);
			berth__lru_shrinks_locked(zone, head, order + 1, order);
		}
		berth__mark_used(zone, middle, base | BERTH_TAG(0, order),
				 berth__cookie(zone, head) + berth__pages(order));
		berth__set_tag(&zone->frames[head], base | BERTH_TAG(0, order));
		if (at >= middle) {
			/* The lower half is final; go on in the upper one. */
			head = middle;
		} else {
			end = middle;
		}
		if (at == middle)
			break;
	}
	berth__lru_end_split(zone, tag);
	berth__unfreeze(zone, frame);
	return true;
}
