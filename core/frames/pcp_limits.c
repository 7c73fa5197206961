/* SPDX-License-Identifier: MIT */
/*
 * How much the per-CPU lists may hold: where each begins, its bounds, and where between them its limit
 * is just now.
 *
 * A list that exchanges blocks with the buddy lists again and again is too small, and whether it is
 * emptied or filled doesn't matter: its limit doubles, and with it the batch, which is half of it, or a
 * whole pageblock where there's room for that and a quarter more; of whole pageblocks, three quarters.
 * So a CPU that allocates or frees much soon does so a pageblock at a time, without having more in its
 * list than its first-level cache holds. What isn't used shrinks by half each second (berth_pcp_age(),
 * or the slot's owner itself, with its next exchange).
 *
 * I1  pcp_min <= high <= pcp_max of each list. What the lists of all slots may hold beyond their minimum is
 *     `pcp_grown`, and at most pcp_budget frames, an eighth of the zone. So one busy CPU of many has long
 *     lists, and idle ones take nothing away from it.
 * I2  count <= high, but for a list that shrinks while it is aged.
 *
 * Linux (mm/page_alloc.c: high_min, high_max, alloc_factor, decay_pcp_high) has one limit a CPU for all
 * orders, and grows it when it allocates from a zone with much free memory.
 *
 * Complexity: O(lists).
 */
#include "core/frames/internal.h"
#include "core/frames/pcp_fast.h"

#define MOST_PAGES 640u   /* of a list, by default: a batch of a pageblock, and some at hand */
#define MOST_BLOCKS 16u   /* of a pageblock's size */
#define LEAST_PAGES 64u   /* a limit that isn't under pressure */
#define RETURN_BLOCKS 64u /* one in there holds up a whole pageblock */
#define PAGES_TO_KEEP 16u /* a list grows as long as this many times its pages are free */
#define AGE_SHIFT 27u     /* of ns: the ages' unit is 134 ms, */
#define AGE 8u            /* lists are aged after about a second */
#define LOOK_AT_CLOCK 16u /* each so many exchanges */

static unsigned at_most(uint64_t value, unsigned most)
{
	return value < most ? (unsigned)value : most;
}

static unsigned power_of_two(uint64_t value)
{
	return value < 2 ? (unsigned)value : 1u << (63 - (unsigned)__builtin_clzll(value));
}

/* The bounds of one row. */
static void set_row(struct berth_pcp_layout *layout, unsigned row, unsigned order, unsigned least,
		    unsigned most)
{
	layout->row[order] = most ? (uint8_t)row : BERTH_PCP_NO_ROW;
	for (unsigned type = 0; type < BERTH_NR_PCP_TYPES; type++) {
		unsigned list = berth__pcp_first(row) + type;

		layout->order[list] = (uint8_t)order;
		layout->min[list] = (uint16_t)least;
		layout->max[list] = (uint16_t)most;
	}
}

/* All rows, with lists of at most `high` single frames, and of `blocks` of a pageblock's size. */
static void set_rows(struct berth_pcp_layout *layout, unsigned pageblock_order, unsigned high,
		     unsigned least, unsigned blocks)
{
	uint32_t at = 0;

	set_row(layout, 0, 0, least, high);
	for (unsigned order = 1; order < BERTH_PCP_ROW_PAGEBLOCK && order < pageblock_order;
	     order++) {
		unsigned most = high >> order < 2 ? 0 : high >> order;

		set_row(layout, order, order, at_most(at_most(least, LEAST_PAGES) >> order, most),
			most);
	}
	set_row(layout, BERTH_PCP_ROW_PAGEBLOCK, pageblock_order, 0, blocks);
	layout->min[BERTH_PCP_RETURN] = layout->max[BERTH_PCP_RETURN] = (uint16_t)at_most(
		high < 8 ? 1 : power_of_two(high / 4), RETURN_BLOCKS);
	for (unsigned list = 0; list < BERTH_NR_PCP_LISTS; list++) {
		layout->base[list] = at;
		at += layout->max[list];
	}
	layout->bytes = (sizeof(struct berth_pcp) + at * sizeof(berth_idx_t) + 63) & ~(size_t)63;
}

