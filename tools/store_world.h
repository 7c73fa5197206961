/* SPDX-License-Identifier: MIT */
/*
 * A store over one GCMA area in memory like a pool's, for the benchmarks; and checking one while everything
 * that can happen to it happens at once.
 */
#ifndef BERTH_TOOLS_STORE_WORLD_H
#define BERTH_TOOLS_STORE_WORLD_H

#include <stdatomic.h>

#include <berth/store.h>

#include "port/linux/pool.h"

struct berth__store_world {
	struct berth_memory memory;
	struct berth_gcma *area;
	struct berth_store *store;
	void *area_metadata, *metadata;
	size_t area_metadata_bytes, metadata_bytes;
	uint64_t nr_pages;
};

/* Resident. nr_shards 0: by size. 0 or a negative error; then nothing is left. */
int berth__store_world_open(struct berth__store_world *world, uint64_t nr_pages,
			    unsigned nr_shards);
void berth__store_world_close(struct berth__store_world *world);

struct berth__store_verify {
	/* What to do */
	uint64_t nr_pages; /* of the area */
	uint64_t nr_gets;  /* altogether; the run ends with them */
	unsigned nr_readers, nr_writers, nr_claimers;
	uint64_t seed;
	bool (*interrupted)(void);                       /* may be NULL */
	void (*progress)(uint64_t done, uint64_t total); /* likewise */
	/* What happened */
	uint64_t gets, hits, puts, overwrites, refused, drops, group_drops, claims;
	struct berth_store_stats stats;
	char problem[160]; /* empty: none */
};

/*
 * Readers verify every byte of each page that they get, and that it isn't older than the last put, drop or group
 * drop under its key that had ended when the get began; claimers write all over their claims and find them as
 * they left them. False: there is a problem, or there was no memory.
 */
bool berth__store_verify(struct berth__store_verify *verify);

#endif
