/* SPDX-License-Identifier: MIT */
/*
 * Per-CPU lists: order-0 frames cached for one slot (a CPU, or a thread in Linux), so that the hot
 * path takes no lock and does no atomic read-modify-write.
 *
 * The owner of a slot brackets each operation by plain stores to in_section; only a compiler
 * barrier stands between "I am inside" and "has a drainer asked me to keep out?". The drainer pays
 * for that: it sets DRAIN in `gate`, makes every CPU pass a memory barrier (membarrier, an IPI), and waits
 * until in_section is 0. Then either the owner saw the flag, or the drainer sees the section. Where
 * the port has no such barrier, the owner's side pays a fence instead.
 *
 * I1  A frame in a list is a PCP head of order 0; count says how many the list has, at most
 *     pcp_high.
 * I2  A freed frame's pageblock set is read inside the section, and isolation drains after it has
 *     changed the set: no frame of an isolated pageblock stays in a list after the drain.
 * I3  Frames freed in pageblocks that are far from full aren't handed out again: they go to the list
 *     RETURN and from there to the buddy lists, whose fullest pageblock serves next; those of
 *     pageblocks that are nearly free go there at once. An exception is the pageblock that filled a
 *     list last, as long as it is that.
 * I4  The lists exchange frames with the buddy lists in batches, inside the section and under the
 *     zone lock, so no frame is ever on its way where a drainer can't see it.
 *
 * Complexity: O(1); one frame in pcp_batch pays O(pcp_batch) under the zone lock. A batch that is
 * one aligned block, as in bulk frees, merges in one step.
 */
#include "core/frames/pcp_fast.h"
#include "core/stats.h"

size_t berth__pcp_stride(unsigned pcp_shift, unsigned return_order)
{
	size_t bytes = sizeof(struct berth_pcp) +
		       (BERTH_PCP_RETURN * sizeof(berth_idx_t) << pcp_shift) +
		       (sizeof(berth_idx_t) << return_order);

	return (bytes + 63) & ~(size_t)63;
}

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
	struct berth_pcp *pcp = berth__pcp_enter(zone);

	return pcp ? pcp : enter(zone);
}

/* ---- Batches ----------------------------------------------------------------------------------- */

static unsigned list_for(unsigned set, unsigned gfp)
{
	return set >= BERTH_CMA ? BERTH_PCP_CMA : gfp & (BERTH_GFP_MOVABLE | BERTH_GFP_RECLAIMABLE);
}

/* Takes a block of at most 2^limit frames from the set the policy picks: of the fullest pageblock
 * its smallest. */
static berth_idx_t take_block_locked(struct berth_zone *zone, unsigned gfp, unsigned limit,
				     unsigned *set, unsigned *order)
{
	*set = berth__choose_set_locked(zone, 0, gfp);
	*order = 0;
	if (*set == BERTH_SET_NONE)
		return berth__rmqueue_locked(zone, 0, gfp, set);
	return berth__buddy_take_locked(zone, *set, berth__lendable_order_locked(zone, *set, limit),
					order);
}

/* The frames of a block, so that pops ascend. Locals only: nothing is loaded again in the loop. */
static inline void put_on_stack(berth_idx_t *stack, struct berth_frame *frames, berth_idx_t idx,
				berth_idx_t nr)
{
	for (berth_idx_t i = 0; i < nr; i++)
		berth__set_tag(&frames[i], BERTH_TAG(BERTH_FRAME_PCP, 0));
	for (berth_idx_t i = 0; i < nr; i++)
		stack[i] = idx + nr - 1 - i;
}

/*
 * The pageblock that fills the list from now on is reused at once whatever is free in it. Its
 * predecessor is like all others again.
 */
