/* SPDX-License-Identifier: MIT */
/*
 * Contiguous ranges: emptying a chosen range and taking it.
 *
 *	isolate (take what is free) -> drain per-CPU lists -> look for blockers -> migrate in
 *	batches, taking what becomes free -> all taken: keep; otherwise: undo
 *
 * I1  After the call the range is wholly claimed, or nothing of it is claimed or isolated.
 * I2  Nothing is moved when a blocker is known before the first move.
 * I3  Every loop is bounded: MAX_PASSES scans without progress, and the deadline.
 *
 * Complexity: a free range O(pageblocks), without the drain; otherwise + O(blocks) for each scan and
 * the moves.
 */
#include "core/internal.h"

#define MAX_PASSES 16u         /* scans that find blocks changing under them */
#define FEW_PASSES 8u          /* likewise with BERTH_CLAIM_NORETRY: 5 ms of waiting in all */
#define FIRST_WAIT_NS 20000ull /* for blocks in flight; doubles with each pass, 1.3 s in all */

struct claim {
	struct berth_zone *zone;
	berth_idx_t start, end;
	uint64_t taken;
	const struct berth_emptying *how;
	const struct berth_claim_params *params; /* how->params */
	struct berth_claim_report *report;
	uint64_t phase_began;
};

static void end_phase(struct claim *claim, enum berth_claim_phase phase)
{
	uint64_t now = berth__now(claim->zone);

	claim->report->phase_ns[phase] += now - claim->phase_began;
	claim->phase_began = now;
}

static bool deadline_passed(const struct claim *claim)
{
	return claim->params->deadline_ns && berth__now(claim->zone) >= claim->params->deadline_ns;
}

int berth__blocked_by(struct berth_zone *zone, berth_idx_t head, struct berth_claim_report *report)
{
	uint32_t tag = berth__tag(&zone->frames[head]);
	const struct berth_owner *owner = &zone->owners[berth__tag_owner(tag)];

	report->blocker_pfn = berth__pfn(zone, head);
	report->blocker_pages = berth__pages(berth__tag_order(tag));
	report->blocker_holder = NULL;
	if (berth__tag_kind(tag) == BERTH_FRAME_CLAIMED)
		report->blocker_owner = "a claim";
	else if (berth__tag_kind(tag) != BERTH_FRAME_USED)
		report->blocker_owner = "a claim in progress, or frames that aren't managed";
	else if (tag & BERTH_TAG_ORPHAN)
		report->blocker_owner = "a pin of freed memory";
	else
		report->blocker_owner = owner->ops ? owner->ops->name : "unmovable allocation";
	return -BERTH_EBUSY;
}

/* What a scan found. */
struct scan {
	berth_idx_t next;    /* where to go on */
	berth_idx_t blocker; /* head of a block that can't move now, or NONE */
	bool in_flight;      /* met a block that is just being moved or cached */
	unsigned nr_moves;
	struct berth_move moves[BERTH_MOVE_BATCH];
};

/*
 * Looks at one used block: a candidate for the batch, a blocker, or in flight. `whole`: it lies in
 * the range; one that sticks out is never collected. Z.
 */
static void scan_used_locked(const struct claim *claim, struct scan *scan, berth_idx_t head,
			     bool whole)
{
	const struct berth_zone *zone = claim->zone;
	const struct berth_frame *frame = &zone->frames[head];
	uint32_t tag = berth__tag(frame);
	uint32_t refs = atomic_load_explicit(&frame->refcount, memory_order_relaxed);

	if (tag & BERTH_TAG_ARRIVING) {
		scan->in_flight = true;
	} else if (!(tag & BERTH_TAG_MOVABLE) || refs > 1 || (tag & BERTH_TAG_ORPHAN) ||
		   (claim->how->evictable_only &&
		    zone->owners[berth__tag_owner(tag)].ops->unevictable) ||
		   (!whole && !claim->how->may_split)) {
		scan->blocker = head;
	} else if (refs == 0 || !whole) {
		scan->in_flight = true; /* frozen, or was held when it should be cut */
	} else {
		scan->moves[scan->nr_moves++] = (struct berth_move){
			.src = berth__pfn(zone, head),
			.cookie = frame->cookie,
			.order = (uint8_t)berth__tag_order(tag),
			.owner = (uint16_t)berth__tag_owner(tag),
		};
	}
}

