/* SPDX-License-Identifier: MIT */
/*
 * Claims that are held: whose they are and since when; and events of making and releasing them.
 *
 * A claim carries the name that it was made with (struct berth_claim_params). Names are kept in the
 * zone's metadata, each once, however many claims have it; the rest stands in the claim's own first
 * frame, so there can be any number of claims. Freestanding.
 */
#ifndef BERTH_CLAIMS_H
#define BERTH_CLAIMS_H

#include <berth/core.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BERTH_CLAIM_NAME_BYTES 32u /* with the final zero; a longer name is cut off */

/* A claim that is held. */
struct berth_claim_info {
	berth_pfn_t pfn;
	uint64_t nr_pages;
	uint64_t age_ns;  /* since it was made; exact to 66 us */
	const char *area; /* NULL: a range, by berth_alloc_contig_range() */
	/* Empty: it was made without, or while the zone's table was full of others. */
	char name[BERTH_CLAIM_NAME_BYTES];
};

/*
 * The first claim that begins at *pfn or behind; *pfn is moved to its end, for the next call. False:
 * there is none. What is claimed and released meanwhile may be seen or not. Takes the zone lock for
 * one pageblock at a time. Cost: O(blocks) of pageblocks with claims, O(1) for others.
 *
 *	for (berth_pfn_t pfn = 0; berth_claim_next(zone, &pfn, &claim);)
 */
bool berth_claim_next(struct berth_zone *zone, berth_pfn_t *pfn, struct berth_claim_info *claim);

/*
 * What is called when areas are claimed from: the trace events cma_alloc_start, cma_alloc_busy_retry,
 * cma_alloc_finish and cma_release of Linux, with their fields. `name` is the area's, `count` in
 * pages, `align` the order that pfn is aligned to, errorno 0 or a negative error; pfn is that of the
 * range tried, or BERTH_PFN_NONE. Claims in bulk start and finish together, with the first one's pfn
 * and the pages of those that there are. Functions may be NULL. They are called without a zone's lock, by
 * whoever claims, perhaps by several at a time, and must not call the core.
 */
struct berth_claim_events {
	void *ctx;
	void (*alloc_start)(void *ctx, const char *name, uint64_t count, unsigned align);
	void (*alloc_busy_retry)(void *ctx, const char *name, berth_pfn_t pfn, uint64_t count,
				 unsigned align);
	void (*alloc_finish)(void *ctx, const char *name, berth_pfn_t pfn, uint64_t count,
			     unsigned align, int errorno);
	void (*release)(void *ctx, const char *name, berth_pfn_t pfn, uint64_t count);
};
/*
 * Sets or, with NULL, ends the events of a zone, at any time. The structure isn't copied: it stays
 * until every call that was under way when it was replaced has returned. Without events a claim pays
 * for one load and a branch that isn't taken, each.
 */
void berth_zone_set_claim_events(struct berth_zone *zone, const struct berth_claim_events *events);

#ifdef __cplusplus
}
#endif
#endif