static void set_front_locked(struct berth_zone *zone, struct berth_pcp *pcp, unsigned list,
			     berth_idx_t idx)
{
	struct berth_pageblock *pageblock = berth__pageblock(zone, idx);
	uint32_t front = (uint32_t)(pageblock - zone->pageblocks) + 1;
	uint8_t cached_in = zone->pcp_list_of_set[berth__pageblock_set(pageblock)];

	if (pcp->front[list] && pcp->front[list] != front)
		berth__pageblock_route_locked(zone, &zone->pageblocks[pcp->front[list] - 1]);
	pcp->front[list] = front;
	atomic_store_explicit(&pageblock->pcp_list, cached_in, memory_order_relaxed);
}

/* Takes up to a batch; the list that got it may still be empty when there is nothing. */
static unsigned refill(struct berth_zone *zone, struct berth_pcp *pcp, unsigned gfp)
{
	unsigned want = zone->pcp_batch, filled = list_for(BERTH_UNMOVABLE, gfp);
	berth_idx_t last = BERTH_IDX_NONE;
	bool any = false;

	berth_lock(&zone->lock);
	while (want) {
		unsigned set, order, list;
		unsigned limit = 31 - (unsigned)__builtin_clz(want);
		berth_idx_t *stack, idx = take_block_locked(zone, gfp, limit, &set, &order);
		uint32_t count;

		if (idx == BERTH_IDX_NONE)
			break;
		list = list_for(set, gfp);
		stack = berth__pcp_stack(zone, pcp, list);
		count = berth__pcp_count(pcp, list);
		if (count + berth__pages(order) > zone->pcp_high) { /* has some: use those */
			berth__buddy_free_locked(zone, idx, order);
			filled = any ? filled : list;
			break;
		}
		put_on_stack(stack + count, &zone->frames[idx], idx, berth__pages(order));
		berth__pcp_set_count(pcp, list, count + berth__pages(order));
		want -= berth__pages(order);
		if (any && list != filled)
			break; /* the first choice ran out: enough for now */
		filled = list;
		last = idx;
		any = true;
	}
	if (any)
		set_front_locked(zone, pcp, filled, last);
	berth__count_locked(zone, BERTH_EVENT_PGALLOC, zone->pcp_batch - want);
	berth__count_locked(zone, BERTH_EVENT_PCP_REFILL, zone->pcp_batch - want);
	berth_unlock(&zone->lock);
	return filled;
}

/*
 * What freeing these frames will touch: their buddies, and those that the buddies will be unlinked
 * from. Scattered frames are cold, and this way they are fetched side by side. Z.
 */
static void prefetch_locked(const struct berth_zone *zone, const berth_idx_t *stack, uint32_t nr)
{
	const struct berth_frame *frames = zone->frames;

	for (uint32_t i = 0; i < nr; i++) {
		__builtin_prefetch(&frames[stack[i] ^ 1], 1);
		__builtin_prefetch(&frames[(stack[i] & ~1u) ^ 2], 1);
	}
	for (uint32_t i = 0; i < nr; i++) {
		for (unsigned order = 0; order < 2; order++) {
			berth_idx_t idx = (stack[i] & ~(berth_idx_t)order) ^ berth__pages(order);
			const struct berth_frame *buddy = &frames[idx];

			if (idx >= zone->end ||
			    berth__tag(buddy) != BERTH_TAG(BERTH_FRAME_FREE, order))
				continue;
			if (buddy->prev != BERTH_IDX_NONE)
				__builtin_prefetch(&frames[buddy->prev], 1);
			if (buddy->next != BERTH_IDX_NONE)
				__builtin_prefetch(&frames[buddy->next], 1);
		}
	}
}

