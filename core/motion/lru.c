/* SPDX-License-Identifier: MIT */
/*
 * LRU lists: which blocks were used lately, as reclaim asks for it.
 *
 * I1  The state byte of a frame is 0 unless it is the head of a block that is tagged LRU. A block is in
 *     the list that its byte says, in that one only, and nowhere else linked.
 * I2  nr_pages of a list, and nr_isolated, count the frames of the blocks there; nr_dirty and
 *     nr_writeback those of the blocks with that flag.
 * I3  A block that is IN_BATCH has an entry in some CPU's batch of additions.
 * I4  A batch holds no reference and an entry in it no promise: when it is carried out, under L, the
 *     state byte says whether there is still something to do. So what is freed, moved or split leaves
 *     entries behind that do nothing, or, where the frame is on its way to a list again, bring it there
 *     a little earlier.
 * I5  A block under write-back has the core's pin: it isn't moved, split or dropped. Freed by its owner it
 *     is FREED until the write-back ends, and then free.
 * I6  Whoever frees, splits or moves a block that is tagged LRU does so under L as far as its state, its
 *     order and its links go. So a block that is found in a list under L is allocated, and whole.
 *
 * Complexity: O(1) for order 0, without a lock but once in 15 times; a range O(blocks) under the zone
 * lock.
 */
#include "core/frames/pcp_fast.h"
#include "core/motion/internal.h"

static _Atomic uint8_t *state_of(const struct berth_zone *zone, berth_idx_t idx)
{
	return &zone->lru_state[idx];
}

static unsigned order_of(const struct berth_zone *zone, berth_idx_t idx)
{
	return berth__tag_order(berth__tag(&zone->frames[idx]));
}

static berth_idx_t pages_of(const struct berth_zone *zone, berth_idx_t idx)
{
	return berth__pages(order_of(zone, idx));
}

/* For counters that are written under L only. */
static void add_locked(_Atomic uint64_t *counter, uint64_t nr)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + nr,
			      memory_order_relaxed);
}

static void add(_Atomic uint64_t *counter, uint64_t nr)
{
	atomic_fetch_add_explicit(counter, nr, memory_order_relaxed);
}

