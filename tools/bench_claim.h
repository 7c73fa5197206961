/* SPDX-License-Identifier: MIT */
/*
 * What `berth bench claim` is asked for: its command line, as bench_claim_options.c reads it.
 */
#ifndef BERTH_TOOLS_BENCH_CLAIM_H
#define BERTH_TOOLS_BENCH_CLAIM_H

#include <stdbool.h>
#include <stdint.h>

#define BERTH__CLAIM_COMMAND "berth bench claim"
#define BERTH__CLAIM_MOST_PINS 1024u

enum berth__fill_kind {
	BERTH__FILL_EMPTY,
	BERTH__FILL_MOVABLE,
	BERTH__FILL_PINNED,
	BERTH__FILL_DISCARDABLE,
	BERTH__NR_FILLS
};
extern const char *const berth__fill_names[BERTH__NR_FILLS];
/* What claims find outside the area to move memory to. */
enum berth__destination {
	BERTH__DESTINATION_RESIDENT,
	BERTH__DESTINATION_FRESH,
	BERTH__DESTINATION_SCATTERED,
	BERTH__NR_DESTINATIONS
};
extern const char *const berth__destination_names[BERTH__NR_DESTINATIONS];
enum berth__area_kind { BERTH__AREA_CMA, BERTH__AREA_GCMA, BERTH__AREA_RESERVE, BERTH__NR_KINDS };
extern const char *const berth__kind_names[BERTH__NR_KINDS];

struct berth__claim_config {
	uint64_t size, area, run, count, writers, pin_every, seed, claimers, bulk, copiers;
	int fill;        /* enum berth__fill_kind, -1: not chosen */
	int kind;        /* enum berth__area_kind */
	int destination; /* enum berth__destination */
	bool first_fit, let_cpus_sleep, verify, json;
	const char *mover;
};

/* Takes the command line and completes the rest. -1: go on; otherwise the exit code. */
int berth__claim_options(int argc, char **argv, struct berth__claim_config *config);

#endif
