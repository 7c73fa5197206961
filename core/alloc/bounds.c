/* SPDX-License-Identifier: MIT */
/*
 * Range choice: what ranges cost at least, without a look at their blocks.
 *
 * I1  No range costs less than what is said here of where it begins, as long as nothing changes.
 *
 *	counters   of a pageblock: what exceeds the free frames at a window's ends is in use; O(1)
 *	summaries  the same for all starts in a group or a region of pageblocks at once; O(1)
 *	chunks     eighths of a pageblock, whose free frames the bits of free blocks tell, and whose blocks
 *	           `joined`: exact but for the two chunks that a window cuts; O(orders) each, some 100 ns a pageblock
 */
#include "core/alloc/range.h"

/* ---- Counters ---------------------------------------------------------------------------------------- */

/* What is known of pageblocks at the ends of a window: most of each. */
struct edges {
	uint64_t free, open, joined, dropped; /* joined: frames in use less blocks in use */
};

static void add_edge(const struct berth_choice *choice, struct edges *edges, uint32_t number)
{
	const struct berth_load *load = &choice->zone->loads[number];

	edges->free += load->free;
	edges->open += choice->search->ignore_pins ? load->free + load->used : load->open;
	edges->joined += load->used - load->blocks;
	edges->dropped += berth__dropped(choice->zone, number, choice->cost_kind, load->used,
					 load->blocks)
				  .pages;
}

/* The least that so many frames in use cost of which `dropped` are dropped. */
static uint64_t least_of(const struct berth_choice *choice, uint64_t used, uint64_t dropped,
			 uint64_t joined)
{
	uint64_t moved = used - dropped, blocks = moved > joined ? moved - joined : moved > 0;

	return moved * choice->cost.copy_ns + blocks * choice->cost.remap_ns +
	       dropped * choice->cost.drop_ns;
}

/* The least that a window costs whose whole pageblocks cost `inner`, and which covers `pages` frames more, in
 * pageblocks at its ends. BERTH_COST_NONE: they haven't got that many. */
static uint64_t bound(const struct berth_choice *choice, uint64_t inner, uint64_t pages,
		      const struct edges *edges)
{
	uint64_t used = pages > edges->free ? pages - edges->free : 0;
	uint64_t most = used < edges->dropped ? used : edges->dropped, few, least;

	if (pages > edges->open || (choice->search->free_only && used))
		return BERTH_COST_NONE;
	/* Linear between none, all that can be, and as many as leave no block but joined ones. */
	few = used > edges->joined ? used - edges->joined : 0;
	few = few < most ? few : most;
	least = least_of(choice, used, 0, edges->joined);
	for (unsigned i = 0; most && i < 2; i++) {
		uint64_t one = least_of(choice, used, i ? most : few, edges->joined);

		least = one < least ? one : least;
	}
	return inner + least;
}

uint64_t berth__bound(const struct berth_choice *choice, uint32_t number,
		      const struct berth_inner *inner)
{
	const struct berth_zone *zone = choice->zone;
	uint32_t whole = choice->search->nr >> zone->pageblock_order;
	uint32_t end = ((zone->end - 1) >> zone->pageblock_order) + 1;
	uint64_t pages = choice->search->nr - ((uint64_t)inner->nr << zone->pageblock_order);
	struct edges edges = { 0 };

	add_edge(choice, &edges, number);
	if (whole && number + whole < end)
		add_edge(choice, &edges, number + whole);
	if (number + whole + 1 < end)
		add_edge(choice, &edges, number + whole + 1);
	return bound(choice, inner->cost, pages, &edges);
}

bool berth__hopeless(const struct berth_choice *choice, uint32_t number, uint32_t span,
		     const struct berth_inner *windows, uint64_t pages, uint32_t reach)
{
	const struct berth_zone *zone = choice->zone;
	uint32_t last = (number + span - 1 + reach) / span;
	uint32_t end = ((zone->end - 1) >> zone->pageblock_order) / span;
	uint32_t taken = choice->size, joined = 0, dropped = 0;
	uint64_t cost = UINT64_MAX;

	for (uint32_t at = number / span; at <= last && at <= end; at++) {
		const struct berth_summary *summary = span == BERTH_GROUP ?
							      &zone->groups[at].summary :
							      &zone->regions[at];
		uint64_t one = summary->least_cost[choice->cost_kind];
		uint32_t drops = summary->most_dropped[choice->cost_kind];

		cost = one < cost ? one : cost;
		taken = summary->least_taken < taken ? summary->least_taken : taken;
		joined = summary->most_joined > joined ? summary->most_joined : joined;
		dropped = drops > dropped ? drops : dropped;
	}
	if (cost == UINT64_MAX && windows->nr) /* all is claimed */
		return true;
	return !berth__worth_a_look(choice,
				    bound(choice, cost * windows->nr, pages,
					  &(struct edges){ .free = 3ull * (choice->size - taken),
							   .open = 3ull * choice->size,
							   .joined = 3ull * joined,
							   .dropped = 3ull * dropped }));
}

