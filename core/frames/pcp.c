/* SPDX-License-Identifier: MIT */
/*
 * Per-CPU lists: blocks cached for one slot (a CPU, or a thread in Linux), so that the hot path takes no
 * lock and does no atomic read-modify-write. Single frames, blocks of orders 1 to 3, and pageblocks.
 *
 * The owner of a slot brackets each operation by plain stores to in_section; only a compiler
 * barrier stands between "I am inside" and "has a drainer asked me to keep out?". The drainer (pcp_drain.c)
 * pays for that: it sets DRAIN in `gate`, makes every CPU pass a memory barrier (membarrier, an IPI), and
 * waits until in_section is 0. Then either the owner saw the flag, or the drainer sees the section. Where
 * the port has no such barrier, the owner's side pays a fence instead.
 *
 * I1  A block in a list is a PCP head of the list's order; count says how many the list has, at most
 *     its limit `high` (pcp_limits.c).
 * I2  Where a freed block goes is read inside the section, and isolation drains after it has changed
 *     that: no block of an isolated pageblock stays in a list after the drain.
 * I3  Blocks freed in pageblocks that are far from full aren't handed out again: they go to the list
 *     RETURN and from there to the buddy lists, whose fullest pageblock serves next; those of
 *     pageblocks that are nearly free go there at once. An exception is the pageblock that filled a
 *     list of the type last, as long as it is that.
 * I4  The lists exchange blocks with the buddy lists in batches, inside the section and under the
 *     zone lock, so no block is ever on its way where a drainer can't see it.
 * I5  A used block of an order above 0 is cut (by a claim that needs a part of it) only in isolated
 *     pageblocks, after the drain. So who reads a block's order inside the section, after it has seen
 *     that the pageblock isn't isolated (any more: acquire), may free the block without the lock.
 * I6  Under the lock, frames that come or go together are one cached block: only its head is written there. They are
 *     told apart after that, from the last frame to the first, and joined before it, from the first to the last; each
 *     of these stores is a release, as those of pops and pushes are. So who holds the lock and finds a frame without a
 *     tag finds the block's head below it; or else the frame has got a tag meanwhile, or its block has been joined
 *     again, and another look finds that (berth__find()).
 * I7  A list of single frames that got a whole pageblock, since its set had nothing smaller, takes the next ones from
 *     its slot's list of pageblocks, and gives back there what is a whole one again, without the lock. `whole` has a
 *     bit for such a list; what it takes ahead is half a batch of the list of pageblocks.
 *
 * Complexity: O(1); one block in a batch pays the batch, under the zone lock. Neighbours that are
 * freed together, as in bulk frees, merge in one step.
 */
#include "core/frames/pcp_fast.h"
#include "core/motion/internal.h"
#include "core/stats.h"

#define LOOK_AT 8u     /* oldest blocks of each list, whenever RETURN is given back */
#define MOST_TAKEN 64u /* blocks of a batch: scattered ones aren't taken all at once */

/* Enters the caller's section, with all that the hot path leaves out; NULL: no slot, or drained. */
static struct berth_pcp *enter(struct berth_zone *zone)
{
	unsigned cpu, gate;
	struct berth_pcp *pcp;

	berth_preempt_disable();
	cpu = berth_cpu();
	if (cpu >= zone->nr_cpus) {
		berth_preempt_enable();
		return NULL;
	}
	pcp = berth__pcp(zone, cpu);
	if (!(atomic_load(&pcp->gate) & BERTH_PCP_USED)) {
		uint32_t used = atomic_load(&zone->nr_pcps_used);

		while (used <= cpu &&
		       !atomic_compare_exchange_weak(&zone->nr_pcps_used, &used, cpu + 1))
			;
		atomic_fetch_or(&pcp->gate,
				BERTH_PCP_USED | (zone->fence_sections ? BERTH_PCP_FENCE : 0));
	}
	atomic_store_explicit(&pcp->in_section, 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
	gate = atomic_load_explicit(&pcp->gate, memory_order_acquire);
	if (gate & BERTH_PCP_DRAIN) {
		berth__pcp_leave(pcp);
		return NULL;
	}
	return pcp;
}

struct berth_pcp *berth__pcp_enter_any(struct berth_zone *zone)
{
	struct berth_pcp *pcp;