/* Returns a batch from the bottom of a list, the coldest, to the buddy lists. */
static void spill(struct berth_zone *zone, struct berth_pcp *pcp, unsigned list)
{
	berth_idx_t *stack = berth__pcp_stack(zone, pcp, list);
	struct berth_frame *frames = zone->frames;
	uint32_t nr = zone->pcp_batch, left = berth__pcp_count(pcp, list) - nr, differ = 0;

	for (uint32_t i = 1; i < nr; i++)
		differ |= stack[i] ^ stack[0];
	berth_lock(&zone->lock);
	for (uint32_t i = 0; i < nr; i++)
		berth__set_tag(&frames[stack[i]], 0);
	if (differ < nr) { /* nr = 2^k different frames of one aligned block: all of it */
		berth__buddy_free_locked(zone, stack[0] & ~(nr - 1), zone->pcp_batch_order);
	} else {
		prefetch_locked(zone, stack, nr);
		for (uint32_t i = 0; i < nr; i++)
			berth__buddy_free_locked(zone, stack[i], 0);
	}
	berth__pcp_set_count(pcp, list, left); /* in step with the free counters */
	berth__count_locked(zone, BERTH_EVENT_PGFREE, nr);
	berth__count_locked(zone, BERTH_EVENT_PCP_SPILL, nr);
	berth_unlock(&zone->lock);
	__builtin_memmove(stack, stack + nr, left * sizeof(*stack));
}

/*
 * Gives back the list RETURN, and of the oldest in the other lists what would belong there by now:
 * frames that were cached before their pageblock emptied.
 */
static void give_back(struct berth_zone *zone, struct berth_pcp *pcp)
{
	uint64_t given = 0;

	berth_lock(&zone->lock);
	for (unsigned list = 0; list < BERTH_NR_PCP_LISTS; list++) {
		berth_idx_t *stack = berth__pcp_stack(zone, pcp, list);
		uint32_t count = berth__pcp_count(pcp, list), kept = 0;
		uint32_t most = zone->pcp_limit[BERTH_PCP_RETURN], nr = count < most ? count : most;

		if (list == BERTH_PCP_RETURN)
			prefetch_locked(zone, stack, nr);
		for (uint32_t i = 0; i < nr; i++) {
			if (list != BERTH_PCP_RETURN &&
			    berth__pcp_list_of(zone, stack[i]) != BERTH_PCP_RETURN) {
				stack[kept++] = stack[i];
				continue;
			}
			berth__set_tag(&zone->frames[stack[i]], 0);
			berth__buddy_free_locked(zone, stack[i], 0);
		}
		if (kept == nr)
			continue;
		given += nr - kept;
		__builtin_memmove(stack + kept, stack + nr, (count - nr) * sizeof(*stack));
		berth__pcp_set_count(pcp, list, count - nr + kept);
	}
	berth__count_locked(zone, BERTH_EVENT_PGFREE, given);
	berth__count_locked(zone, BERTH_EVENT_PCP_SPILL, given);
	berth_unlock(&zone->lock);
}

/* ---- One frame ------------------------------------------------------------------------------------ */

BERTH_COLD berth_idx_t berth__pcp_alloc(struct berth_zone *zone, unsigned gfp, uint32_t tag,
					uint64_t cookie)
{
	struct berth_pcp *pcp = enter(zone);
	berth_idx_t idx = BERTH_IDX_NONE;
	unsigned list;

	if (!pcp)
		return BERTH_IDX_NONE;
	list = berth__pcp_list(pcp, gfp);
	if (!berth__pcp_count(pcp, list))
		list = refill(zone, pcp, gfp);
	if (berth__pcp_count(pcp, list))
		idx = berth__pcp_pop(zone, pcp, list, tag, cookie);
	berth__pcp_leave(pcp);
	return idx;
}

BERTH_COLD bool berth__pcp_free(struct berth_zone *zone, berth_idx_t idx)
{
	struct berth_pcp *pcp = enter(zone);
	unsigned list;

	if (!pcp)
		return false;
	list = berth__pcp_list_of(zone, idx);
	if (list != BERTH_PCP_NONE) {
		if (berth__pcp_count(pcp, list) == zone->pcp_limit[list]) {
			if (list == BERTH_PCP_RETURN)
				give_back(zone, pcp);
			else
				spill(zone, pcp, list);
		}
		berth__pcp_push(zone, pcp, list, idx);
	} else if (berth__pcp_count(pcp, BERTH_PCP_RETURN)) {
		give_back(zone, pcp); /* those may be the last of their pageblocks, too */
	}
	berth__pcp_leave(pcp);
	return list != BERTH_PCP_NONE;
}

