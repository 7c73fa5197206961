/* SPDX-License-Identifier: MIT */
/*
 * A GCMA area inside: gcma.c makes and releases claims, gcma_gaps.c knows where there is room. Private to
 * the core.
 *
 * Granules are counted from the area's start. Claims and the gaps between them are *extents*; they tile the
 * area, and no two gaps touch.
 *
 *	c	constant after init
 *	G	area->lock
 *	a	atomic; the comment says by whom it is written
 *	o	of a claim: by whose it is
 */
#ifndef BERTH_CORE_GCMA_H
#define BERTH_CORE_GCMA_H

#include "core/alloc/claims.h"
#include "core/alloc/gcma_fast.h"

typedef uint32_t berth_granule_t; /* a granule's number; never a pfn */
#define BERTH_GRANULE_NONE UINT32_MAX

enum berth_extent_kind {
	BERTH_EXTENT_NONE, /* nothing begins here, or the main gap */
	BERTH_EXTENT_GAP,
	BERTH_EXTENT_CLAIMING, /* its fillers are waited for */
	BERTH_EXTENT_CLAIMED,
	BERTH_EXTENT_RELEASING, /* its granules are being opened */
};

/* One for each granule; valid for the first of an extent, unless that is the main gap. Of all others only this is known:
 * they are neither CLAIMED nor a GAP. */
struct berth_extent {
	berth_granule_t nr; /* G, o: granules */
	berth_granule_t
		gap_first; /* G: of the last granule of a gap in a bin: its first. Else garbage */
	/* a, enum berth_extent_kind in bits 0-2, pages of a claim from bit 3 on: to and from GAP under G; of a claim by
	 * whose it is, but for CLAIMED -> RELEASING, by who is the first to release it. One word, so that he can't
	 * take another claim than he has looked at. */
	_Atomic uint64_t what;
	union {
		uint64_t note; /* G, o: of a claim */
		struct {
			berth_granule_t next, prev; /* G: gaps in its bin */
		} gap;
	} u;
};

/*
 * Bins of gaps by size: one for each size below 64 granules, then eight for each power of two. A search
 * begins with the bin of its size; the bitmap names the next that isn't empty.
 *
 * The *main gap* is in no bin, and its first granule's extent doesn't know of it: where and how long it is stands in one
 * word. A gap longer than it takes its place, so it is what most claims are cut off: by a compare-and-swap, without the
 * lock. All that two claimers hand to each other then is that word's line. It grows, and becomes another gap, under
 * the lock only: so whoever holds that may only find it shorter than before.
 */
#define BERTH_GCMA_EXACT 64u
#define BERTH_GCMA_BINS (BERTH_GCMA_EXACT + 26u * 8u)
#define BERTH_GCMA_BIN_WORDS ((BERTH_GCMA_BINS + 63u) / 64u)

/* What all claims count, in a line of the CPU, so that two claimers share none. The sums count. */
struct berth_gcma_tally {
	_Alignas(64) _Atomic uint64_t claims_ok, claims_failed, releases; /* a */
	_Atomic uint64_t openings; /* a: after granules were opened */
	/* a: granules. Who reads the sum of those given first doesn't find more of them than were taken. */
	_Atomic uint64_t taken, given;
};
#define BERTH_GCMA_TALLIES 4u

struct berth_gcma {
	struct berth_gcma_hot hot;
	const char *name;                  /* c */
	const struct berth_port_ops *port; /* c */
	void *port_ctx;                    /* c */
	uint64_t nr_pages;                 /* c */
	berth_granule_t nr_granules;       /* c */
	struct berth_extent *extents;      /* c: nr_granules */
	_Atomic uint64_t *
		starts; /* c; each a, by a claim's maker, and under G: bit g: a claim begins at g */
	_Atomic(const struct berth_claim_events *) events; /* a */

	/* The line of what a claim needs that is cut off the main gap. */
	_Alignas(64) _Atomic uint64_t main_gap;          /* a: berth__main_gap_word(), see above */
	_Atomic uint64_t nonempty[BERTH_GCMA_BIN_WORDS]; /* a, under G: bit b: bin b has gaps */

	_Alignas(64) berth_lock_t lock;
	berth_granule_t bins[BERTH_GCMA_BINS]; /* G: first gap; valid where `nonempty` says so */
	struct berth_names names;              /* G */
	uint64_t nr_named;                     /* G: claims with a name */
	struct berth_gcma_tally tallies[BERTH_GCMA_TALLIES];
	/* a: by claimers that waited */
	_Alignas(64) _Atomic uint64_t filler_waits, filler_wait_ns, longest_wait_ns;
};

