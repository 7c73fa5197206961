/* SPDX-License-Identifier: MIT */
/*
 * The hot half of the per-CPU lists, inline in its callers: one pop and one push. Whatever is out
 * of the ordinary (no slot, a drainer at work, an empty or full list) is left to pcp.c, whose head
 * comment explains the protocol.
 */
#ifndef BERTH_CORE_PCP_FAST_H
#define BERTH_CORE_PCP_FAST_H

#include "core/frames/internal.h"

#ifndef BERTH_HAVE_CPU_FAST
#define berth_cpu_fast berth_cpu
#endif

static inline uint32_t berth__pcp_count(const struct berth_pcp *pcp, unsigned list)
{
	return atomic_load_explicit(&((struct berth_pcp *)pcp)->count[list], memory_order_relaxed);
}

static inline void berth__pcp_set_count(struct berth_pcp *pcp, unsigned list, uint32_t count)
{
	atomic_store_explicit(&pcp->count[list], count, memory_order_relaxed);
}

static inline uint32_t berth__pcp_high(const struct berth_pcp *pcp, unsigned list)
{
	return atomic_load_explicit(&((struct berth_pcp *)pcp)->high[list], memory_order_relaxed);
}

static inline berth_idx_t *berth__pcp_stack(const struct berth_zone *zone, struct berth_pcp *pcp,
					    unsigned list)
{
	return (berth_idx_t *)(void *)(pcp + 1) + zone->pcp_base[list];
}

/* Of the block whose head is idx. */
static inline unsigned berth__cached_order(const struct berth_zone *zone, berth_idx_t idx)
{
	return berth__tag_order(berth__tag(&zone->frames[idx]));
}

static inline void berth__pcp_leave(struct berth_pcp *pcp)
{
	atomic_store_explicit(&pcp->in_section, 0, memory_order_release);
	berth_preempt_enable();
}

/* Enters the section of the caller's slot if that takes nothing special; false otherwise. */
static inline bool berth__pcp_enter(struct berth_zone *zone, struct berth_pcp **entered)
{
	struct berth_pcp *pcp;
	unsigned cpu;

	berth_preempt_disable();
	cpu = berth_cpu_fast();
	if (BERTH_UNLIKELY(cpu >= zone->nr_cpus)) {
		berth_preempt_enable();
		return false;
	}
	pcp = berth__pcp(zone, cpu);
	atomic_store_explicit(&pcp->in_section, 1, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst); /* the drainer's barrier does the rest */
	if (BERTH_UNLIKELY(atomic_load_explicit(&pcp->gate, memory_order_acquire) !=
			   BERTH_PCP_OPEN)) {
		berth__pcp_leave(pcp);
		return false;
	}
	*entered = pcp;
	return true;
}

/* The same whatever it takes; NULL: no slot, or a drainer is at work. */
struct berth_pcp *berth__pcp_enter_any(struct berth_zone *zone);

/* The list of a row that a request is served from while it lasts; *count: what it has. */
static inline unsigned berth__pcp_list(const struct berth_pcp *pcp, unsigned first, unsigned gfp,
				       uint32_t *count)
{
	if ((gfp & (BERTH_GFP_MOVABLE | BERTH_GFP_NO_CMA | BERTH_GFP_CMA_LAST)) ==
	    BERTH_GFP_MOVABLE) {
		*count = berth__pcp_count(pcp, first + BERTH_PCP_CMA);
		if (*count)
			return first + BERTH_PCP_CMA;
	}
	first += gfp & (BERTH_GFP_MOVABLE | BERTH_GFP_RECLAIMABLE); /* = the type's number */
	*count = berth__pcp_count(pcp, first);
	return first;
}

/* In the section: takes the top of a list that has `count` blocks, at least one. */
static inline berth_idx_t berth__pcp_pop(const struct berth_zone *zone, struct berth_pcp *pcp,
					 unsigned list, uint32_t count, uint32_t tag,
					 uint64_t cookie)
{
	berth_idx_t idx = berth__pcp_stack(zone, pcp, list)[count - 1];

	berth__pcp_set_count(pcp, list, count - 1);
	berth__mark_used(zone, idx, tag, cookie);
	return idx;
}

