/* SPDX-License-Identifier: MIT */
/*
 * GCMA areas: contiguous memory whose idle part is lent only to what can be dropped without asking
 * anybody. So a claim always succeeds when a fitting run isn't claimed already, and what it costs
 * doesn't depend on what is lent: it closes the run, and whoever keeps data there finds out by himself.
 *
 * The frames of an area are in no zone's lists. They are lent by *granules*, aligned runs of
 * 2^granule_order frames. Each has a generation, which no other claim's time ever had: it is even while the
 * granule is open (lent) and odd while it is closed (claimed). Data that was stored under one generation is there
 * exactly as long as the generation is the same.
 *
 * Borrowers (a store, <berth/store.h>) follow a protocol:
 *
 *	reader: remembers the generation that the data was stored under, copies the data out, and believes
 *	        the copy only if berth_gcma_still() answers true behind it. It is never waited for.
 *	filler: berth_gcma_fill_begin() with the generation it knows; false: the granule is closed or
 *	        another generation's. Then it writes, publishes and calls berth_gcma_fill_end(). Its source
 *	        must not fault meanwhile: it is waited for.
 *
 * The claimer closes the granules by plain stores, passes one full fence, and waits for fillers that
 * were inside already.
 *
 * Freestanding; the caller supplies all memory. Functions may be called by any CPU or thread at any
 * time, but for init and check; none from a signal or interrupt handler. No lock is shared between
 * claims and borrowers.
 */
#ifndef BERTH_GCMA_H
#define BERTH_GCMA_H

#include <berth/claims.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BERTH_GCMA_GRANULE_ORDER 4u /* default: 64 KiB */
#define BERTH_GCMA_MAX_GRANULE_ORDER 9u

struct berth_gcma;

struct berth_gcma_params {
	const char *name; /* lives as long as the area */
	berth_pfn_t start_pfn;
	uint64_t nr_pages; /* start_pfn and nr_pages are multiples of a granule; < 2^32 pages */
	unsigned granule_order;   /* 0 .. 9 */
	unsigned nr_cpus;         /* CPU slots (berth_cpu()) that can fill; others are refused */
	unsigned max_claim_names; /* as in berth_zone_params; 0 means 32 */
	const struct berth_port_ops *port;
	void *port_ctx;
};

/* Bytes of metadata, aligned to 64; 0 for parameters that berth_gcma_init() refuses. */
size_t berth_gcma_metadata_size(const struct berth_gcma_params *params);
/* Builds an area in `metadata`, aligned to 64; all of it is open. It lives as long as the metadata. O(granules). -EINVAL:
 * parameters, or the metadata is too small or not aligned; nothing is written through *area. */
int berth_gcma_init(struct berth_gcma **area, const struct berth_gcma_params *params,
		    void *metadata, size_t metadata_bytes) BERTH_MUST_CHECK;

/* ---- Claims ----------------------------------------------------------------------------------- */

/*
 * Claims a run of params->nr_pages frames, rounded up to granules; alignment (an order up to
 * BERTH_MAX_ORDER_LIMIT), limits and boundary as berth_cma_alloc(), of the frames asked for. The smallest gap
 * between claims that it fits into is taken, with BERTH_CLAIM_FIRST_FIT the lowest. Succeeds whenever such a gap
 * exists, whatever is lent. When it returns, nobody writes to the run any more, and a barrier fit for devices
 * has been passed.
 *
 * Of the flags only FIRST_FIT means something here: nothing is moved and nobody holds anything. A
 * deadline bounds the wait for fillers; without one it lasts as long as it takes them (see ARCHITECTURE.md for
 * what that can be).
 * 0; -EINVAL; -E2BIG: can never fit; -ENOSPC: claims in place leave no such gap; -EAGAIN: the deadline
 * passed while a filler was inside. In case of an error nothing is claimed, and nothing that was lent is lost;
 * the report (may be NULL) says why.
 */
int berth_gcma_alloc(struct berth_gcma *area, const struct berth_claim_params *params,
		     berth_pfn_t *pfn, struct berth_claim_report *report) BERTH_MUST_CHECK;
/* Gives a claim back: its granules are open again, each with a generation that it never had. -EINVAL: not a
 * claim, or only a part of one, or released already; unchanged. O(granules); the area's lock, briefly; waits for
 * nobody. */
