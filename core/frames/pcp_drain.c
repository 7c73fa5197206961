/* SPDX-License-Identifier: MIT */
/*
 * Per-CPU lists from outside: who isn't a slot's owner keeps him out of his section, and then takes blocks out of his
 * lists, or ages them. The head comment of pcp.c explains the protocol; here is the half of it that pays.
 *
 * Complexity: a drain visits each slot that has ever been used and each block that is cached there, and costs one barrier
 * of all CPUs; a slot's lock is held from before the barrier until the slot is done.
 */
#include "core/frames/pcp_fast.h"
#include "core/motion/internal.h"
#include "core/stats.h"

/* A part of the zone whose cached blocks go home. */
struct drained {
	berth_idx_t start, end;
};

/* Takes what touches the part out of one list. Returns its frames. Z. */
static uint64_t drain_list_locked(struct berth_zone *zone, struct berth_pcp *pcp, unsigned list,
				  const struct drained *part)
{
	berth_idx_t *stack = berth__pcp_stack(zone, pcp, list);
	uint32_t count = berth__pcp_count(pcp, list), kept = 0, tails = 0;
	uint64_t given = 0;

	for (uint32_t i = 0; i < count; i++) {
		unsigned order = berth__cached_order(zone, stack[i]);

		if (stack[i] < part->end && stack[i] + berth__pages(order) > part->start) {
			given += berth__pcp_free_cached_locked(zone, stack[i]);
		} else {
			tails += berth__pages(order) - 1;
			stack[kept++] = stack[i];
		}
	}
	berth__pcp_set_count(pcp, list, kept); /* in step with the free counters */
	if (list == BERTH_PCP_RETURN)
		atomic_store_explicit(&pcp->return_tails, tails, memory_order_relaxed);
	return given;
}

/* Returns to the buddy lists what a slot caches of a part, and empties its LRU batches. */
static void drain_slot(struct berth_zone *zone, struct berth_pcp *pcp, const struct drained *part)
{
	bool any = false;

	for (unsigned list = 0; list < BERTH_NR_PCP_LISTS; list++) {
		uint64_t given;

		if (!berth__pcp_count(pcp, list))
			continue;
		berth_lock(&zone->lock);
		given = drain_list_locked(zone, pcp, list, part);
		any |= given != 0;
		berth__count_locked(zone, BERTH_EVENT_PGFREE, given);
		berth__count_locked(zone, BERTH_EVENT_PCP_DRAIN, given);
		berth_unlock(&zone->lock);
	}
	if (any)
		atomic_fetch_add_explicit(&zone->drains, 1, memory_order_relaxed);
	berth__lru_drain_slot(zone, pcp);
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

/* Does something with each slot of [from, end) that has been used, while its owner is kept out: drains a
 * part, or ages its lists (NULL). */
static void visit_slots(struct berth_zone *zone, uint32_t from, uint32_t end,
			const struct drained *part)
{
	uint32_t used = atomic_load(&zone->nr_pcps_used);

	/* A slot that is used for the first time meanwhile gets another round. */
	for (; from < used && from < end; used = atomic_load(&zone->nr_pcps_used)) {
		uint32_t stop = used < end ? used : end;

		for (uint32_t cpu = from; cpu < stop; cpu++) {
			struct berth_pcp *pcp = berth__pcp(zone, cpu);

			berth_mutex_lock(&pcp->drain_lock);
			atomic_fetch_or_explicit(&pcp->gate, BERTH_PCP_DRAIN, memory_order_relaxed);
		}
		if (zone->port->barrier_all)
			zone->port->barrier_all(zone->port_ctx);
		else
			atomic_thread_fence(memory_order_seq_cst);
		for (uint32_t cpu = from; cpu < stop; cpu++) {
			struct berth_pcp *pcp = berth__pcp(zone, cpu);

			wait_until_outside(zone, pcp);
			if (part)
				drain_slot(zone, pcp, part);
			else
				berth__pcp_age_slot(zone, pcp);
			atomic_fetch_and_explicit(&pcp->gate, ~BERTH_PCP_DRAIN,
						  memory_order_release);
			berth_mutex_unlock(&pcp->drain_lock);
		}
		from = stop;
	}
}

void berth__pcp_drain_range(struct berth_zone *zone, berth_idx_t start, berth_idx_t end)
{
	berth__kept_send_home(zone, start, end);
	visit_slots(zone, 0, zone->nr_cpus, &(struct drained){ start, end });
}

bool berth__pcp_any(struct berth_zone *zone)
{
	uint32_t used = atomic_load(&zone->nr_pcps_used);

	if (berth__kept_of_all(zone))
		return true;
	for (uint32_t cpu = 0; cpu < used; cpu++)
		for (unsigned list = 0; list < BERTH_NR_PCP_LISTS; list++)
			if (berth__pcp_count(berth__pcp(zone, cpu), list))
				return true;
	return false;
}

int berth_pcp_drain(struct berth_zone *zone, unsigned cpu)
{
	if (cpu >= zone->nr_cpus)
		return -BERTH_EINVAL;
	visit_slots(zone, cpu, cpu + 1, &(struct drained){ zone->first, zone->end });
	return 0;
}

void berth_pcp_drain_all(struct berth_zone *zone)
{
	berth__pcp_drain_range(zone, zone->first, zone->end);
}

int berth_pcp_drain_range(struct berth_zone *zone, berth_pfn_t start_pfn, uint64_t nr_pages)
{
	berth_idx_t start;

	if (!nr_pages || !berth__idx(zone, start_pfn, nr_pages, &start))
		return -BERTH_EINVAL;
	berth__pcp_drain_range(zone, start, start + (berth_idx_t)nr_pages);
	return 0;
}

void berth_pcp_age(struct berth_zone *zone)
{
	berth__kept_send_home(zone, zone->first, zone->end);
	visit_slots(zone, 0, zone->nr_cpus, NULL);
}
