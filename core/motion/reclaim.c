/* SPDX-License-Identifier: MIT */
/*
 * Reclaim: getting back, from a zone's LRU lists, what wasn't used lately.
 *
 * A scan takes the blocks at the end of a list off it in batches, asks their owners who was used, drops
 * what is clean, begins to write what is dirty if it may, and puts the rest back.
 *
 * I1  An isolated block is in no list; its frame's `next` is the ticket of the batch. It's still its
 *     owner's, who may free or move it: putting back looks whether it is isolated under this ticket.
 * I2  No frame is freed that its owner hasn't frozen and answered DROPPED for.
 * I3  A block is never dropped while it's dirty, under write-back, pinned or unevictable.
 * I4  Every loop is bounded: a scan by the length of the list at its start, a reclaim by 13 scans.
 *
 * Complexity: O(blocks looked at), L for each batch of 32 twice, the zone lock once for what is dropped.
 *
 * Batch size, priorities, the ratio of the lists and the second chance are those of Linux (mm/vmscan.c:
 * shrink_lruvec, inactive_is_low, folio_check_references).
 */
#include "core/motion/internal.h"
#include "core/frames/summary.h"
#include "core/stats.h"

/* Who may not write begins to when it gets into trouble: below this priority (as in Linux), and after a
 * look at so many frames, or all there are. */
#define WRITE_PRIORITY (BERTH_MAX_PRIORITY - 2u)
#define LOOK_FIRST 1024u
#define WRITE_WAIT_NS 1000000ull /* for write-back, when nothing else is left at a priority */