	return berth__pcp_enter(zone, &pcp) ? pcp : enter(zone);
}

/* ---- From the buddy lists ------------------------------------------------------------------------ */

static unsigned type_for(unsigned set, unsigned gfp)
{
	return set >= BERTH_CMA && set != BERTH_SET_NONE ?
		       BERTH_PCP_CMA :
		       gfp & (BERTH_GFP_MOVABLE | BERTH_GFP_RECLAIMABLE);
}

/*
 * A block of the set that the policy picks, or from a foreign type. Of single frames up to `want` at
 * once: of the fullest pageblock its smallest block; a free pageblock is broken for the first of a batch
 * (got == 0), never for its rest, so that batches of a pageblock get whole ones.
 */
static berth_idx_t take_block_locked(struct berth_zone *zone, unsigned gfp, uint32_t want,
				     uint32_t got, unsigned *set, unsigned *order)
{
	unsigned limit = 31 - (unsigned)__builtin_clz(want);

	if (*set == BERTH_SET_NONE)
		return berth__rmqueue_locked(zone, *order, gfp, set);
	if (*order)
		return berth__buddy_alloc_locked(zone, *set, *order);
	if (limit > zone->pageblock_order)
		limit = zone->pageblock_order;
	return berth__buddy_take_locked(zone, *set, berth__lendable_order_locked(zone, *set, limit),
					got == 0, order);
}

/* What a list takes from the buddy lists at a time. */
struct batch {
	uint32_t nr, frames;
	struct {
		berth_idx_t idx;
		unsigned order;
	} blocks[MOST_TAKEN];
};

static void add_block(struct batch *batch, berth_idx_t idx, unsigned order)
{
	batch->blocks[batch->nr].idx = idx;
	batch->blocks[batch->nr].order = order;
	batch->nr++;
	batch->frames += berth__pages(order);
}

/* Up to `want` whole pageblocks of one set that isn't an area's, which is chosen once for all of them. Z. */
static void take_pageblocks_locked(struct berth_zone *zone, unsigned set, uint32_t want,
				   struct batch *batch)
{
	berth_idx_t pageblocks[MOST_TAKEN];
	uint32_t nr = berth__buddy_take_pageblocks_locked(
		zone, set, want < MOST_TAKEN ? want : MOST_TAKEN, pageblocks);

