/* SPDX-License-Identifier: MIT */
/*
 * The stock of an area: its wholly free pageblocks. They are in no list, so a claim takes and gives
 * them without a lock, each by one word of its own; what two claimers both write is nothing, as long as
 * their ranges are apart.
 *
 *	LISTED ── whole pageblock free (buddy.c) ──► STOCK ── a claim ──► TAKEN
 *	LISTED ◄── for borrowers, or isolation ───── STOCK ◄── its end ── TAKEN
 *
 * I1  A pageblock that has an area's set and is wholly free is STOCK; whoever holds the zone lock may have
 *     it in a list meanwhile.
 * I2  From LISTED and to it only under the zone lock. So what is seen to be LISTED stays so under it.
 * I3  Of a TAKEN pageblock, counters, tag, cookie and note are its claim's; all of it is one claim's, and
 *     no isolated range touches it.
 * I4  A pageblock in the stock has its bit in zone->stocked. Others may have: who looks for one takes it
 *     away.
 * I5  Frames of TAKEN pageblocks are in the sums of the area's tallies, and in the counters of the zone
 *     and the set as if they were free.
 *
 * Whoever changes counters without the zone lock marks their group stale after it, with a fence in
 * between: then either it sees that the mark is away and sets it, or the refreshment sees the change
 * (summary.c). The bits of I4 go by the same rule.
 *
 * Complexity: O(1) for each pageblock taken or given.
 */
#include "core/alloc/claims.h"
#include "core/frames/internal.h"
#include "core/frames/summary.h"

/* ---- Sums ---------------------------------------------------------------------------------------- */

struct berth_tally *berth__tally(const struct berth_cma *area)
{
	return &area->tallies[berth_cpu() & area->tally_mask];
}

const struct berth_cma *berth__area_of_set(const struct berth_zone *zone, unsigned set)
{
	if (set < BERTH_CMA ||
	    set - BERTH_CMA >= atomic_load_explicit(&zone->nr_stocks, memory_order_acquire))
		return NULL;
	return &zone->areas[set - BERTH_CMA];
}

uint64_t berth__sum_tallies(const struct berth_zone *zone, unsigned set,
			    uint64_t (*of)(const struct berth_tally *tally))
{
	const struct berth_cma *area = berth__area_of_set(zone, set);
	uint64_t sum = 0;

	for (unsigned i = 0; area && i <= area->tally_mask; i++)
		sum += of(&area->tallies[i]);
	return (int64_t)sum > 0 ? sum : 0; /* taken by one CPU, given by another, in between */
}

uint64_t berth__sum_all_tallies(const struct berth_zone *zone,
				uint64_t (*of)(const struct berth_tally *tally))
{
	unsigned areas = atomic_load_explicit(&zone->nr_stocks, memory_order_acquire);
	uint64_t sum = 0;

	for (unsigned i = 0; i < areas; i++)
		sum += berth__sum_tallies(zone, BERTH_CMA + i, of);
	return sum;
}

static uint64_t taken_of(const struct berth_tally *tally)
{
	return atomic_load_explicit(&tally->taken, memory_order_relaxed);
}

uint64_t berth__taken(const struct berth_zone *zone, unsigned set)
{
	return berth__sum_tallies(zone, set, taken_of);
}

uint64_t berth__taken_of_all(const struct berth_zone *zone)
{
	return berth__sum_all_tallies(zone, taken_of);
}

static uint64_t less(const _Atomic uint64_t *value, uint64_t taken)
{
	uint64_t all = atomic_load_explicit(value, memory_order_relaxed);

	return all > taken ? all - taken : 0;
}

uint64_t berth__set_free(const struct berth_zone *zone, unsigned set)
{
	return less(&zone->sets[set].nr_free, berth__taken(zone, set)) + berth__kept(zone, set);
}

uint64_t berth__set_stock(const struct berth_zone *zone, unsigned set)
{
	return less(&zone->sets[set].nr_stocked, berth__taken(zone, set));
}