int berth_gcma_release(struct berth_gcma *area, berth_pfn_t pfn,
		       uint64_t nr_pages) BERTH_MUST_CHECK;

/*
 * As berth_cma_alloc_bulk() and berth_cma_release_bulk(): nr (1 .. 2^31 - 1) claims of params->nr_pages each, in the smallest
 * gaps first, as many in each as can lie there. All or none, or with BERTH_BULK_AS_MANY_AS_POSSIBLE fewer; returns
 * how many, or an error as berth_gcma_alloc(): then there are none. One fence and one wait for all of them.
 */
int berth_gcma_alloc_bulk(struct berth_gcma *area, const struct berth_claim_params *params,
			  unsigned nr, berth_pfn_t *pfns, unsigned flags,
			  struct berth_claim_report *report) BERTH_MUST_CHECK;
int berth_gcma_release_bulk(struct berth_gcma *area, const berth_pfn_t *pfns, unsigned nr,
			    uint64_t nr_pages) BERTH_MUST_CHECK;

/* As berth_zone_set_claim_events(), for the area's claims. */
void berth_gcma_set_claim_events(struct berth_gcma *area, const struct berth_claim_events *events);
/* As berth_claim_next(), for the area's claims. */
bool berth_gcma_claim_next(struct berth_gcma *area, berth_pfn_t *pfn,
			   struct berth_claim_info *claim);

struct berth_gcma_stats {
	const char *name;
	berth_pfn_t start_pfn;
	uint64_t nr_pages, claimed_pages; /* claimed: whole granules */
	uint64_t largest_free_pages;      /* the longest run that isn't claimed */
	uint64_t claims_ok, claims_failed, releases;
	uint64_t filler_waits;    /* claims that waited for a filler, */
	uint64_t filler_wait_ns;  /* how long altogether, */
	uint64_t longest_wait_ns; /* and at most */
	unsigned granule_order;
};
/* Pages and claims are of one moment, waits of about the same; the area's lock, and a look at each gap of the largest
 * size class. */
void berth_gcma_stats(struct berth_gcma *area, struct berth_gcma_stats *stats);
/* Verifies every invariant, and says in *violation (may be NULL) which one is broken; read-only, at a quiescent point.
 * O(granules). */
bool berth_gcma_check(struct berth_gcma *area, struct berth_violation *violation) BERTH_MUST_CHECK;

/* ---- For borrowers ---------------------------------------------------------------------------- */

/* A granule's number in its area; the area's first one is 0. */
static inline bool berth_gcma_open(uint64_t generation)
{
	return !(generation & 1);
}
uint64_t berth_gcma_nr_granules(const struct berth_gcma *area);
/* First frame of the area, and log2 of a granule in frames. */
berth_pfn_t berth_gcma_start_pfn(const struct berth_gcma *area);
unsigned berth_gcma_granule_order(const struct berth_gcma *area);
/* The generation now; acquire. */
uint64_t berth_gcma_generation(const struct berth_gcma *area, uint64_t granule);
/* Grows with every release, and with a claim that gives up: when it has changed, granules have opened. Inexact
 * while they do. */
uint64_t berth_gcma_openings(const struct berth_gcma *area);
/*
 * True: what was read from the granule before this call was stored under `generation`, which is open.
 * An acquire fence stands in it, in front of the look.
 */
bool berth_gcma_still(const struct berth_gcma *area, uint64_t granule, uint64_t generation);
/*
 * Begins to fill. True: until berth_gcma_fill_end() the caller may write to the granule's frames; no claim
 * of it completes meanwhile. Preemption is disabled in between, where the port can. Doesn't nest.
 */
bool berth_gcma_fill_begin(struct berth_gcma *area, uint64_t granule, uint64_t generation);
void berth_gcma_fill_end(struct berth_gcma *area);
/*
 * Fills by a copy: begins, copies `bytes` to `to`, which are in the granule's frames, and ends. False: refused,
 * or closed meanwhile; what was copied then is lost. Where the port can, a claim takes the copy away from a
 * filler that was preempted inside, instead of waiting for him; so this is to be preferred. The source may
 * fault, but then nothing is taken away.
 */
bool berth_gcma_fill(struct berth_gcma *area, uint64_t granule, uint64_t generation, void *to,
		     const void *from, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
