/* SPDX-License-Identifier: MIT */
/*
 * Contiguous ranges: emptying a chosen range and taking it.
 *
 *	all free: take it; otherwise
 *	isolate (take what is free) -> drain per-CPU lists -> look for blockers -> migrate in
 *	batches, taking what becomes free -> all taken: keep; otherwise: undo
 *
 * It goes in steps (berth__claiming_*), between which no lock is held and the range stays fenced off.
 * So a claim can be made bit by bit, and any number of them at the same time.
 *
 * I1  After the end the range is wholly claimed, or nothing of it is claimed or isolated.
 * I2  Nothing is moved when a blocker is known before the first move.
 * I3  Every loop is bounded: `passes` scans without progress, and the deadline.
 *
 * What was moved before a failure stays where it is: moving it back costs the same again, and the next
 * claim would have to move it once more.
 *
 * Complexity: a free range O(pageblocks), without the drain; otherwise + O(blocks) for each scan and
 * the moves.
 */
#include "core/alloc/claims.h"
#include "core/alloc/internal.h"

#define FIRST_WAIT_NS 20000ull /* for blocks in flight; doubles with each pass */

static void end_phase(struct berth_claiming *claim, enum berth_claim_phase phase)
{
	uint64_t now = berth__now(claim->zone);

	claim->report->phase_ns[phase] += now - claim->phase_began;
	claim->phase_began = now;
}

static bool deadline_passed(const struct berth_claiming *claim)
{
	const struct berth_claim_params *params = claim->how->params;

	return params->deadline_ns && berth__now(claim->zone) >= params->deadline_ns;
}

int berth__blocked_by(struct berth_zone *zone, berth_idx_t head, struct berth_claim_report *report)
{
	uint32_t tag = berth__tag(&zone->frames[head]);
	const struct berth_owner *owner = &zone->owners[berth__tag_owner(tag)];

	report->blocker_pfn = berth__pfn(zone, head);
	report->blocker_pages = berth__pages(berth__tag_order(tag));
	report->blocker_holder = NULL;
	report->reason = BERTH_CLAIM_OTHER_CLAIM;
	if (berth__tag_kind(tag) == BERTH_FRAME_CLAIMED)
		report->blocker_owner = "a claim";
	else if (berth__tag_kind(tag) != BERTH_FRAME_USED)
		report->blocker_owner = "a claim in progress, or frames that aren't managed";
	else if (tag & BERTH_TAG_ORPHAN)
		report->blocker_owner = "a pin of freed memory";
	else
		report->blocker_owner = owner->ops ? owner->ops->name : "unmovable allocation";
	if (berth__tag_kind(tag) == BERTH_FRAME_USED)
		report->reason = tag & BERTH_TAG_MOVABLE ? BERTH_CLAIM_PINNED :
							   BERTH_CLAIM_UNMOVABLE;
	return -BERTH_EBUSY;
}

/* What a scan found. */
struct scan {
	berth_idx_t next;    /* where to go on */
	berth_idx_t blocker; /* head of a block that can't move now, or NONE */
	bool in_flight;      /* met a block that is just being moved or cached: claim->in_flight */
	unsigned nr_moves;
	struct berth_move moves[BERTH_MOVE_BATCH];
};

static bool unevictable(const struct berth_zone *zone, berth_idx_t head)
{
	return zone->owners[berth__tag_owner(berth__tag(&zone->frames[head]))].ops->unevictable ||
	       (zone->lru_state && (berth__lru_state(zone, head) & BERTH_LRU_LOCKED));
}

static void met_in_flight(struct berth_claiming *claim, struct scan *scan, berth_idx_t idx)
{
	scan->in_flight = true;
	claim->in_flight = idx;
}

/*
 * Looks at one used block: a candidate for the batch, a blocker, or in flight. `whole`: it lies in
 * the range; one that sticks out is never collected, and in flight only if it should have been cut. Z.
 */
