/* SPDX-License-Identifier: MIT */
/*
 * Where there is room in a GCMA area: extents and bins of gaps.
 *
 * I1  Extents tile the area: each begins where the one in front ends. No two gaps touch.
 * I2  gap_first of the last granule of a gap in a bin is its first. What is found in front of an extent is such a gap
 *     exactly if a GAP begins there and ends here; what else is there has never a GAP's number by I3.
 * I3  A gap is in the bin of its size and in no other, or the main gap and in none; a bin's bit is set exactly if it
 *     has one. The first granule of a gap in a bin says GAP, and no other does.
 * I4  A granule's bit in `starts` is set exactly if a claim begins there; its extent's kind is CLAIMED only then.
 *
 * A search is exact: it looks at the main gap and at all gaps of a bin, bin by bin upwards, until one fits, and what
 * can't fit, or is longer than the main gap if that does, it doesn't look at. Gaps of less than 64 granules have bins of
 * their own size, so without constraints the first gap that is looked at fits, or one of those in the bin of its size
 * class, of which there are at most (granules of the area) / 64.
 *
 * The main gap may be cut at its start meanwhile. A search looks at it once, so what it answers was true at that
 * moment, since bins don't change under the lock; and whoever changes it swaps what he has seen, or looks again. That
 * is at most once for each granule, as it only shrinks. Swaps that give frames are a release, those that take some an
 * acquire, so a claim comes behind whatever was done there before.
 *
 * Complexity: finding O(1 + gaps looked at that don't fit), with first_fit O(gaps large enough); taking
 * and giving O(1) for each run; cutting O(1).
 */
#include "core/alloc/gcma.h"

/* ---- Bins -------------------------------------------------------------------------------------- */

static unsigned bin_of(berth_granule_t nr)
{
	unsigned log2;

	if (nr < BERTH_GCMA_EXACT)
		return nr;
	log2 = 31u - (unsigned)__builtin_clz(nr);
	return BERTH_GCMA_EXACT + (log2 - 6) * 8 + (nr >> (log2 - 3) & 7);
}

static uint64_t nonempty(const struct berth_gcma *area, unsigned word)
{
	return atomic_load_explicit(&area->nonempty[word], memory_order_relaxed);
}

/* The first bin from `bin` on that isn't empty; BERTH_GCMA_BINS: none. Without G it may have been some time ago. */
static unsigned next_bin(const struct berth_gcma *area, unsigned bin)
{
	for (unsigned word = bin / 64; word < BERTH_GCMA_BIN_WORDS; word++) {
		uint64_t bits = nonempty(area, word);

		if (word == bin / 64)
			bits &= ~0ull << bin % 64;
		if (bits)
			return word * 64 + (unsigned)__builtin_ctzll(bits);
	}
	return BERTH_GCMA_BINS;
}

/* G. */
static void set_nonempty_locked(struct berth_gcma *area, unsigned bin, bool value)
{
	uint64_t bit = 1ull << bin % 64, bits = nonempty(area, bin / 64);

	atomic_store_explicit(&area->nonempty[bin / 64], value ? bits | bit : bits & ~bit,
			      memory_order_relaxed);
}

/* A gap that isn't the main gap. G. */
static BERTH_HOT void insert_into_bin_locked(struct berth_gcma *area, berth_granule_t first,
					     berth_granule_t nr)
{
	struct berth_extent *gap = &area->extents[first];
	unsigned bin = bin_of(nr);
	bool empty = !(nonempty(area, bin / 64) >> bin % 64 & 1);

	atomic_store_explicit(&gap->what, berth__extent_what(BERTH_EXTENT_GAP, 0),
			      memory_order_relaxed);
	gap->nr = nr;
	gap->u.gap.prev = BERTH_GRANULE_NONE;
	gap->u.gap.next = empty ? BERTH_GRANULE_NONE : area->bins[bin];
	if (!empty)
		area->extents[area->bins[bin]].u.gap.prev = first;
	area->bins[bin] = first;
	if (empty)
		set_nonempty_locked(area, bin, true);
	area->extents[first + nr - 1].gap_first = first;
}

