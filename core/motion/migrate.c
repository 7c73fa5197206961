/* SPDX-License-Identifier: MIT */
/*
 * Page migration: finding destinations, asking the owners, and settling the outcome.
 *
 * I1  A destination is USED | ARRIVING with refcount 0 until its owner says that the block has
 *     arrived: nobody can pin, free or move it.
 * I2  After a batch each source is either taken by the claim (moved), or as before (busy, gone), and
 *     each destination is either the owner's block or free.
 *
 * A batch is sorted by cookie, and blocks that are neighbours to their owner get neighbouring
 * destinations: memory that was scattered comes together in the move, which is then one run.
 *
 * Complexity: O(batch^2) compares at worst to sort (a batch is mostly sorted), per block O(max_order)
 * for the destination, plus the owner's move. The zone lock is held for a batch's destinations and for
 * its settlement, never during the move.
 */
#include "core/motion/internal.h"
#include "core/stats.h"

static struct berth_frame *frame_at(struct berth_zone *zone, berth_pfn_t pfn)
{
	return &zone->frames[pfn - zone->base_pfn];
}

/* Z. The destination becomes an ordinary block of its owner. */
static void arrive_locked(struct berth_zone *zone, struct berth_move *move)
{
	struct berth_frame *dst = frame_at(zone, move->dst);
	uint32_t tag = berth__tag(dst);

	BERTH_ASSERT(zone, tag & BERTH_TAG_ARRIVING, tag, move->dst);
	berth__mark_used(zone, (berth_idx_t)(move->dst - zone->base_pfn), tag & ~BERTH_TAG_ARRIVING,
			 move->cookie);
	if (tag & BERTH_TAG_LRU)
		berth__lru_moved_locked(zone, (berth_idx_t)(move->src - zone->base_pfn),
					(berth_idx_t)(move->dst - zone->base_pfn));
	move->arrived = true;
}

void berth_move_arrived(struct berth_zone *zone, struct berth_move *move)
{
	berth_lock(&zone->lock);
	arrive_locked(zone, move);
	berth_unlock(&zone->lock);
}

/* Z. The source stays as it is: frozen sources can't change, others aren't ours to judge. */
static void settle_locked(struct berth_zone *zone, struct berth_move *move)
{
	struct berth_frame *src = frame_at(zone, move->src);
	berth_idx_t src_idx = (berth_idx_t)(move->src - zone->base_pfn);

	if (move->result != BERTH_MOVE_MOVED) {
		berth_idx_t dst = (berth_idx_t)(move->dst - zone->base_pfn);

		BERTH_ASSERT(zone, !move->arrived, move->src, move->result);
		berth__account_used_locked(zone, dst, move->order, -1);
		berth__buddy_free_locked(zone, dst, move->order);
		return;
	}
	BERTH_ASSERT(zone, atomic_load_explicit(&src->refcount, memory_order_acquire) == 0,
		     move->src, 0);
	if (!move->arrived)
		arrive_locked(zone, move);
	berth__set_tag(src, BERTH_TAG(BERTH_FRAME_CLAIMED, move->order) | BERTH_TAG_TAKING);
	berth__account_used_locked(zone, src_idx, move->order, -1);
	berth__account_claimed_locked(zone, src_idx, berth__pages(move->order), 1);
}

/* ---- Destinations ------------------------------------------------------------------------------- */

/* By owner and cookie: what the owner sees side by side stands side by side. */
static void sort_moves(struct berth_move *moves, unsigned nr_moves)
{
	for (unsigned i = 1; i < nr_moves; i++) {
		struct berth_move move = moves[i];
		unsigned at = i;

		while (at > 0 &&
		       (moves[at - 1].owner > move.owner || (moves[at - 1].owner == move.owner &&
							     moves[at - 1].cookie > move.cookie))) {
			moves[at] = moves[at - 1];
			at--;
		}
		moves[at] = move;
	}
}