static void scan_used_locked(struct berth_claiming *claim, struct scan *scan, berth_idx_t head,
			     bool whole, bool collect)
{
	const struct berth_zone *zone = claim->zone;
	const struct berth_frame *frame = &zone->frames[head];
	uint32_t tag = berth__tag(frame);
	uint32_t refs = atomic_load_explicit(&frame->refcount, memory_order_relaxed);

	if (tag & BERTH_TAG_ARRIVING) {
		met_in_flight(claim, scan, head);
	} else if (!(tag & BERTH_TAG_MOVABLE) || refs > 1 || (tag & BERTH_TAG_ORPHAN) ||
		   (claim->how->evictable_only && unevictable(zone, head)) ||
		   (!whole && !claim->how->may_split)) {
		scan->blocker = head;
	} else if (refs == 0 || (!whole && collect)) {
		met_in_flight(claim, scan, head); /* frozen, or was held when it should be cut */
	} else if (collect) {
		scan->moves[scan->nr_moves++] = (struct berth_move){
			.src = berth__pfn(zone, head),
			.cookie = berth__cookie(zone, head),
			.order = (uint8_t)berth__tag_order(tag),
			.owner = (uint16_t)berth__tag_owner(tag),
		};
	}
}

/* Cuts a used block at an edge of the range, so that only what is inside moves. Z. */
static bool trim_locked(struct berth_claiming *claim, berth_idx_t head)
{
	struct berth_zone *zone = claim->zone;

	return claim->how->may_split && (berth__tag(&zone->frames[head]) & BERTH_TAG_MOVABLE) &&
	       berth__split_used_at_locked(zone, head,
					   head < claim->range.start ? claim->range.start :
								       claim->range.end);
}