/* The gap at `first`, which is in a bin, is none any more. Returns its granules. G. */
static BERTH_HOT berth_granule_t remove_locked(struct berth_gcma *area, berth_granule_t first)
{
	struct berth_extent *gap = &area->extents[first];
	berth_granule_t next = gap->u.gap.next, prev = gap->u.gap.prev;
	unsigned bin = bin_of(gap->nr);

	BERTH_GCMA_ASSERT(area, berth__extent_kind(gap) == BERTH_EXTENT_GAP,
			  berth__extent_kind(gap), first);
	if (next != BERTH_GRANULE_NONE)
		area->extents[next].u.gap.prev = prev;
	if (prev != BERTH_GRANULE_NONE)
		area->extents[prev].u.gap.next = next;
	else if (next != BERTH_GRANULE_NONE)
		area->bins[bin] = next;
	else
		set_nonempty_locked(area, bin, false);
	atomic_store_explicit(&gap->what, berth__extent_what(BERTH_EXTENT_NONE, 0),
			      memory_order_relaxed);
	return gap->nr;
}

/* Is it the first granule of a gap that is in a bin? G. */
static bool is_in_bin_locked(const struct berth_gcma *area, berth_granule_t granule)
{
	return granule < area->nr_granules &&
	       berth__extent_kind(&area->extents[granule]) == BERTH_EXTENT_GAP;
}

/* Granules of the gap in a bin that ends in front of the granule, or 0. G. */
static berth_granule_t in_front_locked(const struct berth_gcma *area, berth_granule_t granule)
{
	berth_granule_t first, nr;

	if (!granule)
		return 0;
	/* Also what another gap has left there is in front of the granule. */
	first = area->extents[granule - 1].gap_first;
	nr = granule - first;
	return is_in_bin_locked(area, first) && area->extents[first].nr == nr ? nr : 0;
}

/* The main gap, if it is still as it was seen. */
static bool swap_main_gap(struct berth_gcma *area, struct berth_gap was, berth_granule_t first,
			  berth_granule_t nr)
{
	uint64_t word = berth__main_gap_word(was.first, was.nr);

	return atomic_compare_exchange_strong_explicit(&area->main_gap, &word,
						       berth__main_gap_word(first, nr),
						       memory_order_acq_rel, memory_order_relaxed);
}

/* What was no extent, or none any more, becomes a gap, or a part of the main gap. No gap in a bin touches it. G. */
static BERTH_HOT void insert_locked(struct berth_gcma *area, berth_granule_t first,
				    berth_granule_t nr)
{
	for (;;) {
		struct berth_gap main = berth__main_gap(area);

		if (main.nr && main.first + main.nr == first) {
			if (swap_main_gap(area, main, main.first, main.nr + nr))
				return;
		} else if (main.nr && main.first == first + nr) {
			if (swap_main_gap(area, main, first, nr + main.nr))
				return;
		} else if (nr <= main.nr) {
			insert_into_bin_locked(area, first, nr);
			return;
		} else if (swap_main_gap(area, main, first, nr)) {
			if (main.nr)
				insert_into_bin_locked(area, main.first, main.nr);
			return;
		}
	}
}

void berth__gaps_init(struct berth_gcma *area)
{
	insert_locked(area, 0, area->nr_granules);
}

/* ---- Finding ----------------------------------------------------------------------------------- */

static berth_pfn_t round_up(berth_pfn_t pfn, berth_pfn_t align)
{
	return (pfn + align - 1) & ~(align - 1);
}

/* The run from pfn on, which is aligned, keeps to the limits and the boundary. */
static bool may_begin_at(const struct berth_gcma_request *request, berth_pfn_t pfn)
{
	berth_pfn_t last = pfn + request->nr_pages - 1;

	return pfn >= request->min_pfn && last <= request->max_pfn &&
	       (!request->boundary || (pfn ^ last) < request->boundary);
}

BERTH_HOT berth_granule_t berth__gap_fit(const struct berth_gcma *area,
					 const struct berth_gcma_request *request,
					 berth_granule_t first, berth_granule_t end)
{
	berth_pfn_t pfn = berth__granule_pfn(area, first);
	berth_pfn_t end_pfn = berth__granule_pfn(area, end);

	if (pfn < request->min_pfn)
		pfn = request->min_pfn;
	if (pfn >= end_pfn) /* also where rounding up could overflow */
		return BERTH_GRANULE_NONE;
	pfn = round_up(pfn, request->align);
	/* The request is no longer than the boundary, so behind the next multiple it fits. */
	if (request->boundary && (pfn ^ (pfn + request->nr_pages - 1)) >= request->boundary)
		pfn = round_up(round_up(pfn + 1, request->boundary), request->align);
	if (pfn >= end_pfn || end_pfn - pfn < request->run_pages || !may_begin_at(request, pfn))
		return BERTH_GRANULE_NONE;
	return (berth_granule_t)berth__gcma_granule_of(&area->hot, pfn);
}

