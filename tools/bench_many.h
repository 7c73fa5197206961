/* SPDX-License-Identifier: MIT */
/*
 * The parts of `berth bench claim` about more than one claim: several threads, and many buffers.
 */
#ifndef BERTH_TOOLS_BENCH_MANY_H
#define BERTH_TOOLS_BENCH_MANY_H

#include <stdbool.h>
#include <stdint.h>

#include "tools/bench_claim.h"

#define BERTH__MAX_CLAIMERS 8u

struct berth__many {
	const char *command; /* for complaints */
	uint64_t size, area, run, count, seed, claimers, bulk;
	int fill; /* enum berth__fill_kind */
	int kind; /* enum berth__area_kind */
	bool json;
	const char *mover;
};

/* --claimers: claims of so many threads against the same claims of one. An exit code. */
int berth__bench_claimers(const struct berth__many *config);
/* --bulk: so many buffers in one call, in as many calls, and in as many of the kernel's kind. */
int berth__bench_bulk(const struct berth__many *config);

#endif