uint64_t berth__nr_blocks(const struct berth_zone *zone, unsigned set, unsigned order)
{
	uint64_t blocks = zone->lists[set * (zone->max_order + 1) + order].nr_blocks;

	return order == zone->pageblock_order ? blocks + (berth__set_stock(zone, set) >> order) :
						blocks;
}

bool berth__has_block(const struct berth_zone *zone, unsigned set, unsigned order)
{
	return zone->sets[set].nonempty >> order != 0 ||
	       (set >= BERTH_CMA && berth__set_stock(zone, set) >= berth__pages(order) &&
		berth__set_stock(zone, set));
}

uint64_t berth__zone_free(const struct berth_zone *zone)
{
	return less(&zone->nr_free, berth__taken_of_all(zone)) + berth__kept_of_all(zone);
}

uint64_t berth__zone_free_cma(const struct berth_zone *zone)
{
	return less(&zone->nr_free_cma, berth__taken_of_all(zone)) + berth__kept_of_all(zone);
}

uint64_t berth__zone_free_unlent(const struct berth_zone *zone)
{
	unsigned areas = atomic_load_explicit(&zone->nr_stocks, memory_order_acquire);
	uint64_t sum = 0;

	if (!atomic_load_explicit(&zone->nr_keeping, memory_order_relaxed))
		return 0;
	for (unsigned i = 0; i < areas; i++) {
		const struct berth_cma *area = &zone->areas[i];
		uint64_t free = berth__set_free(zone, area->set);
		uint64_t keep = atomic_load_explicit(&area->lend_min_pages, memory_order_relaxed);

		sum += berth__lend(area) == BERTH_LEND_OFF || keep > free ? free : keep;
	}
	return sum;
}

/* ---- Marks ----------------------------------------------------------------------------------------- */

/* Sets what isn't set: mostly there is nothing to write. */
static void set_bits(_Atomic uint64_t *word, uint64_t bits)
{
	if ((atomic_load_explicit(word, memory_order_relaxed) & bits) != bits)
		atomic_fetch_or_explicit(word, bits, memory_order_relaxed);
}

/* Bits of [first, first + nr) in the word that has bit `at` of them; *at: behind. */
static uint64_t bits_of_word(uint32_t *at, uint32_t end)
{
	uint32_t from = *at % 64, to = end - *at > 64 - from ? 64 : from + (end - *at);

	*at += to - from;
	return (to == 64 ? ~0ull : (1ull << to) - 1) & ~0ull << from;
}

/* After the counters of [first, first + nr) have changed, and what is free of them is STOCK. */
static void mark_changed(struct berth_zone *zone, uint32_t first, uint32_t nr, bool free)
{
	uint32_t end = first + nr, group = first / BERTH_GROUP;

	atomic_thread_fence(memory_order_seq_cst);
	for (uint32_t at = group; at <= (end - 1) / BERTH_GROUP;) {
		_Atomic uint64_t *word = &zone->stale[at / BERTH_GROUP];

		set_bits(word, bits_of_word(&at, (end - 1) / BERTH_GROUP + 1));
	}
	for (uint32_t at = first; free && at < end;) {
		_Atomic uint64_t *word = &zone->stocked[at / 64];

		set_bits(word, bits_of_word(&at, end));
	}
}

/* ---- Under the zone lock ------------------------------------------------------------------------------ */

/* The set's stock has so many frames more. Z. */
static void count_stock(struct berth_zone *zone, uint32_t number, uint64_t nr)
{
	struct berth_list_set *set = &zone->sets[berth__pageblock_set(&zone->pageblocks[number])];

	atomic_store_explicit(&set->nr_stocked,
			      atomic_load_explicit(&set->nr_stocked, memory_order_relaxed) + nr,
			      memory_order_relaxed);
}