static bool fits(const struct berth_gcma *area, const struct berth_gcma_request *request,
		 struct berth_gap gap)
{
	return gap.nr >= request->nr &&
	       berth__gap_fit(area, request, gap.first, gap.first + gap.nr) != BERTH_GRANULE_NONE;
}

/* Of one bin. G. */
static berth_granule_t smallest_in_bin_locked(const struct berth_gcma *area,
					      const struct berth_gcma_request *request,
					      unsigned bin)
{
	berth_granule_t best = BERTH_GRANULE_NONE, best_nr = BERTH_GRANULE_NONE;

	for (berth_granule_t at = area->bins[bin]; at != BERTH_GRANULE_NONE;
	     at = area->extents[at].u.gap.next) {
		berth_granule_t nr = area->extents[at].nr;

		if (nr >= best_nr || nr < request->nr ||
		    berth__gap_fit(area, request, at, at + nr) == BERTH_GRANULE_NONE)
			continue;
		best = at;
		best_nr = nr;
		if (nr == request->nr || bin < BERTH_GCMA_EXACT)
			break; /* none in here is smaller */
	}
	return best;
}

/* A gap that is in a bin; nr 0: NONE was found. G. */
static struct berth_gap gap_at_locked(const struct berth_gcma *area, berth_granule_t first)
{
	if (first == BERTH_GRANULE_NONE)
		return (struct berth_gap){ 0, 0 };
	return (struct berth_gap){ first, area->extents[first].nr };
}

/* `best`: the main gap if it fits, else nr 0. G. */
static struct berth_gap lowest_locked(const struct berth_gcma *area,
				      const struct berth_gcma_request *request,
				      struct berth_gap best)
{
	for (unsigned bin = next_bin(area, bin_of(request->nr)); bin < BERTH_GCMA_BINS;
	     bin = next_bin(area, bin + 1)) {
		for (berth_granule_t at = area->bins[bin]; at != BERTH_GRANULE_NONE;
		     at = area->extents[at].u.gap.next) {
			struct berth_gap gap = gap_at_locked(area, at);

			if ((!best.nr || at < best.first) && fits(area, request, gap))
				best = gap;
		}
	}
	return best;
}

BERTH_HOT struct berth_gap berth__gap_find_locked(const struct berth_gcma *area,
						  const struct berth_gcma_request *request)
{
	struct berth_gap main = berth__main_gap(area), best;
	berth_granule_t found = BERTH_GRANULE_NONE;
	unsigned last = BERTH_GCMA_BINS - 1;

	if (!fits(area, request, main))
		main.nr = 0;
	if (request->first_fit)
		return lowest_locked(area, request, main);
	if (main.nr)
		last = bin_of(main.nr);
	for (unsigned bin = next_bin(area, bin_of(request->nr));
	     bin <= last && found == BERTH_GRANULE_NONE; bin = next_bin(area, bin + 1))
		found = smallest_in_bin_locked(area, request, bin);
	best = gap_at_locked(area, found);
	return main.nr && (!best.nr || best.nr > main.nr) ? main : best;
}

berth_granule_t berth__gap_longest_locked(const struct berth_gcma *area)
{
	berth_granule_t longest = berth__main_gap(area).nr;

	for (unsigned word = BERTH_GCMA_BIN_WORDS; word-- > 0;) {
		uint64_t bits = nonempty(area, word);
		unsigned bin;

		if (!bits)
			continue;
		bin = word * 64 + 63 - (unsigned)__builtin_clzll(bits);
		for (berth_granule_t at = area->bins[bin]; at != BERTH_GRANULE_NONE;
		     at = area->extents[at].u.gap.next) {
			if (area->extents[at].nr > longest)
				longest = area->extents[at].nr;
			if (bin < BERTH_GCMA_EXACT)
				break;
		}
		break;
	}
	return longest;
}

/* ---- Taking and giving ------------------------------------------------------------------------- */

