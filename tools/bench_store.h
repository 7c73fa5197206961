/* SPDX-License-Identifier: MIT */
/*
 * `berth bench store`: what its parts share.
 */
#ifndef BERTH_TOOLS_BENCH_STORE_H
#define BERTH_TOOLS_BENCH_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "tools/policies.h"

#define BERTH__STORE_COMMAND "berth bench store"

struct berth__store_config {
	uint64_t area_bytes, rounds, threads, seed, gets, nr_writers, nr_claimers;
	bool verify, json;
};

enum berth__store_work { BERTH__COPY_OUT, BERTH__GET, BERTH__COPY_IN, BERTH__PUT, BERTH__NR_WORKS };

/* ns an operation of one thread, medians over the rounds; percentiles over single operations, of one thread. */
struct berth__store_speed {
	double one[BERTH__NR_WORKS], many[BERTH__NR_WORKS];
	double p50[BERTH__NR_WORKS], p99[BERTH__NR_WORKS];
	double hits; /* share of the gets */
	uint64_t metadata_bytes, nr_pages;
};

/* 0, or the exit code. */
int berth__store_measure(const struct berth__store_config *config,
			 struct berth__store_speed *speed);

struct berth__store_rates {
	double store[BERTH__NR_TRACES], lru[BERTH__NR_TRACES], s3fifo[BERTH__NR_TRACES];
};

int berth__store_trace(const struct berth__store_config *config, struct berth__store_rates *rates);

#endif