void berth__stock_add_locked(struct berth_zone *zone, uint32_t first, uint32_t nr)
{
	if (nr)
		count_stock(zone, first, (uint64_t)nr << zone->pageblock_order);
	for (uint32_t number = first; number < first + nr; number++) {
		_Atomic uint32_t *stock = &zone->pageblocks[number].stock;
		uint32_t word = atomic_load_explicit(stock, memory_order_relaxed);

		BERTH_ASSERT(zone, (word & BERTH_STOCK_STATE) == BERTH_LISTED, number, word);
		atomic_store_explicit(stock, word | BERTH_STOCK, memory_order_release);
		set_bits(&zone->stocked[number / 64], 1ull << number % 64); /* looked for under Z */
	}
}

bool berth__stock_remove_locked(struct berth_zone *zone, uint32_t number)
{
	_Atomic uint32_t *stock = &zone->pageblocks[number].stock;
	uint32_t word = atomic_load_explicit(stock, memory_order_relaxed);

	if ((word & BERTH_STOCK_STATE) != BERTH_STOCK ||
	    !atomic_compare_exchange_strong_explicit(stock, &word, word & ~BERTH_STOCK_STATE,
						     memory_order_acquire, memory_order_relaxed))
		return false; /* a claim was faster */
	count_stock(zone, number, -(uint64_t)berth__pages(zone->pageblock_order));
	return true;
}