/* By who has got the run. Release: who finds the bit finds the extent. */
static void make_claim(struct berth_gcma *area, berth_granule_t first,
		       const struct berth_gcma_request *request, uint64_t note)
{
	struct berth_extent *claim = &area->extents[first];

	atomic_store_explicit(&claim->what,
			      berth__extent_what(BERTH_EXTENT_CLAIMING, request->nr_pages),
			      memory_order_relaxed);
	claim->nr = request->nr;
	claim->u.note = note;
	atomic_fetch_or_explicit(&area->starts[first / 64], 1ull << first % 64,
				 memory_order_release);
}

BERTH_HOT bool berth__gap_cut(struct berth_gcma *area, const struct berth_gcma_request *request,
			      uint64_t note, berth_pfn_t *pfn)
{
	struct berth_gap main;

	/* A smaller one may fit, or with first_fit a lower one. */
	if (request->first_fit || next_bin(area, bin_of(request->nr)) < BERTH_GCMA_BINS)
		return false;
	do {
		main = berth__main_gap(area);
		if (main.nr < request->nr ||
		    berth__gap_fit(area, request, main.first, main.first + main.nr) != main.first)
			return false;
	} while (!swap_main_gap(area, main, main.first + request->nr, main.nr - request->nr));
	make_claim(area, main.first, request, note);
	*pfn = berth__granule_pfn(area, main.first);
	return true;
}

/* Where a single run in the gap leaves one remainder: at its start or at its end, if it can be there. */
static BERTH_HOT berth_granule_t place(const struct berth_gcma *area,
				       const struct berth_gcma_request *request,
				       berth_granule_t first, berth_granule_t end)
{
	berth_granule_t lowest = berth__gap_fit(area, request, first, end);
	berth_pfn_t last = berth__granule_pfn(area, end - request->nr);

	if (lowest != first && !request->first_fit && !(last & (request->align - 1)) &&
	    may_begin_at(request, last))
		return end - request->nr;
	return lowest;
}

BERTH_HOT unsigned berth__gap_take_locked(struct berth_gcma *area, struct berth_gap gap,
					  const struct berth_gcma_request *request, unsigned most,
					  berth_pfn_t *pfns)
{
	berth_granule_t at = gap.first, end = gap.first + gap.nr;
	berth_granule_t run = most == 1 ? place(area, request, at, end) :
					  berth__gap_fit(area, request, at, end);
	unsigned taken = 0;

	if (is_in_bin_locked(area, gap.first))
		(void)remove_locked(area, gap.first);
	else if (!swap_main_gap(area, gap, end, 0))
		return 0;
	while (taken < most && run != BERTH_GRANULE_NONE) {
		make_claim(area, run, request, 0);
		if (run > at)
			insert_locked(area, at, run - at);
		pfns[taken++] = berth__granule_pfn(area, run);
		at = run + request->nr;
		run = berth__gap_fit(area, request, at, end);
	}
	if (at < end)
		insert_locked(area, at, end - at);
	return taken;
}

BERTH_HOT void berth__gap_give_locked(struct berth_gcma *area, berth_granule_t first)
{
	berth_granule_t nr = area->extents[first].nr;
	berth_granule_t in_front = in_front_locked(area, first);

	atomic_fetch_and_explicit(&area->starts[first / 64], ~(1ull << first % 64),
				  memory_order_relaxed);
	if (is_in_bin_locked(area, first + nr))
		nr += remove_locked(area, first + nr);
	if (in_front) {
		first -= in_front;
		nr += remove_locked(area, first);
	}
	insert_locked(area, first, nr);
}

berth_granule_t berth__gap_next_claim_locked(const struct berth_gcma *area, berth_granule_t granule,
					     berth_granule_t end)
{
	for (uint64_t word = granule / 64; word * 64 < end; word++) {
		uint64_t bits = atomic_load_explicit(&area->starts[word], memory_order_acquire);

		if (word == granule / 64)
			bits &= ~0ull << granule % 64;
		if (bits) {
			uint64_t found = word * 64 + (unsigned)__builtin_ctzll(bits);

			return found < end ? (berth_granule_t)found : end;
		}
	}
	return end;
}

/* ---- Check ------------------------------------------------------------------------------------- */

static bool equal(struct berth_violation *violation, const char *what, uint64_t where,
		  uint64_t value, uint64_t expected)
{
	if (value == expected)
		return true;
	*violation = (struct berth_violation){ what, where, value, expected };
	return false;
}