static uint64_t load(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

/* ---- States --------------------------------------------------------------------------------------- */

static void account(struct berth_zone *zone, berth_idx_t idx, unsigned was, unsigned is)
{
	enum berth_discardable from = berth__discardable(was), to = berth__discardable(is);

	if (from != to)
		berth__account_discardable(zone, idx, order_of(zone, idx), from, to);
}

unsigned berth__lru_mark(struct berth_zone *zone, berth_idx_t idx, unsigned flags)
{
	unsigned old = atomic_fetch_or_explicit(state_of(zone, idx), (uint8_t)flags,
						memory_order_acq_rel);

	account(zone, idx, old, old | flags);
	return old;
}

unsigned berth__lru_unmark(struct berth_zone *zone, berth_idx_t idx, unsigned flags)
{
	unsigned old = atomic_fetch_and_explicit(state_of(zone, idx), (uint8_t)~flags,
						 memory_order_relaxed);

	account(zone, idx, old, old & ~flags);
	return old;
}

/* ---- Lists ---------------------------------------------------------------------------------------- */

static void link_locked(struct berth_zone *zone, berth_idx_t idx, unsigned list, berth_idx_t prev,
			berth_idx_t next)
{
	struct berth_lru_list_ends *ends = &zone->lru.lists[list];
	union berth_links *links = zone->links;

	links[idx].prev = prev;
	links[idx].next = next;
	*(prev == BERTH_IDX_NONE ? &ends->first : &links[prev].next) = idx;
	*(next == BERTH_IDX_NONE ? &ends->last : &links[next].prev) = idx;
}

/* Flags may change meanwhile. */
static void change_where_locked(struct berth_zone *zone, berth_idx_t idx, unsigned from,
				unsigned to)
{
	unsigned old = atomic_fetch_add_explicit(state_of(zone, idx), (uint8_t)(to - from),
						 memory_order_relaxed);

	BERTH_ASSERT(zone, (old & BERTH_LRU_WHERE) == from, old, from);
	account(zone, idx, old, old + to - from);
}

/* Off its list, or out of a reclaimer's hands, as far as links and counters go. */
static void unlink_locked(struct berth_zone *zone, berth_idx_t idx, unsigned from)
{
	const union berth_links *links = &zone->links[idx];
	uint64_t pages = pages_of(zone, idx);

	if (from == BERTH_LRU_ISOLATED) {
		add_locked(&zone->lru.nr_isolated, -pages);
	} else if (from >= BERTH_LRU_IN_LIST) {
		unsigned list = from - BERTH_LRU_IN_LIST;
		struct berth_lru_list_ends *ends = &zone->lru.lists[list];

		*(links->prev == BERTH_IDX_NONE ? &ends->first :
						  &zone->links[links->prev].next) = links->next;
		*(links->next == BERTH_IDX_NONE ? &ends->last :
						  &zone->links[links->next].prev) = links->prev;
		add_locked(&zone->lru.nr_pages[list], -pages);
	}
}

void berth__lru_put_locked(struct berth_zone *zone, berth_idx_t idx, unsigned list, bool last)
{
	const struct berth_lru_list_ends *ends = &zone->lru.lists[list];
	unsigned from = berth__lru_state(zone, idx) & BERTH_LRU_WHERE;

	unlink_locked(zone, idx, from);
	link_locked(zone, idx, list, last ? ends->last : BERTH_IDX_NONE,
		    last ? BERTH_IDX_NONE : ends->first);
	add_locked(&zone->lru.nr_pages[list], pages_of(zone, idx));
	/* At once, never by way of NOWHERE: berth__lru_forget() looks without the lock. */
	change_where_locked(zone, idx, from, BERTH_LRU_IN_LIST + list);
}

void berth__lru_take_locked(struct berth_zone *zone, berth_idx_t idx, unsigned to)
{
	unsigned from = berth__lru_state(zone, idx) & BERTH_LRU_WHERE;

	unlink_locked(zone, idx, from);
	if (to == BERTH_LRU_ISOLATED)
		add_locked(&zone->lru.nr_isolated, pages_of(zone, idx));
	change_where_locked(zone, idx, from, to);
}

/* Where a block belongs that nothing else is known of. */
static unsigned home(unsigned state)
{
	return state & BERTH_LRU_LOCKED ? BERTH_LRU_UNEVICTABLE : BERTH_LRU_INACTIVE;
}

/* What a batch asks for, as far as the block is still there to be asked. */
static void apply_locked(struct berth_zone *zone, enum berth_lru_op op, berth_idx_t idx)
{
	/* An entry from before the block was allocated finds its tag by this alone. */
	unsigned state = atomic_load_explicit(state_of(zone, idx), memory_order_acquire);
	unsigned where = state & BERTH_LRU_WHERE;

	if (where == BERTH_LRU_IN_BATCH) { /* whatever is asked: it gets to its list */
		bool activate = op == BERTH_LRU_ACTIVATE && !(state & BERTH_LRU_LOCKED);

		berth__lru_put_locked(zone, idx, activate ? BERTH_LRU_ACTIVE : home(state),
				      op == BERTH_LRU_ROTATE);
	} else if (op == BERTH_LRU_ACTIVATE && where == BERTH_LRU_IN_LIST + BERTH_LRU_INACTIVE) {
		berth__lru_put_locked(zone, idx, BERTH_LRU_ACTIVE, false);
		(void)berth__lru_unmark(zone, idx, BERTH_LRU_REFERENCED);
		add_locked(&zone->lru.activated, pages_of(zone, idx));
	} else if (op == BERTH_LRU_DEACTIVATE && where == BERTH_LRU_IN_LIST + BERTH_LRU_ACTIVE) {
		berth__lru_put_locked(zone, idx, BERTH_LRU_INACTIVE, false);
		(void)berth__lru_unmark(zone, idx, BERTH_LRU_REFERENCED);
		add_locked(&zone->lru.deactivated, pages_of(zone, idx));
	} else if (op == BERTH_LRU_ROTATE && where == BERTH_LRU_IN_LIST + BERTH_LRU_INACTIVE &&
		   !(state & (BERTH_LRU_DIRTY | BERTH_LRU_WRITEBACK))) {
		berth__lru_put_locked(zone, idx, BERTH_LRU_INACTIVE, true);
		add_locked(&zone->lru.rotated, pages_of(zone, idx));
	}
}

/* ---- Batches --------------------------------------------------------------------------------------- */

static struct berth_lru_batch *batch_of(const struct berth_zone *zone, struct berth_pcp *pcp)
{
	return (struct berth_lru_batch *)(void *)((char *)pcp + zone->lru_offset);
}

static uint32_t count_of(const struct berth_lru_batch *batch, unsigned op)
{
	return atomic_load_explicit(&batch->count[op], memory_order_relaxed);
}

/* P and L. */
static void drain_locked(struct berth_zone *zone, struct berth_lru_batch *batch, unsigned op)
{
	for (uint32_t i = 0; i < count_of(batch, op); i++)
		apply_locked(zone, (enum berth_lru_op)op, batch->blocks[op][i]);
	atomic_store_explicit(&batch->count[op], 0, memory_order_relaxed);
}

void berth__lru_drain_slot(struct berth_zone *zone, struct berth_pcp *pcp)
{
	struct berth_lru_batch *batch;
	uint32_t any = 0;

	if (!zone->lru_state)
		return;
	batch = batch_of(zone, pcp);
	for (unsigned op = 0; op < BERTH_NR_LRU_OPS; op++)
		any |= count_of(batch, op);
	if (!any)
		return;
	berth_lock(&zone->lru.lock);
	for (unsigned op = 0; op < BERTH_NR_LRU_OPS; op++)
		drain_locked(zone, batch, op);
	berth_unlock(&zone->lru.lock);
}

/* Into the CPU's batch, which is carried out when it's full; or at once. */
static void ask(struct berth_zone *zone, enum berth_lru_op op, berth_idx_t idx, unsigned order)
{
	struct berth_pcp *pcp = order ? NULL : berth__pcp_enter_any(zone);

	if (pcp) {
		struct berth_lru_batch *batch = batch_of(zone, pcp);
		bool disabled = atomic_load_explicit(&zone->lru.disabled, memory_order_relaxed);

		if (!disabled) {
			uint32_t count = count_of(batch, op);

			batch->blocks[op][count] = idx;
			atomic_store_explicit(&batch->count[op], count + 1, memory_order_relaxed);
			if (count + 1 == BERTH_PAGEVEC_SIZE) {
				berth_lock(&zone->lru.lock);
				drain_locked(zone, batch, op);
				berth_unlock(&zone->lru.lock);
			}
		}
		berth__pcp_leave(pcp);
		if (!disabled)
			return;
	}
	berth_lock(&zone->lru.lock);
	apply_locked(zone, op, idx);
	berth_unlock(&zone->lru.lock);
}

void berth_lru_add_drain(struct berth_zone *zone)
{
	struct berth_pcp *pcp = zone->lru_state ? berth__pcp_enter_any(zone) : NULL;

	if (!pcp)
		return;
	berth__lru_drain_slot(zone, pcp);
	berth__pcp_leave(pcp);
}

void berth_lru_add_drain_all(struct berth_zone *zone)
{
	berth__pcp_drain_range(zone, zone->first, zone->first); /* no frames, only batches */
}

void berth_lru_cache_disable(struct berth_zone *zone)
{
	atomic_fetch_add(&zone->lru.disabled, 1);
	berth_lru_add_drain_all(zone); /* whoever enters its section after that sees it */
}

void berth_lru_cache_enable(struct berth_zone *zone)
{
	uint32_t old = atomic_fetch_sub(&zone->lru.disabled, 1);

	BERTH_ASSERT(zone, old != 0, old, 1);
}

/* ---- Blocks of an owner ----------------------------------------------------------------------------- */

#define TAG_BITS (BERTH_TAG(7, 0) | BERTH_TAG_LRU | BERTH_TAG_ORPHAN | BERTH_TAG_ARRIVING)
#define TAG_LIVE (BERTH_TAG(BERTH_FRAME_USED, 0) | BERTH_TAG_LRU)

/* pfn is an allocated block of order 0 that can be on a list: nobody splits that. */
static bool is_single(const struct berth_zone *zone, berth_pfn_t pfn, berth_idx_t *idx)
{
	uint32_t tag = 0;

	/* Acquire: it may just have been cut out of a larger one. */
	if (berth__idx_one(zone, pfn, idx))
		tag = atomic_load_explicit(&zone->frames[*idx].tag, memory_order_acquire);
	return (tag & (TAG_BITS | BERTH_TAG(0, 31))) == TAG_LIVE;
}

/* Head and order of the block that holds pfn, if it can be on a list. It may be split after that, but
 * the head stays one. */
static bool find(struct berth_zone *zone, berth_pfn_t pfn, berth_idx_t *head, unsigned *order)
{
	uint32_t tag = 0;
	berth_idx_t idx;

	*order = 0;
	if (is_single(zone, pfn, head))
		return true;
	if (!zone->lru_state || !berth__idx_one(zone, pfn, &idx))
		return false;
	berth_lock(&zone->lock);
	*head = berth__head(zone, idx);
	if (*head != BERTH_IDX_NONE)
		tag = berth__tag(&zone->frames[*head]);
	berth_unlock(&zone->lock);
	*order = berth__tag_order(tag);
	return (tag & TAG_BITS) == TAG_LIVE;
}

/* What is done to each block of a range, under Z and, unless it is about flags alone, L. */
enum change { ADD, DEL, LOCK, UNLOCK, SET_DIRTY, CLEAR_DIRTY };

static void set_dirty(struct berth_zone *zone, berth_idx_t idx, bool dirty)
{
	unsigned old = dirty ? berth__lru_mark(zone, idx, BERTH_LRU_DIRTY) :
			       berth__lru_unmark(zone, idx, BERTH_LRU_DIRTY);

	if (!(old & BERTH_LRU_DIRTY) == dirty)
		add(&zone->lru.nr_dirty,
		    dirty ? pages_of(zone, idx) : -(uint64_t)pages_of(zone, idx));
}

static void set_locked_locked(struct berth_zone *zone, berth_idx_t idx, bool locked)
{
	unsigned where = berth__lru_state(zone, idx) & BERTH_LRU_WHERE;

	if (locked)
		(void)berth__lru_mark(zone, idx, BERTH_LRU_LOCKED);
	else
		(void)berth__lru_unmark(zone, idx, BERTH_LRU_LOCKED);
	if (where == BERTH_LRU_NOWHERE || where == BERTH_LRU_ISOLATED)
		return; /* whoever puts it somewhere looks */
	if (locked != (where == BERTH_LRU_IN_LIST + BERTH_LRU_UNEVICTABLE))
		berth__lru_put_locked(zone, idx,
				      locked ? BERTH_LRU_UNEVICTABLE : BERTH_LRU_INACTIVE, false);
}

static void change_locked(struct berth_zone *zone, berth_idx_t idx, enum change change)
{
	unsigned state = berth__lru_state(zone, idx);

	switch (change) {
	case ADD:
		berth__lru_put_locked(zone, idx, home(state), false);
		break;
	case DEL:
		berth__lru_take_locked(zone, idx, BERTH_LRU_NOWHERE);
		break;
	case LOCK:
	case UNLOCK:
		set_locked_locked(zone, idx, change == LOCK);
		break;
	default:
		set_dirty(zone, idx, change == SET_DIRTY);
		break;
	}
}

/* Nothing is changed unless all can be. */
static int change_range(struct berth_zone *zone, berth_pfn_t pfn, uint64_t nr_pages,
			enum change change)
{
	berth_idx_t start, end, idx, head;
	int error = 0;

	if (!zone->lru_state || !nr_pages || !berth__idx(zone, pfn, nr_pages, &start))
		return -BERTH_EINVAL;
	end = start + (berth_idx_t)nr_pages;
	berth_lock(&zone->lock);
	for (idx = start; !error && idx < end; idx = head + pages_of(zone, head)) {
		head = berth__head(zone, idx);
		if (head == BERTH_IDX_NONE ||
		    (berth__tag(&zone->frames[head]) & TAG_BITS) != TAG_LIVE ||
		    (change == ADD && (berth__lru_state(zone, head) & BERTH_LRU_WHERE))) {
			error = -BERTH_EINVAL;
			break;
		}
	}
	if (!error) {
		berth_lock(&zone->lru.lock);
		for (idx = start; idx < end; idx = head + pages_of(zone, head)) {
			head = berth__head(zone, idx);
			change_locked(zone, head, change);
		}
		berth_unlock(&zone->lru.lock);
	}
	berth_unlock(&zone->lock);
	return error;
}

int berth_lru_add(struct berth_zone *zone, berth_pfn_t pfn, uint64_t nr_pages)
{
	berth_idx_t idx;
	uint8_t old;

	if (nr_pages != 1 || !is_single(zone, pfn, &idx))
		return change_range(zone, pfn, nr_pages, ADD);
	old = (uint8_t)berth__lru_state(zone, idx);
	do {
		if (old & BERTH_LRU_WHERE)
			return -BERTH_EINVAL;
	} while (!atomic_compare_exchange_weak_explicit(
		state_of(zone, idx), &old, (uint8_t)(old + BERTH_LRU_IN_BATCH),
		memory_order_release, memory_order_relaxed));
	ask(zone, BERTH_LRU_ADD, idx, 0);
	return 0;
}

int berth_lru_del(struct berth_zone *zone, berth_pfn_t pfn, uint64_t nr_pages)
{
	return change_range(zone, pfn, nr_pages, DEL);
}

int berth_lru_set_unevictable(struct berth_zone *zone, berth_pfn_t pfn, uint64_t nr_pages,
			      bool unevictable)
{
	return change_range(zone, pfn, nr_pages, unevictable ? LOCK : UNLOCK);
}

static int change_dirty(struct berth_zone *zone, berth_pfn_t pfn, uint64_t nr_pages, bool dirty)
{
	berth_idx_t idx;

	if (nr_pages != 1 || !is_single(zone, pfn, &idx))
		return change_range(zone, pfn, nr_pages, dirty ? SET_DIRTY : CLEAR_DIRTY);
	set_dirty(zone, idx, dirty);
	return 0;
}

int berth_lru_set_dirty(struct berth_zone *zone, berth_pfn_t pfn, uint64_t nr_pages)
{
	return change_dirty(zone, pfn, nr_pages, true);
}

int berth_lru_clear_dirty(struct berth_zone *zone, berth_pfn_t pfn, uint64_t nr_pages)
{
	return change_dirty(zone, pfn, nr_pages, false);
}

/* A flag of a block that may be split at the same time: not while it is accounted for. */
static void change_referenced(struct berth_zone *zone, berth_idx_t idx, unsigned order, bool mark)
{
	if (order)
		berth_lock(&zone->lru.lock);
	if (mark)
		(void)berth__lru_mark(zone, idx, BERTH_LRU_REFERENCED);
	else
		(void)berth__lru_unmark(zone, idx, BERTH_LRU_REFERENCED);
	if (order)
		berth_unlock(&zone->lru.lock);
}

void berth_lru_mark_accessed(struct berth_zone *zone, berth_pfn_t pfn)
{
	unsigned state, where, order;
	berth_idx_t idx;

	if (!find(zone, pfn, &idx, &order))
		return;
	state = berth__lru_state(zone, idx);
	where = state & BERTH_LRU_WHERE;
	if (!(state & BERTH_LRU_REFERENCED)) {
		change_referenced(zone, idx, order, true);
	} else if (!(state & BERTH_LRU_LOCKED) &&
		   (where == BERTH_LRU_IN_BATCH ||
		    where == BERTH_LRU_IN_LIST + BERTH_LRU_INACTIVE)) {
		change_referenced(zone, idx, order, false);
		ask(zone, BERTH_LRU_ACTIVATE, idx, order);
	}
}

static void ask_for(struct berth_zone *zone, berth_pfn_t pfn, enum berth_lru_op op)
{
	unsigned order;
	berth_idx_t idx;

	if (find(zone, pfn, &idx, &order))
		ask(zone, op, idx, order);
}

void berth_lru_activate(struct berth_zone *zone, berth_pfn_t pfn)
{
	ask_for(zone, pfn, BERTH_LRU_ACTIVATE);
}

void berth_lru_deactivate(struct berth_zone *zone, berth_pfn_t pfn)
{
	ask_for(zone, pfn, BERTH_LRU_DEACTIVATE);
}

void berth_lru_rotate(struct berth_zone *zone, berth_pfn_t pfn)
{
	ask_for(zone, pfn, BERTH_LRU_ROTATE);
}

/* ---- For whoever frees, splits or moves -------------------------------------------------------------- */

void berth__lru_forget(struct berth_zone *zone, berth_idx_t idx)
{
	uint8_t old = (uint8_t)berth__lru_state(zone, idx), left;

	if (!old) /* never on a list: its owner alone could have changed that */
		return;
	berth_lock(&zone->lru.lock);
	if (berth__lru_state(zone, idx) & BERTH_LRU_WHERE)
		berth__lru_take_locked(zone, idx, BERTH_LRU_NOWHERE);
	old = (uint8_t)berth__lru_state(zone, idx);
	do { /* its write-back may end at the same time */
		left = old & BERTH_LRU_WRITEBACK ? BERTH_LRU_WRITEBACK | BERTH_LRU_FREED : 0;
	} while (!atomic_compare_exchange_weak_explicit(
		state_of(zone, idx), &old, left, memory_order_relaxed, memory_order_relaxed));
	berth_unlock(&zone->lru.lock);
	if (old & BERTH_LRU_DIRTY)
		add(&zone->lru.nr_dirty, -(uint64_t)pages_of(zone, idx));
}

void berth__lru_begin_split(struct berth_zone *zone, uint32_t tag)
{
	if (tag & BERTH_TAG_LRU)
		berth_lock(&zone->lru.lock);
}

void berth__lru_end_split(struct berth_zone *zone, uint32_t tag)
{
	if (tag & BERTH_TAG_LRU)
		berth_unlock(&zone->lru.lock);
}

void berth__lru_inherit_locked(struct berth_zone *zone, berth_idx_t head, berth_idx_t piece,
			       unsigned order)
{
	unsigned state = berth__lru_state(zone, head), where = state & BERTH_LRU_WHERE;
	unsigned list = home(state);

	if (where == BERTH_LRU_ISOLATED) /* the reclaimer has the head alone */
		add_locked(&zone->lru.nr_isolated, -(uint64_t)berth__pages(order));
	if (where == BERTH_LRU_ISOLATED || where == BERTH_LRU_IN_BATCH) {
		link_locked(zone, piece, list, BERTH_IDX_NONE, zone->lru.lists[list].first);
		add_locked(&zone->lru.nr_pages[list], berth__pages(order));
		where = BERTH_LRU_IN_LIST + list;
	} else if (where >= BERTH_LRU_IN_LIST) {
		/* The list's count has these frames already. */
		link_locked(zone, piece, where - BERTH_LRU_IN_LIST, head, zone->links[head].next);
	}
	state = (state & ~BERTH_LRU_WHERE) | where;
	atomic_store_explicit(state_of(zone, piece), (uint8_t)state, memory_order_relaxed);
	berth__account_discardable(zone, piece, order, BERTH_DISCARD_NOT,
				   berth__discardable(state));
}

void berth__lru_shrinks_locked(struct berth_zone *zone, berth_idx_t head, unsigned from,
			       unsigned to)
{
	enum berth_discardable kind = berth__discardable(berth__lru_state(zone, head));

	berth__account_discardable(zone, head, from, kind, BERTH_DISCARD_NOT);
	berth__account_discardable(zone, head, to, BERTH_DISCARD_NOT, kind);
	/* Before the tags: who finds a single block by its tag changes its flags without a lock. */
	atomic_thread_fence(memory_order_release);
}

void berth__lru_moved_locked(struct berth_zone *zone, berth_idx_t src, berth_idx_t dst)
{
	unsigned state, where;

	berth_lock(&zone->lru.lock);
	state = berth__lru_state(zone, src);
	where = state & BERTH_LRU_WHERE;
	atomic_store_explicit(state_of(zone, dst), (uint8_t)(state & ~BERTH_LRU_WHERE),
			      memory_order_relaxed);
	if (where >= BERTH_LRU_IN_LIST && where < BERTH_LRU_ISOLATED) {
		link_locked(zone, dst, where - BERTH_LRU_IN_LIST, zone->links[src].prev,
			    zone->links[src].next);
		change_where_locked(zone, dst, BERTH_LRU_NOWHERE, where);
	} else if (where != BERTH_LRU_NOWHERE) {
		if (where == BERTH_LRU_ISOLATED)
			berth__lru_take_locked(zone, src, BERTH_LRU_NOWHERE);
		berth__lru_put_locked(zone, dst, home(state), false);
	}
	state = atomic_exchange_explicit(state_of(zone, src), 0, memory_order_relaxed);
	account(zone, src, state, 0);
	berth_unlock(&zone->lru.lock);
}

/* ---- Write-back --------------------------------------------------------------------------------------- */

bool berth__lru_begin_writeback(struct berth_zone *zone, berth_idx_t idx, unsigned flags)
{
	uint64_t pages = pages_of(zone, idx);
	unsigned old = berth__lru_mark(zone, idx, BERTH_LRU_WRITEBACK);

	if (old & BERTH_LRU_WRITEBACK)
		return false;
	if (!berth__pin_head(zone, idx)) {
		(void)berth__lru_unmark(zone, idx, BERTH_LRU_WRITEBACK);
		return false;
	}
	add(&zone->lru.nr_writeback, pages);
	if (flags)
		(void)berth__lru_mark(zone, idx, flags);
	set_dirty(zone, idx, false);
	return true;
}

int berth_lru_begin_writeback(struct berth_zone *zone, berth_pfn_t pfn, unsigned *order)
{
	int error = -BERTH_EINVAL;
	berth_idx_t idx;
	uint32_t tag;

	if (!zone->lru_state || !berth__idx_one(zone, pfn, &idx))
		return -BERTH_EINVAL;
	berth_lock(&zone->lock);
	tag = berth__tag(&zone->frames[idx]);
	if ((tag & TAG_BITS) == TAG_LIVE)
		error = berth__lru_begin_writeback(zone, idx, 0) ? 0 : -BERTH_EBUSY;
	berth_unlock(&zone->lock);
	if (!error && order)
		*order = berth__tag_order(tag);
	return error;
}

int berth_lru_end_writeback(struct berth_zone *zone, berth_pfn_t pfn, bool ok)
{
	uint8_t old, left;
	berth_idx_t idx;
	uint64_t pages;
	int error;

	if (!zone->lru_state || !berth__idx_one(zone, pfn, &idx))
		return -BERTH_EINVAL;
	pages = pages_of(zone, idx); /* pinned: it doesn't change */
	old = (uint8_t)berth__lru_state(zone, idx);
	do {
		if (!(old & BERTH_LRU_WRITEBACK))
			return -BERTH_EINVAL;
		left = old & (uint8_t) ~(BERTH_LRU_WRITEBACK | BERTH_LRU_RECLAIM);
		if ((old & BERTH_LRU_WHERE) == BERTH_LRU_FREED)
			left = 0;
		else if (!ok)
			left |= BERTH_LRU_DIRTY;
	} while (!atomic_compare_exchange_weak_explicit(
		state_of(zone, idx), &old, left, memory_order_acq_rel, memory_order_relaxed));
	account(zone, idx, old, left);
	add(&zone->lru.nr_writeback, -pages);
	if (left & ~old & BERTH_LRU_DIRTY)
		add(&zone->lru.nr_dirty, pages);
	if (ok && (old & BERTH_LRU_RECLAIM) && left)
		ask(zone, BERTH_LRU_ROTATE, idx, berth__tag_order(berth__tag(&zone->frames[idx])));
	error = berth_page_unpin(zone, pfn);
	BERTH_ASSERT(zone, !error, error, 0);
	return 0;
}

/* ---- Statistics --------------------------------------------------------------------------------------- */

bool berth_zone_has_lru(const struct berth_zone *zone)
{
	return zone->lru_state != NULL;
}

void berth_lru_stats(struct berth_zone *zone, struct berth_lru_stats *stats)
{
	const struct berth_lru *lru = &zone->lru;
	uint32_t used = zone->lru_state ? atomic_load(&zone->nr_pcps_used) : 0;

	*stats = (struct berth_lru_stats){
		.isolated = load(&lru->nr_isolated),
		.dirty = load(&lru->nr_dirty),
		.writeback = load(&lru->nr_writeback),
		.activated = load(&lru->activated),
		.deactivated = load(&lru->deactivated),
		.rotated = load(&lru->rotated),
		.scanned = load(&lru->scanned),
		.dropped = load(&lru->dropped),
		.written = load(&lru->written),
	};
	for (unsigned list = 0; list < BERTH_NR_LRU_LISTS; list++)
		stats->nr_pages[list] = load(&lru->nr_pages[list]);
	for (uint32_t cpu = 0; cpu < used; cpu++)
		for (unsigned op = 0; op < BERTH_NR_LRU_OPS; op++)
			stats->batched += count_of(batch_of(zone, berth__pcp(zone, cpu)), op);
}

char berth_lru_where(struct berth_zone *zone, berth_pfn_t pfn, unsigned *flags)
{
	static const char letters[] = "-biaux--";
	unsigned state = 0, order;
	berth_idx_t idx;

	if (find(zone, pfn, &idx, &order))
		state = berth__lru_state(zone, idx);
	if (flags)
		*flags = (state & BERTH_LRU_REFERENCED ? BERTH_LRU_IS_REFERENCED : 0) |
			 (state & BERTH_LRU_DIRTY ? BERTH_LRU_IS_DIRTY : 0) |
			 (state & BERTH_LRU_WRITEBACK ? BERTH_LRU_IS_WRITEBACK : 0) |
			 (state & BERTH_LRU_LOCKED ? BERTH_LRU_IS_UNEVICTABLE : 0);
	return letters[state & BERTH_LRU_WHERE];
}