/* ---- Draining ----------------------------------------------------------------------------------- */

/* Returns to the buddy lists what a slot caches of [start, end). The owner is kept out. */
static void drain_one(struct berth_zone *zone, struct berth_pcp *pcp, berth_idx_t start,
		      berth_idx_t end)
{
	bool any = false;

	for (unsigned list = 0; list < BERTH_NR_PCP_LISTS; list++) {
		berth_idx_t *stack = berth__pcp_stack(zone, pcp, list);
		uint32_t count = berth__pcp_count(pcp, list), kept = 0;

		if (!count)
			continue;
		berth_lock(&zone->lock);
		for (uint32_t i = 0; i < count; i++) {
			if (stack[i] < start || stack[i] >= end) {
				stack[kept++] = stack[i];
				continue;
			}
			berth__buddy_free_locked(zone, stack[i], 0);
			any = true;
		}
		berth__count_locked(zone, BERTH_EVENT_PGFREE, count - kept);
		berth__count_locked(zone, BERTH_EVENT_PCP_DRAIN, count - kept);
		berth__pcp_set_count(pcp, list, kept); /* in step with the free counters */
		berth_unlock(&zone->lock);
	}
	if (any)
		atomic_fetch_add_explicit(&zone->drains, 1, memory_order_relaxed);
}

static void wait_until_outside(struct berth_zone *zone, struct berth_pcp *pcp)
{
	/* A section is short, but its thread may be preempted inside: spin first, then sleep. */
	for (unsigned spins = 0; atomic_load_explicit(&pcp->in_section, memory_order_acquire);
	     spins++) {
		if (spins < 1000)
			berth_relax();
		else
			zone->port->wait(zone->port_ctx, 20000);
	}
}

void berth__pcp_drain_range(struct berth_zone *zone, berth_idx_t start, berth_idx_t end)
{
	uint32_t from = 0, used = atomic_load(&zone->nr_pcps_used);

	/* A slot that is used for the first time meanwhile gets another round. */
	while (from < used) {
		for (uint32_t cpu = from; cpu < used; cpu++) {
			struct berth_pcp *pcp = berth__pcp(zone, cpu);

			berth_mutex_lock(&pcp->drain_lock);
			atomic_fetch_or_explicit(&pcp->gate, BERTH_PCP_DRAIN, memory_order_relaxed);
		}
		if (zone->port->barrier_all)
			zone->port->barrier_all(zone->port_ctx);
		else
			atomic_thread_fence(memory_order_seq_cst);
		for (uint32_t cpu = from; cpu < used; cpu++) {
			struct berth_pcp *pcp = berth__pcp(zone, cpu);

			wait_until_outside(zone, pcp);
			drain_one(zone, pcp, start, end);
			berth__lru_drain_slot(zone, pcp);
			atomic_fetch_and_explicit(&pcp->gate, ~BERTH_PCP_DRAIN,
						  memory_order_release);
			berth_mutex_unlock(&pcp->drain_lock);
		}
		from = used;
		used = atomic_load(&zone->nr_pcps_used);
	}
}

bool berth__pcp_any(struct berth_zone *zone)
{
	uint32_t used = atomic_load(&zone->nr_pcps_used);

	for (uint32_t cpu = 0; cpu < used; cpu++)
		for (unsigned list = 0; list < BERTH_NR_PCP_LISTS; list++)
			if (berth__pcp_count(berth__pcp(zone, cpu), list))
				return true;
	return false;
}

void berth_pcp_drain_all(struct berth_zone *zone)
{
	berth__pcp_drain_range(zone, zone->first, zone->end);
}