/* Cuts a used block at an edge of the range, so that only what is inside moves. Z. */
static bool trim_locked(struct claim *claim, berth_idx_t head)
{
	struct berth_zone *zone = claim->zone;

	return claim->how->may_split && (berth__tag(&zone->frames[head]) & BERTH_TAG_MOVABLE) &&
	       berth__split_used_at_locked(zone, head,
					   head < claim->start ? claim->start : claim->end);
}

/* One step of a scan: the block that holds idx. Returns the index to go on with. Z. */
static berth_idx_t scan_block_locked(struct claim *claim, struct scan *scan, berth_idx_t idx,
				     bool collect)
{
	struct berth_zone *zone = claim->zone;
	berth_idx_t head = berth__head(zone, idx), block_end;
	uint32_t tag;
	bool whole;

	if (head == BERTH_IDX_NONE) { /* on its way out of a per-CPU list */
		scan->in_flight = true;
		return idx + 1;
	}
	tag = berth__tag(&zone->frames[head]);
	block_end = head + berth__pages(berth__tag_order(tag));
	whole = head >= claim->start && block_end <= claim->end;
	switch (berth__tag_kind(tag)) {
	case BERTH_FRAME_FREE:
		claim->taken += berth__take_free_locked(zone, head, claim->start, claim->end);
		break;
	case BERTH_FRAME_PCP:
		scan->in_flight = true;
		break;
	case BERTH_FRAME_USED:
		if (collect && !whole && trim_locked(claim, head))
			return idx; /* look again: the block is smaller now */
		scan_used_locked(claim, scan, head, whole);
		if (!collect)
			scan->nr_moves = 0;
		break;
	default:
		break;
	}
	return block_end;
}

/*
 * Scans from scan->next until the batch is full, a blocker is met or the range ends, and takes free
 * blocks on the way. With `collect` false it only looks. Holds the zone lock for one pageblock at a
 * time.
 */
static void scan_range(struct claim *claim, struct scan *scan, bool collect)
{
	struct berth_zone *zone = claim->zone;
	berth_idx_t size = berth__pages(zone->pageblock_order);

	scan->nr_moves = 0;
	scan->in_flight = false;
	scan->blocker = BERTH_IDX_NONE;
	while (scan->next < claim->end && scan->blocker == BERTH_IDX_NONE &&
	       scan->nr_moves < BERTH_MOVE_BATCH) {
		berth_idx_t stop = (scan->next & ~(size - 1)) + size;

		if (stop > claim->end)
			stop = claim->end;
		berth_lock(&zone->lock);
		while (scan->next < stop && scan->blocker == BERTH_IDX_NONE &&
		       scan->nr_moves < BERTH_MOVE_BATCH)
			scan->next = scan_block_locked(claim, scan, scan->next, collect);
		berth_unlock(&zone->lock);
	}
}

/* A look at the whole range for what can't move, before anything has. */
static int look_for_blockers(struct claim *claim, struct scan *scan)
{
	scan->next = claim->start;
	scan_range(claim, scan, false);
	if (scan->blocker == BERTH_IDX_NONE)
		return 0;
	claim->report->busy_blocks++;
	return berth__blocked_by(claim->zone, scan->blocker, claim->report);
}

/* Blocks keep changing under the scans: names the first that isn't taken. */
static int give_up(struct claim *claim)
{
	struct berth_zone *zone = claim->zone;

	berth_lock(&zone->lock);
	for (berth_idx_t idx = claim->start; idx < claim->end;) {
		berth_idx_t head = berth__head(zone, idx);
		uint32_t tag = head == BERTH_IDX_NONE ? 0 : berth__tag(&zone->frames[head]);

		if (!(tag & BERTH_TAG_TAKING) || berth__tag_kind(tag) != BERTH_FRAME_CLAIMED) {
			berth__blocked_by(zone, head == BERTH_IDX_NONE ? idx : head, claim->report);
			break;
		}
		idx = head + berth__pages(berth__tag_order(tag));
	}
	berth_unlock(&zone->lock);
	claim->report->busy_blocks++;
	return -BERTH_EBUSY;
}