/* Is the gap in the list of its bin, and linked both ways? */
static bool check_in_bin(const struct berth_gcma *area, berth_granule_t gap,
			 struct berth_violation *violation)
{
	const struct berth_extent *extent = &area->extents[gap];
	berth_granule_t next = extent->u.gap.next, prev = extent->u.gap.prev;
	unsigned bin = bin_of(extent->nr);

	return equal(violation, "gcma.I3 bit of the bin of the gap at granule", gap,
		     nonempty(area, bin / 64) >> bin % 64 & 1, 1) &&
	       (prev == BERTH_GRANULE_NONE ?
			equal(violation, "gcma.I3 first of the bin", bin, area->bins[bin], gap) :
			prev < area->nr_granules &&
				equal(violation, "gcma.I3 next of the gap at granule", prev,
				      area->extents[prev].u.gap.next, gap)) &&
	       (next == BERTH_GRANULE_NONE ||
		equal(violation, "gcma.I3 prev of the gap at granule", next,
		      next < area->nr_granules ? area->extents[next].u.gap.prev : next, gap));
}

/* As many gaps in the bins as there are: so those found in their lists are all. */
static bool check_bins(const struct berth_gcma *area, uint64_t nr_gaps,
		       struct berth_violation *violation)
{
	uint64_t listed = 0;

	for (unsigned bin = next_bin(area, 0); bin < BERTH_GCMA_BINS; bin = next_bin(area, bin + 1))
		for (berth_granule_t at = area->bins[bin];
		     at != BERTH_GRANULE_NONE && listed <= nr_gaps;
		     at = area->extents[at].u.gap.next, listed++)
			if (!equal(violation, "gcma.I3 bin of the gap at granule", at,
				   bin_of(area->extents[at].nr), bin))
				return false;
	return equal(violation, "gcma.I3 gaps in bins", 0, listed, nr_gaps);
}

static bool is_main_gap(const struct berth_gcma *area, berth_granule_t first)
{
	const struct berth_gap main = berth__main_gap(area);

	return main.nr && main.first == first;
}

/* One extent of `nr` granules; `touches`: a gap is in front of it. */
static bool check_extent(const struct berth_gcma *area, berth_granule_t at, berth_granule_t nr,
			 bool touches, struct berth_violation *violation)
{
	const struct berth_extent *extent = &area->extents[at];
	bool main = is_main_gap(area, at), gap = main || is_in_bin_locked(area, at);

	if (!equal(violation, "gcma.I1 size of the extent at granule", at,
		   nr && nr <= area->nr_granules - at, true) ||
	    !equal(violation, "gcma.I1 gaps touch at granule", at, gap && touches, false) ||
	    !equal(violation, "gcma.I4 start at granule", at,
		   berth__gap_next_claim_locked(area, at, at + 1) == at, !gap) ||
	    !equal(violation, "gcma.I4 start inside the extent at granule", at,
		   berth__gap_next_claim_locked(area, at + 1, at + nr), at + nr))
		return false;
	for (berth_granule_t inside = main ? 0 : 1; inside < nr; inside++) {
		enum berth_extent_kind kind = berth__extent_kind(extent + inside);

		if (!equal(violation, "gcma.I4 a claim inside the extent at granule", at,
			   kind == BERTH_EXTENT_CLAIMED, false) ||
		    !equal(violation, "gcma.I3 a gap inside the extent at granule", at,
			   kind == BERTH_EXTENT_GAP, false))
			return false;
	}
	if (!gap || main)
		return true;
	return equal(violation, "gcma.I2 first of the gap that ends with granule", at + nr - 1,
		     extent[nr - 1].gap_first, at) &&
	       check_in_bin(area, at, violation);
}

bool berth__gaps_check(const struct berth_gcma *area, struct berth_violation *violation)
{
	const struct berth_gap main = berth__main_gap(area);
	uint64_t nr_in_bins = 0, nr_main = 0;
	berth_granule_t at = 0;
	bool touches = false;

	while (at < area->nr_granules) {
		bool is_main = is_main_gap(area, at),
		     in_bin = !is_main && is_in_bin_locked(area, at);
		berth_granule_t nr = is_main ? main.nr : area->extents[at].nr;

		if (!check_extent(area, at, nr, touches, violation))
			return false;
		nr_in_bins += in_bin;
		nr_main += is_main;
		touches = is_main || in_bin;
		at += nr;
	}
	return equal(violation, "gcma.I3 main gap of granules", main.nr, nr_main, main.nr != 0) &&
	       check_bins(area, nr_in_bins, violation);
}