	for (uint32_t i = 0; i < nr; i++)
		add_block(batch, pageblocks[i], zone->pageblock_order);
}

/* Fills the batch for a request that the row beginning at list `first` serves, with at most `want` blocks of the
 * row, and as long as the policy's choice is for the list `filled`. Z. */
static void take_batch_locked(struct berth_zone *zone, unsigned first, unsigned filled,
			      uint32_t want, unsigned gfp, struct batch *batch)
{
	while (want && batch->nr < MOST_TAKEN) {
		unsigned order = zone->pcp_order[first];
		unsigned set = berth__choose_set_locked(zone, order, gfp);
		bool stolen = set == BERTH_SET_NONE;
		berth_idx_t idx;

		if (first + type_for(set, gfp) != filled)
			break; /* the first choice ran out: enough for now */
		if (order && order == zone->pageblock_order && set < BERTH_CMA) {
			take_pageblocks_locked(zone, set, want, batch);
			break;
		}
		idx = take_block_locked(zone, gfp, want, batch->frames, &set, &order);
		if (idx == BERTH_IDX_NONE)
			break;
		want -= zone->pcp_order[first] ? 1 : berth__pages(order);
		berth__account_used_locked(zone, idx, zone->pcp_order[first], 1);
		add_block(batch, idx, order);
		if (stolen && order)
			break;
	}
}

/* The single frames of a block that is cached as a whole, so that pops ascend (I6). It's nothing but stores, of
 * locals, four at a time; they go down, which no processor expects of cold memory. */
static void tell_apart(struct berth_zone *zone, berth_idx_t *stack, berth_idx_t idx, unsigned order)
{
	const uint32_t tag = BERTH_TAG(BERTH_FRAME_PCP, 0);
	berth_idx_t nr = berth__pages(order);
	struct berth_frame *frame = &zone->frames[idx];

	for (berth_idx_t i = 0; i < nr; i += 8)
		__builtin_prefetch(&frame[i], 1);
	for (berth_idx_t i = 0; i < nr; i++)
		stack[i] = idx + nr - 1 - i;
	for (frame += nr; nr >= 4; nr -= 4) {
		frame -= 4;
		berth__set_tag_release(&frame[3], tag);
		berth__set_tag_release(&frame[2], tag);
		berth__set_tag_release(&frame[1], tag);
		berth__set_tag_release(&frame[0], tag);
	}
	while (nr--)
		berth__set_tag_release(--frame, tag);
}

/* Puts the batch into a list that is empty, but for its count, so that pops ascend. A block's pop writes its cookie
 * and its tag: those of pageblocks are cold, each in a page of its own. */
static void fill_stack(struct berth_zone *zone, berth_idx_t *stack, const struct batch *batch,
		       bool single)
{
	for (uint32_t i = 0; i < batch->nr; i++) {
		if (single) {
			tell_apart(zone, stack, batch->blocks[i].idx, batch->blocks[i].order);
			stack += berth__pages(batch->blocks[i].order);
		} else {
			stack[batch->nr - 1 - i] = batch->blocks[i].idx;
			__builtin_prefetch(&zone->cookies[batch->blocks[i].idx], 1);
		}
	}
}

/*
 * The pageblock that fills the list from now on is reused at once whatever is free in it. Its
 * predecessor is like all others again.
 */
static void set_front_locked(struct berth_zone *zone, struct berth_pcp *pcp, unsigned type,
			     berth_idx_t idx)
{
	struct berth_pageblock *pageblock = berth__pageblock(zone, idx);
	uint32_t front = (uint32_t)(pageblock - zone->pageblocks) + 1;
	uint8_t route = zone->pcp_type_of_set[berth__pageblock_set(pageblock)];

	if (pcp->front[type] && pcp->front[type] != front)
		berth__pageblock_route_locked(zone, &zone->pageblocks[pcp->front[type] - 1]);
	pcp->front[type] = front;
	/* All CPUs read it: not written without need. */
	if (atomic_load_explicit(&zone->pcp_route[front - 1], memory_order_relaxed) != route)
		atomic_store_explicit(&zone->pcp_route[front - 1], route, memory_order_release);
}

/* Blocks in a batch, but little of the last free memory. Z. */
static uint32_t batch_locked(const struct berth_zone *zone, const struct berth_pcp *pcp,
			     unsigned list)
{
	uint32_t batch = berth__pcp_batch(zone, pcp, list);
	uint64_t most = atomic_load_explicit(&((struct berth_zone *)zone)->nr_free,
					     memory_order_relaxed) /
			16;

	most >>= zone->pcp_order[list];
	return batch > most && batch > 1 ? (most > 1 ? (uint32_t)most : 1) : batch;
}

/* Of the row of pageblocks, where list `list` of single frames is filled from, and emptied to. */
static unsigned pageblock_list(unsigned list)
{
	return berth__pcp_first(BERTH_PCP_ROW_PAGEBLOCK) + list;
}

/* The batch becomes the list's. Z. */
static void cache_batch_locked(struct berth_zone *zone, struct berth_pcp *pcp, unsigned list,
			       const struct batch *batch)
{
	for (uint32_t i = 0; i < batch->nr; i++)
		berth__set_tag(&zone->frames[batch->blocks[i].idx],
			       BERTH_TAG(BERTH_FRAME_PCP, batch->blocks[i].order));
	/* In step with the free counters. */
	berth__pcp_set_count(pcp, list, zone->pcp_order[list] ? batch->nr : batch->frames);
	berth__count_locked(zone, BERTH_EVENT_PGALLOC, batch->frames);
	berth__count_locked(zone, BERTH_EVENT_PCP_REFILL, batch->frames);
}

/* A list of single frames got a pageblock, since nothing smaller was free: so it gets some more, as long as that
 * lasts (I7). Z. */
static void take_ahead_locked(struct berth_zone *zone, struct berth_pcp *pcp, unsigned list,
			      const struct batch *first, struct batch *ahead)
{
	bool whole = first->frames == berth__pages(zone->pageblock_order) && first->nr == 1;
	unsigned set = whole ? berth__pageblock_set(berth__pageblock(zone, first->blocks[0].idx)) :
			       BERTH_SET_NONE;

	pcp->whole &= ~(1u << list);
	if (set >= BERTH_CMA || zone->pcp_row[zone->pageblock_order] != BERTH_PCP_ROW_PAGEBLOCK)
		return;
	pcp->whole |= 1u << list;
	if (berth__pcp_count(pcp, pageblock_list(list)))
		return;
	/* Half a batch: all the time that single frames are used, these aren't in the buddy lists. */
	take_pageblocks_locked(zone, set, (batch_locked(zone, pcp, pageblock_list(list)) + 1) / 2,
			       ahead);
	cache_batch_locked(zone, pcp, pageblock_list(list), ahead);
}

/* Takes up to a batch; the list that it returns may still be empty when there is nothing. */
static unsigned refill(struct berth_zone *zone, struct berth_pcp *pcp, unsigned first, unsigned gfp)
{
	struct batch batch, ahead;
	unsigned list;

	batch.nr = batch.frames = ahead.nr = ahead.frames = 0;
	berth_lock(&zone->lock);
	list = first + type_for(berth__choose_set_locked(zone, zone->pcp_order[first], gfp), gfp);
	if (berth__pcp_count(pcp, list)) { /* use those */
		berth_unlock(&zone->lock);
		return list;
	}
	take_batch_locked(zone, first, list, batch_locked(zone, pcp, list), gfp, &batch);
	cache_batch_locked(zone, pcp, list, &batch);
	if (batch.nr && first != berth__pcp_first(BERTH_PCP_ROW_PAGEBLOCK))
		set_front_locked(zone, pcp, list - first, batch.blocks[batch.nr - 1].idx);
	if (!first)
		take_ahead_locked(zone, pcp, list, &batch, &ahead);
	berth_unlock(&zone->lock);
	/* Both before any list is aged, which looks into all of them. */
	fill_stack(zone, berth__pcp_stack(zone, pcp, list), &batch, first == 0);
	if (ahead.nr)
		fill_stack(zone, berth__pcp_stack(zone, pcp, pageblock_list(list)), &ahead, false);
	berth__pcp_under_pressure(zone, pcp, list);
	if (!first && pcp->whole >> list & 1)
		berth__pcp_under_pressure(zone, pcp, pageblock_list(list));
	return list;
}

/* Single frames out of a pageblock that is cached whole, without the lock (I7). False: none is. */
static bool refill_from_pageblock(struct berth_zone *zone, struct berth_pcp *pcp, unsigned gfp,
				  unsigned *list)
{
	uint32_t count;
	unsigned whole = berth__pcp_list(pcp, pageblock_list(0), gfp, &count);
	berth_idx_t idx;

	*list = whole - pageblock_list(0);
	if (!count || !(pcp->whole >> *list & 1))
		return false;
	if (berth__pcp_high(pcp, *list) < berth__pages(zone->pageblock_order))
		return false;
	idx = berth__pcp_stack(zone, pcp, whole)[count - 1];
	berth__pcp_set_count(pcp, whole, count - 1);
	berth__account_cached_pageblock(zone, idx, false);
	tell_apart(zone, berth__pcp_stack(zone, pcp, *list), idx, zone->pageblock_order);
	berth__pcp_set_count(pcp, *list, berth__pages(zone->pageblock_order));
	berth__pcp_under_pressure(zone, pcp, *list);
	return true;
}

/* ---- To the buddy lists ---------------------------------------------------------------------------- */

/* All of one aligned block? nr: a power of two, not 1. No two are the same, so it's enough that their
 * numbers differ in the low bits only. */
static bool is_one_block(const berth_idx_t *stack, uint32_t nr, unsigned order)
{
	uint32_t differ = (stack[1] ^ stack[0]) | (stack[nr - 1] ^ stack[0]);

	if (differ >> order >= nr) /* scattered: not all of them for each of them */
		return false;
	for (uint32_t i = 1; i < nr; i++)
		differ |= stack[i] ^ stack[0];
	return differ >> order < nr;
}

/* Blocks at the bottom of a stack that follow each other. */
struct run {
	uint32_t nr;
	berth_idx_t start;
};

/* In whatever order if they make a pageblock; or up, or down. */
static struct run find_run(const struct berth_zone *zone, const berth_idx_t *stack, uint32_t nr,
			   unsigned order)
{
	uint32_t whole = berth__pages(zone->pageblock_order) >> order, n = 1;

	if (whole > 1 && nr >= whole && is_one_block(stack, whole, order))
		return (struct run){ whole, stack[0] & ~(berth__pages(zone->pageblock_order) - 1) };
	while (n < nr && stack[n] == stack[n - 1] + berth__pages(order))
		n++;
	if (n > 1)
		return (struct run){ n, stack[0] };
	while (n < nr && stack[n] == stack[n - 1] - berth__pages(order))
		n++;
	return (struct run){ n, stack[n - 1] };
}

/* A batch ends where a pageblock does, if one does within a pageblock more: so that bulk frees give
 * whole ones back. */
static uint32_t whole_pageblocks(const struct berth_zone *zone, const berth_idx_t *stack,
				 uint32_t nr, uint32_t count, unsigned order)
{
	uint32_t most = nr + (berth__pages(zone->pageblock_order) >> order), end = nr;

	if (most > count)
		most = count;
	while (end < most && (stack[end] ^ stack[end - 1]) >> zone->pageblock_order == 0)
		end++;
	return end < most || end == count ? end : nr;
}

/* Makes one cached block of 2^to frames of those of 2^from (I6). */
static void join(struct berth_zone *zone, berth_idx_t idx, unsigned from, unsigned to)
{
	struct berth_frame *frames = &zone->frames[idx];
	berth_idx_t part = berth__pages(from), nr = berth__pages(to), i = part;

	berth__set_tag_release(&frames[0], BERTH_TAG(BERTH_FRAME_PCP, to));
	for (; i + 4 * part <= nr; i += 4 * part) {
		berth__set_tag_release(&frames[i], 0);
		berth__set_tag_release(&frames[i + part], 0);
		berth__set_tag_release(&frames[i + 2 * part], 0);
		berth__set_tag_release(&frames[i + 3 * part], 0);
	}
	for (; i < nr; i += part)
		berth__set_tag_release(&frames[i], 0);
}

/* Joins the oldest nr blocks of a stack where they make larger ones, a pageblock's at most. Returns how many are at
 * the bottom of the stack then. */
static uint32_t join_all(struct berth_zone *zone, berth_idx_t *stack, uint32_t nr, unsigned order)
{
	uint32_t joined = 0;

	for (uint32_t i = 0; i < nr;) {
		struct run run = find_run(zone, stack + i, nr - i, order);
		berth_idx_t end = run.start + (run.nr << order);

		i += run.nr; /* no more are written below than were read */
		while (run.start < end) {
			unsigned to = berth__largest_order(run.start, end, zone->pageblock_order);

			if (to > order)
				join(zone, run.start, order, to);
			stack[joined++] = run.start;
			run.start += berth__pages(to);
		}
	}
	return joined;
}

/* Cached blocks go home, whose frames aren't counted as joined any more if they are less than a pageblock. Returns how
 * many frames. Z. */
static uint64_t give_blocks_locked(struct berth_zone *zone, const berth_idx_t *blocks, uint32_t nr)
{
	uint64_t given = 0;

	for (uint32_t i = 0, part; i < nr; i += part) {
		unsigned order = berth__cached_order(zone, blocks[i]);

		for (part = 1;
		     i + part < nr && berth__cached_order(zone, blocks[i + part]) == order;)
			part++;
		if (order == zone->pageblock_order)
			berth__buddy_give_pageblocks_locked(zone, blocks + i, part);
		else
			berth__buddy_free_blocks_locked(zone, blocks + i, part, order);
		given += (uint64_t)part << order;
	}
	return given;
}

/* The parts of 2^order frames that were joined. Z. */
static void uncount_parts_locked(struct berth_zone *zone, berth_idx_t idx, unsigned order)
{
	berth_idx_t end = idx + berth__pages(berth__cached_order(zone, idx));

	for (; idx < end; idx += berth__pages(order))
		berth__account_used_locked(zone, idx, order, -1);
}

/* The oldest nr blocks of a list are gone. */
static void forget_oldest(struct berth_pcp *pcp, unsigned list, berth_idx_t *stack, uint32_t nr)
{
	uint32_t left = berth__pcp_count(pcp, list) - nr;

	berth__pcp_set_count(pcp, list, left);
	__builtin_memmove(stack, stack + nr, left * sizeof(*stack));
}

static void spill_blocks(struct berth_zone *zone, struct berth_pcp *pcp, unsigned list, uint32_t nr)
{
	berth_idx_t *stack = berth__pcp_stack(zone, pcp, list);
	unsigned order = zone->pcp_order[list];
	bool whole = order == zone->pageblock_order;
	uint32_t blocks = whole ? nr : join_all(zone, stack, nr, order);

	berth_lock(&zone->lock);
	for (uint32_t i = 0; order && !whole && i < blocks; i++)
		uncount_parts_locked(zone, stack[i], order);
	if (whole)
		berth__buddy_give_pageblocks_locked(zone, stack, blocks);
	else
		give_blocks_locked(zone, stack, blocks);
	forget_oldest(pcp, list, stack, nr); /* in step with the free counters */
	berth__count_locked(zone, BERTH_EVENT_PGFREE, (uint64_t)nr << order);
	berth__count_locked(zone, BERTH_EVENT_PCP_SPILL, (uint64_t)nr << order);
	berth_unlock(&zone->lock);
}

/* The oldest nr single frames of a list are a pageblock: it's cached whole from now on, without the lock, if
 * its list has room (I7). */
static bool keep_pageblock(struct berth_zone *zone, struct berth_pcp *pcp, unsigned list,
			   uint32_t nr)
{
	berth_idx_t *stack = berth__pcp_stack(zone, pcp, list), idx;
	unsigned whole = pageblock_list(list);
	uint32_t count, high;

	if (zone->pcp_order[list] || nr != berth__pages(zone->pageblock_order) || nr < 2 ||
	    berth__pcp_route(zone, stack[0]) != list || !is_one_block(stack, nr, 0))
		return false;
	high = berth__pcp_high(pcp, whole);
	if (!high)
		return false;
	if (berth__pcp_count(pcp, whole) >= high)
		spill_blocks(zone, pcp, whole, berth__pcp_batch(zone, pcp, whole));
	idx = stack[0] & ~(nr - 1);
	join(zone, idx, 0, zone->pageblock_order);
	berth__account_cached_pageblock(zone, idx, true);
	count = berth__pcp_count(pcp, whole);
	berth__pcp_stack(zone, pcp, whole)[count] = idx;
	berth__pcp_set_count(pcp, whole, count + 1);
	forget_oldest(pcp, list, stack, nr);
	return true;
}

void berth__pcp_spill(struct berth_zone *zone, struct berth_pcp *pcp, unsigned list, uint32_t nr)
{
	nr = whole_pageblocks(zone, berth__pcp_stack(zone, pcp, list), nr,
			      berth__pcp_count(pcp, list), zone->pcp_order[list]);
	if (!keep_pageblock(zone, pcp, list, nr))
		spill_blocks(zone, pcp, list, nr);
}

uint32_t berth__pcp_free_cached_locked(struct berth_zone *zone, berth_idx_t idx)
{
	unsigned order = berth__cached_order(zone, idx);

	berth__account_used_locked(zone, idx, order, -1);
	berth__buddy_free_locked(zone, idx, order);
	return berth__pages(order);
}

/* RETURN, all of it. Z. */
static uint64_t empty_return_locked(struct berth_zone *zone, struct berth_pcp *pcp)
{
	const berth_idx_t *stack = berth__pcp_stack(zone, pcp, BERTH_PCP_RETURN);
	uint32_t count = berth__pcp_count(pcp, BERTH_PCP_RETURN);

	for (uint32_t i = 0; i < count; i++) {
		unsigned order = berth__cached_order(zone, stack[i]);

		if (order)
			berth__account_used_locked(zone, stack[i], order, -1);
	}
	berth__pcp_set_count(pcp, BERTH_PCP_RETURN, 0);
	atomic_store_explicit(&pcp->return_tails, 0, memory_order_relaxed);
	return give_blocks_locked(zone, stack, count);
}

/* Of the oldest in a list what would be in RETURN by now, if it were freed: it was cached before its
 * pageblock emptied. Z. */
static uint64_t give_oldest_locked(struct berth_zone *zone, struct berth_pcp *pcp, unsigned list)
{
	berth_idx_t *stack = berth__pcp_stack(zone, pcp, list);
	uint32_t count = berth__pcp_count(pcp, list), kept = 0;
	uint32_t nr = count < LOOK_AT ? count : LOOK_AT;
	uint64_t given = 0;

	for (uint32_t i = 0; i < nr; i++) {
		unsigned route = berth__pcp_route(zone, stack[i]);

		if (route == BERTH_PCP_RETURN || route == BERTH_PCP_NONE)
			given += berth__pcp_free_cached_locked(zone, stack[i]);
		else
			stack[kept++] = stack[i];
	}
	if (!given)
		return 0;
	__builtin_memmove(stack + kept, stack + nr, (count - nr) * sizeof(*stack));
	berth__pcp_set_count(pcp, list, count - nr + kept);
	return given;
}

static void give_back(struct berth_zone *zone, struct berth_pcp *pcp)
{
	uint64_t given;

	berth_lock(&zone->lock);
	given = empty_return_locked(zone, pcp);
	for (unsigned list = 0; list < berth__pcp_first(BERTH_PCP_ROW_PAGEBLOCK); list++)
		if (list != BERTH_PCP_RETURN)
			given += give_oldest_locked(zone, pcp, list);
	berth__count_locked(zone, BERTH_EVENT_PGFREE, given);
	berth__count_locked(zone, BERTH_EVENT_PCP_SPILL, given);
	berth_unlock(&zone->lock);
}

/* Makes room for a block in a full list; false: the list holds nothing now. */
static bool make_room(struct berth_zone *zone, struct berth_pcp *pcp, unsigned list)
{
	uint32_t high;

	if (list == BERTH_PCP_RETURN) {
		give_back(zone, pcp);
		return true;
	}
	berth__pcp_under_pressure(zone, pcp, list);
	high = berth__pcp_high(pcp, list);
	if (berth__pcp_count(pcp, list) >= high && high)
		berth__pcp_spill(zone, pcp, list, berth__pcp_batch(zone, pcp, list));
	return high != 0;
}

/* ---- One block ------------------------------------------------------------------------------------ */

berth_idx_t berth__pcp_alloc(struct berth_zone *zone, unsigned order, unsigned gfp, uint32_t tag,
			     uint64_t cookie)
{
	berth_idx_t idx = BERTH_IDX_NONE;
	struct berth_pcp *pcp;
	unsigned list, first;
	uint32_t count;

	if (zone->pcp_row[order] == BERTH_PCP_NO_ROW)
		return BERTH_IDX_NONE;
	first = berth__pcp_first(zone->pcp_row[order]);
	pcp = berth__pcp_enter_any(zone);
	if (!pcp)
		return BERTH_IDX_NONE;
	list = berth__pcp_list(pcp, first, gfp, &count);
	if (!count) {
		if (first || !refill_from_pageblock(zone, pcp, gfp, &list))
			list = refill(zone, pcp, first, gfp);
		count = berth__pcp_count(pcp, list);
	}
	if (count)
		idx = berth__pcp_pop(zone, pcp, list, count, tag, cookie);
	berth__pcp_leave(pcp);
	return idx;
}

bool berth__pcp_free(struct berth_zone *zone, berth_idx_t idx)
{
	struct berth_pcp *pcp = berth__pcp_enter_any(zone);
	bool cached = false;
	unsigned list;

	if (!pcp)
		return false;
	list = berth__pcp_route(zone, idx);
	if (list != BERTH_PCP_NONE) {
		cached = berth__pcp_count(pcp, list) < berth__pcp_high(pcp, list) ||
			 make_room(zone, pcp, list);
		if (cached)
			berth__pcp_push(zone, pcp, list, berth__pcp_count(pcp, list), idx,
					&zone->frames[idx], 0);
	} else if (berth__pcp_count(pcp, BERTH_PCP_RETURN)) {
		give_back(zone, pcp); /* those may be the last of their pageblocks, too */
	}
	berth__pcp_leave(pcp);
	return cached;
}

/* As berth__pcp_route(), for a block of an order above 0. Acquire: who sees that its pageblock isn't isolated any more
 * sees how the block was cut meanwhile. */
static unsigned route_of_block(const struct berth_zone *zone, berth_idx_t idx)
{
	return atomic_load_explicit(&zone->pcp_route[idx >> zone->pageblock_order],
				    memory_order_acquire);
}

/* In the section, after a look at the route (I5): a block that its owner alone has, and nothing
 * special. */
static bool is_plain(const struct berth_zone *zone, berth_idx_t idx, unsigned order, unsigned owner)
{
	const uint32_t flags = BERTH_TAG_MOVABLE | BERTH_TAG_RECLAIMABLE |
			       ~0u << BERTH_TAG_OWNER_SHIFT;
	struct berth_frame *frame = &zone->frames[idx];
	uint32_t tag = berth__tag(frame);

	return (tag & ~flags) == BERTH_TAG(BERTH_FRAME_USED, order) &&
	       (owner == BERTH_ANY_OWNER || berth__tag_owner(tag) == owner) &&
	       atomic_load_explicit(&frame->refcount, memory_order_acquire) == 1;
}

/* In the section, left then: caches a block that has been looked at in a list with room. */
static inline void push_block(struct berth_zone *zone, struct berth_pcp *pcp, unsigned list,
			      berth_idx_t idx, unsigned order)
{
	struct berth_frame *frame = &zone->frames[idx];

	/* No new pin can come: the owner has closed every path. So 1 is still 1. */
	atomic_store_explicit(&frame->refcount, 0, memory_order_relaxed);
	berth__pcp_push(zone, pcp, list, berth__pcp_count(pcp, list), idx, frame, order);
	if (list == BERTH_PCP_RETURN)
		atomic_store_explicit(&pcp->return_tails,
				      atomic_load_explicit(&pcp->return_tails,
							   memory_order_relaxed) +
					      berth__pages(order) - 1,
				      memory_order_relaxed);
	berth__pcp_leave(pcp);
}

/* The same where the list has none; false: nor gets any. Not inline: the way past needs few registers. */
static __attribute__((noinline)) bool push_block_full(struct berth_zone *zone,
						      struct berth_pcp *pcp, unsigned list,
						      berth_idx_t idx, unsigned order)
{
	bool room = make_room(zone, pcp, list);

	if (room)
		push_block(zone, pcp, list, idx, order);
	else
		berth__pcp_leave(pcp);
	return room;
}

/* In the section, left then. */
static inline bool free_block_in(struct berth_zone *zone, struct berth_pcp *pcp, berth_idx_t idx,
				 unsigned order, unsigned owner)
{
	unsigned row = zone->pcp_row[order], route = route_of_block(zone, idx), list;

	if (route == BERTH_PCP_NONE || !is_plain(zone, idx, order, owner) ||
	    (route == BERTH_PCP_RETURN && row == BERTH_PCP_ROW_PAGEBLOCK)) {
		berth__pcp_leave(pcp);
		return false;
	}
	list = route == BERTH_PCP_RETURN ? BERTH_PCP_RETURN : berth__pcp_first(row) + route;
	if (BERTH_UNLIKELY(berth__pcp_count(pcp, list) >= berth__pcp_high(pcp, list)))
		return push_block_full(zone, pcp, list, idx, order);
	push_block(zone, pcp, list, idx, order);
	return true;
}

static BERTH_COLD bool free_block_anyhow(struct berth_zone *zone, berth_idx_t idx, unsigned order,
					 unsigned owner)
{
	struct berth_pcp *pcp = enter(zone);

	return pcp && free_block_in(zone, pcp, idx, order, owner);
}

bool berth__pcp_free_block(struct berth_zone *zone, berth_idx_t idx, unsigned order, unsigned owner)
{
	struct berth_pcp *pcp;

	if (zone->pcp_row[order] == BERTH_PCP_NO_ROW)
		return false;
	if (BERTH_UNLIKELY(!berth__pcp_enter(zone, &pcp)))
		return free_block_anyhow(zone, idx, order, owner);
	return free_block_in(zone, pcp, idx, order, owner);
}
