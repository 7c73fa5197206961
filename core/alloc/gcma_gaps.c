/* SPDX-License-Identifier: MIT */
/*
 * Where there is room in a GCMA area: extents and bins of gaps.
 *
 * I1  Extents tile the area: each begins where the one in front ends. No two gaps touch.
 * I2  gap_before of a claim's first granule, and of the one behind the area, is the size of the gap in front, or 0;
 *     but for the main gap.
 * I3  A gap is in the bin of its size and in no other, or the main gap and in none; a bin's bit is set exactly if it
 *     has one.
 * I4  A granule's bit in `starts` is set exactly if a claim begins there; its extent's kind is CLAIMED only then.
 *
 * A search is exact: it looks at the main gap and at all gaps of a bin, bin by bin upwards, until one fits, and what
 * can't fit, or is longer than the main gap if that does, it doesn't look at. Gaps of less than 64 granules have bins of
 * their own size, so without constraints the first gap that is looked at fits, or one of those in the bin of its size
 * class, of which there are at most (granules of the area) / 64.
 *
 * Complexity: finding O(1 + gaps looked at that don't fit), with first_fit O(gaps large enough); taking
 * and giving O(1) for each run.
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

/* The first bin from `bin` on that isn't empty; BERTH_GCMA_BINS: none. G. */
static unsigned next_bin_locked(const struct berth_gcma *area, unsigned bin)
{
	for (unsigned word = bin / 64; word < BERTH_GCMA_BIN_WORDS; word++) {
		uint64_t bits = area->nonempty[word];

		if (word == bin / 64)
			bits &= ~0ull << bin % 64;
		if (bits)
			return word * 64 + (unsigned)__builtin_ctzll(bits);
	}
	return BERTH_GCMA_BINS;
}

/* A gap that isn't the main gap. G. */
static void insert_into_bin_locked(struct berth_gcma *area, berth_granule_t first,
				   berth_granule_t nr)
{
	struct berth_extent *gap = &area->extents[first];
	unsigned bin = bin_of(nr);
	bool empty = !(area->nonempty[bin / 64] >> bin % 64 & 1);

	atomic_store_explicit(&gap->what, berth__extent_what(BERTH_EXTENT_GAP, 0),
			      memory_order_relaxed);
	gap->nr = nr;
	gap->u.gap.prev = BERTH_GRANULE_NONE;
	gap->u.gap.next = empty ? BERTH_GRANULE_NONE : area->bins[bin];
	if (!empty)
		area->extents[area->bins[bin]].u.gap.prev = first;
	area->bins[bin] = first;
	area->nonempty[bin / 64] |= 1ull << bin % 64;
	area->extents[first + nr].gap_before = nr;
}

/* What was no extent, or none any more, becomes a gap. G. */
static void insert_locked(struct berth_gcma *area, berth_granule_t first, berth_granule_t nr)
{
	const berth_granule_t main_first = area->main_gap.first, main_nr = area->main_gap.nr;

	if (nr <= main_nr) {
		insert_into_bin_locked(area, first, nr);
		return;
	}
	area->main_gap.first = first;
	area->main_gap.nr = nr;
	if (main_nr)
		insert_into_bin_locked(area, main_first, main_nr);
}

/* A gap is none any more. Who makes something else of it sees to gap_before of what follows. G. */
static void remove_locked(struct berth_gcma *area, berth_granule_t first)
{
	struct berth_extent *gap = &area->extents[first];
	berth_granule_t next, prev;
	unsigned bin;

	if (berth__is_main_gap(area, first)) {
		area->main_gap.nr = 0;
		return;
	}
	next = gap->u.gap.next;
	prev = gap->u.gap.prev;
	bin = bin_of(gap->nr);
	BERTH_GCMA_ASSERT(area, berth__extent_kind(gap) == BERTH_EXTENT_GAP,
			  berth__extent_kind(gap), first);
	if (next != BERTH_GRANULE_NONE)
		area->extents[next].u.gap.prev = prev;
	if (prev != BERTH_GRANULE_NONE)
		area->extents[prev].u.gap.next = next;
	else if (next != BERTH_GRANULE_NONE)
		area->bins[bin] = next;
	else
		area->nonempty[bin / 64] &= ~(1ull << bin % 64);
}

/* G. */
static bool is_gap_locked(const struct berth_gcma *area, berth_granule_t first)
{
	return berth__is_main_gap(area, first) ||
	       berth__extent_kind(&area->extents[first]) == BERTH_EXTENT_GAP;
}

