/* SPDX-License-Identifier: MIT */
/*
 * What areas keep for the next claim: a piece below a pageblock that was released, by tally. A claim of its size that
 * the same CPU makes takes it as it is, without a lock, and writes to nothing that another claimer writes to.
 *
 *	claimed ── released, and nothing is kept there yet ──► kept ── sent home ──► free
 *	claimed ◄── a claim of as many frames of the same tally ──┘
 *
 * I1  What is kept lies in one pageblock and is laid out as the claim that it was, with its note and its bits, but its
 *     first frame isn't START. It is nobody's claim.
 * I2  It counts as free in what is asked of the zone and of its areas; as claimed in the counters of the pageblock
 *     and the zone, from which berth__kept() is to be taken.
 * I3  Whoever looks for free frames and finds too few, or is to choose among them, sends home what is kept first. So
 *     nothing fails because of it. A search in vain is made again if a piece was left meanwhile, which counts as a turn
 *     of the tally: it may have asked for that one too early, and for another too late.
 * I4  A claim takes it only if the search would look in its pageblock first, too: no fuller one could serve it.
 *
 * Sending home is done under the zone lock, and only then the word says that nothing is kept: so whoever finds none finds
 * its frames free.
 *
 * Complexity: O(1); sending home as a release, and a look at each tally of the areas.
 */
#include "core/alloc/claims.h"
#include "core/alloc/internal.h"

/* The word: bits 0-31 the first frame, 32-62 how many, 63: */
#define GOING_HOME (1ull << 63)

static berth_idx_t start_of(uint64_t word)
{
	return (berth_idx_t)word;
}

static berth_idx_t pages_of(uint64_t word)
{
	return (berth_idx_t)((word & ~GOING_HOME) >> 32);
}

static uint64_t kept_word(const struct berth_tally *tally)
{
	return atomic_load_explicit(&tally->kept, memory_order_acquire);
}

/* ---- Sums ---------------------------------------------------------------------------------------- */

static uint64_t kept_of(const struct berth_tally *tally)
{
	return pages_of(kept_word(tally));
}

uint64_t berth__kept(const struct berth_zone *zone, unsigned set)
{
	return berth__sum_tallies(zone, set, kept_of);
}

uint64_t berth__kept_of_all(const struct berth_zone *zone)
{
	return berth__sum_all_tallies(zone, kept_of);
}

bool berth__is_kept(const struct berth_zone *zone, berth_idx_t idx)
{
	const struct berth_cma *area = berth__area_of_set(zone,
							  berth__pageblock(zone, idx)->home_set);
	bool kept = false;

	for (unsigned i = 0; area && i <= area->tally_mask; i++) {
		uint64_t word = kept_word(&area->tallies[i]);

		kept |= word && idx >= start_of(word) && idx - start_of(word) < pages_of(word);
	}
	return kept;
}

/* ---- Sending home -------------------------------------------------------------------------------- */

static void send_home(struct berth_cma *area, struct berth_tally *tally)
{
	struct berth_zone *zone = area->zone;
	uint64_t word;

	berth_lock(&zone->lock);
	word = atomic_load_explicit(&tally->kept, memory_order_relaxed);
	/* Of those that send home one has the lock; a claim may be faster. */
	if (word &&
	    atomic_compare_exchange_strong_explicit(&tally->kept, &word, word | GOING_HOME,
						    memory_order_acquire, memory_order_relaxed)) {
		berth_idx_t start = start_of(word), end = start + pages_of(word);

		berth__bitmap_set(area, start, end, false);
		berth__release_claimed_locked(zone, start, end);
		atomic_store_explicit(&tally->kept, 0, memory_order_release);
	}
	berth_unlock(&zone->lock);
}

void berth__kept_send_home(struct berth_zone *zone, berth_idx_t start, berth_idx_t end)
{
	unsigned areas = atomic_load_explicit(&zone->nr_stocks, memory_order_acquire);

	for (unsigned i = 0; i < areas; i++) {
		struct berth_cma *area = &zone->areas[i];

		if (area->start >= end || area->end <= start)
			continue;
		for (unsigned k = 0; k <= area->tally_mask; k++) {
			uint64_t word = kept_word(&area->tallies[k]);

			if (word && start_of(word) < end && start_of(word) + pages_of(word) > start)
				send_home(area, &area->tallies[k]);
		}
	}
}

/* ---- Keeping ------------------------------------------------------------------------------------- */

bool berth__kept_put(struct berth_cma *area, berth_idx_t start, uint64_t nr)
{
	struct berth_tally *tally = berth__tally(area);
	unsigned shift = area->zone->pageblock_order;
	uint64_t none = 0;

	if (nr >= berth__pages(shift) || start >> shift != (start + nr - 1) >> shift ||
	    atomic_load_explicit(&tally->kept, memory_order_relaxed))
		return false;
	if (!atomic_compare_exchange_strong_explicit(&tally->kept, &none, start | nr << 32,
						     memory_order_release, memory_order_relaxed))
		return false;
	/* A search that saw neither this, nor another piece that went later, sees that something has happened. Not before: a
	 * search might begin in between. */
	atomic_fetch_add_explicit(&tally->turns, 1, memory_order_acq_rel);
	return true;
}

/* A pageblock that is partly free, and fuller than this one would be without the piece, may have a block of 2^order
 * frames. */
static bool fuller_may_have(const struct berth_cma *area, berth_idx_t start, berth_idx_t nr,
			    unsigned order)
{
	const struct berth_zone *zone = area->zone;
	const struct berth_list_set *set = &zone->sets[area->set];
	berth_idx_t free = berth__nr_free(berth__pageblock(zone, start));
	unsigned own = free ? berth__density(zone, free) : BERTH_DENSITIES, density;

	/* Without the piece it may be wholly free, and then all others come first. */
	density = free + nr < berth__pages(zone->pageblock_order) ?
			  berth__density(zone, free + nr) :
			  BERTH_DENSITIES;
	while (density-- > 0)
		if (berth__bucket_orders(set, density) >> order &&
		    atomic_load_explicit(&set->nr_pageblocks[density], memory_order_relaxed) >
			    (density == own))
			return true;
	return false;
}

bool berth__kept_take(const struct berth_search *search, const char *name, berth_idx_t *start)
{
	struct berth_cma *area = search->area;
	struct berth_zone *zone = area->zone;
	struct berth_tally *tally = berth__tally(area);
	uint64_t word = atomic_load_explicit(&tally->kept, memory_order_relaxed);
	struct berth_frame *frame = &zone->frames[start_of(word)];

	if (!word || pages_of(word) != search->nr || search->first_fit ||
	    !berth__legal_start(search, start_of(word)) ||
	    fuller_may_have(area, start_of(word), search->nr, berth__partial_order(search)) ||
	    (word & GOING_HOME) ||
	    /* Release: who sees it gone sees what was left before (turns). */
	    !atomic_compare_exchange_strong_explicit(&tally->kept, &word, 0, memory_order_acq_rel,
						     memory_order_relaxed))
		return false;
	*start = start_of(word);
	berth__claim_renew(zone, *start, name);
	atomic_store_explicit(&frame->tag, berth__tag(frame) | BERTH_TAG_START | BERTH_TAG_AREA,
			      memory_order_release);
	return true;
}