/* One step of a scan: the block that holds idx. Returns the index to go on with. Z. */
static berth_idx_t scan_block_locked(struct berth_claiming *claim, struct scan *scan,
				     berth_idx_t idx, bool collect)
{
	struct berth_zone *zone = claim->zone;
	berth_idx_t head = berth__head(zone, idx), block_end;
	uint32_t tag;
	bool whole;

	if (head == BERTH_IDX_NONE) { /* on its way out of a per-CPU list */
		met_in_flight(claim, scan, idx);
		return idx + 1;
	}
	tag = berth__tag(&zone->frames[head]);
	block_end = head + berth__pages(berth__tag_order(tag));
	whole = head >= claim->range.start && block_end <= claim->range.end;
	switch (berth__tag_kind(tag)) {
	case BERTH_FRAME_FREE:
		claim->taken += berth__take_free_locked(zone, head, claim->range.start,
							claim->range.end);
		break;
	case BERTH_FRAME_PCP:
		met_in_flight(claim, scan, head);
		break;
	case BERTH_FRAME_USED:
		if (collect && !whole && trim_locked(claim, head))
			return idx; /* look again: the block is smaller now */
		scan_used_locked(claim, scan, head, whole, collect);
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
static void scan_range(struct berth_claiming *claim, struct scan *scan, bool collect)
{
	struct berth_zone *zone = claim->zone;
	berth_idx_t size = berth__pages(zone->pageblock_order);

	scan->nr_moves = 0;
	scan->in_flight = false;
	scan->blocker = BERTH_IDX_NONE;
	while (scan->next < claim->range.end && scan->blocker == BERTH_IDX_NONE &&
	       scan->nr_moves < BERTH_MOVE_BATCH) {
		berth_idx_t stop = (scan->next & ~(size - 1)) + size;

		if (stop > claim->range.end)
			stop = claim->range.end;
		berth_lock(&zone->lock);
		while (scan->next < stop && scan->blocker == BERTH_IDX_NONE &&
		       scan->nr_moves < BERTH_MOVE_BATCH)
			scan->next = scan_block_locked(claim, scan, scan->next, collect);
		berth_unlock(&zone->lock);
	}
}

/* A look at the whole range for what can't move, before anything has. */
static int look_for_blockers(struct berth_claiming *claim, struct scan *scan)
{
	scan->next = claim->range.start;
	scan_range(claim, scan, false);
	if (scan->blocker == BERTH_IDX_NONE)
		return 0;
	claim->report->busy_blocks++;
	return berth__blocked_by(claim->zone, scan->blocker, claim->report);
}

/* True when somebody still has the block at idx; names it. Z. */
static bool blame_locked(struct berth_claiming *claim, berth_idx_t idx, berth_idx_t *next)
{
	struct berth_zone *zone = claim->zone;
	berth_idx_t head = berth__head(zone, idx);
	uint32_t tag = head == BERTH_IDX_NONE ? 0 : berth__tag(&zone->frames[head]);

	*next = head + berth__pages(berth__tag_order(tag));
	if ((tag & BERTH_TAG_TAKING) && berth__tag_kind(tag) == BERTH_FRAME_CLAIMED)
		return false;
	berth__blocked_by(zone, head == BERTH_IDX_NONE ? idx : head, claim->report);
	return true;
}

/* Blocks keep changing under the scans: names the one met last, or the first that isn't taken. */
static int give_up(struct berth_claiming *claim)
{
	struct berth_zone *zone = claim->zone;
	berth_idx_t idx = claim->range.start, next;

	berth_lock(&zone->lock);
	if (claim->in_flight == BERTH_IDX_NONE || !blame_locked(claim, claim->in_flight, &next))
		while (idx < claim->range.end && !blame_locked(claim, idx, &next))
			idx = next;
	berth_unlock(&zone->lock);
	claim->report->busy_blocks++;
	claim->report->reason = BERTH_CLAIM_IN_FLIGHT;
	return -BERTH_EBUSY;
}

/* What its owners can do without needn't move. It is free then, and the next scan takes it. */
static bool drop(struct berth_claiming *claim, struct scan *scan)
{
	uint64_t pages = 0;

	if (claim->how->may_drop)
		pages = berth__drop_for_claim(claim->zone, scan->moves, &scan->nr_moves,
					      claim->how->params->flags & BERTH_CLAIM_DROP);
	claim->report->dropped_pages += pages;
	return pages > 0;
}

/* A batch was moved, as far as it could be. */
static int moved_batch(struct berth_claiming *claim, struct scan *scan)
{
	struct berth_zone *zone = claim->zone;
	berth_pfn_t first = scan->moves[0].src; /* the batch will be sorted otherwise */
	uint64_t before = claim->report->moved_pages;
	const struct berth_move *busy;
	bool dropped = drop(claim, scan);
	struct berth_move *moves = scan->moves, *gathered = NULL;
	unsigned nr_moves = scan->nr_moves;
	int error;

	claim->next = (berth_idx_t)(first - zone->base_pfn);
	if (dropped && !scan->nr_moves)
		return 0;
	if (!claim->how->evictable_only)
		gathered = berth__gather_begin(zone, &moves[0]);
	if (gathered) {
		nr_moves = berth__gather(zone, &claim->range, moves, nr_moves, gathered);
		moves = gathered;
	}
	error = berth__migrate_batch(zone, moves, nr_moves, claim->how->dst_set,
				     claim->how->may_split, claim->report, &busy);
	claim->taken += claim->report->moved_pages - before;
	if (busy) {
		berth__blocked_by(zone, (berth_idx_t)(busy->src - zone->base_pfn), claim->report);
		claim->report->blocker_holder = busy->holder;
		claim->report->reason = BERTH_CLAIM_OWNER_BUSY;
	}
	if (gathered)
		berth__gather_end(zone, gathered);
	if (error == -BERTH_ENOMEM)
		claim->report->reason = BERTH_CLAIM_NO_DESTINATION;
	claim->no_progress = !dropped && claim->report->moved_pages == before;
	return error;
}

/* Moves one batch out. */
static int empty_more(struct berth_claiming *claim)
{
	struct berth_zone *zone = claim->zone;
	struct scan scan = { .next = claim->next };

	if (scan.next >= claim->range.end || claim->no_progress) { /* it changed under the scan */
		if (++claim->passes >= claim->how->passes)
			return give_up(claim);
		zone->port->wait(zone->port_ctx, FIRST_WAIT_NS << claim->passes);
		scan.next = claim->range.start;
	}
	claim->no_progress = false;
	if (deadline_passed(claim)) {
		claim->report->reason = BERTH_CLAIM_DEADLINE;
		return -BERTH_EAGAIN;
	}
	scan_range(claim, &scan, true);
	claim->next = scan.next;
	if (scan.blocker != BERTH_IDX_NONE) {
		claim->report->busy_blocks++;
		return berth__blocked_by(zone, scan.blocker, claim->report);
	}
	return scan.nr_moves ? moved_batch(claim, &scan) : 0;
}

void berth__mark_busy(struct berth_zone *zone, berth_pfn_t pfn)
{
	uint32_t until = berth__busy_clock(berth__now(zone) + BERTH_BUSY_NS);

	if (pfn == BERTH_PFN_NONE)
		return;
	atomic_store_explicit(
		&berth__pageblock(zone, (berth_idx_t)(pfn - zone->base_pfn))->busy_until, until,
		memory_order_relaxed);
	atomic_store_explicit(&zone->busy_latest, until, memory_order_relaxed);
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
	/* It may have been freed since and be just allocated from a CPU's list, without the lock. */
	cookie = berth__cookie(zone, (berth_idx_t)(frame - zone->frames));
	berth_unlock(&zone->lock);
	owner = &zone->owners[berth__tag_owner(tag)];
	if (berth__tag_kind(tag) == BERTH_FRAME_USED && !(tag & BERTH_TAG_ORPHAN) && owner->ops &&
	    owner->ops->holder)
		report->blocker_holder = owner->ops->holder(owner->ctx, report->blocker_pfn,
							    cookie);
}

/* ---- A claim in steps ------------------------------------------------------------------------------ */

static bool complete(const struct berth_claiming *claim)
{
	return claim->taken == claim->range.end - claim->range.start;
}

int berth__claiming_begin(struct berth_claiming *claim, struct berth_zone *zone, berth_idx_t start,
			  berth_idx_t end, const struct berth_emptying *how,
			  struct berth_claim_report *report, uint64_t now_ns)
{
	berth_idx_t blocker;
	int error;

	*claim = (struct berth_claiming){ .range = { start, end, NULL },
					  .zone = zone,
					  .how = how,
					  .report = report,
					  .next = start,
					  .in_flight = BERTH_IDX_NONE,
					  .phase_began = now_ns };
	report->tries++;
	if (how->keep && berth__take_if_free(zone, start, end, &how->pieces, now_ns)) {
		claim->taken = end - start;
		report->free_pages_taken += claim->taken;
		end_phase(claim, BERTH_PHASE_ISOLATE);
		return 0;
	}
	error = berth__isolate_range(zone, &claim->range, &claim->taken, &blocker);
	end_phase(claim, BERTH_PHASE_ISOLATE);
	if (error) {
		claim->conflict = error == -BERTH_EBUSY;
		berth__blocked_by(zone, blocker, report);
		report->reason = BERTH_CLAIM_OTHER_CLAIM;
		return error;
	}
	claim->fenced = true;
	report->free_pages_taken += claim->taken;
	return complete(claim) ? 0 : 1;
}

/* Frames in CPUs' lists, and a first look: before anything has moved. */
static int prepare_moves(struct berth_claiming *claim)
{
	struct scan scan;
	int error;

	claim->looked = true;
	/* Until the end the batches stay empty, and the lists say what can be dropped: as
	 * berth_lru_cache_disable(), but the drain is the one that the range needs anyway. */
	atomic_fetch_add(&claim->zone->lru.disabled, 1);
	berth__pcp_drain_range(claim->zone, claim->range.start, claim->range.end);
	end_phase(claim, BERTH_PHASE_DRAIN);
	error = look_for_blockers(claim, &scan);
	if (!error && scan.in_flight && !claim->how->passes)
		error = give_up(claim); /* nobody waits: so nothing is moved in vain */
	if (!error && !complete(claim) && (claim->how->params->flags & BERTH_CLAIM_FREE_ONLY)) {
		claim->report->reason = BERTH_CLAIM_NOT_FREE;
		error = -BERTH_EAGAIN;
	}
	return error;
}

int berth__claiming_step(struct berth_claiming *claim)
{
	int error = claim->looked ? empty_more(claim) : prepare_moves(claim);

	end_phase(claim, BERTH_PHASE_MIGRATE);
	return error ? error : complete(claim) ? 0 : 1;
}

void berth__claiming_end(struct berth_claiming *claim, int error)
{
	struct berth_claim_report *report = claim->report;
	const bool fenced = claim->fenced;

	if (error && fenced) {
		berth__ask_holder(claim->zone, report);
		if (error == -BERTH_EBUSY)
			berth__mark_busy(claim->zone, report->blocker_pfn);
		end_phase(claim, BERTH_PHASE_MIGRATE);
	}
	if (claim->looked)
		berth_lru_cache_enable(claim->zone);
	claim->looked = false;
	if (fenced)
		berth__unisolate_range(claim->zone, &claim->range,
				       !error && claim->how->keep ? &claim->how->pieces : NULL);
	claim->fenced = false;
	if (!error) { /* what was in the way of earlier tries isn't any more */
		report->blocker_pfn = BERTH_PFN_NONE;
		report->blocker_pages = report->nr_blockers = 0;
		report->blocker_owner = report->blocker_holder = NULL;
		report->reason = BERTH_CLAIM_DONE;
	}
	if (fenced)
		end_phase(claim, BERTH_PHASE_FINISH);
}

int berth__empty_range(struct berth_zone *zone, berth_idx_t start, berth_idx_t end,
		       const struct berth_emptying *how, struct berth_claim_report *report)
{
	struct berth_claiming claim;
	int going = berth__claiming_begin(&claim, zone, start, end, how, report, berth__now(zone));

	while (going > 0)
		going = berth__claiming_step(&claim);
	berth__claiming_end(&claim, going);
	return going;
}

struct berth_emptying berth__emptying_of_claim(const struct berth_claim_params *params,
					       uint32_t start_flags)
{
	/* As compaction's modes; by default until 1.3 s are over, with NORETRY 5 ms. */
	const unsigned passes = params->flags & BERTH_CLAIM_ASYNC      ? 0 :
				params->flags & BERTH_CLAIM_SYNC_LIGHT ? 2 :
				params->flags & BERTH_CLAIM_NORETRY    ? 8 :
									 16;

	return (struct berth_emptying){
		.params = params,
		.pieces = { .start_flags = start_flags, .name = params->name },
		.dst_set = BERTH_SET_NONE,
		.passes = passes,
		.may_split = true,
		.may_drop = true,
		.keep = true,
	};
}

int berth_alloc_contig_range(struct berth_zone *zone, berth_pfn_t start_pfn, uint64_t nr_pages,
			     const struct berth_claim_params *params,
			     struct berth_claim_report *report)
{
	static const struct berth_claim_params plain;
	struct berth_emptying how = berth__emptying_of_claim(params ? params : &plain, 0);
	struct berth_claim_report own;
	berth_idx_t start;

	if (!report)
		report = &own;
	*report = (struct berth_claim_report){ .nr_pages = nr_pages,
					       .blocker_pfn = BERTH_PFN_NONE };
	if (!nr_pages || !berth__idx(zone, start_pfn, nr_pages, &start))
		return report->error = -BERTH_EINVAL;
	berth__kept_send_home(zone, start, start + (berth_idx_t)nr_pages);
	report->error = berth__empty_range(zone, start, start + (berth_idx_t)nr_pages, &how,
					   report);
	return report->error;
}

/* ---- Giving back ---------------------------------------------------------------------------------- */

void berth__release_claimed_locked(struct berth_zone *zone, berth_idx_t start, berth_idx_t end)
{
	berth__claim_forget_locked(zone, start);
	berth__account_claimed_locked(zone, start, end - start, -1);
	for (berth_idx_t idx = start; idx < end;) {
		uint32_t tag = berth__tag(&zone->frames[idx]);

		BERTH_ASSERT(zone, berth__tag_kind(tag) == BERTH_FRAME_CLAIMED, tag, idx);
		berth__set_tag(&zone->frames[idx], 0);
		idx += berth__pages(berth__tag_order(tag));
	}
	berth__buddy_free_range_locked(zone, start, end);
}

bool berth__is_claim_locked(const struct berth_zone *zone, berth_idx_t start, uint64_t nr_pages,
			    uint32_t flags)
{
	const uint32_t mask = BERTH_TAG(7, 0) | BERTH_TAG_START | BERTH_TAG_AREA;
	const struct berth_frame *frame = &zone->frames[start];

	return (berth__tag(frame) & mask) ==
		       (BERTH_TAG(BERTH_FRAME_CLAIMED, 0) | BERTH_TAG_START | flags) &&
	       berth__cookie(zone, start) == nr_pages;
}

bool berth__release_begin(struct berth_zone *zone, berth_idx_t start, uint64_t nr_pages,
			  uint32_t flags)
{
	const uint32_t mask = BERTH_TAG(7, 0) | BERTH_TAG_START | BERTH_TAG_AREA;
	struct berth_frame *frame = &zone->frames[start];
	uint32_t tag = berth__tag(frame);

	/* Nobody but who releases it changes the tag of a claim's first frame, so no lock is needed; of
	 * two that do, one gets it. */
	return (tag & mask) == (BERTH_TAG(BERTH_FRAME_CLAIMED, 0) | BERTH_TAG_START | flags) &&
	       berth__cookie(zone, start) == nr_pages &&
	       atomic_compare_exchange_strong_explicit(&frame->tag, &tag,
						       tag & ~(BERTH_TAG_START | flags),
						       memory_order_acquire, memory_order_relaxed);
}

void berth__release_undo(struct berth_zone *zone, berth_idx_t start, uint32_t flags)
{
	struct berth_frame *frame = &zone->frames[start];

	berth_lock(&zone->lock);
	berth__set_tag(frame, berth__tag(frame) | BERTH_TAG_START | flags);
	berth_unlock(&zone->lock);
}

void berth__release_end(struct berth_zone *zone, berth_idx_t start, uint64_t nr_pages)
{
	const struct berth_pageblock *pageblock = berth__pageblock(zone, start);

	if (berth__stock(pageblock) == BERTH_TAKEN) {
		berth__stock_give(&zone->areas[pageblock->home_set - BERTH_CMA], start,
				  start + (berth_idx_t)nr_pages);
		return;
	}
	berth_lock(&zone->lock);
	berth__release_claimed_locked(zone, start, start + (berth_idx_t)nr_pages);
	berth_unlock(&zone->lock);
}

int berth_free_contig_range(struct berth_zone *zone, berth_pfn_t start_pfn, uint64_t nr_pages)
{
	berth_idx_t start;
	bool is_claim;

	if (!nr_pages || !berth__idx(zone, start_pfn, nr_pages, &start))
		return -BERTH_EINVAL;
	berth_lock(&zone->lock);
	is_claim = berth__is_claim_locked(zone, start, nr_pages, 0);
	if (is_claim)
		berth__release_claimed_locked(zone, start, start + (berth_idx_t)nr_pages);
	berth_unlock(&zone->lock);
	return is_claim ? 0 : -BERTH_EINVAL;
}