#define BERTH_GCMA_ASSERT(area, cond, value, expected)                                    \
	do {                                                                              \
		if (BERTH_UNLIKELY(!(cond)))                                              \
			berth__gcma_panic((area), __FILE__ ": " #cond, (uint64_t)(value), \
					  (uint64_t)(expected));                          \
	} while (0)
_Noreturn void berth__gcma_panic(const struct berth_gcma *area, const char *what, uint64_t value,
				 uint64_t expected);

static inline uint64_t berth__extent_what(enum berth_extent_kind kind, uint64_t nr_pages)
{
	return (uint64_t)kind | nr_pages << 3;
}

static inline enum berth_extent_kind berth__extent_kind(const struct berth_extent *extent)
{
	return (enum berth_extent_kind)(atomic_load_explicit(&extent->what, memory_order_relaxed) &
					7u);
}

static inline uint64_t berth__extent_pages(const struct berth_extent *extent)
{
	return atomic_load_explicit(&extent->what, memory_order_relaxed) >> 3;
}

/* A gap, or none: nr 0. */
struct berth_gap {
	berth_granule_t first, nr;
};

static inline uint64_t berth__main_gap_word(berth_granule_t first, berth_granule_t nr)
{
	return first | (uint64_t)nr << 32;
}

static inline struct berth_gap berth__main_gap_of(uint64_t word)
{
	return (struct berth_gap){ (berth_granule_t)word, (berth_granule_t)(word >> 32) };
}

/* As it is now. */
static inline struct berth_gap berth__main_gap(const struct berth_gcma *area)
{
	return berth__main_gap_of(atomic_load_explicit(&area->main_gap, memory_order_relaxed));
}

static inline berth_pfn_t berth__granule_pfn(const struct berth_gcma *area, berth_granule_t granule)
{
	return area->hot.start_pfn + ((uint64_t)granule << area->hot.granule_order);
}

/* ---- gcma_gaps.c ------------------------------------------------------------------------------- */

/* What a claim needs, in frames. */
struct berth_gcma_request {
	uint64_t nr_pages;            /* asked for */
	uint64_t run_pages;           /* whole granules */
	berth_granule_t nr;           /* likewise */
	berth_pfn_t align, boundary;  /* powers of two; boundary 0: none */
	berth_pfn_t min_pfn, max_pfn; /* of the frames that are asked for */
	bool first_fit;
};

/* The whole area becomes one gap. */
void berth__gaps_init(struct berth_gcma *area);
/* The lowest granule in [first, end) at which the request can begin, or NONE. */
berth_granule_t berth__gap_fit(const struct berth_gcma *area,
			       const struct berth_gcma_request *request, berth_granule_t first,
			       berth_granule_t end);
/*
 * Claims a run off the start of the main gap, without the lock. It is CLAIMING, with that note. False: somewhere else
 * is a better place, or the only one; then nothing has happened.
 */
bool berth__gap_cut(struct berth_gcma *area, const struct berth_gcma_request *request,
		    uint64_t note, berth_pfn_t *pfn);
/* The smallest gap (or with first_fit the lowest) that the request fits into; nr 0: none. G. */
struct berth_gap berth__gap_find_locked(const struct berth_gcma *area,
					const struct berth_gcma_request *request);
/*
 * Claims up to `most` runs out of the gap, one behind the other, and adds them to pfns[]; returns how many. A
 * single one is put where it leaves one remainder, if it can be. They are CLAIMING, with note and name 0. 0: it was the
 * main gap, and somebody has cut it meanwhile. G.
 */
unsigned berth__gap_take_locked(struct berth_gcma *area, struct berth_gap gap,
				const struct berth_gcma_request *request, unsigned most,
				berth_pfn_t *pfns);
/* The claim becomes free memory; its granules are open. G. */
void berth__gap_give_locked(struct berth_gcma *area, berth_granule_t first);
/* Granules of the longest gap. G. O(gaps of the last bin). */
berth_granule_t berth__gap_longest_locked(const struct berth_gcma *area);
/* The first claim that begins in [granule, end), or `end`. G. */
berth_granule_t berth__gap_next_claim_locked(const struct berth_gcma *area, berth_granule_t granule,
					     berth_granule_t end);
/* Extents, bins and their bitmaps. */
bool berth__gaps_check(const struct berth_gcma *area, struct berth_violation *violation);

#endif