/* Is the bit of a pageblock that isn't in the stock to stay? No, unless it just came back. Z. */
static void take_bit_away(struct berth_zone *zone, uint32_t number)
{
	_Atomic uint64_t *word = &zone->stocked[number / 64];
	uint64_t bit = 1ull << number % 64;

	atomic_fetch_and_explicit(word, ~bit, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
	if (berth__stock(&zone->pageblocks[number]) == BERTH_STOCK)
		set_bits(word, bit);
}

/* All of [first, first + nr), or none. Z. */
static bool remove_run_locked(struct berth_zone *zone, uint32_t first, uint32_t nr)
{
	uint32_t got = 0;

	while (got < nr && berth__stock_remove_locked(zone, first + got))
		got++;
	if (got < nr)
		berth__stock_add_locked(zone, first, got);
	return got == nr;
}

berth_idx_t berth__stock_remove_any_locked(struct berth_zone *zone, unsigned set, unsigned order)
{
	const struct berth_cma *area = &zone->areas[set - BERTH_CMA];
	unsigned shift = zone->pageblock_order;
	uint32_t nr = order > shift ? 1u << (order - shift) : 1, end = area->end >> shift;
	uint32_t number = ((area->start >> shift) + nr - 1) & ~(nr - 1);

	while (number < end && end - number >= nr) {
		uint64_t word = atomic_load_explicit(&zone->stocked[number / 64],
						     memory_order_relaxed) >>
				number % 64;

		if (!word) {
			number = (number | 63) + 1;
			number = (number + nr - 1) & ~(nr - 1);
			continue;
		}
		if (nr == 1) {
			number += (uint32_t)__builtin_ctzll(word);
			if (number >= end)
				break;
		}
		if (remove_run_locked(zone, number, nr))
			return number << shift;
		if (nr == 1)
			take_bit_away(zone, number);
		number += nr;
	}
	return BERTH_IDX_NONE;
}

/* ---- Claims ---------------------------------------------------------------------------------------------- */

/* The first nr that a walk over [first, first + of) comes to, TAKEN, go back; counters and tags say that
 * they are free. */
static void put_back(struct berth_zone *zone, uint32_t first, uint32_t of, uint32_t nr)
{
	for (uint32_t k = 0; k < nr; k++) {
		_Atomic uint32_t *stock = &zone->pageblocks[first + berth__inward(of, k)].stock;
		uint32_t word = atomic_load_explicit(stock, memory_order_relaxed);

		atomic_store_explicit(stock, word - BERTH_TAKEN + BERTH_STOCK,
				      memory_order_release);
	}
	if (nr)
		mark_changed(zone, first, of, true);
}

/* All of [first, first + nr), or none. */
static bool take_run(struct berth_zone *zone, uint32_t first, uint32_t nr)
{
	for (uint32_t k = 0; k < nr; k++) {
		_Atomic uint32_t *stock = &zone->pageblocks[first + berth__inward(nr, k)].stock;
		uint32_t word = atomic_load_explicit(stock, memory_order_relaxed);
		uint32_t taken = word - BERTH_STOCK + BERTH_TAKEN + BERTH_STOCK_ONCE;

		if ((word & BERTH_STOCK_STATE) == BERTH_STOCK &&
		    atomic_compare_exchange_strong_explicit(
			    stock, &word, taken, memory_order_acquire, memory_order_relaxed))
			continue;
		put_back(zone, first, nr, k);
		return false;
	}
	return true;
}

/* The pageblock's frames are claimed, or free. */
static void count_pageblock(struct berth_zone *zone, uint32_t number, bool claimed)
{
	struct berth_pageblock *pageblock = &zone->pageblocks[number];
	uint32_t size = berth__pages(zone->pageblock_order);

	atomic_store_explicit(&pageblock->nr_free, claimed ? 0 : size, memory_order_relaxed);
	atomic_store_explicit(&pageblock->nr_claimed, claimed ? size : 0, memory_order_relaxed);
}

/* Before anything changes: whoever sees a change sees that there was one. */
static struct berth_tally *begin_turn(const struct berth_cma *area)
{
	struct berth_tally *tally = berth__tally(area);

	atomic_fetch_add_explicit(&tally->turns, 1, memory_order_acq_rel);
	atomic_thread_fence(memory_order_release);
	return tally;
}

bool berth__stock_take(struct berth_cma *area, berth_idx_t start, berth_idx_t end, const char *name)
{
	struct berth_zone *zone = area->zone;
	unsigned shift = zone->pageblock_order;
	uint32_t first = start >> shift, nr = (end - start) >> shift;

	if (!take_run(zone, first, nr))
		return false;
	atomic_fetch_add_explicit(&begin_turn(area)->taken, end - start, memory_order_relaxed);
	for (uint32_t k = 0; k < nr; k++) {
		uint32_t number = first + berth__inward(nr, k);

		count_pageblock(zone, number, true);
		if (number > first)
			berth__set_tag(&zone->frames[(berth_idx_t)number << shift],
				       BERTH_TAG(BERTH_FRAME_CLAIMED, shift));
	}
	berth__claim_note(zone, start, name);
	berth__set_cookie(zone, start, end - start);
	atomic_store_explicit(&zone->frames[start].tag,
			      BERTH_TAG(BERTH_FRAME_CLAIMED, shift) | BERTH_TAG_START |
				      BERTH_TAG_AREA,
			      memory_order_release);
	mark_changed(zone, first, nr, false);
	return true;
}

void berth__stock_give(struct berth_cma *area, berth_idx_t start, berth_idx_t end)
{
	struct berth_zone *zone = area->zone;
	unsigned shift = zone->pageblock_order;
	uint32_t first = start >> shift, nr = (end - start) >> shift;
	struct berth_tally *tally = begin_turn(area);

	berth__claim_forget(zone, start);
	for (uint32_t k = 0; k < nr; k++) {
		uint32_t number = first + berth__inward(nr, k);
		struct berth_pageblock *pageblock = &zone->pageblocks[number];
		berth_idx_t head = (berth_idx_t)number << shift;
		uint32_t tag = berth__tag(&zone->frames[head]);

		BERTH_ASSERT(zone,
			     berth__stock(pageblock) == BERTH_TAKEN &&
				     berth__tag_kind(tag) == BERTH_FRAME_CLAIMED,
			     tag, head);
		count_pageblock(zone, number, false);
		berth__set_tag(&zone->frames[head], BERTH_TAG(BERTH_FRAME_FREE, shift));
	}
	atomic_fetch_sub_explicit(&tally->taken, end - start, memory_order_relaxed);
	put_back(zone, first, nr, nr);
}