/* The block is as the scan saw it: not freed, split or taken since. Z. */
static bool unchanged_locked(const struct berth_zone *zone, const struct berth_move *move)
{
	berth_idx_t idx = (berth_idx_t)(move->src - zone->base_pfn);
	const struct berth_frame *head = &zone->frames[idx];

	return (berth__tag(head) & ~BERTH_TAG_LRU) ==
		       (BERTH_TAG(BERTH_FRAME_USED, move->order) | BERTH_TAG_MOVABLE |
			(uint32_t)move->owner << BERTH_TAG_OWNER_SHIFT) &&
	       berth__cookie(zone, idx) == move->cookie;
}

/*
 * Blocks from the first on that make one aligned power of two of consecutive cookies, at most 2^limit: they can
 * move to one block, and are one run after it. At least 1; *order is the block's.
 */
static unsigned together(const struct berth_move *moves, unsigned nr_moves, unsigned limit,
			 unsigned *order)
{
	uint64_t pages = 0, first = moves[0].cookie;
	unsigned best = 1;

	*order = moves[0].order;
	for (unsigned i = 0; i < nr_moves; i++) {
		if (moves[i].owner != moves[0].owner || moves[i].cookie != first + pages ||
		    (pages & (berth__pages(moves[i].order) - 1)))
			break;
		pages += berth__pages(moves[i].order);
		if (pages > berth__pages(limit))
			break;
		if (!(pages & (pages - 1)) && !(first & (pages - 1))) {
			best = i + 1;
			*order = (unsigned)__builtin_ctzll(pages);
		}
	}
	return best;
}

/* One block for the first nr moves, outside isolated pageblocks: in pageblocks of the set that are
 * partly used, or by policy, away from CMA if possible. Z. */
static bool find_destination_locked(struct berth_zone *zone, struct berth_move *moves, unsigned nr,
				    unsigned order, unsigned set)
{
	berth_idx_t idx = BERTH_IDX_NONE;
	unsigned from;

	if (set == BERTH_SET_NONE)
		idx = berth__rmqueue_locked(zone, order, BERTH_GFP_MOVABLE | BERTH_GFP_CMA_LAST,
					    &from);
	else if (order < zone->pageblock_order)
		idx = berth__buddy_alloc_partial_locked(zone, set, order);
	if (idx == BERTH_IDX_NONE)
		return false;
	for (unsigned i = 0; i < nr; i++) {
		berth__account_used_locked(zone, idx, moves[i].order, 1);
		berth__set_tag(&zone->frames[idx],
			       BERTH_TAG(BERTH_FRAME_USED, moves[i].order) | BERTH_TAG_MOVABLE |
				       BERTH_TAG_ARRIVING |
				       (berth__tag(frame_at(zone, moves[i].src)) & BERTH_TAG_LRU) |
				       (uint32_t)moves[i].owner << BERTH_TAG_OWNER_SHIFT);
		moves[i].dst = berth__pfn(zone, idx);
		idx += berth__pages(moves[i].order);
	}
	return true;
}

/*
 * A destination for one block. When there is none of its order it is halved; its upper half is left
 * to the caller's next scan. False: nothing left, or it was pinned meanwhile and can't be halved. Z.
 */
static bool find_single_locked(struct berth_zone *zone, struct berth_move *move, unsigned set,
			       bool may_split, bool *exhausted)
{
	berth_idx_t src = (berth_idx_t)(move->src - zone->base_pfn);

	while (!find_destination_locked(zone, move, 1, move->order, set)) {
		*exhausted = move->order == 0 || !may_split;
		if (*exhausted ||
		    !berth__split_used_at_locked(zone, src, src + berth__pages(move->order - 1u)))
			return false;
		move->order--;
	}
	return true;
}

/*
 * Destinations for the first blocks of the batch, as many as can be had. Returns blocks ready;
 * *exhausted: it stopped because no frame is left to move to.
 */