/* Moves everything out, until all is taken. */
static int empty_range(struct claim *claim, struct scan *scan)
{
	struct berth_zone *zone = claim->zone;
	const struct berth_move *busy;
	unsigned passes = 0;
	bool progress = true;
	berth_pfn_t first;
	uint64_t before;
	int error;

	scan->next = claim->start;
	while (claim->taken < claim->end - claim->start) {
		if (scan->next >= claim->end || !progress) { /* it changed under the scan */
			if (++passes >= claim->how->passes)
				return give_up(claim);
			zone->port->wait(zone->port_ctx, FIRST_WAIT_NS << passes);
			scan->next = claim->start;
		}
		progress = true;
		if (deadline_passed(claim))
			return -BERTH_EAGAIN;
		scan_range(claim, scan, true);
		if (scan->blocker != BERTH_IDX_NONE) {
			claim->report->busy_blocks++;
			return berth__blocked_by(zone, scan->blocker, claim->report);
		}
		if (!scan->nr_moves)
			continue;
		first = scan->moves[0].src; /* the batch will be sorted otherwise */
		before = claim->report->moved_pages;
		error = berth__migrate_batch(zone, scan->moves, scan->nr_moves, claim->how->dst_set,
					     claim->how->may_split, claim->report, &busy);
		claim->taken += claim->report->moved_pages - before;
		if (busy) {
			berth__blocked_by(zone, (berth_idx_t)(busy->src - zone->base_pfn),
					  claim->report);
			claim->report->blocker_holder = busy->holder;
		}
		if (error)
			return error;
		progress = claim->report->moved_pages != before;
		scan->next = (berth_idx_t)(first - zone->base_pfn);
	}
	return 0;
}

void berth__ask_holder(struct berth_zone *zone, struct berth_claim_report *report)
{
	const struct berth_owner *owner;
	const struct berth_frame *frame;
	uint64_t cookie;
	uint32_t tag;

	if (report->blocker_pfn == BERTH_PFN_NONE || report->blocker_holder)
		return;
	frame = &zone->frames[report->blocker_pfn - zone->base_pfn];
	berth_lock(&zone->lock);
	tag = berth__tag(frame);
	cookie = frame->cookie;
	berth_unlock(&zone->lock);
	owner = &zone->owners[berth__tag_owner(tag)];
	if (berth__tag_kind(tag) == BERTH_FRAME_USED && !(tag & BERTH_TAG_ORPHAN) && owner->ops &&
	    owner->ops->holder)
		report->blocker_holder = owner->ops->holder(owner->ctx, report->blocker_pfn,
							    cookie);
}

static int take_range(struct claim *claim)
{
	struct berth_zone *zone = claim->zone;
	berth_idx_t blocker;
	struct scan scan;
	int error;

	error = berth__isolate_range(zone, claim->start, claim->end, &claim->taken, &blocker);
	end_phase(claim, BERTH_PHASE_ISOLATE);
	if (error) {
		berth__blocked_by(zone, blocker, claim->report);
		return error;
	}
	claim->report->free_pages_taken += claim->taken;
	if (claim->taken < claim->end - claim->start) {
		berth__pcp_drain_range(zone, claim->start, claim->end);
		end_phase(claim, BERTH_PHASE_DRAIN);
		error = look_for_blockers(claim, &scan);
		if (!error && scan.in_flight && !claim->how->passes)
			error = give_up(claim); /* nobody waits: so nothing is moved in vain */
		if (!error && claim->taken < claim->end - claim->start &&
		    (claim->params->flags & BERTH_CLAIM_FREE_ONLY))
			error = -BERTH_EAGAIN;
		if (!error)
			error = empty_range(claim, &scan);
		if (error)
			berth__ask_holder(zone, claim->report);
		end_phase(claim, BERTH_PHASE_MIGRATE);
	}
	berth__unisolate_range(zone, claim->start, claim->end, !error && claim->how->keep,
			       claim->how->start_flags);
	end_phase(claim, BERTH_PHASE_FINISH);
	return error;
}