/* Granules of the extent. G. */
static berth_granule_t nr_locked(const struct berth_gcma *area, berth_granule_t first)
{
	return berth__is_main_gap(area, first) ? area->main_gap.nr : area->extents[first].nr;
}

/* Granules of the gap in front of the claim, or 0. G. */
static berth_granule_t gap_before_locked(const struct berth_gcma *area, berth_granule_t claim)
{
	if (area->main_gap.nr && area->main_gap.first + area->main_gap.nr == claim)
		return area->main_gap.nr;
	return area->extents[claim].gap_before;
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

berth_granule_t berth__gap_fit(const struct berth_gcma *area,
			       const struct berth_gcma_request *request, berth_granule_t first,
			       berth_granule_t end)
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

/* G. */
static bool fits_main_gap_locked(const struct berth_gcma *area,
				 const struct berth_gcma_request *request)
{
	const berth_granule_t first = area->main_gap.first, nr = area->main_gap.nr;

	return nr >= request->nr &&
	       berth__gap_fit(area, request, first, first + nr) != BERTH_GRANULE_NONE;
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

/* G. */
static berth_granule_t lowest_locked(const struct berth_gcma *area,
				     const struct berth_gcma_request *request)
{
	berth_granule_t best = fits_main_gap_locked(area, request) ? area->main_gap.first :
								     BERTH_GRANULE_NONE;

	for (unsigned bin = next_bin_locked(area, bin_of(request->nr)); bin < BERTH_GCMA_BINS;
	     bin = next_bin_locked(area, bin + 1)) {
		for (berth_granule_t at = area->bins[bin]; at != BERTH_GRANULE_NONE;
		     at = area->extents[at].u.gap.next)
			if (at < best &&
			    berth__gap_fit(area, request, at, at + area->extents[at].nr) !=
				    BERTH_GRANULE_NONE)
				best = at;
	}
	return best;
}

berth_granule_t berth__gap_find_locked(const struct berth_gcma *area,
				       const struct berth_gcma_request *request)
{
	const berth_granule_t main_nr = area->main_gap.nr;
	berth_granule_t found = BERTH_GRANULE_NONE;
	unsigned last = BERTH_GCMA_BINS - 1;
	bool fits_main;

	if (request->first_fit)
		return lowest_locked(area, request);
	fits_main = fits_main_gap_locked(area, request);
	if (fits_main)
		last = bin_of(main_nr);
	for (unsigned bin = next_bin_locked(area, bin_of(request->nr));
	     bin <= last && found == BERTH_GRANULE_NONE; bin = next_bin_locked(area, bin + 1))
		found = smallest_in_bin_locked(area, request, bin);
	if (fits_main && (found == BERTH_GRANULE_NONE || area->extents[found].nr > main_nr))
		found = area->main_gap.first;
	return found;
}

berth_granule_t berth__gap_longest_locked(const struct berth_gcma *area)
{
	berth_granule_t longest = area->main_gap.nr;

	for (unsigned word = BERTH_GCMA_BIN_WORDS; word-- > 0;) {
		unsigned bin;

		if (!area->nonempty[word])
			continue;
		bin = word * 64 + 63 - (unsigned)__builtin_clzll(area->nonempty[word]);
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

/* G. */
static void make_claim_locked(struct berth_gcma *area, berth_granule_t first,
			      const struct berth_gcma_request *request)
{
	struct berth_extent *claim = &area->extents[first];

	atomic_store_explicit(&claim->what,
			      berth__extent_what(BERTH_EXTENT_CLAIMING, request->nr_pages),
			      memory_order_relaxed);
	claim->nr = request->nr;
	claim->gap_before = 0;
	claim->u.note = 0;
	area->starts[first / 64] |= 1ull << first % 64;
	area->nr_claimed += request->nr;
	area->nr_claims++;
}

/* Where a single run in the gap leaves one remainder: at its start or at its end, if it can be there. */
static berth_granule_t place(const struct berth_gcma *area,
			     const struct berth_gcma_request *request, berth_granule_t first,
			     berth_granule_t end)
{
	berth_granule_t lowest = berth__gap_fit(area, request, first, end);
	berth_pfn_t last = berth__granule_pfn(area, end - request->nr);

	if (lowest != first && !request->first_fit && !(last & (request->align - 1)) &&
	    may_begin_at(request, last))
		return end - request->nr;
	return lowest;
}

unsigned berth__gap_take_locked(struct berth_gcma *area, berth_granule_t gap,
				const struct berth_gcma_request *request, unsigned most,
				berth_pfn_t *pfns)
{
	berth_granule_t at = gap, end = gap + nr_locked(area, gap);
	berth_granule_t run = most == 1 ? place(area, request, at, end) :
					  berth__gap_fit(area, request, at, end);
	unsigned taken = 0;

	remove_locked(area, gap);
	while (taken < most && run != BERTH_GRANULE_NONE) {
		make_claim_locked(area, run, request);
		if (run > at)
			insert_locked(area, at, run - at);
		pfns[taken++] = berth__granule_pfn(area, run);
		at = run + request->nr;
		run = berth__gap_fit(area, request, at, end);
	}
	if (at < end)
		insert_locked(area, at, end - at);
	else
		area->extents[end].gap_before = 0;
	return taken;
}

void berth__gap_give_locked(struct berth_gcma *area, berth_granule_t first)
{
	berth_granule_t nr = area->extents[first].nr, end = first + nr;
	berth_granule_t before = gap_before_locked(area, first);

	area->starts[first / 64] &= ~(1ull << first % 64);
	area->nr_claimed -= nr;
	area->nr_claims--;
	if (before) {
		remove_locked(area, first - before);
		first -= before;
	}
	if (end < area->nr_granules && is_gap_locked(area, end)) {
		berth_granule_t behind = nr_locked(area, end);

		remove_locked(area, end);
		end += behind;
	}
	insert_locked(area, first, end - first);
}

berth_granule_t berth__gap_next_claim_locked(const struct berth_gcma *area, berth_granule_t granule,
					     berth_granule_t end)
{
	for (uint64_t word = granule / 64; word * 64 < end; word++) {
		uint64_t bits = area->starts[word];

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
		     area->nonempty[bin / 64] >> bin % 64 & 1, 1) &&
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

	for (unsigned bin = next_bin_locked(area, 0); bin < BERTH_GCMA_BINS;
	     bin = next_bin_locked(area, bin + 1))
		for (berth_granule_t at = area->bins[bin];
		     at != BERTH_GRANULE_NONE && listed <= nr_gaps;
		     at = area->extents[at].u.gap.next, listed++)
			if (!equal(violation, "gcma.I3 bin of the gap at granule", at,
				   bin_of(area->extents[at].nr), bin))
				return false;
	return equal(violation, "gcma.I3 gaps in bins", 0, listed, nr_gaps);
}

/* One extent of `nr` granules; `in_front`: of the gap in front of it. */
static bool check_extent(const struct berth_gcma *area, berth_granule_t at, berth_granule_t nr,
			 berth_granule_t in_front, struct berth_violation *violation)
{
	const struct berth_extent *extent = &area->extents[at];
	bool main = berth__is_main_gap(area, at), gap = is_gap_locked(area, at);

	if (!equal(violation, "gcma.I1 size of the extent at granule", at,
		   nr && nr <= area->nr_granules - at, true) ||
	    !equal(violation, "gcma.I1 gaps touch at granule", at, gap && in_front, false) ||
	    !equal(violation, "gcma.I2 gap_before of granule", at,
		   gap ? in_front : gap_before_locked(area, at), in_front) ||
	    !equal(violation, "gcma.I4 start at granule", at, area->starts[at / 64] >> at % 64 & 1,
		   !gap) ||
	    !equal(violation, "gcma.I4 start inside the extent at granule", at,
		   berth__gap_next_claim_locked(area, at + 1, at + nr), at + nr) ||
	    (gap && !main && !check_in_bin(area, at, violation)))
		return false;
	for (berth_granule_t inside = main ? 0 : 1; inside < nr; inside++)
		if (!equal(violation, "gcma.I4 a claim inside the extent at granule", at,
			   berth__extent_kind(extent + inside) == BERTH_EXTENT_CLAIMED, false))
			return false;
	return true;
}

bool berth__gaps_check(const struct berth_gcma *area, struct berth_violation *violation)
{
	uint64_t nr_in_bins = 0, nr_main = 0;
	berth_granule_t at = 0, in_front = 0;

	while (at < area->nr_granules) {
		berth_granule_t nr = nr_locked(area, at);
		bool gap = is_gap_locked(area, at), main = berth__is_main_gap(area, at);

		if (!check_extent(area, at, nr, in_front, violation))
			return false;
		nr_in_bins += gap && !main;
		nr_main += main;
		in_front = gap ? nr : 0;
		at += nr;
	}
	return equal(violation, "gcma.I2 gap_before of the end", at, gap_before_locked(area, at),
		     in_front) &&
	       equal(violation, "gcma.I3 main gap of granules", area->main_gap.nr, nr_main,
		     area->main_gap.nr != 0) &&
	       check_bins(area, nr_in_bins, violation);
}