static inline uint32_t berth__used_tag(unsigned order, unsigned gfp, unsigned owner)
{
	_Static_assert(BERTH_GFP_MOVABLE << 8 == BERTH_TAG_MOVABLE &&
			       BERTH_GFP_RECLAIMABLE << 8 == BERTH_TAG_RECLAIMABLE,
		       "flags of allocations become tags by a shift");
	return BERTH_TAG(BERTH_FRAME_USED, order) | (uint32_t)owner << BERTH_TAG_OWNER_SHIFT |
	       (gfp & (BERTH_GFP_MOVABLE | BERTH_GFP_RECLAIMABLE)) << 8;
}

/* The same where LRU may be among the flags. */
static inline uint32_t berth__used_tag_lru(unsigned order, unsigned gfp, unsigned owner)
{
	return berth__used_tag(order, gfp, owner) | (gfp & BERTH_GFP_LRU ? BERTH_TAG_LRU : 0);
}

/* The owner is registered, and can do what the flags say that it can. */
static inline bool berth__owner_fits(const struct berth_zone *zone, unsigned gfp, unsigned owner)
{
	return owner < zone->nr_owners &&
	       (!(gfp & BERTH_GFP_MOVABLE) ||
		(owner != BERTH_OWNER_NONE && !(gfp & BERTH_GFP_RECLAIMABLE)));
}

/* The same where LRU may be among the flags. */
static inline bool berth__owner_fits_lru(const struct berth_zone *zone, unsigned gfp,
					 unsigned owner)
{
	return berth__owner_fits(zone, gfp, owner) &&
	       (!(gfp & BERTH_GFP_LRU) ||
		(zone->lru_state && owner != BERTH_OWNER_NONE && zone->owners[owner].ops->reclaim));
}

/* The whole hot path of an allocation from the row that begins at list `first`, tagged `tag`; false: go
 * the slow way. */
static inline bool berth__alloc_cached(struct berth_zone *zone, unsigned first, unsigned gfp,
				       uint32_t tag, uint64_t cookie, berth_pfn_t *pfn)
{
	struct berth_pcp *pcp;
	berth_idx_t idx;
	unsigned list;
	uint32_t count;

	if (BERTH_UNLIKELY(!berth__pcp_enter(zone, &pcp)))
		return false;
	list = berth__pcp_list(pcp, first, gfp, &count);
	if (BERTH_UNLIKELY(count == 0)) {
		berth__pcp_leave(pcp);
		return false;
	}
	idx = berth__pcp_pop(zone, pcp, list, count, tag, cookie);
	berth__pcp_leave(pcp);
	*pfn = berth__pfn(zone, idx); /* the caller's memory may fault: not in the section */
	return true;
}

/* The same for an order above 0. */
static inline bool berth__alloc_cached_block(struct berth_zone *zone, unsigned order, unsigned gfp,
					     uint32_t tag, uint64_t cookie, berth_pfn_t *pfn)
{
	unsigned row = order <= BERTH_MAX_ORDER_LIMIT ? zone->pcp_row[order] : BERTH_PCP_NO_ROW;

	return row != BERTH_PCP_NO_ROW &&
	       berth__alloc_cached(zone, berth__pcp_first(row), gfp, tag, cookie, pfn);
}

/* In the section: caches a block whose references are gone, in a list that has `count` and isn't
 * full. */
static inline void berth__pcp_push(const struct berth_zone *zone, struct berth_pcp *pcp,
				   unsigned list, uint32_t count, berth_idx_t idx,
				   struct berth_frame *frame, unsigned order)
{
	berth__set_tag_release(frame, BERTH_TAG(BERTH_FRAME_PCP, order));
	berth__pcp_stack(zone, pcp, list)[count] = idx;
	berth__pcp_set_count(pcp, list, count + 1);
}

/* In the section (or an isolation that has just drained would miss the block): the type of the list for
 * what is freed there; BERTH_PCP_NONE when its pageblock is isolated or its type isn't cached. */
static inline unsigned berth__pcp_route(const struct berth_zone *zone, berth_idx_t idx)
{
	return atomic_load_explicit(&zone->pcp_route[idx >> zone->pageblock_order],
				    memory_order_relaxed);
}

#endif
