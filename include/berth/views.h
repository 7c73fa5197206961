/* SPDX-License-Identifier: MIT */
/*
 * Looking at zones: as structures, and as the texts that tools for Linux read (/proc/buddyinfo,
 * pagetypeinfo, zoneinfo); and why an allocation failed.
 *
 * Texts are written into the caller's buffer as snprintf() does: at most `size` bytes with the
 * terminating 0, and the length that all of it has is returned. Safe at any time; each zone is looked
 * at under its lock, briefly.
 */
#ifndef BERTH_VIEWS_H
#define BERTH_VIEWS_H

#include <berth/nodes.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- A zone ----------------------------------------------------------------------------------- */

/* Of one moment, but for pcp_pages, which CPUs change meanwhile. */
struct berth_zone_view {
	const char *name; /* DMA, DMA32, Normal, HighMem, Movable; the zone's own if it's alone */
	unsigned node;
	enum berth_zone_kind kind;
	berth_pfn_t start_pfn;
	unsigned max_order, pageblock_order;
	uint64_t spanned_pages, present_pages, managed_pages;
	uint64_t free_pages; /* in buddy lists, but for what a claim isolates */
	uint64_t free_cma_pages, free_highatomic_pages; /* of those */
	uint64_t highatomic_pages, cma_pages;           /* belong to such pageblocks */
	uint64_t pcp_pages, claimed_pages;
	struct berth_lru_stats lru; /* as it is while the rest is looked at */
	struct berth_watermarks marks;
	uint64_t lowmem_reserve[BERTH_NR_ZONE_KINDS];
	uint32_t free_blocks[BERTH_NR_MIGRATETYPES][BERTH_MAX_ORDER_LIMIT + 1];
};
void berth_zone_view(struct berth_zone *zone, struct berth_zone_view *view);

/* Pageblocks of each type. Cost: O(pageblocks), under the lock a part at a time. */
void berth_zone_count_pageblocks(struct berth_zone *zone, uint64_t counts[BERTH_NR_MIGRATETYPES]);

/* ---- Who holds memory ------------------------------------------------------------------------- */

struct berth_owner_pages {
	unsigned owner;   /* BERTH_OWNER_NONE: allocated without an owner */
	const char *name; /* "nobody" then */
	uint64_t pages;   /* allocated, in cached frames none */
};
/*
 * The owners that hold most in a zone, or in all zones of the nodes, largest first; returns how many
 * of the `nr` are filled in. Exact if nobody allocates meanwhile. Cost: O(blocks) for each 64 owners;
 * the zone lock is held for one pageblock at a time.
 */
unsigned berth_zone_owners(struct berth_zone *zone, struct berth_owner_pages *top, unsigned nr);
unsigned berth_nodes_owners(struct berth_nodes *nodes, struct berth_owner_pages *top, unsigned nr);
/* Likewise who borrows most from an area. */
unsigned berth_cma_borrowers(struct berth_cma *area, struct berth_owner_pages *top, unsigned nr);

/* ---- Why an allocation failed ----------------------------------------------------------------- */

#define BERTH_FAILURE_ZONES 8u
#define BERTH_FAILURE_OWNERS 4u

enum berth_zone_verdict {
	BERTH_ZONE_BELOW_MARK, /* it would have less free than the mark and the reserve */
	BERTH_ZONE_NO_BLOCK,   /* enough is free, but no block of the order */
	BERTH_ZONE_TOO_SMALL,  /* its largest order is below the one asked for */
	BERTH_ZONE_CHANGED,    /* by now it could */
};

/* Filled in for -ENOMEM. About 9 KiB: on a small stack, keep one aside. */
struct berth_alloc_failure {
	unsigned node, order, gfp, owner;
	enum berth_zone_kind highest;
	/* What was tried. */
	unsigned reclaims, ooms, waits;
	uint64_t reclaimed_pages;
	/* The zones that could have served, in the order of trying; at most so many are shown. */
	unsigned nr_zones, nr_shown;
	enum berth_zone_verdict verdict[BERTH_FAILURE_ZONES];
	struct berth_zone_view zones[BERTH_FAILURE_ZONES];
	/* By berth_alloc_failure_owners() only. */
	unsigned nr_owners;
	struct berth_owner_pages owners[BERTH_FAILURE_OWNERS];
};

struct berth_alloc_request {
	unsigned node, order, gfp, owner;
	uint64_t cookie;
};
/* berth_node_alloc(), and says in *failure (may be NULL) what stood in the way of -ENOMEM. */
int berth_alloc(struct berth_nodes *nodes, const struct berth_alloc_request *request,
		berth_pfn_t *pfn, struct berth_alloc_failure *failure) BERTH_MUST_CHECK;
/* Adds who holds most: berth_nodes_owners(). */
void berth_alloc_failure_owners(struct berth_nodes *nodes, struct berth_alloc_failure *failure);

/* ---- Texts ------------------------------------------------------------------------------------ */

/* One line a zone: free blocks by order. */
size_t berth_buddyinfo(const struct berth_nodes *nodes, char *text, size_t size);
/* Free blocks by type and order, pageblocks by type. O(pageblocks). */
size_t berth_pagetypeinfo(const struct berth_nodes *nodes, char *text, size_t size);
/* Marks, sizes, protection, counters, per-CPU lists. */
size_t berth_zoneinfo(const struct berth_nodes *nodes, char *text, size_t size);
/* "name number" lines of /proc/vmstat: the events of <berth/stats.h> of all zones, and what is free. */
size_t berth_vmstat(const struct berth_nodes *nodes, char *text, size_t size);
/* The report in the words of Linux' page allocation failures. */
size_t berth_alloc_failure_text(const struct berth_alloc_failure *failure, char *text, size_t size);

#ifdef __cplusplus
}
#endif
#endif
