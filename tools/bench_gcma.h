/* SPDX-License-Identifier: MIT */
/*
 * `berth bench claim --area-kind gcma|reserve`: claims out of areas whose memory needn't be moved.
 */
#ifndef BERTH_TOOLS_BENCH_GCMA_H
#define BERTH_TOOLS_BENCH_GCMA_H

#include <stdbool.h>
#include <stdint.h>

struct berth__gcma_bench {
	const char *command; /* for complaints */
	uint64_t size, area, count, writers, seed;
	bool lends; /* the area is of kind gcma, else it is reserved */
	bool full; /* claims out of an area full of discardable pages, and as many out of an empty one */
	bool verify, json;
};

/* An exit code. */
int berth__bench_gcma(const struct berth__gcma_bench *config);

#endif