/* ---- Chunks ------------------------------------------------------------------------------------------ */

#define EDGES 3u /* pageblocks at a window's ends */

static unsigned bits_set(uint64_t word)
{
	word -= word >> 1 & 0x5555555555555555u;
	word = (word & 0x3333333333333333u) + (word >> 2 & 0x3333333333333333u);
	word = (word + (word >> 4)) & 0x0f0f0f0f0f0f0f0fu;
	return (unsigned)(word * 0x0101010101010101u >> 56);
}

/* Of the bits [first, first + nr), nr a power of two that divides first. */
static unsigned bits_in(const uint64_t *bits, uint32_t first, uint32_t nr)
{
	unsigned sum = 0;

	if (nr < 64)
		return bits_set(bits[first / 64] >> first % 64 & ((1ull << nr) - 1));
	for (uint32_t at = first / 64; at < (first + nr) / 64; at++)
		sum += bits_set(bits[at]);
	return sum;
}

/* Free frames of a chunk of a pageblock which isn't wholly free: see frames/buddy.c for the bits. Z. */
static uint32_t free_in_chunk(const struct berth_zone *zone, const uint64_t *bits, unsigned chunk)
{
	unsigned shift = berth__chunk_order(zone), chunks = zone->pageblock_order - shift;
	uint32_t number = (1u << chunks) + chunk, free = 0;

	for (unsigned order = 0; order <= shift && order < zone->pageblock_order; order++)
		free += bits_in(bits, number << (shift - order), 1u << (shift - order)) << order;
	for (unsigned order = shift + 1; order < zone->pageblock_order; order++) {
		uint32_t above = number >> (order - shift);

		if (bits[above / 64] >> above % 64 & 1)
			return berth__pages(shift);
	}
	return free;
}

/* The least that each chunk of a pageblock costs which lies in a window as a whole. Z. */
static void cost_chunks(const struct berth_choice *choice, uint32_t number, uint64_t *costs)
{
	const struct berth_zone *zone = choice->zone;
	const struct berth_pageblock *pageblock = &zone->pageblocks[number];
	const uint64_t *bits = berth__bits(zone, number << zone->pageblock_order);
	unsigned chunks = 1u << (zone->pageblock_order - berth__chunk_order(zone));
	uint32_t size = berth__pages(berth__chunk_order(zone)), copy = choice->cost.copy_ns;
	/* Claims and holes may be anywhere; and so may be what is dropped. */
	uint32_t other = choice->size - berth__nr_managed(pageblock) + berth__nr_claimed(pageblock);
	bool drops =
		berth__dropped(zone, number, choice->cost_kind, choice->size, choice->size).pages;

	if (drops && choice->cost.drop_ns < copy)
		copy = choice->cost.drop_ns;
	for (unsigned chunk = 0; chunk < chunks; chunk++) {
		uint32_t free = berth__nr_free(pageblock) == choice->size ?
					size :
					free_in_chunk(zone, bits, chunk);
		uint32_t taken = free + other, used = taken < size ? size - taken : 0;
		uint32_t joined = berth__joined(pageblock, chunk);
		uint32_t blocks = used > joined ? used - joined : 0;

		costs[chunk] = (uint64_t)used * copy +
			       (drops ? 0 : (uint64_t)blocks * choice->cost.remap_ns);
	}
}

unsigned berth__chunks_worth_a_look(const struct berth_choice *choice, uint32_t number,
				    const struct berth_inner *inner)
{
	struct berth_zone *zone = choice->zone;
	unsigned shift = berth__chunk_order(zone), chunks = 1u << (zone->pageblock_order - shift);
	uint32_t end = ((zone->end - 1) >> zone->pageblock_order) + 1;
	/* Chunks of the first pageblock, and then of those behind the inner ones, in one row. */
	uint64_t costs[EDGES * BERTH_CHUNKS] = { 0 }, sum = 0;
	uint64_t nr = choice->search->nr - ((uint64_t)inner->nr << zone->pageblock_order);
	unsigned worth = 0, from = 1, to = 1;

	berth_lock(&zone->lock);
	for (unsigned i = 0; i < EDGES; i++) {
		uint32_t at = i ? number + inner->nr + i : number;

		if (at < end)
			cost_chunks(choice, at, &costs[i * chunks]);
	}
	berth_unlock(&zone->lock);
	for (unsigned first = 0; first < chunks; first++) {
		/* From the next one on, up to that in which the window may end. */
		unsigned stop = (unsigned)((((uint64_t)first << shift) + nr) >> shift);

		for (; to < stop && to < EDGES * chunks; to++)
			sum += costs[to];
		for (; from <= first; from++)
			sum -= from < to ? costs[from] : 0;
		if (berth__worth_a_look(choice, inner->cost + sum))
			worth |= 1u << first;
		to = to < from ? from : to;
	}
	return worth;
}