/*
 * By default as many as the budget is, up to some bound; the minimum as if all slots shared the budget. A slot's
 * stacks take hardly more than 2 bytes a frame, those of pageblocks apart.
 */
void berth__pcp_lay_out(struct berth_pcp_layout *layout, uint64_t nr_pages, unsigned nr_cpus,
			unsigned pageblock_order, unsigned pcp_high)
{
	uint64_t all = nr_pages / 8, bytes = nr_pages * 2 / nr_cpus;
	/* Where a slot's share is less than one, a few pageblocks are much of the zone. */
	unsigned blocks = all / nr_cpus >> pageblock_order ?
				  at_most(all >> pageblock_order, MOST_BLOCKS) :
				  0;
	unsigned high = pcp_high ? pcp_high : all < MOST_PAGES ? power_of_two(all) : MOST_PAGES;
	unsigned least = at_most(all / nr_cpus / 4, LEAST_PAGES);
	size_t stacks = (size_t)blocks * BERTH_NR_PCP_TYPES * sizeof(berth_idx_t);

	__builtin_memset(layout, 0, sizeof(*layout));
	__builtin_memset(layout->row, BERTH_PCP_NO_ROW, sizeof(layout->row));
	for (;; high = power_of_two(high - 1)) {
		if (high < 2)
			high = 2;
		set_rows(layout, pageblock_order, high,
			 pcp_high ? high :
				    at_most(high < 8 ? high : high / 4, least < 2 ? 2 : least),
			 blocks);
		if (pcp_high || high == 2 || layout->bytes <= bytes + stacks)
			break;
	}
	layout->budget = at_most(all, UINT32_MAX);
}

void berth__pcp_init(const struct berth_zone *zone, struct berth_pcp *pcp)
{
	for (unsigned list = 0; list < BERTH_NR_PCP_LISTS; list++)
		atomic_store_explicit(&pcp->high[list], zone->pcp_min[list], memory_order_relaxed);
}

uint32_t berth__pcp_batch(const struct berth_zone *zone, const struct berth_pcp *pcp, unsigned list)
{
	uint32_t high = berth__pcp_high(pcp, list);
	uint32_t whole = berth__pages(zone->pageblock_order) >> zone->pcp_order[list];

	if (high >= whole + whole / 4 && whole > 1)
		return whole;
	if (whole == 1 && high >= 4)
		return high - high / 4;
	return high > 1 ? high / 2 : high;
}

/* ---- How much there is ---------------------------------------------------------------------------- */

uint32_t berth__pcp_pages(const struct berth_zone *zone, const struct berth_pcp *pcp)
{
	uint32_t pages = atomic_load_explicit(&((struct berth_pcp *)pcp)->return_tails,
					      memory_order_relaxed);

	for (unsigned list = 0; list < BERTH_NR_PCP_LISTS; list++)
		pages += berth__pcp_count(pcp, list) << zone->pcp_order[list];
	return pages;
}

uint32_t berth__pcp_high_pages(const struct berth_zone *zone, const struct berth_pcp *pcp)
{
	uint32_t pages = 0;

	for (unsigned list = 0; list < BERTH_NR_PCP_LISTS; list++)
		pages += berth__pcp_high(pcp, list) << zone->pcp_order[list];
	return pages;
}

/* ---- Growing and shrinking -------------------------------------------------------------------------- */

/* So many frames more may be held beyond the minimum; false: not now. */
static bool take_of_budget(struct berth_zone *zone, uint32_t pages)
{
	uint32_t grown = atomic_load_explicit(&zone->pcp_grown, memory_order_relaxed);

	do {
		if (pages > zone->pcp_budget || grown > zone->pcp_budget - pages)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(&zone->pcp_grown, &grown, grown + pages,
							memory_order_relaxed,
							memory_order_relaxed));
	return true;
}