static unsigned find_destinations(struct berth_zone *zone, struct berth_move *moves,
				  unsigned nr_moves, unsigned set, bool may_split, bool *exhausted)
{
	unsigned ready = 0, since = 0, limit = zone->pageblock_order;

	*exhausted = false;
	berth_lock(&zone->lock);
	while (ready < nr_moves) {
		unsigned order, nr = together(&moves[ready], nr_moves - ready, limit, &order);
		bool unchanged = true;

		if (ready - since >= BERTH_MOVE_BATCH) { /* others want the lock, too */
			berth_unlock(&zone->lock);
			berth_lock(&zone->lock);
			since = ready;
		}
		for (unsigned i = 0; i < nr; i++)
			unchanged &= unchanged_locked(zone, &moves[ready + i]);
		if (unchanged && nr > 1) {
			if (find_destination_locked(zone, &moves[ready], nr, order, set))
				ready += nr;
			else
				limit = order - 1;
			continue;
		}
		/* The next scan sees what a changed block is now. */
		if (!unchanged_locked(zone, &moves[ready]) ||
		    !find_single_locked(zone, &moves[ready], set, may_split, exhausted))
			break;
		ready++;
	}
	berth_unlock(&zone->lock);
	return ready;
}

/* ---- The batch ---------------------------------------------------------------------------------- */

int berth__migrate_batch(struct berth_zone *zone, struct berth_move *moves, unsigned nr_moves,
			 unsigned dst_set, bool may_split, struct berth_claim_report *report,
			 const struct berth_move **busy)
{
	uint64_t moved = 0, failed = 0, failed_pages = 0;
	unsigned ready;
	bool exhausted;
	int error = 0;

	sort_moves(moves, nr_moves);
	ready = find_destinations(zone, moves, nr_moves, dst_set, may_split, &exhausted);
	if (!ready && exhausted && berth__pcp_any(zone)) { /* the last frames are cached */
		berth_pcp_drain_all(zone);
		ready = find_destinations(zone, moves, nr_moves, dst_set, may_split, &exhausted);
	}

	*busy = NULL;
	for (unsigned i = 0; i < ready;) { /* one call for each run of one owner's blocks */
		const struct berth_owner *owner = &zone->owners[moves[i].owner];
		unsigned nr = 1;

		while (i + nr < ready && moves[i + nr].owner == moves[i].owner)
			nr++;
		owner->ops->migrate(owner->ctx, &moves[i], nr);
		i += nr;
	}
	for (unsigned i = 0; i < ready;) {
		unsigned end = ready - i > BERTH_MOVE_BATCH ? i + BERTH_MOVE_BATCH : ready;

		berth_lock(&zone->lock);
		for (; i < end; i++)
			settle_locked(zone, &moves[i]);
		berth_unlock(&zone->lock);
	}
	for (unsigned i = 0; i < ready; i++) {
		struct berth_move *move = &moves[i];

		if (move->result == BERTH_MOVE_MOVED) {
			moved += berth__pages(move->order);
			if (zone->port->poison)
				zone->port->poison(zone->port_ctx, move->src,
						   berth__pages(move->order));
		} else if (move->result != BERTH_MOVE_GONE) {
			report->busy_blocks++;
			failed++;
			failed_pages += berth__pages(move->order);
			if (!*busy)
				*busy = move;
			error = -BERTH_EBUSY;
		}
	}
	report->moved_pages += moved;
	atomic_fetch_add_explicit(&zone->moved_pages, moved, memory_order_relaxed);
	atomic_fetch_add_explicit(&zone->failed_moves, failed, memory_order_relaxed);
	berth__count(zone, BERTH_EVENT_MIGRATE_SUCCESS, moved);
	berth__count(zone, BERTH_EVENT_MIGRATE_FAIL, failed_pages);
	if (!error && ready == 0 && exhausted)
		error = -BERTH_ENOMEM;
	return error;
}
