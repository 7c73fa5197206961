/* SPDX-License-Identifier: MIT */
/*
 * The discardable store: pages by key, kept in memory that can be taken away at any moment. What is put
 * may be gone at the next get; what get returns is what was put last under that key, whole and never
 * stale. Readers take no lock.
 *
 * Copy tier: pages are copied into and out of the idle part of GCMA areas (<berth/gcma.h>); no pointer into
 * it escapes, so nobody can pin it, and a claim doesn't ask.
 * Lease tier: memory out of movable areas that its holder uses in place, and that is taken away unless
 * it is locked.
 *
 * Freestanding; the caller supplies all memory. Any function may be called by any CPU or thread at any
 * time, but for init and check; none from a signal or interrupt handler.
 */
#ifndef BERTH_STORE_H
#define BERTH_STORE_H

#include <berth/gcma.h>

#ifdef __cplusplus
extern "C" {
#endif

struct berth_store;

/* 128 bits: which page of which group (a file, a database, a table). */
struct berth_store_key {
	uint64_t group, item;
};

#define BERTH_STORE_MAX_AREAS 16u

struct berth_store_params {
	/* The areas, of which this store is the only borrower; 1 .. 16. */
	struct berth_gcma *const *areas;
	unsigned nr_areas;
	/* Frames are mapped here: pfn is at linear + (pfn - linear_pfn) * BERTH_PAGE_SIZE. */
	void *linear;
	berth_pfn_t linear_pfn;
	unsigned nr_shards; /* a power of two <= 256; 0: by the areas' size. Writers of different shards
			     * don't meet */
	uint64_t seed;      /* of the hash, so that keys can't be chosen to collide */
	const struct berth_port_ops *port;
	void *port_ctx;
};

/* Bytes of metadata (some 1.5 % of the areas), aligned to 64; 0 for parameters that init refuses. */
size_t berth_store_metadata_size(const struct berth_store_params *params);
/* Builds an empty store in `metadata`, aligned to 64; it lives as long as that and the areas. O(metadata). -EINVAL:
 * parameters, or the metadata is too small or not aligned; nothing is written then. */
int berth_store_init(struct berth_store **store, const struct berth_store_params *params,
		     void *metadata, size_t metadata_bytes) BERTH_MUST_CHECK;

/*
 * Keeps a copy of a page (BERTH_PAGE_SIZE bytes) under the key, in place of what was there. The data is
 * read before anything is changed, and must not be movable memory that is in motion for long.
 * 0; -ENOSPC: no frame to be had (all granules of all areas are claimed, or claims take them faster than one can be
 * filled, or the caller has no CPU slot); -EINVAL; -ESTALE: a store of before a fork. In case of an error
 * nothing is under the key any more: an older page would be stale. Takes a lock, briefly, and copies under it; doesn't
 * sleep for anything else.
 */
int berth_store_put(struct berth_store *store, const struct berth_store_key *key, const void *data);
/* Copies the page to `data` (BERTH_PAGE_SIZE bytes, anywhere). 0; -ENOENT: it isn't there (any more), and `data` is
 * undefined; -EINVAL: a NULL argument. Takes no lock, waits for nobody, needs no CPU slot. */
int berth_store_get(struct berth_store *store, const struct berth_store_key *key, void *data);
/* Forgets a page: a get that begins later misses. True: it was there. A lock, briefly. */
bool berth_store_drop(struct berth_store *store, const struct berth_store_key *key);
/* Forgets all pages of a group, and perhaps some of others; puts that are under way, too. O(1), no lock. */
void berth_store_drop_group(struct berth_store *store, uint64_t group);

struct berth_store_stats {
	uint64_t nr_pages;     /* frames of all areas */
	uint64_t open_pages;   /* of those, not claimed now; inexact */
	uint64_t stored_pages; /* holding a page that can be had; inexact */
	uint64_t hits, misses, puts, drops;
	/* Pages that a claim took, when that was found out; that made room; puts that answered -ENOSPC. */
	uint64_t lost_to_claims, evicted, refused;
	uint64_t retries; /* gets that met a change and looked again */
	uint64_t metadata_bytes;
};
/* Counters since init, which never go back; O(granules), each shard's lock for its part of them. */
void berth_store_stats(struct berth_store *store, struct berth_store_stats *stats);
/* Verifies every invariant, and says in *violation (may be NULL) which one is broken; read-only, at a quiescent point.
 * O(frames). */
bool berth_store_check(struct berth_store *store,
		       struct berth_violation *violation) BERTH_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
