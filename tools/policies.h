/* SPDX-License-Identifier: MIT */
/*
 * Traces of keys, and what simple models of caches make of them: LRU, and S3-FIFO as its authors describe
 * it, over all keys at once and with a ghost queue of exact keys. The yardstick for the store.
 */
#ifndef BERTH_TOOLS_POLICIES_H
#define BERTH_TOOLS_POLICIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum berth__trace_kind {
	BERTH__TRACE_ZIPF_09, /* independent uses, the n-th key with probability ~ n^-0.9 */
	BERTH__TRACE_ZIPF_10,
	BERTH__TRACE_ZIPF_12,
	BERTH__TRACE_SCANS, /* Zipf 1.0, and now and then a scan over keys that nobody uses again */
	BERTH__TRACE_LOOP, /* a loop over slightly more keys than the cache holds, again and again */
	BERTH__TRACE_LONG_LOOP, /* over twice as many */
	BERTH__NR_TRACES
};
extern const char *const berth__trace_names[BERTH__NR_TRACES];

struct berth__trace {
	uint32_t *keys; /* below nr_keys */
	size_t nr;
	uint32_t nr_keys;
};

/* For a cache of `capacity` pages. False: no memory. */
bool berth__trace_make(struct berth__trace *trace, enum berth__trace_kind kind, uint32_t capacity,
		       size_t nr, uint64_t seed);
void berth__trace_free(struct berth__trace *trace);

/* The share of uses that hit; below 0: no memory. A miss brings the page in. */
double berth__lru_hit_rate(const struct berth__trace *trace, uint32_t capacity);
double berth__s3fifo_hit_rate(const struct berth__trace *trace, uint32_t capacity);

#endif