static uint32_t halved(const struct berth_zone *zone, const struct berth_pcp *pcp, unsigned list)
{
	uint32_t high = berth__pcp_high(pcp, list) / 2;

	return high < zone->pcp_min[list] ? zone->pcp_min[list] : high;
}

static void set_high(struct berth_pcp *pcp, unsigned list, uint32_t high)
{
	atomic_store_explicit(&pcp->high[list], (uint16_t)high, memory_order_relaxed);
}

/* Free memory is plenty: what lists hold is nobody's loss. */
static bool has_plenty(const struct berth_zone *zone, uint64_t pages)
{
	uint64_t free = atomic_load_explicit(&((struct berth_zone *)zone)->nr_free,
					     memory_order_relaxed);
	uint64_t mark = atomic_load_explicit(
		&((struct berth_zone *)zone)->marks.mark[BERTH_MARK_HIGH], memory_order_relaxed);

	return free > mark && (free - mark) / PAGES_TO_KEEP >= pages;
}

/* The limits of these lists (a bit each) are halved; what is beyond goes to the buddy lists. */
static void shrink(struct berth_zone *zone, struct berth_pcp *pcp, uint32_t lists)
{
	for (unsigned list = 0; list < BERTH_NR_PCP_LISTS; list++) {
		uint32_t high, was = berth__pcp_high(pcp, list);

		if (!(lists >> list & 1) || was == zone->pcp_min[list])
			continue;
		high = halved(zone, pcp, list);
		set_high(pcp, list, high);
		atomic_fetch_sub_explicit(&zone->pcp_grown, (was - high) << zone->pcp_order[list],
					  memory_order_relaxed);
		if (berth__pcp_count(pcp, list) > high)
			berth__pcp_spill(zone, pcp, list, berth__pcp_count(pcp, list) - high);
	}
}

/* A list has exchanged blocks: its limit may grow. */
static void grow(struct berth_zone *zone, struct berth_pcp *pcp, unsigned list)
{
	uint32_t high = berth__pcp_high(pcp, list), more = high ? high : 1, bit = 1u << list;
	unsigned order = zone->pcp_order[list];

	if (!(pcp->warm & bit)) { /* once is nothing */
		pcp->warm |= bit;
		return;
	}
	if (high == zone->pcp_max[list])
		return;
	if (more > zone->pcp_max[list] - high)
		more = zone->pcp_max[list] - high;
	if (!has_plenty(zone, (uint64_t)(high + more) << order))
		return;
	if (!take_of_budget(zone, more << order)) {
		shrink(zone, pcp, ~pcp->warm);
		pcp->warm = bit; /* the others have until next time to show that they are used */
		if (!take_of_budget(zone, more << order))
			return;
	}
	set_high(pcp, list, high + more);
}

/* ---- Age ------------------------------------------------------------------------------------------- */

static uint16_t now_age(const struct berth_zone *zone)
{
	return (uint16_t)(berth__now(zone) >> AGE_SHIFT);
}

/* What hasn't exchanged anything since last time shrinks. */
static void age_slot(struct berth_zone *zone, struct berth_pcp *pcp, uint16_t now)
{
	shrink(zone, pcp, ~pcp->warm);
	pcp->warm = 0;
	pcp->aged = now;
}

void berth__pcp_age_slot(struct berth_zone *zone, struct berth_pcp *pcp)
{
	age_slot(zone, pcp, now_age(zone));
}

void berth__pcp_under_pressure(struct berth_zone *zone, struct berth_pcp *pcp, unsigned list)
{
	if (pcp->exchanges++ % LOOK_AT_CLOCK == 0) {
		uint16_t now = now_age(zone);

		if ((uint16_t)(now - pcp->aged) >= AGE)
			age_slot(zone, pcp, now);
	}
	grow(zone, pcp, list);
}