static uint64_t load(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

static void add(_Atomic uint64_t *counter, uint64_t nr)
{
	atomic_fetch_add_explicit(counter, nr, memory_order_relaxed);
}

static berth_idx_t idx_of(const struct berth_zone *zone, const struct berth_reclaim_item *item)
{
	return (berth_idx_t)(item->pfn - zone->base_pfn);
}

static uint32_t pages_of(const struct berth_reclaim_item *item)
{
	return berth__pages(item->order);
}

/* ---- Batches ---------------------------------------------------------------------------------------- */

struct batch {
	struct berth_reclaim_item items[BERTH_RECLAIM_BATCH];
	unsigned nr;
	uint32_t ticket;
};

/* Sorted by owner, so that each is asked once. */
static void insert(struct batch *batch, struct berth_reclaim_item item)
{
	unsigned at = batch->nr++;

	for (; at > 0 && batch->items[at - 1].owner > item.owner; at--)
		batch->items[at] = batch->items[at - 1];
	batch->items[at] = item;
}

static struct berth_reclaim_item item_at(const struct berth_zone *zone, berth_idx_t idx)
{
	const struct berth_frame *frame = &zone->frames[idx];
	uint32_t tag = berth__tag(frame);

	return (struct berth_reclaim_item){
		.pfn = berth__pfn(zone, idx),
		.cookie = berth__cookie(zone, idx),
		.order = (uint8_t)berth__tag_order(tag),
		.owner = (uint16_t)berth__tag_owner(tag),
	};
}

/* Takes up to 32 frames, at least a block, off the end of a list. Returns frames. */
static uint64_t isolate(struct berth_zone *zone, unsigned list, struct batch *batch)
{
	struct berth_lru *lru = &zone->lru;
	uint64_t pages = 0;

	batch->nr = 0;
	berth_lock(&lru->lock);
	batch->ticket = ++lru->ticket;
	while (pages < BERTH_RECLAIM_BATCH && lru->lists[list].last != BERTH_IDX_NONE) {
		berth_idx_t idx = lru->lists[list].last;
		struct berth_reclaim_item item = item_at(zone, idx);

		berth__lru_take_locked(zone, idx, BERTH_LRU_ISOLATED);
		zone->links[idx].next = batch->ticket;
		insert(batch, item);
		pages += pages_of(&item);
	}
	berth_unlock(&lru->lock);
	return pages;
}

/* L. */
static bool still_ours_locked(const struct berth_zone *zone, const struct batch *batch,
			      berth_idx_t idx)
{
	return (berth__lru_state(zone, idx) & BERTH_LRU_WHERE) == BERTH_LRU_ISOLATED &&
	       zone->links[idx].next == batch->ticket;
}

/* Back to a list, unless the owner has freed or moved it, or it is unevictable by now. L. */
static void put_back_locked(struct berth_zone *zone, const struct batch *batch, berth_idx_t idx,
			    unsigned list)
{
	if (!still_ours_locked(zone, batch, idx))
		return;
	if (berth__lru_state(zone, idx) & BERTH_LRU_LOCKED)
		list = BERTH_LRU_UNEVICTABLE;
	berth__lru_put_locked(zone, idx, list, false);
}

/* One call for each owner in the batch. */
enum question { REFERENCED, RECLAIM, WRITEBACK };
static void ask_owners(struct berth_zone *zone, struct batch *batch, enum question question)
{
	for (unsigned i = 0, nr; i < batch->nr; i += nr) {
		const struct berth_owner *owner = &zone->owners[batch->items[i].owner];
		void (*ask)(void *ctx, struct berth_reclaim_item *items,
			    unsigned nr_items) = question == REFERENCED ? owner->ops->referenced :
						 question == RECLAIM    ? owner->ops->reclaim :
									  owner->ops->writeback;

		for (nr = 1;
		     i + nr < batch->nr && batch->items[i + nr].owner == batch->items[i].owner;)
			nr++;
		if (ask)
			ask(owner->ctx, &batch->items[i], nr);
	}
}

/* ---- Dropping --------------------------------------------------------------------------------------- */

bool berth_reclaim_freeze(struct berth_zone *zone, const struct berth_reclaim_item *item)
{
	const unsigned not_now = BERTH_LRU_DIRTY | BERTH_LRU_WRITEBACK | BERTH_LRU_LOCKED;
	struct berth_frame *frame;
	unsigned state;
	berth_idx_t idx;
	uint32_t tag;

	if (!zone->lru_state || !berth__idx_one(zone, item->pfn, &idx))
		return false;
	frame = &zone->frames[idx];
	if (berth__tag_kind(berth__tag(frame)) != BERTH_FRAME_USED || !berth__freeze(frame))
		return false;
	/* Nobody splits it or begins to write it from now on; but that may have happened already. */
	tag = berth__tag(frame);
	state = berth__lru_state(zone, idx);
	if ((tag & BERTH_TAG_LRU) && berth__tag_order(tag) == item->order &&
	    berth__tag_owner(tag) == item->owner && berth__cookie(zone, idx) == item->cookie &&
	    !(state & not_now) && (state & BERTH_LRU_WHERE)) /* not taken off the lists */
		return true;
	berth__unfreeze(zone, frame);
	return false;
}

/* What the owners have dropped is free; everybody else learns what they said. Returns frames freed. */
static uint64_t settle(struct berth_zone *zone, struct batch *batch)
{
	uint64_t freed = 0;

	berth_lock(&zone->lock);
	for (unsigned i = 0; i < batch->nr; i++) {
		struct berth_reclaim_item *item = &batch->items[i];
		struct berth_frame *frame = &zone->frames[idx_of(zone, item)];

		if (item->result != BERTH_RECLAIM_DROPPED)
			continue;
		BERTH_ASSERT(zone,
			     !atomic_load_explicit(&frame->refcount, memory_order_acquire) &&
				     berth__tag_order(berth__tag(frame)) == item->order,
			     item->pfn, item->order);
		berth__lru_forget(zone, idx_of(zone, item));
		berth__set_tag(frame, 0);
		berth__account_used_locked(zone, idx_of(zone, item), item->order, -1);
		berth__buddy_free_locked(zone, idx_of(zone, item), item->order);
		freed += pages_of(item);
	}
	berth__count_locked(zone, BERTH_EVENT_PGFREE, freed);
	berth_unlock(&zone->lock);
	add(&zone->lru.dropped, freed);
	return freed;
}

static void put_back_undropped(struct berth_zone *zone, struct batch *batch)
{
	uint64_t dirtied = 0;

	berth_lock(&zone->lru.lock);
	for (unsigned i = 0; i < batch->nr; i++) {
		const struct berth_reclaim_item *item = &batch->items[i];
		berth_idx_t idx = idx_of(zone, item);
		bool active = item->result == BERTH_RECLAIM_REFERENCED;

		if (item->result == BERTH_RECLAIM_DROPPED || !still_ours_locked(zone, batch, idx))
			continue;
		if (item->result == BERTH_RECLAIM_DIRTY &&
		    !(berth__lru_mark(zone, idx, BERTH_LRU_DIRTY) & BERTH_LRU_DIRTY))
			dirtied += berth__pages(berth__tag_order(berth__tag(&zone->frames[idx])));
		put_back_locked(zone, batch, idx, active ? BERTH_LRU_ACTIVE : BERTH_LRU_INACTIVE);
	}
	berth_unlock(&zone->lru.lock);
	add(&zone->lru.nr_dirty, dirtied);
}

static uint64_t drop(struct berth_zone *zone, struct batch *batch)
{
	uint64_t freed;

	if (!batch->nr)
		return 0;
	ask_owners(zone, batch, RECLAIM);
	freed = settle(zone, batch);
	put_back_undropped(zone, batch);
	return freed;
}

/* ---- Writing ---------------------------------------------------------------------------------------- */

/*
 * Begins the write-back of isolated blocks. They go to the far end of the inactive list first, since the
 * write may end before this returns.
 */
static void write_back(struct berth_zone *zone, struct batch *batch, struct berth_scan *scan)
{
	unsigned ready = 0;

	berth_lock(&zone->lru.lock);
	for (unsigned i = 0; i < batch->nr; i++) {
		berth_idx_t idx = idx_of(zone, &batch->items[i]);
		bool ours = still_ours_locked(zone, batch, idx), begun;

		begun = ours && berth__lru_begin_writeback(zone, idx, BERTH_LRU_RECLAIM);
		if (begun) /* as it is now: it may have been split */
			batch->items[ready++] = item_at(zone, idx);
		if (ours)
			put_back_locked(zone, batch, idx, BERTH_LRU_INACTIVE);
	}
	berth_unlock(&zone->lru.lock);
	batch->nr = ready;
	ask_owners(zone, batch, WRITEBACK);
	for (unsigned i = 0; i < batch->nr; i++) {
		const struct berth_reclaim_item *item = &batch->items[i];

		if (item->result == BERTH_RECLAIM_BUSY) {
			int error = berth_lru_end_writeback(zone, item->pfn, false);

			BERTH_ASSERT(zone, !error, item->pfn, item->result);
			continue;
		}
		scan->written += pages_of(item);
		add(&zone->lru.written, pages_of(item));
	}
}

/* ---- Judging ---------------------------------------------------------------------------------------- */

enum verdict { KEEP, ACTIVATE, WRITE, DROP };

/*
 * A block that was used through mappings gets another round, and the second time it becomes active. The
 * mark of berth_lru_mark_accessed() alone saves it only if it is dirty. L: it is ours.
 */
static enum verdict judge_locked(struct berth_zone *zone, const struct berth_reclaim_item *item,
				 struct berth_scan *scan)
{
	berth_idx_t idx = idx_of(zone, item);
	unsigned old = berth__lru_unmark(zone, idx, BERTH_LRU_REFERENCED);

	if (old & BERTH_LRU_LOCKED)
		return KEEP;
	if (item->referenced) {
		if ((old & BERTH_LRU_REFERENCED) || item->referenced > 1)
			return ACTIVATE;
		(void)berth__lru_mark(zone, idx, BERTH_LRU_REFERENCED);
		return KEEP;
	}
	if (old & BERTH_LRU_WRITEBACK) { /* to be dropped as soon as that ends */
		(void)berth__lru_mark(zone, idx, BERTH_LRU_RECLAIM);
		scan->writeback += pages_of(item);
		return KEEP;
	}
	if (!(old & BERTH_LRU_DIRTY))
		return DROP;
	return scan->may_write && !(old & BERTH_LRU_REFERENCED) &&
			       zone->owners[item->owner].ops->writeback ?
		       WRITE :
		       KEEP;
}

/* One batch from the inactive list. */
static void shrink_inactive(struct berth_zone *zone, struct batch *batch, struct berth_scan *scan)
{
	struct batch to_write = { .ticket = batch->ticket };
	unsigned nr_drop = 0, activated = 0;

	ask_owners(zone, batch, REFERENCED);
	berth_lock(&zone->lru.lock);
	for (unsigned i = 0; i < batch->nr; i++) {
		struct berth_reclaim_item item = batch->items[i];
		berth_idx_t idx = idx_of(zone, &item);
		enum verdict verdict;

		if (!still_ours_locked(zone, batch, idx))
			continue;
		verdict = judge_locked(zone, &item, scan);
		if (verdict == DROP) {
			batch->items[nr_drop++] = item;
		} else if (verdict == WRITE) {
			insert(&to_write, item);
		} else {
			activated += verdict == ACTIVATE ? pages_of(&item) : 0;
			put_back_locked(zone, batch, idx,
					verdict == ACTIVATE ? BERTH_LRU_ACTIVE :
							      BERTH_LRU_INACTIVE);
		}
	}
	berth_unlock(&zone->lru.lock);
	batch->nr = nr_drop;
	add(&zone->lru.activated, activated);
	scan->reclaimed += drop(zone, batch);
	write_back(zone, &to_write, scan);
}

/* One batch from the active list: what was used since it came there stays. */
static void shrink_active(struct berth_zone *zone, struct batch *batch)
{
	uint64_t rotated = 0, deactivated = 0;

	ask_owners(zone, batch, REFERENCED);
	berth_lock(&zone->lru.lock);
	for (unsigned i = 0; i < batch->nr; i++) {
		const struct berth_reclaim_item *item = &batch->items[i];
		berth_idx_t idx = idx_of(zone, item);
		bool used;

		if (!still_ours_locked(zone, batch, idx))
			continue;
		used = (berth__lru_unmark(zone, idx, BERTH_LRU_REFERENCED) &
			BERTH_LRU_REFERENCED) ||
		       item->referenced;
		*(used ? &rotated : &deactivated) += pages_of(item);
		put_back_locked(zone, batch, idx, used ? BERTH_LRU_ACTIVE : BERTH_LRU_INACTIVE);
	}
	berth_unlock(&zone->lru.lock);
	add(&zone->lru.rotated, rotated);
	add(&zone->lru.deactivated, deactivated);
}

/* ---- Scans ------------------------------------------------------------------------------------------- */

/*
 * The larger a zone, the smaller the part of it that may be inactive: 1 : 1 below 1 GiB, 1 : 3 with 1 GiB,
 * 1 : 10 with 10, 1 : 32 with 100: the square root of 10 times the GiB.
 */
static bool inactive_is_low(const struct berth_zone *zone)
{
	uint64_t inactive = load(&zone->lru.nr_pages[BERTH_LRU_INACTIVE]);
	uint64_t active = load(&zone->lru.nr_pages[BERTH_LRU_ACTIVE]);
	uint64_t tens = ((inactive + active) >> (30 - BERTH_PAGE_SHIFT)) * 10, ratio = 1;

	while ((ratio + 1) * (ratio + 1) <= tens) /* at most 404 times: 2^32 frames */
		ratio++;
	return inactive * ratio < active;
}

uint64_t berth__evictable_pages(const struct berth_zone *zone)
{
	return zone->lru_state ? load(&zone->lru.nr_pages[BERTH_LRU_INACTIVE]) +
					 load(&zone->lru.nr_pages[BERTH_LRU_ACTIVE]) :
				 0;
}

void berth__shrink_zone(struct berth_zone *zone, struct berth_scan *scan)
{
	uint64_t before = scan->reclaimed, scanned = scan->scanned, left[2];
	struct batch batch;

	if (!zone->lru_state)
		return;
	if (scan->priority == BERTH_MAX_PRIORITY)
		berth_lru_add_drain(zone);
	else if (!scan->priority) /* in the end nothing is overlooked */
		berth_lru_add_drain_all(zone);
	left[BERTH_LRU_INACTIVE] = load(&zone->lru.nr_pages[BERTH_LRU_INACTIVE]) >> scan->priority;
	left[BERTH_LRU_ACTIVE] = load(&zone->lru.nr_pages[BERTH_LRU_ACTIVE]) >> scan->priority;
	while (left[0] || left[1]) {
		for (unsigned list = BERTH_LRU_INACTIVE; list <= BERTH_LRU_ACTIVE; list++) {
			uint64_t pages = 0;

			if (!left[list])
				continue;
			if (list == BERTH_LRU_INACTIVE || inactive_is_low(zone))
				pages = isolate(zone, list, &batch);
			left[list] = pages && pages < left[list] ? left[list] - pages : 0;
			if (!pages)
				continue;
			scan->scanned += pages;
			add(&zone->lru.scanned, pages);
			if (list == BERTH_LRU_INACTIVE)
				shrink_inactive(zone, &batch, scan);
			else
				shrink_active(zone, &batch);
		}
		if (scan->reclaimed - before >= scan->want ||
		    (scan->budget && scan->scanned - scanned >= scan->budget))
			break;
	}
}

void berth__may_write(const struct berth_zone *zone, struct berth_scan *scan)
{
	uint64_t inactive = load(&zone->lru.nr_pages[BERTH_LRU_INACTIVE]);

	scan->may_write |= scan->priority < WRITE_PRIORITY &&
			   scan->scanned >= (inactive < LOOK_FIRST ? inactive : LOOK_FIRST);
}

uint64_t berth_zone_reclaim(struct berth_zone *zone, uint64_t nr_pages, unsigned flags)
{
	struct berth_scan scan = { .want = nr_pages, .may_write = flags & BERTH_RECLAIM_WRITE };
	uint64_t freed = 0;

	for (unsigned left = BERTH_MAX_PRIORITY + 1; left-- > 0 && freed < nr_pages;) {
		uint64_t writeback = scan.writeback + scan.written, before = scan.reclaimed;

		scan.want = nr_pages - freed;
		scan.priority = left;
		berth__may_write(zone, &scan);
		berth__shrink_zone(zone, &scan);
		freed += scan.reclaimed - before;
		freed += berth__shrink_others(&zone->lru.shrinkers, left);
		if (scan.reclaimed == before && scan.writeback + scan.written != writeback)
			zone->port->wait(zone->port_ctx, WRITE_WAIT_NS);
	}
	return freed;
}

/* ---- For claims --------------------------------------------------------------------------------------- */

/* As the search counts on it: berth__drops(). */
static bool droppable(const struct berth_zone *zone, const struct berth_move *move, bool any)
{
	berth_idx_t idx = (berth_idx_t)(move->src - zone->base_pfn);

	return berth__drops(zone, any, berth__discardable(berth__lru_state(zone, idx)));
}

/* What owners called dirty is: as far as it is still the block that they were asked about. */
static void learn_dirty(struct berth_zone *zone, const struct batch *batch)
{
	uint64_t dirtied = 0;
	bool any = false;

	for (unsigned i = 0; i < batch->nr; i++)
		any |= batch->items[i].result == BERTH_RECLAIM_DIRTY;
	if (!any)
		return;
	berth_lock(&zone->lru.lock);
	for (unsigned i = 0; i < batch->nr; i++) {
		const struct berth_reclaim_item *item = &batch->items[i];
		berth_idx_t idx = idx_of(zone, item);
		const struct berth_frame *frame = &zone->frames[idx];
		uint32_t tag = berth__tag(frame);

		/* On a list, under its lock: so it is allocated, and whole. */
		if (item->result == BERTH_RECLAIM_DIRTY &&
		    (berth__lru_state(zone, idx) & BERTH_LRU_WHERE) &&
		    berth__tag_order(tag) == item->order && berth__tag_owner(tag) == item->owner &&
		    berth__cookie(zone, idx) == item->cookie &&
		    !(berth__lru_mark(zone, idx, BERTH_LRU_DIRTY) & BERTH_LRU_DIRTY))
			dirtied += pages_of(item);
	}
	berth_unlock(&zone->lru.lock);
	add(&zone->lru.nr_dirty, dirtied);
}

static bool was_dropped(const struct batch *batch, berth_pfn_t pfn)
{
	for (unsigned i = 0; i < batch->nr; i++)
		if (batch->items[i].pfn == pfn)
			return batch->items[i].result == BERTH_RECLAIM_DROPPED;
	return false;
}

uint64_t berth__drop_for_claim(struct berth_zone *zone, struct berth_move *moves,
			       unsigned *nr_moves, bool any)
{
	unsigned nr = *nr_moves, kept = 0;
	uint64_t freed = 0;

	for (unsigned from = 0, to; zone->lru_state && from < nr; from = to) {
		struct batch batch = { .nr = 0 };

		for (to = from; to < nr && batch.nr < BERTH_RECLAIM_BATCH; to++) {
			const struct berth_move *move = &moves[to];

			if (droppable(zone, move, any))
				insert(&batch, (struct berth_reclaim_item){ .pfn = move->src,
									    .cookie = move->cookie,
									    .order = move->order,
									    .owner = move->owner });
		}
		/* They stay where they are in their lists: a reclaimer that meets them is told GONE. */
		if (batch.nr && !any)
			ask_owners(zone, &batch, REFERENCED);
		for (unsigned i = 0; i < batch.nr;)
			if (batch.items[i].referenced)
				batch.items[i] = batch.items[--batch.nr];
			else
				i++;
		if (batch.nr) {
			ask_owners(zone, &batch, RECLAIM);
			freed += settle(zone, &batch);
			learn_dirty(zone, &batch);
		}
		for (unsigned i = from; i < to; i++)
			if (!was_dropped(&batch, moves[i].src))
				moves[kept++] = moves[i];
	}
	if (zone->lru_state)
		*nr_moves = kept;
	if (freed)
		berth__count(zone, BERTH_EVENT_CLAIM_DROP, freed);
	return freed;
}
