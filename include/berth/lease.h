/* SPDX-License-Identifier: MIT */
/*
 * Leases: discardable memory that its holder uses in place, without copying.
 *
 * A lease is a run of frames out of a zone's movable memory, CMA areas above all. To use it one locks it:
 * locked memory stays where it is, as if it were pinned, and a claim goes elsewhere or is refused, naming the
 * lease. What isn't locked may be taken at any time, by claims and by reclaim; then the next lock says that the
 * lease is lost, and what it held has to be made anew. Locked memory is limited, so that claims
 * find something to take.
 *
 * Freestanding; the caller supplies all memory. Functions may be called by any CPU or thread at any
 * time, but for init and check, and may sleep; none from an owner's operations, nor from a signal or interrupt
 * handler.
 */
#ifndef BERTH_LEASE_H
#define BERTH_LEASE_H

#include <berth/core.h>

#ifdef __cplusplus
extern "C" {
#endif

struct berth_leases;

#define BERTH_LEASE_MAX_PAGES 512u
#define BERTH_LEASE_NAME_BYTES 32u /* with the final zero */

struct berth_lease_params {
	struct berth_zone *zone;   /* with LRU lists (berth_zone_params.lru) */
	const char *name;          /* of all this, as an owner; lives as long as the zone */
	unsigned max_leases;       /* 1 .. 2^20 */
	uint64_t max_locked_pages; /* of all leases together */
	/* Frames are mapped here, as for a store; for compaction, which moves whole leases that aren't locked.
	 * NULL: they aren't moved. */
	void *linear;
	berth_pfn_t linear_pfn;
	const struct berth_port_ops *port;
	void *port_ctx;
};

/* Bytes of metadata, aligned to 64; 0 for parameters that init refuses. */
size_t berth_leases_metadata_size(const struct berth_lease_params *params);
/* Registers an owner in the zone, for good: the metadata lives as long as that. -EINVAL: parameters, or the zone has no LRU
 * lists; -ENOSPC: too many owners. Nothing is written through *leases then. */
int berth_leases_init(struct berth_leases **leases, const struct berth_lease_params *params,
		      void *metadata, size_t metadata_bytes) BERTH_MUST_CHECK;

/* A lease; 0 is none. */
typedef uint64_t berth_lease_t;

/*
 * A new lease of nr_pages frames (1 .. 512) that are contiguous and hold anything. It isn't locked. `name` (NULL: none)
 * is copied, up to 31 bytes of it; claims that fail because the lease is locked report it, by a pointer to the copy,
 * which is the lease's until it is freed and another one's after that. -EINVAL; -ENOSPC: max_leases are in use; -ENOMEM:
 * no such run is free. Nothing changes then. Cost: an allocation, O(pages).
 */
int berth_lease_create(struct berth_leases *leases, uint64_t nr_pages, const char *name,
		       berth_lease_t *lease) BERTH_MUST_CHECK;
/*
 * Locks a lease, perhaps once more: until the matching unlock its frames, from *pfn on, are the caller's, and hold
 * what they held at the last unlock. -ENOENT: lost, and so it stays: free it. -ENOSPC: too much is locked.
 * -EBUSY: it is being moved, or split, at this moment. -EINVAL: no such lease. Cost: O(pages), the first lock.
 */
int berth_lease_lock(struct berth_leases *leases, berth_lease_t lease,
		     berth_pfn_t *pfn) BERTH_MUST_CHECK;
/* Takes one lock away; with the last one the lease can be taken again. -EINVAL: no such lease, or it isn't locked;
 * unchanged. O(pages), the last one. */
int berth_lease_unlock(struct berth_leases *leases, berth_lease_t lease) BERTH_MUST_CHECK;
/* Gives a lease back, lost or not; its handle is nobody's from then on. -EBUSY: it's locked; -EINVAL: no such lease;
 * unchanged. O(pages). */
int berth_lease_free(struct berth_leases *leases, berth_lease_t lease) BERTH_MUST_CHECK;

/* How many pages it has, or had before it was lost; 0: no such lease. O(1). */
uint64_t berth_lease_pages(struct berth_leases *leases, berth_lease_t lease);

struct berth_lease_stats {
	uint64_t nr_leases, nr_lost_now; /* now; lost ones among them */
	uint64_t leased_pages, locked_pages, max_locked_pages;
	uint64_t locks, lost,
		refused; /* lost: leases that were taken; refused: locks beyond the limit */
	uint64_t moved;  /* leases, by compaction */
};
/* All of one moment. O(1). */
void berth_lease_stats(struct berth_leases *leases, struct berth_lease_stats *stats);
/* Verifies every invariant, and says which one is broken; read-only, at a quiescent point. O(leases). */
bool berth_leases_check(struct berth_leases *leases,
			struct berth_violation *violation) BERTH_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