int berth__empty_range(struct berth_zone *zone, berth_idx_t start, berth_idx_t end,
		       const struct berth_emptying *how, struct berth_claim_report *report)
{
	struct claim claim = {
		.zone = zone,
		.start = start,
		.end = end,
		.how = how,
		.params = how->params,
		.report = report,
		.phase_began = berth__now(zone),
	};
	int error;

	report->tries++;
	error = take_range(&claim);
	if (!error) { /* what was in the way of earlier tries isn't any more */
		report->blocker_pfn = BERTH_PFN_NONE;
		report->blocker_pages = 0;
		report->nr_blockers = 0;
		report->blocker_owner = report->blocker_holder = NULL;
	}
	return error;
}

int berth__claim_range(struct berth_zone *zone, berth_idx_t start, berth_idx_t end, uint32_t flags,
		       const struct berth_claim_params *params, struct berth_claim_report *report)
{
	const struct berth_emptying how = {
		.params = params,
		.start_flags = flags,
		.dst_set = BERTH_SET_NONE,
		.passes = params->flags & BERTH_CLAIM_NORETRY ? FEW_PASSES : MAX_PASSES,
		.may_split = true,
		.keep = true,
	};

	return berth__empty_range(zone, start, end, &how, report);
}

int berth_alloc_contig_range(struct berth_zone *zone, berth_pfn_t start_pfn, uint64_t nr_pages,
			     const struct berth_claim_params *params,
			     struct berth_claim_report *report)
{
	static const struct berth_claim_params plain;
	struct berth_claim_report own;
	berth_idx_t start;

	if (!report)
		report = &own;
	*report = (struct berth_claim_report){ .nr_pages = nr_pages,
					       .blocker_pfn = BERTH_PFN_NONE };
	if (!nr_pages || !berth__idx(zone, start_pfn, nr_pages, &start))
		return report->error = -BERTH_EINVAL;
	report->error = berth__claim_range(zone, start, start + (berth_idx_t)nr_pages, 0,
					   params ? params : &plain, report);
	return report->error;
}

/* ---- Giving back ---------------------------------------------------------------------------------- */

int berth__release_range(struct berth_zone *zone, berth_idx_t start, uint64_t nr_pages,
			 uint32_t flags)
{
	const uint32_t mask = BERTH_TAG(7, 0) | BERTH_TAG_START | BERTH_TAG_AREA;
	const struct berth_frame *frame = &zone->frames[start];
	berth_idx_t end = start + (berth_idx_t)nr_pages;
	int error = 0;

	berth_lock(&zone->lock);
	if ((berth__tag(frame) & mask) !=
		    (BERTH_TAG(BERTH_FRAME_CLAIMED, 0) | BERTH_TAG_START | flags) ||
	    frame->cookie != nr_pages) {
		error = -BERTH_EINVAL;
	} else {
		berth__account_claimed_locked(zone, start, end - start, -1);
		for (berth_idx_t idx = start; idx < end;) {
			uint32_t tag = berth__tag(&zone->frames[idx]);

			BERTH_ASSERT(zone, berth__tag_kind(tag) == BERTH_FRAME_CLAIMED, tag, idx);
			berth__set_tag(&zone->frames[idx], 0);
			idx += berth__pages(berth__tag_order(tag));
		}
		berth__buddy_free_range_locked(zone, start, end);
	}
	berth_unlock(&zone->lock);
	return error;
}

int berth_free_contig_range(struct berth_zone *zone, berth_pfn_t start_pfn, uint64_t nr_pages)
{
	berth_idx_t start;

	if (!nr_pages || !berth__idx(zone, start_pfn, nr_pages, &start))
		return -BERTH_EINVAL;
	return berth__release_range(zone, start, nr_pages, 0);
}
